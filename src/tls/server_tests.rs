use super::*;
use crate::tls::{reload::Store, revocation::RevokedSerial, testing::Bench};
use certs_dev::{KeyKind, Leaf, Usage, Wicked};

fn warnings(bench: &Bench) -> String {
    let tls = bench.load();
    [&tls.description().warnings[..], &tls.description().expired].concat().join("\n")
}

#[test]
fn sound_files_load_without_a_warning_and_are_described() {
    let bench = Bench::new();
    let tls = bench.load();
    let description = tls.description();
    assert_eq!(description.warnings, Vec::<String>::new());
    let own = &description.chain[0];
    assert_eq!(own.names, ["localhost", "127.0.0.1"]);
    assert_eq!(own.key, "ECDSA P-256");
    // Thirty days, less the moment since.
    assert!((29..=30).contains(&own.days_left));
    let said = description.to_string();
    assert!(said.contains("certificate         CN=localhost") && said.contains("client CA"), "{said}");
}

#[test]
fn every_kind_of_key_is_named() {
    let mut bench = Bench::new();
    for (kind, name) in [(KeyKind::P384, "ECDSA P-384"), (KeyKind::Rsa, "RSA 2048"), (KeyKind::Ed25519, "Ed25519")] {
        let issued = bench.pki.issue(&Leaf::server(&["localhost"]).key(kind)).unwrap();
        bench.files.cert = bench.file("tls.crt", &issued.chain);
        bench.files.key = bench.file("tls.key", &issued.key);
        assert_eq!(bench.load().description().chain[0].key, name);
    }
}

#[test]
fn certificate_and_key_in_one_file_are_enough() {
    let mut bench = Bench::new();
    let issued = bench.pki.server(&["localhost"]).unwrap();
    let both = bench.file("both.pem", &format!("{}{}", issued.key, issued.chain));
    (bench.files.cert, bench.files.key) = (both.clone(), both);
    assert_eq!(bench.load().description().chain.len(), 1);
}

#[test]
fn a_key_of_another_certificate_is_an_error_that_names_both_files() {
    let mut bench = Bench::new();
    bench.files.key = bench.file("other.key", &bench.pki.client("x").unwrap().key);
    let said = bench.flaw();
    assert!(said.contains("other.key: is not the key of the certificate in") && said.contains("tls.crt"), "{said}");
}

#[test]
fn a_missing_intermediate_is_an_error_when_it_can_be_known_and_a_warning_when_not() {
    let mut bench = Bench::new();
    let issued = bench.pki.intermediate.issue(&Leaf::server(&["localhost"])).unwrap();
    bench.files.key = bench.file("tls.key", &issued.key);
    bench.files.cert = bench.file("tls.crt", &issued.cert);
    assert!(warnings(&bench).contains("must be appended"), "{}", warnings(&bench));
    bench.files.client_ca = bench.file("ca.crt", &format!("{}{}", bench.pki.ca.cert, bench.pki.intermediate.cert));
    assert!(bench.flaw().contains("is missing"), "{}", bench.flaw());
    bench.files.cert = bench.file("tls.crt", &issued.chain);
    assert_eq!(bench.load().description().chain.len(), 2);
}

#[test]
fn a_chain_that_does_not_link_is_an_error() {
    let mut bench = Bench::new();
    let issued = bench.pki.intermediate.issue(&Leaf::server(&["localhost"])).unwrap();
    bench.files.key = bench.file("tls.key", &issued.key);
    bench.files.cert = bench.file("tls.crt", &format!("{}{}", issued.cert, bench.pki.other.cert));
    assert!(bench.flaw().contains("not issued by the one after it"), "{}", bench.flaw());
    // The right names and the wrong key: an intermediate renewed under its old name.
    let (renewed, old) = (KeyKind::P256, &bench.pki.intermediate);
    let other = bench.pki.ca.intermediate("Ravelin development intermediate", 30, renewed).unwrap();
    let impostor = certs_dev::Authority::load(&old.cert, &other.key()).unwrap();
    let issued = impostor.issue(&Leaf::server(&["localhost"])).unwrap();
    bench.files.key = bench.file("tls.key", &issued.key);
    bench.files.cert = bench.file("tls.crt", &format!("{}{}", issued.cert, old.cert));
    assert!(bench.flaw().contains("do not form a chain"), "{}", bench.flaw());
}

#[test]
fn version_1_is_named_with_its_cure_in_every_file() {
    let mut bench = Bench::new();
    let v1 = bench.pki.ca.issue_version_1(&Leaf::server(&["localhost"])).unwrap();
    bench.files.cert = bench.file("tls.crt", &v1.cert);
    bench.files.key = bench.file("tls.key", &v1.key);
    let said = bench.flaw();
    assert!(said.contains("version 1") && said.contains("ravelin certs") && said.contains("-extfile"), "{said}");
    let mut bench = Bench::new();
    bench.files.client_ca = bench.file("ca.crt", &bench.pki.wicked(Wicked::Version1).unwrap().cert);
    assert!(bench.flaw().contains("version 1"), "{}", bench.flaw());
}

#[test]
fn a_certificate_that_is_no_ca_is_not_trusted_to_issue() {
    let mut bench = Bench::new();
    bench.files.client_ca = bench.file("ca.crt", &bench.pki.server(&["localhost"]).unwrap().cert);
    assert!(bench.flaw().contains("is not a CA certificate"), "{}", bench.flaw());
}

#[test]
fn a_client_certificate_cannot_serve() {
    let mut bench = Bench::new();
    let client = bench.pki.issue(&Leaf::server(&["localhost"]).usage(Usage::Client)).unwrap();
    bench.files.cert = bench.file("tls.crt", &client.cert);
    bench.files.key = bench.file("tls.key", &client.key);
    assert!(bench.flaw().contains("serverAuth"), "{}", bench.flaw());
}

#[test]
fn an_expired_ca_is_left_out_and_alone_is_an_error() {
    let mut bench = Bench::new();
    let old = certs_dev::Authority::root("Old CA", None, -1, KeyKind::P256).unwrap();
    bench.files.client_ca = bench.file("ca.crt", &format!("{}{}", old.cert, bench.pki.ca.cert));
    assert!(warnings(&bench).contains("no longer trusted"), "{}", warnings(&bench));
    bench.files.client_ca = bench.file("ca.crt", &old.cert);
    assert!(bench.flaw().contains("only expired CA"), "{}", bench.flaw());
}

#[test]
fn ends_that_are_near_or_past_are_warnings() {
    let mut bench = Bench::new();
    for (from, to, said) in [(-30, -3, "expired on"), (0, 5, "expires in "), (3, 30, "not valid before")] {
        let issued = bench.pki.issue(&Leaf::server(&["localhost"]).valid_days(from, to)).unwrap();
        bench.files.cert = bench.file("tls.crt", &issued.chain);
        bench.files.key = bench.file("tls.key", &issued.key);
        assert!(warnings(&bench).contains(said), "{}", warnings(&bench));
    }
}

#[test]
fn revocation_lists_are_described_and_their_troubles_foreseen() {
    let mut bench = Bench::new();
    let list = |days| bench.pki.ca.crl_numbered(1, &[&[1], &[2]], (-20, days)).unwrap();
    let cases = [(30, ""), (3, "counts until"), (-1, "every client of that CA is refused")];
    for (days, said) in cases {
        bench.files.crl = vec![bench.file("ca.crl", &list(days))];
        assert_eq!(bench.load().description().crl[0].revoked, 2);
        assert!(
            warnings(&bench).contains(said) && (said.is_empty() == warnings(&bench).is_empty()),
            "{days}: {}",
            warnings(&bench)
        );
    }
    bench.files.crl = vec![bench.file("other.crl", &bench.pki.other.crl(&[], 30).unwrap())];
    assert!(
        warnings(&bench).contains("no revocation list speaks for CN=Ravelin development CA"),
        "{}",
        warnings(&bench)
    );
    assert!(warnings(&bench).contains("no client CA is called"));
    bench.files.crl = vec![bench.file("ca.crl", "nothing")];
    assert!(bench.flaw().contains("ca.crl: holds no revocation list"), "{}", bench.flaw());
}

#[test]
fn a_list_that_its_ca_has_not_signed_is_foreseen() {
    let mut bench = Bench::new();
    // The same name and another key, as after a CA was made anew.
    let stranger = certs_dev::Authority::load(&bench.pki.ca.cert, &bench.pki.other.key()).unwrap();
    bench.files.crl = vec![bench.file("ca.crl", &stranger.crl(&[], 30).unwrap())];
    assert!(warnings(&bench).contains("is not signed by the client CA of that name"), "{}", warnings(&bench));
}

#[test]
fn an_older_list_beside_a_newer_one_is_named_and_left_out() {
    let mut bench = Bench::new();
    bench.files.crl = vec![
        bench.file("new.crl", &bench.pki.ca.crl_numbered(2, &[&[1], &[2]], (0, 30)).unwrap()),
        bench.file("old.crl", &bench.pki.ca.crl_numbered(1, &[&[1]], (-60, -1)).unwrap()),
    ];
    let tls = bench.load();
    assert_eq!(tls.description().crl.len(), 1);
    assert_eq!((tls.description().crl[0].revoked, &tls.description().expired[..]), (2, &[][..]));
    assert!(warnings(&bench).contains("old.crl holds a revocation list that a newer one here replaces"));
}

#[test]
fn what_is_expired_is_told_apart_from_what_will_be() {
    let mut bench = Bench::new();
    bench.files.crl = vec![bench.file("ca.crl", &bench.pki.ca.crl(&[], -2).unwrap())];
    let found = bench.load().description().clone();
    assert!(found.expired[0].contains("was due to be renewed") && found.warnings.is_empty(), "{found:?}");
    bench.files.choice.revocation.expired = Doubt::Accept;
    let found = bench.load().description().clone();
    assert!(found.warnings[0].contains("crl_expired = \"accept\"") && found.expired.is_empty(), "{found:?}");
}

#[test]
fn the_period_of_the_warning_is_ones_own() {
    let mut bench = Bench::new();
    assert_eq!(warnings(&bench), "");
    bench.files.choice.expiry_warning = std::time::Duration::from_secs(40 * 86_400);
    let said = warnings(&bench);
    assert!(said.contains("the certificate CN=localhost expires in "), "{said}");
    assert!(said.contains("the client CA CN=Ravelin development CA"), "{said}");
}

#[test]
fn a_ca_that_is_revoked_by_its_number_is_not_trusted() {
    let mut bench = Bench::new();
    let number = bench.load().description().client_ca[0].serial.clone();
    bench.files.choice.revocation.serials = vec![RevokedSerial::new(&number, None).unwrap()];
    assert!(bench.flaw().contains("only expired CA"), "{}", bench.flaw());
    bench.files.client_ca = bench.file("ca.crt", &format!("{}{}", bench.pki.ca.cert, bench.pki.other.cert));
    assert!(warnings(&bench).contains("is in revoked_serials and not trusted"), "{}", warnings(&bench));
}

#[test]
fn certificates_by_name_are_described_and_their_doubts_said() {
    let mut bench = Bench::new();
    let pair = |bench: &Bench, file: &str, leaf: Leaf, names: &[&str]| {
        let issued = bench.pki.issue(&leaf).unwrap();
        let both = bench.file(file, &format!("{}{}", issued.chain, issued.key));
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Pair { cert: both.clone(), key: both, ocsp: None, names }
    };
    let leaf = Leaf::server(&["a.example", "*.b.example", "f*.example", "10.0.0.1"]);
    bench.files.choice.certificates = vec![pair(&bench, "a.pem", leaf, &[])];
    let tls = bench.load();
    assert_eq!(tls.description().by_name[0].names, ["a.example", "*.b.example"]);
    assert!(warnings(&bench).contains("f*.example, which no client is matched to"), "{}", warnings(&bench));
    assert!(tls.description().to_string().contains("for the name        a.example, *.b.example"));
    let ends: Vec<&str> = tls.description().ends.iter().map(|end| end.certificate.as_str()).collect();
    assert_eq!(ends, ["client_ca", "server", "server:a.example"]);

    let certificates = vec![
        pair(&bench, "b.pem", Leaf::server(&["b.example"]), &["other.example", "b.example"]),
        pair(&bench, "c.pem", Leaf::server(&["b.example"]), &[]),
        pair(&bench, "d.pem", Leaf::server(&["b.example"]).key(KeyKind::Rsa), &[]),
    ];
    bench.files.choice.certificates = certificates;
    let said = warnings(&bench);
    assert!(said.contains("is shown for other.example, and does not have that name"), "{said}");
    assert_eq!(said.matches("two ECDSA certificates are for b.example").count(), 1, "{said}");
    assert!(!said.contains("two RSA"), "{said}");

    bench.files.choice.certificates = vec![pair(&bench, "e.pem", Leaf::server(&["10.0.0.1"]), &[])];
    assert!(bench.flaw().contains("has no DNS name"), "{}", bench.flaw());
    bench.files.choice.certificates =
        vec![Pair { key: bench.files.key.clone(), ..pair(&bench, "f.pem", Leaf::server(&["f.example"]), &[]) }];
    assert!(
        bench.flaw().contains("is not the key of the certificate in") && bench.flaw().contains("f.pem"),
        "{}",
        bench.flaw()
    );
}

#[test]
fn what_is_agreed_on_is_described_by_ianas_names() {
    let mut bench = Bench::new();
    let found = bench.load().description().clone();
    assert_eq!(found.versions, ["1.3", "1.2"]);
    assert_eq!((found.suites[0].as_str(), found.suites.len()), ("TLS_AES_256_GCM_SHA384", 9));
    assert_eq!(found.groups, ["X25519MLKEM768", "x25519", "secp256r1", "secp384r1"]);
    bench.files.min_version = MinVersion::Tls13;
    bench.files.choice.suites = vec![
        suites::suite("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384").unwrap(),
        suites::suite("TLS_CHACHA20_POLY1305_SHA256").unwrap(),
    ];
    let found = bench.load().description().clone();
    assert_eq!(
        (&found.versions[..], &found.suites[..]),
        (&["1.3"][..], &["TLS_CHACHA20_POLY1305_SHA256".to_owned()][..])
    );
}

#[test]
fn unreadable_and_empty_files_are_named() {
    let mut bench = Bench::new();
    bench.files.key = PathBuf::from("/nonexistent/tls.key");
    assert!(bench.flaw().starts_with("/nonexistent/tls.key: cannot be read"), "{}", bench.flaw());
    let mut bench = Bench::new();
    bench.files.client_ca = bench.file("ca.crt", "");
    assert!(bench.flaw().contains("ca.crt: holds no certificate"), "{}", bench.flaw());
}

#[test]
fn unchanged_files_are_not_reloaded_and_changed_ones_are() {
    let mut bench = Bench::new();
    let store = Store::new(bench.load());
    let now = UnixTime::now();
    assert!(store.prepare(&bench.files, now).unwrap().is_none());
    bench.files.cert = bench.file("copy.crt", &std::fs::read_to_string(&bench.files.cert).unwrap());
    assert!(store.prepare(&bench.files, now).unwrap().is_none(), "the same content elsewhere is the same");
    bench.files.min_version = MinVersion::Tls13;
    assert!(store.prepare(&bench.files, now).unwrap().is_some());
    bench.files.min_version = MinVersion::Tls12;
    assert!(store.prepare(&bench.files, now).unwrap().is_none());
    // Each thing that can be chosen counts.
    let changes: [fn(&mut Choice); 6] = [
        |choice| choice.strict_names = true,
        |choice| choice.revocation.serials = vec![RevokedSerial::new("1", None).unwrap()],
        |choice| choice.revocation.expired = Doubt::Accept,
        |choice| choice.revocation.missing = Doubt::Accept,
        |choice| choice.suites = vec![suites::suite("TLS_AES_128_GCM_SHA256").unwrap()],
        |choice| choice.groups = vec![NamedGroup::X25519],
    ];
    for change in changes {
        let mut files = bench.files.clone();
        change(&mut files.choice);
        assert!(store.prepare(&files, now).unwrap().is_some(), "{:?}", files.choice);
    }
}

#[test]
fn a_reload_of_a_half_replaced_pair_keeps_the_old_one() {
    let bench = Bench::new();
    let store = Store::new(bench.load());
    let before = store.current();
    let renewed = bench.pki.server(&["localhost"]).unwrap();
    bench.file("tls.crt", &renewed.chain);
    let error = store.prepare(&bench.files, UnixTime::now()).unwrap_err();
    assert!(error.to_string().contains("is not the key"), "{error}");
    assert!(Arc::ptr_eq(&before, &store.current()));
    bench.file("tls.key", &renewed.key);
    store.swap(store.prepare(&bench.files, UnixTime::now()).unwrap().unwrap());
    assert_ne!(before.description().chain[0].serial, store.current().description().chain[0].serial);
}
