//! Revocation, resumption and names, by handshakes in memory.

use super::{
    chains::Chains,
    expiry::Kind,
    failure::Failure,
    handshake::Accepted,
    revocation::{Doubt, RevokedSerial},
    server::{Pair, Tls},
    testing::{Bench, shake, write},
};
use certs_dev::{Issued, Leaf};
use rustls::{
    ALL_VERSIONS, ClientConfig,
    pki_types::UnixTime,
    time_provider::TimeProvider,
    version::{TLS12, TLS13},
};
use std::{sync::Arc, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// What becomes of a client with this certificate: nothing, or the word for its refusal.
async fn word(tls: &Tls, bench: &Bench, issued: &Issued) -> Option<&'static str> {
    let (_client, server) = shake(tls, bench.client(Some(issued), ALL_VERSIONS), 65_536, b"").await;
    server.err().map(|refused| refused.failure.reason)
}

fn serial(issued: &Issued) -> String {
    issued.serial.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn the_whole_chain_is_asked_about_and_not_only_its_end() {
    let mut bench = Bench::new();
    let below = bench.pki.intermediate.issue(&Leaf::client("below")).unwrap();
    let beside = bench.pki.client("beside").unwrap();
    let number = bench.pki.intermediate.serial().unwrap();
    bench.files.crl = vec![
        bench.file("ca.crl", &bench.pki.ca.crl(&[number], 30).unwrap()),
        bench.file("intermediate.crl", &bench.pki.intermediate.crl(&[], 30).unwrap()),
    ];
    let tls = bench.load();
    assert_eq!(word(&tls, &bench, &below).await, Some("revoked"), "its intermediate is revoked by the root");
    assert_eq!(word(&tls, &bench, &beside).await, None);
}

#[tokio::test]
async fn an_issuer_without_a_list_is_refused_unless_that_is_accepted() {
    let mut bench = Bench::new();
    let below = bench.pki.intermediate.issue(&Leaf::client("below")).unwrap();
    let revoked = bench.pki.client("revoked").unwrap();
    bench.files.crl = vec![bench.file("ca.crl", &bench.pki.ca.crl(&[&revoked.serial], 30).unwrap())];
    assert_eq!(word(&bench.load(), &bench, &below).await, Some("revocation-unknown"));
    bench.files.choice.revocation.missing = Doubt::Accept;
    let tls = bench.load();
    assert_eq!(word(&tls, &bench, &below).await, None);
    assert_eq!(word(&tls, &bench, &revoked).await, Some("revoked"), "who is on a list is refused all the same");
}

#[tokio::test]
async fn an_expired_list_refuses_its_issuers_clients_alone_unless_it_is_accepted() {
    let mut bench = Bench::new();
    let below = bench.pki.intermediate.issue(&Leaf::client("below")).unwrap();
    let (beside, revoked) =
        (bench.pki.client("beside").unwrap(), bench.pki.intermediate.issue(&Leaf::client("x")).unwrap());
    bench.files.crl = vec![
        bench.file("ca.crl", &bench.pki.ca.crl(&[], 30).unwrap()),
        bench.file("intermediate.crl", &bench.pki.intermediate.crl(&[&revoked.serial], -1).unwrap()),
    ];
    let tls = bench.load();
    assert_eq!(word(&tls, &bench, &below).await, Some("crl-expired"));
    assert_eq!(word(&tls, &bench, &beside).await, None);
    bench.files.choice.revocation.expired = Doubt::Accept;
    let tls = bench.load();
    assert_eq!(word(&tls, &bench, &below).await, None);
    assert_eq!(word(&tls, &bench, &revoked).await, Some("revoked"), "what it says still counts");
}

#[tokio::test]
async fn a_folder_is_read_whole_in_pem_and_der_and_the_newer_list_counts() {
    let mut bench = Bench::new();
    let (old, new) = (bench.pki.client("old").unwrap(), bench.pki.client("new").unwrap());
    let below = bench.pki.intermediate.issue(&Leaf::client("below")).unwrap();
    let folder = bench.file("x", "").with_file_name("crls");
    std::fs::create_dir(&folder).unwrap();
    bench.file("crls/a.crl", &bench.pki.ca.crl_numbered(6, &[&old.serial], (0, 30)).unwrap());
    bench.file("crls/b.crl", &bench.pki.ca.crl_numbered(7, &[&old.serial, &new.serial], (0, 30)).unwrap());
    let pem = bench.pki.intermediate.crl(&[&below.serial], 30).unwrap();
    let der = super::pem::revocation_lists(pem.as_bytes()).unwrap().pop().unwrap();
    std::fs::write(folder.join("c.der"), &der).unwrap();
    bench.files.crl = vec![folder];
    let tls = bench.load();
    for revoked in [&old, &new, &below] {
        assert_eq!(word(&tls, &bench, revoked).await, Some("revoked"));
    }
    assert_eq!(word(&tls, &bench, &bench.pki.client("good").unwrap()).await, None);
    bench.file("crls/readme", "not a list");
    assert!(bench.flaw().contains("readme: holds no revocation list"), "{}", bench.flaw());
}

#[tokio::test]
async fn a_revoked_number_needs_no_list_and_reaches_everything_below() {
    let mut bench = Bench::new();
    let (bad, good) = (bench.pki.client("bad").unwrap(), bench.pki.client("good").unwrap());
    let below = bench.pki.intermediate.issue(&Leaf::client("below")).unwrap();
    let number = bench.pki.intermediate.serial().unwrap().iter().map(|byte| format!("{byte:02X}:")).collect::<String>();
    bench.files.choice.revocation.serials = vec![
        RevokedSerial::new(&serial(&bad), None).unwrap(),
        RevokedSerial::new(number.trim_end_matches(':'), None).unwrap(),
    ];
    let tls = bench.load();
    assert_eq!(word(&tls, &bench, &bad).await, Some("revoked"));
    assert_eq!(word(&tls, &bench, &below).await, Some("revoked"), "its intermediate's number");
    assert_eq!(word(&tls, &bench, &good).await, None);
    // The same number of another issuer is another certificate.
    let elsewhere = RevokedSerial::new(&serial(&bad), Some("CN=Elsewhere")).unwrap();
    bench.files.choice.revocation.serials = vec![elsewhere];
    assert_eq!(word(&bench.load(), &bench, &bad).await, None);
}

/// Shakes hands and reads a byte, so that the client has its ticket.
async fn visit(tls: &Tls, config: &Arc<ClientConfig>) -> Result<Accepted<DuplexStream>, Failure> {
    let (client, server) = shake(tls, Arc::clone(config), 65_536, b"").await;
    let mut accepted = server.map_err(|refused| refused.failure)?;
    write(&mut accepted.pipe, b"+").await;
    client.unwrap().read_exact(&mut [0]).await.unwrap();
    Ok(accepted)
}

#[derive(Debug)]
struct At(UnixTime);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0)
    }
}

/// Ticket keys change at every reload; here they do not, so that nothing but the second look stands between an old ticket
/// and the proxy.
#[tokio::test]
async fn a_resumed_session_is_judged_again_even_where_its_ticket_still_fits() {
    for version in [&TLS12, &TLS13] {
        for (case, expected) in [
            ("nothing", None),
            ("crl", Some("revoked")),
            ("stale", Some("crl-expired")),
            ("number", Some("revoked")),
            ("ca", Some("unknown-ca")),
            ("time", Some("expired")),
        ] {
            let mut bench = Bench::new();
            let app = bench.pki.issue(&Leaf::client("app").valid_days(0, 3)).unwrap();
            let config = bench.client(Some(&app), &[version]);
            let before = bench.load();
            assert!(!visit(&before, &config).await.unwrap().pipe.resumed());
            match case {
                "crl" => bench.files.crl = vec![bench.file("ca.crl", &bench.pki.ca.crl(&[&app.serial], 30).unwrap())],
                "stale" => bench.files.crl = vec![bench.file("ca.crl", &bench.pki.ca.crl(&[], -1).unwrap())],
                "number" => {
                    bench.files.choice.revocation.serials = vec![RevokedSerial::new(&serial(&app), None).unwrap()];
                }
                "ca" => bench.files.client_ca = bench.file("ca.crt", &bench.pki.other.cert),
                _ => {}
            }
            let mut after = bench.load().with_ticketer(Arc::clone(&before.config().ticketer));
            if case == "time" {
                let later = UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs() + 4 * 86_400));
                after = after.at(Arc::new(At(later)));
            }
            match (visit(&after, &config).await, expected) {
                (Ok(accepted), None) => assert!(accepted.pipe.resumed(), "{version:?}"),
                (Err(failure), Some(reason)) => assert_eq!(failure.reason, reason, "{version:?} {case}"),
                (other, _) => panic!("{version:?} {case}: {:?}", other.map(|accepted| accepted.pipe.resumed())),
            }
        }
    }
}

#[tokio::test]
async fn new_ticket_keys_make_every_session_of_before_a_full_handshake() {
    let bench = Bench::new();
    let store = super::reload::Store::new(bench.load());
    for version in [&TLS12, &TLS13] {
        let config = bench.client(Some(&bench.pki.client("app").unwrap()), &[version]);
        let resumed = async || visit(&store.current(), &config).await.unwrap().pipe.resumed();
        assert_eq!((resumed().await, resumed().await), (false, true));
        store.rekey();
        assert_eq!((resumed().await, resumed().await), (false, true), "{version:?}");
    }
}

#[tokio::test]
async fn a_ca_is_trusted_until_its_last_second_whenever_the_files_were_loaded() {
    let mut bench = Bench::new();
    let long = certs_dev::Authority::root("Long CA", None, 90, certs_dev::KeyKind::P256).unwrap();
    bench.files.client_ca = bench.file("ca.crt", &format!("{}{}", bench.pki.ca.cert, long.cert));
    let tls = bench.load();
    let day = |days: u64| UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs() + days * 86_400));
    let chain = |issued: Issued| [rustls::pki_types::CertificateDer::from(issued.der)];
    let of_short = chain(bench.pki.issue(&Leaf::client("app").valid_days(0, 200)).unwrap());
    let of_long = chain(long.issue(&Leaf::client("app").valid_days(0, 200)).unwrap());
    let refused = |chain, days| {
        let error = tls.recheck_at(chain, day(days)).err()?;
        Some(super::failure::explain(&error, None).reason)
    };
    assert_eq!((refused(&of_short, 29), refused(&of_long, 29)), (None, None));
    assert_eq!((refused(&of_short, 31), refused(&of_long, 31)), (Some("unknown-ca"), None));
    assert_eq!((refused(&of_short, 91), refused(&of_long, 91)), (Some("expired"), Some("expired")));
    // And at a handshake: the certificate itself would be good for months.
    let later = tls.at(Arc::new(At(day(91))));
    let issued = bench.pki.issue(&Leaf::client("app").valid_days(0, 200)).unwrap();
    assert_eq!(word(&later, &bench, &issued).await, Some("expired"));
}

/// The certificate that a client is shown that asks for this name, or the alert it gets.
async fn shown(tls: &Tls, bench: &Bench, name: &str) -> Result<Vec<u8>, String> {
    let (near, far) = tokio::io::duplex(65_536);
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let connector = tokio_rustls::TlsConnector::from(bench.app());
    let chains = Chains::default();
    let (client, _server) = tokio::join!(connector.connect(name, far), super::handshake::accept(tls, &chains, near));
    let client = client.map_err(|error| error.to_string())?;
    Ok(client.get_ref().1.peer_certificates().unwrap()[0].to_vec())
}

#[tokio::test]
async fn a_client_is_shown_the_certificate_of_the_name_it_asks_for() {
    let mut bench = Bench::new();
    let issued = bench.pki.server(&["a.example", "*.b.example"]).unwrap();
    let both = bench.file("a.pem", &format!("{}{}", issued.chain, issued.key));
    bench.files.choice.certificates = vec![Pair { cert: both.clone(), key: both, ..Pair::default() }];
    for strict in [false, true] {
        bench.files.choice.strict_names = strict;
        let tls = bench.load();
        for name in ["a.example", "A.EXAMPLE", "x.b.example"] {
            assert_eq!(shown(&tls, &bench, name).await.unwrap(), issued.der, "{name}");
        }
        for name in ["localhost", "127.0.0.1"] {
            assert_ne!(shown(&tls, &bench, name).await.unwrap(), issued.der, "{name}");
        }
        let unknown = shown(&tls, &bench, "x.y.b.example").await.unwrap_err();
        // Not strict: the default certificate, which does not fit.
        let said = if strict { "UnrecognisedName" } else { "not valid for name" };
        assert!(unknown.contains(said), "{unknown}");
    }
}

#[tokio::test]
async fn an_unknown_name_is_refused_before_any_certificate_is_shown() {
    let mut bench = Bench::new();
    bench.files.choice.strict_names = true;
    let tls = bench.load();
    let mut hello = rustls::ClientConnection::new(bench.app(), "nobody.example".try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    hello.write_tls(&mut bytes).unwrap();
    let (near, mut far) = tokio::io::duplex(65_536);
    far.write_all(&bytes).await.unwrap();
    far.shutdown().await.unwrap();
    let refused = super::handshake::accept(&tls, &Chains::default(), near).await.unwrap_err();
    assert_eq!((refused.failure.reason, refused.sni.as_deref()), ("unknown-name", Some("nobody.example")));
    assert!(!refused.failure.to_string().contains("nobody"), "the client's own words stay out of the sentence");
    let mut answer = Vec::new();
    far.read_to_end(&mut answer).await.unwrap();
    // One fatal alert, unrecognized_name, and nothing else.
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 112]);
}

#[tokio::test]
async fn the_name_in_a_record_is_cut() {
    let mut bench = Bench::new();
    let long = format!("{}.example", ["a".repeat(60), "b".repeat(60), "c".repeat(60)].join("."));
    let issued = bench.pki.server(&["localhost", &long]).unwrap();
    bench.files.cert = bench.file("tls.crt", &issued.chain);
    bench.files.key = bench.file("tls.key", &issued.key);
    let tls = bench.load();
    let (near, far) = tokio::io::duplex(65_536);
    let name = rustls::pki_types::ServerName::try_from(long).unwrap();
    let connector = tokio_rustls::TlsConnector::from(bench.app());
    let chains = Chains::default();
    let (client, server) = tokio::join!(connector.connect(name, far), super::handshake::accept(&tls, &chains, near));
    client.unwrap();
    let sni = server.unwrap().sni.unwrap();
    assert_eq!((sni.chars().count(), sni.ends_with('…')), (129, true));
}

#[test]
fn only_a_ca_and_a_list_that_refuses_turn_what_was_said_and_each_once() {
    let mut bench = Bench::new();
    let due = 20;
    bench.files.crl = vec![bench.file("ca.crl", &bench.pki.ca.crl_due_in(due, &[]).unwrap())];
    let tls = bench.load();
    let end = |kind: Kind| {
        let found = tls.description().ends.iter().find(|end| end.kind == kind).unwrap();
        u64::try_from(found.at).unwrap()
    };
    let at = end(Kind::CrlRefusing);
    assert!(!tls.has_turned(at - 10, at), "it counts still");
    assert!(tls.has_turned(at - 1, at + 1));
    assert!(tls.has_turned(at, at + 1), "asked in its last second, and again in the next");
    assert!(tls.has_turned(at - 3600, at + 3600), "a clock that steps misses nothing");
    assert!(!tls.has_turned(at + 2, at + 3), "that was told");
    assert!(!tls.has_turned(at + 3, at - 3), "a clock that is set back turns nothing");
    let ca = end(Kind::ClientCa);
    assert!(tls.has_turned(ca, ca + 1));
    let server = end(Kind::Server);
    assert!(server == ca || !tls.has_turned(server, server + 1), "whom we are is no business of theirs");
    bench.files.choice.revocation.expired = Doubt::Accept;
    assert!(!bench.load().has_turned(at - 1, at + 1));
}
