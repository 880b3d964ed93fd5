//! What TLS refuses, in words an operator can act on.
//!
//! [`Failure::reason`] is a stable word for records and metrics; the table of them is [`REASONS`].

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible, pki_types::UnixTime};

use super::peer;

/// Every word [`Failure::reason`] can be. A metric's label takes only these.
pub const REASONS: [&str; 23] = [
    "bad-certificate",
    "bad-name",
    "bad-signature",
    "client-alert",
    "connect-close",
    "crl-expired",
    "eof",
    "expired",
    "internal",
    "no-certificate",
    "no-common-cipher",
    "not-tls",
    "not-yet-valid",
    "protocol-error",
    "protocol-version",
    "revocation-unknown",
    "revoked",
    "socket",
    "timeout",
    "unknown-ca",
    "unknown-name",
    "wrong-usage",
    "x509-v1",
];

/// Why a handshake did not lead to an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One of [`REASONS`].
    pub reason: &'static str,
    /// What happened, in one sentence; holds no byte of the peer's choosing.
    pub detail: String,
    /// What to do about it, where that is known.
    pub hint: Option<&'static str>,
}

impl Failure {
    pub(super) fn new(reason: &'static str, detail: impl Into<String>, hint: Option<&'static str>) -> Self {
        Self { reason, detail: detail.into(), hint }
    }

    /// The handshake did not finish within its deadline (which the shell keeps).
    #[must_use]
    pub fn timeout() -> Self {
        Self::new("timeout", "the handshake did not finish in time", None)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)?;
        self.hint.map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

/// What to do about an X.509 version 1 certificate. Not every tool adds extensions unless asked: `openssl x509 -req`
/// without `-extfile` makes version 1, and webpki refuses it because it cannot say what it may be used for.
pub const HINT_V1: &str = "issue it again as version 3: `ravelin certs` does, and so does `openssl x509 -req -extfile` with a file that says \
                           `extendedKeyUsage=clientAuth` (serverAuth for a server)";

const HINT_PLAIN: &str = "the client speaks without TLS; with redis-cli add --tls --cert FILE --key FILE --cacert FILE";
const HINT_CERT: &str = "the client must be given a certificate and key (redis-cli: --cert and --key)";
const HINT_CA: &str = "issue the client's certificate from a CA in client_ca; if an intermediate issued it, the client's file must hold that too";

/// Puts rustls' error into words. `leaf` is the certificate the peer presented, where one was seen; nothing in it is
/// trusted, it only tells versions apart.
#[must_use]
pub fn explain(error: &Error, leaf: Option<&[u8]>) -> Failure {
    match error {
        Error::NoCertificatesPresented => {
            Failure::new("no-certificate", "the client presented no certificate", Some(HINT_CERT))
        }
        Error::InvalidCertificate(error) => certificate(error, leaf),
        Error::InvalidCertRevocationList(error) => Failure::new(
            "revocation-unknown",
            format!("the revocation list cannot be used: {error:?}"),
            Some("fetch the CRL again"),
        ),
        Error::AlertReceived(alert) => alerted(*alert),
        Error::PeerIncompatible(error) => incompatible(error),
        Error::InvalidMessage(_) => Failure::new("protocol-error", "the client sent a malformed TLS message", None),
        Error::DecryptError | Error::PeerSentOversizedRecord => {
            Failure::new("protocol-error", "a TLS record was damaged on the way", None)
        }
        Error::PeerMisbehaved(what) => {
            Failure::new("protocol-error", format!("the client broke the TLS protocol: {what:?}"), None)
        }
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            Failure::new("protocol-error", "the client sent a TLS message out of turn", None)
        }
        other => Failure::new("internal", format!("TLS failed: {other}"), None),
    }
}

fn certificate(error: &CertificateError, leaf: Option<&[u8]>) -> Failure {
    use CertificateError as E;
    match error {
        E::Expired => Failure::new("expired", "the client's certificate chain has expired", Some("renew it")),
        E::ExpiredContext { time, not_after } => Failure::new(
            "expired",
            format!("the client's certificate chain expired {} ago", span(*not_after, *time)),
            Some("renew it"),
        ),
        E::NotValidYet => {
            Failure::new("not-yet-valid", "the client's certificate is not valid yet", Some("check both clocks"))
        }
        E::NotValidYetContext { time, not_before } => Failure::new(
            "not-yet-valid",
            format!("the client's certificate becomes valid in {}", span(*time, *not_before)),
            Some("check both clocks"),
        ),
        E::Revoked => Failure::new(
            "revoked",
            "the client's certificate, or a CA's above it, is on a revocation list or in revoked_serials",
            None,
        ),
        E::UnknownRevocationStatus => Failure::new(
            "revocation-unknown",
            "no configured CRL speaks for the issuer of the client's certificate",
            Some("configure a CRL for every CA in the chain, or none at all, or say crl_missing = \"accept\""),
        ),
        E::ExpiredRevocationList => {
            Failure::new("crl-expired", "the CRL is past its next update", Some("fetch the CRL again"))
        }
        E::ExpiredRevocationListContext { time, next_update } => Failure::new(
            "crl-expired",
            format!("the CRL's next update was due {} ago", span(*next_update, *time)),
            Some("fetch the CRL again"),
        ),
        // webpki looks at the version before anything else it could complain about later, and reports it as `Other`.
        _ if leaf.is_some_and(peer::is_version_1) => {
            Failure::new("x509-v1", "the client's certificate is X.509 version 1, which is refused", Some(HINT_V1))
        }
        E::Other(other) if other.to_string().contains("UnsupportedCertVersion") => Failure::new(
            "x509-v1",
            "a certificate in the client's chain is X.509 version 1, which is refused",
            Some(HINT_V1),
        ),
        E::UnknownIssuer => {
            Failure::new("unknown-ca", "the client's certificate was not issued by a CA in client_ca", Some(HINT_CA))
        }
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => Failure::new(
            "wrong-usage",
            "the client's certificate is not for client authentication",
            Some("issue it with extendedKeyUsage=clientAuth"),
        ),
        E::BadSignature => Failure::new(
            "bad-signature",
            "a signature does not fit: another CA of the same name issued the client's certificate, or the client lacks its key",
            Some(HINT_CA),
        ),
        E::BadEncoding => Failure::new("bad-certificate", "the client's certificate is not well formed", None),
        E::UnhandledCriticalExtension => Failure::new(
            "bad-certificate",
            "the client's certificate has a critical extension nobody here understands",
            None,
        ),
        E::ApplicationVerificationFailure => {
            Failure::new("bad-certificate", "the client's certificate was refused", None)
        }
        other => Failure::new("bad-certificate", format!("the client's certificate is refused: {other}"), None),
    }
}

fn alerted(alert: AlertDescription) -> Failure {
    let (detail, hint) = match alert {
        AlertDescription::UnknownCA | AlertDescription::CertificateUnknown | AlertDescription::BadCertificate => (
            "the client does not accept the server's certificate",
            Some("give the client the CA that issued `cert` (redis-cli: --cacert), and connect by a name in it"),
        ),
        AlertDescription::CertificateExpired => {
            ("the client says that the server's certificate has expired", Some("renew `cert`"))
        }
        AlertDescription::ProtocolVersion => ("the client refuses the protocol version", None),
        _ => return Failure::new("client-alert", format!("the client gave up with the TLS alert {alert:?}"), None),
    };
    Failure::new("client-alert", detail, hint)
}

fn incompatible(error: &PeerIncompatible) -> Failure {
    use PeerIncompatible as P;
    match error {
        P::Tls12NotOffered | P::Tls12NotOfferedOrEnabled | P::SupportedVersionsExtensionRequired => Failure::new(
            "protocol-version",
            "the client offers no TLS version that this listener allows",
            Some("TLS 1.2 and 1.3 exist here; min_version may exclude 1.2"),
        ),
        P::NoCipherSuitesInCommon | P::NoKxGroupsInCommon | P::NoSignatureSchemesInCommon => Failure::new(
            "no-common-cipher",
            format!("client and server have no algorithm in common: {error:?}"),
            Some(
                "only modern suites are offered: ECDHE with AES-GCM or ChaCha20-Poly1305; suites and groups may exclude some",
            ),
        ),
        other => Failure::new("protocol-error", format!("the client's TLS lacks what is needed: {other:?}"), None),
    }
}

/// A client asks for a name that no certificate has, where that is not put up with.
pub(super) fn unknown_name() -> Failure {
    Failure::new(
        "unknown-name",
        "the client asks for a name (SNI) that no certificate here has",
        Some("connect by a name in one of the certificates, or say sni = \"default\""),
    )
}

/// What the first byte on the wire tells of a peer that does not speak TLS.
pub(super) fn not_tls(first: u8) -> Failure {
    // `*` begins a command, letters an inline one: somebody forgot TLS. Anything else is a scanner or a broken peer.
    let plain = first == b'*' || first.is_ascii_alphabetic();
    Failure::new("not-tls", "the client's first byte is not TLS", plain.then_some(HINT_PLAIN))
}

/// The time between two instants, in the largest unit that fits.
fn span(from: UnixTime, to: UnixTime) -> String {
    let seconds = to.as_secs().saturating_sub(from.as_secs());
    let (amount, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{amount} {unit}{}", if amount == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_in_the_table_and_the_table_is_sorted() {
        let mut sorted = REASONS;
        sorted.sort_unstable();
        assert_eq!(sorted, REASONS);
        let errors = [
            Error::NoCertificatesPresented,
            Error::DecryptError,
            Error::AlertReceived(AlertDescription::UnknownCA),
            Error::AlertReceived(AlertDescription::InternalError),
            Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered),
            Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
            Error::PeerIncompatible(PeerIncompatible::KeyShareExtensionRequired),
            Error::InvalidCertificate(CertificateError::Expired),
            Error::InvalidCertificate(CertificateError::NotValidYet),
            Error::InvalidCertificate(CertificateError::Revoked),
            Error::InvalidCertificate(CertificateError::UnknownRevocationStatus),
            Error::InvalidCertificate(CertificateError::ExpiredRevocationList),
            Error::InvalidCertificate(CertificateError::UnknownIssuer),
            Error::InvalidCertificate(CertificateError::InvalidPurpose),
            Error::InvalidCertificate(CertificateError::BadSignature),
            Error::InvalidCertificate(CertificateError::BadEncoding),
            Error::General("x".into()),
        ];
        for error in &errors {
            let failure = explain(error, None);
            assert!(REASONS.contains(&failure.reason), "{error:?} gives {}", failure.reason);
        }
    }

    #[test]
    fn a_plain_redis_client_is_told_to_use_tls() {
        assert!(not_tls(b'*').to_string().contains("redis-cli add --tls"));
        assert!(not_tls(b'P').hint.is_some());
        assert!(not_tls(0).hint.is_none());
    }

    #[test]
    fn spans_are_rounded_down_to_one_unit() {
        let at = |s| UnixTime::since_unix_epoch(std::time::Duration::from_secs(s));
        assert_eq!(span(at(0), at(1)), "1 second");
        assert_eq!(span(at(0), at(7_300)), "2 hours");
        assert_eq!(span(at(0), at(86_400 * 3 + 5)), "3 days");
        assert_eq!(span(at(9), at(0)), "0 seconds");
    }
}
