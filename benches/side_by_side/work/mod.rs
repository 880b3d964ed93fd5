//! The kinds of work a target is measured at, one module each.

mod cost;
mod fairness;
mod handshakes;
mod idle;
pub mod load;
mod rate;
pub mod syscalls;
pub mod turns;

use crate::results::Metric;
use crate::rig::Rig;
use crate::scenario::{CLIENTS, KEYS, Shape, Verb, Work};
use crate::targets::Target;
use std::path::PathBuf;
use std::time::Duration;

/// What one round of one target says, and a note beside it.
pub type Figures = (Vec<(Metric, f64)>, String);

/// redis-benchmark leaves Nagle's algorithm on, and 17,000 bytes need two TLS records.
const NAGLE: Shape = Shape { verb: Verb::Set, value: 17_000, pipeline: 1, clients: CLIENTS, keys: KEYS };

/// Measures a running target once.
pub fn measure(rig: &Rig, target: &Target, work: Work, window: Duration) -> Figures {
    let metrics = match work {
        Work::Syscalls(shape) => return syscalls::measure(rig, target, shape, window),
        Work::Load(shape) => load::measure(rig, target, shape, window),
        Work::Nagle => load::measure(rig, target, NAGLE, window),
        Work::Handshakes { rsa, resumed } => handshakes::measure(rig, target, rsa, resumed, window),
        Work::Fairness => fairness::measure(rig, target, window),
        Work::Storm { clients } => handshakes::storm(rig, target, clients),
        Work::Rate { .. } => unreachable!("measured in turns"),
        Work::Idle { .. } | Work::Start => unreachable!("measured of a fresh process"),
    };
    (metrics, String::new())
}

/// Measures a target that is started for it.
pub fn measure_fresh(rig: &Rig, name: &'static str, work: Work, envoy: Option<&PathBuf>) -> Figures {
    match work {
        Work::Idle { connections } => idle::connections(rig, name, connections, envoy),
        _ => (idle::start(rig, name, envoy), String::new()),
    }
}
