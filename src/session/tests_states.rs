//! Dialogues of the states a connection can be in, where two generations of servers differ or where what is confirmed is
//! not what was expected.

use super::{
    End,
    script::{Script, Setup, command},
};

const NOPERM_FLUSHALL: &[u8] = b"-NOPERM this user has no permissions to run the 'flushall' command\r\n";
const EXECABORT: &[u8] = b"-EXECABORT Transaction discarded because of previous errors.\r\n";
const ONLY: &[u8] = b"-ERR Can't execute 'multi': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n";

fn confirmation(kind: &str, name: &str, count: u32) -> Vec<u8> {
    format!("*3\r\n${}\r\n{kind}\r\n${}\r\n{name}\r\n:{count}\r\n", kind.len(), name.len()).into_bytes()
}

fn pipeline(lines: &[&str]) -> Vec<u8> {
    lines.iter().flat_map(|line| command(line)).collect()
}

fn open() -> Script {
    let mut script = Script::new();
    script.forget().up.clear();
    script
}

fn resp3() -> Script {
    let mut script = Script::new();
    script.say("HELLO 3").redis(b"%1\r\n+proto\r\n:3\r\n").forget().up.clear();
    script.down.clear();
    script
}

// ── a MULTI that was refused ────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_multi_refused_in_subscriber_mode_leaves_no_transaction_behind() {
    let mut script = open();
    script.say("SUBSCRIBE a").redis(&confirmation("subscribe", "a", 1)).up.clear();
    script.client(&pipeline(&["MULTI", "SUBSCRIBE b"])).sent(&["MULTI"]);
    script.redis(ONLY).sent(&["SUBSCRIBE b"]).redis(&confirmation("subscribe", "b", 2));
    script.recorded(&["SUBSCRIBE ran", "MULTI error", "SUBSCRIBE ran"]);
    script.client(&pipeline(&["RESET"])).redis(b"+RESET\r\n+OK\r\n").up.clear();
    script.client(&pipeline(&["MULTI", "GET a"])).sent(&["MULTI", "GET a"]);
}

#[test]
fn what_went_up_behind_a_refused_multi_is_known_to_stand_outside() {
    let mut script = open();
    script.client(&pipeline(&["MULTI", "BLPOP q 0", "FLUSHALL", "CLIENT REPLY ON"]));
    script.sent(&["MULTI", "BLPOP q 0"]).redis(b"-NOPERM no multi for you\r\n");
    assert!(script.wants().wake_at_us.is_none());
    // It blocks after all: who leaves now leaves no ghost.
    script.client_end(true).recorded(&["MULTI error", "BLPOP unanswered", "FLUSHALL denied", "CLIENT|REPLY denied"]);
    assert!(script.wants().done && script.wants().up == End::Abort);
}

#[test]
fn a_second_multi_opens_the_transaction_that_the_first_did_not() {
    let mut script = open();
    script
        .client(&pipeline(&["MULTI", "GET a", "MULTI", "FLUSHALL", "GET b"]))
        .sent(&["MULTI", "GET a", "MULTI", "GET b"]);
    script.redis(b"-BUSY a script runs\r\n-BUSY a script runs\r\n+OK\r\n+QUEUED\r\n");
    script.down(&[b"-BUSY a script runs\r\n-BUSY a script runs\r\n+OK\r\n", NOPERM_FLUSHALL, b"+QUEUED\r\n"].concat());
    let contexts: Vec<_> = script.records().iter().map(|record| record["context"].as_str().unwrap()).collect();
    assert_eq!(contexts, ["top", "top", "top", "multi", "multi"]);
    script.say("EXEC").sent(&["DISCARD"]).redis(b"+OK\r\n").down(EXECABORT);
}

#[test]
fn an_exec_that_an_old_server_refuses_without_ending_the_transaction_leaves_it_open() {
    for (end, code) in [("EXEC", "LOADING"), ("EXEC", "BUSY"), ("DISCARD", "BUSY"), ("EXEC", "MASTERDOWN")] {
        let mut script = open();
        script.say("MULTI").redis(b"+OK\r\n").down.clear();
        script.forget().up.clear();
        script.client(&pipeline(&[end, "BLPOP q 0"])).sent(&[end, "BLPOP q 0"]);
        script.redis(format!("-{code} not now\r\n+QUEUED\r\n").as_bytes());
        script.recorded(&["BLPOP begin", &format!("{end} error"), "BLPOP queued"]);
        script.down.clear();
        script.say("SUBSCRIBE a").down(b"-ERR Command not allowed inside a transaction\r\n");
        script.say("EXEC").redis(b"+OK\r\n").down(EXECABORT);
        script.say("SUBSCRIBE a").redis(&confirmation("subscribe", "a", 1)).down(&confirmation("subscribe", "a", 1));
    }
    // What ends it everywhere.
    for said in [
        "-EXECABORT Transaction discarded because of: LOADING x\r\n",
        "-MOVED 1 h:1\r\n",
        "-ERR EXEC without MULTI\r\n",
    ] {
        let mut script = open();
        script.say("MULTI").redis(b"+OK\r\n").say("EXEC").redis(said.as_bytes()).down.clear();
        script.say("SUBSCRIBE a").redis(&confirmation("subscribe", "a", 1)).down(&confirmation("subscribe", "a", 1));
    }
}

#[test]
fn an_exec_with_arguments_behind_a_multi_that_is_refused_holds_nothing_up() {
    let mut script = open();
    script.client(&pipeline(&["MULTI", "EXEC x", "GET a"])).sent(&["MULTI", "EXEC x"]);
    script.redis(b"-BUSY no\r\n").up(b"").redis(b"-BUSY no\r\n").sent(&["GET a"]).redis(b"$-1\r\n");
    script.recorded(&["MULTI error", "EXEC error", "GET ran"]);
}

// ── what every server refuses ───────────────────────────────────────────────────────────────────────────────────────

#[test]
fn what_every_server_refuses_goes_up_and_a_server_that_takes_it_is_left() {
    for (line, answer) in [
        ("HELLO 4", &b"%1\r\n+proto\r\n:4\r\n"[..]),
        ("HELLO 3 NONSENSE", b"%1\r\n+proto\r\n:3\r\n"),
        ("EXEC x", b"*0\r\n"),
        ("RESET x", b"+RESET\r\n"),
        ("SELECT x", b"+OK\r\n"),
        ("SELECT -1", b"+OK\r\n"),
        ("CLIENT REPLY MAYBE", b"+OK\r\n"),
        ("CLIENT REPLY", b"+OK\r\n"),
    ] {
        let mut script = open();
        script.say(line).sent(&[line]).redis(b"-ERR in its own words\r\n").down(b"-ERR in its own words\r\n");
        script.say("GET a").sent(&["GET a"]).redis(b"$-1\r\n").down(b"$-1\r\n");
        script.say(line).redis(answer).closed("desync", End::Flush);
    }
}

#[test]
fn a_select_that_fails_inside_multi_fails_in_exec_alone() {
    let mut script = open();
    script.client(&pipeline(&["MULTI", "SELECT 3", "SELECT x", "SELECT -1", "GET a", "EXEC", "GET a"]));
    script.redis(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*4\r\n+OK\r\n-ERR x\r\n-ERR x\r\n$-1\r\n$-1\r\n");
    assert_eq!(script.records().last().unwrap()["db"], 3);
    script.recorded(&[
        "MULTI ran",
        "SELECT queued",
        "SELECT queued",
        "SELECT queued",
        "GET queued",
        "EXEC ran",
        "GET ran",
    ]);
}

#[test]
fn a_hello_that_some_reader_could_take_for_another_is_answered_here_and_named() {
    let mut script = open();
    script.client(b"*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$6\r\nAUTH\0x\r\n$1\r\nu\r\n$5\r\nguess\r\n").up(b"");
    script.down(b"-ERR Syntax error in HELLO option 'AUTH'\r\n");
    script.say("HELLO 03").up(b"").down(b"-ERR Protocol version is not an integer or out of range\r\n");
    assert!(!format!("{:?}", script.records()).contains("guess"));
    script.recorded(&["HELLO denied", "HELLO denied"]);
}

// ── pushes at any boundary ──────────────────────────────────────────────────────────────────────────────────────────

const INVALIDATE: &[u8] = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n";
const MESSAGE3: &[u8] = b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n";

#[test]
fn an_invalidation_of_ones_own_write_comes_before_or_after_its_reply() {
    for (said, version) in [([INVALIDATE, b"+OK\r\n"], "up to 7.0"), ([b"+OK\r\n", INVALIDATE], "from 7.2")] {
        let mut script = resp3();
        script.client(&pipeline(&["SET a 1", "GET a"])).redis(&said.concat()).redis(b"$1\r\n1\r\n");
        script.down(&[&said.concat()[..], b"$1\r\n1\r\n"].concat());
        script.recorded(&["SET ran", "GET ran"]);
        assert!(script.wants().read_down, "{version}");
    }
}

#[test]
fn pushes_pass_between_a_command_and_its_reply_between_confirmations_and_while_local_replies_wait() {
    let mut script = resp3();
    script.client(&pipeline(&["GET a", "FLUSHALL", "SUBSCRIBE a b", "FLUSHALL", "GET b"]));
    let subscribed = |name: &str, count: u32| {
        String::from_utf8(confirmation("subscribe", name, count)).unwrap().replacen('*', ">", 1).into_bytes()
    };
    script.redis(INVALIDATE).down(INVALIDATE);
    script.redis(b"$2\r\nx").down(b"$2\r\nx").redis(b"x\r\n").down(&[b"x\r\n", NOPERM_FLUSHALL].concat());
    script.redis(&subscribed("a", 1)).redis(MESSAGE3).redis(INVALIDATE);
    script.down(&[&subscribed("a", 1)[..], MESSAGE3, INVALIDATE].concat());
    let (begun, rest) = MESSAGE3.split_at(17);
    script.redis(begun).down(begun).redis(rest).down(rest);
    script.redis(&subscribed("b", 2)).down(&[&subscribed("b", 2)[..], NOPERM_FLUSHALL].concat());
    script.redis(MESSAGE3).redis(b"$-1\r\n").redis(MESSAGE3).down(&[MESSAGE3, b"$-1\r\n", MESSAGE3].concat());
    script.recorded(&["GET ran", "FLUSHALL denied", "SUBSCRIBE ran", "FLUSHALL denied", "GET ran"]);
}

#[test]
fn pushes_pass_inside_a_transaction_and_under_client_reply_off() {
    let mut script = resp3();
    script.client(&pipeline(&["MULTI", "SET a 1", "EXEC"]));
    script
        .redis(&[INVALIDATE, b"+OK\r\n", INVALIDATE, b"+QUEUED\r\n", MESSAGE3, b"*1\r\n+OK\r\n", INVALIDATE].concat());
    script.recorded(&["MULTI ran", "SET queued", "EXEC ran"]).down.clear();
    script.say("CLIENT REPLY OFF").say("SET a 1").redis(&[INVALIDATE, b"+OK\r\n", MESSAGE3].concat());
    script.down(&[INVALIDATE, MESSAGE3].concat());
}

#[test]
fn the_broken_redirection_of_tracking_is_a_push_like_any_other() {
    let mut script = resp3();
    let broken: &[u8] = b">2\r\n$21\r\ntracking-redir-broken\r\n:7\r\n";
    script.say("GET a").redis(&[broken, b"$-1\r\n"].concat()).down(&[broken, b"$-1\r\n"].concat());
    // To a RESP2 subscriber the keys come as a message whose payload is an array, or null after FLUSHALL.
    let mut script = open();
    script
        .say("SUBSCRIBE __redis__:invalidate")
        .redis(&confirmation("subscribe", "__redis__:invalidate", 1))
        .down
        .clear();
    let head = b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n";
    for payload in [&b"*2\r\n$1\r\na\r\n$1\r\nb\r\n"[..], b"$-1\r\n", b"*-1\r\n"] {
        let message = [&head[..], payload].concat();
        script.redis(&message).down(&message);
    }
    script.say("PING").redis(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n").down(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n");
}

// ── subscriptions ───────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn nosub_of_valkey_8_0_stands_for_every_confirmation_wherever_it_comes() {
    const NOSUB: &[u8] = b"-NOSUB 'unsubscribe' command executed not in subscribed mode\r\n";
    for line in ["UNSUBSCRIBE", "UNSUBSCRIBE a b c", "PUNSUBSCRIBE", "SUNSUBSCRIBE s"] {
        let mut script = open();
        script
            .client(&pipeline(&[line, "GET a"]))
            .redis(&[NOSUB, b"$-1\r\n"].concat())
            .down(&[NOSUB, b"$-1\r\n"].concat());
        let name = line.split(' ').next().unwrap();
        script.recorded(&[&format!("{name} error"), "GET ran"]);
    }
}

#[test]
fn hello_2_in_the_middle_of_subscriptions_changes_how_messages_look_and_nothing_else() {
    let mut script = resp3();
    script.say("SUBSCRIBE a").redis(b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n").down.clear();
    let message2 = b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n";
    script.client(&pipeline(&["HELLO 2", "PING"])).redis(MESSAGE3).redis(b"*0\r\n").redis(message2);
    script.redis(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    script.down(&[MESSAGE3, b"*0\r\n", message2, b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"].concat());
    script.redis(MESSAGE3).closed("desync", End::Flush);
}

// ── a server without a place ────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn maxclients_is_told_in_redis_own_words_during_the_greeting_and_without_one() {
    const FULL: &[u8] = b"-ERR max number of clients reached\r\n";
    let mut script = Script::with(Setup { greeted: false, ..Setup::default() });
    script.say("GET a").redis(FULL).down(FULL).closed("upstream-auth", End::Flush);
    let mut setup = Setup { greeted: false, ..Setup::default() };
    setup.config.greeting.credential = None;
    let mut script = Script::with(setup);
    script.forget().say("GET a").redis(FULL).down(FULL).closed("upstream-closed", End::Flush);
    script.recorded(&["GET unanswered"]);
}

// ── CLIENT REPLY ────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn silence_covers_local_replies_protocol_errors_and_quit() {
    let mut script = open();
    script.say("CLIENT REPLY SKIP").say("FLUSHALL").say("FLUSHALL").down(NOPERM_FLUSHALL);
    script
        .say("CLIENT REPLY SKIP")
        .say("CLIENT REPLY SKIP")
        .say("GET a")
        .say("GET b")
        .redis(b"$-1\r\n:1\r\n")
        .down(b":1\r\n");
    script.say("CLIENT REPLY SKIP").say("CLIENT REPLY ON").down(b"+OK\r\n");
    script.say("CLIENT REPLY SKIP").client(b"\r\n").say("FLUSHALL").down(NOPERM_FLUSHALL);
    script.say("CLIENT REPLY OFF").say("CLIENT REPLY SKIP").say("FLUSHALL").client(b"*a\r\n").down(b"");
    script.closed("protocol", End::Flush);
    let mut script = open();
    script.say("CLIENT REPLY OFF").say("QUIT").down(b"").closed("quit", End::Flush);
}

#[test]
fn skip_before_a_subscription_silences_no_confirmation_and_counts_as_used() {
    let mut script = open();
    script.client(&pipeline(&["CLIENT REPLY SKIP", "SUBSCRIBE a", "PING"])).redis(&confirmation("subscribe", "a", 1));
    script.redis(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    script.down(&[&confirmation("subscribe", "a", 1)[..], b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"].concat());
}

#[test]
fn what_a_write_invalidates_comes_before_the_proxys_answer_to_the_next_command() {
    let mut script = resp3();
    script.client(&pipeline(&["DEL a", "FLUSHALL"])).redis(&[b":1\r\n", INVALIDATE].concat());
    script.down(&[b":1\r\n", INVALIDATE, NOPERM_FLUSHALL].concat());
    // One that has not come is not waited for.
    let mut script = resp3();
    script.client(&pipeline(&["DEL a", "FLUSHALL"])).redis(b":1\r\n").down(&[b":1\r\n", NOPERM_FLUSHALL].concat());
    // Who quits hears it before it is told goodbye.
    let mut script = resp3();
    script.client(&pipeline(&["DEL a", "QUIT"])).redis(&[b":1\r\n", INVALIDATE].concat());
    script.down(&[b":1\r\n", INVALIDATE, b"+OK\r\n"].concat());
}

#[test]
fn a_push_that_is_the_answer_to_a_later_command_waits_for_the_proxys_answer_to_an_earlier_one() {
    let push = |kind: &str| format!(">3\r\n${}\r\n{kind}\r\n_\r\n:0\r\n", kind.len()).into_bytes();
    let (first, second) = (push("sunsubscribe"), push("punsubscribe"));
    let lines = ["SUNSUBSCRIBE", "FLUSHALL", "PUNSUBSCRIBE", "GET a"];
    let mut script = resp3();
    script.client(&pipeline(&lines)).redis(&[&first[..], &second, b"$-1\r\n"].concat());
    script.down(&[&first[..], NOPERM_FLUSHALL, &second, b"$-1\r\n"].concat());
    script.recorded(&["SUNSUBSCRIBE ran", "FLUSHALL denied", "PUNSUBSCRIBE ran", "GET ran"]);
    // Behind one that is no answer, too.
    let mut script = resp3();
    script.client(&pipeline(&["DEL a", "FLUSHALL", "PUNSUBSCRIBE"]));
    script.redis(&[b":1\r\n", INVALIDATE, &second].concat());
    script.down(&[b":1\r\n", INVALIDATE, NOPERM_FLUSHALL, &second].concat());
}

#[test]
fn a_shard_channel_that_is_lost_while_exec_is_owed_counts() {
    let push =
        |kind: &str, count: u32| format!(">3\r\n${}\r\n{kind}\r\n$1\r\na\r\n:{count}\r\n", kind.len()).into_bytes();
    let mut script = resp3();
    script.say("SSUBSCRIBE a").redis(&push("ssubscribe", 1)).down(&push("ssubscribe", 1));
    script.client(&pipeline(&["MULTI", "GET a", "EXEC"])).redis(b"+OK\r\n+QUEUED\r\n").redis(&push("sunsubscribe", 0));
    script.redis(b"*1\r\n_\r\n").say("SSUBSCRIBE b").redis(&push("ssubscribe", 1));
    script.say("GET a").redis(b"_\r\n").recorded(&[
        "SSUBSCRIBE ran",
        "MULTI ran",
        "GET queued",
        "EXEC ran",
        "SSUBSCRIBE ran",
        "GET ran",
    ]);
}

#[test]
fn a_subscriber_is_refused_client_reply_by_redis_and_keeps_its_replies() {
    let refusal = b"-ERR Can't execute 'client|reply': only PING / QUIT / RESET are allowed in this context\r\n";
    let mut script = open();
    // Whether it is a subscriber only the confirmation says.
    script.client(&pipeline(&["SUBSCRIBE a", "CLIENT REPLY OFF", "PING"])).sent(&["SUBSCRIBE a"]);
    script.redis(&confirmation("subscribe", "a", 1)).sent(&["CLIENT REPLY OFF", "PING"]);
    script.redis(refusal).redis(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    script.recorded(&["SUBSCRIBE ran", "CLIENT|REPLY error", "PING ran"]);
    // A subscriber no more: kept here again.
    script.say("UNSUBSCRIBE").redis(&confirmation("unsubscribe", "a", 0)).up.clear();
    script.client(&pipeline(&["CLIENT REPLY OFF", "GET a"])).sent(&["GET a"]);
}

#[test]
fn a_server_that_takes_the_client_reply_of_a_subscriber_is_closed_upon() {
    let mut script = open();
    script.say("SUBSCRIBE a").redis(&confirmation("subscribe", "a", 1)).up.clear();
    script.say("CLIENT REPLY ON").sent(&["CLIENT REPLY ON"]).redis(b"+OK\r\n").closed("desync", End::Flush);
}
