//! For any commands and any cut points: what goes up is what was allowed and nothing else, what comes down is in the
//! order it was asked in, and every command has exactly one record.

use super::{
    End,
    script::{Script, Setup, command},
};
use crate::{
    audit::{arguments::Values, filter::Commands},
    policy::rates::{Limit, Measure, Over, Per},
    resp::{
        reply::{Class, Progress, ReplyLimits, ReplyScanner},
        request::{Request, RequestLimits, RequestParser},
    },
};
use proptest::prelude::*;
use std::{num::NonZeroU64, sync::Arc};

/// What a client may send.
#[derive(Clone, Debug)]
enum Op {
    Get(u8),
    Incr(u8),
    Denied,
    Unknown,
    Multi,
    Exec,
    ExecWithArguments,
    Discard,
    Blank,
    EmptyArray,
    Large(usize),
    SilentGet(u8),
    Select(u8),
    SelectBadly,
}

impl Op {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Get(key) => command(&format!("GET k{key}")),
            Self::Incr(key) => command(&format!("incr k{key}")),
            Self::Denied => command("FlushAll"),
            Self::Unknown => command("NOSUCH x"),
            Self::Multi => command("MULTI"),
            Self::Exec => command("EXEC"),
            Self::ExecWithArguments => command("EXEC x"),
            Self::Discard => command("DISCARD"),
            Self::Blank => b"\r\n".to_vec(),
            Self::EmptyArray => b"*-3\r\n".to_vec(),
            Self::Large(size) => {
                let value = vec![b'v'; *size];
                let mut out = Vec::new();
                crate::resp::encode::command(&mut out, &[b"SET", b"big", &value]);
                out
            }
            Self::SilentGet(key) => [command("CLIENT REPLY SKIP"), command(&format!("GET k{key}"))].concat(),
            Self::Select(db) => command(&format!("SELECT {db}")),
            Self::SelectBadly => command("SELECT +1"),
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..9_u8).prop_map(Op::Get),
        4 => (0..9_u8).prop_map(Op::Incr),
        2 => Just(Op::Denied),
        1 => Just(Op::Unknown),
        3 => Just(Op::Multi),
        3 => Just(Op::Exec),
        1 => Just(Op::ExecWithArguments),
        1 => Just(Op::Discard),
        1 => Just(Op::Blank),
        1 => Just(Op::EmptyArray),
        1 => (65_000..140_000_usize).prop_map(Op::Large),
        1 => (0..9_u8).prop_map(Op::SilentGet),
        1 => (0..4_u8).prop_map(Op::Select),
        1 => Just(Op::SelectBadly),
    ]
}

/// A Redis with just enough sense to answer, and to say whether the pipeline it saw was sound.
#[derive(Default)]
struct Redis {
    multi: Option<u32>,
    /// One before 6.2, where an EXEC with arguments spoils the transaction and does not end it.
    old: bool,
    spoilt: bool,
}

impl Redis {
    fn of(old: bool) -> Self {
        Self { old, ..Self::default() }
    }

    fn answer(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let name = words[0].to_ascii_uppercase();
        match (&name[..], self.multi) {
            (b"MULTI", Some(_)) => b"-ERR MULTI calls can not be nested\r\n".to_vec(),
            (b"MULTI", None) => {
                self.multi = Some(0);
                b"+OK\r\n".to_vec()
            }
            (b"EXEC", _) if words.len() > 1 && self.old => {
                self.spoilt = self.multi.is_some();
                b"-ERR wrong number of arguments for 'exec' command\r\n".to_vec()
            }
            (b"EXEC", _) if words.len() > 1 => {
                self.multi = None;
                // It is worded so outside a transaction too (`tests/oracle.rs`).
                b"-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n"
                    .to_vec()
            }
            (b"EXEC", None) => b"-ERR EXEC without MULTI\r\n".to_vec(),
            (b"EXEC", Some(_)) if std::mem::take(&mut self.spoilt) => {
                self.multi = None;
                b"-EXECABORT Transaction discarded because of previous errors.\r\n".to_vec()
            }
            (b"EXEC", Some(queued)) => {
                self.multi = None;
                let mut out = format!("*{queued}\r\n").into_bytes();
                out.extend(b"+OK\r\n".repeat(queued as usize));
                out
            }
            (b"DISCARD", None) => b"-ERR DISCARD without MULTI\r\n".to_vec(),
            (b"DISCARD", Some(_)) => {
                self.multi = None;
                self.spoilt = false;
                b"+OK\r\n".to_vec()
            }
            (_, Some(queued)) => {
                self.multi = Some(queued + 1);
                b"+QUEUED\r\n".to_vec()
            }
            (b"GET", None) => format!("${}\r\n{}\r\n", words[1].len(), String::from_utf8_lossy(words[1])).into_bytes(),
            (b"INCR", None) => b":1\r\n".to_vec(),
            (b"SET" | b"SELECT", None) => b"+OK\r\n".to_vec(),
            _ => panic!("Redis was sent {name:?}"),
        }
    }
}

/// What a client must see, and how many command records there must be, told without any of the session's code.
fn expected(ops: &[Op], old: bool) -> (Vec<u8>, usize) {
    let mut redis = Redis::of(old);
    let (mut down, mut records, mut dirty, mut multi) = (Vec::new(), 0, false, false);
    for op in ops {
        records += 1;
        let bytes = op.bytes();
        match op {
            Op::Blank | Op::EmptyArray => records -= 1,
            Op::Denied | Op::Unknown | Op::SelectBadly => {
                down.extend_from_slice(match op {
                    Op::Denied => b"-NOPERM this user has no permissions to run the 'flushall' command\r\n",
                    Op::Unknown => b"-NOPERM this user has no permissions to run the 'NOSUCH' command\r\n",
                    _ => &b"-ERR value is not an integer or out of range\r\n"[..],
                });
                dirty |= multi;
            }
            Op::ExecWithArguments => {
                down.extend(redis.answer(&[b"EXEC", b"x"]));
                (multi, dirty) = if old { (multi, dirty) } else { (false, false) };
            }
            Op::Exec if multi && dirty => {
                redis.answer(&[b"DISCARD"]);
                down.extend_from_slice(b"-EXECABORT Transaction discarded because of previous errors.\r\n");
                (multi, dirty) = (false, false);
            }
            Op::SilentGet(key) => {
                records += 1;
                if multi {
                    // CLIENT REPLY is refused inside a transaction, so nothing is silent.
                    down.extend_from_slice(b"-ERR Command not allowed inside a transaction\r\n");
                    dirty = true;
                    down.extend(redis.answer(&[b"GET", format!("k{key}").as_bytes()]));
                } else {
                    redis.answer(&[b"GET", b"k"]);
                }
            }
            Op::Get(_) | Op::Incr(_) | Op::Multi | Op::Exec | Op::Discard | Op::Large(_) | Op::Select(_) => {
                down.extend(each_command(&bytes, |words| redis.answer(words)));
                match op {
                    Op::Multi if !multi => (multi, dirty) = (true, false),
                    Op::Exec | Op::Discard => (multi, dirty) = (false, false),
                    _ => {}
                }
            }
        }
    }
    (down, records)
}

/// Answers every command in `bytes`, which must be nothing but whole commands in canonical encoding.
fn each_command(bytes: &[u8], mut answer: impl FnMut(&[&[u8]]) -> Vec<u8>) -> Vec<u8> {
    let limits = RequestLimits { words_max: 1024, bulk_max: 1 << 20, blanks_max: 0, inline: false };
    let mut parser = RequestParser::new(limits);
    let (mut at, mut out) = (0, Vec::new());
    while at < bytes.len() {
        let Ok(Request::Command { len }) = parser.next(&bytes[at..]) else {
            panic!("not whole commands: {:?}", String::from_utf8_lossy(&bytes[at..]))
        };
        let words: Vec<&[u8]> = parser.words(&bytes[at..]).iter().collect();
        out.extend(answer(&words));
        at += len;
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_commands_in_any_pieces_are_answered_in_order_and_recorded_once(
        ops in prop::collection::vec(op(), 1..40),
        client_cuts in prop::collection::vec(1..400_usize, 1..8),
        redis_cuts in prop::collection::vec(1..60_usize, 1..8),
        lag in 0..6_usize,
        old in any::<bool>(),
    ) {
        let mut script = Script::new();
        let bytes: Vec<u8> = ops.iter().flat_map(Op::bytes).collect();
        let (down, records) = expected(&ops, old);
        play(&mut script, &bytes, &Pieces { client: &client_cuts, redis: &redis_cuts, lag }, Redis::of(old));
        script.down(&down);
        let seen = script.records().iter().filter(|record| record["event"] == "command").count();
        prop_assert_eq!(seen, records);
        let sequence: Vec<u64> = script.records().iter().filter_map(|record| record["seq"].as_u64()).collect();
        prop_assert!(sequence.windows(2).all(|pair| pair[1] == pair[0] + 1), "{:?}", sequence);
        script.client_end(true).closed("client-closed", End::Flush);
    }

    /// Where words might be shown, every command goes the long way, and where there is a limit in time, its reply too; that
    /// these are no command's, and the limit out of reach, changes nothing else.
    #[test]
    fn the_short_way_of_plain_commands_is_the_long_way(
        ops in prop::collection::vec(op(), 1..40),
        client_cuts in prop::collection::vec(1..400_usize, 1..8),
        redis_cuts in prop::collection::vec(1..60_usize, 1..8),
        lag in 0..6_usize,
        show_keys in any::<bool>(),
        unanswered_max in prop_oneof![100..3_000_usize, Just(1 << 20)],
    ) {
        let bytes: Vec<u8> = ops.iter().flat_map(Op::bytes).collect();
        let mut setups = [Setup::default(), Setup::default(), Setup::default()];
        setups[1].config.values =
            Some(Arc::new(Values { roles: Vec::new(), commands: Some(Commands::new([])), bytes_max: 64 }));
        setups[2].rates = vec![Limit {
            measure: Measure::Commands,
            per_second: NonZeroU64::new(1 << 40).unwrap(),
            burst_us: 1_000_000,
            of: Vec::new(),
            over: Over::Refuse,
            per: Per::Connection,
        }];
        let [short, long, longer] = setups.map(|mut setup| {
            setup.config.show_keys = show_keys;
            setup.config.unanswered_max = unanswered_max;
            let mut script = Script::with(setup);
            play(&mut script, &bytes, &Pieces { client: &client_cuts, redis: &redis_cuts, lag }, Redis::of(false));
            (script.client_end(true).records().to_vec(), String::from_utf8_lossy(&script.down).into_owned())
        });
        prop_assert_eq!(&short, &long);
        prop_assert_eq!(short, longer);
    }

    #[test]
    fn pushes_at_any_boundary_stay_whole_and_shift_no_reply(
        ops in prop::collection::vec(op(), 1..30),
        redis_cuts in prop::collection::vec(1..40_usize, 1..8),
        pushes in prop::collection::vec((0..4_usize, 0..120_usize), 1..20),
        old in any::<bool>(),
    ) {
        let mut script = Script::new();
        script.say("HELLO 3").redis(b"%1\r\n+proto\r\n:3\r\n").forget().up.clear();
        script.down.clear();
        let (down, records) = expected(&ops, old);
        let mut redis = Redis::of(old);
        let mut told: Vec<u8> = Vec::new();
        let mut feed = Vec::new();
        for (turn, op) in ops.iter().enumerate() {
            script.client(&op.bytes());
            let whole = whole_commands(&script.up);
            let gone_up: Vec<u8> = script.up.drain(..whole).collect();
            feed.extend(each_command(&gone_up, |words| redis.answer(words)));
            let (kind, size) = pushes[turn % pushes.len()];
            if kind == 0 {
                let push = push(size);
                feed.extend_from_slice(&push);
                told.extend_from_slice(&push);
            }
            let cut = redis_cuts[turn % redis_cuts.len()].min(feed.len());
            let piece: Vec<u8> = feed.drain(..cut).collect();
            script.redis(&piece);
        }
        // Behind a denial nothing may wait in the client's direction once Redis has said everything.
        let mut turn = 0;
        while !feed.is_empty() || !script.up.is_empty() {
            let whole = whole_commands(&script.up);
            let gone_up: Vec<u8> = script.up.drain(..whole).collect();
            feed.extend(each_command(&gone_up, |words| redis.answer(words)));
            let cut = redis_cuts[turn % redis_cuts.len()].min(feed.len());
            let piece: Vec<u8> = feed.drain(..cut).collect();
            script.redis(&piece);
            turn += 1;
        }
        let (seen_pushes, seen_replies) = frames(&script.down);
        prop_assert_eq!(String::from_utf8_lossy(&seen_pushes), String::from_utf8_lossy(&told));
        prop_assert_eq!(String::from_utf8_lossy(&seen_replies), String::from_utf8_lossy(&down));
        let seen = script.records().iter().filter(|record| record["event"] == "command").count();
        prop_assert_eq!(seen, records);
    }

    #[test]
    fn random_bytes_never_go_up_unless_they_are_commands(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut script = Script::new();
        script.up.clear();
        script.client(&bytes);
        let whole = whole_commands(&script.up);
        prop_assert_eq!(whole, script.up.len());
    }

    #[test]
    fn random_bytes_from_redis_never_reach_a_second_reply(bytes in prop::collection::vec(any::<u8>(), 1..300)) {
        let mut script = Script::new();
        script.say("GET a").forget().redis(&bytes).client_end(false);
        prop_assert!(script.wants().done);
        script.records();
    }
}

/// In which pieces bytes come, and how many turns Redis takes to answer.
struct Pieces<'a> {
    client: &'a [usize],
    redis: &'a [usize],
    lag: usize,
}

/// Says all of `bytes` to the session, and to it what Redis answers, until both have nothing more to say.
fn play(script: &mut Script, bytes: &[u8], pieces: &Pieces<'_>, mut redis: Redis) {
    script.forget().up.clear();
    let (mut from_client, mut held_up, mut from_redis) = (bytes, Vec::new(), Vec::new());
    let mut turn = 0;
    while !from_client.is_empty() || !script.up.is_empty() || !from_redis.is_empty() {
        // Large values go in larger pieces, or the test would take minutes.
        let scale = if from_client.len() > 50_000 { 200 } else { 1 };
        let cut = (pieces.client[turn % pieces.client.len()] * scale).min(from_client.len());
        let (piece, rest) = from_client.split_at(cut);
        script.client(piece);
        from_client = rest;
        held_up.append(&mut script.up);
        if turn % (pieces.lag + 1) == pieces.lag || from_client.is_empty() {
            let whole = whole_commands(&held_up);
            from_redis.extend(each_command(&held_up[..whole], |words| redis.answer(words)));
            held_up.drain(..whole);
        }
        let cut = pieces.redis[turn % pieces.redis.len()].min(from_redis.len());
        let answer: Vec<u8> = from_redis.drain(..cut).collect();
        script.redis(&answer);
        turn += 1;
    }
    assert!(held_up.is_empty(), "something incomplete went up");
}

/// A message of a payload of so many bytes.
fn push(size: usize) -> Vec<u8> {
    let payload = "m".repeat(size);
    format!(">3\r\n$7\r\nmessage\r\n$1\r\na\r\n${size}\r\n{payload}\r\n").into_bytes()
}

/// The pushes and the replies among these frames, each in their order.
fn frames(mut bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut scanner = ReplyScanner::new(ReplyLimits { line_max: 1 << 16, bulk_max: 1 << 20, elements_max: 1 << 20 });
    let (mut pushes, mut replies) = (Vec::new(), Vec::new());
    while !bytes.is_empty() {
        let Ok(Progress::Piece { len, last: true, .. }) = scanner.next(bytes) else {
            panic!("not whole frames: {:?}", String::from_utf8_lossy(bytes))
        };
        let into = if scanner.frame().class == Class::Push { &mut pushes } else { &mut replies };
        into.extend_from_slice(&bytes[..len]);
        bytes = &bytes[len..];
    }
    (pushes, replies)
}

fn whole_commands(bytes: &[u8]) -> usize {
    let limits = RequestLimits { words_max: 1024, bulk_max: 1 << 20, blanks_max: 0, inline: false };
    let mut parser = RequestParser::new(limits);
    let mut at = 0;
    while let Ok(Request::Command { len }) = parser.next(&bytes[at..]) {
        at += len;
    }
    at
}
