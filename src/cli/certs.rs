//! `ravelin certs`: a PKI to begin with.

use std::process::ExitCode;

/// Arguments of `ravelin certs`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Makes what is asked for.
#[must_use]
pub fn main(args: Args) -> ExitCode {
    let Args {} = args;
    todo!("certs-dev")
}
