//! PEM files: certificates, one key, revocation lists.
//!
//! The only place that names rustls-pemfile. It is archived (RUSTSEC-2025-0134) but complete; should it ever have to go,
//! `rustls_pki_types::pem` replaces it behind these signatures.

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use std::{fs::File, io::Read, path::Path};
use zeroize::Zeroizing;

use super::server::Flaw;

/// The largest file that is read. A bundle of every public root is a fifth of it; a CRL of more than that belongs split.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads a whole file, at most [`FILE_BYTES_MAX`]; the bytes are wiped when dropped, since they may hold a key.
///
/// # Errors
///
/// When it cannot be read, is too large, or is no regular file (a FIFO would block for ever).
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Flaw> {
    read_at_most(path, FILE_BYTES_MAX)
}

/// The same, with a bound of one's own.
pub(super) fn read_at_most(path: &Path, max: u64) -> Result<Zeroizing<Vec<u8>>, Flaw> {
    let unreadable = |error: std::io::Error| Flaw::new(format!("cannot be read: {error}"), None);
    // Looked at before opening: opening a FIFO is what blocks.
    let known = std::fs::metadata(path).map_err(unreadable)?;
    if !known.is_file() {
        return Err(Flaw::new("is not a regular file", None));
    }
    let too_large = || Flaw::new(format!("is larger than {max} bytes"), Some("split it"));
    let size = usize::try_from(known.len().min(max)).map_err(|_| too_large())?;
    // Room for all of it at once: a buffer that grows leaves copies of a key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(size.saturating_add(1)));
    File::open(path).and_then(|file| file.take(max.saturating_add(1)).read_to_end(&mut bytes)).map_err(unreadable)?;
    if u64::try_from(bytes.len()).map_or(true, |len| len > max) {
        return Err(too_large());
    }
    Ok(bytes)
}

/// All certificates, in the file's order; other sections are passed over.
///
/// # Errors
///
/// When there is none, or one is damaged.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Flaw> {
    let found: Vec<_> = rustls_pemfile::certs(&mut &*pem).collect::<Result<_, _>>().map_err(damaged)?;
    if found.is_empty() {
        return Err(Flaw::new("holds no certificate", hint(pem, "it must be PEM with -----BEGIN CERTIFICATE-----")));
    }
    Ok(found)
}

/// The one private key: PKCS#8, PKCS#1 or SEC1; other sections are passed over.
///
/// # Errors
///
/// When there is none or more than one, or it is damaged or encrypted.
pub fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Flaw> {
    let mut rest = pem;
    let Some(key) = rustls_pemfile::private_key(&mut rest).map_err(damaged)? else {
        return Err(Flaw::new("holds no private key", hint(pem, "it must be PEM with -----BEGIN PRIVATE KEY-----")));
    };
    if rustls_pemfile::private_key(&mut rest).map_err(damaged)?.is_some() {
        return Err(Flaw::new("holds more than one private key", Some("keep the one that belongs to the certificate")));
    }
    Ok(key)
}

/// The one public key (`SubjectPublicKeyInfo`), DER; other sections are passed over.
///
/// # Errors
///
/// When there is none or more than one, or it is damaged.
pub fn public_key(pem: &[u8]) -> Result<Vec<u8>, Flaw> {
    let mut found: Vec<_> = rustls_pemfile::public_keys(&mut &*pem).collect::<Result<_, _>>().map_err(damaged)?;
    match (found.pop(), found.is_empty()) {
        (Some(key), true) => Ok(key.to_vec()),
        (Some(_), false) => Err(Flaw::new("holds more than one public key", Some("keep one in each file"))),
        (None, _) => Err(Flaw::new("holds no public key", Some("it must be PEM with -----BEGIN PUBLIC KEY-----"))),
    }
}

/// All revocation lists.
///
/// # Errors
///
/// When there is none, or one is damaged.
pub fn revocation_lists(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, Flaw> {
    let found: Vec<_> = rustls_pemfile::crls(&mut &*pem).collect::<Result<_, _>>().map_err(damaged)?;
    if found.is_empty() {
        return Err(Flaw::new("holds no revocation list", hint(pem, "it must be PEM with -----BEGIN X509 CRL-----")));
    }
    Ok(found)
}

fn damaged(error: std::io::Error) -> Flaw {
    // The error quotes lines of the file only for damaged base64, never a key's content.
    Flaw::new(format!("is damaged PEM: {}", error.kind()), Some("copy the file again, with its BEGIN and END lines"))
}

/// What is usually wrong with a file in which nothing was found.
fn hint(pem: &[u8], otherwise: &'static str) -> Option<&'static str> {
    let holds = |text: &str| memchr::memmem::find(pem, text.as_bytes()).is_some();
    Some(if pem.first() == Some(&0x30) {
        "it is DER; convert it with openssl (x509, pkey or crl) -inform der -outform pem"
    } else if holds("BEGIN ENCRYPTED PRIVATE KEY") || holds("Proc-Type: 4,ENCRYPTED") {
        "the key is encrypted; a proxy that starts unattended needs it decrypted (openssl pkey) and readable by itself alone"
    } else if holds("BEGIN TRUSTED CERTIFICATE") {
        "it is OpenSSL's own TRUSTED CERTIFICATE format; convert it with openssl x509"
    } else {
        otherwise
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use certs_dev::Pki;

    #[test]
    fn certificate_and_key_may_share_a_file_in_either_order() {
        let client = Pki::new().unwrap().client("app").unwrap();
        for file in [format!("{}{}", client.cert, client.key), format!("{}\n# note\n{}", client.key, client.cert)] {
            assert_eq!(certificates(file.as_bytes()).unwrap().len(), 1);
            assert!(private_key(file.as_bytes()).is_ok());
        }
    }

    #[test]
    fn two_keys_in_one_file_are_refused() {
        let pki = Pki::new().unwrap();
        let both = format!("{}{}", pki.client("a").unwrap().key, pki.client("b").unwrap().key);
        assert!(private_key(both.as_bytes()).unwrap_err().to_string().contains("more than one"));
    }

    #[test]
    fn what_is_missing_is_named_with_the_usual_cause() {
        let pki = Pki::new().unwrap();
        let client = pki.client("app").unwrap();
        let cases: [(&[u8], &str); 4] = [
            (b"", "BEGIN PRIVATE KEY"),
            (client.cert.as_bytes(), "no private key"),
            (&client.der, "it is DER"),
            (b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "encrypted"),
        ];
        for (file, expected) in cases {
            let said = private_key(file).unwrap_err().to_string();
            assert!(said.contains(expected), "{said}");
        }
        assert!(certificates(client.key.as_bytes()).unwrap_err().to_string().contains("no certificate"));
        assert!(revocation_lists(client.cert.as_bytes()).unwrap_err().to_string().contains("no revocation list"));
        assert!(certificates(b"-----BEGIN CERTIFICATE-----\nnot base64!\n-----END CERTIFICATE-----\n").is_err());
    }

    #[test]
    fn oversized_missing_and_special_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let large = dir.path().join("large");
        File::create(&large).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
        assert!(read(&large).unwrap_err().to_string().contains("larger"));
        assert!(read(&dir.path().join("none")).unwrap_err().to_string().contains("cannot be read"));
        assert!(read(dir.path()).unwrap_err().to_string().contains("regular file"));
    }
}
