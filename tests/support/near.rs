//! The near end of a tunnel as a program of its own: clients in plain text, the other end by TLS.

#![allow(clippy::disallowed_methods, reason = "patience is measured, not decided by")]

use super::{
    books,
    process::{PATIENCE, Proxy, program},
    redis::Redis,
    setup::Setup,
    twins::ALLOW_ALL,
    wire::{Wire, encode},
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::{UnixDatagram, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A program that ends with the test.
pub struct Program(pub Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running near end.
pub struct Near {
    program: Program,
    /// Where it listens, as its log has it.
    pub place: String,
    /// The same, where that is a port.
    pub address: SocketAddr,
    manager: UnixDatagram,
    dir: tempfile::TempDir,
}

/// Listens on a port that the kernel chooses.
const ANYWHERE: &str = "listen = \"127.0.0.1:0\"";

impl Near {
    /// `tunnel` is the rest of its table, without `listen` and `name`.
    pub fn with(tunnel: &str, more: &str) -> Self {
        Self::listening(ANYWHERE, tunnel, more)
    }

    /// Likewise, with `listen` and what belongs to it.
    pub fn listening(listen: &str, tunnel: &str, more: &str) -> Self {
        Self::in_environment(listen, tunnel, more, &[])
    }

    /// Likewise, with these variables.
    pub fn in_environment(listen: &str, tunnel: &str, more: &str, variables: &[(&str, &Path)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("near.toml");
        fs::write(&config, Self::text(listen, tunnel, more)).unwrap();
        Self::start_in(dir, &["run".into(), "--config".into(), config.display().to_string()], variables)
    }

    fn text(listen: &str, tunnel: &str, more: &str) -> String {
        format!(
            "[[tunnel]]\nname = \"near\"\n{listen}\n{tunnel}\n[audit]\noutput = [{{ file = {{ path = \"near.jsonl\" }} }}]\n{more}"
        )
    }

    /// `ravelin client` with these flags and those that lead to `far`, by the certificate of `app`.
    pub fn by_flags(far: &Proxy, flags: &[&str]) -> Self {
        let (cert, key) = far.files_for("app");
        let connect = format!("localhost:{}", far.address().port());
        let files = ["ca.crt", &cert, &key].map(|name| far.path(name).display().to_string());
        let [ca, cert, key] = &files;
        let to_far = ["--connect", &connect, "--ca", ca, "--cert", cert, "--key", key];
        let arguments: Vec<_> = ["client"].iter().chain(flags).chain(&to_far).map(|word| (*word).to_owned()).collect();
        Self::start_in(tempfile::tempdir().unwrap(), &arguments, &[])
    }

    /// A program with these arguments, once it serves.
    fn start_in(dir: tempfile::TempDir, arguments: &[String], variables: &[(&str, &Path)]) -> Self {
        let notify = dir.path().join("notify");
        let manager = UnixDatagram::bind(&notify).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        let child = Command::new(program())
            .args(arguments)
            .env("NOTIFY_SOCKET", &notify)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(File::create(dir.path().join("stdout")).unwrap())
            .stderr(File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let nowhere = ([127, 0, 0, 1], 0).into();
        let mut near = Self { program: Program(child), place: String::new(), address: nowhere, manager, dir };
        near.await_ready();
        near.place = near.places().first().unwrap_or_else(|| panic!("{}", near.log())).clone();
        near.address = near.place.parse().unwrap_or(nowhere);
        near
    }

    fn await_ready(&self) {
        let mut said = [0; 200];
        loop {
            match self.manager.recv(&mut said) {
                Ok(length) if said[..length].starts_with(b"READY=1") => return,
                Ok(_) => {}
                // A process that was stopped and goes on.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}:\n{}", self.log()),
            }
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub fn reload(&self, tunnel: &str) {
        self.reload_listening(ANYWHERE, tunnel);
    }

    /// Likewise, with `listen` and what belongs to it.
    pub fn reload_listening(&self, listen: &str, tunnel: &str) {
        fs::write(self.dir.path().join("near.toml"), Self::text(listen, tunnel, "")).unwrap();
        self.signal(Signal::HUP);
        self.await_ready();
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.program.0), signal).unwrap();
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.program.0.id()
    }

    /// Waits for its end.
    pub fn await_end(&mut self) -> ExitStatus {
        let mut ended = None;
        await_that("it ends", || {
            ended = self.program.0.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }

    /// Where all its tunnels listen, as its log has it.
    pub fn places(&self) -> Vec<String> {
        let log = self.log();
        let told = log.split("listening on ").skip(1).filter_map(|told| told.split(' ').next());
        told.map(str::to_owned).collect()
    }

    /// A page of its admin endpoint.
    pub fn page(&self, path: &str) -> String {
        let log = self.log();
        let address = log.split("admin endpoint on ").nth(1).and_then(|told| told.lines().next()).unwrap();
        let mut socket = TcpStream::connect(address).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: near\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    /// A file of its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn client(&self) -> Wire<TcpStream> {
        client_of(self.address)
    }

    /// A client by its Unix socket.
    pub fn neighbour(&self) -> Wire<UnixStream> {
        neighbour_at(Path::new(self.place.strip_prefix("unix:").unwrap()))
    }

    /// A client that is told that nobody is there.
    pub fn is_refused(&self) {
        let mut client = self.client();
        let told = client.rest();
        let whole = told == b"-ERR the Redis behind this proxy is unavailable\r\n";
        assert!(whole, "{}\n{:?}\n{}", told.escape_ascii(), self.records("connection_close"), self.log());
    }

    /// What it has recorded so far, whole lines.
    pub fn audit_text(&self) -> String {
        let mut text = fs::read_to_string(self.path("near.jsonl")).unwrap_or_default();
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        text
    }

    pub fn records(&self, event: &str) -> Vec<serde_json::Value> {
        self.audit_text().lines().map(books::parse).filter(|record| record["event"] == event).collect()
    }
}

/// A client of the Unix socket at `path`.
pub fn neighbour_at(path: &Path) -> Wire<UnixStream> {
    let socket = UnixStream::connect(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    Wire::over(socket)
}

pub fn client_of(address: SocketAddr) -> Wire<TcpStream> {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    Wire::over(socket)
}

pub fn await_that(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE + PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Large values, and a pipeline.
pub fn round_trip<S: Read + Write>(mut client: Wire<S>, key: &str) {
    assert_eq!(client.call(&["PING"]).text(), "PONG");
    let value = "v".repeat(300_000);
    client.call(&["SET", key, &value]).expect_ok();
    assert!(client.call(&["GET", key]).text() == value);
    let pipeline: Vec<u8> = (0..500).flat_map(|_| encode(&["INCR", "count"])).collect();
    client.send_raw(&pipeline);
    let last = (0..500).map(|_| client.reply().integer()).last().unwrap();
    assert_eq!(last % 500, 0);
}

/// How a near end knows this proxy, and what it shows it.
pub fn tls_to(far: &Proxy) -> String {
    let (cert, key) = far.files_for("app");
    let shown = |name: &str| far.path(name).display().to_string();
    format!("tls = {{ ca = \"{}\", cert = \"{}\", key = \"{}\" }}", shown("ca.crt"), shown(&cert), shown(&key))
}

pub fn far(redis: &Redis) -> Proxy {
    Proxy::with(&Setup { more: ALLOW_ALL, ..Setup::before(redis) })
}
