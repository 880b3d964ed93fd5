//! What a client's side of TLS is made from: roots, its own certificate, revocation lists, read from files.

use rustls::{
    InconsistentKeys, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime},
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};
use std::{path::Path, sync::Arc};
use x509_parser::{
    prelude::{FromDer, X509Certificate},
    revocation_list::CertificateRevocationList,
};

use super::{
    client::{ClientFiles, Own},
    expiry::{End, Kind, Say, warn_from},
    peer::cut,
    pem,
    pin::Pin,
    revocation::{self, Doubt},
    server::{EXPIRY_WARNING, FileError, Flaw},
};

/// Where the system's roots come from, in errors.
pub(super) const SYSTEM: &str = "the system's root certificates";

/// What is worth knowing about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientDescription {
    /// Certificates trusted to issue.
    pub roots: usize,
    /// What ends by itself: our own certificate, CAs from a file, lists.
    pub ends: Vec<End>,
    /// What works now and will be trouble, in sentences.
    pub warnings: Vec<String>,
    /// What is over, and keeps the two from each other, likewise.
    pub expired: Vec<String>,
}

impl ClientDescription {
    pub(super) fn end(&mut self, kind: Kind, certificate: &str, subject: &str, (made, at): (Option<i64>, i64)) {
        let warn_from = warn_from(made, at, i64::try_from(EXPIRY_WARNING.as_secs()).unwrap_or(i64::MAX));
        let (certificate, subject) = (certificate.to_owned(), subject.to_owned());
        self.ends.push(End { kind, certificate, subject, at, warn_from });
    }

    /// Says what is near its end or past it.
    pub(super) fn foresee(&mut self, now: UnixTime) {
        for end in &self.ends {
            match end.say(seconds(now)) {
                Some(Say::Over(text)) if end.fails() => self.expired.push(text),
                Some(Say::Over(text) | Say::Soon(text)) => self.warnings.push(text),
                None => {}
            }
        }
    }
}

pub(super) fn at(path: &Path, flaw: Flaw) -> FileError {
    FileError { file: path.to_owned(), flaw }
}

pub(super) fn read(path: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, FileError> {
    pem::read(path).map_err(|flaw| at(path, flaw))
}

pub(super) fn system() -> Result<Vec<CertificateDer<'static>>, Flaw> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let why = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
        let hint = "install the package ca-certificates, or name a file with `ca`";
        return Err(Flaw::new(format!("cannot be found{why}"), hint));
    }
    Ok(found.certs)
}

/// Those of the certificates that may issue now. Of a file that somebody wrote each must make sense; of the system's
/// hundreds those that do not are passed over.
pub(super) fn trusted(
    found: Vec<CertificateDer<'static>>,
    now: UnixTime,
    strict: bool,
    description: &mut ClientDescription,
) -> Result<RootCertStore, Flaw> {
    let mut roots = RootCertStore::empty();
    for certificate in found {
        let Ok((_, parsed)) = X509Certificate::from_der(&certificate) else {
            if strict {
                return Err(Flaw::new("holds a certificate that cannot be read", None));
            }
            continue;
        };
        let subject = parsed.subject().to_string();
        let is_ca = parsed.basic_constraints().ok().flatten().is_some_and(|basic| basic.value.ca);
        if strict && !is_ca && parsed.version() == x509_parser::prelude::X509Version::V3 {
            let (whole, _) = Pin::of(&certificate);
            return Err(Flaw::new(
                format!("{subject} is not a CA certificate; a server's own certificate is pinned: pin = [\"{whole}\"]"),
                None,
            ));
        }
        // A root's own dates mean nothing to webpki.
        if seconds(now) > parsed.validity().not_after.timestamp() {
            if strict {
                description.warnings.push(format!("the CA {subject} has expired and is no longer trusted"));
            }
            continue;
        }
        if strict {
            let whole = (Some(parsed.validity().not_before.timestamp()), parsed.validity().not_after.timestamp());
            description.end(Kind::FarCa, "upstream_ca", &cut(&subject), whole);
        }
        match roots.add(certificate.clone()) {
            Err(error) if strict => {
                return Err(Flaw::new(format!("holds a certificate that cannot be trusted: {error}"), None));
            }
            Err(_) | Ok(()) => {}
        }
    }
    if roots.is_empty() {
        return Err(Flaw::new("holds only expired CA certificates", "put the CA in force there"));
    }
    description.roots = roots.len();
    Ok(roots)
}

pub(super) fn own_key(
    own: &Own,
    cert: &[u8],
    key: &[u8],
    provider: &CryptoProvider,
    description: &mut ClientDescription,
) -> Result<CertifiedKey, FileError> {
    let chain = pem::certificates(cert).map_err(|flaw| at(&own.cert, flaw))?;
    let key = pem::private_key(key).map_err(|flaw| at(&own.key, flaw))?;
    for certificate in &chain {
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
            return Err(at(&own.cert, Flaw::new("holds a certificate that cannot be read", None)));
        };
        let end = parsed.validity().not_after.timestamp();
        description.end(Kind::Own, "upstream", &cut(&parsed.subject().to_string()), (None, end));
    }
    CertifiedKey::from_der(chain, key, provider).map_err(|error| {
        let flaw = match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Flaw::new(
                format!("is not the key of the certificate in {}", own.cert.display()),
                "install certificate and key of the same issue; the client's own certificate comes first in its file",
            ),
            error => Flaw::new(
                format!("holds a key that cannot be used: {error}"),
                "use ECDSA P-256/P-384, Ed25519 or RSA of 2048 bits or more",
            ),
        };
        at(&own.key, flaw)
    })
}

/// The lists that count, each of which a verifier can use.
pub(super) fn lists(
    files: &ClientFiles,
    provider: &Arc<CryptoProvider>,
    hash: &mut Sha256,
    description: &mut ClientDescription,
) -> Result<Vec<CertificateRevocationListDer<'static>>, FileError> {
    let mut all = Vec::new();
    for source in revocation::read(&files.crl)? {
        hash.update(Sha256::digest(source.bytes.as_slice()));
        for list in revocation::lists(&source).map_err(|flaw| at(&source.file, flaw))? {
            revocation::usable(&list, provider).map_err(|flaw| at(&source.file, flaw))?;
            all.push((source.file.clone(), list));
        }
    }
    let ders: Vec<_> = all.iter().map(|(_, list)| list.clone()).collect();
    let older = revocation::superseded(&ders);
    let refuses = files.revocation.expired == Doubt::Refuse;
    let kind = if refuses { Kind::FarCrlRefusing } else { Kind::FarCrlAccepting };
    let mut counting = Vec::new();
    for (place, (file, list)) in all.into_iter().enumerate() {
        if older.contains(&place) {
            let text = format!("{} holds a revocation list that a newer one here replaces; remove it", file.display());
            description.warnings.push(text);
            continue;
        }
        if let Ok((_, crl)) = CertificateRevocationList::from_der(&list)
            && let Some(due) = crl.next_update()
        {
            let span = (Some(crl.last_update().timestamp()), due.timestamp());
            description.end(kind, "upstream_crl", &cut(&crl.issuer().to_string()), span);
        }
        counting.push(list);
    }
    Ok(counting)
}

pub(super) fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}
