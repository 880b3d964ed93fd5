//! Patterns over the names in a certificate.

/// Longest name a pattern is held against; a longer one never matches (SPIFFE ids end at 2048 bytes).
const NAME_MAX: usize = 2048;
/// Longest pattern.
const PATTERN_MAX: usize = 512;

/// A name with wildcards: `*` stands for any run of characters (in a path, of characters but `/`), `**` for any run.
/// Both may stand for nothing. There is no escape: a `*` in a certificate is a character like others, and only a
/// wildcard matches it.
///
/// The work is bounded by pattern length times name length; there is no backtracking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    tokens: Vec<Token>,
    fold_case: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// Any run without `/`.
    Segment,
    /// Any run.
    Anything,
}

/// How a kind of name is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Byte for byte; `*` stops at `/`.
    Uri,
    /// ASCII letters in either case.
    Dns,
    /// Byte for byte.
    Plain,
}

/// Why a pattern is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing in it.
    #[error("the pattern is empty")]
    Empty,
    /// No verified name would ever match it.
    #[error("the pattern holds a control character")]
    Control,
    /// Too long to be meant.
    #[error("the pattern is longer than {PATTERN_MAX} bytes")]
    TooLong,
}

impl Pattern {
    /// Reads a pattern for names of `kind`.
    pub fn new(text: &str, kind: Kind) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > PATTERN_MAX {
            return Err(PatternError::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(PatternError::Control);
        }
        let fold_case = kind == Kind::Dns;
        let single = if kind == Kind::Uri { Token::Segment } else { Token::Anything };
        let mut tokens: Vec<Token> = Vec::with_capacity(text.len());
        for byte in text.bytes() {
            match (byte, tokens.last_mut()) {
                (b'*', Some(last @ (Token::Segment | Token::Anything))) => *last = Token::Anything,
                (b'*', _) => tokens.push(single),
                (byte, _) => tokens.push(Token::Byte(if fold_case { byte.to_ascii_lowercase() } else { byte })),
            }
        }
        Ok(Self { text: text.to_owned(), tokens, fold_case })
    }

    /// Whether every name that `other`, a pattern for the same kind of name, covers is covered by this one too, as far as
    /// that can be told without enumerating: never true wrongly.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let literal = other.tokens.iter().all(|token| matches!(token, Token::Byte(_)));
        self.tokens == other.tokens || self.tokens == [Token::Anything] || (literal && self.matches(&other.text))
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it covers the whole of `name`. A name with a control character in it (a NUL above all: other servers
    /// were made to read names only up to it) is covered by nothing.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        if name.len() > NAME_MAX || name.chars().any(char::is_control) {
            return false;
        }
        // `reached[i]`: the first `i` tokens cover what was read of the name so far.
        let mut reached = vec![false; self.tokens.len().saturating_add(1)];
        if let Some(start) = reached.first_mut() {
            *start = true;
        }
        self.skip_empty_runs(&mut reached);
        for byte in name.bytes() {
            let byte = if self.fold_case { byte.to_ascii_lowercase() } else { byte };
            let mut alive = false;
            // What the token before position `i` made of it, before this byte; walked in order, so it is kept aside.
            let mut before = false;
            let mut tokens = self.tokens.iter();
            let mut token: Option<&Token> = None;
            for here in &mut reached {
                let was = *here;
                *here = match token {
                    None => false,
                    Some(Token::Byte(wanted)) => before && *wanted == byte,
                    Some(Token::Segment) => was && byte != b'/',
                    Some(Token::Anything) => was,
                };
                alive |= *here;
                before = was;
                token = tokens.next();
            }
            if !alive {
                return false;
            }
            self.skip_empty_runs(&mut reached);
        }
        reached.last().copied().unwrap_or(false)
    }

    /// A wildcard may stand for nothing: whoever stands before it stands behind it too.
    fn skip_empty_runs(&self, reached: &mut [bool]) {
        let mut before = reached.first().copied().unwrap_or(false);
        for (here, token) in reached.iter_mut().skip(1).zip(&self.tokens) {
            if before && !matches!(token, Token::Byte(_)) {
                *here = true;
            }
            before = *here;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Pattern, PatternError};
    use proptest::prelude::*;

    fn matches(kind: Kind, pattern: &str, name: &str) -> bool {
        Pattern::new(pattern, kind).unwrap().matches(name)
    }

    #[test]
    fn patterns_cover_whole_names_and_nothing_more() {
        use Kind::{Dns, Plain, Uri};
        let rows = [
            (Plain, "billing", "billing", true),
            (Plain, "billing", "billing2", false),
            (Plain, "billing", "a-billing", false),
            (Plain, "billing", "Billing", false),
            (Plain, "billing", "", false),
            (Plain, "bill*", "bill", true),
            (Plain, "bill*", "billing/x y", true),
            (Plain, "*-api", "billing-api", true),
            (Plain, "*-api", "billing-api-2", false),
            (Plain, "a*b*c", "aXbYc", true),
            (Plain, "a*b*c", "abcbc", true),
            (Plain, "a*b*c", "acb", false),
            (Plain, "*", "", true),
            (Plain, "*", "anything at all", true),
            (Plain, "*.example.com", "*.example.com", true),
            (Plain, "straße", "straße", true),
            (Plain, "straße", "strasse", false),
            // No Unicode folding: U+212A KELVIN SIGN is not k.
            (Plain, "k", "\u{212a}", false),
            (Dns, "api.example.com", "API.Example.COM", true),
            (Dns, "API.example.com", "api.example.com", true),
            (Dns, "*.example.com", "a.b.example.com", true),
            (Dns, "*.example.com", "example.com", false),
            (Dns, "k.example", "\u{212a}.example", false),
            (Uri, "spiffe://prod/ns/billing/sa/*", "spiffe://prod/ns/billing/sa/api", true),
            (Uri, "spiffe://prod/ns/billing/sa/*", "spiffe://prod/ns/billing/sa/api/x", false),
            (Uri, "spiffe://prod/ns/*/sa/api", "spiffe://prod/ns/billing/sa/api", true),
            (Uri, "spiffe://prod/ns/*/sa/api", "spiffe://prod/ns/a/b/sa/api", false),
            (Uri, "spiffe://prod/**", "spiffe://prod/ns/billing/sa/api", true),
            (Uri, "spiffe://prod/**", "spiffe://production/x", false),
            (Uri, "spiffe://**/sa/*", "spiffe://prod/ns/a/sa/b", true),
            (Uri, "spiffe://**/sa/*", "spiffe://prod/ns/sa/a/sa/b/c", false),
            (Uri, "spiffe://**/sa/*", "spiffe://prod/sa/x/sa/b", true),
            (Uri, "spiffe://PROD/x", "spiffe://prod/x", false),
        ];
        for (kind, pattern, name, expected) in rows {
            assert_eq!(matches(kind, pattern, name), expected, "{kind:?} {pattern:?} on {name:?}");
        }
    }

    #[test]
    fn a_name_with_a_control_character_is_covered_by_nothing() {
        for name in ["admin\0", "admin\0.example.com", "a\nb", "a\x7fb", "a\u{85}b", "\0"] {
            for pattern in ["*", "**", "admin*", "a*b"] {
                assert!(!matches(Kind::Plain, pattern, name), "{pattern:?} on {name:?}");
            }
        }
    }

    #[test]
    fn a_name_longer_than_the_limit_is_covered_by_nothing() {
        assert!(matches(Kind::Plain, "*", &"a".repeat(2048)));
        assert!(!matches(Kind::Plain, "*", &"a".repeat(2049)));
    }

    #[test]
    fn patterns_nobody_can_mean_are_refused() {
        assert_eq!(Pattern::new("", Kind::Plain), Err(PatternError::Empty));
        assert_eq!(Pattern::new("a\0b", Kind::Plain), Err(PatternError::Control));
        assert_eq!(Pattern::new(&"a".repeat(513), Kind::Plain), Err(PatternError::TooLong));
        assert!(Pattern::new(&"a".repeat(512), Kind::Plain).is_ok());
    }

    /// The definition, as directly as it can be written; exponential, so only for short inputs.
    fn defined(pattern: &[u8], name: &[u8]) -> bool {
        match pattern {
            [] => name.is_empty(),
            [b'*', b'*', rest @ ..] => (0..=name.len()).any(|cut| defined(rest, &name[cut..])),
            [b'*', rest @ ..] => {
                (0..=name.len()).any(|cut| !name[..cut].contains(&b'/') && defined(rest, &name[cut..]))
            }
            [byte, rest @ ..] => name.first() == Some(byte) && defined(rest, &name[1..]),
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_definition(pattern in "[ab/*]{1,8}", name in "[ab/]{0,10}") {
            // Three stars in a row are two: the definition above reads them so as well.
            prop_assert_eq!(
                matches(Kind::Uri, &pattern, &name),
                defined(pattern.as_bytes(), name.as_bytes()),
                "{} on {}", pattern, name
            );
        }
    }
}
