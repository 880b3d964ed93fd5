//! Roles with rules in Redis' ACL language, end to end: a real client with a certificate, the proxy, a real Redis of any
//! release.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use support::{
    client::Client,
    process::{PASSWORD, Proxy},
    redis::{Redis, Release},
    setup::{Setup, write_secret},
    wire::Reply,
};

/// What the harness asks first to see that it is let in is a command too: every role has `+ping`.
const KEY: &str = "NOPERM this user has no permissions to access one of the keys used as arguments";
const CHANNEL: &str = "NOPERM this user has no permissions to access one of the channels used as arguments";

fn before(redis: &Redis, rules: &str) -> Proxy {
    let roles = format!("[[role]]\nname = \"app\"\nmatch = [{{ cn = \"app\" }}]\nrules = \"{rules}\"");
    Proxy::with(&Setup { roles: Box::leak(roles.into_boxed_str()), ..Setup::before(redis) })
}

fn pair(rules: &str) -> (Redis, Proxy) {
    let redis = Redis::with_password(PASSWORD);
    let proxy = before(&redis, rules);
    (redis, proxy)
}

fn call(client: &mut Client, line: &str) -> Reply {
    client.call(&line.split(' ').collect::<Vec<_>>())
}

fn allowed(client: &mut Client, lines: &[&str]) {
    for line in lines {
        let reply = call(client, line);
        assert!(!reply.error().is_some_and(|text| text.starts_with("NOPERM")), "{line}: {reply:?}");
    }
}

fn denied(client: &mut Client, words: &str, lines: &[&str]) {
    for line in lines {
        assert_eq!(call(client, line).error(), Some(words), "{line}");
    }
}

fn no_command(client: &mut Client, lines: &[&str]) {
    for line in lines {
        let reply = call(client, line);
        let words = "NOPERM this user has no permissions to run the '";
        assert!(reply.error().is_some_and(|text| text.starts_with(words)), "{line}: {reply:?}");
    }
}

/// `ACL SETUSER reader on >… ~cache:* +@read`, the first example of every guide.
#[test]
fn a_reader_reads_its_keys_and_nothing_else() {
    let (redis, proxy) = pair("+ping +@read -@dangerous ~cache:*");
    redis.connect().call(&["SET", "cache:1", "v"]).expect_ok();
    let mut client = proxy.client();
    assert_eq!(call(&mut client, "GET cache:1").text(), "v");
    allowed(&mut client, &["MGET cache:1 cache:2", "EXISTS cache:1", "STRLEN cache:1", "HGETALL cache:h"]);
    denied(&mut client, KEY, &["GET session:1", "MGET cache:1 session:1", "EXISTS other"]);
    no_command(&mut client, &["SET cache:1 x", "DEL cache:1", "KEYS *", "FLUSHALL", "CONFIG GET *", "PUBLISH c m"]);
    assert_eq!(redis.connect().call(&["GET", "cache:1"]).text(), "v");
    let record = proxy.await_record("command", |record| record["cmd"] == "EXISTS" && record["verdict"] == "deny");
    assert_eq!(record["rule"], "rules:key");
    let record = proxy.await_record("command", |record| record["cmd"] == "SET");
    assert_eq!(record["rule"], "rules:command");
}

/// The second one: an application with the commands it uses on the keys it has.
#[test]
fn an_application_uses_its_commands_on_its_keys() {
    let rules = "+ping +get +set +del +expire +ttl +hset +hget +hgetall +incr +mget +multi +exec ~cache:* ~session:*";
    let (redis, proxy) = pair(rules);
    let mut client = proxy.client();
    allowed(
        &mut client,
        &[
            "SET cache:1 v",
            "EXPIRE cache:1 100",
            "HSET session:1 f v",
            "HGETALL session:1",
            "INCR cache:n",
            "DEL cache:1 session:1",
        ],
    );
    denied(&mut client, KEY, &["SET other v", "DEL cache:1 other", "HSET users:1 f v"]);
    no_command(&mut client, &["LPUSH cache:l v", "RENAME cache:1 cache:2", "EVAL return~1 0", "SCAN 0", "ACL WHOAMI"]);
    // A denial spoils the transaction it stands in.
    allowed(&mut client, &["MULTI", "SET cache:1 a"]);
    denied(&mut client, KEY, &["SET other b"]);
    let reply = call(&mut client, "EXEC");
    assert!(reply.error().is_some_and(|text| text.starts_with("EXECABORT")), "{reply:?}");
    assert_eq!(redis.connect().call(&["MGET", "other", "cache:1"]), Reply::Array(vec![Reply::Null, Reply::Null]));
    // The floor stands under the rules, which do not allow this either way.
    no_command(&mut client, &["FLUSHALL", "CONFIG GET requirepass"]);
}

/// The third: messages and nothing else.
#[test]
fn a_subscriber_hears_its_channels_and_nothing_else() {
    let (_redis, proxy) = pair("+ping +@pubsub -pubsub &events:*");
    let mut client = proxy.client();
    let mut hears = |line: &str| {
        let reply = call(&mut client, line);
        assert!(reply.error().is_none(), "{line}: {reply:?}");
    };
    hears("SUBSCRIBE events:1");
    hears("PSUBSCRIBE events:*");
    denied(
        &mut client,
        CHANNEL,
        &["SUBSCRIBE other", "SUBSCRIBE events:2 other", "PSUBSCRIBE *", "PSUBSCRIBE events:1*"],
    );
    let mut sender = proxy.client();
    denied(&mut sender, CHANNEL, &["PUBLISH other m"]);
    assert_eq!(call(&mut sender, "PUBLISH events:1 m").integer(), 2);
    no_command(&mut sender, &["GET events:1", "SET events:1 v", "PUBSUB CHANNELS"]);
    assert_eq!(client.reply().elements()[2], Reply::Bulk(b"m".to_vec()));
}

#[test]
fn the_floor_stands_under_every_rule() {
    let (_redis, proxy) = pair("+@all ~* &*");
    let mut client = proxy.client();
    allowed(&mut client, &["SET k v", "GET k", "PUBLISH c m"]);
    no_command(&mut client, &["CONFIG GET *", "FLUSHALL", "KEYS *", "EVAL x 0", "DEBUG SLEEP 0", "MODULE LIST"]);
    let record = proxy.await_record("command", |record| record["cmd"] == "CONFIG");
    assert_eq!(record["rule"], "preset:hardened/configuration");
}

#[test]
fn a_database_is_known_before_what_follows_is_judged() {
    const DATABASE: &str = "NOPERM No permissions to access database";
    let (_redis, proxy) = pair("+@all -@dangerous ~* db=1,2");
    let mut client = proxy.client();
    denied(&mut client, DATABASE, &["GET k", "SELECT 3", "SELECT 0"]);
    allowed(&mut client, &["PING", "SELECT 1", "SET k v"]);
    // All at once: each is judged where the one before it has led.
    for line in ["SELECT 2", "SET a 1", "SELECT 1", "GET a", "SELECT 0", "GET k"] {
        client.send(&line.split(' ').collect::<Vec<_>>());
    }
    let replies: Vec<Reply> = (0..6).map(|_| client.reply()).collect();
    assert_eq!(replies[3], Reply::Null, "{replies:?}");
    assert_eq!(replies[4].error(), Some(DATABASE), "{replies:?}");
    assert_eq!(replies[5].text(), "v", "{replies:?}");
    if Release::of_server().since(6, 2) {
        call(&mut client, "RESET");
        denied(&mut client, DATABASE, &["GET k"]);
    }
    allowed(&mut client, &["SELECT 1", "MULTI"]);
    assert_eq!(call(&mut client, "SELECT 2").error(), Some("ERR Command not allowed inside a transaction"));
}

#[test]
fn a_large_value_is_streamed_where_its_key_settles_it_and_held_where_it_does_not() {
    let (redis, proxy) = pair("+ping +set +get %W~w:* ~b:*");
    let mut client = proxy.client();
    let value = vec![b'v'; 200_000];
    client.call(&[b"SET", b"b:1", &value[..]]).expect_ok();
    client.call(&[b"SET", b"w:1", &value[..]]).expect_ok();
    assert_eq!(client.call(&[b"SET", b"x:1", &value[..]]).error(), Some(KEY));
    assert_eq!(client.call(&[b"SET", b"w:1", &value[..], b"GET"]).error(), Some(KEY));
    assert_eq!(redis.connect().call(&["STRLEN", "w:1"]), Reply::Integer(200_000));
    assert_eq!(redis.connect().call(&["EXISTS", "x:1"]), Reply::Integer(0));
    if Release::of_server().since(6, 2) {
        assert_eq!(client.call(&["SET", "b:1", "small", "GET"]).text().len(), 200_000);
    }
}

/// Of one's own role the proxy answers, in Redis 7.0's shapes, whatever the server is.
#[test]
fn one_asks_about_oneself_and_about_nobody_else() {
    let (redis, proxy) = pair("+ping +get +set +multi +exec +@scripting +acl %R~a %W~b ~c &x (+del ~d)");
    let mut client = proxy.client();
    assert_eq!(call(&mut client, "ACL WHOAMI").text(), "app");
    let categories = call(&mut client, "ACL CAT");
    assert_eq!(categories.elements().len(), 21);
    let of_it: Vec<String> = call(&mut client, "ACL CAT hyperloglog").elements().iter().map(Reply::text).collect();
    assert_eq!(of_it, ["pfadd", "pfcount", "pfdebug", "pfmerge", "pfselftest"]);
    assert_eq!(call(&mut client, "ACL CAT nosuch").error(), Some("ERR Unknown category 'nosuch'"));

    let bulk = |text: &str| Reply::Bulk(text.as_bytes().to_vec());
    let commands = bulk("-@all +acl|cat +acl|dryrun +acl|getuser +acl|whoami +exec +get +multi +ping +set");
    let root = [
        (bulk("flags"), Reply::Array(vec![bulk("on")])),
        (bulk("passwords"), Reply::Array(vec![])),
        (bulk("commands"), commands.clone()),
        (bulk("keys"), bulk("%R~a %W~b ~c")),
        (bulk("channels"), bulk("&x")),
    ];
    let selector = [(bulk("commands"), bulk("-@all +del")), (bulk("keys"), bulk("~d")), (bulk("channels"), bulk(""))];
    let flat = |pairs: &[(Reply, Reply)]| {
        Reply::Array(pairs.iter().flat_map(|(name, value)| [name.clone(), value.clone()]).collect())
    };
    let mut whole = root.to_vec();
    whole.push((bulk("selectors"), Reply::Array(vec![flat(&selector)])));
    assert_eq!(call(&mut client, "ACL GETUSER app"), flat(&whole));

    for (line, said) in [
        ("ACL DRYRUN app GET a", Reply::Status("OK".to_owned())),
        ("ACL DRYRUN app get b", bulk("This user has no permissions to access one of the keys")),
        ("ACL DRYRUN app DEL d", Reply::Status("OK".to_owned())),
        ("ACL DRYRUN app LPUSH a x", bulk("This user has no permissions to run the 'lpush' command")),
        ("ACL DRYRUN app EVAL s 0", bulk("This user has no permissions to run the 'eval' command")),
        ("ACL DRYRUN app GET", Reply::Error("ERR wrong number of arguments for 'get' command".to_owned())),
        ("ACL DRYRUN app NOSUCH x", Reply::Error("ERR Command 'NOSUCH' not found".to_owned())),
    ] {
        assert_eq!(call(&mut client, line), said, "{line}");
    }
    let other = "NOPERM only one's own user can be asked about here; ACL WHOAMI names it";
    denied(&mut client, other, &["ACL GETUSER default", "ACL DRYRUN default GET a", "ACL GETUSER APP"]);
    for line in ["ACL SETUSER app allkeys", "ACL DELUSER default", "ACL LOAD", "ACL SAVE"] {
        let reply = call(&mut client, line);
        let pointer = "NOPERM users and their rules are those of the proxy's configuration: change it and reload it";
        assert!(reply.error().is_some_and(|text| text.starts_with(pointer)), "{line}: {reply:?}");
    }
    // The floor denies these.
    no_command(&mut client, &["ACL LIST", "ACL LOG", "ACL USERS"]);
    // What is answered here would be missing from EXEC's array.
    allowed(&mut client, &["MULTI"]);
    assert_eq!(call(&mut client, "ACL WHOAMI").error(), Some("ERR Command not allowed inside a transaction"));
    assert!(call(&mut client, "EXEC").error().is_some_and(|text| text.starts_with("EXECABORT")));

    if redis.protocols().contains(&"3") {
        call(&mut client, "HELLO 3");
        let mut whole = root.to_vec();
        whole[0].1 = Reply::Set(vec![bulk("on")]);
        whole.push((bulk("selectors"), Reply::Array(vec![Reply::Map(selector.to_vec())])));
        assert_eq!(call(&mut client, "ACL GETUSER app"), Reply::Map(whole));
        assert_eq!(call(&mut client, "ACL WHOAMI").text(), "app");
    }
    assert_eq!(redis.calls().keys().filter(|name| name.starts_with("acl")).count(), 0, "none of these goes up");
    let record = proxy.await_record("command", |record| record["cmd"] == "ACL" && record["sub"] == "WHOAMI");
    assert_eq!([record["outcome"].as_str(), record["reply"].as_str()], [Some("ran"), Some("bulk")], "{record}");
    let record = proxy.await_record("command", |record| record["sub"] == "GETUSER" && record["outcome"] == "denied");
    assert_eq!(record["rule"], "builtin/access-control");
}

/// For roles that hold them these go up, and tell of Redis' own users. A server that has none says so itself; what is
/// answered here of one's role is answered all the same.
#[test]
fn what_redis_knows_of_its_users_it_tells_who_may_ask() {
    let redis = Redis::with_password(PASSWORD);
    let roles = "[[role]]\nname = \"app\"\nmatch = [{ cn = \"app\" }]\nrules = \"+ping +acl ~*\"\n\
                 [[role]]\nname = \"other\"\nmatch = [{ cn = \"other\" }]\nrules = \"+ping +acl -acl|list -acl|log -acl|users\"";
    let proxy = Proxy::with(&Setup { roles, more: "[policy]\ndeny = [\"FLUSHALL\"]", ..Setup::before(&redis) });
    let mut client = proxy.client();
    let acls = Release::of_server().since(6, 0);
    if acls {
        redis.connect().call(&["ACL", "SETUSER", "reader", "on", ">pw", "~cache:*", "+get"]).expect_ok();
        let mut reader = redis.connect();
        reader.call(&["AUTH", "reader", "pw"]).expect_ok();
        assert!(reader.call(&["SET", "k", "v"]).error().is_some_and(|text| text.starts_with("NOPERM")));
        let texts = |reply: &Reply| reply.elements().iter().map(Reply::text).collect::<Vec<_>>();
        assert_eq!(texts(&call(&mut client, "ACL USERS")), ["default", "reader"]);
        let list = texts(&call(&mut client, "ACL LIST"));
        assert_eq!(list, texts(&redis.connect().call(&["ACL", "LIST"])));
        assert!(list[1].starts_with("user reader on ") && list[1].contains("~cache:*"), "{list:?}");
        let log = call(&mut client, "ACL LOG");
        let fields = texts_of(&log.elements()[0]);
        for pair in [["reason", "command"], ["object", "set"], ["username", "reader"]] {
            assert!(fields.windows(2).any(|two| two == pair), "{fields:?}");
        }
        call(&mut client, "ACL LOG RESET").expect_ok();
        assert_eq!(call(&mut client, "ACL LOG"), Reply::Array(vec![]));
    } else {
        for line in ["ACL LIST", "ACL USERS", "ACL LOG", "ACL LOG RESET"] {
            let reply = call(&mut client, line);
            assert!(reply.error().is_some_and(|text| text.starts_with("ERR unknown command")), "{line}: {reply:?}");
        }
    }
    // Of one's own role, whatever the server knows; and nobody's users are changed from here.
    assert_eq!(call(&mut client, "ACL WHOAMI").text(), "app");
    assert_eq!(
        call(&mut client, "ACL DRYRUN app GET k").text(),
        "This user has no permissions to run the 'get' command"
    );
    for line in ["ACL SETUSER x on", "ACL DELUSER reader", "ACL LOAD", "ACL SAVE"] {
        let reply = call(&mut client, line);
        assert!(
            reply.error().is_some_and(|text| text.contains("change it and reload it instead")),
            "{line}: {reply:?}"
        );
    }
    let mut other = proxy.client_with(&proxy.pki.client("other").unwrap()).unwrap();
    no_command(&mut other, &["ACL LIST", "ACL LOG", "ACL USERS", "ACL LOG RESET"]);
    assert_eq!(call(&mut other, "ACL WHOAMI").text(), "other");
    let record = proxy.await_record("command", |record| record["sub"] == "LIST" && record["role"] == "app");
    assert_eq!(record["outcome"], if acls { "ran" } else { "error" }, "{record}");
    let record = proxy.await_record("command", |record| record["sub"] == "USERS" && record["role"] == "other");
    assert_eq!(record["rule"], "rules:-acl|users", "{record}");
}

/// The words of a reply, at whatever depth.
fn texts_of(reply: &Reply) -> Vec<String> {
    match reply {
        Reply::Array(all) => all.iter().flat_map(texts_of).collect(),
        Reply::Bulk(bytes) => vec![String::from_utf8_lossy(bytes).into_owned()],
        other => vec![format!("{other:?}")],
    }
}

/// A role without rules may be asked about as well, and a subscriber is refused as Redis refuses it.
#[test]
fn a_role_without_rules_is_told_what_its_denylist_leaves() {
    let redis = Redis::with_password(PASSWORD);
    let more = "[policy]\ndeny = [\"FLUSHALL\", \"CONFIG|SET\", \"SCRIPT\"]";
    let proxy = Proxy::with(&Setup { more, ..Setup::before(&redis) });
    let mut client = proxy.client();
    let reply = call(&mut client, "ACL GETUSER app");
    let field = |name: &str| {
        let at = reply.elements().iter().position(|each| each.text_or_empty() == name).unwrap();
        reply.elements()[at + 1].text()
    };
    assert!(field("commands").starts_with("+@all -acl|deluser"), "{}", field("commands"));
    for denied in [" -flushall", " -config|set", " -script"] {
        assert!(field("commands").split(' ').any(|word| word == denied.trim()), "{denied}: {}", field("commands"));
    }
    assert_eq!([field("keys"), field("channels")], ["~*", "&*"]);
    call(&mut client, "SUBSCRIBE c");
    let reply = call(&mut client, "ACL WHOAMI");
    assert!(reply.error().is_some(), "{reply:?}");
}

/// A `users.acl` as Redis writes it, with the passwords that Redis needs and a role does not.
#[test]
fn the_rules_of_a_users_acl_are_taken_over() {
    let redis = Redis::with_password(PASSWORD);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("users.acl");
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let text = format!(
        "user default off #{hash} sanitize-payload ~* &* +@all\n\
         user app on #{hash} sanitize-payload ~cache:* resetchannels &events:* -@all +@read +ping\n"
    );
    write_secret(&file, text.as_bytes());
    let with = |user: &str| {
        let acl = format!("acl = {{ file = \"{}\", user = \"{user}\" }}", file.display());
        let roles = format!("[[role]]\nname = \"app\"\nmatch = [{{ cn = \"app\" }}]\n{acl}");
        Setup { roles: Box::leak(roles.into_boxed_str()), ..Setup::before(&redis) }
    };
    let proxy = Proxy::with(&with("app"));
    let mut client = proxy.client();
    allowed(&mut client, &["GET cache:1"]);
    denied(&mut client, KEY, &["GET other"]);
    no_command(&mut client, &["SET cache:1 v"]);
    // A user that is off may say nothing, and a reload is what makes it so.
    let roles = with("default").roles;
    proxy.configure(&Setup { roles, ..proxy.setup() });
    proxy.reload();
    // It comes to open connections one by one.
    proxy.await_that("the role of a user that is off", |_| call(&mut client, "GET cache:1").error().map(str::to_owned));
    no_command(&mut client, &["GET cache:1", "PING"]);
    assert!(!proxy.audit_text().contains(hash) && !proxy.log().contains(hash));
}
