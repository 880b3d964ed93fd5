//! Dialogues: each test is one behaviour, told as the bytes on both wires.

use super::{
    End,
    script::{GREETING_UP, Script, Setup, command},
};

const NOPERM_FLUSHALL: &[u8] = b"-NOPERM this user has no permissions to run the 'flushall' command\r\n";
const EXECABORT: &[u8] = b"-EXECABORT Transaction discarded because of previous errors.\r\n";

// ── greeting ────────────────────────────────────────────────────────────────────────────────────────────────────────

fn ungreeted() -> Script {
    Script::with(Setup { greeted: false, ..Setup::default() })
}

#[test]
fn no_client_command_goes_up_before_auth_is_answered_ok() {
    let mut script = ungreeted();
    script.up(GREETING_UP).say("GET a").up(b"").redis(b"-NOAUTH Authentication required.\r\n").up(b"");
    script.redis(b"+O").up(b"").redis(b"K\r\n").sent(&["GET a"]).redis(b"$-1\r\n").down(b"$-1\r\n");
    script.recorded(&["^PING error", "^AUTH ran", "GET ran"]);
}

#[test]
fn a_redis_that_asks_nobody_for_a_password_is_refused() {
    let mut script = ungreeted();
    script.say("GET a").up(GREETING_UP).redis(b"+PONG\r\n+OK\r\n").up(b"");
    script.down(b"-ERR the Redis behind this proxy is unavailable\r\n").closed("upstream-auth", End::Flush);
}

#[test]
fn a_refused_credential_closes_and_says_nothing_of_it_to_the_client() {
    let mut script = ungreeted();
    script.redis(b"-NOAUTH x\r\n-WRONGPASS invalid username-password pair\r\n");
    script.down(b"-ERR the Redis behind this proxy is unavailable\r\n").closed("upstream-auth", End::Flush);
    let said = format!("{:?}", script.records());
    assert!(said.contains("WRONGPASS") && !said.contains("s3cret"), "{said}");
}

#[test]
fn a_greeting_that_is_not_answered_times_out() {
    let mut script = ungreeted();
    script.wait_us(9_999_999);
    assert!(!script.wants().done);
    script.wait_us(1).closed("upstream-auth", End::Flush);
}

#[test]
fn maxclients_during_the_greeting_is_an_upstream_failure() {
    let mut script = ungreeted();
    script.redis(b"-ERR max number of clients reached\r\n");
    script.closed("upstream-auth", End::Flush);
    assert!(script.records().iter().any(|record| record["reason"] == "maxclients"));
}

#[test]
fn redis_closing_during_the_greeting_is_told_to_the_client() {
    let mut script = ungreeted();
    script.redis_end(0).down(b"-ERR the Redis behind this proxy is unavailable\r\n");
    script.closed("upstream-auth", End::Flush);
}

#[test]
fn words_of_our_own_that_are_never_answered_are_recorded() {
    let mut script = ungreeted();
    script.redis(b"-NOAUTH x\r\n").client_end(false).closed("client-gone", End::Abort);
    script.recorded(&["^PING error", "^AUTH unanswered"]);
    let mut script = Script::new();
    script.forget().say("RESET").redis(b"+RESET\r\n").redis_end(0).recorded(&["RESET ran", "^AUTH unanswered"]);
}

// ── commands, denials, order ────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn denial_waits_its_turn_in_a_pipeline() {
    let mut script = Script::new();
    let pipeline = ["GET a", "FlushAll", "GET b"].map(command).concat();
    script.client(&pipeline).sent(&["GET a", "GET b"]).down(b"");
    script.redis(b"$1\r\n1\r\n").down(&[b"$1\r\n1\r\n", NOPERM_FLUSHALL].concat());
    script.redis(b":2\r\n").down(b":2\r\n").recorded(&[
        "^PING error",
        "^AUTH ran",
        "GET ran",
        "FLUSHALL denied",
        "GET ran",
    ]);
}

#[test]
fn unknown_commands_and_names_that_are_none_are_denied() {
    let mut script = Script::new();
    script.forget().say("NOSUCH x").down(b"-NOPERM this user has no permissions to run the 'NOSUCH' command\r\n");
    script.client(b"*1\r\n$10\r\nFLUSHALL\0x\r\n");
    script.down(b"-NOPERM this user has no permissions to run the 'FLUSHALL?x' command\r\n");
    script.say("CLIENT NOSUCH").down(b"-NOPERM this user has no permissions to run the 'CLIENT' command\r\n");
    script.up(b"");
    let rules: Vec<_> = script.records().iter().map(|record| record["rule"].as_str().unwrap().to_owned()).collect();
    assert_eq!(rules, ["builtin/unknown-command", "builtin/not-a-name", "builtin/unknown-command"]);
}

#[test]
fn every_chunking_gives_the_same_dialogue() {
    let mut bytes = Vec::new();
    for line in ["SET a 1", "FLUSHALL", "MULTI", "SET a 2", "KEYS *", "EXEC", "GET a"] {
        bytes.extend(command(line));
    }
    for size in 1..bytes.len() {
        let mut script = Script::new();
        for chunk in bytes.chunks(size) {
            script.client(chunk);
        }
        script.sent(&["SET a 1", "MULTI", "SET a 2", "DISCARD", "GET a"]);
        for byte in b"+OK\r\n+OK\r\n+QUEUED\r\n+OK\r\n$1\r\n1\r\n".chunks(size) {
            script.redis(byte);
        }
        let keys = b"-NOPERM this user has no permissions to run the 'keys' command\r\n";
        script.down(&[b"+OK\r\n", NOPERM_FLUSHALL, b"+OK\r\n+QUEUED\r\n", keys, EXECABORT, b"$1\r\n1\r\n"].concat());
    }
}

#[test]
fn blank_lines_and_empty_arrays_get_no_reply_and_do_not_go_up() {
    let mut script = Script::new();
    script.client(b"\r\n*0\r\n*-5\r\n").up(b"").down(b"").say("GET a").sent(&["GET a"]);
}

#[test]
fn the_exact_line_ping_goes_up_reencoded_and_other_lines_close() {
    let mut script = Script::new();
    script.client(b"PING\r\n").sent(&["PING"]).redis(b"+PONG\r\n").down(b"+PONG\r\n");
    script.client(b"FLUSHALL\r\n").up(b"");
    assert!(script.down.starts_with(b"-ERR Protocol error: "), "{:?}", String::from_utf8_lossy(&script.down));
    script.closed("protocol", End::Flush);
}

#[test]
fn what_came_before_a_protocol_error_is_answered_first() {
    let mut script = Script::new();
    script.client(b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n").sent(&["PING"]).down(b"");
    script.redis(b"+PONG\r\n");
    assert!(script.down.starts_with(b"+PONG\r\n-ERR Protocol error: "));
    script.up(b"").closed("protocol", End::Flush);
}

#[test]
fn an_answer_nobody_asked_for_closes_both_sides() {
    let mut script = Script::new();
    script.say("GET a").redis(b"$-1\r\n+surplus\r\n").down(b"$-1\r\n").closed("desync", End::Flush);
    assert!(script.records().iter().any(|record| record["event"] == "alarm"));
}

#[test]
fn an_answer_that_is_no_resp_closes_both_sides() {
    let mut script = Script::new();
    script.say("GET a").redis(b"?what\r\n").down(b"").closed("desync", End::Flush);
    script.recorded(&["^PING error", "^AUTH ran", "GET unanswered"]);
}

#[test]
fn losing_authentication_closes_with_an_alarm_and_passes_nothing_on() {
    let mut script = Script::new();
    script.say("GET a").redis(b"-NOAUTH Authentication required.\r\n").down(b"").closed("upstream-auth", End::Flush);
    assert!(script.records().iter().any(|record| record["event"] == "alarm"));
}

#[test]
fn loading_passes_through_as_an_error_of_the_command() {
    let mut script = Script::new();
    script.forget().say("GET a").redis(b"-LOADING Redis is loading\r\n").down(b"-LOADING Redis is loading\r\n");
    assert_eq!(script.records()[0]["reply"], "LOADING");
    script.recorded(&["GET error"]);
}

// ── transactions ────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn denial_inside_multi_is_seen_at_once_and_aborts_exec() {
    let mut script = Script::new();
    script.forget().say("MULTI").redis(b"+OK\r\n").down(b"+OK\r\n");
    script.say("SET a 2").redis(b"+QUEUED\r\n").down(b"+QUEUED\r\n").say("FLUSHALL").down(NOPERM_FLUSHALL);
    script.up.clear();
    script.say("EXEC").sent(&["DISCARD"]).redis(b"+OK\r\n").down(EXECABORT);
    script.recorded(&["MULTI ran", "SET queued", "FLUSHALL denied", "^DISCARD ran", "EXEC aborted"]);
    script.say("GET a").sent(&["GET a"]);
}

#[test]
fn records_of_a_transaction_carry_its_number() {
    let mut script = Script::new();
    script.say("MULTI").redis(b"+OK\r\n").say("EXEC").redis(b"*0\r\n").say("MULTI").redis(b"+OK\r\n").forget();
    script.say("SET a 1").redis(b"+QUEUED\r\n").say("EXEC").redis(b"*1\r\n+OK\r\n").say("GET a").redis(b"$-1\r\n");
    let records = script.records();
    assert_eq!(records.iter().map(|record| record["tx"].as_u64()).collect::<Vec<_>>(), [Some(2), Some(2), None]);
    assert_eq!(
        records.iter().map(|record| record["context"].as_str().unwrap()).collect::<Vec<_>>(),
        ["multi", "multi", "top"]
    );
}

#[test]
fn a_dirty_exec_without_multi_reads_as_redis_says_it() {
    let mut script = Script::new();
    script.say("MULTI").say("FLUSHALL").say("EXEC").redis(b"-LOADING x\r\n-ERR DISCARD without MULTI\r\n");
    script.down(&[b"-LOADING x\r\n", NOPERM_FLUSHALL, b"-ERR EXEC without MULTI\r\n"].concat());
}

#[test]
fn denied_exec_ends_the_transaction() {
    let mut script = Script::with(Setup { deny: vec!["EXEC"], ..Setup::default() });
    script.forget().say("MULTI").redis(b"+OK\r\n").say("SET a 1").redis(b"+QUEUED\r\n");
    script.up.clear();
    script.say("EXEC").sent(&["DISCARD"]).redis(b"+OK\r\n");
    assert!(script.down.ends_with(
        b"-EXECABORT Transaction discarded because of: this user has no permissions to run the 'exec' command\r\n"
    ));
    script.recorded(&["MULTI ran", "SET queued", "^DISCARD ran", "EXEC denied"]);
}

#[test]
fn exec_with_arguments_ends_the_transaction_where_the_server_says_so() {
    let mut script = Script::new();
    let wrong = b"-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n";
    script.up.clear();
    script.say("EXEC x").say("GET a").sent(&["EXEC x", "GET a"]).redis(wrong).redis(b"$-1\r\n").down.clear();
    script.say("MULTI").redis(b"+OK\r\n").down(b"+OK\r\n");
    script.up.clear();
    script.client(&["EXEC x", "SET a 1", "CLIENT REPLY ON"].map(command).concat()).sent(&["EXEC x"]);
    script.redis(wrong).sent(&["SET a 1"]).redis(b"+OK\r\n").down(&[&wrong[..], b"+OK\r\n+OK\r\n"].concat());
    assert_eq!(script.records().last().unwrap()["context"], "top");
}

#[test]
fn exec_with_arguments_spoils_the_transaction_on_a_server_before_6_2() {
    let wrong = b"-ERR wrong number of arguments for 'exec' command\r\n";
    for (end, up) in [("EXEC", "DISCARD"), ("DISCARD", "DISCARD")] {
        let mut script = Script::new();
        script.say("MULTI").redis(b"+OK\r\n").down.clear();
        script.forget().up.clear();
        script.client(&["EXEC x", "SET a 1", end, "GET a"].map(command).concat()).sent(&["EXEC x"]);
        script.redis(wrong).sent(&["SET a 1", up, "GET a"]).redis(b"+QUEUED\r\n+OK\r\n$-1\r\n");
        let ended = if end == "EXEC" { EXECABORT } else { b"+OK\r\n" };
        script.down(&[&wrong[..], b"+QUEUED\r\n", ended, b"$-1\r\n"].concat());
        let contexts: Vec<_> = script.records().iter().filter(|record| record["event"] == "command").collect();
        let contexts: Vec<_> = contexts.iter().map(|record| record["context"].as_str().unwrap()).collect();
        assert_eq!(contexts, ["multi", "multi", "multi", "top"]);
    }
}

#[test]
fn what_would_shift_execs_array_is_refused_inside_multi_and_spoils_it() {
    for line in ["SUBSCRIBE a", "PSUBSCRIBE a", "SSUBSCRIBE a", "UNSUBSCRIBE", "CLIENT REPLY OFF", "HELLO 3"] {
        let mut script = Script::new();
        script.say("MULTI").redis(b"+OK\r\n").down(b"+OK\r\n");
        script.up.clear();
        script.say(line).up(b"").down(b"-ERR Command not allowed inside a transaction\r\n");
        script.say("EXEC").sent(&["DISCARD"]).redis(b"+OK\r\n").down(EXECABORT);
    }
}

#[test]
fn exec_records_the_class_of_each_element_and_null_is_nil() {
    let mut script = Script::new();
    script.say("MULTI").redis(b"+OK\r\n").say("INCR a").redis(b"+QUEUED\r\n").say("LPUSH a x").redis(b"+QUEUED\r\n");
    script.forget().say("EXEC").redis(b"*2\r\n:1\r\n-WRONGTYPE x\r\n");
    assert_eq!(script.records()[0]["elements"], serde_json::json!(["integer", "error"]));
    script.recorded(&["EXEC ran"]).say("MULTI").redis(b"+OK\r\n").say("EXEC").redis(b"*-1\r\n");
    script.recorded(&["MULTI ran", "EXEC nil"]);
}

#[test]
fn select_inside_multi_counts_from_exec_on() {
    let mut script = Script::new();
    script.say("MULTI").redis(b"+OK\r\n").say("SELECT 3").redis(b"+QUEUED\r\n").forget();
    script.say("EXEC").redis(b"*1\r\n+OK\r\n").say("GET a").redis(b"$-1\r\n");
    let databases: Vec<_> = script.records().iter().map(|record| record["db"].as_u64()).collect();
    assert_eq!(databases, [Some(0), Some(3)]);
}

// ── state ───────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_record_names_the_confirmed_database() {
    let mut script = Script::new();
    script.forget().client(&["SELECT 2", "GET a", "SELECT 99", "GET b"].map(command).concat());
    script.redis(b"+OK\r\n$-1\r\n-ERR DB index is out of range\r\n$-1\r\n");
    let databases: Vec<_> = script.records().iter().map(|record| record["db"].as_u64()).collect();
    assert_eq!(databases, [Some(0), Some(2), Some(2), Some(2)]);
}

#[test]
fn a_select_that_is_not_canonical_is_answered_here() {
    let (value, index) = (
        &b"-ERR value is not an integer or out of range\r\n"[..],
        &b"-ERR value is out of range, value must between -2147483648 and 2147483647\r\n"[..],
    );
    for (line, text) in [
        ("SELECT +1", value),
        ("SELECT 01", value),
        ("SELECT 1\0", value),
        ("SELECT x\0", value),
        ("SELECT -01", value),
        ("SELECT 4294967296", index),
        ("SELECT -4294967296", index),
    ] {
        let mut script = Script::new();
        script.say(line).down(text);
        script.up.clear();
        script.up(b"");
    }
    let mut script = Script::new();
    script.say("SELECT").say("SELECT 1 2").up(b"");
    script.down(&b"-ERR wrong number of arguments for 'select' command\r\n".repeat(2));
}

#[test]
fn nothing_is_judged_behind_hello_until_it_is_answered() {
    let mut script = Script::new();
    script.client(&["HELLO 3", "GET a"].map(command).concat()).sent(&["HELLO 3"]);
    script.redis(b"%1\r\n+proto\r\n:3\r\n").sent(&["GET a"]).redis(b">2\r\n+invalidate\r\n*1\r\n+a\r\n_\r\n");
    script.down(b"%1\r\n+proto\r\n:3\r\n>2\r\n+invalidate\r\n*1\r\n+a\r\n_\r\n");
}

#[test]
fn a_push_on_a_resp2_connection_is_a_desync() {
    let mut script = Script::new();
    script.say("GET a").redis(b">2\r\n+invalidate\r\n*1\r\n+a\r\n").down(b"").closed("desync", End::Flush);
}

#[test]
fn a_hello_that_an_old_server_refuses_changes_nothing() {
    let mut script = Script::new();
    script.say("HELLO 3").redis(b"-ERR unknown command 'HELLO'\r\n").down(b"-ERR unknown command 'HELLO'\r\n");
    script.say("GET a").redis(b"$-1\r\n").down(b"$-1\r\n");
}

#[test]
fn the_clients_own_auth_is_refused_or_ignored_but_never_goes_up() {
    let mut script = Script::new();
    script.forget().say("AUTH guess").say("HELLO 3 AUTH u guess SETNAME x").up(b"");
    assert_eq!(script.down.iter().filter(|byte| **byte == b'\n').count(), 2);
    assert!(!format!("{:?}", script.records()).contains("guess"));
    script.recorded(&["AUTH denied", "HELLO denied"]);

    let mut setup = Setup::default();
    setup.config.client_auth = crate::session::machine::ClientAuth::Ignore;
    let mut script = Script::with(setup);
    script.say("AUTH guess").say("AUTH u guess").up(b"").down(b"+OK\r\n+OK\r\n");
    script.say("HELLO 3 AUTH u guess SETNAME x").up(b"*4\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$7\r\nSETNAME\r\n$1\r\nx\r\n");
    script.redis(b"%0\r\n");
    let records = script.records();
    assert!(!format!("{records:?}").contains("guess"));
    let hello = records.last().unwrap();
    assert_eq!((&hello["argc"], &hello["bytes_in"]), (&4.into(), &42.into()), "of what went up: {hello}");
}

#[test]
fn after_reset_nothing_goes_up_before_the_lane_is_authenticated_again() {
    let mut script = Script::new();
    script.client(&["SELECT 4", "RESET", "GET a"].map(command).concat()).sent(&["SELECT 4"]);
    script.redis(b"+OK\r\n").sent(&["RESET"]);
    script.redis(b"+RESET\r\n").up(b"*2\r\n$4\r\nAUTH\r\n$6\r\ns3cret\r\n").down(b"+OK\r\n+RESET\r\n");
    script.redis(b"+OK\r\n").sent(&["GET a"]).redis(b"$-1\r\n").down(b"$-1\r\n");
    assert_eq!(script.records().last().unwrap()["db"], 0);
}

#[test]
fn reset_waits_for_what_is_owed_and_not_for_what_is_answered_here() {
    let mut script = Script::new();
    script.client(&["FLUSHALL", "RESET"].map(command).concat()).sent(&["RESET"]);
    script.redis(b"+RESET\r\n+OK\r\n");
    script.up.clear();
    script.client(&["GET a", "FLUSHALL", "RESET"].map(command).concat()).sent(&["GET a"]);
    script.redis(b"$-1\r\n").sent(&["RESET"]);
}

#[test]
fn a_reset_after_which_redis_refuses_us_closes_both_sides() {
    let mut script = Script::new();
    script.client(&["RESET", "GET a"].map(command).concat()).redis(b"+RESET\r\n-WRONGPASS x\r\n");
    script.down(b"+RESET\r\n").closed("upstream-auth", End::Flush);
    assert!(!script.up.windows(3).any(|bytes| bytes == b"GET"));
}

#[test]
fn reset_ends_a_transaction_and_a_server_without_it_does_not() {
    let mut script = Script::new();
    script.say("MULTI").redis(b"+OK\r\n").say("RESET").redis(b"+RESET\r\n+OK\r\n").say("EXEC");
    assert!(script.up.ends_with(&command("EXEC")));
    let mut script = Script::new();
    script.say("MULTI").redis(b"+OK\r\n").say("RESET").redis(b"-ERR unknown command\r\n").say("EXEC");
    assert!(script.up.ends_with(&command("DISCARD")), "the unknown command spoilt it in Redis too");
}

#[test]
fn quit_is_answered_in_its_turn_and_nothing_behind_it_runs() {
    let mut script = Script::new();
    script.client(&["GET a", "QUIT", "SET a 1"].map(command).concat()).sent(&["GET a"]).down(b"");
    script.redis(b"$-1\r\n").down(b"$-1\r\n+OK\r\n").up(b"").closed("quit", End::Flush);
}

#[test]
fn shutdown_that_works_is_recorded_as_run() {
    let mut script = Script::new();
    script.forget().say("SHUTDOWN NOSAVE").sent(&["SHUTDOWN NOSAVE"]).redis_end(0);
    script.recorded(&["SHUTDOWN begin", "SHUTDOWN ran"]);
    assert!(script.wants().done);
}

#[test]
fn what_the_proxy_does_not_speak_is_denied_whatever_policy_says() {
    let mut script = Script::with(Setup { deny: vec![], ..Setup::default() });
    script.up.clear();
    script.say("SCRIPT DEBUG YES").up(b"");
    script.down(b"-NOPERM this user has no permissions to run the 'script|debug' command\r\n");
    assert_eq!(script.records().last().unwrap()["rule"], "builtin/unsupported");
}

// ── CLIENT REPLY ────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn client_reply_is_kept_here_and_everything_is_still_recorded() {
    let mut script = Script::new();
    script.forget().say("CLIENT REPLY OFF").say("SET a 1").say("FLUSHALL").say("SET b 1");
    script.sent(&["SET a 1", "SET b 1"]).redis(b"+OK\r\n+OK\r\n").down(b"");
    script.say("CLIENT REPLY ON").down(b"+OK\r\n").say("GET a").redis(b"$1\r\n1\r\n").down(b"$1\r\n1\r\n");
    script.recorded(&["CLIENT|REPLY ran", "SET ran", "FLUSHALL denied", "SET ran", "CLIENT|REPLY ran", "GET ran"]);
}

#[test]
fn skip_silences_the_next_request_and_an_empty_one_counts() {
    let mut script = Script::new();
    script.say("CLIENT REPLY SKIP").say("SET a 1").say("SET b 1").redis(b"+OK\r\n+OK\r\n").down(b"+OK\r\n");
    script.say("CLIENT REPLY SKIP").client(b"*0\r\n").say("SET c 1").redis(b"+OK\r\n").down(b"+OK\r\n");
}

#[test]
fn reset_ends_client_reply_off_and_is_heard_itself() {
    let mut script = Script::new();
    script.say("CLIENT REPLY OFF").say("RESET").redis(b"+RESET\r\n+OK\r\n").say("PING").redis(b"+PONG\r\n");
    script.down(b"+RESET\r\n+PONG\r\n");
    let mut script = Script::new();
    script.say("CLIENT REPLY SKIP").say("RESET").redis(b"+RESET\r\n+OK\r\n").say("PING").redis(b"+PONG\r\n");
    script.down(b"+PONG\r\n");
    let mut script = Script::new();
    script.say("CLIENT REPLY OFF").say("RESET").redis(b"-ERR unknown command\r\n").say("PING").redis(b"+PONG\r\n");
    script.down(b"");
}

// ── publish and subscribe ───────────────────────────────────────────────────────────────────────────────────────────

fn confirmation(kind: &str, name: &str, count: u32) -> Vec<u8> {
    format!("*3\r\n${}\r\n{kind}\r\n${}\r\n{name}\r\n:{count}\r\n", kind.len(), name.len()).into_bytes()
}

const MESSAGE: &[u8] = b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n";

#[test]
fn subscriptions_are_counted_by_their_confirmations() {
    let mut script = Script::new();
    script.forget().client(&["SUBSCRIBE a b a", "PING"].map(command).concat());
    let confirmed = [confirmation("subscribe", "a", 1), confirmation("subscribe", "b", 2)].concat();
    script.redis(&confirmed).redis(MESSAGE).recorded(&[]);
    script.redis(&confirmation("subscribe", "a", 2)).recorded(&["SUBSCRIBE ran"]);
    script.redis(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n").recorded(&["PING ran"]).redis(MESSAGE);
    let pong: &[u8] = b"*2\r\n$4\r\npong\r\n$0\r\n\r\n";
    script.down(&[&confirmed[..], MESSAGE, &confirmation("subscribe", "a", 2), pong, MESSAGE].concat());
}

#[test]
fn unsubscribe_without_names_ends_with_the_last_confirmation() {
    let mut script = Script::new();
    script.say("SUBSCRIBE a b").redis(&confirmation("subscribe", "a", 1)).redis(&confirmation("subscribe", "b", 2));
    script.say("PSUBSCRIBE p").redis(&confirmation("psubscribe", "p", 3)).forget();
    script.say("UNSUBSCRIBE").redis(&confirmation("unsubscribe", "b", 2)).recorded(&[]);
    script.redis(MESSAGE).redis(&confirmation("unsubscribe", "a", 1)).recorded(&["UNSUBSCRIBE ran"]);
    script.say("PUNSUBSCRIBE").redis(&confirmation("punsubscribe", "p", 0)).recorded(&["PUNSUBSCRIBE ran"]);
    script.say("UNSUBSCRIBE").redis(b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n").recorded(&["UNSUBSCRIBE ran"]);
    script.say("LRANGE l 0 -1").redis(MESSAGE).recorded(&["LRANGE ran"]);
}

#[test]
fn a_list_that_looks_like_a_message_is_a_reply_while_nothing_is_subscribed() {
    let mut script = Script::new();
    script.forget().say("LRANGE l 0 -1").redis(MESSAGE).down(MESSAGE).recorded(&["LRANGE ran"]);
    script.redis(MESSAGE).closed("desync", End::Flush);
}

#[test]
fn one_error_stands_for_all_confirmations() {
    let mut script = Script::new();
    script.forget().say("SUBSCRIBE a b").redis(b"-NOPERM no\r\n").recorded(&["SUBSCRIBE error"]);
    script.say("UNSUBSCRIBE").redis(b"-NOSUB no\r\n").recorded(&["UNSUBSCRIBE error"]);
    script.say("GET a").redis(b"$-1\r\n").recorded(&["GET ran"]);
}

#[test]
fn resp3_confirmations_are_pushes_and_other_pushes_are_not_counted() {
    let mut script = Script::new();
    script.say("HELLO 3").redis(b"%1\r\n+proto\r\n:3\r\n").forget();
    script.client(&["SUBSCRIBE a", "GET k"].map(command).concat());
    script.redis(b">3\r\n$7\r\nmessage\r\n$1\r\nz\r\n$1\r\nx\r\n").recorded(&[]);
    script.redis(b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n").recorded(&["SUBSCRIBE ran"]);
    script.redis(b"*3\r\n$7\r\nmessage\r\n$1\r\nz\r\n$1\r\nx\r\n").recorded(&["GET ran"]);
}

#[test]
fn a_confirmation_nobody_asked_for_is_a_desync() {
    let mut script = Script::new();
    script.say("SUBSCRIBE a").redis(&confirmation("subscribe", "a", 1)).redis(&confirmation("subscribe", "b", 2));
    script.closed("desync", End::Flush);
}

#[test]
fn a_reply_of_our_own_never_falls_into_the_middle_of_a_message() {
    let mut script = Script::new();
    script.say("SUBSCRIBE a").redis(&confirmation("subscribe", "a", 1)).down.clear();
    let (begun, rest) = MESSAGE.split_at(MESSAGE.len() - 3);
    script.redis(begun).down(begun).say("FLUSHALL").say("QUIT").down(b"");
    script.redis(rest).down(&[rest, NOPERM_FLUSHALL, b"+OK\r\n"].concat()).closed("quit", End::Flush);

    let mut script = Script::new();
    script.say("SUBSCRIBE a").redis(&confirmation("subscribe", "a", 1)).down.clear();
    script.redis(begun).down(begun).client(b"nonsense\r\n").down(b"").redis(rest);
    assert!(script.down.starts_with(&[rest, b"-ERR Protocol error: "].concat()));
    script.closed("protocol", End::Flush);
}

#[test]
fn a_cluster_may_take_a_shard_subscription_away() {
    let mut script = Script::new();
    script.say("SSUBSCRIBE s").redis(&confirmation("ssubscribe", "s", 1));
    script.redis(&confirmation("sunsubscribe", "s", 0)).say("GET a").redis(MESSAGE).recorded(&[
        "^PING error",
        "^AUTH ran",
        "SSUBSCRIBE ran",
        "GET ran",
    ]);
}

// ── large commands ──────────────────────────────────────────────────────────────────────────────────────────────────

fn set(size: usize) -> Vec<u8> {
    let mut out = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${size}\r\n").into_bytes();
    out.extend(std::iter::repeat_n(b'v', size));
    out.extend(b"\r\n");
    out
}

#[test]
fn a_small_command_goes_up_only_whole_and_a_large_one_flows() {
    let mut script = Script::new();
    script.client(&set(60_000)[..50_000]).up(b"");
    let mut script = Script::new();
    let bytes = set(1 << 20);
    script.client(&bytes[..100]);
    assert_eq!(script.up, &bytes[..100], "its headers say that it will be large");
    script.client(&bytes[100..200_000]).client(&bytes[200_000..]).client(&command("GET k"));
    script.forget().redis(b"+OK\r\n$1\r\nv\r\n");
    assert_eq!(script.records()[0]["bytes_in"], bytes.len());
    script.recorded(&["SET ran", "GET ran"]);
}

#[test]
fn a_streamed_command_arrives_exactly() {
    for size in [1, 7, 4096, 65_536, 200_000] {
        let mut script = Script::new();
        script.up.clear();
        let bytes = [set(300_000), command("GET k")].concat();
        for chunk in bytes.chunks(size) {
            script.client(chunk);
        }
        script.up(&bytes);
    }
}

#[test]
fn a_streamed_value_whose_end_is_wrong_never_completes() {
    let mut script = Script::new();
    script.forget().say("GET a").up.clear();
    let mut bytes = set(100_000);
    let end = bytes.len() - 1;
    bytes[end] = b'X';
    script.client(&bytes[..end]).client(&bytes[end..]).client(&command("GET b"));
    script.up(&bytes[..end - 1]);
    script.redis(b"$-1\r\n");
    assert!(script.down.starts_with(b"$-1\r\n-ERR Protocol error: "));
    script.recorded(&["GET ran", "SET incomplete"]);
    assert_eq!((script.wants().up, script.wants().done), (End::Abort, true));
}

#[test]
fn a_stream_the_client_leaves_unfinished_is_recorded_incomplete() {
    let mut script = Script::new();
    script.forget().client(&set(1 << 20)[..300_000]).client_end(true).recorded(&["SET incomplete"]);
    assert!(script.wants().done);
}

#[test]
fn a_denied_huge_command_is_swallowed_and_the_connection_lives_on() {
    let mut script = Script::with(Setup { deny: vec!["SET"], ..Setup::default() });
    script.up.clear();
    let bytes = [set(3 << 20), command("GET k")].concat();
    for chunk in bytes.chunks(65_536) {
        script.client(chunk);
        assert!(script.memory.held <= 65_536 + 128);
    }
    script.sent(&["GET k"]).down(b"-NOPERM this user has no permissions to run the 'set' command\r\n");
}

#[test]
fn a_command_that_cannot_be_judged_is_held_and_beyond_the_limit_denied() {
    let mset = |size: usize| {
        let mut out = format!("*5\r\n$4\r\nMSET\r\n$1\r\nk\r\n${size}\r\n").into_bytes();
        out.extend(std::iter::repeat_n(b'v', size));
        out.extend(b"\r\n$1\r\nl\r\n$1\r\n1\r\n");
        out
    };
    let mut script = Script::new();
    script.up.clear();
    let small = mset(500_000);
    script.client(&small[..400_000]).up(b"");
    assert_eq!(script.memory.held, 400_000 + 4 * 16, "its bytes, and room for four words");
    script.client(&small[400_000..]).up(&small);
    assert_eq!(script.memory.held, 0);
    script.redis(b"+OK\r\n").down(b"+OK\r\n");
    let large = [mset(2 << 20), command("GET k")].concat();
    for chunk in large.chunks(65_536) {
        script.client(chunk);
    }
    script.sent(&["GET k"]).down(b"-NOPERM the 'mset' command is too large to be judged before it is forwarded\r\n");
    assert_eq!(script.memory.held, 0);
}

/// A word takes six bytes on the wire and eight here.
#[test]
fn a_held_command_of_many_empty_words_is_charged_for_their_places_too() {
    let mut script = Script::new();
    script.client(b"*1000000\r\n$3\r\nDEL\r\n");
    let mut sent = 0;
    while script.down.is_empty() {
        let words = b"$0\r\n\r\n".repeat(4096);
        sent += words.len();
        script.client(&words);
        let taken = sent + 2 * script.session.parser.memory();
        assert!(script.memory.held == 0 || taken <= 1 << 20, "{taken} bytes are held");
    }
    assert!(script.down.starts_with(b"-NOPERM the 'del' command is too large"));
    assert_eq!(script.memory.held, 0);
}

#[test]
fn the_workers_memory_for_held_commands_is_shared() {
    let mut script = Script::with(Setup { memory_max: 200_000, ..Setup::default() });
    script.memory.held = 150_000;
    script.client(&{
        let mut out = b"*5\r\n$4\r\nMSET\r\n$1\r\nk\r\n$500000\r\n".to_vec();
        out.extend([b'v'; 100_000]);
        out
    });
    assert!(script.down.starts_with(b"-NOPERM the 'mset' command is too large"));
    assert_eq!(script.memory.held, 150_000);
}

// ── begin lines and the audit's back-pressure ───────────────────────────────────────────────────────────────────────

#[test]
fn a_begin_line_reaches_the_sink_before_the_command_goes_up() {
    let mut script = Script::new();
    script.sink_writes = false;
    script.forget().up.clear();
    script.client(&["GET a", "BLPOP q 0", "GET b"].map(command).concat()).sent(&["GET a"]);
    script.recorded(&["BLPOP begin"]);
    script.sink_recovers().sent(&["BLPOP q 0", "GET b"]);
    script.redis(b"$-1\r\n*-1\r\n$-1\r\n").recorded(&["GET ran", "BLPOP ran", "GET ran"]);
}

#[test]
fn only_what_can_wait_begins_with_a_line() {
    let mut script = Script::new();
    script.forget().say("XREAD STREAMS s 0").redis(b"*-1\r\n").recorded(&["XREAD ran"]);
    script.say("XREAD BLOCK 0 STREAMS s $").redis(b"*-1\r\n").recorded(&["XREAD begin", "XREAD ran"]);
    script.say("MULTI").say("BLPOP q 0").redis(b"+OK\r\n+QUEUED\r\n").recorded(&["MULTI ran", "BLPOP queued"]);
    script.say("FLUSHDB").redis(b"+QUEUED\r\n").recorded(&["FLUSHDB begin", "FLUSHDB queued"]);
}

#[test]
fn every_write_waits_for_its_line_where_that_is_asked_for() {
    let mut setup = Setup::default();
    setup.config.begin_writes = true;
    let mut script = Script::with(setup);
    script.forget().say("GET k").redis(b"$-1\r\n").recorded(&["GET ran"]);
    script.say("EVAL_RO x 0").redis(b":1\r\n").recorded(&["EVAL_RO ran"]);
    script.say("EVAL x 0").redis(b":1\r\n").recorded(&["EVAL begin", "EVAL ran"]);
    script.sink_writes = false;
    script.up.clear();
    script.say("SET k v").say("GET k");
    assert_eq!(script.up, b"", "neither it nor what follows goes up before the line is written");
    script.sink_recovers();
    assert_eq!(script.up, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    script.redis(b"+OK\r\n$1\r\nv\r\n").recorded(&["SET begin", "SET ran", "GET ran"]);
}

#[test]
fn a_begun_command_that_never_went_up_is_recorded_incomplete() {
    let mut script = Script::new();
    script.sink_writes = false;
    script.forget().up.clear();
    script.say("BLPOP q 0").client_end(true).up(b"").recorded(&["BLPOP begin", "BLPOP incomplete"]);
}

#[test]
fn a_begin_line_names_the_confirmed_database() {
    let mut script = Script::new();
    script.forget().up.clear();
    script.client(&["SELECT 5", "BLPOP q 0"].map(command).concat()).sent(&["SELECT 5"]);
    script.redis(b"+OK\r\n").sent(&["BLPOP q 0"]);
    assert_eq!(script.records()[1]["event"], "begin");
    assert_eq!(script.records()[1]["db"], 5);
    // The database that a transaction selects is known when EXEC has been answered.
    script.redis(b"*-1\r\n").forget();
    script.client(&["MULTI", "SELECT 6", "EXEC", "BLPOP q 0"].map(command).concat());
    script.redis(b"+OK\r\n+QUEUED\r\n").sent(&["MULTI", "SELECT 6", "EXEC"]);
    script.redis(b"*1\r\n+OK\r\n").sent(&["BLPOP q 0"]).redis(b"*-1\r\n");
    let databases: Vec<_> = script.records().iter().map(|record| record["db"].as_u64().unwrap()).collect();
    assert_eq!(databases, [5, 5, 5, 6, 6], "{:#?}", script.records());
    // Inside it nothing waits for that.
    script.forget().client(&["MULTI", "SELECT 7", "FLUSHDB", "EXEC"].map(command).concat());
    script.redis(b"+OK\r\n+QUEUED\r\n").sent(&["MULTI", "SELECT 7", "FLUSHDB", "EXEC"]);
}

#[test]
fn a_sink_without_room_stalls_and_loses_nothing() {
    let mut script = Script::with(Setup { room: 40_000, ..Setup::default() });
    script.sink_writes = false;
    script.forget().up.clear();
    let answer_all = |script: &mut Script| {
        let gone_up = script.up.len() / command("GET a").len();
        script.up.clear();
        script.redis(&b"$-1\r\n".repeat(gone_up));
    };
    for _ in 0..500 {
        script.say("GET a");
        answer_all(&mut script);
    }
    let stalled_at = script.down.len() / 5;
    assert!((10..400).contains(&stalled_at), "{stalled_at} replies before the stall");
    assert!(script.wants().room);
    for _ in 0..500 {
        script.sink_recovers();
        answer_all(&mut script);
    }
    script.down(&b"$-1\r\n".repeat(500));
    script.recorded(&["GET ran"; 500]);
}

// ── ends ────────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn half_close_still_delivers_what_is_owed() {
    let mut script = Script::new();
    script.client(&["GET a", "GET b"].map(command).concat()).client_end(true);
    assert!(!script.wants().done);
    script.redis(b"$-1\r\n").redis(b"$-1\r\n").down(b"$-1\r\n$-1\r\n").closed("client-closed", End::Flush);
}

#[test]
fn half_close_behind_a_barrier_still_runs_what_was_sent() {
    let mut script = Script::new();
    script.up.clear();
    script.client(&["HELLO 2", "GET a", "GET b"].map(command).concat()).client_end(true).sent(&["HELLO 2"]);
    script.redis(b"*0\r\n").sent(&["GET a", "GET b"]).redis(b"$-1\r\n$-1\r\n").down(b"*0\r\n$-1\r\n$-1\r\n");
    script.closed("client-closed", End::Flush);
}

#[test]
fn a_client_that_leaves_while_blocked_vanishes_upstream_at_once() {
    let mut script = Script::new();
    script.forget().say("BLPOP q 0").client_end(true);
    script.recorded(&["BLPOP begin", "BLPOP unanswered"]);
    assert!(script.wants().done && script.wants().up == End::Abort);
    let mut script = Script::new();
    script.say("SUBSCRIBE a").redis(&confirmation("subscribe", "a", 1)).client_end(true);
    script.closed("client-closed", End::Flush);
}

#[test]
fn a_vanished_client_leaves_its_commands_unanswered() {
    let mut script = Script::new();
    script.forget().say("GET a").client_end(false).recorded(&["GET unanswered"]);
    assert_eq!((script.wants().down, script.wants().done), (End::Abort, true));
}

#[test]
fn losing_redis_closes_without_a_word_for_commands_that_may_have_run() {
    let mut script = Script::new();
    script.forget().client(&["SET a 1", "SET b 1"].map(command).concat()).redis(b"+OK\r\n").redis_end(0);
    script.down(b"+OK\r\n").recorded(&["SET ran", "SET unanswered"]);
}

#[test]
fn losing_redis_is_said_for_a_command_that_was_never_sent() {
    let mut script = Script::new();
    script.forget().say("SET a 1").redis_end(command("SET a 1").len());
    script.down(b"-ERR the connection to Redis was lost before this command was sent\r\n");
    script.recorded(&["SET incomplete"]);
}

#[test]
fn the_rest_of_a_stream_that_was_never_sent_does_not_count_for_what_was_sent_before_it() {
    let mut script = Script::new();
    let begun = &set(1 << 20)[..200_000];
    script.forget().client(&[&command("SET a 1"), begun].concat()).redis_end(150_000);
    script.down(b"").recorded(&["SET unanswered", "SET incomplete"]);
}

#[test]
fn losing_redis_in_the_middle_of_a_reply_says_nothing_into_it() {
    let mut script = Script::new();
    script.client(&["GET a", "GET b"].map(command).concat()).redis(b"$5\r\nab").redis_end(command("GET b").len());
    script.down(b"$5\r\nab").closed("upstream-closed", End::Flush);
}

#[test]
fn drain_answers_what_was_promised_and_accepts_nothing_more() {
    let mut script = Script::new();
    script.up.clear();
    script.say("GET a").drain().say("GET b").sent(&["GET a"]).redis(b"$-1\r\n").down(b"$-1\r\n");
    script.closed("drain", End::Flush);
}

#[test]
fn drain_lets_an_open_transaction_come_to_its_end_and_accepts_nothing_behind_it() {
    for (end, reply) in [("EXEC", &b"*1\r\n+OK\r\n"[..]), ("DISCARD", b"+OK\r\n")] {
        let mut script = Script::new();
        script.up.clear();
        script.say("MULTI").redis(b"+OK\r\n").say("SET a 1").redis(b"+QUEUED\r\n").drain();
        script.client(&[end, "GET b"].map(command).concat()).sent(&["MULTI", "SET a 1", end]).redis(reply);
        script.down(&[b"+OK\r\n+QUEUED\r\n", reply].concat()).closed("drain", End::Flush);
    }
}

#[test]
fn who_has_no_right_to_be_here_is_not_given_time_for_a_transaction() {
    let mut script = Script::new();
    script.say("MULTI").redis(b"+OK\r\n").revoke().closed("revoked", End::Flush);
}

#[test]
fn drain_does_not_wait_for_what_waits_for_an_event() {
    let mut script = Script::new();
    script.forget().say("BLPOP q 0").drain().recorded(&["BLPOP begin", "BLPOP unanswered"]);
    let mut script = Script::new();
    script.drain().closed("drain", End::Flush);
}

#[test]
fn a_new_policy_judges_what_comes_after_the_replies_to_what_the_old_one_judged() {
    let mut script = Script::new();
    script.up.clear();
    script.say("GET a").renew(&["GET"]).say("GET b").sent(&["GET a"]).down(b"");
    script.redis(b"$-1\r\n").up(b"");
    script.down(b"$-1\r\n-NOPERM this user has no permissions to run the 'get' command\r\n");
    script.renew(&[]).say("FLUSHALL").sent(&["FLUSHALL"]);
}

#[test]
fn a_new_policy_does_not_hold_up_a_command_that_was_judged_and_has_not_all_gone_up() {
    let mut script = Script::new();
    script.sink_writes = false;
    script.up.clear();
    script.client(&["BLPOP q 0", "FLUSHALL"].map(command).concat()).renew(&[]).up(b"");
    script.sink_recovers().sent(&["BLPOP q 0"]).redis(b"*-1\r\n").sent(&["FLUSHALL"]);
    let bytes = [set(300_000), command("GET k")].concat();
    let mut script = Script::new();
    script.up.clear();
    script.client(&bytes[..100_000]).renew(&["GET"]).client(&bytes[100_000..]).up(&set(300_000));
    script.redis(b"+OK\r\n").up(b"");
    script.down(b"+OK\r\n-NOPERM this user has no permissions to run the 'get' command\r\n");
    // Its bytes are swallowed all the same.
    let denied = command(&format!("FLUSHALL {}", "x".repeat(300_000)));
    let mut script = Script::new();
    script.up.clear();
    script.say("GET a").client(&denied[..100_000]).renew(&[]).client(&denied[100_000..]).redis(b"$-1\r\n");
    script.say("FLUSHALL").sent(&["GET a", "FLUSHALL"]);
}

#[test]
fn a_reload_that_takes_another_back_before_it_was_in_force_leaves_the_policy_as_it_was() {
    let mut script = Script::new();
    script.say("GET a").renew(&[]).renew(&Setup::default().deny).redis(b"$-1\r\n").up.clear();
    script.down.clear();
    script.say("FLUSHALL").up(b"").down(NOPERM_FLUSHALL);
}

#[test]
fn a_new_policy_spoils_an_open_transaction_and_the_same_policy_does_not() {
    let mut script = Script::new();
    script.say("MULTI").redis(b"+OK\r\n").say("SET a 1").redis(b"+QUEUED\r\n").renew(&["SET"]).up.clear();
    script.say("EXEC").sent(&["DISCARD"]);
    let mut script = Script::new();
    script.say("MULTI").redis(b"+OK\r\n").renew(&Setup::default().deny).up.clear();
    script.say("EXEC").sent(&["EXEC"]);
}

#[test]
fn abort_records_every_open_slot() {
    let mut script = Script::new();
    script.forget().client(&["GET a", "FLUSHALL", "GET b"].map(command).concat()).abort();
    script.recorded(&["GET unanswered", "FLUSHALL denied", "GET unanswered"]);
    assert!(script.wants().done);
}

#[test]
fn an_idle_client_is_closed_and_a_blocked_one_is_not() {
    let idle = || {
        let mut setup = Setup::default();
        setup.config.idle_timeout_us = 5_000_000;
        Script::with(setup)
    };
    idle().wait_us(4_999_999).say("GET a").redis(b"$-1\r\n").wait_us(5_000_000).closed("idle", End::Flush);
    let mut script = idle();
    script.say("BLPOP q 0").wait_us(60_000_000);
    assert!(!script.wants().done);
    // It could not have asked for the next one before.
    script.redis(b"*-1\r\n").wait_us(4_999_999);
    assert!(!script.wants().done, "its time begins when the wait ends");
    script.wait_us(1).closed("idle", End::Flush);
}

#[test]
fn a_client_that_never_reads_is_closed_when_its_budget_is_spent() {
    let mut script = Script::new();
    let pipeline = command("GET a").repeat(40_000);
    script.client(&pipeline);
    assert!(!script.wants().read_down, "the budget for unanswered commands is spent");
    script.wait_us(5_000_000);
    assert!(!script.wants().done, "as long as replies are being read, it is Redis that is slow");
    script.down_pending = 1;
    script.wait_us(5_000_000).closed("unanswered-budget", End::Abort);
}

#[test]
fn a_client_that_reads_its_denials_is_not_held_up_by_a_small_budget() {
    let mut setup = Setup::default();
    setup.config.unanswered_max = 64 << 10;
    let mut script = Script::with(setup);
    script.client(&command("FLUSHALL").repeat(20_000));
    assert!(script.wants().read_down, "nothing is owed and everything was read");
    script.down(&NOPERM_FLUSHALL.repeat(20_000));
}

#[test]
fn a_budget_spent_behind_a_denial_does_not_strand_the_rest_of_the_pipeline() {
    let mut setup = Setup::default();
    setup.config.unanswered_max = 64 << 10;
    let mut script = Script::with(setup);
    script.up.clear();
    let gets = command("GET a").repeat(2000);
    script.client(&[command("FLUSHALL"), gets.clone()].concat()).down(NOPERM_FLUSHALL);
    assert!(!script.wants().read_down, "the budget is spent");
    for _ in 0..2000 {
        script.redis(b"$-1\r\n");
    }
    script.up(&gets).down(&b"$-1\r\n".repeat(2000));
}

#[test]
fn a_budget_spent_on_unread_replies_is_given_back_as_soon_as_they_are_read() {
    let mut setup = Setup::default();
    setup.config.unanswered_max = 64 << 10;
    let mut script = Script::with(setup);
    script.client(&command("GET a").repeat(400));
    script.down_pending = 60_000;
    script.say("GET b");
    assert!(!script.wants().read_down, "the budget is spent");
    script.down_pending = 0;
    script.client(b"");
    assert!(script.wants().read_down, "and not before a deadline comes or Redis answers");
}

#[test]
fn a_budget_that_is_spent_is_given_back_by_replies() {
    let mut script = Script::new();
    script.client(&command("GET a").repeat(40_000));
    script.redis(&b"$-1\r\n".repeat(20_000));
    script.redis(&b"$-1\r\n".repeat(20_000)).down(&b"$-1\r\n".repeat(40_000));
    assert!(script.wants().read_down);
}

#[test]
fn what_is_owed_is_shared_by_the_sessions_of_a_worker() {
    let mut script = Script::with(Setup { memory_max: 1 << 20, ..Setup::default() });
    // Neighbours have taken all there is.
    script.memory.owed = 1 << 20;
    script.up.clear();
    let some = command("GET a").repeat(100);
    let mut sent = 0;
    while script.wants().read_down {
        script.client(&some);
        sent += 100;
    }
    let own = script.memory.owed - (1 << 20);
    assert!((60_000..70_000).contains(&own), "{own} bytes of its own are all it may take");
    assert_eq!(script.memory.held, 0, "nobody's MSET is denied for it");
    script.redis(&b"$-1\r\n".repeat(100));
    assert!(script.wants().read_down, "its own replies let it go on, whatever the others do");
    assert_eq!(script.up.len(), sent * command("GET a").len(), "and nothing was lost");
    script.redis(&b"$-1\r\n".repeat(sent - 100));
    assert_eq!(script.memory.owed, 1 << 20, "all of it is given back");
    script.memory.owed = 0;
    script.client(&some.repeat(100)).client_end(false);
    assert_eq!((script.memory.owed, script.memory.held), (0, 0), "at the end too");
}

#[test]
fn a_client_that_reads_slowly_but_steadily_keeps_its_connection() {
    let mut script = Script::new();
    script.client(&command("GET a").repeat(40_000));
    script.down_pending = 500;
    script.redis(&b"$-1\r\n".repeat(100));
    script.down_pending = 400;
    script.wait_us(5_000_000);
    assert!(!script.wants().done, "some of it was read before the first look");
    script.down_pending = 300;
    script.wait_us(5_000_000);
    script.down_pending = 299;
    script.wait_us(5_000_000);
    assert!(!script.wants().done, "a byte is progress");
    script.wait_us(5_000_000).closed("unanswered-budget", End::Abort);
}

#[test]
fn replies_of_our_own_that_nobody_reads_are_kept_as_slots() {
    let mut script = Script::new();
    script.say("GET a").client(&command("FLUSHALL").repeat(10_000)).say("GET b").down(b"");
    script.down_pending = 300 << 10;
    script.redis(b"$1\r\na\r\n$1\r\nb\r\n").down(b"$1\r\na\r\n");
    assert!(!script.wants().read_up && script.wants().flushed, "the second reply waits behind what is not read");
    script.down_pending = 0;
    script.redis(b"").down(&[&NOPERM_FLUSHALL.repeat(10_000)[..], b"$1\r\nb\r\n"].concat());
    assert!(script.wants().read_up && !script.wants().flushed);
}

#[test]
fn replies_kept_for_want_of_room_wait_for_room_and_for_nothing_else() {
    let mut script = Script::with(Setup { room: 64 << 10, ..Setup::default() });
    script.say("GET a").client(&command("FLUSHALL").repeat(1000)).sink_writes = false;
    script.redis(b"$1\r\na\r\n");
    let wants = script.wants();
    assert!(wants.room && !wants.flushed, "{wants:?}");
    for _ in 0..10 {
        script.sink_recovers().sink_writes = false;
    }
    script.down(&[b"$1\r\na\r\n", &NOPERM_FLUSHALL.repeat(1000)[..]].concat());
}

#[test]
fn what_was_denied_before_redis_went_is_said_even_if_much_is_unread() {
    let mut script = Script::new();
    script.say("GET a").client(&command("FLUSHALL").repeat(10)).down_pending = 300 << 10;
    script.redis(b"$1\r\na\r\n").redis_end(0).down(&[b"$1\r\na\r\n", &NOPERM_FLUSHALL.repeat(10)[..]].concat());
}

/// Found by fuzzing: the deadline stayed where it was, and the pump span until Redis answered.
#[test]
fn an_idle_client_that_is_still_owed_a_reply_waits_for_it_without_a_deadline() {
    let mut setup = Setup::default();
    setup.config.idle_timeout_us = 5_000_000;
    let mut script = Script::with(setup);
    script.say("GET a").wait_us(5_000_000);
    assert_eq!(script.wants().wake_at_us, None);
    script.redis(b"$-1\r\n").closed("idle", End::Flush);
}

/// Found by fuzzing: the look at the budget was put off for ever, because another deadline was the one that had passed.
#[test]
fn a_client_held_back_for_its_budget_is_not_idle() {
    let mut setup = Setup::default();
    (setup.config.idle_timeout_us, setup.config.unanswered_max) = (3_000_000, 64 << 10);
    let mut script = Script::with(setup);
    script.client(&command("GET a").repeat(2000));
    assert!(!script.wants().read_down, "the budget is spent");
    script.wait_us(3_000_000);
    assert!(script.wants().wake_at_us > Some(script.now.mono_us), "{:?}", script.wants());
    script.redis(&b"$-1\r\n".repeat(script.up.len() / command("GET a").len()));
    assert!(script.wants().read_down);
    script.wait_us(3_000_000).wait_us(3_000_000);
    assert_eq!(script.wants().wake_at_us, None, "now it is, and what it is owed is waited for");
}

/// Found by fuzzing: the new policy waited for the command to be answered, the command for the rest of its bytes.
#[test]
fn a_reload_in_the_middle_of_a_command_lets_it_come_to_its_end() {
    let mut script = Script::new();
    script.up.clear();
    let bytes = set(1 << 20);
    let (first, rest) = bytes.split_at(300_000);
    script.client(first).renew(&["GET"]).client(rest).client(&command("GET a"));
    assert!(script.up == bytes, "{} of {} bytes went up", script.up.len(), bytes.len());
    script.redis(b"+OK\r\n").down(b"+OK\r\n-NOPERM this user has no permissions to run the 'get' command\r\n");

    let mut script = Script::new();
    script.sink_writes = false;
    script.up.clear();
    script.say("BLPOP q 0").renew(&["GET"]).say("GET a").up(b"");
    script.sink_recovers().sent(&["BLPOP q 0"]);
    script.redis(b"*-1\r\n").down(b"*-1\r\n-NOPERM this user has no permissions to run the 'get' command\r\n");
}

/// Found by fuzzing: the message was taken for the answer to EXEC.
#[test]
fn a_message_is_not_the_answer_to_an_exec_that_a_subscriber_may_not_say() {
    let mut script = Script::new();
    script.forget().say("SUBSCRIBE a").redis(b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n").down.clear();
    let message = b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n";
    script.say("EXEC").redis(message).redis(b"-ERR Can't execute 'exec'\r\n");
    script.down(&[&message[..], b"-ERR Can't execute 'exec'\r\n"].concat());
    script.recorded(&["SUBSCRIBE ran", "EXEC error"]);
}

/// What a conversation with waits, deadlines, a transaction and a lost Redis comes to, while the wall clock does as it
/// likes: bytes to both sides, and records without their time.
fn told_under(wall_us: impl Fn(u64) -> u64) -> (Vec<u8>, Vec<u8>, Vec<serde_json::Value>) {
    let mut script = Script::new();
    script.forget();
    let mut step = 0;
    let steps: [(&str, &[u8]); 6] = [
        ("SET a 1", b"+OK\r\n"),
        ("MULTI", b"+OK\r\n"),
        ("INCR a", b"+QUEUED\r\n"),
        ("EXEC", b"*1\r\n:2\r\n"),
        ("NOSUCH a", b""),
        ("GET a", b"$1\r\n2\r\n"),
    ];
    for (line, answer) in steps.iter().cycle().take(30) {
        step += 1;
        script.now.wall_us = wall_us(step);
        script.say(line).wait_us(700_000).redis(answer);
    }
    script.say("GET b");
    script.now.wall_us = wall_us(step + 1);
    script.redis_end(0);
    let mut records = script.records().to_vec();
    for record in &mut records {
        assert!(record["ts"].is_string());
        record["ts"] = serde_json::Value::Null;
    }
    (script.up, script.down, records)
}

#[test]
fn steps_of_the_wall_clock_change_nothing_but_the_time_in_records() {
    let day = 86_400_000_000;
    let even = told_under(|step| 400 * day + step * 700_000);
    assert!(even.2.len() > 30 && even.2.iter().any(|record| record["us"] == 700_000));
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..50 {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        let seed = dice;
        // Forward and back by up to a year, to 1970, and to the end of what can be counted.
        let odd = told_under(move |step| match seed.rotate_left(u32::try_from(step).unwrap()) % 5 {
            0 => 0,
            1 => u64::MAX,
            offset => 400 * day * offset - seed % (365 * day),
        });
        assert_eq!(odd, even);
    }
}
