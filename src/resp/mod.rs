//! The Redis serialization protocol: what a request is, and where a reply ends.
//!
//! * [`request`] reads what clients send: one strict form, words in place, nothing copied.
//! * [`reply`] finds where a reply of Redis ends and of what class it is, in constant memory.
//! * [`encode`] writes what the proxy says itself; [`number`] knows what a number is; [`error`] why bytes were refused.
//!
//! **Invariants.** Nothing here recurses, allocates by a number a peer declared, or looks at a byte twice because it came
//! in small pieces. Nothing here knows a command. Once bytes were refused, the parser or scanner stays refused.

pub mod encode;
pub mod error;
mod inline;
pub mod number;
pub mod reply;
pub mod request;

pub use inline::INLINE_MAX;

/// Where one word lies in the bytes of its request, counted from the request's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte of the word.
    pub start: u32,
    /// One past its last byte.
    pub end: u32,
}

/// The words of one request, read in place.
///
/// While a request is still arriving, `declared` may be larger than the number of words that are already whole.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    input: &'a [u8],
    spans: &'a [Span],
    declared: u32,
}

impl<'a> Words<'a> {
    /// Words lying at `spans` in `input`, out of `declared` that the request's header promised.
    #[must_use]
    pub const fn new(input: &'a [u8], spans: &'a [Span], declared: u32) -> Self {
        Self { input, spans, declared }
    }

    /// The word at `index`, if it is already whole.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        let span = self.spans.get(index)?;
        self.input.get(span.start as usize..span.end as usize)
    }

    /// How many words are whole.
    #[must_use]
    pub const fn whole(&self) -> usize {
        self.spans.len()
    }

    /// How many words the request's header promised, the command's name among them (Redis' `argc`).
    #[must_use]
    pub const fn declared(&self) -> usize {
        self.declared as usize
    }

    /// The same request, seen as if its first word stood alone.
    #[must_use]
    pub fn first_only(&self) -> Self {
        Self { input: self.input, spans: self.spans.get(..1).unwrap_or_default(), declared: 1 }
    }

    /// The whole words in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        (0..self.spans.len()).filter_map(|index| self.get(index))
    }
}
