//! A Redis played by the test: it authenticates as Redis does and then says what it is told to.

#![allow(clippy::disallowed_methods, reason = "patience is measured, not decided by")]

use super::{
    client::Client,
    process::{PASSWORD, PATIENCE, Proxy},
    setup::{Service, Setup},
    wire::{Wire, encode},
};
use std::{
    fs,
    io::Write as _,
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A listener in the place of Redis.
pub struct Stub {
    listener: UnixListener,
    socket: PathBuf,
    // Last: removed after the listener is gone.
    _dir: TempDir,
}

/// One upstream connection, as the played Redis sees it.
pub type Upstream = Wire<UnixStream>;

impl Stub {
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("stub-").tempdir().unwrap();
        let socket = dir.path().join("redis.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        // Ravelin trusts no socket that everybody may open.
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o700)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self { listener, socket, _dir: dir }
    }

    /// A setup before it; `auth` says whether a password is to be sent.
    pub fn setup(&self, auth: bool) -> Setup {
        let service = Service {
            name: "cache",
            address: format!("unix:{}", self.socket.display()),
            password: auth.then(|| PASSWORD.as_bytes().to_vec()),
            upstream: ", set_name = false",
            listen: "",
            lines: "",
        };
        Setup { more: super::twins::ALLOW_ALL, ..Setup::of(service) }
    }

    /// A proxy before it.
    pub fn proxy(&self) -> Proxy {
        Proxy::with(&self.setup(true))
    }

    /// The next connection, before anything is said on it.
    pub fn accept(&self) -> Upstream {
        let start = Instant::now();
        loop {
            if let Some(wire) = self.try_accept() {
                return wire;
            }
            assert!(start.elapsed() < PATIENCE, "nobody connects");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The next connection, if somebody has connected.
    pub fn try_accept(&self) -> Option<Upstream> {
        let (stream, _) = self.listener.accept().ok()?;
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Some(Wire::over(stream))
    }

    /// The next connection that says anything (Ravelin looks once by itself whether somebody is there), authenticated.
    pub fn accept_greeted(&self) -> Upstream {
        let ping = encode(&["PING"]);
        loop {
            let mut wire = self.accept();
            let said = wire.take(ping.len());
            if said.is_empty() {
                continue;
            }
            assert_eq!(said, ping);
            wire.take(encode(&["AUTH", PASSWORD]).len());
            wire.send_raw(b"-NOAUTH Authentication required.\r\n+OK\r\n");
            return wire;
        }
    }

    /// A client, and the connection Ravelin has opened for it.
    pub fn meet(&self, proxy: &Proxy) -> (Client, Upstream) {
        let app = proxy.pki.client("app").unwrap();
        let mut client = proxy.shake(Some(&app)).unwrap();
        // Its last flight is on the way.
        client.stream().flush().unwrap();
        (client, self.accept_greeted())
    }
}

impl Upstream {
    /// Waits for exactly this command.
    pub fn hears(&mut self, words: &[&str]) {
        let expected = encode(words);
        let got = self.take(expected.len());
        assert_eq!(got.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }
}
