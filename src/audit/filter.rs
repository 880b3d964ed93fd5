//! Which records an output takes.
//!
//! A filter is made once from the configuration. What it says of a connection (its role, its address) is asked once per
//! connection and kept as a bit of the connection's facts; what it says of a command is two tables and a comparison.
//!
//! | record | is taken when |
//! |---|---|
//! | `command` | the connection is wanted, and so are the command, its verdict, its time, and [`Events`] |
//! | `begin` | the connection and the command are wanted, [`Events`] is not `denied`, and no verdict or time is asked for that the line cannot know |
//! | another of a connection | the connection is wanted |
//! | of the process, or before there is an identity | always |
//!
//! A connection's other records are few, and say whose the commands are: an output that takes commands of a connection
//! takes those too. Tests: below and `tests/audit_outputs.rs`.

use super::record::{CommandRecord, Name};
use crate::command::{CommandId, bits::categories, catalog};
use ipnet::IpNet;
use std::net::IpAddr;

/// How much of the stream an output takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Events {
    /// Every command.
    #[default]
    All,
    /// Denials, and commands that can change something: of a category @write, @dangerous, @admin, @scripting or
    /// @transaction (EXEC says whether what was queued has run), and those the catalog does not know.
    Writes,
    /// Denials.
    Denied,
}

/// What policy said of a command, as an output asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It went up.
    Allow,
    /// It was denied.
    Deny,
    /// The proxy answered it.
    Answer,
}

/// Rows of the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commands(Box<[u64]>);

impl Commands {
    /// These rows.
    #[must_use]
    pub fn new(rows: impl IntoIterator<Item = CommandId>) -> Self {
        let mut bits = vec![0_u64; catalog::len().div_ceil(64)].into_boxed_slice();
        for id in rows {
            if let Some(word) = bits.get_mut(id.index() / 64) {
                *word |= 1 << (id.index() % 64);
            }
        }
        Self(bits)
    }

    /// Whether the row is one of them.
    #[must_use]
    pub fn has(&self, id: CommandId) -> bool {
        self.0.get(id.index() / 64).is_some_and(|word| word >> (id.index() % 64) & 1 == 1)
    }

    /// Those of these that are in `other` too.
    fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(mine, theirs)| mine & theirs).collect())
    }

    /// All that can change something: see [`Events::Writes`].
    #[must_use]
    pub fn writes() -> Self {
        let wanted = categories::WRITE
            | categories::DANGEROUS
            | categories::ADMIN
            | categories::SCRIPTING
            | categories::TRANSACTION;
        Self::new(catalog::iter().filter(|(_, entry)| entry.categories.any(wanted)).map(|(id, _)| id))
    }
}

/// What of the stream an output asks for; what is not said is not asked. All that is said must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// How much.
    pub events: Events,
    /// Roles, by name; empty for all.
    pub roles: Vec<String>,
    /// Where connections come from; empty for everywhere.
    pub from: Vec<IpNet>,
    /// Commands; `None` for all. Commands that the catalog does not know are none of them.
    pub commands: Option<Commands>,
    /// Verdicts; empty for all.
    pub verdicts: Vec<Verdict>,
    /// Commands whose reply took at least so many microseconds. A denial took none.
    pub slower_than_us: Option<u64>,
}

/// A wish, made ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    wish: Wish,
    /// What `events` and `commands` leave of allowed commands; `None` for all of them.
    rows: Option<Commands>,
}

impl Filter {
    /// The filter of a wish.
    #[must_use]
    pub fn new(wish: Wish) -> Self {
        let rows = match (wish.events, &wish.commands) {
            (Events::Writes, Some(named)) => Some(named.and(&Commands::writes())),
            (Events::Writes, None) => Some(Commands::writes()),
            (Events::All | Events::Denied, named) => named.clone(),
        };
        Self { wish, rows }
    }

    /// Whether nothing is asked for, so that all is taken.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.wish == Wish::default()
    }

    /// Whether commands of a connection of this role from this address are wanted.
    #[must_use]
    pub fn takes_connection(&self, role: &str, src: IpAddr) -> bool {
        let Wish { roles, from, .. } = &self.wish;
        let src = src.to_canonical();
        (roles.is_empty() || roles.iter().any(|named| named == role))
            && (from.is_empty() || from.iter().any(|net| net.contains(&src)))
    }

    /// Whether the record of a command is wanted, if its connection is.
    #[must_use]
    pub fn takes_command(&self, record: &CommandRecord<'_>) -> bool {
        let verdict = verdict(record);
        let wish = &self.wish;
        let named = match (record.name, verdict) {
            // A denial is of interest to all but those who asked for other commands.
            (Name::Known(id), Verdict::Deny) => wish.commands.as_ref().is_none_or(|named| named.has(id)),
            (Name::Known(id), _) => self.rows.as_ref().is_none_or(|rows| rows.has(id)),
            (Name::Unknown(..), _) => wish.commands.is_none(),
        };
        self.takes(named, verdict, record.us)
    }

    /// Whether the record of a command of the catalog is wanted that policy allowed and Redis ran in so many microseconds: as
    /// [`Self::takes_command`].
    #[must_use]
    #[inline]
    pub fn takes_allowed(&self, id: CommandId, us: u64) -> bool {
        self.takes(self.rows.as_ref().is_none_or(|rows| rows.has(id)), Verdict::Allow, Some(us))
    }

    /// What is asked besides the name.
    #[inline]
    fn takes(&self, named: bool, verdict: Verdict, us: Option<u64>) -> bool {
        let wish = &self.wish;
        named
            && (wish.events != Events::Denied || verdict == Verdict::Deny)
            && (wish.verdicts.is_empty() || wish.verdicts.contains(&verdict))
            && wish.slower_than_us.is_none_or(|least| us.is_some_and(|us| us >= least))
    }

    /// Whether the `begin` line of a command is wanted, if its connection is.
    #[must_use]
    pub fn takes_begin(&self, record: &CommandRecord<'_>) -> bool {
        let Name::Known(id) = record.name else { return false };
        let wish = &self.wish;
        self.rows.as_ref().is_none_or(|rows| rows.has(id))
            && wish.events != Events::Denied
            && (wish.verdicts.is_empty() || wish.verdicts.contains(&Verdict::Allow))
            && wish.slower_than_us.is_none()
    }
}

/// What policy said.
pub(super) const fn verdict(record: &CommandRecord<'_>) -> Verdict {
    match (record.rule, record.local) {
        (Some(_), _) => Verdict::Deny,
        (None, true) => Verdict::Answer,
        (None, false) => Verdict::Allow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::testing::ran;

    fn id(name: &str) -> CommandId {
        catalog::by_full_name(name).unwrap()
    }

    fn record(name: Name<'static>) -> CommandRecord<'static> {
        CommandRecord { us: Some(900), ..ran(name) }
    }

    #[test]
    fn a_wish_takes_what_it_names_and_nothing_else() {
        let get = record(Name::Known(id("get")));
        let set = record(Name::Known(id("set")));
        let config =
            CommandRecord { rule: Some("preset:hardened/config"), us: None, ..record(Name::Known(id("config|get"))) };
        let ping = CommandRecord { local: true, ..record(Name::Known(id("hello"))) };
        let unknown = CommandRecord { rule: Some("unknown"), us: None, ..record(Name::Unknown(b"NOSUCH", None)) };
        let slow = CommandRecord { us: Some(1000), ..get };
        let exec = record(Name::Known(id("exec")));
        let eval = record(Name::Known(id("eval")));
        let all = [get, set, config, ping, unknown, slow, exec, eval];
        let wish = Wish::default;
        for (name, wish, expected) in [
            ("all", wish(), [true; 8]),
            ("writes", Wish { events: Events::Writes, ..wish() }, [false, true, true, false, true, false, true, true]),
            (
                "denied",
                Wish { events: Events::Denied, ..wish() },
                [false, false, true, false, true, false, false, false],
            ),
            (
                "commands",
                Wish { commands: Some(Commands::new([id("get"), id("config|get")])), ..wish() },
                [true, false, true, false, false, true, false, false],
            ),
            (
                "commands and writes",
                Wish { events: Events::Writes, commands: Some(Commands::new([id("get"), id("set")])), ..wish() },
                [false, true, false, false, false, false, false, false],
            ),
            (
                "verdicts",
                Wish { verdicts: vec![Verdict::Answer, Verdict::Deny], ..wish() },
                [false, false, true, true, true, false, false, false],
            ),
            (
                "time",
                Wish { slower_than_us: Some(1000), ..wish() },
                [false, false, false, false, false, true, false, false],
            ),
        ] {
            let filter = Filter::new(wish);
            let taken = all.map(|record| filter.takes_command(&record));
            assert_eq!(taken, expected, "{name}");
        }
    }

    #[test]
    fn a_begin_line_goes_where_its_record_may_come() {
        let flush = record(Name::Known(id("flushall")));
        let pop = record(Name::Known(id("blpop")));
        let wish = Wish::default;
        for (name, wish, expected) in [
            ("all", wish(), (true, true)),
            ("writes", Wish { events: Events::Writes, ..wish() }, (true, true)),
            ("denied", Wish { events: Events::Denied, ..wish() }, (false, false)),
            ("commands", Wish { commands: Some(Commands::new([id("blpop")])), ..wish() }, (false, true)),
            ("allowed", Wish { verdicts: vec![Verdict::Allow], ..wish() }, (true, true)),
            ("denials by verdict", Wish { verdicts: vec![Verdict::Deny], ..wish() }, (false, false)),
            ("slow", Wish { slower_than_us: Some(1), ..wish() }, (false, false)),
        ] {
            let filter = Filter::new(wish);
            assert_eq!((filter.takes_begin(&flush), filter.takes_begin(&pop)), expected, "{name}");
        }
    }

    #[test]
    fn a_connection_is_wanted_by_role_and_by_address() {
        let filter = Filter::new(Wish {
            roles: vec!["billing".into(), "app".into()],
            from: vec!["10.2.0.0/16".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
            ..Wish::default()
        });
        for (role, src, expected) in [
            ("app", "10.2.7.9", true),
            ("app", "::ffff:10.2.7.9", true),
            ("billing", "2001:db8::1", true),
            ("app", "10.3.7.9", false),
            ("apps", "10.2.7.9", false),
            ("", "10.2.7.9", false),
        ] {
            assert_eq!(filter.takes_connection(role, src.parse().unwrap()), expected, "{role} {src}");
        }
        assert!(Filter::new(Wish::default()).is_open());
        assert!(!filter.is_open());
    }
}
