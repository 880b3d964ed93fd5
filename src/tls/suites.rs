//! Cipher suites and groups by the names that IANA gave them.
//!
//! One name per thing: what OpenSSL (`ECDHE-RSA-AES256-GCM-SHA384`, `prime256v1`) and rustls (`TLS13_…`) call otherwise is
//! refused with the name to write instead. rustls has suites with forward secrecy and authenticated encryption alone, which
//! is what RFC 9325 (4.2) asks for; a suite that it does not have is refused with those that there are.

use rustls::{
    CipherSuite, NamedGroup, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    version::{TLS12, TLS13},
};

use super::server::MinVersion;

/// A name that is none, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// What is wrong; reads on from the name.
    pub what: &'static str,
    /// What to write.
    pub hint: String,
}

/// Groups as the registry of TLS Supported Groups has them, and what others call them.
const GROUPS: [(NamedGroup, &str, &[&str]); 7] = [
    (NamedGroup::X25519MLKEM768, "X25519MLKEM768", &[]),
    (NamedGroup::X25519, "x25519", &[]),
    (NamedGroup::secp256r1, "secp256r1", &["prime256v1", "P-256"]),
    (NamedGroup::secp384r1, "secp384r1", &["P-384"]),
    (NamedGroup::secp256r1MLKEM768, "SecP256r1MLKEM768", &[]),
    (NamedGroup::MLKEM768, "MLKEM768", &[]),
    (NamedGroup::MLKEM1024, "MLKEM1024", &[]),
];

/// The suite that IANA calls so.
///
/// # Errors
///
/// [`Unknown`]: OpenSSL's or rustls' name, a list of OpenSSL's, or a suite that rustls does not have.
pub fn suite(name: &str) -> Result<CipherSuite, Unknown> {
    let all = || aws_lc_rs::ALL_CIPHER_SUITES.iter().map(rustls::SupportedCipherSuite::suite);
    if let Some(found) = all().find(|suite| suite_name(*suite) == name) {
        return Ok(found);
    }
    let called = |word: &str| all().find(|suite| is_called(*suite, word));
    if name.contains(':') {
        let known: Vec<String> =
            name.split(':').filter_map(called).map(|suite| format!("\"{}\"", suite_name(suite))).collect();
        let hint = if known.is_empty() { available() } else { format!("write [{}]", known.join(", ")) };
        return Err(Unknown { what: "is a list as OpenSSL writes it", hint });
    }
    if let Some(found) = called(name) {
        return Err(Unknown {
            what: "is not the name that IANA gave it",
            hint: format!("write \"{}\"", suite_name(found)),
        });
    }
    Err(Unknown { what: "is no cipher suite that there is here", hint: available() })
}

/// The group that IANA calls so.
///
/// # Errors
///
/// [`Unknown`]: another's name for it, or a group that rustls does not have.
pub fn group(name: &str) -> Result<NamedGroup, Unknown> {
    if let Some((found, ..)) = GROUPS.iter().find(|(_, iana, _)| *iana == name) {
        return Ok(*found);
    }
    let is = |word: &str| word.eq_ignore_ascii_case(name);
    if let Some((_, iana, _)) = GROUPS.iter().find(|(_, iana, others)| is(iana) || others.iter().any(|other| is(other)))
    {
        return Err(Unknown { what: "is not the name that IANA gave it", hint: format!("write {iana:?}") });
    }
    let names: Vec<&str> = GROUPS.iter().map(|(_, iana, _)| *iana).collect();
    Err(Unknown { what: "is no group that there is here", hint: format!("there are {}", names.join(", ")) })
}

/// IANA's name.
#[must_use]
pub fn suite_name(suite: CipherSuite) -> String {
    format!("{suite:?}").replacen("TLS13_", "TLS_", 1)
}

/// IANA's name.
#[must_use]
pub fn group_name(group: NamedGroup) -> String {
    let known = GROUPS.iter().find(|(known, ..)| *known == group);
    known.map_or_else(|| format!("{group:?}"), |(_, iana, _)| (*iana).to_owned())
}

/// Whether a suite is one of TLS 1.3.
#[must_use]
pub fn is_tls13(suite: CipherSuite) -> bool {
    let known = aws_lc_rs::ALL_CIPHER_SUITES.iter().find(|known| known.suite() == suite);
    known.is_some_and(|known| known.tls13().is_some())
}

fn is_called(suite: CipherSuite, word: &str) -> bool {
    let iana = suite_name(suite);
    let rustls = format!("{suite:?}");
    // OpenSSL's: TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 is ECDHE-RSA-AES256-GCM-SHA384, and ChaCha20's hash is left out.
    let openssl = iana.trim_start_matches("TLS_").replace("_WITH", "").replace("AES_", "AES").replace('_', "-");
    let openssl = openssl.strip_suffix("POLY1305-SHA256").map_or(openssl.clone(), |head| format!("{head}POLY1305"));
    [iana, rustls, openssl].iter().any(|name| name.eq_ignore_ascii_case(word))
}

fn available() -> String {
    let names: Vec<String> = aws_lc_rs::ALL_CIPHER_SUITES.iter().map(|suite| suite_name(suite.suite())).collect();
    format!("only forward secrecy with authenticated encryption is offered: {}", names.join(", "))
}

/// What rustls is given: these suites and groups in this order, or, for an empty list, its own. It heeds the order of suites
/// (if told to), and of groups the client's.
pub(super) fn provider(suites: &[CipherSuite], groups: &[NamedGroup]) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    if !suites.is_empty() {
        let known = |suite| aws_lc_rs::ALL_CIPHER_SUITES.iter().find(|known| known.suite() == suite).copied();
        provider.cipher_suites = suites.iter().copied().filter_map(known).collect();
    }
    if !groups.is_empty() {
        let known = |group| aws_lc_rs::ALL_KX_GROUPS.iter().find(|known| known.name() == group).copied();
        provider.kx_groups = groups.iter().copied().filter_map(known).collect();
    }
    provider
}

/// The protocols that are spoken: not older than allowed, and such as there is a suite for. rustls would otherwise agree
/// on a protocol first and find no suite for it afterwards.
pub(super) fn versions(min: MinVersion, provider: &CryptoProvider) -> Vec<&'static SupportedProtocolVersion> {
    let allowed: &[&SupportedProtocolVersion] = match min {
        MinVersion::Tls12 => &[&TLS13, &TLS12],
        MinVersion::Tls13 => &[&TLS13],
    };
    let has = |version: &SupportedProtocolVersion| {
        provider.cipher_suites.iter().any(|suite| suite.version().version == version.version)
    };
    allowed.iter().copied().filter(|version| has(version)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_and_group_is_found_by_its_iana_name_and_by_no_other() {
        for known in aws_lc_rs::ALL_CIPHER_SUITES {
            let name = suite_name(known.suite());
            assert_eq!(suite(&name), Ok(known.suite()));
            assert!(suite(&name.to_lowercase()).unwrap_err().hint.contains(&name));
        }
        for known in aws_lc_rs::ALL_KX_GROUPS {
            assert_eq!(group(&group_name(known.name())), Ok(known.name()));
        }
    }

    #[test]
    fn names_of_openssl_and_rustls_are_refused_with_ianas() {
        let rows = [
            ("ECDHE-RSA-AES256-GCM-SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
            ("ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
            ("ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
            ("ecdhe-rsa-chacha20-poly1305", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
            ("TLS13_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
        ];
        for (written, iana) in rows {
            let unknown = suite(written).unwrap_err();
            assert_eq!(
                (unknown.what, unknown.hint),
                ("is not the name that IANA gave it", format!("write \"{iana}\""))
            );
        }
        assert_eq!(group("prime256v1").unwrap_err().hint, "write \"secp256r1\"");
        assert_eq!(group("P-384").unwrap_err().hint, "write \"secp384r1\"");
        assert_eq!(group("X25519").unwrap_err().hint, "write \"x25519\"");
    }

    #[test]
    fn a_list_of_openssls_is_taken_apart() {
        let unknown = suite("ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:!aNULL").unwrap_err();
        let both = "write [\"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\", \"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384\"]";
        assert_eq!(unknown.hint, both);
        assert!(suite("HIGH:!aNULL").unwrap_err().hint.contains("TLS_AES_256_GCM_SHA384"));
    }

    #[test]
    fn what_rustls_does_not_have_is_answered_with_what_there_is() {
        for name in ["TLS_RSA_WITH_AES_128_CBC_SHA", "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384", "AES128-SHA", ""] {
            let unknown = suite(name).unwrap_err();
            assert_eq!(unknown.what, "is no cipher suite that there is here");
            assert!(unknown.hint.contains("TLS_CHACHA20_POLY1305_SHA256"), "{}", unknown.hint);
        }
        assert!(group("secp521r1").unwrap_err().hint.contains("secp384r1"));
    }

    #[test]
    fn only_protocols_with_a_suite_are_spoken() {
        let only = |names: &[&str]| provider(&names.iter().map(|name| suite(name).unwrap()).collect::<Vec<_>>(), &[]);
        let spoken = |provider, min| versions(min, &provider).iter().map(|v| v.version).collect::<Vec<_>>();
        use rustls::ProtocolVersion::{TLSv1_2, TLSv1_3};
        assert_eq!(spoken(only(&[]), MinVersion::Tls12), [TLSv1_3, TLSv1_2]);
        assert_eq!(spoken(only(&["TLS_AES_128_GCM_SHA256"]), MinVersion::Tls12), [TLSv1_3]);
        assert_eq!(spoken(only(&["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"]), MinVersion::Tls12), [TLSv1_2]);
        assert!(spoken(only(&["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"]), MinVersion::Tls13).is_empty());
    }
}
