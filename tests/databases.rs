//! What the proxy says of the databases a command touches, held against what a real server changed in each of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use ravelin::{
    command::{
        CommandId, Resolved,
        databases::{Reach, Touched, each},
        resolve,
    },
    policy::{
        databases::Databases,
        rules::{Policy, Question, Spec},
    },
    resp::{
        Words,
        request::{Request, RequestLimits, RequestParser},
    },
};
use support::{
    redis::{Redis, Release},
    wire::{Reply, Wire, encode},
};

const OWN: u32 = 5;

/// Writes into the database that its argument selects, if any does.
const SCRIPT: &str = "redis.pcall('SELECT', ARGV[1]) return redis.call('SET', KEYS[1], 'by script')";

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

/// Calls `then` with the words of a command line and its row.
fn with_words<T, W: AsRef<[u8]>>(words: &[W], then: impl FnOnce(CommandId, &Words<'_>) -> T) -> T {
    let limits = RequestLimits { words_max: 64, bulk_max: 1024, blanks_max: 0, inline: false };
    let mut parser = RequestParser::new(limits);
    let bytes = encode(words);
    assert!(matches!(parser.next(&bytes), Ok(Request::Command { .. })));
    let words = parser.words(&bytes);
    let Resolved::Known(id) = resolve(&words) else { panic!("an unknown command") };
    then(id, &words)
}

/// What the table says, and the numbers it names.
fn found(words: &[&str]) -> (Touched, Vec<u32>) {
    let mut out = Vec::new();
    let touched = with_words(words, |id, words| {
        each(id.entry(), words, OWN, |db| {
            out.push(db);
            true
        })
    });
    (touched, out)
}

/// Whether a policy lets the line through, judged as the session judges it.
fn passes(policy: &Policy, line: &[&str]) -> bool {
    with_words(line, |id, words| {
        let question = Question { id, words, db: OWN, own_id: None };
        policy.judge(id).lets_through()
            && (!policy.asks_words(id) || policy.judge_words(&question, &mut Vec::new()).lets_through())
    })
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
    // The last ones are 1, 5 and 0 to a server that cuts them to an `int`.
    let numbers =
        ["0", "1", "2", "3", "5", "7", "9999", "-1", "+1", "01", "x", "", "4294967297", "4294967301", "-4294967296"];
    let list = Databases::new(&[OWN, 1, 7]).unwrap();
    // A role's list, and the rules' `db=` without one.
    let policies = [
        Policy::build(&Spec { databases: Some(&list), ..Spec::default() }).unwrap(),
        Policy::build(&Spec { rules: Some("+@all ~* &* db=5,1,7"), ..Spec::default() }).unwrap(),
    ];
    let mut dice = Dice(4);
    let (mut changed, mut told, mut passed, mut kept) = (0, 0, 0, 0);
    for _ in 0..700 {
        control.call(&["FLUSHALL"]).expect_ok();
        for db in 0..8 {
            control.call(&["SELECT", &db.to_string()]).expect_ok();
            control.call(&["SET", "here", &db.to_string()]).expect_ok();
            control.call(&["SET", &format!("only{db}"), "x"]).expect_ok();
        }
        let key = dice.roll(&["only5", "here", "none"]);
        let line: Vec<&str> =
            match dice.roll(&["MOVE", "COPY", "COPY", "SWAPDB", "SELECT", "FLUSHDB", "FLUSHALL", "EVAL", "SET"]) {
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
                "EVAL" => vec!["EVAL", SCRIPT, "1", key, dice.roll(&numbers)],
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
                Touched::Visited => assert!(named.contains(&db), "{line:?} changed {db}, and {named:?} were named"),
                Touched::All | Touched::Unknown => {}
                Touched::No(_) => unreachable!("the visitor never says so"),
            }
            for policy in &policies {
                let lets_through = passes(policy, &line);
                assert!(list.allow(db) || !lets_through, "{line:?} changed {db} and was let through");
                passed += usize::from(lets_through);
                kept += usize::from(!lets_through);
            }
        }
        told += usize::from(databases == Touched::Visited);
    }
    assert!(changed > 300 && told > 300, "{changed} databases changed, {told} lines were told");
    assert!(passed > 200 && kept > 200, "of what changed something {passed} passed, {kept} did not");
}

/// MIGRATE's fourth word is a database of the server that it names, and that may be the one it is said to.
#[test]
fn migrate_writes_into_another_database_of_the_server_itself() {
    let (redis, address) = Redis::open_on_loopback();
    let mut client = redis.connect();
    client.call(&["SELECT", "5"]).expect_ok();
    client.call(&["SET", "only5", "x"]).expect_ok();
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let line = ["MIGRATE", &host, &port, "only5", "3", "50"];
    // It waits for itself and gives up; what it has sent is read afterwards.
    assert!(client.call(&line).error().is_some());
    client.call(&["SELECT", "3"]).expect_ok();
    // It lies in the server's own socket by now.
    let arrived = (0..10_000).any(|_| client.call(&["EXISTS", "only5"]).integer() == 1);
    assert!(arrived, "the key never came");
    assert_eq!(found(&line), (Touched::Visited, vec![5, 3]));
}

fn shows(reply: &[u8], key: &str) {
    let text = String::from_utf8_lossy(reply);
    assert!(text.contains(key), "{text}");
}

/// Of what needs every database: what these show of database 0 to a client that stands in another.
#[test]
fn what_needs_every_database_shows_keys_of_others() {
    let redis = Redis::start();
    let release = Release::of_server();
    let (mut other, mut client) = (redis.connect(), redis.connect());
    client.call(&["SELECT", "5"]).expect_ok();
    client.call(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]).expect_ok();
    other.call(&["SET", "secret-of-0", "x"]).expect_ok();
    client.send(&["SLOWLOG", "GET", "128"]);
    shows(&client.raw_reply(), "secret-of-0");
    let mut shown = vec![vec!["SLOWLOG", "GET"]];
    let read =
        client.call(&["EVAL", "redis.call('SELECT', '0') return redis.call('GET', KEYS[1])", "1", "secret-of-0"]);
    assert_eq!(read.text(), "x");
    shown.push(vec!["EVAL", "s", "0"]);
    if release.since(6, 0) {
        client.call(&["HELLO", "3"]);
        client.call(&["CLIENT", "TRACKING", "ON", "BCAST"]).expect_ok();
        other.call(&["SET", "later-in-0", "x"]).expect_ok();
        shows(&client.raw_reply(), "later-in-0");
        client.call(&["CLIENT", "TRACKING", "OFF"]).expect_ok();
        shown.push(vec!["CLIENT", "TRACKING", "ON"]);
        let refused = other.call(&["ACL", "SETUSER", "nobody", "on", "nopass", "+@all", "-debug"]);
        refused.expect_ok();
        other.call(&["AUTH", "nobody", "x"]).expect_ok();
        assert!(other.call(&["GET", "hidden-in-0"]).error().is_some());
        client.send(&["ACL", "LOG"]);
        shows(&client.raw_reply(), "hidden-in-0");
        shown.push(vec!["ACL", "LOG"]);
    }
    client.send(&["MONITOR"]);
    client.reply().expect_ok();
    redis.connect().call(&["SET", "seen-in-0", "x"]).expect_ok();
    let line = loop {
        let line = client.reply().text();
        if line.contains("seen-in-0") {
            break line;
        }
    };
    assert!(line.contains("[0 "), "{line}");
    shown.push(vec!["MONITOR"]);
    for line in shown {
        with_words(&line, |id, _| assert!(matches!(id.entry().reach, Reach::All | Reach::Script), "{line:?}"));
    }
}
