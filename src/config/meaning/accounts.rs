//! Users and groups by name or number.
//!
//! Names are looked up where they are without the system's name services, which a static program has not.

use crate::config::{
    decode::{Item, NumberOrText},
    error::Report,
};

/// Users or groups.
pub(super) struct Kind {
    word: &'static str,
    /// Lines of `name:password:number:…`, as passwd(5) and group(5) have them.
    file: &'static str,
    hint: &'static str,
}

pub(super) const USER: Kind = Kind {
    word: "user",
    file: "/etc/passwd",
    hint: "name the user that redis-server runs as, or give its number (`id -u NAME`)",
};
pub(super) const GROUP: Kind =
    Kind { word: "group", file: "/etc/group", hint: "make it (`groupadd`), or give its number (`getent group NAME`)" };

/// The number, or the one that the name stands for.
pub(super) fn number(kind: &Kind, item: Option<&Item<NumberOrText>>, report: &mut Report) -> Option<u32> {
    let Kind { word, file, hint } = kind;
    let item = item?;
    let name = match &item.value {
        NumberOrText::Number(number) => {
            // The highest is chown(2)'s word for "leave it".
            let found = u32::try_from(*number).ok().filter(|id| *id != u32::MAX);
            if found.is_none() {
                report.error(&item.at, format!("expected a {word}'s name or number, 0 to 4294967294, found {number}"));
            }
            return found;
        }
        NumberOrText::Text(name) => name,
    };
    let known = std::fs::read_to_string(file).unwrap_or_default();
    let found = known.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    });
    if found.is_none() {
        report.error(&item.at, format!("there is no {word} {name:?} in {file}")).hint(*hint);
    }
    found
}
