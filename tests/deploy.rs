//! The configuration files in `deploy/` and in the README are ones that `ravelin run` could start with.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

use certs_dev::Pki;
use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

/// Folders that the files name, which lie in a folder of the test's own while it runs.
const FOLDERS: [&str; 6] = [
    "/run/credentials/ravelin.service",
    "/run/secrets/ravelin",
    "/run/secrets/redis",
    "/etc/ravelin/tls",
    "/etc/ravelin",
    "/var/log/ravelin",
];

/// Runs `ravelin check` on `text` as it would be where it is to be installed: certificates and a password in place.
fn assert_sound(name: &str, text: &str) {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new().unwrap();
    let server = pki.server(&["localhost", "127.0.0.1"]).unwrap();
    let mut text = text.to_owned();
    for (at, folder) in FOLDERS.iter().enumerate() {
        let own = dir.path().join(at.to_string());
        fs::create_dir(&own).unwrap();
        for (file, content) in [
            ("tls.crt", &server.chain),
            ("tls.key", &server.key),
            ("ca.crt", &pki.ca.cert),
            ("redis-password", &"correct horse\n".to_owned()),
        ] {
            let path = own.join(file);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
        }
        text = text.replace(&format!("\"{folder}/"), &format!("\"{}/", own.display()));
    }
    // Where Debian's redis-server is installed there is this user; the tests need only its program.
    text = text.replace("socket_owner = \"redis\"", "socket_owner = \"root\"");
    let file = dir.path().join("ravelin.toml");
    fs::write(&file, &text).unwrap();
    let checked = Command::new(env!("CARGO_BIN_EXE_ravelin"))
        .args(["check", "--offline", "-c"])
        .arg(&file)
        .env_clear()
        .output()
        .unwrap();
    assert!(
        checked.status.success(),
        "{name}: {}\n{}{}",
        checked.status,
        String::from_utf8_lossy(&checked.stdout),
        String::from_utf8_lossy(&checked.stderr)
    );
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// A block scalar of a YAML file: the lines under `key: |` that are indented more than it.
fn block(yaml: &str, key: &str) -> String {
    let mut lines = yaml.lines().skip_while(|line| line.trim() != format!("{key}: |"));
    let head = lines.next().unwrap_or_else(|| panic!("no {key}"));
    let indent = head.len() - head.trim_start().len();
    let inside = lines.take_while(|line| line.trim().is_empty() || line.len() - line.trim_start().len() > indent);
    inside.map(|line| line.trim_start().to_owned() + "\n").collect()
}

#[test]
fn the_example_is_a_configuration_to_start_with() {
    assert_sound("ravelin.example.toml", &read("deploy/ravelin.example.toml"));
}

#[test]
fn what_the_example_leaves_out_are_keys_and_values_too() {
    let text = read("deploy/ravelin.example.toml");
    let list = text.lines().map(|line| match line.strip_prefix("# ") {
        // A commented line that assigns is a default; any other is a sentence. Files of its own it has none, and both
        // roles are for the service already.
        Some(rest) if rest.contains(" = ") && !rest.starts_with("crl") => rest,
        _ => line,
    });
    let text: String = list.map(|line| line.to_owned() + "\n").collect();
    assert!(text.contains("\nhandshake_timeout = \"5s\""), "{text}");
    assert_sound("ravelin.example.toml with its defaults", &text);
}

#[test]
fn the_pods_configuration_is_one_to_start_with() {
    let pod = block(&read("deploy/kubernetes/pod.yaml"), "ravelin.toml");
    assert!(pod.contains("[[service]]") && pod.contains("[log]") && !pod.contains("unixsocketperm"), "{pod}");
    assert_sound("pod.yaml", &pod);
}

#[test]
fn the_configurations_in_the_readme_are_ones_to_start_with() {
    let readme = read("README.md");
    let blocks: Vec<&str> =
        readme.split("\n```toml\n").skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        assert_sound("README.md", block);
    }
}
