//! The presets: the page about them says what the code does, and the programs they are made for get along with them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use ravelin::{
    command::catalog,
    policy::{
        Verdict,
        presets::{Group, NOT_LISTED, PRESETS},
        rules::Policy,
    },
};
use std::process::{Command, Stdio};
use std::{fmt::Write as _, fs, path::PathBuf};
use support::{
    process::Proxy,
    redis::{Redis, program},
    setup::Setup,
    tunnel::Tunnel,
    wire::Reply,
};

fn page_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/docs/presets.md")
}

fn groups(out: &mut String, title: &str, groups: &[Group]) {
    writeln!(out, "\n| {title} | commands | why |\n|---|---|---|").unwrap();
    for group in groups {
        let commands: Vec<String> =
            group.commands.iter().map(|entry| format!("`{}`", entry.replace('|', " "))).collect();
        writeln!(out, "| {} | {} | {} |", group.name, commands.join(", "), group.why.replace('|', "\\|")).unwrap();
    }
}

/// The page, made from the code.
fn page() -> String {
    let mut out = String::from(
        "# Presets\n\n\
         <!-- Written by `cargo test --test presets -- --ignored regenerate`; the test beside it holds it against the code. -->\n\n\
         A preset is a list of commands with a name, written `preset:NAME` in `policy.deny` or a role's `deny`. Some deny\n\
         what they name; others name what they leave open and deny everything else, as `preset:NAME/not-listed`. Either way a\n\
         preset only denies: where several apply (the floor's and a role's), a command is open if each of them leaves it\n\
         open. So a role with `deny = [\"preset:exporter\"]` needs a floor that leaves INFO, LATENCY and the like open:\n\
         `policy.deny = []`, with a preset in every role, is the shape for mixed clients. A record's rule names preset and\n\
         group; `ravelin check -v` lists what each role's policy denies, `ravelin explain` says why.\n\n\
         A command without its subcommand (`CONFIG`) names all of them; `@name` is an ACL category of Redis 7.0. Commands that\n\
         are in no catalog (modules', renamed ones, later releases') are denied besides, whatever the preset.\n",
    );
    for preset in PRESETS {
        writeln!(out, "\n## {}\n\n{}.", preset.name, capital(preset.about)).unwrap();
        if preset.name != PRESETS[0].name && std::ptr::eq(preset.deny, PRESETS[0].deny) {
            writeln!(out, "\nWhat `preset:{}` denies is denied first, by the same groups.", PRESETS[0].name).unwrap();
        } else if !preset.deny.is_empty() {
            groups(&mut out, "denied", preset.deny);
        }
        match preset.allow {
            Some(allowed) => groups(&mut out, "open", allowed),
            None => writeln!(out, "\nEverything else is open.").unwrap(),
        }
        if preset.allow.is_some() {
            writeln!(out, "\nEverything else is denied, as `preset:{}/{NOT_LISTED}`.", preset.name).unwrap();
        }
    }
    out.push_str("\n## Every command\n\n`+` is open, a dot denied, by the preset alone.\n\n| command |");
    for preset in PRESETS {
        write!(out, " {} |", preset.name).unwrap();
    }
    out.push_str("\n|---|");
    out.push_str(&":-:|".repeat(PRESETS.len()));
    out.push('\n');
    let policies: Vec<Policy> =
        PRESETS.iter().map(|preset| Policy::compile(&[&format!("preset:{}", preset.name)]).unwrap()).collect();
    for (id, row) in catalog::iter() {
        write!(out, "| {} |", row.full_name.to_ascii_uppercase().replace('|', " ")).unwrap();
        for policy in &policies {
            write!(out, " {} |", if policy.judge(id) == Verdict::Allow { "+" } else { "." }).unwrap();
        }
        out.push('\n');
    }
    out
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[test]
fn the_page_says_what_the_code_does() {
    let written = fs::read_to_string(page_path()).unwrap();
    assert!(written == page(), "run: cargo test --test presets -- --ignored regenerate");
}

#[test]
#[ignore = "writes deploy/docs/presets.md"]
fn regenerate() {
    fs::write(page_path(), page()).unwrap();
}

/// A proxy whose only role has this preset, over a floor that is open.
fn before(redis: &Redis, role: &'static str) -> Proxy {
    Proxy::with(&Setup::before(redis).with(|setup| {
        setup.more = "[policy]\ndeny = []";
        setup.roles = role;
    }))
}

#[test]
fn redis_exporter_gets_its_metrics_and_no_value() {
    let redis = Redis::start();
    let proxy =
        before(&redis, "[[role]]\nname = \"exporter\"\nmatch = [{ cn = \"app\" }]\ndeny = [\"preset:exporter\"]");
    let mut client = proxy.client();
    // What it says at each scrape, in its order; it goes on without what is denied.
    for (line, allowed) in [
        ("CLIENT SETNAME redis_exporter", true),
        ("CONFIG GET *", false),
        ("INFO ALL", true),
        ("CLUSTER INFO", true),
        ("LATENCY LATEST", true),
        ("SLOWLOG LEN", true),
        ("SLOWLOG GET 1", false),
        ("GET key", false),
        ("SCAN 0", false),
        ("KEYS *", false),
        ("EVAL return 0", false),
        ("FLUSHALL", false),
        ("BF.ADD a b", false),
    ] {
        let reply = client.call(&line.split(' ').collect::<Vec<_>>());
        let denied = reply.error().is_some_and(|error| error.starts_with("NOPERM"));
        assert_eq!(denied, !allowed, "{line}: {reply:?}");
    }
    proxy.await_record("command", |record| record["cmd"] == "KEYS" && record["rule"] == "preset:exporter/not-listed");
}

/// A sentinel of the harness' release, ended by its process id.
struct Sentinel(std::process::Child);

impl Drop for Sentinel {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_real_sentinel_watches_through_the_proxy() {
    let redis = Redis::start();
    let proxy =
        before(&redis, "[[role]]\nname = \"sentinel\"\nmatch = [{ cn = \"app\" }]\ndeny = [\"preset:sentinel\"]");
    let tunnel = Tunnel::to(&proxy, 0, &proxy.pki.client("app").unwrap());
    let dir = tempfile::Builder::new().prefix("sentinel-").tempdir().unwrap();
    let config = dir.path().join("sentinel.conf");
    let socket = dir.path().join("sentinel.sock");
    fs::write(
        &config,
        format!(
            "port 0\nunixsocket {}\ndir {}\nsentinel monitor watched 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds watched 60000\n",
            socket.display(),
            dir.path().display(),
            tunnel.address().port()
        ),
    )
    .unwrap();
    let mut command = Command::new(program());
    command.arg(&config).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _sentinel = Sentinel(command.spawn().unwrap());
    for (cmd, outcome) in
        [("CLIENT", "ran"), ("PING", "ran"), ("INFO", "ran"), ("SUBSCRIBE", "ran"), ("PUBLISH", "ran")]
    {
        proxy.await_record("command", |record| record["cmd"] == cmd && record["outcome"] == outcome);
    }
    let denied: Vec<_> = proxy.records("command").into_iter().filter(|record| record["verdict"] == "deny").collect();
    assert_eq!(denied, Vec::<serde_json::Value>::new());
    // What it would send for a failover, with the words of `sentinelSendSlaveOf`.
    let mut client = proxy.client();
    client.call(&["MULTI"]).expect_ok();
    for line in ["SLAVEOF NO ONE", "CONFIG REWRITE", "CLIENT KILL TYPE normal", "CLIENT KILL TYPE pubsub"] {
        assert_eq!(client.call(&line.split(' ').collect::<Vec<_>>()), Reply::Status("QUEUED".to_owned()), "{line}");
    }
    client.call(&["DISCARD"]);
    assert!(client.call(&["GET", "key"]).error().is_some_and(|error| error.starts_with("NOPERM")));
}

#[test]
fn a_replica_is_served_and_reads_nothing_by_name() {
    let redis = Redis::start();
    let proxy = before(&redis, "[[role]]\nname = \"replica\"\nmatch = [{ cn = \"app\" }]\ndeny = [\"preset:replica\"]");
    let mut client = proxy.client();
    for line in ["GET key", "INFO", "REPLICAOF a 1", "SYNC", "KEYS *"] {
        let reply = client.call(&line.split(' ').collect::<Vec<_>>());
        assert!(reply.error().is_some_and(|error| error.starts_with("NOPERM")), "{line}: {reply:?}");
    }
    assert_eq!(client.call(&["PING"]), Reply::Status("PONG".to_owned()));
    client.call(&["REPLCONF", "listening-port", "1"]).expect_ok();
    // Redis 2.8 does not know the option yet.
    let capa = client.call(&["REPLCONF", "capa", "psync2"]);
    assert!(!capa.error().is_some_and(|error| error.starts_with("NOPERM")), "{capa:?}");
    client.send(&["PSYNC", "?", "-1"]);
    assert!(client.raw_reply().starts_with(b"+FULLRESYNC "));
}
