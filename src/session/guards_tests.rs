//! What a connection sees where arguments are looked at: secret names and the number of its own connection, whose replies
//! come in pieces.

use super::script::{Script, Setup, command};
use crate::{
    policy::{guards::Guards, rename::Renames},
    secret::Secret,
};

fn renaming() -> Script {
    let mut renames = Renames::default();
    for (usual, secret) in [("OBJECT", "Zq_o"), ("XGROUP", "zq_xgroup")] {
        renames.add(usual, Secret::new(secret.as_bytes().to_vec())).unwrap();
    }
    let guards = Guards { renames, ..Guards::default() };
    let mut script = Script::with(Setup { deny: vec![], guards, ..Setup::default() });
    script.forget();
    script
}

/// What Redis 5.0 says inside EXEC, and what the client is shown of it. Values are nobody's to change, nor their lengths.
const EXEC: (&str, &str) = (
    "*5\r\n-ERR Unknown subcommand for 'NOSUCH'. Try ZQ_O HELP.\r\n$16\r\n-ERR zq_xgroup\r\n\r\n+zq_o\r\n\
     *2\r\n*1\r\n-NOPERM zq_xgroup|create\r\n:1\r\n-zq_o\r\n",
    "*5\r\n-ERR Unknown subcommand for 'NOSUCH'. Try object HELP.\r\n$16\r\n-ERR zq_xgroup\r\n\r\n+zq_o\r\n\
     *2\r\n*1\r\n-NOPERM xgroup|create\r\n:1\r\n-object\r\n",
);

#[test]
fn an_error_inside_an_array_shows_no_secret_name_however_it_is_cut() {
    let (said, shown) = EXEC;
    for size in [1, 2, 3, 7, 20, said.len()] {
        let mut script = renaming();
        script.say("MULTI").redis(b"+OK\r\n").say("GET a").redis(b"+QUEUED\r\n").down(b"+OK\r\n+QUEUED\r\n");
        script.say("EXEC");
        for piece in said.as_bytes().chunks(size) {
            script.redis(piece);
        }
        script.down(shown.as_bytes());
        // One answer: the next one is the next command's, of a script's errors likewise.
        script.say("EVAL x 0").redis(b"*2\r\n-zq_o\r\n").redis(b"-ZQ_XGROUP\r\n").down(b"*2\r\n-object\r\n-xgroup\r\n");
        script.say("PING").redis(b"+PONG\r\n").down(b"+PONG\r\n");
        let exec = script.records().iter().find(|record| record["cmd"] == "EXEC").unwrap();
        assert_eq!(exec["bytes_out"], shown.len(), "what the client was sent");
    }
}

#[test]
fn an_error_behind_an_attribute_shows_none_either() {
    let mut script = renaming();
    script.say("HELLO 3").redis(b"%0\r\n").down(b"%0\r\n");
    script.say("GET a").redis(b"|1\r\n+zq_o\r\n$4\r\nzq_o\r\n-ERR zq_o\r\n");
    script.down(b"|1\r\n+zq_o\r\n$4\r\nzq_o\r\n-ERR object\r\n");
    // No server says an error inside one; if it did, nothing behind it would be changed.
    script.say("GET a").redis(b"|1\r\n-zq_o\r\n$4\r\nzq_o\r\n$4\r\nzq_o\r\n");
    script.down(b"|1\r\n-zq_o\r\n$4\r\nzq_o\r\n$4\r\nzq_o\r\n");
}

#[test]
fn what_went_up_is_shown_to_nobody_with_a_map() {
    let mut script = renaming();
    script.up.clear();
    script.say("MONITOR").say("SLOWLOG GET").say("COMMANDLOG GET 1 slow").say("OBJECT HELP").up(b"");
    assert!(script.records().iter().filter(|record| record["rule"] == "builtin/renamed").count() == 4);
    script.say("SLOWLOG LEN").sent(&["SLOWLOG LEN"]);
}

#[test]
fn the_number_of_ones_own_connection_is_learned_however_its_reply_is_cut() {
    for size in [1, 2, 3, 4, 7] {
        let guards = Guards { own_kill: true, ..Guards::default() };
        let mut script = Script::with(Setup { deny: vec![], guards, ..Setup::default() });
        script.forget().say("CLIENT KILL ID 4711").up(b"").say("CLIENT ID").sent(&["CLIENT ID"]).down.clear();
        for piece in b":4711\r\n".chunks(size) {
            script.redis(piece);
        }
        script.down(b":4711\r\n").say("CLIENT KILL ID 4712").up(b"");
        script.say("CLIENT KILL ID 4711").sent(&["CLIENT KILL ID 4711"]);
    }
    // Inside a transaction nothing is learned, and nothing can be killed.
    let guards = Guards { own_kill: true, ..Guards::default() };
    let mut script = Script::with(Setup { deny: vec![], guards, ..Setup::default() });
    script.client(&["MULTI", "CLIENT ID", "EXEC"].map(command).concat());
    script.redis(b"+OK\r\n+QUEUED\r\n*1\r\n:4711\r\n").up.clear();
    script.say("CLIENT KILL ID 4711").up(b"");
}
