//! What a role has of its own: credential, limits, databases, what becomes of its clients' AUTH.

use super::{
    Paths, choice,
    limits::{FIRST_OR_HALF, bytes, connections_or_none, count, number, time, time_or_never},
    secrets::{self, Sources},
    service::named_user,
};
use crate::{
    config::{
        decode::Item,
        error::{At, Report},
        raw::{RawRate, RawRole, RawRoleLimits, RawRoleUpstream},
        settings::{ClientAuth, Limits, Password, RoleLimits},
    },
    lane::greeting::Credential,
    policy::{
        databases::{DATABASES_MAX, Databases},
        rates::{LIMITS_MAX, Limit, Measure, Over, Per},
    },
};
use std::{num::NonZeroU64, ops::RangeInclusive, time::Duration};

/// Bounds of a rate's `commands`, `bytes` and `burst`.
const COMMANDS: RangeInclusive<u64> = 1..=10_000_000;
const BYTES: RangeInclusive<u64> = 1024..=64 * 1024 * 1024 * 1024;
const BURST: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);

/// The words for [`ClientAuth`].
pub(super) const CLIENT_AUTH: [(&str, ClientAuth); 4] = [
    ("refuse", ClientAuth::Refuse),
    ("ignore", ClientAuth::Ignore),
    ("verify", ClientAuth::Verify),
    ("select", ClientAuth::Select),
];

/// Whether this word lets a password give another role.
pub(super) fn is_select(word: &str) -> bool {
    CLIENT_AUTH.iter().any(|(known, mode)| *known == word && *mode == ClientAuth::Select)
}

/// What a role says of itself, the same for each of its services.
pub(super) struct Own {
    pub(super) credential: Option<(Credential, Password, At)>,
    pub(super) client_auth: Option<(ClientAuth, At)>,
    pub(super) databases: Option<Databases>,
    pub(super) limits: RoleLimits,
    /// Limits in time.
    pub(super) rates: Vec<Limit>,
}

pub(super) fn own(raw: &RawRole, limits: &Limits, paths: &Paths, report: &mut Report) -> Own {
    Own {
        credential: raw.upstream.as_ref().and_then(|item| credential(item, paths, report)),
        client_auth: raw
            .client_auth
            .as_ref()
            .map(|item| (choice(Some(item), &CLIENT_AUTH, ClientAuth::Refuse, report), item.at.clone())),
        databases: databases(raw.databases.as_ref(), report),
        limits: raw.limits.as_ref().map_or_else(|| limits.into(), |item| bounds(item, limits, report)),
        rates: raw.limits.as_ref().map_or_else(Vec::new, |item| rates(item.value.rate.as_ref(), report)),
    }
}

fn credential(item: &Item<RawRoleUpstream>, paths: &Paths, report: &mut Report) -> Option<(Credential, Password, At)> {
    let raw = &item.value;
    let username = named_user(raw.username.as_ref(), report);
    let sources = Sources {
        file: raw.password_file.as_ref(),
        credential: raw.password_credential.as_ref(),
        variable: raw.password_env.as_ref(),
        command: raw.password_command.as_ref(),
        next: raw.next_password_file.as_ref(),
    };
    if sources.first().is_none() {
        report.missing(&item.at, "password_file", "a role's own credential has a password of its own");
        return None;
    }
    let found = secrets::password(sources, username, paths, report);
    Some((found.credential?, found.password?, item.at.clone()))
}

fn databases(list: Option<&Item<Vec<Item<i64>>>>, report: &mut Report) -> Option<Databases> {
    let list = list?;
    let most = u32::try_from(i32::MAX).unwrap_or(u32::MAX);
    let found: Vec<u32> = list.value.iter().filter_map(|item| number(Some(item), 0..=most, report)).collect();
    if list.value.is_empty() {
        report.error(&list.at, "there is no database in the list").hint("leave `databases` out for all of them");
    } else if list.value.len() > DATABASES_MAX {
        report.error(&list.at, format!("expected at most {DATABASES_MAX} databases, found {}", list.value.len()));
    }
    Databases::new(&found)
}

fn bounds(item: &Item<RawRoleLimits>, limits: &Limits, report: &mut Report) -> RoleLimits {
    let raw = &item.value;
    let defaults = RoleLimits::from(limits);
    let held = bytes(raw.held_command.as_ref(), super::limits::HELD, defaults.held_command, report);
    if u64::try_from(held).unwrap_or(u64::MAX) > limits.memory
        && let Some(item) = &raw.held_command
    {
        report.error(&item.at, "this is more than limits.memory").hint("one command of the greatest size must fit");
    }
    RoleLimits {
        max_connections: number(raw.max_connections.as_ref(), 1..=super::limits::CONNECTIONS_MAX, report)
            .and_then(std::num::NonZeroU32::new),
        idle_timeout: time_or_never(
            raw.idle_timeout.as_ref(),
            Duration::from_secs(1)..=Duration::from_secs(30 * 86_400),
            defaults.idle_timeout,
            report,
        ),
        max_connections_per_identity: connections_or_none(
            raw.max_connections_per_identity.as_ref(),
            defaults.max_connections_per_identity,
            report,
        ),
        first_byte_timeout: time_or_never(
            raw.first_byte_timeout.as_ref(),
            FIRST_OR_HALF,
            defaults.first_byte_timeout,
            report,
        ),
        half_command_timeout: time_or_never(
            raw.half_command_timeout.as_ref(),
            FIRST_OR_HALF,
            defaults.half_command_timeout,
            report,
        ),
        max_connection_age: time_or_never(
            raw.max_connection_age.as_ref(),
            super::limits::AGE,
            defaults.max_connection_age,
            report,
        ),
        max_bulk: bytes(raw.max_bulk.as_ref(), super::limits::BULK, defaults.max_bulk, report),
        max_words: count(raw.max_words.as_ref(), 16..=1 << 24, defaults.max_words, report),
        held_command: held,
        unanswered: bytes(raw.unanswered.as_ref(), super::limits::UNANSWERED, defaults.unanswered, report),
    }
}

/// The limits in time of a role.
fn rates(list: Option<&Item<Vec<Item<RawRate>>>>, report: &mut Report) -> Vec<Limit> {
    let Some(list) = list else { return Vec::new() };
    if list.value.len() > LIMITS_MAX {
        report.error(&list.at, format!("expected at most {LIMITS_MAX} limits, found {}", list.value.len()));
    }
    list.value.iter().filter_map(|item| rate(item, report)).collect()
}

fn rate(item: &Item<RawRate>, report: &mut Report) -> Option<Limit> {
    let raw = &item.value;
    let (measure, per_second) = match (&raw.commands, &raw.bytes) {
        (Some(commands), None) => (Measure::Commands, number(Some(commands), COMMANDS, report)?),
        (None, Some(size)) => (Measure::Bytes, bytes(Some(size), BYTES, 0_u64, report)),
        (None, None) | (Some(_), Some(_)) => {
            report
                .error(&item.at, "expected one of `commands` and `bytes`")
                .hint("a limit counts one of them: write two, [{ commands = 1000 }, { bytes = \"10MiB\" }]");
            return None;
        }
    };
    let of = super::deny_rules(raw.of.as_ref(), report).list;
    if let Some(list) = raw.of.as_ref().filter(|list| list.value.is_empty()) {
        report.error(&list.at, "no command is in the list").hint("leave `of` out for all of them");
    }
    let burst = time(raw.burst.as_ref(), BURST, Duration::from_secs(1), report);
    Some(Limit {
        measure,
        per_second: NonZeroU64::new(per_second)?,
        burst_us: crate::net::clock::micros(burst),
        of,
        over: choice(raw.over.as_ref(), &[("delay", Over::Delay), ("error", Over::Refuse)], Over::Delay, report),
        per: choice(raw.per.as_ref(), &[("role", Per::Role), ("connection", Per::Connection)], Per::Role, report),
    })
}
