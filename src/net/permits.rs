//! Caps on connections: in all, from one address to one service, of a role, of an identity in a role; how often an address
//! may come; and the places of handshakes.

use super::handshakes::Handshakes;
use crate::{
    config::settings::Limits,
    moment::Moment,
    policy::{arrivals::Arrivals, network::host, newcomers::Newcomers},
};
use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};
use tokio::sync::oneshot;

/// Whom a cap counts together: an IPv4 address, or the /64 an IPv6 address lies in (one host owns all of it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Origin {
    service: usize,
    network: IpAddr,
}

impl Origin {
    fn new(service: usize, address: IpAddr) -> Self {
        Self { service, network: host(address) }
    }
}

/// Why a permit was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// `limits.max_connections`.
    Total,
    /// `limits.max_connections_per_address`.
    Address,
    /// `role.limits.max_connections`.
    Role,
    /// `role.limits.max_connections_per_identity`.
    Identity,
}

impl Full {
    /// The stable word in records and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Total => "max-connections",
            Self::Address => "max-per-address",
            Self::Role => "max-per-role",
            Self::Identity => "max-per-identity",
        }
    }
}

/// The counts of one process.
#[derive(Debug)]
pub struct Permits {
    total_max: AtomicU32,
    total: AtomicU32,
    /// Entries are removed at zero, so the map is never larger than the number of open connections.
    origins: Mutex<HashMap<Origin, u32>>,
    /// Connections of roles, and of identities in them, by service; likewise.
    roles: Mutex<HashMap<Arc<RoleKey>, u32>>,
    /// Those that have not begun a handshake; whoever is removed by another has lost its place to it.
    newcomers: Mutex<Newcomers<oneshot::Sender<()>>>,
    accepts: Mutex<Arrivals>,
    handshake_rates: Mutex<Arrivals>,
    /// Handshakes that are under way.
    pub handshakes: Arc<Handshakes>,
}

/// Whose connections are counted: a role's in a service, or one identity's in it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct RoleKey {
    service: usize,
    role: Box<str>,
    identity: Option<Box<str>>,
}

/// The caps of a role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoleCaps {
    /// On all its connections to a service.
    pub connections: Option<NonZeroU32>,
    /// On those of one identity.
    pub per_identity: Option<NonZeroU32>,
}

impl Permits {
    /// Counts up to `total_max` connections.
    #[must_use]
    pub fn new(total_max: NonZeroU32) -> Arc<Self> {
        Arc::new(Self {
            total_max: AtomicU32::new(total_max.get()),
            total: AtomicU32::new(0),
            origins: Mutex::default(),
            roles: Mutex::default(),
            newcomers: Mutex::default(),
            accepts: Mutex::default(),
            handshake_rates: Mutex::default(),
            handshakes: Handshakes::new(NonZeroU32::MAX, 0),
        })
    }

    /// Counts as the limits say.
    #[must_use]
    pub fn under(limits: &Limits) -> Arc<Self> {
        let permits = Self::new(limits.max_connections);
        permits.configure(limits);
        permits
    }

    /// Takes over what a reload may change. Nobody is sent away who is in.
    pub fn configure(&self, limits: &Limits) {
        self.total_max.store(limits.max_connections.get(), Ordering::Relaxed);
        lock(&self.accepts).configure(limits.accepts_per_address);
        lock(&self.handshake_rates).configure(limits.handshakes_per_address);
        self.handshakes.configure(limits.handshakes, limits.handshake_queue);
    }

    /// Whether this address may connect once more now.
    #[must_use]
    pub fn may_accept(&self, address: IpAddr, now: Moment) -> bool {
        lock(&self.accepts).admit(address, now)
    }

    /// Whether it may begin a handshake once more now.
    #[must_use]
    pub fn may_shake(&self, address: IpAddr, now: Moment) -> bool {
        lock(&self.handshake_rates).admit(address, now)
    }

    /// A place for one connection, given back when the permit is dropped.
    ///
    /// # Errors
    ///
    /// [`Full`], and nothing is counted.
    pub fn take(
        self: &Arc<Self>,
        service: usize,
        address: IpAddr,
        per_address_max: Option<NonZeroU32>,
    ) -> Result<Permit, Full> {
        let mut permit = self.take_unnamed(address)?;
        permit.count(service, address, per_address_max)?;
        Ok(permit)
    }

    /// A place for one connection of which nobody has said yet where it comes from: [`Permit::count`] does. Until then it
    /// stands for the address of its proxy. At a full house a newcomer of an address that has more of them may give way.
    ///
    /// # Errors
    ///
    /// [`Full::Total`], and nothing is counted.
    pub fn take_unnamed(self: &Arc<Self>, address: IpAddr) -> Result<Permit, Full> {
        let most = self.total_max.load(Ordering::Relaxed);
        let raised = |held: u32| (held < most).then(|| held.saturating_add(1));
        let (tell, told) = oneshot::channel();
        let mut newcomers = lock(&self.newcomers);
        if self.total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raised).is_err() {
            // The place goes from one to the other, and the total stays what it is. Dropping what was left here tells.
            newcomers.oust_for(address).ok_or(Full::Total)?;
        }
        let number = newcomers.enter(address, tell);
        drop(newcomers);
        // From here on the total is given back by the permit, whichever way this ends.
        let newcomer = Some(Newcomer { address, number });
        Ok(Permit { permits: Arc::clone(self), origin: None, newcomer, told: Some(told), lost: false })
    }

    /// A place for one connection of a role, and of an identity in it, given back when it is dropped. Counted without a cap
    /// too, as addresses are.
    ///
    /// # Errors
    ///
    /// [`Full::Role`] or [`Full::Identity`], and nothing is counted.
    pub fn take_role(
        self: &Arc<Self>,
        service: usize,
        role: &str,
        identity: &str,
        caps: RoleCaps,
    ) -> Result<RolePermit, Full> {
        let mut taken = RolePermit { permits: Arc::clone(self), keys: [None, None] };
        let wanted = [(caps.connections, None, Full::Role), (caps.per_identity, Some(identity), Full::Identity)];
        for ((max, identity, full), place) in wanted.into_iter().zip(&mut taken.keys) {
            let key = RoleKey { service, role: role.into(), identity: identity.map(Into::into) };
            let mut roles = lock(&self.roles);
            // One key for all connections it counts.
            let (key, held) = match roles.get_key_value(&key) {
                Some((known, held)) => (Arc::clone(known), *held),
                None => (Arc::new(key), 0),
            };
            if max.is_some_and(|max| held >= max.get()) {
                drop(roles);
                return Err(full);
            }
            roles.insert(Arc::clone(&key), held.saturating_add(1));
            *place = Some(key);
        }
        Ok(taken)
    }

    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.total.load(Ordering::Relaxed)
    }
}

/// The right to one open connection.
#[derive(Debug)]
pub struct Permit {
    permits: Arc<Permits>,
    /// Where it is counted besides the total.
    origin: Option<Origin>,
    /// It has not begun a handshake.
    newcomer: Option<Newcomer>,
    told: Option<oneshot::Receiver<()>>,
    /// Its place is another's.
    lost: bool,
}

/// One of those who have not begun a handshake.
#[derive(Clone, Copy, Debug)]
struct Newcomer {
    address: IpAddr,
    number: u64,
}

impl Permit {
    /// Resolves if the place is lost to another connection before [`Permit::settle`]. To be asked for once.
    pub fn lost(&mut self) -> impl Future<Output = ()> + use<> {
        let told = self.told.take();
        async move {
            match told {
                // Nobody sends anything.
                Some(told) => drop(told.await),
                None => std::future::pending().await,
            }
        }
    }

    /// The handshake begins, and the place can be lost no more; false if it is.
    pub fn settle(&mut self) -> bool {
        if let Some(Newcomer { address, number }) = self.newcomer.take() {
            self.lost = lock(&self.permits.newcomers).leave(address, number).is_none();
        }
        !self.lost
    }

    /// Counts the connection for the address it comes from: at once, or when a proxy has said which that is. Without a cap
    /// too, for a reload may bring one.
    ///
    /// # Errors
    ///
    /// [`Full::Address`], and the connection is counted in the total alone.
    pub fn count(&mut self, service: usize, address: IpAddr, per_address_max: Option<NonZeroU32>) -> Result<(), Full> {
        self.forget();
        if let Some(newcomer) = self.newcomer.as_mut().filter(|newcomer| host(newcomer.address) != host(address)) {
            let mut newcomers = lock(&self.permits.newcomers);
            // One that has given way meanwhile will be told.
            if let Some(tell) = newcomers.leave(newcomer.address, newcomer.number) {
                *newcomer = Newcomer { address, number: newcomers.enter(address, tell) };
            }
        }
        let origin = Origin::new(service, address);
        let mut origins = lock(&self.permits.origins);
        let held = origins.get(&origin).copied().unwrap_or(0);
        if per_address_max.is_some_and(|max| held >= max.get()) {
            return Err(Full::Address);
        }
        origins.insert(origin, held.saturating_add(1));
        self.origin = Some(origin);
        Ok(())
    }

    /// Counts it for no address any more.
    fn forget(&mut self) {
        if let Some(origin) = self.origin.take() {
            let mut origins = lock(&self.permits.origins);
            if let Some(held) = origins.get_mut(&origin) {
                *held = held.saturating_sub(1);
                if *held == 0 {
                    origins.remove(&origin);
                }
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.settle() {
            self.permits.total.fetch_sub(1, Ordering::Relaxed);
        }
        self.forget();
    }
}

/// The right to one open connection of a role, and of an identity in it.
#[derive(Debug)]
pub struct RolePermit {
    permits: Arc<Permits>,
    keys: [Option<Arc<RoleKey>>; 2],
}

impl Drop for RolePermit {
    fn drop(&mut self) {
        for key in self.keys.iter_mut().filter_map(Option::take) {
            let mut roles = lock(&self.permits.roles);
            if let Some(held) = roles.get_mut(&key) {
                *held = held.saturating_sub(1);
                if *held == 0 {
                    roles.remove(&key);
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{Full, Permits, RoleCaps};
    use std::{net::IpAddr, num::NonZeroU32};

    fn max(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_total_is_held_and_given_back() {
        let permits = Permits::new(max(2));
        let first = permits.take(0, ip("10.0.0.1"), None).unwrap();
        let _second = permits.take(0, ip("10.0.0.2"), None).unwrap();
        assert_eq!(permits.take(0, ip("10.0.0.3"), None).unwrap_err(), Full::Total);
        drop(first);
        assert_eq!(permits.open(), 1);
        permits.take(0, ip("10.0.0.3"), None).unwrap();
    }

    #[test]
    fn a_newcomer_loses_its_place_to_one_of_an_address_with_fewer_until_it_settles() {
        let permits = Permits::new(max(3));
        let take = |address| permits.take(0, ip(address), None);
        let mut flood: Vec<_> = (0..3).map(|_| take("10.0.0.1").unwrap()).collect();
        assert_eq!(take("10.0.0.1").unwrap_err(), Full::Total);
        assert!(flood[1].settle(), "it is on its way in");
        let mut good = take("10.0.0.2").unwrap();
        assert_eq!(permits.open(), 3, "a place that goes from one to the other");
        assert!(good.settle());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(flood[0].lost());
        assert!(!flood[0].settle(), "the oldest, and too late");
        assert_eq!(take("10.0.0.3").unwrap_err(), Full::Total, "one that stands alone stays");
        drop(flood.remove(0));
        assert_eq!(permits.open(), 3, "what was lost is not given back");
        drop((flood, good));
        assert_eq!(permits.open(), 0);
        assert!(permits.origins.lock().unwrap().is_empty());
    }

    #[test]
    fn an_address_is_held_apart_per_service_and_given_back() {
        let permits = Permits::new(max(10));
        let first = permits.take(0, ip("10.0.0.1"), Some(max(1))).unwrap();
        assert_eq!(permits.take(0, ip("10.0.0.1"), Some(max(1))).unwrap_err(), Full::Address);
        assert_eq!(permits.take(0, ip("::ffff:10.0.0.1"), Some(max(1))).unwrap_err(), Full::Address);
        assert_eq!(permits.open(), 1, "a refusal counts nothing");
        let _other_service = permits.take(1, ip("10.0.0.1"), Some(max(1))).unwrap();
        drop(first);
        let _again = permits.take(0, ip("10.0.0.1"), Some(max(1))).unwrap();
        assert_eq!(permits.open(), 2);
        drop((_again, _other_service));
        assert!(permits.origins.lock().unwrap().is_empty(), "nothing is remembered of who is gone");
    }

    #[test]
    fn a_role_is_held_apart_per_service_and_given_back() {
        let permits = Permits::new(max(10));
        let take = |service, role, most| {
            permits.take_role(service, role, "x", RoleCaps { connections: Some(max(most)), per_identity: None })
        };
        let first = take(0, "app", 1).unwrap();
        assert_eq!(take(0, "app", 1).unwrap_err(), Full::Role);
        let _others = (take(1, "app", 1).unwrap(), take(0, "b", 1).unwrap());
        // A reload that lowers the cap counts whom it finds; one that raises it lets more in.
        let second = take(0, "app", 2).unwrap();
        drop(first);
        assert_eq!(take(0, "app", 1).unwrap_err(), Full::Role);
        drop(second);
        drop(take(0, "app", 1).unwrap());
        drop(_others);
        assert!(permits.roles.lock().unwrap().is_empty(), "nothing is remembered of who is gone");
    }

    #[test]
    fn an_identity_is_held_apart_per_role_and_given_back() {
        let permits = Permits::new(max(10));
        let caps = RoleCaps { connections: Some(max(3)), per_identity: Some(max(1)) };
        let first = permits.take_role(0, "app", "one", caps).unwrap();
        assert_eq!(permits.take_role(0, "app", "one", caps).unwrap_err(), Full::Identity);
        // What was refused has taken nothing of the role's.
        let _others =
            (permits.take_role(0, "app", "two", caps).unwrap(), permits.take_role(0, "app", "3", caps).unwrap());
        assert_eq!(permits.take_role(0, "app", "4", caps).unwrap_err(), Full::Role);
        drop(permits.take_role(0, "other", "one", caps).unwrap());
        drop(first);
        drop(permits.take_role(0, "app", "one", caps).unwrap());
        drop(_others);
        assert!(permits.roles.lock().unwrap().is_empty(), "nothing is remembered of who is gone");
    }

    #[test]
    fn an_address_that_a_proxy_names_is_counted_when_it_is_known() {
        let permits = Permits::new(max(10));
        let mut one = permits.take_unnamed(ip("10.9.9.9")).unwrap();
        let mut two = permits.take_unnamed(ip("10.9.9.9")).unwrap();
        assert!(permits.origins.lock().unwrap().is_empty(), "the proxy is nobody's address");
        one.count(0, ip("10.0.0.1"), Some(max(1))).unwrap();
        assert_eq!(two.count(0, ip("10.0.0.1"), Some(max(1))), Err(Full::Address));
        drop(two);
        assert_eq!(permits.origins.lock().unwrap().len(), 1, "who was refused was not counted");
        drop(one);
        assert!(permits.origins.lock().unwrap().is_empty());
    }

    #[test]
    fn an_ipv6_network_of_64_bits_is_one_address() {
        let permits = Permits::new(max(10));
        let _first = permits.take(0, ip("fd00::1"), Some(max(1))).unwrap();
        assert_eq!(permits.take(0, ip("fd00::2"), Some(max(1))).unwrap_err(), Full::Address);
        permits.take(0, ip("fd00:0:0:1::2"), Some(max(1))).unwrap();
    }
}
