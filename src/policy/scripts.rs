//! Which scripts a role may run.
//!
//! A script may call whatever Redis' own user may, so a denylist that leaves EVAL open can be walked around. A role's (or
//! the floor's) `scripts` says what is to become of them, in the place of the group `scripting` that presets have: an entry
//! of a denylist that names such a command itself still denies it.
//!
//! | command | `"deny"` | `{ pinned = FILE }` | `"read-only"` | `"allow"` |
//! |---|---|---|---|---|
//! | EVAL | – | if the body's SHA-1 is pinned | – | + |
//! | EVAL_RO | – | likewise | + | + |
//! | EVALSHA | – | if the digest is pinned, in either case | – | + |
//! | EVALSHA_RO | – | likewise | + | + |
//! | FCALL | – | if the function's name is pinned | – | + |
//! | FCALL_RO | – | likewise | + | + |
//! | SCRIPT LOAD | – | if the body is pinned | – | + |
//! | FUNCTION LOAD | – | if the library's code is pinned | – | + |
//! | SCRIPT EXISTS | – | + | + | + |
//!
//! What else SCRIPT and FUNCTION can do (FLUSH, KILL, DELETE, RESTORE, DUMP …) is not asked here: presets go on denying it.
//!
//! *Why FCALL is by name.* A digest says of EVAL what will run; of FCALL nothing the client sends does. Through this proxy
//! only pinned libraries can be loaded, so a pinned name is a pinned library's as long as nobody loads others around the
//! proxy; who needs more takes EVALSHA. A library that is pinned and its functions are pinned in separate lines.
//!
//! *Read-only* is kept by Redis (7.0 on): a script run by EVAL_RO cannot write. It can still read everything the upstream's
//! user can, block the server, and try to break out of Lua.
//!
//! Bodies are hashed whole: one above [`BODY_MAX`] is denied, and a large one is held until it is whole.

use crate::{
    command::{Effect, Entry},
    resp::Words,
};
use sha1::{Digest as _, Sha1};
use std::fmt;

/// Most bytes of a body that may be pinned.
pub const BODY_MAX: usize = 1024 * 1024;

/// What may be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scripts {
    /// Nothing.
    Deny,
    /// What is pinned.
    Pinned(Pins),
    /// What Redis itself keeps from writing.
    ReadOnly,
    /// Anything.
    Allow,
}

/// The digest by which Redis knows a script: SHA-1 of its body.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScriptDigest([u8; 20]);

impl ScriptDigest {
    /// Of a script's body, or a library's code.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        Self(Sha1::digest(body).into())
    }

    /// Out of 40 hexadecimal digits of either case.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; 20];
        if text.len() != 40 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let digit = |at: usize| pair.get(at).and_then(|digit| char::from(*digit).to_digit(16));
            *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
        }
        Some(Self(bytes))
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl fmt::Display for ScriptDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ScriptDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is pinned: scripts and libraries by digest, functions by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    /// Sorted.
    digests: Vec<ScriptDigest>,
    /// Sorted.
    functions: Vec<String>,
}

/// A line of a pin file that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {line} is no pin: expected the 40 hexadecimal digits of a SHA-1, as sha1sum writes them, and whatever name behind \
     them, or `function NAME`"
)]
pub struct PinFault {
    /// The line's number, from 1.
    pub line: usize,
}

impl Pins {
    /// Reads a pin file: per line a digest and whatever is behind it (`sha1sum` writes such lines), or `function NAME`. Empty
    /// lines and what follows a `#` at the beginning of a line do not count.
    ///
    /// # Errors
    /// Every line that is none of these.
    pub fn parse(text: &str) -> Result<Self, Vec<PinFault>> {
        let mut pins = Self::default();
        let mut faults = Vec::new();
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
            match (ScriptDigest::parse(word.as_bytes()), word, rest.trim()) {
                (Some(digest), ..) => pins.digests.push(digest),
                (None, "function", name) if !name.is_empty() && !name.contains(char::is_whitespace) => {
                    pins.functions.push(name.to_owned());
                }
                _ => faults.push(PinFault { line }),
            }
        }
        pins.digests.sort_unstable();
        pins.digests.dedup();
        pins.functions.sort_unstable();
        pins.functions.dedup();
        if faults.is_empty() { Ok(pins) } else { Err(faults) }
    }

    /// How many scripts and libraries, and how many functions.
    #[must_use]
    pub const fn counts(&self) -> (usize, usize) {
        (self.digests.len(), self.functions.len())
    }

    /// Whether this digest is pinned.
    #[must_use]
    pub fn has(&self, digest: ScriptDigest) -> bool {
        self.digests.binary_search(&digest).is_ok()
    }

    fn has_body(&self, body: Option<&[u8]>) -> bool {
        body.is_some_and(|body| body.len() <= BODY_MAX && self.has(ScriptDigest::of(body)))
    }

    fn has_function(&self, name: Option<&[u8]>) -> bool {
        name.is_some_and(|name| self.functions.binary_search_by(|known| known.as_bytes().cmp(name)).is_ok())
    }
}

/// What a command does with scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// Runs the body in its second word.
    Run { read_only: bool },
    /// Runs what was loaded, by digest.
    RunLoaded { read_only: bool },
    /// Runs a function.
    Call { read_only: bool },
    /// Loads a body.
    Load,
    /// Loads a library.
    LoadLibrary,
    /// Asks whether scripts are loaded.
    Ask,
}

fn deed(entry: &Entry) -> Option<Deed> {
    Some(match entry.full_name {
        "eval" => Deed::Run { read_only: false },
        "eval_ro" => Deed::Run { read_only: true },
        "evalsha" => Deed::RunLoaded { read_only: false },
        "evalsha_ro" => Deed::RunLoaded { read_only: true },
        "fcall" => Deed::Call { read_only: false },
        "fcall_ro" => Deed::Call { read_only: true },
        "script|load" => Deed::Load,
        "function|load" => Deed::LoadLibrary,
        "script|exists" => Deed::Ask,
        _ => return None,
    })
}

/// Whether `scripts` speaks of this command, so that a preset's scripting group does not.
#[must_use]
pub fn governs(entry: &Entry) -> bool {
    deed(entry).is_some()
}

/// The body that a command carries: what is hashed.
#[must_use]
pub fn body<'a>(entry: &Entry, words: &Words<'a>) -> Option<&'a [u8]> {
    match deed(entry)? {
        Deed::Run { .. } => words.get(1),
        Deed::Load => words.get(2),
        // `FUNCTION LOAD [REPLACE] code`.
        Deed::LoadLibrary => match (words.declared(), words.get(2)) {
            (3, code) => code,
            (4, Some(option)) if option.eq_ignore_ascii_case(b"REPLACE") => words.get(3),
            _ => None,
        },
        Deed::RunLoaded { .. } | Deed::Call { .. } | Deed::Ask => None,
    }
}

/// Whether a command of this row may carry or name a script: a quick look before [`named`].
#[must_use]
pub fn may_name(entry: &Entry) -> bool {
    entry.effect == Effect::Script || (entry.sub == Some("LOAD") && governs(entry))
}

/// The digest of the script that a whole command carries or names, and the bytes of its body if it carries it.
#[must_use]
pub fn named(entry: &Entry, words: &Words<'_>) -> Option<(ScriptDigest, Option<usize>)> {
    match deed(entry)? {
        Deed::RunLoaded { .. } => Some((words.get(1).and_then(ScriptDigest::parse)?, None)),
        Deed::Run { .. } | Deed::Load | Deed::LoadLibrary => {
            let body = body(entry, words).filter(|body| body.len() <= BODY_MAX)?;
            Some((ScriptDigest::of(body), Some(body.len())))
        }
        Deed::Call { .. } | Deed::Ask => None,
    }
}

/// What `scripts` says of a command by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByName {
    /// It may be run, or is no business of this.
    Open,
    /// It may not.
    Denied,
    /// Its words decide: [`Scripts::may`].
    Asks,
}

impl Scripts {
    /// The word in rules' names and in `check`.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Pinned(_) => "pinned",
            Self::ReadOnly => "read-only",
            Self::Allow => "allow",
        }
    }

    /// What it says of a command by its name.
    #[must_use]
    pub fn by_name(&self, entry: &Entry) -> ByName {
        let Some(deed) = deed(entry) else { return ByName::Open };
        match (self, deed) {
            (Self::Deny, _) => ByName::Denied,
            (Self::Allow, _) | (_, Deed::Ask) => ByName::Open,
            (Self::Pinned(_), _) => ByName::Asks,
            (
                Self::ReadOnly,
                Deed::Run { read_only: true } | Deed::RunLoaded { read_only: true } | Deed::Call { read_only: true },
            ) => ByName::Open,
            (Self::ReadOnly, _) => ByName::Denied,
        }
    }

    /// Whether a whole command that [`Self::by_name`] asks about may go up.
    #[must_use]
    pub fn may(&self, entry: &Entry, words: &Words<'_>) -> bool {
        match (self, deed(entry)) {
            (_, None) | (Self::Allow, _) => true,
            (Self::Pinned(pins), Some(deed)) => match deed {
                Deed::Run { .. } | Deed::Load | Deed::LoadLibrary => pins.has_body(body(entry, words)),
                Deed::RunLoaded { .. } => {
                    words.get(1).and_then(ScriptDigest::parse).is_some_and(|digest| pins.has(digest))
                }
                Deed::Call { .. } => pins.has_function(words.get(1)),
                Deed::Ask => true,
            },
            (Self::Deny | Self::ReadOnly, Some(_)) => self.by_name(entry) == ByName::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::catalog::{self, tests::with_words};

    /// SHA-1 of `return 1`, as every Redis says it.
    const ONE: &str = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";

    fn may(scripts: &Scripts, full_name: &str, line: &[&[u8]]) -> bool {
        let entry = catalog::by_full_name(full_name).unwrap().entry();
        match scripts.by_name(entry) {
            ByName::Open => true,
            ByName::Denied => false,
            ByName::Asks => with_words(line, line.len(), |words| scripts.may(entry, words)),
        }
    }

    fn pinned(text: &str) -> Scripts {
        Scripts::Pinned(Pins::parse(text).unwrap())
    }

    #[test]
    fn digests_are_redis_own() {
        assert_eq!(ScriptDigest::of(b"return 1").to_string(), ONE);
        assert_eq!(ScriptDigest::parse(ONE.as_bytes()), Some(ScriptDigest::of(b"return 1")));
        assert_eq!(ScriptDigest::parse(ONE.to_ascii_uppercase().as_bytes()), Some(ScriptDigest::of(b"return 1")));
        for wrong in ["", "e0", &ONE[1..], &format!("{ONE}0"), &ONE.replace('e', "g"), &ONE.replace('e', "+")] {
            assert_eq!(ScriptDigest::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn pinned_scripts_run_in_every_form_and_no_others_do() {
        let scripts = pinned(&format!("# ours\n\n{ONE}  lock.lua\nfunction mine\n"));
        let one = ONE.as_bytes();
        let upper = ONE.to_ascii_uppercase();
        for (name, line, expected) in [
            ("eval", vec![&b"EVAL"[..], b"return 1", b"0"], true),
            ("eval", vec![b"EVAL", b"return 1", b"1", b"k"], true),
            ("eval", vec![b"EVAL", b"return 1 ", b"0"], false),
            ("eval", vec![b"EVAL", b"return 1\0", b"0"], false),
            ("eval", vec![b"EVAL"], false),
            ("eval_ro", vec![b"EVAL_RO", b"return 1", b"0"], true),
            ("eval_ro", vec![b"EVAL_RO", b"return 2", b"0"], false),
            ("evalsha", vec![b"EVALSHA", one, b"0"], true),
            ("evalsha", vec![b"EVALSHA", upper.as_bytes(), b"0"], true),
            ("evalsha", vec![b"EVALSHA", b"0000000000000000000000000000000000000000", b"0"], false),
            ("evalsha", vec![b"EVALSHA", b"x", b"0"], false),
            ("evalsha_ro", vec![b"EVALSHA_RO", one, b"0"], true),
            ("script|load", vec![b"SCRIPT", b"LOAD", b"return 1"], true),
            ("script|load", vec![b"SCRIPT", b"LOAD", b"return 2"], false),
            ("script|exists", vec![b"SCRIPT", b"EXISTS", b"anything"], true),
            ("fcall", vec![b"FCALL", b"mine", b"0"], true),
            ("fcall", vec![b"FCALL", b"Mine", b"0"], false),
            ("fcall", vec![b"FCALL", b"yours", b"0"], false),
            ("fcall_ro", vec![b"FCALL_RO", b"mine", b"0"], true),
            ("function|load", vec![b"FUNCTION", b"LOAD", b"return 1"], true),
            ("function|load", vec![b"FUNCTION", b"LOAD", b"REPLACE", b"return 1"], true),
            ("function|load", vec![b"FUNCTION", b"LOAD", b"return 1", b"return 2"], false),
            ("function|load", vec![b"FUNCTION", b"LOAD", b"x", b"return 1"], false),
            ("function|load", vec![b"FUNCTION", b"LOAD", b"REPLACE", b"REPLACE", b"return 1"], false),
        ] {
            assert_eq!(may(&scripts, name, &line), expected, "{name} {line:?}");
        }
    }

    #[test]
    fn records_name_the_script_that_a_command_carries_or_names() {
        let of = |name: &str, line: &[&[u8]]| {
            let entry = catalog::by_full_name(name).unwrap().entry();
            let found = with_words(line, line.len(), |words| named(entry, words));
            assert!(found.is_none() || may_name(entry), "{name}");
            found.map(|(digest, bytes)| (digest.to_string(), bytes))
        };
        let one = |bytes| Some((ONE.to_owned(), bytes));
        assert_eq!(of("eval", &[b"EVAL", b"return 1", b"0"]), one(Some(8)));
        assert_eq!(of("script|load", &[b"SCRIPT", b"LOAD", b"return 1"]), one(Some(8)));
        assert_eq!(of("function|load", &[b"FUNCTION", b"LOAD", b"REPLACE", b"return 1"]), one(Some(8)));
        assert_eq!(of("evalsha", &[b"EVALSHA", ONE.to_ascii_uppercase().as_bytes(), b"0"]), one(None));
        assert_eq!(of("evalsha", &[b"EVALSHA", b"x", b"0"]), None);
        assert_eq!(of("fcall", &[b"FCALL", b"f", b"0"]), None);
        assert_eq!(of("get", &[b"GET", b"return 1"]), None);
        assert_eq!(of("eval", &[b"EVAL", &vec![b' '; BODY_MAX + 1], b"0"]), None);
    }

    #[test]
    fn a_body_beyond_the_bound_is_not_hashed() {
        let body = vec![b' '; BODY_MAX + 1];
        let at_most = &body[1..];
        let text = format!("{} a\n{} b", ScriptDigest::of(&body), ScriptDigest::of(at_most));
        let scripts = pinned(&text);
        assert!(may(&scripts, "eval", &[b"EVAL", at_most, b"0"]));
        assert!(!may(&scripts, "eval", &[b"EVAL", &body, b"0"]));
    }

    #[test]
    fn every_mode_says_of_every_command_what_the_table_says() {
        for line in include_str!("scripts.rs").lines().filter_map(|line| line.strip_prefix("//! | ")) {
            let cells: Vec<&str> = line.trim_end_matches(" |").split(" | ").collect();
            let Some(entry) = catalog::by_full_name(&cells[0].replace(' ', "|")).map(|id| id.entry()) else { continue };
            if cells[0] == "command" {
                continue;
            }
            let modes = [Scripts::Deny, pinned(""), Scripts::ReadOnly, Scripts::Allow];
            for (mode, cell) in modes.iter().zip(&cells[1..]) {
                let expected = match *cell {
                    "–" => ByName::Denied,
                    "+" => ByName::Open,
                    _ => ByName::Asks,
                };
                assert_eq!(mode.by_name(entry), expected, "{} {}", entry.full_name, mode.word());
            }
            assert!(governs(entry));
        }
        assert_eq!(catalog::iter().filter(|(_, row)| governs(row)).count(), 9);
        for name in ["script|flush", "function|restore", "get", "script"] {
            let entry = catalog::by_full_name(name).unwrap().entry();
            assert_eq!(Scripts::Deny.by_name(entry), ByName::Open, "{name} is no business of this");
        }
    }

    #[test]
    fn a_pin_file_is_what_sha1sum_writes_and_wrong_lines_are_named() {
        let pins = Pins::parse(&format!("{ONE}  a.lua\r\n{ONE} *b.lua\n  # x\nfunction f\n{ONE}")).unwrap();
        assert_eq!(pins.counts(), (1, 1));
        let faults = Pins::parse(&format!("{ONE}\nreturn 1\nfunction\nfunction a b\n{}", &ONE[1..])).unwrap_err();
        assert_eq!(faults.iter().map(|fault| fault.line).collect::<Vec<_>>(), [2, 3, 4, 5]);
    }
}
