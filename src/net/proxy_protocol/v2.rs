//! Version 2: the binary header (2.2).

use super::{Fault, HEADER_MAX, Header, Read, SIGNATURE, Tlvs, Whom, crc::crc32c, tlv};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Signature, version and command, family and protocol, length.
pub(super) const FIXED: usize = 16;
pub(super) const LOCAL: u8 = 0x20;
pub(super) const PROXY: u8 = 0x21;
pub(super) const TCP4: u8 = 0x11;
pub(super) const TCP6: u8 = 0x21;
/// `AF_UNSPEC` with any protocol of the text.
const UNSPECIFIED: std::ops::RangeInclusive<u8> = 0x00..=0x02;

/// Reads a header that begins with [`SIGNATURE`].
pub(super) fn read(input: &[u8]) -> Result<Read, Fault> {
    let Some(&command) = input.get(SIGNATURE.len()) else { return Ok(Read::More) };
    if !matches!(command, LOCAL | PROXY) {
        return Err(Fault::Command(command));
    }
    let Some(&transport) = input.get(13) else { return Ok(Read::More) };
    if command == PROXY && !matches!(transport, TCP4 | TCP6) && !UNSPECIFIED.contains(&transport) {
        return Err(Fault::Transport(transport));
    }
    let Some(length) = input.get(14..FIXED).and_then(|bytes| <[u8; 2]>::try_from(bytes).ok()) else {
        return Ok(Read::More);
    };
    let len = FIXED.saturating_add(usize::from(u16::from_be_bytes(length)));
    if len > HEADER_MAX {
        return Err(Fault::HeaderTooLong(len));
    }
    let Some(whole) = input.get(..len) else { return Ok(Read::More) };
    let body = whole.get(FIXED..).unwrap_or_default();
    let (whom, extensions) = match (command, transport) {
        (PROXY, TCP4) => {
            let (addresses, rest) = body.split_first_chunk::<12>().ok_or(Fault::Short)?;
            let [a, b, c, d, e, f, g, h, ports @ ..] = *addresses;
            (client(Ipv4Addr::new(a, b, c, d), Ipv4Addr::new(e, f, g, h), ports), Some(rest))
        }
        (PROXY, TCP6) => {
            let (src, rest) = body.split_first_chunk::<16>().ok_or(Fault::Short)?;
            let (dst, rest) = rest.split_first_chunk::<16>().ok_or(Fault::Short)?;
            let (ports, rest) = rest.split_first_chunk::<4>().ok_or(Fault::Short)?;
            (client(Ipv6Addr::from(*src), Ipv6Addr::from(*dst), *ports), Some(rest))
        }
        // "The receiver must accept this connection as valid and must use the real connection endpoints and discard the
        // protocol block including the family which is ignored."
        _ => (Whom::Proxy, None),
    };
    let tlvs = match extensions {
        Some(bytes) => extend(whole, bytes)?,
        None => Tlvs::default(),
    };
    Ok(Read::Whole { header: Header { version: 2, whom, tlvs }, len })
}

fn client(src: impl Into<IpAddr>, dst: impl Into<IpAddr>, ports: [u8; 4]) -> Whom {
    let [a, b, c, d] = ports;
    Whom::Client {
        src: SocketAddr::new(src.into(), u16::from_be_bytes([a, b])),
        dst: SocketAddr::new(dst.into(), u16::from_be_bytes([c, d])),
    }
}

/// The extensions in `bytes`, the end of `whole`, whose checksum is verified where they hold one.
fn extend(whole: &[u8], bytes: &[u8]) -> Result<Tlvs, Fault> {
    let mut tlvs = Tlvs::default();
    let mut checksum = None;
    for extension in tlv::each(bytes) {
        let (kind, value) = extension?;
        if kind != tlv::CRC32C {
            tlvs.take(kind, value)?;
            continue;
        }
        let value = <[u8; 4]>::try_from(value).map_err(|_| Fault::Checksum)?;
        if checksum.replace(value).is_some() {
            return Err(Fault::Checksum);
        }
    }
    if let Some(stated) = checksum {
        let at = tlv::each(bytes)
            .scan(whole.len().saturating_sub(bytes.len()), |end, extension| {
                let (kind, value) = extension.ok()?;
                *end = end.saturating_add(tlv::HEAD).saturating_add(value.len());
                Some((kind, end.saturating_sub(value.len())))
            })
            .find_map(|(kind, at)| (kind == tlv::CRC32C).then_some(at))
            .unwrap_or(usize::MAX);
        // Over the whole header, the checksum's own four bytes taken for zeros (2.2.4).
        let blanked = |index: usize| (at..at.saturating_add(4)).contains(&index);
        let found = crc32c(whole.iter().enumerate().map(|(index, byte)| if blanked(index) { 0 } else { *byte }));
        if found != u32::from_be_bytes(stated) {
            return Err(Fault::Checksum);
        }
    }
    Ok(tlvs)
}
