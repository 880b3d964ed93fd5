//! Answers for people.

use super::{Answer, who::Who};
use std::fmt::Write as _;

/// Longest word that is shown whole.
const WORD_MAX: usize = 60;

/// A word about the verdict, in its colour.
fn painted(answer: &Answer, text: &str, colour: bool) -> String {
    let code = if answer.refuses() { "31" } else { "32" };
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// The command on one line, with what is not plain escaped.
fn command(answer: &Answer) -> String {
    let shown = answer.command.iter().map(|each| {
        let plain = !each.is_empty() && each.bytes().all(|byte| byte.is_ascii_graphic());
        let short: String = each.chars().take(WORD_MAX).collect();
        let more = if short.len() < each.len() { "…" } else { "" };
        if plain { format!("{short}{more}") } else { format!("{short:?}{more}") }
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// One command, with all there is to say.
pub(super) fn page(answer: &Answer, who: &Who<'_>, colour: bool) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "{name:<9} {value}");
    };
    line("client", &who.identity);
    line("address", &who.address);
    line("role", &format!("{} of service {} ({})", answer.role, answer.service, who.found));
    line("command", &command(answer));
    let would = if answer.refuses() { "" } else { ", but would be denied" };
    let by =
        answer.rule.as_ref().or(answer.shadow.as_ref()).map_or_else(String::new, |rule| format!("{would} by {rule}"));
    let shadow = if answer.shadow.is_some() { ", which is in shadow mode" } else { "" };
    let word = match answer.verdict {
        "allow" => "allowed",
        "answer" => "answered by the proxy itself",
        "deny" => "denied",
        _ => "no request",
    };
    line("verdict", &format!("{}{by}{shadow}", painted(answer, word, colour)));
    if let Some(why) = answer.why {
        line("", why);
    }
    if let (Some(key), Some(place)) = (&answer.key, &answer.place) {
        line("", &format!("{place}: {key}"));
    }
    if let Some(reply) = &answer.reply {
        line("reply", reply);
    }
    out
}

/// One command of many: verdict, command, rule.
pub(super) fn row(answer: &Answer, colour: bool) -> String {
    let word = if answer.verdict == "protocol-error" { "error" } else { answer.verdict };
    let verdict = painted(answer, &format!("{word:<6}"), colour);
    let why = answer.rule.as_deref().or(answer.reply.as_deref().filter(|_| answer.verdict == "protocol-error"));
    if let Some(rule) = &answer.shadow {
        return format!("{verdict}  {:<40}  (shadow) {rule}\n", command(answer));
    }
    match why {
        Some(why) => format!("{verdict}  {:<40}  {why}\n", command(answer)),
        None => format!("{verdict}  {}\n", command(answer)),
    }
}
