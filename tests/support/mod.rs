//! What the integration tests share: a private Redis, and a plain client that hides nothing of the wire.

#![allow(dead_code, reason = "every test binary uses its own part of this module")]
#![allow(unreachable_pub, reason = "each test binary is a crate of its own")]

pub mod probes;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod stage;
pub mod wire;
