//! The load: redis-benchmark on a processor of its own, and what a target costs while it runs.

use super::cost::{Cost, Snapshot};
use super::turns::{Slice, Turn};
use crate::process::{Process, Side, find};
use crate::results::Metric;
use crate::rig::{PASSWORD, Rig};
use crate::scenario::{Shape, Verb};
use crate::targets::Target;
use rustix::process::Signal;
use std::fs::File;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// One suite on all sides, so that it is the ciphers of no library's liking that are compared.
pub const SUITE: &str = "TLS_AES_256_GCM_SHA384";
/// Not measured: connecting, handshakes, the first batches.
const LEAD_IN: Duration = Duration::from_millis(250);
/// For a connection to come about, handshake included, beside all others.
const PATIENCE: Duration = Duration::from_secs(20);
const PATIENCE_PER_CLIENT: Duration = Duration::from_millis(30);
/// So many commands of each place in each pipeline, and all clients are at it: a connection can be counted while its
/// handshake is still under way, and where clients share connections to Redis, counting those tells nothing. Event loops
/// are fair; who comes last has had as many turns as who came first had commands.
const TURNS: u64 = 10;
/// The most connections to Redis that sharing proxies keep.
const SHARED: u64 = 4;
/// How often the audit file is looked at, and from which length on it is emptied.
const TICK: Duration = Duration::from_millis(50);
const AUDIT_MAX: u64 = 32 << 20;

/// One round of a target under a load.
pub fn measure(rig: &Rig, target: &Target, shape: Shape, window: Duration) -> Vec<(Metric, f64)> {
    rig.set_values(shape.keys, shape.value);
    await_quiet(rig);
    let mut load = Load::start(rig, target, shape);
    load.measure(rig, target, window);
    load.end()
}

/// A load generator at work.
pub struct Load {
    generator: Process,
    /// Of all windows so far.
    cost: Cost,
    /// The same, of a target that has an audit stream.
    audit_bytes: Option<u64>,
}

impl Load {
    /// Starts it and waits until all its connections send commands. Of other loads, those that are there are stopped.
    pub fn start(rig: &Rig, target: &Target, shape: Shape) -> Self {
        let (commands, others) = (rig.commands(), rig.connections());
        let mut words: Vec<String> = ["-h", "127.0.0.1", "-q", "-n", "2000000000"].map(str::to_owned).into();
        let mut add = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
        add("-p", target.port.to_string());
        add("-c", shape.clients.to_string());
        add("-d", shape.value.to_string());
        add("-P", shape.pipeline.to_string());
        add("-t", if shape.verb == Verb::Get { "get" } else { "set" }.to_owned());
        if shape.keys > 1 {
            add("-r", shape.keys.to_string());
        }
        if target.auth {
            add("-a", PASSWORD.to_owned());
        }
        if target.tls {
            add("--cacert", rig.ecdsa.file("ca.pem"));
            add("--cert", rig.ecdsa.file("client.pem"));
            add("--key", rig.ecdsa.file("client.key"));
            add("--tls-ciphersuites", SUITE.to_owned());
            words.push("--tls".to_owned());
        }
        let program = find("redis-benchmark").expect("looked for at the start");
        let mut generator = Process::start(Side::Load, &program, &words, rig.path("generator.log"));
        let begin = Instant::now();
        let patience = PATIENCE + PATIENCE_PER_CLIENT * shape.clients;
        let begun = || target.shares || rig.connections() >= others + u64::from(shape.clients);
        let busy = || rig.commands() >= commands + TURNS * u64::from(shape.clients) * u64::from(shape.pipeline);
        while !(begun() && busy()) {
            generator.must_run("redis-benchmark");
            assert!(
                begin.elapsed() < patience,
                "not all of {} clients get through to Redis within {patience:?}; redis-benchmark said: {}\nthe proxy said: {}",
                shape.clients,
                last_lines(&generator.log()),
                target.log().trim_end(),
            );
            thread::sleep(Duration::from_millis(10));
        }
        thread::sleep(LEAD_IN);
        Self { generator, cost: Cost::default(), audit_bytes: target.audit.as_ref().map(|_| 0) }
    }

    /// What commands cost, over a window.
    fn measure(&mut self, rig: &Rig, target: &Target, window: Duration) {
        let mut audit = target.audit.as_deref().map(Audit::follow);
        let begin = Snapshot::take(rig, target);
        while begin.at.elapsed() < window {
            thread::sleep(TICK.min(window.saturating_sub(begin.at.elapsed())));
            audit.iter_mut().for_each(Audit::look);
        }
        let cost = begin.until_now(rig, target);
        self.generator.must_run("redis-benchmark");
        assert!(
            cost.commands > 0,
            "no command reached Redis within {window:?}; redis-benchmark said: {}",
            last_lines(&self.generator.log())
        );
        self.cost.add(&cost);
        self.audit_bytes = self.audit_bytes.zip(audit).map(|(before, audit)| before + audit.end());
    }

    /// Stopped where it is, its connections open.
    pub fn paused(self) -> Self {
        self.generator.signal(Signal::STOP);
        self
    }

    /// Ends it.
    pub fn end(mut self) -> Vec<(Metric, f64)> {
        self.generator.end(Signal::KILL);
        let mut metrics = self.cost.per_command();
        let each = |bytes: u64| bytes as f64 / self.cost.commands.max(1) as f64;
        metrics.extend(self.audit_bytes.map(|bytes| (Metric::AuditBytes, each(bytes))));
        metrics
    }
}

impl Turn for Load {
    fn slice(&mut self, rig: &Rig, target: &Target, slice: Slice) {
        self.generator.signal(Signal::CONT);
        thread::sleep(slice.lead_in);
        self.measure(rig, target, slice.length);
        self.generator.signal(Signal::STOP);
    }

    fn end(self: Box<Self>) -> Vec<(Metric, f64)> {
        Self::end(*self)
    }
}

/// Follows the audit file as it grows, and empties it now and then as a rotation would.
///
/// A fast round writes a gigabyte. Left alone the page cache would grow into memory that a virtual machine has given
/// back to its host, where the first touch of a page costs ten times the writing of it, and no peer pays that.
struct Audit {
    file: File,
    begin: u64,
    emptied: u64,
}

impl Audit {
    fn follow(path: &Path) -> Self {
        let file = File::options().write(true).open(path).expect("the audit file");
        let mut audit = Self { file, begin: 0, emptied: 0 };
        audit.empty();
        audit.begin = audit.len();
        audit.emptied = 0;
        audit
    }

    fn look(&mut self) {
        if self.len() > AUDIT_MAX {
            self.empty();
        }
    }

    /// Bytes written since the beginning, but for the few that come between a look and its emptying.
    fn end(mut self) -> u64 {
        let written = (self.emptied + self.len()).saturating_sub(self.begin);
        self.empty();
        written
    }

    fn empty(&mut self) {
        self.emptied += self.len();
        self.file.set_len(0).expect("emptying the audit file");
    }

    fn len(&self) -> u64 {
        self.file.metadata().map_or(0, |data| data.len())
    }
}

/// Waits until Redis has let the last load's connections go. Those that a proxy shares among its clients stay.
pub fn await_quiet(rig: &Rig) {
    let begin = Instant::now();
    while rig.connections() > SHARED && begin.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(10));
    }
}

/// The last lines of what redis-benchmark printed, each of which overwrites the one before.
fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.split(['\r', '\n']).map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}
