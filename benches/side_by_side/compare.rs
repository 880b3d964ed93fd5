//! This run beside an earlier one's JSON file.
//!
//! Microseconds of two runs differ with the machine's mood. Where both runs have measured a peer that has not changed
//! meanwhile, the change is therefore told against that peer as well.

use crate::report::Table;
use crate::results::{Metric, Results};
use serde_json::Value;

/// What is compared, and with how many decimals.
const METRICS: [(Metric, usize); 8] = [
    (Metric::Cpu, 2),
    (Metric::CpuMs, 3),
    (Metric::P50, 1),
    (Metric::P99, 1),
    (Metric::Calls, 2),
    (Metric::KibPss, 1),
    (Metric::MibPss, 1),
    (Metric::Ms, 1),
];
/// The peers a change is told against, the first that both runs have.
const PEERS: [&str; 4] = ["nginx", "haproxy", "stunnel", "direct"];

/// What both runs have measured.
pub fn table(before: &Value, results: &Results) -> Table {
    let mut table = Table::new(&["", "", "", "before", "now", "change", "against", "a peer"]).texts(3);
    for scenario in results.scenarios() {
        for target in results.targets(scenario) {
            for (metric, digits) in METRICS {
                let now = |target: &str| results.summary(scenario, target, metric).map(|figure| figure.median);
                let then = |target: &str| median(before, scenario, target, metric);
                let Some((own, earlier)) = now(target).zip(then(target)) else { continue };
                let of_peer = |peer: &'static str| {
                    let (now, then) = now(peer).zip(then(peer)).filter(|_| peer != target)?;
                    Some((peer, own / now / (earlier / then)))
                };
                let against = PEERS.into_iter().find_map(of_peer);
                table.row(vec![
                    scenario.to_owned(),
                    target.to_owned(),
                    metric.name().to_owned(),
                    format!("{earlier:.digits$}"),
                    format!("{own:.digits$}"),
                    change(own / earlier),
                    against.map_or_else(|| "–".to_owned(), |(_, ratio)| change(ratio)),
                    against.map_or_else(String::new, |(peer, _)| format!("({peer})")),
                ]);
            }
        }
    }
    table
}

/// `+3.1 %`; of nothing to nothing, no change.
fn change(ratio: f64) -> String {
    if ratio.is_finite() { format!("{:+.1} %", (ratio - 1.0) * 100.0) } else { "–".to_owned() }
}

fn median(before: &Value, scenario: &str, target: &str, metric: Metric) -> Option<f64> {
    let rows = before.get("figures")?.as_array()?;
    let is = |row: &Value, key: &str, value: &str| row.get(key).and_then(Value::as_str) == Some(value);
    let fits =
        |row: &&Value| is(row, "scenario", scenario) && is(row, "target", target) && is(row, "metric", metric.name());
    rows.iter().find(fits)?.get("median")?.as_f64()
}
