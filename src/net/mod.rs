//! Sockets, threads and time: everything that moves bytes, and decides nothing.
//!
//! ```text
//!  listener ──► worker ──► connection ──► pump ◄──► session
//!  (1 thread)   (n threads) (handshake)    (1 task each)
//! ```
//!
//! * [`listener`]: accepts, asks admission, takes a place ([`permits`]), picks the worker with the fewest connections;
//! * [`worker`]: a thread with everything its connections share ([`desk`]) and a list of them ([`seats`]);
//! * [`connection`]: handshake, identity, role, the way to Redis ([`upstream`]), and then the
//! * [`pump`]: moves bytes and does what [`crate::session::Wants`] says, over what [`side`] asks of its neighbours;
//! * [`credential`]: whether Redis takes what the proxy authenticates with; [`process`]: a program that is asked something;
//! * [`service`]: what all threads share and a reload swaps; [`clock`] and [`socket`]: the only place for either.
//!
//! Invariant: nothing here looks into a byte that passes, and no task is spawned, no lock taken and no clock read for
//! the sake of one command.

pub mod clock;
pub mod connection;
pub mod credential;
pub mod desk;
pub mod gate;
pub mod helper;
pub mod listener;
mod outbox;
pub mod permits;
pub mod process;
pub mod pump;
pub mod roster;
mod seats;
pub mod service;
pub mod side;
pub mod socket;
pub mod upstream;
pub mod worker;
