//! Records of slots: what is written about each, whichever way it ends.

use super::{
    Turn,
    local::Local,
    slots::{self, Kind, Marks, Slot},
    state::{Core, Streaming},
};
use crate::{
    audit::record::{CommandRecord, Context, KeyList, Name, Outcome},
    policy::rename::MASK,
    resp::reply::Class,
};

/// What is written about a slot besides what the slot itself knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer<'f> {
    pub(super) outcome: Outcome,
    pub(super) class: Option<Class>,
    pub(super) error: Option<&'f [u8]>,
    pub(super) elements: Option<(&'f [Class], u64)>,
    pub(super) bytes_out: u64,
    /// The database the record names.
    pub(super) db: u32,
    /// Whether it is recorded as inside a transaction, and which.
    pub(super) tx: Option<u32>,
    pub(super) context: Context,
}

impl Core {
    pub(super) fn record_local(&self, slot: &Slot, local: Local, bytes_out: u64, turn: &mut Turn<'_>) {
        let inside = slot.marks.has(Marks::IN_MULTI) && self.tx.confirmed;
        // Of a reply that was made here the first byte says what it is.
        let rendered = match self.slots.front_words().first() {
            Some(b'-') => Class::Error,
            Some(b'+') => Class::Status,
            Some(b'$') => Class::Bulk,
            Some(b'%') => Class::Map,
            _ => Class::Array,
        };
        let failed = local == Local::Rendered && rendered == Class::Error;
        let answer = Answer {
            outcome: match slot.denied_by() {
                Some(_) => Outcome::Denied,
                None if failed => Outcome::Error,
                None => Outcome::Ran,
            },
            class: match local {
                Local::Nothing => None,
                Local::Rendered => Some(rendered),
                local if local.is_error() => Some(Class::Error),
                _ => Some(Class::Status),
            },
            error: match local {
                Local::Denied
                | Local::DeniedKey
                | Local::DeniedChannel
                | Local::DeniedDatabase
                | Local::Administered
                | Local::OfAnother
                | Local::AuthRefused
                | Local::TooLarge => Some(b"NOPERM"),
                Local::NoAuth | Local::HelloNoAuth => Some(b"NOAUTH"),
                Local::WrongPass => Some(b"WRONGPASS"),
                Local::InTransaction
                | Local::RateLimited
                | Local::Arity
                | Local::NotAnInteger
                | Local::IntRange
                | Local::HelloOption
                | Local::HelloVersion
                | Local::Syntax
                | Local::WhileMonitoring
                | Local::ReplicationOption
                | Local::NotPlain
                | Local::AuthUnavailable
                | Local::HoldsState
                | Local::ResetSelected => Some(b"ERR"),
                Local::ExecAborted | Local::ExecDenied | Local::ExecArity => Some(b"EXECABORT"),
                Local::Ok | Local::Nothing => None,
                Local::Rendered => failed.then_some(b"ERR"),
            },
            elements: None,
            bytes_out,
            db: self.db,
            tx: inside.then_some(self.tx.number),
            context: if inside { Context::Multi } else { Context::TopLevel },
        };
        Self::write(&self.facts, &self.slots, slot, &answer, self.peer.policy(), turn);
    }

    /// Records the front slot as what it has become now that the connection is over, and drops it.
    pub(super) fn record_unanswered(&mut self, turn: &mut Turn<'_>) {
        let Some(slot) = self.slots.front().copied() else { return };
        match slot.kind {
            Kind::Local(local) => self.record_local(&slot, local, 0, turn),
            Kind::Upstream if self.streaming == Streaming::Replica => self.record_replication(&slot, turn),
            Kind::Upstream | Kind::AsDiscard(_) => {
                if matches!(slot.kind, Kind::AsDiscard(_)) {
                    let us = turn.now.mono_us.saturating_sub(slot.accepted_us);
                    turn.recorder.upstream_command(turn.now, &self.facts, "DISCARD", Outcome::Unanswered, None, us);
                }
                let outcome = if slot.denied_by().is_some() {
                    Outcome::Denied
                } else if matches!(slot.kind, Kind::AsDiscard(_)) {
                    Outcome::Aborted
                } else if slot.marks.has(Marks::UNFINISHED) {
                    Outcome::Incomplete
                } else {
                    Outcome::Unanswered
                };
                self.record_without_reply(&slot, outcome, turn);
            }
        }
        self.slots.pop();
    }

    /// The end of the connection is the end of the stream that this slot began.
    fn record_replication(&mut self, slot: &Slot, turn: &mut Turn<'_>) {
        let answer = Answer {
            outcome: Outcome::Ran,
            class: self.lane.replicating(),
            error: None,
            elements: None,
            bytes_out: std::mem::take(&mut self.reply_out),
            db: self.db,
            tx: None,
            context: Context::TopLevel,
        };
        Self::write(&self.facts, &self.slots, slot, &answer, self.peer.policy(), turn);
    }

    pub(super) fn record_without_reply(&mut self, slot: &Slot, outcome: Outcome, turn: &mut Turn<'_>) {
        let inside = slot.marks.has(Marks::IN_MULTI);
        let answer = Answer {
            outcome,
            class: None,
            error: None,
            elements: None,
            bytes_out: std::mem::take(&mut self.reply_out),
            db: self.db,
            tx: inside.then_some(self.tx.opened),
            context: if inside { Context::Multi } else { Context::TopLevel },
        };
        Self::write(&self.facts, &self.slots, slot, &answer, self.peer.policy(), turn);
    }

    /// Writes the `begin` line of the newest slot.
    pub(super) fn record_begin(&mut self, turn: &mut Turn<'_>) {
        let Some(slot) = self.slots.back_mut().copied() else { return };
        let inside = slot.marks.has(Marks::IN_MULTI);
        let Some(id) = slot.command() else { return };
        let record = CommandRecord {
            name: Name::Known(id),
            db: self.db,
            argc: slot.argc,
            keys: slots::keys_of(&slot, self.slots.back_words()),
            context: if inside { Context::Multi } else { Context::TopLevel },
            tx: inside.then_some(self.tx.opened),
            rule: None,
            shadow: slot.shadowed_by().map(|rule| self.peer.policy().rule_name(rule)),
            local: false,
            outcome: Outcome::Incomplete,
            class: None,
            error: None,
            elements: None,
            bytes_in: u64::from(slot.bytes_in),
            bytes_out: 0,
            us: None,
        };
        turn.recorder.begin(turn.now, &self.facts, &record);
    }

    /// Writes the record of the front slot.
    pub(super) fn write(
        facts: &crate::audit::encode::ConnectionFacts,
        queue: &slots::Queue,
        slot: &Slot,
        answer: &Answer<'_>,
        policy: &crate::policy::rules::Policy,
        turn: &mut Turn<'_>,
    ) {
        let words = queue.front_words();
        let (name, keys) = match slot.command() {
            Some(id) => (Name::Known(id), slots::keys_of(slot, words)),
            None => {
                let (name, sub) = slots::name_of(words);
                let shown = |word| if policy.renames().hides(word) { MASK } else { word };
                let (name, sub) = (shown(name), sub.map(shown));
                (Name::Unknown(name, sub), KeyList::default())
            }
        };
        let denied = slot.denied_by().is_some();
        let record = CommandRecord {
            name,
            db: answer.db,
            argc: slot.argc,
            keys,
            context: answer.context,
            tx: answer.tx,
            rule: slot.denied_by().map(|rule| policy.rule_name(rule)),
            shadow: slot.shadowed_by().map(|rule| policy.rule_name(rule)),
            local: !denied && !matches!(slot.kind, Kind::Upstream),
            outcome: answer.outcome,
            class: answer.class,
            error: answer.error,
            elements: answer.elements,
            bytes_in: u64::from(slot.bytes_in),
            bytes_out: answer.bytes_out,
            us: (!denied).then(|| turn.now.mono_us.saturating_sub(slot.accepted_us)),
        };
        turn.recorder.command(turn.now, facts, &record);
    }
}
