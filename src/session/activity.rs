//! What a connection is doing now, for an operator who asks. Nothing is kept for this but the last command's row.

use super::{
    machine::Session,
    state::{Phase, Streaming},
};
use crate::{command::CommandId, moment::Moment};

/// What a connection is doing, as it was in one moment. No argument of a command is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// What it is doing.
    pub doing: Doing,
    /// The command that has waited longest for its reply, and for how long, in microseconds.
    pub oldest: Option<(Name, u64)>,
    /// The command that was taken last.
    pub last: Option<Name>,
    /// Since the client's last byte, in microseconds.
    pub quiet_us: u64,
    /// Commands without a reply yet.
    pub unanswered: u64,
    /// Bytes of replies that the client has not taken.
    pub unread: u64,
    /// The database, as last confirmed by Redis.
    pub db: u32,
    /// Commands taken, denied ones among them.
    pub commands: u64,
    /// Denied ones.
    pub denied: u64,
    /// Plaintext bytes from the client.
    pub bytes_in: u64,
    /// Plaintext bytes to the client.
    pub bytes_out: u64,
}

/// A command without its arguments: a row of the catalog, or none for what it does not know.
pub type Name = Option<CommandId>;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doing {
    /// Its upstream is connected to, or authenticated at.
    #[default]
    Connecting,
    /// It waits for the client's next command.
    Idle,
    /// A command waits for its reply.
    Command,
    /// Between MULTI and EXEC.
    Transaction,
    /// It has subscribed.
    Subscribed,
    /// It sees every command of its Redis.
    Monitor,
    /// A replica of its Redis.
    Replica,
    /// It is on its way out.
    Closing,
}

impl Doing {
    /// The stable word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Idle => "idle",
            Self::Command => "command",
            Self::Transaction => "transaction",
            Self::Subscribed => "subscribed",
            Self::Monitor => "monitor",
            Self::Replica => "replica",
            Self::Closing => "closing",
        }
    }
}

impl Session {
    /// What the connection is doing now.
    #[must_use]
    pub fn activity(&self, now: Moment) -> Activity {
        let core = &self.core;
        let oldest = core.slots.front().map(|slot| (slot.command(), now.mono_us.saturating_sub(slot.accepted_us)));
        let doing = match core.phase {
            Phase::Connecting | Phase::Greeting => Doing::Connecting,
            Phase::Closing | Phase::Done => Doing::Closing,
            Phase::Open if core.winding_down.is_some() => Doing::Closing,
            Phase::Open if core.streaming == Streaming::Replica => Doing::Replica,
            Phase::Open if core.lane.monitoring() => Doing::Monitor,
            Phase::Open if oldest.is_some() => Doing::Command,
            Phase::Open if core.lane.subscribed() => Doing::Subscribed,
            Phase::Open if core.tx.intended => Doing::Transaction,
            Phase::Open => Doing::Idle,
        };
        Activity {
            doing,
            oldest,
            last: core.slots.last(),
            quiet_us: now.mono_us.saturating_sub(core.last_input_us),
            unanswered: core.slots.len() as u64,
            unread: 0,
            db: core.db,
            commands: core.commands,
            denied: core.denied,
            bytes_in: core.bytes_in,
            bytes_out: core.bytes_out,
        }
    }
}
