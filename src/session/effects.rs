//! What each effect means for the connection: verdict, slot, ticket, bytes up.

use super::{
    Turn,
    accept::{Flow, Source},
    access::OfAnother,
    error::CloseReason,
    gather::Gather,
    inquiry,
    local::Local,
    machine::ClientAuth,
    options::{self, Hello, ReplyMode},
    slots::{Kind, Marks, NO_RULE, SHADOW, Slot},
    state::{Begun, BegunBytes, Core, Replies, UNREAD_MAX},
};
use crate::{
    audit::event::AuthVerdict,
    command::{
        self, CommandId, Effect, Resolved,
        databases::{self, Number},
        keys,
        strict::{self, Fault},
    },
    lane::{Closes, Ticket, machine::Protocol},
    policy::{
        RuleId, Verdict,
        rename::tells_its_name,
        rules::{Question, Row},
        scripts,
    },
    resp::{Words, encode, number},
};

/// What goes up in the place of an EXEC that must not run.
const DISCARD: &[u8] = b"*1\r\n$7\r\nDISCARD\r\n";

impl Core {
    /// Whether this request's reply is kept from the client (CLIENT REPLY); the request uses SKIP up.
    pub(super) fn take_silence(&mut self) -> bool {
        match self.replies {
            Replies::Sent => false,
            Replies::SkipNext => {
                self.replies = Replies::Sent;
                true
            }
            Replies::Off => true,
        }
    }

    /// All of the newest slot's bytes have gone up.
    pub(super) fn finish_back_slot(&mut self) {
        if let Some(slot) = self.slots.back_mut() {
            slot.marks.set(Marks::UNFINISHED, false);
        }
    }

    /// The client broke the protocol: what it sent before is still answered, then it is told, then both sides close.
    pub(super) fn protocol_error(&mut self, text: &str) {
        if self.replies == Replies::Sent {
            self.last_words = Some(format!("ERR Protocol error: {text}").into());
        }
        self.wind_down(CloseReason::Protocol);
    }

    /// Judges one command and does what the verdict says.
    pub(super) fn accept(
        &mut self,
        resolved: Resolved,
        words: &Words<'_>,
        source: Source,
        turn: &mut Turn<'_>,
        up: &mut Gather<'_>,
        down: &mut Gather<'_>,
    ) -> Flow {
        self.shadow = NO_RULE;
        if self.over_budget(turn) {
            // What is answered here needs nobody's answer; were it left to the end of the turn, the budget would be
            // there again, and nobody would call again.
            self.release(UNREAD_MAX, turn, down);
            if self.over_budget(turn) {
                self.spend_budget(turn);
                return Flow::Wait;
            }
        }
        let limited = match self.pay(resolved, &source, turn) {
            Ok(limited) => limited,
            Err(flow) => return flow,
        };
        if !self.authenticated {
            let effect = if let Resolved::Known(id) = resolved { Some(id.entry().effect) } else { None };
            if !effect.is_some_and(inquiry::comes_before_authentication) {
                return self.deny(RuleId::AUTHENTICATION, Local::NoAuth, resolved, words, &source, turn);
            }
        }
        let id = match resolved {
            Resolved::Known(id) => id,
            Resolved::NotAName => {
                return self.deny(RuleId::NOT_A_NAME, Local::Denied, resolved, words, &source, turn);
            }
            Resolved::UnknownCommand | Resolved::UnknownSubcommand(_) | Resolved::More => {
                let renames = self.peer.policy().renames();
                let hidden = words.iter().take(2).any(|word| renames.hides(word));
                // The client is answered alike, or it could guess.
                let rule = if hidden { RuleId::RENAMED } else { RuleId::UNKNOWN_COMMAND };
                return self.deny(rule, Local::Denied, resolved, words, &source, turn);
            }
        };
        let entry = id.entry();
        let argc = words.declared();
        let arity = entry.accepts_arity(argc);
        let renamed = self.peer.policy().renames().word_of(id);
        let source = match (renamed, source) {
            (Some(name), Source::Input { len, .. } | Source::Encoded { len, .. }) => {
                let list: Vec<&[u8]> = std::iter::once(name).chain(words.iter().skip(1)).collect();
                let mut bytes = Vec::new();
                encode::command(&mut bytes, &list);
                Source::Encoded { bytes, len }
            }
            (_, source) => source,
        };
        let renamed = renamed.is_some();
        let Row { verdict: judged, asks_words, asks_arguments } = self.peer.policy().look(id);
        if let Verdict::Shadow(rule) = judged {
            self.shadow = rule.0 | SHADOW;
        }
        if self.lane.monitoring() && !entry.taken_while_monitoring(argc) {
            return self.deny(RuleId::IN_STREAM, Local::WhileMonitoring, resolved, words, &source, turn);
        }
        let deny = |core: &mut Self, rule, local| core.deny(rule, local, resolved, words, &source, turn);
        let reply = Ticket { closes: Closes::Reply, own: None };
        if let Verdict::Deny(denial) = judged
            && !self.inquiry.is_answered()
        {
            return if entry.effect == Effect::Exec && self.tx.intended {
                self.exec_as_discard(id, Local::ExecDenied, denial.rule.0, &source, turn, up)
            } else {
                let administers = entry.effect == Effect::AccessControl;
                let local = if administers { Local::Administered } else { Local::denied(denial.subject) };
                deny(self, denial.rule, local)
            };
        }
        if entry.deciding
            && let Some(fault) = strict::fault(entry, words, &mut self.keys)
        {
            let local = match fault {
                Fault::Number => Local::NotAnInteger,
                Fault::Word => Local::Syntax,
            };
            return deny(self, RuleId::NOT_CANONICAL, local);
        }
        if asks_words {
            let in_shadow = self.peer.policy().asks_in_shadow();
            if !arity && !in_shadow {
                // Which words are keys is known of the right number of them only.
                return deny(self, RuleId::NOT_CANONICAL, Local::Arity);
            }
            let question = Question { id, words, db: self.db, own_id: self.own_id };
            let verdict =
                if arity { self.peer.policy().judge_words(&question, &mut self.keys) } else { Verdict::Allow };
            match verdict {
                Verdict::Allow => {}
                Verdict::Shadow(rule) => self.shadow = rule.0 | SHADOW,
                Verdict::Deny(denial) => return deny(self, denial.rule, Local::denied(denial.subject)),
            }
        }
        if renamed && !arity {
            // The server would say the secret name.
            return deny(self, RuleId::NOT_CANONICAL, Local::Arity);
        }
        if renamed && tells_its_name(entry, words) {
            return deny(self, RuleId::RENAMED, Local::Denied);
        }
        if asks_arguments {
            let question = Question { id, words, db: self.db, own_id: self.own_id };
            match self.peer.policy().judge_arguments(&question) {
                Verdict::Allow => {}
                Verdict::Shadow(rule) => self.shadow = rule.0 | SHADOW,
                Verdict::Deny(denial) => return deny(self, denial.rule, Local::denied(denial.subject)),
            }
        }
        if let Some(rule) = limited {
            return deny(self, rule, Local::RateLimited);
        }
        match entry.effect {
            Effect::State => {
                self.watching = entry.watches().unwrap_or(self.watching);
                self.forward(id, words, source, reply, false, turn, up)
            }
            Effect::Plain | Effect::Script | Effect::Shutdown => {
                self.forward(id, words, source, reply, false, turn, up)
            }
            Effect::Blocking => self.forward(id, words, source, reply, true, turn, up),
            Effect::BlockingOption => {
                let may_block = keys::blocks(words);
                self.forward(id, words, source, reply, may_block, turn, up)
            }
            Effect::Select => {
                if arity
                    && !source.is_stream()
                    && words.get(1).is_some_and(|word| databases::read(word) == Number::Refused)
                {
                    return self.send_to_refusal(id, argc, source, turn, up);
                }
                let Some(db) = words.get(1).and_then(number::canonical_u64).and_then(|db| u32::try_from(db).ok())
                else {
                    let local = match words.get(1) {
                        _ if !arity => Local::Arity,
                        Some(word) if number::canonical_i64(word).is_some() => Local::IntRange,
                        _ => Local::NotAnInteger,
                    };
                    return deny(self, RuleId::NOT_CANONICAL, local);
                };
                if !arity {
                    return deny(self, RuleId::NOT_CANONICAL, Local::Arity);
                }
                let minded = self.peer.policy().minds_databases();
                if self.tx.intended && (minded || !self.tx.may_queue_select()) {
                    return deny(self, RuleId::IN_TRANSACTION, Local::InTransaction);
                }
                let slot = self.open_slot(id, argc, &source, Kind::Upstream, turn);
                self.slots.push_with_number(slot, db);
                self.keep_values(id, words);
                if self.tx.intended {
                    self.tx.queued = self.tx.queued.saturating_add(1);
                    self.tx.selects_queued = true;
                }
                self.selects_open = self.selects_open.saturating_add(1);
                // Where the database decides, what follows is judged in the one that Redis has confirmed.
                self.barrier |= minded;
                self.send(source, reply, up)
            }
            Effect::Multi => {
                if !arity {
                    return deny(self, RuleId::NOT_CANONICAL, Local::Arity);
                }
                let opens = !self.tx.intended;
                let mut slot = self.open_slot(id, argc, &source, Kind::Upstream, turn);
                slot.marks.set(Marks::OPENS, opens);
                self.slots.push(slot);
                if opens {
                    self.tx.open();
                    // Whether it opens one hangs on what is live when it arrives; behind it, the answer is needed.
                    self.barrier = self.has_subscribed && self.lane.protocol() == Protocol::Resp2;
                }
                self.send(source, reply, up)
            }
            Effect::Exec => {
                if !arity && !source.is_stream() {
                    // It ends the transaction from Redis 6.2 on and keeps it before: the answer tells.
                    self.barrier = self.tx.intended;
                    return self.send_to_refusal(id, argc, source, turn, up);
                }
                if !arity {
                    return if self.tx.intended {
                        self.exec_as_discard(id, Local::ExecArity, RuleId::NOT_CANONICAL.0, &source, turn, up)
                    } else {
                        // Redis speaks of a transaction here even when there is none.
                        deny(self, RuleId::NOT_CANONICAL, Local::ExecArity)
                    };
                }
                if self.tx.intended && self.tx.dirty {
                    return self.exec_as_discard(id, Local::ExecAborted, self.shadow, &source, turn, up);
                }
                let slot = self.open_slot(id, argc, &source, Kind::Upstream, turn);
                if self.tx.selects_queued {
                    // Any number: that there is one says that its answer may change the database.
                    self.slots.push_with_number(slot, 0);
                    self.selects_open = self.selects_open.saturating_add(1);
                } else {
                    self.slots.push(slot);
                }
                self.watching &= !self.tx.intended;
                self.tx.end();
                self.send(source, Ticket { closes: Closes::Elements, own: None }, up)
            }
            Effect::Discard => {
                if !arity {
                    return deny(self, RuleId::NOT_CANONICAL, Local::Arity);
                }
                let slot = self.open_slot(id, argc, &source, Kind::Upstream, turn);
                self.slots.push(slot);
                self.watching &= !self.tx.intended;
                self.tx.end();
                self.send(source, reply, up)
            }
            Effect::Auth => self.auth(id, words, &source, turn, down),
            Effect::Hello => self.hello(id, words, source, turn, up, down),
            Effect::Reset => {
                if !arity && !source.is_stream() {
                    return self.send_to_refusal(id, argc, source, turn, up);
                }
                if !arity {
                    return deny(self, RuleId::NOT_CANONICAL, Local::Arity);
                }
                if self.peer.has_selected() {
                    return deny(self, RuleId::AUTHENTICATION, Local::ResetSelected);
                }
                // What is answered here needs nobody's answer; were it left to the end of the turn, nobody would call again.
                self.release(UNREAD_MAX, turn, down);
                if !self.slots.is_empty() {
                    // RESET ends the authentication, and a Redis with the fix of CVE-2025-21605 closes an
                    // unauthenticated client that has more than 1 KiB of replies unsent, earlier ones among them.
                    self.wait_for_empty = true;
                    return Flow::Wait;
                }
                let slot = self.open_slot(id, argc, &source, Kind::Upstream, turn);
                self.slots.push(slot);
                self.barrier = true;
                self.send(source, reply, up)
            }
            Effect::Quit => {
                self.wind_down(CloseReason::Quit);
                self.answer(id, Local::Ok, argc, &source, turn)
            }
            Effect::ReplyMode => {
                let mode = options::reply_mode(words);
                if !source.is_stream() && (!arity || mode == Some(ReplyMode::Nonsense)) {
                    return self.send_to_refusal(id, argc, source, turn, up);
                }
                if !arity {
                    return deny(self, RuleId::NOT_CANONICAL, Local::Arity);
                }
                if self.tx.intended {
                    return deny(self, RuleId::IN_TRANSACTION, Local::InTransaction);
                }
                match self.is_subscribed(turn, down) {
                    None => return Flow::Wait,
                    Some(true) if !source.is_stream() => return self.send_to_refusal(id, argc, source, turn, up),
                    Some(_) => {}
                }
                match mode {
                    None | Some(ReplyMode::Nonsense) => {
                        self.deny(RuleId::NOT_CANONICAL, Local::Syntax, resolved, words, &source, turn)
                    }
                    Some(ReplyMode::On) => {
                        self.replies = Replies::Sent;
                        self.answer(id, Local::Ok, argc, &source, turn)
                    }
                    Some(ReplyMode::Off) => {
                        self.replies = Replies::Off;
                        self.answer(id, Local::Nothing, argc, &source, turn)
                    }
                    Some(ReplyMode::Skip) => {
                        let flow = self.answer(id, Local::Nothing, argc, &source, turn);
                        if self.replies == Replies::Sent {
                            self.replies = Replies::SkipNext;
                        }
                        flow
                    }
                }
            }
            Effect::Subscribe(kind) => {
                if self.tx.intended {
                    return deny(self, RuleId::IN_TRANSACTION, Local::InTransaction);
                }
                let names = u32::try_from(argc.saturating_sub(1)).unwrap_or(u32::MAX);
                if names == 0 {
                    return deny(self, RuleId::NOT_CANONICAL, Local::Arity);
                }
                self.has_subscribed = true;
                let ticket = Ticket { closes: Closes::Subscribed(kind, names), own: None };
                self.forward(id, words, source, ticket, false, turn, up)
            }
            Effect::Unsubscribe(kind) => {
                if self.tx.intended {
                    return deny(self, RuleId::IN_TRANSACTION, Local::InTransaction);
                }
                let closes = match u32::try_from(argc.saturating_sub(1)).unwrap_or(u32::MAX) {
                    0 => Closes::UnsubscribedAll(kind),
                    names => Closes::Unsubscribed(kind, names),
                };
                self.forward(id, words, source, Ticket { closes, own: None }, false, turn, up)
            }
            Effect::Monitor | Effect::Replication => self.open_stream(id, words, source, turn, up, down),
            Effect::ReplicationConfig => self.replication_config(id, words, source, turn, up),
            Effect::OwnAccess(which) => {
                if !arity || words.whole() < argc {
                    return deny(self, RuleId::NOT_CANONICAL, Local::Arity);
                }
                if self.tx.intended {
                    return deny(self, RuleId::IN_TRANSACTION, Local::InTransaction);
                }
                match self.is_subscribed(turn, down) {
                    None => return Flow::Wait,
                    Some(true) => return self.send_to_refusal(id, argc, source, turn, up),
                    Some(false) => {}
                }
                match self.own_access(which, words) {
                    Err(OfAnother) => {
                        self.deny(RuleId::ACCESS_CONTROL, Local::OfAnother, resolved, words, &source, turn)
                    }
                    Ok(reply) => {
                        let slot = self.open_slot(id, argc, &source, Kind::Local(Local::Rendered), turn);
                        self.slots.push_with_reply(slot, &reply);
                        consume(&source)
                    }
                }
            }
            Effect::AccessControl => deny(self, RuleId::ACCESS_CONTROL, Local::Administered),
            Effect::Unsupported => deny(self, RuleId::UNSUPPORTED, Local::Denied),
        }
    }

    /// Whether the connection is subscribed in RESP2, whose subscribers are refused nearly everything. Only the
    /// confirmations say so: `None` while they are waited for.
    fn is_subscribed(&mut self, turn: &mut Turn<'_>, down: &mut Gather<'_>) -> Option<bool> {
        if !self.has_subscribed || self.lane.protocol() != Protocol::Resp2 {
            return Some(false);
        }
        self.release(UNREAD_MAX, turn, down);
        if !self.slots.is_empty() {
            self.wait_for_empty = true;
            return None;
        }
        Some(self.lane.subscribed())
    }

    /// HELLO: a barrier; without any AUTH of the client's.
    fn hello(
        &mut self,
        id: CommandId,
        words: &Words<'_>,
        source: Source,
        turn: &mut Turn<'_>,
        up: &mut Gather<'_>,
        down: &mut Gather<'_>,
    ) -> Flow {
        let resolved = Resolved::Known(id);
        if self.tx.intended {
            return self.deny(RuleId::IN_TRANSACTION, Local::InTransaction, resolved, words, &source, turn);
        }
        if source.is_stream() {
            return self.deny(RuleId::HELD_COMMAND, Local::TooLarge, resolved, words, &source, turn);
        }
        let (asks, source) = match options::hello(words) {
            Hello::Asks(asks) => (asks, source),
            Hello::BadVersion => {
                return self.deny(RuleId::NOT_CANONICAL, Local::HelloVersion, resolved, words, &source, turn);
            }
            Hello::BadOption(option) => {
                self.denied = self.denied.saturating_add(1);
                let mut slot = self.open_slot(id, words.declared(), &source, Kind::Local(Local::HelloOption), turn);
                slot.rule = RuleId::NOT_CANONICAL.0;
                self.slots.push_with_name(slot, option, None);
                return consume(&source);
            }
        };
        let looked_up =
            self.inquiry.is_answered() || matches!(self.config.client_auth, ClientAuth::Verify | ClientAuth::Select);
        match asks.credential {
            // Whatever every server refuses it for is not what is wrong here first.
            None if !self.authenticated => {
                return self.deny(RuleId::AUTHENTICATION, Local::HelloNoAuth, resolved, words, &source, turn);
            }
            None => {}
            Some(_) if asks.refused && !self.authenticated => {
                return self.deny(RuleId::AUTHENTICATION, Local::HelloNoAuth, resolved, words, &source, turn);
            }
            Some(credential) if looked_up && !asks.refused => {
                if let Err(flow) = self.look_up(id, credential, words, &source, turn, down) {
                    return flow;
                }
            }
            Some(_) if self.config.client_auth == ClientAuth::Refuse => {
                self.record_auth(AuthVerdict::Deny, id.entry().name, turn);
                return self.deny(RuleId::AUTHENTICATION, Local::AuthRefused, resolved, words, &source, turn);
            }
            Some(_) => self.record_auth(AuthVerdict::Ignore, id.entry().name, turn),
        }
        // The words are counted as they go up.
        let argc = asks.instead.as_ref().map_or_else(|| words.declared(), Vec::len);
        let source = match (asks.instead, source) {
            (Some(list), Source::Input { len, .. } | Source::Encoded { len, .. }) => {
                let mut bytes = Vec::new();
                encode::command(&mut bytes, &list);
                Source::Encoded { bytes, len }
            }
            (_, source) => source,
        };
        let mut slot = self.open_slot(id, argc, &source, Kind::Upstream, turn);
        slot.marks.set(Marks::REFUSED, asks.refused);
        self.slots.push(slot);
        self.hello = asks.protocol;
        self.barrier = true;
        self.send(source, Ticket { closes: Closes::Reply, own: None }, up)
    }

    /// Passes on, as it is, what every known server refuses without looking further: each generation has its own words for
    /// it, and clients fall back by them. A server that takes it knows something we do not, and the connection is closed.
    fn send_to_refusal(
        &mut self,
        id: CommandId,
        argc: usize,
        source: Source,
        turn: &Turn<'_>,
        up: &mut Gather<'_>,
    ) -> Flow {
        let mut slot = self.open_slot(id, argc, &source, Kind::Upstream, turn);
        slot.marks.set(Marks::REFUSED, true);
        self.slots.push(slot);
        if self.tx.intended {
            self.tx.queued = self.tx.queued.saturating_add(1);
        }
        self.send(source, Ticket { closes: Closes::Reply, own: None }, up)
    }

    /// Opens a slot for a command that policy allows, with its keys, and sends it up; or, where a `begin` line must
    /// reach the sink first, lets it wait for that at the front of the input.
    #[expect(clippy::too_many_arguments, reason = "one place where all that is known of a command comes together")]
    pub(super) fn forward(
        &mut self,
        id: CommandId,
        words: &Words<'_>,
        source: Source,
        ticket: Ticket,
        may_block: bool,
        turn: &mut Turn<'_>,
        up: &mut Gather<'_>,
    ) -> Flow {
        let entry = id.entry();
        // Inside a transaction nothing blocks; what EXEC runs got its begin line when it was queued.
        let blocks = may_block && !self.tx.intended;
        let can_block = matches!(entry.effect, Effect::Blocking | Effect::BlockingOption);
        let begins = if can_block { blocks } else { entry.begin } || (self.config.begin_writes && entry.may_write());
        if begins && self.selects_open > 0 {
            // The begin line names the confirmed database: what is open must be answered first.
            self.wait_for_empty = true;
            return Flow::Wait;
        }
        let mut slot = self.open_slot(id, words.declared(), &source, Kind::Upstream, turn);
        slot.marks.set(Marks::BLOCKING, blocks);
        self.push_with_keys(slot, id, words);
        if self.tx.intended {
            self.tx.queued = self.tx.queued.saturating_add(1);
        }
        if !begins {
            return self.send(source, ticket, up);
        }
        self.record_begin(turn);
        if let Some(slot) = self.slots.back_mut() {
            slot.marks.set(Marks::UNFINISHED, true);
            slot.marks.set(Marks::BEGUN, true);
        }
        let bytes = match source {
            Source::Input { len, .. } => BegunBytes::Input(len),
            Source::Encoded { bytes, len } => BegunBytes::Encoded(bytes, len),
            Source::Stream { .. } => BegunBytes::Stream,
        };
        self.begun = Some(Begun { target: turn.recorder.mark(), bytes, ticket });
        Flow::Wait
    }

    /// The bytes of an accepted command go up, and its reply is owed.
    fn send(&mut self, source: Source, ticket: Ticket, up: &mut Gather<'_>) -> Flow {
        self.lane.expect(ticket);
        match source {
            Source::Input { at, len } => {
                up.pass(at..at.saturating_add(len));
                Flow::Next(len)
            }
            Source::Encoded { bytes, len } => {
                up.push(&bytes);
                Flow::Next(len)
            }
            Source::Stream { .. } => {
                if let Some(slot) = self.slots.back_mut() {
                    slot.marks.set(Marks::UNFINISHED, true);
                }
                Flow::Stream
            }
        }
    }

    /// An EXEC that must not run: DISCARD goes up in its place, and its answer becomes `local`.
    fn exec_as_discard(
        &mut self,
        id: CommandId,
        local: Local,
        rule: u16,
        source: &Source,
        turn: &Turn<'_>,
        up: &mut Gather<'_>,
    ) -> Flow {
        let mut slot = self.open_slot(id, 1, source, Kind::AsDiscard(local), turn);
        slot.rule = rule;
        if local != Local::ExecAborted {
            self.denied = self.denied.saturating_add(1);
        }
        self.slots.push(slot);
        self.watching &= !self.tx.intended;
        self.tx.end();
        self.lane.expect(Ticket { closes: Closes::Reply, own: None });
        up.push(DISCARD);
        consume(source)
    }

    /// A command that is answered here with success.
    pub(super) fn answer(
        &mut self,
        id: CommandId,
        local: Local,
        argc: usize,
        source: &Source,
        turn: &Turn<'_>,
    ) -> Flow {
        let slot = self.open_slot(id, argc, source, Kind::Local(local), turn);
        self.slots.push(slot);
        consume(source)
    }

    /// A command that is not forwarded: its reply waits in its slot, and a transaction it stands in is spoilt.
    pub(super) fn deny(
        &mut self,
        rule: RuleId,
        local: Local,
        resolved: Resolved,
        words: &Words<'_>,
        source: &Source,
        turn: &Turn<'_>,
    ) -> Flow {
        self.denied = self.denied.saturating_add(1);
        let kind = Kind::Local(local);
        match resolved {
            Resolved::Known(id) => {
                let mut slot = self.open_slot(id, words.declared(), source, kind, turn);
                slot.rule = rule.0;
                self.push_with_keys(slot, id, words);
            }
            Resolved::NotAName | Resolved::UnknownCommand | Resolved::UnknownSubcommand(_) | Resolved::More => {
                let mut slot = self.new_slot(words.declared(), source, kind, turn);
                slot.rule = rule.0;
                let sub = match resolved {
                    Resolved::UnknownSubcommand(_) => words.get(1),
                    _ => None,
                };
                self.slots.push_with_name(slot, words.get(0).unwrap_or_default(), sub);
            }
        }
        self.tx.deny();
        consume(source)
    }

    fn new_slot(&mut self, argc: usize, source: &Source, kind: Kind, turn: &Turn<'_>) -> Slot {
        self.commands = self.commands.saturating_add(1);
        self.toll.is_served();
        let mut slot = Slot::new(turn.now.mono_us, argc, source.bytes_in(), kind);
        let silent = self.take_silence();
        slot.rule = self.shadow;
        slot.marks.set(Marks::SILENT, silent);
        slot.marks.set(Marks::IN_MULTI, self.tx.intended);
        slot
    }

    fn open_slot(&mut self, id: CommandId, argc: usize, source: &Source, kind: Kind, turn: &Turn<'_>) -> Slot {
        let mut slot = self.new_slot(argc, source, kind, turn);
        slot.set_command(id);
        slot
    }

    /// Queues a slot with the keys its record will show, and with the script it names.
    fn push_with_keys(&mut self, slot: Slot, id: CommandId, words: &Words<'_>) {
        self.push_shown(slot, id, words);
        if scripts::may_name(id.entry())
            && let Some((digest, bytes)) = scripts::named(id.entry(), words)
        {
            let bytes = bytes.map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX));
            self.slots.mark_script(digest.bytes(), bytes);
        }
        self.keep_values(id, words);
    }

    /// Keeps the words that the record will show, in the newest slot; of secrets nothing but that they were there.
    fn keep_values(&mut self, id: CommandId, words: &Words<'_>) {
        if let Some(values) = &self.config.values
            && values.are_kept_in(id)
        {
            let entry = id.entry();
            let first = if entry.sub.is_some() { 2 } else { 1 };
            let shown = (first..words.declared())
                .map_while(|index| words.get(index).map(|word| (index, word)))
                .map(|(index, word)| (!command::secrets::is_secret(entry, words, index)).then_some(word));
            self.slots.mark_arguments(shown, values.bytes_max);
        }
    }

    fn push_shown(&mut self, mut slot: Slot, id: CommandId, words: &Words<'_>) {
        let entry = id.entry();
        if !self.config.show_keys || entry.keys.is_empty() {
            self.slots.push(slot);
            return;
        }
        if let Some(at) = keys::only(entry)
            && entry.secrets == command::secrets::Secrets::None
        {
            match words.get(at) {
                Some(key) => self.slots.push_with_keys(slot, std::iter::once(key), 1),
                None => self.slots.push(slot),
            }
            return;
        }
        let found = keys::find(entry, words, &mut self.keys);
        slot.marks.set(Marks::KEYS_UNKNOWN, found == keys::Keys::Undeterminable);
        let secret = |index: u32| command::secrets::is_secret(entry, words, index as usize);
        let shown = self.keys.iter().filter(|index| !secret(**index)).filter_map(|index| words.get(*index as usize));
        self.slots.push_with_keys(slot, shown, self.keys.len());
    }
}

const fn consume(source: &Source) -> Flow {
    match source {
        Source::Input { len, .. } | Source::Encoded { len, .. } => Flow::Next(*len),
        Source::Stream { .. } => Flow::Swallow,
    }
}
