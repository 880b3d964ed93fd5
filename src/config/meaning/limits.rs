//! Numbers, sizes and durations, each within its bounds.

use crate::config::{
    decode::{Item, NumberOrText},
    error::Report,
    raw::{RawKeepalive, RawKnocks, RawLimits},
    settings::{Keepalive, Limits, Workers},
    units::{duration, show_duration, show_size, size},
};
use crate::policy::arrivals::Knocks;
use std::{
    fmt::Display,
    num::{NonZeroU16, NonZeroU32},
    ops::RangeInclusive,
    time::Duration,
};

const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;
pub(super) const CONNECTIONS_MAX: u32 = 1_000_000;
/// Linux' own bounds on keepalive (`MAX_TCP_KEEPIDLE`, `MAX_TCP_KEEPINTVL`, `MAX_TCP_KEEPCNT`).
const KEEPALIVE: RangeInclusive<Duration> = seconds(1)..=seconds(32_400);
const KEEPALIVE_COUNT: RangeInclusive<u32> = 1..=127;
/// Bounds of `held_command`, `max_bulk` and `unanswered`.
pub(super) const HELD: RangeInclusive<u64> = 64 * KIB..=GIB;
pub(super) const BULK: RangeInclusive<u64> = KIB..=GIB;
pub(super) const UNANSWERED: RangeInclusive<u64> = 64 * KIB..=4 * GIB;
/// Bounds of `audit.queue`.
pub(super) const QUEUE: RangeInclusive<u64> = 64 * KIB..=GIB;
/// Bounds of `first_byte_timeout` and `half_command_timeout`.
pub(super) const FIRST_OR_HALF: RangeInclusive<Duration> = Duration::from_millis(100)..=seconds(3600);
/// Bounds of `max_connection_age`.
pub(super) const AGE: RangeInclusive<Duration> = seconds(1)..=seconds(365 * 86_400);
/// Bounds of the time for connecting to Redis.
pub(super) const CONNECT: RangeInclusive<Duration> = Duration::from_millis(10)..=seconds(300);

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(super) fn limits(item: Option<Item<RawLimits>>, report: &mut Report) -> Limits {
    let defaults = Limits::default();
    let Some(Item { at, value: raw }) = item else { return defaults };
    let short = Duration::from_millis(100)..=seconds(300);
    let limits = Limits {
        max_connections: count(raw.max_connections.as_ref(), 1..=CONNECTIONS_MAX, defaults.max_connections, report),
        max_connections_per_address: connections_or_none(
            raw.max_connections_per_address.as_ref(),
            defaults.max_connections_per_address,
            report,
        ),
        max_connections_per_identity: connections_or_none(
            raw.max_connections_per_identity.as_ref(),
            defaults.max_connections_per_identity,
            report,
        ),
        accepts_per_address: knocks(raw.accepts_per_address, report),
        handshakes_per_address: knocks(raw.handshakes_per_address, report),
        handshakes: count(raw.handshakes.as_ref(), 1..=100_000, defaults.handshakes, report),
        handshake_queue: number(raw.handshake_queue.as_ref(), 0..=CONNECTIONS_MAX, report)
            .unwrap_or(defaults.handshake_queue),
        handshake_timeout: time(raw.handshake_timeout.as_ref(), short.clone(), defaults.handshake_timeout, report),
        login_timeout: time(raw.login_timeout.as_ref(), seconds(1)..=seconds(3600), defaults.login_timeout, report),
        idle_timeout: time_or_never(
            raw.idle_timeout.as_ref(),
            seconds(1)..=seconds(30 * 86_400),
            defaults.idle_timeout,
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
        max_connection_age: time_or_never(raw.max_connection_age.as_ref(), AGE, defaults.max_connection_age, report),
        upstream_connect_timeout: time(
            raw.upstream_connect_timeout.as_ref(),
            CONNECT,
            defaults.upstream_connect_timeout,
            report,
        ),
        flush_timeout: time(raw.flush_timeout.as_ref(), short, defaults.flush_timeout, report),
        drain_timeout: time(
            raw.drain_timeout.as_ref(),
            Duration::from_millis(100)..=seconds(3600),
            defaults.drain_timeout,
            report,
        ),
        max_bulk: bytes(raw.max_bulk.as_ref(), BULK, defaults.max_bulk, report),
        max_words: count(raw.max_words.as_ref(), 16..=1 << 24, defaults.max_words, report),
        held_command: bytes(raw.held_command.as_ref(), HELD, defaults.held_command, report),
        memory: bytes(raw.memory.as_ref(), 64 * KIB..=1024 * GIB, defaults.memory, report),
        unanswered: bytes(raw.unanswered.as_ref(), UNANSWERED, defaults.unanswered, report),
        backlog: count(raw.backlog.as_ref(), 1..=65_535, defaults.backlog, report),
        keepalive: keepalive(raw.keepalive, defaults.keepalive, report),
        tcp_user_timeout: time_or_never(
            raw.tcp_user_timeout.as_ref(),
            seconds(1)..=seconds(86_400),
            defaults.tcp_user_timeout,
            report,
        ),
        workers: workers(raw.workers.as_ref(), report),
    };
    let held = u64::try_from(limits.held_command).unwrap_or(u64::MAX);
    let shown = (show_size(held), show_size(limits.memory));
    if limits.memory < held {
        let at = raw.memory.map_or(at, |item| item.at);
        report
            .error(&at, format!("limits.memory ({}) is less than limits.held_command ({})", shown.1, shown.0))
            .hint("one command of the greatest size must fit");
    } else if limits.memory / u64::from(limits.workers.count().get()) < held {
        report.warn(format!(
            "limits.memory: {} over {} workers leaves each less than limits.held_command ({})",
            shown.1,
            limits.workers.count(),
            shown.0
        ));
    }
    limits
}

/// How often an address may come, if that is limited.
fn knocks(item: Option<Item<RawKnocks>>, report: &mut Report) -> Option<Knocks> {
    let Item { at, value: raw } = item?;
    if raw.rate.is_none() {
        report.missing(&at, "rate", "how many a second: { rate = 50, burst = 200 }");
    }
    let per_second = count(raw.rate.as_ref(), 1..=100_000, NonZeroU32::MIN, report);
    let burst = count(raw.burst.as_ref(), 1..=1_000_000, per_second, report);
    Some(Knocks { per_second, burst })
}

fn keepalive(item: Option<Item<RawKeepalive>>, defaults: Keepalive, report: &mut Report) -> Keepalive {
    let Some(Item { value: raw, .. }) = item else { return defaults };
    for each in [&raw.idle, &raw.interval].into_iter().flatten() {
        if duration(&each.value).is_ok_and(|found| found.subsec_nanos() != 0) {
            report.error(&each.at, format!("{:?} is not a whole number of seconds", each.value));
        }
    }
    Keepalive {
        idle: time(raw.idle.as_ref(), KEEPALIVE, defaults.idle, report),
        interval: time(raw.interval.as_ref(), KEEPALIVE, defaults.interval, report),
        count: count(raw.count.as_ref(), KEEPALIVE_COUNT, defaults.count, report),
    }
}

fn workers(item: Option<&Item<NumberOrText>>, report: &mut Report) -> Workers {
    let Some(item) = item else { return Workers::default() };
    let found = match &item.value {
        NumberOrText::Text(text) if text == "auto" => return Workers::Auto,
        NumberOrText::Text(text) => format!("{text:?}"),
        NumberOrText::Number(number) => {
            match u16::try_from(*number).ok().filter(|n| *n <= 256).and_then(NonZeroU16::new) {
                Some(count) => return Workers::Fixed(count),
                None => number.to_string(),
            }
        }
    };
    report.error(&item.at, format!("expected 1 to 256 or \"auto\", found {found}"));
    Workers::default()
}

/// A number of at least one.
pub(super) fn count(
    item: Option<&Item<i64>>,
    bounds: RangeInclusive<u32>,
    default: NonZeroU32,
    report: &mut Report,
) -> NonZeroU32 {
    number(item, bounds, report).and_then(NonZeroU32::new).unwrap_or(default)
}

/// A number of connections, where 0 is "no cap".
pub(super) fn connections_or_none(
    item: Option<&Item<i64>>,
    default: Option<NonZeroU32>,
    report: &mut Report,
) -> Option<NonZeroU32> {
    number(item, 0..=CONNECTIONS_MAX, report).map_or(default, NonZeroU32::new)
}

/// A number within bounds; `None` if it is absent or an error.
pub(super) fn number<T>(item: Option<&Item<i64>>, bounds: RangeInclusive<T>, report: &mut Report) -> Option<T>
where
    T: TryFrom<i64> + PartialOrd + Display,
{
    let item = item?;
    let found = T::try_from(item.value).ok().filter(|number| bounds.contains(number));
    if found.is_none() {
        let (least, most) = (bounds.start(), bounds.end());
        report.error(&item.at, format!("expected {least} to {most}, found {}", item.value));
    }
    found
}

/// A size within bounds.
pub(super) fn bytes<T: TryFrom<u64>>(
    item: Option<&Item<NumberOrText>>,
    bounds: RangeInclusive<u64>,
    default: T,
    report: &mut Report,
) -> T {
    let Some(item) = item else { return default };
    let expected = || format!("expected {} to {}", show_size(*bounds.start()), show_size(*bounds.end()));
    let read = match &item.value {
        NumberOrText::Number(number) => u64::try_from(*number).map_err(|_| format!("{}, found {number}", expected())),
        NumberOrText::Text(text) => {
            size(text).map_err(|error| format!("{text:?} {error}; {}, such as 16384 or \"64KiB\"", expected()))
        }
    };
    let checked = read.and_then(|found| {
        if !bounds.contains(&found) {
            return Err(format!("{}, found {}", expected(), show_size(found)));
        }
        T::try_from(found).map_err(|_| format!("{} is more than this machine can address", show_size(found)))
    });
    checked.unwrap_or_else(|cause| {
        report.error(&item.at, cause);
        default
    })
}

/// A duration within bounds.
pub(super) fn time(
    item: Option<&Item<String>>,
    bounds: RangeInclusive<Duration>,
    default: Duration,
    report: &mut Report,
) -> Duration {
    read_time(item, bounds, false, report).flatten().unwrap_or(default)
}

/// A duration within bounds, where zero is "never".
pub(super) fn time_or_never(
    item: Option<&Item<String>>,
    bounds: RangeInclusive<Duration>,
    default: Option<Duration>,
    report: &mut Report,
) -> Option<Duration> {
    read_time(item, bounds, true, report).unwrap_or(default)
}

/// `None`: absent or an error; `Some(None)`: never.
#[expect(clippy::option_option, reason = "absent and never are different, and nobody outside sees this")]
fn read_time(
    item: Option<&Item<String>>,
    bounds: RangeInclusive<Duration>,
    never: bool,
    report: &mut Report,
) -> Option<Option<Duration>> {
    let item = item?;
    let expected = || {
        let or_never = if never { ", or \"0s\" for never" } else { "" };
        format!("expected {:?} to {:?}{or_never}", show_duration(*bounds.start()), show_duration(*bounds.end()))
    };
    match duration(&item.value) {
        Ok(found) if never && found.is_zero() => Some(None),
        Ok(found) if bounds.contains(&found) => Some(Some(found)),
        Ok(_) => {
            report.error(&item.at, format!("{}, found {:?}", expected(), item.value));
            None
        }
        Err(error) => {
            report
                .error(&item.at, format!("{:?} {error}; {}", item.value, expected()))
                .hint("durations are written \"250ms\", \"5s\", \"2m\", \"1h\", \"7d\"");
            None
        }
    }
}
