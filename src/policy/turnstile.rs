//! How many handshakes there are at once, and who is next.
//!
//! A handshake takes memory and a millisecond of a processor before it is known who asks for it. So only so many are under
//! way at once; whoever comes later waits, up to a bound, and whoever comes to a full queue is sent away.
//!
//! Everybody is counted by address (an IPv6 one for its /64), so that one address that floods is in its own way first:
//!
//! * the next place goes to the address that holds the fewest, and among those to whoever has waited longest;
//! * one address holds at most three quarters of the places, so that another one finds a place at once;
//! * an address that has nobody in a full queue takes the place of the newest of the address that has the most there.
//!
//! Pure: the shell holds one of these behind a lock, and tells those who wait by what they left here (`T`).

use super::network::host;
use std::{
    cmp::Reverse,
    collections::{HashMap, VecDeque},
    net::IpAddr,
    num::NonZeroU32,
};

/// The places, who holds them and who waits.
#[derive(Debug)]
pub struct Turnstile<T> {
    places: u32,
    queue_max: u32,
    taken: u32,
    /// Entries are removed when they are empty, here and below: no larger than what is under way.
    held: HashMap<IpAddr, u32>,
    /// Never an empty queue.
    waiting: HashMap<IpAddr, VecDeque<(u64, T)>>,
    waiters: u32,
    order: u64,
}

/// What becomes of one who comes.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry<T> {
    /// The place is his.
    Taken,
    /// He waits, under this number; whoever is here had to give way.
    Waits(u64, Option<T>),
    /// The queue is full.
    Full,
}

impl<T> Turnstile<T> {
    /// So many places, and so many who may wait.
    #[must_use]
    pub fn new(places: NonZeroU32, queue_max: u32) -> Self {
        Self {
            places: places.get(),
            queue_max,
            taken: 0,
            held: HashMap::new(),
            waiting: HashMap::new(),
            waiters: 0,
            order: 0,
        }
    }

    /// Other bounds; whoever is in stays in.
    pub const fn configure(&mut self, places: NonZeroU32, queue_max: u32) {
        self.places = places.get();
        self.queue_max = queue_max;
    }

    /// One who comes from this address.
    pub fn enter(&mut self, address: IpAddr, tell: T) -> Entry<T> {
        let address = host(address);
        // With a place free, whoever waits has as many as he may.
        if self.taken < self.places && self.may_hold_one_more(address) {
            self.take(address);
            return Entry::Taken;
        }
        let displaced = if self.waiters < self.queue_max {
            None
        } else {
            match self.give_way(address) {
                Some(tell) => Some(tell),
                None => return Entry::Full,
            }
        };
        self.order = self.order.saturating_add(1);
        self.waiters = self.waiters.saturating_add(1);
        self.waiting.entry(address).or_default().push_back((self.order, tell));
        Entry::Waits(self.order, displaced)
    }

    /// A place is given back by this address; whoever is returned has it now.
    pub fn leave(&mut self, address: IpAddr) -> Option<(IpAddr, T)> {
        let address = host(address);
        self.taken = self.taken.saturating_sub(1);
        if let Some(held) = self.held.get_mut(&address) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.held.remove(&address);
            }
        }
        if self.taken >= self.places {
            return None;
        }
        let may = self.waiting.iter().filter(|(address, _)| self.may_hold_one_more(**address));
        let next = may.min_by_key(|(address, queue)| {
            (self.held.get(*address).copied().unwrap_or(0), queue.front().map_or(u64::MAX, |(order, _)| *order))
        });
        let address = next.map(|(address, _)| *address)?;
        let (_, tell) = self.remove(address, |queue| queue.pop_front())?;
        self.take(address);
        Some((address, tell))
    }

    /// One who waited under this number waits no more; nothing if he has his place already.
    pub fn give_up(&mut self, address: IpAddr, order: u64) -> Option<T> {
        let found = self.remove(host(address), |queue| {
            let at = queue.iter().position(|(number, _)| *number == order)?;
            queue.remove(at)
        });
        found.map(|(_, tell)| tell)
    }

    /// Places taken, and how many wait.
    #[must_use]
    pub const fn count(&self) -> (u32, u32) {
        (self.taken, self.waiters)
    }

    fn may_hold_one_more(&self, address: IpAddr) -> bool {
        let share = self.places.saturating_sub(self.places / 4);
        self.held.get(&address).copied().unwrap_or(0) < share
    }

    fn take(&mut self, address: IpAddr) {
        self.taken = self.taken.saturating_add(1);
        let held = self.held.entry(address).or_default();
        *held = held.saturating_add(1);
    }

    /// The newest of the address that has the most waiting, if that is more than one and `address` has none.
    fn give_way(&mut self, address: IpAddr) -> Option<T> {
        if self.waiting.contains_key(&address) {
            return None;
        }
        let most = self.waiting.iter().max_by_key(|(address, queue)| (queue.len(), Reverse(**address)));
        let (most, _) = most.filter(|(_, queue)| queue.len() > 1)?;
        let (_, tell) = self.remove(*most, |queue| queue.pop_back())?;
        Some(tell)
    }

    fn remove(
        &mut self,
        address: IpAddr,
        pick: impl FnOnce(&mut VecDeque<(u64, T)>) -> Option<(u64, T)>,
    ) -> Option<(u64, T)> {
        let queue = self.waiting.get_mut(&address)?;
        let picked = pick(queue)?;
        if queue.is_empty() {
            self.waiting.remove(&address);
        }
        self.waiters = self.waiters.saturating_sub(1);
        Some(picked)
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, Turnstile};
    use proptest::prelude::*;
    use std::{
        collections::HashMap,
        net::{IpAddr, Ipv4Addr},
        num::NonZeroU32,
    };

    fn turnstile(places: u32, queue: u32) -> Turnstile<u32> {
        Turnstile::new(NonZeroU32::new(places).unwrap(), queue)
    }

    fn nth(n: u32) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + n).into()
    }

    #[test]
    fn places_are_taken_then_waited_for_then_refused() {
        let mut door = turnstile(2, 1);
        assert_eq!(door.enter(nth(1), 1), Entry::Taken);
        assert_eq!(door.enter(nth(2), 2), Entry::Taken);
        assert_eq!(door.enter(nth(3), 3), Entry::Waits(1, None));
        assert_eq!(door.enter(nth(4), 4), Entry::Full, "nobody has more than one waiting");
        assert_eq!(door.leave(nth(1)), Some((nth(3), 3)));
        assert_eq!((door.leave(nth(2)), door.leave(nth(3)), door.count()), (None, None, (0, 0)));
        assert!(door.held.is_empty() && door.waiting.is_empty(), "nothing is remembered of who is gone");
    }

    #[test]
    fn an_address_that_floods_leaves_a_quarter_and_the_next_place_to_others() {
        let mut door = turnstile(4, 10);
        let taken = (0..13).filter(|n| door.enter(nth(1), *n) == Entry::Taken).count();
        assert_eq!((taken, door.count()), (3, (3, 10)));
        assert_eq!(door.enter(nth(1), 99), Entry::Full);
        assert_eq!(door.enter(nth(2), 20), Entry::Taken, "the last quarter is for others");
        let Entry::Waits(_, displaced) = door.enter(nth(3), 30) else { panic!() };
        assert_eq!(displaced, Some(12), "the newest of who has most gives way");
        assert_eq!(door.leave(nth(1)), Some((nth(3), 30)), "who holds nothing is next");
        assert_eq!(door.leave(nth(3)), Some((nth(1), 3)), "then who has waited longest");
    }

    #[test]
    fn one_who_gives_up_is_not_waited_for() {
        let mut door = turnstile(1, 10);
        assert_eq!(door.enter(nth(1), 1), Entry::Taken);
        assert_eq!((door.enter(nth(2), 2), door.enter(nth(2), 3)), (Entry::Waits(1, None), Entry::Waits(2, None)));
        assert_eq!(door.give_up(nth(2), 1), Some(2));
        assert_eq!(door.give_up(nth(2), 1), None);
        assert_eq!(door.leave(nth(1)), Some((nth(2), 3)));
        assert_eq!(door.give_up(nth(2), 2), None, "he has his place");
    }

    #[test]
    fn fewer_places_are_reached_as_they_are_given_back() {
        let mut door = turnstile(3, 10);
        for n in 0..3 {
            assert_eq!(door.enter(nth(n), n), Entry::Taken);
        }
        assert!(matches!(door.enter(nth(9), 9), Entry::Waits(..)));
        door.configure(NonZeroU32::new(1).unwrap(), 0);
        assert_eq!((door.leave(nth(0)), door.leave(nth(1))), (None, None));
        assert_eq!(door.leave(nth(2)), Some((nth(9), 9)));
    }

    proptest! {
        /// Places and queue keep to their bounds, nobody is lost, and no place stays free that somebody could have.
        #[test]
        fn whoever_comes_and_goes_is_counted(
            places in 1_u32..9,
            queue in 0_u32..9,
            steps in proptest::collection::vec((0_u32..4, 0_u8..3, any::<prop::sample::Index>()), 1..200),
        ) {
            let mut door = turnstile(places, queue);
            let (mut inside, mut outside): (Vec<u32>, HashMap<u32, (u32, u64)>) = (Vec::new(), HashMap::new());
            for (at, (who, what, index)) in steps.into_iter().enumerate() {
                let name = u32::try_from(at).unwrap();
                match what {
                    0 | 1 => match door.enter(nth(who), name) {
                        Entry::Taken => inside.push(who),
                        Entry::Waits(order, displaced) => {
                            if let Some(displaced) = displaced {
                                prop_assert!(outside.remove(&displaced).is_some());
                            }
                            outside.insert(name, (who, order));
                        }
                        Entry::Full => prop_assert_eq!(outside.len(), queue as usize),
                    },
                    _ if !inside.is_empty() => {
                        let gone = inside.swap_remove(index.index(inside.len()));
                        if let Some((address, name)) = door.leave(nth(gone)) {
                            let (who, _) = outside.remove(&name).unwrap();
                            prop_assert_eq!(address, nth(who));
                            inside.push(who);
                        }
                    }
                    _ => {
                        let one = outside.iter().next().map(|(name, (who, order))| (*name, *who, *order));
                        if let Some((name, who, order)) = one {
                            prop_assert_eq!(door.give_up(nth(who), order), Some(name));
                            outside.remove(&name);
                        }
                    }
                }
                prop_assert_eq!(door.count(), (u32::try_from(inside.len()).unwrap(), u32::try_from(outside.len()).unwrap()));
                prop_assert!(inside.len() <= places as usize && outside.len() <= queue as usize);
                let share = places - places / 4;
                for (who, _) in outside.values().filter(|_| inside.len() < places as usize) {
                    let held = inside.iter().filter(|held| *held == who).count();
                    prop_assert!(held >= share as usize, "a place is free and {} waits", who);
                }
            }
        }
    }
}
