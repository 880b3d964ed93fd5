//! What an operator is told of a session at each of its moments.

use super::{
    End,
    activity::{Activity, Doing},
    error::{CloseReason, Operator},
    script::{Script, Setup},
};

fn named(name: Option<super::activity::Name>) -> Option<&'static str> {
    name.map(|id| id.map_or("unknown", |id| id.entry().full_name))
}

fn of(script: &Script) -> Activity {
    script.session.activity(script.now)
}

#[test]
fn what_a_connection_is_doing_is_told_as_it_is_then() {
    let mut script = Script::new();
    assert_eq!((of(&script).doing, of(&script).last), (Doing::Idle, None));
    script.say("GET k").wait_us(70);
    let now = of(&script);
    assert_eq!((now.doing, named(now.oldest.map(|(name, _)| name)), now.unanswered), (Doing::Command, Some("get"), 1));
    assert_eq!(now.oldest.map(|(_, us)| us), Some(70));
    script.say("SET k v").redis(b"$1\r\nv\r\n");
    assert_eq!(named(of(&script).oldest.map(|(name, _)| name)), Some("set"));
    script.redis(b"+OK\r\n").wait_us(1000);
    let now = of(&script);
    assert_eq!((now.doing, named(now.last), now.oldest, now.quiet_us), (Doing::Idle, Some("set"), None, 1000));
    script.say("FLUSHALL").say("nosuch");
    let now = of(&script);
    assert_eq!((named(now.last), now.commands, now.denied), (Some("unknown"), 4, 2));
    script.say("MULTI").redis(b"+OK\r\n");
    assert_eq!(of(&script).doing, Doing::Transaction);
    script.say("DISCARD").redis(b"+OK\r\n");
    script.say("SUBSCRIBE c").redis(b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n");
    assert_eq!(of(&script).doing, Doing::Subscribed);
    script.abort();
    assert_eq!(of(&script).doing, Doing::Closing);
}

#[test]
fn a_stream_is_told_from_commands() {
    let mut script = Script::new();
    script.say("MONITOR").redis(b"+OK\r\n");
    assert_eq!(of(&script).doing, Doing::Monitor);
    let script = Script::with(Setup { greeted: false, ..Setup::default() });
    assert_eq!(of(&script).doing, Doing::Connecting);
}

/// The record says who it was; a command that waits for an event is not waited for when he asks for a gentle end.
#[test]
fn a_connection_that_an_operator_closes_says_so_in_its_record() {
    let reason = CloseReason::Operator(Operator { uid: 1000, pid: Some(4242) });
    let mut script = Script::new();
    script.say("BLPOP k 0").drain_for(reason).closed("operator", End::Flush);
    let close = script.records().last().unwrap().clone();
    assert_eq!(close["detail"], "closed by user id 1000, process 4242");
    let mut script = Script::new();
    script.say("GET k").drain_for(reason);
    assert_eq!(of(&script).doing, Doing::Closing);
    script.redis(b"$-1\r\n").closed("operator", End::Flush);
}
