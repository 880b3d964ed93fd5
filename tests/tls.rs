//! What TLS promises, before real clients: revocation and tickets, stapling, names, suites, and ends foreseen.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use certs_dev::{Issued, Leaf};
use rustls::{
    ClientConfig, HandshakeKind,
    version::{TLS12, TLS13},
};
use std::{fs, process::Command, sync::Arc};
use support::{
    client::greeted,
    openssl::{Status, response},
    process::{Proxy, program},
    redis::Redis,
    setup::{Setup, write_secret},
};

/// The setup with these further keys of `[tls]`.
fn tls(proxy: &Proxy, keys: impl Into<String>) -> Setup {
    Setup { tls: keys.into().leak(), ..proxy.setup() }
}

/// Puts a setup in force.
fn reload(proxy: &Proxy, setup: &Setup) {
    proxy.configure(setup);
    let record = proxy.reload();
    assert_eq!(record["result"], "swapped", "{record}");
}

fn serial(issued: &Issued) -> String {
    issued.serial.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a client that keeps its tickets in `config` is let in by resuming.
fn resumes(proxy: &Proxy, config: &Arc<ClientConfig>) -> std::io::Result<bool> {
    let mut client = greeted(proxy.shake_with(config, proxy.socket())?)?;
    Ok(client.stream().conn.handshake_kind() == Some(HandshakeKind::Resumed))
}

#[test]
fn a_ticket_is_worth_nothing_after_a_reload_of_whatever_a_session_rests_on() {
    let redis = Redis::start();
    let proxy = Proxy::start(&redis);
    let app = proxy.pki.client("app").unwrap();
    let other = proxy.pki.client("other").unwrap();
    let clients = [&TLS12, &TLS13].map(|version| proxy.tls(Some(&app), &[version]));
    let both = |proxy: &Proxy| clients.each_ref().map(|config| resumes(proxy, config).unwrap());
    assert_eq!((both(&proxy), both(&proxy)), ([false; 2], [true; 2]));

    // Tickets fit at every worker: one that did not know the keys would shake hands anew.
    for _ in 0..8 {
        assert_eq!(both(&proxy), [true; 2]);
    }
    let role = Setup { roles: "[[role]]\nname = \"apps\"\nmatch = [{ cn = \"app\" }]", ..proxy.setup() };
    let number = tls(&proxy, format!("revoked_serials = [\"{}\"]", serial(&other)));
    let steps: [(&str, &dyn Fn()); 5] = [
        ("a role", &|| reload(&proxy, &role)),
        ("a revoked number", &|| reload(&proxy, &number)),
        ("a list", &|| {
            fs::write(proxy.path("ca.crl"), proxy.pki.ca.crl(&[&other.serial], 7).unwrap()).unwrap();
            reload(&proxy, &proxy.setup());
        }),
        ("a CA", &|| {
            fs::write(proxy.path("ca.crt"), format!("{}{}", proxy.pki.ca.cert, proxy.pki.other.cert)).unwrap();
            fs::write(proxy.path("other.crl"), proxy.pki.other.crl(&[], 7).unwrap()).unwrap();
            reload(&proxy, &tls(&proxy, "crl = [\"ca.crl\", \"other.crl\"]"));
        }),
        ("nothing", &|| reload(&proxy, &proxy.setup())),
    ];
    for (what, change) in steps {
        change();
        assert_eq!((both(&proxy), both(&proxy)), ([false; 2], [true; 2]), "after a reload of {what}");
    }
    let resumed = proxy.await_record("connection_open", |record| record["resumed"] == true);
    assert_eq!(resumed["cert_serial"], serial(&app), "{resumed}");
}

#[test]
fn a_client_with_a_ticket_is_refused_once_its_certificate_its_list_or_its_role_has_gone() {
    let redis = Redis::start();
    let proxy = Proxy::start(&redis);
    for (change, reason) in [("number", "revoked"), ("list", "revoked"), ("stale", "crl-expired"), ("role", "no-role")]
    {
        let app = proxy.pki.client("app").unwrap();
        let clients = [&TLS12, &TLS13].map(|version| proxy.tls(Some(&app), &[version]));
        for config in &clients {
            assert!(!resumes(&proxy, config).unwrap());
            assert!(resumes(&proxy, config).unwrap());
        }
        let mut live = proxy.client_with(&app).unwrap();
        let setup = match change {
            "number" => tls(&proxy, format!("revoked_serials = [\"{}\"]", serial(&app))),
            "role" => Setup { roles: "[[role]]\nname = \"x\"\nmatch = [{ cn = \"x\" }]", ..proxy.setup() },
            _ => {
                let list = match change {
                    "list" => proxy.pki.ca.crl(&[&app.serial], 7),
                    _ => proxy.pki.ca.crl(&[], -1),
                };
                fs::write(proxy.path("ca.crl"), list.unwrap()).unwrap();
                proxy.setup()
            }
        };
        let before = proxy.records("handshake_failure").len();
        reload(&proxy, &setup);
        assert_eq!(live.rest(), b"", "{change}: who was in is sent away");
        for config in &clients {
            assert!(resumes(&proxy, config).is_err(), "{change}");
        }
        proxy.await_that("a record of each refusal", |proxy| {
            let found = proxy.records("handshake_failure").split_off(before);
            assert!(found.iter().all(|record| record["reason"] == reason), "{change}: {found:?}");
            (found.len() == 2).then_some(())
        });
        let _ = fs::remove_file(proxy.path("ca.crl"));
        reload(&proxy, &proxy.setup());
    }
}

#[test]
fn a_revoked_number_ends_a_live_connection_without_any_list_and_no_other() {
    let redis = Redis::start();
    let proxy = Proxy::start(&redis);
    let bad = proxy.pki.client("app").unwrap();
    let below = proxy.pki.intermediate.issue(&Leaf::client("app")).unwrap();
    let mut live = [&bad, &below].map(|issued| proxy.client_with(issued).unwrap());
    let mut other = proxy.client();
    let intermediate: Vec<String> =
        proxy.pki.intermediate.serial().unwrap().iter().map(|byte| format!("{byte:02X}")).collect();
    let keys = format!("revoked_serials = [\"00{}\", {{ serial = \"{}\" }}]", serial(&bad), intermediate.join(":"));
    reload(&proxy, &tls(&proxy, keys));
    for client in &mut live {
        assert_eq!(client.rest(), b"");
    }
    assert_eq!(other.call(&["PING"]).text(), "PONG");
    assert!(proxy.client_with(&bad).is_err() && proxy.client_with(&below).is_err());
    let closed = proxy.await_record("connection_close", |record| record["reason"] == "revoked");
    let sent_away = [serial(&bad), serial(&below)];
    let opened = proxy.await_record("connection_open", |record| record["conn"] == closed["conn"]);
    assert!(sent_away.iter().any(|number| opened["cert_serial"] == number.as_str()), "{opened}");
}

#[test]
fn openssl_resumes_until_a_reload() {
    let redis = Redis::start();
    let proxy = Proxy::start(&redis);
    for version in ["-tls1_2", "-tls1_3"] {
        let first = proxy.s_client(&[version, "-sess_out", "session.pem"]);
        assert!(first.contains("New, TLS") && first.contains("+PONG"), "{first}");
        let second = proxy.s_client(&[version, "-sess_in", "session.pem"]);
        assert!(second.contains("Reused, TLS") && second.contains("+PONG"), "{second}");
        reload(&proxy, &proxy.setup());
        let third = proxy.s_client(&[version, "-sess_in", "session.pem"]);
        assert!(third.contains("New, TLS") && third.contains("+PONG"), "{third}");
    }
}

#[test]
fn an_ocsp_response_is_stapled_and_a_reload_takes_a_new_one() {
    let redis = Redis::start();
    let proxy = Proxy::start(&redis);
    let server = proxy.pki.server(&["localhost", "127.0.0.1"]).unwrap();
    write_secret(&proxy.path("server.crt"), &server.chain);
    write_secret(&proxy.path("server.key"), &server.key);
    let install = |status, days| {
        let made = response(&proxy.path("."), &proxy.pki.ca, &server, status, days);
        fs::rename(made, proxy.path("server.ocsp")).unwrap();
    };
    assert!(proxy.s_client(&["-status"]).contains("OCSP response: no response sent"));
    install(Status::Good, Some(3));
    let setup = tls(&proxy, "ocsp = \"server.ocsp\"");
    reload(&proxy, &setup);
    let due = |said: &str| said.lines().find(|line| line.contains("Next Update:")).map(|line| line.trim().to_owned());
    let mut first = None;
    for version in ["-tls1_2", "-tls1_3"] {
        let said = proxy.s_client(&["-status", version]);
        assert!(said.contains("OCSP Response Status: successful") && said.contains("Cert Status: good"), "{said}");
        assert!(said.contains("+PONG") && due(&said).is_some(), "{said}");
        first = due(&said);
    }
    install(Status::Good, Some(5));
    reload(&proxy, &setup);
    let second = due(&proxy.s_client(&["-status"]));
    assert!(second.is_some() && second != first, "{first:?} {second:?}");
    // What may not be stapled keeps what was.
    for (status, said) in
        [(Status::Revoked, "says that the certificate is revoked"), (Status::Unknown, "does not know")]
    {
        install(status, Some(5));
        proxy.configure(&setup);
        let record = proxy.reload();
        assert_eq!(record["result"], "kept");
        assert!(record["detail"].to_string().contains(said), "{record}");
        assert_eq!(due(&proxy.s_client(&["-status"])), second);
    }
}

/// A second certificate for these names, in a file of its own.
fn named(proxy: &Proxy, file: &str, names: &[&str]) -> Issued {
    let issued = proxy.pki.server(names).unwrap();
    write_secret(&proxy.path(file), format!("{}{}", issued.chain, issued.key));
    issued
}

#[test]
fn clients_are_shown_the_certificate_of_the_name_they_ask_for() {
    let redis = Redis::start();
    let proxy = Proxy::start(&redis);
    named(&proxy, "a.pem", &["a.example", "*.b.example"]);
    let keys = "certificates = [{ cert = \"a.pem\", key = \"a.pem\" }]";
    reload(&proxy, &tls(&proxy, keys));
    let subject = |name: &[&str]| {
        let said = proxy.s_client(name);
        said.lines().find_map(|line| line.strip_prefix("subject=")).map(|subject| subject.trim().to_owned())
    };
    let cases: [(&[&str], &str); 6] = [
        (&["-servername", "a.example"], "CN = a.example"),
        (&["-servername", "X.b.Example"], "CN = a.example"),
        (&["-servername", "b.example"], "CN = localhost"),
        (&["-servername", "x.y.b.example"], "CN = localhost"),
        (&["-servername", "unknown.example"], "CN = localhost"),
        (&["-noservername"], "CN = localhost"),
    ];
    for (arguments, expected) in cases {
        assert_eq!(subject(arguments).as_deref(), Some(expected), "{arguments:?}");
    }
    let record = proxy.await_record("connection_open", |record| record["sni"] == "x.b.example");
    assert_eq!(record["resumed"], false, "{record}");
    // redis-cli, which knows nothing but the name it is told.
    let cli = |sni: &str| {
        let output = proxy.redis_cli("app", 0).args(["--sni", sni, "PING"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    assert_eq!(cli("a.example"), "PONG\n");

    reload(&proxy, &tls(&proxy, format!("sni = \"strict\"\n{keys}")));
    assert_eq!(subject(&["-servername", "a.example"]).as_deref(), Some("CN = a.example"));
    assert_eq!(subject(&["-noservername"]).as_deref(), Some("CN = localhost"));
    assert_eq!(cli("localhost"), "PONG\n");
    let refused = proxy.s_client(&["-servername", "unknown.example"]);
    assert!(refused.contains("unrecognized name") && !refused.contains("+PONG"), "{refused}");
    let record = proxy.await_record("handshake_failure", |record| record["reason"] == "unknown-name");
    assert_eq!(record["unverified"][0], "sni:unknown.example", "{record}");
    assert!(cli("unknown.example").contains("Could not connect"), "{}", cli("unknown.example"));
}

#[test]
fn the_servers_order_of_suites_counts_and_no_group_but_those_listed_is_agreed_on() {
    let redis = Redis::start();
    let proxy = Proxy::start(&redis);
    let cipher = |arguments: &[&str]| {
        let said = proxy.s_client(arguments);
        said.split("Cipher is ").nth(1).and_then(|rest| rest.lines().next()).unwrap_or_default().to_owned()
    };
    let (aes, chacha) = ("TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256");
    let (aes12, chacha12) = ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305");
    let orders = |best13: &str, best12: &str| {
        for order in [format!("{aes}:{chacha}"), format!("{chacha}:{aes}")] {
            assert_eq!(cipher(&["-tls1_3", "-ciphersuites", &order]), best13, "{order}");
        }
        for order in [format!("{aes12}:{chacha12}"), format!("{chacha12}:{aes12}")] {
            assert_eq!(cipher(&["-tls1_2", "-cipher", &order]), best12, "{order}");
        }
    };
    orders(aes, aes12);
    let iana12 = |name: &str| format!("TLS_ECDHE_ECDSA_WITH_{name}_SHA256");
    let suites = format!(
        "suites = [\"{chacha}\", \"{}\", \"{aes}\", \"{}\"]\ngroups = [\"secp384r1\"]",
        iana12("CHACHA20_POLY1305"),
        iana12("AES_128_GCM")
    );
    reload(&proxy, &tls(&proxy, suites));
    orders(chacha, chacha12);
    for version in ["-tls1_2", "-tls1_3"] {
        let said = proxy.s_client(&[version, "-groups", "X25519:P-256:P-384"]);
        assert!(said.contains("Server Temp Key: ECDH, secp384r1") && said.contains("+PONG"), "{said}");
    }
    // What is not in the list is not spoken.
    assert_eq!(cipher(&["-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"]), "(NONE)");
    proxy.await_record("handshake_failure", |record| record["reason"] == "no-common-cipher");
    assert_eq!(cipher(&["-groups", "P-256"]), "(NONE)");

    // Without a suite of TLS 1.2 there is no TLS 1.2.
    reload(&proxy, &tls(&proxy, format!("suites = [\"{aes}\"]")));
    assert_eq!(cipher(&["-tls1_2"]), "(NONE)");
    proxy.await_record("handshake_failure", |record| record["reason"] == "protocol-version");
    assert_eq!(cipher(&[]), aes);
}

/// `ravelin check`: exit code, and all that it prints.
fn check(proxy: &Proxy) -> (i32, String) {
    let config = proxy.path("ravelin.toml");
    let output = Command::new(program()).args(["check", "--offline", "--config"]).arg(config).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), said)
}

#[test]
fn ends_are_metrics_and_words_in_the_log_and_fail_the_check_once_they_are_past() {
    let redis = Redis::start();
    let proxy = Proxy::start(&redis);
    let metric = |certificate: &str| {
        let head = format!("ravelin_certificate_not_after_seconds{{certificate=\"{certificate}\",service=\"cache\"}} ");
        let page = proxy.page("/metrics").1;
        page.lines().find_map(|line| line.strip_prefix(&head)).map(|value| value.parse::<i64>().unwrap())
    };
    assert!(metric("server").unwrap() > 1_000_000_000);
    assert!(metric("client_ca").unwrap() > 1_000_000_000);
    assert_eq!((metric("crl"), metric("ocsp"), metric("server:a.example")), (None, None, None));
    let (code, said) = check(&proxy);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("TLS_AES_256_GCM_SHA384") && said.contains("X25519MLKEM768"), "{said}");

    // Near: words, and no failure.
    let near = proxy.pki.issue(&Leaf::server(&["localhost"]).valid_days(-1, 5)).unwrap();
    write_secret(&proxy.path("server.crt"), &near.chain);
    write_secret(&proxy.path("server.key"), &near.key);
    let other = named(&proxy, "a.pem", &["a.example"]);
    let made = response(&proxy.path("."), &proxy.pki.ca, &other, Status::Good, Some(6));
    fs::rename(made, proxy.path("a.ocsp")).unwrap();
    fs::write(proxy.path("ca.crl"), proxy.pki.ca.crl_numbered(1, &[&[1]], (-30, 3)).unwrap()).unwrap();
    let keys = "certificates = [{ cert = \"a.pem\", key = \"a.pem\", ocsp = \"a.ocsp\" }]\n\
                revoked_serials = [\"ff\"]\ncrl_missing = \"accept\"";
    reload(&proxy, &tls(&proxy, keys));
    let logged = |words: &str| {
        proxy.await_that(words, |proxy| proxy.log().contains(words).then_some(()));
    };
    logged("the certificate CN=localhost expires in ");
    // Exposed a moment after the record and the words.
    let crl = proxy.await_that("the metric of the list", |_| metric("crl"));
    assert!(
        metric("server").unwrap() - crl > 86_400 && metric("server:a.example").unwrap() > metric("server").unwrap()
    );
    assert!(metric("ocsp:a.example").unwrap() > crl);
    let (code, said) = check(&proxy);
    assert_eq!(code, 0, "{said}");
    for words in [
        "the certificate CN=localhost expires in ",
        "counts until ",
        "a.example",
        "good since ",
        "1 serial numbers",
        "clients of an expired list: refuse; of an issuer without one: accept",
    ] {
        assert!(said.contains(words), "{words:?} is missing in\n{said}");
    }
    // Said again at a reload that changes nothing about TLS.
    let before = proxy.log().matches("the certificate CN=localhost expires in ").count();
    assert_eq!(proxy.reload()["result"], "swapped");
    proxy.await_that("another word", |proxy| {
        (proxy.log().matches("the certificate CN=localhost expires in ").count() > before).then_some(())
    });

    // Past: the process goes on, and the check fails.
    let past = proxy.pki.issue(&Leaf::server(&["localhost"]).valid_days(-9, -2)).unwrap();
    write_secret(&proxy.path("server.crt"), &past.chain);
    write_secret(&proxy.path("server.key"), &past.key);
    fs::write(proxy.path("ca.crl"), proxy.pki.ca.crl(&[], -1).unwrap()).unwrap();
    reload(&proxy, &proxy.setup());
    logged("the certificate CN=localhost expired on ");
    logged("every client of that CA is refused");
    proxy.await_that("the end of what has gone", |_| {
        (metric("ocsp:a.example").is_none() && metric("server:a.example").is_none()).then_some(())
    });
    let (code, said) = check(&proxy);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("expired on ") && said.contains("was due to be renewed on "), "{said}");
}

#[test]
fn a_folder_of_lists_takes_the_place_of_a_file() {
    let redis = Redis::start();
    let proxy = Proxy::start(&redis);
    let (bad, below) = (proxy.pki.client("app").unwrap(), proxy.pki.intermediate.issue(&Leaf::client("app")).unwrap());
    let folder = proxy.path("crls");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("root.pem"), proxy.pki.ca.crl(&[&bad.serial], 7).unwrap()).unwrap();
    let setup = tls(&proxy, "crl = [\"crls\"]");
    reload(&proxy, &setup);
    assert!(proxy.client_with(&bad).is_err());
    assert!(proxy.client_with(&below).is_err(), "nobody speaks for what the intermediate has issued");
    proxy.await_record("handshake_failure", |record| record["reason"] == "revocation-unknown");
    // As CAs publish them: openssl makes DER of it.
    fs::write(proxy.path("intermediate.pem"), proxy.pki.intermediate.crl(&[], 7).unwrap()).unwrap();
    let to_der = ["crl", "-in", "intermediate.pem", "-outform", "der", "-out", "crls/intermediate.crl"];
    assert!(Command::new("openssl").args(to_der).current_dir(proxy.path(".")).status().unwrap().success());
    reload(&proxy, &setup);
    assert!(proxy.client_with(&below).is_ok());
    fs::write(
        proxy.path("intermediate.pem"),
        proxy.pki.intermediate.crl_numbered(2, &[&below.serial], (0, 7)).unwrap(),
    )
    .unwrap();
    fs::rename(proxy.path("intermediate.pem"), folder.join("z.pem")).unwrap();
    reload(&proxy, &setup);
    assert!(proxy.client_with(&below).is_err(), "the newer list counts");
    fs::write(folder.join("broken.pem"), "-----BEGIN X509 CRL-----\n").unwrap();
    let record = proxy.reload();
    assert_eq!(record["result"], "kept");
    assert!(record["detail"].to_string().contains("broken.pem"), "{record}");
}

#[test]
fn a_list_that_comes_to_its_end_takes_live_connections_along_unless_it_is_accepted() {
    let redis = Redis::start();
    // One that lets in whose list is over, and one that does not.
    let come = |policy: &str| {
        let proxy = Proxy::start(&redis);
        let pki = &proxy.pki;
        let clients = [pki.client("app").unwrap(), pki.intermediate.issue(&Leaf::client("app")).unwrap()];
        fs::write(proxy.path("ca.crl"), pki.ca.crl(&[], 7).unwrap()).unwrap();
        fs::write(proxy.path("short.crl"), pki.intermediate.crl_due_in(4, &[]).unwrap()).unwrap();
        reload(&proxy, &tls(&proxy, format!("crl = [\"ca.crl\", \"short.crl\"]\ncrl_expired = \"{policy}\"")));
        let wires = clients.each_ref().map(|issued| {
            let mut client = proxy.client_with(issued).unwrap();
            assert_eq!(client.call(&["PING"]).text(), "PONG");
            client
        });
        (proxy, clients, wires)
    };
    let (accepting, _, mut stay) = come("accept");
    let (refusing, [_, below], [mut stays, mut goes]) = come("refuse");
    assert_eq!(goes.rest(), b"", "nobody asked for it, and it is over");
    let record = refusing.await_record("connection_close", |record| record["reason"] == "revoked");
    assert!(record["us"].as_u64().unwrap() < 10_000_000, "{record}");
    assert!(refusing.client_with(&below).is_err());
    refusing.await_record("handshake_failure", |record| record["reason"] == "crl-expired");
    assert_eq!(stays.call(&["PING"]).text(), "PONG", "the list of its own issuer is in force");
    assert_eq!(refusing.records("reload").len(), 1, "the one that brought the lists");

    accepting.await_that("the log says that it is over", |proxy| proxy.log().contains("still counts").then_some(()));
    for client in &mut stay {
        assert_eq!(client.call(&["PING"]).text(), "PONG");
    }
    assert!(!accepting.records("connection_close").iter().any(|record| record["reason"] == "revoked"));
}
