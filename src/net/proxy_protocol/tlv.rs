//! Extensions of version 2 (2.2): who they are is the proxy's word, what is in them often its client's. So they are
//! shown, never believed: cut, counted, and in visible ASCII or else in hexadecimal.

use super::Fault;
use std::fmt::Write as _;

/// Most bytes of one value that are kept; a longer one is cut, and says so.
pub const VALUE_MAX: usize = 128;
/// Most extensions that are kept, those within `PP2_TYPE_SSL` among them.
pub(super) const TLVS_MAX: usize = 16;
/// Kind and length of one.
pub(super) const HEAD: usize = 3;
/// `PP2_TYPE_CRC32C`.
pub(super) const CRC32C: u8 = 0x03;
/// `PP2_TYPE_UNIQUE_ID`.
pub(super) const UNIQUE_ID: u8 = 0x05;
const NOOP: u8 = 0x04;
const SSL: u8 = 0x20;

/// What the extensions of a header say, as words for its record: `authority=cache.example`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tlvs(Vec<String>);

impl Tlvs {
    /// One string each, in the order of the header.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.0
    }

    /// Keeps one more.
    pub(super) fn take(&mut self, kind: u8, value: &[u8]) -> Result<(), Fault> {
        match kind {
            // "The payload must be ignored."
            NOOP => Ok(()),
            SSL => self.take_ssl(value),
            _ => {
                self.keep(&name(kind), value);
                Ok(())
            }
        }
    }

    /// `pp2_tlv_ssl`: a set of bits, the result of the verification, and extensions of its own.
    fn take_ssl(&mut self, value: &[u8]) -> Result<(), Fault> {
        let (&[client, ref verify @ ..], rest) = value.split_first_chunk::<5>().ok_or(Fault::Tlv)?;
        // PP2_CLIENT_SSL, PP2_CLIENT_CERT_CONN or _CERT_SESS, and 0 for a certificate that was verified.
        let verified = client & 0x06 != 0 && u32::from_be_bytes(*verify) == 0;
        let certificate = match (client & 0x06 != 0, verified) {
            (true, true) => "verified",
            (true, false) => "not-verified",
            (false, _) => "none",
        };
        self.keep("tls", if client & 0x01 != 0 { b"yes" } else { b"no" });
        self.keep("tls_client_certificate", certificate.as_bytes());
        for extension in each(rest) {
            let (kind, value) = extension?;
            self.keep(&name_in_ssl(kind), value);
        }
        Ok(())
    }

    fn keep(&mut self, name: &str, value: &[u8]) {
        if self.0.len() >= TLVS_MAX {
            return;
        }
        let kept = value.get(..VALUE_MAX.min(value.len())).unwrap_or_default();
        let mut word = format!("{name}=");
        if kept.iter().all(|byte| matches!(byte, b' '..=b'~')) {
            word.extend(kept.iter().copied().map(char::from));
        } else {
            word.push_str("hex:");
            for byte in kept {
                // A string takes whatever is written to it.
                let _ = write!(word, "{byte:02x}");
            }
        }
        if kept.len() < value.len() {
            let _ = write!(word, " (cut, {} bytes)", value.len());
        }
        self.0.push(word);
    }
}

/// The extensions in `bytes`, one after the other.
pub(super) fn each(mut bytes: &[u8]) -> impl Iterator<Item = Result<(u8, &[u8]), Fault>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let Some((&[kind, high, low], rest)) = bytes.split_first_chunk::<HEAD>() else {
            bytes = &[];
            return Some(Err(Fault::Tlv));
        };
        let Some((value, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low]))) else {
            bytes = &[];
            return Some(Err(Fault::Tlv));
        };
        bytes = rest;
        Some(Ok((kind, value)))
    })
}

/// What records call it.
fn name(kind: u8) -> String {
    match kind {
        0x01 => "alpn".to_owned(),
        0x02 => "authority".to_owned(),
        UNIQUE_ID => "unique_id".to_owned(),
        0x30 => "netns".to_owned(),
        // Clouds number their own from 0xe0 to 0xef: 0xea is AWS', 0xee Azure's, 0xe0 Google's.
        other => format!("tlv_{other:02x}"),
    }
}

/// The same within `PP2_TYPE_SSL`.
fn name_in_ssl(kind: u8) -> String {
    match kind {
        0x21 => "tls_version".to_owned(),
        0x22 => "tls_cn".to_owned(),
        0x23 => "tls_cipher".to_owned(),
        0x24 => "tls_signature".to_owned(),
        0x25 => "tls_key".to_owned(),
        other => format!("tls_tlv_{other:02x}"),
    }
}
