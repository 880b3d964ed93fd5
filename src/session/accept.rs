//! From the client's bytes to whole commands: parsing, streaming, and what may be judged before it is whole.

use super::{
    Turn,
    gather::Gather,
    local::Local,
    machine::Session,
    plain::Next,
    state::{Begun, BegunBytes, Streaming},
};
use crate::{
    command::{self, Resolved},
    policy::{RuleId, rules::Question},
    resp::{encode, request::Request},
};

/// Where the bytes of a command are.
#[derive(Debug)]
pub(super) enum Source {
    /// In the input, whole: at this offset, this long.
    Input { at: usize, len: usize },
    /// Re-encoded here; `len` bytes of the input are consumed for it.
    Encoded { bytes: Vec<u8>, len: usize },
    /// In the input, not whole: it will be streamed; at least this long.
    Stream { known: u64 },
}

impl Source {
    /// Whether it is not all here.
    pub(super) const fn is_stream(&self) -> bool {
        matches!(self, Self::Stream { .. })
    }

    pub(super) const fn bytes_in(&self) -> u64 {
        match self {
            Self::Input { len, .. } => *len as u64,
            Self::Encoded { bytes, .. } => bytes.len() as u64,
            Self::Stream { known } => *known,
        }
    }
}

/// What became of looking at one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// It was dealt with; this many bytes of the input are done with.
    Next(usize),
    /// It goes up, streamed.
    Stream,
    /// It is not to be forwarded: its bytes are to be consumed.
    Swallow,
    /// It stays in the input until something has come.
    Wait,
}

impl Session {
    /// Takes commands from the front of `input` until something is missing. Returns the bytes consumed.
    pub(super) fn accept_all(
        &mut self,
        input: &[u8],
        turn: &mut Turn<'_>,
        up: &mut Gather<'_>,
        down: &mut Gather<'_>,
    ) -> usize {
        let mut at = 0;
        self.core.starved = false;
        loop {
            self.core.leave_after_transaction();
            if !(self.core.may_accept() && self.core.takes_input()) {
                break;
            }
            if let Some(begun) = self.core.begun.take() {
                at = self.send_begun(begun, input, at, up);
                continue;
            }
            let rest = input.get(at..).unwrap_or_default();
            if rest.is_empty() {
                self.core.starved = true;
                break;
            }
            if self.core.streaming != Streaming::No {
                if self.core.streaming == Streaming::Replica {
                    return self.take_acknowledgements(input, at, turn, up);
                }
                let Some(len) = self.stream(rest, at, turn.now.mono_us, up) else { return input.len() };
                if len == 0 {
                    self.core.starved = true;
                    break;
                }
                at = at.saturating_add(len);
                continue;
            }
            if !turn.recorder.has_room() {
                self.core.short_of_room = true;
                break;
            }
            let stretch = self.forward_plain(input, at, turn, up);
            at = stretch.end;
            let rest = input.get(at..).unwrap_or_default();
            if rest.is_empty() {
                continue;
            }
            let request = match stretch.next {
                Next::Command(len, _) => Ok(Request::Command { len }),
                Next::NotShort => self.parser.next_long(rest),
                Next::Unread => self.parser.next(rest),
            };
            let flow = match request {
                Ok(Request::More) => self.consider_large(rest, turn, up, down),
                Ok(Request::Blank { len, .. }) => {
                    // Redis resets a client after an empty request too, and with it CLIENT REPLY SKIP.
                    self.core.take_silence();
                    Flow::Next(len)
                }
                Ok(Request::Command { len }) => {
                    let words = self.parser.words(rest);
                    let resolved = match stretch.next {
                        Next::Command(_, resolved) => resolved,
                        Next::NotShort | Next::Unread => self.core.recent.resolve(&words),
                    };
                    self.core.accept(resolved, &words, Source::Input { at, len }, turn, up, down)
                }
                Ok(Request::Inline { len }) => {
                    let words = self.parser.words(rest);
                    let list: Vec<&[u8]> = words.iter().collect();
                    let mut bytes = Vec::new();
                    encode::command(&mut bytes, &list);
                    let resolved = self.core.recent.resolve(&words);
                    self.core.accept(resolved, &words, Source::Encoded { bytes, len }, turn, up, down)
                }
                Err(error) => {
                    self.core.protocol_error(&error.to_string());
                    return input.len();
                }
            };
            match flow {
                Flow::Next(len) => at = at.saturating_add(len),
                Flow::Stream => at = self.begin_stream(Streaming::Up, rest, at, up),
                Flow::Swallow => at = self.begin_stream(Streaming::Swallowed, rest, at, up),
                Flow::Wait => break,
            }
        }
        if self.core.winding_down.is_some() && !self.core.takes_input() {
            // What follows QUIT, an error or the end is not looked at.
            return input.len();
        }
        at
    }

    /// A `begin` line has reached the sink: its command goes up.
    fn send_begun(&mut self, begun: Begun, input: &[u8], at: usize, up: &mut Gather<'_>) -> usize {
        self.core.expect_begun(begun.ticket);
        match begun.bytes {
            BegunBytes::Input(len) => {
                up.pass(at..at.saturating_add(len));
                self.core.finish_back_slot();
                at.saturating_add(len)
            }
            BegunBytes::Encoded(bytes, len) => {
                up.push(&bytes);
                self.core.finish_back_slot();
                at.saturating_add(len)
            }
            BegunBytes::Stream => self.begin_stream(Streaming::Up, input.get(at..).unwrap_or_default(), at, up),
        }
    }

    /// Lets what is already verified of a large command leave the buffer.
    fn begin_stream(&mut self, streaming: Streaming, rest: &[u8], at: usize, up: &mut Gather<'_>) -> usize {
        let len = self.parser.split(rest);
        let end = at.saturating_add(len);
        self.core.streaming = streaming;
        if streaming == Streaming::Up {
            up.pass(at..end);
            if let Some(slot) = self.core.slots.back_mut() {
                // What its headers promised gives way to what really went up.
                slot.bytes_in = 0;
                slot.add_bytes(len);
            }
        }
        end
    }

    /// The next pieces of a large command. `None` when it turned out to be no command after all.
    fn stream(&mut self, rest: &[u8], at: usize, now_us: u64, up: &mut Gather<'_>) -> Option<usize> {
        match self.parser.stream(rest) {
            Ok(piece) => {
                if self.core.streaming == Streaming::Up {
                    up.pass(at..at.saturating_add(piece.len));
                    if let Some(slot) = self.core.slots.back_mut() {
                        slot.add_bytes(piece.len);
                    }
                }
                if piece.last {
                    if self.core.streaming == Streaming::Up {
                        self.core.finish_back_slot();
                        self.core.pay_rest(now_us);
                    }
                    self.core.streaming = Streaming::No;
                }
                Some(piece.len)
            }
            Err(error) => {
                let broken = self.core.streaming == Streaming::Up;
                self.core.protocol_error(&error.to_string());
                self.core.streaming = if broken { Streaming::Broken } else { Streaming::No };
                None
            }
        }
    }

    /// Bytes that the words of the command being read take besides their own: the parser's places, and as many for the
    /// places of its keys.
    pub(super) const fn places(&self) -> usize {
        self.parser.memory().saturating_mul(2)
    }

    /// Nothing but more of the client's bytes can help.
    const fn starve(&mut self) -> Flow {
        self.core.starved = true;
        Flow::Wait
    }

    /// The command at the front is not whole. If it is going to be large, it may be judged already.
    fn consider_large(&mut self, rest: &[u8], turn: &mut Turn<'_>, up: &mut Gather<'_>, down: &mut Gather<'_>) -> Flow {
        let known = self.parser.known_len();
        if known <= self.core.config.stream_from {
            return self.starve();
        }
        let words = self.parser.words(rest);
        let source = Source::Stream { known };
        let resolved = match command::resolve(&words) {
            // A name has at most 64 bytes; behind this many the deciding word is none.
            Resolved::More if words.whole() == 0 && rest.len() > 256 => Resolved::NotAName,
            Resolved::More if rest.len() > 512 => match command::resolve(&words.first_only()) {
                Resolved::Known(container) => Resolved::UnknownSubcommand(container),
                other => other,
            },
            Resolved::More => return self.starve(),
            resolved => resolved,
        };
        let (id, settled) = match resolved {
            Resolved::Known(id) => {
                let question = Question { id, words: &words, db: self.core.db, own_id: self.core.own_id };
                (Some(id), self.core.peer.policy().settled(&question, &mut self.core.keys))
            }
            _ => (None, false),
        };
        let allowed = id.is_some_and(|id| self.core.peer.policy().judge(id).lets_through())
            && !self.core.lane.monitoring()
            && self.core.authenticated;
        if allowed && !settled {
            if self.core.may_hold(rest.len().saturating_add(self.places()), turn) {
                return self.starve();
            }
            self.core.deny(RuleId::HELD_COMMAND, Local::TooLarge, resolved, &words, &source, turn);
            return Flow::Swallow;
        }
        match self.core.accept(resolved, &words, source, turn, up, down) {
            Flow::Next(_) => Flow::Swallow,
            flow => flow,
        }
    }
}
