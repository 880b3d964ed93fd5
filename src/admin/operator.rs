//! What only the admin socket serves: live connections, the live stream, bans by whoever may open it.
//!
//! | request | answer |
//! |---|---|
//! | `GET /conns` | 200, one JSON object a line for each connection; see [`line()`] |
//! | `DELETE /conns/ID` | closes one at once, and `?gently` once it has what it was promised; 404 if there is none |
//! | `GET /audit?output=NAME` | 200 and the lines of that output as they are written, until either side ends; of the first output without a name |
//! | `POST /reload` | reloads; 200 with what is different now, 409 with why the old configuration is kept; see [`ReloadAnswer`] |
//! | `GET /bans`, `DELETE /bans`, `DELETE /bans/WHO` | as at the address, from anywhere |
//!
//! Who asked (user and process, as the kernel says) stands in the log, and in the record of a connection that was closed.
//! Tests: `tests/conns.rs`, `tests/audit_reading.rs`.

use super::{Answer, Page, not_allowed, response};
use crate::{
    audit::sink::tap::{Looker, Tap},
    net::roster::{Manner, Roster, Row},
    session::{activity::Name, error::Operator},
};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{
    Method, StatusCode,
    body::{Body, Frame},
    header::{CONTENT_TYPE, HeaderValue},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// What an operator may reach.
#[derive(Debug)]
pub struct Reach {
    /// The workers' connections.
    pub roster: Roster,
    /// The outputs of the audit stream.
    pub taps: Vec<Arc<Tap>>,
    /// Whoever reloads.
    pub reload: mpsc::Sender<ReloadOrder>,
}

/// A reload that is asked for.
#[derive(Debug)]
pub struct ReloadOrder {
    /// Who asks.
    pub operator: Operator,
    /// Who is told.
    pub answer: oneshot::Sender<ReloadAnswer>,
}

/// What became of a reload.
#[derive(Clone, Debug)]
pub struct ReloadAnswer {
    /// Why the old configuration is kept; `None` when the new one is in force.
    pub failed: Option<String>,
    /// What is different now, a line each. No secret.
    pub changes: Vec<String>,
    /// SHA-256 of the configuration file in force.
    pub config_sha256: String,
}

/// How long a reload may take: as long as the slowest program that prints a secret, and one before it.
pub(super) const RELOAD_WITHIN: Duration = Duration::from_secs(150);

impl Reach {
    /// The answer, if it is one of these pages.
    pub(super) async fn answer(&self, page: &Page<'_>, operator: Operator) -> Option<Answer> {
        let one = page.path.strip_prefix("/conns/").filter(|id| !id.is_empty());
        match (page.path, one) {
            ("/conns", _) if page.reads() => Some(self.list().await),
            ("/conns", _) => Some(not_allowed("GET, HEAD")),
            (_, Some(id)) if *page.method == Method::DELETE => Some(self.close(id, page.query, operator).await),
            (_, Some(_)) => Some(not_allowed("DELETE")),
            ("/reload", _) if *page.method == Method::POST => Some(self.reload(operator).await),
            ("/reload", _) => Some(not_allowed("POST")),
            ("/audit", _) if *page.method == Method::GET => Some(self.stream(page.query, operator)),
            ("/audit", _) => Some(not_allowed("GET")),
            _ => None,
        }
    }

    async fn reload(&self, operator: Operator) -> Answer {
        let (tell, told) = oneshot::channel();
        if self.reload.try_send(ReloadOrder { operator, answer: tell }).is_err() {
            let text = "the process is ending, or has reloads to do that were asked for before\n";
            return response(StatusCode::SERVICE_UNAVAILABLE, text.into());
        }
        let Ok(Ok(ReloadAnswer { failed, changes, config_sha256 })) = timeout(RELOAD_WITHIN, told).await else {
            return response(StatusCode::SERVICE_UNAVAILABLE, "nobody said what became of it\n".into());
        };
        let (status, body) = match failed {
            None => {
                let body = json!({"result": "swapped", "config_sha256": config_sha256, "changes": changes});
                (StatusCode::OK, body)
            }
            Some(reason) => {
                let body = json!({"result": "kept", "config_sha256": config_sha256, "reason": reason});
                (StatusCode::CONFLICT, body)
            }
        };
        let mut answer = response(status, format!("{body}\n"));
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer
    }

    async fn list(&self) -> Answer {
        let (rows, silent) = self.roster.list().await;
        let mut text = String::new();
        for row in &rows {
            text.push_str(&line(row).to_string());
            text.push('\n');
        }
        if silent > 0 {
            tracing::warn!(silent, "a worker does not say who is connected");
            text.push_str(&format!("{}\n", json!({"workers_silent": silent})));
        }
        let mut answer = response(StatusCode::OK, text);
        answer.headers_mut().insert(CONTENT_TYPE, NDJSON);
        answer
    }

    async fn close(&self, id: &str, query: &str, operator: Operator) -> Answer {
        let manner = match query {
            "" => Manner::Now,
            "gently" => Manner::Gently,
            _ => return response(StatusCode::BAD_REQUEST, "expected ?gently or nothing\n".into()),
        };
        if self.roster.close(id, manner, operator).await {
            tracing::warn!(conn = %id, by = %operator, ?manner, "a connection is closed from the admin socket");
            response(StatusCode::OK, "closed\n".into())
        } else {
            response(StatusCode::NOT_FOUND, "there is no connection of that name\n".into())
        }
    }

    fn stream(&self, query: &str, operator: Operator) -> Answer {
        let wanted = query.strip_prefix("output=").filter(|name| !name.is_empty());
        if wanted.is_none() && !query.is_empty() {
            return response(StatusCode::BAD_REQUEST, "expected ?output=NAME or nothing\n".into());
        }
        let Some(tap) = self.taps.iter().find(|tap| wanted.is_none_or(|name| name == tap.output())) else {
            let names: Vec<_> = self.taps.iter().map(|tap| tap.output()).collect();
            return response(
                StatusCode::NOT_FOUND,
                format!("there is no such output; there are {}\n", names.join(", ")),
            );
        };
        let Some(looker) = tap.look() else {
            return response(StatusCode::SERVICE_UNAVAILABLE, "too many look on at this output already\n".into());
        };
        tracing::info!(output = tap.output(), by = %operator, "the live stream is read");
        let mut answer = response(StatusCode::OK, String::new());
        answer.headers_mut().insert(CONTENT_TYPE, NDJSON);
        answer.map(|_| Live(looker).boxed_unsync())
    }
}

const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// A connection as `/conns` shows it. There is no argument of a command in it, and no key.
///
/// | field | meaning |
/// |---|---|
/// | `conn` | its name in records; null before its peer is authenticated |
/// | `service` `src` `identity` `role` | as in records; `identity` and `role` are null likewise |
/// | `since` `age_us` | when it was accepted, and how long ago |
/// | `doing` | `handshake`, `connecting`, `idle`, `command` (one waits for its reply), `transaction`, `subscribed`, `monitor`, `replica`, `closing` |
/// | `command` `waits_us` | the command that has waited longest for its reply, and for how long; null without one |
/// | `last_command` `quiet_us` | the last command (`unknown` if the catalog does not know it), and the time since the client's last byte |
/// | `db` | the database |
/// | `commands` `denied` | how many so far |
/// | `bytes_in` `bytes_out` | plaintext so far |
/// | `unanswered` | commands without a reply |
/// | `unread_bytes` | of replies that the client has not taken |
#[must_use]
pub fn line(row: &Row) -> Value {
    let since = Timestamp::from_microsecond(i64::try_from(row.since_us).unwrap_or(i64::MAX));
    let mut value = json!({
        "conn": row.conn,
        "service": row.service,
        "src": row.src.to_string(),
        "identity": row.identity,
        "role": row.role,
        "since": since.map_or(Value::Null, |since| format!("{since:.6}").into()),
        "age_us": row.age_us,
        "doing": if row.conn.is_some() { "connecting" } else { "handshake" },
    });
    if let (Some(now), Some(fields)) = (row.activity, value.as_object_mut()) {
        let more = [
            ("doing", now.doing.word().into()),
            ("command", now.oldest.map(|(command, _)| named(command)).into()),
            ("waits_us", now.oldest.map(|(_, us)| us).into()),
            ("last_command", now.last.map(named).into()),
            ("quiet_us", now.quiet_us.into()),
            ("db", now.db.into()),
            ("commands", now.commands.into()),
            ("denied", now.denied.into()),
            ("bytes_in", now.bytes_in.into()),
            ("bytes_out", now.bytes_out.into()),
            ("unanswered", now.unanswered.into()),
            ("unread_bytes", now.unread.into()),
        ];
        fields.extend(more.map(|(name, value)| (name.to_owned(), value)));
    }
    value
}

fn named(command: Name) -> String {
    command.map_or_else(|| "unknown".to_owned(), |id| id.entry().full_name.to_ascii_uppercase())
}

/// The lines of an output, for as long as both sides last.
struct Live(Looker);

impl Body for Live {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.get_mut().0.poll_lines(cx).map(|lines| lines.map(|lines| Ok(Frame::data(lines.into()))))
    }
}
