//! Numbers as Redis reads them, without its leniency.
//!
//! The law is `string2ll` (redis `src/util.c`): `0`, or an optional minus, a digit from 1 to 9 and more digits; fewer
//! than 21 characters; within a signed 64-bit integer. No plus, no leading zero, no `-0`, no blank, nothing empty.
//! Old servers take more than that for option values (`strtol`: ` 1`, `+1`, `01`), so a word that is not canonical here
//! is one that two readers may read differently: wherever a number decides something, it must be canonical.
//!
//! Tests: `numbers_are_read_by_string2ll_rules`.

#![warn(clippy::arithmetic_side_effects)]

/// `string2ll` refuses anything of this length or longer: sign and 19 digits are 20 characters.
const TOO_MANY_CHARACTERS: usize = 21;

/// The word's value if it is a signed 64-bit integer in canonical form, exactly what `string2ll` accepts.
#[must_use]
pub fn canonical_i64(word: &[u8]) -> Option<i64> {
    if word.len() >= TOO_MANY_CHARACTERS {
        return None;
    }
    match word {
        [b'-', digits @ ..] => match canonical_u64(digits)? {
            0 => None,
            magnitude => 0i64.checked_sub_unsigned(magnitude),
        },
        digits => i64::try_from(canonical_u64(digits)?).ok(),
    }
}

/// The word's value if it is `0` or digits without a leading zero and fits 64 bits.
///
/// Most numbers Redis reads are signed: where that matters use [`bounded_u64`] with a bound of at most [`i64::MAX`].
/// SCAN cursors are the exception that uses all 64 bits.
#[must_use]
pub fn canonical_u64(word: &[u8]) -> Option<u64> {
    match word {
        [b'0'] => Some(0),
        [b'1'..=b'9', ..] => word.iter().try_fold(0, |value, byte| append_digit(value, *byte)),
        _ => None,
    }
}

/// The word's value if it is canonical, not negative and at most `max`.
#[must_use]
pub fn bounded_u64(word: &[u8], max: u64) -> Option<u64> {
    canonical_u64(word).filter(|value| *value <= max)
}

/// Whether no server takes this word for a number: a byte in it that neither `string2ll` (Redis 3.2 on) nor `strtoll` (before)
/// reads, and no NUL, at which the latter would stop.
#[must_use]
pub fn is_no_number(word: &[u8]) -> bool {
    let is_lenient = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b' ' | b'\t'..=b'\r');
    !word.contains(&0) && !word.iter().all(is_lenient)
}

/// `value` with one more decimal digit; nothing if `byte` is no digit or the result does not fit.
#[inline]
fn append_digit(value: u64, byte: u8) -> Option<u64> {
    let digit = byte.wrapping_sub(b'0');
    if digit > 9 {
        return None;
    }
    value.checked_mul(10)?.checked_add(u64::from(digit))
}

/// What a header line (what follows `*`, `$` and their like) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// All of it so far may begin a good header; the end is still to come.
    More,
    /// A canonical number not above the bound, then CRLF.
    Whole {
        /// The number.
        value: u64,
        /// Bytes of the line, CRLF included.
        len: usize,
    },
    /// Some byte that cannot be part of a canonical header, found as early as it can be.
    Malformed,
    /// A number above the bound, found at the digit that takes it there.
    TooLarge,
}

/// Reads the number of a header line; `line` begins after the type byte.
///
/// An unfinished line is read again from its first digit at the next call. That is bounded by the digits of `max`, as
/// anything longer is refused at once: there is no line without end to wait for.
#[inline]
pub(super) fn header(line: &[u8], max: u64) -> Header {
    let mut value = 0;
    let mut digits = 0usize;
    for &byte in line {
        if byte == b'\r' {
            if digits == 0 {
                return Header::Malformed;
            }
            return match line.get(digits.saturating_add(1)) {
                Some(b'\n') => Header::Whole { value, len: digits.saturating_add(2) },
                Some(_) => Header::Malformed,
                None => Header::More,
            };
        }
        if !byte.is_ascii_digit() || (digits > 0 && value == 0) {
            return Header::Malformed;
        }
        match append_digit(value, byte) {
            Some(next) if next <= max => value = next,
            _ => return Header::TooLarge,
        }
        digits = digits.saturating_add(1);
    }
    Header::More
}

/// The number of a header line of at most five digits that is all there, and the bytes of the line. `line` begins after
/// the type byte. `None` says nothing about it: [`header`] has to read it.
///
/// Nearly all headers are such lines, and this reads them without a loop.
#[inline]
pub(super) fn short_header(line: &[u8]) -> Option<(u32, usize)> {
    const DIGITS_MAX: usize = 5;
    let mut value = u32::from(line.first()?.wrapping_sub(b'0'));
    if value > 9 {
        return None;
    }
    let mut digits = 1_usize;
    loop {
        match line.get(digits..)? {
            [b'\r', b'\n', ..] => return Some((value, digits.wrapping_add(2))),
            // A zero in front is for the long way to refuse, and so is what is no digit.
            [digit @ b'0'..=b'9', ..] if value > 0 && digits < DIGITS_MAX => {
                value = value.wrapping_mul(10).wrapping_add(u32::from(digit & 15));
                digits = digits.wrapping_add(1);
            }
            _ => return None,
        }
    }
}

/// Reads a negative count; `line` begins at its minus. `Whole` carries the magnitude, 1 to 2^63.
pub(super) fn negative_header(line: &[u8]) -> Header {
    match line {
        [b'-', b'0', ..] => Header::Malformed,
        [b'-', digits @ ..] => match header(digits, i64::MIN.unsigned_abs()) {
            Header::Whole { value, len } => Header::Whole { value, len: len.saturating_add(1) },
            other => other,
        },
        [] => Header::More,
        _ => Header::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::{Header, bounded_u64, canonical_i64, canonical_u64, header, negative_header, short_header};

    #[test]
    fn a_short_header_says_what_the_long_way_says_or_nothing() {
        for front in [
            "", "0", "1", "00", "01", "10", "99", "100", "999", "010", "1000", "16384", "99999", "100000", "09999",
            "1x", "-1", "x", "1 ",
        ] {
            for back in ["", "\r", "\r\n", "\r\nrest", "\n", "\rx", "\r\r\n"] {
                let line = [front, back].concat();
                let long = header(line.as_bytes(), u64::MAX);
                match short_header(line.as_bytes()) {
                    Some((value, len)) => assert_eq!(long, Header::Whole { value: u64::from(value), len }, "{line:?}"),
                    None => assert!(!matches!(long, Header::Whole { value: 0..=99_999, .. }), "{line:?}"),
                }
            }
        }
    }

    #[test]
    fn numbers_are_read_by_string2ll_rules() {
        let table: &[(&[u8], Option<i64>)] = &[
            (b"0", Some(0)),
            (b"1", Some(1)),
            (b"9", Some(9)),
            (b"10", Some(10)),
            (b"-1", Some(-1)),
            (b"-10", Some(-10)),
            (b"9223372036854775807", Some(i64::MAX)),
            (b"-9223372036854775808", Some(i64::MIN)),
            (b"9223372036854775808", None),
            (b"-9223372036854775809", None),
            (b"18446744073709551617", None),
            (b"-18446744073709551617", None),
            (b"100000000000000000000", None),
            (b"1000000000000000000000000000000", None),
            (b"", None),
            (b"-", None),
            (b"--1", None),
            (b"+1", None),
            (b"01", None),
            (b"00", None),
            (b"-0", None),
            (b"-01", None),
            (b" 1", None),
            (b"1 ", None),
            (b"\t1", None),
            (b"1\n", None),
            (b"1\0", None),
            (b"\x001", None),
            (b"0x1", None),
            (b"1e0", None),
            (b"1_0", None),
            (b"1.0", None),
            ("１".as_bytes(), None),
        ];
        for (word, expected) in table {
            assert_eq!(canonical_i64(word), *expected, "{}", word.escape_ascii());
            let unsigned = match canonical_u64(word) {
                Some(value) => i64::try_from(value).ok(),
                None => None,
            };
            assert_eq!(unsigned, expected.filter(|value| *value >= 0), "{}", word.escape_ascii());
        }
    }

    #[test]
    fn unsigned_numbers_use_all_64_bits_and_no_more() {
        assert_eq!(canonical_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(canonical_u64(b"18446744073709551616"), None);
        assert_eq!(canonical_u64(b"-1"), None);
    }

    #[test]
    fn a_bound_is_inclusive() {
        assert_eq!(bounded_u64(b"15", 15), Some(15));
        assert_eq!(bounded_u64(b"16", 15), None);
        assert_eq!(bounded_u64(b"015", 15), None);
    }

    #[test]
    fn a_header_is_refused_at_the_first_byte_that_cannot_be_right() {
        let table: &[(&[u8], u64, Header)] = &[
            (b"", 100, Header::More),
            (b"1", 100, Header::More),
            (b"100", 100, Header::More),
            (b"100\r", 100, Header::More),
            (b"100\r\n", 100, Header::Whole { value: 100, len: 5 }),
            (b"0\r\nrest", 100, Header::Whole { value: 0, len: 3 }),
            (b"\r\n", 100, Header::Malformed),
            (b"1\n", 100, Header::Malformed),
            (b"1\rX", 100, Header::Malformed),
            (b"1\0", 100, Header::Malformed),
            (b"+", 100, Header::Malformed),
            (b"-", 100, Header::Malformed),
            (b" ", 100, Header::Malformed),
            (b"1 ", 100, Header::Malformed),
            (b"00", 100, Header::Malformed),
            (b"01", 100, Header::Malformed),
            (b"101", 100, Header::TooLarge),
            (b"18446744073709551615\r\n", u64::MAX, Header::Whole { value: u64::MAX, len: 22 }),
            (b"18446744073709551616", u64::MAX, Header::TooLarge),
        ];
        for (line, max, expected) in table {
            assert_eq!(header(line, *max), *expected, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_negative_header_goes_down_to_the_smallest_signed_integer() {
        let table: &[(&[u8], Header)] = &[
            (b"", Header::More),
            (b"-", Header::More),
            (b"-1\r\n", Header::Whole { value: 1, len: 4 }),
            (b"-9223372036854775808\r\n", Header::Whole { value: 1 << 63, len: 22 }),
            (b"-9223372036854775809", Header::TooLarge),
            (b"-0", Header::Malformed),
            (b"-01", Header::Malformed),
            (b"--", Header::Malformed),
            (b"-\r", Header::Malformed),
            (b"1", Header::Malformed),
        ];
        for (line, expected) in table {
            assert_eq!(negative_header(line), *expected, "{}", line.escape_ascii());
        }
    }
}
