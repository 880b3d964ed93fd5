//! CPU time per command, in rounds.

use crate::Arguments;
use crate::load::{Figures, Load, Scenario};
use crate::report::{Progress, Summary, Table};
use crate::rig::Rig;
use crate::targets::Target;

/// What Ravelin is to reach beside stunnel, for GET and SET of 64 bytes.
const GOALS: &[(u32, f64)] = &[(1, 0.60), (16, 0.65)];

/// Every round measures every target, beginning with another one each time: what disturbs the machine for some seconds
/// does not fall on one target alone, and none is always behind the same neighbour.
pub fn table(rig: &Rig, targets: &[Target], arguments: &Arguments) {
    let progress = Progress::new();
    let scenarios = Scenario::all(arguments);
    let rounds = arguments.rounds.max(1);
    // figures[scenario][target][round]
    let mut figures = vec![vec![Vec::new(); targets.len()]; scenarios.len()];
    rig.set_value(arguments.value);
    for round in 0..rounds {
        for (scenario, figures) in scenarios.iter().zip(&mut figures) {
            for step in 0..targets.len() {
                let at = (round + step) % targets.len();
                let target = &targets[at];
                progress.say(&format!("round {} of {rounds}: {}, {}", round + 1, scenario.name(), target.name));
                let mut load = Load::start(rig, target, scenario, arguments);
                figures[at].push(load.measure(rig, target, arguments.window()));
                load.end();
            }
        }
    }
    progress.done();
    print(targets, &scenarios, &figures);
}

fn print(targets: &[Target], scenarios: &[Scenario], figures: &[Vec<Vec<Figures>>]) {
    let position = |name: &str| targets.iter().position(|target| target.name == name);
    let mut table = Table::new(&[
        "µs of CPU per command",
        "proxy",
        "Redis",
        "sum",
        "min – max",
        "× stunnel",
        "min – max",
        "× direct",
        "1000/s",
    ]);
    let mut audited = None;
    for (scenario, figures) in scenarios.iter().zip(figures) {
        for (target, own) in targets.iter().zip(figures) {
            let median = |figure: fn(&Figures) -> f64| Summary::of(own.iter().map(figure)).median;
            let sum = Summary::of(own.iter().map(Figures::sum_us));
            let stunnel = position("stunnel").map(|at| ratios(own, &figures[at]));
            let direct = position("direct").map(|at| ratios(own, &figures[at]));
            table.row(vec![
                format!("{}  {}", scenario.name(), target.name),
                format!("{:.2}", median(|figures| figures.proxy_us)),
                format!("{:.2}", median(|figures| figures.redis_us)),
                format!("{:.2}", sum.median),
                format!("{:.2} – {:.2}", sum.min, sum.max),
                stunnel.map_or_else(|| "–".to_owned(), |ratio| format!("{:.2}", ratio.median)),
                stunnel.map_or_else(|| "–".to_owned(), |ratio| format!("{:.2} – {:.2}", ratio.min, ratio.max)),
                direct.map_or_else(|| "–".to_owned(), |ratio| format!("{:.2}", ratio.median)),
                format!("{:.1}", median(|figures| figures.commands_per_s) / 1000.0),
            ]);
            if target.audit.is_some() {
                audited = Some(median(|figures| figures.audit_bytes));
            }
        }
    }
    table.print();
    println!();
    println!("Ratios are of sums, round by round; shown is their median. Proxy and Redis share one processor.");
    if let Some(bytes) = audited {
        println!("Ravelin wrote {bytes:.0} bytes of audit stream per command.");
    }
    for (scenario, figures) in scenarios.iter().zip(figures) {
        let goal = GOALS.iter().find(|(pipeline, _)| *pipeline == scenario.pipeline);
        let pair = position("ravelin").zip(position("stunnel"));
        if let (Some((_, goal)), Some((ravelin, stunnel))) = (goal, pair) {
            let reached = ratios(&figures[ravelin], &figures[stunnel]).median;
            println!("{}: Ravelin is to stay under {goal:.2} of stunnel, and took {reached:.2}.", scenario.name());
        }
    }
}

fn ratios(own: &[Figures], other: &[Figures]) -> Summary {
    Summary::of(own.iter().zip(other).map(|(own, other)| own.sum_us() / other.sum_us()))
}
