//! The way to Redis: loopback TCP or a Unix socket, asked for its owner and mode first.

use super::socket::SocketOptions;
use crate::{
    config::settings::{SocketFault, SocketPolicy, UpstreamAddress},
    tls::{poll_recv, poll_send},
};
use std::{
    io::{self, IoSlice},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

/// A Unix socket whose queue is full says "try again" instead of making us wait, as TCP does.
const RETRY: Duration = Duration::from_millis(5);

/// An open connection to Redis.
#[derive(Debug)]
pub enum Upstream {
    /// Over loopback.
    Tcp(TcpStream),
    /// Over a Unix socket: a third of the cost per message.
    Unix(UnixStream),
}

/// Why Redis cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens, or not where the configuration says.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// The upstream's address.
        address: UpstreamAddress,
        /// As the system says.
        source: io::Error,
    },
    /// The path holds something else.
    #[error("{address} is not a socket")]
    NotASocket {
        /// The upstream's address.
        address: UpstreamAddress,
    },
    /// The socket may be somebody else's.
    #[error("{address} is not trusted with the password: {fault}")]
    Permission {
        /// The upstream's address.
        address: UpstreamAddress,
        /// What is wrong with it.
        fault: SocketFault,
    },
    /// `upstream.connect_timeout` is over.
    #[error("{address} did not accept a connection within {timeout:?}")]
    Timeout {
        /// The upstream's address.
        address: UpstreamAddress,
        /// The limit.
        timeout: Duration,
    },
}

impl ConnectError {
    /// The stable word in records and metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Connect { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => "permission",
            Self::Connect { .. } | Self::NotASocket { .. } => "connect",
            Self::Permission { .. } => "permission",
            Self::Timeout { .. } => "timeout",
        }
    }
}

impl Upstream {
    /// Connects, within `timeout`. A Unix socket's owner and mode are judged before, and the process behind it after:
    /// the file may have been replaced in between.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]; none of them names a secret.
    pub async fn connect(
        address: &UpstreamAddress,
        policy: SocketPolicy,
        options: SocketOptions,
        timeout: Duration,
    ) -> Result<Self, ConnectError> {
        let attempt = async {
            match address {
                UpstreamAddress::Loopback(to) => tcp(*to, options).await.map(Self::Tcp).map_err(Fault::Io),
                UpstreamAddress::Unix(path) => unix(path, policy).await.map(Self::Unix),
            }
        };
        let address = address.clone();
        match tokio::time::timeout(timeout, attempt).await {
            Ok(Ok(upstream)) => Ok(upstream),
            Ok(Err(Fault::Io(source))) => Err(ConnectError::Connect { address, source }),
            Ok(Err(Fault::NotASocket)) => Err(ConnectError::NotASocket { address }),
            Ok(Err(Fault::Socket(fault))) => Err(ConnectError::Permission { address, fault }),
            Err(_) => Err(ConnectError::Timeout { address, timeout }),
        }
    }
}

enum Fault {
    Io(io::Error),
    NotASocket,
    Socket(SocketFault),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<SocketFault> for Fault {
    fn from(fault: SocketFault) -> Self {
        Self::Socket(fault)
    }
}

async fn tcp(to: std::net::SocketAddr, options: SocketOptions) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to).await?;
    // A port of the ephemeral range can connect to itself when nobody listens there; AUTH would come back to us.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    options.apply(&stream)?;
    Ok(stream)
}

async fn unix(path: &Path, policy: SocketPolicy) -> Result<UnixStream, Fault> {
    let found = std::fs::metadata(path)?;
    if !found.file_type().is_socket() {
        return Err(Fault::NotASocket);
    }
    policy.judge(found.uid(), found.mode())?;
    let stream = loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(RETRY).await,
            done => break done?,
        }
    };
    policy.judge_owner(stream.peer_cred()?.uid())?;
    Ok(stream)
}

impl AsyncRead for Upstream {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = into.initialize_unfilled();
        let taken = ready!(match self.get_mut() {
            Self::Tcp(stream) => poll_recv(stream, cx, room),
            Self::Unix(stream) => poll_recv(stream, cx, room),
        })?;
        into.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upstream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => poll_send(stream, cx, bytes),
            Self::Unix(stream) => poll_send(stream, cx, bytes),
        }
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ConnectError, Upstream};
    use crate::config::settings::{Limits, SocketPolicy, UpstreamAddress};
    use std::{os::unix::fs::PermissionsExt, path::Path, time::Duration};

    fn connect(address: &UpstreamAddress, policy: SocketPolicy) -> Result<Upstream, ConnectError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let options = (&Limits::default()).into();
        runtime.block_on(Upstream::connect(address, policy, options, Duration::from_secs(5)))
    }

    fn bind(path: &Path, mode: u32) -> std::os::unix::net::UnixListener {
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        listener
    }

    #[test]
    fn a_private_unix_socket_is_connected_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("redis.sock");
        let _listener = bind(&path, 0o700);
        let policy = SocketPolicy { owner: Some(rustix::process::getuid().as_raw()), ..SocketPolicy::default() };
        assert!(matches!(connect(&UpstreamAddress::Unix(path), policy), Ok(Upstream::Unix(_))));
    }

    #[test]
    fn a_socket_open_to_the_world_gets_no_password() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("redis.sock");
        let listener = bind(&path, 0o777);
        listener.set_nonblocking(true).unwrap();
        let error = connect(&UpstreamAddress::Unix(path), SocketPolicy::default()).unwrap_err();
        assert_eq!(error.word(), "permission");
        assert!(listener.accept().is_err(), "the socket was not even connected to");
    }

    #[test]
    fn another_owner_gets_no_password() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("redis.sock");
        let _listener = bind(&path, 0o700);
        let other = rustix::process::getuid().as_raw() + 1;
        let error =
            connect(&UpstreamAddress::Unix(path), SocketPolicy { owner: Some(other), ..SocketPolicy::default() });
        assert_eq!(error.unwrap_err().word(), "permission");
    }

    #[test]
    fn a_file_that_is_no_socket_and_a_path_that_is_not_there_say_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "").unwrap();
        let error = connect(&UpstreamAddress::Unix(path), SocketPolicy::default()).unwrap_err();
        assert!(matches!(error, ConnectError::NotASocket { .. }));
        let missing = UpstreamAddress::Unix(dir.path().join("missing"));
        let error = connect(&missing, SocketPolicy::default()).unwrap_err();
        assert_eq!(error.word(), "connect");
        assert!(error.to_string().contains("missing"), "{error}");
    }

    #[test]
    fn a_port_where_nobody_listens_is_refused() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = connect(&UpstreamAddress::Loopback(free), SocketPolicy::default()).unwrap_err();
        assert_eq!(error.word(), "connect");
    }
}
