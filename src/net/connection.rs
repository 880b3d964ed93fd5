//! From an admitted socket to a running pump: proxy's header, handshake, identity, role, Redis.
//!
//! Everything here happens once per connection and is large (the handshake's future is 4 KiB); the pump is spawned as a
//! task of its own, so that a connection at rest keeps none of it.

use super::{
    caller::{self, Caller},
    clock::micros,
    control::{Control, Order},
    desk::Desk,
    gate,
    handshakes::Place,
    keeper::Link,
    lobby::{Guest, Lobby},
    permits::{Full, Permit},
    plain::PlainPipe,
    pump::Pump,
    seats::{Loaded, Seat, Standing, Way},
    service::{House, Line},
    side::Downstream,
    upstream::{ConnectError, Plain},
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
        chains::Chain,
        failure::{self, Failure},
        handshake::{self, Accepted},
        peer::{self, UnverifiedNames},
        pipe::TlsPipe,
        reload::Store,
        server::Tls,
    },
};
use std::{
    cell::Cell,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::net::{TcpStream, UnixStream};

/// Once an order to leave has come, or a peer was told that it has no role, this is all the time a goodbye may take.
const GOODBYE: Duration = Duration::from_millis(250);

/// A socket on its way from the acceptor to a worker.
#[derive(Debug)]
pub struct Arrival {
    /// The connection, non-blocking.
    pub socket: Caller,
    /// Where it comes from.
    pub origin: Origin,
    /// Its place among all connections.
    pub permit: Permit,
    /// Its place among the worker's.
    pub loaded: Loaded,
    /// Index into [`House::services`].
    pub service: usize,
    /// Index into [`super::service::Terms::sessions`].
    pub listener: usize,
    /// When it was accepted.
    pub at: Moment,
}

/// Where a socket comes from, as far as its acceptor knows.
#[derive(Debug)]
pub enum Origin {
    /// The client itself, with the proof that its address may be here.
    Direct(Admitted),
    /// A trusted proxy, which is to say for whom it speaks.
    Behind {
        /// Its own address.
        proxy: SocketAddr,
        /// Time for its header, from accept.
        timeout: Duration,
    },
}

impl Origin {
    /// The address at the other end of the socket.
    #[must_use]
    pub const fn src(&self) -> SocketAddr {
        match self {
            Self::Direct(admitted) => admitted.src(),
            Self::Behind { proxy, .. } => *proxy,
        }
    }
}

/// Where a connection comes from, as it is known by now: records name it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whence {
    pub(super) src: SocketAddr,
    pub(super) via: Option<SocketAddr>,
}

/// How far a socket came that became no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not to TLS: the record is `refused`.
    Door,
    /// To TLS: the record is `handshake_failure`.
    Handshake,
    /// It was closed by a proxy that only wanted to know whether somebody listens: there is no record.
    Check,
}

/// Why an admitted socket became no session.
pub(super) struct Refusal {
    stage: Stage,
    reason: &'static str,
    detail: String,
    hint: Option<&'static str>,
    unverified: Vec<String>,
}

impl Refusal {
    pub(super) fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { stage: Stage::Handshake, reason, detail: detail.into(), hint: None, unverified: Vec::new() }
    }

    /// None: somebody looked whether the door is there.
    pub(super) fn check() -> Self {
        Self { stage: Stage::Check, ..Self::new("", "") }
    }

    /// Before a single TLS byte.
    pub(super) fn at_the_door(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { stage: Stage::Door, ..Self::new(reason, detail) }
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
        Self { hint: failure.hint, ..Self::new(failure.reason, failure.detail) }
    }
}

impl From<handshake::Refused> for Refusal {
    fn from(refused: handshake::Refused) -> Self {
        let mut refusal = Self::from(refused.failure);
        refusal.unverified.extend(refused.sni.map(|name| format!("sni:{name}")));
        if let Some(names) = refused.unverified {
            refusal.name(names);
        }
        refusal
    }
}

/// Serves one arrival to its end. A panic on the way ends it and nothing else.
pub(super) async fn serve(house: Arc<House>, desk: Rc<Desk>, seat: Seat, arrival: Arriving) {
    let (src, service) = (arrival.origin.src(), arrival.service);
    let whence = Cell::new(Whence { src, via: None });
    let listener = arrival.socket.listener();
    let refuse = |refusal: &Refusal| {
        let name = house.services.get(service).map_or("", |service| &service.name);
        record_refusal(&desk, whence.get(), name, &listener, refusal);
    };
    match contained(establish(&house, &desk, &seat, arrival, &whence)).await {
        Some(Ok(Running::Tls(pump))) => {
            tokio::task::spawn_local(Seated { pump, seat, house, service });
        }
        Some(Ok(Running::Plain(pump))) => {
            tokio::task::spawn_local(Seated { pump, seat, house, service });
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
    pub(super) socket: Caller,
    pub(super) origin: Origin,
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
    chain: Chain,
}

async fn establish(
    house: &Arc<House>,
    desk: &Rc<Desk>,
    seat: &Seat,
    arrival: Arriving,
    whence: &Cell<Whence>,
) -> Result<Running, Refusal> {
    let internal = |what: &str| Refusal::new("internal", what);
    let service = house.services.get(arrival.service).ok_or_else(|| internal("no such service"))?;
    let live = service.live.load_full();
    let socket = match arrival.socket {
        Caller::Tcp(socket) => socket,
        Caller::Unix(socket) => {
            let Origin::Direct(admitted) = arrival.origin else { return Err(internal("a proxy at a Unix socket")) };
            let socket = UnixStream::from_std(socket)
                .map_err(|error| Refusal::new("socket", format!("the socket failed: {error}")))?;
            let Arriving { service, listener, at, .. } = arrival;
            // It shakes no hands: from here on its place is its own.
            let guest = seat.unless_ousted(async { Ok(Guest::of_this_host(admitted)) }).await?;
            return Box::pin(from_this_host(
                Vetted { house, desk, seat, whence, service, listener, at, guest },
                socket,
            ))
            .await;
        }
    };
    let socket = TcpStream::from_std(socket)
        .and_then(|socket| live.sockets.apply(&socket).map(|()| socket))
        .map_err(|error| Refusal::new("socket", format!("the socket failed: {error}")))?;

    let tls = service.tls.as_ref().map(Store::current);
    let local = socket.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
    // Counted from accept: time in the worker's queue is time too.
    let deadline = house.clock.instant(arrival.at.mono_us.saturating_add(micros(live.handshake_timeout)));
    let lobby = Lobby { house, desk, seat, live: &live, at: arrival.at, whence };
    let welcome = async {
        let guest = lobby.identify(&socket, arrival.origin, local).await?;
        // In plain text nothing need come before it is served, and no handshake is paid for.
        let place = if tls.is_some() { lobby.place(&socket, &guest).await? } else { None };
        Ok::<_, Refusal>((guest, place))
    };
    let (guest, place) = within(deadline, seat.control(), seat.unless_ousted(welcome)).await?;
    let Arriving { service, listener, at, .. } = arrival;
    let entrance = Entrance { house, desk, seat, whence, service, listener, at, deadline, tls, socket, guest, place };
    // Its own allocation, made now: whoever never comes as far as this takes a fraction of it.
    Box::pin(shake(entrance)).await
}

/// Who is at the door of TLS, and what for.
struct Entrance<'e> {
    house: &'e Arc<House>,
    desk: &'e Rc<Desk>,
    seat: &'e Seat,
    whence: &'e Cell<Whence>,
    service: usize,
    listener: usize,
    at: Moment,
    deadline: tokio::time::Instant,
    /// The verifier in force when it came; none for clients in plain text.
    tls: Option<Arc<Tls>>,
    socket: TcpStream,
    guest: Guest,
    place: Option<Place>,
}

/// Shakes hands, where there is TLS.
async fn shake(entrance: Entrance<'_>) -> Result<Running, Refusal> {
    let Entrance { house, desk, seat, whence, service, listener, at, deadline, tls, socket, guest, place } = entrance;
    let vetted = Vetted { house, desk, seat, whence, service, listener, at, guest };
    let Some(tls) = tls else {
        drop(place);
        let (side, identity) = (PlainPipe::new(Plain::Tcp(Arc::new(socket))), Arc::new(Identity::anonymous()));
        let shaken = Shaken { side, identity, chain: Chain::default() };
        return admit(vetted, shaken, |facts, _, _| facts).await.map(Running::Plain);
    };
    let at = house.services.get(service).ok_or_else(|| Refusal::new("internal", "no such service"))?;
    let accepted = async { handshake::accept(&tls, &at.chains, socket).await.map_err(Refusal::from) };
    let Accepted { pipe, identity, chain, sni } = within(deadline, seat.control(), accepted).await?;
    drop(place);

    // A reload may have come during the handshake, and this connection was not yet there to be asked again.
    let current = at.tls.as_ref().map(Store::current);
    let (came, now) = (vetted.at.wall_us / 1_000_000, desk.now().wall_us / 1_000_000);
    // Or a list may have come to its end.
    if let Some(current) = current.filter(|current| !Arc::ptr_eq(current, &tls) || current.has_turned(came, now)) {
        current.recheck(&chain).map_err(|error| failure::explain(&error, chain.first().map(AsRef::as_ref)))?;
    }
    let shaken = Shaken { side: pipe, identity, chain };
    let complete = |facts, pipe: &_, identity: &_| with_tls(facts, pipe, sni.as_deref(), identity);
    admit(vetted, shaken, complete).await.map(Running::Tls)
}

/// A client of a Unix socket: in plain text, and known by its process.
async fn from_this_host(vetted: Vetted<'_>, socket: UnixStream) -> Result<Running, Refusal> {
    let service = vetted.house.services.get(vetted.service);
    if service.is_none_or(|service| service.tls.is_some()) {
        return Err(Refusal::new("internal", "a Unix socket before TLS"));
    }
    let process = caller::process(&socket);
    let (side, identity) = (PlainPipe::new(Plain::Unix(Arc::new(socket))), Arc::new(Identity::anonymous()));
    let shaken = Shaken { side, identity, chain: Chain::default() };
    let complete = |facts: ConnectionFacts, _: &_, _: &_| match process {
        Some(process) => facts.with_process(process),
        None => facts,
    };
    admit(vetted, shaken, complete).await.map(Running::Plain)
}

/// What is known of a connection besides its client's side.
struct Vetted<'e> {
    house: &'e Arc<House>,
    desk: &'e Rc<Desk>,
    seat: &'e Seat,
    whence: &'e Cell<Whence>,
    service: usize,
    listener: usize,
    at: Moment,
    guest: Guest,
}

/// Finds the role, and connects to Redis.
async fn admit<D: Downstream + Unpin>(
    Vetted { house, desk, seat, whence, service: index, listener, at, guest }: Vetted<'_>,
    Shaken { mut side, identity, chain }: Shaken<D>,
    complete: impl FnOnce(ConnectionFacts, &D, &Identity) -> ConnectionFacts,
) -> Result<Pump<D, Link, Session>, Refusal> {
    let internal = |what: &str| Refusal::new("internal", what);
    let service = house.services.get(index).ok_or_else(|| internal("no such service"))?;
    let Guest { admitted, dst, words, .. } = guest;
    let live = service.live.load_full();
    let admitted = live.admission.admit(admitted.src()).map_err(|reason| Refusal::at_the_door(reason.word(), ""))?;
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
    let identity_name = peer.identity().display_name();
    let place = match house.permits.take_role(index, &peer.role().name, &identity_name, terms.caps) {
        Ok(place) => place,
        Err(full) => {
            say_goodbye(&mut side).await;
            let whose = if full == Full::Identity { "of this identity " } else { "" };
            let detail = format!("role {} has as many connections {whose}as it may have", peer.role().name);
            let mut refusal = Refusal::new(full.word(), detail);
            if let Some(leaf) = chain.first() {
                refusal.name(peer::names_for_record(leaf));
            }
            return Err(refusal);
        }
    };
    let name = house.connection_name();
    let standing = Standing::new(&name, peer.clone(), place, terms, &live, chain);
    seat.stand(standing);

    let config = terms.sessions.get(listener).ok_or_else(|| internal("no such listener"))?;
    let facts = terms.facts(&name, &peer, &house.common.load().outlets);
    let mut facts = complete(facts, &side, peer.identity());
    if let Some(via) = whence.get().via {
        facts = facts.with_proxy(via, &words);
    }
    let line = Line { src: peer.src(), dst, name: &name };
    let gate = gate::gate(house, gate::Door { dst, chair: seat.chair() });
    let mut session = desk.record(|tools| {
        let turn =
            Turn { now: at, recorder: &mut tools.recorder, memory: &mut tools.memory, down_pending: 0, up_pending: 0 };
        Session::new(Arc::clone(config), peer, facts, &turn)
    });
    let connected = unless_ordered(seat.control(), service.connect(&house.clock, &live, Some(&line))).await;
    if let Ok(Ok(link)) = &connected {
        seat.chair().reach(Way::by(&live, link));
    }
    let (up, greeting, words) = open(desk, &mut session, connected);
    let mut pump =
        Pump::new(session, side, up, Rc::clone(desk), Rc::clone(seat.control()), live.flush_timeout).with_gate(gate);
    pump.preload(&greeting, &words);
    Ok(pump)
}

/// The future's output within the deadline, unless the connection is told to leave first.
async fn within<T>(
    deadline: tokio::time::Instant,
    control: &Control,
    future: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    match tokio::time::timeout_at(deadline, unless_ordered(control, future)).await {
        Err(_) => Err(Failure::timeout().into()),
        Ok(Err(_)) => Err(Refusal::new("drain", "the proxy is shutting down")),
        Ok(Ok(done)) => done,
    }
}

/// Tells the session what became of its upstream; what it says to either side leaves with the pump's first poll.
fn open(
    desk: &Desk,
    session: &mut Session,
    connected: Result<Result<Link, ConnectError>, Order>,
) -> (Option<Link>, Vec<u8>, Vec<u8>) {
    desk.record(|tools| {
        let now = tools.clock.now();
        let mut turn =
            Turn { now, recorder: &mut tools.recorder, memory: &mut tools.memory, down_pending: 0, up_pending: 0 };
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
            Err(Order::Drain(reason) | Order::Retire(reason)) => {
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

fn with_tls(
    facts: ConnectionFacts,
    pipe: &TlsPipe<TcpStream>,
    sni: Option<&str>,
    identity: &Identity,
) -> ConnectionFacts {
    facts.with_tls(&TlsFacts {
        version: pipe.protocol(),
        cipher: pipe.cipher(),
        resumed: pipe.resumed(),
        sni: sni.unwrap_or_default(),
        cert_sha256: &identity.sha256,
        cert_serial: &identity.serial,
        cert_not_after: identity.not_after,
    })
}

fn record_refusal(desk: &Desk, whence: Whence, service: &str, listener: &str, refusal: &Refusal) {
    let Whence { src, via } = whence;
    let Refusal { stage, reason, ref detail, hint, ref unverified } = *refusal;
    let event = match stage {
        Stage::Check => return,
        Stage::Door => ProcessEvent::Refused { src, service, listener, reason, via, detail },
        Stage::Handshake => ProcessEvent::HandshakeFailure { src, service, reason, detail, hint, unverified, via },
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
    seat: Seat,
    house: Arc<House>,
    service: usize,
}

impl<D: Downstream + Unpin> Future for Seated<D> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let over = Pin::new(&mut this.pump).poll(cx);
        if over.is_ready()
            && this.pump.machine().was_refused()
            && let (Some(service), Some(peer)) = (this.house.services.get(this.service), this.seat.chair().peer())
        {
            service.was_refused(&peer.role().name);
            this.house.refusal.notify_one();
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::{contained, unless_ordered};
    use crate::{
        net::control::{Control, Order},
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
