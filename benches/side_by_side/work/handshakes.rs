//! What a connection costs: TCP, TLS with both certificates, one PING, and gone. One after the other, and a thousand at
//! once.

use super::cost::Snapshot;
use super::rate::percentiles;
use crate::client::Dialer;
use crate::results::Metric;
use crate::rig::{Certificates, Rig};
use crate::targets::Target;
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Not counted: what the first connections make a process allocate, and the first session, which cannot be resumed.
const FIRST: usize = 10;
const STACK: usize = 512 * 1024;

/// CPU of proxy and Redis per connection, one after the other.
pub fn measure(rig: &Rig, target: &Target, rsa: bool, resume: bool, window: Duration) -> Vec<(Metric, f64)> {
    let certificates: &Certificates = if rsa { &rig.rsa } else { &rig.ecdsa };
    let dialer = Dialer::new(certificates, target, resume);
    (0..FIRST).for_each(|_| dialer.must_dial(target).close());
    let begin = Snapshot::take(rig, target);
    let (mut made, mut resumed) = (0_u32, 0_u32);
    while begin.at.elapsed() < window {
        let link = dialer.must_dial(target);
        resumed += u32::from(link.resumed());
        link.close();
        made += 1;
    }
    let cost = begin.until_now(rig, target);
    let made = f64::from(made.max(1));
    vec![(Metric::CpuMs, cost.cpu_ms() / made), (Metric::Resumed, f64::from(resumed) / made)]
}

/// So many at once: how long until all are answered, each of them, and what it costs.
pub fn storm(rig: &Rig, target: &Target, clients: u32) -> Vec<(Metric, f64)> {
    let dialer = Dialer::new(&rig.ecdsa, target, false);
    dialer.must_dial(target).close();
    let gate = Barrier::new(clients as usize + 1);
    let answered = Mutex::new(Vec::new());
    let (mut cost, mut elapsed) = (0.0, Duration::ZERO);
    thread::scope(|scope| {
        let client = || {
            gate.wait();
            let begin = Instant::now();
            // Kept open until all are there: those that come back after an outage stay.
            let link = dialer.dial();
            let mut answered = answered.lock().expect("nobody panics with it");
            answered.push(link.is_ok().then(|| begin.elapsed()));
            drop(answered);
            gate.wait();
            link.into_iter().for_each(crate::client::Link::close);
        };
        for _ in 0..clients {
            let thread = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, client);
            thread.expect("a thread for each client");
        }
        let snapshot = Snapshot::take(rig, target);
        gate.wait();
        let begin = Instant::now();
        gate.wait();
        elapsed = begin.elapsed();
        cost = snapshot.until_now(rig, target).cpu_ms();
    });
    let answered = answered.into_inner().expect("nobody panics with it");
    let failed = answered.iter().filter(|time| time.is_none()).count();
    let mut metrics = percentiles(answered.into_iter().flatten().map(|time| time.as_secs_f64() * 1e6).collect());
    metrics.extend([
        (Metric::Ms, elapsed.as_secs_f64() * 1000.0),
        (Metric::CpuMs, cost),
        (Metric::Failed, failed as f64),
    ]);
    metrics
}
