//! Which words are hidden: one line per case, what is hidden marked by a trailing `*`.

use super::*;
use crate::command::catalog::{self, tests::with_words};
use crate::command::{Resolved, resolve};
use proptest::prelude::*;

/// Checks a line whose secret words end in `*` (which is not part of them).
fn check(line: &str) {
    let marked: Vec<&str> = line.split(' ').collect();
    let plain: Vec<&[u8]> = marked.iter().map(|word| word.strip_suffix('*').unwrap_or(word).as_bytes()).collect();
    with_words(&plain, plain.len(), |words| {
        let Resolved::Known(id) = resolve(words) else { panic!("{line} does not resolve") };
        for (at, word) in marked.iter().enumerate() {
            assert_eq!(is_secret(id.entry(), words, at), word.ends_with('*'), "{line}: word {at}");
        }
    });
}

#[test]
fn passwords_are_hidden_and_what_an_auditor_needs_is_not() {
    for line in [
        "AUTH pw*",
        "AUTH user* pw*",
        "AUTH user* pw* more*",
        "auth default* pw*",
        "HELLO 3",
        "HELLO hunter2*",
        "HELLO 3 AUTH user* pw*",
        "HELLO 3 SETNAME name AUTH user* pw* SETNAME other",
        "HELLO 3 AUTH pw*",
        "HELLO 3 AUHT* user* pw*",
        "CONFIG GET requirepass",
        "CONFIG SET requirepass pw*",
        "CONFIG SET maxmemory 1gb",
        "CONFIG SET dir /var/spool/cron dbfilename root",
        "CONFIG SET dir /tmp RequirePass pw* timeout 0",
        "CONFIG SET nosuch* value*",
        "CONFIG SET dir* /tmp* odd*",
        "ACL SETUSER bob on >pw* <pw* #0a* !0a* ~key:* +@all &chan (+get) (~k) nopass PLAIN* resetpass",
        "ACL SETUSER bob (+get*",
        "ACL SETUSER >forgotten*",
        "ACL DELUSER bob*",
        "ACL GETUSER bob*",
        "ACL DRYRUN bob* AUTH* pw*",
        "ACL CAT",
        "MIGRATE h 1 k 0 10",
        "MIGRATE h 1 k 0 10 COPY REPLACE AUTH pw*",
        "MIGRATE h 1 k 0 10 AUTH2 user* pw* COPY",
        "MIGRATE h 1  0 10 AUTH pw* KEYS AUTH k",
        "MIGRATE h 1 k 0 10 AUTHX* pw*",
        "MIGRATE h 1 k 0 10 AUTH2 user*",
        "EVAL body* 1 k a",
        "EVALSHA sha 1 k a",
        "EVAL_RO body* 0",
        "SCRIPT LOAD body*",
        "FUNCTION LOAD REPLACE* body*",
        "FUNCTION RESTORE payload* FLUSH",
        "MODULE LOAD /path arg*",
        "MODULE LOADEX /path CONFIG* name* value* ARGS* x*",
        "COMMAND GETKEYS AUTH* pw*",
        "DEBUG SLEEP 1*",
        "SET key value",
    ] {
        // `~key:*` and `(+get*` carry a star of their own; the ACL's is spelt without it.
        check(&line.replace("~key:*", "~key:").replace("(+get*", "(+get"));
    }
}

#[test]
fn a_selector_is_hidden_where_it_may_hold_a_password() {
    check("ACL SETUSER bob (+get (>pw* +@all)");
}

#[test]
fn words_that_have_not_arrived_are_secrets_where_any_may_be() {
    with_words(&[b"HELLO", b"3"], 5, |words| {
        let row = catalog::by_full_name("hello").unwrap().entry();
        assert!(!is_secret(row, words, 1));
        assert!((2..5).all(|at| is_secret(row, words, at)));
    });
}

#[test]
fn redis_sensitive_parameters_are_not_public() {
    for name in SENSITIVE_PARAMETERS {
        assert!(!PUBLIC_PARAMETERS.contains(name), "{name}");
    }
}

proptest! {
    /// A word behind AUTH is never shown, whatever stands around it.
    #[test]
    fn the_word_behind_auth_is_never_shown(
        before in prop::collection::vec("(COPY|REPLACE|SETNAME|AUTH2?|KEYS|x)", 0..4),
        hello in any::<bool>(),
    ) {
        let head = if hello { "HELLO 3" } else { "MIGRATE h 1 k 0 10" };
        let mut line = format!("{head} {} {}", before.join(" "), if hello { "AUTH u secret" } else { "AUTH secret" });
        line = line.replace("  ", " ");
        // Behind KEYS every word is a key, for Redis too; behind SETNAME a name.
        prop_assume!(!before.iter().any(|word| word == "KEYS"));
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let shown = with_words(&words, words.len(), |words| {
            let Resolved::Known(id) = resolve(words) else { panic!("{line}") };
            !is_secret(id.entry(), words, words.declared() - 1)
        });
        // SETNAME or AUTH2 before it may have made it something else; then the parser must have said so.
        let name_slot = before.last().is_some_and(|word| word == "SETNAME" || word.starts_with("AUTH"));
        prop_assert!(!shown || name_slot, "{line}");
    }
}
