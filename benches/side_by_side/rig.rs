//! What all targets share: a folder, certificates, and one private Redis.

use crate::process::{self, Process, Side};
use certs_dev::{Issued, Pki};
use std::cell::RefCell;
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
const KEY: &str = "key:__rand_int__";
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Rig {
    control: RefCell<redis::Connection>,
    pub redis: Process,
    /// Redis' ports on loopback: in plain text and with its own TLS.
    pub port: u16,
    pub tls_port: u16,
    pub client: Issued,
    pub ca: String,
    // Last: removed after all that uses it is gone.
    dir: TempDir,
}

impl Rig {
    /// # Panics
    /// If `redis-server` or `redis-benchmark` is missing.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("ravelin-bench-").tempdir().expect("a temporary folder");
        let program =
            process::find("redis-server").expect("redis-server is not installed (apt-get install redis-server)");
        assert!(
            process::find("redis-benchmark").is_some(),
            "redis-benchmark is not installed (apt-get install redis-tools)"
        );
        let pki = Pki::new().expect("certificates");
        let server = pki.server(&["localhost", "127.0.0.1"]).expect("a server's certificate");
        let client = pki.client(CLIENT).expect("a client's certificate");
        let at = |name: &str| dir.path().join(name);
        for (name, text) in [
            ("ca.pem", &pki.ca.cert),
            ("server.pem", &server.chain),
            ("server.key", &server.key),
            ("server-all.pem", &format!("{}{}", server.chain, server.key)),
            ("client.pem", &client.chain),
            ("client.key", &client.key),
            ("password", &PASSWORD.to_owned()),
        ] {
            fs::write(at(name), text).expect("a file in the temporary folder");
            fs::set_permissions(at(name), Permissions::from_mode(0o600)).expect("permissions of a new file");
        }
        let (port, tls_port) = (free_port(), free_port());
        let path = |name: &str| at(name).display().to_string();
        let config = format!(
            "bind 127.0.0.1\nport {port}\ntls-port {tls_port}\nunixsocket {}\nunixsocketperm 700\ndir {}\n\
             requirepass {PASSWORD}\nsave \"\"\nappendonly no\ndaemonize no\nmaxclients 20000\n\
             tls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\ntls-auth-clients yes\ntls-protocols TLSv1.3\n",
            path("redis.sock"),
            dir.path().display(),
            path("server.pem"),
            path("server.key"),
            path("ca.pem"),
        );
        fs::write(at("redis.conf"), config).expect("a file in the temporary folder");
        let mut redis = Process::start(Side::Server, &program, &[at("redis.conf")], at("redis.log"));
        let control = RefCell::new(connect(&at("redis.sock"), &mut redis));
        Self { control, redis, port, tls_port, client, ca: pki.ca.cert, dir }
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
        thread::sleep(Duration::from_millis(10));
    }
}
