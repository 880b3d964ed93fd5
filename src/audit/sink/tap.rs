//! The lines of an output as they are written, for whoever looks on.
//!
//! Nobody waits for who looks on: each has room for [`ROOM`] bytes, and what does not fit is not kept for them. They are told
//! exactly how many lines that were, in a line that is none of the stream:
//!
//! ```json
//! {"stream":"live","event":"gap","output":"file","dropped":1203}
//! ```
//!
//! While nobody looks on, this costs the thread that writes one load per block. Tests: below and `tests/audit_reading.rs`.

use super::queue::lock;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

/// Bytes kept for one who looks on and has not taken them.
const ROOM: usize = 1 << 20;
/// Most who look on at one output.
const LOOKERS_MAX: usize = 8;

/// Where the lines of one output can be looked at.
#[derive(Debug)]
pub struct Tap {
    output: Box<str>,
    /// As many as `lookers` holds, so that nobody locks it for nothing.
    count: AtomicUsize,
    lookers: Mutex<Vec<Arc<Mutex<Kept>>>>,
}

/// What one who looks on has not taken yet.
#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    /// Lines that came behind `bytes` and were not kept.
    lost: u64,
    ended: bool,
    waker: Option<Waker>,
}

/// One who looks on, until this is dropped.
#[derive(Debug)]
pub struct Looker {
    tap: Arc<Tap>,
    kept: Arc<Mutex<Kept>>,
}

impl Tap {
    /// Nobody looks on yet.
    pub(super) fn new(output: &str) -> Arc<Self> {
        Arc::new(Self { output: output.into(), count: AtomicUsize::new(0), lookers: Mutex::default() })
    }

    /// The output's name.
    #[must_use]
    pub fn output(&self) -> &str {
        &self.output
    }

    /// Begins to look on; `None` if too many do.
    #[must_use]
    pub fn look(self: &Arc<Self>) -> Option<Looker> {
        let mut lookers = lock(&self.lookers);
        if lookers.len() >= LOOKERS_MAX {
            return None;
        }
        let kept = Arc::<Mutex<Kept>>::default();
        lookers.push(Arc::clone(&kept));
        self.count.store(lookers.len(), Ordering::Relaxed);
        drop(lookers);
        Some(Looker { tap: Arc::clone(self), kept })
    }

    /// Whole lines that have been written, in the output's order.
    #[inline]
    pub(super) fn show(&self, lines: &[u8]) {
        // Whoever comes at this very moment sees what comes next.
        if self.count.load(Ordering::Relaxed) > 0 {
            self.show_to_all(lines);
        }
    }

    #[cold]
    fn show_to_all(&self, lines: &[u8]) {
        for looker in lock(&self.lookers).iter() {
            let waker = {
                let mut kept = lock(looker);
                kept.keep(lines);
                kept.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Nothing more will be written.
    pub(super) fn end(&self) {
        for looker in lock(&self.lookers).iter() {
            let mut kept = lock(looker);
            kept.ended = true;
            if let Some(waker) = kept.waker.take() {
                waker.wake();
            }
        }
    }
}

impl Kept {
    /// Keeps the lines that there is room for. Once one is lost all are, until what is kept has been taken: the others
    /// would stand behind a hole that nobody was told of yet.
    fn keep(&mut self, lines: &[u8]) {
        let room = if self.lost > 0 { 0 } else { ROOM.saturating_sub(self.bytes.len()) };
        let fits = if lines.len() <= room {
            lines.len()
        } else {
            let front = lines.get(..room).unwrap_or_default();
            memchr::memrchr(b'\n', front).map_or(0, |newline| newline.saturating_add(1))
        };
        let (kept, lost) = lines.split_at_checked(fits).unwrap_or((lines, &[]));
        self.bytes.extend_from_slice(kept);
        self.lost = self.lost.saturating_add(memchr::memchr_iter(b'\n', lost).count() as u64);
    }
}

impl Looker {
    /// The next lines, at least one; `None` once nothing more will be written.
    pub fn poll_lines(&mut self, cx: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        let mut kept = lock(&self.kept);
        if kept.bytes.is_empty() && kept.lost == 0 {
            if kept.ended {
                return Poll::Ready(None);
            }
            kept.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut bytes = std::mem::take(&mut kept.bytes);
        let lost = std::mem::take(&mut kept.lost);
        drop(kept);
        if lost > 0 {
            // The name is plain: 1 to 64 of `a-z A-Z 0-9 . _ -`.
            let gap = format!(
                "{{\"stream\":\"live\",\"event\":\"gap\",\"output\":\"{}\",\"dropped\":{lost}}}\n",
                self.tap.output
            );
            bytes.extend_from_slice(gap.as_bytes());
        }
        Poll::Ready(Some(bytes))
    }
}

impl Drop for Looker {
    fn drop(&mut self) {
        let mut lookers = lock(&self.tap.lookers);
        lookers.retain(|each| !Arc::ptr_eq(each, &self.kept));
        self.tap.count.store(lookers.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(looker: &mut Looker) -> Option<Option<String>> {
        let mut cx = Context::from_waker(Waker::noop());
        match looker.poll_lines(&mut cx) {
            Poll::Pending => None,
            Poll::Ready(lines) => Some(lines.map(|lines| String::from_utf8(lines).unwrap())),
        }
    }

    #[test]
    fn who_looks_on_sees_what_is_written_from_then_on_and_the_end() {
        let tap = Tap::new("file");
        tap.show(b"before\n");
        let mut looker = tap.look().unwrap();
        assert_eq!(take(&mut looker), None);
        tap.show(b"one\n");
        tap.show(b"two\n");
        assert_eq!(take(&mut looker), Some(Some("one\ntwo\n".into())));
        tap.show(b"three\n");
        tap.end();
        assert_eq!(take(&mut looker), Some(Some("three\n".into())));
        assert_eq!(take(&mut looker), Some(None));
    }

    #[test]
    fn who_is_too_slow_is_told_exactly_how_many_lines_are_missing_and_takes_no_more_room() {
        let tap = Tap::new("file");
        let mut looker = tap.look().unwrap();
        let block = format!("{}\n", "x".repeat(99)).repeat(1000);
        let mut shown = 0_u64;
        let mut seen = 0_u64;
        let mut told = 0_u64;
        for round in 0..50 {
            tap.show(block.as_bytes());
            shown += 1000;
            assert!(lock(&looker.kept).bytes.len() <= ROOM);
            if round % 17 == 16 {
                let lines = take(&mut looker).unwrap().unwrap();
                let (last, lines): (Vec<_>, Vec<_>) = lines.lines().partition(|line| line.starts_with('{'));
                assert!(lines.iter().all(|line| line.len() == 99), "only whole lines");
                seen += lines.len() as u64;
                assert_eq!(last.len(), 1);
                told += last[0].split("\"dropped\":").nth(1).unwrap().trim_end_matches('}').parse::<u64>().unwrap();
                assert_eq!(seen + told, shown);
            }
        }
        assert!(seen > 0 && told > 0);
    }

    #[test]
    fn only_so_many_look_on_and_who_leaves_makes_room() {
        let tap = Tap::new("file");
        let mut lookers: Vec<_> = (0..LOOKERS_MAX).map(|_| tap.look().unwrap()).collect();
        assert!(tap.look().is_none());
        lookers.pop();
        assert!(tap.look().is_some());
        drop(lookers);
        assert_eq!(tap.count.load(Ordering::Relaxed), 0);
    }
}
