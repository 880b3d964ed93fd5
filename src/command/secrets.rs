//! Which words of a request are secrets and are never rendered.
//!
//! Redis itself redacts the same words from MONITOR and SLOWLOG (`redactClientCommandArgument`); we redact more, and
//! on any doubt (a word that has not arrived, an option nobody knows, a pair that does not close) say "secret". A user's
//! name is one too where a password follows: who forgets the user puts the password in its place.

use super::Entry;
use super::keys::word_is;
use crate::resp::Words;

/// Which words of a command are secrets. The name, and a subcommand's name, never are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// No word is.
    None,
    /// Every word after the name (and subcommand) is.
    All,
    /// The word at this index is (a script, a serialised library).
    Word(u8),
    /// The word at this index and all behind it are.
    From(u8),
    /// HELLO: the user and password behind AUTH, and whatever is not understood.
    HelloAuth,
    /// CONFIG SET: every value but those of parameters known to be harmless.
    ConfigSet,
    /// ACL SETUSER: passwords and their hashes (`>` `<` `#` `!`), and whatever is not understood.
    AclSetuser,
    /// MIGRATE: the words behind AUTH and AUTH2, and whatever is not understood.
    MigrateAuth,
}

/// Whether the word at `index` is a secret.
#[must_use]
pub fn is_secret(entry: &Entry, words: &Words<'_>, index: usize) -> bool {
    let name_words = if entry.sub.is_some() { 2 } else { 1 };
    if index < name_words {
        return false;
    }
    match entry.secrets {
        Secrets::None => false,
        Secrets::All => true,
        Secrets::Word(at) => index == usize::from(at),
        Secrets::From(at) => index >= usize::from(at),
        Secrets::HelloAuth => hello(words, index),
        Secrets::ConfigSet => config_set(words, index),
        // The user's name, unless it looks like a password whose user was forgotten.
        Secrets::AclSetuser if index == 2 => {
            words.get(2).is_none_or(|name| matches!(name.first(), Some(b'>' | b'<' | b'#' | b'!')))
        }
        Secrets::AclSetuser => words.get(index).is_none_or(|word| !acl_rule_is_public(word)),
        Secrets::MigrateAuth => migrate(words, index),
    }
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`, read as `helloCommand` reads it.
fn hello(words: &Words<'_>, index: usize) -> bool {
    if index == 1 {
        return words.get(1).is_none_or(|version| version.len() > 2 || !version.iter().all(u8::is_ascii_digit));
    }
    let mut at = 2;
    loop {
        let width = match words.get(at) {
            Some(word) if word_is(word, "AUTH") => 3,
            Some(word) if word_is(word, "SETNAME") => 2,
            _ => return true,
        };
        if index < at + width {
            return width == 3 && index > at;
        }
        at += width;
    }
}

/// `MIGRATE host port key db timeout [COPY] [REPLACE] [AUTH password] [AUTH2 user password] [KEYS key …]`.
fn migrate(words: &Words<'_>, index: usize) -> bool {
    const OPTIONS: usize = 6;
    if index < OPTIONS {
        return false;
    }
    let mut at = OPTIONS;
    loop {
        let width = match words.get(at) {
            Some(word) if word_is(word, "COPY") || word_is(word, "REPLACE") => 1,
            Some(word) if word_is(word, "AUTH") => 2,
            Some(word) if word_is(word, "AUTH2") => 3,
            Some(word) if word_is(word, "KEYS") => return false,
            _ => return true,
        };
        if index < at + width {
            return index > at;
        }
        at += width;
    }
}

/// Parameters of CONFIG SET whose values an auditor wants and nobody needs to hide. Sorted.
const PUBLIC_PARAMETERS: &[&str] = &[
    "activedefrag",
    "appenddirname",
    "appendfilename",
    "appendfsync",
    "appendonly",
    "bind",
    "client-output-buffer-limit",
    "client-query-buffer-limit",
    "dbfilename",
    "dir",
    "hz",
    "latency-monitor-threshold",
    "lazyfree-lazy-eviction",
    "lazyfree-lazy-expire",
    "lazyfree-lazy-server-del",
    "lazyfree-lazy-user-del",
    "list-max-listpack-size",
    "loglevel",
    "maxclients",
    "maxmemory",
    "maxmemory-clients",
    "maxmemory-policy",
    "maxmemory-samples",
    "min-replicas-max-lag",
    "min-replicas-to-write",
    "notify-keyspace-events",
    "proto-max-bulk-len",
    "protected-mode",
    "rdbchecksum",
    "rdbcompression",
    "repl-backlog-size",
    "repl-timeout",
    "replica-read-only",
    "save",
    "slave-read-only",
    "slowlog-log-slower-than",
    "slowlog-max-len",
    "stop-writes-on-bgsave-error",
    "tcp-keepalive",
    "timeout",
    "tracking-table-max-keys",
];

/// Parameters whose values Redis itself marks sensitive (`SENSITIVE_CONFIG` in `config.c`); their names may be shown.
const SENSITIVE_PARAMETERS: &[&str] =
    &["masterauth", "masteruser", "requirepass", "tls-client-key-file-pass", "tls-key-file-pass"];

/// `CONFIG SET parameter value [parameter value …]`: a name nobody knows may be a value that slipped a place.
fn config_set(words: &Words<'_>, index: usize) -> bool {
    let listed = |list: &[&str], at: usize| {
        words.get(at).is_some_and(|word| list.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes())))
    };
    if !words.declared().is_multiple_of(2) {
        return true;
    }
    if index.is_multiple_of(2) {
        !listed(PUBLIC_PARAMETERS, index) && !listed(SENSITIVE_PARAMETERS, index)
    } else {
        !listed(PUBLIC_PARAMETERS, index - 1)
    }
}

/// Whether a word of ACL SETUSER is a rule that cannot hold a password.
fn acl_rule_is_public(rule: &[u8]) -> bool {
    const WORDS: &[&str] = &[
        "allchannels",
        "allcommands",
        "allkeys",
        "clearselectors",
        "nocommands",
        "nopass",
        "off",
        "on",
        "reset",
        "resetchannels",
        "resetkeys",
        "resetpass",
        "sanitize-payload",
        "skip-sanitize-payload",
    ];
    match rule.first() {
        Some(b'+' | b'-' | b'~' | b'%' | b'&') => true,
        // A selector holds rules; Redis refuses passwords in it, but only after it was sent one.
        Some(b'(') => !rule.iter().any(|byte| matches!(byte, b'>' | b'<' | b'#' | b'!')),
        _ => WORDS.iter().any(|known| rule.eq_ignore_ascii_case(known.as_bytes())),
    }
}

#[cfg(test)]
#[path = "secrets_tests.rs"]
mod tests;
