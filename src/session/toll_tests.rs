//! Limits in time and half commands, in virtual time.

use super::{
    script::{Script, Setup, command},
    state::Phase,
};
use crate::policy::rates::{Limit, Measure, Over, Per};
use std::num::NonZeroU64;

const SECOND: u64 = 1_000_000;

fn limit(measure: Measure, per_second: u64, of: &[&str], over: Over) -> Limit {
    Limit {
        measure,
        per_second: NonZeroU64::new(per_second).unwrap(),
        burst_us: SECOND,
        of: of.iter().map(|entry| (*entry).to_owned()).collect(),
        over,
        per: Per::Connection,
    }
}

fn limited(rates: Vec<Limit>) -> Script {
    let mut script = Script::with(Setup { rates, ..Setup::default() });
    script.forget();
    script
}

/// So many commands at once, and what has gone up of them.
fn flood(script: &mut Script, line: &str, count: usize) -> usize {
    script.up.clear();
    script.client(&command(line).repeat(count));
    script.up.len() / command(line).len()
}

#[test]
fn what_a_limit_delays_goes_up_in_its_time_and_in_order() {
    let mut script = limited(vec![limit(Measure::Commands, 4, &[], Over::Delay)]);
    assert_eq!(flood(&mut script, "GET a", 10), 4, "the burst");
    let wants = script.session.wants();
    assert!(!wants.read_down, "the client is not read");
    assert_eq!(wants.wake_at_us, Some(script.now.mono_us + SECOND / 4));
    for _ in 0..6 {
        script.up.clear();
        script.wait_us(SECOND / 4);
        assert_eq!(script.up, command("GET a"));
    }
    assert!(script.session.wants().read_down, "what is to come is welcome again");
    script.redis(&b"$-1\r\n".repeat(10)).down(&b"$-1\r\n".repeat(10));
    assert!(script.records().iter().all(|record| record["outcome"] == "ran"));
    let delayed = script.recorder.counters().delayed;
    assert_eq!(delayed.get("rate:commands"), Some(&6), "each that had to wait is counted once");
}

#[test]
fn what_a_limit_refuses_is_answered_in_order_and_recorded_by_its_rule() {
    let mut script = limited(vec![limit(Measure::Commands, 1, &["@write"], Over::Refuse)]);
    script.client(&[command("SET a 1"), command("SET a 2"), command("GET a")].concat());
    script.up(&[command("SET a 1"), command("GET a")].concat());
    script.redis(b"+OK\r\n$1\r\n1\r\n").down(b"+OK\r\n-ERR rate limit reached, try again later\r\n$1\r\n1\r\n");
    let denied = script.records().iter().find(|record| record["verdict"] == "deny").unwrap();
    assert_eq!((&denied["rule"], &denied["reply"]), (&"rate:commands:@write".into(), &"ERR".into()), "{denied}");
    script.wait_us(SECOND);
    script.up.clear();
    script.say("SET a 3").sent(&["SET a 3"]);
}

#[test]
fn what_policy_denies_is_recorded_by_policys_rule_and_counts_all_the_same() {
    let mut script = limited(vec![limit(Measure::Commands, 1, &[], Over::Refuse)]);
    script.client(&[command("FLUSHALL"), command("FLUSHALL"), command("GET a")].concat()).up(b"");
    let rules: Vec<_> = script.records().iter().map(|record| record["rule"].clone()).collect();
    assert_eq!(rules, ["deny:FLUSHALL", "deny:FLUSHALL", "rate:commands"]);
}

#[test]
fn a_refusal_inside_a_transaction_spoils_it_and_its_frame_is_delayed() {
    let mut script = limited(vec![limit(Measure::Commands, 2, &[], Over::Refuse)]);
    script.client(&["MULTI", "SET a 1", "SET b 2", "EXEC"].map(command).concat());
    script.up(&[command("MULTI"), command("SET a 1")].concat());
    script.redis(b"+OK\r\n+QUEUED\r\n").down(b"+OK\r\n+QUEUED\r\n-ERR rate limit reached, try again later\r\n");
    script.wait_us(SECOND / 2).up(&command("DISCARD"));
    script.redis(b"+OK\r\n").down(b"-EXECABORT Transaction discarded because of previous errors.\r\n");

    // What is over when MULTI comes delays it: none of what follows runs by itself.
    let mut script = limited(vec![limit(Measure::Commands, 1, &[], Over::Refuse)]);
    script.client(&["GET a", "MULTI", "SET a 1", "EXEC"].map(command).concat()).up(&command("GET a"));
    script.redis(b"$-1\r\n").down(b"$-1\r\n").wait_us(SECOND).up(&command("MULTI"));
    script.redis(b"+OK\r\n").down(b"+OK\r\n-ERR rate limit reached, try again later\r\n");
    script.wait_us(SECOND).up(&command("DISCARD")).redis(b"+OK\r\n");
    script.down(b"-EXECABORT Transaction discarded because of previous errors.\r\n");
}

#[test]
fn bytes_are_those_of_commands_and_replies() {
    let mut script = limited(vec![limit(Measure::Bytes, 1000, &[], Over::Delay)]);
    script.say("GET a").sent(&["GET a"]);
    let reply = [&b"$5000\r\n"[..], &[b'x'; 5000], b"\r\n"].concat();
    script.redis(&reply).down(&reply);
    script.say("GET a").up(b"");
    script.wait_us(4 * SECOND).up(b"").wait_us(SECOND).sent(&["GET a"]);
}

#[test]
fn a_streamed_command_is_charged_for_all_that_came_of_it() {
    let mut script = limited(vec![limit(Measure::Bytes, 10_000, &[], Over::Delay)]);
    // Each word by itself is small, so that little is known of the whole when it is let through.
    let head = b"*300\r\n$5\r\nRPUSH\r\n$1\r\nk\r\n".to_vec();
    let words = [b"$1000\r\n", &[b'v'; 1000][..], b"\r\n"].concat();
    script.client(&[head, words.repeat(100)].concat());
    assert!(!script.up.is_empty(), "it is being streamed");
    script.client(&words.repeat(198));
    script.redis(b":298\r\n").down(b":298\r\n").up.clear();
    script.say("GET a").up(b"");
    script.wait_us(28 * SECOND).up(b"").wait_us(2 * SECOND).sent(&["GET a"]);
}

#[test]
fn nobody_is_idle_while_a_limit_holds_him_and_a_drain_does_not_wait_for_it() {
    let mut setup = Setup { rates: vec![limit(Measure::Commands, 1, &[], Over::Delay)], ..Setup::default() };
    setup.config.idle_timeout_us = 1_500_000;
    let mut script = Script::with(setup);
    script.forget().client(&command("GET a").repeat(4)).redis(b"$-1\r\n");
    script.wait_us(SECOND).redis(b"$-1\r\n").wait_us(SECOND).redis(b"$-1\r\n");
    assert_eq!(script.session.core.phase, Phase::Open);
    script.drain().up.clear();
    assert_eq!(script.session.core.phase, Phase::Done, "what was not accepted is not promised");
}

fn hurried(first_us: u64, half_us: u64) -> Script {
    let mut setup = Setup::default();
    setup.config.first_byte_timeout_us = first_us;
    setup.config.half_command_timeout_us = half_us;
    let mut script = Script::with(setup);
    script.forget();
    script
}

fn close_reason(script: &mut Script) -> serde_json::Value {
    let close = script.records().iter().find(|record| record["event"] == "connection_close");
    close.map_or(serde_json::Value::Null, |close| close["reason"].clone())
}

#[test]
fn a_client_that_never_speaks_is_ended_and_one_that_has_spoken_is_not() {
    let mut script = hurried(SECOND, 0);
    script.wait_us(SECOND - 1);
    assert_eq!(close_reason(&mut script), serde_json::Value::Null);
    script.wait_us(1);
    assert_eq!(close_reason(&mut script), "first-byte-timeout");
    let mut script = hurried(SECOND, 0);
    script.client(b"*");
    script.wait_us(100 * SECOND);
    assert_eq!(close_reason(&mut script), serde_json::Value::Null);
}

#[test]
fn a_half_command_has_its_time_whatever_dribbles_and_more_if_it_goes_on() {
    let mut script = hurried(0, 10 * SECOND);
    for byte in command("GET abcd").iter().take(9) {
        script.client(&[*byte]).wait_us(SECOND);
    }
    assert_eq!(close_reason(&mut script), serde_json::Value::Null);
    script.wait_us(SECOND);
    assert_eq!(close_reason(&mut script), "half-command-timeout", "a byte a second is no progress");

    let mut script = hurried(0, 10 * SECOND);
    script.client(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\n");
    for _ in 0..10 {
        script.client(&[b'v'; 70_000]).wait_us(9 * SECOND);
    }
    assert_eq!(close_reason(&mut script), serde_json::Value::Null, "64 KiB give it its time anew");
    script.wait_us(SECOND).redis(b"");
    assert_eq!(close_reason(&mut script), "half-command-timeout");
    let set = script.records().iter().find(|record| record["cmd"] == "SET").unwrap();
    assert_eq!(set["outcome"], "incomplete", "{set}");
}

#[test]
fn whole_commands_and_time_in_which_nobody_read_make_no_half_command() {
    let mut script = hurried(0, 10 * SECOND);
    let get = command("GET a");
    for _ in 0..20 {
        // The end of one and the beginning of the next.
        script.client(&get[get.len() - 3..]).client(&get[..get.len() - 3]).wait_us(6 * SECOND);
        if script.session.core.phase != Phase::Open {
            break;
        }
        script.redis(b"$-1\r\n");
    }
    assert_ne!(close_reason(&mut script), "half-command-timeout");

    let mut script = hurried(0, 10 * SECOND);
    script.client(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\n").client(&[b'v'; 70_000]);
    script.up_pending = 1;
    script.wait_us(10 * SECOND).wait_us(10 * SECOND);
    assert_eq!(close_reason(&mut script), serde_json::Value::Null, "Redis takes nothing, so nothing is read");
    script.up_pending = 0;
    script.wait_us(10 * SECOND).redis(b"");
    assert_eq!(close_reason(&mut script), "half-command-timeout");
}

#[test]
fn who_waits_for_redis_may_leave_a_command_half() {
    let mut script = hurried(0, SECOND);
    script.say("SUBSCRIBE a").redis(b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n").client(b"*1\r\n");
    script.wait_us(100 * SECOND);
    assert_eq!(close_reason(&mut script), serde_json::Value::Null, "a subscriber");
    let mut script = hurried(0, SECOND);
    script.say("BLPOP l 0").client(b"*1\r\n");
    script.wait_us(100 * SECOND);
    assert_eq!(close_reason(&mut script), serde_json::Value::Null, "a command that blocks");
    script.redis(b"*-1\r\n").wait_us(SECOND - 1);
    assert_eq!(close_reason(&mut script), serde_json::Value::Null, "its time begins with the answer");
    script.wait_us(1);
    assert_eq!(close_reason(&mut script), "half-command-timeout", "until it is answered");
}
