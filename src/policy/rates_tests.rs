use super::{Ask, HORIZON_US, Limit, Measure, Over, Own, Per, Rates, Room};
use crate::{
    command::{CommandId, catalog},
    policy::RuleId,
};
use proptest::prelude::*;
use std::num::NonZeroU64;

const SECOND: u64 = 1_000_000;
const RULE: RuleId = RuleId(100);

fn limit(measure: Measure, per_second: u64, burst_us: u64, over: Over) -> Limit {
    let per_second = NonZeroU64::new(per_second).unwrap();
    Limit { measure, per_second, burst_us, of: Vec::new(), over, per: Per::Role }
}

fn rates(limits: &[Limit]) -> Rates {
    let numbered = limits.iter().cloned().zip(100..).map(|(limit, at)| (limit, RuleId(at))).collect();
    Rates::new(numbered).unwrap().unwrap()
}

fn id(name: &str) -> Option<CommandId> {
    Some(catalog::by_full_name(name).unwrap())
}

fn ask_of(name: &str, bytes: u64, now_us: u64) -> Ask {
    Ask { id: id(name), bytes, refusable: true, now_us }
}

fn ask(rates: &Rates, now_us: u64) -> Room {
    rates.ask(&mut Own::default(), &ask_of("GET", 30, now_us))
}

#[test]
fn a_burst_is_let_through_and_then_the_rate() {
    let rates = rates(&[limit(Measure::Commands, 10, SECOND, Over::Refuse)]);
    let taken = (0..100).filter(|_| ask(&rates, SECOND) == Room::Now).count();
    assert_eq!(taken, 10, "a second's worth at once");
    assert_eq!(ask(&rates, SECOND + 99_999), Room::Refused(RULE));
    assert_eq!(ask(&rates, SECOND + 100_000), Room::Now, "a tenth of a second fills one in");
    assert_eq!(ask(&rates, SECOND + 100_000), Room::Refused(RULE));
    let taken = (0..100).filter(|_| ask(&rates, 100 * SECOND) == Room::Now).count();
    assert_eq!(taken, 10, "a long silence fills no more than the burst");
}

#[test]
fn what_is_refused_costs_nothing() {
    let rates = rates(&[limit(Measure::Commands, 1, SECOND, Over::Refuse)]);
    assert_eq!(ask(&rates, SECOND), Room::Now);
    for _ in 0..1000 {
        assert_eq!(ask(&rates, SECOND), Room::Refused(RULE));
    }
    assert_eq!(ask(&rates, 2 * SECOND), Room::Now);
}

#[test]
fn room_is_set_aside_in_order_up_to_the_horizon_and_then_asked_for_again() {
    let rates = rates(&[limit(Measure::Commands, 10, SECOND / 10, Over::Delay)]);
    assert_eq!(ask(&rates, SECOND), Room::Now);
    for tenth in 1..=10 {
        assert_eq!(ask(&rates, SECOND), Room::At(SECOND + tenth * SECOND / 10, RULE));
    }
    for _ in 0..1000 {
        // Thousands that ask and go away leave no more behind than the horizon.
        assert_eq!(ask(&rates, SECOND), Room::Ask(SECOND + HORIZON_US, RULE));
    }
    assert_eq!(ask(&rates, 3 * SECOND), Room::Now);
}

#[test]
fn what_opens_and_ends_a_transaction_is_delayed_and_not_refused() {
    let rates = rates(&[limit(Measure::Commands, 10, SECOND / 10, Over::Refuse)]);
    assert_eq!(ask(&rates, SECOND), Room::Now);
    assert_eq!(ask(&rates, SECOND), Room::Refused(RULE));
    let exec = Ask { refusable: false, ..ask_of("EXEC", 10, SECOND) };
    assert_eq!(rates.ask(&mut Own::default(), &exec), Room::At(SECOND + SECOND / 10, RULE));
}

#[test]
fn bytes_are_counted_up_and_down_and_replies_may_leave_a_debt() {
    let rates = rates(&[limit(Measure::Bytes, 1000, SECOND, Over::Refuse)]);
    let own = &mut Own::default();
    assert_eq!(rates.ask(own, &ask_of("SET", 600, SECOND)), Room::Now);
    assert_eq!(rates.ask(own, &ask_of("SET", 600, SECOND)), Room::Refused(RULE));
    assert_eq!(rates.ask(own, &ask_of("SET", 400, SECOND)), Room::Now);
    rates.charge(own, id("SET"), 9000, SECOND);
    assert_eq!(rates.ask(own, &ask_of("SET", 1, 10 * SECOND)), Room::Refused(RULE), "nine seconds of debt");
    assert_eq!(rates.ask(own, &ask_of("SET", 1, 10 * SECOND + 1000)), Room::Now);
}

#[test]
fn what_is_larger_than_the_burst_passes_when_the_bucket_is_full() {
    let rates = rates(&[limit(Measure::Bytes, 1000, SECOND, Over::Refuse)]);
    let own = &mut Own::default();
    assert_eq!(rates.ask(own, &ask_of("SET", 5000, SECOND)), Room::Now);
    assert_eq!(rates.ask(own, &ask_of("SET", 5000, 5 * SECOND)), Room::Refused(RULE));
    assert_eq!(rates.ask(own, &ask_of("SET", 5000, 6 * SECOND)), Room::Now);
}

#[test]
fn a_limit_is_about_its_commands_only() {
    let mut writes = limit(Measure::Commands, 1, SECOND, Over::Refuse);
    writes.of = vec!["@write".to_owned(), "config|get".to_owned()];
    assert_eq!(writes.rule(), "rate:commands:@write,config|get");
    let rates = rates(&[writes]);
    let own = &mut Own::default();
    let mut twice = |ask: Ask| (rates.ask(own, &ask), rates.ask(own, &ask)).1;
    assert_eq!(twice(ask_of("GET", 1, SECOND)), Room::Now);
    assert_eq!(twice(Ask { id: None, ..ask_of("GET", 1, SECOND) }), Room::Now);
    assert_eq!(twice(ask_of("SET", 1, SECOND)), Room::Refused(RULE));
    assert_eq!(twice(ask_of("CONFIG|GET", 1, SECOND)), Room::Refused(RULE));
    let all = super::tests::rates(&[limit(Measure::Commands, 1, SECOND, Over::Refuse)]);
    let unknown = Ask { id: None, ..ask_of("GET", 1, SECOND) };
    assert_eq!((all.ask(own, &unknown), all.ask(own, &unknown)), (Room::Now, Room::Refused(RULE)));
    let mut bad = limit(Measure::Commands, 1, SECOND, Over::Refuse);
    bad.of = vec!["SET".to_owned(), "NOSUCH".to_owned()];
    assert!(Rates::new(vec![(bad, RULE)]).is_err());
}

#[test]
fn connections_share_a_bucket_or_have_each_its_own() {
    let own = |per| rates(&[Limit { per, ..limit(Measure::Commands, 1, SECOND, Over::Refuse) }]);
    let (mut one, mut two) = (Own::default(), Own::default());
    let shared = own(Per::Role);
    assert_eq!(shared.ask(&mut one, &ask_of("GET", 1, SECOND)), Room::Now);
    assert_eq!(shared.ask(&mut two, &ask_of("GET", 1, SECOND)), Room::Refused(RULE));
    let apart = own(Per::Connection);
    assert_eq!(apart.ask(&mut one, &ask_of("GET", 1, SECOND)), Room::Now);
    assert_eq!(apart.ask(&mut two, &ask_of("GET", 1, SECOND)), Room::Now);
    assert_eq!(apart.ask(&mut one, &ask_of("GET", 1, SECOND)), Room::Refused(RULE));
}

#[test]
fn a_reload_that_changes_no_limit_fills_no_bucket() {
    let hour = limit(Measure::Commands, 1, SECOND, Over::Refuse);
    let before = rates(std::slice::from_ref(&hour));
    assert_eq!(ask(&before, SECOND), Room::Now);
    let same = rates(std::slice::from_ref(&hour));
    same.adopt(&before);
    assert_eq!(ask(&same, SECOND), Room::Refused(RULE));
    let other = rates(&[Limit { burst_us: 2 * SECOND, ..hour }]);
    other.adopt(&before);
    assert_eq!(ask(&other, SECOND), Room::Now, "another limit begins full");
}

#[test]
fn no_numbers_overflow() {
    let huge = limit(Measure::Bytes, 1, u64::MAX, Over::Refuse);
    let rates = rates(&[huge, limit(Measure::Bytes, u64::MAX, 1, Over::Delay)]);
    let own = &mut Own::default();
    let _ = rates.ask(own, &ask_of("SET", u64::MAX, u64::MAX));
    rates.charge(own, id("SET"), u64::MAX, u64::MAX);
    // A bucket whose burst has no end is never empty; the other one is in debt for ever.
    assert_eq!(rates.ask(own, &ask_of("SET", 1, SECOND)), Room::Ask(SECOND + HORIZON_US, RuleId(101)));
}

proptest! {
    /// Whatever comes when: never more than the burst and what time has filled in, and no less of what asks at once.
    #[test]
    fn no_more_passes_than_rate_and_burst_allow(
        per_second in 1_u64..1000,
        burst_us in 1_000_u64..5_000_000,
        steps in proptest::collection::vec((0_u64..400_000, 1_u64..50), 1..200),
    ) {
        let rates = rates(&[limit(Measure::Commands, per_second, burst_us, Over::Refuse)]);
        let (mut now, mut passed) = (SECOND, 0_u64);
        for (step, count) in steps {
            now += step;
            passed += u64::try_from((0..count).filter(|_| ask(&rates, now) == Room::Now).count()).unwrap();
            // One more may pass where the burst is less than one command.
            let allowed = (u128::from(now - SECOND + burst_us) * u128::from(per_second)) / u128::from(SECOND) + 1;
            prop_assert!(u128::from(passed) <= allowed, "{} of {}", passed, allowed);
        }
    }
}
