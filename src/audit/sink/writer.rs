//! The thread that writes.
//!
//! A file begins in [`Writer::begin_file`] and ends in [`Writer::end_file`], whatever the reason: the start, a
//! reopening, a rotation, the close. All bytes go through [`Writer::write`], in the order in which they stand in the
//! output: first what the thread itself has to say (the end of a torn line, then a checkpoint if one is due), then the
//! lines of the pens. When it returns, they have all been taken, and [`Writer::marks`] says where each pen stands behind
//! them.
//!
//! The chain ([`Proof`]) is fed what a file has taken, byte by byte, so that it knows what a file holds that was given up
//! in the middle of a line; of what goes to a receiver it is fed whole lines, because one that a lost connection has cut
//! is sent anew. Where a block counts only once it is on the disk, the chain goes back with the file.

use super::{
    Recovery,
    output::Output,
    proof::Proof,
    queue::{Batch, GATHERED_BYTES, Queue, Run, Shared, lock},
};
use crate::audit::{chain::Reason, counters::Mark};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    cell::Cell,
    fs::File,
    io::{self, ErrorKind},
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

/// First and longest pause before a failed write is tried again.
const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// Least time from a small block to the next, so that lines gather: a block costs a change to this thread and back, and a
/// system call. Somebody who waits for a line cuts it short, and so do [`GATHERED_BYTES`].
const PACE: Duration = Duration::from_millis(1);
/// A block of fewer bytes is a small one.
const SMALL_BYTES: usize = 4 * 1024;
/// A full pipe that nobody reads for so long counts as failing.
const UNREAD_MAX: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Runs whose bytes have not been told to their pens, and what is left of the one before them.
struct Uncounted<'r> {
    runs: std::slice::Iter<'r, Run>,
    left: usize,
    port: usize,
}

/// The thread.
pub(super) struct Writer {
    shared: Arc<Shared>,
    output: Output,
    /// What ends a torn line and stands before everything else.
    own: Vec<u8>,
    /// A checkpoint that is due behind it, before the lines that are written next.
    due: Option<Reason>,
    /// Its line, once all that it covers has been written.
    checkpoint: Vec<u8>,
    /// The chain, if the output has one.
    proof: Option<Proof>,
    /// Where each pen stands behind all that has been written, by port.
    marks: Box<[Mark]>,
    /// Where pauses get their length from.
    chance: u64,
    /// When the last block was taken.
    taken: Cell<Option<Instant>>,
    /// [`PACE`], but for tests.
    pub(super) pace: Duration,
}

/// How much of a block the output has taken. `position` goes back to the start of a line when the file is changed in
/// the middle of it; `counted` does not.
#[derive(Default)]
struct Progress {
    own: usize,
    checkpoint: usize,
    position: usize,
    /// What the chain has been fed of the lines.
    fed: usize,
    counted: usize,
}

impl Progress {
    /// All that is in the file of it.
    fn bytes(&self) -> u64 {
        self.own.saturating_add(self.checkpoint).saturating_add(self.position) as u64
    }
}

/// What is written next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Own,
    Checkpoint,
    Lines,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, output: Output, proof: Option<Proof>) -> Self {
        let marks = vec![Mark::default(); shared.ports.len()].into_boxed_slice();
        // Never zero; no two processes begin alike.
        let chance = super::clock::wall_us() << 16 | u64::from(std::process::id()) | 1;
        Self {
            shared,
            output,
            own: Vec::new(),
            due: None,
            checkpoint: Vec::new(),
            proof,
            marks,
            chance,
            taken: Cell::default(),
            pace: PACE,
        }
    }

    pub(super) fn run(mut self) {
        let mut batch = Batch::default();
        self.begin_file();
        self.write_checkpoint();
        loop {
            let (next, last) = self.take(&mut batch);
            self.append(&batch);
            batch.clear();
            if let Some(next) = next {
                self.end_file(&Reason::Reopen);
                self.output.go_over(next);
                self.begin_file();
                self.write_checkpoint();
            }
            if last {
                self.end_file(&Reason::Stop);
                if let Some(Err(error)) = self.output.file().map(|file| file.sync()) {
                    tracing::error!(%error, "the audit file could not be synchronised to its disk");
                }
                self.shared.tap.end();
                lock(&self.shared.queue).closed = true;
                self.shared.closed.notify_all();
                return;
            }
        }
    }

    /// Waits for lines, for another file, for the end, or until something is due, and takes what there is. With it comes a
    /// file to go over to, and whether this is the end.
    fn take(&mut self, batch: &mut Batch) -> (Option<File>, bool) {
        let due = self.output.due_in().into_iter().chain(self.proof.as_ref().and_then(Proof::due_in)).min();
        let mut queue = lock(&self.shared.queue);
        let mut woken = false;
        while queue.pending.bytes.is_empty() && queue.next.is_none() && !queue.closing {
            queue.idle = true;
            queue = match due {
                None => self.shared.work.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(due) => {
                    let waited = self.shared.work.wait_timeout(queue, due);
                    let (queue, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                    if timeout.timed_out() {
                        drop(queue);
                        return (None, false);
                    }
                    queue
                }
            };
            woken = true;
        }
        queue.idle = false;
        if woken {
            // Whoever woke us may share our processor and have more: on a busy one this lets a worker finish its round, so
            // that one write carries more lines; on an idle one it returns at once.
            drop(queue);
            thread::yield_now();
            queue = lock(&self.shared.queue);
        }
        queue = self.pace(queue);
        std::mem::swap(&mut queue.pending, batch);
        (queue.next.take(), queue.closing && batch.bytes.is_empty())
    }

    /// Lets [`PACE`] pass since the last block was taken, if that was a small one, while lines gather; unless somebody waits
    /// for one of them, or there are enough. Nobody wakes the thread for lines meanwhile: `idle` is not set.
    fn pace<'q>(&self, mut queue: MutexGuard<'q, Queue>) -> MutexGuard<'q, Queue> {
        let mut now = super::clock::now();
        let until = self.taken.get().map(|taken| taken + self.pace);
        while let Some(left) = until.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero()) {
            let awaited = self.shared.ports.iter().any(|port| port.awaited.load(Ordering::SeqCst));
            let enough = queue.pending.bytes.len() >= GATHERED_BYTES;
            if awaited || enough || queue.closing || queue.next.is_some() {
                break;
            }
            queue.gathering = true;
            (queue, _) = self.shared.work.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner);
            now = super::clock::now();
        }
        queue.gathering = false;
        // While a large one is written enough gathers by itself, and is handed over without being copied.
        self.taken.set(Some(now).filter(|_| queue.pending.bytes.len() < SMALL_BYTES));
        queue
    }

    /// Writes all of a batch, into as many files as it takes, and does what is due.
    fn append(&mut self, batch: &Batch) {
        let (mut bytes, mut runs) = (batch.bytes.as_slice(), batch.runs.as_slice());
        if runs.is_empty() && self.output.file().is_some_and(|file| file.is_due()) {
            self.rotate();
        }
        while !runs.is_empty() {
            let mut count = self.output.takes(runs);
            if count == 0 {
                self.rotate();
                // Of a file that is new, or could not be rotated, at least one.
                count = self.output.takes(runs).max(1);
            }
            let (first, rest) = runs.split_at_checked(count).unwrap_or((runs, &[]));
            let length = first.iter().fold(0_usize, |sum, run| sum.saturating_add(run.length));
            let (lines, left) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
            self.output.look();
            self.write(lines, first);
            (bytes, runs) = (left, rest);
        }
        if self.proof.as_ref().is_some_and(|proof| proof.due_in() == Some(Duration::ZERO)) {
            self.due = Some(Reason::Interval);
            self.write_checkpoint();
        }
        if let Some(file) = self.output.file() {
            file.sync_due(false);
        }
    }

    /// Puts the file aside for a new one; if that cannot be done, the old one goes on.
    fn rotate(&mut self) {
        let Some(next) = self.output.file().and_then(|file| file.prepare()) else { return };
        self.end_file(&Reason::Rotate);
        let Some(aside) = self.output.file().and_then(|file| file.rotate(next)) else {
            // The file has not ended after all.
            self.due = self.proof.as_ref().map(|_| Reason::Open);
            return;
        };
        tracing::info!(output = %self.shared.name, file = %aside.display(), "an audit file was put aside");
        self.begin_file();
    }

    /// The output is a new one, or the first. Nothing of ours has been written to it.
    fn begin_file(&mut self) {
        self.own.clear();
        if self.output.file().is_some_and(|file| file.ends_in_half_a_line()) {
            tracing::warn!(
                output = %self.shared.name,
                "the last line of the audit file is cut off, as a crash leaves it; it is ended, so that the next one stands by itself"
            );
            self.own.push(b'\n');
        }
        // Written with what comes next: a file that stays empty is not rotated.
        self.due = self.proof.as_mut().map(|proof| proof.first().unwrap_or(Reason::Open));
    }

    /// All that belongs into the output has been written; another one takes its place, or none.
    fn end_file(&mut self, reason: &Reason) {
        tracing::debug!(output = %self.shared.name, marks = ?self.marks, "an audit file ends");
        while self.proof.is_some() {
            self.due = Some(reason.clone());
            self.write_checkpoint();
            // Once, unless the file was changed meanwhile: then the new one ends as well.
            if self.proof.as_ref().is_none_or(|proof| proof.last() == Some(reason)) {
                break;
            }
        }
        if let Some(file) = self.output.file() {
            file.sync_due(true);
        }
    }

    /// Writes the checkpoint that is due, without waiting for lines.
    fn write_checkpoint(&mut self) {
        if self.due.is_some() {
            self.write(&[], &[]);
        }
    }

    /// Renders the checkpoint that is due, once all before it is written.
    fn prepare_checkpoint(&mut self, at: &mut Progress) {
        if at.own < self.own.len() {
            return;
        }
        if let (Some(proof), Some(reason)) = (&mut self.proof, self.due.take()) {
            self.checkpoint = proof.render(super::clock::wall_us(), reason);
            at.checkpoint = 0;
        }
    }

    /// The output has taken so much of a part.
    fn taken(&mut self, part: Part, at: &mut Progress, lines: &[u8], length: usize) {
        let Some(proof) = &mut self.proof else {
            match part {
                Part::Own => at.own = at.own.saturating_add(length),
                Part::Checkpoint => at.checkpoint = at.checkpoint.saturating_add(length),
                Part::Lines => at.position = at.position.saturating_add(length),
            }
            return;
        };
        match part {
            Part::Own => {
                let from = at.own;
                at.own = at.own.saturating_add(length);
                proof.append(self.own.get(from..at.own).unwrap_or_default());
            }
            Part::Checkpoint => {
                at.checkpoint = at.checkpoint.saturating_add(length);
                if at.checkpoint == self.checkpoint.len() {
                    proof.seal(&self.checkpoint);
                }
            }
            Part::Lines => {
                at.position = at.position.saturating_add(length);
                let whole = self.output.begins_anew();
                let until = if whole { line_start(lines, at.position) } else { at.position };
                proof.append(lines.get(at.fed..until).unwrap_or_default());
                at.fed = at.fed.max(until);
            }
        }
    }

    /// The chain as it was before a block that the disk did not take.
    fn go_back(&mut self, at: &mut Progress, before: &(Option<Proof>, Option<Reason>)) {
        (self.proof, self.due) = before.clone();
        self.checkpoint.clear();
        *at = Progress { counted: at.counted, ..Progress::default() };
    }

    /// Writes our own lines and then `lines`, which are those of `runs`, however long that takes.
    fn write(&mut self, lines: &[u8], runs: &[Run]) {
        let syncs_first = self.output.file().is_some_and(|file| file.syncs_first());
        let mut before = if syncs_first { (self.proof.clone(), self.due.clone()) } else { (None, None) };
        let mut at = Progress::default();
        let mut uncounted = Uncounted { runs: runs.iter(), left: 0, port: 0 };
        let mut pause = RETRY_FIRST;
        loop {
            self.prepare_checkpoint(&mut at);
            let parts = [
                (Part::Own, self.own.get(at.own..)),
                (Part::Checkpoint, self.checkpoint.get(at.checkpoint..)),
                (Part::Lines, lines.get(at.position..)),
            ];
            let next = parts.into_iter().find_map(|(part, rest)| Some((part, rest.filter(|rest| !rest.is_empty())?)));
            let done = match next {
                Some((part, rest)) => self.output.write(rest).map(|length| (part, length)),
                None if syncs_first => match self.sync(&at) {
                    Ok(()) => break,
                    Err(error) => {
                        self.go_back(&mut at, &before);
                        Err(error)
                    }
                },
                None => break,
            };
            match done {
                Ok((_, 0)) => self.wait(&ErrorKind::WriteZero.into(), &mut pause),
                Ok((part, length)) => {
                    pause = RETRY_FIRST;
                    self.taken(part, &mut at, lines, length);
                    if !syncs_first {
                        self.recovered();
                        self.count(&mut at, &mut uncounted);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait_until_read(),
                Err(error) => {
                    if self.output.begins_anew() {
                        at.own = line_start(&self.own, at.own);
                        at.checkpoint = line_start(&self.checkpoint, at.checkpoint);
                        at.position = line_start(lines, at.position);
                    }
                    self.wait(&error, &mut pause);
                }
            }
            let next = if self.is_failing() { lock(&self.shared.queue).next.take() } else { None };
            if let Some(next) = next {
                self.give_up(&mut at, lines, syncs_first.then_some(&before));
                self.output.go_over(next);
                self.begin_file();
                if syncs_first {
                    before = (self.proof.clone(), self.due.clone());
                }
            }
        }
        self.recovered();
        self.count(&mut at, &mut uncounted);
        self.shared.tap.show(&self.own);
        self.shared.tap.show(&self.checkpoint);
        self.shared.tap.show(lines);
        self.own.clear();
        self.checkpoint.clear();
        for run in runs {
            if let Some(mark) = self.marks.get_mut(run.port) {
                *mark = run.mark;
            }
        }
        if let Some(proof) = &mut self.proof {
            proof.settle(runs);
        }
    }

    /// The file cannot be written, and another one takes its place: the line that it has in part is whole in the next.
    fn give_up(&mut self, at: &mut Progress, lines: &[u8], before: Option<&(Option<Proof>, Option<Reason>)>) {
        match before {
            // What the old file has and has not on its disk does not count: the new one has it all.
            Some(before) => {
                if self.proof.is_some()
                    && let Some(Err(error)) = self.output.file().map(|file| file.cut_back(at.bytes()))
                {
                    tracing::error!(%error, "an audit file that is given up could not be cut back; some of its lines are in the next one too");
                }
                self.go_back(at, before);
            }
            None => {
                if let Some(proof) = &mut self.proof {
                    let torn = self.checkpoint.get(..at.checkpoint).filter(|_| at.checkpoint < self.checkpoint.len());
                    proof.append(torn.unwrap_or_default());
                }
                self.checkpoint.clear();
                at.position = line_start(lines, at.position);
                *at = Progress { position: at.position, fed: at.position, counted: at.counted, ..Progress::default() };
            }
        }
    }

    /// Synchronises what has been written since the last time, or cuts it off again.
    fn sync(&mut self, at: &Progress) -> io::Result<()> {
        let Some(file) = self.output.file() else { return Ok(()) };
        file.sync().map_err(|error| match file.cut_back(at.bytes()) {
            Ok(()) => io::Error::new(error.kind(), format!("fsync: {error}")),
            Err(other) => io::Error::new(error.kind(), format!("fsync: {error}; ftruncate: {other}")),
        })
    }

    /// Tells the pens what is written now.
    fn count(&self, at: &mut Progress, uncounted: &mut Uncounted<'_>) {
        let mut news = at.position.saturating_sub(at.counted);
        at.counted = at.counted.max(at.position);
        while news > 0 {
            if uncounted.left == 0 {
                let Some(run) = uncounted.runs.next() else { break };
                (uncounted.port, uncounted.left) = (run.port, run.length);
            }
            let part = uncounted.left.min(news);
            self.advance(uncounted.port, part);
            uncounted.left = uncounted.left.saturating_sub(part);
            news = news.saturating_sub(part);
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
        let Some(fd) = self.output.fd() else { return };
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
        if let Ok(0) = poll(&mut fds, Some(&UNREAD_MAX)) {
            self.failing(self.output.unread(), RETRY_MAX);
        }
    }

    /// Pauses before a failed write is tried again; a new file or the end cuts the pause short.
    fn wait(&mut self, error: &io::Error, pause: &mut Duration) {
        // Between a half and all of it: what broke for many is not tried again by all at once.
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        let part = u32::try_from(self.chance % 512).unwrap_or(0).saturating_add(512);
        let wait = pause.saturating_mul(part) / 1024;
        self.failing(&error.to_string(), wait);
        let queue = lock(&self.shared.queue);
        if queue.next.is_none() {
            drop(self.shared.work.wait_timeout(queue, wait));
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
