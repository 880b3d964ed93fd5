//! What is chosen about TLS, beside its files.

use super::{load, with};
use crate::tls::{
    revocation::{Doubt, RevokedSerial},
    server::Choice,
};
use std::time::Duration;

/// The minimal file with further keys of `[tls]`.
fn tls(lines: &str) -> String {
    with("").replace("[admission]", &format!("{lines}\n[admission]"))
}

#[test]
fn nothing_chosen_is_the_default() {
    assert_eq!(load(&tls("")).unwrap().services[0].tls.choice, Choice::default());
}

#[test]
fn what_is_chosen_is_understood() {
    let settings = load(&tls(r#"
        ocsp = "tls.ocsp"
        sni = "strict"
        crl = ["crls"]
        crl_expired = "accept"
        crl_missing = "accept"
        revoked_serials = ["4F:A0:01", { serial = "00ff", issuer = "CN=Issuing CA" }]
        suites = ["TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"]
        groups = ["secp384r1", "x25519"]
        expiry_warning = "30d"
        certificates = [{ cert = "a.crt", key = "a.key", ocsp = "a.ocsp", names = ["A.Example.", "*.a.example"] }, { cert = "b.pem", key = "b.pem" }]
    "#))
    .unwrap();
    let choice = &settings.services[0].tls.choice;
    assert!(choice.ocsp.as_ref().unwrap().ends_with("tls.ocsp") && choice.ocsp.as_ref().unwrap().is_absolute());
    assert!(choice.strict_names);
    assert_eq!((choice.revocation.expired, choice.revocation.missing), (Doubt::Accept, Doubt::Accept));
    let serials =
        [RevokedSerial::new("4fa001", None).unwrap(), RevokedSerial::new("ff", Some("CN=Issuing CA")).unwrap()];
    assert_eq!(choice.revocation.serials, serials);
    assert_eq!(
        format!("{:?} {:?}", choice.suites, choice.groups),
        "[TLS13_CHACHA20_POLY1305_SHA256, TLS13_AES_128_GCM_SHA256] [secp384r1, X25519]"
    );
    assert_eq!(choice.expiry_warning, Duration::from_secs(30 * 86_400));
    let [a, b] = &choice.certificates[..] else { panic!("two certificates") };
    assert_eq!(a.names, ["a.example", "*.a.example"]);
    assert!(a.cert.ends_with("a.crt") && a.key.ends_with("a.key") && a.ocsp.as_ref().unwrap().ends_with("a.ocsp"));
    assert!(b.names.is_empty() && b.ocsp.is_none() && b.cert == b.key);
    let keys: Vec<_> =
        settings.files().into_iter().map(|file| file.key).filter(|key| key.starts_with("tls.c")).collect();
    assert_eq!(keys.len(), 3 + 5, "{keys:?}");
}

#[test]
fn a_fault_is_named_with_its_place_and_what_to_write() {
    let rows: &[(&str, &[&str])] = &[
        ("suites = []", &["tls.suites: there is none in it"]),
        (
            "suites = [\"ECDHE-RSA-AES256-GCM-SHA384\"]",
            &["tls.suites.0", "not the name that IANA gave it", "write \"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384\""],
        ),
        (
            "suites = [\"TLS_RSA_WITH_AES_128_CBC_SHA\"]",
            &["no cipher suite that there is here", "TLS_AES_256_GCM_SHA384"],
        ),
        (
            "suites = [\"TLS_AES_128_GCM_SHA256\", \"TLS_AES_128_GCM_SHA256\"]",
            &["tls.suites.1: is in the list already"],
        ),
        (
            "min_version = \"1.3\"\nsuites = [\"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384\"]",
            &["no suite of TLS 1.3 among them"],
        ),
        ("groups = [\"prime256v1\"]", &["tls.groups.0", "write \"secp256r1\""]),
        ("sni = \"strickt\"", &["tls.sni", "did you mean \"strict\""]),
        ("crl_expired = \"warn\"", &["tls.crl_expired: expected \"refuse\" or \"accept\""]),
        ("crl_missing = \"ignore\"", &["tls.crl_missing: expected"]),
        ("expiry_warning = \"1m\"", &["tls.expiry_warning: expected \"1h\" to \"365d\""]),
        (
            "revoked_serials = [\"xyz\"]",
            &["tls.revoked_serials.0: expected hexadecimal digits", "openssl x509 -noout -serial"],
        ),
        ("revoked_serials = [{ issuer = \"CN=x\" }]", &["tls.revoked_serials.0.serial: is missing"]),
        ("revoked_serials = [{ serial = \"\" }]", &["tls.revoked_serials.0.serial: expected hexadecimal digits"]),
        ("certificates = [{ cert = \"a\" }]", &["tls.certificates.0.key: is missing"]),
        ("certificates = [{ cert = \"a\", key = \"a\", names = [] }]", &["tls.certificates.0.names: there is no name"]),
        (
            "certificates = [{ cert = \"a\", key = \"a\", names = [\"10.0.0.1\"] }]",
            &["tls.certificates.0.names.0", "is not a host's name"],
        ),
        ("certificates = [{ cert = \"a\", key = \"a\", name = \"b\" }]", &["did you mean `names`?"]),
    ];
    for (lines, words) in rows {
        let error = load(&tls(lines)).unwrap_err();
        for word in *words {
            assert!(error.contains(word), "{word:?} is missing for {lines}:\n{error}");
        }
    }
    let many = vec!["\"1\""; 10_001].join(",");
    assert!(load(&tls(&format!("revoked_serials = [{many}]"))).unwrap_err().contains("more than 10000"));
    let doubled = "certificates = [{ cert = \"a\", key = \"a\", names = [\"x.example\"] }, { cert = \"b\", key = \"b\", names = [\"X.example\"] }]";
    assert!(
        load(&tls(doubled))
            .unwrap()
            .warnings
            .iter()
            .any(|warning| warning.contains("x.example has a certificate already"))
    );
}
