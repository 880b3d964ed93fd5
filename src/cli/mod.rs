//! (room to be filled)

pub mod run;
