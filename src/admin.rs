//! The admin endpoint: `/metrics`, `/livez`, `/readyz`, on an address of its own.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | 200, Prometheus' text format |
//! | `/livez` | 200 while every worker answers within [`LIVE_WITHIN`], else 503: restart the process |
//! | `/readyz` | 200 while every condition holds, else 503: send no clients; one line per condition either way |
//! | `/bans` | 200, one line per address or certificate that is sent away, and for how long; DELETE forgets all of them, and `/bans/WHO` one |
//! | anything else | 404; 405 for another method than GET and HEAD |
//!
//! It serves whoever reaches its address, so it says nothing that an operator would not put on a dashboard, changes
//! nothing but bans, those only for who is on this host and asks by its address, and cannot be used up: at most [`CONNECTIONS_MAX`] connections at a time (further ones wait in the
//! backlog), one request on each, [`HEADER_WITHIN`] for its header, [`REQUEST_WITHIN`] for all of it.

use crate::{
    metrics::{ANSWER_WITHIN, Metrics},
    policy::bans::Banned,
};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, fmt, fmt::Write as _, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

/// Connections served at a time.
pub const CONNECTIONS_MAX: usize = 32;
/// Time for a request's header to arrive.
pub const HEADER_WITHIN: Duration = Duration::from_secs(5);
/// Time for a request and its answer together.
pub const REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// A worker that does not come to its turn for so long is not alive.
pub const LIVE_WITHIN: Duration = Duration::from_secs(3);
/// Bytes of a request's header.
const HEADER_BYTES_MAX: usize = 8 * 1024;
/// Pause after `accept` failed (no descriptors left): trying at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A condition's look at the process: `Err` says in a few words why it does not hold.
type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What is to be done about bans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BanOrder<'o> {
    /// Say who is banned.
    List,
    /// Say how many are.
    Count,
    /// Forget one, as it was listed or an address in its network; or everybody.
    Clear(Option<&'o str>),
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BanAnswer {
    /// Who is banned.
    Listed(Vec<Banned>),
    /// How many are banned.
    Counted {
        /// Addresses, an IPv6 one for its /64.
        addresses: u64,
        /// Certificates.
        certificates: u64,
    },
    /// How many were forgotten.
    Cleared(usize),
}

/// Does something about bans.
type Warden = Box<dyn Fn(&BanOrder<'_>) -> BanAnswer + Send + Sync>;

/// What the endpoint shows.
pub struct AdminState {
    metrics: Arc<Metrics>,
    warden: Option<Warden>,
    conditions: Vec<(&'static str, Check)>,
}

impl AdminState {
    /// Ready from the start, until conditions are added.
    #[must_use]
    pub const fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, warden: None, conditions: Vec::new() }
    }

    /// Adds what answers about bans.
    #[must_use]
    pub fn with_bans(mut self, warden: impl Fn(&BanOrder<'_>) -> BanAnswer + Send + Sync + 'static) -> Self {
        self.warden = Some(Box::new(warden));
        self
    }

    /// `/bans`: whoever reaches the address may see who is banned; only this host may change it, and no page in a browser
    /// (whose requests name another host, or cannot be a DELETE without being allowed to).
    fn bans(&self, warden: &Warden, method: &Method, path: &str, trusted: bool) -> Response<Full<Bytes>> {
        let one = path.strip_prefix("/bans/").filter(|origin| !origin.is_empty());
        match *method {
            Method::GET | Method::HEAD if one.is_none() => {
                let BanAnswer::Listed(banned) = warden(&BanOrder::List) else { return wrong_answer() };
                let mut text = String::new();
                for each in banned {
                    let left_s = each.left_us.div_ceil(1_000_000);
                    // Writing to a string cannot fail.
                    let _ = writeln!(text, "{} failures={} left={left_s}s", each.origin, each.failures);
                }
                response(StatusCode::OK, text)
            }
            Method::DELETE if !trusted => {
                response(StatusCode::FORBIDDEN, "bans are cleared from this host only, by its own address\n".into())
            }
            Method::DELETE => {
                let BanAnswer::Cleared(count) = warden(&BanOrder::Clear(one)) else { return wrong_answer() };
                let status = if count == 0 && one.is_some() { StatusCode::NOT_FOUND } else { StatusCode::OK };
                response(status, format!("cleared {count}\n"))
            }
            _ => {
                let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, "only GET, HEAD and DELETE\n".into());
                refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, DELETE"));
                refused
            }
        }
    }

    /// Adds a condition for `/readyz`. `check` is called at every request, must not block, and its reason is shown to
    /// whoever reaches the address.
    #[must_use]
    pub fn require(
        mut self,
        name: &'static str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.conditions.push((name, Box::new(check)));
        self
    }

    fn readiness(&self) -> (StatusCode, String) {
        let mut status = StatusCode::OK;
        let mut text = String::new();
        for (name, check) in &self.conditions {
            match check() {
                Ok(()) => text.extend(["ok ", name, "\n"]),
                Err(reason) => {
                    status = StatusCode::SERVICE_UNAVAILABLE;
                    text.extend(["failed ", name, ": ", &reason, "\n"]);
                }
            }
        }
        (status, text)
    }

    async fn answer(&self, method: &Method, path: &str, trusted: bool) -> Response<Full<Bytes>> {
        if let Some(warden) = self.warden.as_ref().filter(|_| path == "/bans" || path.starts_with("/bans/")) {
            return self.bans(warden, method, path, trusted);
        }
        if !matches!(path, "/metrics" | "/livez" | "/readyz") {
            return response(
                StatusCode::NOT_FOUND,
                "not found; there are /metrics, /livez, /readyz and /bans\n".into(),
            );
        }
        if method != Method::GET && method != Method::HEAD {
            let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".into());
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        match path {
            "/metrics" => {
                self.metrics.refresh(ANSWER_WITHIN).await;
                if let Some(BanAnswer::Counted { addresses, certificates }) =
                    self.warden.as_ref().map(|warden| warden(&BanOrder::Count))
                {
                    self.metrics.set_bans(addresses, certificates);
                }
                match self.metrics.render() {
                    Ok(text) => {
                        let mut shown = response(StatusCode::OK, text);
                        let format = HeaderValue::from_static(prometheus::TEXT_FORMAT);
                        shown.headers_mut().insert(CONTENT_TYPE, format);
                        shown
                    }
                    Err(error) => {
                        tracing::error!(%error, "the metrics cannot be encoded");
                        response(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be encoded\n".into())
                    }
                }
            }
            "/livez" if self.metrics.refresh(LIVE_WITHIN).await => response(StatusCode::OK, "ok\n".into()),
            "/livez" => response(StatusCode::SERVICE_UNAVAILABLE, "failed a worker does not answer\n".into()),
            _ => {
                let (status, text) = self.readiness();
                response(status, text)
            }
        }
    }
}

impl fmt::Debug for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.conditions.iter().map(|(name, _)| name).collect();
        f.debug_struct("AdminState").field("conditions", &names).finish_non_exhaustive()
    }
}

fn wrong_answer() -> Response<Full<Bytes>> {
    response(StatusCode::INTERNAL_SERVER_ERROR, "another question was answered\n".into())
}

/// Whether a request was meant for an address of this host, and not for a name that somebody let point here.
fn names_an_address(request: &Request<Incoming>) -> bool {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name);
    name == "localhost" || name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()
}

fn response(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, state: AdminState) {
    let state = Arc::new(state);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // The place first: what cannot be served waits in the kernel's backlog and costs nothing here.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let state = Arc::clone(&state);
                tokio::spawn(async move {
                    // Whoever is too slow is cut off; there is nothing to tell them.
                    drop(timeout(REQUEST_WITHIN, serve_one(stream, state)).await);
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

async fn serve_one(stream: TcpStream, state: Arc<AdminState>) {
    let ours = stream.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback());
    let service = service_fn(move |request: Request<Incoming>| {
        let state = Arc::clone(&state);
        async move {
            let trusted = ours && names_an_address(&request);
            Ok::<_, Infallible>(state.answer(request.method(), request.uri().path(), trusted).await)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_WITHIN)
        .keep_alive(false)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection ended early");
    }
}
