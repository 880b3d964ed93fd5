//! The process: everything is built here from [`Settings`], and ends here.
//!
//! Order at the start: everything is read and checked (certificates, audit file) → everything is bound → threads are
//! started → "listening" is logged. Whatever fails before the last step ends the process with nothing half done.
//!
//! ```text
//!   main thread: signals, reload, secrets, drain, its own pen    admin thread: /livez /readyz /metrics
//!        │ phase (watch)                                             ▲ stats
//!        ├──────────────► acceptor ──── sockets ────► worker × n ────┤
//!        └── swaps `Live` and `Store` whole ──────► (read once per connection)
//! ```

mod reload;
mod secrets;
mod start;
mod steward;
pub mod supervisor;
mod watch;

pub use start::StartError;

use crate::{
    admin::operator::Reach,
    audit::{
        event::ProcessEvent,
        record::Recorder,
        sink::{Ports, SinkMonitor},
    },
    config::{
        Source,
        settings::{Log, Settings},
    },
    drain::{self, Drained, Request},
    metrics::{Metrics, WorkerStats},
    net::{
        clock::{Clock, micros},
        health,
        roster::Roster,
        service::{House, Live, Service},
        worker::Phase,
    },
    tls::{
        expiry::{End, Reminder, Say},
        reload::Store,
        server::Tls,
    },
};
use reload::{By, InForce, SetLog};
use secrets::Secrets;
use start::{Prepared, Threads, prepare, start_admin, start_threads};
use std::{
    collections::VecDeque,
    io,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use steward::{LastFailure, Steward};
use supervisor::{Inherited, Supervisor};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

/// How long the audit sink may take to write what it was given, after everything else has ended.
const SINK_WITHIN: Duration = Duration::from_secs(5);
/// How often the main thread looks at what only time changes.
const TICK: Duration = Duration::from_secs(2);
/// Most switches of upstreams that wait for their record; whoever has one more waits.
const SWITCHES: usize = 16;
/// Reloads that operators have asked for and that are not begun.
const ORDERS_MAX: usize = 4;
/// What the process' own pen may hold.
const PEN_BYTES: usize = 1024 * 1024;

/// Runs until a signal ends it, on the sockets that were handed down and on those it binds. `set_log` is called whenever a
/// reload has brought another log.
///
/// # Errors
///
/// [`StartError`]; nothing was served.
pub fn serve(
    source: &Source,
    mut settings: Settings,
    supervisor: Supervisor,
    inherited: Inherited,
    set_log: impl Fn(Log) + 'static,
) -> Result<ExitCode, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut secrets = Secrets::default();
    let printed = runtime.block_on(Secrets::run_all(&settings));
    runtime.block_on(async { secrets.keep(printed) }).map_err(StartError::Secret)?;
    secrets.fill(&mut settings, None);
    let prepared = prepare(settings, inherited)?;
    runtime.block_on(run(source, prepared, secrets, supervisor, Box::new(set_log)))
}

/// Runs the programs that print passwords, for whoever only looks at a configuration.
///
/// # Errors
///
/// One of them prints none, and why.
pub fn run_password_programs(settings: &mut Settings) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let mut secrets = Secrets::default();
    let printed = runtime.block_on(Secrets::run_all(settings));
    runtime.block_on(async { secrets.keep(printed) })?;
    secrets.fill(settings, None);
    Ok(())
}

/// The process' own pen, for what happens to the process.
struct Scribe {
    recorder: Recorder,
    ports: Ports,
    clock: Clock,
    stats: Arc<WorkerStats>,
    started_us: u64,
}

impl Scribe {
    fn write(&mut self, event: &ProcessEvent<'_>) {
        self.recorder.process(self.clock.now(), event);
        self.ports.exchange(&mut self.recorder);
        self.stats.publish(self.recorder.counters());
    }

    /// As a reload has left what all pens are made with.
    fn refit(&mut self, house: &House) {
        let common = house.common.load();
        self.recorder.refit(&common.outlets, PEN_BYTES, common.watches);
    }

    fn age_us(&self) -> u64 {
        self.clock.now().mono_us.saturating_sub(self.started_us)
    }
}

async fn run(
    source: &Source,
    prepared: Prepared,
    secrets: Secrets,
    supervisor: Supervisor,
    set_log: SetLog,
) -> Result<ExitCode, StartError> {
    let Prepared { settings, house, doors, admin, sinks, mut ports } = prepared;
    let mut requests = listen_to_signals()?;
    let clock = house.clock;
    let stats: Vec<Arc<WorkerStats>> = ports.iter().map(|_| Arc::default()).collect();
    let (Some(own_ports), Some(own)) = (ports.pop(), stats.last().cloned()) else {
        return Err(io::Error::other("the sink has no port for the process itself").into());
    };
    let mut scribe = Scribe {
        recorder: house.pen(pen(ports.len()), PEN_BYTES),
        ports: own_ports,
        clock,
        stats: own,
        started_us: clock.now().mono_us,
    };
    let monitors = sinks.monitors();
    let started = clock.now().wall_us / 1_000_000;
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"), started, stats.clone(), monitors.clone())?);
    let draining = Arc::new(AtomicBool::new(false));

    let services: Vec<String> = house.services.iter().map(|service| service.name.to_string()).collect();
    let in_force = InForce::new(settings, secrets, set_log);
    scribe.write(&ProcessEvent::Start {
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        config_sha256: in_force.digest(),
        services: &services,
    });
    let (roster, questions) = Roster::of(stats.len().saturating_sub(2));
    // Removed when this returns, so that a drain can be watched to its end.
    let failure = LastFailure::default();
    let (orders, mut ordered) = mpsc::channel(ORDERS_MAX);
    let reach = Reach { roster, taps: monitors.iter().map(SinkMonitor::tap).collect(), reload: orders };
    let _socket = start_admin(admin, Arc::clone(&metrics), &house, &monitors, &draining, &failure, reach)?;
    let lines: Vec<String> = doors
        .iter()
        .filter_map(|door| {
            let service = house.services.get(door.service)?;
            let upstream = &service.live.load().upstream.address;
            Some(format!("listening on {} → {upstream} as service {}", door.address, service.name))
        })
        .collect();
    let mut threads = start_threads(in_force.settings(), &house, doors, ports, &stats, questions)?;
    for line in lines {
        tracing::info!("{line}");
    }
    publish_certificates(&house, &metrics);
    for service in &house.services {
        // Whether Redis is there is asked once before any client asks, so that `/readyz` does not guess; a Redis that
        // comes later is no reason not to start.
        health::look(&house, service, &service.live.load_full()).await;
    }
    let (tell, mut switches) = mpsc::channel(SWITCHES);
    for index in 0..house.services.len() {
        tokio::spawn(health::keep(Arc::clone(&house), index, tell.clone()));
    }
    // To the end of the drain: who is stopped takes as long as it takes, but is alive.
    tokio::spawn(supervisor.clone().watch(stats.iter().take(stats.len().saturating_sub(1)).cloned().collect()));
    supervisor.ready();

    let mut steward =
        Steward::new(source, Arc::clone(&house), Arc::clone(&metrics), in_force, failure, supervisor.clone());
    let mut tick = tokio::time::interval(TICK);
    let mut failed = false;
    // Signals that came while something else was done.
    let mut later: VecDeque<Request> = VecDeque::new();
    loop {
        let mut renew = false;
        let request = match later.pop_front() {
            Some(request) => Some(request),
            None => tokio::select! {
                request = requests.recv() => request,
                Some(order) = ordered.recv() => {
                    renew = steward.obey(order, &mut scribe, &mut requests, &mut later).await;
                    None
                }
                errand = steward.next() => {
                    renew = steward.run(errand, &mut scribe, &mut requests, &mut later).await;
                    None
                }
                ended = threads.ended.recv() => {
                    let name = ended.unwrap_or("a thread");
                    tracing::error!("{name} has ended unasked; this is a bug in ravelin: the process drains and ends");
                    threads.running = threads.running.saturating_sub(1);
                    failed = true;
                    break;
                }
                Some(switch) = switches.recv() => {
                    let service = house.services.get(switch.service).map_or("", |service| &service.name);
                    scribe.write(&ProcessEvent::UpstreamSwitch {
                        service,
                        from: &switch.from,
                        to: &switch.to,
                        reason: switch.reason,
                    });
                    None
                }
                _ = tick.tick() => {
                    look_around(&house, &metrics, &monitors, &mut scribe);
                    for (service, say) in steward.reminders() {
                        start::tell_of_end(&service, &say);
                    }
                    None
                }
            },
        };
        match request {
            Some(Request::Stop) => break,
            Some(Request::Reopen) => match sinks.reopen() {
                Ok(()) => tracing::info!("the audit files are opened anew"),
                Err((name, error)) => {
                    tracing::error!(output = name, %error, "the audit file cannot be opened anew; the old one is kept");
                }
            },
            Some(Request::Reload) => {
                let answer = steward.reload(By::Signal, &mut scribe, &mut requests, &mut later).await;
                renew = answer.is_some_and(|answer| answer.failed.is_none());
            }
            None => {}
        }
        if renew {
            scribe.refit(&house);
            threads.phase.send_modify(|phase| {
                if let Phase::Serve(n) = phase {
                    *n = n.wrapping_add(1)
                }
            });
        }
    }

    draining.store(true, Ordering::Relaxed);
    metrics.set_draining();
    supervisor.stopping(u64::from(house.permits.open()));
    let within = steward.in_force.settings().limits.drain_timeout;
    let (drained, aborted) = wind_down(threads, &house, within, &mut requests, &mut scribe).await;
    let fine = drained.in_time && drained.complete && !failed;
    let reason = if failed {
        "failure"
    } else if drained.in_time {
        "drained"
    } else {
        "deadline"
    };
    tracing::info!(aborted, reason, "all connections are closed");
    // It may have come since the last look around.
    tell_recoveries(&monitors, &mut scribe);
    let us = scribe.age_us();
    scribe.write(&ProcessEvent::Stop { reason, us });
    match sinks.flush_and_close(SINK_WITHIN) {
        Ok(()) if fine => Ok(ExitCode::SUCCESS),
        Ok(()) => Ok(ExitCode::FAILURE),
        Err(lost) => {
            tracing::error!(bytes = lost, "the audit stream could not be written to its end");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The number of a pen.
fn pen(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}

fn listen_to_signals() -> io::Result<mpsc::Receiver<Request>> {
    let (sender, requests) = mpsc::channel(8);
    for (kind, request) in [
        (SignalKind::terminate(), Request::Stop),
        (SignalKind::interrupt(), Request::Stop),
        (SignalKind::hangup(), Request::Reload),
        (SignalKind::user_defined1(), Request::Reopen),
    ] {
        let mut signals = signal(kind)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                if sender.send(request).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(requests)
}

/// What nobody tells the main thread: how Redis is, a sink that works again.
fn look_around(house: &House, metrics: &Metrics, monitors: &[SinkMonitor], scribe: &mut Scribe) {
    for service in &house.services {
        metrics.set_upstream(&service.name, &service.live.load().keeper);
    }
    tell_recoveries(monitors, scribe);
}

fn tell_recoveries(monitors: &[SinkMonitor], scribe: &mut Scribe) {
    for monitor in monitors {
        if let Some(recovery) = monitor.take_recovery() {
            let (output, reason) = (monitor.name(), recovery.reason.as_str());
            scribe.write(&ProcessEvent::SinkRecovered { output, reason, us: recovery.us });
        }
    }
}

fn publish_certificates(house: &House, metrics: &Metrics) {
    for service in &house.services {
        let found = Endings::of(service);
        metrics.set_certificates(&service.name, found.all().map(|end| (end.certificate.as_str(), end.at)));
    }
}

/// What there is to say now of certificates and lists that end by themselves.
fn due(reminder: &mut Reminder, house: &House) -> Vec<(String, Say)> {
    let now = house.clock.now();
    let found: Vec<_> = house.services.iter().map(|service| (&*service.name, Endings::of(service))).collect();
    let ends = found.iter().flat_map(|(name, found)| found.all().map(|end| (*name, end)));
    reminder.due(ends, i64::try_from(now.wall_us / 1_000_000).unwrap_or(i64::MAX), now.mono_us)
}

/// What is in force of a service's certificates and lists, on its clients' side and on the way to Redis.
struct Endings {
    tls: Option<Arc<Tls>>,
    live: Arc<Live>,
}

impl Endings {
    fn of(service: &Service) -> Self {
        Self { tls: service.tls.as_ref().map(Store::current), live: service.live.load_full() }
    }

    fn all(&self) -> impl Iterator<Item = &End> {
        self.tls.iter().flat_map(|tls| &tls.description().ends).chain(self.live.ends())
    }
}

/// Steps 2 to 6 of [`drain`], with their records; how many connections had to be aborted.
async fn wind_down(
    mut threads: Threads,
    house: &House,
    within: Duration,
    requests: &mut mpsc::Receiver<Request>,
    scribe: &mut Scribe,
) -> (Drained, u64) {
    let connections = u64::from(house.permits.open());
    let began = scribe.age_us();
    tracing::info!(connections, within = ?within, "draining");
    scribe.write(&ProcessEvent::DrainBegin { reason: "signal", connections, deadline_us: micros(within) });
    let drained = drain::drain(&threads.phase, &mut threads.ended, threads.running, within, requests).await;
    let mut aborted = 0_u64;
    for thread in threads.workers.into_iter().filter(|_| drained.complete) {
        if let Ok(Ok(count)) = thread.join() {
            aborted = aborted.saturating_add(count as u64);
        }
    }
    let us = scribe.age_us().saturating_sub(began);
    scribe.write(&ProcessEvent::DrainEnd { drained: connections.saturating_sub(aborted), aborted, us });
    (drained, aborted)
}
