//! Patterns by hand, against a model that tries everything, and in bounded time.

use super::matches;
use proptest::prelude::*;

#[test]
fn patterns_mean_what_they_mean_to_redis() {
    for (pattern, matching, others) in [
        ("", &[""][..], &["a"][..]),
        ("a", &["a"], &["", "A", "aa"]),
        ("?", &["a", "*"], &["", "ab"]),
        ("*", &["a", "abc"], &[""]),
        ("**", &["a", "abc"], &[""]),
        ("a*", &["a", "ab", "abc"], &["", "ba"]),
        ("*a", &["a", "ba", "aba"], &["", "ab"]),
        ("a*b*c", &["abc", "axbxc", "abbcc"], &["acb", "ab"]),
        ("[abc]", &["a", "b", "c"], &["d", "", "ab"]),
        ("[^abc]", &["d", "^"], &["a", ""]),
        ("[a-c]x", &["ax", "bx"], &["dx", "-x"]),
        ("[c-a]", &["a", "b", "c"], &["d"]),
        ("[]", &[], &["", "]", "[]"]),
        ("[^]", &["]", "a"], &["", "aa"]),
        ("[a", &["a"], &["b", "[a"]),
        ("[a-", &["a", "-"], &["b"]),
        ("[a-]b", &["a", "b", "^"], &["-", "ab"]),
        ("[", &[], &["[", ""]),
        ("[^", &["a", "["], &["", "ab"]),
        ("[\\]]", &["]"], &["\\", "\\]"]),
        ("[\\a-c]", &["a", "-", "c"], &["b", "\\"]),
        ("[a\\", &["a", "\\"], &["b"]),
        ("\\*", &["*"], &["a", "\\*"]),
        ("\\", &["\\"], &[""]),
        ("\\a", &["a"], &["\\a"]),
        ("a\\", &["a\\"], &["a"]),
        ("k[0-9]?*", &["k1x", "k1xy"], &["k1", "kxx"]),
    ] {
        for text in matching {
            assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern:?} and {text:?}");
        }
        for text in others {
            assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern:?} and {text:?}");
        }
    }
}

/// Bounds compare as signed bytes, as a `char` is on x86-64: from `a` to the byte 0xE9 is from -23 to 97.
#[test]
fn bounds_of_a_range_beyond_ascii_are_negative() {
    for (byte, holds) in
        [(b'a', true), (b'A', true), (0, true), (0xE9, true), (0xFF, true), (0xE8, false), (b'b', false)]
    {
        assert_eq!(matches(b"[a-\xE9]", &[byte]), holds, "{byte:#x}");
    }
}

/// Redis took hours for this before CVE-2022-36021 was mended.
#[test]
fn many_stars_take_bounded_time() {
    let pattern = format!("{}b", "a*".repeat(400));
    let text = "a".repeat(20_000);
    assert!(!matches(pattern.as_bytes(), text.as_bytes()));
    let classes = format!("{}b", "*[a-c]".repeat(200));
    assert!(!matches(classes.as_bytes(), text.as_bytes()));
}

/// Tries for every `*` every number of bytes.
fn model(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', behind @ ..] => (0..=text.len()).any(|taken| model(behind, &text[taken..])),
        [b'[', inside @ ..] => {
            let (negated, mut inside) = inside.strip_prefix(b"^").map_or((false, inside), |rest| (true, rest));
            let Some((byte, rest)) = text.split_first() else { return false };
            let mut holds = false;
            loop {
                inside = match inside {
                    [] => break,
                    [b'\\', literal, behind @ ..] => {
                        holds |= literal == byte;
                        behind
                    }
                    [b']', behind @ ..] => {
                        inside = behind;
                        break;
                    }
                    [from, b'-', to, behind @ ..] => {
                        let between = |a: u8, b: u8| (a as i8..=b as i8).contains(&(*byte as i8));
                        holds |= between(*from, *to) || between(*to, *from);
                        behind
                    }
                    [literal, behind @ ..] => {
                        holds |= literal == byte;
                        behind
                    }
                };
            }
            holds != negated && model(inside, rest)
        }
        [first, behind @ ..] => {
            let Some((byte, rest)) = text.split_first() else { return false };
            match (first, behind) {
                (b'?', _) => model(behind, rest),
                (b'\\', [literal, behind @ ..]) => literal == byte && model(behind, rest),
                _ => first == byte && model(behind, rest),
            }
        }
    }
}

proptest! {
    #[test]
    fn matching_agrees_with_the_model(
        pattern in proptest::collection::vec(proptest::sample::select(b"ab*?[]^-\\\xC3".as_slice()), 0..12),
        text in proptest::collection::vec(proptest::sample::select(b"ab*?[]^-\\\xC3".as_slice()), 0..12),
    ) {
        let expected = if text.is_empty() { pattern.is_empty() } else { model(&pattern, &text) };
        prop_assert_eq!(matches(&pattern, &text), expected);
    }
}
