//! Host names to addresses.
//!
//! The system's resolver blocks, so it runs on a thread of its own (tokio's), never on a worker's. One question at a time
//! is on its way for a name, whoever waits for it; an answer serves for [`FRESH`], so that a thousand clients who come back
//! together ask once. A resolver that fails leaves the last answer in use: whoever is found there must prove who it is.

use std::{
    io,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// How long an answer is good for. The resolver does not say how long the name server meant it to be.
pub const FRESH: Duration = Duration::from_secs(5);

/// Most addresses of one name that are tried.
pub const ADDRESSES_MAX: usize = 8;

/// What is known of one name.
#[derive(Debug, Default)]
pub struct Resolver {
    known: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
    asking: tokio::sync::Mutex<()>,
}

impl Resolver {
    /// The addresses of `name`, in the resolver's order; at least one. The deadline is the caller's: drop the future.
    ///
    /// # Errors
    ///
    /// The resolver's, if there is no earlier answer.
    pub async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let ask = || async {
            let found = tokio::net::lookup_host((name, port)).await?;
            Ok(found.take(ADDRESSES_MAX).collect())
        };
        self.resolve_with(Instant::now, ask).await
    }

    async fn resolve_with<A: Future<Output = io::Result<Vec<SocketAddr>>>>(
        &self,
        now: impl Fn() -> Instant,
        ask: impl FnOnce() -> A,
    ) -> io::Result<Vec<SocketAddr>> {
        if let Some(found) = self.fresh(now()) {
            return Ok(found);
        }
        let _turn = self.asking.lock().await;
        // Whoever had the turn before may have been answered.
        if let Some(found) = self.fresh(now()) {
            return Ok(found);
        }
        match ask().await {
            Ok(found) if !found.is_empty() => {
                *self.known() = Some((now(), found.clone()));
                Ok(found)
            }
            failed => {
                let error = failed.err().unwrap_or_else(|| io::Error::other("the name has no address"));
                let earlier = self.known().as_ref().map(|(_, found)| found.clone());
                earlier.ok_or(error)
            }
        }
    }

    fn fresh(&self, now: Instant) -> Option<Vec<SocketAddr>> {
        let known = self.known();
        let (at, found) = known.as_ref()?;
        (now.saturating_duration_since(*at) < FRESH).then(|| found.clone())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Option<(Instant, Vec<SocketAddr>)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{FRESH, Resolver};
    use std::{cell::Cell, io, net::SocketAddr, time::Duration};
    use tokio::time::Instant;

    fn at(port: u16) -> Vec<SocketAddr> {
        vec![SocketAddr::from(([127, 0, 0, 1], port))]
    }

    #[tokio::test]
    async fn those_who_wait_together_ask_once_and_an_answer_ages() {
        let (resolver, asked, now) = (Resolver::default(), Cell::new(0), Cell::new(Instant::now()));
        let (asked, now) = (&asked, &now);
        let ask = move || async move {
            asked.set(asked.get() + 1);
            tokio::task::yield_now().await;
            Ok(at(asked.get()))
        };
        let clock = || now.get();
        let (one, two) = tokio::join!(resolver.resolve_with(clock, ask), resolver.resolve_with(clock, ask));
        assert_eq!((one.unwrap(), two.unwrap(), asked.get()), (at(1), at(1), 1));
        now.set(now.get() + FRESH - Duration::from_millis(1));
        assert_eq!(resolver.resolve_with(clock, ask).await.unwrap(), at(1));
        now.set(now.get() + Duration::from_millis(1));
        assert_eq!(resolver.resolve_with(clock, ask).await.unwrap(), at(2));
    }

    #[tokio::test]
    async fn a_resolver_that_fails_leaves_the_last_answer_in_use() {
        let (resolver, now) = (Resolver::default(), Cell::new(Instant::now()));
        let clock = || now.get();
        let fails = || async { Err(io::Error::other("no name server")) };
        assert!(resolver.resolve_with(clock, fails).await.is_err());
        assert!(resolver.resolve_with(clock, || async { Ok(Vec::new()) }).await.is_err());
        resolver.resolve_with(clock, || async { Ok(at(1)) }).await.unwrap();
        now.set(now.get() + FRESH);
        assert_eq!(resolver.resolve_with(clock, fails).await.unwrap(), at(1));
    }

    #[tokio::test]
    async fn whoever_gives_up_waiting_leaves_the_turn_to_the_next() {
        let resolver = Resolver::default();
        let stuck = std::future::pending::<io::Result<Vec<SocketAddr>>>;
        let waited = tokio::time::timeout(Duration::ZERO, resolver.resolve_with(Instant::now, stuck)).await;
        assert!(waited.is_err());
        assert_eq!(resolver.resolve_with(Instant::now, || async { Ok(at(1)) }).await.unwrap(), at(1));
    }

    #[tokio::test]
    async fn the_systems_resolver_knows_this_host() {
        let found = Resolver::default().resolve("localhost", 7).await.unwrap();
        assert!(found.iter().all(|found| found.ip().is_loopback() && found.port() == 7), "{found:?}");
    }
}
