//! The near end of a tunnel: clients without TLS, mutual TLS to a Ravelin, a stunnel or Redis' own; who is at the other
//! end is known by a CA, a pin and a name, or nothing passes. And the far end for a stunnel.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use certs_dev::Pki;
use ravelin::tls::pin::Pin;
use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use support::{
    far::Far,
    near::{Near, Program, await_that, client_of, far, round_trip, tls_to},
    process::{PASSWORD, Proxy, program},
    redis::Redis,
    setup::write_secret,
};

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
    let near = Near::by_flags(&far, &["--listen", "127.0.0.1:0"]);
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

#[test]
fn redis_own_tls_is_the_other_end_known_by_a_ca_or_by_the_systems_roots() {
    let far = Far::new(&["localhost"]);
    // It asks for a certificate, and for a password, which no client sees.
    let Some((redis, address)) = far.redis(true) else { return };
    write_secret(&far.path("password"), PASSWORD);
    let tunnel = |trust: &str| {
        format!(
            "connect = \"localhost:{}\"\npassword_file = \"{}\"\ntls = {{ {trust}{} }}",
            address.port(),
            far.shown("password"),
            far.own()
        )
    };
    let by_ca = Near::with(&tunnel(&format!("ca = \"{}\"", far.shown("far-ca.crt"))), "");
    round_trip(by_ca.client(), "a");
    let (roots, stranger) = (far.path("far-ca.crt"), far.path("stranger.crt"));
    write_secret(&stranger, &Pki::new().unwrap().ca.cert);
    let by_system = |roots: &Path| {
        let listen = "listen = \"127.0.0.1:0\"";
        Near::in_environment(listen, &tunnel("system_roots = true"), "", &[("SSL_CERT_FILE", roots)])
    };
    round_trip(by_system(&roots).client(), "b");
    assert_eq!(redis.calls_of("get"), 2);
    let other = by_system(&stranger);
    other.is_refused();
    await_that("it is said why", || {
        let records = other.records("upstream_failed");
        let said = |record: &serde_json::Value| record["detail"].as_str().unwrap().contains("not issued by a CA");
        records.iter().any(|record| record["reason"] == "tls" && said(record))
    });
    assert_eq!(redis.calls_of("get"), 2, "nothing got through");
}

#[test]
fn several_tunnels_stand_in_one_file_each_with_its_own_end_and_one_has_another_to_go_to() {
    let (one, two) = (Redis::with_password(PASSWORD), Redis::with_password(PASSWORD));
    let fars = [far(&one), far(&two)];
    let [first, second] = &fars;
    let gone = free();
    let all = |first: &Proxy, second: &Proxy| {
        let (own, other) = (tls_to(first), tls_to(second));
        let looks = "health = { interval = \"100ms\" }";
        format!(
            "connect = \"{}\"\n{own}\n[[tunnel]]\nname = \"two\"\nlisten = \"127.0.0.1:0\"\nconnect = \"{gone}\"\n\
             alternatives = [\"{}\"]\nconnect_timeout = \"10s\"\n{looks}\n{other}",
            first.address(),
            second.address()
        )
    };
    let admin = "events = \"denied\"\n[admin]\naddress = \"127.0.0.1:0\"";
    let near = Near::with(&all(first, second), admin);
    let places = near.places();
    assert_eq!(places.len(), 2, "{}", near.log());
    for (at, place) in places.iter().enumerate() {
        let mut client = client_of(place.parse().unwrap());
        client.call(&["SET", "which", &at.to_string()]).expect_ok();
        assert!(client.call(&["AUTH", "a", "b"]).error().is_some());
    }
    assert_eq!(one.connect().call(&["GET", "which"]).text(), "0");
    assert_eq!(two.connect().call(&["GET", "which"]).text(), "1");
    // The other end has the records of commands, and this one what is denied; each has its figures.
    await_that("the denials", || near.records("command").len() == 2);
    assert!(near.records("command").iter().all(|record| record["verdict"] == "deny"), "{}", near.audit_text());
    for service in ["near", "two"] {
        let figures = [
            format!("ravelin_upstream_up{{service=\"{service}\"}} 1"),
            format!("certificate=\"upstream\",service=\"{service}\""),
        ];
        await_that("its figures", || {
            let page = near.page("/metrics");
            figures.iter().all(|figure| page.contains(figure))
        });
    }
}

#[test]
fn the_password_of_a_redis_at_the_other_end_comes_from_wherever_a_services_does() {
    let far = Far::new(&["localhost"]);
    let Some((redis, address)) = far.redis(false) else { return };
    write_secret(&far.path("right"), PASSWORD);
    write_secret(&far.path("wrong"), "wrong");
    let shown = |name: &str| far.shown(name);
    let folder = far.path("right").parent().unwrap().to_owned();
    let tunnel = |password: &str| {
        format!("connect = \"localhost:{}\"\ntls = {{ ca = \"{}\" }}\n{password}", address.port(), shown("far-ca.crt"))
    };
    for (round, password) in [
        format!("password_command = {{ run = [\"/bin/cat\", \"{}\"] }}", shown("right")),
        "password_credential = \"right\"".to_owned(),
        "password_env = \"WORD\"".to_owned(),
        // The one that Redis has is not here yet, and the next one is there already.
        format!("password_file = \"{}\"\nnext_password_file = \"{}\"", shown("wrong"), shown("right")),
    ]
    .iter()
    .enumerate()
    {
        let listen = "listen = \"127.0.0.1:0\"";
        let variables = [("CREDENTIALS_DIRECTORY", folder.as_path()), ("WORD", Path::new(PASSWORD))];
        let near = Near::in_environment(listen, &tunnel(password), "", &variables);
        near.client().call(&["SET", "round", &round.to_string()]).expect_ok();
        assert_eq!(redis.connect().call(&["GET", "round"]).text(), round.to_string(), "{password}");
    }
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
fn a_self_signed_certificate_is_pinned_and_its_renewal_with_the_same_key_is_known_by_that_key() {
    let redis = Redis::with_password(PASSWORD);
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let openssl = |words: &[&str]| {
        let made = Command::new("openssl").args(words).current_dir(dir.path()).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    };
    // As people make one for stunnel.
    openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "far.key"]);
    let issue = || openssl(&["req", "-x509", "-key", "far.key", "-subj", "/CN=far", "-days", "9", "-out", "far.crt"]);
    let pins = || {
        let text = fs::read(path("far.crt")).unwrap();
        let der = <rustls::pki_types::CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(&text);
        let (whole, key) = Pin::of(&der.unwrap());
        (whole.to_string(), key.unwrap().to_string())
    };
    let address = free();
    let served =
        format!("connect = {}\ncert = {}\nkey = {}\n", redis.socket().display(), path("far.crt"), path("far.key"));
    write_secret(&dir.path().join("password"), PASSWORD);
    let tunnel = |pin: &str| {
        format!("connect = \"{address}\"\npassword_file = \"{}\"\ntls = {{ pin = [\"{pin}\"] }}", path("password"))
    };
    issue();
    let (whole, key) = pins();
    let far = stunnel(dir.path(), &served, address);
    let near = Near::with(&tunnel(&whole), "");
    round_trip(near.client(), "a");
    drop(far);
    issue();
    assert_ne!(pins().0, whole, "another certificate");
    assert_eq!(pins().1, key, "of the same key");
    let _far = stunnel(dir.path(), &served, address);
    near.is_refused();
    await_that("it is said which one is shown", || {
        let records = near.records("upstream_failed");
        records.iter().any(|record| record["detail"].as_str().unwrap().contains(&pins().0))
    });
    near.reload(&tunnel(&key));
    await_that("it is known by its key", || client_of(near.address).call(&["PING"]).text_or_empty() == "PONG");
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
        ("name = \"t\"\n", "name = \"t\"\nnext_password_file = \"x\"\n", "none to begin with"),
        ("system_roots = true", "pin = [\"sha256//AAAA\"]", "pin"),
        ("system_roots = true", "ca = \"x\", crl = [\"gone.crl\"]", "cannot be read"),
    ] {
        let text = check(&whole.replace(change, with));
        assert!(text.contains(said), "{change:?} → {with:?}: {text}");
    }
    let twice = check(&format!("{whole}{whole}"));
    assert!(twice.contains("another service or tunnel is called \"t\""), "{twice}");
    assert!(twice.contains("is taken by another listener"), "{twice}");
}
