//! Bounds on everything, with their defaults.

use crate::policy::arrivals::Knocks;
use std::{
    num::{NonZeroU16, NonZeroU32, NonZeroUsize},
    time::Duration,
};

/// Bounds on everything. Durations that may be switched off are `Option`s; the others are never zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections over all services, from accept on.
    pub max_connections: NonZeroU32,
    /// Connections from one address to one service (default for [`super::Service::max_connections_per_address`]).
    pub max_connections_per_address: Option<NonZeroU32>,
    /// Connections of one identity in one role (default for [`super::RoleLimits::max_connections_per_identity`]).
    pub max_connections_per_identity: Option<NonZeroU32>,
    /// How often one address may connect; however often it likes without.
    pub accepts_per_address: Option<Knocks>,
    /// How often one address may begin a handshake.
    pub handshakes_per_address: Option<Knocks>,
    /// Handshakes that may be under way at once.
    pub handshakes: NonZeroU32,
    /// Connections that may wait for a place among them.
    pub handshake_queue: u32,
    /// From accept to an authenticated peer.
    pub handshake_timeout: Duration,
    /// From the handshake to the first right password of a client that must give one.
    pub login_timeout: Duration,
    /// Without a byte from the client; never applies while a command blocks or a subscription or stream is live.
    pub idle_timeout: Option<Duration>,
    /// From the greeting to the client's first byte.
    pub first_byte_timeout: Option<Duration>,
    /// From the first byte of a command to its last, or to 64 KiB more of it; never applies while a command blocks or a
    /// subscription or stream is live.
    pub half_command_timeout: Option<Duration>,
    /// The age at which a connection is closed.
    pub max_connection_age: Option<Duration>,
    /// Time for connecting to Redis and for its answer to AUTH (default for [`super::Upstream::connect_timeout`]).
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
    /// Most bytes of such commands over all connections; and as many for what `unanswered` counts.
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
            max_connections_per_identity: None,
            accepts_per_address: None,
            handshakes_per_address: None,
            handshakes: NonZeroU32::new(512).unwrap_or(NonZeroU32::MIN),
            handshake_queue: 4096,
            handshake_timeout: Duration::from_secs(5),
            login_timeout: Duration::from_secs(60),
            idle_timeout: None,
            first_byte_timeout: None,
            half_command_timeout: Some(Duration::from_secs(60)),
            max_connection_age: None,
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
