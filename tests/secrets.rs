//! Redis' password from wherever it is kept, changed in either order, refused and taken again; and shown nowhere.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use aws_lc_rs::hmac;
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};
use support::{
    credentials::{leak, program},
    load::Dice,
    process::{PASSWORD, Proxy},
    redis::{Redis, Release},
    setup::{Setup, write_secret},
};
use tempfile::TempDir;

const WATCHED: &str = "watch = \"250ms\"";
const SOCKET: &str = "socket = { path = \"admin.sock\" }";

fn redis() -> Redis {
    Redis::with_password(PASSWORD)
}

fn watched(redis: &Redis) -> Setup {
    Setup { reload: WATCHED, admin: SOCKET, ..Setup::before(redis) }
}

/// The same with entries of `upstream`.
fn with_upstream(redis: &Redis, upstream: String) -> Setup {
    let mut setup = watched(redis);
    setup.services[0].upstream = leak(upstream);
    setup
}

fn require(redis: &Redis, password: &str) {
    let mut wire = redis.connect();
    wire.call(&["CONFIG", "SET", "requirepass", password]).expect_ok();
}

fn refusals(proxy: &Proxy) -> Option<f64> {
    proxy.metric("ravelin_upstream_credential_refused{role=\"\",service=\"cache\"}")
}

/// Waits until clients are let in, and says how one fares.
fn await_service(proxy: &Proxy) {
    let app = proxy.pki.client("app").unwrap();
    proxy.await_that("a client that is let in", |proxy| proxy.client_with(&app).ok());
}

#[test]
fn the_order_of_changing_redis_and_the_file_does_not_matter() {
    let redis = redis();
    let proxy = Proxy::with(&watched(&redis));
    let mut before = proxy.client();
    // The file first: Redis takes the one before.
    write_secret(&proxy.path("cache.password"), "second");
    let record = proxy.await_record("reload", |_| true);
    assert_eq!(record["changes"], json!(["the password of service cache has changed"]), "{record}");
    assert_eq!(proxy.client().call(&["PING"]).text(), "PONG");
    let auths = proxy.await_that("three answers to AUTH", |proxy| {
        let told = proxy.records("upstream_command").into_iter().filter(|record| record["cmd"] == "AUTH");
        let auths: Vec<Value> = told.map(|record| record["outcome"].clone()).collect();
        (auths.len() >= 3).then_some(auths)
    });
    assert_eq!(auths, ["ran", "error", "ran"], "the new one was refused, and the old one tried once");
    require(&redis, "second");
    assert_eq!(proxy.client().call(&["PING"]).text(), "PONG");
    // Redis first: the next one lies ready.
    let proxy2 = Proxy::with(&Setup {
        before: |dir| {
            write_secret(&dir.join("now"), "second\n");
            write_secret(&dir.join("next"), "third\n");
        },
        ..with_upstream(&redis, ", password_file = \"now\", next_password_file = \"next\"".to_owned())
    });
    assert_eq!(proxy2.client().call(&["PING"]).text(), "PONG");
    change(&redis, "second", "third");
    assert_eq!(proxy2.client().call(&["PING"]).text(), "PONG");
    // Who was in stays in.
    assert_eq!(before.call(&["PING"]).text(), "PONG");
    if Release::of_server().since(6, 2) {
        // RESET authenticates again, with what is right now.
        let mut client = proxy2.client();
        assert_eq!(client.call(&["RESET"]).text(), "RESET");
        assert_eq!(client.call(&["PING"]).text(), "PONG");
    }
    assert!(proxy.page("/readyz").0 == 200 && proxy2.page("/readyz").0 == 200);
}

/// Over a connection of its own, because the harness knows the first password only.
fn change(redis: &Redis, old: &str, new: &str) {
    let mut wire = support::wire::Wire::over_unix(std::os::unix::net::UnixStream::connect(redis.socket()).unwrap());
    wire.call(&["AUTH", old]).expect_ok();
    wire.call(&["CONFIG", "SET", "requirepass", new]).expect_ok();
}

#[test]
fn a_password_that_redis_refuses_is_an_alarm_and_heals_by_itself() {
    let redis = redis();
    // Nobody watches the files: a refusal alone has them read again.
    let proxy = Proxy::with(&Setup { reload: "watch = \"off\"", ..watched(&redis) });
    let app = proxy.pki.client("app").unwrap();
    let mut before = proxy.client();
    require(&redis, "another");
    assert_eq!(proxy.page("/readyz").0, 200, "nobody has noticed");
    let error = proxy.client_with(&app).err().expect("nobody is let in");
    assert!(error.to_string().contains("-ERR th"), "{error}");
    let record = proxy.await_record("upstream_credential", |_| true);
    assert_eq!((&record["service"], &record["result"]), (&json!("cache"), &json!("refused")), "{record}");
    proxy.await_that("the gauge", |proxy| (refusals(proxy)? == 1.0).then_some(()));
    let (status, page) = proxy.page("/readyz");
    assert!(status == 503 && page.contains("the Redis of service cache refuses the proxy's password"), "{page}");
    assert!(proxy.log().contains("Redis refuses the proxy's password"), "{}", proxy.log());
    assert_eq!(before.call(&["PING"]).text(), "PONG", "who is in stays in");
    write_secret(&proxy.path("cache.password"), "another\n");
    proxy.await_record("upstream_credential", |record| record["result"] == "accepted");
    assert_eq!(proxy.page("/readyz").0, 200);
    assert_eq!(refusals(&proxy), Some(0.0));
    assert_eq!(proxy.client().call(&["PING"]).text(), "PONG");
    let record = proxy.records("reload").pop().unwrap();
    assert_eq!((&record["what"], &record["by"]), (&json!("secrets"), &json!("secret")), "{record}");
    // It heals from Redis' side as well.
    change(&redis, "another", "third");
    assert!(proxy.client_with(&app).is_err());
    proxy.await_that("a second alarm", |proxy| (proxy.records("upstream_credential").len() == 3).then_some(()));
    change(&redis, "third", "another");
    proxy.await_that("its end", |proxy| (proxy.records("upstream_credential").len() == 4).then_some(()));
    await_service(&proxy);
}

#[test]
fn a_role_whose_own_password_is_refused_keeps_nobody_else_out() {
    if !Release::of_server().since(6, 0) {
        return;
    }
    let redis = redis();
    redis.connect().call(&["ACL", "SETUSER", "one", "on", ">of-one", "~*", "+@all"]).expect_ok();
    let proxy = Proxy::with(&Setup {
        roles: "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\n[[role]]\nname = \"one\"\nmatch = [{ cn = \"one\" }]\n\
                upstream = { username = \"one\", password_file = \"one\" }",
        before: |dir| write_secret(&dir.join("one"), "wrong"),
        ..watched(&redis)
    });
    let one = proxy.pki.client("one").unwrap();
    assert!(proxy.client_with(&one).is_err());
    let record = proxy.await_record("upstream_credential", |_| true);
    assert_eq!((&record["role"], &record["result"]), (&json!("one"), &json!("refused")), "{record}");
    assert_eq!(proxy.page("/readyz").0, 200);
    assert_eq!(proxy.client().call(&["PING"]).text(), "PONG");
    write_secret(&proxy.path("one"), "of-one");
    proxy.await_record("upstream_credential", |record| record["result"] == "accepted" && record["role"] == "one");
    assert_eq!(proxy.client_with(&one).unwrap().call(&["PING"]).text(), "PONG");
}

#[test]
fn credentials_of_systemd_and_variables_are_read_and_warned_about() {
    let redis = redis();
    let dir = tempfile::tempdir().unwrap();
    write_secret(&dir.path().join("redis-password"), format!("{PASSWORD}\n"));
    let folder = dir.path().display().to_string();
    let proxy = Proxy::with(&Setup {
        environment: vec![("CREDENTIALS_DIRECTORY", folder)],
        ..with_upstream(&redis, ", password_credential = \"redis-password\"".to_owned())
    });
    assert_eq!(proxy.client().call(&["PING"]).text(), "PONG");
    write_secret(&dir.path().join("redis-password"), "second");
    proxy.await_record("reload", |record| record["changes"] == json!(["the password of service cache has changed"]));

    let setup = Setup {
        environment: vec![("SECRET_OF_REDIS", PASSWORD.to_owned())],
        more: "[credentials]\ncommand = [\"/bin/sh\", \"-c\", \"env > /proc/self/fd/1 | grep -q SECRET && echo deny || echo allow\"]",
        roles: "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\nclient_auth = \"verify\"",
        ..with_upstream(&redis, ", password_env = \"SECRET_OF_REDIS\"".to_owned())
    };
    let proxy = Proxy::with(&setup);
    assert!(
        proxy.log().contains("the environment variable SECRET_OF_REDIS can be read by everything"),
        "{}",
        proxy.log()
    );
    // What is run does not inherit it.
    let mut client = proxy.shake(Some(&proxy.pki.client("app").unwrap())).unwrap();
    client.call(&["AUTH", "any", "word"]).expect_ok();
    assert_eq!(client.call(&["PING"]).text(), "PONG");
    // And `check` says so too, and says when it is not there.
    let check = |set: bool| {
        let mut command = std::process::Command::new(support::process::program());
        command.args(["check", "--offline", "-c"]).arg(proxy.path("ravelin.toml"));
        if set {
            command.env("SECRET_OF_REDIS", PASSWORD);
        }
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(!text.contains(PASSWORD));
        (output.status.code(), text)
    };
    let (code, text) = check(true);
    assert!(code == Some(0) && text.contains("SECRET_OF_REDIS can be read by everything"), "{text}");
    let (code, text) = check(false);
    assert!(code == Some(3) && text.contains("the environment variable SECRET_OF_REDIS is not set"), "{text}");
}

#[test]
fn the_keys_that_hash_and_sign_records_are_credentials_of_systemd_too() {
    let redis = redis();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let openssl = |words: &[&str]| {
        let made = std::process::Command::new("openssl").args(words).current_dir(dir.path()).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    };
    let secret = "0123456789abcdef".repeat(4);
    write_secret(&at("hash-key"), format!("{secret}\n"));
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", "sign-key"]);
    write_secret(&at("sign-key"), fs::read(at("sign-key")).unwrap());
    openssl(&["pkey", "-in", "sign-key", "-pubout", "-out", "audit.pub"]);
    let setup = Setup {
        audit: "arguments = \"hashed\"\nhash_key_credential = \"hash-key\"",
        outputs: ", { file = { path = \"proven.jsonl\" }, checkpoint = { sign_key_credential = \"sign-key\" } }",
        environment: vec![("CREDENTIALS_DIRECTORY", dir.path().display().to_string())],
        ..watched(&redis)
    };
    let hashed = |secret: &str, key: &str| {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), key.as_bytes());
        tag.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let mut proxy = Proxy::with(&setup);
    proxy.client().call(&["SET", "user:17", "x"]).expect_ok();
    proxy.await_record("command", |record| record["keys_hmac"] == json!([hashed(&secret, "user:17")]));
    // systemd copies at the start; who puts another one there all the same is heard.
    let other = "f".repeat(64);
    write_secret(&at("hash-key"), &other);
    proxy.await_record("reload", |record| record["changes"].to_string().contains("audit.hash_key_file: "));
    proxy.client().call(&["SET", "user:17", "x"]).expect_ok();
    proxy.await_record("command", |record| record["keys_hmac"] == json!([hashed(&other, "user:17")]));
    assert!(proxy.stop().success());
    let verify = |key: &str| {
        let mut command = std::process::Command::new(support::process::program());
        command.args(["audit", "verify", "--key"]).arg(at(key)).arg(proxy.path("proven.jsonl"));
        command.output().unwrap()
    };
    let proven = verify("audit.pub");
    assert!(proven.status.success(), "{proven:?}");
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", "stranger"]);
    openssl(&["pkey", "-in", "stranger", "-pubout", "-out", "stranger.pub"]);
    assert!(!verify("stranger.pub").status.success(), "it was the credential that signed, and no other key");
    let shown = proxy.log() + &proxy.audit_text();
    assert!(!shown.contains(&secret) && !shown.contains(&other) && !shown.contains("user:17"), "{shown}");

    // Whoever is started without them is told so.
    for (key, name) in [("hash_key_credential", "hash-key"), ("sign_key_credential", "sign-key")] {
        let text = proxy.configuration().replace(&format!("{key} = \"{name}\""), &format!("{key} = \"gone\""));
        fs::write(proxy.path("gone.toml"), text).unwrap();
        let mut command = std::process::Command::new(support::process::program());
        command.args(["check", "--offline", "-c"]).arg(proxy.path("gone.toml"));
        let output = command.env("CREDENTIALS_DIRECTORY", dir.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.code() == Some(3) && said.contains(key) && said.contains("gone"), "{said}");
    }
}

/// A program that prints what a file holds, and says how often it was run.
fn vault(dir: &TempDir) -> String {
    let at = dir.path().display();
    program(dir.path(), &format!("echo run >> {at}/runs\ncat {at}/value && ! test -e {at}/broken"))
}

fn runs(dir: &TempDir) -> usize {
    fs::read_to_string(dir.path().join("runs")).unwrap_or_default().lines().count()
}

#[test]
fn a_vault_is_asked_in_time_and_its_last_word_kept_while_it_fails() {
    let redis = redis();
    let dir = tempfile::tempdir().unwrap();
    let value = dir.path().join("value");
    fs::write(&value, format!("{PASSWORD}\n")).unwrap();
    let program = vault(&dir);
    let upstream =
        format!(", password_command = {{ run = [\"{program}\", \"s3cr3t-token\"], ttl = \"1s\", timeout = \"20s\" }}");
    let proxy = Proxy::with(&Setup { reload: "watch = \"off\"", ..with_upstream(&redis, upstream) });
    assert_eq!(proxy.client().call(&["PING"]).text(), "PONG");
    proxy.await_that("further runs", |_| (runs(&dir) >= 3).then_some(()));
    assert!(proxy.records("reload").is_empty(), "the same word again is no news");
    // Another one is in force for new connections, with the one before beside it.
    fs::write(&value, "second").unwrap();
    let record = proxy.await_record("reload", |_| true);
    assert_eq!(
        (&record["what"], &record["by"], &record["changes"]),
        (&json!("secrets"), &json!("secret"), &json!(["the password of service cache has changed"])),
    );
    assert_eq!(proxy.client().call(&["PING"]).text(), "PONG");
    require(&redis, "second");
    assert_eq!(proxy.client().call(&["PING"]).text(), "PONG");
    // It fails: what it prints then does not count.
    fs::write(dir.path().join("broken"), "").unwrap();
    fs::write(&value, "third").unwrap();
    let record = proxy.await_record("reload", |record| record["result"] == "kept");
    assert!(record["detail"].as_str().unwrap().contains("ended with exit status: 1"), "{record}");
    proxy.await_that("the counter", |proxy| {
        (proxy.metric("ravelin_reloads_total{result=\"kept\",what=\"secrets\"}")? >= 1.0).then_some(())
    });
    assert_eq!(proxy.client().call(&["PING"]).text(), "PONG", "the last one is kept");
    // At a reload too; and a new program that fails is refused.
    let (code, _, error) = proxy.ask_for_reload();
    assert_eq!(code, Some(0), "{error}");
    let text = proxy.configuration();
    fs::write(proxy.path("ravelin.toml"), text.replace("s3cr3t-token", "s3cr3t-other")).unwrap();
    let (code, _, error) = proxy.ask_for_reload();
    assert!(code == Some(3) && error.contains("prints no password"), "{code:?} {error}");
    fs::remove_file(dir.path().join("broken")).unwrap();
    let (code, said, error) = proxy.ask_for_reload();
    assert_eq!(code, Some(0), "{error}");
    assert!(said.contains("password_command.run: changed") && !said.contains("s3cr3t"), "{said}");
    change(&redis, "second", "third");
    await_service(&proxy);
    let shown = proxy.log() + &proxy.audit_text();
    assert!(!shown.contains("s3cr3t") && !shown.contains("third") && !shown.contains(PASSWORD), "{shown}");
}

#[test]
fn a_vault_that_fails_is_asked_less_and_less_often_and_never_in_the_way_of_clients() {
    let redis = redis();
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    // When each run began, in milliseconds; one that fails takes its time first.
    let script =
        format!("date +%s%3N >> {at}/runs\nif test -e {at}/broken; then sleep 0.3; exit 1; fi\ncat {at}/value");
    fs::write(dir.path().join("value"), PASSWORD).unwrap();
    let program = program(dir.path(), &script);
    let upstream = format!(", password_command = {{ run = [\"{program}\"], ttl = \"1s\", timeout = \"20s\" }}");
    let proxy = Proxy::with(&Setup { reload: "watch = \"off\"", ..with_upstream(&redis, upstream) });
    let kept = |proxy: &Proxy| proxy.records("reload").iter().filter(|record| record["result"] == "kept").count();
    fs::write(dir.path().join("broken"), "").unwrap();
    proxy.await_that("three failures", |proxy| {
        // Clients come and go meanwhile, as if nothing were.
        assert_eq!(proxy.client().call(&["PING"]).text(), "PONG");
        (kept(proxy) == 3).then_some(())
    });
    let text = fs::read_to_string(dir.path().join("runs")).unwrap();
    let began: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
    let [.., first, second, third] = began[..] else { panic!("{text}") };
    // A failure's run took 300 ms, and then 1 s and 2 s were waited.
    assert!(second - first >= 1250 && third - second >= 2250, "{began:?}");
    // It is well again: what it prints is in force, and the next comes in its time and not in that of the failures.
    fs::remove_file(dir.path().join("broken")).unwrap();
    fs::write(dir.path().join("value"), "second").unwrap();
    proxy.await_record("reload", |record| record["result"] == "swapped");
    let well = runs(&dir);
    proxy.await_that("it is asked before its time to live is over again", |_| (runs(&dir) >= well + 2).then_some(()));
    let text = fs::read_to_string(dir.path().join("runs")).unwrap();
    let last: Vec<u64> = text.lines().skip(well - 1).map(|line| line.parse().unwrap()).collect();
    assert!(last[1] - last[0] >= 700, "{last:?}");
    assert_eq!(kept(&proxy), 3);
}

#[test]
fn without_a_password_to_begin_with_there_is_no_start() {
    let redis = redis();
    let dir = tempfile::tempdir().unwrap();
    let slow = program(dir.path(), "sleep 600");
    let proxy = Proxy::with(&watched(&redis));
    let text = proxy.configuration();
    for (source, word) in [
        (format!("password_command = {{ run = [\"{slow}\"], timeout = \"100ms\" }}"), "has not ended within 100ms"),
        ("password_command = { run = [\"/bin/false\"] }".to_owned(), "ended with exit status: 1"),
        ("password_command = { run = [\"bin/false\"] }".to_owned(), "is not an absolute path"),
        ("password_command = { ttl = \"1s\" }".to_owned(), "password_command.run: is missing"),
        ("password_command = { run = [\"/bin/false\"], ttl = \"1ms\" }".to_owned(), "ttl: expected"),
        ("password_credential = \"x\"".to_owned(), "CREDENTIALS_DIRECTORY is not set"),
        ("password_credential = \"../x\"".to_owned(), "is not the name of a credential"),
        ("password_env = \"NOBODY_SETS_THIS\"".to_owned(), "NOBODY_SETS_THIS is not set"),
        ("password_file = \"cache.password\", password_env = \"PATH\"".to_owned(), "another source of this password"),
    ] {
        let changed = text.replace("password_file = \"cache.password\"", &source);
        assert_ne!(changed, text);
        let file = proxy.path("other.toml");
        fs::write(&file, changed).unwrap();
        for words in [&["run", "-c"][..], &["check", "-c"]] {
            let output =
                std::process::Command::new(support::process::program()).args(words).arg(&file).output().unwrap();
            assert!(!output.status.success(), "{source}");
            let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            assert!(said.contains(word), "{word} is not in {said}");
        }
    }
}

/// Random secrets in every source there is, changed and refused, with everything logged that can be: none is shown.
#[test]
fn no_secret_of_any_source_is_shown_anywhere() {
    let mut dice = Dice::new(0x005e_c2e7);
    let around = ["", "\"", "\\", "é", "{", "=", "/", " ", "$", "'"];
    let mut markers: Vec<String> = Vec::new();
    let mut secret = |dice: &mut Dice| {
        let marker = format!("Z{:012x}Z", dice.roll(1 << 48));
        let text = format!("{}{marker}{}", dice.pick(&around), dice.pick(&around));
        markers.push(marker);
        text
    };
    let first = secret(&mut dice);
    let redis = Redis::with_password(&first);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let put = |name: &str, text: &str| write_secret(&at(name), text);
    for name in ["value", "credential", "file", "next", "hash.key", "rename"] {
        put(name, &secret(&mut dice));
    }
    put("value", &first);
    put("hash.key", &secret(&mut dice).repeat(3));
    put("rename", "CONFIG ZconfigZ");
    let program = vault(&dir);
    let argument = secret(&mut dice).replace(['"', '\\'], "");
    let (variable, leaked) = (secret(&mut dice), dir.path().display());
    let role = |name: &str, upstream: &str| {
        format!(
            "[[role]]\nname = \"{name}\"\nmatch = [{{ cn = \"{name}\" }}]\nupstream = {{ username = \"{name}\", {upstream} }}\n"
        )
    };
    let roles = [
        "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\n".to_owned(),
        role("a", "password_credential = \"credential\""),
        role("b", "password_env = \"SECRET_OF_B\""),
        role("c", &format!("password_file = \"{leaked}/file\", next_password_file = \"{leaked}/next\"")),
        format!("[[role]]\nname = \"d\"\nmatch = [{{ cn = \"d\" }}]\nrename_file = \"{leaked}/rename\"\n"),
    ];
    let upstream = format!(", password_command = {{ run = [\"{program}\", \"{argument}\"], ttl = \"1s\" }}");
    let mut setup = with_upstream(&redis, upstream);
    setup.roles = leak(roles.concat());
    setup.log = "level = \"trace\"";
    setup.audit = leak(format!("arguments = \"hashed\"\nhash_key_file = \"{leaked}/hash.key\""));
    setup.environment = vec![("SECRET_OF_B", variable), ("CREDENTIALS_DIRECTORY", dir.path().display().to_string())];
    let mut proxy = Proxy::with(&setup);
    let mut said = String::new();
    let names = ["a", "b", "c"];
    let issued: Vec<_> = names.iter().map(|name| proxy.pki.client(name).unwrap()).collect();
    assert_eq!(proxy.client().call(&["PING"]).text(), "PONG");
    for round in 0..6 {
        for each in &issued {
            // Nobody of them is known to Redis: each is refused.
            said.push_str(&proxy.client_with(each).err().expect("a refusal").to_string());
        }
        let name = dice.pick(&["credential", "file", "next", "hash.key", "value"]);
        let text = secret(&mut dice);
        put(name, &if name == "hash.key" { text.repeat(3) } else { text });
        let (code, out, error) = proxy.ask_for_reload();
        assert_eq!(code, Some(0), "{error}");
        said.push_str(&out);
        if round == 3 {
            put("file", "");
            let (code, _, error) = proxy.ask_for_reload();
            assert_eq!(code, Some(3));
            said.push_str(&error);
            put("file", &secret(&mut dice));
        }
    }
    let text = proxy.configuration();
    fs::write(proxy.path("ravelin.toml"), text.replace(&argument, &secret(&mut dice).replace(['"', '\\'], "")))
        .unwrap();
    let (_, out, error) = proxy.ask_for_reload();
    assert!(out.contains("password_command.run: changed"), "{out}{error}");
    said.push_str(&out);
    proxy.await_that("alarms", |proxy| (proxy.records("upstream_credential").len() >= 3).then_some(()));
    let (_, metrics) = proxy.page("/metrics");
    let (_, ready) = proxy.page("/readyz");
    let checked = std::process::Command::new(support::process::program())
        .args(["check", "-v", "--json", "-c"])
        .arg(proxy.path("ravelin.toml"))
        .envs(setup.environment.iter().map(|(name, value)| (name, value)))
        .output()
        .unwrap();
    let checked = String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
    assert!(checked.contains("prints, good for"), "{checked}");
    assert!(proxy.stop().success());
    markers.push("ZconfigZ".to_owned());
    let texts = [("log", proxy.log()), ("records", proxy.audit_text()), ("metrics", metrics), ("readiness", ready)];
    for (place, text) in texts.into_iter().chain([("what was said", said), ("check", checked)]) {
        assert!(!text.is_empty(), "{place}");
        for marker in &markers {
            assert!(!text.contains(marker.as_str()), "{marker} is in {place}: {text}");
        }
    }
    // What is no secret is shown, or the test would hold of an empty stream.
    assert!(proxy.audit_text().contains("the password of service cache has changed") || markers.len() > 10);
    assert!(proxy.log().contains("Redis refuses the proxy's password"));
}

#[test]
fn a_file_that_everybody_may_read_is_refused_at_a_reload_and_mended_without_one() {
    let redis = redis();
    let proxy = Proxy::with(&watched(&redis));
    let mode = |mode: u32| {
        let path: &Path = &proxy.path("cache.password");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    write_secret(&proxy.path("cache.password"), format!("{PASSWORD}\n"));
    mode(0o644);
    let record = proxy.await_record("reload", |record| record["result"] == "kept");
    assert!(record["detail"].as_str().unwrap().contains("everybody on this host may read"), "{record}");
    // The bytes stay the same, and so nothing but trying again finds out.
    mode(0o600);
    proxy.await_record("reload", |record| record["result"] == "swapped");
}

#[test]
fn a_look_at_redis_tries_the_passwords_that_a_client_would_and_raises_the_same_alarm() {
    let redis = redis();
    let upstream = ", password_file = \"now\", next_password_file = \"next\", health = { interval = \"100ms\", successes = 1 }, \
                    backoff = { initial = \"10ms\", max = \"100ms\" }";
    let proxy = Proxy::with(&Setup {
        before: |dir| {
            write_secret(&dir.join("now"), PASSWORD);
            write_secret(&dir.join("next"), "third\n");
        },
        reload: "watch = \"off\"",
        ..with_upstream(&redis, upstream.to_owned())
    });
    let looks = |seen: &str| {
        let line = format!("ravelin_upstream_looks_total{{found=\"{seen}\",service=\"cache\"}}");
        proxy.metric(&line).unwrap_or(0.0)
    };
    change(&redis, PASSWORD, "third");
    let before = looks("well");
    proxy.await_that("two more looks", |_| (looks("well") >= before + 2.0).then_some(()));
    assert_eq!((looks("auth"), proxy.page("/readyz").0), (0.0, 200), "the next one is as good");

    // Nobody connects; a look tells.
    change(&redis, "third", "another");
    let record = proxy.await_record("upstream_credential", |_| true);
    assert_eq!((&record["service"], &record["result"]), (&json!("cache"), &json!("refused")), "{record}");
    proxy.await_that("the page", |proxy| (proxy.page("/readyz").0 == 503).then_some(()));
    write_secret(&proxy.path("now"), "another\n");
    proxy.await_record("upstream_credential", |record| record["result"] == "accepted");
    proxy.await_that("the page", |proxy| (proxy.page("/readyz").0 == 200).then_some(()));
    assert_eq!(proxy.client().call(&["PING"]).text(), "PONG");
}
