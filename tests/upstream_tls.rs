//! Redis by TLS: Redis' own, stunnel's and a second Ravelin's; known by a CA, a pin or the system, and refused otherwise.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "patience is measured, not decided by")]

mod support;

use certs_dev::Leaf;
use ravelin::tls::pin::Pin;
use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use support::{
    far::Far,
    farside::setup,
    process::{PASSWORD, PATIENCE, Proxy, program},
    redis::Redis,
    setup::{Setup, write_secret},
};

/// What a client is told and the record says.
fn refused(proxy: &Proxy, reason: &str, said: &str) {
    let app = proxy.pki.client("app").unwrap();
    let before = proxy.records("upstream_failed").len();
    let mut client = proxy.shake(Some(&app)).unwrap();
    let told = String::from_utf8(client.rest()).unwrap();
    assert_eq!(told, "-ERR the Redis behind this proxy is unavailable\r\n");
    let record = proxy.await_that("a failure", |proxy| proxy.records("upstream_failed").get(before).cloned());
    assert_eq!(record["reason"], reason, "{record}");
    assert!(record["detail"].as_str().unwrap().contains(said), "{record}");
}

fn round_trip(proxy: &Proxy, key: &str) {
    let mut client = proxy.client();
    let value = "v".repeat(300_000);
    client.call(&["SET", key, &value]).expect_ok();
    assert!(client.call(&["GET", key]).text() == value);
    let pipeline: Vec<u8> = (0..500).flat_map(|_| support::wire::encode(&["INCR", "count"])).collect();
    client.send_raw(&pipeline);
    let last = (0..500).map(|_| client.reply().integer()).last().unwrap();
    assert_eq!(last % 500, 0);
}

#[test]
fn redis_own_tls_is_spoken_to_with_a_client_certificate_and_refuses_without() {
    let far = Far::new(&["localhost", "127.0.0.1"]);
    let Some((redis, address)) = far.redis(true) else { return };
    let address = address.to_string();
    for version in ["1.2", "1.3"] {
        let own = format!("{}, min_version = \"{version}\"", far.own());
        let proxy = Proxy::with(&setup(&address, &far.by_ca(&own)));
        round_trip(&proxy, version);
        assert_eq!(proxy.page("/readyz").0, 200);
    }
    assert_eq!(redis.calls_of("get"), 2);
    let without = Proxy::with(&setup(&address, &far.by_ca(", server_name = \"localhost\"")));
    let app = without.pki.client("app").unwrap();
    let mut client = without.shake(Some(&app)).unwrap();
    assert!(String::from_utf8(client.rest()).unwrap().starts_with("-ERR the Redis behind this proxy"));
    assert_eq!(redis.calls_of("get"), 2, "nothing got through");
}

#[test]
fn a_name_is_looked_up_and_held_against_the_certificate() {
    let far = Far::new(&["localhost"]);
    let Some((_redis, address)) = far.redis(false) else { return };
    let proxy = Proxy::with(&setup(&format!("localhost:{}", address.port()), &far.by_ca("")));
    round_trip(&proxy, "a");
    // The same server by its address, which its certificate does not have.
    let other = Proxy::with(&setup(&address.to_string(), &far.by_ca("")));
    refused(&other, "tls", "for another name");
    let named = Proxy::with(&setup(&address.to_string(), &far.by_ca(", server_name = \"localhost\"")));
    round_trip(&named, "b");
    let nowhere = Proxy::with(&setup("no-such-host.invalid:1", &far.by_ca("")));
    refused(&nowhere, "resolve", "cannot be looked up");
}

#[test]
fn a_pin_knows_a_server_whose_ca_nobody_here_trusts_and_a_reload_takes_a_new_one() {
    let far = Far::new(&["whatever.example"]);
    let Some((_redis, address)) = far.redis(false) else { return };
    let pinned = |pin: &Pin| setup(&address.to_string(), &format!(", tls = {{ pin = [\"{pin}\"] }}"));
    let (whole, key) = Pin::of(&far.issued.der);
    let (wrong, _) = Pin::of(&far.pki.server(&["whatever.example"]).unwrap().der);
    let proxy = Proxy::with(&pinned(&key.unwrap()));
    round_trip(&proxy, "a");
    let mut before = proxy.client();
    proxy.configure(&pinned(&wrong));
    assert_eq!(proxy.reload()["result"], "swapped");
    refused(&proxy, "tls", &format!("its pins are {whole}"));
    // What is open stays open.
    assert_eq!(before.call(&["PING"]).text(), "PONG");
    let (status, page) = proxy.page("/readyz");
    assert_eq!(status, 503, "{page}");
    proxy.configure(&pinned(&whole));
    proxy.reload();
    round_trip(&proxy, "b");
    // A file that cannot be used is not taken over.
    proxy.configure(&setup(&address.to_string(), ", tls = { ca = \"absent.crt\" }"));
    let kept = proxy.reload();
    assert_eq!(kept["result"], "kept");
    assert!(kept["detail"].as_str().unwrap().contains("absent.crt: cannot be read"), "{kept}");
    round_trip(&proxy, "c");
}

#[test]
fn a_redis_without_tls_on_the_port_is_told_from_one_with() {
    let far = Far::new(&["127.0.0.1"]);
    let (_redis, address) = Redis::on_loopback(PASSWORD);
    // It waits for the end of a line that never comes.
    let proxy = Proxy::with(&setup(&address.to_string(), &format!("{}, connect_timeout = \"300ms\"", far.by_ca(""))));
    refused(&proxy, "tls", "does the server speak TLS on this port?");
}

#[test]
fn check_says_what_is_in_force_and_what_is_wrong() {
    let far = Far::new(&["127.0.0.1"]);
    let Some((_redis, address)) = far.redis(true) else { return };
    let check = |upstream: &str| {
        let proxy = Proxy::with(&setup(&address.to_string(), upstream));
        let output = Command::new(program()).arg("check").arg("--config").arg(proxy.path("ravelin.toml")).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let said = check(&far.by_ca(&far.own()));
    for words in
        ["TLS 1.2 or later", "issued by", "for the name 127.0.0.1", "own.crt", "answers and takes the credential"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(said.contains("at most 128 connecting at once, 4096 waiting"), "{said}");
    let (wrong, _) = Pin::of(&far.pki.server(&["x.example"]).unwrap().der);
    let said = check(&format!(", tls = {{ pin = [\"{wrong}\"] }}"));
    assert!(said.contains("known by its pin alone (1 pinned), whatever its name"), "{said}");
    assert!(said.contains("is not one that is pinned"), "{said}");
}

/// A program that is ended with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn await_port(address: SocketAddr) {
    let start = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(start.elapsed() < PATIENCE, "nobody listens on {address}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_stunnel_before_redis_is_spoken_to() {
    let far = Far::new(&["localhost", "127.0.0.1"]);
    let redis = Redis::with_password(PASSWORD);
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!(
        "foreground = yes\npid =\nsyslog = no\n[redis]\naccept = {address}\nconnect = {}\ncert = {}\nkey = {}\nCAfile = {}\nverifyChain = yes\n",
        redis.socket().display(),
        far.shown("far.crt"),
        far.shown("far.key"),
        far.shown("far-ca.crt"),
    );
    std::fs::write(far.path("stunnel.conf"), config).unwrap();
    let child =
        Command::new("stunnel4").arg(far.path("stunnel.conf")).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let _stunnel = Program(child.unwrap_or_else(|error| panic!("stunnel4 cannot be started ({error}): install it")));
    await_port(address);
    let proxy = Proxy::with(&setup(&address.to_string(), &far.by_ca(&far.own())));
    round_trip(&proxy, "a");
    assert_eq!(redis.calls_of("get"), 1);
}

#[test]
fn a_second_ravelin_is_redis_to_the_first() {
    let redis = Redis::with_password(PASSWORD);
    let behind = Proxy::with(&Setup { more: support::twins::ALLOW_ALL, ..Setup::before(&redis) });
    let (cert, key) = behind.files_for("app");
    let tls = format!(
        ", tls = {{ ca = \"{}\", cert = \"{}\", key = \"{}\" }}",
        behind.path("ca.crt").display(),
        behind.path(&cert).display(),
        behind.path(&key).display()
    );
    let mut front = setup(&behind.address().to_string(), &tls);
    // The second proves who it is by its certificate, and has Redis' password itself.
    front.services[0].password = None;
    let front = Proxy::with(&front);
    round_trip(&front, "a");
    assert_eq!(redis.calls_of("get"), 1);
    let commands = |proxy: &Proxy| proxy.records("command").iter().filter(|record| record["cmd"] == "GET").count();
    front.await_that("both records", |front| (commands(front) == 1 && commands(&behind) == 1).then_some(()));
}

#[test]
fn the_systems_roots_are_believed_where_they_are_named() {
    let far = Far::new(&["localhost"]);
    let Some((_redis, address)) = far.redis(false) else { return };
    let address = format!("localhost:{}", address.port());
    let stranger = Proxy::with(&setup(&address, ", tls = { system_roots = true }"));
    refused(&stranger, "tls", "was not issued by a CA that is trusted here");
    // `check` in an environment whose roots are this CA.
    let said = |roots: &Path| {
        let mut command = Command::new(program());
        command.arg("check").arg("--config").arg(stranger.path("ravelin.toml")).env("SSL_CERT_FILE", roots);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let known = said(&far.path("far-ca.crt"));
    assert!(known.contains("answers and takes the credential"), "{known}");
    assert!(known.contains("issued by a CA that the system trusts, for the name localhost"), "{known}");
}

#[test]
fn a_redis_that_its_ca_revokes_is_not_connected_to_any_more() {
    let far = Far::new(&["localhost"]);
    let Some((_redis, address)) = far.redis(false) else { return };
    let list = |serials: &[&[u8]], number| far.pki.ca.crl_numbered(number, serials, (0, 7)).unwrap();
    write_secret(&far.path("far.crl"), list(&[], 1));
    let way = far.by_ca(&format!(", crl = [\"{}\"]", far.shown("far.crl")));
    let proxy = Proxy::with(&setup(&format!("localhost:{}", address.port()), &way));
    round_trip(&proxy, "a");
    let mut open = proxy.client();
    assert_eq!(open.call(&["PING"]).text(), "PONG");
    write_secret(&far.path("far.crl"), list(&[&far.issued.serial], 2));
    let record = proxy.reload();
    assert_eq!(record["result"], "swapped", "{record}");
    assert!(record["changes"].to_string().contains("upstream.tls.crl"), "{record}");
    refused(&proxy, "tls", "is revoked");
    assert_eq!(open.call(&["PING"]).text(), "PONG", "a reload leaves open connections to Redis alone");
    let page = proxy.await_that("it is not ready", |proxy| Some(proxy.page("/readyz")).filter(|page| page.0 == 503));
    assert!(page.1.contains("revoked"), "{}", page.1);
    // What is broken is not put in force, and what is over believes nobody.
    write_secret(&far.path("far.crl"), "-----BEGIN X509 CRL-----\n");
    let record = proxy.reload();
    assert_eq!(record["result"], "kept", "{record}");
    assert!(record["detail"].to_string().contains("far.crl"), "{record}");
    write_secret(&far.path("far.crl"), far.pki.ca.crl(&[], -1).unwrap());
    assert_eq!(proxy.reload()["result"], "swapped");
    refused(&proxy, "tls", "past its next update");
    assert!(proxy.log().contains("no server of that CA is believed"), "{}", proxy.log());
}

#[test]
fn what_ends_on_the_way_to_redis_is_a_metric_and_a_word_in_the_log_and_fails_the_check_once_it_is_over() {
    let far = Far::new(&["localhost"]);
    let own = |to| {
        let issued = far.pki.issue(&Leaf::client("proxy").valid_days(-5, to)).unwrap();
        write_secret(&far.path("own.crt"), &issued.chain);
        write_secret(&far.path("own.key"), &issued.key);
    };
    own(3);
    write_secret(&far.path("far.crl"), far.pki.ca.crl(&[], 2).unwrap());
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let way = far.by_ca(&format!("{}, crl = [\"{}\"]", far.own(), far.shown("far.crl")));
    let proxy = Proxy::with(&setup(&format!("localhost:{}", nobody.port()), &way));
    let ends = |word: &str| {
        let line = format!("ravelin_certificate_not_after_seconds{{certificate=\"{word}\",service=\"cache\"}}");
        proxy.metric(&line)
    };
    let own_end = ends("upstream").unwrap();
    assert!(own_end > ends("upstream_crl").unwrap() && own_end < ends("upstream_ca").unwrap());
    assert!(proxy.log().contains("the client certificate CN=proxy (upstream) expires in"), "{}", proxy.log());
    let check = || {
        let output = Command::new(program()).arg("check").arg("--config").arg(proxy.path("ravelin.toml")).output();
        let output = output.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr))
    };
    let (code, said) = check();
    assert!(code == Some(0) && said.contains("CN=proxy (upstream) expires in"), "{code:?} {said}");
    own(-1);
    let (code, said) = check();
    assert!(code == Some(3) && said.contains("CN=proxy (upstream) has expired"), "{code:?} {said}");
    assert_eq!(proxy.reload()["result"], "swapped");
    assert!(proxy.log().contains("CN=proxy (upstream) has expired"), "{}", proxy.log());
    assert!(ends("upstream").unwrap() < own_end);
    // What keeps `run` from starting is an error of `check` too.
    std::fs::remove_file(far.path("far.crl")).unwrap();
    let (code, said) = check();
    assert!(code == Some(3) && said.contains("far.crl: cannot be read"), "{code:?} {said}");
}
