//! The short way of what nearly every command is: one request, one reply, at most one key, and nothing that its session
//! would have to remember ([`crate::command::Entry::simple`]).
//!
//! Both ways do the same (`properties::the_short_way_of_plain_commands_is_the_long_way`). This one takes as many at a stretch as
//! there are: what is asked of the session is asked once for all of them, and of each only whether anything about it is
//! unusual. All else is left to `accept`, `effects` and `answer`.

use super::{
    Turn,
    gather::Gather,
    machine::Session,
    slots::{self, Slot},
    state::{Core, Replies},
};
use crate::{
    audit::plain::PlainRecord,
    command::{CommandId, Resolved},
    lane::{Closes, Ticket},
    policy::rules::Row,
};

/// Most bytes of memory that a plain command without an answer takes.
const OWED_MAX: usize = size_of::<Slot>() + slots::PLAIN_WORDS_MAX + size_of::<Ticket>();

/// Where a stretch of plain commands ends.
pub(super) struct Stretch {
    /// The offset of the first byte behind it.
    pub(super) end: usize,
    /// What stands there.
    pub(super) next: Next,
}

/// What is not a plain command.
pub(super) enum Next {
    /// It was not looked at.
    Unread,
    /// None that is read at one go ([`RequestParser::next_short`](crate::resp::request::RequestParser::next_short)).
    NotShort,
    /// A whole command of so many bytes that has to go the long way.
    Command(usize, Resolved),
}

impl Session {
    /// Sends the plain commands up that `input` has from `at` on, and opens their slots.
    #[inline]
    pub(super) fn forward_plain(&mut self, input: &[u8], at: usize, turn: &Turn<'_>, up: &mut Gather<'_>) -> Stretch {
        let Self { core, parser, .. } = self;
        if !core.may_forward_plainly() {
            return Stretch { end: at, next: Next::Unread };
        }
        let mut end = at;
        let mut room = 0_usize;
        let mut last = None;
        let next = loop {
            let rest = input.get(end..).unwrap_or_default();
            let Some(len) = parser.next_short(rest) else { break Next::NotShort };
            let words = parser.words(rest);
            let resolved = core.recent.resolve(&words);
            let Resolved::Known(id) = resolved else { break Next::Command(len, resolved) };
            // Where to find the key, for a row that was looked at just now.
            let key = match last {
                Some((known, key)) if known == id => key,
                _ => match core.goes_up_plainly(id) {
                    Some(key) => key,
                    None => break Next::Command(len, resolved),
                },
            };
            last = Some((id, key));
            if room == 0 {
                room = core.room_for_plain(turn);
                if room == 0 {
                    break Next::Command(len, resolved);
                }
            }
            room -= 1;
            core.commands = core.commands.saturating_add(1);
            let slot = Slot::plain(turn.now.mono_us, words.declared(), len, id);
            core.slots.push_plain(slot, key.and_then(|key| words.get(key)));
            core.lane.expect(Ticket { closes: Closes::Reply, own: None });
            end = end.saturating_add(len);
        };
        up.pass(at..end);
        Stretch { end, next }
    }
}

impl Core {
    /// Whether plain commands go up as they come, and of each only its slot need be known.
    fn may_forward_plainly(&self) -> bool {
        let policy = self.peer.policy();
        self.authenticated
            && !self.tx.intended
            && self.replies == Replies::Sent
            && !self.lane.monitoring()
            && self.config.values.is_none()
            && policy.renames().is_empty()
            && policy.rates().is_none()
    }

    /// Whether a command of this row is a plain one here: the place of the key that its record shows, if it shows one.
    fn goes_up_plainly(&self, id: CommandId) -> Option<Option<usize>> {
        let entry = id.entry();
        let key = entry.simple?;
        let usual = !(self.config.begin_writes && entry.may_write()) && self.peer.policy().look(id) == Row::OPEN;
        // The name is no key, so 0 stands for none.
        usual.then_some((key > 0 && self.config.show_keys).then_some(key))
    }

    /// For how many plain commands there is certainly room in the budget; 1 where it has to be asked again for each.
    fn room_for_plain(&self, turn: &Turn<'_>) -> usize {
        if self.over_budget(turn) { 0 } else { (self.owed_freely(turn) / OWED_MAX).max(1) }
    }

    /// Passes the whole replies on that `input` has from `at` on, as long as they answer plain commands, and closes their slots.
    /// Returns where they end.
    #[inline]
    pub(super) fn answer_plain(
        &mut self,
        input: &[u8],
        at: usize,
        turn: &mut Turn<'_>,
        down: &mut Gather<'_>,
    ) -> usize {
        if self.tx.confirmed || self.peer.policy().rates().is_some() {
            return at;
        }
        let mut end = at;
        while let Some(slot) = self.slots.front().copied()
            && let Some(id) = slot.plainly()
            && turn.recorder.has_room()
            && let Some((class, len)) = self.lane.next_plain(input.get(end..).unwrap_or_default())
        {
            let record = PlainRecord {
                id,
                db: self.db,
                argc: slot.argc,
                keys: slots::keys_of(&slot, self.slots.front_words_of(&slot)),
                class,
                bytes_in: u64::from(slot.bytes_in),
                bytes_out: std::mem::take(&mut self.reply_out).saturating_add(len as u64),
                us: turn.now.mono_us.saturating_sub(slot.accepted_us),
            };
            turn.recorder.plain(turn.now, &self.facts, &record);
            self.slots.pop();
            end = end.saturating_add(len);
        }
        if end > at {
            down.pass(at..end);
            self.bytes_out = self.bytes_out.saturating_add(end.saturating_sub(at) as u64);
            self.release_before(input.get(end..), turn, down);
        }
        end
    }
}
