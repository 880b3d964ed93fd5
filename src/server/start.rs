//! The start: read and check, bind, start threads; in this order, so that whatever fails leaves nothing half done.

use super::{
    steward::LastFailure,
    supervisor::{InheritError, Inherited},
};
use crate::{
    admin::{self, AdminState, BanAnswer, BanOrder, operator::Reach},
    audit::{
        outlet::OnFull,
        sink::{Ports, SinkMonitor, Sinks},
    },
    config::settings::{AuditOutput, Place, Service as ServiceSettings, Settings, UnixSocket},
    metrics::{Metrics, WorkerStats},
    net::{
        clock::Clock,
        gate::BanBook,
        listener::{self, Door, Ear},
        permits::Permits,
        roster::Question,
        service::{Common, House, Live, Service},
        socket,
        socket_file::SocketFile,
        worker::{self, Phase, Worker},
    },
    policy::bans::Bans,
    tls::{
        Description,
        expiry::Say,
        reload::Store,
        server::{FileError, Files, Tls},
    },
};
use rustls::pki_types::UnixTime;
use std::{
    io,
    net::SocketAddr,
    path::Path,
    process::ExitCode,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::{mpsc, watch};

/// Requests to the admin side that wait to be accepted.
const ADMIN_BACKLOG: u32 = 128;

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
    /// What the service manager handed down is not what the configuration asks for.
    #[error(transparent)]
    Inherited(#[from] InheritError),
    /// A Unix socket cannot be made.
    #[error("{what} {path} cannot be made: {error}")]
    UnixSocket {
        /// `the admin socket`, or whose.
        what: String,
        /// Where.
        path: String,
        /// What is there, or as the system says.
        error: io::Error,
    },
    /// A program that is to print a password does not.
    #[error("{0}")]
    Secret(String),
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
            Self::Sink { .. }
            | Self::Bind { .. }
            | Self::Inherited(_)
            | Self::UnixSocket { .. }
            | Self::Secret(_)
            | Self::System(_)
            | Self::Metrics(_) => ExitCode::FAILURE,
        }
    }
}

/// Everything that is read, bound and checked; no thread runs but the sink's.
pub(super) struct Prepared {
    pub(super) settings: Settings,
    pub(super) house: Arc<House>,
    pub(super) doors: Vec<Door>,
    pub(super) admin: AdminDoors,
    pub(super) sinks: Sinks,
    /// One for each pen.
    pub(super) ports: Vec<Ports>,
}

/// Where the admin side listens.
pub(super) struct AdminDoors {
    pub(super) address: Option<std::net::TcpListener>,
    pub(super) socket: Option<(SocketFile, std::os::unix::net::UnixListener)>,
}

pub(super) fn prepare(settings: Settings, mut inherited: Inherited) -> Result<Prepared, StartError> {
    let clock = Clock::start();
    let mut services = Vec::new();
    for service in &settings.services {
        let name = Arc::clone(&service.name);
        let tls = if service.plain {
            None
        } else {
            let tls = Tls::load(&files(service), unix(clock))
                .map_err(|error| StartError::Tls { service: Arc::clone(&name), error })?;
            tell_of_tls(&name, tls.description(), None);
            Some(Store::new(tls))
        };
        let live = Live::load(service, &settings.limits, &settings.audit, unix(clock), None)
            .map_err(|error| StartError::Tls { service: Arc::clone(&name), error })?;
        services.push(Service::new(name, tls, live));
    }
    let pens = usize::from(settings.limits.workers.count().get()).saturating_add(2);
    let outputs =
        settings.audit.outputs.iter().map(|output| (&output.plan, output.target.clone(), output.checkpoint.as_ref()));
    let (sinks, ports) = Sinks::open(outputs, pens)
        .map_err(|(at, error)| StartError::Sink { output: describe(settings.audit.outputs.get(at)), error })?;
    let mut doors = Vec::new();
    for (index, service) in settings.services.iter().enumerate() {
        for (listener, each) in service.listeners.iter().enumerate() {
            let backlog = settings.limits.backlog.get();
            let (socket, address) = match &each.place {
                Place::Tcp(address) => {
                    let socket = match inherited.claim(&service.name, service.listeners.len() == 1, *address) {
                        Some(socket) => socket,
                        None => bind(*address, backlog, each.reuse_port, || format!("service {}", service.name))?,
                    };
                    let address = socket.local_addr()?.to_string();
                    (Ear::Tcp(socket), address)
                }
                Place::Unix(socket) => {
                    let (file, socket) = make(socket, backlog, || format!("the socket of tunnel {}", service.name))?;
                    (Ear::Unix(socket, file), each.place.to_string())
                }
            };
            doors.push(Door { socket, address, service: index, listener });
        }
    }
    let admin = match settings.admin.as_ref().and_then(|admin| admin.address) {
        Some(address) => Some(match inherited.claim("admin", true, address) {
            Some(socket) => socket,
            None => bind(address, ADMIN_BACKLOG, false, || "the admin endpoint".to_owned())?,
        }),
        None => None,
    };
    inherited.end()?;
    let socket = match settings.admin.as_ref().and_then(|admin| admin.socket.as_ref()) {
        Some(socket) => Some(make(socket, ADMIN_BACKLOG, || "the admin socket".to_owned())?),
        None => None,
    };
    let admin = AdminDoors { address: admin, socket };
    let permits = Permits::under(&settings.limits);
    let common = Common::new(&settings.limits, &settings.audit);
    let house = Arc::new(House::new(services, clock, permits, Bans::new(settings.bans), common));
    Ok(Prepared { settings, house, doors, admin, sinks, ports })
}

fn bind(
    address: SocketAddr,
    backlog: u32,
    reuse_port: bool,
    purpose: impl Fn() -> String,
) -> Result<std::net::TcpListener, StartError> {
    socket::listen(address, backlog, reuse_port).map_err(|error| StartError::Bind {
        address,
        purpose: purpose(),
        error,
    })
}

fn make(
    socket: &UnixSocket,
    backlog: u32,
    what: impl Fn() -> String,
) -> Result<(SocketFile, std::os::unix::net::UnixListener), StartError> {
    SocketFile::listen(socket, backlog).map_err(|error| StartError::UnixSocket {
        what: what(),
        path: socket.path.display().to_string(),
        error,
    })
}

fn describe(output: Option<&AuditOutput>) -> String {
    output.map(|output| output.target.to_string()).unwrap_or_default()
}

/// Where `tls` finds a service's files.
pub(super) fn files(service: &ServiceSettings) -> Files {
    service.tls.files()
}

/// Logs what works now and will be trouble, and what is over: all that was found when the files were loaded, or, where
/// those of before are kept, what ends by itself as of now.
pub(super) fn tell_of_tls(service: &str, found: &Description, kept: Option<UnixTime>) {
    let Some(now) = kept else {
        for warning in &found.warnings {
            tracing::warn!(service, "{warning}");
        }
        for expired in &found.expired {
            tracing::error!(service, "{expired}");
        }
        return;
    };
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    found.ending(now).iter().for_each(|say| tell_of_end(service, say));
}

/// Logs that something is near its end, or past it.
pub(super) fn tell_of_end(service: &str, say: &Say) {
    match say {
        Say::Soon(text) => tracing::warn!(service, "{text}"),
        Say::Over(text) => tracing::error!(service, "{text}"),
    }
}

pub(super) fn unix(clock: Clock) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_micros(clock.now().wall_us))
}

/// The threads of a running process, and the way to tell them.
pub(super) struct Threads {
    pub(super) phase: watch::Sender<Phase>,
    pub(super) ended: mpsc::Receiver<&'static str>,
    pub(super) running: usize,
    pub(super) workers: Vec<std::thread::JoinHandle<io::Result<usize>>>,
}

/// Workers first, so that the acceptor has somewhere to send sockets to.
pub(super) fn start_threads(
    settings: &Settings,
    house: &Arc<House>,
    doors: Vec<Door>,
    ports: Vec<Ports>,
    stats: &[Arc<WorkerStats>],
    questions: Vec<mpsc::Receiver<Question>>,
) -> Result<Threads, StartError> {
    let (phase, told) = watch::channel(Phase::Serve(0));
    let (end, ended) = mpsc::channel(ports.len().max(1));
    let pen_bytes = settings.audit.queue;
    let count = settings.limits.workers.count();
    let mut ports = ports.into_iter().zip(stats.iter().cloned());
    let (mut workers, mut entrances) = (Vec::new(), Vec::new());
    for ((index, questions), (ports, stats)) in (0..count.get()).zip(questions).zip(ports.by_ref()) {
        let plan = worker::Plan {
            index,
            house: Arc::clone(house),
            pen_bytes,
            memory_max: house.common.load().memory_max,
            ports,
            stats,
            questions,
            phase: told.clone(),
            ended: end.clone(),
        };
        let Worker { arrivals, stats, thread } = Worker::start(plan)?;
        entrances.push((arrivals, stats));
        workers.push(thread);
    }
    let (ports, stats) = ports.next().ok_or_else(|| io::Error::other("the sink has no port for the acceptor"))?;
    listener::start(listener::Plan {
        index: count.get(),
        house: Arc::clone(house),
        doors,
        workers: entrances,
        pen_bytes,
        ports,
        stats,
        phase: told,
        ended: end,
    })?;
    let running = workers.len().saturating_add(1);
    Ok(Threads { phase, ended, running, workers })
}

/// What the admin side asks about bans.
fn answer_about_bans(book: &BanBook, clock: Clock, order: &BanOrder<'_>) -> BanAnswer {
    match order {
        BanOrder::List => BanAnswer::Listed(book.list(clock.now())),
        BanOrder::Count => {
            let (addresses, certificates) = book.count(clock.now());
            BanAnswer::Counted { addresses, certificates }
        }
        BanOrder::Clear(None) => {
            let cleared = book.open().clear_all();
            tracing::warn!(cleared, "all bans were cleared from the admin side");
            BanAnswer::Cleared(cleared)
        }
        BanOrder::Clear(Some(origin)) => {
            let known = book.open().clear(origin);
            tracing::warn!(known, "a ban was cleared from the admin side");
            BanAnswer::Cleared(usize::from(known))
        }
    }
}

/// What of a reason is shown to whoever asks whether the process is ready.
fn first_line(why: &str) -> String {
    format!("the last one was refused, the old configuration is in force: {}", why.lines().next().unwrap_or_default())
}

/// Serves the admin side on a thread of its own. The file is to be kept for as long as the socket is to be found.
pub(super) fn start_admin(
    doors: AdminDoors,
    metrics: Arc<Metrics>,
    house: &Arc<House>,
    monitors: &[SinkMonitor],
    draining: &Arc<AtomicBool>,
    failure: &LastFailure,
    reach: Reach,
) -> Result<Option<SocketFile>, StartError> {
    let AdminDoors { address, socket } = doors;
    if address.is_none() && socket.is_none() {
        return Ok(None);
    }
    let (draining, monitors, house) = (Arc::clone(draining), monitors.to_vec(), Arc::clone(house));
    let (book, clock) = (Arc::clone(&house), house.clock);
    let failure = Arc::clone(failure);
    let state = AdminState::new(metrics)
        .with_bans(move |order| answer_about_bans(&book.bans, clock, order))
        .with_operators(reach)
        .note("reload", move || {
            failure.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|why| first_line(why))
        })
        .require("serving", move || if draining.load(Ordering::Relaxed) { Err("draining".into()) } else { Ok(()) })
        .require("audit", move || {
            // What drops instead of waiting stops nobody.
            let stalls = monitors.iter().filter(|monitor| monitor.on_full() == OnFull::Stall);
            let failing =
                stalls.filter_map(|each| each.failing().map(|reason| (each.name().to_owned(), reason))).next();
            failing.map_or(Ok(()), |(name, reason)| Err(format!("output {name}: {reason}")))
        })
        .require("upstream", move || {
            house.services.iter().try_for_each(|service| {
                let ready = service.live.load().keeper.ready();
                ready.map_err(|why| format!("the Redis of service {}: {why}", service.name))?;
                // Where nobody looks at Redis, clients have told. A role that is refused by a password of its own keeps the
                // others out of nothing.
                if service.refused().contains_key(&None) {
                    return Err(format!("the Redis of service {} refuses the proxy's password", service.name));
                }
                Ok(())
            })
        });
    if let Some(listener) = &address {
        tracing::info!("admin endpoint on {}", listener.local_addr()?);
    }
    let (file, socket) = socket.unzip();
    if let Some(at) = socket.as_ref().and_then(|socket| socket.local_addr().ok()?.as_pathname().map(Path::to_owned)) {
        tracing::info!("admin socket at {}", at.display());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("admin".into()).spawn(move || {
        let state = Arc::new(state);
        runtime.block_on(async {
            let address = address.map(tokio::net::TcpListener::from_std).transpose();
            let socket = socket.map(tokio::net::UnixListener::from_std).transpose();
            match (address, socket) {
                (Ok(address), Ok(socket)) => {
                    let at_address = async {
                        if let Some(listener) = address {
                            admin::serve(listener, Arc::clone(&state)).await;
                        }
                    };
                    let at_socket = async {
                        if let Some(listener) = socket {
                            admin::serve_operators(listener, Arc::clone(&state)).await;
                        }
                    };
                    tokio::join!(at_address, at_socket);
                }
                (Err(error), _) | (_, Err(error)) => tracing::error!(%error, "the admin endpoint cannot be served"),
            }
        });
    })?;
    Ok(file)
}
