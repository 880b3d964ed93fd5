//! The differential oracle: see `support/differ`. Bounded for the gate; for hours with
//! `RAVELIN_ORACLE_SECONDS=3600 cargo test --release --test differential -- --nocapture`. A failure prints the seed; with
//! `RAVELIN_ORACLE_SEED` the same case comes first again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::cast_possible_truncation, reason = "a random number's low bits are as good as its high ones")]
#![allow(clippy::print_stderr, reason = "a long run shows how far it is, and what it compared")]
#![allow(clippy::disallowed_methods, reason = "how long it runs is measured, nothing else")]

#[path = "support/differ/mod.rs"]
mod differ;
mod support;

use differ::{
    generate::{DENIED, Vocabulary},
    play::Table,
    report::{Counts, normalisers, show, shrink, try_case},
};
use std::time::{Duration, Instant};
use support::{process::Proxy, redis::Redis, setup::Setup};

/// How long the gate compares. A run of its own says otherwise by `RAVELIN_ORACLE_SECONDS`.
const GATE: Duration = Duration::from_secs(30);
/// Least commands of any run: floors mean nothing below.
const LEAST: u64 = 20_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn table() -> Table {
    let redis = Redis::with(&["enable-debug-command yes"], None);
    let deny: Vec<String> = DENIED.iter().map(|name| format!("\"{name}\"")).collect();
    let more: &'static str = Box::leak(format!("[policy]\ndeny = [{}]", deny.join(", ")).into_boxed_str());
    let setup = Setup { more, ..Setup::before(&redis) }.with(|setup| setup.services[0].upstream = ", set_name = false");
    let proxy = Proxy::with(&setup);
    Table::new(redis, proxy)
}

#[test]
fn random_streams_get_the_same_bytes_direct_and_through_the_proxy() {
    let seconds = number("RAVELIN_ORACLE_SECONDS");
    let limit = seconds.map_or(GATE, Duration::from_secs);
    let first = number("RAVELIN_ORACLE_SEED").unwrap_or(1);
    let mut table = table();
    let mut vocabulary = Vocabulary::new(table.told());
    let mut counts = Counts::default();
    let start = Instant::now();
    let mut told = start;
    let mut seed = first;
    while start.elapsed() < limit || counts.ops < LEAST {
        let case = vocabulary.case(seed);
        if let Some(first_seen) = try_case(&mut table, &case) {
            eprintln!("case {seed} differs: {}", first_seen.what);
            std::panic::set_hook(Box::new(|_| {}));
            let least = shrink(&mut table, &case, 300);
            let difference = try_case(&mut table, &least);
            let _ = std::panic::take_hook();
            let difference = difference.unwrap_or_else(|| panic!("case {seed} differed once only: {first_seen:?}"));
            panic!(
                "case {seed} differs in round {}: {}\n{}again: RAVELIN_ORACLE_SEED={seed} cargo test --test differential\n{}",
                difference.round,
                difference.what,
                show(&least),
                counts.table(),
            );
        }
        counts.add(&case);
        seed += 1;
        if seconds.is_some() && told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            eprintln!(
                "{:>6} s  {:>9} cases  {:>10} commands  no difference",
                start.elapsed().as_secs(),
                counts.cases,
                counts.ops
            );
        }
    }
    eprintln!("seeds {first} to {}, {} s\n{}", seed - 1, start.elapsed().as_secs(), counts.table());
    eprintln!("what may differ:\n{}", normalisers());
    let below = counts.below(if seconds.is_some_and(|seconds| seconds >= 600) { 100 } else { 4 });
    assert!(below.is_empty(), "below its floor:\n{}", below.join("\n"));
}
