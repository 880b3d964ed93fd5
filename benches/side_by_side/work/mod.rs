//! The kinds of work a target is measured at, one module each.

pub mod load;
pub mod syscalls;

use crate::results::Metric;
use crate::rig::Rig;
use crate::scenario::Work;
use crate::targets::Target;
use std::time::Duration;

/// What one round of one target says, and a note beside it.
pub type Figures = (Vec<(Metric, f64)>, String);

/// Measures a running target once.
pub fn measure(rig: &Rig, target: &Target, work: Work, window: Duration) -> Figures {
    let plain = |metrics: Vec<(Metric, f64)>| (metrics, String::new());
    match work {
        Work::Load(shape) => plain(load::measure(rig, target, shape, window)),
        Work::Syscalls(shape) => syscalls::measure(rig, target, shape, window),
        _ => plain(Vec::new()),
    }
}

/// Measures a target that is started for it.
pub fn measure_fresh(
    _rig: &Rig,
    _name: &'static str,
    _work: Work,
    _envoy: Option<&std::path::PathBuf>,
) -> Vec<(Metric, f64)> {
    Vec::new()
}
