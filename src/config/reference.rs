//! Every key and its documentation, from the doc comments in `raw`.

use super::{
    decode::{Decode as _, KeyDoc, join},
    raw::RawConfig,
};
use std::fmt::Write as _;

/// Every key with what it takes and what it means, in the order of the file, for people: printed by
/// `ravelin check --reference`.
#[must_use]
pub fn reference() -> String {
    let mut out = String::new();
    describe("", RawConfig::KEYS, &mut out);
    out
}

fn describe(parent: &str, keys: &[KeyDoc], out: &mut String) {
    for key in keys {
        let path = join(parent, key.name);
        let expects = if key.list && !key.keys.is_empty() { "a list of tables" } else { key.expects };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{path}  ({expects})");
        for line in key.doc.lines() {
            let _ = writeln!(out, "    {}", line.trim());
        }
        // A service's own tables are the top-level ones over again.
        if parent.is_empty() || RawConfig::KEYS.iter().all(|top| top.name != key.name) {
            describe(&if key.list { join(&path, "N") } else { path }, key.keys, out);
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_reference_names_nested_keys_as_set_takes_them() {
        let reference = super::reference();
        for key in
            ["service.N.upstream.password_file  (", "limits.keepalive.count  (a number)", "role.N.match.N.uri  ("]
        {
            assert!(reference.contains(key), "{key} is missing in\n{reference}");
        }
        assert!(!reference.contains("r#"), "{reference}");
        assert!(!reference.contains("service.N.tls.cert"), "{reference}");
    }
}
