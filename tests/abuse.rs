//! Who attacks before he is known, and after: slowly, in floods, with too much, without ever reading. Each time memory keeps
//! to a bound (`deploy/docs/memory.md`), places come free again, and a well-behaved client is served meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::disallowed_methods, clippy::cast_possible_truncation, reason = "tests")]

mod support;

use rustls::{ClientConnection, pki_types::ServerName};
use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use support::{
    flow::{Gauge, KIB, MIB},
    process::{PASSWORD, Proxy},
    proxied::{client_from, socket_from},
    redis::Redis,
    setup::Setup,
    wire::encode,
};

/// As in `flow_memory.rs`: what all connections share, and what an allocator keeps of it.
const SHARED: u64 = 2 * MIB;
/// A connection that has not come to TLS: its task, its place, its timer.
const WAITING: u64 = 8 * KIB;
/// A handshake under way: rustls' state for both directions, its buffers, and the future around it.
const SHAKING: u64 = 128 * KIB;

/// The well-behaved and the attacker.
const GOOD: [u8; 4] = [127, 0, 0, 1];
const BAD: [u8; 4] = [127, 0, 0, 66];
/// A balancer that was taken over.
const BALANCER: [u8; 4] = [127, 0, 9, 1];

fn redis() -> Redis {
    Redis::with_password(PASSWORD)
}

fn proxy(redis: &Redis, limits: &'static str) -> Proxy {
    let proxy = Proxy::with(&Setup { limits, ..Setup::before(redis) });
    warm(&proxy);
    proxy
}

/// Whatever the first clients cost, they have cost.
fn warm(proxy: &Proxy) {
    for _ in 0..4 {
        client_from(proxy, GOOD).unwrap().call(&["PING"]);
    }
}

/// A client comes, is answered, and leaves, within a second.
fn is_served(proxy: &Proxy) {
    let start = Instant::now();
    let mut client = client_from(proxy, GOOD).expect("a well-behaved client is let in");
    assert_eq!(client.call(&["PING"]).text(), "PONG");
    // An unoptimised build on a busy machine takes some hundred milliseconds for one alone.
    assert!(start.elapsed() < Duration::from_secs(4), "it took {:?}", start.elapsed());
}

/// A ClientHello as a real client sends it.
fn hello(proxy: &Proxy) -> Vec<u8> {
    let config = proxy.tls(None, rustls::ALL_VERSIONS);
    let mut client = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// Sends the bytes to all sockets, each a byte at a time with a pause behind each round, until they are sent or `stop`.
fn dribble(sockets: &mut [TcpStream], bytes: &[u8], stop: &AtomicBool) {
    for byte in bytes {
        for socket in &mut *sockets {
            // Whoever was sent away is sent away.
            let _ = socket.write_all(&[*byte]);
        }
        if stop.load(Ordering::Relaxed) {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Reads each socket to its end: nobody is left hanging.
fn all_end(sockets: Vec<TcpStream>) {
    for mut socket in sockets {
        let _ = socket.read_to_end(&mut Vec::new());
    }
}

/// `COUNT` sockets from there send these bytes, each a byte at a time, while somebody else is served; all of them end, each
/// with this record, and none took more than a place to wait in.
fn dribbles_harm_nobody(proxy: &Proxy, from: [u8; 4], bytes: &[u8], (event, reason): (&str, &str)) {
    const COUNT: usize = 250;
    let gauge = Gauge::start(proxy.pid());
    let mut sockets: Vec<TcpStream> = (0..COUNT).map(|_| socket_from(proxy, from)).collect();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| dribble(&mut sockets, bytes, &stop));
        for _ in 0..3 {
            is_served(proxy);
        }
        stop.store(true, Ordering::Relaxed);
    });
    all_end(sockets);
    proxy.await_that("a record of each", |proxy| {
        let found = proxy.records(event);
        (found.iter().filter(|record| record["reason"] == reason).count() == COUNT).then_some(())
    });
    gauge.within(SHARED + COUNT as u64 * WAITING);
    is_served(proxy);
}

#[test]
fn a_client_hello_a_byte_at_a_time_takes_no_place_among_handshakes() {
    let redis = redis();
    let proxy = proxy(&redis, "handshakes = 1\nhandshake_queue = 1\nhandshake_timeout = \"2s\"");
    dribbles_harm_nobody(&proxy, BAD, &hello(&proxy), ("handshake_failure", "timeout"));
}

#[test]
fn a_proxy_header_a_byte_at_a_time_ends_at_its_deadline() {
    let redis = redis();
    let mut setup = Setup::before(&redis);
    setup.services[0].listen = ", proxy_protocol = { trusted = [\"127.0.9.0/24\"], timeout = \"1s\" }";
    let proxy = Proxy::with(&setup);
    warm(&proxy);
    let bytes =
        ravelin::net::proxy_protocol::encode_v2(([127, 0, 0, 1], 5).into(), ([127, 0, 0, 2], 6).into(), &[b'i'; 128]);
    dribbles_harm_nobody(&proxy, BALANCER, &bytes, ("refused", "proxy-timeout"));
}

#[test]
fn half_commands_of_many_clients_end_and_disturb_nobody() {
    const COUNT: usize = 50;
    let redis = redis();
    let proxy = proxy(&redis, "half_command_timeout = \"1s\"");
    let mut clients: Vec<_> = (0..COUNT).map(|_| client_from(&proxy, BAD).unwrap()).collect();
    let gauge = Gauge::start(proxy.pid());
    // A byte a second, or faster, of a command that will take minutes.
    for byte in b"*3\r\n$3\r\nSET\r\n" {
        for client in &mut clients {
            let _ = client.stream().write_all(&[*byte]);
        }
        is_served(&proxy);
    }
    for mut client in clients {
        assert_eq!(client.rest(), b"");
    }
    proxy.await_that("a record of each", |proxy| {
        let closed = proxy.records("connection_close");
        (closed.iter().filter(|record| record["reason"] == "half-command-timeout").count() == COUNT).then_some(())
    });
    gauge.within(SHARED + COUNT as u64 * 16 * KIB);
}

#[test]
fn handshakes_that_stand_still_leave_a_place_for_others() {
    const COUNT: usize = 60;
    let redis = redis();
    let proxy = proxy(&redis, "handshakes = 8\nhandshake_queue = 20\nhandshake_timeout = \"4s\"");
    let gauge = Gauge::start(proxy.pid());
    let bytes = hello(&proxy);
    let mut sockets: Vec<TcpStream> = (0..COUNT).map(|_| socket_from(&proxy, BAD)).collect();
    for socket in &mut sockets {
        let _ = socket.write_all(&bytes);
    }
    // Four have a place, twenty wait, and the rest was sent away.
    proxy.await_that("a full queue", |proxy| {
        let refused = proxy.records("refused");
        (refused.iter().filter(|record| record["reason"] == "handshake-queue").count() >= COUNT - 24).then_some(())
    });
    for _ in 0..5 {
        is_served(&proxy);
    }
    all_end(sockets);
    gauge.within(SHARED + COUNT as u64 * WAITING + 8 * SHAKING);
    is_served(&proxy);
}

/// A share for each address alone would not do: several together would hold all places to the end of their time.
#[test]
fn handshakes_of_several_addresses_that_stand_still_leave_a_place_for_one_that_holds_none() {
    const ATTACKERS: u8 = 8;
    const EACH: usize = 12;
    let redis = redis();
    let proxy = proxy(&redis, "handshakes = 16\nhandshake_queue = 40\nhandshake_timeout = \"20s\"");
    let gauge = Gauge::start(proxy.pid());
    let bytes = hello(&proxy);
    let mut sockets = Vec::new();
    for attacker in 0..ATTACKERS {
        for _ in 0..EACH {
            let mut socket = socket_from(&proxy, [127, 0, 0, 100 + attacker]);
            let _ = socket.write_all(&bytes);
            sockets.push(socket);
        }
    }
    // The first has eight places and the others one each; forty wait, and the rest was sent away.
    proxy.await_that("a full queue", |proxy| {
        let refused = proxy.records("refused");
        let full = refused.iter().filter(|record| record["reason"] == "handshake-queue").count();
        (full >= usize::from(ATTACKERS) * EACH - 16 - 40).then_some(())
    });
    // Within seconds, while all of theirs stand where they stood.
    for _ in 0..5 {
        is_served(&proxy);
    }
    assert_eq!(proxy.records("handshake_failure").len(), 0, "nobody's time was over");
    gauge.within(SHARED + sockets.len() as u64 * WAITING + 16 * SHAKING);
    drop(sockets);
    is_served(&proxy);
}

#[test]
fn a_flood_of_handshakes_is_refused_before_it_costs_anything() {
    let redis = redis();
    let proxy = proxy(&redis, "handshakes_per_address = { rate = 10, burst = 20 }\nhandshakes = 8");
    let gauge = Gauge::start(proxy.pid());
    let bytes = Arc::new(hello(&proxy));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let mut socket = socket_from(&proxy, BAD);
                    let _ = socket.write_all(&bytes);
                    let _ = socket.read(&mut [0; 64]);
                }
            });
        }
        // The good one has a rate of its own.
        for _ in 0..5 {
            is_served(&proxy);
        }
    });
    let refused = proxy.await_that("all of their records", |proxy| {
        let refused = proxy.records("refused").iter().filter(|record| record["reason"] == "handshake-rate").count();
        (refused + proxy.records("handshake_failure").len() >= 400).then_some(refused)
    });
    assert!(refused >= 200, "{refused} of 400");
    gauge.within(SHARED + 8 * SHAKING);
}

#[test]
fn a_flood_of_connections_is_refused_at_the_door() {
    const COUNT: usize = 1500;
    let redis = redis();
    let proxy = proxy(&redis, "accepts_per_address = { rate = 20, burst = 50 }\nhandshake_timeout = \"1s\"");
    let gauge = Gauge::start(proxy.pid());
    thread::scope(|scope| {
        scope.spawn(|| {
            let sockets = (0..COUNT).map(|_| socket_from(&proxy, BAD)).collect();
            all_end(sockets);
        });
        for _ in 0..5 {
            is_served(&proxy);
        }
    });
    proxy.await_that("a record of each", |proxy| {
        let (refused, failed) = (proxy.records("refused").len(), proxy.records("handshake_failure").len());
        (refused + failed == COUNT && refused >= COUNT / 2).then_some(())
    });
    gauge.within(SHARED + 200 * WAITING);
    is_served(&proxy);
}

/// Connections that say nothing cost nothing but their place, and there are only so many of those.
#[test]
fn connections_of_several_addresses_that_say_nothing_keep_nobody_out() {
    const ATTACKERS: u8 = 8;
    const PLACES: usize = 30;
    let redis = redis();
    let proxy = proxy(&redis, "max_connections = 30\nhandshake_timeout = \"20s\"");
    let mut inside = client_from(&proxy, GOOD).unwrap();
    let gauge = Gauge::start(proxy.pid());
    let knock = |attacker: u8| socket_from(&proxy, [127, 0, 0, 100 + attacker]);
    let mut sockets: Vec<TcpStream> = (0..PLACES * 4).map(|n| knock(u8::try_from(n).unwrap() % ATTACKERS)).collect();
    proxy.await_that("a full house", |proxy| {
        let full = proxy.records("refused").iter().filter(|record| record["reason"] == "max-connections").count();
        (full >= PLACES * 3).then_some(())
    });
    for attacker in 0..ATTACKERS {
        is_served(&proxy);
        // Whatever place comes free is taken at once.
        sockets.extend([knock(attacker), knock(attacker)]);
    }
    assert_eq!(inside.call(&["PING"]).text(), "PONG", "who is in stays in");
    for record in proxy.records("refused") {
        assert!(!record["src"].as_str().unwrap().starts_with("127.0.0.1:"), "{record}");
    }
    assert_eq!(proxy.records("handshake_failure").len(), 0, "nobody's time was over");
    gauge.within(SHARED + PLACES as u64 * WAITING);
    drop(sockets);
    is_served(&proxy);
}

#[test]
fn a_giant_client_hello_is_refused_and_never_held() {
    const COUNT: usize = 40;
    let redis = redis();
    let proxy = proxy(&redis, "");
    let gauge = Gauge::start(proxy.pid());
    // Records of 16 KiB that say to be the parts of one message of 16 MiB.
    let first = [&[22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff][..], &vec![0; 16380]].concat();
    let next = [&[22, 3, 1, 0x40, 0][..], &vec![0; 16384]].concat();
    let mut sockets: Vec<TcpStream> = (0..COUNT).map(|_| socket_from(&proxy, BAD)).collect();
    for socket in &mut sockets {
        let _ = socket.write_all(&first);
        for _ in 0..20 {
            if socket.write_all(&next).is_err() {
                break;
            }
        }
        is_open_no_more(socket);
    }
    is_served(&proxy);
    proxy.await_that("a record of each", |proxy| (proxy.records("handshake_failure").len() == COUNT).then_some(()));
    gauge.within(SHARED + COUNT as u64 * 64 * KIB);
}

fn is_open_no_more(socket: &mut TcpStream) {
    let mut all = Vec::new();
    let _ = socket.read_to_end(&mut all);
    assert!(all.len() < 64, "an alert at most, not {} bytes", all.len());
}

#[test]
fn clients_that_never_read_leave_others_served() {
    const COUNT: usize = 4;
    let redis = redis();
    redis.connect().call(&[b"SET", &b"big"[..], &vec![b'x'; 100_000]]).expect_ok();
    let limits = "unanswered = \"64KiB\"\ntcp_user_timeout = \"2s\"";
    let proxy = Proxy::with(&Setup { limits, audit: "queue = \"256KiB\"", ..Setup::before(&redis) });
    warm(&proxy);
    let mut clients: Vec<_> = (0..COUNT).map(|_| client_from(&proxy, BAD).unwrap()).collect();
    let gauge = Gauge::start(proxy.pid());
    let some = encode(&["GET", "big"]).repeat(500);
    for client in &mut clients {
        client.stream().sock.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        while client.stream().write_all(&some).is_ok() {}
        is_served(&proxy);
    }
    // Each: what is on its way, and the slots of what it asked; and the records of two workers (see `flow_memory.rs`).
    gauge.within(SHARED + COUNT as u64 * (256 * KIB + 2 * 64 * KIB) + 2 * 4 * 256 * KIB);
    for client in &mut clients {
        let _ = client.stream().sock.set_read_timeout(Some(Duration::from_millis(1)));
    }
    proxy.await_that("the end of each", |proxy| {
        let closed = proxy.records("connection_close");
        let gone = |record: &&serde_json::Value| record["src"].as_str().unwrap().starts_with("127.0.0.66:");
        (closed.iter().filter(gone).count() == COUNT).then_some(())
    });
    is_served(&proxy);
}
