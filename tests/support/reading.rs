//! Runs the program as an operator does.

use super::process::{Proxy, program};
use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

/// The admin socket, for `Setup::more`.
pub const SOCKET: &str = "[admin.socket]\npath = \"admin.sock\"\n";

/// What a run came to.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("not killed"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The command line, in a UTF-8 locale, with the proxy's configuration at hand.
pub fn command(proxy: Option<&Proxy>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).env("LC_ALL", "C.UTF-8").env_remove("NO_COLOR");
    if let Some(proxy) = proxy {
        command.env("RAVELIN_CONFIG", proxy.path("ravelin.toml"));
    }
    command
}

/// Runs it to its end, asking this proxy.
pub fn ravelin(proxy: &Proxy, arguments: &[&str]) -> Ran {
    command(Some(proxy), arguments).stdin(Stdio::null()).output().unwrap().into()
}

/// Runs it to its end with this on its standard input.
pub fn ravelin_reading(arguments: &[&str], input: &[u8]) -> Ran {
    let mut child =
        command(None, arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // It may end before it has read all.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output.into()
}
