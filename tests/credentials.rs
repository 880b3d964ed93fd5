//! Clients' own passwords end to end: looked up in a file or by a program, guesses answered by bans, nothing shown.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use serde_json::Value;
use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    time::Duration,
};
use support::{
    client::{Client, greeted},
    credentials::{RIGHT, WRONG, admin, error, expect_no_secret, leak, program, users},
    process::{PASSWORD, Proxy},
    redis::{Redis, Release},
    setup::Setup,
};
use tempfile::TempDir;

const VERIFY: &str = "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\nclient_auth = \"verify\"\n\
                      [[role]]\nname = \"plain\"\nmatch = [{ cn = \"plain\" }]";

fn redis() -> Redis {
    Redis::with_password(PASSWORD)
}

/// A proxy that looks passwords up in that file.
fn with_users(redis: &Redis, dir: &TempDir, more: &str) -> Proxy {
    let more = leak(format!("[credentials]\nusers_file = \"{}\"\n{more}", dir.path().join("users").display()));
    Proxy::with(&Setup { roles: VERIFY, more, ..Setup::before(redis) })
}

/// A client with a certificate for `app` that has shaken hands and said nothing.
fn client(proxy: &Proxy) -> Client {
    proxy.shake(Some(&proxy.pki.client("app").unwrap())).unwrap()
}

#[test]
fn nothing_is_taken_before_the_password_was_right() {
    let (redis, dir) = (redis(), users(""));
    let proxy = with_users(&redis, &dir, "");
    let mut app = client(&proxy);
    for words in [
        &["GET", "k"][..],
        &["SELECT", "1"],
        &["NOSUCH"],
        &["MULTI"],
        &["CONFIG", "GET", "x"],
        &["CLIENT", "REPLY", "ON"],
    ] {
        assert!(error(&mut app, words).starts_with("NOAUTH Authentication required."), "{words:?}");
    }
    assert!(error(&mut app, &["HELLO", "2"]).starts_with("NOAUTH HELLO must be called"));
    assert!(error(&mut app, &["AUTH", "legacy", WRONG]).starts_with("WRONGPASS "));
    assert!(error(&mut app, &["GET", "k"]).starts_with("NOAUTH"));
    assert_eq!(redis.calls_of("get"), 0, "nothing of it has reached Redis");
    // In one piece: what stands behind AUTH waits for it.
    let mut pipeline = Vec::new();
    for words in [&["AUTH", "legacy", RIGHT][..], &["SET", "k", "v"], &["GET", "k"]] {
        pipeline.extend(format!("*{}\r\n", words.len()).bytes());
        words.iter().for_each(|word| pipeline.extend(format!("${}\r\n{word}\r\n", word.len()).bytes()));
    }
    app.send_raw(&pipeline);
    app.reply().expect_ok();
    app.reply().expect_ok();
    assert_eq!(app.reply().text(), "v");
    // A failure afterwards takes nothing away, as with Redis.
    assert!(error(&mut app, &["AUTH", WRONG]).starts_with("WRONGPASS "));
    assert_eq!(app.call(&["GET", "k"]).text(), "v");
    app.call(&["MULTI"]).expect_ok();
    assert!(error(&mut app, &["AUTH", RIGHT]).starts_with("ERR"));
    assert!(error(&mut app, &["EXEC"]).starts_with("EXECABORT"));
    assert!(error(&mut app, &["AUTH"]).contains("wrong number"));
    if Release::of_server().since(6, 2) {
        assert_eq!(app.call(&["RESET"]).text(), "RESET");
        assert!(error(&mut app, &["GET", "k"]).starts_with("NOAUTH"), "RESET ends it, as with Redis");
        app.call(&["AUTH", RIGHT]).expect_ok();
    }
    let verdicts = proxy.await_that("three verdicts", |proxy| {
        let found: Vec<Value> = proxy.records("client_auth").iter().map(|record| record["verdict"].clone()).collect();
        (found.len() >= 3).then_some(found)
    });
    assert_eq!(verdicts[..3], ["deny", "allow", "deny"], "{verdicts:?}");
    // Of a role that verifies nothing nothing is demanded, and nothing is taken.
    let mut plain = proxy.client_with(&proxy.pki.client("plain").unwrap()).unwrap();
    assert!(error(&mut plain, &["AUTH", RIGHT]).starts_with("NOPERM"));
    assert_eq!(plain.call(&["GET", "k"]).text(), "v");
    expect_no_secret(&proxy);
}

#[test]
fn hello_authenticates_and_speaks_the_protocol_it_asks_for() {
    if !Release::of_server().since(6, 0) {
        return;
    }
    let (redis, dir) = (redis(), users(""));
    let proxy = with_users(&redis, &dir, "");
    let mut app = client(&proxy);
    assert!(error(&mut app, &["HELLO", "3", "AUTH", "legacy", WRONG]).starts_with("WRONGPASS"));
    assert!(error(&mut app, &["HELLO", "4", "AUTH", "legacy", RIGHT]).starts_with("NOAUTH"));
    let hello = app.call(&["HELLO", "3", "AUTH", "legacy", RIGHT, "SETNAME", "x"]);
    assert_eq!(hello.field("proto").integer(), 3);
    assert!(matches!(app.call(&["HGETALL", "none"]), support::wire::Reply::Map(_)));
    // The client library does the same from its URL.
    expect_no_secret(&proxy);
}

/// One connection each by a user who stays, one who goes, one whose password changes and one who comes to another role.
#[test]
fn a_reload_sends_away_whose_password_is_not_in_the_file_any_more() {
    let (redis, dir) = (redis(), users("stays #HASH\ngoes #HASH\nchanges #HASH\nstops #HASH\n"));
    let proxy = with_users(&redis, &dir, "");
    let names = ["stays", "goes", "changes", "stops", "legacy"];
    let mut clients: Vec<Client> = names.iter().map(|_| client(&proxy)).collect();
    for (client, name) in clients.iter_mut().zip(names) {
        client.call(&["AUTH", name, RIGHT]).expect_ok();
    }
    // A wrong one afterwards changes nothing about what it came in by, and the last right one counts.
    assert!(error(&mut clients[0], &["AUTH", "goes", WRONG]).starts_with("WRONGPASS"));
    clients[4].call(&["AUTH", "goes", RIGHT]).expect_ok();
    let path = dir.path().join("users");
    let other = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";
    let text: String = fs::read_to_string(&path)
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with("goes "))
        .map(|line| match line.split_once(" #") {
            Some(("changes", _)) => format!("changes #{other}\n"),
            Some(("stops", hash)) => format!("stops off #{hash}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    fs::write(&path, text).unwrap();
    assert_eq!(proxy.reload()["result"], "swapped");
    let revoked = proxy.await_that("four connections sent away", |proxy| {
        let closed = proxy.records("connection_close");
        (closed.len() >= 4).then_some(closed)
    });
    assert!(revoked.len() == 4 && revoked.iter().all(|record| record["reason"] == "revoked"), "{revoked:?}");
    assert_eq!(clients[0].call(&["PING"]).text(), "PONG", "whose line is the same goes on");
    for gone in &mut clients[1..] {
        assert!(gone.rest().is_empty(), "closed between two replies");
    }
    expect_no_secret(&proxy);
}

#[test]
fn a_crowd_that_gives_no_password_holds_no_seats() {
    let (redis, dir) = (redis(), users(""));
    let text = format!("[credentials]\nusers_file = \"{}\"", dir.path().join("users").display());
    let proxy = Proxy::with(&Setup {
        roles: VERIFY,
        more: leak(text),
        limits: "max_connections = 3\nlogin_timeout = \"1s\"",
        ..Setup::before(&redis)
    });
    let mut known = client(&proxy);
    known.call(&["AUTH", "legacy", RIGHT]).expect_ok();
    let mut crowd = [client(&proxy), client(&proxy)];
    // What it says does not keep it.
    assert!(error(&mut crowd[0], &["PING"]).starts_with("NOAUTH"));
    for stranger in &mut crowd {
        assert!(stranger.rest().is_empty(), "closed by the deadline");
    }
    proxy.await_that("both of them gone", |proxy| {
        let closed = proxy.records("connection_close");
        assert!(closed.iter().all(|record| record["reason"] == "login-timeout"), "{closed:?}");
        (closed.len() == 2).then_some(())
    });
    assert_eq!(known.call(&["PING"]).text(), "PONG");
    // Their own ends are still open; the seats are free all the same.
    let app = proxy.pki.client("app").unwrap();
    let mut next = proxy.await_that("a seat", |proxy| proxy.shake(Some(&app)).ok());
    next.call(&["AUTH", "legacy", RIGHT]).expect_ok();
}

#[test]
fn password_guessing_ends_with_a_ban_before_tls_and_the_admin_side_lifts_it() {
    let (redis, dir) = (redis(), users(""));
    let proxy = with_users(&redis, &dir, "[bans]\nafter = 3\nfirst = \"1h\"\nmax = \"1d\"");
    let issued = proxy.pki.client("app").unwrap();
    let mut standing = client(&proxy);
    standing.call(&["AUTH", "legacy", RIGHT]).expect_ok();
    // One connection after the other, as a guesser would.
    for guess in 0..3 {
        let mut app = proxy.shake(Some(&issued)).unwrap();
        assert!(error(&mut app, &["AUTH", "legacy", &format!("{WRONG}{guess}")]).starts_with("WRONGPASS"));
        app.send(&["PING"]);
        assert_eq!(app.try_reply().is_some(), guess < 2, "the third guess is the connection's last word");
    }
    let record = proxy.await_record("connection_close", |record| record["reason"] == "banned");
    assert_eq!(record["role"], "app", "{record}");
    let bans = proxy.records("ban");
    assert_eq!(bans.len(), 1, "one, with the guess that began it: {bans:?}");
    assert_eq!((&bans[0]["conn"], &bans[0]["us"]), (&record["conn"], &3_600_000_000_u64.into()));
    // Not even the right password is listened to, nor is a byte of TLS answered.
    let mut socket = proxy.socket();
    let _ = socket.write_all(&[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0]);
    let mut got = Vec::new();
    let _ = socket.read_to_end(&mut got);
    assert_eq!(got, b"");
    let record = proxy.await_record("refused", |_| true);
    assert_eq!(record["reason"], "banned", "{record}");
    proxy.await_that("both counts", |proxy| {
        let (_, metrics) = proxy.page("/metrics");
        let refused = metrics.contains("ravelin_refused_total{service=\"cache\",reason=\"banned\"} 1");
        (refused && metrics.contains("ravelin_client_auth_total{service=\"cache\",verdict=\"deny\"} 3")).then_some(())
    });
    // Who is in stays in, and his password is not listened to either.
    standing.call(&["SET", "k", "v"]).expect_ok();
    assert!(error(&mut standing, &["AUTH", "legacy", RIGHT]).starts_with("WRONGPASS"));

    let (status, listed) = admin(&proxy, "GET", "/bans", "127.0.0.1");
    assert_eq!(status, 200);
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 1 + lines.iter().filter(|line| line.starts_with("sha256:")).count(), "{listed}");
    assert!(listed.starts_with("127.0.0.1 failures=3 left=3"), "{listed}");
    let counted = |proxy: &Proxy| -> Vec<String> {
        let (_, metrics) = proxy.page("/metrics");
        metrics.lines().filter(|line| line.starts_with("ravelin_bans{")).map(str::to_owned).collect()
    };
    let shown = |addresses: usize, certificates: usize| {
        [
            format!("ravelin_bans{{of=\"address\"}} {addresses}"),
            format!("ravelin_bans{{of=\"certificate\"}} {certificates}"),
        ]
    };
    let certificates = lines.len() - 1;
    assert!(certificates > 0, "{listed}");
    assert_eq!(counted(&proxy), shown(1, certificates));
    for (method, path, host, expected) in [
        ("DELETE", "/bans", "attacker.example", 403),
        ("POST", "/bans", "127.0.0.1", 405),
        ("GET", "/bans/127.0.0.1", "127.0.0.1", 405),
        ("DELETE", "/bans/10.0.0.1", "127.0.0.1", 404),
        ("DELETE", "/bans/x", "127.0.0.1", 404),
        ("DELETE", "/bans/127.0.0.1", "localhost:9180", 200),
    ] {
        assert_eq!(admin(&proxy, method, path, host).0, expected, "{method} {path} {host}");
    }
    assert_eq!(counted(&proxy), shown(0, certificates));
    // The address is free again, and the certificates that guessed too often are not.
    let before = proxy.records("handshake_failure").len();
    assert!(proxy.shake(Some(&issued)).and_then(greeted).is_err());
    let record = proxy.await_that("a refusal", |proxy| proxy.records("handshake_failure").get(before).cloned());
    assert_eq!(record["reason"], "banned", "{record}");
    assert_eq!(admin(&proxy, "DELETE", "/bans", "127.0.0.1").0, 200);
    assert_eq!(admin(&proxy, "GET", "/bans", "127.0.0.1").1, "");
    assert_eq!(counted(&proxy), shown(0, 0));
    let mut app = proxy.shake(Some(&issued)).unwrap();
    app.call(&["AUTH", "legacy", RIGHT]).expect_ok();
    expect_no_secret(&proxy);
}

#[test]
fn a_ban_ends_by_itself_and_a_refused_auth_bans_nobody() {
    let (redis, dir) = (redis(), users(""));
    let proxy = with_users(&redis, &dir, "[bans]\nafter = 1\nfirst = \"1s\"\nmax = \"1s\"");
    let mut plain = proxy.client_with(&proxy.pki.client("plain").unwrap()).unwrap();
    for _ in 0..10 {
        assert!(error(&mut plain, &["AUTH", WRONG]).starts_with("NOPERM"));
    }
    assert_eq!(admin(&proxy, "GET", "/bans", "[::1]").1, "");
    let issued = proxy.pki.client("app").unwrap();
    let mut app = proxy.shake(Some(&issued)).unwrap();
    assert!(error(&mut app, &["AUTH", WRONG]).starts_with("WRONGPASS"));
    proxy.await_record("connection_close", |record| record["reason"] == "banned");
    let mut app = proxy.await_that("the end of a ban", |proxy| {
        let mut app = proxy.shake(Some(&issued)).ok()?;
        app.send(&["AUTH", "legacy", RIGHT]);
        app.try_reply().map(|reply| {
            reply.expect_ok();
            app
        })
    });
    assert!(app.call(&["GET", "k"]).error().is_none());
}

#[test]
fn a_helper_is_told_on_standard_input_alone_and_a_success_is_remembered() {
    let (redis, dir) = (redis(), tempfile::tempdir().unwrap());
    let log = dir.path().join("log");
    // It writes down all that could give a password away: its arguments, its environment, and that it ran.
    let body = format!(
        "{{ echo ran; echo \"$@\"; env; }} >> {log}\nread -r user; password=$(cat)\n\
         echo \"$password\" >&2\nif [ \"$user $password\" = 'legacy {RIGHT}' ]; then echo allow; else echo deny; fi",
        log = log.display()
    );
    let helper = program(dir.path(), &body);
    let more = leak(format!("[credentials]\ncommand = [\"{helper}\", \"--realm\", \"x y\"]\ntimeout = \"20s\""));
    let proxy = Proxy::with(&Setup { roles: VERIFY, more, ..Setup::before(&redis) });
    let mut app = client(&proxy);
    assert!(error(&mut app, &["AUTH", "legacy", WRONG]).starts_with("WRONGPASS"));
    for _ in 0..3 {
        app.call(&["AUTH", "legacy", RIGHT]).expect_ok();
        client(&proxy).call(&["AUTH", "legacy", RIGHT]).expect_ok();
    }
    assert_eq!(app.call(&["PING"]).text(), "PONG");
    // What cannot stand on a line of its own is nobody's name, and nobody is asked.
    assert!(error(&mut app, &["AUTH", "legacy\nx", RIGHT]).starts_with("WRONGPASS"));
    let told = fs::read_to_string(&log).unwrap();
    assert_eq!(told.lines().filter(|line| *line == "ran").count(), 2, "one failure, one success: {told}");
    assert!(told.contains("--realm x y") && !told.contains("s3cr3t"), "{told}");
    let environment =
        told.lines().filter(|line| line.contains('=') && !line.starts_with("PWD=") && !line.starts_with("_="));
    assert!(
        environment
            .clone()
            .all(|line| line.starts_with("PATH=") || line.starts_with("SHLVL=") || line.starts_with("OLDPWD")),
        "{told}"
    );
    expect_no_secret(&proxy);
}

#[test]
fn a_helper_that_fails_or_says_nothing_lets_nobody_in_and_bans_nobody() {
    let (redis, dir) = (redis(), tempfile::tempdir().unwrap());
    for body in ["exit 1", "echo allow; exit 1", "echo yes", "exec sleep 600", "sleep 600 & wait", "kill -9 $$"] {
        let helper = program(dir.path(), &format!("cat > /dev/null\n{body}"));
        let more = leak(format!("[credentials]\ncommand = [\"{helper}\"]\ntimeout = \"300ms\"\n[bans]\nafter = 1"));
        let proxy = Proxy::with(&Setup { roles: VERIFY, more, ..Setup::before(&redis) });
        let mut app = client(&proxy);
        for _ in 0..2 {
            assert!(
                error(&mut app, &["AUTH", "legacy", RIGHT]).starts_with("ERR authentication is not possible"),
                "{body}"
            );
        }
        assert!(error(&mut app, &["GET", "k"]).starts_with("NOAUTH"), "{body}");
        assert_eq!(admin(&proxy, "GET", "/bans", "127.0.0.1").1, "", "{body}");
        proxy.await_record("client_auth", |record| record["verdict"] == "unavailable");
        assert!(proxy.log().contains("the helper for passwords"), "{body}");
        expect_no_secret(&proxy);
    }
}

#[test]
fn helpers_are_bounded_in_number_and_end_with_their_client() {
    let (redis, dir) = (redis(), tempfile::tempdir().unwrap());
    let running = dir.path().join("running");
    fs::create_dir(&running).unwrap();
    // Each says that it runs, and waits until it is told to go on, or killed.
    let (mark, go) = (running.display(), dir.path().join("go").display().to_string());
    let helper = program(
        dir.path(),
        &format!("cat > /dev/null\ntouch {mark}/$$\nwhile [ ! -e {go} ]; do sleep 0.02; done\necho allow"),
    );
    let more =
        leak(format!("[credentials]\ncommand = [\"{helper}\"]\nprocesses = 2\ntimeout = \"1m\"\ncache = \"0s\""));
    let proxy = Proxy::with(&Setup { roles: VERIFY, more, ..Setup::before(&redis) });
    let mut clients: Vec<Client> = (0..5).map(|_| client(&proxy)).collect();
    for app in &mut clients {
        app.send(&["AUTH", "legacy", RIGHT]);
    }
    let started = || fs::read_dir(&running).unwrap().map(|file| file.unwrap().file_name()).collect::<Vec<_>>();
    proxy.await_that("two helpers", |_| (started().len() == 2).then_some(()));
    // Others' commands go on meanwhile.
    let mut plain = proxy.client_with(&proxy.pki.client("plain").unwrap()).unwrap();
    plain.call(&["SET", "k", "v"]).expect_ok();
    assert_eq!(started().len(), 2, "no more of them at once");
    fs::write(&go, "").unwrap();
    for app in &mut clients {
        app.reply().expect_ok();
    }
    assert_eq!(started().len(), 5);
    // The drain takes along who still asks.
    fs::remove_file(&go).unwrap();
    let mut last = client(&proxy);
    last.send(&["AUTH", "legacy", RIGHT]);
    let sixth = proxy.await_that("a sixth helper", |_| {
        let all = started();
        (all.len() == 6).then_some(all)
    });
    let mut proxy = proxy;
    assert!(proxy.stop().success());
    let alive = |name: &std::ffi::OsString| Path::new("/proc").join(name).join("cmdline").exists();
    let begun = std::thread::spawn(move || {
        for _ in 0..500 {
            if !sixth.iter().any(alive) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    });
    assert!(begun.join().unwrap(), "a helper outlives its client");
}

#[test]
fn a_guest_without_a_certificate_is_let_in_by_a_password() {
    let (redis, dir) = (redis(), users(""));
    let roles = "[[role]]\nname = \"guest\"\nmatch = [{ anonymous = true }]\nclient_auth = \"verify\"";
    let more = leak(format!(
        "[credentials]\nusers_file = \"{}\"\n[bans]\nafter = 2\nfirst = \"1h\"",
        dir.path().join("users").display()
    ));
    let proxy = Proxy::with(&Setup { tls: "client_auth = \"none\"", roles, more, ..Setup::before(&redis) });
    let mut guest = proxy.shake(None).unwrap();
    assert!(error(&mut guest, &["PING"]).starts_with("NOAUTH"));
    guest.call(&["AUTH", "legacy", RIGHT]).expect_ok();
    guest.call(&["SET", "k", "v"]).expect_ok();
    for _ in 0..2 {
        assert!(error(&mut guest, &["AUTH", WRONG]).starts_with("WRONGPASS"));
    }
    // Only the address is banned: nobody's certificate is everybody's.
    let (_, listed) = admin(&proxy, "GET", "/bans", "127.0.0.1");
    assert!(listed.starts_with("127.0.0.1 ") && listed.lines().count() == 1, "{listed}");
    expect_no_secret(&proxy);
}
