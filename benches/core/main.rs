//! What one command costs in the core: request parser, catalog, policy, session, reply scanner, audit record. Bytes in,
//! bytes out; no socket, no TLS, no file. `benches/README.md` says how to run it and how to read it.

#![allow(missing_docs, unreachable_pub, reason = "a benchmark is a program, not an interface")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its table and its progress are what it is for")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot go on ends, and nobody feeds it but itself"
)]
#![allow(
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    reason = "it measures time, so it reads clocks, and theirs are never negative"
)]

mod cases;
mod dialogue;
mod instructions;
#[path = "../shared/report.rs"]
mod report;

use cases::Case;
use clap::Parser;
use report::{Progress, Summary, Table};
use std::{process::ExitCode, time::Duration};

/// The limit we set ourselves for one command in the core, both directions, its audit line rendered: 0.2 µs. A TLS
/// record costs 0.6 µs, a message through a socket 1.5 to 6: the core must not show beside them.
const CORE_LIMIT_NS: f64 = 200.0;

/// What one command costs in the core.
#[derive(Parser)]
#[command(name = "core", bin_name = "cargo bench --bench core --")]
struct Arguments {
    /// Only the cases whose name contains this
    filter: Option<String>,
    /// Rounds; every round measures every case once
    #[arg(long, default_value_t = 9)]
    rounds: u32,
    /// Milliseconds per case and round
    #[arg(long, default_value_t = 30)]
    ms: u64,
    /// Count instructions per command under valgrind instead of time: exact, and the same on a busy machine
    #[arg(long)]
    instructions: bool,
    /// Count them, and fail where a count differs from what was agreed on in benches/core/instructions.txt
    #[arg(long, conflicts_with_all = ["filter", "agree"])]
    guard: bool,
    /// Count them, and write them down as what is agreed on
    #[arg(long, conflicts_with = "filter")]
    agree: bool,
    /// Run one case's commands this often and print nothing, for a profiler (with the case's whole name as filter)
    #[arg(long, value_name = "COMMANDS")]
    once: Option<u64>,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = arguments.filter.unwrap_or_default();
    if let Some(commands) = arguments.once {
        return once(&filter, commands);
    }
    let mut cases = cases::all(|name| name.contains(&filter));
    if !arguments.bench {
        // `cargo test --all-targets` comes by here: that every case runs is all that is asked.
        for case in &mut cases {
            (case.run)(1);
        }
        println!("{} cases run; `cargo bench --bench core` measures them", cases.len());
        return ExitCode::SUCCESS;
    }
    if arguments.guard {
        return instructions::guard(&cases);
    }
    if arguments.agree {
        instructions::agree(&cases);
    } else if arguments.instructions {
        instructions::table(&cases);
    } else {
        measure(&mut cases, arguments.rounds.max(1), Duration::from_millis(arguments.ms.max(1)));
    }
    ExitCode::SUCCESS
}

fn once(name: &str, commands: u64) -> ExitCode {
    let mut cases = cases::all(|case| case == name);
    let Some(case) = cases.first_mut() else {
        let names: Vec<_> = cases::all(|_| true).iter().map(|case| case.name).collect();
        eprintln!("no case is called {name:?}; there are: {}", names.join(", "));
        return ExitCode::from(2);
    };
    (case.run)(commands.div_ceil(case.commands));
    ExitCode::SUCCESS
}

/// Every round measures every case, so that a disturbance of a second falls on one round of several cases and not on
/// all rounds of one.
fn measure(cases: &mut [Case], rounds: u32, slice: Duration) {
    let progress = Progress::new();
    progress.say("warming up");
    let passes: Vec<u64> = cases.iter_mut().map(|case| passes_in(case, slice)).collect();
    let mut figures = vec![Vec::new(); cases.len()];
    for round in 1..=rounds {
        for ((case, passes), figures) in cases.iter_mut().zip(&passes).zip(&mut figures) {
            progress.say(&format!("round {round} of {rounds}: {}", case.name));
            let begin = cpu_ns();
            (case.run)(*passes);
            figures.push((cpu_ns() - begin) as f64 / (*passes * case.commands) as f64);
        }
    }
    progress.done();
    let mut table = Table::with_remark(&["ns per command", "median", "min", "max", "of limit", "question"]);
    for (case, figures) in cases.iter().zip(figures) {
        let summary = Summary::of(figures);
        table.row(vec![
            case.name.to_owned(),
            format!("{:.1}", summary.median),
            format!("{:.1}", summary.min),
            format!("{:.1}", summary.max),
            if case.limited { format!("{:.2}", summary.min / CORE_LIMIT_NS) } else { "–".to_owned() },
            case.question.to_owned(),
        ]);
    }
    table.print();
    println!();
    println!("of limit: min over {CORE_LIMIT_NS} ns, our limit for framing + policy + audit of one command.");
}

/// Nanoseconds this thread has been on a processor: a thread that had to wait for one is not charged for it.
fn cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// How many passes fill the slice; finding out warms up caches and branch predictors.
fn passes_in(case: &mut Case, slice: Duration) -> u64 {
    let mut passes = 1;
    loop {
        let begin = cpu_ns();
        (case.run)(passes);
        if u128::from(cpu_ns() - begin) >= slice.as_nanos() {
            return passes;
        }
        passes *= 2;
    }
}
