//! Why there is no TLS connection to a server, in words an operator can act on. The other direction is [`super::failure`].

use rustls::{AlertDescription, CertificateError, Error};
use std::{io, time::Duration};

use super::{
    client::Unpinned,
    failure::{Failure, HINT_V1},
    handshake::HANDSHAKE_RECORD,
};

/// A fatal alert's record.
const ALERT_RECORD: u8 = 21;

const HINT_OWN: &str = "give the certificate and key that it asks for: upstream.tls.cert and key";

/// Every word that [`Failure::reason`] can be here.
pub const REASONS: [&str; 19] = [
    "bad-certificate",
    "bad-signature",
    "crl-expired",
    "eof",
    "expired",
    "no-common-cipher",
    "not-tls",
    "not-yet-valid",
    "pin",
    "protocol-error",
    "revocation-unknown",
    "revoked",
    "server-alert",
    "socket",
    "timeout",
    "unknown-ca",
    "wrong-name",
    "wrong-usage",
    "x509-v1",
];

/// What a handshake failed with; `first` is the first byte that the server sent.
pub(super) fn explain_io(error: &io::Error, first: Option<u8>) -> Failure {
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        return match first {
            Some(first) if first != HANDSHAKE_RECORD && first != ALERT_RECORD => not_tls(),
            _ => explain(error),
        };
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Failure::new(
            "eof",
            "the server closed the connection during the TLS handshake",
            Some("does it speak TLS on this port (redis.conf: tls-port), and does it accept our certificate?"),
        ),
        kind => Failure::new("socket", format!("the socket failed during the TLS handshake: {kind}"), None),
    }
}

/// The handshake did not finish within its deadline, which the caller keeps.
#[must_use]
pub fn timeout(within: Duration) -> Failure {
    Failure::new(
        "timeout",
        format!("the TLS handshake did not finish within {within:?}"),
        Some("does the server speak TLS on this port? A Redis without waits for more"),
    )
}

fn not_tls() -> Failure {
    Failure::new(
        "not-tls",
        "the server does not speak TLS on this port",
        Some("connect to its TLS port (redis.conf: tls-port), or leave upstream.tls out"),
    )
}

/// The same for an error of TLS itself.
pub(super) fn explain(error: &Error) -> Failure {
    match error {
        Error::InvalidCertificate(error) => certificate(error),
        Error::AlertReceived(alert) => alerted(*alert),
        Error::PeerIncompatible(error) => Failure::new(
            "no-common-cipher",
            format!("the server and we have no protocol version or algorithm in common: {error:?}"),
            Some("TLS 1.2 and 1.3 with ECDHE and AES-GCM or ChaCha20-Poly1305 exist here"),
        ),
        Error::InvalidMessage(_) => not_tls(),
        other => Failure::new("protocol-error", format!("TLS failed: {other}"), None),
    }
}

fn certificate(error: &CertificateError) -> Failure {
    use CertificateError as E;
    match error {
        E::Expired | E::ExpiredContext { .. } => {
            Failure::new("expired", "the server's certificate chain has expired", Some("renew it there"))
        }
        E::NotValidYet | E::NotValidYetContext { .. } => {
            Failure::new("not-yet-valid", "the server's certificate is not valid yet", Some("check both clocks"))
        }
        E::Revoked => Failure::new(
            "revoked",
            "the server's certificate, or one above it, is revoked",
            Some("if that is not an attack, install its new certificate there"),
        ),
        E::UnknownRevocationStatus => Failure::new(
            "revocation-unknown",
            "no revocation list says whether the server's certificate, or one above it, is revoked",
            Some("add the list of its issuer to upstream.tls.crl, or say upstream.tls.crl_missing = \"accept\""),
        ),
        E::ExpiredRevocationList | E::ExpiredRevocationListContext { .. } => Failure::new(
            "crl-expired",
            "the revocation list for the server's certificate is past its next update",
            Some("fetch it again, or say upstream.tls.crl_expired = \"accept\""),
        ),
        E::UnknownIssuer => Failure::new(
            "unknown-ca",
            "the server's certificate was not issued by a CA that is trusted here",
            Some("name its CA (upstream.tls.ca), or pin a certificate that nobody issued (upstream.tls.pin)"),
        ),
        E::NotValidForName | E::NotValidForNameContext { .. } => Failure::new(
            "wrong-name",
            "the server's certificate is for another name than the one that is connected to",
            Some("connect by a name in its subjectAltName, or say that name: upstream.tls.server_name"),
        ),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => Failure::new(
            "wrong-usage",
            "the server's certificate is not for servers",
            Some("issue it with extendedKeyUsage=serverAuth"),
        ),
        E::BadSignature => Failure::new(
            "bad-signature",
            "a signature does not fit: another CA of the same name issued the server's certificate, or it lacks its key",
            None,
        ),
        E::Other(other) if other.0.downcast_ref::<Unpinned>().is_some() => Failure::new(
            "pin",
            format!("the server's certificate is not one that is pinned; {other}"),
            Some("if that is the server's new certificate, pin it (upstream.tls.pin)"),
        ),
        E::Other(other) if other.to_string().contains("UnsupportedCertVersion") => {
            Failure::new("x509-v1", "a certificate of the server's is X.509 version 1, which is refused", Some(HINT_V1))
        }
        E::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => Failure::new(
            "bad-certificate",
            "the server's certificate is a CA's own, as a self-signed one usually is",
            Some("pin it (upstream.tls.pin) instead of naming it as a CA"),
        ),
        other => Failure::new("bad-certificate", format!("the server's certificate is refused: {other}"), None),
    }
}

fn alerted(alert: AlertDescription) -> Failure {
    use AlertDescription as A;
    let hint = match alert {
        A::CertificateRequired | A::HandshakeFailure | A::NoCertificate => Some(HINT_OWN),
        A::UnknownCA | A::BadCertificate | A::CertificateUnknown | A::CertificateExpired | A::CertificateRevoked => {
            Some("it does not accept our certificate (upstream.tls.cert)")
        }
        A::UnrecognisedName => Some("it has no certificate for this name (upstream.tls.server_name)"),
        A::ProtocolVersion => Some("it refuses the protocol version (upstream.tls.min_version)"),
        _ => None,
    };
    Failure::new("server-alert", format!("the server gave up with the TLS alert {alert:?}"), hint)
}

/// The words for a connection that failed with this after its handshake: in TLS 1.3 a server looks at our certificate
/// only then.
#[must_use]
pub fn of_stream(error: &io::Error) -> Option<Failure> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).map(explain)
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
            Error::DecryptError,
            Error::AlertReceived(AlertDescription::CertificateRequired),
            Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered),
            Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType),
            Error::InvalidCertificate(CertificateError::Expired),
            Error::InvalidCertificate(CertificateError::NotValidYet),
            Error::InvalidCertificate(CertificateError::UnknownIssuer),
            Error::InvalidCertificate(CertificateError::NotValidForName),
            Error::InvalidCertificate(CertificateError::InvalidPurpose),
            Error::InvalidCertificate(CertificateError::BadSignature),
            Error::InvalidCertificate(CertificateError::BadEncoding),
        ];
        for error in &errors {
            let failure = explain(error);
            assert!(REASONS.contains(&failure.reason), "{error:?} gives {}", failure.reason);
        }
    }

    #[test]
    fn plain_redis_on_the_port_is_told_from_a_broken_server() {
        let damaged = io::Error::new(io::ErrorKind::InvalidData, Error::DecryptError);
        assert_eq!(explain_io(&damaged, Some(b'-')).reason, "not-tls");
        assert_eq!(explain_io(&damaged, Some(HANDSHAKE_RECORD)).reason, "protocol-error");
        assert_eq!(explain_io(&io::ErrorKind::UnexpectedEof.into(), None).reason, "eof");
    }
}
