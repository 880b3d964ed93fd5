//! What a proxy takes of the machine, before a misfortune and after it.

#![allow(clippy::disallowed_methods, reason = "patience is measured, not decided by")]

use super::{
    process::{PATIENCE, Proxy},
    redis::Redis,
    setup::Setup,
};
use std::{
    fs, thread,
    time::{Duration, Instant},
};

/// Open files, resident memory, connections that its own gauges count, and Redis' clients.
#[derive(Clone, Debug)]
pub struct Footprint {
    files: usize,
    resident_kib: u64,
    connections: u64,
}

/// What an allocator may keep of the busy moments, and code that is paged in meanwhile.
const SLACK_KIB: u64 = 16 * 1024;

impl Footprint {
    /// As it is now.
    pub fn of(proxy: &Proxy) -> Self {
        let status = fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        let files = fs::read_dir(format!("/proc/{}/fd", proxy.pid())).unwrap();
        Self {
            files: files.count(),
            resident_kib: resident.trim().trim_end_matches(" kB").parse().unwrap(),
            connections: gauge(proxy, "ravelin_connections"),
        }
    }

    /// Waits until no more is taken than this, and until Redis has no client but whoever asks.
    ///
    /// # Panics
    /// If that does not happen.
    pub fn await_return(&self, proxy: &Proxy, redis: &Redis) {
        let start = Instant::now();
        loop {
            let (now, clients) = (Self::of(proxy), clients(redis));
            let back =
                now.files <= self.files && now.connections <= self.connections && clients <= self.connections + 1;
            if back && now.resident_kib <= self.resident_kib + SLACK_KIB {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{now:?} is more than {self:?}; {clients} clients of Redis");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A proxy before it that has served somebody, so that what is made once is made, and what it takes then. It looks at Redis by
/// itself, as it does in service, and more often.
pub fn settled(setup: &Setup, redis: &Redis) -> (Proxy, Footprint) {
    let mut setup = setup.clone();
    if setup.services[0].upstream.is_empty() {
        setup.services[0].upstream = ", health = { interval = \"500ms\" }";
    }
    let proxy = Proxy::with(&setup);
    let mut client = proxy.client();
    client.call(&[&b"SET"[..], b"settled", &vec![b'x'; 300_000]]).expect_ok();
    assert_eq!(client.call(&["GET", "settled"]).text().len(), 300_000);
    client.call(&["DEL", "settled"]);
    drop(client);
    proxy.await_record("connection_close", |_| true);
    proxy.await_that("no connection", |proxy| (gauge(proxy, "ravelin_connections") == 0).then_some(()));
    let footprint = Footprint::of(&proxy);
    footprint.await_return(&proxy, redis);
    (proxy, footprint)
}

/// The sum of a gauge over its labels.
pub fn gauge(proxy: &Proxy, name: &str) -> u64 {
    let (_, page) = proxy.page("/metrics");
    let values: Vec<u64> = page
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    assert!(!values.is_empty(), "no {name} in {page}");
    values.iter().sum()
}

fn clients(redis: &Redis) -> u64 {
    let text = redis.connect().call(&["INFO", "clients"]).text();
    let count = text.lines().find_map(|line| line.strip_prefix("connected_clients:")).expect("connected_clients");
    count.trim().parse().unwrap()
}
