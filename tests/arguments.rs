//! Rules about arguments, held against what a real server does with them: what CONFIG GET shows for a pattern that was
//! let through, and that the catalog of parameters is whole.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use ravelin::{
    policy::arguments::{Parameters, SECRETS},
    resp::request::{Request, RequestLimits, RequestParser},
};
use std::collections::BTreeSet;
use support::{
    redis::Redis,
    wire::{Reply, encode},
};

fn lets(parameters: &Parameters, words: &[&[u8]]) -> bool {
    let limits = RequestLimits { words_max: 64, bulk_max: 4096, blanks_max: 0, inline: false };
    let mut parser = RequestParser::new(limits);
    let bytes = encode(words);
    assert!(matches!(parser.next(&bytes), Ok(Request::Command { .. })));
    parameters.may_get(&parser.words(&bytes)).is_ok()
}

/// The names in a reply of CONFIG GET.
fn names(reply: &Reply) -> BTreeSet<String> {
    match reply {
        // A name is repeated as it was asked for.
        Reply::Array(elements) => elements.iter().step_by(2).map(|name| name.text().to_ascii_lowercase()).collect(),
        Reply::Map(pairs) => pairs.iter().map(|(name, _)| name.text().to_ascii_lowercase()).collect(),
        Reply::Error(_) => BTreeSet::new(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_parameter_of_the_server_is_in_the_catalog() {
    let all = Parameters::unlisted().with_get(&["*"]).unwrap();
    let known = all.readable().unwrap();
    let redis = Redis::start();
    let mut client = redis.connect();
    let theirs = names(&client.call(&["CONFIG", "GET", "*"]));
    assert!(theirs.len() > 50, "{theirs:?}");
    for name in &theirs {
        assert!(known.contains(&&name[..]) || SECRETS.contains(&&name[..]), "{name} is in no list");
    }
}

/// A small generator: the same patterns in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

#[test]
fn no_pattern_that_is_let_through_shows_what_is_not_allowed() {
    let redis = Redis::start();
    let mut client = redis.connect();
    let all: Vec<String> = names(&client.call(&["CONFIG", "GET", "*"])).into_iter().collect();
    let unlisted = Parameters::unlisted();
    let listed = Parameters::unlisted().with_get(&["max*", "save", "re*", "t*", "*-key-*", "dir"]).unwrap();
    let readable = listed.readable().unwrap();
    let mut dice = Dice(7);
    let (mut let_through, mut held, mut shown) = (0, 0, 0);
    for _ in 0..6000 {
        // A parameter's name, bent: letters of either case, `?`, `*`, `\`, classes, bytes lost, bytes of any kind.
        let mut pattern = all[dice.roll(all.len())].clone().into_bytes();
        for _ in 0..dice.roll(5) {
            let at = dice.roll(pattern.len().max(1));
            match dice.roll(8) {
                0 if at < pattern.len() => pattern[at] = b'?',
                1 => pattern.truncate(at),
                2 => pattern.insert(at.min(pattern.len()), b'*'),
                3 => pattern.insert(at.min(pattern.len()), b'\\'),
                4 if at < pattern.len() => {
                    let class: &[u8] = [&b"[a-z]"[..], b"[^x]", b"[a-Z]", b"[]", b"[^a-Z]", b"["][dice.roll(6)];
                    pattern.splice(at..=at, class.iter().copied());
                }
                5 if at < pattern.len() => pattern[at] = pattern[at].to_ascii_uppercase(),
                6 => pattern.push(b'*'),
                7 => pattern.insert(at.min(pattern.len()), [0, b' ', b'x', 0xff][dice.roll(4)]),
                _ => {}
            }
        }
        let words = [&b"CONFIG"[..], b"GET", &pattern];
        let showing = names(&client.call(&words));
        for (parameters, allowed) in [(&unlisted, None), (&listed, Some(&readable))] {
            if !lets(parameters, &words) {
                held += 1;
                continue;
            }
            let_through += 1;
            for name in &showing {
                shown += 1;
                let fine = allowed.map_or(!SECRETS.contains(&&name[..]), |allowed| allowed.contains(&&name[..]));
                assert!(fine, "{:?} showed {name}", pattern.escape_ascii().to_string());
            }
        }
    }
    assert!(let_through > 1000 && held > 1000 && shown > 1000, "{let_through} let through, {held} held, {shown} shown");
}
