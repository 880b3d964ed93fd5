//! Command names are looked up in one place. Whoever compares a word with a command's name elsewhere has left the
//! catalog's rules (case, NUL, aliases, subcommands) behind: this reads the sources and says where.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use ravelin::command::catalog;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Comparisons with a word that happens to be a command's name, and is none there: file, literal, what it is.
const NOT_COMMANDS: &[(&str, &str, &str)] = &[
    ("config/", "info", "a level of the operational log"),
    ("config/", "debug", "a level of the operational log"),
    ("server/", "log", "a table of the configuration"),
    ("config/", "auth", "a key of the configuration"),
    ("lane/", "subscribe", "the first word of a confirmation, which is a reply"),
    ("lane/", "unsubscribe", "the first word of a confirmation, which is a reply"),
    ("lane/", "psubscribe", "the first word of a confirmation, which is a reply"),
    ("lane/", "punsubscribe", "the first word of a confirmation, which is a reply"),
    ("lane/", "ssubscribe", "the first word of a confirmation, which is a reply"),
    ("lane/", "sunsubscribe", "the first word of a confirmation, which is a reply"),
    ("session/options.rs", "auth", "an option of HELLO, whose own name the catalog has already found"),
    ("session/options.rs", "setname", "an option of HELLO likewise"),
    ("cli/", "command", "an event of the audit stream"),
    ("audit/sink/", "command", "an event of the audit stream"),
    ("net/health.rs", "auth", "a word in an error of Redis'"),
    ("resp/", "ping", "the one exact line that is no array, read before there is a command"),
];

/// What makes a line a comparison, besides being the arm of a match.
const COMPARING: &[&str] = &[
    "==",
    "!=",
    "eq_ignore_ascii_case",
    "starts_with",
    "ends_with",
    "strip_prefix",
    "contains(",
    "matches!",
    "word_is",
];

#[test]
fn no_command_name_is_compared_outside_command_and_policy() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let names = |subs: bool| -> BTreeSet<String> {
        let of_row = |row: &'static ravelin::command::Entry| if subs { row.sub } else { Some(row.name) };
        catalog::iter().filter_map(|(_, row)| of_row(row)).map(str::to_ascii_lowercase).collect()
    };
    let (commands, subcommands) = (names(false), names(true));
    let mut tests = Vec::new();
    visit(&src, &mut |path| tests.extend(test_modules(path, &src)));
    let mut found = Vec::new();
    let mut files = 0;
    visit(&src, &mut |path| {
        let relative = path.strip_prefix(&src).unwrap().to_string_lossy().replace('\\', "/");
        let of_tests = relative.ends_with("tests.rs") || tests.contains(&relative);
        if relative.starts_with("command/") || relative.starts_with("policy/") || of_tests {
            return;
        }
        files += 1;
        let text = fs::read_to_string(path).unwrap();
        for Literal { number, text: literal, bytes } in compared_literals(&text) {
            let lowered = literal.to_ascii_lowercase();
            let excused = |(file, word, _): &(&str, &str, &str)| relative.starts_with(file) && *word == lowered;
            // Subcommands have common names (`log`, `list`); a word of a request is compared as bytes.
            let named = commands.contains(&lowered) || (bytes && subcommands.contains(&lowered));
            if named && !NOT_COMMANDS.iter().any(excused) {
                found.push(format!("src/{relative}:{number}: {literal:?}"));
            }
        }
    });
    assert!(files > 10, "only {files} files were read");
    assert!(
        found.is_empty(),
        "ask the catalog (command::resolve, Entry::effect) instead, or excuse the word in NOT_COMMANDS:\n{}",
        found.join("\n")
    );
}

fn visit(dir: &Path, file: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            visit(&path, file);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            file(&path);
        }
    }
}

/// Files that are modules for tests only: those a `mod.rs` declares behind `#[cfg(test)]`.
fn test_modules(path: &Path, src: &Path) -> Vec<String> {
    if !path.ends_with("mod.rs") {
        return Vec::new();
    }
    let directory = path.parent().unwrap().strip_prefix(src).unwrap().to_string_lossy().replace('\\', "/");
    let text = fs::read_to_string(path).unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines
        .windows(2)
        .filter(|pair| pair[0] == "#[cfg(test)]")
        .filter_map(|pair| pair[1].split_once("mod ")?.1.strip_suffix(';'))
        .map(|name| format!("{directory}/{name}.rs"))
        .collect()
}

/// A string in a comparison.
struct Literal {
    number: usize,
    text: String,
    /// Whether it is a byte string.
    bytes: bool,
}

/// String and byte-string literals on lines that compare, with their line numbers; comments and the module of tests at
/// a file's end are left out.
fn compared_literals(text: &str) -> Vec<Literal> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let tests = lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].contains("mod ") && pair[1].ends_with('{'));
    let mut found = Vec::new();
    for (number, line) in (1..).zip(&lines[..tests.unwrap_or(lines.len())]) {
        if line.starts_with("//") || line.starts_with("#[") {
            continue;
        }
        // What stands before an arm's arrow is compared, what stands behind it is made.
        let (pattern, made) = line.split_once("=>").unwrap_or(("", line));
        let comparing = COMPARING.iter().any(|mark| made.contains(mark));
        let mut rest = if comparing { line } else { pattern };
        while let Some(start) = rest.find('"') {
            let bytes = rest[..start].ends_with('b');
            rest = &rest[start + 1..];
            let Some(end) = rest.find('"') else { break };
            found.push(Literal { number, text: rest[..end].to_owned(), bytes });
            rest = &rest[end + 1..];
        }
    }
    found
}

#[test]
fn the_reader_sees_comparisons_and_nothing_else() {
    let text = r#"
        if word == b"FLUSHALL" { }
        let message = "GET";
        // word == b"SET"
        b"Config" => "DEBUG",
        word.eq_ignore_ascii_case(b"keys") || other.starts_with("a")
        #[cfg(test)]
        mod elsewhere;
        if word == b"INCR" { }
        #[cfg(test)]
        mod tests {
            if word == b"DEL" { }
    "#;
    let literals: Vec<_> = compared_literals(text)
        .into_iter()
        .map(|Literal { number, text, bytes }| format!("{number} {}{text}", if bytes { "b:" } else { "" }))
        .collect();
    assert_eq!(literals, ["2 b:FLUSHALL", "5 b:Config", "6 b:keys", "6 a", "9 b:INCR"]);
}
