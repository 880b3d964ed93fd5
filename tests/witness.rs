//! The witness: what a tap between Ravelin and Redis sees, read by somebody else's RESP reader, is what the audit stream
//! says, command by command; and what Redis counted is what the stream says became of them.
//!
//! Under seeded load from many clients at once. `RAVELIN_ORACLE_SECONDS` and `RAVELIN_ORACLE_SEED` lengthen and repeat
//! a run; see `deploy/docs/oracles.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "a run is as long as it was asked to be")]
#![allow(clippy::print_stdout, reason = "the counts are the result")]

mod support;

#[path = "witness/answers.rs"]
mod answers;
#[path = "witness/receiver.rs"]
mod receiver;
#[path = "witness/restarts.rs"]
mod restarts;
#[path = "witness/watcher.rs"]
mod watcher;

use receiver::{Receiver, by_pen, put_together};
use rustix::process::Signal;
use std::{
    collections::{BTreeMap, HashMap},
    env, thread,
    time::{Duration, Instant},
};
use support::{
    ledger::{Ledger, Line},
    load::{Dice, crowd::Crowd, speaker::World},
    process::{PASSWORD, Proxy},
    redis::{Redis, Release, Vendor},
    setup::Setup,
    tap::{Tap, Tapped},
};
use watcher::{Totals, Watcher};

/// Clients at once.
const CLIENTS: u64 = 12;

/// What disturbs the clients of one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disturbance {
    /// Nothing, and clients leave only once all is answered: every sum is exact.
    None,
    /// Redis kills clients, and the tap cuts connections.
    UpstreamCloses,
    /// The policy changes to and fro.
    Reloads,
    /// The proxy drains while clients speak.
    Drain,
    /// The stream goes to a file that is put aside all the time, and to a receiver that is slower than the clients.
    Sinks,
    /// Redis is killed and started again: nothing but the tap has seen what it ran.
    Kills,
    /// The same, and what it counted is read before, at a moment at which it can be.
    Stops,
}

const ROUNDS: [Disturbance; 7] = [
    Disturbance::None,
    Disturbance::UpstreamCloses,
    Disturbance::Reloads,
    Disturbance::Drain,
    Disturbance::Sinks,
    Disturbance::Kills,
    Disturbance::Stops,
];

/// The outputs of [`Disturbance::Sinks`]; the receiver's socket comes behind them.
const SINKS: &str = r#", { file = { path = "rotated.jsonl", rotate_size = "64KiB" } }"#;

/// What a run must have seen in all.
const ALL: u64 = 10_000;

/// What it must have seen of each class, for every twenty thousand commands, and at least once.
const FLOORS: &[(&str, u64)] = &[
    ("upstream_command", 100),
    ("begin lines", 100),
    ("streamed", 20),
    ("EXEC sent as DISCARD", 20),
    ("transactions: ran", 50),
    ("transactions: aborted", 5),
    ("transactions: nil", 0),
    ("commands within transactions that ran", 100),
    ("outcome: error (allow)", 200),
    ("outcome: queued (allow)", 200),
    ("outcome: denied (deny)", 500),
    ("outcome: ran (answer)", 50),
    ("outcome: unanswered (allow)", 5),
    ("outcome: incomplete (allow)", 1),
    ("client: marks", 1000),
    ("leaves: QUIT", 0),
    ("leaves: close_notify", 0),
    ("leaves: FIN alone", 0),
    ("leaves: close", 0),
    ("leaves: RST with replies unread", 0),
    ("leaves: in the middle of a command", 0),
    ("leaves: in the middle of a streamed value", 0),
    ("leaves: while blocked", 0),
    ("leaves: in a transaction", 0),
    ("leaves: breaks the protocol", 0),
    ("leaves: breaks a streamed value", 0),
    ("leaves: subscribed", 0),
    ("closed: upstream-closed", 0),
    ("answers found", 10_000),
    ("disturbance: files put aside", 1),
    ("disturbance: Redis killed", 0),
    ("disturbance: Redis stopped", 0),
    ("closed: drain", 0),
    ("commandstats: rows, exact", 0),
];

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

#[test]
fn what_reached_redis_is_what_the_records_say() {
    let seed = number("RAVELIN_ORACLE_SEED").unwrap_or(0x5eed);
    let seconds = number("RAVELIN_ORACLE_SECONDS");
    // A long run is cut into servers' lives, each with books of its own.
    let life = Duration::from_millis(seconds.map_or(2000, |seconds| (seconds * 250).clamp(500, 12_000)));
    let start = Instant::now();
    let mut counts = BTreeMap::new();
    let first = number("RAVELIN_ORACLE_ROUND").unwrap_or(0);
    let mut round = first;
    while round < first + ROUNDS.len() as u64 || seconds.is_some_and(|seconds| start.elapsed().as_secs() < seconds) {
        let disturbance = ROUNDS[usize::try_from(round).unwrap() % ROUNDS.len()];
        let dice = Dice::new(seed).fork(round);
        let brief = seconds.is_none() && matches!(disturbance, Disturbance::Kills | Disturbance::Stops);
        live(disturbance, dice, if brief { life / 2 } else { life }, &mut counts).unwrap_or_else(|faults| {
            panic!("seed {seed}, round {round} ({disturbance:?}), {} fault(s):\n{}", faults.len(), faults.join("\n"))
        });
        let commands = counts.get("sent and recorded").copied().unwrap_or(0);
        println!("round {round} ({disturbance:?}): {commands} commands in all, {:.1} s", start.elapsed().as_secs_f64());
        round += 1;
    }
    println!("witness: seed {seed}, {round} servers' lives, {:.1} s", start.elapsed().as_secs_f64());
    for (what, count) in &counts {
        println!("{count:>10}  {what}");
    }
    if seconds.is_some_and(|seconds| seconds < 10) {
        // A glance, for whoever plants faults.
        return;
    }
    let of = |what: &str| counts.get(what).copied().unwrap_or(0);
    let commands = of("sent and recorded");
    assert!(commands >= ALL, "{commands} commands are below the floor of {ALL}");
    for (what, per) in FLOORS {
        let floor = (per * commands / 20_000).max(1);
        assert!(of(what) >= floor, "{what}: {} of {commands} commands is below the floor of {floor}", of(what));
    }
}

/// One server's life: load, its end, and all books compared.
fn live(
    disturbance: Disturbance,
    mut dice: Dice,
    life: Duration,
    counts: &mut BTreeMap<String, u64>,
) -> Result<(), Vec<String>> {
    let mut redis = Redis::with_password(PASSWORD);
    let version = version(&redis.version());
    let release = Release::of_server();
    let (mut watcher, mut totals) = (Watcher::new(&redis), Totals::new());
    let tap = Tap::before(&redis);
    let world = World {
        version,
        spoils: release.vendor == Vendor::Valkey,
        scripts: disturbance == Disturbance::Drain,
        ignores_auth: disturbance == Disturbance::Drain,
        reloads: disturbance == Disturbance::Reloads,
    };
    let mut setup = setup(&redis, &tap, world);
    let receiver = (disturbance == Disturbance::Sinks).then(Receiver::listen);
    if let Some(receiver) = &receiver {
        let socket = format!(", {{ socket = {{ address = \"unix:{}\" }} }}", receiver.path.display());
        setup.outputs = Box::leak(format!("{SINKS}{socket}").into_boxed_str());
        setup.audit = "queue = \"128KiB\"";
    }
    let mut proxy = Proxy::with(&setup);
    let certificate = proxy.pki.client("app").unwrap();
    let tls = proxy.tls(Some(&certificate), rustls::ALL_VERSIONS);
    let polite = disturbance == Disturbance::None;
    let crowd = Crowd::new(proxy.address(), tls, world, !polite && !world.reloads, polite);
    let mut ledger = Ledger::default();
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (crowd, dice) = (&crowd, dice.fork(client));
            scope.spawn(move || crowd.clients(dice));
        }
        let end = Instant::now() + life;
        let mut strict = false;
        while Instant::now() < end && !crowd.stop.load(std::sync::atomic::Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(20 + dice.roll(60)));
            match disturbance {
                Disturbance::None | Disturbance::Drain | Disturbance::Sinks => {}
                Disturbance::UpstreamCloses => {
                    if dice.one_in(2) {
                        ledger.count("disturbance: cut by the tap", u64::from(tap.cut(dice.next())));
                    } else {
                        ledger.count("disturbance: CLIENT KILL", watcher.kill(&mut dice));
                    }
                }
                Disturbance::Kills => restarts::kill(&mut redis, &tap, &mut dice, &mut ledger),
                Disturbance::Stops => {
                    restarts::stop(&mut redis, &tap, &mut watcher, &mut dice, &mut ledger, &mut totals);
                }
                Disturbance::Reloads => {
                    strict = !strict;
                    proxy.configure(&if strict { stricter(&setup) } else { setup.clone() });
                    proxy.signal(Signal::HUP);
                    ledger.count("disturbance: reload", 1);
                }
            }
        }
        if disturbance == Disturbance::Drain {
            proxy.signal(Signal::TERM);
            let _ = proxy.await_end();
        }
        crowd.stop.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    let seen = std::mem::take(&mut *crowd.faults.lock().unwrap());
    let mut faults = Vec::new();
    if disturbance != Disturbance::Drain && !proxy.stop().success() {
        faults.push("the proxy did not end well".to_owned());
    }
    let tapped = tap.finish();
    let lines: Vec<Line> = proxy.audit_text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    if let Some(receiver) = receiver {
        let rotated = put_together(&proxy, &mut ledger);
        let told: [(&str, Vec<String>); 3] =
            [("the file", proxy.audit_text()), ("the files", rotated), ("the receiver", receiver.finish())]
                .map(|(who, text)| (who, by_pen(&text)));
        for (who, lines) in &told[1..] {
            if *lines != told[0].1 {
                faults.push(format!("{who} has {} lines, and {} has {}", lines.len(), told[0].0, told[0].1.len()));
            }
        }
    }
    for (what, count) in crowd.counts() {
        ledger.count(what, count);
    }
    let suspects: Vec<String> = seen.iter().map(|(src, _)| src.clone()).collect();
    faults.extend(compare(lines, &tapped, &suspects, &mut ledger));
    // With kill -9 the counters die.
    let sums = if disturbance == Disturbance::Kills {
        Vec::new()
    } else {
        watcher.close(&mut ledger, &mut totals);
        ledger.close(&totals, version >= 700)
    };
    if faults.is_empty() {
        faults = sums;
        if polite && ledger.uncertain() > 0 {
            faults.push(format!("{} commands were not answered, and nobody had left", ledger.uncertain()));
        }
    }
    // Whoever complains the least exactly comes last.
    faults.truncate(8);
    faults.extend(seen.iter().take(8).map(|(src, text)| format!("client {src}: {text}")));
    if !faults.is_empty() {
        // The auditor of the books may have a word of its own when the proxy is dropped.
        println!("{}", faults.join("\n"));
        return Err(faults);
    }
    for (what, count) in ledger.counts {
        *counts.entry(what).or_default() += count;
    }
    Ok(())
}

fn setup(redis: &Redis, tap: &Tap, world: World) -> Setup {
    let mut setup = Setup { limits: "drain_timeout = \"2s\"", ..Setup::before(redis) };
    setup.services[0].address = format!("unix:{}", tap.path().display());
    if world.ignores_auth {
        setup.services[0].upstream = ", client_auth = \"ignore\"";
    }
    if world.scripts {
        setup.more = WITH_SCRIPTS;
    }
    setup
}

/// The default without its group `scripting`.
const WITH_SCRIPTS: &str = r#"
[policy]
deny = [
    "MODULE", "CONFIG", "REPLICAOF", "SLAVEOF", "SYNC", "PSYNC", "REPLCONF", "FAILOVER", "ROLE", "ACL",
    "FLUSHALL", "FLUSHDB", "SWAPDB", "MOVE", "SHUTDOWN", "SAVE", "BGSAVE", "BGREWRITEAOF", "LASTSAVE",
    "DEBUG", "PFDEBUG", "PFSELFTEST", "CLUSTER", "DUMP", "RESTORE", "RESTORE-ASKING", "MIGRATE", "MONITOR",
    "CLIENT|KILL", "CLIENT|LIST", "CLIENT|NO-EVICT", "CLIENT|PAUSE", "CLIENT|TRACKING", "CLIENT|UNBLOCK",
    "CLIENT|UNPAUSE", "SLOWLOG", "LATENCY", "MEMORY", "OBJECT", "KEYS", "SORT", "SORT_RO", "LCS", "FUNCTION",
    "SCRIPT|FLUSH", "SCRIPT|KILL",
]
"#;

/// The same with more denied.
fn stricter(setup: &Setup) -> Setup {
    Setup { more: "[policy]\ndeny = [\"preset:hardened\", \"LPUSH\", \"HSET\", \"INCR\", \"BLPOP\"]", ..setup.clone() }
}

/// 7.0.15 as 700, 6.2.1 as 620.
fn version(text: &str) -> u32 {
    let mut parts = text.split('.').map(|part| part.parse::<u32>().expect("a version"));
    parts.next().unwrap() * 100 + parts.next().unwrap() * 10
}

/// Every connection's records beside every connection's bytes. They find each other by the name that the greeting
/// gives a connection (`identity@address:port`), and by order where a port was used twice.
fn compare(
    lines: Vec<Line>,
    tapped: &[std::sync::Arc<Tapped>],
    suspects: &[String],
    ledger: &mut Ledger,
) -> Vec<String> {
    let mut records: HashMap<String, Vec<Line>> = HashMap::new();
    let mut sources: HashMap<String, Vec<(u64, String)>> = HashMap::new();
    for line in lines.into_iter().filter(|line| !line.conn.is_empty()) {
        let (conn, src) = (line.conn.clone(), line.src.clone());
        let of = records.entry(conn.clone()).or_default();
        if of.is_empty() {
            let number = conn.rsplit('-').next().unwrap().parse().unwrap();
            sources.entry(src).or_default().push((number, conn));
        }
        of.push(line);
    }
    for conns in sources.values_mut() {
        conns.sort_unstable();
        conns.reverse();
    }
    // What is wrong by itself comes before what only clients complain of.
    let (mut faults, mut complaints) = (Vec::new(), Vec::new());
    for one in tapped {
        let sent = one.up.lock().unwrap();
        if sent.is_empty() {
            ledger.count("connections on which nothing was sent", 1);
            continue;
        }
        ledger.count("connections", 1);
        ledger.count("bytes sent", sent.len() as u64);
        let Some(src) = greeted_as(&sent) else {
            faults.push(format!("no greeting: {}", sent[..sent.len().min(200)].escape_ascii()));
            continue;
        };
        let received = one.down.lock().unwrap();
        let conns = sources.entry(src.clone()).or_default();
        // A port is used again, and not every connection of it got as far as Redis.
        let fits = |(_, conn): &(u64, String)| Ledger::default().connection(&records[conn], &sent).is_ok();
        let place = if conns.len() > 1 { conns.iter().rposition(fits) } else { None };
        let Some(conn) = place.or(conns.len().checked_sub(1)).map(|place| conns.remove(place).1) else {
            faults.push(format!("no records of {src}"));
            continue;
        };
        let lines = records.remove(&conn).unwrap();
        let result = ledger.connection(&lines, &sent).and_then(|()| answered(&lines, &received, ledger));
        if result.is_err() || suspects.contains(&src) {
            let ends = ends(&lines, &sent, &received);
            match result {
                Err(fault) => faults.push(format!("{conn} of {src}: {fault}\n{ends}")),
                Ok(()) => complaints.push(format!("{conn} of {src}: its client complained\n{ends}")),
            }
        }
    }
    for (conn, lines) in records {
        ledger.count("connections without one to Redis", 1);
        if let Err(fault) = ledger.connection(&lines, b"") {
            faults.push(format!("{conn}, not seen at Redis: {fault}"));
        }
    }
    faults.append(&mut complaints);
    faults
}

/// Holds what came down against the records. Where Redis ended the connection, whatever came is recorded; where the
/// client did, the proxy may not have listened any more.
fn answered(lines: &[Line], received: &[u8], ledger: &mut Ledger) -> Result<(), String> {
    let ended =
        lines.iter().rev().find(|line| line.event == "connection_close").and_then(|line| line.reason.as_deref());
    let exact = matches!(ended, Some("upstream-closed" | "upstream-auth"));
    let found = answers::compare(lines, received, exact)?;
    ledger.count("answers found", found.answers);
    ledger.count("messages passed over", found.messages);
    ledger.count("answers torn at the end", found.torn);
    ledger.count("connections whose answers are exact", u64::from(exact));
    Ok(())
}

/// The last of what is known of a connection, for whoever looks for the fault.
fn ends(lines: &[Line], sent: &[u8], received: &[u8]) -> String {
    let last = |bytes: &[u8]| bytes[bytes.len().saturating_sub(500)..].escape_ascii().to_string();
    let records: Vec<String> =
        lines[lines.len().saturating_sub(12)..].iter().map(|line| format!("    {line:?}")).collect();
    format!("  records …\n{}\n  sent …{}\n  received …{}", records.join("\n"), last(sent), last(received))
}

/// The client's address in the name that the greeting sets.
fn greeted_as(sent: &[u8]) -> Option<String> {
    let name = memchr::memmem::find(sent, b"\r\nravelin:app@")?;
    let rest = &sent[name + 14..];
    let end = memchr::memchr(b'\r', rest)?;
    String::from_utf8(rest[..end].to_vec()).ok()
}
