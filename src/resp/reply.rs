//! The reply boundary scanner: where a reply ends and of what class it is, building no values.
//!
//! ```text
//! line      = ("+" / "-" / ":" / "_" / "#" / "," / "(") text CRLF     no CR or LF in text
//! payload   = ("$" / "!" / "=") L CRLF L*byte CRLF
//! aggregate = ("*" / "~" / ">") N CRLF N*reply / "%" N CRLF 2N*reply
//! null      = "$-1" CRLF / "*-1" CRLF
//! attribute = "|" N CRLF 2N*reply                                      a prefix of the reply behind it
//! ```
//!
//! A push inside a reply is no element of it: Redis up to 7.0 sends the message of a PUBLISH to a channel of one's own
//! while it writes EXEC's array, and counts it nowhere (`pubsub.c`, `addReplyPushLen`). So it is passed over, as an
//! attribute is.
//!
//! Nesting costs nothing: an aggregate only adds its elements to one counter of replies that are still to come, and the
//! frame ends when that is zero. The direct elements of the frame are told apart by a second counter: one ends whenever
//! nothing but direct elements is outstanding. So there is no depth to bound; the two counters are bounded instead.
//!
//! Strict where leniency would let two readers frame differently: every line and payload ends in CRLF, no CR or LF alone
//! inside a line, lengths in canonical form, `-1` only where RESP2 has it. Streamed types are refused; no Redis sends
//! them. What cannot be framed closes the pair: there is no resynchronising.
//!
//! | bound | as deployed | beyond it | test |
//! |---|---|---|---|
//! | a line, without CRLF: [`ReplyLimits::line_max`] | 1 MiB | [`ReplyError::LineTooLong`] | `what_cannot_be_framed_is_refused…` |
//! | a payload: [`ReplyLimits::bulk_max`] | 4 GiB | [`ReplyError::BulkTooLong`] | the same |
//! | elements of one aggregate: [`ReplyLimits::elements_max`] (pairs, of a map) | 2^32 - 1 | [`ReplyError::TooManyElements`] | the same |
//! | elements promised and still to come, over all levels | 2^40 | [`ReplyError::TooManyElements`] | `promises_of_elements_are_bounded…` |
//! | attributes before a reply | 64 KiB | [`ReplyError::AttributeTooLong`] | `attributes_are_held_up_to_a_bound` |
//! | depth | none: 0 bytes a level | | `a_million_levels_take_the_state_of_one` |
//!
//! Beyond a bound the pair is closed and the record says `desync`; `tests/states_replies.rs` shows each of these, and the
//! memory of a million levels, through the whole proxy.
//!
//! Source: redis/docs `develop/reference/protocol-spec.md`; what servers really send is compared in `tests/states_replies.rs`
//! (Redis 2.8 to 8.6, Redict, Valkey 8.0 and 9.1).

#![warn(clippy::arithmetic_side_effects)]

pub use super::error::ReplyError;
use super::number::{Header, canonical_u64, header, short_header};
use frame::copy_front;
pub use frame::{Class, Frame, error_code};
use memchr::memchr2;

mod frame;

/// Most replies that may be outstanding in one frame: beyond it no counter overflows, and no server means it.
const OUTSTANDING_MAX: u64 = 1 << 40;

/// Most bytes of attributes before a reply that are held until the reply's own type is known.
const HELD_MAX: usize = 64 * 1024;

/// Most direct elements whose class is noted.
const ELEMENTS_NOTED: usize = 128;

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

/// Finds the ends of replies in constant memory, whatever their nesting.
#[derive(Debug)]
pub struct ReplyScanner {
    limits: ReplyLimits,
    stage: Stage,
    /// What to look at in the current frame, or in the next one between frames.
    inspect: Inspect,
    /// Replies still to come in this frame, at any depth. 0 between frames.
    outstanding: u64,
    /// Direct elements still to come. `direct <= outstanding` once the class is known.
    direct: u64,
    /// Whether the frame's own type has been read; until then what is outstanding is it and its attributes.
    known: bool,
    word: WordState,
    /// Whether a piece of this frame has been let go.
    begun: bool,
    /// Bytes at the front of the input that were scanned but not let go.
    held: usize,
    /// Bytes of the unfinished line behind them that are known to hold neither CR nor LF.
    scanned: usize,
    /// Whether a piece ends behind every error inside a frame too.
    stops_at_errors: bool,
    /// Whether the last piece's last line is an error.
    at_error: bool,
    frame: Frame,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// A type byte is next.
    Item,
    /// In a payload with so many bytes to come.
    Payload(u64),
    /// The CRLF of a payload is next.
    Terminator,
    /// Refused. Nothing is ever scanned again.
    Failed(ReplyError),
}

/// What has become of the word that is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WordState {
    /// Found, or there is none: nothing is held for it.
    Settled,
    /// The first direct element is still to come.
    Awaited,
    /// In its payload.
    Payload,
}

impl ReplyScanner {
    /// A scanner at the start of a frame.
    #[must_use]
    pub fn new(limits: ReplyLimits) -> Self {
        Self {
            limits,
            stage: Stage::Item,
            inspect: Inspect::Nothing,
            outstanding: 0,
            direct: 0,
            known: false,
            word: WordState::Settled,
            begun: false,
            held: 0,
            scanned: 0,
            stops_at_errors: false,
            at_error: false,
            frame: Frame::new(),
        }
    }

    /// The limits it was given.
    #[must_use]
    pub const fn limits(&self) -> ReplyLimits {
        self.limits
    }

    /// Says what to look at in the frame that begins next; has no effect in the middle of one. It holds for one frame.
    pub fn inspect(&mut self, inspect: Inspect) {
        if self.outstanding == 0 {
            self.inspect = inspect;
        }
    }

    /// Says whether every error is to be the last line of its piece, however deep in a frame it stands, so that a caller
    /// can change it ([`Self::ends_with_error`]). Not one inside an attribute: no server says one there.
    #[inline]
    pub const fn stop_at_errors(&mut self, stops: bool) {
        self.stops_at_errors = stops;
    }

    /// Whether the last line of the piece that [`Self::next`] gave last is an error. Always false unless it was asked for.
    #[must_use]
    pub const fn ends_with_error(&self) -> bool {
        self.at_error
    }

    /// Whether the scanner stands between two frames: everything that was let go is whole frames.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        !self.begun
    }

    /// Scans `input`, which begins where the last piece ended. Never passes beyond the end of one frame in one call.
    ///
    /// Lines pass only whole; payloads pass as they come. A frame's first piece waits until its class is known and, if
    /// its word is looked for, until the first element is whole; what waits stays in the caller's buffer (one line of
    /// `line_max` bytes, attributes up to 64 KiB) and is not scanned again.
    ///
    /// # Errors
    ///
    /// The bytes cannot be framed or are over a limit. The scanner stays refused: every later call says the same.
    pub fn next(&mut self, input: &[u8]) -> Result<Progress, ReplyError> {
        if let Some((_, len)) = self.next_short(input) {
            return Ok(Progress::Piece { len, first: true, last: true });
        }
        let result = self.advance(input);
        if let Err(error) = result {
            self.stage = Stage::Failed(error);
        }
        result
    }

    /// The current frame, or the last one if the scanner stands at a boundary.
    #[must_use]
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Class and length of the reply that `input` begins with, if the scanner stands between two, and it is `+OK`, a null, or a
    /// small number or bulk that is all there, as nearly every reply is: read at one go. Anything else is left as it was
    /// for [`Self::next`].
    #[inline]
    pub fn next_short(&mut self, input: &[u8]) -> Option<(Class, usize)> {
        if self.outstanding > 0 || self.stage != Stage::Item {
            return None;
        }
        let (class, len) = match *input {
            [b'$', b'-', b'1', b'\r', b'\n', ..] => (Class::Null, 5),
            [b'$', ref line @ ..] => {
                let (value, header) = short_header(line)?;
                let end = header.saturating_add(value as usize);
                let ([b'\r', b'\n', ..], true) = (line.get(end..)?, u64::from(value) <= self.limits.bulk_max) else {
                    return None;
                };
                (Class::Bulk, end.saturating_add(3))
            }
            [b'+', b'O', b'K', b'\r', b'\n', ..] if self.limits.line_max > 2 => (Class::Status, 5),
            [b':', ref line @ ..] if self.limits.line_max > 3 => {
                (Class::Integer, short_header(line)?.1.saturating_add(1))
            }
            _ => return None,
        };
        self.frame.clear();
        self.frame.class = class;
        self.frame.bytes = len as u64;
        if class == Class::Status {
            self.frame.head_len = copy_front(&mut self.frame.head, b"OK");
        }
        self.inspect = Inspect::Nothing;
        self.at_error = false;
        self.scanned = 0;
        Some((class, len))
    }

    fn advance(&mut self, input: &[u8]) -> Result<Progress, ReplyError> {
        let mut len = self.held;
        let last = loop {
            let rest = input.get(len..).unwrap_or_default();
            // That of the piece that was let go, or of an attribute that is still held.
            self.at_error = false;
            let passed = match self.stage {
                Stage::Item => self.item(rest)?,
                Stage::Payload(left) => Some(self.payload(rest, left)),
                Stage::Terminator => self.terminator(rest)?,
                Stage::Failed(error) => return Err(error),
            };
            match passed {
                None | Some(0) => break false,
                Some(passed) => len = len.saturating_add(passed),
            }
            if !self.known && len > HELD_MAX {
                // However they are cut: a bound that only showed when they came in pieces would be none.
                return Err(ReplyError::AttributeTooLong);
            }
            if self.outstanding == 0 && self.stage == Stage::Item {
                break true;
            }
            if self.at_error && self.known && self.word == WordState::Settled {
                break false;
            }
        };
        let waits = !last && (!self.known || self.word != WordState::Settled);
        if waits {
            self.held = len;
            return Ok(Progress::More);
        }
        if len == 0 {
            return Ok(Progress::More);
        }
        self.held = 0;
        self.frame.bytes = self.frame.bytes.saturating_add(len as u64);
        let first = !self.begun;
        self.begun = !last;
        if last {
            self.known = false;
            self.word = WordState::Settled;
            self.inspect = Inspect::Nothing;
        }
        Ok(Progress::Piece { len, first, last })
    }

    /// Reads the line a reply begins with, whole; the number of its bytes.
    fn item(&mut self, rest: &[u8]) -> Result<Option<usize>, ReplyError> {
        let Some((&kind, line)) = rest.split_first() else { return Ok(None) };
        let class = match kind {
            b'$' => return self.sized(Class::Bulk, line),
            b'*' => return self.aggregate(Class::Array, line, 1),
            b'+' => Class::Status,
            b'-' => Class::Error,
            b':' => Class::Integer,
            b'%' => return self.aggregate(Class::Map, line, 2),
            b'~' => return self.aggregate(Class::Set, line, 1),
            b'>' => return self.aggregate(Class::Push, line, 1),
            b'|' => return self.attribute(line),
            b'!' => return self.sized(Class::BulkError, line),
            b'=' => return self.sized(Class::Verbatim, line),
            b'_' => Class::Null,
            b'#' => Class::Boolean,
            b',' => Class::Double,
            b'(' => Class::BigNumber,
            b'.' | b';' => return Err(ReplyError::Streamed),
            _ => return Err(ReplyError::UnknownType),
        };
        let Some(text) = self.line(line)? else { return Ok(None) };
        check_value(class, text)?;
        self.enter(class, 0, Some(text))?;
        self.at_error = self.stops_at_errors && class == Class::Error;
        // Sigil and CRLF.
        Ok(Some(text.len().saturating_add(3)))
    }

    /// The text of a line, once its CRLF is there.
    fn line<'a>(&mut self, line: &'a [u8]) -> Result<Option<&'a [u8]>, ReplyError> {
        let unseen = line.get(self.scanned..).unwrap_or_default();
        let len = memchr2(b'\r', b'\n', unseen).map(|found| found.saturating_add(self.scanned));
        if len.unwrap_or(line.len()) > self.limits.line_max {
            return Err(ReplyError::LineTooLong);
        }
        let Some(len) = len else {
            self.scanned = line.len();
            return Ok(None);
        };
        match line.get(len..).unwrap_or_default() {
            [b'\r', b'\n', ..] => {
                self.scanned = 0;
                Ok(line.get(..len))
            }
            [b'\r'] => {
                self.scanned = len;
                Ok(None)
            }
            _ => Err(ReplyError::Line),
        }
    }

    /// Reads `L` of a payload.
    fn sized(&mut self, class: Class, line: &[u8]) -> Result<Option<usize>, ReplyError> {
        let (value, len) = match header(line, self.limits.bulk_max) {
            Header::Whole { value, len } => (value, len),
            Header::More => return Ok(None),
            Header::TooLarge => return Err(ReplyError::BulkTooLong),
            Header::Malformed if class == Class::Bulk => return self.null_or_streamed(line),
            Header::Malformed => return Err(streamed_or(line, ReplyError::Length)),
        };
        let direct = self.enter(class, 0, None)?;
        if direct && self.word == WordState::Awaited {
            self.word = if class == Class::Bulk && value <= self.frame.word.len() as u64 {
                WordState::Payload
            } else {
                WordState::Settled
            };
        }
        let len = len.saturating_add(1);
        if self.word != WordState::Payload
            && let Ok(value) = usize::try_from(value)
            && let Some([b'\r', b'\n', ..]) = line.get(len.saturating_add(value).saturating_sub(1)..)
        {
            // All of it is here, as nearly always with small values: the stages between are for pieces.
            return Ok(Some(len.saturating_add(value).saturating_add(2)));
        }
        self.stage = if value == 0 { Stage::Terminator } else { Stage::Payload(value) };
        Ok(Some(len))
    }

    /// Reads `N` of an aggregate whose elements are `per` replies each.
    fn aggregate(&mut self, class: Class, line: &[u8], per: u64) -> Result<Option<usize>, ReplyError> {
        let (count, len) = match header(line, self.limits.elements_max) {
            Header::Whole { value, len } => (value.saturating_mul(per), len),
            Header::More => return Ok(None),
            Header::TooLarge => return Err(ReplyError::TooManyElements),
            Header::Malformed if class == Class::Array => return self.null_or_streamed(line),
            Header::Malformed => return Err(streamed_or(line, ReplyError::Length)),
        };
        if class == Class::Push && self.is_inside() {
            self.pass_over(count)?;
        } else {
            self.enter(class, count, None)?;
        }
        Ok(Some(len.saturating_add(1)))
    }

    /// Whether what comes is part of a frame that has begun, and not that frame's own type.
    const fn is_inside(&self) -> bool {
        self.outstanding > 1 || (self.known && self.outstanding > 0)
    }

    /// So many replies come that take nobody's place.
    fn pass_over(&mut self, count: u64) -> Result<(), ReplyError> {
        if self.known && self.outstanding == self.direct {
            // Nothing behind them is the word of a pub/sub message: not held, and not found.
            self.word = WordState::Settled;
        }
        self.expect(count)
    }

    /// Reads `N` of attributes: they count as outstanding, but the reply they belong to stays outstanding too.
    fn attribute(&mut self, line: &[u8]) -> Result<Option<usize>, ReplyError> {
        let (count, len) = match header(line, self.limits.elements_max) {
            Header::Whole { value, len } => (value.saturating_mul(2), len),
            Header::More => return Ok(None),
            Header::TooLarge => return Err(ReplyError::TooManyElements),
            Header::Malformed => return Err(streamed_or(line, ReplyError::Length)),
        };
        self.open_frame();
        self.pass_over(count)?;
        Ok(Some(len.saturating_add(1)))
    }

    /// `line` is that of a `$` or `*` without a good number: RESP2's null, or none.
    fn null_or_streamed(&mut self, line: &[u8]) -> Result<Option<usize>, ReplyError> {
        const NULL: &[u8] = b"-1\r\n";
        if line.starts_with(NULL) {
            self.enter(Class::Null, 0, None)?;
            return Ok(Some(NULL.len().saturating_add(1)));
        }
        if NULL.starts_with(line) { Ok(None) } else { Err(streamed_or(line, ReplyError::Length)) }
    }

    fn payload(&mut self, rest: &[u8], left: u64) -> usize {
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        if self.word == WordState::Payload {
            let at = usize::from(self.frame.word_len);
            let part = rest.get(..taken).unwrap_or_default();
            if let Some(room) = self.frame.word.get_mut(at..at.saturating_add(part.len())) {
                room.copy_from_slice(part);
                self.frame.word_len = u8::try_from(at.saturating_add(part.len())).unwrap_or(0);
            }
        }
        let left = left.saturating_sub(taken as u64);
        self.stage = if left == 0 { Stage::Terminator } else { Stage::Payload(left) };
        taken
    }

    fn terminator(&mut self, rest: &[u8]) -> Result<Option<usize>, ReplyError> {
        match rest {
            [b'\r', b'\n', ..] => {
                self.stage = Stage::Item;
                if self.word == WordState::Payload {
                    self.word = WordState::Settled;
                }
                Ok(Some(2))
            }
            [] | [b'\r'] => Ok(None),
            _ => Err(ReplyError::Terminator),
        }
    }

    /// The first byte of a frame has been read as part of a whole line.
    #[inline]
    fn open_frame(&mut self) {
        if self.outstanding == 0 {
            self.frame.clear();
            self.outstanding = 1;
            self.direct = 0;
        }
    }

    fn expect(&mut self, count: u64) -> Result<(), ReplyError> {
        self.outstanding = self.outstanding.saturating_add(count);
        if self.outstanding > OUTSTANDING_MAX { Err(ReplyError::TooManyElements) } else { Ok(()) }
    }

    /// Counts one reply of `class` with `count` elements in; whether it is a direct element of the frame.
    #[inline]
    fn enter(&mut self, class: Class, count: u64, text: Option<&[u8]>) -> Result<bool, ReplyError> {
        self.open_frame();
        if !self.known && self.outstanding == 1 {
            self.outstanding = 0;
            self.known = true;
            self.expect(count)?;
            self.enter_top(class, count, text);
            return Ok(false);
        }
        let is_direct = self.known && self.outstanding == self.direct;
        self.outstanding = self.outstanding.saturating_sub(1);
        self.expect(count)?;
        if is_direct {
            self.direct = self.direct.saturating_sub(1);
            self.enter_direct(class, text);
        }
        Ok(is_direct)
    }

    fn enter_top(&mut self, class: Class, count: u64, text: Option<&[u8]>) {
        self.direct = count;
        self.frame.class = class;
        self.frame.element_count = count;
        if matches!(class, Class::Status | Class::Error) {
            self.frame.head_len = copy_front(&mut self.frame.head, text.unwrap_or_default());
        }
        let is_inspected = class == Class::Push || (class == Class::Array && self.inspect == Inspect::Word);
        if is_inspected && count > 0 {
            self.word = WordState::Awaited;
        }
    }

    fn enter_direct(&mut self, class: Class, text: Option<&[u8]>) {
        if class == Class::Integer {
            self.frame.last_integer = text.and_then(canonical_u64);
        }
        if self.inspect == Inspect::Elements && self.frame.elements.len() < ELEMENTS_NOTED {
            self.frame.elements.push(class);
        }
        // A payload's word is settled where the payload is read.
        if self.word == WordState::Awaited && class != Class::Bulk {
            self.word = WordState::Settled;
            if let (Class::Status, Some(text)) = (class, text)
                && text.len() <= self.frame.word.len()
            {
                self.frame.word_len = copy_front(&mut self.frame.word, text);
            }
        }
    }
}

fn streamed_or(line: &[u8], error: ReplyError) -> ReplyError {
    if line.first() == Some(&b'?') { ReplyError::Streamed } else { error }
}

/// Loose on values, which the client reads, but not so loose that a line of another kind passes for one.
fn check_value(class: Class, text: &[u8]) -> Result<(), ReplyError> {
    let is_good = match class {
        Class::Integer | Class::BigNumber => match text {
            [b'+' | b'-', digits @ ..] | digits => !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
        },
        Class::Null => text.is_empty(),
        Class::Boolean => matches!(text, b"t" | b"f"),
        Class::Double => !text.is_empty(),
        _ => true,
    };
    if is_good { Ok(()) } else { Err(ReplyError::Value) }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
