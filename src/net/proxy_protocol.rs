//! The PROXY protocol, versions 1 and 2: what a load balancer says of its client before the client's own first byte
//! (`doc/proxy-protocol.txt` of HAProxy; section numbers below are of that text).
//!
//! Pure: bytes in, a [`Header`] or a [`Fault`] out, whatever pieces the bytes come in ([`read`] is asked again with all
//! there is). Nothing is guessed: the text leaves receivers free to be lenient in places, and each is decided for the
//! strict side here, because the address that is read decides who gets in.
//!
//! | the bytes say | what they mean here |
//! | --- | --- |
//! | version 1, `TCP4` or `TCP6` | that client: [`Whom::Client`] |
//! | version 1, `UNKNOWN`; version 2, `LOCAL`, or `PROXY` for `AF_UNSPEC` | the proxy itself, a health check mostly: [`Whom::Proxy`], with its own address. What else the header says is passed over (2.1, 2.2) |
//! | version 2, `PROXY` for TCP over IPv4 or IPv6 | that client, and what its extensions (TLVs) say |
//! | a Unix socket, or UDP | a fault: there is no address to admit |
//! | a version 2 header of more than [`HEADER_MAX`] bytes | a fault before it is read |
//! | a CRC32C that is wrong, of another length than 4, or there twice | a fault (2.2.4) |
//! | an extension that ends behind the header, an unterminated one | a fault |
//!
//! Tests: every prefix and every cut below, `tests/fuzz` target `proxy`, whole connections in `tests/proxy_protocol.rs`.

mod crc;
mod send;
mod tlv;
mod v1;
mod v2;

pub use send::{local, v2 as encode_v2};
pub use tlv::{Tlvs, VALUE_MAX};

use std::net::SocketAddr;

/// How version 2 begins (2.2): chosen to be no beginning of anything else.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// How version 1 begins.
const V1: &[u8] = b"PROXY ";

/// Longest line of version 1, its CRLF included (2.1).
pub const LINE_MAX: usize = 107;

/// Longest header of version 2 that is taken, its 16 fixed bytes included. The text allows 65,551; what is in use (a
/// client's names, a unique id, a cloud's own) takes some hundred.
pub const HEADER_MAX: usize = 4096;

/// Who is behind the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The proxy itself.
    Proxy,
    /// This client.
    Client {
        /// Where the client comes from.
        src: SocketAddr,
        /// What it connected to.
        dst: SocketAddr,
    },
}

/// A header, read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// 1 or 2.
    pub version: u8,
    /// Who is behind the connection.
    pub whom: Whom,
    /// What the extensions say, for the record.
    pub tlvs: Tlvs,
}

/// Where bytes stand that may be a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// They may become one: more is needed.
    More,
    /// The first byte that differs from both versions says so: this is none.
    Other,
    /// One, in the first `len` bytes.
    Whole {
        /// What it says.
        header: Header,
        /// Its bytes; what follows is the client's.
        len: usize,
    },
}

/// Why bytes that began as a header are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No CRLF within [`LINE_MAX`].
    #[error("a line of version 1 has at most 107 bytes, its CRLF included")]
    LineTooLong,
    /// A CR without an LF behind it, or an LF without a CR before it.
    #[error("a line of version 1 ends with CRLF, and has neither byte before that")]
    LineEnd,
    /// Another family than `TCP4`, `TCP6` and `UNKNOWN`.
    #[error("the family of a version 1 line is TCP4, TCP6 or UNKNOWN")]
    Family,
    /// Not the two addresses and two ports of its family, one space between them.
    #[error("a version 1 line has two addresses of its family and two ports from 0 to 65535, one space before each")]
    Address,
    /// A version of the binary header that is not 2, or a command that is neither LOCAL nor PROXY.
    #[error("a binary header is of version 2 and its command LOCAL (0) or PROXY (1), found the byte {0:#04x}")]
    Command(u8),
    /// A family or protocol that names nobody who can be admitted.
    #[error("only TCP over IPv4 (0x11) and IPv6 (0x21) name a client, found {0:#04x}")]
    Transport(u8),
    /// A header longer than [`HEADER_MAX`].
    #[error("a header of {0} bytes; at most 4096 are taken")]
    HeaderTooLong(usize),
    /// Too short for the addresses of its family.
    #[error("the header is too short for the addresses of its family")]
    Short,
    /// An extension that goes on behind the end of the header.
    #[error("an extension (TLV) ends behind the header")]
    Tlv,
    /// A CRC32C that the bytes do not have.
    #[error("the checksum (CRC32C) is wrong")]
    Checksum,
}

/// Reads a header from the front of `input`, which is everything that has come so far. `More` is never said of
/// [`HEADER_MAX`] bytes.
///
/// # Errors
///
/// [`Fault`], as soon as no further byte could make a header of it.
pub fn read(input: &[u8]) -> Result<Read, Fault> {
    if is_begun(input, V1) {
        return if input.len() < V1.len() { Ok(Read::More) } else { v1::read(input) };
    }
    if is_begun(input, &SIGNATURE) {
        return if input.len() < SIGNATURE.len() { Ok(Read::More) } else { v2::read(input) };
    }
    Ok(Read::Other)
}

/// Whether bytes begin a header, as soon as that can be told.
#[must_use]
pub fn is_header(input: &[u8]) -> Option<bool> {
    let begins = |whole: &[u8]| is_begun(input, whole).then_some(input.len() >= whole.len());
    match begins(V1).or(begins(&SIGNATURE)) {
        Some(true) => Some(true),
        Some(false) => None,
        None => Some(false),
    }
}

/// Whether one of the two begins with the other.
fn is_begun(input: &[u8], whole: &[u8]) -> bool {
    input.iter().zip(whole).all(|(found, expected)| found == expected)
}

#[cfg(test)]
mod tests;
