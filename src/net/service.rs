//! What every thread of the shell shares: the services, the clock, the counts. Immutable, but for what a reload swaps.

use super::{
    clock::Clock,
    gate::{BanBook, Lookup},
    keeper::{Keeper, Link},
    permits::{Permits, RoleCaps},
    proxy_protocol,
    socket::SocketOptions,
    upstream::{ConnectError, Way},
};
use crate::{
    audit::{encode::ConnectionFacts, outlet::Plan, record::Recorder, watch::Watches},
    config::settings::{self, Audit, Limits, ProxyProtocol},
    policy::{
        bans::Bans,
        credentials::Grant,
        identity::{AuthenticatedPeer, Role},
        network::Admission,
    },
    session::machine::{ClientAuth, SessionConfig},
    tls::{chains::Chains, client::TlsClient, expiry::End, reload::Store, server::FileError},
};
use arc_swap::ArcSwap;
use rustls::pki_types::UnixTime;
use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

/// The process as its threads know it.
#[derive(Debug)]
pub struct House {
    /// In the order of the configuration; an index into this names a service everywhere in the shell.
    pub services: Vec<Service>,
    /// One origin for all moments.
    pub clock: Clock,
    /// Caps on connections.
    pub permits: Arc<Permits>,
    /// Who is sent away for wrong passwords.
    pub bans: BanBook,
    /// What all pens and budgets are made with; swapped whole at a reload.
    pub common: ArcSwap<Common>,
    /// Rung when Redis has refused a password, for the main thread to look into it.
    pub refusal: Notify,
    /// First part of a connection's name: another one at every start.
    start: String,
    connections: AtomicU64,
}

/// One door and the Redis behind it.
#[derive(Debug)]
pub struct Service {
    /// Its name in records and metrics.
    pub name: Arc<str>,
    /// Certificates, CA and CRLs in force; none where clients come in plain text.
    pub tls: Option<Store>,
    /// Everything else that a reload swaps.
    pub live: ArcSwap<Live>,
    /// What the certificates of its open connections were proven by.
    pub chains: Chains,
    /// Whose password Redis does not take, and what it said: the service's own, or a role's.
    refused: Mutex<BTreeMap<Option<Arc<str>>, String>>,
}

/// What all services share, and a reload swaps.
#[derive(Debug)]
pub struct Common {
    /// What the audit outputs take of the stream.
    pub outlets: Vec<Plan>,
    /// What the pens watch for.
    pub watches: Watches,
    /// Most bytes a pen may hold for each output that are not written.
    pub pen_bytes: usize,
    /// A worker's share of `limits.memory`.
    pub memory_max: u64,
}

impl Common {
    /// What the settings say.
    #[must_use]
    pub fn new(limits: &Limits, audit: &Audit) -> Self {
        Self {
            outlets: audit.plans().cloned().collect(),
            watches: audit.watches,
            pen_bytes: audit.queue,
            memory_max: limits.memory / u64::from(limits.workers.count().get()),
        }
    }
}

/// What new connections of a service are made with; swapped whole at a reload.
#[derive(Debug)]
pub struct Live {
    /// Which addresses may connect.
    pub admission: Arc<Admission>,
    /// `max_connections_per_address`.
    pub per_address_max: Option<NonZeroU32>,
    /// Proxies before each listener that say for whom they speak, in the order of the configuration.
    pub proxies: Vec<Option<ProxyProtocol>>,
    /// Who may be what.
    pub roles: Vec<Arc<Role>>,
    /// Where Redis is and how it is greeted.
    pub upstream: settings::Upstream,
    /// TLS on the way to it.
    pub tls: Option<Arc<TlsClient>>,
    /// Which of its addresses is used, and who may connect when.
    pub keeper: Arc<Keeper>,
    /// What each role has of its own, by its name.
    pub terms: HashMap<Arc<str>, Terms>,
    /// Where clients' own passwords are looked up.
    pub lookup: Option<Lookup>,
    /// Grows whenever who a helper let in is to give a password again.
    pub vouching: u64,
    /// For the sockets of both sides.
    pub sockets: SocketOptions,
    /// From accept to an authenticated peer.
    pub handshake_timeout: Duration,
    /// For bytes of a side that is being closed.
    pub flush_timeout: Duration,
}

/// What a role has of its own in a service.
#[derive(Debug)]
pub struct Terms {
    /// What its sessions are told, per listener, in the order of the configuration.
    pub sessions: Vec<Arc<SessionConfig>>,
    /// The user it is to Redis, for records.
    pub user: Option<String>,
    /// Most connections of it, and of one identity in it.
    pub caps: RoleCaps,
    /// The age at which a connection of it is closed.
    pub max_age: Option<Duration>,
    /// Whether it authenticates with a credential of its own.
    pub own_credential: bool,
    /// What becomes of its clients' own AUTH.
    pub client_auth: ClientAuth,
}

impl Terms {
    /// What the records of a connection called `name` say of a peer with the role.
    #[must_use]
    pub fn facts(&self, name: &str, peer: &AuthenticatedPeer, outlets: &[Plan]) -> ConnectionFacts {
        let identity = peer.identity().display_name();
        let user = self.user.as_deref();
        ConnectionFacts::new(name, peer.service(), peer.src(), &identity, &peer.role().name, user).for_outlets(
            outlets,
            &peer.role().name,
            peer.src(),
        )
    }
}

impl Service {
    /// A service that has not been tried yet.
    #[must_use]
    pub fn new(name: Arc<str>, tls: Option<Store>, live: Live) -> Self {
        Self { name, tls, live: ArcSwap::from_pointee(live), chains: Chains::default(), refused: Mutex::default() }
    }

    fn refusals(&self) -> MutexGuard<'_, BTreeMap<Option<Arc<str>>, String>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Redis has refused the password of a connection with this role.
    pub fn was_refused(&self, role: &str) {
        let live = self.live.load();
        let role = live.terms.get_key_value(role).filter(|(_, terms)| terms.own_credential);
        let role = role.map(|(role, _)| Arc::clone(role));
        self.refusals().entry(role).or_default();
    }

    /// A look at Redis was refused by the service's own password, and this was said.
    pub fn look_was_refused(&self, said: &str) {
        self.refusals().entry(None).or_insert_with(|| said.to_owned());
    }

    /// Whose password was refused last, and what is known of it.
    #[must_use]
    pub fn refused(&self) -> BTreeMap<Option<Arc<str>>, String> {
        self.refusals().clone()
    }

    /// Notes whether Redis takes it; whether that is news.
    pub fn note_credential(&self, role: Option<&Arc<str>>, refused: Option<String>) -> bool {
        let mut refusals = self.refusals();
        match refused {
            Some(why) => refusals.insert(role.cloned(), why.clone()).is_none_or(|before| before != why),
            None => refusals.remove(&role.cloned()).is_some(),
        }
    }

    /// Forgets what is said of roles that have no password of their own any more.
    pub fn forget_refusals(&self, live: &Live) {
        let own = |role: &Arc<str>| live.terms.get(role).is_some_and(|terms| terms.own_credential);
        self.refusals().retain(|role, _| role.as_ref().is_none_or(own));
    }

    /// Connects a client to its Redis, in its turn.
    ///
    /// # Errors
    ///
    /// As [`Keeper::connect`].
    pub async fn connect(&self, clock: &Clock, live: &Live, line: Option<&Line<'_>>) -> Result<Link, ConnectError> {
        let upstream = &live.upstream;
        let greeting = &upstream.greeting;
        let greeted = greeting.credential.is_some() || greeting.set_name;
        let preamble = match line {
            _ if !upstream.proxy_protocol => Vec::new(),
            Some(line) => proxy_protocol::encode_v2(line.src, line.dst, line.name.as_bytes()),
            None => proxy_protocol::local().to_vec(),
        };
        let way = |address, resolver| Way {
            address,
            policy: upstream.socket,
            options: live.sockets,
            tls: live.tls.as_deref(),
            resolver,
            preamble: &preamble,
        };
        live.keeper.connect(clock, upstream.connect_timeout, greeted, way).await
    }
}

/// Whose connection to Redis it is, for an upstream that wants to be told.
#[derive(Clone, Copy, Debug)]
pub struct Line<'l> {
    /// Where the client comes from.
    pub src: SocketAddr,
    /// What it connected to.
    pub dst: SocketAddr,
    /// The connection's name in records.
    pub name: &'l str,
}

impl Live {
    /// Lets the limits in time of roles that are left as they were go on where they stand. Before it is put in force.
    pub fn go_on_from(&self, former: &Self) {
        for role in &self.roles {
            let before = former.roles.iter().find(|before| before.name == role.name);
            if let (Some(now), Some(before)) = (role.policy.rates(), before.and_then(|role| role.policy.rates())) {
                now.adopt(before);
            }
        }
    }

    /// The proxies before a listener, if this is the address of one.
    #[must_use]
    pub fn proxy(&self, listener: usize, src: SocketAddr) -> Option<&ProxyProtocol> {
        let proxies = self.proxies.get(listener).and_then(Option::as_ref);
        proxies.filter(|proxies| proxies.trusted.admit(src).is_ok())
    }

    /// Whether what a connection was let in by still stands. Not if passwords are looked up elsewhere now.
    #[must_use]
    pub fn upholds(&self, grant: &Grant) -> bool {
        self.lookup.as_ref().is_some_and(|lookup| lookup.upholds(grant))
    }

    /// What the certificates and lists on the way to Redis end by.
    pub fn ends(&self) -> impl Iterator<Item = &End> {
        self.tls.iter().flat_map(|tls| &tls.description().ends)
    }

    /// What the settings say of this service; `before` is what was in force until now, and keeps in force what has not
    /// changed of TLS, with the sessions that can be resumed.
    ///
    /// # Errors
    ///
    /// [`FileError`]: a file of `upstream.tls` cannot be used.
    pub fn load(
        service: &settings::Service,
        limits: &Limits,
        audit: &Audit,
        now: UnixTime,
        before: Option<&Self>,
    ) -> Result<Self, FileError> {
        let tls = service.upstream.tls.as_ref().map(|files| TlsClient::load(files, now)).transpose()?;
        let tls = tls.map(|tls| {
            tls.description().warnings.iter().for_each(|warning| tracing::warn!(service = %service.name, "{warning}"));
            tls.description().expired.iter().for_each(|over| tracing::error!(service = %service.name, "{over}"));
            let same = before.and_then(|live| live.tls.as_ref()).filter(|old| old.is_same_as(&tls));
            same.map_or_else(|| Arc::new(tls), Arc::clone)
        });
        let upstream = &service.upstream;
        let (tuning, storm) = (upstream.tuning, upstream.storm);
        let same = |live: &&Self| live.keeper.serves(&upstream.addresses(), tuning, storm);
        let keeper = before.filter(same).map(|live| Arc::clone(&live.keeper));
        let keeper = keeper.unwrap_or_else(|| Arc::new(Keeper::new(upstream.addresses(), tuning, storm)));
        Ok(Self::with(service, limits, audit, tls, keeper))
    }

    /// The same with other passwords: the settings are those that are in force, but for these.
    #[must_use]
    pub fn refreshed(&self, service: &settings::Service, limits: &Limits, audit: &Audit) -> Self {
        Self::with(service, limits, audit, self.tls.clone(), Arc::clone(&self.keeper))
    }

    fn with(
        service: &settings::Service,
        limits: &Limits,
        audit: &Audit,
        tls: Option<Arc<TlsClient>>,
        keeper: Arc<Keeper>,
    ) -> Self {
        let terms = service.roles.iter().map(|role| {
            let session = |listener| Arc::new(service.session_config_of(&role.name, listener, limits, audit));
            let own = service.terms_of(&role.name);
            let credential = own.and_then(|own| own.credential.as_ref()).or(service.upstream.credential());
            let limits = own.map(|own| &own.limits);
            let terms = Terms {
                sessions: service.listeners.iter().map(session).collect(),
                user: credential.and_then(|credential| credential.username.clone()),
                caps: limits.map_or_else(RoleCaps::default, |limits| RoleCaps {
                    connections: limits.max_connections,
                    per_identity: limits.max_connections_per_identity,
                }),
                max_age: limits.and_then(|limits| limits.max_connection_age),
                own_credential: own.is_some_and(|own| own.credential.is_some()),
                client_auth: own.map_or(service.upstream.client_auth, |own| own.client_auth),
            };
            (Arc::from(role.name.as_str()), terms)
        });
        Self {
            admission: Arc::clone(&service.admission),
            per_address_max: service.max_connections_per_address,
            proxies: service.listeners.iter().map(|listener| listener.proxy_protocol.clone()).collect(),
            vouching: 0,
            roles: service.roles.clone(),
            upstream: service.upstream.clone(),
            tls,
            keeper,
            terms: terms.collect(),
            lookup: service.credentials.as_ref().map(Lookup::new),
            sockets: limits.into(),
            handshake_timeout: limits.handshake_timeout,
            flush_timeout: limits.flush_timeout,
        }
    }
}

impl House {
    /// A house of these services, not yet open.
    #[must_use]
    pub fn new(services: Vec<Service>, clock: Clock, permits: Arc<Permits>, bans: Bans, common: Common) -> Self {
        // Unique enough to tell the records of two starts apart, and short enough for every line.
        let start = clock.now().wall_us ^ (u64::from(std::process::id()) << 40);
        let start = format!("{:08x}", (start ^ (start >> 32)) & 0xffff_ffff);
        Self {
            services,
            clock,
            permits,
            bans: BanBook::new(bans),
            common: ArcSwap::from_pointee(common),
            refusal: Notify::new(),
            start,
            connections: AtomicU64::new(0),
        }
    }

    /// A pen for all outputs.
    #[must_use]
    pub fn pen(&self, worker: u16, capacity: usize) -> Recorder {
        let common = self.common.load();
        Recorder::with_outlets(worker, capacity, &common.outlets).watching(common.watches)
    }

    /// A name for the next connection.
    #[must_use]
    pub fn connection_name(&self) -> String {
        format!("{}-{}", self.start, self.connections.fetch_add(1, Ordering::Relaxed).saturating_add(1))
    }
}
