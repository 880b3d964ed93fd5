//! The far side of the way to Redis, played by the test: TCP with TLS or without, which greets as Redis does and then ends
//! in the way it is told to.

#![allow(clippy::disallowed_methods, reason = "patience is measured, not decided by")]

use super::{
    process::{PASSWORD, PATIENCE},
    setup::{Service, Setup},
    wire::{Wire, encode},
};
use certs_dev::Issued;
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{
    io::{self, BufRead as _, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By FIN; with TLS without the word that says so.
    Fin,
    /// With TLS by `close_notify`, then FIN.
    Notify,
    /// By RST.
    Reset,
}

/// A connection of the proxy's.
pub enum Line {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Read for Line {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(into),
            Self::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// A listener in the place of Redis.
pub struct Farside {
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
}

/// A server's configuration with this certificate, which asks nobody for theirs.
pub fn server_config(issued: &Issued) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_slice_iter(issued.chain.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap())
}

impl Farside {
    /// Without TLS, or with this certificate.
    pub fn start(issued: Option<&Issued>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self { listener, tls: issued.map(server_config) }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The next connection, if somebody has come and says anything.
    pub fn try_accept(&self) -> Option<Wire<Line>> {
        let (stream, _) = self.listener.accept().ok()?;
        stream.set_nonblocking(false).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        self.shake(stream).map(Wire::over)
    }

    /// The next connection that says anything; one that ends before is a look whether somebody is there.
    pub fn accept(&self) -> Wire<Line> {
        let start = Instant::now();
        loop {
            if let Some(wire) = self.try_accept() {
                return wire;
            }
            assert!(start.elapsed() < PATIENCE, "nobody connects");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn shake(&self, mut stream: TcpStream) -> Option<Line> {
        let Some(tls) = &self.tls else {
            return stream.peek(&mut [0]).is_ok_and(|read| read > 0).then_some(Line::Plain(stream));
        };
        let mut session = ServerConnection::new(Arc::clone(tls)).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut stream).ok()?;
        }
        // Tickets are on their way, and whoever only looked is gone.
        let _ = session.complete_io(&mut Half(&mut stream));
        let mut line = StreamOwned::new(session, stream);
        // The first word, or the goodbye, is decrypted to tell a look from a client; what was read is kept in there.
        (!line.fill_buf().ok()?.is_empty()).then(|| Line::Tls(Box::new(line)))
    }

    /// The next connection, authenticated.
    pub fn accept_greeted(&self) -> Wire<Line> {
        let mut wire = self.accept();
        wire.take(encode(&["PING"]).len() + encode(&["AUTH", PASSWORD]).len());
        wire.send_raw(b"-NOAUTH Authentication required.\r\n+OK\r\n");
        wire
    }
}

/// A stream that is only written to.
struct Half<'s>(&'s mut TcpStream);

impl Read for Half<'_> {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Half<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Line {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

/// Ends a connection.
pub fn end(mut wire: Wire<Line>, how: Ending) {
    let line = wire.stream();
    match (how, &mut *line) {
        (Ending::Notify, Line::Tls(stream)) => {
            stream.conn.send_close_notify();
            stream.conn.complete_io(&mut Half(&mut stream.sock)).unwrap();
        }
        (Ending::Reset, line) => {
            rustix::net::sockopt::set_socket_linger(line.socket(), Some(Duration::ZERO)).unwrap();
            return;
        }
        _ => {}
    }
    let _ = line.socket().shutdown(Shutdown::Write);
    // Unread bytes would make an RST of the close.
    let _ = line.socket().set_read_timeout(Some(Duration::from_millis(200)));
    let _ = io::copy(&mut line.socket(), &mut io::sink());
}

/// A setup before an address that needs a password, with these further entries of `upstream`.
pub fn setup(address: &str, upstream: &str) -> Setup {
    let service = Service {
        name: "cache",
        address: address.to_owned(),
        password: Some(PASSWORD.as_bytes().to_vec()),
        upstream: String::from(upstream).leak(),
        listen: "",
        lines: "",
    };
    Setup { more: super::twins::ALLOW_ALL, ..Setup::of(service) }
}
