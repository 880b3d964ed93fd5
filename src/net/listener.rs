//! The acceptor: one thread for all listeners. An address is judged before a single TLS byte, a place is taken, and the
//! socket goes to the worker with the fewest connections.
//!
//! `SO_REUSEPORT` with a listener per worker would spread few long-lived connections badly (the kernel hashes, it does
//! not count), so there is one acceptor; it costs a message between threads per connection, not per command.
//!
//! When `accept` fails for want of descriptors or memory the listener backs off, 5 ms and then twice as long each time
//! up to 1 s, and goes on: connections that are open are served, and those that wait in the kernel's queue are accepted
//! when something is given back. Each episode is logged and recorded once.

use super::{
    caller::{Caller, HERE},
    connection::{Arrival, Origin as From},
    desk::{Desk, Tools},
    permits::Permits,
    seats::Loaded,
    service::House,
    socket_file::SocketFile,
    worker::{Ending, Phase, answer_scrapes, flush, refit, watch_sinks},
};
use crate::{
    audit::{event::ProcessEvent, sink::Ports},
    metrics::WorkerStats,
    policy::bans::Origin,
};
use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::Duration,
};
use tokio::{
    runtime::LocalOptions,
    sync::{mpsc, watch},
};

const BACK_OFF_FIRST: Duration = Duration::from_millis(5);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// A socket that listens for a service.
#[derive(Debug)]
pub struct Door {
    /// Bound and listening.
    pub socket: Ear,
    /// Its address, port 0 resolved, or its file, as records name it.
    pub address: String,
    /// Index into [`House::services`].
    pub service: usize,
    /// Index into [`super::service::Terms::sessions`].
    pub listener: usize,
}

/// What listens.
#[derive(Debug)]
pub enum Ear {
    /// A port.
    Tcp(TcpListener),
    /// A file, which is removed when nobody listens any more.
    Unix(UnixListener, SocketFile),
}

/// The same at the acceptor's runtime.
enum Listening {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener, #[expect(dead_code, reason = "removes the file when dropped")] SocketFile),
}

impl Listening {
    fn begin(ear: Ear) -> io::Result<Self> {
        Ok(match ear {
            Ear::Tcp(socket) => Self::Tcp(tokio::net::TcpListener::from_std(socket)?),
            Ear::Unix(socket, file) => Self::Unix(tokio::net::UnixListener::from_std(socket)?, file),
        })
    }

    /// The next client, out of this thread's runtime: it is to go into a worker's. Its socket stays non-blocking.
    async fn accept(&self) -> io::Result<(Caller, SocketAddr)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, src) = socket.accept().await?;
                Ok((Caller::Tcp(stream.into_std()?), src))
            }
            Self::Unix(socket, _) => {
                let (stream, _) = socket.accept().await?;
                Ok((Caller::Unix(stream.into_std()?), HERE))
            }
        }
    }
}

/// What the acceptor is made of.
#[derive(Debug)]
pub struct Plan {
    /// The number of its pen: that behind the last worker's.
    pub index: u16,
    /// What it shares with everybody.
    pub house: Arc<House>,
    /// All listeners.
    pub doors: Vec<Door>,
    /// Where sockets go.
    pub workers: Vec<(mpsc::Sender<Arrival>, Arc<WorkerStats>)>,
    /// Most bytes its pen may hold that are not written.
    pub pen_bytes: usize,
    /// Its way into the audit sink.
    pub ports: Ports,
    /// Its counters, for everybody to see.
    pub stats: Arc<WorkerStats>,
    /// It serves until this is no longer [`Phase::Serve`].
    pub phase: watch::Receiver<Phase>,
    /// Told when the thread ends, however it ends.
    pub ended: mpsc::Sender<&'static str>,
}

/// Starts the acceptor's thread. It ends, and closes the listeners, when the drain begins.
///
/// # Errors
///
/// When the system has no thread left.
pub fn start(plan: Plan) -> io::Result<JoinHandle<io::Result<()>>> {
    std::thread::Builder::new().name("acceptor".into()).spawn(move || run(plan))
}

fn run(plan: Plan) -> io::Result<()> {
    let Plan { index, house, doors, workers, pen_bytes, ports, stats, mut phase, ended } = plan;
    let _ending = Ending(ended, "the acceptor");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let desk = Desk::new(Tools::new(house.pen(index, pen_bytes), 0, house.clock));
    let ports = Rc::new(ports);
    let workers: Rc<[_]> = workers.into();
    runtime.block_on(async {
        tokio::task::spawn_local(flush(Rc::clone(&desk), Rc::clone(&ports)));
        tokio::task::spawn_local(watch_sinks(Rc::clone(&desk), Rc::clone(&ports)));
        tokio::task::spawn_local(answer_scrapes(Rc::clone(&desk), Arc::clone(&stats)));
        let mut open = Vec::new();
        for door in doors {
            let Door { socket, address, service, listener } = door;
            let socket = Listening::begin(socket)?;
            let reception = Reception {
                house: Arc::clone(&house),
                desk: Rc::clone(&desk),
                ports: Rc::clone(&ports),
                workers: Rc::clone(&workers),
                address,
                service,
                listener,
            };
            open.push(tokio::task::spawn_local(reception.serve(socket)));
        }
        // An error means that the server is gone; the listeners go with it.
        while phase.changed().await.is_ok() && matches!(*phase.borrow_and_update(), Phase::Serve(_)) {
            refit(&house, &desk);
        }
        for task in open {
            task.abort();
            let _ = task.await;
        }
        Ok::<(), io::Error>(())
    })?;
    ports.exchange(&mut desk.tools().recorder);
    stats.publish(desk.tools().recorder.counters());
    Ok(())
}

/// One listener at work.
struct Reception {
    house: Arc<House>,
    desk: Rc<Desk>,
    ports: Rc<Ports>,
    workers: Rc<[(mpsc::Sender<Arrival>, Arc<WorkerStats>)]>,
    address: String,
    service: usize,
    listener: usize,
}

impl Reception {
    async fn serve(self, socket: Listening) {
        let mut trouble = BackOff::default();
        loop {
            self.room().await;
            match socket.accept().await {
                Ok((stream, src)) => {
                    if trouble.over() {
                        tracing::info!(listener = self.address, "accepting again");
                    }
                    self.receive(stream, src).await;
                }
                Err(error) if is_the_peers(&error) => {}
                Err(error) => {
                    let (pause, first) = trouble.next();
                    if first {
                        self.report(&error);
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Nobody is let in while the audit stream cannot take the record of it.
    async fn room(&self) {
        loop {
            let (room, seen): (_, Vec<u64>) =
                self.desk.record(|tools| (tools.recorder.has_room(), tools.recorder.written().collect()));
            if room {
                return;
            }
            self.ports.notified(&seen).await;
            self.ports.tell(&mut self.desk.tools().recorder);
            self.desk.advanced();
        }
    }

    async fn receive(&self, socket: Caller, src: SocketAddr) {
        let Some(service) = self.house.services.get(self.service) else { return };
        let live = service.live.load();
        let permits: &Arc<Permits> = &self.house.permits;
        let proxy = live.proxy(self.listener, src);
        // Whom a proxy speaks for, its worker asks all of this when it has been told.
        let (origin, permit) = match proxy {
            Some(proxy) => match permits.take_unnamed(src.ip()) {
                Ok(permit) => (From::Behind { proxy: src, timeout: proxy.timeout }, permit),
                Err(full) => return self.refuse(src, &service.name, full.word()),
            },
            None => {
                let admitted = match live.admission.admit(src) {
                    Ok(admitted) => admitted,
                    Err(reason) => return self.refuse(src, &service.name, reason.word()),
                };
                let src = admitted.src();
                let now = self.desk.now();
                if self.house.bans.bans(&[Origin::address(src.ip())], now) {
                    return self.refuse(src, &service.name, "banned");
                }
                if !permits.may_accept(src.ip(), now) {
                    return self.refuse(src, &service.name, "accept-rate");
                }
                match permits.take(self.service, src.ip(), live.per_address_max) {
                    Ok(permit) => (From::Direct(admitted), permit),
                    Err(full) => return self.refuse(src, &service.name, full.word()),
                }
            }
        };
        drop(live);
        let fewest = self.workers.iter().min_by_key(|(_, stats)| stats.connections().load(Ordering::Relaxed));
        let Some((worker, stats)) = fewest else { return };
        let arrival = Arrival {
            socket,
            origin,
            permit,
            loaded: Loaded::new(stats),
            service: self.service,
            listener: self.listener,
            at: self.desk.now(),
        };
        // Waiting here is back-pressure: further connections stay in the kernel's queue.
        if worker.send(arrival).await.is_err() {
            tracing::error!("a worker is gone; its connections cannot be served");
        }
    }

    /// The socket is closed by being dropped: not one byte was sent.
    fn refuse(&self, src: SocketAddr, service: &str, reason: &'static str) {
        let event = ProcessEvent::Refused { src, service, listener: &self.address, reason, via: None, detail: "" };
        self.desk.record(|tools| tools.recorder.process(tools.clock.now(), &event));
    }

    fn report(&self, error: &io::Error) {
        let reason = kind(error);
        tracing::warn!(listener = self.address, %error, reason, "cannot accept; open connections are served on");
        let detail = error.to_string();
        let event = ProcessEvent::AcceptError { listener: &self.address, reason, detail: &detail };
        self.desk.record(|tools| tools.recorder.process(tools.clock.now(), &event));
    }
}

/// Whether the error says something about the connection that was to be accepted, and nothing about us: Linux passes
/// on what had already happened to it.
fn is_the_peers(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let theirs = [
        Errno::CONNABORTED,
        Errno::INTR,
        Errno::NETDOWN,
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        Errno::NONET,
        Errno::HOSTUNREACH,
        Errno::OPNOTSUPP,
        Errno::NETUNREACH,
        Errno::PERM,
    ];
    error.raw_os_error().is_some_and(|code| theirs.iter().any(|errno| errno.raw_os_error() == code))
}

/// The stable word for an error of `accept`.
fn kind(error: &io::Error) -> &'static str {
    use rustix::io::Errno;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE | Errno::NFILE) => "fd-limit",
        Some(Errno::NOMEM | Errno::NOBUFS) => "memory",
        _ => "other",
    }
}

/// How long to wait after errors in a row.
#[derive(Debug, Default)]
struct BackOff {
    last: Option<Duration>,
}

impl BackOff {
    /// The next pause, and whether it begins an episode.
    fn next(&mut self) -> (Duration, bool) {
        let first = self.last.is_none();
        let pause = self.last.map_or(BACK_OFF_FIRST, |last| last.saturating_mul(2).min(BACK_OFF_MAX));
        self.last = Some(pause);
        (pause, first)
    }

    /// Whether an episode has just ended.
    fn over(&mut self) -> bool {
        self.last.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::{BACK_OFF_MAX, BackOff, is_the_peers, kind};
    use std::{io, time::Duration};

    #[test]
    fn back_off_doubles_up_to_a_second_and_an_episode_is_told_once() {
        let mut trouble = BackOff::default();
        assert_eq!(trouble.next(), (Duration::from_millis(5), true));
        assert_eq!(trouble.next(), (Duration::from_millis(10), false));
        for _ in 0..20 {
            assert!(!trouble.next().1);
        }
        assert_eq!(trouble.next(), (BACK_OFF_MAX, false));
        assert!(trouble.over());
        assert!(!trouble.over());
        assert_eq!(trouble.next(), (Duration::from_millis(5), true), "a new episode begins small");
    }

    #[test]
    fn a_peer_that_gave_up_is_not_our_trouble_and_a_full_table_is() {
        let aborted = io::Error::from(rustix::io::Errno::CONNABORTED);
        assert!(is_the_peers(&aborted));
        for (errno, word) in [
            (rustix::io::Errno::MFILE, "fd-limit"),
            (rustix::io::Errno::NFILE, "fd-limit"),
            (rustix::io::Errno::NOMEM, "memory"),
            (rustix::io::Errno::BADF, "other"),
        ] {
            let error = io::Error::from(errno);
            assert!(!is_the_peers(&error));
            assert_eq!(kind(&error), word);
        }
    }
}
