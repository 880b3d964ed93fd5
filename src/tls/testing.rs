//! What the tests of this room share: files from the development PKI, and a client in memory.

use certs_dev::{Issued, Pki};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{ServerName, UnixTime},
};
use std::{
    future::poll_fn,
    io::{self, IoSlice},
    path::PathBuf,
    sync::Arc,
};
use tempfile::TempDir;
use tokio::io::DuplexStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    chains::Chains,
    handshake::{self, Accepted, Refused},
    pem,
    pipe::{Fault, Intake, Scratch, TlsPipe},
    server::{Files, MinVersion, Tls},
};

/// A PKI and the files of one listener.
pub(super) struct Bench {
    pub(super) pki: Pki,
    pub(super) files: Files,
    dir: TempDir,
}

impl Bench {
    pub(super) fn new() -> Self {
        let pki = Pki::new().unwrap();
        let server = pki.server(&["localhost", "127.0.0.1"]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut bench = Self {
            files: Files {
                cert: PathBuf::new(),
                key: PathBuf::new(),
                client_ca: PathBuf::new(),
                crl: Vec::new(),
                min_version: MinVersion::Tls12,
                anonymous: false,
                ..Files::default()
            },
            dir,
            pki,
        };
        bench.files.cert = bench.file("tls.crt", &server.chain);
        bench.files.key = bench.file("tls.key", &server.key);
        bench.files.client_ca = bench.file("ca.crt", &bench.pki.ca.cert);
        bench
    }

    pub(super) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(super) fn load(&self) -> Tls {
        Tls::load(&self.files, UnixTime::now()).unwrap()
    }

    /// What loading fails with.
    pub(super) fn flaw(&self) -> String {
        Tls::load(&self.files, UnixTime::now()).unwrap_err().to_string()
    }

    pub(super) fn client(
        &self,
        issued: Option<&Issued>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for root in pem::certificates(self.pki.ca.cert.as_bytes()).unwrap() {
            roots.add(root).unwrap();
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match issued {
            None => config.with_no_client_auth(),
            Some(issued) => {
                let chain = pem::certificates(issued.chain.as_bytes()).unwrap();
                let key = pem::private_key(issued.key.as_bytes()).unwrap();
                // Not `with_client_auth_cert`, which would notice a key of another certificate.
                let key = aws_lc_rs::default_provider().key_provider.load_private_key(key).unwrap();
                let own = Arc::new(rustls::sign::CertifiedKey::new(chain, key));
                config.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(own)))
            }
        })
    }

    pub(super) fn app(&self) -> Arc<ClientConfig> {
        self.client(Some(&self.pki.client("app").unwrap()), rustls::ALL_VERSIONS)
    }
}

/// The client's half of a handshake in memory, which may fail, and the server's.
pub(super) async fn shake(
    tls: &Tls,
    client: Arc<ClientConfig>,
    pipe_bytes: usize,
    early: &[u8],
) -> (io::Result<TlsStream<DuplexStream>>, Result<Accepted<DuplexStream>, Refused>) {
    let (near, far) = tokio::io::duplex(pipe_bytes);
    let name = ServerName::try_from("localhost").unwrap();
    let connect = TlsConnector::from(client).connect_with(name, far, |connection| {
        io::Write::write_all(&mut connection.writer(), early).unwrap();
    });
    let chains = Chains::default();
    tokio::join!(connect, handshake::accept(tls, &chains, near))
}

pub(super) async fn open(
    tls: &Tls,
    client: Arc<ClientConfig>,
    pipe_bytes: usize,
) -> (TlsStream<DuplexStream>, TlsPipe<DuplexStream>) {
    let (client, server) = shake(tls, client, pipe_bytes, b"").await;
    (client.unwrap(), server.unwrap().pipe)
}

pub(super) async fn read<S: super::Socket>(pipe: &mut TlsPipe<S>, out: &mut Vec<u8>) -> Result<Intake, Fault> {
    let mut scratch = Scratch::new();
    poll_fn(|cx| pipe.poll_read_plain(cx, &mut scratch, out)).await
}

pub(super) async fn write<S: super::Socket>(pipe: &mut TlsPipe<S>, bytes: &[u8]) {
    pipe.write_plain(&[IoSlice::new(bytes)]).unwrap();
    poll_fn(|cx| pipe.poll_flush(cx)).await.unwrap();
}

/// Gives back what comes in until the client's end, then closes.
pub(super) async fn echo<S: super::Socket>(mut pipe: TlsPipe<S>) -> (TlsPipe<S>, Result<super::pipe::End, Fault>) {
    let mut buf = Vec::new();
    let end = loop {
        match read(&mut pipe, &mut buf).await {
            Ok(Intake::Plain(_)) => {
                write(&mut pipe, &buf).await;
                buf.clear();
            }
            Ok(Intake::End(end)) => break Ok(end),
            Err(fault) => break Err(fault),
        }
    };
    let _ = poll_fn(|cx| pipe.poll_close(cx)).await;
    (pipe, end)
}
