//! Where the audit stream goes, and what each place takes of it.

use super::{Paths, choice, limits, network};
use crate::{
    audit::{
        filter::{Commands, Events, Filter, Verdict, Wish},
        keys::SignKey,
        outlet::{Arguments, OUTLETS_MAX, OnFull, Plan, Sample, Shape},
        sink::proof::Checkpoints,
    },
    config::{
        decode::{Item, TextOr, nearest},
        error::Report,
        password,
        raw::{RawAudit, RawAuditFilter, RawCheckpoint, RawOutput},
        settings::{Audit, AuditOutput, AuditTarget, Service},
    },
    policy::rules,
    tls::pem,
};
use std::{ops::RangeInclusive, time::Duration};

/// Bounds of a filter's `slower_than`.
const SLOWER: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
/// Bounds of a checkpoint's `every`.
const EVERY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
const EVERY_DEFAULT: Duration = Duration::from_secs(10);
/// Longest file of a signing key.
const KEY_FILE_MAX: usize = 64 * 1024;
const ARGUMENTS: &[(&str, Arguments)] = &[("keys", Arguments::Keys), ("none", Arguments::None)];
const SHAPES: &[(&str, Shape)] = &[("full", Shape::Full), ("compact", Shape::Compact)];
const EVENTS: &[(&str, Events)] = &[("all", Events::All), ("writes", Events::Writes), ("denied", Events::Denied)];
const ON_FULL: &[(&str, OnFull)] = &[("stall", OnFull::Stall), ("drop", OnFull::Drop)];
const VERDICTS: &[(&str, Verdict)] = &[("allow", Verdict::Allow), ("deny", Verdict::Deny), ("answer", Verdict::Answer)];

/// What every output has that says nothing else.
struct Defaults {
    arguments: Arguments,
    shape: Shape,
    events: Events,
    on_full: OnFull,
    checkpoint: Option<Checkpoints>,
}

pub(super) fn audit(item: Option<Item<RawAudit>>, services: &[Service], paths: &Paths, report: &mut Report) -> Audit {
    let mut audit = Audit::default();
    let Some(Item { value: raw, .. }) = item else { return audit };
    let defaults = Defaults {
        arguments: choice(raw.arguments.as_ref(), ARGUMENTS, Arguments::Keys, report),
        shape: choice(raw.shape.as_ref(), SHAPES, Shape::Full, report),
        events: choice(raw.events.as_ref(), EVENTS, Events::All, report),
        on_full: choice(raw.on_full.as_ref(), ON_FULL, OnFull::Stall, report),
        checkpoint: raw.checkpoint.as_ref().and_then(|item| checkpoint(item, paths, report)),
    };
    audit.queue = limits::bytes(raw.queue.as_ref(), limits::QUEUE, audit.queue, report);
    if let Some(Item { at, value: outputs }) = raw.output {
        if outputs.is_empty() {
            report.error(&at, "there is no output").hint("write [{ stdout = {} }] or [{ file = { path = \"…\" } }]");
        }
        if outputs.len() > OUTLETS_MAX {
            report.error(&at, format!("expected at most {OUTLETS_MAX} outputs, found {}", outputs.len()));
        }
        audit.outputs = Vec::new();
        for output in outputs {
            if let Some(found) = self::output(output, &defaults, &audit.outputs, services, paths, report) {
                audit.outputs.push(found);
            }
        }
    } else if let Some(output) = audit.outputs.first_mut() {
        let Defaults { arguments, shape, events, on_full, checkpoint } = defaults;
        output.checkpoint = checkpoint;
        let filter = Filter::new(Wish { events, ..Wish::default() });
        output.plan =
            Plan { arguments, shape, on_full, filter: (!filter.is_open()).then_some(filter), ..output.plan.clone() };
    }
    if !audit.outputs.is_empty() && audit.outputs.iter().all(|output| output.plan.on_full == OnFull::Drop) {
        report.warn(
            "audit: every output drops what it has no room for, so commands can run of which no record is left"
                .to_owned(),
        );
    }
    audit
}

fn output(
    item: Item<RawOutput>,
    defaults: &Defaults,
    others: &[AuditOutput],
    services: &[Service],
    paths: &Paths,
    report: &mut Report,
) -> Option<AuditOutput> {
    let Item { at, value: raw } = item;
    let (kind, target) = match (raw.stdout, raw.file) {
        (Some(_), None) => ("stdout", AuditTarget::Stdout),
        (None, Some(file)) => {
            let hint = "write { file = { path = \"/var/log/ravelin/audit.jsonl\" } }";
            let path = paths.required(file.value.path.as_ref(), &file.at, "path", hint, report);
            ("file", AuditTarget::File(path))
        }
        (_, _) => {
            report
                .error(&at, "expected one of stdout and file")
                .hint("write { stdout = {} } or { file = { path = \"…\" } }");
            return None;
        }
    };
    if let Some(other) = others.iter().find(|other| other.target == target) {
        report
            .error(&at, format!("{target} is the place of output {:?} already", other.plan.name))
            .hint("two outputs in one place would write into each other's lines");
    }
    let taken = |name: &str| others.iter().any(|other| &*other.plan.name == name);
    let name = match raw.name {
        Some(item) => {
            let name = super::name(Some(&item), &at, report);
            if taken(&name) {
                report.error(&item.at, format!("there is an output {name:?} already"));
            }
            name
        }
        None => {
            let mut names = std::iter::once(kind.to_owned()).chain((2..).map(|n: u32| format!("{kind}-{n}")));
            names.find(|name| !taken(name)).unwrap_or_default()
        }
    };
    let events = choice(raw.events.as_ref(), EVENTS, defaults.events, report);
    let wish = Wish { events, ..raw.filter.map(|raw| wish(raw, services, report)).unwrap_or_default() };
    let filter = Filter::new(wish);
    let plan = Plan {
        name: name.into(),
        shape: choice(raw.shape.as_ref(), SHAPES, defaults.shape, report),
        arguments: choice(raw.arguments.as_ref(), ARGUMENTS, defaults.arguments, report),
        filter: (!filter.is_open()).then_some(filter),
        sample: raw.sample.as_ref().and_then(|item| sample(item, report)),
        on_full: choice(raw.on_full.as_ref(), ON_FULL, defaults.on_full, report),
    };
    let checkpoint = match &raw.checkpoint {
        Some(item) => checkpoint(item, paths, report),
        None => defaults.checkpoint.clone(),
    };
    Some(AuditOutput { plan, target, checkpoint })
}

fn checkpoint(item: &Item<TextOr<RawCheckpoint>>, paths: &Paths, report: &mut Report) -> Option<Checkpoints> {
    match &item.value {
        TextOr::Text(word) => {
            if word != "off" {
                let hint = "write checkpoint = { every = \"10s\", sign_key = \"/etc/ravelin/audit.ed25519\" }";
                report.error(&item.at, format!("expected \"off\" or a table, found {word:?}")).hint(hint);
            }
            None
        }
        TextOr::Table(raw) => Some(Checkpoints {
            every: limits::time(raw.every.as_ref(), EVERY, EVERY_DEFAULT, report),
            lines: limits::number(raw.lines.as_ref(), 100..=1_000_000_000, report),
            key: raw.sign_key.as_ref().and_then(|item| sign_key(item, paths, report)),
        }),
    }
}

fn sign_key(item: &Item<String>, paths: &Paths, report: &mut Report) -> Option<SignKey> {
    let path = paths.resolve(item, report);
    let mut fault = |what: &dyn std::fmt::Display| {
        let hint = format!("make one with `openssl genpkey -algorithm ed25519 -out {}`", path.display());
        report.error(&item.at, format!("{}: {what}", path.display())).hint(hint);
        None
    };
    let pem = match password::read_up_to(&path, KEY_FILE_MAX) {
        Ok(pem) => pem,
        Err(error) => return fault(&error),
    };
    match pem::private_key(pem.expose()) {
        Ok(key) => SignKey::from_pkcs8(key.secret_der()).map_or_else(|error| fault(&error), Some),
        Err(flaw) => fault(&flaw),
    }
}

fn wish(item: Item<RawAuditFilter>, services: &[Service], report: &mut Report) -> Wish {
    let raw = item.value;
    let mut wish = Wish::default();
    for item in raw.roles.iter().flat_map(|list| &list.value) {
        let mut roles = services.iter().flat_map(|service| &service.roles).map(|role| role.name.as_str());
        if !roles.clone().any(|role| role == item.value) {
            let near = nearest(&item.value, &mut roles);
            let error = report.error(&item.at, format!("there is no role {:?}", item.value));
            if let Some(near) = near {
                error.hint(format!("did you mean {near:?}?"));
            }
        }
        wish.roles.push(item.value.clone());
    }
    wish.from = raw.from.iter().flat_map(|list| &list.value).filter_map(|item| network(item, report)).collect();
    if let Some(list) = &raw.commands {
        let mut named = Vec::new();
        for item in &list.value {
            match rules::rows(&item.value) {
                Ok(rows) => named.extend(rows),
                Err(fault) => {
                    report.error(&item.at, format!("{:?}: {fault}", item.value));
                }
            }
        }
        if list.value.is_empty() {
            report.error(&list.at, "no command is named, so none would be taken").hint("leave the key out for all");
        }
        wish.commands = Some(Commands::new(named));
    }
    for item in raw.verdicts.iter().flat_map(|list| &list.value) {
        wish.verdicts.push(choice(Some(item), VERDICTS, Verdict::Deny, report));
    }
    wish.slower_than_us = raw.slower_than.as_ref().map(|item| {
        let time = limits::time(Some(item), SLOWER, *SLOWER.start(), report);
        u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
    });
    wish
}

/// A part in percent, as a [`Sample`]; all of it is none.
fn sample(item: &Item<String>, report: &mut Report) -> Option<Sample> {
    let percent = item.value.strip_suffix('%').and_then(|text| text.trim_end().parse::<f64>().ok());
    match percent.filter(|percent| (0.001..=100.0).contains(percent)) {
        Some(percent) if percent >= 100.0 => None,
        Some(percent) => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0.001 and 100, so that the product is within a u32; a cast saturates"
            )]
            let most = (percent / 100.0 * f64::from(u32::MAX)) as u32;
            Some(Sample(most))
        }
        None => {
            report
                .error(&item.at, format!("expected a part between 0.001% and 100%, found {:?}", item.value))
                .hint("write sample = \"10%\"");
            None
        }
    }
}
