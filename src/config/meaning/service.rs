//! Services: their listeners and the Redis behind each.

use super::{
    Door, Floor, NOWHERE, Paths, TlsTable, accounts, admission, choice, credentials, floor, limits as bounds, name,
    network,
    secrets::{self, Found, Sources},
    socket_address,
    terms::CLIENT_AUTH,
    tls, upstream as way,
};
use crate::{
    config::{
        decode::Item,
        error::{At, Report},
        password,
        raw::{RawListen, RawProxyProtocol, RawService, RawUpstream},
        settings::{
            ClientAuth, Limits, Listener, Place, ProxyProtocol, Service, SocketPolicy, Tls, TlsVersion, Upstream,
            UpstreamAddress,
        },
    },
    lane::greeting::Greeting,
    net::upkeep::{Storm, Tuning},
    policy::network::Admission,
    secret::Secret,
    tls::{client::ClientFiles, server::Choice},
};
use ipnet::IpNet;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Bounds of `proxy_protocol.timeout`.
const HEADER_TIMEOUT: std::ops::RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
/// Longest path of a Unix socket: `sun_path` is 108 bytes, the last a NUL.
const SOCKET_PATH_MAX: usize = 107;

/// What the top-level tables say, for services without their own.
pub(super) struct Shared<'l> {
    pub(super) tls: Option<TlsTable>,
    pub(super) admission: Option<Door>,
    pub(super) floor: Option<Floor>,
    pub(super) credentials: Option<credentials::Table>,
    pub(super) limits: &'l Limits,
}

/// Where a service says what its roles are held against.
pub(super) struct Tables {
    /// That no certificate need be shown, if it does.
    pub(super) anonymous_at: Option<At>,
    /// What becomes of a client's own AUTH, if it does.
    pub(super) client_auth_at: Option<At>,
    /// Its table of credentials, or the top-level one.
    pub(super) credentials_at: Option<At>,
}

/// The services, and where each says what its roles are held against.
pub(super) fn services(
    list: Option<Item<Vec<Item<RawService>>>>,
    shared: &Shared<'_>,
    top: &At,
    paths: &Paths,
    report: &mut Report,
) -> (Vec<Service>, Vec<Tables>) {
    let hint = "at least one [[service]] says where to listen and which Redis is behind";
    let Some(list) = list else {
        report.missing(top, "service", hint);
        return (Vec::new(), Vec::new());
    };
    if list.value.is_empty() {
        report.error(&list.at, "there is no service").hint(hint);
    }
    let (mut services, mut doors): (Vec<Service>, Vec<Tables>) = (Vec::new(), Vec::new());
    for item in list.value {
        let at = item.value.name.as_ref().map(|name| name.at.clone());
        let (found, door) = service(item, &services, shared, paths, report);
        if let Some(at) = at.filter(|_| services.iter().any(|other| other.name == found.name)) {
            report.error(&at, format!("another service is called {:?} already", found.name));
        }
        services.push(found);
        doors.push(door);
    }
    (services, doors)
}

fn service(
    item: Item<RawService>,
    others: &[Service],
    shared: &Shared<'_>,
    paths: &Paths,
    report: &mut Report,
) -> (Service, Tables) {
    let Item { at, value: raw } = item;
    let name = name(raw.name.as_ref(), &at, report);
    let TlsTable { tls, anonymous_at } =
        raw.tls.map(|item| tls(item, paths, report)).or_else(|| shared.tls.clone()).unwrap_or_else(|| {
            report.missing(&at, "tls", "add a [tls] table with cert, key and client_ca, here or at the top level");
            let nothing = PathBuf::new;
            let (cert, key, client_ca) = (nothing(), nothing(), nothing());
            let tls = Tls {
                cert,
                key,
                client_ca,
                crl: Vec::new(),
                min_version: TlsVersion::V12,
                anonymous: false,
                choice: Choice::default(),
            };
            TlsTable { tls, anonymous_at: None }
        });
    let door = raw.admission.map(|item| admission(item, report)).or_else(|| shared.admission.clone());
    let door = door.unwrap_or_else(|| Door { admission: Arc::new(Admission::default()), max_per_address: None });
    if door.admission.admits_nobody() {
        report.warn(format!("service {name}: the allowlist is empty, so nobody can connect (admission.allow)"));
    }
    let client_auth_at =
        raw.upstream.as_ref().and_then(|item| item.value.client_auth.as_ref()).map(|item| item.at.clone());
    let table = raw
        .credentials
        .map(|item| credentials::credentials(item, paths, report))
        .or_else(|| shared.credentials.clone());
    let upstream = match raw.upstream {
        Some(item) => upstream(item, shared.limits, paths, report),
        None => {
            report.missing(&at, "upstream", "write upstream = { address = \"unix:/run/redis/redis.sock\", … }");
            absent_upstream(shared.limits)
        }
    };
    let listeners = listeners(raw.listen, &at, &upstream, others, report);
    let floor = raw.policy.map(|item| floor(item, paths, report)).or_else(|| shared.floor.clone()).unwrap_or_default();
    let service = Service {
        name: Arc::from(name),
        listeners,
        upstream,
        tls,
        plain: false,
        max_connections_per_address: door.max_per_address.unwrap_or(shared.limits.max_connections_per_address),
        admission: door.admission,
        floor: floor.deny,
        floor_shadow: floor.shadow,
        pin_files: floor.scripts.iter().filter_map(|rule| rule.file.clone()).collect(),
        rename_files: Vec::new(),
        scripts_place: floor.scripts.as_ref().map(|rule| rule.place.clone()),
        scripts: floor.scripts.map(|rule| rule.scripts),
        rule_places: floor.places,
        roles: Vec::new(),
        terms: Vec::new(),
        credentials: table.as_ref().and_then(|table| table.credentials.clone()),
    };
    let table = Tables { anonymous_at, client_auth_at, credentials_at: table.map(|table| table.at) };
    (service, table)
}

fn listeners(
    list: Option<Item<Vec<Item<RawListen>>>>,
    table: &At,
    upstream: &Upstream,
    others: &[Service],
    report: &mut Report,
) -> Vec<Listener> {
    let hint = "write listen = [{ address = \"0.0.0.0:6380\" }]";
    let Some(list) = list else {
        report.missing(table, "listen", hint);
        return Vec::new();
    };
    if list.value.is_empty() {
        report.error(&list.at, "there is no listener").hint(hint);
    }
    let mut listeners: Vec<Listener> = Vec::new();
    for Item { at, value: raw } in list.value {
        let Some(item) = &raw.address else {
            report.missing(&at, "address", hint);
            continue;
        };
        let Some(address) = socket_address(item, report) else { continue };
        let place = Place::Tcp(address);
        let mut taken = others.iter().flat_map(|service| &service.listeners).chain(&listeners);
        if let Some(Listener { place: other, .. }) = taken.find(|other| other.place.overlaps(&place)) {
            report.error(&item.at, format!("{address} is taken by another listener ({other})"));
        }
        let own = upstream.addresses().into_iter().find(
            |each| matches!(each, UpstreamAddress::Loopback(redis) if *redis != NOWHERE && Place::Tcp(*redis).overlaps(&place)),
        );
        if let Some(own) = own {
            report
                .error(&item.at, format!("{address} is where this service's own Redis listens ({own})"))
                .hint("let Redis listen on a Unix socket or another port");
        }
        listeners.push(Listener {
            place,
            inline: raw.inline.is_some_and(|item| item.value),
            reuse_port: raw.reuse_port.is_some_and(|item| item.value),
            proxy_protocol: raw.proxy_protocol.and_then(|item| proxy_protocol(item, report)),
        });
    }
    listeners
}

/// The proxies that a listener believes.
fn proxy_protocol(item: Item<RawProxyProtocol>, report: &mut Report) -> Option<ProxyProtocol> {
    let Item { at, value: raw } = item;
    let Some(list) = &raw.trusted else {
        report.missing(&at, "trusted", "whose headers are believed: { trusted = [\"10.0.9.0/24\"] }");
        return None;
    };
    if list.value.is_empty() {
        report.error(&list.at, "no proxy is trusted").hint("leave `proxy_protocol` out where there is none");
    }
    let trusted: Vec<IpNet> = list.value.iter().filter_map(|net| network(net, report)).collect();
    for net in trusted.iter().filter(|net| net.prefix_len() == 0) {
        report.warn(format!(
            "{}: {net} is everybody: whoever connects may say to come from wherever he likes",
            list.at.key
        ));
    }
    Some(ProxyProtocol {
        trusted: Arc::new(Admission::new(&trusted, &[])),
        timeout: bounds::time(raw.timeout.as_ref(), HEADER_TIMEOUT, Duration::from_secs(2), report),
    })
}

fn absent_upstream(limits: &Limits) -> Upstream {
    Upstream {
        address: UpstreamAddress::Loopback(NOWHERE),
        greeting: Greeting { credential: None, database: None, set_name: true },
        password: None,
        client_auth: ClientAuth::default(),
        connect_timeout: limits.upstream_connect_timeout,
        socket: SocketPolicy::default(),
        proxy_protocol: false,
        tls: None,
        alternatives: Vec::new(),
        tuning: Tuning::default(),
        storm: Storm::default(),
    }
}

pub(super) fn upstream(item: Item<RawUpstream>, limits: &Limits, paths: &Paths, report: &mut Report) -> Upstream {
    let Item { at, value: mut raw } = item;
    let absent = absent_upstream(limits);
    let tls = raw.tls.take().map(|item| way::tls(item, paths, report));
    let address = match &raw.address {
        Some(item) => upstream_address(item, tls.as_ref(), paths, report).unwrap_or(absent.address),
        None => {
            report.missing(&at, "address", "write \"unix:/run/redis/redis.sock\" or \"127.0.0.1:6379\"");
            absent.address
        }
    };
    let alternatives = way::alternatives(raw.alternatives.as_ref(), &address, report, |item, report| {
        upstream_address(item, tls.as_ref(), paths, report)
    });
    let socket = socket_policy(&raw, &address, &alternatives, report);
    let found = credential(&raw, &at, paths, report);
    Upstream {
        greeting: Greeting {
            credential: found.credential,
            database: None,
            set_name: raw.set_name.as_ref().map_or(absent.greeting.set_name, |item| item.value),
        },
        address,
        password: found.password,
        client_auth: choice(raw.client_auth.as_ref(), &CLIENT_AUTH, absent.client_auth, report),
        connect_timeout: bounds::time(raw.connect_timeout.as_ref(), bounds::CONNECT, absent.connect_timeout, report),
        proxy_protocol: choice(raw.proxy_protocol.as_ref(), &[("none", false), ("v2", true)], false, report),
        socket,
        alternatives,
        tuning: way::tuning(raw.health.take(), raw.backoff.take(), report),
        storm: way::storm(raw.connects.take(), report),
        tls,
    }
}

fn upstream_address(
    item: &Item<String>,
    tls: Option<&ClientFiles>,
    paths: &Paths,
    report: &mut Report,
) -> Option<UpstreamAddress> {
    let found = if tls.is_some() && !item.value.starts_with("unix:") {
        way::remote(item, report)
    } else {
        upstream_on_this_host(item, paths, report)
    };
    if let (Some(address), Some(tls)) = (&found, tls)
        && way::nameless(address, tls)
    {
        report
            .error(&item.at, "a Unix socket has no name that Redis' certificate could be held against")
            .hint("say it: upstream.tls.server_name");
    }
    found
}

fn upstream_on_this_host(item: &Item<String>, paths: &Paths, report: &mut Report) -> Option<UpstreamAddress> {
    let text = &item.value;
    if let Some(path) = text.strip_prefix("unix:") {
        let path = paths.resolve(&Item { at: item.at.clone(), value: path.to_owned() }, report);
        if path.as_os_str().len() > SOCKET_PATH_MAX {
            report.error(
                &item.at,
                format!("the socket's path is longer than the {SOCKET_PATH_MAX} bytes the kernel takes"),
            );
        }
        return Some(UpstreamAddress::Unix(path));
    }
    let Ok(address) = text.parse::<SocketAddr>() else {
        // The text may be a URL with a password in it: it is not repeated.
        let error = report.error(&item.at, "expected \"unix:/path/to/socket\" or a loopback address with a port");
        if text.starts_with('/') {
            error.hint(format!("write \"unix:{text}\""));
        } else if text.contains("://") {
            error.hint("URLs are not understood; user and password have keys of their own (username, password_file)");
        } else if text.starts_with("localhost") {
            error.hint("names are not looked up; write \"127.0.0.1:6379\" or \"[::1]:6379\"");
        } else {
            error.hint("such as \"unix:/run/redis/redis.sock\", \"127.0.0.1:6379\" or \"[::1]:6379\"");
        }
        return None;
    };
    if !address.ip().to_canonical().is_loopback() {
        report
            .error(
                &item.at,
                format!("{address} is not on this host: commands and password would cross a network in plain text"),
            )
            .hint("use TLS (upstream.tls), or run Ravelin beside Redis and use a Unix socket or a loopback address");
        return None;
    }
    if address.port() == 0 {
        report.error(&item.at, "port 0 is no port to connect to");
        return None;
    }
    Some(UpstreamAddress::Loopback(address))
}

fn credential(raw: &RawUpstream, at: &At, paths: &Paths, report: &mut Report) -> Found {
    let none = raw.auth.as_ref().is_some_and(|item| item.value == "none");
    if let Some(item) = raw.auth.as_ref().filter(|_| !none) {
        report
            // What stands there may be the password itself: it is not repeated.
            .error(&item.at, "expected \"none\", the only value")
            .hint("for AUTH leave `auth` out and give `password_file` (and `username`)");
    }
    let username = named_user(raw.username.as_ref(), report);
    let sources = Sources {
        file: raw.password_file.as_ref(),
        credential: raw.password_credential.as_ref(),
        variable: raw.password_env.as_ref(),
        command: raw.password_command.as_ref(),
        next: raw.next_password_file.as_ref(),
    };
    let Some(source_at) = sources.first() else {
        if let Some(item) = &raw.username {
            report.error(&item.at, "a username without a password_file does nothing");
        } else if raw.auth.is_none() {
            report.missing(
                at,
                "password_file",
                "if this Redis really asks for no password, say so with auth = \"none\": then everybody on this host can \
                 use it, because behind a local proxy its protected mode protects nobody",
            );
        }
        return Found::default();
    };
    if none {
        report.error(source_at, "there is a password_file and auth = \"none\"").hint("keep one of the two");
        return Found::default();
    }
    secrets::password(sources, username, paths, report)
}

/// A user's name, by Redis' own rule for them (ACL SETUSER).
pub(super) fn named_user(item: Option<&Item<String>>, report: &mut Report) -> Option<String> {
    let item = item?;
    if item.value.is_empty() || item.value.chars().any(|c| c.is_whitespace() || c.is_control()) {
        report.error(&item.at, format!("{:?} is not a user's name: no spaces, not empty", item.value));
    }
    Some(item.value.clone())
}

/// The password in a file that is named here.
pub(super) fn read_password(item: &Item<String>, path: &Path, report: &mut Report) -> Option<Secret> {
    read_secret(item, path, "password file", report)
}

/// What only its owner may read, in a file that is named here; `kind` says in errors what file it should be.
pub(super) fn read_secret(item: &Item<String>, path: &Path, kind: &str, report: &mut Report) -> Option<Secret> {
    match password::read(path) {
        Ok(secret) => Some(secret),
        Err(error) => {
            let fault = report.error(&item.at, format!("{} is no {kind}: {error}", path.display()));
            if matches!(error, password::PasswordError::Open(_)) {
                fault.hint(format!("chmod o-rw {} (0400, 0440 and 0640 are fine)", path.display()));
            }
            None
        }
    }
}

fn socket_policy(
    raw: &RawUpstream,
    address: &UpstreamAddress,
    alternatives: &[UpstreamAddress],
    report: &mut Report,
) -> SocketPolicy {
    let defaults = SocketPolicy::default();
    let known = !matches!(address, UpstreamAddress::Loopback(found) if *found == NOWHERE);
    let mut all = std::iter::once(address).chain(alternatives);
    if known && !all.any(|address| matches!(address, UpstreamAddress::Unix(_))) {
        let owner = raw.socket_owner.as_ref().map(|item| &item.at);
        for at in owner.into_iter().chain(raw.socket_mode_max.as_ref().map(|item| &item.at)) {
            report.error(at, "this is about Unix sockets, and the address is none");
        }
    }
    let mode_max = raw.socket_mode_max.as_ref().map_or(defaults.mode_max, |item| {
        let octal = item.value.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        let mode = u32::from_str_radix(&item.value, 8).ok().filter(|mode| octal && *mode <= 0o777);
        mode.unwrap_or_else(|| {
            report.error(
                &item.at,
                format!("expected octal permission bits, \"0700\" to \"0777\", found {:?}", item.value),
            );
            defaults.mode_max
        })
    });
    SocketPolicy { owner: accounts::number(&accounts::USER, raw.socket_owner.as_ref(), report), mode_max, ..defaults }
}
