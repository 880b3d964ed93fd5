use super::*;
use crate::audit::{
    chain::{Chain, ChainId, Reason, Unproven},
    counters::Mark,
    event::ProcessEvent,
    keys::SignKey,
    outlet::{OnFull, Plan},
    record::Recorder,
};
use crate::moment::Moment;
use aws_lc_rs::{rand::SystemRandom, signature::Ed25519KeyPair};

const NOW: Moment = Moment { mono_us: 0, wall_us: 1_795_209_003_412_345 };

pub(super) fn key() -> SignKey {
    SignKey::from_pkcs8(Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).unwrap().as_ref()).unwrap()
}

/// What a writer does, in memory: two pens, files, checkpoints.
struct Stream {
    chain: Chain,
    pens: Vec<Recorder>,
    files: Vec<Vec<u8>>,
}

impl Stream {
    fn new(key: Option<SignKey>) -> Self {
        let mut stream = Self::bare(Chain::new("file", ChainId([7; 8]), key));
        stream.checkpoint(&Reason::Start { before: Some(0), after: None });
        stream
    }

    fn bare(chain: Chain) -> Self {
        Self { chain, pens: (0..2).map(|w| Recorder::new(w, 1 << 20)).collect(), files: vec![Vec::new()] }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.files.last_mut().unwrap().extend_from_slice(bytes);
        self.chain.append(bytes);
    }

    fn lines(&mut self, w: u16, count: usize) {
        for _ in 0..count {
            let pen = &mut self.pens[usize::from(w)];
            pen.process(NOW, &ProcessEvent::Stop { reason: "test", us: 7 });
            let block = pen.outlet().take();
            self.write(&block);
        }
        let seq = self.pens[usize::from(w)].mark();
        self.chain.mark(w, Mark { lines: 0, last_seq: seq, filtered: 0, dropped: 0 });
    }

    fn checkpoint(&mut self, reason: &Reason) {
        let line = self.chain.render(NOW.wall_us, reason, true);
        self.files.last_mut().unwrap().extend_from_slice(&line);
        self.chain.seal(&line);
    }

    fn rotate(&mut self) {
        self.checkpoint(&Reason::Rotate);
        self.files.push(Vec::new());
        self.checkpoint(&Reason::Open);
    }

    /// Lines of both pens, three files, a stop.
    fn usual(key: Option<SignKey>) -> Vec<Vec<u8>> {
        let mut stream = Self::new(key);
        for _ in 0..2 {
            stream.lines(0, 3);
            stream.lines(1, 2);
            stream.checkpoint(&Reason::Interval);
            stream.lines(0, 1);
            stream.rotate();
            stream.lines(1, 1);
        }
        stream.checkpoint(&Reason::Stop);
        stream.files
    }

    fn head(&self) -> Checkpoint {
        let text = self.files.iter().rev().find(|file| !file.is_empty()).unwrap();
        text.split_inclusive(|byte| *byte == b'\n').rev().find_map(Checkpoint::parse).unwrap()
    }
}

fn verify_with(wish: Wish, files: &[Vec<u8>], piece: usize) -> Report {
    let mut verifier = Verifier::new(wish);
    for (at, file) in files.iter().enumerate() {
        verifier.begin_file(&format!("f{at}"));
        file.chunks(piece).for_each(|piece| verifier.feed(piece));
    }
    verifier.finish()
}

fn verify(files: &[Vec<u8>]) -> Report {
    verify_with(Wish::default(), files, 4096)
}

fn lines_of(file: &[u8]) -> Vec<Vec<u8>> {
    file.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// The stream with file `file` changed.
fn with(files: &[Vec<u8>], file: usize, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<Vec<u8>> {
    let mut files = files.to_vec();
    let mut lines = lines_of(&files[file]);
    change(&mut lines);
    files[file] = lines.concat();
    files
}

/// The one finding.
fn found(report: &Report) -> (Kind, String, Option<(u64, u64)>) {
    assert_eq!(report.verdict(), Verdict::Broken, "{report:#?}");
    let first = &report.findings[0];
    (first.kind, report.name(first.place), first.seq)
}

#[test]
fn a_whole_stream_is_proven_however_it_is_cut_into_pieces() {
    let files = Stream::usual(None);
    for piece in [1, 7, 64, 100_000] {
        let report = verify_with(Wish { complete: true, from_start: true, ..Wish::default() }, &files, piece);
        assert_eq!(report.verdict(), Verdict::Proven, "{report:#?}");
        assert_eq!((report.checkpoints, report.lines, report.notes.len()), (8, 22, 0));
        let segment = &report.segments[0];
        assert_eq!((segment.proven.as_ref(), segment.stopped), (Some(&segment.last), true));
        assert_eq!(report.beyond, Some(Beyond { bytes: 0, lines: 0, stopped: true }));
    }
}

#[test]
fn a_line_that_is_gone_is_named_by_its_number() {
    let files = Stream::usual(None);
    // Line 1 is the start; 2 to 4 are of pen 0, 5 and 6 of pen 1.
    let without = |at: usize| found(&verify(&with(&files, 0, |lines| drop(lines.remove(at)))));
    assert_eq!(without(2), (Kind::Missing, "f0:3".to_owned(), Some((0, 2))));
    assert_eq!(without(4), (Kind::Missing, "f0:5".to_owned(), Some((1, 1))));
    // The last of a pen's is missed where the checkpoint is.
    assert_eq!(without(5), (Kind::Missing, "f0:6".to_owned(), Some((1, 2))));
}

#[test]
fn a_line_that_was_put_in_moved_or_damaged_is_named() {
    let files = Stream::usual(None);
    let twice = verify(&with(&files, 0, |lines| lines.insert(4, lines[1].clone())));
    assert_eq!(found(&twice), (Kind::Inserted, "f0:5".to_owned(), Some((0, 1))));
    let swapped = verify(&with(&files, 0, |lines| lines.swap(1, 2)));
    assert_eq!(found(&swapped), (Kind::Moved, "f0:2".to_owned(), Some((0, 1))));
    let damaged = verify(&with(&files, 0, |lines| lines[3][0] = b'['));
    assert_eq!((found(&damaged).0, found(&damaged).1), (Kind::Changed, "f0:4".to_owned()));
    let garbage = verify(&with(&files, 0, |lines| lines.insert(4, b"\xff\xfe\n".to_vec())));
    assert_eq!(found(&garbage).1, "f0:5");
}

#[test]
fn a_word_that_was_changed_is_found_between_its_checkpoints() {
    let files = Stream::usual(None);
    let changed = with(&files, 0, |lines| {
        let text = String::from_utf8(lines[2].clone()).unwrap().replace("test", "tesT");
        lines[2] = text.into_bytes();
    });
    let report = verify(&changed);
    assert_eq!((found(&report).0, found(&report).1), (Kind::Changed, "f0:7".to_owned()));
    let finding = &report.findings[0];
    assert_eq!((report.name(finding.from.unwrap()), report.findings_total), ("f0:1".to_owned(), 1), "{report:#?}");
    assert_eq!(report.segments[0].proven.as_ref().unwrap().1, 1, "only the first checkpoint stands before it");
}

#[test]
fn every_field_of_a_checkpoint_is_covered_by_its_own_digest() {
    let files = Stream::usual(None);
    let last = files.len() - 1;
    for (from, to) in [
        ("\"n\":", "\"n\": "),
        ("\"stop\"", "\"rotate\""),
        ("\"ts\":\"2026", "\"ts\":\"2025"),
        ("\"file\"", "\"fill\""),
    ] {
        let report = verify(&with(&files, last, |lines| {
            let at = lines.len() - 1;
            let text = String::from_utf8(lines[at].clone()).unwrap();
            assert!(text.contains(from));
            lines[at] = text.replace(from, to).into_bytes();
        }));
        assert_eq!(report.verdict(), Verdict::Broken, "{from}");
    }
}

#[test]
fn a_file_that_is_missing_or_out_of_its_place_is_found() {
    let files = Stream::usual(None);
    let report = verify(&[files[0].clone(), files[2].clone()]);
    assert_eq!((found(&report).0, found(&report).1), (Kind::Missing, "f1:1".to_owned()));
    let report = verify(&[files[0].clone(), files[2].clone(), files[1].clone()]);
    assert!(report.findings.iter().any(|finding| finding.kind == Kind::Moved), "{report:#?}");
    // Old files are thrown away some day: that is no fault, unless they were asked for.
    let report = verify(&files[1..]);
    assert_eq!(report.verdict(), Verdict::Proven);
    assert!(matches!(report.notes[..], [Note::BeginsLater { n: 4, .. }]), "{report:#?}");
    let report = verify_with(Wish { from_start: true, ..Wish::default() }, &files[1..], 99);
    assert_eq!(found(&report).0, Kind::Missing);
}

#[test]
fn an_end_that_was_cut_off_is_seen_by_a_head_alone() {
    let files = Stream::usual(None);
    let head = Checkpoint::parse(lines_of(&files[2]).last().unwrap()).unwrap();
    let cut = with(&files, 2, |lines| lines.truncate(1));
    assert_eq!(verify(&cut).verdict(), Verdict::Proven, "nothing in the file itself says so");
    for anchor in [Anchor::Line(Box::new(head.clone()), "head".to_owned()), Anchor::Digest(head.sha256.to_uppercase())]
    {
        let wish = Wish { anchors: vec![anchor], ..Wish::default() };
        assert_eq!(found(&verify_with(wish.clone(), &cut, 99)).0, Kind::Head);
        assert_eq!(verify_with(wish, &files, 99).verdict(), Verdict::Proven);
    }
    let wish = Wish { complete: true, ..Wish::default() };
    assert_eq!(found(&verify_with(wish, &cut, 99)).0, Kind::Incomplete);
}

#[test]
fn the_kept_end_of_one_file_proves_that_the_next_one_follows_it() {
    let files = Stream::usual(None);
    let kept = |file: usize| {
        let last = Checkpoint::parse(lines_of(&files[file]).last().unwrap()).unwrap();
        Wish { anchors: vec![Anchor::Line(Box::new(last), "kept".to_owned())], ..Wish::default() }
    };
    assert_eq!(verify_with(kept(0), &files[1..], 99).verdict(), Verdict::Proven);
    assert_eq!(found(&verify_with(kept(0), &files[2..], 99)).0, Kind::Head);
    // One that was made anew does not follow it.
    let mut forged = Chain::behind("file", &Checkpoint::parse(lines_of(&files[0]).last().unwrap()).unwrap(), None);
    forged.append(b"x");
    let line = forged.render(NOW.wall_us, &Reason::Open, true);
    assert_eq!(found(&verify_with(kept(0), &[line], 99)).0, Kind::Head);
}

#[test]
fn signatures_are_of_the_key_or_the_checkpoint_is_named() {
    let signer = key();
    let files = Stream::usual(Some(signer.clone()));
    let by = |key: &SignKey| Wish { keys: vec![key.public().clone()], ..Wish::default() };
    let report = verify_with(by(&signer), &files, 500);
    assert_eq!((report.verdict(), report.signed, report.verified), (Verdict::Proven, 8, 8));
    let other = verify_with(by(&key()), &files, 500);
    assert_eq!((found(&other).1, other.findings_total), ("f0:1".to_owned(), 8));
    assert!(other.findings[0].text.contains(&signer.public().id()));
    let unsigned = verify_with(by(&signer), &Stream::usual(None), 500);
    assert_eq!(found(&unsigned).0, Kind::Signature);
    // Redone by somebody without the key: only the signature tells.
    let redone = Stream::usual(Some(key()));
    assert_eq!(verify(&redone).verdict(), Verdict::Proven);
    assert_eq!(found(&verify_with(by(&signer), &redone, 500)).0, Kind::Signature);
}

/// Somebody takes a line out and makes the digests anew, but not the numbers.
#[test]
fn a_line_taken_out_with_its_digest_redone_is_caught_by_the_numbers() {
    let mut stream = Stream::new(None);
    stream.lines(0, 2);
    let before = stream.files[0].len();
    stream.lines(0, 1);
    // As the forger would have written it.
    let mut forged = Chain::new("file", ChainId([7; 8]), None);
    let mut file = forged.render(NOW.wall_us, &Reason::Start { before: Some(0), after: None }, true);
    forged.seal(&file);
    let start = file.len();
    forged.append(&stream.files[0][start..before]);
    file.extend_from_slice(&stream.files[0][start..before]);
    forged.mark(0, Mark { lines: 0, last_seq: 3, filtered: 0, dropped: 0 });
    let line = forged.render(NOW.wall_us, &Reason::Stop, true);
    file.extend_from_slice(&line);
    let report = verify(&[file]);
    assert_eq!(found(&report), (Kind::Missing, "f0:4".to_owned(), Some((0, 3))));
}

#[test]
fn filtered_and_dropped_records_leave_holes_that_add_up() {
    let plan = Plan { name: "lossy".into(), on_full: OnFull::Drop, ..Plan::default() };
    let mut pen = Recorder::with_outlets(0, 1, &[plan]);
    let mut chain = Chain::new("lossy", ChainId([1; 8]), None);
    let mut file = chain.render(0, &Reason::Start { before: None, after: None }, true);
    chain.seal(&file);
    let start = file.len();
    for round in 0..4 {
        for _ in 0..1200 {
            pen.process(NOW, &ProcessEvent::Stop { reason: "test", us: round });
        }
        let block = pen.outlet().take();
        let rendered = pen.outlet().rendered();
        pen.outlet().set_written(rendered);
        file.extend_from_slice(&block);
        chain.append(&block);
        let counters = pen.outlet().counters();
        let mark = Mark { lines: 0, last_seq: pen.mark(), filtered: counters.filtered, dropped: counters.dropped };
        chain.mark(0, mark);
        let line = chain.render(0, &Reason::Interval, true);
        file.extend_from_slice(&line);
        chain.seal(&line);
    }
    assert!(pen.outlet().counters().dropped > 100 && memchr::memmem::find(&file, b"\"gap\"").is_some());
    let report = verify(&[file.clone()]);
    assert_eq!(report.verdict(), Verdict::Proven, "{report:#?}");
    // A line less, with the digests redone: the sums do not come out.
    let mut forged = Chain::new("lossy", ChainId([1; 8]), None);
    let mut line = forged.render(0, &Reason::Start { before: None, after: None }, true);
    forged.seal(&line);
    let lines = lines_of(&file[start..]);
    let end = lines.iter().position(|line| line.starts_with(FRONT)).unwrap();
    for record in &lines[1..end] {
        line.extend_from_slice(record);
        forged.append(record);
    }
    let told = Checkpoint::parse(&lines[end]).unwrap().pens.unwrap()[0];
    forged.mark(0, Mark { lines: 0, last_seq: told.seq, filtered: told.filtered, dropped: told.dropped });
    line.extend_from_slice(&forged.render(0, &Reason::Stop, true));
    let report = verify(&[line]);
    assert_eq!(found(&report).0, Kind::Missing);
    assert!(report.findings[0].text.starts_with("1 lines of pen 0 are missing"), "{report:#?}");
}

#[test]
fn a_crash_and_a_restart_say_what_had_no_checkpoint() {
    let mut stream = Stream::new(None);
    stream.lines(0, 2);
    stream.checkpoint(&Reason::Interval);
    let head = stream.head();
    stream.lines(0, 3);
    let crashed = verify(&stream.files);
    assert_eq!((crashed.verdict(), crashed.beyond.unwrap().lines), (Verdict::Proven, 3));
    let mut file = stream.files.remove(0);
    file.extend_from_slice(b"{\"v\":1,\"w\":0,\"se");
    let torn = verify(&[file.clone()]);
    assert!(torn.torn.is_some() && torn.verdict() == Verdict::Proven, "{torn:#?}");
    file.push(b'\n');
    let mut again = Stream::bare(Chain::behind("file", &head, None));
    let from = memchr::memmem::find(&file, &head.line).unwrap() + head.line.len();
    again.chain.append(&file[from..]);
    again.files = vec![file.clone()];
    let unproven = Unproven { bytes: (file.len() - from) as u64, lines: 4, torn: true };
    again.checkpoint(&Reason::Resume(unproven));
    again.lines(0, 2);
    again.lines(1, 2);
    again.checkpoint(&Reason::Stop);
    let report = verify(&again.files);
    assert_eq!(report.verdict(), Verdict::Proven, "{report:#?}");
    assert!(matches!(report.notes[..], [Note::Unproven { lines: 4, torn: true, .. }]), "{report:#?}");
    // And afterwards it is covered like everything else.
    let report = verify(&with(&again.files, 0, |lines| drop(lines.remove(5))));
    assert_eq!(report.verdict(), Verdict::Broken);
}

#[test]
fn a_file_moved_away_while_nobody_wrote_is_joined_by_its_head() {
    let mut stream = Stream::new(None);
    stream.lines(0, 2);
    stream.checkpoint(&Reason::Interval);
    let head = stream.head();
    stream.lines(0, 1);
    let mut again = Stream::bare(Chain::behind("file", &head, None));
    again.checkpoint(&Reason::Resume(Unproven::default()));
    again.lines(0, 2);
    let files = vec![stream.files.remove(0), again.files.remove(0)];
    let report = verify(&files);
    assert_eq!(report.verdict(), Verdict::Proven, "{report:#?}");
    assert!(matches!(report.notes[..], [Note::Uncovered { lines: 1, .. }]), "{report:#?}");
}

#[test]
fn nothing_may_stand_behind_a_stop() {
    let files = Stream::usual(None);
    let report = verify(&with(&files, 2, |lines| lines.push(lines[1].clone())));
    assert_eq!((found(&report).0, found(&report).1), (Kind::Inserted, "f2:4".to_owned()));
}

#[test]
fn a_new_chain_must_name_the_end_of_the_one_before_it_if_it_knows_one() {
    let mut old = Stream::new(None);
    old.lines(0, 1);
    old.checkpoint(&Reason::Interval);
    let early = old.head();
    old.lines(0, 1);
    old.checkpoint(&Reason::Interval);
    let late = old.head();
    let new = |after: Option<Checkpoint>| {
        let mut stream = Stream::bare(Chain::new("file", ChainId([8; 8]), None));
        let after = after.map(|head| (Box::new(head), "truncated"));
        stream.checkpoint(&Reason::Start { before: Some(0), after });
        stream.files.remove(0)
    };
    let whole = old.files.remove(0);
    let cut = with(std::slice::from_ref(&whole), 0, |lines| lines.truncate(3)).remove(0);
    let proven = |old: &Vec<u8>, after| verify(&[old.clone(), new(after)]);
    let report = proven(&whole, Some(late.clone()));
    assert!(matches!(report.notes[..], [Note::NewChainAfter { .. }]) && report.verdict() == Verdict::Proven);
    assert_eq!(proven(&whole, Some(early)).verdict(), Verdict::Proven);
    assert_eq!(found(&proven(&cut, Some(late))).0, Kind::Missing);
    let report = proven(&whole, None);
    assert!(matches!(report.notes[..], [Note::NewChain { stopped: false, .. }]), "{report:#?}");
}

#[test]
fn without_a_chain_there_is_nothing_to_prove_by_but_holes_are_told() {
    let mut stream = Stream::bare(Chain::new("file", ChainId([7; 8]), None));
    stream.pens[0].process(NOW, &ProcessEvent::Start { version: "1", pid: 1, config_sha256: "", services: &[] });
    let block = stream.pens[0].outlet().take();
    stream.write(&block);
    stream.lines(0, 3);
    let report = verify(&stream.files);
    assert_eq!((report.verdict(), report.holes.len()), (Verdict::NothingToProveBy, 0));
    let report = verify(&with(&stream.files, 0, |lines| drop(lines.remove(2))));
    assert_eq!((report.verdict(), report.holes.len()), (Verdict::NothingToProveBy, 1));
    assert!(report.holes[0].1.contains("number 3 of pen 0"), "{report:#?}");
}

#[test]
fn hostile_input_is_read_in_bounded_memory_and_proves_nothing() {
    let deep = [b"{\"v\":1,\"event\":\"checkpoint\",\"x\":".to_vec(), b"[".repeat(10_000), b"}\n".to_vec()].concat();
    let pens: Vec<u8> = (0..6000)
        .flat_map(|w| format!("{{\"v\":1,\"w\":{w},\"seq\":1,\"ts\":\"\",\"event\":\"stop\"}}\n").into_bytes())
        .collect();
    for text in [vec![b'x'; 3_000_000], vec![0xff; 100_000], b"\n".repeat(100_000), deep, pens] {
        let mut verifier = Verifier::new(Wish::default());
        verifier.begin_file("-");
        for piece in text.chunks(4096) {
            verifier.feed(piece);
            assert!(verifier.line.capacity() <= 64 * 1024 && verifier.pens.count() <= 4096);
        }
        assert_eq!(verifier.finish().verdict(), Verdict::NothingToProveBy);
    }
}

/// Random bytes, mutilated streams, and pieces of lines glued together: never a panic, and whatever is proven was written.
#[test]
fn no_input_makes_it_panic() {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed >> 33).unwrap() % below.max(1)
    };
    let stock: Vec<u8> = Stream::usual(Some(key())).concat();
    for _ in 0..2000 {
        let mut text = Vec::new();
        for _ in 0..random(6) {
            let from = random(stock.len());
            let to = from + random(stock.len() - from);
            text.extend_from_slice(&stock[from..to]);
            for _ in 0..random(4) {
                text.push(u8::try_from(random(256)).unwrap());
            }
        }
        let wish = Wish { complete: random(2) == 0, from_start: random(2) == 0, ..Wish::default() };
        let report = verify_with(wish, &[text.clone()], 1 + random(700));
        assert_eq!(report.bytes, text.len() as u64);
    }
}
