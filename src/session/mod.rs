//! One client's side of a connection: request parser, verdicts, the queue of promised replies, transactions.
//!
//! * [`machine`]: the states of a connection and its entry points; `state`: all it knows, and how it ends.
//! * `accept`: from the client's bytes to whole commands; `effects`: what each means, as verdict, slot and ticket.
//! * `answer`: from Redis' bytes to closed slots; `records`: what is written about each.
//! * `stream`: MONITOR, SYNC and PSYNC, and what a connection takes once they have made it a stream.
//! * [`renewal`]: what a reload changes for a connection that stays, and the other passwords that Redis may take.
//! * [`inquiry`]: a client's own AUTH, where the shell looks it up.
//! * `toll`: what a command costs of its role's limits in time, and how long a half command may take.
//! * `slots`, `local`, `options`, `transaction`: the parts these are made of; `replan`: what becomes of a transaction that
//!   Redis did not open or end as planned.
//! * [`gather`]: what a turn wants written, without copying what only passes through.
//! * [`activity`]: what a connection is doing now, for an operator who asks.
//! * [`trial`]: what would become of one command, for `ravelin explain`.
//! * `tests` are dialogues in virtual time; `properties` runs random commands in random pieces against a model Redis.

mod accept;
mod access;
pub mod activity;
#[cfg(test)]
mod activity_tests;
mod answer;
mod effects;
pub mod error;
pub mod gather;
#[cfg(test)]
mod guards_tests;
pub mod inquiry;
#[cfg(test)]
mod inquiry_tests;
mod local;
pub mod machine;
mod options;
mod plain;
#[cfg(test)]
mod properties;
mod records;
pub mod renewal;
mod replan;
#[cfg(test)]
pub(crate) mod script;
mod slots;
mod state;
mod stream;
#[cfg(test)]
mod strict_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_states;
mod toll;
#[cfg(test)]
mod toll_tests;
mod transaction;
pub mod trial;

use crate::{audit::record::Recorder, moment::Moment};

/// What a session is given for one turn, besides the bytes.
#[derive(Debug)]
pub struct Turn<'t> {
    /// When the turn began: read once, for all that happens in it.
    pub now: Moment,
    /// The worker's pen.
    pub recorder: &'t mut Recorder,
    /// What all sessions of the worker may hold of unjudged large commands.
    pub memory: &'t mut MemoryBudget,
    /// Bytes for the client that its socket has not taken yet, from earlier turns.
    pub down_pending: usize,
    /// Bytes for Redis that its socket has not taken yet, likewise: while there are any, the client is not read.
    pub up_pending: usize,
}

/// What all sessions of one worker together may take (`limits.memory`, divided by the number of workers): once for
/// commands that are held, once for replies that are owed, so that neither a slow Redis nor a client that does not read
/// makes a neighbour's MSET too large. What a session takes within 64 KiB of either is its own and not counted.
#[derive(Debug)]
pub struct MemoryBudget {
    /// Bytes held of commands too large to forward and not yet judged.
    pub held: u64,
    /// Bytes taken by commands that are not answered and by replies that are not read.
    pub owed: u64,
    /// The most that either may be.
    pub max: u64,
}

impl MemoryBudget {
    /// Nothing is taken yet of the `max` bytes.
    #[must_use]
    pub const fn new(max: u64) -> Self {
        Self { held: 0, owed: 0, max }
    }
}

/// What a session waits for. The shell does exactly this and decides nothing; it asks anew after every call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wants {
    /// Whether more of the client's bytes are wanted. When this turns from false to true, bytes the session left
    /// unconsumed are offered again (without waiting for new ones). The shell further holds reading while bytes for
    /// the upstream are unsent. The client's end is watched for even while this is false.
    pub read_down: bool,
    /// Whether more of Redis' bytes are wanted; likewise. The shell further holds reading while bytes for the client are unsent.
    pub read_up: bool,
    /// Call [`machine::Session::resume`] once `Recorder::reached` is at least this.
    pub written: Option<u64>,
    /// Call [`machine::Session::resume`] once `Recorder::has_room` holds again.
    pub room: bool,
    /// Call [`machine::Session::resume`] once no bytes wait for the client's socket.
    pub flushed: bool,
    /// Call [`machine::Session::resume`] when the monotonic clock (`Moment::mono_us`) reaches this.
    pub wake_at_us: Option<u64>,
    /// Call [`machine::Session::take_ask`], find out about the user and password it returns, and tell
    /// [`machine::Session::answer`].
    pub asks: bool,
    /// What is to become of the client's side.
    pub down: End,
    /// What is to become of Redis' side.
    pub up: End,
    /// All records are written into the pen; the connection is over as soon as `down` and `up` are as they are wanted.
    pub done: bool,
}

/// What is to become of one side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// It stays open.
    Open,
    /// What is unsent is sent (under the shell's flush deadline), then it is closed.
    Flush,
    /// It is closed at once; what is unsent is dropped.
    Abort,
}
