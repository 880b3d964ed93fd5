//! An open TLS connection to a server, as a stream: what the pump and a tunnel need of Redis' side.
//!
//! It is the same [`TlsPipe`] that clients are served with, for the other end. What differs is who drives it:
//!
//! * **A write is taken when the kernel has all of it.** What was encrypted and did not fit the socket stays in rustls, and
//!   the write is pending; it has to be tried again *with the same bytes*, which are then not encrypted twice.
//! * **What is encrypted may have arrived.** If the connection fails meanwhile, so many bytes of the pending write are
//!   [`in_doubt`](Secured::in_doubt): part of their records may be at the server, so nobody may say that they were not sent.
//! * **Plaintext first.** What a read decrypted is handed over before the failure that came along with it.

use rustls::ClientConnection;
use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    pipe::{Fault, Intake, READ_BYTES, Scratch, TlsPipe},
    socket::Socket,
};

/// Most plaintext encrypted for one write. More would only wait, encrypted and a second time, for a socket that is full.
const WRITE_BYTES: usize = 256 * 1024;
/// Most parts of one write that are looked at.
const PARTS: usize = 8;

thread_local! {
    /// Room for one read, borrowed by one connection during one poll: ciphertext, and what came of it.
    static ROOM: RefCell<(Scratch, Vec<u8>)> = RefCell::new((Scratch::new(), Vec::with_capacity(READ_BYTES)));
}

/// One open connection to a server.
#[derive(Debug)]
pub struct Secured<S: Socket> {
    pipe: TlsPipe<S, ClientConnection>,
    /// Plaintext from `rest_at` on that a read gave and its buffer had no room for.
    rest: Vec<u8>,
    rest_at: usize,
    /// The failure that came after the plaintext.
    fault: Option<Fault>,
    /// Bytes at the front of a pending write that are encrypted.
    encrypted: usize,
}

impl<S: Socket> Secured<S> {
    pub(super) fn new(pipe: TlsPipe<S, ClientConnection>) -> Self {
        Self { pipe, rest: Vec::new(), rest_at: 0, fault: None, encrypted: 0 }
    }

    /// Bytes at the front of a pending write that may have arrived.
    #[must_use]
    pub const fn in_doubt(&self) -> usize {
        self.encrypted
    }

    /// `TLSv1.3` or `TLSv1.2`.
    #[must_use]
    pub fn protocol(&self) -> &'static str {
        self.pipe.protocol()
    }

    /// The cipher suite's name, as rustls writes it.
    #[must_use]
    pub fn cipher(&self) -> &'static str {
        self.pipe.cipher()
    }

    /// Whether the session was resumed from a ticket.
    #[must_use]
    pub fn resumed(&self) -> bool {
        self.pipe.resumed()
    }

    /// The socket, for its options and addresses.
    #[must_use]
    pub const fn socket(&self) -> &S {
        self.pipe.socket()
    }

    /// Gives out what lies here; false if nothing does.
    fn hand_over(&mut self, into: &mut ReadBuf<'_>) -> bool {
        let waiting = self.rest.get(self.rest_at..).unwrap_or_default();
        if waiting.is_empty() {
            return false;
        }
        let some = waiting.len().min(into.remaining());
        into.put_slice(waiting.get(..some).unwrap_or_default());
        self.rest_at = self.rest_at.saturating_add(some);
        if self.rest_at >= self.rest.len() {
            self.rest = Vec::new();
            self.rest_at = 0;
        }
        true
    }

    fn take(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.encrypted == 0 {
            let mut some = [IoSlice::new(&[]); PARTS];
            let (mut len, mut count) = (0_usize, 0_usize);
            for (place, part) in some.iter_mut().zip(parts) {
                let fits = part.len().min(WRITE_BYTES.saturating_sub(len));
                *place = IoSlice::new(part.get(..fits).unwrap_or_default());
                len = len.saturating_add(fits);
                count = count.saturating_add(1);
            }
            self.pipe.write_plain(some.get(..count).unwrap_or_default())?;
            self.encrypted = len;
        }
        ready!(self.pipe.poll_flush(cx))?;
        Poll::Ready(Ok(std::mem::take(&mut self.encrypted)))
    }
}

fn into_io(fault: Fault) -> io::Error {
    match fault {
        Fault::Io(error) => error,
        Fault::Tls(error) => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}

impl<S: Socket> AsyncRead for Secured<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if into.remaining() == 0 || this.hand_over(into) {
            return Poll::Ready(Ok(()));
        }
        if let Some(fault) = this.fault.take() {
            return Poll::Ready(Err(into_io(fault)));
        }
        if this.pipe.wants_write() {
            // What TLS itself owes the peer, or a write that is pending. If it fails, the read says so, after what is left.
            let _ = this.pipe.poll_flush(cx);
        }
        ROOM.with_borrow_mut(|(cipher, plain)| {
            plain.clear();
            let read = ready!(this.pipe.poll_read_plain(cx, cipher, plain));
            let some = plain.len().min(into.remaining());
            into.put_slice(plain.get(..some).unwrap_or_default());
            this.rest.extend_from_slice(plain.get(some..).unwrap_or_default());
            Poll::Ready(match read {
                Ok(Intake::Plain(_) | Intake::End(_)) => Ok(()),
                Err(fault) if some > 0 => {
                    this.fault = Some(fault);
                    Ok(())
                }
                Err(fault) => Err(into_io(fault)),
            })
        })
    }
}

impl<S: Socket> AsyncWrite for Secured<S> {
    /// Pending, it is to be called again with bytes that begin with the same.
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().take(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().take(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().pipe.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().pipe.poll_close(cx)
    }
}

impl<S: Socket> Drop for Secured<S> {
    /// Says `close_notify` if the socket takes it at once, so that the server does not log a cut connection. What is half
    /// sent stays half sent: whoever dropped it did not want it to arrive.
    fn drop(&mut self) {
        if !self.pipe.wants_write() && self.encrypted == 0 && self.fault.is_none() {
            let _ = self.pipe.poll_close(&mut Context::from_waker(Waker::noop()));
        }
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
