//! The questions.

use super::dialogue::{Dialogue, REPLY, REQUEST, facts, hand_over, peer, start};
use ravelin::{
    audit::{
        arguments::HashKey,
        chain::{Chain, ChainId, Reason},
        filter::{Events, Filter, Wish},
        outlet::{Arguments, Plan, Shape},
        record::{CommandRecord, Context, KeyList, Name, Outcome, Recorder},
    },
    command::{CommandId, Resolved, catalog},
    policy::{
        Verdict,
        rules::{Policy, Question, Spec},
    },
    resp::{
        encode,
        reply::{Class, Progress, ReplyScanner},
        request::{Request, RequestParser},
    },
};
use std::{hint::black_box, sync::Arc};

/// One question.
pub struct Case {
    pub name: &'static str,
    pub question: &'static str,
    /// Commands (or replies, lookups, records) in one pass.
    pub commands: u64,
    /// As how many commands one of them counts where long runs are avoided.
    pub weight: u64,
    /// Whether our limit for one command in the core applies.
    pub limited: bool,
    /// Does so many passes.
    pub run: Box<dyn FnMut(u64)>,
}

/// A key as load generators and applications have them: 16 bytes.
const KEY: &str = "key:000000000042";

/// Those of the cases whose name is wanted, in the order in which they are shown. The others are not even prepared: under
/// valgrind the fifty policies of some take longer than all that is counted.
pub fn all(wanted: impl Fn(&str) -> bool) -> Vec<Case> {
    let get = command(&["GET", KEY]);
    let set = command(&["SET", KEY, &"v".repeat(64)]);
    let denied = command(&["FLUSHALL"]);
    let mut cases = Vec::new();
    let mut add = |name, question, make: &dyn Fn(&'static str, &'static str) -> Case| {
        if wanted(name) {
            cases.push(make(name, question));
        }
    };
    add("parse-get", "one GET", &|n, q| parse(n, q, get.repeat(1), 1));
    add("parse-get-x16", "16 GETs in one read", &|n, q| parse(n, q, get.repeat(16), 16));
    add("parse-set-16k", "one SET of 16 KiB", &|n, q| parse(n, q, command(&["SET", KEY, &"v".repeat(16 << 10)]), 1));
    add("parse-get-bytewise", "one GET in 1-byte chunks", &|n, q| parse_bytewise(n, q, get.clone()));
    add("resolve-get", "catalog: a command's row", &|n, q| resolve(n, q, &["GET", KEY]));
    add("resolve-config-set", "catalog: a subcommand's row", &|n, q| resolve(n, q, &["CONFIG", "SET"]));
    add("resolve-unknown", "catalog: no such command", &|n, q| resolve(n, q, &["FT.SEARCH", "index"]));
    add("judge-get", "policy: the verdict on a known command", &judge);
    add("judge-acl-get", "policy: 50 roles of 30 ACL rules, a GET of a key that the last pattern allows", &|n, q| {
        judge_acl(n, q, &["GET", "app:orders:17"])
    });
    add("judge-acl-deny", "policy: the same, a GET of a key that no pattern allows", &|n, q| {
        judge_acl(n, q, &["GET", "secret:orders:17"])
    });
    add("judge-acl-set", "policy: the same, a SET with EX", &|n, q| {
        judge_acl(n, q, &["SET", "app:orders:17", "v", "EX", "60"])
    });
    add("judge-acl-mget", "policy: the same, an MGET of 4 keys", &|n, q| {
        judge_acl(n, q, &["MGET", "app:a", "app:b", "app:c", "app:d"])
    });
    add("judge-acl-publish", "policy: the same, a PUBLISH", &|n, q| judge_acl(n, q, &["PUBLISH", "events:app:1", "m"]));
    add("scan-bulk-64", "a 64-byte bulk", &|n, q| scan(n, q, bulk(64)));
    add("scan-bulk-16k", "a 16 KiB bulk", &|n, q| scan(n, q, bulk(16 << 10)));
    add("scan-array-1000", "an array of 1,000 10-byte bulks", &|n, q| Case { weight: 100, ..scan(n, q, array(1000)) });
    add("scan-bulk-64-bytewise", "a 64-byte bulk in 1-byte chunks", &|n, q| scan_bytewise(n, q, bulk(64)));
    add("record-get", "render one GET's audit line", &|n, q| record(n, q, &[], None));
    add("record-get-compact", "the same, in the compact shape", &|n, q| record(n, q, &[compact()], None));
    add("record-get-hashed", "the same, full, its key hashed", &|n, q| record(n, q, &[hashed()], None));
    add("record-get-chained", "the same, with the chain over it", &|n, q| {
        record(n, q, &[], Some(Chain::new("file", ChainId([0; 8]), None)))
    });
    add("record-get-passed-over", "the same, for an output that takes denials only", &|n, q| {
        record(n, q, &[denials()], None)
    });
    add("record-get-twice", "the same, for two outputs, full and compact", &|n, q| {
        record(n, q, &[Plan::default(), compact()], None)
    });
    let value = bulk(64);
    add("session-get", "GET and reply, a turn each way", &|n, q| session(n, q, &[], &get, &value, 1));
    add("session-get-x16", "the same, 16 in a turn", &|n, q| session(n, q, &[], &get, &value, 16));
    add("session-get-unaudited", "the same for an output that takes denials only", &|n, q| {
        session(n, q, &[denials()], &get, &value, 1)
    });
    add("session-get-unaudited-x16", "the same, 16 in a turn", &|n, q| session(n, q, &[denials()], &get, &value, 16));
    add("session-get-compact", "GET and reply, compact lines", &|n, q| session(n, q, &[compact()], &get, &value, 1));
    add("session-get-compact-x16", "the same, 16 in a turn", &|n, q| session(n, q, &[compact()], &get, &value, 16));
    add("session-get-outputs", "GET and reply, four outputs: full, compact, hashed, denials only", &|n, q| {
        session(n, q, &[Plan::default(), compact(), hashed(), denials()], &get, &value, 1)
    });
    add("session-set", "SET of 64 bytes and +OK", &|n, q| session(n, q, &[], &set, b"+OK\r\n", 1));
    add("session-set-x16", "the same, 16 in a turn", &|n, q| session(n, q, &[], &set, b"+OK\r\n", 16));
    add("session-get-16k", "GET and 16 KiB reply", &|n, q| session(n, q, &[], &get, &bulk(16 << 10), 1));
    add("session-denied", "FLUSHALL, denied here", &|n, q| session_denied(n, q, &denied, 1));
    add("session-denied-x16", "the same, 16 in a turn", &|n, q| session_denied(n, q, &denied, 16));
    add("session-mixed-x16", "15 GETs around one FLUSHALL", &|n, q| session_mixed(n, q, &get, &denied));
    add("session-multi", "MULTI, 4 GETs, EXEC in a turn, per command", &|n, q| session_multi(n, q, &get));
    add("session-get-bytewise", "GET and reply in 1-byte chunks", &|n, q| session_bytewise(n, q, &get, &value));
    cases
}

fn compact() -> Plan {
    Plan { shape: Shape::Compact, ..Plan::default() }
}

fn hashed() -> Plan {
    let key = HashKey::new(&[b'k'; 32]).map(Arc::new);
    Plan { arguments: Arguments::Hashed, hash_key: key, ..Plan::default() }
}

/// The least there is to audit: what a command costs without the record of it.
fn denials() -> Plan {
    let wish = Wish { events: Events::Denied, ..Wish::default() };
    Plan { filter: Some(Filter::new(wish)), ..Plan::default() }
}

fn command(words: &[&str]) -> Vec<u8> {
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    let mut out = Vec::new();
    encode::command(&mut out, &words);
    out
}

fn bulk(length: usize) -> Vec<u8> {
    let mut out = Vec::new();
    encode::bulk(&mut out, &vec![b'v'; length]);
    out
}

fn array(elements: usize) -> Vec<u8> {
    let mut out = Vec::new();
    encode::array(&mut out, elements);
    (0..elements).for_each(|_| encode::bulk(&mut out, b"0123456789"));
    out
}

fn case(name: &'static str, question: &'static str, commands: u64, mut pass: impl FnMut() + 'static) -> Case {
    let run = Box::new(move |passes: u64| (0..passes).for_each(|_| pass()));
    Case { name, question, commands, weight: 1, limited: false, run }
}

fn limited(case: Case) -> Case {
    Case { limited: true, ..case }
}

fn parse(name: &'static str, question: &'static str, input: Vec<u8>, commands: u64) -> Case {
    let mut parser = RequestParser::new(REQUEST);
    case(name, question, commands, move || {
        let mut rest = black_box(input.as_slice());
        while !rest.is_empty() {
            let Ok(Request::Command { len }) = parser.next(rest) else { panic!("{name}: no command") };
            black_box(parser.words(rest));
            rest = &rest[len..];
        }
    })
}

fn parse_bytewise(name: &'static str, question: &'static str, input: Vec<u8>) -> Case {
    let mut parser = RequestParser::new(REQUEST);
    case(name, question, 1, move || {
        let input = black_box(input.as_slice());
        for end in 1..input.len() {
            assert_eq!(parser.next(&input[..end]), Ok(Request::More));
        }
        assert_eq!(parser.next(input), Ok(Request::Command { len: input.len() }));
    })
}

fn resolve(name: &'static str, question: &'static str, words: &[&str]) -> Case {
    let input = command(words);
    let mut parser = RequestParser::new(REQUEST);
    assert_eq!(parser.next(&input), Ok(Request::Command { len: input.len() }));
    case(name, question, 1, move || {
        let resolved = catalog::resolve(&parser.words(black_box(&input)));
        assert!(!matches!(black_box(resolved), Resolved::More | Resolved::NotAName));
    })
}

fn judge(name: &'static str, question: &'static str) -> Case {
    let peer = peer();
    let id = id("get");
    case(name, question, 1, move || {
        black_box(peer.policy().judge(black_box(id)));
    })
}

/// Fifty roles of thirty rules each, asked in turn, so that no role's rules are the only ones in the cache: as a session
/// asks, the name first and the words behind it.
fn judge_acl(name: &'static str, question: &'static str, words: &[&str]) -> Case {
    let policies: Vec<Policy> = (0..50)
        .map(|role| {
            let patterns: String = (0..14).map(|at| format!(" ~role{role}:{at}:*")).collect();
            let channels: String = (0..4).map(|at| format!(" &role{role}:{at}")).collect();
            let rules = format!(
                "+@all -@dangerous -@admin -@scripting -keys -config +config|get +@connection -select +select|0{patterns} \
                 %R~shared:* ~app:*{channels} &events:*"
            );
            Policy::build(&Spec { deny: &["preset:hardened"], rules: Some(&rules), ..Spec::default() }).unwrap()
        })
        .collect();
    let input = command(words);
    let mut parser = RequestParser::new(REQUEST);
    assert_eq!(parser.next(&input), Ok(Request::Command { len: input.len() }));
    let Resolved::Known(id) = catalog::resolve(&parser.words(&input)) else { panic!("{name}") };
    let mut scratch = Vec::new();
    let mut next = 0;
    case(name, question, 1, move || {
        let policy = &policies[next];
        next = if next == 49 { 0 } else { next + 1 };
        let words = parser.words(black_box(&input));
        let mut verdict = policy.judge(black_box(id));
        if verdict == Verdict::Allow && policy.asks_words(id) {
            verdict = policy.judge_words(&Question { id, words: &words, db: 0, own_id: None }, &mut scratch);
        }
        black_box(verdict);
    })
}

fn id(name: &str) -> CommandId {
    catalog::by_full_name(name).expect("the catalog has it")
}

fn scan(name: &'static str, question: &'static str, input: Vec<u8>) -> Case {
    let mut scanner = ReplyScanner::new(REPLY);
    case(name, question, 1, move || {
        let Ok(Progress::Piece { len, last: true, .. }) = scanner.next(black_box(&input)) else {
            panic!("{name}: no whole reply")
        };
        assert_eq!(len, input.len());
    })
}

/// What was passed on is not offered again, as a shell does it: what waits is offered longer.
fn scan_bytewise(name: &'static str, question: &'static str, input: Vec<u8>) -> Case {
    let mut scanner = ReplyScanner::new(REPLY);
    case(name, question, 1, move || {
        let input = black_box(input.as_slice());
        let mut passed = 0;
        for end in 1..=input.len() {
            match scanner.next(&input[passed..end]) {
                Ok(Progress::Piece { len, last, .. }) => {
                    passed += len;
                    assert_eq!(last, passed == input.len());
                }
                Ok(Progress::More) => {}
                Err(error) => panic!("{name}: {error:?}"),
            }
        }
        assert_eq!(passed, input.len());
    })
}

/// The chain is fed blocks, as the sink feeds it, with a checkpoint after each sixteenth.
fn record(name: &'static str, question: &'static str, plans: &[Plan], mut chain: Option<Chain>) -> Case {
    let (facts, mut now) = (facts(), start());
    let mut recorder = Recorder::with_outlets(0, 4 << 20, plans);
    let mut keys = Vec::new();
    KeyList::push(&mut keys, KEY.as_bytes(), 1024);
    let (get, mut blocks) = (id("get"), 0_u64);
    case(name, question, 1, move || {
        let record = CommandRecord {
            name: Name::Known(get),
            db: 0,
            argc: 2,
            keys: KeyList { bytes: &keys, total: 1, undeterminable: false, script: None, arguments: None },
            context: Context::TopLevel,
            tx: None,
            rule: None,
            shadow: None,
            local: false,
            outcome: Outcome::Ran,
            class: Some(Class::Bulk),
            error: None,
            elements: None,
            bytes_in: 36,
            bytes_out: 71,
            us: Some(112),
        };
        now = now.plus_us(10);
        recorder.command(now, &facts, black_box(&record));
        for outlet in recorder.outlets() {
            hand_over(outlet, |block| {
                let Some(chain) = &mut chain else { return };
                chain.append(black_box(block));
                blocks += 1;
                if blocks % 16 == 0 {
                    let line = chain.render(now.wall_us, &Reason::Interval, true);
                    chain.seal(black_box(&line));
                }
            });
        }
    })
}

/// Commands that go up as they came, and replies that come down as they came.
fn session(
    name: &'static str,
    question: &'static str,
    plans: &[Plan],
    request: &[u8],
    reply: &[u8],
    commands: usize,
) -> Case {
    let (requests, replies) = (request.repeat(commands), reply.repeat(commands));
    let mut dialogue = Dialogue::new(plans);
    assert_eq!(dialogue.client_step(&requests).up, requests, "{name}: what goes up");
    assert_eq!(dialogue.redis_step(&replies).down, replies, "{name}: what comes down");
    limited(case(name, question, commands as u64, move || {
        assert_eq!(dialogue.client(black_box(&requests)), requests.len());
        assert_eq!(dialogue.redis(black_box(&replies)), replies.len());
    }))
}

fn session_denied(name: &'static str, question: &'static str, request: &[u8], commands: usize) -> Case {
    let requests = request.repeat(commands);
    let mut dialogue = Dialogue::new(&[]);
    let step = dialogue.client_step(&requests);
    assert!(step.up.is_empty() && step.down.starts_with(b"-NOPERM "), "{name}: denied");
    limited(case(name, question, commands as u64, move || {
        assert_eq!(dialogue.client(black_box(&requests)), requests.len());
    }))
}

/// A denial in the middle of a pipeline: what goes up has a gap, what comes down has a reply put between.
fn session_mixed(name: &'static str, question: &'static str, get: &[u8], denied: &[u8]) -> Case {
    let requests = [get.repeat(7), denied.to_vec(), get.repeat(8)].concat();
    let replies = bulk(64).repeat(15);
    let mut dialogue = Dialogue::new(&[]);
    assert_eq!(dialogue.client_step(&requests).up, get.repeat(15), "{name}: what goes up");
    assert!(dialogue.redis_step(&replies).down.len() > replies.len(), "{name}: what comes down");
    limited(case(name, question, 16, move || {
        assert_eq!(dialogue.client(black_box(&requests)), requests.len());
        assert_eq!(dialogue.redis(black_box(&replies)), replies.len());
    }))
}

fn session_multi(name: &'static str, question: &'static str, get: &[u8]) -> Case {
    let requests = [command(&["MULTI"]), get.repeat(4), command(&["EXEC"])].concat();
    let mut replies = [&b"+OK\r\n"[..], &b"+QUEUED\r\n".repeat(4)].concat();
    encode::array(&mut replies, 4);
    replies.extend(bulk(64).repeat(4));
    let mut dialogue = Dialogue::new(&[]);
    assert_eq!(dialogue.client_step(&requests).up, requests, "{name}: what goes up");
    assert_eq!(dialogue.redis_step(&replies).down, replies, "{name}: what comes down");
    limited(case(name, question, 6, move || {
        assert_eq!(dialogue.client(black_box(&requests)), requests.len());
        assert_eq!(dialogue.redis(black_box(&replies)), replies.len());
    }))
}

/// Every byte is a turn of its own; unconsumed bytes are offered again, as a shell does it.
fn session_bytewise(name: &'static str, question: &'static str, request: &[u8], reply: &[u8]) -> Case {
    let (request, reply) = (request.to_vec(), reply.to_vec());
    let mut dialogue = Dialogue::new(&[]);
    case(name, question, 1, move || {
        let mut taken = 0;
        (1..=request.len()).for_each(|end| taken += dialogue.client(black_box(&request[taken..end])));
        assert_eq!(taken, request.len());
        taken = 0;
        (1..=reply.len()).for_each(|end| taken += dialogue.redis(black_box(&reply[taken..end])));
        assert_eq!(taken, reply.len());
    })
}
