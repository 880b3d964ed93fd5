//! The way to Redis: loopback TCP or a Unix socket, asked for its owner and mode first, or anywhere by TLS.
//!
//! ```text
//!   name ──► addresses ──► socket ──► (what is said before all else) ──► TLS ──► Upstream
//! ```
//!
//! All of it under one deadline, and none of it blocks the thread: names are looked up elsewhere ([`super::resolve`]).

use super::{resolve::Resolver, side, socket::SocketOptions};
use crate::{
    config::settings::{Host, SocketFault, SocketPolicy, UpstreamAddress},
    tls::{
        Polled, Socket, client::TlsClient, failure::Failure, poll_recv, poll_send, poll_send_parts, refusal,
        stream::Secured,
    },
};
use rustix::net::Shutdown;
use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf, Ready},
    net::{TcpStream, UnixStream},
    time::Instant,
};

/// A Unix socket whose queue is full says "try again" instead of making us wait, as TCP does.
const RETRY: Duration = Duration::from_millis(5);

/// An open connection to Redis.
#[derive(Debug)]
pub enum Upstream {
    /// In plain text, on this host.
    Plain(Plain),
    /// By TLS.
    Tls(Box<Secured<Plain>>),
}

/// A socket without TLS. Its connection shares it with nobody but a burst that writes in its place.
#[derive(Debug)]
pub enum Plain {
    /// TCP.
    Tcp(Arc<TcpStream>),
    /// A Unix socket: a third of the cost per message.
    Unix(Arc<UnixStream>),
}

/// Where to, and how.
#[derive(Clone, Copy, Debug)]
pub struct Way<'w> {
    /// Where.
    pub address: &'w UpstreamAddress,
    /// What a Unix socket must look like.
    pub policy: SocketPolicy,
    /// For a TCP socket.
    pub options: SocketOptions,
    /// TLS, which an address off this host needs.
    pub tls: Option<&'w TlsClient>,
    /// What is known of the address' name.
    pub resolver: &'w Resolver,
    /// Said before anything else, in plain text: the place of a PROXY protocol header. None if empty.
    pub preamble: &'w [u8],
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
    /// The name has no address that anybody knows of.
    #[error("the name in {address} cannot be looked up: {source}")]
    Resolve {
        /// The upstream's address.
        address: UpstreamAddress,
        /// As the resolver says.
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
    /// The server did not prove who it is, or did not accept who we are.
    #[error("no TLS connection to {address}: {failure}")]
    Tls {
        /// The upstream's address.
        address: UpstreamAddress,
        /// Why.
        failure: Failure,
    },
    /// It is not on this host, and there is no TLS.
    #[error("{address} is not on this host, and without TLS nothing is sent there")]
    PlainText {
        /// The upstream's address.
        address: UpstreamAddress,
    },
    /// No turn came in the crowd that wants to connect, or there was no room to wait.
    #[error("too many clients want to connect to Redis at once; no turn came within {timeout:?}")]
    Busy {
        /// The limit.
        timeout: Duration,
    },
    /// It was not there when it was last looked at, and nothing was tried since.
    #[error("Redis is down, as the last look at it found: {detail}")]
    Down {
        /// The word of the error with which it could not be connected to.
        reason: &'static str,
        /// What the look found.
        detail: String,
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
            Self::Resolve { .. } => "resolve",
            Self::Tls { .. } | Self::PlainText { .. } => "tls",
            Self::Timeout { .. } => "timeout",
            Self::Busy { .. } => "busy",
            Self::Down { reason, .. } => reason,
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
    pub async fn connect(way: Way<'_>, timeout: Duration) -> Result<Self, ConnectError> {
        let address = way.address.clone();
        let shaking = AtomicBool::new(false);
        match tokio::time::timeout(timeout, attempt(way, Instant::now() + timeout, &shaking)).await {
            Ok(Ok(upstream)) => Ok(upstream),
            Ok(Err(Fault::Io(source))) => Err(ConnectError::Connect { address, source }),
            Ok(Err(Fault::Resolve(source))) => Err(ConnectError::Resolve { address, source }),
            Ok(Err(Fault::NotASocket)) => Err(ConnectError::NotASocket { address }),
            Ok(Err(Fault::Socket(fault))) => Err(ConnectError::Permission { address, fault }),
            Ok(Err(Fault::Tls(failure))) => Err(ConnectError::Tls { address, failure }),
            Ok(Err(Fault::PlainText)) => Err(ConnectError::PlainText { address }),
            Err(_) if shaking.into_inner() => Err(ConnectError::Tls { address, failure: refusal::timeout(timeout) }),
            Err(_) => Err(ConnectError::Timeout { address, timeout }),
        }
    }
}

async fn attempt(way: Way<'_>, deadline: Instant, shaking: &AtomicBool) -> Result<Upstream, Fault> {
    let mut socket = match way.address {
        UpstreamAddress::Loopback(to) => Plain::Tcp(Arc::new(tcp(*to, way.options).await?)),
        UpstreamAddress::Unix(path) => Plain::Unix(Arc::new(unix(path, way.policy).await?)),
        UpstreamAddress::Remote { .. } if way.tls.is_none() => return Err(Fault::PlainText),
        UpstreamAddress::Remote { host: Host::Ip(ip), port } => {
            Plain::Tcp(Arc::new(tcp(SocketAddr::new(*ip, *port), way.options).await?))
        }
        UpstreamAddress::Remote { host: Host::Name(name), port } => {
            let found = way.resolver.resolve(name, *port).await.map_err(Fault::Resolve)?;
            Plain::Tcp(Arc::new(any_of(&found, way.options, deadline).await?))
        }
    };
    if !way.preamble.is_empty() {
        socket.write_all(way.preamble).await?;
    }
    let Some(tls) = way.tls else { return Ok(Upstream::Plain(socket)) };
    shaking.store(true, Ordering::Relaxed);
    let name = way.address.certificate_name();
    Ok(Upstream::Tls(Box::new(tls.connect(name.as_ref(), socket).await.map_err(Fault::Tls)?)))
}

enum Fault {
    Io(io::Error),
    Resolve(io::Error),
    NotASocket,
    Socket(SocketFault),
    Tls(Failure),
    PlainText,
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

/// The first of a name's addresses that accepts, each given its share of the time that is left.
async fn any_of(addresses: &[SocketAddr], options: SocketOptions, deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name has no address");
    for (at, address) in addresses.iter().enumerate() {
        let others = u32::try_from(addresses.len().saturating_sub(at)).unwrap_or(u32::MAX).max(1);
        let share = deadline.saturating_duration_since(Instant::now()) / others;
        match tokio::time::timeout(share, tcp(*address, options)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
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
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Upstream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, parts),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl side::Upward for Upstream {
    fn in_doubt(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Tls(stream) => stream.in_doubt(),
        }
    }

    #[inline]
    fn socket(&self) -> Option<Arc<dyn AsFd>> {
        match self {
            Self::Plain(Plain::Tcp(stream)) => Some(Arc::<TcpStream>::clone(stream)),
            Self::Plain(Plain::Unix(stream)) => Some(Arc::<UnixStream>::clone(stream)),
            Self::Tls(_) => None,
        }
    }
}

impl AsFd for Plain {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Polled for Plain {
    #[inline]
    fn poll_ready(&self, cx: &mut Context<'_>, interest: Interest) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_ready(cx, interest),
            Self::Unix(stream) => stream.poll_ready(cx, interest),
        }
    }

    fn peek(&self) -> Poll<io::Result<Ready>> {
        match self {
            Self::Tcp(stream) => Polled::peek(&**stream),
            Self::Unix(stream) => Polled::peek(&**stream),
        }
    }

    #[inline]
    fn forget(&self, interest: Interest) {
        match self {
            Self::Tcp(stream) => stream.forget(interest),
            Self::Unix(stream) => stream.forget(interest),
        }
    }
}

impl AsyncRead for Plain {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = into.initialize_unfilled();
        let taken = ready!(poll_recv(&*self, cx, room))?;
        into.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Plain {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        poll_send(&*self, cx, bytes)
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        poll_send_parts(&*self, cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(rustix::net::shutdown(&*self, Shutdown::Write).map_err(io::Error::from))
    }
}

impl Socket for Plain {
    fn quick_ack(&self) {
        if let Self::Tcp(stream) = self {
            stream.quick_ack();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ConnectError, Plain, Upstream, Way};
    use crate::{
        config::settings::{Host, Limits, SocketPolicy, UpstreamAddress},
        net::resolve::Resolver,
    };
    use std::{os::unix::fs::PermissionsExt, path::Path, time::Duration};

    fn connect(address: &UpstreamAddress, policy: SocketPolicy) -> Result<Upstream, ConnectError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (options, resolver) = ((&Limits::default()).into(), &Resolver::default());
        let way = Way { address, policy, options, tls: None, resolver, preamble: b"" };
        runtime.block_on(Upstream::connect(way, Duration::from_secs(5)))
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
        assert!(matches!(connect(&UpstreamAddress::Unix(path), policy), Ok(Upstream::Plain(Plain::Unix(_)))));
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

    #[test]
    fn nothing_is_connected_to_off_this_host_without_tls() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let local = std::net::IpAddr::from([127, 0, 0, 1]);
        for host in [Host::Ip(local), Host::Name("localhost".into())] {
            let error = connect(&UpstreamAddress::Remote { host, port }, SocketPolicy::default()).unwrap_err();
            assert!(matches!(error, ConnectError::PlainText { .. }), "{error}");
        }
        assert!(listener.accept().is_err(), "it was not even connected to");
    }
}
