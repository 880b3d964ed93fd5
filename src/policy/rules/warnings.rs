//! What an operator should know of a policy before relying on it.

use super::Policy;
use crate::{
    command::{CommandId, Effect, catalog},
    policy::{Subject, Verdict, scripts::Scripts},
};

impl Policy {
    /// Whether the command is denied because somebody named it, not because no rule allows it.
    fn is_closed_by_name(&self, id: CommandId) -> bool {
        let not_granted = self.rules.as_ref().map(|rules| rules.command);
        matches!(self.judge(id), Verdict::Deny(denial) if Some(denial.rule) != not_granted)
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
        let mut warnings = self.rules.as_ref().map_or_else(Vec::new, |rules| rules.remarks.to_vec());
        warnings.extend(self.guards.guards.parameters.warnings());
        let telling = names(&|id, row| open(id) && row.effect == Effect::Replication);
        if !self.renames().is_empty() && !telling.is_empty() {
            warnings.push(format!(
                "commands are renamed, and what a replica is sent by {} shows what to: deny them to who is not to learn it",
                telling.join(", ")
            ));
        }
        if self.denied().all(|(rule, _)| rule.starts_with("builtin/")) {
            warnings.push("no command is denied: every client may do whatever the upstream user may".to_owned());
            return warnings;
        }
        let tried = self.shadowed().map(|(_, commands)| commands.len()).sum::<usize>();
        if tried > 0 {
            warnings.push(format!("{tried} commands are let through that only rules in shadow mode would deny"));
        }
        let pinned = matches!(self.guards.guards.scripts, Some(Scripts::Pinned(_)))
            && (!self.guards.in_shadow || self.guards.guards.scripts_of_floor);
        let scripts = names(&|id, row| open(id) && row.effect == Effect::Script && !pinned);
        if !scripts.is_empty() {
            warnings.push(format!(
                "scripts can run any command, so the denylist can be walked around by {}: deny them too, or rely on the \
                 upstream user's own rights",
                scripts.join(", ")
            ));
        }
        if !scripts.is_empty() && (self.databases.is_some() || self.minds_databases()) {
            warnings.push(format!(
                "a script can SELECT any database, so the limits on databases can be walked around by {}",
                scripts.join(", ")
            ));
        }
        let no_database = |id| matches!(self.judge(id), Verdict::Deny(denial) if denial.subject == Subject::Database);
        if matches!(self.guards.guards.scripts, Some(Scripts::ReadOnly))
            && catalog::iter().any(|(id, row)| row.effect == Effect::Script && no_database(id))
        {
            warnings.push(
                "scripts = \"read-only\" runs none where databases are limited, for a script can SELECT any and read it: pin \
                 those that may run, or say \"allow\""
                    .to_owned(),
            );
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
                if self.is_closed_by_name(closed) && open(left_open) {
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
pub(super) const TAKEOVER: &[&str] = &[
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
pub(super) const TWINS: &[(&str, &str)] = &[
    ("slaveof", "replicaof"),
    ("substr", "getrange"),
    ("restore-asking", "restore"),
    ("cluster|slaves", "cluster|replicas"),
    ("sync", "psync"),
    ("hmset", "hset"),
    ("slowlog|get", "commandlog|get"),
];
