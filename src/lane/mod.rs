//! One Redis connection.

pub mod greeting;
