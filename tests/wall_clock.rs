//! The wall clock of the running process steps, and who looks at it at all (`deploy/docs/failures.md`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use certs_dev::Leaf;
use std::{
    fs,
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};
use support::{clock::WallClock, footprint::settled, process::PASSWORD, redis::Redis, setup::Setup};

const DAY: i64 = 24 * 3600;

/// The clock of the running process steps, by days in either direction: nobody notices but who reads dates.
#[test]
fn a_wall_clock_that_steps_ends_no_connection_hurries_no_deadline_and_is_seen_in_dates_alone() {
    let redis = Redis::with_password(PASSWORD);
    let clock = WallClock::new();
    let limits = "idle_timeout = \"1h\"\nhalf_command_timeout = \"1h\"\nmax_connection_age = \"1d\"\nfirst_byte_timeout = \"1h\"";
    let outputs = ", { file = { path = \"proved.jsonl\" }, checkpoint = { every = \"1s\", lines = 100 } }";
    let setup = Setup { limits, outputs, environment: clock.environment(), ..Setup::before(&redis) };
    let (mut proxy, before) = settled(&setup, &redis);
    let app = proxy.pki.issue(&Leaf::client("app").valid_days(-20, 20)).unwrap();
    let enter = || proxy.client_with(&app).unwrap();
    // One counts all the time; one waits, one is subscribed, one has said half a word, one nothing yet, one is in MULTI.
    let done = Arc::new(AtomicBool::new(false));
    let (mut pops, mut hears, mut half, mut silent, mut multi) =
        (enter(), enter(), enter(), proxy.shake(Some(&app)).unwrap(), enter());
    pops.send(&["BLPOP", "list", "0"]);
    hears.call(&["SUBSCRIBE", "news"]);
    half.stream().write_all(b"*2\r\n$3\r\nGET\r\n$1").unwrap();
    multi.call(&["MULTI"]).expect_ok();
    let counter = thread::spawn({
        let (mut client, done) = (enter(), Arc::clone(&done));
        move || {
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                count += 1;
                assert_eq!(client.call(&["INCR", "counter"]).integer(), count);
            }
            count
        }
    });
    let today = proxy.records("start")[0]["ts"].as_str().unwrap()[..10].to_owned();
    for (step, is_then) in [(2 * DAY, Day::Later), (-2 * DAY, Day::Earlier), (0, Day::Today)] {
        clock.is_off_by(step);
        let key = format!("at {step}");
        enter().call(&["SET", &key, "x"]).expect_ok();
        let set = proxy.await_record("command", |record| record["keys"][0] == key.as_str());
        assert_eq!(Day::of(set["ts"].as_str().unwrap(), &today), is_then, "the date is the clock's: {set}");
        assert_eq!((proxy.page("/readyz").0, proxy.page("/livez").0), (200, 200));
        let ran = redis.calls_of("incr");
        proxy.await_that("more commands", |_| (redis.calls_of("incr") > ran + 50).then_some(()));
    }
    done.store(true, Ordering::Relaxed);
    assert_eq!(counter.join().unwrap(), i64::try_from(redis.calls_of("incr")).unwrap());
    // All are where they were.
    enter().call(&["RPUSH", "list", "x"]).integer();
    assert_eq!(pops.reply().elements().len(), 2);
    enter().call(&["PUBLISH", "news", "x"]).integer();
    assert_eq!(hears.reply().elements().len(), 3);
    half.stream().write_all(b"\r\na\r\n").unwrap();
    assert!(half.reply().error().is_none());
    assert_eq!(silent.call(&["PING"]).text(), "PONG");
    assert_eq!(multi.call(&["EXEC"]).elements().len(), 0);
    let slowest = proxy.records("command").iter().filter_map(|record| record["us"].as_u64()).max().unwrap();
    assert!(slowest < 60_000_000, "no latency has a step in it: {slowest} us");

    // What is compared with a date is: certificates end with the clock, and are good again with it.
    clock.is_off_by(25 * DAY);
    assert_eq!(silent.rest(), b"", "its certificate ends in twenty days");
    proxy.await_record("connection_close", |record| record["reason"] == "revoked");
    assert!(proxy.client_with(&app).is_err());
    proxy.await_record("handshake_failure", |record| record["reason"] == "expired");
    clock.is_off_by(0);
    assert_eq!(proxy.client_with(&app).unwrap().call(&["PING"]).text(), "PONG");
    drop((pops, hears, half, multi));
    before.await_return(&proxy, &redis);
    clock.is_off_by(-3600);
    assert!(proxy.stop().success(), "a drain is not longer by an hour: {}", proxy.log());
    proxy.verify("proved.jsonl");
}

#[derive(Debug, PartialEq)]
enum Day {
    Earlier,
    Today,
    Later,
}

impl Day {
    /// Dates in UTC are in the order of their letters.
    fn of(ts: &str, today: &str) -> Self {
        match ts[..10].cmp(today) {
            std::cmp::Ordering::Less => Self::Earlier,
            std::cmp::Ordering::Equal => Self::Today,
            std::cmp::Ordering::Greater => Self::Later,
        }
    }
}

/// That its steps decide nothing else, even where no test has a process run into them (`session::tests`, `policy::bans` and
/// `audit::stamp` have time as a value): nobody asks it but where dates are what is asked for.
#[test]
fn the_wall_clock_is_asked_only_where_dates_are_compared_or_written() {
    let may = [
        // Where it is read.
        "src/net/clock.rs",
        "src/audit/sink/clock.rs",
        // What carries or writes it.
        "src/moment.rs",
        "src/audit/stamp.rs",
        "src/audit/outlet.rs",
        "src/audit/former.rs",
        "src/audit/chain.rs",
        "src/audit/plain.rs",
        "src/audit/sink/proof.rs",
        "src/audit/sink/writer.rs",
        "src/metrics/collect.rs",
        "src/server.rs",
        "src/server/steward.rs",
        "src/net/service.rs",
        // Dates of certificates and lists, and of files that are put aside by the hour.
        "src/net/connection.rs",
        "src/policy/identity.rs",
        "src/server/start.rs",
        "src/net/seats.rs",
        "src/audit/sink/rotate.rs",
        // Commands that end by themselves.
        "src/cli/audit/select.rs",
        "src/cli/explain/who.rs",
    ];
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let product = text.split("#[cfg(test)]").next().unwrap();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let is_test = name.ends_with("tests.rs") || name.ends_with("script.rs") || name.ends_with("testing.rs");
            if !is_test && (product.contains("wall_us") || product.contains("SystemTime")) {
                found.push(name);
            }
        }
    }
    assert!(found.len() > 10, "{found:?}");
    found.retain(|name| !may.contains(&name.as_str()));
    assert_eq!(found, Vec::<String>::new(), "these ask the wall clock, which may step");
}
