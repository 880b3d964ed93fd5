//! A record to begin with, for the tests of this room.

use super::record::{CommandRecord, Context, KeyList, Name, Outcome};
use crate::{command::catalog, resp::reply::Class};

/// A command that ran, at top level and without keys. Tests say what is different.
pub(super) fn ran(name: Name<'static>) -> CommandRecord<'static> {
    CommandRecord {
        name,
        db: 0,
        argc: 2,
        keys: KeyList::default(),
        context: Context::TopLevel,
        tx: None,
        rule: None,
        shadow: None,
        local: false,
        outcome: Outcome::Ran,
        class: Some(Class::Bulk),
        error: None,
        elements: None,
        bytes_in: 20,
        bytes_out: 7,
        us: Some(90),
    }
}

/// The same for a command of the catalog.
pub(super) fn ran_known(name: &str) -> CommandRecord<'static> {
    ran(Name::Known(catalog::by_full_name(name).unwrap()))
}

/// A denied GET.
pub(super) fn denied() -> CommandRecord<'static> {
    CommandRecord { rule: Some("r"), outcome: Outcome::Denied, us: None, class: None, ..ran_known("get") }
}
