//! What a record says besides who, where and when, in words. What comes out is foreign text: the caller escapes it.

use crate::cli::terminal::{bytes, count, time};
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// Keys of a command that are shown.
const KEYS_MAX: usize = 8;
/// Longest text of one field that is looked at; a terminal shows far less of it.
const FIELD_MAX: usize = 2048;
/// What every line has, and what stands in columns of its own.
const KNOWN: [&str; 11] =
    ["v", "w", "seq", "ts", "event", "conn", "service", "src", "identity", "role", "upstream_user"];

/// A record to be told.
#[derive(Clone, Copy)]
struct Told<'r>(&'r Map<String, Value>);

impl<'r> Told<'r> {
    fn text(self, field: &str) -> &'r str {
        let text = self.0.get(field).and_then(Value::as_str).unwrap_or_default();
        front(text)
    }

    fn number(self, field: &str) -> u64 {
        self.0.get(field).and_then(Value::as_u64).unwrap_or_default()
    }

    fn names(self, field: &str) -> String {
        let names = self.0.get(field).and_then(Value::as_array);
        names.into_iter().flatten().take(16).filter_map(Value::as_str).map(front).collect::<Vec<_>>().join(" ")
    }

    fn command(self) -> String {
        let cmd = self.text("cmd");
        match self.text("sub") {
            "" => cmd.to_owned(),
            sub => format!("{cmd}|{sub}"),
        }
    }

    /// `SET user:17`.
    fn subject(self) -> String {
        let mut out = self.command();
        match self.0.get("keys").or_else(|| self.0.get("keys_hmac")) {
            Some(Value::Array(keys)) => {
                for key in keys.iter().take(KEYS_MAX) {
                    let _ = write!(out, " {}", self::key(key));
                }
                let total = self.0.get("keys_total").and_then(Value::as_u64).unwrap_or(keys.len() as u64);
                if total > keys.len().min(KEYS_MAX) as u64 {
                    let _ = write!(out, " … ({} keys)", count(total));
                }
            }
            // They cannot be told, which is not the same as that there are none.
            Some(Value::Null) => out.push_str(" (keys unknown)"),
            _ => {}
        }
        // With the values, which have the keys among them.
        if let Some(Value::Array(words)) = self.0.get("args") {
            out = self.command();
            for word in words.iter().take(2 * KEYS_MAX) {
                let _ = write!(out, " {}", if word.is_null() { "(secret)".to_owned() } else { self::key(word) });
            }
            if words.len() > 2 * KEYS_MAX || self.0.contains_key("args_cut") {
                out.push_str(" …");
            }
        }
        out
    }

    fn reason(self) -> String {
        match (self.text("reason"), self.text("detail")) {
            (reason, "") => reason.to_owned(),
            (reason, detail) => format!("{reason}: {detail}"),
        }
    }
}

/// At most [`FIELD_MAX`] bytes of it.
fn front(text: &str) -> &str {
    let mut end = text.len().min(FIELD_MAX);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default()
}

fn key(key: &Value) -> String {
    match key {
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => front(text).to_owned(),
        other => {
            let field = |name: &str| other.get(name).and_then(Value::as_str).map(front);
            let cut = if other.get("cut").is_some() { "…" } else { "" };
            match (field("text").or_else(|| field("hmac")), field("b64")) {
                (Some(text), _) => format!("{text}{cut}"),
                (None, Some(base64)) => format!("base64:{base64}{cut}"),
                (None, None) => "?".to_owned(),
            }
        }
    }
}

/// Which command a record is about, and its keys.
pub(super) fn subject(record: &Map<String, Value>) -> String {
    Told(record).subject()
}

/// What the record says.
pub(super) fn of(record: &Map<String, Value>) -> String {
    let told = Told(record);
    match told.text("event") {
        "command" => command(told),
        "begin" => format!("{} goes up", told.subject()),
        "upstream_command" => {
            let error = told.text("reply");
            let then = if error.is_empty() { told.text("outcome") } else { error };
            format!("the proxy's own {}: {then}", told.command())
        }
        "connection_open" => {
            let resumed = if record.get("resumed") == Some(&Value::Bool(true)) { ", resumed" } else { "" };
            format!("{} {}{resumed}, service {}", told.text("tls"), told.text("cipher"), told.text("service"))
        }
        "connection_close" => format!(
            "{}; {} commands, {} denied, {} in, {} out",
            told.reason(),
            count(told.number("commands")),
            count(told.number("denied")),
            bytes(told.number("bytes_in")),
            bytes(told.number("bytes_out")),
        ),
        "client_auth" => format!("{} {}", told.text("cmd"), told.text("verdict")),
        "start" => format!(
            "ravelin {}, process {}, services {}",
            told.text("version"),
            told.number("pid"),
            told.names("services")
        ),
        "stop" => format!("the process ends: {}", told.text("reason")),
        "reload" if told.text("result") == "kept" => {
            format!("{} is refused, the old one is kept: {}", told.text("what"), told.text("detail"))
        }
        "reload" => format!("{} is in force", told.text("what")),
        "drain_begin" => format!(
            "{}: {} connections are answered and closed within {}",
            told.text("reason"),
            count(told.number("connections")),
            time(told.number("deadline_us"))
        ),
        "drain_end" => {
            format!("{} connections drained, {} aborted", count(told.number("drained")), count(told.number("aborted")))
        }
        "refused" => {
            format!("{}, at {} of service {}", told.text("reason"), told.text("listener"), told.text("service"))
        }
        "handshake_failure" => {
            let mut out = told.reason();
            if !told.text("hint").is_empty() {
                let _ = write!(out, "; {}", told.text("hint"));
            }
            let names = told.names("unverified");
            if !names.is_empty() {
                let _ = write!(out, "; unproved: {names}");
            }
            out
        }
        "accept_error" => format!("{} at {}", told.reason(), told.text("listener")),
        "sink_recovered" => format!("output {} is written again, after: {}", told.text("output"), told.text("reason")),
        "upstream_switch" => format!(
            "service {}: from {} to {}, because: {}",
            told.text("service"),
            told.text("from"),
            told.text("to"),
            told.text("reason")
        ),
        "gap" => gap(told),
        "ban" => format!("banned for {} after wrong passwords", time(told.number("us"))),
        "notice" => {
            let (notice, amount, us) = (told.text("notice"), told.number("amount"), time(told.number("us")));
            match notice {
                "denial_burst" => format!("{} commands were denied in {us}", count(amount)),
                "bulk_read" => format!("{} were read in {us}", bytes(amount)),
                _ => format!("{notice}: {amount} in {us}"),
            }
        }
        "checkpoint" => format!(
            "number {} of chain {}, output {}: {}",
            told.number("n"),
            told.text("chain"),
            told.text("output"),
            told.text("reason")
        ),
        "upstream_failed" | "alarm" => told.reason(),
        _ => others(record),
    }
}

fn command(told: Told<'_>) -> String {
    let mut out = told.subject();
    let (rule, shadow, reply) = (told.text("rule"), told.text("shadow"), told.text("reply"));
    if !rule.is_empty() {
        let _ = write!(out, " by {rule}");
    } else if !reply.is_empty() {
        let _ = write!(out, " → {reply}");
    }
    let notable = told.names("notable");
    if !notable.is_empty() {
        let _ = write!(out, " ({})", notable.replace('_', " "));
    }
    if !shadow.is_empty() {
        let _ = write!(out, " (would be denied by {shadow})");
    }
    let _ = write!(out, "  {} in, {} out", bytes(told.number("bytes_in")), bytes(told.number("bytes_out")));
    for (field, name) in [("db", "db"), ("tx", "transaction")] {
        if told.number(field) > 0 {
            let _ = write!(out, ", {name} {}", told.number(field));
        }
    }
    out
}

/// A gap of an output, or of a reader of the live stream who was too slow for it.
fn gap(told: Told<'_>) -> String {
    let (dropped, output) = (told.number("dropped"), told.text("output"));
    if told.text("stream") == "live" {
        return format!(
            "{} lines of output {output} are not here: they came faster than they were read",
            count(dropped)
        );
    }
    let (first, last) = (told.number("first_seq"), told.number("seq"));
    format!("{} records are not in output {output}, which was full: {first} to {last}", count(dropped))
}

/// The fields of an event that is not known here.
fn others(record: &Map<String, Value>) -> String {
    let mut out = String::new();
    for (name, value) in record.iter().filter(|(name, _)| !KNOWN.contains(&name.as_str())).take(32) {
        let gap = if out.is_empty() { "" } else { " " };
        let _ = match value {
            Value::String(text) => write!(out, "{gap}{}={}", front(name), front(text)),
            other => write!(out, "{gap}{}={}", front(name), front(&other.to_string())),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::of;
    use serde_json::{Value, json};

    #[test]
    fn every_event_is_told_in_words() {
        for (record, expected) in [
            (
                json!({"event": "command", "cmd": "MGET", "keys": ["a", "", {"b64": "/w=="}, {"text": "k", "cut": true}], "reply": "array", "bytes_in": 9, "bytes_out": 2048, "tx": 3}),
                "MGET a \"\" base64:/w== k… → array  9 B in, 2 KiB out, transaction 3",
            ),
            (
                json!({"event": "command", "cmd": "EVAL", "keys": null, "shadow": "role:x", "reply": "WRONGTYPE"}),
                "EVAL (keys unknown) → WRONGTYPE (would be denied by role:x)  0 B in, 0 B out",
            ),
            (
                json!({"event": "command", "cmd": "DEL", "keys": ["a"], "keys_cut": true, "keys_total": 4000}),
                "DEL a … (4,000 keys)  0 B in, 0 B out",
            ),
            (json!({"event": "begin", "cmd": "FLUSHALL", "keys": []}), "FLUSHALL goes up"),
            (
                json!({"event": "upstream_command", "cmd": "CLIENT", "sub": "SETNAME", "outcome": "ran", "reply": null}),
                "the proxy's own CLIENT|SETNAME: ran",
            ),
            (
                json!({"event": "connection_open", "tls": "TLSv1.3", "cipher": "AES", "resumed": true, "service": "cache"}),
                "TLSv1.3 AES, resumed, service cache",
            ),
            (
                json!({"event": "connection_close", "reason": "operator", "detail": "user id 0", "commands": 1000, "denied": 1, "bytes_in": 1, "bytes_out": 2}),
                "operator: user id 0; 1,000 commands, 1 denied, 1 B in, 2 B out",
            ),
            (json!({"event": "client_auth", "cmd": "AUTH", "verdict": "deny"}), "AUTH deny"),
            (
                json!({"event": "start", "version": "0.1.0", "pid": 7, "services": ["a", "b"]}),
                "ravelin 0.1.0, process 7, services a b",
            ),
            (json!({"event": "stop", "reason": "drained"}), "the process ends: drained"),
            (json!({"event": "reload", "what": "config", "result": "swapped"}), "config is in force"),
            (
                json!({"event": "reload", "what": "config", "result": "kept", "detail": "x"}),
                "config is refused, the old one is kept: x",
            ),
            (
                json!({"event": "drain_begin", "reason": "signal", "connections": 3, "deadline_us": 5_000_000}),
                "signal: 3 connections are answered and closed within 5s",
            ),
            (json!({"event": "drain_end", "drained": 3, "aborted": 0}), "3 connections drained, 0 aborted"),
            (
                json!({"event": "refused", "reason": "not-admitted", "listener": "l", "service": "s"}),
                "not-admitted, at l of service s",
            ),
            (
                json!({"event": "handshake_failure", "reason": "no-role", "detail": "d", "hint": "h", "unverified": ["cn:x"]}),
                "no-role: d; h; unproved: cn:x",
            ),
            (
                json!({"event": "accept_error", "reason": "fd-limit", "detail": "d", "listener": "l"}),
                "fd-limit: d at l",
            ),
            (
                json!({"event": "sink_recovered", "output": "file", "reason": "full"}),
                "output file is written again, after: full",
            ),
            (
                json!({"event": "upstream_switch", "service": "s", "from": "unix:/a", "to": "b:1", "reason": "silent"}),
                "service s: from unix:/a to b:1, because: silent",
            ),
            (
                json!({"event": "gap", "output": "file", "dropped": 12, "first_seq": 5, "seq": 16}),
                "12 records are not in output file, which was full: 5 to 16",
            ),
            (
                json!({"event": "gap", "stream": "live", "output": "file", "dropped": 12}),
                "12 lines of output file are not here: they came faster than they were read",
            ),
            (
                json!({"event": "begin", "cmd": "DEL", "keys_hmac": ["00ff", {"hmac": "11ee", "cut": true}]}),
                "DEL 00ff 11ee… goes up",
            ),
            (json!({"event": "ban", "us": 60_000_000}), "banned for 1m0s after wrong passwords"),
            (
                json!({"event": "notice", "notice": "denial_burst", "amount": 50, "us": 10_000_000}),
                "50 commands were denied in 10s",
            ),
            (
                json!({"event": "notice", "notice": "bulk_read", "amount": 1 << 30, "us": 60_000_000}),
                "1 GiB were read in 1m0s",
            ),
            (
                json!({"event": "checkpoint", "n": 3, "chain": "ab", "output": "file", "reason": "interval"}),
                "number 3 of chain ab, output file: interval",
            ),
            (
                json!({"event": "command", "cmd": "SET", "keys": ["k"], "args": ["k", "v", null], "notable": ["slow", "first_seen"]}),
                "SET k v (secret) (slow first seen)  0 B in, 0 B out",
            ),
            (json!({"event": "upstream_failed", "reason": "connect", "detail": "refused"}), "connect: refused"),
            (json!({"event": "alarm", "reason": "noauth"}), "noauth"),
            (json!({"event": "of the future", "v": 1, "seq": 3, "lines": 7, "digest": "ab"}), "digest=ab lines=7"),
        ] {
            let Value::Object(fields) = &record else { panic!("{record}") };
            assert_eq!(of(fields), expected, "{record}");
        }
    }
}
