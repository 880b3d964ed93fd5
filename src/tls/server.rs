//! One listener's TLS, made from files: all of them sound, or an error that says which is not and what to do.
//!
//! Decisions, and why:
//!
//! * **Client certificates are mandatory** and checked against `client_ca` alone, never the system's roots. Where a listener
//!   says otherwise ([`Files::anonymous`]), none need be shown; one that is shown is checked all the same, and a handshake
//!   with one that does not hold fails.
//! * **Revocation fails closed.** Once any CRL is configured, every certificate below the root must be spoken for by a CRL
//!   of its issuer (`revocation-unknown` otherwise), and a CRL past its next update no longer counts (`crl-expired`): an
//!   attacker who can stop the CRL from being fetched must not win. `check` warns a week ahead.
//! * **An expired CA is left out**, though webpki would go on trusting it: a root's own dates mean nothing to webpki.
//! * **A certificate that is no CA may not stand in `client_ca`**: webpki trusts whatever stands there to issue.
//! * **Sessions resume from stateless tickets**, one per connection: the ticket carries the client's chain, so a resumed
//!   connection has an identity, and a connection at rest keeps nothing. [`Tls::recheck`] verifies that chain again, and the
//!   ticket keys are made anew with every load, so that no session outlives a reload.
//! * **The provider is passed explicitly**; nothing depends on what else in the process installed a default.

use rustls::{
    DigitallySignedStruct, DistinguishedName, InconsistentKeys, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    client::verify_server_cert_signed_by_trust_anchor,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime},
    server::{
        NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::{CertifiedKey, SingleCertAndKey},
};
use sha2::{Digest, Sha256};
use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    sync::Arc,
};
use zeroize::Zeroizing;

use super::{
    describe::{Description, Found},
    failure::HINT_V1,
    pem,
};

/// The largest unverified certificate kept for a record; rustls lets handshake messages of 64 KiB through.
const WITNESS_BYTES_MAX: usize = 16 * 1024;

/// Where a listener's TLS lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Certificate chain of this server, its own first.
    pub cert: PathBuf,
    /// Its private key; may be the same file.
    pub key: PathBuf,
    /// The CAs that issue client certificates.
    pub client_ca: PathBuf,
    /// Their revocation lists, or none.
    pub crl: Vec<PathBuf>,
    /// The oldest protocol spoken.
    pub min_version: MinVersion,
    /// A client may show no certificate; it then has no name.
    pub anonymous: bool,
}

/// The oldest protocol spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2: what Redis' own TLS and older client libraries offer.
    #[default]
    Tls12,
    /// TLS 1.3 only.
    Tls13,
}

/// What is wrong with something, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// What is wrong; reads on from a file name.
    pub what: String,
    /// What to do about it.
    pub hint: Option<&'static str>,
}

impl Flaw {
    pub(super) fn new(what: impl Into<String>, hint: impl Into<Option<&'static str>>) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }

    fn at(self, file: &Path) -> FileError {
        FileError { file: file.to_owned(), flaw: self }
    }
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)?;
        self.hint.map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

/// A TLS file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {flaw}", file.display())]
pub struct FileError {
    /// Which.
    pub file: PathBuf,
    /// Why not.
    pub flaw: Flaw,
}

/// The files' contents, read together.
pub struct Material {
    files: Files,
    cert: Zeroizing<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
    client_ca: Zeroizing<Vec<u8>>,
    crl: Vec<Zeroizing<Vec<u8>>>,
}

impl Material {
    /// Reads all files.
    ///
    /// # Errors
    ///
    /// The first that cannot be read.
    pub fn read(files: &Files) -> Result<Self, FileError> {
        let read = |path: &PathBuf| pem::read(path).map_err(|flaw| flaw.at(path));
        Ok(Self {
            cert: read(&files.cert)?,
            key: read(&files.key)?,
            client_ca: read(&files.client_ca)?,
            crl: files.crl.iter().map(read).collect::<Result<_, _>>()?,
            files: files.clone(),
        })
    }

    /// Tells unchanged material from changed; says nothing about the key.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let parts = [&self.cert, &self.key, &self.client_ca].into_iter().chain(&self.crl);
        for part in parts {
            // Lengths, or bytes could wander from one file into the next unseen.
            hash.update(part.len().to_be_bytes());
            hash.update(part.as_slice());
        }
        hash.update([u8::from(self.files.min_version == MinVersion::Tls13), u8::from(self.files.anonymous)]);
        hash.finalize().into()
    }
}

/// One listener's TLS, ready to shake hands.
#[derive(Debug)]
pub struct Tls {
    config: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
    description: Description,
    digest: [u8; 32],
}

impl Tls {
    /// Reads the files and makes a server out of them. `now` decides what has expired.
    ///
    /// # Errors
    ///
    /// [`FileError`]: the file, what is wrong with it, and what to do.
    pub fn load(files: &Files, now: UnixTime) -> Result<Self, FileError> {
        Self::build(&Material::read(files)?, now)
    }

    pub(super) fn build(material: &Material, now: UnixTime) -> Result<Self, FileError> {
        let Material { files, cert, key, client_ca, crl } = material;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut found = Found::new(now);

        let authorities = pem::certificates(client_ca).map_err(|flaw| flaw.at(&files.client_ca))?;
        let roots = trusted(&authorities, &mut found).map_err(|flaw| flaw.at(&files.client_ca))?;
        let chain = pem::certificates(cert).map_err(|flaw| flaw.at(&files.cert))?;
        check_chain(&chain, &provider, now, &mut found).map_err(|flaw| flaw.at(&files.cert))?;
        let own = own_key(chain, key, files, &provider)?;

        let mut lists = Vec::new();
        for (file, bytes) in files.crl.iter().zip(crl) {
            let read = pem::revocation_lists(bytes).map_err(|flaw| flaw.at(file))?;
            for list in &read {
                found.crl(list).map_err(|flaw| flaw.at(file))?;
            }
            lists.extend(read);
        }
        found.uncovered_authorities();

        let verifier = verifier(roots, lists, files.anonymous, &provider).map_err(|error| {
            let file = files.crl.first().unwrap_or(&files.client_ca);
            Flaw::new(format!("cannot be used: {error}"), None).at(file)
        })?;
        let config = config(&provider, files.min_version, own, Arc::clone(&verifier))
            .map_err(|error| Flaw::new(format!("cannot be used: {error}"), None).at(&files.cert))?;
        Ok(Self { config: Arc::new(config), verifier, description: found.description(), digest: material.digest() })
    }

    /// rustls' view.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Verifies a chain again, now, with the CAs and CRLs in force: for sessions that were resumed, whose chain rustls
    /// takes from the ticket as it was.
    ///
    /// # Errors
    ///
    /// What the verifier says.
    pub fn recheck(&self, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let now = self.config.time_provider.current_time().ok_or(rustls::Error::FailedToGetCurrentTime)?;
        self.recheck_at(chain, now)
    }

    /// [`recheck`](Self::recheck) at a given time: after a reload, for connections that are open.
    ///
    /// # Errors
    ///
    /// What the verifier says.
    pub fn recheck_at(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), rustls::Error> {
        let Some((leaf, above)) = chain.split_first() else {
            // Whoever came without a certificate while that was allowed, and is asked again.
            let needed = self.verifier.client_auth_mandatory();
            return if needed { Err(rustls::Error::NoCertificatesPresented) } else { Ok(()) };
        };
        self.verifier.verify_client_cert(leaf, above, now).map(|_| ())
    }

    /// What the files hold, for `check` and for the start of the operational log.
    #[must_use]
    pub const fn description(&self) -> &Description {
        &self.description
    }

    pub(super) const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

/// The CAs that may issue client certificates.
fn trusted(authorities: &[CertificateDer<'static>], found: &mut Found) -> Result<RootCertStore, Flaw> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        if !found.authority(authority)? {
            continue;
        }
        roots
            .add(authority.clone())
            .map_err(|error| Flaw::new(format!("holds a certificate that cannot be trusted: {error}"), None))?;
    }
    if roots.is_empty() {
        return Err(Flaw::new("holds only expired CA certificates", "put the CA in force there"));
    }
    Ok(roots)
}

/// The server's own chain: version 3, for servers, each issued by the next, and nothing left out that clients need.
fn check_chain(
    chain: &[CertificateDer<'static>],
    provider: &CryptoProvider,
    now: UnixTime,
    found: &mut Found,
) -> Result<(), Flaw> {
    found.chain(chain)?;
    let ([leaf, .., last], Some((_, above))) = (chain, chain.split_first()) else {
        return Ok(());
    };
    // Names that link prove little: an intermediate renewed under its old name has another key.
    let mut top = RootCertStore::empty();
    let unlinked = |error: &dyn std::fmt::Display| {
        Flaw::new(
            format!("the certificates do not form a chain: {error}"),
            "the server's certificate comes first, then the intermediate that issued it, and so on",
        )
    };
    top.add(last.clone()).map_err(|error| unlinked(&error))?;
    let leaf = ParsedCertificate::try_from(leaf).map_err(|error| unlinked(&error))?;
    let algorithms = provider.signature_verification_algorithms.all;
    match verify_server_cert_signed_by_trust_anchor(&leaf, &top, above, now, algorithms) {
        // A wrong time is a warning of its own: a proxy that refuses to start at midnight helps nobody.
        Ok(())
        | Err(rustls::Error::InvalidCertificate(
            rustls::CertificateError::Expired
            | rustls::CertificateError::ExpiredContext { .. }
            | rustls::CertificateError::NotValidYet
            | rustls::CertificateError::NotValidYetContext { .. },
        )) => Ok(()),
        Err(error) => Err(unlinked(&error)),
    }
}

fn own_key(
    chain: Vec<CertificateDer<'static>>,
    pem: &[u8],
    files: &Files,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, FileError> {
    let key = pem::private_key(pem).map_err(|flaw| flaw.at(&files.key))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| {
        match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Flaw::new(
                format!("is not the key of the certificate in {}", files.cert.display()),
                "install certificate and key of the same issue; the server's own certificate comes first in its file",
            ),
            error => Flaw::new(
                format!("holds a key that cannot be used: {error}"),
                "use ECDSA P-256/P-384, Ed25519 or RSA of 2048 bits or more",
            ),
        }
        .at(&files.key)
    })
}

fn verifier(
    roots: RootCertStore,
    lists: Vec<CertificateRevocationListDer<'static>>,
    anonymous: bool,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, rustls::server::VerifierBuilderError> {
    // Whole chain, unknown status denied: webpki's defaults, relied on and tested.
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .with_crls(lists)
        .enforce_revocation_expiration();
    if anonymous { builder.allow_unauthenticated().build() } else { builder.build() }
}

fn config(
    provider: &Arc<CryptoProvider>,
    min_version: MinVersion,
    own: CertifiedKey,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, rustls::Error> {
    let versions: &[&rustls::SupportedProtocolVersion] = match min_version {
        MinVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        MinVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(Arc::new(Witness(verifier)))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    Ok(config)
}

thread_local! {
    static REFUSED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// The verifier, and a memory of the leaf it refused: rustls keeps no certificate that failed, but a record that says
/// which client is misconfigured needs its name. Verification runs inside one poll of the handshake, so what
/// [`super::handshake`] finds after a poll on the same thread belongs to that handshake.
#[derive(Debug)]
pub(super) struct Witness(Arc<dyn ClientCertVerifier>);

impl Witness {
    pub(super) fn forget() {
        REFUSED.take();
    }

    pub(super) fn recall() -> Option<Vec<u8>> {
        REFUSED.take()
    }

    fn note<T>(leaf: &CertificateDer<'_>, verdict: Result<T, rustls::Error>) -> Result<T, rustls::Error> {
        if verdict.is_err() && leaf.len() <= WITNESS_BYTES_MAX {
            REFUSED.set(Some(leaf.to_vec()));
        }
        verdict
    }
}

impl ClientCertVerifier for Witness {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Self::note(leaf, self.0.verify_client_cert(leaf, above, now))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::note(cert, self.0.verify_tls12_signature(message, cert, signed))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::note(cert, self.0.verify_tls13_signature(message, cert, signed))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// What `check` says of an X.509 version 1 certificate in any of the files.
pub(super) fn version_1(whose: &str) -> Flaw {
    Flaw::new(format!("{whose} is X.509 version 1, which TLS here refuses"), HINT_V1)
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
