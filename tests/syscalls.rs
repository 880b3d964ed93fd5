//! How many system calls a command takes, counted by strace: free of noise, so the best guard of what a turn costs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test may fail by panicking, and measures how long others take"
)]

mod support;

use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use support::{
    process::{PATIENCE, Proxy},
    redis::Redis,
};

/// Fifty for each of the two workers.
const CLIENTS: &str = "100";
/// What the file itself may take.
const FILE: f64 = 0.05;
/// Two reads, one write to the client, and a share of the call that writes to Redis for many (`io_submit` and
/// `io_getevents`), of `epoll_wait` and of waking the thread that writes the file.
const ALONE: f64 = 3.5 + FILE;
const PIPELINED: f64 = 0.21 + FILE;

#[test]
fn a_command_takes_no_more_system_calls_than_its_reads_and_writes() {
    let redis = Redis::start();
    let proxy = Proxy::start(&redis);
    for (pipeline, most, commands) in [("1", ALONE, 12_000), ("16", PIPELINED, 40_000)] {
        let (each, table) = count(&redis, &proxy, pipeline, commands);
        println!("×{pipeline}: {each:.3} system calls per command");
        assert!(
            each <= most,
            "×{pipeline}: {each:.3} system calls per command, at most {most:.2} are allowed:\n{table}"
        );
        // Less than this cannot be: then it is the counting that is wrong.
        assert!(each * pipeline.parse::<f64>().unwrap() > 2.9, "×{pipeline}: only {each:.3}?\n{table}");
    }
}

fn count(redis: &Redis, proxy: &Proxy, pipeline: &str, least: u64) -> (f64, String) {
    let (cert, key) = proxy.files_for("app");
    let mut load = Command::new("redis-benchmark");
    load.args(["-h", "127.0.0.1", "-p", &proxy.address().port().to_string(), "--tls"]);
    load.arg("--cacert").arg(proxy.path("ca.crt"));
    load.arg("--cert").arg(proxy.path(&cert)).arg("--key").arg(proxy.path(&key));
    load.args(["-c", CLIENTS, "-P", pipeline, "-n", "1000000000", "-t", "get", "-q"]);
    let load = Running::start("redis-benchmark (package redis-tools)", &mut load);
    let enough = redis.calls_of("get") + 2_000;
    await_that("the load has not begun", || redis.calls_of("get") > enough);

    let summary = proxy.path("strace");
    let pid = proxy.pid().to_string();
    let mut strace = Command::new("strace");
    strace.args(["-c", "-f", "-o"]).arg(&summary).args(["-p", &pid]);
    let mut strace = Running::start("strace", &mut strace);
    await_that("strace cannot attach (as root, or with kernel.yama.ptrace_scope = 0)", || {
        assert!(strace.0.try_wait().unwrap().is_none(), "strace ended at once: it may not attach to this process");
        is_traced(&pid)
    });
    let before = redis.calls_of("get");
    // By the count, not by the clock: a slow machine takes its time.
    await_that("the load has ceased", || redis.calls_of("get") >= before + least);
    let commands = redis.calls_of("get") - before;
    strace.end(Signal::INT);
    drop(load);
    let table = fs::read_to_string(summary).unwrap();
    let calls: u64 = table.lines().filter_map(calls_in).sum();
    // What ran between attaching and the first count, and between the last and the end, is counted too: it is the little
    // by which the figure errs, upwards.
    (calls as f64 / commands as f64, table)
}

/// `% time  seconds  usecs/call  calls  [errors]  syscall`
fn calls_in(line: &str) -> Option<u64> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let _share: f64 = words.first()?.parse().ok()?;
    (*words.last()? != "total").then_some(words.get(3)?.parse().ok()?)
}

/// All of its threads: one that is not would be missing in the count.
fn is_traced(pid: &str) -> bool {
    fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().all(|task| {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        !status.contains("TracerPid:\t0\n")
    })
}

fn await_that(fault: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "{fault}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A helper that is ended whatever becomes of the test.
struct Running(Child);

impl Running {
    fn start(what: &str, command: &mut Command) -> Self {
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(started.unwrap_or_else(|error| panic!("{what} cannot be started: {error}; install it")))
    }

    fn end(&mut self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.0), signal);
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end(Signal::KILL);
    }
}
