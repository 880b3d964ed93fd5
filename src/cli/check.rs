//! `ravelin check`: what a configuration means.

mod audit;
mod facts;
mod text;

use super::{ConfigArgs, coloured, complain, exit};
use clap::ColorChoice;
use std::{
    io::{self, Write as _},
    process::ExitCode,
};

/// Arguments of `ravelin check`.
#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// Print JSON for programs.
    #[arg(long)]
    json: bool,

    /// List every denied command, not only how many.
    #[arg(short, long)]
    verbose: bool,

    /// Do not look whether Redis is there; only files are read.
    #[arg(long)]
    offline: bool,

    /// Print every key of the configuration with its meaning, and exit.
    #[arg(long)]
    reference: bool,
}

/// Prints what the configuration means; 0 if `run` could start with it and no certificate in it has expired, else 3.
pub(super) fn main(args: &CheckArgs, color: ColorChoice) -> ExitCode {
    if args.reference {
        return print(&crate::config::reference());
    }
    let settings = match args.config.source().load() {
        Ok(settings) => settings,
        Err(errors) => {
            complain(&errors);
            return ExitCode::from(exit::CONFIG);
        }
    };
    let mut settings = settings;
    let mut faults = Vec::new();
    if !args.offline
        && let Err(fault) = crate::server::run_password_programs(&mut settings)
    {
        faults.push(fault);
    }
    let mut facts = facts::Facts::gather(&settings, !args.offline && faults.is_empty());
    facts.errors.extend(faults);
    let rendered = if args.json {
        serde_json::to_string_pretty(&facts).map(|json| json + "\n").map_err(io::Error::other)
    } else {
        Ok(text::render(&facts, args.verbose, coloured(color, &io::stdout())))
    };
    let printed = match rendered {
        Ok(rendered) => print(&rendered),
        Err(error) => {
            complain(&format_args!("error: cannot print: {error}"));
            ExitCode::from(exit::FAILURE)
        }
    };
    if facts.errors.is_empty() { printed } else { ExitCode::from(exit::CONFIG) }
}

fn print(what: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(what.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // `ravelin check | head` is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format_args!("error: cannot print: {error}"));
            ExitCode::from(exit::FAILURE)
        }
    }
}
