//! One Redis connection's side: what is said before any client's command, the queue of tickets, and whose each reply is.
//!
//! A session hands a lane bytes and a *ticket* (what will end the slot's reply); the lane hands back which bytes of
//! Redis' answer belong to the front ticket and which to nobody (messages, invalidations). It knows nothing of slots,
//! verdicts or clients.
//!
//! MONITOR, SYNC and PSYNC turn what comes down into a [`stream`].
//!
//! Invariant: a frame that no rule below gives to a ticket or to a live subscription is a [`machine::Desync`]; there is
//! no resynchronising.

pub mod greeting;
pub mod machine;
pub mod stream;
pub mod tickets;

pub use machine::{Arrival, Desync, Lane};
pub use stream::Stream;
pub use tickets::{Closes, Own, Ticket};
