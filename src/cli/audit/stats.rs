//! `ravelin audit stats`: what the records add up to.

use super::{
    input::Lines,
    line::Line,
    report::{self, Read},
    select::{SelectArgs, Selection, duration},
    source_fault,
    tally::Tally,
    whose::Connections,
};
use crate::cli::{
    socket::{self, Fault, SocketArgs},
    terminal::{self, Screen, bytes},
};
use clap::ColorChoice;
use hyper::Method;
use std::{
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

/// How often a long run says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// Bytes between two looks at the clock.
const PROGRESS_BYTES: u64 = 4 << 20;

/// Arguments of `ravelin audit stats`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ravelin audit stats /var/log/ravelin/audit.jsonl
  ravelin audit stats --since 1h --denied --top 30 audit.jsonl.1 audit.jsonl
  zcat audit.jsonl.*.gz | ravelin audit stats --role billing -
  ravelin audit stats --live --for 30s
  ravelin audit stats --json audit.jsonl | jq '.by_command.top[] | [.name, .p99_us]'")]
pub(super) struct StatsArgs {
    /// Files of the stream, or `-` for standard input.
    #[arg(value_name = "FILE", required_unless_present = "live")]
    files: Vec<PathBuf>,

    /// How many of each list.
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u16).range(1..=1000))]
    top: u16,

    /// Print JSON for programs.
    #[arg(long)]
    json: bool,

    /// Draw with plain characters; as without a UTF-8 locale.
    #[arg(long)]
    ascii: bool,

    /// What the running process writes from now on, over its admin socket.
    #[arg(long, conflicts_with = "files", requires = "time")]
    live: bool,

    /// With --live: for how long.
    #[arg(long = "for", id = "time", value_name = "DURATION", value_parser = duration, requires = "live")]
    time: Option<Duration>,

    /// With --live: of this output; without it, of the first.
    #[arg(long, value_name = "NAME", requires = "live")]
    output: Option<String>,

    #[command(flatten)]
    select: SelectArgs,

    #[command(flatten)]
    socket: SocketArgs,
}

/// Prints; 0 if all could be read, 1 if not, 3 if the configuration cannot be read that names the socket.
pub(super) fn main(args: &StatsArgs, color: ColorChoice) -> ExitCode {
    let top = usize::from(args.top);
    let mut reader = Reader::new(&args.select, top);
    let done = if args.live { live(args, &mut reader) } else { files(&args.files, &mut reader) };
    reader.progress.end();
    if let Err(fault) = done {
        return socket::failed(&fault);
    }
    let read = Read { bytes: reader.bytes, passed_over: reader.passed_over };
    let text = if args.json {
        report::value(&reader.tally, read, top).to_string() + "\n"
    } else {
        let screen = Screen::of(color, &io::stdout());
        report::page(&reader.tally, read, top, Screen { unicode: screen.unicode && !args.ascii, ..screen })
    };
    terminal::printed(terminal::print(&text))
}

fn live(args: &StatsArgs, reader: &mut Reader) -> Result<(), Fault> {
    let mut answer = args.socket.ask(Method::GET, &super::live_target(args.output.as_deref()))?;
    super::learn_live(&args.socket, &mut reader.connections)?;
    answer.stop_after(args.time.unwrap_or_default());
    reader.read(&mut Lines::new(answer), Path::new("the live stream"))
}

fn files(files: &[PathBuf], reader: &mut Reader) -> Result<(), Fault> {
    let lengths = files.iter().filter_map(|path| std::fs::metadata(path).ok()).map(|file| file.len());
    reader.progress.all = lengths.fold(0, u64::saturating_add);
    for path in files {
        if path.as_os_str() == "-" {
            reader.read(&mut Lines::new(io::stdin().lock()), Path::new("standard input"))?;
        } else {
            let file = File::open(path).map_err(|error| source_fault(path, &error))?;
            reader.read(&mut Lines::new(file), path)?;
        }
    }
    Ok(())
}

/// Adds up what is asked for.
struct Reader {
    selection: Selection,
    connections: Connections,
    tally: Tally,
    progress: Progress,
    bytes: u64,
    passed_over: u64,
}

impl Reader {
    fn new(select: &SelectArgs, top: usize) -> Self {
        Self {
            selection: select.ready(),
            connections: Connections::default(),
            tally: Tally::new(top),
            progress: Progress::new(),
            bytes: 0,
            passed_over: 0,
        }
    }

    fn read(&mut self, lines: &mut Lines<impl io::Read>, name: &Path) -> Result<(), Fault> {
        while let Some(line) = lines.next().map_err(|error| source_fault(name, &error))? {
            self.bytes = self.bytes.saturating_add(line.len() as u64).saturating_add(1);
            self.take(line);
            self.progress.at(self.bytes);
        }
        if let Some(rest) = lines.rest() {
            self.bytes = self.bytes.saturating_add(rest.len() as u64);
            self.take(rest);
        }
        self.passed_over = self.passed_over.saturating_add(lines.too_long);
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) {
        let Some(line) = Line::parse(bytes) else {
            self.passed_over = self.passed_over.saturating_add(u64::from(!bytes.trim_ascii().is_empty()));
            return;
        };
        let whose = self.connections.of(&line);
        if self.selection.takes(&line, &whose) {
            self.tally.add(&line, &whose, bytes);
        }
        self.connections.note(&line);
    }
}

/// Says on a terminal how far a long run is.
struct Progress {
    shown: bool,
    seen: bool,
    all: u64,
    next: u64,
    last: Instant,
}

impl Progress {
    fn new() -> Self {
        Self { shown: false, seen: io::stderr().is_terminal(), all: 0, next: PROGRESS_BYTES, last: now() }
    }

    fn at(&mut self, bytes_read: u64) {
        if bytes_read < self.next {
            return;
        }
        self.next = bytes_read.saturating_add(PROGRESS_BYTES);
        if !self.seen || self.last.elapsed() < PROGRESS_EVERY {
            return;
        }
        self.last = now();
        self.shown = true;
        let of = if self.all > 0 { format!(" of {}", bytes(self.all)) } else { String::new() };
        let _ = write!(io::stderr(), "\r\x1b[K{}{of} read", bytes(bytes_read));
    }

    /// Takes the line away again.
    fn end(&self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a command line has no turns whose moment could be handed in")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
#[path = "stats_tests.rs"]
mod tests;
