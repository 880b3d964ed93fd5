//! The Redis behind a service, and when its socket is trusted.

pub use crate::session::machine::ClientAuth;

use super::Password;
use crate::lane::greeting::{Credential, Greeting};
use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

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
}

/// Where a Redis listens. Anything that leaves the host in plain text cannot be expressed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UpstreamAddress {
    /// A loopback address.
    Loopback(SocketAddr),
    /// A Unix socket; relative paths have been made absolute.
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
    /// What AUTH is given, if anything.
    #[must_use]
    pub const fn credential(&self) -> Option<&Credential> {
        self.greeting.credential.as_ref()
    }
}
