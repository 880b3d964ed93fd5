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
use load::Load;
use rate::Rate;
use std::path::PathBuf;
use std::time::Duration;
use turns::Turn;

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

/// Waits until Redis is by itself, and gives it the values that a work done in turns asks for.
pub fn prepare(rig: &Rig, work: Work) {
    load::await_quiet(rig);
    match work {
        Work::Load(shape) => rig.set_values(shape.keys, shape.value),
        _ => rig.set_value(rate::VALUE),
    }
}

/// The load of a work done in turns ([`crate::scenario::Scenario::is_in_turns`]) comes about, and rests.
pub fn begin(rig: &Rig, target: &Target, work: Work) -> Box<dyn Turn> {
    match work {
        Work::Load(shape) => Box::new(Load::start(rig, target, shape).paused()),
        Work::Rate { clients, per_second } => Box::new(Rate::start(rig, target, clients, per_second)),
        other => unreachable!("{other:?} is not done in turns"),
    }
}

/// Measures a target that is started for it.
pub fn measure_fresh(rig: &Rig, name: &'static str, work: Work, envoy: Option<&PathBuf>) -> Figures {
    match work {
        Work::Idle { connections } => idle::connections(rig, name, connections, envoy),
        _ => (idle::start(rig, name, envoy), String::new()),
    }
}
