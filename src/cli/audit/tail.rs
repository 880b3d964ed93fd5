//! `ravelin audit tail`: records as they come, for people.

use super::{
    input::{Followed, Lines, line_start},
    line::{Line, Whose},
    render::Renderer,
    select::{SelectArgs, Selection},
    source_fault,
    whose::Connections,
};
use crate::cli::{
    complain, exit,
    socket::{self, Fault, SocketArgs},
    terminal::{self, Screen},
};
use clap::ColorChoice;
use hyper::Method;
use serde_json::Value;
use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufWriter, IsTerminal as _, Read, Stdout, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};

/// Records shown of a file, unless more are asked for.
const LINES: usize = 10;
/// How much of a file's end is looked at first; eight times as much each time that was not enough.
const WINDOW: u64 = 4 << 20;
/// How often a followed file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Arguments of `ravelin audit tail`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ravelin audit tail -f /var/log/ravelin/audit.jsonl
  ravelin audit tail -f --denied --role billing /var/log/ravelin/audit.jsonl
  ravelin audit tail -n all --slow 5ms --command @write audit.jsonl.1 audit.jsonl
  kubectl logs -f cache-0 -c ravelin | ravelin audit tail -
  ravelin audit tail --live --identity 'cn:app*'
  ravelin audit tail --live --json --denied | jq .cmd")]
pub(super) struct TailArgs {
    /// Files of the stream, oldest first, or `-` for standard input.
    #[arg(value_name = "FILE", required_unless_present = "live")]
    files: Vec<PathBuf>,

    /// Go on with what is appended, also when the file is rotated or truncated.
    #[arg(short, long)]
    follow: bool,

    /// How many records to begin with: a number or `all`. Of files 10, of standard input all.
    #[arg(short = 'n', long, value_name = "LINES", value_parser = how_many)]
    lines: Option<usize>,

    /// Print the lines of the stream as they are.
    #[arg(long)]
    json: bool,

    /// What the running process writes from now on, over its admin socket.
    #[arg(long, conflicts_with_all = ["files", "follow", "lines"])]
    live: bool,

    /// With --live: of this output; without it, of the first.
    #[arg(long, value_name = "NAME", requires = "live")]
    output: Option<String>,

    #[command(flatten)]
    select: SelectArgs,

    #[command(flatten)]
    socket: SocketArgs,
}

fn how_many(text: &str) -> Result<usize, String> {
    if text == "all" { Ok(usize::MAX) } else { text.parse().map_err(|_| "expected a number or `all`".to_owned()) }
}

/// Prints; 0 if all could be read, 1 if not, 3 if the configuration cannot be read that names the socket.
pub(super) fn main(args: &TailArgs, color: ColorChoice) -> ExitCode {
    let mut printer = Printer::new(args, color);
    let done = if args.live { live(args, &mut printer) } else { files(args, &mut printer) };
    let done = done.and_then(|()| printer.flush().map_err(Stop::Output));
    if printer.passed_over > 0 {
        complain(&format_args!("note: {} lines are no audit records and were passed over", printer.passed_over));
    }
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Output(error)) => terminal::printed(Err(error)),
        Err(Stop::Fault(fault)) => socket::failed(&fault),
    }
}

/// Why it ends early.
enum Stop {
    /// Nobody reads what is printed, or it cannot be printed.
    Output(io::Error),
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

fn live(args: &TailArgs, printer: &mut Printer) -> Result<(), Stop> {
    let target = super::live_target(args.output.as_deref());
    let answer = args.socket.ask(Method::GET, &target)?;
    super::learn_live(&args.socket, &mut printer.connections)?;
    stream(&mut Lines::new(answer), "the live stream", usize::MAX, printer)?;
    Err(Stop::Fault((exit::FAILURE, "the process has ended".to_owned())))
}

fn files(args: &TailArgs, printer: &mut Printer) -> Result<(), Stop> {
    let mut last = Last::new(args.lines.unwrap_or(LINES));
    let mut followed = Vec::new();
    for path in &args.files {
        if path.as_os_str() == "-" {
            let stdin = Lines::new(io::stdin().lock());
            stream(&mut { stdin }, "standard input", args.lines.unwrap_or(usize::MAX), printer)?;
            continue;
        }
        let mut file = end_of(path, args.follow, &mut last, printer)?;
        if !args.follow
            && let Some(rest) = file.rest()
        {
            last.take(rest, printer)?;
        }
        printer.passed_over = printer.passed_over.saturating_add(file.too_long());
        followed.push((path, file));
    }
    last.print(printer)?;
    while args.follow && !followed.is_empty() {
        for (path, file) in &mut followed {
            follow(path, file, printer)?;
        }
        printer.flush().map_err(Stop::Output)?;
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Looks at the end of a file, and at as much more of it as it takes to find enough records and whose they are.
fn end_of(path: &Path, follow: bool, last: &mut Last, printer: &mut Printer) -> Result<Followed, Stop> {
    let fault = |error: io::Error| Stop::Fault(source_fault(path, &error));
    let mut file = File::open(path).map_err(fault)?;
    let metadata = file.metadata().map_err(fault)?;
    // What is no regular file is read from its beginning, and cannot be read twice.
    let length = if metadata.is_file() && last.wanted < usize::MAX { metadata.len() } else { 0 };
    let mut window = WINDOW;
    loop {
        let from = line_start(&mut file, length.saturating_sub(window)).map_err(fault)?;
        let mut found = Last::new(last.wanted);
        let before = (std::mem::take(&mut printer.connections), printer.passed_over);
        let mut followed = Followed::open(path, from).map_err(fault)?;
        while let Some(line) = followed.next().map_err(fault)? {
            found.take(line, printer)?;
        }
        let enough = found.lines.len() >= found.wanted && found.lines.iter().all(|line| line.is_told);
        if from == 0 || enough || (follow && last.wanted == 0) {
            last.append(found);
            return Ok(followed);
        }
        (printer.connections, printer.passed_over) = before;
        window = window.saturating_mul(8);
    }
}

fn follow(path: &Path, file: &mut Followed, printer: &mut Printer) -> Result<(), Stop> {
    let fault = |error: io::Error| Stop::Fault(source_fault(path, &error));
    loop {
        while let Some(line) = file.next().map_err(fault)? {
            printer.take(line).map_err(Stop::Output)?;
        }
        if !file.look_around().map_err(fault)? {
            return Ok(());
        }
    }
}

/// Prints the last `wanted` records of a stream; all of them as they come.
fn stream(lines: &mut Lines<impl Read>, name: &str, wanted: usize, printer: &mut Printer) -> Result<(), Stop> {
    let mut last = Last::new(wanted);
    let fault = |error: io::Error| Stop::Fault(source_fault(Path::new(name), &error));
    loop {
        if !lines.has_line() {
            printer.flush().map_err(Stop::Output)?;
        }
        let Some(line) = lines.next().map_err(fault)? else { break };
        last.take(line, printer)?;
    }
    if let Some(rest) = lines.rest() {
        last.take(rest, printer)?;
    }
    printer.passed_over = printer.passed_over.saturating_add(lines.too_long);
    last.print(printer)
}

/// The last records that were asked for.
struct Last {
    wanted: usize,
    lines: VecDeque<Kept>,
}

/// A record that may be printed later.
struct Kept {
    line: Vec<u8>,
    /// Its connection, as it was known when the line came.
    whose: [Option<String>; 4],
    /// Whose it is, is known, or it is nobody's.
    is_told: bool,
}

impl Last {
    const fn new(wanted: usize) -> Self {
        Self { wanted, lines: VecDeque::new() }
    }

    /// Keeps the line if it is asked for; prints it if all are.
    fn take(&mut self, line: &[u8], printer: &mut Printer) -> Result<(), Stop> {
        if self.wanted == usize::MAX {
            return printer.take(line).map_err(Stop::Output);
        }
        printer.select(line, |_, line, parsed, whose| {
            let own = |text: Option<&str>| text.map(str::to_owned);
            self.lines.push_back(Kept {
                line: line.to_vec(),
                whose: [own(whose.service), own(whose.src), own(whose.identity), own(whose.role)],
                is_told: whose.identity.is_some() || parsed.conn().is_none(),
            });
            if self.lines.len() > self.wanted {
                self.lines.pop_front();
            }
        });
        Ok(())
    }

    fn append(&mut self, mut later: Self) {
        self.lines.append(&mut later.lines);
        while self.lines.len() > self.wanted {
            self.lines.pop_front();
        }
    }

    fn print(self, printer: &mut Printer) -> Result<(), Stop> {
        for Kept { line, whose: [service, src, identity, role], .. } in &self.lines {
            let whose = Whose {
                service: service.as_deref(),
                src: src.as_deref(),
                identity: identity.as_deref(),
                role: role.as_deref(),
            };
            printer.print(line, &whose).map_err(Stop::Output)?;
        }
        printer.flush().map_err(Stop::Output)
    }
}

/// Prints the records that are asked for.
struct Printer {
    selection: Selection,
    connections: Connections,
    renderer: Option<Renderer>,
    color: ColorChoice,
    out: BufWriter<Stdout>,
    /// Whether what is printed is seen by a terminal.
    seen: bool,
    text: String,
    passed_over: u64,
}

impl Printer {
    fn new(args: &TailArgs, color: ColorChoice) -> Self {
        let stdout = io::stdout();
        let screen = Screen::of(color, &stdout);
        Self {
            selection: args.select.ready(),
            connections: Connections::default(),
            renderer: (!args.json).then(|| Renderer::new(screen)),
            color,
            seen: stdout.is_terminal(),
            out: BufWriter::with_capacity(64 * 1024, stdout),
            text: String::new(),
            passed_over: 0,
        }
    }

    /// Gives the line to `then` if it is asked for, and learns from it.
    fn select(&mut self, line: &[u8], then: impl FnOnce(&mut Self, &[u8], &Line<'_>, &Whose<'_>)) {
        let Some(parsed) = Line::parse(line) else {
            self.passed_over = self.passed_over.saturating_add(u64::from(!line.trim_ascii().is_empty()));
            return;
        };
        let connections = std::mem::take(&mut self.connections);
        let whose = connections.of(&parsed);
        if self.selection.takes(&parsed, &whose) {
            then(self, line, &parsed, &whose);
        }
        self.connections = connections;
        self.connections.note(&parsed);
    }

    fn take(&mut self, line: &[u8]) -> io::Result<()> {
        let mut printed = Ok(());
        self.select(line, |printer, line, _, whose| printed = printer.print(line, whose));
        printed
    }

    fn print(&mut self, line: &[u8], whose: &Whose<'_>) -> io::Result<()> {
        self.text.clear();
        if let Some(renderer) = &mut self.renderer {
            if let Ok(Value::Object(record)) = serde_json::from_slice(line) {
                renderer.line(&record, whose, &mut self.text);
            }
            return self.out.write_all(self.text.as_bytes());
        }
        if self.seen {
            as_json(&String::from_utf8_lossy(line), &mut self.text);
            self.out.write_all(self.text.as_bytes())?;
        } else {
            self.out.write_all(line)?;
        }
        self.out.write_all(b"\n")
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()?;
        if let Some(renderer) = &mut self.renderer {
            renderer.resize(Screen::of(self.color, self.out.get_ref()));
        }
        Ok(())
    }
}

/// The same JSON with everything escaped that could act on a terminal. A stream's own lines hold nothing of the kind;
/// a file that somebody has changed may.
fn as_json(line: &str, out: &mut String) {
    for c in line.chars() {
        if c.is_ascii_control() {
            // Between values, where alone JSON allows one: within a string it would have been refused.
            out.push(' ');
        } else if crate::audit::hidden(c) {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::as_json;

    #[test]
    fn json_on_a_terminal_stays_the_same_value_and_cannot_act_on_it() {
        let text = "{\"a\":\r\t\"\u{9b}31m \u{202e} plain ключ\"}";
        let mut shown = String::new();
        as_json(text, &mut shown);
        assert_eq!(shown, "{\"a\":  \"\\u009b31m \\u202e plain ключ\"}");
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(text), value(&shown));
    }
}
