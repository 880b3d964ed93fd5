//! Who the client is: by certificate and address as the proxy finds it out, or by the name of a role.

use super::Config;
use crate::{
    config::settings::{Service, Settings},
    moment::Moment,
    policy::{
        identity::{AuthenticatedPeer, Identity, Match, Role},
        network::{Admission, Admitted},
        pattern::{Kind, Pattern},
    },
    tls::{peer, pem, server::Tls},
};
use rustls::pki_types::{CertificateDer, UnixTime};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

/// The common name of nobody's certificate, for a client that is asked about by its role.
const STAND_IN: &str = "ravelin explain --as";

/// What was asked for.
pub(super) struct Asked<'a> {
    pub(super) cert: Option<&'a Path>,
    pub(super) role: Option<&'a str>,
    pub(super) from: Option<IpAddr>,
}

/// A client that is in.
pub(super) struct Who<'s> {
    pub(super) peer: AuthenticatedPeer,
    /// Its service, which knows where rules were written.
    pub(super) places: &'s Service,
    pub(super) config: Config,
    /// As records would show it.
    pub(super) identity: String,
    /// How the role was found.
    pub(super) found: String,
    /// What was asked of its address.
    pub(super) address: String,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The question makes no sense.
    Asked(String),
    /// A file cannot be used.
    File(String),
    /// The proxy would not let it in.
    Refused {
        /// The word records have for it.
        reason: &'static str,
        detail: String,
    },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked(text) | Self::File(text) => f.write_str(text),
            Self::Refused { reason, detail } => write!(f, "the client is not let in: {detail} ({reason})"),
        }
    }
}

/// Finds the service and lets the client in, as far as it is let in.
pub(super) fn find<'s>(settings: &'s Settings, service: Option<&str>, asked: &Asked<'_>) -> Result<Who<'s>, Trouble> {
    let service = service_of(settings, service)?;
    let Some(listener) = service.listeners.first() else {
        return Err(Trouble::Asked(format!("service {} listens nowhere", service.name)));
    };
    let (admitted, address) = admit(&service.admission, asked.from)?;
    let refused = |reason, detail: String| Trouble::Refused { reason, detail };
    let now = UnixTime::now();
    let moment = Moment { wall_us: now.as_secs().saturating_mul(1_000_000), ..Moment::default() };
    let (identity, roles, found) = match (asked.cert, asked.role) {
        (Some(_), _) if service.plain => {
            return Err(Trouble::Asked(format!(
                "{} is a tunnel, whose clients show no certificate: --as {0}",
                service.name
            )));
        }
        (Some(path), _) => {
            let chain = chain(path)?;
            let tls = Tls::load(&service.tls.files(), now).map_err(|error| Trouble::File(error.to_string()))?;
            tls.recheck_at(&chain, now).map_err(|error| {
                let failure = crate::tls::failure::explain(&error, chain.first().map(|leaf| leaf.as_ref()));
                refused(failure.reason, format!("{}: {}", path.display(), failure.detail))
            })?;
            let identity = peer::identity(&chain).map_err(|error| refused("bad-name", error.to_string()))?;
            (identity, service.roles.clone(), format!("its certificate is {}", path.display()))
        }
        (None, Some(name)) => {
            let (identity, role) = stand_in(service, name)?;
            (identity, vec![role], "as asked, by --as".to_owned())
        }
        (None, None) => return Err(Trouble::Asked("say whose command it is: --cert FILE or --as ROLE".to_owned())),
    };
    let shown = if asked.cert.is_some() { identity.display_name() } else { "anybody with this role".to_owned() };
    // An address that is not asked about is not asked about here either.
    let anywhere = |role: Arc<Role>| match role.from {
        Some(_) if asked.from.is_none() => Arc::new(Role { from: None, ..Role::clone(&role) }),
        _ => role,
    };
    let roles: Vec<_> = roles.into_iter().map(anywhere).collect();
    let peer = AuthenticatedPeer::authenticate(admitted, Arc::new(identity), &roles, &service.name, moment)
        .map_err(|error| refused(error.word(), error.to_string()))?;
    let found = match peer.role().matches.iter().find(|each| asked.cert.is_some() && each.holds(peer.identity())) {
        Some(each) => format!("{found}, and {each} holds"),
        None => found,
    };
    let config = service.session_config_of(&peer.role().name, listener, &settings.limits, &settings.audit);
    Ok(Who { peer, places: service, config: Arc::new(config), identity: shown, found, address })
}

fn service_of<'s>(settings: &'s Settings, name: Option<&str>) -> Result<&'s Service, Trouble> {
    let names = || settings.services.iter().map(|service| &*service.name).collect::<Vec<_>>().join(", ");
    match (name, settings.services.as_slice()) {
        (None, [only]) => Ok(only),
        (None, _) => Err(Trouble::Asked(format!("there are several services ({}): name one with --service", names()))),
        (Some(name), services) => services
            .iter()
            .find(|service| *service.name == *name)
            .ok_or_else(|| Trouble::Asked(format!("no service is called {name:?}; there are: {}", names()))),
    }
}

fn admit(admission: &Admission, from: Option<IpAddr>) -> Result<(Admitted, String), Trouble> {
    let Some(address) = from else {
        let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let open = Admission::new(&[nobody.ip().into()], &[]);
        let admitted = open.admit(nobody).map_err(|reason| Trouble::Asked(reason.to_string()))?;
        return Ok((admitted, "not asked about (--from)".to_owned()));
    };
    match admission.admit(SocketAddr::new(address, 0)) {
        Ok(admitted) => Ok((admitted, format!("{address}, which admission lets in"))),
        Err(reason) => Err(Trouble::Refused { reason: reason.word(), detail: format!("{address}: {reason}") }),
    }
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    let wrong = |flaw: crate::tls::server::Flaw| {
        let hint = flaw.hint.map_or_else(String::new, |hint| format!(": {hint}"));
        Trouble::File(format!("{} {}{hint}", path.display(), flaw.what))
    };
    pem::certificates(&pem::read(path).map_err(wrong)?).map_err(wrong)
}

/// The role called `name`, for a stand-in whose certificate nobody has.
fn stand_in(service: &Service, name: &str) -> Result<(Identity, Arc<Role>), Trouble> {
    let names = || service.roles.iter().map(|role| role.name.as_str()).collect::<Vec<_>>().join(", ");
    let Some(role) = service.roles.iter().find(|role| role.name == name) else {
        let text = format!("service {} has no role called {name:?}; there are: {}", service.name, names());
        return Err(Trouble::Asked(text));
    };
    let identity = Identity { cn: Some(STAND_IN.to_owned()), not_after: i64::MAX, ..Identity::default() };
    let cn = Pattern::new(STAND_IN, Kind::Plain).map_err(|error| Trouble::Asked(error.to_string()))?;
    let matches = vec![Match { cn: Some(cn), ..Match::default() }];
    Ok((identity, Arc::new(Role { matches, ..Role::clone(role) })))
}
