//! The proxies that pass bytes through, each as its manual sets it up: the same certificates, client certificates
//! required, TLS 1.3, one worker, Redis' Unix socket behind. stunnel reaches Redis through its port on loopback as well, as
//! it does where nobody has thought of the socket.

use super::{Target, installed};
use crate::process::{Process, Side, file_limit};
use crate::rig::{Certificates, Rig, free_port};
use std::fs;
use std::path::{Path, PathBuf};

const NGINX_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

pub fn stunnel_program() -> Result<PathBuf, String> {
    installed("stunnel4", "stunnel4").or_else(|_| installed("stunnel", "stunnel4"))
}

pub fn nginx_program() -> Result<PathBuf, String> {
    let program = installed("nginx", "nginx libnginx-mod-stream")?;
    if Path::new(NGINX_MODULE).is_file() {
        Ok(program)
    } else {
        Err(format!("{NGINX_MODULE} is missing (apt-get install libnginx-mod-stream)"))
    }
}

/// A peer whose clients send AUTH through it.
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
    let process = Process::start(Side::Server, program, &arguments, rig.path(&format!("{name}.log")));
    Target { name, port, tls: true, auth: true, shares: false, proxy: Some(process), audit: None }
}

pub fn stunnel(rig: &Rig, certificates: &Certificates, name: &'static str, redis: &str) -> Target {
    peer(
        rig,
        name,
        &stunnel_program().expect("looked for at the start"),
        |file| vec![file],
        |port| {
            format!(
                "foreground = yes\npid =\ndebug = err\n[redis]\naccept = 127.0.0.1:{port}\nconnect = {redis}\ncert = {}\n\
             key = {}\nCAfile = {}\nverifyChain = yes\nsslVersionMin = TLSv1.3\n",
                certificates.file("server.pem"),
                certificates.file("server.key"),
                certificates.file("ca.pem"),
            )
        },
    )
}

pub fn nginx(rig: &Rig, certificates: &Certificates) -> Target {
    // The worker of a master that runs as root would otherwise be a user who may not open Redis' socket.
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let log = rig.file("nginx-errors.log");
    peer(
        rig,
        "nginx",
        &nginx_program().expect("looked for at the start"),
        |file| vec!["-c".to_owned(), file, "-e".to_owned(), log.clone()],
        |port| {
            format!(
                "load_module {NGINX_MODULE};\n{user}daemon off;\nworker_processes 1;\npid {};\n\
             events {{ worker_connections {}; }}\nstream {{\n server {{\n  listen 127.0.0.1:{port} ssl backlog=4096;\n  \
             ssl_certificate {};\n  ssl_certificate_key {};\n  ssl_client_certificate {};\n  ssl_verify_client on;\n  \
             ssl_protocols TLSv1.3;\n  proxy_pass unix:{};\n  proxy_timeout 1h;\n }}\n}}\n",
                rig.file("nginx.pid"),
                file_limit(),
                certificates.file("server.pem"),
                certificates.file("server.key"),
                certificates.file("ca.pem"),
                rig.file("redis.sock"),
            )
        },
    )
}

pub fn haproxy(rig: &Rig, certificates: &Certificates) -> Target {
    // Two descriptors a connection, and it will not start if it cannot have them all.
    let most = file_limit().saturating_sub(200) / 2;
    peer(
        rig,
        "haproxy",
        &installed("haproxy", "haproxy").expect("looked for at the start"),
        |file| vec!["-db".to_owned(), "-f".to_owned(), file],
        |port| {
            format!(
                "global\n nbthread 1\n maxconn {most}\ndefaults\n mode tcp\n maxconn {most}\n timeout connect 5s\n \
             timeout client 1h\n timeout server 1h\nfrontend tls\n bind 127.0.0.1:{port} ssl crt {} ca-file {} \
             verify required ssl-min-ver TLSv1.3 backlog 4096\n default_backend redis\nbackend redis\n \
             server redis unix@{}\n",
                certificates.file("server-all.pem"),
                certificates.file("ca.pem"),
                rig.file("redis.sock"),
            )
        },
    )
}
