//! The strict, resumable request parser.
//!
//! Redis reads requests leniently: it skips the bytes that should be line ends without looking, and splits lines by
//! rules of its own. Whoever reads differently from Redis can be smuggled past. So this parser takes one form only, the
//! canonical one every client library sends, and refuses the rest at the first byte that shows it; what it takes, every
//! RESP parser reads the same way.
//!
//! ```text
//! command = "*" N CRLF N*( "$" L CRLF L*byte CRLF )      1 <= N <= words_max, 0 <= L <= bulk_max
//! nothing = "*" ( "0" / negative ) CRLF / CRLF           consumed, never forwarded, no reply
//! line    = "PING" CRLF                                  in any case; plain words if `inline` is set
//! N, L    = "0" / nonzero *digit                         `string2ll` without its minus
//! ```
//!
//! How Redis 2.8 to 8.6 and Valkey 8.0 to 9.1 read a request, and what is done here. `tests::FRAMING` has a case for each
//! row, and so has `tests/strict_framing.rs`, which sends it through a whole proxy to a real server and looks at what ran;
//! both count the rows. Lines have a table of their own in `inline.rs`, names in [`crate::command::strict`].
//!
//! | item | Redis | here |
//! |---|---|---|
//! | end of a header line | first CR, then two bytes skipped unseen: `*1\rX$8\rYFLUSHALL` runs | CRLF, or refused at the byte after CR |
//! | bare LF in a header | no end; scans on to the next CR | refused at once |
//! | NUL in a header | hides the rest; the request hangs up to 64 KB | refused at once |
//! | order of checks | CR is looked for before `$` is checked: `*1\r\nFLUSH…` waits | the first byte of a word is checked first |
//! | numbers | `string2ll` | the same, no minus; refused at the first digit too many |
//! | `*0`, `*-n` to -2^63 | no command, no reply, counted by CLIENT REPLY SKIP | [`Request::Blank`], at most `blanks_max` in a row |
//! | N too large | over 1024*1024 (to 6.2) or INT_MAX refused | over `words_max` refused; nothing is allocated by N |
//! | before AUTH | N over 10 and L over 16384 refused (from 5.0.14, 6.0.16, 6.2.6 on) | nobody is read before mutual TLS and the upstream's `+OK` |
//! | L below 0 or too large | refused | refused, over `bulk_max` at the digit that shows it; nothing is allocated by L |
//! | two bytes after a word | skipped unseen: `FLUSHALLZZ` runs, `PING*1\r\n$8…` eats `*1` (Valkey from 8.0.11, 9.0.6 refuses) | CRLF, or refused at the first wrong byte |
//! | total buffered | 1 GB, then closed without a word | [`RequestParser::known_len`] tells the session, which streams or denies |
//! | protocol error | one `-ERR Protocol error: …`, close, the rest ignored; some 8.x forget it between two reads | the same error again from every later call; Redis never sees the bytes |
//! | chunking | no influence on multibulk; decides whether a long line is taken | no influence |
//! | other types (`%1`, `~1`, `>2`, `+OK`, `$4`) | read as a line, and the connection goes on | refused |
//! | element that is not `$` | refused | refused |
//!
//! Sources: redis `src/networking.c` (`processMultibulkBuffer`, `processInlineBuffer`), `src/util.c` (`string2ll`).

#![warn(clippy::arithmetic_side_effects)]

mod stream;

pub use super::error::RequestError;
use super::{
    Span, Words,
    inline::{Line, ping},
    number::{Header, header, negative_header, short_header},
};
pub use stream::Piece;

/// Shortest encoding of a word: `$0\r\n\r\n`.
const WORD_MIN: u64 = 6;

/// The CRLF after a payload.
const CRLF_LEN: u64 = 2;

/// Spans (8 bytes each) that a parser keeps between requests; what a larger request needed is given back.
const SPANS_KEPT: usize = 1024;

/// Bounds on one request.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Most words in one request (Redis: 1024*1024 up to 6.2).
    pub words_max: u32,
    /// Longest word, in bytes (Redis' `proto-max-bulk-len`, 512 MiB).
    pub bulk_max: u64,
    /// Blank CRLF lines and empty arrays (`*0`, `*-n`) tolerated in a row.
    pub blanks_max: u32,
    /// Whether plain words on a line are accepted besides the exact line `PING`.
    pub inline: bool,
}

/// What the bytes at the front of the input are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Not yet whole.
    More,
    /// `len` bytes that are no command and get no reply. `request` is true for `*0` and `*-n`, which Redis counts as
    /// the request that CLIENT REPLY SKIP skips.
    Blank {
        /// Bytes to consume.
        len: usize,
        /// Whether Redis counts it as a request.
        request: bool,
    },
    /// A whole command in canonical encoding: the first `len` bytes; its words by [`RequestParser::words`].
    Command {
        /// Bytes of the command.
        len: usize,
    },
    /// A line of plain words (`PING` always; others where inline commands are allowed): `len` bytes, to be forwarded
    /// re-encoded.
    Inline {
        /// Bytes of the line, its CRLF included.
        len: usize,
    },
}

/// Reads requests.
///
/// ```text
///            `*N`                 `$L`            L bytes, CRLF
///  Start ─────────► Header ◄───────────────► Payload
///    ▲  other line    │ no word missing
///    │  ► Line ─► End ◄
///    └─────────────────┘ next call             any refusal ► Failed, for good
/// ```
#[derive(Debug)]
pub struct RequestParser {
    limits: RequestLimits,
    stage: Stage,
    /// Whole words of the current request. `spans.len() + missing == declared`, except when streaming, which keeps none.
    spans: Vec<Span>,
    /// What `*N` declared; for a line, its words once it is whole.
    declared: u32,
    /// Words that are not whole yet, the one being read among them.
    missing: u32,
    /// Bytes at the front of the input that are verified: where the header or payload being read begins. 0 when streaming.
    position: usize,
    /// Bytes of the current request that `split` and `stream` have let go.
    released: u64,
    /// Blank requests in a row.
    blanks: u32,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Between requests, or in the first line of one that is not an inline line.
    Start,
    /// In a line of plain words.
    Line(Line),
    /// A `$L` line begins at `position`.
    Header,
    /// A payload begins at `position`; `left` bytes of it are still to come (all of them unless streaming).
    Payload { left: u64 },
    /// A request has been returned; its words can be asked for until the next call.
    End,
    /// A request was refused. Nothing is ever read again.
    Failed(RequestError),
}

impl RequestParser {
    /// A parser at the start of a request.
    #[must_use]
    pub const fn new(limits: RequestLimits) -> Self {
        Self {
            limits,
            stage: Stage::Start,
            spans: Vec::new(),
            declared: 0,
            missing: 0,
            position: 0,
            released: 0,
            blanks: 0,
        }
    }

    /// Other bounds, from the next header on: a reload has brought them.
    pub const fn set_limits(&mut self, limits: RequestLimits) {
        self.limits = limits;
    }

    /// Looks at `input`, whose first byte is the first byte of a request, and which only ever grows until something
    /// other than `More` is returned.
    ///
    /// No byte is looked at twice, except those of a header line that is not whole (at most 23).
    ///
    /// # Errors
    ///
    /// The request is not canonical or over a limit. The parser stays refused: every later call says the same.
    pub fn next(&mut self, input: &[u8]) -> Result<Request, RequestError> {
        if let Some(len) = self.next_short(input) {
            return Ok(Request::Command { len });
        }
        self.next_long(input)
    }

    /// As [`Self::next`], for what [`Self::next_short`] has just said nothing about.
    ///
    /// # Errors
    ///
    /// As of [`Self::next`].
    pub fn next_long(&mut self, input: &[u8]) -> Result<Request, RequestError> {
        let result = self.advance(input);
        if let Err(error) = result {
            self.stage = Stage::Failed(error);
        }
        result
    }

    /// The length of the command that `input` begins with, if it is all there and none of its numbers has many digits,
    /// as of nearly every command: read at one go. Anything else is left as it was for [`Self::next_long`].
    #[inline]
    pub fn next_short(&mut self, input: &[u8]) -> Option<usize> {
        if !matches!(self.stage, Stage::Start | Stage::End) {
            return None;
        }
        let [b'*', count @ b'1'..=b'9', b'\r', b'\n', ..] = *input else { return None };
        let count = u32::from(count & 15);
        if count > self.limits.words_max || self.spans.capacity() > SPANS_KEPT {
            return None;
        }
        self.spans.clear();
        // No number here has more than five digits, so nothing is near an overflow.
        let mut position: u32 = 4;
        let mut rest = input.get(4..)?;
        for _ in 0..count {
            let [b'$', line @ ..] = rest else { return None };
            let (len, header) = short_header(line)?;
            let (_, behind) = line.get(header..)?.split_at_checked(len as usize)?;
            let [b'\r', b'\n', behind @ ..] = behind else { return None };
            if u64::from(len) > self.limits.bulk_max {
                return None;
            }
            let start = position.wrapping_add(1).wrapping_add(u32::try_from(header).ok()?);
            let end = start.wrapping_add(len);
            self.spans.push(Span { start, end });
            position = end.wrapping_add(2);
            rest = behind;
        }
        self.declared = count;
        self.missing = 0;
        self.position = position as usize;
        self.released = 0;
        self.blanks = 0;
        self.stage = Stage::End;
        Some(self.position)
    }

    fn advance(&mut self, input: &[u8]) -> Result<Request, RequestError> {
        match self.stage {
            Stage::Header | Stage::Payload { .. } => return self.read_words(input),
            Stage::Line(line) => return self.read_line(line, input),
            Stage::Failed(error) => return Err(error),
            Stage::Start | Stage::End => self.begin(),
        }
        match input {
            [b'*', line @ ..] => self.read_count(line, input),
            [] | [b'\r'] => Ok(Request::More),
            [b'\r', b'\n', ..] => self.blank(2, false),
            [b'a'..=b'z' | b'A'..=b'Z', ..] if self.limits.inline => self.read_line(Line::default(), input),
            [first, ..] => match ping(input) {
                None => Ok(Request::More),
                Some(true) => {
                    let mut line = Line::default();
                    line.scan(input, &mut self.spans, 1)?.map_or(Ok(Request::More), |len| Ok(self.end_line(len)))
                }
                Some(false) => Err(RequestError::ExpectedArray(*first)),
            },
        }
    }

    /// Forgets the request that ended.
    fn begin(&mut self) {
        if self.spans.capacity() > SPANS_KEPT {
            self.spans = Vec::new();
        }
        self.spans.clear();
        self.stage = Stage::Start;
        self.declared = 0;
        self.missing = 0;
        self.position = 0;
        self.released = 0;
    }

    /// Reads `*N`; `line` begins after the `*`.
    fn read_count(&mut self, line: &[u8], input: &[u8]) -> Result<Request, RequestError> {
        if line.first() == Some(&b'-') {
            return match negative_header(line) {
                Header::More => Ok(Request::More),
                Header::Whole { len, .. } => self.blank(len.saturating_add(1), true),
                Header::Malformed | Header::TooLarge => Err(RequestError::MultibulkLength),
            };
        }
        match header(line, u64::from(self.limits.words_max)) {
            Header::More => Ok(Request::More),
            Header::Whole { value: 0, len } => self.blank(len.saturating_add(1), true),
            Header::Whole { value, len } => {
                self.declared = u32::try_from(value).map_err(|_| RequestError::TooManyWords)?;
                self.missing = self.declared;
                self.position = len.saturating_add(1);
                self.stage = Stage::Header;
                self.read_words(input)
            }
            Header::Malformed => Err(RequestError::MultibulkLength),
            Header::TooLarge => Err(RequestError::TooManyWords),
        }
    }

    fn read_words(&mut self, input: &[u8]) -> Result<Request, RequestError> {
        loop {
            let rest = input.get(self.position..).unwrap_or_default();
            let (payload, left) = match self.stage {
                Stage::Payload { left } => (rest, left),
                _ => match self.read_length(rest)? {
                    None => return Ok(Request::More),
                    Some((left, len)) => {
                        self.position = self.position.saturating_add(len);
                        self.stage = Stage::Payload { left };
                        (rest.get(len..).unwrap_or_default(), left)
                    }
                },
            };
            let len = usize::try_from(left).map_err(|_| RequestError::TooLong)?;
            if !terminated(payload, len)? {
                return Ok(Request::More);
            }
            let end = self.position.saturating_add(len);
            self.spans.push(Span { start: offset(self.position)?, end: offset(end)? });
            self.position = end.saturating_add(2);
            self.stage = Stage::Header;
            self.missing = self.missing.saturating_sub(1);
            if self.missing == 0 {
                self.blanks = 0;
                self.stage = Stage::End;
                return Ok(Request::Command { len: self.position });
            }
        }
    }

    /// Reads `$L` at the front of `rest`: the length and the bytes of its line.
    #[inline]
    fn read_length(&self, rest: &[u8]) -> Result<Option<(u64, usize)>, RequestError> {
        match rest {
            [] => Ok(None),
            [b'$', line @ ..] => match header(line, self.limits.bulk_max) {
                Header::More => Ok(None),
                Header::Whole { value, len } => Ok(Some((value, len.saturating_add(1)))),
                Header::Malformed => Err(RequestError::BulkLength),
                Header::TooLarge => Err(RequestError::BulkTooLong),
            },
            [other, ..] => Err(RequestError::ExpectedDollar(*other)),
        }
    }

    fn read_line(&mut self, mut line: Line, input: &[u8]) -> Result<Request, RequestError> {
        match line.scan(input, &mut self.spans, self.limits.words_max)? {
            Some(len) => Ok(self.end_line(len)),
            None => {
                self.stage = Stage::Line(line);
                Ok(Request::More)
            }
        }
    }

    fn end_line(&mut self, len: usize) -> Request {
        self.declared = u32::try_from(self.spans.len()).unwrap_or(u32::MAX);
        self.position = len;
        self.blanks = 0;
        self.stage = Stage::End;
        Request::Inline { len }
    }

    fn blank(&mut self, len: usize, request: bool) -> Result<Request, RequestError> {
        self.blanks = self.blanks.saturating_add(1);
        if self.blanks > self.limits.blanks_max {
            return Err(RequestError::TooManyBlanks);
        }
        Ok(Request::Blank { len, request })
    }

    /// The words read so far of the current request, or all of them after `Command` or `Inline`. None of a command
    /// that is being streamed: their bytes have left the buffer.
    #[must_use]
    pub fn words<'a>(&'a self, input: &'a [u8]) -> Words<'a> {
        Words::new(input, &self.spans, self.declared)
    }

    /// A lower bound on the whole command's length in bytes, from what its headers have declared so far: exact once the
    /// last word's header is read. Bytes already streamed count. 0 while nothing is known.
    #[must_use]
    pub fn known_len(&self) -> u64 {
        let here = self.released.saturating_add(self.position as u64);
        match self.stage {
            Stage::Start | Stage::Failed(_) => 0,
            Stage::Line(line) => u64::from(line.scanned()),
            Stage::Header => here.saturating_add(u64::from(self.missing).saturating_mul(WORD_MIN)),
            Stage::Payload { left } => {
                let behind = u64::from(self.missing.saturating_sub(1)).saturating_mul(WORD_MIN);
                here.saturating_add(left).saturating_add(CRLF_LEN).saturating_add(behind)
            }
            Stage::End => here,
        }
    }

    /// Bytes of memory the parser holds: 8 for each word of a request that is read whole, up to twice that while it
    /// grows. A word is 6 bytes or more on the wire, so many empty words cost more here than in the buffer.
    #[must_use]
    pub const fn memory(&self) -> usize {
        self.spans.capacity().saturating_mul(size_of::<Span>())
    }

    /// Gives memory back after a large request. Between requests that is all of it (the words of the last request are
    /// forgotten); in the middle of one, what it does not need yet.
    pub fn shrink(&mut self) {
        match self.stage {
            Stage::Start | Stage::End => {
                self.spans = Vec::new();
                self.begin();
            }
            _ => self.spans.shrink_to_fit(),
        }
    }
}

/// Whether CRLF follows `len` bytes of `payload`; `false` if it may yet.
#[inline]
fn terminated(payload: &[u8], len: usize) -> Result<bool, RequestError> {
    match payload.get(len..).unwrap_or_default() {
        [b'\r', b'\n', ..] => Ok(true),
        [] | [b'\r'] => Ok(false),
        _ => Err(RequestError::Terminator),
    }
}

/// An offset as a span holds it.
#[inline]
fn offset(position: usize) -> Result<u32, RequestError> {
    u32::try_from(position).map_err(|_| RequestError::TooLong)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
