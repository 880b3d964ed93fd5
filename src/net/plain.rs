//! A client's side without TLS: the near end of a tunnel, from this host alone, by a port or a Unix socket.

use super::{
    side::{Downstream, Intake},
    upstream::Plain,
};
use crate::tls::{Socket, pipe::Scratch, poll_hangup, poll_recv, poll_send};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::AsyncWrite;

/// What one read asks for; a larger command takes more of them.
const READ_BYTES: usize = 16 * 1024;
/// A buffer that is empty and larger than this is given back.
const KEEP_BYTES: usize = 64 * 1024;

/// Plain text over TCP or a Unix socket.
#[derive(Debug)]
pub(super) struct PlainPipe {
    socket: Plain,
    /// Sent and not yet taken by the socket, from `taken` on.
    waiting: Vec<u8>,
    taken: usize,
    ended: bool,
}

impl PlainPipe {
    pub(super) const fn new(socket: Plain) -> Self {
        Self { socket, waiting: Vec::new(), taken: 0, ended: false }
    }
}

impl Downstream for PlainPipe {
    fn poll_read(&mut self, cx: &mut Context<'_>, _scratch: &mut Scratch, out: &mut Vec<u8>) -> Poll<Intake> {
        if self.ended {
            return Poll::Ready(Intake::End);
        }
        let before = out.len();
        out.resize(before.saturating_add(READ_BYTES), 0);
        let room = out.get_mut(before..).unwrap_or_default();
        let read = poll_recv(&self.socket, cx, room);
        let bytes = if let Poll::Ready(Ok(bytes)) = &read { *bytes } else { 0 };
        out.truncate(before.saturating_add(bytes));
        match ready!(read) {
            Ok(0) => {
                self.ended = true;
                Poll::Ready(Intake::End)
            }
            Ok(bytes) => Poll::Ready(Intake::Bytes(bytes)),
            Err(error) => {
                tracing::debug!(%error, "the client's connection failed");
                Poll::Ready(Intake::Failed)
            }
        }
    }

    fn send(&mut self, first: &[u8], second: &[u8]) -> io::Result<()> {
        self.waiting.extend_from_slice(first);
        self.waiting.extend_from_slice(second);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.waiting.get(self.taken..).filter(|rest| !rest.is_empty()) {
            let sent = ready!(poll_send(&self.socket, cx, rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.taken = self.taken.saturating_add(sent);
        }
        self.waiting.clear();
        self.taken = 0;
        if self.waiting.capacity() > KEEP_BYTES {
            self.waiting = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    fn pending(&self) -> usize {
        self.waiting.len().saturating_sub(self.taken)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ended {
            return Poll::Ready(());
        }
        poll_hangup(&self.socket, cx)
    }

    fn quick_ack(&self) {
        Socket::quick_ack(&self.socket);
    }
}
