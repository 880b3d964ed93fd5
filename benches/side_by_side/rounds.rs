//! The order in which things are measured.
//!
//! Every round measures every target, beginning with another one each time: what disturbs the machine for some seconds
//! does not fall on one target alone, and none is always behind the same neighbour. Where few clients make the load, the
//! targets of a round are measured at the same time, in [`crate::work::turns`].

use crate::arguments::Arguments;
use crate::report::Progress;
use crate::results::Results;
use crate::rig::Rig;
use crate::scenario::{Scenario, Work};
use crate::targets::{self, Fleet};
use crate::work::turns::Slice;
use crate::work::{self, Figures};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Scenarios that are measured in turn, of the same targets.
pub struct Stage {
    pub scenarios: Vec<Scenario>,
    pub targets: Vec<&'static str>,
    pub rounds: usize,
    pub window: Duration,
}

/// What is to be done, in order, of the targets that are there.
pub fn plan(scenarios: Vec<Scenario>, arguments: &Arguments, absent: &[&'static str]) -> Vec<Stage> {
    let mut stages: Vec<Stage> = Vec::new();
    for scenario in scenarios {
        let mut targets = targets::of_field(scenario.field, &arguments.targets);
        targets.retain(|name| !absent.contains(name) && scenario.takes(name));
        let (rounds, window) = scenario.effort(arguments.rounds(), arguments.window());
        let joins = |stage: &&mut Stage| {
            let loads = |scenario: &Scenario| matches!(scenario.work, Work::Load(_));
            loads(&scenario) && stage.scenarios.iter().all(loads) && stage.targets == targets
        };
        if let Some(stage) = stages.last_mut().filter(joins) {
            stage.scenarios.push(scenario);
        } else if !targets.is_empty() {
            stages.push(Stage { scenarios: vec![scenario], targets, rounds, window });
        }
    }
    stages
}

impl Stage {
    /// About how long it takes.
    pub fn estimate(&self) -> Duration {
        let start = Duration::from_millis(150) * u32::try_from(self.targets.len()).unwrap_or(u32::MAX);
        let each = |target: &&str, scenario: &Scenario| {
            let lead_ins = Slice::all(scenario.work, self.window).map(|slice| slice.lead_in);
            let turns: Duration = lead_ins.filter(|_| scenario.is_in_turns()).sum();
            scenario.estimate(target, self.window) + turns
        };
        let round: Duration = self
            .scenarios
            .iter()
            .flat_map(|scenario| self.targets.iter().map(move |target| each(target, scenario)))
            .sum();
        start + round * u32::try_from(self.rounds).unwrap_or(u32::MAX)
    }

    pub fn measure(&self, rig: &Rig, envoy: Option<&PathBuf>, results: &mut Results, whole: &Clock) {
        let Some(first) = self.scenarios.first() else { return };
        if matches!(first.work, Work::Idle { .. } | Work::Start) {
            return self.measure_fresh(rig, envoy, results, whole);
        }
        let rsa = matches!(first.work, Work::Handshakes { rsa: true, .. });
        let fleet = Fleet::start(rig, &self.targets, rsa, envoy);
        for round in 0..self.rounds {
            for scenario in &self.scenarios {
                if scenario.is_in_turns() {
                    self.measure_in_turns(rig, &fleet, round, scenario, results, whole);
                    continue;
                }
                for target in rotated(&fleet.0, round) {
                    whole.say(round, self.rounds, scenario, target.name);
                    let measure = || work::measure(rig, target, scenario.work, self.window);
                    attempt(results, scenario, target.name, measure);
                }
            }
        }
    }

    /// All targets' windows of a round, in slices that take turns.
    fn measure_in_turns(
        &self,
        rig: &Rig,
        fleet: &Fleet,
        round: usize,
        scenario: &Scenario,
        results: &mut Results,
        whole: &Clock,
    ) {
        work::prepare(rig, scenario.work);
        let mut entrants = Vec::new();
        for target in rotated(&fleet.0, round) {
            whole.say(round, self.rounds, scenario, target.name);
            let turn = caught(results, scenario, target.name, || work::begin(rig, target, scenario.work));
            entrants.extend(turn.map(|turn| (target, turn)));
        }
        whole.say(round, self.rounds, scenario, "all in turn");
        for slice in Slice::all(scenario.work, self.window) {
            entrants.retain_mut(|(target, turn)| {
                caught(results, scenario, target.name, || turn.slice(rig, target, slice)).is_some()
            });
            // The next time another one begins.
            if !entrants.is_empty() {
                entrants.rotate_left(1);
            }
        }
        // In the order of the tables.
        entrants.sort_by_key(|(entrant, _)| fleet.0.iter().position(|target| target.name == entrant.name));
        for (target, turn) in entrants {
            attempt(results, scenario, target.name, || (turn.end(), String::new()));
        }
    }

    /// What is said of a process that has done nothing else before.
    fn measure_fresh(&self, rig: &Rig, envoy: Option<&PathBuf>, results: &mut Results, whole: &Clock) {
        for round in 0..self.rounds {
            for scenario in &self.scenarios {
                for name in rotated(&self.targets, round) {
                    whole.say(round, self.rounds, scenario, name);
                    attempt(results, scenario, name, || work::measure_fresh(rig, name, scenario.work, envoy));
                }
            }
        }
    }
}

/// Measures, and keeps it.
fn attempt(results: &mut Results, scenario: &Scenario, target: &str, measure: impl FnOnce() -> Figures) {
    let Some((metrics, note)) = caught(results, scenario, target, measure) else { return };
    for (metric, figure) in metrics {
        results.push(&scenario.name, target, metric, figure);
    }
    if !note.is_empty() {
        results.note(&scenario.name, target, note);
    }
}

/// A target that cannot be measured is left out of this scenario: half an hour of others' figures shall not be lost with
/// it.
fn caught<T>(results: &mut Results, scenario: &Scenario, target: &str, work: impl FnOnce() -> T) -> Option<T> {
    if results.has_failed(&scenario.name, target) {
        return None;
    }
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => Some(done),
        Err(panic) => {
            let why = panic.downcast_ref::<String>().cloned();
            let why = why.or_else(|| panic.downcast_ref::<&str>().map(|why| (*why).to_owned()));
            results.fail(&scenario.name, target, why.unwrap_or_default());
            None
        }
    }
}

fn rotated<T>(all: &[T], by: usize) -> impl Iterator<Item = &T> {
    all.iter().cycle().skip(by % all.len().max(1)).take(all.len())
}

/// How far a run has come.
pub struct Clock {
    progress: Progress,
    begin: Instant,
    estimate: Duration,
}

impl Clock {
    pub fn start(estimate: Duration) -> Self {
        Self { progress: Progress::new(), begin: Instant::now(), estimate }
    }

    fn say(&self, round: usize, rounds: usize, scenario: &Scenario, target: &str) {
        let (gone, all) = (self.begin.elapsed().as_secs(), self.estimate.as_secs());
        self.progress.say(&format!(
            "{}:{:02} of about {}:{:02}  {}, round {} of {rounds}: {target}",
            gone / 60,
            gone % 60,
            all / 60,
            all % 60,
            scenario.name,
            round + 1,
        ));
    }

    pub fn done(&self) {
        self.progress.done();
    }
}
