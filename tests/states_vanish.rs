//! A client's host that vanishes: no FIN, no RST, nothing. In a network namespace of its own, whose link is taken down, where
//! that can be made (root and iproute2); and everywhere: the timers the kernel runs for the connection.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::print_stderr, reason = "what could not be tried must be seen")]

mod support;

use std::{
    fs,
    process::{Command, Stdio},
};
use support::{
    process::{PASSWORD, Proxy},
    redis::Redis,
    setup::Setup,
};

/// Two ends of a link, one of them in a namespace: another host as far as TCP can tell. Gone when dropped.
struct Host {
    name: String,
    /// The third byte of both addresses, `10.213.N.1` here and `10.213.N.2` there.
    net: u32,
}

impl Host {
    /// `None` where this is not permitted; says why.
    fn new() -> Option<Self> {
        let pid = std::process::id();
        let host = Self { name: format!("rv{pid}"), net: pid % 250 };
        let Self { name, net } = &host;
        let lines = [
            format!("netns add {name}"),
            format!("link add {name}a type veth peer name {name}b netns {name}"),
            format!("addr add 10.213.{net}.1/24 dev {name}a"),
            format!("link set {name}a up"),
            format!("-n {name} addr add 10.213.{net}.2/24 dev {name}b"),
            format!("-n {name} link set {name}b up"),
            format!("-n {name} link set lo up"),
        ];
        for line in lines {
            let words = line.split(' ');
            match Command::new("ip").args(words).stderr(Stdio::piped()).output() {
                Ok(output) if output.status.success() => {}
                Ok(output) => {
                    eprintln!("`ip {line}`: {}", String::from_utf8_lossy(&output.stderr).trim());
                    return None;
                }
                Err(error) => {
                    eprintln!("`ip` cannot be run: {error}");
                    return None;
                }
            }
        }
        Some(host)
    }

    /// From one instant to the next nothing comes from it any more, nor reaches it.
    fn vanish(&self) {
        let down = Command::new("ip").args(["link", "set", &format!("{}a", self.name), "down"]).status().unwrap();
        assert!(down.success());
        // The address goes with the link; what is sent there now must be lost, not refused.
        let lost = format!("10.213.{}.0/24", self.net);
        Command::new("ip").args(["route", "add", "blackhole", &lost]).status().unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let lost = format!("10.213.{}.0/24", self.net);
        for words in [&["route", "del", "blackhole", &lost][..], &["netns", "del", &self.name]] {
            // What is not there need not be removed.
            let _ = Command::new("ip").args(words).stderr(Stdio::null()).status();
        }
    }
}

const LIMITS: &str = "tcp_user_timeout = \"1s\"\nkeepalive = { idle = \"1s\", interval = \"1s\", count = 1 }";

fn proxy(redis: &Redis, listen: &str) -> Proxy {
    let mut setup = Setup { limits: LIMITS, allow: "[\"127.0.0.0/8\", \"10.213.0.0/16\"]", ..Setup::before(redis) };
    setup.listen_on(listen);
    Proxy::with(&setup)
}

#[test]
fn a_host_that_vanishes_while_its_client_is_blocked_leaves_no_ghost() {
    let Some(host) = Host::new() else {
        eprintln!(
            "not tried with a host that vanishes: no network namespace can be made here; the timers are looked at instead"
        );
        the_kernel_watches();
        return;
    };
    let redis = Redis::with_password(PASSWORD);
    let proxy = proxy(&redis, &format!("10.213.{}.1", host.net));
    let cli = proxy.redis_cli("app", 0);
    let mut arguments: Vec<_> = cli.get_args().map(ToOwned::to_owned).collect();
    let at = arguments.iter().position(|argument| argument == "-h").unwrap() + 1;
    arguments[at] = format!("10.213.{}.1", host.net).into();
    let mut client = Command::new("ip")
        .args(["netns", "exec", &host.name, "redis-cli", "--sni", "localhost"])
        .args(&arguments)
        .args(["--insecure", "BLPOP", "queue", "0"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    proxy.await_that("a blocked client", |_| (redis.blocked() == 1).then_some(()));
    host.vanish();
    proxy.await_that("Redis to forget it", |_| (redis.blocked() == 0).then_some(()));
    let close = proxy.await_record("connection_close", |_| true);
    assert_eq!(close["reason"], "client-gone", "{close}");
    let mut direct = redis.connect();
    direct.call(&["RPUSH", "queue", "element"]);
    assert_eq!(direct.call(&["LPOP", "queue"]).text(), "element", "a ghost took it");
    let record = proxy.await_record("command", |record| record["cmd"] == "BLPOP");
    assert_eq!(record["outcome"], "unanswered", "{record}");
    client.kill().unwrap();
    client.wait().unwrap();
}

#[test]
fn the_kernel_watches_every_connection_for_a_host_that_vanished() {
    the_kernel_watches();
}

/// `/proc/net/tcp` shows which timer runs for a connection; 2 is keepalive's.
fn the_kernel_watches() {
    let redis = Redis::with_password(PASSWORD);
    let proxy = proxy(&redis, "127.0.0.1");
    let mut client = proxy.client();
    client.send(&["BLPOP", "queue", "0"]);
    proxy.await_that("a blocked client", |_| (redis.blocked() == 1).then_some(()));
    let ports =
        [proxy.address(), client.stream().sock.local_addr().unwrap()].map(|address| format!("{:04X}", address.port()));
    let timer = proxy.await_that("nothing on the way", |_| {
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let line = table.lines().find(|line| {
            let mut ends = line.split_whitespace().skip(1);
            ports.iter().all(|port| ends.next().is_some_and(|end| end.ends_with(&format!(":{port}"))))
        });
        let timer = line.expect("the proxy's end of the connection").split_whitespace().nth(5).unwrap().to_owned();
        // 1 is a retransmission's, while the last bytes are not acknowledged.
        (!timer.starts_with("01:")).then_some(timer)
    });
    let (kind, ticks) = timer.split_once(':').unwrap();
    assert_eq!(kind, "02", "keepalive runs: {timer}");
    assert!(u64::from_str_radix(ticks, 16).unwrap() <= 100, "and is due within a second: {timer}");
}
