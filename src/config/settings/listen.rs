//! Where clients come in.

use crate::policy::network::Admission;
use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

/// One listening socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// What to bind.
    pub place: Place,
    /// Whether inline commands (plain words on a line) are accepted, besides the exact line `PING`.
    pub inline: bool,
    /// Whether another process may listen at the same address.
    pub reuse_port: bool,
    /// Who must say for whom it speaks, if anybody may.
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// Proxies that begin each connection with a header of the PROXY protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// The proxies' own addresses.
    pub trusted: Arc<Admission>,
    /// Time for the header, from accept.
    pub timeout: Duration,
}

/// Where a socket listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// An address and a port. Port 0 lets the kernel choose (tests); the bound address is logged.
    Tcp(SocketAddr),
    /// A file, whose mode says who may connect. Only clients in plain text come this way.
    Unix(UnixSocket),
}

impl Place {
    /// The address, if that is what it is.
    #[must_use]
    pub const fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// Whether two sockets cannot both be bound: the same file, or the same port on the same address or on every address
    /// of its family.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(a), Self::Tcp(b)) => overlap(*a, *b),
            (Self::Unix(a), Self::Unix(b)) => a.path == b.path,
            _ => false,
        }
    }
}

/// Of addresses.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() != 0
        && a.port() == b.port()
        && a.is_ipv4() == b.is_ipv4()
        && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(socket) => write!(f, "unix:{}", socket.path.display()),
        }
    }
}

/// A Unix socket to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixSocket {
    /// The file.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// Its group's number; the process' own without one.
    pub group: Option<u32>,
}

impl UnixSocket {
    /// Nobody but the process' user.
    pub const MODE: u32 = 0o600;
}
