//! The databases a role may use, and how a role's list and the rules' `db=` judge a command by them.
//!
//! Both judge by one table, [`crate::command::databases`]: what names databases is judged by the numbers it names, what
//! reaches all of them needs all of them. A list of a role's is judged by [`Databases`]: a connection begins in one of them
//! and is told no way into another.
//!
//! # Scripts
//!
//! A script can SELECT, and nobody outside sees it. Where databases are limited a script is denied like whatever reaches all
//! of them, unless it is one that the configuration vouches for ([`scripts_keep_to_theirs`]): `scripts = { pinned = … }`, for
//! somebody has read what is pinned, or `scripts = "allow"`, which says that anything may run (`check` warns).
//! `"read-only"` vouches for nothing here: such a script cannot write, but it reads every database.
//!
//! A keyspace notification is a channel that names another database: rules about channels are for those.

use super::{guards::Guards, rules::Question, scripts::Scripts};
use crate::command::{
    CommandId,
    databases::{Reach, Touched, each},
};

/// Most that may be named; Redis has 16 by default.
pub const DATABASES_MAX: usize = 1024;

/// Whether scripts that may run are taken to stay in the database they were called in. Where none may, databases have nothing
/// to add, and `scripts:deny` is the rule that records name.
#[must_use]
pub const fn scripts_keep_to_theirs(guards: &Guards) -> bool {
    match guards.scripts {
        Some(Scripts::Pinned(_) | Scripts::Allow | Scripts::Deny) => true,
        Some(Scripts::ReadOnly) | None => false,
    }
}

/// Whether a command reaches every database, or any of them, whatever its words are. `trusted` is whether scripts are
/// vouched for.
pub(super) fn reaches_all(id: CommandId, trusted: bool) -> bool {
    match id.entry().reach {
        Reach::All => true,
        Reach::Script => !trusted,
        Reach::None | Reach::Own | Reach::Named => false,
    }
}

/// Whether a command touches none but databases that are `allowed`. `trusted` as in [`reaches_all`].
pub(super) fn keeps_to(question: &Question<'_>, trusted: bool, allowed: impl Fn(u32) -> bool) -> bool {
    let entry = question.id.entry();
    if trusted && entry.reach == Reach::Script {
        return allowed(question.db);
    }
    each(entry, question.words, question.db, allowed) == Touched::Visited
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

    /// Whether a command can name a database, so that it is to be asked about whole. What stays in the connection's own is
    /// not: it began in one of these, and nothing leads out.
    #[must_use]
    pub fn ask(id: CommandId) -> bool {
        id.entry().reach == Reach::Named
    }

    /// Whether the words of a whole command that [`Self::ask`] is true of lead into a database that may not be used, or could.
    /// What names none as every server reads it (`SELECT -1`) is let through to its error.
    #[must_use]
    pub fn deny(&self, question: &Question<'_>) -> bool {
        Self::ask(question.id) && !keeps_to(question, false, |db| self.allow(db))
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
    use super::{super::guards::Guards, Databases, Reach, reaches_all, scripts_keep_to_theirs};
    use crate::{
        command::{self, Resolved, catalog},
        policy::{
            rules::Question,
            scripts::{ByName, Pins, Scripts},
        },
        resp::{
            encode,
            request::{RequestLimits, RequestParser},
        },
    };

    /// In the first of the list.
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
        let question = Question { id, words: &words, db: databases.first(), own_id: None };
        reaches_all(id, false) || databases.deny(&question)
    }

    #[test]
    fn every_way_into_another_database_is_denied() {
        for line in [
            "SELECT 1",
            "select 16",
            "SELECT 4294967296",
            "SELECT -4294967296",
            "SELECT 99999999999999999999",
            "SELECT +1",
            "SELECT 01",
            "SELECT 1\0",
            // Before Redis 3.2 this is 0.
            "SELECT ",
            "SWAPDB 0 1",
            "SWAPDB 1 0",
            "SWAPDB 0 4294967297",
            "MOVE k 1",
            "COPY a b DB 1",
            "COPY a b REPLACE db 1",
            "COPY a b DB 0 DB 1",
            "COPY a b DB\0x 1",
            "MIGRATE h 1 k 1 10",
            "MIGRATE h 1 k 1 10 COPY",
            "FLUSHALL",
            "FLUSHALL ASYNC",
            "TRIMSLOTS RANGES 1 0 1",
            "CLUSTER FLUSHSLOT 1",
            "DEBUG OBJECT k",
            "MONITOR",
            "SYNC",
            "PSYNC ? -1",
            "REPLICAOF h 1",
            "SLAVEOF h 1",
            "FAILOVER",
            "CLIENT TRACKING ON",
            "SLOWLOG GET",
            "COMMANDLOG GET 1 slow",
            "HOTKEYS GET",
            "ACL LOG",
            "EVAL s 0",
            "EVALSHA s 0",
            "EVAL_RO s 0",
            "FCALL f 0",
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
            "SELECT 1x",
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
            "SLOWLOG LEN",
            "SCRIPT LOAD s",
            "CLIENT CACHING yes",
        ] {
            assert!(!denied(&[0, 2], line), "{line}");
        }
    }

    #[test]
    fn scripts_are_vouched_for_by_pins_and_by_the_word_allow_only() {
        let with = |scripts| scripts_keep_to_theirs(&Guards { scripts, ..Guards::default() });
        assert!(with(Some(Scripts::Allow)) && with(Some(Scripts::Pinned(Pins::default()))));
        assert!(!with(None) && !with(Some(Scripts::ReadOnly)));
        // None runs there: every command that could is denied by its name.
        assert!(with(Some(Scripts::Deny)));
        for (_, row) in catalog::iter().filter(|(_, row)| row.reach == Reach::Script) {
            assert_eq!(Scripts::Deny.by_name(row), ByName::Denied, "{}", row.full_name);
        }
        let of = |name| catalog::by_full_name(name).unwrap();
        assert!(!reaches_all(of("eval"), true) && !reaches_all(of("fcall_ro"), true));
        assert!(reaches_all(of("flushall"), true) && !reaches_all(of("get"), false));
    }

    #[test]
    fn the_first_is_where_a_connection_begins_and_order_changes_nothing_else() {
        let databases = Databases::new(&[3, 1, 3, 0]).unwrap();
        assert_eq!((databases.first(), databases.all()), (3, &[0, 1, 3][..]));
        assert_eq!(databases.to_string(), "3, 0, 1");
        assert!(databases.allow(0) && !databases.allow(2) && !databases.allow(u32::MAX));
        assert_eq!(Databases::new(&[]), None);
    }
}
