//! SIGHUP: everything is read and checked first; then all of it is swapped, or nothing.
//!
//! Swapped: certificates, keys, CAs, CRLs, passwords, admission, roles and their policy, session limits and timeouts.
//! New connections use the new ones. Live connections are asked again whether their address, certificate and role still
//! stand, and drained if not; until then they keep the policy they came in with.
//!
//! Not swapped, because threads and sockets were made from them: services and their names, listeners, the admin
//! endpoint, the audit output, the number of workers, connection caps, memory shares. A file that changes one of these
//! is refused whole: a configuration that is half in force is one nobody has written.

use super::start::{files, tell_of_tls, unix};
use crate::{
    config::{
        Source,
        error::ConfigErrors,
        settings::{Limits, Settings},
    },
    net::service::{House, Live},
    tls::server::FileError,
};
use sha2::{Digest, Sha256};
use std::{path::Path, sync::Arc};

/// Why the old configuration is kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReloadError {
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    #[error("service {service}: {error}")]
    Tls { service: Arc<str>, error: FileError },
    #[error("{key} has changed, which only a restart can put in force")]
    NeedsRestart { key: String },
}

/// The configuration in force.
#[derive(Debug)]
pub(super) struct InForce {
    settings: Settings,
    digest: String,
}

impl InForce {
    pub(super) fn new(settings: Settings) -> Self {
        let digest = digest(&settings.file);
        Self { settings, digest }
    }

    pub(super) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// SHA-256 of the configuration file as it was when it was last put in force.
    pub(super) fn digest(&self) -> &str {
        &self.digest
    }

    /// Reads everything again. On an error nothing has changed.
    pub(super) fn reload(&mut self, source: &Source, house: &House) -> Result<(), ReloadError> {
        let next = source.load()?;
        if let Some(key) = needs_restart(&self.settings, &next) {
            return Err(ReloadError::NeedsRestart { key });
        }
        let now = unix(house.clock);
        let mut prepared = Vec::new();
        for (service, settings) in house.services.iter().zip(&next.services) {
            let tls = match &service.tls {
                Some(store) => store
                    .prepare(&files(settings), now)
                    .map_err(|error| ReloadError::Tls { service: Arc::clone(&service.name), error })?,
                None => None,
            };
            let live = Live::load(settings, &next.limits, &next.audit, now, Some(&service.live.load()))
                .map_err(|error| ReloadError::Tls { service: Arc::clone(&service.name), error })?;
            live.go_on_from(&service.live.load());
            prepared.push((service, live, tls));
        }
        house.bans.open().configure(next.bans);
        house.permits.configure(&next.limits);
        // Nothing below can fail. Who shakes hands in between meets the new verifier or is asked again by `revalidate`.
        for (service, live, tls) in prepared {
            if let Some(store) = &service.tls {
                match tls {
                    Some(tls) => {
                        tell_of_tls(&service.name, tls.description(), None);
                        store.swap(tls);
                    }
                    None => {
                        // A session of before may rest on a role or an address that has gone.
                        store.rekey();
                        tell_of_tls(&service.name, store.current().description(), Some(now));
                    }
                }
            }
            service.live.store(Arc::new(live));
            service.live.load().keeper.hurry();
        }
        for warning in &next.warnings {
            tracing::warn!("{warning}");
        }
        self.digest = digest(&next.file);
        self.settings = next;
        Ok(())
    }
}

/// For the record only: a file that has vanished since it was read has no digest, and no other harm done.
fn digest(file: &Path) -> String {
    let bytes = std::fs::read(file).unwrap_or_default();
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first key that differs and was built into threads or sockets.
fn needs_restart(old: &Settings, new: &Settings) -> Option<String> {
    let names = |settings: &Settings| settings.services.iter().map(|each| Arc::clone(&each.name)).collect::<Vec<_>>();
    if names(old) != names(new) {
        return Some("the list of services".to_owned());
    }
    for (before, after) in old.services.iter().zip(&new.services) {
        let fixed = [
            ("plain text or TLS", before.plain != after.plain),
            ("listen", before.listeners != after.listeners),
            ("max_connections_per_address", before.max_connections_per_address != after.max_connections_per_address),
        ];
        if let Some((key, _)) = fixed.into_iter().find(|(_, changed)| *changed) {
            return Some(format!("{key} of service {}", before.name));
        }
    }
    let (Limits { workers, backlog, memory, max_connections, .. }, limits) = (&old.limits, &new.limits);
    let fixed = [
        ("limits.workers", *workers != limits.workers),
        ("limits.backlog", *backlog != limits.backlog),
        ("limits.memory", *memory != limits.memory),
        ("limits.max_connections", *max_connections != limits.max_connections),
        ("audit.output", old.audit.outputs != new.audit.outputs),
        ("audit.values", old.audit.values != new.audit.values),
        ("audit.begin", old.audit.begin_writes != new.audit.begin_writes),
        ("audit.watch", old.audit.watches != new.audit.watches),
        ("audit.queue", old.audit.queue != new.audit.queue),
        ("admin", old.admin != new.admin),
        ("log", old.log != new.log),
    ];
    fixed.into_iter().find(|(_, changed)| *changed).map(|(key, _)| key.to_owned())
}
