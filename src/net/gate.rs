//! Where clients' own passwords are looked up, and who is not even asked.
//!
//! A session that wants to know about a user and password asks ([`crate::session::Wants::asks`]); what answers is made
//! here, once per connection: the stored users of the service, or its helper ([`super::helper`]). Every wrong password
//! counts against the address and the certificate it came with ([`crate::policy::bans`]), and once one of the two is
//! banned nothing is looked up for it any more: not on this connection, nor on those that are open, nor before TLS.

use super::{
    helper::{Desk as Helpers, Finding},
    pump::Gate,
    service::House,
};
use crate::{
    config::settings::Credentials,
    moment::Moment,
    policy::{
        bans::{Banned, Bans, Origin},
        credentials::Users,
        identity::AuthenticatedPeer,
    },
    session::inquiry::{Answer, Ask},
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Where a service looks passwords up.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one for each service")]
pub enum Lookup {
    /// In its file.
    Users(Arc<Users>),
    /// By its helper.
    Helper(Helpers),
}

impl Lookup {
    /// As the settings say.
    #[must_use]
    pub fn new(credentials: &Credentials) -> Self {
        match credentials {
            Credentials::Users { users, .. } => Self::Users(Arc::clone(users)),
            Credentials::Helper(helper) => Self::Helper(Helpers::new(helper.clone())),
        }
    }

    async fn find(&self, house: &House, ask: &Ask) -> Finding {
        match self {
            Self::Users(users) => users
                .check(ask.user.expose(), ask.password.expose())
                .map_or(Finding::Wrong, |granted| Finding::Right(granted.role)),
            Self::Helper(helpers) => helpers.find(house, ask).await,
        }
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

/// What answers the questions of one connection.
#[must_use]
pub fn gate(house: &Arc<House>, service: usize, peer: &AuthenticatedPeer) -> Gate {
    let (house, peer) = (Arc::clone(house), peer.clone());
    Box::new(move |ask| {
        let (house, peer) = (Arc::clone(&house), peer.clone());
        Box::pin(async move { look_up(&house, service, &peer, &ask).await })
    })
}

async fn look_up(house: &House, service: usize, peer: &AuthenticatedPeer, ask: &Ask) -> Answer {
    let origins = origins(peer);
    if house.bans.bans(&origins, house.clock.now()) {
        return Answer::Banned;
    }
    let Some(live) = house.services.get(service).map(|service| service.live.load_full()) else {
        return Answer::Unavailable;
    };
    let Some(lookup) = &live.lookup else { return Answer::Unavailable };
    let finding = lookup.find(house, ask).await;
    let now = house.clock.now();
    match finding {
        Finding::Unknown => Answer::Unavailable,
        // Of many guesses at once one may have been right, and others wrong often enough.
        Finding::Right(_) if house.bans.bans(&origins, now) => Answer::Banned,
        Finding::Right(_) => Answer::Granted,
        Finding::Wrong => match house.bans.failed(&origins, now) {
            0 => Answer::Denied,
            ban_us => {
                let (src, role) = (peer.src(), &peer.role().name);
                let ban = Duration::from_micros(ban_us);
                tracing::warn!(%src, role, ?ban, "wrong passwords: the address and the certificate are banned");
                Answer::Banned
            }
        },
    }
}
