//! Several outputs of one stream: what each takes, in which shape, and what a blocked one does to the clients.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use ravelin::audit::outlet::Shape;
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, mknodat, open},
    process::Signal,
};
use serde_json::Value;
use std::{collections::HashSet, fs, io::Read as _, process::Command};
use support::{
    books,
    process::{Proxy, program},
    redis::Redis,
    schema::faults,
    setup::Setup,
    wire::encode,
};

fn lines(proxy: &Proxy, file: &str) -> Vec<Value> {
    fs::read_to_string(proxy.path(file)).unwrap().lines().map(books::parse).collect()
}

fn commands(lines: &[Value]) -> Vec<&str> {
    lines.iter().filter(|line| line["event"] == "command").map(|line| line["cmd"].as_str().unwrap()).collect()
}

fn redis() -> Redis {
    Redis::start()
}

/// What the program says a line is.
fn published(shape: &[&str]) -> Value {
    let printed = Command::new(program()).args(["schema", "audit"]).args(shape).output().unwrap();
    assert!(printed.status.success() && printed.stderr.is_empty(), "{printed:?}");
    serde_json::from_slice(&printed.stdout).unwrap()
}

#[test]
fn the_schema_takes_whole_lines_and_refuses_what_is_missing_wrong_or_unknown() {
    let schema = published(&[]);
    assert_eq!(schema, ravelin::audit::schema::schema(Shape::Full));
    let line = serde_json::json!({
        "v": 1, "w": 0, "seq": 1, "ts": "2026-11-20T21:10:03.412345Z", "event": "stop", "reason": "drained", "us": 7
    });
    assert_eq!(faults(&schema, &schema, &line), Vec::<String>::new());
    for (field, value) in [
        ("us", Some(serde_json::json!(-1))),
        ("us", Some(serde_json::json!("7"))),
        ("us", None),
        ("ts", Some(serde_json::json!("2026-11-20 21:10:03"))),
        ("event", Some(serde_json::json!("stopped"))),
        ("v", Some(serde_json::json!(2))),
        ("more", Some(serde_json::json!(true))),
    ] {
        let mut changed = line.clone();
        match value {
            Some(value) => changed[field] = value,
            None => drop(changed.as_object_mut().unwrap().remove(field)),
        }
        assert!(!faults(&schema, &schema, &changed).is_empty(), "{changed}");
    }
}

#[test]
fn every_output_has_its_part_of_one_stream() {
    let redis = redis();
    let mut proxy = Proxy::with(&Setup {
        outputs: concat!(
            r#", { file = { path = "denied.jsonl" }, events = "denied" }"#,
            r#", { file = { path = "compact.jsonl" }, shape = "compact", arguments = "none" }"#,
            r#", { file = { path = "writes.jsonl" }, filter = { commands = ["@write"], roles = ["app"], from = ["127.0.0.0/8"] } }"#,
            r#", { file = { path = "elsewhere.jsonl" }, filter = { from = ["10.0.0.0/8"] } }"#,
        ),
        ..Setup::before(&redis)
    });
    let mut client = proxy.client();
    client.call(&["SET", "key", "v"]).expect_ok();
    assert_eq!(client.call(&["GET", "key"]).text(), "v");
    assert!(client.call(&["CONFIG", "SET", "dir", "/tmp"]).text().contains("NOPERM"));
    drop(client);
    proxy.await_record("connection_close", |_| true);
    assert!(proxy.stop().success());

    assert_eq!(commands(&lines(&proxy, "audit.jsonl")), ["PING", "SET", "GET", "CONFIG"]);
    assert_eq!(commands(&lines(&proxy, "denied.jsonl")), ["CONFIG"]);
    assert_eq!(commands(&lines(&proxy, "writes.jsonl")), ["SET"]);
    let elsewhere = lines(&proxy, "elsewhere.jsonl");
    let events: HashSet<_> = elsewhere.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, HashSet::from(["start", "drain_begin", "drain_end", "stop"]));

    let schema = published(&["--shape", "compact"]);
    // The compact stream says the same, once one looks up whose a connection is.
    let (full, compact) = (lines(&proxy, "audit.jsonl"), lines(&proxy, "compact.jsonl"));
    assert_eq!(full.len(), compact.len());
    for (whole, part) in full.iter().zip(&compact) {
        for (field, value) in part.as_object().unwrap() {
            assert_eq!(value, &whole[field], "{field} of {part}");
        }
        for field in ["w", "seq", "ts", "event"] {
            assert!(part.get(field).is_some(), "{part}");
        }
        let found = faults(&schema, &schema, part);
        assert!(found.is_empty(), "{found:#?}");
        if part["event"] == "command" {
            assert_eq!(part.get("keys").or(part.get("identity")).or(part.get("role")), None, "{part}");
        }
    }
    let open = compact.iter().find(|line| line["event"] == "connection_open").unwrap();
    assert_eq!(open["role"], "app");
}

#[test]
fn the_metrics_of_an_output_add_up_to_the_records() {
    let redis = redis();
    let proxy = Proxy::with(&Setup {
        outputs: r#", { file = { path = "denied.jsonl" }, name = "denials", events = "denied" }"#,
        ..Setup::before(&redis)
    });
    let mut client = proxy.client();
    for _ in 0..20 {
        assert_eq!(client.call(&["PING"]).text(), "PONG");
    }
    proxy.await_that("the last command", |proxy| (proxy.records("command").len() == 21).then_some(()));
    let (_, page) = proxy.page("/metrics");
    let value = |name: &str| {
        let line = page
            .lines()
            .find(|line| line.starts_with(&format!("ravelin_{name} ")))
            .unwrap_or_else(|| panic!("{name}: {page}"));
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let records = value("audit_records_total");
    assert_eq!(value("audit_lines_total{output=\"file\"}"), records);
    let denials = value("audit_lines_total{output=\"denials\"}");
    assert_eq!(denials + value("audit_filtered_total{output=\"denials\"}"), records);
    assert!(value("audit_filtered_total{output=\"denials\"}") >= 20);
    assert_eq!(value("audit_dropped_total{output=\"denials\"}"), 0);
}

/// A pipe that nobody empties, in the place of an output that drops: clients go on, and when it is read at last it says
/// exactly what it has not got.
#[test]
fn a_blocked_output_that_drops_holds_nobody_back_and_says_what_it_dropped() {
    const COMMANDS: usize = 40_000;
    let redis = redis();
    let mut proxy = Proxy::with(&Setup {
        audit: "queue = \"64KiB\"",
        outputs: r#", { file = { path = "lossy.jsonl" }, on_full = "drop" }"#,
        ..Setup::before(&redis)
    });
    fs::rename(proxy.path("lossy.jsonl"), proxy.path("lossy.old")).unwrap();
    mknodat(CWD, proxy.path("lossy.jsonl"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let reader = open(proxy.path("lossy.jsonl"), OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
    proxy.signal(Signal::USR1);
    proxy.await_that("the new file", |proxy| proxy.log().contains("opened anew").then_some(()));
    let mut client = proxy.client();
    let some = encode(&["PING"]).repeat(100);
    for _ in 0..COMMANDS / 100 {
        std::io::Write::write_all(client.stream(), &some).unwrap();
        assert_eq!(client.take(700), b"+PONG\r\n".repeat(100));
    }
    // From here on it is read.
    let reader = std::thread::spawn(move || {
        let (mut reader, mut all, mut space) = (fs::File::from(reader), Vec::new(), [0; 65536]);
        loop {
            match reader.read(&mut space) {
                Ok(0) if !all.is_empty() => return String::from_utf8(all).unwrap(),
                Ok(count) => all.extend_from_slice(&space[..count]),
                Err(_) => std::thread::yield_now(),
            }
        }
    });
    proxy.await_that("the drops in the metrics", |proxy| {
        let page = proxy.page("/metrics").1;
        page.lines().any(|line| line == "ravelin_audit_queue_bytes{output=\"file-2\"} 0").then_some(())
    });
    assert_eq!(client.call(&["PING"]).text(), "PONG");
    drop(client);
    assert!(proxy.stop().success());
    let lossy: Vec<_> = reader.join().unwrap().lines().map(books::parse).collect();
    let gaps: Vec<_> = lossy.iter().filter(|line| line["event"] == "gap").collect();
    let dropped: u64 = gaps.iter().map(|gap| gap["dropped"].as_u64().unwrap()).sum();
    assert!(dropped > 0 && gaps.iter().all(|gap| gap["output"] == "file-2"), "{gaps:?}");
    // The client's greeting was a PING too. The other lines of this worker since the pipe was opened are its connection's
    // first and last, neither of which came while it was full.
    assert_eq!(commands(&lossy).len() as u64 + dropped, COMMANDS as u64 + 2);
}

#[test]
fn what_is_worth_a_second_look_is_marked_told_and_counted() {
    let redis = redis();
    let proxy = Proxy::with(&Setup {
        audit: concat!(
            "watch = { large_request = \"2KiB\", large_reply = \"2KiB\", first_seen = true, ",
            "denial_burst = { amount = 5, within = \"1h\" }, bulk_read = { amount = \"8KiB\", within = \"1h\" } }"
        ),
        ..Setup::before(&redis)
    });
    let mut client = proxy.client();
    client.call(&[b"SET", &b"key"[..], &vec![b'v'; 3000]]).expect_ok();
    for _ in 0..3 {
        assert_eq!(client.call(&["GET", "key"]).text().len(), 3000);
    }
    for _ in 0..7 {
        client.call(&["FLUSHALL"]);
    }
    drop(client);
    proxy.await_record("connection_close", |_| true);
    let notable = |command: &str| -> Vec<Value> {
        let records = proxy.records("command").into_iter().filter(|record| record["cmd"] == command);
        records.map(|record| record["notable"].clone()).collect()
    };
    assert_eq!(notable("SET"), [serde_json::json!(["large_request", "first_seen"])]);
    let again = serde_json::json!(["large_reply"]);
    assert_eq!(notable("GET"), [serde_json::json!(["large_reply", "first_seen"]), again.clone(), again]);
    let notices = proxy.records("notice");
    let told: Vec<_> = notices.iter().map(|notice| notice["notice"].as_str().unwrap()).collect();
    assert_eq!(told, ["bulk_read", "denial_burst"], "{notices:?}");
    assert_eq!(notices[1]["amount"], 5);
    let (_, page) = proxy.page("/metrics");
    for line in [
        "ravelin_notices_total{notice=\"large_reply\"} 3",
        "ravelin_notices_total{notice=\"denial_burst\"} 1",
        "ravelin_notices_total{notice=\"bulk_read\"} 1",
        "ravelin_unwatched_total 0",
    ] {
        assert!(page.lines().any(|shown| shown == line), "{line} is not in {page}");
    }
}
