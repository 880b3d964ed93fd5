//! What a process takes that has just been started: time until it answers, memory at rest, memory of idle connections.

use crate::client::{Dialer, Link};
use crate::process::{Memory, file_limit, memory};
use crate::results::Metric;
use crate::rig::Rig;
use crate::targets::{self, Target};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

const SILENCE: Duration = Duration::from_secs(2);
/// Not counted: what the first connections of a process make it allocate once and for all.
const FIRST: usize = 16;
const PATIENCE: Duration = Duration::from_secs(20);

/// Memory per idle connection: each did one PING, then two seconds of silence.
pub fn connections(
    rig: &Rig,
    name: &'static str,
    connections: usize,
    envoy: Option<&PathBuf>,
) -> (Vec<(Metric, f64)>, String) {
    let (target, _) = started(rig, name, envoy);
    let wanted = connections.clamp(FIRST, most(name));
    let dialer = Dialer::new(&rig.ecdsa, &target, false);
    let dial = || {
        let mut link = dialer.must_dial(&target);
        link.rest();
        link
    };
    let mut open: Vec<Link> = (0..FIRST).map(|_| dial()).collect();
    thread::sleep(SILENCE);
    let before = memory(target.pid(rig));
    open.extend((0..wanted).map(|_| dial()));
    thread::sleep(SILENCE);
    let after = memory(target.pid(rig));
    let each = |figure: fn(&Memory) -> u64| figure(&after).saturating_sub(figure(&before)) as f64 / wanted as f64;
    let metrics =
        vec![(Metric::KibPss, each(|memory| memory.proportional)), (Metric::KibRss, each(|memory| memory.resident))];
    open.into_iter().for_each(Link::close);
    let note = if wanted == connections { String::new() } else { format!("with {wanted} connections") };
    (metrics, note)
}

/// A proxy has two descriptors a connection, and some of its own; stunnel a thread each as well, of which a tenth says as
/// much.
fn most(name: &str) -> usize {
    let most = file_limit() / 2 - 200;
    if name == "stunnel" { most.min(1000) } else { most }
}

/// Time from exec to the first PING answered over TLS, and memory a second after it.
pub fn start(rig: &Rig, name: &'static str, envoy: Option<&PathBuf>) -> Vec<(Metric, f64)> {
    let (target, elapsed) = started(rig, name, envoy);
    thread::sleep(Duration::from_secs(1));
    let Memory { proportional, resident } = memory(target.pid(rig));
    vec![
        (Metric::Ms, elapsed.as_secs_f64() * 1000.0),
        (Metric::MibPss, proportional as f64 / 1024.0),
        (Metric::MibRss, resident as f64 / 1024.0),
    ]
}

/// Starts a target and asks it until it answers.
fn started(rig: &Rig, name: &'static str, envoy: Option<&PathBuf>) -> (Target, Duration) {
    let certificates = rig.certificates(false);
    let begin = Instant::now();
    let mut target = targets::start(rig, certificates, name, envoy);
    let dialer = Dialer::new(certificates, &target, false);
    loop {
        match dialer.dial() {
            Ok(link) => {
                let elapsed = begin.elapsed();
                link.close();
                return (target, elapsed);
            }
            Err(error) => {
                if let Some(proxy) = &mut target.proxy {
                    proxy.must_run(name);
                }
                assert!(begin.elapsed() < PATIENCE, "{name} does not answer: {error}; its log:\n{}", target.log());
                thread::sleep(Duration::from_micros(300));
            }
        }
    }
}
