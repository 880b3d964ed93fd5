//! Where the audit stream is written: one thread for each output, whole lines in the stream's order.
//!
//! Every pen (one per worker, one for what happens besides) has a [`SinkPort`]. A port never blocks and never drops:
//! what it is given is copied behind what the others gave, and how much that may be is bounded by the pens, which
//! stop the reading of commands while [`Recorder::has_room`](super::record::Recorder::has_room) is false. The thread takes
//! everything that has gathered, so blocks grow with the load: a line that comes alone is written at once, and behind
//! a small block lines gather for a millisecond, or up to 64 KiB, unless a command waits for its line. It is woken only when
//! idle, when so much has gathered, or when a file's time is over. A large block is written to a file in parts of 256 KiB, so
//! that pens which were full go on after the first of them.
//!
//! What happens when the output fails:
//!
//! | cause | what the sink does |
//! |---|---|
//! | `EINTR` | writes again |
//! | a pipe that is full, a receiver that does not read | waits until it is read; after a second it counts as failing |
//! | `ENOSPC`, `EIO`, `EPIPE`, anything else of a file | keeps the bytes and tries again, after 10 ms, then twice as long each time up to 1 s |
//! | a connection that is lost, or cannot be made | the same, over a new connection, from the beginning of the line it was in |
//! | a write of a part | goes on behind it |
//! | fsync(2), where nothing counts before it | cuts off what was not synchronised, and writes it again |
//! | a rotation | goes on in the old file, and tries again after 10 s |
//!
//! While it fails, [`SinkMonitor::failing`] says why, the log has said it once, and the pens fill up: commands wait.
//! Nothing that was handed over is dropped here, and nothing is written twice to a file; only [`SinkHandle::reopen`] in the
//! middle of a line that cannot be finished starts that line anew in the new file (and all that was not yet synchronised,
//! where that is waited for). What a kernel had taken for a receiver that is gone is lost. All of this is in
//! `deploy/docs/audit.md`. Tests: `tests/audit_sink.rs`, `tests/audit_rotation.rs`, `tests/audit_receivers.rs`,
//! `tests/audit_kinds.rs`, and those of the modules.

mod clock;
mod file;
mod output;
mod port;
pub mod proof;
mod queue;
mod rfc5424;
mod rotate;
mod stream;
mod syslog;
pub mod tap;
mod writer;

#[cfg(test)]
mod tests;

pub use super::target::Target;
pub use port::{Ports, SinkPort};

use super::outlet::{OnFull, Plan};
use file::LogFile;
use output::Output;
use proof::{Checkpoints, Proof};
use queue::{Shared, lock};
use std::{
    io,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};
use stream::Stream;
use syslog::Syslog;
use tap::Tap;
use writer::Writer;

/// The audit sink. Made by [`Sink::open`].
#[derive(Debug)]
pub struct Sink;

/// The sink as the process owns it: to reopen, to watch, to close.
#[derive(Debug)]
pub struct SinkHandle {
    shared: Arc<Shared>,
    target: Target,
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

impl Sink {
    /// Opens `target` and starts the thread; one port for each of `ports` pens.
    ///
    /// # Errors
    /// The file cannot be opened for appending, is a pipe that nobody reads, or the thread cannot be started: all of
    /// them reasons not to start.
    pub fn open(target: Target, ports: usize) -> io::Result<(SinkHandle, Vec<SinkPort>)> {
        Self::open_as(&Plan::default(), target, None, ports)
    }

    /// The same for an output of this plan, with checkpoints. Ports are numbered as the pens are.
    ///
    /// # Errors
    /// As [`Self::open`]; or what the file holds already cannot be read, so that its chain cannot be taken up.
    pub fn open_as(
        plan: &Plan,
        target: Target,
        checkpoints: Option<&Checkpoints>,
        ports: usize,
    ) -> io::Result<(SinkHandle, Vec<SinkPort>)> {
        let output = open(&target)?;
        let path = match &target {
            Target::File(place) => Some(place.path.as_path()),
            Target::Stdout | Target::Socket(_) | Target::Syslog(_) => None,
        };
        let proof = checkpoints.map(|wish| Proof::begin(&plan.name, wish, path)).transpose()?;
        let progress = proof.as_ref().map(Proof::progress);
        let shared = Arc::new(Shared { proof: progress, ..Shared::new(plan, ports) });
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("audit-sink".into()).spawn(move || Writer::new(theirs, output, proof).run())?;
        let ports =
            (0..ports).map(|index| SinkPort { shared: Arc::clone(&shared), index, spent: Mutex::default() }).collect();
        Ok((SinkHandle { shared, target }, ports))
    }
}

/// Files are opened here, so that an error is one of the start; a receiver may come later.
fn open(target: &Target) -> io::Result<Output> {
    Ok(match target {
        Target::Stdout => Output::File(LogFile::new(file::stdout()?, None)),
        Target::File(place) => Output::File(LogFile::new(file::open(&place.path, place.mode)?, Some(place))),
        Target::Socket(socket) => Output::Socket(Stream::new(socket.address.clone())),
        Target::Syslog(syslog) => Output::Syslog(Syslog::new(syslog)),
    })
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
        outputs: impl Iterator<Item = (&'p Plan, Target, Option<&'p Checkpoints>)>,
        pens: usize,
    ) -> Result<(Self, Vec<Ports>), (usize, io::Error)> {
        let mut handles = Vec::new();
        let mut ports: Vec<Vec<SinkPort>> = std::iter::repeat_with(Vec::new).take(pens).collect();
        for (at, (plan, target, checkpoints)) in outputs.enumerate() {
            let (handle, opened) = Sink::open_as(plan, target, checkpoints, pens).map_err(|error| (at, error))?;
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

impl SinkHandle {
    /// A look at the sink from elsewhere.
    #[must_use]
    pub fn monitor(&self) -> SinkMonitor {
        SinkMonitor { shared: Arc::clone(&self.shared) }
    }

    /// Opens the file anew, as after a rotation that moved it: what was handed over before goes to the old file, what
    /// comes after to the new one. The other kinds stay as they are.
    ///
    /// # Errors
    /// The file cannot be opened; the old one stays in use.
    pub fn reopen(&self) -> io::Result<()> {
        if let Target::File(place) = &self.target {
            let file = file::open(&place.path, place.mode)?;
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

    /// Where its lines can be looked at as they are written.
    #[must_use]
    pub fn tap(&self) -> Arc<Tap> {
        Arc::clone(&self.shared.tap)
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

    /// The last checkpoint's number, and when it was written in microseconds since 1970; none for an output without.
    #[must_use]
    pub fn checkpoint(&self) -> Option<(u64, u64)> {
        self.shared.proof.as_ref().map(|progress| progress.last().unwrap_or_default())
    }

    /// The last failure that is over, once: for a `sink_recovered` record.
    #[must_use]
    pub fn take_recovery(&self) -> Option<Recovery> {
        lock(&self.shared.health).recovery.take()
    }
}
