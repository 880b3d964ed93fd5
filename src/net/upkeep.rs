//! What is known of a service's Redis and its alternatives, and when to look again: values and virtual time, no socket.
//!
//! * **What is certain counts at once, what is missing counts in a row.** A refused connection or a Redis that says it is
//!   loading is believed; an answer that did not come in time is believed after [`Tuning::failures`] of them.
//! * **Three states.** Only *up* is ready. What is *half* up (loading its data, without its master, not taking our
//!   password) is connected to if nothing better is there: its own answers tell clients more than ours could. What is *down*
//!   is left alone until the next look at it finds it up again.
//! * **The first in order that is up is used**, so the first is returned to by itself, after [`Tuning::successes`] good looks
//!   in a row. Connections that are open stay where they are.

use std::time::Duration;

/// How long to wait after failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first.
    pub initial: Duration,
    /// At most.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: Duration::from_millis(100), max: Duration::from_secs(2) }
    }
}

impl Backoff {
    /// The wait after so many failures in a row, in microseconds: doubled each time up to `max`, and of that a random part
    /// of at least the half, so that many proxies before one Redis do not come back in step.
    #[must_use]
    pub fn delay_us(&self, failures: u32, dice: u64) -> u64 {
        let (initial, max) = (micros(self.initial), micros(self.max));
        let doubled = 1_u64.checked_shl(failures.saturating_sub(1)).unwrap_or(u64::MAX);
        let ceiling = initial.saturating_mul(doubled).min(max);
        let half = ceiling / 2;
        half.saturating_add(dice % ceiling.saturating_sub(half).saturating_add(1))
    }
}

/// How often to look, and what to make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Between two looks at one that is up; none for never.
    pub interval: Option<Duration>,
    /// For connecting and for the answers, together.
    pub timeout: Duration,
    /// Looks without an answer in a row that make one down.
    pub failures: u32,
    /// Good looks in a row that make one up again.
    pub successes: u32,
    /// Between looks at one that is not up.
    pub backoff: Backoff,
}

impl Default for Tuning {
    fn default() -> Self {
        let (interval, timeout) = (Some(Duration::from_secs(5)), Duration::from_secs(2));
        Self { interval, timeout, failures: 3, successes: 2, backoff: Backoff::default() }
    }
}

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seen {
    /// It answers and takes the credential.
    Well,
    /// `-LOADING`: it reads its data from disk.
    Loading,
    /// `-MASTERDOWN`: a replica without its master, told not to answer (`replica-serve-stale-data no`).
    MasterDown,
    /// It does not take our password, or asks for one where none was configured.
    Refused,
    /// It cannot be connected to.
    Unreachable,
    /// It did not answer in time, or hung up.
    Silent,
    /// It says something else.
    Strange,
}

impl Seen {
    /// Every one; a metric's label takes only their words.
    pub const ALL: [Self; 7] =
        [Self::Well, Self::Loading, Self::MasterDown, Self::Refused, Self::Unreachable, Self::Silent, Self::Strange];

    /// The stable word for metrics and records.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Loading => "loading",
            Self::MasterDown => "masterdown",
            Self::Refused => "auth",
            Self::Unreachable => "unreachable",
            Self::Silent => "silent",
            Self::Strange => "strange",
        }
    }
}

/// What is made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Ready.
    Up,
    /// There, and not ready.
    Half,
    /// Not there.
    Down,
}

/// Another Redis is used from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// Its place in the order before.
    pub from: usize,
    /// Its place now.
    pub to: usize,
    /// What the last look at the first of the two found.
    pub seen: Seen,
}

/// One of the addresses.
#[derive(Clone, Debug)]
pub struct Target {
    /// What is made of what was seen.
    pub state: State,
    /// What was seen last.
    pub seen: Seen,
    /// In words.
    pub detail: String,
    /// The word of the error with which it could not be connected to.
    pub reason: &'static str,
    /// Looks in a row that speak for another state.
    run: u32,
    /// Looks in a row that were not good.
    failures: u32,
    due_us: u64,
}

/// All addresses of one service, in the order of preference.
#[derive(Debug)]
pub struct Watch {
    tuning: Tuning,
    targets: Vec<Target>,
    used: usize,
    switches: u64,
}

impl Watch {
    /// So many addresses, all of them believed to be up and to be looked at at once.
    #[must_use]
    pub fn new(count: usize, tuning: Tuning) -> Self {
        let target = Target {
            state: State::Up,
            seen: Seen::Well,
            detail: String::new(),
            reason: "connect",
            run: 0,
            failures: 0,
            due_us: 0,
        };
        Self { tuning, targets: vec![target; count.max(1)], used: 0, switches: 0 }
    }

    /// What is known of them.
    #[must_use]
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The one in use, which may be down.
    #[must_use]
    pub const fn used(&self) -> usize {
        self.used
    }

    /// How often another came into use.
    #[must_use]
    pub const fn switches(&self) -> u64 {
        self.switches
    }

    /// Where a new connection goes that has tried these: the first that is up, else the first that is half up.
    #[must_use]
    pub fn choose(&self, tried: &[usize]) -> Option<usize> {
        let untried = || self.targets.iter().enumerate().filter(|(at, _)| !tried.contains(at));
        let first = |state| untried().find(|(_, target)| target.state == state).map(|(at, _)| at);
        first(State::Up).or_else(|| first(State::Half))
    }

    /// Those that are to be looked at now.
    #[must_use]
    pub fn due(&self, now_us: u64) -> Vec<usize> {
        self.targets.iter().enumerate().filter(|(_, target)| target.due_us <= now_us).map(|(at, _)| at).collect()
    }

    /// When the next one is, in microseconds; `u64::MAX` for never.
    #[must_use]
    pub fn next_due_us(&self) -> u64 {
        self.targets.iter().map(|target| target.due_us).min().unwrap_or(u64::MAX)
    }

    /// A client's connection was accepted there. It says less than a look does, and nothing of one that is down.
    pub fn connected(&mut self, at: usize) {
        if let Some(target) = self.targets.get_mut(at)
            && target.state == State::Up
        {
            target.run = 0;
        }
    }

    /// What a look at `at`, or a client's attempt to connect, found. `dice` is any random number.
    pub fn observe(&mut self, at: usize, seen: Seen, detail: &str, now_us: u64, dice: u64) -> Option<Switch> {
        let tuning = self.tuning;
        let target = self.targets.get_mut(at)?;
        target.seen = seen;
        target.detail.clear();
        target.detail.push_str(detail);
        let before = target.state;
        let state = match seen {
            Seen::Well => {
                target.failures = 0;
                if before == State::Up || target.run.saturating_add(1) >= tuning.successes { State::Up } else { before }
            }
            Seen::Loading | Seen::MasterDown | Seen::Refused => State::Half,
            Seen::Unreachable => State::Down,
            Seen::Silent | Seen::Strange if before == State::Up => {
                if target.run.saturating_add(1) >= tuning.failures {
                    State::Down
                } else {
                    before
                }
            }
            Seen::Silent | Seen::Strange => State::Down,
        };
        let against = (seen == Seen::Well) != (state == State::Up);
        target.run = if against { target.run.saturating_add(1) } else { 0 };
        target.state = state;
        if seen != Seen::Well {
            target.failures = target.failures.saturating_add(1);
        }
        let wait = if state == State::Up && seen == Seen::Well {
            // Earlier by up to a tenth, so that many proxies do not ask in step.
            tuning.interval.map(micros).map(|interval| interval.saturating_sub(dice % (interval / 10).max(1)))
        } else {
            Some(tuning.backoff.delay_us(target.failures.max(1), dice))
        };
        target.due_us = wait.map_or(u64::MAX, |wait| now_us.saturating_add(wait));
        self.settle()
    }

    /// Those that are not up are due now.
    pub fn hurry(&mut self) {
        for target in self.targets.iter_mut().filter(|target| target.state != State::Up) {
            target.due_us = 0;
        }
    }

    /// Remembers by what word an attempt to connect failed.
    pub fn blame(&mut self, at: usize, reason: &'static str) {
        if let Some(target) = self.targets.get_mut(at) {
            target.reason = reason;
        }
    }

    fn settle(&mut self) -> Option<Switch> {
        let best = self.choose(&[])?;
        let (from, rank) = (self.used, |at: usize| self.targets.get(at).map_or(State::Down, |target| target.state));
        // While nothing is ready there is no better one, and no reason to move among those that are half up.
        if best == from || (rank(best) != State::Up && rank(from) != State::Down) {
            return None;
        }
        let seen = self.targets.get(from).map_or(Seen::Unreachable, |target| target.seen);
        self.used = best;
        self.switches = self.switches.saturating_add(1);
        Some(Switch { from, to: best, seen })
    }
}

/// So many beginnings a second, evenly, with a short burst: when a new connection may begin (the leaky bucket as a meter of
/// ITU-T I.371, by its virtual schedule).
#[derive(Debug)]
pub struct Pace {
    step_us: u64,
    burst_us: u64,
    next_us: u64,
}

impl Pace {
    /// So many a second, a tenth of them at once; 0 for no bound.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        let step_us = if per_second == 0 { 0 } else { (1_000_000 / u64::from(per_second)).max(1) };
        let burst = u64::from(per_second / 10).saturating_sub(1);
        Self { step_us, burst_us: step_us.saturating_mul(burst), next_us: 0 }
    }

    /// When the next may begin that asks now, and must by `latest_us`; none if it cannot, and then it takes no turn.
    pub fn reserve(&mut self, now_us: u64, latest_us: u64) -> Option<u64> {
        if self.step_us == 0 {
            return Some(now_us);
        }
        let at = self.next_us.saturating_sub(self.burst_us).max(now_us);
        if at > latest_us {
            return None;
        }
        self.next_us = self.next_us.max(now_us).saturating_add(self.step_us);
        Some(at)
    }
}

/// How many may be on their way to Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storm {
    /// At once, up to Redis' first answer.
    pub at_once: u32,
    /// Beginning in a second; 0 for no bound.
    pub per_second: u32,
    /// Waiting for their turn.
    pub waiting: u32,
}

impl Default for Storm {
    fn default() -> Self {
        Self { at_once: 128, per_second: 0, waiting: 4096 }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "upkeep_tests.rs"]
mod tests;
