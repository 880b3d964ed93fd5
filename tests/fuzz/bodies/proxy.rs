//! Headers of the PROXY protocol: in pieces as whole, within their bounds, nothing believed that a reference does not read
//! the same, and what is sent is read back.

use super::Cuts;
use ravelin::net::proxy_protocol::{
    Fault, HEADER_MAX, Header, LINE_MAX, Read, SIGNATURE, Whom, encode_v2, is_header, read,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub fn run(data: &[u8]) {
    let [seed, kind, input @ ..] = data else { return };
    check(input, *seed);
    // Behind a right beginning more of the reader is reached.
    match kind % 4 {
        0 => check(&[b"PROXY TCP4 ", input].concat(), *seed),
        1 => check(&[&SIGNATURE[..], input].concat(), *seed),
        2 => check(&binary(0x21, 0x11, input), *seed),
        _ => check(&binary(0x21, 0x21, input), *seed),
    }
    check(&[b"PROXY ", input, b"\r\n"].concat(), *seed);
    send(input);
}

fn binary(command: u8, transport: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&SIGNATURE[..], &[command, transport], &length, body].concat()
}

fn check(input: &[u8], seed: u8) {
    let whole = read(input);
    let mut cuts = Cuts::new(seed, 40);
    let mut end = 0;
    let said = loop {
        let said = read(&input[..end]);
        if said != Ok(Read::More) || end == input.len() {
            break said;
        }
        end = (end + cuts.next()).min(input.len());
    };
    assert_eq!(said, whole, "in pieces");
    match is_header(input) {
        Some(false) => assert_eq!(whole, Ok(Read::Other)),
        Some(true) => assert_ne!(whole, Ok(Read::Other)),
        None => assert_eq!(whole, Ok(Read::More)),
    }
    assert!(whole != Ok(Read::More) || input.len() < HEADER_MAX, "it waits for ever");
    let Ok(Read::Whole { header, len }) = whole else { return };
    assert!(len <= input.len() && len <= if header.version == 1 { LINE_MAX } else { HEADER_MAX });
    assert_eq!(reference(&input[..len]).as_ref(), Some(&header.whom), "{}", input[..len].escape_ascii());
    assert_eq!(read(&input[..len - 1]), Ok(Read::More), "no byte of it could be left out");
    for word in header.tlvs.words() {
        assert!(word.bytes().all(|byte| matches!(byte, b' '..=b'~')) && word.len() < 350, "{word:?}");
    }
}

/// Who a header names, told without the reader's code.
fn reference(header: &[u8]) -> Option<Whom> {
    if let Some(line) = header.strip_prefix(b"PROXY ") {
        let line = std::str::from_utf8(line.strip_suffix(b"\r\n")?).ok();
        let Some(line) = line else {
            // Only what follows UNKNOWN may be anything.
            return header.starts_with(b"PROXY UNKNOWN ").then_some(Whom::Proxy);
        };
        let words: Vec<&str> = line.split(' ').collect();
        if words[0] == "UNKNOWN" {
            return Some(Whom::Proxy);
        }
        let [family, src, dst, src_port, dst_port] = words[..] else { return None };
        let address = |word: &str| match family {
            "TCP4" => word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => word.parse::<Ipv6Addr>().ok().filter(|_| !word.contains('.')).map(IpAddr::V6),
            _ => None,
        };
        let port = |word: &str| word.parse::<u16>().ok().filter(|port| port.to_string() == word);
        return Some(Whom::Client {
            src: SocketAddr::new(address(src)?, port(src_port)?),
            dst: SocketAddr::new(address(dst)?, port(dst_port)?),
        });
    }
    let body = header.strip_prefix(&SIGNATURE)?;
    let [command, transport, high, low, body @ ..] = body else { return None };
    if usize::from(*high) * 256 + usize::from(*low) != body.len() {
        return None;
    }
    let size = match (command, transport) {
        (0x20, _) | (0x21, 0..=2) => return Some(Whom::Proxy),
        (0x21, 0x11) => 4,
        (0x21, 0x21) => 16,
        _ => return None,
    };
    let ip = |bytes: &[u8]| match <[u8; 4]>::try_from(bytes) {
        Ok(v4) => IpAddr::from(v4),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(bytes).unwrap()),
    };
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    (body.len() >= 2 * size + 4).then(|| Whom::Client {
        src: SocketAddr::new(ip(&body[..size]), port(2 * size)),
        dst: SocketAddr::new(ip(&body[size..2 * size]), port(2 * size + 2)),
    })
}

/// What is made of any addresses is read back, and no bit that is changed makes others of them.
fn send(input: &[u8]) {
    let Some((numbers, id)) = input.split_first_chunk::<12>() else { return };
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *numbers;
    let src = SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([e, f]));
    let dst = SocketAddr::new(Ipv4Addr::new(g, h, i, j).into(), u16::from_be_bytes([k, l]));
    let bytes = encode_v2(src, dst, id);
    let Ok(Read::Whole { header: Header { whom, .. }, len }) = read(&bytes) else { panic!("{}", bytes.escape_ascii()) };
    assert_eq!((whom, len), (Whom::Client { src, dst }, bytes.len()));
    let bit = usize::from(a) * 8 % (bytes.len() * 8);
    let mut changed = bytes.clone();
    changed[bit / 8] ^= 1 << (bit % 8);
    match read(&changed) {
        // A LOCAL header's block is not looked at, and a length may leave the checksum out; the addresses are under it.
        Ok(Read::Whole { header, .. }) => assert!([Whom::Proxy, Whom::Client { src, dst }].contains(&header.whom)),
        Ok(Read::More | Read::Other) => {}
        Err(fault) => assert_ne!(fault, Fault::LineEnd),
    }
}
