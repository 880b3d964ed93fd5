//! The thread that writes.
//!
//! A file begins in [`Writer::begin_file`] and ends in [`Writer::end_file`], whatever the reason: the start, a
//! reopening, a rotation, the close. All bytes go through [`Writer::write`], in the order in which they stand in the
//! output: first what the thread itself has to say (the end of a torn line, then a checkpoint if one is due), then the
//! lines of the pens. When it returns, they have all been taken, and [`Writer::marks`] says where each pen stands behind
//! them. The chain ([`Proof`]) is fed what the output has taken, piece by piece, so that it knows what a file holds that
//! was given up in the middle of a line.

use super::{
    Recovery,
    proof::Proof,
    queue::{Batch, Queue, Run, Shared, lock},
};
use crate::{
    audit::{chain::Reason, counters::Mark},
    net::clock::Clock,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FileType, fstat},
};
use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    os::unix::fs::FileExt,
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering},
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
    /// What ends a torn line and stands before everything else.
    own: Vec<u8>,
    /// A checkpoint that is due, behind `own` and before what is written next.
    due: Option<Reason>,
    /// Its line, once all that it covers has been written.
    checkpoint: Vec<u8>,
    /// The chain, if the output has one, and what it is told of time.
    proof: Option<(Proof, Clock)>,
    /// Where each pen stands behind all that has been written, by port.
    marks: Box<[Mark]>,
}

/// How much of a block the output has taken. `position` goes back to the start of a line when the file is changed in
/// the middle of it; `counted` does not.
#[derive(Default)]
struct Progress {
    own: usize,
    checkpoint: usize,
    position: usize,
    counted: usize,
}

/// What is written next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Own,
    Checkpoint,
    Lines,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, output: File, proof: Option<Proof>) -> Self {
        let marks = vec![Mark::default(); shared.ports.len()].into_boxed_slice();
        let proof = proof.map(|proof| (proof, Clock::start()));
        Self { shared, output, own: Vec::new(), due: None, checkpoint: Vec::new(), proof, marks }
    }

    pub(super) fn run(mut self) {
        let mut batch = Batch::default();
        self.begin_file();
        self.write(&[], &[]);
        loop {
            let mut queue = lock(&self.shared.queue);
            let mut woken = false;
            while queue.pending.bytes.is_empty() && queue.next.is_none() && !queue.closing && !self.is_due() {
                queue.idle = true;
                queue = self.sleep(queue);
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
            if self.is_due() {
                self.due = Some(Reason::Interval);
                self.write(&[], &[]);
            }
            if let Some(next) = next {
                self.end_file(&Reason::Reopen);
                self.output = next;
                self.begin_file();
                self.write(&[], &[]);
            }
            if last {
                self.end_file(&Reason::Stop);
                // Pipes and terminals cannot be synchronised; that is no loss.
                if let Err(error) = self.output.sync_data()
                    && error.kind() != ErrorKind::InvalidInput
                {
                    tracing::error!(%error, "the audit file could not be synchronised to its disk");
                }
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
        if let Some((proof, _)) = &mut self.proof {
            // What it was to be is said in the file that was given up, or by the next one.
            self.due = Some(proof.first().unwrap_or(Reason::Open));
        }
    }

    /// All that belongs into the output has been written; another one takes its place, or none.
    fn end_file(&mut self, reason: &Reason) {
        while self.proof.as_ref().is_some_and(|(proof, _)| proof.last() != Some(reason)) {
            // Once, unless the file is changed meanwhile.
            self.due = Some(reason.clone());
            self.write(&[], &[]);
        }
    }

    /// Whether a checkpoint is due by time or amount.
    fn is_due(&self) -> bool {
        self.proof.as_ref().is_some_and(|(proof, clock)| proof.due_us().is_some_and(|due| due <= clock.now().mono_us))
    }

    /// Waits for work, or until a checkpoint is due.
    fn sleep<'q>(&self, queue: MutexGuard<'q, Queue>) -> MutexGuard<'q, Queue> {
        let due = self.proof.as_ref().and_then(|(proof, clock)| Some((proof.due_us()?, clock.now().mono_us)));
        match due {
            None => self.shared.work.wait(queue).unwrap_or_else(PoisonError::into_inner),
            Some((due, now)) => {
                let left = Duration::from_micros(due.saturating_sub(now));
                self.shared.work.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// Renders the checkpoint that is due, once all before it is written.
    fn prepare_checkpoint(&mut self) {
        if let (Some(reason), Some((proof, clock))) = (self.due.take(), &mut self.proof) {
            self.checkpoint = proof.render(clock.now().wall_us, reason);
        }
    }

    /// What the output has taken of a part, to the chain.
    fn taken(&mut self, part: Part, at: &mut Progress, lines: &[u8], length: usize) {
        let (from, bytes) = match part {
            Part::Own => (&mut at.own, &self.own[..]),
            Part::Checkpoint => (&mut at.checkpoint, &self.checkpoint[..]),
            Part::Lines => (&mut at.position, lines),
        };
        let to = from.saturating_add(length);
        let written = bytes.get(*from..to).unwrap_or_default();
        *from = to;
        let Some((proof, clock)) = &mut self.proof else { return };
        if part != Part::Checkpoint {
            proof.append(written, clock);
        } else if to == bytes.len() {
            proof.seal(bytes);
            self.checkpoint.clear();
            at.checkpoint = 0;
        }
    }

    /// Writes our own lines and then `lines`, which are those of `runs`, however long that takes.
    fn write(&mut self, lines: &[u8], runs: &[Run]) {
        let mut at = Progress::default();
        let mut uncounted = runs.iter().map(|run| (run.port, run.length));
        let mut run = uncounted.next();
        let mut pause = RETRY_FIRST;
        loop {
            if self.due.is_some() && at.own >= self.own.len() {
                self.prepare_checkpoint();
            }
            let parts = [
                (Part::Own, self.own.get(at.own..)),
                (Part::Checkpoint, self.checkpoint.get(at.checkpoint..)),
                (Part::Lines, lines.get(at.position..)),
            ];
            let next = parts.into_iter().find_map(|(part, rest)| Some((part, rest.filter(|rest| !rest.is_empty())?)));
            let Some((part, rest)) = next else { break };
            match self.output.write(rest) {
                Ok(0) => self.wait(&ErrorKind::WriteZero.into(), &mut pause),
                Ok(length) => {
                    pause = RETRY_FIRST;
                    self.taken(part, &mut at, lines, length);
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
                if let Some((proof, _)) = &mut self.proof {
                    proof.abandon(self.checkpoint.get(..at.checkpoint).unwrap_or_default());
                }
                self.checkpoint.clear();
                self.output = next;
                self.begin_file();
                (at.own, at.checkpoint) = (0, 0);
                at.position = line_start(lines, at.position);
            }
        }
        self.own.clear();
        for run in runs {
            if let Some(mark) = self.marks.get_mut(run.port) {
                *mark = run.mark;
            }
        }
        if let Some((proof, _)) = &mut self.proof {
            proof.settle(runs);
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
