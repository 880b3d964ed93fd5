//! `ravelin audit tail` and `audit stats` over what a real proxy writes: from files, standard input and the live process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use rustix::{
    fs::{Mode, OFlags, open},
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use serde_json::Value;
use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::UnixStream,
    process::{Child, ChildStdout, Stdio},
};
use support::{
    process::{PATIENCE, Proxy},
    reading::{SOCKET, command, ravelin, ravelin_reading},
    redis::Redis,
    setup::Setup,
    wire::encode,
};

/// A proxy that writes both shapes, and has been used.
fn used(redis: &Redis) -> Proxy {
    let setup = Setup {
        outputs: r#", { file = { path = "compact.jsonl" }, name = "short", shape = "compact" }"#,
        more: SOCKET,
        ..Setup::before(redis)
    };
    let proxy = Proxy::with(&setup);
    let mut client = proxy.client();
    client.call(&["SET", "user:17", "v"]).expect_ok();
    assert_eq!(client.call(&["GET", "user:17"]).text(), "v");
    assert!(client.call(&["LPUSH", "user:17", "x"]).text().contains("WRONGTYPE"));
    for _ in 0..3 {
        assert!(client.call(&["CONFIG", "SET", "dir", "/tmp"]).text().contains("NOPERM"));
    }
    assert!(client.call(&["NoSuch\x1b[2J\u{202e}"]).text().contains("NOPERM"));
    drop(client);
    let closed = |text: String| text.contains("\"event\":\"connection_close\"").then_some(());
    proxy.await_that("the close", |proxy| closed(fs::read_to_string(proxy.path("compact.jsonl")).unwrap()));
    proxy.await_record("connection_close", |_| true);
    proxy
}

fn path(proxy: &Proxy, name: &str) -> String {
    proxy.path(name).display().to_string()
}

/// What a follower prints, line by line; ended by its id.
struct Follower {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Follower {
    fn start(proxy: &Proxy, arguments: &[&str]) -> Self {
        let mut child = command(Some(proxy), arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    fn next(&mut self) -> String {
        let mut line = String::new();
        assert!(self.out.read_line(&mut line).unwrap() > 0, "it has ended");
        line
    }

    /// The next line with these words.
    fn until(&mut self, words: &str) -> String {
        loop {
            let line = self.next();
            if line.contains(words) {
                return line;
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn both_shapes_read_alike_and_nothing_hostile_comes_through() {
    let redis = Redis::start();
    let proxy = used(&redis);
    let full = ravelin(&proxy, &["audit", "tail", "-n", "all", &path(&proxy, "audit.jsonl")]);
    let compact = ravelin(&proxy, &["audit", "tail", "-n", "all", &path(&proxy, "compact.jsonl")]);
    assert_eq!((full.code, full.err.as_str()), (0, ""));
    // Before a connection is open, nothing of a compact stream says whose it is.
    let opened = |text: &str| text.split_once(" open ").unwrap().1.to_owned();
    assert_eq!(opened(&full.out), opened(&compact.out));
    for words in
        ["SET user:17 → status", "LPUSH user:17 → WRONGTYPE", "CONFIG|SET by ", "client-closed; ", "TLSv1.3", "app"]
    {
        assert!(full.out.contains(words), "{words} is missing in\n{}", full.out);
    }
    assert!(full.out.contains("\\u{1b}[2J\\u{202e}"), "{}", full.out);
    assert!(!full.out.contains(['\x1b', '\u{202e}']));
    // Columns: what was run begins at the same place in every line of one connection.
    let columns: Vec<_> = full.out.lines().filter_map(|line| line.find("  CONFIG|SET")).collect();
    assert!(columns.len() == 3 && columns.iter().all(|column| *column == columns[0]), "{}", full.out);
}

#[test]
fn filters_and_raw_lines_select_the_same_records() {
    let redis = Redis::start();
    let proxy = used(&redis);
    for file in ["audit.jsonl", "compact.jsonl"] {
        let file = path(&proxy, file);
        let selected = |filters: &[&str]| {
            let run = ravelin(&proxy, &[&["audit", "tail", "--lines=100", "--json"], filters, &[&file]].concat());
            assert_eq!(run.code, 0, "{}", run.err);
            let names = run.out.lines().map(|line| {
                let record: Value = serde_json::from_str(line).unwrap();
                assert!(fs::read_to_string(&file).unwrap().contains(line), "as it stands there");
                record["cmd"].as_str().unwrap_or_else(|| record["event"].as_str().unwrap()).to_owned()
            });
            names.collect::<Vec<_>>()
        };
        let denied = ["CONFIG", "CONFIG", "CONFIG", "NoSuch\x1b[2J\u{202e}"];
        assert_eq!(selected(&["--denied"]), denied);
        assert_eq!(selected(&["--denied", "--role", "app", "--from", "127.0.0.0/8"]), denied);
        assert_eq!(selected(&["--denied", "--role", "other"]), [""; 0]);
        assert_eq!(selected(&["--command", "@write", "--event", "command"]), ["SET", "LPUSH"]);
        assert_eq!(selected(&["--identity", "a*p", "--event", "connection_open"]), ["connection_open"]);
        assert_eq!(selected(&["--address", "10.0.0.0/8"]), [""; 0]);
        assert_eq!(selected(&["--slow", "1h"]), [""; 0]);
    }
}

#[test]
fn a_merged_log_is_read_from_standard_input_and_what_is_no_record_is_counted() {
    let redis = Redis::start();
    let proxy = used(&redis);
    let mut merged = String::new();
    for line in proxy.audit_text().lines() {
        merged.push_str(line);
        merged.push_str("\n{\"stream\":\"log\",\"level\":\"INFO\",\"event\":\"command\",\"v\":1,\"ts\":\"x\"}\nplain \x1b[31mtext\n");
    }
    let lines = proxy.audit_text().lines().count();
    let run = ravelin_reading(&["audit", "tail", "-"], merged.as_bytes());
    let note = format!("note: {} lines are no audit records and were passed over\n", 2 * lines);
    assert_eq!((run.code, run.err), (0, note));
    assert_eq!(run.out.lines().count(), lines + 1, "and the day");
    let run = ravelin_reading(&["audit", "stats", "--json", "-"], merged.as_bytes());
    let stats: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(
        (stats["records"].as_u64(), stats["passed_over"].as_u64()),
        (Some(lines as u64), Some(2 * lines as u64))
    );
}

#[test]
fn sums_say_who_ran_what_and_what_was_denied() {
    let redis = Redis::start();
    let proxy = used(&redis);
    for file in ["audit.jsonl", "compact.jsonl"] {
        let file = path(&proxy, file);
        let run = ravelin(&proxy, &["audit", "stats", "--json", &file]);
        let stats: Value = serde_json::from_str(&run.out).unwrap_or_else(|_| panic!("{run:?}"));
        // The client's greeting was a PING.
        assert_eq!(stats["commands"]["total"], 8, "{stats}");
        assert_eq!((&stats["commands"]["denied"], &stats["commands"]["errors"]), (&4.into(), &1.into()));
        let identity = &stats["identities"]["top"][0];
        assert_eq!((&identity["name"], &identity["count"], &identity["denied"]), (&"app".into(), &8.into(), &4.into()));
        let names = stats["by_command"]["top"].as_array().unwrap();
        let config = names.iter().find(|row| row["name"] == "CONFIG|SET").unwrap();
        assert_eq!(config["denied"], 3);
        let get = names.iter().find(|row| row["name"] == "GET").unwrap();
        let us = proxy.records("command").into_iter().find(|record| record["cmd"] == "GET").unwrap()["us"].clone();
        assert_eq!((&get["max_us"], &get["p50_us"]), (&us, &us));
        assert_eq!(stats["errors_by_code"]["top"][0]["name"], "WRONGTYPE");
        assert_eq!(stats["connections"]["opened"], 1);
        let page = ravelin(&proxy, &["audit", "stats", &file]).out;
        for words in ["8 commands: 4 denied, 1 errors", "over time", "denied by rule", "CONFIG|SET", "█"] {
            assert!(page.contains(words), "{words} is missing in\n{page}");
        }
        assert!(!page.contains(['\x1b', '\u{202e}']), "{page}");
        assert!(ravelin(&proxy, &["audit", "stats", "--ascii", &file]).out.is_ascii());
        let denied = ravelin(&proxy, &["audit", "stats", "--denied", "--json", &file]);
        assert_eq!(serde_json::from_str::<Value>(&denied.out).unwrap()["commands"]["total"], 4);
    }
}

#[test]
fn a_file_is_followed_across_rotation() {
    let redis = Redis::start();
    let proxy = used(&redis);
    let file = path(&proxy, "audit.jsonl");
    let mut follower = Follower::start(&proxy, &["audit", "tail", "-f", "-n", "1", "--event", "command", &file]);
    follower.until("NoSuch");
    let mut client = proxy.client();
    follower.until("PING");
    client.call(&["SET", "before", "v"]).expect_ok();
    follower.until("SET before");
    fs::rename(&file, proxy.path("audit.old")).unwrap();
    client.call(&["SET", "between", "v"]).expect_ok();
    proxy.signal(Signal::USR1);
    proxy.await_that("the new file", |proxy| proxy.path("audit.jsonl").exists().then_some(()));
    client.call(&["SET", "after", "v"]).expect_ok();
    assert!(follower.next().contains("SET between"), "what came into the old file after it was moved");
    assert!(follower.next().contains("SET after"));
}

#[test]
fn the_live_stream_is_what_the_output_gets() {
    let redis = Redis::start();
    let proxy = used(&redis);
    let mut early = proxy.client();
    let mut full = Follower::start(&proxy, &["audit", "tail", "--live", "--json"]);
    let mut short = Follower::start(&proxy, &["audit", "tail", "--live", "--output", "short", "--denied"]);
    let mut client = proxy.client();
    // Both look on by now or see what comes later.
    proxy.await_that("both", |_| {
        assert!(client.call(&["CONFIG", "GET", "x"]).text().contains("NOPERM"));
        proxy.log().matches("the live stream is read").count().eq(&2).then_some(())
    });
    client.call(&["SET", "live", "v"]).expect_ok();
    assert!(client.call(&["CONFIG", "SET", "dir", "/"]).text().contains("NOPERM"));
    let line = full.until("\"live\"");
    assert!(proxy.await_that("it in the file", |proxy| proxy.audit_text().contains(&line).then_some(true)));
    let denied = short.until("CONFIG|SET");
    assert!(denied.contains("denied"), "{denied}");
    // Opened before anybody looked on, and the lines are compact: it is known all the same whose they are.
    assert!(early.call(&["CONFIG", "RESETSTAT"]).text().contains("NOPERM"));
    let denied = short.until("CONFIG|RESETSTAT");
    assert!(denied.contains("  app ") && denied.contains("  127.0.0.1:") && !denied.contains('['), "{denied}");

    let stats = ravelin(&proxy, &["audit", "stats", "--live", "--for", "100ms", "--json"]);
    assert_eq!(stats.code, 0, "{}", stats.err);
    assert_eq!(serde_json::from_str::<Value>(&stats.out).unwrap()["v"], 1);
    let wrong = ravelin(&proxy, &["audit", "tail", "--live", "--output", "nowhere"]);
    assert_eq!(wrong.code, 1);
    assert!(wrong.err.contains("there is no such output; there are file, short"), "{}", wrong.err);
}

/// Somebody who asks for the live stream and does not read it: clients go on, and what is missing is said exactly.
#[test]
fn who_does_not_read_the_live_stream_holds_nobody_back_and_is_told_what_is_missing() {
    const COMMANDS: usize = 30_000;
    let redis = Redis::start();
    let proxy = Proxy::with(&Setup { more: SOCKET, audit: "queue = \"64KiB\"", ..Setup::before(&redis) });
    let mut client = proxy.client();
    let mut socket = UnixStream::connect(proxy.path("admin.sock")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // HTTP/1.0, so that what follows the header is the stream and nothing else.
    socket.write_all(b"GET /audit HTTP/1.0\r\n\r\n").unwrap();
    proxy.await_that("that somebody looks on", |proxy| proxy.log().contains("the live stream is read").then_some(()));
    let mut reader = BufReader::new(&socket);
    let mut text = String::new();
    // From this record on everything is counted.
    client.call(&["SET", "marker", "v"]).expect_ok();
    while !text.contains("marker") {
        text.clear();
        assert!(reader.read_line(&mut text).unwrap() > 0);
    }
    let some = encode(&["PING"]).repeat(100);
    for _ in 0..COMMANDS / 100 {
        client.stream().write_all(&some).unwrap();
        assert_eq!(client.take(700), b"+PONG\r\n".repeat(100));
    }
    // All is in the file, though nobody has read the stream.
    proxy.await_that("all records", |proxy| {
        (proxy.audit_text().matches("\"cmd\":\"PING\"").count() == COMMANDS + 1).then_some(())
    });
    let (mut seen, mut missing) = (0, 0);
    while seen + missing < COMMANDS {
        text.clear();
        assert!(reader.read_line(&mut text).unwrap() > 0, "{seen} and {missing}");
        let record: Value = serde_json::from_str(&text).unwrap();
        if record["stream"] == "live" {
            assert_eq!((&record["event"], &record["output"]), (&"gap".into(), &"file".into()));
            missing += usize::try_from(record["dropped"].as_u64().unwrap()).unwrap();
        } else {
            assert_eq!(record["cmd"], "PING");
            seen += 1;
        }
    }
    // None is counted twice, none forgotten.
    assert_eq!(seen + missing, COMMANDS);
    assert!(missing > 0 && seen > 0, "{seen} seen, {missing} missing");
    socket.shutdown(Shutdown::Both).unwrap();
    assert_eq!(client.call(&["PING"]).text(), "PONG");
}

/// What the program prints to a terminal of so many columns.
fn on_a_terminal(arguments: &[&str], columns: u16, no_colour: bool) -> String {
    let main = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&main).unwrap();
    unlockpt(&main).unwrap();
    let name = ptsname(&main, Vec::new()).unwrap();
    tcsetwinsize(&main, Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let side = open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    let mut run = command(None, arguments);
    if no_colour {
        run.env("NO_COLOR", "1");
    }
    let mut child = run.stdin(Stdio::null()).stdout(File::from(side)).spawn().unwrap();
    // The command holds the terminal's other side open for as long as it is.
    drop(run);
    let (mut out, mut some) = (Vec::new(), [0; 4096]);
    let mut reader = File::from(main);
    loop {
        match reader.read(&mut some) {
            Ok(0) => break,
            Ok(length) => out.extend_from_slice(&some[..length]),
            // Its other side is closed: the program has ended.
            Err(error) if error.raw_os_error() == Some(5) => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(child.wait().unwrap().success());
    String::from_utf8(out).unwrap()
}

/// The text without the sequences that set colours, all of which are ours.
fn without_colours(text: &str) -> String {
    let mut out = String::new();
    for (at, part) in text.split("\x1b[").enumerate() {
        let rest = if at == 0 { part } else { part.split_once('m').expect("only colours").1 };
        out.push_str(rest);
    }
    out
}

#[test]
fn a_terminal_gets_colours_and_lines_that_fit_and_nothing_else_that_acts_on_it() {
    let redis = Redis::start();
    let proxy = used(&redis);
    // Somebody has changed the file: JSON allows these bytes raw, and a terminal would act on them.
    let file = path(&proxy, "changed.jsonl");
    let text = proxy.audit_text().replace("user:17", &format!("user:17\u{9b}31m\u{7f}\u{202e}{}", "long".repeat(90)));
    fs::write(&file, text).unwrap();
    for (columns, arguments) in [
        (100, vec!["audit", "tail", "-n", "all", &file]),
        (60, vec!["audit", "tail", "-n", "all", &file]),
        (120, vec!["audit", "stats", &file]),
    ] {
        let seen = on_a_terminal(&arguments, columns, false);
        assert!(seen.contains("\x1b["), "{seen}");
        let plain = without_colours(&seen);
        assert!(!plain.chars().any(|c| c.is_control() && !"\r\n".contains(c) || c == '\u{202e}'), "{plain:?}");
        let most = plain.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(most <= usize::from(columns), "{most} of {columns} columns: {plain}");
        let bare = on_a_terminal(&arguments, columns, true);
        assert!(!bare.contains('\x1b'), "{bare}");
        assert_eq!(bare, plain);
        let never = on_a_terminal(&[&arguments[..], &["--color", "never"]].concat(), columns, false);
        assert_eq!(never, bare);
    }
    let json = on_a_terminal(&["audit", "tail", "-n", "all", "--json", &file], 80, false);
    assert!(!json.chars().any(|c| c.is_control() && !"\r\n".contains(c) || c == '\u{202e}'), "{json:?}");
    assert!(json.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{json}");
}

#[test]
fn whoever_stops_reading_ends_it_and_that_is_no_failure() {
    let redis = Redis::start();
    let proxy = used(&redis);
    let mut long = String::new();
    for _ in 0..5000 {
        long.push_str(&proxy.audit_text());
    }
    let file = path(&proxy, "long.jsonl");
    fs::write(&file, &long).unwrap();
    let mut child = command(None, &["audit", "tail", "-n", "all", &file])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut first).unwrap();
    drop(out);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    // The last ones of a long file are found from its end, whose their connections are included.
    let run = ravelin(&proxy, &["audit", "tail", "-n", "3", &file]);
    assert_eq!(run.out.lines().count(), 4, "{}", run.out);
    assert!(run.out.lines().last().unwrap().contains("client-closed"), "{}", run.out);
}

#[test]
fn what_cannot_be_read_is_said_with_its_exit_code() {
    let redis = Redis::start();
    let proxy = Proxy::start(&redis);
    for (arguments, code, words) in [
        (&["audit", "tail", "/nowhere/x"][..], 1, "/nowhere/x cannot be read: "),
        (&["audit", "stats", "/nowhere/x"], 1, "/nowhere/x cannot be read: "),
        (&["audit", "tail"], 2, "required"),
        (&["audit", "stats", "--live"], 2, "--for"),
        (&["audit", "tail", "--live"], 3, "names no admin socket"),
        (&["audit", "tail", "--live", "--socket", "/nowhere/s"], 1, "there is no such socket"),
        (&["audit", "tail", "--since", "noon", "x"], 2, "expected a time"),
    ] {
        let run = ravelin(&proxy, arguments);
        assert_eq!(run.code, code, "{arguments:?}: {}", run.err);
        assert!(run.err.contains(words), "{arguments:?}: {}", run.err);
    }
    // Ended by a signal while it follows, as ^C does.
    let follower = Follower::start(&proxy, &["audit", "tail", "-f", &path(&proxy, "audit.jsonl")]);
    kill_process(Pid::from_child(&follower.child), Signal::INT).unwrap();
}
