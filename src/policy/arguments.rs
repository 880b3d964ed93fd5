//! Rules about arguments, where a command's name is not enough: which parameters CONFIG GET may show and CONFIG SET may
//! change, and whose connections CLIENT KILL may end.
//!
//! *CONFIG.* A role's `config` lists parameters; lists are expanded over the catalog of parameters when the configuration is
//! loaded, so a pattern there never means more than `check` shows. Without a list CONFIG GET shows everything but the
//! secrets, and CONFIG SET is open or denied by its name alone. Secrets ([`SECRETS`]) are never shown, whatever is listed:
//! the proxy's own password is one of them.
//!
//! | Redis | here |
//! |---|---|
//! | CONFIG GET takes several patterns (7.0 on) | each must be allowed |
//! | a pattern without `*`, `?`, `[` is a name (7.0 on), compared up to a NUL | a name or a pattern with a NUL is denied |
//! | before 7.0 everything is a pattern: `\requirepass` is `requirepass` | from a `\` or `[` on, anything is taken to match |
//! | `CONFIG GET m*` shows what matches | allowed if all that matches in the catalog is allowed, and something does |
//! | CONFIG SET takes several pairs (7.0 on), case-insensitive | every name must be listed |
//! | replica-read-only is slave-read-only | two names: list both |
//!
//! *CLIENT KILL.* With `client_kill = "own"` only `CLIENT KILL ID n` with the number of one's own connection to Redis goes up,
//! as the server itself told it to this client (CLIENT ID); before that no number is known, and all is denied. Every other
//! filter (ADDR, USER, TYPE, SKIPME …) could reach others.
//!
//! Sources: `configGetCommand`, `configSetCommand`, `clientKillCommand`. Shown by the tests below, and against real servers
//! by `tests/arguments.rs`.

mod parameters;

use crate::resp::{Words, number};
use parameters::PARAMETERS;

/// Parameters whose values are credentials: what Redis marks `SENSITIVE_CONFIG`, and Valkey's names for them. CONFIG GET
/// never shows them.
pub const SECRETS: &[&str] = &[
    "masterauth",
    "masteruser",
    "primaryauth",
    "primaryuser",
    "requirepass",
    "tls-client-key-file-pass",
    "tls-key-file-pass",
];

/// Parameters by which the server writes files of its own choosing, loads code or lets go of its guards: a list for
/// CONFIG SET that names one is warned of.
const DANGEROUS: &[&str] = &[
    "aclfile",
    "appenddirname",
    "appendfilename",
    "bind",
    "dbfilename",
    "dir",
    "enable-debug-command",
    "enable-module-command",
    "enable-protected-configs",
    "logfile",
    "masterauth",
    "port",
    "protected-mode",
    "replica-read-only",
    "requirepass",
    "slave-read-only",
    "unixsocket",
];

/// Which parameters a role's CONFIG GET and CONFIG SET may name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    get: Option<Set>,
    set: Option<Set>,
}

/// One bit per row of [`PARAMETERS`].
#[derive(Clone, Debug, PartialEq, Eq)]
struct Set(Box<[bool]>);

/// What is wrong with an entry of a list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterFault {
    /// It names nothing.
    #[error("no parameter of Redis up to 8.6 or Valkey up to 9.1 is called so{}", hint(.nearest.as_deref()))]
    Unknown {
        /// What may have been meant.
        nearest: Option<String>,
    },
    /// A pattern that no parameter matches.
    #[error("no parameter of Redis up to 8.6 or Valkey up to 9.1 matches it")]
    MatchesNothing,
    /// A secret among those to be shown.
    #[error("its value is a credential, which CONFIG GET never shows through the proxy")]
    Secret,
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!("; did you mean {nearest}?"))
}

impl Parameters {
    /// No list: everything but the secrets may be read, and what may be set is not asked here.
    #[must_use]
    pub const fn unlisted() -> Self {
        Self { get: None, set: None }
    }

    /// Takes a list for CONFIG GET.
    ///
    /// # Errors
    /// For each wrong entry its position in the list and what is wrong with it.
    pub fn with_get(mut self, entries: &[&str]) -> Result<Self, Vec<(usize, ParameterFault)>> {
        self.get = Some(Set::of(entries, true)?);
        Ok(self)
    }

    /// Takes a list for CONFIG SET. A pattern in it never stands for a secret; one named as it is is taken.
    ///
    /// # Errors
    /// As [`Self::with_get`].
    pub fn with_set(mut self, entries: &[&str]) -> Result<Self, Vec<(usize, ParameterFault)>> {
        self.set = Some(Set::of(entries, false)?);
        Ok(self)
    }

    /// Whether CONFIG SET's words are asked about.
    #[must_use]
    pub const fn lists_set(&self) -> bool {
        self.set.is_some()
    }

    /// What may be read, if a list says so.
    #[must_use]
    pub fn readable(&self) -> Option<Vec<&'static str>> {
        self.get.as_ref().map(|set| set.names().collect())
    }

    /// What may be changed, if a list says so.
    #[must_use]
    pub fn changeable(&self) -> Option<Vec<&'static str>> {
        self.set.as_ref().map(|set| set.names().collect())
    }

    /// What `check` has to say of the lists.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let open: Vec<&str> = self.set.iter().flat_map(Set::names).filter(|name| DANGEROUS.contains(name)).collect();
        if open.is_empty() {
            return Vec::new();
        }
        vec![format!(
            "config.set names {}: with them the server writes files where it is told, or lets its guards down",
            open.join(", ")
        )]
    }

    /// Whether `CONFIG GET pattern …` may go up; if not, the index of the word that says so.
    ///
    /// # Errors
    /// The first word that could show what is not allowed.
    pub fn may_get(&self, words: &Words<'_>) -> Result<(), usize> {
        for at in 2..words.declared() {
            if !words.get(at).is_some_and(|pattern| self.shows_allowed_only(pattern)) {
                return Err(at);
            }
        }
        Ok(())
    }

    /// Whether `CONFIG SET name value …` may go up; if not, the index of the name that says so.
    ///
    /// # Errors
    /// The first name that is not listed.
    pub fn may_set(&self, words: &Words<'_>) -> Result<(), usize> {
        let Some(set) = &self.set else { return Ok(()) };
        for at in (2..words.declared()).step_by(2) {
            if !words.get(at).and_then(index_of).is_some_and(|index| set.has(index)) {
                return Err(at);
            }
        }
        Ok(())
    }

    fn shows_allowed_only(&self, pattern: &[u8]) -> bool {
        let allowed = |index: usize, name: &str| match &self.get {
            Some(set) => set.has(index),
            None => !SECRETS.contains(&name),
        };
        if pattern.contains(&0) || pattern.len() > PATTERN_MAX {
            return false;
        }
        let is_name = !pattern.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'));
        if is_name {
            // A name nobody knows is of a module or of a later release: open without a list only.
            return index_of(pattern)
                .map_or(self.get.is_none(), |index| PARAMETERS.get(index).is_some_and(|name| allowed(index, name)));
        }
        let mut matching =
            PARAMETERS.iter().enumerate().filter(|(_, name)| may_match(pattern, name.as_bytes())).peekable();
        (matching.peek().is_some() || self.get.is_none()) && matching.all(|(index, name)| allowed(index, name))
    }
}

/// Longer patterns are denied; no name has half as many bytes.
const PATTERN_MAX: usize = 128;

impl Set {
    fn of(entries: &[&str], shown: bool) -> Result<Self, Vec<(usize, ParameterFault)>> {
        let mut bits = vec![false; PARAMETERS.len()];
        let mut faults = Vec::new();
        for (position, entry) in entries.iter().enumerate() {
            if let Err(fault) = Self::add(&mut bits, entry, shown) {
                faults.push((position, fault));
            }
        }
        if faults.is_empty() { Ok(Self(bits.into_boxed_slice())) } else { Err(faults) }
    }

    fn add(bits: &mut [bool], entry: &str, shown: bool) -> Result<(), ParameterFault> {
        if entry.contains(['*', '?']) {
            let mut any = false;
            for (bit, name) in bits.iter_mut().zip(PARAMETERS) {
                if may_match(entry.as_bytes(), name.as_bytes()) && !SECRETS.contains(name) {
                    *bit = true;
                    any = true;
                }
            }
            return if any { Ok(()) } else { Err(ParameterFault::MatchesNothing) };
        }
        let Some(index) = index_of(entry.as_bytes()) else {
            let nearest = super::rules::nearest(entry, PARAMETERS.iter().copied()).map(str::to_owned);
            return Err(ParameterFault::Unknown { nearest });
        };
        if shown && PARAMETERS.get(index).is_some_and(|name| SECRETS.contains(name)) {
            return Err(ParameterFault::Secret);
        }
        if let Some(bit) = bits.get_mut(index) {
            *bit = true;
        }
        Ok(())
    }

    fn has(&self, index: usize) -> bool {
        self.0.get(index).copied().unwrap_or(false)
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().zip(PARAMETERS).filter(|(bit, _)| **bit).map(|(_, name)| *name)
    }
}

/// The row of a parameter, in any case.
fn index_of(name: &[u8]) -> Option<usize> {
    // The table is small, the command rare, and no two names differ by case alone.
    PARAMETERS.iter().position(|known| known.as_bytes().eq_ignore_ascii_case(name))
}

/// Whether `stringmatch` of some release may find that `name` matches `pattern`, in either case: never less than it
/// finds. What begins with `[` or `\` is taken to match anything.
fn may_match(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0_usize, 0_usize);
    // Where to go on when what is behind the last `*` does not match: one byte of the name further.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(p), name.get(n)) {
            (Some(b'[' | b'\\'), _) | (None, None) => return true,
            (Some(b'*'), _) => {
                p = p.saturating_add(1);
                retry = Some((p, n));
                continue;
            }
            (Some(wanted), Some(byte)) if *wanted == b'?' || wanted.eq_ignore_ascii_case(byte) => {
                p = p.saturating_add(1);
                n = n.saturating_add(1);
                continue;
            }
            _ => {}
        }
        let Some((behind, from)) = retry else { return false };
        if from >= name.len() {
            return false;
        }
        p = behind;
        n = from.saturating_add(1);
        retry = Some((behind, n));
    }
}

/// Whether a CLIENT KILL can end nobody's connection but the one with this number; without a number none can.
#[must_use]
pub fn kills_only(words: &Words<'_>, own: Option<u64>) -> bool {
    let (Some(own), 4) = (own, words.declared()) else { return false };
    let is_id = words.get(2).is_some_and(|word| word.eq_ignore_ascii_case(b"ID"));
    is_id && words.get(3).and_then(number::canonical_u64) == Some(own)
}

#[cfg(test)]
#[path = "arguments_tests.rs"]
mod tests;
