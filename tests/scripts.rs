//! Scripts by role through a real Redis: what is pinned runs in every form, what is not never reaches the server; and the
//! rules about arguments that look at other words: CONFIG's parameters, CLIENT KILL's number.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use ravelin::policy::scripts::ScriptDigest;
use std::{fs, process::Command};
use support::{
    client::Client,
    process::{Proxy, program},
    redis::{Redis, Release},
    setup::Setup,
    wire::{Reply, encode},
};

const INCREMENT: &str = "return redis.call('INCR', KEYS[1])";
const OTHER: &str = "return redis.call('FLUSHALL')";

/// A file that lives as long as the test.
struct Pins {
    dir: tempfile::TempDir,
}

impl Pins {
    fn of(lines: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("pins-").tempdir().unwrap();
        fs::write(dir.path().join("scripts.sha1"), lines).unwrap();
        Self { dir }
    }

    /// A role with these pins over the default floor.
    fn role(&self) -> &'static str {
        let path = self.dir.path().join("scripts.sha1");
        format!(
            "[[role]]\nname = \"app\"\nmatch = [{{ cn = \"app\" }}]\nscripts = {{ pinned = \"{}\" }}",
            path.display()
        )
        .leak()
    }
}

fn before(redis: &Redis, role: &'static str, more: &'static str) -> Proxy {
    Proxy::with(&Setup::before(redis).with(|setup| {
        setup.roles = role;
        setup.more = more;
    }))
}

fn denied(reply: &Reply) -> bool {
    reply.error().is_some_and(|text| text.starts_with("NOPERM "))
}

#[test]
fn pinned_scripts_run_and_no_others_reach_redis() {
    let redis = Redis::start();
    let digest = ScriptDigest::of(INCREMENT.as_bytes()).to_string();
    let pins = Pins::of(&format!("# what the application runs\n{digest}  increment.lua\n"));
    let proxy = before(&redis, pins.role(), "");
    let mut client = proxy.client();
    assert_eq!(client.call(&["EVAL", INCREMENT, "1", "n"]).integer(), 1);
    assert_eq!(client.call(&["eval", INCREMENT, "1", "n"]).integer(), 2);
    assert_eq!(client.call(&["EVALSHA", &digest, "1", "n"]).integer(), 3);
    assert_eq!(client.call(&["EVALSHA", &digest.to_ascii_uppercase(), "1", "n"]).integer(), 4);
    assert_eq!(client.call(&["SCRIPT", "LOAD", INCREMENT]).text(), digest);
    assert_eq!(client.call(&["SCRIPT", "EXISTS", &digest]), Reply::Array(vec![Reply::Integer(1)]));
    let other = ScriptDigest::of(OTHER.as_bytes()).to_string();
    let unpinned: [&[&str]; 9] = [
        &["EVAL", OTHER, "0"],
        &["EVAL", &format!("{INCREMENT} "), "1", "n"],
        &["EVAL_RO", OTHER, "0"],
        &["EVALSHA", &other, "0"],
        &["SCRIPT", "LOAD", OTHER],
        &["SCRIPT", "FLUSH"],
        &["FCALL", "f", "0"],
        &["FUNCTION", "LOAD", OTHER],
        &["FUNCTION", "FLUSH"],
    ];
    for words in unpinned {
        assert!(denied(&client.call(words)), "{words:?}");
    }
    // In a transaction each is judged when it is queued.
    for (script, runs) in [(INCREMENT, true), (OTHER, false)] {
        client.call(&["MULTI"]).expect_ok();
        let queued = client.call(&["EVAL", script, "1", "n"]);
        assert_eq!(denied(&queued), !runs, "{queued:?}");
        assert_eq!(client.call(&["EXEC"]).error().is_none(), runs);
    }
    assert_eq!(client.call(&["GET", "n"]).text(), "5");
    assert_eq!(redis.calls_of("flushall"), 0);
    proxy.await_record("command", |record| record["cmd"] == "EVAL" && record["rule"] == "scripts:pinned");
    proxy.await_record("command", |record| record["sub"] == "FLUSH" && record["rule"] == "preset:hardened/scripting");
}

#[test]
fn a_large_body_is_held_whole_and_hashed_in_whatever_pieces_it_comes() {
    let redis = Redis::start();
    let body = |size: usize| format!("return 7 --{}", "x".repeat(size - 11)).into_bytes();
    let (large, too_large) = (body(1024 * 1024), body(1024 * 1024 + 1));
    let pins = Pins::of(&format!("{}\n{}\n", ScriptDigest::of(&large), ScriptDigest::of(&too_large)));
    let proxy = before(&redis, pins.role(), "");
    let mut client = proxy.client();
    let mut other = large.clone();
    *other.last_mut().unwrap() = b'y';
    for (script, runs) in [(&large, true), (&too_large, false), (&other, false)] {
        let bytes = encode(&[&b"EVAL"[..], script, b"0"]);
        for chunk in bytes.chunks(100_003) {
            client.send_raw(chunk);
        }
        let reply = client.reply();
        assert_eq!(denied(&reply), !runs, "{reply:?}");
        assert_eq!(client.call(&["PING"]).text(), "PONG");
    }
    assert_eq!(redis.calls_of("eval"), 1);
}

#[test]
fn read_only_scripts_read_and_do_not_write() {
    if !Release::of_server().since(7, 0) {
        return;
    }
    let redis = Redis::start();
    let proxy = before(&redis, "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\nscripts = \"read-only\"", "");
    let mut client = proxy.client();
    client.call(&["SET", "n", "1"]).expect_ok();
    assert_eq!(client.call(&["EVAL_RO", "return redis.call('GET', KEYS[1])", "1", "n"]).text(), "1");
    assert!(client.call(&["EVAL_RO", INCREMENT, "1", "n"]).error().unwrap().contains("Write commands are not allowed"));
    for words in [&["EVAL", "return 1", "0"][..], &["SCRIPT", "LOAD", "return 1"], &["FCALL", "f", "0"]] {
        assert!(denied(&client.call(words)), "{words:?}");
    }
    proxy.await_record("command", |record| record["cmd"] == "EVAL" && record["rule"] == "scripts:read-only");
}

#[test]
fn a_role_may_run_any_script_where_the_floor_denies_scripts_by_preset_alone() {
    let redis = Redis::start();
    let role = "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\nscripts = \"allow\"";
    let proxy = before(&redis, role, "");
    assert_eq!(proxy.client().call(&["EVAL", "return 1", "0"]).integer(), 1);
    assert!(denied(&proxy.client().call(&["SCRIPT", "FLUSH"])));
    let named = before(&redis, role, "[policy]\ndeny = [\"preset:hardened\", \"EVAL\"]");
    assert!(denied(&named.client().call(&["EVAL", "return 1", "0"])), "an entry that names it still denies it");
    let floor = before(
        &redis,
        "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\nmode = \"shadow\"\nscripts = \"allow\"",
        "[policy]\nscripts = \"deny\"",
    );
    assert!(denied(&floor.client().call(&["EVAL", "return 1", "0"])), "what is tried out does not lift the floor");
}

#[test]
fn config_shows_and_changes_what_is_listed() {
    let redis = Redis::with_password("p");
    let role = "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\n\
                config = { get = [\"maxmemory*\", \"save\"], set = [\"maxmemory\"] }";
    let proxy = before(&redis, role, "[policy]\ndeny = []");
    let mut client = proxy.client();
    assert!(client.call(&["CONFIG", "GET", "maxmemory-p*"]).error().is_none());
    client.call(&["CONFIG", "SET", "MaxMemory", "104857600"]).expect_ok();
    let refused: [(&[&str], &str); 7] = [
        (&["CONFIG", "GET", "require*"], "builtin/credential"),
        (&["CONFIG", "GET", "*"], "builtin/credential"),
        (&["config", "get", "requirepass"], "builtin/credential"),
        (&["CONFIG", "GET", "maxmemory\0"], "builtin/credential"),
        (&["CONFIG", "GET", "dir"], "config:get"),
        (&["CONFIG", "SET", "dir", "/tmp"], "config:set"),
        (&["CONFIG", "SET", "maxmemory", "1", "dir", "/tmp"], "config:set"),
    ];
    for (words, _) in refused {
        assert!(denied(&client.call(words)), "{words:?}");
    }
    client.call(&["MULTI"]).expect_ok();
    assert!(denied(&client.call(&["CONFIG", "SET", "dir", "/tmp"])));
    assert!(client.call(&["EXEC"]).error().is_some());
    drop(client);
    proxy.await_record("connection_close", |_| true);
    let rules: Vec<_> =
        proxy.records("command").iter().filter_map(|each| each["rule"].as_str().map(str::to_owned)).collect();
    assert_eq!(rules[..7], refused.map(|(_, rule)| rule.to_owned()));
    // A secret is kept without any list too.
    let plain = before(&redis, "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]", "[policy]\ndeny = []");
    assert!(denied(&plain.client().call(&["CONFIG", "GET", "requirepass"])));
    assert!(plain.client().call(&["CONFIG", "GET", "dir"]).error().is_none());
}

fn id_of(client: &mut Client) -> String {
    client.call(&["CLIENT", "ID"]).integer().to_string()
}

#[test]
fn a_client_kills_its_own_connection_and_no_other() {
    if !Release::of_server().since(5, 0) {
        return; // There is no CLIENT ID: nothing can be killed, which the unit tests show.
    }
    let redis = Redis::start();
    let role = "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\nclient_kill = \"own\"";
    let proxy = before(&redis, role, "[policy]\ndeny = []");
    let (mut one, mut two) = (proxy.client(), proxy.client());
    let id = id_of(&mut one);
    assert!(denied(&two.call(&["CLIENT", "KILL", "ID", &id])), "no number is known");
    let theirs = id_of(&mut two);
    for words in [
        &["CLIENT", "KILL", "ID", &id][..],
        &["CLIENT", "KILL", "TYPE", "normal"],
        &["CLIENT", "KILL", "SKIPME", "no"],
        &["CLIENT", "KILL", "ID", &theirs, "ID", &id],
    ] {
        assert!(denied(&two.call(words)), "{words:?}");
    }
    assert_eq!(one.call(&["PING"]).text(), "PONG", "still there");
    assert_eq!(
        two.call(&["CLIENT", "KILL", "ID", &theirs, "SKIPME", "yes"]).error().map(|text| &text[..6]),
        Some("NOPERM")
    );
    two.send(&["CLIENT", "KILL", "ID", &theirs]);
    // SKIPME is yes by default: the server spares the one who asks, and says how many were killed.
    assert!(two.reply().integer() <= 1);
}

#[test]
fn what_was_run_is_learned_and_pinned_and_then_nothing_else_runs() {
    let redis = Redis::start();
    let role = "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\nscripts = \"allow\"";
    let proxy = before(&redis, role, "");
    let mut client = proxy.client();
    client.call(&["EVAL", INCREMENT, "1", "n"]);
    client.call(&["EVAL", INCREMENT, "1", "n"]);
    client.call(&["SCRIPT", "LOAD", "return 2"]);
    let other = ScriptDigest::of(b"return 2").to_string();
    client.call(&["EVALSHA", &other, "0"]);
    let digest = ScriptDigest::of(INCREMENT.as_bytes()).to_string();
    let record = proxy.await_record("command", |record| record["cmd"] == "EVAL");
    assert_eq!((&record["script_sha1"], &record["script_bytes"]), (&digest.clone().into(), &INCREMENT.len().into()));
    let record = proxy.await_record("command", |record| record["cmd"] == "EVALSHA");
    assert_eq!((&record["script_sha1"], record["script_bytes"].is_null()), (&other.clone().into(), true));

    let dir = tempfile::Builder::new().prefix("pins-").tempdir().unwrap();
    let (pins, stream) = (dir.path().join("scripts.sha1"), proxy.path("audit.jsonl"));
    fs::write(&pins, format!("# ours\n{other}  two.lua")).unwrap();
    let scripts = |arguments: &[&str]| {
        let output = Command::new(program()).arg("scripts").args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    };
    let (pins, stream) = (pins.to_str().unwrap(), stream.to_str().unwrap());
    let (code, listed) = scripts(&["list", stream, "--pins", pins]);
    assert_eq!(code, Some(0), "{listed}");
    assert!(
        listed.contains(&format!("{digest}  not here 2 times, {} bytes, EVAL, role app", INCREMENT.len())),
        "{listed}"
    );
    assert!(listed.contains(&format!("{other}  pinned   2 times, 8 bytes, EVALSHA SCRIPT|LOAD, role app")), "{listed}");
    let (_, learned) = scripts(&["learn", stream, "--pins", pins]);
    assert!(learned.starts_with(&digest) && learned.lines().count() == 1, "{learned}");
    assert_eq!(scripts(&["learn", stream, "--role", "nobody"]), (Some(0), String::new()));
    let (code, said) = scripts(&["learn", stream, "--pins", pins, "--write"]);
    assert_eq!((code, said), (Some(0), format!("1 pinned in {pins}\n")));
    let lua = dir.path().join("three.lua");
    fs::write(&lua, "return 3").unwrap();
    let (code, said) = scripts(&["pin", lua.to_str().unwrap(), "--pins", pins, "--write"]);
    assert_eq!((code, said), (Some(0), format!("1 pinned in {pins}\n")));
    let pinned = fs::read_to_string(pins).unwrap();
    assert_eq!(pinned.lines().count(), 4, "{pinned}");

    let after = Pins { dir };
    let strict = before(&redis, after.role(), "");
    let mut client = strict.client();
    for script in [INCREMENT, "return 2", "return 3"] {
        assert!(client.call(&["EVAL", script, "1", "n"]).error().is_none(), "{script}");
    }
    assert!(denied(&client.call(&["EVAL", "return 4", "0"])));
    for (arguments, code) in
        [(&["list", "nowhere"][..], 1), (&["learn", stream, "--write"], 2), (&["list", stream, "--pins", stream], 3)]
    {
        assert_eq!(scripts(arguments).0, Some(code), "{arguments:?}");
    }
}
