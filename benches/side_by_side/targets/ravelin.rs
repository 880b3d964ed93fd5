//! Ravelin as it is used: the hardened preset, metrics on, AUTH injected, and the ways of auditing and of spreading over
//! workers that are compared.

use super::Target;
use crate::process::{Process, Side, file_limit};
use crate::rig::{CLIENT, Certificates, Rig, free_port};
use std::fs;
use std::path::Path;

/// What differs between them.
struct Variant {
    workers: usize,
    /// Keys of the table `audit`.
    audit: &'static str,
}

/// A checkpoint each second is ten times as many as the default's.
const CHAINED: &str = "checkpoint = { every = \"1s\" }";

fn variant(name: &str) -> Variant {
    let audit = |audit| Variant { workers: 1, audit };
    match name {
        // There is no Ravelin without an audit stream: of what was allowed it says nothing, of what was denied everything.
        "ravelin-off" => audit("events = \"denied\""),
        "ravelin" => audit(""),
        "ravelin-compact" => audit("shape = \"compact\""),
        "ravelin-chained" => audit(CHAINED),
        "ravelin-compact-chained" => audit("shape = \"compact\"\ncheckpoint = { every = \"1s\" }"),
        "ravelin-2-workers" => Variant { workers: 2, audit: "" },
        "ravelin-4-workers" => Variant { workers: 4, audit: "" },
        name => panic!("there is no target {name}"),
    }
}

pub fn start(rig: &Rig, certificates: &Certificates, name: &'static str) -> Target {
    let Variant { workers, audit } = variant(name);
    let (port, admin) = (free_port(), free_port());
    let stream = rig.audit_file(name);
    // Two descriptors a connection, and some of its own.
    let most = file_limit().saturating_sub(200) / 2;
    let config = format!(
        r#"
[[service]]
name = "bench"
listen = [{{ address = "127.0.0.1:{port}" }}]
upstream = {{ address = "unix:{}", password_file = "{}" }}

[tls]
cert = "{}"
key = "{}"
client_ca = "{}"
min_version = "1.3"

[admission]
allow = ["127.0.0.0/8"]

[policy]
deny = ["preset:hardened"]

[[role]]
name = "bench"
match = [{{ cn = "{CLIENT}" }}]

[limits]
workers = {workers}
max_connections = {most}
max_connections_per_address = 0
backlog = 4096
handshake_queue = {most}

[audit]
output = [{{ file = {{ path = "{}" }} }}]
{audit}

[admin]
address = "127.0.0.1:{admin}"
"#,
        rig.file("redis.sock"),
        rig.file("password"),
        certificates.file("server.pem"),
        certificates.file("server.key"),
        certificates.file("ca.pem"),
        stream.display(),
    );
    let file = rig.path(&format!("{name}.toml"));
    fs::write(&file, config).expect("a file in the temporary folder");
    let program = Path::new(env!("CARGO_BIN_EXE_ravelin"));
    let arguments = ["run", "-c", file.to_str().expect("a path that is text")];
    let side = if workers == 1 { Side::Server } else { Side::Servers };
    let process = Process::start(side, program, &arguments, rig.path(&format!("{name}.log")));
    Target { name, port, tls: true, auth: false, shares: false, proxy: Some(process), audit: Some(stream) }
}
