//! What a line of the stream holds, as a table and as a JSON schema (draft 2020-12): what `ravelin schema audit` prints.
//!
//! The schema is of this release and closed: it knows every field there is. Within version 1 of the stream further fields
//! may be added and none is taken away or changes its meaning, so readers pass over what they do not know. The prose is in
//! the [module's own page](super). Tests: below, and every line of every integration test is held against it
//! (`tests/support/books.rs`).

use super::outlet::Shape;
use serde_json::{Map, Value, json};

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A number, 0 or more.
    Count,
    /// Likewise, or null.
    CountOrNull,
    /// A number.
    Integer,
    /// A string.
    Text,
    /// A string, or null.
    TextOrNull,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Exactly this number.
    Is(u64),
    /// True.
    True,
    /// True or false.
    Flag,
    /// RFC 3339, in UTC with microseconds.
    Time,
    /// Lower-case hexadecimal.
    Hex,
    /// A list of strings.
    Texts,
    /// A list of these words.
    Words(&'static [&'static str]),
    /// A list of texts, of bytes that are none, and of fronts of both; or null.
    Keys,
    /// A list of hashes, or null.
    Hashes,
    /// As keys, and null for what is not shown.
    Arguments,
    /// A list of pens.
    Pens,
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Which shapes may be without it.
    pub missing: Missing,
}

/// Where a field may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Nowhere.
    Never,
    /// In compact lines.
    Compact,
    /// In compact lines it always is.
    NotCompact,
    /// Anywhere: it says something only of some lines.
    Anywhere,
}

/// One event.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The record's `event`.
    pub name: &'static str,
    /// Whose line it is.
    pub of: Of,
    /// What stands behind the common fields, in order.
    pub fields: &'static [Field],
}

/// Whose line an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// A connection's, which compact lines only name.
    Connection,
    /// A connection's, and the line says whose it is in every shape.
    ConnectionWhole,
    /// The process'.
    Process,
    /// The output's own: it belongs to no pen.
    Output,
}

const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, missing: Missing::Never }
}

const fn opt(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, missing: Missing::Anywhere }
}

/// Left out of compact lines where it has the usual value.
const fn usual(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, missing: Missing::Compact }
}

const fn constant(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, missing: Missing::NotCompact }
}

use Kind::{
    Arguments, Count, CountOrNull, Flag, Hashes, Hex, Integer, Is, Keys, Pens, Text, TextOrNull, Texts, Time, True,
    Word, Words,
};

const CLASSES: &[&str] = &[
    "status",
    "error",
    "integer",
    "bulk",
    "null",
    "array",
    "map",
    "set",
    "push",
    "double",
    "boolean",
    "bignumber",
    "verbatim",
];
const OUTCOMES: &[&str] = &["denied", "ran", "error", "queued", "aborted", "nil", "incomplete", "unanswered"];

/// The front of every line that has a pen; `event` follows.
pub const FRONT: &[Field] = &[field("v", Is(1)), field("w", Count), field("seq", Count), field("ts", Time)];

/// What the lines of a connection go on with.
pub const CONNECTION: &[Field] = &[
    field("conn", Text),
    constant("service", Text),
    constant("src", Text),
    constant("identity", Text),
    // A certificate's name may be longer than a line has room for.
    opt("identity_cut", True),
    constant("role", Text),
    constant("upstream_user", TextOrNull),
];

/// All events.
pub const EVENTS: &[Event] = &[
    Event {
        name: "command",
        of: Of::Connection,
        fields: &[
            usual("db", Count),
            field("cmd", Text),
            opt("cmd_b64", Text),
            opt("cmd_cut", True),
            opt("sub", Text),
            opt("sub_b64", Text),
            opt("sub_cut", True),
            field("argc", Count),
            opt("keys", Keys),
            opt("keys_hmac", Hashes),
            opt("keys_cut", True),
            opt("keys_total", Count),
            opt("args", Arguments),
            opt("args_cut", True),
            opt("script_sha1", Hex),
            opt("script_bytes", Count),
            usual("context", Word(&["top", "multi"])),
            opt("tx", Count),
            usual("verdict", Word(&["allow", "deny", "answer"])),
            opt("rule", Text),
            opt("shadow", Text),
            usual("outcome", Word(OUTCOMES)),
            field("reply", TextOrNull),
            opt("elements", Words(CLASSES)),
            opt("elements_total", Count),
            field("bytes_in", Count),
            field("bytes_out", Count),
            field("us", CountOrNull),
            opt("notable", Words(&["slow", "large_request", "large_reply", "first_seen"])),
        ],
    },
    Event {
        name: "begin",
        of: Of::Connection,
        fields: &[
            usual("db", Count),
            field("cmd", Text),
            opt("sub", Text),
            field("argc", Count),
            opt("keys", Keys),
            opt("keys_hmac", Hashes),
            opt("keys_cut", True),
            opt("keys_total", Count),
            opt("args", Arguments),
            opt("args_cut", True),
            opt("script_sha1", Hex),
            opt("script_bytes", Count),
            usual("context", Word(&["top", "multi"])),
            opt("tx", Count),
            usual("verdict", Word(&["allow"])),
            opt("shadow", Text),
            field("bytes_in", Count),
        ],
    },
    Event {
        name: "upstream_command",
        of: Of::Connection,
        fields: &[
            field("cmd", Text),
            opt("sub", Text),
            field("outcome", Word(OUTCOMES)),
            field("reply", TextOrNull),
            field("us", Count),
        ],
    },
    Event {
        name: "connection_open",
        of: Of::ConnectionWhole,
        fields: &[
            opt("tls", Text),
            opt("cipher", Text),
            opt("resumed", Flag),
            opt("sni", Text),
            opt("cert_sha256", Hex),
            opt("cert_serial", Text),
            opt("cert_not_after", Integer),
            opt("via", Text),
            opt("proxy", Texts),
            opt("proxy_cut", True),
            opt("proxy_total", Count),
            opt("pid", Count),
            opt("uid", Count),
            opt("gid", Count),
        ],
    },
    Event {
        name: "connection_close",
        of: Of::Connection,
        fields: &[
            field("reason", Text),
            field("detail", Text),
            opt("detail_cut", True),
            field("commands", Count),
            field("denied", Count),
            field("bytes_in", Count),
            field("bytes_out", Count),
            field("us", Count),
        ],
    },
    Event {
        name: "upstream_failed",
        of: Of::ConnectionWhole,
        fields: &[field("reason", Text), field("detail", Text), opt("detail_cut", True)],
    },
    Event {
        name: "client_auth",
        of: Of::ConnectionWhole,
        fields: &[
            field("cmd", Word(&["AUTH", "HELLO"])),
            field("verdict", Word(&["allow", "deny", "ignore", "unavailable"])),
        ],
    },
    Event { name: "role_changed", of: Of::ConnectionWhole, fields: &[field("was", Text)] },
    Event { name: "ban", of: Of::Connection, fields: &[field("us", Count)] },
    Event { name: "alarm", of: Of::Connection, fields: &[field("reason", Text)] },
    Event {
        name: "notice",
        of: Of::Connection,
        fields: &[field("notice", Word(&["denial_burst", "bulk_read"])), field("amount", Count), field("us", Count)],
    },
    Event {
        name: "start",
        of: Of::Process,
        fields: &[
            field("version", Text),
            field("pid", Count),
            field("config_sha256", Hex),
            field("services", Texts),
            opt("services_cut", True),
            opt("services_total", Count),
        ],
    },
    Event { name: "stop", of: Of::Process, fields: &[field("reason", Text), field("us", Count)] },
    Event {
        name: "reload",
        of: Of::Process,
        fields: &[
            field("what", Text),
            field("by", Word(&["signal", "watch", "operator", "secret"])),
            field("result", Word(&["swapped", "kept"])),
            opt("detail", Text),
            opt("detail_cut", True),
            field("config_sha256", Hex),
            field("changes", Texts),
            opt("changes_cut", True),
            opt("changes_total", Count),
        ],
    },
    Event {
        name: "upstream_credential",
        of: Of::Process,
        fields: &[
            field("service", Text),
            opt("role", Text),
            field("result", Word(&["refused", "accepted"])),
            opt("detail", Text),
            opt("detail_cut", True),
        ],
    },
    Event {
        name: "drain_begin",
        of: Of::Process,
        fields: &[field("reason", Text), field("connections", Count), field("deadline_us", Count)],
    },
    Event {
        name: "drain_end",
        of: Of::Process,
        fields: &[field("drained", Count), field("aborted", Count), field("us", Count)],
    },
    Event {
        name: "refused",
        of: Of::Process,
        fields: &[
            field("service", Text),
            field("src", Text),
            opt("via", Text),
            field("listener", Text),
            field("reason", Text),
            opt("detail", Text),
            opt("detail_cut", True),
        ],
    },
    Event {
        name: "handshake_failure",
        of: Of::Process,
        fields: &[
            field("service", Text),
            field("src", Text),
            opt("via", Text),
            field("reason", Text),
            field("detail", Text),
            opt("detail_cut", True),
            opt("hint", Text),
            opt("hint_cut", True),
            field("unverified", Texts),
            opt("unverified_cut", True),
            opt("unverified_total", Count),
        ],
    },
    Event {
        name: "accept_error",
        of: Of::Process,
        fields: &[field("listener", Text), field("reason", Text), field("detail", Text), opt("detail_cut", True)],
    },
    Event {
        name: "sink_recovered",
        of: Of::Process,
        fields: &[field("output", Text), field("reason", Text), opt("reason_cut", True), field("us", Count)],
    },
    Event {
        name: "upstream_switch",
        of: Of::Process,
        fields: &[
            field("service", Text),
            field("from", Text),
            opt("from_cut", True),
            field("to", Text),
            opt("to_cut", True),
            field("reason", Text),
        ],
    },
    Event {
        name: "gap",
        of: Of::Process,
        fields: &[field("output", Text), field("dropped", Count), field("first_seq", Count)],
    },
    Event {
        name: "checkpoint",
        of: Of::Output,
        fields: &[
            field("ts", Time),
            field("output", Text),
            field("chain", Hex),
            field("n", Count),
            field("reason", Word(&["start", "resume", "interval", "rotate", "reopen", "open", "stop"])),
            opt("unproven_bytes", Count),
            opt("unproven_lines", Count),
            opt("torn", Flag),
            opt("after_chain", Hex),
            opt("after_n", Count),
            opt("after_sha256", Hex),
            opt("why", Text),
            field("bytes", Count),
            field("lines", Count),
            opt("pens", Pens),
            opt("pens_cut", True),
            opt("key", Hex),
            field("sha256", Hex),
            opt("sig", Text),
        ],
    },
];

impl Event {
    /// All fields of its lines, in their order.
    pub fn all_fields(&self) -> impl Iterator<Item = Field> {
        let name = std::iter::once(field("event", Text));
        let (front, connection): (&[Field], &[Field]) = match self.of {
            Of::Connection | Of::ConnectionWhole => (FRONT, CONNECTION),
            Of::Process => (FRONT, &[]),
            Of::Output => (FRONT.get(..1).unwrap_or_default(), &[]),
        };
        front.iter().copied().chain(name).chain(connection.iter().copied()).chain(self.fields.iter().copied())
    }

    /// Whether its lines must have the field in this shape; `None` if they cannot.
    #[must_use]
    pub fn requires(&self, field: &Field, shape: Shape) -> Option<bool> {
        match (field.missing, shape) {
            (Missing::Never, _) | (Missing::Compact | Missing::NotCompact, Shape::Full) => Some(true),
            (Missing::NotCompact, Shape::Compact) => (self.of == Of::ConnectionWhole).then_some(true),
            (Missing::Compact, Shape::Compact) | (Missing::Anywhere, _) => Some(false),
        }
    }

    fn schema(&self, shape: Shape) -> Value {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for field in self.all_fields() {
            let Some(must) = self.requires(&field, shape) else { continue };
            let kind = if field.name == "event" { json!({ "const": self.name }) } else { field.kind.schema() };
            properties.insert(field.name.to_owned(), kind);
            if must {
                required.push(field.name);
            }
        }
        json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
    }
}

impl Kind {
    fn schema(self) -> Value {
        let list = |items: &Value| json!({ "type": "array", "items": items });
        let value = json!({ "oneOf": [
            { "type": "string" },
            { "type": "object", "properties": { "b64": { "type": "string" }, "cut": { "const": true } }, "required": ["b64"], "additionalProperties": false },
            { "type": "object", "properties": { "text": { "type": "string" }, "cut": { "const": true } }, "required": ["text", "cut"], "additionalProperties": false },
        ] });
        let hash = json!({ "type": "string", "pattern": "^[0-9a-f]{32}$" });
        match self {
            Self::Count => json!({ "type": "integer", "minimum": 0 }),
            Self::CountOrNull => json!({ "type": ["integer", "null"], "minimum": 0 }),
            Self::Integer => json!({ "type": "integer" }),
            Self::Text => json!({ "type": "string" }),
            Self::TextOrNull => json!({ "type": ["string", "null"] }),
            Self::Word(words) => json!({ "enum": words }),
            Self::Is(number) => json!({ "const": number }),
            Self::True => json!({ "const": true }),
            Self::Flag => json!({ "type": "boolean" }),
            Self::Time => json!({ "type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$" }),
            Self::Hex => json!({ "type": "string", "pattern": "^[0-9a-f]+$" }),
            Self::Texts => list(&json!({ "type": "string" })),
            Self::Words(words) => list(&json!({ "enum": words })),
            Self::Keys => json!({ "oneOf": [{ "type": "null" }, list(&value)] }),
            Self::Hashes => {
                let cut = json!({ "type": "object", "properties": { "hmac": hash, "cut": { "const": true } }, "required": ["hmac", "cut"], "additionalProperties": false });
                json!({ "oneOf": [{ "type": "null" }, list(&json!({ "oneOf": [hash, cut] }))] })
            }
            Self::Arguments => list(&json!({ "oneOf": [{ "type": "null" }, value] })),
            Self::Pens => {
                let count = Self::Count.schema();
                list(&json!({
                    "type": "object",
                    "properties": { "w": count, "seq": count, "filtered": count, "dropped": count },
                    "required": ["w", "seq", "filtered", "dropped"],
                    "additionalProperties": false,
                }))
            }
        }
    }
}

/// The schema of one line in this shape.
#[must_use]
pub fn schema(shape: Shape) -> Value {
    let events: Vec<Value> = EVENTS.iter().map(|event| json!({ "$ref": format!("#/$defs/{}", event.name) })).collect();
    let definitions: Map<String, Value> =
        EVENTS.iter().map(|event| (event.name.to_owned(), event.schema(shape))).collect();
    let shape = match shape {
        Shape::Full => "full",
        Shape::Compact => "compact",
    };
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": format!("urn:ravelin:audit:1:{shape}"),
        "title": format!("A line of Ravelin's audit stream, shape {shape:?}"),
        "description": concat!(
            "Of ravelin ", env!("CARGO_PKG_VERSION"), ". Within version 1 further fields may be added; none is taken away ",
            "or changes its meaning."
        ),
        "oneOf": events,
        "$defs": definitions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_a_definition_and_every_reference_one_too() {
        for shape in [Shape::Full, Shape::Compact] {
            let schema = schema(shape);
            let definitions = schema["$defs"].as_object().unwrap();
            assert_eq!(definitions.len(), EVENTS.len(), "two events of one name");
            for reference in schema["oneOf"].as_array().unwrap() {
                let name = reference["$ref"].as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                assert_eq!(definitions[name]["properties"]["event"]["const"], name);
            }
        }
    }

    #[test]
    fn a_field_stands_once_in_an_event_and_says_what_the_page_says() {
        let page = include_str!("mod.rs");
        for event in EVENTS {
            assert!(page.contains(&format!("`{}`", event.name)), "{}", event.name);
            let mut names: Vec<_> = event.all_fields().map(|field| field.name).collect();
            for name in &names {
                let described =
                    page.contains(&format!("`{name}`")) || name.ends_with("_cut") || name.ends_with("_total");
                assert!(described, "{name} of {}", event.name);
            }
            names.sort_unstable();
            let all = names.len();
            names.dedup();
            assert_eq!(names.len(), all, "{}", event.name);
        }
    }

    #[test]
    fn a_compact_line_need_not_say_what_is_usual_and_cannot_say_whose_it_is() {
        let compact = schema(Shape::Compact);
        let command = &compact["$defs"]["command"];
        assert_eq!(command["properties"].get("identity"), None);
        assert!(!command["required"].as_array().unwrap().contains(&"verdict".into()));
        assert!(compact["$defs"]["connection_open"]["required"].as_array().unwrap().contains(&"identity".into()));
        assert!(schema(Shape::Full)["$defs"]["command"]["required"].as_array().unwrap().contains(&"role".into()));
    }
}
