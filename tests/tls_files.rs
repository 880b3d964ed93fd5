//! Keys and certificates as openssl writes them: every format and the recipes people copy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test that fails here says so")]

use certs_dev::{KeyKind, Leaf, Pki};
use ravelin::tls::server::{Files, MinVersion, Tls};
use rustls::pki_types::UnixTime;
use std::{
    path::{Path, PathBuf},
    process::Command,
};
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
