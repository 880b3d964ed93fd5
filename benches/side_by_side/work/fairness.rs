//! One client with single commands beside four that keep a pipeline full: does it wait for them?

use super::rate::{REPLY, percentiles, request};
use crate::client::{Dialer, Link};
use crate::results::Metric;
use crate::rig::Rig;
use crate::targets::Target;
use std::time::{Duration, Instant};

const PIPELINERS: usize = 4;
/// Commands that each keeps in flight, and how many it sends at a time.
const IN_FLIGHT: usize = 256;
const BATCH: usize = 64;
/// Between an answer to the single client and its next command.
const PAUSE: Duration = Duration::from_millis(1);
const LEAD_IN: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection that always has more to ask.
struct Pipeliner {
    link: Link,
    owed: usize,
    received: Vec<u8>,
}

/// The latencies of the single client, and what the others get done meanwhile.
pub fn measure(rig: &Rig, target: &Target, window: Duration) -> Vec<(Metric, f64)> {
    rig.set_value(64);
    let dialer = Dialer::new(&rig.ecdsa, target, false);
    let pipeliner = |_| Pipeliner { link: dialer.polled(target), owed: 0, received: Vec::new() };
    let mut pipeliners: Vec<Pipeliner> = (0..PIPELINERS).map(pipeliner).collect();
    let mut single = dialer.polled(target);
    let (request, batch) = (request(), request().repeat(BATCH));
    let fail = |error: std::io::Error| -> () { panic!("{}: {error}", target.name) };
    let begin = Instant::now();
    let (counted, end) = (begin + LEAD_IN, begin + LEAD_IN + window);
    let (mut latencies, mut answers) = (Vec::new(), 0);
    let (mut asked, mut next, mut received) = (None, begin, Vec::new());
    loop {
        for pipeliner in &mut pipeliners {
            let now = Instant::now();
            pipeliner.link.receive(&mut pipeliner.received).unwrap_or_else(fail);
            let answered = pipeliner.received.len() / REPLY;
            pipeliner.received.drain(..answered * REPLY);
            pipeliner.owed -= answered;
            answers += if now >= counted { answered } else { 0 };
            pipeliner.link.flush().unwrap_or_else(fail);
            while pipeliner.owed + BATCH <= IN_FLIGHT {
                pipeliner.link.send(&batch).unwrap_or_else(fail);
                pipeliner.owed += BATCH;
            }
            // The single client is looked after between any two of them.
            match asked {
                None if now >= next => {
                    asked = Some(Instant::now());
                    single.send(&request).unwrap_or_else(fail);
                }
                None => {}
                Some(since) => {
                    single.receive(&mut received).unwrap_or_else(fail);
                    if received.len() >= REPLY {
                        let now = Instant::now();
                        received.clear();
                        if since >= counted {
                            latencies.push(now.duration_since(since).as_secs_f64() * 1e6);
                        }
                        (asked, next) = (None, now + PAUSE);
                    }
                    assert!(since.elapsed() < PATIENCE, "{}: a single GET waits for ever", target.name);
                }
            }
        }
        if Instant::now() >= end {
            break;
        }
    }
    assert!(!latencies.is_empty(), "no command of the window was answered in time");
    let mut metrics = percentiles(latencies);
    metrics.push((Metric::PerSecond, answers as f64 / window.as_secs_f64()));
    metrics
}
