//! Pins: a certificate or its key known by SHA-256, in the two notations that people have at hand.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};
use x509_parser::prelude::{FromDer, X509Certificate};

/// What the certificate at the other end must be.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pin {
    /// The SHA-256 of the whole certificate: hexadecimal, with colons or without, as
    /// `openssl x509 -noout -fingerprint -sha256` prints it. A renewed certificate is another.
    Certificate([u8; 32]),
    /// The SHA-256 of its public key (`SubjectPublicKeyInfo`): `sha256//` and base64, as curl's `--pinnedpubkey` takes it
    /// (RFC 7469, 2.4). A certificate renewed with the same key keeps it.
    Key([u8; 32]),
}

/// The prefix of a key's pin.
const KEY: &str = "sha256//";

impl Pin {
    /// Both pins of a certificate; of one that cannot be read there is no key.
    #[must_use]
    pub fn of(der: &[u8]) -> (Self, Option<Self>) {
        let key = X509Certificate::from_der(der).ok().map(|(_, found)| Self::Key(sha256(found.public_key().raw)));
        (Self::Certificate(sha256(der)), key)
    }

    /// Whether this is the certificate that is meant.
    #[must_use]
    pub fn fits(&self, certificate: &CertificateDer<'_>) -> bool {
        let (whole, key) = Self::of(certificate);
        *self == whole || Some(*self) == key
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// What is no pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "is no pin: 64 hexadecimal digits (openssl x509 -noout -fingerprint -sha256), or sha256// and the base64 of a key's SHA-256"
)]
pub struct NoPin;

impl FromStr for Pin {
    type Err = NoPin;

    fn from_str(text: &str) -> Result<Self, NoPin> {
        if let Some(text) = text.strip_prefix(KEY) {
            let bytes = STANDARD.decode(text).map_err(|_| NoPin)?;
            return Ok(Self::Key(bytes.try_into().map_err(|_| NoPin)?));
        }
        let digits: Vec<u8> = match text.len() {
            64 => text.bytes().collect(),
            // `AB:CD:…`: a colon after every second digit and nowhere else.
            95 if text.bytes().skip(2).step_by(3).all(|byte| byte == b':') => {
                text.bytes().filter(|byte| *byte != b':').collect()
            }
            _ => return Err(NoPin),
        };
        let mut out = [0; 32];
        if digits.len() != 64 {
            return Err(NoPin);
        }
        for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| NoPin)?;
            if !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(NoPin);
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NoPin)?;
        }
        Ok(Self::Certificate(out))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(digest) => digest.iter().enumerate().try_for_each(|(at, byte)| {
                let colon = if at == 0 { "" } else { ":" };
                write!(f, "{colon}{byte:02X}")
            }),
            Self::Key(digest) => write!(f, "{KEY}{}", STANDARD.encode(digest)),
        }
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::{NoPin, Pin};
    use rustls::pki_types::CertificateDer;

    #[test]
    fn both_notations_are_read_as_they_are_written() {
        let issued = certs_dev::Pki::new().unwrap().server(&["localhost"]).unwrap();
        let (whole, key) = Pin::of(&issued.der);
        let der = CertificateDer::from(issued.der.clone());
        for pin in [whole, key.unwrap()] {
            let again: Pin = pin.to_string().parse().unwrap();
            assert_eq!(again, pin);
            assert!(again.fits(&der));
        }
        let bare = whole.to_string().replace(':', "").to_ascii_lowercase();
        assert_eq!(bare.parse(), Ok(whole));
    }

    #[test]
    fn what_is_nearly_a_pin_is_none() {
        let digits = "ab".repeat(32);
        let colons = vec!["ab"; 32].join(":");
        assert!(digits.parse::<Pin>().is_ok() && colons.parse::<Pin>().is_ok());
        for text in [
            "",
            &digits[1..],
            &digits.replace('a', "g"),
            &digits.replace("ab", "+b"),
            &colons.replace("ab:", ":ab"),
            &colons.replace(':', " "),
            "sha256//",
            "sha256//AAAA",
            "sha256//!",
            &format!("sha256:{digits}"),
        ] {
            assert_eq!(text.parse::<Pin>(), Err(NoPin), "{text}");
        }
    }

    #[test]
    fn another_certificate_of_the_same_name_does_not_fit() {
        let pki = certs_dev::Pki::new().unwrap();
        let (one, other) = (pki.server(&["localhost"]).unwrap(), pki.server(&["localhost"]).unwrap());
        let (whole, key) = Pin::of(&one.der);
        let other = CertificateDer::from(other.der);
        assert!(!whole.fits(&other) && !key.unwrap().fits(&other));
    }
}
