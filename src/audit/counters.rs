//! What the records of one worker add up to: plain numbers, bumped where a record is rendered, so that metrics and
//! records cannot disagree. The shell publishes copies of them for scrapes.
//!
//! Every label is bounded: a row of the catalog or `unknown`, an [`Outcome`], the name of a rule or service (from the
//! configuration), a word that is a literal in the code. Nothing a client sends becomes a label.

use super::{
    plain::PlainRecord,
    record::{CommandRecord, Name, Outcome},
};
use crate::audit::{event::AuthVerdict, watch::Notice};
use std::collections::BTreeMap;

/// Upper bounds of the latency buckets in microseconds, 50 µs to 10 s; one more bucket is beyond the last.
pub const LATENCY_BOUNDS_US: [u64; 17] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// Most rule names told apart; over reloads a process may see more than one configuration has. Further ones are
/// counted as [`OTHER`].
const RULES_MAX: usize = 512;
/// Most services and most words per service told apart.
const TALLY_MAX: usize = 256;
/// The label of what is beyond a bound.
pub const OTHER: &str = "other";

/// All counters of one worker since its start. They only grow.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Lines rendered.
    pub records: u64,
    /// `begin` lines rendered.
    pub begins: u64,
    /// By output.
    pub outlets: Vec<OutletCounters>,
    /// By position in the catalog; as long as the highest position seen.
    pub commands: Vec<CommandCounters>,
    /// Commands that are not in the catalog, together.
    pub unknown: CommandCounters,
    /// Denials by the name of the rule.
    pub denied: BTreeMap<Box<str>, u64>,
    /// What would have been denied, by the name of the rule that is not in force.
    pub shadowed: BTreeMap<Box<str>, u64>,
    /// Commands that had to wait for room under a limit in time, by the name of the rule.
    pub delayed: BTreeMap<Box<str>, u64>,
    /// What was notable, by [`Notice::index`].
    pub notices: [u64; Notice::ALL.len()],
    /// Commands of identities that were not watched for first sights and bursts, because there are too many.
    pub unwatched: u64,
    /// Time from acceptance to the end of the reply, of commands Redis answered.
    pub latency: Latency,
    /// The proxy's own commands to Redis, by [`Outcome`] (see [`Outcome::ALL`]).
    pub upstream_commands: [u64; Outcome::ALL.len()],
    /// By service.
    pub services: Vec<ServiceCounters>,
    /// `accept` failures by reason.
    pub accept_errors: Tally,
}

/// What one output has taken of the records of one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutletCounters {
    /// Lines rendered for it, `gap` among them.
    pub lines: u64,
    /// Records it did not take: its filter, or its sample.
    pub filtered: u64,
    /// Records dropped because it was full.
    pub dropped: u64,
    /// The number of the last line rendered for it. Not added up.
    pub last_seq: u64,
}

/// Where one pen stands at one output, as of its last line there: all numbers up to `last_seq` are lines, filtered or
/// dropped (a `gap` has the number of one that was dropped).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The number of the last line.
    pub last_seq: u64,
    /// Lines up to it, `gap` among them.
    pub lines: u64,
    /// Records up to it that the output did not take.
    pub filtered: u64,
    /// Records up to it that were dropped.
    pub dropped: u64,
}

/// What one command added up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandCounters {
    /// Records by outcome, in the order of [`Outcome::ALL`].
    pub outcomes: [u64; Outcome::ALL.len()],
    /// Bytes of the commands.
    pub bytes_in: u64,
    /// Bytes of the replies the clients were sent.
    pub bytes_out: u64,
    /// Microseconds from acceptance to the end of the reply, summed over the commands Redis answered.
    pub us: u64,
}

/// What one service added up to.
#[derive(Clone, Debug)]
pub struct ServiceCounters {
    /// Its name.
    pub service: Box<str>,
    /// Connections whose upstream was ready.
    pub opened: u64,
    /// Ended connections by reason.
    pub closed: Tally,
    /// Connections refused before TLS, by reason.
    pub refused: Tally,
    /// Handshakes that did not lead to a peer with a role, by reason.
    pub handshake_failures: Tally,
    /// Upstreams that could not be had, by reason.
    pub upstream_failures: Tally,
    /// Alarms by reason.
    pub alarms: Tally,
    /// Clients' own AUTH and HELLO AUTH, by what became of them ([`AuthVerdict::index`]).
    pub client_auth: [u64; AuthVerdict::ALL.len()],
    /// Plaintext bytes from clients, counted when a connection ends.
    pub bytes_in: u64,
    /// Plaintext bytes to clients, counted when a connection ends.
    pub bytes_out: u64,
}

/// Numbers under words that are literals in the code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally(Vec<(&'static str, u64)>);

impl Tally {
    fn add(&mut self, word: &'static str, by: u64) {
        let word =
            if self.0.len() < TALLY_MAX || self.0.iter().any(|(known, _)| *known == word) { word } else { OTHER };
        match self.0.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count = count.saturating_add(by),
            None => self.0.push((word, by)),
        }
    }

    /// The words seen and how often.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().copied()
    }

    /// How often this word was seen.
    #[must_use]
    pub fn get(&self, word: &str) -> u64 {
        self.0.iter().find(|(known, _)| *known == word).map_or(0, |(_, count)| *count)
    }

    /// How often any was seen.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    fn merge(&mut self, other: &Self) {
        for (word, count) in other.iter() {
            self.add(word, count);
        }
    }
}

/// A histogram over [`LATENCY_BOUNDS_US`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Observations per bucket, not cumulated; the last bucket is beyond the last bound.
    pub buckets: [u64; LATENCY_BOUNDS_US.len() + 1],
    /// Their sum in microseconds.
    pub sum_us: u64,
}

impl Latency {
    fn observe(&mut self, us: u64) {
        let bucket = LATENCY_BOUNDS_US.partition_point(|bound| *bound < us);
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count = count.saturating_add(1);
        }
        self.sum_us = self.sum_us.saturating_add(us);
    }

    /// How many observations there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// Counts a rule by its name, in a map of a bounded number of names.
fn count(rules: &mut BTreeMap<Box<str>, u64>, rule: &str, by: u64) {
    if let Some(count) = rules.get_mut(rule) {
        *count = count.saturating_add(by);
    } else if rules.len() < RULES_MAX {
        rules.insert(rule.into(), by);
    } else {
        let count = rules.entry(OTHER.into()).or_insert(0);
        *count = count.saturating_add(by);
    }
}

impl CommandCounters {
    /// How often the command had this outcome.
    #[must_use]
    pub fn outcome(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(outcome.index()).copied().unwrap_or(0)
    }

    fn merge(&mut self, other: &Self) {
        add_all(&mut self.outcomes, &other.outcomes);
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
        self.us = self.us.saturating_add(other.us);
    }
}

impl Counters {
    /// A plain command's record was rendered: as [`Self::command`].
    #[inline]
    pub(super) fn plain(&mut self, record: &PlainRecord<'_>) {
        let Some(row) = self.commands.get_mut(record.id.index()) else {
            self.command(&record.whole());
            return;
        };
        let [_, ran, ..] = &mut row.outcomes;
        *ran = ran.saturating_add(1);
        row.bytes_in = row.bytes_in.saturating_add(record.bytes_in);
        row.bytes_out = row.bytes_out.saturating_add(record.bytes_out);
        row.us = row.us.saturating_add(record.us);
        self.latency.observe(record.us);
    }

    /// A command's record was rendered.
    pub(super) fn command(&mut self, record: &CommandRecord<'_>) {
        let row = match record.name {
            Name::Known(id) => {
                let index = id.index();
                if index >= self.commands.len() {
                    // Once per command ever seen: the table grows to the highest row in use.
                    self.commands.resize(index.saturating_add(1), CommandCounters::default());
                }
                self.commands.get_mut(index)
            }
            Name::Unknown(..) => None,
        };
        let row = row.unwrap_or(&mut self.unknown);
        if let Some(count) = row.outcomes.get_mut(record.outcome.index()) {
            *count = count.saturating_add(1);
        }
        row.bytes_in = row.bytes_in.saturating_add(record.bytes_in);
        row.bytes_out = row.bytes_out.saturating_add(record.bytes_out);
        if let (Some(us), Some(_), None, false) = (record.us, record.class, record.rule, record.local) {
            row.us = row.us.saturating_add(us);
            self.latency.observe(us);
        }
        if let Some(rule) = record.rule {
            count(&mut self.denied, rule, 1);
        }
        if let Some(rule) = record.shadow {
            count(&mut self.shadowed, rule, 1);
        }
    }

    /// A command had to wait.
    pub(super) fn delay(&mut self, rule: &str) {
        count(&mut self.delayed, rule, 1);
    }

    /// A command of the proxy's own was answered.
    pub(super) fn upstream_command(&mut self, outcome: Outcome) {
        if let Some(count) = self.upstream_commands.get_mut(outcome.index()) {
            *count = count.saturating_add(1);
        }
    }

    /// Something was notable.
    pub(super) fn notice(&mut self, notice: Notice) {
        if let Some(count) = self.notices.get_mut(notice.index()) {
            *count = count.saturating_add(1);
        }
    }

    /// An `accept` failed.
    pub(super) fn accept_error(&mut self, reason: &'static str) {
        self.accept_errors.add(reason, 1);
    }

    /// The counters of a service, made when it is first heard of.
    pub(super) fn service(&mut self, service: &str) -> &mut ServiceCounters {
        let known = self.services.iter().position(|known| &*known.service == service);
        let index = known.unwrap_or_else(|| {
            let name = if self.services.len() < TALLY_MAX { service } else { OTHER };
            let named = self.services.iter().position(|known| &*known.service == name);
            named.unwrap_or_else(|| {
                self.services.push(ServiceCounters::new(name));
                self.services.len().saturating_sub(1)
            })
        });
        #[expect(clippy::indexing_slicing, reason = "the index was found or made two lines above")]
        &mut self.services[index]
    }

    /// Adds another worker's counters to these.
    pub fn merge(&mut self, other: &Self) {
        self.records = self.records.saturating_add(other.records);
        self.begins = self.begins.saturating_add(other.begins);
        if self.outlets.len() < other.outlets.len() {
            self.outlets.resize(other.outlets.len(), OutletCounters::default());
        }
        for (mine, theirs) in self.outlets.iter_mut().zip(&other.outlets) {
            mine.lines = mine.lines.saturating_add(theirs.lines);
            mine.filtered = mine.filtered.saturating_add(theirs.filtered);
            mine.dropped = mine.dropped.saturating_add(theirs.dropped);
        }
        if self.commands.len() < other.commands.len() {
            self.commands.resize(other.commands.len(), CommandCounters::default());
        }
        for (mine, theirs) in self.commands.iter_mut().zip(&other.commands) {
            mine.merge(theirs);
        }
        self.unknown.merge(&other.unknown);
        for (rule, times) in &other.denied {
            count(&mut self.denied, rule, *times);
        }
        for (rule, times) in &other.shadowed {
            count(&mut self.shadowed, rule, *times);
        }
        for (rule, times) in &other.delayed {
            count(&mut self.delayed, rule, *times);
        }
        add_all(&mut self.notices, &other.notices);
        self.unwatched = self.unwatched.saturating_add(other.unwatched);
        add_all(&mut self.latency.buckets, &other.latency.buckets);
        self.latency.sum_us = self.latency.sum_us.saturating_add(other.latency.sum_us);
        add_all(&mut self.upstream_commands, &other.upstream_commands);
        for service in &other.services {
            self.service(&service.service).merge(service);
        }
        self.accept_errors.merge(&other.accept_errors);
    }

    /// All commands together: known, unknown and denied ones.
    #[must_use]
    pub fn all_commands(&self) -> CommandCounters {
        let mut all = self.unknown;
        for command in &self.commands {
            all.merge(command);
        }
        all
    }
}

impl ServiceCounters {
    fn new(service: &str) -> Self {
        Self {
            service: service.into(),
            opened: 0,
            closed: Tally::default(),
            refused: Tally::default(),
            handshake_failures: Tally::default(),
            upstream_failures: Tally::default(),
            alarms: Tally::default(),
            client_auth: [0; AuthVerdict::ALL.len()],
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    pub(super) fn open(&mut self) {
        self.opened = self.opened.saturating_add(1);
    }

    pub(super) fn close(&mut self, reason: &'static str, bytes_in: u64, bytes_out: u64) {
        self.closed.add(reason, 1);
        self.bytes_in = self.bytes_in.saturating_add(bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(bytes_out);
    }

    pub(super) fn refuse(&mut self, reason: &'static str) {
        self.refused.add(reason, 1);
    }

    pub(super) fn handshake_failure(&mut self, reason: &'static str) {
        self.handshake_failures.add(reason, 1);
    }

    pub(super) fn upstream_failure(&mut self, reason: &'static str) {
        self.upstream_failures.add(reason, 1);
    }

    pub(super) fn alarm(&mut self, reason: &'static str) {
        self.alarms.add(reason, 1);
    }

    pub(super) fn client_auth(&mut self, verdict: AuthVerdict) {
        if let Some(count) = self.client_auth.get_mut(verdict.index()) {
            *count = count.saturating_add(1);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.opened = self.opened.saturating_add(other.opened);
        self.closed.merge(&other.closed);
        self.refused.merge(&other.refused);
        self.handshake_failures.merge(&other.handshake_failures);
        self.upstream_failures.merge(&other.upstream_failures);
        self.alarms.merge(&other.alarms);
        add_all(&mut self.client_auth, &other.client_auth);
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
    }
}

fn add_all<const N: usize>(mine: &mut [u64; N], theirs: &[u64; N]) {
    for (mine, theirs) in mine.iter_mut().zip(theirs) {
        *mine = mine.saturating_add(*theirs);
    }
}
