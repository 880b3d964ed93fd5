//! The README says what the program does: its tables are held against the code.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use ravelin::{
    audit::record::Outcome,
    command::catalog,
    metrics::FAMILIES,
    policy::{
        guards::Guards,
        presets::PRESETS,
        rules::{Policy, Spec},
        scripts::{Pins, Scripts},
    },
};
use std::{fs, path::Path};

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// What stands between `<!-- name -->` and the next `<!-- /name -->`.
fn part(name: &str) -> String {
    let readme = readme();
    let (_, rest) = readme.split_once(&format!("<!-- {name} -->\n")).unwrap_or_else(|| panic!("no part {name}"));
    rest.split_once(&format!("<!-- /{name} -->")).unwrap_or_else(|| panic!("{name} does not end")).0.to_owned()
}

/// The table of keys, made from the documentation in the code. The tables that a service may carry are left out: they
/// are the same as at the top.
fn table_of_keys() -> String {
    let mut table = "| key | takes | meaning |\n| --- | --- | --- |\n".to_owned();
    let mut row: Option<(String, String)> = None;
    let mut push = |row: Option<(String, String)>| {
        let Some((head, meaning)) = row else { return };
        let (path, takes) = head.split_once("  (").unwrap();
        let carried = ["tls.", "admission.", "policy."].iter().any(|of| path.starts_with(&format!("service.N.{of}")));
        if !carried {
            let takes = takes.trim_end_matches(')');
            table.push_str(&format!("| `{path}` | {takes} | {} |\n", meaning.trim().replace('|', "\\|")));
        }
    };
    for line in ravelin::config::reference().lines() {
        if line.starts_with(' ') {
            let (_, meaning) = row.as_mut().unwrap();
            meaning.push_str(line.trim());
            meaning.push(' ');
        } else {
            push(row.replace((line.to_owned(), String::new())));
        }
    }
    push(row);
    table
}

#[test]
fn every_key_of_the_configuration_is_in_the_table_with_its_default() {
    let expected = table_of_keys();
    assert!(expected.contains("| `limits.drain_timeout` |") && expected.lines().count() > 50, "{expected}");
    let found = part("keys");
    assert!(found == expected, "the table of keys in README.md must be:\n\n{expected}");
}

#[test]
fn every_metric_is_in_the_table() {
    let table = part("metrics");
    for (name, _, labels, _) in FAMILIES {
        let row = table.lines().find(|line| line.starts_with(&format!("| `ravelin_{name}` |")));
        let row = row.unwrap_or_else(|| panic!("ravelin_{name} is missing"));
        for label in labels {
            assert!(row.contains(&format!("`{label}`")), "{name} lacks its label {label}");
        }
    }
}

#[test]
fn every_group_of_the_default_preset_is_in_the_table() {
    let table = part("hardened");
    for group in PRESETS.iter().find(|preset| preset.name == "hardened").unwrap().deny {
        let commands = group.commands.join(", ").replace('|', "\\|");
        let expected = format!("| {} | {commands} | {} |", group.name, group.why);
        assert!(table.contains(&expected), "the table of the hardened preset needs the row\n{expected}");
    }
}

/// What the README offers to applications with scripts opens the preset for scripts, and for nothing else.
#[test]
fn the_keys_for_applications_with_scripts_open_nothing_else() {
    let readme = readme();
    let (_, rest) = readme.split_once("```text\n[policy]\n").unwrap();
    let table: toml::Table = rest.split_once("\n```").unwrap().0.parse().unwrap();
    assert_eq!(table.keys().collect::<Vec<_>>(), ["scripts"], "the list is the default");
    assert!(table["scripts"]["pinned"].is_str());
    assert!(readme.contains("`scripts = \"allow\"`"));
    let verdicts = |scripts: Option<Scripts>| -> Vec<(&str, bool)> {
        let guards = Guards { scripts, ..Guards::default() };
        let spec = Spec { deny: &["preset:hardened"], guards: Some(&guards), ..Spec::default() };
        let policy = Policy::build(&spec).unwrap();
        catalog::iter().map(|(id, row)| (row.full_name, policy.judge(id).lets_through())).collect()
    };
    let opened = |scripts: Scripts| -> Vec<&str> {
        let pairs = verdicts(None).into_iter().zip(verdicts(Some(scripts)));
        pairs.filter(|((_, before), (_, after))| before != after).map(|((name, _), _)| name).collect()
    };
    // Opened to be looked at: what the file does not have is denied all the same.
    let scripts = [
        "eval",
        "eval_ro",
        "evalsha",
        "evalsha_ro",
        "fcall",
        "fcall_ro",
        "function|load",
        "script|exists",
        "script|load",
    ];
    assert_eq!(opened(Scripts::Pinned(Pins::default())), scripts);
    assert_eq!(opened(Scripts::Allow), scripts);
}

#[test]
fn every_outcome_is_explained() {
    let table = part("outcomes");
    for outcome in Outcome::ALL {
        assert!(table.contains(&format!("| `{}` |", outcome.word())), "{} is missing", outcome.word());
    }
}

#[test]
fn every_reason_is_listed() {
    let table = part("reasons");
    let row = |event: &str| {
        let row = table.lines().find(|line| line.starts_with(&format!("| `{event}` |")));
        row.unwrap_or_else(|| panic!("{event} is missing"))
    };
    for reason in ravelin::tls::failure::REASONS {
        assert!(row("handshake_failure").contains(&format!("`{reason}`")), "{reason} is missing");
    }
    // The words stand in one place, each once.
    let source = include_str!("../src/session/error.rs");
    let words: Vec<&str> = source.split(" => \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(words.contains(&"client-closed") && words.len() > 10, "{words:?}");
    for reason in words {
        assert!(row("connection_close").contains(&format!("`{reason}`")), "{reason} is missing");
    }
}

#[test]
fn every_event_is_explained() {
    let readme = readme();
    let source = include_str!("../src/audit/event.rs");
    let words: Vec<&str> = source
        .split(" { .. } => \"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .chain(["connection_open"])
        .collect();
    assert!(words.contains(&"handshake_failure") && words.len() > 10, "{words:?}");
    for word in words {
        assert!(readme.contains(&format!("`{word}`")), "{word} is missing");
    }
}

#[test]
fn the_number_of_commands_is_right() {
    let sentence = format!("{} commands and subcommands", catalog::len());
    assert!(readme().contains(&sentence), "{sentence}");
}

#[test]
fn every_file_the_readme_links_to_is_there() {
    let readme = readme();
    let links = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let local: Vec<&str> = links.filter(|link| !link.contains("://") && !link.starts_with('#')).collect();
    assert!(!local.is_empty());
    for link in local {
        let path = link.split('#').next().unwrap();
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists(), "{link} is not there");
    }
}
