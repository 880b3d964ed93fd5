//! Which words of a request are keys.

use super::Entry;
use crate::resp::{Span, Words};

/// placeholder: one of Redis' key specifications (begin_search, find_keys, access flags).
#[derive(Debug)]
pub struct KeySpec;

/// What is known of a request's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// They are the words whose indices were written to the buffer.
    Exact,
    /// They cannot be told (numkeys is not canonical, an option stands twice, a module command …).
    Undeterminable,
}

/// Whether no later word can change verdict, key list or state of this request: what is whole of `words` settles it,
/// and the rest may be streamed.
#[must_use]
pub fn settled(entry: &Entry, words: &Words<'_>) -> bool {
    let _ = (entry, words);
    todo!()
}

/// Writes the indices of the words that are keys to `out` (cleared first), in the order Redis reports them.
pub fn find(entry: &Entry, words: &Words<'_>, out: &mut Vec<u32>) -> Keys {
    let _ = (entry, words, out);
    let _: Option<Span> = None;
    todo!()
}
