//! Flags and environment variables over the file.

use super::{
    error::{At, Origin, Report},
    raw::RawConfig,
    tree::{Node, value_of_override},
};
use crate::config::decode::{Decode, KeyDoc};
use std::{fmt, sync::Arc};

/// The names of environment variables that override a key begin so.
const PREFIX: &str = "RAVELIN_";

/// One value given beside the file.
#[derive(Clone, PartialEq, Eq)]
pub struct Override {
    origin: Origin,
    key: String,
    value: String,
}

impl fmt::Debug for Override {
    /// Without the value: somebody may have written a password there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Override").field("origin", &self.origin).field("key", &self.key).finish_non_exhaustive()
    }
}

impl Override {
    /// From `--set KEY=VALUE`, such as `limits.max_bulk=1MiB` or `service.0.upstream.address=unix:/run/r.sock`.
    pub fn set(argument: &str) -> Result<Self, String> {
        let Some((key, value)) = argument.split_once('=') else {
            return Err("expected KEY=VALUE, such as limits.max_connections=500".to_owned());
        };
        let key = key.trim();
        if key.is_empty() {
            return Err("there is no key before the `=`".to_owned());
        }
        Ok(Self::flag(&format!("--set {key}"), key, value.trim()))
    }

    /// From a flag that stands for a key.
    #[must_use]
    pub fn flag(flag: &str, key: &str, value: &str) -> Self {
        Self { origin: Origin::Flag(Arc::from(flag)), key: key.to_owned(), value: value.to_owned() }
    }

    /// From an environment variable, if its name is one of ours: `RAVELIN_`, then the key in upper case with `__` for
    /// each dot (`RAVELIN_LIMITS__MAX_BULK`). Every key lies in a table, so a name without `__` is none of ours
    /// (Kubernetes makes `RAVELIN_PORT` and its like for a Service called `ravelin`).
    #[must_use]
    pub fn variable(name: &str, value: &str) -> Option<Self> {
        let path = name.strip_prefix(PREFIX)?;
        if !path.contains("__") {
            return None;
        }
        Some(Self {
            origin: Origin::Variable(Arc::from(name)),
            key: path.replace("__", ".").to_ascii_lowercase(),
            value: value.to_owned(),
        })
    }

    /// What to say of a variable that has `_` where it needs `__` and would do nothing: `RAVELIN_TLS_CERT`.
    #[must_use]
    pub fn near_miss(name: &str) -> Option<String> {
        let path = name.strip_prefix(PREFIX)?.to_ascii_lowercase();
        let (table, key) = path.split_once('_')?;
        let keys = RawConfig::KEYS.iter().find(|known| known.name == table && !known.list)?.keys;
        let known = |known: &KeyDoc| known.name == key;
        keys.iter().any(known).then(|| {
            let meant = format!("{PREFIX}{}__{}", table.to_ascii_uppercase(), key.to_ascii_uppercase());
            format!("the environment variable {name} does nothing; did you mean {meant}?")
        })
    }

    /// Puts the value into the tree.
    pub(super) fn apply(&self, tree: &mut Node, report: &mut Report) {
        let leaf = value_of_override(&self.value, &self.origin);
        if let Err(cause) = tree.graft(&self.key, leaf) {
            let at = At { origin: self.origin.clone(), key: self.key.clone() };
            report.error(&at, cause);
        }
    }

    pub(super) const fn is_flag(&self) -> bool {
        matches!(self.origin, Origin::Flag(_))
    }
}

#[cfg(test)]
mod tests {
    use super::Override;

    #[test]
    fn variables_of_ours_have_a_table_and_a_key() {
        let key = |name| Override::variable(name, "x").map(|found| found.key);
        assert_eq!(key("RAVELIN_LIMITS__MAX_BULK").as_deref(), Some("limits.max_bulk"));
        assert_eq!(key("RAVELIN_SERVICE__0__UPSTREAM__ADDRESS").as_deref(), Some("service.0.upstream.address"));
        for other in ["RAVELIN_PORT", "RAVELIN_SERVICE_HOST", "RAVELIN_PORT_6380_TCP_ADDR", "RAVELIN_CONFIG", "PATH"] {
            assert_eq!(key(other), None, "{other}");
        }
    }

    #[test]
    fn a_variable_with_one_underscore_too_few_is_noticed() {
        let said = Override::near_miss("RAVELIN_TLS_CLIENT_CA").unwrap();
        assert!(said.contains("RAVELIN_TLS__CLIENT_CA"), "{said}");
        for other in ["RAVELIN_PORT", "RAVELIN_SERVICE_HOST", "RAVELIN_PORT_6380_TCP_ADDR", "RAVELIN_CONFIG", "PATH"] {
            assert_eq!(Override::near_miss(other), None, "{other}");
        }
    }

    #[test]
    fn debug_does_not_show_the_value() {
        let given = Override::set("service.0.upstream.password=hunter2").unwrap();
        assert!(!format!("{given:?}").contains("hunter2"));
    }

    #[test]
    fn a_flag_without_key_or_value_is_refused() {
        for bad in ["limits.max_bulk", "=5", " =5", ""] {
            assert!(Override::set(bad).is_err(), "{bad:?}");
        }
    }
}
