//! The first words of client libraries, told to Redis directly and through Ravelin. Libraries choose their protocol, and
//! what else they make use of, by the answers: these must be the server's own, whatever its release. Where the proxy answers
//! otherwise on purpose, the table of `deploy/docs/compatibility.md` and the tests here say so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::{
    collections::BTreeSet,
    io::{Read, Write},
};
use support::{
    process::{PASSWORD, Proxy},
    redis::{Redis, Release},
    setup::Setup,
    twins::{Step, Twins, dialogue, raw},
    wire::{Reply, Wire, encode},
};

/// Openings as libraries send them, one by one or at once: `Twins::same` tries both. All of them go on with a command
/// whatever they were told, as a client does that falls back.
const OPENINGS: &str = "
    # RESP3 if there is, with everything behind it in one write.
    HELLO 3
    SELECT 0
    CLIENT SETINFO LIB-NAME ioredis
    CLIENT SETINFO LIB-VER 6.0.0
    SET a 1
    GET a
    HGETALL nothing
    GET nothing

    # RESP2, said aloud.
    HELLO 2
    CLIENT SETNAME web-1
    CLIENT SETINFO lib-name redis-py
    CLIENT SETINFO lib-ver 8.1.0
    SELECT 3
    PING
    CLIENT GETNAME
    HGETALL nothing

    # A name with the protocol, and without.
    HELLO 3 SETNAME web-1
    CLIENT SETNAME web-1
    CLIENT SETINFO LIB-NAME node-redis
    CLIENT GETNAME
    READONLY
    ECHO here

    # Up, and down again when something is missing.
    HELLO 3
    HELLO 2
    GET nothing
    ECHO here

    # What a library asks before it reads replies in another form.
    HELLO
    PING
    COMMAND COUNT
    COMMAND INFO get set nothing
    PING hello

    # Client-side caching.
    HELLO 3
    CLIENT TRACKING ON
    GET a
    CLIENT TRACKING OFF
    CLIENT TRACKING ON BCAST PREFIX app:
    CLIENT CACHING YES
    PING
    CLIENT TRACKING OFF

    # No HELLO at all.
    SELECT 15
    CLIENT SETNAME old
    CLIENT ID x
    CLIENT NO-EVICT on
    CLIENT NO-TOUCH on
    CLIENT SETINFO LIB-NAME jedis(x)
    CLIENT SETINFO NONSENSE x
    ECHO here

    # Asked of every server, known by few.
    HELLO 3
    CLIENT GETREDIR
    CLIENT TRACKINGINFO
    ACL USERS
    CLUSTER INFO
    CLUSTER SLOTS
    CONFIG GET databases
    LATENCY RESET
    MEMORY DOCTOR x
    ROLE
    OBJECT HELP x
    ECHO here";

fn openings() -> impl Iterator<Item = Vec<Step>> {
    let parts = OPENINGS.split("\n\n").filter(|part| !part.trim().is_empty());
    parts.map(dialogue)
}

/// Denies nothing, keeps no name of its own, and lets clients say passwords that nobody reads.
fn indulgent(redis: &Redis) -> Proxy {
    let mut setup = Setup { more: support::twins::ALLOW_ALL, ..Setup::before(redis) };
    setup.services[0].upstream = ", set_name = false, client_auth = \"ignore\"";
    Proxy::with(&setup)
}

fn speaks_resp3() -> bool {
    Release::of_server().since(6, 0)
}

/// How libraries tell that a server does not know HELLO.
fn means_resp2(text: &str) -> bool {
    text.starts_with("NOPROTO") || (text.contains("unknown command") && text.to_ascii_uppercase().contains("HELLO"))
}

#[test]
fn every_opening_is_answered_as_by_the_server_itself() {
    let twins = Twins::start();
    let frames: Vec<usize> = openings().map(|steps| twins.same(&steps)).collect();
    // One reply to each step at least: RESP3 adds pushes.
    for (steps, frames) in openings().zip(&frames) {
        assert!(*frames >= steps.len(), "{frames} replies to {} requests", steps.len());
    }
    assert_eq!(frames.len(), 8);
}

#[test]
fn the_line_of_a_health_check_is_a_ping_in_either_protocol() {
    let twins = Twins::start();
    assert_eq!(
        twins.same(&[raw(b"PING\r\n"), raw(b"ping\r\n"), raw(b"*1\r\n$4\r\nping\r\n"), raw(b"\r\nPING\r\n")]),
        4
    );
    let hello = dialogue("HELLO 3\nGET nothing");
    assert_eq!(twins.same(&[&hello[..], &[raw(b"PING\r\n"), raw(encode(&["PING"]))]].concat()), 4);
}

#[test]
fn the_documentation_that_a_shell_asks_for_comes_byte_for_byte() {
    let twins = Twins::start();
    twins.same(&dialogue(
        "COMMAND DOCS get\nCOMMAND LIST FILTERBY PATTERN xrea*\nCOMMAND GETKEYS MSET a 1 b 2\nCOMMAND COUNT x",
    ));
    twins.same(&dialogue("HELLO 3\nCOMMAND DOCS get client\nCOMMAND INFO get"));
    // Whole: the longest reply there is to so short a question.
    let mut direct = twins.redis.connect();
    let mut client = twins.proxy.client();
    for words in [&["COMMAND"][..], &["COMMAND", "DOCS"]] {
        direct.send(words);
        client.send(words);
        let expected = direct.raw_reply();
        assert_eq!(client.raw_reply().escape_ascii().to_string(), expected.escape_ascii().to_string(), "{words:?}");
        assert!(expected.len() > 4096 || expected.starts_with(b"-"), "{words:?}");
    }
}

/// The names of INFO's lines, but for those that come and go with what is counted; and what it says of the release.
fn told_by_info<S: Read + Write>(wire: &mut Wire<S>, words: &[&str]) -> (BTreeSet<String>, String) {
    let transient =
        |name: &str| ["db", "eventloop_"].iter().any(|start| name.starts_with(start)) || name.contains("stat_");
    let transient = |name: &str| transient(name) || name.starts_with("latency_percentiles_");
    let info = wire.call(words).text();
    let lines = info.lines().filter_map(|line| line.split_once(':'));
    let names = lines.clone().filter(|(name, _)| !transient(name)).map(|(name, _)| name.to_owned()).collect();
    let release = lines.filter(|(name, _)| name.ends_with("_version") || *name == "redis_mode");
    (names, release.map(|(name, value)| format!("{name}:{value}\n")).collect())
}

#[test]
fn info_tells_of_the_server_and_not_of_the_proxy() {
    let redis = Redis::with_password(PASSWORD);
    let proxy = Proxy::start(&redis);
    let (mut direct, mut client) = (redis.connect(), proxy.client());
    for words in [&["INFO"][..], &["INFO", "server"], &["info", "ALL"]] {
        let expected = told_by_info(&mut direct, words);
        assert_eq!(told_by_info(&mut client, words), expected, "{words:?}");
        assert!(expected.0.len() > 5 && expected.1.contains("redis_version:"), "{expected:?}");
    }
    let roles = [direct.call(&["INFO", "replication"]), client.call(&["INFO", "replication"])];
    for reply in roles {
        assert!(reply.text().contains("role:master"), "{reply:?}");
    }
}

#[test]
fn a_library_that_wants_resp3_gets_it_or_the_error_it_falls_back_by() {
    let redis = Redis::with_password(PASSWORD);
    // As most have it: the default deny list, and passwords of clients refused.
    let proxy = Proxy::start(&redis);
    let mut client = proxy.client();
    let hello = client.call(&["HELLO", "3"]);
    if speaks_resp3() {
        assert_eq!(hello.field("proto"), &Reply::Integer(3));
        client.send(&["GET", "nothing"]);
        assert_eq!(client.raw_reply(), b"_\r\n");
    } else {
        assert!(hello.error().is_some_and(means_resp2), "{hello:?}");
        client.send(&["GET", "nothing"]);
        assert_eq!(client.raw_reply(), b"$-1\r\n");
    }
    // All at once, before the first answer is read.
    let mut client = proxy.client();
    let lines = [
        &["HELLO", "3"][..],
        &["SELECT", "2"],
        &["CLIENT", "SETINFO", "LIB-NAME", "x"],
        &["SET", "a", "1"],
        &["GET", "a"],
    ];
    client.send_raw(&lines.map(encode).concat());
    let replies: Vec<Reply> = lines.iter().map(|_| client.reply()).collect();
    assert_eq!(replies[0].error().is_none(), speaks_resp3(), "{replies:?}");
    replies[1].expect_ok();
    // Before 7.2 an error, which libraries do not mind.
    assert_eq!(replies[2].error().is_none(), Release::of_server().since(7, 2), "{replies:?}");
    replies[3].expect_ok();
    assert_eq!(replies[4], Reply::Bulk(b"1".to_vec()));
    // A protocol that nobody speaks is refused in the server's words.
    let no = client.call(&["HELLO", "4"]);
    assert!(no.error().is_some_and(means_resp2), "{no:?}");
}

/// A password in HELLO never reaches Redis; what is left of the words is answered by Redis.
#[test]
fn a_hello_with_a_password_is_the_same_hello_where_passwords_are_ignored() {
    let redis = Redis::with_password(PASSWORD);
    let proxy = indulgent(&redis);
    for version in ["2", "3"] {
        let with = ["HELLO", version, "AUTH", "default", PASSWORD, "SETNAME", "web-1"];
        let mut direct = redis.connect();
        let mut client = proxy.client();
        if speaks_resp3() {
            let (expected, got) = (direct.call(&with), client.call(&with));
            assert_eq!(without_id(&got), without_id(&expected));
            assert_eq!(client.call(&["CLIENT", "GETNAME"]), direct.call(&["CLIENT", "GETNAME"]));
        } else {
            // From 5.0 on the error repeats the words it was told, password and all; through the proxy there is none in it.
            let (expected, got) = (direct.call(&with), client.call(&with));
            let words = ["HELLO", version, "SETNAME", "web-1"];
            assert_eq!(got, redis.connect().call(&words));
            for reply in [&expected, &got] {
                assert!(reply.error().is_some_and(means_resp2), "{reply:?}");
            }
            assert!(!got.error().unwrap().contains(PASSWORD));
            // And then the password by itself, as clients fall back to: with a user's name as well, which servers before 6.0
            // refuse by the number of words.
            client.call(&["AUTH", PASSWORD]).expect_ok();
            client.call(&["AUTH", "default", PASSWORD]).expect_ok();
            let wrong = "ERR wrong number of arguments for 'auth' command";
            assert_eq!(direct.call(&["AUTH", "default", PASSWORD]).error(), Some(wrong));
        }
        client.call(&["SET", "a", version]).expect_ok();
        assert_eq!(client.call(&["GET", "a"]), Reply::Bulk(version.as_bytes().to_vec()));
    }
}

fn without_id(hello: &Reply) -> Vec<Reply> {
    let words: Vec<Reply> = match hello {
        Reply::Map(pairs) => pairs.iter().flat_map(|(name, value)| [name.clone(), value.clone()]).collect(),
        other => other.elements().to_vec(),
    };
    let id = words.iter().position(|word| *word == Reply::Bulk(b"id".to_vec())).expect("an id");
    words.iter().enumerate().filter(|(at, _)| *at != id + 1).map(|(_, word)| word.clone()).collect()
}

#[test]
fn a_password_is_refused_in_words_that_say_what_to_do_and_the_connection_goes_on() {
    let redis = Redis::with_password(PASSWORD);
    let proxy = Proxy::start(&redis);
    for words in [
        &["AUTH", PASSWORD][..],
        &["AUTH", "default", PASSWORD],
        &["HELLO", "3", "AUTH", "default", PASSWORD],
        &["HELLO", "2", "AUTH", "default", PASSWORD, "SETNAME", "web-1"],
    ] {
        let mut client = proxy.client();
        let reply = client.call(words);
        let text = reply.error().expect("an error");
        assert!(text.starts_with("NOPERM ") && text.contains("certificate"), "{text}");
        assert!(!text.contains(PASSWORD));
        client.call(&["SET", "a", "1"]).expect_ok();
    }
}

/// What the default deny list keeps from a library that asks at its start. All of them go on without.
#[test]
fn under_the_default_policy_openings_differ_by_a_noperm_and_nothing_else() {
    let redis = Redis::with_password(PASSWORD);
    let proxy = Proxy::start(&redis);
    let denied = [
        &["CLIENT", "TRACKING", "ON"][..],
        &["CLIENT", "LIST"],
        &["CLIENT", "NO-EVICT", "on"],
        &["CONFIG", "GET", "databases"],
        &["CLUSTER", "SLOTS"],
        &["ROLE"],
        &["ACL", "LIST"],
        &["MODULE", "LIST"],
    ];
    let mut client = proxy.client();
    for words in denied {
        let reply = client.call(words);
        assert!(reply.error().is_some_and(|text| text.starts_with("NOPERM ")), "{words:?}: {reply:?}");
    }
    let same = [
        &["HELLO", "2", "SETNAME", "web-1"][..],
        &["CLIENT", "SETNAME", "web-1"],
        &["CLIENT", "GETNAME"],
        &["CLIENT", "SETINFO", "LIB-VER", "1.0"],
        &["SELECT", "1"],
        &["READONLY"],
        &["PING"],
        &["ECHO", "here"],
        &["COMMAND", "INFO", "get"],
        &["COMMAND", "DOCS", "get"],
        &["CLIENT", "CACHING", "YES"],
        &["CLIENT", "GETREDIR"],
        &["CLIENT", "TRACKINGINFO"],
    ];
    let mut direct = redis.connect();
    for words in same {
        if words[0] == "HELLO" && speaks_resp3() {
            assert_eq!(without_id(&client.call(words)), without_id(&direct.call(words)));
            continue;
        }
        let (expected, got) = (reply_to(&mut direct, words), reply_to(&mut client, words));
        assert_eq!(got.escape_ascii().to_string(), expected.escape_ascii().to_string(), "{words:?}");
    }
}

fn reply_to<S: Read + Write>(wire: &mut Wire<S>, words: &[&str]) -> Vec<u8> {
    wire.send(words);
    wire.raw_reply()
}

/// What is not in the catalogue is denied whatever the policy, before any server can say whether it knows it: libraries that
/// ask in the hope of a yes are told no, as by a server that does not know it.
#[test]
fn a_command_nobody_here_knows_is_denied_and_recorded_as_unknown() {
    let twins = Twins::start();
    let mut client = twins.proxy.client();
    for words in [
        // Of hosted services, and of Sentinel.
        &["CLIENT", "MAINT_NOTIFICATIONS", "ON"][..],
        &["SENTINEL", "MASTERS"],
        // Of Redis 6.0 and 6.2 alone.
        &["STRALGO", "LCS", "STRINGS", "a", "b"],
        // Of Redis 8.8 and 8.10.
        &["ARSET", "a", "0", "x"],
        &["INCREX", "a"],
        &["XNACK", "x", "g", "0-1"],
        &["BACKUP", "START"],
        &["LMOVEM", "a", "b", "LEFT", "RIGHT", "1"],
        // Of modules.
        &["JSON.SET", "a", "$", "1"],
        &["FT.SEARCH", "i", "*"],
        &["BF.ADD", "a", "x"],
    ] {
        let reply = client.call(words);
        let text = reply.error().expect("an error");
        assert!(text.starts_with("NOPERM this user has no permissions to run the '"), "{words:?}: {text}");
        let record = twins
            .proxy
            .await_record("command", |record| record["rule"] == "builtin/unknown-command" && record["cmd"] == words[0]);
        assert_eq!(record["outcome"], "denied", "{record}");
    }
    assert_eq!(client.call(&["PING"]).text(), "PONG");
}

/// What never goes up is answered in the words of Redis 7.0, which an older server says otherwise, or not at all.
#[test]
fn what_is_answered_here_has_the_same_words_before_every_release() {
    let twins = Twins::start();
    let release = Release::of_server();
    let not_an_integer = "ERR value is not an integer or out of range";
    let select = match () {
        () if release.since(6, 2) => Some(not_an_integer),
        () if release.since(3, 0) => Some("ERR invalid DB index"),
        // Redis 2.8 takes it for 1.
        () => None,
    };
    let arity = "ERR wrong number of arguments for 'ssubscribe' command";
    for (words, here, there) in [
        (&["SELECT", "01"][..], not_an_integer, select),
        (&["SELECT", "+1"], not_an_integer, select),
        (&["SSUBSCRIBE"], arity, Some(if release.since(7, 0) { arity } else { "ERR unknown command" })),
    ] {
        let direct = twins.redis.connect().call(words);
        assert_eq!(direct.error().is_some(), there.is_some(), "{words:?}: {direct:?}");
        assert!(there.is_none_or(|text| direct.error().unwrap().starts_with(text)), "{words:?}: {direct:?}");
        assert_eq!(twins.proxy.client().call(words).error(), Some(here), "{words:?}");
    }
    // Within a transaction a server queues what would change who or where the connection is.
    for words in [&["SUBSCRIBE", "a"][..], &["CLIENT", "REPLY", "ON"]] {
        let mut client = twins.proxy.client();
        client.call(&["MULTI"]).expect_ok();
        assert_eq!(client.call(words).error(), Some("ERR Command not allowed inside a transaction"), "{words:?}");
        assert!(client.call(&["EXEC"]).error().unwrap().starts_with("EXECABORT "), "{words:?}");
    }
}
