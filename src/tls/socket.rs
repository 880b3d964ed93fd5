//! What the pipe needs of a socket beyond reading and writing, and where TLS records end in its bytes.

use rustix::{
    io::Errno,
    net::{RecvFlags, SendAncillaryBuffer, SendFlags},
};
use std::{
    future::Future,
    io::{self, IoSlice},
    os::fd::AsFd,
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, Interest, ReadBuf, Ready},
    net::{TcpStream, UnixStream},
};

/// A connection to a peer. Only TCP has anything to do here; the pipe in memory that tests use has not.
pub trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// Sends the acknowledgement of what has arrived now instead of up to 40 ms later.
    fn quick_ack(&self) {}

    /// Ready once the peer closed its direction or the connection broke, even before unread bytes. It may have to forget
    /// that there are any, so the next read goes by [`read_past_readiness`](Self::read_past_readiness).
    fn poll_hangup(&self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// Reads without asking the runtime whether there is anything; `WouldBlock` says that the runtime knows best again.
    ///
    /// # Errors
    ///
    /// The socket's.
    fn read_past_readiness(&self, _buf: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Reads what has come, 0 bytes at the end, or registers the waker.
    fn poll_recv(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut into = ReadBuf::new(room);
        ready!(Pin::new(self).poll_read(cx, &mut into))?;
        Poll::Ready(Ok(into.filled().len()))
    }

    /// Writes as much as there is room for, or registers the waker.
    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write(cx, bytes)
    }
}

/// A socket of the runtime's, and what it knows about its being ready.
pub trait Polled: AsFd {
    /// Ready, or the waker is registered.
    ///
    /// # Errors
    ///
    /// The runtime's end.
    fn poll_ready(&self, cx: &mut Context<'_>, interest: Interest) -> Poll<io::Result<()>>;

    /// What is there to be read, if anything is: bytes or an end. Registers nobody.
    fn peek(&self) -> Poll<io::Result<Ready>>;

    /// Makes the runtime believe that it is not ready, until the kernel says otherwise.
    fn forget(&self, interest: Interest);
}

macro_rules! polled {
    ($stream:ty) => {
        impl Polled for $stream {
            #[inline]
            fn poll_ready(&self, cx: &mut Context<'_>, interest: Interest) -> Poll<io::Result<()>> {
                if interest.is_readable() { self.poll_read_ready(cx) } else { self.poll_write_ready(cx) }
            }

            fn peek(&self) -> Poll<io::Result<Ready>> {
                pin!(self.ready(Interest::READABLE)).poll(&mut Context::from_waker(Waker::noop()))
            }

            #[inline]
            fn forget(&self, interest: Interest) {
                let _ = self.try_io(interest, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
            }
        }
    };
}
polled!(TcpStream);
polled!(UnixStream);

/// As the runtime's `poll_read`, but by a system call without the C library around it: in a process with threads each of
/// its calls may be cancelled, and pays for that with two atomic exchanges, 3 % of the CPU time of a small command.
///
/// # Errors
///
/// The socket's.
#[inline]
pub fn poll_recv<S: Polled>(socket: &S, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
    let most = room.len();
    poll_transfer(socket, cx, Interest::READABLE, most, || {
        rustix::net::recv(socket, &mut *room, RecvFlags::empty()).map(|(taken, _)| taken)
    })
}

/// As the runtime's `poll_write`, likewise.
///
/// # Errors
///
/// The socket's.
#[inline]
pub fn poll_send<S: Polled>(socket: &S, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    poll_transfer(socket, cx, Interest::WRITABLE, bytes.len(), || rustix::net::send(socket, bytes, SendFlags::NOSIGNAL))
}

/// As [`poll_send`], of several parts by one call.
///
/// # Errors
///
/// The socket's.
pub fn poll_send_parts<S: Polled>(socket: &S, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
    let most = parts.iter().map(|part| part.len()).sum();
    poll_transfer(socket, cx, Interest::WRITABLE, most, || {
        rustix::net::sendmsg(socket, parts, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
    })
}

/// Makes the call when the socket is ready for it, until it says something else than "not now".
#[inline]
fn poll_transfer<S: Polled>(
    socket: &S,
    cx: &mut Context<'_>,
    interest: Interest,
    most: usize,
    mut call: impl FnMut() -> Result<usize, Errno>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_ready(cx, interest))?;
        match call() {
            Ok(taken) => {
                // The kernel says so when there is more, or more room; asking now would cost a call that finds nothing.
                if 0 < taken && taken < most {
                    socket.forget(interest);
                }
                return Poll::Ready(Ok(taken));
            }
            Err(Errno::AGAIN) => socket.forget(interest),
            Err(Errno::INTR) => {}
            Err(error) => return Poll::Ready(Err(error.into())),
        }
    }
}

/// Ready once the peer closed its direction or the connection broke, as [`Socket::poll_hangup`] has it.
pub fn poll_hangup<S: Polled>(socket: &S, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        match socket.poll_ready(cx, Interest::READABLE) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) => return Poll::Ready(()),
            Poll::Ready(Ok(())) => {}
        }
        // Something is ready, and it only remains to be seen what. The waker is the one registered above.
        match socket.peek() {
            Poll::Ready(Ok(ready)) if !ready.is_read_closed() && !ready.is_error() => {}
            Poll::Pending => {}
            Poll::Ready(_) => return Poll::Ready(()),
        }
        // Only bytes: forget them, or the runtime would stay "ready" and never wake anybody for the end behind them.
        socket.forget(Interest::READABLE);
    }
}

impl Socket for DuplexStream {}

impl Socket for TcpStream {
    #[inline]
    fn poll_recv(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        poll_recv(self, cx, room)
    }

    #[inline]
    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        poll_send(self, cx, bytes)
    }

    fn quick_ack(&self) {
        // Best effort: without it the peer only waits longer.
        let _ = rustix::net::sockopt::set_tcp_quickack(self, true);
    }

    fn poll_hangup(&self, cx: &mut Context<'_>) -> Poll<()> {
        poll_hangup(self, cx)
    }

    fn read_past_readiness(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::net::recv(self, buf, RecvFlags::empty())?.0)
    }
}

/// Follows the record headers through the ciphertext, to know whether a read ended inside a record. rustls knows, but
/// does not say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RecordEdge {
    /// Header bytes seen of the current record, 0..=5.
    header: u8,
    /// The record's length as far as it was read.
    length: u16,
    /// Body bytes still to come, once the header is whole.
    body: usize,
}

impl RecordEdge {
    const HEADER_BYTES: u8 = 5;

    /// Moves over the next ciphertext.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.header == Self::HEADER_BYTES {
                let skipped = self.body.min(bytes.len());
                self.body -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
            } else {
                // type, version, version, length, length
                if self.header >= 3 {
                    self.length = (self.length << 8) | u16::from(byte);
                }
                self.header += 1;
                self.body = usize::from(self.length);
                bytes = rest;
            }
            if self.header == Self::HEADER_BYTES && self.body == 0 {
                *self = Self::default();
            }
        }
    }

    /// Whether the bytes so far end within a record.
    pub(super) const fn inside_record(&self) -> bool {
        self.header != 0
    }
}

#[cfg(test)]
mod tests {
    use super::RecordEdge;

    /// Three records: five bytes, none, three hundred.
    fn records() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut ends = vec![0];
        for length in [5_u16, 0, 300] {
            bytes.extend([23, 3, 3]);
            bytes.extend(length.to_be_bytes());
            bytes.extend(std::iter::repeat_n(0xff, usize::from(length)));
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn every_prefix_knows_whether_it_ends_inside_a_record() {
        let (bytes, ends) = records();
        for end in 0..=bytes.len() {
            let mut edge = RecordEdge::default();
            edge.feed(&bytes[..end]);
            assert_eq!(edge.inside_record(), !ends.contains(&end), "after {end} bytes");
        }
    }

    #[test]
    fn every_cut_gives_the_same_answer() {
        let (bytes, ends) = records();
        for cut in 0..=bytes.len() {
            let mut edge = RecordEdge::default();
            edge.feed(&bytes[..cut]);
            edge.feed(&bytes[cut..]);
            assert!(!edge.inside_record(), "cut at {cut}");
            edge.feed(&bytes[..1]);
            assert!(edge.inside_record(), "{ends:?}");
        }
    }
}
