//! Commands too large to be held: forwarded as they arrive, verified all the same.
//!
//! Once the session has judged a command by its first words it goes over to streaming: what is verified leaves the
//! buffer, and only what cannot be verified yet stays (part of a header, or of the CRLF after a payload). So at every
//! moment what was let go is the beginning of one canonical command, and all of it only if every byte was right. A
//! command that was denied is swallowed the same way: the caller drops the bytes.

#![warn(clippy::arithmetic_side_effects)]

use super::{RequestError, RequestParser, Stage, terminated};

/// Part of a command that is being streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Bytes at the front of the input that are verified and may be forwarded. May be 0: more is needed.
    pub len: usize,
    /// Whether the command ends with them.
    pub last: bool,
}

impl RequestParser {
    /// Whether a command is being streamed, and more of it is to come.
    #[must_use]
    pub const fn is_streaming(&self) -> bool {
        self.released > 0 && matches!(self.stage, Stage::Header | Stage::Payload { .. })
    }

    /// Goes over to streaming in the middle of a command (after `More`): the returned number of bytes at the front of
    /// `input` are verified and leave the buffer; from now on [`RequestParser::stream`] is called with what follows.
    ///
    /// 0 when the command's `*N` is not whole yet, or no command has begun: then nothing changes, and
    /// [`RequestParser::next`] is still the call to make. Never all of a command: its last CRLF is not among the bytes.
    pub fn split(&mut self, input: &[u8]) -> usize {
        let len = match &mut self.stage {
            Stage::Header => self.position.min(input.len()),
            Stage::Payload { left } => {
                let here = input.len().saturating_sub(self.position) as u64;
                let taken = here.min(*left);
                *left = left.saturating_sub(taken);
                self.position.saturating_add(usize::try_from(taken).unwrap_or(0)).min(input.len())
            }
            _ => return 0,
        };
        self.released = self.released.saturating_add(len as u64);
        self.position = 0;
        self.blanks = 0;
        self.spans = Vec::new();
        len
    }

    /// Verifies what follows in a streamed command. A payload's bytes pass as they come; a header passes only whole;
    /// the CRLF after a payload passes only once both bytes are verified, so a wrong one never completes a command.
    ///
    /// Reads over as many words as there are. After the last piece the parser is at the start of the next request.
    /// With no command being streamed there is nothing to pass: an empty last piece.
    ///
    /// # Errors
    ///
    /// As [`RequestParser::next`]. None of the bytes of this call may then be forwarded.
    pub fn stream(&mut self, input: &[u8]) -> Result<Piece, RequestError> {
        let result = self.pass(input);
        match result {
            Ok(Piece { len, .. }) => self.released = self.released.saturating_add(len as u64),
            Err(error) => self.stage = Stage::Failed(error),
        }
        result
    }

    fn pass(&mut self, input: &[u8]) -> Result<Piece, RequestError> {
        let mut len = 0usize;
        loop {
            let rest = input.get(len..).unwrap_or_default();
            match self.stage {
                Stage::Failed(error) => return Err(error),
                // Never split: what `next` has read of this command is still in the caller's buffer.
                _ if self.position > 0 => return Ok(Piece { len, last: true }),
                Stage::Header => match self.read_length(rest)? {
                    None => return Ok(Piece { len, last: false }),
                    Some((left, line)) => {
                        len = len.saturating_add(line);
                        self.stage = Stage::Payload { left };
                    }
                },
                Stage::Payload { left: 0 } => {
                    if !terminated(rest, 0)? {
                        return Ok(Piece { len, last: false });
                    }
                    len = len.saturating_add(2);
                    self.missing = self.missing.saturating_sub(1);
                    self.stage = Stage::Header;
                    if self.missing == 0 {
                        self.stage = Stage::End;
                        return Ok(Piece { len, last: true });
                    }
                }
                Stage::Payload { left } => {
                    let taken = left.min(rest.len() as u64);
                    if taken == 0 {
                        return Ok(Piece { len, last: false });
                    }
                    // Not above `rest.len()`, so it fits.
                    len = len.saturating_add(usize::try_from(taken).unwrap_or(0));
                    self.stage = Stage::Payload { left: left.saturating_sub(taken) };
                }
                Stage::Start | Stage::Line(_) | Stage::End => return Ok(Piece { len, last: true }),
            }
        }
    }
}
