//! A replica behind the tunnel: a real Redis that replicates another through Ravelin, with the link cut, with data that
//! takes seconds to load, with payloads from disk and without one.
//!
//! The server is the harness' (both ends of a pair are the same), so the suite runs against every version it knows. How
//! long the first test writes is 15 seconds, or what `RAVELIN_TEST_REPLICATION_SECONDS` says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "patience is measured, not decided by")]
#![allow(clippy::print_stdout, reason = "figures for whoever asks with --nocapture")]

mod support;

use ravelin::{
    command::catalog,
    policy::{Verdict, rules::Policy},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    net::{TcpListener, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};
use support::{
    client::Client,
    process::{PASSWORD, PATIENCE, Proxy},
    redis::{Redis, Release},
    setup::{Service, Setup, write_secret},
    tunnel::Tunnel,
    wire::encode,
};

/// The list the documentation tells an operator to write.
fn documented_deny() -> Vec<String> {
    let text = include_str!("../deploy/docs/replication.md");
    let (_, list) = text.split_once("\ndeny = [").expect("a list in the documentation");
    let (list, _) = list.split_once(']').unwrap();
    list.split(',').map(|word| word.trim().trim_matches('"').to_owned()).filter(|word| !word.is_empty()).collect()
}

/// Two doors to one master: one for applications, and one for its replicas, as the documentation has it.
fn doors(master: &Redis, inline: bool) -> Setup {
    let deny = documented_deny().iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let policy: &'static str = format!("[service.policy]\ndeny = [{deny}]\n").leak();
    let listen = if inline { ", inline = true" } else { "" };
    let replication = Service { lines: policy, listen, ..Service::before("replication", master) };
    Setup::before(master).with(|setup| {
        setup.services.push(replication);
        setup.roles = "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\nservices = [\"cache\"]\n\
                       [[role]]\nname = \"replica\"\nmatch = [{ cn = \"replica\" }]\nservices = [\"replication\"]\n";
    })
}

/// What is written into the master meanwhile must be in its backlog; and no test waits for more replicas to come.
fn master(lines: &[&str]) -> Redis {
    let common: &[&str] = &["repl-backlog-size 64mb", "repl-diskless-sync-delay 0"];
    server(&[&common[..if has_diskless() { 2 } else { 1 }], lines].concat(), Some(PASSWORD))
}

/// Old replicas speak lines until their stream begins: 2.8 and 3.2 do, 5.0 does not.
fn speaks_lines() -> bool {
    !Release::of_server().since(5, 0)
}

/// Older ones write a file first, always.
fn has_diskless() -> bool {
    let release = Release::of_server();
    (release.major, release.minor, release.patch) >= (2, 8, 18)
}

/// A payload as long as the data, written to a file first.
fn from_a_file() -> &'static [&'static str] {
    if has_diskless() { &["rdbcompression no", "repl-diskless-sync no"] } else { &["rdbcompression no"] }
}

/// A server for tests of replication: DEBUG is on.
fn server(lines: &[&str], password: Option<&str>) -> Redis {
    Redis::with(&[lines, &["enable-debug-command yes"]].concat(), password.map(str::as_bytes))
}

/// A field of INFO, or of one of its sections.
fn info(redis: &Redis, field: &str) -> Option<String> {
    let text = redis.connect().call(&["INFO"]).text();
    text.lines().find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.trim().to_owned()))
}

fn count(redis: &Redis, field: &str) -> u64 {
    info(redis, field).unwrap_or_else(|| panic!("INFO has no {field}")).parse().unwrap()
}

/// What stands for all the data of a server. Of much data it takes its time.
fn digest(redis: &Redis) -> String {
    let mut wire = redis.connect();
    wire.stream().set_read_timeout(Some(PATIENCE * 2)).unwrap();
    wire.call(&["DEBUG", "DIGEST"]).text()
}

/// Looks until it holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE * 2, "{what}: not within {:?}", PATIENCE * 2);
        thread::sleep(Duration::from_millis(20));
    }
}

/// A master, its doors, a tunnel to the second one, and a replica that has been told to go there.
struct Pair {
    master: Redis,
    proxy: Proxy,
    tunnel: Tunnel,
    replica: Redis,
}

impl Pair {
    fn start(master_lines: &[&str], replica_lines: &[&str]) -> Self {
        let pair = Self::furnished(master_lines, replica_lines, |_| {});
        pair.attach();
        pair.await_link();
        pair
    }

    fn furnished(master_lines: &[&str], replica_lines: &[&str], furnish: impl FnOnce(&Redis)) -> Self {
        let master = master(master_lines);
        furnish(&master);
        let proxy = Proxy::with(&doors(&master, speaks_lines()));
        let tunnel = Tunnel::to(&proxy, 1, &proxy.pki.client("replica").unwrap());
        let replica = server(replica_lines, None);
        Self { master, proxy, tunnel, replica }
    }

    fn attach(&self) {
        let port = self.tunnel.address().port().to_string();
        self.replica.connect().call(&["SLAVEOF", "127.0.0.1", &port]).expect_ok();
    }

    /// The replica becomes a master of its own, and its connection is recorded as closed.
    fn detach(&self) {
        let closed = |proxy: &Proxy| {
            let records = proxy.records("connection_close");
            records.iter().filter(|record| record["service"] == "replication").count()
        };
        let before = closed(&self.proxy);
        self.replica.connect().call(&["SLAVEOF", "NO", "ONE"]).expect_ok();
        until("the end of the link", || closed(&self.proxy) > before);
    }

    fn await_link(&self) {
        until("the replica's link", || info(&self.replica, "master_link_status").as_deref() == Some("up"));
    }

    /// Waits until the replica has all that the master has written, and both have the same data.
    fn expect_equal(&self) {
        until("the replica's offset", || {
            let offset = count(&self.master, "master_repl_offset");
            let reached = info(&self.replica, "slave_repl_offset").unwrap_or_default().parse() == Ok(offset);
            reached && count(&self.master, "master_repl_offset") == offset
        });
        let of_master = digest(&self.master);
        assert_ne!(of_master, "0".repeat(40), "there is data");
        assert_eq!(digest(&self.replica), of_master);
    }

    /// The records of the replica's door, by connection, once it is closed: `CMD outcome`, `CMD begin`.
    fn stories(&self) -> Vec<Vec<String>> {
        let mut stories: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for record in self.proxy.audit().iter().filter(|record| record["service"] == "replication") {
            let Some(conn) = record["conn"].as_str() else { continue };
            let text = |field: &str| record[field].as_str().unwrap_or_default();
            let line = match text("event") {
                "command" => format!("{} {}", text("cmd"), text("outcome")),
                "begin" => format!("{} begin", text("cmd")),
                "connection_close" => format!("close {}", text("reason")),
                _ => continue,
            };
            stories.entry(conn.to_owned()).or_default().push(line);
        }
        stories.into_values().collect()
    }
}

/// Writes for so long, in small pipelines, all kinds of values; the number of commands.
fn write_for(redis: &Redis, duration: Duration) -> u64 {
    let (mut wire, start, mut round) = (redis.connect(), Instant::now(), 0_u64);
    while start.elapsed() < duration {
        round += 1;
        let key = (round * 7919 % 5000).to_string();
        let number = round.to_string();
        let lines: [&[&str]; 8] = [
            &["SET", &format!("string:{key}"), &number],
            &["INCRBY", "counter", &key],
            &["RPUSH", &format!("list:{key}"), &number],
            &["LPOP", &format!("list:{}", round * 31 % 5000)],
            &["SADD", &format!("set:{key}"), &number],
            &["ZADD", "scores", &number, &key],
            &["HSET", &format!("hash:{key}"), &number, "v\r\n*1\r\n$4\r\nPING\r\n"],
            &["DEL", &format!("string:{}", round * 17 % 5000)],
        ];
        for words in lines {
            wire.send(words);
        }
        for _ in lines {
            let reply = wire.reply();
            assert_eq!(reply.error(), None);
        }
        // A steady stream, not as much as the machine can do: other tests run beside this one.
        thread::sleep(Duration::from_millis(2));
    }
    round * 8
}

/// The most memory a process has had resident, in KiB.
fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_replica_follows_through_a_cut_link_and_ends_up_equal() {
    let seconds =
        std::env::var("RAVELIN_TEST_REPLICATION_SECONDS").map_or(15_u64, |text| text.parse().expect("seconds"));
    let mut pair = Pair::start(&[], &[]);
    let before = (count(&pair.master, "sync_full"), count(&pair.master, "sync_partial_ok"));
    assert_eq!(before, (1, 0));
    // Once, and in a long run every fifteen seconds.
    let cuts = (seconds / 15).max(1);
    let commands = thread::scope(|scope| {
        let writer = scope.spawn(|| write_for(&pair.master, Duration::from_secs(seconds)));
        for _ in 0..cuts {
            thread::sleep(Duration::from_secs(seconds) / u32::try_from(cuts + 1).unwrap());
            pair.tunnel.cut();
            until("the replica to notice", || info(&pair.replica, "master_link_status").as_deref() == Some("down"));
            // Meanwhile there is more to catch up with.
            thread::sleep(Duration::from_millis(500));
            pair.tunnel.mend();
            pair.await_link();
        }
        writer.join().unwrap()
    });
    pair.expect_equal();
    let after = (count(&pair.master, "sync_full"), count(&pair.master, "sync_partial_ok"));
    assert_eq!(after, (1, cuts), "each time it went on where it had been");
    println!("{commands} commands were replicated, over {cuts} cuts");

    pair.detach();
    assert!(pair.proxy.stop().success());
    let stories = pair.stories();
    let synced: Vec<_> = stories.iter().filter(|story| story.iter().any(|line| line == "PSYNC ran")).collect();
    assert_eq!(synced.len() as u64, cuts + 1, "{stories:?}");
    for story in synced {
        assert_eq!(story.first().map(String::as_str), Some("PING ran"), "{story:?}");
        assert!(story.iter().any(|line| line == "REPLCONF ran"), "{story:?}");
        let [.., begin, end, close] = &story[..] else { panic!("{story:?}") };
        assert_eq!([begin, end], ["PSYNC begin", "PSYNC ran"], "{story:?}");
        // A link that is cut with bytes on it ends in a reset.
        assert!(["close client-closed", "close client-gone"].contains(&&close[..]), "{story:?}");
    }
    let closes: Vec<Value> = pair.proxy.records("connection_close");
    let all_bytes = closes.iter().filter_map(|record| record["bytes_out"].as_u64()).sum::<u64>();
    assert!(all_bytes > commands * 20, "the stream is counted: {all_bytes} bytes of {commands} commands");
    let text = pair.proxy.audit_text() + &pair.proxy.log();
    assert!(!text.contains(PASSWORD) && !text.contains("battery"), "no secret is told");
}

/// Fills a server with so many values of so many bytes, or with twice as many small ones where it cannot choose.
fn populate(redis: &Redis, count: u32, size: u32) {
    let mut wire = redis.connect();
    if wire.call(&["DEBUG", "POPULATE", &count.to_string(), "key", &size.to_string()]).error().is_some() {
        wire.call(&["DEBUG", "POPULATE", &(count * 2).to_string()]).expect_ok();
    }
}

/// Transfers a data set whole, and says how much memory that has cost the proxy, in KiB.
fn transfer(master_lines: &[&str], replica_lines: &[&str], keys: u32, size: u32) -> (Pair, u64) {
    let pair = Pair::furnished(master_lines, replica_lines, |master| populate(master, keys, size));
    let idle = peak_memory(pair.proxy.pid());
    let start = Instant::now();
    pair.attach();
    pair.await_link();
    let commands = write_for(&pair.master, Duration::from_millis(200));
    pair.expect_equal();
    assert_eq!((count(&pair.master, "sync_full"), commands > 0), (1, true));
    pair.detach();
    let closed = pair.proxy.records("connection_close");
    let bytes = closed.iter().filter_map(|record| record["bytes_out"].as_u64()).max().unwrap();
    let more = peak_memory(pair.proxy.pid()).saturating_sub(idle);
    println!("{keys} keys, {bytes} bytes, {:?}, {more} KiB more in the proxy", start.elapsed());
    (pair, more)
}

#[test]
fn hundreds_of_megabytes_arrive_whole_from_a_file_and_take_no_memory_in_the_proxy() {
    let (pair, more) = transfer(from_a_file(), &[], 500_000, 512);
    assert!(more < 16 * 1024, "{more} KiB for a payload that only passes");
    let target = if has_diskless() { "target: disk" } else { "BGSAVE for SYNC" };
    assert!(pair.master.log().contains(target), "{}", pair.master.log());
}

#[test]
fn a_payload_of_unknown_length_arrives_whole() {
    if !has_diskless() {
        return;
    }
    let (pair, more) = transfer(&["repl-diskless-sync yes"], &[], 50_000, 256);
    assert!(more < 16 * 1024, "{more} KiB for a payload that only passes");
    assert!(pair.master.log().contains("sockets"), "{}", pair.master.log());
}

/// Redis 8 and Valkey can load over a second connection, which a tunnel of single connections cannot join to the first.
#[test]
fn a_replica_that_would_open_a_second_connection_is_served_on_one() {
    let probe = server(&[], None);
    let known = ["repl-rdb-channel", "dual-channel-replication-enabled"]
        .into_iter()
        .find(|name| probe.connect().call(&["CONFIG", "GET", name]).elements().len() == 2);
    let Some(known) = known else {
        assert!(Release::of_server().major < 8, "{:?}", Release::of_server());
        return;
    };
    let both = format!("{known} yes");
    let diskless = ["repl-diskless-sync yes", &both];
    let (pair, _) = transfer(&diskless, &[&both], 10_000, 64);
    let connections = pair.proxy.records("connection_open");
    let of_replica = connections.iter().filter(|record| record["service"] == "replication").count();
    assert_eq!(of_replica, 1, "one connection was enough");
    let offered = pair.proxy.records("command").iter().any(|record| record["cmd"] == "REPLCONF" && record["argc"] == 7);
    assert!(offered, "the replica spoke of a third capability besides eof and psync2");
    assert_eq!(pair.proxy.records("command").iter().filter(|record| record["verdict"] == "deny").count(), 0);
    // And what was agreed upon lets it go on where it was.
    pair.attach();
    pair.await_link();
    pair.tunnel.cut();
    until("the replica to notice", || info(&pair.replica, "master_link_status").as_deref() == Some("down"));
    pair.tunnel.mend();
    pair.await_link();
    write_for(&pair.master, Duration::from_millis(100));
    pair.expect_equal();
    assert!(count(&pair.master, "sync_partial_ok") >= 1);
}

#[test]
fn a_replica_with_a_password_for_its_master_is_refused_or_let_in_as_the_service_says() {
    let master = master(&[]);
    for (option, up) in [("", false), (", client_auth = \"ignore\"", true)] {
        let setup = doors(&master, speaks_lines()).with(|setup| setup.services[1].upstream = option);
        let mut proxy = Proxy::with(&setup);
        let tunnel = Tunnel::to(&proxy, 1, &proxy.pki.client("replica").unwrap());
        let replica = server(&["masterauth a-replicas-own-idea"], None);
        let port = tunnel.address().port().to_string();
        replica.connect().call(&["SLAVEOF", "127.0.0.1", &port]).expect_ok();
        if up {
            until("the replica's link", || info(&replica, "master_link_status").as_deref() == Some("up"));
        } else {
            proxy.await_record("client_auth", |record| record["verdict"] == "deny");
            until("the replica's word about it", || replica.log().contains("Unable to AUTH to "));
        }
        assert!(proxy.stop().success());
        assert!(!proxy.audit_text().contains("a-replicas-own-idea"));
    }
}

#[test]
fn acknowledgements_reach_the_master() {
    let release = Release::of_server();
    let fsyncs = release.since(7, 2);
    let pair = Pair::start(&[], if fsyncs { &["appendonly yes"] } else { &[] });
    let mut wire = pair.master.connect();
    wire.call(&["SET", "a", "1"]).expect_ok();
    // The replica says so once a second unasked, and at once when WAIT asks.
    let offset = count(&pair.master, "master_repl_offset");
    until("the master to know", || {
        let replica = info(&pair.master, "slave0").unwrap_or_default();
        let known = replica.split(',').find_map(|field| field.strip_prefix("offset="));
        known.is_some_and(|known| known.parse::<u64>().unwrap() >= offset)
    });
    if release.since(3, 0) {
        assert_eq!(wire.call(&["WAIT", "1", "10000"]).integer(), 1);
    }
    if fsyncs {
        wire.call(&["SET", "a", "2"]).expect_ok();
        let reply = wire.call(&["WAITAOF", "0", "1", "10000"]);
        assert_eq!(reply.elements()[1].integer(), 1, "FACK comes through");
    }
}

#[test]
fn a_reload_that_takes_the_right_away_ends_the_link_and_another_does_not() {
    let pair = Pair::start(&[], &[]);
    let closed =
        |proxy: &Proxy| proxy.records("connection_close").iter().any(|record| record["service"] == "replication");
    let setup = pair.proxy.setup();
    pair.proxy
        .configure(&setup.clone().with(|setup| setup.services[1].lines = "[service.policy]\ndeny = [\"@read\"]\n"));
    assert_eq!(pair.proxy.reload()["result"], "swapped");
    write_for(&pair.master, Duration::from_millis(100));
    pair.expect_equal();
    assert!(!closed(&pair.proxy), "the link still stands");
    pair.proxy
        .configure(&setup.with(|setup| setup.services[1].lines = "[service.policy]\ndeny = [\"PSYNC\", \"SYNC\"]\n"));
    assert_eq!(pair.proxy.reload()["result"], "swapped");
    pair.proxy.await_record("connection_close", |record| record["reason"] == "revoked");
    // It comes back and is told.
    pair.proxy.await_record("command", |record| record["cmd"] == "PSYNC" && record["outcome"] == "denied");
}

/// A replica's certificate, and a client of this test's own behind it.
fn impostor(proxy: &Proxy) -> Client {
    let issued = proxy.pki.client("replica").unwrap();
    let socket = TcpStream::connect(proxy.addresses[1]).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    proxy.shake_with(&proxy.tls(Some(&issued), rustls::ALL_VERSIONS), socket).unwrap()
}

#[test]
fn whoever_says_more_than_a_replica_does_is_cut_off_and_nothing_of_it_runs() {
    let lines: &[&str] = if has_diskless() { &["repl-diskless-sync yes", "repl-diskless-sync-delay 2"] } else { &[] };
    let master = master(lines);
    let proxy = Proxy::with(&doors(&master, false));
    let mut client = impostor(&proxy);
    if has_diskless() {
        client.call(&["REPLCONF", "capa", "eof", "capa", "psync2"]).expect_ok();
    }
    client.send(&["PSYNC", "?", "-1"]);
    let mut answer = client.take(1);
    while !answer.ends_with(b"\r\n") {
        answer.extend(client.take(1));
    }
    let newlines = answer.iter().take_while(|byte| **byte == b'\n').count();
    assert!(answer[newlines..].starts_with(b"+FULLRESYNC "), "{}", answer.escape_ascii());
    assert!(newlines > 0 || !has_diskless(), "while it waits for other replicas the master shows that it is alive");
    client.send_raw(
        &[encode(&["REPLCONF", "ACK", "1"]), encode(&["SET", "smuggled", "1"]), b"PING\r\n".to_vec()].concat(),
    );
    let rest = client.rest();
    assert!(!rest.ends_with(b"+OK\r\n") && !rest.windows(4).any(|bytes| bytes == b"-ERR"), "no reply is mixed in");
    let denied = proxy.await_record("command", |record| record["outcome"] == "denied");
    assert_eq!((denied["cmd"].as_str(), denied["rule"].as_str()), (Some("SET"), Some("builtin/in-stream")), "{denied}");
    let close = proxy.await_record("connection_close", |record| record["reason"] == "protocol");
    assert_eq!(close["detail"], "a replica sent a command that is no acknowledgement", "{close}");
    assert_eq!(master.connect().call(&["EXISTS", "smuggled"]).integer(), 0);
}

#[test]
fn a_replica_that_does_not_read_holds_the_stream_up_and_fills_no_memory_here() {
    let master = master(from_a_file());
    populate(&master, 1_000_000, 64);
    let proxy = Proxy::with(&doors(&master, false));
    let mut client = impostor(&proxy);
    let idle = peak_memory(proxy.pid());
    // The master reads its file as fast as somebody takes it, and little else.
    let read = || {
        let io = fs::read_to_string(format!("/proc/{}/io", master.pid())).unwrap();
        io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse::<u64>().unwrap()
    };
    let begun = read();
    client.send(&["PSYNC", "?", "-1"]);
    assert!(String::from_utf8(client.take(12)).unwrap().trim_start().starts_with("+FULLRESYNC"));
    until("the stream to stall", || {
        let before = read();
        thread::sleep(Duration::from_millis(300));
        before > begun + (1 << 20) && read() < before + (64 << 10)
    });
    let taken = read() - begun;
    assert!(taken < 32 << 20, "what sockets hold, not the whole payload: {taken} bytes");
    let more = peak_memory(proxy.pid()).saturating_sub(idle);
    assert!(more < 16 * 1024, "{more} KiB");
    drop(client);
    proxy.await_record("command", |record| record["cmd"] == "PSYNC" && record["outcome"] == "ran");
}

#[test]
fn the_door_for_applications_goes_on_denying_replication() {
    let master = master(&[]);
    let proxy = Proxy::with(&doors(&master, false));
    let mut client = proxy.client();
    for words in [&["PSYNC", "?", "-1"][..], &["SYNC"], &["REPLCONF", "capa", "eof"], &["MONITOR"]] {
        assert!(client.call(words).error().unwrap().starts_with("NOPERM "), "{words:?}");
    }
    let app = proxy.pki.client("app").unwrap();
    let mut elsewhere =
        proxy.shake_with(&proxy.tls(Some(&app), rustls::ALL_VERSIONS), TcpStream::connect(proxy.addresses[1]).unwrap());
    let refused = elsewhere.as_mut().map_or(true, |wire| wire.rest().is_empty());
    assert!(refused, "an application has no role at the replicas' door");
    proxy.await_record("handshake_failure", |record| record["reason"] == "no-role");
}

/// `redis-cli --rdb` asks for a payload and nothing behind it.
#[test]
fn the_command_lines_backup_comes_through() {
    let master = master(&[]);
    populate(&master, 1000, 64);
    // It writes SYNC on a line.
    let proxy = Proxy::with(&doors(&master, true));
    let file = proxy.path("backup.rdb");
    let output = proxy.redis_cli("replica", 1).arg("--rdb").arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let bytes = fs::read(&file).unwrap();
    assert!(bytes.starts_with(b"REDIS") || bytes.starts_with(b"VALKEY"), "{said}");
    let restored = server(&["dbfilename backup.rdb", &format!("dir {}", proxy.path("").display())], None);
    assert_eq!(digest(&restored), digest(&master));
}

/// The documentation's configuration, with this machine's paths.
#[test]
fn the_documented_configuration_is_understood() {
    let text = include_str!("../deploy/docs/replication.md");
    let (_, block) = text.split_once("```toml\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let master = master(&[]);
    let proxy = Proxy::start(&master);
    let at = |name: &str| proxy.path(name).display().to_string();
    let here = block
        .replace("/etc/ravelin/redis-password", &at("cache.password"))
        .replace("/etc/ravelin/tls/tls", &at("server"))
        .replace("/etc/ravelin/tls/ca", &at("ca"))
        .replace("/run/redis/redis-server.sock", &master.socket().display().to_string())
        .replace("socket_owner = \"redis\"\n", "");
    assert!(!here.contains("/etc/ravelin/"), "{here}");
    let file = proxy.path("documented.toml");
    fs::write(&file, here).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ravelin")).arg("check").arg("-c").arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("PSYNC"), "it warns of what it opens: {said}");
}

/// From 6.0 on Redis itself can hold the link to what a link needs.
#[test]
fn a_user_of_redis_that_may_only_replicate_is_enough() {
    if !Release::of_server().since(6, 0) {
        return;
    }
    let master = master(&[]);
    master
        .connect()
        .call(&["ACL", "SETUSER", "link", "on", ">for-replicas", "+psync", "+replconf", "+ping"])
        .expect_ok();
    let setup = doors(&master, false).with(|setup| {
        setup.services[1].upstream = ", username = \"link\"";
        setup.services[1].password = Some(b"for-replicas".to_vec());
    });
    let proxy = Proxy::with(&setup);
    let tunnel = Tunnel::to(&proxy, 1, &proxy.pki.client("replica").unwrap());
    let pair = Pair { master, proxy, tunnel, replica: server(&[], None) };
    pair.attach();
    pair.await_link();
    write_for(&pair.master, Duration::from_millis(100));
    pair.expect_equal();
}

/// With stunnel in client mode where the other tests have a forwarder of their own.
#[test]
#[ignore = "needs stunnel, which the gate does not fetch: cargo test --test replication -- --ignored"]
fn a_replica_behind_stunnel_follows() {
    let pair = Pair::furnished(&[], &[], |_| {});
    let issued = pair.proxy.pki.client("replica").unwrap();
    write_secret(&pair.proxy.path("replica.crt"), &issued.chain);
    write_secret(&pair.proxy.path("replica.key"), &issued.key);
    let at = |name: &str| pair.proxy.path(name).display().to_string();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "foreground = yes\npid =\n[redis-master]\nclient = yes\naccept = 127.0.0.1:{port}\nconnect = {}\ncert = {}\n\
         key = {}\nCAfile = {}\nverifyChain = yes\ncheckHost = localhost\n",
        pair.proxy.addresses[1],
        at("replica.crt"),
        at("replica.key"),
        at("ca.crt")
    );
    fs::write(at("stunnel.conf"), config).unwrap();
    let log = fs::File::create(at("stunnel.log")).unwrap();
    let mut stunnel = Command::new("stunnel").arg(at("stunnel.conf")).stderr(log).spawn().expect("stunnel");
    pair.replica.connect().call(&["SLAVEOF", "127.0.0.1", &port.to_string()]).expect_ok();
    pair.await_link();
    write_for(&pair.master, Duration::from_secs(3));
    pair.expect_equal();
    stunnel.kill().unwrap();
    stunnel.wait().unwrap();
    until("the end of the link", || {
        pair.proxy.records("command").iter().any(|record| record["cmd"] == "PSYNC" && record["outcome"] == "ran")
    });
}

#[test]
fn the_documented_policy_leaves_a_replica_what_it_needs_and_nothing_else() {
    let deny = documented_deny();
    let policy = Policy::compile(&deny.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    let allowed: Vec<_> =
        catalog::iter().filter(|(id, _)| policy.judge(*id) == Verdict::Allow).map(|(_, row)| row.full_name).collect();
    assert_eq!(allowed, ["auth", "ping", "psync", "quit", "replconf", "reset", "sync"]);
}
