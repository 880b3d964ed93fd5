//! Every state of a connection, told to Redis directly and through Ravelin: the same bytes come back, on every release of
//! the matrix, because each is asked itself. What differs on purpose is in `deploy/docs/compatibility.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use support::{
    redis::{Release, Vendor},
    twins::{Step, Twins, dialogue, raw, say},
};

/// Dialogues with a blank line between them, each the same as with Redis alone.
fn all_the_same(twins: &Twins, text: &str) {
    let mut frames = 0;
    for part in text.split("\n\n").filter(|part| !part.trim().is_empty()) {
        frames += twins.same(&dialogue(part));
    }
    assert!(frames > 5, "that was no dialogue");
}

#[test]
fn hello_in_all_its_forms_reads_as_this_server_says_it() {
    let twins = Twins::start();
    all_the_same(
        &twins,
        "
        HELLO

        HELLO 2
        HELLO 3
        HELLO
        HELLO 2
        PING

        HELLO 4
        HELLO 0
        HELLO -3
        HELLO nonsense
        HELLO 3x
        PING

        HELLO 3 NONSENSE
        HELLO 3 SETNAME
        HELLO 3 AUTH
        HELLO 3 SETNAME a~b
        HELLO 2 SETNAME a SETNAME b
        CLIENT GETNAME

        HELLO 2 setname me
        CLIENT GETNAME
        HELLO 4 SETNAME you
        HELLO 2 SETNAME you NONSENSE
        CLIENT GETNAME

        HELLO 3
        HGETALL nothing
        GET nothing
        HELLO 4
        GET nothing
        HELLO 2
        GET nothing",
    );
    if twins.knows("hello") {
        // A server without it prints the words it was told; a password is not among what it is told here.
        all_the_same(
            &twins,
            "
            HELLO 2 NONSENSE AUTH x y
            HELLO 2 SETNAME a AUTH x
            HELLO 4 AUTH x y
            HELLO nonsense AUTH x y
            GET nothing
            CLIENT GETNAME",
        );
    }
}

#[test]
fn transactions_end_and_stay_open_as_this_server_has_it() {
    let twins = Twins::start();
    all_the_same(
        &twins,
        "
        MULTI
        SET a 1
        EXEC x
        PING
        EXEC
        EXEC

        MULTI
        EXEC x
        DISCARD
        DISCARD
        PING

        MULTI
        EXEC x
        MULTI
        SET a 1
        EXEC
        GET a

        EXEC x
        EXEC
        DISCARD
        DISCARD x
        MULTI x
        PING

        MULTI
        MULTI x
        EXEC

        MULTI
        DISCARD x
        EXEC
        PING

        MULTI
        MULTI
        WATCH a
        SET a 1
        EXEC
        GET a

        MULTI
        UNWATCH
        EXEC

        WATCH a
        SET a 1
        MULTI
        SET a 2
        EXEC
        GET a
        WATCH a
        UNWATCH
        SET a 3
        MULTI
        GET a
        EXEC

        WATCH a
        < SET a theirs
        MULTI
        SET a mine
        EXEC
        GET a
        WATCH a
        MULTI
        < SET a again
        DISCARD
        MULTI
        GET a
        EXEC

        MULTI
        SET a
        EXEC
        MULTI
        INCR a b c
        GET a
        EXEC
        PING

        MULTI
        LPUSH l 1
        INCR l
        LRANGE l 0 -1
        EXEC
        MULTI
        EXEC
        PING

        MULTI
        BLPOP nothing 0
        EXEC
        MULTI
        SET a 1
        QUIT",
    );
}

#[test]
fn a_transaction_in_resp3_has_its_own_null_and_its_own_types() {
    let twins = Twins::start();
    if twins.knows("hello") {
        all_the_same(
            &twins,
            "
            HELLO 3
            WATCH a
            < SET a theirs
            MULTI
            EXEC
            MULTI
            HSET h f 1
            HGETALL h
            GET nothing
            BLPOP nothing 0
            EXEC
            MULTI
            EXEC x
            EXEC
            EXEC x
            PING",
        );
    } else {
        assert!(twins.redis.connect().call(&["HELLO", "3"]).error().is_some());
    }
}

#[test]
fn a_select_that_fails_reads_as_this_server_says_it() {
    let twins = Twins::start();
    all_the_same(
        &twins,
        "
        SELECT 3
        SET a three
        SELECT 99
        GET a
        SELECT nonsense
        SELECT 3x
        SELECT -1
        SELECT -2147483648
        SELECT
        SELECT 1 2
        GET a
        SELECT 0
        GET a

        MULTI
        SELECT 2
        SET a two
        SELECT 99
        SELECT nonsense
        SELECT -1
        SET b two
        EXEC
        GET a
        SELECT 2
        GET a
        GET b

        MULTI
        SELECT
        EXEC
        SET a 1
        GET a",
    );
}

#[test]
fn subscriptions_are_confirmed_one_by_one_and_repeats_too() {
    let twins = Twins::start();
    let text = "
        SUBSCRIBE
        SUBSCRIBE a b a
        PSUBSCRIBE a* b* a*
        < PUBLISH a hello
        < PUBLISH b hello
        UNSUBSCRIBE nothing
        UNSUBSCRIBE a nothing
        UNSUBSCRIBE
        UNSUBSCRIBE
        < PUBLISH a again
        PUNSUBSCRIBE
        PUNSUBSCRIBE
        GET a

        UNSUBSCRIBE
        PING
        UNSUBSCRIBE a b
        PUNSUBSCRIBE
        PUNSUBSCRIBE a b
        PING
        GET a

        SUBSCRIBE a
        UNSUBSCRIBE
        SUBSCRIBE a b c
        UNSUBSCRIBE
        PSUBSCRIBE a
        SUBSCRIBE a b
        PUNSUBSCRIBE
        UNSUBSCRIBE b a
        PING";
    all_the_same(&twins, text);
    if twins.knows("hello") {
        let resp3: String = text.split("\n\n").map(|part| format!("HELLO 3\n{part}\n\n")).collect();
        all_the_same(&twins, &resp3);
    }
    let shards = text.replace("PSUBSCRIBE", "PING ").replace("PUNSUBSCRIBE", "PING ");
    let shards = shards.replace("UNSUBSCRIBE", "SUNSUBSCRIBE").replace("    SUBSCRIBE", "    SSUBSCRIBE");
    let shards = shards.replace("PUBLISH", "SPUBLISH");
    if twins.knows("ssubscribe") {
        all_the_same(&twins, &shards);
        let resp3: String = shards.split("\n\n").map(|part| format!("HELLO 3\n{part}\n\n")).collect();
        all_the_same(&twins, &resp3);
    }
}

#[test]
fn in_subscriber_mode_the_same_is_allowed_and_refused() {
    let twins = Twins::start();
    let text = "
        SUBSCRIBE a
        GET a
        PING
        PING hello
        PING too many
        MULTI
        SUBSCRIBE b
        PSUBSCRIBE c*
        EXEC
        DISCARD
        EXEC x
        WATCH a
        SELECT 1
        SET a 1
        CLIENT GETNAME
        HELLO 3
        PUBLISH nobody x
        BLPOP nothing 0.01
        UNSUBSCRIBE
        PUNSUBSCRIBE
        GET a

        PSUBSCRIBE a*
        QUIT

        SUBSCRIBE a
        QUIT
        PING

        SUBSCRIBE a
        MULTI
        UNSUBSCRIBE
        SUBSCRIBE a
        UNSUBSCRIBE
        MULTI
        GET a
        EXEC";
    all_the_same(&twins, text);
    if twins.knows("hello") {
        // HELLO 2 in the middle of RESP3's subscriptions as well.
        let resp3: String = text.split("\n\n").map(|part| format!("HELLO 3\n{part}\n\n")).collect();
        let resp3 =
            resp3.replace("MULTI\n        SUBSCRIBE b\n", "PING\n").replace("MULTI\n        UNSUBSCRIBE\n", "PING\n");
        all_the_same(&twins, &resp3);
        all_the_same(
            &twins,
            "
            HELLO 3
            SUBSCRIBE a
            HELLO 2
            < PUBLISH a hello
            PING
            GET a
            HELLO 3
            UNSUBSCRIBE
            GET a",
        );
    }
}

#[test]
fn client_reply_is_kept_exactly_as_the_server_keeps_it() {
    let twins = Twins::start();
    if twins.redis.connect().call(&["CLIENT", "REPLY", "ON"]).error().is_some() {
        // Only Redis 2.8 does not have it; there Ravelin has more than its server (`tests/dialogues.rs`).
        assert!(twins.redis.version().starts_with("2.8"));
        return;
    }
    let blank =
        |bytes: &[u8]| -> Vec<Step> { vec![say("CLIENT REPLY SKIP"), raw(bytes), say("PING one"), say("PING two")] };
    for bytes in [&b"*0\r\n"[..], b"*-1\r\n", b"\r\n"] {
        let steps = blank(bytes);
        if twins.direct(&steps).concat().len() == 2 {
            twins.same(&steps);
        } else {
            // One release forgets to count an empty array; here it counts before every server.
            let release = Release::of_server();
            assert_eq!((release.vendor, release.major, release.minor), (Vendor::Redis, 8, 0));
            let mut client = twins.proxy.client();
            client.send_raw(&[support::twins::words("CLIENT REPLY SKIP"), bytes.to_vec()].concat());
            assert_eq!(client.call(&["PING", "one"]).text(), "one");
        }
    }
    all_the_same(
        &twins,
        "
        CLIENT REPLY SKIP
        PING one
        PING two

        CLIENT REPLY SKIP
        CLIENT REPLY SKIP
        PING one
        PING two

        CLIENT REPLY SKIP
        CLIENT REPLY ON
        PING one

        CLIENT REPLY SKIP
        CLIENT REPLY OFF
        PING one
        CLIENT REPLY ON
        PING two

        CLIENT REPLY OFF
        CLIENT REPLY OFF
        CLIENT REPLY SKIP
        PING one
        CLIENT REPLY ON
        PING two

        CLIENT REPLY ON
        CLIENT REPLY SKIP
        CLIENT REPLY NONSENSE
        CLIENT REPLY NONSENSE
        CLIENT REPLY
        CLIENT REPLY ON OFF
        CLIENT REPLY SKIP
        SET a
        SET a

        CLIENT REPLY SKIP
        MULTI
        SET a 1
        EXEC
        CLIENT REPLY SKIP
        EXEC x
        PING

        MULTI
        SET a 1
        EXEC
        CLIENT REPLY SKIP
        SELECT 99
        SELECT 99
        CLIENT REPLY SKIP
        SELECT nonsense
        CLIENT REPLY SKIP
        HELLO 4
        PING

        CLIENT REPLY SKIP
        QUIT

        CLIENT REPLY OFF
        SET a 1
        GET a
        QUIT",
    );
    if twins.knows("reset") {
        all_the_same(
            &twins,
            "
            PING
            CLIENT REPLY OFF
            RESET
            AGAIN
            PING

            PING
            CLIENT REPLY SKIP
            RESET
            AGAIN
            PING
            RESET
            AGAIN
            RESET x
            PING

            SUBSCRIBE a
            RESET
            AGAIN
            < PUBLISH a nobody
            GET a
            PING

            MULTI
            RESET
            AGAIN
            EXEC
            SELECT 3
            SET a three
            RESET
            AGAIN
            GET a",
        );
    }
}

#[test]
fn what_follows_quit_is_not_looked_at() {
    let twins = Twins::start();
    all_the_same(
        &twins,
        "
        PING
        QUIT
        SET a 1

        MULTI
        SET a 1
        QUIT
        EXEC

        SET a 1
        GET a
        QUIT",
    );
    assert!(twins.same(&[say("PING"), say("QUIT"), raw(b"nonsense that is no request\n")]) == 2);
}
