//! The line of a file that an error is about, with a mark under the fault and without secrets.

use std::{fmt, ops::Range};

/// Most characters of a line that are shown.
const WIDTH_MAX: usize = 160;
/// Words that, as the end of a key's name, say that the value is a secret. A configuration has no such key; people write
/// them all the same, and an error about them must not print what they wrote.
const SECRET_KEYS: [&str; 7] = ["password", "passwd", "pass", "secret", "requirepass", "token", "rename"];
const BLOT: &str = "…";

/// A line and which of its characters are at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    line: String,
    /// Characters before the mark.
    start: usize,
    /// Characters marked, at least one.
    len: usize,
}

impl Excerpt {
    /// Cuts the line at which `span` begins out of `text`; also its number and the column, both counted from 1.
    pub(super) fn cut(text: &str, span: &Range<usize>) -> (usize, usize, Self) {
        // A span never lies inside a character, but nothing here relies on it.
        let mut start = span.start.min(text.len());
        while !text.is_char_boundary(start) {
            start = start.saturating_sub(1);
        }
        let before = text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at.saturating_add(1));
        let number = before.bytes().filter(|&byte| byte == b'\n').count().saturating_add(1);
        let rest = text.get(line_start..).unwrap_or_default();
        let line = rest.lines().next().unwrap_or_default();
        let prefix = text.get(line_start..start).unwrap_or_default();
        let column = prefix.chars().count().saturating_add(1);

        let from = prefix.len().min(line.len());
        let to = span.end.saturating_sub(line_start).clamp(from, line.len());
        let (line, marked) = blot(line, from..to);
        let len = line.get(marked.clone()).map_or(1, |marked| marked.chars().count()).max(1);
        let start = line.get(..marked.start).map_or(0, |before| before.chars().count());
        (number, column, Self { line, start, len })
    }

    /// Writes the line and the mark under it.
    pub(super) fn write(&self, f: &mut fmt::Formatter<'_>, number: usize) -> fmt::Result {
        let gutter = number.to_string().len();
        // Long lines lose their front, so that the mark stays in sight.
        let skip = if self.start > WIDTH_MAX / 2 { self.start.saturating_sub(WIDTH_MAX / 4) } else { 0 };
        let shown: String = self.line.chars().skip(skip).take(WIDTH_MAX).map(printable).collect();
        let pad: String = shown
            .chars()
            .take(self.start.saturating_sub(skip))
            .map(|character| if character == '\t' { '\t' } else { ' ' })
            .collect();
        let room = shown.chars().count().saturating_sub(self.start.saturating_sub(skip)).max(1);
        let mark = "^".repeat(self.len.min(room));
        write!(f, "\n{:gutter$} |\n{number} | {shown}\n{:gutter$} | {pad}{mark}", "", "")
    }
}

fn printable(character: char) -> char {
    if character == '\t' || !character.is_control() { character } else { '\u{fffd}' }
}

/// The line without its secrets, and where the marked bytes have gone.
fn blot(line: &str, marked: Range<usize>) -> (String, Range<usize>) {
    let mut out = String::with_capacity(line.len());
    let mut moved = marked.clone();
    let mut done = 0;
    for secret in secrets(line) {
        let Some(kept) = line.get(done..secret.start) else { continue };
        out.push_str(kept);
        let grown = out.len().saturating_add(BLOT.len());
        // A mark that begins or ends inside the blot stands at the blot.
        if marked.start >= secret.end {
            moved.start = grown.saturating_add(marked.start.saturating_sub(secret.end));
        } else if marked.start > secret.start {
            moved.start = out.len();
        }
        if marked.end >= secret.end {
            moved.end = grown.saturating_add(marked.end.saturating_sub(secret.end));
        } else if marked.end > secret.start {
            moved.end = grown;
        }
        out.push_str(BLOT);
        done = secret.end;
    }
    out.push_str(line.get(done..).unwrap_or_default());
    (out, moved)
}

/// Where secrets stand in a line: values of keys that end in a word for a secret, the user part of a URL, and `>password`.
fn secrets(line: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let lower = line.to_ascii_lowercase();
    for (equals, _) in line.match_indices('=') {
        let key = lower.get(..equals).unwrap_or_default().trim_end().trim_end_matches(['"', '\'']);
        let start = equals.saturating_add(1);
        let value = line.get(start..).unwrap_or_default();
        let start = start.saturating_add(value.len().saturating_sub(value.trim_start().len()));
        // `auth` has one value that is none.
        let word = key.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        let auth = word == "auth" && !value.trim_start().trim_start_matches(['"', '\'']).starts_with("none");
        if auth || key.contains("rename.") || SECRET_KEYS.iter().any(|word| key.ends_with(word)) {
            // Where a secret ends is for a parser to say; the rest of the line goes with it.
            found.push(start..line.len());
            break;
        }
    }
    for (scheme, _) in line.match_indices("://") {
        let start = scheme.saturating_add(3);
        let rest = line.get(start..).unwrap_or_default();
        let end = rest.find(['"', '\'', ' ']).unwrap_or(rest.len());
        if let Some(at) = rest.get(..end).and_then(|authority| authority.rfind('@')) {
            found.push(start..start.saturating_add(at));
        }
    }
    // A password or its hash among ACL rules, which have no place for them here and get them all the same.
    let marks = line.match_indices(['>', '<', '#', '!']).find(|(at, mark)| {
        let before = line.get(..*at).and_then(|before| before.chars().next_back());
        let behind = line.get(at.saturating_add(1)..).unwrap_or_default();
        let begins = before.is_none_or(|before| before.is_whitespace() || matches!(before, '"' | '\'' | '('));
        let hashed = behind.len() >= 64 && behind.bytes().take(64).all(|byte| byte.is_ascii_hexdigit());
        begins && if matches!(*mark, ">" | "<") { behind.starts_with(|c: char| !c.is_whitespace()) } else { hashed }
    });
    if let Some((at, _)) = marks {
        found.push(at.saturating_add(1)..line.len());
    }
    found.sort_by_key(|range| range.start);
    found.dedup_by(|later, earlier| {
        let overlap = later.start < earlier.end;
        if overlap {
            earlier.end = earlier.end.max(later.end);
        }
        overlap
    });
    found
}

#[cfg(test)]
mod tests {
    use super::Excerpt;
    use std::ops::Range;

    struct Shown(Excerpt, usize);

    impl std::fmt::Display for Shown {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.write(f, self.1)
        }
    }

    fn show(text: &str, span: Range<usize>) -> (usize, usize, String) {
        let (line, column, excerpt) = Excerpt::cut(text, &span);
        (line, column, Shown(excerpt, line).to_string())
    }

    #[test]
    fn the_mark_stands_under_the_fault() {
        let text = "a = 1\nbc = \"x\"\n";
        let at = text.find('"').unwrap();
        assert_eq!(show(text, at..at + 3), (2, 6, "\n  |\n2 | bc = \"x\"\n  |      ^^^".into()));
    }

    #[test]
    fn columns_are_characters_and_tabs_keep_their_width() {
        let text = "\tä = 1";
        assert_eq!(show(text, 4..5), (1, 4, "\n  |\n1 | \tä = 1\n  | \t  ^".into()));
    }

    #[test]
    fn a_fault_over_several_lines_is_marked_on_its_first() {
        let text = "a = [\n 1,\n]\n";
        assert_eq!(show(text, 4..11).2, "\n  |\n1 | a = [\n  |     ^");
    }

    #[test]
    fn places_outside_the_text_are_no_trouble() {
        for span in [0..0, 3..9, 99..100] {
            assert!(!show("a=1", span.clone()).2.is_empty(), "{span:?}");
            assert_eq!(show("", span).0, 1);
        }
    }

    #[test]
    fn a_long_line_is_cut_around_its_fault() {
        let text = format!("a = [{}!]", "1, ".repeat(500));
        let at = text.find('!').unwrap();
        let shown = show(&text, at..at + 1).2;
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines.iter().all(|line| line.chars().count() < 180), "{shown}");
        let mark = lines[3].chars().position(|c| c == '^').unwrap();
        assert_eq!(lines[2].chars().nth(mark), Some('!'), "{shown}");
    }

    #[test]
    fn what_looks_like_a_secret_is_never_shown() {
        let rows = [
            "password = \"hunter2\"",
            "upstream = { address = \"x\", password = 'hunter2', username = \"u\" }",
            "\"Password\"='hunter2",
            "requirepass = hunter2",
            "upstream = { address = \"x\", auth = \"hunter2\" }",
            "redis_password = \"\"\"hunter2",
            "rename = { CONFIG = \"hunter2\" }",
            "rename.CONFIG = \"hunter2\"",
            "rules = \"+get >hunter2 ~a\"",
            "rules = \"<hunter2\"",
            "  >hunter2",
            "(>hunter2 +get)",
            "address = \"redis://:hunter2@10.0.0.1:6379\"",
            "address = \"redis://me:hun@ter2@10.0.0.1:6379\"",
        ];
        for text in rows {
            for start in 0..text.len() {
                let shown = show(text, start..text.len()).2;
                assert!(!shown.contains("ter2"), "{shown}");
            }
        }
        for open in ["client_auth = \"ignore\"", "x = { auth = \"none\", b = 1 }"] {
            assert!(show(open, 0..1).2.contains(open));
        }
        assert!(show("a = \"b\" # x > y, !z", 0..1).2.contains("x > y, !z"));
        assert!(show("password_file = \"/run/p\"", 0..1).2.contains("/run/p"));
    }
}
