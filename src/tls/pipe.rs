//! An open TLS connection as the rest of the shell sees it: plaintext in, plaintext out, and an end.
//!
//! tokio-rustls drives the handshake ([`super::handshake`]) and is then taken apart, because its stream would copy once
//! more and read 4 KiB at a time. From there on rustls is driven by hand:
//!
//! * **One socket read of up to 64 KiB** goes into the worker's [`Scratch`] and is fed to rustls in as many rounds as it
//!   needs (it takes 4 KiB a call, and refuses more while 16 KiB of plaintext is not drained). What is left of a partial
//!   record stays in rustls; the pipe itself keeps no buffer, so a connection at rest costs rustls' state and nothing more.
//! * **`poll_read` and `poll_write`**, not `try_*`: tokio clears readiness on a short transfer, so the poll that only
//!   registers the waker makes no system call.
//! * **An end is sticky and has a kind** ([`End`]): a clean `close_notify` is not a bare FIN, and plaintext that came in
//!   the same read is handed over before either.
//! * **A read that ends inside a record** is acknowledged at once ([`Socket::quick_ack`]): a client with Nagle's
//!   algorithm on otherwise waits 40 ms for our delayed acknowledgement before it sends the rest.

use rustls::{ConnectionCommon, ServerConnection, SideData, pki_types::CertificateDer};
use std::{
    io::{self, BufRead, IoSlice, Write},
    ops::DerefMut,
    pin::Pin,
    task::{Context, Poll, ready},
};

use super::socket::{RecordEdge, Socket};

/// Ciphertext taken from a socket in one read. More than one 16 KiB record with its header, or every such value would
/// need a second system call.
pub const READ_BYTES: usize = 64 * 1024;

/// What rustls may put around one fragment of plaintext, rounded up: header, explicit nonce, content type, tag.
const RECORD_OVERHEAD: usize = 40;

/// The largest fragment one record carries.
const FRAGMENT_BYTES: usize = 16 * 1024;

/// The worker's own room for ciphertext, borrowed by one connection during one poll.
pub struct Scratch(Box<[u8]>);

impl Scratch {
    /// One per worker.
    #[must_use]
    pub fn new() -> Self {
        Self(vec![0; READ_BYTES].into_boxed_slice())
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scratch(…)")
    }
}

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    /// So many bytes of plaintext were appended; never zero.
    Plain(usize),
    /// Nothing more will ever come. Every later read says the same.
    End(End),
}

/// How the client's direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client said so (`close_notify`): what came before is whole.
    CloseNotify,
    /// The connection ended without a word (a bare FIN): what came before may have been cut off by anybody on the path.
    Truncated,
}

/// Why a pipe stopped working.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The socket failed.
    #[error("socket: {0}")]
    Io(#[from] io::Error),
    /// The peer's bytes are not TLS as agreed, or it sent a fatal alert. [`super::failure::explain`] puts it into words.
    #[error("tls: {0}")]
    Tls(#[from] rustls::Error),
}

/// One open connection: the socket and rustls' state, nothing else. Of the server's end, or of the client's
/// ([`super::stream`]): the same code for both, made for each.
#[derive(Debug)]
pub struct TlsPipe<S, C = ServerConnection> {
    io: S,
    tls: C,
    edge: RecordEdge,
    /// Set once, never unset.
    end: Option<End>,
    /// Upper bound of the ciphertext that waits for the socket; zero exactly when none does.
    pending: usize,
    /// Plaintext that arrived together with the client's Finished may wait in rustls: look before the first socket read.
    fresh: bool,
    /// The runtime was made to forget that bytes wait (see [`Socket::poll_hangup`]): the next read must not ask it.
    paused: bool,
    close_notify_sent: bool,
}

impl<S: Socket, C, D: SideData + 'static> TlsPipe<S, C>
where
    C: DerefMut<Target = ConnectionCommon<D>>,
{
    /// Takes over a connection whose handshake is complete.
    pub(super) fn new(io: S, mut tls: C, edge: RecordEdge) -> Self {
        // Whoever writes here stops reading its source when `pending_len` grows; a second limit inside rustls would only
        // turn whole writes into short ones.
        tls.set_buffer_limit(None);
        Self { io, tls, edge, end: None, pending: 0, fresh: true, paused: false, close_notify_sent: false }
    }

    /// Reads once from the socket and appends the plaintext to `out` (at most [`READ_BYTES`] and one held record more).
    ///
    /// `Pending` means that the waker is registered. Loop until then: after a short read the second call makes no system
    /// call. Answers to the peer that TLS itself owes (a key update, an alert) are written on the way.
    ///
    /// # Errors
    ///
    /// [`Fault`]: the connection is of no further use; the alert that says so to the peer was written if the socket took it.
    pub fn poll_read_plain(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Intake, Fault>> {
        let before = out.len();
        if std::mem::take(&mut self.fresh) {
            self.drain(out)?;
        }
        while out.len() == before {
            if let Some(end) = self.end {
                return Poll::Ready(Ok(Intake::End(end)));
            }
            let taken = ready!(self.poll_cipher(cx, &mut scratch.0))?;
            let fed = self.feed(scratch.0.get(..taken).unwrap_or_default(), out);
            if self.tls.wants_write() {
                // After a failure this carries the alert, once: the peer is told why before the socket goes away.
                let flushed = self.poll_flush(cx);
                fed?;
                if let Poll::Ready(Err(error)) = flushed {
                    return Poll::Ready(Err(error.into()));
                }
            } else {
                fed?;
            }
            if self.end.is_none() && self.edge.inside_record() {
                self.io.quick_ack();
            }
        }
        Poll::Ready(Ok(Intake::Plain(out.len() - before)))
    }

    /// One read from the socket.
    fn poll_cipher(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.paused {
            match self.io.read_past_readiness(room) {
                Ok(taken) => {
                    // A full buffer: there may be more of what the runtime was made to forget.
                    self.paused = taken == room.len();
                    return Poll::Ready(Ok(taken));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.paused = false,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.io.poll_recv(cx, room)
    }

    /// Gives rustls one read's ciphertext, round by round; an empty one is the socket's end.
    fn feed(&mut self, mut cipher: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        if cipher.is_empty() {
            self.end = Some(End::Truncated);
            return Ok(());
        }
        self.edge.feed(cipher);
        while !cipher.is_empty() && self.end.is_none() {
            if self.tls.read_tls(&mut cipher)? == 0 {
                // Only after a close_notify does rustls leave bytes lying; what follows one is not ours to read.
                break;
            }
            let state = self.tls.process_new_packets()?;
            self.drain(out)?;
            if state.peer_has_closed() {
                self.end = Some(End::CloseNotify);
            }
        }
        Ok(())
    }

    /// Moves the decrypted bytes out of rustls, which will not read on while they wait.
    fn drain(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        loop {
            let mut reader = self.tls.reader();
            let chunk = match reader.fill_buf() {
                Ok([]) => {
                    self.end = Some(End::CloseNotify);
                    return Ok(());
                }
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.end = Some(End::Truncated);
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            let taken = chunk.len();
            out.extend_from_slice(chunk);
            reader.consume(taken);
        }
    }

    /// Encrypts the parts, in order, into as few records as they fit in. Nothing reaches the socket before
    /// [`poll_flush`](Self::poll_flush); nothing is ever taken in part.
    ///
    /// # Errors
    ///
    /// When the connection has failed before.
    pub fn write_plain(&mut self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let mut len = 0_usize;
        for part in parts {
            len = len.saturating_add(part.len());
        }
        if len == 0 {
            return Ok(());
        }
        let taken = match parts {
            [one] => self.tls.writer().write(one)?,
            many => self.tls.writer().write_vectored(many)?,
        };
        // rustls has no limit to hold against us (see `new`), so a short write would be lost plaintext: say so, loudly.
        if taken != len {
            return Err(io::Error::new(io::ErrorKind::WriteZero, "rustls took only part of a write"));
        }
        self.pending = self
            .pending
            .saturating_add(len)
            .saturating_add(len.div_ceil(FRAGMENT_BYTES).saturating_mul(RECORD_OVERHEAD));
        Ok(())
    }

    /// Hands what is encrypted to the socket. `Pending` means that the socket is full and the waker registered.
    ///
    /// # Errors
    ///
    /// When the socket fails.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Outlet { io: &mut self.io, cx }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(written) => self.pending = self.pending.saturating_sub(written).max(1),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.pending = 0;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Ciphertext that waits for the socket, in bytes: an upper bound, and zero exactly when nothing waits.
    #[must_use]
    pub fn pending_len(&self) -> usize {
        if self.tls.wants_write() { self.pending.max(1) } else { 0 }
    }

    /// Whether anything waits for the socket.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.tls.wants_write()
    }

    /// Says `close_notify`, flushes, and closes the writing half. Reading goes on; dropping the pipe ends both.
    ///
    /// # Errors
    ///
    /// When the socket fails before all of it is out.
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.close_notify_sent, true) {
            self.tls.send_close_notify();
        }
        ready!(self.poll_flush(cx))?;
        match ready!(Pin::new(&mut self.io).poll_shutdown(cx)) {
            // The peer was faster; there is nobody left to tell.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            done => Poll::Ready(done),
        }
    }

    /// Ready once the peer has closed its direction or the connection has broken, even while unread bytes lie before the
    /// end. For a connection whose reading is paused: it is how a client that went away is noticed there.
    ///
    /// Calling it is never needed while [`poll_read_plain`](Self::poll_read_plain) is being called, and reading may go on at any time after.
    pub fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.end.is_some() {
            return Poll::Ready(());
        }
        self.paused = true;
        self.io.poll_hangup(cx)
    }

    /// Acknowledges at once what has arrived: for a read that ended inside a command (inside a TLS record the pipe does
    /// it by itself).
    pub fn quick_ack(&self) {
        self.io.quick_ack();
    }

    /// How the client's direction ended, if it did.
    #[must_use]
    pub const fn end(&self) -> Option<End> {
        self.end
    }

    /// The verified chain, leaf first; a resumed session still has it.
    #[must_use]
    pub fn peer_chain(&self) -> &[CertificateDer<'static>] {
        self.tls.peer_certificates().unwrap_or_default()
    }

    /// `TLSv1.3` or `TLSv1.2`.
    #[must_use]
    pub fn protocol(&self) -> &'static str {
        self.tls.protocol_version().and_then(|version| version.as_str()).map_or("unknown", |name| match name {
            "TLSv1_3" => "TLSv1.3",
            "TLSv1_2" => "TLSv1.2",
            _ => "unknown",
        })
    }

    /// The cipher suite's name, as rustls writes it.
    #[must_use]
    pub fn cipher(&self) -> &'static str {
        self.tls.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("unknown")
    }

    /// Whether the session was resumed from a ticket.
    #[must_use]
    pub fn resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// The socket, for its options and addresses.
    #[must_use]
    pub const fn socket(&self) -> &S {
        &self.io
    }
}

impl<S: Socket> TlsPipe<S> {
    /// The name the client asked for (SNI), if it named one.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.tls.server_name()
    }
}

/// rustls writes into this; it goes straight to the socket.
struct Outlet<'a, 'b, S> {
    io: &'a mut S,
    cx: &'a mut Context<'b>,
}

impl<S> Outlet<'_, '_, S> {
    fn blocked(poll: Poll<io::Result<usize>>) -> io::Result<usize> {
        match poll {
            Poll::Ready(done) => done,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl<S: Socket> Write for Outlet<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::blocked(self.io.poll_send(self.cx, bytes))
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match parts {
            // A plain write is the cheaper system call, and one record is the usual case.
            [one] => self.write(one),
            many => Self::blocked(Pin::new(&mut *self.io).poll_write_vectored(self.cx, many)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "pipe_tests.rs"]
mod tests;
