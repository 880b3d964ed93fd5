//! The audit stream: what is remembered of each command and connection (pure), and where it is written (shell).

pub mod encode;
pub mod record;
