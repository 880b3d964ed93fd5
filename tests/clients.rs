//! Real clients: each does the same script directly with Redis and through Ravelin with mutual TLS, and writes down what
//! it was answered; both transcripts are the same. `tests/clients.sh` fetches the libraries, `tests/clients` has the
//! scripts, `deploy/docs/clients.md` what users need to know.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "clients/ground.rs"]
mod ground;
#[path = "clients/rust.rs"]
mod rust;
mod support;

use ground::{Ground, Guest, Way, expect_errors};
use serde_json::Value;
use support::redis::Release;

/// What an application does on a day, and what it is denied.
const EVERYDAY: &[&str] = &[
    "handshake",
    "values",
    "streams",
    "big",
    "pipelines",
    "transactions",
    "pubsub",
    "blocking",
    "scans",
    "reconnects",
    "crowd",
    "fallback",
];

/// What the default policy denies, said to a Redis whose ACL denies the same.
const DENIED: &[&str] = &["denied", "no_caching"];

/// What the second door allows: scripts, client side caches, and clients that insist on a password.
const OPEN: &[&str] = &["caching", "scripts", "credentials"];

/// A program's script is one section of each kind.
const OF_A_PROGRAM: &[&str] = &["everyday", "fallback"];

/// All of a client's script, and what a user sees who has forgotten something.
fn all(guest: Guest, floors: [usize; 3], refused: &[(&str, &str)]) {
    let ground = Ground::start();
    let release = Release::of_server();
    if guest.protocol == 3 && !release.since(6, 0) {
        // Whether a client goes on with RESP2 or gives up is its affair; it does as it does directly.
        ground.same(guest, 0, &["fallback"], 3);
        return;
    }
    let everyday = if guest.script == REDIS_CLI.0 { OF_A_PROGRAM } else { EVERYDAY };
    ground.same(guest, 0, everyday, floors[0]);
    // Rights for subcommands came with 7.0.
    if release.since(7, 0) {
        ground.same(guest, 0, DENIED, floors[1]);
    }
    let denied = ground.transcript(guest, Way::Proxied(0), DENIED, false);
    let refusals = denied.iter().filter(|line| line.to_string().contains("no permissions to run the '")).count();
    assert!(refusals >= 9, "only {refusals} refusals in {denied:#?}");
    ground.same(guest, 1, if release.since(6, 0) { OPEN } else { &OPEN[..2] }, floors[2]);
    let sections = ["credentials", "no_certificate"];
    let lines = ground.transcript(guest, Way::Proxied(0), &sections, true);
    expect_errors(&lines, refused);
    guest.row(&lines, &sections, "refused as documented");
    ground.check_records();
}

/// What redis-cli says to who has credentials that Ravelin refuses, forgot the certificate, or forgot TLS.
const REDIS_CLI: (&str, &[(&str, &str)]) = (
    "redis_cli.py",
    &[
        ("credentials/ping", "AUTH failed: NOPERM authentication is by client certificate here; take the password out"),
        ("no certificate", "Server closed the connection|certificate required"),
        ("no TLS", "got \"\\x15\" as reply type byte|Server closed the connection"),
    ],
);

#[test]
#[ignore = "run by tests/clients.sh, which fetches the libraries"]
fn redis_cli_with_resp2_prints_what_it_prints_directly() {
    all(Guest { script: REDIS_CLI.0, words: &[], protocol: 2 }, [50, 23, 7], REDIS_CLI.1);
}

#[test]
#[ignore = "run by tests/clients.sh, which fetches the libraries"]
fn redis_cli_with_resp3_prints_what_it_prints_directly() {
    all(Guest { script: REDIS_CLI.0, words: &[], protocol: 3 }, [50, 23, 9], REDIS_CLI.1);
}

/// What redis-py says to who has credentials that Ravelin refuses, forgot the certificate, or forgot TLS.
const REDIS_PY: &[(&str, &str)] = &[
    ("credentials/ping", "authentication is by client certificate here"),
    ("no certificate", "certificate required"),
    ("no TLS", "got \"\\x15\" as reply type byte|Connection closed by server|Connection reset"),
];

/// On asyncio the alert may be there before the first command is written: what the library then tells of the error that its
/// transport had is that it has lost the connection. (What Ravelin says and records is looked at in `tests/doors.rs` and `tests/roles.rs`.)
const REDIS_PY_ASYNCIO: &[(&str, &str)] =
    &[REDIS_PY[0], ("no certificate", "certificate required|while writing to socket. Connection lost"), REDIS_PY[2]];

#[test]
#[ignore = "run by tests/clients.sh, which fetches the libraries"]
fn redis_py_with_resp2_is_answered_as_by_redis() {
    all(Guest { script: "redis_py.py", words: &[], protocol: 2 }, [185, 20, 14], REDIS_PY);
}

#[test]
#[ignore = "run by tests/clients.sh, which fetches the libraries"]
fn redis_py_with_resp3_is_answered_as_by_redis() {
    all(Guest { script: "redis_py.py", words: &[], protocol: 3 }, [185, 20, 20], REDIS_PY);
}

#[test]
#[ignore = "run by tests/clients.sh, which fetches the libraries"]
fn redis_py_with_hiredis_is_answered_as_by_redis() {
    all(Guest { script: "redis_py.py", words: &["--hiredis"], protocol: 3 }, [185, 20, 20], REDIS_PY);
}

#[test]
#[ignore = "run by tests/clients.sh, which fetches the libraries"]
fn redis_py_asyncio_with_resp2_is_answered_as_by_redis() {
    all(Guest { script: "redis_py.py", words: &["--asyncio"], protocol: 2 }, [185, 20, 14], REDIS_PY_ASYNCIO);
}

#[test]
#[ignore = "run by tests/clients.sh, which fetches the libraries"]
fn redis_py_asyncio_with_resp3_is_answered_as_by_redis() {
    all(Guest { script: "redis_py.py", words: &["--asyncio"], protocol: 3 }, [185, 20, 20], REDIS_PY_ASYNCIO);
}

/// The same for ioredis, whose errors of connections are events.
const IOREDIS: &[(&str, &str)] = &[
    ("credentials/said", "authentication is by client certificate here; take the password out"),
    ("credentials/set", "Connection is closed."),
    ("no certificate", "certificate required"),
    ("no TLS", "Unknown RESP type 21|Connection is closed."),
];

#[test]
#[ignore = "run by tests/clients.sh, which fetches the libraries"]
fn ioredis_with_resp2_is_answered_as_by_redis() {
    all(Guest { script: "ioredis.cjs", words: &[], protocol: 2 }, [172, 20, 15], IOREDIS);
}

#[test]
#[ignore = "run by tests/clients.sh, which fetches the libraries"]
fn ioredis_with_resp3_is_answered_as_by_redis() {
    all(Guest { script: "ioredis.cjs", words: &[], protocol: 3 }, [172, 20, 15], IOREDIS);
}

/// The same for node-redis.
const NODE_REDIS: &[(&str, &str)] = &[
    ("credentials/connect", "authentication is by client certificate here; take the password out"),
    ("no certificate", "certificate required"),
    ("no TLS", "Socket closed unexpectedly"),
];

#[test]
#[ignore = "run by tests/clients.sh, which fetches the libraries"]
fn node_redis_with_resp2_is_answered_as_by_redis() {
    all(Guest { script: "node_redis.cjs", words: &[], protocol: 2 }, [176, 20, 11], NODE_REDIS);
}

#[test]
#[ignore = "run by tests/clients.sh, which fetches the libraries"]
fn node_redis_with_resp3_is_answered_as_by_redis() {
    all(Guest { script: "node_redis.cjs", words: &[], protocol: 3 }, [176, 20, 19], NODE_REDIS);
}

/// Each library before a Ravelin that is ended and started again.
#[test]
#[ignore = "run by tests/clients.sh, which fetches the libraries"]
fn clients_come_back_after_a_restart_as_after_a_lost_connection() {
    for (script, words, protocol, floor) in [
        ("redis_py.py", &[][..], 2, 10),
        ("redis_py.py", &["--asyncio"][..], 3, 10),
        ("ioredis.cjs", &[][..], 3, 8),
        ("node_redis.cjs", &[][..], 2, 9),
    ] {
        let guest = Guest { script, words, protocol };
        if Release::of_server().since(6, 0) {
            Ground::start().restarts(guest, floor);
        } else {
            guest.without("before it has users, Redis cannot close the connections of one");
        }
    }
}

/// A queue and its workers, through the door that allows scripts; and what the default policy makes of them.
fn queue(guest: Guest, floor: usize, refused: &[(&str, &str)]) {
    let ground = Ground::start();
    let release = Release::of_server();
    if guest.protocol == 3 && !release.since(6, 0) {
        guest.without("this server has no RESP3");
        return;
    }
    if !release.since(5, 0) {
        guest.without("RQ needs Redis 4, BullMQ Redis 5");
        return;
    }
    if release.since(6, 2) {
        ground.same(guest, 1, &["queue"], floor);
    }
    let lines = ground.transcript(guest, Way::Proxied(0), &["refused"], false);
    expect_errors(&lines, refused);
    guest.row(&lines, &["refused"], "refused as documented");
    ground.check_records();
}

/// RQ needs scripts for more than plain jobs: unique ones, emptying a queue, its scheduler.
const RQ: &[(&str, &str)] = &[
    ("refused/unique", "this user has no permissions to run the 'evalsha' command"),
    ("refused/empty", "this user has no permissions to run the 'evalsha' command"),
    ("refused/worker", "CLIENT LIST command not supported, setting ip_address to unknown"),
    ("refused/worker", "Successfully completed rq_jobs.add(40, 2)"),
    ("refused/scheduler", "this user has no permissions to run the 'evalsha' command"),
];

#[test]
#[ignore = "run by tests/clients.sh, which fetches the libraries"]
fn rq_with_resp2_works_off_its_jobs() {
    queue(Guest { script: "rq_queue.py", words: &[], protocol: 2 }, 17, RQ);
}

#[test]
#[ignore = "run by tests/clients.sh, which fetches the libraries"]
fn rq_with_resp3_works_off_its_jobs() {
    queue(Guest { script: "rq_queue.py", words: &[], protocol: 3 }, 17, RQ);
}

/// BullMQ does all by scripts.
const BULLMQ: &[(&str, &str)] = &[
    ("refused/add", "NOPERM this user has no permissions to run the 'eval' command"),
    ("refused/worker", "NOPERM this user has no permissions to run the 'eval' command"),
];

#[test]
#[ignore = "run by tests/clients.sh, which fetches the libraries"]
fn bullmq_with_resp2_works_off_its_jobs() {
    queue(Guest { script: "bullmq.cjs", words: &[], protocol: 2 }, 18, BULLMQ);
}

#[test]
#[ignore = "run by tests/clients.sh, which fetches the libraries"]
fn bullmq_with_resp3_works_off_its_jobs() {
    queue(Guest { script: "bullmq.cjs", words: &[], protocol: 3 }, 18, BULLMQ);
}

#[test]
fn the_crate_redis_with_resp2_is_answered_as_by_redis() {
    rust::same(2);
}

#[test]
fn the_crate_redis_with_resp3_is_answered_as_by_redis() {
    if Release::of_server().since(6, 0) {
        rust::same(3);
    }
}

/// The lines between a script's marks, without what all of them are indented by.
fn snippet(name: &str, script: &str) -> String {
    let (_, rest) = script.split_once(&format!("snippet: {name}\n")).unwrap_or_else(|| panic!("no snippet {name}"));
    let lines: Vec<&str> = rest.lines().take_while(|line| !line.trim().ends_with(" end")).collect();
    let indent = lines[0].len() - lines[0].trim_start().len();
    lines.iter().map(|line| format!("{}\n", &line[indent.min(line.len())..])).collect()
}

#[test]
fn the_document_says_what_the_scripts_do() {
    let document = include_str!("../deploy/docs/clients.md");
    for (name, script) in [
        ("redis-cli", include_str!("clients/redis_cli.py")),
        ("redis-py", include_str!("clients/redis_py.py")),
        ("ioredis", include_str!("clients/ioredis.cjs")),
        ("node-redis", include_str!("clients/node_redis.cjs")),
        ("rq", include_str!("clients/rq_queue.py")),
        ("bullmq", include_str!("clients/bullmq.cjs")),
    ] {
        let snippet = snippet(name, script);
        assert!(snippet.lines().count() >= 4, "{name}: {snippet}");
        assert!(document.contains(&snippet), "the document must say, for {name}:\n{snippet}");
    }
    let requirements = include_str!("clients/requirements.txt");
    let pinned = |name: &str| requirements.lines().find_map(|line| line.strip_prefix(&format!("{name}=="))).unwrap();
    let package: Value = serde_json::from_str(include_str!("clients/package.json")).unwrap();
    let wanted = |name: &str| package["dependencies"][name].as_str().unwrap().to_owned();
    for (client, version) in [
        ("redis-py", pinned("redis").to_owned()),
        ("redis-py asyncio", pinned("redis").to_owned()),
        ("RQ, on redis-py", pinned("rq").to_owned()),
        ("ioredis", wanted("ioredis")),
        ("node-redis", wanted("redis")),
        ("BullMQ, on ioredis", wanted("bullmq")),
        ("redis (Rust), synchronous, rustls", rust::version().to_owned()),
    ] {
        let row = format!("| {client} | {version} |");
        assert!(document.contains(&row), "the table must have {row}");
    }
}
