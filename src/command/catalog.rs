//! The table of what is known of each command, and the lookup in it.
//!
//! [`super::table`] is what Redis 7.0.15 says of itself, and what Redis 8.6 and Valkey 9.1 say of the commands that came
//! later; [`super::facts`] is what was read in their sources. The two are joined here at compile time: a command without
//! a hand-written row is a compile error, not a gap.

use super::databases;
use super::facts::{FACTS, Fact};
use super::keys::{self, KeySpec};
use super::secrets::Secrets;
use super::strict;
use super::table::ROWS;
use super::{Categories, CommandId, Effect, Entry, Flags, Resolved};
use crate::resp::Words;

/// Longest name a command or subcommand may have. Redis has no limit; no command it has ever had comes near this one.
pub const NAME_MAX: usize = 64;

/// One generated row.
#[derive(Clone, Copy)]
pub(super) struct Row {
    name: &'static str,
    sub: Option<&'static str>,
    full_name: &'static str,
    container: bool,
    arity: i16,
    flags: u32,
    categories: u32,
    keys: &'static [KeySpec],
    since: Option<&'static str>,
}

/// Writes a generated row on one line.
#[expect(clippy::too_many_arguments, reason = "one argument per column of the generated table")]
pub(super) const fn row(
    name: &'static str,
    sub: Option<&'static str>,
    full_name: &'static str,
    container: bool,
    arity: i16,
    flags: u32,
    categories: u32,
    keys: &'static [KeySpec],
) -> Row {
    Row { name, sub, full_name, container, arity, flags, categories, keys, since: None }
}

impl Row {
    /// Marks a row as one that the reference server does not know.
    pub(super) const fn since(mut self, releases: &'static str) -> Self {
        self.since = Some(releases);
        self
    }
}

const COUNT: usize = ROWS.len();

#[expect(clippy::indexing_slicing, reason = "evaluated at compile time only")]
static ENTRIES: [Entry; COUNT] = {
    assert!(FACTS.len() == COUNT, "facts.rs and table.rs differ in length: a command has no hand-written row");
    let mut entries = [const { join(&ROWS[0], &FACTS[0]) }; COUNT];
    let mut at = 0;
    while at < COUNT {
        entries[at] = join(&ROWS[at], &FACTS[at]);
        at += 1;
    }
    entries
};

/// One row of the catalog out of its two halves. Fails to compile where they are not the same command's.
const fn join(row: &Row, fact: &Fact) -> Entry {
    assert!(same(row.full_name.as_bytes(), fact.full_name.as_bytes()), "facts.rs and table.rs differ in order");
    assert!(!fact.source.is_empty(), "a hand-written row names no source");
    let rules = strict::rules_of(row.full_name);
    let deciding = !rules.is_empty() || keys::depends_on_words(fact.layout, row.keys);
    Entry {
        name: row.name,
        sub: row.sub,
        full_name: row.full_name,
        container: row.container,
        arity: row.arity,
        flags: Flags(row.flags),
        categories: Categories(row.categories),
        keys: row.keys,
        layout: fact.layout,
        effect: fact.effect,
        begin: fact.begin,
        secrets: fact.secrets,
        reach: databases::reach(row.full_name, fact.effect, fact.layout, row.keys, row.categories),
        rules,
        deciding,
        simple: simple(row, fact, deciding),
        since: row.since,
        source: fact.source,
    }
}

/// See [`Entry::simple`].
const fn simple(row: &Row, fact: &Fact, deciding: bool) -> Option<usize> {
    let plain = matches!(fact.effect, Effect::Plain) && !fact.begin && matches!(fact.secrets, Secrets::None);
    if !plain || deciding || row.sub.is_some() || row.container {
        return None;
    }
    if row.keys.is_empty() && matches!(fact.layout, keys::Layout::Specified) {
        return Some(0);
    }
    keys::only_of(fact.layout, row.keys)
}

#[expect(clippy::indexing_slicing, reason = "evaluated at compile time only")]
pub(super) const fn same(left: &[u8], right: &[u8]) -> bool {
    let mut at = 0;
    while at < left.len() && at < right.len() && left[at] == right[at] {
        at += 1;
    }
    at == left.len() && at == right.len()
}

/// The row of a command.
#[must_use]
#[expect(clippy::indexing_slicing, reason = "a CommandId is made by this module alone, from positions in the table")]
pub fn entry(id: CommandId) -> &'static Entry {
    &ENTRIES[id.index()]
}

/// How many rows there are.
#[must_use]
pub const fn len() -> usize {
    COUNT
}

/// Every row, sorted by name, subcommands behind their container.
pub fn iter() -> impl Iterator<Item = (CommandId, &'static Entry)> {
    ENTRIES.iter().zip(0..).map(|(entry, at)| (CommandId(at), entry))
}

/// The row called `name` as Redis writes it in ACL rules (`get`, `config|set`), in any case.
#[must_use]
pub fn by_full_name(name: &str) -> Option<CommandId> {
    let (command, sub) = name.split_once('|').map_or((name, None), |(command, sub)| (command, Some(sub)));
    let id = lookup(TOP, command.as_bytes())?;
    match sub {
        None => Some(id),
        Some(sub) => lookup(id.0, sub.as_bytes()),
    }
}

/// The rows a rule naming `id` speaks of: itself, and its subcommands where it is a container.
pub fn family(id: CommandId) -> impl Iterator<Item = (CommandId, &'static Entry)> {
    let head = entry(id);
    iter().filter(move |(other, entry)| *other == id || (head.sub.is_none() && entry.name == head.name))
}

/// Whether `name` is made of the bytes command names are made of: `[A-Za-z0-9._:-]{1,64}`.
///
/// Redis compares names up to a NUL but hashes them whole, so `FLUSHALL\0x` is FLUSHALL for about one tail in 256, and
/// `CONFIG SET\0x` for one in seven: a NUL, or anything else no name holds, is never looked up.
#[must_use]
pub fn is_name(name: &[u8]) -> bool {
    let proper = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-');
    (1..=NAME_MAX).contains(&name.len()) && name.iter().all(proper)
}

/// Finds the row of a request's first one or two words.
#[must_use]
pub fn resolve(words: &Words<'_>) -> Resolved {
    let Some(name) = words.get(0) else {
        return if words.declared() == 0 { Resolved::NotAName } else { Resolved::More };
    };
    // A hit needs no look at the bytes: what equals a row's name but for its case holds proper bytes only.
    let Some(slot) = probe(TOP, name) else {
        return if is_name(name) { Resolved::UnknownCommand } else { Resolved::NotAName };
    };
    let id = CommandId(slot.row);
    if !slot.container || words.declared() == 1 {
        return Resolved::Known(id);
    }
    match words.get(1) {
        None => Resolved::More,
        Some(sub) => lookup(slot.row, sub).map_or(Resolved::UnknownSubcommand(id), Resolved::Known),
    }
}

/// The last command that was resolved: most clients say the same again and again, and then nothing is looked up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recent {
    word: u64,
    /// 0 before there was any, which is no name's length.
    len: u8,
    row: u16,
}

impl Recent {
    /// As [`resolve`]. Only a name of at most eight bytes that is a whole command is remembered.
    #[inline]
    pub fn resolve(&mut self, words: &Words<'_>) -> Resolved {
        let name = words.get(0).unwrap_or_default();
        let Some(word) = one_word(name) else { return resolve(words) };
        if word == self.word && name.len() == usize::from(self.len) {
            return Resolved::Known(CommandId(self.row));
        }
        let resolved = resolve(words);
        if let Resolved::Known(id) = resolved
            && !entry(id).container
            && entry(id).sub.is_none()
        {
            *self = Self { word, len: u8::try_from(name.len()).unwrap_or(0), row: id.0 };
        }
        resolved
    }
}

/// The row called `name` under the container at `parent`, or at the top.
fn lookup(parent: u16, name: &[u8]) -> Option<CommandId> {
    probe(parent, name).map(|slot| CommandId(slot.row))
}

/// Stands for "no container" where a container's row is asked for.
const TOP: u16 = u16::MAX;

/// Longest name in the table (`GEORADIUSBYMEMBER_RO` has 20): what is longer is not in it.
const KEY_MAX: usize = 24;

/// A name in a shape that is compared in a few instructions: upper case, in overlapping words.
///
/// Together with the length the words hold every byte of the name, so equal keys are equal names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    words: [u64; 3],
    len: u16,
    parent: u16,
}

impl Key {
    const fn new(parent: u16, name: &[u8]) -> Option<Self> {
        let len = name.len();
        if len > KEY_MAX {
            return None;
        }
        let words = if len > 8 {
            let (Some(head), Some(tail)) = (name.first_chunk(), name.last_chunk()) else { return None };
            let middle = match name.split_at(8).1.first_chunk() {
                Some(middle) => upper(u64::from_le_bytes(*middle)),
                None => 0,
            };
            [upper(u64::from_le_bytes(*head)), middle, upper(u64::from_le_bytes(*tail))]
        } else if let Some(word) = one_word(name) {
            // Most names fit one word, and one is compared in less time than three.
            [upper(word), 0, 0]
        } else {
            return None;
        };
        #[expect(clippy::cast_possible_truncation, reason = "at most KEY_MAX")]
        let len = len as u16;
        Some(Self { words, len, parent })
    }

    /// Where the search for it begins. The names in the table are fixed, so nobody can make them collide. The factor is one of
    /// a few thousand that were tried: under it these names are spread best.
    const fn slot(&self) -> usize {
        let seed = (self.len as u64) << 32 | (self.parent as u64) << 40;
        let mixed = self.words[0].wrapping_mul(0xFCD2_6DAD_FCD2_CF1F)
            ^ (self.words[1].rotate_left(17) ^ self.words[2] ^ seed).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        // The upper bits of a product depend on all bits of its factors.
        ((mixed ^ mixed >> 32).wrapping_mul(0xFCD2_6DAD_FCD2_CF1F) >> 54) as usize & (SLOTS - 1)
    }

    /// Whether the row in `slot` is called so.
    const fn is_that_of(&self, slot: &Slot) -> bool {
        // One comparison for all words: they differ so rarely that a branch for each would only be in the way.
        let words = (self.words[0] ^ slot.words[0]) | (self.words[1] ^ slot.words[1]) | (self.words[2] ^ slot.words[2]);
        words == 0 && self.len == slot.len && self.parent == slot.parent
    }
}

/// The bytes of a name of one to eight, each of them at least once: with the length it says the same as the name.
const fn one_word(name: &[u8]) -> Option<u64> {
    if name.len() > 8 {
        None
    } else if let (Some(head), Some(tail)) = (name.first_chunk(), name.last_chunk()) {
        Some(u32::from_le_bytes(*head) as u64 | (u32::from_le_bytes(*tail) as u64) << 32)
    } else if let (Some([head]), Some([tail])) = (name.first_chunk(), name.last_chunk()) {
        let middle = match name.split_at(name.len() / 2).1.first_chunk() {
            Some([middle]) => *middle as u64,
            None => 0,
        };
        Some(*head as u64 | middle << 8 | (*tail as u64) << 16)
    } else {
        None
    }
}

/// Eight bytes at once: `a` to `z` in upper case, every other byte as it is.
const fn upper(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const TOP_BITS: u64 = EACH * 0x80;
    // Sums of seven-bit values and these constants carry into a byte's own top bit and no further.
    let seven_bits = word & !TOP_BITS;
    let at_least_a = seven_bits + EACH * (0x80 - b'a' as u64);
    let beyond_z = seven_bits + EACH * (0x7f - b'z' as u64);
    let lower = (at_least_a ^ beyond_z) & !word & TOP_BITS;
    word ^ (lower >> 2)
}

/// An open-addressing table: a power of two, two fifths full, so that the first probe is nearly always the last.
const SLOTS: usize = 1024;

/// What the lookup needs of a row, in one half of a cache line: its key's fields, and what is asked for.
#[derive(Clone, Copy)]
struct Slot {
    words: [u64; 3],
    len: u16,
    parent: u16,
    row: u16,
    container: bool,
}

/// No name has the length 0, so an empty slot equals none.
const EMPTY: Slot = Slot { words: [0; 3], len: 0, parent: TOP, row: 0, container: false };

static INDEX: [Slot; SLOTS] = build();

#[expect(clippy::indexing_slicing, clippy::expect_used, reason = "evaluated at compile time only")]
#[expect(clippy::cast_possible_truncation, reason = "the table is far smaller than 65536 rows")]
const fn build() -> [Slot; SLOTS] {
    let mut index = [EMPTY; SLOTS];
    let mut container = TOP;
    let mut at = 0;
    while at < COUNT {
        let row = &ROWS[at];
        let key = match row.sub {
            None => {
                container = at as u16;
                Key::new(TOP, row.name.as_bytes())
            }
            // Rows are sorted: the last row without a subcommand is this one's container.
            Some(sub) => Key::new(container, sub.as_bytes()),
        };
        let key = key.expect("a name is longer than KEY_MAX");
        let mut slot = key.slot();
        while index[slot].len != 0 {
            slot = (slot + 1) & (SLOTS - 1);
        }
        let Key { words, len, parent } = key;
        index[slot] = Slot { words, len, parent, row: at as u16, container: row.container };
        at += 1;
    }
    index
}

#[expect(clippy::indexing_slicing, reason = "the slot is masked by the table's size")]
fn probe(parent: u16, name: &[u8]) -> Option<&'static Slot> {
    let key = Key::new(parent, name)?;
    let mut at = key.slot();
    loop {
        let slot = &INDEX[at];
        if key.is_that_of(slot) {
            return Some(slot);
        }
        if slot.len == 0 {
            return None;
        }
        at = (at + 1) & (SLOTS - 1);
    }
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
pub(crate) mod tests;
