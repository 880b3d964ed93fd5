//! What records look like, whatever is put into them.

use super::{
    counters::LATENCY_BOUNDS_US,
    encode::{ConnectionFacts, MAX_LINE, TlsFacts},
    event::{ConnectionEvent, ProcessEvent},
    record::{CommandRecord, Context, KeyList, Name, Outcome, Recorder},
    testing,
};
use crate::{moment::Moment, resp::reply::Class};
use proptest::prelude::*;
use serde_json::Value;

/// 2026-11-20T21:10:03.412345Z.
const NOW: Moment = Moment { mono_us: 5, wall_us: 1_795_209_003_412_345 };

fn facts() -> ConnectionFacts {
    let identity = "spiffe://prod/ns/billing/sa/api";
    ConnectionFacts::new("9f3c-17", "cache", "10.2.7.9:51022".parse().unwrap(), identity, "billing", Some("billing"))
}

fn record() -> CommandRecord<'static> {
    let unknown = testing::ran(Name::Unknown(b"NOSUCH", None));
    CommandRecord { argc: 4, class: Some(Class::Status), bytes_in: 61, bytes_out: 5, us: Some(112), ..unknown }
}

/// The one line that `write` renders.
fn line(write: impl FnOnce(&mut Recorder)) -> String {
    let mut pen = Recorder::new(0, MAX_LINE);
    write(&mut pen);
    String::from_utf8(pen.outlet().take()).unwrap()
}

const FACTS: &str = r#""conn":"9f3c-17","service":"cache","src":"10.2.7.9:51022","identity":"spiffe://prod/ns/billing/sa/api","role":"billing","upstream_user":"billing""#;

#[test]
fn a_denied_command_reads_as_the_documentation_shows_it() {
    let denied = CommandRecord {
        rule: Some("preset:hardened/config-write"),
        outcome: Outcome::Denied,
        class: Some(Class::Error),
        error: Some(b"NOPERM"),
        bytes_out: 74,
        us: None,
        ..record()
    };
    assert_eq!(
        line(|pen| pen.command(NOW, &facts(), &denied)),
        [
            r#"{"v":1,"w":0,"seq":1,"ts":"2026-11-20T21:10:03.412345Z","event":"command","#,
            FACTS,
            r#","db":0,"cmd":"NOSUCH","argc":4,"keys":[],"context":"top","verdict":"deny","#,
            r#""rule":"preset:hardened/config-write","outcome":"denied","reply":"NOPERM","bytes_in":61,"bytes_out":74,"us":null}"#,
            "\n"
        ]
        .concat()
    );
}

#[test]
fn the_parts_of_a_command_that_are_not_always_there() {
    let mut keys = Vec::new();
    KeyList::push(&mut keys, b"a", 512);
    KeyList::push(&mut keys, b"bcd", 2);
    KeyList::push(&mut keys, b"\xff", 512);
    let list = KeyList { bytes: &keys, total: 5, undeterminable: false, script: None, arguments: None };
    let exec = Some((&[Class::Status, Class::Error][..], 130));
    for (what, expected) in [
        (
            CommandRecord { keys: list, ..record() },
            r#""keys":["a",{"text":"bc","cut":true},{"b64":"/w=="}],"keys_cut":true,"keys_total":5,"context""#,
        ),
        (CommandRecord { keys: KeyList { undeterminable: true, ..list }, ..record() }, r#""keys":null,"context""#),
        (CommandRecord { context: Context::Multi, tx: Some(7), ..record() }, r#""context":"multi","tx":7,"verdict""#),
        (CommandRecord { local: true, ..record() }, r#""verdict":"answer","outcome":"ran","reply":"status""#),
        (
            CommandRecord { elements: exec, ..record() },
            r#""reply":"status","elements":["status","error"],"elements_total":130,"bytes_in""#,
        ),
        (
            CommandRecord { class: None, us: None, outcome: Outcome::Unanswered, ..record() },
            r#""outcome":"unanswered","reply":null,"bytes_in":61,"bytes_out":5,"us":null}"#,
        ),
        (CommandRecord { class: Some(Class::Error), error: Some(b"WRONGTYPE"), ..record() }, r#""reply":"WRONGTYPE""#),
        // A script may answer with an error of any text: what is no code is not shown.
        (CommandRecord { class: Some(Class::Error), error: Some(b"hunter2"), ..record() }, r#""reply":"error""#),
        (CommandRecord { class: Some(Class::Error), error: Some(b"A\"B"), ..record() }, r#""reply":"error""#),
        (
            CommandRecord { name: Name::Unknown(b"CONFIG", Some(b"no\nsuch")), ..record() },
            r#""cmd":"CONFIG","sub":"no\u000asuch","argc""#,
        ),
        (
            CommandRecord { name: Name::Unknown(b"\xffget", None), ..record() },
            "\"cmd\":\"\u{fffd}get\",\"cmd_b64\":\"/2dldA==\",\"argc\"",
        ),
        (CommandRecord { name: Name::Unknown(&[b'x'; 65], None), ..record() }, r#"xxx","cmd_cut":true,"argc""#),
    ] {
        let line = line(|pen| pen.command(NOW, &facts(), &what));
        assert!(line.contains(expected), "{line}\nlacks\n{expected}");
        serde_json::from_str::<Value>(&line).unwrap();
    }
}

#[test]
fn each_outcome_and_context_is_written_as_its_word() {
    for outcome in Outcome::ALL {
        let line = line(|pen| pen.command(NOW, &facts(), &CommandRecord { outcome, ..record() }));
        assert!(line.contains(&format!("\"outcome\":\"{}\",", outcome.word())), "{line}");
        assert_eq!(Outcome::ALL[outcome.index()], outcome);
    }
    for context in [Context::TopLevel, Context::Multi] {
        let line = line(|pen| pen.command(NOW, &facts(), &CommandRecord { context, ..record() }));
        assert!(line.contains(&format!("\"context\":\"{}\",", context.word())), "{line}");
    }
}

#[test]
fn the_documentation_names_every_field_and_event() {
    let documentation = include_str!("mod.rs");
    let tls = TlsFacts { cert_sha256: "ab", ..TlsFacts::default() };
    let facts = facts().with_tls(&tls);
    let mut pen = Recorder::new(0, 0);
    let cut = CommandRecord {
        name: Name::Unknown(&[0xff; 65], Some(&[0xff; 65])),
        keys: KeyList { bytes: &[], total: 1, undeterminable: false, script: None, arguments: None },
        tx: Some(1),
        rule: Some("r"),
        shadow: None,
        elements: Some((&[Class::Status], 1)),
        ..record()
    };
    pen.command(NOW, &facts, &cut);
    pen.begin(NOW, &facts, &record());
    pen.upstream_command(NOW, &facts, "AUTH", Outcome::Ran, None, 1);
    for (event, _) in connection_events() {
        pen.connection(NOW, &facts, &event);
    }
    let (services, claimed) = lists();
    for (event, _) in process_events(&services, &claimed) {
        pen.process(NOW, &event);
    }
    for line in pen.outlet().take().split_inclusive(|byte| *byte == b'\n') {
        let Value::Object(fields) = check(line) else { panic!("an object") };
        assert!(documentation.contains(&format!("`{}`", fields["event"].as_str().unwrap())), "{fields:?}");
        for field in fields.keys() {
            assert!(documentation.contains(&format!("`{field}`")), "{field} is not described");
        }
    }
}

#[test]
fn a_begin_line_says_what_is_known_before_the_command_runs() {
    assert_eq!(
        line(|pen| pen.begin(NOW, &facts(), &record())),
        [
            r#"{"v":1,"w":0,"seq":1,"ts":"2026-11-20T21:10:03.412345Z","event":"begin","#,
            FACTS,
            r#","db":0,"cmd":"NOSUCH","argc":4,"keys":[],"context":"top","verdict":"allow","bytes_in":61}"#,
            "\n"
        ]
        .concat()
    );
}

#[test]
fn the_proxys_own_commands_are_records_too() {
    for (outcome, error, expected) in [
        (Outcome::Ran, None, r#","cmd":"AUTH","outcome":"ran","reply":null,"us":40}"#),
        (Outcome::Error, Some(&b"WRONGPASS"[..]), r#","cmd":"AUTH","outcome":"error","reply":"WRONGPASS","us":40}"#),
    ] {
        assert_eq!(
            line(|pen| pen.upstream_command(NOW, &facts(), "AUTH", outcome, error, 40)),
            [
                r#"{"v":1,"w":0,"seq":1,"ts":"2026-11-20T21:10:03.412345Z","event":"upstream_command","#,
                FACTS,
                expected,
                "\n"
            ]
            .concat()
        );
    }
}

fn connection_events() -> [(ConnectionEvent<'static>, &'static str); 7] {
    let close = ConnectionEvent::Close {
        reason: "client-closed",
        detail: "",
        commands: 3,
        denied: 1,
        bytes_in: 90,
        bytes_out: 80,
        us: 1200,
    };
    [
        (ConnectionEvent::Ban { us: 60_000_000 }, r#""event":"ban",…,"us":60000000}"#),
        (
            ConnectionEvent::Open,
            r#""event":"connection_open",…,"tls":"TLSv1.3","cipher":"TLS13_AES_256_GCM_SHA384","resumed":false,"sni":"db.example","cert_sha256":"ab12","cert_serial":"0f","cert_not_after":1800000000}"#,
        ),
        (
            ConnectionEvent::UpstreamFailed { reason: "connect", detail: "refused" },
            r#""event":"upstream_failed",…,"reason":"connect","detail":"refused"}"#,
        ),
        (
            ConnectionEvent::Authentication { verdict: crate::audit::event::AuthVerdict::Ignore, method: "HELLO" },
            r#""event":"client_auth",…,"cmd":"HELLO","verdict":"ignore"}"#,
        ),
        (
            ConnectionEvent::Authentication { verdict: crate::audit::event::AuthVerdict::Deny, method: "AUTH" },
            r#""event":"client_auth",…,"cmd":"AUTH","verdict":"deny"}"#,
        ),
        (ConnectionEvent::Alarm { reason: "noauth" }, r#""event":"alarm",…,"reason":"noauth"}"#),
        (
            close,
            r#""event":"connection_close",…,"reason":"client-closed","detail":"","commands":3,"denied":1,"bytes_in":90,"bytes_out":80,"us":1200}"#,
        ),
    ]
}

#[test]
fn each_connection_event_has_its_line() {
    let tls = TlsFacts {
        version: "TLSv1.3",
        cipher: "TLS13_AES_256_GCM_SHA384",
        resumed: false,
        cert_sha256: "ab12",
        sni: "db.example",
        cert_serial: "0f",
        cert_not_after: 1_800_000_000,
    };
    for (event, expected) in connection_events() {
        let line = line(|pen| pen.connection(NOW, &facts().with_tls(&tls), &event));
        let expected = expected.replace('…', FACTS);
        assert_eq!(line, format!("{{\"v\":1,\"w\":0,\"seq\":1,\"ts\":\"2026-11-20T21:10:03.412345Z\",{expected}\n"));
    }
}

fn lists() -> ([String; 2], [String; 1]) {
    (["cache".to_owned(), "queue".to_owned()], ["CN=eve".to_owned()])
}

fn process_events<'a>(services: &'a [String], claimed: &'a [String]) -> [(ProcessEvent<'a>, &'static str); 14] {
    let src = "10.0.0.9:4000".parse().unwrap();
    [
        (
            ProcessEvent::Start { version: "0.1.0", pid: 17, config_sha256: "ab", services },
            r#""event":"start","version":"0.1.0","pid":17,"config_sha256":"ab","services":["cache","queue"]}"#,
        ),
        (ProcessEvent::Stop { reason: "drained", us: 9 }, r#""event":"stop","reason":"drained","us":9}"#),
        (
            ProcessEvent::Reload { what: "config", by: "signal", changes: services, failed: None, config_sha256: "cd" },
            r#""event":"reload","what":"config","by":"signal","result":"swapped","config_sha256":"cd","changes":["cache","queue"]}"#,
        ),
        (
            ProcessEvent::UpstreamCredential { service: "cache", role: None, refused: Some("WRONGPASS") },
            r#""event":"upstream_credential","service":"cache","result":"refused","detail":"WRONGPASS"}"#,
        ),
        (
            ProcessEvent::UpstreamCredential { service: "cache", role: Some("app"), refused: None },
            r#""event":"upstream_credential","service":"cache","role":"app","result":"accepted"}"#,
        ),
        (
            ProcessEvent::Reload {
                what: "config",
                by: "watch",
                changes: &[],
                failed: Some("no such file"),
                config_sha256: "ab",
            },
            r#""event":"reload","what":"config","by":"watch","result":"kept","detail":"no such file","config_sha256":"ab","changes":[]}"#,
        ),
        (
            ProcessEvent::DrainBegin { reason: "signal", connections: 3, deadline_us: 25_000_000 },
            r#""event":"drain_begin","reason":"signal","connections":3,"deadline_us":25000000}"#,
        ),
        (
            ProcessEvent::DrainEnd { drained: 2, aborted: 1, us: 77 },
            r#""event":"drain_end","drained":2,"aborted":1,"us":77}"#,
        ),
        (
            ProcessEvent::Refused {
                src,
                service: "cache",
                listener: "0.0.0.0:6380",
                reason: "not-admitted",
                via: None,
                detail: "",
            },
            r#""event":"refused","service":"cache","src":"10.0.0.9:4000","listener":"0.0.0.0:6380","reason":"not-admitted"}"#,
        ),
        (
            ProcessEvent::HandshakeFailure {
                src,
                service: "cache",
                reason: "unknown-ca",
                detail: "bad",
                hint: Some("ravelin certs"),
                unverified: claimed,
                via: None,
            },
            r#""event":"handshake_failure","service":"cache","src":"10.0.0.9:4000","reason":"unknown-ca","detail":"bad","hint":"ravelin certs","unverified":["CN=eve"]}"#,
        ),
        (
            ProcessEvent::HandshakeFailure {
                src,
                service: "cache",
                reason: "timeout",
                detail: "",
                hint: None,
                unverified: &[],
                via: None,
            },
            r#""event":"handshake_failure","service":"cache","src":"10.0.0.9:4000","reason":"timeout","detail":"","unverified":[]}"#,
        ),
        (
            ProcessEvent::AcceptError { listener: "[::]:1", reason: "fd-limit", detail: "EMFILE" },
            r#""event":"accept_error","listener":"[::]:1","reason":"fd-limit","detail":"EMFILE"}"#,
        ),
        (
            ProcessEvent::SinkRecovered { output: "file", reason: "ENOSPC", us: 5 },
            r#""event":"sink_recovered","output":"file","reason":"ENOSPC","us":5}"#,
        ),
        (
            ProcessEvent::UpstreamSwitch { service: "cache", from: "unix:/a", to: "10.0.0.9:6380", reason: "loading" },
            r#""event":"upstream_switch","service":"cache","from":"unix:/a","to":"10.0.0.9:6380","reason":"loading"}"#,
        ),
    ]
}

#[test]
fn each_process_event_has_its_line() {
    let (services, claimed) = lists();
    for (event, expected) in process_events(&services, &claimed) {
        let line = line(|pen| pen.process(NOW, &event));
        assert_eq!(line, format!("{{\"v\":1,\"w\":0,\"seq\":1,\"ts\":\"2026-11-20T21:10:03.412345Z\",{expected}\n"));
    }
}

#[test]
fn a_pen_is_full_one_longest_line_before_its_capacity_and_has_room_again_once_written() {
    let mut pen = Recorder::new(3, 2 * MAX_LINE);
    let facts = facts();
    let mut lines = 0;
    while pen.has_room() {
        pen.command(NOW, &facts, &record());
        lines += 1;
    }
    assert!(lines > 10);
    assert!(pen.outlet().rendered() > MAX_LINE as u64 && pen.outlet().rendered() < 2 * MAX_LINE as u64);
    let taken = pen.outlet().take();
    assert_eq!(taken.len() as u64, pen.outlet().rendered());
    assert!(!pen.has_room(), "handing over is not writing");
    pen.outlet().set_written(taken.len() as u64);
    assert!(pen.has_room());
    pen.outlet().set_written(1);
    assert_eq!(pen.outlet().written(), taken.len() as u64, "written never goes back");
    pen.outlet().recycle(taken);
    pen.command(NOW, &facts, &record());
    assert!(pen.outlet().take().starts_with(format!("{{\"v\":1,\"w\":3,\"seq\":{},", lines + 1).as_bytes()));
}

#[test]
fn counters_equal_the_records() {
    let mut pen = Recorder::new(0, MAX_LINE);
    let facts = facts();
    for us in [50, 51, 20_000_000] {
        pen.command(NOW, &facts, &CommandRecord { us: Some(us), ..record() });
    }
    let denied = CommandRecord { rule: Some("r"), outcome: Outcome::Denied, us: None, ..record() };
    pen.command(NOW, &facts, &denied);
    pen.begin(NOW, &facts, &record());
    pen.upstream_command(NOW, &facts, "AUTH", Outcome::Ran, None, 1);
    pen.connection(NOW, &facts, &ConnectionEvent::Open);
    let close =
        ConnectionEvent::Close { reason: "quit", detail: "", commands: 4, denied: 1, bytes_in: 9, bytes_out: 8, us: 7 };
    pen.connection(NOW, &facts, &close);
    let src = "10.0.0.9:4000".parse().unwrap();
    pen.process(
        NOW,
        &ProcessEvent::Refused { src, service: "queue", listener: "l", reason: "not-admitted", via: None, detail: "" },
    );

    let mut sum = pen.counters();
    sum.merge(&pen.counters());
    assert_eq!(sum.records, 18);
    assert_eq!(sum.begins, 2);
    assert_eq!(sum.all_commands(), sum.unknown);
    assert_eq!((sum.unknown.outcome(Outcome::Ran), sum.unknown.outcome(Outcome::Denied)), (6, 2));
    assert_eq!((sum.unknown.bytes_in, sum.unknown.bytes_out, sum.unknown.us), (8 * 61, 8 * 5, 2 * 20_000_101));
    assert_eq!(sum.denied.get("r"), Some(&2));
    let buckets = sum.latency.buckets;
    assert_eq!((buckets[0], buckets[1], buckets[LATENCY_BOUNDS_US.len()], sum.latency.count()), (2, 2, 2, 6));
    let [cache, queue] = &sum.services[..] else { panic!("two services") };
    assert_eq!((&*cache.service, cache.opened, cache.closed.get("quit"), cache.bytes_in), ("cache", 2, 2, 18));
    assert_eq!((&*queue.service, queue.refused.get("not-admitted"), queue.opened), ("queue", 2, 0));
}

/// Checks what every line promises, and returns it parsed.
fn check(line: &[u8]) -> Value {
    assert!(line.len() < MAX_LINE, "{} bytes", line.len());
    assert_eq!(line.last(), Some(&b'\n'));
    let body = &line[..line.len() - 1];
    assert!(body.iter().all(|byte| *byte >= 0x20 && *byte != 0x7f), "a control byte stands in the line");
    let text = std::str::from_utf8(body).unwrap();
    assert!(!text.contains(['\u{2028}', '\u{2029}', '\u{85}', '\u{202e}']));
    serde_json::from_str(text).unwrap()
}

fn any_bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..max),
        prop::collection::vec(prop_oneof![Just(0u8), Just(0x7f), Just(b'"'), Just(b'\\'), Just(b'\n')], 0..max),
        "\\PC{0,40}|[\\x{2028}\\x{2029}\\x{85}\\x{202e}a]{0,40}".prop_map(String::into_bytes),
    ]
}

proptest! {
    // Unoptimised, a case of this size takes milliseconds.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn hostile_bytes_never_break_a_line(
        name in any_bytes(200),
        sub in prop::option::of(any_bytes(200)),
        keys in prop::collection::vec(any_bytes(1200), 0..16),
        key_max in 0usize..40_000,
        identity in any_bytes(3000),
        error in prop::option::of(any_bytes(60)),
        elements in 0usize..300,
    ) {
        let mut encoded = Vec::new();
        for key in &keys {
            KeyList::push(&mut encoded, key, key_max);
        }
        let identity = String::from_utf8_lossy(&identity);
        let facts = ConnectionFacts::new(&identity, &identity, "[::1]:1".parse().unwrap(), &identity, &identity, Some(&identity));
        let record = CommandRecord {
            name: Name::Unknown(&name, sub.as_deref()),
            db: u32::MAX,
            argc: u32::MAX,
            keys: KeyList { bytes: &encoded, total: u32::try_from(keys.len()).unwrap(), undeterminable: false, script: None, arguments: None },
            context: Context::Multi,
            tx: Some(u32::MAX),
            rule: Some(&identity),
            shadow: None,
            error: error.as_deref(),
            elements: Some((&vec![Class::BigNumber; elements], elements as u64)),
            bytes_in: u64::MAX,
            bytes_out: u64::MAX,
            us: Some(u64::MAX),
            ..record()
        };
        let mut pen = Recorder::new(u16::MAX, MAX_LINE);
        pen.command(NOW, &facts, &record);
        let parsed = check(&pen.outlet().take());
        let shown = parsed["keys"].as_array().unwrap();
        prop_assert!(shown.len() == keys.len() || parsed["keys_cut"] == true);
        prop_assert!(keys.is_empty() || !shown.is_empty(), "at least one key fits");
        for (value, key) in shown.iter().zip(&keys) {
            if let Some(text) = value.as_str() {
                prop_assert_eq!(text.as_bytes(), &key[..], "a key shown as whole is whole");
            }
        }
        pen.begin(NOW, &facts, &record);
        check(&pen.outlet().take());
        pen.connection(NOW, &facts, &ConnectionEvent::UpstreamFailed { reason: "connect", detail: &identity });
        check(&pen.outlet().take());
        let names = vec![identity.into_owned(); 40];
        let src = "[::1]:1".parse().unwrap();
        let failure = ProcessEvent::HandshakeFailure {
            src, service: &names[0], reason: "no-role", detail: &names[0], hint: Some(&names[0]), unverified: &names, via: None
        };
        pen.process(NOW, &failure);
        check(&pen.outlet().take());
    }

    #[test]
    fn any_key_encoding_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000), total in any::<u32>()) {
        let list = KeyList { bytes: &bytes, total, undeterminable: false, script: None, arguments: None };
        let line = line(|pen| pen.command(NOW, &facts(), &CommandRecord { keys: list, ..record() }));
        check(line.as_bytes());
    }

    #[test]
    fn sequence_numbers_have_no_holes(takes in prop::collection::vec(1usize..5, 1..20)) {
        let mut pen = Recorder::new(1, MAX_LINE);
        let facts = facts();
        let mut stream = Vec::new();
        for lines in takes {
            for _ in 0..lines {
                pen.command(NOW, &facts, &record());
            }
            stream.extend(pen.outlet().take());
        }
        prop_assert_eq!(stream.len() as u64, pen.outlet().rendered());
        for (index, line) in stream.split_inclusive(|byte| *byte == b'\n').enumerate() {
            prop_assert_eq!(check(line)["seq"].as_u64(), Some(index as u64 + 1));
        }
    }
}
