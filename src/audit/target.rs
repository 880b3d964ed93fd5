//! Where an output goes, as the configuration says it and [`super::sink`] does it.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

/// Where an output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(FileTarget),
    /// A stream of JSON lines.
    Socket(SocketTarget),
    /// Syslog, RFC 5424.
    Syslog(SyslogTarget),
}

/// A file, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileTarget {
    /// Where it is.
    pub path: PathBuf,
    /// Permission bits of a file that is made, whatever the process' umask.
    pub mode: u32,
    /// When another file takes its place.
    pub rotation: Rotation,
    /// When it is written to the disk.
    pub fsync: Fsync,
}

impl<P: Into<PathBuf>> From<P> for FileTarget {
    fn from(path: P) -> Self {
        Self { path: path.into(), mode: 0o600, rotation: Rotation::default(), fsync: Fsync::Never }
    }
}

/// When a file is put aside for a new one, and how many of those are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// Before it would grow beyond so many bytes.
    pub size: Option<u64>,
    /// When a multiple of this time since 1970-01-01T00:00:00Z has come.
    pub every: Option<Duration>,
    /// So many that were put aside are kept; all without one.
    pub keep: Option<u32>,
}

/// When what was written to a file is written to its disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fsync {
    /// When the kernel does.
    #[default]
    Never,
    /// At the latest so long after it was written.
    Within(Duration),
    /// Before it counts as written.
    Always,
}

/// Where a receiver listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// TCP.
    Tcp(SocketAddr),
    /// UDP.
    Udp(SocketAddr),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Udp(address) => write!(f, "udp:{address}"),
        }
    }
}

/// A stream of JSON lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketTarget {
    /// A Unix or TCP socket.
    pub address: Address,
}

/// Syslog, RFC 5424.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogTarget {
    /// Where the receiver listens.
    pub address: Address,
    /// RFC 5424, table 1.
    pub facility: u8,
    /// What messages say this host is called; what the kernel says without one.
    pub hostname: Option<String>,
    /// Most bytes of a message, without its octet count.
    pub message_max: usize,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("standard output"),
            Self::File(file) => write!(f, "{}", file.path.display()),
            Self::Socket(socket) => write!(f, "{}", socket.address),
            Self::Syslog(syslog) => write!(f, "syslog {}", syslog.address),
        }
    }
}
