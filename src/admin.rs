//! The admin endpoint: `/metrics`, `/livez`, `/readyz`, `/bans`, on an address of its own, and the admin socket.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | 200, Prometheus' text format |
//! | `/livez` | 200 while every worker answers within [`LIVE_WITHIN`], else 503: restart the process |
//! | `/readyz` | 200 while every condition holds, else 503: send no clients; one line per condition either way |
//! | `/bans` | 200, one line per address or certificate that is sent away, and for how long; DELETE forgets all of them, and `/bans/WHO` one |
//! | anything else | 404; 405 for another method than GET and HEAD |
//!
//! The address serves whoever reaches it, so it says nothing that an operator would not put on a dashboard, and changes
//! nothing but bans, those only for who is on this host and asks by its address. The *admin socket* ([`crate::net::socket_file`]) is a Unix
//! socket with file permissions; whoever may write to it is an operator and may do more ([`operator`]).
//!
//! Neither can be used up: at most [`CONNECTIONS_MAX`] connections at a time each (further ones wait in the backlog), one
//! request on each, [`HEADER_WITHIN`] for its header, [`REQUEST_WITHIN`] for all of it (but for the live stream).

pub mod operator;
mod serve;

pub use serve::{serve, serve_operators};

use crate::{
    metrics::{ANSWER_WITHIN, Metrics},
    policy::bans::Banned,
    session::error::Operator,
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{
    Method, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};
use operator::Reach;
use std::{convert::Infallible, fmt, fmt::Write as _, sync::Arc, time::Duration};

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

/// What is answered.
type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// Whoever reaches the address.
    Anybody,
    /// Somebody on this host, by its address.
    SameHost,
    /// Whoever may open the admin socket.
    Operator(Operator),
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
struct Page<'r> {
    method: &'r Method,
    path: &'r str,
    query: &'r str,
}

impl Page<'_> {
    /// Whether it only looks.
    fn reads(&self) -> bool {
        *self.method == Method::GET || *self.method == Method::HEAD
    }
}

/// A condition's look at the process: `Err` says in a few words why it does not hold.
type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Something that readiness does not hang on.
type Note = Box<dyn Fn() -> Option<String> + Send + Sync>;

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
    reach: Option<Reach>,
    conditions: Vec<(&'static str, Check)>,
    notes: Vec<(&'static str, Note)>,
}

impl AdminState {
    /// Ready from the start, until conditions are added.
    #[must_use]
    pub const fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, warden: None, reach: None, conditions: Vec::new(), notes: Vec::new() }
    }

    /// Adds what answers about bans.
    #[must_use]
    pub fn with_bans(mut self, warden: impl Fn(&BanOrder<'_>) -> BanAnswer + Send + Sync + 'static) -> Self {
        self.warden = Some(Box::new(warden));
        self
    }

    /// Adds what operators may reach.
    #[must_use]
    pub fn with_operators(mut self, reach: Reach) -> Self {
        self.reach = Some(reach);
        self
    }

    /// `/bans`: whoever reaches the address may see who is banned; only this host may change it, and no page in a browser
    /// (whose requests name another host, or cannot be a DELETE without being allowed to).
    fn bans(&self, warden: &Warden, page: &Page<'_>, who: Who) -> Answer {
        let one = page.path.strip_prefix("/bans/").filter(|origin| !origin.is_empty());
        match *page.method {
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
            Method::DELETE if who == Who::Anybody => {
                response(StatusCode::FORBIDDEN, "bans are cleared from this host only, by its own address\n".into())
            }
            Method::DELETE => {
                let BanAnswer::Cleared(count) = warden(&BanOrder::Clear(one)) else { return wrong_answer() };
                if let Who::Operator(operator) = who {
                    tracing::info!(by = %operator, count, "bans were cleared over the admin socket");
                }
                let status = if count == 0 && one.is_some() { StatusCode::NOT_FOUND } else { StatusCode::OK };
                response(status, format!("cleared {count}\n"))
            }
            _ => not_allowed("GET, HEAD, DELETE"),
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

    /// Adds something that `/readyz` tells where there is something to tell, and that makes nobody unready.
    #[must_use]
    pub fn note(mut self, name: &'static str, note: impl Fn() -> Option<String> + Send + Sync + 'static) -> Self {
        self.notes.push((name, Box::new(note)));
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
        for (name, note) in &self.notes {
            if let Some(said) = note() {
                text.extend(["note ", name, ": ", &said, "\n"]);
            }
        }
        (status, text)
    }

    async fn answer(&self, page: &Page<'_>, who: Who) -> Answer {
        if let (Who::Operator(operator), Some(reach)) = (who, &self.reach)
            && let Some(answer) = reach.answer(page, operator).await
        {
            return answer;
        }
        let path = page.path;
        if let Some(warden) = self.warden.as_ref().filter(|_| path == "/bans" || path.starts_with("/bans/")) {
            return self.bans(warden, page, who);
        }
        if !matches!(path, "/metrics" | "/livez" | "/readyz") {
            let more = if matches!(who, Who::Operator(_)) { ", /conns, /audit and /reload" } else { "" };
            let text = format!("not found; there are /metrics, /livez, /readyz and /bans{more}\n");
            return response(StatusCode::NOT_FOUND, text);
        }
        if !page.reads() {
            return not_allowed("GET, HEAD");
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

fn wrong_answer() -> Answer {
    response(StatusCode::INTERNAL_SERVER_ERROR, "another question was answered\n".into())
}

fn not_allowed(methods: &'static str) -> Answer {
    let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, format!("only {methods}\n"));
    refused.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    refused
}

fn response(status: StatusCode, text: String) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
