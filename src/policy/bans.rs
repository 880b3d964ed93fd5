//! Whoever fails to authenticate again and again is sent away, for longer each time.
//!
//! Redis answers as many guesses as a client can send. Here each failed attempt counts against the address it came from
//! (an IPv6 address stands for its /64: one host owns all of it) and against the certificate it was made with; the first
//! few are free, then each failure begins a ban twice as long as the one before:
//!
//! | failures (with `after = 5`, `first = "30s"`, `max = "1h"`) | ban |
//! | --- | --- |
//! | 1 to 4 | none |
//! | 5 | 30 s |
//! | 6, 7, 8 … | 1 min, 2 min, 4 min … at most 1 h |
//!
//! What was counted is forgotten when as much time as the longest ban takes has passed without another failure, counted from
//! the last failure or the end of its ban.
//! A success forgets nothing: who knows one password could otherwise guess at another for ever. Time is the monotonic
//! clock's, so that nobody is let in by setting a clock.
//!
//! Pure: the shell holds one of these behind a lock and asks it once per connection and once per attempt.

use super::network::host;
use crate::moment::Moment;
use std::{collections::HashMap, net::IpAddr};

/// Most origins remembered. Beyond it the one whose ban ends first gives way (one without a ban before any other): an
/// attacker with so many addresses gets some of them back, and no memory of ours.
pub const ENTRIES_MAX: usize = 16 * 1024;

/// Against whom an attempt counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// An IPv4 address, or the /64 of an IPv6 one.
    Address(IpAddr),
    /// A certificate, by its SHA-256.
    Certificate(Box<str>),
}

impl Origin {
    /// The origin that an address stands for.
    #[must_use]
    pub fn address(address: IpAddr) -> Self {
        Self::Address(host(address))
    }

    /// The origin that a certificate stands for.
    #[must_use]
    pub fn certificate(sha256: &str) -> Self {
        Self::Certificate(sha256.into())
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(IpAddr::V4(v4)) => write!(f, "{v4}"),
            Self::Address(IpAddr::V6(v6)) => write!(f, "{v6}/64"),
            Self::Certificate(sha256) => write!(f, "sha256:{sha256}"),
        }
    }
}

/// How long whom is sent away for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The failure that begins the first ban; 0 for no bans at all.
    pub after: u32,
    /// The first ban, in microseconds.
    pub first_us: u64,
    /// The longest ban, in microseconds.
    pub max_us: u64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { after: 5, first_us: 30_000_000, max_us: 3_600_000_000 }
    }
}

impl Schedule {
    /// The ban that so many failures have earned, in microseconds; 0 for none.
    #[must_use]
    pub fn ban_us(&self, failures: u32) -> u64 {
        if self.after == 0 || failures < self.after {
            return 0;
        }
        let doublings = failures.saturating_sub(self.after).min(63);
        self.first_us.checked_mul(1 << doublings).map_or(self.max_us, |us| us.min(self.max_us))
    }
}

/// What is remembered of one origin.
#[derive(Clone, Copy, Debug)]
struct Entry {
    failures: u32,
    last_us: u64,
    until_us: u64,
}

/// One origin as the admin side shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Banned {
    /// Who.
    pub origin: Origin,
    /// Failed attempts so far.
    pub failures: u32,
    /// What is left of the ban, in microseconds; never 0.
    pub left_us: u64,
}

/// Failed attempts and bans.
#[derive(Debug, Default)]
pub struct Bans {
    schedule: Schedule,
    entries: HashMap<Origin, Entry>,
}

impl Bans {
    /// Nobody has failed yet.
    #[must_use]
    pub fn new(schedule: Schedule) -> Self {
        Self { schedule, entries: HashMap::new() }
    }

    /// Another schedule, from the next failure on; bans that have begun last as long as they were to last, unless there
    /// are to be none.
    pub fn configure(&mut self, schedule: Schedule) {
        self.schedule = schedule;
        if schedule.after == 0 {
            self.entries.clear();
        }
    }

    /// What is left of this origin's ban, in microseconds; 0 if there is none.
    #[must_use]
    pub fn left_us(&self, origin: &Origin, now: Moment) -> u64 {
        self.entries.get(origin).map_or(0, |entry| entry.until_us.saturating_sub(now.mono_us))
    }

    /// One more failure; the ban it begins, in microseconds, or 0.
    pub fn failed(&mut self, origin: Origin, now: Moment) -> u64 {
        if self.schedule.after == 0 {
            return 0;
        }
        let quiet_us = self.schedule.max_us;
        let full = self.entries.len() >= ENTRIES_MAX && !self.entries.contains_key(&origin);
        if full {
            self.make_room(now);
        }
        let entry = self.entries.entry(origin).or_insert(Entry { failures: 0, last_us: now.mono_us, until_us: 0 });
        if entry.is_forgotten(quiet_us, now) {
            entry.failures = 0;
        }
        entry.failures = entry.failures.saturating_add(1);
        entry.last_us = now.mono_us;
        let ban_us = self.schedule.ban_us(entry.failures);
        entry.until_us = entry.until_us.max(now.mono_us.saturating_add(ban_us));
        ban_us
    }

    /// Forgets what may be forgotten, or else whoever costs least.
    fn make_room(&mut self, now: Moment) {
        let quiet_us = self.schedule.max_us;
        self.entries.retain(|_, entry| !entry.is_forgotten(quiet_us, now));
        if self.entries.len() >= ENTRIES_MAX {
            let least = self.entries.iter().min_by_key(|(_, entry)| (entry.until_us, entry.last_us));
            if let Some(origin) = least.map(|(origin, _)| origin.clone()) {
                self.entries.remove(&origin);
            }
        }
    }

    /// Everybody who is banned now, in a fixed order.
    #[must_use]
    pub fn list(&self, now: Moment) -> Vec<Banned> {
        let mut found: Vec<Banned> = self
            .entries
            .iter()
            .map(|(origin, entry)| Banned {
                origin: origin.clone(),
                failures: entry.failures,
                left_us: entry.until_us.saturating_sub(now.mono_us),
            })
            .filter(|banned| banned.left_us > 0)
            .collect();
        found.sort_unstable_by(|a, b| a.origin.cmp(&b.origin));
        found
    }

    /// How many are banned now: addresses, certificates.
    #[must_use]
    pub fn count(&self, now: Moment) -> (u64, u64) {
        let banned = self.entries.iter().filter(|(_, entry)| entry.until_us > now.mono_us);
        banned.fold((0, 0), |(addresses, certificates), (origin, _)| match origin {
            Origin::Address(_) => (addresses.saturating_add(1), certificates),
            Origin::Certificate(_) => (addresses, certificates.saturating_add(1)),
        })
    }

    /// Forgets one origin, written as [`Origin`] is shown or as an address in its network; whether it was known.
    pub fn clear(&mut self, shown: &str) -> bool {
        let origin = match shown.strip_prefix("sha256:") {
            Some(sha256) => Origin::certificate(&sha256.to_ascii_lowercase()),
            None => match shown.strip_suffix("/64").unwrap_or(shown).parse() {
                Ok(address) => Origin::address(address),
                Err(_) => return false,
            },
        };
        self.entries.remove(&origin).is_some()
    }

    /// Forgets everybody; how many were known.
    pub fn clear_all(&mut self) -> usize {
        let known = self.entries.len();
        self.entries = HashMap::new();
        known
    }
}

impl Entry {
    const fn is_forgotten(&self, quiet_us: u64, now: Moment) -> bool {
        let since_us = if self.until_us > self.last_us { self.until_us } else { self.last_us };
        now.mono_us >= since_us.saturating_add(quiet_us)
    }
}

#[cfg(test)]
mod tests {
    use super::{Bans, ENTRIES_MAX, Origin, Schedule};
    use crate::moment::Moment;
    use std::net::IpAddr;

    const SECOND: u64 = 1_000_000;

    fn at(seconds: u64) -> Moment {
        Moment { mono_us: seconds * SECOND, wall_us: 0 }
    }

    fn address(text: &str) -> Origin {
        Origin::address(text.parse().unwrap())
    }

    #[test]
    fn steps_of_the_wall_clock_neither_lift_nor_lengthen_a_ban() {
        let (mut even, mut odd) = (Bans::new(Schedule::default()), Bans::new(Schedule::default()));
        let stepping = |now: Moment| Moment { wall_us: now.mono_us.wrapping_mul(0x9e37_79b9_7f4a_7c15), ..now };
        let origin = || address("10.0.0.1");
        for second in 0..200 {
            let now = at(second);
            if second % 3 == 0 {
                assert_eq!(odd.failed(origin(), stepping(now)), even.failed(origin(), now), "after {second} s");
            }
            assert_eq!(odd.left_us(&origin(), stepping(now)), even.left_us(&origin(), now), "after {second} s");
        }
        assert!(even.left_us(&origin(), at(200)) > 0);
    }

    #[test]
    fn the_first_failures_are_free_and_each_further_one_doubles_the_ban_up_to_the_longest() {
        let mut bans = Bans::new(Schedule::default());
        let mut now = at(0);
        let mut seconds = Vec::new();
        for _ in 0..14 {
            let ban = bans.failed(address("10.0.0.1"), now);
            assert_eq!(bans.left_us(&address("10.0.0.1"), now), ban);
            seconds.push(ban / SECOND);
            now = now.plus_us(ban);
            assert_eq!(bans.left_us(&address("10.0.0.1"), now), 0, "a ban ends with its last microsecond");
        }
        assert_eq!(seconds, [0, 0, 0, 0, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]);
        assert_eq!(bans.left_us(&address("10.0.0.2"), at(0)), 0, "somebody else is not banned");
    }

    #[test]
    fn what_was_counted_is_forgotten_after_the_longest_ban_without_a_failure() {
        let mut bans = Bans::new(Schedule { after: 2, first_us: SECOND, max_us: 100 * SECOND });
        assert_eq!(bans.failed(address("10.0.0.1"), at(0)), 0);
        assert_eq!(bans.failed(address("10.0.0.1"), at(99)), SECOND, "99 s of silence are not enough");
        assert_eq!(bans.failed(address("10.0.0.1"), at(200)), 0, "100 s after its end it begins anew");
        assert_eq!(bans.failed(address("10.0.0.1"), at(201)), SECOND);
    }

    #[test]
    fn no_schedule_overflows_and_none_bans_without_a_number() {
        let widest = Schedule { after: 1, first_us: u64::MAX, max_us: u64::MAX };
        assert_eq!((widest.ban_us(0), widest.ban_us(1), widest.ban_us(u32::MAX)), (0, u64::MAX, u64::MAX));
        let mut bans = Bans::new(widest);
        let last = Moment { mono_us: u64::MAX, wall_us: 0 };
        bans.failed(address("10.0.0.1"), last);
        assert_eq!(bans.left_us(&address("10.0.0.1"), at(0)), u64::MAX);
        bans.configure(Schedule { after: 0, ..widest });
        assert_eq!(bans.left_us(&address("10.0.0.1"), at(0)), 0, "who bans nobody has banned nobody");
        assert_eq!((bans.failed(address("10.0.0.1"), at(0)), bans.clear_all()), (0, 0));
    }

    #[test]
    fn an_ipv6_network_of_64_bits_and_a_mapped_address_are_one_origin() {
        assert_eq!(address("fd00::1"), address("fd00::ffff:2"));
        assert_ne!(address("fd00::1"), address("fd00:0:0:1::1"));
        assert_eq!(address("::ffff:10.0.0.1"), address("10.0.0.1"));
        assert_eq!(address("fd00::1").to_string(), "fd00::/64");
    }

    #[test]
    fn bans_are_listed_in_order_and_cleared_one_by_one_or_all() {
        let mut bans = Bans::new(Schedule { after: 1, ..Schedule::default() });
        for origin in [Origin::certificate("ab12"), address("fd00::9"), address("10.0.0.9"), address("10.0.0.10")] {
            bans.failed(origin, at(0));
        }
        let listed = |bans: &Bans| bans.list(at(10)).iter().map(|each| each.origin.to_string()).collect::<Vec<_>>();
        assert_eq!(listed(&bans), ["10.0.0.9", "10.0.0.10", "fd00::/64", "sha256:ab12"]);
        assert_eq!((bans.list(at(10))[0].left_us, bans.list(at(10))[0].failures), (20 * SECOND, 1));
        assert!(bans.list(at(30)).is_empty());
        assert_eq!((bans.count(at(10)), bans.count(at(30))), ((3, 1), (0, 0)));
        assert!(!bans.clear("10.0.0.1") && !bans.clear("x") && !bans.clear("") && !bans.clear("sha256:"));
        assert!(bans.clear("fd00::9") && bans.clear("sha256:AB12") && bans.clear("10.0.0.9"));
        assert_eq!(listed(&bans), ["10.0.0.10"]);
        assert_eq!((bans.clear_all(), listed(&bans).len()), (1, 0));
    }

    #[test]
    fn the_table_has_a_bound_and_a_ban_outlasts_whoever_is_not_banned() {
        let mut bans = Bans::new(Schedule { after: 2, ..Schedule::default() });
        let nth = |n: usize| Origin::address(IpAddr::V4(u32::try_from(n).unwrap().into()));
        bans.failed(nth(0), at(0));
        bans.failed(nth(0), at(0));
        for n in 1..ENTRIES_MAX + 1000 {
            bans.failed(nth(n), at(1));
        }
        assert_eq!(bans.entries.len(), ENTRIES_MAX);
        assert!(bans.left_us(&nth(0), at(1)) > 0, "one that is banned gives way last");
        bans.failed(address("99.0.0.1"), at(8000));
        assert_eq!(bans.entries.len(), 1, "what is over is forgotten first");
    }
}
