//! The kinds of outputs behind the whole proxy: files that are rotated under load, receivers that go and come back, and
//! what a crash leaves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use rustix::process::Signal;
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use std::{
    collections::{HashMap, HashSet},
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    os::unix::net::{UnixDatagram, UnixListener, UnixStream},
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};
use support::{
    books,
    flow::{Gauge, MIB},
    process::{PATIENCE, Proxy, program},
    redis::Redis,
    setup::Setup,
    wire::encode,
};

/// `count` commands in a pipeline of a hundred, and what they were answered.
fn work(proxy: &Proxy, count: usize) {
    let mut client = proxy.client();
    for _ in 0..count / 100 {
        client.stream().write_all(&encode(&["PING"]).repeat(100)).unwrap();
        assert_eq!(client.take(700), b"+PONG\r\n".repeat(100));
    }
}

/// Several at once.
fn crowd(proxy: &Proxy, clients: usize, each: usize) {
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| work(proxy, each));
        }
    });
}

/// Lines by their writer.
fn by_writer(text: &str) -> HashMap<u64, Vec<&str>> {
    let mut found: HashMap<u64, Vec<&str>> = HashMap::new();
    for line in text.lines() {
        found.entry(books::parse(line)["w"].as_u64().unwrap()).or_default().push(line);
    }
    found
}

/// The text of a file and of all that were put aside for it, oldest first.
fn rotated(proxy: &Proxy, name: &str) -> (usize, String) {
    let aside = format!("{name}.");
    let entries = fs::read_dir(proxy.path("")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&aside)).collect();
    files.sort();
    files.push(proxy.path(name));
    (files.len(), files.iter().map(|path| fs::read_to_string(path).unwrap()).collect())
}

fn accept(listener: &UnixListener) -> UnixStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn metric(proxy: &Proxy, line: &str) -> u64 {
    let page = proxy.page("/metrics").1;
    let found = page.lines().find_map(|each| each.strip_prefix(line)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("{line}: {page}")).parse().unwrap()
}

#[test]
fn files_rotated_under_load_have_every_line_once() {
    let redis = Redis::start();
    let mut proxy = Proxy::with(&Setup {
        outputs: concat!(
            r#", { file = { path = "small.jsonl", rotate_size = "64KiB", rotate_every = "1s" } }"#,
            r#", { file = { path = "synced.jsonl", rotate_size = "1MiB", fsync = "always", keep = 1000 } }"#,
        ),
        ..Setup::before(&redis)
    });
    thread::scope(|scope| {
        let load = scope.spawn(|| crowd(&proxy, 4, 2500));
        while !load.is_finished() {
            // Whoever rotates from outside does no harm.
            proxy.signal(Signal::USR1);
            let seen = proxy.log().matches("opened anew").count();
            proxy.await_that("the signal's work", |proxy| {
                (load.is_finished() || proxy.log().matches("opened anew").count() > seen).then_some(())
            });
        }
    });
    assert!(proxy.stop().success());
    let whole = proxy.audit_text();
    let expected = by_writer(&whole);
    let commands = whole.lines().filter(|line| line.contains("\"event\":\"command\"")).count();
    assert_eq!(commands, 4 * 2501, "the greeting is a command too");
    for (name, least) in [("small.jsonl", 30), ("synced.jsonl", 3)] {
        let (files, text) = rotated(&proxy, name);
        assert!(files >= least, "{files} of {name}");
        assert!(text.ends_with('\n'));
        assert!(by_writer(&text) == expected, "{name} has other lines, or in another order");
    }
    assert!(!proxy.log().contains("cut off"));
}

#[test]
fn a_receiver_that_does_not_read_stalls_clients_and_not_memory() {
    const COMMANDS: usize = 12_000;
    let redis = Redis::start();
    let mut proxy = Proxy::with(&Setup {
        audit: "queue = \"64KiB\"",
        outputs: r#", { socket = { address = "unix:collector" } }"#,
        ..Setup::before(&redis)
    });
    let listener = UnixListener::bind(proxy.path("collector")).unwrap();
    let mut stream = accept(&listener);
    let gauge = Gauge::start(proxy.pid());
    let answered = AtomicUsize::new(0);
    let text = thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut client = proxy.client();
            for _ in 0..COMMANDS / 100 {
                client.stream().write_all(&encode(&["PING"]).repeat(100)).unwrap();
                assert_eq!(client.take(700), b"+PONG\r\n".repeat(100));
                answered.fetch_add(100, Ordering::SeqCst);
            }
        });
        proxy.await_that("the output counts as failing", |proxy| {
            (metric(proxy, "ravelin_audit_failing{output=\"socket\"}") == 1).then_some(())
        });
        assert!(!load.is_finished() && answered.load(Ordering::SeqCst) < COMMANDS / 2, "{answered:?}");
        // A pen each for two workers, the acceptor and the process itself.
        assert!(metric(&proxy, "ravelin_audit_queue_bytes{output=\"socket\"}") <= 4 * 64 * 1024);
        assert_eq!(proxy.page("/readyz").0, 503);
        let reader = scope.spawn(move || {
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        });
        load.join().unwrap();
        gauge.within(8 * MIB);
        proxy.await_record("sink_recovered", |record| {
            record["output"] == "socket" && record["reason"] == "the receiver does not read"
        });
        proxy.await_record("connection_close", |_| true);
        proxy.signal(Signal::TERM);
        reader.join().unwrap()
    });
    assert!(proxy.await_end().success());
    assert!(by_writer(&text) == by_writer(&proxy.audit_text()), "lines are missing, or in another order");
}

/// Every output that stalls must have the `begin` line, not only the first.
#[test]
fn a_command_that_blocks_waits_for_its_line_at_every_output() {
    let redis = Redis::start();
    let mut proxy =
        Proxy::with(&Setup { outputs: r#", { syslog = { address = "unix:syslog.sock" } }"#, ..Setup::before(&redis) });
    let mut client = proxy.client();
    assert_eq!(client.call(&["RPUSH", "list", "v"]).integer(), 1);
    client.send(&["BLPOP", "list", "0"]);
    proxy.await_record("begin", |record| record["cmd"] == "BLPOP");
    for _ in 0..20 {
        assert_eq!(metric(&proxy, "ravelin_audit_failing{output=\"syslog\"}"), 1);
        assert_eq!(redis.calls_of("blpop"), 0, "the line has not been written everywhere");
    }
    let receiver = UnixDatagram::bind(proxy.path("syslog.sock")).unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(client.reply().elements().len(), 2);
    assert_eq!(redis.calls_of("blpop"), 1);
    // The MSGID of each message up to the last.
    let reader = thread::spawn(move || {
        let (mut space, mut events) = ([0; 65536], Vec::new());
        while events.last().is_none_or(|event| event != "stop") {
            let length = receiver.recv(&mut space).unwrap();
            let text = String::from_utf8_lossy(&space[..length]);
            events.push(text.split(' ').nth(5).unwrap().to_owned());
        }
        events
    });
    drop(client);
    assert!(proxy.stop().success());
    let events = reader.join().unwrap();
    assert_eq!(events.iter().filter(|event| *event == "begin").count(), 1, "{events:?}");
}

#[test]
fn a_receiver_that_is_not_there_costs_records_where_that_is_asked_for_and_they_are_counted() {
    const COMMANDS: usize = 10_000;
    let redis = Redis::start();
    let mut proxy = Proxy::with(&Setup {
        audit: "queue = \"64KiB\"",
        outputs: r#", { socket = { address = "unix:collector" }, on_full = "drop" }"#,
        ..Setup::before(&redis)
    });
    work(&proxy, COMMANDS);
    proxy.await_record("connection_close", |_| true);
    assert_eq!(proxy.page("/readyz").0, 200, "what drops stops nobody");
    let listener = UnixListener::bind(proxy.path("collector")).unwrap();
    let mut stream = accept(&listener);
    let reader = thread::spawn(move || {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    proxy.await_that("the queue is empty", |proxy| {
        (metric(proxy, "ravelin_audit_queue_bytes{output=\"socket\"}") == 0).then_some(())
    });
    // Each worker tells its gap before the next line it has room for; connections go to the one that has the fewest.
    let clients: Vec<_> = (0..4).map(|_| proxy.client()).collect();
    drop(clients);
    let dropped = metric(&proxy, "ravelin_audit_dropped_total{output=\"socket\"}");
    assert!(proxy.stop().success());
    let lines: Vec<Value> = reader.join().unwrap().lines().map(books::parse).collect();
    let gaps = lines.iter().filter(|line| line["event"] == "gap");
    let told: u64 = gaps.map(|gap| gap["dropped"].as_u64().unwrap()).sum();
    assert!(dropped > COMMANDS as u64 / 2 && told == dropped, "{told} of {dropped}");
    let whole = proxy.audit_text().lines().count() as u64;
    let taken = lines.iter().filter(|line| line["event"] != "gap").count() as u64;
    assert_eq!(taken + dropped, whole);
}

#[test]
fn a_receiver_that_goes_and_comes_back_never_gets_half_a_line_at_the_front() {
    let redis = Redis::start();
    // A small buffer, so that what is lost with five connections is far from all there is.
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.set_recv_buffer_size(32 * 1024).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(8).unwrap();
    let listener = TcpListener::from(listener);
    let output = format!(r#", {{ socket = {{ address = "{}" }} }}"#, listener.local_addr().unwrap());
    let mut proxy = Proxy::with(&Setup { outputs: output.leak(), ..Setup::before(&redis) });
    let texts = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut texts = Vec::new();
            for connection in 0..6 {
                let mut reader = BufReader::new(listener.accept().unwrap().0);
                let mut text = String::new();
                if connection < 5 {
                    // Closed with more on its way: the rest of it is lost, as the documentation says.
                    for _ in 0..500 {
                        reader.read_line(&mut text).unwrap();
                    }
                } else {
                    reader.read_to_string(&mut text).unwrap();
                }
                texts.push(text);
            }
            texts
        });
        crowd(&proxy, 3, 5000);
        proxy.await_that("all connections are closed", |proxy| {
            (proxy.records("connection_close").len() == 3).then_some(())
        });
        proxy.signal(Signal::TERM);
        reader.join().unwrap()
    });
    assert!(proxy.await_end().success());
    let whole = proxy.audit_text();
    let known: HashSet<&str> = whole.lines().collect();
    let mut last: HashMap<u64, u64> = HashMap::new();
    for text in &texts {
        assert!(text.ends_with('\n') && text.lines().all(|line| known.contains(line)), "{text}");
        let mut before: HashMap<u64, u64> = HashMap::new();
        for line in text.lines().map(books::parse) {
            let (w, seq) = (line["w"].as_u64().unwrap(), line["seq"].as_u64().unwrap());
            assert!(last.insert(w, seq).is_none_or(|last| last < seq), "twice, or out of order: {line}");
            assert!(before.insert(w, seq).is_none_or(|last| last + 1 == seq), "a hole within a connection: {line}");
        }
    }
    assert_eq!(texts[5].lines().last(), whole.lines().last(), "the last connection goes to the end");
}

#[test]
fn syslog_receivers_get_each_record_as_a_message() {
    let redis = Redis::start();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let outputs = format!(
        r#", {{ syslog = {{ address = "unix:syslog.sock", facility = "audit", hostname = "cache-1" }} }}, {{ syslog = {{ address = "tcp:{}" }} }}"#,
        tcp.local_addr().unwrap()
    );
    let mut proxy = Proxy::with(&Setup { outputs: outputs.leak(), ..Setup::before(&redis) });
    let local = UnixDatagram::bind(proxy.path("syslog.sock")).unwrap();
    local.set_read_timeout(Some(PATIENCE)).unwrap();
    let (messages, stream) = thread::scope(|scope| {
        let datagrams = scope.spawn(|| {
            let mut space = [0; 65536];
            let mut messages = Vec::new();
            while !messages.last().is_some_and(|message: &String| message.contains("\"event\":\"stop\"")) {
                let length = local.recv(&mut space).unwrap();
                messages.push(String::from_utf8(space[..length].to_vec()).unwrap());
            }
            messages
        });
        let stream = scope.spawn(|| {
            let mut text = String::new();
            tcp.accept().unwrap().0.read_to_string(&mut text).unwrap();
            text
        });
        let mut client = proxy.client();
        client.call(&["SET", "schlüssel", "v"]).expect_ok();
        assert!(client.call(&["CONFIG", "SET", "dir", "/tmp"]).text().contains("NOPERM"));
        drop(client);
        assert!(proxy.shake(None).and_then(support::client::greeted).is_err());
        proxy.await_record("handshake_failure", |_| true);
        proxy.await_record("connection_close", |_| true);
        proxy.signal(Signal::TERM);
        (datagrams.join().unwrap(), stream.join().unwrap())
    });
    assert!(proxy.await_end().success());
    let whole = proxy.audit_text();
    let lines: HashSet<&str> = whole.lines().collect();
    let mut severities = HashMap::new();
    assert_eq!(messages.len(), lines.len());
    for message in &messages {
        let parts: Vec<&str> = message.splitn(8, ' ').collect();
        let record = books::parse(parts[7]);
        assert!(lines.contains(parts[7]), "{message}");
        assert_eq!(parts[1..4], [record["ts"].as_str().unwrap(), "cache-1", "ravelin"]);
        assert_eq!(parts[4..7], [proxy.pid().to_string().as_str(), record["event"].as_str().unwrap(), "-"]);
        severities.insert(format!("{} {}", record["event"], record["verdict"]), parts[0].to_owned());
    }
    for (event, priority) in [
        ("\"command\" \"allow\"", "<110>1"),
        ("\"command\" \"deny\"", "<108>1"),
        ("\"handshake_failure\" null", "<108>1"),
        ("\"start\" null", "<109>1"),
        ("\"connection_close\" null", "<110>1"),
    ] {
        assert_eq!(severities.get(event).map(String::as_str), Some(priority), "{event}");
    }
    // The same over TCP: octet counts, the default facility and this host's own name.
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let (mut rest, mut count) = (stream.as_str(), 0);
    while let Some((length, text)) = rest.split_once(' ') {
        let (message, after) = text.split_at(length.parse().expect("an octet count"));
        let parts: Vec<&str> = message.splitn(8, ' ').collect();
        assert_eq!(parts[2], host.trim());
        assert!(parts[0].starts_with("<13") && lines.contains(parts[7]), "{message}");
        (rest, count) = (after, count + 1);
    }
    assert_eq!((rest, count), ("", lines.len()));
}

#[test]
fn a_line_that_was_torn_by_a_crash_is_ended_by_the_next_process() {
    let redis = Redis::start();
    let mut proxy = Proxy::with(&Setup { outputs: r#", { file = { path = "torn.jsonl" } }"#, ..Setup::before(&redis) });
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut client = proxy.client();
            let (commands, mut replies) = (encode(&["PING"]).repeat(100), [0; 700]);
            // Until the process is gone.
            while client.stream().write_all(&commands).is_ok() && client.stream().read_exact(&mut replies).is_ok() {}
        });
        proxy.await_that("a thousand commands", |proxy| (proxy.records("command").len() > 1000).then_some(()));
        proxy.signal(Signal::KILL);
        load.join().unwrap();
    });
    assert!(!proxy.await_end().success());
    let torn = proxy.path("torn.jsonl");
    let file = fs::File::options().write(true).open(&torn).unwrap();
    // As a crash of the host would.
    file.set_len(file.metadata().unwrap().len() - 10).unwrap();
    let before = fs::read_to_string(&torn).unwrap();
    assert!(!before.ends_with('\n'));
    fs::rename(proxy.path("audit.jsonl"), proxy.path("audit.old")).unwrap();

    let mut again = Command::new(program())
        .arg("run")
        .arg("--config")
        .arg(proxy.path("ravelin.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(proxy.path("log")).unwrap())
        .spawn()
        .unwrap();
    proxy.await_that("the second start", |_| {
        let text = fs::read_to_string(&torn).unwrap();
        (text.ends_with('\n') && text[before.len()..].contains("\"event\":\"start\"")).then_some(())
    });
    again.kill().unwrap();
    again.wait().unwrap();
    let text = fs::read_to_string(&torn).unwrap();
    let behind = text.strip_prefix(&before).unwrap();
    assert!(behind.starts_with("\n{\"v\":1,"), "{behind}");
    let broken = text.lines().filter(|line| serde_json::from_str::<Value>(line).is_err()).count();
    assert_eq!(broken, 1, "the torn line alone");
    assert!(proxy.log().contains("cut off") && proxy.log().contains("file-2"), "{}", proxy.log());
}
