//! Mutual TLS on the client's side: everything that knows rustls by name.
//!
//! * [`pem`] reads certificate, key and revocation files;
//! * [`server`] makes one listener's TLS out of them, or says what is wrong with them;
//! * [`reload`] swaps it whole, or keeps what was;
//! * [`handshake`] turns an accepted socket into a [`pipe::TlsPipe`] and a verified
//!   [`Identity`](crate::policy::identity::Identity), or into a reason in plain words;
//! * [`peer`] reads the names out of a certificate;
//! * [`failure`] puts what rustls refuses into words an operator can act on;
//! * [`pipe`] is all that the rest of the shell sees of an open connection.
//!
//! Invariant: an [`Identity`](crate::policy::identity::Identity) leaves this room only for a chain that the verifier in
//! force accepted on this very connection; a resumed session is verified again.

mod describe;
pub mod failure;
pub mod handshake;
mod name;
pub mod peer;
pub mod pem;
pub mod pipe;
pub mod reload;
pub mod server;
mod socket;
#[cfg(test)]
mod testing;

pub use describe::{CertificateInfo, CrlInfo, Description};
pub use socket::{Socket, poll_recv, poll_send};
