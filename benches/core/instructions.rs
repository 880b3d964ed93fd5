//! Instructions per command, counted by valgrind: no noise, so a change of one percent is a change. And the guard: the
//! counts as they were agreed on, in `instructions.txt`, and what is said of each that differs.

use crate::{
    cases::Case,
    report::{Progress, Table},
};
use std::{
    fmt::Write as _,
    fs,
    process::{Command, ExitCode, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// A case is run twice, with so many commands and with so many more: start-up is the same in both and falls out.
const FEW: u64 = 1_600;
const MORE: u64 = 4_800;

/// The agreed counts, beside this file.
const AGREED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/core/instructions.txt");
/// What a new line of it allows, in percent.
const ALLOWED: f64 = 3.0;
/// So many times as much is allowed where the counts were agreed on under other conditions.
const ELSEWHERE: f64 = 5.0;

/// What the file says above its lines.
const HEAD: &str = "\
# Instructions per command in the pure core, as agreed on: name, count, percent that it may differ by, either way.
# Compared:  cargo bench --profile release --bench core -- --guard
# Rewritten: cargo bench --profile release --bench core -- --agree   (and the commit says why the counts changed)
";

pub fn table(cases: &[Case]) {
    let mut table = Table::with_remark(&["instructions per command", "count", "question"]);
    for (case, count) in cases.iter().zip(counts(cases)) {
        table.row(vec![case.name.to_owned(), format!("{count:.0}"), case.question.to_owned()]);
    }
    table.print();
}

/// Writes what is counted now over what was agreed on; what a line allows stays.
pub fn agree(cases: &[Case]) {
    let before = Agreed::read();
    let mut text = format!("{HEAD}conditions: {}\n", conditions());
    let width = cases.iter().map(|case| case.name.len()).max().unwrap_or(0);
    for (case, count) in cases.iter().zip(counts(cases)) {
        let allowed = before.line(case.name).map_or(ALLOWED, |line| line.allowed);
        let _ = writeln!(text, "{:width$} {count:>8.0} {allowed:>4}", case.name);
    }
    fs::write(AGREED, text).unwrap_or_else(|error| panic!("{AGREED} cannot be written: {error}"));
    println!("{} counts written to {AGREED}", cases.len());
}

/// Compares with what was agreed on: fails where a count differs by more than its line allows, in either direction, or
/// where a case or a line stands alone.
pub fn guard(cases: &[Case]) -> ExitCode {
    let (agreed, here) = (Agreed::read(), conditions());
    let factor = if agreed.conditions == here { 1.0 } else { ELSEWHERE };
    let mut table = Table::with_remark(&["instructions per command", "agreed", "now", "change", "allowed", ""]);
    let mut faults = 0;
    for (case, count) in cases.iter().zip(counts(cases)) {
        let Some(line) = agreed.line(case.name) else {
            faults += 1;
            let now = format!("{count:.0}");
            table.row(vec![
                case.name.to_owned(),
                "–".to_owned(),
                now,
                "–".to_owned(),
                "–".to_owned(),
                "new".to_owned(),
            ]);
            continue;
        };
        let (change, allowed) = ((count / line.count - 1.0) * 100.0, line.allowed * factor);
        let remark = match change {
            change if change > allowed => "MORE",
            change if change < -allowed => "LESS",
            _ => "",
        };
        faults += usize::from(!remark.is_empty());
        table.row(vec![
            case.name.to_owned(),
            format!("{:.0}", line.count),
            format!("{count:.0}"),
            format!("{change:+.1} %"),
            format!("{allowed:.0} %"),
            remark.to_owned(),
        ]);
    }
    for line in agreed.lines.iter().filter(|line| cases.iter().all(|case| case.name != line.name)) {
        faults += 1;
        let count = format!("{:.0}", line.count);
        let none = || "–".to_owned();
        table.row(vec![line.name.clone(), count, none(), none(), none(), "gone".to_owned()]);
    }
    table.print();
    println!();
    if factor > 1.0 {
        println!("OTHER CONDITIONS: {ELSEWHERE} times as much is allowed as where the counts were agreed on.");
        println!("  agreed under  {}", agreed.conditions);
        println!("  counted under {here}");
    }
    if faults == 0 {
        println!("{} counts are as agreed on.", cases.len());
        return ExitCode::SUCCESS;
    }
    println!("{faults} of {} counts are not as agreed on in benches/core/instructions.txt.", cases.len());
    println!(
        "If that is meant, better or worse: write them (`-- --agree` instead of `-- --guard`), and say why in the commit."
    );
    ExitCode::FAILURE
}

struct Line {
    name: String,
    count: f64,
    allowed: f64,
}

struct Agreed {
    conditions: String,
    lines: Vec<Line>,
}

impl Agreed {
    fn read() -> Self {
        let text = fs::read_to_string(AGREED).unwrap_or_default();
        let mut agreed = Self { conditions: String::new(), lines: Vec::new() };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some(conditions) = line.strip_prefix("conditions: ") {
                conditions.clone_into(&mut agreed.conditions);
                continue;
            }
            let mut words = line.split_whitespace();
            let name = words.next().map(str::to_owned);
            let mut figure = || words.next().and_then(|word| word.parse().ok());
            let (Some(name), Some(count), Some(allowed)) = (name, figure(), figure()) else {
                panic!("{AGREED}: {line:?} is no name, count and percent")
            };
            agreed.lines.push(Line { name, count, allowed });
        }
        agreed
    }

    fn line(&self, name: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.name == name)
    }
}

/// What a count depends on besides the code: the compiler, and what libraries find the processor to be able to do.
fn conditions() -> String {
    let compiler = said(Command::new("rustc").arg("--version"));
    let counter = said(Command::new("valgrind").arg("--version"));
    #[cfg(target_arch = "x86_64")]
    let vectors = if std::is_x86_feature_detected!("avx2") { "avx2" } else { "no avx2" };
    #[cfg(not(target_arch = "x86_64"))]
    let vectors = "its own vectors";
    format!("{compiler}; {}, {vectors}; {counter}", std::env::consts::ARCH)
}

fn said(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{:?} cannot be started: {error}", command.get_program()));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// One after the other for each processor: neighbours do not change a count.
fn counts(cases: &[Case]) -> Vec<f64> {
    let (progress, next) = (Progress::new(), AtomicUsize::new(0));
    // A case itself stays with its thread; what is needed of it is its name and how it counts.
    let jobs: Vec<_> = cases.iter().map(|case| (case.name, case.commands, case.weight)).collect();
    let counted = Mutex::new(vec![0.0; jobs.len()]);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let job = || {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    jobs.get(at).map(|job| (at, *job))
                };
                while let Some((at, (name, commands, weight))) = job() {
                    progress.say(&format!("case {} of {}: {name}", at + 1, jobs.len()));
                    let count = count(name, commands, weight);
                    counted.lock().expect("no counter panicked")[at] = count;
                }
            });
        }
    });
    progress.done();
    counted.into_inner().expect("no counter panicked")
}

fn count(name: &str, commands: u64, weight: u64) -> f64 {
    // A pass of several commands is done whole, so the numbers of commands are made multiples of it.
    let [few, more] = [FEW, MORE].map(|count| (count / weight).div_ceil(commands) * commands);
    (run(name, more) - run(name, few)) as f64 / (more - few) as f64
}

fn run(name: &str, commands: u64) -> u64 {
    let myself = std::env::current_exe().expect("a path to this program");
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(myself)
        .args([name, "--once", &commands.to_string()])
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("valgrind cannot be started ({error}); install it (apt-get install valgrind)"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "valgrind failed ({}):\n{text}", output.status);
    // `==21179== I   refs:      620,604,225`
    let count = text.lines().find_map(|line| {
        let (front, count) = line.split_once("refs:")?;
        front.trim_end().ends_with(" I").then(|| count.trim().replace(',', "").parse().ok())?
    });
    count.unwrap_or_else(|| panic!("valgrind's output names no count:\n{text}"))
}
