//! Where clients' own passwords are looked up, and what becomes of those who guess.

use super::{Paths, limits};
use crate::{
    config::{
        decode::Item,
        error::{At, Report},
        password,
        raw::{RawBans, RawCredentials},
        settings::{Credentials, Helper},
    },
    policy::{bans::Schedule, credentials::Users},
};
use std::{
    ops::RangeInclusive,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Longest file of users.
const USERS_FILE_MAX: usize = 1024 * 1024;
const DAY: Duration = Duration::from_secs(86_400);

/// A table of credentials and where it stands, so that what is in it can be held against the roles.
#[derive(Clone)]
pub(super) struct Table {
    pub(super) credentials: Option<Credentials>,
    pub(super) at: At,
}

pub(super) fn credentials(item: Item<RawCredentials>, paths: &Paths, report: &mut Report) -> Table {
    let Item { at, value: raw } = item;
    let asks = [&raw.timeout, &raw.cache].into_iter().flatten().map(|item| &item.at);
    let asks: Vec<&At> = asks.chain(raw.processes.as_ref().map(|item| &item.at)).collect();
    let credentials = match (&raw.users_file, &raw.command) {
        (Some(file), None) => {
            for at in asks {
                report.error(at, "this is about a program that is asked, and there is none (`command`)");
            }
            users(file, paths, report)
        }
        (None, Some(command)) => helper(command, &raw, report).map(Credentials::Helper),
        (Some(_), Some(command)) => {
            report.error(&command.at, "there is a users_file too").hint("keep one of the two");
            None
        }
        (None, None) => {
            report.error(&at, "there is neither a users_file nor a command").hint("say where users are looked up");
            None
        }
    };
    Table { credentials, at }
}

fn users(item: &Item<String>, paths: &Paths, report: &mut Report) -> Option<Credentials> {
    let file = paths.resolve(item, report);
    let text = match password::read_up_to(&file, USERS_FILE_MAX) {
        Ok(text) => text,
        Err(error) => {
            let fault = report.error(&item.at, format!("{} is no file of users: {error}", file.display()));
            if matches!(error, password::PasswordError::Open(_)) {
                fault.hint(format!("chmod o-rw {}: what it holds is as secret as passwords", file.display()));
            }
            return None;
        }
    };
    match Users::parse(text.expose()) {
        Ok(users) if users.is_empty() => {
            report.error(&item.at, format!("{} holds no user", file.display()));
            None
        }
        Ok(users) => Some(Credentials::Users { users: Arc::new(users), file }),
        Err(error) => {
            report.error(&item.at, format!("{}, {error}", file.display()));
            None
        }
    }
}

fn helper(command: &Item<Vec<Item<String>>>, raw: &RawCredentials, report: &mut Report) -> Option<Helper> {
    let (program, arguments) = program(command, "command", report)?;
    let seconds = |least, most| Duration::from_secs(least)..=Duration::from_secs(most);
    let timeout: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
    Some(Helper {
        program,
        arguments,
        timeout: limits::time(raw.timeout.as_ref(), timeout, Duration::from_secs(5), report),
        processes: limits::number(raw.processes.as_ref(), 1..=64_usize, report).unwrap_or(4),
        cache: limits::time_or_never(raw.cache.as_ref(), seconds(1, 3600), Some(Duration::from_secs(30)), report),
    })
}

/// The program that the list of `key` begins with, and its arguments.
pub(super) fn program(
    list: &Item<Vec<Item<String>>>,
    key: &str,
    report: &mut Report,
) -> Option<(PathBuf, Vec<String>)> {
    let mut words = list.value.iter();
    let Some(first) = words.next() else {
        report.error(&list.at, "there is no program in the list").hint(format!("write {key} = [\"/path/to/program\"]"));
        return None;
    };
    let program = PathBuf::from(&first.value);
    if let Err(cause) = runnable(&program) {
        report.error(&first.at, format!("{}: {cause}", program.display()));
        return None;
    }
    for word in words.clone().filter(|word| word.value.contains('\0')) {
        report.error(&word.at, "an argument cannot hold a NUL");
    }
    Some((program, words.map(|word| word.value.clone()).collect()))
}

/// Who may change the program may let anybody in.
fn runnable(program: &Path) -> Result<(), String> {
    if !program.is_absolute() {
        return Err("is not an absolute path: what is run must not depend on PATH or folder".to_owned());
    }
    let file = std::fs::metadata(program).map_err(|error| error.to_string())?;
    if !file.is_file() {
        return Err("is not a regular file".to_owned());
    }
    if file.mode() & 0o111 == 0 {
        return Err("is not executable".to_owned());
    }
    if file.mode() & 0o002 != 0 {
        return Err(format!("everybody on this host may change it (mode {:04o})", file.mode() & 0o777));
    }
    Ok(())
}

pub(super) fn bans(item: Option<Item<RawBans>>, report: &mut Report) -> Schedule {
    let defaults = Schedule::default();
    let Some(Item { at, value: raw }) = item else { return defaults };
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let first = Duration::from_secs(1)..=DAY;
    let max = Duration::from_secs(1)..=30 * DAY;
    let schedule = Schedule {
        after: limits::number(raw.after.as_ref(), 0..=1000_u32, report).unwrap_or(defaults.after),
        first_us: micros(limits::time(raw.first.as_ref(), first, Duration::from_micros(defaults.first_us), report)),
        max_us: micros(limits::time(raw.max.as_ref(), max, Duration::from_micros(defaults.max_us), report)),
    };
    if schedule.max_us < schedule.first_us {
        let at = raw.max.as_ref().or(raw.first.as_ref()).map_or(&at, |item| &item.at);
        report.error(at, "the longest ban is shorter than the first").hint("let bans.max be at least bans.first");
    }
    if schedule.after == 0 {
        let at = raw.after.as_ref().map_or(&at, |item| &item.at);
        report.warn_at(at, "nobody is sent away, however many passwords they guess", "leave it out for 5");
    }
    schedule
}
