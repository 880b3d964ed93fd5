//! Commands on standard input: one a line.

use std::io::{self, BufRead};

/// Longest line that is read.
const LINE_MAX: u64 = 16 << 20;

/// What a line holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// The words of a command, at least one.
    Command(Vec<Vec<u8>>),
    /// No command.
    Bad { number: usize, why: String },
}

/// The lines of `input` that hold something: words with blanks between them, or a JSON array of strings.
pub(super) fn lines(mut input: impl BufRead) -> impl Iterator<Item = io::Result<Line>> {
    let mut number = 0_usize;
    std::iter::from_fn(move || {
        loop {
            let mut bytes = Vec::new();
            match io::Read::take(&mut input, LINE_MAX).read_until(b'\n', &mut bytes) {
                Ok(0) => return None,
                Err(error) => return Some(Err(error)),
                Ok(_) => {}
            }
            number = number.saturating_add(1);
            if bytes.len() as u64 == LINE_MAX {
                return Some(Err(io::Error::other(format!("line {number} is longer than {LINE_MAX} bytes"))));
            }
            let line = bytes.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            return Some(Ok(match words(line) {
                Ok(words) => Line::Command(words),
                Err(why) => Line::Bad { number, why },
            }));
        }
    })
}

fn words(line: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    if !line.starts_with(b"[") {
        return Ok(line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).map(<[u8]>::to_vec).collect());
    }
    let words: Vec<String> = serde_json::from_slice(line)
        .map_err(|error| format!("expected a JSON array of strings such as [\"GET\",\"key\"]: {error}"))?;
    if words.is_empty() {
        Err("the array holds no command".to_owned())
    } else {
        Ok(words.into_iter().map(String::into_bytes).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_arrays_are_commands_and_the_rest_is_named() {
        let text = "GET a\n\n  # no command\n[\"SET\",\"a\",\"two words\"]\n[1]\n[]\n\t SET  a\tb \nlast";
        let found: Vec<_> = lines(text.as_bytes()).map(Result::unwrap).collect();
        let command = |words: &[&str]| Line::Command(words.iter().map(|word| word.as_bytes().to_vec()).collect());
        assert_eq!(found[0], command(&["GET", "a"]));
        assert_eq!(found[1], command(&["SET", "a", "two words"]));
        assert!(
            matches!(&found[2], Line::Bad { number: 5, why } if why.contains("JSON array of strings")),
            "{found:?}"
        );
        assert!(matches!(&found[3], Line::Bad { number: 6, .. }), "{found:?}");
        assert_eq!(found[4..], [command(&["SET", "a", "b"]), command(&["last"])]);
    }
}
