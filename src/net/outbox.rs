//! Bytes on their way to Redis.

use super::side::Upward;
use std::{
    io::{self, IoSlice},
    os::fd::AsFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::io::AsyncWrite;

/// Fewest bytes that are written at once; what is shorter is put off until others have had their turn ([`Outbox::put_off`]).
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

/// What becomes of bytes that were to be put off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PutOff {
    /// They were not taken: too many, or others wait for the socket already.
    No,
    /// A burst is to send them, and has to be told ([`super::burst::Burst::add`]).
    ToBurst,
    /// They go with what a burst has been told of.
    Again,
    /// No burst can send them: flush them when others have had their turn.
    ToFlush,
}

/// Writes straight from the caller's slices and keeps only what the kernel did not take, and what is put off for a moment.
/// Empty, it holds no memory.
#[derive(Default)]
pub(super) struct Outbox {
    /// Bytes not yet taken start at `sent`; `sent <= kept.len()`, and `kept` is empty when all are taken.
    kept: Vec<u8>,
    sent: usize,
    /// Bytes that never will be taken, because the socket refused to.
    lost: usize,
    failed: bool,
    /// Where to, if a burst is to send what is kept: from its first byte on, for nothing was sent before.
    put_off: Option<Arc<dyn AsFd>>,
    /// The connection can do nothing before the burst has been.
    awaited: bool,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox")
            .field("pending", &self.pending())
            .field("lost", &self.lost)
            .field("failed", &self.failed)
            .field("put_off", &self.is_put_off())
            .finish_non_exhaustive()
    }
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
        self.put_off = None;
    }

    /// Keeps the bytes for the next flush.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
    }

    /// Whether a burst is to send what waits.
    pub(super) const fn is_put_off(&self) -> bool {
        self.put_off.is_some()
    }

    /// Keeps a few bytes until other connections have had their turn, so that Redis is woken once for the commands of all of
    /// them, and not by each alone.
    pub(super) fn put_off<W: Upward>(&mut self, first: &[u8], second: &[u8], to: &W, spares: &mut Spares) -> PutOff {
        let more = first.len().saturating_add(second.len());
        if self.failed || self.pending().saturating_add(more) >= SMALL_BYTES || self.blocked() {
            // What was put off before leaves with what is sent now.
            self.put_off = None;
            return PutOff::No;
        }
        if self.kept.capacity() == 0 {
            self.kept = spares.lend();
        }
        self.kept.extend_from_slice(first);
        self.kept.extend_from_slice(second);
        if self.is_put_off() {
            return PutOff::Again;
        }
        self.put_off = to.socket();
        if self.is_put_off() { PutOff::ToBurst } else { PutOff::ToFlush }
    }

    /// Bytes wait that no burst is to send: the socket did not take them.
    pub(super) fn blocked(&self) -> bool {
        self.pending() > 0 && !self.is_put_off()
    }

    /// The connection is to be woken after the burst, whatever becomes of it.
    pub(super) fn await_burst(&mut self) {
        self.awaited = self.is_put_off();
    }

    /// What was put off, and where to; nothing if it has left already or is not to be sent any more.
    pub(super) fn hand_over(&mut self) -> Option<(Arc<dyn AsFd>, Vec<u8>)> {
        Some((self.put_off.take()?, std::mem::take(&mut self.kept)))
    }

    /// The same bytes again, and how many of them the socket took. Whether the connection is to be woken.
    pub(super) fn take_back(&mut self, bytes: Vec<u8>, sent: io::Result<usize>, spares: &mut Spares) -> bool {
        let awaited = std::mem::take(&mut self.awaited);
        self.kept = bytes;
        self.sent = match sent {
            Ok(sent) => sent,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            Err(_) => {
                self.failed = true;
                self.clear();
                0
            }
        };
        if self.pending() > 0 {
            return true;
        }
        spares.take_back(std::mem::take(&mut self.kept));
        self.sent = 0;
        awaited
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
