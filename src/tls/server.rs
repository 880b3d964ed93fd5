//! One listener's TLS, made from files: all of them sound, or an error that says which is not and what to do.
//!
//! Decisions, and why:
//!
//! * **Client certificates are mandatory** and checked against `client_ca` alone, never the system's roots. Where a listener
//!   says otherwise ([`Files::anonymous`]), none need be shown; one that is shown is checked all the same, and a handshake
//!   with one that does not hold fails.
//! * **Revocation fails closed** ([`super::revocation`]). Once any CRL is configured, every certificate below the root must
//!   be spoken for by a CRL of its issuer (`revocation-unknown` otherwise), and a CRL past its next update no longer counts
//!   (`crl-expired`): an attacker who can stop the CRL from being fetched must not win. The configuration can say otherwise.
//! * **An expired CA is left out**, from the second on in which it expires, though webpki would go on trusting it: a root's
//!   own dates mean nothing to webpki.
//! * **A certificate that is no CA may not stand in `client_ca`**: webpki trusts whatever stands there to issue.
//! * **Sessions resume from stateless tickets**, one per connection: the ticket carries the client's chain, so a resumed
//!   connection has an identity, and a connection at rest keeps nothing. [`Tls::recheck`] verifies that chain again, and the
//!   ticket keys are made anew with every load ([`Tls::rekeyed`] where nothing else has changed), so that no session outlives
//!   a reload. All workers share them.
//! * **The server's order of suites counts** (RFC 9325, 4.2.1), not the client's.
//! * **The provider is passed explicitly**; nothing depends on what else in the process installed a default.

use rustls::{
    CipherSuite, DigitallySignedStruct, DistinguishedName, InconsistentKeys, NamedGroup, RootCertStore, ServerConfig,
    SignatureScheme,
    client::danger::HandshakeSignatureValid,
    client::verify_server_cert_signed_by_trust_anchor,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime},
    server::{
        NoServerSessionStorage, ParsedCertificate, ProducesTickets, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};
use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use zeroize::Zeroizing;

use super::{
    describe::{Description, Found},
    expiry::{End, Kind},
    failure::HINT_V1,
    ocsp, pem,
    revocation::{self, Doubt, Guard, Revocation, Serials, Stage},
    shelf::Shelf,
    suites,
};

/// Days before its end from which a certificate is warned of, unless the configuration says otherwise.
pub(super) const EXPIRY_WARNING: Duration = Duration::from_secs(14 * 24 * 3600);

/// The largest unverified certificate kept for a record; rustls lets handshake messages of 64 KiB through.
const WITNESS_BYTES_MAX: usize = 16 * 1024;

/// Where a listener's TLS lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Certificate chain of this server, its own first.
    pub cert: PathBuf,
    /// Its private key; may be the same file.
    pub key: PathBuf,
    /// The CAs that issue client certificates.
    pub client_ca: PathBuf,
    /// Their revocation lists, files or folders of files, or none.
    pub crl: Vec<PathBuf>,
    /// The oldest protocol spoken.
    pub min_version: MinVersion,
    /// A client may show no certificate; it then has no name.
    pub anonymous: bool,
    /// Everything that has a default.
    pub choice: Choice,
}

/// What can be chosen about a listener's TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// An OCSP response for the server's certificate, DER.
    pub ocsp: Option<PathBuf>,
    /// Further certificates, for clients that ask for their names.
    pub certificates: Vec<Pair>,
    /// Whoever asks for a name that no certificate has is refused, instead of shown the first one.
    pub strict_names: bool,
    /// Who is not let in any more.
    pub revocation: Revocation,
    /// The cipher suites, best first; empty for rustls' own.
    pub suites: Vec<CipherSuite>,
    /// The groups of the key exchange, of which the client's first counts; empty for rustls' own.
    pub groups: Vec<NamedGroup>,
    /// How long before its end something is warned of.
    pub expiry_warning: Duration,
}

impl Default for Choice {
    fn default() -> Self {
        Self {
            ocsp: None,
            certificates: Vec::new(),
            strict_names: false,
            revocation: Revocation::default(),
            suites: Vec::new(),
            groups: Vec::new(),
            expiry_warning: EXPIRY_WARNING,
        }
    }
}

/// A further certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// Its chain, its own first.
    pub cert: PathBuf,
    /// Its private key; may be the same file.
    pub key: PathBuf,
    /// An OCSP response for it, DER.
    pub ocsp: Option<PathBuf>,
    /// The names it is shown for, as [`super::shelf::normal`] makes them; empty for those that are in it.
    pub names: Vec<String>,
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

    pub(super) fn at(self, file: &Path) -> FileError {
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

/// A certificate's files, as they were read.
struct PairMaterial {
    cert: Zeroizing<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
    ocsp: Option<Zeroizing<Vec<u8>>>,
}

impl PairMaterial {
    fn read(pair: &Pair) -> Result<Self, FileError> {
        let read = |path: &PathBuf| pem::read(path).map_err(|flaw| flaw.at(path));
        let response = |path: &PathBuf| pem::read_at_most(path, ocsp::RESPONSE_BYTES_MAX).map_err(|flaw| flaw.at(path));
        Ok(Self { cert: read(&pair.cert)?, key: read(&pair.key)?, ocsp: pair.ocsp.as_ref().map(response).transpose()? })
    }
}

/// The files' contents, read together.
pub struct Material {
    files: Files,
    pairs: Vec<(Pair, PairMaterial)>,
    client_ca: Zeroizing<Vec<u8>>,
    crl: Vec<revocation::Source>,
}

impl Material {
    /// Reads all files.
    ///
    /// # Errors
    ///
    /// The first that cannot be read.
    pub fn read(files: &Files) -> Result<Self, FileError> {
        let first = Pair {
            cert: files.cert.clone(),
            key: files.key.clone(),
            ocsp: files.choice.ocsp.clone(),
            names: Vec::new(),
        };
        let pairs = std::iter::once(&first).chain(&files.choice.certificates);
        Ok(Self {
            pairs: pairs.map(|pair| Ok((pair.clone(), PairMaterial::read(pair)?))).collect::<Result<_, _>>()?,
            client_ca: pem::read(&files.client_ca).map_err(|flaw| flaw.at(&files.client_ca))?,
            crl: revocation::read(&files.crl)?,
            files: files.clone(),
        })
    }

    /// Tells unchanged material from changed; says nothing about the key. Where a file lies does not count.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            // Lengths, or bytes could wander from one file into the next unseen.
            hash.update(bytes.len().to_be_bytes());
            hash.update(bytes);
        };
        for (pair, read) in &self.pairs {
            part(&read.cert);
            part(&read.key);
            part(read.ocsp.as_ref().map_or(b"none", |ocsp| ocsp.as_slice()));
            part(pair.names.join(",").as_bytes());
        }
        part(&self.client_ca);
        for list in &self.crl {
            part(&list.bytes);
        }
        let Files { min_version, anonymous, choice, .. } = &self.files;
        let Choice { strict_names, revocation, suites, groups, expiry_warning, ocsp: _, certificates: _ } = choice;
        let rest = (min_version, anonymous, strict_names, revocation, suites, groups, expiry_warning);
        part(format!("{rest:?}").as_bytes());
        hash.finalize().into()
    }
}

/// One listener's TLS, ready to shake hands.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
    shelf: Arc<Shelf>,
    strict_names: bool,
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
        let Material { files, pairs, client_ca, crl } = material;
        let choice = &files.choice;
        let provider = Arc::new(suites::provider(&choice.suites, &choice.groups));
        let mut found = Found::new(now, choice);

        let authorities = pem::certificates(client_ca).map_err(|flaw| flaw.at(&files.client_ca))?;
        let serials = Serials::new(&choice.revocation.serials);
        let trusted = trusted(&authorities, &serials, &mut found).map_err(|flaw| flaw.at(&files.client_ca))?;
        let mut shelf = Shelf::default();
        for (pair, read) in pairs {
            let chain = pem::certificates(&read.cert).map_err(|flaw| flaw.at(&pair.cert))?;
            let names = found.pair(&chain, &pair.names).map_err(|flaw| flaw.at(&pair.cert))?;
            check_chain(&chain, &provider, now).map_err(|flaw| flaw.at(&pair.cert))?;
            let staple = match (&read.ocsp, &pair.ocsp) {
                (Some(response), Some(file)) => {
                    found.staple(&chain, response, &provider).map_err(|flaw| flaw.at(file))?
                }
                _ => {
                    found.unstapled(&chain);
                    None
                }
            };
            shelf.put(own_key(chain, &read.key, pair, &provider)?, staple, &names);
        }
        let lists = lists(crl, &provider, &mut found)?;

        let stages = stages(&trusted, &lists, files, &provider).map_err(|error| {
            let file = crl.first().map_or(&files.client_ca, |source| &source.file);
            Flaw::new(format!("cannot be used: {error}"), None).at(file)
        })?;
        let verifier: Arc<dyn ClientCertVerifier> = match Guard::new(stages, serials, revocation::good_until(&lists)) {
            Some(guard) => Arc::new(guard),
            None => return Err(Flaw::new("holds no CA that can be trusted", None).at(&files.client_ca)),
        };
        let shelf = Arc::new(shelf);
        let config = config(&provider, files.min_version, Arc::clone(&shelf), Arc::clone(&verifier))
            .map_err(|error| Flaw::new(format!("cannot be used: {error}"), None).at(&files.cert))?;
        found.agreed(&suites::versions(files.min_version, &provider), &provider);
        Ok(Self {
            config: Arc::new(config),
            verifier,
            shelf,
            strict_names: choice.strict_names,
            description: found.description(),
            digest: material.digest(),
        })
    }

    /// The same with new ticket keys: every session of before is over, and its client shakes hands anew. All workers share
    /// them, as before. Where no keys can be made, no tickets are given out at all.
    pub(super) fn rekeyed(&self) -> Self {
        let ticketer = aws_lc_rs::Ticketer::new().unwrap_or_else(|error| {
            tracing::error!(%error, "no ticket keys can be made: clients cannot resume sessions");
            Arc::new(NoTickets)
        });
        self.with_ticketer(ticketer)
    }

    pub(super) fn with_ticketer(&self, ticketer: Arc<dyn ProducesTickets>) -> Self {
        let mut config = ServerConfig::clone(&self.config);
        config.ticketer = ticketer;
        Self { config: Arc::new(config), ..self.clone() }
    }

    /// The same at another time.
    #[cfg(test)]
    pub(super) fn at(&self, clock: Arc<dyn rustls::time_provider::TimeProvider>) -> Self {
        let mut config = ServerConfig::clone(&self.config);
        config.time_provider = clock;
        Self { config: Arc::new(config), ..self.clone() }
    }

    /// Whether a client that asks for this name (in lower case) is served.
    pub(super) fn serves(&self, name: &str) -> bool {
        !self.strict_names || self.shelf.knows(name)
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

    /// Whether a CA or a list has come to its end behind the first of these moments (in seconds since 1970) and before the
    /// second, so that [`recheck_at`](Self::recheck_at) may say something else than it did. A list that counts on beyond
    /// its end (`crl_expired = "accept"`) changes nothing.
    #[must_use]
    pub fn has_turned(&self, since: u64, now: u64) -> bool {
        let seconds = |at: u64| i64::try_from(at).unwrap_or(i64::MAX);
        // The last second of a CA is one of its own; asking a list a second later than need be does no harm.
        let passed = seconds(since).saturating_sub(1)..seconds(now);
        let judges = |end: &&End| matches!(end.kind, Kind::ClientCa | Kind::CrlRefusing);
        self.description.ends.iter().filter(judges).any(|end| passed.contains(&end.at))
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

/// No ticket for anybody, and none is taken.
#[derive(Debug)]
struct NoTickets;

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// The CAs that may issue client certificates. One that is revoked by its number is none: as an anchor it would stand in
/// no chain that is looked through for numbers.
///
/// With each, its last second, since 1970.
fn trusted(
    authorities: &[CertificateDer<'static>],
    serials: &Serials,
    found: &mut Found,
) -> Result<Vec<(u64, CertificateDer<'static>)>, Flaw> {
    let mut trusted = Vec::new();
    for authority in authorities {
        if let Some(until) = found.authority(authority, serials.revoke(authority))? {
            trusted.push((until, authority.clone()));
        }
    }
    let mut roots = RootCertStore::empty();
    for (_, authority) in &trusted {
        roots
            .add(authority.clone())
            .map_err(|error| Flaw::new(format!("holds a certificate that cannot be trusted: {error}"), None))?;
    }
    if trusted.is_empty() {
        return Err(Flaw::new("holds only expired CA certificates, or revoked ones", "put the CA in force there"));
    }
    Ok(trusted)
}

/// A verifier for each span of time between two ends of CAs, with the CAs that are in force then.
fn stages(
    trusted: &[(u64, CertificateDer<'static>)],
    lists: &[CertificateRevocationListDer<'static>],
    files: &Files,
    provider: &Arc<CryptoProvider>,
) -> Result<Vec<Stage>, rustls::server::VerifierBuilderError> {
    let mut ends: Vec<u64> = trusted.iter().map(|(until, _)| *until).collect();
    ends.sort_unstable();
    ends.dedup();
    let stage = |end: u64| {
        let mut roots = RootCertStore::empty();
        // All of them have been added once, without an error.
        let _ = roots
            .add_parsable_certificates(trusted.iter().filter(|(until, _)| *until >= end).map(|(_, der)| der.clone()));
        Ok((end, verifier(roots, lists.to_vec(), files, provider)?))
    };
    ends.into_iter().map(stage).collect()
}

/// The server's own chain: each is issued by the next.
fn check_chain(chain: &[CertificateDer<'static>], provider: &CryptoProvider, now: UnixTime) -> Result<(), Flaw> {
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
    pair: &Pair,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, FileError> {
    let key = pem::private_key(pem).map_err(|flaw| flaw.at(&pair.key))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| {
        match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Flaw::new(
                format!("is not the key of the certificate in {}", pair.cert.display()),
                "install certificate and key of the same issue; the server's own certificate comes first in its file",
            ),
            error => Flaw::new(
                format!("holds a key that cannot be used: {error}"),
                "use ECDSA P-256/P-384, Ed25519 or RSA of 2048 bits or more",
            ),
        }
        .at(&pair.key)
    })
}

/// The revocation lists that count. Each is tried by itself, so that an error names its file.
fn lists(
    sources: &[revocation::Source],
    provider: &Arc<CryptoProvider>,
    found: &mut Found,
) -> Result<Vec<CertificateRevocationListDer<'static>>, FileError> {
    let mut all = Vec::new();
    for source in sources {
        for list in revocation::lists(source).map_err(|flaw| flaw.at(&source.file))? {
            found.crl(&list, provider).map_err(|flaw| flaw.at(&source.file))?;
            all.push((&source.file, list));
        }
    }
    let ders: Vec<_> = all.iter().map(|(_, list)| list.clone()).collect();
    let older = revocation::superseded(&ders);
    for file in older.iter().filter_map(|at| all.get(*at)).map(|(file, _)| file) {
        found.superseded(file);
    }
    found.uncovered_authorities(&older);
    Ok(ders.into_iter().enumerate().filter(|(at, _)| !older.contains(at)).map(|(_, list)| list).collect())
}

fn verifier(
    roots: RootCertStore,
    lists: Vec<CertificateRevocationListDer<'static>>,
    files: &Files,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, rustls::server::VerifierBuilderError> {
    // The whole chain: webpki's default, relied on and tested.
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).with_crls(lists);
    let Revocation { expired, missing, .. } = files.choice.revocation;
    if expired == Doubt::Refuse {
        builder = builder.enforce_revocation_expiration();
    }
    if missing == Doubt::Accept {
        builder = builder.allow_unknown_revocation_status();
    }
    if files.anonymous { builder.allow_unauthenticated().build() } else { builder.build() }
}

fn config(
    provider: &Arc<CryptoProvider>,
    min_version: MinVersion,
    shelf: Arc<Shelf>,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&suites::versions(min_version, provider))?
        .with_client_cert_verifier(Arc::new(Witness(verifier)))
        .with_cert_resolver(shelf);
    config.ignore_client_order = true;
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
