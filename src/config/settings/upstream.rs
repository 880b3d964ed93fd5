//! The Redis behind a service, and when its socket is trusted.

pub use crate::session::machine::ClientAuth;

use super::Password;
use crate::{
    lane::greeting::{Credential, Greeting},
    net::upkeep::{Storm, Tuning},
    tls::client::{ClientFiles, Name},
};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

/// The Redis behind a service.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Where it listens.
    pub address: UpstreamAddress,
    /// What AUTH is given, and whether the connection is named; `credential` is `None` only after `auth = "none"`.
    pub greeting: Greeting,
    /// Where the password comes from.
    pub password: Option<Password>,
    /// What becomes of a client's own AUTH and HELLO AUTH.
    pub client_auth: ClientAuth,
    /// Time for connecting and for the answer to AUTH, together. Never zero.
    pub connect_timeout: Duration,
    /// What the socket file must look like, for [`UpstreamAddress::Unix`].
    pub socket: SocketPolicy,
    /// Whether each connection begins with a header of the PROXY protocol, version 2.
    pub proxy_protocol: bool,
    /// TLS on the way to it; none on this host alone.
    pub tls: Option<ClientFiles>,
    /// Where else it may be, in the order in which they are tried.
    pub alternatives: Vec<UpstreamAddress>,
    /// How often it is looked at, and what is made of that.
    pub tuning: Tuning,
    /// How many may be on their way to it.
    pub storm: Storm,
}

/// Where a Redis listens. [`UpstreamAddress::Remote`] is there only together with TLS: the configuration makes no other,
/// and nothing connects to one without.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UpstreamAddress {
    /// A loopback address.
    Loopback(SocketAddr),
    /// A Unix socket; relative paths have been made absolute.
    Unix(PathBuf),
    /// Anywhere, by TLS.
    Remote {
        /// A name, which is looked up when it is connected to, or an address.
        host: Host,
        /// The port.
        port: u16,
    },
}

/// A host as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// By its address.
    Ip(IpAddr),
    /// By its name.
    Name(Arc<str>),
}

impl UpstreamAddress {
    /// What a certificate there would be called.
    #[must_use]
    pub fn certificate_name(&self) -> Option<Name> {
        match self {
            Self::Loopback(address) => Some(address.ip().into()),
            Self::Remote { host: Host::Ip(address), .. } => Some((*address).into()),
            Self::Remote { host: Host::Name(name), .. } => Name::new(name),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Remote { host: Host::Ip(address), port } => write!(f, "{}", SocketAddr::new(*address, *port)),
            Self::Remote { host: Host::Name(name), port } => write!(f, "{name}:{port}"),
        }
    }
}

/// Who may own the upstream's Unix socket and how open it may be. Whoever can put a socket of his own in Redis' place
/// is handed the password, and whoever can open Redis' socket needs no proxy; so the shell asks before it sends AUTH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketPolicy {
    /// The user id that must own the socket file, and that the kernel must name as the peer (`SO_PEERCRED`). If none is
    /// given, root's and our own will do.
    pub owner: Option<u32>,
    /// The user id this process runs as.
    pub ours: u32,
    /// Permission bits the socket file may have at most (default 0770).
    pub mode_max: u32,
}

impl Default for SocketPolicy {
    fn default() -> Self {
        Self { owner: None, ours: rustix::process::geteuid().as_raw(), mode_max: 0o770 }
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
    /// A stranger's, and nobody said whose it should be.
    #[error(
        "the socket belongs to user id {found}, which is neither root nor the user this proxy runs as ({ours}): if that \
         is Redis' user, say upstream.socket_owner = {found}, or its name"
    )]
    Stranger {
        /// Whose it is.
        found: u32,
        /// Who we are.
        ours: u32,
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
            None if uid != 0 && uid != self.ours => Err(SocketFault::Stranger { found: uid, ours: self.ours }),
            Some(_) | None => Ok(()),
        }
    }
}

impl Upstream {
    /// The address and the alternatives, in their order.
    #[must_use]
    pub fn addresses(&self) -> Vec<UpstreamAddress> {
        std::iter::once(&self.address).chain(&self.alternatives).cloned().collect()
    }

    /// What AUTH is given, if anything.
    #[must_use]
    pub const fn credential(&self) -> Option<&Credential> {
        self.greeting.credential.as_ref()
    }
}
