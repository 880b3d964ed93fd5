//! What a command costs of its role's limits in time ([`crate::policy::rates`]), and how long a half command may take.
//!
//! A command pays once, when it is first looked at; it may be looked at again before it has its slot (it waits for a
//! `begin` line, for an answer, for room). While it waits for its turn it stays at the front of the input and nothing is
//! read: no reply is invented, nothing behind it is overtaken, and the client's own socket holds it back.

use super::{
    Turn,
    accept::{Flow, Source},
    error::CloseReason,
    slots::Slot,
    state::{Core, Phase, Streaming},
};
use crate::{
    command::{Effect, Resolved},
    moment::Moment,
    policy::{
        RuleId,
        identity::AuthenticatedPeer,
        rates::{Ask, Own, Rates, Room},
    },
};

/// So many bytes of a half command give it its time anew: a large value takes as long as it takes, one byte a second
/// does not.
const PROGRESS_BYTES: usize = 64 * 1024;

/// What the command at the front of the input has paid.
#[derive(Debug, Default)]
pub(super) struct Toll {
    /// Until when it waits; 0 if it does not.
    pub(super) until_us: u64,
    /// It has paid, and need not again.
    paid: bool,
    /// That it waits was counted.
    told: bool,
    /// Bytes it has paid for.
    bytes: u64,
    /// The connection's own buckets.
    own: Own,
}

/// A command that has begun to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partial {
    since_us: u64,
    /// Bytes that have come since then.
    bytes: usize,
    /// How many commands had been taken: another number is another command.
    commands: u64,
}

impl Toll {
    /// The command has its slot; the next one pays for itself.
    pub(super) const fn is_served(&mut self) {
        self.paid = false;
        self.told = false;
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        (self.until_us > 0).then_some(self.until_us)
    }

    /// Ends the wait if it is over; whether one has ended.
    pub(super) const fn wait_is_over(&mut self, now_us: u64) -> bool {
        let over = self.until_us > 0 && now_us >= self.until_us;
        if over {
            self.until_us = 0;
        }
        over
    }
}

impl Core {
    /// Takes what the command costs: `Ok(None)` if there was room, the rule that refuses it, or that it is to wait.
    #[inline]
    pub(super) fn pay(
        &mut self,
        resolved: Resolved,
        source: &Source,
        turn: &mut Turn<'_>,
    ) -> Result<Option<RuleId>, Flow> {
        // A role without limits pays this look and no more.
        if self.peer.policy().rates().is_none() || self.toll.paid {
            Ok(None)
        } else {
            self.pay_toll(resolved, source, turn)
        }
    }

    fn pay_toll(&mut self, resolved: Resolved, source: &Source, turn: &mut Turn<'_>) -> Result<Option<RuleId>, Flow> {
        let policy = self.peer.policy();
        let Some(rates) = policy.rates() else { return Ok(None) };
        let id = if let Resolved::Known(id) = resolved { Some(id) } else { None };
        // Half a transaction is worse than a late one; what is not in the catalog is denied anyway.
        let refusable =
            id.is_some_and(|id| !matches!(id.entry().effect, Effect::Multi | Effect::Exec | Effect::Discard));
        let now_us = turn.now.mono_us;
        let ask = Ask { id, bytes: source.bytes_in(), refusable, now_us };
        let toll = &mut self.toll;
        toll.bytes = ask.bytes;
        let (until_us, rule) = match rates.ask(&mut toll.own, &ask) {
            Room::Now => {
                toll.paid = true;
                return Ok(None);
            }
            Room::Refused(rule) => return Ok(Some(rule)),
            Room::At(until_us, rule) => {
                toll.paid = true;
                (until_us, rule)
            }
            Room::Ask(until_us, rule) => (until_us, rule),
        };
        if !std::mem::replace(&mut toll.told, true) {
            turn.recorder.delayed(policy.rule_name(rule));
        }
        toll.until_us = until_us.max(now_us.saturating_add(1));
        Err(Flow::Wait)
    }

    /// Charges what a streamed command had beyond what was known when it was let through.
    pub(super) fn pay_rest(&mut self, now_us: u64) {
        let Some(rates) = self.peer.policy().rates() else { return };
        charge_rest(rates, &mut self.toll, self.slots.back_mut(), now_us);
    }

    /// Whether no deadline of this module's is set: asked for in nearly every turn.
    pub(super) fn is_unhurried(&self) -> bool {
        self.toll.until_us == 0
            && self.partial.is_none()
            && (self.bytes_in > 0 || self.config.first_byte_timeout_us == 0)
    }

    /// Notes whether a command has begun and is not whole, `fresh` bytes later.
    #[inline]
    pub(super) fn note_partial(&mut self, fresh: usize, now_us: u64) {
        if self.config.half_command_timeout_us == 0 {
            return;
        }
        let within = matches!(self.streaming, Streaming::Up | Streaming::Swallowed);
        if !self.starved || (self.leftover == 0 && !within) || self.streaming == Streaming::Replica {
            self.partial = None;
            return;
        }
        let known = self.partial.filter(|partial| {
            partial.commands == self.commands && partial.bytes.saturating_add(fresh) < PROGRESS_BYTES
        });
        self.partial = Some(match known {
            Some(partial) => Partial { bytes: partial.bytes.saturating_add(fresh), ..partial },
            None => Partial { since_us: now_us, bytes: 0, commands: self.commands },
        });
    }

    /// The client was not read for a while.
    pub(super) const fn restart_partial(&mut self, now_us: u64) {
        if let Some(partial) = &mut self.partial {
            partial.since_us = now_us;
        }
    }

    /// When the first byte must have come.
    pub(super) fn first_byte_deadline(&self) -> Option<u64> {
        let limit = self.config.first_byte_timeout_us;
        let waits = limit > 0 && self.bytes_in == 0 && self.winding_down.is_none() && self.phase == Phase::Open;
        waits.then(|| self.greeted_at.saturating_add(limit))
    }

    /// When the command that is coming must be whole.
    pub(super) fn half_command_deadline(&self) -> Option<u64> {
        let partial = self.partial.filter(|_| self.winding_down.is_none() && !self.waits_upstream())?;
        Some(partial.since_us.saturating_add(self.config.half_command_timeout_us))
    }

    /// Which of the two is over.
    pub(super) fn is_too_slow(&self, now_us: u64) -> Option<CloseReason> {
        let over = |deadline: Option<u64>| deadline.is_some_and(|at| now_us >= at);
        if over(self.first_byte_deadline()) {
            return Some(CloseReason::FirstByte);
        }
        over(self.half_command_deadline()).then_some(CloseReason::HalfCommand)
    }
}

/// Charges what Redis answered.
#[inline]
pub(super) fn pay_reply(peer: &AuthenticatedPeer, toll: &mut Toll, slot: &Slot, bytes_out: u64, now: Moment) {
    if let Some(rates) = peer.policy().rates() {
        rates.charge(&mut toll.own, slot.command(), bytes_out, now.mono_us);
    }
}

fn charge_rest(rates: &Rates, toll: &mut Toll, slot: Option<&mut Slot>, now_us: u64) {
    let Some(slot) = slot else { return };
    let rest = u64::from(slot.bytes_in).saturating_sub(toll.bytes);
    rates.charge(&mut toll.own, slot.command(), rest, now_us);
}
