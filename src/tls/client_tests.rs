//! A client made of every kind of trust, before servers that are and are not what was configured.

use super::*;
use crate::tls::testing::Bench;
use certs_dev::{Issued, Leaf, Usage};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::{Duration, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// A server with this certificate, which may ask clients for theirs.
fn server(
    issued: &Issued,
    client_ca: Option<&str>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> TlsAcceptor {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain = pem::certificates(issued.chain.as_bytes()).unwrap();
    let key = pem::private_key(issued.key.as_bytes()).unwrap();
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions);
    let builder = match client_ca {
        None => builder.unwrap().with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            pem::certificates(ca.as_bytes()).unwrap().into_iter().for_each(|root| roots.add(root).unwrap());
            let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.unwrap().with_client_cert_verifier(clients.build().unwrap())
        }
    };
    TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()))
}

/// What a client of these files and a server make of each other.
async fn shake(
    files: &ClientFiles,
    host: Option<&str>,
    server: TlsAcceptor,
) -> (Result<Secured<DuplexStream>, Failure>, std::io::Result<TlsStream<DuplexStream>>) {
    let client = TlsClient::load(files, UnixTime::now()).unwrap();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = host.map(|host| Name::new(host).unwrap());
    let both = async { tokio::join!(client.connect(name.as_ref(), near), server.accept(far)) };
    timeout(Duration::from_secs(20), both).await.expect("the handshake ends")
}

fn files(trust: Trust) -> ClientFiles {
    ClientFiles {
        trust,
        pins: Vec::new(),
        server_name: None,
        own: None,
        crl: Vec::new(),
        revocation: Revocation::default(),
        min_version: MinVersion::Tls12,
    }
}

fn by_ca(bench: &Bench) -> ClientFiles {
    files(Trust::Ca(bench.files.client_ca.clone()))
}

async fn reason(files: &ClientFiles, host: Option<&str>, server: TlsAcceptor) -> &'static str {
    shake(files, host, server).await.0.err().map_or("none", |failure| {
        assert!(crate::tls::refusal::REASONS.contains(&failure.reason), "{failure}");
        failure.reason
    })
}

#[tokio::test]
async fn a_certificate_of_the_ca_for_the_name_is_believed_in_both_versions() {
    let bench = Bench::new();
    let issued = bench.pki.server(&["redis.example", "127.0.0.1"]).unwrap();
    for (version, said) in [(&rustls::version::TLS12, "TLSv1.2"), (&rustls::version::TLS13, "TLSv1.3")] {
        for host in ["redis.example", "127.0.0.1"] {
            let (client, server) = shake(&by_ca(&bench), Some(host), server(&issued, None, &[version])).await;
            let (mut client, mut server) = (client.unwrap(), server.unwrap());
            assert_eq!(client.protocol(), said);
            client.write_all(b"PING\r\n").await.unwrap();
            let mut got = [0; 6];
            server.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"PING\r\n");
        }
    }
}

#[tokio::test]
async fn names_are_held_against_the_certificate_strictly() {
    let bench = Bench::new();
    let issued = bench.pki.server(&["*.web.example", "redis.test", "127.0.0.1"]).unwrap();
    let cases = [
        ("redis.test", "none"),
        ("REDIS.test", "none"),
        ("a.web.example", "none"),
        // A wildcard is one label, and not none.
        ("a.b.web.example", "wrong-name"),
        ("web.example", "wrong-name"),
        ("redis.test.evil.test", "wrong-name"),
        ("edis.test", "wrong-name"),
        ("127.0.0.2", "wrong-name"),
        ("::1", "wrong-name"),
    ];
    for (host, expected) in cases {
        let found = reason(&by_ca(&bench), Some(host), server(&issued, None, rustls::ALL_VERSIONS)).await;
        assert_eq!(found, expected, "{host}");
    }
    // A common name is no name of a server (RFC 9525).
    let common = bench.pki.issue(&Leaf::client("redis.test").usage(Usage::Server)).unwrap();
    let found = reason(&by_ca(&bench), Some("redis.test"), server(&common, None, rustls::ALL_VERSIONS)).await;
    assert_eq!(found, "wrong-name");
}

#[tokio::test]
async fn server_name_takes_the_place_of_what_is_connected_to_and_is_sent() {
    let bench = Bench::new();
    let issued = bench.pki.server(&["redis.example"]).unwrap();
    let named = ClientFiles { server_name: Name::new("redis.example"), ..by_ca(&bench) };
    for host in [None, Some("10.9.8.7"), Some("other.example")] {
        let (client, server) = shake(&named, host, server(&issued, None, rustls::ALL_VERSIONS)).await;
        assert!(client.is_ok());
        assert_eq!(server.unwrap().get_ref().1.server_name(), Some("redis.example"));
    }
    assert_eq!(reason(&by_ca(&bench), None, server(&issued, None, rustls::ALL_VERSIONS)).await, "wrong-name");
}

#[tokio::test]
async fn wicked_certificates_are_refused_each_for_its_reason() {
    let bench = Bench::new();
    let leaf = || Leaf::server(&["redis.example"]);
    let cases = [
        (bench.pki.other.issue(&leaf()).unwrap(), "unknown-ca"),
        (bench.pki.issue(&leaf().valid_days(-30, -1)).unwrap(), "expired"),
        (bench.pki.issue(&leaf().valid_days(2, 30)).unwrap(), "not-yet-valid"),
        (bench.pki.issue(&leaf().usage(Usage::Client)).unwrap(), "wrong-usage"),
    ];
    for (issued, expected) in cases {
        for version in rustls::ALL_VERSIONS {
            let found = reason(&by_ca(&bench), Some("redis.example"), server(&issued, None, &[version])).await;
            assert_eq!(found, expected);
        }
    }
}

#[tokio::test]
async fn a_pin_alone_knows_one_certificate_whatever_its_name_and_no_other() {
    let bench = Bench::new();
    let issued = bench.pki.server(&["whatever.example"]).unwrap();
    let (whole, key) = Pin::of(&issued.der);
    for pin in [whole, key.unwrap()] {
        let pinned = ClientFiles { pins: vec![pin], ..files(Trust::Pinned) };
        assert_eq!(reason(&pinned, Some("redis.example"), server(&issued, None, rustls::ALL_VERSIONS)).await, "none");
        assert_eq!(reason(&pinned, None, server(&issued, None, rustls::ALL_VERSIONS)).await, "none");
        let other = bench.pki.server(&["whatever.example"]).unwrap();
        let failure = shake(&pinned, None, server(&other, None, rustls::ALL_VERSIONS)).await.0.unwrap_err();
        assert_eq!(failure.reason, "pin");
        // Whoever renewed it copies the new pin from here.
        assert!(failure.detail.contains(&Pin::of(&other.der).0.to_string()), "{failure}");
        let named = ClientFiles { server_name: Name::new("redis.example"), ..pinned };
        assert_eq!(reason(&named, None, server(&issued, None, rustls::ALL_VERSIONS)).await, "wrong-name");
    }
}

#[tokio::test]
async fn a_pinned_certificate_must_be_in_force_by_its_own_dates() {
    let bench = Bench::new();
    for (from, to, expected) in [(-30, -1, "expired"), (2, 30, "not-yet-valid"), (-1, 1, "none")] {
        let issued = bench.pki.issue(&Leaf::server(&["a.example"]).valid_days(from, to)).unwrap();
        let pinned = ClientFiles { pins: vec![Pin::of(&issued.der).0], ..files(Trust::Pinned) };
        assert_eq!(reason(&pinned, None, server(&issued, None, rustls::ALL_VERSIONS)).await, expected);
    }
}

#[tokio::test]
async fn a_pin_beside_a_ca_does_not_replace_it() {
    let bench = Bench::new();
    let (good, stranger) = (
        bench.pki.server(&["redis.example"]).unwrap(),
        bench.pki.other.issue(&Leaf::server(&["redis.example"])).unwrap(),
    );
    let pins = vec![Pin::of(&good.der).0, Pin::of(&stranger.der).0];
    let both = ClientFiles { pins, ..by_ca(&bench) };
    assert_eq!(reason(&both, Some("redis.example"), server(&good, None, rustls::ALL_VERSIONS)).await, "none");
    assert_eq!(reason(&both, Some("other.example"), server(&good, None, rustls::ALL_VERSIONS)).await, "wrong-name");
    assert_eq!(reason(&both, Some("redis.example"), server(&stranger, None, rustls::ALL_VERSIONS)).await, "unknown-ca");
    let third = bench.pki.server(&["redis.example"]).unwrap();
    assert_eq!(reason(&both, Some("redis.example"), server(&third, None, rustls::ALL_VERSIONS)).await, "pin");
}

#[tokio::test]
async fn whoever_shows_a_pinned_certificate_without_its_key_is_refused() {
    let bench = Bench::new();
    let (good, thief) = (bench.pki.server(&["redis.example"]).unwrap(), bench.pki.server(&["redis.example"]).unwrap());
    let provider = aws_lc_rs::default_provider();
    let key = provider.key_provider.load_private_key(pem::private_key(thief.key.as_bytes()).unwrap()).unwrap();
    let stolen = CertifiedKey::new(pem::certificates(good.chain.as_bytes()).unwrap(), key);
    for version in rustls::ALL_VERSIONS {
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(stolen.clone())));
        let pinned = ClientFiles { pins: vec![Pin::of(&good.der).0], ..files(Trust::Pinned) };
        assert_eq!(reason(&pinned, None, TlsAcceptor::from(Arc::new(config))).await, "bad-signature");
    }
}

#[tokio::test]
async fn our_certificate_is_shown_and_a_server_that_wants_one_says_so() {
    let bench = Bench::new();
    let issued = bench.pki.server(&["redis.example"]).unwrap();
    let own = bench.pki.client("proxy").unwrap();
    let (cert, key) = (bench.file("own.crt", &own.chain), bench.file("own.key", &own.key));
    let shows = ClientFiles { own: Some(Own { cert, key }), ..by_ca(&bench) };
    for version in rustls::ALL_VERSIONS {
        let wants = || server(&issued, Some(&bench.pki.ca.cert), &[version]);
        let (client, server) = shake(&shows, Some("redis.example"), wants()).await;
        assert!(client.is_ok());
        let shown = server.unwrap().get_ref().1.peer_certificates().unwrap()[0].to_vec();
        assert_eq!(shown, own.der);
        // In TLS 1.3 the client is done before the server has looked; the first read tells.
        let failure = match shake(&by_ca(&bench), Some("redis.example"), wants()).await.0 {
            Err(failure) => failure,
            Ok(mut client) => {
                let error = client.read_u8().await.unwrap_err();
                crate::tls::refusal::of_stream(&error).expect("an alert")
            }
        };
        assert_eq!(failure.reason, "server-alert", "{failure}");
        assert!(failure.to_string().contains("upstream.tls.cert"), "{failure}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_told_from_one_that_hangs_up() {
    let bench = Bench::new();
    let client = TlsClient::load(&by_ca(&bench), UnixTime::now()).unwrap();
    let host = Name::new("redis.example");
    for (answer, expected) in [(&b"-ERR Protocol error\r\n"[..], "not-tls"), (b"", "eof")] {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let redis = async move {
            far.write_all(answer).await.unwrap();
        };
        let (shaken, ()) = tokio::join!(client.connect(host.as_ref(), near), redis);
        assert_eq!(shaken.unwrap_err().reason, expected);
    }
}

/// Whether this client resumes a session with a server called redis.example.
async fn resumed(client: &TlsClient, acceptor: &TlsAcceptor) -> bool {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let serve = async {
        let mut stream = acceptor.accept(far).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        stream.flush().await.unwrap();
        stream
    };
    let host = Name::new("redis.example");
    let (shaken, _server) = tokio::join!(client.connect(host.as_ref(), near), serve);
    let mut shaken = shaken.unwrap();
    // The ticket comes before the first byte.
    shaken.read_u8().await.unwrap();
    shaken.resumed()
}

#[tokio::test]
async fn a_server_whose_certificate_or_intermediate_is_revoked_is_not_believed() {
    let bench = Bench::new();
    let (pki, host) = (&bench.pki, Some("redis.example"));
    let leaf = |authority: &certs_dev::Authority| authority.issue(&Leaf::server(&["redis.example"])).unwrap();
    let (direct, below) = (leaf(&pki.ca), leaf(&pki.intermediate));
    let list = |name: &str, text: String| bench.file(name, &text);
    let with = |crl: Vec<PathBuf>| ClientFiles { crl, ..by_ca(&bench) };
    let said = async |files: &ClientFiles, issued: &Issued| {
        reason(files, host, server(issued, None, rustls::ALL_VERSIONS)).await
    };
    let (of_ca, of_intermediate) =
        (list("ca.crl", pki.ca.crl(&[], 7).unwrap()), list("intermediate.crl", pki.intermediate.crl(&[], 7).unwrap()));
    let both = with(vec![of_ca.clone(), of_intermediate.clone()]);
    assert_eq!((said(&both, &direct).await, said(&both, &below).await), ("none", "none"));
    // Nobody speaks for what the intermediate has issued: whoever keeps a list back must not win.
    let one = with(vec![of_ca.clone()]);
    assert_eq!((said(&one, &direct).await, said(&one, &below).await), ("none", "revocation-unknown"));
    let missing = Revocation { missing: Doubt::Accept, ..Revocation::default() };
    assert_eq!(said(&ClientFiles { revocation: missing, ..one }, &below).await, "none");
    let number = list("direct.crl", pki.ca.crl_numbered(2, &[&direct.serial], (0, 7)).unwrap());
    let revoked = with(vec![of_ca, number, of_intermediate.clone()]);
    assert_eq!((said(&revoked, &direct).await, said(&revoked, &below).await), ("revoked", "none"));
    let above = list("above.crl", pki.ca.crl(&[pki.intermediate.serial().unwrap()], 7).unwrap());
    let folder = bench.file("x", "").with_file_name("lists");
    std::fs::create_dir(&folder).unwrap();
    for file in [&above, &of_intermediate] {
        std::fs::copy(file, folder.join(file.file_name().unwrap())).unwrap();
    }
    let whole = with(vec![folder]);
    assert_eq!((said(&whole, &direct).await, said(&whole, &below).await), ("none", "revoked"));
    let old = with(vec![list("old.crl", pki.ca.crl(&[], -1).unwrap())]);
    assert_eq!(said(&old, &direct).await, "crl-expired");
    let expired = Revocation { expired: Doubt::Accept, ..Revocation::default() };
    assert_eq!(said(&ClientFiles { revocation: expired, ..old.clone() }, &direct).await, "none");

    let found = |files: &ClientFiles| TlsClient::load(files, UnixTime::now()).unwrap().description().clone();
    assert!(found(&old).expired.join("\n").contains("no server of that CA is believed"), "{:?}", found(&old));
    assert!(
        found(&revoked).warnings.join("\n").contains("ca.crl holds a revocation list that a newer one here replaces")
    );
    let broken = with(vec![list("broken.crl", "-----BEGIN X509 CRL-----\n".to_owned())]);
    assert!(TlsClient::load(&broken, UnixTime::now()).unwrap_err().to_string().contains("broken.crl"));
}

#[tokio::test]
async fn no_session_is_resumed_where_a_list_may_come_to_its_end_meanwhile() {
    let bench = Bench::new();
    let acceptor = server(&bench.pki.server(&["redis.example"]).unwrap(), None, rustls::ALL_VERSIONS);
    let crl = vec![bench.file("ca.crl", &bench.pki.ca.crl(&[], 7).unwrap())];
    for (expired, resumes) in [(Doubt::Refuse, false), (Doubt::Accept, true)] {
        let revocation = Revocation { expired, ..Revocation::default() };
        let files = ClientFiles { crl: crl.clone(), revocation, ..by_ca(&bench) };
        let client = TlsClient::load(&files, UnixTime::now()).unwrap();
        assert!(!resumed(&client, &acceptor).await);
        assert_eq!(resumed(&client, &acceptor).await, resumes, "{expired:?}");
    }
    // Another list is another client.
    let files = ClientFiles { crl, ..by_ca(&bench) };
    let before = TlsClient::load(&files, UnixTime::now()).unwrap();
    bench.file("ca.crl", &bench.pki.ca.crl_numbered(2, &[], (0, 7)).unwrap());
    assert!(!TlsClient::load(&files, UnixTime::now()).unwrap().is_same_as(&before));
}

#[tokio::test]
async fn a_session_is_resumed_by_the_same_client_and_not_by_one_that_was_loaded_anew() {
    let bench = Bench::new();
    let issued = bench.pki.server(&["redis.example"]).unwrap();
    let acceptor = server(&issued, None, rustls::ALL_VERSIONS);
    let client = TlsClient::load(&by_ca(&bench), UnixTime::now()).unwrap();
    let resumed = async |client: &TlsClient| resumed(client, &acceptor).await;
    assert!(!resumed(&client).await);
    assert!(resumed(&client).await);
    let again = TlsClient::load(&by_ca(&bench), UnixTime::now()).unwrap();
    assert!(again.is_same_as(&client), "a reload keeps the old one in that case");
    assert!(!resumed(&again).await);
    let other = TlsClient::load(&ClientFiles { min_version: MinVersion::Tls13, ..by_ca(&bench) }, UnixTime::now());
    assert!(!other.unwrap().is_same_as(&client));
}

#[test]
fn files_that_cannot_be_used_say_what_to_do() {
    let bench = Bench::new();
    let flaw = |files: &ClientFiles| TlsClient::load(files, UnixTime::now()).unwrap_err().to_string();
    let missing = files(Trust::Ca("/nonexistent/ca.crt".into()));
    assert!(flaw(&missing).starts_with("/nonexistent/ca.crt: cannot be read"), "{}", flaw(&missing));
    let server = bench.pki.server(&["redis.example"]).unwrap();
    let leaf = files(Trust::Ca(bench.file("leaf.crt", &server.cert)));
    let pin = Pin::of(&server.der).0.to_string();
    assert!(flaw(&leaf).contains("is pinned") && flaw(&leaf).contains(&pin), "{}", flaw(&leaf));
    let old = certs_dev::Authority::root("Old CA", None, -1, certs_dev::KeyKind::P256).unwrap();
    let expired = files(Trust::Ca(bench.file("old.crt", &old.cert)));
    assert!(flaw(&expired).contains("only expired"), "{}", flaw(&expired));
    let (one, other) = (bench.pki.client("one").unwrap(), bench.pki.client("other").unwrap());
    let own = Own { cert: bench.file("one.crt", &one.chain), key: bench.file("other.key", &other.key) };
    let mixed = ClientFiles { own: Some(own), ..by_ca(&bench) };
    assert!(flaw(&mixed).contains("is not the key of the certificate in"), "{}", flaw(&mixed));
}

#[test]
fn a_client_certificate_that_ends_soon_is_a_warning() {
    let bench = Bench::new();
    for (to, said) in [(3, "expires in"), (-1, "has expired"), (60, "")] {
        let issued = bench.pki.issue(&Leaf::client("proxy").valid_days(-5, to)).unwrap();
        let own = Own { cert: bench.file("own.crt", &issued.chain), key: bench.file("own.key", &issued.key) };
        let client = TlsClient::load(&ClientFiles { own: Some(own), ..by_ca(&bench) }, UnixTime::now()).unwrap();
        let found = client.description();
        assert_eq!(found.expired.is_empty(), to > 0, "{found:?}");
        let warnings = [&found.warnings[..], &found.expired[..]].concat().join("\n");
        assert!(warnings.contains(said) && said.is_empty() == warnings.is_empty(), "{to}: {warnings}");
    }
}
