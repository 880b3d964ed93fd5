//! A client's own AUTH that the shell looks up, in virtual time.

use super::{
    End,
    inquiry::{Answer, Selected},
    machine::ClientAuth,
    script::{Script, Setup, command, peer},
};
use crate::audit::encode::ConnectionFacts;
use std::sync::Arc;

fn script(mode: ClientAuth) -> Script {
    let mut setup = Setup::default();
    setup.config.client_auth = mode;
    let mut script = Script::with(setup);
    script.forget();
    script
}

/// What the client was told since the last time, each reply by its first word.
fn told(script: &mut Script) -> Vec<String> {
    let text = String::from_utf8(std::mem::take(&mut script.down)).unwrap();
    text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn nothing_goes_up_before_the_answer_and_everything_behind_it_waits() {
    let mut script = script(ClientAuth::Verify);
    script.client(&["GET a", "PING", "NOSUCH", "SET a b"].map(command).concat()).up(b"");
    assert_eq!(told(&mut script), ["-NOAUTH"; 4]);
    script.client(&["AUTH guess", "GET a", "AUTH u p", "GET b"].map(command).concat()).up(b"");
    script.asks("default", "guess").answer(Answer::Denied).up(b"");
    assert_eq!(told(&mut script), ["-WRONGPASS", "-NOAUTH"]);
    script.asks("u", "p").answer(Answer::Granted).sent(&["GET b"]).redis(b"$-1\r\n");
    assert_eq!(told(&mut script), ["+OK", "$-1"]);
    let records = format!("{:?}", script.records());
    assert!(!records.contains("guess"), "{records}");
    script.recorded(&[
        "GET denied",
        "PING denied",
        "NOSUCH denied",
        "SET denied",
        "AUTH denied",
        "GET denied",
        "AUTH ran",
        "GET ran",
    ]);
}

#[test]
fn an_answer_that_nobody_waits_for_changes_nothing() {
    let mut script = script(ClientAuth::Verify);
    script.answer(Answer::Granted).say("GET a").up(b"");
    assert_eq!(told(&mut script), ["-NOAUTH"]);
    script.say("AUTH p").asks("default", "p").answer(Answer::Unavailable);
    script.answer(Answer::Granted).say("GET a").up(b"");
    assert_eq!(told(&mut script), ["-ERR", "-NOAUTH"]);
}

#[test]
fn a_ban_closes_behind_the_answer() {
    let mut script = script(ClientAuth::Verify);
    script.client(&["AUTH p", "AUTH q"].map(command).concat()).asks("default", "p").answer(Answer::Banned(60_000_000));
    assert_eq!(told(&mut script), ["-WRONGPASS"]);
    script.closed("banned", End::Flush);
}

#[test]
fn a_drain_and_the_clients_end_do_not_wait_for_an_answer_for_ever() {
    let mut drained = script(ClientAuth::Verify);
    drained.say("AUTH p").asks("default", "p").drain().closed("drain", End::Flush);
    drained.answer(Answer::Granted).up(b"");
    let mut left = script(ClientAuth::Verify);
    left.say("AUTH p").asks("default", "p").client_end(true).answer(Answer::Denied).closed("client-closed", End::Flush);
    let mut lost = script(ClientAuth::Verify);
    lost.say("AUTH p").asks("default", "p").redis_end(0).closed("upstream-closed", End::Flush);
}

#[test]
fn what_comes_behind_the_end_takes_no_memory() {
    let held = |script: &Script| script.memory.held;
    let rest = [b"*5\r\n$4\r\nMSET\r\n$1\r\na\r\n$200000\r\n", &[b'v'; 100_000][..]].concat();
    let mut answered = script(ClientAuth::Verify);
    answered.client(&[command("AUTH p"), rest.clone()].concat()).asks("default", "p");
    assert!(held(&answered) > 100_000);
    answered.drain().closed("drain", End::Flush);
    assert_eq!(held(&answered), 0);
    answered.answer(Answer::Granted);
    assert_eq!(held(&answered), 0, "nobody would ever give it back");
    let mut gone = script(ClientAuth::Refuse);
    gone.client(&rest);
    assert!(held(&gone) > 100_000);
    gone.drain().closed("drain", End::Flush).client_end(false);
    assert_eq!(held(&gone), 0, "nobody would ever give it back");
}

#[test]
fn reset_ends_the_authentication_and_a_large_command_is_not_held_before_it() {
    let mut script = script(ClientAuth::Verify);
    script.say("AUTH p").asks("default", "p").answer(Answer::Granted).say("RESET").sent(&["RESET"]);
    script
        .redis(b"+RESET\r\n")
        .up(b"*2\r\n$4\r\nAUTH\r\n$6\r\ns3cret\r\n")
        .redis(b"+OK\r\n")
        .down(b"+OK\r\n+RESET\r\n");
    // An MSET that would be held to be judged: it is consumed, and what follows is still in step.
    let value = "x".repeat(200_000);
    script.say(&format!("MSET a {value} b {value}")).say("GET a").up(b"");
    assert_eq!(told(&mut script), ["-NOAUTH", "-NOAUTH"]);
    assert_eq!(script.memory.held, 0);
}

const MINUTE_US: u64 = 60_000_000;

#[test]
fn who_gives_no_right_password_within_a_minute_is_sent_away_whatever_else_it_says() {
    // Saying nothing, or what is denied, or guessing: none of it buys time.
    script(ClientAuth::Verify).wait_us(MINUTE_US - 1).say("PING").wait_us(1).closed("login-timeout", End::Flush);
    let mut guesser = script(ClientAuth::Verify);
    for _ in 0..6 {
        guesser.wait_us(MINUTE_US / 6 - 1).say("AUTH p").asks("default", "p").answer(Answer::Denied);
    }
    assert!(!guesser.wants().done);
    guesser.wait_us(6).closed("login-timeout", End::Flush);
    // Nor does keeping back the end of a command, nor not reading.
    let mut slow = script(ClientAuth::Verify);
    slow.client(b"*2\r\n$4\r\nAUTH\r\n").wait_us(MINUTE_US).closed("login-timeout", End::Flush);
    let mut deaf = script(ClientAuth::Verify);
    deaf.down_pending = 1 << 30;
    deaf.say("PING").wait_us(MINUTE_US);
    assert!(!deaf.wants().read_down, "nothing of it is taken any more");
}

#[test]
fn a_look_up_that_is_under_way_may_end_after_the_deadline() {
    let mut granted = script(ClientAuth::Verify);
    granted.wait_us(MINUTE_US - 1).say("AUTH p").asks("default", "p").wait_us(MINUTE_US).answer(Answer::Granted);
    granted.wait_us(100 * MINUTE_US).say("GET a").sent(&["GET a"]);
    let mut denied = script(ClientAuth::Verify);
    denied.wait_us(MINUTE_US - 1).say("AUTH p").asks("default", "p").wait_us(MINUTE_US).answer(Answer::Denied);
    denied.wait_us(0);
    assert_eq!(told(&mut denied), ["-WRONGPASS"]);
    denied.closed("login-timeout", End::Flush);
}

#[test]
fn only_who_must_give_a_password_has_a_deadline_and_reset_begins_it_again() {
    for mode in [ClientAuth::Refuse, ClientAuth::Ignore, ClientAuth::Select] {
        let mut other = script(mode);
        assert_eq!(other.wants().wake_at_us, None, "{mode:?}");
        other.wait_us(100 * MINUTE_US).say("GET a").sent(&["GET a"]);
    }
    let mut script = script(ClientAuth::Verify);
    script.say("AUTH p").asks("default", "p").answer(Answer::Granted).wait_us(10 * MINUTE_US).say("RESET");
    script.redis(b"+RESET\r\n").redis(b"+OK\r\n").wait_us(MINUTE_US - 1);
    assert!(!script.wants().done);
    script.wait_us(1).closed("login-timeout", End::Flush);
}

/// Another role's peer, records and configuration.
fn selected(deny: &[&str]) -> Answer {
    let facts = ConnectionFacts::new("t-1", "cache", "127.0.0.1:4711".parse().unwrap(), "app", "inner", Some("one"));
    let mut config = Setup::default().config;
    config.client_auth = ClientAuth::Refuse;
    Answer::Selected(Box::new(Selected { peer: peer(deny), facts, config: Arc::new(config) }))
}

#[test]
fn a_role_is_selected_behind_what_is_owed_and_greets_again() {
    let mut script = script(ClientAuth::Select);
    script.client(&["GET a", "AUTH u p", "FLUSHALL"].map(command).concat()).sent(&["GET a"]);
    assert!(!script.wants().asks, "a reply is owed");
    script.redis(b"$-1\r\n").down(b"$-1\r\n").asks("u", "p").answer(selected(&["GET"]));
    // The other connection is greeted; nothing else goes up before.
    script.up(super::script::GREETING_UP).down(b"");
    script.redis(b"-NOAUTH Authentication required.\r\n+OK\r\n").sent(&["FLUSHALL"]);
    script.redis(b"+OK\r\n").down(b"+OK\r\n+OK\r\n").say("GET a").up(b"");
    assert_eq!(told(&mut script), ["-NOPERM"]);
    let records = script.records();
    let of = |cmd: &str| {
        records
            .iter()
            .filter(|record| record["cmd"] == cmd && record["event"] == "command")
            .map(|r| r["role"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!((of("FLUSHALL"), of("GET")), (vec!["inner".into()], vec!["app".into(), "inner".into()]));
}

#[test]
fn a_selected_roles_redis_that_refuses_it_ends_the_connection() {
    let mut script = script(ClientAuth::Select);
    script.say("AUTH u p").asks("u", "p").answer(selected(&[])).up(super::script::GREETING_UP);
    script.redis(b"-NOAUTH Authentication required.\r\n-WRONGPASS no\r\n").closed("upstream-auth", End::Flush);
    assert_eq!(script.down, b"", "the client is not told that it has the role");
}

#[test]
fn a_role_is_not_selected_in_the_middle_of_a_message() {
    let mut script = script(ClientAuth::Select);
    script.say("HELLO 3").redis(b"%0\r\n");
    script.up.clear();
    script.say("AUTH u p").asks("u", "p").redis(b">2\r\n$10\r\ninvalidate\r\n*1\r\n");
    script.answer(selected(&[])).up(b"").closed("upstream-closed", End::Abort);
}

#[test]
fn nothing_is_asked_while_something_hangs_on_the_connection() {
    for (before, replies) in [("WATCH a", "+OK\r\n"), ("SUBSCRIBE a", "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n")] {
        let mut script = script(ClientAuth::Select);
        script.say(before).sent(&[before]).redis(replies.as_bytes());
        script.down.clear();
        script.say("AUTH u p").up(b"");
        assert_eq!(told(&mut script), ["-ERR"], "{before}");
    }
    let mut script = script(ClientAuth::Select);
    script.say("MULTI").sent(&["MULTI"]).redis(b"+OK\r\n").say("AUTH u p").up(b"");
    assert_eq!(told(&mut script), ["+OK", "-ERR"]);
}
