//! The state machine of one client's connection.
//!
//! ```text
//!              connected          greeted (+OK)              QUIT, ends, errors, drain
//!  Connecting ──────────► Greeting ────────────► Open ──────────────────────────────────► Closing ──► Done
//!       └── connect_failed ──┴── refused ───────────────────────────────────────────────────▲
//! ```
//!
//! The entry points (`connected`, `downstream`, `upstream`, `downstream_end`, `upstream_end`, `resume`, `drain`,
//! `abort`) are facts from outside; each ends in `Core::settle`, which releases what can be released and notices
//! that the end has come. [`Session::wants`] then says what the session waits for.

use super::{
    End, Turn, Wants,
    error::CloseReason,
    gather::Gather,
    inquiry::{Answer, Ask, Selected},
    state::{Core, Phase, Streaming},
};
use crate::{
    audit::{arguments::Values, encode::ConnectionFacts, record::ConnectionEvent},
    lane::greeting::Greeting,
    policy::identity::AuthenticatedPeer,
    resp::{
        reply::ReplyLimits,
        request::{RequestLimits, RequestParser},
    },
};
use std::sync::Arc;

/// What becomes of a client's own AUTH and HELLO AUTH; it never reaches Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// Answered with an error.
    #[default]
    Refuse,
    /// Answered `+OK` and forgotten: for clients that cannot be told to leave it out.
    Ignore,
    /// Looked up by the shell ([`super::Wants::asks`]). Nothing but AUTH, HELLO, RESET and QUIT is taken before it was right.
    Verify,
    /// Looked up by the shell, which gives the client another role.
    Select,
}

/// What is the same for every session of a role at a listener; immutable, swapped whole at a reload.
#[derive(Debug)]
pub struct SessionConfig {
    /// Bounds on a request.
    pub request: RequestLimits,
    /// Bounds on a reply.
    pub reply: ReplyLimits,
    /// Commands up to this many bytes are forwarded only whole (64 KiB).
    pub stream_from: u64,
    /// Most bytes of one command that are held until it can be judged (`limits.held_command`).
    pub held_command_max: usize,
    /// Most bytes that unanswered commands and unread local replies of one session may take (`limits.unanswered`).
    pub unanswered_max: usize,
    /// A client that must give a password has this long for the first right one, in microseconds, from the start or from
    /// RESET. What it is waiting to be told is waited for.
    pub login_timeout_us: u64,
    /// The session ends after this long without a byte from the client, in microseconds; 0 for never. Never applies
    /// while a command is blocking or a subscription or stream is live.
    pub idle_timeout_us: u64,
    /// The session ends if no byte has come this long after the greeting, in microseconds; 0 for never.
    pub first_byte_timeout_us: u64,
    /// The session ends if a command that has begun to come is not whole after this long, in microseconds, or has not come
    /// on by 64 KiB; 0 for never. Time in which the client was not read does not count, nor does it while a command
    /// blocks or a subscription or stream is live.
    pub half_command_timeout_us: u64,
    /// What becomes of a client's own AUTH and HELLO AUTH.
    pub client_auth: ClientAuth,
    /// Whether records show keys.
    pub show_keys: bool,
    /// Whether every command that can write waits for its `begin` line, and not only what the catalog says.
    pub begin_writes: bool,
    /// Whether records show the words of some commands too, and of which.
    pub values: Option<Arc<Values>>,
    /// How the lane greets Redis: AUTH, the connection's name.
    pub greeting: Greeting,
    /// How long Redis may take to answer the greeting, in microseconds. AUTH is answered even while Redis loads its data.
    pub greeting_timeout_us: u64,
}

/// One client's side of a connection, and the lane it owns.
#[derive(Debug)]
pub struct Session {
    pub(super) parser: RequestParser,
    pub(super) core: Core,
}

impl Session {
    /// A session for a peer that is in; the upstream is not connected yet.
    #[must_use]
    pub fn new(config: Arc<SessionConfig>, peer: AuthenticatedPeer, facts: ConnectionFacts, turn: &Turn<'_>) -> Self {
        Self { parser: RequestParser::new(config.request), core: Core::new(config, peer, facts, turn.now) }
    }

    /// The upstream is connected: the greeting goes up.
    pub fn connected(&mut self, turn: &mut Turn<'_>, up: &mut Gather<'_>, down: &mut Gather<'_>) {
        let core = &mut self.core;
        if core.phase == Phase::Connecting {
            core.phase = Phase::Greeting;
            core.greet(true, turn, up);
        }
        core.settle(turn, down);
    }

    /// The upstream cannot be had: the client is told in the place of its first reply, then closed. `reason` is a stable
    /// word; it and `detail` are for the record alone.
    pub fn connect_failed(&mut self, reason: &'static str, detail: &str, turn: &mut Turn<'_>, down: &mut Gather<'_>) {
        let core = &mut self.core;
        let event = ConnectionEvent::UpstreamFailed { reason, detail };
        turn.recorder.connection(turn.now, &core.facts, &event);
        core.say_unavailable(down);
        core.finish(CloseReason::UpstreamUnreachable, detail, End::Flush);
        core.settle(turn, down);
    }

    /// Bytes from the client: `input` is what earlier calls left unconsumed followed by what is new. Returns how many
    /// bytes were consumed; the rest is kept by the shell and offered again, longer, later. `up` gathers from `input`.
    pub fn downstream(
        &mut self,
        input: &[u8],
        turn: &mut Turn<'_>,
        up: &mut Gather<'_>,
        down: &mut Gather<'_>,
    ) -> usize {
        let fresh = input.len().saturating_sub(self.core.leftover);
        if fresh > 0 {
            self.core.last_input_us = turn.now.mono_us;
            self.core.bytes_in = self.core.bytes_in.saturating_add(fresh as u64);
        }
        let consumed = self.accept_all(input, turn, up, down).min(input.len());
        self.core.leftover = input.len().saturating_sub(consumed);
        // What a whole command leaves behind is given back at rest, when nobody could take it off the account.
        self.core.parsed = if self.core.leftover == 0 { 0 } else { self.places() };
        self.core.note_partial(fresh, turn.now.mono_us);
        if self.core.client_ended && self.core.streaming == Streaming::Up {
            self.core.break_stream(CloseReason::ClientClosed);
        }
        self.core.settle(turn, down);
        consumed
    }

    /// Bytes from Redis, likewise. `down` gathers from `input`.
    pub fn upstream(&mut self, input: &[u8], turn: &mut Turn<'_>, up: &mut Gather<'_>, down: &mut Gather<'_>) -> usize {
        let timed = self.core.partial.is_some() || self.core.config.idle_timeout_us > 0;
        let waited = timed && self.core.waits_upstream();
        let consumed = self.core.take_replies(input, turn, up, down).min(input.len());
        if waited && !self.core.waits_upstream() {
            // While it waited it had time without end, for the half command behind it and for the next one.
            self.core.restart_partial(turn.now.mono_us);
            self.core.last_input_us = turn.now.mono_us;
        }
        self.core.settle(turn, down);
        consumed
    }

    /// The client has ended its side (`clean`: by FIN or close_notify; otherwise its socket failed). Called once, as
    /// soon as the end is known; bytes received before the end are offered to `downstream` first, and what that leaves
    /// is still offered again when [`Wants::read_down`] says so.
    pub fn downstream_end(&mut self, clean: bool, turn: &mut Turn<'_>, _up: &mut Gather<'_>, down: &mut Gather<'_>) {
        let core = &mut self.core;
        core.client_ended = true;
        if !clean {
            core.finish(CloseReason::ClientGone, "", End::Abort);
        } else if core.waits_upstream() {
            // A ghost that still blocks in Redis would eat the next element; a ghost subscriber would be fed for ever.
            core.finish(CloseReason::ClientClosed, "", End::Flush);
        } else if core.streaming == Streaming::Up {
            core.break_stream(CloseReason::ClientClosed);
        }
        core.settle(turn, down);
    }

    /// Redis has ended its side. `unsent` is how many of the bytes gathered for it the kernel never took.
    pub fn upstream_end(&mut self, unsent: usize, turn: &mut Turn<'_>, down: &mut Gather<'_>) {
        self.core.lost_upstream(unsent, turn, down);
        self.core.settle(turn, down);
    }

    /// Something waited for has come: room in the pen, a line written, a deadline.
    pub fn resume(&mut self, turn: &mut Turn<'_>, _up: &mut Gather<'_>, down: &mut Gather<'_>) {
        let core = &mut self.core;
        core.short_of_room = !turn.recorder.has_room();
        if core.begun.as_ref().is_some_and(|begun| turn.recorder.reached() >= begun.target) {
            // The command's bytes are still at the front of the input: `wants` asks for them again.
            core.begun_is_written();
        }
        core.check_deadlines(turn, down);
        core.settle(turn, down);
    }

    /// The process drains, or a reload ended this peer's right to be here: nothing more is accepted, what was promised
    /// is answered, then the session closes with `reason`. A command that waits for an event (BLPOP) or a subscription
    /// is not waited for. A process that drains lets a transaction that is open come to its EXEC or DISCARD first, for as
    /// long as the drain may take; whoever has lost the right to be here does not get that.
    pub fn drain(&mut self, reason: CloseReason, turn: &mut Turn<'_>, _up: &mut Gather<'_>, down: &mut Gather<'_>) {
        let core = &mut self.core;
        if reason == CloseReason::Drain && core.tx.intended && core.winding_down.is_none() {
            core.leaving = Some(reason);
        } else {
            core.wind_down(reason);
        }
        core.settle(turn, down);
    }

    /// What the shell is to find out, once: whether this is a user and their password.
    pub fn take_ask(&mut self) -> Option<Ask> {
        self.core.inquiry.take()
    }

    /// What the shell has found out. The command that asked is still at the front of the input: `wants` asks for it again.
    ///
    /// With [`Answer::Selected`] the upstream is another connection from here on: what was said to the old one has been
    /// answered, and `up` is for the new one.
    pub fn answer(&mut self, answer: Answer, turn: &mut Turn<'_>, up: &mut Gather<'_>, down: &mut Gather<'_>) {
        if !self.core.inquiry.is_pending() {
            return;
        }
        if let Answer::Selected(selected) = &answer
            && self.core.phase == Phase::Open
        {
            self.core.become_selected(Selected::clone(selected), turn, up);
            self.parser = RequestParser::new(self.core.config.request);
        }
        self.core.inquiry.answer(answer);
        self.core.settle(turn, down);
    }

    /// The end, now: every open slot is recorded and the session is done (panic of the task, drain deadline, flush
    /// deadline). May be called at any time; emits regardless of room.
    pub fn abort(&mut self, reason: CloseReason, turn: &mut Turn<'_>) {
        let core = &mut self.core;
        core.finish(reason, "", End::Abort);
        core.record_rest(turn, true);
    }

    /// What the session waits for now.
    #[must_use]
    pub fn wants(&self) -> Wants {
        let core = &self.core;
        let open = core.phase == Phase::Open;
        Wants {
            read_down: open && core.may_accept() && !core.short_of_room && core.takes_input(),
            read_up: matches!(core.phase, Phase::Open | Phase::Greeting)
                && !core.short_of_room
                && !core.keeps_replies(),
            written: core.begun.as_ref().filter(|begun| begun.target > 0).map(|begun| begun.target),
            room: core.short_of_room,
            flushed: open && core.unread,
            asks: open && core.inquiry.is_new(),
            wake_at_us: core.deadline(),
            down: core.down,
            up: core.up,
            done: core.phase == Phase::Done,
        }
    }

    /// Whether the session holds no partial command, no slot and no stream: the shell may release its buffers.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let core = &self.core;
        core.leftover == 0 && core.slots.is_empty() && core.streaming == Streaming::No && core.lane.at_boundary()
    }

    /// Whether a command that waits for an event, a subscription or a stream is open, so that the client's end is to end
    /// the session at once even while bytes before it are unread.
    #[must_use]
    pub fn ends_with_client(&self) -> bool {
        self.core.phase == Phase::Open && self.core.waits_upstream()
    }

    /// Gives memory back that a session at rest does not need.
    pub fn shrink(&mut self) {
        self.parser.shrink();
        self.core.slots.shrink();
        self.core.lane.shrink();
        if self.core.keys.capacity() > 32 {
            self.core.keys = Vec::new();
        }
    }
}
