//! One record as a line for people: columns of the same width, and in words what became of it.

use super::{line::Whose, words};
use crate::cli::terminal::{Paint, Screen, time, width};
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// Columns of a column, at first and at most: they grow with what is shown, and never shrink.
const IDENTITY: (usize, usize) = (12, 36);
const ROLE: (usize, usize) = (6, 20);
const SOURCE: (usize, usize) = (17, 47);
/// Columns of a terminal from which on they are shown.
const ROLE_FROM: usize = 90;
const SOURCE_FROM: usize = 110;
const WHAT: usize = 10;
const TOOK: usize = 7;

/// Writes records below each other.
#[derive(Debug)]
pub(super) struct Renderer {
    screen: Screen,
    /// The day of the record before, `2026-11-21`.
    day: String,
    identity: usize,
    role: usize,
    source: usize,
}

impl Renderer {
    pub(super) fn new(screen: Screen) -> Self {
        Self { screen, day: String::new(), identity: IDENTITY.0, role: ROLE.0, source: SOURCE.0 }
    }

    /// The terminal may have become wider.
    pub(super) const fn resize(&mut self, screen: Screen) {
        self.screen = screen;
    }

    /// Appends the record, with a line about the day before it where that is another.
    pub(super) fn line(&mut self, record: &Map<String, Value>, whose: &Whose<'_>, out: &mut String) {
        let screen = self.screen;
        let text = |field: &str| record.get(field).and_then(Value::as_str).unwrap_or_default();
        let (day, clock) = text("ts").split_once('T').unwrap_or_default();
        if day != self.day && !day.is_empty() {
            self.day = day.to_owned();
            let heading = format!("{} UTC", screen.cut(&screen.shown(day), 32));
            let _ = writeln!(out, "{}", screen.paint(Paint::Bold, &heading));
        }
        let (what, paint) = what(record);
        let clock = screen.shown(clock.get(..12).unwrap_or(clock.trim_end_matches('Z')));
        let took = record.get("us").and_then(Value::as_u64).map_or(String::new(), time);
        let _ = write!(
            out,
            "{} {} {}",
            screen.paint(Paint::Dim, &screen.left(&clock, 12)),
            screen.paint(paint, &screen.left(&screen.shown(what), WHAT)),
            screen.right(&took, TOOK),
        );
        let mut used = 12 + 1 + WHAT + 1 + TOOK;
        // On a narrow terminal what was done comes before where from and in which role.
        let all = screen.width.unwrap_or(usize::MAX);
        let columns = [
            (whose.identity, &mut self.identity, IDENTITY.1.min(all / 7), 0),
            (whose.role, &mut self.role, ROLE.1.min(all / 7), ROLE_FROM),
            (whose.src, &mut self.source, SOURCE.1.min(all / 6), SOURCE_FROM),
        ];
        for (value, columns, most, from) in columns {
            if all < from {
                continue;
            }
            let shown = screen.shown(value.unwrap_or("-"));
            *columns = (*columns).min(most).max(width(&shown).min(most));
            let _ = write!(out, "  {}", screen.left(&shown, *columns));
            used = used.saturating_add(2).saturating_add(*columns);
        }
        let mut said = String::new();
        if whose.identity.is_none()
            && let Some(conn) = record.get("conn").and_then(Value::as_str)
        {
            // A compact line whose connection was opened before all that was read.
            let _ = write!(said, "[{conn}] ");
        }
        said.push_str(&words::of(record));
        let said = screen.shown(&said);
        let said =
            screen.width.map_or(said.clone(), |all| screen.cut(&said, all.saturating_sub(used.saturating_add(2))));
        let paint = if paint == Paint::Bad { Paint::Bold } else { Paint::Plain };
        let _ = writeln!(out, "  {}", screen.paint(paint, &said));
    }
}

/// What happened in one word, and its colour.
fn what(record: &Map<String, Value>) -> (&str, Paint) {
    let text = |field: &str| record.get(field).and_then(Value::as_str);
    match text("event").unwrap_or_default() {
        "command" => match (text("outcome").unwrap_or("ran"), text("verdict")) {
            ("denied", _) => ("denied", Paint::Bad),
            ("ran", Some("answer")) => ("answered", Paint::Good),
            ("ran", _) => ("ran", Paint::Good),
            ("queued", _) => ("queued", Paint::Good),
            (outcome, _) => (outcome, Paint::Warn),
        },
        "connection_open" => ("open", Paint::Dim),
        "connection_close" => ("close", Paint::Dim),
        "upstream_command" => ("upstream", Paint::Dim),
        "upstream_failed" => ("no redis", Paint::Bad),
        "handshake_failure" => ("handshake", Paint::Bad),
        "accept_error" => ("accept", Paint::Bad),
        "sink_recovered" => ("recovered", Paint::Warn),
        "upstream_switch" => ("switch", Paint::Warn),
        "client_auth" if text("verdict") == Some("deny") => ("auth", Paint::Bad),
        "client_auth" => ("auth", Paint::Good),
        "gap" => ("gap", Paint::Bad),
        "ban" => ("ban", Paint::Warn),
        "notice" => ("notice", Paint::Warn),
        "checkpoint" => ("checkpoint", Paint::Dim),
        "alarm" => ("alarm", Paint::Bad),
        "refused" => ("refused", Paint::Bad),
        "begin" => ("begin", Paint::Warn),
        "reload" if text("result") == Some("kept") => ("reload", Paint::Bad),
        other => (other, Paint::Bold),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::audit::line::Line;
    use proptest::prelude::*;

    fn rendered(screen: Screen, lines: &[&str]) -> String {
        let (mut renderer, mut out) = (Renderer::new(screen), String::new());
        for text in lines {
            let line = Line::parse(text.as_bytes()).unwrap();
            let Ok(Value::Object(record)) = serde_json::from_str(text) else { panic!("{text}") };
            renderer.line(&record, &line.whose(), &mut out);
        }
        out
    }

    const PLAIN: Screen = Screen { colour: false, unicode: true, width: None };
    const SET: &str = r#"{"v":1,"ts":"2026-11-21T12:00:00.123456Z","event":"command","conn":"a-1","src":"10.0.0.1:50000","identity":"cn:app","role":"app","db":2,"cmd":"SET","argc":3,"keys":["user:17"],"verdict":"allow","outcome":"ran","reply":"status","bytes_in":40,"bytes_out":5,"us":85}"#;
    const DENIED: &str = r#"{"v":1,"ts":"2026-11-21T12:00:01.000000Z","event":"command","conn":"a-2","src":"10.0.0.200:50000","identity":"cn:reports","role":"reader","db":0,"cmd":"CONFIG","sub":"SET","argc":4,"keys":[],"verdict":"deny","rule":"preset:hardened/config","outcome":"denied","reply":null,"bytes_in":40,"bytes_out":5,"us":null}"#;

    #[test]
    fn columns_are_aligned_and_the_day_stands_once() {
        assert_eq!(
            rendered(PLAIN, &[SET, DENIED, SET]),
            "2026-11-21 UTC\n\
             12:00:00.123 ran           85us  cn:app        app     10.0.0.1:50000     SET user:17 → status  40 B in, 5 B out, db 2\n\
             12:00:01.000 denied              cn:reports    reader  10.0.0.200:50000   CONFIG|SET by preset:hardened/config  40 B in, 5 B out\n\
             12:00:00.123 ran           85us  cn:app        app     10.0.0.1:50000     SET user:17 → status  40 B in, 5 B out, db 2\n"
        );
    }

    #[test]
    fn colours_are_there_only_where_they_are_wanted() {
        assert!(!rendered(PLAIN, &[DENIED]).contains('\x1b'));
        assert!(rendered(Screen { colour: true, ..PLAIN }, &[DENIED]).contains("\x1b[31mdenied"));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let long = SET.replace("user:17", &"long".repeat(200)).replace("cn:app", &"漢".repeat(100));
        for columns in [60, 80, 100, 120, 300] {
            for line in rendered(Screen { width: Some(columns), ..PLAIN }, &[&long, SET, DENIED]).lines() {
                assert!(width(line) <= columns, "{columns}: {line}");
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_a_record_says_can_neither_act_on_a_terminal_nor_end_its_line(
            texts in prop::collection::vec(any::<String>(), 8), event in 0_usize..12, columns in prop::option::of(40_usize..200), unicode: bool,
        ) {
            let events = ["command", "begin", "connection_open", "connection_close", "handshake_failure", "gap", "reload", "start", "refused", "client_auth", "alarm", "\x1b[2Jnew"];
            let mut record = serde_json::json!({
                "v": 1, "ts": texts[0], "event": events[event], "conn": texts[1], "identity": texts[2], "role": texts[3],
                "src": texts[4], "cmd": texts[5], "keys": [texts[6], {"b64": texts[7]}, {"text": texts[0], "cut": true}],
                "rule": texts[7], "reason": texts[6], "detail": texts[5], "outcome": texts[4], "reply": texts[3],
                "unverified": texts, "output": texts[2], "services": texts, "us": 7,
            });
            record[texts[0].as_str()] = texts[1].clone().into();
            let text = record.to_string();
            let Some(line) = Line::parse(text.as_bytes()) else { return Ok(()) };
            let (mut renderer, mut out) = (Renderer::new(Screen { colour: false, unicode, width: columns }), String::new());
            renderer.line(record.as_object().unwrap(), &line.whose(), &mut out);
            prop_assert!(out.ends_with('\n') && out.lines().count() <= 2, "{:?}", out);
            prop_assert!(!out.replace('\n', "").chars().any(crate::audit::hidden), "{:?}", out);
            prop_assert!(unicode || columns.is_none() || out.is_ascii() , "{:?}", out);
        }
    }
}
