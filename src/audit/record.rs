//! What is remembered.

use super::encode::ConnectionFacts;
use crate::{command::CommandId, moment::Moment, policy::RuleId, resp::reply::Class};

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

/// Where a command stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Context {
    /// Outside a transaction.
    TopLevel,
    /// Between MULTI and EXEC.
    Multi,
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
}

/// One worker's pen: renders records into a buffer, numbers them without holes, folds them into counters. Pure: the
/// shell takes the rendered block and says how much of what it took has been written.
#[derive(Debug)]
pub struct Recorder {}

impl Recorder {
    /// A pen for worker `worker`; at most `capacity` bytes may be rendered and not yet written.
    #[must_use]
    pub fn new(worker: u16, capacity: usize) -> Self {
        let _ = (worker, capacity);
        todo!()
    }

    /// Whether one more record of the greatest length fits: asked before a command is accepted and before a reply is
    /// taken.
    #[must_use]
    pub fn has_room(&self) -> bool {
        todo!()
    }

    /// Bytes rendered since the start. A `begin` line counts as having reached the sink once
    /// [`Recorder::written`] is at least the value this had right after the line was rendered.
    #[must_use]
    pub fn rendered(&self) -> u64 {
        todo!()
    }

    /// Bytes the sink has written, as last told.
    #[must_use]
    pub fn written(&self) -> u64 {
        todo!()
    }

    /// The shell says how many bytes of this pen the sink has written since the start.
    pub fn set_written(&mut self, written: u64) {
        let _ = written;
        todo!()
    }

    /// The rendered bytes not yet taken; the shell hands them to the sink.
    pub fn take(&mut self) -> Vec<u8> {
        todo!()
    }

    /// A command's record, at the end of its slot.
    pub fn command(&mut self, now: Moment, facts: &ConnectionFacts, record: &CommandRecord<'_>) {
        let _ = (now, facts, record);
        todo!()
    }

    /// A command's `begin` line, before its bytes go up. Same fields as far as they are known; the outcome, class,
    /// error, elements, bytes_out and us of `record` are not written.
    pub fn begin(&mut self, now: Moment, facts: &ConnectionFacts, record: &CommandRecord<'_>) {
        let _ = (now, facts, record);
        todo!()
    }

    /// A command of the proxy's own to Redis (`AUTH`, `CLIENT SETNAME`, `HELLO`), never with arguments.
    pub fn upstream_command(
        &mut self,
        now: Moment,
        facts: &ConnectionFacts,
        name: &'static str,
        outcome: Outcome,
        error: Option<&[u8]>,
        us: u64,
    ) {
        let _ = (now, facts, name, outcome, error, us);
        todo!()
    }

    /// A connection's events.
    pub fn connection(&mut self, now: Moment, facts: &ConnectionFacts, event: &ConnectionEvent<'_>) {
        let _ = (now, facts, event);
        todo!()
    }
}

/// What happens to a connection after its peer is authenticated.
#[derive(Clone, Copy, Debug)]
pub enum ConnectionEvent<'a> {
    /// The peer is in, its upstream is connected and authenticated.
    Open,
    /// The upstream could not be had: `reason` is a stable word (`connect`, `auth`, `timeout`), `detail` for people.
    UpstreamFailed {
        /// Stable word.
        reason: &'static str,
        /// For people; no secret, no client bytes.
        detail: &'a str,
    },
    /// A client's own AUTH or HELLO AUTH: `accepted` tells whether it was accepted and ignored, or refused.
    Authentication {
        /// Accepted and ignored.
        accepted: bool,
        /// `AUTH` or `HELLO`.
        method: &'static str,
    },
    /// A top-level `-NOAUTH` came from Redis: somebody changed its users under us.
    Alarm {
        /// Stable word.
        reason: &'static str,
    },
    /// The end.
    Close {
        /// Stable word: see [`crate::session::error::CloseReason`].
        reason: &'static str,
        /// For people; no secret, no client bytes.
        detail: &'a str,
        /// Commands accepted, denied ones among them.
        commands: u64,
        /// Denied ones.
        denied: u64,
        /// Plaintext bytes from the client.
        bytes_in: u64,
        /// Plaintext bytes to the client.
        bytes_out: u64,
        /// Microseconds since the connection was accepted.
        us: u64,
    },
}

/// Keeps the compiler honest about what a rule is until the encoder is written.
pub type Rule = RuleId;
