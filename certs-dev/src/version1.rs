//! X.509 version 1, which rcgen does not make: takes a certificate apart, leaves version and extensions out, signs again.

use rcgen::{KeyPair, SigningKey};

use crate::Error;

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
/// `[0]`, the version (RFC 5280, 4.1).
const VERSION: u8 = 0xa0;
/// `[3]`, the extensions.
const EXTENSIONS: u8 = 0xa3;

/// The same certificate without version and extensions, signed with the issuer's key.
pub(crate) fn downgrade(der: &[u8], issuer: &KeyPair) -> Result<Vec<u8>, Error> {
    let certificate = elements(content(der)?)?;
    let [tbs, algorithm, _signature] = certificate.as_slice() else {
        return Err(Error::Encoding);
    };
    let kept: Vec<u8> = elements(content(tbs)?)?
        .into_iter()
        .filter(|element| !matches!(element.first(), Some(&(VERSION | EXTENSIONS))))
        .flatten()
        .copied()
        .collect();
    let tbs = element(SEQUENCE, &kept);
    let mut signature = vec![0]; // no unused bits
    signature.extend(issuer.sign(&tbs)?);
    Ok(element(SEQUENCE, &[tbs.as_slice(), algorithm, &element(BIT_STRING, &signature)].concat()))
}

/// Header length and content length of the element that `der` begins with.
fn measure(der: &[u8]) -> Result<(usize, usize), Error> {
    match *der {
        [_, short @ 0..=0x7f, ..] => Ok((2, usize::from(short))),
        [_, 0x81, length, ..] => Ok((3, usize::from(length))),
        [_, 0x82, high, low, ..] => Ok((4, usize::from(high) << 8 | usize::from(low))),
        _ => Err(Error::Encoding),
    }
}

fn content(der: &[u8]) -> Result<&[u8], Error> {
    let (header, length) = measure(der)?;
    der.get(header..header + length).ok_or(Error::Encoding)
}

fn elements(mut der: &[u8]) -> Result<Vec<&[u8]>, Error> {
    let mut found = Vec::new();
    while !der.is_empty() {
        let (header, length) = measure(der)?;
        let (element, rest) = der.split_at_checked(header + length).ok_or(Error::Encoding)?;
        found.push(element);
        der = rest;
    }
    Ok(found)
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant =
        length.iter().position(|byte| *byte != 0).map_or(&[][..], |at| length.get(at..).unwrap_or_default());
    let mut out = vec![tag];
    match *significant {
        [] => out.push(0),
        [short @ 0..=0x7f] => out.push(short),
        // A length of more than two bytes is no certificate of ours.
        ref long => {
            out.push(if long.len() == 1 { 0x81 } else { 0x82 });
            out.extend(long);
        }
    }
    out.extend(content);
    out
}
