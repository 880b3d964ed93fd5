//! Redis' own `ACL DRYRUN` is the oracle: random rules and random commands over the whole catalog are judged by us and by
//! it, and where the two differ, [`reasons`] must say why we are stricter on purpose. Looser is never a reason.
//!
//! At least 100,000 pairs for the gate; `RAVELIN_ORACLE_SECONDS=3600 cargo test --release --test acl_oracle -- --nocapture`
//! for longer, `RAVELIN_ORACLE_SEED` for others. Commands that the reference does not know are asked of the server that
//! `RAVELIN_TEST_SERVER` names. Before 7.0 there is no `DRYRUN`: such a server is not asked.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::print_stdout, reason = "the counts are part of the result")]
#![allow(clippy::disallowed_methods, reason = "the environment chooses how long it runs")]
#![allow(clippy::cast_possible_truncation, reason = "a random number's low bits are as good as its high ones")]

mod generate;
mod reasons;
#[path = "../support/mod.rs"]
mod support;

use generate::Generator;
use ravelin::{
    command::{Resolved, catalog, resolve, strict},
    policy::{
        Subject, Verdict,
        acl::glob,
        guards::Guards,
        rules::{Policy, Question, Spec},
        scripts::Scripts,
    },
    resp::{Span, Words},
};
use reasons::{reason, reason_of_databases};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use support::{
    process::Proxy,
    redis::{Redis, Release, Vendor},
    setup::Setup,
    wire::{Reply, Wire, encode},
};

/// Pairs of rules and a command that the gate compares.
const PAIRS: u64 = 120_000;
/// Commands that are judged by the same rules.
const PER_ROUND: usize = 40;

/// Least pairs of each kind: random rules must not come to denying everything by the command's name.
const FLOORS: &[(&str, &u64)] =
    &[("allowed", &20_000), ("command denied", &20_000), ("key denied", &10_000), ("channel denied", &500)];

/// What one of the two says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Allowed,
    Denied(Subject),
    /// We: a deciding word can be read in more than one way.
    Ambiguous,
}

/// Calls `then` with the words of a command line.
fn with_words<T>(line: &[String], then: impl FnOnce(&Words<'_>) -> T) -> T {
    let mut input = Vec::new();
    let mut spans = Vec::new();
    for word in line {
        let start = input.len() as u32;
        input.extend_from_slice(word.as_bytes());
        spans.push(Span { start, end: input.len() as u32 });
    }
    then(&Words::new(&input, &spans, line.len() as u32))
}

/// As the session does it.
fn judged(policy: &Policy, question: &Question<'_>) -> Said {
    let Question { id, words, .. } = *question;
    let mut scratch = Vec::new();
    if let Verdict::Deny(denial) = policy.judge(id) {
        return Said::Denied(denial.subject);
    }
    if id.entry().deciding && strict::fault(id.entry(), words, &mut scratch).is_some() {
        return Said::Ambiguous;
    }
    if !policy.asks_words(id) {
        return Said::Allowed;
    }
    match policy.judge_words(question, &mut scratch) {
        Verdict::Allow | Verdict::Shadow(_) => Said::Allowed,
        Verdict::Deny(denial) => Said::Denied(denial.subject),
    }
}

/// What `ACL DRYRUN` says; nothing where it does not come to judging.
fn theirs_or_ours(reply: &Reply) -> Option<Said> {
    match reply {
        Reply::Status(text) if text == "OK" => Some(Said::Allowed),
        Reply::Bulk(text) => {
            let text = String::from_utf8_lossy(text);
            Some(Said::Denied(if text.contains("permissions to run the") {
                Subject::Command
            } else if text.ends_with(" key") || text.ends_with("of the keys") {
                Subject::Key
            } else if text.ends_with(" channel") || text.ends_with("of the channels") {
                Subject::Channel
            } else if text.contains("permissions to access") {
                Subject::Database
            } else {
                panic!("DRYRUN says {text:?}")
            }))
        }
        Reply::Error(text) if text.contains("wrong number of arguments") || text.contains("not found") => None,
        other => panic!("DRYRUN says {other:?}"),
    }
}

#[derive(Default)]
struct Counts {
    pairs: u64,
    rules: u64,
    bad_rules: u64,
    kinds: BTreeMap<&'static str, u64>,
    reasons: BTreeMap<&'static str, u64>,
    /// Allowed and denied by Redis, by the categories of the command.
    categories: BTreeMap<&'static str, [u64; 2]>,
    rows: BTreeSet<&'static str>,
    allowed_rows: BTreeSet<&'static str>,
}

struct Oracle {
    wire: Wire<UnixStream>,
    known: BTreeSet<&'static str>,
    counts: Counts,
    differing: Vec<String>,
    seed: u64,
}

impl Oracle {
    fn new(redis: &Redis) -> Self {
        let mut wire = redis.connect();
        let mut known = BTreeSet::new();
        for (_, row) in catalog::iter() {
            let info = wire.call(&["COMMAND", "INFO", row.full_name]);
            let [Reply::Array(info)] = info.elements() else { continue };
            let theirs: BTreeSet<String> = info[6].elements().iter().map(Reply::text).collect();
            let ours: BTreeSet<String> = row.categories.names().map(|name| format!("@{name}")).collect();
            if ours == theirs || row.container {
                known.insert(row.full_name);
            } else {
                // Later releases put a few commands into other categories; rules mean Redis 7.0's.
                assert!(!Release::of_server().is_reference(), "{}: {ours:?}, Redis' {theirs:?}", row.full_name);
                println!("left out, for its categories are {theirs:?} here: {}", row.full_name);
            }
        }
        Self { wire, known, counts: Counts::default(), differing: Vec::new(), seed: 0 }
    }

    fn round(&mut self, seed: u64) {
        self.seed = seed;
        let generator = &mut Generator::new(seed, has_databases());
        let db = generator.dice.roll(4) as u32;
        let hint = loop {
            let row = generator.row();
            if self.known.contains(row.full_name) {
                break row;
            }
        };
        let rules = generator.rules(hint);
        // A rule about a command that this server does not know is an error to it alone.
        let unknown = |term: &str| {
            let name = term.trim_matches(['(', ')', '+', '-']).to_ascii_lowercase();
            catalog::by_full_name(&name).is_some_and(|id| !self.known.contains(id.entry().full_name))
        };
        if rules.iter().flat_map(|rule| rule.split(' ')).any(unknown) {
            return;
        }
        let mut sent = vec!["ACL".to_owned(), "SETUSER".to_owned(), "u".to_owned(), "reset".to_owned()];
        sent.extend(rules.iter().cloned());
        let mut bytes = [encode(&sent), encode(&["SELECT", &db.to_string()])].concat();
        let lines: Vec<Vec<String>> = (0..PER_ROUND).map(|_| generator.command(hint)).collect();
        for line in &lines {
            let mut words = vec!["ACL".to_owned(), "DRYRUN".to_owned(), "u".to_owned()];
            words.extend(line.iter().cloned());
            bytes.extend_from_slice(&encode(&words));
        }
        self.wire.send_raw(&bytes);
        let set = self.wire.reply();
        self.wire.reply().expect_ok();
        let replies: Vec<Reply> = lines.iter().map(|_| self.wire.reply()).collect();
        let text = rules.join(" ");
        let policy = Policy::build(&Spec { rules: Some(&text), ..Spec::default() });
        self.counts.rules += 1;
        let policy = match (policy, set.error()) {
            (Ok(policy), None) => policy,
            (Err(_), Some(_)) => {
                self.counts.bad_rules += 1;
                return;
            }
            (Ok(_), Some(error)) => {
                return self.differing.push(format!("seed {seed}: rules {text:?}: only Redis refuses them: {error}"));
            }
            (Err(error), None) => {
                return self.differing.push(format!("seed {seed}: rules {text:?}: only we refuse them: {error}"));
            }
        };
        // The same where scripts are vouched for: then they are judged as Redis judges them.
        let guards = Guards { scripts: Some(Scripts::Allow), ..Guards::default() };
        let vouch = || Policy::build(&Spec { rules: Some(&text), guards: Some(&guards), ..Spec::default() });
        let vouching = policy.minds_databases().then(vouch).map(|policy| policy.expect("the rules are the same"));
        for (line, reply) in lines.iter().zip(&replies) {
            let Some(theirs) = theirs_or_ours(reply) else { continue };
            with_words(line, |words| {
                let Resolved::Known(id) = resolve(words) else {
                    // Redis hashes a name whole and compares it up to a NUL, with another seed in every process: it finds
                    // such a subcommand now and then (`dictSdsKeyCaseCompare`).
                    assert!(line.iter().take(2).any(|word| word.contains('\0')), "{line:?} does not resolve");
                    return *self.counts.reasons.entry(reasons::NAME_WITH_NUL).or_default() += 1;
                };
                let question = Question { id, words, db, own_id: None };
                self.compare((&policy, vouching.as_ref()), &text, &question, line, theirs);
            });
        }
    }

    fn compare(
        &mut self,
        (policy, vouching): (&Policy, Option<&Policy>),
        rules: &str,
        question: &Question<'_>,
        line: &[String],
        theirs: Said,
    ) {
        let (entry, words) = (question.id.entry(), question.words);
        if !self.known.contains(entry.full_name) || !entry.accepts_arity(line.len()) {
            return;
        }
        let mut ours = judged(policy, question);
        self.counts.pairs += 1;
        self.counts.rows.insert(entry.full_name);
        let kind = match theirs {
            Said::Allowed => "allowed",
            Said::Denied(Subject::Command) => "command denied",
            Said::Denied(Subject::Key) => "key denied",
            Said::Denied(Subject::Channel) => "channel denied",
            Said::Denied(Subject::Database) => "database denied",
            Said::Ambiguous => unreachable!("Redis reads every word in its way"),
        };
        *self.counts.kinds.entry(kind).or_default() += 1;
        for category in entry.categories.names() {
            self.counts.categories.entry(category).or_default()[usize::from(theirs != Said::Allowed)] += 1;
        }
        if theirs == Said::Allowed {
            self.counts.allowed_rows.insert(entry.full_name);
        }
        // A command that no selector names is denied before its database is asked about.
        let first = ours == Said::Denied(Subject::Command) && theirs == Said::Denied(Subject::Database);
        if ours == theirs || first {
            return;
        }
        if let Some(vouching) = vouching
            && let Some(reason) = reason_of_databases(entry, words, ours)
        {
            *self.counts.reasons.entry(reason).or_default() += 1;
            ours = judged(vouching, question);
            if reason != reasons::SCRIPT || ours == theirs {
                return;
            }
        }
        match reason(entry, words, ours, theirs) {
            Some(reason) => *self.counts.reasons.entry(reason).or_default() += 1,
            None => self
                .differing
                .push(format!("seed {}: rules {rules:?}, {line:?}: ours {ours:?}, Redis' {theirs:?}", self.seed)),
        }
    }
}

/// Whether the server has rules about databases.
fn has_databases() -> bool {
    let release = Release::of_server();
    release.vendor == Vendor::Valkey && (release.major, release.minor) >= (9, 1)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn random_rules_are_judged_as_acl_dryrun_judges_them() {
    if !Release::of_server().since(7, 0) {
        println!("this server has no ACL DRYRUN");
        return;
    }
    let redis = Redis::start();
    let mut oracle = Oracle::new(&redis);
    let seconds = number("RAVELIN_ORACLE_SECONDS").map(Duration::from_secs);
    let first = number("RAVELIN_ORACLE_SEED").unwrap_or(1);
    let start = Instant::now();
    let mut seed = first;
    while oracle.counts.pairs < PAIRS || seconds.is_some_and(|limit| start.elapsed() < limit) {
        oracle.round(seed);
        if oracle.differing.len() >= 20 {
            break;
        }
        seed += 1;
    }
    assert!(
        oracle.differing.is_empty(),
        "{} of {} pairs of seeds from {first} on differ:\n{}\nagain: RAVELIN_ORACLE_SEED=… cargo test --test acl_oracle",
        oracle.differing.len(),
        oracle.counts.pairs,
        oracle.differing.join("\n")
    );
    let Counts { pairs, rules, bad_rules, kinds, reasons, categories, rows, allowed_rows } = &oracle.counts;
    println!(
        "{pairs} pairs of {rules} sets of rules ({bad_rules} refused by both), seeds {first} to {}: {kinds:?}",
        seed - 1
    );
    println!(
        "commands: {} of {} known ones, {} allowed at least once",
        rows.len(),
        oracle.known.len(),
        allowed_rows.len()
    );
    println!("categories, allowed and denied:");
    categories.iter().for_each(|(name, [allowed, denied])| println!("  {name:12} {allowed:6} {denied:6}"));
    println!("stricter on purpose:");
    reasons.iter().for_each(|(reason, count)| println!("  {count:6} {reason}"));

    for (kind, least) in FLOORS {
        assert!(kinds.get(kind).is_some_and(|count| count >= least), "too few of {kind}: {kinds:?}");
    }
    for (name, _) in ravelin::command::bits::categories::NAMES {
        let [allowed, denied] = categories.get(name).copied().unwrap_or_default();
        assert!(allowed >= 500 && denied >= 500, "too few of {name}: {allowed} allowed, {denied} denied");
    }
    let never: Vec<_> = oracle.known.iter().filter(|name| !allowed_rows.contains(*name)).collect();
    assert!(never.iter().all(|name| is_container(name)), "never allowed: {never:?}");
    assert!(*bad_rules * 50 > *rules && *bad_rules * 3 < *rules, "{bad_rules} of {rules} sets of rules are none");
    for reason in reasons::ALL.into_iter().filter(|_| Release::of_server().is_reference()) {
        assert!(reasons.contains_key(reason), "no longer needed: {reason}");
    }
    for reason in reasons::OF_DATABASES {
        assert_eq!(reasons.contains_key(reason), has_databases(), "no longer needed, or needed without db=: {reason}");
    }
}

/// A container that stands alone is an error of arity before any ACL is asked.
fn is_container(name: &str) -> bool {
    catalog::by_full_name(name).is_some_and(|id| id.entry().container)
}

/// Sets of rules that the proxy is given one after the other, and commands asked about under each.
const RELOADS: usize = 30;
const ASKED: usize = 200;

/// The same through the proxy, which answers `ACL DRYRUN` of oneself from the role: what a session makes of a policy is what
/// the policy says. (`tests/faults.sh` plants faults in the proxy and wants them found here.)
#[test]
fn the_proxy_answers_dryrun_as_redis_does() {
    if !Release::of_server().since(7, 0) {
        println!("this server has no ACL DRYRUN");
        return;
    }
    let redis = Redis::start();
    let mut oracle = Oracle::new(&redis);
    let with = |rules: &str| {
        let roles = format!("[[role]]\nname = \"app\"\nmatch = [{{ cn = \"app\" }}]\nrules = {rules:?}");
        Setup { roles: Box::leak(roles.into_boxed_str()), more: "[policy]\ndeny = []", ..Setup::before(&redis) }
    };
    let proxy = Proxy::with(&with("+@all"));
    let mut seed = number("RAVELIN_ORACLE_SEED").unwrap_or(1);
    let (mut reloads, mut asked, mut differing) = (0, 0, Vec::new());
    while reloads < RELOADS {
        seed += 1;
        let mut generator = Generator::new(seed, false);
        let hint = generator.row();
        // One may ask in every round, and the harness is let in.
        let rules = [generator.rules(hint), vec!["+acl|dryrun".to_owned(), "+ping".to_owned()]].concat();
        let text = rules.join(" ");
        let mut set = vec!["ACL".to_owned(), "SETUSER".to_owned(), "app".to_owned(), "reset".to_owned()];
        set.extend(rules);
        let Ok(policy) = Policy::build(&Spec { rules: Some(&text), ..Spec::default() }) else { continue };
        if oracle.wire.call(&set).error().is_some() {
            continue;
        }
        reloads += 1;
        proxy.configure(&Setup { roles: with(&text).roles, ..proxy.setup() });
        proxy.reload();
        let mut client = proxy.client();
        let lines: Vec<Vec<String>> = (0..ASKED).map(|_| generator.command(hint)).collect();
        let mut bytes = Vec::new();
        for line in &lines {
            let ask: Vec<String> =
                ["ACL", "DRYRUN", "app"].map(str::to_owned).into_iter().chain(line.clone()).collect();
            bytes.extend_from_slice(&encode(&ask));
        }
        client.send_raw(&bytes);
        oracle.wire.send_raw(&bytes);
        for line in &lines {
            let (ours, theirs) = (client.reply(), oracle.wire.reply());
            let (Some(ours), Some(theirs)) = (theirs_or_ours(&ours), theirs_or_ours(&theirs)) else { continue };
            with_words(line, |words| {
                let Resolved::Known(id) = resolve(words) else { return };
                if !oracle.known.contains(id.entry().full_name) || !id.entry().accepts_arity(line.len()) {
                    return;
                }
                asked += 1;
                // Of arguments Redis' ACL knows nothing (CONFIG GET of a glob, CLIENT KILL of others).
                let excused = ours != Said::Allowed
                    && (policy.asks_arguments(id)
                        || reason(id.entry(), words, ours, theirs).is_some()
                        || reason(id.entry(), words, Said::Ambiguous, theirs).is_some()
                            && strict::fault(id.entry(), words, &mut Vec::new()).is_some());
                if ours != theirs && !excused {
                    differing.push(format!("rules {text:?}, {line:?}: the proxy {ours:?}, Redis {theirs:?}"));
                }
            });
        }
    }
    assert!(
        differing.is_empty(),
        "{} of {asked} differ:\n{}",
        differing.len(),
        differing[..differing.len().min(20)].join("\n")
    );
    assert!(asked > 4_000, "only {asked} were asked");
}

/// The same patterns, asked of Redis by KEYS.
#[test]
fn patterns_match_as_redis_matches_them() {
    if !Release::of_server().since(7, 0) {
        println!("earlier releases let the empty key match every run of stars");
        return;
    }
    let redis = Redis::start();
    let mut wire = redis.connect();
    let mut generator = Generator::new(number("RAVELIN_ORACLE_SEED").unwrap_or(1), false);
    let mut keys: BTreeSet<String> = (0..400).map(|_| generator.pattern()).collect();
    keys.extend((0..100).map(|_| generator.pattern().replace(['*', '?', '[', ']', '\\'], "a")));
    for key in &keys {
        wire.call(&["SET", key, ""]).expect_ok();
    }
    let mut matched = 0;
    let mut differing = Vec::new();
    for _ in 0..4000 {
        let pattern = generator.pattern();
        if pattern == "*" {
            // KEYS does not look at the keys then.
            continue;
        }
        let reply = wire.call(&["KEYS", &pattern]);
        let theirs: BTreeSet<String> = reply.elements().iter().map(Reply::text).collect();
        let ours: BTreeSet<String> =
            keys.iter().filter(|key| glob::matches(pattern.as_bytes(), key.as_bytes())).cloned().collect();
        matched += ours.len();
        for key in ours.symmetric_difference(&theirs) {
            differing.push(format!("{pattern:?} and {key:?}: ours {}", ours.contains(key)));
        }
    }
    assert!(differing.is_empty(), "{} differ:\n{}", differing.len(), differing[..differing.len().min(30)].join("\n"));
    assert!(matched > 10_000, "only {matched} matched");
}
