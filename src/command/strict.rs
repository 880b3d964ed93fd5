//! Which words decide something, and whether they can be read in one way only.
//!
//! Redis compares the words of its options with `strcasecmp`, which stops at a NUL: `STORE\0x` is STORE to it. Numbers
//! have been read more and more strictly over the years: `strtol` took `+1`, ` 1` and `01`, `string2ll` takes none of
//! them. So a word can mean one thing to Redis and another to whoever looks at it before. Wherever a word decides which
//! word is a key, which database is meant, or what becomes of the connection or the server, it is the word or it is
//! not: [`fault`] finds what is neither, and the session denies the command
//! ([`RuleId::NOT_CANONICAL`](crate::policy::RuleId::NOT_CANONICAL)) with the error Redis itself has for such a word.
//!
//! | what decides | where | refused |
//! |---|---|---|
//! | a number of keys | every specification that counts (EVAL, ZUNION, LMPOP, SINTERCARD, MSETEX …) | what is not `string2ll`'s, or beyond ±2^31 |
//! | options that name keys | SORT, MIGRATE, GEORADIUS, XREAD, XREADGROUP | a NUL, an option twice, one nobody knows |
//! | numbers among those | COUNT, BLOCK, CLAIM of XREAD and XREADGROUP | what is not `string2ll`'s |
//! | a database | SELECT, SWAPDB, MOVE, DB of COPY, the fourth word of MIGRATE | what is not `string2ll`'s |
//! | state of the connection | HELLO, CLIENT REPLY (`session::options`), TRACKING, CACHING, NO-EVICT, NO-TOUCH, CAPA … | a NUL; a REDIRECT that is not `string2ll`'s |
//! | how many replies there are | PREFIX of CLIENT TRACKING | one that begins with another: Redis up to 8.6 answers with an error *and* `+OK` (`checkPrefixCollisionsOrReply` returns an index that its caller takes for success) |
//! | | the options of FUNCTION LIST | a CR or LF: servers before redis#15496 repeat an unknown option as it is, and what follows reads as a reply |
//! | other connections | CLIENT KILL, PAUSE, UNBLOCK | a NUL; an id or time that is not `string2ll`'s |
//! | the server | SHUTDOWN, FAILOVER, REPLICAOF, FLUSHALL, CONFIG SET's names, DEBUG's first word … | a NUL |
//!
//! Which command it is decides most of all. How Redis finds it, and what is done here; `tests/strict_framing.rs` has an
//! end-to-end case for each row, and counts them:
//!
//! | item | Redis | here |
//! |---|---|---|
//! | case | ASCII letters of either case are equal | the same |
//! | blanks around a name | part of it: `FLUSHALL ` is unknown | `builtin/not-a-name` |
//! | NUL in a name | hashed whole and compared up to it: `FLUSHALL\0x` is FLUSHALL for one tail in 256 | `builtin/not-a-name` |
//! | NUL in a subcommand | the same for one tail in 7; up to 6.2 every tail | `builtin/unknown-command` |
//! | other bytes in a name | whatever `rename-command` or a module has chosen | `builtin/not-a-name` outside `[A-Za-z0-9._:-]{1,64}` |
//! | `CONFIG\|SET` | no name on the wire | `builtin/not-a-name` |
//! | aliases | SLAVEOF is REPLICAOF, SUBSTR is GETRANGE, RESTORE-ASKING is RESTORE … | each has its row; presets deny them together, `check` warns of a twin left open |
//! | renamed commands | a name nobody can know | `builtin/unknown-command` |
//! | commands of modules | `BF.ADD`, `FT.SEARCH` | `builtin/unknown-command` |
//! | unknown subcommands | an error, or a later release's | `builtin/unknown-command` |
//! | wrong number of words | an error; EXEC's ends the transaction or keeps it, by release | an error; those that change state are answered here |
//! | several pairs of CONFIG SET | all are set, from 7.0 on | denied whole or allowed whole, every name shown or hidden by itself |
//! | flags of COMMAND | differ by release | the catalog alone decides, whatever the server says of itself |
//! | scripts | run any command that is not `noscript` | denied by the default preset; `check` warns where they are open |
//! | MONITOR, SLOWLOG | do not show admin commands and AUTH | the record is written here, of every command |
//!
//! What is canonical and wrong (`EVAL s -1`, `XREAD STREAMS a b 0`) goes up: every server refuses it in its own words.
//! So does every word that decides none of these: `INCRBY k +1`, the options of SET and ZADD, the LIMIT of SORT.
//!
//! Sources: the parsers named in [`super::Entry::source`]. Shown by `tests/strict_options.rs`, which puts such words
//! into every option and number of every command and looks at what the server really touched.

use super::{Entry, keys};
use crate::resp::{Words, number};

/// What is wrong with a deciding word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A number that is not in the one form every version reads alike.
    Number,
    /// An option that holds a NUL, stands twice where the last one counts, or is known to nobody.
    Word,
}

/// What must hold for words of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The word at this index is a number.
    Number(u8),
    /// The word at this index holds no NUL.
    Plain(u8),
    /// From this index on stand options. Behind these stands one word, which is a number or any text; no other word
    /// holds a NUL.
    Options(u8, &'static [(&'static str, Value)]),
    /// From this index on every second word is a name: no NUL in it.
    Names(u8),
    /// From this index on no word holds a CR or LF.
    Lines(u8),
    /// What stands behind each such option is no prefix of what stands behind another one.
    Apart(u8, &'static str),
}

/// Most prefixes one CLIENT TRACKING may name. Whether they are apart takes a comparison of each with each.
pub const PREFIXES_MAX: usize = 256;

/// What stands behind an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number that decides.
    Number,
    /// Any bytes.
    Text,
}

use Rule::{Apart, Lines, Names, Number, Options, Plain};

/// The rules, by the command's full name; read at compile time into [`Entry::rules`].
#[rustfmt::skip]
pub(super) const RULES: &[(&str, &[Rule])] = &[
    ("bgsave",               &[Options(1, &[])]),
    ("client|caching",       &[Options(2, &[])]),
    ("client|capa",          &[Options(2, &[])]),
    ("client|import-source", &[Options(2, &[])]),
    ("client|kill",          &[Options(2, &[("ID", Value::Number), ("MAXAGE", Value::Number)])]),
    ("client|no-evict",      &[Options(2, &[])]),
    ("client|no-touch",      &[Options(2, &[])]),
    ("client|pause",         &[Number(2), Options(3, &[])]),
    ("client|tracking",      &[Options(2, &[("REDIRECT", Value::Number), ("PREFIX", Value::Text)]), Apart(2, "PREFIX")]),
    ("client|unblock",       &[Number(2), Options(3, &[])]),
    ("cluster|failover",     &[Options(2, &[])]),
    ("cluster|reset",        &[Options(2, &[])]),
    ("cluster|setslot",      &[Number(2), Options(3, &[])]),
    ("config|set",           &[Names(2)]),
    ("copy",                 &[Options(3, &[("DB", Value::Number)])]),
    ("debug",                &[Plain(1)]),
    ("failover",             &[Options(1, &[("TIMEOUT", Value::Number)])]),
    ("flushall",             &[Options(1, &[])]),
    ("flushdb",              &[Options(1, &[])]),
    ("function|flush",       &[Options(2, &[])]),
    ("function|list",        &[Lines(2)]),
    ("migrate",              &[Number(4)]),
    ("move",                 &[Number(2)]),
    ("replicaof",            &[Options(1, &[])]),
    ("script|flush",         &[Options(2, &[])]),
    ("shutdown",             &[Options(1, &[])]),
    ("slaveof",              &[Options(1, &[])]),
    ("swapdb",               &[Number(1), Number(2)]),
];

/// Whether a word of this command that decides can be read in more than one way. `scratch` is only written to.
///
/// `words` is a whole request, or one that is [`keys::settled`]. Asked of a command whose [`Entry::deciding`] is false,
/// the answer is that there is none.
#[must_use]
pub fn fault(entry: &Entry, words: &Words<'_>, scratch: &mut Vec<u32>) -> Option<Fault> {
    entry.rules.iter().find_map(|rule| broken(*rule, words)).or_else(|| keys::ambiguity(entry, words, scratch))
}

fn broken(rule: Rule, words: &Words<'_>) -> Option<Fault> {
    match rule {
        Number(at) => number_fault(words.get(usize::from(at))),
        Plain(at) => words.get(usize::from(at)).filter(|word| has_nul(word)).map(|_| Fault::Word),
        Names(from) => words.iter().skip(usize::from(from)).step_by(2).any(has_nul).then_some(Fault::Word),
        Options(from, known) => {
            let mut rest = words.iter().skip(usize::from(from));
            while let Some(word) = rest.next() {
                if has_nul(word) {
                    return Some(Fault::Word);
                }
                // A word nobody knows makes Redis refuse the command, so it does not matter what it takes behind it.
                let value = known.iter().find(|(option, _)| keys::word_is(word, option)).map(|(_, value)| *value);
                match value {
                    Some(Value::Number) => {
                        if let fault @ Some(_) = number_fault(rest.next()) {
                            return fault;
                        }
                    }
                    Some(Value::Text) => drop(rest.next()),
                    None => {}
                }
            }
            None
        }
        Lines(from) => {
            let mut words = words.iter().skip(usize::from(from));
            words.any(|word| word.iter().any(|byte| matches!(byte, b'\r' | b'\n'))).then_some(Fault::Word)
        }
        Apart(from, option) => {
            let mut prefixes: Vec<&[u8]> = Vec::new();
            let mut rest = words.iter().skip(usize::from(from));
            while let Some(word) = rest.next() {
                let Some(new) = keys::word_is(word, option).then(|| rest.next()).flatten() else { continue };
                let overlaps = prefixes.iter().any(|old| old.starts_with(new) || new.starts_with(old));
                if overlaps || prefixes.len() >= PREFIXES_MAX {
                    return Some(Fault::Word);
                }
                prefixes.push(new);
            }
            None
        }
    }
}

fn number_fault(word: Option<&[u8]>) -> Option<Fault> {
    word.filter(|word| number::canonical_i64(word).is_none()).map(|_| Fault::Number)
}

fn has_nul(word: &[u8]) -> bool {
    word.contains(&0)
}

/// The rules of the command called so, found at compile time.
pub(super) const fn rules_of(full_name: &str) -> &'static [Rule] {
    let mut at = 0;
    #[expect(clippy::indexing_slicing, reason = "evaluated at compile time only")]
    while at < RULES.len() {
        if super::catalog::same(RULES[at].0.as_bytes(), full_name.as_bytes()) {
            return RULES[at].1;
        }
        at += 1;
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::{Fault, PREFIXES_MAX, RULES, fault};
    use crate::command::{
        Effect, Resolved,
        catalog::{self, tests::with_words},
        keys, resolve,
    };

    fn faulty(line: &str) -> Option<Fault> {
        let words: Vec<Vec<u8>> = line.split(' ').map(|word| word.replace("\\0", "\0").into_bytes()).collect();
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        with_words(&words, words.len(), |words| {
            let Resolved::Known(id) = resolve(words) else { panic!("{line} is no command") };
            let found = fault(id.entry(), words, &mut vec![7]);
            assert!(found.is_none() || id.entry().deciding, "{line}: nobody would ask");
            found
        })
    }

    #[test]
    fn a_deciding_word_is_the_word_or_it_is_not() {
        for line in [
            "SORT k STORE\\0x d",
            "SORT k STORE\\0 d",
            "SORT k BY\\0 nosort",
            "SORT k STORE d STORE e",
            "SORT k NOSUCH",
            "GEORADIUS k 1 2 3 m STORE\\0 d",
            "GEORADIUS k 1 2 3 m STORE d STOREDIST e",
            "XREAD STREAMS\\0 k 0",
            "XREAD BLOCK\\0 0 STREAMS k 0",
            "XREADGROUP GROUP g c NOACK\\0 STREAMS k >",
            "MIGRATE h 1 k 0 10 COPY\\0",
            "CLIENT TRACKING ON\\0",
            "CLIENT TRACKING ON BCAST\\0x",
            "CLIENT TRACKING ON BCAST PREFIX a\\0b NOLOOP\\0",
            "CLIENT TRACKING ON BCAST PREFIX a PREFIX b PREFIX b",
            "CLIENT TRACKING ON BCAST prefix a PREFIX bc PREFIX b",
            "CLIENT NO-EVICT on\\0",
            "CLIENT NO-TOUCH on\\0",
            "CLIENT CACHING yes\\0",
            "CLIENT KILL SKIPME\\0 yes",
            "CLIENT PAUSE 1 WRITE\\0",
            "CLIENT UNBLOCK 1 ERROR\\0",
            "COPY a b DB\\0 1",
            "COPY a b REPLACE\\0",
            "COPY a b NOSUCH DB\\0 1",
            "SHUTDOWN NOSAVE\\0",
            "FAILOVER ABORT\\0",
            "REPLICAOF NO\\0 ONE",
            "SLAVEOF no one\\0",
            "FLUSHALL ASYNC\\0",
            "CONFIG SET maxmemory 0 dir\\0 /",
            "DEBUG RELOAD\\0",
            "FUNCTION LIST x\r\n$5\r\nhello",
            "FUNCTION LIST LIBRARYNAME x\n",
        ] {
            assert_eq!(faulty(line), Some(Fault::Word), "{line}");
        }
    }

    #[test]
    fn a_deciding_number_is_canonical() {
        for number in ["+1", "01", "00", "-0", "-01", "1\\0", "\\01", "1x", "1.0", "1e0", "0x1", "", "\t1"] {
            for line in [
                "EVAL s # k",
                "ZUNION # k",
                "ZUNIONSTORE d # k",
                "LMPOP # k LEFT",
                "SINTERCARD # k",
                "MSETEX # k v",
                "FCALL f # k",
                "SWAPDB # 0",
                "SWAPDB 0 #",
                "MOVE k #",
                "COPY a b DB #",
                "COPY a b REPLACE DB #",
                "MIGRATE h 1 k # 10",
                "CLIENT TRACKING ON REDIRECT #",
                "CLIENT KILL ID #",
                "CLIENT PAUSE #",
                "CLIENT UNBLOCK #",
                "XREAD COUNT # STREAMS k 0",
                "XREAD BLOCK # STREAMS k 0",
                "XREADGROUP GROUP g c CLAIM # STREAMS k >",
            ] {
                assert_eq!(faulty(&line.replace('#', number)), Some(Fault::Number), "{line} with {number}");
            }
        }
        for beyond in ["2147483648", "9223372036854775807", "-9223372036854775808"] {
            assert_eq!(faulty(&format!("LMPOP {beyond} k LEFT")), Some(Fault::Number), "{beyond}");
        }
    }

    #[test]
    fn what_is_canonical_goes_up_even_where_redis_will_refuse_it() {
        for line in [
            "EVAL s 0",
            "EVAL s -1",
            "EVAL s 9 k",
            "ZUNION 0 k",
            "LMPOP 2147483647 k LEFT",
            "SORT k",
            "SORT k LIMIT +0 01 STORE d",
            "SORT k STORE",
            "SORT k LIMIT 0",
            "XREAD STREAMS a b 0",
            "XREAD COUNT 1",
            "MIGRATE h 1 k 0 10 KEYS a",
            "MIGRATE h 1 k 0 10 AUTH",
            "GEORADIUS k 1 2 3 m STORE",
            "COPY a b DB -1",
            "COPY a b DB",
            "COPY a b NOSUCH 01",
            "MOVE k 99",
            "SWAPDB 0 -1",
            "CLIENT TRACKING ON BCAST PREFIX a\\0b PREFIX DB\\0",
            "CLIENT TRACKING ON BCAST PREFIX PREFIX PREFIX a PREFIX",
            "CLIENT TRACKING maybe",
            "CONFIG SET requirepass a\\0b",
            "DEBUG OBJECT a\\0b",
            "INCRBY k +1",
            "SET k v EX 01 GET\\0",
            "ZADD k NX\\0 1 a",
            "SELECT +1",
        ] {
            assert_eq!(faulty(line), None, "{line}");
        }
    }

    #[test]
    fn prefixes_are_compared_each_with_each_up_to_a_limit() {
        let line = |count: usize| {
            let prefixes: String = (0..count).map(|n| format!(" PREFIX {n:05}")).collect();
            faulty(&format!("CLIENT TRACKING ON BCAST{prefixes}"))
        };
        assert_eq!(line(PREFIXES_MAX), None);
        assert_eq!(line(PREFIXES_MAX + 1), Some(Fault::Word));
    }

    #[test]
    fn every_rule_is_a_commands() {
        for (name, rules) in RULES {
            let id = catalog::by_full_name(name).unwrap_or_else(|| panic!("{name} is no command"));
            assert_eq!(id.entry().rules, *rules, "{name} has rules twice");
            assert!(id.entry().deciding);
        }
    }

    /// Commands of the commonest kind pay nothing.
    #[test]
    fn a_command_whose_only_key_has_its_place_has_nothing_to_decide() {
        let mut free = 0;
        for (_, entry) in catalog::iter().filter(|(_, entry)| entry.rules.is_empty()) {
            if keys::only(entry).is_some() {
                assert!(!entry.deciding, "{}", entry.full_name);
                free += 1;
            }
        }
        assert!(free > 150, "{free}");
    }

    /// State is decided by words: whoever adds such a command says here which ones are read, or that there is none.
    #[test]
    fn every_command_that_changes_state_has_rules_or_a_reader_of_its_own() {
        const NO_DECIDING_WORD: &[&str] =
            &["asking", "client|setinfo", "client|setname", "readonly", "readwrite", "unwatch", "watch"];
        for (_, entry) in catalog::iter().filter(|(_, entry)| entry.effect == Effect::State) {
            let listed = NO_DECIDING_WORD.contains(&entry.full_name);
            assert!(listed == entry.rules.is_empty(), "{}", entry.full_name);
        }
    }
}
