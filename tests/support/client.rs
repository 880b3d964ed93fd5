//! Clients of a proxy: rustls by hand, `redis-cli`, and the client library `redis`.

use super::{
    process::{PATIENCE, Proxy},
    setup::write_secret,
    wire::Wire,
};
use certs_dev::{Issued, Pki};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
};
use std::{
    fs,
    io::{self, Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    sync::Arc,
};

/// A client's connection.
pub type Client = Wire<StreamOwned<ClientConnection, TcpStream>>;

impl Proxy {
    /// A client with a certificate for `app`, let in.
    pub fn client(&self) -> Client {
        let app = self.pki.client("app").unwrap();
        self.client_with(&app).unwrap_or_else(|error| panic!("the client was not let in: {error}"))
    }

    /// A client with this certificate, let in or not: an error is what its TLS library or socket said.
    pub fn client_with(&self, issued: &Issued) -> io::Result<Client> {
        greeted(self.shake(Some(issued))?)
    }

    /// A client that has shaken hands as far as it can tell, with a certificate or none.
    pub fn shake(&self, issued: Option<&Issued>) -> io::Result<Client> {
        self.shake_with(&self.tls(issued, rustls::ALL_VERSIONS), self.socket())
    }

    /// What a client needs to shake hands; sessions are resumed by clients that share one.
    pub fn tls(&self, issued: Option<&Issued>, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        Self::trusting(&self.pki, issued, versions)
    }

    /// The same for whoever has a certificate of this PKI.
    pub fn trusting(
        pki: &Pki,
        issued: Option<&Issued>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for each in CertificateDer::pem_slice_iter(pki.ca.cert.as_bytes()) {
            roots.add(each.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match issued {
            Some(issued) => {
                let chain = CertificateDer::pem_slice_iter(issued.chain.as_bytes()).map(Result::unwrap).collect();
                let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
                let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
                // Not `with_client_auth_cert`, which would refuse to show what is wicked.
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key))))
            }
            None => builder.with_no_client_auth(),
        })
    }

    /// The same over a socket and with a TLS configuration of one's own.
    pub fn shake_with(&self, config: &Arc<ClientConfig>, socket: TcpStream) -> io::Result<Client> {
        Self::shake_at(config, socket)
    }

    /// The same with whoever is at the other end.
    pub fn shake_at(config: &Arc<ClientConfig>, socket: TcpStream) -> io::Result<Client> {
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(tls, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Wire::over(stream))
    }

    /// A connection without a word said.
    pub fn socket(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        socket
    }

    /// A `redis-cli` that talks to service `index` with a certificate for `name`.
    pub fn redis_cli(&self, name: &str, index: usize) -> Command {
        let mut command = Command::new("redis-cli");
        let (cert, key) = self.files_for(name);
        command.arg("--tls").arg("--cacert").arg(self.path("ca.crt"));
        command.arg("--cert").arg(self.path(&cert)).arg("--key").arg(self.path(&key));
        command.args(["-h", "127.0.0.1", "-p", &self.addresses[index].port().to_string()]);
        command
    }

    /// What `redis-cli` prints for these lines of input, with a certificate for `app`.
    pub fn cli(&self, lines: &str) -> String {
        let mut child = self
            .redis_cli("app", 0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("redis-cli cannot be started ({error}): install redis-tools"));
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// What `redis-cli` prints for one command to service `index`, with a certificate for `name`.
    pub fn cli_as(&self, name: &str, index: usize, words: &[&str]) -> String {
        let output = self.redis_cli(name, index).args(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// A connection of the client library, with a certificate for `app`; `query` ends its URL.
    pub fn library(&self, query: &str) -> redis::Connection {
        let (cert, key) = self.files_for("app");
        let read = |file: &str| fs::read(self.path(file)).unwrap();
        let certificates = redis::TlsCertificates {
            client_tls: Some(redis::ClientTlsConfig { client_cert: read(&cert), client_key: read(&key) }),
            root_cert: Some(read("ca.crt")),
        };
        let url = format!("rediss://localhost:{}/{query}", self.address().port());
        redis::Client::build_with_tls(url, certificates).unwrap().get_connection().unwrap()
    }

    /// The files of a certificate for `name` and its key, made when first asked for.
    pub fn files_for(&self, name: &str) -> (String, String) {
        let (cert, key) = (format!("{name}.crt"), format!("{name}.key"));
        if !self.path(&cert).exists() {
            let issued = self.pki.client(name).unwrap();
            write_secret(&self.path(&cert), &issued.chain);
            write_secret(&self.path(&key), &issued.key);
        }
        (cert, key)
    }
}

/// In TLS 1.3 the client is done before the server has looked at its certificate; only an answer tells.
pub fn greeted(mut wire: Client) -> io::Result<Client> {
    let stream = wire.stream();
    stream.write_all(b"*1\r\n$4\r\nPING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    if &answer == b"+PONG\r\n" { Ok(wire) } else { Err(io::Error::other(format!("{}", answer.escape_ascii()))) }
}
