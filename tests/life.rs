//! From start to end: reload, drain, signals, exit codes, descriptors, a Redis that is lost, memory at rest.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::cast_possible_truncation, reason = "tests")]

mod support;

use certs_dev::Leaf;
use rustix::process::Signal;
use std::{
    fs,
    io::{Read, Write},
    process::Command,
    time::Duration,
};
use support::{
    client::{Client, greeted},
    process::{PASSWORD, Proxy},
    redis::Redis,
    setup::{Setup, write_secret},
    wire::{Reply, encode},
};

fn redis() -> Redis {
    Redis::with_password(PASSWORD)
}

#[test]
fn a_reload_swaps_everything_or_keeps_everything() {
    let redis = redis();
    let proxy = Proxy::start(&redis);
    let mut client = proxy.client();
    let record = proxy.reload();
    assert_eq!(record["result"], "swapped", "{record}");
    assert_eq!(client.call(&["PING"]).text(), "PONG", "a reload that changes nothing disturbs nobody");

    let certificate = fs::read(proxy.path("server.crt")).unwrap();
    fs::write(proxy.path("server.crt"), &proxy.pki.server(&["elsewhere"]).unwrap().chain).unwrap();
    let record = proxy.reload();
    assert_eq!(record["result"], "kept", "a certificate with another's key: {record}");
    proxy.await_that("a word about it", |proxy| {
        proxy.log().contains("not reloaded, the old configuration is kept").then_some(())
    });
    assert_eq!(proxy.client().call(&["PING"]).text(), "PONG");
    fs::write(proxy.path("server.crt"), certificate).unwrap();

    let strict = Setup { allow: "[\"10.0.0.0/8\"]", ..proxy.setup() };
    proxy.configure(&strict);
    assert_eq!(proxy.reload()["result"], "swapped");
    assert_eq!(client.rest(), b"", "who is not admitted any more is closed");
    proxy.await_record("connection_close", |record| record["reason"] == "revoked");
    let _ = proxy.socket().read_to_end(&mut Vec::new());
    proxy.await_record("refused", |record| record["reason"] == "address-not-allowed");
}

#[test]
fn a_certificate_revoked_by_a_reload_ends_its_live_connection_and_no_other() {
    let redis = redis();
    let proxy = Proxy::start(&redis);
    let bad = proxy.pki.client("app").unwrap();
    let mut revoked = proxy.client_with(&bad).unwrap();
    let mut other = proxy.client();
    fs::write(proxy.path("ca.crl"), proxy.pki.ca.crl(&[&bad.serial], 7).unwrap()).unwrap();
    proxy.configure(&proxy.setup());
    assert_eq!(proxy.reload()["result"], "swapped");
    assert_eq!(revoked.rest(), b"");
    assert_eq!(other.call(&["PING"]).text(), "PONG");
    assert!(proxy.client_with(&bad).is_err());
    proxy.await_record("handshake_failure", |record| record["reason"] == "revoked");
}

#[test]
fn a_reload_takes_new_certificates_and_a_new_password() {
    let redis = redis();
    let proxy = Proxy::start(&redis);
    let mut before = proxy.client();
    let shown = |client: &mut Client| client.stream().conn.peer_certificates().unwrap()[0].to_vec();

    let renewed = proxy.pki.server(&["localhost"]).unwrap();
    write_secret(&proxy.path("server.crt"), &renewed.chain);
    write_secret(&proxy.path("server.key"), &renewed.key);
    let mut direct = redis.connect();
    direct.call(&["CONFIG", "SET", "requirepass", "a new one"]).expect_ok();
    let mut setup = proxy.setup();
    setup.services[0].password = Some(b"a new one".to_vec());
    proxy.configure(&setup);
    assert_eq!(proxy.reload()["result"], "swapped");
    let mut after = proxy.client();
    after.call(&["SET", "a", "1"]).expect_ok();
    assert_eq!(shown(&mut after), renewed.der);
    assert_ne!(shown(&mut before), renewed.der);
    // Who was in stays in.
    before.call(&["SET", "a", "2"]).expect_ok();

    write_secret(&proxy.path("ca.crt"), &proxy.pki.other.cert);
    assert_eq!(proxy.reload()["result"], "swapped");
    assert_eq!(after.rest(), b"", "its CA is not trusted any more");
    assert_eq!(before.rest(), b"");
    let stranger = proxy.pki.other.issue(&Leaf::client("app")).unwrap();
    assert_eq!(proxy.client_with(&stranger).unwrap().call(&["GET", "a"]).text(), "2");
    assert!(proxy.client_with(&proxy.pki.client("app").unwrap()).is_err());
    proxy.await_record("handshake_failure", |record| record["reason"] == "unknown-ca");
}

#[test]
fn a_configuration_that_is_wrong_is_said_whole_and_not_run_or_taken_over() {
    let redis = redis();
    let proxy = Proxy::start(&redis);
    let good = fs::read_to_string(proxy.path("ravelin.toml")).unwrap();
    let bad = good.replace("workers = 2", "workers = 2\nno_such_key = 1\nidle_timeout = \"soon\"");
    fs::write(proxy.path("ravelin.toml"), &bad).unwrap();
    let record = proxy.reload();
    assert_eq!(record["result"], "kept", "{record}");
    let output =
        Command::new(env!("CARGO_BIN_EXE_ravelin")).arg("run").arg("-c").arg(proxy.path("ravelin.toml")).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stderr).unwrap();
    for word in ["ravelin.toml", "no_such_key", "idle_timeout"] {
        assert!(said.contains(word), "{word} is not in {said}");
    }
    assert_eq!(proxy.client().call(&["PING"]).text(), "PONG");
}

#[test]
fn a_change_that_needs_a_restart_is_refused_by_name() {
    let redis = redis();
    let proxy = Proxy::start(&redis);
    proxy.configure(&Setup { limits: "backlog = 5", ..proxy.setup() });
    let record = proxy.reload();
    assert_eq!(record["result"], "kept");
    assert!(record["detail"].as_str().unwrap().contains("limits.backlog"), "{record}");
}

#[test]
fn sigterm_under_load_answers_what_was_promised_and_exits_0() {
    let redis = redis();
    let mut proxy = Proxy::start(&redis);
    let clients: Vec<_> = (0..8).map(|_| proxy.client()).collect();
    let threads: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            std::thread::spawn(move || {
                let batch: Vec<u8> = (0..50).flat_map(|_| encode(&["INCR", "counter"])).collect();
                let mut answered = 0_u64;
                // Ends with the connection: by a write that fails or a reply that never comes.
                while client.stream().write_all(&batch).is_ok() {
                    for _ in 0..50 {
                        match client.try_reply() {
                            Some(Reply::Integer(_)) => answered += 1,
                            Some(other) => panic!("{other:?}"),
                            None => return answered,
                        }
                    }
                }
                answered
            })
        })
        .collect();
    proxy.await_that("load", |_| (redis.calls_of("incr") > 1000).then_some(()));
    assert!(proxy.stop().success(), "{}", proxy.log());
    let answered: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    let ran = redis.calls_of("incr");
    assert_eq!(answered, ran, "every command that Redis ran was answered, and none was answered that it did not run");
    let records = proxy.records("command");
    assert_eq!(
        records.iter().filter(|record| record["cmd"] == "INCR" && record["outcome"] == "ran").count() as u64,
        ran
    );
    let audit = proxy.audit();
    let last = audit.iter().rfind(|record| record["event"] == "stop").expect("a stop record");
    assert_eq!(last["reason"], "drained");
    assert_eq!(proxy.records("drain_end")[0]["aborted"], 0);
}

#[test]
fn a_client_that_reads_nothing_is_aborted_at_the_drain_deadline_and_the_exit_code_says_so() {
    let redis = redis();
    let limits = "drain_timeout = \"1s\"\nflush_timeout = \"60s\"";
    let mut proxy = Proxy::with(&Setup { limits, ..Setup::before(&redis) });
    let mut client = proxy.client();
    client.call(&[b"SET", &b"big"[..], &vec![b'x'; 32_000_000]]).expect_ok();
    client.send(&["GET", "big"]);
    proxy.await_that("the command to run", |_| (redis.calls_of("get") == 1).then_some(()));
    let status = proxy.stop();
    assert_eq!(status.code(), Some(1), "{}", proxy.log());
    assert_eq!(proxy.records("drain_end")[0]["aborted"], 1);
    assert_eq!(proxy.records("stop")[0]["reason"], "deadline");
    let close = &proxy.records("connection_close")[0];
    assert_eq!(close["reason"], "drain-deadline", "{close}");
    let get = proxy.records("command").into_iter().find(|record| record["cmd"] == "GET").unwrap();
    assert_eq!(get["outcome"], "unanswered", "{get}");
}

#[test]
fn a_second_signal_does_not_wait_for_the_deadline() {
    let redis = redis();
    let mut proxy = Proxy::with(&Setup { limits: "drain_timeout = \"10m\"", ..Setup::before(&redis) });
    let mut client = proxy.client();
    client.call(&[b"SET", &b"big"[..], &vec![b'x'; 32_000_000]]).expect_ok();
    client.send(&["GET", "big"]);
    proxy.await_that("the command to run", |_| (redis.calls_of("get") == 1).then_some(()));
    proxy.signal(Signal::TERM);
    proxy.await_record("drain_begin", |_| true);
    proxy.signal(Signal::HUP);
    proxy.await_that("a word about SIGHUP", |proxy| {
        proxy.log().contains("SIGHUP during a drain is ignored").then_some(())
    });
    assert_eq!(proxy.stop().code(), Some(1));
}

#[test]
fn a_client_that_only_waits_is_not_waited_for() {
    let redis = redis();
    let mut proxy = Proxy::start(&redis);
    let mut popper = proxy.client();
    popper.send(&["BLPOP", "queue", "0"]);
    let mut subscriber = proxy.client();
    subscriber.call(&["SUBSCRIBE", "channel"]);
    proxy.await_that("a blocked client", |_| (redis.blocked() == 1).then_some(()));
    assert!(proxy.stop().success(), "{}", proxy.log());
}

#[test]
fn running_out_of_descriptors_serves_those_who_are_in_and_recovers() {
    let redis = redis();
    // Nobody else gives a descriptor back in the meantime.
    let limits = "handshake_timeout = \"5m\"";
    let proxy = Proxy::with(&Setup { limits, files: Some(48), ..Setup::before(&redis) });
    let mut inside = proxy.client();
    let sockets: Vec<_> = (0..60).map(|_| proxy.socket()).collect();
    let record = proxy.await_record("accept_error", |_| true);
    assert_eq!(record["reason"], "fd-limit");
    for _ in 0..100 {
        assert_eq!(inside.call(&["PING"]).text(), "PONG");
    }
    assert_eq!(proxy.records("accept_error").len(), 1, "one record per episode");
    drop(sockets);
    let app = proxy.pki.client("app").unwrap();
    proxy.await_that("somebody to be let in", |proxy| proxy.client_with(&app).ok());
    proxy.await_that("a word about it", |proxy| proxy.log().contains("accepting again").then_some(()));
}

#[test]
fn a_redis_that_is_gone_is_said_and_recorded_and_noticed_when_it_is_back() {
    let redis = redis();
    let proxy = Proxy::start(&redis);
    assert_eq!(proxy.page("/readyz").0, 200);
    let mut live = proxy.client();
    let socket = redis.socket().to_path_buf();
    let away = socket.with_extension("away");
    fs::rename(&socket, &away).unwrap();
    let app = proxy.pki.client("app").unwrap();
    let mut late = proxy.shake(Some(&app)).unwrap();
    late.send(&["GET", "a"]);
    assert!(late.reply().error().unwrap().contains("unavailable"));
    assert_eq!(late.rest(), b"");
    let record = proxy.await_record("upstream_failed", |_| true);
    assert!(record["detail"].as_str().unwrap().contains("redis.sock"), "{record}");
    assert_eq!(proxy.page("/readyz").0, 503);
    assert_eq!(proxy.page("/livez").0, 200, "a lost Redis is no reason to restart the proxy");
    assert_eq!(live.call(&["PING"]).text(), "PONG", "the old connection is not concerned");
    fs::rename(&away, &socket).unwrap();
    proxy.await_that("readiness", |proxy| (proxy.page("/readyz").0 == 200).then_some(()));
}

#[test]
fn an_address_in_use_ends_the_start_with_code_1_and_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let redis = redis();
    let proxy = Proxy::start(&redis);
    let text = fs::read_to_string(proxy.path("ravelin.toml")).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let file = proxy.path("taken.toml");
    fs::write(&file, text.replacen("127.0.0.1:0", &address, 1)).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ravelin")).arg("run").arg("-c").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&address), "{said}");
}

#[test]
fn sigusr1_goes_on_in_a_new_audit_file_without_losing_a_line() {
    let redis = redis();
    let mut proxy = Proxy::start(&redis);
    let mut client = proxy.client();
    client.call(&["SET", "before", "1"]).expect_ok();
    proxy.await_record("command", |record| record["cmd"] == "SET");
    fs::rename(proxy.path("audit.jsonl"), proxy.path("audit.old")).unwrap();
    proxy.signal(Signal::USR1);
    proxy.await_that("the new file", |proxy| proxy.log().contains("the audit files are opened anew").then_some(()));
    // A line that was on its way when the signal came may still go to the old file; none may go to neither or both.
    let mut sent = 0;
    while proxy.audit().is_empty() {
        client.call(&["SET", "after", "1"]).expect_ok();
        sent += 1;
    }
    drop(client);
    assert!(proxy.stop().success());
    let old = fs::read_to_string(proxy.path("audit.old")).unwrap();
    let new = fs::read_to_string(proxy.path("audit.jsonl")).unwrap();
    assert!(old.contains("\"before\"") && !new.contains("\"before\""));
    assert_eq!(old.matches("\"after\"").count() + new.matches("\"after\"").count(), sent);
    let mut numbers: Vec<(u64, u64)> = [old, new]
        .concat()
        .lines()
        .map(|line| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            (record["w"].as_u64().unwrap(), record["seq"].as_u64().unwrap())
        })
        .collect();
    numbers.sort_unstable();
    for pair in numbers.windows(2) {
        assert!(pair[0].0 != pair[1].0 || pair[0].1 + 1 == pair[1].1, "a hole between {:?} and {:?}", pair[0], pair[1]);
    }
}

#[test]
fn an_idle_client_is_closed_after_its_time_and_a_waiting_one_is_not() {
    let redis = redis();
    let (limits, more) = ("idle_timeout = \"1s\"", "[policy]\ndeny = []");
    let proxy = Proxy::with(&Setup { limits, more, ..Setup::before(&redis) });
    let (mut waiting, mut hears, mut watches) = (proxy.client(), proxy.client(), proxy.client());
    waiting.send(&["BLPOP", "queue", "0"]);
    hears.call(&["SUBSCRIBE", "news"]);
    watches.call(&["MONITOR"]).expect_ok();
    let mut idle = proxy.client();
    assert_eq!(idle.rest(), b"");
    proxy.await_record("connection_close", |record| record["reason"] == "idle");
    std::thread::sleep(Duration::from_millis(1200));
    let mut server = redis.connect();
    server.call(&["RPUSH", "queue", "element"]);
    assert_eq!(waiting.reply().elements()[1].text(), "element");
    server.call(&["PUBLISH", "news", "x"]);
    assert_eq!(hears.reply().elements().len(), 3);
    while !watches.reply().text().contains("\"PUBLISH\"") {}
    assert_eq!(proxy.records("connection_close").len(), 1);
}

#[test]
fn a_policy_changed_by_a_reload_judges_live_connections_too() {
    let redis = redis();
    let proxy = Proxy::start(&redis);
    // New connections go to the worker that has fewest, so some of these share the worker of the one in a transaction.
    let mut others: Vec<_> = (0..4).map(|_| proxy.client()).collect();
    let mut inside = proxy.client();
    for client in &mut others {
        client.call(&["SET", "a", "1"]).expect_ok();
    }
    inside.call(&["MULTI"]).expect_ok();
    assert_eq!(inside.call(&["SET", "a", "2"]).text(), "QUEUED");
    let roles = "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\ndeny = [\"@write\"]";
    proxy.configure(&Setup { roles, ..proxy.setup() });
    assert_eq!(proxy.reload()["result"], "swapped");
    for client in &mut others {
        proxy.await_that("the new policy", |_| client.call(&["SET", "a", "3"]).error().map(str::to_owned));
        assert_eq!(client.call(&["PING"]).text(), "PONG");
    }
    let exec = inside.call(&["EXEC"]);
    assert!(exec.error().unwrap().starts_with("EXECABORT"), "{exec:?}");
    let record = proxy.await_record("command", |record| record["cmd"] == "SET" && record["verdict"] == "deny");
    assert_eq!(record["rule"], "deny:@write", "{record}");
}

/// The bound the project states for a connection at rest; what an allocator keeps of the busy moments before is in it.
const IDLE_BYTES: u64 = 16 * 1024;

#[test]
fn a_thousand_idle_connections_take_at_most_sixteen_kibibytes_each() {
    const CONNECTIONS: u64 = 1000;
    allow_files(4096);
    let redis = redis();
    let proxy =
        Proxy::with(&Setup { limits: "max_connections_per_address = 0", files: Some(4096), ..Setup::before(&redis) });
    let app = proxy.pki.client("app").unwrap();
    let mut tls = proxy.tls(Some(&app), &[&rustls::version::TLS13]);
    // Whole handshakes, as after a restart, not resumed ones.
    std::sync::Arc::make_mut(&mut tls).resumption = rustls::client::Resumption::disabled();
    let enter = || {
        let mut client = greeted(proxy.shake_with(&tls, proxy.socket()).unwrap()).unwrap();
        client.call(&[&b"SET"[..], b"a", &[b'x'; 64]]).expect_ok();
        assert_eq!(client.call(&["GET", "a"]).text().len(), 64);
        client
    };
    let resident = || -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    };
    // What the first ones cost besides: buffers that are shared, code that is paged in.
    let mut clients: Vec<_> = (0..100).map(|_| enter()).collect();
    let before = resident();
    clients.extend((0..CONNECTIONS).map(|_| enter()));
    let each = (resident() - before) / CONNECTIONS;
    eprintln!("{each} bytes per idle connection");
    assert!(each <= IDLE_BYTES, "{each} bytes per idle connection");
    for client in &mut clients {
        assert_eq!(client.call(&["PING"]).text(), "PONG");
    }
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
