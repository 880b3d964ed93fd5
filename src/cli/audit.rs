//! `ravelin audit`: reading the stream.

mod input;
mod line;
mod plot;
mod render;
mod report;
mod select;
mod sketch;
mod stats;
mod tail;
mod tally;
mod verify;
mod whose;
mod words;

use super::{
    exit,
    socket::{Fault, SocketArgs, escaped},
};
use clap::{ColorChoice, Subcommand};
use hyper::Method;
use line::Whose;
use serde_json::Value;
use std::{io, path::Path, process::ExitCode};
use whose::Connections;

/// Arguments of `ravelin audit`.
#[derive(Debug, clap::Args)]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Debug, Subcommand)]
enum Deed {
    /// Show records: the last ones, and more as they come.
    ///
    /// Understands lines of either shape (`full`, `compact`). Lines of something else, as a pod's merged log has, are
    /// passed over and counted at the end.
    Tail(tail::TailArgs),
    /// Sum records up: who, which commands, what was denied, what was slow or large, and when.
    ///
    /// Takes a bounded amount of memory however long the stream is. Where there are too many names to count each, the most
    /// frequent are still found, and it is said by how much a count may be too low.
    Stats(stats::StatsArgs),
    /// Prove that nothing was changed in files of the stream, or name the first line that was.
    ///
    /// Needs an output with `checkpoint`. Exits 0 if everything up to the last checkpoint is proven, 5 if not or if there is
    /// nothing to prove it by. What stands behind the last checkpoint is said, and is no failure: the process may be
    /// running, or was killed.
    Verify(verify::VerifyArgs),
}

/// Does what is asked; see there for exit codes.
pub(super) fn main(args: &AuditArgs, color: ColorChoice) -> ExitCode {
    match &args.deed {
        Deed::Tail(args) => tail::main(args, color),
        Deed::Stats(args) => stats::main(args, color),
        Deed::Verify(args) => verify::main(args),
    }
}

fn source_fault(path: &Path, error: &io::Error) -> Fault {
    (exit::FAILURE, format!("{} cannot be read: {error}", path.display()))
}

/// Whose the connections of the live process are that were opened before anybody looked on: a compact stream will not say.
fn learn_live(socket: &SocketArgs, connections: &mut Connections) -> Result<(), Fault> {
    for line in socket.page(Method::GET, "/conns")?.lines() {
        let row: Value = serde_json::from_str(line).unwrap_or_default();
        let text = |field: &str| row.get(field).and_then(Value::as_str);
        if let Some(conn) = text("conn") {
            let whose =
                Whose { service: text("service"), src: text("src"), identity: text("identity"), role: text("role") };
            connections.learn(conn, &whose);
        }
    }
    Ok(())
}

/// What the admin socket is asked for, to have the lines of an output as they are written.
fn live_target(output: Option<&str>) -> String {
    output.map_or_else(|| "/audit".to_owned(), |name| format!("/audit?output={}", escaped(name)))
}
