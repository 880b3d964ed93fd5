//! What a verified certificate proves, and the role it has here.

use super::{network::Admitted, rules::Policy};
use std::sync::Arc;

/// The names in a verified certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// URI subject alternative names.
    pub uris: Vec<String>,
    /// DNS subject alternative names.
    pub dns: Vec<String>,
    /// Email subject alternative names.
    pub emails: Vec<String>,
    /// IP subject alternative names.
    pub ips: Vec<std::net::IpAddr>,
    /// The subject's common name.
    pub cn: Option<String>,
    /// The subject's organisational units.
    pub ou: Vec<String>,
    /// The subject's organisations.
    pub o: Vec<String>,
    /// Serial number, lower-case hexadecimal.
    pub serial: String,
    /// SHA-256 of the DER certificate, lower-case hexadecimal.
    pub sha256: String,
    /// Seconds since the epoch at which the certificate (or one of its issuers) expires.
    pub not_after: i64,
}

/// A peer whose certificate was verified and matched exactly one role: made by [`AuthenticatedPeer::authenticate`] alone.
#[derive(Clone, Debug)]
pub struct AuthenticatedPeer {
    admitted: Admitted,
    identity: Arc<Identity>,
    role: Arc<Role>,
}

/// What an identity may do.
#[derive(Debug)]
pub struct Role {
    /// Its name, as records and metrics write it.
    pub name: String,
    /// What it may say.
    pub policy: Arc<Policy>,
}
