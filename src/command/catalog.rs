//! The table of what is known of each command, and the lookup in it.
//!
//! [`super::table`] is what a Redis 7.0.15 says of itself, [`super::facts`] what was read in its source. The two are
//! joined here at compile time: a command without a hand-written row is a compile error, not a gap.

use super::facts::{FACTS, Fact};
use super::keys::KeySpec;
use super::table::ROWS;
use super::{Categories, CommandId, Entry, Flags, Resolved};
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
    Row { name, sub, full_name, container, arity, flags, categories, keys }
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
        source: fact.source,
    }
}

#[expect(clippy::indexing_slicing, reason = "evaluated at compile time only")]
const fn same(left: &[u8], right: &[u8]) -> bool {
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
    let Some(id) = lookup(TOP, name) else {
        return if is_name(name) { Resolved::UnknownCommand } else { Resolved::NotAName };
    };
    if !entry(id).container || words.declared() == 1 {
        return Resolved::Known(id);
    }
    match words.get(1) {
        None => Resolved::More,
        Some(sub) => lookup(id.0, sub).map_or(Resolved::UnknownSubcommand(id), Resolved::Known),
    }
}

/// Stands for "no container" in [`lookup`].
const TOP: u16 = u16::MAX;

/// An open-addressing table: a power of two, under a third full, so that a probe is nearly always the first.
const SLOTS: usize = 2048;
const EMPTY: u16 = u16::MAX;

static INDEX: [u16; SLOTS] = build();

/// What a slot is found by: length and a few bytes, which tell all rows apart well enough. Equality is checked after;
/// names in the table are fixed, so nobody can make collisions. `| 0x20` folds the case of letters.
#[expect(clippy::indexing_slicing, reason = "every index is below the length, which is not zero")]
#[expect(clippy::cast_possible_truncation, reason = "bits above the table's size are cut off on purpose")]
const fn slot(parent: u16, name: &[u8]) -> usize {
    let len = name.len();
    if len == 0 {
        return 0;
    }
    let second = if len > 1 { name[1] } else { 0 };
    let before_last = if len > 1 { name[len - 2] } else { 0 };
    let picked = u64::from_le_bytes([
        name[0] | 0x20,
        second | 0x20,
        name[len / 3] | 0x20,
        name[len / 2] | 0x20,
        name[len - len / 3 - 1] | 0x20,
        before_last | 0x20,
        name[len - 1] | 0x20,
        len as u8,
    ]);
    let mixed = (picked ^ ((parent as u64) << 17)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 40) as usize & (SLOTS - 1)
}

#[expect(clippy::indexing_slicing, reason = "evaluated at compile time only")]
#[expect(clippy::cast_possible_truncation, reason = "the table is far smaller than 65536 rows")]
const fn build() -> [u16; SLOTS] {
    let mut index = [EMPTY; SLOTS];
    let mut container = TOP;
    let mut at = 0;
    while at < COUNT {
        let (parent, key) = match ROWS[at].sub {
            None => {
                container = at as u16;
                (TOP, ROWS[at].name)
            }
            // Rows are sorted: the last row without a subcommand is this one's container.
            Some(sub) => (container, sub),
        };
        let mut probe = slot(parent, key.as_bytes());
        while index[probe] != EMPTY {
            probe = (probe + 1) & (SLOTS - 1);
        }
        index[probe] = at as u16;
        at += 1;
    }
    index
}

/// The row called `name` under the container at `parent`, or at the top.
#[expect(clippy::indexing_slicing, reason = "the slot is masked by the table's size; its content is a row or EMPTY")]
fn lookup(parent: u16, name: &[u8]) -> Option<CommandId> {
    let mut probe = slot(parent, name);
    loop {
        let found = INDEX[probe];
        if found == EMPTY {
            return None;
        }
        let entry = &ENTRIES[found as usize];
        let hit = match entry.sub {
            None => parent == TOP && name.eq_ignore_ascii_case(entry.name.as_bytes()),
            Some(sub) => {
                parent != TOP
                    && name.eq_ignore_ascii_case(sub.as_bytes())
                    && ENTRIES[parent as usize].name.len() == entry.name.len()
                    && ENTRIES[parent as usize].name == entry.name
            }
        };
        if hit {
            return Some(CommandId(found));
        }
        probe = (probe + 1) & (SLOTS - 1);
    }
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
pub(crate) mod tests;
