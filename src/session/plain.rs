//! The short way of what nearly every command is: one request, one reply, at most one key, and nothing that its session
//! would have to remember ([`crate::command::Entry::simple`]).
//!
//! Both ways do the same (`properties::the_short_way_of_plain_commands_is_the_long_way`); this one asks in a few comparisons whether anything is unusual, and leaves all
//! else to `effects` and `answer`.

use super::{
    Turn,
    accept::{Flow, Source},
    gather::Gather,
    slots::{self, Slot},
    state::{Core, Replies},
};
use crate::{
    audit::plain::PlainRecord,
    command::{CommandId, Resolved},
    lane::{Closes, Ticket},
    policy::rules::Row,
    resp::{Words, reply::Class},
};

impl Core {
    /// The row and the place of the key of a command that goes up as it came, and of which only its slot need be known.
    /// `None` says nothing: the long way looks at it.
    #[inline]
    fn goes_up_plainly(&self, resolved: Resolved) -> Option<(CommandId, usize)> {
        let Resolved::Known(id) = resolved else { return None };
        let entry = id.entry();
        let key = entry.simple?;
        let policy = self.peer.policy();
        let usual = self.authenticated
            && !self.tx.intended
            && self.replies == Replies::Sent
            && !self.lane.monitoring()
            && self.config.values.is_none()
            && !(self.config.begin_writes && entry.may_write())
            && policy.renames().is_empty()
            && policy.rates().is_none();
        (usual && policy.look(id) == Row::OPEN).then_some((id, key))
    }

    /// Sends a plain command up and opens its slot; `None` where it has to go the long way. Its budget has been looked at.
    #[inline]
    pub(super) fn forward_plainly(
        &mut self,
        resolved: Resolved,
        words: &Words<'_>,
        source: &Source,
        turn: &Turn<'_>,
        up: &mut Gather<'_>,
    ) -> Option<Flow> {
        let &Source::Input { at, len } = source else { return None };
        let (id, key) = self.goes_up_plainly(resolved)?;
        self.commands = self.commands.saturating_add(1);
        let slot = Slot::plain(turn.now.mono_us, words.declared(), len, id);
        // The name is no key, so 0 stands for none.
        let key = if key > 0 && self.config.show_keys { words.get(key) } else { None };
        self.slots.push_plain(slot, key);
        self.lane.expect(Ticket { closes: Closes::Reply, own: None });
        up.pass(at..at.saturating_add(len));
        Some(Flow::Next(len))
    }

    /// Passes a whole reply on to a plain command that stands in front, and closes its slot; whether it was one.
    #[inline]
    pub(super) fn answer_plainly(&mut self, at: usize, len: usize, turn: &mut Turn<'_>, down: &mut Gather<'_>) -> bool {
        let class = self.lane.frame().class;
        let Some(slot) = self.slots.front() else { return false };
        let Some(id) = slot.plainly() else { return false };
        if self.tx.confirmed || matches!(class, Class::Error) || self.peer.policy().rates().is_some() {
            return false;
        }
        down.pass(at..at.saturating_add(len));
        let bytes_out = self.reply_out.saturating_add(len as u64);
        self.reply_out = 0;
        self.bytes_out = self.bytes_out.saturating_add(len as u64);
        let record = PlainRecord {
            id,
            db: self.db,
            argc: slot.argc,
            keys: slots::keys_of(slot, self.slots.front_words()),
            class,
            bytes_in: u64::from(slot.bytes_in),
            bytes_out,
            us: turn.now.mono_us.saturating_sub(slot.accepted_us),
        };
        turn.recorder.plain(turn.now, &self.facts, &record);
        self.slots.pop();
        true
    }
}
