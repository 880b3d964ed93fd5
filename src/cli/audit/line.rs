//! One line of an audit stream, as far as reading it needs: borrowed from the bytes, in either shape.

use serde::{Deserialize, Deserializer, de};
use std::{borrow::Cow, fmt};

/// A string that is copied only if it has escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text<'a>(Cow<'a, str>);

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> de::Visitor<'de> for Reader {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        from.deserialize_str(Reader)
    }
}

/// The fields that filters and sums look at. What a compact line leaves out is `None`; what that means is said by the
/// methods.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Line<'a> {
    v: Option<u64>,
    /// `log` marks what is no audit record, `live` what the process tells a reader of its live stream.
    #[serde(borrow)]
    stream: Option<Text<'a>>,
    #[serde(borrow)]
    ts: Option<Text<'a>>,
    #[serde(borrow)]
    event: Option<Text<'a>>,
    #[serde(borrow)]
    conn: Option<Text<'a>>,
    #[serde(borrow)]
    service: Option<Text<'a>>,
    #[serde(borrow)]
    src: Option<Text<'a>>,
    #[serde(borrow)]
    identity: Option<Text<'a>>,
    #[serde(borrow)]
    role: Option<Text<'a>>,
    #[serde(borrow)]
    cmd: Option<Text<'a>>,
    #[serde(borrow)]
    sub: Option<Text<'a>>,
    #[serde(borrow)]
    verdict: Option<Text<'a>>,
    #[serde(borrow)]
    rule: Option<Text<'a>>,
    #[serde(borrow)]
    shadow: Option<Text<'a>>,
    #[serde(borrow)]
    outcome: Option<Text<'a>>,
    #[serde(borrow)]
    reply: Option<Text<'a>>,
    #[serde(borrow)]
    reason: Option<Text<'a>>,
    pub(super) bytes_in: Option<u64>,
    pub(super) bytes_out: Option<u64>,
    pub(super) us: Option<u64>,
    pub(super) dropped: Option<u64>,
}

/// Whose connection a line is about; what is not known is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Whose<'a> {
    pub(super) service: Option<&'a str>,
    pub(super) src: Option<&'a str>,
    pub(super) identity: Option<&'a str>,
    pub(super) role: Option<&'a str>,
}

impl<'a> Line<'a> {
    /// The line, if it is one of an audit stream.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.first() != Some(&b'{') {
            return None;
        }
        let line: Self = serde_json::from_slice(bytes).ok()?;
        let live = line.stream.as_ref().is_some_and(|stream| stream.as_str() == "live");
        let audit = line.stream.is_none() && line.v.is_some() && line.ts.is_some();
        (line.event.is_some() && (live || audit)).then_some(line)
    }

    pub(super) fn event(&self) -> &str {
        text(self.event.as_ref()).unwrap_or_default()
    }

    /// RFC 3339 in UTC with microseconds, so that text is ordered as time is; nothing for what the live stream adds.
    pub(super) fn ts(&self) -> Option<&str> {
        text(self.ts.as_ref())
    }

    pub(super) fn conn(&self) -> Option<&str> {
        text(self.conn.as_ref())
    }

    /// What the line itself says of its connection.
    pub(super) fn whose(&self) -> Whose<'_> {
        Whose {
            service: text(self.service.as_ref()),
            src: text(self.src.as_ref()),
            identity: text(self.identity.as_ref()),
            role: text(self.role.as_ref()),
        }
    }

    pub(super) fn cmd(&self) -> Option<&str> {
        text(self.cmd.as_ref())
    }

    pub(super) fn sub(&self) -> Option<&str> {
        text(self.sub.as_ref())
    }

    /// `CONFIG|SET`.
    pub(super) fn command(&self) -> Option<Cow<'_, str>> {
        let cmd = self.cmd()?;
        Some(self.sub().map_or(Cow::Borrowed(cmd), |sub| Cow::Owned(format!("{cmd}|{sub}"))))
    }

    /// What policy said; a compact line leaves out `allow`.
    pub(super) fn verdict(&self) -> &str {
        text(self.verdict.as_ref()).unwrap_or("allow")
    }

    /// What became of a command; a compact line leaves out `ran`.
    pub(super) fn outcome(&self) -> &str {
        text(self.outcome.as_ref()).unwrap_or("ran")
    }

    pub(super) fn rule(&self) -> Option<&str> {
        text(self.rule.as_ref())
    }

    pub(super) fn shadow(&self) -> Option<&str> {
        text(self.shadow.as_ref())
    }

    pub(super) fn reply(&self) -> Option<&str> {
        text(self.reply.as_ref())
    }

    pub(super) fn reason(&self) -> Option<&str> {
        text(self.reason.as_ref())
    }
}

fn text<'t>(field: Option<&'t Text<'_>>) -> Option<&'t str> {
    field.map(Text::as_str)
}

#[cfg(test)]
mod tests {
    use super::Line;

    #[test]
    fn both_shapes_are_read_and_what_is_no_record_is_told_from_them() {
        let full = br#"{"v":1,"w":0,"seq":7,"ts":"2026-11-21T12:00:00.000001Z","event":"command","conn":"a-1","service":"cache","src":"10.0.0.1:5","identity":"cn:\u0061pp","role":"app","upstream_user":null,"db":0,"cmd":"CONFIG","sub":"SET","argc":4,"keys":[],"context":"top","verdict":"deny","rule":"r","outcome":"denied","reply":null,"bytes_in":40,"bytes_out":20,"us":null}"#;
        let line = Line::parse(full).unwrap();
        assert_eq!(line.whose().identity, Some("cn:app"));
        assert_eq!(line.command().unwrap(), "CONFIG|SET");
        assert_eq!((line.verdict(), line.outcome(), line.us), ("deny", "denied", None));
        let compact = br#"{"v":1,"w":0,"seq":8,"ts":"2026-11-21T12:00:00.000001Z","event":"command","conn":"a-1","cmd":"GET","argc":2,"reply":"bulk","bytes_in":20,"bytes_out":7,"us":80}"#;
        let line = Line::parse(compact).unwrap();
        assert_eq!((line.verdict(), line.outcome(), line.us, line.conn()), ("allow", "ran", Some(80), Some("a-1")));
        assert_eq!(line.whose(), super::Whose::default());
        let live = br#"{"stream":"live","event":"gap","output":"file","dropped":3}"#;
        assert_eq!(Line::parse(live).unwrap().dropped, Some(3));
        for other in [
            &br#"{"stream":"log","timestamp":"2026","level":"INFO","event":"x","v":1,"ts":"x"}"#[..],
            br#"{"v":1,"event":"command"}"#,
            br#"{"v":1,"ts":"x","event":7}"#,
            br#"{"v":1,"ts":"x","event":"command""#,
            b"2026-11-21 INFO listening",
            b"",
            b"\xff\xfe",
        ] {
            assert!(Line::parse(other).is_none(), "{}", String::from_utf8_lossy(other));
        }
    }
}
