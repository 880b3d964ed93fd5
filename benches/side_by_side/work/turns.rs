//! Several targets under the same load, in turns of a tenth of a second.
//!
//! A shared machine does not keep its speed for as long as a window takes, so that of windows one after the other each meets
//! another machine, and their ratios are as noisy as that. Each target therefore has a load generator of its own, all but
//! one of which are stopped: its window is cut into slices, between two of which all others have theirs.

use super::load::{Load, RESUMED, Spent, await_quiet};
use crate::rig::Rig;
use crate::scenario::Shape;
use crate::targets::Target;
use std::time::Duration;

/// How long a slice is, about. Shorter, and more would be spent on finding into the load again than on measuring it.
const SLICE: Duration = Duration::from_millis(100);

/// A target that takes part in a round.
pub struct Entrant<'t> {
    pub target: &'t Target,
    load: Load,
    pub spent: Spent,
}

/// Waits until Redis is by itself, and gives it the values that are asked for.
pub fn prepare(rig: &Rig, shape: Shape) {
    await_quiet(rig);
    rig.set_values(shape.keys, shape.value);
}

impl<'t> Entrant<'t> {
    /// Its load comes about, and is stopped.
    pub fn start(rig: &Rig, target: &'t Target, shape: Shape) -> Self {
        let load = Load::start(rig, target, shape);
        load.pause();
        Self { target, load, spent: Spent::default() }
    }

    /// A slice of its window.
    pub fn slice(&mut self, rig: &Rig, window: Duration) {
        self.load.resume();
        self.load.measure(rig, self.target, window / slices(window), &mut self.spent);
        self.load.pause();
    }

    pub fn end(self) {
        self.load.end();
    }
}

/// How many slices a window is cut into.
pub fn slices(window: Duration) -> u32 {
    (window.as_millis() / SLICE.as_millis()).try_into().unwrap_or(u32::MAX).max(1)
}

/// What finding into the load again takes of a round, for each target.
pub fn overhead(window: Duration) -> Duration {
    RESUMED * slices(window)
}
