//! Who comes in: admission, TLS and its refusals, roles, caps; and which Redis is trusted with the password.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use certs_dev::{Issued, Leaf, Wicked};
use serde_json::Value;
use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::PermissionsExt as _,
};
use support::{
    client::greeted,
    process::{PASSWORD, Proxy},
    redis::Redis,
    setup::{Service, Setup},
};

fn redis() -> Redis {
    Redis::with_password(PASSWORD)
}

/// Tries to come in with this certificate, which must fail, and returns the record of it.
fn refused(proxy: &Proxy, issued: Option<&Issued>) -> Value {
    let before = proxy.records("handshake_failure").len();
    assert!(proxy.shake(issued).and_then(greeted).is_err(), "{:?} was let in", issued.map(|issued| &issued.cert));
    proxy.await_that("a handshake failure", |proxy| proxy.records("handshake_failure").get(before).cloned())
}

#[test]
fn wicked_certificates_are_refused_and_recorded_in_words() {
    let redis = redis();
    let proxy = Proxy::start(&redis);
    let before = redis.calls_of("ping");
    for (wicked, reason) in [
        (Wicked::Expired, "expired"),
        (Wicked::NotYetValid, "not-yet-valid"),
        (Wicked::OtherCa, "unknown-ca"),
        (Wicked::WrongUsage, "wrong-usage"),
        (Wicked::MissingIntermediate, "unknown-ca"),
        (Wicked::NulInName, "bad-name"),
        (Wicked::NulInUri, "bad-name"),
        (Wicked::ControlInName, "bad-name"),
        (Wicked::TwoNames, "bad-name"),
        (Wicked::Version1, "x509-v1"),
        (Wicked::MismatchedKey, "bad-signature"),
    ] {
        let record = refused(&proxy, Some(&proxy.pki.wicked(wicked).unwrap()));
        assert_eq!(record["reason"], reason, "{wicked:?}: {record}");
        assert_eq!(record["service"], "cache");
        assert!(record["src"].as_str().unwrap().starts_with("127.0.0.1:"), "{record}");
        assert!(!record["detail"].as_str().unwrap().is_empty());
        if wicked == Wicked::Version1 {
            let hint = record["hint"].as_str().unwrap();
            assert!(hint.contains("ravelin certs") && hint.contains("-extfile"), "{hint}");
        }
    }
    let record = refused(&proxy, None);
    assert_eq!(record["reason"], "no-certificate", "{record}");
    assert_eq!(redis.calls_of("ping"), before, "nothing of theirs reached Redis");
    assert_eq!(proxy.records("connection_open").len(), 0);
}

#[test]
fn a_certificate_without_a_role_is_refused_and_its_names_are_recorded() {
    let redis = redis();
    let proxy = Proxy::start(&redis);
    let other = proxy.pki.issue(&Leaf::client("somebody").uri("spiffe://prod/somebody")).unwrap();
    let record = refused(&proxy, Some(&other));
    assert_eq!(record["reason"], "no-role", "{record}");
    assert!(record["unverified"].to_string().contains("spiffe://prod/somebody"), "{record}");
}

#[test]
fn an_address_off_the_list_gets_no_byte_and_a_record() {
    let redis = redis();
    for (allow, more, reason) in [
        ("[\"10.0.0.0/8\"]", "", "address-not-allowed"),
        ("[]", "", "address-not-allowed"),
        ("[\"127.0.0.0/8\"]\ndeny = [\"127.0.0.1\"]", "", "address-denied"),
    ] {
        let proxy = Proxy::with(&Setup { allow, more, ..Setup::before(&redis) });
        let mut socket = proxy.socket();
        // A ClientHello is on its way already; the answer to it would be bytes.
        let _ = socket.write_all(&[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0]);
        let mut got = Vec::new();
        // The end may come as a reset: what was sent here is never read there.
        let _ = socket.read_to_end(&mut got);
        assert_eq!(got, b"", "{allow}");
        assert!(proxy.client_with(&proxy.pki.client("app").unwrap()).is_err());
        let record = proxy.await_record("refused", |_| true);
        assert_eq!(record["reason"], reason, "{allow}: {record}");
        assert!(record["src"].as_str().unwrap().starts_with("127.0.0.1:"), "{record}");
        assert_eq!(record["listener"], proxy.address().to_string());
        assert_eq!(proxy.records("handshake_failure").len(), 0);
    }
}

#[test]
fn who_speaks_no_tls_is_told_nothing_and_recorded() {
    let redis = redis();
    let proxy = Proxy::start(&redis);
    let mut socket = proxy.socket();
    socket.write_all(b"*1\r\n$4\r\nPING\r\n").unwrap();
    let mut got = Vec::new();
    let _ = socket.read_to_end(&mut got);
    assert!(!got.windows(4).any(|four| four == b"PONG"), "{}", got.escape_ascii());
    let record = proxy.await_record("handshake_failure", |_| true);
    assert_eq!(record["reason"], "not-tls", "{record}");
    assert!(record["hint"].as_str().unwrap().contains("--tls"), "{record}");
}

#[test]
fn tls_1_2_and_1_3_come_in_and_the_record_says_which() {
    let redis = redis();
    let proxy = Proxy::start(&redis);
    let app = proxy.pki.client("app").unwrap();
    for (version, name) in [(&rustls::version::TLS12, "TLSv1.2"), (&rustls::version::TLS13, "TLSv1.3")] {
        let tls = proxy.tls(Some(&app), &[version]);
        let mut client = greeted(proxy.shake_with(&tls, proxy.socket()).unwrap()).unwrap();
        let group = client.stream().conn.negotiated_key_exchange_group().unwrap().name();
        if name == "TLSv1.3" {
            assert_eq!(group, rustls::NamedGroup::X25519MLKEM768, "keys of today are safe from tomorrow's computers");
        }
        let open = proxy.await_record("connection_open", |record| record["tls"] == name);
        assert_eq!((&open["identity"], &open["role"], &open["resumed"]), (&"app".into(), &"app".into(), &false.into()));
        // The second one resumes the first one's session, and is asked everything again.
        greeted(proxy.shake_with(&tls, proxy.socket()).unwrap()).unwrap();
        proxy.await_record("connection_open", |record| record["tls"] == name && record["resumed"] == true);
    }
    let strict = Proxy::with(&proxy.setup().with(|setup| {
        setup.services[0].lines = "[service.tls]\n\
        cert = \"server.crt\"\nkey = \"server.key\"\nclient_ca = \"ca.crt\"\nmin_version = \"1.3\""
    }));
    let app = strict.pki.client("app").unwrap();
    assert!(strict.shake_with(&strict.tls(Some(&app), &[&rustls::version::TLS12]), strict.socket()).is_err());
    let record = strict.await_record("handshake_failure", |_| true);
    assert_eq!(record["reason"], "protocol-version", "{record}");
}

#[test]
fn a_client_that_says_nothing_is_closed_at_the_handshake_deadline() {
    let redis = redis();
    let proxy = Proxy::with(&Setup { limits: "handshake_timeout = \"100ms\"", ..Setup::before(&redis) });
    let mut socket = proxy.socket();
    let _ = socket.read_to_end(&mut Vec::new());
    proxy.await_record("handshake_failure", |record| record["reason"] == "timeout");
}

#[test]
fn caps_on_connections_hold_and_are_given_back() {
    let redis = redis();
    for (limits, reason, most) in
        [("max_connections_per_address = 2", "max-per-address", 2), ("max_connections = 1", "max-connections", 1)]
    {
        let proxy = Proxy::with(&Setup { limits, ..Setup::before(&redis) });
        let mut inside: Vec<_> = (0..most).map(|_| proxy.client()).collect();
        let app = proxy.pki.client("app").unwrap();
        assert!(proxy.client_with(&app).is_err(), "one more than {most} was let in");
        proxy.await_record("refused", |record| record["reason"] == reason);
        for client in &mut inside {
            assert_eq!(client.call(&["PING"]).text(), "PONG");
        }
        drop(inside.pop());
        inside.push(proxy.await_that("a free place", |proxy| proxy.client_with(&app).ok()));
        assert!(proxy.client_with(&app).is_err(), "one more than {most} was let in");
    }
}

#[test]
fn two_services_leak_neither_identity_nor_policy_nor_credential() {
    let (first, second) = (Redis::with_password("first"), Redis::with_password("second"));
    let mut setup = Setup::before(&first);
    setup.services.push(Service { lines: "[service.policy]\ndeny = [\"GET\"]", ..Service::before("queue", &second) });
    setup.roles = "[[role]]\nname = \"cachers\"\nmatch = [{ cn = \"app\" }]\nservices = [\"cache\"]\n\
                   [[role]]\nname = \"queuers\"\nmatch = [{ cn = \"other\" }]\nservices = [\"queue\"]\n";
    let proxy = Proxy::with(&setup);
    assert_eq!(proxy.cli_as("app", 0, &["SET", "where", "first"]), "OK\n");
    assert_eq!(proxy.cli_as("other", 1, &["SET", "where", "second"]), "OK\n");
    assert_eq!(proxy.cli_as("app", 0, &["GET", "where"]), "first\n");
    assert!(proxy.cli_as("other", 1, &["GET", "where"]).contains("NOPERM"));
    assert!(proxy.cli_as("app", 0, &["KEYS", "*"]).contains("NOPERM"), "the default floor of the first service");
    assert_eq!(proxy.cli_as("other", 1, &["KEYS", "*"]), "where\n", "the second service has a policy of its own");
    for (name, index) in [("app", 1), ("other", 0)] {
        let seen = proxy.cli_as(name, index, &["PING"]);
        assert!(!seen.contains("PONG"), "{seen}");
    }
    assert_eq!(second.connect().call(&["GET", "where"]).text(), "second");
    for service in ["cache", "queue"] {
        proxy.await_record("connection_close", |record| record["service"] == service);
    }
    let mut said = [0, 0];
    for record in proxy.audit() {
        match (record["service"].as_str(), record["role"].as_str()) {
            (Some("cache"), Some(role)) => {
                assert_eq!(role, "cachers", "{record}");
                said[0] += 1;
            }
            (Some("queue"), Some(role)) => {
                assert_eq!(role, "queuers", "{record}");
                said[1] += 1;
            }
            _ => {}
        }
    }
    assert!(said[0] > 0 && said[1] > 0);
    // Each credential was good for its own Redis only.
    for redis in [&first, &second] {
        assert!(!redis.connect().call(&["INFO", "errorstats"]).text().contains("WRONGPASS"));
    }
}

#[test]
fn a_users_name_is_who_the_proxy_acts_as() {
    if !support::redis::Release::of_server().since(6, 0) {
        // A Redis without users takes one word for AUTH: whoever names a user there is told so and lets nobody in.
        let redis = redis();
        let mut setup = Setup::before(&redis);
        setup.services[0].upstream = ", username = \"billing\"";
        let record = unavailable(&setup);
        assert_eq!(record["reason"], "auth", "{record}");
        return;
    }
    // Channels are of 6.2.
    let channels = if support::redis::Release::of_server().since(6, 2) { "&*" } else { "" };
    let billing = format!("user billing on >pw-of-billing ~* {channels} +@all");
    let redis = Redis::with(&[&billing, "user default off"], None);
    let mut setup = Setup::before(&redis);
    setup.services[0].password = Some(b"pw-of-billing\n".to_vec());
    setup.services[0].upstream = ", username = \"billing\"";
    let proxy = Proxy::with(&setup);
    assert_eq!(proxy.cli("SET a 1\n").trim(), "OK");
    let record = proxy.await_record("command", |record| record["cmd"] == "SET");
    assert_eq!(record["upstream_user"], "billing");
}

/// Sends one command to a proxy whose Redis is not to be had, and returns the record of that.
fn unavailable(setup: &Setup) -> Value {
    let proxy = Proxy::with(setup);
    let app = proxy.pki.client("app").unwrap();
    let mut client = proxy.shake(Some(&app)).unwrap();
    client.send(&["GET", "a"]);
    assert_eq!(client.reply().error().unwrap(), "ERR the Redis behind this proxy is unavailable");
    assert_eq!(client.rest(), b"");
    let record = proxy.await_record("upstream_failed", |_| true);
    assert!(!record["detail"].as_str().unwrap().is_empty());
    let close = proxy.await_record("connection_close", |_| true);
    assert_eq!(close["commands"], 0, "a command was judged: {close}");
    assert_eq!(proxy.records("connection_open").len(), 0);
    record
}

#[test]
fn a_password_redis_does_not_take_lets_nobody_in() {
    let redis = redis();
    let mut setup = Setup::before(&redis);
    setup.services[0].password = Some(b"another".to_vec());
    let record = unavailable(&setup);
    assert_eq!(record["reason"], "auth", "{record}");
    // ERR before 6.0. From 8.0 on the answer to AUTH may be lost behind the answer to the PING before it, and ours is
    // the next one: whatever it says, nobody is let in.
    let said = record["detail"].as_str().unwrap();
    assert!(["WRONGPASS", "ERR", "NOAUTH"].iter().any(|code| said.ends_with(code)), "{record}");
    assert_eq!(redis.calls_of("get"), 0);
}

#[test]
fn a_redis_that_asks_nobody_for_a_password_needs_auth_none() {
    let redis = Redis::start();
    let mut setup = Setup::before(&redis);
    setup.services[0].password = Some(b"whatever".to_vec());
    assert_eq!(unavailable(&setup)["reason"], "no-password");
    assert_eq!(redis.calls_of("get"), 0);
    let proxy = Proxy::start(&redis);
    assert_eq!(proxy.client().call(&["GET", "a"]), support::wire::Reply::Null);
}

#[test]
fn a_socket_too_open_or_anothers_is_not_given_the_password() {
    let redis = redis();
    let auths = redis.calls_of("auth");
    let mode = |mode| fs::set_permissions(redis.socket(), fs::Permissions::from_mode(mode)).unwrap();
    let setup = Setup::before(&redis);
    mode(0o777);
    let record = unavailable(&setup);
    assert_eq!(record["reason"], "permission", "{record}");
    assert!(record["detail"].as_str().unwrap().contains("0777"), "{record}");
    mode(0o770);
    let owner = rustix::process::getuid().as_raw();
    let stranger = setup.clone().with(|setup| setup.services[0].upstream = ", socket_owner = 4294967");
    let record = unavailable(&stranger);
    assert_eq!(record["reason"], "permission", "{record}");
    assert!(record["detail"].as_str().unwrap().contains("4294967"), "{record}");
    // This much asking was ours.
    assert_eq!(redis.calls_of("auth"), auths + 1, "the password was given away");

    let allowed: &'static str =
        Box::leak(format!(", socket_owner = {owner}, socket_mode_max = \"0777\"").into_boxed_str());
    mode(0o777);
    let proxy = Proxy::with(&setup.with(|setup| setup.services[0].upstream = allowed));
    proxy.client().call(&["SET", "a", "1"]).expect_ok();
}

#[test]
fn readiness_knows_of_a_redis_that_is_not_trusted_before_any_client_asks() {
    let redis = redis();
    let setup = Setup::before(&redis).with(|setup| setup.services[0].upstream = ", socket_owner = 12345");
    let proxy = Proxy::with(&setup);
    proxy.await_that("a word about it", |proxy| proxy.log().contains("not reachable").then_some(()));
    let (status, body) = proxy.page("/readyz");
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("upstream"), "{body}");
    assert_eq!(proxy.page("/livez").0, 200);
}

#[test]
fn a_redis_on_loopback_is_as_good_as_one_on_a_socket() {
    let (redis, address) = Redis::on_loopback(PASSWORD);
    let mut setup = Setup::before(&redis);
    setup.services[0].address = address.to_string();
    let proxy = Proxy::with(&setup);
    let mut client = proxy.client();
    let value = vec![b'x'; 1 << 20];
    client.call(&[b"SET", &b"big"[..], &value]).expect_ok();
    assert_eq!(client.call(&["GET", "big"]), support::wire::Reply::Bulk(value));
    assert!(client.call(&["FLUSHALL"]).error().unwrap().starts_with("NOPERM"));
    let peer = if support::redis::Release::of_server().since(6, 2) { "laddr=127.0.0.1:" } else { "addr=127.0.0.1:" };
    assert!(redis.connect().call(&["CLIENT", "LIST"]).text().contains(peer));
    drop(redis);
    assert_eq!(client.rest(), b"");
    proxy.await_record("connection_close", |record| record["reason"] == "upstream-closed");
}

#[test]
fn each_connection_goes_to_the_worker_with_the_fewest() {
    let redis = redis();
    let proxy = Proxy::start(&redis);
    let mut clients: Vec<_> = (0..8).map(|_| proxy.client()).collect();
    let workers = |most: usize| -> Vec<u64> {
        let opened = proxy.await_that("as many records as clients", |proxy| {
            Some(proxy.records("connection_open")).filter(|opened| opened.len() == most)
        });
        // The last part of the connection's name counts in the order of arrival; the writers' lines may overtake.
        let number =
            |record: &Value| -> u64 { record["conn"].as_str().unwrap().rsplit('-').next().unwrap().parse().unwrap() };
        let mut found: Vec<_> = opened.iter().map(|open| (number(open), open["w"].as_u64().unwrap())).collect();
        found.sort_unstable();
        found.into_iter().map(|(_, w)| w).collect()
    };
    // All of one worker leave: the next ones are its own.
    let first = workers(8);
    assert_eq!(first.iter().filter(|w| **w == 0).count(), 4, "{first:?}");
    let mut index = 0;
    clients.retain(|_| {
        index += 1;
        first[index - 1] == 1
    });
    proxy.await_that("four ends", |proxy| (proxy.records("connection_close").len() == 4).then_some(()));
    let _more: Vec<_> = (0..4).map(|_| proxy.client()).collect();
    assert_eq!(workers(12)[8..], [0; 4]);
}
