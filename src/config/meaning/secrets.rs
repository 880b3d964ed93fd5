//! Where secrets come from.

use super::{Paths, credentials::program, limits, service::read_password};
use crate::{
    config::{
        decode::Item,
        error::{At, Report},
        password,
        raw::RawPasswordCommand,
        settings::{Password, SecretCommand, SecretSource, unfilled},
    },
    lane::greeting::Credential,
    secret::Secret,
};
use std::{
    ops::RangeInclusive,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

/// What systemd calls the folder of a service's credentials.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";
const TTL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);
const TTL_DEFAULT: Duration = Duration::from_secs(3600);
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// The keys of a table that may name a password.
#[derive(Clone, Copy)]
pub(super) struct Sources<'r> {
    pub(super) file: Option<&'r Item<String>>,
    pub(super) credential: Option<&'r Item<String>>,
    pub(super) variable: Option<&'r Item<String>>,
    pub(super) command: Option<&'r Item<RawPasswordCommand>>,
    pub(super) next: Option<&'r Item<String>>,
}

impl<'r> Sources<'r> {
    /// Where each source is given.
    fn given(&self) -> impl Iterator<Item = &'r At> {
        let texts = [self.file, self.credential, self.variable].into_iter().flatten().map(|item| &item.at);
        texts.chain(self.command.map(|item| &item.at))
    }

    /// Where the first of them is given, if one is.
    pub(super) fn first(&self) -> Option<&'r At> {
        self.given().next()
    }
}

/// What is known of a password: where it comes from, and what is made of it if it could be read.
#[derive(Default)]
pub(super) struct Found {
    pub(super) password: Option<Password>,
    pub(super) credential: Option<Credential>,
}

/// The password that one of these names.
pub(super) fn password(sources: Sources<'_>, username: Option<String>, paths: &Paths, report: &mut Report) -> Found {
    if let Some(second) = sources.given().nth(1) {
        report
            .error(second, "there is another source of this password already")
            .hint("keep one of password_file, password_credential, password_env and password_command");
        return Found::default();
    }
    let next = sources.next.map(|item| (item, paths.resolve(item, report)));
    let found = if let Some(item) = sources.file {
        let path = paths.resolve(item, report);
        let secret = read_password(item, &path, report);
        Some((SecretSource::File(path), secret))
    } else if let Some(item) = sources.credential {
        credential_file(item, report).map(|path| {
            let secret = read_password(item, &path, report);
            (SecretSource::Credential { name: item.value.clone(), path }, secret)
        })
    } else if let Some(item) = sources.variable {
        Some((SecretSource::Environment(item.value.clone()), variable(item, report)))
    } else {
        sources.command.and_then(|item| command(item, report)).map(|command| {
            // It is run by whoever needs what it prints, and never for the sake of a look at the configuration.
            (SecretSource::Command(command), Some(unfilled()))
        })
    };
    let Some((source, secret)) = found else { return Found::default() };
    let others = next.as_ref().and_then(|(item, path)| read_next(item, path, report)).into_iter().collect();
    Found {
        password: Some(Password { source, next: next.map(|(_, path)| path) }),
        credential: secret.map(|password| Credential { username, password, others }),
    }
}

/// The next password, if it is there already.
fn read_next(item: &Item<String>, path: &Path, report: &mut Report) -> Option<Secret> {
    match password::read(path) {
        Err(password::PasswordError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(password::PasswordError::Empty) => None,
        _ => read_password(item, path, report),
    }
}

/// Where the service manager has put a credential.
pub(super) fn credential_file(item: &Item<String>, report: &mut Report) -> Option<PathBuf> {
    let name = &item.value;
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        report.error(&item.at, format!("{name:?} is not the name of a credential: it is a file's, without a folder"));
        return None;
    }
    let Some(folder) = std::env::var_os(CREDENTIALS_DIRECTORY).filter(|folder| !folder.is_empty()) else {
        report.error(&item.at, format!("there are no credentials: ${CREDENTIALS_DIRECTORY} is not set")).hint(format!(
            "systemd sets it where the unit says LoadCredential={name}:/path (or LoadCredentialEncrypted=)"
        ));
        return None;
    };
    Some(PathBuf::from(folder).join(name))
}

fn variable(item: &Item<String>, report: &mut Report) -> Option<Secret> {
    let name = &item.value;
    if name.is_empty() || name.contains(['=', '\0']) {
        // Somebody may have written the password there.
        report.error(&item.at, "this is not the name of an environment variable");
        return None;
    }
    report.warn_at(
        &item.at,
        format!("the environment variable {name} can be read by everything that runs as this user, and stays the same until a restart"),
        "a file, a systemd credential or a program are better places for a password",
    );
    let value = std::env::var_os(name).map(|value| Secret::new(value.into_vec()));
    let fault = match &value {
        None => "is not set",
        Some(secret) if secret.expose().is_empty() => "is empty",
        Some(secret) if secret.expose().len() > password::BYTES_MAX => "holds more than a password",
        Some(_) => return value,
    };
    report.error(&item.at, format!("the environment variable {name} {fault}"));
    None
}

fn command(item: &Item<RawPasswordCommand>, report: &mut Report) -> Option<SecretCommand> {
    let raw = &item.value;
    let Some(run) = &raw.run else {
        report.missing(&item.at, "run", "write run = [\"/path/to/program\", \"argument\"]");
        return None;
    };
    let (program, arguments) = program(run, "run", report)?;
    Some(SecretCommand {
        program,
        arguments,
        ttl: limits::time(raw.ttl.as_ref(), TTL, TTL_DEFAULT, report),
        timeout: limits::time(raw.timeout.as_ref(), TIMEOUT, TIMEOUT_DEFAULT, report),
    })
}

/// The file of a secret that is named by a path or as a credential.
pub(super) fn file_of(
    file: Option<&Item<String>>,
    credential: Option<&Item<String>>,
    paths: &Paths,
    report: &mut Report,
) -> Option<(Item<String>, PathBuf)> {
    match (file, credential) {
        (Some(_), Some(second)) => {
            report.error(&second.at, "the file of this secret is named already").hint("keep one of the two");
            None
        }
        (Some(item), None) => Some((item.clone(), paths.resolve(item, report))),
        (None, Some(item)) => Some((item.clone(), credential_file(item, report)?)),
        (None, None) => None,
    }
}
