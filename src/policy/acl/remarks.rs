//! What rules say that has no effect, or none that can be meant: warnings for whoever writes them.

use super::selector::{Pattern, Scope, Selector};
use crate::command::{
    CommandId, Entry,
    access::{self, Access, Channels, has_keys},
    catalog,
};
use std::fmt::Write as _;

/// Follows which term has last changed each row of one selector.
pub(super) struct Tracked {
    pub(super) selector: Selector,
    /// The place of the term, from 1, that last changed the row.
    by: Vec<Option<usize>>,
    /// Terms about commands that changed something, by place and text.
    terms: Vec<(usize, String)>,
    remarks: Vec<String>,
}

impl Tracked {
    pub(super) fn new() -> Self {
        Self { selector: Selector::nothing(), by: vec![None; catalog::len()], terms: Vec::new(), remarks: Vec::new() }
    }

    /// Applies a term by `apply`, and notes what it changed.
    pub(super) fn apply<E>(
        &mut self,
        place: usize,
        text: &str,
        apply: impl FnOnce(&mut Selector) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = self.selector.commands.clone();
        apply(&mut self.selector)?;
        let mut changed = false;
        for ((was, is), by) in before.iter().zip(&self.selector.commands).zip(&mut self.by) {
            if was != is {
                *by = Some(place);
                changed = true;
            }
        }
        if changed {
            self.terms.push((place, text.to_owned()));
        } else if text.starts_with('-') && !text.eq_ignore_ascii_case("-@all") {
            self.remarks.push(format!(
                "{} takes nothing away: nothing that it names is allowed where it stands (rules are read in order, and \
                 the later one wins)",
                shown(place, text)
            ));
        }
        Ok(())
    }

    /// The term that took a row away, if one did.
    pub(super) fn taken_by(&self, id: CommandId) -> Option<&str> {
        let place = self.by.get(id.index()).copied().flatten()?;
        self.terms.iter().find(|(known, _)| *known == place).map(|(_, text)| text.as_str())
    }

    /// The selector and all that is to be said of it.
    pub(super) fn finish(mut self) -> (Selector, Vec<String>) {
        for (place, text) in &self.terms {
            if self.by.contains(&Some(*place))
                || text.eq_ignore_ascii_case("-@all")
                || text.eq_ignore_ascii_case("nocommands")
            {
                continue;
            }
            let void = format!("{} has no effect: a later rule is about all that it names", shown(*place, text));
            self.remarks.push(void);
        }
        self.remarks.extend(of_patterns(&self.selector));
        (self.selector, self.remarks)
    }
}

fn shown(place: usize, text: &str) -> String {
    format!("word {place} of the rules ({text})")
}

/// Patterns that nothing is matched with, and commands that no pattern lets run.
fn of_patterns(selector: &Selector) -> Vec<String> {
    let mut remarks = Vec::new();
    let open = |wanted: &dyn Fn(&Entry) -> bool| {
        catalog::iter()
            .filter(|(id, row)| selector.may(*id) && wanted(row))
            .map(|(_, row)| row.full_name)
            .collect::<Vec<_>>()
    };
    let with_keys = open(&has_keys);
    let with_channels = open(&|row| access::channels(row) != Channels::None);
    if let Scope::Listed(patterns) = &selector.keys {
        if patterns.is_empty() && !with_keys.is_empty() {
            remarks.push(format!(
                "{} can never run, because no key is allowed: add a ~pattern (or allkeys)",
                some(&with_keys)
            ));
        }
        for known in patterns {
            let text = written(&known.pattern);
            if with_keys.is_empty() {
                remarks
                    .push(format!("the key pattern {text:?} can never match: no command that takes keys is allowed"));
            } else if !with_keys.iter().any(|name| uses(name, known.access)) {
                remarks.push(format!(
                    "the key pattern {text:?} can never match: no allowed command uses keys in this way"
                ));
            }
            remarks.extend(wide_range(&known.pattern));
        }
    }
    if let Scope::Listed(patterns) = &selector.channels {
        if patterns.is_empty() && !with_channels.is_empty() {
            remarks.push(format!(
                "{} can never run, because no channel is allowed: add an &pattern (or allchannels)",
                some(&with_channels)
            ));
        }
        for pattern in patterns {
            if with_channels.is_empty() {
                let text = written(pattern);
                remarks.push(format!(
                    "the channel pattern {text:?} can never match: no command that takes channels is allowed"
                ));
            }
            remarks.extend(wide_range(pattern));
        }
    }
    if let Scope::Listed(databases) = &selector.databases
        && databases.is_empty()
    {
        remarks.push("no database is allowed: add db=0 (or alldbs)".to_owned());
    }
    remarks
}

/// Whether a command has a key that needs no more than `access`. What varies with options is taken to.
fn uses(name: &str, access: Access) -> bool {
    let Some(entry) = catalog::by_full_name(name).map(CommandId::entry) else { return false };
    access::varies(entry) || entry.keys.iter().any(|spec| access.covers(Access::of(spec.flags)))
}

/// A class of bytes that was meant as one of characters.
fn wide_range(pattern: &Pattern) -> Option<String> {
    let class = pattern.text.iter().position(|byte| *byte == b'[')?;
    let wide = pattern.text.get(class..)?.iter().any(|byte| !byte.is_ascii());
    wide.then(|| {
        let text = written(pattern);
        format!("the pattern {text:?} has a class with letters beyond ASCII, which stand for their single bytes there, as in Redis")
    })
}

fn written(pattern: &Pattern) -> String {
    String::from_utf8_lossy(&pattern.text).into_owned()
}

/// The first few names, and how many more.
fn some(names: &[&str]) -> String {
    const SHOWN: usize = 5;
    let mut text = names.iter().take(SHOWN).map(|name| name.to_ascii_uppercase()).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        // Writing to a string cannot fail.
        let _ = write!(text, " and {} more", names.len() - SHOWN);
    }
    text
}
