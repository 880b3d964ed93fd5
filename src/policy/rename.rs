//! Commands that the server knows under a secret name.
//!
//! `rename-command CONFIG b840fc02` in redis.conf is how servers before 6.0 keep commands from clients: nobody who does not
//! know the word can say it. A role's `rename` names these words by the usual ones. A client that has the role says the
//! usual name, which is judged and recorded as ever; what goes up is encoded anew with the secret one. The secret word
//! itself is never taken from a client: in no place does the catalog know it, so it is denied as any unknown command is,
//! and the record shows [`MASK`] in its place. What Redis says in errors (`wrong number of arguments for 'b840fc02'`) is
//! given to the client with the usual name in it.
//!
//! | Redis says the word in | here |
//! |---|---|
//! | errors of arity | the number of words is checked here, for a renamed command |
//! | other errors (`NOPERM … 'b840fc02|get'`, `Try B840FC02 HELP`), in EXEC's and scripts' arrays too | the word is replaced, in either case |
//! | `CONFIG HELP` and its like | denied (`builtin/renamed`) |
//! | what clients have said: SLOWLOG GET, COMMANDLOG GET, MONITOR | denied to a role with such a map, whatever else it may (`builtin/renamed`) |
//! | what a replica is sent | not looked into: a replica must know the words; `check` warns of SYNC and PSYNC |
//!
//! COMMAND and its kin, INFO commandstats, CLIENT LIST, ACL LIST, GETUSER and LOG, and LATENCY HISTOGRAM say usual names on
//! every release (`tests/rename.rs`).
//!
//! A renamed command is held until it is whole, because its first word is not the one that was sent.

use super::rules::nearest;
use crate::{
    command::{CommandId, Effect, Entry, catalog},
    resp::Words,
    secret::Secret,
};

/// What records show in the place of a secret word that a client has said.
pub const MASK: &[u8] = b"(renamed)";

/// Longest secret word.
pub const WORD_MAX: usize = 256;

/// Secret names by usual ones. Prints nothing of them.
#[derive(Clone, Default)]
pub struct Renames {
    /// The usual name's row, and the secret word; longest word first.
    words: Vec<(CommandId, Secret)>,
}

impl PartialEq for Renames {
    fn eq(&self, other: &Self) -> bool {
        let exposed = |all: &Self| -> Vec<(CommandId, Vec<u8>)> {
            all.words.iter().map(|(id, word)| (*id, word.expose().to_vec())).collect()
        };
        exposed(self) == exposed(other)
    }
}

impl Eq for Renames {}

impl std::fmt::Debug for Renames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.words.iter().map(|(id, _)| id.entry().name)).finish()
    }
}

/// What is wrong with one entry. Says nothing of the secret word.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenameFault {
    /// No command is called so.
    #[error("no command is called so{}", .nearest.map_or_else(String::new, |nearest| format!("; did you mean {}?", nearest.to_ascii_uppercase())))]
    Unknown {
        /// What may have been meant.
        nearest: Option<&'static str>,
    },
    /// Only whole commands have a name that can be changed.
    #[error("a subcommand has no name of its own to the server; rename the command")]
    Subcommand,
    /// The session depends on the name.
    #[error("the proxy follows the connection's state by this command, so it must keep its name on the server")]
    Followed,
    /// `rename-command X ""`.
    #[error("an empty name takes the command away on the server; deny it here instead")]
    Empty,
    /// No such word can be sent or told from others.
    #[error("the name on the server must be 1 to {WORD_MAX} bytes without blanks and control bytes")]
    NotAWord,
    /// The secret is no secret.
    #[error("the name on the server is another command's usual name")]
    Taken,
    /// The command or the word is in the map already.
    #[error("the command, or the name it has on the server, is in the map already")]
    Twice,
}

impl Renames {
    /// Adds one.
    ///
    /// # Errors
    /// What is wrong with it; then nothing is added.
    pub fn add(&mut self, usual: &str, word: Secret) -> Result<(), RenameFault> {
        let Some(id) = catalog::by_full_name(usual) else {
            let names = catalog::iter().filter(|(_, row)| row.sub.is_none()).map(|(_, row)| row.full_name);
            return Err(RenameFault::Unknown { nearest: nearest(usual, names) });
        };
        let entry = id.entry();
        if entry.sub.is_some() {
            return Err(RenameFault::Subcommand);
        }
        if is_followed(entry) {
            return Err(RenameFault::Followed);
        }
        let bytes = word.expose();
        if bytes.is_empty() {
            return Err(RenameFault::Empty);
        }
        if bytes.len() > WORD_MAX || bytes.iter().any(|byte| byte.is_ascii_control() || *byte == b' ') {
            return Err(RenameFault::NotAWord);
        }
        if std::str::from_utf8(bytes).is_ok_and(|text| catalog::by_full_name(text).is_some()) {
            return Err(RenameFault::Taken);
        }
        if self.words.iter().any(|(other, known)| *other == id || known.expose().eq_ignore_ascii_case(bytes)) {
            return Err(RenameFault::Twice);
        }
        self.words.push((id, word));
        // Where one word is part of another, the longer one is looked for first.
        self.words.sort_by_key(|(_, word)| std::cmp::Reverse(word.expose().len()));
        Ok(())
    }

    /// Reads a map from the bytes of a file: per line a command and its name on the server, as in redis.conf with
    /// `rename-command` before them, or without; double quotes around a word are taken off.
    ///
    /// # Errors
    /// Each wrong line's number, from 1, and what is wrong with it.
    pub fn read(&mut self, text: &[u8]) -> Result<(), Vec<(usize, RenameFault)>> {
        let mut faults = Vec::new();
        for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).peekable();
            if words.peek().is_none_or(|word| word.starts_with(b"#")) {
                continue;
            }
            words.next_if(|word| word.eq_ignore_ascii_case(b"rename-command"));
            let (usual, word, rest) = (words.next().unwrap_or_default(), words.next(), words.next());
            let added = match (word, rest) {
                (Some(word), None) => {
                    let bare = word.strip_prefix(b"\"").and_then(|word| word.strip_suffix(b"\"")).unwrap_or(word);
                    self.add(&String::from_utf8_lossy(unquoted(usual)), Secret::new(bare.to_vec()))
                }
                _ => Err(RenameFault::NotAWord),
            };
            if let Err(fault) = added {
                faults.push((number, fault));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The usual names of what is renamed, for `check`.
    pub fn usual_names(&self) -> impl Iterator<Item = &'static str> {
        self.words.iter().map(|(id, _)| id.entry().name)
    }

    /// The name that a command, or a subcommand's command, has on the server.
    #[must_use]
    pub fn word_of(&self, id: CommandId) -> Option<&[u8]> {
        if self.words.is_empty() {
            return None;
        }
        let name = id.entry().name;
        self.words.iter().find(|(usual, _)| usual.entry().name == name).map(|(_, word)| word.expose())
    }

    /// Whether this is a word that the server knows a command by and nobody may say.
    #[must_use]
    pub fn hides(&self, word: &[u8]) -> bool {
        self.words.iter().any(|(_, secret)| secret.expose().eq_ignore_ascii_case(word))
    }

    /// Appends `error`, with usual names in the place of secret ones.
    pub fn show(&self, error: &[u8], out: &mut Vec<u8>) {
        let mut rest = error;
        while let Some((byte, behind)) = rest.split_first() {
            let found = self.words.iter().find_map(|(id, word)| {
                let length = word.expose().len();
                let head = rest.get(..length)?;
                head.eq_ignore_ascii_case(word.expose()).then(|| (id.entry().full_name, length))
            });
            match found {
                Some((usual, length)) => {
                    out.extend_from_slice(usual.as_bytes());
                    rest = rest.get(length..).unwrap_or_default();
                }
                None => {
                    out.push(*byte);
                    rest = behind;
                }
            }
        }
    }
}

/// Whether the answer shows the name of the command: that of a HELP does.
#[must_use]
pub fn tells_its_name(entry: &Entry, words: &Words<'_>) -> bool {
    // DEBUG is no container, and has a HELP.
    entry.sub == Some("HELP")
        || (entry.name == "DEBUG" && words.get(1).is_some_and(|word| word.eq_ignore_ascii_case(b"HELP")))
}

/// Whether the answer shows what clients have said, and so the words that went up for it.
pub(super) fn shows_words(entry: &Entry) -> bool {
    entry.effect == Effect::Monitor || matches!(entry.full_name, "slowlog|get" | "commandlog|get")
}

fn unquoted(word: &[u8]) -> &[u8] {
    word.strip_prefix(b"\"").and_then(|word| word.strip_suffix(b"\"")).unwrap_or(word)
}

/// Whether the session says the command itself, or counts replies and state by it.
fn is_followed(entry: &Entry) -> bool {
    match entry.effect {
        Effect::Plain
        | Effect::State
        | Effect::Blocking
        | Effect::BlockingOption
        | Effect::Select
        | Effect::Monitor
        | Effect::Replication
        | Effect::Shutdown
        | Effect::Script
        | Effect::OwnAccess(_)
        | Effect::AccessControl
        | Effect::Unsupported => entry.name == "PING",
        Effect::Multi
        | Effect::Exec
        | Effect::Discard
        | Effect::Auth
        | Effect::Hello
        | Effect::Reset
        | Effect::Quit
        | Effect::ReplyMode
        | Effect::Subscribe(_)
        | Effect::Unsubscribe(_)
        | Effect::ReplicationConfig => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec())
    }

    fn renames() -> Renames {
        let mut renames = Renames::default();
        renames.add("config", secret("c_a8f3")).unwrap();
        renames.add("FLUSHALL", secret("c_a8f3d2")).unwrap();
        renames
    }

    #[test]
    fn a_command_and_its_subcommands_have_the_servers_name() {
        let renames = renames();
        let word = |name: &str| renames.word_of(catalog::by_full_name(name).unwrap());
        assert_eq!(word("config|set"), Some(&b"c_a8f3"[..]));
        assert_eq!(word("config"), Some(&b"c_a8f3"[..]));
        assert_eq!(word("flushall"), Some(&b"c_a8f3d2"[..]));
        assert_eq!(word("flushdb"), None);
        assert!(renames.hides(b"C_A8F3") && !renames.hides(b"CONFIG") && !renames.hides(b"c_a8f"));
    }

    #[test]
    fn nothing_prints_a_secret_word() {
        let renames = renames();
        assert_eq!(format!("{renames:?}"), "[\"FLUSHALL\", \"CONFIG\"]");
        let mut out = Vec::new();
        renames.show(b"-ERR unknown subcommand of 'c_a8f3d2' C_A8F3|get. Try C_A8F3 HELP.\r\n", &mut out);
        assert_eq!(out, b"-ERR unknown subcommand of 'flushall' config|get. Try config HELP.\r\n");
    }

    #[test]
    fn who_has_a_map_is_shown_nothing_of_what_went_up() {
        use crate::policy::{Verdict, guards::Guards, rules::Policy, rules::Spec};
        let shown = ["slowlog|get", "commandlog|get", "monitor"];
        let verdicts = |renames: Renames| {
            let guards = Guards { renames, ..Guards::default() };
            let spec =
                Spec { rules: Some("allcommands allkeys allchannels"), guards: Some(&guards), ..Spec::default() };
            let policy = Policy::build(&spec).unwrap();
            shown.map(|name| policy.judge(catalog::by_full_name(name).unwrap()))
        };
        let denied =
            |verdict: &Verdict| matches!(verdict, Verdict::Deny(why) if why.rule == crate::policy::RuleId::RENAMED);
        assert!(verdicts(renames()).iter().all(denied));
        assert!(verdicts(Renames::default()).iter().all(|verdict| *verdict == Verdict::Allow));
    }

    #[test]
    fn a_file_is_written_as_redis_conf_is() {
        let mut renames = Renames::default();
        renames
            .read(b"# ours\n\nrename-command CONFIG c_a8f3\r\nRename-Command \"KEYS\" \"k_1\"\nDEBUG d_1\n")
            .unwrap();
        assert_eq!(renames.usual_names().collect::<Vec<_>>(), ["CONFIG", "KEYS", "DEBUG"]);
        let faults = Renames::default()
            .read(b"CONFI x\nCONFIG|SET x\nEXEC x\nKEYS \"\"\nKEYS get\nKEYS\nKEYS a b\nKEYS a\nKEYS b\nDEBUG A\nSAVE a\x01b")
            .unwrap_err();
        let text: Vec<String> = faults.iter().map(|(line, fault)| format!("{line} {fault}")).collect();
        assert_eq!(
            text,
            [
                "1 no command is called so; did you mean CONFIG?",
                "2 a subcommand has no name of its own to the server; rename the command",
                "3 the proxy follows the connection's state by this command, so it must keep its name on the server",
                "4 an empty name takes the command away on the server; deny it here instead",
                "5 the name on the server is another command's usual name",
                "6 the name on the server must be 1 to 256 bytes without blanks and control bytes",
                "7 the name on the server must be 1 to 256 bytes without blanks and control bytes",
                "9 the command, or the name it has on the server, is in the map already",
                "10 the command, or the name it has on the server, is in the map already",
                "11 the name on the server must be 1 to 256 bytes without blanks and control bytes",
            ]
        );
    }
}
