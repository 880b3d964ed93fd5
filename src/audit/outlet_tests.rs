//! Several outputs at one pen.

use super::{
    arguments::{ArgumentList, HashKey},
    counters::Mark,
    encode::{ConnectionFacts, MAX_LINE},
    event::{ConnectionEvent, ProcessEvent},
    filter::{Commands, Events, Filter, Wish},
    outlet::{Arguments, OnFull, Outlet, Plan, Sample, Shape},
    record::{CommandRecord, Context, KeyList, Outcome, Recorder},
    testing::{self, ran_known},
};
use crate::{command::catalog, moment::Moment};
use serde_json::Value;
use std::sync::Arc;

const NOW: Moment = Moment { mono_us: 1, wall_us: 1_795_209_003_412_345 };

fn facts(role: &str) -> ConnectionFacts {
    ConnectionFacts::new("9f3c-17", "cache", "10.2.7.9:51022".parse().unwrap(), "cn:api", role, None)
}

/// With a key.
fn record(name: &str) -> CommandRecord<'static> {
    let keys = KeyList { bytes: b"\x01\0k", total: 1, ..KeyList::default() };
    CommandRecord { keys, ..ran_known(name) }
}

fn denied() -> CommandRecord<'static> {
    CommandRecord { keys: record("get").keys, ..testing::denied() }
}

fn plan(name: &str) -> Plan {
    Plan { name: name.into(), ..Plan::default() }
}

fn only(wish: Wish) -> Option<Filter> {
    Some(Filter::new(wish))
}

/// The lines of each output.
fn lines(pen: &mut Recorder) -> Vec<Vec<Value>> {
    let parse = |outlet: &mut Outlet| {
        let text = String::from_utf8(outlet.take()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    pen.outlets().map(parse).collect()
}

fn numbers(lines: &[Value]) -> Vec<u64> {
    lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect()
}

#[test]
fn each_output_takes_what_it_asks_for_under_the_numbers_of_the_whole_stream() {
    let roles = Wish { roles: vec!["app".into()], ..Wish::default() };
    let plans = [
        plan("all"),
        Plan { filter: only(Wish { events: Events::Denied, ..Wish::default() }), ..plan("denied") },
        Plan { filter: only(roles), ..plan("app") },
        Plan {
            filter: only(Wish { commands: Some(Commands::new(catalog::by_full_name("set"))), ..Wish::default() }),
            ..plan("set")
        },
    ];
    let mut pen = Recorder::with_outlets(0, 1 << 20, &plans);
    let src = "10.2.7.9:51022".parse().unwrap();
    let [app, other] = ["app", "other"].map(|role| facts(role).for_outlets(&plans, role, src));
    pen.process(NOW, &ProcessEvent::Stop { reason: "drained", us: 1 });
    pen.connection(NOW, &app, &ConnectionEvent::Open);
    pen.connection(NOW, &other, &ConnectionEvent::Open);
    pen.command(NOW, &app, &record("get"));
    pen.command(NOW, &other, &record("set"));
    pen.command(NOW, &other, &denied());
    pen.begin(NOW, &app, &record("flushall"));
    let lines = lines(&mut pen);
    let found: Vec<_> = lines.iter().map(|lines| numbers(lines)).collect();
    assert_eq!(found, [vec![1, 2, 3, 4, 5, 6, 7], vec![1, 2, 3, 6], vec![1, 2, 4, 7], vec![1, 2, 3, 5]]);
    let counters = pen.counters();
    let filtered: Vec<_> = counters.outlets.iter().map(|of| (of.lines, of.filtered, of.last_seq)).collect();
    assert_eq!(filtered, [(7, 0, 7), (4, 3, 6), (4, 3, 7), (4, 3, 5)]);
    assert_eq!(counters.records, 7);
}

#[test]
fn an_output_without_arguments_names_no_key() {
    let plans = [plan("keys"), Plan { arguments: Arguments::None, ..plan("none") }];
    let mut pen = Recorder::with_outlets(0, 1 << 20, &plans);
    pen.command(NOW, &facts("app"), &record("get"));
    let lines = lines(&mut pen);
    assert_eq!(lines[0][0]["keys"], serde_json::json!(["k"]));
    assert_eq!(lines[1][0].get("keys"), None);
    assert_eq!(lines[1][0]["argc"], 2);
}

#[test]
fn hashed_keys_can_be_joined_and_do_not_show_themselves() {
    let hash_key = HashKey::new(&[b'k'; 32]).map(Arc::new);
    let plans = [Plan { arguments: Arguments::Hashed, hash_key, ..plan("hashed") }];
    let mut pen = Recorder::with_outlets(0, 1 << 20, &plans);
    let (mut two, mut cut) = (Vec::new(), Vec::new());
    for key in [b"first-key", b"other-key"] {
        KeyList::push(&mut two, key, 100);
    }
    KeyList::push(&mut cut, b"first-key and more", 9);
    for (bytes, total, undeterminable) in [(&two, 2, false), (&cut, 1, false), (&two, 5, false), (&two, 2, true)] {
        let keys = KeyList { bytes, total, undeterminable, script: None, arguments: None };
        pen.command(NOW, &facts("app"), &CommandRecord { keys, ..record("get") });
    }
    let text = String::from_utf8(pen.outlet().take()).unwrap();
    assert!(!text.contains("key\""), "{text}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let hashes = &lines[0]["keys_hmac"];
    assert_eq!(lines[1]["keys_hmac"], serde_json::json!([{ "hmac": hashes[0], "cut": true }]));
    assert_eq!((&lines[2]["keys_hmac"], &lines[2]["keys_total"]), (hashes, &5.into()));
    assert_eq!(lines[3]["keys_hmac"], Value::Null);
    assert_ne!(hashes[0], hashes[1]);
    assert_eq!(hashes[0].as_str().unwrap().len(), 32);
}

#[test]
fn values_are_shown_where_the_output_asks_for_them_and_a_line_has_its_bound() {
    let plans = [plan("keys"), Plan { arguments: Arguments::Values, ..plan("values") }];
    let mut pen = Recorder::with_outlets(0, 1 << 20, &plans);
    let mut kept = Vec::new();
    for word in [Some(&b"k"[..]), Some(b"\xff"), None, Some(b"long one")] {
        ArgumentList::push(&mut kept, word, 4);
    }
    let mut many = Vec::new();
    for _ in 0..64 {
        ArgumentList::push(&mut many, Some(&[1; 1024]), 1024);
    }
    for (bytes, total) in [(&kept, 4), (&kept, 9), (&many, 64)] {
        let arguments = Some(ArgumentList { bytes, total });
        let keys = KeyList { arguments, ..record("get").keys };
        pen.command(NOW, &facts("app"), &CommandRecord { keys, ..record("get") });
    }
    let lines = lines(&mut pen);
    assert!(lines[0].iter().all(|line| line.get("args").is_none()));
    let shown = serde_json::json!(["k", { "b64": "/w==" }, null, { "text": "long", "cut": true }]);
    assert_eq!((&lines[1][0]["args"], lines[1][0].get("args_cut")), (&shown, None));
    assert_eq!((&lines[1][1]["args"], &lines[1][1]["args_cut"]), (&shown, &Value::Bool(true)));
    assert_eq!((&lines[1][2]["args"], &lines[1][2]["args_cut"]), (&serde_json::json!([]), &Value::Bool(true)));
    assert_eq!(lines[1][0]["keys"], serde_json::json!(["k"]));
}

#[test]
fn a_compact_line_leaves_out_what_its_connection_and_most_commands_have_in_common() {
    let plans = [Plan { shape: Shape::Compact, ..plan("compact") }];
    let mut pen = Recorder::with_outlets(0, 1 << 20, &plans);
    let facts = facts("app");
    pen.connection(NOW, &facts, &ConnectionEvent::Open);
    pen.command(NOW, &facts, &record("get"));
    pen.command(NOW, &facts, &CommandRecord { db: 3, keys: KeyList::default(), ..denied() });
    pen.command(
        NOW,
        &facts,
        &CommandRecord { context: Context::Multi, tx: Some(1), outcome: Outcome::Queued, ..record("get") },
    );
    let text = String::from_utf8(pen.outlet().take()).unwrap();
    let bodies: Vec<_> = text.lines().map(|line| line.split_once("\"event\":").unwrap().1).collect();
    assert_eq!(
        bodies,
        [
            concat!(
                r#""connection_open","conn":"9f3c-17","service":"cache","src":"10.2.7.9:51022","identity":"cn:api","#,
                r#""role":"app","upstream_user":null}"#
            ),
            r#""command","conn":"9f3c-17","cmd":"GET","argc":2,"keys":["k"],"reply":"bulk","bytes_in":20,"bytes_out":7,"us":90}"#,
            concat!(
                r#""command","conn":"9f3c-17","db":3,"cmd":"GET","argc":2,"verdict":"deny","rule":"r","#,
                r#""outcome":"denied","reply":null,"bytes_in":20,"bytes_out":7,"us":null}"#
            ),
            concat!(
                r#""command","conn":"9f3c-17","cmd":"GET","argc":2,"keys":["k"],"context":"multi","tx":1,"#,
                r#""outcome":"queued","reply":"bulk","bytes_in":20,"bytes_out":7,"us":90}"#
            ),
        ]
    );
}

#[test]
fn a_full_output_that_drops_stops_nobody_and_tells_exactly_what_is_missing() {
    let plans = [Plan { on_full: OnFull::Drop, ..plan("lossy") }];
    let mut pen = Recorder::with_outlets(0, 0, &plans);
    let facts = facts("app");
    let total = 2000_u64;
    let mut seen = Vec::new();
    for number in 1..=total {
        assert!(pen.has_room());
        pen.command(NOW, &facts, &record("get"));
        assert_eq!(pen.reached(), number, "a begin line does not wait for it");
        if number % 700 == 0 {
            seen.extend(lines(&mut pen).remove(0));
            let rendered = pen.outlet().rendered();
            pen.outlet().set_written(rendered);
        }
    }
    pen.outlet().set_written(u64::MAX);
    pen.command(NOW, &facts, &record("get"));
    seen.extend(lines(&mut pen).remove(0));
    let mut next = 1;
    let (mut gaps, mut dropped) = (0, 0);
    for line in &seen {
        let seq = line["seq"].as_u64().unwrap();
        if line["event"] == "gap" {
            assert_eq!((line["output"].as_str(), line["first_seq"].as_u64()), (Some("lossy"), Some(next)));
            assert_eq!(line["dropped"].as_u64().unwrap(), seq - next + 1);
            gaps += 1;
            dropped += seq - next + 1;
        } else {
            assert_eq!(seq, next);
        }
        next = seq + 1;
    }
    assert_eq!(next, total + 2, "the last command was taken");
    assert!(gaps >= 2, "{gaps}");
    assert_eq!(pen.counters().outlets[0].dropped, dropped);
}

#[test]
fn a_sample_takes_its_part_and_every_denial_and_announced_command() {
    let plans = [Plan { sample: Some(Sample(u32::MAX / 10)), ..plan("tenth") }];
    let mut pen = Recorder::with_outlets(0, 64 << 20, &plans);
    let facts = facts("app");
    for _ in 0..10_000 {
        pen.command(NOW, &facts, &record("get"));
    }
    let drawn = pen.counters().outlets[0].lines;
    assert!((850..1150).contains(&drawn), "{drawn} of 10000 at one in ten");
    for _ in 0..100 {
        pen.command(NOW, &facts, &denied());
        pen.command(NOW, &facts, &record("flushall"));
    }
    assert_eq!(pen.counters().outlets[0].lines, drawn + 200);
}

#[test]
fn a_begin_line_has_reached_the_sinks_once_every_one_that_waits_has_written_it() {
    let only_set = Wish { commands: Some(Commands::new(catalog::by_full_name("set"))), ..Wish::default() };
    let plans = [
        plan("first"),
        plan("second"),
        Plan { on_full: OnFull::Drop, ..plan("lossy") },
        Plan { filter: only(only_set), ..plan("set") },
    ];
    let mut pen = Recorder::with_outlets(0, 1 << 20, &plans);
    let facts = facts("app");
    pen.begin(NOW, &facts, &record("flushall"));
    let mark = pen.mark();
    assert!(pen.reached() < mark);
    drop(lines(&mut pen));
    for (index, reached) in [(0, false), (1, true)] {
        let outlet = pen.outlets().nth(index).unwrap();
        let rendered = outlet.rendered();
        outlet.set_written(rendered - 1);
        assert!(pen.reached() < mark, "not the whole line yet");
        pen.outlets().nth(index).unwrap().set_written(rendered);
        assert_eq!(pen.reached() >= mark, reached);
    }
    // What comes behind it does not undo that, and need not be written first.
    pen.command(NOW, &facts, &record("get"));
    drop(lines(&mut pen));
    assert!(pen.reached() >= mark && pen.reached() < pen.mark());
}

#[test]
fn a_stalled_output_stalls_the_pen_whatever_the_others_do() {
    let plans = [Plan { on_full: OnFull::Drop, ..plan("lossy") }, plan("strict")];
    let mut pen = Recorder::with_outlets(0, 2 * MAX_LINE, &plans);
    while pen.has_room() {
        pen.command(NOW, &facts("app"), &record("get"));
    }
    let strict = pen.outlets().nth(1).unwrap();
    let rendered = strict.rendered();
    assert!(rendered <= 2 * MAX_LINE as u64);
    strict.set_written(rendered);
    assert!(pen.has_room());
}

/// What a block carries: behind its last line, lines, filtered and dropped are all the numbers there are.
#[test]
fn a_mark_speaks_of_the_last_line_and_of_nothing_behind_it() {
    let mut pen = Recorder::with_outlets(
        0,
        1 << 20,
        &[Plan { filter: only(Wish { events: Events::Denied, ..Wish::default() }), ..plan("denied") }],
    );
    let facts = facts("app");
    assert_eq!(pen.outlet().mark(), Mark::default());
    for record in [record("get"), record("get"), denied(), record("get")] {
        pen.command(NOW, &facts, &record);
    }
    let expected = Mark { last_seq: 3, lines: 1, filtered: 2, dropped: 0 };
    assert_eq!(pen.outlet().mark(), expected);
    assert_eq!(pen.outlet().counters().filtered, 3);
    pen.command(NOW, &facts, &denied());
    assert_eq!(pen.outlet().mark(), Mark { last_seq: 5, lines: 2, filtered: 3, dropped: 0 });
}
