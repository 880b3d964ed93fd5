//! The file as a tree of values, each of which knows where it was written. Flags and environment variables are
//! grafted onto it before anybody asks what it means.

use super::error::{At, Origin, Report};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A value and where it was written.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// A value, in the few kinds that a configuration knows.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    Number(i64),
    Flag(bool),
    List(Vec<Node>),
    Table(Vec<Entry>),
    /// A kind of value that no key takes, by its name.
    Other(&'static str),
}

/// One `key = value` of a table.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Where the key stands, for "unknown key".
    pub(super) origin: Origin,
    pub(super) node: Node,
}

impl Value {
    /// The kind, in words that follow "found".
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Number(_) => "a number",
            Self::Flag(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

/// Parses the text of `report`. After a syntax error what follows may be anything, so then there is no tree.
pub(super) fn parse(report: &mut Report) -> Option<Node> {
    let text = report.text().to_owned();
    let (table, faults) = DeTable::parse_recoverable(&text);
    for fault in &faults {
        let at = At { origin: Origin::File(fault.span().unwrap_or(0..0)), key: String::new() };
        report.error(&at, format!("this is not TOML: {}", fault.message()));
    }
    let span = table.span();
    faults.is_empty().then(|| Node { value: table_value(table.into_inner()), origin: Origin::File(span) })
}

fn table_value(table: DeTable<'_>) -> Value {
    let mut entries = Vec::with_capacity(table.len());
    for (key, node) in table {
        let origin = Origin::File(key.span());
        entries.push(Entry { key: key.into_inner().into_owned(), origin, node: node_of(node) });
    }
    // The map is sorted by name; errors read better in the order of the file.
    entries.sort_by_key(|entry| entry.origin.offset());
    Value::Table(entries)
}

fn node_of(value: Spanned<DeValue<'_>>) -> Node {
    let origin = Origin::File(value.span());
    Node { value: value_of(value.into_inner()), origin }
}

fn value_of(value: DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Other("a number too large to be read"), Value::Number),
        DeValue::Float(_) => Value::Other("a number with a fraction"),
        DeValue::Boolean(flag) => Value::Flag(flag),
        DeValue::Datetime(_) => Value::Other("a date or time"),
        DeValue::Array(items) => Value::List(items.into_iter().map(node_of).collect()),
        DeValue::Table(table) => table_value(table),
    }
}

/// Reads the value of a flag or an environment variable: TOML if it is a number, a truth value, a quoted string, a
/// list or an inline table, else the text itself, so that `5s`, `10.0.0.0/8` and `1.2` need no quotes.
pub(super) fn value_of_override(text: &str, origin: &Origin) -> Node {
    let value = match DeValue::parse(text).map(|value| value_of(value.into_inner())) {
        Ok(Value::Other(_)) | Err(_) => Value::Text(text.to_owned()),
        Ok(value) => value,
    };
    let mut node = Node { value, origin: origin.clone() };
    // Spans inside point into the flag, not into the file.
    node.rebase(origin);
    node
}

impl Node {
    fn rebase(&mut self, origin: &Origin) {
        self.origin = origin.clone();
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.rebase(origin)),
            Value::Table(entries) => {
                for entry in entries {
                    entry.origin = origin.clone();
                    entry.node.rebase(origin);
                }
            }
            Value::Text(_) | Value::Number(_) | Value::Flag(_) | Value::Other(_) => {}
        }
    }

    /// Puts `leaf` at `path` (`limits.max_bulk`, `service.0.upstream.address`, `role.billing.deny`), making the tables
    /// on the way. An element of a list is named by its position or by its `name`; the position after the last one
    /// appends.
    pub(super) fn graft(&mut self, path: &str, leaf: Node) -> Result<(), String> {
        let origin = leaf.origin.clone();
        let mut here = self;
        let mut segments = path.split('.').peekable();
        let mut walked = String::new();
        while let Some(segment) = segments.next() {
            if segment.is_empty() {
                return Err(format!("{path:?} has an empty part"));
            }
            let mut empty = || match segments.peek() {
                Some(next) if next.bytes().all(|byte| byte.is_ascii_digit()) => Value::List(Vec::new()),
                _ => Value::Table(Vec::new()),
            };
            here = match &mut here.value {
                Value::Table(entries) => {
                    let position = entries.iter().position(|entry| entry.key == segment).unwrap_or_else(|| {
                        let node = Node { value: empty(), origin: origin.clone() };
                        entries.push(Entry { key: segment.to_owned(), origin: origin.clone(), node });
                        entries.len().saturating_sub(1)
                    });
                    entries.get_mut(position).map(|entry| &mut entry.node)
                }
                Value::List(items) => {
                    let position =
                        segment.parse().ok().or_else(|| items.iter().position(|item| item.is_named(segment)));
                    if position == Some(items.len()) {
                        items.push(Node { value: empty(), origin: origin.clone() });
                    }
                    let count = items.len();
                    let found = position.and_then(|position| items.get_mut(position));
                    if found.is_none() {
                        return Err(format!("{walked} has {count} elements and none called {segment}"));
                    }
                    found
                }
                other => return Err(format!("{walked} is {}, so it has no {segment}", other.kind())),
            }
            .ok_or_else(|| format!("{walked} has no {segment}"))?;
            if !walked.is_empty() {
                walked.push('.');
            }
            walked.push_str(segment);
        }
        *here = leaf;
        Ok(())
    }

    fn is_named(&self, name: &str) -> bool {
        matches!(&self.value, Value::Table(entries)
            if entries.iter().any(|entry| entry.key == "name"
                && matches!(&entry.node.value, Value::Text(text) if text.eq_ignore_ascii_case(name))))
    }
}
