//! The chain, read back: what is proven, what is not, and where the first wrong line stands.
//!
//! A [`Verifier`] is fed the files of an output one behind the other, in pieces of any size, and holds nothing of them but
//! the line it is at, so its memory has a bound whatever it is given. It finds:
//!
//! * by the digests: any byte changed, put in or taken out between two checkpoints, and the checkpoints themselves;
//! * by the chain's numbers: checkpoints, and so whole files, that are missing or not where they belong;
//! * by the pens' numbers: lines that were taken out or put in together with a new digest;
//! * by the signatures: all of these, redone by somebody without the key;
//! * by a head known from elsewhere: that the end was cut off.
//!
//! A digest says that something between two checkpoints is wrong, not what. The line is named where it can be told: it
//! is no JSON any more, or its number at its pen is missing, is there twice, or comes too early. Tests: `audit::verify::tests`
//! (each kind of finding), `tests/audit_proof.rs` (thousands of random changes to real streams).

mod pens;
mod report;
#[cfg(test)]
mod tests;

pub use self::report::{Anchor, Beyond, Finding, Kind, Note, Place, Report, Segment, Verdict};

use self::pens::{Pens, Suspect};
use super::{
    chain::{Checkpoint, FRONT},
    encode::MAX_LINE,
    keys::{Hash, PublicKey},
};

/// Most findings that are kept; further ones are counted.
const FINDINGS_MAX: usize = 50;
/// Most notes and segments that are kept.
const NOTES_MAX: usize = 200;

/// What is asked for besides the chain itself.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Every checkpoint must be signed by one of these; without any, signatures are only counted.
    pub keys: Vec<PublicKey>,
    /// Checkpoints that are known from elsewhere and must be there.
    pub anchors: Vec<Anchor>,
    /// Every chain must end with a `stop`, and nothing may stand behind the last.
    pub complete: bool,
    /// The first chain must begin with its first checkpoint.
    pub from_start: bool,
}

/// Reads a stream.
#[derive(Debug)]
pub struct Verifier {
    wish: Wish,
    report: Report,
    /// Where the line stands that is being read; its number counts from 1.
    place: Place,
    /// What there is of it, unless it is longer than any line.
    line: Vec<u8>,
    /// It is longer; its bytes are in `hash` already.
    overlong: bool,
    /// Bytes of this file before the line.
    file_bytes: u64,
    /// Over everything since the beginning of the last checkpoint's line.
    hash: Hash,
    bytes: u64,
    lines: u64,
    /// The last checkpoint, where it stands, and the hash of its line alone.
    last: Option<(Checkpoint, Place, Hash)>,
    pens: Pens,
    /// The first line since then that can be no record.
    odd: Option<Suspect>,
}

impl Verifier {
    /// A reader that asks for this.
    #[must_use]
    pub fn new(wish: Wish) -> Self {
        let anchors = wish.anchors.iter().map(|anchor| (anchor.clone(), false)).collect();
        Self {
            report: Report { anchors, ..Report::default() },
            wish,
            place: Place::default(),
            line: Vec::new(),
            overlong: false,
            file_bytes: 0,
            hash: Hash::new(),
            bytes: 0,
            lines: 0,
            last: None,
            pens: Pens::default(),
            odd: None,
        }
    }

    /// The next file begins; to be said before its first byte.
    pub fn begin_file(&mut self, name: &str) {
        self.end_file();
        self.report.files.push(name.to_owned());
        self.place = Place { file: self.report.files.len().saturating_sub(1), line: 1 };
        self.file_bytes = 0;
    }

    /// More of the file.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (piece, ends) = match memchr::memchr(b'\n', bytes) {
                Some(at) => (at.saturating_add(1), true),
                None => (bytes.len(), false),
            };
            let (piece, rest) = bytes.split_at_checked(piece).unwrap_or((bytes, &[]));
            bytes = rest;
            if self.overlong {
                self.take(piece);
            } else if self.line.len().saturating_add(piece.len()) > MAX_LINE {
                let begun = std::mem::take(&mut self.line);
                self.take(&begun);
                self.take(piece);
                self.overlong = true;
                self.suspect("is longer than any line of the stream".to_owned());
            } else {
                self.line.extend_from_slice(piece);
            }
            if ends {
                self.end_line();
            }
        }
    }

    /// Everything has been fed; what came of it.
    #[must_use]
    pub fn finish(mut self) -> Report {
        self.end_file();
        let end = Place { line: self.place.line.saturating_sub(1), ..self.place };
        if let Some((last, at, _)) = self.last.take() {
            self.end_segment(&last, at, end);
            let behind = self.bytes.saturating_sub(last.line.len() as u64);
            self.report.beyond = Some(Beyond { bytes: behind, lines: self.lines, stopped: last.reason == "stop" });
            if behind > 0 && ends(&last) {
                self.lines = self.lines.max(1);
                self.behind_the_end(&last, at);
            }
            for suspect in self.pens.repeats().into_iter().chain(self.odd.take()) {
                let text = format!("{} (behind the last checkpoint)", suspect.text);
                self.find_suspect(suspect.kind, suspect.place, None, suspect.seq, text);
            }
            let missing = std::mem::take(&mut self.report.anchors);
            for (anchor, found) in &missing {
                if !found {
                    let text = anchor.missing(&last);
                    self.find(Kind::Head, end, Some(at), text);
                }
            }
            self.report.anchors = missing;
        } else {
            let holes = self.pens.holes();
            let repeats = self.pens.repeats();
            self.report.holes = holes.into_iter().chain(repeats).map(|suspect| (suspect.place, suspect.text)).collect();
            self.report.unreadable = self.odd.take().map(|suspect| (suspect.place, suspect.text));
            self.report.beyond = Some(Beyond { bytes: self.bytes, lines: self.lines, stopped: false });
        }
        self.report
    }

    /// Bytes that are no part of a checkpoint.
    fn take(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        let length = bytes.len() as u64;
        self.bytes = self.bytes.saturating_add(length);
        self.file_bytes = self.file_bytes.saturating_add(length);
        self.report.bytes = self.report.bytes.saturating_add(length);
    }

    /// What is left without an end of line at the end of a file: it was torn there, or is being written.
    fn end_file(&mut self) {
        if !self.line.is_empty() {
            let torn = std::mem::take(&mut self.line);
            self.take(&torn);
            self.report.torn = Some(self.place);
        }
        self.overlong = false;
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if self.overlong {
            self.overlong = false;
            self.lines = self.lines.saturating_add(1);
        } else if !line.starts_with(FRONT) {
            self.take(&line);
            self.lines = self.lines.saturating_add(1);
            self.record(&line);
        } else if let Some(checkpoint) = Checkpoint::parse(&line) {
            self.checkpoint(checkpoint);
        } else {
            self.suspect("is a checkpoint that cannot be read".to_owned());
            self.take(&line);
            self.lines = self.lines.saturating_add(1);
        }
        self.report.lines = self.report.lines.saturating_add(1);
        self.place.line = self.place.line.saturating_add(1);
        self.line = line;
        self.line.clear();
    }

    fn record(&mut self, line: &[u8]) {
        match pens::Front::read(line) {
            Some(front) => {
                if self.last.is_none() && front.starts {
                    self.pens.begin_anew();
                }
                self.pens.record(&front, self.place);
            }
            None => self.suspect("is no record".to_owned()),
        }
    }

    fn suspect(&mut self, text: String) {
        let place = self.place;
        self.odd.get_or_insert(Suspect { kind: Kind::Changed, place, seq: None, text });
    }

    fn checkpoint(&mut self, new: Checkpoint) {
        let place = self.place;
        self.report.checkpoints = self.report.checkpoints.saturating_add(1);
        let broken_before = self.report.findings_total;
        match self.last.take() {
            None => self.first(&new, place),
            Some((old, at, alone)) if old.chain == new.chain => self.next(&old, at, alone, &new, place),
            Some((old, at, _)) => self.other_chain(&old, at, &new, place),
        }
        self.signature(&new, place);
        for (anchor, found) in &mut self.report.anchors {
            *found |= anchor.is(&new);
        }
        let intact = self.report.findings_total == broken_before;
        if let Some(segment) = self.report.segments.last_mut() {
            segment.broken |= !intact;
            if !segment.broken {
                segment.proven = Some((place, new.n, new.ts.clone()));
            }
        }
        // From here on its line counts to the next one's range.
        self.hash = Hash::of(&new.line);
        self.bytes = new.line.len() as u64;
        self.file_bytes = self.file_bytes.saturating_add(self.bytes);
        self.report.bytes = self.report.bytes.saturating_add(self.bytes);
        self.lines = 0;
        self.odd = None;
        self.report.torn = None;
        self.last = Some((new, place, self.hash.clone()));
    }

    /// The first checkpoint there is.
    fn first(&mut self, new: &Checkpoint, place: Place) {
        self.begin_segment(new, place);
        if new.reason == "start" {
            self.start(new, place);
        } else {
            if self.report.bytes > 0 {
                let text =
                    format!("{} lines stand before checkpoint {}, whose range begins elsewhere", self.lines, new.n);
                self.find(Kind::Inserted, Place { file: 0, line: 1 }, None, text);
            }
            if self.wish.from_start {
                let text = format!("the chain begins with checkpoint {}, not with its first", new.n);
                self.find(Kind::Missing, place, None, text);
            }
            self.note(Note::BeginsLater { place, n: new.n });
            // Whoever kept the end of the file before can prove that this one follows it.
            for (anchor, found) in &mut self.report.anchors {
                *found |= anchor.precedes(new) && digest_is(anchor.hash(), new);
            }
        }
        self.pens.settle(new, place, new.reason == "start" || new.reason == "resume");
    }

    /// The first of a chain: covers nothing but itself.
    fn start(&mut self, new: &Checkpoint, place: Place) {
        if new.n != 1 || new.bytes != 0 || !digest_is(Hash::new(), new) {
            let text = "the first checkpoint of a chain has been changed".to_owned();
            self.find(Kind::Changed, place, None, text);
        }
        match new.unproven_bytes {
            Some(told) if told != self.file_bytes => {
                let text =
                    format!("before the chain began there were {told} bytes in the file, not {}", self.file_bytes);
                self.find(Kind::Changed, place, Some(Place { line: 1, ..place }), text);
            }
            _ if self.file_bytes > 0 => self.note(Note::BeforeTheChain { place, bytes: self.file_bytes }),
            _ => {}
        }
    }

    /// One of the same chain as the last.
    fn next(&mut self, old: &Checkpoint, at: Place, alone: Hash, new: &Checkpoint, place: Place) {
        let restarted = new.reason == "resume";
        if new.n != old.n.saturating_add(1) {
            let (kind, text) = if new.n > old.n {
                let (from, to) = (old.n.saturating_add(1), new.n.saturating_sub(1));
                (
                    Kind::Missing,
                    format!("after checkpoint {} comes {}: {from} to {to} and their lines are missing", old.n, new.n),
                )
            } else {
                (Kind::Moved, format!("after checkpoint {} comes {} again", old.n, new.n))
            };
            self.find(kind, place, Some(at), text);
            self.pens.forget();
            self.pens.settle(new, place, restarted);
            return;
        }
        if restarted {
            self.behind_the_end(old, at);
        }
        if digest_is(self.hash.clone(), new) {
            if restarted && self.lines > 0 {
                self.note(Note::Unproven { place, from: at, lines: self.lines, torn: new.torn });
            }
            let suspects = self.pens.settle(new, place, restarted);
            for Suspect { kind, place, seq, text } in suspects {
                self.find_suspect(kind, place, Some(at), seq, text);
            }
        } else if restarted && new.bytes == old.line.len() as u64 && digest_is(alone, new) {
            // The file was moved away while nobody wrote: only the head was known to whoever went on.
            if self.lines > 0 || self.bytes > new.bytes {
                self.note(Note::Uncovered { place, from: at, lines: self.lines });
            }
            self.pens.settle(new, place, true);
        } else {
            self.broken_range(old, at, new, place, restarted);
        }
    }

    /// The digest is not that of the bytes: names the first line that is seen to be wrong.
    fn broken_range(&mut self, old: &Checkpoint, at: Place, new: &Checkpoint, place: Place, restarted: bool) {
        let (lines, bytes) = (self.lines, self.bytes);
        let mut suspects = self.pens.settle(new, place, restarted);
        suspects.extend(self.odd.take());
        let range = format!("between checkpoints {} and {}", old.n, new.n);
        match suspects.into_iter().min_by_key(|suspect| suspect.place) {
            Some(Suspect { kind, place, seq, text }) => {
                self.find_suspect(kind, place, Some(at), seq, format!("{text} ({range})"));
            }
            None => {
                let (kind, what) = match lines.cmp(&new.lines) {
                    std::cmp::Ordering::Less => (Kind::Missing, "lines are missing"),
                    std::cmp::Ordering::Greater => (Kind::Inserted, "lines were put in"),
                    std::cmp::Ordering::Equal => (Kind::Changed, "something was changed"),
                };
                let text = format!(
                    "{what} {range}: {lines} lines and {bytes} bytes stand there, {} and {} did",
                    new.lines, new.bytes
                );
                self.find(kind, place, Some(at), text);
            }
        }
    }

    /// One of another chain.
    fn other_chain(&mut self, old: &Checkpoint, at: Place, new: &Checkpoint, place: Place) {
        if new.reason != "start" {
            let text = format!("a checkpoint of chain {} stands behind one of chain {}", new.chain, old.chain);
            self.find(Kind::Moved, place, Some(at), text);
            self.pens.forget();
        }
        self.end_segment(old, at, place);
        self.behind_the_end(old, at);
        if self.lines > 0 {
            self.note(Note::Uncovered { place, from: at, lines: self.lines });
        }
        self.begin_segment(new, place);
        if new.reason == "start" {
            self.start(new, place);
            match &new.after {
                None => self.note(Note::NewChain { place, stopped: old.reason == "stop" }),
                Some((chain, n, _)) if *chain == old.chain && *n > old.n => {
                    let text = format!(
                        "the chain before had come to checkpoint {n}, but ends here with {}: what came between is missing",
                        old.n
                    );
                    self.find(Kind::Missing, place, Some(at), text);
                }
                Some((chain, n, sha256)) if *chain == old.chain && (*n < old.n || *sha256 == old.sha256) => {
                    self.note(Note::NewChainAfter { place, why: new.why.clone().unwrap_or_default() });
                }
                Some((chain, n, _)) => {
                    let text =
                        format!("the chain before should end with checkpoint {n} of chain {chain}, which is not here");
                    self.find(Kind::Missing, place, Some(at), text);
                }
            }
        }
        self.pens.settle(new, place, true);
    }

    /// Nothing is written behind a checkpoint that ends a file or the process, but the next checkpoint.
    fn behind_the_end(&mut self, old: &Checkpoint, at: Place) {
        if self.lines > 0 && ends(old) {
            let text = format!(
                "{} lines stand behind checkpoint {}, which was the last (unless the chain was switched off for a time)",
                self.lines, old.n
            );
            self.find(Kind::Inserted, Place { line: at.line.saturating_add(1), ..at }, None, text);
        }
    }

    fn signature(&mut self, new: &Checkpoint, place: Place) {
        if new.signature.is_some() {
            self.report.signed = self.report.signed.saturating_add(1);
        }
        if self.wish.keys.is_empty() {
            return;
        }
        let text = match &new.signature {
            None => "the checkpoint is not signed".to_owned(),
            Some(signature) if self.wish.keys.iter().any(|key| key.verifies(new.signed(), &signature[..])) => {
                self.report.verified = self.report.verified.saturating_add(1);
                return;
            }
            Some(_) => {
                let known = |id: &String| self.wish.keys.iter().any(|key| key.id() == *id);
                match &new.key {
                    Some(id) if !known(id) => format!("the checkpoint is signed by another key, {id}"),
                    _ => "the checkpoint's signature is not by this key, or the checkpoint was changed".to_owned(),
                }
            }
        };
        self.find(Kind::Signature, place, None, text);
    }

    fn begin_segment(&mut self, new: &Checkpoint, place: Place) {
        if self.report.segments.len() >= NOTES_MAX {
            self.report.segments_left_out = self.report.segments_left_out.saturating_add(1);
            return;
        }
        self.report.segments.push(Segment {
            chain: new.chain.clone(),
            output: new.output.clone(),
            first: (place, new.n, new.ts.clone()),
            last: (place, new.n, new.ts.clone()),
            proven: None,
            broken: false,
            stopped: false,
        });
    }

    fn end_segment(&mut self, old: &Checkpoint, at: Place, end: Place) {
        let stopped = old.reason == "stop";
        if let Some(segment) = self.report.segments.last_mut() {
            segment.last = (at, old.n, old.ts.clone());
            segment.stopped = stopped;
        }
        if self.wish.complete && !stopped {
            let text = format!("chain {} does not end with a `stop` checkpoint", old.chain);
            self.find(Kind::Incomplete, end, Some(at), text);
        }
    }

    fn note(&mut self, note: Note) {
        if self.report.notes.len() < NOTES_MAX {
            self.report.notes.push(note);
        }
    }

    fn find(&mut self, kind: Kind, place: Place, from: Option<Place>, text: String) {
        self.find_suspect(kind, place, from, None, text);
    }

    fn find_suspect(&mut self, kind: Kind, place: Place, from: Option<Place>, seq: Option<(u64, u64)>, text: String) {
        self.report.findings_total = self.report.findings_total.saturating_add(1);
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.findings.push(Finding { kind, place, from, seq, text });
        }
    }
}

/// Whether a checkpoint is the last of its file or process.
fn ends(checkpoint: &Checkpoint) -> bool {
    matches!(checkpoint.reason.as_str(), "stop" | "rotate" | "reopen")
}

/// Whether a checkpoint's digest is that of these bytes and its own front.
fn digest_is(mut hash: Hash, checkpoint: &Checkpoint) -> bool {
    hash.update(checkpoint.hashed());
    hash.hex() == checkpoint.sha256
}
