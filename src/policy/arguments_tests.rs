//! What rules about arguments let pass; what a real server does with it is in `tests/arguments.rs`.

use super::*;
use crate::command::catalog::tests::with_words;

fn get(parameters: &Parameters, patterns: &[&str]) -> bool {
    let line: Vec<&[u8]> =
        [&b"CONFIG"[..], b"GET"].into_iter().chain(patterns.iter().map(|each| each.as_bytes())).collect();
    with_words(&line, line.len(), |words| parameters.may_get(words).is_ok())
}

fn set(parameters: &Parameters, pairs: &[&str]) -> Result<(), usize> {
    let line: Vec<&[u8]> =
        [&b"CONFIG"[..], b"SET"].into_iter().chain(pairs.iter().map(|each| each.as_bytes())).collect();
    with_words(&line, line.len(), |words| parameters.may_set(words))
}

#[test]
fn the_table_is_sorted_in_lower_case_and_holds_what_is_said_of_it() {
    assert!(PARAMETERS.is_sorted() && PARAMETERS.windows(2).all(|pair| pair[0] != pair[1]));
    for name in PARAMETERS {
        assert!(name.len() < PATTERN_MAX / 2 && !name.bytes().any(|byte| byte.is_ascii_uppercase()), "{name}");
    }
    for name in SECRETS.iter().chain(DANGEROUS) {
        assert!(PARAMETERS.contains(name), "{name}");
    }
}

#[test]
fn secrets_are_never_shown_by_name_or_pattern() {
    let unlisted = Parameters::unlisted();
    let everything = Parameters::unlisted().with_get(&["*"]).unwrap();
    for parameters in [&unlisted, &everything] {
        for pattern in [
            "requirepass",
            "RequirePass",
            "require*",
            "*",
            "*pass",
            "*auth",
            "?equirepass",
            "[r]equirepass",
            "\\requirepass",
            "r\\equirepass",
            "requirepas[a-z]",
            "re**pass",
            "tls-*",
            "masterau??",
            "[^a]*",
            "requirepass\0x",
            "save\0",
            "*\0",
        ] {
            assert!(!get(parameters, &[pattern]), "{pattern:?}");
            assert!(!get(parameters, &["save", pattern]), "{pattern:?}");
        }
        for pattern in ["save", "MAXMEMORY", "maxmemory*", "appendonly", "*-entries", "hz", "r?bchecksum"] {
            assert!(get(parameters, &[pattern]), "{pattern:?}");
        }
        assert!(!get(parameters, &[&"*".repeat(PATTERN_MAX + 1)]));
    }
    assert!(get(&unlisted, &["of-a-module"]) && !get(&everything, &["of-a-module"]));
    assert!(get(&unlisted, &["of-a-module*"]) && !get(&everything, &["of-a-module*"]));
}

#[test]
fn a_list_shows_what_it_names_and_patterns_that_stay_within_it() {
    let parameters = Parameters::unlisted().with_get(&["maxmemory", "maxmemory-*", "SAVE"]).unwrap();
    for pattern in ["maxmemory", "maxmemory*", "maxmemory-pol*", "save", "sav?", "s?ve"] {
        assert!(get(&parameters, &[pattern]), "{pattern}");
    }
    for pattern in ["maxclients", "max*", "s*", "*", "dir", "maxmemory-zzz*", ""] {
        assert!(!get(&parameters, &[pattern]), "{pattern}");
    }
    assert!(!get(&parameters, &["maxmemory", "dir"]), "each of several is asked about");
    let nothing = Parameters::unlisted().with_get(&[]).unwrap();
    assert!(!get(&nothing, &["save"]));
}

#[test]
fn every_name_that_is_set_must_be_listed() {
    let parameters = Parameters::unlisted().with_set(&["maxmemory", "slowlog-*"]).unwrap();
    assert_eq!(set(&parameters, &["maxmemory", "1"]), Ok(()));
    assert_eq!(set(&parameters, &["MaxMemory", "1", "slowlog-max-len", "2"]), Ok(()));
    assert_eq!(set(&parameters, &["maxmemory", "dir", "maxmemory", "2"]), Ok(()), "a value may be any word");
    assert_eq!(set(&parameters, &["maxmemory", "1", "dir", "/tmp"]), Err(4));
    assert_eq!(set(&parameters, &["dir", "/tmp", "maxmemory", "1"]), Err(2));
    assert_eq!(set(&parameters, &["maxmemory", "1", "dir"]), Err(4));
    assert_eq!(set(&parameters, &["maxmemory\0", "1"]), Err(2));
    assert_eq!(set(&parameters, &["max*", "1"]), Err(2), "CONFIG SET knows no patterns");
    assert_eq!(set(&Parameters::unlisted(), &["dir", "/tmp"]), Ok(()), "without a list the name alone decides");
}

#[test]
fn a_wrong_entry_is_named_with_its_place_and_a_suggestion() {
    let faults = Parameters::unlisted().with_get(&["save", "maxmemry", "zzz*", "requirepass"]).unwrap_err();
    let text: Vec<String> = faults.iter().map(|(at, fault)| format!("{at}: {fault}")).collect();
    assert_eq!(
        text,
        [
            "1: no parameter of Redis up to 8.6 or Valkey up to 9.1 is called so; did you mean maxmemory?",
            "2: no parameter of Redis up to 8.6 or Valkey up to 9.1 matches it",
            "3: its value is a credential, which CONFIG GET never shows through the proxy",
        ]
    );
    let set = Parameters::unlisted().with_set(&["dir", "hz"]).unwrap();
    assert_eq!(set.warnings().len(), 1);
    assert!(set.warnings()[0].contains("names dir:"), "{:?}", set.warnings());
    assert_eq!(Parameters::unlisted().with_set(&["hz"]).unwrap().warnings(), Vec::<String>::new());
    assert!(!Parameters::unlisted().with_set(&["*"]).unwrap().changeable().unwrap().contains(&"requirepass"));
}

#[test]
fn only_the_own_connection_can_be_killed_and_only_by_its_number() {
    let kills = |line: &str, own: Option<u64>| {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        with_words(&words, words.len(), |words| kills_only(words, own))
    };
    assert!(kills("CLIENT KILL ID 7", Some(7)) && kills("client kill id 7", Some(7)));
    for line in [
        "CLIENT KILL ID 8",
        "CLIENT KILL ID 07",
        "CLIENT KILL ID +7",
        "CLIENT KILL ID 7 ID 8",
        "CLIENT KILL 127.0.0.1:7",
        "CLIENT KILL TYPE normal",
        "CLIENT KILL SKIPME yes",
        "CLIENT KILL",
        "CLIENT KILL ID",
        "CLIENT KILL ID 7 TYPE normal",
        "CLIENT KILL USER 7",
        "CLIENT KILL ID\0x 7",
    ] {
        assert!(!kills(line, Some(7)), "{line}");
    }
    assert!(!kills("CLIENT KILL ID 7", None), "no number is known");
}
