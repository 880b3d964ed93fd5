//! MONITOR through the proxy, as a real Redis shows it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use rustix::process::Signal;
use std::{
    fs,
    io::{Read, Write},
    net::Shutdown,
    process::Stdio,
};
use support::{
    client::Client,
    process::{PASSWORD, Proxy},
    redis::{Redis, Release},
    setup::Setup,
    wire::{Reply, Wire, encode},
};

/// A proxy whose policy denies nothing.
fn pair() -> (Redis, Proxy) {
    let redis = Redis::with_password(PASSWORD);
    let proxy = Proxy::with(&Setup::before(&redis).with(|setup| setup.more = "[policy]\ndeny = []\n"));
    (redis, proxy)
}

fn monitor(proxy: &Proxy) -> Client {
    let mut client = proxy.client();
    client.call(&["MONITOR"]).expect_ok();
    client
}

/// The next line a client is shown; its time is what nobody can foresee.
fn shown<S: Read + Write>(client: &mut Wire<S>) -> String {
    let Reply::Status(line) = client.reply() else { panic!("not a line") };
    line.split_once(' ').expect("a time").1.to_owned()
}

/// PING is answered, before or behind the line that shows it.
fn expect_pong(client: &mut Client) {
    client.send(&["PING"]);
    for _ in 0..100 {
        if client.reply() == Reply::Status("PONG".into()) {
            return;
        }
    }
    panic!("no PONG among a hundred lines");
}

#[test]
fn a_line_for_each_command_of_others_as_without_the_proxy() {
    let (redis, proxy) = pair();
    // Who connects while somebody monitors is shown with an AUTH.
    let (mut direct, mut other) = (redis.connect(), redis.connect());
    let mut through = monitor(&proxy);
    direct.call(&["MONITOR"]).expect_ok();
    let odd = "\r\n+1.0 [0 x] \"FLUSHALL\"\r\n\0\"\\";
    for words in [&["SET", "a", odd][..], &["GET", "a"], &["LPUSH", "l", "1", "2"], &["SET", "b", ""]] {
        other.send(words);
        other.reply();
        let mut line = shown(&mut through);
        if line.ends_with("\"MONITOR\"") {
            // Up to 2.8 it shows the MONITOR of others as well.
            line = shown(&mut through);
        }
        assert_eq!(line, shown(&mut direct));
        assert!(line.contains(&format!("\"{}\"", words[0])), "{line}");
    }
    expect_pong(&mut through);
}

#[test]
fn everything_but_ping_quit_and_reset_is_denied_and_recorded() {
    let (redis, proxy) = pair();
    let mut client = monitor(&proxy);
    let mut watcher = redis.connect();
    let mut processed = || -> u64 {
        let stats = watcher.call(&["INFO", "stats"]).text();
        let count = stats.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        count.expect("INFO stats counts commands").trim().parse().unwrap()
    };
    let before = processed();
    // Who asks is shown.
    while !shown(&mut client).contains("\"INFO\"") {}
    for words in
        [&["GET", "a"][..], &["MONITOR"], &["SUBSCRIBE", "a"], &["MULTI"], &["PING", "x"], &["CONFIG", "GET", "*"]]
    {
        let said = client.call(words);
        assert_eq!(said.error(), Some("ERR only PING, QUIT and RESET are taken while monitoring"), "{words:?}");
        proxy.await_record("command", |record| record["cmd"] == words[0] && record["rule"] == "builtin/in-stream");
    }
    assert_eq!(processed(), before + 1, "none of these reached Redis, only the question itself");
    client.send(&["QUIT"]);
    let rest = client.rest();
    assert!(rest.ends_with(b"+OK\r\n"), "{}", rest.escape_ascii());
    proxy.await_record("connection_close", |record| record["reason"] == "quit");
}

#[test]
fn reset_ends_the_lines_and_the_connection_is_an_ordinary_one_again() {
    let (redis, proxy) = pair();
    if redis.connect().call(&["RESET"]).error().is_some_and(|text| text.contains("unknown command")) {
        // Before 6.2 only the end of the connection ends MONITOR.
        let mut client = monitor(&proxy);
        assert!(client.call(&["RESET"]).error().is_some());
        return;
    }
    let mut client = monitor(&proxy);
    redis.connect().call(&["SET", "a", "1"]).expect_ok();
    client.send(&["RESET"]);
    while client.reply() != Reply::Status("RESET".into()) {}
    assert_eq!(client.call(&["GET", "a"]), Reply::Bulk(b"1".to_vec()));
    redis.connect().call(&["SET", "a", "2"]).expect_ok();
    assert_eq!(client.call(&["GET", "a"]), Reply::Bulk(b"2".to_vec()), "no line came between");
}

#[test]
fn client_reply_off_silences_the_lines_as_in_redis() {
    let (redis, proxy) = pair();
    if !Release::of_server().since(6, 2) {
        // Without RESET nothing tells that nothing came.
        return;
    }
    let mut other = redis.connect();
    let (mut through, mut direct) = (proxy.client(), redis.connect());
    let silent = [&["CLIENT", "REPLY", "OFF"][..], &["MONITOR"]].map(encode).concat();
    through.send_raw(&silent);
    direct.send_raw(&silent);
    proxy.await_record("command", |record| record["cmd"] == "MONITOR");
    other.call(&["SET", "a", "1"]).expect_ok();
    through.send(&["RESET"]);
    direct.send(&["RESET"]);
    assert_eq!((through.reply(), direct.reply()), (Reply::Status("RESET".into()), Reply::Status("RESET".into())));
}

#[test]
fn a_monitor_that_leaves_is_gone_from_redis_at_once() {
    let (redis, proxy) = pair();
    let mut client = monitor(&proxy);
    let stream = client.stream();
    stream.conn.send_close_notify();
    stream.conn.complete_io(&mut stream.sock).unwrap();
    stream.sock.shutdown(Shutdown::Write).unwrap();
    let record = proxy.await_record("connection_close", |record| record["commands"] == 2);
    assert_eq!(record["reason"], "client-closed", "{record}");
    assert!(!redis.connect().call(&["CLIENT", "LIST"]).text().contains("cmd=monitor"));
}

#[test]
fn a_drain_does_not_wait_for_a_monitor() {
    let (_redis, mut proxy) = pair();
    let mut client = monitor(&proxy);
    proxy.signal(Signal::TERM);
    assert_eq!(client.rest(), b"");
    assert!(proxy.await_end().success());
    let close = proxy.records("connection_close");
    assert_eq!(close.last().unwrap()["reason"], "drain");
}

#[test]
fn a_reload_that_denies_it_ends_it() {
    let (_redis, proxy) = pair();
    let mut client = monitor(&proxy);
    proxy.configure(&proxy.setup().with(|setup| setup.more = "[policy]\ndeny = [\"PSYNC\"]\n"));
    assert_eq!(proxy.reload()["result"], "swapped");
    expect_pong(&mut client);
    proxy.configure(&proxy.setup().with(|setup| setup.more = "[policy]\ndeny = [\"MONITOR\"]\n"));
    assert_eq!(proxy.reload()["result"], "swapped");
    // Its own PING was shown to it before.
    client.rest();
    proxy.await_record("connection_close", |record| record["reason"] == "revoked");
}

/// One line holds all arguments of a command, four bytes for one: longer than any reply's line may be.
#[test]
fn a_line_of_many_megabytes_passes_whole_in_little_memory() {
    let (redis, proxy) = pair();
    let mut other = redis.connect();
    let mut client = monitor(&proxy);
    let before = resident(&proxy);
    let value = vec![0; 8 << 20];
    other.send(&[b"SET", &b"big"[..], &value]);
    let mut line = client.take(4 * value.len());
    while !line.ends_with(b"\r\n") {
        line.extend(client.take(1));
    }
    assert!(line.starts_with(b"+") && line.ends_with(b"\\x00\\x00\"\r\n"), "{} bytes", line.len());
    assert_eq!(line.windows(4).filter(|four| four == b"\\x00").count(), value.len());
    other.reply().expect_ok();
    let more = resident(&proxy).saturating_sub(before);
    assert!(more < 8 * 1024, "{more} KiB more for a line of {} bytes", line.len());
}

/// The most memory the proxy has had resident, in KiB.
fn resident(proxy: &Proxy) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn redis_cli_shows_what_others_do() {
    let (redis, proxy) = pair();
    let mut child = proxy.redis_cli("app", 0).arg("MONITOR").stdout(Stdio::piped()).spawn().unwrap();
    proxy.await_record("command", |record| record["cmd"] == "MONITOR");
    redis.connect().call(&["SET", "seen", "by redis-cli"]).expect_ok();
    let (mut said, mut output) = (String::new(), child.stdout.take().unwrap());
    while !said.contains("\"seen\" \"by redis-cli\"") {
        let mut byte = [0; 256];
        let count = output.read(&mut byte).unwrap();
        assert!(count > 0, "redis-cli ended: {said}");
        said.push_str(&String::from_utf8_lossy(&byte[..count]));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
