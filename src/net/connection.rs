//! From an admitted socket to a running pump: handshake, identity, role, Redis.
//!
//! Everything here happens once per connection and is large (the handshake's future is 4 KiB); the pump is spawned as a
//! task of its own, so that a connection at rest keeps none of it.

use super::{
    clock::micros,
    desk::{Control, Desk, Order},
    gate,
    keeper::Link,
    permits::Permit,
    plain::PlainPipe,
    pump::Pump,
    seats::{Loaded, Seat, Standing},
    service::House,
    side::Downstream,
    upstream::ConnectError,
};
use crate::{
    audit::{
        encode::{ConnectionFacts, TlsFacts},
        event::ProcessEvent,
    },
    moment::Moment,
    policy::{
        identity::{AuthenticatedPeer, Identity},
        network::Admitted,
    },
    session::{Turn, gather::Gather, machine::Session},
    tls::{
        failure::{self, Failure},
        handshake::{self, Accepted},
        peer::{self, UnverifiedNames},
        pipe::TlsPipe,
    },
};
use rustls::pki_types::CertificateDer;
use std::{
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::net::TcpStream;

/// Once an order to leave has come, or a peer was told that it has no role, this is all the time a goodbye may take.
const GOODBYE: Duration = Duration::from_millis(250);

/// A socket on its way from the acceptor to a worker.
#[derive(Debug)]
pub struct Arrival {
    /// The connection, non-blocking.
    pub socket: std::net::TcpStream,
    /// The proof that its address may be here.
    pub admitted: Admitted,
    /// Its place among all connections.
    pub permit: Permit,
    /// Its place among the worker's.
    pub loaded: Loaded,
    /// Index into [`House::services`].
    pub service: usize,
    /// Index into [`Terms::sessions`].
    pub listener: usize,
    /// When it was accepted.
    pub at: Moment,
}

/// Why an admitted socket became no session.
struct Refusal {
    reason: &'static str,
    detail: String,
    hint: Option<&'static str>,
    unverified: Vec<String>,
}

impl Refusal {
    fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), hint: None, unverified: Vec::new() }
    }

    /// Adds what the peer's certificate claims.
    fn name(&mut self, names: UnverifiedNames) {
        self.unverified.extend(names.cn.map(|cn| format!("cn:{cn}")));
        self.unverified.extend(names.names);
        self.unverified.extend(names.issuer.map(|issuer| format!("issuer:{issuer}")));
        self.unverified.push(format!("sha256:{}", names.sha256));
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { reason: failure.reason, detail: failure.detail, hint: failure.hint, unverified: Vec::new() }
    }
}

impl From<handshake::Refused> for Refusal {
    fn from(refused: handshake::Refused) -> Self {
        let mut refusal = Self::from(refused.failure);
        if let Some(names) = refused.unverified {
            refusal.name(names);
        }
        refusal
    }
}

/// Serves one arrival to its end. A panic on the way ends it and nothing else.
pub(super) async fn serve(house: Arc<House>, desk: Rc<Desk>, seat: Seat, arrival: Arriving) {
    let (src, service) = (arrival.admitted.src(), arrival.service);
    let refuse = |refusal: &Refusal| {
        let name = house.services.get(service).map_or("", |service| &service.name);
        record_refusal(&desk, src, name, refusal);
    };
    match contained(establish(&house, &desk, &seat, arrival)).await {
        Some(Ok(Running::Tls(pump))) => {
            tokio::task::spawn_local(Seated { pump, _seat: seat });
        }
        Some(Ok(Running::Plain(pump))) => {
            tokio::task::spawn_local(Seated { pump, _seat: seat });
        }
        Some(Err(refusal)) => refuse(&refusal),
        None => {
            tracing::error!(%src, "a handshake panicked; this is a bug in ravelin, other connections go on");
            refuse(&Refusal::new("internal", "a bug in the proxy, contained to this connection"));
        }
    }
}

/// What is left of an [`Arrival`] once it has its seat.
pub(super) struct Arriving {
    pub(super) socket: std::net::TcpStream,
    pub(super) admitted: Admitted,
    pub(super) service: usize,
    pub(super) listener: usize,
    pub(super) at: Moment,
}

/// A pump of either kind: which one is decided once, and not for each command.
#[expect(clippy::large_enum_variant, reason = "taken apart at once, into the task that keeps what is in it")]
enum Running {
    Tls(Pump<TlsPipe<TcpStream>, Link, Session>),
    Plain(Pump<PlainPipe, Link, Session>),
}

/// What is known of the client once its side can carry commands.
struct Shaken<D> {
    side: D,
    identity: Arc<Identity>,
    /// The verified chain; empty in plain text.
    chain: Vec<CertificateDer<'static>>,
}

async fn establish(house: &Arc<House>, desk: &Rc<Desk>, seat: &Seat, arrival: Arriving) -> Result<Running, Refusal> {
    let internal = |what: &str| Refusal::new("internal", what);
    let service = house.services.get(arrival.service).ok_or_else(|| internal("no such service"))?;
    let live = service.live.load_full();
    let socket = TcpStream::from_std(arrival.socket)
        .and_then(|socket| live.sockets.apply(&socket).map(|()| socket))
        .map_err(|error| Refusal::new("socket", format!("the socket failed: {error}")))?;

    let arrived = (arrival.admitted, arrival.service, arrival.listener, arrival.at);
    let Some(store) = &service.tls else {
        let (side, identity) = (PlainPipe::new(socket), Arc::new(Identity::anonymous()));
        let shaken = Shaken { side, identity, chain: Vec::new() };
        return admit(house, desk, seat, arrived, shaken, |facts, _, _| facts).await.map(Running::Plain);
    };
    let tls = store.current();
    let shaken = unless_ordered(seat.control(), handshake::accept(&tls, socket));
    // Counted from accept: time in the worker's queue is time too.
    let deadline = house.clock.instant(arrived.3.mono_us.saturating_add(micros(live.handshake_timeout)));
    let Accepted { pipe, identity } = match tokio::time::timeout_at(deadline, shaken).await {
        Err(_) => return Err(Failure::timeout().into()),
        Ok(Err(_)) => return Err(Refusal::new("drain", "the proxy is shutting down")),
        Ok(Ok(shaken)) => shaken?,
    };

    // A reload may have come during the handshake, and this connection was not yet there to be asked again.
    let current = store.current();
    if !Arc::ptr_eq(&current, &tls) {
        let chain = pipe.peer_chain();
        current.recheck(chain).map_err(|error| failure::explain(&error, chain.first().map(AsRef::as_ref)))?;
    }
    let chain = pipe.peer_chain().to_vec();
    let shaken = Shaken { side: pipe, identity, chain };
    admit(house, desk, seat, arrived, shaken, with_tls).await.map(Running::Tls)
}

/// Who may be in, and as what; then Redis.
async fn admit<D: Downstream + Unpin>(
    house: &Arc<House>,
    desk: &Rc<Desk>,
    seat: &Seat,
    (admitted, index, listener, at): (Admitted, usize, usize, Moment),
    Shaken { mut side, identity, chain }: Shaken<D>,
    complete: impl FnOnce(ConnectionFacts, &D, &Identity) -> ConnectionFacts,
) -> Result<Pump<D, Link, Session>, Refusal> {
    let internal = |what: &str| Refusal::new("internal", what);
    let service = house.services.get(index).ok_or_else(|| internal("no such service"))?;
    let live = service.live.load_full();
    let now = desk.now();
    let peer = AuthenticatedPeer::authenticate(admitted, identity, &live.roles, &service.name, now);
    let peer = match peer {
        Ok(peer) => peer,
        Err(error) => {
            say_goodbye(&mut side).await;
            let mut refusal = Refusal::new(error.word(), error.to_string());
            // Whom nobody gave a role is what an operator looks for here.
            if let Some(leaf) = chain.first() {
                refusal.name(peer::names_for_record(leaf));
            }
            return Err(refusal);
        }
    };
    if house.bans.bans(&gate::origins(&peer), now) {
        say_goodbye(&mut side).await;
        let mut refusal = Refusal::new("banned", "too many wrong passwords came with this certificate or from there");
        if let Some(leaf) = chain.first() {
            refusal.name(peer::names_for_record(leaf));
        }
        return Err(refusal);
    }
    let terms = live.terms.get(peer.role().name.as_str()).ok_or_else(|| internal("a role without terms"))?;
    let taken = terms.max_connections.map(|max| house.permits.take_role(index, &peer.role().name, max));
    let place = match taken.transpose() {
        Ok(place) => place,
        Err(full) => {
            say_goodbye(&mut side).await;
            let detail = format!("role {} has as many connections as it may have", peer.role().name);
            return Err(Refusal::new(full.word(), detail));
        }
    };
    let name = house.connection_name();
    seat.stand(Standing { name: name.as_str().into(), peer: peer.clone(), place, grant: None, chain });

    let config = terms.sessions.get(listener).ok_or_else(|| internal("no such listener"))?;
    let facts = complete(terms.facts(&name, &peer, &house.outlets), &side, peer.identity());
    let door = gate::Door { service: index, listener, name, chair: seat.chair() };
    let gate = gate::gate(house, door);
    let mut session = desk.record(|tools| {
        let turn = Turn { now: at, recorder: &mut tools.recorder, memory: &mut tools.memory, down_pending: 0 };
        Session::new(Arc::clone(config), peer, facts, &turn)
    });
    let connected = unless_ordered(seat.control(), service.connect(&house.clock, &live)).await;
    let (up, greeting, words) = open(desk, &mut session, connected);
    let mut pump =
        Pump::new(session, side, up, Rc::clone(desk), Rc::clone(seat.control()), live.flush_timeout).with_gate(gate);
    pump.preload(&greeting, &words);
    Ok(pump)
}

/// Tells the session what became of its upstream; what it says to either side leaves with the pump's first poll.
fn open(
    desk: &Desk,
    session: &mut Session,
    connected: Result<Result<Link, ConnectError>, Order>,
) -> (Option<Link>, Vec<u8>, Vec<u8>) {
    desk.record(|tools| {
        let now = tools.clock.now();
        let mut turn = Turn { now, recorder: &mut tools.recorder, memory: &mut tools.memory, down_pending: 0 };
        let (mut up, mut down) = (Gather::new(&[], Vec::new()), Gather::new(&[], Vec::new()));
        let stream = match connected {
            Ok(Ok(stream)) => {
                session.connected(&mut turn, &mut up, &mut down);
                Some(stream)
            }
            Ok(Err(error)) => {
                session.connect_failed(error.word(), &error.to_string(), &mut turn, &mut down);
                None
            }
            Err(Order::Drain(reason)) => {
                session.drain(reason, &mut turn, &mut up, &mut down);
                None
            }
            Err(Order::Abort(reason)) => {
                session.abort(reason, &mut turn);
                None
            }
        };
        (stream, up.slices().0.to_vec(), down.slices().0.to_vec())
    })
}

fn with_tls(facts: ConnectionFacts, pipe: &TlsPipe<TcpStream>, identity: &Identity) -> ConnectionFacts {
    facts.with_tls(&TlsFacts {
        version: pipe.protocol(),
        cipher: pipe.cipher(),
        resumed: pipe.resumed(),
        cert_sha256: &identity.sha256,
        cert_serial: &identity.serial,
        cert_not_after: identity.not_after,
    })
}

fn record_refusal(desk: &Desk, src: SocketAddr, service: &str, refusal: &Refusal) {
    let event = ProcessEvent::HandshakeFailure {
        src,
        service,
        reason: refusal.reason,
        detail: &refusal.detail,
        hint: refusal.hint,
        unverified: &refusal.unverified,
    };
    desk.record(|tools| tools.recorder.process(tools.clock.now(), &event));
}

/// An orderly end for a peer that is known and not wanted.
async fn say_goodbye(pipe: &mut impl Downstream) {
    let _ = tokio::time::timeout(GOODBYE, std::future::poll_fn(|cx| pipe.poll_close(cx))).await;
}

/// The future's output, unless the connection is told to leave first.
async fn unless_ordered<T>(control: &Control, future: impl Future<Output = T>) -> Result<T, Order> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(order) = control.poll_order(cx) {
            return Poll::Ready(Err(order));
        }
        future.as_mut().poll(cx).map(Ok)
    })
    .await
}

/// The future's output, or nothing if it panicked.
async fn contained<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

/// A pump and its seat: the seat is free the moment the connection is over.
struct Seated<D> {
    pump: Pump<D, Link, Session>,
    _seat: Seat,
}

impl<D: Downstream + Unpin> Future for Seated<D> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.get_mut().pump).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::{contained, unless_ordered};
    use crate::{
        net::desk::{Control, Order},
        session::error::CloseReason,
    };

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test)
    }

    #[test]
    fn a_panic_is_contained_and_a_result_is_passed_on() {
        run(async {
            assert_eq!(contained(async { 7 }).await, Some(7));
            assert_eq!(contained(async { panic!("as the test wants it") }).await, None::<()>);
        });
    }

    #[test]
    fn an_order_ends_a_wait_that_would_never_end() {
        run(async {
            let control = Control::default();
            control.order(Order::Drain(CloseReason::Drain));
            let waited = unless_ordered(&control, std::future::pending::<()>()).await;
            assert_eq!(waited, Err(Order::Drain(CloseReason::Drain)));
            let control = Control::default();
            assert_eq!(unless_ordered(&control, async { 7 }).await, Ok(7));
        });
    }
}
