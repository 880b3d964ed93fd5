//! How many handshakes there are at once, and who is next.
//!
//! A handshake takes memory and a millisecond of a processor before it is known who asks for it. So only so many are under
//! way at once; whoever comes later waits, up to a bound, and whoever comes to a full queue is sent away.
//!
//! Everybody is counted by address (an IPv6 one for its /64), so that one address that floods is in its own way first:
//!
//! * the next place goes to the address that holds the fewest, and among those to whoever has waited longest;
//! * the first half of the places is for whoever comes; of the rest an address has one, and only while it holds none. So
//!   one address holds at most half, and as long as no more addresses hold places than half their number, whoever holds
//!   none finds one at once: many who stand still together do not fill them;
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
        if self.may_hold_one_more(address) {
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

    /// A place is given back by this address. [`Turnstile::call`] says who has one because of it.
    pub fn leave(&mut self, address: IpAddr) {
        let address = host(address);
        self.taken = self.taken.saturating_sub(1);
        if let Some(held) = self.held.get_mut(&address) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.held.remove(&address);
            }
        }
    }

    /// One of those who wait, if there is a place for him: it is his now. To be asked until there is none, whenever places
    /// were given back or made: one that comes free may let several in, who had as many as they might before.
    pub fn call(&mut self) -> Option<(IpAddr, T)> {
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
        let free = self.places.saturating_sub(self.taken);
        free > self.places / 2 || (free > 0 && !self.held.contains_key(&address))
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
        assert_eq!(left(&mut door, 1), [(nth(3), 3)]);
        assert_eq!((left(&mut door, 2), left(&mut door, 3), door.count()), (vec![], vec![], (0, 0)));
        assert!(door.held.is_empty() && door.waiting.is_empty(), "nothing is remembered of who is gone");
    }

    /// Who has a place because this one left.
    fn left(door: &mut Turnstile<u32>, who: u32) -> Vec<(IpAddr, u32)> {
        door.leave(nth(who));
        std::iter::from_fn(|| door.call()).collect()
    }

    #[test]
    fn an_address_that_floods_leaves_half_and_the_next_place_to_others() {
        let mut door = turnstile(4, 10);
        let taken = (0..12).filter(|n| door.enter(nth(1), *n) == Entry::Taken).count();
        assert_eq!((taken, door.count()), (2, (2, 10)));
        assert_eq!(door.enter(nth(1), 99), Entry::Full);
        assert_eq!(door.enter(nth(2), 20), Entry::Taken, "the second half is for others");
        let Entry::Waits(_, displaced) = door.enter(nth(2), 21) else { panic!() };
        assert_eq!(displaced, Some(11), "the newest of who has most gives way; one of it an address");
        assert_eq!(door.enter(nth(3), 30), Entry::Taken);
        let Entry::Waits(_, displaced) = door.enter(nth(4), 40) else { panic!() };
        assert_eq!(displaced, Some(10));
        assert_eq!(left(&mut door, 1), [(nth(4), 40)], "who holds nothing is next");
        assert_eq!(left(&mut door, 4), [], "and nobody has a second of the second half");
        assert_eq!(left(&mut door, 3), []);
        assert_eq!(left(&mut door, 2), [(nth(2), 21)]);
        assert_eq!(left(&mut door, 1), [(nth(1), 2)], "then who has waited longest");
    }

    #[test]
    fn many_addresses_that_stand_still_together_leave_a_place_for_one_that_holds_none() {
        let mut door = turnstile(16, 100);
        // One after the other as many as it can.
        for who in 0..8 {
            while door.enter(nth(who), 0) == Entry::Taken {}
        }
        assert_eq!(door.enter(nth(99), 1), Entry::Taken);
        assert!(matches!(door.enter(nth(99), 2), Entry::Waits(..)), "in its turn: it holds one");
        assert_eq!(left(&mut door, 99), [(nth(99), 2)]);
    }

    #[test]
    fn more_places_let_in_who_waits() {
        let mut door = turnstile(1, 9);
        for n in 0..4 {
            door.enter(nth(n), n);
        }
        door.configure(NonZeroU32::new(3).unwrap(), 9);
        assert_eq!(std::iter::from_fn(|| door.call()).collect::<Vec<_>>(), [(nth(1), 1), (nth(2), 2)]);
    }

    #[test]
    fn one_who_gives_up_is_not_waited_for() {
        let mut door = turnstile(1, 10);
        assert_eq!(door.enter(nth(1), 1), Entry::Taken);
        assert_eq!((door.enter(nth(2), 2), door.enter(nth(2), 3)), (Entry::Waits(1, None), Entry::Waits(2, None)));
        assert_eq!(door.give_up(nth(2), 1), Some(2));
        assert_eq!(door.give_up(nth(2), 1), None);
        assert_eq!(left(&mut door, 1), [(nth(2), 3)]);
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
        assert_eq!((left(&mut door, 0), left(&mut door, 1)), (vec![], vec![]));
        assert_eq!(left(&mut door, 2), [(nth(9), 9)]);
    }

    proptest! {
        /// Places and queue keep to their bounds, nobody is lost, no place stays free that somebody could have, and few
        /// addresses never hold all.
        #[test]
        fn whoever_comes_and_goes_is_counted(
            places in 1_u32..9,
            queue in 0_u32..9,
            steps in proptest::collection::vec((0_u32..6, 0_u8..3, any::<prop::sample::Index>()), 1..200),
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
                        for (address, name) in left(&mut door, gone) {
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
                let (free, holds) = (places - door.count().0, |who: &u32| inside.contains(who));
                for (who, _) in outside.values().filter(|_| free > 0) {
                    prop_assert!(holds(who) && free <= places / 2, "a place is free and {} waits", who);
                }
                let holders = (0..6).filter(holds).count();
                prop_assert!(free > 0 || holders > places as usize / 2, "{} addresses hold all places", holders);
            }
        }
    }
}
