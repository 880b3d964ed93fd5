//! `ravelin bans`: who is sent away for wrong passwords, and forgetting it.

use super::{
    socket::{self, SocketArgs},
    terminal::{self, Screen},
};
use clap::{ColorChoice, Subcommand};
use hyper::Method;
use std::{io, process::ExitCode};

/// Arguments of `ravelin bans`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ravelin bans list
  ravelin bans clear 10.2.7.9
  ravelin bans clear --all --socket /run/ravelin/admin.sock")]
pub(super) struct BansArgs {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Debug, Subcommand)]
enum Deed {
    /// List who is sent away, after how many failures, and for how long.
    List {
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Forget a ban, as it is listed or by an address in its network.
    Clear {
        /// Whom to let in again.
        #[arg(value_name = "WHO", required_unless_present = "all", conflicts_with = "all")]
        who: Option<String>,

        /// Everybody.
        #[arg(long)]
        all: bool,

        #[command(flatten)]
        socket: SocketArgs,
    },
}

/// Asks the running process; 0 if it was done, 1 if not, 3 if the configuration cannot be read that names the socket.
pub(super) fn main(args: &BansArgs, color: ColorChoice) -> ExitCode {
    let asked = match &args.deed {
        Deed::List { socket } => socket.page(Method::GET, "/bans"),
        Deed::Clear { who: None, socket, .. } => socket.page(Method::DELETE, "/bans"),
        Deed::Clear { who: Some(who), socket, .. } => {
            socket.page(Method::DELETE, &format!("/bans/{}", socket::escaped(who)))
        }
    };
    match asked {
        Ok(text) => {
            let screen = Screen::of(color, &io::stdout());
            let lines: String = text.lines().map(|line| screen.shown(line) + "\n").collect();
            terminal::printed(terminal::print(&lines))
        }
        Err(fault) => socket::failed(&fault),
    }
}
