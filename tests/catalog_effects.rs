//! What the catalog says a command does to its connection, watched on a real Redis: how many replies came, and what a
//! second connection sees of the first (`CLIENT LIST`) before and after. A row that nobody probes fails.
//!
//! For servers from 7.0 on: what is looked at (`resp`, `ssub`) is not in CLIENT LIST before, nor is there `CLIENT ID` before
//! 5.0 to find the connection by. What earlier servers do is shown through the proxy (`tests/dialogues.rs`, `tests/oracle.rs`,
//! `tests/states_twins.rs`, `tests/witness.rs`), which closes on a reply that it does not expect.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use ravelin::command::{CommandId, Effect, Entry, PubSub, catalog};
use support::probes::{Probe, probes};
use support::redis::Release;
use support::stage::{Actor, Seen, Stage};
use support::wire::{Reply, encode};

/// Rows that are shown to answer once, but whose change to the connection nobody can see from outside.
const UNSEEN: &[(&str, &str)] = &[
    ("asking", "the flag is shown nowhere and lives for one command; seeing it takes a slot that is being moved"),
    ("client|capa", "what a client can is shown by redirections of a failover only"),
    ("client|import-source", "the flag needs a server in import mode"),
];

fn id_of(words: &[&str]) -> CommandId {
    let command = catalog::by_full_name(words[0]).unwrap_or_else(|| panic!("{words:?} is no command"));
    match words.get(1) {
        Some(sub) if command.entry().container => catalog::by_full_name(&format!("{}|{sub}", words[0]))
            .unwrap_or_else(|| panic!("{words:?} is no subcommand")),
        _ => command,
    }
}

/// Whether a command line shows this effect; the others have a test of their own below.
fn answers_once(effect: Effect) -> bool {
    matches!(
        effect,
        Effect::Plain
            | Effect::OwnAccess(_)
            | Effect::AccessControl
            | Effect::State
            | Effect::Blocking
            | Effect::BlockingOption
            | Effect::Script
    )
}

/// Runs every probe of the rows `wanted`, in catalog order, on a server of their own each kind.
fn run(wanted: impl Fn(&Entry) -> bool, mut check: impl FnMut(&mut Stage, &Probe, &'static Entry)) {
    let mut standalone = Stage::standalone();
    let mut cluster = Stage::cluster();
    let mut ran = 0;
    for probe in probes() {
        let row = id_of(&probe.words).entry();
        if wanted(row) {
            let stage = if probe.cluster { &mut cluster } else { &mut standalone };
            if row.since.is_some() && !stage.knows(row.full_name) {
                expect_unknown(stage, &probe);
                continue;
            }
            if !probe.cluster {
                stage.furnish();
            }
            check(stage, &probe, row);
            ran += 1;
        }
    }
    assert!(ran > 0, "no probe ran");
}

/// A command that came later than this server: one error, and the connection is as before.
fn expect_unknown(stage: &mut Stage, probe: &Probe) {
    let mut actor = stage.actor();
    let before = stage.seen(&actor);
    let replies = actor.replies_to(&probe.words);
    let [Reply::Error(text)] = &replies[..] else { panic!("{:?}: {replies:?}", probe.words) };
    assert!(text.contains("unknown"), "{:?}: {text}", probe.words);
    assert_eq!(stage.seen(&actor).state(), before.state(), "{:?}", probe.words);
}

fn expect_one(replies: &[Reply], probe: &Probe) {
    assert_eq!(replies.len(), 1, "{:?}: {replies:?}", probe.words);
    assert_eq!(replies[0].error().is_some(), probe.refused.is_some(), "{:?}: {:?}", probe.words, replies[0]);
}

#[test]
fn every_row_is_probed() {
    let probed: Vec<CommandId> = probes().iter().map(|probe| id_of(&probe.words)).collect();
    for (id, row) in catalog::iter() {
        let times = probed.iter().filter(|probed| **probed == id).count();
        // COMMAND is the one container that does something alone; the others are probed all at once below.
        let expected = usize::from(answers_once(row.effect) && (!row.container || row.name == "COMMAND"));
        assert_eq!(times, expected, "{} has {times} probes", row.full_name);
    }
    for (name, _) in UNSEEN {
        assert!(catalog::by_full_name(name).is_some(), "{name} is no command");
    }
}

#[test]
fn plain_commands_answer_once_and_leave_the_connection_as_it_was() {
    run(
        |row| matches!(row.effect, Effect::Plain | Effect::OwnAccess(_) | Effect::AccessControl),
        |stage, probe, _| {
            let words = stage.words(probe);
            let mut actor = stage.actor();
            let before = stage.seen(&actor);
            expect_one(&actor.replies_to(&words), probe);
            assert_eq!(stage.seen(&actor).state(), before.state(), "{:?}", probe.words);
        },
    );
}

#[test]
fn containers_alone_are_errors_of_arity() {
    let mut stage = Stage::standalone();
    for (_, row) in catalog::iter().filter(|(_, row)| row.container && row.name != "COMMAND") {
        if row.since.is_some() && !stage.knows(row.full_name) {
            continue;
        }
        let mut actor = stage.actor();
        let before = stage.seen(&actor);
        let replies = actor.replies_to(&[row.name]);
        assert_eq!(replies.len(), 1, "{}", row.name);
        assert!(replies[0].error().unwrap().contains("wrong number of arguments"), "{}: {replies:?}", row.name);
        assert_eq!(stage.seen(&actor).state(), before.state(), "{}", row.name);
    }
}

#[test]
fn state_commands_answer_once_and_change_nothing_the_accounting_rests_on() {
    run(
        |row| row.effect == Effect::State,
        |stage, probe, row| {
            let mut actor = stage.actor();
            for line in state_before(row) {
                assert_eq!(actor.wire.call(&line.split(' ').collect::<Vec<_>>()).error(), None, "{line}");
            }
            let before = stage.seen(&actor);
            let words = stage.words(probe);
            let replies = actor.replies_to(&words);
            expect_one(&replies, probe);
            let after = stage.seen(&actor);
            assert_eq!(after.accounting(), before.accounting(), "{:?}", probe.words);
            witness(stage, &mut actor, row, &before, &after);
        },
    );
}

/// What must have happened before, for the change to be one.
fn state_before(row: &Entry) -> &'static [&'static str] {
    match row.full_name {
        "client|caching" => &["CLIENT TRACKING ON OPTIN"],
        "readwrite" => &["READONLY"],
        "unwatch" => &["WATCH s"],
        _ => &[],
    }
}

/// Sees the change a state command made.
fn witness(stage: &mut Stage, actor: &mut Actor, row: &Entry, before: &Seen, after: &Seen) {
    let flags = |flag: char| (before.get("flags").contains(flag), after.get("flags").contains(flag));
    match row.full_name {
        "client|setname" => assert_eq!((before.get("name"), after.get("name")), ("", "somebody")),
        "client|no-evict" => assert_eq!(flags('e'), (false, true)),
        "client|no-touch" => assert_eq!(flags('T'), (false, true)),
        "client|setinfo" => assert_eq!((before.get("lib-name"), after.get("lib-name")), ("", "x")),
        "client|tracking" => assert_eq!(flags('t'), (false, true)),
        "readonly" => assert_eq!(flags('r'), (false, true)),
        "readwrite" => assert_eq!(flags('r'), (true, false)),
        "client|caching" => {
            // The PING behind the probe has used it up: once more, and looked at by another CLIENT command.
            actor.wire.call(&["CLIENT", "CACHING", "YES"]).expect_ok();
            let info = format!("{:?}", actor.wire.call(&["CLIENT", "TRACKINGINFO"]));
            assert!(info.contains(&format!("{:?}", b"caching-yes".to_vec())), "{info}");
        }
        "watch" | "unwatch" => {
            stage.watcher.call(&["SET", "s", "changed"]).expect_ok();
            actor.wire.call(&["MULTI"]).expect_ok();
            assert_eq!(actor.wire.call(&["GET", "s"]).text(), "QUEUED");
            let watched = actor.wire.call(&["EXEC"]) == Reply::Null;
            assert_eq!(watched, row.full_name == "watch");
        }
        other => assert!(UNSEEN.iter().any(|(name, _)| *name == other), "nobody sees what {other} changes"),
    }
}

fn expect_blocking(stage: &mut Stage, words: &[Vec<u8>], probe: &Probe) {
    let mut actor = stage.actor();
    let before = stage.seen(&actor);
    let mut bytes = encode(words);
    bytes.extend(encode(&["PING", "the end"]));
    actor.wire.send_raw(&bytes);
    stage.await_blocked(&actor, &format!("{:?}", probe.words));
    assert_eq!(stage.watcher.call(&["CLIENT", "UNBLOCK", &actor.id]).integer(), 1, "{:?}", probe.words);
    expect_one(&actor.replies_until_ping(), probe);
    assert_eq!(stage.seen(&actor).state(), before.state(), "{:?}", probe.words);
}

#[test]
fn blocking_commands_answer_late_and_once_and_what_follows_waits() {
    run(
        |row| row.effect == Effect::Blocking,
        |stage, probe, _| {
            let words = stage.words(probe);
            expect_blocking(stage, &words, probe);
        },
    );
}

#[test]
fn commands_with_a_blocking_option_block_with_it_and_not_without() {
    run(
        |row| row.effect == Effect::BlockingOption,
        |stage, probe, row| {
            let words = stage.words(probe);
            let mut actor = stage.actor();
            let before = stage.seen(&actor);
            expect_one(&actor.replies_to(&words), probe);
            assert_eq!(stage.seen(&actor).state(), before.state(), "{:?}", probe.words);

            let streams = words.iter().position(|word| word.eq_ignore_ascii_case(b"streams")).unwrap();
            let mut blocking = words.clone();
            blocking.splice(streams..streams, [b"block".to_vec(), b"0".to_vec()]);
            if row.name == "XREAD" {
                *blocking.last_mut().unwrap() = b"$".to_vec();
            }
            expect_blocking(stage, &blocking, probe);
        },
    );
}

#[test]
fn scripts_answer_once_and_run_commands_nobody_sees() {
    run(
        |row| row.effect == Effect::Script,
        |stage, probe, _| {
            let words = stage.words(probe);
            let mut actor = stage.actor();
            let before = stage.seen(&actor);
            expect_one(&actor.replies_to(&words), probe);
            assert_eq!(stage.seen(&actor).state(), before.state(), "{:?}", probe.words);
        },
    );
    let mut stage = Stage::standalone();
    stage.furnish();
    let mut actor = stage.actor();
    let replies = actor.replies_to(&["EVAL", "redis.call('select', '3') redis.call('flushall') return 1", "0"]);
    assert_eq!(replies, [Reply::Integer(1)]);
    assert_eq!(stage.watcher.call(&["DBSIZE"]).integer(), 0, "a script flushed everything");
    assert_eq!(stage.seen(&actor).get("db"), "0", "a script's SELECT ends with the script");
}

/// Every row whose effect is told apart by no command line above has its test below: matched without a wildcard, so
/// that a new effect is not forgotten here either.
#[test]
fn every_effect_has_its_test() {
    for (_, row) in catalog::iter() {
        let shown: fn(&mut Stage, &'static Entry) = match row.effect {
            // What is asked about access control does not change the connection; `tests/acl.rs` shows what is answered.
            Effect::OwnAccess(_) | Effect::AccessControl => continue,
            Effect::Plain | Effect::State | Effect::Blocking | Effect::BlockingOption | Effect::Script => continue,
            Effect::Select => select,
            Effect::Multi | Effect::Exec | Effect::Discard => transaction,
            Effect::Auth => auth,
            Effect::Hello => hello,
            Effect::Reset => reset,
            Effect::Quit => quit,
            Effect::ReplyMode => reply_mode,
            Effect::Subscribe(_) => subscribe,
            Effect::Unsubscribe(_) => unsubscribe,
            Effect::Monitor => monitor,
            Effect::Replication => replication,
            Effect::ReplicationConfig => replication_config,
            Effect::Shutdown => shutdown,
            Effect::Unsupported => unsupported,
        };
        shown(&mut Stage::standalone(), row);
    }
}

fn select(stage: &mut Stage, row: &'static Entry) {
    let mut actor = stage.actor();
    assert_eq!(actor.replies_to(&[row.name, "3"]), [Reply::Status("OK".to_owned())]);
    assert_eq!(stage.seen(&actor).get("db"), "3");
    assert_eq!(actor.replies_to(&[row.name, "16"]).len(), 1);
    assert_eq!(stage.seen(&actor).get("db"), "3", "a refused SELECT leaves the database as it was");
}

fn transaction(stage: &mut Stage, row: &'static Entry) {
    let mut actor = stage.actor();
    let out = stage.seen(&actor).get("multi").to_owned();
    assert_eq!(out, "-1");
    actor.wire.call(&["MULTI"]).expect_ok();
    assert_eq!(stage.seen(&actor).get("multi"), "0");
    assert_eq!(actor.wire.call(&["SET", "s", "1"]), Reply::Status("QUEUED".to_owned()));
    assert_eq!(stage.seen(&actor).get("multi"), "1");
    match row.effect {
        Effect::Exec => {
            assert_eq!(actor.replies_to(&[row.name]), [Reply::Array(vec![Reply::Status("OK".to_owned())])]);
            assert_eq!(stage.seen(&actor).get("multi"), "-1");
        }
        Effect::Discard => {
            assert_eq!(actor.replies_to(&[row.name]), [Reply::Status("OK".to_owned())]);
            assert_eq!(stage.seen(&actor).get("multi"), "-1");
            assert_eq!(actor.wire.call(&["EXISTS", "s"]).integer(), 0);
        }
        _ => {
            // Valkey 9 refuses it as a command that has no place in a transaction.
            let refused = actor.wire.call(&[row.name]).error().unwrap().to_owned();
            assert!(refused.contains("nested") || refused.contains("not allowed inside a transaction"), "{refused}");
            // Valkey 9 empties the queue of a transaction that it will not run.
            assert_ne!(stage.seen(&actor).get("multi"), "-1", "a second MULTI leaves the transaction open");
        }
    }
}

fn auth(stage: &mut Stage, row: &'static Entry) {
    assert_eq!(stage.watcher.call(&["ACL", "SETUSER", "bob", "on", ">pw", "+@all", "~*", "&*"]).error(), None);
    let mut actor = stage.actor();
    assert_eq!(stage.seen(&actor).get("user"), "default");
    assert_eq!(actor.replies_to(&[row.name, "bob", "pw"]), [Reply::Status("OK".to_owned())]);
    assert_eq!(stage.seen(&actor).get("user"), "bob");
}

fn hello(stage: &mut Stage, row: &'static Entry) {
    assert_eq!(stage.watcher.call(&["ACL", "SETUSER", "bob", "on", ">pw", "+@all", "~*", "&*"]).error(), None);
    let mut actor = stage.actor();
    let replies = actor.replies_to(&[row.name, "3", "AUTH", "bob", "pw", "SETNAME", "me"]);
    assert!(matches!(replies[..], [Reply::Map(_)]), "{replies:?}");
    let seen = stage.seen(&actor);
    assert_eq!((seen.get("resp"), seen.get("user"), seen.get("name")), ("3", "bob", "me"));
    let replies = actor.replies_to(&[row.name, "4"]);
    assert!(replies[0].error().unwrap().starts_with("NOPROTO"));
    assert_eq!(stage.seen(&actor).get("resp"), "3");
}

fn reset(stage: &mut Stage, row: &'static Entry) {
    assert_eq!(stage.watcher.call(&["ACL", "SETUSER", "bob", "on", ">pw", "+@all", "~*", "&*"]).error(), None);
    let mut actor = stage.actor();
    let fresh = stage.seen(&actor);
    actor.wire.call(&["AUTH", "bob", "pw"]).expect_ok();
    for line in ["HELLO 3", "SELECT 3", "CLIENT SETNAME me", "CLIENT TRACKING ON", "WATCH s", "MULTI"] {
        assert_eq!(actor.wire.call(&line.split(' ').collect::<Vec<_>>()).error(), None, "{line}");
    }
    assert_eq!(actor.replies_to(&[row.name]), [Reply::Status("RESET".to_owned())]);
    assert_eq!(stage.seen(&actor).state(), fresh.state(), "the identity among them");
}

fn quit(stage: &mut Stage, row: &'static Entry) {
    let mut actor = stage.actor();
    let mut bytes = encode(&[row.name]);
    bytes.extend(encode(&["SET", "after", "quit"]));
    actor.wire.send_raw(&bytes);
    assert_eq!(actor.wire.rest(), b"+OK\r\n");
    assert_eq!(stage.watcher.call(&["EXISTS", "after"]).integer(), 0);
}

fn reply_mode(stage: &mut Stage, row: &'static Entry) {
    let sub = row.sub.unwrap();
    let mut actor = stage.actor();
    // SKIP swallows itself and the PING behind it; what is heard next is the answer to the next command.
    actor.wire.send(&[row.name, sub, "SKIP"]);
    actor.wire.send(&["PING", "unheard"]);
    assert_eq!(actor.wire.call(&["PING", "heard"]).text(), "heard");
    actor.wire.send(&[row.name, sub, "OFF"]);
    actor.wire.send(&["PING", "unheard"]);
    actor.wire.call(&[row.name, sub, "ON"]).expect_ok();
    assert_eq!(actor.wire.call(&["PING", "heard"]).text(), "heard");
}

/// The command's counterpart, and the field CLIENT LIST shows its subscriptions in.
fn pubsub_words(kind: PubSub) -> (&'static str, &'static str, &'static str) {
    match kind {
        PubSub::Channel => ("SUBSCRIBE", "UNSUBSCRIBE", "sub"),
        PubSub::Pattern => ("PSUBSCRIBE", "PUNSUBSCRIBE", "psub"),
        PubSub::Shard => ("SSUBSCRIBE", "SUNSUBSCRIBE", "ssub"),
    }
}

fn subscribe(stage: &mut Stage, row: &'static Entry) {
    let Effect::Subscribe(kind) = row.effect else { panic!("{row:?}") };
    let (name, _, field) = pubsub_words(kind);
    assert_eq!(row.name, name);
    for protocol in ["2", "3"] {
        let mut actor = stage.actor();
        actor.wire.call(&["HELLO", protocol]);
        let replies = actor.replies_to(&[name, "a", "b", "a"]);
        assert_eq!(replies.len(), 3, "one confirmation per name, repeats included: {replies:?}");
        let counts: Vec<i64> = replies.iter().map(|reply| reply.elements()[2].integer()).collect();
        assert_eq!(counts, [1, 2, 2]);
        for reply in &replies {
            assert_eq!(matches!(reply, Reply::Push(_)), protocol == "3", "{reply:?}");
            assert_eq!(reply.elements()[0].text(), name.to_ascii_lowercase());
        }
        assert_eq!(stage.seen(&actor).get(field), "2");
        assert!(stage.seen(&actor).get("flags").contains('P'));
    }
}

fn unsubscribe(stage: &mut Stage, row: &'static Entry) {
    let Effect::Unsubscribe(kind) = row.effect else { panic!("{row:?}") };
    let (on, off, field) = pubsub_words(kind);
    assert_eq!(row.name, off);
    let mut actor = stage.actor();
    assert_eq!(actor.replies_to(&[off]).len(), 1, "one confirmation although nothing is subscribed");
    let replies = actor.replies_to(&[off, "a", "b"]);
    if Release::of_server().says_nosub() {
        assert!(matches!(&replies[..], [Reply::Error(text)] if text.starts_with("NOSUB ")), "{replies:?}");
    } else {
        assert_eq!(replies.len(), 2, "one per name although none is subscribed");
    }
    actor.replies_to(&[on, "a", "b", "c"]);
    assert_eq!(actor.replies_to(&[off, "a"]).len(), 1);
    assert_eq!(stage.seen(&actor).get(field), "2");
    assert_eq!(actor.replies_to(&[off]).len(), 2, "one per live subscription");
    assert_eq!(stage.seen(&actor).get(field), "0");
}

fn monitor(stage: &mut Stage, row: &'static Entry) {
    let mut actor = stage.actor();
    actor.wire.call(&[row.name]).expect_ok();
    assert!(stage.seen(&actor).get("flags").contains('O'));
    stage.watcher.call(&["SET", "seen", "1"]).expect_ok();
    // CLIENT LIST, an admin command, is not shown.
    let line = actor.wire.reply().text();
    assert!(line.contains("\"SET\" \"seen\""), "{line}");
    let refused = actor.wire.call(&["GET", "seen"]);
    assert!(refused.error().is_some_and(|text| text.contains("eplica")), "{refused:?}");
    actor.wire.send(&["PING", "mixed"]);
    let mixed = [actor.wire.reply(), actor.wire.reply()];
    assert!(mixed.contains(&Reply::Bulk(b"mixed".to_vec())), "replies and lines share the connection: {mixed:?}");
}

fn replication(stage: &mut Stage, row: &'static Entry) {
    let mut actor = stage.actor();
    let full = row.name == "PSYNC";
    if full {
        assert!(actor.wire.call(&[row.name, "?", "-1"]).text().starts_with("FULLRESYNC "));
    } else {
        actor.wire.send(&[row.name]);
    }
    // Newlines keep the link alive while the snapshot is made; then `$length` and the snapshot without CRLF, or
    // `$EOF:mark` and the snapshot up to the mark.
    let mut first = actor.wire.take(1);
    while first == b"\n" {
        first = actor.wire.take(1);
    }
    assert_eq!(first, b"$", "no reply of any other kind");
    assert!(stage.seen(&actor).get("flags").contains('S'));
}

fn replication_config(stage: &mut Stage, row: &'static Entry) {
    let mut actor = stage.actor();
    assert_eq!(actor.replies_to(&[row.name, "listening-port", "1"]), [Reply::Status("OK".to_owned())]);
    assert_eq!(actor.replies_to(&[row.name, "ACK", "0"]), [], "no reply at all");
    assert_eq!(actor.replies_to(&[row.name, "nosuch", "0"]).len(), 1);
}

fn shutdown(stage: &mut Stage, row: &'static Entry) {
    let mut actor = stage.actor();
    let replies = actor.replies_to(&[row.name, "ABORT"]);
    assert!(matches!(replies[..], [Reply::Error(_)]), "{replies:?}");
    actor.wire.send(&[row.name, "NOSAVE"]);
    assert_eq!(actor.wire.rest(), b"", "the close and nothing else");
    stage.redis.await_end();
}

fn unsupported(stage: &mut Stage, row: &'static Entry) {
    let mut actor = stage.actor();
    match row.full_name {
        // Between nodes that move slots; but for one of its subcommands it never answers (`clusterCommandSyncSlots`).
        "cluster|syncslots" => {
            let replies = actor.replies_to(&["CLUSTER", "SYNCSLOTS", "FINISH"]);
            assert!(matches!(replies[..], [Reply::Error(_)]), "no cluster here: {replies:?}");
        }
        "script|debug" => {
            actor.wire.call(&[row.name, "DEBUG", "YES"]).expect_ok();
            // From here on the connection speaks the debugger's protocol, and ends with the script.
            actor.wire.send(&["EVAL", "return 1", "0"]);
            assert!(matches!(actor.wire.reply(), Reply::Array(lines) if lines[0].text().contains("Stopped at")));
        }
        other => panic!("nobody shows why {other} is unsupported"),
    }
}

/// In RESP3 a push may stand before the reply, never instead of it: a reply too few would shift every one behind it.
#[test]
fn a_push_is_never_the_reply_but_for_subscriptions() {
    let mut stage = Stage::standalone();
    let mut actor = stage.actor();
    actor.wire.call(&["HELLO", "3"]);
    let replies = actor.replies_to(&["DEBUG", "PROTOCOL", "push"]);
    // Before the reply up to 7.0, behind it from 7.2 on.
    let pushed = replies.iter().filter(|reply| matches!(reply, Reply::Push(_))).count();
    assert_eq!((pushed, replies.len()), (1, 2), "{replies:?}");
    actor.wire.call(&["CLIENT", "TRACKING", "ON", "BCAST"]).expect_ok();
    stage.watcher.call(&["SET", "other", "1"]).expect_ok();
    let replies = actor.replies_to(&["SET", "own", "1"]);
    let real = replies.iter().filter(|reply| !matches!(reply, Reply::Push(_))).count();
    assert_eq!(real, 1, "{replies:?}");
}
