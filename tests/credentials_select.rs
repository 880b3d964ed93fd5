//! A password that gives a client another role: another policy, another connection to Redis, other records.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use serde_json::Value;
use support::{
    client::Client,
    credentials::{RIGHT, WRONG, error, expect_no_secret, leak, program, users},
    process::{PASSWORD, Proxy},
    redis::{Redis, Release},
    setup::{Setup, write_secret},
    wire::Reply,
};

/// `door` is everybody's who has a certificate for `app`; `writer` and `reader` only a password gives.
const ROLES: &str = "[[role]]\nname = \"door\"\nmatch = [{ cn = \"app\" }]\nclient_auth = \"select\"\ndeny = [\"SET\", \"INFO\"]\n\
                     [[role]]\nname = \"writer\"\nmatch = []\nclient_auth = \"refuse\"\ndeny = [\"INFO\"]\n\
                     [[role]]\nname = \"reader\"\nmatch = []\nclient_auth = \"select\"\ndeny = [\"SET\"]\ndatabases = [2]\n\
                     limits = { max_connections = 1 }";

const USERS: &str = "writer #HASH\nreader #HASH\nalice role=writer #HASH\n";

fn redis() -> Redis {
    Redis::with_password(PASSWORD)
}

fn with_roles(redis: &Redis, roles: &'static str, dir: &tempfile::TempDir) -> Proxy {
    let more = leak(format!("[credentials]\nusers_file = \"{}\"\n", dir.path().join("users").display()));
    Proxy::with(&Setup { roles, more, ..Setup::before(redis) })
}

fn client(proxy: &Proxy) -> Client {
    proxy.client_with(&proxy.pki.client("app").unwrap()).unwrap()
}

#[test]
fn a_password_gives_another_role_behind_all_that_was_said_before() {
    let (redis, dir) = (redis(), users(USERS));
    let proxy = with_roles(&redis, ROLES, &dir);
    let mut app = client(&proxy);
    assert!(error(&mut app, &["SET", "k", "v"]).starts_with("NOPERM"));
    assert!(error(&mut app, &["AUTH", "alice", WRONG]).starts_with("WRONGPASS"));
    assert!(error(&mut app, &["SET", "k", "v"]).starts_with("NOPERM"));
    // All in one piece: what stands before AUTH is judged by the old role, what stands behind it by the new one.
    let mut pipeline = Vec::new();
    for words in [&["GET", "k"][..], &["SET", "k", "1"], &["AUTH", "alice", RIGHT], &["SET", "k", "2"], &["GET", "k"]] {
        pipeline.extend(format!("*{}\r\n", words.len()).bytes());
        words.iter().for_each(|word| pipeline.extend(format!("${}\r\n{word}\r\n", word.len()).bytes()));
    }
    app.send_raw(&pipeline);
    assert_eq!(app.reply(), Reply::Null);
    assert!(app.reply().error().unwrap().starts_with("NOPERM"));
    app.reply().expect_ok();
    app.reply().expect_ok();
    assert_eq!(app.reply().text(), "2");
    assert!(error(&mut app, &["AUTH", "reader", RIGHT]).starts_with("NOPERM"), "the new role takes no password");
    if Release::of_server().since(6, 2) {
        assert!(error(&mut app, &["RESET"]).contains("RESET does not take back"));
    }
    let record = proxy.await_record("command", |record| record["cmd"] == "SET" && record["verdict"] == "allow");
    assert_eq!((&record["role"], &record["identity"]), (&"writer".into(), &"app".into()), "{record}");
    let allowed = proxy.await_record("client_auth", |record| record["verdict"] == "allow");
    assert_eq!((&allowed["role"], &allowed["conn"]), (&"writer".into(), &record["conn"]));
    drop(app);
    proxy.await_record("connection_close", |close| close["role"] == "writer" && close["conn"] == record["conn"]);
    expect_no_secret(&proxy);
}

#[test]
fn nothing_is_selected_while_something_hangs_on_the_connection() {
    let (redis, dir) = (redis(), users(USERS));
    let proxy = with_roles(&redis, ROLES, &dir);
    let mut app = client(&proxy);
    app.call(&["MULTI"]).expect_ok();
    assert!(error(&mut app, &["AUTH", "writer", RIGHT]).starts_with("ERR"));
    assert!(error(&mut app, &["EXEC"]).starts_with("EXECABORT"));
    app.call(&["WATCH", "k"]).expect_ok();
    assert!(error(&mut app, &["AUTH", "writer", RIGHT]).contains("while keys are watched"));
    assert!(error(&mut app, &["EXEC"]).starts_with("ERR EXEC without MULTI"));
    assert!(
        error(&mut app, &["AUTH", "writer", RIGHT]).contains("while keys are watched"),
        "that EXEC unwatches nothing"
    );
    app.call(&["MULTI"]).expect_ok();
    app.call(&["EXEC"]);
    app.call(&["SUBSCRIBE", "a"]);
    // In RESP2 Redis' own subscriber mode has the first word; in RESP3 AUTH would be taken.
    assert!(app.call(&["AUTH", "writer", RIGHT]).error().is_some());
    app.call(&["UNSUBSCRIBE", "a"]);
    assert!(error(&mut app, &["SET", "k", "v"]).starts_with("NOPERM"));
    app.call(&["AUTH", "writer", RIGHT]).expect_ok();
    app.call(&["SET", "k", "v"]).expect_ok();
    app.call(&["WATCH", "k"]).expect_ok();
    app.call(&["UNWATCH"]).expect_ok();
}

#[test]
fn a_selected_role_has_its_own_credential_database_and_limits() {
    if !Release::of_server().since(6, 0) {
        return;
    }
    let (redis, dir) = (redis(), users(USERS));
    redis.connect().call(&["ACL", "SETUSER", "one", "on", ">pw-of-one", "~*", "+@all"]).expect_ok();
    write_secret(&dir.path().join("one"), "pw-of-one");
    let own = format!("upstream = {{ username = \"one\", password_file = \"{}\" }}", dir.path().join("one").display());
    let roles = leak(format!("{ROLES}\n{own}"));
    let proxy = with_roles(&redis, roles, &dir);
    let users = |redis: &Redis| -> Vec<String> {
        let list = redis.connect().call(&["CLIENT", "LIST"]).text();
        let of = |line: &str| Some(line.split("user=").nth(1)?.split(' ').next()?.to_owned());
        list.lines().filter(|line| line.contains("ravelin:")).filter_map(of).collect()
    };
    let mut app = client(&proxy);
    assert_eq!(users(&redis), ["default"]);
    app.call(&["AUTH", "reader", RIGHT]).expect_ok();
    proxy.await_that("the old connection's end", |_| (users(&redis) == ["one"]).then_some(()));
    redis.connect().call(&["SET", "k", "zero"]).expect_ok();
    assert_eq!(app.call(&["GET", "k"]), Reply::Null, "it begins in its own database");
    assert!(error(&mut app, &["SELECT", "0"]).contains("database"));
    let record = proxy.await_record("command", |record| record["cmd"] == "GET");
    assert_eq!((&record["upstream_user"], &record["db"]), (&"one".into(), &Value::from(2)), "{record}");
    // One such connection is all there may be.
    let mut other = client(&proxy);
    assert!(error(&mut other, &["AUTH", "reader", RIGHT]).starts_with("ERR authentication is not possible"));
    // And back out of it, for the role lets passwords select.
    app.call(&["AUTH", "writer", RIGHT]).expect_ok();
    assert_eq!(app.call(&["GET", "k"]).text(), "zero");
    proxy
        .await_that("the old connection's end", |_| (users(&redis).iter().all(|user| user == "default")).then_some(()));
    other.call(&["AUTH", "reader", RIGHT]).expect_ok();
    let shown = proxy.audit_text() + &proxy.log();
    assert!(!shown.contains("pw-of-"), "no password is ever shown");
}

#[test]
fn the_protocol_a_client_speaks_outlives_its_role() {
    if !Release::of_server().since(6, 0) {
        return;
    }
    let (redis, dir) = (redis(), users(USERS));
    let proxy = with_roles(&redis, ROLES, &dir);
    let mut app = client(&proxy);
    assert_eq!(app.call(&["HELLO", "3"]).field("proto").integer(), 3);
    app.call(&["AUTH", "writer", RIGHT]).expect_ok();
    assert!(matches!(app.call(&["HGETALL", "none"]), Reply::Map(_)));
    let mut app = client(&proxy);
    let hello = app.call(&["HELLO", "3", "AUTH", "alice", RIGHT]);
    assert_eq!(hello.field("proto").integer(), 3);
    app.call(&["SET", "k", "v"]).expect_ok();
    assert!(matches!(app.call(&["HGETALL", "none"]), Reply::Map(_)));
    let mut app = client(&proxy);
    assert!(error(&mut app, &["HELLO", "3", "AUTH", "alice", WRONG]).starts_with("WRONGPASS"));
    assert!(matches!(app.call(&["HGETALL", "none"]), Reply::Array(_)), "nothing has changed");
}

#[test]
fn a_reload_that_takes_the_selected_role_away_ends_the_connection() {
    let (redis, dir) = (redis(), users("writer #HASH\n"));
    let roles = |more: &str| -> &'static str {
        leak(format!("[[role]]\nname = \"door\"\nmatch = [{{ cn = \"app\" }}]\nclient_auth = \"select\"\n{more}"))
    };
    let writer = "[[role]]\nname = \"writer\"\nmatch = []";
    let proxy = with_roles(&redis, roles(writer), &dir);
    let mut app = client(&proxy);
    app.call(&["AUTH", "writer", RIGHT]).expect_ok();
    let mut setup = proxy.setup();
    setup.roles = roles(&format!("{writer}\ndeny = [\"SET\"]"));
    proxy.configure(&setup);
    assert_eq!(proxy.reload()["result"], "swapped");
    proxy.await_that("the new policy", |_| app.call(&["SET", "k", "v"]).error().map(|text| text.starts_with("NOPERM")));
    assert!(app.call(&["GET", "k"]).error().is_none(), "the role is still its own");
    setup.roles = roles("");
    proxy.configure(&setup);
    assert_eq!(proxy.reload()["result"], "swapped");
    let close = proxy.await_record("connection_close", |_| true);
    assert_eq!((&close["reason"], &close["role"]), (&"revoked".into(), &"writer".into()), "{close}");
}

#[test]
fn a_helper_names_the_role_and_one_that_is_not_there_is_not_had() {
    let (redis, dir) = (redis(), tempfile::tempdir().unwrap());
    let helper = program(dir.path(), "read -r user; cat > /dev/null\necho \"allow $user-role\"");
    let more = leak(format!("[credentials]\ncommand = [\"{helper}\"]\ntimeout = \"20s\""));
    let roles = "[[role]]\nname = \"door\"\nmatch = [{ cn = \"app\" }]\nclient_auth = \"select\"\ndeny = [\"SET\"]\n\
                 [[role]]\nname = \"a-role\"\nmatch = []\n\
                 [[role]]\nname = \"far-role\"\nmatch = []\nfrom = [\"127.0.0.2\"]";
    let proxy = Proxy::with(&Setup { roles, more, ..Setup::before(&redis) });
    let mut app = client(&proxy);
    for user in ["b", "far", ".."] {
        assert!(error(&mut app, &["AUTH", user, RIGHT]).starts_with("WRONGPASS"), "{user}");
    }
    assert!(error(&mut app, &["SET", "k", "v"]).starts_with("NOPERM"));
    app.call(&["AUTH", "a", RIGHT]).expect_ok();
    app.call(&["SET", "k", "v"]).expect_ok();
    expect_no_secret(&proxy);
}
