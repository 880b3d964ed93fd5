//! What the raw tables mean. Every function here reports what is wrong and goes on with a harmless stand-in, so that one
//! run names every fault; whether the settings may be used is decided once, by the report.

mod accounts;
mod admin;
mod audit;
mod checkpoint;
mod credentials;
mod guards;
mod limits;
mod listen;
mod places;
mod roles;
mod secrets;
mod service;
mod terms;
mod tls;
mod tunnel;
mod upstream;

use super::{
    decode::{Item, nearest},
    error::{At, Report},
    given::Given,
    raw::{RawAdmission, RawConfig, RawLog, RawPolicy, RawReload},
    settings::{Log, LogFormat, LogLevel, Reload, RulePlace, Settings},
};
use crate::policy::{network::Admission, rules::Policy};
use ipnet::IpNet;
use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tls::{TlsTable, tls};

/// What stands where a required value is missing; never used, because then there is an error.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// The deny rules of a service without any `[policy]`.
const DEFAULT_FLOOR: &str = "preset:hardened";

/// The whole file's meaning. Only if `report` has no error may it be used.
pub(super) fn settings(raw: RawConfig, top: &At, file: &Path, report: &mut Report) -> Settings {
    let paths = Paths { base: folder(file) };
    let limits = limits::limits(raw.limits, report);
    let shared = service::Shared {
        tls: raw.tls.map(|item| tls(item, &paths, report)),
        admission: raw.admission.map(|item| admission(item, report)),
        floor: raw.policy.map(|item| floor(item, &paths, report)),
        credentials: raw.credentials.map(|item| credentials::credentials(item, &paths, report)),
        limits: &limits,
    };
    let tunnels_alone = raw.tunnel.is_some() && raw.service.is_none() && raw.role.is_none();
    let mut services = Vec::new();
    if !tunnels_alone {
        let doors;
        (services, doors) = service::services(raw.service, &shared, top, &paths, report);
        roles::assign(
            raw.role,
            &mut services,
            &roles::House { tables: &doors, limits: &limits, paths: &paths },
            top,
            report,
        );
    }
    tunnel::tunnels(raw.tunnel, &mut services, &limits, &paths, report);
    let bans = credentials::bans(raw.bans, report);
    let admin = raw.admin.map(|item| admin::admin(&item, &services, &paths, report));
    let (audit, log) = (audit::audit(raw.audit, &services, &paths, report), log(raw.log, report));
    let reload = reload(raw.reload, report);
    let file = file.to_path_buf();
    Settings { file, services, limits, bans, audit, admin, log, reload, given: Given::default(), warnings: Vec::new() }
}

/// Where the admin socket of a file is, whatever else is in it: whoever asks a running process need not be able to read
/// its passwords.
pub(super) fn admin_socket(raw: RawConfig, file: &Path, report: &mut Report) -> Option<PathBuf> {
    let paths = Paths { base: folder(file) };
    Some(admin::admin(&raw.admin?, &[], &paths, report).socket?.path)
}

/// The folder of the configuration file. Where even the current folder cannot be told, paths stay relative to it.
fn folder(file: &Path) -> PathBuf {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
    absolute.parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// Relative paths are relative to the configuration file, wherever the process was started.
pub(super) struct Paths {
    base: PathBuf,
}

impl Paths {
    pub(super) fn resolve(&self, item: &Item<String>, report: &mut Report) -> PathBuf {
        if item.value.is_empty() || item.value.contains('\0') {
            report.error(&item.at, "is not a path");
        }
        self.base.join(&item.value)
    }

    fn required(&self, item: Option<&Item<String>>, table: &At, key: &str, hint: &str, report: &mut Report) -> PathBuf {
        let Some(item) = item else {
            report.missing(table, key, hint);
            return PathBuf::new();
        };
        self.resolve(item, report)
    }
}

/// One of a few words.
fn choice<T: Copy>(item: Option<&Item<String>>, words: &[(&str, T)], default: T, report: &mut Report) -> T {
    let Some(item) = item else { return default };
    if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == item.value) {
        return *meaning;
    }
    let known = words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(" or ");
    let error = report.error(&item.at, format!("expected {known}, found {:?}", item.value));
    if let Some(near) = nearest(&item.value, words.iter().map(|(word, _)| *word)) {
        error.hint(format!("did you mean {near:?}?"));
    }
    default
}

/// A word that later versions will know.
fn planned(item: Option<Item<String>>, words: &[&str], instead: &str, report: &mut Report) -> Option<Item<String>> {
    let item = item?;
    if words.contains(&item.value.as_str()) {
        report.error(&item.at, format!("{:?} is planned and not in this version", item.value)).hint(instead);
        return None;
    }
    Some(item)
}

/// A name for records and metrics.
fn name(item: Option<&Item<String>>, table: &At, report: &mut Report) -> String {
    let Some(item) = item else {
        report.missing(table, "name", "records and metrics call it by a name: `name = \"…\"`");
        return String::new();
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if item.value.is_empty() || item.value.len() > 64 || !item.value.bytes().all(allowed) {
        report
            .error(&item.at, format!("{:?} is not a name", item.value))
            .hint("1 to 64 of `a-z A-Z 0-9 . _ -`: it becomes a label of metrics");
    }
    item.value.clone()
}

/// An IP address and port to listen on.
fn socket_address(item: &Item<String>, report: &mut Report) -> Option<SocketAddr> {
    if let Ok(address) = item.value.parse::<SocketAddr>() {
        return Some(address);
    }
    let error = report.error(&item.at, format!("{:?} is not an IP address with a port", item.value));
    if item.value.starts_with("systemd:") {
        error.hint("sockets handed over by systemd are planned and not in this version");
    } else if let Some(port) = item.value.strip_prefix(':').or_else(|| item.value.strip_prefix("*:")) {
        error.hint(format!("for every address of this host write \"0.0.0.0:{port}\" or \"[::]:{port}\""));
    } else if item.value.parse::<IpAddr>().is_ok() {
        error.hint("add a port: \"0.0.0.0:6380\", \"[::]:6380\"");
    } else {
        error.hint("names are not looked up; write \"127.0.0.1:6380\" or \"[::1]:6380\"");
    }
    None
}

/// Which addresses may connect, and how often each.
#[derive(Clone)]
struct Door {
    admission: Arc<Admission>,
    max_per_address: Option<Option<NonZeroU32>>,
}

fn admission(item: Item<RawAdmission>, report: &mut Report) -> Door {
    let raw = item.value;
    let allow: Vec<IpNet> =
        raw.allow.iter().flat_map(|list| &list.value).filter_map(|net| network(net, report)).collect();
    let deny: Vec<IpNet> =
        raw.deny.iter().flat_map(|list| &list.value).filter_map(|net| network(net, report)).collect();
    let max_per_address =
        raw.max_per_address.as_ref().map(|item| limits::connections_or_none(Some(item), None, report));
    Door { admission: Arc::new(Admission::new(&allow, &deny)), max_per_address }
}

/// A network, or an address, which is the network of itself.
fn network(item: &Item<String>, report: &mut Report) -> Option<IpNet> {
    if let Ok(address) = item.value.parse::<IpAddr>() {
        return Some(IpNet::from(address));
    }
    let Ok(net) = item.value.parse::<IpNet>() else {
        report
            .error(&item.at, format!("{:?} is not a network or an address", item.value))
            .hint("expected such as \"10.0.0.0/8\", \"fd00::/8\" or \"10.1.2.3\"");
        return None;
    };
    if net.addr() != net.network() {
        report
            .error(&item.at, format!("{} has bits set behind its prefix, so it is unclear what is meant", item.value))
            .hint(format!("write \"{}\" for the network or \"{}\" for the address", net.trunc(), net.addr()));
        return None;
    }
    Some(net)
}

/// Entries of a denylist, and where each rule that they make was written.
#[derive(Default)]
struct Entries {
    list: Vec<String>,
    places: Vec<RulePlace>,
}

/// The deny rules of a table, each checked by itself so that an error stands at its rule.
fn deny_rules(list: Option<&Item<Vec<Item<String>>>>, report: &mut Report) -> Entries {
    let mut entries = Entries::default();
    for item in list.iter().flat_map(|list| &list.value) {
        match Policy::compile(&[&item.value]) {
            Ok(policy) => {
                entries.list.push(item.value.clone());
                entries.places.extend(policy.rule_names().map(|rule| places::at(rule, &item.at, report)));
            }
            Err(errors) => {
                for error in errors.0 {
                    report.error(&item.at, format!("{:?}: {}", item.value, error.fault));
                }
            }
        }
    }
    entries
}

/// What nobody may say, and what is tried out.
#[derive(Clone, Debug)]
struct Floor {
    deny: Vec<String>,
    shadow: Vec<String>,
    scripts: Option<guards::ScriptRule>,
    places: Vec<RulePlace>,
}

impl Default for Floor {
    fn default() -> Self {
        Self { deny: vec![DEFAULT_FLOOR.to_owned()], shadow: Vec::new(), scripts: None, places: Vec::new() }
    }
}

impl Floor {
    /// Everything may be said.
    const fn open() -> Self {
        Self { deny: Vec::new(), shadow: Vec::new(), scripts: None, places: Vec::new() }
    }
}

fn floor(item: Item<RawPolicy>, paths: &Paths, report: &mut Report) -> Floor {
    let scripts = guards::scripts(item.value.scripts.as_ref(), paths, report);
    let shadow = deny_rules(item.value.shadow.as_ref(), report);
    let Some(deny) = item.value.deny else {
        return Floor { shadow: shadow.list, scripts, places: shadow.places, ..Floor::default() };
    };
    let Entries { list, mut places } = deny_rules(Some(&deny), report);
    places.extend(shadow.places);
    if !list.iter().any(|rule| rule.eq_ignore_ascii_case(DEFAULT_FLOOR)) {
        report.warn(format!(
            "{}: the preset `{DEFAULT_FLOOR}` is not part of it, so what it denies is allowed unless denied here",
            deny.at.key
        ));
    }
    Floor { deny: list, shadow: shadow.list, scripts, places }
}

fn reload(item: Option<Item<RawReload>>, report: &mut Report) -> Reload {
    let mut reload = Reload::default();
    if let Some(watch) = item.and_then(|item| item.value.watch) {
        let bounds = Duration::from_millis(250)..=Duration::from_secs(3600);
        reload.watch = match watch.value.as_str() {
            "off" => None,
            _ => Some(limits::time(Some(&watch), bounds, Duration::from_secs(5), report)),
        };
    }
    reload
}

fn log(item: Option<Item<RawLog>>, report: &mut Report) -> Log {
    let raw = item.map(|item| item.value).unwrap_or_default();
    let levels = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
    let levels = levels.map(|level| (level.name(), level));
    let defaults = Log::default();
    Log {
        format: choice(
            raw.format.as_ref(),
            &[("text", LogFormat::Text), ("json", LogFormat::Json)],
            defaults.format,
            report,
        ),
        level: choice(raw.level.as_ref(), &levels, defaults.level, report),
    }
}
