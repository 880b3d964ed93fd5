//! `ravelin certs`, judged by openssl and by the proxy's own reading of the files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test that fails here says so")]

use ravelin::tls::server::{Files, MinVersion, Tls};
use rustls::pki_types::UnixTime;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

fn certs(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ravelin")).arg("certs").arg("--dir").arg(dir).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The command must have refused, with exit code 3, and said this.
fn refused(output: &Output, said: &str) {
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(text(&output.stderr).contains(said), "{}", text(&output.stderr));
    assert!(output.stdout.is_empty());
}

fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).output().expect("openssl is needed by this test");
    assert!(output.status.success(), "openssl {arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_it_makes_is_accepted_by_openssl_and_by_the_proxy() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("pki");
    let made =
        certs(&dir, &["--server", "localhost,127.0.0.1,::1", "--client", "app", "--client", "ops", "--org", "Example"]);
    assert!(made.status.success(), "{made:?}");
    let made = text(&made.stdout);
    assert!(made.contains("client-app.key") && made.contains("0600") && made.contains("redis-cli --tls"), "{made}");
    assert_eq!(
        names(&dir),
        [
            "ca.crt",
            "ca.key",
            "client-app.crt",
            "client-app.key",
            "client-ops.crt",
            "client-ops.key",
            "server.crt",
            "server.key"
        ]
    );
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let ca = path("ca.crt");
    for (file, purpose) in
        [("server.crt", "sslserver"), ("client-app.crt", "sslclient"), ("client-ops.crt", "sslclient")]
    {
        openssl(&["verify", "-x509_strict", "-purpose", purpose, "-CAfile", &ca, &path(file)]);
        let shown = openssl(&["x509", "-in", &path(file), "-noout", "-text"]);
        for expected in [
            "Version: 3",
            "Subject Alternative Name",
            "Authority Key Identifier",
            "Subject Key Identifier",
            "O = Example",
        ] {
            assert!(shown.contains(expected), "{file} lacks {expected}:\n{shown}");
        }
    }
    openssl(&["verify", "-verify_hostname", "localhost", "-CAfile", &ca, &path("server.crt")]);
    openssl(&["verify", "-verify_ip", "127.0.0.1", "-CAfile", &ca, &path("server.crt")]);
    let files = Files {
        cert: dir.join("server.crt"),
        key: dir.join("server.key"),
        client_ca: dir.join("ca.crt"),
        crl: Vec::new(),
        min_version: MinVersion::Tls12,
        anonymous: false,
        ..Files::default()
    };
    let tls = Tls::load(&files, UnixTime::now()).unwrap();
    assert_eq!(tls.description().warnings, Vec::<String>::new());
}

#[test]
fn keys_are_readable_by_their_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("pki");
    assert!(certs(&dir, &["--server", "localhost", "--client", "app"]).status.success());
    for name in names(&dir) {
        let mode = fs::metadata(dir.join(&name)).unwrap().permissions().mode() & 0o777;
        if name.ends_with(".key") {
            assert_eq!(mode, 0o600, "{name}");
        }
    }
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o077, 0);
}

#[test]
fn nothing_is_overwritten_and_then_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert!(certs(dir, &["--server", "localhost", "--client", "app"]).status.success());
    let before = fs::read(dir.join("client-app.key")).unwrap();
    refused(&certs(dir, &["--client", "app", "--client", "new"]), "client-app.key");
    assert_eq!(fs::read(dir.join("client-app.key")).unwrap(), before);
    assert!(!dir.join("client-new.crt").exists());
    std::os::unix::fs::symlink("/nowhere/at/all", dir.join("client-link.key")).unwrap();
    refused(&certs(dir, &["--client", "link"]), "client-link.key");
}

#[test]
fn a_client_is_added_by_the_ca_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert!(certs(dir, &["--server", "localhost"]).status.success());
    let ca = fs::read(dir.join("ca.crt")).unwrap();
    let added = certs(dir, &["--client", "later"]);
    assert!(added.status.success(), "{added:?}");
    assert!(!text(&added.stdout).contains("ca.key"));
    assert_eq!(fs::read(dir.join("ca.crt")).unwrap(), ca);
    let (ca, later) = (dir.join("ca.crt"), dir.join("client-later.crt"));
    openssl(&["verify", "-purpose", "sslclient", "-CAfile", ca.to_str().unwrap(), later.to_str().unwrap()]);
}

#[test]
fn half_a_ca_or_another_ones_key_is_refused() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for dir in [&one, &two] {
        assert!(certs(dir.path(), &["--server", "localhost"]).status.success());
    }
    fs::copy(one.path().join("ca.key"), two.path().join("ca.key")).unwrap();
    refused(&certs(two.path(), &["--client", "app"]), "not the key of ca.crt");
    fs::remove_file(one.path().join("ca.key")).unwrap();
    refused(&certs(one.path(), &["--client", "app"]), "ca.key cannot be used as CA");
    assert!(!one.path().join("client-app.crt").exists());
}

#[test]
fn names_that_could_be_more_than_names_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let long = "x".repeat(65);
    for cn in ["../up", "a/b", "..", ".hidden", "new\nline", "", " ", "it's", long.as_str()] {
        refused(&certs(dir.path(), &["--client", cn]), "cannot be a client");
    }
    refused(&certs(dir.path(), &["--client", "a", "--client", "a"]), "named twice");
    for server in ["localhost:6379", "https://x", "a b", "-x", "", "x..y"] {
        refused(&certs(dir.path(), &[&format!("--server={server}")]), "cannot be a server name");
    }
    assert_eq!(names(dir.path()), Vec::<String>::new());
}

#[test]
fn asking_for_nothing_is_a_fault_of_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(certs(dir.path(), &[]).status.code(), Some(2));
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    refused(&certs(Path::new("/proc/ravelin"), &["--client", "app"]), "/proc/ravelin cannot be made");
}
