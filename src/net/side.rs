//! What the pump needs of its three neighbours, as traits with static dispatch: the same pump runs over TLS with the
//! real session, and in memory with a scripted one.

use crate::{
    moment::Moment,
    session::{
        Turn, Wants,
        activity::Activity,
        error::CloseReason,
        gather::Gather,
        inquiry::{Answer, Ask},
        machine::Session,
        renewal::Renewal,
    },
    tls::{
        Socket,
        pipe::{self, Scratch, TlsPipe},
    },
};
use std::{
    io::{self, IoSlice},
    os::fd::AsFd,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};

/// What decides. [`Session`] is the only one outside tests; see there for what each call means.
pub trait Machine {
    /// Bytes from the client; returns how many were consumed.
    fn downstream(&mut self, input: &[u8], turn: &mut Turn<'_>, up: &mut Gather<'_>, down: &mut Gather<'_>) -> usize;
    /// Bytes from Redis; returns how many were consumed.
    fn upstream(&mut self, input: &[u8], turn: &mut Turn<'_>, up: &mut Gather<'_>, down: &mut Gather<'_>) -> usize;
    /// The client ended its side.
    fn downstream_end(&mut self, clean: bool, turn: &mut Turn<'_>, up: &mut Gather<'_>, down: &mut Gather<'_>);
    /// Redis ended its side.
    fn upstream_end(&mut self, unsent: usize, turn: &mut Turn<'_>, down: &mut Gather<'_>);
    /// What was waited for has come.
    fn resume(&mut self, turn: &mut Turn<'_>, up: &mut Gather<'_>, down: &mut Gather<'_>);
    /// Answer what was promised, accept nothing more.
    fn drain(&mut self, reason: CloseReason, turn: &mut Turn<'_>, up: &mut Gather<'_>, down: &mut Gather<'_>);
    /// The connection as a reload sees it now; [`Machine::resume`] follows.
    fn renew(&mut self, renewal: Renewal);
    /// Drain, if nothing is under way that only the client can end.
    fn retire(&mut self, reason: CloseReason, turn: &mut Turn<'_>, up: &mut Gather<'_>, down: &mut Gather<'_>) {
        self.drain(reason, turn, up, down);
    }
    /// Whether it ended because Redis refuses the proxy.
    fn was_refused(&self) -> bool {
        false
    }
    /// What is to be found out ([`Wants::asks`]).
    fn take_ask(&mut self) -> Option<Ask>;
    /// What was found out.
    fn answer(&mut self, answer: Answer, turn: &mut Turn<'_>, up: &mut Gather<'_>, down: &mut Gather<'_>);
    /// Record what is open and be done.
    fn abort(&mut self, reason: CloseReason, turn: &mut Turn<'_>);
    /// What is waited for.
    fn wants(&self) -> Wants;
    /// What it is doing now, for an operator who asks.
    fn activity(&self, _now: Moment) -> Activity {
        Activity::default()
    }
    /// Gives back memory that is of no use at rest; false if it is not at rest.
    fn rest(&mut self) -> bool;
    /// Whether the client's end, once it is known, ends the session at once, so that the bytes before it need not be
    /// read first: a command that blocks, a subscription or a stream would otherwise live on as a ghost. Asked only
    /// while reading the client is paused.
    fn ends_with_client(&self) -> bool;
}

impl Machine for Session {
    #[inline]
    fn downstream(&mut self, input: &[u8], turn: &mut Turn<'_>, up: &mut Gather<'_>, down: &mut Gather<'_>) -> usize {
        Self::downstream(self, input, turn, up, down)
    }

    #[inline]
    fn upstream(&mut self, input: &[u8], turn: &mut Turn<'_>, up: &mut Gather<'_>, down: &mut Gather<'_>) -> usize {
        Self::upstream(self, input, turn, up, down)
    }

    fn downstream_end(&mut self, clean: bool, turn: &mut Turn<'_>, up: &mut Gather<'_>, down: &mut Gather<'_>) {
        Self::downstream_end(self, clean, turn, up, down);
    }

    fn upstream_end(&mut self, unsent: usize, turn: &mut Turn<'_>, down: &mut Gather<'_>) {
        Self::upstream_end(self, unsent, turn, down);
    }

    fn resume(&mut self, turn: &mut Turn<'_>, up: &mut Gather<'_>, down: &mut Gather<'_>) {
        Self::resume(self, turn, up, down);
    }

    fn drain(&mut self, reason: CloseReason, turn: &mut Turn<'_>, up: &mut Gather<'_>, down: &mut Gather<'_>) {
        Self::drain(self, reason, turn, up, down);
    }

    fn renew(&mut self, renewal: Renewal) {
        Self::renew(self, renewal);
    }

    fn retire(&mut self, reason: CloseReason, turn: &mut Turn<'_>, _up: &mut Gather<'_>, down: &mut Gather<'_>) {
        Self::retire(self, reason, turn, down);
    }

    fn was_refused(&self) -> bool {
        Self::was_refused(self)
    }

    fn take_ask(&mut self) -> Option<Ask> {
        Self::take_ask(self)
    }

    fn answer(&mut self, answer: Answer, turn: &mut Turn<'_>, up: &mut Gather<'_>, down: &mut Gather<'_>) {
        Self::answer(self, answer, turn, up, down);
    }

    fn abort(&mut self, reason: CloseReason, turn: &mut Turn<'_>) {
        Self::abort(self, reason, turn);
    }

    #[inline]
    fn wants(&self) -> Wants {
        Self::wants(self)
    }

    fn activity(&self, now: Moment) -> Activity {
        Self::activity(self, now)
    }

    fn rest(&mut self) -> bool {
        let idle = self.is_idle();
        if idle {
            self.shrink();
        }
        idle
    }

    fn ends_with_client(&self) -> bool {
        Self::ends_with_client(self)
    }
}

/// What one read of the client's side gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    /// So many bytes were appended, never zero.
    Bytes(usize),
    /// The client ended its side by itself; every later read says the same.
    End,
    /// The socket or the protocol under it failed; the side is of no further use.
    Failed,
}

/// Redis' side: bytes in and out, as sockets do it.
pub trait Upward: AsyncRead + AsyncWrite + Unpin {
    /// Bytes at the front of a write that is pending or has failed, and that may have arrived all the same.
    fn in_doubt(&self) -> usize {
        0
    }

    /// The socket, if what is written is what it sends: somebody else may then write to it in this side's place.
    fn socket(&self) -> Option<Arc<dyn AsFd>>;
}

impl Upward for DuplexStream {
    fn socket(&self) -> Option<Arc<dyn AsFd>> {
        None
    }
}

/// The client's side: plaintext in, plaintext out, an end. What carries it is not the pump's business.
pub trait Downstream {
    /// Reads once and appends what came to `out`. After a short read the next call makes no system call.
    fn poll_read(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch, out: &mut Vec<u8>) -> Poll<Intake>;
    /// Takes the bytes, all of them, in order; they leave with the next flush.
    fn send(&mut self, first: &[u8], second: &[u8]) -> io::Result<()>;
    /// Hands what was sent to the socket; ready once the socket has all of it.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Bytes that wait for the socket; zero exactly when none do.
    fn pending(&self) -> usize;
    /// Flushes, says goodbye as the protocol under it demands, and closes the writing half.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Ready once the peer has ended or vanished, though unread bytes may lie before the end.
    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<()>;
    /// Acknowledges what has arrived at once, for a peer that holds the rest of a command back until then.
    fn quick_ack(&self);
}

impl<S: Socket> Downstream for TlsPipe<S> {
    #[inline]
    fn poll_read(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch, out: &mut Vec<u8>) -> Poll<Intake> {
        self.poll_read_plain(cx, scratch, out).map(|read| match read {
            Ok(pipe::Intake::Plain(bytes)) => Intake::Bytes(bytes),
            // A bare FIN counts as an end too: what was not a whole command before it is dropped by the session, and
            // many clients never say close_notify.
            Ok(pipe::Intake::End(pipe::End::CloseNotify | pipe::End::Truncated)) => Intake::End,
            Err(fault) => {
                tracing::debug!(%fault, "the client's connection failed");
                Intake::Failed
            }
        })
    }

    #[inline]
    fn send(&mut self, first: &[u8], second: &[u8]) -> io::Result<()> {
        match (first.is_empty(), second.is_empty()) {
            (true, true) => Ok(()),
            (false, true) => self.write_plain(&[IoSlice::new(first)]),
            (true, false) => self.write_plain(&[IoSlice::new(second)]),
            (false, false) => self.write_plain(&[IoSlice::new(first), IoSlice::new(second)]),
        }
    }

    #[inline]
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_flush(self, cx)
    }

    #[inline]
    fn pending(&self) -> usize {
        self.pending_len()
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_close(self, cx)
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Self::poll_hangup(self, cx)
    }

    fn quick_ack(&self) {
        Self::quick_ack(self);
    }
}
