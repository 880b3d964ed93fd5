//! CLIENT TRACKING in all its modes, and the other switches of a connection: the same bytes at the same place as without
//! Ravelin, in front of this release of Redis.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::io::{Read, Write};
use support::{
    redis::Release,
    twins::{Twins, dialogue, words},
    wire::Wire,
};

/// Whether this server tracks keys; that it does not is told by its release alone.
fn tracks(twins: &Twins) -> bool {
    let tracks = twins.redis.connect().call(&["CLIENT", "TRACKING", "OFF"]).error().is_none();
    assert_eq!(tracks, Release::of_server().since(6, 0));
    tracks
}

#[test]
fn invalidations_come_where_this_server_puts_them() {
    let twins = Twins::start();
    if !tracks(&twins) {
        assert!(twins.same(&dialogue("CLIENT TRACKING ON\nPING")) == 2);
        return;
    }
    for (at, text) in [
        // By other clients, by oneself (before the reply up to 7.0, behind it from then on), once per key read.
        "
        HELLO 3
        CLIENT TRACKING ON
        GET a
        MGET b c
        < SET a theirs
        < MSET b 1 c 2
        < SET a again
        GET a
        SET a mine
        GET a
        INCR a
        PING
        CLIENT TRACKING OFF
        GET a
        < SET a last
        PING",
        "
        HELLO 3
        CLIENT TRACKING ON NOLOOP
        GET a
        SET a mine
        GET a
        < SET a theirs
        < FLUSHALL
        PING",
        "
        HELLO 3
        CLIENT TRACKING ON
        MULTI
        GET a
        SET a 1
        EXEC
        < SET a 2
        MULTI
        INCR a
        INCR b
        EXEC
        GET a
        MULTI
        < SET a 3
        PING
        EXEC",
        "
        HELLO 3
        CLIENT TRACKING ON BCAST
        < SET a 1
        SET b 1
        DEL a b
        CLIENT TRACKING OFF
        CLIENT TRACKING ON BCAST PREFIX user: PREFIX session:
        < SET user:1 x
        < SET other:1 x
        SET session:1 x
        CLIENT TRACKING ON BCAST PREFIX us
        CLIENT TRACKING ON BCAST PREFIX more:
        SET more:1 x
        PING",
        "
        HELLO 3
        CLIENT TRACKING ON OPTIN
        GET a
        < SET a 1
        CLIENT CACHING YES
        GET a
        < SET a 2
        CLIENT CACHING NO
        CLIENT TRACKING OFF
        CLIENT TRACKING ON OPTOUT
        GET a
        < SET a 3
        CLIENT CACHING NO
        GET a
        < SET a 4
        CLIENT CACHING YES
        PING",
        "
        HELLO 3
        CLIENT CACHING YES
        CLIENT TRACKING ON REDIRECT 999999999
        CLIENT TRACKING ON PREFIX x
        CLIENT TRACKING ON OPTIN OPTOUT
        CLIENT TRACKING NONSENSE
        CLIENT TRACKING
        CLIENT GETREDIR
        CLIENT TRACKING ON
        CLIENT GETREDIR
        PING",
        // RESP2 is told nothing without a redirection.
        "
        CLIENT TRACKING ON
        GET a
        < SET a 1
        PING
        HELLO 3
        GET a
        < SET a 2
        HELLO 2
        GET a
        < SET a 3
        PING",
        "
        HELLO 3
        CLIENT TRACKING ON
        SUBSCRIBE news
        GET a
        < PUBLISH news hello
        < SET a 1
        PUBLISH news own
        GET a
        SET a 2
        UNSUBSCRIBE
        PING",
    ]
    .iter()
    .enumerate()
    {
        let steps = dialogue(text);
        // Redis 6.0 writes the invalidation of an own write *into* the array of EXEC, uncounted; it passes as it is.
        let inside = twins.direct(&steps).iter().flatten().any(|frame| frame.starts_with(b"*2\r\n_\r\n>2\r\n"));
        let release = Release::of_server();
        assert_eq!(inside, at == 2 && (release.major, release.minor) == (6, 0), "dialogue {at}");
        assert!(twins.same(&steps) > 5, "dialogue {at} is none");
    }
}

/// Under CLIENT REPLY OFF and SKIP pushes and confirmations pass from Redis 6.2 on; before, they were swallowed too. Here they
/// always pass: a subscriber that hears nothing is of no use to anybody.
#[test]
fn silence_does_not_keep_pushes_back() {
    let twins = Twins::start();
    let subscribe = dialogue("CLIENT REPLY OFF\nSUBSCRIBE a\n< PUBLISH a hello\nUNSUBSCRIBE\nCLIENT REPLY ON\nPING");
    let skip = dialogue("CLIENT REPLY SKIP\nSUBSCRIBE a b\nUNSUBSCRIBE\nPING");
    if Release::of_server().since(6, 2) {
        assert_eq!(twins.same(&subscribe), 5);
        assert_eq!(twins.same(&skip), 5);
        let tracking = "HELLO 3\nCLIENT TRACKING ON\nGET a\nCLIENT REPLY OFF\n< SET a 1\nCLIENT REPLY ON\nPING";
        assert_eq!(twins.same(&dialogue(tracking)), 6);
        return;
    }
    if Release::of_server().since(3, 2) {
        assert_eq!(twins.direct(&subscribe).concat().len(), 2, "this release swallows them");
    }
    let mut client = twins.proxy.client();
    client.send_raw(&[words("CLIENT REPLY OFF"), words("SUBSCRIBE a")].concat());
    assert_eq!(client.reply().elements()[0].text(), "subscribe");
    twins.redis.connect().call(&["PUBLISH", "a", "hello"]);
    assert_eq!(client.reply().elements()[2].text(), "hello");
}

/// What two connections see of each other: one keeps a copy of what it read, the other hears what became of it.
fn redirected<S: Read + Write>(twins: &Twins, open: impl Fn() -> Wire<S>, resp3: bool, leaves: bool) -> Vec<String> {
    let (mut cache, mut hears) = (open(), open());
    let mut seen = Vec::new();
    let mut told = |frame: Vec<u8>| seen.push(frame.escape_ascii().to_string());
    if resp3 {
        cache.call(&["HELLO", "3"]);
        hears.call(&["HELLO", "3"]);
    } else {
        hears.send(&["SUBSCRIBE", "__redis__:invalidate"]);
        told(hears.raw_reply());
    }
    // In RESP2's subscriber mode CLIENT ID is refused: it is asked for by name.
    let id = {
        cache.call(&["CLIENT", "SETNAME", "cache"]).expect_ok();
        let list = twins.redis.connect().call(&["CLIENT", "LIST"]).text();
        let number = |line: &str| line.split(' ').next().unwrap().strip_prefix("id=").unwrap().parse::<u64>().unwrap();
        // The newest: Redis may not have noticed the end of an earlier one yet.
        let of_cache = list.lines().filter(|line| line.contains("name=cache")).map(number).max().unwrap();
        // The next one after it is who hears.
        list.lines().map(number).filter(|id| *id > of_cache).min().unwrap().to_string()
    };
    cache.call(&["CLIENT", "TRACKING", "ON", "REDIRECT", &id]).expect_ok();
    for round in 0..3 {
        cache.send(&["GET", "a"]);
        told(cache.raw_reply());
        twins.redis.connect().call(&["SET", "a", &round.to_string()]).expect_ok();
        told(hears.raw_reply());
    }
    cache.send(&["GET", "a"]);
    told(cache.raw_reply());
    twins.redis.connect().call(&["FLUSHALL"]).expect_ok();
    told(hears.raw_reply());
    if leaves {
        hears.send(&["QUIT"]);
        told(hears.rest());
        // The proxy's own connection ends a moment after the client's; Redis is to have noticed.
        twins.proxy.await_that("Redis to forget it", |_| {
            let list = twins.redis.connect().call(&["CLIENT", "LIST"]).text();
            (!list.contains(&format!("id={id} "))).then_some(())
        });
        cache.send(&["GET", "a"]);
        told(cache.raw_reply());
        twins.redis.connect().call(&["SET", "a", "x"]).expect_ok();
        if resp3 {
            let broken = cache.raw_reply().escape_ascii().to_string();
            told(broken.replace(&format!(":{id}"), ":#").into_bytes());
        }
        cache.send(&["PING"]);
        told(cache.raw_reply());
    }
    seen
}

#[test]
fn redirected_invalidations_reach_the_other_connection_and_its_end_is_told() {
    let twins = Twins::start();
    if !tracks(&twins) {
        assert!(twins.same(&dialogue("CLIENT TRACKING ON REDIRECT 1\nPING")) == 2);
        return;
    }
    for (resp3, leaves) in [(false, false), (false, true), (true, false), (true, true)] {
        twins.redis.connect().call(&["FLUSHALL"]).expect_ok();
        let direct = redirected(&twins, || twins.redis.connect(), resp3, leaves);
        twins.redis.connect().call(&["FLUSHALL"]).expect_ok();
        let proxied = redirected(&twins, || twins.proxy.client(), resp3, leaves);
        assert_eq!(proxied, direct, "RESP3 {resp3}, leaves {leaves}");
        assert!(direct.len() >= 8);
    }
}

#[test]
fn switches_of_a_connection_are_the_servers_own() {
    let twins = Twins::start();
    for line in ["CLIENT NO-TOUCH ON", "CLIENT NO-EVICT ON", "READONLY", "ASKING", "CLIENT SETINFO LIB-NAME x"] {
        let (off, wrong) = (line.replace(" ON", " OFF"), line.replace(" ON", " MAYBE"));
        let text = format!("{line}\nPING\n{off}\n{wrong}\nMULTI\n{line}\nEXEC\nPING");
        assert_eq!(twins.same(&dialogue(&text)), 8);
    }
}
