//! The thread that writes.

use super::{Batch, Recovery, Shared, lock};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    sync::{Arc, PoisonError, atomic::Ordering},
    thread,
    time::Duration,
};

/// First and longest pause before a failed write is tried again.
const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// A full pipe that nobody reads for so long counts as failing.
const UNREAD_MAX: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// The thread.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) output: File,
}

impl Writer {
    pub(super) fn run(mut self) {
        let mut batch = Batch::default();
        loop {
            let mut queue = lock(&self.shared.queue);
            let mut woken = false;
            while queue.pending.bytes.is_empty() && queue.next.is_none() && !queue.closing {
                queue.idle = true;
                queue = self.shared.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
                woken = true;
            }
            queue.idle = false;
            if woken {
                // Whoever woke us may share our processor and have more: on a busy one this lets a worker finish its
                // round, so that one write carries more lines; on an idle one it returns at once.
                drop(queue);
                thread::yield_now();
                queue = lock(&self.shared.queue);
            }
            std::mem::swap(&mut queue.pending, &mut batch);
            let next = queue.next.take();
            let last = queue.closing && batch.bytes.is_empty();
            drop(queue);

            self.write(&batch);
            self.shared.tap.show(&batch.bytes);
            batch.clear();
            if let Some(next) = next {
                self.output = next;
            }
            if last {
                // Pipes and terminals cannot be synchronised; that is no loss.
                if let Err(error) = self.output.sync_data()
                    && error.kind() != ErrorKind::InvalidInput
                {
                    tracing::error!(%error, "the audit file could not be synchronised to its disk");
                }
                self.shared.tap.end();
                lock(&self.shared.queue).closed = true;
                self.shared.closed.notify_all();
                return;
            }
        }
    }

    /// Writes all of `batch`, however long that takes.
    fn write(&mut self, batch: &Batch) {
        // `position` goes back to the start of a line when the file is changed in the middle of it; `counted` does not.
        let mut position = 0;
        let mut counted = 0;
        let mut runs = batch.runs.iter().copied();
        let mut run = runs.next();
        let mut pause = RETRY_FIRST;
        while let Some(rest) = batch.bytes.get(position..).filter(|rest| !rest.is_empty()) {
            match self.output.write(rest) {
                Ok(0) => self.wait(&ErrorKind::WriteZero.into(), &mut pause),
                Ok(length) => {
                    self.recovered();
                    pause = RETRY_FIRST;
                    position = position.saturating_add(length);
                    let mut news = position.saturating_sub(counted);
                    counted = counted.max(position);
                    while let Some((port, left)) = run.filter(|_| news > 0) {
                        let part = left.min(news);
                        self.advance(port, part);
                        news = news.saturating_sub(part);
                        run = if part < left { Some((port, left.saturating_sub(part))) } else { runs.next() };
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait_until_read(),
                Err(error) => self.wait(&error, &mut pause),
            }
            if self.is_failing()
                && let Some(next) = lock(&self.shared.queue).next.take()
            {
                self.output = next;
                let done = batch.bytes.get(..position).unwrap_or_default();
                position = memchr::memrchr(b'\n', done).map_or(0, |newline| newline.saturating_add(1));
            }
        }
    }

    /// Tells a port's pen that more of its bytes are written.
    fn advance(&self, port: usize, by: usize) {
        let by = by as u64;
        self.shared.written.fetch_add(by, Ordering::Release);
        if let Some(state) = self.shared.ports.get(port) {
            state.written.fetch_add(by, Ordering::SeqCst);
            if state.awaited.swap(false, Ordering::SeqCst) {
                state.advanced.notify_waiters();
            }
        }
    }

    fn wait_until_read(&self) {
        let mut fds = [PollFd::new(&self.output, PollFlags::OUT)];
        if let Ok(0) = poll(&mut fds, Some(&UNREAD_MAX)) {
            self.failing("nobody reads the pipe", RETRY_MAX);
        }
    }

    /// Pauses before a failed write is tried again; a new file or the end cuts the pause short.
    fn wait(&self, error: &io::Error, pause: &mut Duration) {
        self.failing(&error.to_string(), *pause);
        let queue = lock(&self.shared.queue);
        if queue.next.is_none() {
            drop(self.shared.work.wait_timeout(queue, *pause));
        }
        *pause = pause.saturating_mul(2).min(RETRY_MAX);
    }

    fn is_failing(&self) -> bool {
        lock(&self.shared.health).failing.is_some()
    }

    fn failing(&self, reason: &str, waited: Duration) {
        let mut health = lock(&self.shared.health);
        health.waited_us = health.waited_us.saturating_add(u64::try_from(waited.as_micros()).unwrap_or(u64::MAX));
        if health.failing.as_deref() != Some(reason) {
            tracing::error!(reason, "the audit stream cannot be written; commands wait until it can");
            health.failing = Some(reason.to_owned());
        }
    }

    fn recovered(&self) {
        let mut health = lock(&self.shared.health);
        if let Some(reason) = health.failing.take() {
            let us = std::mem::take(&mut health.waited_us);
            tracing::info!(reason, "the audit stream is written again; nothing was lost");
            health.recovery = Some(Recovery { reason, us });
        }
    }
}
