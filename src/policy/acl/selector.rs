//! One selector: commands, keys, channels, databases.

use super::glob;
use crate::{
    command::{
        CommandId, Entry,
        access::{self, Access, Channels, Seen, has_keys},
        bits::flags,
        catalog,
        databases::Reach,
        keys,
    },
    policy::{Subject, databases::keeps_to, rules::Question},
    resp::Words,
};

/// All of something, or what is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope<T> {
    All,
    Listed(Vec<T>),
}

impl<T> Scope<T> {
    pub(super) const NONE: Self = Self::Listed(Vec::new());

    pub(super) const fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }
}

/// A glob pattern, by the shape it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) text: Box<[u8]>,
    shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// No byte of it means anything but itself.
    Literal,
    /// The same, but for one `*` at its end.
    Prefix,
    Glob,
}

impl Pattern {
    pub(super) fn new(text: &[u8]) -> Self {
        let literal = |text: &[u8]| !text.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'));
        let shape = match text {
            text if literal(text) => Shape::Literal,
            [prefix @ .., b'*'] if literal(prefix) => Shape::Prefix,
            _ => Shape::Glob,
        };
        Self { text: text.into(), shape }
    }

    pub(super) fn matches(&self, text: &[u8]) -> bool {
        match self.shape {
            Shape::Literal => *self.text == *text,
            // The empty text matches no pattern but the empty one.
            Shape::Prefix => {
                self.text.split_last().is_some_and(|(_, prefix)| text.starts_with(prefix)) && !text.is_empty()
            }
            Shape::Glob => glob::matches(&self.text, text),
        }
    }
}

/// A pattern and what it lets be done to the keys it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyPattern {
    pub(super) pattern: Pattern,
    pub(super) access: Access,
}

/// `+select|0`: a command that is allowed with this first word only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FirstWord {
    pub(super) id: CommandId,
    pub(super) word: Box<[u8]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selector {
    /// One per row of the catalog.
    pub(super) commands: Box<[bool]>,
    pub(super) firsts: Vec<FirstWord>,
    pub(super) keys: Scope<KeyPattern>,
    pub(super) channels: Scope<Pattern>,
    pub(super) databases: Scope<u32>,
}

impl Selector {
    /// Nothing is allowed, in every database.
    pub(super) fn nothing() -> Self {
        Self {
            commands: vec![false; catalog::len()].into_boxed_slice(),
            firsts: Vec::new(),
            keys: Scope::NONE,
            channels: Scope::NONE,
            databases: Scope::All,
        }
    }

    /// Whether the command is allowed by its name. What Redis takes from everybody (AUTH, HELLO, QUIT, RESET) is.
    pub(super) fn names(&self, id: CommandId) -> bool {
        self.commands.get(id.index()).copied().unwrap_or(false) || id.entry().flags.any(flags::NO_AUTH)
    }

    pub(super) fn may(&self, id: CommandId) -> bool {
        self.names(id) || self.firsts.iter().any(|first| first.id == id)
    }

    /// Whether the command is allowed whatever its words are.
    pub(super) fn allows_all(&self, id: CommandId) -> bool {
        let entry = id.entry();
        self.names(id)
            && (self.keys.is_all() || !has_keys(entry))
            && (self.channels.is_all() || access::channels(entry) == Channels::None)
            && (self.databases.is_all() || entry.reach == Reach::None)
    }

    /// `trusted`: whether scripts are vouched for ([`crate::policy::databases`]).
    pub(super) fn judge(&self, question: &Question<'_>, trusted: bool, scratch: &mut Vec<u32>) -> Result<(), Subject> {
        let Question { id, words, .. } = *question;
        let entry = id.entry();
        if let Scope::Listed(allowed) = &self.databases
            && !keeps_to(question, trusted, |db| allowed.contains(&db))
        {
            return Err(Subject::Database);
        }
        if !self.names(id) {
            let word = words.get(1).unwrap_or_default();
            let named = |first: &FirstWord| first.id == id && first.word.eq_ignore_ascii_case(word);
            if !self.firsts.iter().any(named) {
                return Err(Subject::Command);
            }
        }
        if let Scope::Listed(patterns) = &self.keys
            && has_keys(entry)
        {
            let allowed = |at: usize, needed: Access| {
                let Some(key) = words.get(at) else { return false };
                patterns.iter().any(|known| known.access.covers(needed) && known.pattern.matches(key))
            };
            match keys::only(entry) {
                Some(at) if at < words.declared() => {
                    let needed = entry.keys.first().map_or(Access::BOTH, |spec| access::needed(entry, spec, words));
                    if !allowed(at, needed) {
                        return Err(Subject::Key);
                    }
                }
                Some(_) => {}
                None => match access::each_key(entry, words, scratch, allowed) {
                    Seen::All => {}
                    Seen::No(_) | Seen::Unknown => return Err(Subject::Key),
                },
            }
        }
        if self.reads_foreign_keys(entry, words) {
            return Err(Subject::Key);
        }
        if let Scope::Listed(patterns) = &self.channels {
            let matched = |channel: &[u8]| patterns.iter().any(|pattern| pattern.matches(channel));
            let listed = |channel: &[u8]| patterns.iter().any(|pattern| *pattern.text == *channel);
            let mut names = words.iter().skip(1);
            let allowed = match access::channels(entry) {
                Channels::None => true,
                Channels::First => names.next().is_none_or(matched),
                Channels::All => names.all(matched),
                Channels::Patterns => names.all(listed),
            };
            if !allowed {
                return Err(Subject::Channel);
            }
        }
        Ok(())
    }

    /// Whether the command reads keys that are none of its words, and not every key may be read: BY (with a `*`) and GET
    /// of SORT. Redis refuses these when it runs the command (`sortCommandGeneric`), with an error of its own.
    fn reads_foreign_keys(&self, entry: &Entry, words: &Words<'_>) -> bool {
        let Scope::Listed(patterns) = &self.keys else { return false };
        if !keys::makes_keys(entry, words) {
            return false;
        }
        !patterns.iter().any(|known| known.access.covers(Access::READ) && *known.pattern.text == *b"*")
    }
}
