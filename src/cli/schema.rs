//! `ravelin schema`: what machines are told of our formats.

use super::{complain, exit};
use crate::audit::{outlet::Shape, schema};
use clap::{Subcommand, ValueEnum};
use std::{
    io::{self, ErrorKind, Write as _},
    process::ExitCode,
};

/// Arguments of `ravelin schema`.
#[derive(Debug, clap::Args)]
pub(super) struct SchemaArgs {
    #[command(subcommand)]
    of: Of,
}

#[derive(Debug, Subcommand)]
enum Of {
    /// Print the JSON schema (draft 2020-12) of one line of the audit stream.
    ///
    /// The schema is of this release. Within version 1 of the stream further fields may be added, and none is taken away.
    Audit {
        /// The shape of the output that is to be checked.
        #[arg(long, value_enum, default_value_t = ShapeArg::Full)]
        shape: ShapeArg,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ShapeArg {
    /// `shape = "full"`: every line says everything.
    Full,
    /// `shape = "compact"`: what is the same in a connection's records stands only in its `connection_open`.
    Compact,
}

/// Prints it.
pub(super) fn main(args: &SchemaArgs) -> ExitCode {
    let Of::Audit { shape } = args.of;
    let shape = match shape {
        ShapeArg::Full => Shape::Full,
        ShapeArg::Compact => Shape::Compact,
    };
    match writeln!(io::stdout(), "{:#}", schema::schema(shape)) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format_args!("ravelin: standard output cannot be written: {error}"));
            ExitCode::from(exit::FAILURE)
        }
    }
}
