//! Latency at a fixed rate: an open loop. A command is due at its time whether or not earlier ones were answered, and its
//! latency counts from then, so that a stall is seen by everybody who would have waited.

use super::cost::Snapshot;
use crate::client::{Dialer, Link};
use crate::results::Metric;
use crate::rig::{KEY, Rig};
use crate::targets::Target;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bytes of the value that is asked for, and of a reply.
const VALUE: usize = 64;
pub const REPLY: usize = "$64\r\n".len() + VALUE + "\r\n".len();
/// Not measured: the first commands.
const LEAD_IN: Duration = Duration::from_millis(200);
/// How long the last replies are waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// GET of a value of 64 bytes.
pub fn request() -> Vec<u8> {
    format!("*2\r\n$3\r\nGET\r\n${}\r\n{KEY}\r\n", KEY.len()).into_bytes()
}

/// A connection, and when the commands it has not answered were due.
struct Lane {
    link: Link,
    owed: VecDeque<Instant>,
    received: Vec<u8>,
}

pub fn measure(rig: &Rig, target: &Target, clients: u32, per_second: u32, window: Duration) -> Vec<(Metric, f64)> {
    rig.set_value(VALUE);
    let dialer = Dialer::new(&rig.ecdsa, target, false);
    let lane = |_| Lane { link: dialer.polled(target), owed: VecDeque::new(), received: Vec::new() };
    let mut lanes: Vec<Lane> = (0..clients).map(lane).collect();
    let (request, gap) = (request(), Duration::from_secs(1) / per_second);
    let begin = Instant::now();
    let (counted, end) = (begin + LEAD_IN, begin + LEAD_IN + window);
    let mut snapshot = None;
    let mut latencies = Vec::new();
    let (mut due, mut next) = (begin, 0);
    loop {
        let now = Instant::now();
        if now >= counted && snapshot.is_none() {
            snapshot = Some(Snapshot::take(rig, target));
        }
        while due <= now && due < end {
            let lane = &mut lanes[next];
            lane.link.send(&request).unwrap_or_else(|error| panic!("{}: {error}", target.name));
            lane.owed.push_back(due);
            next = (next + 1) % clients as usize;
            due += gap;
        }
        let mut owing = false;
        for lane in lanes.iter_mut().filter(|lane| !lane.owed.is_empty()) {
            lane.link.receive(&mut lane.received).unwrap_or_else(|error| panic!("{}: {error}", target.name));
            let answered = lane.received.len() / REPLY;
            if answered > 0 {
                let now = Instant::now();
                lane.received.drain(..answered * REPLY);
                let answered = lane.owed.drain(..answered).filter(|due| *due >= counted);
                latencies.extend(answered.map(|due| now.duration_since(due).as_secs_f64() * 1e6));
            }
            owing |= !lane.owed.is_empty();
        }
        if due >= end && !owing {
            break;
        }
        assert!(now < end + PATIENCE, "{}: replies are missing {PATIENCE:?} after the last command", target.name);
    }
    assert!(!latencies.is_empty(), "no command of the window was answered in time");
    let mut metrics = percentiles(latencies);
    metrics.extend(snapshot.map(|begin| begin.until_now(rig, target).per_command()).unwrap_or_default());
    lanes.into_iter().for_each(|lane| lane.link.close());
    metrics
}

/// p50, p99 and p99.9.
pub fn percentiles(mut latencies: Vec<f64>) -> Vec<(Metric, f64)> {
    latencies.sort_by(f64::total_cmp);
    let at = |per_mille: usize| {
        let rank = (latencies.len() * per_mille).div_ceil(1000).saturating_sub(1);
        latencies.get(rank).copied().unwrap_or(0.0)
    };
    vec![(Metric::P50, at(500)), (Metric::P99, at(990)), (Metric::P999, at(999))]
}
