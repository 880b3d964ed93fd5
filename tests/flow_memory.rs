//! How much memory the proxy takes in every situation a client or a Redis can bring it into. The bounds asserted here
//! are those stated in `deploy/docs/memory.md`, by the name of the test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::cast_possible_truncation, reason = "tests")]

mod support;

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, mknodat, open},
    process::{Pid, Signal, kill_process},
};
use std::{
    io::{ErrorKind, Read, Write},
    thread,
    time::Duration,
};
use support::{
    client::Client,
    flow::{Content, Gauge, KIB, MIB, Pace, Weir, hash_of_bulk, push, push_until_held},
    process::{PASSWORD, Proxy},
    redis::Redis,
    setup::Setup,
    wire::encode,
};

/// What buffers that all connections of a worker share, and one connection's way through them, may add to any bound:
/// two reads of 64 KiB and their TLS records, for each of two workers, and what an allocator keeps of them.
const SHARED: u64 = 2 * MIB;

/// What a connection may take besides, uncounted: 64 KiB of what is owed, 64 KiB of a command, 128 KiB on its way.
const OWN: u64 = 256 * KIB;
/// Default of `audit.queue`, for each worker.
const QUEUE: u64 = 4 * MIB;
/// How many buffers of that size there may be for each worker: the one that is written with, the one kept for the next
/// block, and two of the sink, which takes one while it writes the other.
const PENS: u64 = 4;

/// What records of one worker take that the sink has not written yet, where `audit.queue` is [`SHORT`].
const RECORDS: u64 = PENS * 256 * KIB;
const SHORT: &str = "queue = \"256KiB\"";

fn redis() -> Redis {
    Redis::with_password(PASSWORD)
}

/// A client that has been served once, and a gauge that starts there.
fn gauged(proxy: &Proxy) -> (Client, Gauge) {
    let mut client = proxy.client();
    let value = vec![b'w'; 200_000];
    client.call(&[b"SET", &b"warm"[..], &value]).expect_ok();
    client.call(&["GET", "warm"]);
    (client, Gauge::start(proxy.pid()))
}

/// The head of a command whose words are these and, behind them, one of `len` bytes that is still to come.
fn head(words: &[&str], len: u64) -> Vec<u8> {
    let mut bytes = encode(words);
    let header = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    bytes.splice(..header, format!("*{}\r\n", words.len() + 1).into_bytes());
    bytes.extend(format!("${len}\r\n").into_bytes());
    bytes
}

#[test]
fn half_a_gigabyte_goes_up_and_down_unchanged_and_is_never_held() {
    let redis = redis();
    let proxy = Proxy::start(&redis);
    let content = Content::of(512 * MIB);
    let (mut client, gauge) = gauged(&proxy);
    let stream = client.stream();
    stream.write_all(&head(&["SET", "big"], content.len())).unwrap();
    content.each(|piece| stream.write_all(piece).unwrap());
    stream.write_all(b"\r\n").unwrap();
    client.reply().expect_ok();
    gauge.within(SHARED);
    client.send(&["GET", "big"]);
    assert_eq!(hash_of_bulk(client.stream(), content.len()), content.hash(), "the value came back changed");
    gauge.within(SHARED);
    let set = proxy.await_record("command", |record| record["cmd"] == "SET" && record["bytes_in"].as_u64() > Some(MIB));
    assert_eq!(set["outcome"], "ran", "{set}");
}

#[test]
fn a_denied_command_of_half_a_gigabyte_is_swallowed_and_never_held() {
    let redis = redis();
    let proxy = Proxy::start(&redis);
    let (mut client, gauge) = gauged(&proxy);
    let stream = client.stream();
    stream.write_all(&head(&["CONFIG", "SET", "dir"], 512 * MIB)).unwrap();
    Content::of(512 * MIB).each(|piece| stream.write_all(piece).unwrap());
    stream.write_all(b"\r\n").unwrap();
    assert!(client.reply().error().unwrap().starts_with("NOPERM"));
    gauge.within(SHARED);
    assert_eq!(client.call(&["PING"]).text(), "PONG", "the connection lives on");
    assert_eq!(redis.calls_of("config|set"), 0);
}

/// 64 MiB of requests behind which nobody reads 64 MiB of replies: they stay with Redis, what is held is their slots.
#[test]
fn a_pipeline_of_128_mebibytes_written_before_a_byte_is_read_is_answered_whole() {
    const COUNT: u64 = 128 * MIB / VALUE;
    const VALUE: u64 = 16 * KIB;
    // At most 64 bytes for each command that is not answered, two commands a value.
    const SLOTS: u64 = 2 * COUNT * 64;
    let redis = redis();
    let proxy = Proxy::with(&Setup { audit: SHORT, ..Setup::before(&redis) });
    let (mut client, gauge) = gauged(&proxy);
    let value = vec![b'v'; VALUE as usize];
    let pair = [encode(&[b"SET", &b"key"[..], &value]), encode(&["GET", "key"])].concat();
    for _ in 0..COUNT / 16 {
        client.stream().write_all(&pair.repeat(16)).unwrap();
    }
    let answer = [b"+OK\r\n$16384\r\n", &value[..], b"\r\n"].concat().repeat(16);
    for n in 0..COUNT / 16 {
        assert!(client.take(answer.len()) == answer, "answers {n}");
    }
    gauge.within(SHARED + SLOTS + RECORDS);
    assert_eq!(client.call(&["PING"]).text(), "PONG");
}

/// `limits.unanswered` bounds slots and the proxy's own unread replies alike; then the connection ends.
fn flood_without_reading(command: &[u8]) {
    const UNANSWERED: u64 = MIB;
    let redis = redis();
    let proxy = Proxy::with(&Setup { limits: "unanswered = \"1MiB\"", ..Setup::before(&redis) });
    redis.connect().call(&[b"SET", &b"big"[..], &vec![b'x'; 10_000]]).expect_ok();
    let (mut client, gauge) = gauged(&proxy);
    let some = command.repeat(1000);
    while client.stream().write_all(&some).is_ok() {}
    let close = proxy.await_record("connection_close", |_| true);
    assert_eq!(close["reason"], "unanswered-budget", "{close}");
    // All that was open is recorded at once, and the pen fills.
    gauge.within(SHARED + 2 * UNANSWERED + PENS * QUEUE);
}

#[test]
fn a_client_that_never_reads_is_ended_with_a_record_and_held_to_its_budget() {
    flood_without_reading(&encode(&["GET", "big"]));
}

#[test]
fn a_client_that_never_reads_its_denials_is_ended_the_same_way() {
    flood_without_reading(&encode(&["FLUSHALL"]));
}

#[test]
fn replies_that_are_never_read_stay_with_redis_and_their_client_is_gone_after_a_while() {
    let redis = redis();
    let proxy = Proxy::with(&Setup { limits: "tcp_user_timeout = \"1s\"", ..Setup::before(&redis) });
    redis.connect().call(&[b"SET", &b"big"[..], &vec![b'x'; 64 << 20]]).expect_ok();
    let (mut client, gauge) = gauged(&proxy);
    client.send(&["GET", "big"]);
    let close = proxy.await_record("connection_close", |_| true);
    assert_eq!(close["reason"], "client-gone", "{close}");
    gauge.within(SHARED);
}

/// MSET's keys are known only at its end: it is held up to `limits.held_command`, then denied and swallowed.
#[test]
fn a_command_that_cannot_be_judged_is_held_to_its_limit_and_then_swallowed() {
    // Twice: a buffer that grows is moved, and an allocator keeps what it moved from.
    const HELD: u64 = 2 * 16 * MIB;
    let redis = redis();
    let proxy = Proxy::start(&redis);
    let (mut client, gauge) = gauged(&proxy);
    let value = vec![b'v'; 4 << 20];
    client.call(&[b"MSET", &b"a"[..], &value, b"b", &value, b"c", &value]).expect_ok();
    gauge.within(SHARED + HELD);
    let stream = client.stream();
    stream.write_all(b"*65\r\n$4\r\nMSET\r\n").unwrap();
    for n in 0..32 {
        stream.write_all(format!("$2\r\n{n:02}\r\n${}\r\n", value.len()).as_bytes()).unwrap();
        stream.write_all(&value).unwrap();
        stream.write_all(b"\r\n").unwrap();
    }
    let reply = client.reply();
    assert!(reply.error().unwrap().contains("too large to be judged"), "{reply:?}");
    gauge.within(SHARED + HELD);
    assert_eq!(client.call(&["STRLEN", "c"]).integer(), 4 << 20, "the connection lives on");
    assert_eq!(redis.connect().call(&["DBSIZE"]).integer(), 4, "nothing of it was stored");
}

/// A word of six bytes on the wire is a span of eight here.
#[test]
fn a_held_command_of_many_empty_words_counts_them_too() {
    const HELD: u64 = 2 * 4 * MIB;
    let redis = redis();
    let limits = "held_command = \"4MiB\"\nmemory = \"8MiB\"\nmax_words = 16777216";
    let proxy = Proxy::with(&Setup { limits, ..Setup::before(&redis) });
    let (mut client, gauge) = gauged(&proxy);
    let stream = client.stream();
    let words = 4 << 20;
    stream.write_all(format!("*{}\r\n$3\r\nDEL\r\n", words + 1).as_bytes()).unwrap();
    let some = b"$0\r\n\r\n".repeat(1 << 14);
    for _ in 0..words >> 14 {
        stream.write_all(&some).unwrap();
    }
    let reply = client.reply();
    assert!(reply.error().unwrap().contains("too large to be judged"), "{reply:?}");
    gauge.within(SHARED + HELD);
    assert_eq!(client.call(&["PING"]).text(), "PONG", "the connection lives on");
}

#[test]
fn a_redis_that_stands_still_leaves_requests_with_their_client() {
    let redis = redis();
    let proxy = Proxy::with(&Setup { audit: SHORT, ..Setup::before(&redis) });
    let (mut client, gauge) = gauged(&proxy);
    let redis_pid = Pid::from_raw(redis.pid().try_into().unwrap()).unwrap();
    kill_process(redis_pid, Signal::STOP).unwrap();
    let pipeline = encode(&["SET", "key", &"v".repeat(1000)]).repeat(64);
    let commands = 64 * push_until_held(&mut client, &pipeline, 1024);
    gauge.within(SHARED);
    kill_process(redis_pid, Signal::CONT).unwrap();
    push(&mut client, b"").unwrap();
    assert!(client.take(5 * commands) == b"+OK\r\n".repeat(commands));
    gauge.within(SHARED + 64 * commands as u64 + RECORDS);
}

#[test]
fn a_redis_that_reads_or_answers_slowly_costs_no_memory() {
    let redis = redis();
    redis.connect().call(&[b"SET", &b"big"[..], &vec![b'x'; 100_000]]).expect_ok();
    let slow = Pace { bytes: 16 * 1024, every: Duration::from_millis(1) };
    for (up, down) in [(slow, Pace::FREE), (Pace::FREE, slow)] {
        let weir = Weir::before(redis.socket(), up, down);
        let mut setup = Setup::before(&redis);
        setup.services[0].address = weir.address();
        let proxy = Proxy::with(&setup);
        let (mut client, gauge) = gauged(&proxy);
        let pair = [encode(&[b"SET", &b"key"[..], &vec![b'k'; 100_000]]), encode(&["GET", "big"])].concat();
        for _ in 0..100 {
            client.stream().write_all(&pair).unwrap();
        }
        let answer = [b"+OK\r\n$100000\r\n", &vec![b'x'; 100_000][..], b"\r\n"].concat();
        for n in 0..100 {
            assert!(client.take(answer.len()) == answer, "answer {n}");
        }
        gauge.within(SHARED);
    }
}

/// Each of them holds what one may hold; all together never more than `limits.memory`.
#[test]
fn many_clients_that_hold_commands_stay_together_under_the_limit_of_all() {
    const MEMORY: u64 = 2 * 16 * MIB;
    let redis = redis();
    let limits = "held_command = \"4MiB\"\nmemory = \"16MiB\"";
    let proxy = Proxy::with(&Setup { limits, ..Setup::before(&redis) });
    let mut clients: Vec<_> = (0..24).map(|_| proxy.client()).collect();
    let (_client, gauge) = gauged(&proxy);
    let value = vec![b'v'; 3 << 20];
    for client in &mut clients {
        let stream = client.stream();
        stream.write_all(format!("*5\r\n$4\r\nMSET\r\n$1\r\na\r\n${}\r\n", value.len()).as_bytes()).unwrap();
        stream.write_all(&value).unwrap();
        stream.flush().unwrap();
    }
    // Every byte has been dealt with once everybody's has been answered or is held.
    let mut denied = 0;
    for client in &mut clients {
        client.stream().write_all(b"\r\n$1\r\nb\r\n$1\r\n1\r\n").unwrap();
        let reply = client.reply();
        match reply.error() {
            Some(text) => {
                assert!(text.contains("too large to be judged"), "{text}");
                denied += 1;
            }
            None => reply.expect_ok(),
        }
    }
    assert!((1..24).contains(&denied), "{denied} of 24 were denied");
    gauge.within(SHARED + MEMORY + 24 * OWN);
    for client in &mut clients {
        assert_eq!(client.call(&["PING"]).text(), "PONG", "the connection lives on");
    }
}

#[test]
fn many_clients_that_do_not_read_stay_together_under_the_limit_of_all() {
    const MEMORY: u64 = 2 * 16 * MIB;
    let redis = redis();
    let limits = "held_command = \"4MiB\"\nmemory = \"16MiB\"\nunanswered = \"4MiB\"";
    let proxy = Proxy::with(&Setup { limits, ..Setup::before(&redis) });
    let mut clients: Vec<_> = (0..16).map(|_| proxy.client()).collect();
    let (_client, gauge) = gauged(&proxy);
    let redis_pid = Pid::from_raw(redis.pid().try_into().unwrap()).unwrap();
    kill_process(redis_pid, Signal::STOP).unwrap();
    // Behind a command that Redis does not answer, denials are held: little on the wire, more in memory.
    let denials = encode(&["X"]).repeat(4096);
    let threads: Vec<_> = clients
        .drain(..)
        .map(|mut client| {
            let denials = denials.clone();
            std::thread::spawn(move || {
                client.send(&["GET", "warm"]);
                push_until_held(&mut client, &denials, 4096);
                client
            })
        })
        .collect();
    let clients: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    gauge.within(SHARED + MEMORY + 16 * OWN);
    kill_process(redis_pid, Signal::CONT).unwrap();
    drop(clients);
}

/// One byte in a TLS record of its own, one byte of a reply at a time.
#[test]
fn a_client_that_dribbles_costs_no_more_than_another() {
    let redis = redis();
    let proxy = Proxy::start(&redis);
    let (mut client, gauge) = gauged(&proxy);
    for n in 0..20 {
        for byte in encode(&["SET", "key", &format!("value {n}")]).into_iter().chain(encode(&["GET", "key"])) {
            client.send_raw(&[byte]);
        }
        for expected in format!("+OK\r\n${}\r\nvalue {n}\r\n", 6 + n.to_string().len()).into_bytes() {
            let mut byte = [0];
            client.stream().read_exact(&mut byte).unwrap();
            assert_eq!(byte[0], expected);
        }
    }
    gauge.within(SHARED);
}

fn is_command(line: &[u8]) -> bool {
    line.windows(17).any(|part| part == b"\"event\":\"command\"")
}

/// A sink that takes little at a time, clients that write all they have before they read, denials among it: records wait
/// in the pens (`audit.queue` for each worker), commands and replies where they came from.
#[test]
fn a_slow_audit_sink_holds_everybody_back_and_costs_its_queue() {
    const QUEUE: u64 = 256 * KIB;
    const ROUNDS: usize = 500;
    let redis = redis();
    redis.connect().call(&[b"SET", &b"big"[..], &vec![b'x'; 10_000]]).expect_ok();
    let proxy = Proxy::with(&Setup { audit: SHORT, ..Setup::before(&redis) });
    let mut clients: Vec<_> = (0..8).map(|_| proxy.client()).collect();
    let (_client, gauge) = gauged(&proxy);
    std::fs::rename(proxy.path("audit.jsonl"), proxy.path("audit.old")).unwrap();
    mknodat(CWD, proxy.path("audit.jsonl"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let reader = open(proxy.path("audit.jsonl"), OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
    proxy.signal(Signal::USR1);
    proxy.await_that("the new file", |proxy| proxy.log().contains("the audit files are opened anew").then_some(()));
    let commands = |text: &[u8]| text.split(|byte| *byte == b'\n').filter(|line| is_command(line)).count();
    let text = thread::scope(|scope| {
        let trickle = scope.spawn(move || {
            let (mut all, mut space) = (Vec::new(), [0; 4096]);
            let mut reader = std::fs::File::from(reader);
            let (mut waits, mut seen, mut counted) = (0, 0, 0);
            while seen < 8 * 2 * ROUNDS {
                match reader.read(&mut space) {
                    Ok(count) => all.extend_from_slice(&space[..count]),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
                let whole = all.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
                seen += commands(&all[counted..whole]);
                counted = whole;
                waits += 1;
                assert!(waits < 30_000, "some records never came");
                thread::sleep(Duration::from_millis(1));
            }
            all
        });
        for client in &mut clients {
            scope.spawn(move || {
                let some = [encode(&["GET", "big"]), encode(&["FLUSHALL"])].concat();
                client.send_raw(&some.repeat(ROUNDS));
                for _ in 0..ROUNDS {
                    assert_eq!(client.take(10_010).len(), 10_010);
                    assert!(client.reply().error().unwrap().starts_with("NOPERM"));
                }
            });
        }
        trickle.join().unwrap()
    });
    gauge.within(SHARED + 2 * PENS * QUEUE + 8 * OWN);
    let text = String::from_utf8(text).unwrap();
    let count = |word: &str| text.matches(word).count();
    assert_eq!((count("\"cmd\":\"GET\""), count("\"cmd\":\"FLUSHALL\"")), (8 * ROUNDS, 8 * ROUNDS));
}
