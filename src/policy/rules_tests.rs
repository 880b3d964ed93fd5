//! What denylists mean, and what is said of wrong ones.

use super::fault::edits;
use super::warnings::{TAKEOVER, TWINS};
use super::*;

fn policy(deny: &[&str]) -> Policy {
    Policy::compile(deny).unwrap()
}

fn verdict_name<'a>(policy: &'a Policy, command: &str) -> Option<&'a str> {
    match policy.judge(catalog::by_full_name(command).unwrap()) {
        Verdict::Allow | Verdict::Shadow(_) => None,
        Verdict::Deny(denial) => Some(policy.rule_name(denial.rule)),
    }
}

#[test]
fn entries_in_shadow_mode_let_through_and_never_open_what_is_in_force() {
    let policy = Policy::build(&Spec {
        deny: &["CONFIG|SET"],
        shadow: &["CONFIG", "@hyperloglog", "SCRIPT", "config|set"],
        ..Spec::default()
    })
    .unwrap();
    let judge = |command: &str| policy.judge(catalog::by_full_name(command).unwrap());
    let shadow = |command: &str| match judge(command) {
        Verdict::Shadow(rule) => policy.rule_name(rule),
        other => panic!("{command}: {other:?}"),
    };
    assert_eq!(verdict_name(&policy, "config|set"), Some("deny:CONFIG|SET"));
    assert_eq!(
        (shadow("config|get"), shadow("pfadd"), shadow("script|load")),
        ("deny:CONFIG", "deny:@hyperloglog", "deny:SCRIPT")
    );
    assert_eq!(verdict_name(&policy, "script|debug"), Some("builtin/unsupported"));
    assert_eq!(judge("get"), Verdict::Allow);
    let denied: Vec<_> = policy.denied().flat_map(|(_, commands)| commands).collect();
    let always = ["cluster|syncslots", "script|debug", "acl|deluser", "acl|load", "acl|save", "acl|setuser"];
    assert_eq!(denied, [&always[..], &["config|set"]].concat());
    assert!(policy.shadowed().any(|(rule, commands)| rule == "deny:CONFIG" && !commands.contains(&"config|set")));
    assert!(policy.warnings().iter().any(|warning| warning.contains("shadow mode")), "{:?}", policy.warnings());
    // What is only tried out is no protection, and nobody is told it was one.
    let tried = Policy::build(&Spec { shadow: &["@all"], ..Spec::default() }).unwrap();
    assert!(tried.warnings()[0].starts_with("no command is denied"), "{:?}", tried.warnings());
    let wrong = Policy::build(&Spec { deny: &["GET", "nosuch"], shadow: &["SET", "@nosuch"], ..Spec::default() });
    let wrong = wrong.unwrap_err();
    assert_eq!(wrong.0.iter().map(|error| error.place).collect::<Vec<_>>(), [Place::Deny(1), Place::Deny(3)]);
}

#[test]
fn an_entry_denies_what_it_names_in_any_case() {
    let policy = policy(&["FlushAll", "CONFIG|set", "acl", "@SCRIPTING"]);
    for (command, rule) in [
        ("flushall", Some("deny:FLUSHALL")),
        ("flushdb", None),
        ("config|set", Some("deny:CONFIG|SET")),
        ("config|get", None),
        ("config", None),
        ("acl", Some("deny:ACL")),
        ("acl|whoami", Some("deny:ACL")),
        ("eval", Some("deny:@scripting")),
        ("function|load", Some("deny:@scripting")),
        ("script|debug", Some("deny:@scripting")),
        ("debug", None),
        ("get", None),
    ] {
        assert_eq!(verdict_name(&policy, command), rule, "{command}");
    }
}

#[test]
fn the_first_entry_that_denies_a_command_speaks() {
    let both = policy(&["CONFIG|SET", "CONFIG", "@all"]);
    assert_eq!(verdict_name(&both, "config|set"), Some("deny:CONFIG|SET"));
    assert_eq!(verdict_name(&both, "config|get"), Some("deny:CONFIG"));
    assert_eq!(verdict_name(&both, "get"), Some("deny:@all"));
}

fn is_denied_always(effect: Effect) -> bool {
    matches!(effect, Effect::Unsupported | Effect::AccessControl)
}

#[test]
fn categories_are_redis_own() {
    let dangerous = policy(&["@dangerous"]);
    for (id, row) in catalog::iter() {
        let expected = row.categories.names().any(|name| name == "dangerous") || is_denied_always(row.effect);
        assert_eq!(dangerous.judge(id) != Verdict::Allow, expected, "{}", row.full_name);
    }
}

#[test]
fn unsupported_commands_are_denied_by_an_empty_list() {
    let empty = policy(&[]);
    for (id, row) in catalog::iter() {
        let expected = is_denied_always(row.effect);
        assert_eq!(empty.judge(id) != Verdict::Allow, expected, "{}", row.full_name);
    }
    assert_eq!(empty.warnings().len(), 1);
}

#[test]
fn every_wrong_entry_is_reported_with_its_place_and_a_hint() {
    let deny = [
        "FLUSHALL",
        "FLUSHAL",
        "@dangerus",
        "preset:hardend",
        "CONFIG|SETT",
        "GET|X",
        "CONFIG SET",
        "FLUSHALL\0",
        "",
        "ZZZZZZZZ",
        "PRESET:x",
        " FLUSHALL",
    ];
    let text = Policy::compile(&deny).unwrap_err().to_string();
    let lines: Vec<_> = text.lines().collect();
    let expected = [
        "deny entry 2 (\"FLUSHAL\"): no command of Redis up to 8.6 or Valkey up to 9.1 is called so; unknown commands are denied anyway; did you mean flushall?",
        "deny entry 3 (\"@dangerus\"): Redis 7.0 has no such ACL category; did you mean @dangerous?",
        "deny entry 4 (\"preset:hardend\"): there is no such preset; did you mean preset:hardened?",
        "deny entry 5 (\"CONFIG|SETT\"): the command has no such subcommand in Redis up to 8.6 or Valkey up to 9.1; unknown ones are denied anyway; did you mean config|set?",
        "deny entry 6 (\"GET|X\"): GET has no subcommands; a rule can only name it whole",
        "deny entry 7 (\"CONFIG SET\"): no name holds such bytes (expected letters, digits and . _ : -, with one | before a subcommand); did you mean config|set?",
        "deny entry 8 (\"FLUSHALL\\0\"): no name holds such bytes (expected letters, digits and . _ : -, with one | before a subcommand)",
        "deny entry 9 (\"\"): it is empty; write a command, COMMAND|SUBCOMMAND, @category or preset:NAME, or remove it",
        "deny entry 10 (\"ZZZZZZZZ\"): no command of Redis up to 8.6 or Valkey up to 9.1 is called so; unknown commands are denied anyway",
        "deny entry 11 (\"PRESET:x\"): there is no such preset",
        "deny entry 12 (\" FLUSHALL\"): no name holds such bytes (expected letters, digits and . _ : -, with one | before a subcommand); did you mean flushall?",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn rule_names_have_an_id_each_and_the_builtin_ones_are_fixed() {
    let policy = policy(&["GET", "SET", "get"]);
    for (rule, name) in [
        (RuleId::UNKNOWN_COMMAND, "builtin/unknown-command"),
        (RuleId::NOT_A_NAME, "builtin/not-a-name"),
        (RuleId::AUTHENTICATION, "builtin/authentication"),
        (RuleId::IN_TRANSACTION, "builtin/in-transaction"),
        (RuleId::UNSUPPORTED, "builtin/unsupported"),
        (RuleId::NOT_CANONICAL, "builtin/not-canonical"),
        (RuleId::HELD_COMMAND, "builtin/held-command"),
        (RuleId::IN_STREAM, "builtin/in-stream"),
        (RuleId::CREDENTIAL, "builtin/credential"),
        (RuleId::RENAMED, "builtin/renamed"),
        (RuleId(RuleId::BUILTIN), "deny:GET"),
        (RuleId(RuleId::BUILTIN + 1), "deny:SET"),
    ] {
        assert_eq!(policy.rule_name(rule), name);
    }
    assert_eq!(policy.rule_name(RuleId(RuleId::BUILTIN + 2)), "builtin/unknown-rule");
}

#[test]
fn denied_lists_each_command_once_under_the_rule_that_speaks() {
    let policy = policy(&["CONFIG|SET", "CONFIG", "CONFIG|GET"]);
    let listed: Vec<_> = policy.denied().collect();
    assert_eq!(
        listed,
        [
            ("builtin/unsupported", vec!["cluster|syncslots", "script|debug"]),
            ("builtin/access-control", vec!["acl|deluser", "acl|load", "acl|save", "acl|setuser"]),
            ("deny:CONFIG|SET", vec!["config|set"]),
            ("deny:CONFIG", vec!["config", "config|get", "config|help", "config|resetstat", "config|rewrite"]),
        ]
    );
}

#[test]
fn scripts_left_open_and_twins_left_open_are_warned_of() {
    let warnings = policy(&["SLAVEOF", "EVAL"]).warnings().join("\n");
    assert!(warnings.contains("scripts can run any command"), "{warnings}");
    assert!(warnings.contains("EVALSHA") && !warnings.contains("EVAL,"), "{warnings}");
    assert!(warnings.contains("SLAVEOF is denied, but REPLICAOF does the same and is not"), "{warnings}");
    assert!(warnings.contains("CONFIG|SET, DEBUG") && warnings.contains("can take the server over"), "{warnings}");
    assert_eq!(policy(&["preset:hardened"]).warnings(), Vec::<String>::new());
    for name in TAKEOVER.iter().chain(TWINS.iter().flat_map(|(one, other)| [one, other])) {
        assert!(catalog::by_full_name(name).is_some(), "{name} is no command");
    }
}

#[test]
fn edits_counts_what_must_change() {
    for (left, right, expected) in [("", "", 0), ("get", "get", 0), ("gt", "get", 1), ("config", "confgi", 2)] {
        assert_eq!(edits(left.as_bytes(), right.as_bytes()), expected);
        assert_eq!(edits(right.as_bytes(), left.as_bytes()), expected);
    }
}
