//! What may be said of a command's arguments beyond its keys: their values, or a keyed hash of the keys.
//!
//! *Values* are kept in the slot, so what is too long is cut when the command is accepted. Which words are secrets is
//! the command table's to say ([`crate::command::secrets`]), before anything is kept: a secret never reaches a slot.
//!
//! *Hashes* are HMAC-SHA-256 (RFC 2104) under a key that only the process knows, cut to 16 bytes: equal keys can be
//! joined, in one stream and across all streams under the same key, and nobody without it can try out guesses. An
//! auditor who has it checks one with `openssl dgst -sha256 -hmac`.

use super::{filter::Commands, record::KeyList};
use crate::command::CommandId;
use aws_lc_rs::hmac;
use std::fmt;

/// Most words of one command that a record shows.
pub const WORDS_MAX: usize = 64;
/// Most bytes of one of them.
pub const BYTES_MAX: u16 = 1024;
/// Bytes of a hash that are shown.
pub const HASH_BYTES: usize = 16;
/// Least bytes of a hash key.
pub const KEY_BYTES_MIN: usize = 32;

/// Whose and which commands' values are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values {
    /// Roles by name; empty for all.
    pub roles: Vec<String>,
    /// Commands; `None` for all.
    pub commands: Option<Commands>,
    /// Most bytes of one word, at most [`BYTES_MAX`].
    pub bytes_max: u16,
}

impl Values {
    /// Whether a role's are.
    #[must_use]
    pub fn are_kept_of(&self, role: &str) -> bool {
        self.roles.is_empty() || self.roles.iter().any(|named| named == role)
    }

    /// Whether a command's are.
    #[must_use]
    pub fn are_kept_in(&self, id: CommandId) -> bool {
        self.commands.as_ref().is_none_or(|commands| commands.has(id))
    }
}

/// The key that keys are hashed with. Compared and printed by its fingerprint only.
#[derive(Clone)]
pub struct HashKey {
    key: hmac::Key,
    fingerprint: [u8; 4],
}

impl HashKey {
    /// A key of these bytes; `None` if there are fewer than [`KEY_BYTES_MIN`].
    #[must_use]
    pub fn new(secret: &[u8]) -> Option<Self> {
        if secret.len() < KEY_BYTES_MIN {
            return None;
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let tag = hmac::sign(&key, b"ravelin audit hash key");
        let fingerprint = tag.as_ref().first_chunk().copied()?;
        Some(Self { key, fingerprint })
    }

    /// The hash of a key.
    #[must_use]
    pub fn hash(&self, bytes: &[u8]) -> [u8; HASH_BYTES] {
        let tag = hmac::sign(&self.key, bytes);
        tag.as_ref().first_chunk().copied().unwrap_or_default()
    }
}

impl PartialEq for HashKey {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for HashKey {}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HashKey(fingerprint {:02x?})", self.fingerprint)
    }
}

/// A command's words as a slot keeps them: as [`KeyList`] keeps keys, and a mark for a secret.
#[derive(Clone, Copy, Debug)]
pub struct ArgumentList<'a> {
    /// The encoded words.
    pub bytes: &'a [u8],
    /// Words there are, the name and subcommand left out.
    pub total: u32,
}

impl<'a> ArgumentList<'a> {
    /// Stands for the length of a word that is a secret; no word is kept that long.
    const SECRET: u16 = u16::MAX;

    /// Appends one word to a slot's encoding, cut to `max` bytes; `None` for a secret.
    pub fn push(out: &mut Vec<u8>, word: Option<&[u8]>, max: u16) {
        match word {
            Some(word) => KeyList::push(out, word, usize::from(max.min(BYTES_MAX))),
            None => out.extend_from_slice(&Self::SECRET.to_le_bytes()),
        }
    }

    /// The words: of each whether it was cut; `None` for a secret. Ends early where the encoding does.
    pub fn iter(self) -> impl Iterator<Item = Option<(&'a [u8], bool)>> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            let (head, tail) = rest.split_first_chunk::<2>()?;
            if u16::from_le_bytes(*head) == Self::SECRET {
                rest = tail;
                return Some(None);
            }
            let (word, cut, tail) = KeyList::split(rest)?;
            rest = tail;
            Some(Some((word, cut)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_as_they_were_kept_and_secrets_as_nothing() {
        let mut kept = Vec::new();
        let long = [b'x'; 2000];
        for word in [Some(&b"a"[..]), None, Some(b""), Some(&long), None] {
            ArgumentList::push(&mut kept, word, 10);
        }
        let list = ArgumentList { bytes: &kept, total: 5 };
        let words: Vec<_> = list.iter().collect();
        assert_eq!(words, [Some((&b"a"[..], false)), None, Some((b"", false)), Some((&b"xxxxxxxxxx"[..], true)), None]);
        let mut longest = Vec::new();
        ArgumentList::push(&mut longest, Some(&[b'y'; 40_000]), u16::MAX);
        assert_eq!(longest.len(), 2 + usize::from(BYTES_MAX));
    }

    #[test]
    fn a_hash_is_what_openssl_says_and_the_key_is_never_printed() {
        // printf %s user:17 | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
        let key = HashKey::new(b"0123456789abcdef0123456789abcdef").unwrap();
        let hash: String = key.hash(b"user:17").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, "7b793a230fff75861096a6125fcbe8ad");
        assert!(!format!("{key:?}").contains("0123456789"));
        assert_eq!(HashKey::new(&[b'k'; KEY_BYTES_MIN - 1]), None);
        assert_ne!(HashKey::new(&[b'k'; 32]), HashKey::new(&[b'l'; 32]));
    }
}
