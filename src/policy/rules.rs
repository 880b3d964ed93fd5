//! The denylist, compiled.
//!
//! An entry is a command (`FLUSHALL`; a container's name, `CONFIG`, denies its subcommands too), a subcommand
//! (`CONFIG|SET`), an ACL category as of Redis 7.0 (`@dangerous`, matched by each row's own categories; `@all`), or a
//! preset (`preset:hardened`), each in any case. Where several entries deny a command, the first one speaks. What is
//! not in the catalog is denied without any entry ([`RuleId::UNKNOWN_COMMAND`]).
//!
//! An entry may be in *shadow mode*: what it would deny is let through and its record says so. What an entry that is in
//! force denies is denied, whatever stands in shadow mode.

mod entry;
mod fault;
mod warnings;

pub use fault::{Place, RuleError, RuleErrors, RuleFault};
pub(super) use fault::{nearest, shown};

use entry::Target;

use super::acl::{self, Acl};
use super::databases::{Databases, reaches_all, scripts_keep_to_theirs};
use super::guards::{self, Guards};
use super::presets;
use super::rates::{Limit, Rates};
use super::rename::{Renames, shows_words};
use super::scripts::{ByName, Scripts};
use super::{Denial, RuleId, Subject, Verdict};
use crate::command::{CommandId, Effect, access, catalog, keys};
use crate::resp::Words;

/// What a policy is made of. Every part may be left out; what no part speaks of is allowed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spec<'s> {
    /// The denylist: it stands under everything else, whatever that says.
    pub deny: &'s [&'s str],
    /// Entries in shadow mode.
    pub shadow: &'s [&'s str],
    /// Redis ACL rules. With them, what they do not allow is denied.
    pub rules: Option<&'s str>,
    /// Whether the ACL rules are in shadow mode.
    pub rules_in_shadow: bool,
    /// The databases that may be used; never in shadow mode, for a connection begins in one of them.
    pub databases: Option<&'s Databases>,
    /// What looks at arguments. In shadow mode with the ACL rules.
    pub guards: Option<&'s Guards>,
    /// How much may be said in a time; at most [`super::rates::LIMITS_MAX`] limits. In force in shadow mode too.
    pub rates: &'s [Limit],
}

/// Rules as `ACL GETUSER` shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// `-@all +get …` or `+@all -flushall …`.
    pub commands: String,
    /// `~cache:* %R~shared:*`.
    pub keys: String,
    /// `&events:*`.
    pub channels: String,
    /// `db=1,2` where not every database is allowed, empty where none is: Valkey's field.
    pub databases: Option<String>,
}

/// A command whose words take part in its verdict.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q> {
    /// Its row.
    pub id: CommandId,
    /// Its words: whole, or [`Policy::settled`].
    pub words: &'q Words<'q>,
    /// The database it would run in.
    pub db: u32,
    /// The number of the client's own connection to Redis, if it is known.
    pub own_id: Option<u64>,
}

/// One verdict per row of the catalog, what words add to it, and the names of the rules behind the denials. Immutable;
/// swapped whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Policy {
    /// One per row of the catalog, at its index.
    rows: Box<[Row]>,
    /// Names of the configured rules, from [`RuleId::BUILTIN`] on.
    names: Box<[String]>,
    rules: Option<Rules>,
    databases: Option<(Databases, RuleId)>,
    guards: guards::Rules,
    rates: Option<Box<Rates>>,
}

/// What is known of a command without its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The verdict, as far as the name alone decides it.
    pub verdict: Verdict,
    /// Whether words take part ([`Policy::judge_words`]).
    pub asks_words: bool,
    /// Whether arguments do ([`Policy::judge_arguments`]).
    pub asks_arguments: bool,
}

impl Row {
    /// Of a command that is let through by its name alone.
    pub const OPEN: Self = Self { verdict: Verdict::Allow, asks_words: false, asks_arguments: false };
    const UNKNOWN: Self = Self { verdict: Verdict::Deny(Denial::command(RuleId::UNKNOWN_COMMAND)), ..Self::OPEN };
}

/// ACL rules, and the rules that records name for what they deny.
#[derive(Debug, PartialEq, Eq)]
struct Rules {
    acl: Acl,
    /// What an operator should know of them.
    remarks: Box<[String]>,
    minds_databases: bool,
    command: RuleId,
    key: RuleId,
    channel: RuleId,
    database: RuleId,
    in_shadow: bool,
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
    "builtin/access-control",
    "builtin/credential",
    "builtin/renamed",
];

impl Policy {
    /// Compiles deny rules alone (`preset:hardened`, `FLUSHALL`, `CONFIG|SET`, `@dangerous`, in any case).
    ///
    /// # Errors
    /// Every entry that names nothing, all of them at once.
    pub fn compile(deny: &[&str]) -> Result<Self, RuleErrors> {
        Self::build(&Spec { deny, ..Spec::default() })
    }

    /// Compiles a policy of all its parts. Entries in shadow mode are counted on behind those of the denylist.
    ///
    /// # Errors
    /// Everything that names nothing, all of it at once.
    pub fn build(spec: &Spec<'_>) -> Result<Self, RuleErrors> {
        let guards = spec.guards.cloned().unwrap_or_default();
        // The floor is in force whatever is tried out above it.
        let yields = !spec.rules_in_shadow || guards.scripts_of_floor;
        let mut compiler = Compiler {
            rows: vec![Row::OPEN; catalog::len()],
            names: Vec::new(),
            shadow: false,
            guards: if yields { guards.clone() } else { Guards::default() },
        };
        let mut errors = Vec::new();
        for (position, entry) in spec.deny.iter().enumerate() {
            if let Err(fault) = compiler.add(entry) {
                errors.push(RuleError { place: Place::Deny(position), entry: (*entry).to_owned(), fault });
            }
        }
        let trusted = scripts_keep_to_theirs(&compiler.guards);
        let databases = spec.databases.and_then(|databases| compiler.databases(databases, trusted, &mut errors));
        // What is in force speaks first.
        let rules = spec.rules.filter(|_| !spec.rules_in_shadow);
        let trusted = scripts_keep_to_theirs(&guards);
        let mut rules = rules.and_then(|text| compiler.rules(text, trusted, &mut errors));
        compiler.shadow = spec.rules_in_shadow;
        let guards = compiler.guard(guards, &mut errors);
        compiler.shadow = true;
        for (position, entry) in spec.shadow.iter().enumerate() {
            if let Err(fault) = compiler.add(entry) {
                let place = Place::Deny(spec.deny.len() + position);
                errors.push(RuleError { place, entry: (*entry).to_owned(), fault });
            }
        }
        if let Some(text) = spec.rules.filter(|_| spec.rules_in_shadow) {
            rules = compiler.rules(text, trusted, &mut errors);
        }
        let rates = compiler.rates(spec.rates, &mut errors);
        if !errors.is_empty() {
            return Err(RuleErrors(errors));
        }
        for (id, row) in catalog::iter() {
            match row.effect {
                Effect::Unsupported => compiler.deny_whatever(id, Denial::command(RuleId::UNSUPPORTED)),
                Effect::AccessControl => compiler.deny_whatever(id, Denial::command(RuleId::ACCESS_CONTROL)),
                _ if !guards.guards.renames.is_empty() && shows_words(row) => {
                    compiler.deny_whatever(id, Denial::command(RuleId::RENAMED));
                }
                _ => {}
            }
        }
        let (rows, names) = (compiler.rows.into_boxed_slice(), compiler.names.into_boxed_slice());
        Ok(Self { rows, names, rules, databases, guards, rates })
    }

    /// What is known of a catalogued command without its words.
    #[must_use]
    pub fn look(&self, id: CommandId) -> Row {
        // The slice has every row; a row it had not would be denied.
        self.rows.get(id.index()).copied().unwrap_or(Row::UNKNOWN)
    }

    /// The verdict on a catalogued command, as far as its name alone decides it.
    #[must_use]
    pub fn judge(&self, id: CommandId) -> Verdict {
        self.look(id).verdict
    }

    /// Whether words of a command that [`Self::judge`] allows take part in its verdict: [`Self::judge_words`] is to be asked.
    #[must_use]
    pub fn asks_words(&self, id: CommandId) -> bool {
        self.look(id).asks_words
    }

    /// Whether the database takes part in any verdict: then it must be known when one is given.
    #[must_use]
    pub fn minds_databases(&self) -> bool {
        self.rules.as_ref().is_some_and(|rules| rules.minds_databases)
    }

    /// The verdict on a command that [`Self::judge`] allows and whose words take part. `scratch` is only written to.
    #[must_use]
    pub fn judge_words(&self, question: &Question<'_>, scratch: &mut Vec<u32>) -> Verdict {
        if let Some((databases, rule)) = &self.databases
            && databases.deny(question)
        {
            return Verdict::Deny(Denial { rule: *rule, subject: Subject::Database });
        }
        if let Some(rules) = &self.rules
            && let Err(subject) = rules.acl.judge(question, scratch)
        {
            let rule = match subject {
                Subject::Command => rules.command,
                Subject::Key => rules.key,
                Subject::Channel => rules.channel,
                Subject::Database => rules.database,
            };
            return if rules.in_shadow { Verdict::Shadow(rule) } else { Verdict::Deny(Denial { rule, subject }) };
        }
        Verdict::Allow
    }

    /// Whether arguments of a command that [`Self::judge`] allows take part in its verdict: [`Self::judge_arguments`] is to
    /// be asked.
    #[must_use]
    pub fn asks_arguments(&self, id: CommandId) -> bool {
        self.look(id).asks_arguments
    }

    /// The verdict on a whole command that [`Self::judge`] allows and whose arguments take part.
    #[must_use]
    pub fn judge_arguments(&self, question: &Question<'_>) -> Verdict {
        self.guards.judge(question)
    }

    /// The databases that may be used, if not all.
    #[must_use]
    pub fn databases(&self) -> Option<&Databases> {
        self.databases.as_ref().map(|(databases, _)| databases)
    }

    /// Whether what words decide is in shadow mode only.
    #[must_use]
    pub fn asks_in_shadow(&self) -> bool {
        self.databases.is_none() && self.rules.as_ref().is_some_and(|rules| rules.in_shadow)
    }

    /// What a client is told of its own rights (ACL GETUSER): the rules outside parentheses first, then each selector.
    ///
    /// The denylist is taken off each, so that what is told is what is allowed.
    #[must_use]
    pub fn describe(&self) -> Vec<Described> {
        let closed = |id: CommandId| !self.judge(id).lets_through();
        match &self.rules {
            Some(rules) if !rules.in_shadow => rules.acl.describe(&closed),
            _ => vec![Described {
                commands: acl::describe::commands(&|id| !closed(id)),
                keys: "~*".to_owned(),
                channels: "&*".to_owned(),
                databases: None,
            }],
        }
    }

    /// What looks at arguments.
    #[must_use]
    pub const fn guards(&self) -> &Guards {
        &self.guards.guards
    }

    /// How much may be said in a time, if that is limited.
    #[must_use]
    #[inline]
    pub fn rates(&self) -> Option<&Rates> {
        self.rates.as_deref()
    }

    /// The commands that the server knows under secret names.
    #[must_use]
    pub const fn renames(&self) -> &Renames {
        &self.guards.guards.renames
    }

    /// Whether a command must be whole before it can be judged or sent, however large it is.
    #[must_use]
    pub fn needs_whole(&self, id: CommandId) -> bool {
        self.asks_arguments(id)
            || self.renames().word_of(id).is_some()
            || (self.databases.is_some() && Databases::ask(id))
    }

    /// Whether what has come of a large command settles its verdict, its keys and its state: no later word can change them.
    #[must_use]
    pub fn settled(&self, question: &Question<'_>, scratch: &mut Vec<u32>) -> bool {
        let Question { id, words, .. } = *question;
        let entry = id.entry();
        if !keys::settled(entry, words) {
            return false;
        }
        if words.whole() >= words.declared() {
            return true;
        }
        if self.needs_whole(id) {
            return false;
        }
        if !self.asks_words(id) {
            return true;
        }
        // The word behind the name: a channel, or the word a rule names.
        if words.whole() < 2 {
            return false;
        }
        // A denial may rest on what is not known yet, and taken to be needed.
        !access::varies(entry) || self.judge_words(question, scratch).lets_through()
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

    /// The names of the rules that are not built in, those in force first.
    pub fn rule_names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// What is denied, for `check`: the name of each rule that denies something, with the commands it denies.
    pub fn denied(&self) -> impl Iterator<Item = (&str, Vec<&'static str>)> {
        self.of(|verdict| match verdict {
            Verdict::Deny(denial) => Some(denial.rule),
            Verdict::Allow | Verdict::Shadow(_) => None,
        })
    }

    fn of(&self, rule_in: fn(Verdict) -> Option<RuleId>) -> impl Iterator<Item = (&str, Vec<&'static str>)> {
        let rules = 0..u16::try_from(BUILTIN_NAMES.len() + self.names.len()).unwrap_or(u16::MAX);
        rules.map(RuleId).filter_map(move |rule| {
            let of_rule = |(id, _): &(CommandId, _)| rule_in(self.judge(*id)) == Some(rule);
            let commands: Vec<_> = catalog::iter().filter(of_rule).map(|(_, row)| row.full_name).collect();
            (!commands.is_empty()).then(|| (self.rule_name(rule), commands))
        })
    }

    /// What is let through that a rule in shadow mode would deny, likewise.
    pub fn shadowed(&self) -> impl Iterator<Item = (&str, Vec<&'static str>)> {
        self.of(|verdict| match verdict {
            Verdict::Shadow(rule) => Some(rule),
            Verdict::Allow | Verdict::Deny(_) => None,
        })
    }
}

struct Compiler {
    rows: Vec<Row>,
    names: Vec<String>,
    /// Whether the entries that come now are in shadow mode.
    shadow: bool,
    /// What presets leave to the guards.
    guards: Guards,
}

impl Compiler {
    fn add(&mut self, entry: &str) -> Result<(), RuleFault> {
        match Target::parse(entry)? {
            Target::Preset(preset) => preset.denied().try_for_each(|(id, group)| {
                if group == presets::SCRIPTING && self.guards.speak_of(id.entry()) {
                    return Ok(());
                }
                let rule = self.rule(format!("preset:{}/{group}", preset.name))?;
                self.deny(id, rule);
                Ok(())
            }),
            target => {
                let rule = self.rule(format!("deny:{}", target.written()))?;
                target.rows().into_iter().for_each(|id| self.deny(id, rule));
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

    /// The same for what is no entry of a denylist; where there are too many, `entry` at `place` is named for it.
    fn named(&mut self, name: String, place: Place, entry: &str, errors: &mut Vec<RuleError>) -> Option<RuleId> {
        self.rule(name).map_err(|fault| errors.push(RuleError { place, entry: entry.to_owned(), fault })).ok()
    }

    /// Denies one row unless an earlier rule does.
    fn deny(&mut self, id: CommandId, rule: RuleId) {
        self.deny_for(id, Denial::command(rule));
    }

    fn deny_for(&mut self, id: CommandId, denial: Denial) {
        if let Some(row @ Row { verdict: Verdict::Allow, .. }) = self.rows.get_mut(id.index()) {
            row.verdict = if self.shadow { Verdict::Shadow(denial.rule) } else { Verdict::Deny(denial) };
        }
    }

    /// Denies one row unless a rule that is in force does.
    fn deny_whatever(&mut self, id: CommandId, denial: Denial) {
        if let Some(row) = self.rows.get_mut(id.index()).filter(|row| row.verdict.lets_through()) {
            row.verdict = Verdict::Deny(denial);
        }
    }

    /// Denies what reaches into all databases at once, and lets the words of what names one take part.
    fn databases(
        &mut self,
        databases: &Databases,
        trusted: bool,
        errors: &mut Vec<RuleError>,
    ) -> Option<(Databases, RuleId)> {
        let rule = self.named("databases".to_owned(), Place::Deny(0), &databases.to_string(), errors)?;
        for (id, _) in catalog::iter() {
            if reaches_all(id, trusted) {
                self.deny_whatever(id, Denial { rule, subject: Subject::Database });
            } else if let Some(row) = self.rows.get_mut(id.index()) {
                row.asks_words |= Databases::ask(id);
            }
        }
        Some((databases.clone(), rule))
    }

    /// Takes the guards, and denies by them what no argument could make allowed.
    fn guard(&mut self, guards: Guards, errors: &mut Vec<RuleError>) -> guards::Rules {
        let mut name = |what: String| self.named(what.clone(), Place::Rules(0), &what, errors);
        let get = guards.parameters.readable().and_then(|_| name("config:get".to_owned()));
        let set = guards.parameters.changeable().and_then(|_| name("config:set".to_owned()));
        let kill = guards.own_kill.then(|| name("client_kill:own".to_owned())).flatten();
        let scripts = guards.scripts.as_ref().filter(|scripts| **scripts != Scripts::Allow);
        let scripts = scripts.and_then(|scripts| name(format!("scripts:{}", scripts.word())));
        let in_shadow = self.shadow;
        self.shadow &= !guards.scripts_of_floor;
        for (id, row) in catalog::iter() {
            if let (Some(how), Some(rule)) = (&guards.scripts, scripts)
                && how.by_name(row) == ByName::Denied
            {
                self.deny(id, rule);
            }
            if let Some(at) = self.rows.get_mut(id.index()) {
                at.asks_arguments = guards.ask(row);
            }
        }
        guards::Rules { guards, get, set, kill, scripts, in_shadow }
    }

    /// Takes the limits in time, each with the rule that what it refuses is recorded by.
    fn rates(&mut self, limits: &[Limit], errors: &mut Vec<RuleError>) -> Option<Box<Rates>> {
        let mut named = Vec::new();
        for limit in limits {
            let name = limit.rule();
            named.push((limit.clone(), self.named(name.clone(), Place::Rules(0), &name, errors)?));
        }
        Rates::new(named)
            .map_err(|(at, fault)| {
                let entry = limits.get(at).map_or_else(String::new, Limit::rule);
                errors.push(RuleError { place: Place::Rules(0), entry, fault });
            })
            .ok()
            .flatten()
            .map(Box::new)
    }

    /// Compiles ACL rules, and denies by them what no word could make allowed.
    fn rules(&mut self, text: &str, trusted: bool, errors: &mut Vec<RuleError>) -> Option<Rules> {
        let (acl, remarks, taken) = match acl::parse::compile(text) {
            Ok(acl::parse::Compiled { acl, remarks, taken }) => (acl.trusting(trusted), remarks, taken),
            Err(faults) => {
                errors.extend(faults.into_iter().map(|error| RuleError {
                    place: Place::Rules(error.offset),
                    entry: error.term,
                    fault: RuleFault::Term(error.fault),
                }));
                return None;
            }
        };
        let mut name = |what: &str| self.named(format!("rules:{what}"), Place::Rules(0), text, errors);
        let (command, key) = (name("command")?, name("key")?);
        let (channel, database) = (name("channel")?, name("database")?);
        for ((id, _), taken) in catalog::iter().zip(taken) {
            match acl.may(id) {
                Ok(()) => {
                    if let Some(row) = self.rows.get_mut(id.index()) {
                        row.asks_words |= acl.asks_words(id);
                    }
                }
                Err(subject @ Subject::Database) => self.deny_for(id, Denial { rule: database, subject }),
                Err(_) => {
                    // The term that took it away speaks, if one did.
                    let rule = taken.and_then(|term| self.rule(format!("rules:{term}")).ok()).unwrap_or(command);
                    self.deny(id, rule);
                }
            }
        }
        Some(Rules {
            minds_databases: acl.minds_databases() && !self.shadow,
            remarks: remarks.into_boxed_slice(),
            acl,
            command,
            key,
            channel,
            database,
            in_shadow: self.shadow,
        })
    }
}

/// The rows of the catalog that an entry of a denylist speaks of.
///
/// # Errors
/// The entry names nothing that is known.
pub fn rows(entry: &str) -> Result<Vec<CommandId>, RuleFault> {
    Ok(Target::parse(entry)?.rows())
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
