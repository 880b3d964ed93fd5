//! The service manager above the process: what it is told, and the sockets it hands down.
//!
//! systemd's two protocols, of which everything is optional (sd_notify(3), sd_listen_fds(3)):
//!
//! | variable | what it asks for |
//! |---|---|
//! | `NOTIFY_SOCKET` | `READY=1` when connections are accepted; `RELOADING=1` around a reload; `STOPPING=1` when the drain begins |
//! | `WATCHDOG_USEC`, `WATCHDOG_PID` | `WATCHDOG=1` at half that time, while every thread that serves clients answers |
//! | `LISTEN_PID`, `LISTEN_FDS`, `LISTEN_FDNAMES` | sockets that listen already: taken instead of being bound (see [`Inherited`]) |
//!
//! A manager that cannot be told is logged and otherwise ignored: clients are served without it. What was handed down
//! and cannot be used ends the start, because whoever connects to it would wait for ever. Tests: below and
//! `tests/handover.rs`.

use crate::metrics::WorkerStats;
use rustix::{
    io::{FdFlags, fcntl_getfd, fcntl_setfd},
    time::{ClockId, clock_gettime},
};
use socket2::{SockRef, Type};
use std::{
    ffi::{OsStr, OsString},
    fmt::Write as _,
    io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd},
        linux::net::SocketAddrExt,
        unix::{ffi::OsStrExt, net::UnixDatagram},
    },
    sync::Arc,
    time::Duration,
};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// The first descriptor that is handed down (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;
/// More than this is a mistake.
const SOCKETS_MAX: RawFd = 64;

/// Who is to be told.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    socket: Option<OsString>,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// What the environment says of it; `pid` is this process.
    #[must_use]
    pub fn new(environment: impl Fn(&str) -> Option<OsString>, pid: u32) -> Self {
        let number = |name: &str| environment(name)?.to_str()?.parse::<u64>().ok();
        let for_us = environment("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(u64::from(pid));
        let watchdog = number("WATCHDOG_USEC").filter(|us| for_us && *us > 0).map(Duration::from_micros);
        Self { socket: environment("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()), watchdog }
    }

    /// Connections are accepted, under the configuration that is in force.
    pub fn ready(&self) {
        self.tell("READY=1\nSTATUS=serving");
    }

    /// A reload begins; [`Supervisor::ready`] ends it, whatever became of it.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let us = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={us}"));
    }

    /// The drain begins.
    pub fn stopping(&self, connections: u64) {
        self.tell(&format!("STOPPING=1\nSTATUS=draining {connections} connections"));
    }

    /// Says that the process is alive, for as long as all of its `workers` answer. For ever, or not at all where nobody
    /// asks for it.
    pub(super) async fn watch(self, workers: Vec<Arc<WorkerStats>>) {
        let Some(within) = self.watchdog else { return };
        let mut tick = interval(within / 2);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let answers = async {
                for worker in &workers {
                    worker.ask().await;
                }
            };
            if timeout(within / 4, answers).await.is_ok() {
                self.tell("WATCHDOG=1");
            } else {
                tracing::error!(
                    "a thread that serves clients does not answer; the service manager is not told that all is well"
                );
            }
        }
    }

    fn tell(&self, state: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = notify(socket, state.as_bytes())
        {
            tracing::warn!(%error, "the service manager cannot be told: {}", state.lines().next().unwrap_or_default());
        }
    }
}

/// One datagram of `KEY=VALUE` lines. A name that begins with `@` is abstract.
fn notify(socket: &OsStr, state: &[u8]) -> io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    // A manager that does not read must not hold up whoever serves clients.
    sender.set_nonblocking(true)?;
    let sent = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => sender.send_to_addr(state, &std::os::unix::net::SocketAddr::from_abstract_name(name)?)?,
        None => sender.send_to(state, socket)?,
    };
    if sent == state.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Why a socket that was handed down cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    /// `LISTEN_FDS` is no number, or an absurd one.
    #[error("LISTEN_FDS is {0:?}; expected a number from 0 to 64")]
    Count(OsString),
    /// The descriptor is closed, or no socket.
    #[error("descriptor {fd} ({name}), which the service manager handed down, cannot be used: {error}")]
    Descriptor {
        /// Which.
        fd: RawFd,
        /// As `LISTEN_FDNAMES` calls it.
        name: String,
        /// As the system says.
        error: io::Error,
    },
    /// It is another kind of socket.
    #[error("descriptor {fd} ({name}), which the service manager handed down, is no listening TCP socket")]
    Kind {
        /// Which.
        fd: RawFd,
        /// As `LISTEN_FDNAMES` calls it.
        name: String,
    },
    /// Nobody would accept from it.
    #[error("{}", unclaimed(.0))]
    Unclaimed(Vec<(String, SocketAddr)>),
}

fn unclaimed(sockets: &[(String, SocketAddr)]) -> String {
    let mut text = "the service manager handed down".to_owned();
    for (at, (name, address)) in sockets.iter().enumerate() {
        let _ = write!(text, "{} {address} ({name})", if at == 0 { "" } else { "," });
    }
    text + ", which no listener of the configuration asks for: let service.listen.address and ListenStream= say the same, \
            or FileDescriptorName= the name of a service with one listener"
}

/// Sockets that were handed down and that no listener has claimed yet.
///
/// A listener claims the socket that listens at its very address; a service with a single listener also claims the one
/// that is called like the service (`FileDescriptorName=`), wherever it listens: `ListenStream=6380` is `[::]:6380`
/// to systemd.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(String, SocketAddr, TcpListener)>);

impl Inherited {
    /// Takes what the environment says was handed down to process `pid`. To be called once, before anything else opens
    /// descriptors.
    ///
    /// # Errors
    ///
    /// [`InheritError`], for the first that cannot be used.
    pub fn take(environment: impl Fn(&str) -> Option<OsString>, pid: u32) -> Result<Self, InheritError> {
        let ours = environment("LISTEN_PID").is_some_and(|text| text.to_str() == Some(&pid.to_string()));
        let Some(count) = environment("LISTEN_FDS").filter(|_| ours) else { return Ok(Self::default()) };
        let number =
            count.to_str().and_then(|text| text.parse().ok()).filter(|count| (0..=SOCKETS_MAX).contains(count));
        let Some(number): Option<RawFd> = number else { return Err(InheritError::Count(count)) };
        let names = environment("LISTEN_FDNAMES").unwrap_or_default();
        let names = names.to_string_lossy();
        let mut names = names.split(':');
        let mut sockets = Vec::new();
        for fd in FIRST..FIRST.saturating_add(number) {
            let name = names.next().filter(|name| !name.is_empty()).unwrap_or("unnamed").to_owned();
            let (socket, address) = listening(fd, &name)?;
            sockets.push((name, address, socket));
        }
        Ok(Self(sockets))
    }

    /// The socket for a listener of this service, if one was handed down.
    pub(super) fn claim(&mut self, service: &str, only: bool, address: SocketAddr) -> Option<TcpListener> {
        let at_address = self.0.iter().position(|(_, bound, _)| *bound == address);
        let by_name = || self.0.iter().position(|(name, ..)| only && name == service);
        let (_, _, socket) = self.0.swap_remove(at_address.or_else(by_name)?);
        Some(socket)
    }

    /// # Errors
    ///
    /// When one is left over.
    pub(super) fn end(self) -> Result<(), InheritError> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(InheritError::Unclaimed(self.0.into_iter().map(|(name, address, _)| (name, address)).collect()))
    }
}

fn listening(fd: RawFd, name: &str) -> Result<(TcpListener, SocketAddr), InheritError> {
    let fault = |error| InheritError::Descriptor { fd, name: name.to_owned(), error };
    let owned = adopt(fd).map_err(fault)?;
    let socket = SockRef::from(&owned);
    let kind = InheritError::Kind { fd, name: name.to_owned() };
    if socket.r#type().map_err(fault)? != Type::STREAM || !socket.is_listener().map_err(fault)? {
        return Err(kind);
    }
    let Some(address) = socket.local_addr().map_err(fault)?.as_socket() else { return Err(kind) };
    socket.set_nonblocking(true).map_err(fault)?;
    Ok((owned.into(), address))
}

/// Makes a number a descriptor of ours, if it is open.
#[expect(
    unsafe_code,
    reason = "a descriptor that is handed down is a number in the environment; nothing safe makes it ours"
)]
fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: borrowed only to ask whether it is open, and to have it closed where another program is started.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let flags = fcntl_getfd(borrowed)?;
    fcntl_setfd(borrowed, flags | FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and LISTEN_PID says that it was left to this process, in which nobody else knows its number:
    // this runs once, before anything else opens descriptors.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::{Inherited, Supervisor, notify};
    use crate::{audit::counters::Counters, metrics::WorkerStats};
    use std::{
        ffi::OsString,
        net::{SocketAddr, TcpListener},
        os::unix::net::UnixDatagram,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        time::Duration,
    };

    fn environment<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        move |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
    }

    #[test]
    fn the_service_manager_is_told_in_datagrams() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let supervisor = Supervisor::new(environment(&[("NOTIFY_SOCKET", path.to_str().unwrap())]), 1);
        supervisor.ready();
        supervisor.reloading();
        supervisor.stopping(7);
        let said = || {
            let mut got = [0; 200];
            let length = manager.recv(&mut got).unwrap();
            String::from_utf8_lossy(&got[..length]).into_owned()
        };
        assert_eq!(said(), "READY=1\nSTATUS=serving");
        let reloading = said();
        let us = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(us.parse::<u64>().unwrap() > 0, "{reloading}");
        assert_eq!(said(), "STOPPING=1\nSTATUS=draining 7 connections");
        notify(path.as_os_str(), b"X=1").unwrap();
        assert_eq!(said(), "X=1");
    }

    #[test]
    fn the_watchdog_is_heeded_by_the_process_it_is_for() {
        let watchdog = |pairs: &[(&str, &str)]| Supervisor::new(environment(pairs), 17).watchdog;
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "3000000")]), Some(Duration::from_secs(3)));
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "17")]), Some(Duration::from_secs(3)));
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "18")]), None);
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "0")]), None);
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "soon")]), None);
    }

    #[tokio::test]
    async fn one_thread_that_hangs_is_enough_for_the_watchdog_not_to_be_fed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let pairs = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "100000")];
        let supervisor = Supervisor::new(environment(&pairs), 1);
        let (well, hangs): (Arc<WorkerStats>, Arc<WorkerStats>) = Default::default();
        let hung = Arc::new(AtomicBool::new(false));
        for (stats, hung) in [(Arc::clone(&well), Arc::default()), (Arc::clone(&hangs), Arc::clone(&hung))] {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            std::thread::spawn(move || {
                runtime.block_on(stats.serve(|| {
                    while hung.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    Counters::default()
                }))
            });
        }
        tokio::spawn(supervisor.watch(vec![well, hangs]));
        let told = || manager.recv(&mut [0; 64]).is_ok();
        let pause = |ms| tokio::time::sleep(Duration::from_millis(ms));
        let fed = || async {
            while !told() {
                pause(5).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), fed()).await.expect("both answer");
        hung.store(true, Ordering::Relaxed);
        pause(200).await;
        while told() {}
        pause(300).await;
        assert!(!told(), "six times it would have been");
        hung.store(false, Ordering::Relaxed);
        tokio::time::timeout(Duration::from_secs(10), fed()).await.expect("both answer again");
    }

    #[test]
    fn what_was_handed_to_another_process_is_not_touched() {
        let taken = Inherited::take(environment(&[("LISTEN_PID", "18"), ("LISTEN_FDS", "1")]), 17).unwrap();
        assert!(taken.0.is_empty());
        for absurd in ["-1", "65", "x"] {
            let error = Inherited::take(environment(&[("LISTEN_PID", "17"), ("LISTEN_FDS", absurd)]), 17).unwrap_err();
            assert!(error.to_string().contains("0 to 64"), "{error}");
        }
    }

    #[test]
    fn a_listener_claims_by_address_and_a_service_with_one_listener_by_name() {
        let socket = || {
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            (socket.local_addr().unwrap(), socket)
        };
        let ((one, first), (two, second), (three, third)) = (socket(), socket(), socket());
        let named = |name: &str, at: SocketAddr, socket| (name.to_owned(), at, socket);
        let mut inherited =
            Inherited(vec![named("cache", one, first), named("x.socket", two, second), named("left", three, third)]);
        let elsewhere = "127.0.0.1:1".parse().unwrap();
        assert!(inherited.claim("queue", true, elsewhere).is_none());
        assert!(inherited.claim("cache", false, elsewhere).is_none(), "which of two would it be?");
        assert_eq!(inherited.claim("queue", true, two).unwrap().local_addr().unwrap(), two);
        assert_eq!(inherited.claim("cache", true, elsewhere).unwrap().local_addr().unwrap(), one);
        let error = inherited.end().unwrap_err().to_string();
        assert!(error.contains(&format!("{three} (left)")) && !error.contains("cache"), "{error}");
    }
}
