//! The chain of checkpoints that makes an output provable: state that is fed what was written, and renders the lines.
//!
//! A checkpoint is a line of the output's own stream. Its `sha256` is taken over every byte from the beginning of the
//! checkpoint before it up to its own `,"sha256":`, so it covers the lines between, the checkpoint before, and all that
//! it says itself; a change anywhere behind the first checkpoint breaks the first checkpoint that comes after it. Its
//! `sig` is an Ed25519 signature of the line up to its own `,"sig":`.
//!
//! The stream is what all files of an output hold one behind the other. A rotated file ends with a checkpoint and the
//! next one begins with one whose range is just that last line. What is torn because the process was killed or the disk
//! was full is covered by the next checkpoint like any other bytes, and that checkpoint says so.
//!
//! Pure: bytes, marks and the time are handed in. Tests: `audit::chain_tests`; the reading side is [`super::verify`].

use super::{
    counters::Mark,
    encode::{LABEL_MAX, MAX_LINE},
    json::{all_plain, base64, number, number_field, text_field},
    keys::{DIGEST, Hash, SIGNATURE, SignKey, hex},
    stamp::Stamp,
};
use serde::Deserialize;
use std::collections::BTreeMap;

/// How every checkpoint begins, and no other line.
pub const FRONT: &[u8] = br#"{"v":1,"event":"checkpoint","#;
/// Where the hashed part of a checkpoint ends.
const HASHED_END: &[u8] = br#","sha256":""#;
/// Where the signed part ends.
const SIGNED_END: &[u8] = br#","sig":""#;
/// Most bytes of a line that pens may take; those that do not fit are told by the next checkpoint.
const PENS_MAX: usize = 12 * 1024;

/// The name of a chain: random, so that no two are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainId(pub [u8; 8]);

/// Why a checkpoint stands where it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The first of a chain.
    Start {
        /// How much the file held before, which this chain does not cover; none where that cannot be known.
        before: Option<u64>,
        /// The head that was known and could not be continued, and why not.
        after: Option<(Box<Checkpoint>, &'static str)>,
    },
    /// The first after a restart, of the same chain.
    Resume(Unproven),
    /// It was time, or there were enough lines.
    Interval,
    /// The last of a file that has had its time or size.
    Rotate,
    /// The last of a file that was reopened by signal.
    Reopen,
    /// The first of a file that follows one of the same process.
    Open,
    /// The last: the process ends.
    Stop,
}

/// What stood behind the last checkpoint when the process started again: it was written, and may have been changed,
/// without one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unproven {
    /// Bytes, a torn line's among them.
    pub bytes: u64,
    /// Lines, a torn one among them.
    pub lines: u64,
    /// Whether the last line was torn; it has been ended.
    pub torn: bool,
}

impl Reason {
    /// The stable word.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Resume(_) => "resume",
            Self::Interval => "interval",
            Self::Rotate => "rotate",
            Self::Reopen => "reopen",
            Self::Open => "open",
            Self::Stop => "stop",
        }
    }
}

/// The writing side.
#[derive(Clone, Debug)]
pub struct Chain {
    output: Box<str>,
    id: String,
    /// The number of the checkpoint written last; 0 before the first.
    n: u64,
    /// Over everything since the beginning of that checkpoint's line.
    hash: Hash,
    /// As many bytes.
    bytes: u64,
    /// Ends of lines behind that line.
    lines: u64,
    /// Where the pens stand, and whether a checkpoint has said so.
    pens: BTreeMap<u16, (Mark, bool)>,
    /// The pen to begin with: behind the last one told where not all fitted.
    from: u16,
    key: Option<SignKey>,
    stamp: Stamp,
}

impl Chain {
    /// A new chain; its first checkpoint is to be written with [`Reason::Start`].
    #[must_use]
    pub fn new(output: &str, id: ChainId, key: Option<SignKey>) -> Self {
        Self {
            output: output.into(),
            id: hex(&id.0),
            n: 0,
            hash: Hash::new(),
            bytes: 0,
            lines: 0,
            pens: BTreeMap::new(),
            from: 0,
            key,
            stamp: Stamp::new(),
        }
    }

    /// Goes on behind a checkpoint that was written before; `line` is its line, and what stands behind it is still to be
    /// fed. The next checkpoint is to be written with [`Reason::Resume`].
    #[must_use]
    pub fn behind(output: &str, head: &Checkpoint, key: Option<SignKey>) -> Self {
        let mut chain = Self::new(output, ChainId([0; 8]), key);
        chain.id.clone_from(&head.chain);
        chain.n = head.n;
        chain.hash = Hash::of(&head.line);
        chain.bytes = head.line.len() as u64;
        chain
    }

    /// These bytes were written, in this order, by anybody.
    pub fn append(&mut self, written: &[u8]) {
        self.hash.update(written);
        self.bytes = self.bytes.saturating_add(written.len() as u64);
        self.lines = self.lines.saturating_add(memchr::memchr_iter(b'\n', written).count() as u64);
    }

    /// All lines of pen `w` up to this mark have been fed, and none behind it.
    pub fn mark(&mut self, w: u16, mark: Mark) {
        let entry = self.pens.entry(w).or_insert((Mark::default(), true));
        if entry.0 != mark {
            *entry = (mark, false);
        }
    }

    /// How many lines are behind the last checkpoint.
    #[must_use]
    pub const fn uncovered(&self) -> u64 {
        self.lines
    }

    /// The number of the checkpoint written last; 0 before the first.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.n
    }

    /// Renders the next checkpoint's line, newline included. It counts once [`Self::seal`] says that it is written; until
    /// then it may be thrown away. `whole`: what was fed ends where the marks say; else nothing is said of pens.
    #[must_use]
    pub fn render(&mut self, wall_us: u64, reason: &Reason, whole: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(br#"{"v":1,"event":"checkpoint","ts":""#);
        out.extend_from_slice(self.stamp.text(wall_us));
        out.push(b'"');
        text_field(&mut out, "output", &self.output, LABEL_MAX);
        text_field(&mut out, "chain", &self.id, LABEL_MAX);
        number_field(&mut out, "n", self.n.saturating_add(1));
        text_field(&mut out, "reason", reason.word(), LABEL_MAX);
        match reason {
            Reason::Start { before, after } => {
                if let Some(bytes) = before {
                    number_field(&mut out, "unproven_bytes", *bytes);
                }
                if let Some((head, why)) = after {
                    text_field(&mut out, "after_chain", &head.chain, LABEL_MAX);
                    number_field(&mut out, "after_n", head.n);
                    text_field(&mut out, "after_sha256", &head.sha256, LABEL_MAX);
                    text_field(&mut out, "why", why, LABEL_MAX);
                }
            }
            Reason::Resume(Unproven { bytes, lines, torn }) => {
                number_field(&mut out, "unproven_bytes", *bytes);
                number_field(&mut out, "unproven_lines", *lines);
                if *torn {
                    out.extend_from_slice(b",\"torn\":true");
                }
            }
            _ => {}
        }
        number_field(&mut out, "bytes", self.bytes);
        number_field(&mut out, "lines", self.lines);
        if whole {
            self.pens_of(&mut out);
        }
        if let Some(key) = &self.key {
            text_field(&mut out, "key", &key.public().id(), LABEL_MAX);
        }
        let mut hash = self.hash.clone();
        hash.update(&out);
        text_field(&mut out, "sha256", &hash.hex(), LABEL_MAX);
        if let Some(signature) = self.key.as_ref().and_then(|key| key.sign(&out)) {
            out.extend_from_slice(SIGNED_END);
            base64(&mut out, &signature);
            out.push(b'"');
        }
        out.extend_from_slice(b"}\n");
        debug_assert!(out.len() < MAX_LINE, "a checkpoint of {} bytes", out.len());
        out
    }

    /// Appends `,"pens":[…]`: those that have moved since a checkpoint told of them.
    fn pens_of(&self, out: &mut Vec<u8>) {
        let most = out.len().saturating_add(PENS_MAX);
        let mut cut = false;
        out.extend_from_slice(b",\"pens\":[");
        let mut first = true;
        let in_turn = self.pens.range(self.from..).chain(self.pens.range(..self.from));
        for (w, (mark, _)) in in_turn.filter(|(_, (_, told))| !told) {
            if out.len() > most {
                cut = true;
                break;
            }
            out.extend_from_slice(if first { b"{\"w\":" } else { b",{\"w\":" });
            first = false;
            number(out, *w);
            number_field(out, "seq", mark.last_seq);
            number_field(out, "filtered", mark.filtered);
            number_field(out, "dropped", mark.dropped);
            out.push(b'}');
        }
        out.push(b']');
        if cut {
            out.extend_from_slice(b",\"pens_cut\":true");
        }
    }

    /// The line that [`Self::render`] made is written whole: the next one's range begins with it.
    pub fn seal(&mut self, line: &[u8]) {
        self.n = self.n.saturating_add(1);
        self.hash = Hash::of(line);
        self.bytes = line.len() as u64;
        self.lines = 0;
        if let Some(checkpoint) = Checkpoint::parse(line) {
            self.from = 0;
            for Told { w, .. } in checkpoint.pens.unwrap_or_default() {
                if checkpoint.pens_cut {
                    self.from = w.saturating_add(1);
                }
                if let Some((_, told)) = self.pens.get_mut(&w) {
                    *told = true;
                }
            }
        }
    }
}

/// A checkpoint that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The whole line, newline included.
    pub line: Box<[u8]>,
    /// When it was written.
    pub ts: String,
    /// The output's name.
    pub output: String,
    /// The chain's name.
    pub chain: String,
    /// Its number in the chain, from 1.
    pub n: u64,
    /// The word of its [`Reason`].
    pub reason: String,
    /// Bytes from the beginning of the checkpoint before to the beginning of this line.
    pub bytes: u64,
    /// Lines between the two.
    pub lines: u64,
    /// Where pens stand that have moved; none if nothing can be said of them here.
    pub pens: Option<Vec<Told>>,
    /// Not all of them are told.
    pub pens_cut: bool,
    /// `start`: bytes in the file before; `resume`: bytes that had no checkpoint.
    pub unproven_bytes: Option<u64>,
    /// `resume`: as many lines.
    pub unproven_lines: Option<u64>,
    /// `resume`: the last of them was torn.
    pub torn: bool,
    /// `start`: the head that could not be continued: chain, number and digest.
    pub after: Option<(String, u64, String)>,
    /// `start`: why not.
    pub why: Option<String>,
    /// The public key's name.
    pub key: Option<String>,
    /// Its digest, 64 hexadecimal digits.
    pub sha256: String,
    /// Its signature.
    pub signature: Option<Box<[u8; SIGNATURE]>>,
    /// How much of the line is hashed.
    hashed: usize,
    /// How much is signed.
    signed: usize,
}

/// Where a pen stands, as a checkpoint tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Told {
    /// The pen.
    pub w: u16,
    /// As [`Mark::last_seq`].
    pub seq: u64,
    /// As [`Mark::filtered`].
    pub filtered: u64,
    /// As [`Mark::dropped`].
    pub dropped: u64,
}

/// A line's fields as JSON has them.
#[derive(Deserialize)]
struct Fields {
    v: u64,
    ts: String,
    output: String,
    chain: String,
    n: u64,
    reason: String,
    bytes: u64,
    lines: u64,
    pens: Option<Vec<Told>>,
    #[serde(default)]
    pens_cut: bool,
    unproven_bytes: Option<u64>,
    unproven_lines: Option<u64>,
    #[serde(default)]
    torn: bool,
    after_chain: Option<String>,
    after_n: Option<u64>,
    after_sha256: Option<String>,
    why: Option<String>,
    key: Option<String>,
    sha256: String,
    sig: Option<String>,
}

impl Checkpoint {
    /// Reads a line; none if it is no checkpoint, is not whole (the newline belongs to it), or says nothing that one can.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        if !line.starts_with(FRONT) || !line.ends_with(b"}\n") || line.len() > MAX_LINE {
            return None;
        }
        let fields: Fields = serde_json::from_slice(line).ok()?;
        let is_digest = |text: &str| text.len() == 2 * DIGEST && text.bytes().all(|b| b.is_ascii_hexdigit());
        if fields.v != 1 || fields.n == 0 || !is_digest(&fields.sha256) {
            return None;
        }
        // They are shown to people.
        let optional = [&fields.after_chain, &fields.after_sha256, &fields.why, &fields.key];
        let texts = [&fields.ts, &fields.output, &fields.chain, &fields.reason];
        if !texts.into_iter().chain(optional.into_iter().flatten()).all(|text| all_plain(text.as_bytes())) {
            return None;
        }
        let hashed = memchr::memmem::find(line, HASHED_END)?;
        let signed = memchr::memmem::find(line, SIGNED_END).unwrap_or(line.len());
        let signature = match &fields.sig {
            None => None,
            Some(text) => Some(Box::new(signature(text)?)),
        };
        let after = match (fields.after_chain, fields.after_n, fields.after_sha256) {
            (Some(chain), Some(n), Some(sha256)) => Some((chain, n, sha256)),
            _ => None,
        };
        Some(Self {
            line: line.into(),
            ts: fields.ts,
            output: fields.output,
            chain: fields.chain,
            n: fields.n,
            reason: fields.reason,
            bytes: fields.bytes,
            lines: fields.lines,
            pens: fields.pens,
            pens_cut: fields.pens_cut,
            unproven_bytes: fields.unproven_bytes,
            unproven_lines: fields.unproven_lines,
            torn: fields.torn,
            after,
            why: fields.why,
            key: fields.key,
            sha256: fields.sha256,
            signature,
            hashed,
            signed,
        })
    }

    /// What of the line its own digest covers.
    #[must_use]
    pub fn hashed(&self) -> &[u8] {
        self.line.get(..self.hashed).unwrap_or_default()
    }

    /// What of the line its signature covers.
    #[must_use]
    pub fn signed(&self) -> &[u8] {
        self.line.get(..self.signed).unwrap_or_default()
    }
}

/// 64 bytes in base64.
fn signature(text: &str) -> Option<[u8; SIGNATURE]> {
    use ::base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.decode(text).ok()?.try_into().ok()
}
