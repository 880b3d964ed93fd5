//! Redis' glob patterns, in bounded time.
//!
//! [`matches()`] says what `stringmatchlen` of Redis 7 (`util.c`) says of every pattern and text, its oddities included: a
//! class that is not closed ends with the pattern, a range may be written backwards and takes the `]` behind its `-`,
//! bounds of ranges compare as signed bytes (as on x86-64), a `\` at the very end stands for itself, and the empty text
//! matches the empty pattern alone, not `**`. Redis goes back to every `*` it has passed, which took time exponential in
//! their number before CVE-2022-36021 was mended; here only the last one is gone back to, because what an earlier one
//! could take in addition the last one can take too. So a match looks at no more than `pattern × (text + 1)` pairs of
//! bytes, and needs no memory. Shown by `tests` below against a model that tries everything, and by
//! `tests/acl_oracle.rs` against the real one.

/// Whether `text` matches `pattern`. Upper and lower case differ.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let mut pattern_left = pattern;
    let mut text_left = text;
    // Behind the last `*`: what of the pattern follows it, and what of the text it has not taken yet.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', behind @ ..] = pattern_left {
            if behind.iter().all(|byte| *byte == b'*') {
                return true;
            }
            pattern_left = behind;
            retry = Some((behind, text_left));
            continue;
        }
        if let Some((byte, rest)) = text_left.split_first() {
            if let Some(behind) = one(pattern_left, *byte) {
                pattern_left = behind;
                text_left = rest;
                continue;
            }
        } else if pattern_left.is_empty() {
            return true;
        }
        // The `*` takes one byte more, if there is one.
        let Some((behind, from)) = retry else { return false };
        let [_, rest @ ..] = from else { return false };
        pattern_left = behind;
        text_left = rest;
        retry = Some((behind, rest));
    }
}

/// What of the pattern follows its first element (which is no `*`), if that element stands for `byte`.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', behind @ ..] => Some(behind),
        [b'[', behind @ ..] => {
            let (holds, behind) = class(behind, byte);
            holds.then_some(behind)
        }
        [b'\\', escaped, behind @ ..] => (*escaped == byte).then_some(behind),
        [literal, behind @ ..] => (*literal == byte).then_some(behind),
    }
}

/// Whether the class that begins behind `[` holds `byte`, and what of the pattern follows it.
fn class(pattern: &[u8], byte: u8) -> (bool, &[u8]) {
    let (negated, mut rest) = match pattern {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut holds = false;
    loop {
        rest = match rest {
            [] => break,
            [b'\\', escaped, behind @ ..] => {
                holds |= *escaped == byte;
                behind
            }
            [b']', behind @ ..] => {
                rest = behind;
                break;
            }
            [from, b'-', to, behind @ ..] => {
                let [from, to, byte] = [*from, *to, byte].map(u8::cast_signed);
                holds |= (from.min(to)..=from.max(to)).contains(&byte);
                behind
            }
            [literal, behind @ ..] => {
                holds |= *literal == byte;
                behind
            }
        };
    }
    (holds != negated, rest)
}

#[cfg(test)]
#[path = "glob_tests.rs"]
mod tests;
