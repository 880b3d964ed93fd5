//! The ends of a connection that neither QUIT nor a client's goodbye brings: Redis closes at every point, kills, pauses, is
//! full or shuts down; a client resets its connection while it is blocked.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use rustix::net::sockopt::set_socket_linger;
use serde_json::Value;
use std::{io::Write as _, time::Duration};
use support::{
    client::greeted,
    process::{PASSWORD, Proxy},
    redis::{Redis, Release},
    setup::Setup,
    stub::Stub,
    twins::{ALLOW_ALL, Twins},
    wire::{Reply, encode},
};

/// The close of the connection after the first `before` ones.
fn close(proxy: &Proxy, before: usize) -> Value {
    proxy.await_that("the close", |proxy| proxy.records("connection_close").get(before).cloned())
}

/// What became of the newest command of this name.
fn outcome(proxy: &Proxy, command: &str) -> String {
    let records = proxy.records("command");
    let record = records.iter().rfind(|record| record["cmd"] == command);
    record.unwrap_or_else(|| panic!("no record of {command}"))["outcome"].as_str().unwrap().to_owned()
}

#[test]
fn redis_may_close_at_any_point() {
    let stub = Stub::start();
    let proxy = stub.proxy();
    let app = proxy.pki.client("app").unwrap();
    let unavailable = "-ERR the Redis behind this proxy is unavailable\r\n";

    // Before it has answered AUTH: after nothing, after the answer to PING.
    for said in [&b""[..], b"-NOAUTH Authentication required.\r\n", b"-NOAUTH x\r\n+O"] {
        let before = proxy.records("connection_close").len();
        let mut client = proxy.shake(Some(&app)).unwrap();
        client.send(&["GET", "a"]);
        loop {
            let mut redis = stub.accept();
            // Ravelin's own look whether somebody is there says nothing.
            if !redis.take(14).is_empty() {
                redis.take(encode(&["AUTH", PASSWORD]).len());
                redis.send_raw(said);
                break;
            }
        }
        assert_eq!(String::from_utf8(client.rest()).unwrap(), unavailable);
        assert_eq!(close(&proxy, before)["reason"], "upstream-auth");
    }

    // A close of Redis' in these states: what it hears before, what it says, what the client has then, what becomes of the last.
    let big = "v".repeat(100_000);
    type Case<'a> = (&'a [&'a [&'a str]], &'a [u8], &'a [u8], &'a str, &'a str);
    let table: &[Case<'_>] = &[
        (&[], b"", b"", "", ""),
        (&[&["GET", "a"]], b"", b"", "GET", "unanswered"),
        (&[&["GET", "a"]], b"$-1\r\n", b"$-1\r\n", "GET", "ran"),
        (&[&["GET", "a"]], b"$5\r\nab", b"$5\r\nab", "GET", "unanswered"),
        (&[&["LRANGE", "l", "0", "-1"]], b"*2\r\n$1\r\na\r\n", b"*2\r\n$1\r\na\r\n", "LRANGE", "unanswered"),
        (&[&["SET", "a", "1"], &["SET", "b", "2"], &["INCR", "c"]], b"+OK\r\n", b"+OK\r\n", "INCR", "unanswered"),
        (&[&["MULTI"], &["SET", "a", "1"]], b"+OK\r\n+QUEUED\r\n", b"+OK\r\n+QUEUED\r\n", "SET", "queued"),
        (
            &[&["MULTI"], &["SET", "a", "1"], &["EXEC"]],
            b"+OK\r\n+QUEUED\r\n",
            b"+OK\r\n+QUEUED\r\n",
            "EXEC",
            "unanswered",
        ),
        (&[&["BLPOP", "q", "0"]], b"", b"", "BLPOP", "unanswered"),
        (
            &[&["SUBSCRIBE", "a", "b"]],
            b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
            b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
            "SUBSCRIBE",
            "unanswered",
        ),
        (&[&["SET", "a", &big]], b"", b"", "SET", "unanswered"),
    ];
    for (heard, said, seen, command, became) in table {
        let before = proxy.records("connection_close").len();
        let (mut client, mut redis) = stub.meet(&proxy);
        client.send_raw(&heard.iter().flat_map(|words| encode(words)).collect::<Vec<_>>());
        for words in *heard {
            redis.hears(words);
        }
        redis.send_raw(said);
        drop(redis);
        assert_eq!(client.rest().escape_ascii().to_string(), seen.escape_ascii().to_string(), "{heard:?}");
        assert_eq!(close(&proxy, before)["reason"], "upstream-closed", "{heard:?}");
        if !command.is_empty() {
            assert_eq!(outcome(&proxy, command), *became, "{heard:?}");
        }
    }

    // While a large request is on its way, which cannot have run; and with words on why, which are passed on.
    let lost = &b"-ERR the connection to Redis was lost before this command was sent\r\n"[..];
    let refused = &b"-ERR Protocol error: invalid bulk length\r\n"[..];
    for (said, seen) in [(&b""[..], lost), (refused, refused)] {
        let before = proxy.records("connection_close").len();
        let (mut client, mut redis) = stub.meet(&proxy);
        client.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100000000\r\n");
        client.send_raw(&vec![b'x'; 200_000]);
        redis.take(200_000);
        redis.send_raw(said);
        drop(redis);
        assert_eq!(client.rest().escape_ascii().to_string(), seen.escape_ascii().to_string());
        assert_eq!(close(&proxy, before)["reason"], "upstream-closed");
        assert_eq!(outcome(&proxy, "SET"), "incomplete");
    }
}

#[test]
fn a_redis_that_is_full_says_so_in_its_own_words_before_any_request() {
    let redis = Redis::with(&["maxclients 4"], Some(PASSWORD.as_bytes()));
    let proxy = Proxy::start(&redis);
    let app = proxy.pki.client("app").unwrap();
    let mut inside: Vec<_> = (0..4).map(|_| proxy.client()).collect();
    let mut late = proxy.shake(Some(&app)).unwrap();
    late.send(&["GET", "a"]);
    assert_eq!(late.rest(), b"-ERR max number of clients reached\r\n");
    let record = proxy.await_record("upstream_failed", |_| true);
    assert_eq!(record["reason"], "maxclients", "{record}");
    assert!(inside.iter_mut().all(|client| client.call(&["PING"]).text() == "PONG"));
    drop(inside.pop());
    proxy.await_that("a free place", |proxy| {
        greeted(proxy.shake(Some(&app)).ok()?).ok()?.call(&["SET", "a", "1"]).error().is_none().then_some(())
    });

    // Without a password nothing is asked first: the words come to a connection that is open, asked for or not.
    let stub = Stub::start();
    let proxy = Proxy::with(&stub.setup(false));
    for asks in [false, true] {
        let before = proxy.records("connection_close").len();
        let mut client = proxy.shake(Some(&proxy.pki.client("app").unwrap())).unwrap();
        client.stream().flush().unwrap();
        if asks {
            client.send(&["GET", "a"]);
        }
        let end = std::thread::spawn(move || client.rest());
        while proxy.records("connection_close").len() == before {
            // Among these may be Ravelin's own look whether somebody is there.
            if let Some(mut redis) = stub.try_accept() {
                let _ = redis.stream().write_all(b"-ERR max number of clients reached\r\n");
            }
        }
        assert_eq!(end.join().unwrap(), b"-ERR max number of clients reached\r\n");
        assert_eq!(close(&proxy, before)["reason"], "upstream-closed");
    }
}

#[test]
fn a_client_kills_itself_and_has_the_answer() {
    let twins = Twins::start();
    // The address Redis knows a connection by is that of Ravelin's; it is asked for it.
    let kill = |by: &str| {
        let mut client = twins.proxy.client();
        client.call(&["CLIENT", "SETNAME", "victim"]).expect_ok();
        let list = twins.redis.connect().call(&["CLIENT", "LIST"]).text();
        let line = list.lines().find(|line| line.contains("name=victim")).expect("the victim is listed");
        let field = |name: &str| line.split(' ').find_map(|field| field.strip_prefix(name)).unwrap().to_owned();
        let (id, address) = (field("id="), field("addr="));
        let before = twins.proxy.records("connection_close").len();
        let answer = match by {
            "id" => client.call(&["CLIENT", "KILL", "ID", &id, "SKIPME", "no"]),
            // A client behind a Unix socket has the address of all others there.
            _ => client.call(&["CLIENT", "KILL", "ADDR", &address, "SKIPME", "no"]),
        };
        assert!(answer.integer() >= 1, "{by}: {answer:?}");
        assert_eq!(client.rest(), b"", "{by}");
        assert_eq!(close(&twins.proxy, before)["reason"], "upstream-closed");
        assert_eq!(outcome(&twins.proxy, "CLIENT"), "ran");
        // What stood behind it in the pipeline is not answered, and not said to have failed.
        let mut client = twins.proxy.client();
        let id = if by == "id" {
            client.call(&["CLIENT", "SETNAME", "victim"]).expect_ok();
            let list = twins.redis.connect().call(&["CLIENT", "LIST"]).text();
            let line = list.lines().find(|line| line.contains("name=victim")).unwrap().to_owned();
            line.split(' ').find_map(|field| field.strip_prefix("id=")).unwrap().to_owned()
        } else {
            return;
        };
        let behind = [&["CLIENT", "KILL", "ID", &id, "SKIPME", "no"][..], &["INCR", "never"]].map(encode);
        client.send_raw(&behind.concat());
        assert_eq!(client.rest(), b":1\r\n");
        assert_eq!(twins.redis.connect().call(&["EXISTS", "never"]).integer(), 0);
    };
    kill("id");
    kill("address");
    // With SKIPME (the default) it lives on.
    let mut client = twins.proxy.client();
    assert_eq!(client.call(&["CLIENT", "KILL", "TYPE", "normal"]).error(), None);
    assert_eq!(client.call(&["PING"]).text(), "PONG");
}

#[test]
fn an_administrator_kills_everybody_and_nobody_is_told_a_lie() {
    let redis = Redis::with_password(PASSWORD);
    let proxy = Proxy::start(&redis);
    let mut waiting = proxy.client();
    waiting.send(&["BLPOP", "queue", "0"]);
    let mut idle = proxy.client();
    let mut inside = proxy.client();
    inside.call(&["MULTI"]).expect_ok();
    inside.call(&["SET", "a", "1"]);
    let mut subscriber = proxy.client();
    subscriber.call(&["SUBSCRIBE", "a"]);
    proxy.await_that("a blocked client", |_| (redis.blocked() == 1).then_some(()));
    let mut admin = redis.connect();
    assert_eq!(admin.call(&["CLIENT", "KILL", "TYPE", "normal"]).integer(), 3);
    for client in [&mut waiting, &mut idle, &mut inside] {
        assert_eq!(client.rest(), b"");
    }
    admin.send(&["PUBLISH", "a", "still here"]);
    assert_eq!(subscriber.reply().elements()[2].text(), "still here");
    assert_eq!(
        admin.call(&["CLIENT", "KILL", "TYPE", "pubsub"]).integer(),
        1,
        "the answer to PUBLISH, which is as many"
    );
    assert_eq!(subscriber.rest(), b"");
    proxy.await_that("four closes", |proxy| (proxy.records("connection_close").len() == 4).then_some(()));
    assert!(proxy.records("connection_close").iter().all(|record| record["reason"] == "upstream-closed"));
    assert_eq!(outcome(&proxy, "BLPOP"), "unanswered");
    assert_eq!(redis.connect().call(&["EXISTS", "a"]).integer(), 0);
}

#[test]
fn a_subscriber_that_redis_finds_too_slow_is_closed_here_too() {
    let redis = Redis::with(&["client-output-buffer-limit pubsub 1mb 1mb 0"], Some(PASSWORD.as_bytes()));
    let proxy = Proxy::start(&redis);
    let mut slow = proxy.client();
    slow.call(&["SUBSCRIBE", "news"]);
    let mut direct = redis.connect();
    // Small enough that every release copies it for each subscriber, and so counts it.
    let news = vec![b'n'; 10_000];
    // It reads nothing; Ravelin reads no further than it can pass on, and Redis ends it by its own limit.
    let mut told = 0;
    while direct.call(&[b"PUBLISH", &b"news"[..], &news]).integer() == 1 {
        told += 1;
        assert!(told < 20_000, "Redis keeps 200 MB for a client that does not read");
    }
    let got = slow.rest();
    let head = b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$10000\r\n";
    assert!(got.starts_with(head), "whole messages, and then the end");
    proxy.await_record("connection_close", |record| record["reason"] == "upstream-closed");
}

#[test]
fn paused_clients_are_answered_late_and_in_order() {
    let redis = Redis::with_password(PASSWORD);
    let proxy = Proxy::with(&Setup { more: ALLOW_ALL, ..Setup::before(&redis) });
    let mut client = proxy.client();
    if client.call(&["CLIENT", "PAUSE", "300"]).error().is_some() {
        assert!(!Release::of_server().since(3, 0), "CLIENT PAUSE is missing in Redis 2.8 alone");
        return;
    }
    let dialogue = [&["SET", "a", "1"][..], &["NOSUCH"], &["INCR", "a"], &["GET", "a"]].map(encode);
    client.send_raw(&dialogue.concat());
    client.reply().expect_ok();
    assert!(client.reply().error().unwrap().starts_with("NOPERM "));
    assert_eq!(client.reply(), Reply::Integer(2));
    assert_eq!(client.reply().text(), "2");
    let record = proxy.await_record("command", |record| record["cmd"] == "SET");
    assert!(record["us"].as_u64().unwrap() > 100_000, "the pause is in its time: {record}");
    // Who leaves during a pause leaves nothing behind.
    client.call(&["CLIENT", "PAUSE", "300"]).expect_ok();
    let mut leaving = proxy.shake(Some(&proxy.pki.client("app").unwrap())).unwrap();
    leaving.send(&["PING"]);
    drop(leaving);
    client.send(&["PING"]);
    assert_eq!(client.reply().text(), "PONG");
}

#[test]
fn shutdown_that_fails_is_answered_and_one_that_works_is_a_close() {
    let mut redis = Redis::with_password(PASSWORD);
    let proxy = Proxy::with(&Setup { more: ALLOW_ALL, ..Setup::before(&redis) });
    let mut client = proxy.client();
    for words in [&["SHUTDOWN", "NONSENSE"][..], &["SHUTDOWN", "SAVE", "NONSENSE"]] {
        assert!(client.call(words).error().unwrap().starts_with("ERR "), "{words:?}");
    }
    if Release::of_server().since(7, 0) {
        assert!(client.call(&["SHUTDOWN", "ABORT"]).error().unwrap().starts_with("ERR No shutdown"));
    }
    client.call(&["SET", "a", "1"]).expect_ok();
    let mut other = proxy.client();
    client.send_raw(&[&["SHUTDOWN", "NOSAVE"][..], &["SET", "a", "2"]].map(encode).concat());
    assert_eq!(client.rest(), b"");
    assert_eq!(other.rest(), b"");
    redis.await_end();
    proxy.await_record("begin", |record| record["cmd"] == "SHUTDOWN");
    let ran = |record: &Value| record["cmd"] == "SHUTDOWN" && record["outcome"] == "ran";
    proxy.await_record("command", ran);
    proxy.await_record("command", |record| record["cmd"] == "SET" && record["outcome"] == "unanswered");
}

/// By a reset, without any goodbye, while commands stand behind the one that blocks.
#[test]
fn a_connection_reset_while_blocked_vanishes_upstream_at_once() {
    let redis = Redis::with_password(PASSWORD);
    let proxy = Proxy::start(&redis);
    for blocked in [&["BLPOP", "queue", "0"][..], &["BRPOPLPUSH", "queue", "elsewhere", "0"]] {
        let before = proxy.records("connection_close").len();
        let mut client = proxy.client();
        client.send(blocked);
        client.send(&["LPOP", "queue"]);
        proxy.await_that("a blocked client", |_| (redis.blocked() == 1).then_some(()));
        // Closing with a linger of zero sends RST.
        set_socket_linger(&client.stream().sock, Some(Duration::ZERO)).unwrap();
        drop(client);
        proxy.await_that("Redis to forget it", |_| (redis.blocked() == 0).then_some(()));
        let close = close(&proxy, before);
        assert!(["client-gone", "client-closed"].contains(&close["reason"].as_str().unwrap()), "{close}");
        let mut direct = redis.connect();
        direct.call(&["RPUSH", "queue", "element"]);
        assert_eq!(direct.call(&["LPOP", "queue"]).text(), "element", "a ghost took it");
        assert_eq!(outcome(&proxy, blocked[0]), "unanswered");
        assert_eq!(outcome(&proxy, "LPOP"), "unanswered");
    }
}
