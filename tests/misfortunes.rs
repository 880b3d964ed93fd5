//! What happens around Ravelin, to Redis, the disk, the certificates and itself: each with its declared outcome, nothing
//! acknowledged lost, nobody left hanging, and as much of the machine taken afterwards as before.
//!
//! The table of outcomes is `deploy/docs/failures.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    thread,
    time::Duration,
};
use support::{
    client::Client,
    footprint::{gauge, settled},
    process::{PASSWORD, PATIENCE},
    redis::{Redis, Release},
    setup::Setup,
    wire::encode,
};

/// A Redis that has written down what it says it has done.
fn durable() -> Redis {
    Redis::with(&["appendonly yes", "appendfsync always"], Some(PASSWORD.as_bytes()))
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
        proxy.verify("audit.jsonl");
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
