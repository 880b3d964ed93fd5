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
    all(Guest { script: REDIS_CLI.0, words: &[], protocol: 2 }, [48, 22, 6], REDIS_CLI.1);
}

#[test]
#[ignore = "run by tests/clients.sh, which fetches the libraries"]
fn redis_cli_with_resp3_prints_what_it_prints_directly() {
    all(Guest { script: REDIS_CLI.0, words: &[], protocol: 3 }, [48, 22, 8], REDIS_CLI.1);
}

/// What redis-py says to who has credentials that Ravelin refuses, forgot the certificate, or forgot TLS.
const REDIS_PY: &[(&str, &str)] = &[
    ("credentials/ping", "authentication is by client certificate here"),
    ("no certificate", "certificate required"),
    ("no TLS", "got \"\\x15\" as reply type byte|Connection closed by server|Connection reset"),
];

#[test]
#[ignore = "run by tests/clients.sh, which fetches the libraries"]
fn redis_py_with_resp2_is_answered_as_by_redis() {
    all(Guest { script: "redis_py.py", words: &[], protocol: 2 }, [150, 20, 12], REDIS_PY);
}

#[test]
#[ignore = "run by tests/clients.sh, which fetches the libraries"]
fn redis_py_with_resp3_is_answered_as_by_redis() {
    all(Guest { script: "redis_py.py", words: &[], protocol: 3 }, [150, 20, 15], REDIS_PY);
}

#[test]
#[ignore = "run by tests/clients.sh, which fetches the libraries"]
fn redis_py_with_hiredis_is_answered_as_by_redis() {
    all(Guest { script: "redis_py.py", words: &["--hiredis"], protocol: 3 }, [150, 20, 15], REDIS_PY);
}

#[test]
#[ignore = "run by tests/clients.sh, which fetches the libraries"]
fn redis_py_asyncio_with_resp2_is_answered_as_by_redis() {
    all(Guest { script: "redis_py.py", words: &["--asyncio"], protocol: 2 }, [150, 20, 12], REDIS_PY);
}

#[test]
#[ignore = "run by tests/clients.sh, which fetches the libraries"]
fn redis_py_asyncio_with_resp3_is_answered_as_by_redis() {
    all(Guest { script: "redis_py.py", words: &["--asyncio"], protocol: 3 }, [150, 20, 12], REDIS_PY);
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
    all(Guest { script: "ioredis.cjs", words: &[], protocol: 2 }, [150, 20, 12], IOREDIS);
}

#[test]
#[ignore = "run by tests/clients.sh, which fetches the libraries"]
fn ioredis_with_resp3_is_answered_as_by_redis() {
    all(Guest { script: "ioredis.cjs", words: &[], protocol: 3 }, [150, 20, 12], IOREDIS);
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
    all(Guest { script: "node_redis.cjs", words: &[], protocol: 2 }, [150, 20, 12], NODE_REDIS);
}

#[test]
#[ignore = "run by tests/clients.sh, which fetches the libraries"]
fn node_redis_with_resp3_is_answered_as_by_redis() {
    all(Guest { script: "node_redis.cjs", words: &[], protocol: 3 }, [150, 20, 20], NODE_REDIS);
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
