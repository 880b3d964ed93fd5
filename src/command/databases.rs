//! Which databases a request touches: the one table that a role's `databases` and the rules' `db=` both judge by
//! (`policy::databases`).
//!
//! Most commands touch the connection's own. A few name others, some reach all of them whichever is selected, and many touch
//! none. [`Entry::reach`] says which kind a command is, made at compile time; only [`Reach::Named`] looks at words.
//!
//! | command | touches | source |
//! |---|---|---|
//! | SELECT n | n, and not the one before | `selectCommand` |
//! | SWAPDB a b | a and b | `swapdbCommand` |
//! | MOVE key n | its own and n | `moveCommand` |
//! | COPY source destination [DB n] | its own and every n: the last one counts, Valkey's ACL asks about each | `copyCommand` |
//! | MIGRATE host port key n … | its own and n: the server that it names may be this one | `migrateCommand` |
//! | what names keys, or is of the category @keyspace, @read or @write | its own | |
//! | CLUSTER COUNTKEYSINSLOT, CLUSTER GETKEYSINSLOT | its own | `clusterCommand` |
//! | EVAL, EVALSHA, FCALL and their `_RO` | whatever it SELECTs | `scriptCall` |
//! | FLUSHALL, TRIMSLOTS, CLUSTER FLUSHSLOT, DEBUG | all | `flushallCommand`, `debugCommand` |
//! | CLUSTER MIGRATESLOTS, CLUSTER CANCELSLOTMIGRATIONS, CLUSTER MIGRATION, CLUSTER SYNCSLOTS | all: slots move with the keys of every database | `clusterCommandMigrateSlots` |
//! | SYNC, PSYNC, MONITOR | all: what they stream knows no bounds | `syncCommand`, `monitorCommand` |
//! | REPLICAOF, FAILOVER, CLUSTER REPLICATE, CLUSTER RESET | all: they replace or empty the data set | `replicaofCommand`, `failoverCommand`, `clusterReset` |
//! | CLIENT TRACKING, SLOWLOG GET, COMMANDLOG GET, HOTKEYS GET, ACL LOG | all: they name keys of every database | `enableTracking`, `slowlogCommand`, `addACLLogEntry` |
//!
//! Valkey 9.1, whose ACL rule `db=` is the model, counts the same way with these exceptions: it does not ask about MIGRATE's
//! n nor about CLUSTER COUNTKEYSINSLOT and GETKEYSINSLOT, judges a script's commands one by one (which cannot be done from
//! outside), and of what reaches all databases asks about FLUSHALL and CLUSTER's slots only. Everything here that it does not
//! ask about is stricter; `tests/acl_oracle` holds that nothing is looser.
//!
//! Not about databases, and never counted: keyspace notifications (`__keyevent@3__:…` are channels), sizes and counts (INFO,
//! MEMORY STATS), and what administers the server as a whole (CONFIG SET, MODULE LOAD, SAVE, SHUTDOWN).
//!
//! # Numbers
//!
//! Redis up to 6.0 reads a database by `strtol`, and cuts it to an `int`: `SELECT 4294967297` selects 1 there, and before 3.2
//! `SELECT ""` selects 0. A number in `string2ll`'s form from 0 to 2147483647 is that database; what every release refuses
//! (`-1`, `x`) touches nothing; all else, and an option with a NUL, leaves the databases [`Touched::Unknown`].
//!
//! Shown by the tests below and, against real servers, by `tests/databases.rs`.

use super::bits::{categories, key_flags};
use super::catalog::same;
use super::keys::{KeySpec, Layout, word_is};
use super::{Effect, Entry};
use crate::resp::{Words, number};

/// Which databases are touched by a command, as far as its name alone says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// None.
    None,
    /// The connection's own.
    Own,
    /// The words say which: [`each`] reads them.
    Named,
    /// The connection's own, and every other that the script selects.
    Script,
    /// All there are.
    All,
}

/// What came of looking at a request's databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touched {
    /// Those that were visited and no others; none for a command that touches no keys.
    Visited,
    /// The visitor said no to this one.
    No(u32),
    /// All there are, or any there is.
    All,
    /// They cannot be told: a number or an option can be read in more than one way, or has not arrived.
    Unknown,
}

/// Commands that reach every database, besides those whose effect says so.
const ALL: &[&str] = &[
    "acl|log",
    "client|tracking",
    "cluster|cancelslotmigrations",
    "cluster|flushslot",
    "cluster|migrateslots",
    "cluster|migration",
    "cluster|replicate",
    "cluster|reset",
    "cluster|syncslots",
    "commandlog|get",
    "debug",
    "failover",
    "flushall",
    "hotkeys|get",
    "replicaof",
    "slaveof",
    "slowlog|get",
    "trimslots",
];

/// Commands whose words name databases.
const NAMED: &[&str] = &["copy", "migrate", "move", "select", "swapdb"];

/// Commands that touch keys of their own database without naming one and without being of a category that says so.
const OWN: &[&str] = &["cluster|countkeysinslot", "cluster|getkeysinslot"];

/// Where the command called so reaches; for [`Entry::reach`], at compile time.
pub(super) const fn reach(
    full_name: &str,
    effect: Effect,
    layout: Layout,
    keys: &[KeySpec],
    of_categories: u32,
) -> Reach {
    if among(NAMED, full_name) {
        return Reach::Named;
    }
    if among(ALL, full_name) || matches!(effect, Effect::Replication | Effect::Monitor) {
        return Reach::All;
    }
    if matches!(effect, Effect::Script) {
        return Reach::Script;
    }
    let of_keys = of_categories & (categories::KEYSPACE | categories::READ | categories::WRITE) != 0;
    if of_keys || !matches!(layout, Layout::Specified) || names_keys(keys) || among(OWN, full_name) {
        Reach::Own
    } else {
        Reach::None
    }
}

#[expect(clippy::indexing_slicing, reason = "evaluated at compile time only")]
const fn among(names: &[&str], name: &str) -> bool {
    let mut at = 0;
    while at < names.len() {
        if same(names[at].as_bytes(), name.as_bytes()) {
            return true;
        }
        at += 1;
    }
    false
}

#[expect(clippy::indexing_slicing, reason = "evaluated at compile time only")]
const fn names_keys(keys: &[KeySpec]) -> bool {
    let mut at = 0;
    while at < keys.len() {
        if keys[at].flags & key_flags::NOT_KEY == 0 {
            return true;
        }
        at += 1;
    }
    false
}

/// Calls `visit` with the number of each database that `words` touches, until it says no; `own` is the connection's.
///
/// `words` is a whole request, or one that is [`super::keys::settled`] (which none with numbers is before its end).
pub fn each(entry: &Entry, words: &Words<'_>, own: u32, mut visit: impl FnMut(u32) -> bool) -> Touched {
    let stopped = match entry.reach {
        Reach::None => Ok(()),
        Reach::Own => visited(own, &mut visit),
        Reach::Script | Reach::All => Err(Touched::All),
        Reach::Named => named(entry, words, own, &mut visit),
    };
    stopped.err().unwrap_or(Touched::Visited)
}

fn visited(db: u32, visit: &mut impl FnMut(u32) -> bool) -> Result<(), Touched> {
    if visit(db) { Ok(()) } else { Err(Touched::No(db)) }
}

fn named(entry: &Entry, words: &Words<'_>, own: u32, visit: &mut impl FnMut(u32) -> bool) -> Result<(), Touched> {
    if words.whole() < words.declared() {
        return Err(Touched::Unknown);
    }
    match entry.full_name {
        "select" => at(words, 1, visit),
        "swapdb" => {
            at(words, 1, visit)?;
            at(words, 2, visit)
        }
        "move" => {
            visited(own, visit)?;
            at(words, 2, visit)
        }
        "migrate" => {
            visited(own, visit)?;
            at(words, 4, visit)
        }
        "copy" => {
            visited(own, visit)?;
            let mut place = 3;
            while let Some(word) = words.get(place) {
                if word.contains(&0) {
                    return Err(Touched::Unknown);
                }
                if word_is(word, "DB") {
                    place = place.saturating_add(1);
                    at(words, place, visit)?;
                }
                place = place.saturating_add(1);
            }
            Ok(())
        }
        _ => Err(Touched::Unknown),
    }
}

/// A word that is missing adds nothing: the command is refused for it.
fn at(words: &Words<'_>, place: usize, visit: &mut impl FnMut(u32) -> bool) -> Result<(), Touched> {
    match words.get(place).map(read) {
        None | Some(Number::Refused) => Ok(()),
        Some(Number::Database(db)) => visited(db, visit),
        Some(Number::Ambiguous) => Err(Touched::Unknown),
    }
}

/// What a word says where a database is to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// This one, to every release; whether there is such a database is the server's to say.
    Database(u32),
    /// Nothing: every release refuses it.
    Refused,
    /// One database to some releases, and another or none to others.
    Ambiguous,
}

/// Reads the number of a database.
#[must_use]
pub fn read(word: &[u8]) -> Number {
    match number::canonical_i64(word) {
        Some(number) => match i32::try_from(number).map(u32::try_from) {
            Ok(Ok(db)) => Number::Database(db),
            // Negative.
            Ok(Err(_)) => Number::Refused,
            // Old servers cut it to an `int`.
            Err(_) => Number::Ambiguous,
        },
        None if number::is_no_number(word) => Number::Refused,
        None => Number::Ambiguous,
    }
}

#[cfg(test)]
#[path = "databases_tests.rs"]
mod tests;
