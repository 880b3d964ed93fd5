//! `ravelin client`: the near end of one tunnel, said in flags instead of a file.

use super::run;
use crate::config::{Override, Source};
use clap::Args;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// One tunnel. A `[[tunnel]]` of a configuration file says the same, and more (`deploy/docs/tunnel.md`).
#[derive(Debug, Args)]
pub(super) struct ClientArgs {
    /// Where to listen, in plain text: a loopback address with a port, or unix:PATH.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:6379")]
    listen: String,
    /// Who may connect to a Unix socket: its permission bits, octal. Its owner alone unless this is said.
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
    /// The group it belongs to, by name or number.
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// The other end: a Ravelin, a stunnel, or a Redis with TLS.
    #[arg(long, value_name = "HOST:PORT")]
    connect: String,
    /// The CAs, PEM, that may have issued the other end's certificate.
    #[arg(long, value_name = "FILE", conflicts_with = "system_roots")]
    ca: Option<PathBuf>,
    /// The CAs that the system trusts may have.
    #[arg(long)]
    system_roots: bool,
    /// A certificate the other end may show, by its SHA-256 or its key's; may be repeated.
    #[arg(long, value_name = "SHA256", required_unless_present_any = ["ca", "system_roots"])]
    pin: Vec<String>,
    /// The name in its certificate, where that is not the one in --connect.
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// The certificate that is shown to it, PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

impl ClientArgs {
    /// An empty file with one tunnel put over it. Denials are recorded, on standard output.
    fn source(&self) -> Source {
        let mut tls = Vec::new();
        for (key, path) in [("ca", &self.ca), ("cert", &self.cert), ("key", &self.key)] {
            tls.extend(path.as_deref().map(|path| format!("{key} = {}", quoted_path("", path))));
        }
        if self.system_roots {
            tls.push("system_roots = true".to_owned());
        }
        if !self.pin.is_empty() {
            tls.push(format!("pin = [{}]", self.pin.iter().map(|pin| quoted(pin)).collect::<Vec<_>>().join(", ")));
        }
        tls.extend(self.server_name.as_deref().map(|name| format!("server_name = {}", quoted(name))));
        let mut door = match self.listen.strip_prefix("unix:") {
            Some(path) => quoted_path("unix:", Path::new(path)),
            None => quoted(&self.listen),
        };
        for (key, said) in [("mode", &self.mode), ("group", &self.group)] {
            // A group's number is one that is written as text too.
            let number = said.as_deref().filter(|said| key == "group" && said.parse::<u32>().is_ok());
            let value = said.as_deref().map(|said| number.map_or_else(|| quoted(said), str::to_owned));
            door.extend(value.map(|value| format!(", {key} = {value}")));
        }
        let tunnel = format!(
            "[{{ name = \"client\", listen = {door}, connect = {}, tls = {{ {} }} }}]",
            quoted(&self.connect),
            tls.join(", ")
        );
        let mut source = Source::file("/dev/null");
        source.overrides.push(Override::flag("the flags", "tunnel", &tunnel));
        source.overrides.push(Override::flag("the flags", "audit.events", "denied"));
        source
    }
}

/// As a string of TOML.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// From the folder the command was given in, for there is no file for paths to be relative to.
fn quoted_path(kind: &str, path: &Path) -> String {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    quoted(&format!("{kind}{}", whole.to_string_lossy()))
}

/// As `run` with that configuration.
pub(super) fn main(arguments: &ClientArgs) -> ExitCode {
    run::main(&arguments.source())
}
