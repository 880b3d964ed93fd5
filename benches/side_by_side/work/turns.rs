//! Several targets under the same load, in turns of a tenth of a second.
//!
//! A shared machine does not keep its speed for as long as a window takes, so that of windows one after the other each meets
//! another machine, and their ratios are as noisy as that. Each target therefore has a load of its own, all but one of
//! which rest: its window is cut into slices, between two of which all others have theirs.

use super::load::{self, Load};
use super::rate::Rate;
use crate::results::Metric;
use crate::rig::Rig;
use crate::scenario::Work;
use crate::targets::Target;
use std::time::Duration;

/// How long a slice is, about. Shorter, and more would be spent on finding into the load again than on measuring it.
const SLICE: Duration = Duration::from_millis(100);
/// The first part of a slice, not measured: caches fill again, batches find their size.
pub const RESUMED: Duration = Duration::from_millis(30);
/// The same where Redis takes its time: a worker of ours finds out within a tenth of a second that it is worth while not to
/// interrupt it (`net::pace`), and has found that out under a load that lasts.
const RESUMED_SLOW: Duration = Duration::from_millis(120);

/// A load that can rest.
pub trait Turn {
    /// Goes on, is measured for so long, and rests again.
    fn slice(&mut self, rig: &Rig, target: &Target, length: Duration);

    /// Ends, and tells what all slices together have cost.
    fn end(self: Box<Self>, target: &Target) -> Vec<(Metric, f64)>;
}

/// A target that takes part in a round.
pub struct Entrant<'t> {
    pub target: &'t Target,
    turn: Box<dyn Turn>,
}

/// Waits until Redis is by itself, and gives it the values that are asked for.
pub fn prepare(rig: &Rig, work: Work) {
    load::await_quiet(rig);
    match work {
        Work::Load(shape) => rig.set_values(shape.keys, shape.value),
        _ => rig.set_value(super::rate::VALUE),
    }
}

impl<'t> Entrant<'t> {
    /// Its load comes about, and rests.
    ///
    /// # Panics
    /// When it does not come about, or the work is none that is done in turns ([`crate::scenario::Scenario::is_in_turns`]).
    pub fn start(rig: &Rig, target: &'t Target, work: Work) -> Self {
        let turn: Box<dyn Turn> = match work {
            Work::Load(shape) => Box::new(Load::start(rig, target, shape).paused()),
            Work::Rate { clients, per_second } => Box::new(Rate::start(rig, target, clients, per_second)),
            other => unreachable!("{other:?} is not done in turns"),
        };
        Self { target, turn }
    }

    /// A slice of its window.
    pub fn slice(&mut self, rig: &Rig, window: Duration) {
        self.turn.slice(rig, self.target, window / slices(window));
    }

    pub fn end(self) -> Vec<(Metric, f64)> {
        self.turn.end(self.target)
    }
}

/// How many slices a window is cut into.
pub fn slices(window: Duration) -> u32 {
    (window.as_millis() / SLICE.as_millis()).try_into().unwrap_or(u32::MAX).max(1)
}

/// What finding into this work again takes before a slice.
pub fn resumed(work: Work) -> Duration {
    match work {
        Work::Load(shape) if shape.keys > 1 => RESUMED_SLOW,
        _ => RESUMED,
    }
}

/// The same of a round, for each target.
pub fn overhead(work: Work, window: Duration) -> Duration {
    resumed(work) * slices(window)
}
