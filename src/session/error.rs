//! Why a connection ends.

use std::fmt;

/// Who closed a connection, as the kernel says of the other end of the admin socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operator {
    /// The user's number.
    pub uid: u32,
    /// The process, if it can be told.
    pub pid: Option<i32>,
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user id {}", self.uid)?;
        self.pid.map_or(Ok(()), |pid| write!(f, ", process {pid}"))
    }
}

/// Why a connection ends; [`CloseReason::word`] is what records and metrics write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client ended its side and has all it was owed.
    ClientClosed,
    /// The client's socket failed or its host vanished.
    ClientGone,
    /// QUIT was answered.
    Quit,
    /// The client broke the protocol.
    Protocol,
    /// Redis closed while nothing was owed, or after what was owed.
    UpstreamClosed,
    /// Redis' reply could not be framed, or nobody had asked for it.
    Desync,
    /// Redis did not accept our credential, or stopped accepting it.
    UpstreamAuth,
    /// Redis could not be reached.
    UpstreamUnreachable,
    /// The budget for unanswered commands or unread replies is spent.
    UnansweredBudget,
    /// No right password came within `limits.login_timeout`.
    Login,
    /// Nothing came within `limits.idle_timeout`.
    Idle,
    /// No first byte came within `limits.first_byte_timeout`.
    FirstByte,
    /// A command was not whole within `limits.half_command_timeout`.
    HalfCommand,
    /// It has been open for as long as `limits.max_connection_age` lets it.
    Age,
    /// The process is draining.
    Drain,
    /// It was still open when the drain's deadline came, or a second signal.
    DrainDeadline,
    /// A reload took the peer's admission or role away, or its certificate expired.
    Revoked,
    /// Too many passwords were wrong.
    Banned,
    /// An operator closed it, over the admin socket.
    Operator(Operator),
    /// A bug of ours, contained to this connection.
    Internal,
}

impl CloseReason {
    /// The stable word in records and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::ClientClosed => "client-closed",
            Self::ClientGone => "client-gone",
            Self::Quit => "quit",
            Self::Protocol => "protocol",
            Self::UpstreamClosed => "upstream-closed",
            Self::Desync => "desync",
            Self::UpstreamAuth => "upstream-auth",
            Self::UpstreamUnreachable => "upstream-unreachable",
            Self::UnansweredBudget => "unanswered-budget",
            Self::Login => "login-timeout",
            Self::Idle => "idle",
            Self::FirstByte => "first-byte-timeout",
            Self::HalfCommand => "half-command-timeout",
            Self::Age => "max-age",
            Self::Drain => "drain",
            Self::DrainDeadline => "drain-deadline",
            Self::Revoked => "revoked",
            Self::Banned => "banned",
            Self::Operator(_) => "operator",
            Self::Internal => "internal",
        }
    }

    /// What the word leaves out, for the record.
    #[must_use]
    pub fn detail(self) -> String {
        if let Self::Operator(operator) = self { format!("closed by {operator}") } else { String::new() }
    }
}
