//! MONITOR, SYNC and PSYNC: what comes down once they are answered is a stream and no replies.
//!
//! ```text
//!            MONITOR goes up           +OK                    +RESET
//!  Replies ─────────────────► Asked ─────────► Monitoring ─────────────► Replies
//!     │  SYNC, PSYNC go up      │ │
//!     └────────────────────────►┘ │ -error: Replies again
//!                                 └ "+FULLRESYNC" / "+CONTINUE" / "$": Raw, for good
//! ```
//!
//! *Monitoring* (Redis' `replicationFeedMonitors`): a line is `+`, the time in seconds, and the rest; no command that a
//! session lets through meanwhile has a status that begins with a digit, so the two cannot be taken for each other. Such
//! a line is as long as all arguments of a command, written with up to four bytes for one (`sdscatrepr`): it is not held
//! until it is whole, as the lines of replies are, but passed in the pieces it comes in, and counted against
//! [`MONITOR_LINE_MAX`].
//!
//! *Raw* (Redis' `syncCommand`, `replicationSetupSlaveForFullResync`, `masterTryPartialResynchronization`): the payload
//! (`$LENGTH` without CRLF behind it, or `$EOF:MARK`), newlines and commands pass unlooked at. Before the answer Redis
//! sends a newline a second, to show that it is alive while it prepares the payload (`replicationCron`).

use super::machine::{Arrival, Desync, Lane};
use crate::resp::{
    number::canonical_u64,
    reply::{Class, ReplyError},
};
use memchr::memchr2;

/// Longest line of MONITOR, in bytes: what Redis can have read of one command at once (1 GiB by default) takes 4 GiB at
/// most. It bounds no memory, for no part of such a line is held; a server that never ends one is broken.
const MONITOR_LINE_MAX: u64 = 16 << 30;

/// Longest first line of a replication stream, its CRLF included: `+FULLRESYNC`, 40 and 20 bytes.
const FIRST_LINE_MAX: usize = 128;

/// Bytes of a replication id, and of the mark that ends a payload of unknown length.
const ID_LEN: usize = 40;

/// What a command turns the connection into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// MONITOR: lines between replies.
    Monitor,
    /// PSYNC: a replication stream, announced by a status.
    Psync,
    /// SYNC: a replication stream, which begins with its payload.
    Sync,
}

/// How what comes down is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// As replies and pushes.
    Replies,
    /// As the answer to a command that begins a stream, or an error.
    Asked(Stream),
    /// As replies, pushes and lines.
    Monitoring,
    /// As the rest of a line of which so many bytes have passed.
    Line(u64),
    /// Not at all: a replication stream, whose first reply was of this class.
    Raw(Class),
}

impl Mode {
    pub(super) const fn at_boundary(self) -> bool {
        !matches!(self, Self::Line(_) | Self::Raw(_))
    }
}

impl Lane {
    /// A command that begins a stream goes up. Everything before it has been answered.
    pub fn expect_stream(&mut self, stream: Stream) {
        self.tickets.push_back(super::Ticket { closes: super::Closes::Stream(stream), own: None });
        self.mode = Mode::Asked(stream);
    }

    /// Whether MONITOR was answered and not ended by RESET.
    #[must_use]
    pub const fn monitoring(&self) -> bool {
        matches!(self.mode, Mode::Monitoring | Mode::Line(_))
    }

    /// The class of the reply that began a replication stream, once it has.
    #[must_use]
    pub const fn replicating(&self) -> Option<Class> {
        match self.mode {
            Mode::Raw(class) => Some(class),
            _ => None,
        }
    }

    #[cold]
    pub(super) fn next_in_stream(&mut self, input: &[u8]) -> Result<Arrival, Desync> {
        match self.mode {
            Mode::Replies => self.next_reply(input),
            Mode::Asked(Stream::Monitor) => self.monitor_answer(input),
            Mode::Asked(Stream::Psync) => self.replication_answer(input, b'+'),
            Mode::Asked(Stream::Sync) => self.replication_answer(input, b'$'),
            Mode::Monitoring => match input {
                _ if !self.at_boundary() => self.next_reply(input),
                [b'+'] => Ok(Arrival::More),
                [b'+', b'0'..=b'9', ..] => self.line(input, 0),
                _ => self.next_reply(input),
            },
            Mode::Line(before) => self.line(input, before),
            Mode::Raw(_) => Ok(Arrival::Stream { len: input.len(), begins: false }),
        }
    }

    fn monitor_answer(&mut self, input: &[u8]) -> Result<Arrival, Desync> {
        let arrival = self.next_reply(input)?;
        if matches!(arrival, Arrival::Reply { last: true, .. }) {
            let frame = self.frame();
            self.mode = match frame.class {
                Class::Status if frame.head() == b"OK" => Mode::Monitoring,
                Class::Error => Mode::Replies,
                _ => return Err(Desync::Stream),
            };
        }
        Ok(arrival)
    }

    /// Passes what has come of a line, but for a CR whose LF has not.
    fn line(&mut self, input: &[u8], before: u64) -> Result<Arrival, Desync> {
        let (len, whole) = match memchr2(b'\r', b'\n', input) {
            None => (input.len(), false),
            Some(at) => match input.get(at..).unwrap_or_default() {
                [b'\r', b'\n', ..] => (at.saturating_add(2), true),
                [b'\r'] => (at, false),
                _ => return Err(Desync::Frame(ReplyError::Line)),
            },
        };
        let passed = before.saturating_add(len as u64);
        if passed > MONITOR_LINE_MAX {
            return Err(Desync::Frame(ReplyError::LineTooLong));
        }
        self.mode = if whole { Mode::Monitoring } else { Mode::Line(passed) };
        Ok(if len == 0 { Arrival::More } else { Arrival::Line { len } })
    }

    /// Redis' answer to SYNC or PSYNC, which begins with `sigil` if it is granted.
    fn replication_answer(&mut self, input: &[u8], sigil: u8) -> Result<Arrival, Desync> {
        let newlines = input.iter().take_while(|byte| **byte == b'\n').count();
        if newlines > 0 {
            return Ok(Arrival::Stream { len: newlines, begins: false });
        }
        match input.first() {
            None => Ok(Arrival::More),
            Some(first) if *first == sigil => {
                let front = input.get(..input.len().min(FIRST_LINE_MAX)).unwrap_or_default();
                let Some(end) = memchr2(b'\r', b'\n', front) else {
                    return if front.len() < FIRST_LINE_MAX { Ok(Arrival::More) } else { Err(Desync::Stream) };
                };
                let (line, terminator) = input.split_at_checked(end).unwrap_or_default();
                match terminator {
                    [b'\r'] => return Ok(Arrival::More),
                    [b'\r', b'\n', ..] if begins_replication(line) => {}
                    _ => return Err(Desync::Stream),
                }
                self.tickets.pop_front();
                self.mode = Mode::Raw(if sigil == b'$' { Class::Bulk } else { Class::Status });
                Ok(Arrival::Stream { len: end.saturating_add(2), begins: true })
            }
            Some(b'-') => {
                let arrival = self.next_reply(input)?;
                if matches!(arrival, Arrival::Reply { last: true, .. }) {
                    self.mode = Mode::Replies;
                }
                Ok(arrival)
            }
            Some(_) => Err(Desync::Stream),
        }
    }
}

/// Whether a line grants a SYNC (`$LENGTH`, `$EOF:MARK`) or a PSYNC (`+FULLRESYNC ID OFFSET`, `+CONTINUE`, `+CONTINUE
/// ID`). Grants of another kind speak of a second connection (`+RDBCHANNELSYNC`, `+DUALCHANNELSYNC`), whose capability
/// no session lets up.
fn begins_replication(line: &[u8]) -> bool {
    let is_id = |word: &[u8]| word.len() == ID_LEN && word.iter().all(u8::is_ascii_alphanumeric);
    match line.split_first() {
        Some((b'$', rest)) => match rest.strip_prefix(b"EOF:") {
            Some(mark) => is_id(mark),
            None => canonical_u64(rest).is_some(),
        },
        Some((b'+', rest)) => {
            let mut words = rest.split(|byte| *byte == b' ');
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some(b"FULLRESYNC"), Some(id), Some(offset), None) => is_id(id) && canonical_u64(offset).is_some(),
                (Some(b"CONTINUE"), None, ..) => true,
                (Some(b"CONTINUE"), Some(id), None, _) => is_id(id),
                _ => false,
            }
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::begins_replication;

    #[test]
    fn only_grants_of_one_connection_begin_a_stream() {
        let id = "8371445ee47bed6f2eac8a36c6c0b5b5a8b21ee4";
        for line in [
            "$0",
            "$175",
            &format!("$EOF:{id}"),
            &format!("+FULLRESYNC {id} 0"),
            "+CONTINUE",
            &format!("+CONTINUE {id}"),
        ] {
            assert!(begins_replication(line.as_bytes()), "{line}");
        }
        for line in [
            "$",
            "$-1",
            "$01",
            "$EOF:",
            &format!("$ENDOFF:1 {id} 0 1"),
            "+",
            "+OK",
            "+FULLRESYNC",
            &format!("+FULLRESYNC {id}"),
            &format!("+FULLRESYNC {id} -1"),
            &format!("+FULLRESYNC {id} 1 2"),
            "+CONTINUE x",
            "+CONTINUE ",
            &format!("+CONTINUE {id} {id}"),
            "+RDBCHANNELSYNC 7",
            "+DUALCHANNELSYNC",
        ] {
            assert!(!begins_replication(line.as_bytes()), "{line}");
        }
    }
}
