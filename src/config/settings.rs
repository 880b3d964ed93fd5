//! What a configuration means: every value typed, every limit a number, every secret read.
//!
//! [`Settings`] is made by [`crate::config::load`] alone, from a file, flags and environment; nothing that fails
//! validation ever becomes one. `server` takes it apart and hands the pure rooms their own types
//! ([`Service::session_config`]); no pure module sees a `Settings`.
//!
//! Files that are read **while loading** (and so at a reload): the configuration file and each `password_file`; their
//! bytes are inside. Files that are **only named** here and are read by `tls`: certificate, key, client CA, CRLs.
//! [`Settings::files`] lists both kinds.

use crate::{
    lane::greeting::{Credential, Greeting},
    policy::{identity::Role, network::Admission},
    resp::{reply::ReplyLimits, request::RequestLimits},
    session::machine::SessionConfig,
    tls::server::{Files, MinVersion},
};
use std::{
    fmt,
    net::SocketAddr,
    num::{NonZeroU16, NonZeroU32, NonZeroUsize},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Blank CRLF lines and empty arrays tolerated in a row (crate docs, "strict in").
const BLANKS_MAX: u32 = 16;
/// Commands up to this many bytes are forwarded only whole.
const STREAM_FROM: u64 = 64 * 1024;
/// Longest line in a reply: Lua's `redis.status_reply` may be long, but not without end.
const REPLY_LINE_MAX: usize = 1024 * 1024;
/// Longest bulk in a reply. Not `limits.max_bulk`: DUMP and module replies are larger than what a client may send.
const REPLY_BULK_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Most elements one aggregate of a reply may declare.
const REPLY_ELEMENTS_MAX: u64 = u32::MAX as u64;

/// A whole, valid configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it came from.
    pub file: PathBuf,
    /// At least one; names are unique, listen addresses too.
    pub services: Vec<Service>,
    /// Bounds on everything.
    pub limits: Limits,
    /// Where records go and what they show.
    pub audit: Audit,
    /// The admin endpoint, if there is to be one.
    pub admin: Option<Admin>,
    /// The operational log on standard error.
    pub log: Log,
    /// What is legal and unwise, in words for people; `check` prints them, `run` logs them.
    pub warnings: Vec<String>,
}

/// One door and the Redis behind it.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name in records and metrics.
    pub name: Arc<str>,
    /// At least one.
    pub listeners: Vec<Listener>,
    /// The Redis behind.
    pub upstream: Upstream,
    /// Certificate, key, client CA, CRLs (the service's own table or the top-level one).
    pub tls: Tls,
    /// Which addresses may connect.
    pub admission: Arc<Admission>,
    /// The floor under every role of this service, as it was written (`preset:hardened`, `CONFIG|SET` …).
    pub floor: Vec<String>,
    /// The roles of this service, each with its policy: floor and the role's own denials.
    pub roles: Vec<Arc<Role>>,
    /// Most connections from one address to this service; none without a cap. Counted by the shell.
    pub max_connections_per_address: Option<NonZeroU32>,
}

/// One listening socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// What to bind. Port 0 lets the kernel choose (tests); the bound address is logged.
    pub address: SocketAddr,
    /// Whether inline commands (plain words on a line) are accepted, besides the exact line `PING`.
    pub inline: bool,
}

/// The Redis behind a service.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Where it listens.
    pub address: UpstreamAddress,
    /// What AUTH is given, and whether the connection is named; `credential` is `None` only after `auth = "none"`.
    pub greeting: Greeting,
    /// The file the password was read from.
    pub password_file: Option<PathBuf>,
    /// What becomes of a client's own AUTH and HELLO AUTH.
    pub client_auth: ClientAuth,
    /// Time for connecting and for the answer to AUTH, together. Never zero.
    pub connect_timeout: Duration,
    /// What the socket file must look like, for [`UpstreamAddress::Unix`].
    pub socket: SocketPolicy,
}

/// Where a Redis listens. Anything that leaves the host in plain text cannot be expressed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UpstreamAddress {
    /// A loopback address.
    Loopback(SocketAddr),
    /// A Unix socket, by absolute path.
    Unix(PathBuf),
}

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Who may own the upstream's Unix socket and how open it may be. Whoever can put a socket of his own in Redis' place
/// is handed the password, and whoever can open Redis' socket needs no proxy; so the shell asks before it sends AUTH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketPolicy {
    /// The user id that must own the socket file, and that the kernel must name as the peer (`SO_PEERCRED`); any if
    /// none.
    pub owner: Option<u32>,
    /// Permission bits the socket file may have at most (default 0770).
    pub mode_max: u32,
}

impl Default for SocketPolicy {
    fn default() -> Self {
        Self { owner: None, mode_max: 0o770 }
    }
}

/// Why a socket file is not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SocketFault {
    /// Another owner.
    #[error("the socket belongs to user id {found}, upstream.socket_owner demands {wanted}")]
    Owner {
        /// Whose it is.
        found: u32,
        /// Whose it should be.
        wanted: u32,
    },
    /// Too open.
    #[error(
        "the socket's mode is {found:04o}, more than upstream.socket_mode_max {allowed:04o} allows: local users could \
         reach Redis around the proxy (set `unixsocketperm 770` in redis.conf)"
    )]
    Mode {
        /// The file's permission bits.
        found: u32,
        /// What they may be at most.
        allowed: u32,
    },
}

impl SocketPolicy {
    /// Judges a socket file by its owner and mode (`st_uid` and `st_mode`, file type bits are ignored).
    pub fn judge(self, uid: u32, mode: u32) -> Result<(), SocketFault> {
        self.judge_owner(uid)?;
        let found = mode & 0o777;
        if found & !self.mode_max != 0 {
            return Err(SocketFault::Mode { found, allowed: self.mode_max });
        }
        Ok(())
    }

    /// Judges the process at the other end by its user id (`SO_PEERCRED`).
    pub fn judge_owner(self, uid: u32) -> Result<(), SocketFault> {
        match self.owner {
            Some(wanted) if wanted != uid => Err(SocketFault::Owner { found: uid, wanted }),
            _ => Ok(()),
        }
    }
}

/// What becomes of a client's own AUTH and HELLO AUTH; it never reaches Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// Answered with an error.
    #[default]
    Refuse,
    /// Answered `+OK` and forgotten: for clients that cannot be told to leave it out.
    Ignore,
}

/// The TLS files of a service; `tls` reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Certificate chain, leaf first.
    pub cert: PathBuf,
    /// Private key; may be the same file as `cert`.
    pub key: PathBuf,
    /// The CAs that client certificates must chain to.
    pub client_ca: PathBuf,
    /// Certificate revocation lists; empty for none.
    pub crl: Vec<PathBuf>,
    /// Lowest protocol version.
    pub min_version: TlsVersion,
}

impl Tls {
    /// The same, as `tls` takes it.
    #[must_use]
    pub fn files(&self) -> Files {
        Files {
            cert: self.cert.clone(),
            key: self.key.clone(),
            client_ca: self.client_ca.clone(),
            crl: self.crl.clone(),
            min_version: match self.min_version {
                TlsVersion::V12 => MinVersion::Tls12,
                TlsVersion::V13 => MinVersion::Tls13,
            },
        }
    }
}

/// A TLS protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    V12,
    /// TLS 1.3.
    V13,
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V12 => "1.2",
            Self::V13 => "1.3",
        })
    }
}

/// Bounds on everything. Durations that may be switched off are `Option`s; the others are never zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections over all services, from accept on.
    pub max_connections: NonZeroU32,
    /// Connections from one address to one service (default for [`Service::max_connections_per_address`]).
    pub max_connections_per_address: Option<NonZeroU32>,
    /// From accept to an authenticated peer.
    pub handshake_timeout: Duration,
    /// Without a byte from the client; never applies while a command blocks or a subscription or stream is live.
    pub idle_timeout: Option<Duration>,
    /// Time for connecting to Redis and for its answer to AUTH (default for [`Upstream::connect_timeout`]).
    pub upstream_connect_timeout: Duration,
    /// Time that bytes for a side that is being closed may take.
    pub flush_timeout: Duration,
    /// From SIGTERM to the end.
    pub drain_timeout: Duration,
    /// Longest word of a command, in bytes.
    pub max_bulk: u64,
    /// Most words of a command.
    pub max_words: NonZeroU32,
    /// Most bytes of one command held until it can be judged.
    pub held_command: usize,
    /// Most bytes of such commands over all connections.
    pub memory: u64,
    /// Most bytes that unanswered commands and unread replies of one session may take.
    pub unanswered: usize,
    /// Backlog of each listening socket.
    pub backlog: NonZeroU32,
    /// Keepalive probes, on both sides' TCP sockets.
    pub keepalive: Keepalive,
    /// `TCP_USER_TIMEOUT`, on both sides' TCP sockets; the system's default if none.
    pub tcp_user_timeout: Option<Duration>,
    /// Worker threads.
    pub workers: Workers,
}

impl Default for Limits {
    /// The defaults, here and nowhere else.
    fn default() -> Self {
        Self {
            max_connections: NonZeroU32::new(10_000).unwrap_or(NonZeroU32::MIN),
            max_connections_per_address: NonZeroU32::new(1024),
            handshake_timeout: Duration::from_secs(5),
            idle_timeout: None,
            upstream_connect_timeout: Duration::from_secs(5),
            flush_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(25),
            max_bulk: 512 * 1024 * 1024,
            max_words: NonZeroU32::new(1024 * 1024).unwrap_or(NonZeroU32::MIN),
            held_command: 16 * 1024 * 1024,
            memory: 256 * 1024 * 1024,
            unanswered: 64 * 1024 * 1024,
            backlog: NonZeroU32::new(1024).unwrap_or(NonZeroU32::MIN),
            keepalive: Keepalive::default(),
            tcp_user_timeout: Some(Duration::from_secs(120)),
            workers: Workers::Auto,
        }
    }
}

/// Keepalive probes of a TCP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe (whole seconds).
    pub idle: Duration,
    /// Between probes (whole seconds).
    pub interval: Duration,
    /// Unanswered probes before the connection is given up.
    pub count: NonZeroU32,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(300),
            interval: Duration::from_secs(30),
            count: NonZeroU32::new(3).unwrap_or(NonZeroU32::MIN),
        }
    }
}

/// How many worker threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Workers {
    /// `min(4, max(1, cpus / 2))`, cpus by affinity and cgroup quota: Redis needs a core too.
    #[default]
    Auto,
    /// As configured.
    Fixed(NonZeroU16),
}

impl Workers {
    /// The number.
    #[must_use]
    pub fn count(self) -> NonZeroU16 {
        match self {
            Self::Fixed(count) => count,
            Self::Auto => {
                let cpus = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
                let half = u16::try_from((cpus / 2).clamp(1, 4)).unwrap_or(1);
                NonZeroU16::new(half).unwrap_or(NonZeroU16::MIN)
            }
        }
    }
}

/// Where records go and what they show. A full queue stalls the sessions; nothing is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// The sink.
    pub output: AuditOutput,
    /// Whether records show keys (`arguments = "keys"`).
    pub show_keys: bool,
    /// Bytes of rendered and not yet written records each worker may hold (`Recorder::new`'s capacity).
    pub queue: usize,
}

impl Default for Audit {
    fn default() -> Self {
        Self { output: AuditOutput::Stdout, show_keys: true, queue: 4 * 1024 * 1024 }
    }
}

/// The audit stream's sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditOutput {
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

/// The admin endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admin {
    /// Where `/metrics`, `/livez` and `/readyz` are served, in plain HTTP.
    pub address: SocketAddr,
}

/// The operational log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// The least that is logged.
    pub level: LogLevel,
}

/// How lines of the operational log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The least that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum LogLevel {
    /// What went wrong.
    Error,
    /// And what may go wrong.
    Warn,
    /// And what happened.
    #[default]
    Info,
    /// And how.
    Debug,
    /// And everything.
    Trace,
}

impl LogLevel {
    /// The level's name, as the file and `tracing` write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// A file that a configuration depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// The service it belongs to; none for the configuration file itself.
    pub service: Option<Arc<str>>,
    /// The key that names it (`tls.cert`, `upstream.password_file`).
    pub key: &'static str,
    /// Where it is.
    pub path: PathBuf,
}

impl Settings {
    /// Every file that is read at start and at a reload, in a fixed order: the configuration file, then per service
    /// password, certificate, key, client CA and CRLs.
    #[must_use]
    pub fn files(&self) -> Vec<NamedFile> {
        let mut files = vec![NamedFile { service: None, key: "the configuration file", path: self.file.clone() }];
        for service in &self.services {
            let mut name = |key: &'static str, path: &Path| {
                files.push(NamedFile { service: Some(Arc::clone(&service.name)), key, path: path.to_path_buf() });
            };
            if let Some(path) = &service.upstream.password_file {
                name("upstream.password_file", path);
            }
            name("tls.cert", &service.tls.cert);
            name("tls.key", &service.tls.key);
            name("tls.client_ca", &service.tls.client_ca);
            for path in &service.tls.crl {
                name("tls.crl", path);
            }
        }
        files
    }
}

impl Service {
    /// What the sessions of one of this service's listeners are told. A listener accepts inline commands or not, hence
    /// one per listener; the shell keeps it in an `Arc` and makes a new one at a reload.
    #[must_use]
    pub fn session_config(&self, listener: &Listener, limits: &Limits, audit: &Audit) -> SessionConfig {
        SessionConfig {
            request: RequestLimits {
                words_max: limits.max_words.get(),
                bulk_max: limits.max_bulk,
                blanks_max: BLANKS_MAX,
                inline: listener.inline,
            },
            reply: ReplyLimits { line_max: REPLY_LINE_MAX, bulk_max: REPLY_BULK_MAX, elements_max: REPLY_ELEMENTS_MAX },
            stream_from: STREAM_FROM,
            held_command_max: limits.held_command,
            unanswered_max: limits.unanswered,
            idle_timeout_us: limits.idle_timeout.map_or(0, micros),
            ignore_client_auth: self.upstream.client_auth == ClientAuth::Ignore,
            show_keys: audit.show_keys,
            greeting: self.upstream.greeting.clone(),
        }
    }
}

impl Upstream {
    /// What AUTH is given, if anything.
    #[must_use]
    pub const fn credential(&self) -> Option<&Credential> {
        self.greeting.credential.as_ref()
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
