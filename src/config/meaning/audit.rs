//! Where the audit stream goes, and what each place takes of it.

mod outputs;

use super::{Paths, checkpoint::checkpoint, choice, limits, network, secrets};
use crate::{
    audit::{
        arguments::{BYTES_MAX, HashKey, KEY_BYTES_MIN, Values},
        filter::{Commands, Events, Filter, Verdict, Wish},
        outlet::{Arguments, OUTLETS_MAX, OnFull, Plan, Sample, Shape},
        sink::proof::Checkpoints,
        target::Target,
        watch::{Watches, Within},
    },
    config::{
        decode::{Item, nearest},
        error::Report,
        raw::{RawAudit, RawAuditFilter, RawOutput, RawValues, RawWatch, RawWithin},
        settings::{Audit, AuditOutput, Service},
    },
    policy::rules,
};
use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Bounds of `slower_than` and `slow`.
const TIME: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
/// Bounds of `large_request` and `large_reply`.
const SIZE: RangeInclusive<u64> = 1 << 10..=1 << 30;
/// Bounds of a `within`.
const WITHIN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
const ARGUMENTS: &[(&str, Arguments)] = &[
    ("keys", Arguments::Keys),
    ("hashed", Arguments::Hashed),
    ("values", Arguments::Values),
    ("none", Arguments::None),
];
const SHAPES: &[(&str, Shape)] = &[("full", Shape::Full), ("compact", Shape::Compact)];
const EVENTS: &[(&str, Events)] = &[("all", Events::All), ("writes", Events::Writes), ("denied", Events::Denied)];
const ON_FULL: &[(&str, OnFull)] = &[("stall", OnFull::Stall), ("drop", OnFull::Drop)];
const BEGIN: &[(&str, bool)] = &[("destructive", false), ("writes", true)];
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
    let Some(Item { at, value: raw }) = item else { return audit };
    let mut files = Vec::new();
    let defaults = Defaults {
        arguments: choice(raw.arguments.as_ref(), ARGUMENTS, Arguments::Keys, report),
        shape: choice(raw.shape.as_ref(), SHAPES, Shape::Full, report),
        events: choice(raw.events.as_ref(), EVENTS, Events::All, report),
        on_full: choice(raw.on_full.as_ref(), ON_FULL, OnFull::Stall, report),
        checkpoint: raw.checkpoint.as_ref().and_then(|item| checkpoint(item, &mut files, paths, report)),
    };
    audit.queue = limits::bytes(raw.queue.as_ref(), limits::QUEUE, audit.queue, report);
    audit.begin_writes = choice(raw.begin.as_ref(), BEGIN, false, report);
    let hash_key_file = secrets::file_of(raw.hash_key_file.as_ref(), raw.hash_key_credential.as_ref(), paths, report);
    let hash_key = hash_key_file.and_then(|(item, path)| {
        files.push(("audit.hash_key_file", path.clone()));
        hash_key(&item, &path, report)
    });
    let values = raw.values.as_ref().map(|item| values(&item.value, services, report));
    let said = (raw.hash_key_file.is_some() || raw.hash_key_credential.is_some(), raw.values.is_some());
    if let Some(item) = raw.watch {
        audit.watches = watches(&item.value, report);
    }
    if let Some(Item { at, value: outputs }) = raw.output {
        if outputs.is_empty() {
            report.error(&at, "there is no output").hint("write [{ stdout = {} }] or [{ file = { path = \"…\" } }]");
        }
        if outputs.len() > OUTLETS_MAX {
            report.error(&at, format!("expected at most {OUTLETS_MAX} outputs, found {}", outputs.len()));
        }
        audit.outputs = Vec::new();
        for output in outputs {
            if let Some(found) = self::output(output, &defaults, &audit.outputs, &mut files, services, paths, report) {
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
    let shows = |arguments| move |output: &AuditOutput| output.plan.arguments == arguments;
    let (hashed, valued) =
        (audit.outputs.iter().any(shows(Arguments::Hashed)), audit.outputs.iter().any(shows(Arguments::Values)));
    if hashed && !said.0 {
        report.missing(&at, "hash_key_file", "make one: (umask 077; openssl rand -hex 32 > audit-hash.key)");
    }
    if valued && !said.1 {
        report.missing(
            &at,
            "values",
            "say whose: values = { roles = [\"app\"], commands = [\"@write\"] }, or {} for all",
        );
    }
    for (unused, key, word) in [(said.0 && !hashed, "hash_key_file", "hashed"), (said.1 && !valued, "values", "values")]
    {
        if unused {
            report.warn(format!("audit.{key}: no output has arguments = \"{word}\", so it is not used"));
        }
    }
    for output in audit.outputs.iter_mut().filter(|output| output.plan.arguments == Arguments::Hashed) {
        output.plan.hash_key.clone_from(&hash_key);
    }
    audit.key_files = files;
    audit.values = values.filter(|_| valued).map(Arc::new);
    if audit.values.as_ref().is_some_and(|values| values.roles.is_empty() && values.commands.is_none()) {
        report.warn(
            "audit.values: the words of all commands of all roles are written down, whatever people store".to_owned(),
        );
    }
    if !audit.outputs.is_empty() && audit.outputs.iter().all(outputs::is_udp) {
        report.warn("audit: every output is UDP, which loses messages without a word".to_owned());
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
    files: &mut Vec<(&'static str, PathBuf)>,
    services: &[Service],
    paths: &Paths,
    report: &mut Report,
) -> Option<AuditOutput> {
    let Item { at, value: raw } = item;
    let (kind, target) = match (raw.stdout, raw.file, raw.syslog, raw.socket) {
        (Some(_), None, None, None) => ("stdout", Target::Stdout),
        (None, Some(item), None, None) => ("file", Target::File(outputs::file(item, paths, report))),
        (None, None, Some(item), None) => ("syslog", Target::Syslog(outputs::syslog(item.value, paths, report))),
        (None, None, None, Some(item)) => ("socket", Target::Socket(outputs::socket(&item, paths, report))),
        _ => {
            report
                .error(&at, "expected one of stdout, file, syslog and socket")
                .hint("write { stdout = {} } or { file = { path = \"…\" } }");
            return None;
        }
    };
    if let Some(other) = others.iter().find(|other| outputs::are_one_place(&other.target, &target)) {
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
        hash_key: None,
        filter: (!filter.is_open()).then_some(filter),
        sample: raw.sample.as_ref().and_then(|item| sample(item, report)),
        on_full: choice(raw.on_full.as_ref(), ON_FULL, defaults.on_full, report),
    };
    let checkpoint = match &raw.checkpoint {
        Some(item) => checkpoint(item, files, paths, report),
        None => defaults.checkpoint.clone(),
    };
    Some(AuditOutput { plan, target, checkpoint })
}

/// Names of roles, each of which there must be.
fn roles(list: Option<&Item<Vec<Item<String>>>>, services: &[Service], report: &mut Report) -> Vec<String> {
    let mut named = Vec::new();
    for item in list.iter().flat_map(|list| &list.value) {
        let mut roles = services.iter().flat_map(|service| &service.roles).map(|role| role.name.as_str());
        if !roles.clone().any(|role| role == item.value) {
            let near = nearest(&item.value, &mut roles);
            let error = report.error(&item.at, format!("there is no role {:?}", item.value));
            if let Some(near) = near {
                error.hint(format!("did you mean {near:?}?"));
            }
        }
        named.push(item.value.clone());
    }
    named
}

/// Commands as a denylist names them.
fn commands(list: &Item<Vec<Item<String>>>, report: &mut Report) -> Commands {
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
    Commands::new(named)
}

fn values(raw: &RawValues, services: &[Service], report: &mut Report) -> Values {
    Values {
        roles: roles(raw.roles.as_ref(), services, report),
        commands: raw.commands.as_ref().map(|list| commands(list, report)),
        bytes_max: limits::number(raw.max_bytes.as_ref(), 1..=BYTES_MAX, report).unwrap_or(128),
    }
}

fn hash_key(item: &Item<String>, path: &Path, report: &mut Report) -> Option<Arc<HashKey>> {
    let secret = super::service::read_secret(item, path, "file of a key", report)?;
    let key = HashKey::new(secret.expose());
    if key.is_none() {
        report
            .error(&item.at, format!("{} holds fewer than {KEY_BYTES_MIN} bytes", path.display()))
            .hint("make one: (umask 077; openssl rand -hex 32 > audit-hash.key)");
    }
    key.map(Arc::new)
}

fn wish(item: Item<RawAuditFilter>, services: &[Service], report: &mut Report) -> Wish {
    let raw = item.value;
    let mut wish = Wish { roles: roles(raw.roles.as_ref(), services, report), ..Wish::default() };
    wish.from = raw.from.iter().flat_map(|list| &list.value).filter_map(|item| network(item, report)).collect();
    wish.commands = raw.commands.as_ref().map(|list| commands(list, report));
    for item in raw.verdicts.iter().flat_map(|list| &list.value) {
        wish.verdicts.push(choice(Some(item), VERDICTS, Verdict::Deny, report));
    }
    let slower = raw.slower_than.as_ref();
    wish.slower_than_us = slower.map(|item| micros(limits::time(Some(item), TIME, *TIME.start(), report)));
    wish
}

fn watches(raw: &RawWatch, report: &mut Report) -> Watches {
    Watches {
        slow_us: raw.slow.as_ref().map(|item| micros(limits::time(Some(item), TIME, *TIME.start(), report))),
        large_request: raw.large_request.as_ref().map(|item| limits::bytes(Some(item), SIZE, *SIZE.start(), report)),
        large_reply: raw.large_reply.as_ref().map(|item| limits::bytes(Some(item), SIZE, *SIZE.start(), report)),
        first_seen: raw.first_seen.as_ref().is_some_and(|item| item.value),
        denial_burst: raw.denial_burst.as_ref().and_then(|item| within(item, 1..=1_000_000_000, report)),
        bulk_read: raw.bulk_read.as_ref().and_then(|item| within(item, *SIZE.start()..=1 << 40, report)),
    }
}

fn within(item: &Item<RawWithin>, bounds: RangeInclusive<u64>, report: &mut Report) -> Option<Within> {
    let Some(amount) = &item.value.amount else {
        report.missing(&item.at, "amount", "write { amount = …, within = \"10s\" }");
        return None;
    };
    let least = *bounds.start();
    let us = micros(limits::time(item.value.within.as_ref(), WITHIN, Duration::from_secs(10), report));
    Some(Within { amount: limits::bytes(Some(amount), bounds, least, report), us })
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
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
