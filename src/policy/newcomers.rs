//! Who was accepted and has not begun its handshake, and who of them gives way when there is no room for one more.
//!
//! Such a connection costs nothing but its place, and whoever has many addresses can take all places with connections that
//! say nothing, again and again. Somebody has to be sent away then, and whoever comes last is the wrong one: at a full house
//! the oldest newcomer of the address that has the most of them gives way to one of an address that has at least two fewer. So
//! as long as there are more places than addresses that attack, somebody else finds one. Whoever has begun its handshake is
//! under the rules of [`super::turnstile`], and whoever is in stays in.
//!
//! Pure: the shell holds one of these behind a lock, and tells those who give way by what they left here (`T`).

use super::network::host;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

/// Those who came, by address (an IPv6 one by its /64), the oldest first.
#[derive(Debug)]
pub struct Newcomers<T> {
    /// Entries are removed when they are empty: no larger than the number of connections.
    by_address: HashMap<IpAddr, BTreeMap<u64, T>>,
    next: u64,
}

impl<T> Default for Newcomers<T> {
    fn default() -> Self {
        Self { by_address: HashMap::new(), next: 0 }
    }
}

impl<T> Newcomers<T> {
    /// One more from this address; its number.
    pub fn enter(&mut self, address: IpAddr, tell: T) -> u64 {
        self.next = self.next.wrapping_add(1);
        self.by_address.entry(host(address)).or_default().insert(self.next, tell);
        self.next
    }

    /// It is one no more; nothing if it has given way.
    pub fn leave(&mut self, address: IpAddr, number: u64) -> Option<T> {
        self.remove(host(address), |queue| queue.remove(&number))
    }

    /// Who gives way to one more from this address, if anybody does.
    pub fn oust_for(&mut self, address: IpAddr) -> Option<T> {
        let own = self.by_address.get(&host(address)).map_or(0, BTreeMap::len);
        let most = self.by_address.iter().max_by_key(|(address, queue)| (queue.len(), Reverse(**address)));
        let (most, _) = most.filter(|(_, queue)| queue.len() >= own.saturating_add(2))?;
        self.remove(*most, |queue| queue.pop_first().map(|(_, tell)| tell))
    }

    fn remove(&mut self, address: IpAddr, pick: impl FnOnce(&mut BTreeMap<u64, T>) -> Option<T>) -> Option<T> {
        let queue = self.by_address.get_mut(&address)?;
        let picked = pick(queue)?;
        if queue.is_empty() {
            self.by_address.remove(&address);
        }
        Some(picked)
    }
}

#[cfg(test)]
mod tests {
    use super::Newcomers;
    use std::net::{IpAddr, Ipv4Addr};

    fn nth(n: u32) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + n).into()
    }

    #[test]
    fn the_oldest_of_the_address_with_the_most_gives_way_to_one_with_fewer() {
        let mut all = Newcomers::default();
        let numbers: Vec<u64> = (0..3).map(|n| all.enter(nth(1), n)).collect();
        let others: Vec<u64> = (20..22).map(|n| all.enter(nth(2), n)).collect();
        assert_eq!(all.oust_for(nth(1)), None, "nobody makes room for himself");
        assert_eq!(all.oust_for(nth(2)), None, "then it would have more than who made room");
        assert_eq!(all.oust_for(nth(3)), Some(0));
        assert_eq!(all.leave(nth(1), numbers[0]), None, "it has given way");
        assert_eq!(all.leave(nth(1), numbers[2]), Some(2));
        assert_eq!(all.leave(nth(1), numbers[1]), Some(1));
        assert_eq!((all.leave(nth(2), others[0]), all.leave(nth(2), others[1])), (Some(20), Some(21)));
        assert!(all.by_address.is_empty(), "nothing is remembered of who is gone");
    }

    #[test]
    fn an_ipv6_network_of_64_bits_is_one_address() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut all = Newcomers::default();
        for n in 0..3 {
            all.enter(ip(&format!("fd00::{n}")), n);
        }
        assert_eq!(all.oust_for(ip("fd00::9")), None);
        assert_eq!(all.oust_for(ip("fd00:0:0:1::9")), Some(0));
    }

    /// However many come from a few addresses, one that has none has a place, and those who have one each are left alone.
    #[test]
    fn fewer_addresses_than_places_never_keep_another_out() {
        const PLACES: u32 = 20;
        let mut all = Newcomers::default();
        let mut inside = 0;
        for n in 0..500 {
            let address = nth(n % (PLACES - 1));
            if inside < PLACES {
                inside += 1;
            } else if all.oust_for(address).is_none() {
                continue;
            }
            all.enter(address, n);
        }
        assert!(all.oust_for(nth(999)).is_some());
        all.enter(nth(999), 999);
        assert_eq!(all.oust_for(nth(998)), None, "now each address has one");
    }
}
