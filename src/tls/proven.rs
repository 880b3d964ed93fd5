//! Client certificates that were found good a moment ago, so that the same bytes are not verified again.
//!
//! Verifying a chain costs as much as a third of a handshake, a resumed session is verified again, and so is every open connection
//! after a reload; and a service's clients show the same few chains all day. What the verdict rests on is the bytes of the
//! chain, the CAs, the lists, the serial numbers, and the time. The bytes are compared (by SHA-256), and so is the time; a
//! verifier with other CAs, lists or numbers is another one, with a memory of its own. That the client *has* the key of its
//! certificate is proven in every full handshake, whatever is remembered here.

use rustls::pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};
use x509_parser::prelude::{FromDer, X509Certificate};

/// How long a verdict is remembered at most, in seconds.
pub(super) const REMEMBERED_SECONDS: u64 = 300;

/// Most chains that are remembered.
const CHAINS_MAX: usize = 1024;

/// What is remembered of a verifier's verdicts. Only chains that were let through: nobody else fills it.
#[derive(Debug)]
pub(super) struct Proven {
    /// The last second in which the revocation lists say what they say.
    lists_until: u64,
    known: Mutex<HashMap<[u8; 32], Span>>,
}

/// From the second in which it was verified to the last in which the same must come out. Both count.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: u64,
    until: u64,
}

impl Span {
    const fn holds(self, now: u64) -> bool {
        self.from <= now && now <= self.until
    }
}

impl Proven {
    pub(super) fn new(lists_until: u64) -> Self {
        Self { lists_until, known: Mutex::default() }
    }

    /// What tells one chain from every other.
    pub(super) fn digest(leaf: &CertificateDer<'_>, above: &[CertificateDer<'_>]) -> [u8; 32] {
        let mut hash = Sha256::new();
        for each in std::iter::once(leaf).chain(above) {
            // Lengths, or bytes could wander from one certificate into the next unseen.
            hash.update(each.len().to_be_bytes());
            hash.update(each);
        }
        hash.finalize().into()
    }

    /// Whether this chain was verified, and would be now.
    pub(super) fn has(&self, digest: &[u8; 32], now: UnixTime) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(digest).is_some_and(|span| span.holds(now.as_secs()))
    }

    /// Remembers a chain that was verified now, by CAs of which none ends before `until`.
    pub(super) fn keep(
        &self,
        digest: [u8; 32],
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
        until: u64,
    ) {
        let from = now.as_secs();
        let mut until = until.min(self.lists_until).min(from.saturating_add(REMEMBERED_SECONDS));
        for each in std::iter::once(leaf).chain(above) {
            let Ok((_, certificate)) = X509Certificate::from_der(each) else { return };
            until = until.min(u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0));
        }
        let span = Span { from, until };
        if !span.holds(from) {
            return;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= CHAINS_MAX {
            known.retain(|_, span| span.holds(from));
        }
        if known.len() >= CHAINS_MAX {
            known.clear();
        }
        known.insert(digest, span);
    }
}

#[cfg(test)]
mod tests {
    use super::{CHAINS_MAX, Proven, REMEMBERED_SECONDS};
    use crate::tls::{
        pem,
        revocation::{Guard, RevokedSerial, Serials, Stage},
    };
    use certs_dev::{Leaf, Pki};
    use rustls::{
        DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
        client::danger::HandshakeSignatureValid,
        pki_types::{CertificateDer, UnixTime},
        server::danger::{ClientCertVerified, ClientCertVerifier},
    };
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, AtomicUsize, Ordering},
        },
        time::Duration,
    };

    fn second(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    /// A leaf and what is above it, and the last second of the leaf.
    fn chain() -> (Vec<CertificateDer<'static>>, u64) {
        let issued = Pki::new().unwrap().issue(&Leaf::client("app")).unwrap();
        let chain = pem::certificates(issued.chain.as_bytes()).unwrap();
        let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
        let until = u64::try_from(leaf.validity().not_after.timestamp()).unwrap();
        (chain, until)
    }

    fn keep(proven: &Proven, chain: &[CertificateDer<'_>], now: u64, until: u64) -> [u8; 32] {
        let (leaf, above) = chain.split_first().unwrap();
        let digest = Proven::digest(leaf, above);
        proven.keep(digest, leaf, above, second(now), until);
        digest
    }

    #[test]
    fn a_verdict_holds_from_its_second_until_the_first_thing_it_rests_on_ends() {
        let (chain, end) = chain();
        let now = end - 100_000;
        let far = u64::MAX;
        // What ends first: nothing soon, a CA, a list, the leaf itself.
        for (case, lists, authority, now, last) in [
            ("the time that is remembered", far, far, now, now + REMEMBERED_SECONDS),
            ("a CA", far, now + 7, now, now + 7),
            ("a list", now + 8, far, now, now + 8),
            ("the certificate", far, far, end - 9, end),
            ("all but a moment", far, now, now, now),
        ] {
            let proven = Proven::new(lists);
            let digest = keep(&proven, &chain, now, authority);
            for (at, held) in [(now - 1, false), (now, true), (last, true), (last + 1, false)] {
                assert_eq!(proven.has(&digest, second(at)), held, "{case}, at {at}, verified at {now}, until {last}");
            }
        }
    }

    #[test]
    fn what_has_ended_already_is_not_remembered() {
        let (chain, end) = chain();
        for (lists, authority, now) in
            [(end - 11, u64::MAX, end - 10), (u64::MAX, end - 11, end - 10), (u64::MAX, u64::MAX, end + 1)]
        {
            let proven = Proven::new(lists);
            let digest = keep(&proven, &chain, now, authority);
            assert!(!proven.has(&digest, second(now)) && proven.known.lock().unwrap().is_empty());
        }
    }

    #[test]
    fn every_byte_and_every_border_counts() {
        let (chain, _) = chain();
        let leaf = &chain[0];
        let digest = Proven::digest(leaf, &[]);
        for at in 0..leaf.len() {
            let mut other = leaf.to_vec();
            other[at] ^= 1;
            assert_ne!(Proven::digest(&CertificateDer::from(other), &[]), digest);
        }
        let [a, b, ab, none] = [&b"a"[..], b"b", b"ab", b""].map(CertificateDer::from);
        let mut seen = vec![digest];
        for (leaf, above) in [
            (&ab, vec![]),
            (&a, vec![b.clone()]),
            (&b, vec![a.clone()]),
            (&ab, vec![none.clone()]),
            (&none, vec![ab.clone()]),
        ] {
            seen.push(Proven::digest(leaf, &above));
        }
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }

    #[test]
    fn many_chains_take_no_more_room_than_their_bound() {
        let (chain, end) = chain();
        let (proven, now) = (Proven::new(u64::MAX), end - 100_000);
        for number in 0..3 * CHAINS_MAX as u64 {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&number.to_be_bytes());
            proven.keep(digest, &chain[0], &[], second(now + number), u64::MAX);
            assert!(proven.has(&digest, second(now + number)), "the newest is known");
            assert!(proven.known.lock().unwrap().len() <= CHAINS_MAX);
        }
    }

    /// Lets everybody in, or nobody, and counts.
    #[derive(Debug, Default)]
    struct Clerk {
        asked: AtomicUsize,
        refuses: AtomicBool,
    }

    impl ClientCertVerifier for Clerk {
        fn root_hint_subjects(&self) -> &[DistinguishedName] {
            &[]
        }

        fn verify_client_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: UnixTime,
        ) -> Result<ClientCertVerified, Error> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if self.refuses.load(Ordering::Relaxed) {
                return Err(Error::General("refused".to_owned()));
            }
            Ok(ClientCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::General("not asked".to_owned()))
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::General("not asked".to_owned()))
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            Vec::new()
        }
    }

    #[test]
    fn a_guard_asks_once_for_a_chain_it_let_in_and_every_time_for_one_it_did_not() {
        let (chain, end) = chain();
        let now = end - 100_000;
        let clerk = Arc::new(Clerk::default());
        let stages = |clerk: &Arc<Clerk>| -> Vec<Stage> { vec![(u64::MAX, Arc::<Clerk>::clone(clerk))] };
        let guard = Guard::new(stages(&clerk), Serials::default(), now + 50).unwrap();
        let ask = |guard: &Guard, at| guard.verify_client_cert(&chain[0], &chain[1..], second(at)).is_ok();
        let asked = || clerk.asked.load(Ordering::Relaxed);
        clerk.refuses.store(true, Ordering::Relaxed);
        assert!(!ask(&guard, now) && !ask(&guard, now));
        assert_eq!(asked(), 2, "a refusal is not remembered");
        clerk.refuses.store(false, Ordering::Relaxed);
        assert!(ask(&guard, now));
        clerk.refuses.store(true, Ordering::Relaxed);
        assert!(ask(&guard, now) && ask(&guard, now + 50));
        assert_eq!(asked(), 3, "nor is anybody asked again for what was let in");
        assert!(!ask(&guard, now + 51), "a list has ended");
        assert!(!ask(&guard, now - 1), "the clock went back to before it was verified");
        assert!(guard.verify_client_cert(&chain[0], &chain[..1], second(now)).is_err(), "another chain");
        assert_eq!(asked(), 6);

        // A number that is revoked is refused however often the rest is sound.
        clerk.refuses.store(false, Ordering::Relaxed);
        let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
        let listed = RevokedSerial::new(&leaf.raw_serial_as_string(), None).unwrap();
        let guard = Guard::new(stages(&clerk), Serials::new(&[listed]), u64::MAX).unwrap();
        assert!(!ask(&guard, now) && !ask(&guard, now));
        assert_eq!(asked(), 8);
    }
}
