//! The tables of everything that is not CPU per command under full load: a line for each target, a column for each
//! metric.

use super::{heading, quartiles, title};
use crate::report::Table;
use crate::results::{Metric, Results};
use crate::scenario::{Scenario, Work};

/// How a metric is shown.
enum Column {
    /// Its median, divided by a unit, with so many decimals.
    Median(&'static str, Metric, f64, usize),
    /// The quartiles around it.
    Quartiles(Metric),
    /// How many fit into a second of CPU, of a metric in milliseconds.
    PerCpuSecond(Metric),
    /// Its median over another target's, round by round.
    Over(&'static str, Metric),
    /// Its median less another target's, round by round.
    MoreThan(&'static str, Metric),
    /// A part of one, in percent.
    Percent(&'static str, Metric),
}

/// Scenarios with the same columns stand in one table.
pub fn print(scenarios: &[Scenario], results: &Results) {
    use Column::{Median, MoreThan, Over, PerCpuSecond, Percent, Quartiles};
    type Fits = fn(&Work) -> bool;
    let tables: [(&str, Fits, Vec<Column>); 7] = [
        (
            "Latency at a fixed rate, µs from the moment a command was due: medians of all rounds",
            |work| matches!(work, Work::Rate { .. }),
            vec![
                Median("p50", Metric::P50, 1.0, 1),
                MoreThan("direct", Metric::P50),
                Median("p99", Metric::P99, 1.0, 1),
                Quartiles(Metric::P99),
                Over("nginx", Metric::P99),
                Median("p99.9", Metric::P999, 1.0, 1),
                Median("CPU µs/command", Metric::Cpu, 1.0, 1),
            ],
        ),
        (
            "SET of 17,000 bytes from 50 clients that leave Nagle's algorithm on",
            |work| matches!(work, Work::Nagle),
            vec![
                Median("1000/s", Metric::PerSecond, 1000.0, 2),
                Over("stunnel", Metric::PerSecond),
                Median("CPU µs/command", Metric::Cpu, 1.0, 1),
            ],
        ),
        (
            "CPU of proxy and Redis for a connection with one PING, ms",
            |work| matches!(work, Work::Handshakes { .. }),
            vec![
                Median("ms", Metric::CpuMs, 1.0, 3),
                Quartiles(Metric::CpuMs),
                PerCpuSecond(Metric::CpuMs),
                Over("stunnel", Metric::CpuMs),
                Over("nginx", Metric::CpuMs),
                Over("envoy", Metric::CpuMs),
                Over("redis-tls", Metric::CpuMs),
                Percent("resumed", Metric::Resumed),
            ],
        ),
        (
            "Memory per idle TLS connection, KiB",
            |work| matches!(work, Work::Idle { .. }),
            vec![Median("Pss", Metric::KibPss, 1.0, 1), Median("VmRSS", Metric::KibRss, 1.0, 1)],
        ),
        (
            "From exec to the first PING answered over TLS, and memory at rest a second later",
            |work| matches!(work, Work::Start),
            vec![
                Median("ms", Metric::Ms, 1.0, 1),
                Quartiles(Metric::Ms),
                Median("MiB Pss", Metric::MibPss, 1.0, 1),
                Median("MiB VmRSS", Metric::MibRss, 1.0, 1),
            ],
        ),
        (
            "One client with single GETs beside four with 256 in flight each: its latency, µs, and their 1000/s",
            |work| matches!(work, Work::Fairness),
            vec![
                Median("p50", Metric::P50, 1.0, 0),
                Median("p99", Metric::P99, 1.0, 0),
                Quartiles(Metric::P99),
                Median("p99.9", Metric::P999, 1.0, 0),
                Median("1000/s", Metric::PerSecond, 1000.0, 0),
            ],
        ),
        (
            "A storm of clients: until each has its PING answered, ms, and CPU of all",
            |work| matches!(work, Work::Storm { .. }),
            vec![
                Median("all", Metric::Ms, 1.0, 0),
                Quartiles(Metric::Ms),
                Median("p50", Metric::P50, 1000.0, 0),
                Median("p99", Metric::P99, 1000.0, 0),
                Median("CPU ms", Metric::CpuMs, 1.0, 0),
                Median("failed", Metric::Failed, 1.0, 0),
            ],
        ),
    ];
    for (head, fits, columns) in &tables {
        let measured = |scenario: &&Scenario| fits(&scenario.work) && !results.targets(&scenario.name).is_empty();
        let scenarios: Vec<&Scenario> = scenarios.iter().filter(measured).collect();
        if !scenarios.is_empty() {
            heading(head);
            table(&scenarios, columns, results).print();
        }
    }
}

fn table(scenarios: &[&Scenario], columns: &[Column], results: &Results) -> Table {
    let mut heads = vec![String::new(), String::new()];
    heads.extend(columns.iter().map(Column::head));
    heads.push(String::new());
    let mut table = Table::with_remark(&heads.iter().map(String::as_str).collect::<Vec<_>>()).texts(2);
    for scenario in scenarios {
        for (at, target) in results.targets(&scenario.name).into_iter().enumerate() {
            let mut row = vec![title(at, scenario), target.to_owned()];
            row.extend(columns.iter().map(|column| column.cell(&scenario.name, target, results)));
            row.push(results.note_of(&scenario.name, target).to_owned());
            table.row(row);
        }
    }
    table
}

impl Column {
    fn head(&self) -> String {
        match self {
            Self::Median(head, ..) | Self::Percent(head, _) => (*head).to_owned(),
            Self::Quartiles(_) => "quartiles".to_owned(),
            Self::PerCpuSecond(_) => "per CPU second".to_owned(),
            Self::Over(peer, _) => format!("× {peer}"),
            Self::MoreThan(peer, _) => format!("over {peer}"),
        }
    }

    fn cell(&self, scenario: &str, target: &str, results: &Results) -> String {
        let of = |metric| results.summary(scenario, target, metric);
        let text = match self {
            Self::Median(_, metric, unit, digits) => {
                of(*metric).map(|figure| format!("{:.digits$}", figure.median / unit, digits = *digits))
            }
            Self::Quartiles(metric) => of(*metric).map(quartiles),
            Self::PerCpuSecond(metric) => of(*metric).map(|figure| format!("{:.0}", 1000.0 / figure.median)),
            Self::Over(peer, metric) => {
                results.ratio(scenario, target, peer, *metric).map(|figure| format!("{:.2}", figure.median))
            }
            Self::MoreThan(peer, metric) => {
                results.difference(scenario, target, peer, *metric).map(|figure| format!("{:.1}", figure.median))
            }
            Self::Percent(_, metric) => of(*metric).map(|figure| format!("{:.0} %", figure.median * 100.0)),
        };
        text.unwrap_or_else(|| "–".to_owned())
    }
}
