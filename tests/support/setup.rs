//! What a test says of a configuration; the rest is the least that works.

use super::redis::Redis;
use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// One service before one Redis.
#[derive(Clone)]
pub struct Service {
    pub name: &'static str,
    /// Of the Redis, as the configuration writes it.
    pub address: String,
    /// Bytes of the password file; `None` says `auth = "none"`.
    pub password: Option<Vec<u8>>,
    /// Further entries of `upstream`, each behind a comma.
    pub upstream: &'static str,
    /// Further entries of the listener, likewise.
    pub listen: &'static str,
    /// Further lines of the service, its tables among them.
    pub lines: &'static str,
}

impl Service {
    /// A service called `name` before `redis`, with its password.
    pub fn before(name: &'static str, redis: &Redis) -> Self {
        Self {
            name,
            address: format!("unix:{}", redis.socket().display()),
            password: redis.password().map(<[u8]>::to_vec),
            upstream: "",
            listen: "",
            lines: "",
        }
    }
}

/// A configuration.
#[derive(Clone)]
pub struct Setup {
    pub services: Vec<Service>,
    /// `admission.allow`, a list.
    pub allow: &'static str,
    /// Whole tables `[[role]]`.
    pub roles: &'static str,
    /// Further keys of `[tls]`.
    pub tls: &'static str,
    /// Keys of `[limits]`.
    pub limits: &'static str,
    /// Keys of `[log]`.
    pub log: &'static str,
    /// Further keys of `[admin]`.
    pub admin: &'static str,
    /// Keys of `[reload]`. Files are not watched unless it says so: most tests change them and then ask for a reload.
    pub reload: &'static str,
    /// Whole tables.
    pub more: &'static str,
    /// Further outputs of the audit stream, each beginning with a comma.
    pub outputs: &'static str,
    /// Further keys of `[audit]`.
    pub audit: &'static str,
    /// Records go to standard output instead of a file.
    pub to_stdout: bool,
    /// The file of the records is on a full disk.
    pub disk_full: bool,
    /// So many KiB a file of it may have before the system refuses to write more, as on a disk that is full.
    pub file_kib: Option<u64>,
    /// Makes what it names besides, in its directory, before it is started.
    pub before: fn(&Path),
    /// Further variables of its environment.
    pub environment: Vec<(&'static str, String)>,
    /// Most open files of the process.
    pub files: Option<u32>,
    /// Where the services listen.
    pub host: String,
}

impl Setup {
    /// One service called `cache` before `redis`, and one role, for certificates that say `app`.
    pub fn before(redis: &Redis) -> Self {
        Self::of(Service::before("cache", redis))
    }

    /// This service, likewise.
    pub fn of(service: Service) -> Self {
        Self {
            services: vec![service],
            allow: "[\"127.0.0.0/8\"]",
            roles: "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]",
            tls: "",
            limits: "",
            log: "",
            admin: "",
            reload: "watch = \"off\"",
            more: "",
            outputs: "",
            audit: "",
            to_stdout: false,
            disk_full: false,
            file_kib: None,
            before: |_| {},
            environment: Vec::new(),
            files: None,
            host: "127.0.0.1".to_owned(),
        }
    }

    /// The same, changed.
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Its services listen at this address instead of 127.0.0.1.
    pub fn listen_on(&mut self, address: &str) {
        self.host = address.to_owned();
    }

    /// Writes it into a folder of certificates, and says where.
    pub(super) fn write(&self, dir: &Path) -> PathBuf {
        let mut text = String::new();
        let host = &self.host;
        for service in &self.services {
            let Service { name, address, password, upstream, listen, lines } = service;
            let auth = if upstream.split(',').any(|entry| entry.trim_start().starts_with("password_")) {
                // It says itself where the password is.
                String::new()
            } else {
                password.as_ref().map_or("auth = \"none\"".to_owned(), |password| {
                    write_secret(&dir.join(format!("{name}.password")), password);
                    format!(", password_file = \"{name}.password\"")
                })
            };
            let auth = auth.trim_start_matches(", ");
            let upstream = if auth.is_empty() { upstream.trim_start_matches(", ") } else { upstream };
            // A test that counts what reaches Redis wants nobody else to say anything there.
            let health = if upstream.contains("health") { "" } else { ", health = { interval = \"0s\" }" };
            write!(
                text,
                "[[service]]\nname = \"{name}\"\nlisten = [{{ address = \"{host}:0\"{listen} }}]\n\
                 upstream = {{ address = \"{address}\", {auth}{upstream}{health} }}\n{lines}\n"
            )
            .unwrap();
        }
        let Self { allow, roles, tls, limits, outputs, audit, log, admin, reload, more, .. } = self;
        let crl = match (tls.contains("crl = ["), dir.join("ca.crl").exists()) {
            (true, _) => "",
            (false, true) => "crl = [\"ca.crl\"]",
            (false, false) => "crl = []",
        };
        let output = if self.to_stdout { "{ stdout = {} }" } else { "{ file = { path = \"audit.jsonl\" } }" };
        write!(
            text,
            "[tls]\ncert = \"server.crt\"\nkey = \"server.key\"\nclient_ca = \"ca.crt\"\n{crl}\n{tls}\n\
             [admission]\nallow = {allow}\n{roles}\n[limits]\nworkers = 2\n{limits}\n\
             [audit]\noutput = [{output}{outputs}]\n{audit}\n[admin]\naddress = \"127.0.0.1:0\"\n{admin}\n[log]\n{log}\n[reload]\n{reload}\n{more}\n"
        )
        .unwrap();
        let path = dir.join("ravelin.toml");
        fs::write(&path, text).unwrap();
        path
    }
}

/// Writes `bytes` to a file that only its owner can read.
pub fn write_secret(path: &Path, bytes: impl AsRef<[u8]>) {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(bytes.as_ref()).unwrap();
}
