//! What is remembered, and the pen that writes it.

use super::{
    arguments::ArgumentList,
    counters::Counters,
    encode::{ConnectionFacts, MAX_LINE, command, command_front, reply},
    event::ProcessEvent,
    json::{number, number_field, text_field},
    outlet::{Front, OUTLETS_MAX, Outlet, Plan, Shape},
    sequence::Sequence,
    stamp::Stamp,
    watch::{Watch, Watches},
};
use crate::{command::CommandId, moment::Moment, resp::reply::Class};

pub use super::event::ConnectionEvent;

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Refused by policy; never reached Redis.
    Denied,
    /// Redis ran it (or the proxy answered it by itself, see [`CommandRecord::local`]).
    Ran,
    /// Redis refused or failed it.
    Error,
    /// Redis queued it in a transaction.
    Queued,
    /// EXEC or DISCARD ended the transaction without running it.
    Aborted,
    /// EXEC answered null: a watched key had changed.
    Nil,
    /// A streamed command that never became whole; the upstream was closed without finishing it.
    Incomplete,
    /// Redis may have run it; the reply never came.
    Unanswered,
}

impl Outcome {
    /// All of them, in the order of [`Outcome::index`].
    pub const ALL: [Self; 8] = [
        Self::Denied,
        Self::Ran,
        Self::Error,
        Self::Queued,
        Self::Aborted,
        Self::Nil,
        Self::Incomplete,
        Self::Unanswered,
    ];

    /// Position in [`Outcome::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The stable word in records and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Ran => "ran",
            Self::Error => "error",
            Self::Queued => "queued",
            Self::Aborted => "aborted",
            Self::Nil => "nil",
            Self::Incomplete => "incomplete",
            Self::Unanswered => "unanswered",
        }
    }
}

/// Where a command stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Context {
    /// Outside a transaction.
    TopLevel,
    /// Between MULTI and EXEC.
    Multi,
}

impl Context {
    /// The stable word in records.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::TopLevel => "top",
            Self::Multi => "multi",
        }
    }
}

/// The name of a command as the record writes it.
#[derive(Clone, Copy, Debug)]
pub enum Name<'a> {
    /// A row of the catalog.
    Known(CommandId),
    /// Not in the catalog: the first words as they came, rendered escaped and capped. The second one is given only
    /// when the first is a known container.
    Unknown(&'a [u8], Option<&'a [u8]>),
}

/// Everything said about one command, borrowed from its slot for the time of rendering.
#[derive(Clone, Copy, Debug)]
pub struct CommandRecord<'a> {
    /// Which command.
    pub name: Name<'a>,
    /// The confirmed database.
    pub db: u32,
    /// Number of words, the name among them.
    pub argc: u32,
    /// The keys, already cut to the configured number and length; empty when the configuration shows none.
    /// Encoded by [`KeyList`].
    pub keys: KeyList<'a>,
    /// Top level or inside MULTI.
    pub context: Context,
    /// The transaction's number on this connection, for commands inside one and for the EXEC or DISCARD that ends it.
    pub tx: Option<u32>,
    /// The rule that denied it, by name; `None` when it was allowed.
    pub rule: Option<&'a str>,
    /// The rule that would have denied it, by name, were it in force (`mode = "shadow"`).
    pub shadow: Option<&'a str>,
    /// Whether the proxy answered it itself (never for a denial).
    pub local: bool,
    /// What became of it.
    pub outcome: Outcome,
    /// The class of Redis' reply, if there was one.
    pub class: Option<Class>,
    /// First word of an error reply (`WRONGTYPE`, `ERR`, `NOPERM`).
    pub error: Option<&'a [u8]>,
    /// EXEC: the class of each direct element (at most 128) and how many there were.
    pub elements: Option<(&'a [Class], u64)>,
    /// Bytes of the command as it went up (or would have).
    pub bytes_in: u64,
    /// Bytes of the reply the client was sent.
    pub bytes_out: u64,
    /// Microseconds from the acceptance of the command to the end of its reply; `None` for denials.
    pub us: Option<u64>,
}

/// Keys of a command, as a slot keeps them: per key a little-endian `u16` length, whose top bit says that the key was
/// cut, then its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyList<'a> {
    /// The encoded keys.
    pub bytes: &'a [u8],
    /// How many keys the command has; may be larger than the number encoded.
    pub total: u32,
    /// Whether the keys could be told at all.
    pub undeterminable: bool,
    /// The script that the command carries or names, if it does.
    pub script: Option<ScriptMark<'a>>,
    /// The words behind its name, where they are kept.
    pub arguments: Option<ArgumentList<'a>>,
}

/// A script, as records name it.
#[derive(Clone, Copy, Debug)]
pub struct ScriptMark<'a> {
    /// SHA-1 of its body.
    pub digest: &'a [u8; 20],
    /// Bytes of the body; `None` where only the digest was sent (EVALSHA).
    pub bytes: Option<u32>,
}

impl<'a> KeyList<'a> {
    /// The bit of the length that says that the key was cut.
    const CUT: u16 = 1 << 15;

    /// Whether the command has none, and that is known.
    pub(super) const fn is_none(&self) -> bool {
        self.total == 0 && self.bytes.is_empty() && !self.undeterminable
    }

    /// Appends one key to a slot's encoding, cut to `max` bytes (at most 32767).
    pub fn push(out: &mut Vec<u8>, key: &[u8], max: usize) {
        let shown = key.get(..max.min(usize::from(!Self::CUT))).unwrap_or(key);
        let length = u16::try_from(shown.len()).unwrap_or(0);
        let cut = if shown.len() < key.len() { Self::CUT } else { 0 };
        out.extend_from_slice(&(length | cut).to_le_bytes());
        out.extend_from_slice(shown);
    }

    /// The encoded keys, and of each whether it was cut. Ends early where the encoding does.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], bool)> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            let (key, cut, tail) = Self::split(rest)?;
            rest = tail;
            Some((key, cut))
        })
    }

    /// The first key of an encoding, whether it was cut, and the rest.
    pub(super) fn split(bytes: &[u8]) -> Option<(&[u8], bool, &[u8])> {
        let (head, tail) = bytes.split_first_chunk::<2>()?;
        let head = u16::from_le_bytes(*head);
        let (key, tail) = tail.split_at_checked(usize::from(head & !Self::CUT))?;
        Some((key, head & Self::CUT != 0, tail))
    }
}

/// One worker's pen: renders records for every output, numbers them without holes, folds them into counters. Pure: the
/// shell takes the rendered blocks and says how much of what it took has been written.
#[derive(Debug)]
pub struct Recorder {
    /// Stands at the line rendered last; the first is 1.
    pub(super) sequence: Sequence,
    pub(super) stamp: Stamp,
    pub(super) counters: Counters,
    pub(super) watch: Watch,
    /// Most have one output, which is asked without a loop.
    pub(super) first: Outlet,
    pub(super) others: Box<[Outlet]>,
}

impl Recorder {
    /// A pen for worker `worker` and one output that takes everything; at most `capacity` bytes may be rendered and not
    /// yet written. A capacity below [`MAX_LINE`] is raised to it.
    #[must_use]
    pub fn new(worker: u16, capacity: usize) -> Self {
        Self::with_outlets(worker, capacity, &[])
    }

    /// A pen for worker `worker` and these outputs, at most [`OUTLETS_MAX`] of them; each may have `capacity` bytes that are
    /// not yet written. Without any it is [`Recorder::new`].
    #[must_use]
    pub fn with_outlets(worker: u16, capacity: usize, plans: &[Plan]) -> Self {
        let mut head = br#"{"v":1,"w":"#.to_vec();
        number(&mut head, worker);
        head.extend_from_slice(br#","seq":"#);
        let mut outlets = plans
            .iter()
            .take(OUTLETS_MAX)
            .enumerate()
            .map(|(index, plan)| Outlet::new(plan.clone(), index, worker, capacity));
        Self {
            sequence: Sequence::new(&head),
            stamp: Stamp::new(),
            counters: Counters::default(),
            watch: Watch::default(),
            first: outlets.next().unwrap_or_else(|| Outlet::new(Plan::default(), 0, worker, capacity)),
            others: outlets.collect(),
        }
    }

    /// The pen, which from now on watches for these.
    #[must_use]
    pub fn watching(mut self, watches: Watches) -> Self {
        self.watch = Watch::new(watches);
        self
    }

    /// Other wishes of the same outputs, in the same order, from the next record on: a reload has brought them. What is
    /// rendered stays as it is; numbers and counts go on.
    pub fn refit(&mut self, plans: &[Plan], capacity: usize, watches: Watches) {
        for (outlet, plan) in std::iter::once(&mut self.first).chain(&mut self.others).zip(plans) {
            outlet.refit(plan.clone(), capacity);
        }
        self.watch.watches(watches);
    }

    /// Whether one more record of the greatest length fits everywhere: asked before a command is accepted and before a
    /// reply is taken.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.first.has_room() && self.others.iter().all(Outlet::has_room)
    }

    /// The number of the line rendered last. A `begin` line counts as having reached the sinks once
    /// [`Recorder::reached`] is at least the value this had right after the line was rendered.
    #[must_use]
    pub const fn mark(&self) -> u64 {
        self.sequence.number()
    }

    /// The number up to which all lines are written wherever they are wanted and not to be dropped.
    #[must_use]
    pub fn reached(&self) -> u64 {
        let last = self.mark();
        self.others.iter().fold(self.first.reached(last), |least, outlet| least.min(outlet.reached(last)))
    }

    /// The output that stands first.
    pub const fn outlet(&mut self) -> &mut Outlet {
        &mut self.first
    }

    /// All outputs, in the order of their plans.
    pub fn outlets(&mut self) -> impl Iterator<Item = &mut Outlet> {
        std::iter::once(&mut self.first).chain(&mut self.others)
    }

    /// For each output, how many bytes are written.
    pub fn written(&self) -> impl Iterator<Item = u64> {
        std::iter::once(&self.first).chain(&self.others).map(Outlet::written)
    }

    /// Whether there is something to take.
    #[must_use]
    pub fn has_rendered(&self) -> bool {
        self.first.has_rendered() || self.others.iter().any(Outlet::has_rendered)
    }

    /// What all records so far add up to.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters.clone();
        counters.unwatched = self.watch.unwatched;
        counters.outlets = std::iter::once(&self.first).chain(&self.others).map(Outlet::counters).collect();
        counters
    }

    /// A command's record, at the end of its slot.
    pub fn command(&mut self, now: Moment, facts: &ConnectionFacts, record: &CommandRecord<'_>) {
        let (notices, burst) = self.watch.look(now, facts, record);
        let wanted =
            |outlet: &mut Outlet| facts.is_for(outlet.bit) && outlet.takes_command(record, !notices.is_empty());
        self.line(now, "command", wanted, |out, plan| {
            out.extend_from_slice(facts.fragment_in(plan.shape));
            command(out, record, notices, plan);
        });
        self.counters.command(record);
        for notice in notices.iter() {
            self.counters.notice(notice);
        }
        if let Some(burst) = burst {
            self.connection(now, facts, &ConnectionEvent::Notice(burst));
        }
    }

    /// A command's `begin` line, before its bytes go up. Same fields as far as they are known; the outcome, class,
    /// error, elements, bytes_out and us of `record` are not written.
    pub fn begin(&mut self, now: Moment, facts: &ConnectionFacts, record: &CommandRecord<'_>) {
        let wanted = |outlet: &mut Outlet| facts.is_for(outlet.bit) && outlet.takes_begin(record);
        self.line(now, "begin", wanted, |out, plan| {
            out.extend_from_slice(facts.fragment_in(plan.shape));
            command_front(out, record, plan);
            number_field(out, "bytes_in", record.bytes_in);
        });
        self.counters.begins = self.counters.begins.saturating_add(1);
    }

    /// A command of the proxy's own to Redis (`AUTH`, `CLIENT|SETNAME`, `DISCARD`), never with arguments.
    pub fn upstream_command(
        &mut self,
        now: Moment,
        facts: &ConnectionFacts,
        name: &'static str,
        outcome: Outcome,
        error: Option<&[u8]>,
        us: u64,
    ) {
        self.line(
            now,
            "upstream_command",
            |outlet| facts.is_for(outlet.bit),
            |out, plan| {
                out.extend_from_slice(facts.fragment_in(plan.shape));
                let (command, sub) = name.split_once('|').map_or((name, None), |(command, sub)| (command, Some(sub)));
                text_field(out, "cmd", command, MAX_LINE);
                if let Some(sub) = sub {
                    text_field(out, "sub", sub, MAX_LINE);
                }
                text_field(out, "outcome", outcome.word(), MAX_LINE);
                reply(out, None, error);
                number_field(out, "us", us);
            },
        );
        self.counters.upstream_command(outcome);
    }

    /// A command waits for room under the limit in time of this name. Counted only: its record comes when it has run.
    pub fn delayed(&mut self, rule: &str) {
        self.counters.delay(rule);
    }

    /// A connection's events.
    pub fn connection(&mut self, now: Moment, facts: &ConnectionFacts, event: &ConnectionEvent<'_>) {
        self.line(
            now,
            event.word(),
            |outlet| facts.is_for(outlet.bit),
            |out, plan| {
                out.extend_from_slice(facts.fragment_in(if event.says_whose() { Shape::Full } else { plan.shape }));
                event.render(out, facts.opening());
            },
        );
        let service = self.counters.service(facts.service());
        match *event {
            ConnectionEvent::Open => service.open(),
            ConnectionEvent::UpstreamFailed { reason, .. } => service.upstream_failure(reason),
            ConnectionEvent::Authentication { verdict, .. } => service.client_auth(verdict),
            // The gauge of bans is taken where they are kept.
            ConnectionEvent::Ban { .. } | ConnectionEvent::RoleChanged { .. } => {}
            ConnectionEvent::Alarm { reason } => service.alarm(reason),
            ConnectionEvent::Notice(burst) => self.counters.notice(burst.notice),
            ConnectionEvent::Close { reason, bytes_in, bytes_out, .. } => service.close(reason, bytes_in, bytes_out),
        }
    }

    /// What happens to the process, or to a peer before it is authenticated.
    pub fn process(&mut self, now: Moment, event: &ProcessEvent<'_>) {
        self.line(now, event.word(), |_| true, |out, _| event.render(out));
        match *event {
            ProcessEvent::Refused { service, reason, .. } => self.counters.service(service).refuse(reason),
            ProcessEvent::HandshakeFailure { service, reason, .. } => {
                self.counters.service(service).handshake_failure(reason);
            }
            ProcessEvent::AcceptError { reason, .. } => self.counters.accept_error(reason),
            ProcessEvent::Start { .. }
            | ProcessEvent::Stop { .. }
            | ProcessEvent::Reload { .. }
            | ProcessEvent::UpstreamCredential { .. }
            | ProcessEvent::DrainBegin { .. }
            | ProcessEvent::DrainEnd { .. }
            | ProcessEvent::SinkRecovered { .. }
            | ProcessEvent::UpstreamSwitch { .. } => {}
        }
    }

    /// One line, from `{` to newline, wherever it is wanted, and everything that counts lines and bytes.
    fn line(
        &mut self,
        now: Moment,
        event: &'static str,
        wanted: impl Fn(&mut Outlet) -> bool,
        body: impl Fn(&mut Vec<u8>, &Plan),
    ) {
        self.sequence.next();
        let front = Front::new(&mut self.sequence, &mut self.stamp, now, event);
        if wanted(&mut self.first) {
            self.first.write(&front, &body);
        } else {
            self.first.pass_over();
        }
        for outlet in &mut self.others {
            if wanted(outlet) {
                outlet.write(&front, &body);
            } else {
                outlet.pass_over();
            }
        }
        self.counters.records = self.counters.records.saturating_add(1);
    }
}
