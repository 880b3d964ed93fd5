//! Swapping a listener's TLS whole.
//!
//! A reload is two steps, so that a caller with more than one thing to swap can make sure of all of them first:
//! [`Store::prepare`] reads and checks everything and touches nothing; [`Store::swap`] cannot fail. New handshakes take the
//! new material; open connections keep what they agreed on ([`super::server::Tls::recheck_at`] tells whether their
//! certificates still stand). Tickets of before are worthless afterwards, so nobody resumes past a revocation.

use arc_swap::ArcSwap;
use rustls::pki_types::UnixTime;
use std::sync::Arc;

use super::server::{FileError, Files, Material, Tls};

/// The TLS in force of one listener.
#[derive(Debug)]
pub struct Store(ArcSwap<Tls>);

impl Store {
    /// Begins with this one.
    #[must_use]
    pub fn new(tls: Tls) -> Self {
        Self(ArcSwap::from_pointee(tls))
    }

    /// What the next handshake uses. Load it once per handshake.
    #[must_use]
    pub fn current(&self) -> Arc<Tls> {
        self.0.load_full()
    }

    /// Reads and checks the files; nothing when they say what is already in force. A certificate seen with another's key,
    /// as while files are being replaced, is an error like any other: the old pair stays until the new one is whole.
    ///
    /// # Errors
    ///
    /// [`FileError`]; what is in force stays in force.
    pub fn prepare(&self, files: &Files, now: UnixTime) -> Result<Option<Tls>, FileError> {
        let material = Material::read(files)?;
        if material.digest() == *self.0.load().digest() {
            return Ok(None);
        }
        Tls::build(&material, now).map(Some)
    }

    /// New ticket keys for what is in force, because something else has changed that a session rests on (a role, say): no
    /// session of before is resumed, by any worker.
    pub fn rekey(&self) {
        let next = Arc::new(self.0.load().rekeyed());
        self.0.store(next);
    }

    /// Puts it in force.
    pub fn swap(&self, tls: Tls) {
        self.0.store(Arc::new(tls));
    }
}
