//! Latency at a fixed rate: an open loop. A command is due at its time whether or not earlier ones were answered, and its
//! latency counts from then, so that a stall is seen by everybody who would have waited.

use super::cost::{Cost, Snapshot};
use super::turns::{Slice, Turn};
use crate::client::{Dialer, Link};
use crate::results::Metric;
use crate::rig::{KEY, Rig};
use crate::targets::Target;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bytes of the value that is asked for, and of a reply.
pub const VALUE: usize = 64;
pub const REPLY: usize = "$64\r\n".len() + VALUE + "\r\n".len();
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

/// Clients that together send so many commands a second.
pub struct Rate {
    lanes: Vec<Lane>,
    /// Whose turn is next.
    next: usize,
    request: Vec<u8>,
    /// Between one command and the next.
    gap: Duration,
    /// Of all slices so far, in microseconds.
    latencies: Vec<f64>,
    cost: Cost,
}

impl Rate {
    /// Its clients connect, and rest.
    pub fn start(rig: &Rig, target: &Target, clients: u32, per_second: u32) -> Self {
        let dialer = Dialer::new(&rig.ecdsa, target, false);
        let lane = |_| Lane { link: dialer.polled(target), owed: VecDeque::new(), received: Vec::new() };
        Self {
            lanes: (0..clients).map(lane).collect(),
            next: 0,
            request: request(),
            gap: Duration::from_secs(1) / per_second,
            latencies: Vec::new(),
            cost: Cost::default(),
        }
    }

    /// Sends the next command, which was due then.
    fn send(&mut self, target: &Target, due: Instant) {
        let lane = &mut self.lanes[self.next];
        lane.link.send(&self.request).unwrap_or_else(|error| panic!("{}: {error}", target.name));
        lane.owed.push_back(due);
        self.next = (self.next + 1) % self.lanes.len();
    }

    /// Takes the answers that are there, and tells whether others are owed. The latency of what was due from `counted` on is
    /// kept.
    fn receive(&mut self, target: &Target, counted: Instant) -> bool {
        let mut owing = false;
        for lane in self.lanes.iter_mut().filter(|lane| !lane.owed.is_empty()) {
            lane.link.receive(&mut lane.received).unwrap_or_else(|error| panic!("{}: {error}", target.name));
            let answered = lane.received.len() / REPLY;
            if answered > 0 {
                let now = Instant::now();
                lane.received.drain(..answered * REPLY);
                let answered = lane.owed.drain(..answered).filter(|due| *due >= counted);
                self.latencies.extend(answered.map(|due| now.duration_since(due).as_secs_f64() * 1e6));
            }
            owing |= !lane.owed.is_empty();
        }
        owing
    }
}

impl Turn for Rate {
    fn slice(&mut self, rig: &Rig, target: &Target, slice: Slice) {
        // It takes a moment, which in between would make commands late.
        let snapshot = Snapshot::take(rig, target);
        let begin = Instant::now();
        let counted = begin + slice.lead_in;
        let end = counted + slice.length;
        let mut due = begin;
        loop {
            let now = Instant::now();
            while due <= now && due < end {
                self.send(target, due);
                due += self.gap;
            }
            let owing = self.receive(target, counted);
            if due >= end && !owing {
                break;
            }
            assert!(now < end + PATIENCE, "{}: replies are missing {PATIENCE:?} after the last command", target.name);
        }
        self.cost.add(&snapshot.until_now(rig, target));
    }

    fn end(self: Box<Self>) -> Vec<(Metric, f64)> {
        assert!(!self.latencies.is_empty(), "no command of the window was answered in time");
        let mut metrics = percentiles(self.latencies);
        metrics.extend(self.cost.per_command());
        self.lanes.into_iter().for_each(|lane| lane.link.close());
        metrics
    }
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
