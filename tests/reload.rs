//! A reload by file change, by signal and by an operator: everything or nothing, said to whoever asked, and felt by live
//! connections.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use serde_json::{Value, json};
use std::{fs, os::unix::fs::symlink, path::Path};
use support::{
    client::Client,
    process::{PASSWORD, Proxy},
    redis::Redis,
    setup::{Setup, write_secret},
};

const WATCHED: &str = "watch = \"250ms\"";
const SOCKET: &str = "socket = { path = \"admin.sock\" }";
const TWO: &str =
    "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\n[[role]]\nname = \"ops\"\nmatch = [{ cn = \"ops\" }]";

fn redis() -> Redis {
    Redis::with_password(PASSWORD)
}

fn watched(redis: &Redis) -> Setup {
    let mut setup = Setup { reload: WATCHED, admin: SOCKET, ..Setup::before(redis) };
    // It looks at Redis as in service, and more often.
    setup.services[0].upstream = ", health = { interval = \"100ms\" }";
    setup
}

fn swapped(proxy: &Proxy, at: usize) -> Value {
    let swapped = |record: &Value| record["result"] == "swapped";
    proxy.await_that("a reload", |proxy| proxy.records("reload").into_iter().filter(swapped).nth(at))
}

fn shown(client: &mut Client) -> Vec<u8> {
    client.stream().conn.peer_certificates().unwrap()[0].to_vec()
}

/// What a Kubernetes volume is: names that point through `..data` into a folder, which is replaced by moving one link.
fn volume(at: &Path, version: &str, files: &[(&str, &str)]) {
    fs::create_dir(at.join(version)).unwrap();
    for (name, content) in files {
        write_secret(&at.join(version).join(name), content);
    }
    symlink(version, at.join("..new")).unwrap();
    fs::rename(at.join("..new"), at.join("..data")).unwrap();
}

#[test]
fn a_volume_whose_link_is_swapped_is_seen_and_a_half_swapped_pair_keeps_the_old_one() {
    let redis = redis();
    let proxy = Proxy::with(&watched(&redis));
    let at = proxy.path("mounted");
    fs::create_dir(&at).unwrap();
    let first = proxy.pki.server(&["localhost"]).unwrap();
    volume(&at, "..v1", &[("tls.crt", &first.chain), ("tls.key", &first.key)]);
    for name in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{name}"), at.join(name)).unwrap();
    }
    proxy.edit("cert = \"server.crt\"\nkey = \"server.key\"", "cert = \"mounted/tls.crt\"\nkey = \"mounted/tls.key\"");
    let record = swapped(&proxy, 0);
    assert_eq!((&record["by"], &record["what"]), (&json!("watch"), &json!("config")), "{record}");
    assert_eq!(
        record["changes"],
        json!(["tls.cert: \"server.crt\" → \"mounted/tls.crt\"", "tls.key: \"server.key\" → \"mounted/tls.key\""])
    );
    assert_eq!(shown(&mut proxy.client()), first.der);

    // Another certificate, and the key of before.
    let second = proxy.pki.server(&["localhost"]).unwrap();
    volume(&at, "..v2", &[("tls.crt", &second.chain), ("tls.key", &first.key)]);
    let kept = proxy.await_record("reload", |record| record["result"] == "kept");
    assert!(kept["detail"].as_str().unwrap().contains("tls.key"), "{kept}");
    assert_eq!(shown(&mut proxy.client()), first.der, "the old pair is in force");
    proxy.await_that("the gauge", |proxy| (proxy.metric("ravelin_reload_last_failed ")? == 1.0).then_some(()));
    let (status, page) = proxy.page("/readyz");
    assert!(status == 200 && page.contains("note reload: the last one was refused"), "{page}");

    // The other half comes, and nobody has to ask.
    volume(&at, "..v3", &[("tls.crt", &second.chain), ("tls.key", &second.key)]);
    let record = swapped(&proxy, 1);
    let changes = record["changes"].as_array().unwrap();
    assert!(changes.len() == 2 && changes[0].as_str().unwrap().starts_with("tls.cert of service cache: "), "{record}");
    assert_eq!(shown(&mut proxy.client()), second.der);
    proxy.await_that("the gauge", |proxy| (proxy.metric("ravelin_reload_last_failed ")? == 0.0).then_some(()));
    assert!(proxy.metric("ravelin_reload_last_success_seconds ").unwrap() > 1.7e9);
    assert!(!proxy.page("/readyz").1.contains("note"));
    // It was tried again and again, and said once.
    assert_eq!(proxy.records("reload").iter().filter(|record| record["result"] == "kept").count(), 1);
}

#[test]
fn every_file_that_is_named_is_watched_and_off_is_off() {
    let redis = redis();
    let pins = "# none\nfunction f\n";
    let proxy = Proxy::with(&Setup {
        audit: "arguments = \"hashed\"\nhash_key_file = \"hash.key\"",
        outputs: ", { file = { path = \"proved.jsonl\" }, checkpoint = { sign_key = \"sign.key\" } }",
        more: "[policy]\nscripts = { pinned = \"pins\" }",
        before: |dir| {
            write_secret(&dir.join("hash.key"), "a".repeat(64));
            fs::write(dir.join("pins"), "function f\n").unwrap();
            let made = std::process::Command::new("openssl")
                .args(["genpkey", "-algorithm", "ed25519", "-out"])
                .arg(dir.join("sign.key"))
                .output()
                .unwrap();
            assert!(made.status.success());
            write_secret(&dir.join("sign.key"), fs::read(dir.join("sign.key")).unwrap());
        },
        ..watched(&redis)
    });
    let mut count = 0;
    let mut next = |path: &str, content: &str, word: &str| {
        write_secret(&proxy.path(path), content);
        let record = swapped(&proxy, count);
        assert!(record["changes"].to_string().contains(word), "{record}");
        count += 1;
    };
    next("hash.key", &"b".repeat(64), "audit.hash_key_file: ");
    next("pins", pins, "scripts.pinned of service cache: ");
    next("ca.crt", &proxy.pki.ca.cert.replace("-----BEGIN", "# a word\n-----BEGIN"), "tls.client_ca");
    // A key that signs cannot change while its chain goes on.
    write_secret(&proxy.path("sign.key"), "x");
    proxy.await_record("reload", |record| record["detail"].to_string().contains("sign.key"));

    let off = Proxy::with(&Setup { reload: "watch = \"off\"", ..watched(&redis) });
    off.edit("workers = 2", "workers = 2\nidle_timeout = \"1h\"");
    assert_eq!(off.reload()["by"], "signal", "the first to notice is who was told");
    assert_eq!(off.records("reload").len(), 1);
}

#[test]
fn an_operator_is_told_what_is_different_and_why_nothing_is() {
    let redis = redis();
    let proxy = Proxy::with(&Setup { reload: "watch = \"off\"", ..watched(&redis) });
    let (code, said, _) = proxy.ask_for_reload();
    assert_eq!((code, said.as_str()), (Some(0), "reloaded: nothing is different\n"));
    proxy.edit("workers = 2", "workers = 2\nmax_connections = 7\n[policy]\ndeny = [\"preset:hardened\", \"TOUCH\"]");
    write_secret(&proxy.path("cache.password"), PASSWORD.to_owned() + "\n");
    let (code, said, error) = proxy.ask_for_reload();
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(
        said,
        "reloaded: 2 changes\n  limits.max_connections: not given → 7\n  policy.deny: not given → [\"preset:hardened\", \"TOUCH\"]\n"
    );
    proxy.edit("\"TOUCH\"", "\"DEL\"");
    assert!(proxy.ask_for_reload().1.contains("policy.deny: +\"DEL\" -\"TOUCH\""));
    let record = proxy.records("reload").pop().unwrap();
    assert_eq!((&record["by"], &record["result"]), (&json!("operator"), &json!("swapped")), "{record}");

    for (from, to, word) in [
        ("workers = 2", "workers = 2\nno_such_key = 1", "no_such_key"),
        ("workers = 2", "workers = 3", "limits.workers"),
        ("client_ca = \"ca.crt\"", "client_ca = \"none.crt\"", "none.crt"),
    ] {
        proxy.edit(from, to);
        let (code, said, error) = proxy.ask_for_reload();
        assert!(code == Some(3) && said.is_empty() && error.contains(word), "{code:?} {error}");
        assert!(
            proxy.await_record("reload", |record| record["detail"].to_string().contains(word))["changes"] == json!([])
        );
        proxy.edit(to, from);
    }
    assert_eq!(proxy.ask_for_reload().0, Some(0));
    // Not at the address, where anybody may ask.
    let (status, _) = support::credentials::admin(&proxy, "POST", "/reload", "127.0.0.1");
    assert_eq!(status, 404);
}

/// What needs a restart is a short list; the rest of the process' own keys is in force at once.
#[test]
fn limits_caps_the_log_and_what_outputs_take_are_live() {
    let redis = redis();
    let outputs = ", { file = { path = \"some.jsonl\" } }";
    let proxy = Proxy::with(&Setup { reload: "watch = \"off\"", outputs, ..watched(&redis) });
    let mut client = proxy.client();
    client.call(&["SET", "before", "v"]).expect_ok();
    proxy.edit("workers = 2\n",
        "workers = 2\nmax_connections = 2\nmax_connections_per_address = 2\nmemory = \"16MiB\"\nidle_timeout = \"1h\"\nmax_bulk = \"1KiB\"\n",
    );
    proxy.edit("[log]\n", "[log]\nlevel = \"error\"\n");
    proxy.edit(
        "{ file = { path = \"some.jsonl\" } }",
        "{ file = { path = \"some.jsonl\" }, filter = { commands = [\"SET\"] } }",
    );
    proxy.edit("[audit]\n", "[audit]\nqueue = \"1MiB\"\nbegin = \"writes\"\nwatch = { large_request = \"1KiB\" }\n");
    let (code, said, error) = proxy.ask_for_reload();
    assert_eq!(code, Some(0), "{error}");
    for key in ["limits.memory: ", "log.level: ", "audit.begin: ", "audit.output.1.filter.commands: ", "audit.queue: "]
    {
        assert!(said.contains(key), "{key} is not in {said}");
    }
    // The live connection has the new bounds, its commands the new marks, and its records the new filter.
    // It learns of them within a moment of the answer.
    proxy.await_that("a mark", |proxy| {
        client.call(&["SET", "after", "v"]).expect_ok();
        proxy.records("begin").into_iter().find(|record| record["keys"] == json!(["after"]))
    });
    client.call(&["GET", "after"]);
    let notable = client.call(&["SET", "large", &"x".repeat(1000)]);
    notable.expect_ok();
    let record = proxy.await_record("command", |record| record["keys"] == json!(["large"]));
    assert_eq!(record["notable"], json!(["large_request"]), "{record}");
    let some = proxy.await_that("the other output", |proxy| {
        let some = fs::read_to_string(proxy.path("some.jsonl")).unwrap();
        some.contains("\"large\"").then_some(some)
    });
    assert!(some.contains("\"before\"") && !some.contains("\"GET\""), "{some}");
    proxy.await_record("command", |record| record["cmd"] == "GET");
    let _second = proxy.client();
    let _ = std::io::Read::read_to_end(&mut proxy.socket(), &mut Vec::new());
    let refused = proxy.await_record("refused", |_| true);
    assert!(refused["reason"] == "max-connections" || refused["reason"] == "max-per-address", "{refused}");
    client.send(&["SET", "k", &"x".repeat(2000)]);
    assert!(client.reply().error().unwrap().contains("bulk length"), "max_bulk is live");
    assert!(!proxy.log().contains("in force"), "the log has another level: {}", proxy.log());
    proxy.edit("level = \"error\"", "level = \"info\"\nformat = \"json\"");
    // Whoever wants more of it gets more.
    proxy.edit("max_connections = 2\n", "max_connections = 20\n");
    proxy.edit("max_connections_per_address = 2\n", "max_connections_per_address = 20\n");
    assert_eq!(proxy.ask_for_reload().0, Some(0));
    let log = proxy.log();
    let said = log.lines().find(|line| line.contains("reloaded: the new configuration is in force")).unwrap();
    assert!(said.starts_with("{\"stream\":\"log\","), "the log has another form: {said}");
    let clients: Vec<Client> = (0..6).map(|_| proxy.client()).collect();
    assert_eq!(clients.len(), 6);
}

#[test]
fn what_a_role_may_not_say_any_more_is_denied_on_its_live_connections() {
    let redis = redis();
    let proxy = Proxy::with(&watched(&redis));
    let (mut client, mut queued) = (proxy.client(), proxy.client());
    client.call(&["SET", "k", "v"]).expect_ok();
    queued.call(&["MULTI"]).expect_ok();
    assert_eq!(queued.call(&["SET", "k", "w"]).text(), "QUEUED");
    proxy.edit("match = [{ cn = \"app\" }]", "match = [{ cn = \"app\" }]\ndeny = [\"SET\"]");
    let record = swapped(&proxy, 0);
    assert_eq!(record["changes"], json!(["role.app.deny: not given → [\"SET\"]"]));
    proxy.await_that("the denial", |_| {
        client.call(&["SET", "k", "v"]).error().map(|text| assert!(text.contains("NOPERM")))
    });
    assert!(client.call(&["SET", "k", "x"]).error().is_some());
    assert!(queued.call(&["EXEC"]).error().unwrap().starts_with("EXECABORT"), "what it had queued might be denied now");
    assert_eq!(client.call(&["GET", "k"]).text(), "v");
    proxy.edit("\ndeny = [\"SET\"]", "");
    swapped(&proxy, 1);
    proxy.await_that("more", |_| client.call(&["SET", "k", "y"]).error().is_none().then_some(()));
    assert!(proxy.records("connection_close").is_empty());
}

#[test]
fn a_certificate_that_has_another_role_now_has_it_on_its_live_connection() {
    let redis = redis();
    let proxy = Proxy::with(&Setup { roles: TWO, ..watched(&redis) });
    let mut client = proxy.client();
    client.call(&["SET", "k", "v"]).expect_ok();
    let name = proxy.await_record("connection_open", |record| record["role"] == "app")["conn"].clone();
    proxy.edit("match = [{ cn = \"app\" }]", "match = [{ cn = \"nobody\" }]");
    proxy.edit("match = [{ cn = \"ops\" }]", "match = [{ cn = \"ops\" }, { cn = \"app\" }]\ndeny = [\"SET\"]");
    let changed = proxy.await_record("role_changed", |record| record["conn"] == name);
    assert_eq!((&changed["was"], &changed["role"]), (&json!("app"), &json!("ops")), "{changed}");
    assert!(client.call(&["SET", "k", "w"]).error().unwrap().starts_with("NOPERM"));
    assert_eq!(client.call(&["ACL", "WHOAMI"]).text(), "ops");
    let record = proxy.await_record("command", |record| record["cmd"] == "SET" && record["verdict"] == "deny");
    assert_eq!((&record["role"], &record["rule"]), (&json!("ops"), &json!("deny:SET")), "{record}");

    // Nobody's any more.
    proxy.edit(", { cn = \"app\" }", "");
    assert_eq!(client.rest(), b"");
    let close = proxy.await_record("connection_close", |record| record["conn"] == name);
    assert_eq!(close["reason"], "revoked");
}

#[test]
fn a_role_with_another_user_of_redis_or_other_databases_or_no_place_is_not_slipped_into() {
    let redis = redis();
    let more = [
        ("databases = [3]", "a database that is not its"),
        ("limits = { max_connections = 1 }", "no place left"),
        ("client_auth = \"verify\"", "demands a password"),
    ];
    for (line, word) in more {
        let verify = line.contains("verify");
        let more = "[credentials]\nusers_file = \"users\"";
        let proxy = Proxy::with(&Setup {
            roles: TWO,
            more: if verify { more } else { "" },
            before: |dir| write_secret(&dir.join("users"), format!("legacy #{}", "0".repeat(64))),
            reload: "watch = \"off\"",
            ..watched(&redis)
        });
        let _ops = proxy.client_with(&proxy.pki.client("ops").unwrap()).unwrap();
        let mut client = proxy.client();
        proxy.edit("match = [{ cn = \"app\" }]", "match = [{ cn = \"nobody\" }]");
        proxy.edit("match = [{ cn = \"ops\" }]", &format!("match = [{{ cn = \"ops\" }}, {{ cn = \"app\" }}]\n{line}"));
        let (code, _, error) = proxy.ask_for_reload();
        assert_eq!(code, Some(0), "{error}");
        assert_eq!(client.rest(), b"", "{word}");
        let close = proxy.await_record("connection_close", |_| true);
        assert_eq!(close["reason"], "revoked", "{line}: {close}");
    }
}

#[test]
fn a_revoked_certificate_loses_its_connection_within_seconds_and_nobody_asked() {
    let redis = redis();
    let proxy = Proxy::with(&watched(&redis));
    let bad = proxy.pki.client("app").unwrap();
    fs::write(proxy.path("ca.crl"), proxy.pki.ca.crl(&[], 7).unwrap()).unwrap();
    proxy.configure(&proxy.setup());
    swapped(&proxy, 0);
    let (mut revoked, mut other) = (proxy.client_with(&bad).unwrap(), proxy.client());
    fs::write(proxy.path("ca.crl"), proxy.pki.ca.crl(&[&bad.serial], 7).unwrap()).unwrap();
    assert_eq!(revoked.rest(), b"");
    proxy.await_record("connection_close", |record| record["reason"] == "revoked");
    assert_eq!(other.call(&["PING"]).text(), "PONG");
}

#[test]
fn a_connection_leaves_at_its_age_and_not_in_a_transaction() {
    let redis = redis();
    let limits = "max_connection_age = \"2s\"";
    let roles = "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\n[[role]]\nname = \"ops\"\nmatch = [{ cn = \"ops\" }]\nlimits = { max_connection_age = \"0s\" }";
    let proxy = Proxy::with(&Setup { limits, roles, ..watched(&redis) });
    let mut stays = proxy.client_with(&proxy.pki.client("ops").unwrap()).unwrap();
    let (mut idle, mut busy, mut hears) = (proxy.client(), proxy.client(), proxy.client());
    hears.call(&["SUBSCRIBE", "news"]);
    let idles = idle.stream().sock.local_addr().unwrap().to_string();
    busy.call(&["MULTI"]).expect_ok();
    assert_eq!(busy.call(&["INCR", "n"]).text(), "QUEUED");
    assert_eq!(idle.rest(), b"", "closed between two commands");
    let first = proxy.await_record("connection_close", |_| true);
    assert_eq!((&first["reason"], &first["src"]), (&json!("max-age"), &json!(idles)), "{first}");
    let us = first["us"].as_u64().unwrap();
    assert!(us >= 1_800_000, "not more than a tenth early: {us}");
    // Who is in the middle of something has a while.
    assert_eq!(busy.call(&["EXEC"]).elements()[0].integer(), 1);
    assert_eq!(busy.rest(), b"");
    proxy.await_that("two ends", |proxy| (proxy.records("connection_close").len() == 2).then_some(()));
    // Who waits for an event has five seconds of grace, for a tenth of the age is less, and no more.
    redis.connect().call(&["PUBLISH", "news", "x"]).integer();
    assert_eq!(hears.reply().elements().len(), 3);
    assert_eq!(hears.rest(), b"");
    let last = proxy.await_that("the third end", |proxy| proxy.records("connection_close").get(2).cloned());
    assert_eq!(last["reason"], "max-age", "{last}");
    assert!(last["us"].as_u64().unwrap() >= 6_800_000, "{last}");
    assert_eq!(stays.call(&["PING"]).text(), "PONG", "its role has no such age");
}

#[test]
fn who_a_helper_let_in_is_asked_again_at_a_reload_that_was_asked_for() {
    let redis = redis();
    let proxy = Proxy::with(&Setup {
        more: "[credentials]\ncommand = [\"/bin/sh\", \"-c\", \"echo allow\"]",
        roles: "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\nclient_auth = \"verify\"",
        ..watched(&redis)
    });
    let enter = || {
        let mut client = proxy.shake(Some(&proxy.pki.client("app").unwrap())).unwrap();
        client.call(&["AUTH", "any", "word"]).expect_ok();
        client
    };
    let mut client = enter();
    // A certificate that is renewed is no reason to send everybody away.
    let renewed = proxy.pki.server(&["localhost"]).unwrap();
    write_secret(&proxy.path("server.key"), &renewed.key);
    write_secret(&proxy.path("server.crt"), &renewed.chain);
    swapped(&proxy, 0);
    assert_eq!(client.call(&["PING"]).text(), "PONG");
    assert_eq!(proxy.ask_for_reload().0, Some(0));
    assert_eq!(client.rest(), b"");
    let mut client = enter();
    proxy.edit("echo allow", "echo  allow");
    assert_eq!(client.rest(), b"", "another helper has let in nobody");
    proxy.await_that("two who lost their right", |proxy| {
        (proxy.records("connection_close").iter().filter(|record| record["reason"] == "revoked").count() == 2)
            .then_some(())
    });
}

#[test]
fn limits_on_who_comes_that_a_reload_brings_count_who_is_in() {
    let redis = redis();
    let proxy = Proxy::with(&Setup { reload: "watch = \"off\"", ..watched(&redis) });
    let (_first, second) = (proxy.client(), proxy.client());
    let app = proxy.pki.client("app").unwrap();
    proxy.edit(
        "match = [{ cn = \"app\" }]",
        "match = [{ cn = \"app\" }]\nlimits = { max_connections_per_identity = 2 }",
    );
    assert_eq!(proxy.ask_for_reload().0, Some(0));
    assert!(proxy.client_with(&app).is_err());
    proxy.await_record("handshake_failure", |record| record["reason"] == "max-per-identity");
    drop(second);
    proxy.await_that("the place that was left", |proxy| proxy.client_with(&app).ok());
    proxy.edit("workers = 2\n", "workers = 2\naccepts_per_address = { rate = 1, burst = 1 }\n");
    proxy.edit("\nlimits = { max_connections_per_identity = 2 }", "");
    let (code, _, error) = proxy.ask_for_reload();
    assert_eq!(code, Some(0), "{error}");
    proxy.await_that("one too many", |proxy| {
        let _ = proxy.client_with(&app);
        proxy.records("refused").into_iter().find(|record| record["reason"] == "accept-rate")
    });
}
