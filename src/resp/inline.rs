//! Requests that are a line: the blank line, `PING`, and plain words where a listener allows them.
//!
//! Redis splits lines by rules of its own (`processInlineBuffer`, `sdssplitargs`), which differ from release to release.
//! None of what they leave open is accepted, so none of it can be read in two ways: words are printable ASCII without
//! quotes and backslash, between spaces, up to CRLF. They are forwarded re-encoded as an array, never as the line. Where
//! a listener takes no lines, `PING` alone is one. `super::request::tests::LINES` has a case for each row, and so has
//! `tests/strict_framing.rs`, end to end; both count the rows.
//!
//! | item | Redis | here |
//! |---|---|---|
//! | end of a line | LF, with or without one CR before it | CRLF; anything else refused at the byte after CR, or at LF |
//! | NUL in a line | hides the LF: the line hangs up to 64 KB | refused at once |
//! | blanks between words | space, tab, LF, VT, FF, CR; VT and FF do not end a word: `FLUSHALL\v` is one | spaces; any other refused |
//! | quote inside a word | opens there: `FLUSH"ALL"`, `F'LUSHALL'` run | refused |
//! | escapes in `"` | `\xHH`, `\n`, any other `\c` is c: `"\x46LUSHALL"`, `"FLU\SHALL"` run | refused, as is a backslash anywhere |
//! | unbalanced quotes | refused | refused |
//! | blank line | no reply | [`Request::Blank`](super::request::Request::Blank), as `*0` |
//! | CR before CRLF | a blank: `\r\r\n` is a blank line | refused |
//! | CR alone | no end | refused at the byte after it |
//! | line of blanks | no reply; Valkey 8.0.1 then reads the *next request* as a line, so that lines inside a payload run | refused |
//! | LF alone, to 3.2 | one more byte is eaten: `PING\nXFLUSHALL` runs FLUSHALL | refused |
//! | empty quoted word, to 5.0.0 | dropped: `"" FLUSHALL` runs | refused |
//! | longer than 64 KiB | refused, or (to 7.0) taken if its LF comes in the same read | refused, however it comes |
//! | `POST`, `Host:` | closed without a word from 3.2.7 on, in any case (from 7.0 `host:\0x` too); 2.8 runs the lines behind it | refused: at the first byte, or where lines are taken as soon as the word is known |
//! | first byte of anything else | begins a line | refused, but for a letter where lines are taken |

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
                b' ' => {
                    self.close_word(spans, words_max)?;
                    if spans.len() == 1 {
                        refuse_http(input, spans)?;
                    }
                }
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
