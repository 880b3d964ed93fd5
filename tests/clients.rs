//! Real clients: each does the same script directly with Redis and through Ravelin with mutual TLS, and writes down what
//! it was answered; both transcripts are the same. `tests/clients.sh` fetches the libraries, `tests/clients` has the
//! scripts, `deploy/docs/clients.md` what users need to know.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "clients/ground.rs"]
mod ground;
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
];

/// What the default policy denies, said to a Redis whose ACL denies the same.
const DENIED: &[&str] = &["denied", "no_caching"];

/// What the second door allows: scripts, client side caches, and clients that insist on a password.
const OPEN: &[&str] = &["caching", "scripts", "credentials"];

/// All of a library's script, and what a user sees who has forgotten something.
fn all(guest: Guest, floors: [usize; 3], refused: &[(&str, &str)]) {
    let ground = Ground::start();
    ground.same(guest, 0, EVERYDAY, floors[0]);
    // Rights for subcommands came with 7.0.
    if Release::of_server().since(7, 0) {
        ground.same(guest, 0, DENIED, floors[1]);
    }
    let denied = ground.transcript(guest, Way::Proxied(0), DENIED, false);
    let refusals = denied.iter().filter(|line| line.to_string().contains("no permissions to run the '")).count();
    assert!(refusals >= 12, "only {refusals} refusals in {denied:#?}");
    ground.same(guest, 1, OPEN, floors[2]);
    let sections = ["credentials", "no_certificate"];
    let lines = ground.transcript(guest, Way::Proxied(0), &sections, true);
    expect_errors(&lines, refused);
    guest.row(&lines, &sections, "refused as documented");
    ground.check_records();
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
