//! What a command does to each of its keys, and which of its words are channels.
//!
//! A key specification says whether the command looks at a value (*access*) and whether it changes one (*update*, *insert*,
//! *delete*); of that Redis' ACLs make a need to read and a need to write (`ACLSelectorCheckKey`). What only asks whether a
//! key exists, of which type or how large it is, needs neither: any pattern that holds for the key is enough.
//!
//! Two commands need more or less by their options, and are read as Redis reads them (`setGetKeys`, `bitfieldGetKeys`):
//! SET with GET reads too, BITFIELD with nothing but GET only reads. Where an option is one that Redis 7.0 does not know (a
//! later SET compares first), or has not arrived, the command is taken to need both.

use super::keys::{self, KeySpec, Layout, Stretch};
use super::{Entry, bits::key_flags as k};
use crate::resp::Words;

/// What is needed of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access(u8);

impl Access {
    /// That it may be named.
    pub const NONE: Self = Self(0);
    /// Its value is looked at.
    pub const READ: Self = Self(1);
    /// Its value is changed.
    pub const WRITE: Self = Self(2);
    /// Both.
    pub const BOTH: Self = Self(3);

    /// What flags of a key specification come to.
    #[must_use]
    pub const fn of(flags: u32) -> Self {
        let read = if flags & k::ACCESS != 0 { Self::READ.0 } else { 0 };
        let write = if flags & (k::UPDATE | k::INSERT | k::DELETE) != 0 { Self::WRITE.0 } else { 0 };
        Self(read | write)
    }

    /// Whether this is at least `needed`.
    #[must_use]
    pub const fn covers(self, needed: Self) -> bool {
        self.0 & needed.0 == needed.0
    }

    /// This and `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What came of looking at a request's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Every key was visited.
    All,
    /// The visitor said no to the key at this index.
    No(usize),
    /// The keys cannot be told, or the request is one that every server refuses for the number of its keys.
    Unknown,
}

/// Calls `visit` with the index of each key and what is needed of it, until it says no.
///
/// `words` is a whole request, or one that is [`keys::settled`]. `scratch` is only written to.
pub fn each_key(
    entry: &Entry,
    words: &Words<'_>,
    scratch: &mut Vec<u32>,
    mut visit: impl FnMut(usize, Access) -> bool,
) -> Seen {
    match entry.layout {
        Layout::Specified => {
            for spec in entry.keys {
                match keys::stretch(spec, words) {
                    Stretch::Known { first, last, step } => {
                        let needed = needed(entry, spec, words);
                        let last = last.min(words.whole().saturating_sub(1));
                        if let Some(at) = (first..=last).step_by(step).find(|at| !visit(*at, needed)) {
                            return Seen::No(at);
                        }
                    }
                    Stretch::None => {}
                    Stretch::Unread | Stretch::Undeterminable(_) => return Seen::Unknown,
                }
            }
            Seen::All
        }
        Layout::Sort
        | Layout::SortReadOnly
        | Layout::Migrate
        | Layout::GeoRadius(_)
        | Layout::Streams
        | Layout::GroupStreams => {
            if keys::locate(entry, words, scratch).is_err() {
                return Seen::Unknown;
            }
            let source = entry.keys.first().map_or(Access::BOTH, |spec| Access::of(spec.flags));
            for (nth, at) in scratch.iter().enumerate() {
                let destination = nth > 0 && matches!(entry.layout, Layout::Sort | Layout::GeoRadius(_));
                let needed = if destination { Access::WRITE } else { source };
                let at = *at as usize;
                if !visit(at, needed) {
                    return Seen::No(at);
                }
            }
            Seen::All
        }
    }
}

/// What is needed of the keys of one specification.
#[must_use]
pub fn needed(entry: &Entry, spec: &KeySpec, words: &Words<'_>) -> Access {
    if spec.flags & k::VARIABLE_FLAGS == 0 { Access::of(spec.flags) } else { variable(entry, words) }
}

/// Whether words behind the key change what is needed of it.
#[must_use]
pub fn varies(entry: &Entry) -> bool {
    entry.keys.iter().any(|spec| spec.flags & k::VARIABLE_FLAGS != 0)
}

fn variable(entry: &Entry, words: &Words<'_>) -> Access {
    if words.whole() < words.declared() {
        return Access::BOTH;
    }
    match entry.full_name {
        "set" => set(words),
        "bitfield" => bitfield(words),
        "delex" if words.declared() == 2 => Access::WRITE,
        _ => Access::BOTH,
    }
}

/// `SET key value [NX|XX] [GET] [EX seconds|PX ms|EXAT time|PXAT time|KEEPTTL]`.
fn set(words: &Words<'_>) -> Access {
    const ALONE: [&str; 3] = ["NX", "XX", "KEEPTTL"];
    const VALUED: [&str; 4] = ["EX", "PX", "EXAT", "PXAT"];
    let is = |word: &[u8], options: &[&str]| options.iter().any(|option| keys::word_is(word, option));
    let mut rest = words.iter().skip(3);
    while let Some(word) = rest.next() {
        if is(word, &VALUED) {
            // Redis takes a GET even here for the option, as long as nobody has parsed the command.
            if rest.next().is_some_and(|value| is(value, &["GET"])) {
                return Access::BOTH;
            }
        } else if !is(word, &ALONE) {
            return Access::BOTH;
        }
    }
    Access::WRITE
}

/// `BITFIELD key [GET encoding offset | [OVERFLOW WRAP|SAT|FAIL] SET|INCRBY encoding offset value …]`.
fn bitfield(words: &Words<'_>) -> Access {
    let mut at = 2;
    while at < words.whole() {
        let left = words.whole().saturating_sub(at + 1);
        let word = words.get(at).unwrap_or_default();
        at += if keys::word_is(word, "GET") && left >= 2 {
            3
        } else if keys::word_is(word, "OVERFLOW") && left >= 1 {
            2
        } else {
            return Access::BOTH;
        };
    }
    Access::READ
}

/// Which words of a command are channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// None that an ACL asks about (UNSUBSCRIBE and PUBSUB name channels too).
    None,
    /// The first word behind the name: PUBLISH, SPUBLISH.
    First,
    /// Every word behind the name: SUBSCRIBE, SSUBSCRIBE.
    All,
    /// Every word behind the name is a pattern: PSUBSCRIBE.
    Patterns,
}

/// Which words of this command are channels.
#[must_use]
pub fn channels(entry: &Entry) -> Channels {
    match entry.full_name {
        "publish" | "spublish" => Channels::First,
        "subscribe" | "ssubscribe" => Channels::All,
        "psubscribe" => Channels::Patterns,
        _ => Channels::None,
    }
}

/// Whether the command has keys that an ACL asks about (channels of a cluster have key specifications too).
#[must_use]
pub fn has_keys(entry: &Entry) -> bool {
    entry.keys.iter().any(|spec| spec.flags & k::NOT_KEY == 0)
}
