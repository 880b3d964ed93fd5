//! The differential oracle: random streams, direct and through the proxy, get the same replies byte for byte.
//!
//! One server plays both parts, one after the other: empty, the streams direct, a digest of what they left; empty, the
//! same streams through the proxy, a digest again. So nothing differs that a second server would bring with it (the order
//! of its hash tables). Everything comes from the seed of a case.

#![allow(unreachable_pub, reason = "part of a test binary")]

pub mod generate;
pub mod normalise;
pub mod play;
pub mod report;
