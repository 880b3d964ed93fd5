//! Where two runs of one script meet: a Redis, a Ravelin before it, and the transcripts of both ways held together.

#![allow(clippy::print_stdout, reason = "tests/clients.sh makes its table of these rows")]
#![allow(unreachable_pub, reason = "each test binary is a crate of its own")]

use super::support::{
    process::{self, PASSWORD, Proxy},
    redis::{Redis, Release},
    setup::{Service, Setup},
    wire::Reply,
};
use ravelin::policy::presets::PRESETS;
use rustix::process::Signal;
use serde_json::Value;
use std::{
    env,
    fs::{self, File},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

/// The folder that tests/clients.sh has filled: `venv` and `node_modules`.
pub const LIBRARIES: &str = "RAVELIN_CLIENT_LIBRARIES";

/// What clients call themselves where their configuration has a name and a password.
const USERNAME: &str = "guest";
const CLIENT_PASSWORD: &str = "a client's own \"password\"";

/// What is not the same on both ways, and why: a text of the direct way, and how the proxied way has it. Closed: there
/// is no other difference.
const NORMALISERS: &[(&str, &str, &str)] = &[(
    "User guest has no permissions to run the '",
    "this user has no permissions to run the '",
    "denials: Ravelin says what Redis said before 7.2, which has no user name a client could know",
)];

/// One client program or library.
#[derive(Clone, Copy)]
pub struct Guest {
    /// Its script, below `tests/clients`.
    pub script: &'static str,
    /// Further words for it.
    pub words: &'static [&'static str],
    /// 2 or 3.
    pub protocol: u8,
}

/// A way to Redis.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To Redis itself in plain TCP, as a user whose rights are those of the service of this number.
    Direct(usize),
    /// Through the service of this number: 0 has the default policy, 1 what [`Ground::OPEN`] leaves.
    Proxied(usize),
}

/// A process, ended when dropped.
struct Second(Child);

impl Drop for Second {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A Redis with a password, and a Ravelin before it with two doors.
pub struct Ground {
    pub redis: Redis,
    address: SocketAddr,
    pub proxy: Proxy,
}

impl Ground {
    /// The default policy denies these, the second door allows them: scripts, client side caches, and the addresses of
    /// clients, which RQ's workers ask for.
    const OPEN: &[&str] = &["EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "SCRIPT", "CLIENT|TRACKING", "CLIENT|LIST"];

    pub fn start() -> Self {
        // Before there were users, an error could show the password that the direct client says and the other does not.
        let (redis, address) =
            if Release::of_server().since(6, 0) { Redis::on_loopback(PASSWORD) } else { Redis::open_on_loopback() };
        let mut setup = Setup { limits: "drain_timeout = \"1s\"", ..Setup::before(&redis) };
        let list: Vec<String> =
            hardened().filter(|each| !Self::OPEN.contains(each)).map(|each| format!("{each:?}")).collect();
        let mut open = Service::before("open", &redis);
        open.upstream = ", client_auth = \"ignore\"";
        open.lines = String::leak(format!("[service.policy]\ndeny = [{}]", list.join(", ")));
        setup.services.push(open);
        let proxy = Proxy::with(&setup);
        let ground = Self { redis, address, proxy };
        ground.make_users();
        ground
    }

    /// The user of the direct way may do what the default policy leaves, where a server has users with rights that fine.
    fn make_users(&self) {
        if !Release::of_server().since(6, 0) {
            return;
        }
        let mut wire = self.redis.connect();
        let password = format!(">{CLIENT_PASSWORD}");
        let pubsub = if Release::of_server().since(6, 2) { "&*" } else { "+@all" };
        wire.call(&["ACL", "SETUSER", USERNAME, "on", &password, "~*", pubsub, "+@all"]).expect_ok();
    }

    /// Takes from that user what the service denies. What this server does not have it cannot take.
    fn bound(&self, service: usize) {
        if !Release::of_server().since(6, 0) {
            return;
        }
        let mut wire = self.redis.connect();
        wire.call(&["ACL", "SETUSER", USERNAME, "+@all"]).expect_ok();
        for denied in hardened().filter(|each| service == 0 || !Self::OPEN.contains(each)) {
            let _ = wire.call(&["ACL", "SETUSER", USERNAME, &format!("-{}", denied.to_ascii_lowercase())]);
        }
    }

    /// As if nobody had been there.
    pub fn empty(&self) {
        let mut wire = self.redis.connect();
        wire.call(&["FLUSHALL"]).expect_ok();
        wire.call(&["SCRIPT", "FLUSH"]).expect_ok();
    }

    /// A connection of the crate `redis` to Redis itself, with what the default policy leaves.
    pub fn direct_library(&self, query: &str) -> redis::Connection {
        self.bound(0);
        let mut client = redis::Client::open(format!("redis://{}/{query}", self.address)).unwrap();
        if Release::of_server().since(6, 0) {
            let info = client.get_connection_info().clone();
            let settings = info.redis_settings().clone().set_username(USERNAME).set_password(CLIENT_PASSWORD);
            client = redis::Client::open(info.set_redis_settings(settings)).unwrap();
        }
        client.get_connection().unwrap()
    }

    /// What the client writes down of these sections.
    pub fn transcript(&self, guest: Guest, way: Way, sections: &[&str], credentials: bool) -> Vec<Value> {
        self.empty();
        let mut command = guest.command();
        let with = |command: &mut Command, name: &str, value: &str| {
            command.args([name, value]);
        };
        with(&mut command, "--protocol", &guest.protocol.to_string());
        with(&mut command, "--sections", &sections.join(","));
        with(&mut command, "--admin-port", &self.address.port().to_string());
        with(&mut command, "--admin-password", if self.redis.password().is_some() { PASSWORD } else { "" });
        match way {
            Way::Direct(service) => {
                self.bound(service);
                with(&mut command, "--port", &self.address.port().to_string());
                if Release::of_server().since(6, 0) {
                    with(&mut command, "--username", USERNAME);
                    with(&mut command, "--password", CLIENT_PASSWORD);
                }
            }
            Way::Proxied(service) => {
                let (cert, key) = self.proxy.files_for("app");
                with(&mut command, "--port", &self.proxy.addresses[service].port().to_string());
                with(&mut command, "--ca", self.proxy.path("ca.crt").to_str().unwrap());
                with(&mut command, "--cert", self.proxy.path(&cert).to_str().unwrap());
                with(&mut command, "--key", self.proxy.path(&key).to_str().unwrap());
                if credentials {
                    with(&mut command, "--username", USERNAME);
                    with(&mut command, "--password", CLIENT_PASSWORD);
                }
            }
        }
        let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| {
            panic!("{command:?} cannot be started ({error}): tests/clients.sh gets what it needs")
        });
        let text = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} ended with {}:\n{said}\nafter:\n{text}", guest.script, output.status);
        // Some say that a server is old.
        let complains = Release::of_server().since(7, 0) && !said.trim().is_empty();
        assert!(!complains, "{} complains:\n{said}", guest.script);
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}")))
            .collect();
        let last = lines.last().expect("a transcript");
        assert_eq!(last["step"], "end", "{} did not come to its end:\n{text}", guest.script);
        assert_eq!(last["sections"].as_array().map(Vec::len), Some(sections.len()), "{last}");
        lines
    }

    /// Panics unless both ways give the same transcript of these sections, of at least so many lines.
    pub fn same(&self, guest: Guest, service: usize, sections: &[&str], floor: usize) -> Vec<Value> {
        let direct = self.transcript(guest, Way::Direct(service), sections, true);
        let proxied = self.transcript(guest, Way::Proxied(service), sections, service == 1);
        for (number, (one, other)) in direct.iter().zip(&proxied).enumerate() {
            let (one, other) = (normalised(one), other.to_string());
            assert_eq!(other, one, "line {number} of {}, through Ravelin (left) and directly", guest.script);
        }
        assert_eq!(proxied.len(), direct.len(), "{}", guest.script);
        // An old server lacks much; there it is enough that both ways say so alike.
        if Release::of_server().since(7, 0) {
            let unexpected: Vec<&Value> = proxied.iter().filter(|line| !line["unexpected"].is_null()).collect();
            assert!(unexpected.is_empty(), "{}: {unexpected:?}", guest.script);
            assert!(proxied.len() >= floor, "{} wrote only {} lines", guest.script, proxied.len());
        }
        guest.row(&proxied, sections, "the same as directly");
        self.check_records();
        proxied
    }

    /// Panics unless a client finds its way back alike when Redis closes its connections and when Ravelin is ended and
    /// started again. The script asks for it by an element of a list.
    pub fn restarts(&self, guest: Guest, floor: usize) {
        let asked = || {
            let mut wire = self.redis.connect();
            self.proxy.await_that("a wish for a restart", |_| {
                let found = wire.call(&["LPOP", "restart:asked"]);
                (found != Reply::Null).then_some(())
            });
            wire
        };
        let sections = ["restart"];
        let direct = thread::scope(|scope| {
            scope.spawn(|| {
                let mut wire = asked();
                wire.call(&["CLIENT", "KILL", "USER", USERNAME]);
                wire.call(&["RPUSH", "restart:done", "now"]);
            });
            self.transcript(guest, Way::Direct(0), &sections, true)
        });
        let (proxied, second) = thread::scope(|scope| {
            let second = scope.spawn(|| {
                let mut wire = asked();
                self.proxy.signal(Signal::TERM);
                self.proxy.await_record("stop", |_| true);
                let second = self.second();
                wire.call(&["RPUSH", "restart:done", "now"]);
                second
            });
            (self.transcript(guest, Way::Proxied(0), &sections, false), second.join().unwrap())
        });
        drop(second);
        assert_eq!(proxied, direct, "after a restart of Ravelin (left) and of its connections to Redis itself");
        assert!(proxied.len() >= floor, "{} wrote only {} lines", guest.script, proxied.len());
        guest.row(&proxied, &sections, "the same as directly");
    }

    /// Another process in the place of the first, with its certificates and ports.
    fn second(&self) -> Second {
        let mut text = fs::read_to_string(self.proxy.path("ravelin.toml")).unwrap();
        for address in &self.proxy.addresses {
            text = text.replacen("127.0.0.1:0\"", &format!("{address}\""), 1);
        }
        let config = self.proxy.path("second.toml");
        fs::write(&config, text.replace("audit.jsonl", "second.jsonl")).unwrap();
        let log = File::create(self.proxy.path("second.log")).unwrap();
        let mut command = Command::new(process::program());
        command.arg("run").arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let second = Second(command.spawn().unwrap());
        self.proxy.await_that("the second process", |proxy| TcpStream::connect(proxy.address()).ok());
        second
    }

    /// No connection ended because replies could not be told apart, none was without its password.
    pub fn check_records(&self) {
        self.proxy.await_record("connection_close", |_| true);
        let ends = self.proxy.records("connection_close");
        let drifted: Vec<&Value> = ends.iter().filter(|end| end["reason"] == "desync").collect();
        assert!(drifted.is_empty(), "{drifted:?}");
        assert_eq!(self.proxy.records("alarm"), Vec::<Value>::new());
    }
}

impl Guest {
    /// The program that runs the script. A client that hangs is ended, and its status says so.
    fn command(self) -> Command {
        let libraries = libraries();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(self.script);
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "120"]);
        if self.script.ends_with(".py") {
            command.arg(libraries.join("venv/bin/python")).arg("-B");
        } else {
            command.arg("node").env("NODE_PATH", libraries.join("node_modules"));
        }
        // What the user has set for clients of his own.
        for name in ["REDISCLI_AUTH", "REDISCLI_RCFILE", "PYTHONPATH", "NODE_OPTIONS", "DEBUG", "REDIS_URL"] {
            command.env_remove(name);
        }
        command.arg(script).args(self.words);
        command
    }

    /// Tells tests/clients.sh why there is nothing to do.
    pub fn without(self, reason: &str) {
        println!("row\t{}\t-\tRESP{}\t-\t0\t{reason}", self.script, self.protocol);
    }

    /// Tells tests/clients.sh what has passed.
    pub fn row(self, lines: &[Value], sections: &[&str], result: &str) {
        let head = &lines[0];
        let text = |key: &str| head[key].as_str().unwrap_or("?").to_owned();
        let sections = if sections.contains(&"handshake") { "everyday" } else { &sections.join(" ") };
        // Neither the head nor the end is a step.
        let steps = lines.len() - 2;
        println!("row\t{}\t{}\tRESP{}\t{sections}\t{steps}\t{result}", text("client"), text("version"), self.protocol);
    }
}

/// Where the libraries are.
fn libraries() -> PathBuf {
    let folder = env::var_os(LIBRARIES).unwrap_or_else(|| panic!("{LIBRARIES} is not set: run tests/clients.sh"));
    PathBuf::from(folder)
}

/// What the default policy denies, command by command.
fn hardened() -> impl Iterator<Item = &'static str> {
    PRESETS
        .iter()
        .filter(|preset| preset.name == "hardened")
        .flat_map(|preset| preset.deny)
        .flat_map(|group| group.commands.iter().copied())
}

/// A line of the direct way as the proxied way would have it.
fn normalised(line: &Value) -> String {
    normalised_text(&line.to_string())
}

/// A text likewise.
pub fn normalised_text(text: &str) -> String {
    let mut text = text.to_owned();
    for (direct, proxied, _) in NORMALISERS {
        text = text.replace(direct, proxied);
    }
    text
}

/// The step called `name`; there must be one.
pub fn step<'a>(lines: &'a [Value], name: &str) -> &'a Value {
    lines.iter().find(|line| line["step"] == name).unwrap_or_else(|| panic!("no step {name} in {lines:#?}"))
}

/// Panics unless each of these steps ended in an error whose text contains the words; a bar stands between those of
/// which one is enough.
pub fn expect_errors(lines: &[Value], expected: &[(&str, &str)]) {
    for (name, words) in expected {
        let line = step(lines, name);
        let text = line["text"].as_str().unwrap_or_default();
        assert!(
            !line["error"].is_null() && words.split('|').any(|words| text.contains(words)),
            "expected an error with {words:?}: {line}"
        );
    }
}
