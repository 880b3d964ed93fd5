//! The state of a connection through a real Redis: transactions, RESP3, RESET, subscriptions, CLIENT REPLY, large
//! commands, a client's own AUTH.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use serde_json::Value;
use support::{
    client::Client,
    process::{PASSWORD, Proxy},
    redis::{Redis, Release},
    setup::Setup,
    wire::{Reply, encode},
};

fn redis() -> Redis {
    Redis::with_password(PASSWORD)
}

fn pair() -> (Redis, Proxy) {
    let redis = redis();
    let proxy = Proxy::start(&redis);
    (redis, proxy)
}

fn hello(client: &mut Client, version: &str) {
    let reply = client.call(&["HELLO", version]);
    if !Release::of_server().since(6, 0) {
        assert!(
            reply.error().is_some_and(|text| text.contains("unknown command") && text.contains("HELLO")),
            "{reply:?}"
        );
        return;
    }
    let proto = match &reply {
        Reply::Map(_) => reply.field("proto").integer(),
        Reply::Array(words) => words[words.iter().position(|word| *word == bulk("proto")).unwrap() + 1].integer(),
        other => panic!("{other:?}"),
    };
    assert_eq!(proto.to_string(), version);
}

fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().to_vec())
}

fn denied(reply: &Reply) -> bool {
    reply.error().is_some_and(|text| text.starts_with("NOPERM "))
}

#[test]
fn a_watched_key_that_changed_makes_exec_null_in_either_protocol() {
    let (redis, proxy) = pair();
    let mut client = proxy.client();
    for (version, null) in redis.protocols().iter().zip([&b"*-1\r\n"[..], b"_\r\n"]) {
        hello(&mut client, version);
        client.call(&["WATCH", "a"]).expect_ok();
        redis.connect().call(&["SET", "a", *version]).expect_ok();
        client.call(&["MULTI"]).expect_ok();
        assert_eq!(client.call(&["SET", "a", "mine"]).text(), "QUEUED");
        client.send(&["EXEC"]);
        assert_eq!(client.raw_reply(), null);
        assert_eq!(client.call(&["GET", "a"]), bulk(version));
    }
    let nil = |proxy: &Proxy| {
        let records = proxy.records("command");
        let execs = records.iter().filter(|record| record["cmd"] == "EXEC" && record["outcome"] == "nil");
        let tx: Vec<_> = execs.map(|record| record["tx"].as_u64().unwrap()).collect();
        (tx.len() == redis.protocols().len()).then_some(tx)
    };
    let all: Vec<u64> = (1..).take(redis.protocols().len()).collect();
    assert_eq!(proxy.await_that("a record of each EXEC", nil), all);
}

#[test]
fn every_way_to_spoil_a_transaction_keeps_it_from_running() {
    let (redis, proxy) = pair();
    let mut client = proxy.client();
    client.call(&["SET", "a", "1"]).expect_ok();
    for spoil in [
        &["FLUSHALL"][..],
        &["NO-SUCH-COMMAND"],
        &["AUTH", "x"],
        &["HELLO", "3"],
        &["SUBSCRIBE", "channel"],
        &["CLIENT", "REPLY", "OFF"],
        &["MONITOR"],
        &["GET"],
        &["SELECT", "01"],
    ] {
        for pipelined in [false, true] {
            let dialogue = [&["MULTI"][..], &["SET", "a", "2"], spoil, &["EXEC"]];
            let mut replies = Vec::new();
            if pipelined {
                client.send_raw(&dialogue.map(encode).concat());
                replies.extend(dialogue.map(|_| client.reply()));
            } else {
                replies.extend(dialogue.map(|words| client.call(words)));
            }
            assert_eq!(replies[..2], [Reply::Status("OK".into()), Reply::Status("QUEUED".into())]);
            assert!(replies[2].error().is_some(), "{spoil:?}: {replies:?}");
            let aborted = "EXECABORT Transaction discarded because of previous errors.";
            assert_eq!(replies[3].error(), Some(aborted), "{spoil:?}");
            assert_eq!(client.call(&["GET", "a"]), bulk("1"), "{spoil:?}");
        }
    }
    assert_eq!(redis.calls_of("exec"), 2, "only those that Redis itself had refused a command of");
}

#[test]
fn reset_leaves_everything_but_never_who_the_connection_is() {
    let (redis, proxy) = pair();
    let mut client = proxy.client();
    if !Release::of_server().since(6, 2) {
        // The server does not know it: it says so, and everything is as it was.
        client.call(&["SELECT", "5"]).expect_ok();
        client.call(&["MULTI"]).expect_ok();
        assert!(client.call(&["RESET"]).error().unwrap().contains("unknown command"));
        client.call(&["EXEC"]);
        client.call(&["SET", "a", "five"]).expect_ok();
        let record = proxy.await_record("command", |record| record["cmd"] == "SET");
        assert_eq!(record["db"], 5, "{record}");
        return;
    }
    hello(&mut client, "3");
    client.call(&["SELECT", "5"]).expect_ok();
    client.call(&["SET", "a", "five"]).expect_ok();
    client.call(&["MULTI"]).expect_ok();
    // Behind it, before it is answered, commands of every kind.
    let behind = [&["RESET"][..], &["GET", "a"], &["SET", "a", "zero"], &["FLUSHALL"], &["HGETALL", "none"], &["EXEC"]];
    client.send_raw(&behind.map(encode).concat());
    assert_eq!(client.reply(), Reply::Status("RESET".into()));
    client.send(&["GET", "a"]);
    assert_eq!(client.raw_reply(), b"$-1\r\n", "database 0, RESP2");
    client.reply().expect_ok();
    assert!(denied(&client.reply()), "policy is as it was");
    assert_eq!(client.reply(), Reply::Array(Vec::new()), "a RESP2 map");
    assert_eq!(client.reply().error(), Some("ERR EXEC without MULTI"));
    assert_eq!(client.reply(), bulk("zero"));
    proxy.await_that("a second AUTH", |proxy| {
        let own = proxy.records("upstream_command");
        (own.iter().filter(|record| record["cmd"] == "AUTH" && record["outcome"] == "ran").count() == 2).then_some(())
    });
    let databases: Vec<u64> = proxy.await_that("four records", |proxy| {
        let is_ours = |record: &&Value| ["GET", "SET"].contains(&record["cmd"].as_str().unwrap());
        let records = proxy.records("command");
        let found: Vec<_> = records.iter().filter(is_ours).map(|record| record["db"].as_u64().unwrap()).collect();
        (found.len() >= 4).then_some(found)
    });
    assert_eq!(databases, [5, 0, 0, 0]);
    assert_eq!(redis.connect().call(&["GET", "a"]), bulk("zero"));
    assert!(redis.connect().call(&["CLIENT", "LIST"]).text().contains("name=ravelin:app@"), "named again");
}

/// A Redis with the fix of CVE-2025-21605 closes a client that has large replies unsent when it says RESET.
#[test]
fn replies_owed_before_a_reset_are_not_lost_to_it() {
    let (_redis, proxy) = pair();
    let mut client = proxy.client();
    let value = "v".repeat(200_000);
    client.call(&["SET", "big", &value]).expect_ok();
    for _ in 0..10 {
        let dialogue =
            [&["GET", "big"][..], &["RESET"], &["FLUSHALL"], &["GET", "big"], &["RESET"], &["RESET"], &["PING"]];
        client.send_raw(&dialogue.map(encode).concat());
        assert!(client.reply() == bulk(&value));
        let reset = |client: &mut Client| match client.reply() {
            Reply::Status(text) => assert_eq!(text, "RESET"),
            // Before 6.2.
            other => assert!(other.error().is_some_and(|text| text.contains("unknown command")), "{other:?}"),
        };
        reset(&mut client);
        assert!(denied(&client.reply()));
        assert!(client.reply() == bulk(&value));
        reset(&mut client);
        reset(&mut client);
        assert_eq!(client.reply().text(), "PONG");
    }
}

#[test]
fn messages_reach_subscribers_between_their_replies_in_either_protocol() {
    let (redis, proxy) = pair();
    let mut two = proxy.client();
    let mut three = proxy.client();
    hello(&mut three, "3");
    let resp3 = redis.protocols().contains(&"3");
    for client in [&mut two, &mut three] {
        client.send(&["SUBSCRIBE", "news", "sport"]);
        client.send(&["PSUBSCRIBE", "w*"]);
        for (index, channel) in (1..).zip(["news", "sport", "w*"]) {
            let reply = client.reply();
            assert_eq!(reply.elements()[1..], [bulk(channel), Reply::Integer(index)]);
        }
    }
    let mut direct = redis.connect();
    for round in 0..200 {
        for channel in ["news", "weather", "nobody"] {
            let heard = direct.call(&["PUBLISH", channel, &round.to_string()]).integer();
            assert_eq!(heard, if channel == "nobody" { 0 } else { 2 });
        }
        // In RESP3 a subscriber may say anything else in between.
        if resp3 {
            three.send(&["ECHO", "between"]);
        }
        if resp3 {
            two.send(&["PING"]);
        }
    }
    let asked = if resp3 { 200 } else { 0 };
    let mut numbers = [0, 0];
    while numbers != [400, asked] {
        match two.reply() {
            Reply::Array(words) if words[0] == bulk("message") => {
                assert_eq!(words[1..], [bulk("news"), bulk(&(numbers[0] / 2).to_string())]);
                numbers[0] += 1;
            }
            Reply::Array(words) if words[0] == bulk("pmessage") => {
                assert_eq!(words[1..], [bulk("w*"), bulk("weather"), bulk(&(numbers[0] / 2).to_string())]);
                numbers[0] += 1;
            }
            pong => {
                assert_eq!(pong, Reply::Array(vec![bulk("pong"), bulk("")]));
                numbers[1] += 1;
            }
        }
    }
    let mut numbers = [0, 0];
    while numbers != [400, asked] {
        match three.reply() {
            Reply::Push(words) | Reply::Array(words) => {
                assert_eq!(words.len(), if words[0] == bulk("message") { 3 } else { 4 });
                assert_eq!(words.last(), Some(&bulk(&(numbers[0] / 2).to_string())));
                numbers[0] += 1;
            }
            echo => {
                assert_eq!(echo, bulk("between"));
                numbers[1] += 1;
            }
        }
    }
    assert!(two.call(&["GET", "a"]).error().unwrap().contains("allowed in this context"));
    for client in [&mut two, &mut three] {
        for words in [&["UNSUBSCRIBE"][..], &["PUNSUBSCRIBE"]] {
            client.send(words);
        }
        for _ in 0..3 {
            assert!(client.reply().elements()[0].text().ends_with("unsubscribe"));
        }
        client.call(&["SET", "a", "1"]).expect_ok();
    }
}

#[test]
fn replies_a_client_does_not_want_are_recorded_all_the_same() {
    let (redis, proxy) = pair();
    let mut client = proxy.client();
    for words in [
        &["CLIENT", "REPLY", "OFF"][..],
        &["SET", "a", "1"],
        &["FLUSHALL"],
        &["INCR", "a"],
        &["CLIENT", "REPLY", "ON"],
        &["CLIENT", "REPLY", "SKIP"],
        &["KEYS", "*"],
        &["GET", "a"],
    ] {
        client.send(words);
    }
    client.reply().expect_ok();
    assert_eq!(client.reply(), bulk("2"));
    // One CLIENT is our own SETNAME, where subcommands are not told apart.
    let named = u64::from(!Release::of_server().since(7, 0));
    assert_eq!(redis.calls_of("client|reply"), named, "Redis always answers");
    proxy.await_record("command", |record| record["cmd"] == "GET");
    let said: Vec<String> = proxy
        .records("command")
        .iter()
        .filter(|record| record["cmd"] != "PING" && record["cmd"] != "CLIENT")
        .map(|record| format!("{} {} {}", record["cmd"], record["outcome"], record["bytes_out"]).replace('"', ""))
        .collect();
    assert_eq!(said, ["SET ran 0", "FLUSHALL denied 0", "INCR ran 0", "KEYS denied 0", "GET ran 7"]);
}

#[test]
fn the_clients_own_password_is_refused_or_ignored_and_never_passed_on() {
    let redis = redis();
    let proxy = Proxy::start(&redis);
    let (auths, hellos) = (redis.calls_of("auth"), redis.calls_of("hello"));
    let mut client = proxy.client();
    for words in [&["AUTH", "x"][..], &["AUTH", "default", PASSWORD], &["HELLO", "3", "AUTH", "default", PASSWORD]] {
        assert!(denied(&client.call(words)), "{words:?}");
    }
    let mut setup = proxy.setup();
    setup.services[0].upstream = ", client_auth = \"ignore\"";
    let lenient = Proxy::with(&setup);
    let mut client = lenient.client();
    client.call(&["AUTH", "x"]).expect_ok();
    client.call(&["AUTH", "somebody", "x"]).expect_ok();
    let hello = client.call(&["HELLO", "3", "AUTH", "somebody", "x", "SETNAME", "me"]);
    let resp3 = redis.protocols().contains(&"3");
    if resp3 {
        assert_eq!(hello.field("proto").integer(), 3);
        assert_eq!(client.call(&["CLIENT", "GETNAME"]), bulk("me"));
    } else {
        assert!(hello.error().unwrap().contains("unknown command"), "{hello:?}");
    }
    // The text by which client libraries know that they must try with one word.
    let wrong = "ERR wrong number of arguments for 'auth' command";
    assert_eq!(client.call(&["AUTH"]).error(), Some(wrong));
    assert_eq!(client.call(&["ACL", "WHOAMI"]), bulk("app"));
    // Ours: one of each proxy's two upstream connections, and one of each of the two questions before this one.
    assert_eq!(redis.calls_of("auth"), auths + 2 + 2);
    assert_eq!(redis.calls_of("hello"), hellos + u64::from(resp3));
    for (proxy, verdict) in [(&proxy, "deny"), (&lenient, "ignore")] {
        proxy.await_record("client_auth", |record| record["cmd"] == "HELLO" && record["verdict"] == verdict);
    }
}

#[test]
fn a_command_too_large_to_judge_is_denied_and_the_connection_lives_on() {
    let redis = redis();
    let proxy = Proxy::with(&Setup { limits: "held_command = \"64KiB\"", ..Setup::before(&redis) });
    let mut client = proxy.client();
    // Every second word of it is a key: nothing is known before the last one.
    let mut words = vec![b"MSET".to_vec()];
    words.extend((0..400).map(|n| format!("{n:>1000}").into_bytes()));
    client.send(&words);
    assert!(denied(&client.reply()));
    assert_eq!(client.call(&["DBSIZE"]).integer(), 0);
    // One value, however large, is not held at all.
    client.call(&[b"SET", &b"a"[..], &vec![b'x'; 1 << 20]]).expect_ok();
    let record = proxy.await_record("command", |record| record["cmd"] == "MSET");
    assert_eq!(record["rule"], "builtin/held-command", "{record}");
}

#[test]
fn a_value_that_never_becomes_whole_is_recorded_as_such_and_not_stored() {
    let (redis, proxy) = pair();
    let mut client = proxy.client();
    client.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$10000000\r\n");
    client.send_raw(&vec![b'x'; 5_000_000]);
    drop(client);
    let record = proxy.await_record("command", |record| record["cmd"] == "SET");
    assert_eq!(record["outcome"], "incomplete", "{record}");
    assert_eq!(redis.connect().call(&["EXISTS", "a"]).integer(), 0);
}

#[test]
fn plain_words_on_a_line_are_commands_only_where_that_is_allowed() {
    let redis = redis();
    let mut setup = Setup::before(&redis);
    setup.services[0].listen = ", inline = true";
    let proxy = Proxy::with(&setup);
    let mut client = proxy.client();
    client.send_raw(b"SET a 1\r\nget  a\r\nFlushAll\r\n*1\r\n$4\r\nPING\r\n");
    client.reply().expect_ok();
    assert_eq!(client.reply(), bulk("1"));
    assert!(denied(&client.reply()));
    assert_eq!(client.reply().text(), "PONG");
    client.send_raw(b"GET \"a\"\r\n");
    assert!(client.reply().error().unwrap().starts_with("ERR Protocol error: "));
    assert_eq!(client.rest(), b"");
    // Elsewhere only the one line of health checkers.
    let strict = Proxy::start(&redis);
    let mut client = strict.client();
    client.send_raw(b"PING\r\nGET a\r\n");
    assert_eq!(client.reply().text(), "PONG");
    assert!(client.reply().error().unwrap().starts_with("ERR Protocol error: "));
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_connection_that_redis_kills_ends_without_a_word_and_is_recorded() {
    let (redis, proxy) = pair();
    let mut client = proxy.client();
    // CLIENT ID is of 5.0; the list has an id for every client from 2.8.12 on.
    let list = redis.connect().call(&["CLIENT", "LIST"]).text();
    let line = list.lines().find(|line| line.contains("name=ravelin:app@")).expect("our client");
    let id = line.split([' ', '=']).nth(1).unwrap().to_owned();
    client.send(&["BLPOP", "queue", "0"]);
    while redis.blocked() == 0 {}
    assert_eq!(redis.connect().call(&["CLIENT", "KILL", "ID", &id]).integer(), 1);
    assert_eq!(client.rest(), b"", "an error must not speak for a command that may have run");
    proxy.await_record("connection_close", |record| record["reason"] == "upstream-closed");
    let record = proxy.await_record("command", |record| record["cmd"] == "BLPOP");
    assert_eq!(record["outcome"], "unanswered");
}

#[test]
fn a_denylist_of_ones_own_takes_commands_subcommands_and_categories() {
    let redis = redis();
    let proxy = Proxy::with(&Setup {
        more: "[policy]\ndeny = [\"@hash\", \"client|ID\", \"set\"]",
        roles: "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\ndeny = [\"LPUSH\"]",
        ..Setup::before(&redis)
    });
    let mut client = proxy.client();
    for (words, rule) in [
        (&["HGET", "h", "f"][..], "deny:@hash"),
        (&["CLIENT", "ID"], "deny:client|ID"),
        (&["SET", "a", "1"], "deny:set"),
        (&["LPUSH", "l", "1"], "deny:LPUSH"),
    ] {
        assert!(denied(&client.call(words)), "{words:?}");
        let record = proxy.await_record("command", |record| record["cmd"] == words[0] && record["verdict"] == "deny");
        assert!(record["rule"].as_str().unwrap().eq_ignore_ascii_case(rule), "{record}");
    }
    assert_eq!(client.call(&["CLIENT", "GETNAME"]).text().split('@').next(), Some("ravelin:app"));
    client.call(&["MSET", "a", "1"]).expect_ok();
    // The preset is replaced, and what destroys is written down before it does.
    client.call(&["FLUSHALL"]).expect_ok();
    let end = proxy.await_record("command", |record| record["cmd"] == "FLUSHALL");
    let begin = proxy.await_record("begin", |record| record["cmd"] == "FLUSHALL");
    assert!(begin["seq"].as_u64() < end["seq"].as_u64() && begin["conn"] == end["conn"], "{begin} {end}");
}

#[test]
fn limits_on_words_and_their_length_hold() {
    let redis = redis();
    let proxy = Proxy::with(&Setup { limits: "max_bulk = \"1KiB\"\nmax_words = 16", ..Setup::before(&redis) });
    let mut client = proxy.client();
    client.call(&["SET", "a", &"x".repeat(1024)]).expect_ok();
    assert_eq!(client.call(&vec!["DEL"; 16]).integer(), 0);
    client.send(&["SET", "a", &"x".repeat(1025)]);
    assert_eq!(client.reply().error(), Some("ERR Protocol error: invalid bulk length"));
    assert_eq!(client.rest(), b"");
    let mut client = proxy.client();
    client.send(&vec!["DEL"; 17]);
    assert_eq!(client.reply().error(), Some("ERR Protocol error: invalid multibulk length"));
    assert_eq!(client.rest(), b"");
    assert_eq!(redis.connect().call(&["STRLEN", "a"]).integer(), 1024);
}
