//! Roles: whom each is for and what it may say.

use super::{
    NOWHERE, Paths, choice, deny_rules, guards, limits::number, name, network, places, service::Tables, terms,
};
use crate::{
    config::{
        decode::{Item, nearest},
        error::{At, Report},
        password,
        raw::{RawAcl, RawMatch, RawRole},
        settings::{ClientAuth, Credentials, Limits, RulePlace, Service, Terms, UpstreamAddress},
    },
    policy::{
        acl,
        identity::{Match, Role},
        network::Admission,
        pattern::{Kind, Pattern},
        rules::{Place, Policy, Spec},
        spiffe,
    },
};
use std::{num::NonZeroU32, sync::Arc};

/// Longest file of users.
const ACL_FILE_MAX: usize = 1024 * 1024;

/// A role as it was given to services, and where it is written.
struct Given {
    at: At,
    name: String,
    /// Of each of its services.
    roles: Vec<(Arc<str>, Arc<Role>)>,
    client_auth: Option<(ClientAuth, At)>,
}

/// What roles are held against besides the services.
pub(super) struct House<'h> {
    /// Of each service.
    pub(super) tables: &'h [Tables],
    pub(super) limits: &'h Limits,
    pub(super) paths: &'h Paths,
}

/// Gives each service its roles, each with the service's floor under its own denials, and what each has of its own.
pub(super) fn assign(
    list: Option<Item<Vec<Item<RawRole>>>>,
    services: &mut [Service],
    house: &House<'_>,
    top: &At,
    report: &mut Report,
) {
    let hint = "a certificate that matches no role is refused: add [[role]] with a name and a match";
    let Some(list) = list else {
        report.missing(top, "role", hint);
        return;
    };
    if list.value.is_empty() {
        report.error(&list.at, "there is no role").hint(hint);
    }
    // Then there may be roles that only a password gives.
    let selects = services.iter().any(|service| service.upstream.client_auth == ClientAuth::Select)
        || list
            .value
            .iter()
            .any(|role| role.value.client_auth.as_ref().is_some_and(|item| terms::is_select(&item.value)));
    let mut given: Vec<Given> = Vec::new();
    for Item { at, value: raw } in list.value {
        let name = name(raw.name.as_ref(), &at, report);
        if let Some(item) = raw.name.as_ref().filter(|_| given.iter().any(|other| other.name == name)) {
            report.error(&item.at, format!("another role is called {name:?} already"));
        }
        let matches = matches(raw.r#match.as_ref(), selects, &at, report);
        let from = from(raw.from.as_ref(), report);
        let priority = number(raw.priority.as_ref(), -1000..=1000, report).unwrap_or(0);
        let deny = deny_rules(raw.deny.as_ref(), report);
        let own = terms::own(&raw, house.limits, house.paths, report);
        let shadow = deny_rules(raw.shadow.as_ref(), report);
        let in_shadow = choice(raw.mode.as_ref(), &[("enforce", false), ("shadow", true)], false, report);
        let written = imported_rules(raw.acl.as_ref(), raw.rules.as_ref(), house.paths, report);
        let written = written.as_ref().or(raw.rules.as_ref());
        let acl = acl_rules(written, report);
        let scripts = guards::scripts(raw.scripts.as_ref(), house.paths, report);
        let role_guards = guards::guards(&raw, scripts.as_ref().map(|rule| rule.scripts.clone()), house.paths, report);
        let rename_file = raw.rename_file.as_ref().map(|item| house.paths.resolve(item, report));
        let wanted = services_of(&raw, services, report);
        let mut roles = Vec::new();
        for service in services.iter_mut().filter(|service| wanted.as_ref().is_none_or(|w| w.contains(&service.name))) {
            let (enforced, tried) = if in_shadow { (&[][..], &deny.list[..]) } else { (&deny.list[..], &[][..]) };
            let enforced: Vec<&str> = service.floor.iter().chain(enforced).map(String::as_str).collect();
            let tried: Vec<&str> =
                service.floor_shadow.iter().chain(tried).chain(&shadow.list).map(String::as_str).collect();
            let mut guards = role_guards.clone();
            if in_shadow || guards.scripts.is_none() {
                // What a role tries out does not lift the floor's.
                guards.scripts = service.scripts.clone().or(guards.scripts);
                guards.scripts_of_floor = service.scripts.is_some();
            }
            service.rename_files.extend(rename_file.clone());
            service.pin_files.extend(scripts.iter().filter_map(|rule| rule.file.clone()));
            let spec = Spec {
                deny: &enforced,
                shadow: &tried,
                rules: acl,
                rules_in_shadow: in_shadow,
                databases: own.databases.as_ref(),
                guards: Some(&guards),
                rates: &own.rates,
            };
            let policy = match Policy::build(&spec) {
                Ok(policy) => Arc::new(policy),
                Err(errors) => {
                    // Each rule was good by itself; what remains is about all of them together.
                    for error in errors.0 {
                        report.error(&at, error.to_string());
                    }
                    continue;
                }
            };
            let of_rules = written.map(|item| places::of_kind("rules", &item.at, &policy, report));
            let of_databases = raw.databases.as_ref().map(|item| places::at("databases", &item.at, report));
            let of_guards = [
                ("config", raw.config.as_ref().map(|item| &item.at)),
                ("client_kill", raw.client_kill.as_ref().map(|item| &item.at)),
                ("rate", raw.limits.as_ref().and_then(|item| item.value.rate.as_ref()).map(|item| &item.at)),
            ];
            let of_guards =
                of_guards.into_iter().filter_map(|(kind, at)| Some(places::of_kind(kind, at?, &policy, report)));
            let of_scripts = scripts.as_ref().map(|rule| &rule.place).filter(|_| !guards.scripts_of_floor);
            let of_scripts = of_scripts.or(service.scripts_place.as_ref().filter(|_| guards.scripts_of_floor)).cloned();
            let of_own =
                of_rules.into_iter().flatten().chain(of_databases).chain(of_guards.flatten()).chain(of_scripts);
            let places = deny.places.iter().chain(&shadow.places).cloned().chain(of_own);
            service.rule_places.extend(places.map(|place| RulePlace { role: Some(name.clone()), ..place }));
            for warning in policy.warnings() {
                report.warn(format!("service {}, role {name}: {warning}", service.name));
            }
            let role =
                Arc::new(Role { name: name.clone(), matches: matches.clone(), from: from.clone(), priority, policy });
            beside(&role, service, &at, report);
            service.terms.push(terms(&own, &role, service, report));
            service.roles.push(Arc::clone(&role));
            roles.push((Arc::clone(&service.name), role));
        }
        anonymous_somewhere(raw.r#match.as_ref(), &roles, services, report);
        given.push(Given { at, name, roles, client_auth: own.client_auth });
    }
    for service in services.iter().filter(|service| service.roles.is_empty()) {
        report.warn(format!("service {}: no role is for it, so nobody is let in", service.name));
    }
    for (service, tables) in services.iter().zip(house.tables) {
        open_door(service, tables.anonymous_at.as_ref(), report);
        looked_up(service, tables, &given, report);
    }
    for each in &given {
        shadowed(each, services, report);
    }
}

/// What a role has of its own in a service.
fn terms(own: &terms::Own, role: &Role, service: &Service, report: &mut Report) -> Terms {
    if let Some((_, _, at)) = &own.credential
        && service.upstream.credential().is_none()
        && service.upstream.address != UpstreamAddress::Loopback(NOWHERE)
        && service.upstream.password.is_none()
    {
        report
            .error(at, format!("the Redis of service {} asks nobody for a password (auth = \"none\")", service.name))
            .hint("give the service a password_file too, or take the role's out");
    }
    Terms {
        role: role.name.as_str().into(),
        credential: own.credential.as_ref().map(|(credential, _, _)| credential.clone()),
        password: own.credential.as_ref().map(|(_, password, _)| password.clone()),
        client_auth: own.client_auth.as_ref().map_or(service.upstream.client_auth, |(mode, _)| *mode),
        database: own.databases.as_ref().and_then(|databases| NonZeroU32::new(databases.first())),
        limits: own.limits,
    }
}

/// Passwords that are to be looked up, and where.
fn looked_up(service: &Service, tables: &Tables, given: &[Given], report: &mut Report) {
    let looks = |mode| matches!(mode, ClientAuth::Verify | ClientAuth::Select);
    let mut asked = false;
    for terms in service.terms.iter().filter(|terms| looks(terms.client_auth)) {
        asked = true;
        let own = given.iter().find(|given| *given.name == *terms.role).and_then(|given| given.client_auth.as_ref());
        let at = own.map(|(_, at)| at).or(tables.client_auth_at.as_ref());
        if let Some(at) = at.filter(|at| tables.credentials_at.is_none() && !report.fails_below(at)) {
            report
                .error(at, format!("service {} has no [credentials] to look passwords up in", service.name))
                .hint("add a [credentials] table with users_file or command");
        }
    }
    if let Some(Credentials::Users { users, .. }) = &service.credentials
        && service.terms.iter().any(|terms| terms.client_auth == ClientAuth::Select)
        && let Some(at) = &tables.credentials_at
    {
        let mut unknown: Vec<&str> =
            users.roles().filter(|name| service.roles.iter().all(|role| role.name != *name)).collect();
        unknown.sort_unstable();
        unknown.dedup();
        for name in unknown {
            let names = service.roles.iter().map(|role| role.name.as_str());
            let error = report.error(
                at,
                format!("users_file gives a user the role {name:?}, which service {} has not", service.name),
            );
            if let Some(near) = nearest(name, names.clone()) {
                error.hint(format!("did you mean {near:?}?"));
            } else {
                error.hint(format!("there are: {}", names.collect::<Vec<_>>().join(", ")));
            }
        }
    }
    if let (false, Some(at)) = (asked, &tables.credentials_at)
        && !service.roles.is_empty()
    {
        report.warn_at(
            at,
            format!("no role of service {} looks passwords up, so this does nothing there", service.name),
            "say client_auth = \"verify\", or take it out",
        );
    }
}

/// A role beside those that a service has already.
fn beside(role: &Role, service: &Service, at: &At, report: &mut Report) {
    for other in service.roles.iter().filter(|other| other.priority == role.priority) {
        let met = match (&other.from, &role.from) {
            (Some(theirs), Some(mine)) => theirs.overlaps(mine),
            _ => true,
        };
        if met && other.matches.iter().any(|each| role.matches.contains(each)) {
            report
                .error(
                    at,
                    format!("roles {} and {} have a match in common, so it lets nobody in", other.name, role.name),
                )
                .hint("give one of them a higher `priority`");
        }
    }
    if let Some(from) = &role.from
        && !service.admission.admits_nobody()
        && !service.admission.overlaps(from)
    {
        report.warn_at(
            at,
            format!("role {} is for peers from where nobody may connect to service {}", role.name, service.name),
            "let `from` name networks that `admission.allow` covers",
        );
    }
}

/// A match on nobody's certificate holds only where none need be shown.
fn anonymous_somewhere(
    list: Option<&Item<Vec<Item<RawMatch>>>>,
    roles: &[(Arc<str>, Arc<Role>)],
    services: &[Service],
    report: &mut Report,
) {
    let open = services.iter().any(|each| each.tls.anonymous && roles.iter().any(|(name, _)| *name == each.name));
    for item in list.iter().flat_map(|list| &list.value).filter_map(|each| each.value.anonymous.as_ref()) {
        if item.value && !open && !roles.is_empty() {
            report
                .error(&item.at, "this can never hold: every service of the role demands a certificate")
                .hint("say client_auth = \"none\" in the [tls] of a service, or take the match out");
        }
    }
}

/// A service that lets clients in without a certificate says who they are, and is warned of.
fn open_door(service: &Service, door: Option<&At>, report: &mut Report) {
    let Some(at) = door else { return };
    let roles: Vec<&str> = service
        .roles
        .iter()
        .filter(|role| role.matches.iter().any(|each| each.anonymous))
        .map(|role| role.name.as_str())
        .collect();
    if roles.is_empty() {
        // Not if the role itself could not be read.
        if !service.roles.is_empty() {
            report
                .error(at, format!("no role of service {} is for who shows no certificate", service.name))
                .hint("add a [[role]] with match = [{ anonymous = true }], or leave client_auth out");
        }
        return;
    }
    report.warn_at(
        at,
        format!(
            "whoever may connect to service {} and shows no certificate has the role {}",
            service.name,
            roles.join(" or ")
        ),
        "demand certificates wherever clients can have them (client_auth = \"required\")",
    );
}

/// A role that others always come before is nobody's, in one of its services or in all.
fn shadowed(given: &Given, services: &[Service], report: &mut Report) {
    for (name, role) in &given.roles {
        let Some(service) = services.iter().find(|service| service.name == *name) else { continue };
        let others = || service.roles.iter().filter(|other| !Arc::ptr_eq(other, role) && other.covers(role));
        let fault = if let Some(other) = others().find(|other| other.priority > role.priority) {
            format!(
                "role {} is never had in service {name}: whoever it is for has role {}, whose priority is higher",
                role.name, other.name
            )
        } else if let Some(other) = others().find(|other| other.priority == role.priority) {
            format!(
                "role {} lets nobody in in service {name}: whoever it is for has role {} too, with the same priority",
                role.name, other.name
            )
        } else {
            continue;
        };
        report.warn_at(&given.at, fault, "give the narrower role the higher `priority`");
    }
}

/// Where a role's peers come from.
fn from(list: Option<&Item<Vec<Item<String>>>>, report: &mut Report) -> Option<Admission> {
    let list = list?;
    if list.value.is_empty() {
        report.error(&list.at, "there is no network in the list").hint("leave `from` out for peers from anywhere");
    }
    let nets: Vec<_> = list.value.iter().filter_map(|item| network(item, report)).collect();
    Some(Admission::new(&nets, &[]))
}

/// The rules of a user of a `users.acl`, standing where the user is named.
fn imported_rules(
    item: Option<&Item<RawAcl>>,
    rules: Option<&Item<String>>,
    paths: &Paths,
    report: &mut Report,
) -> Option<Item<String>> {
    let Item { at, value: raw } = item?;
    if let Some(rules) = rules {
        report.error(&rules.at, "there are rules and a user whose rules are taken (`acl`)").hint("keep one of the two");
    }
    let nothing = |at: &At| Some(Item { at: at.clone(), value: String::new() });
    let (Some(file), Some(user)) = (&raw.file, &raw.user) else {
        report
            .error(at, "expected a file and a user")
            .hint("write acl = { file = \"/etc/redis/users.acl\", user = \"billing\" }");
        return nothing(at);
    };
    let path = paths.resolve(file, report);
    let text = match password::read_up_to(&path, ACL_FILE_MAX) {
        Ok(text) => text,
        Err(error) => {
            let fault = report.error(&file.at, format!("{} is no file of users: {error}", path.display()));
            if matches!(error, password::PasswordError::Open(_)) {
                fault.hint(format!("chmod o-rw {}: it may hold passwords", path.display()));
            }
            return nothing(at);
        }
    };
    let Ok(text) = std::str::from_utf8(text.expose()) else {
        report.error(&file.at, format!("{} is no file of users: it is not UTF-8", path.display()));
        return nothing(at);
    };
    match acl::file::rules_of(text, &user.value) {
        Ok(found) => {
            if !found.enabled {
                report.warn(format!(
                    "{}: user {} of {} is off, so the role may say nothing",
                    user.at.key,
                    user.value,
                    path.display()
                ));
            }
            Some(Item { at: user.at.clone(), value: found.rules })
        }
        Err(error) => {
            report.error(&user.at, format!("{}: {error}", path.display()));
            nothing(at)
        }
    }
}

/// The ACL rules of a role, if they are rules. Each fault is told with the term it is about.
fn acl_rules<'r>(item: Option<&'r Item<String>>, report: &mut Report) -> Option<&'r str> {
    let item = item?;
    let Err(errors) = Policy::build(&Spec { rules: Some(&item.value), ..Spec::default() }) else {
        return Some(&item.value);
    };
    for error in errors.0 {
        let place = match error.place {
            Place::Rules(offset) => place_in(&item.value, offset),
            Place::Deny(_) => String::new(),
        };
        report.error(&item.at, format!("{:?} ({place}): {}", error.entry, error.fault));
    }
    None
}

/// Where a term stands in a text: the word, and the line if there are several.
fn place_in(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let word =
        before.lines().last().filter(|_| !before.ends_with('\n')).map_or(0, |line| line.split_whitespace().count()) + 1;
    if text.contains('\n') {
        format!("line {line} of the rules, word {word}")
    } else {
        format!("word {word} of the rules")
    }
}

/// The services a role names; `None` for all.
fn services_of(raw: &RawRole, services: &[Service], report: &mut Report) -> Option<Vec<Arc<str>>> {
    let list = raw.services.as_ref()?;
    if list.value.is_empty() {
        report.error(&list.at, "there is no service in the list").hint("leave `services` out for all of them");
    }
    let mut found = Vec::new();
    for item in &list.value {
        let names = services.iter().map(|service| &*service.name);
        if let Some(service) = services.iter().find(|service| *service.name == *item.value) {
            found.push(Arc::clone(&service.name));
        } else {
            let error = report.error(&item.at, format!("no service is called {:?}", item.value));
            if let Some(near) = nearest(&item.value, names.clone()) {
                error.hint(format!("did you mean {near:?}?"));
            } else {
                error.hint(format!("there are: {}", names.collect::<Vec<_>>().join(", ")));
            }
        }
    }
    Some(found)
}

fn matches(list: Option<&Item<Vec<Item<RawMatch>>>>, selects: bool, table: &At, report: &mut Report) -> Vec<Match> {
    let hint = "say whose role it is: match = [{ cn = \"billing-api\" }]";
    let Some(list) = list else {
        report.missing(table, "match", hint);
        return Vec::new();
    };
    if list.value.is_empty() && !selects {
        report.error(&list.at, "there is no match, so the role is nobody's").hint(hint);
    }
    list.value.iter().map(|item| one_match(item, report)).collect()
}

fn one_match(item: &Item<RawMatch>, report: &mut Report) -> Match {
    let raw = &item.value;
    let mut pattern = |field: &Option<Item<String>>, kind| {
        let item = field.as_ref()?;
        Pattern::new(&item.value, kind).map_err(|error| report.error(&item.at, error.to_string()).clone()).ok()
    };
    let found = Match {
        uri: pattern(&raw.uri, Kind::Uri),
        dns: pattern(&raw.dns, Kind::Dns),
        email: pattern(&raw.email, Kind::Plain),
        cn: pattern(&raw.cn, Kind::Plain),
        ou: pattern(&raw.ou, Kind::Plain),
        o: pattern(&raw.o, Kind::Plain),
        issuer: pattern(&raw.issuer, Kind::Plain),
        ip: raw.ip.as_ref().and_then(|item| network(item, report)),
        serial: raw.serial.as_ref().and_then(|item| hexadecimal(item, None, report)),
        sha256: raw.sha256.as_ref().and_then(|item| hexadecimal(item, Some(64), report)),
        spki_sha256: raw.spki_sha256.as_ref().and_then(|item| hexadecimal(item, Some(64), report)),
        anonymous: raw.anonymous.as_ref().is_some_and(|item| item.value),
    };
    if let Some(item) = raw.anonymous.as_ref().filter(|item| !item.value) {
        report.error(&item.at, "expected true").hint("leave it out: every other match is on a certificate");
    }
    let alone = Match { anonymous: true, ..Match::default() };
    if let Some(item) = raw.anonymous.as_ref().filter(|_| found.anonymous && found != alone) {
        report
            .error(&item.at, "this can never hold: who shows no certificate has no name to match")
            .hint("give it a pair of braces of its own: match = [{ anonymous = true }, { … }]");
    }
    if found.is_empty() && !report.fails_below(&item.at) {
        report
            .error(&item.at, "there is no condition in it")
            .hint("an empty match would be everybody's; it is nobody's");
    }
    doubtful(raw, report);
    found
}

/// Conditions that no certificate meets, or that say less than they seem to.
fn doubtful(raw: &RawMatch, report: &mut Report) {
    if let Some(item) = &raw.uri {
        if spiffe::begins(&item.value) && !spiffe::pattern_may_match(&item.value) {
            report.error(&item.at, "this can never hold: no SPIFFE id is like that").hint(
                "spiffe://, a trust domain in lower case, then segments of `a-z A-Z 0-9 . - _`, none of them empty, `.` or \
                 `..`; `*` stands for one segment or part of one, `**` for any number of them",
            );
        } else if !item.value.contains([':', '*']) {
            report.warn_at(
                &item.at,
                "this can never hold: a URI begins with a scheme",
                "a host's name is matched by `dns`",
            );
        }
    }
    if let Some(item) = raw.dns.as_ref().filter(|item| item.value.contains(['/', ':', '@', ' '])) {
        report.warn_at(
            &item.at,
            "this can never hold: no DNS name has such a character",
            "match a URI by `uri`, an email address by `email`, an IP address by `ip`",
        );
    }
    if let Some(item) = raw.email.as_ref().filter(|item| !item.value.contains(['@', '*'])) {
        report.warn_at(
            &item.at,
            "this can never hold: an email address has an `@`",
            "a common name is matched by `cn`",
        );
    }
    if let Some(item) = raw.serial.as_ref().filter(|_| raw.issuer.is_none()) {
        report.warn_at(
            &item.at,
            "another CA in client_ca may issue the same number",
            "give `issuer` too, or match `sha256` instead",
        );
    }
}

/// Hexadecimal digits, of either case, with or without colons.
fn hexadecimal(item: &Item<String>, digits: Option<usize>, report: &mut Report) -> Option<String> {
    let text = item.value.replace(':', "").to_ascii_lowercase();
    let good = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if good && digits.is_none_or(|digits| text.len() == digits) {
        return Some(text);
    }
    let many = digits.map_or(String::new(), |digits| format!("{digits} "));
    let error = report.error(&item.at, format!("expected {many}hexadecimal digits, found {:?}", item.value));
    if good && text.len() == 40 {
        error.hint("that is a SHA-1 fingerprint; `openssl x509 -noout -fingerprint -sha256 -in FILE` prints the other");
    }
    None
}
