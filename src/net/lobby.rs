//! Between the acceptor and TLS: who is it really, may it be here, and when is there a place for its handshake?

use super::{
    caller::HERE,
    connection::{Origin, Refusal, Whence},
    desk::Desk,
    handshakes::Place,
    preface::{self, Opening, Trouble},
    proxy_protocol::{Header, Whom},
    seats::Seat,
    service::{House, Live},
};
use crate::{
    moment::Moment,
    net::clock::micros,
    policy::{bans, network::Admitted},
};
use std::{cell::Cell, net::SocketAddr, sync::Arc};
use tokio::net::TcpStream;

/// What is asked with.
pub(super) struct Lobby<'l> {
    pub(super) house: &'l Arc<House>,
    pub(super) desk: &'l Desk,
    pub(super) seat: &'l Seat,
    pub(super) live: &'l Live,
    /// When it was accepted.
    pub(super) at: Moment,
    /// Who it is by now, for the record of a refusal.
    pub(super) whence: &'l Cell<Whence>,
}

/// Who may shake hands.
pub(super) struct Guest {
    /// The proof that its address may be here.
    pub(super) admitted: Admitted,
    /// What it connected to.
    pub(super) dst: SocketAddr,
    /// What its proxy says of it besides.
    pub(super) words: Vec<String>,
    /// The proxy spoke for itself.
    own: bool,
}

impl Guest {
    /// One that has come by a Unix socket.
    pub(super) const fn of_this_host(admitted: Admitted) -> Self {
        Self { admitted, dst: HERE, words: Vec::new(), own: false }
    }
}

impl Lobby<'_> {
    /// Reads a trusted proxy's header, and asks of the address that it names what the acceptor asks of others.
    pub(super) async fn identify(
        &self,
        socket: &TcpStream,
        origin: Origin,
        local: SocketAddr,
    ) -> Result<Guest, Refusal> {
        let (proxy, timeout) = match origin {
            Origin::Direct(admitted) => return Ok(Guest { admitted, dst: local, words: Vec::new(), own: false }),
            Origin::Behind { proxy, timeout } => (proxy, timeout),
        };
        let deadline = self.house.clock.instant(self.at.mono_us.saturating_add(micros(timeout)));
        let header = match tokio::time::timeout_at(deadline, preface::header(socket)).await {
            Ok(header) => header.map_err(refuse)?,
            Err(_) => {
                let detail = format!("no whole header of the PROXY protocol came within {timeout:?}");
                return Err(Refusal::at_the_door("proxy-timeout", detail));
            }
        };
        let Header { whom, tlvs, .. } = header;
        let (src, dst, own) = match whom {
            Whom::Client { src, dst } => (src, dst, false),
            Whom::Proxy => (proxy, local, true),
        };
        if own {
            // A check of health mostly, which closes now. Whoever goes on must be admitted as what he is.
            if !preface::speaks(socket).await.map_err(socket_failed)? {
                return Err(Refusal::check());
            }
        } else {
            self.whence.set(Whence { src, via: Some(proxy) });
        }
        let refused = |reason| Refusal::at_the_door(reason, "");
        let admitted = self.live.admission.admit(src).map_err(|reason| refused(reason.word()))?;
        let src = admitted.src();
        if !own {
            self.whence.set(Whence { src, via: Some(proxy) });
        }
        let now = self.desk.now();
        if self.house.bans.bans(&[bans::Origin::address(src.ip())], now) {
            return Err(refused("banned"));
        }
        if !self.house.permits.may_accept(src.ip(), now) {
            return Err(refused("accept-rate"));
        }
        self.seat.comes_from(src, self.live.per_address_max).map_err(|full| refused(full.word()))?;
        Ok(Guest { admitted, dst, words: tlvs.words().to_vec(), own })
    }

    /// A place for a handshake, once the client's first record is whole.
    pub(super) async fn place(&self, socket: &TcpStream, guest: &Guest) -> Result<Option<Place>, Refusal> {
        match preface::opening(socket).await.map_err(socket_failed)? {
            // TLS says why it is none.
            Opening::End => return Ok(None),
            Opening::Header => return Err(self.unwanted_header(guest)),
            Opening::Tls => {}
        }
        let address = guest.admitted.src().ip();
        if !self.house.permits.may_shake(address, self.desk.now()) {
            return Err(Refusal::at_the_door("handshake-rate", ""));
        }
        match self.house.permits.handshakes.enter(address).await {
            Some(place) => Ok(Some(place)),
            None => Err(Refusal::at_the_door("handshake-queue", "")),
        }
    }

    fn unwanted_header(&self, guest: &Guest) -> Refusal {
        let detail = if guest.own || self.whence.get().via.is_some() {
            "a second header of the PROXY protocol: one proxy behind another must pass the first one's on"
        } else {
            "a header of the PROXY protocol from an address that `proxy_protocol.trusted` of the listener does not name"
        };
        Refusal::at_the_door("proxy-untrusted", detail)
    }
}

/// What is said of a header that did not come.
fn refuse(trouble: Trouble) -> Refusal {
    match trouble {
        Trouble::Silent => {
            Refusal::at_the_door("proxy-missing", "the proxy closed without a byte; a health check needs a header too")
        }
        Trouble::Cut => Refusal::at_the_door("proxy-header", "the proxy closed within its header"),
        Trouble::Missing => Refusal::at_the_door(
            "proxy-missing",
            "a trusted proxy must say for whom it speaks: it needs `send-proxy-v2` (HAProxy), `proxy_protocol on` (nginx)",
        ),
        Trouble::Wrong(fault) => Refusal::at_the_door("proxy-header", fault.to_string()),
        Trouble::Socket(error) => socket_failed(error),
    }
}

fn socket_failed(error: std::io::Error) -> Refusal {
    Refusal::new("socket", format!("the socket failed: {error}"))
}
