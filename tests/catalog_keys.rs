//! Where the keys are, against the real Redis' `COMMAND GETKEYS`: every catalogued command that has keys, in many valid
//! shapes. Where we and Redis differ, a row of [`DISAGREEMENTS`] says why, and must still be true.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod support;

use ravelin::command::keys::{self, Begin, Find, Keys, Layout};
use ravelin::command::{Entry, Resolved, catalog, resolve};
use ravelin::resp::{Span, Words};
use std::os::unix::net::UnixStream;
use support::redis::Redis;
use support::wire::{Reply, Wire};

/// What we or Redis make of one command line.
#[derive(Debug, PartialEq)]
enum Answer {
    Keys(Vec<String>),
    /// We: undeterminable. Redis: an error.
    Refused,
}

fn ours(line: &[String]) -> Answer {
    let mut input = Vec::new();
    let mut spans = Vec::new();
    for word in line {
        let start = u32::try_from(input.len()).unwrap();
        input.extend_from_slice(word.as_bytes());
        spans.push(Span { start, end: u32::try_from(input.len()).unwrap() });
    }
    let words = Words::new(&input, &spans, u32::try_from(line.len()).unwrap());
    let Resolved::Known(id) = resolve(&words) else { panic!("{line:?} does not resolve") };
    let mut found = Vec::new();
    match keys::find(id.entry(), &words, &mut found) {
        Keys::Exact => Answer::Keys(found.iter().map(|at| line[*at as usize].clone()).collect()),
        Keys::Undeterminable => Answer::Refused,
    }
}

fn theirs(wire: &mut Wire<UnixStream>, line: &[String]) -> Answer {
    let mut command = vec!["COMMAND".to_owned(), "GETKEYS".to_owned()];
    command.extend_from_slice(line);
    match wire.call(&command) {
        Reply::Error(text) if text.contains("no key arguments") => Answer::Keys(Vec::new()),
        Reply::Error(_) => Answer::Refused,
        reply => Answer::Keys(reply.elements().iter().map(Reply::text).collect()),
    }
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(|word| if word == "''" { String::new() } else { word.replace("\\0", "\0") }).collect()
}

/// Command lines of every arity up to five words more than the least, and of every number of keys that fits.
fn generated(row: &Entry) -> Vec<Vec<String>> {
    let least = usize::from(row.arity.unsigned_abs());
    let most = if row.arity < 0 { least + 5 } else { least };
    let mut lines = Vec::new();
    for argc in least..=most {
        let mut line: Vec<String> = (0..argc).map(|at| format!("w{at}")).collect();
        line[0] = row.name.to_owned();
        if let Some(sub) = row.sub {
            line[1] = sub.to_owned();
        }
        let number = row.keys.iter().find_map(|spec| match (spec.begin, spec.find) {
            (Begin::Index(begin), Find::Count { at, first, step }) => {
                Some([begin + at, begin + first, step].map(usize::from))
            }
            _ => None,
        });
        let Some([number, first, step]) = number else {
            lines.push(line);
            continue;
        };
        for count in 1..=argc.saturating_sub(first).div_ceil(step) {
            line[number] = count.to_string();
            lines.push(line.clone());
        }
    }
    lines
}

/// Valid shapes of the commands whose options decide where keys are.
const SHAPES: &[&str] = &[
    "SORT k",
    "SORT k STORE d",
    "SORT k ASC ALPHA LIMIT 0 1 BY w* GET x* GET # STORE d",
    "SORT k store d DESC",
    "SORT k BY store GET store STORE store",
    "SORT k LIMIT 0 1 STORE d LIMIT 2 3",
    "SORT_RO k",
    "SORT_RO k BY w* GET # LIMIT 0 1 ALPHA DESC",
    "MIGRATE h 1 k 0 10",
    "MIGRATE h 1 k 0 10 COPY REPLACE",
    "MIGRATE h 1 k 0 10 AUTH p",
    "MIGRATE h 1 k 0 10 COPY AUTH2 u p REPLACE",
    "MIGRATE h 1 '' 0 10 KEYS a",
    "MIGRATE h 1 '' 0 10 COPY AUTH p KEYS a b c",
    "MIGRATE h 1 '' 0 10 AUTH2 u p keys a KEYS c",
    "GEORADIUS k 1 2 3 m",
    "GEORADIUS k 1 2 3 m STORE",
    "GEORADIUS k 1 2 3 m STORE d",
    "GEORADIUS k 1 2 3 m storedist d",
    "GEORADIUS k 1 2 3 m WITHCOORD WITHDIST WITHHASH ASC",
    "GEORADIUS k 1 2 3 m COUNT 5 ANY DESC STORE d",
    "GEORADIUSBYMEMBER k m 3 km",
    "GEORADIUSBYMEMBER k m 3 km COUNT 1 STOREDIST d",
    "GEORADIUSBYMEMBER STORE STORE 3 km ASC STORE d",
    "XREAD STREAMS k 0",
    "XREAD STREAMS a b 0 1",
    "XREAD COUNT 2 STREAMS a b c 0 1 2",
    "XREAD BLOCK 0 COUNT 2 streams a $",
    "XREAD COUNT -1 STREAMS STREAMS 0",
    "XREADGROUP GROUP g c STREAMS k >",
    "XREADGROUP GROUP g c COUNT 1 BLOCK 5 NOACK STREAMS a b > >",
    "XREADGROUP GROUP STREAMS c STREAMS k >",
    "EVAL s 0",
    "EVAL s 0 a b",
    "FCALL_RO f 0",
];

/// Where we say something else than `COMMAND GETKEYS`: command line, what we say (nothing: refused), why.
const DISAGREEMENTS: &[(&str, Option<&[&str]>, &str)] = &[
    (
        "GEORADIUS k 1 2 3 m STORE d1 STORE d2",
        None,
        "GETKEYS names d1, georadiusGeneric writes d2 (redis#15478): a destination given twice is refused",
    ),
    ("GEORADIUS k 1 2 3 m STORE d1 STOREDIST d2", None, "likewise: only the last one is written, GETKEYS names both"),
    ("SORT k STORE d1 STORE d2", None, "a destination given twice is refused, whichever of them Redis writes"),
    ("SORT k STORE\\0x d", None, "Redis compares up to the NUL and writes d; an option with a NUL is refused"),
    ("GEORADIUS k 1 2 3 m STORE\\0x d", None, "likewise"),
    ("XREAD STREAMS\\0x k 0", None, "likewise"),
    ("MIGRATE h 1 '' 0 10 KEYS\\0x a", None, "likewise"),
    ("SORT k NOSUCH", None, "a syntax error to Redis; another version's option may take a key"),
    ("GEORADIUS k 1 2 3 m NOSUCH", None, "likewise"),
    ("MIGRATE h 1 k 0 10 NOSUCH", None, "likewise"),
    ("MIGRATE h 1 k 0 10 KEYS a", Some(&[]), "refused by every version, before any key is looked at"),
    ("PFMERGE w1", Some(&["w1"]), "GETKEYS fails where the sources' specification has no words; PFMERGE d makes d"),
];

fn compare(wire: &mut Wire<UnixStream>, line: &[String]) -> Result<(), String> {
    let (ours, theirs) = (ours(line), theirs(wire, line));
    if ours == theirs { Ok(()) } else { Err(format!("{line:?}: ours {ours:?}, Redis' {theirs:?}")) }
}

#[test]
fn keys_are_those_getkeys_reports_for_every_command() {
    let redis = Redis::start();
    let mut wire = redis.connect();
    let mut differing = Vec::new();
    let mut compared = 0;
    let mut known =
        |row: &Entry| row.since.is_none() || wire.call(&["COMMAND", "INFO", row.full_name]).elements() != [Reply::Null];
    let rows: Vec<_> = catalog::iter().map(|(_, row)| row).filter(|row| known(row)).collect();
    for row in rows.into_iter().filter(|row| row.layout == Layout::Specified && !row.container) {
        for line in generated(row) {
            if line.len() == 1 {
                // GETKEYS takes no command of one word; such a command has no room for a key either.
                assert_eq!(ours(&line), Answer::Keys(Vec::new()), "{line:?}");
                continue;
            }
            if DISAGREEMENTS.iter().any(|(known, ..)| words(known) == line) {
                continue;
            }
            compared += 1;
            differing.extend(compare(&mut wire, &line).err());
        }
    }
    assert!(differing.is_empty(), "{} of {compared}:\n{}", differing.len(), differing.join("\n"));
    assert!(compared > 1000, "only {compared} command lines were generated");
}

/// Redis refuses such a command and touches no key; a record that named one would be wrong.
#[test]
fn a_number_of_keys_beyond_the_words_names_none_and_is_refused() {
    let redis = Redis::start();
    let mut wire = redis.connect();
    for line in
        ["EVAL s 3 a b", "ZUNION 3 a b", "ZUNIONSTORE d 3 a b", "SINTERCARD 2 a", "LMPOP 9 a LEFT", "MSETEX 3 a 1 b 2"]
    {
        let line = words(line);
        if wire.call(&["COMMAND", "INFO", &line[0]]).elements() == [Reply::Null] {
            continue;
        }
        assert!(matches!(ours(&line), Answer::Keys(found) if found.iter().all(|key| key == "d")), "{line:?}");
        let error = wire.call(&line);
        assert!(error.error().is_some(), "{line:?}: {error:?}");
    }
}

#[test]
fn keys_behind_options_are_those_getkeys_reports() {
    let redis = Redis::start();
    let mut wire = redis.connect();
    let differing: Vec<_> = SHAPES.iter().filter_map(|line| compare(&mut wire, &words(line)).err()).collect();
    assert!(differing.is_empty(), "\n{}", differing.join("\n"));
}

#[test]
fn every_command_with_a_layout_of_its_own_has_shapes() {
    for (_, row) in catalog::iter().filter(|(_, row)| row.layout != Layout::Specified) {
        let shapes = SHAPES.iter().filter(|line| line.split(' ').next() == Some(row.name)).count();
        assert!(shapes >= 2, "{} has {shapes} shapes", row.full_name);
    }
}

#[test]
fn every_disagreement_is_still_one_and_ours_is_the_one_written_down() {
    let redis = Redis::start();
    let mut wire = redis.connect();
    for (line, expected, reason) in DISAGREEMENTS {
        let line = words(line);
        let expected =
            expected.map_or(Answer::Refused, |keys| Answer::Keys(keys.iter().map(|key| (*key).to_owned()).collect()));
        assert_eq!(ours(&line), expected, "{line:?}: {reason}");
        assert_ne!(theirs(&mut wire, &line), expected, "{line:?}: Redis agrees by now: {reason}");
    }
}
