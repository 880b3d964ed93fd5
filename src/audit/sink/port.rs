//! The pens' ways into the sinks.

use super::queue::{KEEP_MAX, PortState, Shared, lock};
use crate::audit::{counters::Mark, outlet::Outlet, record::Recorder};
use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    task::Poll,
};

/// One pen's way into the sink.
#[derive(Debug)]
pub struct SinkPort {
    pub(super) shared: Arc<Shared>,
    pub(super) index: usize,
    /// The buffer of the last block, empty again.
    pub(super) spent: Mutex<Vec<u8>>,
}

impl SinkPort {
    /// Hands a block of whole lines over, and where the pen stands behind them. Never blocks on the output and never
    /// drops.
    pub fn submit(&self, mut block: Vec<u8>, mark: Mark) {
        if block.is_empty() {
            return;
        }
        let calls = {
            let mut queue = lock(&self.shared.queue);
            self.shared.submitted.fetch_add(block.len() as u64, Ordering::Relaxed);
            queue.pending.push(self.index, &mut block, mark);
            queue.calls()
        };
        if calls {
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
            let mark = outlet.mark();
            self.submit(outlet.take(), mark);
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
            // The thread may be letting time pass.
            drop(lock(&self.shared.queue));
            self.shared.work.notify_one();
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
