//! Strictness as a connection sees it: words that can be read in two ways are denied, and a value whose end is wrong
//! is never completed.

use super::{
    End,
    script::{Script, command},
};
use crate::resp::encode;
use proptest::prelude::*;

const NUMBER: &str = "-ERR value is not an integer or out of range\r\n";
const WORD: &str = "-ERR syntax error\r\n";

/// A command line that is denied, and the error for it.
const DENIED: &[(&str, &str)] = &[
    ("EVAL return(1) 01 k", NUMBER),
    ("FCALL f +1 k", NUMBER),
    ("ZUNIONSTORE d 02 a b", NUMBER),
    ("LMPOP 1\0 k LEFT", NUMBER),
    ("MSETEX 01 k v", NUMBER),
    ("SWAPDB 0 01", NUMBER),
    ("MOVE k +1", NUMBER),
    ("COPY a b DB 01", NUMBER),
    ("MIGRATE h 1 k 01 10", NUMBER),
    ("SELECT 01", NUMBER),
    ("SELECT 1\0", NUMBER),
    ("CLIENT TRACKING ON REDIRECT 01", NUMBER),
    ("CLIENT KILL ID +1", NUMBER),
    ("XREAD BLOCK 0x1 STREAMS k 0", NUMBER),
    ("XREADGROUP GROUP g c COUNT +1 STREAMS k >", NUMBER),
    ("SORT k STORE\0x d", WORD),
    ("SORT k STORE d STORE e", WORD),
    ("SORT k NOSUCH", WORD),
    ("GEORADIUS k 1 2 3 m STOREDIST\0 d", WORD),
    ("XREAD STREAMS\0 k 0", WORD),
    ("COPY a b REPLACE\0", WORD),
    ("CLIENT TRACKING ON\0x", WORD),
    ("CLIENT NO-EVICT on\0", WORD),
    ("SHUTDOWN NOSAVE\0", WORD),
    ("REPLICAOF NO\0 ONE", WORD),
];

#[test]
fn a_deciding_word_that_can_be_read_in_two_ways_is_denied_with_the_error_redis_has_for_it() {
    for (line, error) in DENIED {
        let mut script = Script::new();
        script.forget().say("PING").say(line).say("PING").sent(&["PING", "PING"]);
        script.redis(b"+PONG\r\n+PONG\r\n").down(format!("+PONG\r\n{error}+PONG\r\n").as_bytes());
        let denials: Vec<_> = script.records().iter().filter(|record| record["outcome"] == "denied").collect();
        assert_eq!(denials.len(), 1, "{line:?}");
        assert_eq!(denials[0]["rule"], "builtin/not-canonical", "{line:?}");
    }
}

#[test]
fn such_a_word_spoils_the_transaction_it_stands_in() {
    for (line, error) in DENIED {
        let mut script = Script::new();
        script.say("MULTI").say("SET a 1").say(line).say("EXEC").sent(&["MULTI", "SET a 1", "DISCARD"]);
        let aborted = "-EXECABORT Transaction discarded because of previous errors.\r\n";
        script.redis(b"+OK\r\n+QUEUED\r\n+OK\r\n").down(format!("+OK\r\n+QUEUED\r\n{error}{aborted}").as_bytes());
    }
}

#[test]
fn what_decides_nothing_goes_up_as_it_is() {
    for line in ["INCRBY k +1", "SET k v EX 01", "SET k v GET\0", "SORT k LIMIT +0 01", "EVAL s -1", "LRANGE k 00 -0"] {
        Script::new().say(line).sent(&[line]);
    }
}

#[test]
fn no_word_that_decides_is_passed_on_before_it_was_seen() {
    // Larger than what is forwarded only whole: judged by its first words, where they settle it.
    let large = "v".repeat(70_000);
    for (words, goes_up) in [
        (&["SET", "k", "*", "EX", "01"][..], true),
        (&["EVAL", "s", "1", "k", "*"], true),
        (&["EVAL", "s", "01", "k", "*"], false),
        (&["COPY", "a", "b", "DB", "01", "*"], false),
        (&["COPY", "a", "*", "DB\0", "1"], false),
        (&["CONFIG", "SET", "dir", "*", "save\0", ""], false),
    ] {
        let list: Vec<&[u8]> = words.iter().map(|word| if *word == "*" { &large } else { *word }.as_bytes()).collect();
        let mut bytes = Vec::new();
        encode::command(&mut bytes, &list);
        let mut script = Script::with(super::script::Setup { deny: vec!["FLUSHALL"], ..Default::default() });
        for piece in bytes.chunks(10_000) {
            script.client(piece);
        }
        script.say("PING");
        if goes_up {
            script.up(&[&bytes[..], &command("PING")].concat());
        } else {
            script.sent(&["PING"]);
        }
    }
}

/// A command large enough to be streamed: `SET key value`, with words behind it.
fn large() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let tail = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..4);
    (any::<u8>(), 66_000..150_000_usize, tail).prop_map(|(byte, len, tail)| {
        let mut words = vec![b"SET".to_vec(), b"k".to_vec(), vec![byte; len]];
        words.extend(tail);
        words
    })
}

fn encoded(words: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::command(&mut out, &words.iter().map(Vec::as_slice).collect::<Vec<_>>());
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Redis skips the two bytes behind a payload unseen; whatever stands in their place, it must never get them.
    #[test]
    fn the_end_of_a_streamed_value_is_held_back_until_its_line_end_is_seen(
        words in large(),
        which in any::<prop::sample::Index>(),
        wrong in any::<[u8; 2]>(),
        cuts in prop::collection::vec(prop_oneof![1..4_usize, 1..30_000_usize], 1..12),
        follows in prop::sample::select(vec!["", "*1\r\n$8\r\nFLUSHALL\r\n", "\r\n", "$1\r\nx\r\n"]),
    ) {
        prop_assume!(wrong != *b"\r\n");
        let which = which.index(words.len());
        let good = encoded(&words);
        // Where the payload of that word ends: its line end stands behind.
        let behind: usize = words[which + 1..].iter().map(|word| encoded(std::slice::from_ref(word)).len() - 4).sum();
        let end = good.len() - behind - 2;
        let mut bytes = good.clone();
        bytes[end..end + 2].copy_from_slice(&wrong);
        bytes.extend_from_slice(follows.as_bytes());
        // A lone CR at the end of everything may yet become a line end: it is waited for.
        let undecided = bytes.len() == end + 2 && bytes[end + 1..] == *b"\r" && wrong[0] == b'\r';
        prop_assume!(!undecided);

        let mut script = Script::new();
        script.up.clear();
        script.forget();
        let (mut rest, mut turn) = (&bytes[..], 0);
        while !rest.is_empty() {
            // The last bytes before the wrong ones come in small pieces as often as not.
            let cut = cuts[turn % cuts.len()].min(rest.len());
            script.client(&rest[..cut]);
            rest = &rest[cut..];
            turn += 1;
            prop_assert!(script.up.len() <= end, "{} bytes went up, the value ends at {end}", script.up.len());
        }
        prop_assert_eq!(&script.up[..], &good[..script.up.len()], "nothing but the beginning of the command");
        let began = !script.up.is_empty();
        prop_assert_eq!(&script.down[..], &b"-ERR Protocol error: invalid CRLF in request\r\n"[..]);
        script.closed("protocol", End::Flush);
        let outcomes: Vec<_> =
            script.records().iter().filter(|record| record["event"] == "command").map(|record| record["outcome"].clone()).collect();
        prop_assert_eq!(outcomes, vec!["incomplete"; usize::from(began)]);
    }
}
