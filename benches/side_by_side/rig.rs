//! What all targets share: a folder, certificates, and one private Redis.

use crate::interrupt;
use crate::process::{self, Process, Side};
use certs_dev::{KeyKind, Leaf, Pki};
use std::cell::{Cell, RefCell};
use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The name in the client's certificate.
pub const CLIENT: &str = "bench";
pub const PASSWORD: &str = "correct-horse-battery-staple";
/// The key redis-benchmark asks for, literally, when it is not told to vary it.
pub const KEY: &str = "key:__rand_int__";
const PATIENCE: Duration = Duration::from_secs(10);

/// The certificates of a run, and the files they are in.
pub struct Certificates {
    /// PEM, for a client of our own.
    pub authority: String,
    pub client: String,
    pub client_key: String,
    folder: PathBuf,
}

impl Certificates {
    fn mint(kind: KeyKind, folder: PathBuf) -> Self {
        let pki = Pki::with_keys(kind).expect("certificates");
        let server = pki.issue(&Leaf::server(&["localhost", "127.0.0.1"]).key(kind)).expect("a server's certificate");
        let client = pki.issue(&Leaf::client(CLIENT).key(kind)).expect("a client's certificate");
        fs::create_dir(&folder).expect("a folder for certificates");
        for (name, text) in [
            ("ca.pem", &pki.ca.cert),
            ("server.pem", &server.chain),
            ("server.key", &server.key),
            ("server-all.pem", &format!("{}{}", server.chain, server.key)),
            ("client.pem", &client.chain),
            ("client.key", &client.key),
        ] {
            let file = folder.join(name);
            fs::write(&file, text).expect("a file in the temporary folder");
            fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("permissions of a new file");
        }
        Self { authority: pki.ca.cert, client: client.chain, client_key: client.key, folder }
    }

    /// One of `ca.pem`, `server.pem`, `server.key`, `server-all.pem` (both), `client.pem` and `client.key`.
    pub fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

pub struct Rig {
    /// How many keys have values, and of which length.
    filled: Cell<(u32, usize)>,
    control: RefCell<redis::Connection>,
    pub redis: Process,
    /// Redis' port on loopback, in plain text.
    pub port: u16,
    /// The same with its own TLS, by kind of certificate: Redis has one of them at a time.
    pub tls_port: u16,
    pub ecdsa: Certificates,
    pub rsa: Certificates,
    /// Where the audit streams are written, if not in the run's folder.
    audit_dir: Option<PathBuf>,
    // Last: removed after all that uses it is gone.
    dir: TempDir,
}

impl Rig {
    /// # Panics
    /// If `redis-server` or `redis-benchmark` is missing.
    pub fn start(audit_dir: Option<PathBuf>) -> Self {
        let dir = tempfile::Builder::new().prefix("ravelin-bench-").tempdir().expect("a temporary folder");
        interrupt::uses(dir.path());
        let program =
            process::find("redis-server").expect("redis-server is not installed (apt-get install redis-server)");
        assert!(
            process::find("redis-benchmark").is_some(),
            "redis-benchmark is not installed (apt-get install redis-tools)"
        );
        let at = |name: &str| dir.path().join(name);
        let ecdsa = Certificates::mint(KeyKind::P256, at("ecdsa"));
        let rsa = Certificates::mint(KeyKind::Rsa, at("rsa"));
        fs::write(at("password"), PASSWORD).expect("a file in the temporary folder");
        fs::set_permissions(at("password"), Permissions::from_mode(0o600)).expect("permissions of a new file");
        let (port, tls_port) = (free_port(), free_port());
        let config = format!(
            "bind 127.0.0.1\nport {port}\ntls-port {tls_port}\nunixsocket {}\nunixsocketperm 700\ndir {}\n\
             requirepass {PASSWORD}\nsave \"\"\nappendonly no\ndaemonize no\nmaxclients 20000\ntcp-backlog 4096\n\
             tls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\ntls-auth-clients yes\ntls-protocols TLSv1.3\n",
            at("redis.sock").display(),
            dir.path().display(),
            ecdsa.file("server.pem"),
            ecdsa.file("server.key"),
            ecdsa.file("ca.pem"),
        );
        fs::write(at("redis.conf"), config).expect("a file in the temporary folder");
        let mut redis = Process::start(Side::Server, &program, &[at("redis.conf")], at("redis.log"));
        let control = RefCell::new(connect(&at("redis.sock"), &mut redis));
        Self { control, filled: Cell::default(), redis, port, tls_port, ecdsa, rsa, audit_dir, dir }
    }

    /// The certificates of a kind; Redis' own TLS is given them too.
    pub fn certificates(&self, rsa: bool) -> &Certificates {
        let certificates = if rsa { &self.rsa } else { &self.ecdsa };
        redis::cmd("CONFIG")
            .arg("SET")
            .arg(&[
                ("tls-cert-file", certificates.file("server.pem")),
                ("tls-key-file", certificates.file("server.key")),
                ("tls-ca-cert-file", certificates.file("ca.pem")),
            ])
            .exec(&mut *self.control.borrow_mut())
            .expect("Redis takes other certificates");
        certificates
    }

    /// Where an audit stream is written.
    pub fn audit_file(&self, target: &str) -> PathBuf {
        self.audit_dir.as_deref().unwrap_or(self.dir.path()).join(format!("audit-{target}.jsonl"))
    }

    /// Where that is, and whether it is a disk: what is written to memory costs another time.
    pub fn audit_place(&self) -> String {
        let folder = self.audit_dir.as_deref().unwrap_or(self.dir.path());
        // linux/magic.h
        let kind = rustix::fs::statfs(folder).map_or(0, |about| about.f_type);
        let kind = match kind {
            0x0102_1994 => "tmpfs: memory, not a disk".to_owned(),
            0x8584_58f6 => "ramfs: memory, not a disk".to_owned(),
            0xef53 => "ext4, on a disk".to_owned(),
            0x5846_5342 => "xfs, on a disk".to_owned(),
            0x9123_683e => "btrfs, on a disk".to_owned(),
            0x794c_7630 => "overlayfs, on what lies under it".to_owned(),
            kind => format!("a file system of type {kind:#x}"),
        };
        format!("{} ({kind})", folder.parent().unwrap_or(folder).display())
    }

    /// A file in the run's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The same as text.
    pub fn file(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Puts a value of this length where the load generator asks for it.
    pub fn set_value(&self, length: usize) {
        redis::cmd("SET").arg(KEY).arg("v".repeat(length)).exec(&mut *self.control.borrow_mut()).expect("SET");
    }

    /// Puts values of this length where the load generator asks for them when it spreads its commands over so many keys.
    pub fn set_values(&self, keys: u32, length: usize) {
        if keys <= 1 {
            return self.set_value(length);
        }
        if self.filled.replace((keys, length)) == (keys, length) {
            return;
        }
        let value = "v".repeat(length);
        for first in (0..keys).step_by(1000) {
            let mut pipe = redis::pipe();
            for key in first..keys.min(first + 1000) {
                pipe.cmd("SET").arg(format!("key:{key:012}")).arg(&value).ignore();
            }
            pipe.exec(&mut *self.control.borrow_mut()).expect("SET");
        }
    }

    /// The version of this Redis.
    pub fn version(&self) -> String {
        let info: redis::InfoDict = redis::cmd("INFO").query(&mut *self.control.borrow_mut()).expect("INFO");
        info.get("redis_version").unwrap_or_default()
    }

    /// Commands that Redis has processed, the control connection's own ones among them.
    pub fn commands(&self) -> u64 {
        self.info("total_commands_processed")
    }

    /// Connections open to Redis, the control connection not counted.
    pub fn connections(&self) -> u64 {
        self.info("connected_clients").saturating_sub(1)
    }

    fn info(&self, field: &str) -> u64 {
        let info: redis::InfoDict = redis::cmd("INFO").query(&mut *self.control.borrow_mut()).expect("INFO");
        info.get(field).unwrap_or_else(|| panic!("INFO has no {field}"))
    }
}

fn connect(socket: &Path, server: &mut Process) -> redis::Connection {
    let url = format!("redis+unix://{}?pass={PASSWORD}", socket.display());
    let client = redis::Client::open(url).expect("a proper address");
    let begin = Instant::now();
    loop {
        match client.get_connection() {
            Ok(connection) => return connection,
            Err(error) => {
                server.must_run("redis-server");
                assert!(
                    begin.elapsed() < PATIENCE,
                    "redis-server does not answer ({error}); its log:\n{}",
                    server.log()
                );
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// A port that was free a moment ago: programs that cannot tell which one the kernel chose must be given one.
pub fn free_port() -> u16 {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    socket.local_addr().expect("its address").port()
}

/// Waits until a server accepts connections.
pub fn await_port(port: u16, name: &str, server: &mut Process) {
    let begin = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        server.must_run(name);
        assert!(begin.elapsed() < PATIENCE, "{name} does not listen; its log:\n{}", server.log());
        thread::sleep(Duration::from_millis(2));
    }
}
