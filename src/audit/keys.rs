//! The keys of the chain: Ed25519 (RFC 8032), and what SHA-256 makes of bytes.

use aws_lc_rs::{
    digest::{self, SHA256},
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use std::{fmt, sync::Arc};

/// Bytes of a digest.
pub const DIGEST: usize = 32;
/// Bytes of a signature.
pub const SIGNATURE: usize = 64;
/// What stands before the 32 bytes of an Ed25519 public key in its `SubjectPublicKeyInfo` (RFC 8410, section 4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// SHA-256 of bytes that come in pieces.
#[derive(Clone)]
pub struct Hash(digest::Context);

impl Hash {
    /// Of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self(digest::Context::new(&SHA256))
    }

    /// Of these.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hash = Self::new();
        hash.update(bytes);
        hash
    }

    /// And of these.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest, in lower-case hexadecimal.
    #[must_use]
    pub fn hex(self) -> String {
        hex(self.0.finish().as_ref())
    }
}

impl Default for Hash {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash(…)")
    }
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

/// Why bytes are no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no Ed25519 key")]
pub struct NoKey;

/// The key that checkpoints are signed with. Does not print itself; two are equal when their public halves are.
#[derive(Clone)]
pub struct SignKey {
    pair: Arc<Ed25519KeyPair>,
    public: PublicKey,
}

impl SignKey {
    /// From PKCS#8 (RFC 5958), with or without the public key in it.
    ///
    /// # Errors
    /// It is not PKCS#8, another kind of key, or its public half does not belong to it.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, NoKey> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| NoKey)?;
        let public = PublicKey(pair.public_key().as_ref().try_into().map_err(|_| NoKey)?);
        Ok(Self { pair: Arc::new(pair), public })
    }

    /// The half that everybody may know.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The signature of `bytes`; none where the library refuses, which it has no reason to.
    pub(super) fn sign(&self, bytes: &[u8]) -> Option<[u8; SIGNATURE]> {
        self.pair.try_sign(bytes).ok()?.as_ref().try_into().ok()
    }
}

impl PartialEq for SignKey {
    fn eq(&self, other: &Self) -> bool {
        self.public == other.public
    }
}

impl Eq for SignKey {}

impl fmt::Debug for SignKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignKey({})", self.public.id())
    }
}

/// The key that signatures are checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// From `SubjectPublicKeyInfo` (RFC 8410), what `openssl pkey -pubout` writes.
    ///
    /// # Errors
    /// It is something else, or another kind of key.
    pub fn from_spki(der: &[u8]) -> Result<Self, NoKey> {
        der.strip_prefix(&SPKI).and_then(|key| key.try_into().ok()).map(Self).ok_or(NoKey)
    }

    /// Its name in checkpoints: the first 16 hexadecimal digits of the SHA-256 of its `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn id(&self) -> String {
        let mut id = Hash::of(&[&SPKI[..], &self.0].concat()).hex();
        id.truncate(16);
        id
    }

    /// Whether `signature` was made of `bytes` with the other half.
    #[must_use]
    pub fn verifies(&self, bytes: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(bytes, signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::rand::SystemRandom;

    fn made() -> Vec<u8> {
        Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).unwrap().as_ref().to_vec()
    }

    #[test]
    fn what_one_half_signs_the_other_verifies_and_no_other_key_does() {
        let (key, other) = (SignKey::from_pkcs8(&made()).unwrap(), SignKey::from_pkcs8(&made()).unwrap());
        let signature = key.sign(b"text").unwrap();
        assert!(key.public().verifies(b"text", &signature));
        assert!(!key.public().verifies(b"texT", &signature));
        assert!(!key.public().verifies(b"text", &signature[..63]));
        assert!(!other.public().verifies(b"text", &signature));
        assert_ne!(key, other);
    }

    #[test]
    fn the_public_half_reads_back_from_its_der_and_nothing_else_does() {
        let key = SignKey::from_pkcs8(&made()).unwrap();
        let der = [&SPKI[..], &key.public().0].concat();
        assert_eq!(&PublicKey::from_spki(&der).unwrap(), key.public());
        for bad in [&der[..43], &der[1..], b"", &[der.clone(), vec![0]].concat()] {
            assert_eq!(PublicKey::from_spki(bad), Err(NoKey));
        }
        assert!(SignKey::from_pkcs8(&der).is_err());
    }

    #[test]
    fn a_key_does_not_print_itself() {
        let der = made();
        let key = SignKey::from_pkcs8(&der).unwrap();
        assert_eq!(format!("{key:?}"), format!("SignKey({})", key.public().id()));
    }

    #[test]
    fn the_digest_is_sha256() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Hash::new().hex(), empty);
        let mut pieces = Hash::of(b"a");
        pieces.update(b"bc");
        assert_eq!(pieces.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
