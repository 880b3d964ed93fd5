//! The PROXY protocol on both sides of the real program: who must say for whom it speaks, who may not, and what the address
//! that is named then decides.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use ravelin::net::proxy_protocol::{Read, Whom, encode_v2, local, read};
use serde_json::Value;
use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr},
    os::unix::net::UnixListener,
    thread,
    time::Duration,
};
use support::{
    process::{PASSWORD, PATIENCE, Proxy},
    proxied::{client_behind, client_from, socket_from},
    redis::Redis,
    setup::Setup,
};

/// Where the load balancer is.
const BALANCER: [u8; 4] = [127, 0, 9, 1];
const ELSEWHERE: [u8; 4] = [127, 0, 0, 7];

/// A proxy that trusts 127.0.9.0/24, and admits 10.0.0.0/8 and, directly, 127.0.0.0/24.
fn setup(redis: &Redis) -> Setup {
    let mut setup = Setup { allow: "[\"10.0.0.0/8\", \"fd00::/8\", \"127.0.0.0/24\"]", ..Setup::before(redis) };
    setup.services[0].listen = ", proxy_protocol = { trusted = [\"127.0.9.0/24\"], timeout = \"500ms\" }";
    setup
}

fn redis() -> Redis {
    Redis::with_password(PASSWORD)
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn header(src: &str) -> Vec<u8> {
    encode_v2(at(src), at("10.0.0.250:6380"), b"lb-1")
}

/// What stands in the next record `refused` after `act`, and that the client got no byte.
fn refused(proxy: &Proxy, act: impl FnOnce() -> Option<Vec<u8>>) -> Value {
    let before = proxy.records("refused").len();
    assert_eq!(act(), Some(Vec::new()), "not one byte is answered");
    proxy.await_that("a refusal", |proxy| proxy.records("refused").get(before).cloned())
}

/// Writes these bytes from that address, and reads to the end.
fn say(proxy: &Proxy, from: [u8; 4], bytes: &[u8]) -> Option<Vec<u8>> {
    let mut socket = socket_from(proxy, from);
    socket.write_all(bytes).ok()?;
    let mut all = Vec::new();
    // What is left unread when the socket is closed makes it a reset: not a byte either.
    let _ = socket.read_to_end(&mut all);
    Some(all)
}

#[test]
fn the_client_that_a_trusted_proxy_names_is_who_comes() {
    let redis = redis();
    let proxy = Proxy::with(&setup(&redis));
    for (bytes, src) in [
        (header("10.1.2.3:4711"), "10.1.2.3:4711"),
        (header("[fd00::5]:4711"), "[fd00::5]:4711"),
        (b"PROXY TCP4 10.1.2.4 10.0.0.250 5 6380\r\n".to_vec(), "10.1.2.4:5"),
        (b"PROXY TCP6 fd00::6 fd00::250 6 6380\r\n".to_vec(), "[fd00::6]:6"),
    ] {
        let mut client = client_behind(&proxy, BALANCER, &bytes).unwrap();
        assert_eq!(client.call(&["PING"]).text(), "PONG");
        let open = proxy.await_record("connection_open", |record| record["src"] == src);
        assert!(open["via"].as_str().unwrap().starts_with("127.0.9.1:"), "{open}");
        let names = open["proxy"].as_array().cloned().unwrap_or_default();
        assert_eq!(names, if bytes[0] == b'P' { vec![] } else { vec![Value::from("unique_id=lb-1")] }, "{open}");
        let ping = proxy.await_record("command", |record| record["src"] == src && record["cmd"] == "PING");
        assert_eq!(ping["outcome"], "ran");
    }
    // Whoever is not a proxy comes as himself.
    client_from(&proxy, ELSEWHERE).unwrap();
    let open =
        proxy.await_record("connection_open", |record| record["src"].as_str().unwrap().starts_with("127.0.0.7:"));
    assert!(open["via"].is_null() && open["proxy"].is_null(), "{open}");
}

#[test]
fn admission_bans_and_caps_go_by_the_address_that_is_named() {
    let redis = redis();
    let proxy = Proxy::with(&Setup { limits: "max_connections_per_address = 1", ..setup(&redis) });
    let record = refused(&proxy, || say(&proxy, BALANCER, &[&header("11.0.0.1:5")[..], b"\x16\x03"].concat()));
    assert_eq!((&record["reason"], &record["src"]), (&"address-not-allowed".into(), &"11.0.0.1:5".into()), "{record}");
    assert!(record["via"].as_str().unwrap().starts_with("127.0.9.1:"), "{record}");
    let _first = client_behind(&proxy, BALANCER, &header("10.0.0.1:5")).unwrap();
    let record = refused(&proxy, || say(&proxy, BALANCER, &header("10.0.0.1:6")));
    assert_eq!((&record["reason"], &record["src"]), (&"max-per-address".into(), &"10.0.0.1:6".into()), "{record}");
    client_behind(&proxy, BALANCER, &header("10.0.0.2:5")).expect("the proxy's own address has no cap");
    let (_, page) = proxy.page("/metrics");
    assert!(page.contains("ravelin_refused_total{service=\"cache\",reason=\"max-per-address\"} 1"), "{page}");
}

#[test]
fn a_header_is_mandatory_from_a_trusted_proxy_and_an_error_from_anybody_else() {
    let redis = redis();
    let proxy = Proxy::with(&setup(&redis));
    let pings = redis.calls_of("ping");
    let bad = {
        let mut bytes = header("10.0.0.1:5");
        *bytes.last_mut().unwrap() ^= 1;
        bytes
    };
    for (from, bytes, reason, detail) in [
        (BALANCER, &b"\x16\x03\x01\x00\x05"[..], "proxy-missing", "send-proxy-v2"),
        (BALANCER, b"*1\r\n$4\r\nPING\r\n", "proxy-missing", "send-proxy-v2"),
        (BALANCER, b"PROXY TCP4 1.2.3.4\r\n", "proxy-header", "two addresses"),
        (BALANCER, &bad, "proxy-header", "checksum"),
        (BALANCER, b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\0", "proxy-header", "0x31"),
        (BALANCER, &[header("10.0.0.1:5"), header("10.0.0.2:5")].concat(), "proxy-untrusted", "second header"),
        (ELSEWHERE, &header("10.0.0.1:5"), "proxy-untrusted", "does not name"),
        (ELSEWHERE, b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", "proxy-untrusted", "does not name"),
    ] {
        let record = refused(&proxy, || say(&proxy, from, bytes));
        assert_eq!(record["reason"], reason, "{record}");
        assert!(record["detail"].as_str().unwrap().contains(detail), "{record}");
        let own = SocketAddr::new(from.into(), 0).ip().to_string();
        let named =
            [&record["src"], &record["via"]].into_iter().filter_map(Value::as_str).any(|text| text.starts_with(&own));
        assert!(named, "who connected is in it: {record}");
    }
    assert_eq!(proxy.records("connection_open").len(), 0);
    assert_eq!(redis.calls_of("ping"), pings, "nothing of theirs reached Redis");
}

#[test]
fn a_proxy_that_says_nothing_or_only_half_is_refused_after_its_time() {
    let redis = redis();
    let proxy = Proxy::with(&setup(&redis));
    let bytes = header("10.0.0.1:5");
    for part in [&b""[..], &bytes[..bytes.len() - 1], b"PROXY TCP4 "] {
        let record = refused(&proxy, || say(&proxy, BALANCER, part));
        assert_eq!(record["reason"], "proxy-timeout", "{record}");
    }
}

#[test]
fn a_health_check_leaves_no_record_and_gets_no_further_than_the_proxy_itself_may() {
    let redis = redis();
    let proxy = Proxy::with(&setup(&redis));
    for check in [&local()[..], b"PROXY UNKNOWN\r\n"] {
        let mut socket = socket_from(&proxy, BALANCER);
        socket.write_all(check).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        assert_eq!((socket.read_to_end(&mut all).unwrap(), all.len()), (0, 0), "an orderly end");
        let record = refused(&proxy, || say(&proxy, BALANCER, &[check, b"\x16\x03"].concat()));
        assert_eq!(record["reason"], "address-not-allowed", "{record}");
        assert!(record["src"].as_str().unwrap().starts_with("127.0.9.1:") && record["via"].is_null(), "{record}");
    }
    assert_eq!((proxy.records("refused").len(), proxy.records("handshake_failure").len()), (2, 0));
    // One that is admitted itself may speak for itself.
    let mut own = setup(&redis);
    own.services[0].listen = ", proxy_protocol = { trusted = [\"127.0.0.7\"] }";
    let proxy = Proxy::with(&own);
    client_behind(&proxy, ELSEWHERE, &local()).unwrap();
    proxy.await_record("connection_open", |record| record["src"].as_str().unwrap().starts_with("127.0.0.7:"));
}

#[test]
fn a_header_that_comes_a_byte_at_a_time_is_the_same_header() {
    let redis = redis();
    let proxy = Proxy::with(&setup(&redis));
    let mut socket = socket_from(&proxy, BALANCER);
    for byte in header("10.3.3.3:5") {
        socket.write_all(&[byte]).unwrap();
    }
    support::proxied::client_over(&proxy, socket).unwrap();
    proxy.await_record("connection_open", |record| record["src"] == "10.3.3.3:5");
}

/// HAProxy's own words, in front of the real program.
#[test]
fn haproxy_speaks_to_us_in_both_versions() {
    let redis = redis();
    let proxy = Proxy::with(&setup(&redis));
    for (version, unique) in [("send-proxy", false), ("send-proxy-v2 proxy-v2-options crc32c,unique-id", true)] {
        let dir = tempfile::tempdir().unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let id = if unique { "  unique-id-format \"%[src]-%[src_port]\"\n" } else { "" };
        let text = format!(
            "global\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
             frontend f\n  bind {free}\n{id}  default_backend b\n\
             backend b\n  server s {} source 127.0.9.1 {version}\n",
            proxy.address()
        );
        let config = dir.path().join("haproxy.cfg");
        std::fs::write(&config, text).unwrap();
        let mut child = std::process::Command::new("haproxy").arg("-f").arg(&config).arg("-q").spawn().unwrap();
        let client = proxy.await_that("a way through HAProxy", |proxy| {
            let socket = std::net::TcpStream::connect(free).ok()?;
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            // It says for whom it speaks: an address that is not admitted would be refused, and 127.0.0.1 is.
            Some((socket.local_addr().unwrap(), support::proxied::client_over(proxy, socket).unwrap()))
        });
        let open = proxy.await_record("connection_open", |record| record["src"] == client.0.to_string());
        assert!(open["via"].as_str().unwrap().starts_with("127.0.9.1:"), "{open}");
        assert_eq!(open["proxy"].to_string().contains("unique_id=127.0.0.1-"), unique, "{open}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn an_upstream_that_wants_to_know_is_told_of_each_client_before_the_first_command() {
    let redis = redis();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("front.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let behind = redis.socket().to_path_buf();
    let (tell, told) = std::sync::mpsc::sync_channel(64);
    // A proxy before Redis: takes the header off and passes on the rest.
    thread::spawn(move || {
        while let Ok((mut front, _)) = listener.accept() {
            let (tell, behind) = (tell.clone(), behind.clone());
            thread::spawn(move || {
                let mut bytes = Vec::new();
                let mut byte = [0];
                let header = loop {
                    if front.read(&mut byte).unwrap_or(0) == 0 {
                        return;
                    }
                    bytes.push(byte[0]);
                    match read(&bytes) {
                        Ok(Read::More) => {}
                        Ok(Read::Whole { header, .. }) => break header,
                        other => panic!("{other:?} of {}", bytes.escape_ascii()),
                    }
                };
                tell.send(header).unwrap();
                let mut redis = std::os::unix::net::UnixStream::connect(&behind).unwrap();
                let (mut up, mut down) = (redis.try_clone().unwrap(), front.try_clone().unwrap());
                thread::spawn(move || std::io::copy(&mut redis, &mut down));
                let _ = std::io::copy(&mut front, &mut up);
            });
        }
    });
    let mut setup = setup(&redis);
    setup.services[0].address = format!("unix:{}", path.display());
    setup.services[0].upstream = ", proxy_protocol = \"v2\"";
    let proxy = Proxy::with(&setup);
    let mut client = client_behind(&proxy, BALANCER, &header("10.9.9.9:99")).unwrap();
    assert_eq!(client.call(&["SET", "a", "1"]).text(), "OK");
    let conn = proxy.await_record("connection_open", |_| true)["conn"].as_str().unwrap().to_owned();
    let mut headers = Vec::new();
    while let Ok(header) = told.recv_timeout(Duration::from_millis(1)) {
        headers.push(header);
    }
    let of_client = headers.iter().find(|header| header.whom != Whom::Proxy).expect("a header that names a client");
    assert_eq!(of_client.whom, Whom::Client { src: at("10.9.9.9:99"), dst: at("10.0.0.250:6380") });
    assert_eq!(of_client.tlvs.words(), [format!("unique_id={conn}")], "the name that records have");
}

#[test]
fn a_reload_changes_whom_a_listener_trusts_and_sends_away_who_came_on_the_word_of_one_it_does_not() {
    let redis = redis();
    let with = |listen| {
        let mut changed = setup(&redis);
        changed.services[0].listen = listen;
        changed
    };
    let proxy = Proxy::with(&with(""));
    let mut direct = client_from(&proxy, ELSEWHERE).unwrap();
    let record = refused(&proxy, || say(&proxy, BALANCER, &header("10.1.2.3:5")));
    assert_eq!(record["reason"], "address-not-allowed", "{record}");

    proxy.configure(&with(", proxy_protocol = { trusted = [\"127.0.9.0/24\"] }"));
    assert_eq!(proxy.reload()["result"], "swapped");
    let mut behind = client_behind(&proxy, BALANCER, &header("10.1.2.3:5")).unwrap();
    let open = proxy.await_record("connection_open", |record| record["src"] == "10.1.2.3:5");
    proxy.configure(&with(", proxy_protocol = { trusted = [\"127.0.9.1\"], timeout = \"300ms\" }"));
    assert_eq!(proxy.reload()["result"], "swapped");
    let record = refused(&proxy, || say(&proxy, BALANCER, b""));
    assert_eq!(record["reason"], "proxy-timeout", "{record}");
    assert_eq!(behind.call(&["PING"]).text(), "PONG", "its proxy is trusted still");

    proxy.configure(&with(", proxy_protocol = { trusted = [\"127.0.9.2\"] }"));
    assert_eq!(proxy.reload()["result"], "swapped");
    assert_eq!(behind.rest(), b"");
    let close = proxy.await_record("connection_close", |record| record["conn"] == open["conn"]);
    assert_eq!(close["reason"], "revoked", "{close}");
    assert!(proxy.log().contains("127.0.9.1 is not among the listener's trusted proxies"), "{}", proxy.log());
    let record = refused(&proxy, || say(&proxy, BALANCER, &header("10.1.2.3:6")));
    assert_eq!(record["reason"], "address-not-allowed", "{record}");
    assert_eq!(direct.call(&["PING"]).text(), "PONG", "who spoke for himself is as he was");
}
