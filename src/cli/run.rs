//! `ravelin run`: the proxy, in the foreground.

use super::{complain, exit};
use crate::config::Source;
use std::process::ExitCode;

/// Loads the configuration and runs until told to stop.
pub(super) fn main(source: &Source) -> ExitCode {
    match source.load() {
        Err(errors) => {
            complain(&errors);
            ExitCode::from(exit::CONFIG)
        }
        Ok(_settings) => todo!("crate::server::run"),
    }
}
