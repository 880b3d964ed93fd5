//! The connections of one worker, so that they can be drained, revalidated and counted.

use super::{
    connection::Arriving,
    desk::{Control, Order},
    permits::{Full, Permit, RolePermit},
    roster::Row,
    service::House,
};
use crate::{
    metrics::WorkerStats,
    moment::Moment,
    policy::{credentials::Grant, identity::AuthenticatedPeer},
    session::{activity::Activity, error::CloseReason},
};
use rustls::pki_types::{CertificateDer, UnixTime};
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
}

#[derive(Debug)]
struct Sitter {
    control: Rc<Control>,
    service: usize,
    /// Where it comes from, and since when.
    src: Cell<SocketAddr>,
    at: Moment,
    standing: RefCell<Option<Standing>>,
    /// It was told to go, once; a second order would be no news.
    leaving: Cell<bool>,
}

/// What a live connection's right to be here rests on.
#[derive(Debug)]
pub(super) struct Standing {
    /// The connection's name in records.
    pub(super) name: Box<str>,
    pub(super) peer: AuthenticatedPeer,
    /// Its place among the connections of its role and identity, as far as these have caps.
    pub(super) place: RolePermit,
    /// The stored password it gave last, if it gave one.
    pub(super) grant: Option<Grant>,
    /// Kept because a CRL that comes tomorrow may name any of its certificates.
    pub(super) chain: Vec<CertificateDer<'static>>,
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
            src: Cell::new(arriving.origin.src()),
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

    /// Drains whoever's certificate has expired.
    pub(super) fn expire(&self, now: Moment) -> usize {
        self.dismiss(|standing, _, _| standing.peer.identity().expired(now).then(|| "certificate-expired".to_owned()))
    }

    /// Drains whoever would not be let in any more as who he is: another role, or none, is not what he came with. The
    /// others learn what their role may say from now on.
    pub(super) fn revalidate(&self, house: &House, now: Moment) -> usize {
        let unix = UnixTime::since_unix_epoch(Duration::from_micros(now.wall_us));
        self.dismiss(|standing, service, control| {
            let service = house.services.get(service)?;
            let live = service.live.load();
            let peer = match standing.peer.revalidate(&live.admission, &live.roles, now) {
                Err(error) => return Some(error.to_string()),
                Ok(peer) if peer.role().name != standing.peer.role().name => {
                    return Some(format!("its role is now {}", peer.role().name));
                }
                Ok(peer) => peer,
            };
            if let Some(tls) = &service.tls
                && let Err(error) = tls.current().recheck_at(&standing.chain, unix)
            {
                return Some(error.to_string());
            }
            if standing.grant.as_ref().is_some_and(|grant| !live.upholds(grant)) {
                return Some("its user, password or role is not in the file of users any more".to_owned());
            }
            control.renew(peer);
            None
        })
    }

    fn dismiss(&self, reason: impl Fn(&Standing, usize, &Control) -> Option<String>) -> usize {
        let mut dismissed = 0_usize;
        for sitter in self.taken.borrow().values() {
            let standing = sitter.standing.borrow();
            if let Some(standing) = &*standing
                && !sitter.leaving.get()
                && let Some(reason) = reason(standing, sitter.service, &sitter.control)
            {
                tracing::info!(src = %standing.peer.src(), reason, "a connection has lost its right to be here");
                sitter.leaving.set(true);
                sitter.control.order(Order::Drain(CloseReason::Revoked));
                dismissed = dismissed.saturating_add(1);
            }
        }
        dismissed
    }
}

/// The place of a connection whose peer's role may become another.
#[derive(Clone, Debug)]
pub(super) struct Chair(Rc<Sitter>);

impl Chair {
    /// From here on the connection answers for the same peer with another role.
    pub(super) fn change(&self, peer: AuthenticatedPeer, place: RolePermit) {
        if let Some(standing) = &mut *self.0.standing.borrow_mut() {
            standing.peer = peer;
            standing.place = place;
        }
    }

    /// From here on it is here by this password; by none of the file's, if a helper let it in.
    pub(super) fn vouch(&self, grant: Option<Grant>) {
        if let Some(standing) = &mut *self.0.standing.borrow_mut() {
            standing.grant = grant;
        }
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
