//! Keys and certificates as openssl writes them: every format and the recipes people copy.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails here says so"
)]

mod support;

use certs_dev::{KeyKind, Leaf, Pki};
use ravelin::tls::server::{Choice, Files, MinVersion, Tls};
use rustls::pki_types::UnixTime;
use std::{
    path::{Path, PathBuf},
    process::Command,
};
use support::openssl::{Status, response};
use tempfile::TempDir;

/// Runs openssl in the folder.
fn openssl(dir: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .current_dir(dir)
        .args(arguments.split(' '))
        .output()
        .expect("openssl is needed by this test");
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A folder with a CA, a server certificate and its key in PKCS#8.
fn folder(kind: KeyKind) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new().unwrap();
    let server = pki.issue(&Leaf::server(&["localhost"]).key(kind)).unwrap();
    for (name, content) in [("ca.crt", &pki.ca.cert), ("tls.crt", &server.chain), ("tls.key", &server.key)] {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

fn load(dir: &Path, cert: &str, key: &str) -> Result<Tls, String> {
    let files = Files {
        cert: dir.join(cert),
        key: dir.join(key),
        client_ca: dir.join("ca.crt"),
        crl: Vec::<PathBuf>::new(),
        min_version: MinVersion::Tls12,
        anonymous: false,
        ..Files::default()
    };
    Tls::load(&files, UnixTime::now()).map_err(|error| error.to_string())
}

#[test]
fn keys_in_pkcs8_pkcs1_and_sec1_are_read() {
    for (kind, begin, traditional) in [
        (KeyKind::Rsa, "BEGIN RSA PRIVATE KEY", "rsa -in tls.key -traditional -out old.key"),
        (KeyKind::P256, "BEGIN EC PRIVATE KEY", "ec -in tls.key -out old.key"),
        (KeyKind::P384, "BEGIN EC PRIVATE KEY", "ec -in tls.key -out old.key"),
    ] {
        let dir = folder(kind);
        openssl(dir.path(), traditional);
        let old = std::fs::read_to_string(dir.path().join("old.key")).unwrap();
        assert!(old.contains(begin), "{old}");
        assert!(load(dir.path(), "tls.crt", "tls.key").is_ok());
        assert!(load(dir.path(), "tls.crt", "old.key").is_ok());
        // `openssl ecparam -genkey` writes the curve's parameters before the key, and bundles put the certificate first.
        let cert = std::fs::read_to_string(dir.path().join("tls.crt")).unwrap();
        for both in [format!("{old}{cert}"), format!("{cert}{old}")] {
            std::fs::write(dir.path().join("both.pem"), both).unwrap();
            assert!(load(dir.path(), "both.pem", "both.pem").is_ok());
        }
    }
}

#[test]
fn a_key_made_by_ecparam_with_its_parameters_is_read() {
    let dir = folder(KeyKind::P256);
    openssl(dir.path(), "ecparam -name prime256v1 -genkey -out own.key");
    openssl(
        dir.path(),
        "req -x509 -new -key own.key -subj /CN=localhost -addext subjectAltName=DNS:localhost -days 30 -out own.crt",
    );
    let pem = std::fs::read_to_string(dir.path().join("own.key")).unwrap();
    assert!(pem.contains("BEGIN EC PARAMETERS"), "{pem}");
    assert!(load(dir.path(), "own.crt", "own.key").is_ok());
}

#[test]
fn an_encrypted_key_is_told_apart() {
    let dir = folder(KeyKind::P256);
    openssl(dir.path(), "pkcs8 -topk8 -in tls.key -passout pass:secret -out locked.key");
    let said = load(dir.path(), "tls.crt", "locked.key").unwrap_err();
    assert!(said.contains("locked.key") && said.contains("encrypted"), "{said}");
}

#[test]
fn the_usual_recipe_makes_version_1_and_is_told_so() {
    let dir = folder(KeyKind::P256);
    openssl(dir.path(), "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -subj /CN=ca -days 30 -out ca.crt");
    openssl(dir.path(), "req -newkey rsa:2048 -nodes -keyout v1.key -subj /CN=localhost -out v1.csr");
    openssl(dir.path(), "x509 -req -in v1.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out v1.crt");
    let said = load(dir.path(), "v1.crt", "v1.key").unwrap_err();
    assert!(said.contains("version 1") && said.contains("-extfile") && said.contains("ravelin certs"), "{said}");
}

/// What loading says of an OCSP response in `file`, at a time so many days from now.
fn stapled(dir: &Path, file: &str, days: u64) -> Result<Tls, String> {
    let files = Files {
        cert: dir.join("tls.crt"),
        key: dir.join("tls.key"),
        client_ca: dir.join("ca.crt"),
        choice: Choice { ocsp: Some(dir.join(file)), ..Choice::default() },
        ..Files::default()
    };
    let now = UnixTime::now().as_secs() + days * 86_400;
    Tls::load(&files, UnixTime::since_unix_epoch(std::time::Duration::from_secs(now)))
        .map_err(|error| error.to_string())
}

#[test]
fn an_ocsp_response_is_for_this_certificate_says_good_and_is_in_date_or_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let pki = Pki::new().unwrap();
    let (server, renewed) = (pki.server(&["localhost"]).unwrap(), pki.server(&["localhost"]).unwrap());
    for (name, content) in [("ca.crt", &pki.ca.cert), ("tls.crt", &server.chain), ("tls.key", &server.key)] {
        std::fs::write(dir.join(name), content).unwrap();
    }
    let make = |file: &str, issued, status, days| {
        std::fs::rename(response(dir, &pki.ca, issued, status, days), dir.join(file)).unwrap();
    };
    make("good", &server, Status::Good, Some(8));
    let found = stapled(dir, "good", 0).unwrap().description().clone();
    assert_eq!((found.warnings.len(), found.expired.len()), (0, 0), "{found:?}");
    assert!(found.ocsp.as_ref().is_some_and(|ocsp| ocsp.next_update.is_some()), "{found:?}");
    // In its last quarter a warning, past its end a failure of `check`; never one of `run`.
    let found = stapled(dir, "good", 7).unwrap().description().clone();
    assert!(found.warnings.iter().any(|said| said.contains("OCSP response") && said.contains("renew it")), "{found:?}");
    let found = stapled(dir, "good", 9).unwrap().description().clone();
    assert!(found.expired.iter().any(|said| said.contains("is no longer stapled")), "{found:?}");

    make("endless", &server, Status::Good, None);
    let found = stapled(dir, "endless", 0).unwrap().description().clone();
    assert!(found.warnings[0].contains("does not say how long it counts"), "{found:?}");

    make("renewed", &renewed, Status::Good, Some(8));
    make("revoked", &server, Status::Revoked, Some(8));
    make("unknown", &server, Status::Unknown, Some(8));
    let der = std::fs::read(dir.join("good")).unwrap();
    std::fs::write(dir.join("cut"), &der[..der.len() - 1]).unwrap();
    std::fs::write(dir.join("text"), "-----BEGIN OCSP RESPONSE-----").unwrap();
    std::fs::write(dir.join("later"), [0x30, 3, 0x0a, 1, 3]).unwrap();
    std::fs::write(dir.join("large"), vec![0x30; 40_000]).unwrap();
    let rows = [
        ("renewed", "does not speak of the certificate CN=localhost"),
        ("revoked", "says that the certificate is revoked"),
        ("unknown", "the responder does not know the certificate"),
        ("cut", "is no OCSP response that can be read"),
        ("text", "it must be DER"),
        ("later", "is an error of the responder: tryLater"),
        ("large", "is larger than"),
        ("none", "cannot be read"),
    ];
    for (file, said) in rows {
        let error = stapled(dir, file, 0).unwrap_err();
        assert!(error.contains(file) && error.contains(said), "{file}: {error}");
    }
    // Prefixes are survived, and none of them is a response.
    for end in (0..der.len()).step_by(7) {
        std::fs::write(dir.join("prefix"), &der[..end]).unwrap();
        assert!(stapled(dir, "prefix", 0).is_err(), "{end}");
    }
    // The same number of another CA is another certificate, told apart by the hash of its issuer's name.
    std::fs::rename(response(dir, &pki.other, &server, Status::Good, Some(8)), dir.join("foreign")).unwrap();
    assert!(stapled(dir, "foreign", 0).unwrap_err().contains("does not speak of"));
}

#[test]
fn a_response_that_neither_the_issuer_nor_its_delegate_has_signed_is_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let pki = Pki::new().unwrap();
    let server = pki.server(&["localhost"]).unwrap();
    for (name, content) in [
        ("ca.crt", &pki.ca.cert),
        ("ca.key", &pki.ca.key()),
        ("other.crt", &pki.other.cert),
        ("other.key", &pki.other.key()),
        ("tls.crt", &server.chain),
        ("tls.key", &server.key),
        ("signing.cnf", &"extendedKeyUsage=OCSPSigning\n".to_owned()),
        ("client.cnf", &"extendedKeyUsage=clientAuth\n".to_owned()),
    ] {
        std::fs::write(dir.join(name), content).unwrap();
    }
    // The table of what was issued, and a response by the issuer itself.
    std::fs::rename(response(dir, &pki.ca, &server, Status::Good, Some(8)), dir.join("issuer")).unwrap();
    openssl(
        dir,
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout signer.key -subj /CN=ocsp -out signer.csr",
    );
    let by_delegate = |name: &str, usage: &str, ca: &str| {
        openssl(
            dir,
            &format!(
                "x509 -req -in signer.csr -CA {ca}.crt -CAkey {ca}.key -CAcreateserial -days 9 -extfile {usage}.cnf -out signer.crt"
            ),
        );
        openssl(
            dir,
            &format!(
                "ocsp -index index.txt -CA ca.crt -issuer ca.crt -rsigner signer.crt -rkey signer.key -cert tls.crt \
                 -no_nonce -noverify -ndays 8 -respout {name}"
            ),
        );
    };
    by_delegate("delegate", "signing", "ca");
    by_delegate("client", "client", "ca");
    by_delegate("stranger", "signing", "other");
    // The issuer's own, made to count ten years longer.
    let mut longer = std::fs::read(dir.join("issuer")).unwrap();
    let next_update = longer.windows(2).rposition(|tag| tag == [0x18, 15]).unwrap() + 2;
    longer[next_update + 2] += 1;
    std::fs::write(dir.join("longer"), longer).unwrap();
    for (file, fine) in
        [("issuer", true), ("delegate", true), ("client", false), ("stranger", false), ("longer", false)]
    {
        let found = stapled(dir, file, 0).unwrap().description().clone();
        let said = found.warnings.iter().any(|warning| warning.contains("is not signed by the certificate's issuer"));
        assert_eq!(said, !fine, "{file}: {found:?}");
        assert!(found.ocsp.is_some(), "{file} is stapled all the same: it is for the client to judge");
    }
    // The delegate's time is over, though the response's is not: a warning from then on.
    let found = stapled(dir, "delegate", 10).map(|tls| tls.description().clone());
    assert!(found.unwrap().warnings.iter().any(|warning| warning.contains("is not signed")));
}
