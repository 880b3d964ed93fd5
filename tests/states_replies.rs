//! Redis' side of a connection: every type of reply, any depth, and what no Redis may say.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::{fs, thread};
use support::{
    process::Proxy,
    redis::Release,
    stub::Stub,
    twins::{Twins, dialogue},
};

#[test]
fn every_type_a_real_server_sends_passes_as_it_is_in_either_protocol() {
    let twins = Twins::start();
    if !twins.knows("hello") {
        // Before Redis 6.0 there is neither RESP3 nor DEBUG PROTOCOL.
        assert!(!Release::of_server().since(6, 0));
        assert!(twins.same(&dialogue("DEBUG PROTOCOL attrib\nPING")) == 2);
        return;
    }
    let types = [
        "string", "integer", "double", "null", "array", "set", "map", "attrib", "push", "verbatim", "true", "false",
        "bignum",
    ];
    let lines: String = types.iter().map(|of| format!("DEBUG PROTOCOL {of}\nPING\n")).collect();
    for protocol in [2, 3] {
        // PUSH exists in RESP3 only; in RESP2 it answers with an error from 7.0 on, and with a push before.
        let lines = if protocol == 2 { lines.replace("DEBUG PROTOCOL push\n", "") } else { lines.clone() };
        let frames = twins.same(&dialogue(&format!("HELLO {protocol}\n{lines}")));
        assert!(frames > 24, "{frames}");
        let more = "
            ZADD z inf a -inf b 1.5 c
            ZSCORE z a
            ZRANGE z 0 -1 WITHSCORES
            SADD s m
            SMEMBERS s
            HSET h f v
            HGETALL h
            CONFIG GET maxmemory
            XADD x 1-1 f v
            XRANGE x - +
            XINFO STREAM x FULL
            INCRBYFLOAT f 1e300
            EVAL return~{1,{2,{3,{4}}},{},'x'} 0
            EVAL return~redis.error_reply('MY~error') 0
            EVAL return~redis.status_reply('fine') 0
            EVAL return~{redis.error_reply('inside'),1} 0
            COMMAND INFO get
            GEOADD g 13 38 a
            GEOPOS g a nowhere
            CLIENT TRACKINGINFO";
        twins.same(&dialogue(&format!("HELLO {protocol}\n{more}")));
    }
    // What Lua makes of RESP3's own types.
    let resp3 = "
        HELLO 3
        EVAL redis.setresp(3)return~redis.call('hgetall','h') 0
        EVAL return~{double=1.5} 0
        EVAL return~{map={a=1}} 0
        EVAL return~{set={a=true}} 0
        EVAL return~{big_number='12345678901234567890123'} 0
        EVAL return~{verbatim_string={string='x',format='txt'}} 0
        EVAL return~redis.call('debug','protocol','attrib') 0";
    twins.same(&dialogue(resp3));
}

/// Most of what the process has used so far, in bytes.
fn peak(proxy: &Proxy) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn a_reply_a_million_levels_deep_passes_in_constant_memory() {
    const DEPTH: usize = 1_000_000;
    let stub = Stub::start();
    let proxy = stub.proxy();
    let (mut client, mut redis) = stub.meet(&proxy);
    let mut costs = Vec::new();
    for (level, end) in [
        (&b"*1\r\n"[..], &b":1\r\n"[..]),
        (b"%1\r\n+k\r\n", b"#t\r\n"),
        (b"~2\r\n_\r\n", b",inf\r\n"),
        (b"*1\r\n|1\r\n+k\r\n+v\r\n", b"_\r\n"),
    ] {
        client.send(&["EVAL", "deep", "0"]);
        redis.hears(&["EVAL", "deep", "0"]);
        let whole = [&level.repeat(DEPTH)[..], end].concat();
        if costs.is_empty() {
            // Buffers and threads are there once a reply of this size, flat, has passed.
            let flat = [format!("${}\r\n", whole.len()).as_bytes(), &whole, b"\r\n"].concat();
            pass(&mut client, &mut redis, &flat);
            client.send(&["EVAL", "deep", "0"]);
            redis.hears(&["EVAL", "deep", "0"]);
        }
        let before = peak(&proxy);
        pass(&mut client, &mut redis, &whole);
        costs.push(peak(&proxy) - before);
    }
    eprintln!("{costs:?} bytes for {DEPTH} levels");
    // One byte a level would be a million.
    assert!(costs.iter().all(|cost| *cost < 512 * 1024), "{costs:?}");
    client.send(&["PING"]);
    redis.hears(&["PING"]);
    redis.send_raw(b"+PONG\r\n");
    assert_eq!(client.reply().text(), "PONG", "its end was found");
}

/// Redis says `whole`, and the client reads exactly that.
fn pass(client: &mut support::client::Client, redis: &mut support::stub::Upstream, whole: &[u8]) {
    thread::scope(|scope| {
        scope.spawn(|| redis.send_raw(whole));
        assert!(client.take(whole.len()) == whole, "it came changed");
    });
}

#[test]
fn what_no_redis_may_say_closes_both_sides_and_is_recorded_as_desync() {
    let stub = Stub::start();
    let proxy = stub.proxy();
    let long = vec![b'x'; (1 << 20) + 1];
    let line = [b"+", &long[..], b"\r\n"].concat();
    let attributes = [b"|1\r\n+k\r\n$70000\r\n", &long[..70_000], b"\r\n+OK\r\n"].concat();
    let table: &[(&[u8], &str)] = &[
        (b"x\r\n", "unknown reply type"),
        (b"\r\n", "unknown reply type"),
        (b"$?\r\n;1\r\na\r\n;0\r\n", "streamed"),
        (b"*?\r\n:1\r\n.\r\n", "streamed"),
        (b"%?\r\n.\r\n", "streamed"),
        (b".\r\n", "streamed"),
        (b";0\r\n", "streamed"),
        (b"$-2\r\n", "invalid length"),
        (b"$01\r\na\r\n", "invalid length"),
        (b"*-2\r\n", "invalid length"),
        (b"%-1\r\n", "invalid length"),
        (b"$5000000000\r\n", "payload over the limit"),
        (b"*5000000000\r\n", "elements over the limit"),
        (b"*4294967295\r\n*4294967295\r\n%4294967295\r\n*2\r\n~4294967295\r\n", "never whole"),
        (&line, "line over the limit"),
        (&attributes, "attributes over the limit"),
        (b"+a\nb\r\n", "bare CR or LF"),
        (b"-a\rb\r\n", "bare CR or LF"),
        (b"$1\r\naXX", "not followed by CRLF"),
        (b":one\r\n", "malformed value"),
        (b"#x\r\n", "malformed value"),
        (b"_x\r\n", "malformed value"),
        (b"(1.5\r\n", "malformed value"),
        (b">2\r\n+invalidate\r\n_\r\n", "push came on a RESP2 connection"),
        (b"+OK\r\n+surplus\r\n", "no command had asked for"),
        (b"+OK\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n", "no command had asked for"),
    ];
    for (said, detail) in table {
        let before = proxy.records("connection_close").len();
        let (mut client, mut redis) = stub.meet(&proxy);
        client.send(&["GET", "a"]);
        redis.hears(&["GET", "a"]);
        redis.send_raw(said);
        if *detail == "never whole" {
            // Within the limits of each; it only never ends.
            drop(redis);
            client.rest();
            proxy.await_that("its end", |proxy| (proxy.records("connection_close").len() > before).then_some(()));
            continue;
        }
        let got = client.rest();
        let whole = if said.starts_with(b"+OK\r\n") { &b"+OK\r\n"[..] } else { b"" };
        assert!(got.starts_with(whole) && !got.ends_with(b"surplus\r\n"), "{}", got.escape_ascii());
        assert_eq!(redis.rest(), b"", "Redis is left too, without another word");
        let close = proxy.await_that("the close", |proxy| proxy.records("connection_close").get(before).cloned());
        assert_eq!(close["reason"], "desync", "{}: {close}", said[..said.len().min(40)].escape_ascii());
        assert!(close["detail"].as_str().unwrap().contains(detail), "{close}");
    }
    let alarms = proxy.records("alarm");
    assert_eq!(alarms.iter().filter(|record| record["reason"] == "desync").count(), table.len() - 1);
}

#[test]
fn a_word_nobody_waits_for_closes_a_connection_at_rest_too() {
    let stub = Stub::start();
    let proxy = stub.proxy();
    for said in [&b"+OK\r\n"[..], b"-ERR out of the blue\r\n", b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"] {
        let before = proxy.records("connection_close").len();
        let (mut client, mut redis) = stub.meet(&proxy);
        redis.send_raw(said);
        assert_eq!(client.rest(), b"");
        assert_eq!(redis.rest(), b"");
        let close = proxy.await_that("the close", |proxy| proxy.records("connection_close").get(before).cloned());
        assert_eq!(close["reason"], "desync", "{close}");
    }
}
