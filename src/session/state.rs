//! All that a session knows besides its parser, and how it comes to its end.

use super::{
    End, Turn,
    error::CloseReason,
    gather::Gather,
    inquiry::Inquiry,
    local::say,
    machine::{ClientAuth, SessionConfig},
    renewal::{Next, Passwords},
    slots::{NO_RULE, Queue},
    toll::{Partial, Toll},
    transaction::Transaction,
};
use crate::{
    audit::{
        encode::ConnectionFacts,
        record::{ConnectionEvent, Outcome},
    },
    command::catalog::Recent,
    lane::{Closes, Lane, Own, Ticket, machine::Protocol},
    moment::Moment,
    policy::identity::AuthenticatedPeer,
    resp::encode,
};
use std::sync::Arc;

/// How long a client may leave its replies unread once the budget for unanswered commands is spent, in microseconds.
const UNREAD_GRACE_US: u64 = 5_000_000;
/// Bytes of replies that are owed, or given and not read, which a session takes without their being counted.
const OWED_FREE: u64 = 64 * 1024;
/// Replies of the proxy's own are given only while fewer bytes than this wait for the client: as slots they are smaller.
pub(super) const UNREAD_MAX: usize = 256 * 1024;

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
    /// `Recorder::reached` must be at least this.
    pub(super) target: u64,
    /// What goes up then.
    pub(super) bytes: BegunBytes,
    /// The ticket it takes.
    pub(super) ticket: Ticket,
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
    /// None either: the connection is a replication stream, whose client only acknowledges.
    Replica,
}

/// All of a session but its parser, whose words are borrowed while this is changed.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) config: Arc<SessionConfig>,
    pub(super) peer: AuthenticatedPeer,
    /// The same peer under a policy that a reload brought; in force once no slot is open that the old one judged.
    pub(super) renewed: Option<Box<Next>>,
    /// The role it had, until a record has said that it has another.
    pub(super) was: Option<Box<str>>,
    /// Which password Redis is given, and which were refused.
    pub(super) passwords: Passwords,
    pub(super) facts: ConnectionFacts,
    pub(super) lane: Lane,
    /// The command before this one.
    pub(super) recent: Recent,
    pub(super) slots: Queue,
    pub(super) phase: Phase,
    /// A state change behind which nothing is judged until it is answered (HELLO, RESET, what begins a stream).
    pub(super) barrier: bool,
    /// The next command waits until every slot is closed (a `begin` line behind an unconfirmed SELECT).
    pub(super) wait_for_empty: bool,
    /// SELECTs that have gone up and are not answered, and EXECs that run one.
    pub(super) selects_open: u32,
    /// A subscription has been asked for since the start or the last RESET: MULTI may be refused (RESP2's subscriber mode).
    pub(super) has_subscribed: bool,
    /// The confirmed database.
    pub(super) db: u32,
    /// The number of the upstream connection, once the server has told it to the client (CLIENT ID).
    pub(super) own_id: Option<u64>,
    pub(super) tx: Transaction,
    pub(super) replies: Replies,
    /// The client has said who it is, or need not.
    pub(super) authenticated: bool,
    /// Since when it could have: the start, or the last RESET.
    pub(super) stranger_since: u64,
    /// Keys may be watched (WATCH has gone up, and nothing that ends it).
    pub(super) watching: bool,
    /// An AUTH that the shell looks up.
    pub(super) inquiry: Inquiry,
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
    /// It winds down for this reason as soon as the transaction that is open has ended.
    pub(super) leaving: Option<CloseReason>,
    /// A text the client is sent behind the last reply it is owed (a protocol error).
    pub(super) last_words: Option<Box<str>>,
    /// What is left of the input is the beginning of a command, or nothing: only more bytes can help.
    pub(super) starved: bool,
    /// Bytes the last call of `downstream` left unconsumed.
    pub(super) leftover: usize,
    /// Bytes that the words of the command that is not whole take besides.
    pub(super) parsed: usize,
    /// How much of [`super::MemoryBudget`] this session has taken: of `held`, of `owed`.
    pub(super) charged: (u64, u64),
    /// Much waits for the client's socket: what the session does about that, it does once it is flushed.
    pub(super) unread: bool,
    /// Bytes the client's socket had taken when `over_budget_since` was set.
    pub(super) taken: u64,
    /// Bytes of the reply that is coming in which the client was sent, and the reply's own.
    pub(super) reply_out: u64,
    /// RESET was answered and the lane is authenticating again.
    pub(super) regreeting: bool,
    /// Protocol that an open HELLO asks for.
    pub(super) hello: Option<Protocol>,
    pub(super) close: CloseReason,
    pub(super) close_detail: Box<str>,
    pub(super) down: End,
    pub(super) up: End,
    pub(super) opened: Moment,
    pub(super) greeted_at: u64,
    pub(super) last_input_us: u64,
    pub(super) commands: u64,
    pub(super) denied: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    /// Scratch for key positions.
    pub(super) keys: Vec<u32>,
    /// The rule in shadow mode that would deny the command that is being judged, as its slot writes it; or [`NO_RULE`].
    pub(super) shadow: u16,
    /// What the command at the front has paid of its role's limits in time.
    pub(super) toll: Toll,
    /// A command has begun to come and is not whole.
    pub(super) partial: Option<Partial>,
}

impl Core {
    /// The state at the start: nothing is connected, nothing is owed.
    pub(super) fn new(
        config: Arc<SessionConfig>,
        peer: AuthenticatedPeer,
        facts: ConnectionFacts,
        now: Moment,
    ) -> Self {
        Self {
            lane: Lane::new(config.reply),
            recent: Recent::default(),
            authenticated: config.client_auth != ClientAuth::Verify,
            stranger_since: now.mono_us,
            watching: false,
            inquiry: Inquiry::None,
            config,
            peer,
            renewed: None,
            was: None,
            passwords: Passwords::default(),
            facts,
            slots: Queue::default(),
            phase: Phase::Connecting,
            barrier: false,
            wait_for_empty: false,
            selects_open: 0,
            has_subscribed: false,
            db: 0,
            own_id: None,
            tx: Transaction::default(),
            replies: Replies::Sent,
            begun: None,
            streaming: Streaming::No,
            short_of_room: false,
            over_budget_since: None,
            client_ended: false,
            winding_down: None,
            leaving: None,
            last_words: None,
            starved: true,
            leftover: 0,
            parsed: 0,
            charged: (0, 0),
            unread: false,
            taken: 0,
            reply_out: 0,
            regreeting: false,
            hello: None,
            close: CloseReason::Internal,
            close_detail: Box::default(),
            down: End::Open,
            up: End::Open,
            opened: now,
            greeted_at: now.mono_us,
            last_input_us: now.mono_us,
            commands: 0,
            denied: 0,
            bytes_in: 0,
            bytes_out: 0,
            keys: Vec::new(),
            shadow: NO_RULE,
            toll: Toll::default(),
            partial: None,
        }
    }

    /// Sends the greeting up, or opens at once where there is none.
    pub(super) fn greet(&mut self, probe: bool, turn: &mut Turn<'_>, up: &mut Gather<'_>) {
        self.greet_again(probe, false, turn, up);
    }

    /// The same, and in RESP3 behind it if `resp3` is set.
    pub(super) fn greet_again(&mut self, probe: bool, resp3: bool, turn: &mut Turn<'_>, up: &mut Gather<'_>) {
        self.greeted_at = turn.now.mono_us;
        let mut tickets = Vec::new();
        self.passwords.resp3 = resp3;
        let other = self.config.greeting.trying(self.passwords.current);
        let greeting = other.as_ref().unwrap_or(&self.config.greeting);
        greeting.encode(&self.client_name(), probe, up.buffer(), &mut tickets);
        if resp3 {
            encode::command(up.buffer(), &[b"HELLO", b"3"]);
            tickets.push(Ticket { closes: Closes::Reply, own: Some(Own::Hello) });
        }
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
        self.passwords.accepted();
        if self.phase == Phase::Greeting {
            self.phase = Phase::Open;
            turn.recorder.connection(turn.now, &self.facts, &ConnectionEvent::Open);
            self.facts.forget_opening();
        }
    }

    /// Whether the next command may be looked at, as far as the session itself knows.
    pub(super) fn may_accept(&self) -> bool {
        self.phase == Phase::Open
            && !self.barrier
            && !self.inquiry.waits()
            && self.begun.as_ref().is_none_or(|begun| begun.target == 0)
            && self.over_budget_since.is_none()
            && self.toll.until_us == 0
            && (!self.wait_for_empty || self.slots.is_empty() || self.is_in_command())
    }

    /// Whether the front of the input belongs to a command that has its slot already: it was judged, and what waits for
    /// all slots to close would wait for that one too.
    fn is_in_command(&self) -> bool {
        self.begun.is_some() || matches!(self.streaming, Streaming::Up | Streaming::Swallowed)
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

    /// Whether Redis is busy with something that waits for an event: a blocking command, a subscription, a stream.
    pub(super) fn waits_upstream(&self) -> bool {
        self.lane.subscribed() || self.lane.monitoring() || self.slots.any_blocking()
    }

    /// Nothing more is accepted; the first reason given stays.
    pub(super) fn wind_down(&mut self, reason: CloseReason) {
        if self.winding_down.is_none() {
            self.winding_down = Some(reason);
        }
    }

    /// Once nothing stands between a MULTI and its EXEC any more, whoever is to leave does.
    pub(super) fn leave_after_transaction(&mut self) {
        if !self.tx.intended
            && let Some(reason) = self.leaving.take()
        {
            self.wind_down(reason);
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
        self.close_detail = if detail.is_empty() { reason.detail().into() } else { detail.into() };
        self.down = down;
        self.up = End::Abort;
        self.begun = None;
    }

    pub(super) fn say_unavailable(&mut self, down: &mut Gather<'_>) {
        self.say_alone("ERR the Redis behind this proxy is unavailable", down);
    }

    /// An error that answers no command, before a close.
    pub(super) fn say_alone(&mut self, text: &str, down: &mut Gather<'_>) {
        let before = down.len();
        say(down.buffer(), text);
        self.bytes_out = self.bytes_out.saturating_add(down.len().saturating_sub(before) as u64);
    }

    /// Takes this session's share of the worker's memory, or gives it back.
    fn charge(&mut self, turn: &mut Turn<'_>) {
        let held = self.leftover.saturating_add(self.parsed) as u64;
        let owed = self.owed_bytes().saturating_add(turn.down_pending) as u64;
        let held = if held > self.config.stream_from { held } else { 0 };
        let owed = if owed > OWED_FREE { owed } else { 0 };
        self.set_charge((held, owed), turn);
        let spent = turn.down_pending > 0 && self.over_budget_since.is_some();
        self.unread = spent || turn.down_pending as u64 > OWED_FREE || (self.keeps_replies() && !self.short_of_room);
    }

    pub(super) fn set_charge(&mut self, due: (u64, u64), turn: &mut Turn<'_>) {
        if due == self.charged {
            return;
        }
        let memory = &mut *turn.memory;
        memory.held = memory.held.saturating_sub(self.charged.0).saturating_add(due.0);
        memory.owed = memory.owed.saturating_sub(self.charged.1).saturating_add(due.1);
        self.charged = due;
    }

    /// Bytes of memory that commands without an answer take.
    fn owed_bytes(&self) -> usize {
        self.slots.bytes().saturating_add(self.lane.bytes())
    }

    /// Whether the worker's budget lets this session hold `bytes` of one command.
    pub(super) fn may_hold(&self, bytes: usize, turn: &Turn<'_>) -> bool {
        bytes <= self.config.held_command_max
            && turn.memory.held.saturating_sub(self.charged.0).saturating_add(bytes as u64) <= turn.memory.max
    }

    /// Whether the budget for unanswered commands and unread replies is spent. Replies of this very turn do not count:
    /// the client has not had the chance to read them, and nobody would call again when it has.
    pub(super) fn over_budget(&self, turn: &Turn<'_>) -> bool {
        let own = self.owed_bytes().saturating_add(turn.down_pending);
        let others = turn.memory.owed.saturating_sub(self.charged.1);
        // Whoever has to wait for the others waits for replies of its own as well: somebody will call again.
        own > self.config.unanswered_max
            || (own as u64 > OWED_FREE && others.saturating_add(own as u64) > turn.memory.max)
    }

    /// Bytes of unanswered commands and unread replies that there is room for whatever others hold.
    pub(super) fn owed_freely(&self, turn: &Turn<'_>) -> usize {
        let most = self.config.unanswered_max.min(usize::try_from(OWED_FREE).unwrap_or(usize::MAX));
        most.saturating_sub(self.owed_bytes().saturating_add(turn.down_pending))
    }

    /// Notes that the budget is spent, and how much of what it was given the client has taken so far.
    pub(super) fn spend_budget(&mut self, turn: &Turn<'_>) {
        self.over_budget_since = Some(turn.now.mono_us);
        self.taken = self.bytes_out.saturating_sub(turn.down_pending as u64);
    }

    /// Whether replies of the proxy's own stand at the front that are better kept as slots until the client has read.
    /// Redis' replies behind them then wait too.
    pub(super) fn keeps_replies(&self) -> bool {
        self.slots.begins_locally() && self.lane.at_boundary()
    }

    /// Releases what can be released, and notices that the end has come.
    pub(super) fn settle(&mut self, turn: &mut Turn<'_>, down: &mut Gather<'_>) {
        self.leave_after_transaction();
        if !matches!(self.phase, Phase::Closing | Phase::Done) {
            self.release(UNREAD_MAX, turn, down);
            if self.over_budget_since.is_some() && !self.over_budget(turn) {
                self.over_budget_since = None;
            }
        }
        let broken_in_front = self.streaming == Streaming::Broken && self.slots.len() == 1;
        if self.phase == Phase::Open && (self.slots.is_empty() || broken_in_front) {
            self.settle_empty(down);
        }
        if self.phase == Phase::Open
            && self.winding_down.is_some_and(|reason| {
                matches!(
                    reason,
                    CloseReason::Age | CloseReason::Drain | CloseReason::Revoked | CloseReason::Operator(_)
                )
            })
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
        if self.was.is_some() {
            self.tell_role(turn);
        }
        match self.phase {
            Phase::Closing => self.record_rest(turn, false),
            // What it had taken was given back for good: nobody calls when its sides have gone.
            Phase::Done => {}
            Phase::Connecting | Phase::Greeting | Phase::Open => self.charge(turn),
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
        if self.last_words.is_some() && !self.lane.at_boundary() {
            // A message is still coming in; the text follows it.
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
    pub(super) fn record_rest(&mut self, turn: &mut Turn<'_>, force: bool) {
        if self.phase != Phase::Closing {
            return;
        }
        while let Some(own) = self.lane.owed_own() {
            if !force && !turn.recorder.has_room() {
                self.short_of_room = true;
                return;
            }
            let us = turn.now.mono_us.saturating_sub(self.greeted_at);
            turn.recorder.upstream_command(turn.now, &self.facts, own.name(), Outcome::Unanswered, None, us);
            self.lane.give_up();
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
        self.set_charge((0, 0), turn);
        self.unread = false;
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
    pub(super) fn deadline(&self) -> Option<u64> {
        // Who is leaving, or is not read because his budget is spent, is not idle.
        let idle = || {
            let may_be = self.winding_down.is_none() && self.over_budget_since.is_none() && self.toll.until_us == 0;
            (self.config.idle_timeout_us > 0 && may_be && !self.waits_upstream())
                .then(|| self.last_input_us.saturating_add(self.config.idle_timeout_us))
        };
        match self.phase {
            Phase::Greeting => Some(self.greeted_at.saturating_add(self.config.greeting_timeout_us)),
            // What nearly every turn of nearly every connection finds.
            Phase::Open
                if self.config.idle_timeout_us == 0
                    && self.over_budget_since.is_none()
                    && self.winding_down.is_none()
                    && self.authenticated
                    && !self.regreeting
                    && self.is_unhurried() =>
            {
                None
            }
            Phase::Open if self.stream_is_revoked() => Some(self.opened.mono_us),
            Phase::Open => {
                let unread = self.over_budget_since.map(|since| since.saturating_add(UNREAD_GRACE_US));
                let regreet =
                    (self.regreeting).then(|| self.greeted_at.saturating_add(self.config.greeting_timeout_us));
                let others = [self.toll.deadline(), self.first_byte_deadline(), self.half_command_deadline()];
                let known = [unread, regreet, self.login_deadline(), idle()];
                known.into_iter().chain(others).flatten().min()
            }
            Phase::Connecting | Phase::Closing | Phase::Done => None,
        }
    }

    /// When a client that has not authenticated must have. Not while an answer to its AUTH is coming: that takes as long as
    /// whoever looks it up may.
    fn login_deadline(&self) -> Option<u64> {
        let waits = !self.authenticated && self.inquiry.is_none() && self.winding_down.is_none() && !self.regreeting;
        waits.then(|| self.stranger_since.saturating_add(self.config.login_timeout_us))
    }

    /// Whether a reload took away the right to the stream that is open, or to the database of a connection at rest. That is due at once: a reload itself gives no
    /// turn in which to end it.
    fn stream_is_revoked(&self) -> bool {
        self.winding_down == Some(CloseReason::Revoked) && (self.waits_upstream() || self.slots.is_empty())
    }

    pub(super) fn check_deadlines(&mut self, turn: &mut Turn<'_>, down: &mut Gather<'_>) {
        if self.toll.wait_is_over(turn.now.mono_us) {
            // It was not read until now.
            self.last_input_us = turn.now.mono_us;
        }
        if turn.up_pending > 0 {
            // Whatever is not whole is not the client's fault: it was not read.
            self.restart_partial(turn.now.mono_us);
        }
        if self.deadline().is_none_or(|at| turn.now.mono_us < at) {
            return;
        }
        if self.phase == Phase::Greeting || self.regreeting {
            self.greeting_failed("timeout", "Redis did not answer AUTH in time", turn, down);
        } else if self.stream_is_revoked() {
            // `settle`, which follows, ends it.
        } else if self.login_deadline().is_some_and(|at| turn.now.mono_us >= at) {
            self.wind_down(CloseReason::Login);
        } else if let Some(reason) = self.is_too_slow(turn.now.mono_us) {
            // What was forwarded before is answered; what is not whole never will be.
            match self.streaming {
                Streaming::Up => self.break_stream(reason),
                _ => self.wind_down(reason),
            }
        } else if let Some(since) = self.over_budget_since {
            let taken = self.bytes_out.saturating_sub(turn.down_pending as u64);
            if turn.down_pending > 0 && taken <= self.taken {
                let detail = "the client does not read its replies and the budget for unanswered commands is spent";
                self.finish(CloseReason::UnansweredBudget, detail, End::Abort);
            } else {
                self.over_budget_since = Some(since.saturating_add(UNREAD_GRACE_US).max(turn.now.mono_us));
                self.taken = taken;
            }
        } else {
            self.wind_down(CloseReason::Idle);
        }
    }

    pub(super) fn begun_is_written(&mut self) {
        if let Some(begun) = &mut self.begun {
            begun.target = 0;
        }
    }
}
