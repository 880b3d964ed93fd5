//! What a role's `config`, `client_kill` and `scripts` mean.

use super::{Paths, choice, places};
use crate::{
    config::{
        decode::{Item, TextOr},
        error::Report,
        password,
        raw::{RawParameters, RawRole, RawScripts},
        settings::RulePlace,
    },
    policy::{
        arguments::Parameters,
        guards::Guards,
        rename::Renames,
        scripts::{Pins, Scripts},
    },
};
use std::{fs::File, io::Read as _, path::PathBuf};

/// Longest pin file: some ten thousand scripts.
const PIN_FILE_MAX: u64 = 1024 * 1024;

/// What `scripts` says, and the file it was read from.
#[derive(Clone, Debug)]
pub(super) struct ScriptRule {
    pub(super) scripts: Scripts,
    pub(super) file: Option<PathBuf>,
    /// Where the rule that it makes was written.
    pub(super) place: RulePlace,
}

/// The guards of a role; `scripts` is what it says of scripts, if anything.
pub(super) fn guards(raw: &RawRole, scripts: Option<Scripts>, paths: &Paths, report: &mut Report) -> Guards {
    Guards {
        renames: renames(raw, paths, report),
        parameters: raw.config.as_ref().map_or_else(Parameters::unlisted, |item| parameters(&item.value, report)),
        scripts,
        scripts_of_floor: false,
        own_kill: choice(raw.client_kill.as_ref(), &[("any", false), ("own", true)], false, report),
    }
}

/// Errors tell of commands by their usual names only, and of the table as a whole.
fn renames(raw: &RawRole, paths: &Paths, report: &mut Report) -> Renames {
    let mut found = Renames::default();
    if let Some(item) = &raw.rename {
        for (usual, word) in &item.value.0 {
            if let Err(fault) = found.add(usual, word.clone()) {
                report.error(&item.at, format!("{usual:?}: {fault}"));
            }
        }
    }
    if let Some(item) = &raw.rename_file {
        let path = paths.resolve(item, report);
        match password::read(&path) {
            Ok(text) => {
                for (line, fault) in found.read(text.expose()).err().into_iter().flatten() {
                    report.error(&item.at, format!("{}: line {line}: {fault}", path.display()));
                }
            }
            Err(error) => {
                report.error(&item.at, format!("{}: {error}", path.display()));
            }
        }
    }
    found
}

fn parameters(raw: &RawParameters, report: &mut Report) -> Parameters {
    let mut found = Parameters::unlisted();
    for (list, is_get) in [(&raw.get, true), (&raw.set, false)] {
        let Some(list) = list else { continue };
        let entries: Vec<&str> = list.value.iter().map(|item| &*item.value).collect();
        let taken = if is_get { found.clone().with_get(&entries) } else { found.clone().with_set(&entries) };
        match taken {
            Ok(taken) => found = taken,
            Err(faults) => {
                for (position, fault) in faults {
                    if let Some(item) = list.value.get(position) {
                        report.error(&item.at, format!("{:?}: {fault}", item.value));
                    }
                }
            }
        }
    }
    found
}

/// What becomes of scripts, if it is said.
pub(super) fn scripts(
    item: Option<&Item<TextOr<RawScripts>>>,
    paths: &Paths,
    report: &mut Report,
) -> Option<ScriptRule> {
    let item = item?;
    let rule = |scripts: Scripts, file, report: &Report| {
        let place = places::at(&format!("scripts:{}", scripts.word()), &item.at, report);
        Some(ScriptRule { scripts, file, place })
    };
    match &item.value {
        TextOr::Text(word) => {
            let word = Item { at: item.at.clone(), value: word.clone() };
            let words = [("deny", 0), ("read-only", 1), ("allow", 2)];
            match choice(Some(&word), &words, 0, report) {
                1 => rule(Scripts::ReadOnly, None, report),
                2 => rule(Scripts::Allow, None, report),
                _ => rule(Scripts::Deny, None, report),
            }
        }
        TextOr::Table(raw) => {
            let Some(file) = &raw.pinned else {
                report.missing(
                    &item.at,
                    "pinned",
                    "write { pinned = \"scripts.sha1\" }, or one of \"deny\", \"read-only\", \"allow\"",
                );
                return None;
            };
            let path = paths.resolve(file, report);
            let text = match read(&path) {
                Ok(text) => text,
                Err(error) => {
                    report.error(&file.at, format!("{}: {error}", path.display()));
                    return None;
                }
            };
            match Pins::parse(&text) {
                Ok(pins) => {
                    if pins.counts() == (0, 0) {
                        report.warn(format!("{}: {} pins nothing, so no script may run", file.at.key, path.display()));
                    }
                    rule(Scripts::Pinned(pins), Some(path), report)
                }
                Err(faults) => {
                    for fault in faults {
                        report.error(&file.at, format!("{}: {fault}", path.display()));
                    }
                    None
                }
            }
        }
    }
}

fn read(path: &std::path::Path) -> Result<String, String> {
    // Asked before opening: opening a named pipe would wait for a writer.
    if !std::fs::metadata(path).map_err(|error| format!("it cannot be read: {error}"))?.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let mut text = String::new();
    let file = File::open(path).map_err(|error| format!("it cannot be read: {error}"))?;
    file.take(PIN_FILE_MAX + 1).read_to_string(&mut text).map_err(|error| format!("it cannot be read: {error}"))?;
    if text.len() as u64 > PIN_FILE_MAX { Err(format!("it is longer than {PIN_FILE_MAX} bytes")) } else { Ok(text) }
}
