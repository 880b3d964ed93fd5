//! The table of databases, row by row and word by word.

use super::*;
use crate::command::catalog::{self, tests::with_words};
use crate::command::keys;

fn of(full_name: &str, line: &[&[u8]]) -> (Touched, Vec<u32>) {
    let mut visited = Vec::new();
    let entry = catalog::by_full_name(full_name).unwrap().entry();
    let touched = with_words(line, line.len(), |words| {
        each(entry, words, 7, |db| {
            visited.push(db);
            true
        })
    });
    (touched, visited)
}

fn line(text: &str) -> Vec<&[u8]> {
    text.split(' ').map(str::as_bytes).collect()
}

#[test]
fn commands_name_the_databases_they_touch() {
    let cases: &[(&str, &str, &[u32])] = &[
        ("select", "SELECT 3", &[3]),
        ("select", "SELECT", &[]),
        ("select", "SELECT -1", &[]),
        ("select", "SELECT x", &[]),
        ("select", "SELECT 2147483647", &[2_147_483_647]),
        ("swapdb", "SWAPDB 1 2", &[1, 2]),
        ("swapdb", "SWAPDB -1 2", &[2]),
        ("move", "MOVE k 2", &[7, 2]),
        ("copy", "COPY a b", &[7]),
        ("copy", "COPY a b db 2", &[7, 2]),
        ("copy", "COPY a b DB 2 REPLACE Db 3", &[7, 2, 3]),
        ("copy", "COPY a b DB", &[7]),
        ("copy", "COPY DB 1", &[7]),
        // What stands behind the first DB is its number, whatever it reads.
        ("copy", "COPY a b DB DB 3", &[7]),
        ("copy", "COPY db DB REPLACE DB 4", &[7, 4]),
        ("migrate", "MIGRATE h 1 k 3 100", &[7, 3]),
        ("migrate", "MIGRATE h 1  3 100 KEYS 4 5", &[7, 3]),
        ("get", "GET k", &[7]),
        ("flushdb", "FLUSHDB", &[7]),
        ("keys", "KEYS *", &[7]),
        ("scan", "SCAN 0", &[7]),
        ("dbsize", "DBSIZE", &[7]),
        ("sort", "SORT k", &[7]),
        ("xread", "XREAD STREAMS k 0", &[7]),
        ("memory|usage", "MEMORY USAGE k", &[7]),
        // Of @write without a key: Valkey asks whether the selected database may be used.
        ("function|load", "FUNCTION LOAD x", &[7]),
        ("cluster|getkeysinslot", "CLUSTER GETKEYSINSLOT 1 1", &[7]),
        ("ping", "PING", &[]),
        ("multi", "MULTI", &[]),
        ("publish", "PUBLISH c m", &[]),
        ("spublish", "SPUBLISH c m", &[]),
        ("info", "INFO", &[]),
    ];
    for (name, text, expected) in cases {
        assert_eq!(of(name, &line(text)), (Touched::Visited, expected.to_vec()), "{text}");
    }
}

#[test]
fn a_visitor_that_says_no_is_not_asked_again() {
    let entry = catalog::by_full_name("swapdb").unwrap().entry();
    let mut asked = Vec::new();
    let touched = with_words(&line("SWAPDB 1 2"), 3, |words| {
        each(entry, words, 7, |db| {
            asked.push(db);
            false
        })
    });
    assert_eq!((touched, asked), (Touched::No(1), vec![1]));
}

#[test]
fn what_reaches_every_database_says_so() {
    for name in ALL.iter().chain(&["sync", "psync", "monitor"]) {
        assert_eq!(of(name, &line("x y z")), (Touched::All, vec![]), "{name}");
        assert_eq!(catalog::by_full_name(name).unwrap().entry().reach, Reach::All, "{name}");
    }
    let scripts: Vec<&str> =
        catalog::iter().filter(|(_, row)| row.reach == Reach::Script).map(|(_, row)| row.full_name).collect();
    assert_eq!(scripts, ["eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro"]);
    for name in scripts {
        assert_eq!(of(name, &line("x y z")), (Touched::All, vec![]), "{name}");
    }
}

#[test]
fn every_name_in_the_table_is_a_row_and_every_row_that_has_keys_touches_a_database() {
    for name in ALL.iter().chain(NAMED).chain(OWN) {
        assert!(catalog::by_full_name(name).is_some(), "{name} is no command");
    }
    for (_, row) in catalog::iter() {
        // A row that is named is read by its words, and by none of another row's.
        assert_eq!(row.reach == Reach::Named, NAMED.contains(&row.full_name), "{}", row.full_name);
        assert!(row.reach != Reach::None || !crate::command::access::has_keys(row), "{}", row.full_name);
        // Its numbers are read when it is whole: nothing of it may have been sent before.
        let first = [row.name.as_bytes(), b"1"];
        if row.reach == Reach::Named {
            assert!(!with_words(&first, 9, |words| keys::settled(row, words)), "{}", row.full_name);
        }
    }
}

#[test]
fn the_head_of_this_file_names_every_row_that_names_databases_or_reaches_all() {
    let table: String = include_str!("databases.rs").lines().filter(|line| line.starts_with("//! | ")).collect();
    for (_, row) in catalog::iter().filter(|(_, row)| matches!(row.reach, Reach::Named | Reach::All)) {
        // SLAVEOF is REPLICAOF's other name.
        let name = row.full_name.to_ascii_uppercase().replace('|', " ").replace("SLAVEOF", "REPLICAOF");
        assert!(table.contains(&name), "{name}");
        // Those who write rules have it by its last word.
        let docs = include_str!("../../deploy/docs/policy.md");
        let section = docs.split("\n## ").find(|section| section.starts_with("Databases\n")).unwrap();
        let last = row.sub.unwrap_or(row.name).replace("SLAVEOF", "REPLICAOF");
        assert!(section.contains(&last), "{name} is not in policy.md");
    }
}

#[test]
fn numbers_and_options_that_can_be_read_in_two_ways_leave_the_databases_unknown() {
    // Beyond an `int` old servers cut it to one.
    let beyond = ["2147483648", "4294967296", "4294967297", "-4294967295", "99999999999999999999"];
    for number in ["+1", "01", " 1", "1 ", "", "-0", "1\0", "\0x"].into_iter().chain(beyond) {
        let number = number.as_bytes();
        for (name, words) in [
            ("select", vec![&b"SELECT"[..], number]),
            ("swapdb", vec![b"SWAPDB", b"1", number]),
            ("swapdb", vec![b"SWAPDB", number, b"1"]),
            ("move", vec![b"MOVE", b"k", number]),
            ("copy", vec![b"COPY", b"a", b"b", b"DB", number]),
            ("migrate", vec![b"MIGRATE", b"h", b"1", b"k", number, b"10"]),
        ] {
            assert_eq!(of(name, &words).0, Touched::Unknown, "{words:?}");
        }
    }
    for option in [&b"DB\0"[..], b"DB\0x", b"REPLACE\0"] {
        assert_eq!(of("copy", &[b"COPY", b"a", b"b", option, b"1"]).0, Touched::Unknown);
    }
}

#[test]
fn what_every_server_refuses_is_no_database() {
    for (word, expected) in [
        ("0", Number::Database(0)),
        ("2147483647", Number::Database(2_147_483_647)),
        ("x", Number::Refused),
        ("3x", Number::Refused),
        ("0x1", Number::Refused),
        ("1.0", Number::Refused),
        ("-1", Number::Refused),
        ("-2147483648", Number::Refused),
        ("-2147483649", Number::Ambiguous),
        ("-4294967296", Number::Ambiguous),
        ("", Number::Ambiguous),
        (" 1", Number::Ambiguous),
        ("+1", Number::Ambiguous),
        ("01", Number::Ambiguous),
        ("x\0", Number::Ambiguous),
    ] {
        assert_eq!(read(word.as_bytes()), expected, "{word:?}");
    }
}

#[test]
fn numbers_that_have_not_arrived_are_unknown() {
    for (_, row) in catalog::iter().filter(|(_, row)| row.reach == Reach::Named) {
        let touched = with_words(&[row.name.as_bytes(), b"1"], 9, |words| each(row, words, 0, |_| true));
        assert_eq!(touched, Touched::Unknown, "{}", row.full_name);
    }
}
