//! Redis is lost at every point of a connection, in every way that a connection ends, in plain text and by TLS: nobody is
//! told an error for what may have run, nothing is sent twice, and every command has its record.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use certs_dev::Pki;
use serde_json::Value;
use support::{
    farside::{Ending, Farside, Line, end, setup},
    process::{PASSWORD, Proxy},
    setup::write_secret,
    wire::{Wire, encode},
};

const UNAVAILABLE: &str = "-ERR the Redis behind this proxy is unavailable\r\n";

/// A far side and a proxy before it.
struct World {
    farside: Farside,
    proxy: Proxy,
    endings: &'static [Ending],
    // Last: removed after the proxy is gone.
    _dir: tempfile::TempDir,
}

fn world(tls: bool) -> World {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new().unwrap();
    let issued = pki.server(&["localhost", "127.0.0.1"]).unwrap();
    let ca = dir.path().join("upstream-ca.crt");
    write_secret(&ca, &pki.ca.cert);
    let farside = Farside::start(tls.then_some(&issued));
    let more = if tls {
        format!(", set_name = false, tls = {{ ca = \"{}\" }}", ca.display())
    } else {
        ", set_name = false".into()
    };
    let proxy = Proxy::with(&setup(&farside.address().to_string(), &more));
    let endings: &[Ending] =
        if tls { &[Ending::Fin, Ending::Notify, Ending::Reset] } else { &[Ending::Fin, Ending::Reset] };
    World { farside, proxy, endings, _dir: dir }
}

impl World {
    /// A client that has shaken hands, and how many connections have closed before it.
    fn client(&self) -> (support::client::Client, usize) {
        let before = self.proxy.records("connection_close").len();
        let app = self.proxy.pki.client("app").unwrap();
        let mut client = self.proxy.shake(Some(&app)).unwrap();
        std::io::Write::flush(client.stream()).unwrap();
        (client, before)
    }

    fn close(&self, before: usize) -> Value {
        self.proxy.await_that("the close", |proxy| proxy.records("connection_close").get(before).cloned())
    }

    fn outcome(&self, command: &str) -> String {
        let records = self.proxy.records("command");
        let record = records.iter().rfind(|record| record["cmd"] == command);
        record.unwrap_or_else(|| panic!("no record of {command}"))["outcome"].as_str().unwrap().to_owned()
    }
}

fn hears(redis: &mut Wire<Line>, words: &[&str]) {
    let expected = encode(words);
    assert_eq!(redis.take(expected.len()).escape_ascii().to_string(), expected.escape_ascii().to_string());
}

fn text(bytes: Vec<u8>) -> String {
    bytes.escape_ascii().to_string()
}

fn before_and_during_the_greeting(tls: bool) {
    let world = world(tls);
    for how in world.endings {
        // Before anything is answered, within the answer to PING, within the one to AUTH.
        for said in [&b""[..], b"-NOAU", b"-NOAUTH Authentication required.\r\n", b"-NOAUTH x\r\n+O"] {
            let (mut client, before) = world.client();
            let mut redis = world.farside.accept();
            hears(&mut redis, &["PING"]);
            hears(&mut redis, &["AUTH", PASSWORD]);
            redis.send_raw(said);
            end(redis, *how);
            // Not one byte of the client's has been sent, so it may be told.
            assert_eq!(
                text(client.rest()),
                UNAVAILABLE.as_bytes().escape_ascii().to_string(),
                "{how:?} after {said:?}"
            );
            assert_eq!(world.close(before)["reason"], "upstream-auth");
        }
    }
}

fn after_the_greeting(tls: bool) {
    let world = world(tls);
    let big = "v".repeat(300_000);
    type Case<'a> = (&'a [&'a [&'a str]], &'a [u8], &'a str, &'a str);
    let table: &[Case<'_>] = &[
        // Nothing is asked.
        (&[], b"", "", ""),
        // Asked and not answered; answered in part; between two answers.
        (&[&["INCR", "a"]], b"", "INCR", "unanswered"),
        (&[&["GET", "a"]], b"$5\r\nab", "GET", "unanswered"),
        (&[&["SET", "a", "1"], &["INCR", "b"]], b"+OK\r\n", "INCR", "unanswered"),
        (&[&["SET", "a", &big]], b"", "SET", "unanswered"),
    ];
    for how in world.endings {
        for (heard, said, command, became) in table {
            let (mut client, before) = world.client();
            let mut redis = world.farside.accept_greeted();
            client.send_raw(&heard.iter().flat_map(|words| encode(words)).collect::<Vec<_>>());
            for words in *heard {
                hears(&mut redis, words);
            }
            redis.send_raw(said);
            if *how == Ending::Reset && !said.is_empty() {
                // A reset may overtake what was said before it: let that arrive.
                assert_eq!(client.take(said.len()), *said);
                end(redis, *how);
                assert_eq!(text(client.rest()), "", "{how:?} {heard:?}");
            } else {
                end(redis, *how);
                assert_eq!(text(client.rest()), text(said.to_vec()), "{how:?} {heard:?}");
            }
            let close = world.close(before);
            assert_eq!(close["reason"], "upstream-closed", "{close}");
            if !command.is_empty() {
                assert_eq!(world.outcome(command), *became, "{how:?} {heard:?}");
            }
        }
    }
    nothing_is_replayed(&world);
}

/// Whoever comes next finds a connection on which nothing of the others is said.
fn nothing_is_replayed(world: &World) {
    let (mut client, _) = world.client();
    let mut redis = world.farside.accept_greeted();
    client.send(&["GET", "next"]);
    hears(&mut redis, &["GET", "next"]);
    redis.send_raw(b"$4\r\nonly\r\n");
    assert_eq!(client.reply().text(), "only");
}

fn half_written(tls: bool) {
    let world = world(tls);
    for how in world.endings {
        let (mut client, before) = world.client();
        let mut redis = world.farside.accept_greeted();
        // More than both sockets and the proxy hold, and one behind it that is never sent.
        let value = "v".repeat(24 << 20);
        let sent = std::thread::scope(|scope| {
            let writes = scope.spawn(|| {
                let all = [encode(&["SET", "a", &value]), encode(&["INCR", "behind"])].concat();
                // The proxy hangs up in the middle of it.
                let _ = std::io::Write::write_all(client.stream(), &all);
                client
            });
            // Some of it has come, and no more is read.
            assert_eq!(redis.take(100_000).len(), 100_000);
            end_unread(redis, *how);
            writes.join().unwrap()
        });
        let mut client = sent;
        let told = String::from_utf8(client.rest()).unwrap();
        let close = world.close(before);
        assert_eq!(close["reason"], "upstream-closed", "{close}");
        // What never was handed over whole cannot have run, and may be told so; what was may have, and is not.
        match world.outcome("SET").as_str() {
            "incomplete" => assert_eq!(told, "-ERR the connection to Redis was lost before this command was sent\r\n"),
            became => assert_eq!((became, &*told), ("unanswered", ""), "{how:?}"),
        }
    }
    nothing_is_replayed(&world);
}

/// Ends a connection with bytes unread: whatever was meant, the other side sees a reset.
fn end_unread(mut redis: Wire<Line>, how: Ending) {
    if how == Ending::Reset {
        end(redis, how);
    } else {
        std::io::Write::flush(redis.stream()).unwrap();
        drop(redis);
    }
}

#[test]
fn in_plain_text_before_and_during_the_greeting() {
    before_and_during_the_greeting(false);
}

#[test]
fn by_tls_before_and_during_the_greeting() {
    before_and_during_the_greeting(true);
}

#[test]
fn in_plain_text_after_the_greeting() {
    after_the_greeting(false);
}

#[test]
fn by_tls_after_the_greeting() {
    after_the_greeting(true);
}

#[test]
fn in_plain_text_with_a_request_half_written() {
    half_written(false);
}

#[test]
fn by_tls_with_a_request_half_written() {
    half_written(true);
}
