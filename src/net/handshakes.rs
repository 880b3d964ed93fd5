//! The places of handshakes that are under way, over all workers: who has one, and who waits
//! ([`crate::policy::turnstile`]).

use crate::policy::turnstile::{Entry, Turnstile};
use std::{
    net::IpAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;

/// All places.
#[derive(Debug)]
pub struct Handshakes(Mutex<Turnstile<oneshot::Sender<()>>>);

/// One place, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    of: Arc<Handshakes>,
    address: IpAddr,
}

/// One who waits; who gives up leaves no place behind.
struct Waiting<'h> {
    of: &'h Arc<Handshakes>,
    address: IpAddr,
    order: u64,
    told: oneshot::Receiver<()>,
    /// It has been told, or has had to give way.
    over: bool,
}

impl Handshakes {
    /// So many places, and so many who may wait.
    #[must_use]
    pub fn new(places: NonZeroU32, queue_max: u32) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Turnstile::new(places, queue_max))))
    }

    /// Other bounds, from now on.
    pub fn configure(&self, places: NonZeroU32, queue_max: u32) {
        self.turnstile().configure(places, queue_max);
        self.call();
    }

    /// A place for a handshake with this address, as soon as there is one; `None` if the queue is full, or becomes so.
    pub(super) async fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let (tell, told) = oneshot::channel();
        let entry = self.turnstile().enter(address, tell);
        match entry {
            Entry::Taken => Some(Place { of: Arc::clone(self), address }),
            // Dropping what the one who gives way left here tells him.
            Entry::Waits(order, displaced) => {
                drop(displaced);
                let mut waiting = Waiting { of: self, address, order, told, over: false };
                let taken = (&mut waiting.told).await.is_ok();
                // From here on the place gives itself back.
                waiting.over = true;
                taken.then(|| Place { of: Arc::clone(self), address })
            }
            Entry::Full => None,
        }
    }

    /// Places taken, and how many wait.
    #[must_use]
    pub fn count(&self) -> (u32, u32) {
        self.turnstile().count()
    }

    fn leave(&self, address: IpAddr) {
        self.turnstile().leave(address);
        self.call();
    }

    /// Tells those for whom there is a place now.
    fn call(&self) {
        loop {
            let next = self.turnstile().call();
            let Some((address, tell)) = next else { return };
            // Who has gone at this very moment had the place without knowing.
            if tell.send(()).is_err() {
                self.turnstile().leave(address);
            }
        }
    }

    fn turnstile(&self) -> MutexGuard<'_, Turnstile<oneshot::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.leave(self.address);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let waited = self.of.turnstile().give_up(self.address, self.order).is_some();
        // Told, and gone before it could look: the place is its to give back.
        if !waited && self.told.try_recv().is_ok() {
            self.of.leave(self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Handshakes;
    use std::{num::NonZeroU32, time::Duration};
    use tokio::time::timeout;

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(test);
    }

    #[test]
    fn a_place_goes_from_one_to_the_next_and_back() {
        run(async {
            let one = "10.0.0.1".parse().unwrap();
            let all = Handshakes::new(NonZeroU32::MIN, 1);
            let first = all.enter(one).await.unwrap();
            let mut second = Box::pin(all.enter(one));
            assert!(timeout(Duration::ZERO, &mut second).await.is_err());
            assert!(all.enter(one).await.is_none(), "the queue is full");
            drop(first);
            assert_eq!(all.count(), (1, 0));
            let second = second.await.unwrap();
            drop(second);
            assert_eq!(all.count(), (0, 0));
        });
    }

    #[test]
    fn who_gives_up_loses_no_place_whether_told_or_not() {
        run(async {
            let one = "10.0.0.1".parse().unwrap();
            let all = Handshakes::new(NonZeroU32::MIN, 9);
            let first = all.enter(one).await.unwrap();
            let mut waits: Vec<_> = (0..3).map(|_| Box::pin(all.enter(one))).collect();
            for each in &mut waits {
                assert!(timeout(Duration::ZERO, each).await.is_err());
            }
            drop(waits.remove(1));
            assert_eq!(all.count(), (1, 2));
            drop(first);
            // The oldest has the place, and goes before it has looked.
            drop(waits.remove(0));
            assert_eq!(all.count(), (1, 0));
            drop(waits.remove(0).await.unwrap());
            assert_eq!(all.count(), (0, 0));
        });
    }
}
