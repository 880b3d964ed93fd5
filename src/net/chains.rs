//! What the certificates of open connections were proven by, each kept once: a CRL that comes tomorrow may name any
//! certificate of a chain, and a thousand connections of one client have shown the same.

use rustls::pki_types::CertificateDer;
use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, PoisonError, Weak},
};

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
    chains: HashMap<u64, Vec<Weak<[CertificateDer<'static>]>>>,
    /// Entries since they were last gone through, and how many of them there may be.
    count: usize,
    count_max: usize,
}

impl Chains {
    /// The one copy of this chain.
    #[must_use]
    pub fn share(&self, chain: &[CertificateDer<'static>]) -> Chain {
        let hash = self.hasher.hash_one(chain.iter().map(AsRef::as_ref).collect::<Vec<&[u8]>>());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let alike = known.chains.get(&hash).into_iter().flatten().filter_map(Weak::upgrade);
        if let Some(same) = alike.into_iter().find(|each| **each == *chain) {
            return same;
        }
        known.prune();
        let own: Chain = chain.into();
        known.chains.entry(hash).or_default().push(Arc::downgrade(&own));
        known.count = known.count.saturating_add(1);
        own
    }
}

impl Known {
    /// Forgets what nobody has, once there are twice as many as after the last time: each entry pays for a constant
    /// number of looks.
    fn prune(&mut self) {
        if self.count < self.count_max.max(PRUNE_LEAST) {
            return;
        }
        self.chains.retain(|_, chains| {
            chains.retain(|chain| chain.strong_count() > 0);
            !chains.is_empty()
        });
        self.count = self.chains.values().map(Vec::len).sum();
        self.count_max = self.count.saturating_mul(2);
    }
}

#[cfg(test)]
mod tests {
    use super::{Chains, PRUNE_LEAST};
    use rustls::pki_types::CertificateDer;
    use std::sync::Arc;

    fn chain(certificates: &[&[u8]]) -> Vec<CertificateDer<'static>> {
        certificates.iter().map(|bytes| CertificateDer::from(bytes.to_vec())).collect()
    }

    #[test]
    fn connections_that_showed_the_same_chain_share_it_and_no_others() {
        let chains = Chains::default();
        let first = chains.share(&chain(&[b"leaf", b"ca"]));
        assert!(Arc::ptr_eq(&first, &chains.share(&chain(&[b"leaf", b"ca"]))));
        for other in [&[&b"leaf"[..]][..], &[b"leafca"], &[b"lea", b"fca"], &[b"ca", b"leaf"], &[]] {
            let shared = chains.share(&chain(other));
            assert!(!Arc::ptr_eq(&first, &shared));
            assert_eq!(*shared, *chain(other));
        }
    }

    #[test]
    fn what_nobody_has_any_more_is_forgotten_as_the_table_grows() {
        let chains = Chains::default();
        let kept = chains.share(&chain(&[b"kept"]));
        for number in 0..10 * PRUNE_LEAST {
            drop(chains.share(&chain(&[&number.to_be_bytes()])));
        }
        let left: usize = chains.known.lock().unwrap().chains.values().map(Vec::len).sum();
        assert!((1..=PRUNE_LEAST).contains(&left), "{left}");
        assert!(Arc::ptr_eq(&kept, &chains.share(&chain(&[b"kept"]))));
    }
}
