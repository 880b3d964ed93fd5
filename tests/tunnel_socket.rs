//! A near end at a Unix socket: a file whose owner and mode say who may come in, whose clients are known by their process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use rustix::process::{Signal, getegid, geteuid};
use std::{
    fs,
    io::Read as _,
    net::{SocketAddr, TcpStream},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    process::{Command, Output},
};
use support::{
    books,
    near::{Near, await_that, far, neighbour_at, round_trip, tls_to},
    process::{PASSWORD, PATIENCE, Proxy, program},
    redis::Redis,
};

fn tunnel_to(far: &Proxy) -> String {
    format!("connect = \"{}\"\n{}", far.address(), tls_to(far))
}

/// A folder for a socket, and the key that names it.
fn place() -> (tempfile::TempDir, PathBuf, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache.sock");
    let listen = format!("listen = \"unix:{}\"", path.display());
    (dir, path, listen)
}

fn mode(path: &Path) -> u32 {
    let found = fs::symlink_metadata(path).unwrap();
    assert!(found.file_type().is_socket());
    found.mode() & 0o7777
}

#[test]
fn a_client_without_tls_reaches_redis_by_a_unix_socket_and_is_known_by_its_process() {
    let redis = Redis::with_password(PASSWORD);
    let far = far(&redis);
    let (_dir, path, listen) = place();
    let mut near = Near::listening(&listen, &tunnel_to(&far), "");
    assert_eq!(near.place, format!("unix:{}", path.display()));
    assert_eq!(mode(&path), 0o600, "its owner's alone by default");
    round_trip(near.neighbour(), "a");
    assert_eq!(redis.calls_of("get"), 1, "by way of {}", far.address());

    // A program that people use, which knows nothing of TLS.
    let said = Command::new("redis-cli").arg("-s").arg(&path).args(["EXISTS", "a"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "1\n");

    near.signal(Signal::TERM);
    assert!(near.await_end().success());
    let text = near.audit_text();
    books::check(&text, true, true);
    let opened = near.records("connection_open");
    let (wire, cli) = (&opened[0], &opened[1]);
    for record in [wire, cli] {
        assert_eq!(record["src"], "127.0.0.1:0", "{record}");
        assert_eq!((&record["identity"], &record["role"]), (&"anonymous".into(), &"near".into()));
        assert_eq!(record["uid"], geteuid().as_raw(), "{record}");
        assert_eq!(record["gid"], getegid().as_raw(), "{record}");
    }
    assert_eq!(wire["pid"], std::process::id(), "{wire}");
    assert!(cli["pid"].as_u64().is_some_and(|pid| pid != 0 && pid != u64::from(std::process::id())), "{cli}");
    assert!(near.records("command").iter().any(|record| record["cmd"] == "GET" && record["src"] == "127.0.0.1:0"));
}

#[test]
fn a_client_that_leaves_while_it_is_blocked_leaves_nothing_behind() {
    let redis = Redis::with_password(PASSWORD);
    let far = far(&redis);
    let (_dir, _path, listen) = place();
    let near = Near::listening(&listen, &tunnel_to(&far), "");
    let mut client = near.neighbour();
    client.send(&["BLPOP", "never", "0"]);
    await_that("it waits", || redis.blocked() == 1);
    // Bytes before the end, which nobody reads while the command blocks, do not hide it.
    client.send(&["PING"]);
    drop(client);
    await_that("it is gone from Redis", || redis.blocked() == 0);
}

#[test]
fn the_file_has_the_mode_and_the_group_that_were_said_and_goes_with_the_drain() {
    let redis = Redis::with_password(PASSWORD);
    let far = far(&redis);
    let (_dir, path, listen) = place();
    let said = format!("{listen}\nmode = \"0660\"\ngroup = {}", getegid().as_raw());
    let mut near = Near::listening(&said, &tunnel_to(&far), "[limits]\ndrain_timeout = \"1m\"");
    assert_eq!(mode(&path), 0o660);
    assert_eq!(fs::metadata(&path).unwrap().gid(), getegid().as_raw());
    let mut kept = near.neighbour();
    kept.call(&["SET", "a", "1"]).expect_ok();
    // It drains for as long as this client is in its transaction, and nobody else gets in.
    kept.call(&["MULTI"]).expect_ok();
    near.signal(Signal::TERM);
    await_that("the file is gone", || !path.exists());
    assert_eq!(kept.call(&["GET", "a"]).text(), "QUEUED");
    assert_eq!(kept.call(&["EXEC"]).elements()[0].text(), "1");
    drop(kept);
    assert!(near.await_end().success());
}

#[test]
fn another_socket_or_mode_needs_a_restart_and_other_keys_do_not() {
    let redis = Redis::with_password(PASSWORD);
    let far = far(&redis);
    let (dir, path, listen) = place();
    let near = Near::listening(&listen, &tunnel_to(&far), "");
    let mut kept = near.neighbour();
    assert_eq!(kept.call(&["PING"]).text(), "PONG");
    let elsewhere = format!("listen = \"unix:{}\"", dir.path().join("other.sock").display());
    let reloaded = |times: usize| {
        await_that("the reload is recorded", || near.records("reload").len() == times);
        near.records("reload").pop().unwrap()
    };
    let others = [elsewhere, format!("{listen}\nmode = \"0660\""), "listen = \"127.0.0.1:0\"".to_owned()];
    for (other, times) in others.iter().zip(1..) {
        near.reload_listening(other, &tunnel_to(&far));
        let last = reloaded(times);
        assert_eq!(last["result"], "kept", "{last}");
        assert!(last["detail"].as_str().unwrap().contains("listen of service near"), "{last}");
    }
    near.reload_listening(&listen, &format!("{}\npolicy = {{ deny = [\"FLUSHALL\"] }}", tunnel_to(&far)));
    assert_eq!(reloaded(4)["result"], "swapped");
    assert!(kept.call(&["FLUSHALL"]).error().unwrap().starts_with("NOPERM"));
    assert_eq!(mode(&path), 0o600);
    assert!(neighbour_at(&path).call(&["FLUSHALL"]).error().unwrap().starts_with("NOPERM"));
}

/// The end of a near end that does not start.
fn fails(listen: &str, far: &Proxy) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("near.toml");
    fs::write(&config, format!("[[tunnel]]\nname = \"near\"\n{listen}\n{}", tunnel_to(far))).unwrap();
    Command::new(program()).arg("run").arg("--config").arg(&config).output().unwrap()
}

#[test]
fn only_what_a_dead_process_left_is_replaced() {
    let redis = Redis::with_password(PASSWORD);
    let far = far(&redis);
    let (_dir, path, listen) = place();
    let mut near = Near::listening(&listen, &tunnel_to(&far), "");
    // Somebody answers there.
    let second = fails(&listen, &far);
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("the socket of tunnel near"), "{said}");
    assert!(said.contains("another process answers there"), "{said}");
    assert_eq!(near.neighbour().call(&["PING"]).text(), "PONG", "the first has its file still");
    // Nobody does any more.
    near.signal(Signal::KILL);
    near.await_end();
    assert!(path.exists(), "a killed process removes nothing");
    let next = Near::listening(&listen, &tunnel_to(&far), "");
    assert_eq!(next.neighbour().call(&["PING"]).text(), "PONG");
    drop(next);
    // What is no socket is nobody's to remove.
    let _ = fs::remove_file(&path);
    fs::write(&path, "precious").unwrap();
    let third = fails(&listen, &far);
    let said = String::from_utf8_lossy(&third.stderr);
    assert_eq!(third.status.code(), Some(1), "{said}");
    assert!(said.contains("a file of another kind"), "{said}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn flags_name_a_socket_too_from_the_folder_they_are_given_in() {
    let redis = Redis::with_password(PASSWORD);
    let far = far(&redis);
    let (_dir, path, _) = place();
    let group = getegid().as_raw().to_string();
    let listen = format!("unix:{}", path.display());
    let near = Near::by_flags(&far, &["--listen", &listen, "--mode", "0660", "--group", &group]);
    assert_eq!(mode(&path), 0o660);
    round_trip(near.neighbour(), "a");
}

#[test]
fn what_is_no_socket_to_listen_on_is_said_at_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("x.toml");
    let check = |text: &str| {
        fs::write(&config, text).unwrap();
        let output = Command::new(program()).arg("check").arg("--config").arg(&config).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        (output.status.code(), said)
    };
    let whole = "[[tunnel]]\nname = \"t\"\nlisten = \"unix:cache.sock\"\nconnect = \"x.example:6380\"\ntls = { system_roots = true }\n";
    let long = format!("\"unix:/{}\"", "x".repeat(107));
    for (change, with, said) in [
        ("\"unix:cache.sock\"", "\"/run/cache.sock\"", "write \"unix:/run/cache.sock\""),
        ("\"unix:cache.sock\"", "\"unix:\"", "is not a path"),
        ("\"unix:cache.sock\"", &*long, "at most 107 bytes, and this one 108"),
        ("\"unix:cache.sock\"", "\"127.0.0.1:1\"\nmode = \"0600\"", "a port belongs to nobody"),
        ("\"unix:cache.sock\"", "\"127.0.0.1:1\"\ngroup = 1", "a port belongs to nobody"),
        ("\nconnect", "\nmode = \"0777\"\nconnect", "\"0600\", \"0660\" or \"0666\""),
        ("\nconnect", "\nmode = \"rw\"\nconnect", "\"0600\", \"0660\" or \"0666\""),
        ("\nconnect", "\ngroup = \"no-such-group\"\nconnect", "there is no group"),
    ] {
        let (code, text) = check(&whole.replacen(change, with, 1));
        assert_eq!(code, Some(3), "{text}");
        assert!(text.contains(said), "{change:?} → {with:?}: {text}");
    }
    let (_, twice) = check(&format!("{whole}{}", whole.replace("\"t\"", "\"u\"")));
    assert!(twice.contains("is taken by another listener (unix:"), "{twice}");
    let (_, admin) = check(&format!("{whole}[admin]\nsocket = {{ path = \"cache.sock\" }}\n"));
    assert!(admin.contains("is taken by service t (unix:"), "{admin}");
    // Fit, and described.
    let (_, wide) = check(&whole.replace("\nconnect", "\nmode = \"0666\"\nconnect"));
    assert!(wide.contains("lets every user of this host in who reaches the folder"), "{wide}");
    let shown = format!("unix:{} (mode 0666) (inline commands too)", dir.path().join("cache.sock").display());
    for said in [&*shown, "none: plain text from this host", "whoever may write to the socket's file", "not at all: no"]
    {
        assert!(wide.contains(said), "{said}: {wide}");
    }
    assert!(!dir.path().join("cache.sock").exists(), "check makes no socket");
}

/// It shakes no hands, and is in all the same: its place is not one that somebody else is given at a full house.
#[test]
fn a_client_of_a_unix_socket_keeps_its_place_at_a_full_house() {
    let redis = Redis::with_password(PASSWORD);
    let far = far(&redis);
    let (_dir, _path, listen) = place();
    let two = format!("{}\n[[tunnel]]\nname = \"two\"\nlisten = \"127.0.0.1:0\"\n{}", tunnel_to(&far), tunnel_to(&far));
    let near = Near::listening(&listen, &two, "[limits]\nmax_connections = 3");
    let mut inside: Vec<_> = (0..3).map(|_| near.neighbour()).collect();
    for client in &mut inside {
        assert_eq!(client.call(&["PING"]).text(), "PONG");
    }
    let port: SocketAddr = near.places()[1].parse().unwrap();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 5], 0)).into()).unwrap();
    socket.connect(&port.into()).unwrap();
    let (mut socket, mut got) = (TcpStream::from(socket), Vec::new());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = socket.read_to_end(&mut got);
    assert_eq!(got, b"");
    await_that("a refusal", || near.records("refused").len() == 1);
    let refused = &near.records("refused")[0];
    assert_eq!(refused["reason"], "max-connections", "{refused}");
    for client in &mut inside {
        assert_eq!(client.call(&["PING"]).text(), "PONG");
    }
}
