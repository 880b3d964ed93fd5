//! Where each rule of a policy was written.

use crate::{
    config::{
        error::{At, Report},
        settings::RulePlace,
    },
    policy::rules::Policy,
};

/// The rules called `KIND:…` of a policy, all of which one key makes.
pub(super) fn of_kind(kind: &str, key: &At, policy: &Policy, report: &Report) -> Vec<RulePlace> {
    let of_kind = |rule: &&str| rule.split_once(':').is_some_and(|(of, _)| of == kind);
    policy.rule_names().filter(of_kind).map(|rule| at(rule, key, report)).collect()
}

/// A rule and the key that makes it.
pub(super) fn at(rule: &str, at: &At, report: &Report) -> RulePlace {
    RulePlace { rule: rule.to_owned(), role: None, key: at.key.clone(), place: report.place(at).to_string() }
}
