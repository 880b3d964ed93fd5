//! Where each rule of a policy was written.

use crate::{
    config::{
        decode::Item,
        error::{At, Report},
        settings::RulePlace,
    },
    policy::rules::{Policy, Spec},
};

/// The rules that each entry of a denylist makes, and where the entry stands.
pub(super) fn of_entries(list: Option<&Item<Vec<Item<String>>>>, report: &Report) -> Vec<RulePlace> {
    let mut found = Vec::new();
    for item in list.iter().flat_map(|list| &list.value) {
        // Faults are reported where the entries are taken.
        if let Ok(policy) = Policy::build(&Spec { deny: &[&item.value], ..Spec::default() }) {
            found.extend(policy.rule_names().map(|rule| at(rule, &item.at, report)));
        }
    }
    found
}

/// The rules called `KIND:…` of a policy, all of which one key makes.
pub(super) fn of_kind(kind: &str, key: &At, policy: &Policy, report: &Report) -> Vec<RulePlace> {
    let of_kind = |rule: &&str| rule.split_once(':').is_some_and(|(of, _)| of == kind);
    policy.rule_names().filter(of_kind).map(|rule| at(rule, key, report)).collect()
}

fn at(rule: &str, at: &At, report: &Report) -> RulePlace {
    RulePlace { rule: rule.to_owned(), role: None, key: at.key.clone(), place: report.place(at).to_string() }
}
