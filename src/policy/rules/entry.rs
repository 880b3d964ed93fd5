//! What one entry of a denylist speaks of.

use super::{RuleFault, nearest};
use crate::{
    command::{Categories, CommandId, catalog},
    policy::presets::{self, Preset},
};
use std::borrow::Cow;

/// What an entry speaks of.
pub(super) enum Target {
    Command(CommandId),
    Category(Categories),
    All,
    Preset(&'static Preset),
}

impl Target {
    pub(super) fn parse(entry: &str) -> Result<Self, RuleFault> {
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

    /// The rows it speaks of.
    pub(super) fn rows(&self) -> Vec<CommandId> {
        let ids = |wanted: &dyn Fn(&crate::command::Entry) -> bool| {
            catalog::iter().filter(|(_, row)| wanted(row)).map(|(id, _)| id).collect()
        };
        match self {
            Self::Command(id) => catalog::family(*id).map(|(id, _)| id).collect(),
            Self::Category(wanted) => ids(&|row| row.categories.any(wanted.0)),
            Self::All => ids(&|_| true),
            Self::Preset(preset) => preset.denied().map(|(id, _)| id).collect(),
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
    pub(super) fn written(&self) -> Cow<'static, str> {
        match self {
            Target::Command(id) => Cow::Owned(id.entry().full_name.to_ascii_uppercase()),
            Target::Category(category) => Cow::Owned(format!("@{}", category.names().collect::<Vec<_>>().join("|"))),
            Target::All => Cow::Borrowed("@all"),
            Target::Preset(preset) => Cow::Borrowed(preset.name),
        }
    }
}
