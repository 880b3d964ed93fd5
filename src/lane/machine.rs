//! Whose is each reply.

use super::{
    stream::{Mode, Stream},
    tickets::{Closes, Own, Subscriptions, Ticket},
};
use crate::{
    command::PubSub,
    resp::reply::{Class, Frame, Inspect, Progress, ReplyError, ReplyLimits, ReplyScanner},
};
use std::collections::VecDeque;

/// The protocol version a connection speaks, as confirmed by the answer to HELLO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// RESP2, the default of every connection.
    #[default]
    Resp2,
    /// RESP3.
    Resp3,
}

/// What the bytes at the front of Redis' answer are. The lengths count bytes of the input that may be dealt with now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Nothing can be said before more has come.
    More,
    /// They answer the front ticket; with `last` its reply is whole and the ticket is gone.
    Reply {
        /// Bytes.
        len: usize,
        /// Whether this is the reply's first piece: its class is known from here on.
        first: bool,
        /// Whether the reply is whole.
        last: bool,
    },
    /// They are one of the front ticket's confirmations; with `closes` the last one, and whole: the ticket is gone.
    Confirmation {
        /// Bytes.
        len: usize,
        /// Whether this was the last confirmation and it is whole.
        closes: bool,
    },
    /// They belong to no ticket: a message, an invalidation, another push.
    Push {
        /// Bytes.
        len: usize,
    },
    /// They answer a command of the proxy's own, in whole; see [`Lane::frame`].
    Own {
        /// Bytes.
        len: usize,
        /// Which.
        own: Own,
        /// Whether the reply is whole.
        last: bool,
    },
    /// They are a line that MONITOR shows, or a part of one: they belong to no ticket.
    Line {
        /// Bytes.
        len: usize,
    },
    /// They are part of a replication stream, or a newline that keeps the link alive until it begins.
    Stream {
        /// Bytes.
        len: usize,
        /// Whether the stream begins with them: the front ticket is gone, and all that follows is of the stream.
        begins: bool,
    },
}

/// Redis said something that nobody asked for or that is no RESP: both sides are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Desync {
    /// It cannot be framed.
    #[error("a reply cannot be framed: {0}")]
    Frame(#[from] ReplyError),
    /// A reply came with no command outstanding.
    #[error("a reply came that no command had asked for")]
    Surplus,
    /// A push came on a RESP2 connection.
    #[error("a RESP3 push came on a RESP2 connection")]
    Push,
    /// A confirmation came that no subscription had asked for, or its count does not follow from the last one.
    #[error("a subscription's confirmation does not follow from what was asked")]
    Confirmation,
    /// SYNC, PSYNC or MONITOR was answered with what begins no stream that the lane knows.
    #[error("the answer to a command that begins a stream begins none")]
    Stream,
    /// `-ERR max number of clients reached`: Redis says so unasked, and closes.
    #[error("Redis has reached its maxclients")]
    MaxClients,
}

/// What the frame that is coming in turned out to be when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coming {
    Reply,
    Own(Own),
    Confirmation {
        kind: PubSub,
        subscribed: bool,
    },
    /// `sunsubscribe` sent by a cluster node that gave the slot away.
    Lost,
    Push,
}

/// One Redis connection's side.
#[derive(Debug)]
pub struct Lane {
    scanner: ReplyScanner,
    pub(super) tickets: VecDeque<Ticket>,
    coming: Option<Coming>,
    pub(super) mode: Mode,
    protocol: Protocol,
    live: Subscriptions,
}

impl Lane {
    /// A lane that has been asked nothing.
    #[must_use]
    pub fn new(limits: ReplyLimits) -> Self {
        Self {
            scanner: ReplyScanner::new(limits),
            tickets: VecDeque::new(),
            coming: None,
            mode: Mode::Replies,
            protocol: Protocol::Resp2,
            live: Subscriptions::default(),
        }
    }

    /// One more reply is owed, behind all others.
    pub fn expect(&mut self, ticket: Ticket) {
        self.tickets.push_back(ticket);
    }

    /// Replies that are owed.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.tickets.len()
    }

    /// The command of the proxy's own whose reply is owed first, unless a client's is.
    #[must_use]
    pub fn owed_own(&self) -> Option<Own> {
        self.tickets.front().and_then(|ticket| ticket.own)
    }

    /// The connection is over: the reply owed first will never come.
    pub fn give_up(&mut self) {
        self.tickets.pop_front();
    }

    /// Bytes of memory that what is owed takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.tickets.len().saturating_mul(size_of::<Ticket>())
    }

    /// Whether any subscription is live.
    #[must_use]
    pub const fn subscribed(&self) -> bool {
        self.live.any()
    }

    /// The protocol that HELLO's answer confirmed.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// HELLO was answered with success.
    pub const fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    /// RESET was answered with `+RESET`: RESP2 again, nothing subscribed, nothing monitored.
    pub fn reset(&mut self) {
        self.mode = Mode::Replies;
        self.protocol = Protocol::Resp2;
        self.live = Subscriptions::default();
    }

    /// Whether Redis' answer so far ends with a whole reply, and something of our own may follow.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        self.scanner.at_boundary() && self.mode.at_boundary()
    }

    /// The frame that is coming in, or the last one that came.
    #[must_use]
    pub fn frame(&self) -> &Frame {
        self.scanner.frame()
    }

    /// Says whether every error in a reply is to be the last line of its piece ([`ReplyScanner::stop_at_errors`]).
    #[inline]
    pub const fn stop_at_errors(&mut self, stops: bool) {
        self.scanner.stop_at_errors(stops);
    }

    /// Whether the last line of the last arrival is an error ([`ReplyScanner::ends_with_error`]).
    #[must_use]
    pub const fn ends_with_error(&self) -> bool {
        self.scanner.ends_with_error()
    }

    /// Gives memory back while nothing is owed.
    pub fn shrink(&mut self) {
        if self.tickets.is_empty() && self.tickets.capacity() > 8 {
            self.tickets = VecDeque::new();
        }
    }

    /// Looks at `input`, which begins where the last arrival ended.
    #[inline]
    pub fn next(&mut self, input: &[u8]) -> Result<Arrival, Desync> {
        if self.mode == Mode::Replies { self.next_reply(input) } else { self.next_in_stream(input) }
    }

    /// The class and length of the reply that `input` begins with, if it is owed to a client's command whose reply may be of any
    /// class, and short and whole ([`ReplyScanner::next_short`]). What is another way is left for [`Self::next`].
    #[inline]
    pub fn next_plain(&mut self, input: &[u8]) -> Option<(Class, usize)> {
        if !(self.mode == Mode::Replies && self.coming.is_none() && self.owes_plain_reply()) {
            return None;
        }
        let (class, len) = self.scanner.next_short(input)?;
        self.tickets.pop_front();
        Some((class, len))
    }

    pub(super) fn next_reply(&mut self, input: &[u8]) -> Result<Arrival, Desync> {
        let plain = self.owes_plain_reply();
        if self.coming.is_none() && !plain {
            self.scanner.inspect(self.inspection());
        }
        let (len, first, last) = match self.scanner.next(input)? {
            Progress::More => return Ok(Arrival::More),
            Progress::Piece { len, first, last } => (len, first, last),
        };
        let coming = match self.coming {
            Some(coming) => coming,
            // What nearly every reply is.
            None if plain && !matches!(self.scanner.frame().class, Class::Push | Class::Error) => Coming::Reply,
            None => self.classify(self.scanner.frame())?,
        };
        self.coming = if last { None } else { Some(coming) };
        match coming {
            Coming::Push => Ok(Arrival::Push { len }),
            Coming::Lost => {
                if last && !self.live.confirm(PubSub::Shard, false, self.confirmed_total()?) {
                    return Err(Desync::Confirmation);
                }
                Ok(Arrival::Push { len })
            }
            Coming::Own(own) => {
                if last {
                    self.tickets.pop_front();
                }
                Ok(Arrival::Own { len, own, last })
            }
            Coming::Reply => {
                if last {
                    self.tickets.pop_front();
                }
                Ok(Arrival::Reply { len, first, last })
            }
            Coming::Confirmation { kind, subscribed } => {
                let closes = last && self.confirm(kind, subscribed)?;
                Ok(Arrival::Confirmation { len, closes })
            }
        }
    }

    /// Whether a client's command is owed one reply of any class and nothing is subscribed: nothing need be seen of the next
    /// frame, and unless it is a push or an error it is that reply.
    fn owes_plain_reply(&self) -> bool {
        matches!(self.tickets.front(), Some(Ticket { closes: Closes::Reply, own: None })) && !self.live.any()
    }

    /// What must be seen of the next frame to tell whose it is.
    fn inspection(&self) -> Inspect {
        match self.tickets.front().map(|ticket| ticket.closes) {
            Some(Closes::Subscribed(..) | Closes::Unsubscribed(..) | Closes::UnsubscribedAll(_)) => Inspect::Word,
            // A RESP2 subscriber's EXEC is refused; what comes before that may be a message.
            Some(Closes::Elements) if self.live.any() && self.protocol == Protocol::Resp2 => Inspect::Word,
            Some(Closes::Elements) => Inspect::Elements,
            Some(Closes::Reply | Closes::Stream(_)) | None if self.live.any() => Inspect::Word,
            Some(Closes::Reply | Closes::Stream(_)) | None => Inspect::Nothing,
        }
    }

    /// Whether `input`, which begins between two frames, begins with a push that nobody asked for: a message, what a write
    /// invalidates. Not one that may yet turn out to be an answer.
    #[must_use]
    #[inline]
    pub fn begins_unasked(&self, input: &[u8]) -> bool {
        input.first() == Some(&b'>') && (self.inspection() != Inspect::Word || self.reads_as_unasked(input))
    }

    fn reads_as_unasked(&self, input: &[u8]) -> bool {
        let mut scanner = ReplyScanner::new(self.scanner.limits());
        scanner.inspect(Inspect::Word);
        let known = matches!(scanner.next(input), Ok(Progress::Piece { .. }));
        known && self.classify(scanner.frame()) == Ok(Coming::Push)
    }

    /// Whose `frame` is, which has just begun.
    fn classify(&self, frame: &Frame) -> Result<Coming, Desync> {
        let resp2 = self.protocol == Protocol::Resp2;
        let front = self.tickets.front();
        let said = frame.word();
        // In RESP3 what is not an answer is a push; in RESP2 it is an array, and only while something is subscribed or
        // about to be: an LRANGE of [message, a, b] looks exactly like a message.
        let may_be_unasked = match frame.class {
            Class::Push if resp2 => return Err(Desync::Push),
            Class::Push => true,
            Class::Array => resp2,
            _ => false,
        };
        if may_be_unasked && let Some(announced) = Announcement::read(said) {
            match announced {
                Announcement::Message if self.live.any() || frame.class == Class::Push => return Ok(Coming::Push),
                Announcement::Message => {}
                Announcement::Confirmation { kind, subscribed } => {
                    let asked = front.is_some_and(|ticket| match ticket.closes {
                        Closes::Subscribed(of, _) => subscribed && of == kind,
                        Closes::Unsubscribed(of, _) | Closes::UnsubscribedAll(of) => !subscribed && of == kind,
                        Closes::Reply | Closes::Elements | Closes::Stream(_) => false,
                    });
                    if asked {
                        return Ok(Coming::Confirmation { kind, subscribed });
                    }
                    if kind == PubSub::Shard && !subscribed && self.live.of(PubSub::Shard) > 0 {
                        return Ok(Coming::Lost);
                    }
                    if frame.class == Class::Push || self.live.any() {
                        return Err(Desync::Confirmation);
                    }
                }
            }
        }
        if frame.class == Class::Push {
            return Ok(Coming::Push);
        }
        let head = frame.head();
        if frame.class == Class::Error && head.starts_with(b"ERR max number of clients reached") {
            return Err(Desync::MaxClients);
        }
        match front {
            None => Err(Desync::Surplus),
            Some(Ticket { own: Some(own), .. }) => Ok(Coming::Own(*own)),
            Some(Ticket { closes: Closes::Reply | Closes::Elements | Closes::Stream(Stream::Monitor), .. }) => {
                Ok(Coming::Reply)
            }
            // In the place of confirmations only an error may come (-NOPERM, -NOSUB, or refused in this mode).
            Some(_) if frame.class == Class::Error => Ok(Coming::Reply),
            Some(Ticket { closes: Closes::Stream(_), .. }) => Err(Desync::Stream),
            Some(_) => Err(Desync::Confirmation),
        }
    }

    fn confirmed_total(&self) -> Result<u64, Desync> {
        self.scanner.frame().last_integer.ok_or(Desync::Confirmation)
    }

    /// A confirmation is whole: counts it, and says whether it was the front ticket's last.
    fn confirm(&mut self, kind: PubSub, subscribed: bool) -> Result<bool, Desync> {
        let total = self.confirmed_total()?;
        let live_before = self.live.of(kind);
        if !self.live.confirm(kind, subscribed, total) {
            return Err(Desync::Confirmation);
        }
        let Some(ticket) = self.tickets.front_mut() else { return Err(Desync::Confirmation) };
        let left = match ticket.closes {
            Closes::Subscribed(_, left) | Closes::Unsubscribed(_, left) => left,
            Closes::UnsubscribedAll(_) => u32::try_from(live_before).unwrap_or(u32::MAX).max(1),
            Closes::Reply | Closes::Elements | Closes::Stream(_) => return Err(Desync::Confirmation),
        };
        let left = left.saturating_sub(1);
        if left == 0 {
            self.tickets.pop_front();
            return Ok(true);
        }
        ticket.closes = if subscribed { Closes::Subscribed(kind, left) } else { Closes::Unsubscribed(kind, left) };
        Ok(false)
    }
}

/// What the first element of a pub/sub frame says it is (Redis' `pubsub.c`).
enum Announcement {
    Message,
    Confirmation { kind: PubSub, subscribed: bool },
}

impl Announcement {
    fn read(word: &[u8]) -> Option<Self> {
        let confirmation = |kind, subscribed| Some(Self::Confirmation { kind, subscribed });
        match word {
            b"message" | b"pmessage" | b"smessage" => Some(Self::Message),
            b"subscribe" => confirmation(PubSub::Channel, true),
            b"psubscribe" => confirmation(PubSub::Pattern, true),
            b"ssubscribe" => confirmation(PubSub::Shard, true),
            b"unsubscribe" => confirmation(PubSub::Channel, false),
            b"punsubscribe" => confirmation(PubSub::Pattern, false),
            b"sunsubscribe" => confirmation(PubSub::Shard, false),
            _ => None,
        }
    }
}
