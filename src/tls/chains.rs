//! What the certificates of open connections were proven by, and what they say, each kept once: a CRL that comes tomorrow may
//! name any certificate of a chain, and a thousand connections of one client have shown the same.

use rustls::pki_types::CertificateDer;
use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use crate::policy::identity::Identity;

/// A peer's verified chain, leaf first.
pub type Chain = Arc<[CertificateDer<'static>]>;

/// The fewest entries at which those that nobody has any more are looked for.
const PRUNE_LEAST: usize = 64;

/// The chains of one service. One is forgotten with the last connection that has shown it.
#[derive(Debug, Default)]
pub struct Chains {
    known: Mutex<Known>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Known {
    /// By hash; what has the same is compared byte for byte.
    chains: HashMap<u64, Vec<Shown>>,
    /// Entries since they were last gone through, and how many of them there may be.
    count: usize,
    count_max: usize,
}

/// A chain, and what it says.
#[derive(Debug)]
struct Shown {
    chain: Weak<[CertificateDer<'static>]>,
    identity: Weak<Identity>,
}

impl Chains {
    /// The one copy of this chain, and of what it says; `read` is asked where no open connection has shown the same. It
    /// must depend on the chain alone.
    ///
    /// # Errors
    ///
    /// That of `read`: nothing is kept then.
    pub fn share<E>(
        &self,
        chain: &[CertificateDer<'static>],
        read: impl FnOnce(&[CertificateDer<'static>]) -> Result<Identity, E>,
    ) -> Result<(Chain, Arc<Identity>), E> {
        let hash = self.hasher.hash_one(chain.iter().map(AsRef::as_ref).collect::<Vec<&[u8]>>());
        if let Some(same) = self.lock().find(hash, chain) {
            return Ok(same);
        }
        // Not under the lock. Whoever was faster is found the next time; until then there are two.
        let identity = Arc::new(read(chain)?);
        let own: Chain = chain.into();
        let shown = Shown { chain: Arc::downgrade(&own), identity: Arc::downgrade(&identity) };
        let mut known = self.lock();
        known.prune();
        known.chains.entry(hash).or_default().push(shown);
        known.count = known.count.saturating_add(1);
        Ok((own, identity))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn find(&self, hash: u64, chain: &[CertificateDer<'static>]) -> Option<(Chain, Arc<Identity>)> {
        let both = |shown: &Shown| Some((shown.chain.upgrade()?, shown.identity.upgrade()?));
        self.chains.get(&hash)?.iter().filter_map(both).find(|(each, _)| **each == *chain)
    }

    /// Forgets what nobody has, once there are twice as many as after the last time: each entry pays for a constant
    /// number of looks.
    fn prune(&mut self) {
        if self.count < self.count_max.max(PRUNE_LEAST) {
            return;
        }
        self.chains.retain(|_, chains| {
            chains.retain(|shown| shown.chain.strong_count() > 0 && shown.identity.strong_count() > 0);
            !chains.is_empty()
        });
        self.count = self.chains.values().map(Vec::len).sum();
        self.count_max = self.count.saturating_mul(2);
    }
}

#[cfg(test)]
mod tests {
    use super::{Chain, Chains, PRUNE_LEAST};
    use crate::policy::identity::Identity;
    use rustls::pki_types::CertificateDer;
    use std::{cell::Cell, convert::Infallible, sync::Arc};

    fn chain(certificates: &[&[u8]]) -> Vec<CertificateDer<'static>> {
        certificates.iter().map(|bytes| CertificateDer::from(bytes.to_vec())).collect()
    }

    fn share(chains: &Chains, certificates: &[&[u8]]) -> (Chain, Arc<Identity>) {
        let read = |chain: &[CertificateDer<'_>]| {
            let serial = format!("{chain:?}");
            Ok::<_, Infallible>(Identity { serial, ..Identity::default() })
        };
        let Ok(both) = chains.share(&chain(certificates), read);
        both
    }

    #[test]
    fn connections_that_showed_the_same_chain_share_it_and_no_others() {
        let chains = Chains::default();
        let first = share(&chains, &[b"leaf", b"ca"]);
        let again = share(&chains, &[b"leaf", b"ca"]);
        assert!(Arc::ptr_eq(&first.0, &again.0) && Arc::ptr_eq(&first.1, &again.1));
        for other in [&[&b"leaf"[..]][..], &[b"leafca"], &[b"lea", b"fca"], &[b"ca", b"leaf"], &[]] {
            let shared = share(&chains, other);
            assert!(!Arc::ptr_eq(&first.0, &shared.0));
            assert_eq!(*shared.0, *chain(other));
            assert_eq!(shared.1.serial, format!("{:?}", chain(other)), "what this chain says");
        }
    }

    #[test]
    fn what_a_chain_says_is_read_once_while_somebody_has_it() {
        let (chains, asked) = (Chains::default(), Cell::new(0));
        let share = || {
            let Ok(both) = chains.share(&chain(&[b"leaf"]), |_| {
                asked.set(asked.get() + 1);
                Ok::<_, Infallible>(Identity::default())
            });
            both
        };
        let (first, second) = (share(), share());
        assert_eq!(asked.get(), 1);
        drop((first, second));
        let third = share();
        assert_eq!(asked.get(), 2);
        // Somebody may hold the one without the other.
        let (kept, gone) = third;
        drop(gone);
        let (_, _) = share();
        assert_eq!((asked.get(), kept.len()), (3, 1));
    }

    #[test]
    fn a_chain_that_says_nothing_sound_is_not_kept() {
        let chains = Chains::default();
        for _ in 0..2 {
            assert_eq!(chains.share(&chain(&[b"leaf"]), |_| Err::<Identity, _>("bad")).unwrap_err(), "bad");
        }
        assert!(chains.lock().chains.is_empty());
    }

    #[test]
    fn what_nobody_has_any_more_is_forgotten_as_the_table_grows() {
        let chains = Chains::default();
        let kept = share(&chains, &[b"kept"]);
        for number in 0..10 * PRUNE_LEAST {
            drop(share(&chains, &[&number.to_be_bytes()]));
        }
        let left: usize = chains.lock().chains.values().map(Vec::len).sum();
        assert!((1..=PRUNE_LEAST).contains(&left), "{left}");
        assert!(Arc::ptr_eq(&kept.0, &share(&chains, &[b"kept"]).0));
    }
}
