//! Every notice at its threshold and below it, in virtual time.

use super::{
    encode::ConnectionFacts,
    outlet::{Plan, Sample},
    record::{CommandRecord, Outcome, Recorder},
    testing::{denied, ran_known as record},
    watch::{IDENTITIES_MAX, Notice, Watches, Within},
};
use crate::moment::Moment;
use serde_json::Value;

fn facts(identity: &str) -> ConnectionFacts {
    ConnectionFacts::new("9f3c-17", "cache", "10.2.7.9:51022".parse().unwrap(), identity, "app", None)
}

/// A pen that watches, and the clock.
struct Stage {
    pen: Recorder,
    now_us: u64,
}

impl Stage {
    fn new(watches: Watches) -> Self {
        Self { pen: Recorder::new(0, 64 << 20).watching(watches), now_us: 1_000_000 }
    }

    /// The `notable` of the record, and the line behind it.
    fn say(&mut self, facts: &ConnectionFacts, record: &CommandRecord<'_>) -> (Vec<String>, Option<Value>) {
        let now = Moment { mono_us: self.now_us, wall_us: 1_795_209_003_000_000 + self.now_us };
        self.pen.command(now, facts, record);
        let text = String::from_utf8(self.pen.outlet().take()).unwrap();
        let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let words = lines.next().unwrap()["notable"].as_array().cloned().unwrap_or_default();
        let words = words.iter().map(|word| word.as_str().unwrap().to_owned()).collect();
        let notice = lines.next();
        assert_eq!(lines.next(), None);
        (words, notice)
    }

    fn count(&self, notice: Notice) -> u64 {
        self.pen.counters().notices[notice.index()]
    }
}

#[test]
fn slow_and_large_commands_are_marked_at_their_threshold_and_not_below() {
    let mut stage = Stage::new(Watches {
        slow_us: Some(1000),
        large_request: Some(100),
        large_reply: Some(200),
        ..Watches::default()
    });
    let facts = facts("cn:api");
    let get = record("get");
    for (record, expected) in [
        (CommandRecord { us: Some(999), bytes_in: 99, bytes_out: 199, ..get }, vec![]),
        (CommandRecord { us: Some(1000), ..get }, vec!["slow"]),
        (CommandRecord { bytes_in: 100, ..get }, vec!["large_request"]),
        (CommandRecord { bytes_out: 200, ..get }, vec!["large_reply"]),
        (
            CommandRecord { us: Some(5000), bytes_in: 1000, bytes_out: 1000, ..get },
            vec!["slow", "large_request", "large_reply"],
        ),
        // What waits by its nature is not slow, and neither is what was never answered.
        (CommandRecord { us: Some(5000), ..record("blpop") }, vec![]),
        (CommandRecord { us: Some(5000), ..record("xread") }, vec![]),
        (CommandRecord { us: Some(5000), class: None, outcome: Outcome::Unanswered, ..get }, vec![]),
        (CommandRecord { bytes_in: 100, ..denied() }, vec!["large_request"]),
    ] {
        assert_eq!(
            stage.say(&facts, &record),
            (expected.iter().map(ToString::to_string).collect(), None),
            "{record:?}"
        );
    }
    assert_eq!([Notice::Slow, Notice::LargeRequest, Notice::LargeReply].map(|notice| stage.count(notice)), [2, 3, 2]);
}

#[test]
fn nothing_is_notable_until_it_is_asked_for() {
    let mut stage = Stage::new(Watches::default());
    let facts = facts("cn:api");
    let huge = CommandRecord { us: Some(u64::MAX), bytes_in: u64::MAX, bytes_out: u64::MAX, ..record("get") };
    assert_eq!(stage.say(&facts, &huge), (vec![], None));
    for _ in 0..1000 {
        assert_eq!(stage.say(&facts, &denied()), (vec![], None));
    }
    assert_eq!(stage.pen.counters().notices, [0; 6]);
}

#[test]
fn an_identity_and_command_are_new_once_on_whichever_connection() {
    let mut stage = Stage::new(Watches { first_seen: true, ..Watches::default() });
    let (first, second, other) = (facts("cn:api"), facts("cn:api"), facts("cn:web"));
    let new = vec!["first_seen".to_owned()];
    for (facts, name, expected) in [
        (&first, "get", true),
        (&first, "get", false),
        (&second, "get", false),
        (&second, "config|set", true),
        (&first, "config|set", false),
        (&first, "config|get", true),
        (&other, "get", true),
        (&other, "get", false),
    ] {
        let (words, _) = stage.say(facts, &record(name));
        assert_eq!(words, if expected { new.clone() } else { vec![] }, "{name}");
    }
    assert_eq!(stage.count(Notice::FirstSeen), 4);
}

#[test]
fn a_burst_of_denials_is_told_once_until_it_has_been_quiet() {
    let limit = Within { amount: 3, us: 10_000_000 };
    let mut stage = Stage::new(Watches { denial_burst: Some(limit), ..Watches::default() });
    let (first, second, other) = (facts("cn:api"), facts("cn:api"), facts("cn:web"));
    // Too slow to be one.
    for _ in 0..5 {
        stage.now_us += 11_000_000;
        assert_eq!(stage.say(&first, &denied()).1, None);
    }
    // Three, on two connections, while another identity has its own count.
    stage.now_us += 11_000_000;
    assert_eq!(stage.say(&first, &denied()).1, None);
    assert_eq!(stage.say(&other, &denied()).1, None);
    assert_eq!(stage.say(&second, &denied()).1, None);
    stage.now_us += 2_000_000;
    let (words, notice) = stage.say(&first, &denied());
    let notice = notice.unwrap();
    assert_eq!(words, Vec::<String>::new());
    assert_eq!(
        [&notice["event"], &notice["notice"], &notice["amount"], &notice["us"], &notice["identity"]],
        [&Value::from("notice"), &"denial_burst".into(), &3.into(), &2_000_000.into(), &"cn:api".into()]
    );
    // It goes on, for longer than the time, without a second line; then it is quiet, and begins anew.
    for _ in 0..20 {
        stage.now_us += 9_000_000;
        assert_eq!(stage.say(&first, &denied()).1, None);
    }
    stage.now_us += 10_000_001;
    let told: Vec<_> = (0..3).map(|_| stage.say(&first, &denied()).1.is_some()).collect();
    assert_eq!(told, [false, false, true]);
    assert_eq!(stage.count(Notice::DenialBurst), 2);
}

#[test]
fn a_bulk_read_is_one_of_one_connection_within_the_time() {
    let limit = Within { amount: 1000, us: 1_000_000 };
    let mut stage = Stage::new(Watches { bulk_read: Some(limit), ..Watches::default() });
    let (first, second) = (facts("cn:api"), facts("cn:api"));
    let some = CommandRecord { bytes_out: 400, ..record("get") };
    for facts in [&first, &second] {
        assert_eq!((stage.say(facts, &some).1, stage.say(facts, &some).1), (None, None));
    }
    let notice = stage.say(&first, &some).1.unwrap();
    assert_eq!((&notice["notice"], &notice["amount"]), (&Value::from("bulk_read"), &1200.into()));
    assert_eq!(stage.say(&first, &some).1, None, "once in its time");
    stage.now_us += 1_000_001;
    let told: Vec<_> = (0..3).map(|_| stage.say(&first, &some).1.is_some()).collect();
    assert_eq!(told, [false, false, true]);
}

#[test]
fn identities_beyond_the_bound_are_counted_and_not_kept() {
    let mut stage = Stage::new(Watches { first_seen: true, ..Watches::default() });
    for number in 0..IDENTITIES_MAX + 10 {
        let (words, _) = stage.say(&facts(&format!("cn:{number}")), &record("get"));
        assert_eq!(words.len(), usize::from(number < IDENTITIES_MAX));
    }
    assert_eq!(stage.pen.counters().unwatched, 10);
}

#[test]
fn what_is_notable_is_in_every_sample() {
    let plans = [Plan { sample: Some(Sample(0)), ..Plan::default() }];
    let watches = Watches { slow_us: Some(1000), ..Watches::default() };
    let mut pen = Recorder::with_outlets(0, 1 << 20, &plans).watching(watches);
    let now = Moment { mono_us: 1, wall_us: 1 };
    pen.command(now, &facts("cn:api"), &record("get"));
    assert!(!pen.has_rendered());
    pen.command(now, &facts("cn:api"), &CommandRecord { us: Some(1000), ..record("get") });
    assert!(pen.has_rendered());
}
