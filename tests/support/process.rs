//! The real program in front of a real Redis, with a PKI of its own, ended by its process id when dropped.

#![allow(clippy::disallowed_methods, reason = "patience is measured, not decided by")]
#![allow(clippy::print_stderr, reason = "what a failed test's proxy said must be seen")]

use super::{
    books,
    redis::Redis,
    setup::{Setup, write_secret},
};
use certs_dev::Pki;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use serde_json::Value;
use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// No test waits longer for anything; one that has to has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A password no file format, shell or protocol likes: nothing a client, a log or a record may ever show.
pub const PASSWORD: &str = "correct horse \"battery\" 'staple' \\#%";

/// The program under test: the one that was built with the tests, or what `RAVELIN_BIN` names instead.
pub fn program() -> OsString {
    env::var_os("RAVELIN_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_ravelin").into())
}

/// A running `ravelin run`.
pub struct Proxy {
    child: Child,
    /// Where each service listens, in the order of the setup.
    pub addresses: Vec<SocketAddr>,
    /// Where the admin endpoint is.
    pub admin: SocketAddr,
    pub pki: Pki,
    setup: Setup,
    /// How often it was started; the stream holds them all.
    starts: usize,
    // Last: removed after the process is gone.
    dir: TempDir,
}

impl Proxy {
    /// In front of `redis`, for clients whose certificate says `app`.
    pub fn start(redis: &Redis) -> Self {
        Self::with(&Setup::before(redis))
    }

    /// With a setup of one's own.
    ///
    /// # Panics
    /// If it does not say that it is ready; the message holds its log.
    pub fn with(setup: &Setup) -> Self {
        let dir = tempfile::Builder::new().prefix("ravelin-").tempdir().unwrap();
        let at = |name| dir.path().join(name);
        let pki = Pki::new().unwrap();
        let server = pki.server(&["localhost", "127.0.0.1"]).unwrap();
        write_secret(&at("server.crt"), &server.chain);
        write_secret(&at("server.key"), &server.key);
        write_secret(&at("ca.crt"), &pki.ca.cert);
        if setup.disk_full {
            std::os::unix::fs::symlink("/dev/full", at("audit.jsonl")).unwrap();
        }
        (setup.before)(dir.path());
        setup.write(dir.path());
        let child = Self::launch(setup, dir.path());
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let setup = setup.clone();
        let mut proxy = Self { child, addresses: Vec::new(), admin: nowhere, pki, setup, starts: 1, dir };
        proxy.addresses = proxy.told("listening on ");
        proxy.admin = proxy.told("admin endpoint on ").pop().expect("an admin endpoint");
        assert_eq!(proxy.addresses.len(), proxy.setup.services.len());
        proxy
    }

    /// Runs the program on what stands in this directory, and waits until it says that it is ready.
    fn launch(setup: &Setup, dir: &Path) -> Child {
        let notify = dir.join("notify");
        // That of an earlier start.
        let _ = fs::remove_file(&notify);
        let manager = UnixDatagram::bind(&notify).unwrap();
        manager.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut limits = setup.files.map_or_else(String::new, |files| format!("ulimit -n {files}; "));
        if setup.file_kib.is_some() {
            // Or the signal ends the process; ignored, the write fails.
            limits.push_str("trap '' XFSZ; ");
        }
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(format!("{limits}exec \"$0\" run --config \"$1\""))
            .arg(program())
            .arg(dir.join("ravelin.toml"))
            .env("NOTIFY_SOCKET", &notify)
            .envs(setup.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(File::create(dir.join("stdout")).unwrap())
            .stderr(File::create(dir.join("log")).unwrap())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while manager.recv(&mut [0; 64]).is_err() {
            if let Some(status) = child.try_wait().unwrap() {
                let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
                panic!("ravelin ended at once: {status}\n{log}");
            }
            assert!(start.elapsed() < PATIENCE, "ravelin is not ready");
        }
        if let Some(kib) = setup.file_kib {
            set_file_size(&child, Some(kib * 1024));
        }
        child
    }

    /// kill -9, and the same program again: on the same ports, with the same files.
    pub fn kill_and_start_again(&mut self) {
        self.signal(Signal::KILL);
        assert!(!self.await_end().success());
        let path = self.path("ravelin.toml");
        let mut text = fs::read_to_string(&path).unwrap();
        for address in &self.addresses {
            text = text.replacen("{ address = \"127.0.0.1:0\"", &format!("{{ address = \"{address}\""), 1);
        }
        fs::write(path, text).unwrap();
        self.starts += 1;
        self.child = Self::launch(&self.setup, self.dir.path());
        assert_eq!(self.told("listening on "), self.addresses);
        self.admin = self.told("admin endpoint on ").pop().expect("an admin endpoint");
    }

    /// Makes room on its disk again.
    pub fn make_room(&self) {
        set_file_size(&self.child, None);
    }

    /// The addresses that the log, text or JSON, names behind these words.
    fn told(&self, words: &str) -> Vec<SocketAddr> {
        let is_address = |c: char| c.is_ascii_digit() || c == '.' || c == ':';
        self.log()
            .lines()
            .filter_map(|line| line.split(words).nth(1))
            .map(|rest| rest.chars().take_while(|c| is_address(*c)).collect::<String>().parse().unwrap())
            .collect()
    }

    /// Where the first service listens.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Writes another configuration; [`Proxy::reload`] puts it in force.
    pub fn configure(&self, setup: &Setup) {
        setup.write(self.dir.path());
    }

    /// A configuration as text.
    pub fn configuration(&self) -> String {
        fs::read_to_string(self.path("ravelin.toml")).unwrap()
    }

    /// Changes the text of the configuration.
    pub fn edit(&self, from: &str, to: &str) {
        let text = self.configuration();
        assert!(text.contains(from), "{from} is not in {text}");
        fs::write(self.path("ravelin.toml"), text.replace(from, to)).unwrap();
    }

    /// `ravelin reload` over the admin socket `admin.sock`: exit code, standard output, standard error.
    pub fn ask_for_reload(&self) -> (Option<i32>, String, String) {
        let output =
            Command::new(program()).arg("reload").arg("--socket").arg(self.path("admin.sock")).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// Holds that a file of records with checkpoints proves itself, from its first line on.
    pub fn verify(&self, file: &str) {
        let verify = Command::new(program()).args(["audit", "verify", "--from-start"]).arg(self.path(file)).output();
        let verify = verify.unwrap();
        let said = String::from_utf8_lossy(&verify.stdout).into_owned() + &String::from_utf8_lossy(&verify.stderr);
        assert!(verify.status.success(), "{said}");
    }

    /// One line of the metrics: its value.
    pub fn metric(&self, line: &str) -> Option<f64> {
        let (_, text) = self.page("/metrics");
        text.lines().find_map(|each| each.strip_prefix(line)?.trim().parse().ok())
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
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGHUP, and its record.
    pub fn reload(&self) -> Value {
        let before = self.records("reload").len();
        self.signal(Signal::HUP);
        self.await_that("a reload record", |proxy| proxy.records("reload").get(before).cloned())
    }

    /// SIGTERM, and how it ended.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.await_end()
    }

    /// How it ended.
    pub fn await_end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE + PATIENCE, "ravelin does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The whole lines of the audit stream so far.
    pub fn audit_text(&self) -> String {
        let path = self.path(if self.setup.to_stdout { "stdout" } else { "audit.jsonl" });
        // A device that stands for a full disk has no end.
        if !path.is_file() {
            return String::new();
        }
        let mut text = fs::read_to_string(path).unwrap_or_default();
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        text
    }

    /// The records so far.
    ///
    /// # Panics
    /// If one is not JSON.
    pub fn audit(&self) -> Vec<Value> {
        self.audit_text().lines().map(books::parse).collect()
    }

    /// The records of one event so far.
    pub fn records(&self, event: &str) -> Vec<Value> {
        let marked = format!("\"event\":\"{event}\"");
        self.audit_text().lines().filter(|line| line.contains(&marked)).map(books::parse).collect()
    }

    /// Waits for a record of this event for which `is` holds.
    pub fn await_record(&self, event: &str, is: impl Fn(&Value) -> bool) -> Value {
        self.await_that(&format!("a record `{event}`"), |proxy| {
            proxy.records(event).into_iter().find(|record| is(record))
        })
    }

    /// Looks until there is something to return.
    ///
    /// # Panics
    /// If that takes too long.
    pub fn await_that<T>(&self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "{what} did not come");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// One GET of the admin endpoint: status and body.
    pub fn page(&self, path: &str) -> (u16, String) {
        let mut socket = TcpStream::connect(self.admin).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        (status, text.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.child.kill();
        let clean = self.child.wait().is_ok_and(|status| status.success());
        if thread::panicking() {
            eprintln!(
                "the log of {}:\n{}its audit stream:\n{}",
                self.dir.path().display(),
                self.log(),
                self.audit_text()
            );
            return;
        }
        // A file that was moved away took the first lines with it.
        let whole = !self.path("audit.old").exists();
        let text = self.audit_text();
        if self.starts == 1 {
            return books::check(&text, whole, whole && clean);
        }
        let lives = books::lives(&text);
        assert_eq!(lives.len(), self.starts, "each start has its line");
        for (number, life) in lives.iter().enumerate() {
            books::check(life, true, clean && number + 1 == lives.len());
        }
    }
}

/// Most bytes of a file that this process may write from now on.
fn set_file_size(child: &Child, bytes: Option<u64>) {
    let pid = Some(Pid::from_child(child));
    let maximum = getrlimit(Resource::Fsize).maximum;
    let _ = prlimit(pid, Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).unwrap();
}
