//! Who asks, and for how long: the connections of the admin endpoint.

use super::{
    ACCEPT_PAUSE, AdminState, Answer, CONNECTIONS_MAX, HEADER_BYTES_MAX, HEADER_WITHIN, Page, REQUEST_WITHIN, Who,
};
use crate::session::error::Operator;
use hyper::{Request, body::Incoming, header::HOST, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

/// Serves an address until it is dropped.
pub async fn serve(listener: TcpListener, state: impl Into<Arc<AdminState>>) {
    accept_all(listener, state.into()).await;
}

/// Serves the admin socket until it is dropped.
pub async fn serve_operators(listener: UnixListener, state: Arc<AdminState>) {
    accept_all(listener, state).await;
}

/// Where connections come from.
trait Door: Sync {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next one, and who it is.
    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Who)>> + Send;
}

impl Door for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<(TcpStream, Who)> {
        let (stream, peer) = self.accept().await?;
        Ok((stream, if peer.ip().to_canonical().is_loopback() { Who::SameHost } else { Who::Anybody }))
    }
}

impl Door for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<(UnixStream, Who)> {
        let (stream, _) = self.accept().await?;
        // Without the kernel's word nobody is an operator.
        let who = stream
            .peer_cred()
            .map_or(Who::Anybody, |peer| Who::Operator(Operator { uid: peer.uid(), pid: peer.pid() }));
        Ok((stream, who))
    }
}

async fn accept_all(door: impl Door, state: Arc<AdminState>) {
    // Each door has places of its own: whoever fills the address keeps no operator out.
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // The place first: what cannot be served waits in the kernel's backlog and costs nothing here.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match door.next().await {
            Ok((stream, who)) => {
                let state = Arc::clone(&state);
                tokio::spawn(async move {
                    serve_one(stream, who, state).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the admin endpoint cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_one(stream: impl AsyncRead + AsyncWrite + Unpin, who: Who, state: Arc<AdminState>) {
    let lasting = Arc::new(AtomicBool::new(false));
    let lasts = Arc::clone(&lasting);
    let service = service_fn(move |request: Request<Incoming>| {
        let (state, lasts) = (Arc::clone(&state), Arc::clone(&lasts));
        async move {
            let who = if who == Who::SameHost && !names_an_address(&request) { Who::Anybody } else { who };
            let path = unescaped(request.uri().path());
            let query = request.uri().query().unwrap_or_default();
            let page = Page { method: request.method(), path: &path, query };
            // A reload takes as long as what it reads.
            lasts.store(page.path == "/reload" && matches!(who, Who::Operator(_)), Ordering::Relaxed);
            let answer: Answer = state.answer(&page, who).await;
            lasts.store(
                page.path == "/reload" || page.path == "/audit" && answer.status().is_success(),
                Ordering::Relaxed,
            );
            Ok::<_, Infallible>(answer)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_WITHIN)
        .keep_alive(false)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = pin!(served);
    let served = match timeout(REQUEST_WITHIN, served.as_mut()).await {
        Ok(served) => served,
        // The live stream lasts for as long as somebody reads it, and a reload has a time of its own.
        Err(_) if lasting.load(Ordering::Relaxed) => served.await,
        // Whoever is too slow is cut off; there is nothing to tell them.
        Err(_) => return,
    };
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection ended early");
    }
}

/// Whether a request was meant for an address of this host, and not for a name that somebody let point here.
fn names_an_address(request: &Request<Incoming>) -> bool {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name);
    name == "localhost" || name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()
}

/// A path with each `%xx` as the byte it stands for; as it came, if that is no text.
fn unescaped(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((byte, more)) = rest.split_first() {
        let pair = more.get(..2).filter(|_| *byte == b'%').and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(value) => {
                bytes.push(value);
                rest = more.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*byte);
                rest = more;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::unescaped;

    #[test]
    fn a_path_is_read_as_it_was_meant() {
        for (path, expected) in [
            ("/bans/10.0.0.1", "/bans/10.0.0.1"),
            ("/bans/2001%3adb8%3A%3a%2f64", "/bans/2001:db8::/64"),
            ("/bans/%", "/bans/%"),
            ("/bans/%zz%4", "/bans/%zz%4"),
            ("/bans/%ff", "/bans/%ff"),
        ] {
            assert_eq!(unescaped(path), expected, "{path}");
        }
    }
}
