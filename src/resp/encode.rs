//! Canonical bytes for what the proxy says itself: commands to Redis, errors and statuses to clients.
//!
//! Everything is appended to a buffer the caller owns. What is encoded here is read back by
//! [`RequestParser`](super::request::RequestParser) and [`ReplyScanner`](super::reply::ReplyScanner) byte for byte.

use super::Words;

/// Appends one command: `*N`, then each word as a bulk string.
pub fn command(out: &mut Vec<u8>, words: &[&[u8]]) {
    array(out, words.len());
    for word in words {
        bulk(out, word);
    }
}

/// Appends the whole words of a request as one command, with `name` in place of the first word if it is given.
///
/// An inline request is forwarded this way, and so is a command that the upstream knows under another name.
pub fn request(out: &mut Vec<u8>, words: &Words<'_>, name: Option<&[u8]>) {
    array(out, words.whole());
    for (index, word) in words.iter().enumerate() {
        match name {
            Some(name) if index == 0 => bulk(out, name),
            _ => bulk(out, word),
        }
    }
}

/// Appends the header of an array of `count` elements.
pub fn array(out: &mut Vec<u8>, count: usize) {
    header(out, b'*', count);
}

/// Appends the header of a map of `pairs`: an array of twice as many elements where the protocol has no maps.
pub fn map(out: &mut Vec<u8>, pairs: usize, resp3: bool) {
    if resp3 { header(out, b'%', pairs) } else { header(out, b'*', pairs.saturating_mul(2)) }
}

/// Appends the header of a set of `count` elements: an array where the protocol has no sets.
pub fn set(out: &mut Vec<u8>, count: usize, resp3: bool) {
    header(out, if resp3 { b'~' } else { b'*' }, count);
}

/// Appends one bulk string.
pub fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    header(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends an error line; `text` begins with its code (`NOPERM …`). CR and LF become spaces, as Redis does it, or the
/// text could end the line and go on as a reply of its own.
pub fn error(out: &mut Vec<u8>, text: &[u8]) {
    line(out, b'-', text);
}

/// Appends a status line, likewise.
pub fn status(out: &mut Vec<u8>, text: &[u8]) {
    line(out, b'+', text);
}

fn line(out: &mut Vec<u8>, kind: u8, text: &[u8]) {
    out.push(kind);
    out.extend(text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
    out.extend_from_slice(b"\r\n");
}

fn header(out: &mut Vec<u8>, kind: u8, number: usize) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::{command, error, request, status};
    use crate::resp::{Span, Words};

    #[test]
    fn commands_are_arrays_of_bulk_strings_whatever_the_words_hold() {
        let mut out = Vec::new();
        command(&mut out, &[b"AUTH", b"", b"a\r\n$1\0\xff"]);
        assert_eq!(out, b"*3\r\n$4\r\nAUTH\r\n$0\r\n\r\n$7\r\na\r\n$1\0\xff\r\n");
    }

    #[test]
    fn a_request_is_re_encoded_with_another_name() {
        let input = b"CONFIG GET  maxmemory\r\n";
        let spans = [Span { start: 0, end: 6 }, Span { start: 7, end: 10 }, Span { start: 12, end: 21 }];
        let words = Words::new(input, &spans, 3);
        let mut out = Vec::new();
        request(&mut out, &words, None);
        assert_eq!(out, b"*3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n$9\r\nmaxmemory\r\n");
        out.clear();
        request(&mut out, &words, Some(b"C_9"));
        assert_eq!(out, b"*3\r\n$3\r\nC_9\r\n$3\r\nGET\r\n$9\r\nmaxmemory\r\n");
    }

    #[test]
    fn a_line_never_holds_a_line_end() {
        let mut out = Vec::new();
        error(&mut out, b"ERR a\r\n+OK\nb");
        status(&mut out, b"OK");
        assert_eq!(out, b"-ERR a  +OK b\r\n+OK\r\n");
    }
}
