//! The whole proxy beside its peers, in one run. `benches/README.md` says how to run it, how to read it, and what is
//! noise.
//!
//! [`scenario`] names what can be measured, [`targets`] what is compared, [`work`] has a module for each kind of
//! measurement; [`rounds`] brings them in order and writes every figure into [`results`], from which [`tables`],
//! [`limits`] and [`picture`] are drawn.

#![allow(missing_docs, unreachable_pub, reason = "a benchmark is a program, not an interface")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its table and its progress are what it is for")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot go on ends and says why, and nobody feeds it but itself"
)]
#![allow(clippy::disallowed_methods, reason = "it measures time, so it reads the clock")]

mod arguments;
mod client;
mod compare;
mod interrupt;
mod json;
mod limits;
mod picture;
mod process;
#[path = "../shared/report.rs"]
mod report;
mod results;
mod rig;
mod rounds;
mod scenario;
mod tables;
mod targets;
mod work;

use arguments::Arguments;
use clap::Parser;
use results::Results;
use rig::Rig;
use rounds::{Clock, Stage};
use scenario::Work;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !arguments.bench {
        // `cargo test --all-targets` comes by here.
        println!("`cargo bench --bench side_by_side` measures; nothing done");
        return ExitCode::SUCCESS;
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let mut scenarios = arguments.scenarios()?;
    if let Some(name) = arguments.targets.iter().find(|name| !targets::names().contains(&name.as_str())) {
        return Err(format!("there is no target {name:?}: there are {}", targets::names().join(", ")));
    }
    let envoy = targets::find_envoy(arguments.envoy.as_deref());
    let missing = targets::missing(envoy.as_ref());
    let asked = |name: &str| arguments.targets.is_empty() || arguments.targets.iter().any(|target| target == name);
    for (name, why) in missing.iter().filter(|(name, _)| asked(name)) {
        println!("{name} is left out: {why}");
    }
    if let Err(why) = work::syscalls::is_possible() {
        let before = scenarios.len();
        scenarios.retain(|scenario| !matches!(scenario.work, Work::Syscalls(_)));
        if scenarios.len() < before {
            println!("system calls are left out: {why}");
        }
    }
    let absent: Vec<&'static str> = missing.iter().map(|(name, _)| *name).collect();
    let stages = rounds::plan(scenarios.clone(), arguments, &absent);
    if stages.is_empty() {
        return Err("nothing is left to be measured".to_owned());
    }
    let estimate: Duration = stages.iter().map(Stage::estimate).sum();
    if arguments.plan {
        tables::plan(&stages, estimate);
        return Ok(());
    }
    let before = arguments.compare.as_deref().map(json::read).transpose()?;
    process::raise_file_limit();
    interrupt::watch();
    let rig = Rig::start(arguments.audit_dir.clone());
    let clock = Clock::start(estimate);
    let mut results = Results::default();
    for stage in &stages {
        stage.measure(&rig, envoy.as_ref(), &mut results, &clock);
        // After each stage: what was measured stays if the rest is cut short.
        if let Some(file) = &arguments.json {
            json::write(file, &rig, envoy.as_deref(), arguments, &results)?;
        }
    }
    clock.done();
    tables::print(&scenarios, &results, &rig.audit_place());
    if let Some(before) = &before {
        tables::heading("Medians of the earlier run and of this one");
        compare::table(before, &results).print();
    }
    if let Some(file) = &arguments.picture {
        match picture::draw(&results, arguments.rounds()) {
            Some(svg) => std::fs::write(file, svg).map_err(|error| format!("{}: {error}", file.display()))?,
            None => println!("\nno picture: it shows the scenarios of main, and none of them was measured"),
        }
    }
    Ok(())
}
