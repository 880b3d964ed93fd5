//! The keys of a configuration as they were given, so that it can be told what another one changes. No secret is kept.

use super::{
    decode::join,
    tree::{Node, Value},
};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Keys below these may hold secrets: other names of commands, what opens a vault.
const HIDDEN: [&str; 3] = ["rename", "command", "run"];
/// Longest value that is shown, in characters.
const SHOWN_MAX: usize = 160;

/// What was given, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given(BTreeMap<String, Kept>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kept {
    /// As it was written.
    Value(String),
    /// Several values.
    List(Vec<String>),
    /// A digest of what nobody is to see.
    Hidden([u8; 32]),
}

impl Given {
    pub(super) fn of(tree: &Node) -> Self {
        let mut given = Self::default();
        given.add("", tree);
        given
    }

    fn add(&mut self, key: &str, node: &Node) {
        let last = key.rsplit('.').next().unwrap_or_default();
        if HIDDEN.contains(&last) {
            let mut digest = Sha256::new();
            feed(node, &mut digest);
            self.0.insert(key.to_owned(), Kept::Hidden(digest.finalize().into()));
            return;
        }
        match &node.value {
            Value::Table(entries) => entries.iter().for_each(|entry| self.add(&join(key, &entry.key), &entry.node)),
            Value::List(items) if items.iter().any(|item| matches!(item.value, Value::Table(_))) => {
                for (position, item) in items.iter().enumerate() {
                    let name = name_of(item).map_or_else(|| position.to_string(), str::to_owned);
                    self.add(&join(key, &name), item);
                }
            }
            Value::List(items) => {
                self.0.insert(key.to_owned(), Kept::List(items.iter().map(|item| text(&item.value)).collect()));
            }
            value => {
                self.0.insert(key.to_owned(), Kept::Value(text(value)));
            }
        }
    }

    /// What `next` changes, a line for each key, for people.
    #[must_use]
    pub fn changes(&self, next: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        let whole = |of: &Self, key: &str| owner(key).is_none_or(|owner| of.0.keys().any(|key| is_below(key, owner)));
        for (key, before) in &self.0 {
            match next.0.get(key) {
                Some(after) if after == before => {}
                Some(after) => lines.push(format!("{key}: {}", difference(before, after))),
                None if whole(next, key) => lines.push(format!("{key}: {} → not given", show(before))),
                None => add_once(&mut lines, key, "removed"),
            }
        }
        for (key, after) in &next.0 {
            if self.0.contains_key(key) {
                continue;
            }
            if whole(self, key) {
                lines.push(format!("{key}: not given → {}", show(after)));
            } else {
                add_once(&mut lines, key, "new");
            }
        }
        lines
    }
}

/// The role or service that a key belongs to: `role.app`.
fn owner(key: &str) -> Option<&str> {
    let rest = key.strip_prefix("role.").or_else(|| key.strip_prefix("service."))?;
    let name = rest.split('.').next()?;
    let length = key.len().saturating_sub(rest.len()).saturating_add(name.len());
    key.get(..length)
}

fn is_below(key: &str, owner: &str) -> bool {
    key.strip_prefix(owner).is_some_and(|rest| rest.starts_with('.'))
}

fn add_once(lines: &mut Vec<String>, key: &str, word: &str) {
    let line = format!("{}: {word}", owner(key).unwrap_or(key));
    if lines.last() != Some(&line) {
        lines.push(line);
    }
}

fn name_of(item: &Node) -> Option<&str> {
    let Value::Table(entries) = &item.value else { return None };
    entries.iter().find(|entry| entry.key == "name").and_then(|entry| match &entry.node.value {
        Value::Text(text) => Some(text.as_str()),
        _ => None,
    })
}

fn text(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("{text:?}"),
        Value::Number(number) => number.to_string(),
        Value::Flag(flag) => flag.to_string(),
        Value::List(items) => {
            format!("[{}]", items.iter().map(|item| text(&item.value)).collect::<Vec<_>>().join(", "))
        }
        Value::Table(_) | Value::Other(_) => value.kind().to_owned(),
    }
}

fn feed(node: &Node, digest: &mut Sha256) {
    match &node.value {
        Value::Table(entries) => {
            digest.update(b"{");
            for entry in entries {
                digest.update(format!("{:?}=", entry.key));
                feed(&entry.node, digest);
            }
        }
        Value::List(items) => {
            digest.update(b"[");
            items.iter().for_each(|item| feed(item, digest));
        }
        value => digest.update(text(value)),
    }
    digest.update(b";");
}

fn show(kept: &Kept) -> String {
    match kept {
        Kept::Value(value) => cut(value),
        Kept::List(values) => cut(&format!("[{}]", values.join(", "))),
        Kept::Hidden(_) => "a value that is not shown".to_owned(),
    }
}

fn difference(before: &Kept, after: &Kept) -> String {
    match (before, after) {
        (Kept::Hidden(_), _) | (_, Kept::Hidden(_)) => "changed".to_owned(),
        (Kept::List(before), Kept::List(after)) => {
            let gone = before.iter().filter(|value| !after.contains(value)).map(|value| format!("-{value}"));
            let come = after.iter().filter(|value| !before.contains(value)).map(|value| format!("+{value}"));
            let words: Vec<String> = come.chain(gone).collect();
            if words.is_empty() { "in another order".to_owned() } else { cut(&words.join(" ")) }
        }
        _ => format!("{} → {}", show(before), show(after)),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::error::Report, Given};
    use crate::config::tree;
    use std::path::Path;

    fn given(text: &str) -> Given {
        Given::of(&tree::parse(&mut Report::new(Path::new("x.toml"), text.to_owned())).unwrap())
    }

    #[test]
    fn what_changes_is_told_by_key_and_name() {
        let before = given(
            "[limits]\nbacklog = 5\n[[role]]\nname = \"a\"\ndeny = [\"GET\", \"SET\"]\n[[role]]\nname = \"b\"\nmatch = []",
        );
        let after = given(
            "[log]\nlevel = \"debug\"\n[limits]\nbacklog = 6\n[[role]]\nname = \"c\"\nmatch = []\n[[role]]\nname = \"a\"\ndeny = [\"SET\", \"DEL\"]",
        );
        assert_eq!(
            before.changes(&after),
            [
                "limits.backlog: 5 → 6",
                "role.a.deny: +\"DEL\" -\"GET\"",
                "role.b: removed",
                "log.level: not given → \"debug\"",
                "role.c: new",
            ]
        );
        assert_eq!(before.changes(&before), Vec::<String>::new());
    }

    #[test]
    fn what_may_be_a_secret_is_only_said_to_have_changed() {
        let with = |secret: &str| {
            given(&format!(
                "[[role]]\nname = \"a\"\nrename = {{ CONFIG = \"{secret}\" }}\nupstream = {{ password_command = {{ run = \
                 [\"/v\", \"{secret}\"] }} }}\n[credentials]\ncommand = [\"/c\", \"{secret}\"]"
            ))
        };
        let (before, after) = (with("hunter2"), with("hunter3"));
        let lines = before.changes(&after);
        assert_eq!(
            lines,
            ["credentials.command: changed", "role.a.rename: changed", "role.a.upstream.password_command.run: changed"]
        );
        assert!(!format!("{before:?}{:?}", given("").changes(&after)).contains("hunter"));
    }
}
