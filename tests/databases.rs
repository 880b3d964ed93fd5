//! What the proxy says of the databases a command touches, held against what a real server changed in each of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use ravelin::{
    command::{
        Resolved,
        databases::{Databases, find},
        resolve,
    },
    resp::request::{Request, RequestLimits, RequestParser},
};
use support::{
    redis::Redis,
    wire::{Reply, Wire, encode},
};

const OWN: u32 = 5;

/// What each database holds: keys and values, in order.
fn contents(control: &mut Wire<std::os::unix::net::UnixStream>) -> Vec<Vec<(String, String)>> {
    (0..8)
        .map(|db| {
            control.call(&["SELECT", &db.to_string()]).expect_ok();
            let mut keys: Vec<String> = control.call(&["KEYS", "*"]).elements().iter().map(Reply::text).collect();
            keys.sort();
            keys.into_iter().map(|key| (key.clone(), control.call(&["GET", &key]).text())).collect()
        })
        .collect()
}

fn found(words: &[&str]) -> (Databases, Vec<u32>) {
    let limits = RequestLimits { words_max: 64, bulk_max: 1024, blanks_max: 0, inline: false };
    let mut parser = RequestParser::new(limits);
    let bytes = encode(words);
    assert!(matches!(parser.next(&bytes), Ok(Request::Command { .. })));
    let words = parser.words(&bytes);
    let Resolved::Known(id) = resolve(&words) else { panic!("an unknown command") };
    let mut out = Vec::new();
    (find(id.entry(), &words, OWN, &mut out), out)
}

/// A small generator: the same lines in every run.
struct Dice(u64);

impl Dice {
    fn roll<'a>(&mut self, sides: &[&'a str]) -> &'a str {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        sides[usize::try_from(self.0 >> 33).unwrap() % sides.len()]
    }
}

#[test]
fn nothing_changes_in_a_database_that_was_not_named() {
    let redis = Redis::start();
    let mut control = redis.connect();
    let numbers = ["0", "1", "2", "3", "5", "7", "9999", "-1", "+1", "01", "x", ""];
    let mut dice = Dice(4);
    let (mut changed, mut told) = (0, 0);
    for _ in 0..600 {
        control.call(&["FLUSHALL"]).expect_ok();
        for db in 0..8 {
            control.call(&["SELECT", &db.to_string()]).expect_ok();
            control.call(&["SET", "here", &db.to_string()]).expect_ok();
            control.call(&["SET", &format!("only{db}"), "x"]).expect_ok();
        }
        let key = dice.roll(&["only5", "here", "none"]);
        let line: Vec<&str> =
            match dice.roll(&["MOVE", "COPY", "COPY", "SWAPDB", "SELECT", "FLUSHDB", "FLUSHALL", "SET"]) {
                "MOVE" => vec!["move", key, dice.roll(&numbers)],
                "COPY" => {
                    let mut line = vec!["Copy", key, dice.roll(&["to", "here", "only5"])];
                    for _ in 0..dice.roll(&["", "x", "xx", "xxx"]).len() {
                        line.push(dice.roll(&["DB", "db", "REPLACE", "replace", "dB"]));
                        if line.last().unwrap().len() == 2 {
                            line.push(dice.roll(&numbers));
                        }
                    }
                    line
                }
                "SWAPDB" => vec!["SWAPDB", dice.roll(&numbers), dice.roll(&numbers)],
                "SELECT" => vec!["SELECT", dice.roll(&numbers)],
                "SET" => vec!["SET", key, "new"],
                other => vec![other],
            };
        let before = contents(&mut control);
        let mut client = redis.connect();
        client.call(&["SELECT", &OWN.to_string()]).expect_ok();
        let reply = client.call(&line);
        // What SELECT chose is where the next write goes.
        let selected = line[0] == "SELECT" && reply.error().is_none();
        if selected {
            client.call(&["SET", "here", "chosen"]).expect_ok();
        }
        let after = contents(&mut control);
        let (databases, named) = found(&line);
        for db in 0..8_u32 {
            let at = usize::try_from(db).unwrap();
            if before[at] == after[at] {
                continue;
            }
            changed += 1;
            match databases {
                Databases::Exact => assert!(named.contains(&db), "{line:?} changed {db}, and {named:?} were named"),
                Databases::All | Databases::Undeterminable => {}
            }
        }
        told += usize::from(databases == Databases::Exact);
    }
    assert!(changed > 300 && told > 300, "{changed} databases changed, {told} lines were told");
}
