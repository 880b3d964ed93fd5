//! What is wrong with a denylist, said so that it can be put right.

use crate::command::catalog;
use crate::policy::acl::parse::TermFault;
use std::fmt;

/// What is wrong with a denylist: every entry that names nothing.
#[derive(Debug, PartialEq, Eq)]
pub struct RuleErrors(pub Vec<RuleError>);

impl std::error::Error for RuleErrors {}

impl fmt::Display for RuleErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the denylist, from 0.
    Deny(usize),
    /// In the text of the ACL rules, at this byte.
    Rules(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deny(position) => write!(f, "deny entry {}", position + 1),
            Self::Rules(_) => f.write_str("rule"),
        }
    }
}

/// What is wrong with one entry.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place} ({}): {fault}", shown(entry))]
pub struct RuleError {
    /// Where it stands.
    pub place: Place,
    /// The entry as it was written.
    pub entry: String,
    /// What is wrong.
    pub fault: RuleFault,
}

/// Why an entry names nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleFault {
    /// It is the empty string.
    #[error("it is empty; write a command, COMMAND|SUBCOMMAND, @category or preset:NAME, or remove it")]
    Empty,
    /// It holds bytes no name holds.
    #[error("no name holds such bytes (expected letters, digits and . _ : -, with one | before a subcommand){}", hint("", *nearest))]
    NotAName {
        /// What may have been meant.
        nearest: Option<&'static str>,
    },
    /// No command is called so.
    #[error("no command of Redis up to 8.6 or Valkey up to 9.1 is called so; unknown commands are denied anyway{}", hint("", *nearest))]
    UnknownCommand {
        /// What may have been meant.
        nearest: Option<&'static str>,
    },
    /// The command has subcommands, but not this one.
    #[error("the command has no such subcommand in Redis up to 8.6 or Valkey up to 9.1; unknown ones are denied anyway{}", hint("", *nearest))]
    UnknownSubcommand {
        /// What may have been meant.
        nearest: Option<&'static str>,
    },
    /// The command has no subcommands.
    #[error("{} has no subcommands; a rule can only name it whole", command.to_ascii_uppercase())]
    NoSubcommands {
        /// The command.
        command: &'static str,
    },
    /// No ACL category is called so.
    #[error("Redis 7.0 has no such ACL category{}", hint("@", *nearest))]
    UnknownCategory {
        /// What may have been meant.
        nearest: Option<&'static str>,
    },
    /// No preset is called so.
    #[error("there is no such preset{}", hint("preset:", *nearest))]
    UnknownPreset {
        /// What may have been meant.
        nearest: Option<&'static str>,
    },
    /// It is no term of the ACL language.
    #[error("{0}")]
    Term(TermFault),
    /// There are more rules than a record can number.
    #[error("there are more than 65000 different rules; name categories instead of commands")]
    TooMany,
}

fn hint(prefix: &str, nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean {prefix}{name}?"))
}

/// A configured word in an error: quoted, control bytes escaped, and cut where nobody reads on.
pub(in crate::policy) fn shown(text: &str) -> String {
    const SHOWN_MAX: usize = 80;
    let cut: String = text.chars().take(SHOWN_MAX).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{more}")
}

/// The name among `names` that is fewest edits away from `typed`, if it is near enough to be a slip.
pub(in crate::policy) fn nearest(typed: &str, names: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let typed = typed.to_ascii_lowercase();
    if typed.len() > catalog::NAME_MAX {
        return None;
    }
    let near_enough = typed.len() / 3 + 1;
    names
        .map(|name| (edits(typed.as_bytes(), name.as_bytes()), name))
        .filter(|(distance, _)| *distance <= near_enough)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// How many bytes must be put in, taken out or changed to make one word of the other (Levenshtein).
pub(super) fn edits(left: &[u8], right: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, from) in left.iter().enumerate() {
        let mut diagonal = at;
        let mut previous = at + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(right) {
            let change = diagonal + usize::from(from != to);
            diagonal = *cell;
            previous = change.min(*cell + 1).min(previous + 1);
            *cell = previous;
        }
        if let Some(first) = row.first_mut() {
            *first = at + 1;
        }
    }
    row.last().copied().unwrap_or(left.len())
}
