//! What one turn wants written to one socket, without copying what only passes through.

use std::ops::Range;

/// Bytes to be written, in order: `spill`, then `base[span]`.
///
/// Most turns forward one contiguous run of the very bytes that were read; those are never copied. Anything else
/// (a reply made here, a gap where a command was denied) moves what was gathered so far into `spill`.
#[derive(Debug)]
pub struct Gather<'i> {
    base: &'i [u8],
    span: Range<usize>,
    spill: Vec<u8>,
}

impl<'i> Gather<'i> {
    /// Gathers from `base`, the bytes that were read; `spill` is a scratch buffer handed in so that it can be reused
    /// (its contents are kept and come first).
    #[must_use]
    pub const fn new(base: &'i [u8], spill: Vec<u8>) -> Self {
        Self { base, span: 0..0, spill }
    }

    /// Appends `base[range]`.
    pub fn pass(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        if self.span.is_empty() {
            self.span = range;
        } else if self.span.end == range.start {
            self.span.end = range.end;
        } else {
            self.settle();
            self.span = range;
        }
    }

    /// Appends bytes of our own.
    pub fn push(&mut self, bytes: &[u8]) {
        self.settle();
        self.spill.extend_from_slice(bytes);
    }

    /// The spill buffer, for encoders that append to a `Vec`.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        self.settle();
        &mut self.spill
    }

    /// What is to be written: first slice, then second; either may be empty.
    #[must_use]
    pub fn slices(&self) -> (&[u8], &'i [u8]) {
        (&self.spill, self.base.get(self.span.clone()).unwrap_or_default())
    }

    /// Bytes to be written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spill.len().saturating_add(self.span.len())
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives the scratch buffer back, emptied.
    #[must_use]
    pub fn into_spill(mut self) -> Vec<u8> {
        self.spill.clear();
        self.spill
    }

    fn settle(&mut self) {
        if !self.span.is_empty() {
            self.spill.extend_from_slice(self.base.get(self.span.clone()).unwrap_or_default());
            self.span = 0..0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Gather;

    #[test]
    fn adjacent_ranges_pass_without_a_copy() {
        let mut gather = Gather::new(b"abcdef", Vec::new());
        gather.pass(0..2);
        gather.pass(2..6);
        assert_eq!(gather.slices(), (&b""[..], &b"abcdef"[..]));
    }

    #[test]
    fn order_is_kept_across_gaps_and_own_bytes() {
        let mut gather = Gather::new(b"abcdef", Vec::new());
        gather.pass(0..2);
        gather.push(b"-X");
        gather.pass(4..5);
        gather.pass(5..6);
        let (spill, rest) = gather.slices();
        assert_eq!([spill, rest].concat(), b"ab-Xef");
        assert_eq!(gather.len(), 6);
    }
}
