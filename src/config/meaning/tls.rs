//! TLS of a service: its files, and what is chosen beside them.

use super::{Paths, choice, limits::time, planned};
use crate::{
    config::{
        decode::{Item, TextOr},
        error::{At, Report},
        raw::{RawCertificate, RawRevoked, RawTls},
        settings::{Tls, TlsVersion},
    },
    tls::{
        normal_name,
        revocation::{Doubt, Revocation, RevokedSerial},
        server::{Choice, Pair},
        suites::{self, Unknown},
    },
};
use std::time::Duration;

/// The most serial numbers in the configuration: it is for the hour before a revocation list says the same.
const SERIALS_MAX: usize = 10_000;

/// The most further certificates: each is parsed at every reload, and its names are indexed.
const CERTIFICATES_MAX: usize = 1000;

/// TLS of a service, and where it says that no certificate need be shown.
#[derive(Clone)]
pub(super) struct TlsTable {
    pub(super) tls: Tls,
    pub(super) anonymous_at: Option<At>,
}

pub(super) fn tls(item: Item<RawTls>, paths: &Paths, report: &mut Report) -> TlsTable {
    let Item { at, value: raw } = item;
    let hint = "`ravelin certs` makes a CA, server and client certificates to begin with";
    let instead = "\"none\" lets a client in without a certificate, and checks one that is shown";
    let given = planned(raw.client_auth.clone(), &["optional"], instead, report);
    let anonymous = choice(given.as_ref(), &[("required", false), ("none", true)], false, report);
    let tls = Tls {
        cert: paths.required(raw.cert.as_ref(), &at, "cert", hint, report),
        key: paths.required(raw.key.as_ref(), &at, "key", hint, report),
        client_ca: paths.required(raw.client_ca.as_ref(), &at, "client_ca", hint, report),
        crl: raw.crl.iter().flat_map(|list| &list.value).map(|path| paths.resolve(path, report)).collect(),
        min_version: choice(
            raw.min_version.as_ref(),
            &[("1.2", TlsVersion::V12), ("1.3", TlsVersion::V13)],
            TlsVersion::default(),
            report,
        ),
        anonymous,
        choice: chosen(&raw, paths, report),
    };
    let none_of_13 = !tls.choice.suites.is_empty() && !tls.choice.suites.iter().any(|suite| suites::is_tls13(*suite));
    if let Some(item) = raw.suites.as_ref().filter(|_| none_of_13 && tls.min_version == TlsVersion::V13) {
        report
            .error(&item.at, "there is no suite of TLS 1.3 among them, and min_version is \"1.3\"")
            .hint("add \"TLS_AES_256_GCM_SHA384\"");
    }
    TlsTable { tls, anonymous_at: given.filter(|_| anonymous).map(|item| item.at) }
}

fn chosen(raw: &RawTls, paths: &Paths, report: &mut Report) -> Choice {
    let doubt = [("refuse", Doubt::Refuse), ("accept", Doubt::Accept)];
    let default = Choice::default();
    let warning = Duration::from_secs(3600)..=Duration::from_secs(365 * 86_400);
    Choice {
        ocsp: raw.ocsp.as_ref().map(|path| paths.resolve(path, report)),
        certificates: certificates(raw, paths, report),
        strict_names: choice(raw.sni.as_ref(), &[("default", false), ("strict", true)], false, report),
        revocation: Revocation {
            expired: choice(raw.crl_expired.as_ref(), &doubt, Doubt::Refuse, report),
            missing: choice(raw.crl_missing.as_ref(), &doubt, Doubt::Refuse, report),
            serials: serials(raw, report),
        },
        suites: named(raw.suites.as_ref(), suites::suite, report),
        groups: named(raw.groups.as_ref(), suites::group, report),
        expiry_warning: time(raw.expiry_warning.as_ref(), warning, default.expiry_warning, report),
    }
}

/// What is known by name, best first.
fn named<T: PartialEq + Copy>(
    list: Option<&Item<Vec<Item<String>>>>,
    read: impl Fn(&str) -> Result<T, Unknown>,
    report: &mut Report,
) -> Vec<T> {
    let Some(list) = list else { return Vec::new() };
    if list.value.is_empty() {
        report.error(&list.at, "there is none in it").hint("leave it out for all that there are");
    }
    let mut found = Vec::new();
    for item in &list.value {
        match read(&item.value) {
            Ok(one) if found.contains(&one) => {
                report.error(&item.at, "is in the list already");
            }
            Ok(one) => found.push(one),
            Err(Unknown { what, hint }) => {
                report.error(&item.at, format!("{:?} {what}", item.value)).hint(hint);
            }
        }
    }
    found
}

fn certificates(raw: &RawTls, paths: &Paths, report: &mut Report) -> Vec<Pair> {
    let Some(list) = &raw.certificates else { return Vec::new() };
    if list.value.len() > CERTIFICATES_MAX {
        report.error(&list.at, format!("there are more than {CERTIFICATES_MAX} in it"));
        return Vec::new();
    }
    let hint = "write certificates = [{ cert = \"…\", key = \"…\" }]";
    let mut pairs: Vec<Pair> = Vec::new();
    for Item { at, value } in &list.value {
        let RawCertificate { cert, key, ocsp, names } = value;
        if let Some(names) = names.as_ref().filter(|names| names.value.is_empty()) {
            report.error(&names.at, "there is no name in it").hint("leave it out for the names in the certificate");
        }
        let mut own = Vec::new();
        for item in names.iter().flat_map(|names| &names.value) {
            let Some(name) = normal_name(&item.value) else {
                report
                    .error(&item.at, format!("{:?} is not a host's name", item.value))
                    .hint("such as \"db.example.com\" or \"*.example.com\"; clients do not ask for addresses by name");
                continue;
            };
            if own.contains(&name) || pairs.iter().any(|pair| pair.names.contains(&name)) {
                report.warn_at(
                    &item.at,
                    format!("{name} has a certificate already"),
                    "the first that the client can verify is shown",
                );
            }
            own.push(name);
        }
        pairs.push(Pair {
            cert: paths.required(cert.as_ref(), at, "cert", hint, report),
            key: paths.required(key.as_ref(), at, "key", hint, report),
            ocsp: ocsp.as_ref().map(|path| paths.resolve(path, report)),
            names: own,
        });
    }
    pairs
}

fn serials(raw: &RawTls, report: &mut Report) -> Vec<RevokedSerial> {
    let Some(list) = &raw.revoked_serials else { return Vec::new() };
    if list.value.len() > SERIALS_MAX {
        report
            .error(&list.at, format!("there are more than {SERIALS_MAX} in it"))
            .hint("so many belong in a revocation list (crl)");
        return Vec::new();
    }
    let mut found = Vec::new();
    for item in &list.value {
        let (at, serial, issuer) = match &item.value {
            TextOr::Text(serial) => (&item.at, serial, None),
            TextOr::Table(RawRevoked { serial: Some(serial), issuer }) => {
                (&serial.at, &serial.value, issuer.as_ref().map(|issuer| issuer.value.as_str()))
            }
            TextOr::Table(_) => {
                report.missing(&item.at, "serial", "write { serial = \"4fa001\", issuer = \"CN=Issuing CA\" }");
                continue;
            }
        };
        match RevokedSerial::new(serial, issuer) {
            Some(revoked) => found.push(revoked),
            None => {
                report.error(at, format!("expected hexadecimal digits, found {serial:?}")).hint(
                    "`openssl x509 -noout -serial -in FILE` prints them, and so does `cert_serial` in connection_open",
                );
            }
        }
    }
    found
}
