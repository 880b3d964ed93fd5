//! System calls per command, by strace: exact and free of noise, so the best guard against a slow change.

use super::load::{Load, await_quiet};
use crate::process::{Process, Side, family, find, is_traced};
use crate::results::Metric;
use crate::rig::Rig;
use crate::scenario::Shape;
use crate::targets::Target;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

/// Whether it can be measured here.
pub fn is_possible() -> Result<(), String> {
    find("strace").map(drop).ok_or_else(|| "strace is not installed (apt-get install strace)".to_owned())
}

/// All calls per command, and which.
pub fn measure(rig: &Rig, target: &Target, shape: Shape, window: Duration) -> (Vec<(Metric, f64)>, String) {
    let strace = find("strace").expect("looked for at the start");
    rig.set_value(shape.value);
    await_quiet(rig);
    let load = Load::start(rig, target, shape);
    let pids = family(target.pid(rig));
    let summary = rig.path("strace.txt");
    let mut words = vec!["-c".to_owned(), "-f".to_owned(), "-o".to_owned(), summary.display().to_string()];
    pids.iter().for_each(|pid| words.extend(["-p".to_owned(), pid.to_string()]));
    let mut tracer = Process::start(Side::Load, &strace, &words, rig.path("strace.log"));
    let begin = Instant::now();
    while !pids.iter().all(|pid| is_traced(*pid)) {
        tracer.must_run("strace");
        assert!(
            begin.elapsed() < PATIENCE,
            "strace cannot attach (as root, or with kernel.yama.ptrace_scope=0); it said:\n{}",
            tracer.log()
        );
        thread::sleep(Duration::from_millis(1));
    }
    let before = rig.commands();
    thread::sleep(window);
    let commands = rig.commands().saturating_sub(before).saturating_sub(1);
    tracer.end(Signal::INT);
    load.end();
    assert!(commands > 0, "{}: no command reached Redis under strace", target.name);
    let calls = parse(&fs::read_to_string(&summary).expect("strace's summary"));
    let each = |count: u64| count as f64 / commands as f64;
    let mut sorted: Vec<_> = calls.iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let shown = sorted.iter().filter(|(_, count)| each(**count) >= 0.005);
    let shown: Vec<_> = shown.map(|(name, count)| format!("{name} {:.2}", each(**count))).collect();
    (vec![(Metric::Calls, each(calls.values().sum()))], shown.join(", "))
}

/// `% time  seconds  usecs/call  calls  [errors]  syscall`
fn parse(summary: &str) -> BTreeMap<String, u64> {
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = (*words.last()?).to_owned();
        let _share: f64 = words.first()?.parse().ok()?;
        (name != "total").then_some((name, words.get(3)?.parse().ok()?))
    };
    summary.lines().filter_map(row).collect()
}
