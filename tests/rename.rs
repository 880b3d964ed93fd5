//! A Redis whose dangerous commands have secret names, before which clients say the usual ones: what the server
//! hears, and that nobody else ever hears the secret ones.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::{fs, process::Command};
use support::{
    process::{Proxy, program},
    redis::Redis,
    setup::{Setup, write_secret},
    wire::{Reply, encode},
};

const SECRETS: [(&str, &str); 5] = [
    ("CONFIG", "cfg_9f1b2c"),
    ("FLUSHALL", "Flush_9f1b2c_all"),
    ("DEBUG", "dbg_9f1b2c"),
    ("SET", "set_9f1b2c"),
    ("EVAL", "eval_9f1b2c"),
];

fn lines() -> Vec<String> {
    SECRETS.iter().map(|(usual, secret)| format!("rename-command {usual} {secret}")).collect()
}

fn redis() -> Redis {
    let lines = lines();
    Redis::with(&lines.iter().map(String::as_str).collect::<Vec<_>>(), None)
}

/// A folder with the map, as redis.conf has it; and the role that reads it.
fn role(dir: &tempfile::TempDir) -> &'static str {
    let path = dir.path().join("renamed.conf");
    write_secret(&path, lines().join("\n"));
    format!("[[role]]\nname = \"app\"\nmatch = [{{ cn = \"app\" }}]\nrename_file = \"{}\"", path.display()).leak()
}

fn setup(redis: &Redis, role: &'static str) -> Setup {
    Setup::before(redis).with(|setup| {
        setup.roles = role;
        setup.more = "[policy]\ndeny = []";
    })
}

fn tells(text: &str) -> bool {
    text.to_ascii_lowercase().contains("9f1b2c")
}

/// All that can be read in a reply.
fn said(reply: &Reply) -> String {
    let mut text = String::new();
    let mut open = vec![reply];
    while let Some(reply) = open.pop() {
        match reply {
            Reply::Array(all) => open.extend(all),
            Reply::Bulk(bytes) => text.push_str(&String::from_utf8_lossy(bytes)),
            other => text.push_str(&format!("{other:?}")),
        }
        text.push('\n');
    }
    text
}

#[test]
fn the_usual_names_work_and_the_secret_ones_are_seen_nowhere() {
    let redis = redis();
    let dir = tempfile::Builder::new().prefix("rename-").tempdir().unwrap();
    let mut proxy = Proxy::with(&setup(&redis, role(&dir)));
    let mut client = proxy.client();
    client.call(&["SET", "a", "1"]).expect_ok();
    assert_eq!(client.call(&["config", "get", "maxmemory"]).elements()[1].text(), "0");
    client.call(&["CONFIG", "SET", "maxmemory", "104857600"]).expect_ok();
    assert_eq!(client.call(&["EVAL", "return 7", "0"]).integer(), 7);
    client.call(&["MULTI"]).expect_ok();
    assert_eq!(client.call(&["SET", "b", "2"]).text(), "QUEUED");
    assert_eq!(client.call(&["CONFIG", "GET", "maxmemory"]).text(), "QUEUED");
    assert_eq!(client.call(&["EXEC"]).elements().len(), 2);
    assert_eq!(client.call(&["GET", "b"]).text(), "2");
    // A large value is held until it is whole, then sent under the other name.
    let large = "x".repeat(1_000_000);
    for chunk in encode(&["SET", "large", &large]).chunks(70_001) {
        client.send_raw(chunk);
    }
    client.reply().expect_ok();
    assert_eq!(client.call(&["STRLEN", "large"]).integer(), 1_000_000);
    client.call(&["FLUSHALL"]).expect_ok();
    assert_eq!(client.call(&["DBSIZE"]).integer(), 0);

    // What the server says about such a command, in errors of all kinds.
    for words in [
        &["CONFIG"][..],
        &["CONFIG", "GET"],
        &["CONFIG", "SET", "maxmemory"],
        &["CONFIG", "NOSUCH"],
        &["CONFIG", "HELP"],
        &["DEBUG"],
        &["DEBUG", "HELP"],
        &["DEBUG", "NOSUCH"],
        &["FLUSHALL", "x", "y"],
        &["SET"],
        &["SET", "a"],
        &["SET", "a", "b", "c"],
        &["EVAL", "return redis.call('SET', 'a', 'b')", "0"],
        &["EVAL", "nonsense(", "0"],
    ] {
        let reply = client.call(words);
        let text = reply.error().unwrap_or_else(|| panic!("{words:?}: {reply:?}"));
        assert!(!tells(text), "{words:?}: {text}");
    }

    // The secret word is taken from nobody, and answered as any unknown word is.
    let heard = |redis: &Redis| {
        let mut calls = redis.calls();
        // What asks.
        calls.remove("info");
        calls
    };
    let before = heard(&redis);
    for (usual, secret) in SECRETS {
        for word in [secret.to_owned(), secret.to_ascii_uppercase(), secret.to_ascii_lowercase()] {
            for words in [vec![word.as_str()], vec![&word, "GET", "maxmemory"], vec!["CONFIG", &word]] {
                let reply = client.call(&words);
                let text = reply.error().unwrap_or_else(|| panic!("{usual}: {reply:?}")).to_owned();
                let other = client.call(
                    &words.iter().map(|each| if *each == word { "unheard_of" } else { each }).collect::<Vec<_>>(),
                );
                assert_eq!(text.replace(&word, "unheard_of"), other.error().unwrap(), "{usual}");
            }
        }
    }
    assert_eq!(heard(&redis), before);
    proxy.await_record("command", |record| record["rule"] == "builtin/renamed" && record["cmd"] == "(renamed)");
    proxy.await_record("command", |record| record["cmd"] == "CONFIG" && record["sub"] == "(renamed)");
    proxy.await_record("begin", |record| record["cmd"] == "FLUSHALL");
    let (_, metrics) = proxy.page("/metrics");
    drop(client);
    proxy.stop();
    for (what, text) in [("records", proxy.audit_text()), ("log", proxy.log()), ("metrics", metrics)] {
        assert!(!text.is_empty() && !tells(&text), "in {what}: {text}");
    }
}

/// Everything a client can ask that lists commands or repeats what was said; on the servers of the matrix this is also the
/// proof of the table in deploy/docs/arguments.md.
#[test]
fn no_answer_that_a_role_with_a_map_can_have_shows_the_word() {
    let mut config: Vec<String> = lines();
    config.extend(["rename-command OBJECT obj_9f1b2c".to_owned(), "slowlog-log-slower-than 0".to_owned()]);
    let redis = Redis::with(&config.iter().map(String::as_str).collect::<Vec<_>>(), None);
    let dir = tempfile::Builder::new().prefix("rename-").tempdir().unwrap();
    let role = role(&dir);
    let path = dir.path().join("renamed.conf");
    write_secret(&path, format!("{}\nrename-command OBJECT obj_9f1b2c\n", lines().join("\n")));
    let proxy = Proxy::with(&setup(&redis, role));
    let mut client = proxy.client();
    client.call(&["SET", "a", "1"]).expect_ok();
    client.call(&["CONFIG", "GET", "maxmemory"]);
    for words in [
        &["COMMAND"][..],
        &["COMMAND", "LIST"],
        &["COMMAND", "DOCS"],
        &["COMMAND", "INFO", "config", "set", "object"],
        &["COMMAND", "GETKEYS", "SET", "a", "1"],
        &["INFO", "commandstats"],
        &["INFO", "all"],
        &["CLIENT", "LIST"],
        &["CLIENT", "INFO"],
        &["ACL", "LIST"],
        &["ACL", "LOG"],
        &["ACL", "GETUSER", "default"],
        &["ACL", "CAT", "dangerous"],
        &["LATENCY", "HISTOGRAM"],
        &["LATENCY", "LATEST"],
        &["CONFIG", "GET", "maxmemory*"],
    ] {
        let reply = said(&client.call(words));
        assert!(!reply.is_empty() && !tells(&reply), "{words:?}: {reply}");
    }
    // These do on every server.
    for words in [&["SLOWLOG", "GET", "100"][..], &["COMMANDLOG", "GET", "100", "slow"], &["MONITOR"]] {
        let reply = client.call(words);
        assert!(reply.error().is_some_and(|text| text.starts_with("NOPERM ")), "{words:?}: {reply:?}");
    }
    let slow = said(&redis.connect().call(&["SLOWLOG", "GET", "100"]));
    assert!(tells(&slow), "or the denial is for nothing: {slow}");
    // What releases before 7.0 find wrong only when EXEC runs it, and what a script hands on.
    for words in [
        &["OBJECT", "NOSUCH", "a"][..],
        &["CONFIG", "NOSUCH"],
        &["DEBUG", "NOSUCH"],
        &["EVAL", "return {redis.pcall('obj_9f1b2c','nosuch','a'),{redis.pcall('cfg_9f1b2c','nosuch')}}", "0"],
    ] {
        client.call(&["MULTI"]).expect_ok();
        let replies =
            [client.call(words), client.call(&["EXEC"]), client.call(words)].map(|reply| said(&reply)).concat();
        assert!(!tells(&replies), "{words:?}: {replies}");
    }
    assert_eq!(client.call(&["PING"]).text(), "PONG");
}

#[test]
fn check_and_errors_name_no_secret() {
    let redis = redis();
    let dir = tempfile::Builder::new().prefix("rename-").tempdir().unwrap();
    let proxy = Proxy::with(&setup(&redis, role(&dir)));
    let check = |more: &[&str]| {
        let output = Command::new(program())
            .args(["check", "--offline", "-v", "-c"])
            .arg(proxy.path("ravelin.toml"))
            .args(more)
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let (good, text) = check(&[]);
    assert!(good && !tells(&text), "{text}");
    assert!(text.contains("commands are renamed, and ") && text.contains("by PSYNC, SYNC shows"), "{text}");
    assert!(text.contains("known to the server by secret names: "), "{text}");
    let (_, json) = check(&["--json"]);
    assert!(!tells(&json), "{json}");
    // Wrong entries: by usual name, line and reason.
    fs::write(dir.path().join("renamed.conf"), "rename-command CONFG x_9f1b2c\nrename-command EXEC y_9f1b2c\n")
        .unwrap();
    let (good, text) = check(&[]);
    assert!(!good && !tells(&text), "{text}");
    assert!(
        text.contains("line 1: no command is called so; did you mean CONFIG?") && text.contains("line 2: "),
        "{text}"
    );
    for inline in ["{ CONFG = \"z_9f1b2c\" }", "{ KEYS = [\"z_9f1b2c\"] }", "\"z_9f1b2c\""] {
        let role: &'static str =
            format!("[[role]]\nname = \"app\"\nmatch = [{{ cn = \"app\" }}]\nrename = {inline}").leak();
        proxy.configure(&setup(&redis, role));
        let (good, text) = check(&[]);
        assert!(!good && !tells(&text), "{text}");
    }
}

#[test]
fn a_role_without_the_map_is_told_that_the_command_is_unknown_by_the_server_itself() {
    let redis = redis();
    let proxy = Proxy::with(&setup(&redis, "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]"));
    let mut client = proxy.client();
    let reply = client.call(&["FLUSHALL"]);
    assert!(matches!(&reply, Reply::Error(text) if text.starts_with("ERR unknown command")), "{reply:?}");
    let reply = client.call(&["cfg_9f1b2c", "GET", "maxmemory"]);
    assert!(reply.error().unwrap().starts_with("NOPERM "), "{reply:?}");
}
