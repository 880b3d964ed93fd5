//! What a verified certificate proves, and the role it has here.

use super::{
    network::{Admission, Admitted, RefuseReason},
    pattern::Pattern,
    rules::Policy,
};
use crate::moment::Moment;
use ipnet::IpNet;
use std::{net::SocketAddr, sync::Arc};

/// The names in a verified certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// URI subject alternative names.
    pub uris: Vec<String>,
    /// DNS subject alternative names.
    pub dns: Vec<String>,
    /// Email subject alternative names.
    pub emails: Vec<String>,
    /// IP subject alternative names.
    pub ips: Vec<std::net::IpAddr>,
    /// The subject's common name.
    pub cn: Option<String>,
    /// The subject's organisational units.
    pub ou: Vec<String>,
    /// The subject's organisations.
    pub o: Vec<String>,
    /// Serial number, lower-case hexadecimal.
    pub serial: String,
    /// SHA-256 of the DER certificate, lower-case hexadecimal.
    pub sha256: String,
    /// SHA-256 of the DER public key (RFC 7469's SubjectPublicKeyInfo), lower-case hexadecimal: it outlives a renewal
    /// with the same key.
    pub spki_sha256: String,
    /// The issuer's distinguished name, written as in RFC 4514.
    pub issuer: String,
    /// Seconds since the epoch at which the certificate (or one of its issuers) expires.
    pub not_after: i64,
    /// There was no certificate at all, and so there is no name.
    pub anonymous: bool,
}

impl Identity {
    /// The identity of a peer that showed no certificate, where one need not be shown.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { anonymous: true, not_after: i64::MAX, ..Self::default() }
    }

    /// The one name that records show: the first URI, else DNS name, common name, email, IP, else `sha256:…`; `anonymous` of
    /// a peer without a certificate. (No certificate's name is confused with that: [`Match::anonymous`] decides.)
    ///
    /// It is for people; what an identity may do is decided over all its names.
    #[must_use]
    pub fn display_name(&self) -> String {
        if self.anonymous {
            return "anonymous".to_owned();
        }
        None.or_else(|| self.uris.first().cloned())
            .or_else(|| self.dns.first().cloned())
            .or_else(|| self.cn.clone())
            .or_else(|| self.emails.first().cloned())
            .or_else(|| self.ips.first().map(ToString::to_string))
            .unwrap_or_else(|| format!("sha256:{}", self.sha256))
    }

    /// Whether the certificate has expired: `notAfter` is the last second of its life (RFC 5280 §4.1.2.5).
    #[must_use]
    pub fn expired(&self, now: Moment) -> bool {
        i64::try_from(now.wall_us / 1_000_000).unwrap_or(i64::MAX) > self.not_after
    }
}

/// One set of conditions on an identity: all that are given must hold. Of a name that a certificate may carry several
/// times, one is enough.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// On a URI subject alternative name (`*` stops at `/`).
    pub uri: Option<Pattern>,
    /// On a DNS subject alternative name, in either case.
    pub dns: Option<Pattern>,
    /// On an email subject alternative name.
    pub email: Option<Pattern>,
    /// On an IP subject alternative name.
    pub ip: Option<IpNet>,
    /// On the subject's common name.
    pub cn: Option<Pattern>,
    /// On one of the subject's organisational units.
    pub ou: Option<Pattern>,
    /// On one of the subject's organisations.
    pub o: Option<Pattern>,
    /// The serial number, lower-case hexadecimal as in [`Identity::serial`]; leading zeros are not part of a number.
    pub serial: Option<String>,
    /// On the issuer's distinguished name as in [`Identity::issuer`].
    pub issuer: Option<Pattern>,
    /// The fingerprint, lower-case hexadecimal as in [`Identity::sha256`].
    pub sha256: Option<String>,
    /// The public key's fingerprint, lower-case hexadecimal as in [`Identity::spki_sha256`].
    pub spki_sha256: Option<String>,
    /// That there is no certificate. It stands alone: nothing else can hold of nobody.
    pub anonymous: bool,
}

impl Match {
    /// Whether no condition is given. Such a match holds for nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether every given condition holds for `identity`.
    #[must_use]
    pub fn holds(&self, identity: &Identity) -> bool {
        // Destructured, so that a new condition does not compile until it is asked about here.
        let Self { uri, dns, email, ip, cn, ou, o, serial, issuer, sha256, spki_sha256, anonymous } = self;
        if identity.anonymous || *anonymous {
            // Whoever shows a certificate is judged by it alone, and whoever shows none by that alone.
            return identity.anonymous && *self == Self { anonymous: true, ..Self::default() };
        }
        !self.is_empty()
            && any(uri.as_ref(), &identity.uris)
            && any(dns.as_ref(), &identity.dns)
            && any(email.as_ref(), &identity.emails)
            && ip.is_none_or(|net| identity.ips.iter().any(|ip| net.contains(ip)))
            && any(cn.as_ref(), identity.cn.as_slice())
            && any(ou.as_ref(), &identity.ou)
            && any(o.as_ref(), &identity.o)
            && serial.as_ref().is_none_or(|wanted| number(wanted) == number(&identity.serial))
            && any(issuer.as_ref(), std::slice::from_ref(&identity.issuer))
            && sha256.as_ref().is_none_or(|wanted| *wanted == identity.sha256)
            && spki_sha256.as_ref().is_none_or(|wanted| *wanted == identity.spki_sha256)
    }

    /// Whether this holds wherever `other` holds, as far as that can be told from the conditions: never true wrongly.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let Self { uri, dns, email, ip, cn, ou, o, serial, issuer, sha256, spki_sha256, anonymous } = self;
        if *anonymous || other.anonymous {
            return self == other;
        }
        let pattern = |mine: &Option<Pattern>, theirs: &Option<Pattern>| {
            mine.as_ref().is_none_or(|mine| theirs.as_ref().is_some_and(|theirs| mine.covers(theirs)))
        };
        let text = |mine: &Option<String>, theirs: &Option<String>| mine.is_none() || mine == theirs;
        !self.is_empty()
            && pattern(uri, &other.uri)
            && pattern(dns, &other.dns)
            && pattern(email, &other.email)
            && ip.is_none_or(|mine| other.ip.is_some_and(|theirs| mine.contains(&theirs)))
            && pattern(cn, &other.cn)
            && pattern(ou, &other.ou)
            && pattern(o, &other.o)
            && serial.as_deref().map(number).is_none_or(|mine| other.serial.as_deref().map(number) == Some(mine))
            && pattern(issuer, &other.issuer)
            && text(sha256, &other.sha256)
            && text(spki_sha256, &other.spki_sha256)
    }
}

impl std::fmt::Display for Match {
    /// As it may be written in the configuration: `cn = "billing-api" and ou = "payments"`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { uri, dns, email, ip, cn, ou, o, serial, issuer, sha256, spki_sha256, anonymous } = self;
        if *anonymous {
            return f.write_str("anonymous = true");
        }
        let text = |pattern: &Option<Pattern>| pattern.as_ref().map(|pattern| pattern.text().to_owned());
        let conditions = [
            ("uri", text(uri)),
            ("dns", text(dns)),
            ("email", text(email)),
            ("ip", ip.map(|net| net.to_string())),
            ("cn", text(cn)),
            ("ou", text(ou)),
            ("o", text(o)),
            ("serial", serial.clone()),
            ("issuer", text(issuer)),
            ("sha256", sha256.clone()),
            ("spki_sha256", spki_sha256.clone()),
        ];
        let given = conditions.into_iter().filter_map(|(name, value)| Some(format!("{name} = {:?}", value?)));
        f.write_str(&given.collect::<Vec<_>>().join(" and "))
    }
}

fn number(hexadecimal: &str) -> &str {
    hexadecimal.trim_start_matches('0')
}

fn any(pattern: Option<&Pattern>, names: &[String]) -> bool {
    pattern.is_none_or(|pattern| names.iter().any(|name| pattern.matches(name)))
}

/// What an identity may do.
#[derive(Clone, Debug)]
pub struct Role {
    /// Its name, as records and metrics write it.
    pub name: String,
    /// Whom it is for: one match that holds is enough.
    pub matches: Vec<Match>,
    /// Where its peers come from, if not from anywhere that is admitted.
    pub from: Option<Admission>,
    /// Among several roles that match, the one with the highest priority is taken; if that is not one alone, nobody is
    /// let in.
    pub priority: i32,
    /// What it may say.
    pub policy: Arc<Policy>,
}

/// A peer whose address was admitted, whose certificate was verified, and who has exactly one role: made by
/// [`AuthenticatedPeer::authenticate`] and [`AuthenticatedPeer::revalidate`] alone.
#[derive(Clone, Debug)]
pub struct AuthenticatedPeer {
    admitted: Admitted,
    identity: Arc<Identity>,
    role: Arc<Role>,
    /// The role its certificate gave it, if a password has given it another since.
    base: Option<Arc<str>>,
    service: Arc<str>,
}

/// Why a verified certificate does not let its peer in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticateError {
    /// The address is no longer admitted (after a reload).
    #[error("{0}")]
    Address(RefuseReason),
    /// Its time is over: possible on resumed and on long-lived connections.
    #[error("the certificate has expired")]
    Expired,
    /// No role of the service matches.
    #[error("no role matches the certificate")]
    NoRole,
    /// Roles match, and none of them is for peers from this address.
    #[error("no role that matches the certificate is for this address: {}", .0.join(", "))]
    NotFromThere(Vec<String>),
    /// Several roles of the highest priority match.
    #[error("several roles match the certificate with the same priority: {}", .0.join(", "))]
    Ambiguous(Vec<String>),
}

impl AuthenticateError {
    /// The stable word in records and metrics.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Address(reason) => reason.word(),
            Self::Expired => "certificate-expired",
            Self::NoRole => "no-role",
            Self::NotFromThere(_) => "role-not-from-there",
            Self::Ambiguous(_) => "ambiguous-role",
        }
    }
}

impl AuthenticatedPeer {
    /// The proof that a peer is in. `admitted` is the proof for its address, `identity` was read from a certificate
    /// that the TLS library verified (or is the identity of the resumed session), `roles` are those of `service`.
    pub fn authenticate(
        admitted: Admitted,
        identity: Arc<Identity>,
        roles: &[Arc<Role>],
        service: &Arc<str>,
        now: Moment,
    ) -> Result<Self, AuthenticateError> {
        if identity.expired(now) {
            return Err(AuthenticateError::Expired);
        }
        let role = choose(roles, &identity, admitted.src())?;
        Ok(Self { admitted, identity, role, base: None, service: Arc::clone(service) })
    }

    /// The same peer with the role called `name` in place of its certificate's: what becomes of it once a password was
    /// right. The role must be for peers from its address.
    pub fn select(&self, roles: &[Arc<Role>], name: &str) -> Result<Self, AuthenticateError> {
        let role = roles.iter().find(|role| role.name == name).ok_or(AuthenticateError::NoRole)?;
        if role.from.as_ref().is_some_and(|from| from.admit(self.src()).is_err()) {
            return Err(AuthenticateError::NotFromThere(vec![name.to_owned()]));
        }
        let base = self.base.clone().unwrap_or_else(|| self.role.name.as_str().into());
        Ok(Self { role: Arc::clone(role), base: Some(base), ..self.clone() })
    }

    /// Whether a password has given it its role.
    #[must_use]
    pub const fn has_selected(&self) -> bool {
        self.base.is_some()
    }

    /// The same peer under new settings: its address, its certificate's age and its role are asked about again.
    pub fn revalidate(
        &self,
        admission: &Admission,
        roles: &[Arc<Role>],
        now: Moment,
    ) -> Result<Self, AuthenticateError> {
        let admitted = admission.admit(self.src()).map_err(AuthenticateError::Address)?;
        let peer = Self::authenticate(admitted, Arc::clone(&self.identity), roles, &self.service, now)?;
        match &self.base {
            None => Ok(peer),
            // Who would have another role by his certificate now might not have been let to select this one.
            Some(base) if **base != *peer.role.name => Err(AuthenticateError::NoRole),
            Some(_) => peer.select(roles, &self.role.name),
        }
    }

    /// Where the peer comes from.
    #[must_use]
    pub const fn src(&self) -> SocketAddr {
        self.admitted.src()
    }

    /// What its certificate proves.
    #[must_use]
    pub const fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// The role it has.
    #[must_use]
    pub const fn role(&self) -> &Arc<Role> {
        &self.role
    }

    /// What it may say.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.role.policy
    }

    /// The service it is a peer of; its proof is worth nothing at another one.
    #[must_use]
    pub const fn service(&self) -> &Arc<str> {
        &self.service
    }
}

impl Role {
    /// Whether it is a role of this identity from this address.
    #[must_use]
    fn is_for(&self, identity: &Identity, src: SocketAddr) -> bool {
        self.from.as_ref().is_none_or(|from| from.admit(src).is_ok())
            && self.matches.iter().any(|each| each.holds(identity))
    }

    /// Whether whoever `other` is for has this role too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let everywhere = match (&self.from, &other.from) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(mine), Some(theirs)) => mine.covers(theirs),
        };
        // A role without a match is nobody's but by a password.
        everywhere
            && !other.matches.is_empty()
            && other.matches.iter().all(|theirs| self.matches.iter().any(|mine| mine.covers(theirs)))
    }
}

fn choose(roles: &[Arc<Role>], identity: &Identity, src: SocketAddr) -> Result<Arc<Role>, AuthenticateError> {
    let matching: Vec<&Arc<Role>> = roles.iter().filter(|role| role.is_for(identity, src)).collect();
    if matching.is_empty() {
        let elsewhere: Vec<String> = roles
            .iter()
            .filter(|role| role.matches.iter().any(|each| each.holds(identity)))
            .map(|role| role.name.clone())
            .collect();
        return Err(match elsewhere.len() {
            0 => AuthenticateError::NoRole,
            _ => AuthenticateError::NotFromThere(elsewhere),
        });
    }
    let highest = matching.iter().map(|role| role.priority).max().ok_or(AuthenticateError::NoRole)?;
    let mut best = matching.into_iter().filter(|role| role.priority == highest);
    match (best.next(), best.next()) {
        (Some(role), None) => Ok(Arc::clone(role)),
        (first, second) => Err(AuthenticateError::Ambiguous(
            first.into_iter().chain(second).chain(best).map(|role| role.name.clone()).collect(),
        )),
    }
}

#[cfg(test)]
mod tests;
