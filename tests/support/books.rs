//! An auditor of the audit stream: every line of every run has the documented fields in their order, the numbers of
//! each writer have no holes, each connection's totals are right, and what began also ended.

use super::schema::faults;
use ravelin::audit::{outlet::Shape, schema};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::Value;
use std::{collections::HashMap, fmt, sync::LazyLock};

/// What is published of a line.
static SCHEMA: LazyLock<Value> = LazyLock::new(|| schema::schema(Shape::Full));

/// One line as a value.
pub fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in audit line {line}"))
}

/// The keys of an object, in its order.
struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Keys;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, IgnoredAny)) = map.next_entry()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }
        from.deserialize_map(Reader)
    }
}

/// What is known of a connection so far.
#[derive(Default)]
struct Seen {
    commands: u64,
    denied: u64,
    /// Commands that have begun and not ended, oldest first.
    begun: Vec<String>,
    closed: bool,
}

/// The lines of each start, of a stream to which several processes wrote one after the other. What the last moment of a
/// killed one has torn is no line, and checkpoints are no pen's.
pub fn lives(text: &str) -> Vec<String> {
    let mut lives: Vec<String> = Vec::new();
    let is_of_a_pen = |line: &&str| line.ends_with("}\n") && !line.contains("\"event\":\"checkpoint\"");
    for line in text.split_inclusive('\n').filter(is_of_a_pen) {
        if lives.is_empty() || line.contains("\"event\":\"start\"") {
            lives.push(String::new());
        }
        lives.last_mut().unwrap().push_str(line);
    }
    lives
}

/// Checks a stream; `whole` from its first line on, `ended` up to its last.
///
/// # Panics
/// At the first line that is not as it should be.
pub fn check(text: &str, whole: bool, ended: bool) {
    let mut sequences: HashMap<u64, u64> = HashMap::new();
    let mut connections: HashMap<String, Seen> = HashMap::new();
    for line in text.lines() {
        let record = parse(line);
        check_fields(line, &record);
        let (w, seq) = (record["w"].as_u64().unwrap(), record["seq"].as_u64().unwrap());
        if let Some(last) = sequences.insert(w, seq) {
            assert_eq!(seq, last + 1, "a hole before {line}");
        } else if whole {
            assert_eq!(seq, 1, "the first line of its writer is {line}");
        }
        if let Some(conn) = record["conn"].as_str() {
            check_connection(connections.entry(conn.to_owned()).or_default(), &record, whole);
        }
    }
    for (conn, seen) in connections {
        assert!(!ended || seen.closed, "{conn} is never closed");
        assert!(!ended || seen.begun.is_empty(), "{:?} of {conn} never ended", seen.begun);
    }
}

/// The fields are those of its event, in their order, and those that belong together are.
fn check_fields(line: &str, record: &Value) {
    assert!(line.len() < 16 * 1024, "a line of {} bytes: {line}", line.len());
    let event = record["event"].as_str().unwrap_or_default();
    let known =
        schema::EVENTS.iter().find(|known| known.name == event).unwrap_or_else(|| panic!("an unknown event: {line}"));
    let found = faults(&SCHEMA, &SCHEMA["$defs"][event], record);
    assert!(found.is_empty(), "{found:#?} in {line}");
    let Keys(keys) = serde_json::from_str(line).unwrap();
    let mut keys = keys.iter().map(String::as_str).peekable();
    for field in known.all_fields() {
        let _ = keys.next_if_eq(&field.name);
    }
    assert_eq!(keys.next(), None, "out of its order, in {line}");
    assert_eq!(record["v"], 1, "{line}");
    let ts: jiff::Timestamp = record["ts"].as_str().unwrap().parse().unwrap();
    assert!(ts.as_second() > 1_700_000_000, "{line}");
    if let Some(reason) = record["reason"].as_str()
        && event != "sink_recovered"
        && event != "drain_begin"
    {
        let row = include_str!("../../README.md").lines().find(|row| row.starts_with(&format!("| `{event}` | `")));
        assert!(row.is_some_and(|row| row.contains(&format!("`{reason}`"))), "the README does not list it: {line}");
    }
    if event == "command" {
        let is = |field: &str, words: &[&str]| {
            assert!(words.contains(&record[field].as_str().unwrap()), "{field} in {line}");
        };
        is("verdict", &["allow", "deny", "answer"]);
        is("context", &["top", "multi"]);
        is("outcome", &["denied", "ran", "error", "queued", "aborted", "nil", "incomplete", "unanswered"]);
        let denied = record["verdict"] == "deny";
        assert_eq!(record["outcome"] == "denied", denied, "{line}");
        assert_eq!(record["rule"].is_string(), denied, "{line}");
        assert_eq!(record["us"].is_null(), denied, "{line}");
        let inside = record["context"] == "multi";
        assert!(!inside || record["tx"].is_u64(), "{line}");
        assert!(record["tx"].is_null() || inside || record["cmd"] == "MULTI", "{line}");
    }
}

fn check_connection(seen: &mut Seen, record: &Value, whole: bool) {
    assert!(!seen.closed, "after the close: {record}");
    let name = || format!("{}|{}", record["cmd"], record["sub"]);
    match record["event"].as_str().unwrap() {
        "begin" => seen.begun.push(name()),
        "command" => {
            seen.commands += 1;
            seen.denied += u64::from(record["verdict"] == "deny");
            if record["verdict"] == "allow"
                && let Some(place) = seen.begun.iter().position(|begun| *begun == name())
            {
                seen.begun.remove(place);
            }
        }
        "connection_close" => {
            seen.closed = true;
            assert!(seen.begun.is_empty(), "{:?} began and did not end: {record}", seen.begun);
            if whole {
                assert_eq!(record["commands"], seen.commands, "{record}");
                assert_eq!(record["denied"], seen.denied, "{record}");
            }
        }
        _ => {}
    }
}
