//! What comes before TLS: the header of a trusted proxy, and the first record of the client's.
//!
//! Bytes are looked at where they are, in the socket's own queue, and only what belongs to a header is taken out, so that
//! TLS begins at its first byte. A client that sends its first record a byte at a time costs a look per segment and its
//! place among all connections; a handshake is begun, and its memory taken, once the record is whole.

use super::proxy_protocol::{self, HEADER_MAX, Header, Read};
use rustix::net::{RecvFlags, recv};
use std::io;
use tokio::{io::Interest, net::TcpStream};

/// Type, version and length of a TLS record (RFC 8446, 5.1).
const RECORD_HEAD: usize = 5;
/// The type of a record of the handshake.
const HANDSHAKE: u8 = 22;
/// Longest record (RFC 8446, 5.1): what claims to be longer is TLS' own to refuse.
const RECORD_MAX: usize = 1 << 14;

/// Room for what most headers take; a longer one is given all that any may take.
const HEADER_USUAL: usize = 256;

/// Why there is no header.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The socket ended before its first byte.
    Silent,
    /// It ended within the header.
    Cut,
    /// The first bytes are something else.
    Missing,
    /// They are no header after all.
    Wrong(proxy_protocol::Fault),
    /// The socket failed.
    Socket(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Socket(error)
    }
}

/// What a client's first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// A whole record of the handshake, or what TLS may find out itself.
    Tls,
    /// A header of the PROXY protocol.
    Header,
    /// There are none: the socket has ended.
    End,
}

/// Whether the peer says anything before it ends.
///
/// # Errors
///
/// The socket's.
pub(super) async fn speaks(socket: &TcpStream) -> io::Result<bool> {
    look(socket, &mut [0], |found| found > 0).await.map(|found| found > 0)
}

/// Takes the header from the front of the socket; the deadline is the caller's.
pub(super) async fn header(socket: &TcpStream) -> Result<Header, Trouble> {
    let mut bytes = vec![0; HEADER_USUAL];
    let mut taken = 0_usize;
    loop {
        if taken == bytes.len() {
            bytes.resize(HEADER_MAX, 0);
        }
        let rest = bytes.get_mut(taken..).unwrap_or_default();
        let fresh = look(socket, rest, |found| found > 0).await?;
        let known = taken.saturating_add(fresh);
        if fresh == 0 {
            return Err(if taken == 0 { Trouble::Silent } else { Trouble::Cut });
        }
        let whole = match proxy_protocol::read(bytes.get(..known).unwrap_or_default()) {
            Ok(Read::More) => None,
            Ok(Read::Whole { header, len }) => Some((header, len)),
            Ok(Read::Other) => return Err(Trouble::Missing),
            Err(fault) => return Err(Trouble::Wrong(fault)),
        };
        let end = whole.as_ref().map_or(known, |(_, len)| *len);
        // These bytes are there; they are read again in the place where they were looked at.
        while taken < end {
            let into = bytes.get_mut(taken..end).unwrap_or_default();
            match recv(socket, into, RecvFlags::empty()) {
                Ok((_, 0)) => return Err(Trouble::Cut),
                Ok((_, read)) => taken = taken.saturating_add(read),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Trouble::Socket(error.into())),
            }
        }
        if let Some((header, _)) = whole {
            return Ok(header);
        }
    }
}

/// Waits for the first record of the client's, without taking any of it.
///
/// # Errors
///
/// The socket's.
pub(super) async fn opening(socket: &TcpStream) -> io::Result<Opening> {
    let mut bytes = [0; 16];
    let mut said = Opening::End;
    look_while(socket, |socket| {
        let (_, found) = recv(socket, &mut bytes, RecvFlags::PEEK)?;
        let front = bytes.get(..found).unwrap_or_default();
        let Some((first, _)) = front.split_first() else { return Ok(true) };
        said = Opening::Tls;
        if *first == HANDSHAKE {
            let Some(&[_, _, _, high, low]) = front.get(..RECORD_HEAD) else { return Ok(false) };
            let length = usize::from(u16::from_be_bytes([high, low]));
            let there = rustix::io::ioctl_fionread(socket)?;
            return Ok(length > RECORD_MAX || there >= length.saturating_add(RECORD_HEAD) as u64);
        }
        match proxy_protocol::is_header(front) {
            Some(true) => said = Opening::Header,
            Some(false) => {}
            None => return Ok(false),
        }
        Ok(true)
    })
    .await?;
    Ok(said)
}

/// Looks at what is there once `enough` of it is, or the peer has ended; how many bytes.
async fn look(socket: &TcpStream, bytes: &mut [u8], enough: impl Fn(usize) -> bool) -> io::Result<usize> {
    let mut found = 0;
    look_while(socket, |socket| {
        let (_, there) = recv(socket, &mut *bytes, RecvFlags::PEEK)?;
        found = there;
        Ok(enough(there) || there == 0)
    })
    .await?;
    Ok(found)
}

/// Calls `done` whenever something has come, until it says so, or no more can come.
async fn look_while(socket: &TcpStream, mut done: impl FnMut(&TcpStream) -> io::Result<bool>) -> io::Result<()> {
    loop {
        let ready = socket.ready(Interest::READABLE).await?;
        let ended = ready.is_read_closed() || ready.is_error();
        // Within `try_io`, or what comes while it is looked would be forgotten with the readiness.
        let looked = socket.try_io(Interest::READABLE, || {
            if done(socket)? || ended { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
        });
        match looked {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Opening, Trouble, header, opening};
    use crate::net::proxy_protocol::{Whom, encode_v2};
    use std::{io::Write as _, net::Shutdown};
    use tokio::{io::AsyncReadExt as _, net::TcpStream};

    /// The two ends of a connection: the one that is looked at, and the one that speaks.
    async fn pair() -> (TcpStream, std::net::TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nodelay(true).unwrap();
        (listener.accept().await.unwrap().0, client)
    }

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    #[test]
    fn a_header_is_taken_and_nothing_behind_it_however_it_is_cut() {
        run(async {
            let bytes = encode_v2("10.0.0.1:5".parse().unwrap(), "10.0.0.2:6".parse().unwrap(), b"id");
            for bytes in [&bytes[..], b"PROXY TCP4 10.0.0.1 10.0.0.2 5 6\r\n"] {
                for cut in 0..=bytes.len() {
                    let (mut socket, mut client) = pair().await;
                    client.write_all(&bytes[..cut]).unwrap();
                    let (found, ()) = tokio::join!(header(&socket), async {
                        tokio::task::yield_now().await;
                        client.write_all(&bytes[cut..]).unwrap();
                        client.write_all(b"behind").unwrap();
                    });
                    let Whom::Client { src, dst } = found.unwrap().whom else { panic!("cut at {cut}") };
                    assert_eq!((src.to_string(), dst.to_string()), ("10.0.0.1:5".into(), "10.0.0.2:6".into()));
                    let mut rest = [0; 6];
                    socket.read_exact(&mut rest).await.unwrap();
                    assert_eq!(&rest, b"behind");
                }
            }
        });
    }

    #[test]
    fn what_is_no_header_is_told_apart() {
        run(async {
            for (bytes, ends, expected) in [
                (&b""[..], true, "Silent"),
                (b"PROXY TC", true, "Cut"),
                (b"\x16\x03\x01", false, "Missing"),
                (b"PING\r\n", false, "Missing"),
                (b"PROXY TCP5\r\n", false, "Wrong(Family)"),
            ] {
                let (socket, mut client) = pair().await;
                client.write_all(bytes).unwrap();
                if ends {
                    client.shutdown(Shutdown::Write).unwrap();
                }
                let trouble: Trouble = header(&socket).await.unwrap_err();
                assert_eq!(format!("{trouble:?}"), expected);
            }
        });
    }

    #[test]
    fn a_first_record_is_waited_for_and_left_where_it_is() {
        run(async {
            let record = [&[22, 3, 1, 0, 40][..], &[7; 40]].concat();
            for size in [1, 4, 5, 44, 45] {
                let (mut socket, mut client) = pair().await;
                let (opened, ()) = tokio::join!(opening(&socket), async {
                    for piece in record.chunks(size) {
                        client.write_all(piece).unwrap();
                        tokio::task::yield_now().await;
                    }
                });
                assert_eq!(opened.unwrap(), Opening::Tls);
                let mut all = [0; 45];
                socket.read_exact(&mut all).await.unwrap();
                assert_eq!(all[..], record, "in pieces of {size}");
            }
        });
    }

    #[test]
    fn whatever_else_a_client_begins_with_is_not_waited_for() {
        run(async {
            for (bytes, ends, expected) in [
                (&b""[..], true, Opening::End),
                (b"\x16\x03", true, Opening::Tls),
                (b"*1\r\n", false, Opening::Tls),
                (b"PING", false, Opening::Tls),
                (b"PROXY ", false, Opening::Header),
                (b"\r\n\r\n\0\r\nQUIT\n", false, Opening::Header),
                (b"\x16\x03\x01\xff\xff", false, Opening::Tls),
            ] {
                let (socket, mut client) = pair().await;
                client.write_all(bytes).unwrap();
                if ends {
                    client.shutdown(Shutdown::Write).unwrap();
                }
                assert_eq!(opening(&socket).await.unwrap(), expected, "{}", bytes.escape_ascii());
            }
        });
    }
}
