//! Version 2 towards an upstream that wants it: who the client is, what it connected to, the connection's name in
//! records, and a checksum.

use super::{
    SIGNATURE,
    crc::crc32c,
    tlv::{CRC32C, UNIQUE_ID},
    v2::{FIXED, LOCAL, PROXY, TCP4, TCP6},
};
use std::net::{IpAddr, SocketAddr};

/// Longest unique id (2.2.5).
const UNIQUE_ID_MAX: usize = 128;

/// The header for a client at `src` that connected to `dst`. `id` names the connection on both sides, as
/// `PP2_TYPE_UNIQUE_ID`; what is longer than 128 bytes is cut. Addresses of two families are both written as IPv6.
#[must_use]
pub fn v2(src: SocketAddr, dst: SocketAddr, id: &[u8]) -> Vec<u8> {
    let (from, to) = (src.ip().to_canonical(), dst.ip().to_canonical());
    let mut body = Vec::with_capacity(64);
    let transport = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            body.extend(from.octets());
            body.extend(to.octets());
            TCP4
        }
        _ => {
            for address in [from, to] {
                let address = match address {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                };
                body.extend(address.octets());
            }
            TCP6
        }
    };
    body.extend(src.port().to_be_bytes());
    body.extend(dst.port().to_be_bytes());
    if !id.is_empty() {
        extend(&mut body, UNIQUE_ID, id.get(..UNIQUE_ID_MAX.min(id.len())).unwrap_or_default());
    }
    whole(PROXY, transport, body)
}

/// The header for a connection of the proxy's own, such as `ravelin check` makes.
#[must_use]
pub fn local() -> Vec<u8> {
    whole(LOCAL, 0, Vec::new())
}

fn extend(body: &mut Vec<u8>, kind: u8, value: &[u8]) {
    body.push(kind);
    // No value here is as long as that.
    body.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
    body.extend_from_slice(value);
}

fn whole(command: u8, transport: u8, mut body: Vec<u8>) -> Vec<u8> {
    extend(&mut body, CRC32C, &[0; 4]);
    let mut header = Vec::with_capacity(FIXED.saturating_add(body.len()));
    header.extend_from_slice(&SIGNATURE);
    header.extend([command, transport]);
    header.extend(u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes());
    header.append(&mut body);
    let checksum = crc32c(header.iter().copied());
    header.truncate(header.len().saturating_sub(4));
    header.extend(checksum.to_be_bytes());
    header
}
