//! What there is to say about a configuration, before it is printed.

use super::{
    super::probe::{self, Finding},
    audit,
};
use crate::{
    command::catalog,
    config::settings::{
        Admin, ClientAuth, Listener, Password, Place, Service, Settings, UnixSocket, Upstream, UpstreamAddress,
    },
    lane::greeting::Credential,
    policy::{arrivals::Knocks, identity::Role, rates::Rates},
    tls::{
        Description,
        client::{ClientFiles, TlsClient, Trust},
        revocation::Revocation,
        server::{MinVersion, Tls},
    },
};
use rustls::pki_types::UnixTime;
use serde::Serialize;
use std::os::unix::fs::MetadataExt as _;

/// Descriptors that are not connections: standard streams, logs, timers, sockets that listen or wait.
const DESCRIPTORS_BESIDE: u64 = 64;

/// Everything `check` says. Its JSON form is for programs: keys are added, not changed.
#[derive(Debug, Serialize)]
pub(super) struct Facts {
    pub(super) file: String,
    pub(super) services: Vec<ServiceFacts>,
    /// Name and value, in the order they are printed.
    pub(super) process: Vec<(&'static str, String)>,
    /// What fails, and what happens then.
    pub(super) failures: Vec<(&'static str, &'static str)>,
    pub(super) warnings: Vec<String>,
    /// What keeps `run` from starting, or clients from getting in once it has.
    pub(super) errors: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct ServiceFacts {
    pub(super) name: String,
    pub(super) listen: Vec<String>,
    pub(super) upstream: String,
    /// What guards the socket, or why none is needed.
    pub(super) upstream_guard: String,
    pub(super) upstream_alternatives: Vec<String>,
    pub(super) upstream_health: String,
    pub(super) upstream_now: Option<String>,
    pub(super) credential: String,
    pub(super) client_auth: &'static str,
    pub(super) connection_name: bool,
    pub(super) min_tls: String,
    /// Whether client certificates are demanded.
    pub(super) certificates: &'static str,
    pub(super) tls: Option<Description>,
    pub(super) allow: Vec<String>,
    pub(super) deny: Vec<String>,
    pub(super) max_connections_per_address: Option<u32>,
    pub(super) floor: Vec<String>,
    pub(super) roles: Vec<RoleFacts>,
}

#[derive(Debug, Serialize)]
pub(super) struct RoleFacts {
    pub(super) name: String,
    pub(super) matches: Vec<String>,
    pub(super) priority: i32,
    /// What it has of its own: name and value, in the order they are printed.
    pub(super) own: Vec<(&'static str, String)>,
    /// Commands and subcommands in the catalog.
    pub(super) commands: usize,
    pub(super) denied: usize,
    /// Each rule that denies something, and what.
    pub(super) rules: Vec<RuleFacts>,
    /// What is said of arguments: parameters, scripts, other names.
    pub(super) arguments: Vec<String>,
    /// Each rule in shadow mode that would deny something more, and what.
    pub(super) shadow: Vec<RuleFacts>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct RuleFacts {
    pub(super) rule: String,
    pub(super) denies: Vec<String>,
}

/// What happens when something that the proxy depends on fails. Each line is kept by the room it speaks of.
const FAILURES: [(&str, &str); 9] = [
    ("audit output full or broken", "commands wait until records can be written; nothing is dropped"),
    ("password file unreadable at a reload", "the old configuration is kept, and the log says why"),
    (
        "program for a password fails",
        "without one the proxy does not start; later the last one is kept, and it is run again",
    ),
    ("certificate, CA or CRL broken at a reload", "the old ones are kept, and the log says why"),
    ("configuration broken at a reload", "the old one is kept, and the log says why"),
    ("Redis gone", "clients get a clear error where nothing was sent yet, then a close; no command is sent twice"),
    ("Redis refuses the credential", "the next and the last password are tried; then the client is told and closed"),
    ("Redis refuses all passwords", "/readyz fails and all is read and asked again until one is taken"),
    ("no file descriptors left", "accepting pauses and is tried again; open connections go on"),
];

impl Facts {
    /// Looks at everything the settings name: TLS files, sockets, the process' limits, and Redis if `ask_redis`.
    pub(super) fn gather(settings: &Settings, ask_redis: bool) -> Self {
        let mut facts = Self {
            file: settings.file.display().to_string(),
            services: Vec::new(),
            process: process(settings),
            failures: FAILURES.to_vec(),
            warnings: settings.warnings.clone(),
            errors: Vec::new(),
        };
        for each in &settings.services {
            let found = facts.service(each, settings, ask_redis);
            facts.services.push(found);
        }
        for output in &settings.audit.outputs {
            audit::look(output, &mut facts.errors, &mut facts.warnings);
        }
        let wanted =
            u64::from(settings.limits.max_connections.get()).saturating_mul(2).saturating_add(DESCRIPTORS_BESIDE);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        // `run` raises the soft limit to the hard one.
        if let Some(allowed) = limit.maximum.filter(|allowed| *allowed < wanted) {
            facts.warnings.push(format!(
                "limits.max_connections needs {wanted} file descriptors (two for each connection), and this process may \
                 open {allowed}: raise LimitNOFILE or `ulimit -n`, or lower the limit"
            ));
        }
        facts
    }

    fn service(&mut self, service: &Service, settings: &Settings, ask_redis: bool) -> ServiceFacts {
        let name = &service.name;
        let tls = match (!service.plain).then(|| Tls::load(&service.tls.files(), UnixTime::now())).transpose() {
            Ok(tls) => tls.map(|tls| tls.description().clone()),
            Err(error) => {
                self.errors.push(format!("service {name}: {error}"));
                None
            }
        };
        for warning in tls.iter().flat_map(|tls| &tls.warnings) {
            self.warnings.push(format!("service {name}: {warning}"));
        }
        for expired in tls.iter().flat_map(|tls| &tls.expired) {
            self.errors.push(format!("service {name}: {expired}"));
        }
        match service.upstream.tls.as_ref().map(|files| TlsClient::load(files, UnixTime::now())).transpose() {
            Ok(far) => {
                let found = far.as_ref().map(|far| far.description().clone()).unwrap_or_default();
                self.warnings.extend(found.warnings.iter().map(|warning| format!("service {name}: {warning}")));
                self.errors.extend(found.expired.iter().map(|expired| format!("service {name}: {expired}")));
            }
            Err(error) => self.errors.push(format!("service {name}: {error}")),
        }
        let now = ask_redis.then(|| probe::redis(&service.upstream));
        match &now {
            Some(Finding::Answers { maxclients: Some(most) })
                if u64::from(settings.limits.max_connections.get()) > *most =>
            {
                self.warnings.push(format!(
                    "service {name}: limits.max_connections ({}) is more than Redis' maxclients ({most}): each client has a \
                     connection of its own to Redis",
                    settings.limits.max_connections
                ));
            }
            Some(Finding::Answers { .. }) | None => {}
            Some(trouble) => self.warnings.push(format!("service {name}: Redis {trouble}")),
        }
        ServiceFacts {
            name: name.to_string(),
            listen: service.listeners.iter().map(listener).collect(),
            upstream: if service.upstream.proxy_protocol {
                format!("{}, told of each client by the PROXY protocol (version 2)", service.upstream.address)
            } else {
                service.upstream.address.to_string()
            },
            upstream_guard: guard(&service.upstream),
            upstream_alternatives: service.upstream.alternatives.iter().map(ToString::to_string).collect(),
            upstream_health: health(&service.upstream),
            upstream_now: now.map(|finding| finding.to_string()),
            credential: credential(service),
            client_auth: client_auth(service.upstream.client_auth),
            connection_name: service.upstream.greeting.set_name,
            min_tls: if service.plain { "none".to_owned() } else { service.tls.min_version.to_string() },
            certificates: if service.plain {
                "none: plain text from this host"
            } else if service.tls.anonymous {
                "not required, and checked where one is shown"
            } else {
                "required"
            },
            tls,
            allow: if service.listeners.iter().all(|listener| matches!(listener.place, Place::Unix(_))) {
                vec!["whoever may write to the socket's file".to_owned()]
            } else {
                service.admission.allowed().map(|net| net.to_string()).collect()
            },
            deny: service.admission.denied().map(|net| net.to_string()).collect(),
            max_connections_per_address: service.max_connections_per_address.map(std::num::NonZeroU32::get),
            floor: service.floor.clone(),
            roles: service.roles.iter().map(|role| role_facts(role, service, settings)).collect(),
        }
    }
}

/// A listener, in words.
fn listener(each: &Listener) -> String {
    use crate::config::show_duration as time;
    let inline = if each.inline { " (inline commands too)" } else { "" };
    let proxies = each.proxy_protocol.as_ref().map_or_else(String::new, |proxies| {
        let trusted = proxies.trusted.allowed().map(|net| net.to_string()).collect::<Vec<_>>().join(", ");
        format!(
            "; from {trusted} with a header of the PROXY protocol, within {}, whose address then counts; without one that is \
             refused, and from anybody else so is the header",
            time(proxies.timeout)
        )
    });
    let owner = match &each.place {
        Place::Unix(UnixSocket { mode, group, .. }) => {
            let group = group.map_or_else(String::new, |group| format!(", group {group}"));
            format!(" (mode {mode:04o}{group})")
        }
        Place::Tcp(_) => String::new(),
    };
    format!("{}{owner}{inline}{proxies}", each.place)
}

/// What a role has of its own, and other than its service.
fn own(role: &Role, service: &Service, settings: &Settings) -> Vec<(&'static str, String)> {
    use crate::config::{show_duration as time, show_size as size};
    let mut own = Vec::new();
    if let Some(from) = &role.from {
        own.push(("from", from.allowed().map(|net| net.to_string()).collect::<Vec<_>>().join(", ")));
    }
    if let Some(databases) = role.policy.databases() {
        own.push(("databases", format!("{databases}, beginning in {}", databases.first())));
    }
    let Some(terms) = service.terms_of(&role.name) else { return own };
    if let (Some(credential), Some(password)) = (&terms.credential, &terms.password) {
        own.push(("to Redis", as_user(credential, password)));
    }
    if terms.client_auth != service.upstream.client_auth {
        own.push(("clients' AUTH", client_auth(terms.client_auth).to_owned()));
    }
    let (limits, common) = (&terms.limits, &settings.limits);
    for limit in role.policy.rates().into_iter().flat_map(Rates::limits) {
        own.push(("rate", limit.to_string()));
    }
    let mut bounds = Vec::new();
    bounds.extend(limits.max_connections.map(|most| format!("at most {most} connections")));
    if limits.max_connections_per_identity != common.max_connections_per_identity {
        bounds.push(format!("{} connections of an identity", at_most(limits.max_connections_per_identity)));
    }
    let or_never = |time_out: Option<_>| time_out.map_or("never".to_owned(), time);
    if limits.first_byte_timeout != common.first_byte_timeout {
        bounds.push(format!("first byte {}", or_never(limits.first_byte_timeout)));
    }
    if limits.half_command_timeout != common.half_command_timeout {
        bounds.push(format!("half a command {}", or_never(limits.half_command_timeout)));
    }
    if limits.idle_timeout != common.idle_timeout {
        bounds.push(format!("idle {}", limits.idle_timeout.map_or("never".to_owned(), time)));
    }
    if limits.max_bulk != common.max_bulk {
        bounds.push(format!("words of at most {}", size(limits.max_bulk)));
    }
    if limits.max_words != common.max_words {
        bounds.push(format!("at most {} words", limits.max_words));
    }
    if limits.held_command != common.held_command {
        bounds.push(format!("held commands {}", size(limits.held_command.try_into().unwrap_or(u64::MAX))));
    }
    if limits.unanswered != common.unanswered {
        bounds.push(format!("unanswered {}", size(limits.unanswered.try_into().unwrap_or(u64::MAX))));
    }
    if !bounds.is_empty() {
        own.push(("limits", bounds.join(", ")));
    }
    own
}

const fn client_auth(mode: ClientAuth) -> &'static str {
    match mode {
        ClientAuth::Refuse => "refused; it never reaches Redis",
        ClientAuth::Ignore => "answered OK and ignored; it never reaches Redis",
        ClientAuth::Verify => "looked up, and demanded before any other command; it never reaches Redis",
        ClientAuth::Select => "looked up, and gives the client another role; it never reaches Redis",
    }
}

fn role_facts(role: &Role, service: &Service, settings: &Settings) -> RoleFacts {
    let facts = |(rule, commands): (&str, Vec<&'static str>)| RuleFacts {
        rule: rule.to_owned(),
        denies: commands.into_iter().map(str::to_ascii_uppercase).collect(),
    };
    let rules: Vec<RuleFacts> = role.policy.denied().map(facts).collect();
    RoleFacts {
        name: role.name.clone(),
        matches: role.matches.iter().map(ToString::to_string).collect(),
        priority: role.priority,
        own: own(role, service, settings),
        commands: catalog::len(),
        denied: rules.iter().map(|rule| rule.denies.len()).sum(),
        rules,
        arguments: role.policy.guards().describe(),
        shadow: role.policy.shadowed().map(facts).collect(),
    }
}

fn guard(upstream: &Upstream) -> String {
    if let Some(tls) = &upstream.tls {
        return by_tls(tls, &upstream.address);
    }
    let UpstreamAddress::Unix(path) = &upstream.address else {
        return "loopback: does not leave this host; every local user can reach it".to_owned();
    };
    let owner = upstream.socket.owner.map_or_else(
        || match upstream.socket.ours {
            0 => "owner root".to_owned(),
            ours => format!("owner root or {ours}"),
        },
        |uid| format!("owner {uid}"),
    );
    let wanted = format!("does not leave this host; {owner}, mode at most {:04o}", upstream.socket.mode_max);
    match std::fs::metadata(path) {
        Ok(file) => format!("{wanted}; now owner {}, mode {:04o}", file.uid(), file.mode() & 0o777),
        Err(_) => wanted,
    }
}

/// How Redis is looked at, and how many may be on their way to it.
fn health(upstream: &Upstream) -> String {
    use crate::config::show_duration as time;
    let (tuning, storm) = (upstream.tuning, upstream.storm);
    let looks = tuning.interval.map_or_else(
        || "not looked at while it is up".to_owned(),
        |interval| format!("looked at every {} (AUTH, PING; within {})", time(interval), time(tuning.timeout)),
    );
    let rate = if storm.per_second == 0 { String::new() } else { format!(", {} a second", storm.per_second) };
    format!(
        "{looks}; while it is not, every {} to {}; at most {} connecting at once{rate}, {} waiting",
        time(tuning.backoff.initial),
        time(tuning.backoff.max),
        storm.at_once,
        storm.waiting
    )
}

/// How Redis is known that is reached by TLS.
fn by_tls(tls: &ClientFiles, address: &UpstreamAddress) -> String {
    let trust = match &tls.trust {
        Trust::Ca(path) => format!("issued by {}", path.display()),
        Trust::System => "issued by a CA that the system trusts".to_owned(),
        Trust::Pinned => "known by its pin alone".to_owned(),
    };
    let pins = match (tls.pins.len(), &tls.trust) {
        (0, _) => String::new(),
        (count, Trust::Pinned) => format!(" ({count} pinned)"),
        (count, _) => format!(" and one of {count} pinned"),
    };
    let named = tls.server_name.clone().or_else(|| address.certificate_name().filter(|_| tls.trust != Trust::Pinned));
    let name = named.map_or_else(|| ", whatever its name".to_owned(), |name| format!(", for the name {name}"));
    let own = tls.own.as_ref().map_or_else(
        || "no client certificate is shown".to_owned(),
        |own| format!("shown the client certificate {}", own.cert.display()),
    );
    let version = match tls.min_version {
        MinVersion::Tls12 => "1.2",
        MinVersion::Tls13 => "1.3",
    };
    let lists = match tls.crl.len() {
        0 => String::new(),
        _ => {
            let of = tls.crl.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
            let Revocation { expired, missing, .. } = &tls.revocation;
            format!(", not revoked by {of} (one past its next update: {}; none: {})", expired.word(), missing.word())
        }
    };
    format!("TLS {version} or later; certificate {trust}{pins}{name}{lists}; {own}")
}

/// How the proxy authenticates to Redis, without the password.
fn credential(service: &Service) -> String {
    let upstream = &service.upstream;
    let (Some(credential), Some(password)) = (upstream.credential(), &upstream.password) else {
        if service.plain {
            let shown = upstream.tls.as_ref().is_some_and(|tls| tls.own.is_some());
            return if shown { "by its certificate alone" } else { "not at all: no certificate and no password" }
                .to_owned();
        }
        return "none (auth = \"none\"): Redis asks for no password, so everybody who reaches it may use it".to_owned();
    };
    as_user(credential, password)
}

fn as_user(credential: &Credential, password: &Password) -> String {
    use crate::config::show_duration as time;
    let user = credential.username.as_deref().unwrap_or("the default user");
    let source = &password.source;
    let next = if credential.others.is_empty() { "" } else { ", and the next one" };
    match source.command() {
        Some(command) => format!("as {user}, password is {source}, good for {}{next}", time(command.ttl)),
        None => format!("as {user}, password from {source} ({} bytes){next}", credential.password.expose().len()),
    }
}

fn process(settings: &Settings) -> Vec<(&'static str, String)> {
    use crate::config::{show_duration as time, show_size as size};
    let limits = &settings.limits;
    let never = |timeout| Option::map_or(timeout, "never".to_owned(), time);
    let keepalive = &limits.keepalive;
    vec![
        (
            "connections",
            format!(
                "at most {}, backlog {}, worker threads {}",
                limits.max_connections,
                limits.backlog,
                limits.workers.count()
            ),
        ),
        (
            "from an address",
            format!(
                "accepts {}; handshakes {}",
                knocks(limits.accepts_per_address),
                knocks(limits.handshakes_per_address)
            ),
        ),
        ("of an identity", format!("{} connections in one role", at_most(limits.max_connections_per_identity))),
        ("handshakes", format!("at most {} at once, and {} that wait", limits.handshakes, limits.handshake_queue)),
        (
            "timeouts",
            format!(
                "handshake {}, login {}, first byte {}, half a command {}, idle {}, Redis {}, flush {}, drain {}",
                time(limits.handshake_timeout),
                time(limits.login_timeout),
                never(limits.first_byte_timeout),
                never(limits.half_command_timeout),
                never(limits.idle_timeout),
                time(limits.upstream_connect_timeout),
                time(limits.flush_timeout),
                time(limits.drain_timeout)
            ),
        ),
        (
            "keepalive",
            format!(
                "after {}, every {}, {} times; TCP_USER_TIMEOUT {}",
                time(keepalive.idle),
                time(keepalive.interval),
                keepalive.count,
                limits.tcp_user_timeout.map_or("as the system has it".to_owned(), time)
            ),
        ),
        ("a command", format!("at most {} words, each at most {}", limits.max_words, size(limits.max_bulk))),
        (
            "memory",
            format!(
                "held commands {} each and {} together; unanswered {} a connection; records {} a worker",
                size(limits.held_command.try_into().unwrap_or(u64::MAX)),
                size(limits.memory),
                size(limits.unanswered.try_into().unwrap_or(u64::MAX)),
                size(settings.audit.queue.try_into().unwrap_or(u64::MAX))
            ),
        ),
        ("audit", settings.audit.outputs.iter().map(audit::words).collect::<Vec<_>>().join("; ")),
        ("admin", settings.admin.as_ref().map_or("none".to_owned(), admin)),
        ("log", format!("{:?}, {}, to standard error", settings.log.format, settings.log.level.name()).to_lowercase()),
    ]
}

fn at_most(cap: Option<std::num::NonZeroU32>) -> String {
    cap.map_or("any number of".to_owned(), |most| format!("at most {most}"))
}

fn knocks(knocks: Option<Knocks>) -> String {
    knocks.map_or("however often it likes".to_owned(), |knocks| {
        format!("{} a second, {} at once", knocks.per_second, knocks.burst)
    })
}

/// The admin endpoint, in words.
fn admin(admin: &Admin) -> String {
    let address = admin.address.map(|address| format!("http://{address}"));
    let socket = admin.socket.as_ref().map(|socket| {
        let group = socket.group.map_or_else(String::new, |group| format!(", group {group}"));
        format!("{} (mode {:04o}{group}): connections, live records and bans", socket.path.display(), socket.mode)
    });
    [address, socket].into_iter().flatten().collect::<Vec<_>>().join("; ")
}
