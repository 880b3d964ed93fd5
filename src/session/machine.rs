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
//! that the end has come. [`Session::wants`] then says what the session waits for. How a command is accepted is in
//! [`super::accept`], how a reply closes its slot in [`super::answer`].

use super::{End, Turn, Wants, error::CloseReason, gather::Gather, local::say, slots::Queue, transaction::Transaction};
use crate::{
    audit::{encode::ConnectionFacts, record::ConnectionEvent},
    lane::{Lane, greeting::Greeting},
    moment::Moment,
    policy::identity::AuthenticatedPeer,
    resp::{
        reply::ReplyLimits,
        request::{RequestLimits, RequestParser},
    },
};
use std::sync::Arc;

/// How long a client may leave its replies unread once the budget for unanswered commands is spent, in microseconds.
const UNREAD_GRACE_US: u64 = 1_000_000;

/// What is the same for every session of a service; immutable, swapped whole at a reload.
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
    /// The session ends after this long without a byte from the client, in microseconds; 0 for never. Never applies
    /// while a command is blocking or a subscription or stream is live.
    pub idle_timeout_us: u64,
    /// A client's own AUTH and HELLO AUTH: accepted and ignored if true, refused if false.
    pub ignore_client_auth: bool,
    /// Whether records show keys.
    pub show_keys: bool,
    /// How the lane greets Redis: AUTH, the connection's name.
    pub greeting: Greeting,
    /// How long Redis may take to answer the greeting, in microseconds. AUTH is answered even while Redis loads its data.
    pub greeting_timeout_us: u64,
}

/// Where the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The upstream is not connected yet.
    Connecting,
    /// Connected; the greeting has not been answered.
    Greeting,
    /// Commands flow.
    Open,
    /// Over; open slots are being recorded as far as there is room.
    Closing,
    /// Over, all records written.
    Done,
}

/// CLIENT REPLY, kept here: Redis always replies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Replies {
    #[default]
    Sent,
    SkipNext,
    Off,
}

/// A command whose slot is open and whose bytes wait at the front of the input for its `begin` line to be written.
#[derive(Debug)]
pub(super) struct Begun {
    /// `Recorder::written` must reach this.
    pub(super) target: u64,
    /// What goes up then.
    pub(super) bytes: BegunBytes,
    /// The ticket it takes.
    pub(super) ticket: crate::lane::Ticket,
}

/// Which bytes a begun command sends.
#[derive(Debug)]
pub(super) enum BegunBytes {
    /// This many at the front of the input.
    Input(usize),
    /// The front of the input, streamed: the parser is to be split.
    Stream,
    /// These (an inline command, re-encoded), in the place of this many at the front of the input.
    Encoded(Vec<u8>, usize),
}

/// A large command whose end has not come yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Streaming {
    /// There is none.
    No,
    /// Its pieces go up.
    Up,
    /// It was denied; its pieces are consumed.
    Swallowed,
    /// It went up in part and will never be whole: once what is owed before it has been answered, the upstream is
    /// closed without finishing it.
    Broken,
}

/// One client's side of a connection, and the lane it owns.
#[derive(Debug)]
pub struct Session {
    pub(super) parser: RequestParser,
    pub(super) core: Core,
}

/// All of a session but its parser, whose words are borrowed while this is changed.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) config: Arc<SessionConfig>,
    pub(super) peer: AuthenticatedPeer,
    /// The same peer under a policy that a reload brought; in force once no slot is open that the old one judged.
    renewed: Option<AuthenticatedPeer>,
    pub(super) facts: ConnectionFacts,
    pub(super) lane: Lane,
    pub(super) slots: Queue,
    pub(super) phase: Phase,
    /// A state change behind which nothing is judged until it is answered (HELLO, RESET).
    pub(super) barrier: bool,
    /// The next command waits until every slot is closed (a `begin` line behind an unconfirmed SELECT).
    pub(super) wait_for_empty: bool,
    /// SELECTs that have gone up and are not answered.
    pub(super) selects_open: u32,
    /// The confirmed database.
    pub(super) db: u32,
    pub(super) tx: Transaction,
    pub(super) replies: Replies,
    pub(super) begun: Option<Begun>,
    pub(super) streaming: Streaming,
    /// Set when accepting or taking a reply stopped for want of room in the pen.
    pub(super) short_of_room: bool,
    /// Since when the budget for unanswered commands has been spent.
    pub(super) over_budget_since: Option<u64>,
    /// The client has ended its side.
    pub(super) client_ended: bool,
    /// Nothing more is accepted; the connection closes for this reason once nothing is owed.
    pub(super) winding_down: Option<CloseReason>,
    /// A text the client is sent behind the last reply it is owed (a protocol error).
    pub(super) last_words: Option<String>,
    /// What is left of the input is the beginning of a command, or nothing: only more bytes can help.
    pub(super) starved: bool,
    /// Bytes the last call of `downstream` left unconsumed.
    leftover: usize,
    /// How much of [`super::MemoryBudget`] this session has taken.
    charged: u64,
    /// Bytes of the reply that is coming in which the client was sent, and the reply's own.
    pub(super) reply_out: u64,
    /// RESET was answered and the lane is authenticating again.
    pub(super) regreeting: bool,
    /// Protocol that an open HELLO asks for.
    pub(super) hello: Option<crate::lane::machine::Protocol>,
    close: CloseReason,
    close_detail: String,
    down: End,
    up: End,
    opened: Moment,
    pub(super) greeted_at: u64,
    last_input_us: u64,
    pub(super) commands: u64,
    pub(super) denied: u64,
    bytes_in: u64,
    pub(super) bytes_out: u64,
    /// Scratch for key positions.
    pub(super) keys: Vec<u32>,
}

impl Session {
    /// A session for a peer that is in; the upstream is not connected yet.
    #[must_use]
    pub fn new(config: Arc<SessionConfig>, peer: AuthenticatedPeer, facts: ConnectionFacts, turn: &Turn<'_>) -> Self {
        Self {
            parser: RequestParser::new(config.request),
            core: Core {
                lane: Lane::new(config.reply),
                config,
                peer,
                renewed: None,
                facts,
                slots: Queue::default(),
                phase: Phase::Connecting,
                barrier: false,
                wait_for_empty: false,
                selects_open: 0,
                db: 0,
                tx: Transaction::default(),
                replies: Replies::Sent,
                begun: None,
                streaming: Streaming::No,
                short_of_room: false,
                over_budget_since: None,
                client_ended: false,
                winding_down: None,
                last_words: None,
                starved: true,
                leftover: 0,
                charged: 0,
                reply_out: 0,
                regreeting: false,
                hello: None,
                close: CloseReason::Internal,
                close_detail: String::new(),
                down: End::Open,
                up: End::Open,
                opened: turn.now,
                greeted_at: turn.now.mono_us,
                last_input_us: turn.now.mono_us,
                commands: 0,
                denied: 0,
                bytes_in: 0,
                bytes_out: 0,
                keys: Vec::new(),
            },
        }
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
        if self.core.client_ended && self.core.streaming == Streaming::Up {
            self.core.break_stream(CloseReason::ClientClosed);
        }
        self.core.charge(turn);
        self.core.settle(turn, down);
        consumed
    }

    /// Bytes from Redis, likewise. `down` gathers from `input`.
    pub fn upstream(&mut self, input: &[u8], turn: &mut Turn<'_>, up: &mut Gather<'_>, down: &mut Gather<'_>) -> usize {
        let consumed = self.core.take_replies(input, turn, up, down).min(input.len());
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
        if core.begun.as_ref().is_some_and(|begun| turn.recorder.written() >= begun.target) {
            // The command's bytes are still at the front of the input: `wants` asks for them again.
            core.begun_is_written();
        }
        core.check_deadlines(turn, down);
        core.settle(turn, down);
    }

    /// The process drains, or a reload ended this peer's right to be here: nothing more is accepted, what was promised
    /// is answered, then the session closes with `reason`. A command that waits for an event (BLPOP) or a subscription
    /// is not waited for.
    pub fn drain(&mut self, reason: CloseReason, turn: &mut Turn<'_>, _up: &mut Gather<'_>, down: &mut Gather<'_>) {
        let core = &mut self.core;
        core.wind_down(reason);
        core.settle(turn, down);
    }

    /// A reload left this peer its right to be here but may have changed what it may say. The new policy judges every
    /// command that is accepted from now on, as soon as the replies to those the old one judged have been given. A
    /// transaction that is open is spoilt if the policy is another: what it has queued might be denied now.
    pub fn renew(&mut self, peer: AuthenticatedPeer) {
        let core = &mut self.core;
        if peer.policy() == core.peer.policy() {
            return;
        }
        core.tx.deny();
        core.wait_for_empty = true;
        core.renewed = Some(peer);
        if core.slots.is_empty() {
            core.put_in_force();
        }
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
            read_up: matches!(core.phase, Phase::Open | Phase::Greeting) && !core.short_of_room,
            written: core.begun.as_ref().filter(|begun| begun.target > 0).map(|begun| begun.target),
            room: core.short_of_room,
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

impl Core {
    /// Sends the greeting up, or opens at once where there is none.
    pub(super) fn greet(&mut self, probe: bool, turn: &mut Turn<'_>, up: &mut Gather<'_>) {
        self.greeted_at = turn.now.mono_us;
        let mut tickets = Vec::new();
        self.config.greeting.encode(&self.client_name(), probe, up.buffer(), &mut tickets);
        for ticket in tickets {
            self.lane.expect(ticket);
        }
        if self.lane.owed() == 0 {
            self.greeted(turn);
        }
    }

    /// What CLIENT LIST is to show: who it is and from where.
    fn client_name(&self) -> String {
        format!("{}@{}", self.peer.identity().display_name(), self.peer.src())
    }

    /// The greeting is answered, or there was none: commands may flow.
    pub(super) fn greeted(&mut self, turn: &mut Turn<'_>) {
        self.barrier = false;
        self.regreeting = false;
        if self.phase == Phase::Greeting {
            self.phase = Phase::Open;
            turn.recorder.connection(turn.now, &self.facts, &ConnectionEvent::Open);
        }
    }

    /// Whether the next command may be looked at, as far as the session itself knows.
    pub(super) fn may_accept(&self) -> bool {
        self.phase == Phase::Open
            && !self.barrier
            && self.begun.as_ref().is_none_or(|begun| begun.target == 0)
            && self.over_budget_since.is_none()
            && (!self.wait_for_empty || self.slots.is_empty())
    }

    /// Whether input is of any use: while winding down only what a begun command still needs.
    pub(super) fn takes_input(&self) -> bool {
        self.streaming != Streaming::Broken
            && (self.winding_down.is_none() || self.begun.is_some() || self.streaming == Streaming::Up)
    }

    /// The command that is being streamed will never be whole.
    pub(super) fn break_stream(&mut self, reason: CloseReason) {
        self.streaming = Streaming::Broken;
        self.wind_down(reason);
    }

    /// Whether Redis is busy with something that waits for an event: a blocking command, a subscription.
    fn waits_upstream(&self) -> bool {
        use super::slots::Marks;
        self.lane.subscribed() || self.slots.iter().any(|slot| slot.marks.has(Marks::BLOCKING))
    }

    /// Nothing more is accepted; the first reason given stays.
    pub(super) fn wind_down(&mut self, reason: CloseReason) {
        if self.winding_down.is_none() {
            self.winding_down = Some(reason);
        }
    }

    /// The end has come: both sides are told, the open slots are recorded by `record_rest`. The first end stays.
    pub(super) fn finish(&mut self, reason: CloseReason, detail: &str, down: End) {
        if matches!(self.phase, Phase::Closing | Phase::Done) {
            self.down = self.down.max(down);
            return;
        }
        self.phase = Phase::Closing;
        self.close = reason;
        self.close_detail = detail.to_owned();
        self.down = down;
        self.up = End::Abort;
        self.begun = None;
    }

    pub(super) fn say_unavailable(&mut self, down: &mut Gather<'_>) {
        let before = down.len();
        say(down.buffer(), "ERR the Redis behind this proxy is unavailable");
        self.bytes_out = self.bytes_out.saturating_add(down.len().saturating_sub(before) as u64);
    }

    /// Takes this session's share of the worker's memory for held commands, or gives it back.
    fn charge(&mut self, turn: &mut Turn<'_>) {
        let due = if self.leftover as u64 > self.config.stream_from { self.leftover as u64 } else { 0 };
        turn.memory.held = turn.memory.held.saturating_sub(self.charged).saturating_add(due);
        self.charged = due;
    }

    /// Whether the worker's budget lets this session hold `bytes` of one command.
    pub(super) fn may_hold(&self, bytes: usize, turn: &Turn<'_>) -> bool {
        bytes <= self.config.held_command_max
            && turn.memory.held.saturating_sub(self.charged).saturating_add(bytes as u64) <= turn.memory.max
    }

    /// Whether the budget for unanswered commands and unread replies is spent.
    pub(super) fn over_budget(&self, turn: &Turn<'_>, down: &Gather<'_>) -> bool {
        self.slots.bytes().saturating_add(turn.down_pending).saturating_add(down.len()) > self.config.unanswered_max
    }

    /// Releases what can be released, and notices that the end has come.
    fn settle(&mut self, turn: &mut Turn<'_>, down: &mut Gather<'_>) {
        if !matches!(self.phase, Phase::Closing | Phase::Done) {
            self.release(turn, down);
            if self.over_budget_since.is_some() && !self.over_budget(turn, down) {
                self.over_budget_since = None;
            }
        }
        let broken_in_front = self.streaming == Streaming::Broken && self.slots.len() == 1;
        if self.phase == Phase::Open && (self.slots.is_empty() || broken_in_front) {
            self.settle_empty(down);
        }
        if self.phase == Phase::Open
            && self.winding_down.is_some_and(|reason| matches!(reason, CloseReason::Drain | CloseReason::Revoked))
            && self.waits_upstream()
        {
            let reason = self.winding_down.unwrap_or(CloseReason::Drain);
            self.finish(reason, "", End::Flush);
        }
        if matches!(self.phase, Phase::Connecting | Phase::Greeting)
            && let Some(reason) = self.winding_down
        {
            self.finish(reason, "", End::Flush);
        }
        if self.phase == Phase::Closing {
            self.record_rest(turn, false);
        }
    }

    fn put_in_force(&mut self) {
        self.wait_for_empty = false;
        if let Some(peer) = self.renewed.take() {
            self.peer = peer;
        }
    }

    /// Nothing is owed: whatever was waiting for that may come now.
    fn settle_empty(&mut self, down: &mut Gather<'_>) {
        if self.slots.is_empty() {
            self.put_in_force();
        }
        if self.streaming == Streaming::Up {
            return;
        }
        if let Some(reason) = self.winding_down {
            if let Some(text) = self.last_words.take() {
                let before = down.len();
                say(down.buffer(), &text);
                self.bytes_out = self.bytes_out.saturating_add(down.len().saturating_sub(before) as u64);
                self.finish(reason, &text, End::Flush);
            } else {
                self.finish(reason, "", End::Flush);
            }
        } else if self.client_ended && (self.starved || self.leftover == 0) && self.begun.is_none() {
            // What is left of the input, if anything, is a command that will never be whole.
            self.finish(CloseReason::ClientClosed, "", End::Flush);
        }
    }

    /// Records the slots that are still open, as far as there is room (or all, with `force`), then the close.
    fn record_rest(&mut self, turn: &mut Turn<'_>, force: bool) {
        if self.phase != Phase::Closing {
            return;
        }
        while !self.slots.is_empty() {
            if !force && !turn.recorder.has_room() {
                self.short_of_room = true;
                return;
            }
            self.record_unanswered(turn);
        }
        if !force && !turn.recorder.has_room() {
            self.short_of_room = true;
            return;
        }
        turn.memory.held = turn.memory.held.saturating_sub(self.charged);
        self.charged = 0;
        let event = ConnectionEvent::Close {
            reason: self.close.word(),
            detail: &self.close_detail,
            commands: self.commands,
            denied: self.denied,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            us: turn.now.since(self.opened),
        };
        turn.recorder.connection(turn.now, &self.facts, &event);
        self.short_of_room = false;
        self.phase = Phase::Done;
    }

    /// When `resume` is to be called for the clock's sake.
    fn deadline(&self) -> Option<u64> {
        let idle = || {
            (self.config.idle_timeout_us > 0 && !self.waits_upstream())
                .then(|| self.last_input_us.saturating_add(self.config.idle_timeout_us))
        };
        match self.phase {
            Phase::Greeting => Some(self.greeted_at.saturating_add(self.config.greeting_timeout_us)),
            Phase::Open => {
                let unread = self.over_budget_since.map(|since| since.saturating_add(UNREAD_GRACE_US));
                let regreet =
                    (self.regreeting).then(|| self.greeted_at.saturating_add(self.config.greeting_timeout_us));
                [unread, regreet, idle()].into_iter().flatten().min()
            }
            Phase::Connecting | Phase::Closing | Phase::Done => None,
        }
    }

    fn check_deadlines(&mut self, turn: &mut Turn<'_>, down: &mut Gather<'_>) {
        if self.deadline().is_none_or(|at| turn.now.mono_us < at) {
            return;
        }
        if self.phase == Phase::Greeting || self.regreeting {
            self.greeting_failed("timeout", "Redis did not answer AUTH in time", turn, down);
        } else if let Some(since) = self.over_budget_since {
            if turn.down_pending > 0 {
                let detail = "the client does not read its replies and the budget for unanswered commands is spent";
                self.finish(CloseReason::UnansweredBudget, detail, End::Abort);
            } else {
                self.over_budget_since = Some(since.saturating_add(UNREAD_GRACE_US).max(turn.now.mono_us));
            }
        } else {
            self.wind_down(CloseReason::Idle);
        }
    }

    fn begun_is_written(&mut self) {
        if let Some(begun) = &mut self.begun {
            begun.target = 0;
        }
    }
}
