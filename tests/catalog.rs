//! The generated half of the catalog against the server it was generated from.
//!
//! `cargo test --test catalog -- --ignored regenerate` writes `src/command/table.rs` anew from the `redis-server` that
//! is installed; a command that is new then lacks its row in `src/command/facts.rs`, and the library does not compile
//! until somebody has read what the command does and written it there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::print_stderr, reason = "the generator tells what it wrote")]

mod support;

use ravelin::command::{bits, catalog};
use std::fs;
use std::path::PathBuf;
use support::redis::{Redis, VERSION};
use support::wire::Reply;

const HEAD: &str = "\
// Generated from the reply of Redis 7.0.15 to `COMMAND`; never edited by hand. To write it anew:
// `cargo test --test catalog -- --ignored regenerate`. Hand-written columns are in `facts.rs`.
//! What Redis 7.0.15 itself says of each of its commands: arity, flags, ACL categories, key specifications.

use super::bits::{categories as c, flags as f, key_flags as k};
use super::catalog::{Row, row};
use super::keys::{Begin, Find, spec};

/// Every command and subcommand, sorted by name.
#[rustfmt::skip]
";

fn table_path() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "src", "command", "table.rs"].iter().collect()
}

/// The generated table, from a server of our own.
fn generate() -> String {
    let redis = Redis::start();
    assert_eq!(
        redis.version(),
        VERSION,
        "the catalog is that of Redis {VERSION} (Debian 12's redis-server): install that release to check or regenerate it"
    );
    let mut wire = redis.connect();
    wire.call(&["HELLO", "3"]);
    let reply = wire.call(&["COMMAND"]);
    let mut rows = Vec::new();
    for command in reply.elements() {
        collect(command, &mut rows);
    }
    rows.sort();
    let mut table = format!("{HEAD}pub(super) static ROWS: [Row; {}] = [\n", rows.len());
    for (_, row) in &rows {
        table.push_str(row);
    }
    table.push_str("];\n");
    table
}

/// One element of COMMAND's reply, and its subcommands, as rows with what they are sorted by.
fn collect(command: &Reply, rows: &mut Vec<((String, String), String)>) {
    let command = command.elements();
    let full_name = command[0].text();
    let (name, sub) = full_name.split_once('|').unwrap_or((&full_name, ""));
    let subcommands = command[9].elements();
    let specs: Vec<_> = command[8].elements().iter().map(key_spec).collect();
    let sub_column = if sub.is_empty() { "None".to_owned() } else { format!("Some(\"{}\")", sub.to_ascii_uppercase()) };
    let row = format!(
        "    row(\"{}\", {sub_column}, \"{full_name}\", {}, {}, {}, {}, &[{}]),\n",
        name.to_ascii_uppercase(),
        !subcommands.is_empty(),
        command[1].integer(),
        constants("f", &command[2]),
        constants("c", &command[6]),
        specs.join(", "),
    );
    rows.push(((name.to_owned(), sub.to_owned()), row));
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

#[test]
fn the_table_is_what_the_server_says() {
    let checked_in = fs::read_to_string(table_path()).unwrap();
    let generated = generate();
    for (ours, theirs) in checked_in.lines().zip(generated.lines()) {
        assert_eq!(ours, theirs, "regenerate: cargo test --test catalog -- --ignored regenerate");
    }
    assert_eq!(checked_in.len(), generated.len());
}

#[test]
#[ignore = "writes src/command/table.rs anew from the installed redis-server"]
fn regenerate() {
    fs::write(table_path(), generate()).unwrap();
    eprintln!("wrote {}", table_path().display());
}

#[test]
fn categories_are_those_of_acl_cat_and_hold_the_same_commands() {
    let redis = Redis::start();
    let mut wire = redis.connect();
    let theirs: Vec<_> = wire.call(&["ACL", "CAT"]).elements().iter().map(Reply::text).collect();
    let ours: Vec<_> = bits::categories::NAMES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(ours, theirs);
    for (category, bit) in bits::categories::NAMES {
        let mut theirs: Vec<_> = wire.call(&["ACL", "CAT", category]).elements().iter().map(Reply::text).collect();
        theirs.sort();
        let mut ours: Vec<_> = catalog::iter()
            .filter(|(_, row)| row.categories.any(*bit))
            .map(|(_, row)| row.full_name.to_owned())
            .collect();
        ours.sort();
        assert_eq!(ours, theirs, "@{category}");
    }
}

#[test]
fn the_server_knows_no_name_the_catalog_does_not() {
    let redis = Redis::start();
    let mut wire = redis.connect();
    for name in ["POST", "host:", "SENTINEL", "HELP", "CLIENT|SETINFO"] {
        assert_eq!(catalog::by_full_name(name), None, "{name}");
        assert_eq!(wire.call(&["COMMAND", "INFO", name]).elements(), [Reply::Null], "{name}");
    }
    let count = wire.call(&["COMMAND", "COUNT"]).integer();
    assert_eq!(usize::try_from(count).unwrap(), catalog::iter().filter(|(_, row)| row.sub.is_none()).count());
}
