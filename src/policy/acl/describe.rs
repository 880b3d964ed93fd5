//! Rules in the words of `ACL GETUSER`.

use super::selector::{Scope, Selector};
use crate::{
    command::{CommandId, access::Access, bits::flags, catalog},
    policy::rules::Described,
};

/// One selector, without the commands that are closed.
pub(super) fn selector(selector: &Selector, closed: &dyn Fn(CommandId) -> bool) -> Described {
    let mut text = commands(&|id| selector.names(id) && !closed(id));
    for first in selector.firsts.iter().filter(|first| !closed(first.id)) {
        text.push_str(&format!(" +{}|{}", first.id.entry().full_name, String::from_utf8_lossy(&first.word)));
    }
    let join = |words: Vec<String>| words.join(" ");
    Described {
        commands: text,
        keys: match &selector.keys {
            Scope::All => "~*".to_owned(),
            Scope::Listed(patterns) => join(
                patterns
                    .iter()
                    .map(|known| {
                        let sign = match known.access {
                            Access::READ => "%R~",
                            Access::WRITE => "%W~",
                            _ => "~",
                        };
                        format!("{sign}{}", String::from_utf8_lossy(&known.pattern.text))
                    })
                    .collect(),
            ),
        },
        channels: match &selector.channels {
            Scope::All => "&*".to_owned(),
            Scope::Listed(patterns) => {
                join(patterns.iter().map(|pattern| format!("&{}", String::from_utf8_lossy(&pattern.text))).collect())
            }
        },
        databases: match &selector.databases {
            Scope::All => None,
            // As of keys and channels nothing is shown; `db=` alone would be no rule.
            Scope::Listed(databases) if databases.is_empty() => Some(String::new()),
            Scope::Listed(databases) => {
                let list: Vec<String> = databases.iter().map(ToString::to_string).collect();
                Some(format!("db={}", list.join(",")))
            }
        },
    }
}

/// Commands, from all or from none, whichever is shorter; a container for all of its subcommands. What Redis takes from
/// everybody (AUTH, HELLO, QUIT, RESET) is not spoken of.
pub(in crate::policy) fn commands(allowed: &dyn Fn(CommandId) -> bool) -> String {
    let spoken_of = || catalog::iter().filter(|(_, row)| !row.flags.any(flags::NO_AUTH));
    let many = spoken_of().filter(|(id, _)| allowed(*id)).count() * 2 > catalog::len();
    let (mut text, sign) = if many { ("+@all".to_owned(), '-') } else { ("-@all".to_owned(), '+') };
    let differs = |id: CommandId| allowed(id) != many;
    let mut whole = None;
    for (id, row) in spoken_of() {
        if row.sub.is_none() {
            // A container that stands alone does nothing.
            let subs = || catalog::family(id).filter(|(_, row)| row.sub.is_some() || !row.container);
            whole = subs().all(|(id, _)| differs(id)).then_some(row.name);
            if row.container && whole.is_none() {
                continue;
            }
        } else if whole == Some(row.name) {
            continue;
        }
        if whole == Some(row.name) || (differs(id) && !(row.container && row.sub.is_none())) {
            text.push(' ');
            text.push(sign);
            text.push_str(row.full_name);
        }
    }
    text
}
