//! A connection to a receiver: a Unix or TCP socket of lines.
//!
//! It is made when there is something to write, and again after it was lost. What the kernel had taken and the receiver
//! had not read is lost with a connection, and nobody can tell how much that was; the buffer is kept small
//! ([`BUFFER`]) so that it is little.

use crate::audit::target::Address;
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};
use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    os::fd::{AsFd as _, BorrowedFd},
    time::Duration,
};

/// A receiver has so long to accept.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// What the kernel is asked to hold for the receiver, in bytes; Linux doubles it.
const BUFFER: usize = 64 * 1024;
/// A peer that vanished while nothing was written is noticed after 30 s and three probes.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);

/// A stream of bytes to a receiver.
pub(super) struct Stream {
    address: Address,
    socket: Option<Socket>,
}

impl Stream {
    pub(super) fn new(address: Address) -> Self {
        Self { address, socket: None }
    }

    /// The same, connected.
    pub(super) fn over(address: Address, socket: Socket) -> Self {
        Self { address, socket: Some(socket) }
    }

    /// Writes, over a new connection if there is none. After an error other than `WouldBlock` there is none.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None => connect(&self.address, Type::STREAM)?,
        };
        let written = socket.write(bytes);
        let lost = written.as_ref().is_err_and(|error| !is_passing(error));
        self.socket = Some(socket).filter(|_| !lost);
        written
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(|socket| socket.as_fd())
    }

    /// Whether there is a connection that goes on where the last write stopped.
    pub(super) fn is_connected(&self) -> bool {
        self.socket.is_some()
    }

    /// Lets a connection go that the receiver has closed: the kernel would take what is written to it, and lose it. What
    /// a receiver says is not for us.
    pub(super) fn look(&mut self) {
        let Some(socket) = &mut self.socket else { return };
        let mut said = [0; 1024];
        loop {
            match socket.read(&mut said) {
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Ok(0) | Err(_) => break,
            }
        }
        self.socket = None;
    }
}

/// Whether the connection lives on.
pub(super) fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// A connected socket of this type that does not block.
pub(super) fn connect(address: &Address, kind: Type) -> io::Result<Socket> {
    try_connect(address, kind).map_err(|error| not_connected(address, &error))
}

/// The error, and of what.
pub(super) fn not_connected(address: &Address, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot connect to {address}: {error}"))
}

/// The same, with the system's error as it is.
pub(super) fn try_connect(address: &Address, kind: Type) -> io::Result<Socket> {
    let (domain, to) = match address {
        Address::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
        Address::Tcp(address) | Address::Udp(address) => (Domain::for_address(*address), (*address).into()),
    };
    let socket = Socket::new(domain, kind, None)?;
    // Refused only by kernels that allow less; then it is that.
    let _ = socket.set_send_buffer_size(BUFFER);
    if kind == Type::STREAM {
        socket.connect_timeout(&to, CONNECT_WITHIN)?;
    } else {
        socket.connect(&to)?;
    }
    socket.set_nonblocking(true)?;
    if let (Address::Tcp(_), true) = (address, kind == Type::STREAM) {
        let (idle, interval, count) = KEEPALIVE;
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(count))?;
        // Blocks are written whole: there is nothing to wait for.
        socket.set_tcp_nodelay(true)?;
    }
    Ok(socket)
}
