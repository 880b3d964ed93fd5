//! What is a SPIFFE id (<https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md>).
//!
//! A certificate whose URI begins as one and is none gives no identity at all (`tls::peer`): a role for
//! `spiffe://prod/ns/billing/**` is not for who wrote `..` into his name, nor one for `spiffe://prod/*/api` for who has an
//! empty segment there.

/// Whether a URI says that it is a SPIFFE id.
#[must_use]
pub fn begins(uri: &str) -> bool {
    uri.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe:"))
}

/// Whether it is one (SPIFFE-ID, 2): a trust domain of `a-z 0-9 . - _`, then path segments of `a-z A-Z 0-9 . - _`, none of
/// them empty, `.` or `..`. No query, no fragment, no port, no percent-encoding, at most 2048 bytes.
#[must_use]
pub fn is_id(uri: &str) -> bool {
    let Some(rest) = uri.strip_prefix("spiffe://") else { return false };
    let mut parts = rest.split('/');
    let domain = parts.next().unwrap_or_default();
    let in_domain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
    let in_path = |byte: u8| in_domain(byte) || byte.is_ascii_uppercase();
    uri.len() <= 2048
        && !domain.is_empty()
        && domain.bytes().all(in_domain)
        && parts.all(|part| !matches!(part, "" | "." | "..") && part.bytes().all(in_path))
}

/// Whether some SPIFFE id may match this pattern, as far as its letters go.
#[must_use]
pub fn pattern_may_match(pattern: &str) -> bool {
    is_id(&pattern.replace("**", "*").replace('*', "x"))
}

#[cfg(test)]
mod tests {
    use super::{begins, is_id, pattern_may_match};

    #[test]
    fn a_spiffe_id_is_what_its_standard_says() {
        let long = format!("spiffe://prod/{}", "a".repeat(2048));
        for (uri, expected) in [
            ("spiffe://prod", true),
            ("spiffe://prod.example-1_x/ns/a/sa/B.c-d_e", true),
            ("spiffe://prod/", false),
            ("spiffe://prod/a/", false),
            ("spiffe://prod//a", false),
            ("spiffe://prod/a/../b", false),
            ("spiffe://prod/./b", false),
            ("spiffe://Prod/a", false),
            ("SPIFFE://prod/a", false),
            ("spiffe://prod:8080/a", false),
            ("spiffe://user@prod/a", false),
            ("spiffe://prod/a?b", false),
            ("spiffe://prod/a#b", false),
            ("spiffe://prod/%61", false),
            ("spiffe:///a", false),
            ("spiffe:prod", false),
            (long.as_str(), false),
        ] {
            assert!(begins(uri), "{uri}");
            assert_eq!(is_id(uri), expected, "{uri}");
        }
        assert!(!begins("urn:spiffe:x") && !begins("spif"));
    }

    #[test]
    fn a_pattern_that_no_spiffe_id_has_is_told() {
        for (pattern, expected) in [
            ("spiffe://prod/**", true),
            ("spiffe://prod/*", true),
            ("spiffe://*/ns/a-*/sa/**", true),
            ("spiffe://prod", true),
            ("spiffe://prod/", false),
            ("spiffe://prod/**/", false),
            ("spiffe://PROD/**", false),
            ("spiffe://prod//**", false),
            ("spiffe:/prod/**", false),
        ] {
            assert_eq!(pattern_may_match(pattern), expected, "{pattern}");
        }
    }
}
