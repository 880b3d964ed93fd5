//! Who is connected, what they are doing, and closing one: over the admin socket, by the program an operator uses.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use rustix::process::geteuid;
use serde_json::Value;
use std::{
    io::{ErrorKind, Read as _, Write as _},
    os::unix::{fs::MetadataExt as _, net::UnixStream},
};
use support::{
    process::{PASSWORD, Proxy},
    reading::{SOCKET, ravelin},
    redis::Redis,
    setup::Setup,
    wire::encode,
};

/// A proxy with an admin socket.
fn proxy(redis: &Redis) -> Proxy {
    Proxy::with(&Setup { more: SOCKET, ..Setup::before(redis) })
}

fn conns(proxy: &Proxy) -> Vec<Value> {
    let run = ravelin(proxy, &["conns", "--json"]);
    assert_eq!(run.code, 0, "{}", run.err);
    run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_connection_says_who_it_is_and_what_it_is_doing() {
    let redis = Redis::start();
    let proxy = proxy(&redis);
    assert_eq!(conns(&proxy), [Value::Null; 0]);
    let (mut idle, mut blocked, mut subscribed, mut inside) =
        (proxy.client(), proxy.client(), proxy.client(), proxy.client());
    idle.call(&["SET", "secret-key", "secret-value"]).expect_ok();
    assert!(idle.call(&["CONFIG", "GET", "*"]).text().contains("NOPERM"));
    blocked.stream().write_all(&encode(&["BLPOP", "secret-key-2", "0"])).unwrap();
    subscribed.call(&["SUBSCRIBE", "secret-channel"]);
    inside.call(&["MULTI"]).expect_ok();

    let found = proxy.await_that("all four at what they are doing", |proxy| {
        let mut found = conns(proxy);
        found.sort_by_key(|row| row["doing"].as_str().map(str::to_owned));
        let doing: Vec<_> = found.iter().map(|row| row["doing"].as_str().unwrap()).collect();
        (doing == ["command", "idle", "subscribed", "transaction"]).then_some(found)
    });
    assert_eq!((&found[0]["command"], &found[0]["unanswered"]), (&"BLPOP".into(), &1.into()));
    assert!(found[0]["waits_us"].as_u64().unwrap() > 0);
    let row = &found[1];
    assert_eq!((&row["last_command"], &row["unanswered"]), (&"CONFIG|GET".into(), &0.into()));
    assert_eq!((row["commands"].as_u64(), row["denied"].as_u64()), (Some(3), Some(1)), "{row}");
    for row in &found {
        assert_eq!((&row["identity"], &row["role"], &row["service"]), (&"app".into(), &"app".into(), &"cache".into()));
        assert!(row["src"].as_str().unwrap().starts_with("127.0.0.1:"));
        assert!(row["bytes_in"].as_u64().unwrap() > 0 && row["bytes_out"].is_u64());
        proxy.await_record("connection_open", |open| open["conn"] == row["conn"] && open["src"] == row["src"]);
        // RFC 3339, at or before the record.
        row["since"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    }
    let table = ravelin(&proxy, &["conns"]);
    for words in ["BLPOP for ", "idle ", "after CONFIG|GET", "subscribed, quiet ", "transaction, quiet ", "IDENTITY"] {
        assert!(table.out.contains(words), "{words} is missing in\n{}", table.out);
    }
    assert!(!table.out.contains('\x1b'), "no colours but on a terminal");
    let all = format!("{found:?}{}", table.out);
    for secret in ["secret-key", "secret-value", "secret-channel", PASSWORD] {
        assert!(!all.contains(secret), "{secret} is shown");
    }
}

#[test]
fn a_connection_is_closed_by_name_and_its_record_says_who_did_it() {
    let redis = Redis::start();
    let proxy = proxy(&redis);
    let (mut stays, mut goes) = (proxy.client(), proxy.client());
    // Its BLPOP waits for ever: closing does not.
    goes.stream().write_all(&encode(&["BLPOP", "k", "0"])).unwrap();
    let name = |row: &Value| row["conn"].as_str().unwrap().to_owned();
    let (conn, other) = proxy.await_that("the command", |proxy| {
        let found = conns(proxy);
        let (goes, stays): (Vec<_>, Vec<_>) = found.iter().partition(|row| row["command"] == "BLPOP");
        Some((name(goes.first()?), name(stays.first()?)))
    });
    let conn = conn.as_str();
    let run = ravelin(&proxy, &["conns", "close", conn]);
    assert_eq!((run.code, run.out.as_str()), (0, ""), "{}", run.err);
    // At once, so without a goodbye.
    let end = goes.stream().read(&mut [0; 1]).unwrap_err();
    assert_eq!(end.kind(), ErrorKind::UnexpectedEof, "{end}");
    let close = proxy.await_record("connection_close", |record| record["conn"] == conn);
    assert_eq!(close["reason"], "operator");
    let detail = close["detail"].as_str().unwrap();
    let uid = geteuid().as_raw();
    assert!(detail.starts_with(&format!("closed by user id {uid}, process ")), "{detail}");
    let blocked = proxy.await_record("command", |record| record["cmd"] == "BLPOP");
    assert_eq!(blocked["outcome"], "unanswered");
    assert!(proxy.log().contains("a connection is closed from the admin socket"), "{}", proxy.log());
    assert_eq!(stays.call(&["PING"]).text(), "PONG");

    let again = ravelin(&proxy, &["conns", "close", conn]);
    assert_eq!(again.code, 1);
    assert!(again.err.contains("there is no connection of that name"), "{}", again.err);
    let conn = other.as_str();
    assert_eq!(ravelin(&proxy, &["conns", "close", "--gently", conn]).code, 0);
    assert_eq!(stays.try_reply(), None);
    let close = proxy.await_record("connection_close", |record| record["conn"] == conn);
    assert_eq!(close["reason"], "operator");
}

#[test]
fn only_whoever_may_write_to_the_file_is_served_and_the_file_goes_with_the_process() {
    let redis = Redis::start();
    let mut proxy = proxy(&redis);
    let path = proxy.path("admin.sock");
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    let check = ravelin(&proxy, &["check", "--offline"]);
    let words = format!("{} (mode 0600): connections, live records and bans", path.display());
    assert!(check.code == 0 && check.out.contains(&words), "{}", check.out);
    // The address, which everybody on this host reaches, has nothing of it.
    for page in ["/conns", "/audit"] {
        assert_eq!(proxy.page(page).0, 404, "{page}");
    }
    let mut socket = UnixStream::connect(&path).unwrap();
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut page = String::new();
    socket.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 200 OK") && page.contains("ravelin_connections{"), "{page}");
    assert!(proxy.stop().success());
    assert!(!path.exists());
    let run = ravelin(&proxy, &["conns"]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("the proxy does not run, or its [admin] has another"), "{}", run.err);
}

#[test]
fn what_a_killed_process_left_is_no_obstacle_and_a_living_one_is() {
    let redis = Redis::start();
    let proxy = proxy(&redis);
    let path = proxy.path("admin.sock");
    let second = ravelin(&proxy, &["run"]);
    assert_eq!(second.code, 1);
    assert!(second.err.contains("another process answers there"), "{}", second.err);
    assert!(path.exists(), "the first one's is still there");
    assert_eq!(conns(&proxy).len(), 0);
}

#[test]
fn bans_are_listed_and_lifted_over_the_socket() {
    let redis = Redis::start();
    let proxy = proxy(&redis);
    let list = ravelin(&proxy, &["bans", "list"]);
    assert_eq!((list.code, list.out.as_str()), (0, ""), "{}", list.err);
    let one = ravelin(&proxy, &["bans", "clear", "2001:db8::1"]);
    assert_eq!(one.code, 1);
    assert!(one.err.contains("cleared 0"), "{}", one.err);
    let all = ravelin(&proxy, &["bans", "clear", "--all"]);
    assert_eq!((all.code, all.out.as_str()), (0, "cleared 0\n"), "{}", all.err);
}

#[test]
fn a_configuration_without_a_socket_says_what_to_write() {
    let redis = Redis::start();
    let proxy = Proxy::start(&redis);
    let run = ravelin(&proxy, &["conns"]);
    assert_eq!(run.code, 3);
    assert!(run.err.contains("names no admin socket: write `socket = { path ="), "{}", run.err);
}
