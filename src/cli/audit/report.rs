//! What records add up to, for people and for programs.

use super::{
    plot::{bar, sparkline, squeeze},
    sketch::{Frequent, Largest},
    tally::{Example, OfCommand, Sums, Tally},
};
use crate::cli::terminal::{Paint, Screen, bytes, count, time, width};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Columns of a line where nobody counts them.
const WIDTH: usize = 100;
/// Columns of a bar and of a name, where there is room for the widest table.
const BAR: usize = 12;
const NAME: usize = 34;
/// Columns of the widest table, without bars and with short names, and without sizes besides.
const WIDEST: usize = 142;
const NARROW_NAME: usize = 20;
const NARROW: usize = 114;
/// Percentiles, in parts of a thousand.
const PERCENTILES: [(u64, &str); 3] = [(500, "p50"), (900, "p90"), (990, "p99")];

/// What was read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Read {
    pub(super) bytes: u64,
    pub(super) passed_over: u64,
}

/// A page for people. Writing to a string cannot fail, so what `write!` returns is dropped throughout.
pub(super) fn page(tally: &Tally, read: Read, top: usize, screen: Screen) -> String {
    let columns = screen.width.unwrap_or(WIDEST);
    let (name, bar) = if columns < WIDEST { (NARROW_NAME, 0) } else { (NAME, BAR) };
    let mut page = Page { out: String::new(), screen, name, bar, sizes: columns >= NARROW };
    page.summary(tally, read);
    if tally.commands > 0 {
        page.timeline(tally);
    }
    page.sums("identities", &tally.identities, top);
    page.sums("roles", &tally.roles, top);
    page.commands(tally, top);
    page.names("denied by rule", &tally.rules, top);
    page.names("would be denied (shadow)", &tally.shadows, top);
    page.names("errors by code", &tally.errors, top);
    page.names("turned away", &tally.turned_away, top);
    page.examples("slowest commands", &tally.slowest, time);
    page.examples("largest requests", &tally.large_in, bytes);
    page.examples("largest replies", &tally.large_out, bytes);
    page.out
}

struct Page {
    out: String,
    screen: Screen,
    /// Columns of a name, and of a bar.
    name: usize,
    bar: usize,
    /// Whether there is room for sizes in the widest table.
    sizes: bool,
}

impl Page {
    fn heading(&mut self, text: &str) {
        let _ = writeln!(self.out, "\n{}", self.screen.paint(Paint::Bold, text));
    }

    fn summary(&mut self, tally: &Tally, read: Read) {
        let screen = self.screen;
        let span = tally.span.as_ref().map_or("no records".to_owned(), |(first, last)| {
            let short = |ts: &str| screen.shown(ts.get(..19).unwrap_or(ts)).replace('T', " ");
            let length = match (first.parse::<Timestamp>(), last.parse::<Timestamp>()) {
                (Ok(first), Ok(last)) => u64::try_from(last.duration_since(first).as_micros()).unwrap_or(0),
                (_, _) => 0,
            };
            let dash = if screen.unicode { "–" } else { "-" };
            format!("{} {dash} {} UTC ({})", short(first), short(last), time(length))
        });
        let _ = writeln!(self.out, "{}", screen.paint(Paint::Bold, &span));
        let _ = write!(self.out, "  {} records, {}", count(tally.records), bytes(read.bytes));
        if read.passed_over > 0 {
            let _ = write!(self.out, "; {} lines are no audit records and were passed over", count(read.passed_over));
        }
        let Sums { denied, errors, bytes_in, bytes_out } = tally.sums;
        let paint = |count: u64, text: String| if count > 0 { screen.paint(Paint::Bad, &text) } else { text };
        let _ = writeln!(
            self.out,
            "\n  {} commands: {}, {} errors, {} answered by the proxy; {} in, {} out",
            count(tally.commands),
            paint(denied, format!("{} denied", count(denied))),
            count(errors),
            count(tally.answered),
            bytes(bytes_in),
            bytes(bytes_out),
        );
        let _ = writeln!(
            self.out,
            "  connections: {} opened, {} closed, {} turned away",
            count(tally.opened),
            count(tally.closed),
            count(tally.turned_away.total())
        );
        if tally.dropped > 0 {
            let text = format!("{} records are missing: gap records say that they were dropped", count(tally.dropped));
            let _ = writeln!(self.out, "  {}", screen.paint(Paint::Bad, &text));
        }
    }

    fn timeline(&mut self, tally: &Tally) {
        let screen = self.screen;
        let columns = tally.time.columns();
        let room = screen.width.unwrap_or(WIDTH).saturating_sub(30).clamp(10, 240);
        let series = |read: fn(&[u64; 3]) -> u64| {
            let values: Vec<u64> = columns.iter().map(|(_, counts)| read(counts)).collect();
            squeeze(&values, room)
        };
        let commands = series(|[commands, _, _]| *commands);
        let each = columns.len().div_ceil(room).max(1) as u64;
        let seconds = u64::try_from(tally.time.width()).unwrap_or(u64::MAX).saturating_mul(each);
        self.heading(&format!("over time, {} a column", time(seconds.saturating_mul(1_000_000))));
        let rows = [
            ("commands", commands, Paint::Plain),
            ("denied", series(|[_, denied, _]| *denied), Paint::Bad),
            ("errors", series(|[_, _, errors]| *errors), Paint::Warn),
        ];
        for (name, values, paint) in rows {
            let most = values.iter().copied().max().unwrap_or(0);
            if most == 0 {
                continue;
            }
            let line = screen.paint(paint, &sparkline(&values, screen));
            let _ = writeln!(self.out, "  {name:<9} {line}  at most {}", count(most));
        }
    }

    /// Says so where names were forgotten.
    fn title<T: Default>(&mut self, title: &str, of: &Frequent<T>, top: usize) {
        let mut text = title.to_owned();
        if of.len() > top {
            let _ = write!(text, " (the first {top} of {})", count(of.len() as u64));
        }
        if of.error() > 0 {
            let _ = write!(text, "; there were too many to count each: a count may be {} too low", count(of.error()));
        }
        self.heading(&text);
    }

    /// A name, how often it came, its share of all and the bar of it.
    fn row(&mut self, name: &str, number: u64, total: u64, most: u64, paint: Paint) {
        let screen = self.screen;
        let name = screen.left(&screen.shown(if name.is_empty() { "-" } else { name }), self.name);
        let share = u128::from(number).saturating_mul(1000).checked_div(u128::from(total)).unwrap_or(0);
        let _ = write!(self.out, "  {name} {:>12} {:>3}.{}%", count(number), share / 10, share % 10);
        if self.bar > 0 {
            let bar = bar(number, most, self.bar, screen);
            let rest = self.bar.saturating_sub(width(&bar));
            let _ = write!(self.out, " {}{:rest$}", screen.paint(paint, &bar), "");
        }
    }

    fn names(&mut self, title: &str, of: &Frequent<()>, top: usize) {
        let rows = of.top(top);
        let Some(most) = rows.first().map(|(_, count, ())| *count) else { return };
        self.title(title, of, top);
        for (name, number, ()) in rows {
            self.row(name, number, of.total(), most, Paint::Bad);
            self.end();
        }
    }

    /// The front of a table's head, as wide as [`Self::row`].
    fn head(&self) -> String {
        let bar = if self.bar > 0 { self.bar.saturating_add(1) } else { 0 };
        let name = self.name;
        format!("  {:name$} {:>12} {:>6}{:bar$}", "", "commands", "", "")
    }

    /// Ends a line, without blanks before the end.
    fn end(&mut self) {
        let length = self.out.trim_end().len();
        self.out.truncate(length);
        self.out.push('\n');
    }

    fn sums(&mut self, title: &str, of: &Frequent<Sums>, top: usize) {
        let rows = of.top(top);
        let Some(most) = rows.first().map(|(_, count, _)| *count) else { return };
        self.title(title, of, top);
        let header = format!("{} {:>8} {:>8} {:>9} {:>9}", self.head(), "denied", "errors", "in", "out");
        let _ = writeln!(self.out, "{}", self.screen.paint(Paint::Dim, &header));
        for (name, number, sums) in rows {
            self.row(name, number, of.total(), most, Paint::Plain);
            let denied = format!("{:>8}", count(sums.denied));
            let denied = if sums.denied > 0 { self.screen.paint(Paint::Bad, &denied) } else { denied };
            let _ = writeln!(
                self.out,
                " {denied} {:>8} {:>9} {:>9}",
                count(sums.errors),
                bytes(sums.bytes_in),
                bytes(sums.bytes_out)
            );
        }
    }

    fn commands(&mut self, tally: &Tally, top: usize) {
        let rows = tally.names.top(top);
        let Some(most) = rows.first().map(|(_, count, _)| *count) else { return };
        self.title("commands", &tally.names, top);
        let sizes = if self.sizes { format!(" {:>9} {:>9}", "max in", "max out") } else { String::new() };
        let header = format!(
            "{} {:>8} {:>8} {:>7} {:>7} {:>7} {:>7}{sizes}",
            self.head(),
            "denied",
            "errors",
            "p50",
            "p90",
            "p99",
            "max"
        );
        let _ = writeln!(self.out, "{}", self.screen.paint(Paint::Dim, &header));
        for (name, number, of) in rows {
            self.row(name, number, tally.names.total(), most, Paint::Plain);
            let _ = write!(self.out, " {:>8} {:>8}", count(of.sums.denied), count(of.sums.errors));
            let timed = of.times.total() > 0;
            for (per_mille, _) in PERCENTILES {
                let _ =
                    write!(self.out, " {:>7}", if timed { time(of.times.per_mille(per_mille)) } else { String::new() });
            }
            let max = if timed { time(of.times.max()) } else { String::new() };
            let _ = write!(self.out, " {max:>7}");
            if self.sizes {
                let _ = write!(self.out, " {:>9} {:>9}", bytes(of.max_in), bytes(of.max_out));
            }
            self.end();
        }
    }

    fn examples(&mut self, title: &str, of: &Largest<Example>, show: fn(u64) -> String) {
        if of.iter().all(|(value, _)| *value == 0) {
            return;
        }
        self.heading(title);
        let screen = self.screen;
        for (value, example) in of.iter().filter(|(value, _)| *value > 0) {
            let ts = screen.shown(example.ts.get(..19).unwrap_or(&example.ts)).replace('T', " ");
            let line = format!(
                "  {:>9}  {}  {}  {}  {}",
                show(*value),
                screen.left(&ts, 19),
                screen.left(&screen.shown(&example.conn), 14),
                screen.left(&screen.shown(&example.identity), 20),
                screen.shown(&example.command),
            );
            let _ = writeln!(self.out, "{}", screen.cut(&line, screen.width.unwrap_or(2 * WIDTH)));
        }
    }
}

/// The same for programs.
pub(super) fn value(tally: &Tally, read: Read, top: usize) -> Value {
    let (from, to) = tally.span.clone().unzip();
    let sums = |sums: &Sums| json!({"denied": sums.denied, "errors": sums.errors, "bytes_in": sums.bytes_in, "bytes_out": sums.bytes_out});
    let command = |of: &OfCommand| {
        let mut value = sums(&of.sums);
        if let Some(fields) = value.as_object_mut() {
            fields.extend([
                ("max_bytes_in".to_owned(), of.max_in.into()),
                ("max_bytes_out".to_owned(), of.max_out.into()),
            ]);
            if of.times.total() > 0 {
                let percentiles = PERCENTILES
                    .iter()
                    .map(|(of_thousand, name)| (format!("{name}_us"), of.times.per_mille(*of_thousand).into()));
                fields.extend(percentiles);
                fields.insert("max_us".to_owned(), of.times.max().into());
            }
        }
        value
    };
    let columns = tally.time.columns().into_iter().map(|(second, [commands, denied, errors])| {
        let at = Timestamp::from_second(second).map_or(Value::Null, |at| at.to_string().into());
        json!({"at": at, "commands": commands, "denied": denied, "errors": errors})
    });
    json!({
        "v": 1,
        "from": from,
        "to": to,
        "records": tally.records,
        "bytes": read.bytes,
        "passed_over": read.passed_over,
        "missing": tally.dropped,
        "commands": {
            "total": tally.commands,
            "answered": tally.answered,
            "denied": tally.sums.denied,
            "errors": tally.sums.errors,
            "bytes_in": tally.sums.bytes_in,
            "bytes_out": tally.sums.bytes_out,
        },
        "connections": {"opened": tally.opened, "closed": tally.closed},
        "time": {"column_s": tally.time.width(), "columns": columns.collect::<Vec<_>>()},
        "identities": table(&tally.identities, top, sums),
        "roles": table(&tally.roles, top, sums),
        "by_command": table(&tally.names, top, command),
        "denied_by_rule": table(&tally.rules, top, |()| json!({})),
        "shadowed_by_rule": table(&tally.shadows, top, |()| json!({})),
        "errors_by_code": table(&tally.errors, top, |()| json!({})),
        "turned_away": table(&tally.turned_away, top, |()| json!({})),
        "events": table(&tally.events, usize::MAX, |()| json!({})),
        "slowest": examples(&tally.slowest, "us"),
        "largest_requests": examples(&tally.large_in, "bytes"),
        "largest_replies": examples(&tally.large_out, "bytes"),
    })
}

fn table<T: Default>(of: &Frequent<T>, top: usize, more: impl Fn(&T) -> Value) -> Value {
    let rows = of.top(top).into_iter().map(|(name, number, rest)| {
        let mut row = more(rest);
        if let Some(fields) = row.as_object_mut() {
            fields.extend([("name".to_owned(), name.into()), ("count".to_owned(), number.into())]);
        }
        row
    });
    json!({"names": of.len(), "count_may_be_low_by": of.error(), "top": rows.collect::<Vec<_>>()})
}

fn examples(of: &Largest<Example>, unit: &str) -> Value {
    let one = |(value, example): &(u64, Example)| json!({unit: value, "ts": example.ts, "conn": example.conn, "identity": example.identity, "command": example.command});
    of.iter().filter(|(value, _)| *value > 0).map(one).collect()
}
