//! The kinds of places that records go to.

use crate::{
    audit::target::{Address, FileTarget, Fsync, Rotation, SocketTarget, SyslogTarget, Target},
    config::{
        decode::Item,
        error::Report,
        meaning::{Paths, choice, limits},
        raw::{RawFile, RawSocket, RawSyslog},
        settings::AuditOutput,
    },
};
use std::{net::SocketAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

/// Bounds of `rotate_size`, `rotate_every`, `keep`, `fsync`, `max_message`.
const ROTATE_SIZE: RangeInclusive<u64> = 64 << 10..=1 << 40;
const ROTATE_EVERY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(365 * 86_400);
const KEEP: RangeInclusive<u32> = 1..=100_000;
const FSYNC: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
const MESSAGE: RangeInclusive<u64> = 480..=64 << 10;
/// What every receiver over UDP should take (RFC 5426 §3.2), and more than any line.
const MESSAGE_UDP: usize = 2048;
const MESSAGE_MOST: usize = 32 << 10;
const MODE: u32 = 0o600;

/// RFC 5424, table 1, by the names of syslog.conf(5); those it has none for by the RFC's words.
const FACILITIES: &[(&str, u8)] = &[
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("ntp", 12),
    ("audit", 13),
    ("alert", 14),
    ("clock", 15),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

pub(super) fn file(item: Item<RawFile>, paths: &Paths, report: &mut Report) -> FileTarget {
    let Item { at, value: raw } = item;
    let hint = "write { file = { path = \"/var/log/ravelin/audit.jsonl\" } }";
    let rotation = Rotation {
        size: raw.rotate_size.as_ref().map(|item| limits::bytes(Some(item), ROTATE_SIZE, 0, report)),
        every: raw.rotate_every.as_ref().map(|item| limits::time(Some(item), ROTATE_EVERY, Duration::ZERO, report)),
        keep: raw.keep.as_ref().and_then(|item| limits::number(Some(item), KEEP, report)),
    };
    if let Some(keep) = &raw.keep
        && rotation.size.is_none()
        && rotation.every.is_none()
    {
        report
            .error(&keep.at, "no file is put aside")
            .hint("say when: rotate_size = \"1GiB\" or rotate_every = \"1d\"");
    }
    FileTarget {
        path: paths.required(raw.path.as_ref(), &at, "path", hint, report),
        mode: raw.mode.as_ref().map_or(MODE, |item| mode(item, report)),
        rotation,
        fsync: raw.fsync.as_ref().map_or(Fsync::Never, |item| match item.value.as_str() {
            "never" => Fsync::Never,
            "always" => Fsync::Always,
            time if time.starts_with(|first: char| first.is_ascii_digit()) => {
                Fsync::Within(limits::time(Some(item), FSYNC, *FSYNC.start(), report))
            }
            other => {
                report.error(&item.at, format!("expected \"never\", \"always\" or a time (\"1s\"), found {other:?}"));
                Fsync::Never
            }
        }),
    }
}

/// Permission bits in octal. Who writes into an audit file can say anything, so nobody but its owner and group may.
fn mode(item: &Item<String>, report: &mut Report) -> u32 {
    let digits = item.value.strip_prefix("0o").unwrap_or(&item.value);
    match u32::from_str_radix(digits, 8).ok().filter(|mode| mode & !0o664 == 0 && mode & 0o600 == 0o600) {
        Some(mode) => {
            if mode & 0o004 != 0 {
                report.warn(format!("{}: everybody on this host may read the records", item.at.key));
            }
            mode
        }
        None => {
            report
                .error(
                    &item.at,
                    format!("expected permission bits between \"0600\" and \"0664\", found {:?}", item.value),
                )
                .hint("\"0600\" for the owner alone, \"0640\" for a group that reads");
            MODE
        }
    }
}

pub(super) fn syslog(raw: RawSyslog, paths: &Paths, report: &mut Report) -> SyslogTarget {
    let address = match &raw.address {
        None => Address::Unix(PathBuf::from("/dev/log")),
        Some(item) => {
            let hint = "such as \"unix:/dev/log\", \"udp:10.0.0.5:514\" or \"tcp:10.0.0.5:601\"";
            address(item, &["udp:", "tcp:"], hint, paths, report)
        }
    };
    let default = if matches!(address, Address::Udp(_)) { MESSAGE_UDP } else { MESSAGE_MOST };
    let hostname = raw.hostname.map(|item| {
        if item.value.is_empty() || item.value.len() > 255 || !item.value.bytes().all(|byte| byte.is_ascii_graphic()) {
            report
                .error(&item.at, format!("{:?} is not a name of a host", item.value))
                .hint("1 to 255 visible ASCII characters");
        }
        item.value
    });
    SyslogTarget {
        address,
        facility: choice(raw.facility.as_ref(), FACILITIES, 16, report),
        hostname,
        message_max: limits::bytes(raw.max_message.as_ref(), MESSAGE, default, report),
    }
}

pub(super) fn socket(item: &Item<RawSocket>, paths: &Paths, report: &mut Report) -> SocketTarget {
    let hint = "such as \"unix:/run/collector.sock\" or \"10.0.0.5:5170\"";
    let address = match &item.value.address {
        Some(given) => address(given, &["tcp:", ""], hint, paths, report),
        None => {
            report.missing(&item.at, "address", hint);
            Address::Tcp(super::super::NOWHERE)
        }
    };
    SocketTarget { address }
}

/// Where a receiver listens; the first of `kinds` that it begins with says how, and a Unix socket is always one.
fn address(item: &Item<String>, kinds: &[&str], hint: &str, paths: &Paths, report: &mut Report) -> Address {
    if let Some(path) = item.value.strip_prefix("unix:") {
        return Address::Unix(paths.resolve(&Item { at: item.at.clone(), value: path.to_owned() }, report));
    }
    let kind = kinds.iter().copied().find(|kind| item.value.starts_with(kind));
    let rest = kind.and_then(|kind| item.value.strip_prefix(kind));
    let Some(found) = rest.and_then(|rest| rest.parse::<SocketAddr>().ok()).filter(|found| found.port() != 0) else {
        let shown = if kinds.contains(&"udp:") { "\"udp:\" or \"tcp:\" and an" } else { "an" };
        report
            .error(
                &item.at,
                format!("expected \"unix:\" and a path, or {shown} IP address with a port, found {:?}", item.value),
            )
            .hint(format!("{hint}; names are not looked up"));
        return Address::Tcp(super::super::NOWHERE);
    };
    if !found.ip().to_canonical().is_loopback() {
        report.warn(format!("{}: records leave this host for {found} in plain text", item.at.key));
    }
    if kind == Some("udp:") { Address::Udp(found) } else { Address::Tcp(found) }
}

/// Whether two outputs would write into each other's lines.
pub(super) fn are_one_place(one: &Target, other: &Target) -> bool {
    match (one, other) {
        (Target::Stdout, Target::Stdout) => true,
        (Target::File(one), Target::File(other)) => one.path == other.path,
        // Receivers tell connections and messages apart.
        _ => false,
    }
}

pub(super) fn is_udp(output: &AuditOutput) -> bool {
    matches!(&output.target, Target::Syslog(SyslogTarget { address: Address::Udp(_), .. }))
}
