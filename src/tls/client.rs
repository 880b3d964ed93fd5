//! TLS towards a server: to a Redis, a stunnel or another Ravelin, whose certificate is held against what was configured.
//!
//! Decisions, and why:
//!
//! * **Trust is said aloud**: a CA file, the system's roots, or pins; nothing is trusted by default. With a CA (or the
//!   roots) the chain must lead there, be in force, be for servers and carry the name that was connected to (RFC 9525, by
//!   webpki: no wildcard below the first label, no common name). With pins besides, the certificate must be one of those too.
//! * **Pins alone** are for a certificate that nobody issued. It must be the one that is meant, in force by its own dates, and
//!   its owner must prove the key as always. Its name is looked at only where `server_name` asks for it: a pin says more.
//! * **A session may be resumed**: what it resumes was verified under this very configuration, because a reload makes
//!   another, with no memory of sessions. It saves a busy Redis the dearest part of a reconnect storm. Not where a revocation
//!   list counts for nothing once it is over: a session must not outlive what spoke for it.
//! * **The provider is passed explicitly**, as on the server's side ([`super::server`]).

use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, CertificateRevocationListDer, IpAddr, ServerName, UnixTime},
    server::ParsedCertificate,
    sign::{CertifiedKey, SingleCertAndKey},
};
use sha2::{Digest, Sha256};
use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};
use x509_parser::prelude::{FromDer, X509Certificate};

pub use super::client_load::ClientDescription;
use super::{
    client_load::{SYSTEM, at, lists, own_key, read, seconds, system, trusted},
    failure::Failure,
    handshake::Watched,
    pem,
    pin::Pin,
    pipe::TlsPipe,
    refusal,
    revocation::{Doubt, Revocation},
    server::{FileError, Flaw, MinVersion},
    socket::Socket,
    stream::Secured,
};

/// How a server is to be known, and what it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// Who may have issued its certificate.
    pub trust: Trust,
    /// Which certificates it may show, besides; any if empty.
    pub pins: Vec<Pin>,
    /// The name in its certificate, if not the one that is connected to.
    pub server_name: Option<Name>,
    /// Our own certificate and its key, if it asks for one.
    pub own: Option<Own>,
    /// Revocation lists about its certificate and those above, files or folders; none is asked for if empty.
    pub crl: Vec<PathBuf>,
    /// What is made of doubts about them.
    pub revocation: Revocation,
    /// The oldest protocol spoken.
    pub min_version: MinVersion,
}

impl ClientFiles {
    /// Says the files, each with its key.
    pub fn named(&self, mut name: impl FnMut(&'static str, &Path)) {
        if let Trust::Ca(path) = &self.trust {
            name("upstream.tls.ca", path);
        }
        self.crl.iter().for_each(|path| name("upstream.tls.crl", path));
        if let Some(own) = &self.own {
            name("upstream.tls.cert", &own.cert);
            name("upstream.tls.key", &own.key);
        }
    }
}

/// Who may have issued a server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The CAs in this file.
    Ca(PathBuf),
    /// Whom the system trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR`, or where the distribution keeps them).
    System,
    /// Nobody: the pins say which certificate it is.
    Pinned,
}

/// A client's own certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Its chain, its own first.
    pub cert: PathBuf,
    /// The private key; may be the same file.
    pub key: PathBuf,
}

/// A name that a certificate can have: a DNS name or an IP address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(ServerName<'static>);

impl Name {
    /// The name, if it can be one.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        ServerName::try_from(text.to_owned()).ok().map(Self)
    }
}

impl From<std::net::IpAddr> for Name {
    fn from(address: std::net::IpAddr) -> Self {
        Self(ServerName::IpAddress(IpAddr::from(address)))
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.to_str())
    }
}

/// The client's side of TLS, ready to shake hands.
#[derive(Debug)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    name: Option<Name>,
    /// Whether a name has to be known before it can shake hands.
    needs_name: bool,
    description: ClientDescription,
    digest: [u8; 32],
}

impl TlsClient {
    /// Reads the files and makes a client out of them. `now` decides what has expired.
    ///
    /// # Errors
    ///
    /// [`FileError`]: the file, what is wrong with it, and what to do.
    pub fn load(files: &ClientFiles, now: UnixTime) -> Result<Self, FileError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut hash = Sha256::new();
        let mut description = ClientDescription::default();
        let roots = match &files.trust {
            Trust::Ca(path) => {
                let bytes = pem::read(path).map_err(|flaw| at(path, flaw))?;
                hash.update(Sha256::digest(bytes.as_slice()));
                let found = pem::certificates(&bytes).map_err(|flaw| at(path, flaw))?;
                Some(trusted(found, now, true, &mut description).map_err(|flaw| at(path, flaw))?)
            }
            Trust::System => {
                let found = system().map_err(|flaw| at(Path::new(SYSTEM), flaw))?;
                found.iter().for_each(|each| hash.update(Sha256::digest(each)));
                Some(trusted(found, now, false, &mut description).map_err(|flaw| at(Path::new(SYSTEM), flaw))?)
            }
            Trust::Pinned => None,
        };
        let own = match &files.own {
            Some(own) => {
                let (cert, key) = (read(&own.cert)?, read(&own.key)?);
                hash.update(Sha256::digest(cert.as_slice()));
                hash.update(Sha256::digest(key.as_slice()));
                Some(own_key(own, &cert, &key, &provider, &mut description)?)
            }
            None => None,
        };
        let lists = lists(files, &provider, &mut hash, &mut description)?;
        let rest = (&files.pins, &files.server_name, files.min_version, &files.revocation);
        hash.update(format!("{rest:?}"));
        description.foresee(now);
        let needs_name = roots.is_some();
        let resumes = lists.is_empty() || files.revocation.expired == Doubt::Accept;
        let verifier = verifier(roots, lists, files, &provider).map_err(|error| {
            let path = match &files.trust {
                Trust::Ca(path) => path.as_path(),
                Trust::System | Trust::Pinned => Path::new(SYSTEM),
            };
            at(path, Flaw::new(format!("cannot be used: {error}"), None))
        })?;
        let mut config = config(&provider, files.min_version, own, verifier).map_err(|error| {
            let path = files.own.as_ref().map_or(Path::new(SYSTEM), |own| own.cert.as_path());
            at(path, Flaw::new(format!("cannot be used: {error}"), None))
        })?;
        if !resumes {
            config.resumption = Resumption::disabled();
        }
        let (config, name, digest) = (Arc::new(config), files.server_name.clone(), hash.finalize().into());
        Ok(Self { config, name, needs_name, description, digest })
    }

    /// What the files hold.
    #[must_use]
    pub const fn description(&self) -> &ClientDescription {
        &self.description
    }

    /// Whether nothing has changed: then the one in force, with the sessions it can resume, may stay.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.digest == other.digest
    }

    /// The name that the server must have: `server_name`, or the one that is connected to. Where only a pin counts there
    /// need be none, and none is sent (SNI).
    fn name_of(&self, host: Option<&Name>) -> Result<ServerName<'static>, Failure> {
        match self.name.as_ref().or(host) {
            Some(name) => Ok(name.0.clone()),
            None if !self.needs_name => Ok(ServerName::IpAddress(IpAddr::from(std::net::IpAddr::from([0; 4])))),
            None => Err(Failure::new(
                "wrong-name",
                "there is no name that the server's certificate could have",
                Some("say it: upstream.tls.server_name"),
            )),
        }
    }

    /// Shakes hands on a connected socket. `host` is what was connected to, if that is a name or an address. The deadline is
    /// the caller's: drop the future.
    ///
    /// # Errors
    ///
    /// [`Failure`], in words; the server was sent the alert, and the socket is closed.
    pub async fn connect<S: Socket>(&self, host: Option<&Name>, io: S) -> Result<Secured<S>, Failure> {
        let name = self.name_of(host)?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.config));
        match connector.connect(name, Watched::new(io)).into_fallible().await {
            Ok(stream) => {
                let (watched, session) = stream.into_inner();
                Ok(Secured::new(TlsPipe::new(watched.io, session, watched.edge)))
            }
            Err((error, watched)) => Err(refusal::explain_io(&error, watched.first)),
        }
    }

    /// The same for a thread that may block, with the socket's own deadlines.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub fn connect_blocking<S: Read + Write>(
        &self,
        host: Option<&Name>,
        mut io: S,
    ) -> Result<impl Read + Write + use<S>, Failure> {
        let internal = |error: &rustls::Error| refusal::explain(error);
        let mut session =
            ClientConnection::new(Arc::clone(&self.config), self.name_of(host)?).map_err(|error| internal(&error))?;
        while session.is_handshaking() {
            session.complete_io(&mut io).map_err(|error| refusal::explain_io(&error, None))?;
        }
        Ok(rustls::StreamOwned::new(session, io))
    }
}

fn verifier(
    roots: Option<RootCertStore>,
    lists: Vec<CertificateRevocationListDer<'static>>,
    files: &ClientFiles,
    provider: &Arc<CryptoProvider>,
) -> Result<Verifier, rustls::server::VerifierBuilderError> {
    let chain = match roots {
        Some(roots) => {
            // The whole chain is asked about: webpki's default, relied on and tested.
            let mut builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
            builder = builder.with_crls(lists);
            if files.revocation.expired == Doubt::Refuse {
                builder = builder.enforce_revocation_expiration();
            }
            if files.revocation.missing == Doubt::Accept {
                builder = builder.allow_unknown_revocation_status();
            }
            Some(builder.build()?)
        }
        None => None,
    };
    Ok(Verifier { chain, pins: files.pins.clone(), names: files.server_name.is_some(), provider: Arc::clone(provider) })
}

fn config(
    provider: &Arc<CryptoProvider>,
    min_version: MinVersion,
    own: Option<CertifiedKey>,
    verifier: Verifier,
) -> Result<ClientConfig, rustls::Error> {
    let versions: &[&rustls::SupportedProtocolVersion] = match min_version {
        MinVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        MinVersion::Tls13 => &[&rustls::version::TLS13],
    };
    // "Dangerous" is what rustls calls any verifier of one's own; this one asks rustls' and then the pins.
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(match own {
        Some(own) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))),
        None => builder.with_no_client_auth(),
    })
}

/// Holds a server's certificate against what was configured.
#[derive(Debug)]
struct Verifier {
    /// Chain, dates, use and name, by rustls; none where only pins count.
    chain: Option<Arc<WebPkiServerVerifier>>,
    pins: Vec<Pin>,
    /// Whether the name counts though there is no chain.
    names: bool,
    provider: Arc<CryptoProvider>,
}

/// A certificate that is none of those pinned.
#[derive(Debug, thiserror::Error)]
#[error("its pins are {whole}{}", key.map(|key| format!(" and {key}")).unwrap_or_default())]
pub(super) struct Unpinned {
    whole: Pin,
    key: Option<Pin>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(chain) = &self.chain {
            chain.verify_server_cert(leaf, above, name, ocsp, now)?;
        } else {
            if self.pins.is_empty() {
                return Err(CertificateError::UnknownIssuer.into());
            }
            in_force(leaf, now)?;
            if self.names {
                verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
            }
        }
        if !self.pins.is_empty() && !self.pins.iter().any(|pin| pin.fits(leaf)) {
            let (whole, key) = Pin::of(leaf);
            return Err(CertificateError::Other(OtherError(Arc::new(Unpinned { whole, key }))).into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Holds a pinned certificate against its own dates.
fn in_force(leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| CertificateError::BadEncoding)?;
    let now = seconds(now);
    if now < parsed.validity().not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > parsed.validity().not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
