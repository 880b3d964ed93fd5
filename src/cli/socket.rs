//! Questions to a running proxy over its admin socket.

use super::{complain, exit};
use crate::config::Source;
use bytes::{Buf as _, Bytes};
use clap::Args;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use std::{
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use tokio::{net::UnixStream, runtime::Runtime, time::Instant};

/// How long an answer may take to begin.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of what is said of an order.
const PAGE_MAX: usize = 1024 * 1024;
/// Most bytes of a refusal that are shown.
const REFUSAL_MAX: usize = 4096;

/// Where the socket is.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which process")]
pub(super) struct SocketArgs {
    /// The configuration file that names the admin socket (`admin.socket.path`).
    #[arg(short, long, value_name = "FILE", env = "RAVELIN_CONFIG", default_value = "/etc/ravelin/ravelin.toml")]
    config: PathBuf,

    /// The admin socket itself; no configuration is read.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// Why there is no answer: the exit code and what to say.
pub(super) type Fault = (u8, String);

/// One part of a path or query, with what is not plain as `%xx`.
pub(super) fn escaped(part: &str) -> String {
    let mut out = String::new();
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02x}"));
        }
    }
    out
}

/// Says why, and the code for it.
pub(super) fn failed((code, message): &Fault) -> ExitCode {
    complain(&format_args!("error: {message}"));
    ExitCode::from(*code)
}

impl SocketArgs {
    /// The socket's path.
    fn path(&self) -> Result<PathBuf, Fault> {
        if let Some(path) = &self.socket {
            return Ok(path.clone());
        }
        let file = self.config.display();
        match Source::file(&self.config).admin_socket() {
            Ok(Some(path)) => Ok(path),
            Ok(None) => Err((
                exit::CONFIG,
                format!(
                    "{file} names no admin socket: write `socket = {{ path = \"/run/ravelin/admin.sock\" }}` under [admin], \
                     or name one with --socket PATH"
                ),
            )),
            Err(errors) => Err((exit::CONFIG, format!("{errors}\nor name the socket itself: --socket PATH"))),
        }
    }

    /// Asks, and waits for the beginning of the answer.
    ///
    /// # Errors
    /// Nobody answers, or the answer is a refusal: then what it says.
    pub(super) fn ask(&self, method: Method, target: &str) -> Result<Answer, Fault> {
        let path = self.path()?;
        let failed = |error: String| (exit::FAILURE, format!("{}: {error}", path.display()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let asked = runtime.block_on(async {
            match tokio::time::timeout(PATIENCE, ask(&path, method, target)).await {
                Ok(asked) => asked,
                Err(_) => Err("the process does not answer".to_owned()),
            }
        });
        let body = asked.map_err(failed)?;
        Ok(Answer { body, runtime, piece: Bytes::new(), until: None })
    }

    /// Asks for something to be done that may fail, and returns what is said either way: whether it was done, and a page.
    ///
    /// # Errors
    /// Nobody answers within `patience`, or nobody does such things there.
    pub(super) fn order(&self, target: &str, patience: Duration) -> Result<(bool, String), Fault> {
        let path = self.path()?;
        let failed = |error: String| (exit::FAILURE, format!("{}: {error}", path.display()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| failed(error.to_string()))?;
        let asked = runtime.block_on(async {
            let asked = async {
                let response = send(&path, Method::POST, target).await?;
                let status = response.status();
                let mut body = response.into_body();
                let mut text = Vec::new();
                while let Some(Ok(frame)) = body.frame().await
                    && text.len() < PAGE_MAX
                {
                    text.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
                }
                let text = String::from_utf8_lossy(&text).into_owned();
                match status {
                    StatusCode::OK => Ok((true, text)),
                    StatusCode::CONFLICT => Ok((false, text)),
                    _ => Err(text.trim().to_owned()),
                }
            };
            let asked = tokio::time::timeout(patience, asked).await;
            asked.unwrap_or_else(|_| Err("the process does not answer".to_owned()))
        });
        asked.map_err(failed)
    }

    /// Asks for a page of text.
    pub(super) fn page(&self, method: Method, target: &str) -> Result<String, Fault> {
        let mut text = String::new();
        let mut answer = self.ask(method, target)?;
        answer.stop_after(PATIENCE);
        answer
            .read_to_string(&mut text)
            .map_err(|error| (exit::FAILURE, format!("the answer is not whole: {error}")))?;
        Ok(text)
    }
}

async fn ask(path: &Path, method: Method, target: &str) -> Result<Incoming, String> {
    let response = send(path, method, target).await?;
    let status = response.status();
    let mut body = response.into_body();
    if status.is_success() {
        return Ok(body);
    }
    let mut text = Vec::new();
    while let Some(Ok(frame)) = body.frame().await
        && text.len() < REFUSAL_MAX
    {
        text.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
    }
    let text: String = String::from_utf8_lossy(&text).trim().chars().filter(|c| !c.is_control()).collect();
    Err(if text.is_empty() { status.to_string() } else { text })
}

async fn send(path: &Path, method: Method, target: &str) -> Result<Response<Incoming>, String> {
    let stream = UnixStream::connect(path).await.map_err(|error| unreachable(&error))?;
    let broken = |error: hyper::Error| format!("the process does not answer as an admin socket does: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(target).header(HOST, "localhost").body(Empty::<Bytes>::new());
    let request = request.map_err(|error| error.to_string())?;
    sender.send_request(request).await.map_err(broken)
}

fn unreachable(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such socket: the proxy does not run, or its [admin] has another".to_owned(),
        ErrorKind::ConnectionRefused => "nobody answers: the proxy that made this socket has ended".to_owned(),
        ErrorKind::PermissionDenied => "you may not use it: its mode and group (`admin.socket`) say who may".to_owned(),
        _ => error.to_string(),
    }
}

/// An answer as it comes.
#[derive(Debug)]
pub(super) struct Answer {
    body: Incoming,
    runtime: Runtime,
    piece: Bytes,
    until: Option<Instant>,
}

impl Answer {
    /// Ends it after this time, as if there were no more.
    pub(super) fn stop_after(&mut self, within: Duration) {
        self.until = Instant::now().checked_add(within);
    }
}

impl Read for Answer {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            let (body, until) = (&mut self.body, self.until);
            let frame = self.runtime.block_on(async {
                match until {
                    Some(until) => tokio::time::timeout_at(until, body.frame()).await.unwrap_or(None),
                    None => body.frame().await,
                }
            });
            match frame {
                None => return Ok(0),
                Some(Err(error)) => return Err(io::Error::other(error)),
                Some(Ok(frame)) => self.piece = frame.into_data().unwrap_or_default(),
            }
        }
        let length = self.piece.len().min(into.len());
        self.piece.copy_to_slice(into.get_mut(..length).unwrap_or_default());
        Ok(length)
    }
}
