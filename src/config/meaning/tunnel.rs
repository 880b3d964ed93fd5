//! Near ends of tunnels: services whose clients come in plain text from this host, and whose Redis is reached by TLS.
//!
//! A client proves nothing here, so it has the anonymous identity and the one role there is, named after the tunnel. What
//! it says goes through the same session as everybody's: it is framed, judged by the tunnel's own policy (by default:
//! everything may be said), recorded, and answered in order.

use super::{Paths, floor, listen, name, service, socket_address};
use crate::tls::server::Choice;
use crate::{
    config::{
        decode::Item,
        error::{At, Report},
        raw::{RawTunnel, RawUpstream},
        settings::{ClientAuth, Limits, Listener, Place, RoleLimits, Service, Terms, Tls, TlsVersion},
    },
    policy::{
        identity::{Match, Role},
        network::Admission,
        rules::{Policy, Spec},
    },
};
use ipnet::IpNet;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

/// Appends them to the services.
pub(super) fn tunnels(
    list: Option<Item<Vec<Item<RawTunnel>>>>,
    services: &mut Vec<Service>,
    limits: &Limits,
    paths: &Paths,
    report: &mut Report,
) {
    for item in list.into_iter().flat_map(|list| list.value) {
        if let Some(found) = tunnel(item, services, limits, paths, report) {
            services.push(found);
        }
    }
}

fn tunnel(
    item: Item<RawTunnel>,
    others: &[Service],
    limits: &Limits,
    paths: &Paths,
    report: &mut Report,
) -> Option<Service> {
    let Item { at, value: raw } = item;
    let title = name(raw.name.as_ref(), &at, report);
    if let Some(item) = raw.name.as_ref().filter(|_| others.iter().any(|other| *other.name == *title)) {
        report.error(&item.at, format!("another service or tunnel is called {title:?} already"));
    }
    let place = place(&raw, &at, others, paths, report);
    if raw.connect.is_none() {
        report.missing(&at, "connect", "write connect = \"redis.example.com:6380\"");
    }
    if raw.tls.is_none() {
        report.missing(&at, "tls", "say how the other end is known: tls = { ca = \"ca.pem\" }");
    }
    let open = raw.password_file.is_none()
        && raw.password_credential.is_none()
        && raw.password_env.is_none()
        && raw.password_command.is_none();
    if let Some(item) = raw.next_password_file.as_ref().filter(|_| open) {
        report.error(&item.at, "there is a next password, and none to begin with").hint("add password_file");
    }
    let none = open.then(|| Item { at: at.clone(), value: "none".to_owned() });
    let way = RawUpstream {
        address: raw.connect,
        tls: raw.tls,
        auth: none,
        username: raw.username,
        password_file: raw.password_file,
        password_credential: raw.password_credential,
        password_env: raw.password_env,
        password_command: raw.password_command,
        next_password_file: raw.next_password_file.filter(|_| !open),
        client_auth: raw.client_auth,
        alternatives: raw.alternatives,
        connect_timeout: raw.connect_timeout,
        health: raw.health,
        backoff: raw.backoff,
        connects: raw.connects,
        // The other end need not let clients be named, and a tunnel says nothing of its own accord.
        set_name: Some(Item { at: at.clone(), value: false }),
        ..RawUpstream::default()
    };
    let client_auth_at = way.client_auth.as_ref().map(|item| item.at.clone());
    let missing = way.address.is_none() || way.tls.is_none();
    let rules = raw.policy.map(|item| floor(item, paths, report)).unwrap_or_else(super::Floor::open);
    if missing {
        return None;
    }
    let upstream = service::upstream(Item { at: at.clone(), value: way }, limits, paths, report);
    if let Some(at) = client_auth_at.filter(|_| matches!(upstream.client_auth, ClientAuth::Verify | ClientAuth::Select))
    {
        report
            .error(&at, "a tunnel looks no passwords up")
            .hint("\"refuse\" or \"ignore\"; the other end may look them up of its own clients");
    }
    let (deny, shadow): (Vec<&str>, Vec<&str>) =
        (rules.deny.iter().map(String::as_str).collect(), rules.shadow.iter().map(String::as_str).collect());
    let policy = match Policy::build(&Spec { deny: &deny, shadow: &shadow, ..Spec::default() }) {
        Ok(policy) => Arc::new(policy),
        Err(errors) => {
            for error in errors.0 {
                report.error(&at, error.to_string());
            }
            return None;
        }
    };
    let anybody = Match { anonymous: true, ..Match::default() };
    let role = Role { name: title.clone(), matches: vec![anybody], from: None, priority: 0, policy };
    let terms = Terms {
        role: title.as_str().into(),
        credential: None,
        password: None,
        client_auth: upstream.client_auth,
        database: None,
        limits: RoleLimits::from(limits),
    };
    let nothing = PathBuf::new;
    let loopback =
        [IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8), IpNet::from(IpAddr::V6(Ipv6Addr::LOCALHOST))];
    Some(Service {
        name: Arc::from(title),
        listeners: vec![Listener { place: place?, inline: true, reuse_port: false, proxy_protocol: None }],
        upstream,
        tls: Tls {
            cert: nothing(),
            key: nothing(),
            client_ca: nothing(),
            crl: Vec::new(),
            min_version: TlsVersion::default(),
            anonymous: true,
            choice: Choice::default(),
        },
        plain: true,
        max_connections_per_address: None,
        admission: Arc::new(Admission::new(&loopback, &[])),
        floor: rules.deny,
        floor_shadow: rules.shadow,
        pin_files: Vec::new(),
        rename_files: Vec::new(),
        scripts_place: None,
        scripts: None,
        rule_places: rules.places,
        roles: vec![Arc::new(role)],
        terms: vec![terms],
        credentials: None,
    })
}

/// Where it listens: on this host alone.
fn place(raw: &RawTunnel, at: &At, others: &[Service], paths: &Paths, report: &mut Report) -> Option<Place> {
    let Some(item) = &raw.listen else {
        report.missing(at, "listen", "write listen = \"127.0.0.1:6379\" or \"unix:/run/ravelin/cache.sock\"");
        return None;
    };
    let place = match item.value.strip_prefix("unix:") {
        Some(path) => {
            let path = paths.resolve(&Item { at: item.at.clone(), value: path.to_owned() }, report);
            listen::short_enough(&path, &item.at, report);
            let why = "a socket cannot be executed, and has no other bits";
            let socket = listen::owned(path, raw.mode.as_ref(), raw.group.as_ref(), (0o666, why), report);
            if let Some(mode) = raw.mode.as_ref().filter(|_| socket.mode & 0o006 != 0) {
                report.warn(format!(
                    "{}: the mode {:04o} lets every user of this host in who reaches the folder",
                    mode.at.key, socket.mode
                ));
            }
            Place::Unix(socket)
        }
        None => {
            let keys = [raw.mode.as_ref().map(|item| &item.at), raw.group.as_ref().map(|item| &item.at)];
            for at in keys.into_iter().flatten() {
                report
                    .error(at, "a port belongs to nobody: every user of this host may connect to it")
                    .hint("listen = \"unix:/path\" is a file with an owner and a mode");
            }
            Place::Tcp(loopback(item, report)?)
        }
    };
    let mut taken = others.iter().flat_map(|service| &service.listeners);
    if let Some(Listener { place: other, .. }) = taken.find(|other| other.place.overlaps(&place)) {
        report.error(&item.at, format!("{place} is taken by another listener ({other})"));
    }
    Some(place)
}

fn loopback(item: &Item<String>, report: &mut Report) -> Option<SocketAddr> {
    if item.value.starts_with('/') {
        let error = report.error(&item.at, format!("{:?} is not an IP address with a port", item.value));
        error.hint(format!("write \"unix:{}\"", item.value));
        return None;
    }
    let address = socket_address(item, report)?;
    if !address.ip().to_canonical().is_loopback() {
        report
            .error(
                &item.at,
                format!("{address} can be reached from other hosts, in plain text and without a certificate"),
            )
            .hint("listen on 127.0.0.1, [::1] or a Unix socket; for others on the network use a [[service]] with TLS");
    }
    Some(address)
}
