//! What Redis answered, held against what the records say of it: frame by frame, in order.
//!
//! [`compare`] goes through one connection's records and the bytes that a tap brought the proxy from Redis. Every record
//! that tells of an answer takes its frames from there; what nobody asked for (messages) is passed over; what is left
//! belongs to commands that were not answered.

use crate::support::ledger::Line;
use std::collections::{BTreeMap, BTreeSet};

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Records whose answer is there.
    pub(crate) answers: u64,
    /// Messages and other pushes that no command asked for.
    pub(crate) messages: u64,
    /// Connections with the first bytes of an answer at their end.
    pub(crate) torn: u64,
}

/// One reply as it stands in the stream.
struct Frame<'a> {
    bytes: &'a [u8],
    sigil: u8,
    is_null: bool,
    /// The text of a line, or of the first element that is a bulk string.
    text: &'a [u8],
    /// Likewise of the second element.
    second: &'a [u8],
}

/// Compares them; `exact` where the proxy heard Redis out to its end, so that whatever it answered must be recorded.
///
/// # Errors
/// The first difference, in words.
pub(crate) fn compare(lines: &[Line], down: &[u8], exact: bool) -> Result<Found, String> {
    let mut reader = Reader { down, at: 0, found: Found::default(), names: BTreeMap::new() };
    let mut waiting: Option<&Line> = None;
    for line in lines.iter().filter(|line| line.went_up()) {
        let answered = line.reply.is_some() || line.outcome == "ran";
        if !answered {
            waiting = waiting.or(Some(line));
            continue;
        }
        if let Some(waiting) = waiting {
            return Err(format!("{line:?} was answered, and before it was sent {waiting:?}"));
        }
        reader.answer(line)?;
    }
    // Of the names that the first of the unanswered gave, some may have been confirmed.
    let most = waiting.map_or(0, |line| reader.confirmations(line).saturating_sub(1));
    let mut left = 0;
    while let Some(frame) = reader.next()? {
        left += 1;
        if exact && left > most {
            return Err(format!("{} was answered, and nobody recorded it: {waiting:?}", frame.bytes.escape_ascii()));
        }
    }
    reader.found.torn = u64::from(reader.at < down.len());
    Ok(reader.found)
}

struct Reader<'a> {
    down: &'a [u8],
    at: usize,
    found: Found,
    /// Names subscribed to: of channels, patterns, shard channels.
    names: BTreeMap<&'static str, BTreeSet<Vec<u8>>>,
}

impl<'a> Reader<'a> {
    /// The next frame that answers something.
    fn next(&mut self) -> Result<Option<Frame<'a>>, String> {
        loop {
            let rest = &self.down[self.at..];
            let Some((frame, length)) = frame(rest)? else { return Ok(None) };
            self.at += length;
            if !frame.is_message() {
                return Ok(Some(frame));
            }
            self.found.messages += 1;
        }
    }

    /// Takes the answer of this record.
    fn answer(&mut self, line: &Line) -> Result<(), String> {
        let (mut wanted, mut taken, mut bytes) = (self.confirmations(line), 0, 0);
        while taken < wanted {
            let Some(frame) = self.next()? else {
                return Err(format!("Redis never gave answer {} of {wanted} to {line:?}", taken + 1));
            };
            if taken == 0 && frame.class() == "error" {
                wanted = 1;
            }
            taken += 1;
            bytes += frame.bytes.len();
            if taken == wanted {
                frame.is_said_by(line)?;
            }
            self.follow(&frame);
        }
        if line.cmd == "RESET" && line.outcome == "ran" {
            self.names.clear();
        }
        // Nothing of it, where CLIENT REPLY keeps it from the client.
        if line.event == "command" && line.bytes_out != 0 && line.bytes_out != bytes {
            return Err(format!("{bytes} bytes came down, {} are in {line:?}", line.bytes_out));
        }
        self.found.answers += 1;
        Ok(())
    }

    /// How many frames answer it, unless the first is an error.
    fn confirmations(&self, line: &Line) -> usize {
        let kind = match line.cmd.as_str() {
            "SUBSCRIBE" | "UNSUBSCRIBE" => "channels",
            "PSUBSCRIBE" | "PUNSUBSCRIBE" => "patterns",
            "SSUBSCRIBE" | "SUNSUBSCRIBE" => "shard channels",
            _ => return 1,
        };
        // Without a name it is all there are, or one that says that there are none.
        let all = self.names.get(kind).map_or(0, BTreeSet::len);
        if line.argc > 1 { line.argc - 1 } else { all.max(1) }
    }

    /// What a confirmation changes.
    fn follow(&mut self, frame: &Frame<'_>) {
        let (kind, is_new) = match frame.text {
            b"subscribe" => ("channels", true),
            b"unsubscribe" => ("channels", false),
            b"psubscribe" => ("patterns", true),
            b"punsubscribe" => ("patterns", false),
            b"ssubscribe" => ("shard channels", true),
            b"sunsubscribe" => ("shard channels", false),
            _ => return,
        };
        let names = self.names.entry(kind).or_default();
        if is_new {
            names.insert(frame.second.to_vec());
        } else {
            names.remove(frame.second);
        }
    }
}

impl Frame<'_> {
    fn is_message(&self) -> bool {
        let is_one = [&b"message"[..], b"pmessage", b"smessage"].contains(&self.text);
        matches!(self.sigil, b'*' | b'>') && is_one || self.sigil == b'>' && self.text == b"invalidate"
    }

    /// As records name it.
    fn class(&self) -> &'static str {
        match self.sigil {
            _ if self.is_null => "null",
            b'+' => "status",
            b'-' | b'!' => "error",
            b':' => "integer",
            b'$' => "bulk",
            b'*' => "array",
            b'%' => "map",
            b'~' => "set",
            b'>' => "push",
            b',' => "double",
            b'#' => "boolean",
            b'(' => "bignumber",
            _ => "verbatim",
        }
    }

    /// Whether the record names this answer.
    fn is_said_by(&self, line: &Line) -> Result<(), String> {
        let class = self.class();
        let code = self.text.split(|byte| *byte == b' ').next().unwrap_or_default();
        let right = match line.reply.as_deref() {
            // Of its own commands the proxy records errors only.
            None => line.event == "upstream_command" && class != "error",
            Some(said) if class == "error" => said.as_bytes() == code || said == "error",
            Some(said) => said == class,
        };
        let failed = matches!(line.outcome.as_str(), "error" | "aborted" | "incomplete");
        if right && (failed == (class == "error")) {
            return Ok(());
        }
        Err(format!("the answer {} is not that of {line:?}", self.bytes[..self.bytes.len().min(200)].escape_ascii()))
    }
}

/// The first frame, and where it ends; nothing if it is not whole.
fn frame(rest: &[u8]) -> Result<Option<(Frame<'_>, usize)>, String> {
    let Some(end) = end(rest, 0)? else { return Ok(None) };
    let Some(head) = line(rest, 0) else { return Ok(None) };
    let sigil = rest[0];
    let is_null = sigil == b'_' || matches!(sigil, b'$' | b'*') && head.text == b"-1";
    let (mut text, mut second) = (head.text, &b""[..]);
    if matches!(sigil, b'*' | b'>') && !is_null {
        let first = bulk(rest, head.end);
        text = first.map_or(&b""[..], |(text, _)| text);
        second = first.and_then(|(_, at)| bulk(rest, at)).map_or(&b""[..], |(text, _)| text);
    }
    Ok(Some((Frame { bytes: &rest[..end], sigil, is_null, text, second }, end)))
}

struct Head<'a> {
    text: &'a [u8],
    /// Behind its CRLF.
    end: usize,
}

fn line(bytes: &[u8], at: usize) -> Option<Head<'_>> {
    let rest = bytes.get(at + 1..)?;
    let end = memchr::memmem::find(rest, b"\r\n")?;
    Some(Head { text: &rest[..end], end: at + 1 + end + 2 })
}

fn bulk(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let head = line(bytes, at).filter(|_| bytes[at] == b'$')?;
    let length: usize = std::str::from_utf8(head.text).ok()?.parse().ok()?;
    Some((bytes.get(head.end..head.end + length)?, head.end + length + 2))
}

/// Where the frame at `at` ends. A push within an aggregate is none of its elements: Redis up to 7.0 puts a client's own
/// message into the middle of EXEC's answer.
fn end(bytes: &[u8], at: usize) -> Result<Option<usize>, String> {
    let Some(head) = line(bytes, at) else { return Ok(None) };
    let number = || {
        let text = std::str::from_utf8(head.text).unwrap_or_default();
        text.parse::<i64>().map_err(|_| format!("no length: {}", head.text.escape_ascii()))
    };
    let mut elements = match bytes[at] {
        b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => return Ok(Some(head.end)),
        b'$' | b'=' | b'!' => {
            let end = usize::try_from(number()?).map_or(head.end, |length| head.end + length + 2);
            return Ok(Some(end).filter(|end| *end <= bytes.len()));
        }
        b'*' | b'~' | b'>' => number()?,
        b'%' => 2 * number()?,
        other => return Err(format!("no reply begins with {:?}", char::from(other))),
    };
    let mut at = head.end;
    while elements > 0 {
        elements -= i64::from(bytes.get(at) != Some(&b'>'));
        let Some(end) = end(bytes, at)? else { return Ok(None) };
        at = end;
    }
    Ok(Some(at))
}

#[cfg(test)]
mod tests {
    use super::{Found, Line, compare};

    fn command(cmd: &str, argc: usize, outcome: &str, reply: Option<&str>) -> Line {
        Line {
            event: "command".to_owned(),
            cmd: cmd.to_owned(),
            argc,
            verdict: "allow".to_owned(),
            outcome: outcome.to_owned(),
            reply: reply.map(str::to_owned),
            ..Line::default()
        }
    }

    #[test]
    fn each_record_takes_its_answer_and_messages_are_nobodys() {
        let lines = [
            command("SUBSCRIBE", 3, "ran", Some("push")),
            command("EXEC", 1, "ran", Some("array")),
            command("UNSUBSCRIBE", 1, "ran", Some("push")),
            command("GET", 2, "error", Some("WRONGTYPE")),
            command("GET", 2, "unanswered", None),
        ];
        let down = b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n>3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n\
                     >3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n\
                     *2\r\n>3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n:1\r\n$-1\r\n\
                     >3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n>3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:0\r\n\
                     -WRONGTYPE of another\r\n$5\r\nhal";
        assert_eq!(compare(&lines, down, true), Ok(Found { answers: 4, messages: 1, torn: 1 }));
    }

    #[test]
    fn what_is_missing_surplus_or_of_another_kind_is_found() {
        let ran = || command("GET", 2, "ran", Some("bulk"));
        let found = |lines: &[Line], down: &[u8], exact| compare(lines, down, exact).err().unwrap_or_default();
        assert!(found(&[ran(), ran()], b"$1\r\nx\r\n", true).contains("never gave answer"));
        assert!(found(&[ran()], b":1\r\n", true).contains("is not that of"));
        assert!(found(&[ran()], b"-ERR\r\n", true).contains("is not that of"));
        let open = command("GET", 2, "unanswered", None);
        assert!(found(&[open], b"$1\r\nx\r\n", true).contains("nobody recorded it"));
        let open = command("GET", 2, "unanswered", None);
        assert_eq!(found(&[open], b"$1\r\nx\r\n", false), "");
        let open = command("GET", 2, "unanswered", None);
        assert!(found(&[open, ran()], b"$1\r\nx\r\n", true).contains("before it was sent"));
        let long = Line { bytes_out: 9, ..ran() };
        assert!(found(&[long], b"$1\r\nx\r\n", true).contains("bytes came down"));
    }
}
