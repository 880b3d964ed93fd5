//! The proxies that are compared, each as its manual sets it up: the same certificates, client certificates required,
//! TLS 1.3, one worker, Redis' Unix socket behind.

use crate::process::{Process, Side, find};
use crate::rig::{CLIENT, Rig, await_port, free_port};
use std::fs;
use std::path::{Path, PathBuf};

/// What the load generator connects to.
pub struct Target {
    pub name: &'static str,
    pub port: u16,
    pub tls: bool,
    /// Whether the client must send AUTH; Ravelin sends it in the client's place.
    pub auth: bool,
    /// None: Redis itself.
    pub proxy: Option<Process>,
    /// Where it writes its audit stream, if it has one.
    pub audit: Option<PathBuf>,
}

const ALL: [&str; 6] = ["direct", "redis-tls", "stunnel", "nginx", "haproxy", "ravelin"];

/// Starts those that are installed (and asked for, if any are); of the others tells why not.
pub fn start(rig: &Rig, wanted: &[String]) -> (Vec<Target>, Vec<(String, String)>) {
    let (mut targets, mut missing) = (Vec::new(), Vec::new());
    for name in wanted.iter().filter(|name| !ALL.contains(&name.as_str())) {
        missing.push((name.clone(), format!("there are {}", ALL.join(", "))));
    }
    for name in ALL.into_iter().filter(|name| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name)) {
        let started = match name {
            "direct" => Ok(Target { name, port: rig.port, tls: false, auth: true, proxy: None, audit: None }),
            "redis-tls" => Ok(Target { name, port: rig.tls_port, tls: true, auth: true, proxy: None, audit: None }),
            "stunnel" => stunnel(rig),
            "nginx" => nginx(rig),
            "haproxy" => haproxy(rig),
            _ => Ok(ravelin(rig)),
        };
        match started {
            Ok(target) => targets.push(target),
            Err(why) => missing.push((name.to_owned(), why)),
        }
    }
    (targets, missing)
}

fn installed(program: &str, package: &str) -> Result<PathBuf, String> {
    find(program).ok_or_else(|| format!("{program} is not installed (apt-get install {package})"))
}

/// A peer that passes bytes through, AUTH among them.
fn peer(
    rig: &Rig,
    name: &'static str,
    program: &Path,
    arguments: impl FnOnce(String) -> Vec<String>,
    config: impl FnOnce(u16) -> String,
) -> Target {
    let port = free_port();
    let file = rig.path(&format!("{name}.conf"));
    fs::write(&file, config(port)).expect("a file in the temporary folder");
    let arguments = arguments(file.display().to_string());
    let mut process = Process::start(Side::Server, program, &arguments, rig.path(&format!("{name}.log")));
    await_port(port, name, &mut process);
    Target { name, port, tls: true, auth: true, proxy: Some(process), audit: None }
}

fn stunnel(rig: &Rig) -> Result<Target, String> {
    let program = installed("stunnel4", "stunnel4").or_else(|_| installed("stunnel", "stunnel4"))?;
    Ok(peer(
        rig,
        "stunnel",
        &program,
        |file| vec![file],
        |port| {
            format!(
                "foreground = yes\npid =\ndebug = err\n[redis]\naccept = 127.0.0.1:{port}\nconnect = {}\ncert = {}\n\
             key = {}\nCAfile = {}\nverifyChain = yes\nsslVersionMin = TLSv1.3\n",
                rig.file("redis.sock"),
                rig.file("server.pem"),
                rig.file("server.key"),
                rig.file("ca.pem"),
            )
        },
    ))
}

fn nginx(rig: &Rig) -> Result<Target, String> {
    const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let program = installed("nginx", "nginx libnginx-mod-stream")?;
    if !Path::new(MODULE).is_file() {
        return Err(format!("{MODULE} is missing (apt-get install libnginx-mod-stream)"));
    }
    // The worker of a master that runs as root would otherwise be a user who may not open Redis' socket.
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let log = rig.file("nginx-errors.log");
    Ok(peer(
        rig,
        "nginx",
        &program,
        |file| vec!["-c".to_owned(), file, "-e".to_owned(), log.clone()],
        |port| {
            format!(
                "load_module {MODULE};\n{user}daemon off;\nworker_processes 1;\nworker_rlimit_nofile 20000;\npid {};\n\
             events {{ worker_connections 20000; }}\nstream {{\n server {{\n  listen 127.0.0.1:{port} ssl;\n  \
             ssl_certificate {};\n  ssl_certificate_key {};\n  ssl_client_certificate {};\n  ssl_verify_client on;\n  \
             ssl_protocols TLSv1.3;\n  proxy_pass unix:{};\n }}\n}}\n",
                rig.file("nginx.pid"),
                rig.file("server.pem"),
                rig.file("server.key"),
                rig.file("ca.pem"),
                rig.file("redis.sock"),
            )
        },
    ))
}

fn haproxy(rig: &Rig) -> Result<Target, String> {
    let program = installed("haproxy", "haproxy")?;
    Ok(peer(
        rig,
        "haproxy",
        &program,
        |file| vec!["-db".to_owned(), "-f".to_owned(), file],
        |port| {
            format!(
                "global\n nbthread 1\n maxconn 8000\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n \
             timeout server 1h\nfrontend tls\n bind 127.0.0.1:{port} ssl crt {} ca-file {} verify required \
             ssl-min-ver TLSv1.3\n default_backend redis\nbackend redis\n server redis unix@{}\n",
                rig.file("server-all.pem"),
                rig.file("ca.pem"),
                rig.file("redis.sock"),
            )
        },
    ))
}

/// Ravelin as it is used: the hardened preset, every command audited to a file, metrics on.
fn ravelin(rig: &Rig) -> Target {
    let (port, admin) = (free_port(), free_port());
    let audit = rig.path("audit.jsonl");
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
workers = 1
max_connections_per_address = 0

[audit]
output = [{{ file = {{ path = "{}" }} }}]

[admin]
address = "127.0.0.1:{admin}"
"#,
        rig.file("redis.sock"),
        rig.file("password"),
        rig.file("server.pem"),
        rig.file("server.key"),
        rig.file("ca.pem"),
        audit.display(),
    );
    let file = rig.path("ravelin.toml");
    fs::write(&file, config).expect("a file in the temporary folder");
    let program = Path::new(env!("CARGO_BIN_EXE_ravelin"));
    let arguments = ["run", "-c", file.to_str().expect("a path that is text")];
    let mut process = Process::start(Side::Server, program, &arguments, rig.path("ravelin.log"));
    await_port(port, "ravelin", &mut process);
    Target { name: "ravelin", port, tls: true, auth: false, proxy: Some(process), audit: Some(audit) }
}
