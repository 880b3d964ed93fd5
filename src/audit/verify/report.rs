//! What came of it.

use crate::audit::{chain::Checkpoint, keys::Hash};

/// A line of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which file, in the order they were read.
    pub file: usize,
    /// Which line, from 1.
    pub line: u64,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It does not say what it said.
    Changed,
    /// Something is missing before it.
    Missing,
    /// It was not there.
    Inserted,
    /// It stood elsewhere.
    Moved,
    /// It is not signed by the key.
    Signature,
    /// A head known from elsewhere is not in the stream: its end was cut off.
    Head,
    /// The stream does not end, and was asked to.
    Incomplete,
}

impl Kind {
    /// The stable word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Missing => "missing",
            Self::Inserted => "inserted",
            Self::Moved => "moved",
            Self::Signature => "signature",
            Self::Head => "head",
            Self::Incomplete => "incomplete",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing.
    pub kind: Kind,
    /// The first line that is known to be wrong.
    pub place: Place,
    /// What is wrong stands behind this line; none if it is `place` itself.
    pub from: Option<Place>,
    /// The pen and its number, where they are known.
    pub seq: Option<(u64, u64)>,
    /// For people.
    pub text: String,
}

/// Something that is not wrong, but not proven either, or good to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The chain's earlier checkpoints are not in these files.
    BeginsLater {
        /// Of the first that is.
        place: Place,
        /// Its number.
        n: u64,
    },
    /// The file held something before the chain began.
    BeforeTheChain {
        /// Of the chain's first checkpoint.
        place: Place,
        /// As much.
        bytes: u64,
    },
    /// The process was killed: these lines had no checkpoint until it started again.
    Unproven {
        /// Of the checkpoint that was written then.
        place: Place,
        /// Of the one before it.
        from: Place,
        /// Lines between.
        lines: u64,
        /// The last of them is torn.
        torn: bool,
    },
    /// Lines that no checkpoint covers.
    Uncovered {
        /// Of the next checkpoint.
        place: Place,
        /// Of the one before.
        from: Place,
        /// Lines between.
        lines: u64,
    },
    /// A new chain begins that says nothing of the one before: nothing proves that there was none between.
    NewChain {
        /// Of its first checkpoint.
        place: Place,
        /// The one before had ended.
        stopped: bool,
    },
    /// A new chain begins that names the end of the one before.
    NewChainAfter {
        /// Of its first checkpoint.
        place: Place,
        /// Why it did not go on.
        why: String,
    },
}

/// A checkpoint that is known from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Its whole line, and where that was found.
    Line(Box<Checkpoint>, String),
    /// Its `sha256`.
    Digest(String),
}

impl Anchor {
    pub(super) fn is(&self, checkpoint: &Checkpoint) -> bool {
        match self {
            Self::Line(known, _) => known.line == checkpoint.line,
            Self::Digest(known) => known.eq_ignore_ascii_case(&checkpoint.sha256),
        }
    }

    /// Whether a file that begins with `checkpoint` should follow the one that ended with this.
    pub(super) fn precedes(&self, checkpoint: &Checkpoint) -> bool {
        match self {
            Self::Line(known, _) => known.chain == checkpoint.chain && known.n.checked_add(1) == Some(checkpoint.n),
            Self::Digest(_) => false,
        }
    }

    /// Over its line, if that is known.
    pub(super) fn hash(&self) -> Hash {
        match self {
            Self::Line(known, _) => Hash::of(&known.line),
            Self::Digest(_) => Hash::new(),
        }
    }

    /// What it means that it is not there, the stream ending with `last`.
    pub(super) fn missing(&self, last: &Checkpoint) -> String {
        match self {
            Self::Line(known, from) if known.chain == last.chain && known.n > last.n => format!(
                "{from} knows checkpoint {} of {}, but the stream ends with {}: its end was cut off",
                known.n, known.ts, last.n
            ),
            Self::Line(known, from) if known.chain == last.chain => {
                format!("checkpoint {} is not the one that {from} knows", known.n)
            }
            Self::Line(known, from) => {
                format!("{from} knows checkpoint {} of chain {}, which is not here", known.n, known.chain)
            }
            Self::Digest(digest) => format!("no checkpoint here has the digest {digest}"),
        }
    }
}

/// A chain, as far as it is in the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its name.
    pub chain: String,
    /// The output's.
    pub output: String,
    /// Its first checkpoint here: where, its number, and when.
    pub first: (Place, u64, String),
    /// Its last.
    pub last: (Place, u64, String),
    /// The last one before anything was found wrong; none if that is the first.
    pub proven: Option<(Place, u64, String)>,
    /// Something is wrong.
    pub broken: bool,
    /// It ends with a `stop`.
    pub stopped: bool,
}

/// What stands behind the last checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beyond {
    /// Bytes.
    pub bytes: u64,
    /// Whole lines.
    pub lines: u64,
    /// That checkpoint says that the process ended.
    pub stopped: bool,
}

/// In a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong.
    Proven,
    /// Something is.
    Broken,
    /// There is no checkpoint.
    NothingToProveBy,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The files' names, in the order they were read.
    pub files: Vec<String>,
    /// Bytes read.
    pub bytes: u64,
    /// Lines read.
    pub lines: u64,
    /// Checkpoints among them.
    pub checkpoints: u64,
    /// Checkpoints with a signature.
    pub signed: u64,
    /// Signatures that were checked and are right.
    pub verified: u64,
    /// The chains, in order.
    pub segments: Vec<Segment>,
    /// Chains that are not in `segments`, because there were too many.
    pub segments_left_out: u64,
    /// The first things found, in order.
    pub findings: Vec<Finding>,
    /// How many there were.
    pub findings_total: u64,
    /// The first things to note, in order.
    pub notes: Vec<Note>,
    /// What stands behind the last checkpoint; everything if there is none.
    pub beyond: Option<Beyond>,
    /// A last line without its end, behind the last checkpoint.
    pub torn: Option<Place>,
    /// Heads that were known from elsewhere, and whether they are here.
    pub anchors: Vec<(Anchor, bool)>,
    /// Without a chain: per pen the first number that is missing or passed.
    pub holes: Vec<(Place, String)>,
    /// Without a chain: the first line that is no record.
    pub unreadable: Option<(Place, String)>,
}

impl Report {
    /// In a word.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        if self.findings_total > 0 {
            Verdict::Broken
        } else if self.checkpoints == 0 {
            Verdict::NothingToProveBy
        } else {
            Verdict::Proven
        }
    }

    /// `audit.jsonl:12`.
    #[must_use]
    pub fn name(&self, place: Place) -> String {
        let file = self.files.get(place.file).map_or("?", String::as_str);
        format!("{file}:{}", place.line)
    }
}
