//! Redis itself is the oracle: the same bytes, direct and through the proxy, get the same bytes back, in RESP2 and RESP3,
//! one at a time, all at once, and byte by byte.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::io::{Read, Write};
use support::{
    process::{PASSWORD, Proxy},
    redis::{Redis, Release, Vendor},
    wire::{Wire, encode},
};

/// What a client sends, how many replies that has (in RESP2 and RESP3), and whether policy denies it.
struct Step {
    bytes: Vec<u8>,
    replies: [usize; 2],
    denied: bool,
}

/// A line of words; `~` stands for a space within a word.
fn words(line: &str) -> Vec<u8> {
    encode(&line.split(' ').map(|word| word.replace('~', " ")).collect::<Vec<_>>())
}

/// A line of words that is answered with so many replies.
fn replies(count: usize, line: &str) -> Step {
    Step { bytes: words(line), replies: [count; 2], denied: false }
}

/// Bytes as they are.
fn raw(count: usize, bytes: &[u8]) -> Step {
    Step { bytes: bytes.to_vec(), replies: [count; 2], denied: false }
}

/// Answered once: plain commands of all reply types, errors of every kind, transactions, options.
const LINES: &str = "
    PING
    PING hello
    ECHO ~
    SET a 1
    GET a
    GET nothing
    GET
    get a b
    SET a
    SET a 1 NONSENSE
    SET a 2 XX GET
    SET a 3 NX
    INCR a
    INCRBYFLOAT a 1.5
    APPEND a xyz
    INCR a
    LPUSH a 1
    STRLEN a
    SETRANGE big 200000 x
    GET big
    MGET a nothing big
    MSETNX a 1 b 2
    GETDEL a
    SET t 1 EX 100
    TTL t
    EXPIRE t nonsense
    TYPE big
    RPUSH l a b c d e f g h
    LRANGE l 0 -1
    LRANGE l 9 1
    LPOS l c RANK -1
    LMPOP 2 nothing l LEFT COUNT 2
    LMPOP 2 nothing nobody LEFT
    HSET h f 1 g 2
    HGETALL h
    HGETALL nothing
    HGET h
    HINCRBYFLOAT h f 0.25
    HRANDFIELD nothing 1 WITHVALUES
    SADD s m
    SMEMBERS s
    SPOP nothing
    SINTERCARD 1 s
    ZADD z 1 one 2.5 two inf many
    ZSCORE z two
    ZRANGE z 0 -1 WITHSCORES
    ZADD z nonsense x
    ZPOPMIN z
    GEOADD g 13.361389 38.115556 Palermo
    GEOPOS g Palermo nowhere
    PFADD p a b c
    PFCOUNT p
    BITFIELD bits SET u8 0 255 GET i8 0 OVERFLOW FAIL INCRBY u2 0 5
    XADD x 1-1 f v
    XADD x 1-1 f v
    XREAD COUNT 2 STREAMS x 0
    XREAD BLOCK 1 STREAMS x 9-9
    XREAD STREAMS x
    XRANGE x - +
    XINFO STREAM x
    BLPOP l 0
    BLPOP nothing 0.01
    BLPOP nothing nonsense
    BLPOP nothing -1
    WAIT 0 0
    SELECT 3
    DBSIZE
    SELECT 99
    SELECT nonsense
    SELECT 01
    SELECT -1
    SELECT
    SELECT 0
    EXEC
    DISCARD
    EXEC now
    MULTI
    SET a 1
    MULTI
    WATCH a
    GET a
    HGETALL h
    LPUSH a 1
    SELECT 2
    EXEC
    SELECT 0
    MULTI
    SET a
    GET a
    EXEC
    MULTI
    SET a 5
    DISCARD
    GET a
    MULTI now
    WATCH a
    SET a 6
    MULTI
    GET a
    EXEC
    UNWATCH
    MULTI
    EXEC
    MULTI
    EXEC now
    EXEC
    CLIENT SETNAME me
    CLIENT GETNAME
    CLIENT SETNAME with~blanks
    CLIENT NOSUCH
    CLIENT
    CLIENT REPLY NONSENSE
    COMMAND COUNT
    COMMAND INFO get xread nothing
    COMMAND DOCS set
    COMMAND GETKEYS MSET a b c d
    COMMAND GETKEYS GET
    HELLO 4
    HELLO nonsense
    PUBSUB CHANNELS
    PUBLISH nobody hears
    SCAN 0 COUNT 100 MATCH x*
    LOLWUT VERSION 1
    FLUSHALL
    KEYS *
    CONFIG GET require*
    EVAL return~1 0
    NOSUCH command
    RANDOMKEY now
    COPY a b
    OBJECT ENCODING a";

/// What the default policy denies in [`LINES`].
const DENIED: [&str; 7] = ["CLIENT NOSUCH", "FLUSHALL", "KEYS *", "CONFIG GET", "EVAL", "NOSUCH", "OBJECT"];

/// What the proxy answers itself in the words of newer servers: before this release a server would say it otherwise.
const ANSWERED_HERE: [(&str, (u32, u32)); 2] = [("CLIENT REPLY", (3, 2)), ("SELECT 01", (6, 2))];

fn dialogue() -> Vec<Step> {
    let mut steps: Vec<Step> = LINES
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .filter(|line| {
            !ANSWERED_HERE
                .iter()
                .any(|(known, since)| line.starts_with(known) && !Release::of_server().since(since.0, since.1))
        })
        .map(|line| {
            let denied = DENIED.iter().any(|denied| line.starts_with(denied));
            Step { denied, ..replies(1, line) }
        })
        .collect();
    steps.extend([
        raw(0, b"\r\n"),
        raw(0, b"*0\r\n"),
        raw(0, b"*-1\r\n"),
        raw(1, b"PING\r\n"),
        raw(1, b"*2\r\n$4\r\nECHO\r\n$7\r\n\r\n\0+\r\n$\r\n"),
        raw(1, b"*3\r\n$3\r\nSET\r\n$2\r\n\xff\x00\r\n$0\r\n\r\n"),
        raw(1, b"*2\r\n$3\r\nGET\r\n$2\r\n\xff\x00\r\n"),
    ]);
    if Release::of_server().since(3, 2) {
        let mut silences = silences();
        // Redis 8.0 alone goes on being silent behind an empty request; the proxy does as all the others.
        let release = Release::of_server();
        if (release.vendor, release.major, release.minor) == (Vendor::Redis, 8, 0) {
            silences.retain(|step| step.bytes != b"*0\r\n");
            silences.remove(3);
        }
        steps.extend(silences);
    }
    steps.extend([
        replies(1, "SUBSCRIBE"),
        replies(1, "UNSUBSCRIBE"),
        // Valkey 8 confirms nothing to one who is not subscribed.
        replies(if Release::of_server().says_nosub() { 1 } else { 2 }, "UNSUBSCRIBE a b"),
        replies(3, "SUBSCRIBE a b a"),
        replies(1, "PSUBSCRIBE a*"),
        replies(1, "PING"),
        replies(1, "PING hello"),
        replies(1, "GET a"),
        replies(1, "MULTI"),
        // Its own message comes twice, by channel and by pattern; in RESP2 a subscriber may not publish.
        Step { replies: [1, 1], ..replies(1, "DISCARD") },
        Step { replies: [1, 3], ..replies(1, "PUBLISH a hello") },
        replies(1, "UNSUBSCRIBE b"),
        replies(1, "PUNSUBSCRIBE"),
        replies(1, "UNSUBSCRIBE a"),
        replies(1, "SSUBSCRIBE shard"),
        replies(1, "SUNSUBSCRIBE shard"),
        replies(1, "GET a"),
        replies(1, "QUIT"),
    ]);
    steps
}

/// CLIENT REPLY and what it keeps silent.
fn silences() -> Vec<Step> {
    vec![
        replies(0, "CLIENT REPLY SKIP"),
        replies(0, "GET big"),
        replies(1, "GET a"),
        replies(0, "CLIENT REPLY SKIP"),
        raw(0, b"*0\r\n"),
        replies(1, "GET a"),
        replies(0, "CLIENT REPLY OFF"),
        replies(0, "SET a 7"),
        replies(0, "CLIENT REPLY SKIP"),
        replies(0, "GET a"),
        replies(1, "CLIENT REPLY ON"),
        replies(1, "GET a"),
    ]
}

/// The bytes of every step's replies, one step at a time.
fn one_at_a_time<S: Read + Write>(wire: &mut Wire<S>, steps: &[Step], resp3: bool, denials: bool) -> Vec<Vec<u8>> {
    steps
        .iter()
        .map(|step| {
            if step.denied && !denials {
                return Vec::new();
            }
            wire.send_raw(&step.bytes);
            (0..step.replies[usize::from(resp3)]).flat_map(|_| wire.raw_reply()).collect()
        })
        .collect()
}

fn protocol<S: Read + Write>(wire: &mut Wire<S>, resp3: bool) {
    if resp3 && !Release::of_server().since(6, 0) {
        assert!(wire.call(&["HELLO", "3"]).error().is_some_and(|text| text.contains("unknown command")));
    } else if resp3 {
        assert_eq!(wire.call(&["HELLO", "3"]).field("proto").integer(), 3);
    }
}

fn same_bytes(asked_for_resp3: bool) {
    let resp3 = asked_for_resp3 && Release::of_server().since(6, 0);
    let redis = Redis::with_password(PASSWORD);
    let proxy = Proxy::start(&redis);
    let steps = dialogue();
    let empty = || redis.connect().call(&["FLUSHALL"]).expect_ok();

    let mut direct = redis.connect();
    protocol(&mut direct, asked_for_resp3);
    let mut expected = one_at_a_time(&mut direct, &steps, resp3, false);
    assert_eq!(direct.rest(), b"");

    empty();
    let mut client = proxy.client();
    protocol(&mut client, asked_for_resp3);
    let got = one_at_a_time(&mut client, &steps, resp3, true);
    let mut differences = String::new();
    for ((step, expected), got) in steps.iter().zip(&mut expected).zip(&got) {
        if step.denied {
            assert!(got.starts_with(b"-NOPERM this user has no permissions to run the '"), "{}", got.escape_ascii());
            expected.clone_from(got);
        } else if got != expected {
            let (sent, direct) = (step.bytes.escape_ascii(), expected[..expected.len().min(300)].escape_ascii());
            differences +=
                &format!("{sent}\n  direct  {direct}\n  proxied {}\n", got[..got.len().min(300)].escape_ascii());
        }
    }
    assert!(differences.is_empty(), "RESP{}:\n{differences}", if resp3 { 3 } else { 2 });
    assert_eq!(client.rest(), b"", "after QUIT");

    let whole = expected.concat();
    let sent: Vec<u8> = steps.iter().flat_map(|step| step.bytes.clone()).collect();
    for chunk in [sent.len(), 1, 7] {
        empty();
        let mut client = proxy.client();
        protocol(&mut client, asked_for_resp3);
        for piece in sent.chunks(chunk) {
            client.send_raw(piece);
        }
        let got = client.rest();
        let at = got.iter().zip(&whole).take_while(|(got, expected)| got == expected).count();
        let around = |bytes: &[u8]| bytes[at.saturating_sub(80)..bytes.len().min(at + 80)].escape_ascii().to_string();
        assert!(got == whole, "in pieces of {chunk}, at {at}:\n direct  {}\n proxied {}", around(&whole), around(&got));
    }
}

#[test]
fn resp2_gets_the_same_bytes() {
    same_bytes(false);
}

#[test]
fn resp3_gets_the_same_bytes() {
    same_bytes(true);
}

#[test]
fn broken_requests_get_redis_own_words_and_a_close() {
    let redis = Redis::with_password(PASSWORD);
    let proxy = Proxy::start(&redis);
    let ping = words("PING");
    for broken in [
        &b"*a\r\n"[..],
        b"*+1\r\n",
        b"*01\r\n",
        b"*1048577000000\r\n",
        b"*1\r\nGET\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n$a\r\n",
        b"*1\r\n$-1\r\n",
        b"*2\r\n$3\r\nGET\r\n$1000000000000\r\n",
        b"*2\r\n$3\r\nGET\r\n!\r\n",
    ] {
        // What came before is answered, what comes behind is not looked at.
        let sent = [&ping, broken, &ping].concat();
        let mut direct = redis.connect();
        direct.send_raw(&sent);
        let expected = direct.rest();
        assert!(expected.starts_with(b"+PONG\r\n-ERR Protocol error: "), "{}", expected.escape_ascii());
        let mut client = proxy.client();
        client.send_raw(&sent);
        let got = client.rest();
        assert!(
            got == expected,
            "{}:\n direct  {}\n proxied {}",
            broken.escape_ascii(),
            expected.escape_ascii(),
            got.escape_ascii()
        );
    }
    proxy.await_record("connection_close", |record| record["reason"] == "protocol");
}

/// Redis lets these through, and that is how a command is smuggled past a checker (FACTS of request framing).
#[test]
fn what_redis_forgives_is_refused_here() {
    let redis = Redis::with_password(PASSWORD);
    let proxy = Proxy::start(&redis);
    for lenient in [
        &b"*1\rX$8\rYFLUSHALL\r\n"[..],
        b"*1\r\n$8\r\nFLUSHALLZZ",
        b"*1\r\n$4\r\nPING*1\r\n$8\r\nFLUSHALL\r\n",
        b"FLUSHALL\r\n",
        b"\"FLUSHALL\"\r\n",
        b"*1\n$8\nFLUSHALL\n",
        b"POST / HTTP/1.1\r\n",
    ] {
        let mut client = proxy.client();
        client.send_raw(lenient);
        let got = client.rest();
        assert!(got.starts_with(b"-ERR Protocol error: "), "{}: {}", lenient.escape_ascii(), got.escape_ascii());
        assert!(got.ends_with(b"\r\n") && got.iter().filter(|byte| **byte == b'\n').count() == 1);
    }
    assert_eq!(redis.calls_of("flushall"), 0);
}
