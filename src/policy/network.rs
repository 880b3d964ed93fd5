//! Admission by address, before a single TLS byte.

use std::net::SocketAddr;

/// Proof that an address passed the allowlist: made by [`Admission::admit`] alone.
#[derive(Clone, Debug)]
pub struct Admitted {
    src: SocketAddr,
}

impl Admitted {
    /// Where the peer comes from, v4-mapped addresses folded.
    #[must_use]
    pub const fn src(&self) -> SocketAddr {
        self.src
    }
}

/// Which addresses may connect: made by [`Admission::new`].
#[derive(Debug, Clone)]
pub struct Admission {}

/// Why an address was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefuseReason {
    /// No entry of the allowlist covers it.
    NotAllowed,
    /// An entry of the denylist covers it.
    Denied,
}
