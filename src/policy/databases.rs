//! The databases a role may use.
//!
//! A connection begins in one of them and is told no way into another: SELECT, SWAPDB, MOVE, COPY's `DB` and MIGRATE's
//! fourth word are judged by the number they name (which [`crate::command::strict`] has let through in one form only), and
//! what reaches into every database at once is denied: FLUSHALL, MONITOR, and the replication streams, which carry all of
//! them. Valkey's `db=` denies the same and leaves MIGRATE, MONITOR and PSYNC open.
//!
//! A script can SELECT for itself, and a keyspace notification is a channel that names another database: where a role has
//! databases and scripts, `check` warns.

use crate::{
    command::CommandId,
    resp::{Words, number},
};

/// Most that may be named; Redis has 16 by default.
pub const DATABASES_MAX: usize = 1024;

/// What of a command names a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    /// The word at this place.
    Word(usize),
    /// Both of these words.
    Words(usize, usize),
    /// The word behind this option, sought from this place on.
    Option(usize, &'static [u8]),
    /// All of them.
    All,
}

/// By the name of the catalog's row. Aliases have rows of their own.
const ROWS: &[(&str, Names)] = &[
    ("copy", Names::Option(3, b"db")),
    ("flushall", Names::All),
    ("migrate", Names::Word(4)),
    ("monitor", Names::All),
    ("move", Names::Word(2)),
    ("psync", Names::All),
    ("select", Names::Word(1)),
    ("swapdb", Names::Words(1, 2)),
    ("sync", Names::All),
];

fn names(id: CommandId) -> Option<Names> {
    let name = id.entry().full_name;
    ROWS.iter().find(|(row, _)| *row == name).map(|(_, names)| *names)
}

/// A list of databases, the first of which a connection begins in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Databases {
    first: u32,
    sorted: Box<[u32]>,
}

impl Databases {
    /// These databases; none for an empty list.
    #[must_use]
    pub fn new(list: &[u32]) -> Option<Self> {
        let first = *list.first()?;
        let mut sorted = list.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        Some(Self { first, sorted: sorted.into_boxed_slice() })
    }

    /// The one that a connection begins in.
    #[must_use]
    pub const fn first(&self) -> u32 {
        self.first
    }

    /// All of them, in ascending order.
    #[must_use]
    pub const fn all(&self) -> &[u32] {
        &self.sorted
    }

    /// Whether this database may be used.
    #[must_use]
    pub fn allow(&self, db: u32) -> bool {
        self.sorted.binary_search(&db).is_ok()
    }

    /// Whether a command can name a database, so that it is to be asked about whole.
    #[must_use]
    pub fn ask(id: CommandId) -> bool {
        names(id).is_some()
    }

    /// Whether a command reaches into all databases, whatever its words are.
    #[must_use]
    pub fn reaches_all(id: CommandId) -> bool {
        names(id) == Some(Names::All)
    }

    /// Whether a command reaches a database that may not be used. Asked of a whole command; what names no database as it
    /// should (no number, too large a one) is let through where every server refuses it, which is for others to judge.
    #[must_use]
    pub fn deny(&self, id: CommandId, words: &Words<'_>) -> bool {
        let denies = |at: usize| words.get(at).is_some_and(|word| self.denies_word(word));
        match names(id) {
            None => false,
            Some(Names::All) => true,
            Some(Names::Word(at)) => denies(at),
            Some(Names::Words(one, other)) => denies(one) || denies(other),
            Some(Names::Option(from, option)) => (from..words.declared()).any(|at| {
                // Every word that reads so, whether it stands where the option may or not: a destination is never guessed.
                let reads = words.get(at).is_some_and(|word| {
                    word.split(|byte| *byte == 0).next().is_some_and(|word| word.eq_ignore_ascii_case(option))
                });
                reads && denies(at.saturating_add(1))
            }),
        }
    }

    /// A number that some server could take for one of a database that is not allowed.
    fn denies_word(&self, word: &[u8]) -> bool {
        match number::canonical_i64(word) {
            // `SELECT -1` and its like fail everywhere.
            Some(number) if (i64::from(i32::MIN)..0).contains(&number) => false,
            Some(number) => u32::try_from(number).map_or(true, |db| !self.allow(db)),
            // Old servers read `+1` and `01`; what holds no digit names nothing.
            None => word.iter().any(u8::is_ascii_digit),
        }
    }
}

impl std::fmt::Display for Databases {
    /// The first, and then the others in ascending order.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.first)?;
        self.sorted.iter().filter(|db| **db != self.first).try_for_each(|db| write!(f, ", {db}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Databases, ROWS};
    use crate::{
        command::{self, Resolved, catalog},
        resp::{
            encode,
            request::{RequestLimits, RequestParser},
        },
    };

    fn denied(list: &[u32], line: &str) -> bool {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let mut bytes = Vec::new();
        encode::command(&mut bytes, &words);
        let limits = RequestLimits { words_max: 64, bulk_max: 1024, blanks_max: 1, inline: false };
        let mut parser = RequestParser::new(limits);
        parser.next(&bytes).unwrap();
        let words = parser.words(&bytes);
        let Resolved::Known(id) = command::resolve(&words) else { panic!("{line}") };
        let databases = Databases::new(list).unwrap();
        let denied = databases.deny(id, &words);
        assert!(!denied || Databases::ask(id), "{line}");
        denied
    }

    #[test]
    fn every_way_into_another_database_is_denied() {
        for line in [
            "SELECT 1",
            "select 16",
            "SELECT 4294967296",
            "SELECT 99999999999999999999",
            "SELECT +1",
            "SELECT 01",
            "SELECT 1\0",
            "SWAPDB 0 1",
            "SWAPDB 1 0",
            "MOVE k 1",
            "COPY a b DB 1",
            "COPY a b REPLACE db 1",
            "COPY a b DB 0 DB 1",
            "COPY a b DB\0x 1",
            "MIGRATE h 1 k 1 10",
            "MIGRATE h 1 k 1 10 COPY",
            "FLUSHALL",
            "FLUSHALL ASYNC",
            "MONITOR",
            "SYNC",
            "PSYNC ? -1",
        ] {
            assert!(denied(&[0, 2], line), "{line}");
        }
    }

    #[test]
    fn what_stays_in_its_databases_is_not() {
        for line in [
            "SELECT 0",
            "SELECT 2",
            "SELECT",
            "SELECT x",
            "SELECT -1",
            "SWAPDB 0 2",
            "MOVE k 2",
            "COPY a b",
            "COPY a b DB 2 REPLACE",
            "COPY a b REPLACE",
            "COPY DB 1",
            "MIGRATE h 1 k 0 10",
            "FLUSHDB",
            "GET 1",
            "SET db 1",
        ] {
            assert!(!denied(&[0, 2], line), "{line}");
        }
    }

    #[test]
    fn the_first_is_where_a_connection_begins_and_order_changes_nothing_else() {
        let databases = Databases::new(&[3, 1, 3, 0]).unwrap();
        assert_eq!((databases.first(), databases.all()), (3, &[0, 1, 3][..]));
        assert_eq!(databases.to_string(), "3, 0, 1");
        assert!(databases.allow(0) && !databases.allow(2) && !databases.allow(u32::MAX));
        assert_eq!(Databases::new(&[]), None);
    }

    #[test]
    fn every_row_that_names_a_database_is_in_the_catalog() {
        for (name, _) in ROWS {
            assert!(catalog::by_full_name(name).is_some(), "{name}");
        }
    }
}
