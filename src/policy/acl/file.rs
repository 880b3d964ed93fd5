//! Rules of one user of a `users.acl`, as Redis writes it (`ACLLoadFromFile`): lines of `user NAME rule …`.
//!
//! Taken over are the rules, in their order. What is about the Redis user is read and left out: `on`, `nopass`, passwords and
//! their hashes (a role's certificate proves who it is; `credentials.users_file` is for passwords), and whether RESTORE is
//! checked. A user that is `off` may say nothing. Redis has no comments there; a line that begins with `#` is passed over.

/// What a line says of its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Counted from 1.
    pub line: usize,
    /// The rules, separated by blanks; none for a user that is off.
    pub rules: String,
    /// Whether the user is on.
    pub enabled: bool,
}

/// Why a user cannot be taken over. No line is repeated: there may be a password in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// A line that does not begin with `user NAME`.
    #[error("line {line} does not begin with `user NAME`, as every line of a users.acl does")]
    NoUser {
        /// Counted from 1.
        line: usize,
    },
    /// Two lines for the user.
    #[error("line {line} is about user {name:?} again, whom line {first} defines (Redis refuses such a file)")]
    Twice {
        /// Counted from 1.
        line: usize,
        /// The earlier line.
        first: usize,
        /// The user.
        name: String,
    },
    /// The user is not there.
    #[error("it has no user {name:?}; it has: {known}")]
    Missing {
        /// The user.
        name: String,
        /// Who is there.
        known: String,
    },
}

/// Finds the rules of user `name`.
///
/// # Errors
/// What is wrong with the file as far as it is about this user.
pub fn rules_of(text: &str, name: &str) -> Result<Imported, FileError> {
    let mut found: Option<Imported> = None;
    let mut known = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.trim_ascii();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let mut words = content.split_ascii_whitespace();
        let (Some("user"), Some(user)) = (words.next(), words.next()) else {
            return Err(FileError::NoUser { line });
        };
        known.push(user);
        if user != name {
            continue;
        }
        if let Some(first) = &found {
            return Err(FileError::Twice { line, first: first.line, name: name.to_owned() });
        }
        found = Some(one(line, words));
    }
    found.ok_or_else(|| FileError::Missing { name: name.to_owned(), known: known.join(", ") })
}

fn one<'w>(line: usize, words: impl Iterator<Item = &'w str>) -> Imported {
    const PASSED_OVER: [&str; 4] = ["nopass", "resetpass", "sanitize-payload", "skip-sanitize-payload"];
    let mut enabled = false;
    let mut rules = Vec::new();
    for word in words {
        let is = |other: &str| word.eq_ignore_ascii_case(other);
        if is("on") {
            enabled = true;
        } else if is("off") {
            enabled = false;
        } else if is("reset") {
            enabled = false;
            rules = vec!["reset"];
        } else if !PASSED_OVER.iter().any(|other| is(other)) && !word.starts_with(['>', '<', '#', '!']) {
            rules.push(word);
        }
    }
    Imported { line, rules: if enabled { rules.join(" ") } else { String::new() }, enabled }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "user default off nopass ~* &* +@all\n\
                        # the reports\n\
                        user reader on #9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 >hunter2 sanitize-payload \
                        ~cache:* resetchannels -@all +@read (~x +set)\n\n\
                        user again on reset on +get\n";

    #[test]
    fn the_rules_of_one_user_are_taken_over_and_nothing_secret() {
        let reader = rules_of(FILE, "reader").unwrap();
        assert_eq!(reader.rules, "~cache:* resetchannels -@all +@read (~x +set)");
        assert_eq!((reader.line, reader.enabled), (3, true));
        assert!(super::super::parse::compile(&reader.rules).is_ok());
        assert_eq!(rules_of(FILE, "again").unwrap().rules, "reset +get");
    }

    #[test]
    fn a_user_that_is_off_may_say_nothing() {
        let default = rules_of(FILE, "default").unwrap();
        assert_eq!((default.enabled, default.rules.as_str()), (false, ""));
    }

    #[test]
    fn no_byte_of_a_rule_is_lost_at_the_end_of_a_line() {
        // A no-break space is part of the pattern it stands in, and a vertical tab makes it none (what it means to Redis).
        for (last, ok) in [("~a\u{a0}", true), ("~a\u{b}", false)] {
            let rules = rules_of(&format!("user a on +get {last}\r\n"), "a").unwrap().rules;
            assert_eq!(rules, format!("+get {last}"));
            assert_eq!(super::super::parse::compile(&rules).is_ok(), ok);
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_repeating_the_line() {
        let missing = rules_of(FILE, "Reader").unwrap_err().to_string();
        assert_eq!(missing, "it has no user \"Reader\"; it has: default, reader, again");
        assert_eq!(rules_of("user a on\n\nsecret >x", "a"), Err(FileError::NoUser { line: 3 }));
        let twice = rules_of("user a on\nuser b\nuser a off", "a").unwrap_err().to_string();
        assert!(twice.starts_with("line 3 is about user \"a\" again, whom line 1 defines"), "{twice}");
    }
}
