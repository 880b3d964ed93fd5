//! Which records are asked for.

use super::line::{Line, Whose};
use crate::{cli::complain, command::CommandId, config::parse_duration, policy::rules};
use clap::Args;
use ipnet::IpNet;
use jiff::{Timestamp, civil, tz::TimeZone};
use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime},
};

/// The filters of `tail` and `stats`. Everything that is said must hold; of what may be repeated, one.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which records")]
pub(super) struct SelectArgs {
    /// Only connections of this role. May be repeated.
    #[arg(long, value_name = "NAME")]
    role: Vec<String>,

    /// Only this identity, with `*` for anything: `cn:billing`, `*/ns/shop/*`. May be repeated.
    #[arg(long, value_name = "NAME")]
    identity: Vec<String>,

    /// Only from this address or network. May be repeated.
    #[arg(long, visible_alias = "address", value_name = "CIDR", value_parser = network)]
    from: Vec<IpNet>,

    /// Only these commands: `SET`, `CONFIG|SET`, `@write`. May be repeated.
    #[arg(long, value_name = "COMMAND", value_delimiter = ',')]
    command: Vec<String>,

    /// Only what policy denied.
    #[arg(long)]
    denied: bool,

    /// Only commands that took at least so long: `5ms`, `2s`.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    slow: Option<Duration>,

    /// Only these events: `command`, `connection_open`, `refused` … May be repeated.
    #[arg(long, value_name = "EVENT", value_delimiter = ',')]
    event: Vec<String>,

    /// Only this connection, by its name in the records. May be repeated.
    #[arg(long, value_name = "ID")]
    conn: Vec<String>,

    /// Only from this time on: `2026-11-21T12:00`, `2026-11-21`, or so long ago: `15m`, `2h`. UTC without an offset.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    since: Option<Timestamp>,

    /// Only up to this time, likewise.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    until: Option<Timestamp>,
}

/// The filters, made ready.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    args: SelectArgs,
    /// Names of the catalog's rows, as records write them.
    rows: Option<HashSet<String>>,
    /// As records write them, so that text is compared.
    since: Option<String>,
    until: Option<String>,
    slow_us: u64,
}

impl SelectArgs {
    /// Makes them ready. A command that the catalog does not have is looked for as it was sent, and that is said.
    pub(super) fn ready(&self) -> Selection {
        let mut args = self.clone();
        let mut rows = HashSet::new();
        for entry in &mut args.command {
            *entry = entry.to_ascii_uppercase();
            match rules::rows(entry) {
                Ok(found) => rows.extend(found.into_iter().map(named)),
                Err(fault) => complain(&format_args!("note: {entry:?}: {fault}; looking for it as it was sent")),
            }
        }
        let text = |at: Timestamp| format!("{at:.6}");
        Selection {
            rows: (!args.command.is_empty()).then_some(rows),
            since: args.since.map(text),
            until: args.until.map(text),
            slow_us: args.slow.map_or(0, |slow| u64::try_from(slow.as_micros()).unwrap_or(u64::MAX)),
            args,
        }
    }
}

/// As records name a row.
fn named(id: CommandId) -> String {
    id.entry().full_name.to_ascii_uppercase()
}

impl Selection {
    /// Whether the line is one of those asked for. A gap is, whatever else is asked for but other events: who looks for
    /// something must know that something is missing.
    pub(super) fn takes(&self, line: &Line<'_>, whose: &Whose<'_>) -> bool {
        let args = &self.args;
        if let Some(ts) = line.ts()
            && (self.since.as_deref().is_some_and(|since| ts < since)
                || self.until.as_deref().is_some_and(|until| ts > until))
        {
            return false;
        }
        if !args.event.is_empty() && !args.event.iter().any(|event| event == line.event()) {
            return false;
        }
        if line.event() == "gap" {
            return true;
        }
        let named = |wanted: &[String], found: Option<&str>| {
            wanted.is_empty() || found.is_some_and(|found| wanted.iter().any(|wanted| wanted == found))
        };
        named(&args.conn, line.conn())
            && named(&args.role, whose.role)
            && self.takes_identity(whose.identity)
            && self.takes_source(whose.src)
            && self.takes_name(line)
            && (!args.denied || line.verdict() == "deny")
            && (args.slow.is_none() || line.us.is_some_and(|us| us >= self.slow_us) && line.cmd().is_some())
    }

    fn takes_identity(&self, identity: Option<&str>) -> bool {
        let wanted = &self.args.identity;
        wanted.is_empty() || identity.is_some_and(|found| wanted.iter().any(|wanted| like(wanted, found)))
    }

    fn takes_source(&self, src: Option<&str>) -> bool {
        let wanted = &self.args.from;
        if wanted.is_empty() {
            return true;
        }
        let Some(address) = src.and_then(|src| src.parse::<SocketAddr>().ok()) else { return false };
        let address = address.ip().to_canonical();
        wanted.iter().any(|net| net.contains(&address))
    }

    fn takes_name(&self, line: &Line<'_>) -> bool {
        let Some(rows) = &self.rows else { return true };
        let Some(command) = line.command() else { return false };
        let upper = command.to_ascii_uppercase();
        let typed = |name: &str| self.args.command.iter().any(|entry| entry == name);
        let cmd = upper.split_once('|').map_or(upper.as_str(), |(cmd, _)| cmd);
        rows.contains(&upper) || typed(&upper) || typed(cmd)
    }
}

/// Whether `text` is as the pattern says, in which `*` stands for anything.
fn like(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut rest = rest;
    while let Some((part, more)) = rest.split_once('*') {
        let Some(at) = text.find(part) else { return false };
        text = text.get(at.saturating_add(part.len())..).unwrap_or_default();
        rest = more;
    }
    text.ends_with(rest)
}

fn network(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
    address.or_else(|_| text.parse()).map_err(|_| "expected an address or a network such as 10.2.0.0/16".to_owned())
}

/// As the configuration writes durations.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a whole number with a unit: 250ms, 5s, 2m, 1h, 7d".to_owned())
}

fn instant(text: &str) -> Result<Timestamp, String> {
    #[expect(clippy::disallowed_methods, reason = "a command line has no turns, and \"15m ago\" is as of now")]
    let now = SystemTime::now();
    instant_at(text, now)
}

fn instant_at(text: &str, now: SystemTime) -> Result<Timestamp, String> {
    let utc = |civil: civil::DateTime| civil.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    let ago = || {
        let then = now.checked_sub(parse_duration(text)?)?;
        Timestamp::try_from(then).ok()
    };
    text.parse().ok().or_else(|| text.parse::<civil::DateTime>().ok().and_then(utc)).or_else(ago).ok_or_else(|| {
        "expected a time such as 2026-11-21T12:00:00Z or 2026-11-21, or how long ago: 15m, 2h, 7d".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        select: SelectArgs,
    }

    fn selection(arguments: &[&str]) -> Selection {
        Cli::try_parse_from([&["x"], arguments].concat()).unwrap().select.ready()
    }

    const LINES: [&str; 6] = [
        r#"{"v":1,"ts":"2026-11-21T12:00:00.000000Z","event":"command","conn":"a-1","src":"10.0.0.1:5","identity":"cn:app","role":"app","cmd":"SET","verdict":"allow","outcome":"ran","us":900}"#,
        r#"{"v":1,"ts":"2026-11-21T12:30:00.000000Z","event":"command","conn":"a-2","src":"[::ffff:10.2.0.1]:5","identity":"uri:spiffe://x/ns/shop/sa/y","role":"shop","cmd":"CONFIG","sub":"SET","verdict":"deny","us":null}"#,
        r#"{"v":1,"ts":"2026-11-21T13:00:00.000000Z","event":"command","conn":"a-2","src":"10.2.0.1:5","identity":"uri:spiffe://x/ns/shop/sa/y","role":"shop","cmd":"nosuch","verdict":"deny","us":null}"#,
        r#"{"v":1,"ts":"2026-11-21T13:30:00.000000Z","event":"connection_close","conn":"a-1","src":"10.0.0.1:5","identity":"cn:app","role":"app","us":99999999}"#,
        r#"{"v":1,"ts":"2026-11-21T14:00:00.000000Z","event":"gap","output":"file","dropped":3}"#,
        r#"{"v":1,"ts":"2026-11-21T14:30:00.000000Z","event":"start","version":"1"}"#,
    ];

    #[test]
    fn each_filter_takes_what_it_names_and_gaps_besides() {
        for (arguments, expected) in [
            (&[][..], "111111"),
            (&["--role", "app"], "100110"),
            (&["--role", "app", "--role", "shop"], "111110"),
            (&["--identity", "cn:app"], "100110"),
            (&["--identity", "*/ns/shop/*"], "011010"),
            (&["--from", "10.2.0.0/16"], "011010"),
            (&["--address", "10.0.0.1"], "100110"),
            (&["--command", "set"], "100010"),
            (&["--command", "@write"], "100010"),
            (&["--command", "CONFIG"], "010010"),
            (&["--command", "config|set,SET"], "110010"),
            (&["--command", "CONFIG|GET"], "000010"),
            (&["--command", "NoSuch"], "001010"),
            (&["--denied"], "011010"),
            (&["--denied", "--role", "app"], "000010"),
            (&["--slow", "1ms"], "000010"),
            (&["--slow", "0ms"], "100010"),
            (&["--event", "start,connection_close"], "000101"),
            (&["--conn", "a-2"], "011010"),
            (&["--since", "2026-11-21T13:00:00Z"], "001111"),
            (&["--until", "2026-11-21T13:00"], "111000"),
            (&["--since", "2026-11-21T14:00:00+01:00", "--until", "2026-11-21T13:30:00.5"], "001100"),
            (&["--since", "2026-11-22"], "000000"),
        ] {
            let selection = selection(arguments);
            let taken = LINES.map(|line| {
                let line = Line::parse(line.as_bytes()).unwrap();
                if selection.takes(&line, &line.whose()) { '1' } else { '0' }
            });
            assert_eq!(taken.iter().collect::<String>(), expected, "{arguments:?}");
        }
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, expected) in [
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "ac", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("ab*bc", "abc", false),
            ("*x*", "abc", false),
        ] {
            assert_eq!(like(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_time_is_one_or_so_long_ago() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (text, expected) in [
            ("2026-11-21T12:00:00Z", Some("2026-11-21T12:00:00Z")),
            ("2026-11-21 12:00", Some("2026-11-21T12:00:00Z")),
            ("2026-11-21", Some("2026-11-21T00:00:00Z")),
            ("15m", Some("1970-01-12T13:31:40Z")),
            ("99999999d", None),
            ("yesterday", None),
            ("", None),
        ] {
            let found = instant_at(text, now).ok().map(|at| at.to_string());
            assert_eq!(found.as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_a_fault_of_the_command_line() {
        for bad in [["--from", "here"], ["--slow", "5"], ["--since", "noon"]] {
            assert!(Cli::try_parse_from([&["x"], &bad[..]].concat()).is_err(), "{bad:?}");
        }
    }
}
