//! Passwords that programs print, and what is tried where Redis refuses one.
//!
//! A program is run at the start (without what it prints the process does not start), before the time to live of what
//! it printed is over (after three to nine tenths of a quarter less), at a reload, and when Redis refuses the password. One
//! that fails is run again soon; until it does not, the last password that it printed is kept. Nothing waits for it but the
//! start and a reload.

use crate::{
    config::settings::{Account, Password, SecretCommand, Settings},
    lane::greeting::Credential,
    net::process,
    secret::Secret,
};
use std::{collections::HashMap, time::Duration};
use tokio::{task::JoinSet, time::Instant};

/// Longest password that a program may print.
const BYTES_MAX: usize = 64 * 1024;
/// Between two runs of a program that fails, or whose password Redis refuses.
const AGAIN_FIRST: Duration = Duration::from_millis(500);
const AGAIN_MAX: Duration = Duration::from_secs(30);

/// What a program printed, or why it printed nothing.
pub(super) type Printed = (SecretCommand, Result<Secret, String>);

/// What programs have printed.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    kept: HashMap<SecretCommand, Kept>,
    running: JoinSet<Printed>,
}

#[derive(Debug)]
struct Kept {
    secret: Secret,
    /// When it is to be run again; `None` while it runs.
    due: Option<Instant>,
    /// Not before this, whoever is in a hurry.
    not_before: Instant,
    failures: u32,
}

impl Secrets {
    /// Runs all programs of these settings, and says what each has printed.
    pub(super) async fn run_all(settings: &Settings) -> Vec<Printed> {
        let mut running = JoinSet::new();
        let mut started: Vec<&SecretCommand> = Vec::new();
        for command in commands(settings) {
            if !started.contains(&command) {
                started.push(command);
                running.spawn(run(command.clone()));
            }
        }
        running.join_all().await
    }

    /// Keeps what was printed. The programs that failed without having printed anything before: whose password it was to
    /// be cannot be told.
    ///
    /// # Errors
    /// The first of them.
    pub(super) fn keep(&mut self, printed: Vec<Printed>) -> Result<(), String> {
        let mut missing = Ok(());
        for (command, result) in printed {
            let program = command.program.display().to_string();
            if let Err(error) = self.note(command, result) {
                missing = missing.and(Err(format!("{program} prints no password: {error}")));
            }
        }
        missing
    }

    /// One of them: `Err` if there is nothing to keep.
    fn note(&mut self, command: SecretCommand, result: Result<Secret, String>) -> Result<(), String> {
        let now = Instant::now();
        match result {
            Ok(secret) => {
                // A jitter, so that many proxies do not ask one vault at once.
                let part = 750_u32.saturating_add(u32::try_from(chance() % 150).unwrap_or(0));
                let due = now + command.ttl.saturating_mul(part) / 1000;
                let not_before = now + AGAIN_FIRST;
                self.kept.insert(command, Kept { secret, due: Some(due), not_before, failures: 0 });
                Ok(())
            }
            Err(error) => {
                let Some(kept) = self.kept.get_mut(&command) else { return Err(error) };
                kept.failures = kept.failures.saturating_add(1);
                kept.not_before = now + pause(kept.failures);
                kept.due = Some(kept.not_before);
                Ok(())
            }
        }
    }

    /// When the next program is to be run.
    pub(super) fn due(&self) -> Option<Instant> {
        self.kept.values().filter_map(|kept| kept.due).min()
    }

    /// Runs those that are due.
    pub(super) fn run_due(&mut self) {
        let now = Instant::now();
        for (command, kept) in &mut self.kept {
            if kept.due.is_some_and(|due| due <= now) {
                kept.due = None;
                self.running.spawn(run(command.clone()));
            }
        }
    }

    /// Redis refuses what this program has printed: it is run as soon as that is decent.
    pub(super) fn hurry(&mut self, command: &SecretCommand) {
        if let Some(kept) = self.kept.get_mut(command)
            && let Some(due) = &mut kept.due
            && *due > kept.not_before
        {
            *due = kept.not_before;
            kept.failures = kept.failures.saturating_add(1);
        }
    }

    /// The next program that has ended. Never ready while none runs.
    pub(super) async fn ended(&mut self) -> Printed {
        loop {
            match self.running.join_next().await {
                Some(Ok(printed)) => return printed,
                // A panic: there is none in `run`.
                Some(Err(_)) => {}
                None => std::future::pending::<()>().await,
            }
        }
    }

    /// Forgets what no settings name any more.
    pub(super) fn retain(&mut self, settings: &Settings) {
        self.kept.retain(|command, _| commands(settings).any(|named| named == command));
    }

    /// Gives the settings the passwords of programs, and to each account the password it had before as another one.
    pub(super) fn fill(&self, next: &mut Settings, before: Option<&Settings>) {
        let old: HashMap<Account, &Credential> =
            before.into_iter().flat_map(Settings::passwords).map(|(account, _, old)| (account, old)).collect();
        next.fill_passwords(|account, password, credential| {
            if let Some(kept) = password.source.command().and_then(|command| self.kept.get(command)) {
                credential.password = kept.secret.clone();
            }
            overlap(credential, old.get(account).copied());
        });
    }
}

/// Lets what was right until now be tried too, for Redis may be told the new one later. The others are, in this order: the
/// next one, if it is known, and the one before.
fn overlap(credential: &mut Credential, before: Option<&Credential>) {
    let Some(before) = before else { return };
    let same = |a: &Secret, b: &Secret| a.expose() == b.expose();
    let known = |credential: &Credential, secret: &Secret| {
        same(&credential.password, secret) || credential.others.iter().any(|other| same(other, secret))
    };
    if same(&before.password, &credential.password) {
        // Nothing is new: what could be tried still can. (The last of them; the first may be the next one.)
        if let Some(last) = before.others.last().filter(|last| !known(credential, last)) {
            credential.others.push(last.clone());
        }
    } else if !known(credential, &before.password) {
        credential.others.push(before.password.clone());
    }
    let current = credential.password.clone();
    credential.others.retain(|other| !same(other, &current));
}

/// The passwords that are not what they were.
pub(super) fn changed(before: &Settings, next: &Settings) -> Vec<Account> {
    let old: HashMap<Account, &Credential> =
        before.passwords().map(|(account, _, credential)| (account, credential)).collect();
    let differs = |account: &Account, credential: &Credential| {
        old.get(account).is_some_and(|old| old.password.expose() != credential.password.expose())
    };
    next.passwords().filter(|(account, _, new)| differs(account, new)).map(|(account, ..)| account).collect()
}

/// Reads again what is read from files.
pub(super) fn reread(settings: &mut Settings) {
    settings.fill_passwords(|account, password, credential| {
        match password.read() {
            Some(Ok(secret)) => credential.password = secret,
            Some(Err(error)) => {
                tracing::debug!(%account, %error, "the password cannot be read; the old one is kept");
            }
            None => {}
        }
        if let Some(next) = password.read_next() {
            credential.others = vec![next];
        }
    });
}

/// The programs that settings name.
fn commands(settings: &Settings) -> impl Iterator<Item = &SecretCommand> {
    settings.passwords().filter_map(|(_, password, _): (_, &Password, _)| password.source.command())
}

async fn run(command: SecretCommand) -> Printed {
    let limit = u64::try_from(BYTES_MAX).unwrap_or(u64::MAX).saturating_add(3);
    let printed = process::run(&command.program, &command.arguments, &[], limit);
    let result = match tokio::time::timeout(command.timeout, printed).await {
        Err(_) => Err(format!("it has not ended within {:?}", command.timeout)),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(said)) => {
            let text = said.strip_suffix(b"\n").map_or(&said[..], |text| text.strip_suffix(b"\r").unwrap_or(text));
            match text.len() {
                0 => Err("it has printed nothing".to_owned()),
                length if length > BYTES_MAX => Err(format!("it has printed more than {BYTES_MAX} bytes")),
                _ => Ok(Secret::new(text.to_vec())),
            }
        }
    };
    (command, result)
}

fn pause(failures: u32) -> Duration {
    let doubled = AGAIN_FIRST.saturating_mul(1_u32.checked_shl(failures.min(16)).unwrap_or(u32::MAX));
    doubled.min(AGAIN_MAX)
}

/// Random enough to spread.
fn chance() -> u64 {
    std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0)
}

#[cfg(test)]
mod tests {
    use super::{Secrets, overlap, pause, run};
    use crate::{config::settings::SecretCommand, lane::greeting::Credential, secret::Secret};
    use std::time::Duration;

    fn credential(words: &[&str]) -> Credential {
        let secret = |word: &&str| Secret::new(word.as_bytes().to_vec());
        let password = words.first().map(secret).unwrap();
        Credential { username: None, password, others: words.iter().skip(1).map(secret).collect() }
    }

    fn words(credential: &Credential) -> Vec<&str> {
        let all = std::iter::once(&credential.password).chain(&credential.others);
        all.map(|secret| std::str::from_utf8(secret.expose()).unwrap()).collect()
    }

    #[test]
    fn the_password_before_is_tried_too_until_another_one_comes() {
        for (before, read, expected) in [
            (&["a"][..], &["a"][..], &["a"][..]),
            (&["a"], &["b"], &["b", "a"]),
            (&["b", "a"], &["b"], &["b", "a"]),
            (&["b", "a"], &["c"], &["c", "b"]),
            (&["a"], &["a", "next"], &["a", "next"]),
            (&["a", "next"], &["next", "later"], &["next", "later", "a"]),
            (&["next", "later", "a"], &["next", "later"], &["next", "later", "a"]),
            (&["a", "b"], &["b", "a"], &["b", "a"]),
            (&["a"], &["b", "b"], &["b", "a"]),
        ] {
            let mut found = credential(read);
            overlap(&mut found, Some(&credential(before)));
            assert_eq!(words(&found), expected, "{before:?} then {read:?}");
        }
    }

    fn command(script: &str, timeout_ms: u64) -> SecretCommand {
        SecretCommand {
            program: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            ttl: Duration::from_secs(1000),
            timeout: Duration::from_millis(timeout_ms),
        }
    }

    #[tokio::test]
    async fn only_a_program_that_prints_something_and_ends_well_has_printed_a_password() {
        for (script, expected) in [
            ("printf 'hunter2\\n'", Ok(&b"hunter2"[..])),
            ("printf 'hunter2\\r\\n'", Ok(b"hunter2")),
            ("printf ' a b '", Ok(b" a b ")),
            ("printf 'hunter2'; exit 3", Err("exit status: 3")),
            ("printf ''", Err("nothing")),
            ("echo", Err("nothing")),
            ("head -c 70000 /dev/zero", Err("more than")),
            ("printf x; sleep 60", Err("not ended")),
            ("echo \"$CARGO_MANIFEST_DIR$HOME|$PATH\" | cut -c1-5", Ok(b"|/usr")),
        ] {
            let timeout = if script.contains("sleep") { 200 } else { 20_000 };
            let (_, printed) = run(command(script, timeout)).await;
            match (printed, expected) {
                (Ok(secret), Ok(expected)) => assert_eq!(secret.expose(), expected, "{script}"),
                (Err(error), Err(word)) => {
                    assert!(error.contains(word), "{script}: {error}");
                    assert!(!error.contains("hunter2"), "{error}");
                }
                (printed, expected) => panic!("{script}: {printed:?}, expected {expected:?}"),
            }
        }
    }

    #[tokio::test]
    async fn one_that_fails_is_run_again_soon_and_the_last_password_is_kept() {
        let (mut secrets, command) = (Secrets::default(), command("true", 1));
        let printed = |result: Result<&str, &str>| {
            let result = result.map(|word| Secret::new(word.as_bytes().to_vec())).map_err(str::to_owned);
            vec![(command.clone(), result)]
        };
        assert!(secrets.keep(printed(Err("gone"))).unwrap_err().contains("gone"), "nothing is there to be kept");
        secrets.keep(printed(Ok("one"))).unwrap();
        let due = secrets.due().unwrap().saturating_duration_since(tokio::time::Instant::now()).as_secs();
        assert!((740..=900).contains(&due), "{due}");
        secrets.keep(printed(Err("gone"))).unwrap();
        let soon = secrets.due().unwrap().saturating_duration_since(tokio::time::Instant::now());
        assert!(soon <= pause(1), "{soon:?}");
        assert_eq!(secrets.kept[&command].secret.expose(), b"one");
        secrets.keep(printed(Ok("two"))).unwrap();
        secrets.hurry(&command);
        assert!(secrets.due().unwrap().saturating_duration_since(tokio::time::Instant::now()) <= pause(0));
        assert!(pause(30) == Duration::from_secs(30));
    }
}
