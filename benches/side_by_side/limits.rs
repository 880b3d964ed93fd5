//! What Ravelin is to reach, printed beside what was measured. Nothing fails if a limit is missed: a busy machine must
//! not break a build.

use crate::report::{Summary, Table};
use crate::results::{Metric, Results};

/// What a figure is set against.
#[derive(Clone, Copy)]
enum Measure {
    /// Over that target's figure of the same round.
    Over(&'static str),
    /// More than that target's figure of the same round.
    MoreThan(&'static str),
    /// Over the same target's median of another scenario.
    OverScenario(&'static str),
    /// By itself.
    Alone,
}

#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

struct Limit {
    scenario: &'static str,
    target: &'static str,
    metric: Metric,
    measure: Measure,
    bound: Bound,
    unit: &'static str,
}

/// Against stunnel, nginx, Envoy and Redis' own TLS, audit off. The limits over stunnel were drawn from one that reaches
/// Redis through its port; one that has its Unix socket is set beside the same figures.
const PEERS: [&[&str]; 4] = [&["stunnel-tcp", "stunnel"], &["nginx"], &["envoy"], &["redis-tls"]];
const ROWS: [(&str, [f64; 4]); 5] = [
    ("get64x1", [0.42, 0.75, 1.2, 1.45]),
    ("set64x1", [0.42, 0.75, 1.2, 1.45]),
    ("get64x16", [0.46, 0.90, 0.52, 1.5]),
    ("set64x16", [0.46, 0.90, 0.52, 1.5]),
    ("get16kx1", [0.42, 0.70, 0.9, 1.1]),
];

/// What the audit stream may add to a command, in µs.
const AUDIT: [(&str, &str, f64); 13] = [
    ("get64x1", "ravelin", 0.3),
    ("set64x1", "ravelin", 0.3),
    ("get64x16", "ravelin", 0.25),
    ("set64x16", "ravelin", 0.25),
    ("get16kx1", "ravelin", 0.3),
    ("audit-x1", "ravelin", 0.3),
    ("audit-x1", "ravelin-compact", 0.15),
    ("audit-x1", "ravelin-chained", 0.45),
    ("audit-x1", "ravelin-compact-chained", 0.30),
    ("audit-x16", "ravelin", 0.25),
    ("audit-x16", "ravelin-compact", 0.15),
    ("audit-x16", "ravelin-chained", 0.45),
    ("audit-x16", "ravelin-compact-chained", 0.30),
];

fn all() -> Vec<Limit> {
    use Bound::{AtLeast, AtMost};
    use Measure::{Alone, MoreThan, Over, OverScenario};
    let of_row = |(scenario, bounds): (&'static str, [f64; 4])| {
        let peers =
            PEERS.into_iter().zip(bounds).flat_map(|(peers, bound)| peers.iter().map(move |peer| (*peer, bound)));
        peers.map(move |(peer, bound)| Limit {
            scenario,
            target: "ravelin-off",
            metric: Metric::Cpu,
            measure: Over(peer),
            bound: AtMost(bound),
            unit: "",
        })
    };
    let of_audit = |(scenario, target, bound): (&'static str, &'static str, f64)| Limit {
        scenario,
        target,
        metric: Metric::Cpu,
        measure: MoreThan("ravelin-off"),
        bound: AtMost(bound),
        unit: " µs",
    };
    let other =
        |(scenario, target, metric, measure, bound, unit)| Limit { scenario, target, metric, measure, bound, unit };
    let others = [
        ("syscalls-x1", "ravelin-off", Metric::Calls, Alone, AtMost(4.2), ""),
        ("syscalls-x1", "ravelin", Metric::Calls, Alone, AtMost(4.25), ""),
        ("syscalls-x16", "ravelin-off", Metric::Calls, Alone, AtMost(0.28), ""),
        ("syscalls-x16", "ravelin", Metric::Calls, Alone, AtMost(0.33), ""),
        ("nagle", "ravelin", Metric::PerSecond, Over("stunnel"), AtLeast(10.0), ""),
        ("rate-c50", "ravelin", Metric::P99, Over("nginx"), AtMost(1.0), ""),
        ("rate-c1", "ravelin", Metric::P50, MoreThan("direct"), AtMost(15.0), " µs"),
        ("handshake-ecdsa", "ravelin", Metric::CpuMs, Over("nginx"), AtMost(0.35), ""),
        ("resume-ecdsa", "ravelin", Metric::CpuMs, Over("nginx"), AtMost(0.45), ""),
        ("idle-10000", "ravelin", Metric::KibPss, Alone, AtMost(12.0), " KiB"),
        ("start", "ravelin", Metric::Ms, Alone, AtMost(50.0), " ms"),
        ("start", "ravelin", Metric::MibPss, Alone, AtMost(10.0), " MiB"),
        ("scale-5000", "ravelin", Metric::Cpu, OverScenario("scale-50"), AtMost(1.5), ""),
    ];
    let rows = ROWS.into_iter().flat_map(of_row).chain(AUDIT.into_iter().map(of_audit));
    rows.chain(others.into_iter().map(other)).collect()
}

/// Every scenario that a limit is about.
#[allow(dead_code, reason = "for the test that they all exist")]
pub fn scenarios() -> Vec<&'static str> {
    let of = |limit: Limit| match limit.measure {
        Measure::OverScenario(other) => vec![limit.scenario, other],
        _ => vec![limit.scenario],
    };
    all().into_iter().flat_map(of).collect()
}

impl Limit {
    /// What was measured of it, if it was.
    fn measured(&self, results: &Results) -> Option<Summary> {
        let Self { scenario, target, metric, .. } = *self;
        match self.measure {
            Measure::Alone => results.summary(scenario, target, metric),
            Measure::Over(other) => results.ratio(scenario, target, other, metric),
            Measure::MoreThan(other) => results.difference(scenario, target, other, metric),
            Measure::OverScenario(other) => {
                let (own, other) = (results.rounds(scenario, target, metric), results.summary(other, target, metric)?);
                (!own.is_empty()).then(|| Summary::of(own.iter().map(|own| own / other.median)))
            }
        }
    }

    fn what(&self) -> String {
        let metric = match self.metric {
            Metric::Cpu => "CPU per command",
            Metric::CpuMs => "CPU per handshake",
            Metric::Calls => "system calls per command",
            Metric::PerSecond => "commands per second",
            Metric::P50 => "p50",
            Metric::P99 => "p99",
            Metric::KibPss => "memory per connection",
            Metric::MibPss => "memory at rest",
            Metric::Ms => "first PING answered",
            _ => self.metric.name(),
        };
        match self.measure {
            Measure::Over(other) => format!("{metric} × {other}"),
            Measure::MoreThan(other) => format!("{metric} over {other}"),
            Measure::OverScenario(other) => format!("{metric} × {other}"),
            Measure::Alone => metric.to_owned(),
        }
    }

    /// Said in a word.
    fn verdict(&self, median: f64) -> String {
        let (kept, by) = match self.bound {
            Bound::AtMost(most) => (median <= most, (median - most) / most),
            Bound::AtLeast(least) => (median >= least, (least - median) / least),
        };
        if kept { "kept".to_owned() } else { format!("MISSED by {:.0} %", (by * 100.0).max(1.0)) }
    }
}

/// The limits of what was measured; none if nothing was.
pub fn table(results: &Results) -> Option<Table> {
    let mut table =
        Table::with_remark(&["limit", "target", "what", "limit", "measured", "lower – upper quartile", "verdict"])
            .texts(3);
    let mut any = false;
    for limit in all() {
        let Some(found) = limit.measured(results) else { continue };
        any = true;
        let (sign, bound) = match limit.bound {
            Bound::AtMost(most) => ("≤", most),
            Bound::AtLeast(least) => ("≥", least),
        };
        table.row(vec![
            limit.scenario.to_owned(),
            limit.target.to_owned(),
            limit.what(),
            format!("{sign} {bound:.2}{}", limit.unit),
            format!("{:.2}{}", found.median, limit.unit),
            format!("{:.2} – {:.2}", found.lower, found.upper),
            limit.verdict(found.median),
        ]);
    }
    any.then_some(table)
}
