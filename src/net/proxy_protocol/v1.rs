//! Version 1: one line of text (2.1).

use super::{Fault, Header, LINE_MAX, Read, Tlvs, V1, Whom};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Reads a line whose first word is [`V1`].
pub(super) fn read(input: &[u8]) -> Result<Read, Fault> {
    let within = input.get(..LINE_MAX.min(input.len())).unwrap_or_default();
    let Some(end) = within.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        // A CR in the last place could not be followed by its LF.
        return if input.len() < LINE_MAX.saturating_sub(1) { Ok(Read::More) } else { Err(Fault::LineTooLong) };
    };
    match (within.get(end), within.get(end.saturating_add(1))) {
        (Some(b'\r'), Some(b'\n')) => {}
        (Some(b'\r'), None) if input.len() < LINE_MAX => return Ok(Read::More),
        (Some(b'\r'), None) => return Err(Fault::LineTooLong),
        _ => return Err(Fault::LineEnd),
    }
    let line = within.get(V1.len()..end).unwrap_or_default();
    let header = Header { version: 1, whom: whom(line)?, tlvs: Tlvs::default() };
    Ok(Read::Whole { header, len: end.saturating_add(2) })
}

/// What the line says behind its first word.
fn whom(line: &[u8]) -> Result<Whom, Fault> {
    let (family, rest) = match line.iter().position(|byte| *byte == b' ') {
        Some(at) => line.split_at(at),
        None => (line, &[][..]),
    };
    if family == b"UNKNOWN" {
        // "The receiver must ignore anything presented before the CRLF is found."
        return Ok(Whom::Proxy);
    }
    let address = match family {
        b"TCP4" => v4,
        b"TCP6" => v6,
        _ => return Err(Fault::Family),
    };
    let rest = std::str::from_utf8(rest).map_err(|_| Fault::Address)?;
    let mut words = rest.strip_prefix(' ').ok_or(Fault::Address)?.split(' ');
    let mut next = || words.next().unwrap_or_default();
    let (src, dst) = (address(next()), address(next()));
    let (src_port, dst_port) = (port(next()), port(next()));
    match (src, dst, src_port, dst_port, words.next()) {
        (Some(src), Some(dst), Some(src_port), Some(dst_port), None) => {
            Ok(Whom::Client { src: SocketAddr::new(src, src_port), dst: SocketAddr::new(dst, dst_port) })
        }
        _ => Err(Fault::Address),
    }
}

/// Four numbers without leading zeros; what Rust's own parser takes.
fn v4(word: &str) -> Option<IpAddr> {
    word.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
}

/// Groups of hexadecimal digits with at most one `::`; not the mixed form `::ffff:10.0.0.1`, which the text does not know.
fn v6(word: &str) -> Option<IpAddr> {
    if word.contains('.') {
        return None;
    }
    word.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// One to five digits, no leading zero but in `0`.
fn port(word: &str) -> Option<u16> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    if plain { word.parse().ok() } else { None }
}
