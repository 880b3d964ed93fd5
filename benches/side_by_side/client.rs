//! A client of our own, for what redis-benchmark cannot do: a fixed rate, handshakes, thousands of idle connections.
//! Blocking until it is connected, then driven by hand, so that a loop that never sleeps decides when it looks.

use crate::rig::{Certificates, PASSWORD};
use crate::targets::Target;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore};
use socket2::{Domain, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);
/// Source addresses are 127.0.0.2 and up, in turn: each has ports of its own, and closed connections hold theirs for a
/// minute.
const SOURCES: u8 = 100;
/// One read takes what the kernel has, up to so much.
const CHUNK: usize = 64 * 1024;

/// Makes connections to one target.
pub struct Dialer {
    port: u16,
    auth: bool,
    tls: Option<Arc<ClientConfig>>,
    next: AtomicU8,
}

impl Dialer {
    /// `resume`: whether sessions are kept for the next connection.
    pub fn new(certificates: &Certificates, target: &Target, resume: bool) -> Self {
        let tls = target.tls.then(|| Arc::new(config(certificates, resume)));
        Self { port: target.port, auth: target.auth, tls, next: AtomicU8::new(0) }
    }

    /// Connects, shakes hands, logs in if the target wants it, and does a PING.
    ///
    /// # Errors
    /// When one of these fails, also because the target does not listen yet.
    pub fn dial(&self) -> io::Result<Link> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let last = 2 + self.next.fetch_add(1, Ordering::Relaxed) % SOURCES;
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into())?;
        socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)).into())?;
        let mut socket = TcpStream::from(socket);
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let tls = match &self.tls {
            Some(config) => {
                let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                let mut tls = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
                tls.set_buffer_limit(None);
                while tls.is_handshaking() {
                    tls.complete_io(&mut socket)?;
                }
                Some(tls)
            }
            None => None,
        };
        let mut link = Link { socket, tls, chunk: Vec::new() };
        let (request, reply) = if self.auth {
            (
                format!("*2\r\n$4\r\nAUTH\r\n${}\r\n{PASSWORD}\r\n*1\r\n$4\r\nPING\r\n", PASSWORD.len()),
                "+OK\r\n+PONG\r\n",
            )
        } else {
            ("*1\r\n$4\r\nPING\r\n".to_owned(), "+PONG\r\n")
        };
        link.send(request.as_bytes())?;
        let mut received = Vec::new();
        while received.len() < reply.len() {
            link.receive(&mut received)?;
        }
        if received != reply.as_bytes() {
            let received = String::from_utf8_lossy(&received).into_owned();
            return Err(io::Error::other(format!("a PING was answered with {received:?}")));
        }
        Ok(link)
    }

    /// The same, and from now on nothing blocks.
    ///
    /// # Panics
    /// When that fails.
    pub fn polled(&self, target: &Target) -> Link {
        let link = self.must_dial(target);
        link.socket.set_nonblocking(true).expect("a socket that does not block");
        link
    }

    /// # Panics
    /// When it fails, with what the proxy printed.
    pub fn must_dial(&self, target: &Target) -> Link {
        self.dial().unwrap_or_else(|error| panic!("{error}; the proxy said: {}", target.log().trim_end()))
    }
}

/// One suite and one key exchange for all: it is not the liking of a library that is compared.
fn config(certificates: &Certificates, resume: bool) -> ClientConfig {
    let parse = |pem: &str| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().expect("certificates just minted")
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(parse(&certificates.authority));
    let key = PrivateKeyDer::from_pem_slice(certificates.client_key.as_bytes()).expect("a key just minted");
    let provider = CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_client_auth_cert(parse(&certificates.client), key)
        .expect("the key of the certificate");
    config.resumption = if resume { Resumption::in_memory_sessions(64) } else { Resumption::disabled() };
    config
}

/// A connection.
pub struct Link {
    socket: TcpStream,
    tls: Option<ClientConnection>,
    /// Room for one read; only links that have received something have it.
    chunk: Vec<u8>,
}

impl Link {
    /// Hands over bytes; what the kernel has no room for goes with the next call of this or [`Link::flush`].
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => tls.writer().write_all(bytes)?,
            None => return self.socket.write_all(bytes),
        }
        self.flush()
    }

    pub fn flush(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.wants_write() {
            match tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Appends what one read brings; nothing, if there is nothing and the socket does not block.
    pub fn receive(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
        self.chunk.resize(CHUNK, 0);
        let read = match self.socket.read(&mut self.chunk) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut bytes = &self.chunk[..read];
        let Some(tls) = &mut self.tls else {
            into.extend_from_slice(bytes);
            return Ok(());
        };
        while !bytes.is_empty() {
            tls.read_tls(&mut bytes)?;
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            let (at, more) = (into.len(), state.plaintext_bytes_to_read());
            into.resize(at + more, 0);
            tls.reader().read_exact(&mut into[at..])?;
        }
        Ok(())
    }

    /// Gives back the room for a read, as a client that waits would not have it.
    pub fn rest(&mut self) {
        self.chunk = Vec::new();
    }

    /// Whether the handshake resumed a session.
    pub fn resumed(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.handshake_kind() == Some(HandshakeKind::Resumed))
    }

    /// Takes leave properly.
    pub fn close(mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        let _ = self.flush();
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}
