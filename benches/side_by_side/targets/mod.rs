//! What is compared: Redis without anything, with its own TLS, and behind each proxy that is installed.

mod envoy;
mod peers;
mod ravelin;

use crate::process::{Process, find};
use crate::rig::{Certificates, Rig, await_port};
use crate::scenario::Field;
use std::path::PathBuf;

pub use envoy::find as find_envoy;

/// What a load connects to.
pub struct Target {
    pub name: &'static str,
    pub port: u16,
    pub tls: bool,
    /// Whether the client must send AUTH; Ravelin and Envoy send it in the client's place.
    pub auth: bool,
    /// Whether all clients share few connections to Redis, so that counting those says nothing.
    pub shares: bool,
    /// None: Redis itself.
    pub proxy: Option<Process>,
    /// Where it writes its audit stream, if it has one.
    pub audit: Option<PathBuf>,
}

impl Target {
    /// The process whose memory and system calls are this target's.
    pub fn pid(&self, rig: &Rig) -> u32 {
        self.proxy.as_ref().unwrap_or(&rig.redis).pid()
    }

    /// What the proxy printed.
    pub fn log(&self) -> String {
        self.proxy.as_ref().map(Process::log).unwrap_or_default()
    }
}

/// Everybody, in the order of the tables.
pub const PEERS: [&str; 9] =
    ["direct", "redis-tls", "stunnel-tcp", "stunnel", "nginx", "haproxy", "envoy", "ravelin-off", "ravelin"];
/// Ravelin's ways of auditing, each to a file: nothing but denials, everything, compact, and both with a chain.
const AUDIT: [&str; 5] = ["ravelin-off", "ravelin", "ravelin-compact", "ravelin-chained", "ravelin-compact-chained"];
const WORKERS: [&str; 3] = ["ravelin", "ravelin-2-workers", "ravelin-4-workers"];
const FEW: [&str; 6] = ["direct", "redis-tls", "stunnel", "nginx", "envoy", "ravelin"];
const GROWTH: [&str; 1] = ["ravelin"];

/// Every name that can be asked for.
pub fn names() -> Vec<&'static str> {
    PEERS.into_iter().chain(AUDIT.into_iter().skip(2)).chain(WORKERS.into_iter().skip(1)).collect()
}

/// The targets of a scenario: its field's, or of all those that were asked for.
pub fn of_field(field: Field, wanted: &[String]) -> Vec<&'static str> {
    let usual: &[&'static str] = match field {
        Field::Peers => &PEERS,
        Field::Few => &FEW,
        Field::Audit => &AUDIT,
        Field::Workers => &WORKERS,
        Field::Growth => &GROWTH,
    };
    if wanted.is_empty() {
        return usual.to_vec();
    }
    let asked = |name: &&str| wanted.iter().any(|wanted| wanted == name);
    // In a comparison of Ravelin's own ways nobody else takes part, even if asked for.
    if matches!(field, Field::Peers | Field::Few | Field::Growth) {
        names().into_iter().filter(asked).collect()
    } else {
        usual.iter().copied().filter(asked).collect()
    }
}

/// What is not installed, and how to get it; asked once, before anything is started.
pub fn missing(envoy: Option<&PathBuf>) -> Vec<(&'static str, String)> {
    let mut missing = Vec::new();
    for (name, found) in [
        ("stunnel", peers::stunnel_program().map(drop)),
        ("stunnel-tcp", peers::stunnel_program().map(drop)),
        ("nginx", peers::nginx_program().map(drop)),
        ("haproxy", installed("haproxy", "haproxy").map(drop)),
        ("envoy", envoy.map(drop).ok_or_else(|| envoy::HOW.to_owned())),
    ] {
        if let Err(why) = found {
            missing.push((name, why));
        }
    }
    missing
}

fn installed(program: &str, package: &str) -> Result<PathBuf, String> {
    find(program).ok_or_else(|| format!("{program} is not installed (apt-get install {package})"))
}

/// Targets that are running: ended when dropped.
pub struct Fleet(pub Vec<Target>);

impl Fleet {
    /// Starts targets and waits until each accepts connections.
    pub fn start(rig: &Rig, names: &[&'static str], rsa: bool, envoy: Option<&PathBuf>) -> Self {
        let certificates = rig.certificates(rsa);
        let start = |name: &&'static str| {
            let mut target = start(rig, certificates, name, envoy);
            let port = target.port;
            if let Some(proxy) = &mut target.proxy {
                await_port(port, name, proxy);
            }
            target
        };
        Self(names.iter().map(start).collect())
    }
}

/// Starts one target and does not wait for it.
///
/// # Panics
/// If there is none of this name, or it is not installed: see [`missing`].
pub fn start(rig: &Rig, certificates: &Certificates, name: &'static str, envoy: Option<&PathBuf>) -> Target {
    let redis = |port, tls| Target { name, port, tls, auth: true, shares: false, proxy: None, audit: None };
    match name {
        "direct" => redis(rig.port, false),
        "redis-tls" => redis(rig.tls_port, true),
        "stunnel" => peers::stunnel(rig, certificates, name, &rig.file("redis.sock")),
        "stunnel-tcp" => peers::stunnel(rig, certificates, name, &format!("127.0.0.1:{}", rig.port)),
        "nginx" => peers::nginx(rig, certificates),
        "haproxy" => peers::haproxy(rig, certificates),
        "envoy" => envoy::start(rig, certificates, envoy.expect("looked for at the start")),
        name => ravelin::start(rig, certificates, name),
    }
}
