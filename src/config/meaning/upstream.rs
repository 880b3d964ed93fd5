//! What a service says of the way to its Redis beyond address and credential: TLS, alternatives,
//! looks and bounds.

use super::{
    Paths, choice,
    limits::{time, time_or_never},
};
use crate::{
    config::{
        decode::Item,
        error::Report,
        raw::{RawUpstreamBackoff, RawUpstreamConnects, RawUpstreamHealth, RawUpstreamTls},
        settings::{Host, UpstreamAddress},
    },
    net::upkeep::{Backoff, Storm, Tuning},
    tls::{
        client::{ClientFiles, Name, Own, Trust},
        pin::Pin,
        revocation::{Doubt, Revocation},
        server::MinVersion,
    },
};
use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

/// Most addresses beside the first.
const ALTERNATIVES_MAX: usize = 7;
/// Longest host name (RFC 1035, 2.3.4).
const NAME_MAX: usize = 253;

/// How a server is to be known that is reached by TLS.
pub(super) fn tls(item: Item<RawUpstreamTls>, paths: &Paths, report: &mut Report) -> ClientFiles {
    let Item { at, value: raw } = item;
    let pins = raw.pin.iter().flat_map(|list| &list.value).filter_map(|item| pin(item, report)).collect::<Vec<_>>();
    let system = raw.system_roots.as_ref().is_some_and(|item| item.value);
    let trust = match (&raw.ca, system) {
        (Some(item), false) => Trust::Ca(paths.resolve(item, report)),
        (Some(item), true) => {
            report
                .error(&item.at, "there is a ca and system_roots = true")
                .hint("keep one of the two: a private CA beside the world's adds nothing but the world");
            Trust::System
        }
        (None, true) => Trust::System,
        (None, false) => Trust::Pinned,
    };
    if let Some(list) = raw.pin.as_ref().filter(|list| list.value.is_empty()) {
        report.error(&list.at, "there is no pin in it").hint("leave it out if no certificate is pinned");
    } else if trust == Trust::Pinned && raw.pin.is_none() {
        report.missing(
            &at,
            "ca",
            "say how the server is known: ca = \"FILE\", system_roots = true (a public CA), or pin = [\"…\"] (a self-signed certificate)",
        );
    }
    let own = match (&raw.cert, &raw.key) {
        (Some(cert), Some(key)) => Some(Own { cert: paths.resolve(cert, report), key: paths.resolve(key, report) }),
        (Some(one), None) | (None, Some(one)) => {
            report
                .error(&one.at, "cert and key come together")
                .hint("give both, or neither if the server asks for no certificate; one PEM file with both is fine");
            None
        }
        (None, None) => None,
    };
    let server_name = raw.server_name.as_ref().and_then(|item| {
        let name = Name::new(&item.value);
        if name.is_none() {
            report
                .error(&item.at, format!("{:?} is no name that a certificate can have", item.value))
                .hint("a DNS name such as \"redis.example.com\", or an IP address");
        }
        name
    });
    let versions = [("1.2", MinVersion::Tls12), ("1.3", MinVersion::Tls13)];
    let min_version = choice(raw.min_version.as_ref(), &versions, MinVersion::default(), report);
    if let Some(list) = raw.crl.as_ref().filter(|_| trust == Trust::Pinned) {
        report
            .error(&list.at, "a certificate that is known by its pin alone has no issuer whose list could name it")
            .hint("take the pin away, or name the issuer: ca or system_roots");
    }
    let doubt = [("refuse", Doubt::Refuse), ("accept", Doubt::Accept)];
    let revocation = Revocation {
        expired: choice(raw.crl_expired.as_ref(), &doubt, Doubt::Refuse, report),
        missing: choice(raw.crl_missing.as_ref(), &doubt, Doubt::Refuse, report),
        serials: Vec::new(),
    };
    let crl = raw.crl.iter().flat_map(|list| &list.value).map(|path| paths.resolve(path, report)).collect();
    ClientFiles { trust, pins, server_name, own, crl, revocation, min_version }
}

fn pin(item: &Item<String>, report: &mut Report) -> Option<Pin> {
    match item.value.parse() {
        Ok(pin) => Some(pin),
        Err(error) => {
            report.error(&item.at, format!("{:?} {error}", item.value));
            None
        }
    }
}

/// An address off this host, or a name, that is reached by TLS.
pub(super) fn remote(item: &Item<String>, report: &mut Report) -> Option<UpstreamAddress> {
    let text = &item.value;
    let found = match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().to_canonical().is_loopback() => Some(UpstreamAddress::Loopback(address)),
        Ok(address) => Some(UpstreamAddress::Remote { host: Host::Ip(address.ip()), port: address.port() }),
        Err(_) => text.rsplit_once(':').and_then(|(name, port)| {
            let port = port.parse::<u16>().ok().filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()))?;
            // What looks like an address and is none is no name either, though a resolver might make one of it.
            let named = name.len() <= NAME_MAX && name.parse::<IpAddr>().is_err() && Name::new(name).is_some();
            let numeric = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
            (named && !numeric).then(|| UpstreamAddress::Remote { host: Host::Name(name.into()), port })
        }),
    };
    let Some(found) = found else {
        // The text may be a URL with a password in it: it is not repeated.
        let error = report.error(&item.at, "expected a name or an IP address, with a port");
        if text.contains("://") {
            error.hint("URLs are not understood; user and password have keys of their own (username, password_file)");
        } else {
            error.hint("such as \"redis.example.com:6380\", \"10.0.0.7:6380\" or \"[2001:db8::7]:6380\"");
        }
        return None;
    };
    let port = match &found {
        UpstreamAddress::Loopback(address) => address.port(),
        UpstreamAddress::Remote { port, .. } => *port,
        UpstreamAddress::Unix(_) => 1,
    };
    if port == 0 {
        report.error(&item.at, "port 0 is no port to connect to");
        return None;
    }
    Some(found)
}

/// Where else it may be.
pub(super) fn alternatives(
    list: Option<&Item<Vec<Item<String>>>>,
    first: &UpstreamAddress,
    report: &mut Report,
    read: impl Fn(&Item<String>, &mut Report) -> Option<UpstreamAddress>,
) -> Vec<UpstreamAddress> {
    let mut found: Vec<UpstreamAddress> = Vec::new();
    let Some(list) = list else { return found };
    if list.value.len() > ALTERNATIVES_MAX {
        report.error(&list.at, format!("there are more than {ALTERNATIVES_MAX}"));
    }
    for item in &list.value {
        let Some(address) = read(item, report) else { continue };
        if address == *first || found.contains(&address) {
            report.error(&item.at, format!("{address} is there already")).hint("name each address once");
        }
        found.push(address);
    }
    found
}

/// How it is looked at.
pub(super) fn tuning(
    health: Option<Item<RawUpstreamHealth>>,
    backoff: Option<Item<RawUpstreamBackoff>>,
    report: &mut Report,
) -> Tuning {
    let defaults = Tuning::default();
    let health = health.map(|item| item.value).unwrap_or_default();
    let after = backoff.map(|item| item.value).unwrap_or_default();
    let (milli, second) = (Duration::from_millis, Duration::from_secs);
    let longest = after.max.as_ref().or(after.initial.as_ref()).map(|item| item.at.clone());
    let backoff = Backoff {
        initial: time(after.initial.as_ref(), milli(1)..=second(60), defaults.backoff.initial, report),
        max: time(after.max.as_ref(), milli(1)..=second(600), defaults.backoff.max, report),
    };
    if let Some(at) = longest.filter(|_| backoff.max < backoff.initial) {
        report.error(&at, "the longest wait (max) is shorter than the first (initial)").hint("give both");
    }
    Tuning {
        interval: time_or_never(health.interval.as_ref(), milli(100)..=second(3600), defaults.interval, report),
        timeout: time(health.timeout.as_ref(), milli(10)..=second(60), defaults.timeout, report),
        failures: count(health.failures.as_ref(), 1..=100, defaults.failures, report),
        successes: count(health.successes.as_ref(), 1..=100, defaults.successes, report),
        backoff,
    }
}

/// How many may be on their way.
pub(super) fn storm(item: Option<Item<RawUpstreamConnects>>, report: &mut Report) -> Storm {
    let defaults = Storm::default();
    let raw = item.map(|item| item.value).unwrap_or_default();
    Storm {
        at_once: count(raw.at_once.as_ref(), 1..=100_000, defaults.at_once, report),
        per_second: count(raw.per_second.as_ref(), 0..=100_000, defaults.per_second, report),
        waiting: count(raw.waiting.as_ref(), 0..=1_000_000, defaults.waiting, report),
    }
}

/// A number within bounds.
fn count(item: Option<&Item<i64>>, bounds: RangeInclusive<u32>, default: u32, report: &mut Report) -> u32 {
    let Some(item) = item else { return default };
    if let Some(found) = u32::try_from(item.value).ok().filter(|found| bounds.contains(found)) {
        return found;
    }
    report.error(&item.at, format!("expected {} to {}, found {}", bounds.start(), bounds.end(), item.value));
    default
}

/// A certificate can only be held against a name that there is.
pub(super) fn nameless(address: &UpstreamAddress, tls: &ClientFiles) -> bool {
    tls.trust != Trust::Pinned && tls.server_name.is_none() && address.certificate_name().is_none()
}
