//! The request parser: what it accepts is canonical, however it comes, and costs what the limits say.

use super::Cuts;
use ravelin::resp::{
    encode,
    request::{Request, RequestError, RequestLimits, RequestParser},
};

/// What a run over some input gave.
#[derive(Debug, PartialEq)]
enum Event {
    Blank(bool),
    Command(Vec<Vec<u8>>),
    Refused(RequestError),
}

pub fn run(data: &[u8]) {
    let [mode, seed, input @ ..] = data else { return };
    let limits = RequestLimits {
        words_max: if mode & 1 == 0 { 8 } else { 1024 },
        bulk_max: if mode & 2 == 0 { 64 } else { 1 << 20 },
        blanks_max: 3,
        inline: mode & 4 != 0,
    };
    let whole = read(input, limits, || usize::MAX);
    let mut cuts = Cuts::new(*seed, 24);
    assert_eq!(whole, read(input, limits, || cuts.next()), "in pieces");
    if input.len() <= 512 {
        assert_eq!(whole, read(input, limits, || 1), "byte by byte");
    }
    let mut cuts = Cuts::new(*seed, 24);
    streamed(input, limits, &whole, usize::from(*seed), || cuts.next());
}

fn encoded(words: &[Vec<u8>]) -> Vec<u8> {
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let mut out = Vec::new();
    encode::command(&mut out, &words);
    out
}

/// Reads everything, given so many more bytes at a time.
fn read(input: &[u8], limits: RequestLimits, mut more: impl FnMut() -> usize) -> Vec<Event> {
    let mut parser = RequestParser::new(limits);
    let (mut at, mut end, mut known, mut events) = (0, 0, 0, Vec::new());
    loop {
        let seen = &input[at..end];
        let result = parser.next(seen);
        // Eight bytes a word, twice while the list grows; a thousand places are kept.
        let places = (seen.len() / 6 + 4).max(1024) * 16;
        assert!(parser.memory() <= places, "{} bytes for {} bytes of input", parser.memory(), seen.len());
        match result {
            Err(error) => {
                assert_eq!(parser.next(&input[at..]), Err(error), "a refusal is final");
                events.push(Event::Refused(error));
                return events;
            }
            Ok(Request::More) if end == input.len() => return events,
            Ok(Request::More) => {
                known = parser.known_len();
                end = end.saturating_add(more()).min(input.len());
            }
            Ok(Request::Blank { len, request }) => {
                assert!((1..=seen.len()).contains(&len));
                events.push(Event::Blank(request));
                at += len;
            }
            Ok(Request::Command { len } | Request::Inline { len }) => {
                let words: Vec<Vec<u8>> = parser.words(seen).iter().map(<[u8]>::to_vec).collect();
                assert!(words.len() <= limits.words_max as usize);
                if matches!(result, Ok(Request::Command { .. })) {
                    assert_eq!(encoded(&words), &seen[..len], "accepted, but not canonical");
                    assert!(words.iter().all(|word| word.len() as u64 <= limits.bulk_max));
                    assert!(known <= len as u64, "{known} bytes were said to be known of {len}");
                }
                events.push(Event::Command(words));
                at += len;
            }
        }
        if !matches!(result, Ok(Request::More)) {
            known = 0;
        }
    }
}

/// The same, but every command that is not whole after `patience` bytes is streamed: what is let go is the same bytes,
/// and never the whole of what is refused.
fn streamed(input: &[u8], limits: RequestLimits, whole: &[Event], patience: usize, mut more: impl FnMut() -> usize) {
    let mut parser = RequestParser::new(limits);
    let mut expected = whole.iter();
    let (mut at, mut end) = (0, 0);
    let mut passed: Option<Vec<u8>> = None;
    loop {
        if let Some(bytes) = &mut passed {
            match parser.stream(&input[at..end]) {
                Err(_) => {
                    assert!(matches!(expected.next(), Some(Event::Refused(_))), "only the streamed one is refused");
                    let mut reader = RequestParser::new(limits);
                    assert_eq!(reader.next(bytes), Ok(Request::More), "what was let go is a whole command, or none");
                    return;
                }
                Ok(piece) => {
                    bytes.extend_from_slice(&input[at..at + piece.len]);
                    at += piece.len;
                    if piece.last {
                        let Some(Event::Command(words)) = expected.next() else {
                            panic!("only the streamed one is one")
                        };
                        assert_eq!(encoded(words), *bytes, "what was let go is not the command");
                        passed = None;
                        continue;
                    }
                }
            }
            if end == input.len() {
                assert!(expected.next().is_none_or(|event| matches!(event, Event::Refused(_))), "not let go whole");
                return;
            }
            end = end.saturating_add(more()).min(input.len());
            continue;
        }
        match parser.next(&input[at..end]) {
            Err(error) => return assert_eq!(expected.next(), Some(&Event::Refused(error))),
            Ok(Request::More) => {
                if end - at > patience {
                    let known = parser.known_len();
                    let len = parser.split(&input[at..end]);
                    assert_eq!(parser.known_len(), known, "splitting forgets nothing");
                    if len > 0 {
                        passed = Some(input[at..at + len].to_vec());
                        at += len;
                        continue;
                    }
                }
                if end == input.len() {
                    return assert_eq!(expected.next(), None);
                }
                end = end.saturating_add(more()).min(input.len());
            }
            Ok(Request::Blank { len, request }) => {
                assert_eq!(expected.next(), Some(&Event::Blank(request)));
                at += len;
            }
            Ok(Request::Command { len } | Request::Inline { len }) => {
                let words = parser.words(&input[at..end]).iter().map(<[u8]>::to_vec).collect();
                assert_eq!(expected.next(), Some(&Event::Command(words)));
                at += len;
            }
        }
    }
}
