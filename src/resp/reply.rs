//! The reply boundary scanner: where a reply ends and of what class it is, building no values.

/// What kind of reply a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Class {
    /// `+`
    Status,
    /// `-`
    Error,
    /// `:`
    Integer,
    /// `$`
    Bulk,
    /// `$-1`, `*-1`, `_`
    Null,
    /// `*`
    Array,
    /// `%`
    Map,
    /// `~`
    Set,
    /// `>`
    Push,
    /// `,`
    Double,
    /// `#`
    Boolean,
    /// `(`
    BigNumber,
    /// `=`
    Verbatim,
    /// `!`
    BulkError,
}

/// Bounds on one reply.
#[derive(Clone, Copy, Debug)]
pub struct ReplyLimits {
    /// Longest line, in bytes, without its CRLF.
    pub line_max: usize,
    /// Longest bulk payload, in bytes.
    pub bulk_max: u64,
    /// Most elements one aggregate may declare.
    pub elements_max: u64,
}

/// What the scanner is to look at inside the next frame, besides its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inspect {
    /// Nothing.
    #[default]
    Nothing,
    /// The first element's word and the last integer of an array (pub/sub in RESP2). Pushes are always inspected so.
    Word,
    /// The class of each direct element (EXEC).
    Elements,
}

/// How far one call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing at the front of the input can be passed on yet (a line, or a head under inspection, is not whole).
    More,
    /// The first `len` bytes belong to the current frame and may be passed on.
    Piece {
        /// Bytes.
        len: usize,
        /// Whether this is the frame's first piece: its [`Frame`] head is now known.
        first: bool,
        /// Whether the frame ends with it.
        last: bool,
    },
}

/// Why a reply cannot be framed: the pair is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// placeholder
    #[error("unknown reply type")]
    UnknownType,
}

/// What is known of the current (or just ended) frame.
#[derive(Debug)]
pub struct Frame {
    /// The class; attributes before a reply belong to it and do not change it. Known from the first piece on.
    pub class: Class,
    /// First bytes of a top-level `-`/`+` line without its sigil (all of it if `head_len` is less than 64).
    pub head: [u8; 64],
    /// How many bytes of `head` count.
    pub head_len: u8,
    /// First element of an inspected array or push if that is a word of at most 32 bytes. Known from the first piece on.
    pub word: [u8; 32],
    /// How many bytes of `word` count.
    pub word_len: u8,
    /// The last integer among the frame's direct elements (a confirmation's count). Known when the frame has ended.
    pub last_integer: Option<u64>,
    /// With [`Inspect::Elements`]: the class of each direct element, at most 128 of them.
    pub elements: Vec<Class>,
    /// How many direct elements the top-level aggregate has.
    pub element_count: u64,
    /// Bytes of the frame so far.
    pub bytes: u64,
}

/// Finds the ends of replies in constant memory, whatever their nesting.
#[derive(Debug)]
pub struct ReplyScanner {
    limits: ReplyLimits,
}

impl ReplyScanner {
    /// A scanner at the start of a frame.
    #[must_use]
    pub fn new(limits: ReplyLimits) -> Self {
        Self { limits }
    }

    /// Says what to look at in the frame that begins next; has no effect in the middle of one.
    pub fn inspect(&mut self, inspect: Inspect) {
        let _ = (inspect, self.limits);
    }

    /// Whether the scanner stands between two frames.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        todo!()
    }

    /// Scans `input`, which begins where the last piece ended. Never passes beyond the end of one frame in one call.
    pub fn next(&mut self, input: &[u8]) -> Result<Progress, ReplyError> {
        let _ = input;
        todo!()
    }

    /// The current frame, or the last one if the scanner stands at a boundary.
    #[must_use]
    pub fn frame(&self) -> &Frame {
        todo!()
    }
}
