//! Who keeps a service connected to its Redis: which of its addresses is used, who may connect when, and who is told no.
//!
//! A connection to Redis is opened for each client and is its own; when Redis goes, all of them go, and all clients come
//! back at once. What stands between the crowd and a Redis that has just come back:
//!
//! ```text
//!  client ──► a place ([`Storm`]) ──► an address that is not down ([`Watch`]) ──► connect, TLS ──► greeting answered: place free
//!             waits its turn            waits for the next look at it               or the next address
//! ```
//!
//! All of it takes `upstream.connect_timeout` at most. Looks are taken by [`super::health`] alone, so a Redis that is down
//! gets one visitor at a time, whatever the number of clients.

use super::{
    upkeep::{Pace, Seen, State, Storm, Switch, Tuning, Watch},
    upstream::{ConnectError, Upstream, Way},
};
use crate::{
    config::settings::UpstreamAddress,
    net::{clock::Clock, resolve::Resolver, side::Upward},
};
use std::{
    collections::VecDeque,
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, IoSlice},
    os::fd::AsFd,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};

/// Most switches kept for the record until somebody writes them.
const SWITCHES_MAX: usize = 64;

/// One service's way to Redis, shared by all workers and by the looks at it. Nothing here is touched for a command.
#[derive(Debug)]
pub struct Keeper {
    addresses: Vec<UpstreamAddress>,
    resolvers: Vec<Resolver>,
    tuning: Tuning,
    storm: Storm,
    watch: Mutex<Watch>,
    pace: Mutex<Pace>,
    places: Arc<Semaphore>,
    waiting: AtomicU32,
    switched: Mutex<VecDeque<Switch>>,
    seen: [AtomicU64; Seen::ALL.len()],
    /// When the last look began that has ended; those who wait for one wait here.
    looks: watch::Sender<u64>,
    /// Something is due sooner than it was.
    kick: Notify,
    dice: RandomState,
    rolled: AtomicU64,
}

impl Keeper {
    /// Of these addresses, in their order; nothing is known of them.
    #[must_use]
    pub fn new(addresses: Vec<UpstreamAddress>, tuning: Tuning, storm: Storm) -> Self {
        Self {
            resolvers: addresses.iter().map(|_| Resolver::default()).collect(),
            watch: Mutex::new(Watch::new(addresses.len(), tuning)),
            pace: Mutex::new(Pace::new(storm.per_second)),
            places: Arc::new(Semaphore::new(usize::try_from(storm.at_once.max(1)).unwrap_or(Semaphore::MAX_PERMITS))),
            waiting: AtomicU32::new(0),
            switched: Mutex::new(VecDeque::new()),
            seen: std::array::from_fn(|_| AtomicU64::new(0)),
            looks: watch::Sender::new(0),
            kick: Notify::new(),
            dice: RandomState::new(),
            rolled: AtomicU64::new(0),
            addresses,
            tuning,
            storm,
        }
    }

    /// Whether a reload that says this changes nothing here: then what is known stays known.
    #[must_use]
    pub fn serves(&self, addresses: &[UpstreamAddress], tuning: Tuning, storm: Storm) -> bool {
        self.addresses == addresses && self.tuning == tuning && self.storm == storm
    }

    /// The addresses, in their order.
    #[must_use]
    pub fn addresses(&self) -> &[UpstreamAddress] {
        &self.addresses
    }

    /// How it is looked at.
    #[must_use]
    pub const fn tuning(&self) -> Tuning {
        self.tuning
    }

    /// What is known of the name at this place in the order.
    #[must_use]
    pub fn resolver(&self, at: usize) -> Option<&Resolver> {
        self.resolvers.get(at)
    }

    /// The place in the order of the address in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.watch().used()
    }

    /// How often another came into use.
    #[must_use]
    pub fn switches(&self) -> u64 {
        self.watch().switches()
    }

    /// How many looks found what.
    #[must_use]
    pub fn seen(&self) -> [(Seen, u64); Seen::ALL.len()] {
        let mut count = self.seen.iter().map(|count| count.load(Ordering::Relaxed));
        Seen::ALL.map(|seen| (seen, count.next().unwrap_or(0)))
    }

    /// How many wait for their turn, and how many are on their way.
    #[must_use]
    pub fn crowd(&self) -> (u64, u64) {
        let free = u32::try_from(self.places.available_permits()).unwrap_or(u32::MAX);
        (u64::from(self.waiting.load(Ordering::Relaxed)), u64::from(self.storm.at_once.max(1).saturating_sub(free)))
    }

    /// Whether the Redis in use is ready, or why not, in words that name no secret.
    ///
    /// # Errors
    ///
    /// The words.
    pub fn ready(&self) -> Result<(), String> {
        let watch = self.watch();
        let used = watch.used();
        let (Some(target), Some(address)) = (watch.targets().get(used), self.addresses.get(used)) else {
            return Ok(());
        };
        match target.state {
            State::Up => Ok(()),
            State::Half => Err(format!("{address} is there and not ready: {}", target.detail)),
            State::Down => Err(format!("{address} cannot be reached: {}", target.detail)),
        }
    }

    /// Those that are to be looked at now.
    #[must_use]
    pub fn due(&self, now_us: u64) -> Vec<usize> {
        self.watch().due(now_us)
    }

    /// When the next one is.
    #[must_use]
    pub fn next_due_us(&self) -> u64 {
        self.watch().next_due_us()
    }

    /// Something was changed that may have made one ready: those that are not are looked at now.
    pub fn hurry(&self) {
        self.watch().hurry();
        self.kick.notify_one();
    }

    /// By what word the one at this place could not be connected to.
    pub fn blame(&self, at: usize, reason: &'static str) {
        self.watch().blame(at, reason);
    }

    /// Waits until something is due sooner than it was.
    pub async fn kicked(&self) {
        self.kick.notified().await;
    }

    /// Switches that have happened and were not yet asked for.
    #[must_use]
    pub fn take_switches(&self) -> Vec<Switch> {
        self.switched.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    /// What a look found that began then. Those who wait for one are told.
    pub fn looked(&self, at: usize, seen: Seen, detail: &str, begun_us: u64, now_us: u64) {
        let index = Seen::ALL.iter().position(|each| *each == seen).unwrap_or_default();
        if let Some(count) = self.seen.get(index) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.observe(at, seen, detail, now_us);
        self.looks.send_modify(|last| *last = begun_us.max(*last));
    }

    fn observe(&self, at: usize, seen: Seen, detail: &str, now_us: u64) {
        let mut hasher = self.dice.build_hasher();
        hasher.write_u64(self.rolled.fetch_add(1, Ordering::Relaxed));
        let (switch, before, after) = {
            let mut watch = self.watch();
            let state = |watch: &Watch| watch.targets().get(at).map_or(State::Up, |target| target.state);
            let before = state(&watch);
            let switch = watch.observe(at, seen, detail, now_us, hasher.finish());
            (switch, before, state(&watch))
        };
        let address = self.addresses.get(at).map(ToString::to_string).unwrap_or_default();
        match (before, after) {
            (was, State::Up) if was != State::Up => tracing::info!(upstream = %address, "Redis is ready"),
            (was, State::Half) if was != State::Half => {
                tracing::warn!(upstream = %address, "Redis is there and not ready: {detail}");
            }
            (was, State::Down) if was != State::Down => {
                tracing::warn!(upstream = %address, "Redis is not reachable: {detail}");
            }
            _ => {}
        }
        if let Some(switch) = switch {
            let name = |at: usize| self.addresses.get(at).map(ToString::to_string).unwrap_or_default();
            tracing::warn!(from = %name(switch.from), to = %name(switch.to), "new connections go to another Redis");
            let mut switched = self.switched.lock().unwrap_or_else(PoisonError::into_inner);
            if switched.len() < SWITCHES_MAX {
                switched.push_back(switch);
            }
        }
        if after != before {
            self.kick.notify_one();
        }
    }

    /// Connects a client, by whichever address is to be used; `way` makes the way there.
    ///
    /// # Errors
    ///
    /// Why not: [`ConnectError::Busy`] if no turn came, [`ConnectError::Down`] if nobody was there at the last look, or what
    /// the last attempt failed with.
    pub async fn connect<'w>(
        &'w self,
        clock: &Clock,
        timeout: Duration,
        greeted: bool,
        way: impl Fn(&'w UpstreamAddress, &'w Resolver) -> Way<'w>,
    ) -> Result<Link, ConnectError> {
        let deadline = Instant::now() + timeout;
        let place = self.place(clock, timeout, deadline).await?;
        let mut tried = Vec::new();
        let mut last = None;
        loop {
            let at = match self.address(clock, &tried, last.take(), deadline).await {
                Ok(at) => at,
                Err(error) => return Err(error),
            };
            let (Some(address), Some(resolver)) = (self.addresses.get(at), self.resolvers.get(at)) else {
                return Err(self.down(0));
            };
            tried.push(at);
            let others = u32::try_from(self.addresses.len().saturating_sub(tried.len())).unwrap_or(0).saturating_add(1);
            let share = deadline.saturating_duration_since(Instant::now()) / others;
            // Whole milliseconds, for people read it.
            let share = Duration::from_millis(u64::try_from(share.as_millis()).unwrap_or(u64::MAX).max(1));
            match Upstream::connect(way(address, resolver), share).await {
                Ok(io) => {
                    self.watch().connected(at);
                    // Where nothing is asked of Redis first, nothing tells when it has got round to this one.
                    return Ok(Link { io, at, place: greeted.then_some(place) });
                }
                Err(error) => {
                    if let Some(seen) = blame(&error) {
                        self.watch().blame(at, error.word());
                        self.observe(at, seen, &error.to_string(), clock.now().mono_us);
                    }
                    let down = self.watch().targets().get(at).is_some_and(|target| target.state == State::Down);
                    if !down || self.watch().choose(&tried).is_none() {
                        return Err(error);
                    }
                    last = Some(error);
                }
            }
        }
    }

    /// A place among those on their way, when it is this one's turn.
    async fn place(
        &self,
        clock: &Clock,
        timeout: Duration,
        deadline: Instant,
    ) -> Result<OwnedSemaphorePermit, ConnectError> {
        let busy = || ConnectError::Busy { timeout };
        let places = Arc::clone(&self.places);
        let place = match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                if self.waiting.load(Ordering::Relaxed) >= self.storm.waiting {
                    return Err(busy());
                }
                let _waits = Waits::new(&self.waiting);
                match tokio::time::timeout_at(deadline, places.acquire_owned()).await {
                    Ok(Ok(place)) => place,
                    Ok(Err(_)) | Err(_) => return Err(busy()),
                }
            }
        };
        let now = clock.now().mono_us;
        let latest = now.saturating_add(super::clock::micros(deadline.saturating_duration_since(Instant::now())));
        let turn = self.pace.lock().unwrap_or_else(PoisonError::into_inner).reserve(now, latest);
        let at = turn.ok_or_else(busy)?;
        if at > now {
            let _waits = Waits::new(&self.waiting);
            tokio::time::sleep_until(clock.instant(at)).await;
        }
        Ok(place)
    }

    /// The address to try next; if all are down and none was tried, the next look is waited for.
    async fn address(
        &self,
        clock: &Clock,
        tried: &[usize],
        last: Option<ConnectError>,
        deadline: Instant,
    ) -> Result<usize, ConnectError> {
        let mut looks = self.looks.subscribe();
        looks.mark_unchanged();
        if let Some(at) = self.watch().choose(tried) {
            return Ok(at);
        }
        if let Some(last) = last {
            return Err(last);
        }
        let _waits = Waits::new(&self.waiting);
        // One look at each will do that began after this, but for those that are on their way up.
        let arrived = clock.now().mono_us;
        let mut left = self.addresses.len();
        while left > 0 && tokio::time::timeout_at(deadline, looks.changed()).await.is_ok() {
            let fresh = *looks.borrow_and_update() >= arrived;
            let watch = self.watch();
            if let Some(at) = watch.choose(tried) {
                return Ok(at);
            }
            if fresh && !watch.targets().iter().any(|target| target.seen == Seen::Well) {
                left = left.saturating_sub(1);
            }
        }
        Err(self.down(self.used()))
    }

    fn down(&self, at: usize) -> ConnectError {
        let watch = self.watch();
        let target = watch.targets().get(at);
        ConnectError::Down {
            reason: target.map_or("connect", |target| target.reason),
            detail: target.map(|target| target.detail.clone()).unwrap_or_default(),
        }
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that waits, counted for as long as it does.
struct Waits<'w>(&'w AtomicU32);

impl<'w> Waits<'w> {
    fn new(count: &'w AtomicU32) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a failed attempt says of the Redis there; nothing if it was our own want of descriptors, ports or memory.
#[must_use]
pub fn blame(error: &ConnectError) -> Option<Seen> {
    match error {
        ConnectError::Connect { source, .. } => {
            let ours = [errno::EMFILE, errno::ENFILE, errno::ENOBUFS, errno::ENOMEM, errno::EADDRNOTAVAIL];
            let code = source.raw_os_error();
            (!code.is_some_and(|code| ours.contains(&code))).then_some(Seen::Unreachable)
        }
        ConnectError::Timeout { .. } => Some(Seen::Silent),
        ConnectError::Tls { failure, .. } if failure.reason == "timeout" => Some(Seen::Silent),
        ConnectError::Resolve { .. }
        | ConnectError::NotASocket { .. }
        | ConnectError::Permission { .. }
        | ConnectError::Tls { .. }
        | ConnectError::PlainText { .. } => Some(Seen::Unreachable),
        ConnectError::Busy { .. } | ConnectError::Down { .. } => None,
    }
}

/// The errors that speak of ourselves, by the numbers of this system.
mod errno {
    use rustix::io::Errno;

    pub(super) const EMFILE: i32 = Errno::MFILE.raw_os_error();
    pub(super) const ENFILE: i32 = Errno::NFILE.raw_os_error();
    pub(super) const ENOBUFS: i32 = Errno::NOBUFS.raw_os_error();
    pub(super) const ENOMEM: i32 = Errno::NOMEM.raw_os_error();
    pub(super) const EADDRNOTAVAIL: i32 = Errno::ADDRNOTAVAIL.raw_os_error();
}

/// A client's connection to Redis, and its place among those on their way, until Redis has said something.
#[derive(Debug)]
pub struct Link {
    io: Upstream,
    at: usize,
    place: Option<OwnedSemaphorePermit>,
}

impl Link {
    /// The connection itself.
    #[must_use]
    pub const fn io(&self) -> &Upstream {
        &self.io
    }

    /// The place of its Redis in the order.
    #[must_use]
    pub const fn at(&self) -> usize {
        self.at
    }
}

impl AsyncRead for Link {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.io).poll_read(cx, into);
        if this.place.is_some() && read.is_ready() {
            this.place = None;
        }
        read
    }
}

impl AsyncWrite for Link {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

impl Upward for Link {
    fn in_doubt(&self) -> usize {
        self.io.in_doubt()
    }

    #[inline]
    fn socket(&self) -> Option<Arc<dyn AsFd>> {
        self.io.socket()
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
