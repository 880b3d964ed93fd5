//! Random secrets, put through every place where a secret can travel, with everything shown that can be shown: none of
//! them is in a record of any output, in the log, in the metrics, or in an error.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::fs;
use support::{
    client::Client,
    load::Dice,
    process::{PASSWORD, Proxy},
    redis::Redis,
    setup::Setup,
};

/// Everything is allowed and everything is shown.
const OUTPUTS: &str = concat!(
    r#", { file = { path = "values.jsonl" }, arguments = "values" }"#,
    r#", { file = { path = "compact.jsonl" }, arguments = "values", shape = "compact" }"#,
);
const MORE: &str = "[policy]\ndeny = [\"SHUTDOWN\", \"REPLICAOF\", \"SLAVEOF\", \"DEBUG\"]\nscripts = \"allow\"\n";

/// A secret of its own: a marker that nothing else holds, among bytes that like to be escaped. (Not those that begin a
/// rule of ACL SETUSER: `~secret` without `>` is a pattern to everybody.)
fn secret(dice: &mut Dice) -> (String, String) {
    let marker = format!("Z{:012x}Z", dice.roll(1 << 48));
    let around = ["", "\"", "\\", "\u{1b}[31m", "é", "{", "\t", "=", "/", " "];
    let (before, behind) = (dice.pick(&around), dice.pick(&around));
    (format!("{before}{marker}{behind}"), marker)
}

/// Case as clients write it.
fn spelt(dice: &mut Dice, word: &str) -> String {
    match dice.roll(3) {
        0 => word.to_owned(),
        1 => word.to_lowercase(),
        _ => word
            .chars()
            .map(|c| if dice.roll(2) == 0 { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() })
            .collect(),
    }
}

/// A command that carries the secret where secrets travel, whole or with a word too many or too few.
fn carrier(dice: &mut Dice, secret: &str) -> Vec<String> {
    const CARRIERS: &[&str] = &[
        "AUTH $",
        "AUTH user $",
        "HELLO 2 AUTH user $",
        "HELLO 3 AUTH user $ SETNAME me",
        "HELLO 2 SETNAME me AUTH user $",
        "CONFIG|SET requirepass $",
        "CONFIG|SET masterauth $",
        "CONFIG|SET maxmemory 0 requirepass $",
        "CONFIG|SET requirepass $ maxmemory 0",
        "CONFIG|SET tls-key-file-pass $",
        "CONFIG|SET no-such-parameter $",
        "CONFIG|SET $ requirepass",
        "ACL|SETUSER someone >$",
        "ACL|SETUSER someone on >$ ~* +@all",
        "ACL|SETUSER someone <$",
        "ACL|SETUSER someone #$",
        "ACL|SETUSER someone (~a >$)",
        "MIGRATE 127.0.0.1 1 key 0 1 AUTH $",
        "MIGRATE 127.0.0.1 1 key 0 1 COPY AUTH2 user $",
        "MIGRATE 127.0.0.1 1 key 0 1 AUTH $ KEYS a b",
    ];
    let mut words: Vec<String> = dice
        .pick(CARRIERS)
        .split(' ')
        .flat_map(|word| word.split('|'))
        .map(|word| if word.contains('$') { word.replace('$', secret) } else { word.to_owned() })
        .collect();
    for word in words.iter_mut().take(2) {
        if !word.contains(secret) && word.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            *word = spelt(dice, word);
        }
    }
    match dice.roll(6) {
        0 => words.push("more".into()),
        // Behind KEYS it would be a key, for Redis as well.
        1 if !words.contains(&"KEYS".to_owned()) => words.push(secret.into()),
        2 if words.len() > 3 => {
            words.remove(words.len() - 2);
        }
        _ => {}
    }
    words
}

/// Every place that somebody other than the client may look into.
fn places(proxy: &Proxy) -> Vec<(&'static str, String)> {
    let read = |name| fs::read_to_string(proxy.path(name)).unwrap();
    vec![
        ("keys", read("audit.jsonl")),
        ("values", read("values.jsonl")),
        ("compact", read("compact.jsonl")),
        ("log", proxy.log()),
    ]
}

fn expect_nowhere(texts: &[(&str, String)], secrets: &[String]) {
    for (place, text) in texts {
        assert!(!text.is_empty(), "{place}");
        for secret in secrets {
            if let Some(at) = text.find(secret.as_str()) {
                let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
                panic!("{secret} is in {place}: {}", text[line..].lines().next().unwrap());
            }
        }
    }
}

/// Says it, if need be on a new connection, and returns the error.
fn say(proxy: &Proxy, client: &mut Option<Client>, words: &[String]) -> Option<String> {
    let wire = client.get_or_insert_with(|| proxy.client());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    wire.call(&words).error().map(str::to_owned)
}

#[test]
fn no_secret_is_shown_wherever_it_travelled() {
    const ROUNDS: usize = 3000;
    let redis = Redis::with_password(PASSWORD);
    let mut proxy = Proxy::with(&Setup {
        log: "level = \"trace\"",
        outputs: OUTPUTS,
        audit: "values = { max_bytes = 1024 }",
        more: MORE,
        ..Setup::before(&redis)
    });
    let mut keeper = redis.connect();
    let mut dice = Dice::new(0x5eed);
    let (mut secrets, mut errors) = (vec!["correct horse".to_owned(), "battery".to_owned()], String::new());
    let mut client = None;
    for round in 0..ROUNDS {
        let (hidden, marker) = secret(&mut dice);
        let words = carrier(&mut dice, &hidden);
        let in_transaction = dice.roll(5) == 0;
        if in_transaction {
            say(&proxy, &mut client, &["MULTI".into()]);
        }
        if let Some(error) = say(&proxy, &mut client, &words) {
            // Redis repeats some of what it does not understand to the client that said it; that is no other's to see.
            if error.contains("NOPERM") || error.contains("WRONGPASS") {
                errors.push_str(&error);
                errors.push('\n');
            }
        }
        if in_transaction {
            say(&proxy, &mut client, &["DISCARD".into()]);
        }
        secrets.push(marker);
        // A password that took would lock the proxy out, as it should.
        keeper.call(&["CONFIG", "SET", "requirepass", PASSWORD]).expect_ok();
        if round % 100 == 99 {
            client = None;
        }
    }
    // Whatever it says first, in the clear or not, is nobody's business either.
    drop(client);
    let mut client = proxy.client();
    client.call(&["SET", "the-end", "v"]).expect_ok();
    proxy.await_record("command", |record| record["keys"] == serde_json::json!(["the-end"]));
    let (_, metrics) = proxy.page("/metrics");
    drop(client);
    assert!(proxy.stop().success());

    let key = fs::read_to_string(proxy.path("server.key")).unwrap();
    secrets.extend(key.lines().filter(|line| !line.starts_with('-')).map(str::to_owned));
    let mut texts = places(&proxy);
    texts.extend([("metrics", metrics), ("errors of the proxy", errors)]);
    expect_nowhere(&texts, &secrets);

    // What is no secret is shown, or the test would hold of an empty stream.
    let values = &texts[1].1;
    for shown in [
        r#""args":["the-end","v"]"#,
        r#""cmd":"CONFIG","sub":"SET""#,
        r#""args":["requirepass",null]"#,
        r#""cmd":"MIGRATE""#,
    ] {
        assert!(values.contains(shown), "{shown}");
    }
}
