//! `ravelin audit`: reading the stream.

mod verify;

use clap::Subcommand;
use std::process::ExitCode;

/// Arguments of `ravelin audit`.
#[derive(Debug, clap::Args)]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Debug, Subcommand)]
enum Deed {
    /// Prove that nothing was changed in files of the stream, or name the first line that was.
    ///
    /// Needs an output with `checkpoint`. Exits 0 if everything up to the last checkpoint is proven, 5 if not or if there is
    /// nothing to prove it by. What stands behind the last checkpoint is said, and is no failure: the process may be
    /// running, or was killed.
    Verify(verify::VerifyArgs),
}

/// Does what is asked; see there for exit codes.
pub(super) fn main(args: &AuditArgs) -> ExitCode {
    match &args.deed {
        Deed::Verify(args) => verify::main(args),
    }
}
