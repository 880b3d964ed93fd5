//! A certificate authority: a root made or loaded, or an intermediate under one.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName, DnType,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use crate::{
    Error,
    leaf::{Issued, KeyKind, Leaf, base},
    version1,
};

/// Something that issues certificates.
#[derive(Debug)]
pub struct Authority {
    /// Its certificate, PEM.
    pub cert: String,
    /// Its serial number, big-endian; of one that was loaded, none.
    serial: Option<Vec<u8>>,
    /// What a peer must show beside a certificate it issued: its own certificate if it is an intermediate, else nothing.
    shown: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new root. Part of its key's fingerprint is appended to its name, because two CAs of one name in a trust store
    /// make errors that nobody understands.
    ///
    /// # Errors
    ///
    /// When the system has no randomness.
    pub fn root(cn: &str, organisation: Option<&str>, days: i64, kind: KeyKind) -> Result<Self, Error> {
        let key = kind.generate()?;
        // A leaf may hang from an intermediate from a root: one intermediate below this one is enough.
        let params = ca_parameters(cn, organisation, days, &key, 1);
        let cert = params.self_signed(&key)?.pem();
        let serial = params.serial_number.as_ref().map(SerialNumber::to_bytes);
        Ok(Self { cert, serial, shown: String::new(), issuer: Issuer::new(params, key) })
    }

    /// The root that these files hold.
    ///
    /// # Errors
    ///
    /// When they are not a certificate and a key in PEM.
    pub fn load(cert: &str, key: &str) -> Result<Self, Error> {
        let key = KeyPair::from_pem(key)?;
        Ok(Self {
            cert: cert.to_owned(),
            serial: None,
            shown: String::new(),
            issuer: Issuer::from_ca_cert_pem(cert, key)?,
        })
    }

    /// An intermediate below this one.
    ///
    /// # Errors
    ///
    /// When the system has no randomness.
    pub fn intermediate(&self, cn: &str, days: i64, kind: KeyKind) -> Result<Self, Error> {
        let key = kind.generate()?;
        let params = ca_parameters(cn, None, days, &key, 0);
        let cert = CertifiedIssuer::signed_by(params.clone(), &key, &self.issuer)?.pem();
        let shown = format!("{cert}{}", self.shown);
        let serial = params.serial_number.as_ref().map(SerialNumber::to_bytes);
        Ok(Self { cert, serial, shown, issuer: Issuer::new(params, key) })
    }

    /// Its private key, PEM, PKCS#8.
    #[must_use]
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Its serial number, big-endian; none for one that was loaded.
    #[must_use]
    pub fn serial(&self) -> Option<&[u8]> {
        self.serial.as_deref()
    }

    /// The key as it was made, for comparing with the certificate's.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        self.issuer.key().public_key_raw()
    }

    /// Issues an end certificate.
    ///
    /// # Errors
    ///
    /// When a name cannot be encoded.
    pub fn issue(&self, leaf: &Leaf) -> Result<Issued, Error> {
        let (params, key) = leaf.parameters()?;
        let der = params.signed_by(&key, &self.issuer)?.der().to_vec();
        Ok(self.issued(&params, &key, der))
    }

    /// The same, encoded as X.509 version 1: no extensions, so neither use nor alternative names.
    ///
    /// # Errors
    ///
    /// When a name cannot be encoded.
    pub fn issue_version_1(&self, leaf: &Leaf) -> Result<Issued, Error> {
        let (params, key) = leaf.parameters()?;
        let der = version1::downgrade(params.signed_by(&key, &self.issuer)?.der(), self.issuer.key())?;
        Ok(self.issued(&params, &key, der))
    }

    fn issued(&self, params: &CertificateParams, key: &KeyPair, der: Vec<u8>) -> Issued {
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        let cert = pem::encode_config(&pem::Pem::new("CERTIFICATE", der.clone()), config);
        Issued {
            chain: format!("{cert}{}", self.shown),
            cert,
            key: key.serialize_pem(),
            der,
            serial: params.serial_number.as_ref().map(SerialNumber::to_bytes).unwrap_or_default(),
        }
    }

    /// A revocation list that names these serial numbers, PEM; its next update is due in so many days (it may be overdue).
    ///
    /// # Errors
    ///
    /// When the system has no randomness.
    pub fn crl(&self, serials: &[&[u8]], next_update_days: i64) -> Result<String, Error> {
        self.crl_numbered(1, serials, (next_update_days.min(1) - 1, next_update_days))
    }

    /// The same with this number, made and due so many days from now.
    ///
    /// # Errors
    ///
    /// When the system has no randomness.
    pub fn crl_numbered(&self, number: u64, serials: &[&[u8]], (made, due): (i64, i64)) -> Result<String, Error> {
        let now = OffsetDateTime::now_utc();
        self.list(number, serials, (now + Duration::days(made), now + Duration::days(due)))
    }

    /// The same, made yesterday and due in so many seconds.
    ///
    /// # Errors
    ///
    /// When the system has no randomness.
    pub fn crl_due_in(&self, seconds: i64, serials: &[&[u8]]) -> Result<String, Error> {
        let now = OffsetDateTime::now_utc();
        self.list(1, serials, (now - Duration::days(1), now + Duration::seconds(seconds)))
    }

    fn list(
        &self,
        number: u64,
        serials: &[&[u8]],
        (made, due): (OffsetDateTime, OffsetDateTime),
    ) -> Result<String, Error> {
        let now = OffsetDateTime::now_utc();
        let revoked_certs = serials
            .iter()
            .map(|serial| RevokedCertParams {
                serial_number: SerialNumber::from_slice(serial),
                revocation_time: now - Duration::minutes(1),
                reason_code: None,
                invalidity_date: None,
            })
            .collect();
        let params = CertificateRevocationListParams {
            this_update: made - Duration::minutes(5),
            next_update: due,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(&self.issuer)?.pem()?)
    }
}

fn ca_parameters(cn: &str, organisation: Option<&str>, days: i64, key: &KeyPair, below: u8) -> CertificateParams {
    let id: String =
        CertificateParams::default().key_identifier(key).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let mut subject = DistinguishedName::new();
    if let Some(organisation) = organisation {
        subject.push(DnType::OrganizationName, organisation);
    }
    subject.push(DnType::CommonName, format!("{cn} {id}"));
    let mut params = base(subject, (0, days), key);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params
}
