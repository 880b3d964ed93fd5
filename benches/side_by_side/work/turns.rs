//! Several targets under the same load, in turns of a tenth of a second.
//!
//! A shared machine does not keep its speed for as long as a window takes, so that of windows one after the other each meets
//! another machine, and their ratios are as noisy as that. Each target therefore has a load of its own, all but one of
//! which rest: its window is cut into slices, between two of which all others have theirs.

use crate::results::Metric;
use crate::rig::Rig;
use crate::scenario::Work;
use crate::targets::Target;
use std::time::Duration;

/// How long a slice is, about. Shorter, and more would be spent on finding into the load again than on measuring it.
const SLICE: Duration = Duration::from_millis(100);
/// Before a slice, not measured: caches fill again, batches find their size.
const LEAD_IN: Duration = Duration::from_millis(30);
/// The same where Redis takes its time: a worker of ours finds out within a tenth of a second that it is worth while not to
/// interrupt it (`net::pace`), and has found that out under a load that lasts.
const LEAD_IN_SLOW: Duration = Duration::from_millis(120);

/// A load that can rest.
pub trait Turn {
    /// Goes on, is measured, and rests again.
    fn slice(&mut self, rig: &Rig, target: &Target, slice: Slice);

    /// Ends, and tells what all slices together have cost.
    fn end(self: Box<Self>) -> Vec<(Metric, f64)>;
}

/// A part of a window.
#[derive(Clone, Copy)]
pub struct Slice {
    /// Goes before it and is not measured.
    pub lead_in: Duration,
    pub length: Duration,
}

impl Slice {
    /// Those that a window is cut into.
    pub fn all(work: Work, window: Duration) -> impl Iterator<Item = Self> {
        let lead_in = match work {
            Work::Load(shape) if shape.keys > 1 => LEAD_IN_SLOW,
            _ => LEAD_IN,
        };
        let count = (window.as_millis() / SLICE.as_millis()).try_into().unwrap_or(u32::MAX).max(1);
        (0..count).map(move |_| Self { lead_in, length: window / count })
    }
}
