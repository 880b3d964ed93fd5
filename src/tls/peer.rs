//! Names out of a certificate.
//!
//! [`identity`] is for a chain that the verifier accepted; it refuses whatever two readers could read differently.
//! [`names_for_record`] is for one it refused: best effort, escaped, and called unverified wherever it is written.

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};
use x509_parser::prelude::{AttributeTypeAndValue, FromDer, GeneralName, X509Certificate, X509Version};

use super::name;
use crate::policy::{identity::Identity, spiffe};

/// Characters of any one unverified name that a record keeps.
const UNVERIFIED_CHARS_MAX: usize = 128;

/// Unverified alternative names that a record keeps.
const UNVERIFIED_NAMES_MAX: usize = 4;

/// Why a verified certificate still gives no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A NUL, a line end or another control character: programs stop reading there, or start a new line.
    #[error("the certificate's {0} holds a control character")]
    Control(&'static str),
    /// A name that is there and says nothing.
    #[error("the certificate's {0} is empty")]
    Empty(&'static str),
    /// webpki and x509-parser disagree on whether it is a certificate.
    #[error("the certificate cannot be read")]
    Encoding,
    /// Neither UTF-8 nor ASCII, or an address of impossible length.
    #[error("the certificate's {0} is not text")]
    NotText(&'static str),
    /// More than one common name: which of them is meant depends on the reader.
    #[error("the certificate has more than one common name")]
    RepeatedCn,
    /// A SPIFFE id that is none: an empty path segment, `.` or `..`, a character its grammar does not have.
    #[error("the certificate's URI begins as a SPIFFE id and is none (SPIFFE-ID, 2)")]
    SpiffeId,
    /// A SPIFFE id and another URI: an X.509-SVID has exactly one, and validators refuse any other.
    #[error("the certificate has a SPIFFE id and another URI (X509-SVID, 2)")]
    SpiffeNotAlone,
}

/// The names that the leaf of a verified chain proves.
///
/// `not_after` is the earliest of the certificates presented: the chain proves nothing after that.
///
/// # Errors
///
/// [`NameError`]: a name could be read in more than one way.
pub fn identity(chain: &[CertificateDer<'_>]) -> Result<Identity, NameError> {
    let leaf = chain.first().ok_or(NameError::Encoding)?;
    let parsed = parse(leaf).ok_or(NameError::Encoding)?;
    let mut found = Identity {
        serial: serial(&parsed),
        sha256: hex(&Sha256::digest(leaf)),
        spki_sha256: hex(&Sha256::digest(parsed.public_key().raw)),
        issuer: name::distinguished(parsed.issuer()),
        not_after: i64::MAX,
        ou: texts("OU", parsed.subject().iter_organizational_unit())?,
        o: texts("O", parsed.subject().iter_organization())?,
        ..Identity::default()
    };
    let mut cn = texts("CN", parsed.subject().iter_common_name())?;
    found.cn = cn.pop();
    if !cn.is_empty() {
        return Err(NameError::RepeatedCn);
    }
    // Twice the same extension is an error here too.
    let names = parsed.subject_alternative_name().map_err(|_| NameError::Encoding)?;
    for name in names.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::URI(uri) => found.uris.push(text("URI", uri)?),
            GeneralName::DNSName(dns) => found.dns.push(text("DNS name", dns)?),
            GeneralName::RFC822Name(email) => found.emails.push(text("email address", email)?),
            GeneralName::IPAddress(bytes) => found.ips.push(ip(bytes)?),
            GeneralName::Invalid(..) => return Err(NameError::NotText("alternative name")),
            // Kinds that no role can ask for.
            GeneralName::OtherName(..)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::RegisteredID(_) => {}
        }
    }
    if let Some(id) = found.uris.iter().find(|uri| spiffe::begins(uri)) {
        if !spiffe::is_id(id) {
            return Err(NameError::SpiffeId);
        }
        if found.uris.len() > 1 {
            return Err(NameError::SpiffeNotAlone);
        }
    }
    for der in chain {
        let certificate = parse(der).ok_or(NameError::Encoding)?;
        found.not_after = found.not_after.min(certificate.validity().not_after.timestamp());
    }
    Ok(found)
}

fn parse<'a>(der: &'a [u8]) -> Option<X509Certificate<'a>> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Some(certificate),
        _ => None,
    }
}

fn texts<'a>(
    kind: &'static str,
    found: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>,
) -> Result<Vec<String>, NameError> {
    found.map(|value| text(kind, value.as_str().map_err(|_| NameError::NotText(kind))?)).collect()
}

fn text(kind: &'static str, name: &str) -> Result<String, NameError> {
    if name.is_empty() {
        return Err(NameError::Empty(kind));
    }
    if name.chars().any(char::is_control) {
        return Err(NameError::Control(kind));
    }
    Ok(name.to_owned())
}

fn ip(bytes: &[u8]) -> Result<IpAddr, NameError> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Ok(Ipv4Addr::from(four).into());
    }
    let sixteen = <[u8; 16]>::try_from(bytes).map_err(|_| NameError::NotText("IP address"))?;
    Ok(Ipv6Addr::from(sixteen).into())
}

/// Lower-case hexadecimal without the zero byte that only says "positive".
pub(super) fn serial(certificate: &X509Certificate<'_>) -> String {
    match certificate.raw_serial() {
        [0, rest @ ..] if !rest.is_empty() => hex(rest),
        whole => hex(whole),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len().saturating_mul(2)), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Whether the bytes are a certificate of an older version than 3, which webpki refuses.
#[must_use]
pub fn is_version_1(der: &[u8]) -> bool {
    parse(der).is_some_and(|certificate| certificate.version() != X509Version::V3)
}

/// What an unverified certificate claims. Anybody can write anything there; it helps to find a misconfigured client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnverifiedNames {
    /// The subject's common name, escaped and cut.
    pub cn: Option<String>,
    /// Alternative names with their kind (`uri:spiffe://…`), escaped and cut, the first few.
    pub names: Vec<String>,
    /// The issuer's common name, escaped and cut.
    pub issuer: Option<String>,
    /// Serial number, lower-case hexadecimal, cut.
    pub serial: String,
    /// SHA-256 of the certificate, lower-case hexadecimal: the one thing here that cannot lie.
    pub sha256: String,
}

/// Reads what it can, and never fails.
#[must_use]
pub fn names_for_record(der: &[u8]) -> UnverifiedNames {
    let mut found = UnverifiedNames { sha256: hex(&Sha256::digest(der)), ..UnverifiedNames::default() };
    let Some(parsed) = parse(der) else {
        return found;
    };
    found.serial = cut(&serial(&parsed));
    found.cn = parsed.subject().iter_common_name().next().map(|cn| cut_bytes(cn.as_slice()));
    found.issuer = parsed.issuer().iter_common_name().next().map(|cn| cut_bytes(cn.as_slice()));
    if let Ok(Some(names)) = parsed.subject_alternative_name() {
        found.names = names
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(cut(&format!("uri:{uri}"))),
                GeneralName::DNSName(dns) => Some(cut(&format!("dns:{dns}"))),
                GeneralName::RFC822Name(email) => Some(cut(&format!("email:{email}"))),
                GeneralName::IPAddress(bytes) => ip(bytes).ok().map(|ip| format!("ip:{ip}")),
                _ => None,
            })
            .take(UNVERIFIED_NAMES_MAX)
            .collect();
    }
    found
}

fn cut_bytes(bytes: &[u8]) -> String {
    cut(&String::from_utf8_lossy(bytes))
}

/// Escapes what could disturb a line or a terminal and ends after [`UNVERIFIED_CHARS_MAX`] characters.
pub(super) fn cut(text: &str) -> String {
    let mut out = String::new();
    for (n, c) in text.chars().enumerate() {
        if n == UNVERIFIED_CHARS_MAX {
            out.push('…');
            break;
        }
        if c.is_alphanumeric() || matches!(c, ' '..='~') && c != '\\' {
            out.push(c);
        } else {
            out.extend(c.escape_default());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use certs_dev::{Leaf, Pki, Wicked};

    fn read(der: &[u8]) -> Result<Identity, NameError> {
        identity(&[CertificateDer::from(der)])
    }

    #[test]
    fn every_kind_of_name_is_read() {
        let pki = Pki::new().unwrap();
        let issued = pki
            .issue(
                &Leaf::client("billing-api")
                    .ou("payments")
                    .ou("eu")
                    .o("Example")
                    .uri("spiffe://prod/ns/billing/sa/api")
                    .dns("billing.internal")
                    .email("ops@example.com")
                    .ip("10.2.7.9".parse().unwrap())
                    .ip("fd00::9".parse().unwrap()),
            )
            .unwrap();
        let found = read(&issued.der).unwrap();
        assert_eq!(found.cn.as_deref(), Some("billing-api"));
        assert_eq!(found.ou, ["payments", "eu"]);
        assert_eq!(found.o, ["Example"]);
        assert_eq!(found.uris, ["spiffe://prod/ns/billing/sa/api"]);
        assert_eq!(found.dns, ["billing.internal"]);
        assert_eq!(found.emails, ["ops@example.com"]);
        assert_eq!(found.ips, ["10.2.7.9".parse::<IpAddr>().unwrap(), "fd00::9".parse().unwrap()]);
        assert_eq!(found.serial, hex(&issued.serial));
        assert_eq!(found.sha256, hex(&Sha256::digest(&issued.der)));
        assert!(found.issuer.contains("CN=Ravelin development CA"), "{}", found.issuer);
    }

    #[test]
    fn a_spiffe_id_is_a_whole_one_and_the_only_uri() {
        let pki = Pki::new().unwrap();
        let of = |uris: &[&str]| {
            let leaf = uris.iter().fold(Leaf::client("app"), |leaf, uri| leaf.uri(uri));
            read(&pki.issue(&leaf).unwrap().der).map(|found| found.uris.len())
        };
        assert_eq!(of(&["spiffe://prod/ns/a"]), Ok(1));
        assert_eq!(of(&["urn:a", "urn:b"]), Ok(2));
        assert_eq!(of(&["spiffe://prod/ns/a", "urn:b"]), Err(NameError::SpiffeNotAlone));
        assert_eq!(of(&["spiffe://prod/a", "spiffe://prod/b"]), Err(NameError::SpiffeNotAlone));
        assert_eq!(of(&["spiffe://prod/ns/../admin"]), Err(NameError::SpiffeId));
        assert_eq!(of(&["SPIFFE://prod//a"]), Err(NameError::SpiffeId));
    }

    #[test]
    fn a_key_has_one_fingerprint_in_all_its_certificates() {
        let (one, other) = (Pki::new().unwrap(), Pki::new().unwrap());
        let of = |pki: &Pki| read(&pki.client("app").unwrap().der).unwrap().spki_sha256;
        assert_eq!(of(&one).len(), 64);
        assert_ne!(of(&one), of(&other));
    }

    #[test]
    fn a_common_name_alone_is_enough_and_no_name_is_no_error() {
        let pki = Pki::new().unwrap();
        assert_eq!(read(&pki.client("app").unwrap().der).unwrap().cn.as_deref(), Some("app"));
        let nameless = read(&pki.wicked(Wicked::NoName).unwrap().der).unwrap();
        assert_eq!((nameless.cn, nameless.uris.len()), (None, 0));
    }

    #[test]
    fn names_that_readers_could_read_differently_are_refused() {
        let pki = Pki::new().unwrap();
        let cases = [
            (Wicked::NulInName, NameError::Control("CN")),
            (Wicked::ControlInName, NameError::Control("CN")),
            (Wicked::NulInUri, NameError::Control("URI")),
            (Wicked::TwoNames, NameError::RepeatedCn),
        ];
        for (wicked, expected) in cases {
            assert_eq!(read(&pki.wicked(wicked).unwrap().der), Err(expected), "{wicked:?}");
        }
        assert_eq!(read(&pki.issue(&Leaf::client("")).unwrap().der), Err(NameError::Empty("CN")));
        assert_eq!(read(b"no certificate"), Err(NameError::Encoding));
        assert_eq!(identity(&[]), Err(NameError::Encoding));
    }

    #[test]
    fn the_chain_expires_with_its_first_certificate_to_expire() {
        let pki = Pki::new().unwrap();
        let long = pki.issue(&Leaf::client("app").valid_days(0, 29)).unwrap().der;
        let short = pki.issue(&Leaf::client("ca").valid_days(0, 3)).unwrap().der;
        let both = identity(&[CertificateDer::from(long), CertificateDer::from(short.clone())]).unwrap();
        assert_eq!(both.not_after, read(&short).unwrap().not_after);
    }

    #[test]
    fn version_1_is_told_from_version_3() {
        let pki = Pki::new().unwrap();
        assert!(is_version_1(&pki.wicked(Wicked::Version1).unwrap().der));
        assert!(!is_version_1(&pki.client("app").unwrap().der));
        assert!(!is_version_1(b"no certificate"));
    }

    #[test]
    fn unverified_names_never_carry_control_characters_and_are_cut() {
        let pki = Pki::new().unwrap();
        let names = names_for_record(&pki.wicked(Wicked::ControlInName).unwrap().der);
        assert_eq!(names.cn.as_deref(), Some("admin\\r\\n{\"verdict\":\"allow\"}"));
        assert!(names.issuer.unwrap().starts_with("Ravelin development CA"));
        let long = names_for_record(&pki.client(&"x".repeat(64)).unwrap().der);
        assert_eq!(long.cn.unwrap().len(), 64);
        assert_eq!(cut(&"\u{202e}".repeat(500)).matches("\\u{202e}").count(), UNVERIFIED_CHARS_MAX);
        assert_eq!(names_for_record(b"garbage").cn, None);
    }

    #[test]
    fn every_prefix_of_a_certificate_is_survived() {
        let der = Pki::new().unwrap().client("app").unwrap().der;
        for end in 0..der.len() {
            assert_eq!(read(&der[..end]), Err(NameError::Encoding));
            let _ = names_for_record(&der[..end]);
        }
    }
}
