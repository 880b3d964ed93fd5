//! What happens around Ravelin, to Redis, the disk, the certificates and itself: each with its declared outcome, nothing
//! acknowledged lost, nobody left hanging, and as much of the machine taken afterwards as before.
//!
//! The table of outcomes is `deploy/docs/failures.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use certs_dev::Leaf;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use support::{
    client::Client,
    clock::WallClock,
    footprint::{Footprint, gauge},
    process::{PASSWORD, PATIENCE, Proxy},
    redis::{Redis, Release},
    setup::Setup,
    wire::encode,
};

/// A Redis that has written down what it says it has done.
fn durable() -> Redis {
    Redis::with(&["appendonly yes", "appendfsync always"], Some(PASSWORD.as_bytes()))
}

/// A proxy before it that has served somebody, so that what is made once is made, and what it takes then. It looks at Redis by
/// itself, as it does in service, and more often.
fn settled(setup: &Setup, redis: &Redis) -> (Proxy, Footprint) {
    let mut setup = setup.clone();
    if setup.services[0].upstream.is_empty() {
        setup.services[0].upstream = ", health = { interval = \"500ms\" }";
    }
    let proxy = Proxy::with(&setup);
    let mut client = proxy.client();
    client.call(&[&b"SET"[..], b"settled", &vec![b'x'; 300_000]]).expect_ok();
    assert_eq!(client.call(&["GET", "settled"]).text().len(), 300_000);
    client.call(&["DEL", "settled"]);
    drop(client);
    proxy.await_record("connection_close", |_| true);
    proxy.await_that("no connection", |proxy| (gauge(proxy, "ravelin_connections") == 0).then_some(()));
    let footprint = Footprint::of(&proxy);
    footprint.await_return(&proxy, redis);
    (proxy, footprint)
}

/// Counts up with pipelines until the connection ends, in whatever way; how often it was told so.
fn count_up(mut client: Client, key: &str) -> i64 {
    let batch = encode(&["INCR", key]).repeat(20);
    let (mut text, mut told, mut sent) = (String::new(), 0, 0);
    let mut chunk = [0; 4096];
    loop {
        if told == sent {
            if client.stream().write_all(&batch).is_err() {
                return told;
            }
            sent += 20;
        }
        match client.stream().read(&mut chunk) {
            Ok(0) => return told,
            Ok(count) => text.push_str(std::str::from_utf8(&chunk[..count]).unwrap()),
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::WouldBlock, "a stuck connection");
                return told;
            }
        }
        while let Some((line, rest)) = text.split_once("\r\n") {
            match line.strip_prefix(':') {
                Some(value) => {
                    told += 1;
                    assert_eq!(value.parse(), Ok(told), "in order, each once");
                }
                // Said only of what was never sent.
                None => assert!(line.contains("before this command was sent"), "{line}"),
            }
            text = rest.to_owned();
        }
    }
}

#[test]
fn a_redis_that_ends_under_load_and_returns_has_all_that_was_acknowledged() {
    let mut redis = durable();
    let (proxy, before) = settled(&Setup::before(&redis), &redis);
    for (round, signal) in [Signal::KILL, Signal::TERM].into_iter().enumerate() {
        let keys: Vec<String> = (0..4).map(|number| format!("counter-{round}-{number}")).collect();
        let counters: Vec<_> = keys
            .iter()
            .map(|key| {
                let (client, key) = (proxy.client(), key.clone());
                thread::spawn(move || count_up(client, &key))
            })
            .collect();
        proxy.await_that("load", |_| (redis.calls_of("incr") > 200).then_some(()));
        redis.end_by(signal);
        let told: Vec<i64> = counters.into_iter().map(|counter| counter.join().unwrap()).collect();

        // While it is gone: a word for who comes, and readiness says so.
        let mut late = proxy.shake(Some(&proxy.pki.client("app").unwrap())).unwrap();
        assert!(late.reply().error().unwrap().contains("unavailable"));
        assert_eq!(late.rest(), b"");
        assert_eq!(proxy.page("/readyz").0, 503);

        redis.start_again();
        proxy.await_that("readiness", |proxy| (proxy.page("/readyz").0 == 200).then_some(()));
        let mut client = proxy.client();
        let records = proxy.records("command");
        for (key, told) in keys.iter().zip(&told) {
            let is: i64 = client.call(&["GET", key]).text().parse().unwrap();
            assert!((*told..=told + 20).contains(&is), "{told} were acknowledged, {is} are there");
            let of = |outcome: &str| {
                let is =
                    |record: &&serde_json::Value| record["keys"][0] == key.as_str() && record["outcome"] == outcome;
                i64::try_from(records.iter().filter(is).count()).unwrap()
            };
            assert_eq!(of("ran"), *told, "what was acknowledged is recorded as run, and nothing else");
            assert!(is - told <= of("unanswered"), "what may have run besides is recorded as unanswered");
        }
        drop(client);
        before.await_return(&proxy, &redis);
    }
    proxy.await_record("upstream_failed", |record| record["reason"] == "connect");
}

#[test]
fn a_redis_killed_in_the_middle_of_a_reply_ends_the_connection_without_a_word_into_it() {
    let mut redis = Redis::with_password(PASSWORD);
    let (proxy, before) = settled(&Setup::before(&redis), &redis);
    let mut client = proxy.client();
    let length = 64 << 20;
    client.call(&["SETRANGE", "big", &(length - 1).to_string(), "x"]).integer();
    client.send_raw(&[encode(&["GET", "big"]), encode(&["INCR", "behind"])].concat());
    let mut head = [0; 11];
    client.stream().read_exact(&mut head).unwrap();
    assert_eq!(&head, b"$67108864\r\n");
    redis.end_by(Signal::KILL);
    let rest = client.rest();
    assert!(rest.len() < length, "all {} bytes came", rest.len());
    assert!(rest.iter().all(|byte| *byte == 0), "something was said into the value");
    let close = proxy.await_record("connection_close", |record| record["reason"] == "upstream-closed");
    assert_eq!(close["commands"], 4, "PING, SETRANGE, GET, INCR: {close}");
    for name in ["GET", "INCR"] {
        let record = proxy.records("command").into_iter().rfind(|record| record["cmd"] == name).unwrap();
        assert_eq!(record["outcome"], "unanswered", "{record}");
    }
    redis.start_again();
    proxy.client().call(&["SET", "a", "1"]).expect_ok();
    before.await_return(&proxy, &redis);
}

#[test]
fn a_redis_that_stands_still_is_waited_for_and_goes_on_where_it_was() {
    let redis = Redis::with_password(PASSWORD);
    let limits = "upstream_connect_timeout = \"1s\"";
    let (proxy, before) = settled(&Setup { limits, ..Setup::before(&redis) }, &redis);
    let mut client = proxy.client();
    let redis_is = |signal| kill_process(Pid::from_raw(i32::try_from(redis.pid()).unwrap()).unwrap(), signal).unwrap();
    redis_is(Signal::STOP);
    client.send_raw(&encode(&["INCR", "counter"]).repeat(1000));
    client.stream().sock.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let error = client.stream().read(&mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "neither an answer nor an end: {error}");
    assert_eq!(proxy.page("/livez").0, 200, "the proxy itself lives");
    // Who comes now waits for the answer to AUTH as long as was configured, and is told.
    let mut late = proxy.shake(Some(&proxy.pki.client("app").unwrap())).unwrap();
    assert!(late.reply().error().unwrap().contains("unavailable"));
    assert_eq!(late.rest(), b"");
    proxy.await_record("upstream_failed", |record| record["reason"] == "timeout");
    client.stream().sock.set_read_timeout(Some(PATIENCE)).unwrap();
    redis_is(Signal::CONT);
    for expected in 1..=1000 {
        assert_eq!(client.reply().integer(), expected);
    }
    // The same by a command: what writes waits, and where a server can tell them apart, what reads goes on.
    match Release::of_server() {
        release if release.since(6, 2) => redis.connect().call(&["CLIENT", "PAUSE", "300", "WRITE"]).expect_ok(),
        release if release.since(3, 0) => redis.connect().call(&["CLIENT", "PAUSE", "300"]).expect_ok(),
        _ => {}
    }
    assert_eq!(client.call(&["GET", "counter"]).text(), "1000");
    assert_eq!(client.call(&["INCR", "counter"]).integer(), 1001);
    let record = proxy.await_record("command", |record| record["cmd"] == "GET" && record["keys"][0] == "counter");
    assert_eq!(record["outcome"], "ran");
    let slowest = proxy.records("command").iter().filter_map(|record| record["us"].as_u64()).max().unwrap();
    // Less than was waited for: the proxy had to read them first.
    assert!(slowest >= 100_000, "the wait is in the record: {slowest} us");
    assert_eq!(proxy.records("upstream_failed").len(), 1, "who was in has not seen a failure");
    drop(client);
    before.await_return(&proxy, &redis);
}

#[test]
fn a_socket_file_that_is_replaced_serves_who_is_in_and_is_judged_anew_for_who_comes() {
    let (redis, other) = (Redis::with_password(PASSWORD), Redis::with_password(PASSWORD));
    let (proxy, before) = settled(&Setup::before(&redis), &redis);
    let mut inside = proxy.client();
    inside.call(&["SET", "which", "the first"]).expect_ok();
    other.connect().call(&["SET", "which", "the second"]).expect_ok();
    let socket = redis.socket();
    let away = socket.with_extension("away");
    fs::rename(socket, &away).unwrap();
    let refused = |why: &str, reason: &str| {
        let failures = proxy.records("upstream_failed").len();
        let mut client = proxy.shake(Some(&proxy.pki.client("app").unwrap())).unwrap();
        assert!(client.reply().error().unwrap().contains("unavailable"));
        assert_eq!(client.rest(), b"");
        let record = proxy.await_that("a record", |proxy| proxy.records("upstream_failed").get(failures).cloned());
        assert_eq!(record["reason"], reason, "{record}");
        assert!(record["detail"].as_str().unwrap().contains(why), "{record}");
    };
    refused("No such file", "connect");
    fs::write(socket, "no socket").unwrap();
    refused("is not a socket", "connect");
    fs::remove_file(socket).unwrap();
    // Somebody else's, who would be glad of the password: nothing is said to it.
    let thief = std::os::unix::net::UnixListener::bind(socket).unwrap();
    fs::set_permissions(socket, fs::Permissions::from_mode(0o777)).unwrap();
    refused("is not trusted with the password", "permission");
    thief.set_nonblocking(true).unwrap();
    if let Ok((mut caught, _)) = thief.accept() {
        let mut heard = Vec::new();
        caught.read_to_end(&mut heard).unwrap();
        assert!(heard.is_empty(), "{}", heard.escape_ascii());
    }
    drop(thief);
    fs::remove_file(socket).unwrap();
    // A new Redis of ours.
    fs::rename(other.socket(), socket).unwrap();
    assert_eq!(proxy.client().call(&["GET", "which"]).text(), "the second");
    assert_eq!(inside.call(&["GET", "which"]).text(), "the first", "who is in keeps the Redis it had");
    drop(inside);
    fs::rename(socket, other.socket()).unwrap();
    fs::rename(&away, socket).unwrap();
    before.await_return(&proxy, &redis);
}

#[test]
fn a_disk_that_fills_up_stalls_commands_until_there_is_room_and_no_line_is_lost_or_split() {
    let redis = Redis::with_password(PASSWORD);
    let setup = Setup { file_kib: Some(64), audit: "queue = \"64KiB\"", ..Setup::before(&redis) };
    let (mut proxy, before) = settled(&setup, &redis);
    let client = proxy.client();
    let counter = thread::spawn(move || {
        let mut client = client;
        for expected in 1..=2000 {
            assert_eq!(client.call(&["INCR", "counter"]).integer(), expected);
        }
    });
    proxy.await_that("a full disk", |proxy| (proxy.page("/readyz").0 == 503).then_some(()));
    assert!(proxy.page("/readyz").1.contains("audit"), "{}", proxy.page("/readyz").1);
    // What is in the queue may still run; then nothing does.
    let mut ran = redis.calls_of("incr");
    proxy.await_that("a standstill", |_| {
        thread::sleep(Duration::from_millis(300));
        let last = std::mem::replace(&mut ran, redis.calls_of("incr"));
        (last == ran).then_some(())
    });
    assert!(ran < 2000 && !counter.is_finished(), "{ran} commands ran");
    assert_eq!(proxy.page("/livez").0, 200, "a full disk is no reason to restart the proxy");
    assert_eq!(fs::metadata(proxy.path("audit.jsonl")).unwrap().len(), 64 * 1024, "not a byte more");
    proxy.make_room();
    counter.join().unwrap();
    proxy.await_that("readiness", |proxy| (proxy.page("/readyz").0 == 200).then_some(()));
    proxy.await_record("sink_recovered", |_| true);
    before.await_return(&proxy, &redis);
    assert!(proxy.stop().success());
    let ran = proxy.records("command").iter().filter(|record| record["cmd"] == "INCR").count();
    assert_eq!(ran, 2000, "every command has its line, across the byte at which the disk was full");
}

#[test]
fn certificate_files_that_are_cut_short_during_a_reload_keep_the_old_pair() {
    let redis = Redis::with_password(PASSWORD);
    let (proxy, before) = settled(&Setup::before(&redis), &redis);
    let mut inside = proxy.client();
    let shown = |client: &mut Client| client.stream().conn.peer_certificates().unwrap()[0].to_vec();
    let old = shown(&mut inside);
    let renewed = proxy.pki.server(&["localhost"]).unwrap();
    for (file, text) in [("server.crt", &renewed.chain), ("server.key", &renewed.key), ("ca.crt", &proxy.pki.ca.cert)] {
        let whole = fs::read(proxy.path(file)).unwrap();
        for length in [0, 1, text.len() / 2, text.len() - 30] {
            fs::write(proxy.path(file), &text[..length]).unwrap();
            let record = proxy.reload();
            assert_eq!(record["result"], "kept", "{length} bytes of {file}: {record}");
            assert!(record["detail"].as_str().unwrap().contains(file), "{record}");
            let mut client = proxy.client();
            assert_eq!(shown(&mut client), old, "{length} bytes of {file}");
        }
        fs::write(proxy.path(file), whole).unwrap();
    }
    // Half way from one pair to the next.
    fs::write(proxy.path("server.crt"), &renewed.chain).unwrap();
    assert_eq!(proxy.reload()["result"], "kept");
    assert_eq!(shown(&mut proxy.client()), old);
    fs::write(proxy.path("server.key"), &renewed.key).unwrap();
    assert_eq!(proxy.reload()["result"], "swapped");
    assert_eq!(shown(&mut proxy.client()), renewed.der);
    assert_eq!(inside.call(&["PING"]).text(), "PONG", "who is in was never disturbed");
    drop(inside);
    before.await_return(&proxy, &redis);
}

#[test]
fn a_kill_of_the_proxy_and_a_restart_on_the_same_port_and_file_go_on_with_the_records() {
    let redis = durable();
    let setup = Setup { audit: "checkpoint = { every = \"1s\", lines = 100 }", ..Setup::before(&redis) };
    let (mut proxy, before) = settled(&setup, &redis);
    for round in 0..3 {
        let key = format!("counter-{round}");
        let client = proxy.client();
        let counter = thread::spawn({
            let key = key.clone();
            move || count_up(client, &key)
        });
        proxy.await_that("load", |_| (redis.connect().call(&["GET", &key]).text_or_empty().len() > 2).then_some(()));
        let calls = |redis: &Redis| redis.connect().call(&["GET", &key]).text().parse::<i64>().unwrap();
        proxy.kill_and_start_again();
        // Killed before it had come to that, it would have said nothing of itself.
        proxy.await_that("its start", |proxy| (proxy.records("start").len() == round + 2).then_some(()));
        let told = counter.join().unwrap();
        let is = calls(&redis);
        assert!(told <= is && is <= told + 40, "{told} were acknowledged, {is} are there");
        // The new process proves what the old one had, and serves.
        assert_eq!(proxy.client().call(&["GET", &key]).text(), is.to_string());
        verify(&proxy, "audit.jsonl");
        // No line was invented: as many ran as were counted, but for what had not been written.
        let ran = proxy.records("command").iter().filter(|record| record["keys"][0] == key.as_str()).count();
        assert!(i64::try_from(ran).unwrap() <= is + 41, "{ran} records of {is} commands");
    }
    before.await_return(&proxy, &redis);
    assert!(proxy.stop().success());
}

#[test]
fn a_thousand_clients_that_leave_at_once_leave_nothing_behind() {
    const CLIENTS: usize = 1000;
    allow_files(4096);
    let redis = Redis::with_password(PASSWORD);
    let limits = "max_connections_per_address = 0";
    let (proxy, before) = settled(&Setup { limits, files: Some(4096), ..Setup::before(&redis) }, &redis);
    let app = proxy.pki.client("app").unwrap();
    let tls = proxy.tls(Some(&app), rustls::ALL_VERSIONS);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| proxy.shake_with(&tls, proxy.socket()).unwrap()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.call(&["INCR", "in"]).integer();
        // Some of them in the middle of something.
        match number % 5 {
            0 => client.send(&["BLPOP", "never", "0"]),
            1 => drop(client.call(&["SUBSCRIBE", "channel"])),
            2 => drop(client.call(&["MULTI"])),
            3 => client.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$900000\r\nhalf a value"),
            _ => {}
        }
        // Half of them as a host does that is switched off in the middle of a FIN: by a reset.
        if number % 2 == 0 {
            socket2::SockRef::from(&client.stream().sock).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
    proxy.await_that("all of them", |proxy| (gauge(proxy, "ravelin_connections") == CLIENTS as u64).then_some(()));
    drop(clients);
    proxy.await_that("none of them", |proxy| (gauge(proxy, "ravelin_connections") == 0).then_some(()));
    proxy.await_that("a word about each", |proxy| {
        (proxy.records("connection_close").len() == CLIENTS + 1).then_some(())
    });
    assert_eq!(redis.blocked(), 0, "nobody's ghost waits in Redis");
    assert_eq!(redis.connect().call(&["PUBLISH", "channel", "x"]).integer(), 0);
    before.await_return(&proxy, &redis);
    let records = proxy.records("command");
    let ran = records.iter().filter(|record| record["cmd"] == "INCR" && record["outcome"] == "ran").count();
    assert_eq!(ran, CLIENTS);
    let of = |name: &str, outcome: &str| {
        records.iter().filter(|record| record["cmd"] == name && record["outcome"] == outcome).count()
    };
    assert_eq!(of("BLPOP", "unanswered"), CLIENTS / 5);
    proxy.client().call(&["SET", "a", "1"]).expect_ok();
}

/// Lets this process have so many open files.
fn allow_files(most: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < most) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum })
            .expect("1000 clients need more open files than this system allows; raise `ulimit -n -H`");
    }
}

#[test]
fn without_descriptors_who_is_in_is_served_and_all_of_them_come_back() {
    let redis = Redis::with_password(PASSWORD);
    let limits = "handshake_timeout = \"5m\"";
    let (proxy, before) = settled(&Setup { limits, files: Some(48), ..Setup::before(&redis) }, &redis);
    let mut inside = proxy.client();
    let sockets: Vec<_> = (0..60).map(|_| proxy.socket()).collect();
    let record = proxy.await_record("accept_error", |_| true);
    assert_eq!(record["reason"], "fd-limit");
    for expected in 1..=100 {
        assert_eq!(inside.call(&["INCR", "counter"]).integer(), expected);
    }
    drop(sockets);
    let app = proxy.pki.client("app").unwrap();
    proxy.await_that("somebody to be let in", |proxy| proxy.client_with(&app).ok());
    drop(inside);
    before.await_return(&proxy, &redis);
}

/// The file proves itself, from its first line to its last checkpoint.
fn verify(proxy: &Proxy, file: &str) {
    let verify = std::process::Command::new(support::process::program())
        .args(["audit", "verify", "--from-start"])
        .arg(proxy.path(file))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&verify.stdout).into_owned() + &String::from_utf8_lossy(&verify.stderr);
    assert!(verify.status.success(), "{said}");
}

const DAY: i64 = 24 * 3600;

/// The clock of the running process steps, by days in either direction: nobody notices but who reads dates.
#[test]
fn a_wall_clock_that_steps_ends_no_connection_hurries_no_deadline_and_is_seen_in_dates_alone() {
    let redis = durable();
    let clock = WallClock::new();
    let limits = "idle_timeout = \"1h\"\nhalf_command_timeout = \"1h\"\nmax_connection_age = \"1d\"\nfirst_byte_timeout = \"1h\"";
    let outputs = ", { file = { path = \"proved.jsonl\" }, checkpoint = { every = \"1s\", lines = 100 } }";
    let setup = Setup { limits, outputs, environment: clock.environment(), ..Setup::before(&redis) };
    let (mut proxy, before) = settled(&setup, &redis);
    let app = proxy.pki.issue(&Leaf::client("app").valid_days(-20, 20)).unwrap();
    let enter = || proxy.client_with(&app).unwrap();
    // One counts all the time; one waits, one is subscribed, one has said half a word, one nothing yet, one is in MULTI.
    let done = Arc::new(AtomicBool::new(false));
    let (mut pops, mut hears, mut half, mut silent, mut multi) =
        (enter(), enter(), enter(), proxy.shake(Some(&app)).unwrap(), enter());
    pops.send(&["BLPOP", "list", "0"]);
    hears.call(&["SUBSCRIBE", "news"]);
    half.stream().write_all(b"*2\r\n$3\r\nGET\r\n$1").unwrap();
    multi.call(&["MULTI"]).expect_ok();
    let counter = thread::spawn({
        let (mut client, done) = (enter(), Arc::clone(&done));
        move || {
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                count += 1;
                assert_eq!(client.call(&["INCR", "counter"]).integer(), count);
            }
            count
        }
    });
    let today = proxy.records("start")[0]["ts"].as_str().unwrap()[..10].to_owned();
    for (step, is_then) in [(2 * DAY, Day::Later), (-2 * DAY, Day::Earlier), (0, Day::Today)] {
        clock.is_off_by(step);
        let key = format!("at {step}");
        enter().call(&["SET", &key, "x"]).expect_ok();
        let set = proxy.await_record("command", |record| record["keys"][0] == key.as_str());
        assert_eq!(Day::of(set["ts"].as_str().unwrap(), &today), is_then, "the date is the clock's: {set}");
        assert_eq!((proxy.page("/readyz").0, proxy.page("/livez").0), (200, 200));
        let ran = redis.calls_of("incr");
        proxy.await_that("more commands", |_| (redis.calls_of("incr") > ran + 50).then_some(()));
    }
    done.store(true, Ordering::Relaxed);
    assert_eq!(counter.join().unwrap(), i64::try_from(redis.calls_of("incr")).unwrap());
    // All are where they were.
    enter().call(&["RPUSH", "list", "x"]).integer();
    assert_eq!(pops.reply().elements().len(), 2);
    enter().call(&["PUBLISH", "news", "x"]).integer();
    assert_eq!(hears.reply().elements().len(), 3);
    half.stream().write_all(b"\r\na\r\n").unwrap();
    assert!(half.reply().error().is_none());
    assert_eq!(silent.call(&["PING"]).text(), "PONG");
    assert_eq!(multi.call(&["EXEC"]).elements().len(), 0);
    let slowest = proxy.records("command").iter().filter_map(|record| record["us"].as_u64()).max().unwrap();
    assert!(slowest < 60_000_000, "no latency has a step in it: {slowest} us");

    // What is compared with a date is: certificates end with the clock, and are good again with it.
    clock.is_off_by(25 * DAY);
    assert_eq!(silent.rest(), b"", "its certificate ends in twenty days");
    proxy.await_record("connection_close", |record| record["reason"] == "revoked");
    assert!(proxy.client_with(&app).is_err());
    proxy.await_record("handshake_failure", |record| record["reason"] == "expired");
    clock.is_off_by(0);
    assert_eq!(proxy.client_with(&app).unwrap().call(&["PING"]).text(), "PONG");
    drop((pops, hears, half, multi));
    before.await_return(&proxy, &redis);
    clock.is_off_by(-3600);
    assert!(proxy.stop().success(), "a drain is not longer by an hour: {}", proxy.log());
    verify(&proxy, "proved.jsonl");
}

#[derive(Debug, PartialEq)]
enum Day {
    Earlier,
    Today,
    Later,
}

impl Day {
    /// Dates in UTC are in the order of their letters.
    fn of(ts: &str, today: &str) -> Self {
        match ts[..10].cmp(today) {
            std::cmp::Ordering::Less => Self::Earlier,
            std::cmp::Ordering::Equal => Self::Today,
            std::cmp::Ordering::Greater => Self::Later,
        }
    }
}

/// That its steps decide nothing else, even where no test has a process run into them (`session::tests`, `policy::bans` and
/// `audit::stamp` have time as a value): nobody asks it but where dates are what is asked for.
#[test]
fn the_wall_clock_is_asked_only_where_dates_are_compared_or_written() {
    let may = [
        // Where it is read.
        "src/net/clock.rs",
        "src/audit/sink/clock.rs",
        // What carries or writes it.
        "src/moment.rs",
        "src/audit/stamp.rs",
        "src/audit/record.rs",
        "src/audit/chain.rs",
        "src/audit/plain.rs",
        "src/audit/sink/proof.rs",
        "src/audit/sink/writer.rs",
        "src/metrics/collect.rs",
        "src/server.rs",
        "src/server/steward.rs",
        "src/net/service.rs",
        // Dates of certificates, and of files that are put aside by the hour.
        "src/policy/identity.rs",
        "src/server/start.rs",
        "src/net/seats.rs",
        "src/audit/sink/rotate.rs",
        // Commands that end by themselves.
        "src/cli/audit/select.rs",
        "src/cli/explain/who.rs",
    ];
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let product = text.split("#[cfg(test)]").next().unwrap();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let is_test = name.ends_with("tests.rs") || name.ends_with("script.rs") || name.ends_with("testing.rs");
            if !is_test && (product.contains("wall_us") || product.contains("SystemTime")) {
                found.push(name);
            }
        }
    }
    assert!(found.len() > 10, "{found:?}");
    found.retain(|name| !may.contains(&name.as_str()));
    assert_eq!(found, Vec::<String>::new(), "these ask the wall clock, which may step");
}
