//! The connections of one worker, so that they can be drained, revalidated and counted.

use super::{
    clock::micros,
    connection::{Arriving, Origin, Refusal},
    control::{Control, Order},
    keeper::{Keeper, Link},
    permits::{Full, Permit, RolePermit},
    roster::Row,
    service::{House, Live, Terms},
};
use crate::{
    metrics::WorkerStats,
    moment::Moment,
    policy::{credentials::Grant, identity::AuthenticatedPeer},
    session::{
        activity::Activity,
        error::CloseReason,
        machine::{ClientAuth, SessionConfig},
        renewal::Renewal,
    },
    tls::{chains::Chain, reload::Store, server::Tls},
};
use rustls::pki_types::UnixTime;
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    num::NonZeroU32,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::sync::{Notify, oneshot};

/// One connection in its worker's count, those still in the queue included; the acceptor compares the counts.
#[derive(Debug)]
pub struct Loaded(Arc<WorkerStats>);

impl Loaded {
    /// One more, until this is dropped.
    #[must_use]
    pub fn new(stats: &Arc<WorkerStats>) -> Self {
        stats.connections().fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(stats))
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.0.connections().fetch_sub(1, Ordering::Relaxed);
    }
}

/// The connections of one worker.
#[derive(Debug, Default)]
pub(super) struct Seats {
    taken: RefCell<HashMap<u64, Rc<Sitter>>>,
    next: Cell<u64>,
    left: Notify,
    /// When it was last asked whether a CA or a list has come to its end, in seconds since 1970.
    turned: Cell<Option<u64>>,
}

#[derive(Debug)]
struct Sitter {
    control: Rc<Control>,
    service: usize,
    listener: usize,
    /// Where it comes from, and since when.
    src: Cell<SocketAddr>,
    /// The proxy on whose word it is from there.
    via: Option<SocketAddr>,
    at: Moment,
    standing: RefCell<Option<Standing>>,
    /// It was told to go, once; a second order would be no news.
    leaving: Cell<bool>,
}

impl Sitter {
    /// Sends away whoever has lost the right to be here.
    fn dismiss(&self, standing: &Standing, reason: &str) {
        tracing::info!(conn = %standing.name, src = %standing.peer.src(), reason, "a connection has lost its right to be here");
        self.leaving.set(true);
        self.control.order(Order::Drain(CloseReason::Revoked));
    }
}

/// What a live connection's right to be here rests on.
#[derive(Debug)]
pub(super) struct Standing {
    /// The connection's name in records.
    pub(super) name: Box<str>,
    pub(super) peer: AuthenticatedPeer,
    /// Its place among the connections of its role and identity.
    pub(super) place: RolePermit,
    /// What its last password was right by, if it gave one.
    vouched: Option<Voucher>,
    /// The user it is to Redis.
    user: Option<String>,
    /// The Redis it is connected to.
    way: Way,
    /// The age at which it is to go, in microseconds.
    age_us: Option<u64>,
    /// What becomes of its own AUTH.
    client_auth: ClientAuth,
    /// Kept because a CRL that comes tomorrow may name any of its certificates.
    pub(super) chain: Chain,
}

/// How a connection reaches Redis.
#[derive(Debug)]
pub(super) struct Way {
    /// Which addresses there were.
    keeper: Arc<Keeper>,
    /// The one among them that it has reached.
    at: Option<usize>,
    /// Nobody on the way can read along.
    encrypted: bool,
}

impl Way {
    /// Not there yet.
    pub(super) fn new(live: &Live) -> Self {
        Self { keeper: Arc::clone(&live.keeper), at: None, encrypted: live.tls.is_some() }
    }

    /// There.
    pub(super) fn by(live: &Live, link: &Link) -> Self {
        Self { at: Some(link.at()), ..Self::new(live) }
    }

    /// Whether that is a Redis of the service still; one that is not reached yet may become any of those it had.
    pub(super) fn leads_to(&self, live: &Live) -> Result<(), String> {
        if live.tls.is_some() && !self.encrypted {
            return Err("the way to Redis is encrypted now".to_owned());
        }
        if Arc::ptr_eq(&self.keeper, &live.keeper) {
            return Ok(());
        }
        let all = self.keeper.addresses();
        let reached = self.at.and_then(|at| all.get(at..=at)).unwrap_or(all);
        let now = live.keeper.addresses();
        match reached.iter().find(|address| !now.contains(address)) {
            None => Ok(()),
            Some(gone) => Err(format!("{gone} is no Redis of the service any more")),
        }
    }
}

/// What a right password was right by.
#[derive(Debug)]
pub(super) enum Voucher {
    /// A line of the file of users.
    File(Grant),
    /// The word of a helper, which cannot be asked again, for the password is not kept: and [`Live::vouching`] as it was.
    Helper(u64),
}

impl Standing {
    pub(super) fn new(
        name: &str,
        peer: AuthenticatedPeer,
        place: RolePermit,
        terms: &Terms,
        live: &Live,
        chain: Chain,
    ) -> Self {
        Self {
            name: name.into(),
            peer,
            place,
            vouched: None,
            user: terms.user.clone(),
            way: Way::new(live),
            age_us: terms.max_age.map(micros),
            client_auth: terms.client_auth,
            chain,
        }
    }
}

/// One connection's place, given back with its permit when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Rc<Seats>,
    id: u64,
    sitter: Rc<Sitter>,
    permit: RefCell<Permit>,
    _loaded: Loaded,
}

impl Seats {
    pub(super) fn take(self: &Rc<Self>, arriving: &Arriving, permit: Permit, loaded: Loaded) -> Seat {
        let id = self.next.replace(self.next.get().wrapping_add(1));
        let sitter = Rc::new(Sitter {
            control: Rc::default(),
            service: arriving.service,
            listener: arriving.listener,
            src: Cell::new(arriving.origin.src()),
            via: match arriving.origin {
                Origin::Direct(_) => None,
                Origin::Behind { proxy, .. } => Some(proxy),
            },
            at: arriving.at,
            standing: RefCell::default(),
            leaving: Cell::default(),
        });
        self.taken.borrow_mut().insert(id, Rc::clone(&sitter));
        Seat { seats: Rc::clone(self), id, sitter, permit: RefCell::new(permit), _loaded: loaded }
    }

    /// All connections: whose each is, and who will tell what it is doing.
    pub(super) fn roll(&self, house: &House, now: Moment) -> Vec<(Row, Option<oneshot::Receiver<Activity>>)> {
        let row = |sitter: &Rc<Sitter>| {
            let standing = sitter.standing.borrow();
            let standing = standing.as_ref();
            let service = house.services.get(sitter.service).map_or("", |service| &service.name);
            let row = Row {
                conn: standing.map(|standing| standing.name.clone()),
                service: service.into(),
                src: sitter.src.get(),
                identity: standing.map(|standing| standing.peer.identity().display_name().into()),
                role: standing.map(|standing| standing.peer.role().name.as_str().into()),
                since_us: sitter.at.wall_us,
                age_us: now.since(sitter.at),
                activity: None,
            };
            (row, sitter.control.ask())
        };
        self.taken.borrow().values().map(row).collect()
    }

    /// An order to one connection, by its name in records; false if there is none of that name.
    pub(super) fn order_one(&self, name: &str, order: Order) -> bool {
        let taken = self.taken.borrow();
        let is =
            |sitter: &&Rc<Sitter>| sitter.standing.borrow().as_ref().is_some_and(|standing| &*standing.name == name);
        let Some(sitter) = taken.values().find(is) else { return false };
        sitter.leaving.set(true);
        sitter.control.order(order);
        true
    }

    pub(super) fn len(&self) -> usize {
        self.taken.borrow().len()
    }

    /// Ready when nobody sits here.
    pub(super) async fn empty(&self) {
        while self.len() > 0 {
            self.left.notified().await;
        }
    }

    /// Tells the log who is still here: some of them, for there may be thousands; the records have all.
    pub(super) fn name_who_stays(&self) {
        const NAMED_MAX: usize = 20;
        let taken = self.taken.borrow();
        for sitter in taken.values().take(NAMED_MAX) {
            if let Some(standing) = &*sitter.standing.borrow() {
                let (conn, peer) = (&*standing.name, &standing.peer);
                let (src, identity) = (peer.src(), peer.identity().display_name());
                tracing::warn!(conn, %src, identity, "still open at the end of the drain, and cut off");
            }
        }
        if taken.len() > NAMED_MAX {
            tracing::warn!(
                "and {} more, which their connection_close records name",
                taken.len().saturating_sub(NAMED_MAX)
            );
        }
    }

    /// The same order to everybody.
    pub(super) fn order(&self, order: Order) {
        for sitter in self.taken.borrow().values() {
            sitter.leaving.set(true);
            sitter.control.order(order);
        }
    }

    /// Drains whoever's certificate has expired; and, where a CA or a revocation list has, whoever would be refused for it
    /// now.
    pub(super) fn expire(&self, house: &House, now: Moment) -> usize {
        let unix = UnixTime::since_unix_epoch(Duration::from_micros(now.wall_us));
        let since = self.turned.replace(Some(unix.as_secs())).unwrap_or(unix.as_secs());
        let verifiers = house.services.iter().map(|service| service.tls.as_ref().map(Store::current));
        let turned = |tls: Option<Arc<Tls>>| tls.filter(|tls| tls.has_turned(since, unix.as_secs()));
        let turned: Vec<_> = verifiers.map(turned).collect();
        self.dismiss(|sitter, standing| {
            if standing.peer.identity().expired(now) {
                return Some("certificate-expired".to_owned());
            }
            let tls = turned.get(sitter.service)?.as_ref()?;
            tls.recheck_at(&standing.chain, unix).err().map(|error| error.to_string())
        })
    }

    /// Asks who is old enough to go to do so, and drains whoever could not.
    pub(super) fn retire(&self, now: Moment) {
        for (id, sitter) in &*self.taken.borrow() {
            let Some(age_us) = sitter.standing.borrow().as_ref().and_then(|standing| standing.age_us) else { continue };
            let limit = aged(*id, age_us);
            let age = now.since(sitter.at);
            if age < limit || sitter.leaving.get() {
                continue;
            }
            let last = age >= limit.saturating_add((age_us / 10).clamp(GRACE_LEAST_US, GRACE_MOST_US));
            sitter.leaving.set(last);
            sitter.control.order(if last { Order::Drain(CloseReason::Age) } else { Order::Retire(CloseReason::Age) });
        }
    }

    /// Drains whoever would not be let in any more, or not like this. The others learn what is said to them from now on:
    /// one whose certificate has another role now has that role, where it is the same user of the same Redis.
    pub(super) fn revalidate(&self, house: &House, now: Moment) -> usize {
        let unix = UnixTime::since_unix_epoch(Duration::from_micros(now.wall_us));
        let common = house.common.load();
        let mut dismissed = 0_usize;
        for sitter in self.taken.borrow().values() {
            let mut standing = sitter.standing.borrow_mut();
            let (Some(standing), Some(service)) = (&mut *standing, house.services.get(sitter.service)) else {
                continue;
            };
            if sitter.leaving.get() {
                continue;
            }
            let live = service.live.load();
            let renewed = standing.renew(&live, sitter, house, now).and_then(|renewed| {
                let recheck = service.tls.as_ref().map(|tls| tls.current().recheck_at(&standing.chain, unix));
                recheck.transpose().map(|_| renewed).map_err(|error| error.to_string())
            });
            match renewed {
                Ok((peer, config, terms)) => {
                    let facts = terms.facts(&standing.name, &peer, &common.outlets);
                    sitter.control.renew(Renewal { peer, facts, config });
                }
                Err(reason) => {
                    sitter.dismiss(standing, &reason);
                    dismissed = dismissed.saturating_add(1);
                }
            }
        }
        dismissed
    }

    fn dismiss(&self, reason: impl Fn(&Sitter, &Standing) -> Option<String>) -> usize {
        let mut dismissed = 0_usize;
        for sitter in self.taken.borrow().values() {
            let standing = sitter.standing.borrow();
            if let Some(standing) = &*standing
                && !sitter.leaving.get()
                && let Some(reason) = reason(sitter, standing)
            {
                sitter.dismiss(standing, &reason);
                dismissed = dismissed.saturating_add(1);
            }
        }
        dismissed
    }
}

/// Shortest and longest time that a connection old enough to go has for coming to a point where it can.
const GRACE_LEAST_US: u64 = 5_000_000;
const GRACE_MOST_US: u64 = 60_000_000;

/// The age at which a connection of this number is to go: up to a tenth earlier than said, so that those who came
/// together do not leave together.
fn aged(id: u64, age_us: u64) -> u64 {
    // Steele, Lea and Flood's SplitMix64: neighbours are far apart.
    let mut mixed = id.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let thousandths = (mixed >> 32) % 101;
    age_us.saturating_sub((age_us / 1000).saturating_mul(thousandths))
}

impl Standing {
    /// The peer as it is now, and what its session is to be told; or why it cannot stay.
    fn renew<'l>(
        &mut self,
        live: &'l Live,
        sitter: &Sitter,
        house: &House,
        now: Moment,
    ) -> Result<(AuthenticatedPeer, Arc<SessionConfig>, &'l Terms), String> {
        if let Some(via) = sitter.via.filter(|via| live.proxy(sitter.listener, *via).is_none()) {
            return Err(format!("{} is not among the listener's trusted proxies any more", via.ip()));
        }
        let peer = self.peer.revalidate(&live.admission, &live.roles, now).map_err(|error| error.to_string())?;
        let role = &peer.role().name;
        let terms = live.terms.get(role.as_str()).ok_or("its role has no terms")?;
        let config = terms.sessions.get(sitter.listener).ok_or("its listener is gone")?;
        self.way.leads_to(live)?;
        if terms.user != self.user {
            return Err(format!("role {role} is another user of Redis now"));
        }
        match &self.vouched {
            Some(Voucher::File(grant)) if !live.upholds(grant) => {
                return Err("its user, password or role is not in the file of users any more".to_owned());
            }
            Some(Voucher::Helper(then)) if live.vouching != *then => {
                return Err("a helper let it in, and is to be asked again".to_owned());
            }
            // It was let in without one.
            None if terms.client_auth == ClientAuth::Verify && self.client_auth != ClientAuth::Verify => {
                return Err(format!("role {role} demands a password now"));
            }
            _ => {}
        }
        if *role != self.peer.role().name {
            let identity = peer.identity().display_name();
            let taken = house.permits.take_role(sitter.service, role, &identity, terms.caps);
            self.place = taken.map_err(|_| format!("its role is now {role}, which has no place left"))?;
            tracing::info!(conn = %self.name, src = %peer.src(), was = self.peer.role().name, role, "a connection has another role now");
        }
        self.age_us = terms.max_age.map(micros);
        self.client_auth = terms.client_auth;
        self.peer = peer.clone();
        Ok((peer, Arc::clone(config), terms))
    }
}

/// The place of a connection whose peer's role may become another.
#[derive(Clone, Debug)]
pub(super) struct Chair(Rc<Sitter>);

impl Chair {
    /// From here on the connection answers for the same peer with another role.
    pub(super) fn change(&self, peer: AuthenticatedPeer, place: RolePermit, terms: &Terms, way: Way) {
        if let Some(standing) = &mut *self.0.standing.borrow_mut() {
            standing.peer = peer;
            standing.place = place;
            standing.way = way;
            standing.user.clone_from(&terms.user);
            standing.age_us = terms.max_age.map(micros);
            standing.client_auth = terms.client_auth;
        }
    }

    /// From here on it is here by this password.
    pub(super) fn vouch(&self, voucher: Voucher) {
        if let Some(standing) = &mut *self.0.standing.borrow_mut() {
            standing.vouched = Some(voucher);
        }
    }

    /// It has reached this Redis.
    pub(super) fn reach(&self, way: Way) {
        if let Some(standing) = &mut *self.0.standing.borrow_mut() {
            standing.way = way;
        }
    }

    /// Index into [`House::services`].
    pub(super) fn service(&self) -> usize {
        self.0.service
    }

    /// Index into [`Terms::sessions`].
    pub(super) fn listener(&self) -> usize {
        self.0.listener
    }

    /// The connection's name in records.
    pub(super) fn name(&self) -> Option<Box<str>> {
        self.0.standing.borrow().as_ref().map(|standing| standing.name.clone())
    }

    /// Whom it answers for now.
    pub(super) fn peer(&self) -> Option<AuthenticatedPeer> {
        self.0.standing.borrow().as_ref().map(|standing| standing.peer.clone())
    }
}

impl Seat {
    pub(super) fn chair(&self) -> Chair {
        Chair(Rc::clone(&self.sitter))
    }

    /// A proxy has said where the connection comes from: from here on it is counted there.
    pub(super) fn comes_from(&self, src: SocketAddr, per_address_max: Option<NonZeroU32>) -> Result<(), Full> {
        self.sitter.src.set(src);
        self.permit.borrow_mut().count(self.sitter.service, src.ip(), per_address_max)
    }

    /// The future's output, unless its place has gone to another meanwhile; from here on it can go to nobody.
    pub(super) async fn unless_ousted<T>(
        &self,
        future: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let lost = self.permit.borrow_mut().lost();
        let done = tokio::select! {
            biased;
            done = future => Some(done?),
            () = lost => None,
        };
        let done = done.filter(|_| self.permit.borrow_mut().settle());
        done.ok_or_else(|| Refusal::at_the_door(Full::Total.word(), "its place went to an address that has fewer here"))
    }

    pub(super) fn control(&self) -> &Rc<Control> {
        &self.sitter.control
    }

    /// From here on the connection answers for its peer.
    pub(super) fn stand(&self, standing: Standing) {
        *self.sitter.standing.borrow_mut() = Some(standing);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken.borrow_mut().remove(&self.id);
        if self.seats.len() == 0 {
            self.seats.left.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::aged;

    #[test]
    fn connections_that_came_together_leave_apart_and_none_late() {
        let ages: Vec<u64> = (0..1000).map(|id| aged(id, 3_600_000_000)).collect();
        assert!(ages.iter().all(|age| (3_240_000_000..=3_600_000_000).contains(age)), "{ages:?}");
        let early = ages.iter().filter(|age| **age < 3_420_000_000).count();
        assert!((350..650).contains(&early), "{early} of a thousand in the first half");
    }
}
