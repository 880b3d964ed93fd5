//! Socket options: what every TCP connection gets, and listening sockets.

use crate::config::settings::{Keepalive, Limits};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::AsFd,
    time::Duration,
};

/// What is set on TCP sockets of both sides.
#[derive(Clone, Copy, Debug)]
pub struct SocketOptions {
    keepalive: Keepalive,
    user_timeout: Option<Duration>,
}

impl From<&Limits> for SocketOptions {
    fn from(limits: &Limits) -> Self {
        Self { keepalive: limits.keepalive, user_timeout: limits.tcp_user_timeout }
    }
}

impl SocketOptions {
    /// No Nagle (a reply is written whole, and waits for nothing), keepalive and `TCP_USER_TIMEOUT` (a host that
    /// vanished is noticed whether or not bytes are on the way to it).
    ///
    /// # Errors
    ///
    /// When the peer is gone already.
    pub fn apply(&self, socket: &impl AsFd) -> io::Result<()> {
        let socket = SockRef::from(socket);
        socket.set_tcp_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(self.keepalive.idle)
            .with_interval(self.keepalive.interval)
            .with_retries(self.keepalive.count.get());
        socket.set_tcp_keepalive(&keepalive)?;
        if self.user_timeout.is_some() {
            socket.set_tcp_user_timeout(self.user_timeout)?;
        }
        Ok(())
    }
}

/// Binds and listens. `SO_REUSEADDR` lets a restarted process have its port back while old connections linger; an IPv6
/// address takes IPv6 alone, so that `0.0.0.0` and `[::]` can be bound side by side. With `reuse_port` another process
/// of the same user that sets it too may listen at the same address (`SO_REUSEPORT`), and the kernel deals connections out
/// to both.
///
/// # Errors
///
/// As the system says; the caller names the address.
pub fn listen(address: SocketAddr, backlog: u32, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::{SocketOptions, listen};
    use crate::config::settings::Limits;
    use socket2::SockRef;
    use std::{net::TcpStream, time::Duration};

    #[test]
    fn connections_get_no_nagle_keepalive_and_a_user_timeout() {
        let listener = listen(([127, 0, 0, 1], 0).into(), 16, false).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let limits = Limits { tcp_user_timeout: Some(Duration::from_secs(7)), ..Limits::default() };
        SocketOptions::from(&limits).apply(&client).unwrap();
        let socket = SockRef::from(&client);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(300));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(30));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_port_in_use_is_an_error() {
        let first = listen(([127, 0, 0, 1], 0).into(), 16, false).unwrap();
        let second = listen(first.local_addr().unwrap(), 16, true);
        assert_eq!(second.unwrap_err().kind(), std::io::ErrorKind::AddrInUse, "the first has not agreed");
        let first = listen(([127, 0, 0, 1], 0).into(), 16, true).unwrap();
        assert!(listen(first.local_addr().unwrap(), 16, false).is_err(), "nor has the second here");
        listen(first.local_addr().unwrap(), 16, true).unwrap();
    }
}
