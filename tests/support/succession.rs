//! Proxies that follow one another at one address, as a service manager starts them: on a socket it hands down, or side by
//! side on the same port.

#![allow(clippy::disallowed_methods, reason = "a test measures how long others take")]

use super::{
    client::{Client, greeted},
    process::{PATIENCE, Proxy, program},
    redis::Redis,
    setup::{Setup, write_secret},
    wire::{Reply, encode},
};
use certs_dev::Pki;
use rustix::process::{Pid, Signal, kill_process};
use rustls::ClientConfig;
use serde_json::Value;
use std::{
    fs::{self, File},
    io::{self, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// What they have in common: an address, certificates, and who looks after them.
pub struct Office {
    pki: Pki,
    setup: Setup,
    /// The socket that is handed down; without one, every holder binds the port for itself.
    handed: Option<TcpListener>,
    // Keeps the port ours between two holders: bound, and never listening.
    _placeholder: Option<socket2::Socket>,
    address: SocketAddr,
    dir: TempDir,
}

impl Office {
    /// Whose holders are handed a socket that listens already.
    pub fn on_a_socket(setup: Setup) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        Self::new(setup, Some(socket), None, address)
    }

    /// Whose holders listen on one port side by side.
    pub fn on_a_port(setup: Setup) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self::new(setup, None, Some(socket), address)
    }

    fn new(
        setup: Setup,
        handed: Option<TcpListener>,
        placeholder: Option<socket2::Socket>,
        address: SocketAddr,
    ) -> Self {
        let dir = tempfile::Builder::new().prefix("ravelin-").tempdir().unwrap();
        let pki = Pki::new().unwrap();
        let server = pki.server(&["localhost", "127.0.0.1"]).unwrap();
        write_secret(&dir.path().join("server.crt"), &server.chain);
        write_secret(&dir.path().join("server.key"), &server.key);
        write_secret(&dir.path().join("ca.crt"), &pki.ca.cert);
        Self { pki, setup, handed, _placeholder: placeholder, address, dir }
    }

    fn path(&self, name: impl AsRef<str>) -> PathBuf {
        self.dir.path().join(name.as_ref())
    }

    /// Starts one, with an audit file and an admin endpoint of its own.
    pub fn start(&self, name: &str, environment: &[(&str, &str)]) -> Holder<'_> {
        let config = self.config(name);
        let text = fs::read_to_string(self.setup.write(self.dir.path())).unwrap();
        let mut text = text.replace("audit.jsonl", &format!("{name}.jsonl"));
        if self.handed.is_none() {
            text = text.replacen("127.0.0.1:0\"", &format!("{}\", reuse_port = true", self.address), 1);
        }
        fs::write(&config, text).unwrap();
        let notify = self.path(format!("{name}.notify"));
        let manager = UnixDatagram::bind(&notify).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = Command::new("sh");
        let stdin = match &self.handed {
            Some(socket) => {
                // In a shell, because the number of the process that is to have it is known there alone.
                let set = "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=cache; exec 3<&0 0</dev/null; ";
                command.arg("-c").arg(format!("{set}exec \"$0\" run --config \"$1\""));
                Stdio::from(OwnedFd::from(socket.try_clone().unwrap()))
            }
            None => {
                command.arg("-c").arg("exec \"$0\" run --config \"$1\"");
                Stdio::null()
            }
        };
        let child = command
            .arg(program())
            .arg(config)
            .env("NOTIFY_SOCKET", &notify)
            .envs(environment.iter().copied())
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(File::create(self.path(format!("{name}.log"))).unwrap())
            .spawn()
            .unwrap();
        Holder { office: self, name: name.to_owned(), child, manager }
    }

    /// The configuration of one of them.
    pub fn config(&self, name: &str) -> PathBuf {
        self.path(format!("{name}.toml"))
    }

    /// Makes it one that cannot be used.
    pub fn spoil(&self, name: &str) {
        fs::write(self.config(name), "[limits]\nbacklog = 0\n").unwrap();
    }

    /// What clients with a certificate for `app` shake hands with.
    pub fn tls(&self) -> Arc<ClientConfig> {
        Proxy::trusting(&self.pki, Some(&self.pki.client("app").unwrap()), rustls::ALL_VERSIONS)
    }

    /// A client that was let in.
    pub fn client(&self) -> Client {
        greeted(self.connect(&self.tls()).unwrap()).unwrap()
    }

    fn connect(&self, tls: &Arc<ClientConfig>) -> io::Result<Client> {
        let socket = TcpStream::connect(self.address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        Proxy::shake_at(tls, socket)
    }

    /// Whether somebody listens.
    pub fn is_open(&self) -> bool {
        TcpStream::connect(self.address).is_ok()
    }
}

/// One of them.
pub struct Holder<'a> {
    office: &'a Office,
    name: String,
    child: Child,
    manager: UnixDatagram,
}

impl Holder<'_> {
    /// What it tells the service manager next.
    pub fn says(&self) -> String {
        let mut got = [0; 256];
        let length = self.manager.recv(&mut got).unwrap_or_else(|error| panic!("{error}; its log:\n{}", self.log()));
        String::from_utf8_lossy(&got[..length]).into_owned()
    }

    /// Waits until it says this, and gives what it said in between.
    pub fn await_said(&self, front: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let said = self.says();
            if said.starts_with(front) {
                return before;
            }
            before.push(said);
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn await_end(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < PATIENCE + PATIENCE, "it does not end; its log:\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.office.path(format!("{}.log", self.name))).unwrap_or_default()
    }

    /// Its records of one event.
    pub fn records(&self, event: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.office.path(format!("{}.jsonl", self.name))).unwrap_or_default();
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        whole.lines().map(super::books::parse).filter(|record| record["event"] == event).collect()
    }

    /// The status of `/readyz`.
    pub fn readiness(&self) -> u16 {
        let log = self.log();
        let rest = log.split("admin endpoint on ").nth(1).unwrap();
        let address: SocketAddr = rest.split_whitespace().next().unwrap().parse().unwrap();
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(socket, "GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let text = io::read_to_string(socket).unwrap();
        text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap()
    }
}

impl Drop for Holder<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What has become of the commands of some clients that do not stop asking.
#[derive(Default)]
pub struct Tally {
    /// Answered, each with an integer.
    pub answered: AtomicU64,
    /// Sent on a connection that then ended without an answer; asked again on the next.
    pub unanswered: AtomicU64,
    /// Connections that could not be had at all.
    pub refused: AtomicU64,
    /// Connections that ended before the first answer.
    pub turned_away: AtomicU64,
}

/// Clients that increment a counter one by one, and reconnect when their connection ends.
pub struct Crowd {
    pub tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    pub fn before(office: &Arc<Office>, clients: usize) -> Self {
        let (tally, stop): (Arc<Tally>, Arc<AtomicBool>) = Default::default();
        let threads = (0..clients)
            .map(|_| {
                let (office, tally, stop) = (Arc::clone(office), Arc::clone(&tally), Arc::clone(&stop));
                let tls = office.tls();
                thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        match office.connect(&tls) {
                            Ok(client) => ask(client, &tally, &stop),
                            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                                tally.refused.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(_) => {
                                tally.turned_away.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                })
            })
            .collect();
        Self { tally, stop, threads }
    }

    /// Waits until so many more commands have been answered.
    pub fn await_more(&self, answers: u64) {
        let least = self.tally.answered.load(Ordering::Relaxed) + answers;
        let begin = Instant::now();
        while self.tally.answered.load(Ordering::Relaxed) < least {
            assert!(begin.elapsed() < PATIENCE, "the clients are not answered any more");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets all of them come to an end. A client that got a wrong answer has panicked.
    pub fn end(self) -> Arc<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        self.tally
    }
}

fn ask(mut client: Client, tally: &Tally, stop: &AtomicBool) {
    let command = encode(&["INCR", "counter"]);
    let mut first = true;
    while !stop.load(Ordering::Relaxed) {
        let answer = client.stream().write_all(&command).ok().and_then(|()| client.try_reply());
        match answer {
            Some(Reply::Integer(_)) => {
                tally.answered.fetch_add(1, Ordering::Relaxed);
            }
            Some(other) => panic!("{other:?}"),
            None => {
                let what = if first { &tally.turned_away } else { &tally.unanswered };
                what.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        first = false;
    }
}

/// As many as Redis ran were answered: none was lost, and none ran twice.
pub fn account(redis: &Redis, tally: &Tally) {
    let answered = tally.answered.load(Ordering::Relaxed);
    assert!(answered > 0);
    assert_eq!(answered, redis.calls_of("incr"), "a command ran and was not answered, or was answered and did not run");
}
