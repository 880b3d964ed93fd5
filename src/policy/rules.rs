//! The denylist, compiled.

use super::{RuleId, Verdict};
use crate::command::CommandId;

/// One verdict per row of the catalog, and the names of the rules behind the denials. Immutable; swapped whole.
#[derive(Debug)]
pub struct Policy {}

impl Policy {
    /// Compiles deny rules (`preset:hardened`, `FLUSHALL`, `CONFIG|SET`, `@dangerous`, in any case).
    pub fn compile(deny: &[&str]) -> Result<Self, Vec<String>> {
        let _ = deny;
        todo!()
    }

    /// The verdict on a catalogued command.
    #[must_use]
    pub fn judge(&self, id: CommandId) -> Verdict {
        let _ = id;
        todo!()
    }

    /// The name of a rule, as records and metrics write it.
    #[must_use]
    pub fn rule_name(&self, rule: RuleId) -> &str {
        let _ = rule;
        todo!()
    }
}
