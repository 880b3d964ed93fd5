//! A Redis that goes and comes back, loads, loses its master or changes its password; its alternatives; and the crowd that
//! comes back with it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use certs_dev::Pki;
use rustix::process::{Pid, Signal, kill_process};
use std::{io::Write as _, thread};
use support::{
    farside::{Farside, setup},
    process::{PASSWORD, Proxy},
    redis::{Redis, Release},
    setup::{Setup, write_secret},
    wire::encode,
};

/// Looks often, and believes the first good one.
const OFTEN: &str = ", health = { interval = \"100ms\", timeout = \"500ms\", failures = 2, successes = 1 }, \
                     backoff = { initial = \"10ms\", max = \"50ms\" }";

fn unix(redis: &Redis) -> String {
    format!("unix:{}", redis.socket().display())
}

/// Before the first, with the others as alternatives.
fn before(all: &[&Redis], more: &str) -> Setup {
    let others = all[1..].iter().map(|redis| format!("\"{}\"", unix(redis))).collect::<Vec<_>>().join(", ");
    setup(&unix(all[0]), &format!(", alternatives = [{others}]{more}"))
}

fn ready(proxy: &Proxy, expected: bool, said: &str) -> String {
    proxy.await_that(&format!("ready {expected}, with {said}"), |proxy| {
        let (status, page) = proxy.page("/readyz");
        ((status == 200) == expected && page.contains(said)).then_some(page)
    })
}

fn metric(proxy: &Proxy, line: &str) {
    proxy.await_that(line, |proxy| proxy.page("/metrics").1.lines().any(|each| each == line).then_some(()));
}

fn pid(redis: &Redis) -> Pid {
    Pid::from_raw(redis.pid().try_into().unwrap()).unwrap()
}

#[test]
fn new_connections_go_to_the_first_that_is_up_and_open_ones_stay_where_they_are() {
    let mut first = Redis::with_password(PASSWORD);
    let second = Redis::with_password(PASSWORD);
    first.connect().call(&["SET", "who", "first"]).expect_ok();
    second.connect().call(&["SET", "who", "second"]).expect_ok();
    let proxy = Proxy::with(&before(&[&first, &second], OFTEN));
    let who = |client: &mut support::client::Client| client.call(&["GET", "who"]).text();
    let mut old = proxy.client();
    assert_eq!(who(&mut old), "first");

    // It is stopped: nothing is refused, and nothing answered.
    kill_process(pid(&first), Signal::STOP).unwrap();
    let switch = proxy.await_record("upstream_switch", |_| true);
    assert_eq!((switch["service"].as_str(), switch["reason"].as_str()), (Some("cache"), Some("silent")), "{switch}");
    assert_eq!((switch["from"].as_str(), switch["to"].as_str()), (Some(&*unix(&first)), Some(&*unix(&second))));
    let mut new = proxy.client();
    assert_eq!(who(&mut new), "second");
    ready(&proxy, true, "ok upstream");
    metric(&proxy, "ravelin_upstream_used{service=\"cache\"} 1");

    // It goes on: the open connection never left it, and new ones return to it.
    kill_process(pid(&first), Signal::CONT).unwrap();
    let back = proxy.await_record("upstream_switch", |record| record["reason"] == "well");
    assert_eq!(back["to"].as_str(), Some(&*unix(&first)), "{back}");
    assert_eq!(who(&mut old), "first");
    assert_eq!(who(&mut new), "second");
    assert_eq!(who(&mut proxy.client()), "first");
    metric(&proxy, "ravelin_upstream_used{service=\"cache\"} 0");
    metric(&proxy, "ravelin_upstream_switches_total{service=\"cache\"} 2");

    // It ends: the next client does not even notice.
    old.send(&["SHUTDOWN", "NOSAVE"]);
    assert_eq!(old.rest(), b"");
    first.await_end();
    assert_eq!(who(&mut proxy.client()), "second");
    proxy.await_record("upstream_switch", |record| record["reason"] == "unreachable");
}

#[test]
fn readiness_follows_redis_and_says_why() {
    let redis = Redis::with_password(PASSWORD);
    let proxy = Proxy::with(&before(&[&redis], OFTEN));
    ready(&proxy, true, "ok upstream");
    metric(&proxy, "ravelin_upstream_up{service=\"cache\"} 1");
    // Its password becomes another: who is in stays in, a new client cannot come in, and the proxy says so.
    let mut client = proxy.client();
    redis.connect().call(&["CONFIG", "SET", "requirepass", "other"]).expect_ok();
    let said = ready(&proxy, false, "is there and not ready: ");
    assert!(said.contains("the Redis of service cache") && !said.contains(PASSWORD), "{said}");
    assert_eq!(client.call(&["PING"]).text(), "PONG");
    metric(&proxy, "ravelin_upstream_up{service=\"cache\"} 0");
    client.call(&["CONFIG", "SET", "requirepass", PASSWORD]).expect_ok();
    ready(&proxy, true, "ok upstream");
    kill_process(pid(&redis), Signal::STOP).unwrap();
    ready(&proxy, false, "it gave no answer within 500ms");
    kill_process(pid(&redis), Signal::CONT).unwrap();
    ready(&proxy, true, "ok upstream");
    assert_eq!(client.call(&["PING"]).text(), "PONG");
}

#[test]
fn a_redis_that_loads_its_data_is_there_and_not_ready_and_clients_hear_so_from_itself() {
    let redis = Redis::with(
        &["enable-debug-command yes", "key-load-delay 100", "loading-process-events-interval-bytes 1024"],
        Some(PASSWORD.as_bytes()),
    );
    let mut wire = redis.connect();
    if !Release::of_server().since(7, 0) {
        return;
    }
    wire.call(&["DEBUG", "POPULATE", "100000", "key", "100"]).expect_ok();
    let proxy = Proxy::with(&before(&[&redis], OFTEN));
    ready(&proxy, true, "ok upstream");
    wire.send(&["DEBUG", "RELOAD"]);
    ready(&proxy, false, "LOADING");
    let mut client = proxy.client_unless_loading();
    let said = client.call(&["GET", "a"]);
    assert!(said.error().is_none_or(|text| text.starts_with("LOADING")), "{said:?}");
    metric_seen(&proxy, "loading");
    // It loads for as long as it takes: that it can be left in the middle is the point.
    kill_process(pid(&redis), Signal::KILL).unwrap();
    ready(&proxy, false, "cannot be reached");
}

fn metric_seen(proxy: &Proxy, found: &str) {
    let start = format!("ravelin_upstream_looks_total{{found=\"{found}\",service=\"cache\"}} ");
    proxy.await_that(&start, |proxy| {
        proxy
            .page("/metrics")
            .1
            .lines()
            .find_map(|line| line.strip_prefix(&start))
            .filter(|count| *count != "0")
            .map(|_| ())
    });
}

impl Proxy {
    /// A client that is let in by a Redis which may refuse its first PING.
    fn client_unless_loading(&self) -> support::client::Client {
        let app = self.pki.client("app").unwrap();
        let mut client = self.shake(Some(&app)).unwrap();
        client.stream().flush().unwrap();
        client
    }
}

#[test]
fn a_replica_without_its_master_is_there_and_not_ready() {
    if !Release::of_server().since(7, 0) {
        return;
    }
    let master = Redis::with_password(PASSWORD);
    let replica = Redis::with(&[], Some(PASSWORD.as_bytes()));
    let proxy = Proxy::with(&before(&[&replica, &master], OFTEN));
    ready(&proxy, true, "ok upstream");
    let mut wire = replica.connect();
    wire.call(&["CONFIG", "SET", "replica-serve-stale-data", "no"]).expect_ok();
    wire.call(&["REPLICAOF", "127.0.0.1", "1"]).expect_ok();
    let switch = proxy.await_record("upstream_switch", |_| true);
    assert_eq!(switch["reason"], "masterdown", "{switch}");
    wire.call(&["REPLICAOF", "NO", "ONE"]).expect_ok();
    proxy.await_record("upstream_switch", |record| record["reason"] == "well");
}

#[test]
fn a_crowd_that_comes_back_is_let_through_a_few_at_a_time_and_everybody_gets_in() {
    const CROWD: usize = 60;
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new().unwrap();
    write_secret(&dir.path().join("ca.crt"), &pki.ca.cert);
    let farside = Farside::start(Some(&pki.server(&["127.0.0.1"]).unwrap()));
    let more = format!(
        ", set_name = false, tls = {{ ca = \"{}\" }}, connects = {{ at_once = 4 }}, connect_timeout = \"25s\"",
        dir.path().join("ca.crt").display()
    );
    let proxy = Proxy::with(&setup(&farside.address().to_string(), &more));
    let app = proxy.pki.client("app").unwrap();
    let mut clients: Vec<_> = (0..CROWD).map(|_| proxy.shake(Some(&app)).unwrap()).collect();
    for client in &mut clients {
        client.send(&["PING"]);
    }
    let greeting = encode(&["PING"]).len() + encode(&["AUTH", PASSWORD]).len();
    let mut served = Vec::new();
    while served.len() < CROWD {
        // No more come than may: four that nobody has answered, and then none.
        let few = (CROWD - served.len()).min(4);
        let mut coming: Vec<_> = (0..few).map(|_| farside.accept()).collect();
        metric(&proxy, &format!("ravelin_upstream_connecting{{service=\"cache\"}} {few}"));
        metric(&proxy, &format!("ravelin_upstream_waiting{{service=\"cache\"}} {}", CROWD - served.len() - few));
        assert!(farside.try_accept().is_none(), "a fifth has come");
        for redis in &mut coming {
            redis.take(greeting);
            redis.send_raw(b"-NOAUTH Authentication required.\r\n+OK\r\n");
        }
        served.append(&mut coming);
        if served.len() >= 12 {
            break;
        }
    }
    // The rest is answered as it comes.
    let rest = thread::spawn(move || {
        while served.len() < CROWD {
            served.push(farside.accept_greeted());
        }
        for redis in &mut served {
            redis.take(encode(&["PING"]).len());
            redis.send_raw(b"+PONG\r\n");
        }
        served
    });
    for client in &mut clients {
        assert_eq!(client.reply().text(), "PONG");
    }
    rest.join().unwrap();
    assert!(proxy.records("upstream_failed").is_empty());
}

#[test]
fn whoever_finds_no_room_to_wait_is_told_and_recorded() {
    let farside = Farside::start(None);
    let more = ", set_name = false, connects = { at_once = 1, waiting = 0 }";
    let proxy = Proxy::with(&setup(&farside.address().to_string(), more));
    let app = proxy.pki.client("app").unwrap();
    let mut first = proxy.shake(Some(&app)).unwrap();
    first.send(&["PING"]);
    let mut redis = farside.accept();
    let mut second = proxy.shake(Some(&app)).unwrap();
    assert_eq!(second.rest(), b"-ERR the Redis behind this proxy is unavailable\r\n");
    let failed = proxy.await_record("upstream_failed", |_| true);
    assert_eq!(failed["reason"], "busy", "{failed}");
    redis.take(encode(&["PING"]).len() + encode(&["AUTH", PASSWORD]).len());
    redis.send_raw(b"-NOAUTH Authentication required.\r\n+OK\r\n");
    redis.take(encode(&["PING"]).len());
    redis.send_raw(b"+PONG\r\n");
    assert_eq!(first.reply().text(), "PONG");
}

#[test]
fn clients_that_come_while_redis_is_away_get_in_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("redis.sock");
    let more = ", backoff = { initial = \"10ms\", max = \"100ms\" }, connect_timeout = \"20s\", health = { interval = \"100ms\" }";
    let redis = Redis::with_password(PASSWORD);
    std::os::unix::fs::symlink(redis.socket(), &socket).unwrap();
    let proxy = Proxy::with(&setup(&format!("unix:{}", socket.display()), more));
    assert_eq!(proxy.client().call(&["PING"]).text(), "PONG");
    std::fs::remove_file(&socket).unwrap();
    ready(&proxy, false, "cannot be reached");
    std::os::unix::fs::symlink(redis.socket(), &socket).unwrap();
    // Whoever comes now is in as soon as the next looks have found it, and is told nothing before.
    let answers: Vec<_> =
        (0..8).map(|_| proxy.client_unless_loading()).map(|mut client| client.call(&["PING"])).collect();
    assert!(answers.iter().all(|answer| answer.text_or_empty() == "PONG"), "{answers:?}");
}
