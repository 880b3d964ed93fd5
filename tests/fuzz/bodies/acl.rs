//! ACL rules, patterns and `users.acl`: the first line of an input is what is asked about (a key, a channel, a user), the
//! others are rules, and a file, and their words are patterns.

use ravelin::{
    command::{self, CommandId, Resolved, catalog},
    policy::{
        Subject, Verdict,
        acl::{file, glob, parse},
        rules::{Described, Policy, Question, Spec},
    },
    resp::{
        encode,
        request::{Request, RequestLimits, RequestParser},
    },
};

/// `pattern × text` up to here.
const WORK_MAX: usize = 1 << 16;

/// So many words are tried as patterns.
const WORDS_MAX: usize = 8;

/// What is judged; `@` is what the input asks about.
const COMMANDS: [&str; 24] = [
    "GET @",
    "SET @ v",
    "GETEX @ PERSIST",
    "DEL a @",
    "MSET @ v k v",
    "COPY @ k",
    "COPY k @ DB 1",
    "SORT @ BY w* STORE k",
    "SORT_RO k GET @",
    "XREAD STREAMS @ k 0 0",
    "EVAL s 1 @",
    "ZUNIONSTORE k 2 a @",
    "BITFIELD_RO @ GET u8 0",
    "PUBLISH @ m",
    "SUBSCRIBE c @",
    "PSUBSCRIBE @",
    "SSUBSCRIBE @",
    "CONFIG GET @",
    "CONFIG SET dir @",
    "CLIENT KILL ID 1",
    "SELECT @",
    "SELECT 0",
    "SWAPDB 0 1",
    "PING",
];

pub fn run(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let asked = parts.next().unwrap_or_default();
    let rest = parts.next().unwrap_or_default();
    let text = String::from_utf8_lossy(rest);
    rules(&text, asked);
    users(&text, &String::from_utf8_lossy(asked));
    for word in rest.split(u8::is_ascii_whitespace).take(WORDS_MAX) {
        let pattern = word.strip_prefix(b"~").or_else(|| word.strip_prefix(b"&")).unwrap_or(word);
        if pattern.len() * (asked.len() + 1) <= WORK_MAX {
            patterns(pattern, asked);
        }
    }
}

/// An element of a pattern: a run of anything, or one byte of some.
enum Element {
    Run,
    One(Box<dyn Fn(u8) -> bool>),
}

/// A pattern element by element, as Redis' documentation and `stringmatchlen` have it.
fn elements(pattern: &[u8]) -> Vec<Element> {
    let mut elements = Vec::new();
    let mut at = 0;
    let byte = |at: usize| pattern.get(at).copied();
    while let Some(first) = byte(at) {
        at += 1;
        elements.push(match first {
            b'*' => Element::Run,
            b'?' => Element::One(Box::new(|_| true)),
            b'\\' => {
                let literal = byte(at).unwrap_or(b'\\');
                at += 1;
                Element::One(Box::new(move |byte| byte == literal))
            }
            b'[' => {
                let negated = byte(at) == Some(b'^');
                at += usize::from(negated);
                let mut ranges = Vec::new();
                while let Some(from) = byte(at).filter(|from| *from != b']') {
                    let signed = |byte: u8| byte as i8;
                    let (low, high, len) = match (from, byte(at + 1), byte(at + 2)) {
                        (b'\\', Some(literal), _) => (literal, literal, 2),
                        (_, Some(b'-'), Some(to)) => (from, to, 3),
                        _ => (from, from, 1),
                    };
                    ranges.push((signed(low).min(signed(high)), signed(low).max(signed(high))));
                    at += len;
                }
                at += 1;
                Element::One(Box::new(move |byte| {
                    ranges.iter().any(|(low, high)| (*low..=*high).contains(&(byte as i8))) != negated
                }))
            }
            literal => Element::One(Box::new(move |byte| byte == literal)),
        });
    }
    elements
}

/// Every number of elements that the text so far may have used up, side by side: nothing is gone back to.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let elements = elements(pattern);
    let runs = |reached: &mut Vec<bool>| {
        for at in 0..elements.len() {
            if reached[at] && matches!(elements[at], Element::Run) {
                reached[at + 1] = true;
            }
        }
    };
    let mut reached = vec![false; elements.len() + 1];
    reached[0] = true;
    runs(&mut reached);
    for byte in text {
        let mut next = vec![false; elements.len() + 1];
        for (at, element) in elements.iter().enumerate().filter(|(at, _)| reached[*at]) {
            match element {
                Element::Run => next[at] = true,
                Element::One(takes) => next[at + 1] |= takes(*byte),
            }
        }
        runs(&mut next);
        reached = next;
    }
    reached[elements.len()]
}

/// A pattern means the same here, in a rule about keys, and to the reference.
fn patterns(pattern: &[u8], text: &[u8]) {
    let expected = matches(pattern, text);
    let shown = || format!("{} and {}", pattern.escape_ascii(), text.escape_ascii());
    assert_eq!(glob::matches(pattern, text), expected, "{}", shown());
    let Ok(utf8) = std::str::from_utf8(pattern) else { return };
    // As a rule it is `allkeys`, which asks about no key: the empty one is taken too.
    let expected = expected || pattern == b"*";
    if let Ok(policy) = build(&format!("+get ~{utf8}")) {
        assert_eq!(verdict(&policy, &[b"GET", text]).is_ok(), expected, "as a rule: {}", shown());
    }
}

fn build(rules: &str) -> Result<Policy, String> {
    Policy::build(&Spec { rules: Some(rules), ..Spec::default() }).map_err(|errors| errors.to_string())
}

fn verdict(policy: &Policy, words: &[&[u8]]) -> Result<(), Subject> {
    let mut bytes = Vec::new();
    encode::command(&mut bytes, words);
    let limits = RequestLimits { words_max: 64, bulk_max: 1 << 20, blanks_max: 0, inline: false };
    let mut parser = RequestParser::new(limits);
    assert_eq!(parser.next(&bytes), Ok(Request::Command { len: bytes.len() }));
    let words = parser.words(&bytes);
    let Resolved::Known(id) = command::resolve(&words) else { panic!("no command") };
    let verdict = match policy.judge(id) {
        Verdict::Allow if policy.asks_words(id) => {
            policy.judge_words(&Question { id, words: &words, db: 0, own_id: None }, &mut Vec::new())
        }
        verdict => verdict,
    };
    match verdict {
        Verdict::Allow => Ok(()),
        Verdict::Deny(denial) => Err(denial.subject),
        Verdict::Shadow(_) => panic!("nothing is in shadow mode"),
    }
}

/// What each of [`COMMANDS`] is told.
fn verdicts(policy: &Policy, asked: &[u8]) -> Vec<Result<(), Subject>> {
    let told = |line: &&str| {
        let words = line.split(' ').map(|word| if word == "@" { asked } else { word.as_bytes() });
        verdict(policy, &words.collect::<Vec<_>>())
    };
    COMMANDS.iter().map(told).collect()
}

/// The commands whose name alone is not denied. A container by itself is no command.
fn open(policy: &Policy) -> Vec<CommandId> {
    let whole = |(id, _): &(CommandId, _)| policy.judge(*id).lets_through();
    catalog::iter().filter(|(_, row)| !row.container || row.sub.is_some()).filter(whole).map(|(id, _)| id).collect()
}

/// What ACL GETUSER shows of rules, as rules.
fn written(described: &[Described]) -> String {
    let selector = |shown: &Described, in_parentheses: bool| {
        let databases = match shown.databases.as_deref() {
            None => "alldbs",
            Some("") => "resetdbs",
            Some(list) => list,
        };
        let all = [&shown.commands, &shown.keys, &shown.channels, databases].join(" ");
        let mut terms: Vec<&str> = all.split_ascii_whitespace().collect();
        // In parentheses only the last one may end in one.
        terms.sort_by_key(|term| in_parentheses && term.ends_with(')'));
        terms.join(" ")
    };
    let (root, others) = described.split_first().expect("what stands outside parentheses");
    std::iter::once(selector(root, false))
        .chain(others.iter().map(|other| format!("({})", selector(other, true))))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Rules are refused with the place of each wrong word, or mean what is shown of them.
fn rules(text: &str, asked: &[u8]) {
    if let Err(errors) = parse::compile(text) {
        assert!(!errors.is_empty());
        for error in &errors {
            let there = text.get(error.offset..).expect("a place in the text");
            let word = there.split(|c: char| c.is_ascii_whitespace()).next().unwrap_or_default();
            assert!(!word.is_empty(), "{error:?}");
            if word.trim_start_matches('(').starts_with(['>', '<', '#', '!']) {
                assert!(error.term.chars().count() <= 2, "what may be a password is repeated: {error:?}");
            } else {
                assert!(word.starts_with(&error.term) && !error.term.is_empty(), "{error:?} of {word:?}");
            }
        }
        build(text).expect_err("the same rules");
        return;
    }
    let policy = build(text).expect("the same rules");
    let told = verdicts(&policy, asked);
    let described = policy.describe();
    let written = written(&described);
    let again = build(&written).unwrap_or_else(|e| panic!("{written:?}: {e}"));
    assert_eq!(open(&again), open(&policy), "{written}");
    let denied = |told: &[Result<(), Subject>]| told.iter().map(Result::is_err).collect::<Vec<_>>();
    assert_eq!(denied(&verdicts(&again, asked)), denied(&told), "{written}");
    assert_eq!(again.describe(), described);
    // The later rule wins.
    let nothing = build(&format!("{text} reset")).expect("one word more");
    assert_eq!(nothing.describe(), build("").expect("no rules").describe());
    let all = build(&format!("{text} allcommands allkeys allchannels alldbs")).expect("four words more");
    assert!(verdicts(&all, asked).iter().all(Result::is_ok), "{text}");
    let none = build(&format!("{text} clearselectors nocommands")).expect("two words more");
    assert!(verdicts(&none, asked).iter().all(Result::is_err), "{text}");
}

/// A user's rules are the words of their line that are about rules.
fn users(text: &str, name: &str) {
    let lines: Vec<Vec<&str>> = text
        .split('\n')
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>())
        .filter(|words| words.first().is_some_and(|first| !first.starts_with('#')))
        .collect();
    let wrong = lines.iter().position(|words| words[0] != "user" || words.len() < 2);
    let sound = &lines[..wrong.unwrap_or(lines.len())];
    let names: Vec<&str> = sound.iter().map(|words| words[1]).chain([name]).take(8).collect();
    for name in names {
        let mut own = sound.iter().filter(|words| words[1] == name);
        let expected = match (own.next(), own.next(), wrong) {
            (Some(words), None, None) => words,
            (first, second, _) => {
                let error = file::rules_of(text, name).expect_err("not one line for this user");
                let twice = matches!(error, file::FileError::Twice { .. });
                assert_eq!(twice, first.is_some() && second.is_some(), "{error}");
                continue;
            }
        };
        let imported = file::rules_of(text, name).expect("one line for this user");
        let is = |word: &str, other: &str| word.eq_ignore_ascii_case(other);
        let begin = expected.iter().skip(2).rposition(|word| is(word, "reset"));
        let words = &expected[begin.map_or(2, |at| at + 2)..];
        let enabled =
            words.iter().rev().find(|word| is(word, "on") || is(word, "off")).is_some_and(|word| is(word, "on"));
        let of_user = ["on", "off", "nopass", "resetpass", "sanitize-payload", "skip-sanitize-payload"];
        let rules: Vec<String> = words
            .iter()
            .filter(|word| !word.starts_with(['>', '<', '#', '!']) && !of_user.iter().any(|other| is(word, other)))
            .map(|word| if is(word, "reset") { "reset".to_owned() } else { (*word).to_owned() })
            .collect();
        assert_eq!(imported.enabled, enabled);
        assert_eq!(imported.rules, if enabled { rules.join(" ") } else { String::new() });
    }
}
