//! Roles end to end: who has which, and what each has of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use certs_dev::{Issued, Leaf, Wicked};
use serde_json::Value;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use support::{
    client::{Client, greeted},
    process::{PASSWORD, Proxy},
    redis::{Redis, Release},
    setup::{Setup, write_secret},
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

fn redis() -> Redis {
    Redis::with_password(PASSWORD)
}

/// A proxy whose clients need not show a certificate; one without is a guest.
fn open_door(redis: &Redis) -> Proxy {
    Proxy::with(&Setup {
        tls: "client_auth = \"none\"",
        roles: "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\n\
                [[role]]\nname = \"guest\"\nmatch = [{ anonymous = true }]\ndeny = [\"SET\"]\nclient_auth = \"ignore\"",
        ..Setup::before(redis)
    })
}

/// Tries to come in, which must fail, and returns the record of it.
fn refused(proxy: &Proxy, issued: Option<&Issued>) -> Value {
    let before = proxy.records("handshake_failure").len();
    assert!(proxy.shake(issued).and_then(greeted).is_err());
    proxy.await_that("a handshake failure", |proxy| proxy.records("handshake_failure").get(before).cloned())
}

fn as_app(proxy: &Proxy) -> Client {
    proxy.client_with(&proxy.pki.client("app").unwrap()).unwrap()
}

#[test]
fn who_shows_no_certificate_has_the_anonymous_role_and_a_name_in_every_record() {
    let redis = redis();
    let proxy = open_door(&redis);
    let mut guest = proxy.shake(None).and_then(greeted).unwrap();
    assert_eq!(guest.call(&["GET", "k"]).text_or_empty(), "");
    assert!(guest.call(&["SET", "k", "v"]).error().unwrap().starts_with("NOPERM"));
    let mut app = as_app(&proxy);
    app.call(&["SET", "k", "v"]).expect_ok();
    assert_eq!(guest.call(&["GET", "k"]).text(), "v");
    drop((guest, app));
    for event in ["connection_open", "connection_close"] {
        let record = proxy.await_record(event, |record| record["role"] == "guest");
        assert_eq!(record["identity"], "anonymous", "{record}");
        assert!(record["cert_sha256"].is_null(), "{record}");
        proxy.await_record(event, |record| record["role"] == "app" && record["identity"] == "app");
    }
    let denied = proxy.await_record("command", |record| record["verdict"] == "deny");
    assert_eq!(
        (&denied["identity"], &denied["role"], &denied["rule"]),
        (&"anonymous".into(), &"guest".into(), &"deny:SET".into())
    );
}

#[test]
fn a_certificate_that_is_shown_is_verified_and_never_falls_back_to_anonymous() {
    let redis = redis();
    let proxy = open_door(&redis);
    for (wicked, reason) in [
        (Wicked::Expired, "expired"),
        (Wicked::OtherCa, "unknown-ca"),
        (Wicked::WrongUsage, "wrong-usage"),
        (Wicked::NulInName, "bad-name"),
        (Wicked::MismatchedKey, "bad-signature"),
    ] {
        let record = refused(&proxy, Some(&proxy.pki.wicked(wicked).unwrap()));
        assert_eq!(record["reason"], reason, "{wicked:?}: {record}");
    }
    // A certificate that is good, and somebody's who has no role here.
    let record = refused(&proxy, Some(&proxy.pki.client("somebody").unwrap()));
    assert_eq!(record["reason"], "no-role", "{record}");
    // Nor does a name that reads so.
    let record = refused(&proxy, Some(&proxy.pki.client("anonymous").unwrap()));
    assert_eq!(record["reason"], "no-role", "{record}");
    assert_eq!(proxy.records("connection_open").len(), 0);
}

#[test]
fn resumed_sessions_without_a_certificate_are_anonymous_and_end_when_certificates_are_demanded() {
    let redis = redis();
    let proxy = open_door(&redis);
    for versions in [&[&rustls::version::TLS13][..], &[&rustls::version::TLS12]] {
        let config = proxy.tls(None, versions);
        for _ in 0..2 {
            let mut guest = greeted(proxy.shake_with(&config, proxy.socket()).unwrap()).unwrap();
            assert!(guest.call(&["SET", "k", "v"]).error().unwrap().starts_with("NOPERM"));
        }
    }
    proxy.await_record("connection_open", |record| record["resumed"] == true && record["tls"] == "TLSv1.3");
    let mut guest = proxy.shake(None).and_then(greeted).unwrap();
    let mut setup = proxy.setup();
    setup.tls = "";
    setup.roles = "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]";
    proxy.configure(&setup);
    assert_eq!(proxy.reload()["result"], "swapped");
    proxy.await_record("connection_close", |record| record["reason"] == "revoked");
    guest.send(&["PING"]);
    assert!(guest.try_reply().is_none(), "who may no longer be here is not answered");
    assert_eq!(refused(&proxy, None)["reason"], "no-certificate");
}

#[test]
fn a_role_is_found_by_key_by_issuer_and_serial_and_by_network() {
    let redis = redis();
    // The PKI is made with the proxy: roles that name its keys come with a reload.
    let proxy = Proxy::start(&redis);
    let leaf = |cn: &str| proxy.pki.issue(&Leaf::client(cn)).unwrap();
    let (by_key, by_serial, by_network, elsewhere) = (leaf("a"), leaf("b"), leaf("c"), leaf("d"));
    let parsed = |issued: &Issued| X509Certificate::from_der(&issued.der).unwrap().1.public_key().raw.to_vec();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":");
    let issuer = String::from_utf8(
        std::process::Command::new("openssl")
            .args(["x509", "-noout", "-issuer", "-nameopt", "RFC2253", "-in"])
            .arg({
                std::fs::write(proxy.path("b.crt"), &by_serial.chain).unwrap();
                proxy.path("b.crt")
            })
            .output()
            .unwrap()
            .stdout,
    )
    .unwrap();
    let issuer = issuer.trim().strip_prefix("issuer=").unwrap().to_owned();
    let roles = format!(
        "[[role]]\nname = \"key\"\nmatch = [{{ spki_sha256 = '{}' }}]\n\
         [[role]]\nname = \"serial\"\nmatch = [{{ issuer = '{issuer}', serial = '{}' }}]\n\
         [[role]]\nname = \"network\"\nmatch = [{{ cn = 'c' }}]\nfrom = ['127.0.0.0/8']\n\
         [[role]]\nname = \"elsewhere\"\nmatch = [{{ cn = 'd' }}, {{ issuer = 'CN=nobody', serial = '{}' }}]\nfrom = ['127.0.0.2']",
        hex(&Sha256::digest(parsed(&by_key))),
        hex(&by_serial.serial),
        hex(&by_serial.serial),
    );
    let mut setup = proxy.setup();
    setup.roles = Box::leak(roles.into_boxed_str());
    proxy.configure(&setup);
    assert_eq!(proxy.reload()["result"], "swapped");
    for (issued, role) in [(&by_key, "key"), (&by_serial, "serial"), (&by_network, "network")] {
        drop(proxy.client_with(issued).unwrap());
        proxy.await_record("connection_open", |record| record["role"] == role);
    }
    let record = refused(&proxy, Some(&elsewhere));
    assert_eq!(record["reason"], "role-not-from-there", "{record}");
}

#[test]
fn a_role_has_its_own_credential_and_a_reload_that_names_another_user_ends_its_connections() {
    if !Release::of_server().since(6, 0) {
        return;
    }
    let redis = redis();
    let mut admin = redis.connect();
    for user in ["one", "two"] {
        admin.call(&["ACL", "SETUSER", user, "on", &format!(">pw-of-{user}"), "~*", "+@all"]).expect_ok();
    }
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("role.password");
    write_secret(&secret, "pw-of-one\n");
    let roles = |user: &str| -> &'static str {
        let text = format!(
            "[[role]]\nname = \"app\"\nmatch = [{{ cn = \"app\" }}]\n\
             [[role]]\nname = \"own\"\nmatch = [{{ cn = \"own\" }}]\n\
             upstream = {{ username = \"{user}\", password_file = \"{}\" }}",
            secret.display()
        );
        Box::leak(text.into_boxed_str())
    };
    let policy = "[policy]\ndeny = [\"preset:hardened\"]";
    let proxy = Proxy::with(&Setup { roles: roles("one"), more: policy, ..Setup::before(&redis) });
    let who = |redis: &Redis| -> Vec<String> {
        let list = redis.connect().call(&["CLIENT", "LIST"]).text();
        let of = |line: &str| Some(line.split("user=").nth(1)?.split(' ').next()?.to_owned());
        let mut users: Vec<String> = list.lines().filter(|line| line.contains("ravelin:")).filter_map(of).collect();
        users.sort();
        users
    };
    let own = proxy.pki.client("own").unwrap();
    let mut old = proxy.client_with(&own).unwrap();
    let mut app = as_app(&proxy);
    assert_eq!(who(&redis), ["default", "one"], "each role by its own credential");
    write_secret(&secret, "pw-of-two\n");
    let mut setup = proxy.setup();
    setup.roles = roles("two");
    proxy.configure(&setup);
    assert_eq!(proxy.reload()["result"], "swapped");
    // It would go on as a user whose rights its role has no more.
    assert!(old.rest().is_empty());
    let mut new = proxy.client_with(&own).unwrap();
    proxy.await_that("Redis to have let it go", |_| (who(&redis) == ["default", "two"]).then_some(()));
    for client in [&mut app, &mut new] {
        client.call(&["SET", "k", "v"]).expect_ok();
    }
    for (role, user) in [("own", "one".into()), ("own", "two".into()), ("app", Value::Null)] {
        proxy.await_record("command", |record| record["role"] == role && record["upstream_user"] == user);
    }
    // A password that is wrong is the role's trouble alone.
    write_secret(&secret, "pw-of-nobody\n");
    assert_eq!(proxy.reload()["result"], "swapped");
    assert_eq!(proxy.client_with(&own).unwrap().call(&["PING"]).text(), "PONG", "the one before is tried too");
    write_secret(&secret, "pw-of-nobody-else\n");
    assert_eq!(proxy.reload()["result"], "swapped");
    assert!(proxy.client_with(&own).is_err());
    as_app(&proxy).call(&["GET", "k"]);
    let shown = proxy.audit_text() + &proxy.log();
    assert!(!shown.contains("pw-of-"), "no password is ever shown");
}

#[test]
fn a_role_keeps_to_its_databases_in_every_way() {
    let redis = redis();
    let proxy = Proxy::with(&Setup {
        roles: "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\ndatabases = [3, 5]",
        more: "[policy]\ndeny = [\"SHUTDOWN\"]",
        ..Setup::before(&redis)
    });
    let mut app = as_app(&proxy);
    app.call(&["SET", "k", "three"]).expect_ok();
    let mut direct = redis.connect();
    direct.call(&["SELECT", "3"]).expect_ok();
    assert_eq!(direct.call(&["GET", "k"]).text(), "three", "it begins in the first of the list");
    let record = proxy.await_record("command", |record| record["cmd"] == "SET");
    assert_eq!(record["db"], 3, "{record}");
    let mut lines = vec![
        "SELECT 0",
        "SELECT 4",
        "SELECT 15",
        "SWAPDB 3 0",
        "SWAPDB 1 5",
        "MOVE k 0",
        "FLUSHALL",
        "MONITOR",
        "SYNC",
        "MIGRATE 127.0.0.1 1 k 0 10",
        "MOVE k 4294967299",
        "DEBUG OBJECT k",
        "SLOWLOG GET",
        "ACL LOG",
        "CLIENT TRACKING ON",
        "REPLICAOF NO ONE",
        "FAILOVER",
        "EVAL return~redis.call('SELECT','0') 0",
        "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0",
        "FCALL_RO f 0",
    ];
    if Release::of_server().since(6, 2) {
        lines.extend(["COPY k k2 DB 0", "COPY k k2 REPLACE DB 4"]);
        app.call(&["COPY", "k", "k2", "DB", "5"]).integer();
    }
    for line in &lines {
        let words: Vec<&str> = line.split(' ').collect();
        let reply = app.call(&words);
        assert_eq!(reply.error(), Some("NOPERM No permissions to access database"), "{line}: {reply:?}");
    }
    // Its own they may be.
    assert!(app.call(&["MIGRATE", "127.0.0.1", "1", "none", "5", "10"]).error().is_none());
    assert_eq!(app.call(&["SLOWLOG", "LEN"]).error(), None);
    // A denial in MULTI spoils it, and the database stays.
    app.call(&["MULTI"]).expect_ok();
    assert!(app.call(&["SELECT", "0"]).error().unwrap().starts_with("NOPERM"));
    assert!(app.call(&["EXEC"]).error().unwrap().starts_with("EXECABORT"));
    app.call(&["SELECT", "5"]).expect_ok();
    app.call(&["SET", "k", "five"]).expect_ok();
    if Release::of_server().since(6, 2) {
        // What RESET undoes is done again: it begins in its first database.
        assert_eq!(app.call(&["RESET"]).text(), "RESET");
        assert_eq!(app.call(&["GET", "k"]).text(), "three");
        app.call(&["COPY", "k", "k3"]).integer();
        let record = proxy.await_record("command", |record| record["cmd"] == "GET");
        assert_eq!(record["db"], 3, "{record}");
    }
    direct.call(&["SELECT", "0"]).expect_ok();
    assert_eq!(direct.call(&["DBSIZE"]).integer(), 0, "nothing has come into a database that is not its own");
    // The last thing it said, or records might still be on their way.
    app.call(&["ECHO", "last"]);
    proxy.await_record("command", |record| record["cmd"] == "ECHO");
    let denied = proxy.records("command").iter().filter(|record| record["rule"] == "databases").count();
    assert_eq!(denied, lines.len() + 1);
}

/// A script can SELECT: where databases are limited none runs but what is pinned, or where the configuration says so.
#[test]
fn scripts_run_in_limited_databases_only_where_somebody_vouches_for_them() {
    const BODY: &str = "redis.call('SELECT', '0') return redis.call('SET', KEYS[1], 'by script')";
    const DENIED: Option<&str> = Some("NOPERM No permissions to access database");
    let redis = redis();
    let digest: String = Sha1::digest(BODY).iter().map(|byte| format!("{byte:02x}")).collect();
    let dir = tempfile::tempdir().unwrap();
    let pins = dir.path().join("pins");
    std::fs::write(&pins, format!("{digest}  ours.lua\n")).unwrap();
    let roles = |limits: &str, scripts: &str| -> &'static str {
        let text = format!("[[role]]\nname = \"app\"\nmatch = [{{ cn = \"app\" }}]\n{limits}\n{scripts}\n");
        Box::leak(text.into_boxed_str())
    };
    let more = "[policy]\ndeny = [\"SHUTDOWN\"]";
    let proxy = Proxy::with(&Setup { roles: roles("", ""), more, ..Setup::before(&redis) });
    let pinned = format!("scripts = {{ pinned = \"{}\" }}", pins.display());
    let mut direct = redis.connect();
    for limits in ["databases = [0, 3]", "rules = \"+@all ~* db=0,3\""] {
        for (scripts, body, other) in [
            ("", DENIED, DENIED),
            ("scripts = \"read-only\"", DENIED, DENIED),
            ("scripts = \"allow\"", None, None),
            (pinned.as_str(), None, Some("NOPERM this user has no permissions to run the 'eval' command")),
        ] {
            let mut setup = proxy.setup();
            setup.roles = roles(limits, scripts);
            proxy.configure(&setup);
            assert_eq!(proxy.reload()["result"], "swapped");
            let mut app = as_app(&proxy);
            app.call(&["SELECT", "3"]).expect_ok();
            direct.call(&["DEL", "k"]);
            assert_eq!(app.call(&["EVAL", BODY, "1", "k"]).error(), body, "{limits}, {scripts}");
            assert_eq!(direct.call(&["EXISTS", "k"]).integer(), i64::from(body.is_none()), "{limits}, {scripts}");
            assert_eq!(app.call(&["EVAL", "return 1", "0"]).error(), other, "{limits}, {scripts}");
        }
    }
}

#[test]
fn a_reload_that_takes_a_database_away_ends_whoever_stands_in_it() {
    let redis = redis();
    let roles = |list: &str| -> &'static str {
        let text = format!("[[role]]\nname = \"app\"\nmatch = [{{ cn = \"app\" }}]\ndatabases = {list}");
        Box::leak(text.into_boxed_str())
    };
    let proxy = Proxy::with(&Setup { roles: roles("[3, 4]"), ..Setup::before(&redis) });
    let (mut three, mut four) = (as_app(&proxy), as_app(&proxy));
    four.call(&["SELECT", "4"]).expect_ok();
    let mut setup = proxy.setup();
    setup.roles = roles("[4, 5]");
    proxy.configure(&setup);
    assert_eq!(proxy.reload()["result"], "swapped");
    // At rest, and ended all the same.
    proxy.await_record("connection_close", |record| record["reason"] == "revoked");
    three.send(&["GET", "k"]);
    assert!(three.try_reply().is_none());
    assert!(four.call(&["GET", "k"]).error().is_none());
    four.call(&["SELECT", "5"]).expect_ok();
    assert_eq!(proxy.records("connection_close").len(), 1);
}

#[test]
fn a_database_that_redis_has_not_is_told_in_the_record() {
    let redis = redis();
    let proxy = Proxy::with(&Setup {
        roles: "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\ndatabases = [99]",
        ..Setup::before(&redis)
    });
    assert!(proxy.client_with(&proxy.pki.client("app").unwrap()).is_err());
    let record = proxy.await_record("upstream_failed", |_| true);
    assert_eq!(record["reason"], "database", "{record}");
}

#[test]
fn a_role_has_limits_of_its_own() {
    let redis = redis();
    let proxy = Proxy::with(&Setup {
        roles: "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\n\
                [[role]]\nname = \"small\"\nmatch = [{ cn = \"small\" }]\n\
                limits = { max_connections = 2, max_bulk = \"1KiB\", max_words = 16 }\n\
                [[role]]\nname = \"brief\"\nmatch = [{ cn = \"brief\" }]\nlimits = { idle_timeout = \"1s\" }",
        ..Setup::before(&redis)
    });
    let small = proxy.pki.client("small").unwrap();
    let (mut first, _second) = (proxy.client_with(&small).unwrap(), proxy.client_with(&small).unwrap());
    let record = refused(&proxy, Some(&small));
    assert_eq!(record["reason"], "max-per-role", "{record}");
    let mut app = as_app(&proxy);
    let value = "x".repeat(1025);
    app.call(&["SET", "k", &value]).expect_ok();
    first.call(&["SET", "k", &value[1..]]).expect_ok();
    let error = first.call(&["SET", "k", &value]);
    assert!(error.error().unwrap().contains("invalid bulk length"), "{error:?}");
    proxy.await_record("connection_close", |record| record["reason"] == "protocol");
    // A place is free again.
    let mut third = proxy.await_that("a place", |proxy| proxy.client_with(&small).ok());
    let words: Vec<String> = (0..17).map(|n| n.to_string()).collect();
    let del: Vec<&str> = std::iter::once("DEL").chain(words.iter().map(String::as_str)).collect();
    assert!(third.call(&del).error().unwrap().contains("invalid multibulk length"));
    app.call(&del).integer();
    // Of those that say nothing only the role with a timeout is left.
    let _brief = proxy.client_with(&proxy.pki.client("brief").unwrap()).unwrap();
    proxy.await_record("connection_close", |record| record["reason"] == "idle" && record["role"] == "brief");
    assert_eq!(app.call(&["PING"]).text(), "PONG");
    assert!(proxy.records("connection_close").iter().all(|record| record["role"] != "app"));
}
