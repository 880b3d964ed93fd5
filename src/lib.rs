//! # Ravelin
//!
//! (The map; grows with the rooms.)

pub mod admin;
pub mod audit;
pub mod cli;
pub mod command;
pub mod config;
pub mod drain;
pub mod lane;
pub mod metrics;
pub mod moment;
pub mod net;
pub mod policy;
pub mod resp;
pub mod secret;
pub mod server;
pub mod session;
pub mod tls;
