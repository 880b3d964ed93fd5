//! Users, passwords, helpers and bans, for the tests of clients' own credentials.

use super::{
    client::Client,
    process::{PASSWORD, PATIENCE, Proxy},
    setup::write_secret,
};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};
use tempfile::TempDir;

/// The passwords of these tests: no output may hold any part of it.
pub const RIGHT: &str = "s3cr3t-right";
pub const WRONG: &str = "s3cr3t-wrong";

/// For the fields of a setup.
pub fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// A folder with a file of users in it, each of whom has the right password: `legacy`, `default`, and lines of one's own, in
/// which `HASH` stands for its hash.
pub fn users(lines: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let hash: String = Sha256::digest(RIGHT).iter().map(|byte| format!("{byte:02x}")).collect();
    let text = format!("# users\nlegacy #HASH\nuser default on #HASH\n{lines}").replace("HASH", &hash);
    write_secret(&dir.path().join("users"), text);
    dir
}

/// The error that this command must get.
pub fn error(client: &mut Client, words: &[&str]) -> String {
    client.call(words).error().unwrap_or_else(|| panic!("{words:?} was let through")).to_owned()
}

/// A program of this test's own.
pub fn program(dir: &Path, body: &str) -> String {
    let path = dir.join("helper");
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

/// What the admin endpoint says to one request.
pub fn admin(proxy: &Proxy, method: &str, path: &str, host: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(proxy.admin).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(socket, "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, text.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
}

/// Nothing that anybody may read holds a password.
pub fn expect_no_secret(proxy: &Proxy) {
    let (_, metrics) = proxy.page("/metrics");
    let shown = proxy.audit_text() + &proxy.log() + &metrics;
    assert!(!shown.contains("s3cr3t") && !shown.contains(PASSWORD), "{shown}");
}
