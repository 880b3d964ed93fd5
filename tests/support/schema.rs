//! As much of JSON Schema (draft 2020-12) as the published schemas use; a keyword that is not known here is a failure.

use serde_json::{Map, Value};

/// What is wrong with `value` by this schema, whose references are into `whole`.
pub fn faults(whole: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    look(whole, schema, value, "", &mut found);
    found
}

fn look(whole: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let rules = schema.as_object().expect("a schema is an object");
    for (keyword, rule) in rules {
        let fault = match keyword.as_str() {
            "type" => (!types(rule).any(|kind| is(kind, value))).then(|| format!("is no {rule}")),
            "const" => (value != rule).then(|| format!("is not {rule}")),
            "enum" => (!rule.as_array().unwrap().contains(value)).then(|| format!("is none of {rule}")),
            "minimum" => {
                value.as_f64().is_some_and(|number| number < rule.as_f64().unwrap()).then(|| "is less".to_owned())
            }
            "pattern" => value
                .as_str()
                .is_some_and(|text| !matches(rule.as_str().unwrap(), text))
                .then(|| format!("does not match {rule}")),
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    look(whole, rule, item, &format!("{at}/{index}"), found);
                }
                None
            }
            "properties" => {
                for (name, of) in rule.as_object().unwrap() {
                    if let Some(held) = value.get(name) {
                        look(whole, of, held, &format!("{at}/{name}"), found);
                    }
                }
                None
            }
            "required" => {
                let missing =
                    rule.as_array().unwrap().iter().filter(|name| value.get(name.as_str().unwrap()).is_none());
                let missing: Vec<_> = missing.filter(|_| value.is_object()).collect();
                (!missing.is_empty()).then(|| format!("lacks {missing:?}"))
            }
            "additionalProperties" => further(rules, value).then(|| "has a field that nobody knows".to_owned()),
            "oneOf" => {
                let fits = |each: &&Value| faults(whole, each, value).is_empty();
                let count = rule.as_array().unwrap().iter().filter(fits).count();
                (count != 1).then(|| format!("fits {count} of {}", rule.as_array().unwrap().len()))
            }
            "$ref" => {
                let name = rule.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                look(whole, &whole["$defs"][name], value, at, found);
                None
            }
            "$schema" | "$id" | "$defs" | "title" | "description" => None,
            other => panic!("the schema has the keyword {other}"),
        };
        found.extend(fault.map(|fault| format!("{at} {fault}: {value}")));
    }
}

fn types(rule: &Value) -> impl Iterator<Item = &str> {
    rule.as_array().map_or_else(|| std::slice::from_ref(rule), Vec::as_slice).iter().map(|kind| kind.as_str().unwrap())
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("the schema has the type {other}"),
    }
}

fn further(rules: &Map<String, Value>, value: &Value) -> bool {
    assert_eq!(rules["additionalProperties"], false);
    let known = rules["properties"].as_object().unwrap();
    value.as_object().is_some_and(|fields| fields.keys().any(|name| !known.contains_key(name)))
}

/// The three patterns there are.
fn matches(pattern: &str, text: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    match pattern {
        "^[0-9a-f]+$" => !text.is_empty() && hex(text),
        "^[0-9a-f]{32}$" => text.len() == 32 && hex(text),
        r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$" => {
            let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
            shape == "0000-00-00T00:00:00.000000Z"
        }
        other => panic!("the schema has the pattern {other}"),
    }
}
