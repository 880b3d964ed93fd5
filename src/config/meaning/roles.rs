//! Roles: whom each is for and what it may say.

use super::{choice, deny_rules, limits::number, name, network};
use crate::{
    config::{
        decode::{Item, nearest},
        error::{At, Report},
        raw::{RawMatch, RawRole},
        settings::Service,
    },
    policy::{
        identity::{Match, Role},
        pattern::{Kind, Pattern},
        rules::{Place, Policy, Spec},
    },
};
use std::sync::Arc;

/// Gives each service its roles, each with the service's floor under its own denials.
pub(super) fn assign(list: Option<Item<Vec<Item<RawRole>>>>, services: &mut [Service], top: &At, report: &mut Report) {
    let hint = "a certificate that matches no role is refused: add [[role]] with a name and a match";
    let Some(list) = list else {
        report.missing(top, "role", hint);
        return;
    };
    if list.value.is_empty() {
        report.error(&list.at, "there is no role").hint(hint);
    }
    let mut names: Vec<String> = Vec::new();
    for Item { at, value: raw } in list.value {
        let name = name(raw.name.as_ref(), &at, report);
        if let Some(item) = raw.name.as_ref().filter(|_| names.contains(&name)) {
            report.error(&item.at, format!("another role is called {name:?} already"));
        }
        names.push(name.clone());
        let matches = matches(raw.r#match.as_ref(), &at, report);
        let priority = number(raw.priority.as_ref(), -1000..=1000, report).unwrap_or(0);
        let deny = deny_rules(raw.deny.as_ref(), report);
        let shadow = deny_rules(raw.shadow.as_ref(), report);
        let in_shadow = choice(raw.mode.as_ref(), &[("enforce", false), ("shadow", true)], false, report);
        let acl = acl_rules(raw.rules.as_ref(), report);
        let wanted = services_of(&raw, services, report);
        for service in services.iter_mut().filter(|service| wanted.as_ref().is_none_or(|w| w.contains(&service.name))) {
            let (enforced, tried) = if in_shadow { (&[][..], &deny[..]) } else { (&deny[..], &[][..]) };
            let enforced: Vec<&str> = service.floor.iter().chain(enforced).map(String::as_str).collect();
            let tried: Vec<&str> =
                service.floor_shadow.iter().chain(tried).chain(&shadow).map(String::as_str).collect();
            let spec = Spec { deny: &enforced, shadow: &tried, rules: acl, rules_in_shadow: in_shadow, guards: None };
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
            for warning in policy.warnings() {
                report.warn(format!("service {}, role {name}: {warning}", service.name));
            }
            let role = Role { name: name.clone(), matches: matches.clone(), priority, policy };
            for other in service.roles.iter().filter(|other| other.priority == priority) {
                if other.matches.iter().any(|each| role.matches.contains(each)) {
                    report
                        .error(
                            &at,
                            format!("roles {} and {name} have a match in common, so it lets nobody in", other.name),
                        )
                        .hint("give one of them a higher `priority`");
                }
            }
            service.roles.push(Arc::new(role));
        }
    }
    for service in services.iter().filter(|service| service.roles.is_empty()) {
        report.warn(format!("service {}: no role is for it, so nobody is let in", service.name));
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

fn matches(list: Option<&Item<Vec<Item<RawMatch>>>>, table: &At, report: &mut Report) -> Vec<Match> {
    let hint = "say whose role it is: match = [{ cn = \"billing-api\" }]";
    let Some(list) = list else {
        report.missing(table, "match", hint);
        return Vec::new();
    };
    if list.value.is_empty() {
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
        ip: raw.ip.as_ref().and_then(|item| network(item, report)),
        serial: raw.serial.as_ref().and_then(|item| hexadecimal(item, None, report)),
        sha256: raw.sha256.as_ref().and_then(|item| hexadecimal(item, Some(64), report)),
    };
    if found.is_empty() && !report.fails_below(&item.at) {
        report
            .error(&item.at, "there is no condition in it")
            .hint("an empty match would be everybody's; it is nobody's");
    }
    found
}

/// Hexadecimal digits, of either case, with or without colons.
fn hexadecimal(item: &Item<String>, digits: Option<usize>, report: &mut Report) -> Option<String> {
    let text = item.value.replace(':', "").to_ascii_lowercase();
    let good = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if good && digits.is_none_or(|digits| text.len() == digits) {
        return Some(text);
    }
    let many = digits.map_or(String::new(), |digits| format!("{digits} "));
    report.error(&item.at, format!("expected {many}hexadecimal digits, found {:?}", item.value));
    None
}
