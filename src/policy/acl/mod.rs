//! Redis' ACL rules: what a role may say, key by key and channel by channel.
//!
//! The language is Redis 7's (`ACL SETUSER`), with Valkey's databases, and is read by [`parse`]; what it means is what
//! `ACLCheckAllUserCommandPerm` makes of it: a command is allowed if one *selector* (the rules outside parentheses are
//! one, each pair of parentheses is another) allows it whole: the command, every key for what is done to it, every
//! channel, the databases. `deploy/docs/policy.md` has the language with examples, and where this engine is stricter than
//! Redis on purpose; `tests/acl_oracle.rs` compares the two.

pub(super) mod describe;
pub mod file;
pub mod glob;
pub mod parse;
mod remarks;
mod selector;

use super::{
    Subject,
    databases::reaches_all,
    rules::{Described, Question},
};
use crate::command::CommandId;
use selector::Selector;

/// Rules, compiled. Immutable.
#[derive(Debug, PartialEq, Eq)]
pub struct Acl {
    selectors: Box<[Selector]>,
    /// Whether scripts are vouched for ([`super::databases`]).
    trusted: bool,
}

impl Acl {
    /// The same rules where scripts are vouched for, or not: as they are when compiled.
    #[must_use]
    pub(super) fn trusting(self, trusted: bool) -> Self {
        Self { trusted, ..self }
    }

    /// Whether some selector could allow the command by its name.
    ///
    /// # Errors
    /// What is denied: what [`Self::judge`] would say of it, whatever its words are.
    pub fn may(&self, id: CommandId) -> Result<(), Subject> {
        let everywhere = |selector: &Selector| selector.databases.is_all() || !reaches_all(id, self.trusted);
        if self.selectors.iter().any(|selector| selector.may(id) && everywhere(selector)) {
            return Ok(());
        }
        let limited = self.selectors.iter().any(|selector| selector.may(id)) && !self.selectors.iter().any(everywhere);
        Err(if limited { Subject::Database } else { Subject::Command })
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
            match selector.judge(question, self.trusted, scratch) {
                Ok(()) => return Ok(()),
                Err(subject) => furthest = furthest.max(subject),
            }
        }
        Err(furthest)
    }
}

#[cfg(test)]
mod tests;
