//! Tables and properties of what is made of looks, in virtual time.

use super::*;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000;

fn tuning(failures: u32, successes: u32) -> Tuning {
    Tuning { failures, successes, ..Tuning::default() }
}

/// The states after each of these looks at the only address.
fn states(tuning: Tuning, looks: &[Seen]) -> Vec<State> {
    let mut watch = Watch::new(1, tuning);
    looks
        .iter()
        .map(|seen| {
            watch.observe(0, *seen, "", 0, 0);
            watch.targets()[0].state
        })
        .collect()
}

#[test]
fn what_is_certain_counts_at_once_and_what_is_missing_in_a_row() {
    use Seen::*;
    use State::*;
    let rows: &[(&[Seen], &[State])] = &[
        (&[Unreachable], &[Down]),
        (&[Loading, Loading], &[Half, Half]),
        (&[MasterDown], &[Half]),
        (&[Refused], &[Half]),
        (&[Silent, Silent, Silent], &[Up, Up, Down]),
        (&[Silent, Strange, Silent], &[Up, Up, Down]),
        (&[Silent, Silent, Well, Silent, Silent, Silent], &[Up, Up, Up, Up, Up, Down]),
        (&[Unreachable, Well, Well], &[Down, Down, Up]),
        (&[Unreachable, Well, Unreachable, Well, Well], &[Down, Down, Down, Down, Up]),
        // Once down, it is there again as soon as it says so, though not ready.
        (&[Unreachable, Loading, Well, Well], &[Down, Half, Half, Up]),
        (&[Loading, Silent], &[Half, Down]),
    ];
    for (looks, expected) in rows {
        assert_eq!(states(tuning(3, 2), looks), *expected, "{looks:?}");
    }
}

#[test]
fn the_first_that_is_up_is_used_and_returned_to_when_it_is_well_again() {
    let mut watch = Watch::new(3, tuning(3, 2));
    let switch = |from, to, seen| Some(Switch { from, to, seen });
    assert_eq!(watch.observe(0, Seen::Unreachable, "gone", 0, 0), switch(0, 1, Seen::Unreachable));
    assert_eq!(watch.observe(1, Seen::Loading, "", 0, 0), switch(1, 2, Seen::Loading));
    assert_eq!(watch.observe(0, Seen::Well, "", 0, 0), None, "one good look is not enough");
    assert_eq!(watch.observe(0, Seen::Well, "", 0, 0), switch(2, 0, Seen::Well));
    assert_eq!(watch.observe(1, Seen::Well, "", 0, 0), None, "the second is well, and the first is preferred");
    assert_eq!((watch.used(), watch.switches()), (0, 3));
}

#[test]
fn while_none_is_up_whoever_is_half_up_is_used_and_a_change_between_those_is_none() {
    let mut watch = Watch::new(2, tuning(3, 1));
    assert!(watch.observe(0, Seen::Unreachable, "", 0, 0).is_some());
    assert_eq!(watch.observe(1, Seen::Loading, "", 0, 0), None);
    assert_eq!((watch.used(), watch.choose(&[])), (1, Some(1)));
    assert_eq!(watch.observe(0, Seen::Loading, "", 0, 0), None);
    assert_eq!(watch.observe(1, Seen::Unreachable, "", 0, 0).map(|switch| switch.to), Some(0));
    assert_eq!(watch.observe(0, Seen::Unreachable, "", 0, 0), None, "nobody is left to switch to");
    assert_eq!(watch.choose(&[]), None);
    assert_eq!(watch.observe(1, Seen::Well, "", 0, 0).map(|switch| switch.to), Some(1));
}

#[test]
fn a_connection_goes_on_to_the_next_that_it_has_not_tried() {
    let mut watch = Watch::new(3, tuning(3, 1));
    watch.observe(1, Seen::Loading, "", 0, 0);
    assert_eq!([watch.choose(&[]), watch.choose(&[0]), watch.choose(&[0, 2])], [Some(0), Some(2), Some(1)]);
    assert_eq!(watch.choose(&[0, 1, 2]), None);
}

#[test]
fn looks_come_every_interval_while_up_and_by_the_back_off_while_not() {
    let mut watch = Watch::new(1, tuning(3, 2));
    assert_eq!((watch.due(0), watch.next_due_us()), (vec![0], 0), "the first look is due at once");
    watch.observe(0, Seen::Well, "", 0, 0);
    assert_eq!(watch.next_due_us(), 5 * SECOND);
    assert!(watch.due(5 * SECOND - 1).is_empty() && watch.due(5 * SECOND) == [0]);
    let mut waits = Vec::new();
    for _ in 0..8 {
        watch.observe(0, Seen::Unreachable, "", 0, u64::MAX);
        waits.push(watch.next_due_us());
    }
    let most = [100_000, 200_000, 400_000, 800_000, 1_600_000, 2 * SECOND, 2 * SECOND, 2 * SECOND];
    assert!(waits.iter().zip(most).all(|(wait, most)| (most / 2..=most).contains(wait)), "{waits:?}");
    // A good look that is not yet enough is followed by the next one soon.
    watch.observe(0, Seen::Well, "", 0, 0);
    assert!(watch.next_due_us() <= 100_000);
    // A missing answer is asked for again sooner than the interval.
    watch.observe(0, Seen::Well, "", 0, 0);
    watch.observe(0, Seen::Silent, "", 0, 0);
    assert!(watch.next_due_us() <= 100_000 && watch.targets()[0].state == State::Up);
    let mut off = Watch::new(1, Tuning { interval: None, ..tuning(3, 1) });
    off.observe(0, Seen::Well, "", 0, 0);
    assert_eq!(off.next_due_us(), u64::MAX);
    off.observe(0, Seen::Unreachable, "", 0, 0);
    assert!(off.next_due_us() <= 100_000, "one that is down is looked at all the same");
}

#[test]
fn a_client_that_connects_ends_a_row_of_missing_answers_and_raises_nobody() {
    let mut watch = Watch::new(1, tuning(2, 1));
    watch.observe(0, Seen::Silent, "", 0, 0);
    watch.connected(0);
    watch.observe(0, Seen::Silent, "", 0, 0);
    assert_eq!(watch.targets()[0].state, State::Up);
    watch.observe(0, Seen::Silent, "", 0, 0);
    watch.connected(0);
    assert_eq!(watch.targets()[0].state, State::Down);
}

#[test]
fn turns_are_even_behind_a_burst_and_whoever_cannot_wait_takes_none() {
    let mut pace = Pace::new(100);
    let begin = |pace: &mut Pace, now| pace.reserve(now, now + SECOND);
    let burst: Vec<_> = (0..12).map(|_| begin(&mut pace, 0).unwrap()).collect();
    assert_eq!(burst[..10], [0; 10], "a tenth of a second's worth at once");
    assert_eq!(burst[10..], [10_000, 20_000]);
    assert_eq!(pace.reserve(0, 29_999), None);
    assert_eq!(pace.reserve(0, 30_000), Some(30_000), "the one who gave up took no turn");
    assert_eq!(begin(&mut pace, 10 * SECOND), Some(10 * SECOND));
    let mut free = Pace::new(0);
    assert!((0..1000).all(|now| free.reserve(now, now) == Some(now)));
}

proptest! {
    #[test]
    fn a_back_off_stays_between_half_of_its_ceiling_and_the_ceiling(
        initial in 1_u64..100_000, more in 0_u64..10_000_000, failures in 0_u32..200, dice: u64,
    ) {
        let backoff = Backoff { initial: Duration::from_micros(initial), max: Duration::from_micros(initial + more) };
        let ceiling = backoff.delay_us(failures, u64::MAX).max(backoff.delay_us(failures, 0));
        let delay = backoff.delay_us(failures, dice);
        prop_assert!(delay <= initial + more);
        prop_assert!(delay >= initial / 2);
        prop_assert!(delay <= 2 * ceiling + 1);
        // Never shorter at its least than the one before at its least.
        prop_assert!(backoff.delay_us(failures.saturating_add(1), 0) >= backoff.delay_us(failures, 0));
    }

    #[test]
    fn however_looks_fall_the_one_in_use_is_never_worse_than_another(
        looks in proptest::collection::vec((0_usize..3, 0_usize..7, any::<u64>()), 0..200),
    ) {
        let mut watch = Watch::new(3, tuning(2, 2));
        let (mut now, mut switches, mut used) = (0, 0, 0);
        for (at, seen, dice) in looks {
            now += dice % SECOND;
            let switch = watch.observe(at, Seen::ALL[seen], "", now, dice);
            if let Some(switch) = &switch {
                switches += 1;
                prop_assert_eq!(switch.from, used);
                prop_assert!(switch.from != switch.to);
                used = switch.to;
            }
            prop_assert_eq!((watch.used(), watch.switches()), (used, switches));
            let state = |at: usize| watch.targets()[at].state;
            match watch.choose(&[]) {
                // Who is up and comes first is in use; else somebody who is no worse than the best.
                Some(best) if state(best) == State::Up => prop_assert_eq!(used, best),
                Some(best) => prop_assert_eq!(state(used), state(best)),
                None => prop_assert!((0..3).all(|at| state(at) == State::Down)),
            }
            prop_assert!(watch.targets()[at].due_us > now || dice == 0 || watch.targets()[at].due_us == u64::MAX);
        }
    }

    #[test]
    fn no_second_sees_more_beginnings_than_its_rate_and_the_burst(
        per_second in 1_u32..5_000, gaps in proptest::collection::vec(0_u64..20_000, 1..500),
    ) {
        let mut pace = Pace::new(per_second);
        let (mut now, mut turns) = (0, Vec::new());
        for gap in gaps {
            now += gap;
            turns.extend(pace.reserve(now, u64::MAX));
        }
        prop_assert!(turns.is_sorted());
        let step = (1_000_000 / u64::from(per_second)).max(1);
        let most = usize::try_from(SECOND / step).unwrap() + usize::try_from(per_second / 10).unwrap() + 1;
        for (at, turn) in turns.iter().enumerate() {
            let within = turns[at..].iter().take_while(|other| **other < turn + SECOND).count();
            prop_assert!(within <= most, "{} of {}", within, most);
        }
    }
}
