//! Where clients' own passwords are looked up, and who is not even asked.
//!
//! A session that wants to know about a user and password asks ([`crate::session::Wants::asks`]); what answers is made
//! here, once per connection: the stored users of the service, or its helper ([`super::helper`]). Every wrong password
//! counts against the address and the certificate it came with ([`crate::policy::bans`]), and once one of the two is
//! banned nothing is looked up for it any more: not on this connection, nor on those that are open, nor before TLS.

use super::{
    helper::{Desk as Helpers, Finding},
    keeper::Link,
    pump::{Found, Gate},
    seats::{Chair, Voucher, Way},
    service::{House, Line, Service},
};
use crate::{
    config::settings::Credentials,
    moment::Moment,
    policy::{
        bans::{Banned, Bans, Origin},
        credentials::{Grant, Granted, Users},
        identity::AuthenticatedPeer,
    },
    session::inquiry::{Answer, Ask, Selected},
};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Where a service looks passwords up.
#[derive(Debug)]
pub enum Lookup {
    /// In its file.
    Users(Arc<Users>),
    /// By its helper.
    Helper(Box<Helpers>),
}

impl Lookup {
    /// As the settings say.
    #[must_use]
    pub fn new(credentials: &Credentials) -> Self {
        match credentials {
            Credentials::Users { users, .. } => Self::Users(Arc::clone(users)),
            Credentials::Helper(helper) => Self::Helper(Box::new(Helpers::new(helper.clone()))),
        }
    }

    async fn find(&self, house: &House, ask: &Ask) -> (Finding, Option<Grant>) {
        match self {
            Self::Users(users) => match users.check(ask.user.expose(), ask.password.expose()) {
                Some(Granted { role, grant }) => (Finding::Right(role), Some(grant)),
                None => (Finding::Wrong, None),
            },
            Self::Helper(helpers) => (helpers.find(house, ask).await, None),
        }
    }

    /// Whether what a connection was let in by still stands.
    #[must_use]
    pub fn upholds(&self, grant: &Grant) -> bool {
        matches!(self, Self::Users(users) if users.uphold(grant))
    }
}

/// The bans of one process: asked once per connection and once per attempt, never per command.
#[derive(Debug, Default)]
pub struct BanBook(Mutex<Bans>);

impl BanBook {
    /// A book with these bans in it.
    #[must_use]
    pub fn new(bans: Bans) -> Self {
        Self(Mutex::new(bans))
    }

    /// The bans, for the length of a few look-ups.
    pub fn open(&self) -> MutexGuard<'_, Bans> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one of these is banned.
    #[must_use]
    pub fn bans(&self, origins: &[Origin], now: Moment) -> bool {
        let bans = self.open();
        origins.iter().any(|origin| bans.left_us(origin, now) > 0)
    }

    /// One more failure of all of these; the longest ban it begins.
    fn failed(&self, origins: &[Origin], now: Moment) -> u64 {
        let mut bans = self.open();
        origins.iter().map(|origin| bans.failed(origin.clone(), now)).max().unwrap_or(0)
    }

    /// How many are banned now: addresses, certificates.
    #[must_use]
    pub fn count(&self, now: Moment) -> (u64, u64) {
        self.open().count(now)
    }

    /// Everybody who is banned now.
    #[must_use]
    pub fn list(&self, now: Moment) -> Vec<Banned> {
        self.open().list(now)
    }
}

/// Against whom a peer's failures count. Nobody's certificate is nobody's: it would be everybody's.
#[must_use]
pub fn origins(peer: &AuthenticatedPeer) -> Vec<Origin> {
    let certificate = (!peer.identity().anonymous).then(|| Origin::certificate(&peer.identity().sha256));
    std::iter::once(Origin::address(peer.src().ip())).chain(certificate).collect()
}

/// The connection whose questions are answered.
#[derive(Clone, Debug)]
pub(super) struct Door {
    /// What the client connected to.
    pub(super) dst: SocketAddr,
    /// Whom it answers for.
    pub(super) chair: Chair,
}

/// What answers the questions of one connection.
pub(super) fn gate(house: &Arc<House>, door: Door) -> Gate<Link> {
    let house = Arc::clone(house);
    // Every connection has one, for a reload may give it a role that looks passwords up: so it holds next to nothing.
    Box::new(move |ask| {
        let (house, door) = (Arc::clone(&house), door.clone());
        Box::pin(async move {
            let (Some(peer), Some(service)) = (door.chair.peer(), house.services.get(door.chair.service())) else {
                return only(Answer::Unavailable);
            };
            // As of before: who is let in by what a reload has put out of force is asked again by the next one.
            let vouching = service.live.load().vouching;
            let (granted, grant) = match look_up(&house, service, &peer, &ask).await {
                Ok(granted) => granted,
                Err(answer) => return only(answer),
            };
            // A reload that came meanwhile asks again on this thread, and so after this.
            door.chair.vouch(grant.map_or(Voucher::Helper(vouching), Voucher::File));
            if ask.selects {
                let user = std::str::from_utf8(ask.user.expose()).ok();
                return match granted.as_deref().or(user) {
                    Some(role) => select(&house, service, &door, role).await,
                    None => only(Answer::Denied),
                };
            }
            only(Answer::Granted)
        })
    })
}

const fn only(answer: Answer) -> Found<Link> {
    Found { answer, upstream: None }
}

/// Gives the peer the role called `role`, and a connection to Redis of that role's own.
async fn select(house: &House, service: &Service, door: &Door, role: &str) -> Found<Link> {
    let chair = &door.chair;
    let (Some(src), Some(name)) = (chair.peer().map(|peer| peer.src()), chair.name()) else {
        return only(Answer::Unavailable);
    };
    let line = Line { src, dst: door.dst, name: &name };
    let live = service.live.load_full();
    let Ok(upstream) = service.connect(&house.clock, &live, Some(&line)).await else {
        return only(Answer::Unavailable);
    };
    let way = Way::by(&live, &upstream);
    // As things are now: a reload may have come while Redis was connected to, and changed the chair.
    let live = service.live.load_full();
    let Some(peer) = chair.peer() else { return only(Answer::Unavailable) };
    if way.leads_to(&live).is_err() {
        return only(Answer::Unavailable);
    }
    let selected = peer.select(&live.roles, role);
    let (Ok(peer), Some(terms)) = (selected, live.terms.get(role)) else {
        tracing::warn!(src = %peer.src(), role, "a password was right, and there is no such role for this client");
        return only(Answer::Denied);
    };
    let Some(config) = terms.sessions.get(chair.listener()) else { return only(Answer::Unavailable) };
    // The place of its role until now is still taken: it is given back when it has another.
    let identity = peer.identity().display_name();
    let Ok(place) = house.permits.take_role(chair.service(), role, &identity, terms.caps) else {
        return only(Answer::Unavailable);
    };
    chair.change(peer.clone(), place, terms, way);
    let facts = terms.facts(&name, &peer, &house.common.load().outlets);
    let selected = Selected { peer, facts, config: Arc::clone(config) };
    Found { answer: Answer::Selected(Box::new(selected)), upstream: Some(upstream) }
}

/// The role that a right password names, if it names one, and by what of the file it was right; or what is answered.
async fn look_up(
    house: &House,
    service: &Service,
    peer: &AuthenticatedPeer,
    ask: &Ask,
) -> Result<(Option<Arc<str>>, Option<Grant>), Answer> {
    let origins = origins(peer);
    if house.bans.bans(&origins, house.clock.now()) {
        return Err(Answer::Banned(0));
    }
    let live = service.live.load_full();
    let Some(lookup) = &live.lookup else { return Err(Answer::Unavailable) };
    let (finding, grant) = lookup.find(house, ask).await;
    let now = house.clock.now();
    match finding {
        Finding::Unknown => Err(Answer::Unavailable),
        // Of many guesses at once one may have been right, and others wrong often enough.
        Finding::Right(_) if house.bans.bans(&origins, now) => Err(Answer::Banned(0)),
        Finding::Right(role) => Ok((role, grant)),
        Finding::Wrong => match house.bans.failed(&origins, now) {
            0 => Err(Answer::Denied),
            ban_us => {
                let (src, role) = (peer.src(), &peer.role().name);
                let ban = Duration::from_micros(ban_us);
                tracing::warn!(%src, role, ?ban, "wrong passwords: the address and the certificate are banned");
                Err(Answer::Banned(ban_us))
            }
        },
    }
}
