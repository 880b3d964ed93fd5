//! A private Redis for one test: own directory, Unix socket only, ended by its process id when dropped.

#![allow(clippy::print_stderr, reason = "what a failed test's Redis said must be seen")]

use super::wire::Wire;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// The release the catalog was generated from and Debian 12 ships.
pub const VERSION: &str = "7.0.15";

/// Names the server that the tests run against; without it `redis-server` from the path.
pub const SERVER: &str = "RAVELIN_TEST_SERVER";

/// The program of the server.
pub fn program() -> PathBuf {
    std::env::var_os(SERVER).map_or_else(|| PathBuf::from("redis-server"), PathBuf::from)
}

/// Whose server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    Redis,
    Valkey,
    Redict,
}

/// Which server it is, as the program itself says (`--version`): INFO of the forks says 7.2.4 for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    pub vendor: Vendor,
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl Release {
    /// Asked once for all tests of a binary.
    ///
    /// # Panics
    /// If the server cannot be run or says something else.
    pub fn of_server() -> Self {
        static RELEASE: std::sync::OnceLock<Release> = std::sync::OnceLock::new();
        *RELEASE.get_or_init(|| {
            let program = program();
            let said = Command::new(&program).arg("--version").output().unwrap_or_else(|error| {
                panic!(
                    "{} cannot be run ({error}): this test needs a real Redis; install redis-server",
                    program.display()
                )
            });
            let said = String::from_utf8_lossy(&said.stdout).into_owned();
            let read = || {
                let vendor = match said.split(' ').next()? {
                    "Redis" => Vendor::Redis,
                    "Valkey" => Vendor::Valkey,
                    "Redict" => Vendor::Redict,
                    _ => return None,
                };
                let mut numbers = said.split_once("v=")?.1.split(' ').next()?.split('.').map(|part| part.parse().ok());
                Some(Self { vendor, major: numbers.next()??, minor: numbers.next()??, patch: numbers.next()?? })
            };
            read().unwrap_or_else(|| panic!("{} --version says {said:?}", program.display()))
        })
    }

    /// Whether it has what Redis has since this release. The forks are of 7.2.
    pub fn since(self, major: u32, minor: u32) -> bool {
        match self.vendor {
            Vendor::Redis => (self.major, self.minor) >= (major, minor),
            Vendor::Valkey | Vendor::Redict => (major, minor) <= (7, 2),
        }
    }

    /// Whether UNSUBSCRIBE without a subscription is one `-NOSUB` instead of confirmations.
    pub fn says_nosub(self) -> bool {
        self.vendor == Vendor::Valkey && (self.major, self.minor) == (8, 0)
    }

    /// Whether it is the one the catalog was generated from.
    pub fn is_reference(self) -> bool {
        self.vendor == Vendor::Redis && format!("{}.{}.{}", self.major, self.minor, self.patch) == VERSION
    }
}

/// A running `redis-server` that nothing else can reach.
pub struct Redis {
    child: Child,
    socket: PathBuf,
    password: Option<Vec<u8>>,
    /// What it had asked itself when it was ready (Valkey 9 reads its own configuration).
    own_calls: HashMap<String, u64>,
    // Last: removed after the server is gone.
    dir: TempDir,
}

impl Redis {
    /// A Redis without a password.
    pub fn start() -> Self {
        Self::with(&[], None)
    }

    /// A Redis with `requirepass`.
    pub fn with_password(password: impl AsRef<[u8]>) -> Self {
        Self::with(&[], Some(password.as_ref()))
    }

    /// A Redis with lines of `redis.conf` of one's own, and with `requirepass` if a password is given (any bytes).
    ///
    /// # Panics
    /// If `redis-server` is missing or does not answer within ten seconds; the message holds the server's log.
    pub fn with(lines: &[&str], password: Option<&[u8]>) -> Self {
        let dir = tempfile::Builder::new().prefix("redis-").tempdir().expect("a temporary directory");
        let socket = dir.path().join("redis.sock");
        let mut config = format!(
            "port 0\nunixsocket {}\nunixsocketperm 700\ndir {}\nsave \"\"\nappendonly no\ndaemonize no\n",
            socket.display(),
            dir.path().display(),
        );
        if let Some(password) = password {
            writeln!(config, "requirepass {}", quoted(password)).unwrap();
        }
        for line in lines.iter().filter(|line| understood(line)) {
            writeln!(config, "{line}").unwrap();
        }
        fs::write(dir.path().join("redis.conf"), config).unwrap();
        let child = launch(dir.path());
        let mut redis = Self { child, socket, password: password.map(<[u8]>::to_vec), own_calls: HashMap::new(), dir };
        redis.await_readiness();
        let mut own = redis.calls();
        own.retain(|name, _| !["auth", "ping", "info"].contains(&name.as_str()));
        redis.own_calls = own;
        redis
    }

    fn await_readiness(&mut self) {
        const TRIES: u32 = 1000;
        const PAUSE: Duration = Duration::from_millis(10);
        for _ in 0..TRIES {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("redis-server ended at once ({status}); its log:\n{}", self.log());
            }
            if UnixStream::connect(&self.socket).is_ok_and(|stream| {
                let mut wire = Wire::over_unix(stream);
                wire.send(&["PING"]);
                // -NOAUTH is an answer too; -LOADING is not readiness.
                wire.try_reply().is_some_and(|reply| reply.error().is_none_or(|text| text.starts_with("NOAUTH")))
            }) {
                return;
            }
            thread::sleep(PAUSE);
        }
        panic!("redis-server did not answer within {:?}; its log:\n{}", PAUSE * TRIES, self.log());
    }

    /// Its Unix socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its directory (configuration, log, dumps), removed with it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its password, if it has one.
    pub fn password(&self) -> Option<&[u8]> {
        self.password.as_deref()
    }

    /// How often it has run, failed or rejected each command, by the name it counts it under.
    pub fn calls(&self) -> HashMap<String, u64> {
        let stats = self.connect().call(&["INFO", "commandstats"]).text();
        let count = |rest: &str, key: &str| -> u64 {
            let found = rest.split(',').find_map(|field| field.strip_prefix(key));
            // Before 6.2 nobody counted what was rejected.
            found.map_or(0, |found| found.parse().unwrap())
        };
        let mut counted: HashMap<String, u64> = HashMap::new();
        for (name, rest) in stats.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(':')) {
            // What failed is among the calls, what was rejected is not.
            let calls = count(rest, "calls=") + count(rest, "rejected_calls=");
            let own = self.own_calls.get(name).copied().unwrap_or(0);
            if calls > own {
                counted.insert(name.to_owned(), calls - own);
            }
        }
        counted
    }

    /// The same of one command; 0 if it never came.
    pub fn calls_of(&self, command: &str) -> u64 {
        self.calls().get(&counted_as(command)).copied().unwrap_or(0)
    }

    /// The protocols it speaks, as HELLO names them; before 6.0 there is no HELLO.
    pub fn protocols(&self) -> &'static [&'static str] {
        if Release::of_server().since(6, 0) { &["2", "3"] } else { &["2"] }
    }

    /// How many of its clients wait in a blocking command.
    pub fn blocked(&self) -> u64 {
        let clients = self.connect().call(&["INFO", "clients"]).text();
        let line = clients.lines().find_map(|line| line.strip_prefix("blocked_clients:"));
        line.expect("INFO clients names blocked_clients").trim().parse().unwrap()
    }

    /// Lets it listen on loopback too, on a port that is free, and says where.
    pub fn listen_on_loopback(&self) -> SocketAddr {
        let mut wire = self.connect();
        wire.call(&["CONFIG", "SET", "bind", "127.0.0.1"]).expect_ok();
        for _ in 0..100 {
            let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            // Somebody else may have taken it in the meantime; Redis says so.
            if wire.call(&["CONFIG", "SET", "port", &free.port().to_string()]).error().is_none() {
                return free;
            }
        }
        panic!("redis-server found no free port; its log:\n{}", self.log());
    }

    /// One with a password that listens on loopback, and where: also one that cannot be told so later (before 6.2).
    pub fn on_loopback(password: impl AsRef<[u8]>) -> (Self, SocketAddr) {
        if Release::of_server().since(6, 2) {
            let redis = Self::with_password(password);
            let address = redis.listen_on_loopback();
            return (redis, address);
        }
        // Let go and taken again by the server; on a busy machine somebody else may come in between, and the test says so.
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        (Self::with(&["bind 127.0.0.1", &format!("port {}", free.port())], Some(password.as_ref())), free)
    }

    /// One without a password that listens on loopback, and where.
    pub fn open_on_loopback() -> (Self, SocketAddr) {
        // As above: somebody else may come in between, and the test says so.
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        (Self::with(&["bind 127.0.0.1", &format!("port {}", free.port())], None), free)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A new connection, authenticated if there is a password.
    pub fn connect(&self) -> Wire<UnixStream> {
        let stream = UnixStream::connect(&self.socket)
            .unwrap_or_else(|error| panic!("connecting to redis-server: {error}; its log:\n{}", self.log()));
        let mut wire = Wire::over_unix(stream);
        if let Some(password) = &self.password {
            wire.call(&[b"AUTH", &password[..]]).expect_ok();
        }
        wire
    }

    /// Its version, as INFO tells it.
    pub fn version(&self) -> String {
        let info = self.connect().call(&["INFO", "server"]).text();
        let line = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
        line.expect("INFO server names redis_version").trim().to_owned()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("redis.log")).unwrap_or_else(|error| format!("(no log: {error})"))
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Ends it by a signal: `KILL` as a crash does, leaving its socket file behind, or `TERM` as an operator does.
    pub fn end_by(&mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.child.wait().unwrap();
    }

    /// The same server anew, on the same socket, once the last one has ended; its data is gone.
    pub fn start_again(&mut self) {
        self.child = launch(self.dir.path());
        self.await_readiness();
    }

    /// Waits until it has ended by itself (SHUTDOWN).
    pub fn await_end(&mut self) {
        let status = self.child.wait().unwrap();
        assert!(status.success(), "redis-server ended with {status}; its log:\n{}", self.log());
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the log of {}:\n{}", self.socket.display(), self.log());
        }
        // Errors mean that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server with the configuration in this directory.
fn launch(dir: &Path) -> Child {
    let log = File::options().create(true).append(true).open(dir.join("redis.log")).unwrap();
    Command::new(program())
        .arg(dir.join("redis.conf"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| {
            panic!("redis-server cannot be started ({error}): this test needs a real Redis; install redis-server")
        })
}

/// The name under which this server counts a command (`config|get`): before 7.0 subcommands have no counters of their own.
pub fn counted_as(full_name: &str) -> String {
    let counted = if Release::of_server().since(7, 0) { full_name } else { full_name.split('|').next().unwrap() };
    counted.to_owned()
}

/// Whether this server knows such a line: what these turn on was always on before there was a way to turn it off.
fn understood(line: &str) -> bool {
    let later = line.starts_with("enable-debug-command") || line.starts_with("enable-module-command");
    !later || Release::of_server().since(7, 0)
}

/// Any bytes as one word of `redis.conf` (`sdssplitargs`: double quotes with `\xHH`).
fn quoted(value: &[u8]) -> String {
    let mut word = String::from("\"");
    for byte in value {
        if byte.is_ascii_alphanumeric() {
            word.push(char::from(*byte));
        } else {
            write!(word, "\\x{byte:02x}").unwrap();
        }
    }
    word.push('"');
    word
}
