//! `ravelin scripts`: which scripts were run, and a pin file of those that may be.

use super::{complain, exit};
use crate::policy::scripts::{Pins, ScriptDigest};
use clap::Subcommand;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Arguments of `ravelin scripts`.
#[derive(Debug, clap::Args)]
pub(super) struct ScriptsArgs {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Debug, Subcommand)]
enum Deed {
    /// List the scripts that an audit stream has seen: digest, how often, by which roles, how they ended.
    List {
        /// Files of the audit stream, or `-` for standard input.
        #[arg(required = true, value_name = "AUDIT")]
        streams: Vec<PathBuf>,
        /// Mark those that this file pins.
        #[arg(long, value_name = "FILE")]
        pins: Option<PathBuf>,
    },
    /// Pin the scripts that an audit stream has seen and the pin file does not have yet.
    ///
    /// Run the application for as long as it takes to see all of its scripts (with `scripts = "allow"` in a test, or with
    /// `mode = "shadow"`), then look at what was learned before it is pinned: whatever was run is in it.
    Learn {
        /// Files of the audit stream, or `-` for standard input.
        #[arg(required = true, value_name = "AUDIT")]
        streams: Vec<PathBuf>,
        /// Only what was run by this role. May be repeated.
        #[arg(long, value_name = "NAME")]
        role: Vec<String>,
        /// The pin file; without --write it is only read.
        #[arg(long, value_name = "FILE")]
        pins: Option<PathBuf>,
        /// Append to the pin file instead of printing.
        #[arg(long, requires = "pins")]
        write: bool,
    },
    /// Pin scripts, or libraries for FUNCTION LOAD, by the bytes of their files.
    Pin {
        /// The files, exactly as the application sends them.
        #[arg(required = true, value_name = "SCRIPT")]
        files: Vec<PathBuf>,
        /// The pin file; without --write it is only read.
        #[arg(long, value_name = "FILE")]
        pins: Option<PathBuf>,
        /// Append to the pin file instead of printing.
        #[arg(long, requires = "pins")]
        write: bool,
    },
}

/// What an audit stream says of one script.
#[derive(Debug, Default)]
struct Seen {
    times: u64,
    denied: u64,
    bytes: Option<u64>,
    commands: BTreeMap<String, u64>,
    roles: BTreeMap<String, u64>,
    last: String,
}

/// A failure: the exit code and what to say.
type Fault = (u8, String);

/// Lists or pins; 0 if that was possible, 1 if a stream or script cannot be read, 3 for a pin file that is none.
pub(super) fn main(args: &ScriptsArgs) -> ExitCode {
    match run(&args.deed) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            complain(&format_args!("error: {message}"));
            ExitCode::from(code)
        }
    }
}

fn run(deed: &Deed) -> Result<(), Fault> {
    match deed {
        Deed::List { streams, pins } => {
            let pins = pins.as_ref().map(|path| read_pins(path, false)).transpose()?;
            let mut lines = String::new();
            for (digest, seen) in read_streams(streams, &[])? {
                let known = ScriptDigest::parse(digest.as_bytes());
                let mark = match (&pins, known) {
                    (Some(pins), Some(digest)) if pins.has(digest) => "pinned   ",
                    (Some(_), _) => "not here ",
                    (None, _) => "",
                };
                lines.push_str(&format!("{digest}  {mark}{}\n", told(&seen)));
            }
            print(&lines)
        }
        Deed::Learn { streams, role, pins, write } => {
            let known = pins.as_ref().map(|path| read_pins(path, *write)).transpose()?.unwrap_or_default();
            let mut lines = String::new();
            for (digest, seen) in read_streams(streams, role)? {
                if ScriptDigest::parse(digest.as_bytes()).is_some_and(|digest| !known.has(digest)) {
                    lines.push_str(&format!("{digest}  {}\n", told(&seen)));
                }
            }
            finish(&lines, pins.as_deref().filter(|_| *write))
        }
        Deed::Pin { files, pins, write } => {
            let known = pins.as_ref().map(|path| read_pins(path, *write)).transpose()?.unwrap_or_default();
            let mut lines = String::new();
            for file in files {
                let body = fs::read(file).map_err(|error| unreadable(file, &error))?;
                if body.len() > crate::policy::scripts::BODY_MAX {
                    return Err((
                        exit::FAILURE,
                        format!("{}: a script of more than 1 MiB is not pinned", file.display()),
                    ));
                }
                let digest = ScriptDigest::of(&body);
                if !known.has(digest) {
                    let name: String = file.display().to_string().chars().filter(|c| !c.is_control()).collect();
                    lines.push_str(&format!("{digest}  {name}\n"));
                }
            }
            finish(&lines, pins.as_deref().filter(|_| *write))
        }
    }
}

/// `12 times, 3 denied, 312 bytes, EVAL EVALSHA, role app, last 2026-…`.
fn told(seen: &Seen) -> String {
    let names = |of: &BTreeMap<String, u64>| of.keys().cloned().collect::<Vec<_>>().join(" ");
    let bytes = seen.bytes.map_or(String::new(), |bytes| format!(", {bytes} bytes"));
    let denied = if seen.denied > 0 { format!(", {} denied", seen.denied) } else { String::new() };
    format!(
        "{} times{denied}{bytes}, {}, role {}, last {}",
        seen.times,
        names(&seen.commands),
        names(&seen.roles),
        seen.last
    )
}

/// The scripts of all streams, by digest.
fn read_streams(streams: &[PathBuf], roles: &[String]) -> Result<BTreeMap<String, Seen>, Fault> {
    let mut found: BTreeMap<String, Seen> = BTreeMap::new();
    for path in streams {
        let source: Box<dyn io::Read> = if path.as_os_str() == "-" {
            Box::new(io::stdin().lock())
        } else {
            Box::new(File::open(path).map_err(|error| unreadable(path, &error))?)
        };
        for (number, line) in (1..).zip(BufReader::new(source).split(b'\n')) {
            let line = line.map_err(|error| unreadable(path, &error))?;
            // Most lines are about something else, and need not be read.
            if memchr::memmem::find(&line, b"\"script_sha1\"").is_none() {
                continue;
            }
            let record: Value = serde_json::from_slice(&line).map_err(|error| {
                (exit::FAILURE, format!("{}:{number}: this is no line of an audit stream: {error}", path.display()))
            })?;
            take(&record, roles, &mut found);
        }
    }
    Ok(found)
}

fn take(record: &Value, roles: &[String], found: &mut BTreeMap<String, Seen>) {
    let text = |field: &str| record[field].as_str().unwrap_or_default().to_owned();
    let (digest, role) = (text("script_sha1"), text("role"));
    if text("event") != "command" || !(roles.is_empty() || roles.contains(&role)) {
        return;
    }
    let seen = found.entry(digest).or_default();
    seen.times += 1;
    seen.denied += u64::from(record["rule"].is_string());
    seen.bytes = record["script_bytes"].as_u64().or(seen.bytes);
    let name = match record["sub"].as_str() {
        Some(sub) => format!("{}|{sub}", text("cmd")),
        None => text("cmd"),
    };
    *seen.commands.entry(name).or_default() += 1;
    *seen.roles.entry(role).or_default() += 1;
    seen.last = seen.last.clone().max(text("ts"));
}

/// A pin file; one that is to be written may be missing.
fn read_pins(path: &Path, may_be_missing: bool) -> Result<Pins, Fault> {
    let mut text = String::new();
    match File::open(path) {
        Ok(mut file) => {
            file.read_to_string(&mut text).map_err(|error| unreadable(path, &error))?;
        }
        Err(error) if may_be_missing && error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(unreadable(path, &error)),
    }
    Pins::parse(&text).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(|fault| format!("{}: {fault}", path.display())).collect();
        (exit::CONFIG, faults.join("\n"))
    })
}

fn unreadable(path: &Path, error: &io::Error) -> Fault {
    (exit::FAILURE, format!("{} cannot be read: {error}", path.display()))
}

/// Appends to the pin file, or prints.
fn finish(lines: &str, pins: Option<&Path>) -> Result<(), Fault> {
    let Some(path) = pins else { return print(lines) };
    let unwritable = |error: io::Error| (exit::FAILURE, format!("{} cannot be written: {error}", path.display()));
    let before = fs::read(path).unwrap_or_default();
    // A last line without an end must not run into the first new one.
    let gap = if before.is_empty() || before.ends_with(b"\n") { "" } else { "\n" };
    let mut file = OpenOptions::new().append(true).create(true).open(path).map_err(unwritable)?;
    file.write_all(format!("{gap}{lines}").as_bytes()).map_err(unwritable)?;
    print(&format!("{} pinned in {}\n", lines.lines().count(), path.display()))
}

fn print(text: &str) -> Result<(), Fault> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err((exit::FAILURE, format!("cannot print: {error}")))
        }
        _ => Ok(()),
    }
}
