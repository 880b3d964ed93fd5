use super::*;
use crate::tls::{
    failure::REASONS,
    pipe::Intake,
    testing::{Bench, open, read, shake, write},
};
use certs_dev::{Issued, KeyKind, Leaf, Pki, Wicked};
use rustls::{
    ALL_VERSIONS,
    version::{TLS12, TLS13},
};
use tokio::io::AsyncReadExt;

/// Why this client is refused, with both protocols: the word must be the same.
async fn refusal(bench: &Bench, issued: Option<&Issued>) -> Refused {
    let tls = bench.load();
    let mut refused = Vec::new();
    for version in [&TLS12, &TLS13] {
        let (mut client, server) = shake(&tls, bench.client(issued, &[version]), 65_536, b"").await;
        // With TLS 1.3 the client learns of it only when it reads (RFC 8446, 2).
        let server = server.expect_err("must be refused");
        if let Ok(client) = &mut client {
            // A certificate that is sound but for its names is seen too late for an alert: an orderly end instead.
            let orderly = server.failure.reason == "bad-name";
            assert_eq!(client.read(&mut [0]).await.ok(), orderly.then_some(0), "the client was not told");
        }
        refused.push(server);
    }
    assert_eq!(refused[0].failure.reason, refused[1].failure.reason);
    assert!(REASONS.contains(&refused[1].failure.reason));
    refused.pop().unwrap()
}

#[tokio::test]
async fn every_wicked_certificate_is_refused_for_its_own_reason() {
    let bench = Bench::new();
    let cases = [
        (Wicked::Expired, "expired", "expired 10 days ago"),
        (Wicked::NotYetValid, "not-yet-valid", "valid in 9 days"),
        (Wicked::OtherCa, "unknown-ca", "CA in client_ca"),
        (Wicked::MissingIntermediate, "unknown-ca", "must hold that too"),
        (Wicked::WrongUsage, "wrong-usage", "clientAuth"),
        (Wicked::Version1, "x509-v1", "version 1"),
        (Wicked::Version1, "x509-v1", "ravelin certs"),
        (Wicked::NulInName, "bad-name", "control character"),
        (Wicked::ControlInName, "bad-name", "control character"),
        (Wicked::NulInUri, "bad-name", "control character"),
        (Wicked::TwoNames, "bad-name", "more than one common name"),
        (Wicked::MismatchedKey, "bad-signature", "lacks its key"),
    ];
    for (wicked, reason, said) in cases {
        let issued = bench.pki.wicked(wicked).unwrap();
        let refused = refusal(&bench, Some(&issued)).await;
        assert_eq!(refused.failure.reason, reason, "{wicked:?}");
        assert!(refused.failure.to_string().contains(said), "{wicked:?}: {}", refused.failure);
        let names = refused.unverified.unwrap_or_else(|| panic!("{wicked:?} leaves no names for the record"));
        assert!(names.cn.is_some() && !names.cn.unwrap().contains(char::is_control), "{wicked:?}");
    }
}

#[tokio::test]
async fn no_certificate_is_refused_and_leaves_no_names() {
    let bench = Bench::new();
    let refused = refusal(&bench, None).await;
    assert_eq!((refused.failure.reason, refused.unverified), ("no-certificate", None));
}

#[tokio::test]
async fn another_ca_of_the_same_name_is_refused() {
    let bench = Bench::new();
    let pki = Pki::new().unwrap();
    let refused = refusal(&bench, Some(&pki.client("app").unwrap())).await;
    assert_eq!(refused.failure.reason, "unknown-ca");
}

#[tokio::test]
async fn a_critical_extension_nobody_knows_is_refused() {
    let bench = Bench::new();
    let issued = bench.pki.issue(&Leaf::client("app").critical_extension()).unwrap();
    assert_eq!(refusal(&bench, Some(&issued)).await.failure.reason, "bad-certificate");
}

#[tokio::test]
async fn good_certificates_of_every_key_kind_and_through_an_intermediate_get_in() {
    let bench = Bench::new();
    let tls = bench.load();
    let mut good: Vec<Issued> = [KeyKind::P256, KeyKind::P384, KeyKind::Rsa, KeyKind::Ed25519]
        .map(|kind| bench.pki.issue(&Leaf::client("app").key(kind)).unwrap())
        .into();
    good.push(bench.pki.intermediate.issue(&Leaf::client("app")).unwrap());
    good.push(bench.pki.issue(&Leaf::client("app").usage(certs_dev::Usage::Unsaid)).unwrap());
    for issued in &good {
        for version in [&TLS12, &TLS13] {
            let (_client, server) = shake(&tls, bench.client(Some(issued), &[version]), 65_536, b"").await;
            assert_eq!(server.unwrap().identity.cn.as_deref(), Some("app"));
        }
    }
}

#[tokio::test]
async fn a_certificate_without_names_gets_an_identity_that_can_match_no_role() {
    let bench = Bench::new();
    let issued = bench.pki.wicked(Wicked::NoName).unwrap();
    let (_client, server) = shake(&bench.load(), bench.client(Some(&issued), ALL_VERSIONS), 65_536, b"").await;
    let identity = server.unwrap().identity;
    assert_eq!((&identity.cn, identity.uris.len(), identity.dns.len()), (&None, 0, 0));
}

#[tokio::test]
async fn revocation_is_honoured_and_fails_closed() {
    let mut bench = Bench::new();
    let revoked = bench.pki.client("revoked").unwrap();
    let good = bench.pki.client("good").unwrap();
    bench.files.crl = vec![bench.file("ca.crl", &bench.pki.ca.crl(&[&revoked.serial], 30).unwrap())];
    assert_eq!(refusal(&bench, Some(&revoked)).await.failure.reason, "revoked");
    let (_client, server) = shake(&bench.load(), bench.client(Some(&good), ALL_VERSIONS), 65_536, b"").await;
    assert!(server.is_ok());
    // The intermediate's own list is missing: nobody speaks for what it issued.
    let below = bench.pki.intermediate.issue(&Leaf::client("below")).unwrap();
    assert_eq!(refusal(&bench, Some(&below)).await.failure.reason, "revocation-unknown");
    // And with it, all is well.
    bench.files.crl.push(bench.file("intermediate.crl", &bench.pki.intermediate.crl(&[], 30).unwrap()));
    let (_client, server) = shake(&bench.load(), bench.client(Some(&below), ALL_VERSIONS), 65_536, b"").await;
    assert!(server.is_ok());
}

#[tokio::test]
async fn a_stale_revocation_list_refuses_everybody_it_speaks_for() {
    let mut bench = Bench::new();
    bench.files.crl = vec![bench.file("ca.crl", &bench.pki.ca.crl(&[], -2).unwrap())];
    let good = bench.pki.client("good").unwrap();
    let refused = refusal(&bench, Some(&good)).await;
    assert_eq!(refused.failure.reason, "crl-expired");
    assert!(refused.failure.detail.contains("2 days ago"), "{}", refused.failure.detail);
}

#[tokio::test]
async fn a_resumed_session_has_its_identity_and_is_verified_again() {
    let bench = Bench::new();
    let tls = bench.load();
    for version in [&TLS12, &TLS13] {
        // One configuration for both connections: it keeps the ticket.
        let config = bench.client(Some(&bench.pki.client("app").unwrap()), &[version]);
        for resumed in [false, true] {
            let (client, server) = shake(&tls, Arc::clone(&config), 65_536, b"").await;
            let mut accepted = server.unwrap();
            assert_eq!(accepted.pipe.resumed(), resumed);
            assert_eq!(accepted.identity.cn.as_deref(), Some("app"));
            assert_eq!(accepted.pipe.peer_chain().len(), 1);
            write(&mut accepted.pipe, b"+OK").await;
            client.unwrap().read_exact(&mut [0; 3]).await.unwrap();
            // What the handshake of a resumed session asks again, asked of a time when the answer has changed.
            let later = rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(u64::from(u32::MAX)));
            assert!(tls.recheck(accepted.pipe.peer_chain()).is_ok());
            let expired = tls.recheck_at(accepted.pipe.peer_chain(), later).unwrap_err();
            assert_eq!(failure::explain(&expired, None).reason, "expired");
        }
    }
}

#[tokio::test]
async fn no_session_resumes_across_a_reload() {
    let mut bench = Bench::new();
    let store = crate::tls::reload::Store::new(bench.load());
    let app = bench.pki.client("app").unwrap();
    let config = bench.client(Some(&app), &[&TLS13]);
    let (mut client, mut pipe) = open(&store.current(), Arc::clone(&config), 65_536).await;
    write(&mut pipe, b"+OK").await;
    client.read_exact(&mut [0; 3]).await.unwrap();

    bench.files.crl = vec![bench.file("ca.crl", &bench.pki.ca.crl(&[&app.serial], 30).unwrap())];
    let next = store.prepare(&bench.files, rustls::pki_types::UnixTime::now()).unwrap().unwrap();
    store.swap(next);
    // The open connection goes on; whether it may is a question with an answer.
    write(&mut pipe, b"+OK").await;
    client.read_exact(&mut [0; 3]).await.unwrap();
    assert!(store.current().recheck(pipe.peer_chain()).is_err());
    // The ticket of before is worthless.
    let (_, server) = shake(&store.current(), config, 65_536, b"").await;
    assert_eq!(server.unwrap_err().failure.reason, "revoked");
}

#[tokio::test]
async fn a_client_below_the_minimum_version_is_told_apart() {
    let mut bench = Bench::new();
    bench.files.min_version = crate::tls::server::MinVersion::Tls13;
    let client = bench.client(Some(&bench.pki.client("app").unwrap()), &[&TLS12]);
    let (client, server) = shake(&bench.load(), client, 65_536, b"").await;
    assert!(client.is_err());
    let refused = server.unwrap_err();
    assert_eq!(refused.failure.reason, "protocol-version");
    assert_eq!(refused.unverified, None);
}

#[tokio::test]
async fn a_client_that_trusts_another_ca_is_told_apart() {
    let bench = Bench::new();
    let mut stranger = Bench::new();
    stranger.pki.ca = Pki::new().unwrap().ca;
    let (client, server) = shake(&bench.load(), stranger.app(), 65_536, b"").await;
    assert!(client.is_err());
    let failure = server.unwrap_err().failure;
    assert_eq!(failure.reason, "client-alert");
    assert!(failure.to_string().contains("--cacert"), "{failure}");
}

/// What a peer that sends these bytes and then ends is refused for, and what it is answered.
async fn raw(bench: &Bench, bytes: &[u8]) -> (Failure, Vec<u8>) {
    let tls = bench.load();
    let (near, mut far) = tokio::io::duplex(65_536);
    far.write_all(bytes).await.unwrap();
    far.shutdown().await.unwrap();
    let refused = accept(&tls, &crate::tls::chains::Chains::default(), near).await.unwrap_err();
    let mut answer = Vec::new();
    far.read_to_end(&mut answer).await.unwrap();
    (refused.failure, answer)
}

#[tokio::test]
async fn peers_that_do_not_speak_tls_are_told_apart() {
    let bench = Bench::new();
    let (probe, answer) = raw(&bench, b"").await;
    assert_eq!((probe.reason, answer.len()), ("connect-close", 0));
    let (plain, answer) = raw(&bench, b"*1\r\n$4\r\nPING\r\n").await;
    assert_eq!(plain.reason, "not-tls");
    assert!(plain.to_string().contains("--tls"));
    // An alert record, and no byte of Redis' protocol.
    assert_eq!(answer.first(), Some(&21));
    assert_eq!(raw(&bench, b"GET / HTTP/1.1\r\n\r\n").await.0.reason, "not-tls");
    assert_eq!(raw(&bench, &[22, 3, 1, 2, 0, 1]).await.0.reason, "eof");
    assert_eq!(raw(&bench, &[22, 3, 1, 0, 4, 0xff, 0, 0, 0]).await.0.reason, "protocol-error");
}

#[tokio::test]
async fn the_hybrid_post_quantum_group_is_chosen() {
    let bench = Bench::new();
    let (client, _pipe) = open(&bench.load(), bench.app(), 65_536).await;
    let group = client.get_ref().1.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
}

#[tokio::test]
async fn handshakes_on_one_thread_do_not_mix_up_whose_certificate_was_refused() {
    let bench = Bench::new();
    let tls = bench.load();
    let expired = bench.pki.issue(&Leaf::client("late").valid_days(-9, -2)).unwrap();
    let foreign = bench.pki.other.issue(&Leaf::client("foreign")).unwrap();
    // Tiny pipes interleave the two handshakes, and a third that presents nothing.
    let (a, b, c) = tokio::join!(
        shake(&tls, bench.client(Some(&expired), ALL_VERSIONS), 11, b""),
        shake(&tls, bench.client(Some(&foreign), ALL_VERSIONS), 13, b""),
        shake(&tls, bench.client(None, ALL_VERSIONS), 17, b""),
    );
    let cn = |refused: Refused| refused.unverified.and_then(|names| names.cn);
    assert_eq!(cn(a.1.unwrap_err()).as_deref(), Some("late"));
    assert_eq!(cn(b.1.unwrap_err()).as_deref(), Some("foreign"));
    assert_eq!(cn(c.1.unwrap_err()), None);
}

#[tokio::test]
async fn an_accepted_connection_is_read_at_once() {
    let bench = Bench::new();
    let (_client, server) = shake(&bench.load(), bench.app(), 65_536, b"PING").await;
    let mut got = Vec::new();
    assert_eq!(read(&mut server.unwrap().pipe, &mut got).await.unwrap(), Intake::Plain(4));
}
