//! When a worker asks the kernel's scheduler for patience.
//!
//! Where Redis and a worker share a processor, each client's command wakes the worker, and the kernel lets it interrupt Redis
//! between two commands of other clients. The worker carries that one client's commands over and sleeps again, and Redis
//! goes on: two changes of process for each client's turn. Under [`Policy::Batch`] a thread that wakes waits until Redis
//! has nothing more to do; then it finds the commands and the replies of many clients, and one burst carries them.
//!
//! It shows where Redis takes its time: 50 clients with 16 commands in flight each, whose keys are spread over a hundred
//! thousand, caused 22 changes in a thousand commands, and with patience two, which saved 12 % of what proxy and Redis
//! cost together.
//!
//! The price is paid where another program that never sleeps has the same processor, and there is no free one: each time it
//! wakes the worker then waits for that program's slice, some milliseconds, though it carries a single command. So patience
//! is asked for only while there is much to carry and it comes in small bursts; it is given up when there is little; and
//! where a timer shows that the worker wakes late ([`Pace::woke`]), it is given up for a minute.

use super::scheduler::Policy;
use std::time::Duration;

/// The clock is looked at once in so many bursts.
const LOOK_EVERY: u32 = 64;
/// Least time that is judged by.
const WINDOW_US: u64 = 50_000;
/// Connections whose commands were carried in a second, from which on patience may pay. A single client has fewer turns.
const BUSY: u64 = 10_000;
/// Patience ends below so many.
const CALM: u64 = BUSY / 2;
/// Connections in a burst, on average, from which on there is nothing to gain.
const LARGE: u64 = 8;

/// How often a timer is set while the worker is patient.
pub(super) const PROBE_EVERY: Duration = Duration::from_millis(50);
/// To when. The runtime's timers are up to a millisecond late by themselves.
pub(super) const PROBE: Duration = Duration::from_millis(2);
/// A worker that wakes so much later is not waiting for Redis.
const LATE: Duration = Duration::from_millis(2);
/// How many late ones in a row count; Redis may have one slow command.
const LATE_MAX: u32 = 3;
/// How long patience is done without where it has done harm.
const BARRED_US: u64 = 60_000_000;

/// One worker's bursts since it last judged, and what it has asked for.
#[derive(Debug, Default)]
pub(super) struct Pace {
    bursts: u32,
    carried: u64,
    since_us: u64,
    patient: bool,
    /// Late wake-ups in a row.
    late: u32,
    barred_until_us: u64,
}

impl Pace {
    /// A burst has carried the commands of so many connections. `now_us` is asked for a monotonic clock, once in
    /// [`LOOK_EVERY`] bursts. Returns what is to be asked for, where that is something else.
    #[inline]
    pub(super) fn carried(&mut self, connections: u64, now_us: impl FnOnce() -> u64) -> Option<Policy> {
        self.bursts = self.bursts.saturating_add(1);
        self.carried = self.carried.saturating_add(connections);
        if self.bursts.is_multiple_of(LOOK_EVERY) { self.judge(now_us()) } else { None }
    }

    /// While the worker is patient: a timer set to [`PROBE`] has woken it after so long. That is also how patience ends
    /// where there are no more bursts at all.
    pub(super) fn woke(&mut self, after: Duration, now_us: u64) -> Option<Policy> {
        if let Some(policy) = self.judge(now_us) {
            return Some(policy);
        }
        self.late = if after >= PROBE.saturating_add(LATE) { self.late.saturating_add(1) } else { 0 };
        if self.late < LATE_MAX {
            return None;
        }
        self.barred_until_us = now_us.saturating_add(BARRED_US);
        self.turn(false)
    }

    /// Whether the worker has asked for patience.
    pub(super) const fn is_patient(&self) -> bool {
        self.patient
    }

    fn judge(&mut self, now_us: u64) -> Option<Policy> {
        let passed_us = now_us.saturating_sub(self.since_us);
        if passed_us < WINDOW_US {
            return None;
        }
        let rate = self.carried.saturating_mul(1_000_000) / passed_us;
        let small = self.carried < LARGE.saturating_mul(self.bursts.into());
        (self.bursts, self.carried, self.since_us) = (0, 0, now_us);
        if self.patient {
            self.turn(rate >= CALM)
        } else {
            self.turn(rate >= BUSY && small && now_us >= self.barred_until_us)
        }
    }

    fn turn(&mut self, patient: bool) -> Option<Policy> {
        let changed = std::mem::replace(&mut self.patient, patient) != patient;
        self.late = if changed { 0 } else { self.late };
        changed.then_some(if patient { Policy::Batch } else { Policy::Ordinary })
    }
}

#[cfg(test)]
mod tests {
    use super::{LATE, PROBE, Pace, Policy};
    use std::time::Duration;

    /// A worker's bursts in virtual time.
    #[derive(Default)]
    struct Bursts {
        pace: Pace,
        now_us: u64,
        asked: Vec<(u64, Policy)>,
    }

    impl Bursts {
        /// For `ms` milliseconds, bursts of so many connections, one in `every_us`.
        fn go_on(&mut self, ms: u64, connections: u64, every_us: u64) -> &mut Self {
            let end = self.now_us + ms * 1000;
            while self.now_us < end {
                self.now_us += every_us;
                let now = self.now_us;
                self.asked.extend(self.pace.carried(connections, || now).map(|policy| (now / 1000, policy)));
            }
            self
        }

        /// The timer has.
        fn woke(&mut self, after: Duration) -> Option<Policy> {
            self.pace.woke(after, self.now_us)
        }

        fn asked(&self) -> Vec<Policy> {
            self.asked.iter().map(|(_, policy)| *policy).collect()
        }
    }

    #[test]
    fn many_small_bursts_ask_for_patience_once_and_calm_gives_it_up() {
        let mut bursts = Bursts::default();
        bursts.go_on(1000, 3, 100);
        assert_eq!(bursts.asked(), [Policy::Batch]);
        // With patience the bursts are large; that is its purpose, and no reason to give it up.
        bursts.go_on(10_000, 25, 900);
        assert_eq!(bursts.asked(), [Policy::Batch]);
        bursts.go_on(2000, 1, 1000);
        assert_eq!(bursts.asked(), [Policy::Batch, Policy::Ordinary]);
        // The next busy time has it again, at once.
        bursts.go_on(1000, 3, 100);
        assert_eq!(bursts.asked(), [Policy::Batch, Policy::Ordinary, Policy::Batch]);
    }

    #[test]
    fn neither_few_commands_nor_large_bursts_ask_for_it() {
        for (connections, every_us) in [(1, 110), (8, 100), (64, 800)] {
            let asked = Bursts::default().go_on(10_000, connections, every_us).asked();
            assert_eq!(asked, [], "{connections} connections every {every_us} µs");
        }
    }

    #[test]
    fn a_worker_that_wakes_late_again_and_again_does_without_for_a_minute() {
        let mut bursts = Bursts::default();
        bursts.go_on(1000, 3, 100);
        assert!(bursts.pace.is_patient());
        let late = PROBE + LATE;
        // One slow command of Redis' is no reason, nor are two.
        for after in [late, late, PROBE, late, late, late - Duration::from_micros(1)] {
            assert_eq!(bursts.go_on(50, 3, 100).woke(after), None);
        }
        let asked = [late; 3].map(|after| bursts.go_on(50, 3, 100).woke(after));
        assert_eq!(asked, [None, None, Some(Policy::Ordinary)]);
        assert!(!bursts.pace.is_patient());
        let given_up_ms = bursts.now_us / 1000;
        bursts.go_on(100_000, 3, 100);
        let again: Vec<_> = bursts.asked.iter().filter(|(ms, _)| *ms > given_up_ms).collect();
        assert!(
            matches!(again[..], [(ms, Policy::Batch)] if (60_000..60_200).contains(&(ms - given_up_ms))),
            "{again:?}"
        );
        // What was late before counts no more.
        assert_eq!([late; 2].map(|after| bursts.go_on(50, 3, 100).woke(after)), [None, None]);
    }

    #[test]
    fn patience_ends_without_harm_when_the_clients_are_silent() {
        let mut bursts = Bursts::default();
        bursts.go_on(1000, 3, 100);
        assert!(bursts.pace.is_patient());
        // Whoever has the processor meanwhile makes the timer late; that says nothing.
        bursts.now_us += 1_000_000;
        assert_eq!(bursts.woke(PROBE + LATE), Some(Policy::Ordinary));
        bursts.go_on(1000, 3, 100);
        assert!(bursts.pace.is_patient(), "it was not barred");
    }

    #[test]
    fn the_clock_is_not_looked_at_for_every_burst() {
        let (mut pace, looks) = (Pace::default(), std::cell::Cell::new(0));
        for _ in 0..6400 {
            pace.carried(1, || {
                looks.set(looks.get() + 1);
                0
            });
        }
        assert_eq!(looks.get(), 100);
    }
}
