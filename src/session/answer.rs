//! From Redis' bytes to closed slots: whose each reply is, what it confirms, and its record.

use super::{
    End, Turn,
    error::CloseReason,
    gather::Gather,
    local::{Local, say},
    machine::ClientAuth,
    records::Answer,
    replan::replan,
    slots::{self, Kind, Marks, Slot},
    state::{Core, Phase, Replies, Streaming, UNREAD_MAX},
    toll,
};
use crate::{
    audit::record::{ConnectionEvent, Context, Outcome},
    command::Effect,
    lane::{Arrival, Desync, Own, machine::Protocol},
    policy::guards::tells_own_id,
    resp::{
        number,
        reply::{Class, error_code},
    },
};
use std::num::NonZeroU32;

/// Clients and their libraries know these words; Redis says them to whoever it has no room for, before any request.
const MAX_CLIENTS: &str = "ERR max number of clients reached";

impl Core {
    /// Takes replies from the front of `input` until something is missing. Returns the bytes consumed.
    pub(super) fn take_replies(
        &mut self,
        input: &[u8],
        turn: &mut Turn<'_>,
        up: &mut Gather<'_>,
        down: &mut Gather<'_>,
    ) -> usize {
        let mut at = 0;
        loop {
            // Here, because a reply may bring another policy into force.
            self.lane.stop_at_errors(!self.peer.policy().renames().is_empty());
            if !matches!(self.phase, Phase::Greeting | Phase::Open) {
                return input.len();
            }
            let rest = input.get(at..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            // What passes on a replication stream needs no record.
            if !turn.recorder.has_room() && self.streaming != Streaming::Replica {
                self.short_of_room = true;
                break;
            }
            let unread = turn.down_pending.saturating_add(down.len());
            if self.keeps_replies() && (unread > UNREAD_MAX || !self.lane.begins_unasked(rest)) {
                break;
            }
            let end = self.answer_plain(input, at, turn, down);
            if end > at {
                at = end;
                continue;
            }
            match self.lane.next(rest) {
                Err(desync) => {
                    self.desync(desync, turn, down);
                    return input.len();
                }
                Ok(Arrival::More) => break,
                Ok(Arrival::Push { len }) => {
                    self.pass(at, len, down);
                    at = at.saturating_add(len);
                    self.release_before(input.get(at..), turn, down);
                }
                Ok(Arrival::Line { len }) => {
                    // CLIENT REPLY OFF silences these too, unlike pushes (`prepareClientToWrite`).
                    if self.replies != Replies::Off {
                        self.pass(at, len, down);
                    }
                    at = at.saturating_add(len);
                    self.release(UNREAD_MAX, turn, down);
                }
                Ok(Arrival::Stream { len, begins }) => {
                    if begins {
                        self.begin_replication();
                    }
                    self.pass(at, len, down);
                    self.reply_out = self.reply_out.saturating_add(len as u64);
                    at = at.saturating_add(len);
                }
                Ok(Arrival::Own { len, own, last }) => {
                    at = at.saturating_add(len);
                    if last {
                        self.own_answer(own, turn, up, down);
                    }
                }
                Ok(Arrival::Confirmation { len, closes }) => {
                    // Confirmations reach the client even under CLIENT REPLY OFF, as Redis' do (CLIENT_PUSHING).
                    self.pass(at, len, down);
                    self.reply_out = self.reply_out.saturating_add(len as u64);
                    at = at.saturating_add(len);
                    if closes {
                        self.close_front(turn, up, down);
                        self.release_before(input.get(at..), turn, down);
                    }
                }
                Ok(Arrival::Reply { len, first, last }) => {
                    if first && self.lost_authentication(turn) {
                        return input.len();
                    }
                    if self.lane.ends_with_error() {
                        self.pass_error(at, rest.get(..len).unwrap_or_default(), down);
                    } else {
                        self.pass_reply(at, len, down);
                    }
                    if first && last && rest.first() == Some(&b':') {
                        self.learn_own_id(rest.get(1..len.saturating_sub(2)));
                    }
                    at = at.saturating_add(len);
                    if last {
                        self.close_front(turn, up, down);
                        self.release_before(input.get(at..), turn, down);
                    }
                }
            }
        }
        at
    }

    /// An integer has come in one piece: it may be the number of the connection, which this client was told.
    fn learn_own_id(&mut self, digits: Option<&[u8]>) {
        if self.slots.front().and_then(Slot::command).is_some_and(|id| tells_own_id(id.entry())) {
            self.own_id = digits.and_then(number::canonical_u64);
        }
    }

    /// Releases, unless what Redis said next is a push that nobody asked for: it was said before the command was
    /// answered that is answered here (what a write invalidates follows the write's reply), and a client that quits
    /// would not hear it any more.
    pub(super) fn release_before(&mut self, rest: Option<&[u8]>, turn: &mut Turn<'_>, down: &mut Gather<'_>) {
        if self.slots.begins_locally() && !rest.is_some_and(|rest| self.lane.begins_unasked(rest)) {
            self.release(UNREAD_MAX, turn, down);
        }
    }

    fn pass(&mut self, at: usize, len: usize, down: &mut Gather<'_>) {
        down.pass(at..at.saturating_add(len));
        self.bytes_out = self.bytes_out.saturating_add(len as u64);
    }

    /// Whether the client is to see the front slot's reply.
    fn shows_reply(&self) -> bool {
        let Some(slot) = self.slots.front() else { return false };
        let replaced = matches!(slot.kind, Kind::AsDiscard(local) if self.discard_text(local).is_some());
        let silent = slot.marks.has(Marks::SILENT) && !self.ends_silence(slot);
        !silent && !replaced
    }

    /// Passes a piece of the front slot's reply on, unless the client is not to see it.
    fn pass_reply(&mut self, at: usize, len: usize, down: &mut Gather<'_>) {
        if self.shows_reply() {
            self.pass(at, len, down);
            self.reply_out = self.reply_out.saturating_add(len as u64);
        }
    }

    /// Passes a piece of the front slot's reply on whose last line is an error, at whatever depth, with usual names in the
    /// place of secret ones. Lines come whole, so nothing is kept for it.
    fn pass_error(&mut self, at: usize, piece: &[u8], down: &mut Gather<'_>) {
        let text = piece.strip_suffix(b"\r\n").unwrap_or(piece);
        let begins = memchr::memrchr(b'\n', text).map_or(0, |newline| newline.saturating_add(1));
        let Some((before, error)) = piece.split_at_checked(begins) else { return };
        self.pass_reply(at, before.len(), down);
        if self.shows_reply() {
            let mut shown = Vec::new();
            self.peer.policy().renames().show(error, &mut shown);
            down.push(&shown);
            self.bytes_out = self.bytes_out.saturating_add(shown.len() as u64);
            self.reply_out = self.reply_out.saturating_add(shown.len() as u64);
        }
    }

    /// RESET that works ends CLIENT REPLY OFF before it is answered, so `+RESET` is heard (Redis' `resetCommand`). One that
    /// CLIENT REPLY SKIP skips is not.
    fn ends_silence(&self, slot: &Slot) -> bool {
        self.replies == Replies::Off
            && self.lane.frame().class == Class::Status
            && slot.command().is_some_and(|id| id.entry().effect == Effect::Reset)
    }

    /// What the client is told in the place of Redis' answer to the DISCARD that went up for its EXEC. `None` when
    /// Redis' own words stand (it refused DISCARD for a reason of its own).
    fn discard_text(&self, local: Local) -> Option<Result<Local, &'static str>> {
        let frame = self.lane.frame();
        let head = frame.head();
        match frame.class {
            Class::Status => Some(Ok(local)),
            Class::Error if head.starts_with(b"ERR DISCARD without MULTI") => Some(Err("ERR EXEC without MULTI")),
            _ => None,
        }
    }

    /// `-NOAUTH` to a forwarded command: somebody changed Redis' users under us. Closes the pair, loudly.
    fn lost_authentication(&mut self, turn: &mut Turn<'_>) -> bool {
        let frame = self.lane.frame();
        if frame.class != Class::Error || frame.error_code() != b"NOAUTH" || self.config.greeting.credential.is_none() {
            return false;
        }
        turn.recorder.connection(turn.now, &self.facts, &ConnectionEvent::Alarm { reason: "upstream-noauth" });
        self.passwords.refused = true;
        self.finish(CloseReason::UpstreamAuth, "Redis no longer accepts our authentication (-NOAUTH)", End::Flush);
        true
    }

    fn desync(&mut self, desync: Desync, turn: &mut Turn<'_>, down: &mut Gather<'_>) {
        if matches!(self.phase, Phase::Greeting) {
            let reason = if desync == Desync::MaxClients { "maxclients" } else { "desync" };
            self.greeting_failed(reason, &desync.to_string(), turn, down);
        } else if desync == Desync::MaxClients {
            self.say_alone(MAX_CLIENTS, down);
            self.finish(CloseReason::UpstreamClosed, &desync.to_string(), End::Flush);
        } else {
            turn.recorder.connection(turn.now, &self.facts, &ConnectionEvent::Alarm { reason: "desync" });
            self.finish(CloseReason::Desync, &desync.to_string(), End::Flush);
        }
    }

    /// Redis would not have us.
    pub(super) fn greeting_failed(
        &mut self,
        reason: &'static str,
        detail: &str,
        turn: &mut Turn<'_>,
        down: &mut Gather<'_>,
    ) {
        turn.recorder.connection(turn.now, &self.facts, &ConnectionEvent::UpstreamFailed { reason, detail });
        if self.phase == Phase::Greeting && reason == "maxclients" {
            self.say_alone(MAX_CLIENTS, down);
        } else if self.phase == Phase::Greeting {
            self.say_unavailable(down);
        }
        self.finish(CloseReason::UpstreamAuth, detail, End::Flush);
    }

    /// A command of the proxy's own was answered.
    fn own_answer(&mut self, own: Own, turn: &mut Turn<'_>, up: &mut Gather<'_>, down: &mut Gather<'_>) {
        let frame = self.lane.frame();
        let head = frame.head();
        let failed = frame.class == Class::Error;
        let ok = frame.class == Class::Status && head == b"OK";
        let code = error_code(head);
        let error = failed.then_some(code);
        let outcome = if failed { Outcome::Error } else { Outcome::Ran };
        let us = turn.now.mono_us.saturating_sub(self.greeted_at);
        turn.recorder.upstream_command(turn.now, &self.facts, own.name(), outcome, error, us);
        let code = String::from_utf8_lossy(code).into_owned();
        if self.tries_another_password(own, ok, turn, up) {
            return;
        }
        match own {
            Own::Probe if failed && (code == "NOAUTH" || code == "NOPERM") => {}
            Own::Probe if failed => {
                let detail = format!("Redis answered {code} to a PING before AUTH, where NOAUTH was expected");
                self.greeting_failed("auth", &detail, turn, down);
            }
            Own::Probe => {
                let detail = "Redis asks nobody for a password; give it one (requirepass), or say auth = \"none\"";
                self.passwords.refused = true;
                self.greeting_failed("no-password", detail, turn, down);
            }
            Own::Auth if !ok => {
                let detail = format!("Redis did not accept our AUTH: {code}");
                self.passwords.refused = true;
                self.greeting_failed("auth", &detail, turn, down);
            }
            Own::Select if !ok => {
                let detail = format!("Redis did not select the role's database: {code}");
                self.greeting_failed("database", &detail, turn, down);
            }
            // A name is a courtesy: a server that refuses it still serves.
            Own::Hello if failed => {
                let detail = format!("Redis did not take up RESP3 again: {code}");
                self.greeting_failed("auth", &detail, turn, down);
            }
            Own::Auth | Own::Hello | Own::Select | Own::SetName => {
                if own == Own::Hello {
                    self.lane.set_protocol(Protocol::Resp3);
                }
                if own == Own::Select {
                    self.db = self.config.greeting.database.map_or(0, NonZeroU32::get);
                }
                if self.lane.owed() == 0 {
                    self.greeted(turn);
                }
            }
        }
    }

    /// The front slot's reply is whole: what it confirms is noted, the record written, the slot gone.
    fn close_front(&mut self, turn: &mut Turn<'_>, up: &mut Gather<'_>, down: &mut Gather<'_>) {
        let Some(slot) = self.slots.front().copied() else { return };
        if let Kind::AsDiscard(local) = slot.kind {
            self.close_discarded(&slot, local, turn, down);
            return;
        }
        let effect = slot.command().map_or(Effect::Plain, |id| id.entry().effect);
        let frame = self.lane.frame();
        let (class, element_count) = (frame.class, frame.element_count);
        let head = frame.head();
        let failed = class == Class::Error;
        let queued = class == Class::Status && head == b"QUEUED" && self.tx.confirmed;
        let code = if failed { error_code(head) } else { b"" };
        let exec = effect == Effect::Exec;
        let elements = (exec && class == Class::Array).then_some((frame.elements.as_slice(), element_count));
        let outcome = if exec && class == Class::Null {
            Outcome::Nil
        } else if exec && failed && code == b"EXECABORT" {
            Outcome::Aborted
        } else if failed {
            Outcome::Error
        } else if queued {
            Outcome::Queued
        } else {
            Outcome::Ran
        };
        // A streamed command that was answered before it was whole: Redis refused it and will close.
        let outcome = if slot.marks.has(Marks::UNFINISHED) { Outcome::Incomplete } else { outcome };
        if slot.marks.has(Marks::OPENS) {
            self.tx.confirm_open(!failed);
            self.barrier &= self.slots.len() > 1;
        }
        let inside = self.tx.confirmed;
        let context = if inside && effect != Effect::Multi { Context::Multi } else { Context::TopLevel };
        let answer = Answer {
            outcome,
            class: Some(class),
            error: failed.then_some(code),
            elements,
            bytes_out: std::mem::take(&mut self.reply_out),
            db: self.db,
            tx: inside.then_some(self.tx.number),
            context,
        };
        Self::write(&self.facts, &self.slots, &slot, &answer, self.peer.policy(), turn);
        toll::pay_reply(&self.peer, &mut self.toll, &slot, answer.bytes_out, turn.now);
        let selected =
            slots::number_of(self.slots.front_words()).filter(|_| matches!(effect, Effect::Select | Effect::Exec));
        let kept = failed && inside && matches!(effect, Effect::Exec | Effect::Discard) && keeps_transaction(code);
        if kept {
            self.slots.pop();
            replan(&mut self.slots, &mut self.tx);
            return;
        }
        if slot.marks.has(Marks::REFUSED) {
            self.close_refused(effect, failed, queued);
            return;
        }
        if queued || effect != Effect::Plain {
            self.confirm(effect, class, queued, selected, turn, up);
        }
        self.slots.pop();
        if failed && slot.marks.has(Marks::OPENS) {
            replan(&mut self.slots, &mut self.tx);
        }
        if slot.marks.has(Marks::UNFINISHED) && self.streaming == Streaming::Up {
            self.streaming = Streaming::No;
            self.finish(CloseReason::UpstreamClosed, "Redis refused a command before it was whole", End::Flush);
        }
    }

    /// What every known server refuses was answered.
    fn close_refused(&mut self, effect: Effect, failed: bool, queued: bool) {
        if queued {
            self.tx.confirm_queued(None);
        } else if !failed {
            let detail = "Redis took a command that every known server refuses";
            self.finish(CloseReason::Desync, detail, End::Flush);
        }
        // Where nothing was judged behind it, it is the last one.
        self.barrier &= self.slots.len() > 1;
        if effect == Effect::Exec && self.tx.confirmed {
            if self.lane.frame().error_code() == b"EXECABORT" {
                self.tx.end();
                self.tx.confirm_end(&[]);
            } else if self.tx.intended {
                // Kept, and spoilt (`flagTransaction`).
                self.tx.dirty = true;
            }
        }
        self.slots.pop();
    }

    /// What a reply confirms about the state of the connection.
    fn confirm(
        &mut self,
        effect: Effect,
        class: Class,
        queued: bool,
        selected: Option<u32>,
        turn: &mut Turn<'_>,
        up: &mut Gather<'_>,
    ) {
        let failed = class == Class::Error;
        if queued {
            self.tx.confirm_queued(selected);
        }
        match effect {
            Effect::Select => {
                self.selects_open = self.selects_open.saturating_sub(1);
                // Where nothing was judged behind it, it is the last one.
                self.barrier &= self.slots.len() > 1;
                if let Some(db) = selected
                    && class == Class::Status
                    && !queued
                {
                    self.db = db;
                }
            }
            Effect::Exec => {
                if selected.is_some() {
                    self.selects_open = self.selects_open.saturating_sub(1);
                }
                let elements = if class == Class::Array { self.lane.frame().elements.as_slice() } else { &[] };
                if let Some(db) = self.tx.confirm_end(elements) {
                    self.db = db;
                }
            }
            Effect::Discard => {
                self.tx.confirm_end(&[]);
            }
            Effect::Hello => {
                if let Some(protocol) = self.hello.take()
                    && !failed
                {
                    self.lane.set_protocol(protocol);
                }
                self.barrier = false;
            }
            Effect::Reset => {
                if failed {
                    // A server that does not know RESET has not changed anything.
                    self.barrier = false;
                    if self.tx.intended {
                        self.tx.dirty = true;
                    }
                } else {
                    self.lane.reset();
                    self.tx.end();
                    self.tx.confirm_end(&[]);
                    self.watching = false;
                    self.db = 0;
                    self.selects_open = 0;
                    self.has_subscribed = false;
                    self.replies = Replies::Sent;
                    self.authenticated = self.config.client_auth != ClientAuth::Verify;
                    self.stranger_since = turn.now.mono_us;
                    self.regreeting = true;
                    self.greet(false, turn, up);
                }
            }
            // Refused, or its lines follow. (A replication stream that begins has no reply.)
            Effect::Monitor | Effect::Replication => self.barrier = false,
            Effect::Plain
            | Effect::State
            | Effect::Blocking
            | Effect::BlockingOption
            | Effect::Multi
            | Effect::Auth
            | Effect::Quit
            | Effect::ReplyMode
            | Effect::Subscribe(_)
            | Effect::Unsubscribe(_)
            | Effect::ReplicationConfig
            | Effect::Shutdown
            | Effect::Script
            | Effect::OwnAccess(_)
            | Effect::AccessControl
            | Effect::Unsupported => {}
        }
    }

    /// The DISCARD that went up for an EXEC was answered.
    fn close_discarded(&mut self, slot: &Slot, local: Local, turn: &mut Turn<'_>, down: &mut Gather<'_>) {
        let text = self.discard_text(local);
        let frame = self.lane.frame();
        let failed = frame.class == Class::Error;
        let code = frame.error_code();
        let us = turn.now.mono_us.saturating_sub(slot.accepted_us);
        let own_outcome = if failed { Outcome::Error } else { Outcome::Ran };
        turn.recorder.upstream_command(turn.now, &self.facts, "DISCARD", own_outcome, failed.then_some(code), us);
        let mut bytes_out = std::mem::take(&mut self.reply_out);
        if let Some(text) = text
            && !slot.marks.has(Marks::SILENT)
        {
            let before = down.len();
            match text {
                Ok(local) => local.encode(slot.command(), b"", down.buffer()),
                Err(text) => say(down.buffer(), text),
            }
            bytes_out = down.len().saturating_sub(before) as u64;
            self.bytes_out = self.bytes_out.saturating_add(bytes_out);
        }
        let denied = slot.denied_by().is_some();
        let answer = Answer {
            outcome: if denied { Outcome::Denied } else { Outcome::Aborted },
            class: Some(Class::Error),
            error: Some(if text.is_some_and(|text| text.is_ok()) { b"EXECABORT" } else { code }),
            elements: None,
            bytes_out,
            db: self.db,
            tx: self.tx.confirmed.then_some(self.tx.number),
            context: if self.tx.confirmed { Context::Multi } else { Context::TopLevel },
        };
        Self::write(&self.facts, &self.slots, slot, &answer, self.peer.policy(), turn);
        let kept = failed && self.tx.confirmed && keeps_transaction(code);
        self.slots.pop();
        if kept {
            replan(&mut self.slots, &mut self.tx);
        } else {
            self.tx.confirm_end(&[]);
        }
    }

    /// Gives the replies of the proxy's own that stand at the front now, and records their slots. Not in the middle of
    /// a message or another push that is still coming in: it has no slot that would hold them back.
    /// Not beyond `unread_max` bytes that wait for the client either: what it does not read is kept as slots.
    pub(super) fn release(&mut self, unread_max: usize, turn: &mut Turn<'_>, down: &mut Gather<'_>) {
        if !self.lane.at_boundary() {
            return;
        }
        while let Some(Slot { kind: Kind::Local(local), .. }) = self.slots.front().copied() {
            if !turn.recorder.has_room() {
                self.short_of_room = true;
                return;
            }
            if turn.down_pending.saturating_add(down.len()) > unread_max {
                return;
            }
            let Some(slot) = self.slots.front().copied() else { return };
            let before = down.len();
            if !slot.marks.has(Marks::SILENT) && local != Local::Nothing {
                let named = slot.command().is_none() || local == Local::HelloOption;
                let words = self.slots.front_words();
                let (name, _) = match local {
                    Local::Rendered => (words, None),
                    _ if named => slots::name_of(words),
                    _ => (&b""[..], None),
                };
                local.encode(slot.command(), name, down.buffer());
            }
            let bytes_out = down.len().saturating_sub(before) as u64;
            self.bytes_out = self.bytes_out.saturating_add(bytes_out);
            self.record_local(&slot, local, bytes_out, turn);
            self.slots.pop();
        }
    }

    /// Redis has ended its side; the kernel never took the last `unsent` bytes meant for it.
    pub(super) fn lost_upstream(&mut self, unsent: usize, turn: &mut Turn<'_>, down: &mut Gather<'_>) {
        match self.phase {
            Phase::Connecting | Phase::Greeting => {
                self.greeting_failed("closed", "Redis closed the connection before it had answered AUTH", turn, down);
                return;
            }
            Phase::Closing | Phase::Done => return,
            Phase::Open => {}
        }
        // No more will come that these would have to stay in order with.
        self.release(usize::MAX, turn, down);
        // Slots whose bytes never reached the kernel cannot have run.
        let mut left = u64::try_from(unsent).unwrap_or(u64::MAX);
        // A command that was still streaming comes last; what of it waits speaks for nothing that stands before it.
        if self.streaming == Streaming::Up
            && let Some(slot) = self.slots.back_mut()
        {
            left = left.saturating_sub(u64::from(slot.bytes_in));
        }
        for slot in self.slots.iter_mut().rev() {
            if slot.marks.has(Marks::UNFINISHED) || matches!(slot.kind, Kind::Local(_)) {
                continue;
            }
            let bytes = if slot.kind == Kind::Upstream { u64::from(slot.bytes_in) } else { 17 };
            if bytes > left {
                break;
            }
            left = left.saturating_sub(bytes);
            slot.marks.set(Marks::UNFINISHED, true);
        }
        if let Some(front) = self.slots.front().copied() {
            let effect = front.command().map_or(Effect::Plain, |id| id.entry().effect);
            let sent = !front.marks.has(Marks::UNFINISHED);
            if effect == Effect::Shutdown && sent {
                self.record_without_reply(&front, Outcome::Ran, turn);
                self.slots.pop();
            } else if !sent && self.lane.at_boundary() && self.replies == Replies::Sent {
                // An error may speak only for a command that cannot have run, and only between two replies.
                let before = down.len();
                say(down.buffer(), "ERR the connection to Redis was lost before this command was sent");
                self.bytes_out = self.bytes_out.saturating_add(down.len().saturating_sub(before) as u64);
            }
        }
        let reason = self.winding_down.unwrap_or(CloseReason::UpstreamClosed);
        self.finish(reason, "", End::Flush);
    }
}

/// Whether a transaction is still open after EXEC or DISCARD was refused with this code. Servers before 6.2 refuse EXEC as
/// any other command while they load, run a script, or have lost their master (`processCommand`); from then on the answer is
/// `-EXECABORT`, and it is over. What a cluster says (`-MOVED`) ends it everywhere.
fn keeps_transaction(code: &[u8]) -> bool {
    matches!(code, b"LOADING" | b"BUSY" | b"MASTERDOWN" | b"NOPERM")
}
