#![allow(clippy::arithmetic_side_effects, reason = "tests may panic")]

use super::{Class, Inspect, Progress, ReplyError, ReplyLimits, ReplyScanner, error_code};

pub(super) const LIMITS: ReplyLimits = ReplyLimits { line_max: 64 * 1024, bulk_max: 512 << 20, elements_max: 1 << 32 };

/// Scans one frame off the front of `input`, given `cuts[i]` more bytes at a time, and makes sure of what must hold
/// for every chunking. The scanner afterwards, and how many bytes were the frame.
pub(super) fn scan(input: &[u8], inspect: Inspect, cuts: &[usize]) -> Result<(ReplyScanner, usize), ReplyError> {
    let mut scanner = ReplyScanner::new(LIMITS);
    scanner.inspect(inspect);
    let (mut at, mut end, mut pieces) = (0, 0, 0);
    let mut cuts = cuts.iter().copied().chain(std::iter::repeat(input.len()));
    loop {
        assert_eq!(scanner.at_boundary(), at == 0);
        match scanner.next(&input[at..end])? {
            Progress::Piece { len, first, last } => {
                assert!(len > 0);
                assert_eq!(first, pieces == 0);
                pieces += 1;
                at += len;
                assert_eq!(scanner.frame().bytes, at as u64);
                if last {
                    assert!(scanner.at_boundary());
                    return Ok((scanner, at));
                }
            }
            Progress::More => {
                assert!(end < input.len(), "never ended: {}", input.escape_ascii());
                end = (end + cuts.next().unwrap_or(1)).min(input.len());
            }
        }
    }
}

fn check(input: &[u8], class: Class) {
    for cuts in [&[][..], &[1; 400]] {
        let (scanner, len) = scan(input, Inspect::Nothing, cuts).expect("a frame");
        assert_eq!(len, input.len(), "{}", input.escape_ascii());
        assert_eq!(scanner.frame().class, class, "{}", input.escape_ascii());
        let followed = [input, b"+OK\r\n"].concat();
        assert_eq!(scan(&followed, Inspect::Nothing, cuts).expect("a frame").1, input.len());
    }
}

#[test]
fn every_type_of_resp2_and_resp3_has_its_class_and_end() {
    let table: &[(&[u8], Class)] = &[
        (b"+OK\r\n", Class::Status),
        (b"+\r\n", Class::Status),
        (b"-ERR no\r\n", Class::Error),
        (b":1\r\n", Class::Integer),
        (b":-1\r\n", Class::Integer),
        (b":+1\r\n", Class::Integer),
        (b"$0\r\n\r\n", Class::Bulk),
        (b"$4\r\n\r\n\r\n\r\n", Class::Bulk),
        (b"$-1\r\n", Class::Null),
        (b"*-1\r\n", Class::Null),
        (b"_\r\n", Class::Null),
        (b"*0\r\n", Class::Array),
        (b"*2\r\n$-1\r\n*-1\r\n", Class::Array),
        (b"*1\r\n-ERR inside\r\n", Class::Array),
        (b"%0\r\n", Class::Map),
        (b"%1\r\n+k\r\n:1\r\n", Class::Map),
        (b"~2\r\n:1\r\n:2\r\n", Class::Set),
        (b">2\r\n+message\r\n%1\r\n+a\r\n*0\r\n", Class::Push),
        (b"*2\r\n>1\r\n+message\r\n_\r\n:1\r\n", Class::Array),
        (b",3.14\r\n", Class::Double),
        (b",inf\r\n", Class::Double),
        (b",nan\r\n", Class::Double),
        (b"#t\r\n", Class::Boolean),
        (b"#f\r\n", Class::Boolean),
        (b"(3492890328409238509324850943850943825024385\r\n", Class::BigNumber),
        (b"(-1\r\n", Class::BigNumber),
        (b"=15\r\ntxt:Some string\r\n", Class::Verbatim),
        (b"!21\r\nSYNTAX invalid syntax\r\n", Class::BulkError),
        (b"|1\r\n+ttl\r\n:3600\r\n$1\r\na\r\n", Class::Bulk),
        (b"|1\r\n+k\r\n*2\r\n:1\r\n:2\r\n-ERR a\r\n", Class::Error),
        (b"|0\r\n+OK\r\n", Class::Status),
        (b"|1\r\n|1\r\n+x\r\n+y\r\n+k\r\n+v\r\n:1\r\n", Class::Integer),
        (b"*2\r\n|1\r\n+k\r\n%1\r\n+a\r\n+b\r\n:1\r\n:2\r\n", Class::Array),
    ];
    for (input, class) in table {
        check(input, *class);
    }
}

#[test]
fn what_cannot_be_framed_is_refused_at_the_byte_that_shows_it() {
    let limits = ReplyLimits { line_max: 8, bulk_max: 10, elements_max: 5 };
    let table: &[(&[u8], ReplyError)] = &[
        (b"x", ReplyError::UnknownType),
        (b"\r", ReplyError::UnknownType),
        (b"\0", ReplyError::UnknownType),
        (b".", ReplyError::Streamed),
        (b";", ReplyError::Streamed),
        (b"$?", ReplyError::Streamed),
        (b"*?", ReplyError::Streamed),
        (b"%?", ReplyError::Streamed),
        (b"~?", ReplyError::Streamed),
        (b"$\r", ReplyError::Length),
        (b"$01", ReplyError::Length),
        (b"$+1", ReplyError::Length),
        (b"$ 1", ReplyError::Length),
        (b"$-2", ReplyError::Length),
        (b"$-1\n", ReplyError::Length),
        (b"$-1\rX", ReplyError::Length),
        (b"*-2", ReplyError::Length),
        (b"*-0", ReplyError::Length),
        (b"%-1", ReplyError::Length),
        (b"~-1", ReplyError::Length),
        (b">-1", ReplyError::Length),
        (b"|-1", ReplyError::Length),
        (b"!-1", ReplyError::Length),
        (b"=-1", ReplyError::Length),
        (b"$1\n", ReplyError::Length),
        (b"$1\rX", ReplyError::Length),
        (b"*1\0", ReplyError::Length),
        (b"$11", ReplyError::BulkTooLong),
        (b"$99999999999999999999999", ReplyError::BulkTooLong),
        (b"!11", ReplyError::BulkTooLong),
        (b"*6", ReplyError::TooManyElements),
        (b"%6", ReplyError::TooManyElements),
        (b"|6", ReplyError::TooManyElements),
        (b"+a\n", ReplyError::Line),
        (b"+a\rb", ReplyError::Line),
        (b"+a\r\r\n", ReplyError::Line),
        (b"-\n", ReplyError::Line),
        (b"+123456789", ReplyError::LineTooLong),
        (b"+123456789\r\n", ReplyError::LineTooLong),
        (b":\r\n", ReplyError::Value),
        (b":-\r\n", ReplyError::Value),
        (b":1a\r\n", ReplyError::Value),
        (b":+-1\r\n", ReplyError::Value),
        (b"_x\r\n", ReplyError::Value),
        (b"#x\r\n", ReplyError::Value),
        (b"#\r\n", ReplyError::Value),
        (b",\r\n", ReplyError::Value),
        (b"(1.0\r\n", ReplyError::Value),
        (b"$1\r\nab", ReplyError::Terminator),
        (b"$1\r\na\rb", ReplyError::Terminator),
        (b"$1\r\na\n", ReplyError::Terminator),
        (b"*2\r\n:1\r\nx", ReplyError::UnknownType),
        (b"|1\r\n+k\r\nx", ReplyError::UnknownType),
    ];
    for (input, expected) in table {
        for step in [input.len(), 1] {
            let mut scanner = ReplyScanner::new(limits);
            let (mut at, mut end) = (0, step);
            let error = loop {
                match scanner.next(&input[at..end]) {
                    Err(error) => break error,
                    Ok(Progress::Piece { len, last, .. }) => {
                        assert!(!last, "{}", input.escape_ascii());
                        at += len;
                    }
                    Ok(Progress::More) => {
                        assert!(end < input.len(), "not refused: {}", input.escape_ascii());
                        end += step;
                    }
                }
            };
            assert_eq!(error, *expected, "{}", input.escape_ascii());
            assert_eq!(scanner.next(b"+OK\r\n"), Err(*expected), "refused for good");
        }
    }
}

#[test]
fn a_line_of_exactly_the_limit_passes() {
    let mut scanner = ReplyScanner::new(ReplyLimits { line_max: 8, ..LIMITS });
    assert_eq!(scanner.next(b"+12345678\r"), Ok(Progress::More));
    assert_eq!(scanner.next(b"+12345678\r\n"), Ok(Progress::Piece { len: 11, first: true, last: true }));
}

#[test]
fn a_line_passes_only_whole_and_a_payload_as_it_comes() {
    let mut scanner = ReplyScanner::new(LIMITS);
    assert_eq!(scanner.next(b""), Ok(Progress::More));
    assert_eq!(scanner.next(b"$1"), Ok(Progress::More));
    assert_eq!(scanner.next(b"$10\r\n"), Ok(Progress::Piece { len: 5, first: true, last: false }));
    assert!(!scanner.at_boundary());
    assert_eq!(scanner.frame().class, Class::Bulk);
    assert_eq!(scanner.next(b"01234567"), Ok(Progress::Piece { len: 8, first: false, last: false }));
    assert_eq!(scanner.next(b"89\r"), Ok(Progress::Piece { len: 2, first: false, last: false }));
    assert_eq!(scanner.next(b"\r"), Ok(Progress::More));
    assert_eq!(scanner.next(b"\r\n+OK\r\n"), Ok(Progress::Piece { len: 2, first: false, last: true }));
    assert!(scanner.at_boundary());
    assert_eq!(scanner.frame().bytes, 17);
}

#[test]
fn one_call_never_passes_beyond_one_frame() {
    let mut scanner = ReplyScanner::new(LIMITS);
    let input = b"*2\r\n:1\r\n$1\r\na\r\n:7\r\n";
    assert_eq!(scanner.next(input), Ok(Progress::Piece { len: 15, first: true, last: true }));
    assert_eq!(scanner.next(&input[15..]), Ok(Progress::Piece { len: 4, first: true, last: true }));
    assert_eq!(scanner.frame().class, Class::Integer);
    assert_eq!(scanner.frame().element_count, 0);
}

#[test]
fn nesting_of_any_depth_takes_constant_memory() {
    for head in [&b"*1\r\n"[..], b"%1\r\n+k\r\n", b"*1\r\n|1\r\n+k\r\n+v\r\n"] {
        let mut input = head.repeat(100_000);
        input.extend(b":1\r\n");
        let (scanner, len) = scan(&input, Inspect::Nothing, &[4096; 400]).expect("a frame");
        assert_eq!(len, input.len());
        assert_eq!(scanner.frame().elements.capacity(), 0);
    }
}

#[test]
fn promises_of_elements_are_bounded_over_all_levels() {
    let mut scanner = ReplyScanner::new(ReplyLimits { elements_max: u64::MAX, ..LIMITS });
    assert_eq!(scanner.next(b"*18446744073709551615\r\n"), Err(ReplyError::TooManyElements));
    let mut scanner = ReplyScanner::new(ReplyLimits { elements_max: 1 << 39, ..LIMITS });
    assert_eq!(scanner.next(&b"*549755813888\r\n".repeat(3)), Err(ReplyError::TooManyElements));
    let mut scanner = ReplyScanner::new(ReplyLimits { elements_max: u64::MAX, ..LIMITS });
    assert_eq!(scanner.next(b"%18446744073709551615\r\n"), Err(ReplyError::TooManyElements));
}

#[test]
fn the_head_of_a_status_or_error_is_known() {
    let long = [b"-".as_slice(), &[b'x'; 100], b"\r\n"].concat();
    let table: &[(&[u8], &[u8], &[u8])] = &[
        (b"+OK\r\n", b"OK", b""),
        (b"-NOPERM this user\r\n", b"NOPERM this user", b"NOPERM"),
        (b"-ERR\r\n", b"ERR", b"ERR"),
        (&long, &long[1..65], b""),
        (b"|1\r\n+k\r\n+v\r\n-NOAUTH a\r\n", b"NOAUTH a", b"NOAUTH"),
        (b"*1\r\n-ERR inside\r\n", b"", b""),
        (b"$2\r\nOK\r\n", b"", b""),
    ];
    for (input, head, code) in table {
        let (scanner, _) = scan(input, Inspect::Nothing, &[1; 200]).expect("a frame");
        assert_eq!(scanner.frame().head(), *head);
        assert_eq!(scanner.frame().error_code(), *code);
    }
}

#[test]
fn error_codes_are_upper_case_words_of_bounded_length() {
    let table: &[(&[u8], &[u8])] = &[
        (b"ERR unknown command", b"ERR"),
        (b"CROSSSLOT", b"CROSSSLOT"),
        (b"NO_2 x", b"NO_2"),
        (b"", b""),
        (b" ERR", b""),
        (b"Err x", b""),
        (b"ERR\"x y", b""),
        (b"ERR\x1b", b""),
        (&[b'A'; 32], &[b'A'; 32]),
        (&[b'A'; 33], b""),
    ];
    for (head, code) in table {
        assert_eq!(error_code(head), *code);
    }
}

#[test]
fn an_inspected_array_waits_for_its_first_word() {
    let mut scanner = ReplyScanner::new(LIMITS);
    scanner.inspect(Inspect::Word);
    let input = b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";
    for end in 0..19 {
        assert_eq!(scanner.next(&input[..end]), Ok(Progress::More), "{end}");
        assert!(scanner.at_boundary());
    }
    assert_eq!(scanner.next(&input[..19]), Ok(Progress::Piece { len: 19, first: true, last: false }));
    assert_eq!(scanner.frame().word(), b"subscribe");
    assert_eq!(scanner.frame().element_count, 3);
    assert_eq!(scanner.next(&input[19..]), Ok(Progress::Piece { len: input.len() - 19, first: false, last: true }));
    assert_eq!(scanner.frame().last_integer, Some(1));
}

#[test]
fn the_word_of_a_frame_is_found_or_not_held_for() {
    type Case = (&'static [u8], Inspect, &'static [u8], Option<u64>);
    let table: &[Case] = &[
        (b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n", Inspect::Word, b"message", None),
        (b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n", Inspect::Word, b"unsubscribe", Some(0)),
        (b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n", Inspect::Nothing, b"", Some(0)),
        (b">3\r\n+subscribe\r\n+a\r\n:12\r\n", Inspect::Nothing, b"subscribe", Some(12)),
        (b">2\r\n$10\r\ninvalidate\r\n*1\r\n:5\r\n", Inspect::Elements, b"invalidate", None),
        (b"*2\r\n:7\r\n:8\r\n", Inspect::Word, b"", Some(8)),
        (b"*2\r\n:7\r\n:-8\r\n", Inspect::Word, b"", None),
        (b"*2\r\n*2\r\n$1\r\nx\r\n:3\r\n+y\r\n", Inspect::Word, b"", None),
        (b"*2\r\n$0\r\n\r\n:1\r\n", Inspect::Word, b"", Some(1)),
        (b"*1\r\n$-1\r\n", Inspect::Word, b"", None),
        (b"*1\r\n|1\r\n+k\r\n+v\r\n+word\r\n", Inspect::Word, b"", None),
        (b"|1\r\n+k\r\n+v\r\n*1\r\n+word\r\n", Inspect::Word, b"word", None),
        (b"*0\r\n", Inspect::Word, b"", None),
        (b"+OK\r\n", Inspect::Word, b"", None),
        (b"$3\r\nabc\r\n", Inspect::Word, b"", None),
        (b"~1\r\n+word\r\n", Inspect::Word, b"", None),
        (
            b"*1\r\n$32\r\n01234567890123456789012345678901\r\n",
            Inspect::Word,
            b"01234567890123456789012345678901",
            None,
        ),
        (b"*1\r\n$33\r\n012345678901234567890123456789012\r\n", Inspect::Word, b"", None),
        (b"*1\r\n+012345678901234567890123456789012\r\n", Inspect::Word, b"", None),
    ];
    for (input, inspect, word, integer) in table {
        for cuts in [&[][..], &[1; 100], &[3; 100]] {
            let (scanner, len) = scan(input, *inspect, cuts).expect("a frame");
            assert_eq!(len, input.len());
            assert_eq!(scanner.frame().word(), *word, "{}", input.escape_ascii());
            assert_eq!(scanner.frame().last_integer, *integer, "{}", input.escape_ascii());
        }
    }
}

#[test]
fn a_first_element_that_is_no_word_flows() {
    let mut scanner = ReplyScanner::new(LIMITS);
    scanner.inspect(Inspect::Word);
    assert_eq!(scanner.next(b"*1\r\n$1000\r\nabc"), Ok(Progress::Piece { len: 14, first: true, last: false }));
}

#[test]
fn what_to_inspect_holds_for_one_frame_and_cannot_change_within_it() {
    let mut scanner = ReplyScanner::new(LIMITS);
    scanner.inspect(Inspect::Word);
    assert_eq!(scanner.next(b"*2\r\n"), Ok(Progress::More));
    scanner.inspect(Inspect::Nothing);
    assert_eq!(scanner.next(b"*2\r\n+a\r\n"), Ok(Progress::Piece { len: 8, first: true, last: false }));
    scanner.inspect(Inspect::Elements);
    assert_eq!(scanner.next(b":1\r\n"), Ok(Progress::Piece { len: 4, first: false, last: true }));
    assert!(scanner.frame().elements.is_empty());
    assert_eq!(scanner.next(b"*2\r\n"), Ok(Progress::Piece { len: 4, first: true, last: false }));
    assert!(scanner.frame().word().is_empty());
}

#[test]
fn the_classes_of_direct_elements_are_noted() {
    let input =
        b"*6\r\n+OK\r\n-ERR a\r\n|1\r\n+k\r\n+v\r\n*2\r\n:1\r\n*1\r\n:2\r\n$-1\r\n%1\r\n+a\r\n$1\r\nb\r\n:3\r\n";
    for cuts in [&[][..], &[1; 200]] {
        let (scanner, _) = scan(input, Inspect::Elements, cuts).expect("a frame");
        let frame = scanner.frame();
        assert_eq!(
            frame.elements,
            [Class::Status, Class::Error, Class::Array, Class::Null, Class::Map, Class::Integer]
        );
        assert_eq!((frame.element_count, frame.last_integer), (6, Some(3)));
    }
    let many = [&b"*500\r\n"[..], &b":1\r\n".repeat(500)].concat();
    let (scanner, _) = scan(&many, Inspect::Elements, &[]).expect("a frame");
    assert_eq!((scanner.frame().elements.len(), scanner.frame().element_count), (128, 500));
}

/// As Redis 7.0 answers MULTI, GET, PUBLISH, EXEC of a RESP3 client that hears itself.
#[test]
fn a_push_inside_a_reply_is_no_element_of_it() {
    let message = b">3\r\n$7\r\nmessage\r\n$2\r\nch\r\n*1\r\n:9\r\n";
    let input = [b"*2\r\n$1\r\nv\r\n", &message[..], b":1\r\n"].concat();
    let nested = [b"*2\r\n*1\r\n", &message[..], b"_\r\n", message, b":1\r\n"].concat();
    for cuts in [&[][..], &[1; 200]] {
        for (input, first) in [(&input, Class::Bulk), (&nested, Class::Array)] {
            let (scanner, len) = scan(input, Inspect::Elements, cuts).expect("a frame");
            assert_eq!(len, input.len());
            let frame = scanner.frame();
            assert_eq!(frame.elements, [first, Class::Integer]);
            assert_eq!((frame.element_count, frame.last_integer), (2, Some(1)));
        }
    }
}

#[test]
fn attributes_are_held_up_to_a_bound() {
    let mut input = b"|1\r\n+k\r\n$70000\r\n".to_vec();
    let mut scanner = ReplyScanner::new(LIMITS);
    assert_eq!(scanner.next(&input), Ok(Progress::More));
    input.resize(60_000, b'x');
    assert_eq!(scanner.next(&input), Ok(Progress::More));
    input.resize(66_000, b'x');
    assert_eq!(scanner.next(&input), Err(ReplyError::AttributeTooLong));
}
