//! What the pipe needs of a socket beyond reading and writing, and where TLS records end in its bytes.

use std::task::{Context, Poll};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream},
    net::TcpStream,
};

/// A connection to a peer. Only TCP has anything to do here; the pipe in memory that tests use has not.
pub trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// Sends the acknowledgement of what has arrived now instead of up to 40 ms later.
    fn quick_ack(&self) {}

    /// Ready once the peer closed its direction or the connection broke, even before unread bytes.
    fn poll_hangup(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Socket for DuplexStream {}

impl Socket for TcpStream {
    fn quick_ack(&self) {
        // Best effort: without it the peer only waits longer.
        let _ = rustix::net::sockopt::set_tcp_quickack(self, true);
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
