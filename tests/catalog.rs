//! The generated half of the catalog against the servers it was generated from.
//!
//! The reference is Redis 7.0.15; rows with `.since(…)` are commands that came later, from the newest Redis and Valkey
//! that can be had. `cargo test --test catalog -- --ignored regenerate` writes the rows of one server into
//! `src/command/table.rs`: of the reference, or with `RAVELIN_TEST_SERVER` of one of the newest. A command that is new
//! then lacks its row in `src/command/facts.rs`, and the library does not compile until somebody has read what the
//! command does and written it there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::print_stderr, reason = "the generator tells what it wrote")]

mod support;

use ravelin::command::{bits, catalog};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use support::redis::{Redis, VERSION};
use support::wire::Reply;

const HEAD: &str = "\
// Generated from the replies of Redis 7.0.15 and, where a row says since when, of Redis 8.6.2 and Valkey 9.1.2 to
// `COMMAND` and `COMMAND DOCS`; never edited by hand. To write it anew:
// `cargo test --test catalog -- --ignored regenerate`. Hand-written columns are in `facts.rs`.
//! What the servers themselves say of each of their commands: arity, flags, ACL categories, key specifications.

use super::bits::{categories as c, flags as f, key_flags as k};
use super::catalog::{Row, row};
use super::keys::{Begin, Find, spec};

/// Every command and subcommand, sorted by name.
#[rustfmt::skip]
";

/// The newest servers that can be had; what they know and the reference does not is in the table with `.since(…)`.
const NEWEST: [(&str, &str); 2] = [("Redis", "8.6.2"), ("Valkey", "9.1.2")];

/// Rows that two of the newest servers describe differently: the table holds Redis' words. With the reason why the
/// difference cannot matter here.
const DIFFERENT: &[(&str, &str)] = &[
    ("client|no-touch", "the flag allow_busy, which nothing here asks for"),
    ("client|setinfo", "likewise"),
    ("cluster|myshardid", "the flag loading, likewise"),
    ("hsetex", "update or insert: the key is written either way"),
];

/// Command and subcommand.
type Name = (String, String);

/// A row of the table as it is written there, without `.since(…)`, and what stands in that.
#[derive(Clone, Debug, PartialEq)]
struct Written {
    row: String,
    since: Vec<String>,
}

type Table = BTreeMap<Name, Written>;

fn table_path() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "src", "command", "table.rs"].iter().collect()
}

/// The table as it is checked in.
fn read(text: &str) -> Table {
    let mut table = Table::new();
    for row in text.lines().filter_map(|line| line.trim().strip_suffix(',')).filter(|row| row.starts_with("row(")) {
        // The full name is the first word of the row that is in lower case.
        let names = row.split('"').skip(1).step_by(2);
        let full_name = names.clone().find(|name| name.chars().any(|c| c.is_ascii_lowercase())).expect("a full name");
        let (row, since) = match row.split_once(".since(\"") {
            Some((row, since)) => (row, since.trim_end_matches("\")").split(", ").map(str::to_owned).collect()),
            None => (row, Vec::new()),
        };
        table.insert(key(full_name), Written { row: row.to_owned(), since });
    }
    table
}

fn write(table: &Table) -> String {
    let mut text = format!("{HEAD}pub(super) static ROWS: [Row; {}] = [\n", table.len());
    for Written { row, since } in table.values() {
        let since = if since.is_empty() { String::new() } else { format!(".since(\"{}\")", since.join(", ")) };
        text.push_str(&format!("    {row}{since},\n"));
    }
    text.push_str("];\n");
    text
}

fn key(full_name: &str) -> Name {
    // Modules write their names in upper case, those that are built in among them (the vector sets).
    let full_name = full_name.to_ascii_lowercase();
    let (name, sub) = full_name.split_once('|').unwrap_or((&full_name, ""));
    (name.to_owned(), sub.to_owned())
}

/// What a server says of all its commands; `since` only where the reference does not know the command.
fn ask(redis: &Redis) -> Table {
    let mut wire = redis.connect();
    wire.call(&["HELLO", "3"]);
    let mut rows = Vec::new();
    for command in wire.call(&["COMMAND"]).elements() {
        collect(command, &mut rows);
    }
    let reply = wire.call(&["COMMAND", "DOCS"]);
    let mut since = BTreeMap::new();
    releases(&reply, &mut since);
    rows.into_iter()
        .map(|(name, row)| {
            let release = since.get(&name).cloned().unwrap_or_default();
            (name, Written { row, since: vec![release] })
        })
        .collect()
}

/// In which release each command came, by name.
fn releases(docs: &Reply, into: &mut BTreeMap<Name, String>) {
    let Reply::Map(pairs) = docs else { panic!("COMMAND DOCS is no map: {docs:?}") };
    for (name, of) in pairs {
        let Reply::Map(fields) = of else { panic!("{of:?}") };
        for (field, value) in fields {
            match field.text().as_str() {
                "since" => drop(into.insert(key(&name.text()), value.text())),
                "subcommands" => releases(value, into),
                _ => {}
            }
        }
    }
}

/// The checked-in table with what this server says in it.
fn merged(mut table: Table, vendor: &str, version: &str, theirs: Table) -> Table {
    if version == VERSION {
        table.retain(|_, written| !written.since.is_empty());
        table.extend(theirs.into_iter().map(|(name, written)| (name, Written { since: Vec::new(), ..written })));
        return table;
    }
    for (name, Written { row, since }) in theirs {
        // What came before the two parted ways is Redis'.
        let since = match since.concat() {
            release if release.starts_with("7.") => format!("Redis {release}"),
            release => format!("{vendor} {release}"),
        };
        match table.get_mut(&name) {
            Some(known) if known.since.is_empty() => {}
            Some(known) => {
                let of = since.split(' ').next().unwrap();
                known.since.retain(|other| !other.starts_with(of));
                known.since.push(since);
                known.since.sort();
                if vendor == "Redis" {
                    known.row = row;
                }
            }
            None => drop(table.insert(name, Written { row, since: vec![since] })),
        }
    }
    table
}

/// One element of COMMAND's reply, and its subcommands, as rows with what they are sorted by.
fn collect(command: &Reply, rows: &mut Vec<(Name, String)>) {
    let command = command.elements();
    let full_name = command[0].text().to_ascii_lowercase();
    let (name, sub) = key(&full_name);
    let subcommands = command[9].elements();
    let specs: Vec<_> = command[8].elements().iter().map(key_spec).collect();
    let sub_column = if sub.is_empty() { "None".to_owned() } else { format!("Some(\"{}\")", sub.to_ascii_uppercase()) };
    let row = format!(
        "row(\"{}\", {sub_column}, \"{full_name}\", {}, {}, {}, {}, &[{}])",
        name.to_ascii_uppercase(),
        !subcommands.is_empty(),
        command[1].integer(),
        constants("f", &command[2]),
        constants("c", &command[6]),
        specs.join(", "),
    );
    rows.push(((name, sub), row));
    for sub in subcommands {
        collect(sub, rows);
    }
}

/// Names of bits, as an expression.
fn constants(module: &str, names: &Reply) -> String {
    let constant = |name: &Reply| format!("{module}::{}", name.text().trim_start_matches('@').to_ascii_uppercase());
    let all: Vec<_> = names.elements().iter().map(constant).collect();
    if all.is_empty() { "0".to_owned() } else { all.join(" | ") }
}

fn key_spec(spec: &Reply) -> String {
    let part = |name: &str| (spec.field(name).field("type").text(), spec.field(name).field("spec"));
    let (begin, of) = part("begin_search");
    let begin = match begin.as_str() {
        "index" => format!("Begin::Index({})", of.field("index").integer()),
        "keyword" => format!("Begin::Keyword(\"{}\", {})", of.field("keyword").text(), of.field("startfrom").integer()),
        "unknown" => "Begin::Unknown".to_owned(),
        other => panic!("a new kind of begin_search: {other}"),
    };
    let (find, of) = part("find_keys");
    let find = match find.as_str() {
        "range" => format!(
            "Find::Range {{ last: {}, step: {}, limit: {} }}",
            of.field("lastkey").integer(),
            of.field("keystep").integer(),
            of.field("limit").integer()
        ),
        "keynum" => format!(
            "Find::Count {{ at: {}, first: {}, step: {} }}",
            of.field("keynumidx").integer(),
            of.field("firstkey").integer(),
            of.field("keystep").integer()
        ),
        "unknown" => "Find::Unknown".to_owned(),
        other => panic!("a new kind of find_keys: {other}"),
    };
    format!("spec({begin}, {find}, {})", constants("k", spec.field("flags")))
}

/// The server's vendor and its release.
fn who(redis: &Redis) -> (String, String) {
    let info = redis.connect().call(&["INFO", "server"]).text();
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
    match field("valkey_version:") {
        Some(version) => ("Valkey".to_owned(), version),
        None => ("Redis".to_owned(), field("redis_version:").expect("INFO server names redis_version")),
    }
}

#[test]
fn the_table_is_what_the_server_says() {
    let redis = Redis::start();
    let (vendor, version) = who(&redis);
    let checked_in = fs::read_to_string(table_path()).unwrap();
    let table = read(&checked_in);
    assert_eq!(write(&table), checked_in, "the table is written as the generator writes it");
    assert_eq!(table.len(), catalog::len());
    if version == VERSION {
        let generated = write(&merged(table, &vendor, &version, ask(&redis)));
        for (ours, theirs) in checked_in.lines().zip(generated.lines()) {
            assert_eq!(ours, theirs, "regenerate: cargo test --test catalog -- --ignored regenerate");
        }
        assert_eq!(checked_in.len(), generated.len());
        return;
    }
    assert!(
        NEWEST.contains(&(&vendor, &version)),
        "the catalog is that of Redis {VERSION} (Debian 12's redis-server) and of {NEWEST:?}: install one of them to check \
         or regenerate it"
    );
    let theirs = ask(&redis);
    let mut later = 0;
    for (name, written) in &merged(table.clone(), &vendor, &version, theirs.clone()) {
        let ours = table.get(name).unwrap_or_else(|| panic!("{name:?} is not in the table: regenerate it"));
        assert_eq!(ours.since, written.since, "{name:?}");
        if ours.since.is_empty() {
            continue;
        }
        later += usize::from(theirs.contains_key(name));
        let described = theirs.get(name).is_none_or(|theirs| theirs.row == ours.row);
        let full_name = format!("{}|{}", name.0, name.1);
        let known = DIFFERENT.iter().any(|(different, _)| *different == full_name.trim_end_matches('|'));
        assert!(described || known, "{vendor} {version} says otherwise of {name:?}: {:?}", theirs[name]);
    }
    assert!(later > 30, "only {later} commands of {vendor} {version} are later than the reference");
}

#[test]
#[ignore = "writes src/command/table.rs anew from the server at hand"]
fn regenerate() {
    let redis = Redis::start();
    let (vendor, version) = who(&redis);
    let table = read(&fs::read_to_string(table_path()).unwrap());
    fs::write(table_path(), write(&merged(table, &vendor, &version, ask(&redis)))).unwrap();
    eprintln!("wrote {} with what {vendor} {version} says", table_path().display());
}

#[test]
fn categories_are_those_of_acl_cat_and_hold_the_same_commands() {
    let redis = Redis::start();
    let reference = who(&redis).1 == VERSION;
    let mut wire = redis.connect();
    if reference {
        let theirs: Vec<_> = wire.call(&["ACL", "CAT"]).elements().iter().map(Reply::text).collect();
        let ours: Vec<_> = bits::categories::NAMES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(ours, theirs);
    }
    // Of a newer server, what came after the reference: it may have thought better of the others.
    let mine: Vec<_> = catalog::iter()
        .map(|(_, row)| row)
        .filter(|row| row.since.is_some() != reference)
        .filter(|row| wire.call(&["COMMAND", "INFO", row.full_name]).elements() != [Reply::Null])
        .collect();
    assert!(mine.len() > 30, "only {} rows are compared", mine.len());
    for (category, bit) in bits::categories::NAMES {
        let mut theirs: Vec<_> = wire.call(&["ACL", "CAT", category]).elements().iter().map(Reply::text).collect();
        theirs.retain(|name| reference || mine.iter().any(|row| row.full_name == name));
        theirs.sort();
        let mut ours: Vec<_> =
            mine.iter().filter(|row| row.categories.any(*bit)).map(|row| row.full_name.to_owned()).collect();
        ours.sort();
        assert_eq!(ours, theirs, "@{category}");
    }
}

#[test]
fn the_server_knows_no_name_the_catalog_does_not() {
    let redis = Redis::start();
    let mut wire = redis.connect();
    for name in ["POST", "host:", "SENTINEL", "HELP", "JSON.SET"] {
        assert_eq!(catalog::by_full_name(name), None, "{name}");
        assert_eq!(wire.call(&["COMMAND", "INFO", name]).elements(), [Reply::Null], "{name}");
    }
    for command in wire.call(&["COMMAND"]).elements() {
        let name = command.elements()[0].text();
        assert!(catalog::by_full_name(&name).is_some(), "{name}");
    }
}
