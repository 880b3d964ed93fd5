//! Where passwords come from.

use super::Settings;
use crate::{config::password, lane::greeting::Credential, secret::Secret};
use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

/// Where a password comes from, and where the one that follows it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Password {
    /// Where it comes from.
    pub source: SecretSource,
    /// The file of the next one, which need not be there.
    pub next: Option<PathBuf>,
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file, read when the configuration is loaded.
    File(PathBuf),
    /// A systemd credential: likewise a file.
    Credential {
        /// Its name.
        name: String,
        /// Where the service manager has put it.
        path: PathBuf,
    },
    /// An environment variable of this name.
    Environment(String),
    /// What a program prints. It is run by the server, not while the configuration is loaded.
    Command(SecretCommand),
}

/// A program that prints a secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SecretCommand {
    /// An absolute path.
    pub program: PathBuf,
    /// Its arguments; they may hold something that opens a vault.
    pub arguments: Vec<String>,
    /// How long what it prints is good for.
    pub ttl: Duration,
    /// Time for it.
    pub timeout: Duration,
}

impl SecretSource {
    /// The file it is read from, if it is read from one.
    #[must_use]
    pub const fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::File(path) | Self::Credential { path, .. } => Some(path),
            Self::Environment(_) | Self::Command(_) => None,
        }
    }

    /// The program that prints it, if one does.
    #[must_use]
    pub const fn command(&self) -> Option<&SecretCommand> {
        match self {
            Self::Command(command) => Some(command),
            Self::File(_) | Self::Credential { .. } | Self::Environment(_) => None,
        }
    }
}

impl fmt::Display for SecretSource {
    /// For people. No argument of a program is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Credential { name, .. } => write!(f, "the systemd credential {name}"),
            Self::Environment(name) => write!(f, "the environment variable {name}"),
            Self::Command(command) => write!(f, "what {} prints", command.program.display()),
        }
    }
}

/// Whose a password is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Account {
    /// The service.
    pub service: Arc<str>,
    /// The role, of a password of its own; the service's without one.
    pub role: Option<Arc<str>>,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.role {
            None => write!(f, "service {}", self.service),
            Some(role) => write!(f, "role {role} in service {}", self.service),
        }
    }
}

impl Settings {
    /// Every password for a Redis: whose, from where, and what is made of it.
    pub fn passwords(&self) -> impl Iterator<Item = (Account, &Password, &Credential)> {
        self.services.iter().flat_map(|service| {
            let account = |role: Option<&Arc<str>>| Account { service: Arc::clone(&service.name), role: role.cloned() };
            let own = service.upstream.password.as_ref().zip(service.upstream.credential());
            let of_roles = service
                .terms
                .iter()
                .filter_map(|terms| Some((Some(&terms.role), terms.password.as_ref()?, terms.credential.as_ref()?)));
            let own = own.into_iter().map(|(password, credential)| (None, password, credential));
            own.chain(of_roles).map(move |(role, password, credential)| (account(role), password, credential))
        })
    }

    /// Gives each password what this says, and what else may be tried.
    pub fn fill_passwords(&mut self, mut fill: impl FnMut(&Account, &Password, &mut Credential)) {
        for service in &mut self.services {
            let account = |role: Option<&Arc<str>>| Account { service: Arc::clone(&service.name), role: role.cloned() };
            if let (Some(password), Some(credential)) =
                (&service.upstream.password, &mut service.upstream.greeting.credential)
            {
                fill(&account(None), password, credential);
            }
            for terms in &mut service.terms {
                if let (Some(password), Some(credential)) = (&terms.password, &mut terms.credential) {
                    fill(&account(Some(&terms.role)), password, credential);
                }
            }
        }
    }
}

/// What stands for the password of a program that was not run yet. Nobody's password is empty.
#[must_use]
pub fn unfilled() -> Secret {
    Secret::new(Vec::new())
}

impl Password {
    /// Reads it again, if it is read from a file.
    ///
    /// # Errors
    /// Why it cannot be read; nothing of what it is.
    #[must_use]
    pub fn read(&self) -> Option<Result<Secret, String>> {
        let path = self.source.file()?;
        Some(password::read(path).map_err(|error| format!("{}: {error}", path.display())))
    }

    /// Reads the next one, if it is there.
    #[must_use]
    pub fn read_next(&self) -> Option<Secret> {
        password::read(self.next.as_ref()?).ok()
    }
}
