//! Mutual TLS on the client's side: everything that knows rustls by name.
//!
//! * [`pem`] reads certificate, key and revocation files;
//! * [`server`] makes one listener's TLS out of them, or says what is wrong with them;
//! * [`revocation`] says who is not let in any more, `proven` remembers for a moment who is, [`suites`] what can be agreed on, `shelf` which certificate is shown
//!   to whom and `ocsp` what is stapled to it;
//! * [`expiry`] knows what ends by itself, and when that is worth a word;
//! * [`reload`] swaps it whole, or keeps what was;
//! * [`handshake`] turns an accepted socket into a [`pipe::TlsPipe`] and a verified
//!   [`Identity`](crate::policy::identity::Identity), or into a reason in plain words;
//! * [`peer`] reads the names out of a certificate, [`chains`] keeps what open connections have shown, each once;
//! * [`failure`] puts what rustls refuses into words an operator can act on;
//! * [`pipe`] is all that the rest of the shell sees of an open connection;
//! * [`client`] is the other direction, to a server that is known by its CA and name or by a [`pin`]; [`stream`] is what
//!   comes of it, and [`refusal`] says why nothing does.
//!
//! Invariant: an [`Identity`](crate::policy::identity::Identity) leaves this room only for a chain that the verifier in
//! force accepted on this very connection; a resumed session is verified again.

pub mod chains;
pub mod client;
mod client_load;
mod describe;
pub mod expiry;
pub mod failure;
pub mod handshake;
mod name;
mod ocsp;
pub mod peer;
pub mod pem;
pub mod pin;
pub mod pipe;
mod proven;
pub mod refusal;
pub mod reload;
pub mod revocation;
pub mod server;
mod shelf;
mod socket;
pub mod stream;
pub mod suites;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use describe::{ByName, CertificateInfo, CrlInfo, Description};
pub use ocsp::OcspInfo;
pub use shelf::normal as normal_name;
pub use socket::{Polled, Socket, poll_hangup, poll_recv, poll_send, poll_send_parts};
