//! Limits in front of the real program: commands and bytes in a time, how often an address may come, how many connections
//! an identity may have, how long a client may be silent or half done. Each is told to the client, recorded and counted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "what takes its time is measured")]

mod support;

use certs_dev::Leaf;
use std::{
    io::Write as _,
    time::{Duration, Instant},
};
use support::{
    process::{PASSWORD, Proxy},
    proxied::client_from,
    redis::Redis,
    setup::Setup,
    wire::encode,
};

fn redis() -> Redis {
    Redis::with_password(PASSWORD)
}

const HERE: [u8; 4] = [127, 0, 0, 1];
const THERE: [u8; 4] = [127, 0, 0, 2];

fn rated(redis: &Redis, rate: &'static str) -> Setup {
    Setup { roles: rate, ..Setup::before(redis) }
}

#[test]
fn all_connections_of_a_role_share_its_commands_and_the_surplus_waits_in_order() {
    let redis = redis();
    let proxy = Proxy::with(&rated(
        &redis,
        "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\nlimits = { rate = [{ commands = 20, of = [\"INCR\"] }] }",
    ));
    let mut clients = [proxy.client(), proxy.client()];
    let start = Instant::now();
    for client in &mut clients {
        client.send_raw(&encode(&["INCR", "n"]).repeat(30));
    }
    let answers: Vec<i64> =
        clients.iter_mut().flat_map(|client| (0..30).map(|_| client.reply().integer()).collect::<Vec<_>>()).collect();
    // 20 at once, and 40 in 2 s, whichever worker each connection is with.
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(1900), "{took:?}");
    for own in answers.chunks(30) {
        assert!(own.is_sorted(), "in order: {own:?}");
    }
    assert_eq!(answers.iter().max(), Some(&60));
    let start = Instant::now();
    assert_eq!(clients[0].call(&["GET", "n"]).text(), "60");
    assert!(start.elapsed() < Duration::from_secs(1), "what no limit is about does not wait");
    let (_, page) = proxy.page("/metrics");
    let line = page.lines().find(|line| line.starts_with("ravelin_delayed_total{rule=\"rate:commands:INCR\"}"));
    let delayed: f64 = line.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!((30.0..=40.0).contains(&delayed), "{delayed}");
}

#[test]
fn a_limit_that_refuses_says_so_and_a_transaction_it_refuses_something_of_does_not_run() {
    let redis = redis();
    let proxy = Proxy::with(&rated(
        &redis,
        "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\n\
         limits = { rate = [{ commands = 1, burst = \"3s\", of = [\"@write\"], over = \"error\" }] }",
    ));
    let mut client = proxy.client();
    client.call(&["SET", "a", "1"]).expect_ok();
    client.call(&["MULTI"]).expect_ok();
    assert_eq!(client.call(&["SET", "a", "2"]).text(), "QUEUED");
    assert_eq!(client.call(&["SET", "b", "2"]).text(), "QUEUED");
    assert_eq!(client.call(&["SET", "c", "2"]).error(), Some("ERR rate limit reached, try again later"));
    assert!(client.call(&["EXEC"]).error().unwrap().starts_with("EXECABORT "));
    assert_eq!(client.call(&["GET", "a"]).text(), "1");
    let denied = proxy.await_record("command", |record| record["rule"] == "rate:commands:@write");
    assert_eq!((&denied["verdict"], &denied["context"]), (&"deny".into(), &"multi".into()), "{denied}");
    let (_, page) = proxy.page("/metrics");
    assert!(page.contains("ravelin_denied_total{rule=\"rate:commands:@write\"} 1"), "{page}");
}

#[test]
fn a_reload_changes_the_limits_of_live_connections_and_leaves_others_where_they_stand() {
    let redis = redis();
    let role = "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\n\
                limits = { rate = [{ commands = 1, burst = \"2s\", of = [\"SET\"], over = \"error\" }] }";
    let proxy = Proxy::with(&rated(&redis, role));
    let mut client = proxy.client();
    for _ in 0..2 {
        client.call(&["SET", "a", "1"]).expect_ok();
    }
    assert!(client.call(&["SET", "a", "1"]).error().is_some());
    assert_eq!(proxy.reload()["result"], "swapped");
    let mut other = proxy.client();
    let refused = (0..3).filter(|_| other.call(&["SET", "a", "1"]).error().is_some()).count();
    assert!(refused >= 1, "the same limit is as empty as it was");
    proxy.configure(&rated(&redis, "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]"));
    assert_eq!(proxy.reload()["result"], "swapped");
    // It learns of that within a moment; more in a row than the limit of before would ever have let through.
    proxy.await_that("no limit", |_| (0..10).all(|_| client.call(&["SET", "a", "1"]).error().is_none()).then_some(()));
}

/// Connects from there until the door says no, and returns how often it did not.
fn knock(proxy: &Proxy, reason: &str) -> usize {
    for let_in in 0..100 {
        if client_from(proxy, THERE).is_err() {
            let record = proxy.await_record("refused", |record| record["reason"] == reason);
            assert!(record["src"].as_str().unwrap().starts_with("127.0.0.2:"), "{record}");
            return let_in;
        }
    }
    panic!("nobody was refused");
}

#[test]
fn an_address_that_comes_too_often_is_refused_and_another_is_not() {
    let redis = redis();
    for (limits, reason) in [
        ("accepts_per_address = { rate = 1, burst = 5 }", "accept-rate"),
        ("handshakes_per_address = { rate = 1, burst = 5 }", "handshake-rate"),
    ] {
        let proxy = Proxy::with(&Setup { limits, ..Setup::before(&redis) });
        let let_in = knock(&proxy, reason);
        assert!((5..20).contains(&let_in), "{let_in}");
        client_from(&proxy, HERE).expect("nobody else is the worse for it");
        let (_, page) = proxy.page("/metrics");
        assert!(page.contains(&format!("ravelin_refused_total{{service=\"cache\",reason=\"{reason}\"}} ")), "{page}");
        // A reload may lift it.
        proxy.configure(&Setup { limits: "", ..proxy.setup() });
        assert_eq!(proxy.reload()["result"], "swapped");
        for _ in 0..10 {
            client_from(&proxy, THERE).unwrap();
        }
    }
}

#[test]
fn an_identity_has_its_cap_whatever_certificate_shows_it_and_another_has_its_own() {
    let redis = redis();
    let roles = "[[role]]\nname = \"app\"\nmatch = [{ uri = \"spiffe://prod/*\" }]\nlimits = { max_connections_per_identity = 2 }";
    let proxy = Proxy::with(&Setup { roles, ..Setup::before(&redis) });
    let one = proxy.pki.issue(&Leaf::client("x").uri("spiffe://prod/one")).unwrap();
    let renewed = proxy.pki.issue(&Leaf::client("x").uri("spiffe://prod/one")).unwrap();
    let two = proxy.pki.issue(&Leaf::client("x").uri("spiffe://prod/two")).unwrap();
    let first = proxy.client_with(&one).unwrap();
    let _second = proxy.client_with(&renewed).unwrap();
    assert!(proxy.client_with(&renewed).is_err());
    let record = proxy.await_record("handshake_failure", |record| record["reason"] == "max-per-identity");
    assert!(record["unverified"].to_string().contains("spiffe://prod/one"), "{record}");
    let _other = proxy.client_with(&two).expect("another identity");
    drop(first);
    proxy.await_record("connection_close", |_| true);
    proxy.await_that("a place that was given back", |proxy| proxy.client_with(&one).ok());
}

#[test]
fn a_client_that_says_nothing_after_its_handshake_is_closed() {
    let redis = redis();
    let proxy = Proxy::with(&Setup { limits: "first_byte_timeout = \"200ms\"", ..Setup::before(&redis) });
    let app = proxy.pki.client("app").unwrap();
    let mut silent = proxy.shake(Some(&app)).unwrap();
    let mut spoken = proxy.client();
    assert_eq!(silent.rest(), b"", "closed without a word");
    let close = proxy.await_record("connection_close", |_| true);
    assert_eq!((&close["reason"], &close["commands"]), (&"first-byte-timeout".into(), &0.into()), "{close}");
    assert_eq!(spoken.call(&["PING"]).text(), "PONG");
}

#[test]
fn half_a_command_is_waited_for_so_long_and_what_came_before_it_is_answered() {
    let redis = redis();
    let proxy = Proxy::with(&Setup { limits: "half_command_timeout = \"200ms\"", ..Setup::before(&redis) });
    let mut client = proxy.client();
    let mut subscriber = proxy.client();
    subscriber.call(&["SUBSCRIBE", "news"]);
    subscriber.stream().write_all(b"*1\r\n$4\r\nPI").unwrap();
    let mut waiting = proxy.client();
    waiting.send(&["BLPOP", "list", "0"]);
    waiting.stream().write_all(b"*1\r\n$4\r\nPI").unwrap();
    client.stream().write_all(b"*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$1").unwrap();
    assert_eq!(client.rest(), b"+PONG\r\n");
    let close = proxy.await_record("connection_close", |_| true);
    assert_eq!(close["reason"], "half-command-timeout", "{close}");
    // Who waits for Redis is not hurried: both finish what they began.
    let mut other = proxy.client();
    other.call(&["RPUSH", "list", "x"]);
    waiting.stream().write_all(b"NG\r\n").unwrap();
    assert_eq!(waiting.reply().elements().len(), 2);
    assert_eq!(waiting.reply().text(), "PONG");
    subscriber.stream().write_all(b"NG\r\n").unwrap();
    assert!(subscriber.reply().error().is_none());
}

/// Who was let in under other deadlines, or none, is under the new ones at once.
#[test]
fn deadlines_that_a_reload_brings_are_those_of_live_connections_too() {
    let redis = redis();
    let limits = |limits| Setup { limits, ..Setup::before(&redis) };
    let proxy = Proxy::with(&limits("half_command_timeout = \"0s\""));
    let app = proxy.pki.client("app").unwrap();
    let mut silent = proxy.shake(Some(&app)).unwrap();
    let (mut half, mut other) = (proxy.client(), proxy.client());
    half.stream().write_all(b"*2\r\n$3\r\nGET\r\n$1").unwrap();
    proxy.await_that("three sessions", |proxy| (proxy.records("connection_open").len() == 3).then_some(()));
    proxy.configure(&limits("first_byte_timeout = \"200ms\"\nhalf_command_timeout = \"300ms\""));
    assert_eq!(proxy.reload()["result"], "swapped");
    assert_eq!(silent.rest(), b"");
    proxy.await_record("connection_close", |record| record["reason"] == "first-byte-timeout");
    assert_eq!(half.rest(), b"");
    proxy.await_record("connection_close", |record| record["reason"] == "half-command-timeout");
    assert_eq!(other.call(&["PING"]).text(), "PONG");
    proxy.configure(&limits("idle_timeout = \"1s\""));
    assert_eq!(proxy.reload()["result"], "swapped");
    assert_eq!(other.rest(), b"");
    proxy.await_record("connection_close", |record| record["reason"] == "idle");
}

#[test]
fn what_is_in_force_is_shown_by_check() {
    let redis = redis();
    let roles = "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\n\
                 limits = { max_connections_per_identity = 7, rate = [{ commands = 1000, of = [\"@write\"], over = \"error\" }, { bytes = \"1MiB\" }] }";
    let limits = "accepts_per_address = { rate = 50, burst = 200 }\nhandshakes = 64\nfirst_byte_timeout = \"3s\"";
    let mut setup = Setup { roles, limits, ..Setup::before(&redis) };
    setup.services[0].listen = ", proxy_protocol = { trusted = [\"10.0.9.0/24\"] }";
    setup.services[0].upstream = ", proxy_protocol = \"v2\"";
    let proxy = Proxy::with(&setup);
    let config = proxy.path("ravelin.toml");
    let output = std::process::Command::new(support::process::program())
        .args(["check", "--offline", "-c"])
        .arg(config)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).replace('\n', " ");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for shown in [
        "from 10.0.9.0/24 with a header of the PROXY protocol, within 2s",
        "told of each client by the PROXY protocol (version 2)",
        "accepts 50 a second, 200 at once; handshakes however often it likes",
        "at most 64 at once, and 4096 that wait",
        "first byte 3s, half a command 1m",
        "at most 7 connections of an identity",
        "1000 commands a second, bursts of 1000 ms, of @write, the whole role together; refused beyond that",
        "1048576 bytes a second, bursts of 1000 ms, the whole role together; delayed beyond that",
    ] {
        assert!(text.contains(shown), "{shown:?} is not in {text}");
    }
}

/// Bytes of both directions count, and a client that is held back is held back by its own socket.
#[test]
fn a_limit_on_bytes_holds_replies_to_its_rate() {
    let redis = redis();
    redis.connect().call(&[b"SET", &b"big"[..], &[b'x'; 100_000]]).expect_ok();
    let proxy = Proxy::with(&rated(
        &redis,
        "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\nlimits = { rate = [{ bytes = \"200KiB\", per = \"connection\" }] }",
    ));
    let mut client = proxy.client();
    let start = Instant::now();
    for _ in 0..6 {
        assert_eq!(client.call(&["GET", "big"]).text().len(), 100_000);
    }
    // A second's worth at once; then each waits for what the reply before it has cost.
    assert!(start.elapsed() >= Duration::from_millis(1200), "{:?}", start.elapsed());
}
