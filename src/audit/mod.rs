//! The audit stream: what is remembered of each command and connection (pure), and where it is written (shell).

pub mod counters;
pub mod encode;
pub mod event;
mod json;
pub mod record;
pub mod sink;
mod stamp;

#[cfg(test)]
mod tests;
