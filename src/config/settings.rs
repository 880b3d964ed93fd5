//! What a configuration means: every value typed, every limit a number, every secret read.
//!
//! [`Settings`] is made by [`crate::config::Source::load`] alone, from a file, flags and environment; nothing that fails
//! validation ever becomes one. `server` takes it apart and hands the pure rooms their own types
//! ([`Service::session_config`]); no pure module sees a `Settings`.
//!
//! Files that are read **while loading** (and so at a reload): the configuration file and each `password_file`; their
//! bytes are inside. Files that are **only named** here and are read by `tls`: certificate, key, client CA, CRLs.
//! [`Settings::files`] lists both kinds.

mod limits;
mod listen;
mod secrets;
mod terms;
mod upstream;

pub use self::{
    limits::{Keepalive, Limits, Workers},
    listen::{Listener, Place, ProxyProtocol, UnixSocket},
    secrets::{Account, Password, SecretCommand, SecretSource, unfilled},
    terms::{Credentials, Helper, RoleLimits, Terms},
    upstream::{ClientAuth, Host, SocketFault, SocketPolicy, Upstream, UpstreamAddress},
};
use crate::{
    audit::{
        arguments::Values,
        outlet::{Arguments, Plan},
        sink::proof::Checkpoints,
        target::Target,
        watch::Watches,
    },
    config::given::Given,
    policy::{bans::Schedule, identity::Role, network::Admission, scripts::Scripts},
    resp::{reply::ReplyLimits, request::RequestLimits},
    session::machine::SessionConfig,
    tls::server::{Choice, Files, MinVersion},
};
use std::{
    fmt,
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Blank CRLF lines and empty arrays tolerated in a row (crate docs, "strict in").
const BLANKS_MAX: u32 = 16;
/// Commands up to this many bytes are forwarded only whole.
const STREAM_FROM: u64 = 64 * 1024;
/// Longest line in a reply: Lua's `redis.status_reply` may be long, but not without end.
const REPLY_LINE_MAX: usize = 1024 * 1024;
/// Longest bulk in a reply. Not `limits.max_bulk`: DUMP and module replies are larger than what a client may send.
const REPLY_BULK_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Most elements one aggregate of a reply may declare.
const REPLY_ELEMENTS_MAX: u64 = u32::MAX as u64;

/// A whole, valid configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it came from.
    pub file: PathBuf,
    /// At least one; names are unique, listen addresses too.
    pub services: Vec<Service>,
    /// Bounds on everything.
    pub limits: Limits,
    /// How long those are sent away who fail to authenticate.
    pub bans: Schedule,
    /// Where records go and what they show.
    pub audit: Audit,
    /// The admin endpoint, if there is to be one.
    pub admin: Option<Admin>,
    /// The operational log on standard error.
    pub log: Log,
    /// When changes are put in force.
    pub reload: Reload,
    /// The keys as they were given, to tell what a reload changes.
    pub given: Given,
    /// What is legal and unwise, in words for people; `check` prints them, `run` logs them.
    pub warnings: Vec<String>,
}

/// One door and the Redis behind it.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name in records and metrics.
    pub name: Arc<str>,
    /// At least one.
    pub listeners: Vec<Listener>,
    /// The Redis behind.
    pub upstream: Upstream,
    /// Certificate, key, client CA, CRLs (the service's own table or the top-level one). Nothing that may be read where
    /// clients come in plain text.
    pub tls: Tls,
    /// Clients come in plain text, from this host alone: it is the near end of a tunnel.
    pub plain: bool,
    /// Which addresses may connect.
    pub admission: Arc<Admission>,
    /// The floor under every role of this service, as it was written (`preset:hardened`, `CONFIG|SET` …).
    pub floor: Vec<String>,
    /// What is tried out under every role, likewise: let through, and noted in the record.
    pub floor_shadow: Vec<String>,
    /// What becomes of scripts where a role does not say.
    pub scripts: Option<Scripts>,
    /// Where that was written.
    pub scripts_place: Option<RulePlace>,
    /// The files of pinned scripts that were read for its roles.
    pub pin_files: Vec<PathBuf>,
    /// The files of secret command names that were read for its roles.
    pub rename_files: Vec<PathBuf>,
    /// Where each rule of floor and roles was written; where the default floor stands there is none.
    pub rule_places: Vec<RulePlace>,
    /// The roles of this service, each with its policy: floor and the role's own denials.
    pub roles: Vec<Arc<Role>>,
    /// What each of them has of its own.
    pub terms: Vec<Terms>,
    /// Where clients' own passwords are looked up.
    pub credentials: Option<Credentials>,
    /// Most connections from one address to this service; none without a cap. Counted by the shell.
    pub max_connections_per_address: Option<NonZeroU32>,
}

/// Where a rule was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulePlace {
    /// Its name, as records have it.
    pub rule: String,
    /// The role whose rule it is; none for the floor.
    pub role: Option<String>,
    /// The key: `role.0.deny.1`.
    pub key: String,
    /// `ravelin.toml:12:5`, or the flag or variable.
    pub place: String,
}

/// The TLS files of a service; `tls` reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Certificate chain, leaf first.
    pub cert: PathBuf,
    /// Private key; may be the same file as `cert`.
    pub key: PathBuf,
    /// The CAs that client certificates must chain to.
    pub client_ca: PathBuf,
    /// Certificate revocation lists, files or folders; empty for none.
    pub crl: Vec<PathBuf>,
    /// Lowest protocol version.
    pub min_version: TlsVersion,
    /// A client need not show a certificate (`client_auth = "none"`).
    pub anonymous: bool,
    /// Everything else.
    pub choice: Choice,
}

impl Tls {
    /// The same, as `tls` takes it.
    #[must_use]
    pub fn files(&self) -> Files {
        Files {
            cert: self.cert.clone(),
            key: self.key.clone(),
            client_ca: self.client_ca.clone(),
            crl: self.crl.clone(),
            min_version: match self.min_version {
                TlsVersion::V12 => MinVersion::Tls12,
                TlsVersion::V13 => MinVersion::Tls13,
            },
            anonymous: self.anonymous,
            choice: self.choice.clone(),
        }
    }
}

/// A TLS protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    V12,
    /// TLS 1.3.
    V13,
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V12 => "1.2",
            Self::V13 => "1.3",
        })
    }
}

/// Where records go and what they show. A full queue stalls the sessions; nothing is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// The sinks; at least one.
    pub outputs: Vec<AuditOutput>,
    /// Bytes of rendered and not yet written records each worker may hold for each (`Recorder::new`'s capacity).
    pub queue: usize,
    /// Whether every command that can write waits for its `begin` line.
    pub begin_writes: bool,
    /// Whose values are kept, for outputs that show them.
    pub values: Option<Arc<Values>>,
    /// What is worth a second look.
    pub watches: Watches,
    /// The files of the keys that hash and sign, with the configuration's key for each.
    pub key_files: Vec<(&'static str, PathBuf)>,
}

impl Default for Audit {
    fn default() -> Self {
        let stdout = AuditOutput {
            plan: Plan { name: "stdout".into(), ..Plan::default() },
            target: Target::Stdout,
            checkpoint: None,
        };
        Self {
            outputs: vec![stdout],
            queue: 4 * 1024 * 1024,
            begin_writes: false,
            values: None,
            watches: Watches::default(),
            key_files: Vec::new(),
        }
    }
}

impl Audit {
    /// Whether some output shows keys.
    #[must_use]
    pub fn show_keys(&self) -> bool {
        self.outputs.iter().any(|output| output.plan.arguments != Arguments::None)
    }

    /// What sessions of a role keep of their commands' words.
    #[must_use]
    pub fn values_of(&self, role: &str) -> Option<Arc<Values>> {
        self.values.clone().filter(|values| values.are_kept_of(role))
    }

    /// What the outputs ask of the pens.
    pub fn plans(&self) -> impl Iterator<Item = &Plan> {
        self.outputs.iter().map(|output| &output.plan)
    }
}

/// One of the audit stream's sinks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditOutput {
    /// Its name, and what it takes of the stream.
    pub plan: Plan,
    /// Where it goes.
    pub target: Target,
    /// What it is proven by, if it is.
    pub checkpoint: Option<Checkpoints>,
}

/// The admin endpoint: at least one of the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where `/metrics`, `/livez` and `/readyz` are served, in plain HTTP.
    pub address: Option<SocketAddr>,
    /// Where an operator is served besides.
    pub socket: Option<UnixSocket>,
}

/// When changes of the configuration and its files are put in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reload {
    /// How often they are looked at; never without one.
    pub watch: Option<Duration>,
}

impl Default for Reload {
    fn default() -> Self {
        Self { watch: Some(Duration::from_secs(5)) }
    }
}

/// The operational log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// The least that is logged.
    pub level: LogLevel,
}

/// How lines of the operational log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The least that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum LogLevel {
    /// What went wrong.
    Error,
    /// And what may go wrong.
    Warn,
    /// And what happened.
    #[default]
    Info,
    /// And how.
    Debug,
    /// And everything.
    Trace,
}

impl LogLevel {
    /// The level's name, as the file and `tracing` write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// A file that a configuration depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// The service it belongs to; none for the configuration file itself.
    pub service: Option<Arc<str>>,
    /// The key that names it (`tls.cert`, `upstream.password_file`).
    pub key: &'static str,
    /// Where it is.
    pub path: PathBuf,
}

impl Settings {
    /// Every file that is read at start and at a reload, in a fixed order: the configuration file, then per service
    /// password, certificate, key, client CA, CRLs (files, or folders of files), OCSP responses and further certificates,
    /// then the keys of the audit stream.
    #[must_use]
    pub fn files(&self) -> Vec<NamedFile> {
        let mut files = vec![NamedFile { service: None, key: "the configuration file", path: self.file.clone() }];
        for service in &self.services {
            let mut name = |key: &'static str, path: &Path| {
                files.push(NamedFile { service: Some(Arc::clone(&service.name)), key, path: path.to_path_buf() });
            };
            if let Some(password) = &service.upstream.password {
                password.source.file().into_iter().for_each(|path| name("upstream.password_file", path));
                password.next.iter().for_each(|path| name("upstream.next_password_file", path));
            }
            if let Some(tls) = &service.upstream.tls {
                tls.named(&mut name);
            }
            for password in service.terms.iter().filter_map(|terms| terms.password.as_ref()) {
                password.source.file().into_iter().for_each(|path| name("role.upstream.password_file", path));
                password.next.iter().for_each(|path| name("role.upstream.next_password_file", path));
            }
            if let Some(Credentials::Users { file, .. }) = &service.credentials {
                name("credentials.users_file", file);
            }
            if !service.plain {
                name("tls.cert", &service.tls.cert);
                name("tls.key", &service.tls.key);
                name("tls.client_ca", &service.tls.client_ca);
            }
            for path in &service.tls.crl {
                name("tls.crl", path);
            }
            if let Some(path) = &service.tls.choice.ocsp {
                name("tls.ocsp", path);
            }
            for pair in &service.tls.choice.certificates {
                name("tls.certificates.cert", &pair.cert);
                name("tls.certificates.key", &pair.key);
                if let Some(path) = &pair.ocsp {
                    name("tls.certificates.ocsp", path);
                }
            }
            for path in &service.pin_files {
                name("scripts.pinned", path);
            }
            for path in &service.rename_files {
                name("rename_file", path);
            }
        }
        let of_audit = self.audit.key_files.iter();
        files.extend(of_audit.map(|(key, path)| NamedFile { service: None, key, path: path.clone() }));
        files
    }
}

impl Service {
    /// Where the rule called `rule` was written that role `role` is under.
    #[must_use]
    pub fn place_of(&self, role: &str, rule: &str) -> Option<&RulePlace> {
        let is = |of: &&RulePlace| of.rule == rule && of.role.as_deref().is_none_or(|named| named == role);
        self.rule_places.iter().find(is)
    }

    /// What a role has of its own here; what it has not is the service's.
    #[must_use]
    pub fn terms_of(&self, role: &str) -> Option<&Terms> {
        self.terms.iter().find(|terms| *terms.role == *role)
    }

    /// What the sessions of one of this service's listeners are told whose peers have this role.
    #[must_use]
    pub fn session_config_of(&self, role: &str, listener: &Listener, limits: &Limits, audit: &Audit) -> SessionConfig {
        let mut config = self.session_config(listener, limits, audit);
        config.values = audit.values_of(role);
        let Some(terms) = self.terms_of(role) else { return config };
        config.request.words_max = terms.limits.max_words.get();
        config.request.bulk_max = terms.limits.max_bulk;
        config.held_command_max = terms.limits.held_command;
        config.unanswered_max = terms.limits.unanswered;
        config.idle_timeout_us = terms.limits.idle_timeout.map_or(0, micros);
        config.first_byte_timeout_us = terms.limits.first_byte_timeout.map_or(0, micros);
        config.half_command_timeout_us = terms.limits.half_command_timeout.map_or(0, micros);
        config.client_auth = terms.client_auth;
        config.greeting.database = terms.database;
        if let Some(credential) = &terms.credential {
            config.greeting.credential = Some(credential.clone());
        }
        config
    }

    /// What the sessions of one of this service's listeners are told. A listener accepts inline commands or not, hence
    /// one per listener; the shell keeps it in an `Arc` and makes a new one at a reload.
    #[must_use]
    pub fn session_config(&self, listener: &Listener, limits: &Limits, audit: &Audit) -> SessionConfig {
        SessionConfig {
            request: RequestLimits {
                words_max: limits.max_words.get(),
                bulk_max: limits.max_bulk,
                blanks_max: BLANKS_MAX,
                inline: listener.inline,
            },
            reply: ReplyLimits { line_max: REPLY_LINE_MAX, bulk_max: REPLY_BULK_MAX, elements_max: REPLY_ELEMENTS_MAX },
            stream_from: STREAM_FROM,
            held_command_max: limits.held_command,
            unanswered_max: limits.unanswered,
            login_timeout_us: micros(limits.login_timeout),
            idle_timeout_us: limits.idle_timeout.map_or(0, micros),
            first_byte_timeout_us: limits.first_byte_timeout.map_or(0, micros),
            half_command_timeout_us: limits.half_command_timeout.map_or(0, micros),
            client_auth: self.upstream.client_auth,
            show_keys: audit.show_keys(),
            begin_writes: audit.begin_writes,
            values: None,
            greeting: self.upstream.greeting.clone(),
            greeting_timeout_us: micros(self.upstream.connect_timeout),
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
