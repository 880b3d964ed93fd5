//! Counts of what was compared, their floors, and the smallest stream that still differs.

use super::{
    generate::{Case, Kind, broken_classes, is_fair},
    normalise::NORMALISERS,
    play::{Difference, Table},
};
use crate::support::redis::Release;
use ravelin::command::catalog;
use std::{collections::BTreeMap, fmt::Write as _, panic::AssertUnwindSafe};

#[derive(Default)]
pub struct Counts {
    pub cases: u64,
    pub ops: u64,
    pub state: u64,
    pub refused: u64,
    pub cases_with_denials: u64,
    pub commands: BTreeMap<String, u64>,
    pub broken: BTreeMap<&'static str, u64>,
    /// Rounds by the length of their pipeline: 1, to 10, to 50, to 200.
    pub lengths: [u64; 4],
    /// Rounds by how they were cut: whole, byte by byte, in equal pieces, in random ones.
    pub pieces: [u64; 4],
}

impl Counts {
    pub fn add(&mut self, case: &Case) {
        self.cases += 1;
        self.cases_with_denials += u64::from(case.denials);
        for round in &case.rounds {
            for op in &round.ops {
                self.ops += 1;
                self.state += u64::from(op.changes_state());
                self.refused += u64::from(op.kind != Kind::Same);
                *self.commands.entry(op.name.clone()).or_default() += 1;
            }
            if let Some((class, _)) = round.broken {
                *self.broken.entry(class).or_default() += 1;
            }
            self.lengths[match round.ops.len() {
                0..=1 => 0,
                2..=10 => 1,
                11..=50 => 2,
                _ => 3,
            }] += 1;
            self.pieces[match round.pieces[..] {
                [usize::MAX] => 0,
                [1] => 1,
                [_] => 2,
                _ => 3,
            }] += 1;
        }
    }

    /// Commands of the catalog and how often each was sent.
    pub fn per_command(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        catalog::iter().map(|(_, row)| (row.full_name, self.commands.get(row.full_name).copied().unwrap_or(0)))
    }

    /// What is below its floor. `each` is the least number of every command and of every class.
    pub fn below(&self, each: u64) -> Vec<String> {
        let mut below = Vec::new();
        for (name, times) in self.per_command() {
            // Containers alone are sent as they come; what is denied stands in a quarter of the cases only.
            let denied = super::generate::denied_text(name).is_some();
            let container = catalog::by_full_name(name).is_some_and(|id| id.entry().container);
            // Before a Redis that has none it is the proxy's own, so there is nothing to compare.
            let ours_alone = name == "client|reply" && !Release::of_server().since(3, 2);
            let floor = if container || ours_alone {
                0
            } else if denied {
                each / 4
            } else {
                each
            };
            if times < floor {
                below.push(format!("{name} was sent {times} times, and at least {floor} are asked for"));
            }
        }
        for class in broken_classes() {
            let times = self.broken.get(class).copied().unwrap_or(0);
            if times < each / 4 {
                below.push(format!("requests of the class \"{class}\" were sent {times} times"));
            }
        }
        if self.state * 100 < self.ops * 30 {
            below.push(format!("{} of {} commands change the connection's state", self.state, self.ops));
        }
        if self.cases_with_denials * 100 < self.cases * 20 {
            below.push(format!("{} of {} cases are with denials", self.cases_with_denials, self.cases));
        }
        below
    }

    /// An aligned table.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let mut row = |what: &str, number: String| writeln!(text, "  {what:<44} {number:>12}").unwrap();
        row("cases", self.cases.to_string());
        row("commands", self.ops.to_string());
        row("  of them about the connection's state", format!("{} %", self.state * 100 / self.ops.max(1)));
        row("  of them refused by the proxy", self.refused.to_string());
        row("cases with denials", format!("{} %", self.cases_with_denials * 100 / self.cases.max(1)));
        let sent = self.per_command().filter(|(_, times)| *times > 0).count();
        row("commands of the catalog sent", format!("{sent} of {}", catalog::len()));
        let least = self.per_command().filter(|(_, times)| *times > 0).min_by_key(|(_, times)| *times);
        if let Some((name, times)) = least {
            row(&format!("  the rarest: {name}"), times.to_string());
        }
        for (what, number) in ["of one", "to 10", "to 50", "to 200"].iter().zip(self.lengths) {
            row(&format!("pipelines {what}"), number.to_string());
        }
        for (what, number) in ["whole", "byte by byte", "in equal pieces", "in random pieces"].iter().zip(self.pieces) {
            row(&format!("sent {what}"), number.to_string());
        }
        for (class, number) in &self.broken {
            row(&format!("refused: {class}"), number.to_string());
        }
        text
    }
}

/// The closed list of what may differ.
pub fn normalisers() -> String {
    let mut text = String::new();
    for (name, left, reason) in NORMALISERS {
        writeln!(text, "  {name:<18} {:<10} {reason}", format!("{left:?}")).unwrap();
    }
    writeln!(text, "  {:<18} {:<10} a push may come at any boundary", "a push", "BeforeOwn").unwrap();
    text
}

/// Plays a case; a connection that hangs is a difference too.
pub fn try_case(table: &mut Table, case: &Case) -> Option<Difference> {
    match std::panic::catch_unwind(AssertUnwindSafe(|| table.compare(case))) {
        Ok(difference) => difference,
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Some(Difference { round: 0, what: format!("{}: {}", table.place, text.unwrap_or_default()) })
        }
    }
}

/// The same case with everything taken out that the difference does not need.
pub fn shrink(table: &mut Table, case: &Case, tries: usize) -> Case {
    let mut least = case.clone();
    let mut left = tries;
    let mut still = |case: &Case, table: &mut Table| {
        left = left.saturating_sub(1);
        left > 0 && is_fair(case) && try_case(table, case).is_some()
    };
    let mut at = 0;
    while at < least.rounds.len() {
        let mut without = least.clone();
        without.rounds.remove(at);
        if still(&without, table) { least = without } else { at += 1 }
    }
    for round in 0..least.rounds.len() {
        let mut width = least.rounds[round].ops.len();
        while width > 0 {
            let mut at = 0;
            while at < least.rounds[round].ops.len() {
                let mut without = least.clone();
                let end = (at + width).min(without.rounds[round].ops.len());
                without.rounds[round].ops.drain(at..end);
                if still(&without, table) { least = without } else { at += width }
            }
            width /= 2;
        }
        let mut whole = least.clone();
        whole.rounds[round].pieces = vec![usize::MAX];
        if still(&whole, table) {
            least = whole;
        }
    }
    least
}

/// A case as a person reads it.
pub fn show(case: &Case) -> String {
    let mut text = String::new();
    for round in &case.rounds {
        writeln!(text, "  client {}, in pieces of {:?}", round.client, round.pieces).unwrap();
        for op in &round.ops {
            let words: Vec<String> = op
                .words
                .iter()
                .map(|word| format!("{:?}", word[..word.len().min(60)].escape_ascii().to_string()))
                .collect();
            writeln!(text, "    {}{}", words.join(" "), if op.kind == Kind::Same { "" } else { "   (refused)" })
                .unwrap();
        }
        if let Some((class, _)) = round.broken {
            writeln!(text, "    and then: {class}").unwrap();
        }
    }
    text
}
