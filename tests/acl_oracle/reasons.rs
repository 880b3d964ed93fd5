//! Why we say something else than Redis: a closed list. `deploy/docs/policy.md` repeats it for those who write rules.

use crate::Said;
use ravelin::{
    command::{
        Effect, Entry,
        access::{Seen, each_key},
        databases::Reach,
        keys::Layout,
    },
    policy::Subject,
    resp::Words,
};

pub(crate) const AMBIGUOUS: &str = "a deciding word can be read in more than one way (builtin/not-canonical)";
pub(crate) const UNSUPPORTED: &str = "the connection would become what the proxy does not speak (builtin/unsupported)";
pub(crate) const CONTROL: &str = "users and rules are the proxy's configuration's (builtin/access-control)";
pub(crate) const REFUSED: &str =
    "every server refuses the request for its number of keys, and which are keys is not told";
pub(crate) const SORT: &str = "BY and GET of SORT read keys that are not named: Redis refuses this when it runs it";
pub(crate) const SET: &str =
    "SET with an option that Redis 7.0 does not know, and DELEX with any, may look at what they overwrite";

pub(crate) const NO_KEYS: &str =
    "a number of keys of 0 is refused by every server, and Redis' ACL overlooks the destination before it";
pub(crate) const PFMERGE: &str = "PFMERGE with nothing but a destination makes it, and Redis' ACL does not look at it";

pub(crate) const NAME_WITH_NUL: &str =
    "a name with a NUL is no name (builtin/not-a-name); Redis may or may not find the command by it";
pub(crate) const DATABASE: &str = "a number that releases read differently could be any database, and one that is none excuses no other (SWAPDB 2 -1); Valkey leaves both to their error";
pub(crate) const EVERY: &str =
    "it shows, streams or replaces keys of every database, and Valkey's db= lets it pass whatever it lists";
pub(crate) const SCRIPT: &str = "a script may SELECT, and Valkey judges each of its commands; here none is seen";
pub(crate) const MIGRATE: &str =
    "the database of MIGRATE may be one of this very server, and Valkey asks about the selected one only";
pub(crate) const SLOTS: &str =
    "CLUSTER GETKEYSINSLOT and COUNTKEYSINSLOT tell of keys, and Valkey's db= lets them pass";

/// Every reason there is before the reference, which has no rules about databases ([`OF_DATABASES`]); but for [`NAME_WITH_NUL`], which is
/// needed by chance.
pub(crate) const ALL: [&str; 8] = [AMBIGUOUS, UNSUPPORTED, CONTROL, REFUSED, SORT, SET, NO_KEYS, PFMERGE];

/// Those that rules about databases need, before a Valkey that knows such rules.
pub(crate) const OF_DATABASES: [&str; 5] = [DATABASE, EVERY, SCRIPT, MIGRATE, SLOTS];

/// What reaches all databases for Valkey too.
const EVERY_TO_VALKEY: [&str; 4] =
    ["flushall", "cluster|flushslot", "cluster|cancelslotmigrations", "cluster|migrateslots"];

/// The reason for a denial of ours that rests on `db=`, where some of the rules has one. Which word of the denial speaks
/// may differ then: another selector may have come further.
pub(crate) fn reason_of_databases(entry: &Entry, words: &Words<'_>, ours: Said) -> Option<&'static str> {
    let differs =
        |word: &[u8]| matches!(word, b"-1" | b"01" | b"+1" | b"-" | b"" | b"99999999999") || word.contains(&0);
    match (ours, entry.reach) {
        (Said::Allowed | Said::Ambiguous, _) => None,
        (_, Reach::All) if !EVERY_TO_VALKEY.contains(&entry.full_name) => Some(EVERY),
        (_, Reach::Script) => Some(SCRIPT),
        (_, Reach::Named) if entry.full_name == "migrate" => Some(MIGRATE),
        (_, Reach::Named) if words.iter().skip(1).any(differs) => Some(DATABASE),
        (_, Reach::Own) if matches!(entry.sub, Some("GETKEYSINSLOT" | "COUNTKEYSINSLOT")) => Some(SLOTS),
        _ => None,
    }
}

/// The reason for any other difference, if there is one. That Redis denies what we allow has none.
pub(crate) fn reason(entry: &Entry, words: &Words<'_>, ours: Said, theirs: Said) -> Option<&'static str> {
    const KNOWN: [&[u8]; 8] = [b"NX", b"XX", b"GET", b"KEEPTTL", b"EX", b"PX", b"EXAT", b"PXAT"];
    if ours == Said::Allowed {
        return None;
    }
    let says = |option: &[u8]| words.iter().skip(2).any(|word| word.eq_ignore_ascii_case(option));
    let unknown = |word: &[u8]| !KNOWN.iter().any(|known| word.eq_ignore_ascii_case(known));
    match ours {
        Said::Ambiguous => Some(AMBIGUOUS),
        Said::Denied(Subject::Command) if entry.effect == Effect::Unsupported => Some(UNSUPPORTED),
        Said::Denied(Subject::Command) if entry.effect == Effect::AccessControl => Some(CONTROL),
        Said::Denied(Subject::Key) if each_key(entry, words, &mut Vec::new(), |_, _| true) == Seen::Unknown => {
            Some(REFUSED)
        }
        Said::Denied(Subject::Key) if entry.name.ends_with("STORE") && words.get(2) == Some(b"0") => Some(NO_KEYS),
        Said::Denied(Subject::Key) if entry.name == "PFMERGE" && words.declared() == 2 => Some(PFMERGE),
        Said::Denied(Subject::Key)
            if matches!(entry.layout, Layout::Sort | Layout::SortReadOnly) && (says(b"BY") || says(b"GET")) =>
        {
            Some(SORT)
        }
        Said::Denied(Subject::Key) if entry.name == "DELEX" && words.declared() > 2 => Some(SET),
        Said::Denied(Subject::Key) if entry.name == "SET" && words.iter().skip(3).any(unknown) => Some(SET),
        _ => None,
    }
    .filter(|_| !matches!((ours, theirs), (Said::Denied(_), Said::Denied(_))))
}
