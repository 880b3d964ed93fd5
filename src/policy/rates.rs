//! How much a role may say in a time: commands and bytes per second, of all commands or of some.
//!
//! Each limit is a bucket that fills at its rate up to its burst, kept as one number: the instant at which it would be full
//! again (the generic cell rate algorithm of ITU-T I.371, annex A). Taking from it moves that instant; there is room while it
//! is less than the burst away. So a bucket needs no clock of its own, is exact at any rate, and is taken from by all workers
//! at once without a lock.
//!
//! * A command costs 1, or its bytes; its reply's bytes are charged when they are known, and may leave the bucket in debt:
//!   nobody can say before Redis answers how much that is.
//! * What costs more than the whole burst is let through once the bucket is full.
//! * A limit that **delays** keeps the command at the front of the input, and its client is not read until there is room. The
//!   room is set aside for it, up to [`HORIZON_US`] ahead; who would have to wait for longer asks again then, so that what
//!   clients that have given up set aside never adds up.
//! * A limit that **refuses** is asked before anything is taken; what it refuses costs nothing.
//! * MULTI, EXEC and DISCARD are never refused but delayed ([`Ask::refusable`]): a MULTI that is refused while what follows it
//!   is not would run a transaction one by one.
//!
//! A reload that leaves a limit as it was leaves its bucket as well ([`Rates::adopt`]).

use super::{
    RuleId,
    rules::{self, RuleFault},
};
use crate::command::{CommandId, catalog};
use std::{
    fmt,
    num::NonZeroU64,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// Most limits of one role.
pub const LIMITS_MAX: usize = 16;
/// How far ahead room is set aside, in microseconds.
pub const HORIZON_US: u64 = 1_000_000;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Commands, those that are denied among them.
    Commands,
    /// Bytes of commands and of their replies, as they are on the wire without TLS.
    Bytes,
}

/// What becomes of a command there is no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Its client is not read until there is.
    Delay,
    /// It is answered with an error.
    Refuse,
}

/// Who shares a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// All connections of the role to the service.
    Role,
    /// Nobody: each connection has its own.
    Connection,
}

/// One limit, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What it counts.
    pub measure: Measure,
    /// How many a second.
    pub per_second: NonZeroU64,
    /// How long a silence fills the bucket, in microseconds.
    pub burst_us: u64,
    /// The commands it is about, as entries of a denylist; empty: all, those that are in no catalog among them.
    pub of: Vec<String>,
    /// What becomes of a command there is no room for.
    pub over: Over,
    /// Who shares it.
    pub per: Per,
}

impl Limit {
    /// The rule that records and metrics name: `rate:commands`, `rate:bytes:@write,SET`.
    #[must_use]
    pub fn rule(&self) -> String {
        let measure = match self.measure {
            Measure::Commands => "commands",
            Measure::Bytes => "bytes",
        };
        let of = if self.of.is_empty() { String::new() } else { format!(":{}", self.of.join(",")) };
        format!("rate:{measure}{of}")
    }

    /// What a command of so many bytes costs, in nanoseconds of filling; rounded up.
    fn cost_ns(&self, bytes: u64) -> u64 {
        let amount = match self.measure {
            Measure::Commands => 1,
            Measure::Bytes => bytes,
        };
        let ns =
            u128::from(amount).saturating_mul(u128::from(NS_PER_SECOND)).div_ceil(u128::from(self.per_second.get()));
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let measure = match self.measure {
            Measure::Commands => "commands",
            Measure::Bytes => "bytes",
        };
        let burst_ms = self.burst_us / 1000;
        write!(f, "{} {measure} a second, bursts of {burst_ms} ms", self.per_second)?;
        if !self.of.is_empty() {
            write!(f, ", of {}", self.of.join(", "))?;
        }
        f.write_str(match self.per {
            Per::Role => ", the whole role together",
            Per::Connection => ", each connection",
        })?;
        f.write_str(match self.over {
            Over::Delay => "; delayed beyond that",
            Over::Refuse => "; refused beyond that",
        })
    }
}

/// When a bucket will be full again, in nanoseconds of the monotonic clock.
#[derive(Debug, Default)]
struct Meter(AtomicU64);

/// The buckets of one connection: what [`Per::Connection`] counts.
#[derive(Debug, Default)]
pub struct Own(Vec<u64>);

/// A command that asks for room.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Its row; none for what is not in the catalog.
    pub id: Option<CommandId>,
    /// Its bytes.
    pub bytes: u64,
    /// Whether it may be refused.
    pub refusable: bool,
    /// Now, in microseconds of the monotonic clock.
    pub now_us: u64,
}

/// What there is for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Room, and it was taken.
    Now,
    /// Room at this instant, in microseconds, and it was set aside.
    At(u64, RuleId),
    /// None as far as can be seen; ask again then.
    Ask(u64, RuleId),
    /// None, by this rule; nothing was taken.
    Refused(RuleId),
}

/// All limits of a role.
#[derive(Debug)]
pub struct Rates {
    limits: Box<[(Limit, RuleId)]>,
    /// One per row of the catalog: which limits are about it, a bit each.
    rows: Box<[u16]>,
    /// The same for what is not in the catalog.
    unknown: u16,
    /// Buckets that all connections share; they outlast a reload.
    meters: OnceLock<Arc<[Meter]>>,
}

impl PartialEq for Rates {
    fn eq(&self, other: &Self) -> bool {
        self.limits == other.limits
    }
}

impl Eq for Rates {}

impl Rates {
    /// The limits, with the rules they are named by; none if there is no limit.
    ///
    /// # Errors
    /// The first entry that names nothing, and at which limit it stands.
    pub(super) fn new(limits: Vec<(Limit, RuleId)>) -> Result<Option<Self>, (usize, RuleFault)> {
        if limits.is_empty() {
            return Ok(None);
        }
        let mut rows = vec![0_u16; catalog::len()];
        let mut unknown = 0;
        for (at, (limit, _)) in limits.iter().enumerate().take(LIMITS_MAX) {
            let bit = 1_u16 << at;
            if limit.of.is_empty() {
                rows.iter_mut().for_each(|row| *row |= bit);
                unknown |= bit;
            }
            for entry in &limit.of {
                for id in rules::rows(entry).map_err(|fault| (at, fault))? {
                    if let Some(row) = rows.get_mut(id.index()) {
                        *row |= bit;
                    }
                }
            }
        }
        Ok(Some(Self { limits: limits.into(), rows: rows.into(), unknown, meters: OnceLock::new() }))
    }

    /// Goes on with the buckets of `former`, where its limits are the same; once, before the first command.
    pub fn adopt(&self, former: &Self) {
        if self == former {
            let _ = self.meters.set(Arc::clone(former.meters()));
        }
    }

    /// The limits, for people.
    pub fn limits(&self) -> impl Iterator<Item = &Limit> {
        self.limits.iter().map(|(limit, _)| limit)
    }

    fn meters(&self) -> &Arc<[Meter]> {
        self.meters.get_or_init(|| self.limits.iter().map(|_| Meter::default()).collect())
    }

    /// The limits that are about a command: number, limit, rule.
    fn about(&self, id: Option<CommandId>) -> impl Iterator<Item = (usize, &Limit, RuleId)> {
        let bits = match id {
            // A row the slice had not would be under every limit.
            Some(id) => self.rows.get(id.index()).copied().unwrap_or(u16::MAX),
            None => self.unknown,
        };
        let all = self.limits.iter().enumerate().filter(move |(at, _)| bits >> at & 1 == 1);
        all.map(|(at, (limit, rule))| (at, limit, *rule))
    }

    /// Changes one bucket by `change`, which sees when it would be full; its answer is that before the change.
    fn update(&self, own: &mut Own, at: usize, per: Per, change: impl Fn(u64) -> Option<u64>) -> Result<u64, u64> {
        match per {
            Per::Role => match self.meters().get(at) {
                Some(Meter(full)) => full.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change),
                None => Err(0),
            },
            Per::Connection => {
                if own.0.len() < self.limits.len() {
                    own.0.resize(self.limits.len(), 0);
                }
                let full = own.0.get_mut(at).ok_or(0_u64)?;
                let before = *full;
                *full = change(before).ok_or(before)?;
                Ok(before)
            }
        }
    }

    /// Room for a command under every limit that is about it.
    pub fn ask(&self, own: &mut Own, ask: &Ask) -> Room {
        let now = ask.now_us.saturating_mul(1000);
        let refuses = |limit: &Limit| limit.over == Over::Refuse && ask.refusable;
        // What refuses is asked first, so that what is refused has set nothing aside elsewhere.
        for (at, limit, rule) in self.about(ask.id).filter(|(_, limit, _)| refuses(limit)) {
            let (cost, burst) = (limit.cost_ns(ask.bytes), limit.burst_us.saturating_mul(1000));
            let take = |full: u64| (free_at(full, cost, burst) <= now).then(|| full.max(now).saturating_add(cost));
            if self.update(own, at, limit.per, take).is_err() {
                return Room::Refused(rule);
            }
        }
        let mut room = Room::Now;
        let mut latest = now;
        for (at, limit, rule) in self.about(ask.id).filter(|(_, limit, _)| !refuses(limit)) {
            let (cost, burst) = (limit.cost_ns(ask.bytes), limit.burst_us.saturating_mul(1000));
            let horizon = now.saturating_add(HORIZON_US.saturating_mul(1000));
            let take = |full: u64| (free_at(full, cost, burst) <= horizon).then(|| full.max(now).saturating_add(cost));
            match self.update(own, at, limit.per, take) {
                Ok(full) => {
                    let free = free_at(full.max(now), cost, burst);
                    if free > latest {
                        latest = free;
                        room = Room::At(free.div_ceil(1000), rule);
                    }
                }
                Err(_) => return Room::Ask(horizon.div_ceil(1000), rule),
            }
        }
        room
    }

    /// Charges bytes that were not known when the command asked: they may leave a bucket in debt.
    pub fn charge(&self, own: &mut Own, id: Option<CommandId>, bytes: u64, now_us: u64) {
        let now = now_us.saturating_mul(1000);
        for (at, limit, _) in self.about(id).filter(|(_, limit, _)| limit.measure == Measure::Bytes) {
            let cost = limit.cost_ns(bytes);
            let _ = self.update(own, at, limit.per, |full| Some(full.max(now).saturating_add(cost)));
        }
    }
}

/// When a bucket that will be full at `full` has room for `cost`.
const fn free_at(full: u64, cost: u64, burst: u64) -> u64 {
    if cost <= burst { full.saturating_add(cost).saturating_sub(burst) } else { full }
}

#[cfg(test)]
#[path = "rates_tests.rs"]
mod tests;
