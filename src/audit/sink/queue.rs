//! What the ports share with the thread.

use super::{Recovery, proof::Progress, tap::Tap};
use crate::audit::{
    counters::Mark,
    outlet::{OnFull, Plan},
};
use std::{
    fs::File,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tokio::sync::Notify;

/// A buffer larger than this is given back to the system after a burst.
pub(super) const KEEP_MAX: usize = 4 * 1024 * 1024;
/// Blocks of one port are one run as long as they are not longer together.
const RUN_MAX: usize = 64 * 1024;

/// What is worth a write at any time: more gains little, and would leave the processor's caches before it is written.
pub(super) const GATHERED_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) on_full: OnFull,
    pub(super) queue: Mutex<Queue>,
    /// Wakes the thread: it is idle or waits to try again.
    pub(super) work: Condvar,
    /// Wakes [`SinkHandle::flush_and_close`].
    pub(super) closed: Condvar,
    pub(super) ports: Box<[PortState]>,
    pub(super) submitted: AtomicU64,
    pub(super) written: AtomicU64,
    pub(super) health: Mutex<Health>,
    /// The last checkpoint, for an output that has them.
    pub(super) proof: Option<Arc<Progress>>,
    /// Whoever looks on.
    pub(super) tap: Arc<Tap>,
}

/// What the ports have given and the thread has not taken.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) pending: Batch,
    /// The thread waits for work.
    pub(super) idle: bool,
    /// The thread lets lines gather, until there are [`GATHERED_BYTES`].
    pub(super) gathering: bool,
    /// A file to go over to once what is taken is written.
    pub(super) next: Option<File>,
    pub(super) closing: bool,
    pub(super) closed: bool,
}

/// Bytes of several ports in the stream's order. The lengths in `runs` add up to `bytes.len()`.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) runs: Vec<Run>,
}

/// Whole lines of one port that stand together. A file ends between two runs, so that [`Run::mark`] is known there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) port: usize,
    pub(super) length: usize,
    /// Where the port's pen stands behind it.
    pub(super) mark: Mark,
}

#[derive(Debug, Default)]
pub(super) struct PortState {
    pub(super) written: AtomicU64,
    /// Somebody waits for `written` to advance.
    pub(super) awaited: AtomicBool,
    pub(super) advanced: Notify,
}

#[derive(Debug, Default)]
pub(super) struct Health {
    pub(super) failing: Option<String>,
    pub(super) waited_us: u64,
    pub(super) recovery: Option<Recovery>,
}

impl Shared {
    pub(super) fn new(plan: &Plan, ports: usize) -> Self {
        Self {
            name: plan.name.to_string(),
            on_full: plan.on_full,
            queue: Mutex::default(),
            work: Condvar::new(),
            closed: Condvar::new(),
            ports: (0..ports).map(|_| PortState::default()).collect(),
            submitted: AtomicU64::new(0),
            written: AtomicU64::new(0),
            health: Mutex::default(),
            proof: None,
            tap: Tap::new(&plan.name),
        }
    }

    pub(super) fn queue_bytes(&self) -> u64 {
        // In this order, so that what is written in between cannot make the difference negative.
        let written = self.written.load(Ordering::Acquire);
        self.submitted.load(Ordering::Acquire).saturating_sub(written)
    }
}

impl Queue {
    /// Whether the thread is to be woken for what is there; it is told once.
    pub(super) fn calls(&mut self) -> bool {
        let enough = self.gathering && self.pending.bytes.len() >= GATHERED_BYTES;
        self.gathering &= !enough;
        std::mem::take(&mut self.idle) || enough
    }
}

impl Batch {
    /// Takes the block's bytes; what is left in it is to be cleared.
    pub(super) fn push(&mut self, port: usize, block: &mut Vec<u8>, mark: Mark) {
        let added = block.len();
        if self.bytes.is_empty() {
            // The usual case: the thread has taken all there was, so nothing is copied.
            std::mem::swap(&mut self.bytes, block);
        } else {
            self.bytes.extend_from_slice(block);
        }
        match self.runs.last_mut() {
            Some(last) if last.port == port && last.length.saturating_add(added) <= RUN_MAX => {
                last.length = last.length.saturating_add(added);
                last.mark = mark;
            }
            _ => self.runs.push(Run { port, length: added, mark }),
        }
    }

    pub(super) fn clear(&mut self) {
        if self.bytes.capacity() > KEEP_MAX {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
        self.runs.clear();
    }
}

/// A panic while a lock was held leaves nothing half done here: every critical section is a few assignments.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
