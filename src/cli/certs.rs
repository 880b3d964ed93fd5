//! `ravelin certs`: a CA, a server and clients, in place of the openssl recipes people copy from guides (which make X.509
//! version 1, and keys that everybody can read).
//!
//! Nothing is ever overwritten: a file that is there and would have to be made is an error, and then nothing is made at all.
//! The one thing that is used again is a CA, to add a server or a client to it.

use certs_dev::{Authority, Issued, KeyKind, Leaf};
use rustls::pki_types::UnixTime;
use std::{
    fs::{DirBuilder, OpenOptions},
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{complain, exit};
use crate::tls::pem;

/// Days that a new CA is good for: longer than anything it will issue.
const CA_DAYS: i64 = 3650;

/// Longest common name (X.520, `ub-common-name`).
const CN_CHARS_MAX: usize = 64;

/// Arguments of `ravelin certs`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Files: ca.crt, ca.key, server.crt, server.key, client-CN.crt, client-CN.key. Keys are created with mode 0600 and \
                        never overwritten; a CA that is already in DIR is used again. For development and small private setups: \
                        whoever reads ca.key can make clients."
)]
pub struct Args {
    /// Folder to put them in; made if it is missing.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// Names and addresses by which clients reach the proxy, separated by commas.
    #[arg(long, value_name = "NAME,IP", value_delimiter = ',', required_unless_present = "client")]
    server: Vec<String>,

    /// Common name of a client; may be given more than once.
    #[arg(long, value_name = "CN")]
    client: Vec<String>,

    /// Days that server and client certificates are good for.
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..))]
    days: u16,

    /// Organisation (O) to write into the certificates.
    #[arg(long, value_name = "NAME")]
    org: Option<String>,
}

/// Makes what is asked for.
#[must_use]
pub fn main(args: Args) -> ExitCode {
    match make(&args) {
        Ok(report) => {
            // Standard output gone is no reason to call what was made not made.
            let _ = io::stdout().lock().write_all(report.as_bytes());
            ExitCode::SUCCESS
        }
        Err(trouble) => {
            complain(&format_args!("ravelin certs: {trouble}"));
            ExitCode::from(exit::CONFIG)
        }
    }
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{} cannot be {what}: {error}; nothing was made", path.display())]
    File { path: PathBuf, what: &'static str, error: io::Error },
    #[error("{name:?} cannot be a {what}: {why}")]
    Name { name: String, what: &'static str, why: &'static str },
    #[error("already there: {}; nothing was made. Nothing is ever overwritten: move it away, or name another --dir", list(.0))]
    There(Vec<PathBuf>),
    #[error("{} cannot be used as CA: {why}; nothing was made. Name another --dir for a new one", path.display())]
    Authority { path: PathBuf, why: String },
    #[error("{0}; nothing was made")]
    Mint(#[from] certs_dev::Error),
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// A file to be written.
struct Target {
    path: PathBuf,
    content: String,
    secret: bool,
    what: String,
}

impl Target {
    fn pair(dir: &Path, stem: &str, issued: Issued, what: &str) -> [Self; 2] {
        [
            Self { path: dir.join(format!("{stem}.crt")), content: issued.chain, secret: false, what: what.to_owned() },
            Self {
                path: dir.join(format!("{stem}.key")),
                content: issued.key,
                secret: true,
                what: "its key".to_owned(),
            },
        ]
    }
}

fn make(args: &Args) -> Result<String, Trouble> {
    let dir = &args.dir;
    check_names(args)?;
    let (ca_cert, ca_key) = (dir.join("ca.crt"), dir.join("ca.key"));
    let stems = (!args.server.is_empty()).then(|| "server".to_owned());
    let stems: Vec<String> = stems.into_iter().chain(args.client.iter().map(|cn| format!("client-{cn}"))).collect();
    let there: Vec<PathBuf> = stems
        .iter()
        .flat_map(|stem| ["crt", "key"].map(|kind| dir.join(format!("{stem}.{kind}"))))
        // A dangling link is something too, and opening it would write elsewhere.
        .filter(|path| path.symlink_metadata().is_ok())
        .collect();
    if !there.is_empty() {
        return Err(Trouble::There(there));
    }

    let mut targets = Vec::new();
    let mut days = i64::from(args.days);
    let authority = if exists(&ca_cert) || exists(&ca_key) {
        let (authority, days_left) = load(&ca_cert, &ca_key)?;
        // What outlives its CA is refused with it; a shorter life says so where it is looked for.
        days = days.min(days_left);
        authority
    } else {
        let authority = Authority::root("Ravelin CA", args.org.as_deref(), CA_DAYS.max(days), KeyKind::P256)?;
        targets.push(Target {
            path: ca_cert.clone(),
            content: authority.cert.clone(),
            secret: false,
            what: format!("CA, for {} days: clients and the proxy trust what it issues", CA_DAYS.max(days)),
        });
        targets.push(Target {
            path: ca_key,
            content: authority.key(),
            secret: true,
            what: "its key: keep it away from the proxy, whoever has it can make clients".to_owned(),
        });
        authority
    };
    let dressed = |leaf: Leaf| args.org.iter().fold(leaf.valid_days(0, days), |leaf, org| leaf.o(org));
    if !args.server.is_empty() {
        let names: Vec<&str> = args.server.iter().map(String::as_str).collect();
        let issued = authority.issue(&dressed(Leaf::server(&names)))?;
        let what = format!("server {}, for {days} days", args.server.join(", "));
        targets.extend(Target::pair(dir, "server", issued, &what));
    }
    for cn in &args.client {
        // The name stands in an alternative name too, since a certificate without any is one that newer tools pass over.
        let issued = authority.issue(&dressed(Leaf::client(cn).uri(&format!("urn:ravelin:client:{}", urn(cn)))))?;
        targets.extend(Target::pair(dir, &format!("client-{cn}"), issued, &format!("client {cn}, for {days} days")));
    }
    write_all(dir, &targets)?;
    Ok(report(args, &targets))
}

/// Percent-encodes what may not stand in a URN as it is (RFC 8141, 2).
fn urn(cn: &str) -> String {
    cn.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Names become file names and lines of records: nothing in them may be more than a name.
fn check_names(args: &Args) -> Result<(), Trouble> {
    let bad = |name: &str, what, why| Err(Trouble::Name { name: name.to_owned(), what, why });
    for (n, cn) in args.client.iter().enumerate() {
        let what = "client";
        if cn.trim().is_empty() {
            return bad(cn, what, "it is empty");
        }
        if cn.chars().count() > CN_CHARS_MAX {
            return bad(cn, what, "a common name has at most 64 characters");
        }
        if cn.contains(['/', '\\', '\'', '"']) || cn.starts_with('.') || cn.chars().any(char::is_control) {
            return bad(
                cn,
                what,
                "the name becomes a file name: no slash, quote or control character, no dot at its beginning",
            );
        }
        if args.client.iter().take(n).any(|earlier| earlier == cn) {
            return bad(cn, what, "it is named twice");
        }
    }
    for name in &args.server {
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        let rest = name.strip_prefix("*.").unwrap_or(name);
        if name.parse::<IpAddr>().is_err() && !(rest.len() <= 253 && rest.split('.').all(label)) {
            return bad(name, "server name", "it is neither a host name nor an IP address (no port, no scheme)");
        }
    }
    Ok(())
}

/// The CA that is already there, and how many days it has left.
fn load(cert: &Path, key: &Path) -> Result<(Authority, i64), Trouble> {
    let unusable = |path: &Path, why: String| Trouble::Authority { path: path.to_owned(), why };
    let read = |path: &Path| pem::read(path).map_err(|flaw| unusable(path, flaw.to_string()));
    let (cert_pem, key_pem) = (read(cert)?, read(key)?);
    let text = |path: &Path, bytes| std::str::from_utf8(bytes).map_err(|_| unusable(path, "it is not PEM".to_owned()));
    let authority = Authority::load(text(cert, &cert_pem)?, text(key, &key_pem)?)
        .map_err(|error| unusable(cert, format!("certificate or key cannot be read ({error})")))?;
    let found = pem::certificates(&cert_pem).map_err(|flaw| unusable(cert, flaw.to_string()))?;
    let [der] = found.as_slice() else {
        return Err(unusable(cert, "it holds more than one certificate".to_owned()));
    };
    let (_, parsed) = X509Certificate::from_der(der).map_err(|_| unusable(cert, "it cannot be read".to_owned()))?;
    if !parsed.basic_constraints().ok().flatten().is_some_and(|basic| basic.value.ca) {
        return Err(unusable(cert, "it is not a CA certificate".to_owned()));
    }
    if parsed.public_key().subject_public_key.data.as_ref() != authority.public_key() {
        return Err(unusable(key, "it is not the key of ca.crt".to_owned()));
    }
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
    let days_left = parsed.validity().not_after.timestamp().saturating_sub(now).div_euclid(86_400);
    if days_left < 1 {
        return Err(unusable(cert, "it has expired, or does today".to_owned()));
    }
    Ok((authority, days_left))
}

/// All files or none: what was written before a failure is taken back.
fn write_all(dir: &Path, targets: &[Target]) -> Result<(), Trouble> {
    let failed = |path: &Path, what, error| Trouble::File { path: path.to_owned(), what, error };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| failed(dir, "made", error))?;
    for (n, target) in targets.iter().enumerate() {
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(if target.secret { 0o600 } else { 0o644 })
            .open(&target.path)
            .and_then(|mut file| {
                file.write_all(target.content.as_bytes()).and_then(|()| file.sync_all()).inspect_err(|_| {
                    let _ = std::fs::remove_file(&target.path);
                })
            });
        if let Err(error) = written {
            for earlier in targets.iter().take(n) {
                let _ = std::fs::remove_file(&earlier.path);
            }
            return Err(failed(&target.path, "written", error));
        }
    }
    Ok(())
}

fn report(args: &Args, targets: &[Target]) -> String {
    let dir = &args.dir;
    let width = targets.iter().map(|target| target.path.as_os_str().len()).max().unwrap_or_default();
    let mut out = String::new();
    for target in targets {
        let mode = if target.secret { "0600" } else { "0644" };
        out.push_str(&format!("{:width$}  {mode}  {}\n", target.path.display().to_string(), target.what));
    }
    out.push_str("\nNext:\n");
    if !args.server.is_empty() {
        out.push_str(&format!(
            "  [tls]\n  cert = \"{0}/server.crt\"\n  key = \"{0}/server.key\"\n  client_ca = \"{0}/ca.crt\"\n",
            dir.display()
        ));
    }
    for cn in &args.client {
        out.push_str(&format!(
            "  redis-cli --tls --cacert {0}/ca.crt --cert '{0}/client-{cn}.crt' --key '{0}/client-{cn}.key' -h HOST -p PORT\n",
            dir.display()
        ));
    }
    out
}
