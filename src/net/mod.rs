//! Sockets, threads and time: everything that moves bytes, and decides nothing.
//!
//! ```text
//!  listener ──► worker ──► connection ──► pump ◄──► session
//!  (1 thread)   (n threads) (handshake)    (1 task each)
//! ```
//!
//! * [`listener`]: accepts, asks admission, takes a place ([`permits`]), picks the worker with the fewest connections;
//! * [`worker`]: a thread with everything its connections share ([`desk`]), and a list of them ([`seats`]), each of which it
//!   reaches by a handle ([`control`]);
//! * `preface`: the header of a trusted proxy ([`proxy_protocol`]) and the first record, before a place among the
//!   [`handshakes`] that are under way is taken;
//! * [`connection`]: handshake, identity, role, the way to Redis ([`upstream`]), and then the
//! * [`pump`]: moves bytes and does what [`crate::session::Wants`] says, over what [`side`] asks of its neighbours;
//! * `outbox`, `burst`: what goes to Redis, for many connections by one system call (`aio`), when `carrier` says; `pace`:
//!   when that is worth waiting for, and how the kernel is told (`scheduler`);
//! * [`keeper`]: which Redis is used, and who may connect to it when; [`health`] looks at it, [`upkeep`] makes something of
//!   that in values and virtual time, [`resolve`] knows names;
//! * [`credential`]: whether Redis takes what the proxy authenticates with; [`process`]: a program that is asked something;
//! * [`service`]: what all threads share and a reload swaps; [`clock`] and [`socket`]: the only place for either;
//! * [`caller`]: a client's socket as it was accepted, by TCP or by a Unix socket ([`socket_file`]: that as a file).
//!
//! Invariant: nothing here looks into a byte that passes, and no task is spawned, no lock taken and no clock read for
//! the sake of one command.

mod aio;
mod burst;
pub mod caller;
mod carrier;
pub mod clock;
pub mod connection;
pub mod control;
pub mod credential;
pub mod desk;
pub mod gate;
pub mod handshakes;
pub mod health;
pub mod helper;
pub mod keeper;
pub mod listener;
mod lobby;
mod outbox;
mod pace;
pub mod permits;
mod plain;
mod preface;
pub mod process;
pub mod proxy_protocol;
pub mod pump;
pub mod resolve;
pub mod roster;
mod scheduler;
mod seats;
pub mod service;
pub mod side;
pub mod socket;
pub mod socket_file;
pub mod upkeep;
pub mod upstream;
pub mod worker;
