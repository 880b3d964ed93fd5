//! A line as a syslog message (RFC 5424).
//!
//! ```text
//! <134>1 2026-11-21T14:05:03.412345Z cache-1 ravelin 4242 command - {"v":1,…}
//! ```
//!
//! | part | what it says |
//! |---|---|
//! | PRI | the facility times eight, plus: 4 (warning) for a denial and for `handshake_failure`, `refused`, `alarm`, `notice`, `gap`, `upstream_failed`, `accept_error`; 5 (notice) for the events of the process and `client_auth`; 6 (informational) for the others |
//! | TIMESTAMP | the record's own `ts` |
//! | HOSTNAME | as configured, or as the kernel says |
//! | APP-NAME PROCID | `ravelin` and its process id |
//! | MSGID | the event |
//! | STRUCTURED-DATA | none (`-`): the record is the message |
//! | MSG | the line without its newline |
//!
//! Before MSG stands no byte order mark, though §6.4 asks for one where it is UTF-8: JSON that is sent must not begin with
//! one (RFC 8259 §8.1), and receivers hand MSG to their JSON parsers as it is. For the grammar it is `MSG-ANY`.
//!
//! A message that is longer than it may be loses whole fields, the longest ones first, and says which:
//! `"message_cut":["keys"]` at its end. It is still one JSON object, with its verdict and outcome. Tests: below.

use std::io::Write as _;

/// RFC 5424, table 2.
const WARNING: u8 = 4;
const NOTICE: u8 = 5;
const INFO: u8 = 6;
/// RFC 5426 §3.2: every receiver takes messages of so many bytes.
pub(crate) const MESSAGE_MIN: usize = 480;
/// Fields by which messages are told apart: they are never cut.
const KEPT: [&[u8]; 7] = [b"v", b"w", b"seq", b"ts", b"event", b"conn", b"verdict"];

/// Makes messages of lines.
pub(super) struct Framer {
    facility: u8,
    /// ` HOSTNAME ravelin PROCID `
    origin: Box<[u8]>,
    /// Most bytes of a message.
    pub(super) max: usize,
    message: Vec<u8>,
}

impl Framer {
    pub(super) fn new(facility: u8, hostname: &str, pid: u32, max: usize) -> Self {
        let mut host: String = hostname.chars().filter(char::is_ascii_graphic).take(255).collect();
        if host.is_empty() {
            host.push('-');
        }
        let origin = format!(" {host} ravelin {pid} ").into_bytes().into();
        Self { facility, origin, max: max.max(MESSAGE_MIN), message: Vec::new() }
    }

    /// The message of a line without its newline.
    pub(super) fn message(&mut self, line: &[u8]) -> &[u8] {
        let (ts, event) = stamp_and_event(line).unwrap_or((b"-", b"-"));
        let priority = u16::from(self.facility).saturating_mul(8).saturating_add(u16::from(severity(event, line)));
        let out = &mut self.message;
        out.clear();
        // Writing to a vector does not fail.
        let _ = write!(out, "<{priority}>1 ");
        out.extend_from_slice(ts);
        out.extend_from_slice(&self.origin);
        out.extend_from_slice(event);
        out.extend_from_slice(b" - ");
        let room = self.max.saturating_sub(out.len());
        if line.len() <= room {
            out.extend_from_slice(line);
        } else {
            shorten(line, room, out);
        }
        out
    }
}

/// `ts` and `event`: their places in a line are fixed, behind the numbers of pen and line.
fn stamp_and_event(line: &[u8]) -> Option<(&[u8], &[u8])> {
    const TS: &[u8] = b",\"ts\":\"";
    const EVENT: &[u8] = b"\",\"event\":\"";
    let at = memchr::memmem::find(line.get(..80).unwrap_or(line), TS)?;
    let rest = line.get(at.saturating_add(TS.len())..)?;
    let (ts, rest) = rest.split_at_checked(memchr::memchr(b'"', rest)?)?;
    let rest = rest.strip_prefix(EVENT)?;
    let (event, _) = rest.split_at_checked(memchr::memchr(b'"', rest)?)?;
    Some((ts, event))
}

fn severity(event: &[u8], line: &[u8]) -> u8 {
    // A quotation mark within a value is escaped, so this stands in a line as a field or not at all.
    let denied = || memchr::memmem::find(line, b"\"verdict\":\"deny\"").is_some();
    match event {
        b"command" | b"client_auth" if denied() => WARNING,
        b"command" | b"begin" | b"upstream_command" | b"connection_open" | b"connection_close" => INFO,
        b"handshake_failure" | b"refused" | b"alarm" | b"notice" | b"gap" | b"upstream_failed" | b"accept_error" => {
            WARNING
        }
        _ => NOTICE,
    }
}

/// The line without its longest fields, so that it fits; where that is not enough, without all but those in [`KEPT`].
fn shorten(line: &[u8], room: usize, out: &mut Vec<u8>) {
    let fields = fields(line);
    let mut order: Vec<usize> = (0..fields.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(fields.get(*at).map_or(0, |field| field.text.len())));
    let mut left_out = vec![false; fields.len()];
    // `{`, `}` and the commas are counted with the fields; this is `"message_cut":[]` and a comma.
    let mut length = line.len().saturating_add(17);
    for at in order {
        if length <= room {
            break;
        }
        if let (Some(field), Some(mark)) = (fields.get(at), left_out.get_mut(at))
            && !KEPT.contains(&field.name)
        {
            *mark = true;
            // The field and its comma go, its quoted name and a comma come.
            length = length
                .saturating_sub(field.text.len().saturating_add(1))
                .saturating_add(field.name.len())
                .saturating_add(3);
        }
    }
    out.push(b'{');
    let mut names = Vec::new();
    for (field, left_out) in fields.iter().zip(left_out) {
        if left_out {
            if !names.is_empty() {
                names.push(b',');
            }
            names.push(b'"');
            names.extend_from_slice(field.name);
            names.push(b'"');
        } else {
            out.extend_from_slice(field.text);
            out.push(b',');
        }
    }
    out.extend_from_slice(b"\"message_cut\":[");
    out.extend_from_slice(&names);
    out.extend_from_slice(b"]}");
}

/// A field of an object.
struct Field<'l> {
    name: &'l [u8],
    /// With its name.
    text: &'l [u8],
}

/// The fields of a line of ours.
fn fields(line: &[u8]) -> Vec<Field<'_>> {
    let inner = line.strip_prefix(b"{").and_then(|line| line.strip_suffix(b"}")).unwrap_or(line);
    let (mut found, mut depth, mut quoted, mut escaped, mut start) = (Vec::new(), 0_usize, false, false, 0);
    let mut push = |from: usize, to: usize| {
        let text = inner.get(from..to).unwrap_or_default();
        let name = text.get(1..).and_then(|rest| rest.split(|byte| *byte == b'"').next()).unwrap_or_default();
        found.push(Field { name, text });
    };
    for (at, byte) in inner.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => depth = depth.saturating_add(1),
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            b',' if !quoted && depth == 0 => {
                push(start, at);
                start = at.saturating_add(1);
            }
            _ => {}
        }
    }
    push(start, inner.len());
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const DENIED: &str = r#"{"v":1,"w":0,"seq":7,"ts":"2026-11-20T21:10:03.412345Z","event":"command","conn":"9f3c-17","cmd":"SET","keys":["a","b\"}],"],"verdict":"deny","rule":"r","outcome":"denied","us":null}"#;

    fn line(event: &str, rest: &str) -> String {
        format!(r#"{{"v":1,"w":0,"seq":7,"ts":"2026-11-20T21:10:03.412345Z","event":"{event}"{rest}}}"#)
    }

    fn framer(max: usize) -> Framer {
        Framer::new(16, "cache-1", 4242, max)
    }

    #[test]
    fn a_message_has_the_parts_of_rfc_5424() {
        let message = framer(8192).message(DENIED.as_bytes()).to_vec();
        let text = String::from_utf8(message).unwrap();
        assert_eq!(text, format!("<132>1 2026-11-20T21:10:03.412345Z cache-1 ravelin 4242 command - {DENIED}"));
    }

    #[test]
    fn the_severity_tells_denials_from_the_rest() {
        for (event, rest, expected) in [
            ("command", r#","keys":["\"verdict\":\"deny\""],"verdict":"allow""#, 134),
            ("command", r#","verdict":"deny""#, 132),
            ("begin", r#","verdict":"allow""#, 134),
            ("connection_open", "", 134),
            ("connection_close", "", 134),
            ("upstream_command", "", 134),
            ("client_auth", r#","verdict":"deny""#, 132),
            ("client_auth", r#","verdict":"allow""#, 133),
            ("handshake_failure", "", 132),
            ("refused", "", 132),
            ("alarm", "", 132),
            ("notice", "", 132),
            ("gap", "", 132),
            ("upstream_failed", "", 132),
            ("accept_error", "", 132),
            ("start", "", 133),
            ("stop", "", 133),
            ("reload", "", 133),
            ("checkpoint", "", 133),
        ] {
            let line = line(event, rest);
            let mut framer = framer(8192);
            let message = String::from_utf8_lossy(framer.message(line.as_bytes())).into_owned();
            assert!(message.starts_with(&format!("<{expected}>1 2026-")), "{message}");
            assert_eq!(message.split(' ').nth(5), Some(event));
        }
    }

    #[test]
    fn a_name_of_a_host_can_break_no_header() {
        for (name, expected) in
            [("", "-"), ("a b\n<1>", "ab<1>"), ("größe", "gre"), ("db.example.org", "db.example.org")]
        {
            let mut framer = Framer::new(1, name, 1, 8192);
            let message = String::from_utf8_lossy(framer.message(DENIED.as_bytes())).into_owned();
            assert_eq!(message.split(' ').nth(2), Some(expected), "{message}");
        }
        let mut framer = Framer::new(1, &"x".repeat(1000), 1, 8192);
        let message = String::from_utf8_lossy(framer.message(DENIED.as_bytes())).into_owned();
        assert_eq!(message.split(' ').nth(2).unwrap().len(), 255);
    }

    #[test]
    fn a_message_that_is_too_long_loses_its_longest_fields_and_says_which() {
        let keys: Vec<String> = (0..60).map(|n| format!("{{\"}},[]: {n} é")).collect();
        let keys = serde_json::to_string(&keys).unwrap();
        let rest = format!(
            r#","conn":"c-1","cmd":"MGET","keys":{keys},"args":[{}null],"verdict":"deny","rule":"r","outcome":"denied""#,
            "null,".repeat(50)
        );
        let line = line("command", &rest);
        let whole: Value = serde_json::from_str(&line).unwrap();
        for (max, expected) in [(8192, None), (1000, Some(vec!["keys"])), (MESSAGE_MIN, Some(vec!["keys", "args"]))] {
            let message = framer(max).message(line.as_bytes()).to_vec();
            assert!(message.len() <= max, "{} > {max}", message.len());
            let json = memchr::memchr(b'{', &message).unwrap();
            let part: Value = serde_json::from_slice(&message[json..]).unwrap();
            let cut = part.get("message_cut").map(|cut| cut.as_array().unwrap().clone());
            let expected = expected.map(|names| names.into_iter().map(Value::from).collect::<Vec<_>>());
            assert_eq!(cut, expected, "{max}");
            for (field, value) in whole.as_object().unwrap() {
                let left_out = cut.as_ref().is_some_and(|cut| cut.iter().any(|name| name == field));
                assert_eq!(part.get(field), Some(value).filter(|_| !left_out), "{field}");
            }
        }
    }

    #[test]
    fn what_is_no_record_is_a_message_all_the_same() {
        let message = framer(8192).message(b"not json").to_vec();
        assert_eq!(message, b"<133>1 - cache-1 ravelin 4242 - - not json");
    }
}
