//! From an accepted, admitted socket to an open pipe and a verified identity, or to a reason.

use rustls::server::Acceptor;
use std::{
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::LazyConfigAcceptor;

use super::{
    chains::{Chain, Chains},
    failure::{self, Failure},
    peer::{self, UnverifiedNames},
    pipe::TlsPipe,
    server::{Tls, Witness},
    socket::{RecordEdge, Socket},
};
use crate::policy::identity::Identity;

/// How long a refused peer's remaining bytes are read and thrown away, so that closing does not turn into a reset that
/// overtakes the alert which says why.
const LINGER: Duration = Duration::from_millis(250);

/// How many such bytes.
const LINGER_BYTES: u64 = 64 * 1024;

/// The first byte of a TLS handshake record (RFC 8446, 5.1).
pub(super) const HANDSHAKE_RECORD: u8 = 22;

/// The fatal alert `unrecognized_name` (RFC 6066, 3), in a record of its own before any key (RFC 8446, 6): rustls has no
/// way to send it.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// An open connection and who is at its other end.
#[derive(Debug)]
pub struct Accepted<S> {
    /// The connection.
    pub pipe: TlsPipe<S>,
    /// What the verified certificate says; [`Identity::anonymous`] where none was shown and none need be.
    pub identity: Arc<Identity>,
    /// The verified chain; empty where none was shown.
    pub chain: Chain,
    /// The name that the client asked for, as [`shown_name`] shows it.
    pub sni: Option<String>,
}

/// No connection, and why.
#[derive(Debug)]
pub struct Refused {
    /// What was wrong, for the record, the log and the metric.
    pub failure: Failure,
    /// The names in the certificate that was presented and not believed, where one was.
    pub unverified: Option<UnverifiedNames>,
    /// The name that the client asked for, as [`shown_name`] shows it.
    pub sni: Option<String>,
}

/// What a record shows of the name that a client asked for: escaped and cut, though rustls hears nothing but letters,
/// digits, `-`, `_` and `.`, at most 253 of them.
fn shown_name(name: &str) -> String {
    peer::cut(name)
}

/// Shakes hands on an admitted socket, as the server of `tls`; `chains` has what other connections have shown. The deadline is the caller's: drop the future and write
/// [`Failure::timeout`].
///
/// A resumed session is verified again with the verifier in force now: expiry and revocation since the first handshake
/// count. What the names mean (admission, role) is the caller's next step, the same for both kinds.
///
/// # Errors
///
/// [`Refused`]; the peer was sent the alert, and the socket is closed.
pub async fn accept<S: Socket>(tls: &Tls, chains: &Chains, io: S) -> Result<Accepted<S>, Refused> {
    let mut hello = LazyConfigAcceptor::new(Acceptor::default(), Watched::new(io));
    let mut start = match (&mut hello).await {
        Ok(start) => start,
        Err(error) => {
            let Some(watched) = hello.take_io() else {
                let failure = Failure::new("socket", format!("the socket failed: {}", error.kind()), None);
                return Err(Refused { failure, unverified: None, sni: None });
            };
            let failure = watched.explain(&error, None);
            part(watched).await;
            return Err(Refused { failure, unverified: None, sni: None });
        }
    };
    let name = start.client_hello().server_name().map(str::to_owned);
    let sni = name.as_deref().map(shown_name);
    if name.is_some_and(|name| !tls.serves(&name)) {
        // A socket that does not take seven bytes is not waited for.
        let _ = tokio::time::timeout(LINGER, start.io.write_all(&UNRECOGNIZED_NAME)).await;
        part(start.io).await;
        return Err(Refused { failure: failure::unknown_name(), unverified: None, sni });
    }
    let mut handshake = pin!(start.into_stream(tls.config()).into_fallible());
    // The verifier runs inside this poll, on this thread: what it saw in a poll that failed belongs to this connection.
    let done = std::future::poll_fn(|cx| {
        Witness::forget();
        handshake.as_mut().poll(cx).map(|done| done.map_err(|failed| (failed, Witness::recall())))
    })
    .await;
    match done {
        Ok(stream) => {
            let (watched, session) = stream.into_inner();
            let pipe = TlsPipe::new(watched.io, session, watched.edge);
            match identify(tls, chains, &pipe) {
                Ok((chain, identity)) => Ok(Accepted { pipe, identity, chain, sni }),
                Err(refused) => {
                    let mut pipe = pipe;
                    // The session itself is sound, so the peer gets an orderly end; why is for the record.
                    let _ = tokio::time::timeout(LINGER, std::future::poll_fn(|cx| pipe.poll_close(cx))).await;
                    Err(Refused { sni, ..*refused })
                }
            }
        }
        Err(((error, watched), leaf)) => {
            let failure = watched.explain(&error, leaf.as_deref());
            part(watched).await;
            Err(Refused { failure, unverified: leaf.map(|leaf| peer::names_for_record(&leaf)), sni })
        }
    }
}

/// Ends a socket on which nothing was agreed, so that the alert arrives.
async fn part<S: Socket>(mut watched: Watched<S>) {
    let _ = tokio::time::timeout(LINGER, async {
        let _ = watched.io.shutdown().await;
        let _ = tokio::io::copy(&mut watched.io.take(LINGER_BYTES), &mut tokio::io::sink()).await;
    })
    .await;
}

fn identify<S: Socket>(tls: &Tls, chains: &Chains, pipe: &TlsPipe<S>) -> Result<(Chain, Arc<Identity>), Box<Refused>> {
    let chain = pipe.peer_chain();
    let refused = |failure| {
        let unverified = chain.first().map(|leaf| peer::names_for_record(leaf));
        Box::new(Refused { failure, unverified, sni: None })
    };
    if pipe.resumed() {
        tls.recheck(chain).map_err(|error| refused(failure::explain(&error, chain.first().map(AsRef::as_ref))))?;
    }
    if chain.is_empty() {
        // Only where none is asked for; asked again, so that this room never depends on what rustls did before.
        let anonymous = tls.recheck(chain).map(|()| (Chain::default(), Arc::new(Identity::anonymous())));
        return anonymous.map_err(|error| refused(failure::explain(&error, None)));
    }
    chains.share(chain, peer::identity).map_err(|error| {
        refused(Failure::new("bad-name", error.to_string(), Some("issue the certificate again without it")))
    })
}

/// The socket during the handshake: remembers how it began and where its records end.
#[derive(Debug)]
pub(super) struct Watched<S> {
    pub(super) io: S,
    pub(super) edge: RecordEdge,
    pub(super) first: Option<u8>,
}

impl<S> Watched<S> {
    pub(super) fn new(io: S) -> Self {
        Self { io, edge: RecordEdge::default(), first: None }
    }

    fn explain(&self, error: &io::Error, leaf: Option<&[u8]>) -> Failure {
        match (self.first, error.kind()) {
            (Some(first), _) if first != HANDSHAKE_RECORD => failure::not_tls(first),
            (None, io::ErrorKind::UnexpectedEof) => {
                Failure::new("connect-close", "the client closed without a byte, as port probes do", None)
            }
            (_, io::ErrorKind::UnexpectedEof) => {
                Failure::new("eof", "the client closed in the middle of the handshake", None)
            }
            _ => match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(error) => failure::explain(error, leaf),
                None => Failure::new("socket", format!("the socket failed: {}", error.kind()), None),
            },
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let done = Pin::new(&mut self.io).poll_read(cx, buf);
        let fresh = buf.filled().get(before..).unwrap_or_default();
        self.first = self.first.or(fresh.first().copied());
        self.edge.feed(fresh);
        done
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
