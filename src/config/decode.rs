//! From the tree to the raw tables: every unknown key and every value of a wrong kind is an error, all at once.

use super::{
    error::{At, Report},
    tree::{Node, Value},
};
use crate::secret::Secret;

/// A value and the key it was given for.
#[derive(Debug, Clone)]
pub(super) struct Item<T> {
    pub(super) at: At,
    pub(super) value: T,
}

/// What is documented of one key.
#[derive(Debug)]
pub(super) struct KeyDoc {
    pub(super) name: &'static str,
    /// The doc comment in `raw`.
    pub(super) doc: &'static str,
    /// What it takes, in words that follow "expected".
    pub(super) expects: &'static str,
    /// Whether it stands for several, each at a position.
    pub(super) list: bool,
    /// The keys below it.
    pub(super) keys: &'static [KeyDoc],
}

/// A kind of value that a key may take.
pub(super) trait Decode: Sized {
    /// In words that follow "expected".
    const EXPECTS: &'static str;
    /// Whether it stands for several.
    const LIST: bool = false;
    /// The keys below it.
    const KEYS: &'static [KeyDoc] = &[];

    /// The value, or `None` after an error was reported.
    fn decode(value: Value, at: &At, report: &mut Report) -> Option<Self>;
}

impl<T: Decode> Item<T> {
    pub(super) fn read(node: Node, key: String, report: &mut Report) -> Option<Self> {
        let at = At { origin: node.origin, key };
        T::decode(node.value, &at, report).map(|value| Self { at, value })
    }
}

/// Reports a value of the wrong kind.
pub(super) fn wrong_kind<T: Decode>(value: &Value, at: &At, report: &mut Report) -> Option<T> {
    report.error(at, format!("expected {}, found {}", T::EXPECTS, value.kind()));
    None
}

impl Decode for String {
    const EXPECTS: &'static str = "a string";

    fn decode(value: Value, at: &At, report: &mut Report) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text),
            other => wrong_kind(&other, at, report),
        }
    }
}

impl Decode for i64 {
    const EXPECTS: &'static str = "a number";

    fn decode(value: Value, at: &At, report: &mut Report) -> Option<Self> {
        match value {
            Value::Number(number) => Some(number),
            other => wrong_kind(&other, at, report),
        }
    }
}

impl Decode for bool {
    const EXPECTS: &'static str = "true or false";

    fn decode(value: Value, at: &At, report: &mut Report) -> Option<Self> {
        match value {
            Value::Flag(flag) => Some(flag),
            other => wrong_kind(&other, at, report),
        }
    }
}

/// A number, or a word for one (`64KiB`, `auto`).
#[derive(Debug, Clone)]
pub(super) enum NumberOrText {
    Number(i64),
    Text(String),
}

impl Decode for NumberOrText {
    const EXPECTS: &'static str = "a number or a string";

    fn decode(value: Value, at: &At, report: &mut Report) -> Option<Self> {
        match value {
            Value::Number(number) => Some(Self::Number(number)),
            Value::Text(text) => Some(Self::Text(text)),
            other => wrong_kind(&other, at, report),
        }
    }
}

/// A table of whatever keys, each with a text that is a secret.
#[derive(Debug, Clone)]
pub(super) struct Hidden(pub(super) Vec<(String, Secret)>);

impl Decode for Hidden {
    const EXPECTS: &'static str = "a table of strings";

    fn decode(value: Value, at: &At, report: &mut Report) -> Option<Self> {
        let Value::Table(entries) = value else { return wrong_kind(&value, at, report) };
        let mut found = Vec::new();
        for entry in entries {
            match entry.node.value {
                Value::Text(text) => found.push((entry.key, Secret::new(text.into_bytes()))),
                other => {
                    report.error(at, format!("{:?}: expected a string, found {}", entry.key, other.kind()));
                }
            }
        }
        Some(Self(found))
    }
}

/// A word, or a table where a word does not say it all.
#[derive(Debug, Clone)]
pub(super) enum TextOr<T> {
    Text(String),
    Table(T),
}

impl<T: Decode> Decode for TextOr<T> {
    const EXPECTS: &'static str = "a string or a table";
    const KEYS: &'static [KeyDoc] = T::KEYS;

    fn decode(value: Value, at: &At, report: &mut Report) -> Option<Self> {
        match value {
            Value::Text(text) => Some(Self::Text(text)),
            table @ Value::Table(_) => T::decode(table, at, report).map(Self::Table),
            other => wrong_kind(&other, at, report),
        }
    }
}

impl<T: Decode> Decode for Vec<Item<T>> {
    const EXPECTS: &'static str = "a list";
    const LIST: bool = true;
    const KEYS: &'static [KeyDoc] = T::KEYS;

    fn decode(value: Value, at: &At, report: &mut Report) -> Option<Self> {
        let Value::List(items) = value else {
            report.error(at, format!("expected a list ([…]) each of which is {}, found {}", T::EXPECTS, value.kind()));
            return None;
        };
        let read = |(position, node)| Item::read(node, format!("{}.{position}", at.key), report);
        Some(items.into_iter().enumerate().filter_map(read).collect())
    }
}

/// The key below `parent`.
pub(super) fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

/// Reports a key that the table `at` does not have.
pub(super) fn unknown_key(key: &str, known: &[KeyDoc], planned: &[&str], at: &At, report: &mut Report) {
    if planned.contains(&key) {
        report
            .error(at, "this key is planned and not in this version")
            .hint("remove it: a key that did nothing would promise what the proxy does not do");
        return;
    }
    let error = report.error(at, "unknown key");
    let names = known.iter().map(|known| known.name);
    if ["password", "pass", "requirepass"].contains(&key) {
        error.hint("secrets are read from files: `password_file = \"/path\"`");
    } else if let Some(near) = nearest(key, names.clone()) {
        error.hint(format!("did you mean `{near}`?"));
    } else {
        error.hint(format!("known here: {}", names.collect::<Vec<_>>().join(", ")));
    }
}

/// The one of `names` that `word` was probably meant to be.
pub(super) fn nearest<'n>(word: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    let allowed = word.chars().count().div_ceil(3);
    names
        .map(|name| (distance(&word, &name.to_ascii_lowercase()), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i.saturating_add(1);
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(b.chars()) {
            let replace = diagonal.saturating_add(usize::from(x != y));
            diagonal = *cell;
            *cell = replace.min(left.saturating_add(1)).min(cell.saturating_add(1));
            left = *cell;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// Declares raw tables: a struct of optional [`Item`]s, how it is read, and the documentation of its keys, from one
/// list. The doc comment of a key is its documentation, wherever that is shown. `planned` names the keys of later
/// versions, so that whoever writes them is told so.
macro_rules! tables {
    ($(
        $(#[doc = $about:literal])+
        $table:ident {
            $( $(#[doc = $doc:literal])+ $key:ident: $kind:ty, )*
        }
        planned [$($planned:literal),*]
    )+) => {$(
        $(#[doc = $about])+
        #[derive(Debug, Clone, Default)]
        pub(super) struct $table {
            $( $(#[doc = $doc])+ pub(super) $key: Option<$crate::config::decode::Item<$kind>>, )*
        }

        impl $crate::config::decode::Decode for $table {
            const EXPECTS: &'static str = "a table";
            const KEYS: &'static [$crate::config::decode::KeyDoc] = &[$(
                $crate::config::decode::KeyDoc {
                    name: $crate::config::decode::bare(stringify!($key)),
                    doc: concat!($($doc, "\n"),+),
                    expects: <$kind as $crate::config::decode::Decode>::EXPECTS,
                    list: <$kind as $crate::config::decode::Decode>::LIST,
                    keys: <$kind as $crate::config::decode::Decode>::KEYS,
                },
            )*];

            fn decode(
                value: $crate::config::tree::Value,
                at: &$crate::config::error::At,
                report: &mut $crate::config::error::Report,
            ) -> Option<Self> {
                use $crate::config::{decode, error::At, tree::Value};
                let Value::Table(entries) = value else {
                    return decode::wrong_kind(&value, at, report);
                };
                #[allow(unused_mut, reason = "a table without keys is never written to")]
                let mut table = Self::default();
                for entry in entries {
                    let key = decode::join(&at.key, &entry.key);
                    match entry.key.as_str() {
                        $( name if name == decode::bare(stringify!($key)) => {
                            table.$key = decode::Item::read(entry.node, key, report);
                        } )*
                        name => {
                            let at = At { origin: entry.origin, key };
                            decode::unknown_key(name, Self::KEYS, &[$($planned),*], &at, report);
                        }
                    }
                }
                Some(table)
            }
        }
    )+};
}
pub(super) use tables;

/// A key that is a word of Rust is written `r#match` there.
pub(super) const fn bare(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn distances_are_levenshteins() {
        for (a, b, expected) in [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("a", "a", 0)] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn a_near_miss_is_found_and_a_far_one_is_not() {
        let names = ["client_ca", "client_auth", "cert", "key"];
        assert_eq!(nearest("client-ca", names.into_iter()), Some("client_ca"));
        assert_eq!(nearest("clientca", names.into_iter()), Some("client_ca"));
        assert_eq!(nearest("certs", names.into_iter()), Some("cert"));
        assert_eq!(nearest("banana", names.into_iter()), None);
    }
}
