//! A Ravelin of the test's own: the real binary, a fresh PKI, a private folder, ports of the kernel's choice.

use super::redis::Redis;
use certs_dev::{Issued, Leaf, Pki};
use std::{
    fmt::Write as _,
    fs::{self, File},
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};
use tempfile::TempDir;

const TRIES: u32 = 2000;
const PAUSE: Duration = Duration::from_millis(5);

/// One service of a configuration under test.
pub struct Service<'r> {
    pub name: &'r str,
    pub redis: &'r Redis,
    /// Bytes of the password file; `None` for `auth = "none"`.
    pub password: Option<&'r [u8]>,
    /// Further lines of the `[[service]]` table.
    pub lines: &'r str,
    /// Further entries of its `upstream`, each with a comma before it.
    pub upstream: &'r str,
}

/// What a test wants of its proxy; everything else is as a minimal file has it.
pub struct Setup<'r> {
    pub services: Vec<Service<'r>>,
    /// Whole lines behind the standard tables.
    pub more: &'r str,
    pub allow: &'r str,
    pub roles: &'r str,
    /// Standard output instead of a file.
    pub audit_to_stdout: bool,
}

impl<'r> Setup<'r> {
    /// One service called `cache` before `redis`.
    pub fn before(redis: &'r Redis, password: &'r [u8]) -> Self {
        let service = Service { name: "cache", redis, password: Some(password), lines: "", upstream: "" };
        Self {
            services: vec![service],
            more: "",
            allow: "[\"127.0.0.0/8\"]",
            roles: "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\n",
            audit_to_stdout: false,
        }
    }
}

/// A running proxy; killed, if it still runs, when dropped.
pub struct Proxy {
    child: Child,
    pub pki: Pki,
    /// Address of each service, in the order of the setup.
    pub addresses: Vec<SocketAddr>,
    pub admin: SocketAddr,
    dir: TempDir,
}

/// Writes `bytes` to a file that only its owner can read.
pub fn write_secret(path: &Path, bytes: impl AsRef<[u8]>) {
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).expect("a file");
    file.write_all(bytes.as_ref()).expect("writing a file");
}

impl Proxy {
    /// Starts a proxy and waits until it listens.
    pub fn start(setup: &Setup<'_>) -> Self {
        let dir = tempfile::Builder::new().prefix("ravelin-").tempdir().expect("a temporary directory");
        let pki = Pki::new().expect("a PKI");
        let server = pki.server(&["localhost", "127.0.0.1"]).expect("a server certificate");
        write_secret(&dir.path().join("server.crt"), &server.chain);
        write_secret(&dir.path().join("server.key"), &server.key);
        write_secret(&dir.path().join("ca.crt"), &pki.ca.cert);
        write_secret(&dir.path().join("ca.crl"), pki.ca.crl(&[], 30).expect("a CRL"));
        fs::write(dir.path().join("ravelin.toml"), Self::config(setup, dir.path())).unwrap();
        let out = File::create(dir.path().join("stdout")).unwrap();
        let err = File::create(dir.path().join("stderr")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_ravelin"))
            .args(["run", "-c"])
            .arg(dir.path().join("ravelin.toml"))
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .expect("the proxy starts");
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut proxy = Self { child, pki, addresses: Vec::new(), admin: nowhere, dir };
        proxy.await_listening(setup.services.len());
        for name in ["app", "other"] {
            let issued = proxy.pki.client(name).expect("a client certificate");
            proxy.keep(name, &issued);
        }
        proxy
    }

    fn config(setup: &Setup<'_>, dir: &Path) -> String {
        let mut text = String::new();
        for service in &setup.services {
            let socket = service.redis.socket().display();
            let auth = service.password.map_or("auth = \"none\"".to_owned(), |password| {
                write_secret(&dir.join(format!("{}.password", service.name)), password);
                format!("password_file = \"{}.password\"", service.name)
            });
            let (name, lines, more) = (service.name, service.lines, service.upstream);
            writeln!(text, "[[service]]\nname = \"{name}\"\nlisten = [{{ address = \"127.0.0.1:0\" }}]").unwrap();
            writeln!(text, "upstream = {{ address = \"unix:{socket}\", {auth}{more} }}\n{lines}").unwrap();
        }
        let output = if setup.audit_to_stdout { "{ stdout = {} }" } else { "{ file = { path = \"audit.jsonl\" } }" };
        let (allow, roles, more) = (setup.allow, setup.roles, setup.more);
        write!(
            text,
            "[tls]\ncert = \"server.crt\"\nkey = \"server.key\"\nclient_ca = \"ca.crt\"\ncrl = [\"ca.crl\"]\n\
             [admission]\nallow = {allow}\n\
             {roles}\n[audit]\noutput = [{output}]\n[admin]\naddress = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n{more}"
        )
        .unwrap();
        text
    }

    /// Waits until the log names every address.
    fn await_listening(&mut self, services: usize) {
        for _ in 0..TRIES {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the proxy ended at once ({status}); its log:\n{}", self.log());
            }
            let log = self.log();
            let named = |start: &str| -> Vec<SocketAddr> {
                log.lines()
                    .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
                    .filter_map(|line| line["message"].as_str().map(str::to_owned))
                    .filter_map(|text| text.strip_prefix(start)?.split(' ').next()?.parse().ok())
                    .collect()
            };
            let (addresses, admin) = (named("listening on "), named("admin endpoint on "));
            if addresses.len() == services && admin.len() == 1 {
                self.addresses = addresses;
                self.admin = admin[0];
                return;
            }
            thread::sleep(PAUSE);
        }
        panic!("the proxy did not say that it listens; its log:\n{}", self.log());
    }

    /// The private folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes a certificate and its key into the folder, as `NAME.crt` and `NAME.key`.
    pub fn keep(&self, name: &str, issued: &Issued) {
        write_secret(&self.dir().join(format!("{name}.crt")), &issued.chain);
        write_secret(&self.dir().join(format!("{name}.key")), &issued.key);
    }

    /// A client certificate for `leaf`, kept under `name`.
    pub fn issue(&self, name: &str, leaf: &Leaf) {
        self.keep(name, &self.pki.issue(leaf).expect("a client certificate"));
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// A `redis-cli` that talks to service `index` with the certificate kept under `name`.
    pub fn redis_cli(&self, name: &str, index: usize) -> Command {
        let address = self.addresses[index];
        let mut command = Command::new("redis-cli");
        command.arg("--tls").arg("--cacert").arg(self.path("ca.crt"));
        command.arg("--cert").arg(self.path(&format!("{name}.crt")));
        command.arg("--key").arg(self.path(&format!("{name}.key")));
        command.args(["-h", "127.0.0.1", "-p", &address.port().to_string()]);
        command
    }

    /// What `redis-cli` prints for these lines of input, with the certificate `app`.
    pub fn cli(&self, lines: &str) -> String {
        let mut child = self
            .redis_cli("app", 0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("redis-cli cannot be started: install redis-tools");
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// The operational log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }

    /// The audit stream so far, every line parsed.
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let name = if self.path("audit.jsonl").exists() { "audit.jsonl" } else { "stdout" };
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// Waits until a record like this is in the stream, and returns it.
    pub fn await_record(&self, what: &str, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        for _ in 0..TRIES {
            if let Some(record) = self.audit().into_iter().find(&wanted) {
                return record;
            }
            thread::sleep(PAUSE);
        }
        panic!("no record of {what} in {:#?}\nlog:\n{}", self.audit(), self.log());
    }

    /// Sends a signal (`TERM`, `HUP` …).
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the process to end.
    pub fn await_end(&mut self) -> ExitStatus {
        for _ in 0..TRIES * 4 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            thread::sleep(PAUSE);
        }
        panic!("the proxy does not end; its log:\n{}", self.log());
    }

    /// Waits until the log holds `text`, counted from byte `since`.
    pub fn await_log(&self, since: usize, text: &str) {
        for _ in 0..TRIES {
            if self.log().get(since..).is_some_and(|log| log.contains(text)) {
                return;
            }
            thread::sleep(PAUSE);
        }
        panic!("the log never says {text:?}:\n{}", self.log());
    }

    /// The body of a page of the admin endpoint, and its status.
    pub fn admin_page(&self, path: &str) -> (u16, String) {
        use std::{io::Read as _, net::TcpStream};
        let mut stream = TcpStream::connect(self.admin).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = writeln!(std::io::stderr(), "the proxy's log:\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
