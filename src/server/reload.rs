//! A reload: everything is read and checked first; then all of it is swapped, or nothing.
//!
//! Asked for by SIGHUP, over the admin socket (`ravelin reload`), or because a file has changed ([`super::watch`]).
//!
//! Swapped: certificates, keys, CAs, CRLs, passwords, admission, roles and their policy, every limit but two, the log,
//! bans, and what the audit outputs take of the stream. New connections use the new ones. Live connections are asked
//! again whether their address, certificate, role, user and Redis still stand, and drained if not; the others learn what is
//! new ([`crate::session::renewal`]).
//!
//! Not swapped, because sockets, threads and files were made from them: see [`needs_restart`]. A file that changes one of
//! these is refused whole: a configuration that is half in force is one nobody has written.

use super::{
    secrets::{self, Secrets},
    start::{files, tell_of_tls, unix},
    watch::Digests,
};
use crate::{
    audit::outlet::Plan,
    config::{
        Source,
        error::ConfigErrors,
        settings::{Account, AuditOutput, Credentials, Listener, Log, Settings},
    },
    net::service::{Common, House, Live, Service},
    tls::server::FileError,
};
use sha2::{Digest, Sha256};
use std::{path::Path, sync::Arc};

/// Most lines of a difference.
const CHANGES_MAX: usize = 200;

/// Why the old configuration is kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReloadError {
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    #[error("service {service}: {error}")]
    Tls { service: Arc<str>, error: FileError },
    #[error("{0}")]
    Secret(String),
    #[error("{key} has changed, which only a restart can put in force")]
    NeedsRestart { key: String },
}

/// Who asks for a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// SIGHUP.
    Signal,
    /// A file has changed.
    Watch,
    /// An operator, over the admin socket.
    Operator,
    /// A secret was due, or Redis has refused one.
    Secret,
}

impl By {
    /// The stable word in records.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::Watch => "watch",
            Self::Operator => "operator",
            Self::Secret => "secret",
        }
    }

    /// Whether somebody has asked, and means all of it.
    pub(super) const fn is_asked(self) -> bool {
        matches!(self, Self::Signal | Self::Operator)
    }
}

/// What puts another log in force.
pub(super) type SetLog = Box<dyn Fn(Log)>;

/// The configuration in force.
pub(super) struct InForce {
    settings: Settings,
    digest: String,
    files: Digests,
    pub(super) secrets: Secrets,
    set_log: SetLog,
}

impl InForce {
    /// `settings` with every password in it, and what the programs printed that it is from.
    pub(super) fn new(settings: Settings, secrets: Secrets, set_log: SetLog) -> Self {
        let (digest, files) = (digest(&settings.file), Digests::of(&settings));
        Self { settings, digest, files, secrets, set_log }
    }

    pub(super) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// SHA-256 of the configuration file as it was when it was last put in force.
    pub(super) fn digest(&self) -> &str {
        &self.digest
    }

    /// The files as they were then.
    pub(super) const fn files(&self) -> &Digests {
        &self.files
    }

    /// Reads everything again, and says what is different. On an error nothing has changed.
    pub(super) async fn reload(&mut self, source: &Source, house: &House, by: By) -> Result<Vec<String>, ReloadError> {
        let before = Digests::of(&self.settings);
        let mut next = source.load()?;
        if let Some(key) = needs_restart(&self.settings, &next) {
            return Err(ReloadError::NeedsRestart { key });
        }
        let printed = Secrets::run_all(&next).await;
        for (command, result) in &printed {
            if let Err(error) = result {
                tracing::warn!(program = %command.program.display(), error, "the program prints no password");
            }
        }
        self.secrets.keep(printed).map_err(ReloadError::Secret)?;
        self.secrets.fill(&mut next, Some(&self.settings));
        let now = unix(house.clock);
        let (mut prepared, mut lives) = (Vec::new(), Vec::new());
        for (service, settings) in house.services.iter().zip(&next.services) {
            let tls = match &service.tls {
                Some(store) => store
                    .prepare(&files(settings), now)
                    .map_err(|error| ReloadError::Tls { service: Arc::clone(&service.name), error })?,
                None => None,
            };
            let live = Live::load(settings, &next.limits, &next.audit, now, Some(&service.live.load()))
                .map_err(|error| ReloadError::Tls { service: Arc::clone(&service.name), error })?;
            lives.push(live);
            prepared.push((service, tls));
        }
        let files = Digests::of(&next).unless_changed_since(&before);
        let changes = self.changes(&next, &files);
        // Nothing below can fail. Who shakes hands in between meets the new verifier or is asked again by `revalidate`.
        for (service, tls) in prepared {
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
        }
        house.bans.open().configure(next.bans);
        house.permits.configure(&next.limits);
        house.common.store(Arc::new(Common::new(&next.limits, &next.audit)));
        (self.set_log)(next.log);
        self.swap_services(&next, lives, house, by);
        for warning in &next.warnings {
            tracing::warn!("{warning}");
        }
        self.digest = digest(&next.file);
        self.files = files;
        self.secrets.retain(&next);
        self.settings = next;
        Ok(changes)
    }

    /// Puts in force what has become of passwords since, and nothing else. Whose password is another one.
    pub(super) fn refresh(&mut self, house: &House) -> Vec<Account> {
        let mut next = self.settings.clone();
        secrets::reread(&mut next);
        self.secrets.fill(&mut next, Some(&self.settings));
        let changed = secrets::changed(&self.settings, &next);
        let others = |settings: &Settings| -> Vec<usize> {
            settings.passwords().map(|(_, _, credential)| credential.others.len()).collect()
        };
        if !changed.is_empty() || others(&self.settings) != others(&next) {
            let refreshed =
                |(service, settings): (&Service, _)| service.live.load().refreshed(settings, &next.limits, &next.audit);
            let lives = house.services.iter().zip(&next.services).map(refreshed).collect();
            self.swap_services(&next, lives, house, By::Secret);
            self.settings = next;
        }
        changed
    }

    fn swap_services(&self, next: &Settings, lives: Vec<Live>, house: &House, by: By) {
        let settings = next.services.iter().zip(&self.settings.services);
        for ((service, (new, old)), mut live) in house.services.iter().zip(settings).zip(lives) {
            let before = service.live.load_full();
            let again = by.is_asked() || !is_same_helper(old.credentials.as_ref(), new.credentials.as_ref());
            live.vouching = before.vouching.wrapping_add(u64::from(again));
            live.go_on_from(&before);
            service.forget_refusals(&live);
            let keeper = Arc::clone(&live.keeper);
            service.live.store(Arc::new(live));
            // What kept one from being ready may be mended: a password, a certificate.
            keeper.hurry();
        }
    }

    /// What is different, for people: keys, files, passwords. No secret.
    fn changes(&self, next: &Settings, files: &Digests) -> Vec<String> {
        let mut lines = self.settings.given.changes(&next.given);
        for file in next.files() {
            // The configuration itself was gone through key by key, and a password is a secret, wherever it lies.
            let apart = file.path == next.file || file.key.ends_with("password_file");
            if !apart && files.differs(&self.files, &file.path) {
                let of = file.service.map_or_else(String::new, |service| format!(" of service {service}"));
                let line = format!("{}{of}: {} has changed", file.key, file.path.display());
                if !lines.contains(&line) {
                    lines.push(line);
                }
            }
        }
        let passwords = secrets::changed(&self.settings, next).into_iter();
        lines.extend(passwords.map(|account| format!("the password of {account} has changed")));
        let more = lines.len().saturating_sub(CHANGES_MAX);
        lines.truncate(CHANGES_MAX);
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        lines
    }
}

/// Whether clients' passwords are looked up as before. What a file of users says of each is asked besides.
fn is_same_helper(before: Option<&Credentials>, next: Option<&Credentials>) -> bool {
    match (before, next) {
        (Some(Credentials::Helper(before)), Some(Credentials::Helper(next))) => before == next,
        (Some(Credentials::Users { .. }), Some(Credentials::Users { .. })) | (None, None) => true,
        _ => false,
    }
}

/// For the record only: a file that has vanished since it was read has no digest, and no other harm done.
fn digest(file: &Path) -> String {
    let bytes = std::fs::read(file).unwrap_or_default();
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first key that differs and that sockets, threads or files were made from: services and where they listen, the
/// backlog, the number of workers, where records go and what proves them, the admin side.
fn needs_restart(old: &Settings, new: &Settings) -> Option<String> {
    let names = |settings: &Settings| settings.services.iter().map(|each| Arc::clone(&each.name)).collect::<Vec<_>>();
    if names(old) != names(new) {
        return Some("the list of services".to_owned());
    }
    let sockets = |listeners: &[Listener]| -> Vec<Listener> {
        listeners.iter().map(|each| Listener { inline: false, proxy_protocol: None, ..each.clone() }).collect()
    };
    for (before, after) in old.services.iter().zip(&new.services) {
        let fixed = [
            ("plain text or TLS", before.plain != after.plain),
            ("listen", sockets(&before.listeners) != sockets(&after.listeners)),
        ];
        if let Some((key, _)) = fixed.into_iter().find(|(_, changed)| *changed) {
            return Some(format!("{key} of service {}", before.name));
        }
    }
    // What an output takes and how it looks is asked anew for every record.
    let places = |outputs: &[AuditOutput]| -> Vec<AuditOutput> {
        let place = |output: &AuditOutput| {
            let Plan { name, on_full, .. } = output.plan.clone();
            AuditOutput { plan: Plan { name, on_full, ..Plan::default() }, ..output.clone() }
        };
        outputs.iter().map(place).collect()
    };
    let fixed = [
        ("limits.workers", old.limits.workers != new.limits.workers),
        ("limits.backlog", old.limits.backlog != new.limits.backlog),
        (
            "audit.output (its places, names, checkpoint or on_full)",
            places(&old.audit.outputs) != places(&new.audit.outputs),
        ),
        ("admin", old.admin != new.admin),
    ];
    fixed.into_iter().find(|(_, changed)| *changed).map(|(key, _)| key.to_owned())
}
