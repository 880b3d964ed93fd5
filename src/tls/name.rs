//! Distinguished names as text.

use super::peer::hex;
use std::fmt::Write as _;
use x509_parser::{prelude::X509Name, x509::AttributeTypeAndValue};

/// Short names of attributes (RFC 4514, 3), and of the one that CAs use besides.
const ATTRIBUTES: [(&str, &str); 10] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// A distinguished name as RFC 4514 writes it, the last part first: `CN=Issuing CA 1,O=Example`, as
/// `openssl x509 -noout -issuer -nameopt RFC2253` prints it.
///
/// Never an error: what is no text is written as `#` and its hexadecimal bytes, a control character as `\0a`, so that two
/// different names never look alike to a pattern.
pub(super) fn distinguished(name: &X509Name<'_>) -> String {
    let parts: Vec<String> =
        name.iter_rdn().map(|part| part.iter().map(attribute).collect::<Vec<_>>().join("+")).collect();
    parts.into_iter().rev().collect::<Vec<_>>().join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let id = attribute.attr_type().to_id_string();
    let known = ATTRIBUTES.iter().find(|(known, _)| *known == id).map(|(_, short)| *short);
    match (known, attribute.as_str()) {
        (Some(short), Ok(text)) => format!("{short}={}", escaped(text)),
        (short, _) => format!("{}=#{}", short.unwrap_or(&id), hex(attribute.attr_value().data)),
    }
}

/// RFC 4514, 2.4.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, c) in text.chars().enumerate() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => out.extend(['\\', c]),
            ' ' if at == 0 || at == last => out.push_str("\\ "),
            '#' if at == 0 => out.push_str("\\#"),
            c if c.is_control() => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    // Writing to a string cannot fail.
                    let _ = write!(out, "\\{byte:02x}");
                }
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn what_means_something_in_a_distinguished_name_is_escaped() {
        for (text, expected) in [
            ("Issuing CA 1", "Issuing CA 1"),
            ("a,CN=b", "a\\,CN=b"),
            (" a ", "\\ a\\ "),
            ("#a#", "\\#a#"),
            ("a\nb\0", "a\\0ab\\00"),
            ("\"+;<>\\", "\\\"\\+\\;\\<\\>\\\\"),
            ("\u{85}", "\\c2\\85"),
        ] {
            assert_eq!(escaped(text), expected, "{text:?}");
        }
    }
}
