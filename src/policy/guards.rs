//! What looks at arguments: the rules of [`super::arguments`] and [`super::scripts`] as one part of a policy.

use super::{
    Denial, RuleId, Verdict,
    arguments::{Parameters, kills_only},
    rename::Renames,
    rules::Question,
    scripts::{ByName, Scripts, governs},
};
use crate::command::Entry;

/// What a role's keys say of arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guards {
    /// Parameters of CONFIG GET and CONFIG SET.
    pub parameters: Parameters,
    /// Scripts; `None` leaves them to the denylist.
    pub scripts: Option<Scripts>,
    /// Whether [`Self::scripts`] is the floor's, in force even where the rest is in shadow mode.
    pub scripts_of_floor: bool,
    /// Whether CLIENT KILL may end nobody's connection but the client's own.
    pub own_kill: bool,
    /// Commands that the server knows under secret names.
    pub renames: Renames,
}

/// The guards, and the rules that records name for what they deny. A rule that cannot deny has no number.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) guards: Guards,
    pub(super) get: Option<RuleId>,
    pub(super) set: Option<RuleId>,
    pub(super) kill: Option<RuleId>,
    pub(super) scripts: Option<RuleId>,
    pub(super) in_shadow: bool,
}

impl Guards {
    /// Whether words of this command are looked at.
    pub(super) fn ask(&self, entry: &Entry) -> bool {
        match entry.full_name {
            // Credentials are kept whatever the lists say.
            "config|get" => true,
            "config|set" => self.parameters.changeable().is_some(),
            "client|kill" => self.own_kill,
            _ => self.scripts.as_ref().is_some_and(|scripts| scripts.by_name(entry) == ByName::Asks),
        }
    }

    /// What they say, one sentence each, for `check`.
    #[must_use]
    pub fn describe(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let list = |names: Vec<&'static str>| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        if let Some(names) = self.parameters.readable() {
            lines.push(format!("CONFIG GET shows {}", list(names)));
        }
        if let Some(names) = self.parameters.changeable() {
            lines.push(format!("CONFIG SET changes {}", list(names)));
        }
        if self.own_kill {
            lines.push("CLIENT KILL ends the client's own connection only".to_owned());
        }
        match &self.scripts {
            Some(Scripts::Pinned(pins)) => {
                let (scripts, functions) = pins.counts();
                lines.push(format!("scripts: {scripts} pinned by SHA-1, {functions} functions by name"));
            }
            Some(other) => lines.push(format!("scripts: {}", other.word())),
            None => {}
        }
        if !self.renames.is_empty() {
            let names: Vec<&str> = self.renames.usual_names().collect();
            lines.push(format!("known to the server by secret names: {}", names.join(", ")));
        }
        lines
    }

    /// Whether a preset's scripting group is to leave this command to [`Guards::scripts`].
    pub(super) fn speak_of(&self, entry: &Entry) -> bool {
        self.scripts.is_some() && governs(entry)
    }
}

/// Whether an integer in answer to this command is the number of the connection to Redis (CLIENT ID).
#[must_use]
pub fn tells_own_id(entry: &Entry) -> bool {
    entry.full_name == "client|id"
}

impl Rules {
    /// The verdict on a command that [`Guards::ask`] is true of.
    pub(super) fn judge(&self, question: &Question<'_>) -> Verdict {
        let Question { id, words, own_id, .. } = *question;
        let entry = id.entry();
        let guards = &self.guards;
        let mut in_shadow = self.in_shadow;
        let (allowed, rule) = match entry.full_name {
            "config|get" => {
                if Parameters::unlisted().may_get(words).is_err() {
                    return Verdict::Deny(Denial::command(RuleId::CREDENTIAL));
                }
                (guards.parameters.may_get(words).is_ok(), self.get)
            }
            "config|set" => (guards.parameters.may_set(words).is_ok(), self.set),
            "client|kill" => (!guards.own_kill || kills_only(words, own_id), self.kill),
            _ => {
                in_shadow &= !guards.scripts_of_floor;
                (guards.scripts.as_ref().is_none_or(|scripts| scripts.may(entry, words)), self.scripts)
            }
        };
        match (allowed, rule) {
            (true, _) => Verdict::Allow,
            (false, Some(rule)) if in_shadow => Verdict::Shadow(rule),
            (false, rule) => Verdict::Deny(Denial::command(rule.unwrap_or(RuleId::NOT_CANONICAL))),
        }
    }
}
