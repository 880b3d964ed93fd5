//! How often an address may knock: token buckets for accepts and for handshakes, one per address.
//!
//! An IPv6 address stands for its /64, as everywhere ([`super::network::host`]). A bucket is kept as the instant at which it
//! would be full again (see [`super::rates`]); from then on the address looks like one that never came, and is forgotten.
//!
//! The table is bounded. When [`ENTRIES_MAX`] addresses have buckets that are not full, an address that is not among them
//! shares one further bucket, of the same rate, with all others like it: whoever is known is served as before, strangers are
//! slowed down together, and nobody buys himself a fresh bucket by filling the table.
//!
//! Pure: the shell holds one of these behind a lock and asks it once per connection.

use super::network::host;
use crate::moment::Moment;
use std::{collections::HashMap, net::IpAddr, num::NonZeroU32};

/// Most addresses with a bucket of their own.
pub const ENTRIES_MAX: usize = 16 * 1024;
/// A full table is looked through for what may be forgotten at most this often, in microseconds.
const PRUNE_EVERY_US: u64 = 100_000;

/// A bucket's size and how fast it fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knocks {
    /// How many a second.
    pub per_second: NonZeroU32,
    /// How many at once, after a silence.
    pub burst: NonZeroU32,
}

impl Knocks {
    const fn cost_ns(self) -> u64 {
        1_000_000_000_u64.div_ceil(self.per_second.get() as u64)
    }

    /// When a bucket that is full at `full` will be after one more knock now; `None` if there is no room for it.
    fn take(self, full: u64, now: u64) -> Option<u64> {
        let cost = self.cost_ns();
        let after = full.max(now).saturating_add(cost);
        (after.saturating_sub(now) <= cost.saturating_mul(u64::from(self.burst.get()))).then_some(after)
    }
}

/// The buckets of all addresses.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// None: nobody is limited.
    knocks: Option<Knocks>,
    /// When each will be full again, in nanoseconds of the monotonic clock.
    full_at: HashMap<IpAddr, u64>,
    strangers: u64,
    pruned_us: Option<u64>,
}

impl Arrivals {
    /// Nobody has come yet.
    #[must_use]
    pub fn new(knocks: Option<Knocks>) -> Self {
        Self { knocks, ..Self::default() }
    }

    /// Another limit; what was counted under the old one is forgotten.
    pub fn configure(&mut self, knocks: Option<Knocks>) {
        if self.knocks != knocks {
            *self = Self::new(knocks);
        }
    }

    /// Whether there is room for one more knock of this address; it is taken if there is.
    pub fn admit(&mut self, address: IpAddr, now: Moment) -> bool {
        let Some(knocks) = self.knocks else { return true };
        let (address, now_ns) = (host(address), now.mono_us.saturating_mul(1000));
        if self.full_at.len() >= ENTRIES_MAX && !self.full_at.contains_key(&address) {
            self.prune(now.mono_us);
        }
        let bucket = if self.full_at.len() >= ENTRIES_MAX {
            self.full_at.get_mut(&address).unwrap_or(&mut self.strangers)
        } else {
            self.full_at.entry(address).or_default()
        };
        let after = knocks.take(*bucket, now_ns);
        *bucket = after.unwrap_or(*bucket);
        after.is_some()
    }

    /// How many addresses are remembered.
    #[must_use]
    pub fn known(&self) -> usize {
        self.full_at.len()
    }

    fn prune(&mut self, now_us: u64) {
        if self.pruned_us.is_some_and(|last| now_us < last.saturating_add(PRUNE_EVERY_US)) {
            return;
        }
        self.pruned_us = Some(now_us);
        let now = now_us.saturating_mul(1000);
        self.full_at.retain(|_, full| *full > now);
    }
}

#[cfg(test)]
mod tests {
    use super::{Arrivals, ENTRIES_MAX, Knocks};
    use crate::moment::Moment;
    use std::{
        net::{IpAddr, Ipv4Addr, Ipv6Addr},
        num::NonZeroU32,
    };

    fn arrivals(per_second: u32, burst: u32) -> Arrivals {
        let number = |n| NonZeroU32::new(n).unwrap();
        Arrivals::new(Some(Knocks { per_second: number(per_second), burst: number(burst) }))
    }

    fn at(ms: u64) -> Moment {
        Moment { mono_us: ms * 1000, wall_us: 0 }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn nth(n: usize) -> IpAddr {
        Ipv4Addr::from(u32::try_from(n).unwrap()).into()
    }

    #[test]
    fn an_address_has_its_burst_and_then_its_rate_and_the_others_have_theirs() {
        let mut table = arrivals(10, 3);
        let taken = |table: &mut Arrivals, who: &str, ms| (0..10).filter(|_| table.admit(ip(who), at(ms))).count();
        assert_eq!(taken(&mut table, "10.0.0.1", 1000), 3);
        assert_eq!(taken(&mut table, "10.0.0.1", 1099), 0);
        assert_eq!(taken(&mut table, "10.0.0.1", 1100), 1);
        assert_eq!(taken(&mut table, "10.0.0.2", 1100), 3);
        assert_eq!(taken(&mut table, "10.0.0.1", 60_000), 3, "a silence fills no more than the burst");
    }

    #[test]
    fn an_ipv6_network_of_64_bits_and_a_mapped_address_are_one_address() {
        let mut table = arrivals(1, 1);
        assert!(table.admit(ip("fd00::1"), at(0)) && !table.admit(ip("fd00::ffff:2"), at(0)));
        assert!(table.admit(ip("fd00:0:0:1::1"), at(0)));
        assert!(table.admit(ip("10.0.0.1"), at(0)) && !table.admit(ip("::ffff:10.0.0.1"), at(0)));
    }

    #[test]
    fn without_a_limit_nobody_is_remembered() {
        let mut table = Arrivals::default();
        assert!((0..1000).all(|n| table.admit(nth(n), at(0))));
        assert_eq!(table.known(), 0);
    }

    #[test]
    fn strangers_at_a_full_table_share_one_bucket_and_the_known_keep_theirs() {
        let mut table = arrivals(1, 2);
        assert!((0..ENTRIES_MAX).all(|n| table.admit(nth(n), at(1000))));
        let strangers = (ENTRIES_MAX..2 * ENTRIES_MAX).filter(|n| table.admit(nth(*n), at(1000))).count();
        assert_eq!(strangers, 2, "a burst for all of them");
        let strangers = (0..1000_u128).filter(|n| table.admit(Ipv6Addr::from(n << 64).into(), at(1000))).count();
        assert_eq!((strangers, table.known()), (0, ENTRIES_MAX), "no memory is to be had");
        assert!(table.admit(nth(0), at(1000)), "whoever is known has what is left of its own");
        assert!(!table.admit(nth(0), at(1000)));
        // Their buckets are full again, so they are forgotten.
        assert!(table.admit(nth(ENTRIES_MAX), at(4000)));
        assert_eq!(table.known(), 1);
    }

    #[test]
    fn another_limit_begins_anew_and_the_same_one_does_not() {
        let mut table = arrivals(1, 1);
        assert!(table.admit(nth(1), at(0)));
        table.configure(arrivals(1, 1).knocks);
        assert!(!table.admit(nth(1), at(0)));
        table.configure(arrivals(2, 1).knocks);
        assert!(table.admit(nth(1), at(0)));
        table.configure(None);
        assert!((0..9).all(|_| table.admit(nth(1), at(0))));
    }
}
