//! What was measured: of each scenario, target and metric a figure per round. Tables, limits, the picture and the JSON
//! file are all drawn from here.

use crate::report::Summary;
use serde_json::{Value, json};

/// What a figure tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Bytes of audit stream per command.
    AuditBytes,
    /// Microseconds of CPU per command: proxy and Redis together, the proxy alone, Redis alone.
    Cpu,
    CpuProxy,
    CpuRedis,
    /// Milliseconds of CPU of proxy and Redis: per handshake, or for all of a storm.
    CpuMs,
    /// Commands per second.
    PerSecond,
    /// Latencies, in microseconds.
    P50,
    P99,
    P999,
    /// KiB of memory per connection, shared pages divided (Pss), and as VmRSS counts them.
    KibPss,
    KibRss,
    /// MiB of memory of a whole process, the same two ways.
    MibPss,
    MibRss,
    /// Milliseconds on the clock.
    Ms,
    /// The part of connections that resumed a session, 0 to 1.
    Resumed,
    /// Connections that were not served.
    Failed,
    /// System calls per command.
    Calls,
}

impl Metric {
    /// Its name in the JSON file, with the unit last.
    pub fn name(self) -> &'static str {
        match self {
            Self::AuditBytes => "audit_bytes_per_command",
            Self::Cpu => "cpu_per_command_us",
            Self::CpuProxy => "cpu_proxy_per_command_us",
            Self::CpuRedis => "cpu_redis_per_command_us",
            Self::CpuMs => "cpu_ms",
            Self::PerSecond => "commands_per_s",
            Self::P50 => "p50_us",
            Self::P99 => "p99_us",
            Self::P999 => "p999_us",
            Self::KibPss => "pss_per_connection_kib",
            Self::KibRss => "rss_per_connection_kib",
            Self::MibPss => "pss_mib",
            Self::MibRss => "rss_mib",
            Self::Ms => "elapsed_ms",
            Self::Resumed => "resumed_share",
            Self::Failed => "failed_connections",
            Self::Calls => "system_calls_per_command",
        }
    }
}

struct Row {
    scenario: String,
    target: String,
    metric: Metric,
    rounds: Vec<f64>,
}

/// All figures of a run.
#[derive(Default)]
pub struct Results {
    rows: Vec<Row>,
    notes: Vec<(String, String, String)>,
    failures: Vec<(String, String, String)>,
}

impl Results {
    /// Adds a round's figure.
    pub fn push(&mut self, scenario: &str, target: &str, metric: Metric, figure: f64) {
        let known = |row: &&mut Row| row.scenario == scenario && row.target == target && row.metric == metric;
        if let Some(row) = self.rows.iter_mut().find(known) {
            row.rounds.push(figure);
        } else {
            let (scenario, target) = (scenario.to_owned(), target.to_owned());
            self.rows.push(Row { scenario, target, metric, rounds: vec![figure] });
        }
    }

    /// Adds something that is not a figure, such as the system calls a command is made of.
    pub fn note(&mut self, scenario: &str, target: &str, note: String) {
        self.notes.push((scenario.to_owned(), target.to_owned(), note));
    }

    pub fn note_of(&self, scenario: &str, target: &str) -> &str {
        let known = |(of, by, _): &&(String, String, String)| of == scenario && by == target;
        self.notes.iter().find(known).map_or("", |(_, _, note)| note)
    }

    /// A target could not be measured in a scenario: what it has so far there is forgotten, since rounds of which one is
    /// missing cannot be set side by side.
    pub fn fail(&mut self, scenario: &str, target: &str, why: String) {
        self.rows.retain(|row| row.scenario != scenario || row.target != target);
        self.failures.push((scenario.to_owned(), target.to_owned(), why));
    }

    pub fn has_failed(&self, scenario: &str, target: &str) -> bool {
        self.failures.iter().any(|(of, by, _)| of == scenario && by == target)
    }

    /// Scenario, target, and why.
    pub fn failures(&self) -> &[(String, String, String)] {
        &self.failures
    }

    /// The figures of all rounds, in the order of the rounds; none if it was not measured.
    pub fn rounds(&self, scenario: &str, target: &str, metric: Metric) -> &[f64] {
        let known = |row: &&Row| row.scenario == scenario && row.target == target && row.metric == metric;
        self.rows.iter().find(known).map_or(&[], |row| &row.rounds)
    }

    pub fn summary(&self, scenario: &str, target: &str, metric: Metric) -> Option<Summary> {
        let rounds = self.rounds(scenario, target, metric);
        (!rounds.is_empty()).then(|| Summary::of(rounds.iter().copied()))
    }

    /// A target's figure over another's of the same round.
    pub fn ratio(&self, scenario: &str, target: &str, over: &str, metric: Metric) -> Option<Summary> {
        self.pairs(scenario, target, over, metric, |own, other| own / other)
    }

    /// A target's figure less another's of the same round.
    pub fn difference(&self, scenario: &str, target: &str, less: &str, metric: Metric) -> Option<Summary> {
        self.pairs(scenario, target, less, metric, |own, other| own - other)
    }

    fn pairs(
        &self,
        scenario: &str,
        target: &str,
        other: &str,
        metric: Metric,
        join: fn(f64, f64) -> f64,
    ) -> Option<Summary> {
        let (own, other) = (self.rounds(scenario, target, metric), self.rounds(scenario, other, metric));
        let joined: Vec<f64> = own.iter().zip(other).map(|(own, other)| join(*own, *other)).collect();
        (!joined.is_empty()).then(|| Summary::of(joined))
    }

    /// The scenarios that were measured, in the order in which they came first.
    pub fn scenarios(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !names.contains(&row.scenario.as_str()) {
                names.push(&row.scenario);
            }
        }
        names
    }

    /// The targets that were measured in a scenario, in the order in which they came first.
    pub fn targets(&self, scenario: &str) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for row in self.rows.iter().filter(|row| row.scenario == scenario) {
            if !names.contains(&row.target.as_str()) {
                names.push(&row.target);
            }
        }
        names
    }

    /// Every row, for a file that another run can be compared with.
    pub fn json(&self) -> Value {
        let row = |row: &Row| {
            let summary = Summary::of(row.rounds.iter().copied());
            json!({
                "scenario": row.scenario,
                "target": row.target,
                "metric": row.metric.name(),
                "median": summary.median,
                "lower_quartile": summary.lower,
                "upper_quartile": summary.upper,
                "rounds": row.rounds,
            })
        };
        self.rows.iter().map(row).collect()
    }
}
