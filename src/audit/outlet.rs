//! One output as a pen sees it: what it takes of the stream, how it wants it to look, what is not written yet.
//!
//! Every pen renders for every output by itself, because each may ask for other records in another shape. What an
//! output does not take leaves a hole in its sequence that is counted ([`OutletCounters::filtered`]); what a full one
//! had to drop leaves a `gap` record.

use super::{
    arguments::HashKey,
    counters::{Mark, OutletCounters},
    encode::MAX_LINE,
    filter::{Filter, Verdict, verdict},
    former::Former,
    json::{number, number_field, text_field},
    plain::PlainRecord,
    record::{CommandRecord, Name},
    sequence::Sequence,
    stamp::Stamp,
};
use crate::moment::Moment;
use std::{collections::VecDeque, sync::Arc};

/// Most outputs there may be: one bit each in a connection's facts.
pub const OUTLETS_MAX: usize = 16;
/// Most blocks whose end is remembered apart; further ones count as one with the last.
const BLOCKS_MAX: usize = 64;

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// Every line says everything.
    #[default]
    Full,
    /// What is the same in all records of a connection stands only in its `connection_open`, and what most commands
    /// have in common is left out.
    Compact,
}

/// What lines say of a command's arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arguments {
    /// Nothing but their number.
    None,
    /// The keys, hashed with [`Plan::hash_key`].
    Hashed,
    /// The keys.
    #[default]
    Keys,
    /// The keys, and the values of the words where [`super::arguments::Values`] keeps them.
    Values,
}

/// What becomes of a record that there is no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// There always is: commands wait until there is.
    #[default]
    Stall,
    /// It is dropped and counted, and a `gap` record says so.
    Drop,
}

/// The part of the allowed commands that an output takes, as so many of 2³².
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample(pub u32);

/// What an output asks of the pens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Its name, for `gap` records and counters.
    pub name: Box<str>,
    /// How lines look.
    pub shape: Shape,
    /// What they say of arguments.
    pub arguments: Arguments,
    /// What keys are hashed with, for [`Arguments::Hashed`].
    pub hash_key: Option<Arc<HashKey>>,
    /// Which of them; all without one.
    pub filter: Option<Filter>,
    /// How many of the commands that were not denied and had no `begin` line; all without one.
    pub sample: Option<Sample>,
    /// What happens when it is full.
    pub on_full: OnFull,
}

impl Plan {
    /// Whether records of a connection of this role from this address are wanted.
    #[must_use]
    pub fn takes_connection(&self, role: &str, src: std::net::IpAddr) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.takes_connection(role, src))
    }
}

/// The front of a line: everything up to the event's own fields.
#[derive(Clone, Copy)]
pub(super) struct Front<'a> {
    /// `{"v":1,"w":…,"seq":`
    pub(super) head: &'a [u8],
    /// The same with the number.
    pub(super) numbered: &'a [u8],
    pub(super) seq: u64,
    /// What `stamp` says.
    pub(super) wall_us: u64,
    /// `,"ts":"…","event":"`
    pub(super) stamp: &'a [u8; super::stamp::LENGTH],
    pub(super) event: &'static str,
}

impl<'a> Front<'a> {
    /// That of the record that `sequence` stands at.
    #[inline]
    pub(super) fn new(sequence: &'a mut Sequence, stamp: &'a mut Stamp, now: Moment, event: &'static str) -> Self {
        let seq = sequence.number();
        let (head, numbered) = sequence.texts();
        Self { head, numbered, seq, wall_us: now.wall_us, stamp: stamp.render(now.wall_us), event }
    }
}

/// What an output of this plan may have that is not written.
fn room(plan: &Plan, capacity: usize) -> u64 {
    // Where a gap is told, its line stands before the one that has room again.
    let least = if plan.on_full == OnFull::Drop { 4 * MAX_LINE } else { MAX_LINE };
    u64::try_from(capacity.max(least)).unwrap_or(u64::MAX)
}

/// One output at one pen.
#[derive(Debug)]
pub struct Outlet {
    plan: Plan,
    /// Its bit in a connection's facts.
    pub(super) bit: u32,
    /// Rendered and not yet taken: whole lines only.
    buffer: Vec<u8>,
    /// Where in `buffer` the newest plain line is.
    former: Former,
    /// An empty buffer that the next one taken is replaced by.
    spare: Vec<u8>,
    /// Bytes rendered since the start; `written <= rendered`.
    rendered: u64,
    written: u64,
    capacity: u64,
    /// Of each block taken and not written: where it ends, and the number of its last line.
    blocks: VecDeque<(u64, u64)>,
    /// All lines up to this number are written, or were not for this output.
    reached: u64,
    /// Lines dropped since the last one rendered: how many, and the numbers of the first and the last.
    lost: Option<(u64, u64, u64)>,
    chance: u64,
    counters: OutletCounters,
    /// Filtered and dropped records as of the last line.
    before_last: (u64, u64),
}

impl Outlet {
    pub(super) fn new(plan: Plan, index: usize, worker: u16, capacity: usize) -> Self {
        let bytes = room(&plan, capacity);
        Self {
            plan,
            bit: 1 << (index % OUTLETS_MAX),
            buffer: Vec::new(),
            former: Former::default(),
            spare: Vec::new(),
            rendered: 0,
            written: 0,
            capacity: bytes,
            blocks: VecDeque::new(),
            reached: 0,
            lost: None,
            chance: u64::from(worker) << 32 | 0x9e37_79b9,
            counters: OutletCounters::default(),
            before_last: (0, 0),
        }
    }

    /// Another wish of the same output.
    pub(super) fn refit(&mut self, plan: Plan, capacity: usize) {
        self.capacity = room(&plan, capacity);
        self.plan = plan;
        self.former.forget();
    }

    /// Whether one more record of the greatest length fits. An output that drops always has room.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.plan.on_full == OnFull::Drop || self.fits(MAX_LINE as u64)
    }

    fn fits(&self, bytes: u64) -> bool {
        self.backlog().saturating_add(bytes) <= self.capacity
    }

    /// Bytes rendered since the start.
    #[must_use]
    pub const fn rendered(&self) -> u64 {
        self.rendered
    }

    /// Bytes the sink has written, as last told.
    #[must_use]
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Bytes rendered and not yet written.
    #[must_use]
    pub const fn backlog(&self) -> u64 {
        self.rendered.saturating_sub(self.written)
    }

    /// The shell says how many bytes of this pen the sink has written since the start. Never goes back, and never
    /// beyond what was rendered.
    pub fn set_written(&mut self, written: u64) {
        self.written = self.written.max(written.min(self.rendered));
        while let Some((end, seq)) = self.blocks.front()
            && *end <= self.written
        {
            self.reached = *seq;
            self.blocks.pop_front();
        }
    }

    /// The number up to which every line that this output takes has been written; `last` is the last there is.
    pub(super) fn reached(&self, last: u64) -> u64 {
        if self.plan.on_full == OnFull::Drop || self.written == self.rendered { last } else { self.reached }
    }

    /// The rendered bytes not yet taken; the shell hands them to the sink.
    pub fn take(&mut self) -> Vec<u8> {
        if !self.buffer.is_empty() {
            let end = (self.rendered, self.counters.last_seq);
            if self.blocks.len() >= BLOCKS_MAX {
                self.blocks.pop_back();
            }
            self.blocks.push_back(end);
        }
        self.former.forget();
        std::mem::replace(&mut self.buffer, std::mem::take(&mut self.spare))
    }

    /// Whether there is something to take.
    #[must_use]
    pub const fn has_rendered(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Gives a buffer back that was taken and has been written, so that its memory is used again.
    pub fn recycle(&mut self, mut spent: Vec<u8>) {
        if spent.capacity() > self.spare.capacity() {
            spent.clear();
            self.spare = spent;
        }
    }

    /// What it has taken and what not.
    #[must_use]
    pub const fn counters(&self) -> OutletCounters {
        self.counters
    }

    /// Where the pen stands here, as of the last line.
    #[must_use]
    pub const fn mark(&self) -> Mark {
        let OutletCounters { lines, last_seq, .. } = self.counters;
        Mark { last_seq, lines, filtered: self.before_last.0, dropped: self.before_last.1 }
    }

    /// What it asks of the pens.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether the record of a command is wanted; a `notable` one is in every sample.
    pub(super) fn takes_command(&mut self, record: &CommandRecord<'_>, notable: bool) -> bool {
        self.plan.filter.as_ref().is_none_or(|filter| filter.takes_command(record))
            && (self.plan.sample.is_none() || notable || self.is_drawn(record))
    }

    /// Whether the record of a plain command is wanted. No such command has a `begin` line.
    #[inline]
    pub(super) fn takes_plain(&mut self, record: &PlainRecord<'_>) -> bool {
        self.plan.filter.as_ref().is_none_or(|filter| filter.takes_allowed(record.id, record.us))
            && (self.plan.sample.is_none() || self.is_drawn(&record.whole()))
    }

    pub(super) fn takes_begin(&self, record: &CommandRecord<'_>) -> bool {
        self.plan.filter.as_ref().is_none_or(|filter| filter.takes_begin(record))
    }

    /// Whether a sample takes this record. What was denied is in every sample, and so is what a `begin` line announces.
    fn is_drawn(&mut self, record: &CommandRecord<'_>) -> bool {
        let Some(Sample(most)) = self.plan.sample else { return true };
        if verdict(record) == Verdict::Deny || matches!(record.name, Name::Known(id) if id.entry().begin) {
            return true;
        }
        // Marsaglia's xorshift64: nothing depends on it but which records are seen.
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        (self.chance >> 32) < u64::from(most)
    }

    /// Renders a line that is wanted, or drops it where there is no room and that is what the output asks for.
    pub(super) fn write(&mut self, front: &Front<'_>, body: impl FnOnce(&mut Vec<u8>, &Plan)) {
        if self.plan.on_full == OnFull::Drop && !self.admits(front) {
            return;
        }
        let start = self.begin();
        let out = &mut self.buffer;
        out.extend_from_slice(front.numbered);
        out.extend_from_slice(front.stamp);
        out.extend_from_slice(front.event.as_bytes());
        out.push(b'"');
        body(out, &self.plan);
        self.end(start, front.seq);
    }

    /// A line that is not wanted.
    pub(super) const fn pass_over(&mut self) {
        self.counters.filtered = self.counters.filtered.saturating_add(1);
    }

    /// Where the next line begins.
    pub(super) const fn begin(&self) -> usize {
        self.buffer.len()
    }

    /// Where a line is rendered between [`Self::begin`] and [`Self::ended`], and where the plain ones before it are.
    pub(super) const fn buffer(&mut self) -> (&mut Vec<u8>, &mut Former) {
        (&mut self.buffer, &mut self.former)
    }

    fn end(&mut self, start: usize, seq: u64) {
        self.buffer.extend_from_slice(b"}\n");
        self.ended(start, seq);
    }

    /// The line that begins at `start` is there, to its end.
    pub(super) fn ended(&mut self, start: usize, seq: u64) {
        let length = self.buffer.len().saturating_sub(start);
        debug_assert!(length < MAX_LINE, "a line of {length} bytes");
        self.rendered = self.rendered.saturating_add(length as u64);
        self.counters.lines = self.counters.lines.saturating_add(1);
        self.counters.last_seq = seq;
        self.before_last = (self.counters.filtered, self.counters.dropped);
    }

    /// Whether an output that drops has room; says what was dropped once it has room again.
    fn admits(&mut self, front: &Front<'_>) -> bool {
        let room = match self.lost {
            // Half of it, once it was full: one gap, not one for every line that fits.
            Some(_) => self.backlog() <= self.capacity / 2,
            None => self.fits(MAX_LINE as u64),
        };
        match (room, self.lost) {
            (true, None) => {}
            (true, Some((count, first, last))) => {
                self.lost = None;
                self.tell_gap(front, count, first, last);
            }
            (false, lost) => {
                let (count, first, _) = lost.unwrap_or((0, front.seq, front.seq));
                self.lost = Some((count.saturating_add(1), first, front.seq));
                self.counters.dropped = self.counters.dropped.saturating_add(1);
            }
        }
        room
    }

    /// The line that stands for those that were dropped; it has the number of the last of them.
    fn tell_gap(&mut self, front: &Front<'_>, count: u64, first: u64, last: u64) {
        let start = self.buffer.len();
        let out = &mut self.buffer;
        out.extend_from_slice(front.head);
        number(out, last);
        out.extend_from_slice(front.stamp);
        out.extend_from_slice(b"gap\"");
        text_field(out, "output", &self.plan.name, super::encode::LABEL_MAX);
        number_field(out, "dropped", count);
        number_field(out, "first_seq", first);
        self.end(start, last);
    }
}
