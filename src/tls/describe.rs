//! What the TLS files hold: facts for `check`, flaws that stop a start, warnings that do not.

use rustls::{
    SupportedProtocolVersion,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime},
};
use serde::Serialize;
use std::{fmt, path::Path, sync::Arc};
use x509_parser::{
    prelude::{FromDer, GeneralName, X509Certificate, X509Version},
    public_key::PublicKey,
    revocation_list::CertificateRevocationList,
};

use super::{
    expiry::{End, Kind, Say, warn_from},
    ocsp::{self, OcspInfo},
    peer::{cut, hex, serial},
    revocation::{self, Doubt},
    server::{Choice, Flaw, version_1},
    shelf::normal,
    suites,
};

pub(super) const DAY: i64 = 86_400;

/// The extension with which a certificate asks to be stapled.
const MUST_STAPLE: &str = "1.3.6.1.5.5.7.1.24";

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
    /// What becomes of clients when a list is past its next update, and when there is none of their issuer.
    pub crl_expired: &'static str,
    /// The second of the two.
    pub crl_missing: &'static str,
    /// How many serial numbers are revoked by the configuration.
    pub revoked_serials: usize,
    /// What is stapled to the server's own certificate.
    pub ocsp: Option<OcspInfo>,
    /// Further certificates, by name.
    pub by_name: Vec<ByName>,
    /// Whether clients that ask for an unknown name are refused.
    pub strict_names: bool,
    /// `1.3`, `1.2`.
    pub versions: Vec<&'static str>,
    /// The cipher suites by their IANA names, best first.
    pub suites: Vec<String>,
    /// The groups of the key exchange, likewise; the client's order counts.
    pub groups: Vec<String>,
    /// What works now and will be trouble, in sentences.
    pub warnings: Vec<String>,
    /// What is over and keeps clients out, in sentences.
    pub expired: Vec<String>,
    /// What ends by itself.
    #[serde(skip)]
    pub ends: Vec<End>,
}

/// A further certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ByName {
    /// The names it is shown for.
    pub names: Vec<String>,
    /// The certificate, and the intermediates shown with it.
    pub chain: Vec<CertificateInfo>,
    /// What is stapled to it.
    pub ocsp: Option<OcspInfo>,
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
    #[serde(skip)]
    made: i64,
    #[serde(skip)]
    due: Option<i64>,
}

impl Description {
    /// What is in force, name and value, in the order it is printed.
    #[must_use]
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        let mut group = |name: &'static str, values: Vec<String>| {
            for (at, value) in values.into_iter().enumerate() {
                lines.push((if at == 0 { name } else { "" }, value));
            }
        };
        group("protocols", vec![format!("TLS {}", self.versions.join(", "))]);
        group("cipher suites", vec![self.suites.join(", ")]);
        group("key exchange", vec![self.groups.join(", ")]);
        group("certificate", self.chain.iter().map(ToString::to_string).collect());
        group("stapled", self.ocsp.iter().map(ToString::to_string).collect());
        for other in &self.by_name {
            group("for the name", vec![other.names.join(", ")]);
            group("", other.chain.iter().map(ToString::to_string).collect());
            group("", other.ocsp.iter().map(|ocsp| format!("stapled: {ocsp}")).collect());
        }
        let unknown = if self.strict_names { "refused" } else { "shown the first certificate" };
        if self.strict_names || !self.by_name.is_empty() {
            group("unknown names", vec![unknown.to_owned()]);
        }
        group("client CA", self.client_ca.iter().map(ToString::to_string).collect());
        group("revocation list", self.crl.iter().map(ToString::to_string).collect());
        if !self.crl.is_empty() {
            let (expired, missing) = (self.crl_expired, self.crl_missing);
            group("", vec![format!("clients of an expired list: {expired}; of an issuer without one: {missing}")]);
        }
        if self.revoked_serials > 0 {
            group("revoked", vec![format!("{} serial numbers, whatever a list says", self.revoked_serials)]);
        }
        lines
    }

    /// What there is to say of ends at another time than that of the load.
    #[must_use]
    pub fn ending(&self, now: i64) -> Vec<Say> {
        self.ends.iter().filter_map(|end| end.say(now)).collect()
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.lines() {
            writeln!(f, "{name:<20}{value}")?;
        }
        self.warnings.iter().try_for_each(|warning| writeln!(f, "warning: {warning}"))
    }
}

impl fmt::Display for CrlInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let due = self.next_update.as_deref().unwrap_or("not said");
        write!(f, "{}, {} revoked, next update {due}", self.issuer, self.revoked)
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
    /// Seconds before an end.
    warning: i64,
    /// What a list past its next update is called.
    crl_kind: Kind,
    description: Description,
    /// Names that have a certificate, and the kind of its key.
    shown: Vec<(String, String)>,
    /// Subject names, raw: of the trusted CAs (with their keys), of those that are no roots, and of the issuers of CRLs.
    authorities: Vec<(Vec<u8>, Vec<u8>)>,
    intermediates: Vec<Vec<u8>>,
    crl_issuers: Vec<Vec<u8>>,
}

impl Found {
    pub(super) fn new(now: UnixTime, choice: &Choice) -> Self {
        let revocation = &choice.revocation;
        Self {
            now: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            warning: i64::try_from(choice.expiry_warning.as_secs()).unwrap_or(i64::MAX),
            crl_kind: if revocation.expired == Doubt::Accept { Kind::CrlAccepting } else { Kind::CrlRefusing },
            description: Description {
                crl_expired: revocation.expired.word(),
                crl_missing: revocation.missing.word(),
                revoked_serials: revocation.serials.len(),
                strict_names: choice.strict_names,
                ..Description::default()
            },
            shown: Vec::new(),
            authorities: Vec::new(),
            intermediates: Vec::new(),
            crl_issuers: Vec::new(),
        }
    }

    pub(super) fn description(self) -> Description {
        let Self { now, mut description, .. } = self;
        for end in &description.ends {
            match end.say(now) {
                Some(Say::Over(text)) if end.fails() => description.expired.push(text),
                Some(Say::Over(text) | Say::Soon(text)) => description.warnings.push(text),
                None => {}
            }
        }
        description
    }

    /// What handshakes can agree on.
    pub(super) fn agreed(&mut self, versions: &[&SupportedProtocolVersion], provider: &CryptoProvider) {
        self.description.versions =
            versions.iter().map(|each| if *each == &rustls::version::TLS13 { "1.3" } else { "1.2" }).collect();
        let spoken = provider
            .cipher_suites
            .iter()
            .filter(|suite| versions.iter().any(|version| version.version == suite.version().version));
        self.description.suites = spoken.map(|suite| suites::suite_name(suite.suite())).collect();
        self.description.groups = provider.kx_groups.iter().map(|group| suites::group_name(group.name())).collect();
    }

    fn end(&mut self, kind: Kind, certificate: &str, subject: &str, (made, at): (Option<i64>, i64)) {
        let warn_from = warn_from(made, at, self.warning);
        let (certificate, subject) = (certificate.to_owned(), subject.to_owned());
        self.description.ends.push(End { kind, certificate, subject, at, warn_from });
    }

    fn warn(&mut self, warning: String) {
        self.description.warnings.push(warning);
    }

    /// Looks at a CA for client certificates; its last second, or none when it has expired or is revoked and must not be
    /// trusted.
    pub(super) fn authority(&mut self, der: &CertificateDer<'_>, revoked: bool) -> Result<Option<u64>, Flaw> {
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
        let not_after = certificate.validity().not_after.timestamp();
        self.end(Kind::ClientCa, "client_ca", &info.subject, (None, not_after));
        let trusted = not_after >= self.now && !revoked;
        if revoked {
            self.warn(format!("the client CA {} is in revoked_serials and not trusted", info.subject));
        }
        if trusted {
            let key = certificate.public_key().subject_public_key.data.to_vec();
            self.authorities.push((certificate.subject().as_raw().to_vec(), key));
            if !self_signed {
                self.intermediates.push(certificate.subject().as_raw().to_vec());
            }
        }
        self.description.client_ca.push(info);
        Ok(u64::try_from(not_after).ok().filter(|_| trusted))
    }

    /// Looks at a chain of the server's own and the names it was given, after the client CAs; the names it is shown for.
    pub(super) fn pair(&mut self, chain: &[CertificateDer<'_>], given: &[String]) -> Result<Vec<String>, Flaw> {
        let leaf = chain.first().ok_or_else(|| Flaw::new("holds no certificate", None)).and_then(|der| parse(der))?;
        let subject = cut(&leaf.subject().to_string());
        let own = dns_names(&leaf);
        for name in own.iter().filter(|name| normal(name).is_none()) {
            self.warn(format!("the certificate {subject} has the name {}, which no client is matched to", cut(name)));
        }
        let own: Vec<String> = own.iter().filter_map(|name| normal(name)).collect();
        let first = self.description.chain.is_empty();
        if given.is_empty() && own.is_empty() && !first {
            return Err(Flaw::new(
                format!("the certificate {subject} has no DNS name"),
                "say for which it is shown: names = [\"…\"]",
            ));
        }
        for name in given.iter().filter(|name| !covered(name, &own)) {
            self.warn(format!("the certificate {subject} is shown for {name}, and does not have that name"));
        }
        let names = if given.is_empty() { own } else { given.to_vec() };
        let key = key(&leaf).0;
        let kind = key.split(' ').next().unwrap_or_default().to_owned();
        for name in &names {
            if self.shown.iter().any(|(taken, other)| taken == name && *other == kind) {
                self.warn(format!("two {kind} certificates are for {name}; the one that comes first is shown"));
            }
            self.shown.push((name.clone(), kind.clone()));
        }
        let suffix = if first { String::new() } else { names.first().map_or(String::new(), |name| format!(":{name}")) };
        let chain = self.chain(chain, &suffix)?;
        if first {
            self.description.chain = chain;
        } else {
            self.description.by_name.push(ByName { names: names.clone(), chain, ocsp: None });
        }
        Ok(names)
    }

    /// Looks at the OCSP response for the chain that was looked at last; what is to be stapled, and until when.
    pub(super) fn staple(
        &mut self,
        chain: &[CertificateDer<'_>],
        response: &[u8],
        provider: &CryptoProvider,
    ) -> Result<Option<(Vec<u8>, u64)>, Flaw> {
        let leaf = chain.first().ok_or_else(|| Flaw::new("has no certificate", None)).and_then(|der| parse(der))?;
        let issuer = leaf.issuer().as_raw();
        let shown = chain.iter().skip(1).filter_map(|der| parse(der).ok());
        let mut issuers: Vec<Vec<u8>> = shown
            .filter(|above| above.subject().as_raw() == issuer)
            .map(|above| above.public_key().subject_public_key.data.to_vec())
            .collect();
        issuers.extend(self.authorities.iter().filter(|(name, _)| name == issuer).map(|(_, key)| key.clone()));
        let info = ocsp::read(response, &leaf, &issuers, self.now)?;
        let subject = cut(&leaf.subject().to_string());
        if !issuers.is_empty() && !ocsp::is_signed(response, &issuers, self.now, provider) {
            self.warn(format!(
                "the OCSP response for {subject} is not signed by the certificate's issuer, nor by whom that has named for it: \
                 clients that check it will refuse it"
            ));
        }
        let name = self.description.by_name.last().and_then(|last| last.names.first());
        let certificate = name.map_or("ocsp".to_owned(), |name| format!("ocsp:{name}"));
        match info.until {
            Some(until) => self.end(Kind::Ocsp, &certificate, &subject, (Some(info.from), until)),
            None => self.warn(format!(
                "the OCSP response for {subject} does not say how long it counts; it is stapled until it is replaced"
            )),
        }
        let until = info.until.map_or(u64::MAX, |until| u64::try_from(until).unwrap_or(0));
        match self.description.by_name.last_mut() {
            Some(last) => last.ocsp = Some(info),
            None => self.description.ocsp = Some(info),
        }
        Ok(Some((response.to_vec(), until)))
    }

    /// Nothing is to be stapled to this chain; its certificate may insist on it (RFC 7633).
    pub(super) fn unstapled(&mut self, chain: &[CertificateDer<'_>]) {
        let Some(Ok(leaf)) = chain.first().map(|der| parse(der)) else { return };
        if leaf.extensions().iter().any(|extension| extension.oid.to_id_string() == MUST_STAPLE) {
            let subject = cut(&leaf.subject().to_string());
            self.warn(format!(
                "the certificate {subject} must be stapled (RFC 7633), and `ocsp` names no response for it"
            ));
        }
    }

    fn chain(&mut self, chain: &[CertificateDer<'_>], suffix: &str) -> Result<Vec<CertificateInfo>, Flaw> {
        let mut infos = Vec::new();
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
            let label = format!("server{suffix}");
            self.end(Kind::Server, &label, &info.subject, (None, certificate.validity().not_after.timestamp()));
            if n == 0 {
                self.own(certificate, &info, next.is_none())?;
            }
            infos.push(info);
        }
        Ok(infos)
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
        if !self.authorities.iter().any(|(known, _)| known == issuer) {
            self.warn(format!(
                "if {} is an intermediate and not a root, its certificate must be appended to the file",
                info.issuer
            ));
        }
        Ok(())
    }

    /// Looks at a revocation list.
    pub(super) fn crl(
        &mut self,
        der: &CertificateRevocationListDer<'static>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<(), Flaw> {
        let crl = revocation::usable(der, provider)?;
        let issuer = cut(&crl.issuer().to_string());
        let mut keys = self.authorities.iter().filter(|(known, _)| known == crl.issuer().as_raw()).peekable();
        if keys.peek().is_none() {
            self.warn(format!(
                "no client CA is called {issuer}; its revocation list counts only for intermediates that clients show"
            ));
        } else if !keys.any(|(_, key)| signed(&crl, key, provider)) {
            self.warn(format!(
                "the revocation list of {issuer} is not signed by the client CA of that name: its clients are refused"
            ));
        }
        let next_update = crl.next_update().map(|time| time.timestamp());
        self.description.crl.push(CrlInfo {
            issuer,
            next_update: next_update.map(date),
            revoked: crl.iter_revoked_certificates().count(),
            made: crl.last_update().timestamp(),
            due: next_update,
        });
        self.crl_issuers.push(crl.issuer().as_raw().to_vec());
        Ok(())
    }

    /// A file holds a list that a newer one has replaced.
    pub(super) fn superseded(&mut self, file: &Path) {
        self.warn(format!("{} holds a revocation list that a newer one here replaces; remove it", file.display()));
    }

    /// After all revocation lists, and which of them are replaced. Once there is any, a CA without one is a CA whose
    /// clients are in doubt.
    pub(super) fn uncovered_authorities(&mut self, older: &[usize]) {
        let mut at = 0..;
        self.description.crl.retain(|_| at.next().is_none_or(|at| !older.contains(&at)));
        let ends: Vec<_> =
            self.description.crl.iter().filter_map(|crl| Some((crl.issuer.clone(), crl.made, crl.due?))).collect();
        for (issuer, made, due) in ends {
            self.end(self.crl_kind, "crl", &issuer, (Some(made), due));
        }
        if self.crl_issuers.is_empty() {
            return;
        }
        let what = match self.description.crl_missing {
            "accept" => "are let in whether revoked or not (crl_missing = \"accept\")",
            _ => "are refused while any list is configured",
        };
        let uncovered: Vec<String> = self
            .authorities
            .iter()
            .filter(|(authority, _)| !self.crl_issuers.contains(authority))
            .filter_map(|(authority, _)| x509_parser::x509::X509Name::from_der(authority).ok())
            .map(|(_, name)| cut(&name.to_string()))
            .collect();
        for name in uncovered {
            self.warn(format!("no revocation list speaks for {name}: its clients {what}"));
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

/// Whether a list is signed with this key, by whatever algorithm: it is the verifier who insists on the one that is named.
fn signed(crl: &CertificateRevocationList<'_>, key: &[u8], provider: &CryptoProvider) -> bool {
    let (message, signature) = (crl.tbs_cert_list.as_ref(), &crl.signature_value.data);
    let algorithms = provider.signature_verification_algorithms.all;
    algorithms.iter().any(|algorithm| algorithm.verify_signature(key, message, signature).is_ok())
}

/// Whether one of these names, which may be wildcards, is this one.
fn covered(name: &str, own: &[String]) -> bool {
    own.iter().any(|own| own == name)
        || name.split_once('.').is_some_and(|(_, rest)| own.iter().any(|own| own.strip_prefix("*.") == Some(rest)))
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(dns) => Some((*dns).to_owned()),
        _ => None,
    };
    names.value.general_names.iter().filter_map(dns).collect()
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

pub(super) fn date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}
