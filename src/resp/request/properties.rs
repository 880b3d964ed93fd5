#![allow(clippy::arithmetic_side_effects, reason = "tests may panic")]

use super::{
    Request, RequestError, RequestLimits, RequestParser,
    tests::{LIMITS, MORE, command, words},
};
use crate::resp::encode;
use proptest::prelude::*;

fn any_command() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let word = prop_oneof![
        3 => proptest::collection::vec(any::<u8>(), 0..12),
        1 => proptest::collection::vec(proptest::sample::select(b"\r\n$*0123456789".to_vec()), 0..30),
        1 => proptest::collection::vec(any::<u8>(), 90..130),
    ];
    proptest::collection::vec(word, 1..6)
}

fn encoded(words: &[Vec<u8>]) -> Vec<u8> {
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let mut out = Vec::new();
    encode::command(&mut out, &words);
    out
}

/// Bytes that often get far into the parser.
fn near_requests() -> impl Strategy<Value = Vec<u8>> {
    let token = proptest::sample::select(vec![
        "*1\r\n",
        "*2\r\n",
        "*3\r\n",
        "*0\r\n",
        "*-1\r\n",
        "$0\r\n",
        "$1\r\n",
        "$4\r\n",
        "$10\r\n",
        "a",
        "PING",
        "\r\n",
        "\r",
        "\n",
        " ",
        "\0",
        "0",
        "-",
        "$",
        "*",
        "GET a\r\n",
        "PING\r\n",
        "9999999999",
    ]);
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..64),
        proptest::collection::vec(token, 0..14).prop_map(|tokens| tokens.concat().into_bytes()),
    ]
}

/// Reads `input` as the session does, given `cuts[i]` more bytes at a time; the commands' words, or the refusal.
fn read_in_pieces(input: &[u8], cuts: &[usize], limits: RequestLimits) -> (Vec<Vec<Vec<u8>>>, Option<RequestError>) {
    let mut parser = RequestParser::new(limits);
    let mut commands = Vec::new();
    let (mut at, mut end) = (0, 0);
    let mut cuts = cuts.iter().copied().chain(std::iter::repeat(input.len()));
    loop {
        match parser.next(&input[at..end]) {
            Err(error) => return (commands, Some(error)),
            Ok(Request::More) if end == input.len() => return (commands, None),
            Ok(Request::More) => end = (end + cuts.next().unwrap_or(1)).min(input.len()),
            Ok(Request::Blank { len, .. }) => at += len,
            Ok(Request::Command { len } | Request::Inline { len }) => {
                commands.push(words(&parser, &input[at..end]));
                at += len;
            }
        }
    }
}

proptest! {
    #[test]
    fn pieces_read_as_the_whole(
        commands in proptest::collection::vec(any_command(), 1..5),
        cuts in proptest::collection::vec(1usize..40, 0..60),
    ) {
        let input: Vec<u8> = commands.iter().flat_map(|words| encoded(words)).collect();
        prop_assert_eq!(read_in_pieces(&input, &cuts, LIMITS), (commands, None));
    }

    #[test]
    fn every_prefix_of_a_command_asks_for_more(words in any_command()) {
        let input = encoded(&words);
        for end in 0..input.len() {
            let mut parser = RequestParser::new(LIMITS);
            prop_assert_eq!(parser.next(&input[..end]), MORE);
            prop_assert!(parser.known_len() <= input.len() as u64);
        }
    }

    #[test]
    fn chunking_does_not_change_what_random_bytes_are(
        input in near_requests(),
        cuts in proptest::collection::vec(1usize..5, 0..60),
        inline in any::<bool>(),
    ) {
        let limits = RequestLimits { inline, ..LIMITS };
        prop_assert_eq!(read_in_pieces(&input, &cuts, limits), read_in_pieces(&input, &[], limits));
    }

    #[test]
    fn what_is_accepted_is_exactly_its_canonical_encoding(input in near_requests()) {
        let mut parser = RequestParser::new(LIMITS);
        if let Ok(Request::Command { len }) = parser.next(&input) {
            prop_assert_eq!(encoded(&words(&parser, &input)), &input[..len]);
        }
    }

    #[test]
    fn a_stream_split_anywhere_forwards_the_same_bytes(
        words in any_command(),
        split_at in any::<proptest::sample::Index>(),
        cuts in proptest::collection::vec(1usize..20, 0..60),
    ) {
        let whole = encoded(&words);
        let input = [whole.as_slice(), b"*1\r\n$4\r\nPING\r\n"].concat();
        let seen = split_at.index(whole.len());
        let mut parser = RequestParser::new(LIMITS);
        prop_assert_eq!(parser.next(&input[..seen]), MORE);
        let known = parser.known_len();
        let mut at = parser.split(&input[..seen]);
        prop_assert_eq!(parser.known_len(), known);
        if at == 0 {
            prop_assert!(!parser.is_streaming());
            return Ok(());
        }
        let mut end = seen;
        let mut cuts = cuts.into_iter().chain(std::iter::repeat(7));
        loop {
            let piece = parser.stream(&input[at..end]).expect("canonical");
            at += piece.len;
            if piece.last {
                break;
            }
            prop_assert!(at < whole.len(), "the whole command passed, but not as its last piece");
            prop_assert!(end < input.len(), "everything was offered");
            end = (end + cuts.next().unwrap_or(1)).min(input.len());
        }
        prop_assert_eq!(at, whole.len());
        prop_assert_eq!(parser.known_len(), whole.len() as u64);
        prop_assert_eq!(parser.next(&input[at..]), command(14));
    }

    #[test]
    fn a_stream_with_a_wrong_line_end_never_completes_the_command(
        words in any_command(),
        split_at in any::<proptest::sample::Index>(),
        which in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
        cuts in proptest::collection::vec(1usize..20, 0..60),
    ) {
        let mut input = encoded(&words);
        // The line end to spoil: that after a word.
        let which = which.index(words.len());
        let end_of_word = encoded_prefix_len(&words, which);
        let at = end_of_word - 2 + usize::from(byte % 2);
        prop_assume!(input[at] != byte);
        input[at] = byte;
        let seen = split_at.index(at);
        let mut parser = RequestParser::new(LIMITS);
        prop_assert_eq!(parser.next(&input[..seen]), MORE);
        let mut passed = parser.split(&input[..seen]);
        prop_assume!(passed > 0);
        let mut end = seen;
        let mut cuts = cuts.into_iter().chain(std::iter::repeat(7));
        loop {
            prop_assert!(passed <= end_of_word - 2, "a byte of a spoilt line end passed");
            match parser.stream(&input[passed..end]) {
                Err(error) => {
                    prop_assert_eq!(error, RequestError::Terminator);
                    break;
                }
                Ok(piece) => {
                    prop_assert!(!piece.last);
                    passed += piece.len;
                }
            }
            prop_assert!(end < input.len(), "never refused");
            end = (end + cuts.next().unwrap_or(1)).min(input.len());
        }
    }
}

/// Bytes of the command up to and including its word `last`.
fn encoded_prefix_len(words: &[Vec<u8>], last: usize) -> usize {
    let behind: usize = words[last + 1..].iter().map(|word| encoded(std::slice::from_ref(word)).len() - 4).sum();
    encoded(words).len() - behind
}
