//! The whole program: real TLS in front, a real Redis behind, and what is written down.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "tests")]

mod support;

use certs_dev::{Leaf, Wicked};
use rustix::process::Signal;
use std::{
    io::{Read, Write},
    time::Duration,
};
use support::{
    process::{PASSWORD, Proxy, Setup},
    redis::Redis,
    wire::{Reply, encode},
};

fn redis() -> Redis {
    Redis::with_password(PASSWORD)
}

/// What Redis itself has counted of a command; 0 if it never saw it.
fn calls(redis: &Redis, command: &str) -> u64 {
    let stats = redis.connect().call(&["INFO", "commandstats"]).text();
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|rest| rest.split(',').next()).map_or(0, |count| count.parse().unwrap())
}

#[test]
fn a_denied_command_inside_multi_aborts_it_and_never_reaches_redis() {
    let redis = redis();
    let proxy = Proxy::start(&redis);
    let mut client = proxy.client();
    client.call(&["SET", "a", "1"]).expect_ok();
    client.call(&["MULTI"]).expect_ok();
    assert_eq!(client.call(&["SET", "a", "2"]).text(), "QUEUED");
    assert!(client.call(&["FlushAll"]).error().unwrap().starts_with("NOPERM"));
    assert!(client.call(&["EXEC"]).error().unwrap().starts_with("EXECABORT"));
    assert_eq!(client.call(&["GET", "a"]).text(), "1");
    for words in [
        &["EVAL", "return redis.call('FLUSHALL')", "0"][..],
        &["CONFIG", "GET", "require*"],
        &["KEYS", "*"],
        &["SLAVEOF", "no", "one"],
    ] {
        assert!(client.call(words).error().unwrap().starts_with("NOPERM"), "{words:?}");
    }
    for command in ["flushall", "eval", "config|get", "keys", "slaveof", "replicaof"] {
        assert_eq!(calls(&redis, command), 0, "{command}");
    }
}

#[test]
fn wicked_certificates_are_refused_and_recorded_in_words() {
    let redis = redis();
    let proxy = Proxy::start(&redis);
    for (wicked, reason) in [
        (Wicked::Expired, "expired"),
        (Wicked::NotYetValid, "not-yet-valid"),
        (Wicked::OtherCa, "unknown-ca"),
        (Wicked::WrongUsage, "wrong-usage"),
        (Wicked::MissingIntermediate, "unknown-ca"),
        (Wicked::NulInName, "bad-name"),
    ] {
        let before = proxy.records("handshake_failure").len();
        assert!(proxy.client_with(&proxy.pki.wicked(wicked).unwrap()).is_err(), "{wicked:?} was let in");
        let record =
            proxy.await_that("a handshake failure", |proxy| proxy.records("handshake_failure").get(before).cloned());
        assert_eq!(record["reason"], reason, "{wicked:?}: {record}");
    }
    let mut stranger = proxy.shake(None).expect("TLS 1.3 lets the client believe it is in");
    let _ = stranger.stream().write_all(b"*1\r\n$4\r\nPING\r\n");
    assert!(stranger.stream().read(&mut [0; 16]).is_err());
    proxy.await_record("handshake_failure", |record| record["reason"] == "no-certificate");
    assert_eq!(calls(&redis, "ping"), 0, "nothing of theirs reached Redis");
}

#[test]
fn a_certificate_without_a_role_is_refused_and_recorded() {
    let redis = redis();
    let proxy = Proxy::start(&redis);
    let other = proxy.pki.issue(&Leaf::client("somebody").uri("spiffe://prod/somebody")).unwrap();
    assert!(proxy.client_with(&other).is_err());
    proxy.await_record("handshake_failure", |record| record["reason"] == "no-role");
}

#[test]
fn an_address_off_the_list_gets_no_byte_and_a_record() {
    let redis = redis();
    let proxy = Proxy::with(&redis, Setup { allow: "10.0.0.0/8", ..Setup::default() });
    let mut socket = proxy.socket();
    let mut got = Vec::new();
    // The end may come as a reset: what was sent here is never read there.
    let _ = socket.read_to_end(&mut got);
    assert_eq!(got, b"");
    let record = proxy.await_record("refused", |_| true);
    assert_eq!(record["reason"], "address-not-allowed");
    assert!(record["src"].as_str().unwrap().starts_with("127.0.0.1:"), "{record}");
    assert_eq!(proxy.records("handshake_failure").len(), 0);
}

#[test]
fn a_client_that_says_nothing_is_closed_at_the_handshake_deadline() {
    let redis = redis();
    let proxy = Proxy::with(&redis, Setup { limits: "handshake_timeout = \"100ms\"".into(), ..Setup::default() });
    let mut socket = proxy.socket();
    let _ = socket.read_to_end(&mut Vec::new());
    proxy.await_record("handshake_failure", |record| record["reason"] == "timeout");
}

#[test]
fn caps_on_connections_hold_and_are_given_back() {
    let redis = redis();
    let proxy = Proxy::with(&redis, Setup { limits: "max_connections_per_address = 2".into(), ..Setup::default() });
    let first = proxy.client();
    let _second = proxy.client();
    let app = proxy.pki.client("app").unwrap();
    assert!(proxy.client_with(&app).is_err(), "the third one was let in");
    proxy.await_record("refused", |record| record["reason"] == "max-per-address");
    drop(first);
    proxy.await_that("a free place", |proxy| proxy.client_with(&app).ok());

    let proxy = Proxy::with(&redis, Setup { limits: "max_connections = 1".into(), ..Setup::default() });
    let _only = proxy.client();
    assert!(proxy.client_with(&proxy.pki.client("app").unwrap()).is_err());
    proxy.await_record("refused", |record| record["reason"] == "max-connections");
}

#[test]
fn sixty_four_megabytes_go_up_and_down() {
    let redis = redis();
    let proxy = Proxy::start(&redis);
    let mut client = proxy.client();
    let value: Vec<u8> = (0..64_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    client.call(&[b"SET", &b"big"[..], &value]).expect_ok();
    assert_eq!(redis.connect().call(&["STRLEN", "big"]).integer(), 64_000_000);
    client.send(&["GET", "big"]);
    let head = b"$64000000\r\n";
    let got = client.take(head.len() + value.len() + 2);
    assert!(got[head.len()..head.len() + value.len()] == value[..], "the value came back changed");
}

#[test]
fn a_client_may_write_its_whole_pipeline_before_it_reads() {
    let redis = redis();
    let proxy = Proxy::start(&redis);
    let mut client = proxy.client();
    let count = 20_000;
    let mut pipeline = Vec::new();
    for n in 0..count {
        pipeline.extend(encode(&["SET", &format!("key{n}"), &"v".repeat(200)]));
        if n % 100 == 0 {
            pipeline.extend(encode(&["FLUSHDB"]));
        }
        pipeline.extend(encode(&["GET", &format!("key{n}")]));
    }
    client.send_raw(&pipeline);
    for n in 0..count {
        client.reply().expect_ok();
        if n % 100 == 0 {
            assert!(client.reply().error().unwrap().starts_with("NOPERM"));
        }
        assert_eq!(client.reply().text(), "v".repeat(200), "reply {n}");
    }
}

#[test]
fn a_client_that_ends_its_side_gets_what_it_is_owed_and_then_our_end() {
    let redis = redis();
    let proxy = Proxy::start(&redis);
    let mut client = proxy.client();
    client.send(&["SET", "a", "1"]);
    client.send(&["GET", "a"]);
    client.stream().conn.send_close_notify();
    client.stream().flush().unwrap();
    client.reply().expect_ok();
    assert_eq!(client.reply().text(), "1");
    assert_eq!(client.rest(), b"");
    let record = proxy.await_record("connection_close", |_| true);
    assert_eq!(record["reason"], "client-closed");
}

#[test]
fn the_ghost_of_a_client_that_left_does_not_eat_the_next_element() {
    let redis = redis();
    let proxy = Proxy::start(&redis);
    let mut client = proxy.client();
    client.send(&["BLPOP", "queue", "0"]);
    let mut direct = redis.connect();
    let blocked = |_: &Proxy| {
        let clients = redis.connect().call(&["INFO", "clients"]).text();
        clients.contains("blocked_clients:1").then_some(())
    };
    proxy.await_that("a blocked client", blocked);
    drop(client);
    proxy.await_record("connection_close", |_| true);
    proxy.await_that("Redis to forget it", |_| {
        redis.connect().call(&["INFO", "clients"]).text().contains("blocked_clients:0").then_some(())
    });
    assert_eq!(direct.call(&["RPUSH", "queue", "element"]).integer(), 1);
    assert_eq!(direct.call(&["LLEN", "queue"]).integer(), 1, "somebody took the element");
}

#[test]
fn a_reload_swaps_everything_or_keeps_everything() {
    let redis = redis();
    let proxy = Proxy::start(&redis);
    let mut client = proxy.client();
    let record = proxy.reload();
    assert_eq!(record["result"], "swapped", "{record}");
    assert_eq!(client.call(&["PING"]).text(), "PONG", "a reload that changes nothing disturbs nobody");

    let certificate = std::fs::read(proxy.path("server.crt")).unwrap();
    std::fs::write(proxy.path("server.crt"), &proxy.pki.server(&["elsewhere"]).unwrap().chain).unwrap();
    let record = proxy.reload();
    assert_eq!(record["result"], "kept", "a certificate with another's key: {record}");
    assert!(proxy.log().contains("not reloaded, the old configuration is kept"));
    assert_eq!(proxy.client().call(&["PING"]).text(), "PONG");
    std::fs::write(proxy.path("server.crt"), certificate).unwrap();

    let strict = Setup { allow: "10.0.0.0/8", ..proxy.setup() };
    proxy.configure(&strict);
    assert_eq!(proxy.reload()["result"], "swapped");
    assert_eq!(client.rest(), b"", "who is not admitted any more is closed");
    proxy.await_record("connection_close", |record| record["reason"] == "revoked");
    let _ = proxy.socket().read_to_end(&mut Vec::new());
    proxy.await_record("refused", |record| record["reason"] == "address-not-allowed");
}

#[test]
fn a_certificate_revoked_by_a_reload_ends_its_live_connection_and_no_other() {
    let redis = redis();
    let proxy = Proxy::start(&redis);
    let bad = proxy.pki.client("app").unwrap();
    let mut revoked = proxy.client_with(&bad).unwrap();
    let mut other = proxy.client();
    std::fs::write(proxy.path("ca.crl"), proxy.pki.ca.crl(&[&bad.serial], 7).unwrap()).unwrap();
    proxy.configure(&proxy.setup());
    assert_eq!(proxy.reload()["result"], "swapped");
    assert_eq!(revoked.rest(), b"");
    assert_eq!(other.call(&["PING"]).text(), "PONG");
    assert!(proxy.client_with(&bad).is_err());
    proxy.await_record("handshake_failure", |record| record["reason"] == "revoked");
}

#[test]
fn a_change_that_needs_a_restart_is_refused_by_name() {
    let redis = redis();
    let proxy = Proxy::start(&redis);
    proxy.configure(&Setup { limits: "max_connections = 5".into(), ..proxy.setup() });
    let record = proxy.reload();
    assert_eq!(record["result"], "kept");
    assert!(record["detail"].as_str().unwrap().contains("limits.max_connections"), "{record}");
}

#[test]
fn sigterm_under_load_answers_what_was_promised_and_exits_0() {
    let redis = redis();
    let mut proxy = Proxy::start(&redis);
    let clients: Vec<_> = (0..8).map(|_| proxy.client()).collect();
    let threads: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            std::thread::spawn(move || {
                let batch: Vec<u8> = (0..50).flat_map(|_| encode(&["INCR", "counter"])).collect();
                let mut answered = 0_u64;
                // Ends with the connection: by a write that fails or a reply that never comes.
                while client.stream().write_all(&batch).is_ok() {
                    for _ in 0..50 {
                        match client.try_reply() {
                            Some(Reply::Integer(_)) => answered += 1,
                            Some(other) => panic!("{other:?}"),
                            None => return answered,
                        }
                    }
                }
                answered
            })
        })
        .collect();
    proxy.await_that("load", |_| (calls(&redis, "incr") > 1000).then_some(()));
    assert!(proxy.stop().success(), "{}", proxy.log());
    let answered: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    let ran = calls(&redis, "incr");
    assert_eq!(answered, ran, "every command that Redis ran was answered, and none was answered that it did not run");
    let records = proxy.records("command");
    assert_eq!(
        records.iter().filter(|record| record["cmd"] == "INCR" && record["outcome"] == "ran").count() as u64,
        ran
    );
    let audit = proxy.audit();
    let last = audit.iter().rfind(|record| record["event"] == "stop").expect("a stop record");
    assert_eq!(last["reason"], "drained");
    assert_eq!(proxy.records("drain_end")[0]["aborted"], 0);
}

#[test]
fn a_client_that_reads_nothing_is_aborted_at_the_drain_deadline_and_the_exit_code_says_so() {
    let redis = redis();
    let limits = "drain_timeout = \"1s\"\nflush_timeout = \"60s\"";
    let mut proxy = Proxy::with(&redis, Setup { limits: limits.into(), ..Setup::default() });
    let mut client = proxy.client();
    client.call(&[b"SET", &b"big"[..], &vec![b'x'; 32_000_000]]).expect_ok();
    client.send(&["GET", "big"]);
    proxy.await_that("the command to run", |_| (calls(&redis, "get") == 1).then_some(()));
    let status = proxy.stop();
    assert_eq!(status.code(), Some(1), "{}", proxy.log());
    assert_eq!(proxy.records("drain_end")[0]["aborted"], 1);
    assert_eq!(proxy.records("stop")[0]["reason"], "deadline");
    let close = &proxy.records("connection_close")[0];
    assert_eq!(close["reason"], "drain", "{close}");
    let get = proxy.records("command").into_iter().find(|record| record["cmd"] == "GET").unwrap();
    assert_eq!(get["outcome"], "unanswered", "{get}");
}

#[test]
fn a_second_signal_does_not_wait_for_the_deadline() {
    let redis = redis();
    let mut proxy = Proxy::with(&redis, Setup { limits: "drain_timeout = \"10m\"".into(), ..Setup::default() });
    let mut client = proxy.client();
    client.call(&[b"SET", &b"big"[..], &vec![b'x'; 32_000_000]]).expect_ok();
    client.send(&["GET", "big"]);
    proxy.await_that("the command to run", |_| (calls(&redis, "get") == 1).then_some(()));
    proxy.signal(Signal::TERM);
    proxy.await_record("drain_begin", |_| true);
    proxy.signal(Signal::HUP);
    proxy.await_that("a word about SIGHUP", |proxy| {
        proxy.log().contains("SIGHUP during a drain is ignored").then_some(())
    });
    assert_eq!(proxy.stop().code(), Some(1));
}

#[test]
fn a_client_that_only_waits_is_not_waited_for() {
    let redis = redis();
    let mut proxy = Proxy::start(&redis);
    let mut popper = proxy.client();
    popper.send(&["BLPOP", "queue", "0"]);
    let mut subscriber = proxy.client();
    subscriber.call(&["SUBSCRIBE", "channel"]);
    proxy.await_that("a blocked client", |_| {
        redis.connect().call(&["INFO", "clients"]).text().contains("blocked_clients:1").then_some(())
    });
    assert!(proxy.stop().success(), "{}", proxy.log());
}

#[test]
fn running_out_of_descriptors_serves_those_who_are_in_and_recovers() {
    let redis = redis();
    let proxy = Proxy::with(&redis, Setup { files: Some(48), ..Setup::default() });
    let mut inside = proxy.client();
    let sockets: Vec<_> = (0..60).map(|_| proxy.socket()).collect();
    let record = proxy.await_record("accept_error", |_| true);
    assert_eq!(record["reason"], "fd-limit");
    for _ in 0..100 {
        assert_eq!(inside.call(&["PING"]).text(), "PONG");
    }
    drop(sockets);
    let app = proxy.pki.client("app").unwrap();
    proxy.await_that("somebody to be let in", |proxy| proxy.client_with(&app).ok());
    assert!(proxy.records("accept_error").len() <= 3, "one record per episode");
}

#[test]
fn a_redis_that_is_gone_is_said_and_recorded_and_noticed_when_it_is_back() {
    let redis = redis();
    let proxy = Proxy::with(&redis, Setup { admin: true, ..Setup::default() });
    assert_eq!(proxy.get("/readyz").0, 200);
    let mut live = proxy.client();
    let socket = redis.socket().to_path_buf();
    let away = socket.with_extension("away");
    std::fs::rename(&socket, &away).unwrap();
    let app = proxy.pki.client("app").unwrap();
    let mut late = proxy.shake(Some(&app)).unwrap();
    late.send(&["GET", "a"]);
    assert!(late.reply().error().unwrap().contains("unavailable"));
    assert_eq!(late.rest(), b"");
    let record = proxy.await_record("upstream_failed", |_| true);
    assert!(record["detail"].as_str().unwrap().contains("redis.sock"), "{record}");
    assert_eq!(proxy.get("/readyz").0, 503);
    assert_eq!(proxy.get("/livez").0, 200, "a lost Redis is no reason to restart the proxy");
    assert_eq!(live.call(&["PING"]).text(), "PONG", "the old connection is not concerned");
    std::fs::rename(&away, &socket).unwrap();
    proxy.await_that("readiness", |proxy| (proxy.get("/readyz").0 == 200).then_some(()));
}

#[test]
fn the_password_is_in_no_log_record_or_metric() {
    let redis = redis();
    let mut proxy =
        Proxy::with(&redis, Setup { admin: true, more: "[log]\nlevel = \"trace\"".into(), ..Setup::default() });
    let mut client = proxy.client();
    client.call(&["SET", "a", "value-that-is-nobodys-business"]).expect_ok();
    client.call(&["AUTH", "client-password"]);
    client.call(&["HELLO", "3", "AUTH", "user", "client-password"]);
    let (status, metrics) = proxy.get("/metrics");
    assert_eq!(status, 200);
    assert!(metrics.contains("ravelin_commands_total"), "{metrics}");
    drop(client);
    assert!(proxy.stop().success());
    let audit = std::fs::read_to_string(proxy.path("audit.jsonl")).unwrap();
    for (place, text) in [("log", proxy.log()), ("audit", audit), ("metrics", metrics)] {
        assert!(!text.is_empty(), "{place}");
        for secret in ["correct horse", "battery", "client-password", "nobodys-business"] {
            assert!(!text.contains(secret), "{secret} is in the {place}");
        }
    }
}

#[test]
fn an_address_in_use_ends_the_start_with_code_1_and_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let redis = redis();
    let proxy = Proxy::start(&redis);
    let text = std::fs::read_to_string(proxy.path("ravelin.toml")).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let file = proxy.path("taken.toml");
    std::fs::write(&file, text.replace("127.0.0.1:0", &address)).unwrap();
    let output =
        std::process::Command::new(env!("CARGO_BIN_EXE_ravelin")).arg("run").arg("-c").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&address), "{said}");
}

#[test]
fn sigusr1_goes_on_in_a_new_audit_file_without_losing_a_line() {
    let redis = redis();
    let mut proxy = Proxy::start(&redis);
    let mut client = proxy.client();
    client.call(&["SET", "before", "1"]).expect_ok();
    proxy.await_record("command", |record| record["cmd"] == "SET");
    std::fs::rename(proxy.path("audit.jsonl"), proxy.path("audit.old")).unwrap();
    proxy.signal(Signal::USR1);
    proxy.await_that("the new file", |proxy| proxy.log().contains("the audit file is opened anew").then_some(()));
    // A line that was on its way when the signal came may still go to the old file; none may go to neither or both.
    let mut sent = 0;
    while proxy.audit().is_empty() {
        client.call(&["SET", "after", "1"]).expect_ok();
        sent += 1;
    }
    drop(client);
    assert!(proxy.stop().success());
    let old = std::fs::read_to_string(proxy.path("audit.old")).unwrap();
    let new = std::fs::read_to_string(proxy.path("audit.jsonl")).unwrap();
    assert!(old.contains("\"before\"") && !new.contains("\"before\""));
    assert_eq!(old.matches("\"after\"").count() + new.matches("\"after\"").count(), sent);
    let mut numbers: Vec<(u64, u64)> = [old, new]
        .concat()
        .lines()
        .map(|line| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            (record["w"].as_u64().unwrap(), record["seq"].as_u64().unwrap())
        })
        .collect();
    numbers.sort_unstable();
    for pair in numbers.windows(2) {
        assert!(pair[0].0 != pair[1].0 || pair[0].1 + 1 == pair[1].1, "a hole between {:?} and {:?}", pair[0], pair[1]);
    }
}

#[test]
fn an_idle_client_is_closed_after_its_time_and_a_waiting_one_is_not() {
    let redis = redis();
    let proxy = Proxy::with(&redis, Setup { limits: "idle_timeout = \"1s\"".into(), ..Setup::default() });
    let mut waiting = proxy.client();
    waiting.send(&["BLPOP", "queue", "0"]);
    let mut idle = proxy.client();
    assert_eq!(idle.rest(), b"");
    proxy.await_record("connection_close", |record| record["reason"] == "idle");
    std::thread::sleep(Duration::from_millis(1200));
    redis.connect().call(&["RPUSH", "queue", "element"]);
    assert_eq!(waiting.reply().elements()[1].text(), "element");
}
