//! What happens besides commands: to a connection, to the process, before there is an identity.

use super::{
    encode::{DETAIL_MAX, LABEL_MAX},
    json::{escaped, number, number_field, text_field},
    watch::Burst,
};
use std::net::SocketAddr;

/// Most names of a list in one line.
const NAMES_MAX: usize = 16;
/// Most bytes of one of them, rendered.
const NAME_RENDERED_MAX: usize = 384;

/// What happens to a connection after its peer is authenticated.
#[derive(Clone, Copy, Debug)]
pub enum ConnectionEvent<'a> {
    /// The peer is in, its upstream is connected and authenticated.
    Open,
    /// The upstream could not be had: `reason` is a stable word (`connect`, `permission`, `timeout`, `auth` …), `detail`
    /// for people.
    UpstreamFailed {
        /// Stable word.
        reason: &'static str,
        /// For people; no secret, no client bytes.
        detail: &'a str,
    },
    /// A client's own AUTH or HELLO AUTH.
    Authentication {
        /// What became of it.
        verdict: AuthVerdict,
        /// `AUTH` or `HELLO`.
        method: &'static str,
    },
    /// Too many wrong passwords: the client's address and certificate are sent away from now on.
    Ban {
        /// For how long, in microseconds.
        us: u64,
    },
    /// A reload has given the connection another role, which the line names.
    RoleChanged {
        /// The role it had.
        was: &'a str,
    },
    /// A top-level `-NOAUTH` came from Redis: somebody changed its users under us.
    Alarm {
        /// Stable word.
        reason: &'static str,
    },
    /// Many denials, or much that was read: see [`super::watch`].
    Notice(Burst),
    /// The end.
    Close {
        /// Stable word: see [`crate::session::error::CloseReason`].
        reason: &'static str,
        /// For people; no secret, no client bytes.
        detail: &'a str,
        /// Commands accepted, denied ones among them.
        commands: u64,
        /// Denied ones.
        denied: u64,
        /// Plaintext bytes from the client.
        bytes_in: u64,
        /// Plaintext bytes to the client.
        bytes_out: u64,
        /// Microseconds since the connection was accepted.
        us: u64,
    },
}

/// What became of a client's own AUTH or HELLO AUTH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthVerdict {
    /// User and password were right.
    Allow,
    /// They were wrong, or none are taken here.
    Deny,
    /// They were not looked at, and answered OK.
    Ignore,
    /// They could not be looked up.
    Unavailable,
}

impl AuthVerdict {
    /// All of them, in the order of [`Self::index`].
    pub const ALL: [Self; 4] = [Self::Allow, Self::Deny, Self::Ignore, Self::Unavailable];

    /// The stable word in records and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Ignore => "ignore",
            Self::Unavailable => "unavailable",
        }
    }

    /// Its place in a table of counters.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What happens to the process, or to a peer that is not authenticated yet.
#[derive(Clone, Copy, Debug)]
pub enum ProcessEvent<'a> {
    /// The process serves.
    Start {
        /// Version of the program.
        version: &'a str,
        /// Process id.
        pid: u32,
        /// SHA-256 of the configuration in force, lower-case hexadecimal.
        config_sha256: &'a str,
        /// Names of the services.
        services: &'a [String],
    },
    /// The process ends; the last line of its pen.
    Stop {
        /// Stable word (`drained`, `deadline`, `failure`).
        reason: &'static str,
        /// Microseconds since the start.
        us: u64,
    },
    /// A reload was asked for.
    Reload {
        /// What was looked at: `config` with everything it names, or `secrets`.
        what: &'static str,
        /// Who asked: `signal`, `watch` (a file has changed), `operator`, `secret` (it was due, or Redis refused it).
        by: &'static str,
        /// What is different now, a line each; no secret.
        changes: &'a [String],
        /// Why the old state was kept; `None` when the new one is in force.
        failed: Option<&'a str>,
        /// SHA-256 of the configuration now in force.
        config_sha256: &'a str,
    },
    /// Redis refuses the proxy's password, or takes it again.
    UpstreamCredential {
        /// Whose.
        service: &'a str,
        /// The role, of a password of its own.
        role: Option<&'a str>,
        /// What Redis said, in a few words; `None` when it takes it.
        refused: Option<&'a str>,
    },
    /// Nothing new is accepted from here on.
    DrainBegin {
        /// Stable word (`signal`).
        reason: &'static str,
        /// Connections open.
        connections: u64,
        /// Microseconds until what is still open is aborted.
        deadline_us: u64,
    },
    /// All connections are gone.
    DrainEnd {
        /// Connections that ended with all they were owed.
        drained: u64,
        /// Connections that were aborted at the deadline.
        aborted: u64,
        /// Microseconds it took.
        us: u64,
    },
    /// A connection was refused before a single TLS byte.
    Refused {
        /// Where it came from.
        src: SocketAddr,
        /// The service it came for.
        service: &'a str,
        /// The listener's address.
        listener: &'a str,
        /// Stable word (`not-admitted`, `denied-address`, `max-connections`, `max-per-address` …).
        reason: &'static str,
        /// The proxy that it came through, where that has said who its client is.
        via: Option<SocketAddr>,
        /// For people, where the word does not say it all; no bytes of the client's.
        detail: &'a str,
    },
    /// A handshake did not lead to a peer with a role.
    HandshakeFailure {
        /// Where it came from.
        src: SocketAddr,
        /// The service it came for.
        service: &'a str,
        /// Stable word (`timeout`, `no-certificate`, `unknown-ca`, `expired`, `no-role` …).
        reason: &'static str,
        /// For people.
        detail: &'a str,
        /// What to do about it, if that can be told.
        hint: Option<&'a str>,
        /// Names the peer's certificate claims, which nobody has verified.
        unverified: &'a [String],
        /// The proxy that it came through, where that has said who its client is.
        via: Option<SocketAddr>,
    },
    /// `accept` failed, and backs off.
    AcceptError {
        /// The listener's address.
        listener: &'a str,
        /// Stable word (`fd-limit`, `memory`, `other`).
        reason: &'static str,
        /// For people.
        detail: &'a str,
    },
    /// A sink works again after it had failed. Where commands wait for it, nothing was lost in between.
    SinkRecovered {
        /// The output's name.
        output: &'a str,
        /// What it had failed with.
        reason: &'a str,
        /// For how long, in microseconds.
        us: u64,
    },
    /// New connections of a service go to another Redis from now on.
    UpstreamSwitch {
        /// The service's name.
        service: &'a str,
        /// The address before.
        from: &'a str,
        /// The address now.
        to: &'a str,
        /// What the last look at the first found.
        reason: &'a str,
    },
}

impl ConnectionEvent<'_> {
    /// The record's `event`.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Open => "connection_open",
            Self::UpstreamFailed { .. } => "upstream_failed",
            Self::Authentication { .. } => "client_auth",
            Self::Ban { .. } => "ban",
            Self::RoleChanged { .. } => "role_changed",
            Self::Alarm { .. } => "alarm",
            Self::Notice(_) => "notice",
            Self::Close { .. } => "connection_close",
        }
    }

    /// Whether the line says whose the connection is in every shape: what begins it, and what may change its role.
    pub(super) const fn says_whose(&self) -> bool {
        match self {
            Self::Open | Self::UpstreamFailed { .. } | Self::Authentication { .. } | Self::RoleChanged { .. } => true,
            Self::Ban { .. } | Self::Alarm { .. } | Self::Notice(_) | Self::Close { .. } => false,
        }
    }

    pub(super) fn render(&self, out: &mut Vec<u8>, opening: &[u8]) {
        match *self {
            Self::Open => out.extend_from_slice(opening),
            Self::UpstreamFailed { reason, detail } => {
                text_field(out, "reason", reason, LABEL_MAX);
                text_field(out, "detail", detail, DETAIL_MAX);
            }
            Self::Authentication { verdict, method } => {
                text_field(out, "cmd", method, LABEL_MAX);
                text_field(out, "verdict", verdict.word(), LABEL_MAX);
            }
            Self::Ban { us } => number_field(out, "us", us),
            Self::RoleChanged { was } => text_field(out, "was", was, LABEL_MAX),
            Self::Alarm { reason } => text_field(out, "reason", reason, LABEL_MAX),
            Self::Notice(Burst { notice, amount, us }) => {
                text_field(out, "notice", notice.word(), LABEL_MAX);
                number_field(out, "amount", amount);
                number_field(out, "us", us);
            }
            Self::Close { reason, detail, commands, denied, bytes_in, bytes_out, us } => {
                text_field(out, "reason", reason, LABEL_MAX);
                text_field(out, "detail", detail, DETAIL_MAX);
                number_field(out, "commands", commands);
                number_field(out, "denied", denied);
                number_field(out, "bytes_in", bytes_in);
                number_field(out, "bytes_out", bytes_out);
                number_field(out, "us", us);
            }
        }
    }
}

impl ProcessEvent<'_> {
    /// The record's `event`.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Stop { .. } => "stop",
            Self::Reload { .. } => "reload",
            Self::UpstreamCredential { .. } => "upstream_credential",
            Self::DrainBegin { .. } => "drain_begin",
            Self::DrainEnd { .. } => "drain_end",
            Self::Refused { .. } => "refused",
            Self::HandshakeFailure { .. } => "handshake_failure",
            Self::AcceptError { .. } => "accept_error",
            Self::SinkRecovered { .. } => "sink_recovered",
            Self::UpstreamSwitch { .. } => "upstream_switch",
        }
    }

    pub(super) fn render(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Start { version, pid, config_sha256, services } => {
                text_field(out, "version", version, LABEL_MAX);
                number_field(out, "pid", u64::from(pid));
                text_field(out, "config_sha256", config_sha256, LABEL_MAX);
                names(out, "services", services);
            }
            Self::Stop { reason, us } => {
                text_field(out, "reason", reason, LABEL_MAX);
                number_field(out, "us", us);
            }
            Self::Reload { what, by, changes, failed, config_sha256 } => {
                text_field(out, "what", what, LABEL_MAX);
                text_field(out, "by", by, LABEL_MAX);
                text_field(out, "result", if failed.is_some() { "kept" } else { "swapped" }, LABEL_MAX);
                if let Some(detail) = failed {
                    text_field(out, "detail", detail, DETAIL_MAX);
                }
                text_field(out, "config_sha256", config_sha256, LABEL_MAX);
                names(out, "changes", changes);
            }
            Self::UpstreamCredential { service, role, refused } => {
                text_field(out, "service", service, LABEL_MAX);
                if let Some(role) = role {
                    text_field(out, "role", role, LABEL_MAX);
                }
                text_field(out, "result", if refused.is_some() { "refused" } else { "accepted" }, LABEL_MAX);
                if let Some(detail) = refused {
                    text_field(out, "detail", detail, DETAIL_MAX);
                }
            }
            Self::DrainBegin { reason, connections, deadline_us } => {
                text_field(out, "reason", reason, LABEL_MAX);
                number_field(out, "connections", connections);
                number_field(out, "deadline_us", deadline_us);
            }
            Self::DrainEnd { drained, aborted, us } => {
                number_field(out, "drained", drained);
                number_field(out, "aborted", aborted);
                number_field(out, "us", us);
            }
            Self::Refused { src, service, listener, reason, via, detail } => {
                source(out, src, service);
                through(out, via);
                text_field(out, "listener", listener, LABEL_MAX);
                text_field(out, "reason", reason, LABEL_MAX);
                if !detail.is_empty() {
                    text_field(out, "detail", detail, DETAIL_MAX);
                }
            }
            Self::HandshakeFailure { src, service, reason, detail, hint, unverified, via } => {
                source(out, src, service);
                through(out, via);
                text_field(out, "reason", reason, LABEL_MAX);
                text_field(out, "detail", detail, DETAIL_MAX);
                if let Some(hint) = hint {
                    text_field(out, "hint", hint, DETAIL_MAX);
                }
                names(out, "unverified", unverified);
            }
            Self::AcceptError { listener, reason, detail } => {
                text_field(out, "listener", listener, LABEL_MAX);
                text_field(out, "reason", reason, LABEL_MAX);
                text_field(out, "detail", detail, DETAIL_MAX);
            }
            Self::SinkRecovered { output, reason, us } => {
                text_field(out, "output", output, LABEL_MAX);
                text_field(out, "reason", reason, LABEL_MAX);
                number_field(out, "us", us);
            }
            Self::UpstreamSwitch { service, from, to, reason } => {
                text_field(out, "service", service, LABEL_MAX);
                text_field(out, "from", from, LABEL_MAX);
                text_field(out, "to", to, LABEL_MAX);
                text_field(out, "reason", reason, LABEL_MAX);
            }
        }
    }
}

fn source(out: &mut Vec<u8>, src: SocketAddr, service: &str) {
    text_field(out, "service", service, LABEL_MAX);
    text_field(out, "src", &src.to_string(), LABEL_MAX);
}

/// Appends the proxy that somebody came through.
fn through(out: &mut Vec<u8>, via: Option<SocketAddr>) {
    if let Some(via) = via {
        text_field(out, "via", &via.to_string(), LABEL_MAX);
    }
}

/// Appends `,"field":["…"]`; a list or name that is too long is cut, and `field_total` says how many there were.
pub(super) fn names(out: &mut Vec<u8>, field: &str, names: &[String]) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(field.as_bytes());
    out.extend_from_slice(b"\":[");
    let mut whole = names.len() <= NAMES_MAX;
    for (index, name) in names.iter().take(NAMES_MAX).enumerate() {
        out.extend_from_slice(if index > 0 { b",\"".as_slice() } else { b"\"" });
        whole &= escaped(out, name, NAME_RENDERED_MAX);
        out.push(b'"');
    }
    out.push(b']');
    if !whole {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(field.as_bytes());
        out.extend_from_slice(b"_cut\":true,\"");
        out.extend_from_slice(field.as_bytes());
        out.extend_from_slice(b"_total\":");
        number(out, names.len());
    }
}
