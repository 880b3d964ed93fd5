//! What the integration tests share: a private Redis, a private proxy, clients, and an auditor of what it wrote.

#![allow(dead_code, reason = "every test binary uses its own part of this module")]
#![allow(unreachable_pub, reason = "each test binary is a crate of its own")]

pub mod books;
pub mod client;
pub mod clock;
pub mod credentials;
pub mod far;
pub mod farside;
pub mod flow;
pub mod footprint;
pub mod ledger;
pub mod load;
pub mod near;
pub mod openssl;
pub mod probes;
pub mod process;
pub mod proxied;
pub mod reading;
pub mod redis;
pub mod schema;
pub mod setup;
pub mod stage;
pub mod stub;
pub mod succession;
pub mod tap;
pub mod tunnel;
pub mod twins;
pub mod wire;
