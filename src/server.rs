//! The process: everything is built here from [`Settings`], and ends here.
//!
//! Order at the start: everything is read and checked (certificates, audit file) → everything is bound → threads are
//! started → "listening" is logged. Whatever fails before the last step ends the process with nothing half done.
//!
//! ```text
//!   main thread: signals, reload, drain, its own pen          admin thread: /livez /readyz /metrics
//!        │ phase (watch)                                             ▲ stats
//!        ├──────────────► acceptor ──── sockets ────► worker × n ────┤
//!        └── swaps [`Live`] and [`Store`] whole ──────► (read once per connection)
//! ```

mod reload;

use crate::{
    admin::{self, AdminState},
    audit::{
        event::ProcessEvent,
        record::Recorder,
        sink::{Sink, SinkHandle, SinkMonitor, SinkPort, Target},
    },
    config::{
        Source,
        settings::{AuditOutput, Service as ServiceSettings, Settings, TlsVersion},
    },
    drain::{self, Drained, Request},
    metrics::{Metrics, WorkerStats},
    net::{
        clock::{Clock, micros},
        listener::{self, Door},
        permits::Permits,
        service::{House, Live, Service},
        socket,
        worker::{self, Phase, Worker},
    },
    tls::{
        reload::Store,
        server::{FileError, Files, MinVersion, Tls},
    },
};
use arc_swap::ArcSwap;
use rustls::pki_types::UnixTime;
use std::{
    io,
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

/// How long the audit sink may take to write what it was given, after everything else has ended.
const SINK_WITHIN: Duration = Duration::from_secs(5);
/// How often the main thread looks at what only time changes.
const TICK: Duration = Duration::from_secs(2);
/// What the process' own pen may hold.
const PEN_BYTES: usize = 1024 * 1024;

/// Why the process did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A certificate, key, CA or CRL cannot be used.
    #[error("service {service}: {error}")]
    Tls {
        /// Whose.
        service: Arc<str>,
        /// Which file, and what to do.
        error: FileError,
    },
    /// The audit output cannot be opened.
    #[error("the audit stream cannot be written to {output}: {error}")]
    Sink {
        /// Where it was to go.
        output: String,
        /// As the system says.
        error: io::Error,
    },
    /// An address cannot be bound.
    #[error("cannot listen on {address} for {purpose}: {error}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// `service NAME` or `the admin endpoint`.
        purpose: String,
        /// As the system says.
        error: io::Error,
    },
    /// No thread, no runtime, no signal handler.
    #[error("the process cannot be set up: {0}")]
    System(#[from] io::Error),
    /// Two metrics of one name: a bug.
    #[error("the metrics cannot be set up: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl StartError {
    /// 3 for what the configuration names wrongly, 1 for what the system refuses.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Tls { .. } => ExitCode::from(3),
            Self::Sink { .. } | Self::Bind { .. } | Self::System(_) | Self::Metrics(_) => ExitCode::FAILURE,
        }
    }
}

/// Everything that is read, bound and checked; no thread runs but the sink's.
struct Prepared {
    settings: Settings,
    house: Arc<House>,
    doors: Vec<Door>,
    admin: Option<std::net::TcpListener>,
    sink: SinkHandle,
    ports: Vec<SinkPort>,
}

/// Runs until a signal ends it. `ready` is called once, when connections are accepted.
///
/// # Errors
///
/// [`StartError`]; nothing was served.
pub fn serve(source: &Source, settings: Settings, ready: impl FnOnce()) -> Result<ExitCode, StartError> {
    let prepared = prepare(settings)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(source, prepared, ready))
}

fn prepare(settings: Settings) -> Result<Prepared, StartError> {
    let clock = Clock::start();
    let mut services = Vec::new();
    for service in &settings.services {
        let name = Arc::clone(&service.name);
        let tls = Tls::load(&files(service), unix(clock))
            .map_err(|error| StartError::Tls { service: Arc::clone(&name), error })?;
        for warning in &tls.description().warnings {
            tracing::warn!(service = %name, "{warning}");
        }
        services.push(Service {
            name,
            per_address_max: service.max_connections_per_address,
            tls: Store::new(tls),
            live: ArcSwap::from_pointee(Live::new(service, &settings.limits, &settings.audit)),
            reachable: AtomicBool::new(true),
        });
    }
    let pens = usize::from(settings.limits.workers.count().get()).saturating_add(2);
    let target = match &settings.audit.output {
        AuditOutput::Stdout => Target::Stdout,
        AuditOutput::File(path) => Target::File(path.clone()),
    };
    let (sink, ports) =
        Sink::open(target.clone(), pens).map_err(|error| StartError::Sink { output: describe(&target), error })?;
    let mut doors = Vec::new();
    for (index, service) in settings.services.iter().enumerate() {
        for (listener, each) in service.listeners.iter().enumerate() {
            let socket = bind(each.address, settings.limits.backlog.get(), || format!("service {}", service.name))?;
            let address = socket.local_addr()?;
            doors.push(Door { socket, address, service: index, listener });
        }
    }
    let admin = match settings.admin {
        Some(admin) => Some(bind(admin.address, 128, || "the admin endpoint".to_owned())?),
        None => None,
    };
    let house = Arc::new(House::new(services, clock, Permits::new(settings.limits.max_connections)));
    Ok(Prepared { settings, house, doors, admin, sink, ports })
}

fn bind(address: SocketAddr, backlog: u32, purpose: impl Fn() -> String) -> Result<std::net::TcpListener, StartError> {
    socket::listen(address, backlog).map_err(|error| StartError::Bind { address, purpose: purpose(), error })
}

fn describe(target: &Target) -> String {
    match target {
        Target::Stdout => "standard output".to_owned(),
        Target::File(path) => path.display().to_string(),
    }
}

/// Where `tls` finds a service's files.
fn files(service: &ServiceSettings) -> Files {
    Files {
        cert: service.tls.cert.clone(),
        key: service.tls.key.clone(),
        client_ca: service.tls.client_ca.clone(),
        crl: service.tls.crl.clone(),
        min_version: match service.tls.min_version {
            TlsVersion::V12 => MinVersion::Tls12,
            TlsVersion::V13 => MinVersion::Tls13,
        },
    }
}

fn unix(clock: Clock) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_micros(clock.now().wall_us))
}

/// The process' own pen, for what happens to the process.
struct Scribe {
    recorder: Recorder,
    port: SinkPort,
    clock: Clock,
    stats: Arc<WorkerStats>,
    started_us: u64,
}

impl Scribe {
    fn write(&mut self, event: &ProcessEvent<'_>) {
        self.recorder.process(self.clock.now(), event);
        self.port.exchange(&mut self.recorder);
        self.stats.publish(self.recorder.counters().clone());
    }

    fn age_us(&self) -> u64 {
        self.clock.now().mono_us.saturating_sub(self.started_us)
    }
}

/// The threads of a running process, and the way to tell them.
struct Threads {
    phase: watch::Sender<Phase>,
    ended: mpsc::Receiver<&'static str>,
    running: usize,
    workers: Vec<std::thread::JoinHandle<io::Result<usize>>>,
}

async fn run(source: &Source, prepared: Prepared, ready: impl FnOnce()) -> Result<ExitCode, StartError> {
    let Prepared { settings, house, doors, admin, sink, mut ports } = prepared;
    let mut requests = listen_to_signals()?;
    let clock = house.clock;
    let stats: Vec<Arc<WorkerStats>> = ports.iter().map(|_| Arc::default()).collect();
    let (Some(port), Some(own)) = (ports.pop(), stats.last().cloned()) else {
        return Err(io::Error::other("the sink has no port for the process itself").into());
    };
    let mut scribe = Scribe {
        recorder: Recorder::new(pen(ports.len()), PEN_BYTES),
        port,
        clock,
        stats: own,
        started_us: clock.now().mono_us,
    };
    let monitor = sink.monitor();
    let started = clock.now().wall_us / 1_000_000;
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"), started, stats.clone(), monitor.clone())?);
    let draining = Arc::new(AtomicBool::new(false));

    let services: Vec<String> = house.services.iter().map(|service| service.name.to_string()).collect();
    let mut in_force = reload::InForce::new(settings);
    scribe.write(&ProcessEvent::Start {
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        config_sha256: in_force.digest(),
        services: &services,
    });
    if let Some(listener) = admin {
        start_admin(listener, Arc::clone(&metrics), &house, &monitor, &draining)?;
    }
    let lines: Vec<String> = doors
        .iter()
        .filter_map(|door| {
            let service = house.services.get(door.service)?;
            let upstream = &service.live.load().upstream.address;
            Some(format!("listening on {} → {upstream} as service {}", door.address, service.name))
        })
        .collect();
    let mut threads = start_threads(in_force.settings(), &house, doors, ports, &stats)?;
    for line in lines {
        tracing::info!("{line}");
    }
    publish_certificates(&house, &metrics);
    ready();

    let mut tick = tokio::time::interval(TICK);
    let mut failed = false;
    loop {
        tokio::select! {
            Some(request) = requests.recv() => match request {
                Request::Stop => break,
                Request::Reopen => match sink.reopen() {
                    Ok(()) => tracing::info!("the audit file is opened anew"),
                    Err(error) => tracing::error!(%error, "the audit file cannot be opened anew; the old one is kept"),
                },
                Request::Reload => {
                    let outcome = in_force.reload(source, &house);
                    metrics.count_reload("config", outcome.is_ok());
                    let failure = outcome.as_ref().err().map(ToString::to_string);
                    scribe.write(&ProcessEvent::Reload {
                        what: "config",
                        failed: failure.as_deref(),
                        config_sha256: in_force.digest(),
                    });
                    match failure {
                        None => {
                            threads.phase.send_modify(|phase| if let Phase::Serve(n) = phase { *n = n.wrapping_add(1) });
                            publish_certificates(&house, &metrics);
                            tracing::info!("reloaded: new connections use the new configuration");
                        }
                        Some(reason) => tracing::error!("not reloaded, the old configuration is kept: {reason}"),
                    }
                }
            },
            ended = threads.ended.recv() => {
                let name = ended.unwrap_or("a thread");
                tracing::error!("{name} has ended unasked; this is a bug in ravelin: the process drains and ends");
                threads.running = threads.running.saturating_sub(1);
                failed = true;
                break;
            }
            _ = tick.tick() => look_around(&house, &metrics, &monitor, &mut scribe).await,
        }
    }

    draining.store(true, Ordering::Relaxed);
    metrics.set_draining();
    let within = in_force.settings().limits.drain_timeout;
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
    scribe.write(&ProcessEvent::Stop { reason, us: scribe_age(&scribe) });
    match sink.flush_and_close(SINK_WITHIN) {
        Ok(()) if fine => Ok(ExitCode::SUCCESS),
        Ok(()) => Ok(ExitCode::FAILURE),
        Err(lost) => {
            tracing::error!(bytes = lost, "the audit stream could not be written to its end");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn scribe_age(scribe: &Scribe) -> u64 {
    scribe.age_us()
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

/// Workers first, so that the acceptor has somewhere to send sockets to.
fn start_threads(
    settings: &Settings,
    house: &Arc<House>,
    doors: Vec<Door>,
    ports: Vec<SinkPort>,
    stats: &[Arc<WorkerStats>],
) -> Result<Threads, StartError> {
    let (phase, told) = watch::channel(Phase::Serve(0));
    let (end, ended) = mpsc::channel(ports.len().max(1));
    let pen_bytes = settings.audit.queue;
    let count = settings.limits.workers.count();
    let mut ports = ports.into_iter().zip(stats.iter().cloned());
    let (mut workers, mut entrances) = (Vec::new(), Vec::new());
    for (index, (port, stats)) in (0..count.get()).zip(ports.by_ref()) {
        let plan = worker::Plan {
            index,
            house: Arc::clone(house),
            pen_bytes,
            memory_max: settings.limits.memory / u64::from(count.get()),
            port,
            stats,
            phase: told.clone(),
            ended: end.clone(),
        };
        let Worker { arrivals, stats, thread } = Worker::start(plan)?;
        entrances.push((arrivals, stats));
        workers.push(thread);
    }
    let (port, stats) = ports.next().ok_or_else(|| io::Error::other("the sink has no port for the acceptor"))?;
    listener::start(listener::Plan {
        index: count.get(),
        house: Arc::clone(house),
        doors,
        workers: entrances,
        pen_bytes,
        port,
        stats,
        phase: told,
        ended: end,
    })?;
    let running = workers.len().saturating_add(1);
    Ok(Threads { phase, ended, running, workers })
}

fn start_admin(
    listener: std::net::TcpListener,
    metrics: Arc<Metrics>,
    house: &Arc<House>,
    monitor: &SinkMonitor,
    draining: &Arc<AtomicBool>,
) -> Result<(), StartError> {
    let address = listener.local_addr()?;
    let (draining, monitor, house) = (Arc::clone(draining), monitor.clone(), Arc::clone(house));
    let state = AdminState::new(metrics)
        .require("serving", move || if draining.load(Ordering::Relaxed) { Err("draining".into()) } else { Ok(()) })
        .require("audit", move || monitor.failing().map_or(Ok(()), Err))
        .require("upstream", move || {
            let lost = house.services.iter().find(|service| !service.reachable.load(Ordering::Relaxed));
            lost.map_or(Ok(()), |service| Err(format!("the Redis of service {} cannot be reached", service.name)))
        });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("admin".into()).spawn(move || {
        runtime.block_on(async {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => admin::serve(listener, state).await,
                Err(error) => tracing::error!(%error, "the admin endpoint cannot be served"),
            }
        });
    })?;
    tracing::info!("admin endpoint on {address}");
    Ok(())
}

/// What nobody tells the main thread: an outage of Redis that is over, a sink that works again.
async fn look_around(house: &House, metrics: &Metrics, monitor: &SinkMonitor, scribe: &mut Scribe) {
    for service in &house.services {
        if !service.reachable.load(Ordering::Relaxed) {
            // Only then: while clients come, their own connections tell. The probe says nothing and is closed again.
            let _ = service.connect(&service.live.load_full()).await;
        }
        metrics.set_upstream_up(&service.name, service.reachable.load(Ordering::Relaxed));
    }
    if let Some(recovery) = monitor.take_recovery() {
        scribe.write(&ProcessEvent::SinkRecovered { reason: &recovery.reason, us: recovery.us });
    }
}

fn publish_certificates(house: &House, metrics: &Metrics) {
    for service in &house.services {
        let tls = service.tls.current();
        let found = tls.description();
        for (kind, certificates) in [("server", &found.chain), ("client_ca", &found.client_ca)] {
            let ends = certificates.iter().filter_map(|each| each.not_after.parse::<jiff::Timestamp>().ok());
            if let Some(first) = ends.min() {
                metrics.set_certificate_not_after(&service.name, kind, first.as_second());
            }
        }
    }
}

/// Steps 2 to 5 of [`drain`], with their records; how many connections had to be aborted.
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
    scribe.write(&ProcessEvent::DrainEnd {
        drained: connections.saturating_sub(aborted),
        aborted,
        us: scribe_age(scribe).saturating_sub(began),
    });
    (drained, aborted)
}
