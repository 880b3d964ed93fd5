//! The numbers of the pens: which lines are missing, twice, or not where they belong.

use super::report::{Kind, Place};
use crate::audit::chain::{Checkpoint, Told};
use serde::de::IgnoredAny;
use std::collections::BTreeMap;

/// Most pens that are followed. A process has at most 257.
const PENS_MAX: usize = 4096;

/// A line that may be the one that is wrong.
#[derive(Clone, Debug)]
pub(super) struct Suspect {
    pub(super) kind: Kind,
    pub(super) place: Place,
    pub(super) seq: Option<(u64, u64)>,
    pub(super) text: String,
}

/// What is read of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Front {
    w: u64,
    seq: u64,
    /// It stands for lines that were dropped and has the number of the last of them.
    gap: bool,
    /// The process starts.
    pub(super) starts: bool,
}

impl Front {
    /// Of a whole line; none if it can be no record: not UTF-8, not JSON, or another beginning.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(line).ok()?;
        serde_json::from_str::<IgnoredAny>(text).ok()?;
        let rest = text.strip_prefix(r#"{"v":1,"w":"#)?;
        let (w, rest) = rest.split_once(r#","seq":"#)?;
        let (seq, rest) = rest.split_once(r#","ts":""#)?;
        let (_, rest) = rest.split_once(r#"","event":""#)?;
        let (event, _) = rest.split_once('"')?;
        Some(Self { w: w.parse().ok()?, seq: seq.parse().ok()?, gap: event == "gap", starts: event == "start" })
    }
}

/// One pen.
#[derive(Debug, Default)]
struct Pen {
    /// Where it stood at the last checkpoint that told of it; none if none has.
    told: Option<Told>,
    /// The highest number seen or told since.
    last: Option<u64>,
    /// The number of its last line.
    line: u64,
    /// Lines since then, `gap` left out.
    lines: u64,
    /// The first number that was not where it belongs: the line in whose place it should be, and the number.
    hole: Option<(Place, u64)>,
    /// The first line whose number had been passed.
    back: Option<(Place, u64)>,
}

/// All pens since the last checkpoint.
#[derive(Debug, Default)]
pub(super) struct Pens {
    pens: BTreeMap<u64, Pen>,
    /// Numbers begin with 1: pens that are not known stand at 0.
    fresh: bool,
    /// A pen too many.
    crowd: Option<Place>,
}

impl Pens {
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.pens.len()
    }

    /// The process has started: numbers begin with 1 again.
    pub(super) fn begin_anew(&mut self) {
        self.pens.clear();
        self.fresh = true;
    }

    /// Lines are missing, so that nothing is known any more.
    pub(super) fn forget(&mut self) {
        self.pens.clear();
        self.fresh = false;
    }

    fn pen(&mut self, w: u64) -> Option<&mut Pen> {
        if self.pens.len() >= PENS_MAX && !self.pens.contains_key(&w) {
            return None;
        }
        let fresh = self.fresh;
        Some(self.pens.entry(w).or_insert_with(|| match fresh {
            true => Pen { told: Some(Told { w: 0, seq: 0, filtered: 0, dropped: 0 }), last: Some(0), ..Pen::default() },
            false => Pen::default(),
        }))
    }

    pub(super) fn record(&mut self, front: &Front, place: Place) {
        let Some(pen) = self.pen(front.w) else {
            self.crowd.get_or_insert(place);
            return;
        };
        match pen.last {
            // A gap has the number of the last one dropped, which no line has; the pen may have been told beyond it since.
            Some(last) if front.seq <= if front.gap { pen.line } else { last } => {
                pen.back.get_or_insert((place, front.seq));
            }
            Some(last) if front.seq > last.saturating_add(1) && !front.gap => {
                pen.hole.get_or_insert((place, last.saturating_add(1)));
            }
            _ => {}
        }
        pen.line = front.seq;
        pen.last = Some(pen.last.unwrap_or(0).max(front.seq));
        if !front.gap {
            pen.lines = pen.lines.saturating_add(1);
        }
    }

    /// Holds what was seen against what a checkpoint tells, and goes on from there. `anew`: the checkpoint is the first
    /// of its process.
    pub(super) fn settle(&mut self, checkpoint: &Checkpoint, place: Place, anew: bool) -> Vec<Suspect> {
        let mut suspects = Vec::new();
        if let Some(place) = self.crowd.take() {
            let text = format!("is of the {}th pen", PENS_MAX.saturating_add(1));
            suspects.push(Suspect { kind: Kind::Inserted, place, seq: None, text });
        }
        for told in checkpoint.pens.iter().flatten().filter(|_| !anew) {
            let w = u64::from(told.w);
            if let Some(pen) = self.pen(w) {
                suspects.extend(pen.settle(w, told, place));
            }
        }
        // A pen that has written has moved, so a checkpoint that tells of all does not leave it out.
        if let (Some(told), false, false) = (&checkpoint.pens, checkpoint.pens_cut, anew) {
            for (w, pen) in &mut self.pens {
                if pen.lines > 0 && !told.iter().any(|told| u64::from(told.w) == *w) {
                    pen.lines = 0;
                    let text = format!("lines of pen {w}, of which checkpoint {} knows nothing", checkpoint.n);
                    suspects.push(Suspect { kind: Kind::Inserted, place, seq: None, text });
                }
            }
        }
        suspects.extend(self.repeats());
        if anew {
            self.begin_anew();
        }
        suspects
    }

    /// Lines whose number had been passed, once each pen.
    pub(super) fn repeats(&mut self) -> Vec<Suspect> {
        let each = self.pens.iter_mut().filter_map(|(w, pen)| pen.back.take().map(|(place, seq)| (*w, place, seq)));
        let text = |w, seq| format!("pen {w} is beyond number {seq} already");
        each.map(|(w, place, seq)| Suspect { kind: Kind::Inserted, place, seq: Some((w, seq)), text: text(w, seq) })
            .collect()
    }

    /// The first hole of each pen.
    pub(super) fn holes(&mut self) -> Vec<Suspect> {
        let each = self.pens.iter_mut().filter_map(|(w, pen)| pen.hole.take().map(|(place, seq)| (*w, place, seq)));
        each.map(|(w, place, seq)| missing(w, seq, place)).collect()
    }
}

fn missing(w: u64, seq: u64, place: Place) -> Suspect {
    let text = format!("number {seq} of pen {w} is missing before it");
    Suspect { kind: Kind::Missing, place, seq: Some((w, seq)), text }
}

impl Pen {
    fn settle(&mut self, w: u64, told: &Told, place: Place) -> Option<Suspect> {
        let (hole, back, lines) = (self.hole.take(), self.back.take(), std::mem::take(&mut self.lines));
        let (before, last) = (self.told.replace(*told), self.last.replace(told.seq));
        let suspect = |kind, place, seq, text| Some(Suspect { kind, place, seq: Some((w, seq)), text });
        if let Some((place, seq)) = back {
            // What comes late was missing where it belongs.
            return match hole {
                Some((hole, early)) if early <= seq => suspect(
                    Kind::Moved,
                    hole,
                    early,
                    format!("number {early} of pen {w} should stand here; {seq} comes later"),
                ),
                _ => suspect(Kind::Inserted, place, seq, format!("pen {w} is beyond number {seq} already")),
            };
        }
        if let Some(last) = last.filter(|last| *last > told.seq) {
            let text = format!("number {last} of pen {w} was written, but the pen had come to {} only", told.seq);
            return suspect(Kind::Inserted, place, last, text);
        }
        let before = before?;
        let moved = |now: u64, then: u64| now.checked_sub(then);
        let elsewhere = moved(told.filtered, before.filtered)?.checked_add(moved(told.dropped, before.dropped)?)?;
        let expected = moved(told.seq, before.seq)?.checked_sub(elsewhere)?;
        match (lines.cmp(&expected), hole, last) {
            (std::cmp::Ordering::Equal, ..) => None,
            (std::cmp::Ordering::Less, Some((place, seq)), _) if elsewhere == 0 => Some(missing(w, seq, place)),
            (std::cmp::Ordering::Less, None, Some(last)) if elsewhere == 0 => {
                Some(missing(w, last.saturating_add(1), place))
            }
            (order, ..) => {
                let (kind, what) = match order {
                    std::cmp::Ordering::Less => (Kind::Missing, "are missing"),
                    _ => (Kind::Inserted, "were put in"),
                };
                let text = format!(
                    "{} lines of pen {w} {what} between its numbers {} and {}",
                    lines.abs_diff(expected),
                    before.seq,
                    told.seq
                );
                suspect(kind, place, told.seq, text)
            }
        }
    }
}
