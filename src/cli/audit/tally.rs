//! What records add up to. However many there are, and whatever they say, this takes at most some 60 MiB.

use super::{
    line::{Line, Whose},
    sketch::{Frequent, Histogram, Largest, Timeline},
    words,
};
use jiff::Timestamp;
use serde_json::Value;

/// Names that are told apart: see [`Frequent`] for what becomes of more.
const IDENTITIES_MAX: usize = 8192;
const ROLES_MAX: usize = 1024;
const COMMANDS_MAX: usize = 2048;
const OTHERS_MAX: usize = 1024;

/// What a name's records add up to besides their number.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) denied: u64,
    pub(super) errors: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

/// Of one command.
#[derive(Clone, Debug, Default)]
pub(super) struct OfCommand {
    pub(super) sums: Sums,
    pub(super) max_in: u64,
    pub(super) max_out: u64,
    /// Microseconds; of those that Redis or the proxy answered.
    pub(super) times: Histogram,
}

/// One command of many, to be looked up.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub(super) struct Example {
    pub(super) ts: String,
    pub(super) conn: String,
    pub(super) identity: String,
    /// The command and its keys.
    pub(super) command: String,
}

/// All that is added up.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) records: u64,
    /// The first and the last time, as text.
    pub(super) span: Option<(String, String)>,
    pub(super) commands: u64,
    pub(super) answered: u64,
    pub(super) sums: Sums,
    pub(super) opened: u64,
    pub(super) closed: u64,
    /// Records that are missing, by the word of `gap` records.
    pub(super) dropped: u64,
    pub(super) identities: Frequent<Sums>,
    pub(super) roles: Frequent<Sums>,
    pub(super) names: Frequent<OfCommand>,
    pub(super) rules: Frequent<()>,
    pub(super) shadows: Frequent<()>,
    pub(super) errors: Frequent<()>,
    /// Peers that did not get in: event and reason.
    pub(super) turned_away: Frequent<()>,
    pub(super) events: Frequent<()>,
    /// Commands, denials, errors.
    pub(super) time: Timeline<3>,
    pub(super) slowest: Largest<Example>,
    pub(super) large_in: Largest<Example>,
    pub(super) large_out: Largest<Example>,
    second: (String, Option<i64>),
}

impl Sums {
    fn add(&mut self, line: &Line<'_>) {
        self.denied = self.denied.saturating_add(u64::from(line.outcome() == "denied"));
        self.errors = self.errors.saturating_add(u64::from(line.outcome() == "error"));
        self.bytes_in = self.bytes_in.saturating_add(line.bytes_in.unwrap_or(0));
        self.bytes_out = self.bytes_out.saturating_add(line.bytes_out.unwrap_or(0));
    }
}

impl Tally {
    /// Nothing yet; of the slowest and largest so many are kept.
    pub(super) fn new(top: usize) -> Self {
        Self {
            records: 0,
            span: None,
            commands: 0,
            answered: 0,
            sums: Sums::default(),
            opened: 0,
            closed: 0,
            dropped: 0,
            identities: Frequent::new(IDENTITIES_MAX),
            roles: Frequent::new(ROLES_MAX),
            names: Frequent::new(COMMANDS_MAX),
            rules: Frequent::new(OTHERS_MAX),
            shadows: Frequent::new(OTHERS_MAX),
            errors: Frequent::new(OTHERS_MAX),
            turned_away: Frequent::new(OTHERS_MAX),
            events: Frequent::new(OTHERS_MAX),
            time: Timeline::default(),
            slowest: Largest::new(top),
            large_in: Largest::new(top),
            large_out: Largest::new(top),
            second: (String::new(), None),
        }
    }

    /// One record more; `bytes` are its line.
    pub(super) fn add(&mut self, line: &Line<'_>, whose: &Whose<'_>, bytes: &[u8]) {
        self.records = self.records.saturating_add(1);
        if let Some(ts) = line.ts() {
            match &mut self.span {
                Some((first, last)) => {
                    if ts > last.as_str() {
                        ts.clone_into(last);
                    } else if ts < first.as_str() {
                        ts.clone_into(first);
                    }
                }
                None => self.span = Some((ts.to_owned(), ts.to_owned())),
            }
        }
        self.events.add(line.event(), |()| ());
        match line.event() {
            "command" => self.command(line, whose, bytes),
            "connection_open" => self.opened = self.opened.saturating_add(1),
            "connection_close" => self.closed = self.closed.saturating_add(1),
            "gap" => self.dropped = self.dropped.saturating_add(line.dropped.unwrap_or(0)),
            "client_auth" if line.verdict() == "deny" => self.turned_away.add("wrong password", |()| ()),
            "refused" | "handshake_failure" | "upstream_failed" => {
                let name = format!("{} {}", line.event(), line.reason().unwrap_or_default());
                self.turned_away.add(&name, |()| ());
            }
            _ => {}
        }
    }

    fn command(&mut self, line: &Line<'_>, whose: &Whose<'_>, bytes: &[u8]) {
        let outcome = line.outcome();
        let (denied, failed) = (outcome == "denied", outcome == "error");
        self.commands = self.commands.saturating_add(1);
        self.answered = self.answered.saturating_add(u64::from(line.verdict() == "answer"));
        self.sums.add(line);
        self.identities.add(whose.identity.unwrap_or("(unknown)"), |sums| sums.add(line));
        self.roles.add(whose.role.unwrap_or("(unknown)"), |sums| sums.add(line));
        let (bytes_in, bytes_out) = (line.bytes_in.unwrap_or(0), line.bytes_out.unwrap_or(0));
        let name = line.command().unwrap_or_default();
        self.names.add(&name, |of| {
            of.sums.add(line);
            of.max_in = of.max_in.max(bytes_in);
            of.max_out = of.max_out.max(bytes_out);
            if let Some(us) = line.us {
                of.times.add(us);
            }
        });
        if denied {
            self.rules.add(line.rule().unwrap_or_default(), |()| ());
        }
        if let Some(rule) = line.shadow() {
            self.shadows.add(rule, |()| ());
        }
        if failed {
            self.errors.add(line.reply().unwrap_or_default(), |()| ());
        }
        if let Some(second) = self.second_of(line) {
            let [commands, denials, errors] = self.time.at(second);
            *commands = commands.saturating_add(1);
            *denials = denials.saturating_add(u64::from(denied));
            *errors = errors.saturating_add(u64::from(failed));
        }
        let example = || example(line, whose, bytes);
        self.slowest.offer(line.us.unwrap_or(0), example);
        self.large_in.offer(bytes_in, example);
        self.large_out.offer(bytes_out, example);
    }

    /// The second a line is from; looked up only where it is another than the line's before.
    fn second_of(&mut self, line: &Line<'_>) -> Option<i64> {
        let ts = line.ts()?;
        let (text, second) = &mut self.second;
        if ts.get(..19) != Some(text.as_str()) {
            *second = ts.parse::<Timestamp>().ok().map(Timestamp::as_second);
            text.clear();
            text.push_str(ts.get(..19).unwrap_or_default());
        }
        *second
    }
}

/// Reads the line once more, for what sums need not know.
fn example(line: &Line<'_>, whose: &Whose<'_>, bytes: &[u8]) -> Example {
    let command = match serde_json::from_slice(bytes) {
        Ok(Value::Object(record)) => words::subject(&record),
        _ => String::new(),
    };
    let front = |text: Option<&str>| text.unwrap_or_default().chars().take(1024).collect();
    Example {
        ts: front(line.ts()),
        conn: front(line.conn()),
        identity: front(whose.identity),
        command: command.chars().take(1024).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_add_up_by_name_by_rule_and_by_time() {
        let mut tally = Tally::new(2);
        let base = r#""v":1,"conn":"a-1""#;
        for text in [
            format!(r#"{{{base},"ts":"2026-11-21T12:00:01.000000Z","event":"connection_open"}}"#),
            format!(
                r#"{{{base},"ts":"2026-11-21T12:00:01.000000Z","event":"command","cmd":"GET","keys":["k"],"outcome":"ran","bytes_in":20,"bytes_out":70,"us":80}}"#
            ),
            format!(
                r#"{{{base},"ts":"2026-11-21T12:00:02.000000Z","event":"command","cmd":"GET","keys":["big"],"bytes_in":20,"bytes_out":7000,"us":800}}"#
            ),
            format!(
                r#"{{{base},"ts":"2026-11-21T12:00:00.000000Z","event":"command","cmd":"LPUSH","outcome":"error","reply":"WRONGTYPE","bytes_in":50,"bytes_out":30,"us":40}}"#
            ),
            format!(
                r#"{{{base},"ts":"2026-11-21T12:01:02.000000Z","event":"command","cmd":"CONFIG","sub":"SET","verdict":"deny","rule":"r","outcome":"denied","bytes_in":30,"bytes_out":10,"us":null}}"#
            ),
            format!(r#"{{{base},"ts":"2026-11-21T12:01:02.000000Z","event":"refused","reason":"not-admitted"}}"#),
            format!(r#"{{{base},"ts":"2026-11-21T12:01:03.000000Z","event":"gap","dropped":7}}"#),
        ] {
            let line = Line::parse(text.as_bytes()).unwrap();
            let whose = Whose { identity: Some("cn:app"), role: Some("app"), ..Whose::default() };
            tally.add(&line, &whose, text.as_bytes());
        }
        assert_eq!((tally.records, tally.commands, tally.opened, tally.dropped), (7, 4, 1, 7));
        assert_eq!(
            (tally.sums.denied, tally.sums.errors, tally.sums.bytes_in, tally.sums.bytes_out),
            (1, 1, 120, 7110)
        );
        let (first, last) = tally.span.clone().unwrap();
        assert_eq!((&first[11..19], &last[11..19]), ("12:00:00", "12:01:03"));
        let names: Vec<_> = tally.names.top(9).into_iter().map(|(name, count, of)| (name, count, of.max_out)).collect();
        assert_eq!(names, [("GET", 2, 7000), ("CONFIG|SET", 1, 10), ("LPUSH", 1, 30)]);
        assert_eq!(tally.rules.top(9), [("r", 1, &())]);
        assert_eq!(tally.errors.top(9), [("WRONGTYPE", 1, &())]);
        assert_eq!(tally.turned_away.top(9), [("refused not-admitted", 1, &())]);
        let columns = tally.time.columns();
        assert_eq!((columns[0].1, columns.last().unwrap().1), ([1, 0, 1], [1, 1, 0]));
        let large: Vec<_> = tally.large_out.iter().map(|(bytes, of)| (*bytes, of.command.as_str())).collect();
        assert_eq!(large, [(7000, "GET big"), (70, "GET k")]);
    }
}
