//! From the text of rules to selectors, term by term, the later one winning as in Redis (`ACLSetUser`, `ACLSetSelector`).

use super::{
    Acl,
    remarks::Tracked,
    selector::{FirstWord, KeyPattern, Pattern, Scope, Selector},
};
use crate::{
    command::{Categories, CommandId, access::Access, bits::categories, catalog},
    policy::{
        presets::{self, Said},
        rules::{self, RuleFault, nearest},
    },
    resp::number,
};
use std::fmt;

/// What is wrong with one term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TermError {
    /// Where it begins in the text, in bytes.
    pub offset: usize,
    /// As it was written.
    pub term: String,
    /// What is wrong.
    pub fault: TermFault,
}

/// Why a term is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermFault {
    /// It names a command, subcommand, category or preset that there is not.
    #[error("{0}")]
    Name(Box<RuleFault>),
    /// No term looks like this.
    #[error("Redis' ACL language has no such rule (expected +command, -command, +@category, ~key-pattern, &channel-pattern, allkeys, allchannels …){}", hint(*nearest))]
    Unknown {
        /// What may have been meant.
        nearest: Option<&'static str>,
    },
    /// It is about a Redis user, not about what may be said.
    #[error("{0}")]
    OfUser(&'static str),
    /// A pattern behind one that takes in everything.
    #[error(
        "{all} stands before it and takes in every {what}, so this pattern would do nothing (Redis refuses it too); put {reset} before it or remove one of the two"
    )]
    BehindAll {
        /// The earlier term.
        all: &'static str,
        /// Key or channel.
        what: &'static str,
        /// What begins anew.
        reset: &'static str,
    },
    /// `%…~` that names no access.
    #[error("between % and ~ stand R, W or both, each once: %R~pattern, %W~pattern, %RW~pattern")]
    Access,
    /// `-select|0`.
    #[error(
        "a first word can be allowed (+{command}|word) but not taken away; take the command away and allow the words that are meant"
    )]
    FirstWordDenied {
        /// The command.
        command: &'static str,
    },
    /// `+config|set|dir`.
    #[error("a subcommand is allowed or denied whole; Redis has no rules about its words either")]
    BelowSubcommand,
    /// `+debug|`.
    #[error("a word is missing behind the |")]
    NoWord,
    /// An unclosed parenthesis, or one too many.
    #[error("{0}")]
    Parentheses(&'static str),
    /// `db=x`.
    #[error("a database is a number as SELECT takes it: db=0 or db=1,2,3")]
    Database,
    /// A byte no pattern may have.
    #[error("{0}")]
    Bytes(&'static str),
}

fn named(fault: RuleFault) -> TermFault {
    TermFault::Name(Box::new(fault))
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

impl fmt::Display for TermError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {}: {}", rules::shown(&self.term), self.fault)
    }
}

/// Terms that are written as words.
const WORDS: &[&str] =
    &["allcommands", "nocommands", "allkeys", "resetkeys", "allchannels", "resetchannels", "reset", "clearselectors"];

/// Terms of `ACL SETUSER` that have no meaning for a role.
const OF_USER: &[(&str, &str)] = &[
    ("on", "a role is always on; remove it"),
    ("off", "a role cannot be off; remove the role, or write nocommands"),
    ("nopass", "a role has no password: its certificate is what proves who it is; remove it"),
    ("resetpass", "a role has no password: its certificate is what proves who it is; remove it"),
    ("sanitize-payload", "RESTORE is checked by the server alone; remove it"),
    ("skip-sanitize-payload", "RESTORE is checked by the server alone; remove it"),
];

/// One term and where it stands.
#[derive(Clone, Copy, Debug)]
struct Term<'t> {
    offset: usize,
    text: &'t str,
}

/// Splits at white space.
fn split(text: &str) -> impl Iterator<Item = Term<'_>> {
    let mut rest = 0;
    std::iter::from_fn(move || {
        let from = rest + text.get(rest..)?.find(|c: char| !c.is_ascii_whitespace())?;
        let tail = text.get(from..)?;
        let len = tail.find(|c: char| c.is_ascii_whitespace()).unwrap_or(tail.len());
        rest = from + len;
        Some(Term { offset: from, text: tail.get(..len)? })
    })
}

/// Rules that were understood.
#[derive(Debug)]
pub struct Compiled {
    /// What they mean.
    pub acl: Acl,
    /// What an operator should know of them, one sentence each.
    pub remarks: Vec<String>,
    /// By row of the catalog: the term that took the command away, of those that are not allowed.
    pub taken: Vec<Option<String>>,
}

/// Compiles rules. They begin with nothing: no command, no key, no channel; and with every database.
///
/// # Errors
/// Every term that is none, all of them at once.
pub fn compile(text: &str) -> Result<Compiled, Vec<TermError>> {
    let mut root = Tracked::new();
    let mut others: Vec<Tracked> = Vec::new();
    let mut open: Option<(Term<'_>, Tracked)> = None;
    let mut errors = Vec::new();
    for (place, term) in (1..).zip(split(text)) {
        let Term { offset, text } = term;
        // What may be a password is not repeated.
        let secret = text.trim_start_matches('(').starts_with(['>', '<', '#', '!']);
        let shown = if secret { format!("{}…", text.get(..1).unwrap_or_default()) } else { text.to_owned() };
        let report = |fault| errors.push(TermError { offset, term: shown, fault });
        let mut inner = text;
        if let Some(behind) = inner.strip_prefix('(')
            && open.is_none()
        {
            open = Some((term, Tracked::new()));
            inner = behind;
        }
        let Some((_, selector)) = &mut open else {
            if text.eq_ignore_ascii_case("reset") {
                root = Tracked::new();
                others.clear();
            } else if text.eq_ignore_ascii_case("clearselectors") {
                others.clear();
            } else if let Err(fault) = root.apply(place, text, |selector| apply(selector, text)) {
                report(fault);
            }
            continue;
        };
        let closed = inner.strip_suffix(')');
        let inner = closed.unwrap_or(inner);
        if !inner.is_empty()
            && let Err(fault) = selector.apply(place, inner, |selector| inside(selector, inner))
        {
            report(fault);
        }
        if closed.is_some()
            && let Some((_, selector)) = open.take()
        {
            others.push(selector);
        }
    }
    if let Some((Term { offset, text }, _)) = open {
        let fault = TermFault::Parentheses("the parenthesis is not closed; put ) behind the last rule of the selector");
        errors.push(TermError { offset, term: text.get(..1).unwrap_or_default().to_owned(), fault });
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let taken = catalog::iter().map(|(id, _)| root.taken_by(id).map(str::to_ascii_lowercase)).collect();
    others.insert(0, root);
    let mut remarks = Vec::new();
    let selectors: Box<[Selector]> = others
        .into_iter()
        .map(|tracked| {
            let (selector, found) = tracked.finish();
            remarks.extend(found);
            selector
        })
        .collect();
    Ok(Compiled { acl: Acl { selectors, trusted: false }, remarks, taken })
}

/// A term within parentheses.
fn inside(selector: &mut Selector, term: &str) -> Result<(), TermFault> {
    if ["reset", "clearselectors"].iter().any(|word| term.eq_ignore_ascii_case(word)) || term.starts_with('(') {
        return Err(TermFault::Parentheses("it cannot stand inside parentheses"));
    }
    if term.contains(['"', '\'']) {
        return Err(TermFault::Bytes(
            "Redis reads quotes inside parentheses its own way; a pattern cannot have them there",
        ));
    }
    apply(selector, term)
}

fn apply(selector: &mut Selector, term: &str) -> Result<(), TermFault> {
    let is = |word: &str| term.eq_ignore_ascii_case(word);
    if is("allcommands") {
        every(selector, true);
    } else if is("nocommands") {
        every(selector, false);
    } else if is("allkeys") || term == "~*" {
        selector.keys = Scope::All;
    } else if is("resetkeys") {
        selector.keys = Scope::NONE;
    } else if is("allchannels") || term == "&*" {
        selector.channels = Scope::All;
    } else if is("resetchannels") {
        selector.channels = Scope::NONE;
    } else if is("alldbs") {
        selector.databases = Scope::All;
    } else if is("resetdbs") {
        selector.databases = Scope::NONE;
    } else if term.get(..3).is_some_and(|kind| kind.eq_ignore_ascii_case("db=")) {
        selector.databases = Scope::Listed(databases(term.get(3..).unwrap_or_default())?);
    } else if let Some(pattern) = term.strip_prefix('~') {
        key(selector, pattern, Access::BOTH)?;
    } else if let Some(rest) = term.strip_prefix('%') {
        let (letters, pattern) = rest.split_once('~').ok_or(TermFault::Access)?;
        let access = match letters.to_ascii_uppercase().as_str() {
            "R" => Access::READ,
            "W" => Access::WRITE,
            "RW" | "WR" => Access::BOTH,
            _ => return Err(TermFault::Access),
        };
        key(selector, pattern, access)?;
    } else if let Some(pattern) = term.strip_prefix('&') {
        channel(selector, pattern)?;
    } else if let Some(name) = term.strip_prefix('+') {
        command(selector, name, true)?;
    } else if let Some(name) = term.strip_prefix('-') {
        command(selector, name, false)?;
    } else if let Some(name) = term.get(..7).filter(|kind| kind.eq_ignore_ascii_case("preset:")).and(term.get(7..)) {
        preset(selector, name)?;
    } else if let Some((_, why)) = OF_USER.iter().find(|(word, _)| is(word)) {
        return Err(TermFault::OfUser(why));
    } else if term.starts_with(['>', '<', '#', '!']) {
        return Err(TermFault::OfUser("a role has no password: its certificate is what proves who it is; remove it"));
    } else if term.contains(['(', ')']) {
        return Err(TermFault::Parentheses("a selector is (rules), with a blank before the ( and one behind the )"));
    } else {
        return Err(TermFault::Unknown { nearest: nearest(term, WORDS.iter().copied()) });
    }
    Ok(())
}

fn every(selector: &mut Selector, allowed: bool) {
    selector.commands.fill(allowed);
    selector.firsts.clear();
}

/// `ACLChangeSelectorPerm`: what is said of a container is said of its subcommands.
fn set(selector: &mut Selector, id: CommandId, allowed: bool) {
    for (id, _) in catalog::family(id) {
        if let Some(cell) = selector.commands.get_mut(id.index()) {
            *cell = allowed;
        }
        selector.firsts.retain(|first| first.id != id);
    }
}

/// A preset that denies takes away what it denies. One that allows is a beginning: what it leaves open is allowed, and
/// nothing else.
fn preset(selector: &mut Selector, name: &str) -> Result<(), TermFault> {
    let Some(preset) = presets::by_name(name) else {
        let nearest = nearest(name, presets::PRESETS.iter().map(|preset| preset.name));
        return Err(named(RuleFault::UnknownPreset { nearest }));
    };
    for (id, row) in catalog::iter() {
        let allowed = match preset.says(row) {
            Said::Denied(_) | Said::NotListed => false,
            Said::Allowed(_) => true,
            Said::Open => continue,
        };
        if let Some(cell) = selector.commands.get_mut(id.index()) {
            *cell = allowed;
        }
        selector.firsts.retain(|first| first.id != id);
    }
    Ok(())
}

fn command(selector: &mut Selector, name: &str, allowed: bool) -> Result<(), TermFault> {
    if let Some(category) = name.strip_prefix('@') {
        if category.eq_ignore_ascii_case("all") {
            every(selector, allowed);
            return Ok(());
        }
        let Some(wanted) = Categories::by_name(category) else {
            let nearest = nearest(category, categories::NAMES.iter().map(|(name, _)| *name));
            return Err(named(RuleFault::UnknownCategory { nearest }));
        };
        for (id, _) in catalog::iter().filter(|(_, row)| row.categories.any(wanted.0)) {
            set(selector, id, allowed);
        }
        return Ok(());
    }
    if let Some(id) = catalog::by_full_name(name) {
        set(selector, id, allowed);
        return Ok(());
    }
    let Some((head, word)) = name.rsplit_once('|') else {
        return rules::rows(name).map(|_| ()).map_err(named);
    };
    let Some(id) = catalog::by_full_name(head) else {
        return rules::rows(head).map(|_| ()).map_err(named);
    };
    let entry = id.entry();
    if entry.sub.is_some() {
        return Err(TermFault::BelowSubcommand);
    }
    if word.is_empty() {
        return Err(TermFault::NoWord);
    }
    if entry.container {
        return rules::rows(name).map(|_| ()).map_err(named);
    }
    if !allowed {
        return Err(TermFault::FirstWordDenied { command: entry.full_name });
    }
    let first = FirstWord { id, word: word.as_bytes().into() };
    if !selector.firsts.contains(&first) {
        selector.firsts.push(first);
    }
    Ok(())
}

fn key(selector: &mut Selector, pattern: &str, access: Access) -> Result<(), TermFault> {
    let Scope::Listed(patterns) = &mut selector.keys else {
        return Err(TermFault::BehindAll { all: "allkeys (~*)", what: "key", reset: "resetkeys" });
    };
    let pattern = Pattern::new(text(pattern)?);
    match patterns.iter_mut().find(|known| known.pattern == pattern) {
        Some(known) => known.access = known.access.with(access),
        None => patterns.push(KeyPattern { pattern, access }),
    }
    Ok(())
}

fn channel(selector: &mut Selector, pattern: &str) -> Result<(), TermFault> {
    let Scope::Listed(patterns) = &mut selector.channels else {
        return Err(TermFault::BehindAll { all: "allchannels (&*)", what: "channel", reset: "resetchannels" });
    };
    let pattern = Pattern::new(text(pattern)?);
    if !patterns.contains(&pattern) {
        patterns.push(pattern);
    }
    Ok(())
}

/// Each `db=` replaces the one before it, as in Valkey 9.1.
fn databases(list: &str) -> Result<Vec<u32>, TermFault> {
    let mut found = Vec::new();
    for word in list.split(',') {
        let number = number::canonical_i64(word.as_bytes()).and_then(|number| i32::try_from(number).ok());
        let db = number.and_then(|number| u32::try_from(number).ok()).ok_or(TermFault::Database)?;
        if !found.contains(&db) {
            found.push(db);
        }
    }
    Ok(found)
}

fn text(pattern: &str) -> Result<&[u8], TermFault> {
    if pattern.contains(['\0', '\u{b}']) {
        return Err(TermFault::Bytes("a pattern holds no NUL and no white space"));
    }
    Ok(pattern.as_bytes())
}
