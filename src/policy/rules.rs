//! The denylist, compiled.
//!
//! An entry is a command (`FLUSHALL`; a container's name, `CONFIG`, denies its subcommands too), a subcommand
//! (`CONFIG|SET`), an ACL category as of Redis 7.0 (`@dangerous`, matched by each row's own categories; `@all`), or a
//! preset (`preset:hardened`), each in any case. Where several entries deny a command, the first one speaks. What is
//! not in the catalog is denied without any entry ([`RuleId::UNKNOWN_COMMAND`]).
//!
//! An entry may be in *shadow mode*: what it would deny is let through and its record says so. What an entry that is in
//! force denies is denied, whatever stands in shadow mode.

mod fault;

pub use fault::{RuleError, RuleErrors, RuleFault};

use super::presets::{self, Preset};
use super::{RuleId, Verdict};
use crate::command::{Categories, CommandId, Effect, catalog};
pub(super) use fault::nearest;
use std::borrow::Cow;

/// One verdict per row of the catalog, and the names of the rules behind the denials. Immutable; swapped whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Policy {
    /// One per row of the catalog, at its index.
    verdicts: Box<[Verdict]>,
    /// Names of the configured rules, from [`RuleId::BUILTIN`] on.
    names: Box<[String]>,
}

/// Names of the rules that are built in, at their [`RuleId`].
const BUILTIN_NAMES: [&str; RuleId::BUILTIN as usize] = [
    "builtin/unknown-command",
    "builtin/not-a-name",
    "builtin/authentication",
    "builtin/in-transaction",
    "builtin/unsupported",
    "builtin/not-canonical",
    "builtin/held-command",
    "builtin/in-stream",
];

impl Policy {
    /// Compiles deny rules (`preset:hardened`, `FLUSHALL`, `CONFIG|SET`, `@dangerous`, in any case).
    ///
    /// # Errors
    /// Every entry that names nothing, all of them at once.
    pub fn compile(deny: &[&str]) -> Result<Self, RuleErrors> {
        Self::compile_with(deny, &[])
    }

    /// The same, with entries in shadow mode besides.
    ///
    /// # Errors
    /// Every entry that names nothing, all of them at once; those in shadow mode are counted on behind the others.
    pub fn compile_with(deny: &[&str], shadow: &[&str]) -> Result<Self, RuleErrors> {
        let mut compiler =
            Compiler { verdicts: vec![Verdict::Allow; catalog::len()], names: Vec::new(), verdict: Verdict::Deny };
        let mut errors = Vec::new();
        for (position, entry) in deny.iter().chain(shadow).enumerate() {
            if position == deny.len() {
                compiler.verdict = Verdict::Shadow;
            }
            if let Err(fault) = compiler.add(entry) {
                errors.push(RuleError { position, entry: (*entry).to_owned(), fault });
            }
        }
        compiler.verdict = Verdict::Deny;
        if !errors.is_empty() {
            return Err(RuleErrors(errors));
        }
        for (id, row) in catalog::iter() {
            if row.effect == Effect::Unsupported {
                compiler.deny_whatever(id, RuleId::UNSUPPORTED);
            }
        }
        Ok(Self { verdicts: compiler.verdicts.into_boxed_slice(), names: compiler.names.into_boxed_slice() })
    }

    /// The verdict on a catalogued command.
    #[must_use]
    pub fn judge(&self, id: CommandId) -> Verdict {
        // The slice has a verdict for every row; a row it had not would be denied.
        self.verdicts.get(id.index()).copied().unwrap_or(Verdict::Deny(RuleId::UNKNOWN_COMMAND))
    }

    /// The name of a rule, as records and metrics write it.
    #[must_use]
    pub fn rule_name(&self, rule: RuleId) -> &str {
        let index = usize::from(rule.0);
        match BUILTIN_NAMES.get(index) {
            Some(name) => name,
            None => self.names.get(index - BUILTIN_NAMES.len()).map_or("builtin/unknown-rule", String::as_str),
        }
    }

    /// What is denied, for `check`: the name of each rule that denies something, with the commands it denies.
    pub fn denied(&self) -> impl Iterator<Item = (&str, Vec<&'static str>)> {
        self.of(Verdict::Deny)
    }

    fn of(&self, verdict: fn(RuleId) -> Verdict) -> impl Iterator<Item = (&str, Vec<&'static str>)> {
        let rules = 0..u16::try_from(BUILTIN_NAMES.len() + self.names.len()).unwrap_or(u16::MAX);
        rules.map(RuleId).filter_map(move |rule| {
            let of_rule = |(id, _): &(CommandId, _)| self.judge(*id) == verdict(rule);
            let commands: Vec<_> = catalog::iter().filter(of_rule).map(|(_, row)| row.full_name).collect();
            (!commands.is_empty()).then(|| (self.rule_name(rule), commands))
        })
    }

    /// What is let through that a rule in shadow mode would deny, likewise.
    pub fn shadowed(&self) -> impl Iterator<Item = (&str, Vec<&'static str>)> {
        self.of(Verdict::Shadow)
    }

    /// What an operator should know of this policy before relying on it, one sentence each, for `check`.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let open = |id: CommandId| self.judge(id).lets_through();
        let names = |wanted: &dyn Fn(CommandId, &crate::command::Entry) -> bool| {
            catalog::iter()
                .filter(|(id, row)| wanted(*id, row))
                .map(|(_, row)| row.full_name.to_ascii_uppercase())
                .collect::<Vec<_>>()
        };
        let mut warnings = Vec::new();
        if self.denied().all(|(rule, _)| rule.starts_with("builtin/")) {
            warnings.push("no command is denied: every client may do whatever the upstream user may".to_owned());
            return warnings;
        }
        let tried = self.shadowed().map(|(_, commands)| commands.len()).sum::<usize>();
        if tried > 0 {
            warnings.push(format!("{tried} commands are let through that only rules in shadow mode would deny"));
        }
        let scripts = names(&|id, row| open(id) && row.effect == Effect::Script);
        if !scripts.is_empty() {
            warnings.push(format!(
                "scripts can run any command, so the denylist can be walked around by {}: deny them too, or rely on the \
                 upstream user's own rights",
                scripts.join(", ")
            ));
        }
        let takeover = names(&|id, row| open(id) && TAKEOVER.contains(&row.full_name));
        if !takeover.is_empty() {
            warnings.push(format!(
                "{} can take the server over or copy all of it away, and every known attack on an open Redis begins \
                 with one of their kind: deny them, or add preset:hardened",
                takeover.join(", ")
            ));
        }
        for (denied, twin) in TWINS {
            let (Some(denied_id), Some(twin_id)) = (catalog::by_full_name(denied), catalog::by_full_name(twin)) else {
                continue;
            };
            for (closed, left_open) in [(denied_id, twin_id), (twin_id, denied_id)] {
                if !open(closed) && open(left_open) {
                    warnings.push(format!(
                        "{} is denied, but {} does the same and is not",
                        closed.entry().full_name.to_ascii_uppercase(),
                        left_open.entry().full_name.to_ascii_uppercase(),
                    ));
                }
            }
        }
        warnings
    }
}

/// Commands that by themselves run code, write files, or stream the data set to a stranger.
const TAKEOVER: &[&str] = &[
    "config|set",
    "debug",
    "function|load",
    "migrate",
    "module|load",
    "module|loadex",
    "psync",
    "replicaof",
    "slaveof",
    "sync",
];

/// Commands that do the same under another name.
const TWINS: &[(&str, &str)] = &[
    ("slaveof", "replicaof"),
    ("substr", "getrange"),
    ("restore-asking", "restore"),
    ("cluster|slaves", "cluster|replicas"),
    ("sync", "psync"),
    ("hmset", "hset"),
    ("slowlog|get", "commandlog|get"),
];

struct Compiler {
    verdicts: Vec<Verdict>,
    names: Vec<String>,
    /// What the entries that come now say of what they name.
    verdict: fn(RuleId) -> Verdict,
}

impl Compiler {
    fn add(&mut self, entry: &str) -> Result<(), RuleFault> {
        match Target::parse(entry)? {
            Target::Preset(preset) => preset.denied().try_for_each(|(id, group)| {
                let rule = self.rule(format!("preset:{}/{group}", preset.name))?;
                self.deny(id, rule);
                Ok(())
            }),
            target => {
                let rule = self.rule(format!("deny:{}", target.written()))?;
                self.deny_all(&target, rule);
                Ok(())
            }
        }
    }

    /// The id of the rule called `name`, new or not.
    fn rule(&mut self, name: String) -> Result<RuleId, RuleFault> {
        let at = self.names.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        });
        match u16::try_from(at + BUILTIN_NAMES.len()) {
            Ok(id) if id <= RuleId::MAX => Ok(RuleId(id)),
            _ => Err(RuleFault::TooMany),
        }
    }

    fn deny_all(&mut self, target: &Target, rule: RuleId) {
        match target {
            Target::Command(id) => catalog::family(*id).for_each(|(id, _)| self.deny(id, rule)),
            Target::Category(wanted) => {
                catalog::iter().filter(|(_, row)| row.categories.any(wanted.0)).for_each(|(id, _)| self.deny(id, rule))
            }
            Target::All => catalog::iter().for_each(|(id, _)| self.deny(id, rule)),
            // A preset does not name presets.
            Target::Preset(_) => {}
        }
    }

    /// Denies one row unless an earlier rule does.
    fn deny(&mut self, id: CommandId, rule: RuleId) {
        if let Some(verdict @ Verdict::Allow) = self.verdicts.get_mut(id.index()) {
            *verdict = (self.verdict)(rule);
        }
    }

    /// Denies one row unless a rule that is in force does.
    fn deny_whatever(&mut self, id: CommandId, rule: RuleId) {
        if let Some(verdict) = self.verdicts.get_mut(id.index()).filter(|verdict| verdict.lets_through()) {
            *verdict = Verdict::Deny(rule);
        }
    }
}

/// What an entry speaks of.
enum Target {
    Command(CommandId),
    Category(Categories),
    All,
    Preset(&'static Preset),
}

impl Target {
    fn parse(entry: &str) -> Result<Self, RuleFault> {
        if let Some(category) = entry.strip_prefix('@') {
            return Self::category(category);
        }
        if let Some((kind, name)) = entry.split_once(':')
            && kind.eq_ignore_ascii_case("preset")
        {
            return presets::by_name(name).map(Target::Preset).ok_or_else(|| RuleFault::UnknownPreset {
                nearest: nearest(name, presets::PRESETS.iter().map(|preset| preset.name)),
            });
        }
        if entry.is_empty() {
            return Err(RuleFault::Empty);
        }
        let (command, sub) = entry.split_once('|').map_or((entry, None), |(command, sub)| (command, Some(sub)));
        if !catalog::is_name(command.as_bytes()) || !sub.is_none_or(|sub| catalog::is_name(sub.as_bytes())) {
            let spaced = entry.trim().replacen(' ', "|", 1);
            let nearest = catalog::by_full_name(&spaced).map(|id| id.entry().full_name);
            return Err(RuleFault::NotAName { nearest });
        }
        match catalog::by_full_name(entry) {
            Some(id) => Ok(Target::Command(id)),
            None => Err(Self::unknown(entry, command, sub)),
        }
    }

    fn category(name: &str) -> Result<Self, RuleFault> {
        if name.eq_ignore_ascii_case("all") {
            return Ok(Target::All);
        }
        Categories::by_name(name).map(Target::Category).ok_or_else(|| RuleFault::UnknownCategory {
            nearest: nearest(name, crate::command::bits::categories::NAMES.iter().map(|(name, _)| *name)),
        })
    }

    fn unknown(entry: &str, command: &str, sub: Option<&str>) -> RuleFault {
        let all = || catalog::iter().map(|(_, row)| row.full_name);
        match (catalog::by_full_name(command), sub) {
            (Some(id), Some(_)) if !id.entry().container => RuleFault::NoSubcommands { command: id.entry().full_name },
            (Some(id), Some(_)) => RuleFault::UnknownSubcommand {
                nearest: nearest(entry, catalog::family(id).map(|(_, row)| row.full_name)),
            },
            _ => RuleFault::UnknownCommand { nearest: nearest(entry, all()) },
        }
    }

    /// The entry as rule names write it: in one spelling, whatever the configuration's.
    fn written(&self) -> Cow<'static, str> {
        match self {
            Target::Command(id) => Cow::Owned(id.entry().full_name.to_ascii_uppercase()),
            Target::Category(category) => Cow::Owned(format!("@{}", category.names().collect::<Vec<_>>().join("|"))),
            Target::All => Cow::Borrowed("@all"),
            Target::Preset(preset) => Cow::Borrowed(preset.name),
        }
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
