//! The strict, resumable request parser.

use super::{Span, Words};

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

/// Part of a command that is being streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Bytes at the front of the input that are verified and may be forwarded. May be 0: more is needed.
    pub len: usize,
    /// Whether the command ends with them.
    pub last: bool,
}

/// Why a request was refused; `Display` is the text after `-ERR Protocol error: `.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// placeholder
    #[error("invalid multibulk length")]
    MultibulkLength,
}

/// Reads requests.
#[derive(Debug)]
pub struct RequestParser {
    limits: RequestLimits,
    spans: Vec<Span>,
}

impl RequestParser {
    /// A parser at the start of a request.
    #[must_use]
    pub const fn new(limits: RequestLimits) -> Self {
        Self { limits, spans: Vec::new() }
    }

    /// Looks at `input`, whose first byte is the first byte of a request, and which only ever grows until something
    /// other than `More` is returned.
    pub fn next(&mut self, input: &[u8]) -> Result<Request, RequestError> {
        let _ = (input, self.limits);
        todo!()
    }

    /// The words read so far of the current request, or all of them after `Command` or `Inline`.
    #[must_use]
    pub fn words<'a>(&'a self, input: &'a [u8]) -> Words<'a> {
        Words::new(input, &self.spans, 0)
    }

    /// A lower bound on the whole command's length in bytes, from what its headers have declared so far.
    #[must_use]
    pub fn known_len(&self) -> u64 {
        todo!()
    }

    /// Goes over to streaming in the middle of a command (after `More`): the returned number of bytes at the front of
    /// `input` are verified and leave the buffer; from now on [`RequestParser::stream`] is called with what follows.
    pub fn split(&mut self, input: &[u8]) -> usize {
        let _ = input;
        todo!()
    }

    /// Verifies what follows in a streamed command. A payload's bytes pass as they come; a header passes only whole;
    /// the CRLF after a payload passes only once both bytes are verified, so a wrong one never completes a command.
    pub fn stream(&mut self, input: &[u8]) -> Result<Piece, RequestError> {
        let _ = input;
        todo!()
    }

    /// Gives memory back after a large request.
    pub fn shrink(&mut self) {
        self.spans = Vec::new();
    }
}
