//! Dialogues with a connection that becomes a stream.

use super::super::{
    End,
    script::{Script, Setup, command},
};
use proptest::prelude::*;

const ID: &str = "8371445ee47bed6f2eac8a36c6c0b5b5a8b21ee4";

/// A connection of a role that holds everything.
fn open() -> Script {
    let mut script = Script::with(Setup { deny: Vec::new(), ..Setup::default() });
    script.forget().up.clear();
    script
}

fn monitoring() -> Script {
    let mut script = open();
    script.say("MONITOR").sent(&["MONITOR"]).redis(b"+OK\r\n").down(b"+OK\r\n");
    script.recorded(&["MONITOR begin", "MONITOR ran"]);
    script
}

fn replicating() -> Script {
    let mut script = open();
    script.say("PSYNC ? -1").sent(&["PSYNC ? -1"]);
    script.redis(full_resync().as_bytes()).down(full_resync().as_bytes()).recorded(&["PSYNC begin"]);
    script
}

fn full_resync() -> String {
    format!("+FULLRESYNC {ID} 0\r\n")
}

const LINE: &[u8] = b"+1339518083.107412 [0 127.0.0.1:60866] \"keys\" \"*\"\r\n";
const WHILE_MONITORING: &[u8] = b"-ERR only PING, QUIT and RESET are taken while monitoring\r\n";

// ── MONITOR ─────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn monitors_lines_pass_and_have_no_records() {
    let mut script = monitoring();
    script.redis(LINE).redis(&LINE.repeat(3)).down(&LINE.repeat(4)).recorded(&[]);
    script.client_end(true).closed("client-closed", End::Flush);
    assert_eq!(script.records().last().unwrap()["bytes_out"], 5 + 4 * LINE.len());
}

#[test]
fn lines_may_follow_the_answer_at_once_and_whatever_was_asked_before_is_answered_first() {
    let mut script = open();
    script.client(&["GET a", "MONITOR", "PING"].map(command).concat()).sent(&["GET a"]);
    script.redis(b"$-1\r\n").sent(&["MONITOR"]);
    script.redis(&[b"+OK\r\n", LINE].concat()).sent(&["PING"]).redis(&[LINE, b"+PONG\r\n", LINE].concat());
    script.down(&[b"$-1\r\n+OK\r\n", LINE, LINE, b"+PONG\r\n", LINE].concat());
    script.recorded(&["GET ran", "MONITOR begin", "MONITOR ran", "PING ran"]);
}

#[test]
fn a_monitoring_connection_takes_ping_quit_and_reset_only() {
    let mut script = monitoring();
    for line in
        ["GET a", "MONITOR", "PING x", "MULTI", "SUBSCRIBE a", "AUTH x", "CLIENT REPLY OFF", "PSYNC ? -1", "HELLO 3"]
    {
        script.say(line).up(b"").down(WHILE_MONITORING);
        assert_eq!(script.records().last().unwrap()["rule"], "builtin/in-stream", "{line}");
    }
    script.say("FLUSHALL").redis(LINE).down(&[WHILE_MONITORING, LINE].concat()).say("QUIT").down(b"+OK\r\n");
    script.closed("quit", End::Flush);
}

#[test]
fn reset_ends_monitoring_and_the_lane_authenticates_again() {
    let mut script = monitoring();
    script.client(&["RESET", "GET a"].map(command).concat()).sent(&["RESET"]);
    script.redis(&[LINE, b"+RESET\r\n"].concat()).up(b"*2\r\n$4\r\nAUTH\r\n$6\r\ns3cret\r\n");
    script.down(&[LINE, b"+RESET\r\n"].concat());
    script.redis(b"+OK\r\n").sent(&["GET a"]).redis(b"$-1\r\n").down(b"$-1\r\n");
    script.redis(LINE).closed("desync", End::Flush);
}

#[test]
fn a_refused_monitor_leaves_the_connection_as_it_was() {
    let mut script = open();
    script.client(&["MONITOR", "GET a"].map(command).concat()).redis(b"-NOPERM no\r\n").down(b"-NOPERM no\r\n");
    script.sent(&["MONITOR", "GET a"]).redis(b"$-1\r\n").down(b"$-1\r\n");
    script.recorded(&["MONITOR begin", "MONITOR error", "GET ran"]).redis(LINE).closed("desync", End::Flush);
}

#[test]
fn an_answer_to_monitor_that_is_neither_ok_nor_an_error_is_a_desync() {
    for answer in [&b"+QUEUED\r\n"[..], b":1\r\n", b"$2\r\nOK\r\n", LINE] {
        let mut script = open();
        script.say("MONITOR").redis(answer).closed("desync", End::Flush);
    }
}

#[test]
fn monitor_inside_a_transaction_is_refused_and_spoils_it() {
    for line in ["MONITOR", "SYNC", "PSYNC ? -1", "REPLCONF capa eof"] {
        let mut script = open();
        script.say("MULTI").redis(b"+OK\r\n").down(b"+OK\r\n").up.clear();
        script.say(line).up(b"").down(b"-ERR Command not allowed inside a transaction\r\n");
        script.say("EXEC").sent(&["DISCARD"]).redis(b"+OK\r\n");
        script.down(b"-EXECABORT Transaction discarded because of previous errors.\r\n");
    }
}

#[test]
fn client_reply_off_silences_monitors_lines_and_skip_only_its_answer() {
    let mut script = open();
    script.say("CLIENT REPLY OFF").say("MONITOR").redis(b"+OK\r\n").redis(LINE).down(b"");
    let mut script = open();
    script.say("CLIENT REPLY SKIP").say("MONITOR").redis(b"+OK\r\n").redis(LINE).down(LINE);
}

#[test]
fn pushes_and_lines_mix_in_resp3() {
    let mut script = open();
    script.say("HELLO 3").redis(b"%1\r\n+proto\r\n:3\r\n").say("MONITOR").redis(b"+OK\r\n").down.clear();
    let push: &[u8] = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\n1\r\n";
    script.redis(&[LINE, push, LINE].concat()).down(&[LINE, push, LINE].concat());
}

#[test]
fn a_line_of_any_length_passes_in_pieces_and_no_reply_falls_into_it() {
    let mut script = monitoring();
    let piece = [b'x'; 100_000];
    let begun = b"+1339518083.1 [0 a] \"SET\" \"";
    script.redis(begun).say("FLUSHALL");
    for _ in 0..200 {
        script.redis(&piece);
    }
    script.redis(b"\"\r");
    assert_eq!(script.down.len(), begun.len() + 200 * piece.len() + 1, "only the CR waits for its LF");
    script.down.clear();
    script.redis(b"\n").down(&[b"\r\n", WHILE_MONITORING].concat());
}

#[test]
fn a_line_that_ends_in_anything_but_crlf_is_a_desync() {
    for line in [&b"+1 [0 a] \"x\"\n"[..], b"+1 [0 a] \"x\"\rx"] {
        let mut script = monitoring();
        script.redis(line).closed("desync", End::Flush);
    }
}

#[test]
fn every_chunking_of_monitors_lines_gives_the_same() {
    let (before, after) = ([b"+OK\r\n", LINE].concat(), [LINE, b"+PONG\r\n", LINE].concat());
    for size in 1..after.len() {
        let mut script = open();
        script.client(&["MONITOR", "PING"].map(command).concat());
        // PING can be answered only when it has gone up.
        for piece in before.chunks(size).chain(after.chunks(size)) {
            script.redis(piece);
        }
        script.down(&[&before[..], &after].concat()).recorded(&["MONITOR begin", "MONITOR ran", "PING ran"]);
    }
}

// ── REPLCONF ────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn what_would_open_a_second_connection_is_never_agreed_upon() {
    let mut script = open();
    script.say("REPLCONF capa eof capa psync2 capa rdb-channel-repl").sent(&["REPLCONF capa eof capa psync2"]);
    script.say("REPLCONF listening-port 6380").sent(&["REPLCONF listening-port 6380"]).redis(b"+OK\r\n+OK\r\n");
    script.down(b"+OK\r\n+OK\r\n").say("REPLCONF rdb-channel 1").up(b"");
    script.down(b"-ERR Unrecognized REPLCONF option\r\n").say("REPLCONF listening-port 01").up(b"");
    script.down(b"-ERR syntax error\r\n").recorded(&[
        "REPLCONF ran",
        "REPLCONF ran",
        "REPLCONF denied",
        "REPLCONF denied",
    ]);
}

#[test]
fn acknowledging_before_there_is_a_stream_is_denied() {
    for line in ["REPLCONF ACK 1", "REPLCONF GETACK *"] {
        let mut script = open();
        script.say(line).up(b"").down(b"-ERR Unrecognized REPLCONF option\r\n").say("GET a").sent(&["GET a"]);
    }
}

// ── SYNC and PSYNC ──────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn psync_goes_up_behind_its_begin_line_when_all_before_it_is_answered() {
    let mut script = open();
    script.sink_writes = false;
    script.client(&["GET a", "PSYNC ? -1"].map(command).concat()).sent(&["GET a"]).recorded(&[]);
    script.redis(b"$-1\r\n").up(b"").recorded(&["GET ran", "PSYNC begin"]);
    script.sink_recovers().sent(&["PSYNC ? -1"]);
}

#[test]
fn the_stream_passes_as_it_is_in_any_pieces() {
    let mut stream = full_resync().into_bytes();
    // A payload without CRLF behind it, with bytes in it that look like protocol, then a command stream.
    stream.extend_from_slice(
        b"$12\r\nREDIS\r\n-ERR\n*1\r\n$4\r\nPING\r\n\n*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n",
    );
    for keepalive in [&b""[..], b"\n", b"\n\n\n"] {
        let bytes = [keepalive, &stream].concat();
        for size in 1..bytes.len() {
            let mut script = open();
            script.say("PSYNC ? -1");
            for piece in bytes.chunks(size) {
                script.redis(piece);
            }
            script.down(&bytes).client_end(true).recorded(&["PSYNC begin", "PSYNC ran"]);
        }
    }
}

#[test]
fn a_partial_resync_and_syncs_payloads_begin_a_stream_too() {
    let mark = "0123456789abcdef0123456789abcdef01234567";
    let continued = format!("+CONTINUE {ID}\r\n*1\r\n$4\r\nPING\r\n");
    for (line, answer, class) in [
        (format!("PSYNC {ID} 77"), continued.as_bytes(), "status"),
        ("PSYNC ? -1".to_owned(), b"+CONTINUE\r\n", "status"),
        ("SYNC".to_owned(), b"$5\r\nREDIS*1\r\n$4\r\nPING\r\n", "bulk"),
        ("SYNC".to_owned(), format!("\n\n$EOF:{mark}\r\nREDIS{mark}").as_bytes(), "bulk"),
    ] {
        let mut script = open();
        script.say(&line).redis(answer).down(answer).redis_end(0).closed("upstream-closed", End::Flush);
        let record = script.records().iter().find(|record| record["event"] == "command").unwrap().clone();
        assert_eq!((record["outcome"].as_str(), record["reply"].as_str()), (Some("ran"), Some(class)), "{record}");
        assert_eq!(record["bytes_out"], answer.len(), "{record}");
    }
}

#[test]
fn a_refused_psync_leaves_the_connection_usable_and_sync_may_follow() {
    let mut script = open();
    script.client(&["PSYNC ? -1", "SYNC"].map(command).concat()).sent(&["PSYNC ? -1"]);
    script.redis(b"\n\n-ERR unknown command 'PSYNC'\r\n").sent(&["SYNC"]).redis(b"$5\r\nREDIS");
    script.down(b"\n\n-ERR unknown command 'PSYNC'\r\n$5\r\nREDIS").client_end(true);
    script.recorded(&["PSYNC begin", "PSYNC error", "SYNC begin", "SYNC ran"]);
}

#[test]
fn an_answer_that_begins_no_stream_is_a_desync() {
    let long = [b"+FULLRESYNC ", &[b'a'; 200][..]].concat();
    for answer in
        [&b"+OK\r\n"[..], b"+RDBCHANNELSYNC 7\r\n", b"+DUALCHANNELSYNC\r\n", b"$5\r\nREDIS", b"*0\r\n", b"\r\n", &long]
    {
        let mut script = open();
        script.say("PSYNC ? -1").redis(answer).down(b"").closed("desync", End::Flush);
    }
    let mut script = open();
    script.say("SYNC").redis(full_resync().as_bytes()).closed("desync", End::Flush);
}

#[test]
fn only_acknowledgements_and_newlines_go_up_and_leave_neither_slots_nor_records() {
    let mut script = replicating();
    for offset in 0..10_000 {
        script.say(&format!("REPLCONF ACK {offset}"));
    }
    let all: Vec<u8> = (0..10_000).flat_map(|offset| command(&format!("REPLCONF ACK {offset}"))).collect();
    script.up(&all).say("replconf ack 5 fack 4").sent(&["replconf ack 5 fack 4"]).client(b"\n").up(b"\n");
    script.client(b"\n").up(b"\n").recorded(&[]);
    script.client_end(true);
    let record = script.records().iter().find(|record| record["event"] == "command").unwrap().clone();
    let sent = command("PSYNC ? -1").len() + all.len() + command("replconf ack 5 fack 4").len() + 2;
    assert_eq!((record["bytes_in"].as_u64(), record["bytes_out"].as_u64()), (Some(sent as u64), Some(56)));
    script.recorded(&["PSYNC ran"]);
}

#[test]
fn a_newline_that_an_acknowledgement_follows_is_left_out() {
    // A Redis up to 3.2 drops the byte behind a newline unseen.
    let mut script = replicating();
    script.client(&[b"\n\n", &command("REPLCONF ACK 1")[..], b"\n", &command("REPLCONF ACK 2"), b"\n\n"].concat());
    script.up(&[command("REPLCONF ACK 1"), command("REPLCONF ACK 2"), b"\n".to_vec()].concat());
}

#[test]
fn every_chunking_of_acknowledgements_goes_up_the_same() {
    let bytes = ["REPLCONF ACK 1", "REPLCONF ACK 22 FACK 3"].map(command).concat();
    for size in 1..bytes.len() {
        let mut script = replicating();
        for piece in bytes.chunks(size) {
            script.client(piece);
        }
        script.up(&bytes);
    }
}

#[test]
fn anything_else_from_a_replica_ends_both_sides_without_a_word() {
    for line in ["SET a 1", "PING", "REPLCONF GETACK *", "REPLCONF ACK 01", "QUIT", "NOSUCH", "RESET"] {
        let mut script = replicating();
        script.client(&[command("REPLCONF ACK 1"), command(line), command("REPLCONF ACK 2")].concat());
        script.sent(&["REPLCONF ACK 1"]).down(b"").closed("protocol", End::Flush);
        let denied = script.records().iter().find(|record| record["outcome"] == "denied").unwrap().clone();
        assert_eq!(denied["rule"], "builtin/in-stream", "{denied}");
    }
    for bytes in [&b"\r\n"[..], b"PING\r\n", b"*0\r\n", b"*1\r\n$4\r\nPINGx", b" \n", b"\0"] {
        let mut script = replicating();
        script.client(bytes).up(b"").down(b"").closed("protocol", End::Flush);
        script.recorded(&["PSYNC ran"]);
    }
}

#[test]
fn an_acknowledgement_that_would_be_long_is_not_waited_for() {
    let mut script = replicating();
    script.client(b"*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$5000000\r\n").up(b"").closed("protocol", End::Flush);
    let mut script = replicating();
    script.client(b"*1000\r\n").closed("protocol", End::Flush);
    let mut script = replicating();
    script.client(&command(&format!("SET {}", "x".repeat(300)))[..200]).up(b"").closed("protocol", End::Flush);
}

#[test]
fn a_replica_that_leaves_ends_both_sides_at_once_even_before_it_is_answered() {
    let mut script = replicating();
    assert!(script.session.ends_with_client());
    script.client_end(true).closed("client-closed", End::Flush);
    let mut script = open();
    script.say("PSYNC ? -1");
    assert!(script.session.ends_with_client());
    script.client_end(true).recorded(&["PSYNC begin", "PSYNC unanswered"]);
    assert_eq!((script.wants().up, script.wants().done), (End::Abort, true));
}

#[test]
fn drain_and_a_reload_that_takes_the_right_away_end_streams() {
    for mut script in [replicating(), monitoring()] {
        script.drain().closed("drain", End::Flush);
    }
    for (mut script, other, deny) in [(replicating(), "MONITOR", "PSYNC"), (monitoring(), "PSYNC", "MONITOR")] {
        script.renew(&[other]).wait_us(1);
        assert!(!script.wants().done, "that right is still there");
        script.renew(&[deny]).wait_us(0).closed("revoked", End::Flush);
    }
    let mut script = open();
    script.say("PSYNC ? -1").renew(&["PSYNC"]).wait_us(0).recorded(&["PSYNC begin", "PSYNC unanswered"]);
}

#[test]
fn a_reload_that_leaves_the_right_to_it_lets_a_stream_go_on() {
    let mut script = replicating();
    script.renew(&["GET"]).say("REPLCONF ACK 1").sent(&["REPLCONF ACK 1"]).redis(b"x").down(b"x");
    script.renew(&["SET"]).renew(&["GET", "PSYNC"]).wait_us(0).closed("revoked", End::Flush);
    // It comes while Redis still prepares its answer.
    let mut script = open();
    script.say("PSYNC ? -1").renew(&["GET"]).up.clear();
    script.redis(full_resync().as_bytes()).say("REPLCONF ACK 1").sent(&["REPLCONF ACK 1"]);
    let mut script = monitoring();
    script.renew(&["GET"]).say("PING").sent(&["PING"]).redis(b"+PONG\r\n").say("RESET").redis(b"+RESET\r\n+OK\r\n");
    script.say("GET a");
    assert!(script.down.ends_with(b"-NOPERM this user has no permissions to run the 'get' command\r\n"));
}

#[test]
fn a_large_command_on_a_monitoring_connection_is_swallowed_at_once() {
    let mut script = monitoring();
    let mut bytes = b"*5\r\n$4\r\nMSET\r\n$1\r\nk\r\n$500000\r\n".to_vec();
    script.client(&bytes);
    script.down(WHILE_MONITORING);
    bytes = [&b"x".repeat(500_000)[..], b"\r\n$1\r\nl\r\n$1\r\n1\r\n", &command("PING")].concat();
    for piece in bytes.chunks(10_000) {
        script.client(piece);
        assert_eq!(script.memory.held, 0);
    }
    script.sent(&["PING"]);
}

#[test]
fn a_revoked_client_that_never_reads_is_still_closed_when_its_budget_is_spent() {
    let mut script = open();
    script.client(&command("GET a").repeat(40_000)).revoke();
    script.down_pending = 1;
    script.wait_us(5_000_000).wait_us(5_000_000).closed("unanswered-budget", End::Abort);
}

#[test]
fn silence_ends_no_stream() {
    for line in ["MONITOR", "PSYNC ? -1"] {
        let mut setup = Setup { deny: Vec::new(), ..Setup::default() };
        setup.config.idle_timeout_us = 1_000_000;
        let mut script = Script::with(setup);
        let answer = if line == "MONITOR" { "+OK\r\n".to_owned() } else { full_resync() };
        script.say(line).wait_us(60_000_000).redis(answer.as_bytes()).wait_us(3_600_000_000);
        assert!(!script.wants().done, "{line}");
    }
}

#[test]
fn a_stream_needs_no_room_for_records_and_its_own_is_written_when_there_is() {
    let mut script = Script::with(Setup { deny: Vec::new(), room: 40_000, ..Setup::default() });
    script.say("PSYNC ? -1").redis(full_resync().as_bytes()).forget().down.clear();
    script.sink_writes = false;
    while script.recorder.has_room() {
        let facts =
            crate::audit::encode::ConnectionFacts::new("x", "x", "127.0.0.1:1".parse().unwrap(), "x", "x", None);
        script.recorder.connection(
            script.now,
            &facts,
            &crate::audit::record::ConnectionEvent::Alarm { reason: "desync" },
        );
    }
    script.redis(b"payload").down(b"payload").say("REPLCONF ACK 1");
    assert!(script.up.ends_with(&command("REPLCONF ACK 1")));
    script.client_end(true);
    assert!(!script.wants().done, "its record has no room yet");
    script.sink_recovers().recorded(&["PSYNC ran"]);
}

#[test]
fn replication_begins_only_where_nothing_else_is_written() {
    let refused = b"-ERR replication begins only on a connection without HELLO 3, subscriptions and CLIENT REPLY\r\n";
    let mut script = open();
    script.say("HELLO 3").redis(b"%1\r\n+proto\r\n:3\r\n").down.clear();
    script.up.clear();
    script.say("PSYNC ? -1").up(b"").down(refused).say("SYNC").up(b"").down(refused);
    let mut script = open();
    script.say("SUBSCRIBE a").redis(b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n").down.clear();
    script.up.clear();
    script.say("PSYNC ? -1").up(b"").down(refused);
    let mut script = open();
    script.say("CLIENT REPLY OFF").say("PSYNC ? -1").up(b"").down(b"");
}

#[test]
fn a_request_for_replication_that_is_not_canonical_is_answered_here() {
    let wrong = b"-ERR wrong number of arguments for 'sync' command\r\n";
    let mut script = open();
    script.say("SYNC x").up(b"").down(wrong);
    for line in ["PSYNC ? 01", "PSYNC x 1", &format!("PSYNC {ID} 1 FAILOVER")] {
        script.say(line).up(b"").down(b"-ERR syntax error\r\n");
    }
}

#[test]
fn inline_requests_of_old_replicas_go_up_as_arrays() {
    let mut setup = Setup { deny: Vec::new(), ..Setup::default() };
    setup.config.request.inline = true;
    let mut script = Script::with(setup);
    script.up.clear();
    script.client(b"PING\r\n").redis(b"+PONG\r\n").client(b"REPLCONF listening-port 6380\r\n").redis(b"+OK\r\n");
    script.client(b"PSYNC ? -1\r\n").sent(&["PING", "REPLCONF listening-port 6380", "PSYNC ? -1"]);
    script.redis(full_resync().as_bytes()).say("REPLCONF ACK 1").sent(&["REPLCONF ACK 1"]);
    script.client(b"PING\r\n").closed("protocol", End::Flush);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_chunking_and_no_content_changes_what_passes(
        keepalive in 0..4_usize,
        payload in prop::collection::vec(any::<u8>(), 0..400),
        upward in prop::collection::vec((any::<u64>(), any::<bool>(), 0..3_usize), 0..12),
        cuts in prop::collection::vec((1..60_usize, any::<bool>()), 1..20),
    ) {
        let mut script = open();
        script.say("PSYNC ? -1").up.clear();
        let stream = [&b"\n".repeat(keepalive)[..], full_resync().as_bytes(), &payload].concat();
        let mut acknowledged = Vec::new();
        let mut said = Vec::new();
        for (offset, fsynced, newlines) in &upward {
            let line = if *fsynced { format!("REPLCONF ACK {offset} FACK 1") } else { format!("REPLCONF ACK {offset}") };
            acknowledged.extend(command(&line));
            said.extend(command(&line));
            said.extend(b"\n".repeat(*newlines));
        }
        let (mut from_redis, mut from_client) = (&stream[..], &said[..]);
        let mut turn = 0;
        while !from_redis.is_empty() || !from_client.is_empty() {
            let (cut, of_redis) = cuts[turn % cuts.len()];
            // Whoever has nothing left to say lets the other speak.
            let side = if (of_redis && !from_redis.is_empty()) || from_client.is_empty() { &mut from_redis } else { &mut from_client };
            let (piece, rest) = side.split_at(cut.min(side.len()));
            *side = rest;
            if std::ptr::eq(side, &from_redis) { script.redis(piece) } else { script.client(piece) };
            turn += 1;
        }
        prop_assert_eq!(&script.down, &stream);
        // Newlines may be left out, wherever they stand between two acknowledgements; nothing else may.
        prop_assert_eq!(without_lone_newlines(&script.up), acknowledged);
        script.client_end(true);
        prop_assert!(script.wants().done);
        script.recorded(&["PSYNC begin", "PSYNC ran"]);
    }

    #[test]
    fn no_chunking_changes_what_a_monitor_sees_and_no_reply_falls_into_a_line(
        texts in prop::collection::vec("[ -~]{0,80}", 1..20),
        cuts in prop::collection::vec(1..60_usize, 1..12),
        asked in 0..40_usize,
    ) {
        let mut script = monitoring();
        let lines: Vec<String> = texts.iter().map(|text| format!("+{}.5 [0 x] {text}\r\n", texts.len())).collect();
        let bytes = lines.concat().into_bytes();
        let (mut rest, mut turn) = (&bytes[..], 0);
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(cuts[turn % cuts.len()].min(rest.len()));
            rest = later;
            script.redis(piece);
            if turn == asked {
                script.say("GET a");
            }
            turn += 1;
        }
        let seen = String::from_utf8(std::mem::take(&mut script.down)).unwrap();
        let denial = std::str::from_utf8(WHILE_MONITORING).unwrap();
        prop_assert_eq!(seen.split_inclusive('\n').filter(|line| *line == denial).count(), usize::from(turn > asked));
        prop_assert_eq!(seen.replace(denial, "").into_bytes(), bytes);
    }

    #[test]
    fn whatever_redis_answers_passes_unchanged_up_to_where_the_connection_ends(
        line in prop::sample::select(vec!["MONITOR", "SYNC", "PSYNC ? -1"]),
        front in prop::sample::select(vec!["", "\n", "+OK\r\n", "+FULLRESYNC ", "+CONTINUE", "$", "$5\r\n", "-ERR x\r\n", "+1"]),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        cuts in prop::collection::vec(1..40_usize, 1..8),
    ) {
        let mut script = open();
        script.say(line);
        let answer = [front.as_bytes(), &bytes].concat();
        let (mut rest, mut turn) = (&answer[..], 0);
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(cuts[turn % cuts.len()].min(rest.len()));
            rest = later;
            script.redis(piece);
            turn += 1;
        }
        prop_assert!(answer.starts_with(&script.down), "{:?} of {:?}", script.down, answer);
        script.client_end(true);
        prop_assert!(script.wants().done);
        let ends = script.records().iter().filter(|record| record["event"] == "command").count();
        prop_assert_eq!(ends, 1, "the command has one record, however it went");
    }

    #[test]
    fn random_bytes_of_a_replica_go_up_only_as_acknowledgements(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut script = replicating();
        script.client(&bytes);
        prop_assert!(script.up.iter().all(|byte| *byte == b'\n'), "{:?}", script.up);
    }
}

/// What goes up without the newlines between commands. (No word of an acknowledgement holds one but before an LF's CR.)
fn without_lone_newlines(bytes: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    for byte in bytes {
        if *byte != b'\n' || out.last() == Some(&b'\r') {
            out.push(*byte);
        }
    }
    out
}
