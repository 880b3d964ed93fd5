//! Promised replies, first in, first out.

use super::local::Local;
use crate::{
    audit::{
        arguments::{ArgumentList, WORDS_MAX},
        record::{KeyList, ScriptMark},
    },
    command::CommandId,
    policy::RuleId,
};
use std::collections::VecDeque;

/// Most bytes of one key that a record shows.
const KEY_BYTES_MAX: usize = 256;
/// Most keys of one command that a record shows.
const KEYS_MAX: usize = 32;
/// Most bytes of each word of an unknown command's name that a record shows.
const NAME_BYTES_MAX: usize = 64;
/// Most bytes of words of a plain slot: one key and its length.
pub(super) const PLAIN_WORDS_MAX: usize = 2 + KEY_BYTES_MAX;
/// Slots and word bytes a session at rest may keep allocated.
const REST_CAPACITY: usize = 16;

/// One accepted or denied command whose reply has not been given yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// When it was accepted (monotonic microseconds).
    pub(super) accepted_us: u64,
    /// Words, the name among them.
    pub(super) argc: u32,
    /// Bytes of the command; saturates at 4 GiB.
    pub(super) bytes_in: u32,
    /// How many bytes of [`Queue::words`] are this slot's.
    words: u32,
    /// Keys the command has; saturates.
    keys_total: u16,
    /// Row of the catalog, or [`UNKNOWN`].
    command: u16,
    /// The rule that denied it, or with [`SHADOW`] would have, or [`NO_RULE`].
    pub(super) rule: u16,
    /// What closes it.
    pub(super) kind: Kind,
    /// See the constants of [`Marks`].
    pub(super) marks: Marks,
}

/// "A slot is at most 32 bytes plus the words its record needs" (the design's budget for unanswered commands).
const _: () = assert!(size_of::<Slot>() <= 32);

/// In the number of a slot's keys: behind them stands a script's mark. No record shows as many keys.
const HAS_SCRIPT: u16 = 1 << 15;
/// Likewise: behind that stand the words that its record shows.
const HAS_ARGUMENTS: u16 = 1 << 14;
/// Most keys that are counted.
const KEYS_COUNTED: u16 = HAS_ARGUMENTS - 1;
const UNKNOWN: u16 = u16::MAX;
/// No rule: the command was allowed by all.
pub(super) const NO_RULE: u16 = u16::MAX;
/// Marks a rule in shadow mode: the command was let through. No rule has a number as high ([`RuleId::MAX`]).
pub(super) const SHADOW: u16 = 1 << 15;

/// What closes a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Redis' reply to the command itself.
    Upstream,
    /// Redis' reply to the DISCARD that went up in the place of an EXEC.
    AsDiscard(Local),
    /// The proxy's own reply.
    Local(Local),
}

/// What else is known of a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks(u8);

impl Marks {
    /// CLIENT REPLY OFF or SKIP: the client is not sent the reply.
    pub(super) const SILENT: u8 = 1;
    /// It stood between MULTI and EXEC when it was accepted.
    pub(super) const IN_MULTI: u8 = 2;
    /// Its keys could not be told.
    pub(super) const KEYS_UNKNOWN: u8 = 4;
    /// The MULTI that opened a transaction.
    pub(super) const OPENS: u8 = 8;
    /// It may wait for long in Redis.
    pub(super) const BLOCKING: u8 = 16;
    /// Its bytes have not, or not all, gone up: it waits for its `begin` line, or is being streamed.
    pub(super) const UNFINISHED: u8 = 32;
    /// Its `begin` line was written.
    pub(super) const BEGUN: u8 = 64;
    /// Every known server refuses it; it went up for the words this one does so with. Success closes both sides.
    pub(super) const REFUSED: u8 = 128;

    pub(super) const fn has(self, mark: u8) -> bool {
        self.0 & mark != 0
    }

    pub(super) const fn set(&mut self, mark: u8, on: bool) {
        if on {
            self.0 |= mark;
        } else {
            self.0 &= !mark;
        }
    }
}

impl Slot {
    /// A slot for a command that was accepted at `accepted_us`.
    pub(super) fn new(accepted_us: u64, argc: usize, bytes_in: u64, kind: Kind) -> Self {
        Self {
            accepted_us,
            argc: u32::try_from(argc).unwrap_or(u32::MAX),
            bytes_in: u32::try_from(bytes_in).unwrap_or(u32::MAX),
            words: 0,
            keys_total: 0,
            command: UNKNOWN,
            rule: NO_RULE,
            kind,
            marks: Marks::default(),
        }
    }

    /// A slot for a whole command of this row that needs no marks.
    #[inline]
    pub(super) fn plain(accepted_us: u64, argc: usize, bytes_in: usize, id: CommandId) -> Self {
        let mut slot = Self::new(accepted_us, argc, bytes_in as u64, Kind::Upstream);
        slot.set_command(id);
        slot
    }

    /// The command, if Redis' whole reply is all that closes it, and its record the only thing that comes of that.
    #[inline]
    pub(super) fn plainly(&self) -> Option<CommandId> {
        let plain = self.kind == Kind::Upstream && self.marks == Marks::default() && self.rule == NO_RULE;
        self.command().filter(|id| plain && id.entry().simple.is_some())
    }

    /// The row of the catalog, if it has one.
    pub(super) const fn command(&self) -> Option<CommandId> {
        if self.command == UNKNOWN { None } else { Some(CommandId(self.command)) }
    }

    /// The rule that denied it.
    pub(super) fn denied_by(&self) -> Option<RuleId> {
        (self.rule & SHADOW == 0).then_some(RuleId(self.rule))
    }

    /// The rule in shadow mode that would have denied it.
    pub(super) fn shadowed_by(&self) -> Option<RuleId> {
        (self.rule != NO_RULE && self.rule & SHADOW != 0).then_some(RuleId(self.rule & !SHADOW))
    }

    /// More of a streamed command has gone up.
    pub(super) fn add_bytes(&mut self, bytes: usize) {
        self.bytes_in = self.bytes_in.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    pub(super) const fn set_command(&mut self, id: CommandId) {
        self.command = id.0;
    }
}

/// The open slots of a session, oldest first, and beside them, in the same order, the words their records need.
#[derive(Debug, Default)]
pub(super) struct Queue {
    slots: VecDeque<Slot>,
    /// The front slot's words begin at `head`; bytes before it belong to slots that are gone.
    /// `head <= words.len()`.
    words: Vec<u8>,
    head: usize,
    /// Slots that are marked [`Marks::BLOCKING`]: asked for in every turn, and there may be a million slots.
    blocking: usize,
    /// Slots that have gone since the beginning, and how many there had been when the newest of [`Kind::Local`] was added.
    gone: u64,
    newest_local: u64,
    /// The row of the slot that was added last, as slots have it.
    last: Option<u16>,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes of memory the open slots take.
    pub(super) fn bytes(&self) -> usize {
        self.slots.len().saturating_mul(size_of::<Slot>()).saturating_add(self.words.len())
    }

    pub(super) fn front(&self) -> Option<&Slot> {
        self.slots.front()
    }

    pub(super) fn back_mut(&mut self) -> Option<&mut Slot> {
        self.slots.back_mut()
    }

    pub(super) fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Slot> {
        self.slots.iter_mut()
    }

    fn add(&mut self, slot: Slot) {
        self.add_blocking(usize::from(slot.marks.has(Marks::BLOCKING)));
        if matches!(slot.kind, Kind::Local(_)) {
            self.newest_local = self.gone.saturating_add(self.slots.len() as u64).saturating_add(1);
        }
        self.last = Some(slot.command);
        self.slots.push_back(slot);
    }

    /// The command of the slot that was added last, whether it is gone or not; none of the catalog's where it has no row.
    pub(super) fn last(&self) -> Option<Option<CommandId>> {
        self.last.map(|row| (row != UNKNOWN).then_some(CommandId(row)))
    }

    /// Whether any slot's command may wait for long in Redis.
    pub(super) const fn any_blocking(&self) -> bool {
        self.blocking > 0
    }

    /// So many slots more were marked [`Marks::BLOCKING`], through [`Self::iter_mut`].
    pub(super) const fn add_blocking(&mut self, more: usize) {
        self.blocking = self.blocking.saturating_add(more);
    }

    /// Whether the slot at `index`, the front one being 0, or any behind it is the proxy's own.
    pub(super) const fn any_local_from(&self, index: usize) -> bool {
        self.newest_local > self.gone.saturating_add(index as u64)
    }

    /// Adds a slot whose record needs no words.
    pub(super) fn push(&mut self, slot: Slot) {
        self.add(slot);
    }

    /// Adds a [`Slot::plain`] with its only key, if it has one.
    #[inline]
    pub(super) fn push_plain(&mut self, mut slot: Slot, key: Option<&[u8]>) {
        if let Some(key) = key {
            let before = self.words.len();
            KeyList::push(&mut self.words, key, KEY_BYTES_MAX);
            slot.words = u32::try_from(self.words.len().saturating_sub(before)).unwrap_or(u32::MAX);
            slot.keys_total = 1;
        }
        self.last = Some(slot.command);
        self.slots.push_back(slot);
    }

    /// Adds a slot with the keys its record shows: the first [`KEYS_MAX`], each at most [`KEY_BYTES_MAX`] bytes.
    pub(super) fn push_with_keys<'k>(&mut self, mut slot: Slot, keys: impl Iterator<Item = &'k [u8]>, total: usize) {
        let before = self.words.len();
        for key in keys.take(KEYS_MAX) {
            KeyList::push(&mut self.words, key, KEY_BYTES_MAX);
        }
        slot.words = u32::try_from(self.words.len().saturating_sub(before)).unwrap_or(u32::MAX);
        slot.keys_total = u16::try_from(total).unwrap_or(u16::MAX).min(KEYS_COUNTED);
        self.add(slot);
    }

    /// Puts a script's mark behind the words of the newest slot, for [`keys_of`].
    pub(super) fn mark_script(&mut self, digest: &[u8; 20], bytes: Option<u32>) {
        if let Some(slot) = self.slots.back_mut() {
            self.words.extend_from_slice(digest);
            self.words.extend_from_slice(&bytes.map_or(u32::MAX, |bytes| bytes.min(u32::MAX - 1)).to_le_bytes());
            slot.words = slot.words.saturating_add(SCRIPT_MARK);
            slot.keys_total |= HAS_SCRIPT;
        }
    }

    /// Puts the words that a record shows behind the others of the newest slot, for [`keys_of`]: the first
    /// [`WORDS_MAX`], each at most `max` bytes; `None` for a secret.
    pub(super) fn mark_arguments<'w>(&mut self, words: impl Iterator<Item = Option<&'w [u8]>>, max: u16) {
        let Some(slot) = self.slots.back_mut() else { return };
        let before = self.words.len();
        for word in words.take(WORDS_MAX) {
            ArgumentList::push(&mut self.words, word, max);
        }
        let length = u32::try_from(self.words.len().saturating_sub(before)).unwrap_or(u32::MAX);
        self.words.extend_from_slice(&length.to_le_bytes());
        slot.words = slot.words.saturating_add(length).saturating_add(4);
        slot.keys_total |= HAS_ARGUMENTS;
    }

    /// Adds a slot that must remember a number (SELECT's database; that an EXEC runs a SELECT).
    pub(super) fn push_with_number(&mut self, mut slot: Slot, number: u32) {
        self.words.extend_from_slice(&number.to_le_bytes());
        slot.words = 4;
        self.add(slot);
    }

    /// Adds a slot with the bytes of its reply.
    pub(super) fn push_with_reply(&mut self, mut slot: Slot, reply: &[u8]) {
        self.words.extend_from_slice(reply);
        slot.words = u32::try_from(reply.len()).unwrap_or(u32::MAX);
        self.add(slot);
    }

    /// Adds a slot for a command that is not in the catalog; its record shows the (cut) words of its name.
    pub(super) fn push_with_name(&mut self, mut slot: Slot, name: &[u8], sub: Option<&[u8]>) {
        let before = self.words.len();
        for word in [Some(name), sub].into_iter().flatten() {
            let shown = word.get(..NAME_BYTES_MAX).unwrap_or(word);
            self.words.push(u8::try_from(shown.len()).unwrap_or(0));
            self.words.extend_from_slice(shown);
        }
        slot.words = u32::try_from(self.words.len().saturating_sub(before)).unwrap_or(u32::MAX);
        self.add(slot);
    }

    /// The words of the front slot.
    pub(super) fn front_words(&self) -> &[u8] {
        self.slots.front().map_or(&[], |slot| self.front_words_of(slot))
    }

    /// The same; `slot` is the front one.
    #[inline]
    pub(super) fn front_words_of(&self, slot: &Slot) -> &[u8] {
        self.words.get(self.head..self.head.saturating_add(slot.words as usize)).unwrap_or_default()
    }

    /// The words of the newest slot.
    pub(super) fn back_words(&self) -> &[u8] {
        let length = self.slots.back().map_or(0, |slot| slot.words as usize);
        self.words.get(self.words.len().saturating_sub(length)..).unwrap_or_default()
    }

    /// Whether the front slot is the proxy's own.
    #[inline]
    pub(super) fn begins_locally(&self) -> bool {
        matches!(self.slots.front(), Some(Slot { kind: Kind::Local(_), .. }))
    }

    /// Removes the front slot and its words.
    #[inline]
    pub(super) fn pop(&mut self) {
        let Some(slot) = self.slots.pop_front() else { return };
        self.gone = self.gone.saturating_add(1);
        self.blocking = self.blocking.saturating_sub(usize::from(slot.marks.has(Marks::BLOCKING)));
        self.head = self.head.saturating_add(slot.words as usize);
        if self.slots.is_empty() {
            self.words.clear();
            self.head = 0;
        } else if self.head > 4096 && self.head.saturating_mul(2) > self.words.len() {
            // Every byte is moved at most once per time the buffer doubles.
            self.words.drain(..self.head);
            self.head = 0;
        }
    }

    /// Gives memory back while nothing is open.
    pub(super) fn shrink(&mut self) {
        if self.slots.is_empty() {
            if self.slots.capacity() > REST_CAPACITY {
                self.slots = VecDeque::new();
            }
            if self.words.capacity() > REST_CAPACITY * 32 {
                self.words = Vec::new();
            }
        }
    }
}

/// Bytes of a script's mark: its digest and its length.
const SCRIPT_MARK: u32 = 24;

/// The script's mark at the end of a slot's words, and the words before it.
fn script_of(words: &[u8]) -> Option<(&[u8], ScriptMark<'_>)> {
    let (rest, bytes) = words.split_last_chunk::<4>()?;
    let (rest, digest) = rest.split_last_chunk::<20>()?;
    let bytes = Some(u32::from_le_bytes(*bytes)).filter(|bytes| *bytes < u32::MAX);
    Some((rest, ScriptMark { digest, bytes }))
}

/// The number among the words of a slot that remembers one.
pub(super) fn number_of(words: &[u8]) -> Option<u32> {
    words.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes))
}

/// The keys among a slot's words, and the script it names.
#[inline]
pub(super) fn keys_of<'w>(slot: &Slot, words: &'w [u8]) -> KeyList<'w> {
    if slot.keys_total & !KEYS_COUNTED == 0 {
        return keys_alone(slot, words);
    }
    let said = if slot.keys_total & HAS_ARGUMENTS == 0 { None } else { arguments_of(words) };
    let (words, said) = said.map_or((words, None), |(words, said)| (words, Some(said)));
    let names = slot.command().map_or(1, |id| if id.entry().sub.is_some() { 2 } else { 1 });
    let arguments = said.map(|bytes| ArgumentList { bytes, total: slot.argc.saturating_sub(names) });
    let marked = if slot.keys_total & HAS_SCRIPT == 0 { None } else { script_of(words) };
    let (words, script) = marked.map_or((words, None), |(words, script)| (words, Some(script)));
    KeyList { script, arguments, ..keys_alone(slot, words) }
}

/// The keys, which are all there is among `words`.
#[inline]
fn keys_alone<'w>(slot: &Slot, words: &'w [u8]) -> KeyList<'w> {
    let total = slot.keys_total & KEYS_COUNTED;
    KeyList {
        bytes: if total > 0 { words } else { &[] },
        total: u32::from(total),
        undeterminable: slot.marks.has(Marks::KEYS_UNKNOWN),
        script: None,
        arguments: None,
    }
}

/// The words that a record shows at the end of a slot's, and those before them.
fn arguments_of(words: &[u8]) -> Option<(&[u8], &[u8])> {
    let (rest, length) = words.split_last_chunk::<4>()?;
    rest.split_at_checked(rest.len().checked_sub(u32::from_le_bytes(*length) as usize)?)
}

/// The name among the words of a slot whose command is not in the catalog.
pub(super) fn name_of(words: &[u8]) -> (&[u8], Option<&[u8]>) {
    fn one(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
        let (length, rest) = bytes.split_first()?;
        rest.split_at_checked(usize::from(*length))
    }
    let Some((name, rest)) = one(words) else { return (&[], None) };
    (name, one(rest).map(|(sub, _)| sub))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> Slot {
        Slot::new(0, 1, 10, Kind::Upstream)
    }

    #[test]
    fn words_stay_with_their_slots() {
        let mut queue = Queue::default();
        for round in 0..2000_u32 {
            let key = round.to_string().into_bytes();
            let mut one = slot();
            one.set_command(CommandId(1));
            queue.push_with_keys(one, [&key[..]].into_iter(), 1);
            queue.push(slot());
            if round % 3 == 0 {
                queue.push_with_name(slot(), b"FOO", Some(b"BAR"));
            }
        }
        for round in 0..2000_u32 {
            let front = *queue.front().unwrap();
            let key = round.to_string();
            assert_eq!(&keys_of(&front, queue.front_words()).bytes[2..], key.as_bytes());
            queue.pop();
            assert_eq!(queue.front_words(), b"");
            queue.pop();
            if round % 3 == 0 {
                assert_eq!(name_of(queue.front_words()), (&b"FOO"[..], Some(&b"BAR"[..])));
                queue.pop();
            }
        }
        assert!(queue.is_empty());
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn it_is_known_whether_any_slot_waits() {
        let mut queue = Queue::default();
        let mut waits = slot();
        waits.marks.set(Marks::BLOCKING, true);
        queue.push(slot());
        assert!(!queue.any_blocking());
        queue.push_with_number(waits, 1);
        queue.push_with_keys(waits, [&b"k"[..]].into_iter(), 1);
        queue.push(slot());
        for left in [true, true, false] {
            assert!(queue.any_blocking());
            queue.pop();
            assert_eq!(queue.any_blocking(), left);
        }
        queue.iter_mut().for_each(|slot| slot.marks.set(Marks::BLOCKING, true));
        queue.add_blocking(1);
        assert!(queue.any_blocking());
        queue.pop();
        assert!(!queue.any_blocking());
    }

    #[test]
    fn it_is_known_whether_any_slot_from_one_on_is_our_own() {
        let mut queue = Queue::default();
        let ours = Slot::new(0, 1, 10, Kind::Local(Local::Arity));
        assert!(!queue.any_local_from(0));
        for slot in [slot(), ours, slot(), ours, slot()] {
            queue.push(slot);
        }
        // The fourth is the newest of them.
        for gone in 0..4 {
            assert!(queue.any_local_from(0) && queue.any_local_from(3 - gone), "{gone} are gone");
            assert!(!queue.any_local_from(4 - gone), "{gone} are gone");
            queue.pop();
        }
        assert!(!queue.any_local_from(0));
    }

    #[test]
    fn long_keys_and_names_are_cut_and_say_so() {
        let mut queue = Queue::default();
        let long = vec![b'k'; 1000];
        let mut one = slot();
        one.set_command(CommandId(1));
        queue.push_with_keys(one, std::iter::repeat_n(&long[..], 100), 100);
        let keys = keys_of(queue.front().unwrap(), queue.front_words());
        assert_eq!(keys.total, 100);
        assert_eq!(keys.bytes.len(), KEYS_MAX * (2 + KEY_BYTES_MAX));
        assert_eq!(u16::from_le_bytes([keys.bytes[0], keys.bytes[1]]), 256 | 0x8000);
        queue.push_with_name(slot(), &long, None);
        queue.pop();
        assert_eq!(name_of(queue.front_words()), (&long[..64], None));
    }
}
