#![allow(clippy::arithmetic_side_effects, reason = "tests may panic")]

use super::{Piece, Request, RequestError, RequestLimits, RequestParser};
use crate::resp::{INLINE_MAX, encode};

pub(super) const LIMITS: RequestLimits =
    RequestLimits { words_max: 1024 * 1024, bulk_max: 512 << 20, blanks_max: 16, inline: false };
const INLINE: RequestLimits = RequestLimits { inline: true, ..LIMITS };

pub(super) type Outcome = Result<Request, RequestError>;

pub(super) const MORE: Outcome = Ok(Request::More);

pub(super) const fn command(len: usize) -> Outcome {
    Ok(Request::Command { len })
}

const fn blank(len: usize, request: bool) -> Outcome {
    Ok(Request::Blank { len, request })
}

/// What the whole input gives, having made sure that giving it byte by byte ends in the same: at the same answer, and
/// never with another answer before it.
fn check(limits: RequestLimits, input: &[u8], expected: Outcome) {
    let whole = RequestParser::new(limits).next(input);
    assert_eq!(whole, expected, "{}", input.escape_ascii());
    let mut parser = RequestParser::new(limits);
    for end in 0..=input.len() {
        let outcome = parser.next(&input[..end]);
        if outcome != MORE {
            assert_eq!(outcome, expected, "byte by byte: {}", input[..end].escape_ascii());
            return;
        }
    }
    assert_eq!(MORE, expected, "byte by byte: {}", input.escape_ascii());
}

pub(super) fn words(parser: &RequestParser, input: &[u8]) -> Vec<Vec<u8>> {
    parser.words(input).iter().map(<[u8]>::to_vec).collect()
}

/// One case or more for each row of the table in `request.rs`, named by the row's first column.
const FRAMING: &[(&str, &[u8], Outcome)] = {
    use RequestError::{
        BulkLength, BulkTooLong, ExpectedArray, ExpectedDollar, MultibulkLength, Terminator, TooManyWords,
    };
    &[
        ("end of a header line", b"*1\rX$8\rYFLUSHALL\r\n", Err(MultibulkLength)),
        ("end of a header line", b"*1\r\n$8\rYFLUSHALL\r\n", Err(BulkLength)),
        ("end of a header line", b"*1\r", MORE),
        ("end of a header line", b"*1\r\n$4\r", MORE),
        ("bare LF in a header", b"*1\n", Err(MultibulkLength)),
        ("bare LF in a header", b"*1\r\n$4\n", Err(BulkLength)),
        ("NUL in a header", b"*1\0", Err(MultibulkLength)),
        ("NUL in a header", b"*\0", Err(MultibulkLength)),
        ("NUL in a header", b"*1\r\n$\0", Err(BulkLength)),
        ("order of checks", b"*1\r\nF", Err(ExpectedDollar(b'F'))),
        ("numbers", b"*\r\n", Err(MultibulkLength)),
        ("numbers", b"*+1", Err(MultibulkLength)),
        ("numbers", b"*01", Err(MultibulkLength)),
        ("numbers", b"*00", Err(MultibulkLength)),
        ("numbers", b"*-0", Err(MultibulkLength)),
        ("numbers", b"* 1", Err(MultibulkLength)),
        ("numbers", b"*1 ", Err(MultibulkLength)),
        ("numbers", b"*\t1", Err(MultibulkLength)),
        ("numbers", b"*0x1", Err(MultibulkLength)),
        ("numbers", b"*1e0", Err(MultibulkLength)),
        ("numbers", b"*1_0", Err(MultibulkLength)),
        ("numbers", b"*18446744073709551617", Err(TooManyWords)),
        ("numbers", b"*1\r\n$\r\n", Err(BulkLength)),
        ("numbers", b"*1\r\n$+1", Err(BulkLength)),
        ("numbers", b"*1\r\n$01", Err(BulkLength)),
        ("numbers", b"*1\r\n$00", Err(BulkLength)),
        ("numbers", b"*1\r\n$-0", Err(BulkLength)),
        ("numbers", b"*1\r\n$ 1", Err(BulkLength)),
        ("numbers", b"*1\r\n$1 ", Err(BulkLength)),
        ("numbers", b"*1\r\n$18446744073709551617", Err(BulkTooLong)),
        ("numbers", b"*1\r\n$0\r\n\r\n", command(10)),
        ("`*0`, `*-n` to -2^63", b"*0\r\n", blank(4, true)),
        ("`*0`, `*-n` to -2^63", b"*-1\r\n", blank(5, true)),
        ("`*0`, `*-n` to -2^63", b"*-9223372036854775808\r\n", blank(23, true)),
        ("`*0`, `*-n` to -2^63", b"*-9223372036854775809", Err(MultibulkLength)),
        ("`*0`, `*-n` to -2^63", b"*-01", Err(MultibulkLength)),
        ("`*0`, `*-n` to -2^63", b"*-1\rX", Err(MultibulkLength)),
        ("N too large", b"*1048576\r\n", MORE),
        ("N too large", b"*1048577", Err(TooManyWords)),
        ("L below 0 or too large", b"*1\r\n$-1", Err(BulkLength)),
        ("L below 0 or too large", b"*1\r\n$536870912\r\n", MORE),
        ("L below 0 or too large", b"*1\r\n$536870913", Err(BulkTooLong)),
        ("two bytes after a word", b"*1\r\n$8\r\nFLUSHALLZZ", Err(Terminator)),
        ("two bytes after a word", b"*1\r\n$4\r\nPING*1\r\n$8\r\nFLUSHALL\r\n", Err(Terminator)),
        ("two bytes after a word", b"*1\r\n$4\r\nPING\r\r", Err(Terminator)),
        ("two bytes after a word", b"*1\r\n$4\r\nPING\n", Err(Terminator)),
        ("two bytes after a word", b"*1\r\n$4\r\nPING\r", MORE),
        ("two bytes after a word", b"*1\r\n$4\r\nPING\r\n", command(14)),
        ("other types", b"%1\r\n", Err(ExpectedArray(b'%'))),
        ("other types", b"~1\r\n", Err(ExpectedArray(b'~'))),
        ("other types", b">2\r\n", Err(ExpectedArray(b'>'))),
        ("other types", b"+OK\r\n", Err(ExpectedArray(b'+'))),
        ("other types", b"$4\r\nPING\r\n", Err(ExpectedArray(b'$'))),
        ("element that is not `$`", b"*2\r\n$4\r\nECHO\r\n:1\r\n", Err(ExpectedDollar(b':'))),
        ("element that is not `$`", b"*1\r\n*1\r\n$4\r\nPING\r\n", Err(ExpectedDollar(b'*'))),
        ("element that is not `$`", b"*1\r\n\r\n$4\r\nPING\r\n", Err(ExpectedDollar(b'\r'))),
        ("before AUTH", b"*11\r\n$16385\r\n", MORE),
        ("total buffered", b"*2\r\n$3\r\nGET\r\n$536870912\r\n", MORE),
        ("protocol error", b"*1\r\nX\r\n*1\r\n$8\r\nFLUSHALL\r\n", Err(ExpectedDollar(b'X'))),
        ("chunking", b"*2\r\n$3\r\nGET\r\n$3\r\n\r\n*\r\n", command(22)),
    ]
};

/// The same of the table in `inline.rs`: what comes of a line where lines are taken, and where `PING` alone is one.
const LINES: &[(&str, &[u8], Outcome, Outcome)] = {
    use RequestError::{CrossProtocol, ExpectedArray, InlineByte};
    const fn array(byte: u8) -> Outcome {
        Err(ExpectedArray(byte))
    }
    const fn byte(byte: u8) -> Outcome {
        Err(InlineByte(byte))
    }
    const fn line(len: usize) -> Outcome {
        Ok(Request::Inline { len })
    }
    &[
        ("end of a line", b"PING\r\n", line(6), line(6)),
        ("end of a line", b"pInG\r\n", line(6), line(6)),
        ("end of a line", b"PIN", MORE, MORE),
        ("end of a line", b"PING\n", byte(b'\n'), array(b'P')),
        ("end of a line", b"GET a\r\n", line(7), array(b'G')),
        ("end of a line", b"GET a\n", byte(b'\n'), array(b'G')),
        ("NUL in a line", b"GET a\0\r\n", byte(0), array(b'G')),
        ("NUL in a line", b"PING\0\r\n", byte(0), array(b'P')),
        ("blanks between words", b"set  a   b \r\n", line(13), array(b's')),
        ("blanks between words", b"PING \r\n", line(7), array(b'P')),
        ("blanks between words", b"GET\ta\r\n", byte(b'\t'), array(b'G')),
        ("blanks between words", b"FLUSHALL\x0b\r\n", byte(0x0b), array(b'F')),
        ("blanks between words", b"GET\x0ca\r\n", byte(0x0c), array(b'G')),
        ("quote inside a word", b"FLUSH\"ALL\"\r\n", byte(b'"'), array(b'F')),
        ("quote inside a word", b"F'LUSHALL'\r\n", byte(b'\''), array(b'F')),
        ("escapes in `\"`", b"\"\\x46LUSHALL\"\r\n", array(b'"'), array(b'"')),
        ("escapes in `\"`", b"FLU\\SHALL\r\n", byte(b'\\'), array(b'F')),
        ("unbalanced quotes", b"GET \"a\r\n", byte(b'"'), array(b'G')),
        ("blank line", b"\r\n", blank(2, false), blank(2, false)),
        ("blank line", b"\n", array(b'\n'), array(b'\n')),
        ("CR before CRLF", b"\r\r\n", array(b'\r'), array(b'\r')),
        ("CR before CRLF", b"PING\r\r\n", byte(b'\r'), array(b'P')),
        ("CR alone", b"\r", MORE, MORE),
        ("CR alone", b"PING\rX", byte(b'\r'), array(b'P')),
        ("line of blanks", b" \r\n*2\r\n", array(b' '), array(b' ')),
        ("line of blanks", b"\t\n", array(b'\t'), array(b'\t')),
        ("LF alone, to 3.2", b"PING\nXFLUSHALL\r\n", byte(b'\n'), array(b'P')),
        ("empty quoted word, to 5.0.0", b"\"\" FLUSHALL\r\n", array(b'"'), array(b'"')),
        ("longer than 64 KiB", &[b'a'; INLINE_MAX], Err(RequestError::InlineTooLong), array(b'a')),
        ("`POST`, `Host:`", b"POST / HTTP/1.1\r\n", Err(CrossProtocol), array(b'P')),
        ("`POST`, `Host:`", b"post /", Err(CrossProtocol), array(b'p')),
        ("`POST`, `Host:`", b"pOsT\r\n", Err(CrossProtocol), array(b'p')),
        ("`POST`, `Host:`", b"Host: localhost\r\n", Err(CrossProtocol), array(b'H')),
        ("`POST`, `Host:`", b"HOST:\r\n", Err(CrossProtocol), array(b'H')),
        ("`POST`, `Host:`", b"host:\0x\r\n", byte(0), array(b'h')),
        ("`POST`, `Host:`", b"GET / HTTP/1.1\r\n", line(16), array(b'G')),
        ("first byte of anything else", b"\0", array(0), array(0)),
        ("first byte of anything else", b"\x16\x03\x01", array(0x16), array(0x16)),
        ("first byte of anything else", b"1", array(b'1'), array(b'1')),
        ("first byte of anything else", b"%1\r\n", array(b'%'), array(b'%')),
    ]
};

#[test]
fn framing_is_strict_where_redis_is_lenient() {
    for (_, input, expected) in FRAMING {
        check(LIMITS, input, *expected);
    }
}

#[test]
fn lines_are_plain_or_refused() {
    for (_, input, taken, otherwise) in LINES {
        check(INLINE, input, *taken);
        check(LIMITS, input, *otherwise);
    }
}

/// The first column of the only table in these docs.
fn rows(source: &str) -> Vec<&str> {
    let lines = source.lines().filter_map(|line| line.strip_prefix("//! | "));
    lines.filter_map(|line| line.split(" | ").next()).skip(1).collect()
}

#[test]
fn every_row_of_the_documented_tables_has_a_case_and_every_case_its_row() {
    let framing: Vec<&str> = FRAMING.iter().map(|(row, ..)| *row).collect();
    let lines: Vec<&str> = LINES.iter().map(|(row, ..)| *row).collect();
    for (source, cases, count) in
        [(include_str!("../request.rs"), framing, 15), (include_str!("../inline.rs"), lines, 15)]
    {
        let rows = rows(source);
        assert_eq!(rows.len(), count, "{rows:?}");
        for row in &rows {
            assert!(cases.iter().any(|case| row.starts_with(case)), "no case for {row}");
        }
        for case in &cases {
            assert!(rows.iter().any(|row| row.starts_with(case)), "no row for {case}");
        }
    }
}

#[test]
fn plain_words_are_a_request_where_they_are_allowed() {
    let table: &[(&[u8], Outcome)] = &[
        (b"PING\r\n", Ok(Request::Inline { len: 6 })),
        (b"GET a\r\n", Ok(Request::Inline { len: 7 })),
        (b"set  a   b \r\n", Ok(Request::Inline { len: 13 })),
        (b"GET a", MORE),
        (b"GET a\r", MORE),
        (b"GET a\n", Err(RequestError::InlineByte(b'\n'))),
        (b"GET a\rX", Err(RequestError::InlineByte(b'\r'))),
        (b"GET\ta", Err(RequestError::InlineByte(b'\t'))),
        (b"FLUSHALL\x0b", Err(RequestError::InlineByte(0x0b))),
        (b"FLUSH\"", Err(RequestError::InlineByte(b'"'))),
        (b"F'", Err(RequestError::InlineByte(b'\''))),
        (b"FLU\\", Err(RequestError::InlineByte(b'\\'))),
        (b"GET\0", Err(RequestError::InlineByte(0))),
        (b"GET \xc3", Err(RequestError::InlineByte(0xc3))),
        (b" GET", Err(RequestError::ExpectedArray(b' '))),
        (b"1", Err(RequestError::ExpectedArray(b'1'))),
        (b"post / HTTP/1.1\r\n", Err(RequestError::CrossProtocol)),
        (b"Host: a\r\n", Err(RequestError::CrossProtocol)),
    ];
    for (input, expected) in table {
        check(INLINE, input, *expected);
    }
    let mut parser = RequestParser::new(INLINE);
    let input = b"set  a   b \r\nrest";
    assert_eq!(parser.next(input), Ok(Request::Inline { len: 13 }));
    assert_eq!(words(&parser, input), [&b"set"[..], b"a", b"b"]);
    assert_eq!(parser.words(input).declared(), 3);
}

#[test]
fn a_line_of_plain_words_may_be_64_kib_and_not_a_byte_more() {
    let mut line = vec![b'a'; INLINE_MAX - 2];
    line.extend(b"\r\n");
    check(INLINE, &line, Ok(Request::Inline { len: INLINE_MAX }));
    line.insert(0, b'a');
    assert_eq!(RequestParser::new(INLINE).next(&line), Err(RequestError::InlineTooLong));
    assert_eq!(RequestParser::new(INLINE).next(&line[..INLINE_MAX]), Err(RequestError::InlineTooLong));
}

#[test]
fn a_line_of_more_words_than_allowed_is_refused() {
    let limits = RequestLimits { words_max: 2, ..INLINE };
    check(limits, b"a b\r\n", Ok(Request::Inline { len: 5 }));
    check(limits, b"a b c\r\n", Err(RequestError::TooManyWords));
}

#[test]
fn blank_requests_in_a_row_are_bounded_and_a_command_starts_the_count_anew() {
    let mut parser = RequestParser::new(LIMITS);
    for _ in 0..3 {
        for _ in 0..8 {
            assert_eq!(parser.next(b"\r\n"), blank(2, false));
            assert_eq!(parser.next(b"*-7\r\n"), blank(5, true));
        }
        assert_eq!(parser.next(b"*1\r\n$4\r\nPING\r\n"), command(14));
    }
    for _ in 0..16 {
        assert_eq!(parser.next(b"*0\r\n"), blank(4, true));
    }
    assert_eq!(parser.next(b"\r\n"), Err(RequestError::TooManyBlanks));
}

#[test]
fn lines_and_streamed_commands_start_the_count_of_blanks_anew() {
    let mut parser = RequestParser::new(RequestLimits { blanks_max: 1, ..LIMITS });
    assert_eq!(parser.next(b"\r\n"), blank(2, false));
    assert_eq!(parser.next(b"PING\r\n"), Ok(Request::Inline { len: 6 }));
    assert_eq!(parser.next(b"\r\n"), blank(2, false));
    assert_eq!(parser.next(b"*1\r\n$4\r\nPI"), MORE);
    assert_eq!(parser.split(b"*1\r\n$4\r\nPI"), 10);
    assert_eq!(parser.stream(b"NG\r\n"), Ok(Piece { len: 4, last: true }));
    assert_eq!(parser.next(b"\r\n"), blank(2, false));
    assert_eq!(parser.next(b"\r\n"), Err(RequestError::TooManyBlanks));
}

#[test]
fn after_a_refusal_nothing_is_read_again() {
    let mut parser = RequestParser::new(LIMITS);
    assert_eq!(parser.next(b"*1\r\nX"), Err(RequestError::ExpectedDollar(b'X')));
    assert_eq!(parser.next(b"*1\r\n$4\r\nPING\r\n"), Err(RequestError::ExpectedDollar(b'X')));
    assert_eq!(parser.stream(b"*1\r\n$4\r\nPING\r\n"), Err(RequestError::ExpectedDollar(b'X')));
    assert_eq!(parser.split(b"*1\r\n$4\r\nPING\r\n"), 0);
    parser.shrink();
    assert_eq!(parser.next(b"*1\r\n$4\r\nPING\r\n"), Err(RequestError::ExpectedDollar(b'X')));
}

#[test]
fn pipelined_commands_come_one_by_one() {
    let input = b"*1\r\n$4\r\nPING\r\n\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING\r\n*1\r\n$4";
    let mut parser = RequestParser::new(LIMITS);
    let mut at = 0;
    assert_eq!(parser.next(&input[at..]), command(14));
    assert_eq!(words(&parser, &input[at..]), [b"PING"]);
    at += 14;
    assert_eq!(parser.next(&input[at..]), blank(2, false));
    at += 2;
    assert_eq!(parser.next(&input[at..]), command(20));
    assert_eq!(words(&parser, &input[at..]), [&b"GET"[..], b"a"]);
    assert_eq!(parser.known_len(), 20);
    at += 20;
    assert_eq!(parser.next(&input[at..]), Ok(Request::Inline { len: 6 }));
    assert_eq!(words(&parser, &input[at..]), [b"PING"]);
    at += 6;
    assert_eq!(parser.next(&input[at..]), MORE);
}

#[test]
fn words_and_length_are_known_as_early_as_their_headers() {
    let input = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100\r\n";
    let mut parser = RequestParser::new(LIMITS);
    let mut known = |end: usize| {
        assert_eq!(parser.next(&input[..end]), MORE);
        let words = parser.words(&input[..end]);
        (words.whole(), words.declared(), parser.known_len())
    };
    assert_eq!(known(0), (0, 0, 0));
    assert_eq!(known(3), (0, 0, 0));
    assert_eq!(known(4), (0, 3, 4 + 18));
    assert_eq!(known(7), (0, 3, 4 + 18));
    assert_eq!(known(8), (0, 3, 4 + 9 + 12));
    assert_eq!(known(12), (0, 3, 4 + 9 + 12));
    assert_eq!(known(13), (1, 3, 4 + 9 + 12));
    assert_eq!(known(20), (2, 3, 20 + 6));
    assert_eq!(known(26), (2, 3, 128));
}

#[test]
fn nothing_is_allocated_by_a_declared_number() {
    let mut parser = RequestParser::new(LIMITS);
    assert_eq!(parser.next(b"*1048576\r\n$536870912\r\nx"), MORE);
    assert_eq!(parser.memory(), 0);
}

#[test]
fn memory_of_a_large_request_is_given_back() {
    let many = vec![&b"x"[..]; 5000];
    let mut input = Vec::new();
    encode::command(&mut input, &many);
    let mut parser = RequestParser::new(LIMITS);
    assert_eq!(parser.next(&input), command(input.len()));
    assert_eq!(parser.words(&input).whole(), 5000);
    assert!(parser.memory() >= 40_000);
    assert_eq!(parser.next(b"*1\r\n$4\r\nPING\r\n"), command(14));
    assert!(parser.spans.capacity() < 100, "the next request keeps little");
    parser.shrink();
    assert_eq!(parser.spans.capacity(), 0);
    assert_eq!(parser.next(b"*1\r\n$4\r\nPING\r\n"), command(14));
}

#[test]
fn shrinking_in_the_middle_of_a_command_loses_nothing() {
    let input = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n";
    let mut parser = RequestParser::new(LIMITS);
    assert_eq!(parser.next(&input[..15]), MORE);
    parser.shrink();
    assert_eq!(parser.next(input), command(20));
    assert_eq!(words(&parser, input), [&b"GET"[..], b"a"]);
}

#[test]
fn a_streamed_command_passes_payload_as_it_comes_and_line_ends_whole() {
    let mut parser = RequestParser::new(LIMITS);
    let input = b"*2\r\n$4\r\nECHO\r\n$10\r\n0123";
    assert_eq!(parser.next(input), MORE);
    assert_eq!(parser.known_len(), 31);
    assert_eq!(parser.split(input), input.len());
    assert!(parser.is_streaming());
    assert_eq!(parser.known_len(), 31);
    assert_eq!(parser.stream(b"45"), Ok(Piece { len: 2, last: false }));
    assert_eq!(parser.stream(b""), Ok(Piece { len: 0, last: false }));
    assert_eq!(parser.stream(b"6789\r"), Ok(Piece { len: 4, last: false }));
    assert_eq!(parser.stream(b"\r"), Ok(Piece { len: 0, last: false }));
    assert_eq!(parser.stream(b"\r\n*1\r\n"), Ok(Piece { len: 2, last: true }));
    assert!(!parser.is_streaming());
    assert_eq!(parser.known_len(), 31);
    assert_eq!(parser.next(b"*1\r\n$4\r\nPING\r\n"), command(14));
}

#[test]
fn streaming_reads_over_many_words_in_one_call() {
    let mut parser = RequestParser::new(LIMITS);
    let input = b"*4\r\n$4\r\nMSET\r\n$";
    assert_eq!(parser.next(input), MORE);
    assert_eq!(parser.words(input).whole(), 1);
    assert_eq!(parser.split(input), 14, "the unfinished header stays");
    assert_eq!(parser.words(b"$").whole(), 0, "the words have left the buffer");
    assert_eq!(parser.stream(b"$1\r\na\r\n$0\r\n\r\n$2\r\nxy\r\n$"), Ok(Piece { len: 21, last: true }));
}

#[test]
fn a_wrong_line_end_in_a_stream_passes_nothing_of_that_call() {
    let mut parser = RequestParser::new(LIMITS);
    let input = b"*1\r\n$4\r\nPI";
    assert_eq!(parser.next(input), MORE);
    assert_eq!(parser.split(input), 10);
    assert_eq!(parser.stream(b"NGX\n"), Err(RequestError::Terminator));
    assert_eq!(parser.stream(b"NG\r\n"), Err(RequestError::Terminator));
}

#[test]
fn splitting_before_there_is_a_command_changes_nothing() {
    let mut parser = RequestParser::new(LIMITS);
    assert_eq!(parser.split(b""), 0);
    assert_eq!(parser.next(b"*1\r"), MORE);
    assert_eq!(parser.split(b"*1\r"), 0);
    assert_eq!(parser.stream(b"*1\r\n$4\r\nPING\r\n"), Ok(Piece { len: 0, last: true }));
    assert_eq!(parser.next(b"*1\r\n$4\r\nPING\r\n"), command(14));
    assert_eq!(parser.split(b""), 0);
}

#[test]
fn the_stream_of_a_command_that_was_not_split_is_empty() {
    let mut parser = RequestParser::new(LIMITS);
    let input = b"*1\r\n$4\r\nPI";
    assert_eq!(parser.next(input), MORE);
    assert_eq!(parser.stream(b"NG\r\n"), Ok(Piece { len: 0, last: true }));
    assert_eq!(parser.next(b"*1\r\n$4\r\nPING\r\n"), command(14));
}
