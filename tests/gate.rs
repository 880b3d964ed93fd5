//! The main job: `redis-cli` and a client library with certificates, in front of a real Redis.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::cast_possible_truncation, reason = "tests")]

mod support;

use ::redis::{Commands as _, ConnectionLike as _};
use std::thread;
use support::{
    process::{PASSWORD, Proxy},
    redis::{Redis, Release, counted_as},
    setup::Setup,
    wire::{Reply, encode},
};

fn pair() -> (Redis, Proxy) {
    let redis = Redis::with_password(PASSWORD);
    let proxy = Proxy::start(&redis);
    (redis, proxy)
}

/// None of these may be asked of Redis, whatever a client says here.
const UNSEEN: [&str; 9] =
    ["flushall", "eval", "eval_ro", "config|get", "config|set", "keys", "slaveof", "replicaof", "exec"];

#[test]
fn allowed_commands_are_answered_denied_ones_refused_and_all_are_recorded() {
    let (redis, proxy) = pair();
    let seen = proxy.cli("SET a 1\nMULTI\nSET a 2\nFlushAll\nEXEC\nGET a\n");
    let lines: Vec<&str> = seen.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines[..3], ["OK", "OK", "QUEUED"], "{seen}");
    assert_eq!(lines[3], "NOPERM this user has no permissions to run the 'flushall' command", "{seen}");
    assert_eq!(lines[4..], ["EXECABORT Transaction discarded because of previous errors.", "1"], "{seen}");

    let denied = ["EVAL \"redis.call('flushall')\" 0", "CONFIG GET require*", "KEYS *", "SLAVEOF 127.0.0.1 1"];
    let seen = proxy.cli(&denied.map(|line| format!("{line}\n")).concat());
    assert_eq!(seen.lines().filter(|line| line.starts_with("NOPERM ")).count(), denied.len(), "{seen}");

    let calls = redis.calls();
    for name in UNSEEN.map(counted_as) {
        assert!(!calls.contains_key(&name), "{name} reached Redis: {calls:?}");
    }
    proxy.await_record("command", |record| record["cmd"] == "SLAVEOF");
    let said: Vec<[String; 4]> = proxy
        .records("command")
        .iter()
        // redis-cli asks for the table of commands by itself.
        .filter(|record| record["cmd"] != "COMMAND")
        .map(|record| ["cmd", "context", "outcome", "rule"].map(|key| record[key].as_str().unwrap_or("").to_owned()))
        .collect();
    let expected = [
        ["SET", "top", "ran", ""],
        ["MULTI", "top", "ran", ""],
        ["SET", "multi", "queued", ""],
        ["FLUSHALL", "multi", "denied", "preset:hardened/destruction"],
        ["EXEC", "multi", "aborted", ""],
        ["GET", "top", "ran", ""],
        ["EVAL", "top", "denied", "preset:hardened/scripting"],
        ["CONFIG", "top", "denied", "preset:hardened/configuration"],
        ["KEYS", "top", "denied", "preset:hardened/availability"],
        ["SLAVEOF", "top", "denied", "preset:hardened/replication"],
    ];
    assert_eq!(said, expected.map(|row| row.map(str::to_owned)));
}

#[test]
fn no_spelling_of_a_denied_command_reaches_redis() {
    let (redis, proxy) = pair();
    let mut client = proxy.client();
    let nul = "FLUSHALL\0x";
    for words in [
        &["flushall"][..],
        &["FLUSHALL", "ASYNC"],
        &[nul],
        &["FLUSHALL "],
        &["\"FLUSHALL\""],
        &["EVAL", "return redis.call('FLUSHALL')", "0"],
        &["eval_ro", "return redis.call('FLUSHALL')", "0"],
        &["CONFIG", "GET", "require*"],
        &["config", "get", "requirepass"],
        &["CONFIG", "GET\0x", "requirepass"],
        &["CONFIG|GET", "requirepass"],
        &["KEYS", "*"],
        &["SLAVEOF", "no", "one"],
        &["REPLICAOF", "no", "one"],
        &["NO-SUCH-COMMAND"],
    ] {
        let reply = client.call(words);
        let text = reply.error().unwrap_or_else(|| panic!("{words:?} got {reply:?}")).to_owned();
        assert!(text.starts_with("NOPERM this user has no permissions to run the '"), "{words:?} got {text}");
        assert!(!text.contains('\0'));
    }
    let calls = redis.calls();
    for name in UNSEEN.map(counted_as) {
        assert!(!calls.contains_key(&name), "{name} reached Redis: {calls:?}");
    }
    assert_eq!(client.call(&["PING"]).text(), "PONG", "a denial ends nothing");
}

#[test]
fn a_library_pipelines_transacts_blocks_and_subscribes() {
    let (_redis, proxy) = pair();
    let mut one = proxy.library("");
    let mut two = proxy.library(if Release::of_server().since(6, 0) { "?protocol=resp3" } else { "" });
    assert!(two.check_connection());
    let values: Vec<u32> = {
        let mut pipe = ::redis::pipe();
        for number in 0..10_000_u32 {
            pipe.set(number, number).ignore().get(number);
        }
        pipe.query(&mut one).unwrap()
    };
    assert_eq!(values, (0..10_000).collect::<Vec<u32>>());

    for connection in [&mut one, &mut two] {
        let _: () = connection.set("balance", 40).unwrap();
        let (balance,): (u32,) = ::redis::transaction(connection, &["balance"], |connection, pipe| {
            let balance: u32 = connection.get("balance")?;
            pipe.set("balance", balance + 2).ignore().get("balance").query(connection)
        })
        .unwrap();
        assert_eq!(balance, 42);
        let denied: ::redis::RedisResult<()> =
            ::redis::pipe().atomic().set("balance", 0).cmd("FLUSHALL").query(connection);
        assert!(denied.is_err());
        assert_eq!(connection.get::<_, u32>("balance").unwrap(), 42, "nothing of a spoilt transaction ran");
    }

    let pushed = thread::scope(|scope| {
        // Whole seconds: before 6.0 there are no others.
        let waiting =
            scope.spawn(|| -> (String, String) { ::redis::cmd("BLPOP").arg("queue").arg(0).query(&mut one).unwrap() });
        proxy.await_record("begin", |record| record["cmd"] == "BLPOP");
        let _: () = two.rpush("queue", "element").unwrap();
        waiting.join().unwrap()
    });
    assert_eq!(pushed, ("queue".to_owned(), "element".to_owned()));

    let mut listening = one.as_pubsub();
    listening.subscribe(&["news", "sport"]).unwrap();
    listening.psubscribe("w*").unwrap();
    let _: () = two.publish("news", "hello").unwrap();
    let message = listening.get_message().unwrap();
    assert_eq!((message.get_channel_name(), message.get_payload::<String>().unwrap()), ("news", "hello".to_owned()));
    listening.unsubscribe("news").unwrap();
    let _: () = two.publish("weather", "rain").unwrap();
    assert_eq!(listening.get_message().unwrap().get_payload::<String>().unwrap(), "rain");
    drop(listening);
    assert_eq!(one.get::<_, u32>(17).unwrap(), 17, "out of subscriber mode again");
}

#[test]
fn sixty_four_megabytes_go_up_and_down() {
    let (redis, proxy) = pair();
    let mut client = proxy.client();
    let value: Vec<u8> = (0..64 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    client.call(&[b"SET", &b"big"[..], &value]).expect_ok();
    assert_eq!(redis.connect().call(&["STRLEN", "big"]).integer(), 64 << 20);
    client.send(&["GET", "big"]);
    let head = format!("${}\r\n", value.len()).into_bytes();
    let got = client.take(head.len() + value.len() + 2);
    assert_eq!(got[..head.len()], head);
    assert!(got[head.len()..head.len() + value.len()] == value[..], "the value came back changed");
    let set = proxy.await_record("command", |record| record["cmd"] == "SET");
    assert_eq!(set["bytes_in"], encode(&[b"SET", &b"big"[..], &value]).len(), "{set}");
    let get = proxy.await_record("command", |record| record["cmd"] == "GET");
    assert_eq!(get["bytes_out"], got.len(), "{get}");
}

#[test]
fn a_client_may_write_its_whole_pipeline_before_it_reads() {
    let (_redis, proxy) = pair();
    let mut client = proxy.client();
    let value = "v".repeat(1000);
    let mut pipeline = Vec::new();
    for n in 0..20_000 {
        pipeline.extend(encode(&["SET", &format!("key{}", n % 100), &value]));
        if n % 100 == 0 {
            pipeline.extend(encode(&["FLUSHDB"]));
        }
        pipeline.extend(encode(&["GET", &format!("key{}", n % 100)]));
    }
    client.send_raw(&pipeline);
    let bulk = format!("$1000\r\n{value}\r\n").into_bytes();
    for n in 0..20_000 {
        client.reply().expect_ok();
        if n % 100 == 0 {
            assert!(client.reply().error().unwrap().starts_with("NOPERM"));
        }
        assert!(client.take(bulk.len()) == bulk, "reply {n}");
    }
}

#[test]
fn a_client_that_ends_its_side_gets_what_it_is_owed_and_then_our_end() {
    let (_redis, proxy) = pair();
    let mut client = proxy.client();
    client.send(&["SET", "a", "1"]);
    client.send(&["GET", "a"]);
    client.stream().conn.send_close_notify();
    std::io::Write::flush(client.stream()).unwrap();
    client.reply().expect_ok();
    assert_eq!(client.reply().text(), "1");
    assert_eq!(client.rest(), b"");
    proxy.await_record("connection_close", |record| record["reason"] == "client-closed");
}

/// By a process that is killed, and by a client that says goodbye; with one list and with several commands behind.
#[test]
fn the_ghost_of_a_client_that_left_does_not_eat_the_next_element() {
    let (redis, proxy) = pair();
    let mut killed = proxy.redis_cli("app", 0).args(["BLPOP", "queue", "0"]).spawn().unwrap();
    let mut leaving = proxy.client();
    let (name, blocking): (_, &[&str]) = if Release::of_server().since(6, 2) {
        ("BLMOVE", &["BLMOVE", "queue", "elsewhere", "LEFT", "LEFT", "0"])
    } else {
        ("BRPOPLPUSH", &["BRPOPLPUSH", "queue", "elsewhere", "0"])
    };
    leaving.send(blocking);
    leaving.send(&["LPOP", "queue"]);
    proxy.await_that("two blocked clients", |_| (redis.blocked() == 2).then_some(()));
    killed.kill().unwrap();
    killed.wait().unwrap();
    drop(leaving);
    proxy.await_that("two ends", |proxy| (proxy.records("connection_close").len() == 2).then_some(()));
    proxy.await_that("Redis to forget them", |_| (redis.blocked() == 0).then_some(()));
    let mut direct = redis.connect();
    direct.call(&["RPUSH", "queue", "element"]);
    assert_eq!(direct.call(&["LLEN", "queue"]).integer(), 1, "somebody took the element");
    for name in ["BLPOP", name, "LPOP"] {
        let record = proxy.await_record("command", |record| record["cmd"] == name);
        assert_eq!(record["outcome"], "unanswered", "{record}");
    }
}

#[test]
fn passwords_of_any_bytes_work() {
    let long = vec![b'x'; 512];
    let odd: &[&[u8]] =
        &[b"\"quoted\" and \\ and 'single'", b"  blanks at both ends  ", &long, "pässwörd".as_bytes(), b"\xff\x01\t"];
    for password in odd {
        let redis = Redis::with_password(password);
        for newline in ["", "\n"] {
            let mut setup = Setup::before(&redis);
            setup.services[0].password = Some([password, newline.as_bytes()].concat());
            let proxy = Proxy::with(&setup);
            proxy.client().call(&["SET", "a", "1"]).expect_ok();
        }
    }
}

#[test]
fn client_list_shows_whose_each_connection_is_unless_told_not_to() {
    let (redis, proxy) = pair();
    let mut setup = proxy.setup();
    setup.services[0].upstream = ", set_name = false";
    let nameless = Proxy::with(&setup);
    let mut one = proxy.client();
    let mut two = nameless.client();
    let mut direct = redis.connect();
    let list = direct.call(&["CLIENT", "LIST"]).text();
    assert_eq!(list.matches("name=ravelin:app@127.0.0.1:").count(), 1, "{list}");
    assert_eq!(one.call(&["SET", "a", "1"]), Reply::Status("OK".into()));
    assert_eq!(two.call(&["GET", "a"]).text(), "1");
    assert_eq!(two.call(&["CLIENT", "GETNAME"]), Reply::Null);
}
