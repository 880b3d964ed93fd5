//! Bytes on their way to Redis.

use std::{
    io::IoSlice,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::AsyncWrite;

/// Fewest bytes that are written at once; what is shorter is put off to the end of the worker's turn ([`Outbox::put_off`]).
pub(super) const SMALL_BYTES: usize = 4 * 1024;
/// Most buffers a worker keeps for what is put off: 1 MiB of them.
const SPARES_MAX: usize = 256;

/// Empty buffers, none of them larger than [`SMALL_BYTES`], that the outboxes of one worker lend each other.
#[derive(Debug, Default)]
pub(super) struct Spares(Vec<Vec<u8>>);

impl Spares {
    fn lend(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    fn take_back(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= SMALL_BYTES && self.0.len() < SPARES_MAX {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}

/// Writes straight from the caller's slices and keeps only what the kernel did not take, and what is put off for a moment.
/// Empty, it holds no memory.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Bytes not yet taken start at `sent`; `sent <= kept.len()`, and `kept` is empty when all are taken.
    kept: Vec<u8>,
    sent: usize,
    /// Bytes that never will be taken, because the socket refused to.
    lost: usize,
    failed: bool,
}

impl Outbox {
    /// Bytes that wait for the socket.
    pub(super) fn pending(&self) -> usize {
        self.kept.len().saturating_sub(self.sent)
    }

    /// Bytes the kernel never took: those waiting and those that came after a failed write.
    pub(super) fn unsent(&self) -> usize {
        self.pending().saturating_add(self.lost)
    }

    /// Forgets what waits.
    pub(super) fn clear(&mut self) {
        self.lost = self.unsent();
        self.kept = Vec::new();
        self.sent = 0;
    }

    /// Keeps the bytes for the next flush.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
    }

    /// Keeps a few bytes until the next flush, which is to follow when other connections have had their turn: Redis is then
    /// woken once for the commands of all of them, and not by each alone. On one processor that saves a change of process
    /// and back for most commands, a fifth of what proxy and Redis together cost.
    ///
    /// Whether they were few enough; otherwise they are not taken.
    pub(super) fn put_off(&mut self, first: &[u8], second: &[u8], spares: &mut Spares) -> bool {
        if self.failed || first.len().saturating_add(second.len()) >= SMALL_BYTES {
            return false;
        }
        if self.kept.capacity() == 0 {
            self.kept = spares.lend();
        }
        self.kept.extend_from_slice(first);
        self.kept.extend_from_slice(second);
        true
    }

    /// Takes the bytes, in order; those the socket does not take now are kept.
    pub(super) fn send<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
        mut first: &[u8],
        mut second: &[u8],
    ) {
        if self.pending() > 0 {
            self.kept.extend_from_slice(first);
            self.kept.extend_from_slice(second);
            return;
        }
        while !(self.failed || first.is_empty() && second.is_empty()) {
            let mut to = Pin::new(&mut *to);
            let wrote = match (first.is_empty(), second.is_empty()) {
                (false, false) => to.as_mut().poll_write_vectored(cx, &[IoSlice::new(first), IoSlice::new(second)]),
                (false, true) => to.as_mut().poll_write(cx, first),
                (true, _) => to.as_mut().poll_write(cx, second),
            };
            match wrote {
                Poll::Ready(Ok(bytes)) if bytes > 0 => {
                    let of_first = bytes.min(first.len());
                    first = first.get(of_first..).unwrap_or_default();
                    second = second.get(bytes.saturating_sub(of_first)..).unwrap_or_default();
                }
                Poll::Ready(_) => self.failed = true,
                Poll::Pending => {
                    self.kept.reserve_exact(first.len().saturating_add(second.len()));
                    self.kept.extend_from_slice(first);
                    self.kept.extend_from_slice(second);
                    return;
                }
            }
        }
        self.lost = self.lost.saturating_add(first.len()).saturating_add(second.len());
    }

    /// Hands what is kept to the socket. A failed write empties the box; its bytes stay counted as unsent. The reading
    /// side says when the connection is over: Redis may have left an answer behind before it went.
    pub(super) fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
        spares: &mut Spares,
    ) -> Poll<()> {
        while !self.failed {
            let rest = self.kept.get(self.sent..).unwrap_or_default();
            if rest.is_empty() {
                spares.take_back(std::mem::take(&mut self.kept));
                self.sent = 0;
                return Poll::Ready(());
            }
            match Pin::new(&mut *to).poll_write(cx, rest) {
                Poll::Ready(Ok(bytes)) if bytes > 0 => self.sent = self.sent.saturating_add(bytes),
                Poll::Ready(_) => self.failed = true,
                Poll::Pending => return Poll::Pending,
            }
        }
        self.clear();
        Poll::Ready(())
    }
}
