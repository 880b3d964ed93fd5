//! A listener's own certificates: which is shown to whom (SNI: RFC 6066, 3), and what is stapled to it.
//!
//! A name in a certificate stands for itself, or, as `*.` before the rest, for exactly one label there (RFC 9525, 6.3; no
//! other wildcard counts). A whole name goes before a wildcard. Of two certificates for one name the first counts whose key
//! the client can verify, so that an ECDSA and an RSA certificate may stand side by side. Who asks for no name (every client
//! that connects to an address) and, unless names are strict, who asks for an unknown one, is shown the default.

use rustls::{
    SignatureScheme,
    pki_types::UnixTime,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{collections::HashMap, sync::Arc};

/// One certificate with its key.
#[derive(Debug)]
struct Held {
    plain: Arc<CertifiedKey>,
    /// With its OCSP response, and until when (seconds since 1970).
    stapled: Option<(Arc<CertifiedKey>, u64)>,
}

impl Held {
    fn now(&self, now: u64) -> Arc<CertifiedKey> {
        match &self.stapled {
            Some((stapled, until)) if now < *until => Arc::clone(stapled),
            _ => Arc::clone(&self.plain),
        }
    }

    fn suits(&self, schemes: &[SignatureScheme]) -> bool {
        self.plain.key.choose_scheme(schemes).is_some()
    }
}

/// All of a listener's. The first is the default.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    held: Vec<Held>,
    names: HashMap<String, Vec<usize>>,
    /// By what comes after `*.`.
    wildcards: HashMap<String, Vec<usize>>,
}

impl Shelf {
    /// Adds one, for names that [`normal`] has made.
    pub(super) fn put(&mut self, key: CertifiedKey, staple: Option<(Vec<u8>, u64)>, names: &[String]) {
        let at = self.held.len();
        for name in names {
            let (index, name) = match name.strip_prefix("*.") {
                Some(rest) => (&mut self.wildcards, rest),
                None => (&mut self.names, name.as_str()),
            };
            index.entry(name.to_owned()).or_default().push(at);
        }
        let stapled = staple.map(|(response, until)| {
            let mut key = key.clone();
            key.ocsp = Some(response);
            (Arc::new(key), until)
        });
        self.held.push(Held { plain: Arc::new(key), stapled });
    }

    /// Who is shown to whoever asks for this name, which is in lower case.
    fn find(&self, name: &str) -> Option<&[usize]> {
        let name = name.strip_suffix('.').unwrap_or(name);
        if let Some(found) = self.names.get(name) {
            return Some(found);
        }
        let (first, rest) = name.split_once('.')?;
        if first.is_empty() { None } else { self.wildcards.get(rest).map(Vec::as_slice) }
    }

    /// Whether there is a certificate for this name.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme], now: u64) -> Option<Arc<CertifiedKey>> {
        let found = name.and_then(|name| self.find(name)).unwrap_or(&[0]);
        let held = || found.iter().filter_map(|at| self.held.get(*at));
        held().find(|held| held.suits(schemes)).or_else(|| held().next()).map(|held| held.now(now))
    }
}

impl ResolvesServerCert for Shelf {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes(), UnixTime::now().as_secs())
    }
}

/// A name as it is looked up: lower case, without a dot at its end. None for what is no name of a host, nor a wildcard of
/// one whole label.
#[must_use]
pub fn normal(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let host = name.strip_prefix("*.").unwrap_or(&name);
    let label = |label: &str| {
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(inside) && !label.starts_with('-') && !label.ends_with('-')
    };
    let address = host.parse::<std::net::IpAddr>().is_ok();
    (name.len() <= 253 && !address && host.split('.').all(label)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::pem;
    use certs_dev::{KeyKind, Leaf, Pki};
    use rustls::crypto::aws_lc_rs;

    fn key(pki: &Pki, kind: KeyKind) -> CertifiedKey {
        let issued = pki.issue(&Leaf::server(&["x"]).key(kind)).unwrap();
        let chain = pem::certificates(issued.chain.as_bytes()).unwrap();
        let key = pem::private_key(issued.key.as_bytes()).unwrap();
        CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).unwrap()
    }

    const ANY: &[SignatureScheme] =
        &[SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256];

    /// The positions of the certificates that these names are answered with.
    fn shown(shelf: &Shelf, names: &[&str]) -> Vec<usize> {
        let position =
            |key: &Arc<CertifiedKey>| shelf.held.iter().position(|held| Arc::ptr_eq(&held.plain, key)).unwrap();
        names.iter().map(|name| position(&shelf.choose(Some(name), ANY, 0).unwrap())).collect()
    }

    #[test]
    fn a_whole_name_goes_before_a_wildcard_and_a_wildcard_is_one_label() {
        let pki = Pki::new().unwrap();
        let mut shelf = Shelf::default();
        for names in [vec!["main.example"], vec!["*.db.example"], vec!["a.db.example"]] {
            let names: Vec<String> = names.into_iter().map(|name| normal(name).unwrap()).collect();
            shelf.put(key(&pki, KeyKind::P256), None, &names);
        }
        let asked =
            ["main.example", "b.db.example", "a.db.example", "db.example", "x.b.db.example", "other", "b.db.example."];
        assert_eq!(shown(&shelf, &asked), [0, 1, 2, 0, 0, 0, 1]);
        assert!(shelf.knows("c.db.example") && !shelf.knows("db.example") && !shelf.knows(".db.example"));
        assert!(shelf.choose(None, ANY, 0).is_some());
    }

    #[test]
    fn of_two_for_one_name_the_first_that_the_client_can_verify_is_shown() {
        let pki = Pki::new().unwrap();
        let mut shelf = Shelf::default();
        for kind in [KeyKind::P256, KeyKind::Rsa] {
            shelf.put(key(&pki, kind), None, &["a.example".to_owned()]);
        }
        let only = |schemes: &[SignatureScheme]| {
            let chosen = shelf.choose(Some("a.example"), schemes, 0).unwrap();
            shelf.held.iter().position(|held| Arc::ptr_eq(&held.plain, &chosen)).unwrap()
        };
        assert_eq!(only(ANY), 0);
        assert_eq!(only(&[SignatureScheme::RSA_PSS_SHA256]), 1);
        assert_eq!(only(&[SignatureScheme::ED25519]), 0);
    }

    #[test]
    fn a_response_is_stapled_until_its_end() {
        let mut shelf = Shelf::default();
        shelf.put(key(&Pki::new().unwrap(), KeyKind::P256), Some((b"response".to_vec(), 100)), &[]);
        let stapled = |now| shelf.choose(None, ANY, now).unwrap().ocsp.clone();
        assert_eq!(stapled(99).as_deref(), Some(b"response".as_slice()));
        assert_eq!(stapled(100), None);
    }

    #[test]
    fn names_are_made_alike_or_are_none() {
        let rows = [
            ("DB.Example.", Some("db.example")),
            ("*.DB.example", Some("*.db.example")),
            ("localhost", Some("localhost")),
            ("xn--bcher-kva.example", Some("xn--bcher-kva.example")),
            ("_redis.example", Some("_redis.example")),
            ("*", None),
            ("*.", None),
            ("a*.example", None),
            ("a.*.example", None),
            ("*.*.example", None),
            ("10.0.0.1", None),
            ("::1", None),
            ("", None),
            ("a..b", None),
            ("-a.example", None),
            ("b\u{fc}cher.example", None),
            ("a b", None),
        ];
        for (name, expected) in rows {
            assert_eq!(normal(name).as_deref(), expected, "{name}");
        }
        assert_eq!(normal(&"a".repeat(64)), None);
        assert_eq!(normal(&format!("{}a", "a.".repeat(127))), None);
    }
}
