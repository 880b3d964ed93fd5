//! Redis' ACL rules: what a role may say, key by key and channel by channel.
//!
//! The language is Redis 7's (`ACL SETUSER`), with Valkey's databases, and is read by [`parse`]; what it means is what
//! `ACLCheckAllUserCommandPerm` makes of it: a command is allowed if one *selector* (the rules outside parentheses are
//! one, each pair of parentheses is another) allows it whole: the command, every key for what is done to it, every
//! channel, the databases. `deploy/docs/policy.md` has the language with examples, and where this engine is stricter than
//! Redis on purpose; `tests/acl_oracle.rs` compares the two.

pub(super) mod describe;
pub mod glob;
pub mod parse;
mod remarks;
mod selector;

use super::{
    Subject,
    rules::{Described, Question},
};
use crate::command::CommandId;
use selector::Selector;

/// Rules, compiled. Immutable.
#[derive(Debug, PartialEq, Eq)]
pub struct Acl {
    selectors: Box<[Selector]>,
}

impl Acl {
    /// Whether some selector could allow the command by its name.
    #[must_use]
    pub fn may(&self, id: CommandId) -> bool {
        self.selectors.iter().any(|selector| selector.may(id))
    }

    /// The rules as `ACL GETUSER` shows them, without what `closed` says.
    pub(super) fn describe(&self, closed: &dyn Fn(CommandId) -> bool) -> Vec<Described> {
        self.selectors.iter().map(|selector| describe::selector(selector, closed)).collect()
    }

    /// Whether the database takes part in any verdict.
    #[must_use]
    pub fn minds_databases(&self) -> bool {
        self.selectors.iter().any(|selector| !selector.databases.is_all())
    }

    /// Whether words beside the name take part: no selector allows the command whatever they are.
    #[must_use]
    pub fn asks_words(&self, id: CommandId) -> bool {
        !self.selectors.iter().any(|selector| selector.allows_all(id))
    }

    /// Judges a command whose words take part. Of several selectors that deny it, the one that came furthest speaks.
    ///
    /// # Errors
    /// What is denied.
    pub fn judge(&self, question: &Question<'_>, scratch: &mut Vec<u32>) -> Result<(), Subject> {
        let mut furthest = Subject::Database;
        for selector in &self.selectors {
            match selector.judge(question, scratch) {
                Ok(()) => return Ok(()),
                Err(subject) => furthest = furthest.max(subject),
            }
        }
        Err(furthest)
    }
}

#[cfg(test)]
mod tests;
