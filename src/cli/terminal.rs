//! What is printed for people: colours, the terminal's width, and foreign text made harmless.

use super::coloured;
use crate::audit::hidden;
use clap::ColorChoice;
use rustix::termios::tcgetwinsize;
use std::{
    ffi::OsStr,
    fmt::Write as _,
    io::{self, IsTerminal, Write},
    os::{fd::AsFd, unix::ffi::OsStrExt as _},
    process::ExitCode,
};
use unicode_width::UnicodeWidthChar as _;

/// A terminal narrower than this is written to as if it were so wide: nothing could be read anyway.
const WIDTH_MIN: usize = 60;

/// How a stream for people is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Screen {
    /// With colours.
    pub(super) colour: bool,
    /// With characters beyond ASCII.
    pub(super) unicode: bool,
    /// Columns of a line; `None` where nobody counts them.
    pub(super) width: Option<usize>,
}

/// A colour, by what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    /// Denied, failed, lost.
    Bad,
    /// Somebody should look.
    Warn,
    /// As it should be.
    Good,
    /// Of lesser interest.
    Dim,
    /// A heading, or what one looks for.
    Bold,
    /// As the terminal has it.
    Plain,
}

impl Screen {
    /// How to write to `stream`.
    pub(super) fn of(choice: ColorChoice, stream: &(impl IsTerminal + AsFd)) -> Self {
        let columns = || tcgetwinsize(stream).ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
        Self {
            colour: coloured(choice, stream),
            unicode: utf8_locale(|name| std::env::var_os(name)),
            width: if stream.is_terminal() { columns().map(|columns| columns.max(WIDTH_MIN)) } else { None },
        }
    }

    /// `text` in a colour, where there are colours. The text must be harmless already.
    pub(super) fn paint(self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Bad => "31",
            Paint::Warn => "33",
            Paint::Good => "32",
            Paint::Dim => "2",
            Paint::Bold => "1",
            Paint::Plain => return text.to_owned(),
        };
        if self.colour && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Foreign text with everything escaped that could act on a terminal or be taken for something else.
    pub(super) fn shown(self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            if !self.unicode && matches!(c, '→' | '…') {
                // Our own.
                out.push_str(if c == '→' { "->" } else { "..." });
            } else if hidden(c) || (!self.unicode && !c.is_ascii()) {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            } else {
                out.push(c);
            }
        }
        out
    }

    /// What stands for what was cut.
    pub(super) const fn ellipsis(self) -> &'static str {
        if self.unicode { "…" } else { "~" }
    }

    /// At most `columns` columns of harmless text.
    pub(super) fn cut(self, text: &str, columns: usize) -> String {
        if text.len() <= columns || width(text) <= columns && text.chars().count() <= columns.saturating_mul(4) {
            return text.to_owned();
        }
        let mut out = String::new();
        let mut left = columns.saturating_sub(1);
        // What has no width takes no column, but must not go on for ever either.
        for c in text.chars().take(columns.saturating_mul(4)) {
            let Some(rest) = left.checked_sub(c.width().unwrap_or(0)) else { break };
            left = rest;
            out.push(c);
        }
        out.push_str(self.ellipsis());
        out
    }

    /// Exactly `columns` columns: cut, or filled with blanks behind.
    pub(super) fn left(self, text: &str, columns: usize) -> String {
        let mut out = self.cut(text, columns);
        let missing = columns.saturating_sub(width(&out));
        out.extend(std::iter::repeat_n(' ', missing));
        out
    }

    /// Exactly `columns` columns, blanks before.
    pub(super) fn right(self, text: &str, columns: usize) -> String {
        let text = self.cut(text, columns);
        format!("{}{text}", " ".repeat(columns.saturating_sub(width(&text))))
    }
}

/// Columns that a text takes.
pub(super) fn width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().map(|c| c.width().unwrap_or(0)).sum() }
}

/// Whether the locale's character set is UTF-8: the first of these variables that is set decides, as for every program.
fn utf8_locale<V: AsRef<OsStr>>(variable: impl Fn(&str) -> Option<V>) -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(variable).find(|value| !value.as_ref().is_empty());
    set.is_some_and(|value| {
        let value = value.as_ref().as_bytes().to_ascii_lowercase();
        value.ends_with(b"utf-8") || value.ends_with(b"utf8")
    })
}

/// A number with its thousands apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && digits.len().saturating_sub(at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes with three digits or so.
pub(super) fn bytes(number: u64) -> String {
    scaled(number, &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)], " ")
}

/// Microseconds with three digits or so.
pub(super) fn time(us: u64) -> String {
    match us {
        0..60_000_000 => scaled(us, &[("us", 1), ("ms", 1000), ("s", 1_000_000)], ""),
        _ => {
            let seconds = us / 1_000_000;
            let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
            match (days, hours) {
                (0, 0) => format!("{minutes}m{}s", seconds % 60),
                (0, _) => format!("{hours}h{minutes}m"),
                (_, _) => format!("{days}d{hours}h"),
            }
        }
    }
}

fn scaled(number: u64, units: &[(&str, u64)], gap: &str) -> String {
    let (unit, factor) =
        units.iter().rev().find(|(_, factor)| number >= *factor).or(units.first()).copied().unwrap_or(("", 1));
    let (whole, tenth) = (number / factor, number % factor * 10 / factor);
    if whole < 10 && factor > 1 && tenth > 0 {
        format!("{whole}.{tenth}{gap}{unit}")
    } else {
        format!("{whole}{gap}{unit}")
    }
}

/// What came of printing, as an exit code: whoever reads may stop (`… | head`), and that is no failure.
pub(super) fn printed(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            super::complain(&format_args!("error: {error}"));
            ExitCode::from(super::exit::FAILURE)
        }
    }
}

/// Prints all of a page.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASCII: Screen = Screen { colour: false, unicode: false, width: None };
    const UTF8: Screen = Screen { colour: true, unicode: true, width: Some(80) };

    #[test]
    fn nothing_that_acts_on_a_terminal_is_shown_as_itself() {
        for (screen, text, expected) in [
            (UTF8, "plain ключ", "plain ключ"),
            (ASCII, "ключ", "\\u{43a}\\u{43b}\\u{44e}\\u{447}"),
            (ASCII, "GET → 3…", "GET -> 3..."),
            (UTF8, "\x1b[31mred\x07\r\n", "\\u{1b}[31mred\\u{7}\\u{d}\\u{a}"),
            (UTF8, "a\u{9b}31m\u{202e}b\u{200b}", "a\\u{9b}31m\\u{202e}b\\u{200b}"),
        ] {
            assert_eq!(screen.shown(text), expected, "{text:?}");
        }
    }

    #[test]
    fn text_is_cut_and_filled_by_columns_not_by_bytes() {
        for (text, columns, expected) in [
            ("abc", 5, "abc  "),
            ("abcdef", 5, "abcd…"),
            ("ключ", 5, "ключ "),
            ("漢字漢字", 5, "漢字…"),
            ("漢字", 4, "漢字"),
            ("漢字漢", 4, "漢… "),
            ("e\u{301}", 2, "e\u{301} "),
        ] {
            assert_eq!(UTF8.left(text, columns), expected, "{text:?}");
            assert_eq!(width(&UTF8.left(text, columns)), columns, "{text:?}");
            assert_eq!(width(&UTF8.right(text, columns)), columns, "{text:?}");
        }
        let marks = format!("e{}", "\u{301}".repeat(100_000));
        assert!(UTF8.left(&marks, 10).len() < 200, "what has no width is bounded too");
        assert_eq!(ASCII.cut("abcdef", 5), "abcd~");
    }

    #[test]
    fn numbers_are_short_enough_to_compare() {
        for (number, of_count, of_bytes, of_time) in [
            (0, "0", "0 B", "0us"),
            (999, "999", "999 B", "999us"),
            (1536, "1,536", "1.5 KiB", "1.5ms"),
            (1_234_567, "1,234,567", "1.1 MiB", "1.2s"),
            (61_000_000, "61,000,000", "58 MiB", "1m1s"),
            (3_700_000_000, "3,700,000,000", "3.4 GiB", "1h1m"),
            (100_000_000_000, "100,000,000,000", "93 GiB", "1d3h"),
        ] {
            assert_eq!(
                (count(number).as_str(), bytes(number).as_str(), time(number).as_str()),
                (of_count, of_bytes, of_time)
            );
        }
        assert_eq!(time(u64::MAX), "213503982d8h");
    }

    #[test]
    fn the_first_variable_that_is_set_says_whether_the_locale_is_utf_8() {
        for (set, expected) in [
            (&[][..], false),
            (&[("LANG", "de_DE.UTF-8")][..], true),
            (&[("LANG", "C.utf8")][..], true),
            (&[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")][..], false),
            (&[("LC_ALL", ""), ("LC_CTYPE", "en_GB.UTF-8")][..], true),
            (&[("LANG", "de_DE.ISO-8859-1")][..], false),
        ] {
            let variable = |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
            assert_eq!(utf8_locale(variable), expected, "{set:?}");
        }
    }
}
