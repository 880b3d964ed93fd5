//! What a checkpoint's line says, byte for byte, and what may be said of it afterwards.

use super::{
    chain::{Chain, ChainId, Checkpoint, FRONT, Reason, Told, Unproven},
    counters::Mark,
    encode::MAX_LINE,
    keys::{Hash, SignKey},
};
use serde_json::Value;

const WALL: u64 = 1_795_209_003_412_345;
/// A key whose private half is 32 times 0x2a, so that the signature below stands for ever.
const KEY: [u8; 48] = {
    let mut der = [0x2a; 48];
    let head = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    let mut at = 0;
    while at < head.len() {
        der[at] = head[at];
        at += 1;
    }
    der
};

fn chain(key: Option<SignKey>) -> Chain {
    Chain::new("file", ChainId([0xab, 0, 1, 2, 3, 4, 5, 6]), key)
}

fn seal(chain: &mut Chain, reason: &Reason) -> Vec<u8> {
    let line = chain.render(WALL, reason, true);
    chain.seal(&line);
    line
}

fn text(line: &[u8]) -> &str {
    std::str::from_utf8(line).unwrap()
}

/// The text up to `,"sha256":`, as the documentation tells an auditor to take it.
fn front(line: &[u8]) -> &[u8] {
    text(line).split_once(",\"sha256\":").unwrap().0.as_bytes()
}

const START: Reason = Reason::Start { before: None, after: None };

#[test]
fn a_checkpoint_reads_as_the_documentation_says() {
    let mut chain = chain(None);
    let first = seal(&mut chain, &START);
    let expected = concat!(
        r#"{"v":1,"event":"checkpoint","ts":"2026-11-20T21:10:03.412345Z","output":"file","#,
        r#""chain":"ab00010203040506","n":1,"reason":"start","bytes":0,"lines":0,"pens":[]"#,
    );
    assert_eq!(text(&first), format!("{expected},\"sha256\":\"{}\"}}\n", Hash::of(expected.as_bytes()).hex()));

    chain.append(b"one\ntwo\nthr");
    chain.append(b"ee\n");
    chain.mark(0, Mark { lines: 0, last_seq: 5, filtered: 2, dropped: 1 });
    chain.mark(3, Mark { lines: 0, last_seq: 7, filtered: 0, dropped: 0 });
    let second = seal(&mut chain, &Reason::Interval);
    let bytes = first.len() + 14;
    let tail = format!(
        r#""n":2,"reason":"interval","bytes":{bytes},"lines":3,"pens":[{{"w":0,"seq":5,"filtered":2,"dropped":1}},{{"w":3,"seq":7,"filtered":0,"dropped":0}}],"sha256":"#
    );
    assert!(text(&second).contains(&tail), "{}", text(&second));
    let range = [&first[..], b"one\ntwo\nthree\n", front(&second)].concat();
    assert!(text(&second).contains(&Hash::of(&range).hex()));

    // What has been told is not told again, and what has moved is.
    chain.mark(0, Mark { lines: 0, last_seq: 5, filtered: 2, dropped: 1 });
    chain.mark(3, Mark { lines: 0, last_seq: 8, filtered: 0, dropped: 0 });
    let third = Checkpoint::parse(&seal(&mut chain, &Reason::Stop)).unwrap();
    assert_eq!(third.pens.unwrap(), [Told { w: 3, seq: 8, filtered: 0, dropped: 0 }]);
}

#[test]
fn a_signature_is_over_the_line_up_to_itself_and_always_the_same() {
    let key = SignKey::from_pkcs8(&KEY).unwrap();
    let line = seal(&mut chain(Some(key.clone())), &START);
    let checkpoint = Checkpoint::parse(&line).unwrap();
    let (signed, _) = text(&line).split_once(",\"sig\":").unwrap();
    assert_eq!(checkpoint.signed(), signed.as_bytes());
    assert!(key.public().verifies(signed.as_bytes(), &checkpoint.signature.unwrap()[..]));
    assert_eq!(checkpoint.key.unwrap(), key.public().id());
    assert_eq!(line, seal(&mut chain(Some(key)), &START), "Ed25519 needs no random numbers");
}

#[test]
fn a_checkpoint_that_was_not_written_whole_is_covered_like_any_other_bytes() {
    let mut chain = chain(None);
    let first = seal(&mut chain, &START);
    let torn = chain.render(WALL, &Reason::Rotate, true);
    chain.append(&torn[..40]);
    let next = seal(&mut chain, &Reason::Open);
    assert!(text(&next).contains("\"n\":2,\"reason\":\"open\""));
    let range = [&first[..], &torn[..40], front(&next)].concat();
    assert!(text(&next).contains(&Hash::of(&range).hex()));
}

#[test]
fn a_chain_goes_on_behind_a_checkpoint_that_was_read() {
    let mut before = chain(None);
    let first = seal(&mut before, &START);
    before.append(b"line\n");
    let mut after = Chain::behind("file", &Checkpoint::parse(&first).unwrap(), None);
    after.append(b"line\n");
    assert_eq!(seal(&mut after, &Reason::Interval), seal(&mut before, &Reason::Interval));
    assert_eq!((after.number(), after.uncovered()), (2, 0));
}

#[test]
fn more_pens_than_fit_are_told_in_turn() {
    let mut chain = chain(None);
    seal(&mut chain, &START);
    let mut told = std::collections::BTreeSet::new();
    for round in 0..4 {
        // All of them move all the time, so none may push the others out.
        for w in 0..300 {
            chain.mark(
                w,
                Mark { lines: 0, last_seq: u64::MAX - 10 + round, filtered: u64::MAX / 2, dropped: u64::MAX / 2 },
            );
        }
        let line = seal(&mut chain, &Reason::Interval);
        assert!(line.len() < MAX_LINE, "{}", line.len());
        let checkpoint = Checkpoint::parse(&line).unwrap();
        assert!(checkpoint.pens_cut);
        told.extend(checkpoint.pens.unwrap().iter().map(|pen| pen.w));
    }
    assert_eq!(told.len(), 300);
}

/// Every way a checkpoint can look.
fn all() -> Vec<Vec<u8>> {
    let key = SignKey::from_pkcs8(&KEY).unwrap();
    let mut chain = chain(Some(key));
    let head = Checkpoint::parse(&seal(&mut chain, &START)).unwrap();
    let after = Some((Box::new(head), "the file is gone"));
    (0..300).for_each(|w| chain.mark(w, Mark { lines: 0, last_seq: u64::MAX, filtered: u64::MAX, dropped: u64::MAX }));
    [
        Reason::Start { before: Some(17), after },
        Reason::Resume(Unproven { bytes: 9, lines: 1, torn: true }),
        Reason::Interval,
        Reason::Rotate,
        Reason::Reopen,
        Reason::Open,
        Reason::Stop,
    ]
    .iter()
    .map(|reason| chain.render(WALL, reason, true))
    .collect()
}

#[test]
fn the_documentation_names_every_field_and_reason_of_a_checkpoint() {
    let documentation = include_str!("mod.rs");
    for line in all() {
        let Value::Object(fields) = serde_json::from_slice(&line).unwrap() else { panic!("an object") };
        assert!(documentation.contains(&format!("`{}`", fields["reason"].as_str().unwrap())), "{fields:?}");
        let pens = fields["pens"].as_array().unwrap().iter().flat_map(|pen| pen.as_object().unwrap().keys());
        for field in fields.keys().chain(pens) {
            assert!(documentation.contains(&format!("`{field}`")), "{field} is not described");
        }
    }
}

#[test]
fn every_checkpoint_reads_back_and_no_part_of_one_does() {
    for line in all() {
        assert!(line.len() < MAX_LINE && line.starts_with(FRONT));
        assert_eq!(&*Checkpoint::parse(&line).unwrap().line, &line[..]);
        for length in (0..line.len()).step_by(97).chain([line.len() - 1]) {
            assert_eq!(Checkpoint::parse(&line[..length]), None);
        }
    }
}
