//! Requests that are a line: the blank line, `PING`, and plain words where a listener allows them.
//!
//! Redis splits lines by rules of its own (FACTS in [`request`](super::request)): quotes inside words, escapes, vertical
//! tabs that are part of a word here and a blank there, a NUL that hides the line's end. None of that is accepted, so
//! none of it can be read in two ways: words are printable ASCII without quotes and backslash, between spaces, up to
//! CRLF. They are forwarded re-encoded as an array, never as the line.

#![warn(clippy::arithmetic_side_effects)]

use super::{Span, error::RequestError};

/// Longest line of plain words in bytes, CRLF included (Redis' `PROTO_INLINE_MAX_SIZE`).
pub const INLINE_MAX: usize = 64 * 1024;

/// The one line that is always accepted: what health checkers of load balancers send.
const PING: &[u8] = b"PING\r\n";

/// Whether `input` begins with the line `PING` in any case: `Some(true)` if it does, `None` if it may yet.
pub(super) fn ping(input: &[u8]) -> Option<bool> {
    let known = input.len().min(PING.len());
    let same = match (input.get(..known), PING.get(..known)) {
        (Some(seen), Some(wanted)) => seen.eq_ignore_ascii_case(wanted),
        _ => false,
    };
    if !same {
        return Some(false);
    }
    (known == PING.len()).then_some(true)
}

/// How far a line of plain words has been read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line {
    /// Bytes that were looked at; only spaces and words are before it.
    scanned: u32,
    /// First byte of the word that is still open at `scanned`.
    open: Option<u32>,
}

impl Line {
    /// Bytes that were looked at.
    pub(super) const fn scanned(&self) -> u32 {
        self.scanned
    }

    /// Reads on; the line's length once it is whole. Each word is appended to `spans` when it ends.
    pub(super) fn scan(
        &mut self,
        input: &[u8],
        spans: &mut Vec<Span>,
        words_max: u32,
    ) -> Result<Option<usize>, RequestError> {
        while let Some(&byte) = input.get(self.scanned as usize) {
            let at = self.scanned;
            // Two more bytes are still to come at least, or one and the LF that is checked below.
            if at as usize >= INLINE_MAX.saturating_sub(1) {
                return Err(RequestError::InlineTooLong);
            }
            match byte {
                b' ' => self.close_word(spans, words_max)?,
                b'\r' => {
                    return match input.get((at as usize).saturating_add(1)) {
                        None => Ok(None),
                        Some(b'\n') => {
                            self.close_word(spans, words_max)?;
                            refuse_http(input, spans)?;
                            Ok(Some((at as usize).saturating_add(2)))
                        }
                        Some(_) => Err(RequestError::InlineByte(b'\r')),
                    };
                }
                b'"' | b'\'' | b'\\' => return Err(RequestError::InlineByte(byte)),
                0x21..=0x7e => {
                    self.open.get_or_insert(at);
                }
                _ => return Err(RequestError::InlineByte(byte)),
            }
            self.scanned = at.saturating_add(1);
        }
        Ok(None)
    }

    fn close_word(&mut self, spans: &mut Vec<Span>, words_max: u32) -> Result<(), RequestError> {
        if let Some(start) = self.open.take() {
            if spans.len() >= words_max as usize {
                return Err(RequestError::TooManyWords);
            }
            spans.push(Span { start, end: self.scanned });
        }
        Ok(())
    }
}

/// Redis hangs up on `POST` and `Host:` because a browser can be made to send them to any port, with a body whose lines
/// would otherwise run as commands.
fn refuse_http(input: &[u8], spans: &[Span]) -> Result<(), RequestError> {
    let first = spans.first().and_then(|span| input.get(span.start as usize..span.end as usize)).unwrap_or_default();
    if first.eq_ignore_ascii_case(b"post") || first.eq_ignore_ascii_case(b"host:") {
        return Err(RequestError::CrossProtocol);
    }
    Ok(())
}
