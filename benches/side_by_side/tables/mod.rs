//! What was measured, for people to read.

mod others;

use crate::limits;
use crate::report::{Summary, Table};
use crate::results::{Metric, Results};
use crate::rounds::Stage;
use crate::scenario::{Field, Scenario, Work};
use std::time::Duration;

/// Whom the others are set against.
const AGAINST: [&str; 6] = ["stunnel-tcp", "stunnel", "nginx", "envoy", "redis-tls", "direct"];

pub fn plan(stages: &[Stage], estimate: Duration) {
    let minutes = |time: Duration| format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60);
    let mut table = Table::with_remark(&["min:s", "rounds", "seconds", "scenarios: targets"]).texts(0);
    for stage in stages {
        let names: Vec<&str> = stage.scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
        table.row(vec![
            minutes(stage.estimate()),
            stage.rounds.to_string(),
            format!("{:.1}", stage.window.as_secs_f64()),
            format!("{}: {}", names.join(" "), stage.targets.join(" ")),
        ]);
    }
    table.print();
    println!("\nabout {} in all", minutes(estimate));
}

pub fn print(scenarios: &[Scenario], results: &Results, audit_place: &str) {
    let loads = |field| -> Vec<&Scenario> {
        let fits = |scenario: &&Scenario| matches!(scenario.work, Work::Load(_)) && scenario.field == field;
        scenarios.iter().filter(fits).filter(|scenario| !results.targets(&scenario.name).is_empty()).collect()
    };
    for (field, ratios) in [
        (Field::Peers, true),
        (Field::Few, true),
        (Field::Audit, false),
        (Field::Workers, false),
        (Field::Growth, false),
    ] {
        let scenarios = loads(field);
        if !scenarios.is_empty() {
            costs(&scenarios, results);
        }
        if !scenarios.is_empty() && ratios {
            self::ratios(&scenarios, results, Metric::Cpu);
        }
        if field == Field::Audit {
            scenarios.iter().for_each(|scenario| audit(scenario, results));
            if !scenarios.is_empty() {
                println!("\nThe streams were written to {}.", audit_place);
            }
        }
    }
    others::print(scenarios, results);
    syscalls(scenarios, results);
    for (scenario, target, why) in results.failures() {
        println!("\n{scenario}, {target}: not measured. {why}");
    }
    if let Some(table) = limits::table(results) {
        heading("Limits, beside the same round's figures");
        table.print();
    }
}

pub fn heading(text: &str) {
    println!("\n{text}\n");
}

/// A scenario is named on the first of its lines.
fn title(at: usize, scenario: &Scenario) -> String {
    if at == 0 { scenario.title() } else { String::new() }
}

fn quartiles(summary: Summary) -> String {
    format!("{:.2} – {:.2}", summary.lower, summary.upper)
}

fn costs(scenarios: &[&Scenario], results: &Results) {
    heading("CPU time per command, µs: medians of all rounds");
    let mut table = Table::new(&["", "", "proxy", "Redis", "sum", "quartiles", "1000/s"]).texts(2);
    for scenario in scenarios {
        for (at, target) in results.targets(&scenario.name).into_iter().enumerate() {
            let of = |metric| results.summary(&scenario.name, target, metric);
            let median = |metric, digits: usize, unit: f64| {
                of(metric).map_or_else(|| "–".to_owned(), |figure| format!("{:.digits$}", figure.median / unit))
            };
            table.row(vec![
                title(at, scenario),
                target.to_owned(),
                median(Metric::CpuProxy, 2, 1.0),
                median(Metric::CpuRedis, 2, 1.0),
                median(Metric::Cpu, 2, 1.0),
                of(Metric::Cpu).map(quartiles).unwrap_or_default(),
                median(Metric::PerSecond, 1, 1000.0),
            ]);
        }
    }
    table.print();
}

fn ratios(scenarios: &[&Scenario], results: &Results, metric: Metric) {
    heading("Ratios of the sums of the same round: median (lower – upper quartile)");
    let measured =
        |peer: &&str| scenarios.iter().any(|scenario| !results.rounds(&scenario.name, peer, metric).is_empty());
    let against: Vec<&str> = AGAINST.into_iter().filter(measured).collect();
    let mut heads = vec![String::new(); 2];
    heads.extend(against.iter().map(|peer| format!("× {peer}")));
    let mut table = Table::new(&heads.iter().map(String::as_str).collect::<Vec<_>>()).texts(2);
    for scenario in scenarios {
        for (at, target) in results.targets(&scenario.name).into_iter().enumerate() {
            let mut row = vec![title(at, scenario), target.to_owned()];
            row.extend(against.iter().map(|peer| match results.ratio(&scenario.name, target, peer, metric) {
                Some(_) if *peer == target => "1".to_owned(),
                Some(ratio) => format!("{:.2} ({})", ratio.median, quartiles(ratio)),
                None => "–".to_owned(),
            }));
            table.row(row);
        }
    }
    table.print();
}

/// What each way of auditing adds to a command, and how much it writes.
fn audit(scenario: &Scenario, results: &Results) {
    heading(&format!("{}: what the audit stream adds to a command of the same round, µs", scenario.title()));
    let mut table = Table::new(&["less ravelin-off", "proxy", "Redis", "sum", "quartiles", "B/record", "MB/s"]);
    for target in results.targets(&scenario.name) {
        let of = |metric| results.summary(&scenario.name, target, metric).map_or(0.0, |figure| figure.median);
        let more = |metric| {
            let more = results.difference(&scenario.name, target, "ravelin-off", metric);
            more.map_or_else(|| "–".to_owned(), |more| format!("{:.2}", more.median))
        };
        let Some(added) = results.difference(&scenario.name, target, "ravelin-off", Metric::Cpu) else { continue };
        if target != "ravelin-off" {
            table.row(vec![
                target.to_owned(),
                more(Metric::CpuProxy),
                more(Metric::CpuRedis),
                format!("{:.2}", added.median),
                quartiles(added),
                format!("{:.0}", of(Metric::AuditBytes)),
                format!("{:.1}", of(Metric::AuditBytes) * of(Metric::PerSecond) / 1e6),
            ]);
        }
    }
    table.print();
}

fn syscalls(scenarios: &[Scenario], results: &Results) {
    let counted: Vec<&Scenario> =
        scenarios.iter().filter(|scenario| matches!(scenario.work, Work::Syscalls(_))).collect();
    if counted.is_empty() {
        return;
    }
    heading("System calls per command (of direct and redis-tls: Redis' own)");
    let mut table = Table::with_remark(&["", "", "all", "of them"]).texts(2);
    for scenario in counted {
        for (at, target) in results.targets(&scenario.name).into_iter().enumerate() {
            let calls = results.summary(&scenario.name, target, Metric::Calls).map_or(0.0, |figure| figure.median);
            let note = results.note_of(&scenario.name, target).to_owned();
            table.row(vec![title(at, scenario), target.to_owned(), format!("{calls:.2}"), note]);
        }
    }
    table.print();
}
