//! Long pipelines, and clients that end their side: everything that was asked is answered, in order, before the end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::io::Write as _;
use support::{
    client::Client,
    flow::half_close,
    process::{PASSWORD, Proxy},
    redis::{Redis, Release},
    wire::encode,
};

const MANY: usize = 100_000;
const NOPERM: &str = "-NOPERM this user has no permissions to run the 'flushall' command\r\n";

fn pair() -> (Redis, Proxy) {
    let redis = Redis::with_password(PASSWORD);
    let proxy = Proxy::start(&redis);
    (redis, proxy)
}

/// Takes exactly these bytes, and says where they begin to differ.
#[track_caller]
fn expect(client: &mut Client, bytes: &[u8]) {
    for (n, piece) in bytes.chunks(1 << 16).enumerate() {
        let got = client.take(piece.len());
        if got != piece {
            let at = got.iter().zip(piece).take_while(|(a, b)| a == b).count();
            let shown = |bytes: &[u8]| bytes[at.min(bytes.len())..].iter().take(80).copied().collect::<Vec<_>>();
            panic!("at {}: {} for {}", (n << 16) + at, shown(&got).escape_ascii(), shown(piece).escape_ascii());
        }
    }
}

/// The close of a connection must count so many commands.
fn expect_records(proxy: &Proxy, commands: usize, denied: usize) {
    let close = proxy.await_record("connection_close", |_| true);
    assert_eq!((&close["reason"], &close["commands"]), (&"client-closed".into(), &(commands + 1).into()), "{close}");
    assert_eq!(close["denied"], denied, "{close}");
    assert_eq!(proxy.audit_text().matches("\"event\":\"command\"").count(), commands + 1);
}

#[test]
fn a_hundred_thousand_commands_are_answered_in_order() {
    let (redis, proxy) = pair();
    let mut client = proxy.client();
    client.send_raw(&encode(&["INCR", "n"]).repeat(MANY));
    half_close(&mut client);
    expect(&mut client, (1..=MANY).map(|n| format!(":{n}\r\n")).collect::<String>().as_bytes());
    assert_eq!(client.rest(), b"");
    expect_records(&proxy, MANY, 0);
    assert_eq!(redis.calls_of("incr"), MANY as u64);
}

#[test]
fn a_hundred_thousand_commands_with_denials_among_them_are_answered_in_order() {
    let (redis, proxy) = pair();
    let mut client = proxy.client();
    let mut requests = Vec::new();
    let mut replies = String::new();
    let (mut ran, mut denied) = (0, 0);
    // Runs of every length up to a dozen of either kind.
    for n in 0..MANY {
        if (n * n / 7 + n / 12) % 3 == 0 {
            requests.extend(encode(&["FLUSHALL"]));
            replies += NOPERM;
            denied += 1;
        } else {
            requests.extend(encode(&["INCR", "n"]));
            ran += 1;
            replies += &format!(":{ran}\r\n");
        }
    }
    client.send_raw(&requests);
    half_close(&mut client);
    expect(&mut client, replies.as_bytes());
    assert_eq!(client.rest(), b"");
    expect_records(&proxy, MANY, denied);
    assert_eq!((redis.calls_of("incr"), redis.calls_of("flushall")), (ran, 0));
}

#[test]
fn a_transaction_of_a_hundred_thousand_commands_runs_whole_or_not_at_all() {
    let (redis, proxy) = pair();
    let mut client = proxy.client();
    let incr = encode(&["INCR", "n"]);
    let transaction = |denial: &[u8], half: usize| {
        [&encode(&["MULTI"])[..], &incr.repeat(half), denial, &incr.repeat(half), &encode(&["EXEC"])].concat()
    };
    client.send_raw(&[transaction(&encode(&["FLUSHALL"]), 1000), transaction(b"", MANY / 2)].concat());
    half_close(&mut client);
    let queued = "+QUEUED\r\n".repeat(1000);
    let aborted = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    expect(&mut client, format!("+OK\r\n{queued}{NOPERM}{queued}{aborted}").as_bytes());
    expect(&mut client, format!("+OK\r\n{}*{MANY}\r\n", "+QUEUED\r\n".repeat(MANY)).as_bytes());
    expect(&mut client, (1..=MANY).map(|n| format!(":{n}\r\n")).collect::<String>().as_bytes());
    assert_eq!(client.rest(), b"");
    expect_records(&proxy, MANY + 2005, 1);
    let release = Release::of_server();
    // Redis 3.2 counts what a transaction runs as its EXEC; the EXEC of the first one went up as DISCARD.
    let (name, calls) = if release.since(3, 2) && !release.since(4, 0) { ("exec", MANY + 1) } else { ("incr", MANY) };
    assert_eq!(redis.calls_of(name), calls as u64, "the first transaction ran nothing");
}

#[test]
fn a_client_that_ends_its_side_gets_megabytes_it_is_owed() {
    let (redis, proxy) = pair();
    let value = vec![b'v'; 4 << 20];
    redis.connect().call(&[b"SET", &b"big"[..], &value]).expect_ok();
    let mut client = proxy.client();
    let get = encode(&["GET", "big"]);
    client.send_raw(&[get.repeat(8), encode(&["FLUSHALL"]), encode(&["MULTI"]), get, encode(&["EXEC"])].concat());
    half_close(&mut client);
    let bulk = [format!("${}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat();
    for _ in 0..8 {
        expect(&mut client, &bulk);
    }
    expect(&mut client, format!("{NOPERM}+OK\r\n+QUEUED\r\n*1\r\n").as_bytes());
    expect(&mut client, &bulk);
    assert_eq!(client.rest(), b"");
    expect_records(&proxy, 12, 1);
}

/// A FIN without a `close_notify` counts as an end too (many clients never say it); what is not whole is dropped.
#[test]
fn a_client_that_ends_its_side_in_the_middle_of_a_command_gets_the_answers_before_it() {
    let (redis, proxy) = pair();
    for (unfinished, commands) in
        [(&b"*2\r\n$3\r\nGET\r\n$1"[..], 1), (b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100000\r\nxx", 2)]
    {
        let mut client = proxy.client();
        let closes = proxy.records("connection_close").len();
        client.send_raw(&[&encode(&["INCR", "n"])[..], unfinished].concat());
        let stream = client.stream();
        stream.flush().unwrap();
        stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(client.reply().integer() > 0);
        assert_eq!(client.rest(), b"");
        let close = proxy.await_that("the end", |proxy| proxy.records("connection_close").get(closes).cloned());
        assert_eq!(
            (&close["reason"], &close["commands"]),
            (&"client-closed".into(), &(commands + 1).into()),
            "{close}"
        );
    }
    let set = proxy.await_record("command", |record| record["cmd"] == "SET");
    assert_eq!(set["outcome"], "incomplete", "{set}");
    assert_eq!(redis.connect().call(&["EXISTS", "a"]).integer(), 0);
}
