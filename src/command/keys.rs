//! Which words of a request are keys.
//!
//! Redis describes most commands by key specifications; those are data in [`super::table`]. For seven commands they do
//! not say it all (an option's place decides), and code here reads the options in the order and with the skips of the
//! command's own parser: what counts is the key Redis will touch, not the key `COMMAND GETKEYS` reports.
//!
//! Wherever a word decides which word is a key, it must leave no room for reading it differently: a NUL in an option
//! (Redis compares up to it), a number not in canonical form (old versions read `+1` and `01`), an option standing
//! twice (the last one wins, `GETKEYS` says the first) make the keys [`Keys::Undeterminable`], and the command is denied
//! ([`super::strict`]). A command that every server refuses (more keys than words, a value missing) goes up for its error;
//! its keys are those found before the fault.

use super::strict::Fault;
use super::{Effect, Entry};
use crate::resp::{Words, number};

/// One of Redis' key specifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// Where the search begins.
    pub begin: Begin,
    /// How the keys follow from there.
    pub find: Find,
    /// What is done to them: constants of [`super::bits::key_flags`].
    pub flags: u32,
}

/// Writes a specification on one line of the generated table.
pub(super) const fn spec(begin: Begin, find: Find, flags: u32) -> KeySpec {
    KeySpec { begin, find, flags }
}

/// Where a specification's search begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At this word.
    Index(u16),
    /// Behind this word, sought from this position on (backwards if negative).
    Keyword(&'static str, i16),
    /// Only the command's own parser knows.
    Unknown,
}

/// How a specification's keys follow from where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// Every `step`th word up to `last`, counted from the beginning if not negative, else from the end.
    Range {
        /// The last key.
        last: i16,
        /// Words from one key to the next.
        step: u16,
        /// With a `last` of -1 and a limit above 1: only the first 1/limit of the words.
        limit: u16,
    },
    /// As many as the word at `at` says.
    Count {
        /// Where the number stands, from where the search began.
        at: u16,
        /// Where the first key stands, from where the search began.
        first: u16,
        /// Words from one key to the next.
        step: u16,
    },
    /// Only the command's own parser knows.
    Unknown,
}

/// How a command's keys are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// By its specifications.
    Specified,
    /// SORT: the first word, and the destination behind STORE. Keys made from the patterns of BY and GET are no words.
    Sort,
    /// SORT_RO: the first word.
    SortReadOnly,
    /// MIGRATE: the third word, or if that is empty those behind KEYS.
    Migrate,
    /// GEORADIUS, GEORADIUSBYMEMBER: the first word, and the destination behind STORE or STOREDIST among the options,
    /// which begin here.
    GeoRadius(u8),
    /// XREAD: the first half of the words behind STREAMS.
    Streams,
    /// XREADGROUP: the same, with GROUP and NOACK among the options.
    GroupStreams,
}

/// What is known of a request's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// They are the words whose indices were written to the buffer.
    Exact,
    /// They cannot be told (numkeys is not canonical, an option stands twice or is not known …): [`super::strict::fault`].
    Undeterminable,
}

/// Whether no later word can change verdict, key list or state of this request: what is whole of `words` settles it,
/// and the rest may be streamed.
#[must_use]
pub fn settled(entry: &Entry, words: &Words<'_>) -> bool {
    if words.whole() >= words.declared() {
        return true;
    }
    let name_words = if entry.sub.is_some() { 2 } else { 1 };
    if words.whole() < name_words {
        return false;
    }
    match entry.effect {
        Effect::Plain | Effect::Blocking | Effect::Script => {}
        // The words of these decide state: they are judged whole or not at all.
        Effect::State
        | Effect::BlockingOption
        | Effect::Select
        | Effect::Multi
        | Effect::Exec
        | Effect::Discard
        | Effect::Auth
        | Effect::Hello
        | Effect::Reset
        | Effect::Quit
        | Effect::ReplyMode
        | Effect::Subscribe(_)
        | Effect::Unsubscribe(_)
        | Effect::Monitor
        | Effect::Replication
        | Effect::ReplicationConfig
        | Effect::Shutdown
        | Effect::OwnAccess(_)
        | Effect::AccessControl
        | Effect::Unsupported => return false,
    }
    if !entry.rules.is_empty() {
        // The word that breaks a rule may be the last.
        return false;
    }
    match entry.layout {
        Layout::Specified => entry.keys.iter().all(|spec| spec_is_settled(spec, words)),
        Layout::Sort
        | Layout::SortReadOnly
        | Layout::Migrate
        | Layout::GeoRadius(_)
        | Layout::Streams
        | Layout::GroupStreams => false,
    }
}

fn spec_is_settled(spec: &KeySpec, words: &Words<'_>) -> bool {
    match stretch(spec, words) {
        Stretch::Known { last, .. } => words.whole() > last,
        Stretch::None | Stretch::Undeterminable(_) => true,
        Stretch::Unread => false,
    }
}

/// Whether a command with [`Effect::BlockingOption`] carries BLOCK (XREAD, XREADGROUP). True on any doubt.
#[must_use]
pub fn blocks(words: &Words<'_>) -> bool {
    match streams(words, true) {
        Ok(found) => found.block,
        Err(_) => true,
    }
}

/// The index of the only word that can be a key, where the specification says so whatever the words are (GET, SET, INCR
/// and most others): the short way round [`find`], which says the same.
#[must_use]
pub const fn only(entry: &Entry) -> Option<usize> {
    only_of(entry.layout, entry.keys)
}

pub(super) const fn only_of(layout: Layout, keys: &[KeySpec]) -> Option<usize> {
    match (layout, keys) {
        (
            Layout::Specified,
            [KeySpec { begin: Begin::Index(at), find: Find::Range { last: 0, limit: 0 | 1, .. }, flags }],
        ) if *flags & super::bits::key_flags::NOT_KEY == 0 => Some(*at as usize),
        _ => None,
    }
}

/// Writes the indices of the words that are keys to `out` (cleared first), in the order Redis reports them.
///
/// `words` is a whole request, or one that is [`settled`]; of another only keys that have come are found. Positions
/// beyond its end are left out: Redis answers such a request with an error of arity.
pub fn find(entry: &Entry, words: &Words<'_>, out: &mut Vec<u32>) -> Keys {
    match locate(entry, words, out) {
        // What refuses a command may have read its first key before (GEORADIUS does), and touches no other.
        Ok(()) | Err(Unknown::Refused) => Keys::Exact,
        Err(Unknown::Ambiguous(_)) => {
            out.clear();
            Keys::Undeterminable
        }
    }
}

/// Whether words of this command can change which words are keys.
pub(super) const fn depends_on_words(layout: Layout, specs: &[KeySpec]) -> bool {
    if !matches!(layout, Layout::Specified) {
        return true;
    }
    let mut at = 0;
    #[expect(clippy::indexing_slicing, reason = "evaluated at compile time only")]
    while at < specs.len() {
        if !matches!((specs[at].begin, specs[at].find), (Begin::Index(_), Find::Range { limit: 0 | 1, .. })) {
            return true;
        }
        at += 1;
    }
    false
}

/// Whether the keys are undeterminable because a word may be read in more than one way. `scratch` is only written to.
pub(super) fn ambiguity(entry: &Entry, words: &Words<'_>, scratch: &mut Vec<u32>) -> Option<Fault> {
    match locate(entry, words, scratch) {
        Err(Unknown::Ambiguous(fault)) => Some(fault),
        Ok(()) | Err(Unknown::Refused) => None,
    }
}

/// Why keys are undeterminable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// A word may be read in more than one way.
    Ambiguous(Fault),
    /// All words are clear, and no server takes them together.
    Refused,
}

const NUMBER: Unknown = Unknown::Ambiguous(Fault::Number);
const WORD: Unknown = Unknown::Ambiguous(Fault::Word);

pub(super) fn locate(entry: &Entry, words: &Words<'_>, out: &mut Vec<u32>) -> Result<(), Unknown> {
    out.clear();
    match entry.layout {
        Layout::Specified => specified(entry, words, out),
        Layout::Sort => sort(words, true, out),
        Layout::SortReadOnly => sort(words, false, out),
        Layout::Migrate => migrate(words, out),
        Layout::GeoRadius(options) => geo_radius(words, usize::from(options), out),
        Layout::Streams => stream_keys(words, false, out),
        Layout::GroupStreams => stream_keys(words, true, out),
    }
}

/// Where one specification's keys are.
pub(super) enum Stretch {
    /// From `first` to `last`, both included, every `step`th word.
    Known { first: usize, last: usize, step: usize },
    /// Nowhere: no such words.
    None,
    /// The deciding word has not arrived.
    Unread,
    /// The deciding word says nothing that can be relied on.
    Undeterminable(Unknown),
}

pub(super) fn stretch(spec: &KeySpec, words: &Words<'_>) -> Stretch {
    if spec.flags & super::bits::key_flags::NOT_KEY != 0 {
        return Stretch::None;
    }
    let argc = words.declared();
    let Begin::Index(begin) = spec.begin else {
        return Stretch::Undeterminable(WORD);
    };
    let begin = usize::from(begin);
    let (first, last, step) = match spec.find {
        // A limit halves what STREAMS is followed by; XREAD has a layout of its own.
        Find::Unknown | Find::Range { limit: 2.., .. } => return Stretch::Undeterminable(WORD),
        Find::Range { last, step, .. } => {
            let distance = usize::from(last.unsigned_abs());
            let last = if last >= 0 { Some(begin + distance) } else { argc.checked_sub(distance) };
            (begin, last, step)
        }
        Find::Count { at, first, step } => {
            let at = begin + usize::from(at);
            let Some(number) = words.get(at) else {
                return if at < argc { Stretch::Unread } else { Stretch::None };
            };
            // Beyond 32 bits some servers' own arithmetic would overflow (`lmpopGenericCommand` adds to a `long`).
            let Some(count) = number::canonical_i64(number).and_then(|count| i32::try_from(count).ok()) else {
                return Stretch::Undeterminable(NUMBER);
            };
            let Ok(count) = usize::try_from(count) else {
                return Stretch::Undeterminable(Unknown::Refused);
            };
            let first = begin + usize::from(first);
            let Some(before_last) = count.checked_sub(1) else {
                return Stretch::None;
            };
            let last = before_last.checked_mul(usize::from(step)).and_then(|width| first.checked_add(width));
            match last {
                // More keys than words: Redis refuses it, but nothing must be able to make two of us count differently.
                Some(last) if last < argc => (first, Some(last), step),
                _ => return Stretch::Undeterminable(Unknown::Refused),
            }
        }
    };
    match last {
        Some(last) if first < argc && first <= last => {
            let step = usize::from(step).max(1);
            // The last word that is a key, not the last that could be: MSET's last value decides nothing.
            let last = last.min(argc - 1);
            Stretch::Known { first, last: last - (last - first) % step, step }
        }
        _ => Stretch::None,
    }
}

fn specified(entry: &Entry, words: &Words<'_>, out: &mut Vec<u32>) -> Result<(), Unknown> {
    for spec in entry.keys {
        match stretch(spec, words) {
            Stretch::Known { first, last, step } => {
                push_all(words, (first..=last).step_by(step), out)?;
            }
            Stretch::None => {}
            Stretch::Unread => return Err(WORD),
            Stretch::Undeterminable(why) => return Err(why),
        }
    }
    Ok(())
}

fn push(out: &mut Vec<u32>, at: usize) -> Result<(), Unknown> {
    out.push(u32::try_from(at).map_err(|_| Unknown::Refused)?);
    Ok(())
}

/// The word at `at`, whose place among the options is within the request.
fn option<'w>(words: &Words<'w>, at: usize) -> Result<&'w [u8], Unknown> {
    words.get(at).ok_or(WORD)
}

/// The word at `at` is a number, or is missing.
fn option_number(words: &Words<'_>, at: usize) -> Result<(), Unknown> {
    match words.get(at) {
        Some(word) => number::canonical_i64(word).map(|_| ()).ok_or(NUMBER),
        None => Err(Unknown::Refused),
    }
}

/// Of a request that is denied before it is whole only the words that have come: a header of twenty bytes may declare
/// millions.
fn push_all(words: &Words<'_>, at: impl Iterator<Item = usize>, out: &mut Vec<u32>) -> Result<(), Unknown> {
    at.take_while(|at| *at < words.whole()).try_for_each(|at| push(out, at))
}

/// Whether `word` is the option `option`, letter for letter but for case. Redis' `strcasecmp` stops at a NUL; a word
/// with one in it is no option here, and as an unknown option it makes the keys undeterminable.
pub(crate) fn word_is(word: &[u8], option: &str) -> bool {
    word.eq_ignore_ascii_case(option.as_bytes())
}

/// `SORT key [ASC|DESC] [ALPHA] [LIMIT a b] [BY pattern] [GET pattern …] [STORE key]` (`sortCommandGeneric`).
fn sort(words: &Words<'_>, may_store: bool, out: &mut Vec<u32>) -> Result<(), Unknown> {
    let argc = words.declared();
    if argc > 1 {
        push(out, 1)?;
    }
    let mut store = None;
    let mut at = 2;
    while at < argc {
        let word = option(words, at)?;
        let width = if word_is(word, "ASC") || word_is(word, "DESC") || word_is(word, "ALPHA") {
            1
        } else if word_is(word, "LIMIT") {
            3
        } else if word_is(word, "BY") || word_is(word, "GET") {
            2
        } else if may_store && word_is(word, "STORE") && store.is_none() {
            store = Some(at + 1);
            2
        } else {
            return Err(WORD);
        };
        at += width;
    }
    if at > argc {
        return Err(Unknown::Refused);
    }
    store.map_or(Ok(()), |at| push(out, at))
}

/// Whether the command reads keys that it makes of patterns among its words: BY with a `*`, and GET, of SORT and SORT_RO.
///
/// Asked of a request whose keys were found: what stands behind an option has its place.
#[must_use]
pub fn makes_keys(entry: &Entry, words: &Words<'_>) -> bool {
    if !matches!(entry.layout, Layout::Sort | Layout::SortReadOnly) {
        return false;
    }
    let mut rest = words.iter().skip(2);
    while let Some(word) = rest.next() {
        if word_is(word, "GET") {
            return true;
        } else if word_is(word, "BY") {
            if rest.next().is_some_and(|pattern| pattern.contains(&b'*')) {
                return true;
            }
        } else if word_is(word, "STORE") {
            rest.next();
        } else if word_is(word, "LIMIT") {
            rest.nth(1);
        }
    }
    false
}

/// `MIGRATE host port key|"" db timeout [COPY] [REPLACE] [AUTH pw] [AUTH2 user pw] [KEYS key …]` (`migrateCommand`).
fn migrate(words: &Words<'_>, out: &mut Vec<u32>) -> Result<(), Unknown> {
    const KEY: usize = 3;
    let argc = words.declared();
    let mut at = 6;
    while at < argc {
        let word = option(words, at)?;
        at += if word_is(word, "COPY") || word_is(word, "REPLACE") {
            1
        } else if word_is(word, "AUTH") {
            2
        } else if word_is(word, "AUTH2") {
            3
        } else if word_is(word, "KEYS") && option(words, KEY)?.is_empty() && at + 1 < argc {
            return push_all(words, at + 1..argc, out);
        } else if word_is(word, "KEYS") {
            return Err(Unknown::Refused);
        } else {
            return Err(WORD);
        };
    }
    if at > argc && argc > 6 {
        return Err(Unknown::Refused);
    }
    if argc > KEY { push(out, KEY) } else { Ok(()) }
}

/// `GEORADIUS[BYMEMBER] key … [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT n [ANY]] [ASC|DESC] [STORE key|STOREDIST key]`
/// (`georadiusGeneric`). Of several destinations the last one is written; several are undeterminable.
fn geo_radius(words: &Words<'_>, options: usize, out: &mut Vec<u32>) -> Result<(), Unknown> {
    const FLAGS: [&str; 6] = ["WITHCOORD", "WITHDIST", "WITHHASH", "ANY", "ASC", "DESC"];
    let argc = words.declared();
    if argc > 1 {
        push(out, 1)?;
    }
    let mut store = None;
    let mut at = options;
    while at < argc {
        let word = option(words, at)?;
        at += if FLAGS.iter().any(|flag| word_is(word, flag)) {
            1
        } else if word_is(word, "COUNT") {
            2
        } else if (word_is(word, "STORE") || word_is(word, "STOREDIST")) && store.is_none() {
            store = Some(at + 1);
            2
        } else {
            return Err(WORD);
        };
    }
    if at > argc.max(options) {
        return Err(Unknown::Refused);
    }
    store.map_or(Ok(()), |at| push(out, at))
}

/// What the options of XREAD and XREADGROUP say.
struct StreamOptions {
    /// Index of the first key.
    first: usize,
    /// Whether BLOCK stands among them.
    block: bool,
}

/// `XREAD [COUNT n] [BLOCK ms] STREAMS key … id …`, `XREADGROUP GROUP group consumer … [NOACK] [CLAIM ms] …` (`xreadCommand`).
/// Everything behind STREAMS is a key or an id, whatever it is called.
fn streams(words: &Words<'_>, group: bool) -> Result<StreamOptions, Unknown> {
    let argc = words.declared();
    let mut block = false;
    let mut at = 1;
    while at < argc {
        let word = option(words, at)?;
        at += if word_is(word, "COUNT") {
            // These numbers take no part in where the keys are, but a word that is none may be an option out of place.
            option_number(words, at + 1)?;
            2
        } else if word_is(word, "BLOCK") {
            option_number(words, at + 1)?;
            block = true;
            2
        } else if group && word_is(word, "GROUP") {
            3
        } else if group && word_is(word, "NOACK") {
            1
        } else if group && word_is(word, "CLAIM") {
            // Since Redis 8.4; a syntax error before.
            option_number(words, at + 1)?;
            2
        } else if word_is(word, "STREAMS") {
            return Ok(StreamOptions { first: at + 1, block });
        } else {
            return Err(WORD);
        };
    }
    Err(Unknown::Refused)
}

fn stream_keys(words: &Words<'_>, group: bool, out: &mut Vec<u32>) -> Result<(), Unknown> {
    let argc = words.declared();
    if argc < 4 {
        return Ok(());
    }
    let first = streams(words, group)?.first;
    let count = argc.saturating_sub(first);
    if count == 0 || !count.is_multiple_of(2) {
        return Err(Unknown::Refused);
    }
    push_all(words, first..first + count / 2, out)
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
