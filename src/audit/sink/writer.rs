//! The thread that writes.
//!
//! A file begins in [`Writer::begin_file`] and ends in [`Writer::end_file`], whatever the reason: the start, a
//! reopening, a rotation, the close. All bytes go through [`Writer::write`], in the order in which they stand in the
//! output: first what the thread itself has to say ([`Writer::own`]), then the lines of the pens. When it returns, they
//! have all been taken, and [`Writer::marks`] says where each pen stands behind them.

use super::{
    Recovery,
    queue::{Batch, Run, Shared, lock},
};
use crate::audit::counters::Mark;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FileType, fstat},
};
use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    os::unix::fs::FileExt,
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
    shared: Arc<Shared>,
    output: File,
    /// Lines of our own that stand before what is written next.
    own: Vec<u8>,
    /// Where each pen stands behind all that has been written, by port.
    marks: Box<[Mark]>,
}

/// How much of a block the output has taken. `position` goes back to the start of a line when the file is changed in
/// the middle of it; `counted` does not.
#[derive(Default)]
struct Progress {
    own: usize,
    position: usize,
    counted: usize,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, output: File) -> Self {
        let marks = vec![Mark::default(); shared.ports.len()].into_boxed_slice();
        Self { shared, output, own: Vec::new(), marks }
    }

    pub(super) fn run(mut self) {
        let mut batch = Batch::default();
        self.begin_file();
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

            if !batch.bytes.is_empty() {
                self.write(&batch.bytes, &batch.runs);
                batch.clear();
            }
            if let Some(next) = next {
                self.end_file();
                self.output = next;
                self.begin_file();
            }
            if last {
                self.end_file();
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

    /// The output is a new one, or the first. Nothing of ours has been written to it.
    fn begin_file(&mut self) {
        self.own.clear();
        if ends_in_half_a_line(&self.output) {
            tracing::warn!(
                output = %self.shared.name,
                "the last line of the audit file is cut off, as a crash leaves it; it is ended, so that the next one stands by itself"
            );
            self.own.push(b'\n');
        }
    }

    /// All that belongs into the output has been written; another one takes its place, or none.
    fn end_file(&mut self) {
        tracing::debug!(output = %self.shared.name, marks = ?self.marks, "an audit file ends");
    }

    /// Writes our own lines and then `lines`, which are those of `runs`, however long that takes.
    fn write(&mut self, lines: &[u8], runs: &[Run]) {
        let mut at = Progress::default();
        let mut uncounted = runs.iter().map(|run| (run.port, run.length));
        let mut run = uncounted.next();
        let mut pause = RETRY_FIRST;
        loop {
            let own = self.own.get(at.own..).filter(|rest| !rest.is_empty());
            let Some(rest) = own.or_else(|| lines.get(at.position..).filter(|rest| !rest.is_empty())) else { break };
            match self.output.write(rest) {
                Ok(0) => self.wait(&ErrorKind::WriteZero.into(), &mut pause),
                Ok(length) => {
                    pause = RETRY_FIRST;
                    if own.is_some() {
                        at.own = at.own.saturating_add(length);
                    } else {
                        at.position = at.position.saturating_add(length);
                    }
                    self.recovered();
                    let mut news = at.position.saturating_sub(at.counted);
                    at.counted = at.counted.max(at.position);
                    while let Some((port, left)) = run.filter(|_| news > 0) {
                        let part = left.min(news);
                        self.advance(port, part);
                        news = news.saturating_sub(part);
                        run = if part < left { Some((port, left.saturating_sub(part))) } else { uncounted.next() };
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait_until_read(),
                Err(error) => self.wait(&error, &mut pause),
            }
            let next = if self.is_failing() { lock(&self.shared.queue).next.take() } else { None };
            if let Some(next) = next {
                self.output = next;
                self.begin_file();
                at.own = 0;
                at.position = line_start(lines, at.position);
            }
        }
        self.shared.tap.show(&self.own);
        self.shared.tap.show(lines);
        self.own.clear();
        for run in runs {
            if let Some(mark) = self.marks.get_mut(run.port) {
                *mark = run.mark;
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

/// Where the line begins that `position` is in.
fn line_start(lines: &[u8], position: usize) -> usize {
    let done = lines.get(..position).unwrap_or_default();
    memchr::memrchr(b'\n', done).map_or(0, |newline| newline.saturating_add(1))
}

/// Whether this is a file that somebody left in the middle of a line.
fn ends_in_half_a_line(output: &File) -> bool {
    let Ok(stat) = fstat(output) else { return false };
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size == 0 {
        return false;
    }
    let Ok(last) = u64::try_from(stat.st_size.saturating_sub(1)) else { return false };
    let mut byte = [b'\n'];
    // It is open for writing only, and what is at its path may be another by now.
    let reader = File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(output)));
    if let Err(error) = reader.and_then(|reader| reader.read_exact_at(&mut byte, last)) {
        tracing::warn!(%error, "the end of the audit file cannot be read: whether its last line is whole is not known");
    }
    byte != [b'\n']
}
