//! A client's socket as it was accepted: by TCP, or by a Unix socket, where the kernel knows whose process called.

use crate::audit::encode::PeerProcess;
use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    os::unix::net::UnixStream,
};

/// Where a client of a Unix socket comes from: this host, and no port of it. No TCP client comes from port 0, so the two are
/// told apart in every record; caps, bans and filters by address take it for what it is, a neighbour.
pub const HERE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

/// The socket, non-blocking.
#[derive(Debug)]
pub enum Caller {
    /// From an address.
    Tcp(TcpStream),
    /// From this host, by a file that its owner may open.
    Unix(UnixStream),
}

impl Caller {
    /// What it has connected to, as records name a listener; empty where the system does not know any more.
    #[must_use]
    pub fn listener(&self) -> String {
        match self {
            Self::Tcp(socket) => socket.local_addr().map_or_else(|_| String::new(), |address| address.to_string()),
            Self::Unix(socket) => {
                let address = socket.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                path.map_or_else(String::new, |path| format!("unix:{}", path.display()))
            }
        }
    }
}

/// The process that has connected (`SO_PEERCRED`); nobody where the kernel does not say.
#[must_use]
pub fn process(socket: &tokio::net::UnixStream) -> Option<PeerProcess> {
    let found = socket.peer_cred().ok()?;
    let pid = found.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default();
    Some(PeerProcess { pid, uid: found.uid(), gid: found.gid() })
}
