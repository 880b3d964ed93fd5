//! A Redis with TLS of its own.

use super::{
    process::PASSWORD,
    redis::{Redis, Release},
    setup::write_secret,
};
use certs_dev::{Issued, Pki};
use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
};

/// A PKI of Redis' own, in files.
pub struct Far {
    pub pki: Pki,
    pub issued: Issued,
    dir: tempfile::TempDir,
}

impl Far {
    pub fn new(names: &[&str]) -> Self {
        let pki = Pki::new().unwrap();
        let issued = pki.server(names).unwrap();
        let far = Self { pki, issued, dir: tempfile::tempdir().unwrap() };
        let proxy = far.pki.client("proxy").unwrap();
        for (name, content) in [
            ("far.crt", &far.issued.chain),
            ("far.key", &far.issued.key),
            ("far-ca.crt", &far.pki.ca.cert),
            ("own.crt", &proxy.chain),
            ("own.key", &proxy.key),
        ] {
            write_secret(&far.path(name), content);
        }
        far
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn shown(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub fn by_ca(&self, more: &str) -> String {
        format!(", tls = {{ ca = \"{}\"{more} }}", self.shown("far-ca.crt"))
    }

    pub fn own(&self) -> String {
        format!(", cert = \"{}\", key = \"{}\"", self.shown("own.crt"), self.shown("own.key"))
    }

    /// A Redis with a TLS port and a password, which asks clients for certificates or not.
    pub fn redis(&self, clients: bool) -> Option<(Redis, SocketAddr)> {
        if !Release::of_server().since(6, 0) {
            return None;
        }
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let lines = [
            "bind 127.0.0.1".to_owned(),
            format!("tls-port {}", free.port()),
            format!("tls-cert-file {}", self.shown("far.crt")),
            format!("tls-key-file {}", self.shown("far.key")),
            format!("tls-ca-cert-file {}", self.shown("far-ca.crt")),
            format!("tls-auth-clients {}", if clients { "yes" } else { "no" }),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        Some((Redis::with(&lines, Some(PASSWORD.as_bytes())), free))
    }
}
