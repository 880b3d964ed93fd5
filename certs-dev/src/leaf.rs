//! What goes into an end certificate, and what comes out.

use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use std::net::IpAddr;
use time::{Duration, OffsetDateTime};

use crate::Error;

/// Object identifier of the common name, for the second one that rcgen's map would not hold.
const COMMON_NAME: [u64; 4] = [2, 5, 4, 3];

/// The kind of key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256: small, fast, accepted everywhere.
    #[default]
    P256,
    /// ECDSA on P-384.
    P384,
    /// RSA of 2048 bits.
    Rsa,
    /// Ed25519.
    Ed25519,
}

impl KeyKind {
    pub(crate) fn generate(self) -> Result<KeyPair, Error> {
        Ok(KeyPair::generate_for(match self {
            Self::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Self::Rsa => &rcgen::PKCS_RSA_SHA256,
            Self::Ed25519 => &rcgen::PKCS_ED25519,
        })?)
    }
}

/// What a certificate may be used for (its extended key usage).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// `clientAuth`.
    Client,
    /// `serverAuth`.
    Server,
    /// No such extension: any use.
    Unsaid,
}

/// A minted certificate and its key.
pub struct Issued {
    /// The certificate alone, PEM.
    pub cert: String,
    /// The certificate and the intermediates above it, leaf first, PEM: what a peer must show.
    pub chain: String,
    /// The private key, PEM, PKCS#8.
    pub key: String,
    /// The certificate, DER.
    pub der: Vec<u8>,
    /// Its serial number, big-endian.
    pub serial: Vec<u8>,
}

/// Without the key.
impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("cert", &self.cert).finish_non_exhaustive()
    }
}

/// The names, the use and the time of an end certificate. ECDSA P-256 and 30 days unless said otherwise.
#[derive(Clone, Debug)]
pub struct Leaf {
    cn: Option<String>,
    second_cn: Option<String>,
    ou: Vec<String>,
    o: Option<String>,
    sans: Vec<(&'static str, String)>,
    usage: Usage,
    key: KeyKind,
    /// Days from now.
    valid: (i64, i64),
    extensions: Vec<CustomExtension>,
}

impl Leaf {
    /// No name at all, for a client.
    #[must_use]
    pub const fn nameless() -> Self {
        Self {
            cn: None,
            second_cn: None,
            ou: Vec::new(),
            o: None,
            sans: Vec::new(),
            usage: Usage::Client,
            key: KeyKind::P256,
            valid: (0, 30),
            extensions: Vec::new(),
        }
    }

    /// A client with this common name.
    #[must_use]
    pub fn client(cn: &str) -> Self {
        Self { cn: Some(cn.to_owned()), ..Self::nameless() }
    }

    /// A server with these DNS names and IP addresses; the first is its common name too.
    #[must_use]
    pub fn server(names: &[&str]) -> Self {
        let leaf = Self { cn: names.first().map(|name| (*name).to_owned()), usage: Usage::Server, ..Self::nameless() };
        names.iter().fold(
            leaf,
            |leaf, name| {
                if name.parse::<IpAddr>().is_ok() { leaf.san("ip", name) } else { leaf.dns(name) }
            },
        )
    }

    fn san(mut self, kind: &'static str, name: &str) -> Self {
        self.sans.push((kind, name.to_owned()));
        self
    }

    /// Adds a DNS name.
    #[must_use]
    pub fn dns(self, name: &str) -> Self {
        self.san("dns", name)
    }

    /// Adds a URI, such as a SPIFFE identity.
    #[must_use]
    pub fn uri(self, uri: &str) -> Self {
        self.san("uri", uri)
    }

    /// Adds an email address.
    #[must_use]
    pub fn email(self, address: &str) -> Self {
        self.san("email", address)
    }

    /// Adds an IP address.
    #[must_use]
    pub fn ip(self, address: IpAddr) -> Self {
        self.san("ip", &address.to_string())
    }

    /// Sets an organisational unit; a second call adds a second one, which no usual tool would.
    #[must_use]
    pub fn ou(mut self, unit: &str) -> Self {
        self.ou.push(unit.to_owned());
        self
    }

    /// Sets the organisation.
    #[must_use]
    pub fn o(mut self, organisation: &str) -> Self {
        self.o = Some(organisation.to_owned());
        self
    }

    /// Adds a second common name: wicked.
    #[must_use]
    pub fn second_cn(mut self, cn: &str) -> Self {
        self.second_cn = Some(cn.to_owned());
        self
    }

    /// Sets the use.
    #[must_use]
    pub const fn usage(mut self, usage: Usage) -> Self {
        self.usage = usage;
        self
    }

    /// Sets the kind of key.
    #[must_use]
    pub const fn key(mut self, key: KeyKind) -> Self {
        self.key = key;
        self
    }

    /// Sets the period of validity, in days from now.
    #[must_use]
    pub const fn valid_days(mut self, from: i64, to: i64) -> Self {
        self.valid = (from, to);
        self
    }

    /// Adds an extension nobody knows, marked critical: must be refused.
    #[must_use]
    pub fn critical_extension(mut self) -> Self {
        let mut extension = CustomExtension::from_oid_content(&[2, 999, 1], vec![5, 0]);
        extension.set_criticality(true);
        self.extensions.push(extension);
        self
    }

    /// rcgen's view of it, with a fresh key.
    pub(crate) fn parameters(&self) -> Result<(CertificateParams, KeyPair), Error> {
        let key = self.key.generate()?;
        let mut subject = DistinguishedName::new();
        if let Some(o) = &self.o {
            subject.push(DnType::OrganizationName, o.as_str());
        }
        for (n, ou) in self.ou.iter().enumerate() {
            let kind = if n == 0 { DnType::OrganizationalUnitName } else { DnType::CustomDnType(vec![2, 5, 4, 11]) };
            subject.push(kind, ou.as_str());
        }
        if let Some(cn) = &self.cn {
            subject.push(DnType::CommonName, cn.as_str());
        }
        if let Some(cn) = &self.second_cn {
            subject.push(DnType::CustomDnType(COMMON_NAME.to_vec()), cn.as_str());
        }
        let mut params = base(subject, self.valid, &key);
        // Explicitly no CA: this also writes the subject key identifier.
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if self.key == KeyKind::Rsa {
            params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
        }
        params.extended_key_usages = match self.usage {
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Unsaid => Vec::new(),
        };
        params.subject_alt_names = self.sans.iter().map(|(kind, name)| san(kind, name)).collect::<Result<_, _>>()?;
        params.custom_extensions.clone_from(&self.extensions);
        Ok((params, key))
    }
}

/// What every certificate has, of whatever kind.
pub(crate) fn base(subject: DistinguishedName, (from, to): (i64, i64), key: &KeyPair) -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    // Five minutes of grace for clocks that differ.
    params.not_before = now + Duration::days(from) - Duration::minutes(5);
    params.not_after = now + Duration::days(to);
    params.use_authority_key_identifier_extension = true;
    let mut serial = params.key_identifier(key);
    serial.truncate(16);
    // A positive number without leading zeros, whatever the key: tools differ in how they print the others.
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x3f) | 0x40;
    }
    params.serial_number = Some(SerialNumber::from(serial));
    params
}

fn san(kind: &'static str, name: &str) -> Result<SanType, Error> {
    let bad = || Error::Name { what: kind, name: name.to_owned() };
    Ok(match kind {
        "ip" => SanType::IpAddress(name.parse().map_err(|_| bad())?),
        "uri" => SanType::URI(name.try_into().map_err(|_| bad())?),
        "email" => SanType::Rfc822Name(name.try_into().map_err(|_| bad())?),
        _ => SanType::DnsName(name.try_into().map_err(|_| bad())?),
    })
}
