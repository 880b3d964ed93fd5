//! What the benchmark `side_by_side` does without a clock: names of scenarios, statistics, tables, limits, the picture. It
//! is a program without a test harness of its own, so its pure modules are tested here.

#![allow(unreachable_pub, dead_code, missing_docs, reason = "modules of a program, of which a test looks at a part")]
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the program's tables")]

#[path = "../benches/side_by_side/compare.rs"]
mod compare;
#[path = "../benches/side_by_side/limits.rs"]
mod limits;
#[path = "../benches/side_by_side/picture.rs"]
mod picture;
#[path = "../benches/shared/report.rs"]
mod report;
#[path = "../benches/side_by_side/results.rs"]
mod results;
#[path = "../benches/side_by_side/scenario.rs"]
mod scenario;

use report::{Summary, Table};
use results::{Metric, Results};
use scenario::{Field, SETS, Scenario, Shape, Verb, Work, parse};

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn a_summary_has_median_and_quartiles_between_neighbours() {
    let summary = Summary::of([4.0, 1.0, 3.0, 2.0]);
    let found = [summary.min, summary.lower, summary.median, summary.upper, summary.max];
    assert_eq!(found, [1.0, 1.75, 2.5, 3.25, 4.0]);
    let summary = Summary::of([9.0, 7.0, 8.0]);
    assert_eq!([summary.lower, summary.median, summary.upper], [7.5, 8.0, 8.5]);
}

#[test]
fn a_summary_of_one_figure_is_that_figure_and_of_none_zero() {
    for (figures, expected) in [(vec![3.0], 3.0), (vec![], 0.0)] {
        let summary = Summary::of(figures);
        let found = [summary.min, summary.lower, summary.median, summary.upper, summary.max];
        assert_eq!(found, [expected; 5]);
    }
}

#[test]
fn a_table_aligns_figures_to_the_right_and_text_to_the_left() {
    let mut table = Table::with_remark(&["what", "", "µs", "of them"]).texts(2);
    table.row(words(&["GET ×16", "nginx", "12.5", "read"]));
    table.row(words(&["", "x", "1.0", "write, read"]));
    let expected = ["what              µs  of them", "GET ×16  nginx  12.5  read", "         x       1.0  write, read"];
    assert_eq!(table.lines(), expected);
}

#[test]
fn a_load_is_read_from_its_name_and_named_the_same() {
    for (name, verb, value, pipeline, clients, keys) in [
        ("get64x1", Verb::Get, 64, 1, 50, 1),
        ("set16kx16-c1000", Verb::Set, 16_384, 16, 1000, 1),
        ("get17000x1-c1", Verb::Get, 17_000, 1, 1, 1),
        ("set64x16-k100000", Verb::Set, 64, 16, 50, 100_000),
        ("get1kx2-c7-k8", Verb::Get, 1024, 2, 7, 8),
    ] {
        let shape = Shape { verb, value, pipeline, clients, keys };
        let field = if clients == 50 { Field::Peers } else { Field::Few };
        let scenario = Scenario::of(name).expect(name);
        assert_eq!((scenario.work, scenario.field), (Work::Load(shape), field), "{name}");
        assert_eq!(shape.name(), name);
    }
}

#[test]
fn what_is_no_scenario_is_refused_with_what_there_is() {
    for name in [
        "",
        "get",
        "get64",
        "getx1",
        "get0x1",
        "get64x0",
        "del64x1",
        "get64x1-c",
        "get64x1-c0",
        "get64x1-k0",
        "get64x1-k100000-c2",
        "idle-",
        "rate-c0",
        "gét64x1",
        "get99999999999999999kx1",
    ] {
        let error = parse(&words(&[name])).expect_err(name);
        assert!(error.contains(&format!("{name:?}")) && error.contains("clients1000"), "{error}");
    }
}

#[test]
fn every_set_holds_scenarios_that_exist_and_all_holds_every_set() {
    let all = parse(&words(&["all"])).expect("all");
    for (set, what, names) in SETS {
        let found = parse(&words(&[set])).expect(set);
        assert_eq!(found.len(), names.len(), "{set}");
        assert!(found.iter().all(|scenario| all.contains(scenario)), "{set}: {what}");
    }
}

#[test]
fn what_few_clients_do_is_measured_in_turns_and_all_else_one_after_the_other() {
    for name in ["get64x1", "set16kx16", "audit-x16", "workers-x1", "get64x1-c100", "scale-50", "rate-c1", "rate-c50"] {
        assert!(Scenario::of(name).expect(name).is_in_turns(), "{name}");
    }
    for name in ["get64x1-c101", "scale-5000", "nagle", "syscalls-x1", "storm-10", "start", "fairness", "idle-1000"] {
        assert!(!Scenario::of(name).expect(name).is_in_turns(), "{name}");
    }
}

#[test]
fn stunnel_over_tcp_is_asked_for_the_cost_of_commands_alone() {
    for (name, takes) in [("get64x16", true), ("get64x1-c1000", true), ("nagle", false), ("idle-1000", false)] {
        let scenario = Scenario::of(name).expect(name);
        assert_eq!((scenario.takes("stunnel-tcp"), scenario.takes("stunnel")), (takes, true), "{name}");
    }
}

#[test]
fn a_scenario_named_twice_is_measured_once() {
    let found = parse(&words(&["get64x16", "main", "get64x16"])).expect("scenarios");
    assert_eq!(found.first().map(|first| first.name.as_str()), Some("get64x16"));
    assert_eq!(found.len(), 8);
}

#[test]
fn ratios_and_differences_are_taken_round_by_round() {
    let mut results = Results::default();
    for (own, other) in [(1.0, 2.0), (30.0, 20.0), (4.0, 4.0)] {
        results.push("get", "ravelin", Metric::Cpu, own);
        results.push("get", "nginx", Metric::Cpu, other);
    }
    let ratio = results.ratio("get", "ravelin", "nginx", Metric::Cpu).expect("both were measured");
    assert_eq!([ratio.min, ratio.median, ratio.max], [0.5, 1.0, 1.5]);
    let difference = results.difference("get", "ravelin", "nginx", Metric::Cpu).expect("both were measured");
    assert_eq!([difference.min, difference.median, difference.max], [-1.0, 0.0, 10.0]);
    assert_eq!(results.targets("get"), ["ravelin", "nginx"]);
}

#[test]
fn what_was_not_measured_has_no_summary() {
    let mut results = Results::default();
    results.push("get", "ravelin", Metric::Cpu, 1.0);
    assert!(results.summary("get", "ravelin", Metric::P50).is_none());
    assert!(results.ratio("get", "ravelin", "nginx", Metric::Cpu).is_none());
    assert!(results.rounds("set", "ravelin", Metric::Cpu).is_empty());
}

#[test]
fn a_target_that_failed_in_a_scenario_has_no_figures_there_and_keeps_the_others() {
    let mut results = Results::default();
    for scenario in ["get", "set"] {
        results.push(scenario, "nginx", Metric::Cpu, 1.0);
    }
    results.fail("get", "nginx", "it ended".to_owned());
    assert!(results.has_failed("get", "nginx") && !results.has_failed("set", "nginx"));
    assert!(results.rounds("get", "nginx", Metric::Cpu).is_empty());
    assert_eq!(results.rounds("set", "nginx", Metric::Cpu), [1.0]);
    assert_eq!(results.failures(), [("get".to_owned(), "nginx".to_owned(), "it ended".to_owned())]);
}

#[test]
fn the_file_has_a_row_for_each_metric_with_all_rounds() {
    let mut results = Results::default();
    results.push("get64x1", "nginx", Metric::P99, 7.0);
    results.push("get64x1", "nginx", Metric::P99, 9.0);
    let json = results.json();
    assert_eq!(json[0]["metric"], "p99_us");
    assert_eq!(json[0]["median"], 8.0);
    assert_eq!(json[0]["rounds"], serde_json::json!([7.0, 9.0]));
}

#[test]
fn every_limit_is_one_of_a_scenario_that_can_be_measured() {
    for name in limits::scenarios() {
        assert!(Scenario::of(name).is_some(), "{name}");
    }
}

/// The one line of limits that these figures lead to.
fn verdict(scenario: &str, figures: &[(&str, Metric, f64)]) -> String {
    let mut results = Results::default();
    for (target, metric, figure) in figures {
        results.push(scenario, target, *metric, *figure);
    }
    let lines = limits::table(&results).expect("a limit is judged").lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    lines[1].clone()
}

#[test]
fn a_limit_is_kept_at_its_bound_and_missed_beyond_it_by_a_part_of_it() {
    let cpu = |own| [("ravelin-off", Metric::Cpu, own), ("nginx", Metric::Cpu, 20.0)];
    let kept = verdict("get64x1", &cpu(15.0));
    assert!(kept.contains("≤ 0.75") && kept.contains("0.75 – 0.75") && kept.ends_with("kept"), "{kept}");
    assert!(verdict("get64x1", &cpu(16.5)).ends_with("MISSED by 10 %"));
    assert!(verdict("get64x1", &cpu(15.001)).ends_with("MISSED by 1 %"), "never by nothing");
    let nagle = |own| [("ravelin", Metric::PerSecond, own), ("stunnel", Metric::PerSecond, 1000.0)];
    assert!(verdict("nagle", &nagle(10_000.0)).ends_with("kept"));
    assert!(verdict("nagle", &nagle(9000.0)).ends_with("MISSED by 10 %"));
    let audit = [("ravelin-off", Metric::Cpu, 1.0), ("ravelin-chained", Metric::Cpu, 1.5)];
    assert!(verdict("audit-x16", &audit).contains("0.50 µs"));
}

#[test]
fn growth_is_judged_against_the_smaller_scenario() {
    let mut results = Results::default();
    results.push("scale-50", "ravelin", Metric::Cpu, 10.0);
    results.push("scale-5000", "ravelin", Metric::Cpu, 14.0);
    let lines = limits::table(&results).expect("a limit is judged").lines();
    assert!(lines[1].contains("1.40") && lines[1].ends_with("kept"), "{}", lines[1]);
}

#[test]
fn only_what_was_measured_is_judged() {
    let mut results = Results::default();
    results.push("get64x1", "ravelin-off", Metric::Cpu, 12.0);
    assert!(limits::table(&results).is_none(), "no peer to set it against");
}

#[test]
fn two_runs_are_compared_against_a_peer_that_has_not_changed() {
    let run = |nginx, ravelin| {
        let mut results = Results::default();
        results.push("get64x1", "nginx", Metric::Cpu, nginx);
        results.push("get64x1", "ravelin", Metric::Cpu, ravelin);
        results
    };
    // The machine is twice as slow as it was, and Ravelin half as dear again as it would have been.
    let before = serde_json::json!({ "figures": run(10.0, 8.0).json() });
    let lines = compare::table(&before, &run(20.0, 24.0)).lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for expected in ["8.00", "24.00", "+200.0 %", "+50.0 %", "(nginx)"] {
        assert!(lines[2].contains(expected), "{expected} is missing in {}", lines[2]);
    }
    assert!(lines[1].contains("+100.0 %") && lines[1].contains('–'), "nothing to set nginx against: {}", lines[1]);
    let other = serde_json::json!({ "figures": [] });
    assert_eq!(compare::table(&other, &run(20.0, 24.0)).lines().len(), 1, "only what both have measured");
}

fn drawn() -> String {
    let mut results = Results::default();
    for (target, proxy, redis) in [("direct", 0.0, 6.0), ("stunnel", 24.0, 4.0), ("ravelin", 8.0, 4.0)] {
        for scenario in ["get64x1", "get16kx1"] {
            results.push(scenario, target, Metric::Cpu, proxy + redis);
            results.push(scenario, target, Metric::CpuProxy, proxy);
            results.push(scenario, target, Metric::CpuRedis, redis);
        }
    }
    picture::draw(&results, 9).expect("a picture")
}

#[test]
fn a_picture_shows_each_target_with_its_figure_and_ratio() {
    let svg = drawn();
    for expected in ["GET 64 B ×1, 50 clients", "GET 16 KiB ×1", ">stunnel<", "28.0  ×4.7", "12.0  ×2.0", "6.00  ×1.0"]
    {
        assert!(svg.contains(expected), "{expected} is missing in\n{svg}");
    }
    assert!(!svg.contains("nginx"), "what was not measured has no bar");
}

#[test]
fn a_picture_stands_alone_and_is_readable_in_light_and_dark() {
    let svg = drawn();
    assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\"") && svg.ends_with("</svg>\n"));
    assert!(svg.contains("prefers-color-scheme: dark") && svg.contains("class=\"ground\""));
    for outside in ["href", "url(", "@import", "<script", "<image", "NaN", "inf"] {
        assert!(!svg.contains(outside), "{outside} in\n{svg}");
    }
    let (opened, closed) = (svg.matches("<text").count(), svg.matches("</text>").count());
    assert_eq!(opened, closed);
    // Of the proxy's part and Redis' part one begins where the other ends.
    assert_eq!(svg.matches("class=\"proxy own\"").count(), 2);
    assert_eq!(svg.matches("class=\"redis own\"").count(), 2);
}

#[test]
fn there_is_no_picture_of_nothing() {
    assert!(picture::draw(&Results::default(), 9).is_none());
}
