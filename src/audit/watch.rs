//! What is worth a second look: slow and large commands, first sights, bursts of denials, bulk reads.
//!
//! Every pen watches by itself what it writes down; nothing is shared, so a first sight or a burst is one of this worker
//! (`w`). What can be seen of one command is a word in its record's `notable`; what only many commands show together is
//! a `notice` of its own behind the last of them. Both are counted ([`super::counters::Counters::notices`]).
//!
//! | what | seen when |
//! |---|---|
//! | `slow` | Redis took at least so long to answer a command that does not wait for something by its nature |
//! | `large_request` | a command had at least so many bytes |
//! | `large_reply` | its reply had |
//! | `first_seen` | an identity says a command that it has not said since the start |
//! | `denial_burst` | so many commands of an identity were denied within a time; once, until so long has passed without a denial |
//! | `bulk_read` | a connection was sent so many bytes within a time; once in that time |
//!
//! Bounds: [`IDENTITIES_MAX`] identities are told apart; further ones are not watched for first sights and bursts, and
//! [`super::counters::Counters::unwatched`] says so. Tests: below.

use super::{
    encode::ConnectionFacts,
    record::{CommandRecord, Name},
};
use crate::{
    command::{CommandId, Effect, catalog},
    moment::Moment,
};
use std::collections::HashMap;

/// Most identities that one pen tells apart.
pub const IDENTITIES_MAX: usize = 4096;

/// What is watched for; nothing that is not said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watches {
    /// Microseconds.
    pub slow_us: Option<u64>,
    /// Bytes of a command.
    pub large_request: Option<u64>,
    /// Bytes of a reply.
    pub large_reply: Option<u64>,
    /// Whether first sights are told.
    pub first_seen: bool,
    /// So many denials of one identity.
    pub denial_burst: Option<Within>,
    /// So many bytes to one connection.
    pub bulk_read: Option<Within>,
}

/// An amount within a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within {
    /// At least so much.
    pub amount: u64,
    /// In so many microseconds.
    pub us: u64,
}

/// What is notable of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It took long.
    Slow,
    /// It was large.
    LargeRequest,
    /// Its reply was.
    LargeReply,
    /// Its identity had not said it before.
    FirstSeen,
    /// Many were denied.
    DenialBurst,
    /// Much was read.
    BulkRead,
}

impl Notice {
    /// All of them, in the order of [`Notice::index`].
    pub const ALL: [Self; 6] =
        [Self::Slow, Self::LargeRequest, Self::LargeReply, Self::FirstSeen, Self::DenialBurst, Self::BulkRead];

    /// Position in [`Notice::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The stable word in records and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::LargeRequest => "large_request",
            Self::LargeReply => "large_reply",
            Self::FirstSeen => "first_seen",
            Self::DenialBurst => "denial_burst",
            Self::BulkRead => "bulk_read",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notices(u8);

impl Notices {
    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those there are.
    pub fn iter(self) -> impl Iterator<Item = Notice> {
        Notice::ALL.into_iter().filter(move |notice| self.0 & notice.bit() != 0)
    }

    const fn add(&mut self, notice: Notice) {
        self.0 |= notice.bit();
    }
}

/// A burst of denials or a bulk read, to be told in a line of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// Which.
    pub notice: Notice,
    /// How many, or how many bytes.
    pub amount: u64,
    /// In how many microseconds.
    pub us: u64,
}

/// An amount as it gathers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gathered {
    since_us: u64,
    last_us: u64,
    amount: u64,
    told: bool,
}

impl Gathered {
    /// More has come. The burst, the first time it is one.
    fn add(&mut self, more: u64, limit: Within, now_us: u64, quiet: bool) -> Option<Burst> {
        // Denials: a told burst is over after a quiet time. Reads: after its own time.
        let over = if quiet && self.told { self.last_us } else { self.since_us };
        if now_us.saturating_sub(over) > limit.us {
            *self = Self { since_us: now_us, ..Self::default() };
        }
        self.last_us = now_us;
        self.amount = self.amount.saturating_add(more);
        if self.told || self.amount < limit.amount {
            return None;
        }
        self.told = true;
        let us = now_us.saturating_sub(self.since_us);
        let notice = if quiet { Notice::DenialBurst } else { Notice::BulkRead };
        Some(Burst { notice, amount: self.amount, us })
    }
}

/// What a connection is remembered by, beside its facts.
#[derive(Clone, Debug, Default)]
pub(super) struct Traces {
    /// A bit for each row of the catalog that was seen here; empty until the first.
    seen: Box<[u64]>,
    read: Gathered,
}

/// One identity at one pen.
#[derive(Debug)]
struct Known {
    seen: Box<[u64]>,
    denied: Gathered,
}

/// The watch of one pen.
#[derive(Debug, Default)]
pub(super) struct Watch {
    watches: Watches,
    /// Whether that is anything.
    watching: bool,
    /// By identity, as it stands in a line.
    known: HashMap<Box<[u8]>, Known>,
    /// Commands of identities that there was no room for.
    pub(super) unwatched: u64,
}

impl Watch {
    pub(super) fn new(watches: Watches) -> Self {
        Self { watches, watching: watches != Watches::default(), ..Self::default() }
    }

    /// Whether it watches for anything.
    #[inline]
    pub(super) fn is_watching(&self) -> bool {
        self.watching
    }

    /// Watches for these from now on, and remembers what it knows.
    pub(super) fn watches(&mut self, watches: Watches) {
        self.watches = watches;
        self.watching = watches != Watches::default();
    }

    /// Looks at the record of a command.
    pub(super) fn look(
        &mut self,
        now: Moment,
        facts: &ConnectionFacts,
        record: &CommandRecord<'_>,
    ) -> (Notices, Option<Burst>) {
        let mut notices = Notices::default();
        let Watches { slow_us, large_request, large_reply, first_seen, denial_burst, bulk_read } = self.watches;
        if let (Some(least), Some(us)) = (slow_us, record.us)
            && us >= least
            && record.class.is_some()
            && !waits(record.name)
        {
            notices.add(Notice::Slow);
        }
        if large_request.is_some_and(|least| record.bytes_in >= least) {
            notices.add(Notice::LargeRequest);
        }
        if large_reply.is_some_and(|least| record.bytes_out >= least) {
            notices.add(Notice::LargeReply);
        }
        if first_seen
            && let Name::Known(id) = record.name
            && self.is_first(facts, id)
        {
            notices.add(Notice::FirstSeen);
        }
        let mut burst = None;
        if let Some(limit) = denial_burst
            && record.rule.is_some()
            && let Some(known) = self.known(facts)
        {
            burst = known.denied.add(1, limit, now.mono_us, true);
        }
        if let Some(limit) = bulk_read
            && record.bytes_out > 0
        {
            let found = facts.traces().borrow_mut().read.add(record.bytes_out, limit, now.mono_us, false);
            burst = burst.or(found);
        }
        (notices, burst)
    }

    /// Whether the identity has not said this before. The connection remembers what it has said, so that nothing is
    /// looked up for the commands it says again and again.
    fn is_first(&mut self, facts: &ConnectionFacts, id: CommandId) -> bool {
        let new_here = {
            let mut traces = facts.traces().borrow_mut();
            if traces.seen.is_empty() {
                traces.seen = no_rows();
            }
            mark(&mut traces.seen, id)
        };
        new_here && self.known(facts).is_some_and(|known| mark(&mut known.seen, id))
    }

    fn known(&mut self, facts: &ConnectionFacts) -> Option<&mut Known> {
        let identity = facts.identity();
        if !self.known.contains_key(identity) {
            if self.known.len() >= IDENTITIES_MAX {
                self.unwatched = self.unwatched.saturating_add(1);
                return None;
            }
            self.known.insert(identity.into(), Known { seen: no_rows(), denied: Gathered::default() });
        }
        self.known.get_mut(identity)
    }
}

/// Whether a command may take long because that is what it is for.
fn waits(name: Name<'_>) -> bool {
    let Name::Known(id) = name else { return false };
    matches!(
        id.entry().effect,
        Effect::Blocking | Effect::BlockingOption | Effect::Subscribe(_) | Effect::Monitor | Effect::Replication
    )
}

fn no_rows() -> Box<[u64]> {
    vec![0; catalog::len().div_ceil(64)].into()
}

/// Sets the row's bit; whether it was not set.
fn mark(rows: &mut [u64], id: CommandId) -> bool {
    let Some(word) = rows.get_mut(id.index() / 64) else { return false };
    let bit = 1 << (id.index() % 64);
    let new = *word & bit == 0;
    *word |= bit;
    new
}
