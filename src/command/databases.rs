//! Which databases a request touches.
//!
//! Most commands touch the connection's own. A few name others (SELECT, MOVE, SWAPDB, COPY's DB), some reach all of them
//! whichever is selected, and many touch none. Numbers are read by `string2ll`'s rules, options up to no NUL: what could
//! be read in two ways is [`Databases::Undeterminable`], as in [`super::strict`].
//!
//! | command | touches | source |
//! |---|---|---|
//! | SELECT n | n, and not the one before | `selectCommand` |
//! | SWAPDB a b | a and b | `swapdbCommand` |
//! | MOVE key n | its own and n | `moveCommand` |
//! | COPY source destination [DB n] | its own and every n: the last one counts, Valkey's ACL asks about each | `copyCommand` |
//! | MIGRATE host port key n … | its own; n is another server's | `migrateCommand` |
//! | what names keys, or is of the category @keyspace | its own | |
//! | FLUSHALL, TRIMSLOTS, CLUSTER FLUSHSLOT, DEBUG | all | `flushallCommand`, `debugCommand` |
//! | EVAL and its kin | all: a script may SELECT | `scriptCall` |
//! | SYNC, PSYNC, REPLICAOF, MONITOR | all: what they stream, replace or show knows no bounds | `syncCommand`, `replicaofCommand`, `monitorCommand` |
//! | CLIENT TRACKING, SLOWLOG GET, COMMANDLOG GET, HOTKEYS GET | all: they name keys of every database | `enableTracking`, `slowlogCommand` |
//!
//! Valkey 9.1, whose ACL rule `db=` is the model, asks about the first five as here, and about FLUSHALL. It judges a
//! script's commands one by one, which cannot be done from outside, and lets the last two rows pass whatever `db=` says;
//! here they need every database. Keyspace notifications (`__keyevent@3__:…`) are channels, not databases.
//!
//! Shown by the tests below and, against real servers, by `tests/databases.rs`.

use super::bits::{categories, key_flags};
use super::keys::{Layout, word_is};
use super::{Effect, Entry};
use crate::resp::{Words, number};

/// What is known of a request's databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Databases {
    /// Those whose numbers were written to the buffer; none for a command that touches no keys.
    Exact,
    /// All there are.
    All,
    /// They cannot be told: a number or an option can be read in more than one way, or has not arrived.
    Undeterminable,
}

/// Commands that reach every database, besides those whose effect says so.
const ALL: &[&str] = &[
    "client|tracking",
    "cluster|flushslot",
    "commandlog|get",
    "debug",
    "flushall",
    "hotkeys|get",
    "replicaof",
    "slaveof",
    "slowlog|get",
    "trimslots",
];

/// Commands that touch keys of their own database without naming one and without being of the category @keyspace.
const OWN: &[&str] = &["cluster|countkeysinslot", "cluster|getkeysinslot"];

/// Which databases are touched by a command, whatever its words are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// None.
    None,
    /// The connection's own.
    Own,
    /// The words say which: [`find`] reads them.
    Named,
    /// All there are.
    All,
}

/// Where a command reaches; for tables made once.
#[must_use]
pub fn reach(entry: &Entry) -> Reach {
    match entry.full_name {
        "select" | "swapdb" | "move" | "copy" => return Reach::Named,
        name if ALL.contains(&name) => return Reach::All,
        name if OWN.contains(&name) => return Reach::Own,
        _ => {}
    }
    match entry.effect {
        Effect::Script | Effect::Replication | Effect::Monitor => return Reach::All,
        _ => {}
    }
    let names_keys = entry.layout != Layout::Specified
        || entry.keys.iter().any(|spec| spec.flags & key_flags::NOT_KEY == 0)
        || entry.categories.any(categories::KEYSPACE);
    if names_keys { Reach::Own } else { Reach::None }
}

/// Writes the numbers of the databases that `words` touches to `out` (cleared first); `own` is the connection's.
///
/// `words` is a whole request, or one that is [`super::keys::settled`] (which none with numbers is before its end). A
/// number that every server refuses is left out: nothing is touched.
pub fn find(entry: &Entry, words: &Words<'_>, own: u32, out: &mut Vec<u32>) -> Databases {
    out.clear();
    match reach(entry) {
        Reach::None => Databases::Exact,
        Reach::Own => {
            out.push(own);
            Databases::Exact
        }
        Reach::All => Databases::All,
        Reach::Named => match named(entry, words, own, out) {
            Some(()) => Databases::Exact,
            None => {
                out.clear();
                Databases::Undeterminable
            }
        },
    }
}

/// `None` where a word can be read in two ways.
fn named(entry: &Entry, words: &Words<'_>, own: u32, out: &mut Vec<u32>) -> Option<()> {
    if words.whole() < words.declared() {
        return None;
    }
    match entry.full_name {
        "select" => number_at(words, 1, out),
        "swapdb" => {
            number_at(words, 1, out)?;
            number_at(words, 2, out)
        }
        "move" => {
            out.push(own);
            number_at(words, 2, out)
        }
        _ => {
            out.push(own);
            let mut at = 3;
            while let Some(word) = words.get(at) {
                if word.contains(&0) {
                    return None;
                }
                if word_is(word, "DB") {
                    number_at(words, at.saturating_add(1), out)?;
                    at = at.saturating_add(1);
                }
                at = at.saturating_add(1);
            }
            Some(())
        }
    }
}

/// A word that is missing, or a number no server has a database for, adds nothing: the command is refused for it.
fn number_at(words: &Words<'_>, at: usize, out: &mut Vec<u32>) -> Option<()> {
    let Some(word) = words.get(at) else { return Some(()) };
    let number = number::canonical_i64(word)?;
    if let Ok(number) = u32::try_from(number)
        && i32::try_from(number).is_ok()
    {
        out.push(number);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::catalog::{self, tests::with_words};

    fn of(full_name: &str, line: &[&[u8]]) -> (Databases, Vec<u32>) {
        let mut out = vec![99];
        let entry = catalog::by_full_name(full_name).unwrap().entry();
        let found = with_words(line, line.len(), |words| find(entry, words, 7, &mut out));
        (found, out)
    }

    fn line(text: &str) -> Vec<&[u8]> {
        text.split(' ').map(str::as_bytes).collect()
    }

    #[test]
    fn commands_name_the_databases_they_touch() {
        let cases: &[(&str, &str, &[u32])] = &[
            ("select", "SELECT 3", &[3]),
            ("select", "SELECT", &[]),
            ("select", "SELECT -1", &[]),
            ("select", "SELECT 4294967295", &[]),
            ("select", "SELECT 2147483648", &[]),
            ("select", "SELECT 2147483647", &[2_147_483_647]),
            ("swapdb", "SWAPDB 1 2", &[1, 2]),
            ("move", "MOVE k 2", &[7, 2]),
            ("copy", "COPY a b", &[7]),
            ("copy", "COPY a b db 2", &[7, 2]),
            ("copy", "COPY a b DB 2 REPLACE Db 3", &[7, 2, 3]),
            ("copy", "COPY a b DB", &[7]),
            // The first DB's number is what stands behind it, whatever it is called.
            ("copy", "COPY db DB REPLACE DB 4", &[7, 4]),
            ("migrate", "MIGRATE h 1 k 3 100", &[7]),
            ("get", "GET k", &[7]),
            ("flushdb", "FLUSHDB", &[7]),
            ("keys", "KEYS *", &[7]),
            ("scan", "SCAN 0", &[7]),
            ("dbsize", "DBSIZE", &[7]),
            ("sort", "SORT k", &[7]),
            ("xread", "XREAD STREAMS k 0", &[7]),
            ("memory|usage", "MEMORY USAGE k", &[7]),
            ("ping", "PING", &[]),
            ("multi", "MULTI", &[]),
            ("publish", "PUBLISH c m", &[]),
            ("spublish", "SPUBLISH c m", &[]),
            ("info", "INFO", &[]),
        ];
        for (name, text, expected) in cases {
            assert_eq!(of(name, &line(text)), (Databases::Exact, expected.to_vec()), "{text}");
        }
    }

    #[test]
    fn what_reaches_every_database_says_so() {
        for name in ALL.iter().chain(&["eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro"]) {
            assert_eq!(of(name, &line("x y z")), (Databases::All, vec![]), "{name}");
        }
        for name in ["sync", "psync", "monitor"] {
            assert_eq!(of(name, &line(name)).0, Databases::All, "{name}");
        }
        for name in ALL.iter().chain(OWN) {
            assert!(catalog::by_full_name(name).is_some(), "{name} is no command");
        }
    }

    #[test]
    fn numbers_and_options_that_can_be_read_in_two_ways_leave_the_databases_undeterminable() {
        for number in ["+1", "01", " 1", "1 ", "", "x", "1.0", "0x1", "-0", "1\0"] {
            let number = number.as_bytes();
            for (name, words) in [
                ("select", vec![&b"SELECT"[..], number]),
                ("swapdb", vec![b"SWAPDB", b"1", number]),
                ("swapdb", vec![b"SWAPDB", number, b"1"]),
                ("move", vec![b"MOVE", b"k", number]),
                ("copy", vec![b"COPY", b"a", b"b", b"DB", number]),
            ] {
                assert_eq!(of(name, &words), (Databases::Undeterminable, vec![]), "{words:?}");
            }
        }
        for option in [&b"DB\0"[..], b"DB\0x", b"REPLACE\0"] {
            assert_eq!(of("copy", &[b"COPY", b"a", b"b", option, b"1"]).0, Databases::Undeterminable);
        }
    }

    #[test]
    fn numbers_that_have_not_arrived_are_undeterminable() {
        let entry = catalog::by_full_name("copy").unwrap().entry();
        let mut out = Vec::new();
        let found = with_words(&[b"COPY", b"a", b"b"], 5, |words| find(entry, words, 0, &mut out));
        assert_eq!(found, Databases::Undeterminable);
    }
}
