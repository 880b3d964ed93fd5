//! The lookup, and what holds for every row.

use super::*;
use crate::command::{Effect, PubSub, Resolved};
use crate::resp::Span;
use proptest::prelude::*;
use std::collections::HashMap;

/// Calls `then` with words laid out one behind the other, `declared` of them promised.
pub(crate) fn with_words<T>(words: &[&[u8]], declared: usize, then: impl FnOnce(&Words<'_>) -> T) -> T {
    let mut input = Vec::new();
    let mut spans = Vec::new();
    for word in words {
        let start = u32::try_from(input.len()).unwrap();
        input.extend_from_slice(word);
        spans.push(Span { start, end: u32::try_from(input.len()).unwrap() });
    }
    then(&Words::new(&input, &spans, u32::try_from(declared).unwrap()))
}

fn resolved(words: &[&[u8]], declared: usize) -> Resolved {
    with_words(words, declared, resolve)
}

fn known(full_name: &str) -> Resolved {
    Resolved::Known(by_full_name(full_name).unwrap())
}

#[test]
fn every_row_is_found_by_its_name_in_any_case() {
    for (id, row) in iter() {
        for spell in [str::to_ascii_uppercase, str::to_ascii_lowercase, alternating] {
            let name = spell(row.name);
            let found = match row.sub {
                None if row.container => resolved(&[name.as_bytes()], 1),
                None => resolved(&[name.as_bytes(), b"x"], 2),
                Some(sub) => resolved(&[name.as_bytes(), spell(sub).as_bytes()], 2),
            };
            assert_eq!(found, Resolved::Known(id), "{}", row.full_name);
        }
        assert_eq!(by_full_name(row.full_name), Some(id));
        assert_eq!(by_full_name(&row.full_name.to_ascii_uppercase()), Some(id));
    }
}

proptest! {
    #[test]
    fn a_memory_of_the_last_command_changes_no_answer(
        asked in prop::collection::vec((0..12_usize, 0..4_usize, 0..64_usize, any::<u8>()), 1..60)
    ) {
        const NAMES: [&[u8]; 12] = [
            b"GET", b"SET", b"get", b"GeT", b"CONFIG", b"FLUSHALL", b"GETRANGE", b"GEORADIUSBYMEMBER_RO", b"XX", b"ECHO", b"", b"TTL",
        ];
        let mut recent = Recent::default();
        for (name, words, at, byte) in asked {
            let mut name = NAMES[name].to_vec();
            // Often as it is, sometimes with another byte in it.
            if let Some(place) = name.get_mut(at) {
                *place = byte;
            }
            let list: [&[u8]; 3] = [&name, b"SET", b"x"];
            let list = list.get(..words).unwrap_or_default();
            for declared in [words, words + 1] {
                let (with, without) = with_words(list, declared, |words| (recent.resolve(words), resolve(words)));
                prop_assert_eq!(with, without, "{:?}", list);
            }
        }
    }
}

fn alternating(name: &str) -> String {
    let flip = |(at, letter): (usize, char)| if at % 2 == 0 { letter.to_ascii_lowercase() } else { letter };
    name.chars().enumerate().map(flip).collect()
}

#[test]
fn a_name_must_be_whole_and_proper_to_be_found() {
    let cases: &[(&[&[u8]], usize, Resolved)] = &[
        (&[], 1, Resolved::More),
        (&[], 0, Resolved::NotAName),
        (&[b""], 1, Resolved::NotAName),
        (&[b"FLUSHALL\0"], 1, Resolved::NotAName),
        (&[b"FLUSHALL\0x"], 1, Resolved::NotAName),
        (&[b"FLUSHALL "], 1, Resolved::NotAName),
        (&[b" FLUSHALL"], 1, Resolved::NotAName),
        (&[b"FLUSHALL\r"], 1, Resolved::NotAName),
        (&[b"\"FLUSHALL\""], 1, Resolved::NotAName),
        (&["FLUſHALL".as_bytes()], 1, Resolved::NotAName),
        (&[b"CONFIG|SET"], 3, Resolved::NotAName),
        (&[&[b'A'; 65]], 1, Resolved::NotAName),
        (&[&[b'A'; 64]], 1, Resolved::UnknownCommand),
        (&[b"FLUSHALLX"], 1, Resolved::UnknownCommand),
        (&[b"FLUSHAL"], 1, Resolved::UnknownCommand),
        (&[b"POST"], 2, Resolved::UnknownCommand),
        (&[b"Host:"], 2, Resolved::UnknownCommand),
        (&[b"BF.ADD"], 3, Resolved::UnknownCommand),
        (&[b"SENTINEL"], 2, Resolved::UnknownCommand),
        (&[b"HELP"], 1, Resolved::UnknownCommand),
        (&[b"SET"], 3, known("set")),
        (&[b"config"], 1, known("config")),
        (&[b"config"], 3, Resolved::More),
        (&[b"config", b"sEt"], 4, known("config|set")),
        (&[b"command"], 1, known("command")),
        (&[b"command", b"docs"], 2, known("command|docs")),
        (&[b"DEBUG", b"anything"], 2, known("debug")),
    ];
    for (words, declared, expected) in cases {
        assert_eq!(resolved(words, *declared), *expected, "{words:?}");
    }
}

#[test]
fn a_subcommand_that_is_no_proper_name_is_unknown() {
    let config = by_full_name("config").unwrap();
    for sub in [&b"SET\0"[..], b"SET\0x", b"SET ", b"", b"NOSUCH", b"GETX", b"CAT", &[b'A'; 4096]] {
        assert_eq!(resolved(&[b"CONFIG", sub], 3), Resolved::UnknownSubcommand(config), "{sub:?}");
    }
}

#[test]
fn no_single_changed_byte_leads_to_a_row() {
    let all: HashMap<&[u8], CommandId> =
        iter().filter(|(_, row)| row.sub.is_none()).map(|(id, row)| (row.name.as_bytes(), id)).collect();
    for name in all.keys() {
        for at in 0..name.len() {
            for byte in 0..=255u8 {
                let mut changed = name.to_vec();
                changed[at] = byte;
                let expected = all.get(changed.to_ascii_uppercase().as_slice()).copied();
                assert_eq!(lookup(TOP, &changed), expected, "{changed:?}");
            }
        }
    }
}

#[test]
fn family_of_a_container_is_itself_and_its_subcommands() {
    let names = |name: &str| family(by_full_name(name).unwrap()).map(|(_, row)| row.full_name).collect::<Vec<_>>();
    assert_eq!(
        names("config"),
        ["config", "config|get", "config|help", "config|resetstat", "config|rewrite", "config|set"]
    );
    assert_eq!(names("config|set"), ["config|set"]);
    assert_eq!(names("get"), ["get"]);
}

#[test]
fn rows_are_sorted_and_containers_stand_before_their_subcommands() {
    let keys: Vec<_> = iter().map(|(_, row)| row.full_name.split_once('|').unwrap_or((row.full_name, ""))).collect();
    assert!(keys.is_sorted());
    for (id, row) in iter().filter(|(_, row)| row.sub.is_some()) {
        let container = by_full_name(&row.name.to_ascii_lowercase()).unwrap();
        assert!(container < id && container.entry().container, "{}", row.full_name);
    }
}

#[test]
fn blocking_effects_are_those_redis_flags_blocking() {
    // WAIT blocks without the flag: `waitCommand` answers when the replicas have.
    const UNFLAGGED: &[&str] = &["wait"];
    for (_, row) in iter() {
        let blocking = matches!(row.effect, Effect::Blocking | Effect::BlockingOption);
        let flagged = row.flags.any(super::super::bits::flags::BLOCKING) || UNFLAGGED.contains(&row.full_name);
        assert_eq!(blocking, flagged, "{}", row.full_name);
        assert!(!blocking || row.begin, "{} blocks without a begin line", row.full_name);
    }
}

#[test]
fn what_administers_has_a_begin_line_or_a_reason() {
    /// Flagged `admin` by Redis, yet these only look.
    const ONLY_LOOK: &[&str] = &[
        // Never go up.
        "acl|dryrun",
        "acl|getuser",
        "client|list",
        "cluster|count-failure-reports",
        "cluster|getslotmigrations",
        "cluster|replicas",
        "cluster|slaves",
        // Never goes up.
        "cluster|syncslots",
        "commandlog|get",
        "commandlog|len",
        "config|get",
        "hotkeys|get",
        "lastsave",
        "latency|doctor",
        "latency|graph",
        "latency|histogram",
        "latency|history",
        "latency|latest",
        "role",
        "slowlog|get",
        "slowlog|len",
        // Once a second on every replica's link, whose PSYNC had its line.
        "replconf",
    ];
    for (_, row) in iter().filter(|(_, row)| row.flags.any(super::super::bits::flags::ADMIN)) {
        assert_eq!(row.begin, !ONLY_LOOK.contains(&row.full_name), "{}", row.full_name);
    }
}

#[test]
fn subscription_effects_stand_on_the_six_commands_and_no_other() {
    let expected = [
        ("psubscribe", Effect::Subscribe(PubSub::Pattern)),
        ("punsubscribe", Effect::Unsubscribe(PubSub::Pattern)),
        ("ssubscribe", Effect::Subscribe(PubSub::Shard)),
        ("subscribe", Effect::Subscribe(PubSub::Channel)),
        ("sunsubscribe", Effect::Unsubscribe(PubSub::Shard)),
        ("unsubscribe", Effect::Unsubscribe(PubSub::Channel)),
    ];
    let found: Vec<_> = iter()
        .filter(|(_, row)| matches!(row.effect, Effect::Subscribe(_) | Effect::Unsubscribe(_)))
        .map(|(_, row)| (row.full_name, row.effect))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn lookup_probes_are_short() {
    let mut extra = 0;
    let mut longest = 0;
    for home in (0..SLOTS).filter(|at| INDEX[*at].len != 0) {
        let Slot { words, len, parent, .. } = INDEX[home];
        let distance = (home + SLOTS - Key { words, len, parent }.slot()) % SLOTS;
        extra += distance;
        longest = longest.max(distance);
    }
    assert!(extra < 150 && longest < 8, "{extra} extra probes over {COUNT} rows, {longest} at most: badly spread");
}

#[test]
fn upper_changes_letters_and_nothing_else() {
    for byte in 0..=255u8 {
        let word = u64::from_le_bytes([byte, b'a', 0xff, byte, b'Z', 0x80, b'{', byte]);
        assert_eq!(upper(word).to_le_bytes(), word.to_le_bytes().map(|byte| byte.to_ascii_uppercase()), "{byte}");
    }
}

#[test]
fn names_of_every_length_have_keys_of_their_own() {
    let name: Vec<u8> = (b'A'..).take(KEY_MAX + 1).collect();
    for len in 1..=KEY_MAX {
        let key = Key::new(TOP, &name[..len]).unwrap();
        for at in 0..len {
            let mut other = name[..len].to_vec();
            other[at] = 0;
            assert!(Key::new(TOP, &other) != Some(key), "byte {at} of {len} is not in the key");
        }
        assert!(Key::new(0, &name[..len]) != Some(key), "nor the container");
        assert!(len == 1 || Key::new(TOP, &name[..len - 1]) != Some(key), "nor the length");
    }
    assert!(Key::new(TOP, &name).is_none() && Key::new(TOP, b"").is_none());
}

#[test]
fn old_and_hidden_commands_have_rows_too() {
    for name in ["slaveof", "substr", "restore-asking", "pfdebug", "pfselftest", "replconf", "sync", "psync", "debug"] {
        assert!(by_full_name(name).is_some(), "{name}");
    }
}

proptest! {
    /// Whatever the words: no panic, and the row is the one a plain search finds.
    #[test]
    fn resolving_agrees_with_a_plain_search(
        name in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..30),
            prop::sample::select(ENTRIES.iter().map(|row| row.name.as_bytes().to_vec()).collect::<Vec<_>>()),
        ],
        sub in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..30),
            prop::sample::select(ENTRIES.iter().filter_map(|row| row.sub).map(|sub| sub.as_bytes().to_vec()).collect::<Vec<_>>()),
        ],
    ) {
        let top = iter().find(|(_, row)| row.sub.is_none() && name.eq_ignore_ascii_case(row.name.as_bytes()));
        let expected = match top {
            None if is_name(&name) => Resolved::UnknownCommand,
            None => Resolved::NotAName,
            Some((id, row)) if !row.container => Resolved::Known(id),
            Some((id, row)) => iter()
                .find(|(_, other)| other.name == row.name && other.sub.is_some_and(|other| sub.eq_ignore_ascii_case(other.as_bytes())))
                .map_or(Resolved::UnknownSubcommand(id), |(id, _)| Resolved::Known(id)),
        };
        prop_assert_eq!(resolved(&[&name, &sub], 2), expected);
    }
}
