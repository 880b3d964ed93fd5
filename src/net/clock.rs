//! The one place where clocks are read.

use crate::moment::Moment;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Reads both clocks. Copies share their origin, so moments read on different threads can be compared.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose monotonic side starts at zero now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this module is where the lint sends everybody else")]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Both clocks, now. Two reads without a system call (vDSO); called once per turn.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this module is where the lint sends everybody else")]
    pub fn now(&self) -> Moment {
        let mono = Instant::now().saturating_duration_since(self.origin);
        // A wall clock before 1970 is a broken machine; records then say 1970 instead of the process dying.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Moment { mono_us: micros(mono), wall_us: micros(wall) }
    }

    /// The runtime's instant for a value of [`Moment::mono_us`]; as far in the future as instants go if it overflows.
    #[must_use]
    pub fn instant(&self, mono_us: u64) -> tokio::time::Instant {
        let at = self.origin.checked_add(Duration::from_micros(mono_us));
        // A year from the origin stands for "never": tokio's timer wheel holds about two.
        let at = at.or_else(|| self.origin.checked_add(Duration::from_secs(365 * 24 * 3600))).unwrap_or(self.origin);
        tokio::time::Instant::from_std(at)
    }
}

/// Whole microseconds of a duration; saturates after half a million years.
#[must_use]
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::Clock;

    #[test]
    fn monotonic_time_never_goes_back_and_copies_agree() {
        let clock = Clock::start();
        let copy = clock;
        let first = clock.now();
        let second = copy.now();
        assert!(second.mono_us >= first.mono_us);
        assert!(first.wall_us > 1_600_000_000_000_000, "the wall clock counts from 1970");
    }

    #[test]
    fn a_deadline_beyond_time_is_far_away_and_not_now() {
        let clock = Clock::start();
        assert!(clock.instant(u64::MAX) > clock.instant(clock.now().mono_us + 3_600_000_000));
    }
}
