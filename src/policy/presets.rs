//! Lists of commands with a name.
//!
//! A preset is divided into groups, so that a record's rule (`preset:hardened/code-loading`) says why a command was
//! denied. Some deny what they name and leave the rest open; others name what they leave open and deny the rest under the
//! rule `preset:NAME/not-listed`. Either way a preset denies: it opens nothing that another entry denies, so several of
//! them together leave open what each of them does. Commands that are in no catalog are denied besides.
//!
//! Every preset, group by group and command by command, is in `deploy/docs/presets.md`, which `tests/presets.rs` holds
//! against this.

mod allowing;
mod denying;
mod hardened;

use crate::command::{CommandId, Entry, catalog};

/// A list of commands with a name: `preset:NAME` in the configuration.
#[derive(Debug)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// What it is for, in one line.
    pub about: &'static str,
    /// What it denies, by reason. Where two groups name the same command, the earlier one speaks.
    pub deny: &'static [Group],
    /// What it leaves open of the rest, by reason; everything else is denied too. `None`: the rest is open.
    pub allow: Option<&'static [Group]>,
}

/// Part of a preset: commands listed for one reason.
#[derive(Debug)]
pub struct Group {
    /// Its name; of a group that is denied, the last part of the rule's.
    pub name: &'static str,
    /// Why these are listed, in one line.
    pub why: &'static str,
    /// Commands (with all their subcommands), `command|subcommand`s or `@categories`.
    pub commands: &'static [&'static str],
}

/// What a preset says of one command, and the group that says it.
#[derive(Clone, Copy, Debug)]
pub enum Said {
    /// Denied by this group.
    Denied(&'static Group),
    /// Denied, because nothing of an allow-list names it.
    NotListed,
    /// Left open by this group of an allow-list.
    Allowed(&'static Group),
    /// Left open, because a deny list does not name it.
    Open,
}

/// The last part of the rule that denies what an allow-list does not name.
pub const NOT_LISTED: &str = "not-listed";

/// The group that leaves its commands to a role's `scripts`, where that says something.
pub const SCRIPTING: &str = "scripting";

/// Every preset, the default first.
pub const PRESETS: &[Preset] = &[
    hardened::HARDENED,
    allowing::APP,
    allowing::READONLY,
    allowing::EXPORTER,
    allowing::SENTINEL,
    allowing::REPLICA,
    denying::ADMIN,
    allowing::LOCKDOWN,
    denying::MANAGED_PARITY,
];

/// The preset called `name`, in any case.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name.eq_ignore_ascii_case(name))
}

/// Why a rule that is a preset's (`preset:hardened/scripting`) denies what it denies.
#[must_use]
pub fn reason(rule: &str) -> Option<&'static str> {
    let (preset, group) = rule.strip_prefix("preset:")?.split_once('/')?;
    if group == NOT_LISTED {
        return Some("not among the commands the preset leaves open");
    }
    by_name(preset)?.deny.iter().find(|each| each.name == group).map(|group| group.why)
}

impl Group {
    /// Whether the group names this row.
    #[must_use]
    pub fn names(&self, row: &Entry) -> bool {
        self.commands.iter().any(|entry| match entry.strip_prefix('@') {
            Some(category) => row.categories.names().any(|name| name == category),
            None => row.name.eq_ignore_ascii_case(entry) || row.full_name.eq_ignore_ascii_case(entry),
        })
    }
}

impl Preset {
    /// What it says of a command.
    #[must_use]
    pub fn says(&self, row: &Entry) -> Said {
        if let Some(group) = self.deny.iter().find(|group| group.names(row)) {
            return Said::Denied(group);
        }
        match self.allow {
            None => Said::Open,
            Some(groups) => match groups.iter().find(|group| group.names(row)) {
                Some(group) => Said::Allowed(group),
                None => Said::NotListed,
            },
        }
    }

    /// What it denies: each command with the last part of its rule's name.
    pub fn denied(&self) -> impl Iterator<Item = (CommandId, &'static str)> {
        catalog::iter().filter_map(|(id, row)| match self.says(row) {
            Said::Denied(group) => Some((id, group.name)),
            Said::NotListed => Some((id, NOT_LISTED)),
            Said::Allowed(_) | Said::Open => None,
        })
    }
}

#[cfg(test)]
#[path = "presets_tests.rs"]
mod tests;
