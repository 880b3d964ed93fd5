//! A reload that changes where Redis is, or how it is reached: who may stay, and who goes along.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use certs_dev::Pki;
use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};
use support::{
    process::{PASSWORD, Proxy},
    redis::{Redis, Release},
    setup::{Setup, write_secret},
};

fn redis() -> Redis {
    Redis::with_password(PASSWORD)
}

/// One that an operator reloads.
fn obedient(redis: &Redis) -> Setup {
    let mut setup = Setup { admin: "socket = { path = \"admin.sock\" }", ..Setup::before(redis) };
    // It looks at Redis as in service, and more often.
    setup.services[0].upstream = ", health = { interval = \"100ms\" }";
    setup
}

#[test]
fn a_service_before_another_redis_takes_its_clients_along() {
    let (redis, other) = (redis(), redis());
    let proxy = Proxy::with(&obedient(&redis));
    let mut client = proxy.client();
    client.call(&["SET", "k", "here"]).expect_ok();
    other.connect().call(&["SET", "k", "there"]).expect_ok();
    proxy.edit(&redis.socket().display().to_string(), &other.socket().display().to_string());
    assert_eq!(proxy.ask_for_reload().0, Some(0));
    assert_eq!(client.rest(), b"");
    assert_eq!(proxy.client().call(&["GET", "k"]).text(), "there");
}

#[test]
fn a_client_stays_with_its_redis_for_as_long_as_that_is_among_the_addresses() {
    let (redis, other) = (redis(), redis());
    let proxy = Proxy::with(&obedient(&redis));
    let mut client = proxy.client();
    client.call(&["SET", "k", "here"]).expect_ok();
    let (here, there) = (redis.socket().display().to_string(), other.socket().display().to_string());
    proxy.edit(
        &format!("address = \"unix:{here}\""),
        &format!("address = \"unix:{there}\", alternatives = [\"unix:{here}\"]"),
    );
    // What shows that this very connection was asked again.
    proxy.edit("match = [{ cn = \"app\" }]", "match = [{ cn = \"app\" }]\ndeny = [\"SET\"]");
    assert_eq!(proxy.ask_for_reload().0, Some(0));
    proxy.await_that("the denial", |_| client.call(&["SET", "k", "here"]).error().map(drop));
    assert_eq!(client.call(&["GET", "k"]).text(), "here");
    other.connect().call(&["SET", "k", "there"]).expect_ok();
    assert_eq!(proxy.client().call(&["GET", "k"]).text(), "there", "new connections go to the first");
    proxy.edit(&format!(", alternatives = [\"unix:{here}\"]"), "");
    assert_eq!(proxy.ask_for_reload().0, Some(0));
    assert_eq!(client.rest(), b"");
    let close = proxy.await_record("connection_close", |record| record["reason"] == "revoked");
    assert_eq!(close["role"], "app", "{close}");
    assert!(proxy.log().contains("is no Redis of the service any more"), "{}", proxy.log());
}

#[test]
fn a_way_to_redis_that_is_to_be_encrypted_takes_along_who_came_in_plain_text_and_nobody_the_other_way_round() {
    // Redis' own TLS, which it has since 6.0, and plain text at the port beside it.
    if !Release::of_server().since(6, 0) {
        return;
    }
    let (pki, dir) = (Pki::new().unwrap(), tempfile::tempdir().unwrap());
    let issued = pki.server(&["127.0.0.1"]).unwrap();
    let at = |name| dir.path().join(name).display().to_string();
    for (name, content) in [("far.crt", &issued.chain), ("far.key", &issued.key), ("far-ca.crt", &pki.ca.cert)] {
        write_secret(&dir.path().join(name), content);
    }
    let (tls, plain) = (free_port(), free_port());
    let lines = [
        "bind 127.0.0.1".to_owned(),
        format!("port {}", plain.port()),
        format!("tls-port {}", tls.port()),
        format!("tls-cert-file {}", at("far.crt")),
        format!("tls-key-file {}", at("far.key")),
        format!("tls-ca-cert-file {}", at("far-ca.crt")),
        "tls-auth-clients no".to_owned(),
    ];
    let redis = Redis::with(&lines.each_ref().map(String::as_str), Some(PASSWORD.as_bytes()));
    // One address for both, as where Redis' port is changed from one to the other.
    let front = Front::start(plain);
    let mut setup = obedient(&redis);
    setup.services[0].address = front.address.to_string();
    let proxy = Proxy::with(&setup);
    let mut before = proxy.client();
    before.call(&["SET", "k", "in plain text"]).expect_ok();

    front.leads_to(tls);
    let given = format!("address = \"{}\"", front.address);
    let encrypted = format!("{given}, tls = {{ ca = \"{}\" }}", at("far-ca.crt"));
    proxy.edit(&given, &encrypted);
    assert_eq!(proxy.ask_for_reload().0, Some(0));
    assert_eq!(before.rest(), b"", "what it said could be read along");
    assert!(proxy.log().contains("the way to Redis is encrypted now"), "{}", proxy.log());
    let mut during = proxy.client();
    assert_eq!(during.call(&["GET", "k"]).text(), "in plain text");

    front.leads_to(plain);
    proxy.edit(&encrypted, &given);
    assert_eq!(proxy.ask_for_reload().0, Some(0));
    assert_eq!(proxy.client().call(&["GET", "k"]).text(), "in plain text");
    assert_eq!(during.call(&["GET", "k"]).text(), "in plain text", "it is better off than it need be");
    assert_eq!(proxy.records("connection_close").iter().filter(|record| record["reason"] == "revoked").count(), 1);
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// An address behind which there is another one now and then.
struct Front {
    address: SocketAddr,
    behind: Arc<Mutex<SocketAddr>>,
}

impl Front {
    fn start(behind: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, behind) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(behind)));
        let now = Arc::clone(&behind);
        thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                let Ok(far) = TcpStream::connect(*now.lock().unwrap()) else { continue };
                for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                    thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Self { address, behind }
    }

    /// For connections that come from now on.
    fn leads_to(&self, address: SocketAddr) {
        *self.behind.lock().unwrap() = address;
    }
}
