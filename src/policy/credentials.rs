//! Stored users: who may authenticate with which password, as hashes.
//!
//! A file of lines, each a user's name and one or more SHA-256 hashes of its passwords as Redis writes them in `users.acl`
//! and prints them in `ACL GETUSER`: `#` and 64 hexadecimal digits.
//!
//! ```text
//! # printf %s "$PASSWORD" | sha256sum
//! billing  #5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8
//! user legacy on role=app #…  #…
//! ```
//!
//! The words `user` (in front) and `on` are let through, so that lines of a `users.acl` need only lose their rules; `off`
//! keeps a line and lets nobody in by it. `role=NAME` is for `client_auth = "select"`.
//!
//! A hash is compared in constant time, and as many are computed for a user who is not there, so that an answer's time
//! tells neither. SHA-256 is fast and these have no salt: they protect a long random password in a file that was lost, and
//! a short one not at all. The file is as secret as a password.

use sha2::{Digest as _, Sha256};
use std::{collections::HashMap, sync::Arc};
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

/// Longest user name and longest password that are looked at; longer ones are nobody's.
pub const WORD_MAX: usize = 4096;
/// Most hashes of one user.
const HASHES_MAX: usize = 16;

/// The stored users.
#[derive(Default)]
pub struct Users {
    entries: HashMap<Vec<u8>, User>,
}

#[derive(Default)]
struct User {
    hashes: Vec<[u8; 32]>,
    role: Option<Arc<str>>,
}

impl std::fmt::Debug for Users {
    /// Hashes are as good as short passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Users({})", self.entries.len())
    }
}

/// What is wrong with a line. It is not repeated: there may be a password in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct UsersError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What may be wrong with a line of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing stands behind the name.
    #[error("a user without a hash; write #, and the 64 hexadecimal digits of `printf %s \"$PASSWORD\" | sha256sum`")]
    NoHash,
    /// `>password`.
    #[error("a password in clear; write #, and the 64 hexadecimal digits of its SHA-256")]
    Clear,
    /// `#` without 64 hexadecimal digits.
    #[error("`#` without 64 hexadecimal digits behind it")]
    NotAHash,
    /// Too many.
    #[error("more than {HASHES_MAX} hashes of one user")]
    TooMany,
    /// The same name again.
    #[error("a user that an earlier line has")]
    Twice,
    /// A name that is too long or not text.
    #[error("a name that no user can have")]
    Name,
    /// Anything else.
    #[error("a word that is not understood: `on`, `off`, `role=NAME` and `#HASH` are (rules belong to roles)")]
    Word,
}

/// A password that was right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The role that the user is to have, if one was named.
    pub role: Option<Arc<str>>,
    /// What it was right by.
    pub grant: Grant,
}

/// What somebody was let in by, so that it can be asked later whether that still stands. As secret as its hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Grant {
    user: Box<[u8]>,
    hash: Zeroizing<[u8; 32]>,
    role: Option<Arc<str>>,
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Grant")
    }
}

impl Users {
    /// Reads the file's text.
    ///
    /// # Errors
    ///
    /// The first line that is wrong.
    pub fn parse(text: &[u8]) -> Result<Self, UsersError> {
        let mut users = Self::default();
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let fault = |fault| UsersError { line: index.saturating_add(1), fault };
            let line = std::str::from_utf8(line).map_err(|_| fault(Fault::Name))?;
            users.line(line).map_err(fault)?;
        }
        Ok(users)
    }

    fn line(&mut self, line: &str) -> Result<(), Fault> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let mut words = line.split_ascii_whitespace().peekable();
        let first = words.next().unwrap_or_default();
        // `user` in front of a name, or somebody who is called so.
        let named = first == "user" && words.peek().is_some_and(|next| !next.starts_with('#'));
        let name = if named { words.next().unwrap_or_default() } else { first };
        if name.len() > WORD_MAX || name.chars().any(char::is_control) {
            return Err(Fault::Name);
        }
        let mut user = User::default();
        let mut on = true;
        let mut hashed = false;
        for word in words {
            if let Some(digits) = word.strip_prefix('#') {
                if user.hashes.len() >= HASHES_MAX {
                    return Err(Fault::TooMany);
                }
                user.hashes.push(hash(digits).ok_or(Fault::NotAHash)?);
                hashed = true;
            } else if let Some(role) = word.strip_prefix("role=").filter(|role| !role.is_empty()) {
                user.role = Some(role.into());
            } else if word.starts_with('>') {
                return Err(Fault::Clear);
            } else if word.eq_ignore_ascii_case("off") {
                on = false;
            } else if !word.eq_ignore_ascii_case("on") {
                return Err(Fault::Word);
            }
        }
        if !hashed {
            return Err(Fault::NoHash);
        }
        if !on {
            user.hashes.clear();
        }
        match self.entries.insert(name.as_bytes().to_vec(), user) {
            Some(_) => Err(Fault::Twice),
            None => Ok(()),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The roles that lines name.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.entries.values().filter_map(|user| user.role.as_deref())
    }

    /// What this user with this password is granted, if it is right.
    #[must_use]
    pub fn check(&self, user: &[u8], password: &[u8]) -> Option<Granted> {
        if user.len() > WORD_MAX || password.len() > WORD_MAX {
            return None;
        }
        let found = self.entries.get(user);
        let given = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(password)));
        // Nobody's hash, for a user who is not there.
        let nobody = [[0_u8; 32]];
        let hashes = found.map_or(&nobody[..], |user| user.hashes.as_slice());
        let right = hashes.iter().fold(Choice::from(0), |right, hash| right | hash.ct_eq(&*given));
        let name = user;
        let user = found.filter(|_| bool::from(right))?;
        let role = user.role.clone();
        let grant = Grant { user: name.into(), hash: given, role: role.clone() };
        Some(Granted { role, grant })
    }

    /// Whether who was let in by that would be let in still, as the same: with a user that is there, a hash that is its, and
    /// the same role.
    #[must_use]
    pub fn uphold(&self, grant: &Grant) -> bool {
        self.entries.get(&grant.user[..]).is_some_and(|user| {
            let hashes = user.hashes.iter();
            let known = hashes.fold(Choice::from(0), |known, hash| known | hash.ct_eq(&*grant.hash));
            bool::from(known) && user.role == grant.role
        })
    }
}

fn hash(digits: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let text = std::str::from_utf8(pair).ok().filter(|_| pair.iter().all(u8::is_ascii_hexdigit))?;
        *byte = u8::from_str_radix(text, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::{Fault, Users, WORD_MAX};

    /// Of `hunter2` and of `password`, as `sha256sum` prints them.
    const HUNTER2: &str = "f52fbd32b2b3b86ff88ef6c490628285f482af15ddcb29541f94bcf526a3f6c7";
    const PASSWORD: &str = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";

    fn users(text: &str) -> Users {
        Users::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_user_is_who_has_the_password() {
        let users = users(&format!(
            "# of hunter2\nbilling #{HUNTER2}\n\n user  two on  role=app #{HUNTER2} #{}\noff off #{HUNTER2}\r\n\
             user #{HUNTER2}",
            PASSWORD.to_ascii_uppercase()
        ));
        type Row<'a> = (&'a [u8], &'a [u8], Option<Option<&'a str>>);
        let rows: [Row<'_>; 13] = [
            (b"billing", b"hunter2", Some(None)),
            (b"billing", b"hunter", None),
            (b"billing", b"", None),
            (b"billing", b"hunter2\n", None),
            (b"Billing", b"hunter2", None),
            (b"two", b"hunter2", Some(Some("app"))),
            (b"two", b"password", Some(Some("app"))),
            (b"two", b"Password", None),
            (b"off", b"hunter2", None),
            (b"user", b"hunter2", Some(None)),
            (b"nobody", b"hunter2", None),
            (b"", b"", None),
            (b"\xff", b"hunter2", None),
        ];
        for (user, password, expected) in rows {
            let found = users.check(user, password).map(|granted| granted.role);
            assert_eq!(
                found.as_ref().map(|role| role.as_deref()),
                expected,
                "{} {}",
                user.escape_ascii(),
                password.escape_ascii()
            );
        }
        assert_eq!((users.len(), users.roles().collect::<Vec<_>>()), (4, vec!["app"]));
        assert_eq!(format!("{users:?}"), "Users(4)");
    }

    #[test]
    fn who_was_let_in_is_upheld_as_long_as_the_line_is_the_same() {
        let grant = users(&format!("a role=r #{PASSWORD} #{HUNTER2}")).check(b"a", b"hunter2").unwrap().grant;
        assert_eq!(format!("{grant:?}"), "Grant");
        for (text, upheld) in [
            (format!("b #{PASSWORD}\na role=r #{HUNTER2}"), true),
            (format!("user a on #{HUNTER2} role=r #{PASSWORD}"), true),
            (format!("a role=r #{PASSWORD}"), false),
            (format!("a role=s #{HUNTER2}"), false),
            (format!("a #{HUNTER2}"), false),
            (format!("a off role=r #{HUNTER2}"), false),
            (format!("b role=r #{HUNTER2}"), false),
            (String::new(), false),
        ] {
            assert_eq!(users(&text).uphold(&grant), upheld, "{text}");
        }
    }

    #[test]
    fn a_word_beyond_the_limit_is_nobodys() {
        let users = users(&format!("a #{HUNTER2}"));
        assert_eq!(users.check(b"a", &[b'x'; WORD_MAX + 1]), None);
        assert_eq!(users.check(&[b'x'; WORD_MAX + 1], b"hunter2"), None);
    }

    #[test]
    fn a_line_that_is_wrong_is_named_and_never_repeated() {
        let many = format!("a {}", format!("#{HUNTER2} ").repeat(17));
        let rows = [
            ("a".to_owned(), Fault::NoHash),
            ("a on".to_owned(), Fault::NoHash),
            ("a >hunter2".to_owned(), Fault::Clear),
            ("a #hunter2".to_owned(), Fault::NotAHash),
            (format!("a #{}g", &HUNTER2[1..]), Fault::NotAHash),
            (format!("a #+{}", &HUNTER2[1..]), Fault::NotAHash),
            (format!("a #{HUNTER2} hunter2"), Fault::Word),
            (format!("a #{HUNTER2} nopass"), Fault::Word),
            (format!("a #{HUNTER2} +@all"), Fault::Word),
            (format!("a role= #{HUNTER2}"), Fault::Word),
            (many, Fault::TooMany),
            (format!("a #{HUNTER2}\na #{HUNTER2}"), Fault::Twice),
            (format!("a\u{1} #{HUNTER2}"), Fault::Name),
        ];
        for (text, expected) in rows {
            let error = Users::parse(format!("\n{text}").as_bytes()).unwrap_err();
            assert_eq!(error.fault, expected, "{text}");
            assert!(error.line >= 2 && !error.to_string().contains("hunter2"), "{error}");
        }
        assert_eq!(Users::parse(b"a\xff").unwrap_err().fault, Fault::Name);
    }
}
