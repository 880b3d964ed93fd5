//! The configuration: the file as typed, what it means, and what is wrong with it.

pub mod settings;
