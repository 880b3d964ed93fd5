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
//! is asked for only while there is much to carry and it comes in small bursts; it is given up when there is little, or half
//! of what there was before; and where a timer shows as well that the worker wakes late ([`Pace::woke`]), it is done without
//! for a while.

use super::{clock::micros, scheduler::Policy};
use std::time::Duration;

/// The clock is looked at once in so many bursts.
const LOOK_EVERY: u32 = 64;
/// Least time that is judged by.
const WINDOW_US: u64 = 50_000;
/// Connections whose commands were carried in a second, from which on patience may pay. A single client has hardly more turns.
const BUSY: u64 = 10_000;
/// Patience ends below so many.
const CALM: u64 = BUSY / 2;
/// Connections in a burst, on average, from which on there is nothing to gain.
const LARGE: u64 = 8;

/// How often a timer is set while the worker is patient.
pub(super) const PROBE_EVERY: Duration = Duration::from_millis(50);
/// To when. The runtime's timers are up to a millisecond late by themselves.
pub(super) const PROBE: Duration = Duration::from_millis(2);
/// Later by so much, a worker that has less to do than before has not waited for Redis.
const LATE: Duration = Duration::from_millis(2);
/// How long patience is done without where it has done harm.
const BARRED_US: u64 = 10_000_000;

/// One worker's bursts since it last judged, and what it has asked for.
#[derive(Debug, Default)]
pub(super) struct Pace {
    bursts: u32,
    carried: u64,
    since_us: u64,
    /// Asked for, when so many were carried in a second.
    patient: Option<u64>,
    barred_until_us: u64,
}

impl Pace {
    /// A burst has carried the commands of so many connections. `now_us` is asked for a monotonic clock, once in
    /// [`LOOK_EVERY`] bursts. Returns what is to be asked for, where that is something else.
    #[inline]
    pub(super) fn carried(&mut self, connections: u64, now_us: impl FnOnce() -> u64) -> Option<Policy> {
        self.bursts = self.bursts.saturating_add(1);
        self.carried = self.carried.saturating_add(connections);
        if self.patient.is_some() || !self.bursts.is_multiple_of(LOOK_EVERY) {
            return None;
        }
        let now_us = now_us();
        if now_us.saturating_sub(self.since_us) < WINDOW_US {
            return None;
        }
        let small = self.carried < LARGE.saturating_mul(self.bursts.into());
        let rate = self.begin(now_us);
        (rate >= BUSY && small && now_us >= self.barred_until_us).then(|| {
            self.patient = Some(rate);
            Policy::Batch
        })
    }

    /// While the worker is patient: a timer that was set then, to [`PROBE`], has woken it. This, and not a burst, is what ends
    /// patience: there may be no more bursts at all.
    pub(super) fn woke(&mut self, set_us: u64, now_us: u64) -> Option<Policy> {
        let before = self.patient?;
        let rate = self.begin(now_us);
        if rate >= CALM && rate >= before / 2 {
            return None;
        }
        if now_us.saturating_sub(set_us) >= micros(PROBE.saturating_add(LATE)) {
            self.barred_until_us = now_us.saturating_add(BARRED_US);
        }
        self.patient = None;
        Some(Policy::Ordinary)
    }

    /// Counts anew, and returns how many connections' commands were carried in a second until now.
    fn begin(&mut self, now_us: u64) -> u64 {
        let passed_us = now_us.saturating_sub(self.since_us).max(1);
        let rate = self.carried.saturating_mul(1_000_000) / passed_us;
        (self.bursts, self.carried, self.since_us) = (0, 0, now_us);
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::{LATE, PROBE, PROBE_EVERY, Pace, Policy, micros};
    use std::time::Duration;

    /// A worker's bursts in virtual time.
    #[derive(Default)]
    struct Bursts {
        pace: Pace,
        now_us: u64,
        probe_us: u64,
        asked: Vec<(u64, Policy)>,
    }

    impl Bursts {
        /// For `ms` milliseconds, bursts of so many connections, one in `every_us`. The timer wakes the worker after so long.
        fn go_on(&mut self, ms: u64, connections: u64, every_us: u64, after: Duration) -> &mut Self {
            let end = self.now_us + ms * 1000;
            while self.now_us < end {
                self.now_us += every_us;
                let now = self.now_us;
                let mut asked = self.pace.carried(connections, || now);
                if self.pace.patient.is_none() || asked.is_some() {
                    self.probe_us = now + micros(PROBE_EVERY);
                } else if now >= self.probe_us {
                    self.probe_us = now + micros(PROBE_EVERY);
                    asked = self.pace.woke(now - micros(after), now);
                }
                self.asked.extend(asked.map(|policy| (now / 1000, policy)));
            }
            self
        }

        fn asked(&self) -> Vec<Policy> {
            self.asked.iter().map(|(_, policy)| *policy).collect()
        }
    }

    const LATELY: Duration = PROBE.saturating_add(LATE);

    #[test]
    fn many_small_bursts_ask_for_patience_once_and_calm_gives_it_up() {
        let mut bursts = Bursts::default();
        bursts.go_on(1000, 3, 100, PROBE);
        assert_eq!(bursts.asked(), [Policy::Batch]);
        // With patience the bursts are large; that is its purpose, and no reason to give it up. Nor is a worker that wakes
        // late, for what it carries itself, as long as it carries as much.
        bursts.go_on(10_000, 25, 900, LATELY);
        assert_eq!(bursts.asked(), [Policy::Batch]);
        bursts.go_on(2000, 1, 1000, PROBE);
        assert_eq!(bursts.asked(), [Policy::Batch, Policy::Ordinary]);
        // The next busy time has it again, at once.
        bursts.go_on(1000, 3, 100, PROBE);
        assert_eq!(bursts.asked(), [Policy::Batch, Policy::Ordinary, Policy::Batch]);
    }

    #[test]
    fn neither_few_commands_nor_large_bursts_ask_for_it() {
        for (connections, every_us) in [(1, 110), (8, 100), (64, 800)] {
            let asked = Bursts::default().go_on(10_000, connections, every_us, PROBE).asked();
            assert_eq!(asked, [], "{connections} connections every {every_us} µs");
        }
    }

    #[test]
    fn a_worker_that_becomes_slow_and_wakes_late_does_without_for_a_while() {
        let mut bursts = Bursts::default();
        // Four clients, and somebody else who never sleeps: without patience all is well, with it a turn takes 4 ms.
        while bursts.now_us < 100_000_000 {
            let patient = bursts.pace.patient.is_some();
            bursts.go_on(1, if patient { 4 } else { 1 }, if patient { 4000 } else { 70 }, LATELY);
        }
        let asked: Vec<_> = bursts.asked.iter().map(|(ms, _)| *ms).collect();
        let (tried, given_up): (Vec<_>, Vec<_>) = asked.chunks_exact(2).map(|pair| (pair[0], pair[1])).unzip();
        assert_eq!(tried.len(), 10, "{tried:?}");
        assert!(tried.iter().zip(&given_up).all(|(from, to)| to - from <= 60), "{tried:?} {given_up:?}");
        assert!(tried.iter().skip(1).zip(&given_up).all(|(next, end)| next - end >= 10_000), "{tried:?} {given_up:?}");
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
