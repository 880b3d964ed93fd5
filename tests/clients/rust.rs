//! The crate `redis`, in this process: the same script on both ways.

#![allow(clippy::print_stdout, reason = "tests/clients.sh makes its table of these rows")]
#![allow(unreachable_pub, reason = "each test binary is a crate of its own")]

use super::{ground::Ground, support::redis::Release};
use ::redis::{Commands as _, Connection, RedisResult, Value, cmd, pipe};
use std::{fmt::Debug, thread, time::Duration};

/// Its version, as Cargo.lock has it.
pub fn version() -> &'static str {
    let lock = include_str!("../../Cargo.lock");
    let (_, rest) = lock.split_once("name = \"redis\"\nversion = \"").expect("Cargo.lock names the crate redis");
    rest.split('"').next().unwrap()
}

/// What came of each step.
struct Transcript(Vec<String>);

impl Transcript {
    fn step(&mut self, name: &str, reply: RedisResult<impl Debug>) {
        self.0.push(match reply {
            Ok(reply) => format!("{name}: {reply:?}").chars().take(2000).collect(),
            Err(error) => format!("{name}: {:?} {error}", error.kind()),
        });
    }
}

fn values(connection: &mut Connection, seen: &mut Transcript) {
    let binary: Vec<u8> = (0..=255).collect();
    let big: Vec<u8> = (0..4 << 20).map(|n: u32| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    seen.step("set", connection.set::<_, _, Value>("s", 1));
    seen.step("get", connection.get::<_, Value>("s"));
    seen.step("missing", connection.get::<_, Option<String>>("nothing"));
    seen.step("incr", connection.incr::<_, _, i64>("s", 41));
    seen.step("binary", connection.set::<_, _, Value>(&binary, &binary));
    seen.step("binary back", connection.get::<_, Vec<u8>>(&binary));
    seen.step("big", connection.set::<_, _, Value>("big", &big));
    seen.step("big back", connection.get::<_, Vec<u8>>("big").map(|got| got == big));
    seen.step("mget", connection.mget::<_, Vec<Option<Vec<u8>>>>(&["s", "nothing"]));
    seen.step("hset", connection.hset::<_, _, _, Value>("h", "one", 1));
    seen.step("hgetall", cmd("HGETALL").arg("h").query::<Value>(connection));
    seen.step("rpush", connection.rpush::<_, _, Value>("l", &["a", "b", "c"]));
    seen.step("lrange", connection.lrange::<_, Value>("l", 0, -1));
    seen.step("sadd", connection.sadd::<_, _, Value>("set", "x"));
    seen.step("smembers", cmd("SMEMBERS").arg("set").query::<Value>(connection));
    seen.step("zadd", connection.zadd::<_, _, _, Value>("z", "one", 1.5));
    seen.step("zscore", cmd("ZSCORE").arg("z").arg("one").query::<Value>(connection));
    seen.step("zrange", cmd("ZRANGE").arg("z").arg(0).arg(-1).arg("WITHSCORES").query::<Value>(connection));
    seen.step("expire", connection.expire::<_, Value>("s", 1000));
    seen.step("ttl", connection.ttl::<_, Value>("s"));
    seen.step("type", cmd("TYPE").arg("z").query::<Value>(connection));
    seen.step("wrong type", connection.lpush::<_, _, Value>("s", "x"));
    seen.step("arity", cmd("GET").query::<Value>(connection));
    for id in ["1-1", "2-1", "1-1"] {
        seen.step("xadd", cmd("XADD").arg("x").arg(id).arg("f").arg("v").query::<Value>(connection));
    }
    seen.step("xread", cmd("XREAD").arg("STREAMS").arg("x").arg(0).query::<Value>(connection));
    seen.step("select", cmd("SELECT").arg(3).query::<Value>(connection));
    seen.step("elsewhere", connection.get::<_, Value>("s"));
    seen.step("no such database", cmd("SELECT").arg(99).query::<Value>(connection));
    seen.step("back", cmd("SELECT").arg(0).query::<Value>(connection));
    for number in 0..500 {
        let _: () = connection.set(format!("scan:{number}"), number).unwrap();
    }
    let mut keys: Vec<String> = connection.scan_match("scan:*").unwrap().map(Result::unwrap).collect();
    keys.sort();
    keys.dedup();
    seen.step("scan", Ok((keys.len(), keys.concat())));
}

fn together(connection: &mut Connection, other: &mut Connection, seen: &mut Transcript) {
    let mut many = pipe();
    for number in 0..2000_u32 {
        many.set("p", number).ignore().get("p");
    }
    let right = |got: Vec<u32>| got == (0..2000).collect::<Vec<_>>();
    seen.step("pipeline", many.query::<Vec<u32>>(connection).map(right));
    seen.step("pipeline with an error", pipe().set("p", "x").incr("p", 1).get("p").query::<Value>(connection));
    seen.step("after it", connection.get::<_, Value>("p"));
    seen.step("transaction", pipe().atomic().set("t", 1).incr("t", 1).get("t").query::<Value>(connection));
    seen.step("aborted", pipe().atomic().set("t", 9).cmd("GET").query::<Value>(connection));
    for theirs in [false, true] {
        let _: () = cmd("WATCH").arg("t").query(connection).unwrap();
        if theirs {
            let _: () = other.set("t", 100).unwrap();
        }
        seen.step("watched", pipe().atomic().incr("t", 1).query::<Value>(connection));
    }
    seen.step("unharmed", connection.get::<_, Value>("t"));
    seen.step("blpop in vain", cmd("BLPOP").arg("queue").arg(1).query::<Value>(connection));
}

fn blocked(ground: &Ground, connection: &mut Connection, other: &mut Connection, seen: &mut Transcript) {
    let popped = thread::scope(|scope| {
        let waiting = scope.spawn(|| cmd("BLPOP").arg("queue").arg(0).query::<Value>(other));
        ground.proxy.await_that("a blocked client", |_| (ground.redis.blocked() > 0).then_some(()));
        let _: () = connection.rpush("queue", "element").unwrap();
        waiting.join().unwrap()
    });
    seen.step("blpop", popped);
}

fn messages(ground: &Ground, connection: &mut Connection, other: &mut Connection, seen: &mut Transcript) {
    // With RESP3 the library does not wait for the confirmation.
    let subscribers = |to: &str, number: i64| {
        let mut wire = ground.redis.connect();
        ground.proxy.await_that("a subscription", |_| {
            let found = wire.call(&["PUBSUB", "NUMSUB", to]).elements()[1].integer();
            (found == number && wire.call(&["PUBSUB", "NUMPAT"]).integer() == 1).then_some(())
        });
    };
    let mut listener = connection.as_pubsub();
    listener.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    seen.step("subscribe", listener.subscribe(&["news", "sport"]));
    seen.step("psubscribe", listener.psubscribe("w*"));
    subscribers("sport", 1);
    for channel in ["news", "weather", "nobody"] {
        seen.step("publish", other.publish::<_, _, Value>(channel, vec![0_u8, 13, 10, 255]));
    }
    for _ in 0..2 {
        let heard = listener.get_message();
        seen.step(
            "message",
            heard.map(|heard| (heard.get_channel_name().to_owned(), heard.get_payload_bytes().to_vec())),
        );
    }
    seen.step("unsubscribe", listener.unsubscribe("news"));
    subscribers("news", 0);
    seen.step("unheard", other.publish::<_, _, Value>("news", "x"));
    drop(listener);
    seen.step("out of it", connection.get::<_, Value>("nothing"));
}

fn denied(connection: &mut Connection, seen: &mut Transcript) {
    for words in [&["FLUSHALL"][..], &["EVAL", "return 1", "0"], &["CONFIG", "GET", "dir"], &["KEYS", "*"]] {
        seen.step("denied", cmd(words[0]).arg(&words[1..]).query::<Value>(connection));
    }
    seen.step("in a transaction", pipe().atomic().set("t", 7).cmd("FLUSHALL").query::<Value>(connection));
    seen.step("still there", connection.get::<_, Value>("t"));
}

/// Panics unless both ways are told the same with this protocol.
pub fn same(protocol: u8) {
    let ground = Ground::start();
    let query = if protocol == 3 { "?protocol=resp3" } else { "" };
    let told = |proxied: bool| {
        ground.empty();
        let connect = || if proxied { ground.proxy.library(query) } else { ground.direct_library(query) };
        let (mut connection, mut other) = (connect(), connect());
        let mut seen = Transcript(Vec::new());
        values(&mut connection, &mut seen);
        together(&mut connection, &mut other, &mut seen);
        blocked(&ground, &mut connection, &mut other, &mut seen);
        messages(&ground, &mut connection, &mut other, &mut seen);
        if Release::of_server().since(7, 0) {
            denied(&mut connection, &mut seen);
        }
        seen.0
    };
    let (direct, proxied) = (told(false), told(true));
    for (number, (one, other)) in direct.iter().zip(&proxied).enumerate() {
        assert_eq!(*other, super::ground::normalised_text(one), "step {number}, through Ravelin (left) and directly");
    }
    assert_eq!(proxied.len(), direct.len());
    assert!(proxied.len() >= 50, "only {} steps", proxied.len());
    ground.check_records();
    println!("row\tredis-rs\t{}\tRESP{protocol}\teveryday\t{}\tthe same as directly", version(), proxied.len());
}
