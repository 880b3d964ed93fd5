//! The main job, end to end: the real binary, real TLS, `redis-cli` and a real client library, a real Redis.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may fail by panicking"
)]
#![allow(clippy::disallowed_methods, reason = "tests read the clock")]

mod support;

use redis::{Commands as _, ConnectionLike as _};
use std::{collections::HashMap, fs, thread, time::Duration};
use support::{
    proxy::{Proxy, Service, Setup},
    redis::Redis,
};

const PASSWORD: &[u8] = b"p w\"\\'#%";

fn pair() -> (Redis, Proxy) {
    let redis = Redis::with_password(PASSWORD);
    let proxy = Proxy::start(&Setup::before(&redis, PASSWORD));
    (redis, proxy)
}

/// A connection of the client library `redis`, with the certificate kept under `name`.
fn library(proxy: &Proxy, name: &str, query: &str) -> redis::Connection {
    let read = |file: String| fs::read(proxy.path(&file)).unwrap();
    let certificates = redis::TlsCertificates {
        client_tls: Some(redis::ClientTlsConfig {
            client_cert: read(format!("{name}.crt")),
            client_key: read(format!("{name}.key")),
        }),
        root_cert: Some(read("ca.crt".to_owned())),
    };
    let url = format!("rediss://localhost:{}/{query}", proxy.addresses[0].port());
    redis::Client::build_with_tls(url, certificates).unwrap().get_connection().unwrap()
}

fn calls(redis: &Redis) -> HashMap<String, u64> {
    let stats = redis.connect().call(&["INFO", "commandstats"]).text();
    stats
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
        })
        .collect()
}

#[test]
fn allowed_commands_are_answered_denied_ones_refused_and_all_are_recorded() {
    let (redis, proxy) = pair();
    let seen = proxy.cli("SET a 1\nMULTI\nSET a 2\nFlushAll\nEXEC\nGET a\n");
    let lines: Vec<&str> = seen.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines[..3], ["OK", "OK", "QUEUED"], "{seen}");
    assert!(lines[3].starts_with("NOPERM ") && lines[3].contains("flushall"), "{seen}");
    assert_eq!(lines[4..], ["EXECABORT Transaction discarded because of previous errors.", "1"], "{seen}");

    let denied = ["EVAL \"redis.call('flushall')\" 0", "CONFIG GET require*", "KEYS *", "SLAVEOF 127.0.0.1 1"];
    let seen = proxy.cli(&denied.map(|line| format!("{line}\n")).concat());
    assert_eq!(seen.lines().filter(|line| line.starts_with("NOPERM ")).count(), denied.len(), "{seen}");

    let calls = calls(&redis);
    for name in ["flushall", "eval", "config|get", "keys", "slaveof", "replicaof", "exec"] {
        assert!(!calls.contains_key(name), "{name} reached Redis: {calls:?}");
    }
    proxy.await_record("the last command", |record| record["cmd"] == "SLAVEOF");
    let said: Vec<(String, String)> = proxy
        .audit()
        .iter()
        // redis-cli asks for the table of commands by itself.
        .filter(|record| record["event"] == "command" && record["cmd"] != "COMMAND")
        .map(|record| (record["cmd"].as_str().unwrap().to_owned(), record["outcome"].as_str().unwrap().to_owned()))
        .collect();
    let expected = [
        ("SET", "ran"),
        ("MULTI", "ran"),
        ("SET", "queued"),
        ("FLUSHALL", "denied"),
        ("EXEC", "aborted"),
        ("GET", "ran"),
        ("EVAL", "denied"),
        ("CONFIG", "denied"),
        ("KEYS", "denied"),
        ("SLAVEOF", "denied"),
    ];
    assert_eq!(said, expected.map(|(name, outcome)| (name.to_owned(), outcome.to_owned())));
}

#[test]
fn every_command_that_reached_redis_has_a_record() {
    let (redis, proxy) = pair();
    let before = calls(&redis);
    let mut connection = library(&proxy, "app", "");
    for round in 0..50_u32 {
        let mut pipe = redis::pipe();
        pipe.atomic().set(format!("k{round}"), round).incr(format!("k{round}"), 1).ignore();
        let _: () = pipe.query(&mut connection).unwrap();
        let _: redis::RedisResult<()> = redis::cmd("KEYS").arg("*").query(&mut connection);
    }
    drop(connection);
    proxy.await_record("the end", |record| record["event"] == "connection_close");
    let mut recorded: HashMap<String, u64> = HashMap::new();
    for record in proxy.audit() {
        let reached = record["event"] == "upstream_command"
            || (record["event"] == "command" && record["verdict"] == "allow" && record["local"] != true);
        if reached {
            let mut name = record["cmd"].as_str().unwrap().to_lowercase();
            if let Some(sub) = record["sub"].as_str() {
                name = format!("{name}|{}", sub.to_lowercase());
            }
            *recorded.entry(name).or_default() += 1;
        }
    }
    let after = calls(&redis);
    for name in ["set", "incr", "multi", "exec", "keys", "client|setname"] {
        let ran = after.get(name).copied().unwrap_or(0) - before.get(name).copied().unwrap_or(0);
        assert_eq!(recorded.get(name).copied().unwrap_or(0), ran, "{name}: {recorded:?} {after:?}");
    }
}

#[test]
fn a_library_pipelines_transacts_blocks_and_subscribes() {
    let (_redis, proxy) = pair();
    let mut one = library(&proxy, "app", "");
    let mut two = library(&proxy, "app", "?protocol=resp3");
    assert!(two.check_connection());
    let values: Vec<u32> = {
        let mut pipe = redis::pipe();
        for number in 0..10_000_u32 {
            pipe.set(number, number).ignore().get(number);
        }
        pipe.query(&mut one).unwrap()
    };
    assert_eq!(values, (0..10_000).collect::<Vec<u32>>());

    let pushed = thread::scope(|scope| {
        let waiting = scope.spawn(|| -> (String, String) { one.blpop("queue", 0.0).unwrap() });
        proxy.await_record("the waiting BLPOP", |record| record["event"] == "begin" && record["cmd"] == "BLPOP");
        let _: () = two.rpush("queue", "element").unwrap();
        waiting.join().unwrap()
    });
    assert_eq!(pushed, ("queue".to_owned(), "element".to_owned()));

    let mut listening = one.as_pubsub();
    listening.subscribe(&["news", "sport"]).unwrap();
    listening.psubscribe("w*").unwrap();
    let _: () = two.publish("news", "hello").unwrap();
    let message = listening.get_message().unwrap();
    assert_eq!((message.get_channel_name(), message.get_payload::<String>().unwrap()), ("news", "hello".to_owned()));
    listening.unsubscribe("news").unwrap();
    let _: () = two.publish("weather", "rain").unwrap();
    assert_eq!(listening.get_message().unwrap().get_payload::<String>().unwrap(), "rain");
    drop(listening);
    assert_eq!(one.get::<_, u32>(17).unwrap(), 17, "out of subscriber mode again");
}

#[test]
fn sixty_four_megabytes_flow_up_and_down() {
    let (_redis, proxy) = pair();
    let mut connection = library(&proxy, "app", "");
    let value: Vec<u8> = (0..64 << 20).map(|index: u32| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let _: () = connection.set("big", &value).unwrap();
    let back: Vec<u8> = connection.get("big").unwrap();
    assert!(back == value, "the value came back changed");
    let record = proxy.await_record("the SET", |record| record["cmd"] == "SET");
    assert!(record["bytes_in"].as_u64().unwrap() > 64 << 20, "{record}");
}

#[test]
fn a_pipeline_written_before_anything_is_read_does_not_deadlock() {
    let (_redis, proxy) = pair();
    let mut connection = library(&proxy, "app", "");
    let mut pipe = redis::pipe();
    for number in 0..20_000_u32 {
        pipe.set(number % 100, vec![b'x'; 1000]).ignore().get(number % 100);
    }
    let values: Vec<Vec<u8>> = pipe.query(&mut connection).unwrap();
    assert_eq!(values.len(), 20_000);
    assert!(values.iter().all(|value| value.len() == 1000));
}

#[test]
fn a_client_that_leaves_while_blocked_does_not_eat_the_next_element() {
    let (redis, proxy) = pair();
    let mut child = proxy.redis_cli("app", 0).args(["BLPOP", "queue", "0"]).spawn().unwrap();
    proxy.await_record("the waiting BLPOP", |record| record["event"] == "begin");
    child.kill().unwrap();
    child.wait().unwrap();
    proxy.await_record("the end", |record| record["event"] == "connection_close");
    let mut direct = redis.connect();
    for _ in 0..2000 {
        if direct.call(&["INFO", "clients"]).text().contains("blocked_clients:0") {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    direct.call(&["RPUSH", "queue", "element"]);
    assert_eq!(direct.call(&["LLEN", "queue"]).integer(), 1);
    let record = proxy.await_record("the BLPOP", |record| record["event"] == "command" && record["cmd"] == "BLPOP");
    assert_eq!(record["outcome"], "unanswered");
}

#[test]
fn two_services_leak_neither_identity_nor_policy_nor_credential() {
    let (first, second) = (Redis::with_password(b"first"), Redis::with_password(b"second"));
    let mut setup = Setup::before(&first, b"first");
    setup.services.push(Service {
        name: "queue",
        redis: &second,
        password: Some(b"second"),
        lines: "[service.policy]\ndeny = [\"GET\"]",
        upstream: "",
    });
    setup.roles = "[[role]]\nname = \"cachers\"\nmatch = [{ cn = \"app\" }]\nservices = [\"cache\"]\n\
                   [[role]]\nname = \"queuers\"\nmatch = [{ cn = \"other\" }]\nservices = [\"queue\"]\n";
    let proxy = Proxy::start(&setup);
    let run = |name: &str, index: usize, words: &[&str]| {
        let output = proxy.redis_cli(name, index).args(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    assert_eq!(run("app", 0, &["SET", "where", "first"]), "OK\n");
    assert_eq!(run("other", 1, &["SET", "where", "second"]), "OK\n");
    assert_eq!(run("app", 0, &["GET", "where"]), "first\n");
    assert!(run("other", 1, &["GET", "where"]).contains("NOPERM"));
    assert!(run("app", 0, &["KEYS", "*"]).contains("NOPERM"), "the default floor of the first service");
    assert_eq!(run("other", 1, &["KEYS", "*"]), "where\n", "the second service has a policy of its own");
    for (name, index) in [("app", 1), ("other", 0)] {
        let seen = run(name, index, &["PING"]);
        assert!(!seen.contains("PONG"), "{seen}");
    }
    assert_eq!(second.connect().call(&["GET", "where"]).text(), "second");
    for record in proxy.audit() {
        let role = record["role"].as_str().unwrap_or_default();
        match record["service"].as_str() {
            Some("cache") => assert_ne!(role, "queuers", "{record}"),
            Some("queue") => assert_ne!(role, "cachers", "{record}"),
            _ => {}
        }
    }
}

#[test]
fn no_secret_is_in_audit_log_or_metrics() {
    let redis = Redis::with_password(PASSWORD);
    let mut setup = Setup::before(&redis, PASSWORD);
    setup.more = "level = \"trace\"\n";
    let mut proxy = Proxy::start(&setup);
    proxy.cli(
        "AUTH guessed-password\nAUTH someone guessed-password\nHELLO 3 AUTH someone guessed-password\n\
         SET key argument-value\nCONFIG SET requirepass guessed-password\nMIGRATE h 1 k 0 1 AUTH guessed-password\n\
         ACL SETUSER u >guessed-password\nGETSET key argument-value\n",
    );
    proxy.await_record("the last command", |record| record["cmd"] == "GETSET");
    let metrics = proxy.admin_page("/metrics").1;
    proxy.signal("TERM");
    assert!(proxy.await_end().success());
    let everything = fs::read_to_string(proxy.path("audit.jsonl")).unwrap() + &proxy.log() + &metrics;
    let password = String::from_utf8(PASSWORD.to_vec()).unwrap();
    let escaped = serde_json::to_string(&password).unwrap();
    for secret in [&password[..], escaped.trim_matches('"'), "guessed-password", "argument-value"] {
        assert!(!everything.contains(secret), "{secret} is in\n{everything}");
    }
}

#[test]
fn passwords_of_any_bytes_work() {
    let long = vec![b'x'; 512];
    for password in [&b"\"quoted\" and \\ and 'single'"[..], b"  blanks at both ends  ", &long, "pässwörd".as_bytes()]
    {
        let redis = Redis::with_password(password);
        let proxy = Proxy::start(&Setup::before(&redis, &[password, b"\n"].concat()));
        assert_eq!(proxy.cli("PING\n").trim(), "PONG");
    }
}

#[test]
fn a_user_of_redis_six_and_later_is_who_the_proxy_acts_as() {
    let redis = Redis::with(&["user billing on >pw-of-billing ~* &* +@all", "user default off"], None);
    let mut setup = Setup::before(&redis, b"pw-of-billing\n");
    setup.services[0].upstream = ", username = \"billing\"";
    let proxy = Proxy::start(&setup);
    assert_eq!(proxy.cli("SET a 1\n").trim(), "OK");
    let record = proxy.await_record("the SET", |record| record["cmd"] == "SET");
    assert_eq!(record["upstream_user"], "billing");
}

#[test]
fn client_list_shows_whose_each_connection_is() {
    let (redis, proxy) = pair();
    let mut connection = library(&proxy, "app", "");
    let _: () = connection.set("a", 1).unwrap();
    let mut direct = redis.connect();
    let list = direct.call(&["CLIENT", "LIST"]).text();
    assert!(list.contains("name=ravelin:app@127.0.0.1:"), "{list}");
}

#[test]
fn a_redis_that_asks_nobody_for_a_password_needs_auth_none() {
    let redis = Redis::start();
    let proxy = Proxy::start(&Setup::before(&redis, b"whatever"));
    assert!(proxy.cli("PING\n").contains("unavailable"));
    let record = proxy.await_record("the failure", |record| record["event"] == "upstream_failed");
    assert_ne!(record["detail"], "");

    let mut setup = Setup::before(&redis, b"");
    setup.services[0].password = None;
    let proxy = Proxy::start(&setup);
    assert_eq!(proxy.cli("PING\n").trim(), "PONG");
}

#[test]
fn readiness_knows_of_a_missing_redis_before_any_client_asks() {
    let redis = Redis::with_password(PASSWORD);
    let mut setup = Setup::before(&redis, PASSWORD);
    setup.services[0].upstream = ", socket_owner = 12345";
    let proxy = Proxy::start(&setup);
    proxy.await_log(0, "not reachable");
    let (status, body) = proxy.admin_page("/readyz");
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("upstream"), "{body}");
    assert_eq!(proxy.admin_page("/livez").0, 200);
}

#[test]
fn an_upstream_that_is_gone_is_said_and_recorded() {
    let redis = Redis::with_password(PASSWORD);
    let socket = redis.socket().to_owned();
    let proxy = Proxy::start(&Setup::before(&redis, PASSWORD));
    assert_eq!(proxy.admin_page("/readyz").0, 200);
    drop(redis);
    assert!(!socket.exists());
    assert!(proxy.cli("PING\n").contains("unavailable"));
    proxy.await_record("the failure", |record| record["event"] == "upstream_failed");
    assert_eq!(proxy.admin_page("/livez").0, 200, "a dead Redis is no reason to restart the proxy");
}
