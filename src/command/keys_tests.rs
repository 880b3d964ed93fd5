//! What GETKEYS cannot be asked: settling, refusals, and that nothing panics. The agreement with Redis is in
//! `tests/catalog_keys.rs`.

use super::*;
use crate::{
    command::catalog::{self, tests::with_words},
    resp::Span,
};
use proptest::prelude::*;

fn split(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').map(|word| word.replace("\\0", "\0").into_bytes()).collect()
}

fn with_line<T>(line: &str, whole: usize, then: impl FnOnce(&Entry, &Words<'_>) -> T) -> T {
    let words = split(line);
    let all: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    with_words(&all[..whole.min(all.len())], all.len(), |words| {
        let name = String::from_utf8_lossy(all[0]).into_owned();
        let full = catalog::by_full_name(&name).unwrap();
        let id = match all.get(1) {
            Some(sub) if full.entry().container => {
                catalog::by_full_name(&format!("{name}|{}", String::from_utf8_lossy(sub))).unwrap()
            }
            _ => full,
        };
        then(id.entry(), words)
    })
}

/// Keys of a whole line, or nothing where they are undeterminable.
fn keys_of(line: &str) -> Option<Vec<u32>> {
    let mut out = vec![99];
    let found = with_line(line, usize::MAX, |entry, words| find(entry, words, &mut out));
    match found {
        Keys::Exact => Some(out),
        Keys::Undeterminable => {
            assert!(out.is_empty(), "{line}: keys are left behind");
            None
        }
    }
}

#[test]
fn numbers_of_keys_must_be_canonical() {
    for count in [
        "+1",
        "01",
        "00",
        "-0",
        "1.0",
        "1x",
        "0x1",
        "1\\0",
        "",
        "1e0",
        "2147483648",
        "4294967297",
        "99999999999999999999",
    ] {
        for line in
            ["EVAL s # k a", "EVALSHA s # k a", "FCALL f # k", "ZUNION # k", "ZDIFFSTORE d # k", "LMPOP # k LEFT"]
        {
            assert_eq!(keys_of(&line.replace('#', count)), None, "{line} with {count}");
        }
    }
    assert_eq!(keys_of("EVAL s 2 k1 k2 a"), Some(vec![3, 4]));
    assert_eq!(keys_of("EVAL s 0 a"), Some(vec![]));
    for refused in ["EVAL s 2 k1", "EVAL s -1 k1", "ZUNION 2147483647 k"] {
        assert_eq!(keys_of(refused), Some(vec![]), "{refused}: every server refuses it");
    }
    assert_eq!(keys_of("ZUNIONSTORE d 2 a b WEIGHTS 1 2"), Some(vec![1, 3, 4]));
}

#[test]
fn what_redis_reads_leniently_is_undeterminable() {
    for line in [
        "SORT k STORE d STORE e",
        "SORT k STORE\\0 d",
        "SORT_RO k STORE d",
        "GEORADIUS k 1 2 3 m STORE a STORE b",
        "GEORADIUS k 1 2 3 m STORE a STOREDIST b",
        "GEORADIUS k 1 2 3 m STOREDIST\\0x b",
        "MIGRATE h 1 k 0 10 NOSUCH",
        "XREAD COUNT x STREAMS a 0",
        "XREAD BLOCK\\0 0 STREAMS a 0",
        "XREAD NOACK STREAMS a 0",
        "XREADGROUP GROUP g c NOSUCH STREAMS a >",
    ] {
        assert_eq!(keys_of(line), None, "{line}");
    }
}

#[test]
fn the_keys_of_what_every_server_refuses_are_those_before_the_fault() {
    for (line, keys) in [
        ("SORT k STORE", &[1][..]),
        ("SORT k LIMIT 0", &[1]),
        ("SORT k GET", &[1]),
        ("GEORADIUS k 1 2 3 m STORE", &[1]),
        ("GEORADIUSBYMEMBER k m 3 m STORE", &[1]),
        ("MIGRATE h 1 k 0 10 KEYS a", &[]),
        ("MIGRATE h 1 k 0 10 AUTH", &[]),
        ("XREAD STREAMS a b 0", &[]),
        ("XREAD COUNT 1 STREAMS", &[]),
        ("ZUNIONSTORE d 9 a", &[1]),
    ] {
        let expected = keys.to_vec();
        assert_eq!(keys_of(line).unwrap_or_else(|| panic!("{line}")), expected, "{line}");
    }
}

#[test]
fn a_command_is_settled_as_soon_as_no_later_word_can_matter() {
    // The line, and how many words must be whole.
    for (line, needed) in [
        ("PING x", 1),
        ("ECHO x", 1),
        ("SET k v", 2),
        ("SET k v EX 10", 2),
        ("GETSET k v", 2),
        ("APPEND k v", 2),
        ("HSET k f v f v", 2),
        ("XADD k * f v", 2),
        ("CONFIG SET a b", 4),
        ("OBJECT ENCODING k", 3),
        // The last key is the last word but one; its value may stream.
        ("MSET a 1 b 2", 4),
        ("MGET a b c", 4),
        ("DEL a b", 3),
        ("RENAME a b", 3),
        ("COPY a b DB 1", 5),
        ("BLPOP a b 0", 3),
        ("EVAL s 1 k a a", 4),
        ("EVAL s 0 a a", 3),
        ("EVAL s 01 k a a", 3),
        ("EVAL s 9 k a a", 3),
        ("PUBLISH c m", 1),
        ("SPUBLISH c m", 1),
        ("SORT k BY x", 4),
        ("GEORADIUS k 1 2 3 m", 6),
        ("MIGRATE h 1 k 0 1", 6),
        ("XREAD STREAMS k 0", 4),
        ("SUBSCRIBE a b", 3),
        ("AUTH u p", 3),
        ("CLIENT SETNAME n", 3),
        ("WATCH a b", 3),
        ("RESTORE k 0 v", 2),
    ] {
        let total = split(line).len();
        for whole in 1..=total {
            let container_undecided = whole == 1 && with_line(line, whole, |entry, _| entry.sub.is_some());
            let expected = whole >= needed && !container_undecided;
            assert_eq!(with_line(line, whole, settled), expected, "{line} with {whole} words");
        }
    }
}

/// What a peer declares is not what a peer has sent.
#[test]
fn keys_are_never_more_than_the_words_that_have_come() {
    for name in ["del", "mset", "migrate", "xread", "sunionstore", "touch", "watch"] {
        let start: Vec<&[u8]> = match name {
            "migrate" => vec![b"migrate", b"h", b"1", b"", b"0", b"1", b"KEYS", b"a"],
            "xread" => vec![b"xread", b"STREAMS", b"a"],
            name => vec![name.as_bytes(), b"a"],
        };
        with_words(&start, 1 << 24, |words| {
            let mut out = Vec::new();
            find(catalog::by_full_name(name).unwrap().entry(), words, &mut out);
            assert!(out.len() <= words.whole() && out.capacity() < 64, "{name}: room for {}", out.capacity());
        });
    }
}

#[test]
fn blocks_is_true_where_block_stands_among_the_options() {
    for (line, expected) in [
        ("XREAD STREAMS k 0", false),
        ("XREAD COUNT 1 STREAMS BLOCK 0", false),
        ("XREAD block 0 STREAMS k 0", true),
        ("XREADGROUP GROUP g BLOCK STREAMS k >", false),
        ("XREADGROUP GROUP g c NOACK BLOCK 0 STREAMS k >", true),
        ("XREAD BLOCK\\0x 0 STREAMS k 0", true),
        ("XREAD NOSUCH STREAMS k 0", true),
    ] {
        assert_eq!(with_line(line, usize::MAX, |_, words| blocks(words)), expected, "{line}");
    }
}

#[test]
fn only_index_specifications_stand_without_a_layout() {
    for (_, row) in catalog::iter().filter(|(_, row)| row.layout == Layout::Specified) {
        for spec in row.keys {
            let plain = matches!(
                (spec.begin, spec.find),
                (Begin::Index(_), Find::Count { .. } | Find::Range { limit: 0 | 1, step: 1.., .. })
            );
            assert!(plain, "{} needs a layout for {spec:?}", row.full_name);
        }
    }
}

/// A word that is likely to matter somewhere.
fn word() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::sample::select(vec![
            "STORE",
            "STOREDIST",
            "STREAMS",
            "KEYS",
            "COUNT",
            "BLOCK",
            "GROUP",
            "NOACK",
            "BY",
            "GET",
            "LIMIT",
            "AUTH",
            "AUTH2",
            "COPY",
            "",
            "0",
            "1",
            "2",
            "3",
            "4294967295",
            "18446744073709551615",
            "-1",
            "k",
            "STORE\0",
        ])
        .prop_map(|word| word.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ]
}

proptest! {
    /// Whatever the words, whatever is declared: no panic, indices within the request, no key at the name; and what is
    /// settled with a part of the words gives the same keys as the whole.
    #[test]
    fn keys_lie_within_the_request_and_settling_is_final(
        at in 0..catalog::len(),
        arguments in prop::collection::vec(word(), 0..9),
    ) {
        let (_, row) = catalog::iter().nth(at).unwrap();
        let mut all = vec![row.name.as_bytes().to_vec()];
        all.extend(row.sub.map(|sub| sub.as_bytes().to_vec()));
        all.extend(arguments);
        let all: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
        let mut whole_keys = Vec::new();
        let whole = with_words(&all, all.len(), |words| {
            prop_assert!(settled(row, words));
            Ok(find(row, words, &mut whole_keys))
        })?;
        let least = if row.sub.is_some() { 2 } else { 1 };
        prop_assert!(whole_keys.iter().all(|at| (least..all.len()).contains(&(*at as usize))));
        for part in 0..all.len() {
            let mut keys = Vec::new();
            with_words(&all[..part], all.len(), |words| {
                if settled(row, words) {
                    prop_assert_eq!(find(row, words, &mut keys), whole);
                    prop_assert_eq!(&keys, &whole_keys);
                }
                Ok(())
            })?;
        }
    }
}

#[test]
fn the_short_way_to_the_only_key_finds_what_the_long_way_finds() {
    let line = b"abcdef";
    let spans: Vec<Span> = (0..6).map(|at| Span { start: at, end: at + 1 }).collect();
    let mut with_one = 0;
    for (_, entry) in catalog::iter() {
        let Some(at) = only(entry) else { continue };
        with_one += 1;
        for count in 1..=6 {
            let words = Words::new(line, &spans[..count], u32::try_from(count).unwrap());
            let mut found = Vec::new();
            assert_eq!(find(entry, &words, &mut found), Keys::Exact, "{}", entry.full_name);
            let short: Vec<u32> = words.get(at).map(|_| u32::try_from(at).unwrap()).into_iter().collect();
            assert_eq!(found, short, "{} of {count} words", entry.full_name);
        }
    }
    assert!(with_one > 100, "only {with_one} commands have one key");
}
