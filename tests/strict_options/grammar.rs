//! What a server says of the arguments of its commands (`COMMAND DOCS`), laid over command lines that work: which words
//! are options, which are numbers, and what else could stand among them.

use super::support::wire::{Reply, Wire};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::net::UnixStream;

/// One argument as the server describes it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Argument {
    kind: String,
    token: Option<String>,
    optional: bool,
    multiple: bool,
    inner: Vec<Argument>,
}

/// What a word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Class {
    /// The command's name, or a subcommand's.
    Name,
    /// An option.
    Token,
    /// A number of any kind.
    Number,
    /// A key, a value, a pattern.
    Text,
}

pub(crate) type Line = Vec<(Vec<u8>, Class)>;

/// The arguments of every command this server knows, by full name.
pub(crate) fn grammar(wire: &mut Wire<UnixStream>, names: &[&str]) -> BTreeMap<String, Vec<Argument>> {
    let mut command = vec!["COMMAND", "DOCS"];
    command.extend(names);
    let Reply::Array(said) = wire.call(&command) else { return BTreeMap::new() };
    said.chunks(2).map(|pair| (pair[0].text(), list(&pair[1]))).collect()
}

fn field<'r>(reply: &'r Reply, name: &str) -> Option<&'r Reply> {
    reply.elements().chunks(2).find(|pair| pair[0].text() == name).map(|pair| &pair[1])
}

fn list(reply: &Reply) -> Vec<Argument> {
    field(reply, "arguments").map_or_else(Vec::new, |arguments| arguments.elements().iter().map(argument).collect())
}

fn argument(reply: &Reply) -> Argument {
    let flag =
        |name: &str| field(reply, "flags").is_some_and(|flags| flags.elements().iter().any(|flag| flag.text() == name));
    Argument {
        kind: field(reply, "type").unwrap().text(),
        token: field(reply, "token").map(Reply::text),
        optional: flag("optional"),
        multiple: flag("multiple"),
        inner: list(reply),
    }
}

impl Argument {
    fn class(&self) -> Class {
        match &self.kind[..] {
            "integer" | "double" | "unix-time" => Class::Number,
            "pure-token" => Class::Token,
            _ => Class::Text,
        }
    }

    /// Fewest words it takes.
    fn least(&self) -> usize {
        if self.optional { 0 } else { self.least_once() }
    }

    fn least_once(&self) -> usize {
        let token = usize::from(self.token.is_some());
        match &self.kind[..] {
            "pure-token" => 1,
            "oneof" => token + self.inner.iter().map(Self::least_once).min().unwrap_or(0),
            "block" => token + self.inner.iter().map(Self::least).sum::<usize>(),
            _ => token + 1,
        }
    }

    /// Words for it, once for each of its alternatives.
    fn renderings(&self) -> Vec<Line> {
        let token: Line = self.token.iter().map(|token| (token.clone().into_bytes(), Class::Token)).collect();
        let values: Vec<Line> = match &self.kind[..] {
            "pure-token" => vec![Vec::new()],
            "oneof" => self.inner.iter().flat_map(Self::renderings).collect(),
            "block" => {
                // Each alternative of each part once, with the first one of the others.
                let parts: Vec<Vec<Line>> = self.inner.iter().map(Self::renderings).collect();
                let first = |parts: &[Vec<Line>]| parts.iter().filter_map(|part| part.first().cloned()).collect();
                let mut all: Vec<Vec<Line>> = vec![first(&parts)];
                for (at, part) in parts.iter().enumerate() {
                    for other in part.iter().skip(1) {
                        let mut line: Vec<Line> = first(&parts);
                        line[at].clone_from(other);
                        all.push(line);
                    }
                }
                all.into_iter().map(|line| line.concat()).collect()
            }
            kind => {
                let word = match kind {
                    "integer" => "1",
                    "double" => "1.5",
                    "unix-time" => "99999999999",
                    "pattern" => "a*",
                    "key" => "d2",
                    _ => "a",
                };
                vec![vec![(word.as_bytes().to_vec(), self.class())]]
            }
        };
        values.into_iter().map(|value| [token.clone(), value].concat()).collect()
    }
}

/// A command line laid over its grammar.
pub(crate) struct Laid {
    pub(crate) line: Line,
    /// Further lines: this one with one optional argument more, each in every alternative.
    pub(crate) variants: Vec<Line>,
    /// Whether the grammar took every word.
    pub(crate) fits: bool,
}

/// Lays `words` (behind `names` words of the name) over a grammar.
pub(crate) fn lay(words: &[Vec<u8>], names: usize, arguments: &[Argument]) -> Laid {
    let mut walk = Walk { words, at: names, line: Vec::new(), insertions: Vec::new() };
    walk.line.extend(words[..names].iter().map(|word| (word.clone(), Class::Name)));
    let fits = walk.all(arguments, 0) && walk.at == words.len();
    if !fits {
        walk.line.truncate(names);
        walk.insertions.clear();
        walk.line.extend(words[names..].iter().map(|word| {
            let number = !word.is_empty() && word.iter().all(|byte| byte.is_ascii_digit() || b"-.".contains(byte));
            (word.clone(), if number { Class::Number } else { Class::Text })
        }));
    }
    let mut variants = BTreeSet::new();
    for (at, rendering) in &walk.insertions {
        let mut line = walk.line.clone();
        line.splice(at..at, rendering.iter().cloned());
        variants.insert(line);
    }
    Laid { line: walk.line, variants: variants.into_iter().collect(), fits }
}

struct Walk<'w> {
    words: &'w [Vec<u8>],
    at: usize,
    line: Line,
    insertions: Vec<(usize, Line)>,
}

impl Walk<'_> {
    fn word_is(&self, token: &str) -> bool {
        self.words.get(self.at).is_some_and(|word| word.eq_ignore_ascii_case(token.as_bytes()))
    }

    fn take(&mut self, class: Class) -> bool {
        let Some(word) = self.words.get(self.at) else { return false };
        self.line.push((word.clone(), class));
        self.at += 1;
        true
    }

    /// All of these; `behind` words at least are needed for what comes after them.
    fn all(&mut self, arguments: &[Argument], behind: usize) -> bool {
        arguments.iter().enumerate().all(|(index, argument)| {
            let behind = behind + arguments[index + 1..].iter().map(Argument::least).sum::<usize>();
            self.one(argument, behind)
        })
    }

    fn one(&mut self, argument: &Argument, behind: usize) -> bool {
        if argument.optional && !self.begins(argument, behind) {
            self.insertions.extend(argument.renderings().into_iter().map(|line| (self.line.len(), line)));
            return true;
        }
        if !self.once(argument, behind) {
            return false;
        }
        while argument.multiple && self.left() >= behind + argument.least_once() && self.begins(argument, behind) {
            if !self.once(argument, behind) {
                return false;
            }
        }
        true
    }

    fn left(&self) -> usize {
        self.words.len() - self.at
    }

    fn begins(&self, argument: &Argument, behind: usize) -> bool {
        if let Some(token) = &argument.token {
            return self.word_is(token);
        }
        match &argument.kind[..] {
            "oneof" => argument.inner.iter().any(|inner| self.begins(inner, behind)),
            "block" => argument.inner.first().is_some_and(|first| self.begins(first, behind)),
            _ => self.left() > behind,
        }
    }

    fn once(&mut self, argument: &Argument, behind: usize) -> bool {
        if let Some(token) = &argument.token {
            let taken =
                if token == "\"\"" { self.words.get(self.at).is_some_and(Vec::is_empty) } else { self.word_is(token) };
            if !taken || !self.take(Class::Token) {
                return false;
            }
        }
        match &argument.kind[..] {
            "pure-token" => true,
            "oneof" => {
                let tokens_first = argument.inner.iter().filter(|inner| inner.token.is_some());
                let others = argument.inner.iter().filter(|inner| inner.token.is_none());
                let chosen = tokens_first.chain(others).find(|inner| self.begins(inner, behind));
                chosen.is_some_and(|inner| self.once(inner, behind))
            }
            "block" => self.all(&argument.inner, behind),
            _ => self.take(argument.class()),
        }
    }
}
