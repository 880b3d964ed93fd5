//! Where the audit stream is written: one thread, one file or standard output, whole lines in the stream's order.
//!
//! Every pen (one per worker, one for what happens besides) has a [`SinkPort`]. A port never blocks and never drops:
//! what it is given is copied behind what the others gave, and how much that may be is bounded by the pens, which
//! stop the reading of commands while [`Recorder::has_room`] is false. The thread takes everything that has gathered
//! whenever a write ends, so blocks grow with the load and no timer holds a line back; it is woken only when idle.
//!
//! What happens when the output fails:
//!
//! | cause | what the sink does |
//! |---|---|
//! | `EINTR` | writes again |
//! | a pipe that is full | waits until it is read; after a second it counts as failing |
//! | `ENOSPC`, `EIO`, `EPIPE`, anything else | keeps the bytes and tries again, after 10 ms, then twice as long each time up to 1 s |
//! | a write of a part | goes on behind it |
//!
//! While it fails, [`SinkMonitor::failing`] says why, the log has said it once, and the pens fill up: commands wait.
//! Nothing is dropped and nothing is written twice; only [`SinkHandle::reopen`] in the middle of a line that cannot be
//! finished starts that line anew in the new file. Tests: below and `tests/audit_sink.rs`.

pub mod proof;
mod writer;

use super::{
    outlet::{OnFull, Outlet, Plan},
    record::Recorder,
};
use rustix::fs::{FileType, OFlags, fstat};
use std::{
    fs::{File, OpenOptions},
    io,
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    thread,
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use writer::Writer;

/// A buffer larger than this is given back to the system after a burst.
const KEEP_MAX: usize = 4 * 1024 * 1024;

/// Where the stream goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file, appended to; made with mode 0600 if it is not there.
    File(PathBuf),
}

/// The audit sink. Made by [`Sink::open`].
#[derive(Debug)]
pub struct Sink;

/// The sink as the process owns it: to reopen, to watch, to close.
#[derive(Debug)]
pub struct SinkHandle {
    shared: Arc<Shared>,
    target: Target,
}

/// One pen's way into the sink.
#[derive(Debug)]
pub struct SinkPort {
    shared: Arc<Shared>,
    index: usize,
    /// The buffer of the last block, empty again.
    spent: Mutex<Vec<u8>>,
}

/// A look at the sink from elsewhere (readiness, metrics).
#[derive(Clone, Debug)]
pub struct SinkMonitor {
    shared: Arc<Shared>,
}

/// A time of failure that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// What it failed with.
    pub reason: String,
    /// How long the sink has waited, at least, in microseconds.
    pub us: u64,
}

#[derive(Debug)]
struct Shared {
    name: String,
    on_full: OnFull,
    queue: Mutex<Queue>,
    /// Wakes the thread: it is idle or waits to try again.
    work: Condvar,
    /// Wakes [`SinkHandle::flush_and_close`].
    closed: Condvar,
    ports: Box<[PortState]>,
    submitted: AtomicU64,
    written: AtomicU64,
    health: Mutex<Health>,
}

/// What the ports have given and the thread has not taken.
#[derive(Debug, Default)]
struct Queue {
    pending: Batch,
    /// The thread waits for work.
    idle: bool,
    /// A file to go over to once what is taken is written.
    next: Option<File>,
    closing: bool,
    closed: bool,
}

/// Bytes of several ports in the stream's order. The lengths in `runs` add up to `bytes.len()`.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    runs: Vec<(usize, usize)>,
}

#[derive(Debug, Default)]
struct PortState {
    written: AtomicU64,
    /// Somebody waits for `written` to advance.
    awaited: AtomicBool,
    advanced: Notify,
}

#[derive(Debug, Default)]
struct Health {
    failing: Option<String>,
    waited_us: u64,
    recovery: Option<Recovery>,
}

impl Sink {
    /// Opens `target` and starts the thread; one port for each of `ports` pens.
    ///
    /// # Errors
    /// The file cannot be opened for appending, is a pipe that nobody reads, or the thread cannot be started: all of
    /// them reasons not to start.
    pub fn open(target: Target, ports: usize) -> io::Result<(SinkHandle, Vec<SinkPort>)> {
        Self::open_as(&Plan::default(), target, ports)
    }

    fn open_as(plan: &Plan, target: Target, ports: usize) -> io::Result<(SinkHandle, Vec<SinkPort>)> {
        let output = open(&target)?;
        let shared = Arc::new(Shared {
            name: plan.name.to_string(),
            on_full: plan.on_full,
            queue: Mutex::default(),
            work: Condvar::new(),
            closed: Condvar::new(),
            ports: (0..ports).map(|_| PortState::default()).collect(),
            submitted: AtomicU64::new(0),
            written: AtomicU64::new(0),
            health: Mutex::default(),
        });
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("audit-sink".into()).spawn(move || Writer { shared: theirs, output }.run())?;
        let ports =
            (0..ports).map(|index| SinkPort { shared: Arc::clone(&shared), index, spent: Mutex::default() }).collect();
        Ok((SinkHandle { shared, target }, ports))
    }
}

/// Pipes are opened without blocking, so that the thread can say that nobody reads, and can be told to close.
fn open(target: &Target) -> io::Result<File> {
    match target {
        Target::File(path) => open_file(path),
        Target::Stdout => {
            let stdout = io::stdout();
            let fd = stdout.as_fd();
            let kind = FileType::from_raw_mode(fstat(fd)?.st_mode);
            // A second opening has flags of its own: the terminal or pipe shared with others stays as it is. A
            // regular file would lose its position that way, and a socket cannot be opened; those are duplicated.
            if matches!(kind, FileType::Fifo | FileType::CharacterDevice)
                && let Ok(file) = open_file(Path::new("/proc/self/fd/1"))
            {
                return Ok(file);
            }
            Ok(File::from(fd.try_clone_to_owned()?))
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path)
}

impl SinkPort {
    /// Hands a block of whole lines over. Never blocks on the output and never drops.
    pub fn submit(&self, mut block: Vec<u8>) {
        if block.is_empty() {
            return;
        }
        let idle = {
            let mut queue = lock(&self.shared.queue);
            self.shared.submitted.fetch_add(block.len() as u64, Ordering::Relaxed);
            queue.pending.push(self.index, &mut block);
            std::mem::take(&mut queue.idle)
        };
        if idle {
            // After the lock is let go, or the thread would wake up only to wait for it.
            self.shared.work.notify_one();
        }
        block.clear();
        if block.capacity() <= KEEP_MAX {
            *lock(&self.spent) = block;
        }
    }

    /// The buffer of the last block, empty, to render into again.
    #[must_use]
    pub fn recycled(&self) -> Option<Vec<u8>> {
        let spent = std::mem::take(&mut *lock(&self.spent));
        (spent.capacity() > 0).then_some(spent)
    }

    /// How many bytes of this port have been written since the start.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.state().map_or(0, |state| state.written.load(Ordering::Acquire))
    }

    /// Hands over what was rendered, gives the buffer back and tells what has been written.
    pub fn exchange(&self, outlet: &mut Outlet) {
        if outlet.has_rendered() {
            self.submit(outlet.take());
            if let Some(spent) = self.recycled() {
                outlet.recycle(spent);
            }
        }
        outlet.set_written(self.written());
    }

    /// Waits until more than `seen` bytes of this port have been written, and returns how many. Any number of tasks
    /// may wait; the thread spends a wake-up only when one does. May be dropped at any time.
    pub async fn notified(&self, seen: u64) -> u64 {
        let Some(state) = self.state() else { return 0 };
        loop {
            let mut advanced = std::pin::pin!(state.advanced.notified());
            // In this order: listed as waiting, then marked, then looked. The thread stores, then looks at the mark:
            // one of the two sees the other.
            advanced.as_mut().enable();
            state.awaited.store(true, Ordering::SeqCst);
            let written = state.written.load(Ordering::SeqCst);
            if written > seen {
                return written;
            }
            advanced.await;
        }
    }

    fn state(&self) -> Option<&PortState> {
        self.shared.ports.get(self.index)
    }
}

/// All sinks of the stream, in the order of the configuration.
#[derive(Debug)]
pub struct Sinks(Vec<SinkHandle>);

impl Sinks {
    /// Opens every output, and gives each of `pens` pens its ways in.
    ///
    /// # Errors
    /// One of them cannot be opened ([`Sink::open`]): its place in the order, and why.
    pub fn open<'p>(
        outputs: impl Iterator<Item = (&'p Plan, Target)>,
        pens: usize,
    ) -> Result<(Self, Vec<Ports>), (usize, io::Error)> {
        let mut handles = Vec::new();
        let mut ports: Vec<Vec<SinkPort>> = std::iter::repeat_with(Vec::new).take(pens).collect();
        for (at, (plan, target)) in outputs.enumerate() {
            let (handle, opened) = Sink::open_as(plan, target, pens).map_err(|error| (at, error))?;
            handles.push(handle);
            for (of_pen, port) in ports.iter_mut().zip(opened) {
                of_pen.push(port);
            }
        }
        Ok((Self(handles), ports.into_iter().map(Ports::new).collect()))
    }

    /// A look at each from elsewhere.
    #[must_use]
    pub fn monitors(&self) -> Vec<SinkMonitor> {
        self.0.iter().map(SinkHandle::monitor).collect()
    }

    /// Opens all files anew ([`SinkHandle::reopen`]).
    ///
    /// # Errors
    /// The name of the first output whose file cannot be opened, which stays with its old one as the others do not.
    pub fn reopen(&self) -> Result<(), (&str, io::Error)> {
        let mut first = Ok(());
        for handle in &self.0 {
            if let Err(error) = handle.reopen() {
                first = first.and(Err((handle.shared.name.as_str(), error)));
            }
        }
        first
    }

    /// Closes all of them, each as [`SinkHandle::flush_and_close`], within this time together.
    ///
    /// # Errors
    /// The bytes that are lost where commands waited for their records; what may be dropped is no loss.
    #[expect(
        clippy::disallowed_methods,
        reason = "the process ends: there are no turns any more whose moment could be handed in"
    )]
    pub fn flush_and_close(&self, within: Duration) -> Result<(), u64> {
        let until = Instant::now() + within;
        let mut lost = 0_u64;
        for handle in &self.0 {
            handle.begin_to_close();
        }
        for handle in &self.0 {
            let left = until.saturating_duration_since(Instant::now());
            if let Err(bytes) = handle.flush_and_close(left) {
                match handle.shared.on_full {
                    OnFull::Stall => lost = lost.saturating_add(bytes),
                    OnFull::Drop => tracing::warn!(output = %handle.shared.name, bytes, "records were not written"),
                }
            }
        }
        if lost == 0 { Ok(()) } else { Err(lost) }
    }
}

/// One pen's ways into all sinks, in the order of its outlets.
#[derive(Debug)]
pub struct Ports(Box<[SinkPort]>);

impl Ports {
    /// These.
    #[must_use]
    pub fn new(ports: impl IntoIterator<Item = SinkPort>) -> Self {
        Self(ports.into_iter().collect())
    }

    /// All that is to be done at the end of a turn: hands over what was rendered and tells the pen what has been
    /// written. True if that was more than it knew.
    pub fn exchange(&self, pen: &mut Recorder) -> bool {
        let mut advanced = false;
        for (port, outlet) in self.0.iter().zip(pen.outlets()) {
            let before = outlet.written();
            port.exchange(outlet);
            advanced |= outlet.written() != before;
        }
        advanced
    }

    /// Tells the pen what has been written. True if that was more than it knew.
    pub fn tell(&self, pen: &mut Recorder) -> bool {
        let mut advanced = false;
        for (port, outlet) in self.0.iter().zip(pen.outlets()) {
            let before = outlet.written();
            outlet.set_written(port.written());
            advanced |= outlet.written() != before;
        }
        advanced
    }

    /// Waits until one of the sinks has written more than `seen` says of it (see [`Recorder::written`]). May be dropped at
    /// any time.
    pub async fn notified(&self, seen: &[u64]) {
        let each = self.0.iter().zip(seen).map(|(port, seen)| port.notified(*seen));
        let mut waits: Vec<_> = each.map(Box::pin).collect();
        std::future::poll_fn(|cx| {
            if waits.iter_mut().any(|wait| wait.as_mut().poll(cx).is_ready()) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl SinkHandle {
    /// A look at the sink from elsewhere.
    #[must_use]
    pub fn monitor(&self) -> SinkMonitor {
        SinkMonitor { shared: Arc::clone(&self.shared) }
    }

    /// Opens the file anew, as after a rotation that moved it: what was handed over before goes to the old file, what
    /// comes after to the new one. Standard output stays as it is.
    ///
    /// # Errors
    /// The file cannot be opened; the old one stays in use.
    pub fn reopen(&self) -> io::Result<()> {
        if let Target::File(path) = &self.target {
            let file = open_file(path)?;
            lock(&self.shared.queue).next = Some(file);
            self.shared.work.notify_one();
        }
        Ok(())
    }

    /// Tells the thread to end once all is written.
    fn begin_to_close(&self) {
        lock(&self.shared.queue).closing = true;
        self.shared.work.notify_one();
    }

    /// Waits until all that was handed over is written and, for a file, is on the disk; then the thread ends. Blocks
    /// its caller; the ports are of no use afterwards.
    ///
    /// # Errors
    /// `within` has passed before that; the value is the number of bytes that are lost if the process ends now.
    pub fn flush_and_close(&self, within: Duration) -> Result<(), u64> {
        self.begin_to_close();
        let queue = lock(&self.shared.queue);
        let wait = self.shared.closed.wait_timeout_while(queue, within, |queue| !queue.closed);
        let (queue, _) = wait.unwrap_or_else(PoisonError::into_inner);
        if queue.closed { Ok(()) } else { Err(self.shared.queue_bytes()) }
    }
}

impl SinkMonitor {
    /// The output's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// What becomes of records that there is no room for.
    #[must_use]
    pub fn on_full(&self) -> OnFull {
        self.shared.on_full
    }

    /// Why the sink fails now, if it does.
    #[must_use]
    pub fn failing(&self) -> Option<String> {
        lock(&self.shared.health).failing.clone()
    }

    /// Bytes handed over and not yet written.
    #[must_use]
    pub fn queue_bytes(&self) -> u64 {
        self.shared.queue_bytes()
    }

    /// Bytes written since the start.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }

    /// The last failure that is over, once: for a `sink_recovered` record.
    #[must_use]
    pub fn take_recovery(&self) -> Option<Recovery> {
        lock(&self.shared.health).recovery.take()
    }
}

impl Shared {
    fn queue_bytes(&self) -> u64 {
        // In this order, so that what is written in between cannot make the difference negative.
        let written = self.written.load(Ordering::Acquire);
        self.submitted.load(Ordering::Acquire).saturating_sub(written)
    }
}

impl Batch {
    /// Takes the block's bytes; what is left in it is to be cleared.
    fn push(&mut self, port: usize, block: &mut Vec<u8>) {
        let added = block.len();
        if self.bytes.is_empty() {
            // The usual case: the thread has taken all there was, so nothing is copied.
            std::mem::swap(&mut self.bytes, block);
        } else {
            self.bytes.extend_from_slice(block);
        }
        match self.runs.last_mut() {
            Some((last, length)) if *last == port => *length = length.saturating_add(added),
            _ => self.runs.push((port, added)),
        }
    }

    fn clear(&mut self) {
        if self.bytes.capacity() > KEEP_MAX {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
        self.runs.clear();
    }
}

/// A panic while a lock was held leaves nothing half done here: every critical section is a few assignments.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
