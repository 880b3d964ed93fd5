//! JSON text, written by appending bytes. Knows nothing of records.
//!
//! What a value may hold is foreign: a key, a certificate's name, a command nobody knows. Everything that could break
//! a line, hide in a terminal or reverse what follows is written as `\u00XX`: the control characters (C0, DEL, C1),
//! U+2028 and U+2029, which some readers take for line ends, and the characters that have no width or turn the
//! direction of text around. The output holds no byte below 0x20.

use base64::{Engine, engine::general_purpose::STANDARD};

/// Appends a number in decimal.
pub(super) fn number(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a count, which is a small number more often than not.
#[inline]
pub(super) fn count(out: &mut Vec<u8>, value: u64) {
    match u8::try_from(value) {
        Ok(value @ 0..10) => out.push(b'0' | value),
        Ok(value @ 10..100) => out.extend_from_slice(&[b'0' | (value / 10), b'0' | (value % 10)]),
        _ => number(out, value),
    }
}

/// Whether a byte stands for itself inside a JSON string.
const fn plain(byte: u8) -> bool {
    byte >= 0x20 && byte < 0x7f && byte != b'"' && byte != b'\\'
}

/// Whether every byte stands for itself. Written without an early exit, so that it is compiled to vector code.
pub(super) fn all_plain(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |plain_so_far, &byte| plain_so_far & plain(byte))
}

/// Whether a character must not be seen as itself by whoever reads the line.
pub(crate) const fn hidden(c: char) -> bool {
    matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// Appends `text` escaped, without quotes, as long as that takes at most `rendered_max` bytes. Tells whether all of
/// it was written.
pub(super) fn escaped(out: &mut Vec<u8>, text: &str, rendered_max: usize) -> bool {
    if text.len() <= rendered_max && all_plain(text.as_bytes()) {
        out.extend_from_slice(text.as_bytes());
        return true;
    }
    let mut left = rendered_max;
    for c in text.chars() {
        let mut buffer = [0; 6];
        let rendered = character(c, &mut buffer);
        let Some(rest) = left.checked_sub(rendered.len()) else { return false };
        left = rest;
        out.extend_from_slice(rendered);
    }
    true
}

/// One character as it stands inside a JSON string.
fn character(c: char, buffer: &mut [u8; 6]) -> &[u8] {
    match c {
        '"' => b"\\\"",
        '\\' => b"\\\\",
        _ if hidden(c) => {
            // Every hidden character lies in the basic plane, so four digits say it.
            let digit = |shift: u32| match (u32::from(c) >> shift) & 0xf {
                0xa => b'a',
                0xb => b'b',
                0xc => b'c',
                0xd => b'd',
                0xe => b'e',
                0xf => b'f',
                low => b'0' | u8::try_from(low).unwrap_or(0),
            };
            *buffer = [b'\\', b'u', digit(12), digit(8), digit(4), digit(0)];
            buffer
        }
        _ => c.encode_utf8(buffer).as_bytes(),
    }
}

/// Appends `,"name":"text"`, and `,"name_cut":true` behind it if the text had to be cut.
pub(super) fn text_field(out: &mut Vec<u8>, name: &str, text: &str, rendered_max: usize) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":\"");
    let whole = escaped(out, text, rendered_max);
    out.push(b'"');
    if !whole {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"_cut\":true");
    }
}

/// Appends `,"name":value`.
pub(super) fn number_field(out: &mut Vec<u8>, name: &str, value: u64) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    number(out, value);
}

/// Appends `bytes` in base64, without quotes.
pub(super) fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    // In pieces of whole groups, so that the piece's output needs no allocation and no padding but the last.
    for piece in bytes.chunks(48) {
        let mut rendered = [0; 64];
        let length = STANDARD.encode_slice(piece, &mut rendered).unwrap_or(0);
        out.extend_from_slice(rendered.get(..length).unwrap_or_default());
    }
}

/// Appends a value that may be any bytes: `"text"` if they are UTF-8, else `{"b64":"…"}`. If they are only the front
/// of the value, `{"text":"…","cut":true}` or `{"b64":"…","cut":true}`.
pub(super) fn bytes_value(out: &mut Vec<u8>, bytes: &[u8], cut: bool) {
    // Most keys are plain, and plain bytes are UTF-8.
    if !cut && all_plain(bytes) {
        out.push(b'"');
        out.extend_from_slice(bytes);
        out.push(b'"');
        return;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        // Cut inside a character: the whole ones before it are still text.
        Err(error) if cut && error.error_len().is_none() => {
            bytes.get(..error.valid_up_to()).and_then(|front| std::str::from_utf8(front).ok())
        }
        Err(_) => None,
    };
    match (text, cut) {
        (Some(text), false) => {
            out.push(b'"');
            escaped(out, text, usize::MAX);
            out.push(b'"');
        }
        (Some(text), true) => {
            out.extend_from_slice(b"{\"text\":\"");
            escaped(out, text, usize::MAX);
            out.extend_from_slice(b"\",\"cut\":true}");
        }
        (None, _) => {
            out.extend_from_slice(b"{\"b64\":\"");
            base64(out, bytes);
            out.extend_from_slice(if cut { b"\",\"cut\":true}" } else { b"\"}" });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(bytes: &[u8], cut: bool) -> String {
        let mut out = Vec::new();
        bytes_value(&mut out, bytes, cut);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_byte_at_every_place_is_seen() {
        for length in 0..=25_usize {
            assert!(all_plain(&vec![b'k'; length]));
            for place in 0..length {
                for byte in 0..=u8::MAX {
                    let mut bytes = vec![b'~'; length];
                    bytes[place] = byte;
                    assert_eq!(all_plain(&bytes), plain(byte), "{byte:#04x} at {place} of {length}");
                }
            }
        }
    }

    #[test]
    fn text_stays_text_and_other_bytes_become_base64() {
        for (bytes, cut, expected) in [
            (&b"user:17"[..], false, r#""user:17""#),
            ("ключ".as_bytes(), false, r#""ключ""#),
            (b"", false, r#""""#),
            (b"a\"b\\c", false, r#""a\"b\\c""#),
            (b"a\r\nb\0\x1b[31m\x7f", false, r#""a\u000d\u000ab\u0000\u001b[31m\u007f""#),
            ("a\u{2028}b\u{2029}c\u{85}d\u{202e}e".as_bytes(), false, r#""a\u2028b\u2029c\u0085d\u202ee""#),
            (b"\xff\xfe", false, r#"{"b64":"//4="}"#),
            (b"user:", true, r#"{"text":"user:","cut":true}"#),
            (b"a\xd0", true, r#"{"text":"a","cut":true}"#),
            (b"a\xd0", false, r#"{"b64":"YdA="}"#),
            (b"a\xd0b", true, r#"{"b64":"YdBi","cut":true}"#),
        ] {
            assert_eq!(value(bytes, cut), expected, "{bytes:?}");
        }
    }

    #[test]
    fn base64_over_several_pieces_is_one_base64_text() {
        for length in [0, 1, 47, 48, 49, 96, 97, 500] {
            let bytes: Vec<u8> = (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let mut out = Vec::new();
            base64(&mut out, &bytes);
            assert_eq!(out, STANDARD.encode(&bytes).as_bytes());
        }
    }

    #[test]
    fn a_text_is_cut_before_the_character_that_does_not_fit() {
        for (text, max, expected, whole) in [
            ("abc", 3, "abc", true),
            ("abc", 2, "ab", false),
            ("a\0b", 6, "a", false),
            ("a\0b", 7, "a\\u0000", false),
            ("aж", 2, "a", false),
            ("", 0, "", true),
        ] {
            let mut out = Vec::new();
            assert_eq!(escaped(&mut out, text, max), whole, "{text:?}");
            assert_eq!(out, expected.as_bytes(), "{text:?}");
        }
    }
}
