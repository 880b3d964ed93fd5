//! What is written down: every command that reached Redis and no other, before it could do harm, and never a secret.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::cast_possible_truncation, reason = "tests")]

mod support;

use serde_json::Value;
use std::{
    collections::HashMap,
    fs,
    io::{ErrorKind, Read as _, Write as _},
    panic::catch_unwind,
    thread,
    time::Duration,
};
use support::{
    books,
    client::Client,
    load::Dice,
    process::{PASSWORD, PATIENCE, Proxy},
    redis::{Redis, Release},
    setup::Setup,
    wire::{Reply, encode},
};

/// Says `rounds` pipelines of commands of every kind, in pieces of every size.
fn chatter(mut client: Client, number: u64, rounds: u64) {
    let mut dice = Dice::new(number);
    let (own, big) = (format!("queue{number}"), "v".repeat(3000));
    let script: &[&[&str]] = &[
        &["SET", "k1", "v"],
        &["set", "k2", &big],
        &["GET", "k1"],
        &["GET", "k2"],
        &["GET"],
        &["SET", "k1", "v", "NONSENSE"],
        &["LPUSH", "k1", "x"],
        &["INCR", "counter"],
        &["MGET", "k1", "k2", "k3"],
        &["HSET", "h", "f", "1"],
        &["HGETALL", "h"],
        &["MULTI"],
        &["MULTI"],
        &["MULTI"],
        &["EXEC"],
        &["EXEC"],
        &["EXEC"],
        &["DISCARD"],
        &["WATCH", "k1"],
        &["UNWATCH"],
        &["FLUSHALL"],
        &["KEYS", "*"],
        &["CONFIG", "GET", "requirepass"],
        &["NO-SUCH-COMMAND", "x"],
        &["EVAL", "return 1", "0"],
        &["SELECT", "1"],
        &["SELECT", "0"],
        &["SELECT", "01"],
        &["CLIENT", "REPLY", "SKIP"],
        &["CLIENT", "GETNAME"],
        &["CLIENT", "SETNAME", "me"],
        &["AUTH", "guess"],
        &["HELLO", "3"],
        &["HELLO", "2"],
        &["HELLO", "9"],
        &["RESET"],
        &["EXPIRE", "k1", "100"],
        &["XADD", "s", "MAXLEN", "3", "*", "f", "v"],
        &["XREAD", "COUNT", "1", "STREAMS", "s", "0"],
        &["PUBLISH", "nobody", "hears"],
        &["PING"],
        &["ECHO", "hello"],
    ];
    for round in 0..rounds {
        let mut bytes = Vec::new();
        for _ in 0..1 + dice.roll(30) {
            match dice.roll(script.len() as u64 + 2) as usize {
                index if index < script.len() => bytes.extend(encode(script[index])),
                // Finds something unless it stands in a transaction that is discarded.
                index if index == script.len() => {
                    bytes.extend(encode(&["LPUSH", &own, "x", "y"]));
                    bytes.extend(encode(&["BRPOP", &own, "0"]));
                }
                _ => bytes.extend_from_slice(b"*0\r\n\r\n"),
            }
        }
        // Whatever was open is closed, and the answer to the last word is the last answer.
        let marker = format!("end of round {round}");
        for words in [&["DISCARD"][..], &["DISCARD"], &["ECHO", &marker]] {
            bytes.extend(encode(words));
        }
        let piece = 1 + dice.roll(bytes.len() as u64) as usize;
        for piece in bytes.chunks(piece) {
            client.send_raw(piece);
        }
        while client.reply() != Reply::Bulk(marker.clone().into_bytes()) {}
    }
}

/// The name under which Redis counts it.
fn counted_as(record: &Value) -> String {
    let sub = record["sub"].as_str().map_or(String::new(), |sub| format!("|{sub}"));
    let release = Release::of_server();
    // In 3.2 what a transaction runs is counted as its EXEC.
    if record["outcome"] == "queued" && release.since(3, 2) && !release.since(4, 0) {
        return "exec".to_owned();
    }
    // In 2.8 a pop that need not wait is counted as the pop it is rewritten to for replicas.
    if record["cmd"] == "BRPOP" && !release.since(3, 0) {
        return "rpop".to_owned();
    }
    support::redis::counted_as(&(record["cmd"].as_str().unwrap().to_owned() + &sub).to_lowercase())
}

#[test]
fn every_command_that_reached_redis_has_a_record_and_no_other_says_so() {
    let redis = Redis::with_password(PASSWORD);
    let mut proxy = Proxy::start(&redis);
    let before = redis.calls();
    let clients: Vec<Client> = (0..6).map(|_| proxy.client()).collect();
    let talking: Vec<_> =
        (0..).zip(clients).map(|(number, client)| thread::spawn(move || chatter(client, number, 50))).collect();
    for thread in talking {
        thread.join().unwrap();
    }
    assert!(proxy.stop().success());
    let after = redis.calls();

    let records = proxy.audit();
    let transaction = |record: &Value| (record["conn"].to_string(), record["tx"].as_u64());
    let executed: HashMap<_, _> = records
        .iter()
        .filter(|record| record["cmd"] == "EXEC" && record["outcome"] == "ran")
        .map(|record| (transaction(record), record["elements_total"].as_u64().unwrap()))
        .collect();
    let (mut recorded, mut queued): (HashMap<String, u64>, HashMap<_, u64>) = Default::default();
    let mut refused: HashMap<String, u64> = HashMap::new();
    for record in &records {
        let reached = match record["event"].as_str().unwrap() {
            "upstream_command" => true,
            "command" if record["outcome"] == "queued" => {
                *queued.entry(transaction(record)).or_default() += 1;
                executed.contains_key(&transaction(record))
            }
            "command" => record["verdict"] == "allow",
            _ => false,
        };
        if reached {
            *recorded.entry(counted_as(record)).or_default() += 1;
            *refused.entry(counted_as(record)).or_default() += u64::from(record["outcome"] == "error");
        }
    }
    // The two questions about the counters were ours.
    for own in ["auth", "info"] {
        *recorded.entry(own.to_owned()).or_default() += 1;
    }
    let mut names: Vec<_> = recorded.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let count = |of: &HashMap<String, u64>, name: &str| of.get(name).copied().unwrap_or(0);
    for name in names {
        let counted = count(&after, name) - count(&before, name);
        // Before 6.2 what was rejected (arity, an unknown name, EXEC's abortion) is not counted, what failed is.
        let uncounted = if Release::of_server().since(6, 2) { 0 } else { count(&refused, name) };
        let recorded = count(&recorded, name);
        assert!(
            (recorded - uncounted..=recorded).contains(&counted),
            "{name}: {recorded} recorded, {uncounted} perhaps not counted, {counted} counted"
        );
    }
    for (transaction, elements) in executed {
        assert_eq!(queued.get(&transaction).copied().unwrap_or(0), elements, "{transaction:?}");
    }
    let outcomes: Vec<&str> = records.iter().filter_map(|record| record["outcome"].as_str()).collect();
    for outcome in ["denied", "ran", "error", "queued", "aborted", "nil"] {
        let seen = outcomes.iter().filter(|seen| **seen == outcome).count();
        assert!(seen > 0 || outcome == "nil", "not one command of {} was {outcome}", outcomes.len());
    }
    assert!(outcomes.len() > 4000, "{} commands", outcomes.len());
}

#[test]
fn a_command_that_blocks_is_in_the_file_before_it_is_in_redis() {
    let redis = Redis::with_password(PASSWORD);
    let proxy = Proxy::start(&redis);
    let mut client = proxy.client();
    client.send(&["SELECT", "5"]);
    client.send(&["BLPOP", "queue", "another", "0"]);
    while redis.blocked() == 0 {}
    // Not awaited: it is there, whatever happens to the process now.
    let begin = proxy.records("begin").pop().expect("a begin record");
    assert_eq!((&begin["cmd"], &begin["db"]), (&"BLPOP".into(), &5.into()), "{begin}");
    assert_eq!(begin["keys"], serde_json::json!(["queue", "another"]), "{begin}");
    proxy.signal(rustix::process::Signal::KILL);
    while redis.blocked() > 0 {}
}

#[test]
fn a_full_disk_stalls_commands_and_loses_no_record() {
    let redis = Redis::with_password(PASSWORD);
    let setup = Setup { audit: "queue = \"64KiB\"", disk_full: true, ..Setup::before(&redis) };
    let mut proxy = Proxy::with(&setup);
    // As much as the queue holds and not one more: a record has more than 256 bytes.
    let most = 64 * 1024 / 256;
    let mut client = proxy.client();
    let command = encode(&["INCR", "counter"]);
    // One at a time, until no answer comes any more. Nothing can tell that but time; a machine that is slow ends this
    // early and fails nothing.
    client.stream().sock.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut answered = 0;
    let mut answer = [0; 16];
    loop {
        client.stream().write_all(&command).unwrap();
        match client.stream().read(&mut answer) {
            Ok(count) => assert!(count > 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
        answered += 1;
        assert!(answered < most, "commands ran whose records have no place");
    }
    assert!((answered..=answered + 1).contains(&redis.calls_of("incr")));
    assert_eq!(proxy.page("/readyz").0, 503);
    client.stream().sock.set_read_timeout(Some(PATIENCE)).unwrap();
    let more = 2000;
    client.send_raw(&command.repeat(more));
    fs::remove_file(proxy.path("audit.jsonl")).unwrap();
    proxy.signal(rustix::process::Signal::USR1);
    let all = answered + 1 + more as u64;
    for expected in answered + 1..=all {
        assert_eq!(client.reply().integer(), i64::try_from(expected).unwrap());
    }
    proxy.await_that("readiness", |proxy| (proxy.page("/readyz").0 == 200).then_some(()));
    drop(client);
    assert!(proxy.stop().success());
    let ran = proxy.records("command").iter().filter(|record| record["cmd"] == "INCR").count();
    assert_eq!(ran as u64, all);
    assert_eq!(proxy.records("sink_recovered").len(), 1);
}

#[test]
fn no_secret_is_in_audit_log_or_metrics() {
    let redis = Redis::with_password(PASSWORD);
    let mut proxy =
        Proxy::with(&Setup { log: "level = \"trace\"\nformat = \"json\"", to_stdout: true, ..Setup::before(&redis) });
    proxy.cli(
        "AUTH guessed-password\nAUTH someone guessed-password\nHELLO 3 AUTH someone guessed-password\n\
         SET key argument-value\nCONFIG SET requirepass guessed-password\nMIGRATE h 1 k 0 1 AUTH guessed-password\n\
         ACL SETUSER u >guessed-password\nSET key argument-value argument-value\nEVAL argument-value 0 argument-value\n",
    );
    let mut client = proxy.client();
    client.call(&["AUTH", "guessed-password"]);
    client.call(&["HELLO", "3", "AUTH", "someone", "guessed-password"]);
    client.call(&["SET", "key", "argument-value"]).expect_ok();
    client.call(&["GETSET", "key", "argument-value"]);
    proxy.await_record("command", |record| record["cmd"] == "GETSET");
    proxy.await_that("five records", |proxy| (proxy.records("client_auth").len() == 5).then_some(()));
    let (status, metrics) = proxy.page("/metrics");
    assert_eq!(status, 200);
    assert!(metrics.contains("ravelin_commands_total"), "{metrics}");
    drop(client);
    assert!(proxy.stop().success());
    for line in proxy.log().lines() {
        books::parse(line);
    }
    let escaped = serde_json::to_string(PASSWORD).unwrap();
    for (place, text) in [("log", proxy.log()), ("audit", proxy.audit_text()), ("metrics", metrics)] {
        assert!(!text.is_empty(), "{place}");
        for secret in
            [PASSWORD, escaped.trim_matches('"'), "correct horse", "battery", "guessed-password", "argument-value"]
        {
            assert!(!text.contains(secret), "{secret} is in the {place}");
        }
    }
}

#[test]
fn keys_are_recorded_unless_told_not_to() {
    let redis = Redis::with_password(PASSWORD);
    for (audit, expected) in [("", Some(serde_json::json!(["a", {"b64": "/wA="}]))), ("arguments = \"none\"", None)] {
        let proxy = Proxy::with(&Setup { audit, ..Setup::before(&redis) });
        proxy.client().call(&[&b"MGET"[..], b"a", b"\xff\0"]);
        let record = proxy.await_record("command", |record| record["cmd"] == "MGET");
        assert_eq!(record.get("keys"), expected.as_ref(), "{record}");
    }
}

#[test]
fn the_database_of_a_record_is_the_one_it_ran_in() {
    let redis = Redis::with_password(PASSWORD);
    let proxy = Proxy::start(&redis);
    let mut client = proxy.client();
    let lines = [
        "SET a 0",
        "SELECT 3",
        "SET a 3",
        "SELECT 99",
        "SET b 3",
        "MULTI",
        "SELECT 4",
        "SET a 4",
        "EXEC",
        "SET c 4",
        "SELECT 0",
        "GET a",
    ];
    let bytes: Vec<u8> = lines.iter().flat_map(|line| encode(&line.split(' ').collect::<Vec<_>>())).collect();
    client.send_raw(&bytes);
    let replies: Vec<Reply> = lines.iter().map(|_| client.reply()).collect();
    assert_eq!(replies.last(), Some(&Reply::Bulk(b"0".to_vec())));
    proxy.await_record("command", |record| record["cmd"] == "GET");
    let said: Vec<(String, u64)> = proxy
        .records("command")
        .iter()
        .filter(|record| record["cmd"] == "SET" && record["outcome"] == "ran")
        .map(|record| (record["keys"][0].as_str().unwrap().to_owned(), record["db"].as_u64().unwrap()))
        .collect();
    assert_eq!(said, [("a", 0), ("a", 3), ("b", 3), ("c", 4)].map(|(key, db)| (key.to_owned(), db)));
    let mut direct = redis.connect();
    for (db, keys) in [(0, 1), (3, 2), (4, 2)] {
        direct.call(&["SELECT", &db.to_string()]).expect_ok();
        assert_eq!(direct.call(&["DBSIZE"]).integer(), keys);
    }
}

#[test]
fn metrics_agree_with_the_records() {
    let redis = Redis::with_password(PASSWORD);
    let proxy = Proxy::start(&redis);
    let mut client = proxy.client();
    for _ in 0..10 {
        client.call(&["SET", "a", "1"]).expect_ok();
    }
    for _ in 0..3 {
        client.call(&["FLUSHALL"]);
    }
    drop(client);
    proxy.await_record("connection_close", |_| true);
    let (_, page) = proxy.page("/metrics");
    let of = |name: &str, label: &str| -> f64 {
        page.lines()
            .filter(|line| line.starts_with(&format!("ravelin_{name}{{")) && line.contains(label))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    };
    let commands = proxy.records("command").len();
    assert_eq!(of("commands_total", ""), f64::from(u32::try_from(commands).unwrap()), "{page}");
    assert_eq!(of("commands_total", "outcome=\"denied\""), 3.0, "{page}");
}

/// An auditor that overlooks things would make all of the above worthless.
#[test]
fn the_auditor_of_these_tests_finds_what_is_wrong() {
    let redis = Redis::with_password(PASSWORD);
    let mut proxy = Proxy::start(&redis);
    let mut client = proxy.client();
    client.call(&["RPUSH", "queue", "element"]);
    client.call(&["BLPOP", "queue", "0"]);
    client.call(&["FLUSHALL"]);
    drop(client);
    assert!(proxy.stop().success());
    let good = proxy.audit_text();
    books::check(&good, true, true);
    let finds = |what: &str, text: String| {
        assert_ne!(text, good, "{what} is no change");
        assert!(catch_unwind(|| books::check(&text, true, true)).is_err(), "{what} was overlooked");
    };
    let lines: Vec<&str> = good.lines().collect();
    for index in 0..lines.len() {
        let mut fewer = lines.clone();
        let gone = fewer.remove(index);
        let last = serde_json::from_str::<Value>(gone).unwrap();
        let is_last_of_its_writer =
            !fewer[index..].iter().any(|line| books::parse(line)["w"] == last["w"]) && last["conn"].is_null();
        if !is_last_of_its_writer {
            finds(gone, fewer.join("\n"));
        }
    }
    finds("a field that is gone", good.replacen("\"argc\":3,", "", 1));
    finds("an unknown field", good.replacen("\"argc\":3,", "\"argc\":3,\"new\":1,", 1));
    finds("another order", good.replacen("\"db\":0,\"cmd\":\"RPUSH\"", "\"cmd\":\"RPUSH\",\"db\":0", 1));
    finds("an unknown event", good.replacen("\"event\":\"connection_open\"", "\"event\":\"connection_opened\"", 1));
    finds("a wrong total", good.replacen("\"denied\":1", "\"denied\":2", 1));
    finds("a torn line", good.replacen("\"v\":1,", "\"v\":1", 1));
}
