//! Lines of plain words: the same words as splitting at blanks gives, or a refusal; without leave, `PING` alone.

use super::Cuts;
use ravelin::resp::{
    INLINE_MAX, encode,
    request::{Request, RequestLimits, RequestParser},
};

const LIMITS: RequestLimits = RequestLimits { words_max: 16, bulk_max: 1 << 20, blanks_max: 3, inline: true };

pub fn run(data: &[u8]) {
    let [seed, input @ ..] = data else { return };
    // Every line of the input by itself, and the last one with a line end, too.
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        check(line, *seed);
        if !line.ends_with(b"\n") {
            check(&[line, b"\r\n"].concat(), *seed);
        }
    }
}

/// What a line must be read as, told without any of the parser's code.
fn reference(line: &[u8]) -> Option<Vec<&[u8]>> {
    let text = line.strip_suffix(b"\r\n")?;
    let plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\'' | b'\\');
    if !text.first()?.is_ascii_alphabetic() || !text.iter().all(plain) || line.len() > INLINE_MAX {
        return None;
    }
    let words: Vec<&[u8]> = text.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).collect();
    let http = ["post", "host:"].iter().any(|word| words[0].eq_ignore_ascii_case(word.as_bytes()));
    (!http && words.len() <= LIMITS.words_max as usize).then_some(words)
}

fn read(line: &[u8], limits: RequestLimits, mut more: impl FnMut() -> usize) -> Option<(usize, Vec<Vec<u8>>)> {
    let mut parser = RequestParser::new(limits);
    let mut end = 0;
    loop {
        match parser.next(&line[..end]) {
            Ok(Request::More) if end == line.len() => return None,
            Ok(Request::More) => end = end.saturating_add(more()).min(line.len()),
            Ok(Request::Inline { len }) => {
                return Some((len, parser.words(&line[..end]).iter().map(<[u8]>::to_vec).collect()));
            }
            Ok(Request::Blank { .. } | Request::Command { .. }) | Err(_) => return None,
        }
    }
}

fn check(line: &[u8], seed: u8) {
    let whole = read(line, LIMITS, || usize::MAX);
    let mut cuts = Cuts::new(seed, 9);
    assert_eq!(whole, read(line, LIMITS, || cuts.next()), "in pieces");
    let expected = reference(line).map(|words| (line.len(), words.into_iter().map(<[u8]>::to_vec).collect()));
    assert_eq!(whole, expected, "{}", line.escape_ascii());
    if let Some((_, words)) = &whole {
        let mut bytes = Vec::new();
        encode::command(&mut bytes, &words.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let mut parser = RequestParser::new(LIMITS);
        assert_eq!(parser.next(&bytes), Ok(Request::Command { len: bytes.len() }), "what goes up is canonical");
    }
    let strict = read(line, RequestLimits { inline: false, ..LIMITS }, || usize::MAX);
    let ping = line.eq_ignore_ascii_case(b"PING\r\n").then(|| (line.len(), vec![line[..4].to_vec()]));
    assert_eq!(strict, ping, "{}", line.escape_ascii());
}
