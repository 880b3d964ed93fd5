//! The near end of a tunnel: clients without TLS, mutual TLS to a Ravelin, a stunnel or Redis' own; who is at the other
//! end is known by a CA, a pin and a name, or nothing passes. And the far end for a stunnel.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "patience is measured, not decided by")]

mod support;

use certs_dev::Pki;
use ravelin::tls::pin::Pin;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use support::{
    process::{PASSWORD, PATIENCE, Proxy, program},
    redis::Redis,
    setup::{Setup, write_secret},
    twins::ALLOW_ALL,
    wire::Wire,
};

/// A program that ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running near end.
struct Near {
    program: Program,
    address: SocketAddr,
    manager: UnixDatagram,
    dir: tempfile::TempDir,
}

impl Near {
    /// `tunnels` are whole tables, without `listen` and `name`.
    fn with(tunnel: &str, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("near.toml");
        fs::write(&config, Self::text(tunnel, more)).unwrap();
        Self::start(dir, &["run".into(), "--config".into(), config.display().to_string()])
    }

    fn text(tunnel: &str, more: &str) -> String {
        format!(
            "[[tunnel]]\nname = \"near\"\nlisten = \"127.0.0.1:0\"\n{tunnel}\n[audit]\noutput = [{{ file = {{ path = \"near.jsonl\" }} }}]\n{more}"
        )
    }

    fn start(dir: tempfile::TempDir, arguments: &[String]) -> Self {
        let notify = dir.path().join("notify");
        let manager = UnixDatagram::bind(&notify).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        let child = Command::new(program())
            .args(arguments)
            .env("NOTIFY_SOCKET", &notify)
            .stdin(Stdio::null())
            .stdout(File::create(dir.path().join("stdout")).unwrap())
            .stderr(File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut near = Self { program: Program(child), address: ([127, 0, 0, 1], 0).into(), manager, dir };
        near.await_ready();
        let log = near.log();
        let told = log.split("listening on ").nth(1).unwrap_or_else(|| panic!("{log}"));
        near.address = told.split(' ').next().unwrap().parse().unwrap();
        near
    }

    fn await_ready(&self) {
        let mut said = [0; 200];
        loop {
            let length = self.manager.recv(&mut said).unwrap_or_else(|error| panic!("{error}:\n{}", self.log()));
            if said[..length].starts_with(b"READY=1") {
                return;
            }
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn reload(&self, tunnel: &str) {
        fs::write(self.dir.path().join("near.toml"), Self::text(tunnel, "")).unwrap();
        kill_process(Pid::from_child(&self.program.0), Signal::HUP).unwrap();
        self.await_ready();
    }

    fn client(&self) -> Wire<TcpStream> {
        client_of(self.address)
    }

    /// A client that is told that nobody is there.
    fn is_refused(&self) {
        let mut client = self.client();
        let told = client.rest();
        let whole = told == b"-ERR the Redis behind this proxy is unavailable\r\n";
        assert!(whole, "{}\n{:?}\n{}", told.escape_ascii(), self.records("connection_close"), self.log());
    }

    fn records(&self, event: &str) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.dir.path().join("near.jsonl")).unwrap_or_default();
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        whole.lines().map(support::books::parse).filter(|record| record["event"] == event).collect()
    }
}

fn client_of(address: SocketAddr) -> Wire<TcpStream> {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    Wire::over(socket)
}

fn await_that(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE + PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn round_trip(mut client: Wire<TcpStream>, key: &str) {
    assert_eq!(client.call(&["PING"]).text(), "PONG");
    let value = "v".repeat(300_000);
    client.call(&["SET", key, &value]).expect_ok();
    assert!(client.call(&["GET", key]).text() == value);
    let pipeline: Vec<u8> = (0..500).flat_map(|_| support::wire::encode(&["INCR", "count"])).collect();
    client.send_raw(&pipeline);
    let last = (0..500).map(|_| client.reply().integer()).last().unwrap();
    assert_eq!(last % 500, 0);
}

/// How a near end knows this proxy, and what it shows it.
fn tls_to(far: &Proxy) -> String {
    let (cert, key) = far.files_for("app");
    let shown = |name: &str| far.path(name).display().to_string();
    format!("tls = {{ ca = \"{}\", cert = \"{}\", key = \"{}\" }}", shown("ca.crt"), shown(&cert), shown(&key))
}

fn far(redis: &Redis) -> Proxy {
    Proxy::with(&Setup { more: ALLOW_ALL, ..Setup::before(redis) })
}

#[test]
fn a_client_without_tls_reaches_redis_through_two_ravelins() {
    let redis = Redis::with_password(PASSWORD);
    let far = far(&redis);
    let near = Near::with(&format!("connect = \"{}\"\n{}", far.address(), tls_to(&far)), "");
    round_trip(near.client(), "a");
    assert_eq!(redis.calls_of("get"), 1);
    await_that("records at both ends", || {
        let at_near = near.records("command").iter().any(|record| record["cmd"] == "GET");
        at_near && far.records("command").iter().any(|record| record["cmd"] == "GET" && record["identity"] == "app")
    });
    let record = &near.records("command")[0];
    assert_eq!((&record["identity"], &record["role"]), (&"anonymous".into(), &"near".into()));
    // What is no command is not let in at the near end, and says so as Redis does.
    let mut stray = near.client();
    stray.send_raw(b"*1\r\n+PING\r\n");
    assert!(String::from_utf8_lossy(&stray.rest()).starts_with("-ERR Protocol error"));
    // Plain words, as people type them.
    let mut typist = near.client();
    typist.send_raw(b"EXISTS a\r\n");
    assert_eq!(typist.reply().integer(), 1);
}

#[test]
fn flags_say_what_a_file_says() {
    let redis = Redis::with_password(PASSWORD);
    let far = far(&redis);
    let (cert, key) = far.files_for("app");
    let shown = |name: &str| far.path(name).display().to_string();
    let connect = format!("localhost:{}", far.address().port());
    let arguments = [
        "client",
        "--listen",
        "127.0.0.1:0",
        "--connect",
        &connect,
        "--ca",
        &shown("ca.crt"),
        "--cert",
        &shown(&cert),
        "--key",
        &shown(&key),
    ];
    let near = Near::start(tempfile::tempdir().unwrap(), &arguments.map(str::to_owned));
    round_trip(near.client(), "a");
    let output = Command::new(program()).args(["client", "--connect", "x:1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "nothing says how the other end is known");
}

#[test]
fn the_other_end_is_known_by_ca_pin_and_name_or_nothing_passes() {
    let redis = Redis::with_password(PASSWORD);
    let far = far(&redis);
    let (cert, key) = far.files_for("app");
    let own = format!("cert = \"{}\", key = \"{}\"", far.path(&cert).display(), far.path(&key).display());
    let server = fs::read_to_string(far.path("server.crt")).unwrap();
    let der =
        <rustls::pki_types::CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(server.as_bytes());
    let (pin, _) = Pin::of(&der.unwrap());
    let stranger = Pki::new().unwrap();
    let ca = far.path("stranger.crt");
    write_secret(&ca, &stranger.ca.cert);
    let tunnel = |tls: &str| format!("connect = \"{}\"\ntls = {{ {tls}, {own} }}", far.address());

    let near = Near::with(&tunnel(&format!("pin = [\"{pin}\"]")), "");
    round_trip(near.client(), "a");
    let mut kept = near.client();
    assert_eq!(kept.call(&["PING"]).text(), "PONG");
    // Each is put in force by a reload, and judges the next connection.
    near.reload(&tunnel(&format!("ca = \"{}\"", ca.display())));
    near.is_refused();
    near.reload(&tunnel(&format!("ca = \"{}\", server_name = \"elsewhere.example\"", far.path("ca.crt").display())));
    near.is_refused();
    near.reload(&tunnel(&format!("ca = \"{}\", server_name = \"localhost\"", far.path("ca.crt").display())));
    await_that("the other end is found again", || client_of(near.address).call(&["PING"]).text_or_empty() == "PONG");
    assert_eq!(kept.call(&["PING"]).text(), "PONG", "a reload leaves open connections alone");
    assert_eq!(near.records("upstream_failed").iter().filter(|record| record["reason"] == "tls").count(), 2);
}

#[test]
fn policy_and_password_may_stand_at_the_near_end() {
    let redis = Redis::with_password(PASSWORD);
    let far = far(&redis);
    let tunnel = format!(
        "connect = \"{}\"\n{}\nclient_auth = \"ignore\"\npolicy = {{ deny = [\"FLUSHALL\"] }}",
        far.address(),
        tls_to(&far)
    );
    let near = Near::with(&tunnel, "");
    let mut client = near.client();
    client.call(&["AUTH", "what", "ever"]).expect_ok();
    assert!(client.call(&["FLUSHALL"]).error().unwrap().starts_with("NOPERM"));
    assert_eq!(redis.calls_of("flushall"), 0);
    client.call(&["SET", "a", "1"]).expect_ok();
}

fn stunnel(dir: &Path, config: &str, address: SocketAddr) -> Program {
    let path = dir.join("stunnel.conf");
    fs::write(&path, format!("foreground = yes\npid =\nsyslog = no\n[redis]\naccept = {address}\n{config}")).unwrap();
    let child = Command::new("stunnel4").arg(path).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let child = Program(child.unwrap_or_else(|error| panic!("stunnel4 cannot be started ({error}): install it")));
    await_that("stunnel listens", || TcpStream::connect(address).is_ok());
    child
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_stunnel_is_the_other_end_of_either() {
    let redis = Redis::with_password(PASSWORD);
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new().unwrap();
    let path = |name: &str| -> PathBuf { dir.path().join(name) };
    let (server, app) = (pki.server(&["127.0.0.1"]).unwrap(), pki.client("app").unwrap());
    for (name, text) in [
        ("ca.crt", &pki.ca.cert),
        ("server.crt", &server.chain),
        ("server.key", &server.key),
        ("app.crt", &app.chain),
        ("app.key", &app.key),
        ("password", &PASSWORD.to_owned()),
    ] {
        write_secret(&path(name), text);
    }
    // The far end is stunnel: it demands the certificate, and the near end has Redis' password.
    let address = free();
    let config = format!(
        "connect = {}\ncert = {}\nkey = {}\nCAfile = {}\nverifyChain = yes\n",
        redis.socket().display(),
        path("server.crt").display(),
        path("server.key").display(),
        path("ca.crt").display()
    );
    let _far = stunnel(dir.path(), &config, address);
    let near = Near::with(
        &format!(
            "connect = \"{address}\"\npassword_file = \"{}\"\ntls = {{ ca = \"{}\", cert = \"{}\", key = \"{}\" }}",
            path("password").display(),
            path("ca.crt").display(),
            path("app.crt").display(),
            path("app.key").display()
        ),
        "",
    );
    round_trip(near.client(), "a");

    // The near end is stunnel.
    let proxy = self::far(&redis);
    let (cert, key) = proxy.files_for("app");
    let address = free();
    let config = format!(
        "client = yes\nconnect = {}\ncert = {}\nkey = {}\nCAfile = {}\nverifyChain = yes\ncheckHost = localhost\n",
        proxy.address(),
        proxy.path(&cert).display(),
        proxy.path(&key).display(),
        proxy.path("ca.crt").display()
    );
    let other = tempfile::tempdir().unwrap();
    let _near = stunnel(other.path(), &config, address);
    round_trip(client_of(address), "b");
}

#[test]
fn a_replica_follows_its_master_through_the_tunnel() {
    let redis = Redis::with_password(PASSWORD);
    let far = far(&redis);
    let near = Near::with(&format!("connect = \"{}\"\n{}", far.address(), tls_to(&far)), "");
    let replica = Redis::start();
    let mut master = redis.connect();
    master.call(&["SET", "a", "1"]).expect_ok();
    let port = near.address.port().to_string();
    replica.connect().call(&["REPLICAOF", "127.0.0.1", &port]).expect_ok();
    let mut there = replica.connect();
    await_that("the replica has it", || there.call(&["GET", "a"]).text_or_empty() == "1");
    master.call(&["SET", "b", "2"]).expect_ok();
    await_that("it follows", || there.call(&["GET", "b"]).text_or_empty() == "2");
}

#[test]
fn what_is_no_tunnel_is_said_at_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("x.toml");
    let check = |text: &str| {
        fs::write(&config, text).unwrap();
        let output = Command::new(program()).arg("check").arg("--config").arg(&config).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{text}");
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
    };
    let whole = "[[tunnel]]\nname = \"t\"\nlisten = \"127.0.0.1:6379\"\nconnect = \"x.example:6380\"\ntls = { system_roots = true }\n";
    for (change, with, said) in [
        ("127.0.0.1:6379", "0.0.0.0:6379", "can be reached from other hosts, in plain text"),
        ("listen = \"127.0.0.1:6379\"\n", "", "listen"),
        ("connect = \"x.example:6380\"\n", "", "connect"),
        ("tls = { system_roots = true }\n", "", "say how the other end is known"),
        ("system_roots = true", "", "say how the server is known"),
        ("name = \"t\"\n", "name = \"t\"\nclient_auth = \"verify\"\n", "a tunnel looks no passwords up"),
    ] {
        let text = check(&whole.replace(change, with));
        assert!(text.contains(said), "{change:?} → {with:?}: {text}");
    }
    let twice = check(&format!("{whole}{whole}"));
    assert!(twice.contains("another service or tunnel is called \"t\""), "{twice}");
    assert!(twice.contains("is taken by another listener"), "{twice}");
}
