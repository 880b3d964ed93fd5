//! What is known of a reply besides where it ends.

#![warn(clippy::arithmetic_side_effects)]

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

impl Class {
    /// A stable lower-case word for records and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Error => "error",
            Self::Integer => "integer",
            Self::Bulk => "bulk",
            Self::Null => "null",
            Self::Array => "array",
            Self::Map => "map",
            Self::Set => "set",
            Self::Push => "push",
            Self::Double => "double",
            Self::Boolean => "boolean",
            Self::BigNumber => "big-number",
            Self::Verbatim => "verbatim",
            Self::BulkError => "bulk-error",
        }
    }
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
    /// With [`super::Inspect::Elements`]: the class of each direct element, at most 128 of them.
    pub elements: Vec<Class>,
    /// How many direct elements the top-level aggregate has.
    pub element_count: u64,
    /// Bytes of the frame so far.
    pub bytes: u64,
}

impl Frame {
    pub(super) const fn new() -> Self {
        Self {
            class: Class::Null,
            head: [0; 64],
            head_len: 0,
            word: [0; 32],
            word_len: 0,
            last_integer: None,
            elements: Vec::new(),
            element_count: 0,
            bytes: 0,
        }
    }

    /// Makes room for the next frame's facts; the arrays need no wiping, their lengths say what counts.
    pub(super) fn clear(&mut self) {
        self.head_len = 0;
        self.word_len = 0;
        self.last_integer = None;
        self.elements.clear();
        self.element_count = 0;
        self.bytes = 0;
    }

    /// First bytes of a top-level `-`/`+` line.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        self.head.get(..usize::from(self.head_len)).unwrap_or_default()
    }

    /// First element of an inspected array or push; empty if that is no word of at most 32 bytes.
    #[must_use]
    pub fn word(&self) -> &[u8] {
        self.word.get(..usize::from(self.word_len)).unwrap_or_default()
    }

    /// The code of a top-level error (`ERR`, `NOPERM`), by [`error_code`].
    #[must_use]
    pub fn error_code(&self) -> &[u8] {
        if self.class == Class::Error { error_code(self.head()) } else { b"" }
    }
}

/// The code of an error line without its sigil: its first word, if that is at most 32 bytes of `A-Z`, `0-9` and `_`,
/// else nothing. So it can go into records and metrics as it is.
#[must_use]
pub fn error_code(head: &[u8]) -> &[u8] {
    let word = head.split(|byte| *byte == b' ').next().unwrap_or_default();
    let is_code = word.len() <= 32 && word.iter().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_'));
    if is_code { word } else { b"" }
}

/// Copies as much of `text` to the front of `to` as fits; how much that is.
pub(super) fn copy_front<const N: usize>(to: &mut [u8; N], text: &[u8]) -> u8 {
    let len = text.len().min(N);
    if let (Some(to), Some(text)) = (to.get_mut(..len), text.get(..len)) {
        to.copy_from_slice(text);
    }
    u8::try_from(len).unwrap_or(0)
}
