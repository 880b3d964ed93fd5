//! `ravelin reload`: has the running proxy read everything anew, and says what came of it.

use super::{
    exit,
    socket::{self, SocketArgs},
    terminal::{self, Screen},
};
use clap::ColorChoice;
use serde_json::Value;
use std::{io, process::ExitCode, time::Duration};

/// How long a reload may take: the programs that print secrets have a minute each, all at once.
const PATIENCE: Duration = Duration::from_secs(160);

/// Arguments of `ravelin reload`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Prints what is different now, a line each; secrets are only said to have changed. Exits 0 if the new configuration is in
force, 3 if the old one is kept, with why on standard error, 1 if nobody could be asked.

Examples:
  ravelin reload
  ravelin reload --socket /run/ravelin/admin.sock")]
pub(super) struct ReloadArgs {
    #[command(flatten)]
    socket: SocketArgs,

    /// Print the answer as it came: one JSON object.
    #[arg(long)]
    json: bool,
}

/// Asks the running process.
pub(super) fn main(args: &ReloadArgs, color: ColorChoice) -> ExitCode {
    let (done, text) = match args.socket.order("/reload", PATIENCE) {
        Ok(answer) => answer,
        Err(fault) => return socket::failed(&fault),
    };
    let code = if done { ExitCode::SUCCESS } else { ExitCode::from(exit::CONFIG) };
    let answer: Value = serde_json::from_str(&text).unwrap_or_default();
    if args.json {
        // A pipe that nobody reads changes nothing about what was done.
        let _ = terminal::print(&format!("{}\n", text.trim_end()));
        return code;
    }
    if !done {
        let reason = answer.get("reason").and_then(Value::as_str).unwrap_or(&text);
        let screen = Screen::of(color, &io::stderr());
        let shown: Vec<String> = reason.lines().map(|line| screen.shown(line)).collect();
        super::complain(&format_args!("not reloaded, the old configuration is in force:\n{}", shown.join("\n")));
        return code;
    }
    let screen = Screen::of(color, &io::stdout());
    let changes = answer.get("changes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut lines = match changes.len() {
        0 => "reloaded: nothing is different\n".to_owned(),
        1 => "reloaded: 1 change\n".to_owned(),
        count => format!("reloaded: {count} changes\n"),
    };
    for change in changes.iter().filter_map(Value::as_str) {
        lines.push_str(&format!("  {}\n", screen.shown(change)));
    }
    let _ = terminal::print(&lines);
    code
}
