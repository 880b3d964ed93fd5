//! An OCSP response to be stapled (RFC 6960; RFC 6066, 8; RFC 8446, 4.4.2.1): read from a file that somebody else fetches.
//!
//! What is checked when it is loaded: that it is a response and a basic one, that one of its answers is for the listener's
//! own certificate (serial number, the hash of the issuer's name, and of its key where the issuer is at hand: shown with the
//! certificate, or a client CA as well), that it says "good", and that its time has begun.
//! One whose time is over is no error: it is not stapled, which is what a client without stapling sees. Its signature is for
//! the client to check, which has to do so anyway; that it will find it wanting is foreseen here, where the issuer is at hand
//! ([`is_signed`]), and is a warning.

use rustls::crypto::CryptoProvider;
use serde::Serialize;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use x509_parser::{
    asn1_rs::{Any, FromDer, Tag},
    prelude::X509Certificate,
};

use super::{describe::date, server::Flaw};

/// The largest response that is read; rustls sends it in one handshake message.
pub(super) const RESPONSE_BYTES_MAX: u64 = 32 * 1024;

/// The most certificates in a response that are looked at: there is one, or none.
const CERTIFICATES_MAX: usize = 4;

/// How far the responder's clock may be ahead.
const SKEW_SECONDS: i64 = 300;

const BASIC: &str = "1.3.6.1.5.5.7.48.1.1";
const SHA1: &str = "1.3.14.3.2.26";
const SHA256: &str = "2.16.840.1.101.3.4.2.1";

/// What a response says of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OcspInfo {
    /// When the responder knew it.
    pub this_update: String,
    /// Until when it counts.
    pub next_update: Option<String>,
    /// The same, in seconds since 1970.
    #[serde(skip)]
    pub(super) from: i64,
    #[serde(skip)]
    pub(super) until: Option<i64>,
}

impl std::fmt::Display for OcspInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "good since {}, until {}", self.this_update, self.next_update.as_deref().unwrap_or("not said"))
    }
}

/// Reads a response for this certificate, whose issuer may have one of these keys; none where the issuer is not at hand.
pub(super) fn read(der: &[u8], leaf: &X509Certificate<'_>, issuers: &[Vec<u8>], now: i64) -> Result<OcspInfo, Flaw> {
    if der.first() != Some(&0x30) {
        return Err(Flaw::new("is no OCSP response", "it must be DER, as `openssl ocsp -respout FILE` writes it"));
    }
    let answers = answers(der)?;
    let malformed = || unreadable(&"an answer");
    for answer in &answers {
        let mut parts = children(answer).ok_or_else(malformed)?.into_iter();
        let id = parts.next().ok_or_else(malformed)?;
        let status = parts.next().ok_or_else(malformed)?;
        if !is_for(&id, leaf, issuers).ok_or_else(malformed)? {
            continue;
        }
        // CertStatus is a choice of context-specific tags (RFC 6960, 4.2.1).
        match status.tag().0 {
            0 => {}
            1 => {
                return Err(Flaw::new(
                    "says that the certificate is revoked",
                    "clients will refuse it: have a new certificate issued",
                ));
            }
            _ => return Err(Flaw::new("says that the responder does not know the certificate", "ask its issuer's")),
        }
        let from = parts.next().and_then(|time| seconds(&time)).ok_or_else(malformed)?;
        let until = match parts.next() {
            Some(next) if next.tag().0 == 0 && next.header.is_contextspecific() => {
                let inner = children(&next).and_then(|inner| inner.into_iter().next());
                Some(inner.and_then(|time| seconds(&time)).ok_or_else(malformed)?)
            }
            _ => None,
        };
        if from > now.saturating_add(SKEW_SECONDS) {
            return Err(Flaw::new(format!("counts only from {}", date(from)), "check both clocks"));
        }
        return Ok(OcspInfo { this_update: date(from), next_update: until.map(date), from, until });
    }
    Err(Flaw::new(
        format!("does not speak of the certificate {}", super::peer::cut(&leaf.subject().to_string())),
        "ask the responder again, for the certificate that is installed now (`openssl ocsp -issuer … -cert …`)",
    ))
}

/// Whether a response that [`read`] has taken is signed as RFC 6960 (4.2.2.2) demands: by one of these keys of the
/// certificate's issuer, or by somebody whom that has named for it, whose certificate is in the response.
pub(super) fn is_signed(der: &[u8], issuers: &[Vec<u8>], now: i64, provider: &CryptoProvider) -> bool {
    let verified = |key: &[u8], message: &[u8], signature: &[u8]| {
        let algorithms = provider.signature_verification_algorithms.all;
        algorithms.iter().any(|algorithm| algorithm.verify_signature(key, message, signature).is_ok())
    };
    let by_issuer =
        |message: &[u8], signature: &[u8]| issuers.iter().any(|issuer| verified(issuer, message, signature));
    let delegate = |certificate: &Any<'_>, whole: &[u8], data: &[u8], signature: &[u8]| {
        let Ok((_, parsed)) = X509Certificate::from_der(whole) else { return false };
        let named = parsed.extended_key_usage().ok().flatten().is_some_and(|usage| usage.value.ocsp_signing);
        let (from, until) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
        let issued =
            raw_children(certificate.data).and_then(|parts| Some(by_issuer(parts.first()?.0, bits(&parts.get(2)?.1)?)));
        named
            && (from..=until).contains(&now)
            && issued == Some(true)
            && verified(&parsed.public_key().subject_public_key.data, data, signature)
    };
    let judge = || {
        let (_, basic) = Any::from_der(carried(der)?.1).ok()?;
        let parts = raw_children(basic.data)?;
        let (data, signature) = (parts.first()?.0, bits(&parts.get(2)?.1)?);
        if by_issuer(data, signature) {
            return Some(true);
        }
        // certs [0] EXPLICIT SEQUENCE OF Certificate
        let list = children(&parts.get(3)?.1)?.into_iter().next()?;
        let certificates = raw_children(list.data)?;
        Some(certificates.iter().take(CERTIFICATES_MAX).any(|(whole, each)| delegate(each, whole, data, signature)))
    };
    judge().unwrap_or(false)
}

/// The elements of a constructed one's inside, each with all of its bytes.
fn raw_children(inside: &[u8]) -> Option<Vec<(&[u8], Any<'_>)>> {
    let mut rest = inside;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (after, child) = Any::from_der(rest).ok()?;
        found.push((rest.get(..rest.len().checked_sub(after.len())?)?, child));
        rest = after;
    }
    Some(found)
}

/// The bytes of a BIT STRING that has no unused bits.
fn bits<'a>(string: &Any<'a>) -> Option<&'a [u8]> {
    match (string.tag(), string.data) {
        (Tag::BitString, [0, bytes @ ..]) => Some(bytes),
        _ => None,
    }
}

/// responseBytes [0] EXPLICIT SEQUENCE { responseType OID, response OCTET STRING }: what it is, and its bytes.
fn carried(der: &[u8]) -> Option<(String, &[u8])> {
    let (_, outer) = Any::from_der(der).ok()?;
    let explicit = children(children(&outer)?.get(1)?)?.into_iter().next()?;
    let mut inner = children(&explicit)?.into_iter();
    let kind = inner.next()?.oid().ok()?.to_id_string();
    Some((kind, inner.next()?.data))
}

/// `OCSPResponse` → `BasicOCSPResponse` → `ResponseData.responses`.
fn answers(der: &[u8]) -> Result<Vec<Any<'_>>, Flaw> {
    let Ok(([], outer)) = Any::from_der(der) else { return Err(unreadable(&"its outside")) };
    let mut parts = children(&outer).ok_or_else(|| unreadable(&"its outside"))?.into_iter();
    let status =
        parts.next().filter(|status| status.tag() == Tag::Enumerated).ok_or_else(|| unreadable(&"its status"))?;
    if status.data != [0] {
        let word = match status.data {
            [1] => "malformedRequest",
            [2] => "internalError",
            [3] => "tryLater",
            [5] => "sigRequired",
            [6] => "unauthorized",
            _ => "an unknown error",
        };
        return Err(Flaw::new(format!("is an error of the responder: {word}"), "ask it again"));
    }
    let (kind, basic) = carried(der).ok_or_else(|| unreadable(&"what it carries"))?;
    if kind != BASIC {
        return Err(Flaw::new("is no basic OCSP response", None));
    }
    let responses = |basic| {
        let (_, basic) = Any::from_der(basic).ok()?;
        let data = children(&basic)?.into_iter().next()?;
        // The list is the first SEQUENCE after producedAt; version and responder are tagged, extensions come last.
        let list = children(&data)?.into_iter().skip_while(|part| part.tag() != Tag::GeneralizedTime).nth(1)?;
        children(&list)
    };
    responses(basic).ok_or_else(|| unreadable(&"its data"))
}

/// `CertID`: the number, and the issuer's name and key as far as their hash is one that is known here.
fn is_for(id: &Any<'_>, leaf: &X509Certificate<'_>, issuers: &[Vec<u8>]) -> Option<bool> {
    let mut parts = children(id)?.into_iter();
    let algorithm = children(&parts.next()?)?.into_iter().next()?.oid().ok()?.to_id_string();
    let (name, key, serial) = (parts.next()?, parts.next()?, parts.next()?);
    let issuer = leaf.issuer().as_raw();
    let is = |hashed: &[u8], bytes: &[u8]| match algorithm.as_str() {
        SHA1 => Sha1::digest(bytes).as_slice() == hashed,
        SHA256 => Sha256::digest(bytes).as_slice() == hashed,
        _ => true,
    };
    let same_key = issuers.is_empty() || issuers.iter().any(|known| is(key.data, known));
    Some(is(name.data, issuer) && same_key && number(serial.data) == number(leaf.raw_serial()))
}

fn number(bytes: &[u8]) -> &[u8] {
    match bytes {
        [0, rest @ ..] if !rest.is_empty() => rest,
        whole => whole,
    }
}

/// The elements of a constructed one. At most as many as there are bytes.
fn children<'a>(parent: &Any<'a>) -> Option<Vec<Any<'a>>> {
    let mut rest = parent.data;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (after, child) = Any::from_der(rest).ok()?;
        found.push(child);
        rest = after;
    }
    Some(found)
}

/// `GeneralizedTime` as RFC 5280 (4.1.2.5.2) has it: `20261121153000Z`.
fn seconds(time: &Any<'_>) -> Option<i64> {
    if time.tag() != Tag::GeneralizedTime {
        return None;
    }
    let text = std::str::from_utf8(time.data).ok()?.strip_suffix('Z')?;
    let digits = text.len() == 14 && text.bytes().all(|byte| byte.is_ascii_digit());
    let part = |from: usize, to: usize| text.get(from..to)?.parse::<i8>().ok();
    let year = text.get(..4)?.parse::<i16>().ok()?;
    let civil = digits.then(|| {
        jiff::civil::DateTime::new(year, part(4, 6)?, part(6, 8)?, part(8, 10)?, part(10, 12)?, part(12, 14)?, 0).ok()
    })??;
    civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp().as_second())
}

fn unreadable(what: &dyn std::fmt::Display) -> Flaw {
    Flaw::new(format!("is no OCSP response that can be read ({what})"), "fetch it again")
}
