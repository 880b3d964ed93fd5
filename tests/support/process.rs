//! The real program in front of a real Redis, with a PKI of its own, ended by its process id when dropped.

#![allow(clippy::disallowed_methods, reason = "patience is measured, not decided by")]

use super::{redis::Redis, wire::Wire};
use certs_dev::{Issued, Pki};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Read},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// No test waits longer for anything; one that has to has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// The password in front of which the proxy stands: nothing a client, a log or a record may ever show.
pub const PASSWORD: &str = "correct horse \"battery\" staple";

/// A client's connection.
pub type Client = Wire<StreamOwned<ClientConnection, TcpStream>>;

/// What a test says of the configuration; the rest is the least that works.
#[derive(Clone)]
pub struct Setup {
    pub allow: &'static str,
    /// Keys of `[limits]`.
    pub limits: String,
    /// Keys of the role.
    pub role: String,
    pub admin: bool,
    /// Whole tables.
    pub more: String,
    /// Most open files of the process.
    pub files: Option<u32>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            allow: "127.0.0.0/8",
            limits: String::new(),
            role: String::new(),
            admin: false,
            more: String::new(),
            files: None,
        }
    }
}

/// A running `ravelin run`.
pub struct Proxy {
    child: Child,
    pub address: SocketAddr,
    pub pki: Pki,
    socket: PathBuf,
    setup: Setup,
    // Last: removed after the process is gone.
    dir: TempDir,
}

impl Proxy {
    /// In front of `redis`, for clients whose certificate says `app`.
    pub fn start(redis: &Redis) -> Self {
        Self::with(redis, Setup::default())
    }

    /// The same with a setup of one's own.
    ///
    /// # Panics
    /// If it does not say that it is ready; the message holds its log.
    pub fn with(redis: &Redis, setup: Setup) -> Self {
        let dir = tempfile::Builder::new().prefix("ravelin-").tempdir().unwrap();
        let pki = Pki::new().unwrap();
        let at = dir.path();
        let server = pki.server(&["localhost", "127.0.0.1"]).unwrap();
        fs::write(at.join("server.crt"), &server.chain).unwrap();
        fs::write(at.join("server.key"), &server.key).unwrap();
        fs::write(at.join("ca.crt"), &pki.ca.cert).unwrap();
        fs::write(at.join("password"), PASSWORD).unwrap();
        for secret in ["password", "server.key"] {
            fs::set_permissions(at.join(secret), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let notify = at.join("notify");
        let manager = UnixDatagram::bind(&notify).unwrap();
        manager.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut proxy = Self {
            child: Command::new("true").spawn().unwrap(),
            address: ([127, 0, 0, 1], 0).into(),
            pki,
            socket: redis.socket().to_path_buf(),
            setup: setup.clone(),
            dir,
        };
        proxy.child.wait().unwrap();
        proxy.configure(&setup);
        let log = File::create(proxy.path("log")).unwrap();
        let mut command = Command::new("sh");
        let ulimit = setup.files.map_or_else(String::new, |files| format!("ulimit -n {files}; "));
        command.arg("-c").arg(format!("{ulimit}exec \"$0\" run --config \"$1\""));
        command.arg(env!("CARGO_BIN_EXE_ravelin")).arg(proxy.path("ravelin.toml"));
        proxy.child = command
            .env("NOTIFY_SOCKET", &notify)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let start = Instant::now();
        let mut message = [0; 64];
        while manager.recv(&mut message).is_err() {
            if let Some(status) = proxy.child.try_wait().unwrap() {
                panic!("ravelin ended at once ({status}); its log:\n{}", proxy.log());
            }
            assert!(start.elapsed() < PATIENCE, "ravelin is not ready; its log:\n{}", proxy.log());
        }
        let log = proxy.log();
        let listening = log.lines().find_map(|line| line.split("listening on ").nth(1));
        let address = listening.and_then(|rest| rest.split(' ').next());
        proxy.address = address.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no address in\n{log}"));
        proxy
    }

    /// Writes the configuration; [`Proxy::reload`] puts it in force.
    pub fn configure(&self, setup: &Setup) {
        let at = self.dir.path().display();
        let Setup { allow, limits, role, more, .. } = setup;
        let mut text = format!(
            r#"
[[service]]
name = "cache"
listen = [{{ address = "127.0.0.1:0" }}]
upstream = {{ address = "unix:{}", username = "default", password_file = "{at}/password" }}
[tls]
cert = "{at}/server.crt"
key = "{at}/server.key"
client_ca = "{at}/ca.crt"
crl = [{crl}]
[admission]
allow = ["{allow}"]
[[role]]
name = "app"
match = [{{ cn = "app" }}]
{role}
[limits]
workers = 2
{limits}
[audit]
output = [{{ file = {{ path = "{at}/audit.jsonl" }} }}]
{more}
"#,
            self.socket.display(),
            crl = if self.path("ca.crl").exists() { format!("\"{at}/ca.crl\"") } else { String::new() },
        );
        if setup.admin {
            writeln!(text, "[admin]\naddress = \"127.0.0.1:0\"").unwrap();
        }
        fs::write(self.path("ravelin.toml"), text).unwrap();
    }

    /// The setup it was started with.
    pub fn setup(&self) -> Setup {
        self.setup.clone()
    }

    /// A file in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// SIGHUP, and its record.
    pub fn reload(&self) -> serde_json::Value {
        let before = self.records("reload").len();
        self.signal(rustix::process::Signal::HUP);
        self.await_that("a reload record", |proxy| proxy.records("reload").get(before).cloned())
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The whole lines of the audit stream so far.
    ///
    /// # Panics
    /// If one is not JSON.
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.path("audit.jsonl")).unwrap_or_default();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in audit line {line}"));
        text[..whole].lines().map(parse).collect()
    }

    /// The records of one event so far.
    pub fn records(&self, event: &str) -> Vec<serde_json::Value> {
        self.audit().into_iter().filter(|record| record["event"] == event).collect()
    }

    /// Looks until there is something to return.
    ///
    /// # Panics
    /// If that takes too long.
    pub fn await_that<T>(&self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{what} did not come; log:\n{}\naudit:\n{}",
                self.log(),
                fs::read_to_string(self.path("audit.jsonl")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for a record of this event for which `is` holds.
    pub fn await_record(&self, event: &str, is: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        self.await_that(&format!("a record `{event}`"), |proxy| {
            proxy.records(event).into_iter().find(|record| is(record))
        })
    }

    /// SIGTERM, and how it ended.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.await_end()
    }

    /// How it ended.
    pub fn await_end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE + PATIENCE, "ravelin does not end; its log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A client with a certificate for `app`, let in.
    pub fn client(&self) -> Client {
        self.client_with(&self.pki.client("app").unwrap()).unwrap_or_else(|error| {
            panic!("the client was not let in: {error}; log:\n{}", self.log());
        })
    }

    /// A client with this certificate, let in or not: an error is what its TLS library or socket said.
    pub fn client_with(&self, issued: &Issued) -> io::Result<Client> {
        let mut wire = self.shake(Some(issued))?;
        // In TLS 1.3 the client is done before the server has looked at its certificate; only an answer tells.
        wire.stream().sock.set_read_timeout(Some(PATIENCE))?;
        io::Write::write_all(wire.stream(), b"*1\r\n$4\r\nPING\r\n")?;
        let mut answer = [0; 7];
        wire.stream().read_exact(&mut answer)?;
        if &answer == b"+PONG\r\n" { Ok(wire) } else { Err(io::Error::other(format!("{}", answer.escape_ascii()))) }
    }

    /// A client that has shaken hands as far as it can tell, with a certificate or none.
    pub fn shake(&self, issued: Option<&Issued>) -> io::Result<Client> {
        let socket = self.socket();
        let mut roots = RootCertStore::empty();
        for each in CertificateDer::pem_slice_iter(self.pki.ca.cert.as_bytes()) {
            roots.add(each.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match issued {
            Some(issued) => {
                let chain = CertificateDer::pem_slice_iter(issued.chain.as_bytes()).map(Result::unwrap).collect();
                let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).map_err(io::Error::other)?
            }
            None => builder.with_no_client_auth(),
        };
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(tls, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Wire::over(stream))
    }

    /// A connection without a word said.
    pub fn socket(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        socket
    }

    /// Where the admin endpoint is.
    pub fn admin(&self) -> SocketAddr {
        let log = self.log();
        let address = log.lines().find_map(|line| line.split("admin endpoint on ").nth(1));
        address.and_then(|text| text.trim().parse().ok()).unwrap_or_else(|| panic!("no admin address in\n{log}"))
    }

    /// One GET of the admin endpoint: status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut socket = TcpStream::connect(self.admin()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        io::Write::write_all(
            &mut socket,
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes(),
        )
        .unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        (status, text.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
