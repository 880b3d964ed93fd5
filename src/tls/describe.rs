//! What the TLS files hold: facts for `check`, flaws that stop a start, warnings that do not.

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use serde::Serialize;
use std::fmt;
use x509_parser::{
    prelude::{FromDer, GeneralName, X509Certificate, X509Version},
    public_key::PublicKey,
    revocation_list::CertificateRevocationList,
};

use super::{
    peer::{cut, hex, serial},
    server::{Flaw, version_1},
};

const DAY: i64 = 86_400;

/// Days before an end at which `check` begins to warn.
const WARN_DAYS: i64 = 14;
const WARN_CRL_DAYS: i64 = 7;

/// RSA keys below this are refused in handshakes (webpki).
const RSA_BITS_MIN: usize = 2048;

/// Everything worth knowing about a listener's TLS files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Description {
    /// The server's own certificate, then the intermediates it shows.
    pub chain: Vec<CertificateInfo>,
    /// The CAs that issue client certificates.
    pub client_ca: Vec<CertificateInfo>,
    /// Their revocation lists.
    pub crl: Vec<CrlInfo>,
    /// What works now and will be trouble, in sentences.
    pub warnings: Vec<String>,
}

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateInfo {
    /// Whose it is.
    pub subject: String,
    /// Who issued it.
    pub issuer: String,
    /// Alternative names, with their kind.
    pub names: Vec<String>,
    /// Serial number, lower-case hexadecimal.
    pub serial: String,
    /// `2026-11-20T21:10:03Z`.
    pub not_before: String,
    /// The same.
    pub not_after: String,
    /// Whole days until `not_after`; below zero when it has passed.
    pub days_left: i64,
    /// `ECDSA P-256`, `RSA 2048` …
    pub key: String,
}

/// One revocation list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CrlInfo {
    /// The CA it speaks for.
    pub issuer: String,
    /// When the next one is due; a list without it never counts as expired.
    pub next_update: Option<String>,
    /// How many certificates it revokes.
    pub revoked: usize,
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, certificate) in self.chain.iter().enumerate() {
            writeln!(f, "{}{certificate}", if n == 0 { "server certificate  " } else { "  shown with it     " })?;
        }
        for certificate in &self.client_ca {
            writeln!(f, "client CA           {certificate}")?;
        }
        for crl in &self.crl {
            let due = crl.next_update.as_deref().unwrap_or("not said");
            writeln!(f, "revocation list     {}, {} revoked, next update {due}", crl.issuer, crl.revoked)?;
        }
        self.warnings.iter().try_for_each(|warning| writeln!(f, "warning: {warning}"))
    }
}

impl fmt::Display for CertificateInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.subject)?;
        if !self.names.is_empty() {
            write!(f, " ({})", self.names.join(", "))?;
        }
        write!(
            f,
            ", {}, serial {}, until {} ({} days), issued by {}",
            self.key, self.serial, self.not_after, self.days_left, self.issuer
        )
    }
}

/// Gathers the description while the files are looked through.
pub(super) struct Found {
    now: i64,
    description: Description,
    /// Subject names, raw: of the trusted CAs, of those that are no roots, and of the issuers of CRLs.
    authorities: Vec<Vec<u8>>,
    intermediates: Vec<Vec<u8>>,
    crl_issuers: Vec<Vec<u8>>,
}

impl Found {
    pub(super) fn new(now: UnixTime) -> Self {
        Self {
            now: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            description: Description::default(),
            authorities: Vec::new(),
            intermediates: Vec::new(),
            crl_issuers: Vec::new(),
        }
    }

    pub(super) fn description(self) -> Description {
        self.description
    }

    fn warn(&mut self, warning: String) {
        self.description.warnings.push(warning);
    }

    /// Looks at a CA for client certificates; false when it has expired and must not be trusted.
    pub(super) fn authority(&mut self, der: &CertificateDer<'_>) -> Result<bool, Flaw> {
        let certificate = parse(der)?;
        let info = self.info(&certificate);
        let is_ca = certificate.basic_constraints().ok().flatten().is_some_and(|basic| basic.value.ca);
        let self_signed = certificate.subject().as_raw() == certificate.issuer().as_raw();
        if certificate.version() != X509Version::V3 {
            // As a root it is only a name and a key, and webpki takes it; without extensions nothing else can be asked of it.
            if !self_signed {
                return Err(version_1(&format!("the intermediate {}", info.subject)));
            }
            self.warn(format!(
                "the client CA {} is X.509 version 1; make a new one as version 3 (`ravelin certs`, openssl req -x509)",
                info.subject
            ));
        } else if !is_ca {
            return Err(Flaw::new(
                format!("{} is not a CA certificate", info.subject),
                "client_ca takes the CA that issued the clients' certificates, not a server's or a client's own",
            ));
        }
        let expired = info.days_left < 0;
        if expired {
            self.warn(format!("the client CA {} expired on {} and is no longer trusted", info.subject, info.not_after));
        } else {
            self.warn_of_end("the client CA", &info);
            self.authorities.push(certificate.subject().as_raw().to_vec());
            if !self_signed {
                self.intermediates.push(certificate.subject().as_raw().to_vec());
            }
        }
        self.description.client_ca.push(info);
        Ok(!expired)
    }

    /// Looks at the server's own chain, after the client CAs.
    pub(super) fn chain(&mut self, chain: &[CertificateDer<'_>]) -> Result<(), Flaw> {
        let parsed = chain.iter().map(|der| parse(der)).collect::<Result<Vec<_>, _>>()?;
        for (n, certificate) in parsed.iter().enumerate() {
            let info = self.info(certificate);
            if certificate.version() != X509Version::V3 {
                return Err(version_1(&format!("the certificate {}", info.subject)));
            }
            let next = parsed.get(n.saturating_add(1));
            if next.is_some_and(|next| next.subject().as_raw() != certificate.issuer().as_raw()) {
                return Err(Flaw::new(
                    format!("certificate {} in it ({}) was not issued by the one after it", n + 1, info.subject),
                    "the server's certificate comes first, then the intermediate that issued it, and so on",
                ));
            }
            self.warn_of_end("the certificate", &info);
            if n == 0 {
                self.own(certificate, &info, next.is_none())?;
            }
            self.description.chain.push(info);
        }
        Ok(())
    }

    fn own(&mut self, certificate: &X509Certificate<'_>, info: &CertificateInfo, alone: bool) -> Result<(), Flaw> {
        if let Ok(Some(usage)) = certificate.extended_key_usage()
            && !usage.value.server_auth
            && !usage.value.any
        {
            return Err(Flaw::new(
                format!("the certificate {} is not for servers", info.subject),
                "issue it with extendedKeyUsage=serverAuth",
            ));
        }
        if info.names.is_empty() {
            self.warn(format!(
                "the certificate {} has no alternative names; most clients ignore the common name",
                info.subject
            ));
        }
        let issuer = certificate.issuer().as_raw();
        if !alone || issuer == certificate.subject().as_raw() {
            return Ok(());
        }
        if self.intermediates.iter().any(|known| known == issuer) {
            return Err(Flaw::new(
                format!("the intermediate that issued {} is missing ({})", info.subject, info.issuer),
                "append its certificate to the file; clients know only the root",
            ));
        }
        // A root need not be shown, an intermediate must: without the issuer at hand the two look alike.
        if !self.authorities.iter().any(|known| known == issuer) {
            self.warn(format!(
                "if {} is an intermediate and not a root, its certificate must be appended to the file",
                info.issuer
            ));
        }
        Ok(())
    }

    /// Looks at a revocation list.
    pub(super) fn crl(&mut self, der: &CertificateRevocationListDer<'_>) -> Result<(), Flaw> {
        let Ok(([], crl)) = CertificateRevocationList::from_der(der) else {
            return Err(Flaw::new("holds a revocation list that cannot be read", "fetch it again"));
        };
        let issuer = cut(&crl.issuer().to_string());
        if !self.authorities.iter().any(|known| known == crl.issuer().as_raw()) {
            self.warn(format!(
                "no client CA is called {issuer}; its revocation list counts only for intermediates that clients show"
            ));
        }
        let next_update = crl.next_update().map(|time| time.timestamp());
        if let Some(due) = next_update {
            if due < self.now {
                self.warn(format!(
                    "the revocation list of {issuer} was due to be renewed on {}; every client of that CA is refused",
                    date(due)
                ));
            } else if due - self.now < WARN_CRL_DAYS * DAY {
                self.warn(format!("the revocation list of {issuer} counts until {}; renew it before", date(due)));
            }
        }
        self.description.crl.push(CrlInfo {
            issuer,
            next_update: next_update.map(date),
            revoked: crl.iter_revoked_certificates().count(),
        });
        self.crl_issuers.push(crl.issuer().as_raw().to_vec());
        Ok(())
    }

    /// Once there is any revocation list, a CA without one is a CA whose clients are refused.
    pub(super) fn uncovered_authorities(&mut self) {
        if self.crl_issuers.is_empty() {
            return;
        }
        let uncovered: Vec<String> = self
            .authorities
            .iter()
            .filter(|authority| !self.crl_issuers.contains(authority))
            .filter_map(|authority| x509_parser::x509::X509Name::from_der(authority).ok())
            .map(|(_, name)| cut(&name.to_string()))
            .collect();
        for name in uncovered {
            self.warn(format!(
                "no revocation list speaks for {name}: its clients are refused while any list is configured"
            ));
        }
    }

    fn warn_of_end(&mut self, what: &str, info: &CertificateInfo) {
        if info.days_left < 0 {
            self.warn(format!("{what} {} expired on {}; clients will refuse it", info.subject, info.not_after));
        } else if info.days_left < WARN_DAYS {
            self.warn(format!("{what} {} expires in {} days", info.subject, info.days_left));
        }
    }

    fn info(&mut self, certificate: &X509Certificate<'_>) -> CertificateInfo {
        let subject = cut(&certificate.subject().to_string());
        let validity = certificate.validity();
        if validity.not_before.timestamp() > self.now {
            self.warn(format!(
                "the certificate {subject} is not valid before {}",
                date(validity.not_before.timestamp())
            ));
        }
        let (key, weak) = key(certificate);
        if weak {
            self.warn(format!(
                "the certificate {subject} has a key that is refused ({key}); issue it again with ECDSA P-256"
            ));
        }
        CertificateInfo {
            issuer: cut(&certificate.issuer().to_string()),
            names: names(certificate),
            serial: cut(&serial(certificate)),
            not_before: date(validity.not_before.timestamp()),
            not_after: date(validity.not_after.timestamp()),
            days_left: validity.not_after.timestamp().saturating_sub(self.now).div_euclid(DAY),
            subject,
            key,
        }
    }
}

fn parse<'a>(der: &'a [u8]) -> Result<X509Certificate<'a>, Flaw> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(Flaw::new("holds a certificate that cannot be read", "copy the file again")),
    }
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(dns) => Some(cut(dns)),
        GeneralName::URI(uri) => Some(cut(uri)),
        GeneralName::RFC822Name(email) => Some(cut(email)),
        GeneralName::IPAddress(bytes) => Some(match *bytes {
            [a, b, c, d] => std::net::Ipv4Addr::new(*a, *b, *c, *d).to_string(),
            _ => <[u8; 16]>::try_from(*bytes)
                .map_or_else(|_| hex(bytes), |six| std::net::Ipv6Addr::from(six).to_string()),
        }),
        _ => None,
    };
    names.value.general_names.iter().filter_map(name).collect()
}

/// The key's kind, and whether it is one that handshakes refuse.
fn key(certificate: &X509Certificate<'_>) -> (String, bool) {
    let spki = certificate.public_key();
    match spki.parsed() {
        Ok(PublicKey::RSA(rsa)) => {
            let bits = rsa.key_size();
            (format!("RSA {bits}"), bits < RSA_BITS_MIN)
        }
        Ok(PublicKey::EC(point)) => match point.key_size() {
            bits @ (256 | 384 | 521) => (format!("ECDSA P-{bits}"), false),
            bits => (format!("EC {bits}"), true),
        },
        _ if spki.algorithm.algorithm.to_id_string() == "1.3.101.112" => ("Ed25519".to_owned(), false),
        _ => (spki.algorithm.algorithm.to_id_string(), false),
    }
}

fn date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}
