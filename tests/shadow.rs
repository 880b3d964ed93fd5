//! Rules that are tried out: what they would deny runs, and is recorded as what they would deny.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use serde_json::Value;
use support::{
    process::{PASSWORD, Proxy},
    redis::Redis,
    setup::Setup,
};

fn rulings(proxy: &Proxy, event: &str) -> Vec<[String; 4]> {
    let text = |record: &Value, key: &str| record[key].as_str().unwrap_or("").to_owned();
    let records = proxy.records(event);
    records.iter().map(|record| ["cmd", "verdict", "rule", "shadow"].map(|key| text(record, key))).collect()
}

fn setup(redis: &Redis, policy: &'static str, role: &'static str) -> Setup {
    let roles: &'static str = format!("[[role]]\nname = \"app\"\nmatch = [{{ cn = \"app\" }}]\n{role}").leak();
    Setup::before(redis).with(|setup| {
        setup.roles = roles;
        setup.more = policy;
    })
}

#[test]
fn what_a_rule_in_shadow_mode_would_deny_runs_and_is_recorded_and_counted() {
    let redis = Redis::with_password(PASSWORD);
    let policy = "[policy]\ndeny = [\"CONFIG\"]\nshadow = [\"@hyperloglog\", \"CONFIG\", \"BLPOP\"]";
    let mut proxy = Proxy::with(&setup(&redis, policy, "shadow = [\"APPEND\", \"EXEC\"]\ndeny = [\"GETSET\"]"));
    let mut client = proxy.client();
    assert_eq!(client.call(&["PFADD", "p", "a"]).integer(), 1);
    assert_eq!(client.call(&["MULTI"]).text(), "OK");
    assert_eq!(client.call(&["APPEND", "a", "x"]).text(), "QUEUED");
    assert_eq!(client.call(&["PFCOUNT", "p"]).text(), "QUEUED");
    client.call(&["EXEC"]);
    client.call(&["BLPOP", "none", "0.01"]);
    assert!(client.call(&["CONFIG", "GET", "save"]).error().unwrap().starts_with("NOPERM"));
    assert!(client.call(&["GETSET", "a", "b"]).error().unwrap().starts_with("NOPERM"));
    assert_eq!(redis.calls_of("pfadd"), 1);
    let (_, page) = proxy.page("/metrics");
    assert!(page.contains("ravelin_shadowed_total{rule=\"deny:@hyperloglog\"} 2"), "{page}");
    assert!(!page.contains("ravelin_denied_total{rule=\"deny:@hyperloglog\"}"), "{page}");
    drop(client);
    proxy.stop();
    let expected = [
        ["PFADD", "allow", "", "deny:@hyperloglog"],
        ["MULTI", "allow", "", ""],
        ["APPEND", "allow", "", "deny:APPEND"],
        ["PFCOUNT", "allow", "", "deny:@hyperloglog"],
        ["EXEC", "allow", "", "deny:EXEC"],
        ["BLPOP", "allow", "", "deny:BLPOP"],
        ["CONFIG", "deny", "deny:CONFIG", ""],
        ["GETSET", "deny", "deny:GETSET", ""],
    ];
    assert_eq!(rulings(&proxy, "command")[1..], expected.map(|row| row.map(str::to_owned)));
    let begun = rulings(&proxy, "begin");
    assert_eq!(begun, [["BLPOP", "allow", "", "deny:BLPOP"].map(str::to_owned)]);
}

#[test]
fn a_role_in_shadow_mode_is_under_the_floor_all_the_same_and_a_reload_puts_it_in_force() {
    let redis = Redis::with_password(PASSWORD);
    let proxy = Proxy::with(&setup(&redis, "", "mode = \"shadow\"\ndeny = [\"@write\"]"));
    let mut client = proxy.client();
    client.call(&["SET", "a", "1"]).expect_ok();
    assert!(client.call(&["FLUSHALL"]).error().unwrap().starts_with("NOPERM"), "the floor is in force");
    let shown = std::process::Command::new(support::process::program())
        .args(["explain", "--as", "app", "-c"])
        .arg(proxy.path("ravelin.toml"))
        .args(["--", "SET", "a", "1"])
        .output()
        .unwrap();
    let shown = (shown.status.code(), String::from_utf8(shown.stdout).unwrap());
    let said = "verdict   allowed, but would be denied by deny:@write, which is in shadow mode\n";
    assert!(shown.0 == Some(0) && shown.1.contains(said), "{shown:?}");
    proxy.configure(&setup(&redis, "", "mode = \"enforce\"\ndeny = [\"@write\"]"));
    proxy.reload();
    let mut client = proxy.client();
    assert!(client.call(&["SET", "a", "2"]).error().unwrap().starts_with("NOPERM"));
    let of =
        |record: &Value| ["cmd", "verdict", "rule", "shadow"].map(|key| record[key].as_str().unwrap_or("").to_owned());
    let last = proxy.await_record("command", |record| record["cmd"] == "SET" && record["verdict"] == "deny");
    assert_eq!(of(&last), ["SET", "deny", "deny:@write", ""].map(str::to_owned));
    let first = proxy.await_record("command", |record| record["cmd"] == "SET");
    assert_eq!(of(&first), ["SET", "allow", "", "deny:@write"].map(str::to_owned));
}

#[test]
fn check_says_what_is_only_tried_out() {
    let redis = Redis::with_password(PASSWORD);
    let proxy = Proxy::with(&setup(&redis, "", "shadow = [\"@hyperloglog\"]"));
    let ran = std::process::Command::new(support::process::program())
        .args(["check", "--offline", "-c"])
        .arg(proxy.path("ravelin.toml"))
        .output()
        .unwrap();
    let out = String::from_utf8(ran.stdout).unwrap();
    for part in
        ["in shadow mode", "deny:@hyperloglog", "commands are let through that only rules in shadow mode would deny"]
    {
        assert!(out.contains(part), "{part} is missing in\n{out}");
    }
}
