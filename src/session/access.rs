//! What is answered here about access control: `ACL WHOAMI`, `CAT`, `GETUSER` and `DRYRUN`, each of oneself, in the shapes of
//! Redis 7.0 and the same before every server, one without ACLs too.
//!
//! To the client the user is its role. Nothing of the upstream's users is told, and none of these goes up; inside MULTI
//! they are refused, for what is answered here would be missing from EXEC's array.

use super::state::Core;
use crate::{
    command::{self, Categories, OwnAccess, Resolved, bits::categories, catalog, strict},
    lane::machine::Protocol,
    policy::{Subject, Verdict, rules::Question},
    resp::{Words, encode},
};

/// Why one of them is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OfAnother;

impl Core {
    /// The reply, rendered.
    pub(super) fn own_access(&mut self, which: OwnAccess, words: &Words<'_>) -> Result<Vec<u8>, OfAnother> {
        let mut out = Vec::new();
        match which {
            OwnAccess::Name => encode::bulk(&mut out, self.peer.role().name.as_bytes()),
            OwnAccess::Categories => list_categories(words, &mut out),
            OwnAccess::User if !self.is_oneself(words) => return Err(OfAnother),
            OwnAccess::User => self.describe(&mut out),
            OwnAccess::DryRun if !self.is_oneself(words) => return Err(OfAnother),
            OwnAccess::DryRun => self.dry_run(&words.behind(3), &mut out),
        }
        Ok(out)
    }

    fn is_oneself(&self, words: &Words<'_>) -> bool {
        words.get(2) == Some(self.peer.role().name.as_bytes())
    }

    fn describe(&self, out: &mut Vec<u8>) {
        let resp3 = self.lane.protocol() == Protocol::Resp3;
        let described = self.peer.policy().describe();
        let Some((root, others)) = described.split_first() else { return };
        let map = |out: &mut Vec<u8>, pairs: usize| encode::map(out, pairs, resp3);
        let rules = |out: &mut Vec<u8>, selector: &crate::policy::rules::Described| {
            let fields = [("commands", &selector.commands), ("keys", &selector.keys), ("channels", &selector.channels)];
            for (name, text) in fields {
                encode::bulk(out, name.as_bytes());
                encode::bulk(out, text.as_bytes());
            }
            if let Some(text) = &selector.databases {
                encode::bulk(out, b"databases");
                encode::bulk(out, text.as_bytes());
            }
        };
        let fields = |selector: &crate::policy::rules::Described| 3 + usize::from(selector.databases.is_some());
        map(out, 3 + fields(root));
        encode::bulk(out, b"flags");
        encode::set(out, 1, resp3);
        encode::bulk(out, b"on");
        encode::bulk(out, b"passwords");
        encode::array(out, 0);
        rules(out, root);
        encode::bulk(out, b"selectors");
        encode::array(out, others.len());
        for selector in others {
            map(out, fields(selector));
            rules(out, selector);
        }
    }

    /// `ACL DRYRUN oneself command [word …]`, judged as the command would be here and now.
    fn dry_run(&mut self, words: &Words<'_>, out: &mut Vec<u8>) {
        let first = words.get(0).unwrap_or_default();
        let id = match command::resolve(words) {
            Resolved::Known(id) => id,
            Resolved::NotAName | Resolved::UnknownCommand | Resolved::UnknownSubcommand(_) | Resolved::More => {
                // The name is shown up to the first byte that no name holds.
                let shown: Vec<u8> =
                    first.iter().copied().take_while(u8::is_ascii_graphic).take(catalog::NAME_MAX).collect();
                return encode::error(out, &[b"ERR Command '", &shown[..], b"' not found"].concat());
            }
        };
        let entry = id.entry();
        let name = entry.full_name;
        if !entry.accepts_arity(words.declared()) || (entry.container && entry.sub.is_none() && words.declared() == 1) {
            return encode::error(out, format!("ERR wrong number of arguments for '{name}' command").as_bytes());
        }
        let policy = self.peer.policy();
        let subject = match policy.judge(id) {
            Verdict::Deny(denial) => Some(denial.subject),
            Verdict::Allow | Verdict::Shadow(_)
                if entry.deciding && strict::fault(entry, words, &mut self.keys).is_some() =>
            {
                Some(Subject::Command)
            }
            Verdict::Allow | Verdict::Shadow(_) => {
                let question = Question { id, words, db: self.db, own_id: self.own_id };
                let by_words = policy.asks_words(id).then(|| policy.judge_words(&question, &mut self.keys));
                let by_arguments = policy.asks_arguments(id).then(|| policy.judge_arguments(&question));
                by_words.into_iter().chain(by_arguments).find_map(|verdict| match verdict {
                    Verdict::Allow | Verdict::Shadow(_) => None,
                    Verdict::Deny(denial) => Some(denial.subject),
                })
            }
        };
        match subject {
            None => encode::status(out, b"OK"),
            Some(Subject::Command) => {
                encode::bulk(out, format!("This user has no permissions to run the '{name}' command").as_bytes());
            }
            Some(Subject::Key) => encode::bulk(out, b"This user has no permissions to access one of the keys"),
            Some(Subject::Channel) => encode::bulk(out, b"This user has no permissions to access one of the channels"),
            Some(Subject::Database) => encode::bulk(out, b"This user has no permissions to access the database"),
        }
    }
}

fn list_categories(words: &Words<'_>, out: &mut Vec<u8>) {
    let Some(name) = words.get(2) else {
        encode::array(out, categories::NAMES.len());
        categories::NAMES.iter().for_each(|(name, _)| encode::bulk(out, name.as_bytes()));
        return;
    };
    if words.declared() > 3 {
        return encode::error(out, b"ERR unknown subcommand or wrong number of arguments for 'CAT'. Try ACL HELP.");
    }
    let Some(wanted) = std::str::from_utf8(name).ok().and_then(Categories::by_name) else {
        let shown: Vec<u8> = name.iter().copied().take_while(u8::is_ascii_graphic).take(128).collect();
        return encode::error(out, &[b"ERR Unknown category '", &shown[..], b"'"].concat());
    };
    let of_it = || catalog::iter().filter(|(_, row)| row.categories.any(wanted.0));
    encode::array(out, of_it().count());
    of_it().for_each(|(_, row)| encode::bulk(out, row.full_name.as_bytes()));
}
