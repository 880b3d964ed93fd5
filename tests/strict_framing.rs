//! Everything that Redis accepts by leniency, sent through a whole proxy to a real server that would run it: the server
//! saw nothing of it. One case or more for every row of the tables in `resp/request.rs`, `resp/inline.rs` and
//! `command/strict.rs`, counted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use ravelin::command::strict::PREFIXES_MAX;
use rustls::ClientConfig;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::TcpStream,
    path::Path,
    sync::Arc,
};
use support::{
    client::{Client, greeted},
    process::{PATIENCE, Proxy},
    redis::{Redis, Release},
    setup::{Service, Setup},
    wire::{Reply, encode},
};

/// What becomes of bytes that are sent on a connection of their own.
enum Then {
    /// Redis' kind of error, and the close.
    Refused(&'static str),
    /// They are no command yet: nothing is said, and when the client ends its side, so does the proxy.
    Waits,
    /// No command and no reply: a PING behind them is answered.
    Nothing,
    /// A command, answered so.
    Runs(&'static [u8]),
}

use Then::{Nothing, Refused, Runs, Waits};

const COUNT: &str = "invalid multibulk length";
const LENGTH: &str = "invalid bulk length";
const CRLF: &str = "invalid CRLF in request";

/// By the row of `resp/request.rs`. Were it not for the proxy, most of them would end in FLUSHALL on some server.
#[rustfmt::skip]
const FRAMING: &[(&str, &[u8], Then)] = &[
    ("end of a header line", b"*1\rX$8\rYFLUSHALL\r\n", Refused(COUNT)),
    ("end of a header line", b"*1\r\n$8\rYFLUSHALL\r\n", Refused(LENGTH)),
    ("end of a header line", b"*1\r\n$8\r", Waits),
    ("bare LF in a header", b"*1\n$8\nFLUSHALL\n", Refused(COUNT)),
    ("bare LF in a header", b"*1\r\n$8\nFLUSHALL\r\n", Refused(LENGTH)),
    ("NUL in a header", b"*1\0\r\n$8\r\nFLUSHALL\r\n", Refused(COUNT)),
    ("NUL in a header", b"*1\r\n$8\0\r\nFLUSHALL\r\n", Refused(LENGTH)),
    ("order of checks", b"*1\r\nFLUSHALL", Refused("expected '$', got 'F'")),
    ("numbers", b"*+1\r\n$8\r\nFLUSHALL\r\n", Refused(COUNT)),
    ("numbers", b"*01\r\n$8\r\nFLUSHALL\r\n", Refused(COUNT)),
    ("numbers", b"* 1\r\n$8\r\nFLUSHALL\r\n", Refused(COUNT)),
    ("numbers", b"*1 \r\n$8\r\nFLUSHALL\r\n", Refused(COUNT)),
    ("numbers", b"*0x1\r\n$8\r\nFLUSHALL\r\n", Refused(COUNT)),
    ("numbers", b"*-0\r\n$8\r\nFLUSHALL\r\n", Refused(COUNT)),
    ("numbers", b"*\r\n$8\r\nFLUSHALL\r\n", Refused(COUNT)),
    ("numbers", b"*18446744073709551617\r\n$8\r\nFLUSHALL\r\n", Refused(COUNT)),
    ("numbers", b"*1\r\n$+8\r\nFLUSHALL\r\n", Refused(LENGTH)),
    ("numbers", b"*1\r\n$08\r\nFLUSHALL\r\n", Refused(LENGTH)),
    ("numbers", b"*1\r\n$ 8\r\nFLUSHALL\r\n", Refused(LENGTH)),
    ("numbers", b"*1\r\n$8 \r\nFLUSHALL\r\n", Refused(LENGTH)),
    ("numbers", b"*1\r\n$8e0\r\nFLUSHALL\r\n", Refused(LENGTH)),
    ("numbers", b"*1\r\n$-0\r\nFLUSHALL\r\n", Refused(LENGTH)),
    ("`*0`, `*-n` to -2^63", b"*0\r\n*-1\r\n*-9223372036854775808\r\n", Nothing),
    ("`*0`, `*-n` to -2^63", b"*-9223372036854775809\r\n", Refused(COUNT)),
    ("`*0`, `*-n` to -2^63", b"*-01\r\n$8\r\nFLUSHALL\r\n", Refused(COUNT)),
    ("`*0`, `*-n` to -2^63", b"*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n", Refused("too many empty requests in a row")),
    ("N too large", b"*1048577\r\n$8\r\nFLUSHALL\r\n", Refused(COUNT)),
    ("N too large", b"*2147483648\r\n$8\r\nFLUSHALL\r\n", Refused(COUNT)),
    ("N too large", b"*1048576\r\n$8\r\nFLUSHALL\r\n", Waits),
    ("before AUTH", b"*12\r\n$4\r\nMGET\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n", Runs(b"*11\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n")),
    ("L below 0 or too large", b"*1\r\n$-1\r\nFLUSHALL\r\n", Refused(LENGTH)),
    ("L below 0 or too large", b"*1\r\n$536870913\r\nFLUSHALL\r\n", Refused(LENGTH)),
    ("L below 0 or too large", b"*1\r\n$9223372036854775807\r\nFLUSHALL\r\n", Refused(LENGTH)),
    ("two bytes after a word", b"*1\r\n$8\r\nFLUSHALLZZ", Refused(CRLF)),
    ("two bytes after a word", b"*1\r\n$8\r\nFLUSHALL\n\n", Refused(CRLF)),
    ("two bytes after a word", b"*1\r\n$8\r\nFLUSHALL\rX", Refused(CRLF)),
    ("two bytes after a word", b"*1\r\n$4\r\nPING*1\r\n$8\r\nFLUSHALL\r\n", Refused(CRLF)),
    ("two bytes after a word", b"*2\r\n$4\r\nECHO\r\n$1\r\naXX*1\r\n$8\r\nFLUSHALL\r\n", Refused(CRLF)),
    ("two bytes after a word", b"*1\r\n$8\r\nFLUSHALL\r", Waits),
    ("total buffered", b"*3\r\n$3\r\nSET\r\n$6\r\ncanary\r\n$536870912\r\nx", Waits),
    ("protocol error", b"*1\r\nX\r\n*1\r\n$8\r\nFLUSHALL\r\n", Refused("expected '$', got 'X'")),
    ("chunking", b"*2\r\n$4\r\nECHO\r\n$22\r\n*1\r\n$8\r\nFLUSHALL\r\n\r\n\r\n\r\n", Runs(b"$22\r\n*1\r\n$8\r\nFLUSHALL\r\n\r\n\r\n\r\n")),
    ("other types", b"%1\r\nFLUSHALL\r\n", Refused("expected '*', got '%'")),
    ("other types", b"~1\r\nFLUSHALL\r\n", Refused("expected '*', got '~'")),
    ("other types", b">2\r\nFLUSHALL\r\n", Refused("expected '*', got '>'")),
    ("other types", b"+OK\r\nFLUSHALL\r\n", Refused("expected '*', got '+'")),
    ("other types", b"$8\r\nFLUSHALL\r\n", Refused("expected '*', got '$'")),
    ("element that is not `$`", b"*1\r\n+FLUSHALL\r\n", Refused("expected '$', got '+'")),
    ("element that is not `$`", b"*1\r\n*1\r\n$8\r\nFLUSHALL\r\n", Refused("expected '$', got '*'")),
];

/// By the row of `resp/inline.rs`: where lines are taken, and the same bytes where they are not.
#[rustfmt::skip]
const LINES: &[(&str, &[u8], Then, Then)] = &[
    ("end of a line", b"PING\r\n", Runs(b"+PONG\r\n"), Runs(b"+PONG\r\n")),
    ("end of a line", b"GET canary\r\n", Runs(b"$5\r\nalive\r\n"), Refused("expected '*', got 'G'")),
    ("end of a line", b"FLUSHALL\n", Refused(r"invalid character '\n' in inline request"), Refused("expected '*', got 'F'")),
    ("end of a line", b"PING\nFLUSHALL\r\n", Refused(r"invalid character '\n' in inline request"), Refused("expected '*', got 'P'")),
    ("NUL in a line", b"PING\0\r\nFLUSHALL\r\n", Refused(r"invalid character '\x00' in inline request"), Refused("expected '*', got 'P'")),
    ("blanks between words", b"get   canary  \r\n", Runs(b"$5\r\nalive\r\n"), Refused("expected '*', got 'g'")),
    ("blanks between words", b"FLUSHALL\t\r\n", Refused(r"invalid character '\t' in inline request"), Refused("expected '*', got 'F'")),
    ("blanks between words", b"FLUSHALL\x0b\r\n", Refused(r"invalid character '\x0b' in inline request"), Refused("expected '*', got 'F'")),
    ("blanks between words", b"\x0cFLUSHALL\r\n", Refused(r"expected '*', got '\x0c'"), Refused(r"expected '*', got '\x0c'")),
    ("quote inside a word", b"FLUSH\"ALL\"\r\n", Refused("invalid character '\\\"' in inline request"), Refused("expected '*', got 'F'")),
    ("quote inside a word", b"F'LUSHALL'\r\n", Refused(r"invalid character '\'' in inline request"), Refused("expected '*', got 'F'")),
    ("escapes in `\"`", b"\"\\x46LUSHALL\"\r\n", Refused("expected '*', got '\\\"'"), Refused("expected '*', got '\\\"'")),
    ("escapes in `\"`", b"F\"LU\\SHALL\"\r\n", Refused("invalid character '\\\"' in inline request"), Refused("expected '*', got 'F'")),
    ("unbalanced quotes", b"GET 'canary\r\nFLUSHALL\r\n", Refused(r"invalid character '\'' in inline request"), Refused("expected '*', got 'G'")),
    ("blank line", b"\r\n\r\n", Nothing, Nothing),
    ("blank line", b"\nFLUSHALL\r\n", Refused(r"expected '*', got '\n'"), Refused(r"expected '*', got '\n'")),
    ("CR before CRLF", b"\r\r\nFLUSHALL\r\n", Refused(r"expected '*', got '\r'"), Refused(r"expected '*', got '\r'")),
    ("CR before CRLF", b"FLUSHALL\r\r\n", Refused(r"invalid character '\r' in inline request"), Refused("expected '*', got 'F'")),
    ("CR alone", b"FLUSHALL\rX\r\n", Refused(r"invalid character '\r' in inline request"), Refused("expected '*', got 'F'")),
    ("CR alone", b"\r", Waits, Waits),
    ("line of blanks", b" \r\n*2\r\n$4\r\nECHO\r\n$12\r\n\r\nFLUSHALL\r\n\r\n", Refused("expected '*', got ' '"), Refused("expected '*', got ' '")),
    ("line of blanks", b"\t\n*2\r\n$4\r\nECHO\r\n$12\r\n\r\nFLUSHALL\r\n\r\n", Refused(r"expected '*', got '\t'"), Refused(r"expected '*', got '\t'")),
    ("LF alone, to 3.2", b"PING\nXFLUSHALL\r\n", Refused(r"invalid character '\n' in inline request"), Refused("expected '*', got 'P'")),
    ("empty quoted word, to 5.0.0", b"\"\" FLUSHALL\r\n", Refused("expected '*', got '\\\"'"), Refused("expected '*', got '\\\"'")),
    ("longer than 64 KiB", &[b'a'; 65_537], Refused("too big inline request"), Refused("expected '*', got 'a'")),
    ("`POST`, `Host:`", b"POST / HTTP/1.1\r\nHost: redis\r\n\r\nFLUSHALL\r\n", Refused("HTTP is not spoken here"), Refused("expected '*', got 'P'")),
    ("`POST`, `Host:`", b"post / HTTP/1.1\r\n\r\nFLUSHALL\r\n", Refused("HTTP is not spoken here"), Refused("expected '*', got 'p'")),
    ("`POST`, `Host:`", b"Host: redis\r\nFLUSHALL\r\n", Refused("HTTP is not spoken here"), Refused("expected '*', got 'H'")),
    ("`POST`, `Host:`", b"hOST:\r\nFLUSHALL\r\n", Refused("HTTP is not spoken here"), Refused("expected '*', got 'h'")),
    ("`POST`, `Host:`", b"host:\0x\r\nFLUSHALL\r\n", Refused(r"invalid character '\x00' in inline request"), Refused("expected '*', got 'h'")),
    ("first byte of anything else", b"\0\r\nFLUSHALL\r\n", Refused(r"expected '*', got '\x00'"), Refused(r"expected '*', got '\x00'")),
    ("first byte of anything else", b"\x16\x03\x01\r\nFLUSHALL\r\n", Refused(r"expected '*', got '\x16'"), Refused(r"expected '*', got '\x16'")),
    ("first byte of anything else", b"1\r\nFLUSHALL\r\n", Refused("expected '*', got '1'"), Refused("expected '*', got '1'")),
];

/// The first columns of the table that is headed by `item` in the docs of a module.
fn rows(source: &'static str) -> Vec<&'static str> {
    // Behind the head stands a line of dashes.
    let lines = source.lines().skip_while(|line| !line.starts_with("//! | item |")).skip(2);
    let table = lines.map_while(|line| line.strip_prefix("//! | "));
    table.filter_map(|line| line.split(" | ").next()).collect()
}

/// Every row has a case, every case its row, and there are so many.
fn agree<'c>(source: &'static str, cases: impl Iterator<Item = &'c str>, count: usize) {
    let rows = rows(source);
    assert_eq!(rows.len(), count, "{rows:?}");
    let named: BTreeSet<&str> = cases
        .map(|case| *rows.iter().find(|row| row.starts_with(case)).unwrap_or_else(|| panic!("no row for {case}")))
        .collect();
    assert_eq!(named, rows.iter().copied().collect(), "rows and cases");
}

/// A Redis with one key, a service before it that takes no lines, one that does, and one under the default policy.
struct Stand {
    redis: Redis,
    proxy: Proxy,
    tls: Arc<ClientConfig>,
}

const STRICT: usize = 0;
const INLINE: usize = 1;
const HARDENED: usize = 2;

impl Stand {
    fn new() -> Self {
        let redis = Redis::start();
        redis.connect().call(&["SET", "canary", "alive"]).expect_ok();
        let open =
            |name, listen| Service { listen, lines: "[service.policy]\ndeny = []", ..Service::before(name, &redis) };
        let services = vec![open("strict", ""), open("inline", ", inline = true"), Service::before("hardened", &redis)];
        let proxy = Proxy::with(&Setup { services, ..Setup::before(&redis) });
        let tls = proxy.tls(Some(&proxy.pki.client("app").unwrap()), rustls::ALL_VERSIONS);
        Self { redis, proxy, tls }
    }

    /// What the server has run, but for what the proxy says itself when it connects and what asks for this.
    fn ran(&self) -> BTreeMap<String, u64> {
        let own = ["ping", "auth", "client|setname", "client", "info"];
        self.redis.calls().into_iter().filter(|(name, _)| !own.contains(&&name[..])).collect()
    }

    fn alive(&self) -> bool {
        self.redis.connect().call(&["GET", "canary"]) == Reply::Bulk(b"alive".to_vec())
    }

    /// A connection to a service.
    fn client(&self, service: usize) -> Client {
        let socket = TcpStream::connect(self.proxy.addresses[service]).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        greeted(self.proxy.shake_with(&self.tls, socket).unwrap()).unwrap()
    }

    /// Sends `bytes` on a connection of their own, and says what is wrong with what came of it.
    fn send(&self, service: usize, bytes: &[u8], then: &Then) -> Result<(), String> {
        let mut client = self.client(service);
        client.send_raw(bytes);
        let (expected, closes) = match then {
            Refused(text) => (format!("-ERR Protocol error: {text}\r\n").into_bytes(), true),
            Waits => (Vec::new(), false),
            Nothing => (b"+PONG\r\n".to_vec(), false),
            Runs(reply) => (reply.to_vec(), false),
        };
        if matches!(then, Nothing) {
            client.send(&["PING"]);
        }
        if !closes {
            client.stream().conn.send_close_notify();
            std::io::Write::flush(client.stream()).unwrap();
        }
        let said = client.rest();
        if said == expected { Ok(()) } else { Err(format!("{:?} came", said.escape_ascii().to_string())) }
    }
}

/// The table in `resp/mod.rs` names a test for each row; they are all there.
#[test]
fn every_test_that_the_docs_name_is_there() {
    let mut sources = String::new();
    let mut folders =
        vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let docs = include_str!("../src/resp/mod.rs");
    let rows: Vec<&str> = docs.lines().filter(|line| line.starts_with("//! | ")).skip(1).collect();
    assert_eq!(rows.len(), 9, "as many as there are mistakes");
    for row in rows {
        let shown = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let names: Vec<&str> = shown.split(", ").map(|name| name.trim_matches('`')).collect();
        for name in names {
            assert!(sources.contains(&format!("fn {name}(")), "no test {name}");
        }
    }
}

#[test]
fn no_leniency_in_framing_reaches_redis() {
    agree(include_str!("../src/resp/request.rs"), FRAMING.iter().map(|(row, ..)| *row), 15);
    let stand = Stand::new();
    let before = stand.ran();
    let mut faults = Vec::new();
    let mut runs = 0;
    for (row, bytes, then) in FRAMING {
        for service in [STRICT, INLINE] {
            if let Err(fault) = stand.send(service, bytes, then) {
                faults.push(format!("{row}, service {service}: {}: {fault}", bytes.escape_ascii()));
            }
            runs += usize::from(matches!(then, Runs(_)));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    nothing_but(&stand, &before, &[("echo", 2), ("mget", 2)], runs);
}

#[test]
fn no_leniency_in_lines_reaches_redis() {
    agree(include_str!("../src/resp/inline.rs"), LINES.iter().map(|(row, ..)| *row), 15);
    let stand = Stand::new();
    let before = stand.ran();
    let mut faults = Vec::new();
    for (row, bytes, taken, otherwise) in LINES {
        for (service, then) in [(INLINE, taken), (STRICT, otherwise)] {
            if let Err(fault) = stand.send(service, bytes, then) {
                faults.push(format!("{row}, service {service}: {}: {fault}", bytes.escape_ascii()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    nothing_but(&stand, &before, &[("get", 2)], 2);
}

/// The server has run these since and nothing else, and what it holds is as it was.
fn nothing_but(stand: &Stand, before: &BTreeMap<String, u64>, expected: &[(&str, u64)], count: usize) {
    let mut wanted = before.clone();
    let mut total = 0;
    for (name, more) in expected {
        *wanted.entry((*name).to_owned()).or_default() += more;
        total += more;
    }
    assert_eq!(total, count as u64, "the commands that were meant to run");
    assert_eq!(stand.ran(), wanted);
    assert!(stand.alive());
}

/// The row, the service, the words, and what comes of them.
type Named = (&'static str, usize, &'static [&'static [u8]], Result<&'static str, &'static str>);

/// A word list for each row of the table of names in `command/strict.rs`, and the rule that denies it; no rule: it goes
/// up, and this is the reply.
#[rustfmt::skip]
const NAMES: &[Named] = &[
    ("case", STRICT, &[b"gEt", b"canary"], Err("alive")),
    ("blanks around a name", STRICT, &[b"FLUSHALL "], Ok("builtin/not-a-name")),
    ("blanks around a name", STRICT, &[b" FLUSHALL"], Ok("builtin/not-a-name")),
    ("blanks around a name", STRICT, &[b"CONFIG", b"SET ", b"hz", b"11"], Ok("builtin/unknown-command")),
    ("NUL in a name", STRICT, &[b"FLUSHALL\0"], Ok("builtin/not-a-name")),
    ("NUL in a name", STRICT, &[b"\0FLUSHALL"], Ok("builtin/not-a-name")),
    ("NUL in a name", STRICT, &[b"QUIT\0x"], Ok("builtin/not-a-name")),
    ("NUL in a subcommand", STRICT, &[b"CONFIG", b"SET\0", b"hz", b"11"], Ok("builtin/unknown-command")),
    ("NUL in a subcommand", STRICT, &[b"SCRIPT", b"FLUSH\0x"], Ok("builtin/unknown-command")),
    ("other bytes in a name", STRICT, &[b"\"FLUSHALL\""], Ok("builtin/not-a-name")),
    ("other bytes in a name", STRICT, &["ＦLUSHALL".as_bytes()], Ok("builtin/not-a-name")),
    ("other bytes in a name", STRICT, &[b""], Ok("builtin/not-a-name")),
    ("other bytes in a name", STRICT, &[&[b'F'; 65]], Ok("builtin/not-a-name")),
    ("`CONFIG\\|SET`", STRICT, &[b"CONFIG|SET", b"hz", b"11"], Ok("builtin/not-a-name")),
    ("aliases", HARDENED, &[b"SLAVEOF", b"no", b"one"], Ok("preset:hardened/replication")),
    ("aliases", HARDENED, &[b"REPLICAOF", b"no", b"one"], Ok("preset:hardened/replication")),
    ("aliases", HARDENED, &[b"SYNC"], Ok("preset:hardened/replication")),
    ("aliases", HARDENED, &[b"PSYNC", b"?", b"-1"], Ok("preset:hardened/replication")),
    ("renamed commands", STRICT, &[b"CONFIG_a8f3d2c1b4e5", b"SET", b"hz", b"11"], Ok("builtin/unknown-command")),
    ("commands of modules", STRICT, &[b"BF.ADD", b"canary", b"x"], Ok("builtin/unknown-command")),
    ("commands of modules", STRICT, &[b"FT.SEARCH", b"i", b"x"], Ok("builtin/unknown-command")),
    ("unknown subcommands", STRICT, &[b"CONFIG", b"NOSUCH"], Ok("builtin/unknown-command")),
    ("wrong number of words", STRICT, &[b"SELECT", b"1", b"2"], Ok("builtin/not-canonical")),
    ("wrong number of words", STRICT, &[b"MULTI", b"x"], Ok("builtin/not-canonical")),
    ("several pairs of CONFIG SET", STRICT, &[b"CONFIG", b"SET", b"hz", b"10", b"dir\0", b"/"], Ok("builtin/not-canonical")),
    ("several pairs of CONFIG SET", HARDENED, &[b"CONFIG", b"SET", b"hz", b"10", b"maxmemory", b"0"], Ok("preset:hardened/configuration")),
    ("flags of COMMAND", HARDENED, &[b"SHUTDOWN", b"NOSAVE"], Ok("preset:hardened/server-control")),
    ("scripts", HARDENED, &[b"EVAL", b"redis.call('flushall')", b"0"], Ok("preset:hardened/scripting")),
    ("scripts", HARDENED, &[b"EVAL_RO", b"redis.call('flushall')", b"0"], Ok("preset:hardened/scripting")),
    ("scripts", HARDENED, &[b"FCALL", b"f", b"0"], Ok("preset:hardened/scripting")),
    ("MONITOR, SLOWLOG", STRICT, &[b"AUTH", b"x"], Ok("builtin/authentication")),
];

#[test]
fn no_name_is_read_in_two_ways() {
    agree(include_str!("../src/command/strict.rs"), NAMES.iter().map(|(row, ..)| *row), 15);
    let stand = Stand::new();
    let before = stand.ran();
    let mut clients: Vec<Client> = [STRICT, INLINE, HARDENED].map(|service| stand.client(service)).into();
    let mut count = 0;
    for (row, service, words, expected) in NAMES {
        let reply = clients[*service].call(words);
        match expected {
            Ok(_) => assert!(reply.error().is_some(), "{row}: {reply:?}"),
            Err(text) => assert_eq!(reply.text(), *text, "{row}"),
        }
        count += usize::from(expected.is_ok());
    }
    // A name with a NUL is the name for one tail in 256, a subcommand for one in 7: enough tails that some would be.
    for tail in 0..600 {
        let name = format!("FLUSHALL\0{tail}");
        let sub = format!("SET\0{tail}");
        clients[STRICT].send(&[name.as_bytes()]);
        clients[STRICT].send(&["CONFIG", &sub, "maxmemory", "1"]);
    }
    for _ in 0..1200 {
        assert!(clients[STRICT].reply().error().is_some_and(|text| text.starts_with("NOPERM")));
    }
    nothing_but(&stand, &before, &[("get", 1)], 1);
    let denials = stand.proxy.await_that("a record for each", |proxy| {
        let records = proxy.records("command");
        let denials: Vec<_> = records.into_iter().filter(|record| record["verdict"] == "deny").collect();
        (denials.len() == count + 1200).then_some(denials)
    });
    let mut wanted: BTreeMap<&str, usize> = BTreeMap::new();
    for (.., expected) in NAMES {
        if let Ok(rule) = expected {
            *wanted.entry(rule).or_default() += 1;
        }
    }
    *wanted.entry("builtin/not-a-name").or_default() += 600;
    *wanted.entry("builtin/unknown-command").or_default() += 600;
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for record in &denials {
        *seen.entry(record["rule"].as_str().unwrap()).or_default() += 1;
    }
    assert_eq!(seen, wanted);
}

/// Two replies to one command, on every Redis up to 8.6: were it passed on, each reply behind it would be another's.
#[test]
fn a_command_that_redis_answers_twice_does_not_go_up() {
    let stand = Stand::new();
    let mut client = stand.client(STRICT);
    client.call(&["HELLO", "3"]);
    let twice = ["CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "a", "PREFIX", "b", "PREFIX", "b"];
    let bytes = [encode(&twice), encode(&["ECHO", "mine"])].concat();
    client.send_raw(&bytes);
    assert_eq!(client.reply().error(), Some("ERR syntax error"));
    assert_eq!(client.reply().text(), "mine");
    let mut many = vec!["CLIENT".to_owned(), "TRACKING".to_owned(), "ON".to_owned(), "BCAST".to_owned()];
    for number in 0..PREFIXES_MAX {
        many.extend(["PREFIX".to_owned(), format!("{number:05}")]);
    }
    let tracks = Release::of_server().since(6, 0);
    assert_eq!(client.call(&many).error().is_none(), tracks, "prefixes that are apart go up");
    assert_eq!(client.call(&["ECHO", "mine"]).text(), "mine");
}

/// Kilobytes of a process: what it has mapped, touched or not, and what it has touched.
fn memory(proxy: &Proxy) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    (field("VmSize:"), field("VmRSS:"))
}

/// Whatever a client declares, it costs what it sends. Fifty clients promise 25 GiB here, and a million words each.
#[test]
fn nothing_is_set_aside_for_what_is_only_declared() {
    const CLIENTS: usize = 50;
    let stand = Stand::new();
    for declared in [
        &b"*1048576\r\n"[..],
        b"*1048576\r\n$536870912\r\n",
        b"*3\r\n$3\r\nSET\r\n$6\r\ncanary\r\n$536870912\r\nx",
        b"*3\r\n$8\r\nFLUSHALL\r\n$6\r\ncanary\r\n$536870912\r\nx",
        b"*1048576\r\n$4\r\nMSET\r\n$536870912\r\nx",
    ] {
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| stand.client(STRICT)).collect();
        let (mapped, touched) = memory(&stand.proxy);
        for client in &mut clients {
            client.send_raw(declared);
        }
        // Some that came behind all of them are served, by either worker: they have been read.
        for _ in 0..4 {
            let mut last = stand.client(STRICT);
            assert_eq!(last.call(&["ECHO", "served"]).text(), "served");
            clients.push(last);
        }
        let (mapped_after, touched_after) = memory(&stand.proxy);
        let shown = declared.escape_ascii();
        assert!(mapped_after < mapped + 64 * 1024, "{shown}: {mapped} to {mapped_after} KiB are mapped");
        assert!(touched_after < touched + 16 * 1024, "{shown}: {touched} to {touched_after} KiB are used");
    }
    assert!(stand.alive());
}
