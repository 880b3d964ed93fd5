//! Who is not let in any more, though a CA in force has issued the certificate.
//!
//! Two means, which do not need each other:
//!
//! * **Revocation lists** (RFC 5280, 5), from files and folders. The whole chain is asked about, not only its end. Of two
//!   lists of one issuer the newer counts, whichever file comes first: webpki takes the first that fits, and yesterday's list
//!   must not hide today's. What a list past its next update means, and a certificate for which nobody has a list, is
//!   [`Revocation::expired`] and [`Revocation::missing`]: both refuse unless the configuration says otherwise.
//! * **Serial numbers** ([`RevokedSerial`]), for the hour before the CA has a list: any certificate of the chain.
//!
//! Both are asked at every handshake, again when a session is resumed, and again of every open connection after a reload; what they
//! have said of a chain is remembered for as long as they must say the same ([`super::proven`]).

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime},
    server::{
        VerifierBuilderError, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use std::{
    cmp::Ordering,
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};
use x509_parser::{
    oid_registry::{OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER, OID_X509_EXT_ISSUER_DISTRIBUTION_POINT},
    prelude::{FromDer, X509Certificate},
    revocation_list::CertificateRevocationList,
};
use zeroize::Zeroizing;

use super::{
    name, peer, pem,
    proven::Proven,
    server::{FileError, Flaw},
};

/// The largest list that is read.
pub const CRL_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The most files that one folder may hold.
pub const FOLDER_FILES_MAX: usize = 256;

/// The most bytes of all lists together.
pub const CRLS_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What becomes of a client about whom nobody knows whether it is revoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doubt {
    /// It is let in.
    Accept,
    /// It is refused: whoever can keep a list from being fetched must not win.
    #[default]
    Refuse,
}

impl Doubt {
    /// The word of the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Refuse => "refuse",
        }
    }
}

/// What is said about revocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocation {
    /// When a list is past its next update.
    pub expired: Doubt,
    /// When there are lists, and none of the certificate's issuer.
    pub missing: Doubt,
    /// Certificates that are revoked whatever any list says.
    pub serials: Vec<RevokedSerial>,
}

/// A certificate that is revoked by its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedSerial {
    serial: String,
    issuer: Option<String>,
}

impl RevokedSerial {
    /// From hexadecimal digits of either case, with or without colons and leading zeros, and the issuer's name as RFC 4514
    /// writes it. Without an issuer, whoever has issued a certificate of that number. None for what is no number.
    #[must_use]
    pub fn new(serial: &str, issuer: Option<&str>) -> Option<Self> {
        let digits = serial.replace(':', "").to_ascii_lowercase();
        let good = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        good.then(|| Self { serial: significant(&digits).to_owned(), issuer: issuer.map(str::to_owned) })
    }
}

fn significant(digits: &str) -> &str {
    digits.trim_start_matches('0')
}

/// The numbers, to be looked up.
#[derive(Debug, Default)]
pub(super) struct Serials(HashMap<String, Vec<Option<String>>>);

impl Serials {
    pub(super) fn new(listed: &[RevokedSerial]) -> Self {
        let mut found: HashMap<String, Vec<Option<String>>> = HashMap::new();
        for RevokedSerial { serial, issuer } in listed {
            found.entry(serial.clone()).or_default().push(issuer.clone());
        }
        Self(found)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this certificate is revoked; one that cannot be read is.
    pub(super) fn revoke(&self, der: &CertificateDer<'_>) -> bool {
        if self.is_empty() {
            return false;
        }
        let Ok(([], certificate)) = X509Certificate::from_der(der) else { return true };
        let Some(issuers) = self.0.get(significant(&peer::serial(&certificate))) else { return false };
        let issuer = name::distinguished(certificate.issuer());
        issuers.iter().any(|listed| listed.as_ref().is_none_or(|listed| *listed == issuer))
    }
}

/// A verifier, and its last second, since 1970.
pub(super) type Stage = (u64, Arc<dyn ClientCertVerifier>);

/// A verifier that knows the numbers as well, and that CAs expire: to webpki an anchor has no dates.
#[derive(Debug)]
pub(super) struct Guard {
    /// The verifier that trusts every CA, for what does not depend on time.
    inner: Arc<dyn ClientCertVerifier>,
    /// Verifiers, each up to the second (since 1970) in which the next of its CAs expires; in that order.
    stages: Vec<Stage>,
    serials: Serials,
    /// Chains that were let through a moment ago.
    proven: Proven,
}

impl Guard {
    /// None without a stage: nobody would be trusted. The lists of the stages are good until that second, since 1970.
    pub(super) fn new(stages: Vec<Stage>, serials: Serials, lists_until: u64) -> Option<Self> {
        let inner = Arc::clone(&stages.first()?.1);
        Some(Self { inner, stages, serials, proven: Proven::new(lists_until) })
    }
}

impl ClientCertVerifier for Guard {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let digest = Proven::digest(leaf, above);
        if self.proven.has(&digest, now) {
            return Ok(ClientCertVerified::assertion());
        }
        // notAfter is the last second of validity (RFC 5280, 4.1.2.5).
        let stage = self.stages.iter().find(|(until, _)| now.as_secs() <= *until);
        let (until, verifier) = stage.ok_or(CertificateError::Expired)?;
        let verified = verifier.verify_client_cert(leaf, above, now)?;
        // Certificates that were shown and not needed count too: nobody has a reason to show a revoked one.
        let revoked = std::iter::once(leaf).chain(above).any(|each| self.serials.revoke(each));
        if revoked {
            return Err(CertificateError::Revoked.into());
        }
        self.proven.keep(digest, leaf, above, now, *until);
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// A file of revocation lists, as it was read.
pub(super) struct Source {
    pub(super) file: PathBuf,
    pub(super) bytes: Zeroizing<Vec<u8>>,
}

/// Reads files, and the files of folders in the order of their names. Names that begin with a dot are passed over (what
/// editors and Kubernetes keep there), and so are folders within folders.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<Source>, FileError> {
    let (mut found, mut total) = (Vec::new(), 0_u64);
    let mut take = |file: &Path| {
        let bytes = pem::read_at_most(file, CRL_BYTES_MAX).map_err(|flaw| flaw.at(file))?;
        total = total.saturating_add(bytes.len() as u64);
        if total > CRLS_BYTES_MAX {
            let flaw = Flaw::new(format!("is one too many: all lists together exceed {CRLS_BYTES_MAX} bytes"), None);
            return Err(flaw.at(file));
        }
        found.push(Source { file: file.to_owned(), bytes });
        Ok(())
    };
    for path in paths {
        if path.is_dir() {
            for file in folder(path).map_err(|flaw| flaw.at(path))? {
                take(&file)?;
            }
        } else {
            take(path)?;
        }
    }
    Ok(found)
}

fn folder(path: &Path) -> Result<Vec<PathBuf>, Flaw> {
    let unreadable = |error: std::io::Error| Flaw::new(format!("cannot be read: {error}"), None);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let hidden = entry.file_name().as_encoded_bytes().first() == Some(&b'.');
        if hidden || entry.path().is_dir() {
            continue;
        }
        files.push(entry.path());
        if files.len() > FOLDER_FILES_MAX {
            return Err(Flaw::new(
                format!("holds more than {FOLDER_FILES_MAX} files"),
                "keep one list for each issuer",
            ));
        }
    }
    if files.is_empty() {
        return Err(Flaw::new(
            "is a folder without a file",
            "put the revocation lists there first, or leave the folder out: an empty one would revoke nobody",
        ));
    }
    files.sort_unstable();
    Ok(files)
}

/// The lists in a file: PEM, any number, or one as DER, which is how CAs publish them.
pub(super) fn lists(source: &Source) -> Result<Vec<CertificateRevocationListDer<'static>>, Flaw> {
    if source.bytes.first() == Some(&0x30) {
        return Ok(vec![CertificateRevocationListDer::from(source.bytes.to_vec())]);
    }
    pem::revocation_lists(&source.bytes)
}

/// The list as it reads, if a verifier can use it: asked of each by itself, so that an error can be told of its file.
pub(super) fn usable<'d>(
    der: &'d CertificateRevocationListDer<'static>,
    provider: &Arc<CryptoProvider>,
) -> Result<CertificateRevocationList<'d>, Flaw> {
    let Ok(([], crl)) = CertificateRevocationList::from_der(der) else {
        return Err(Flaw::new("holds a revocation list that cannot be read", "fetch it again"));
    };
    let alone = WebPkiClientVerifier::builder_with_provider(Arc::new(nobody()), Arc::clone(provider));
    if let Err(VerifierBuilderError::InvalidCrl(error)) = alone.with_crls([der.clone()]).build() {
        return Err(Flaw::new(
            format!("holds a revocation list that cannot be used: {error:?}"),
            "lists must be version 2, whole (no delta) and by the CA that issued the certificates (RFC 5280, 5)",
        ));
    }
    Ok(crl)
}

/// A store that trusts a key nobody has: a verifier needs an anchor, and the lists alone are to be looked at.
fn nobody() -> rustls::RootCertStore {
    rustls::RootCertStore {
        roots: vec![rustls::pki_types::TrustAnchor {
            subject: vec![].into(),
            subject_public_key_info: vec![].into(),
            name_constraints: None,
        }],
    }
}

/// What tells the lists of one issuer apart that are both needed: its name, its key, and which part of its certificates
/// the list is about.
#[derive(PartialEq, Eq, Hash)]
struct Scope {
    issuer: Vec<u8>,
    key: Vec<u8>,
    part: Vec<u8>,
}

fn scope(crl: &CertificateRevocationList<'_>) -> Scope {
    let extension = |oid| {
        let found = crl.extensions().iter().find(|extension| extension.oid == oid);
        found.map_or_else(Vec::new, |extension| extension.value.to_vec())
    };
    Scope {
        issuer: crl.issuer().as_raw().to_vec(),
        key: extension(OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER),
        part: extension(OID_X509_EXT_ISSUER_DISTRIBUTION_POINT),
    }
}

/// Which of two lists of one scope is newer: by number (RFC 5280, 5.2.3), or by date where one has none.
fn age(a: &CertificateRevocationList<'_>, b: &CertificateRevocationList<'_>) -> Ordering {
    let dates = a.last_update().timestamp().cmp(&b.last_update().timestamp());
    match (a.crl_number(), b.crl_number()) {
        (Some(a), Some(b)) => a.cmp(b).then(dates),
        _ => dates,
    }
}

/// The last second, since 1970, in which none of the lists is past its next update; without lists, the last there is.
pub(super) fn good_until(lists: &[CertificateRevocationListDer<'_>]) -> u64 {
    let until = |der: &CertificateRevocationListDer<'_>| {
        let (_, crl) = CertificateRevocationList::from_der(der).ok()?;
        // At its next update a list is past it.
        u64::try_from(crl.next_update()?.timestamp()).ok()?.checked_sub(1)
    };
    lists.iter().map(|der| until(der).unwrap_or(0)).min().unwrap_or(u64::MAX)
}

/// Leaves the newest list of each scope, in the order they came in; the positions of the others, for a warning.
pub(super) fn superseded(lists: &[CertificateRevocationListDer<'_>]) -> Vec<usize> {
    let mut newest: HashMap<Scope, (usize, CertificateRevocationList<'_>)> = HashMap::new();
    let mut older = Vec::new();
    for (at, der) in lists.iter().enumerate() {
        let Ok((_, crl)) = CertificateRevocationList::from_der(der) else { continue };
        match newest.entry(scope(&crl)) {
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert((at, crl));
            }
            std::collections::hash_map::Entry::Occupied(mut place) => {
                let loser = if age(&crl, &place.get().1) == Ordering::Greater { place.insert((at, crl)).0 } else { at };
                older.push(loser);
            }
        }
    }
    older.sort_unstable();
    older
}

#[cfg(test)]
mod tests {
    use super::*;
    use certs_dev::{Leaf, Pki};

    fn der(pem: &str) -> CertificateRevocationListDer<'static> {
        pem::revocation_lists(pem.as_bytes()).unwrap().pop().unwrap()
    }

    #[test]
    fn a_number_is_a_number_however_it_is_written() {
        let pki = Pki::new().unwrap();
        let issued = pki.client("app").unwrap();
        let leaf = CertificateDer::from(issued.der.clone());
        let plain = peer::hex(&issued.serial);
        let colons =
            plain.as_bytes().chunks(2).map(|two| std::str::from_utf8(two).unwrap()).collect::<Vec<_>>().join(":");
        for written in [plain.clone(), plain.to_uppercase(), format!("00{plain}"), colons] {
            let serials = Serials::new(&[RevokedSerial::new(&written, None).unwrap()]);
            assert!(serials.revoke(&leaf), "{written}");
            assert!(!serials.revoke(&CertificateDer::from(pki.client("other").unwrap().der)));
        }
        for none in ["", ":", "0x1f", "1g", "12 34"] {
            assert_eq!(RevokedSerial::new(none, None), None, "{none}");
        }
    }

    #[test]
    fn an_issuer_narrows_a_number_to_its_own_certificates() {
        let pki = Pki::new().unwrap();
        let issued = pki.client("app").unwrap();
        let leaf = CertificateDer::from(issued.der.clone());
        let (_, parsed) = X509Certificate::from_der(&issued.der).unwrap();
        let issuer = name::distinguished(parsed.issuer());
        let number = peer::hex(&issued.serial);
        let revoked = |issuer| Serials::new(&[RevokedSerial::new(&number, issuer).unwrap()]).revoke(&leaf);
        assert!(revoked(Some(&issuer)));
        assert!(!revoked(Some("CN=Somebody else")));
        assert!(revoked(None));
        assert!(Serials::new(&[RevokedSerial::new("1", None).unwrap()]).revoke(&CertificateDer::from(vec![1, 2, 3])));
    }

    #[test]
    fn the_newer_list_of_an_issuer_counts_whichever_comes_first() {
        let pki = Pki::new().unwrap();
        let leaf = pki.issue(&Leaf::client("app")).unwrap();
        let old = der(&pki.ca.crl(&[], 30).unwrap());
        let new = der(&pki.ca.crl_numbered(2, &[&leaf.serial], (0, 30)).unwrap());
        let other = der(&pki.intermediate.crl(&[], 30).unwrap());
        assert_eq!(superseded(&[old.clone(), new.clone(), other.clone()]), [0]);
        assert_eq!(superseded(&[new, other, old.clone()]), [2]);
        assert_eq!(superseded(&[old.clone(), old]), [1]);
    }

    #[test]
    fn folders_are_read_in_the_order_of_names_and_hidden_files_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        assert!(read(&[dir.path().into()]).err().unwrap().to_string().contains("without a file"));
        for name in ["b.crl", "a.crl", ".hidden"] {
            std::fs::write(path(name), name).unwrap();
        }
        std::fs::create_dir(path("folder")).unwrap();
        let read =
            |paths: &[PathBuf]| read(paths).map(|found| found.into_iter().map(|each| each.file).collect::<Vec<_>>());
        assert_eq!(read(&[dir.path().into()]).unwrap(), [path("a.crl"), path("b.crl")]);
        assert_eq!(read(&[path("b.crl"), path("a.crl")]).unwrap(), [path("b.crl"), path("a.crl")]);
        assert!(read(&[path("none")]).unwrap_err().to_string().contains("none: cannot be read"));
        for n in 0..=FOLDER_FILES_MAX {
            std::fs::write(path(&format!("{n}.crl")), "").unwrap();
        }
        assert!(read(&[dir.path().into()]).unwrap_err().to_string().contains("more than 256 files"));
    }

    #[test]
    fn lists_too_large_together_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> = (0..5).map(|n| dir.path().join(n.to_string())).collect();
        for file in &files {
            std::fs::File::create(file).unwrap().set_len(CRL_BYTES_MAX).unwrap();
        }
        assert_eq!(read(&files[..4]).unwrap().len(), 4);
        assert!(read(&files).err().unwrap().to_string().contains("all lists together"));
        std::fs::File::create(&files[0]).unwrap().set_len(CRL_BYTES_MAX + 1).unwrap();
        assert!(read(&files[..1]).err().unwrap().to_string().contains("is larger than"));
    }
}
