//! The program that looks passwords up: a process for each question, and a memory of what was right.
//!
//! What it is told, on standard input: the user's name, a newline, and the password up to the end of input, as it is.
//! What it says, on standard output: one line, `allow`, `allow ROLE` or `deny`, and ends with status 0. Anything else, a
//! name that cannot stand on a line, and no answer in time are no answer: nobody is let in, and nobody's failures are
//! counted, because a directory that is down would ban everybody.
//!
//! * Its environment is empty but for `PATH`; its standard error is thrown away: neither is a place for passwords.
//! * So many run at once; who comes then waits, and the wait is part of the time an answer may take.
//! * It is killed with all its children when its time is over, and when the client is gone.
//! * A success is remembered under a salted hash of user and password, for a while and among at most [`CACHE_MAX`]; a
//!   failure never is. A reload forgets all of them.

use super::{process, service::House};
use crate::{config::settings::Helper, session::inquiry::Ask};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// Most successes remembered.
pub const CACHE_MAX: usize = 1024;
/// Most bytes of an answer that are read.
const ANSWER_MAX: u64 = 256;
/// Longest user name and password that are passed on.
const WORD_MAX: usize = crate::policy::credentials::WORD_MAX;

/// What was found out about a user and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// They are right; the role the user is to have, if one was named.
    Right(Option<Arc<str>>),
    /// They are wrong.
    Wrong,
    /// Nobody can say.
    Unknown,
}

/// One helper, its queue and its memory.
#[derive(Debug)]
pub struct Desk {
    helper: Helper,
    places: Semaphore,
    cache: Mutex<Cache>,
}

impl Desk {
    /// Nothing runs, nothing is remembered.
    #[must_use]
    pub fn new(helper: Helper) -> Self {
        let places = Semaphore::new(helper.processes);
        Self { helper, places, cache: Mutex::new(Cache::new()) }
    }

    /// Asks the helper, or remembers what it said.
    pub async fn find(&self, house: &House, ask: &Ask) -> Finding {
        let (user, password) = (ask.user.expose(), ask.password.expose());
        if user.len() > WORD_MAX || password.len() > WORD_MAX || user.iter().any(u8::is_ascii_control) {
            return Finding::Wrong;
        }
        let key = self.cache().key(user, password);
        if let Some(role) = self.cache().get(&key, house.clock.now().mono_us) {
            return Finding::Right(role);
        }
        let answer = tokio::time::timeout(self.helper.timeout, async {
            let _place = self.places.acquire().await.map_err(io::Error::other)?;
            self.run(user, password).await
        });
        let finding = match answer.await {
            Ok(Ok(answer)) => read(&answer),
            Ok(Err(error)) => {
                tracing::warn!(%error, program = %self.helper.program.display(), "the helper for passwords cannot be asked");
                return Finding::Unknown;
            }
            Err(_) => {
                let within = self.helper.timeout;
                tracing::warn!(?within, program = %self.helper.program.display(), "the helper for passwords gave no answer");
                return Finding::Unknown;
            }
        };
        match (&finding, self.helper.cache) {
            (Finding::Right(role), Some(time)) => {
                self.cache().put(key, role.clone(), house.clock.now().mono_us, time);
            }
            (Finding::Unknown, _) => {
                tracing::warn!(program = %self.helper.program.display(), "the helper for passwords did not say allow or deny");
            }
            _ => {}
        }
        finding
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(&self, user: &[u8], password: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
        process::run(&self.helper.program, &self.helper.arguments, &[user, b"\n", password], ANSWER_MAX).await
    }
}

/// What the helper said.
fn read(said: &[u8]) -> Finding {
    let Some(line) = std::str::from_utf8(said).ok().and_then(|text| text.strip_suffix('\n').or(Some(text))) else {
        return Finding::Unknown;
    };
    let line = line.strip_suffix('\r').unwrap_or(line);
    match line.split_once(' ').map_or((line, None), |(word, role)| (word, Some(role))) {
        ("allow", None) => Finding::Right(None),
        ("allow", Some(role)) if is_role(role) => Finding::Right(Some(role.into())),
        ("deny", None) => Finding::Wrong,
        _ => Finding::Unknown,
    }
}

fn is_role(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

type Key = [u8; 32];

/// Successes, by a hash that nobody outside this process can compute.
#[derive(Debug)]
struct Cache {
    salt: [u8; 32],
    entries: HashMap<Key, Known>,
}

#[derive(Debug)]
struct Known {
    role: Option<Arc<str>>,
    until_us: u64,
}

impl Cache {
    fn new() -> Self {
        let mut salt = [0; 32];
        // Without randomness nothing can be remembered safely; a random state of the standard library stands in.
        if rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut salt).is_err() {
            for part in salt.chunks_mut(8) {
                let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), part.len());
                part.copy_from_slice(&random.to_ne_bytes());
            }
        }
        Self { salt, entries: HashMap::new() }
    }

    fn key(&self, user: &[u8], password: &[u8]) -> Key {
        let mut hash = Sha256::new();
        hash.update(self.salt);
        // Lengths, or bytes could wander from one into the other unseen.
        hash.update((user.len() as u64).to_be_bytes());
        hash.update(user);
        hash.update(password);
        hash.finalize().into()
    }

    #[expect(clippy::option_option, reason = "not known, and known without a role, are different")]
    fn get(&self, key: &Key, now_us: u64) -> Option<Option<Arc<str>>> {
        self.entries.get(key).filter(|known| now_us < known.until_us).map(|known| known.role.clone())
    }

    fn put(&mut self, key: Key, role: Option<Arc<str>>, now_us: u64, time: Duration) {
        if self.entries.len() >= CACHE_MAX {
            self.entries.retain(|_, known| now_us < known.until_us);
        }
        if self.entries.len() >= CACHE_MAX
            && let Some(oldest) = self.entries.iter().min_by_key(|(_, known)| known.until_us).map(|(key, _)| *key)
        {
            self.entries.remove(&oldest);
        }
        self.entries.insert(key, Known { role, until_us: now_us.saturating_add(super::clock::micros(time)) });
    }
}

#[cfg(test)]
mod tests {
    use super::{CACHE_MAX, Cache, Finding, read};
    use std::time::Duration;

    #[test]
    fn only_the_documented_words_are_an_answer() {
        let rows: [(&[u8], Finding); 16] = [
            (b"allow\n", Finding::Right(None)),
            (b"allow", Finding::Right(None)),
            (b"allow\r\n", Finding::Right(None)),
            (b"allow billing-1\n", Finding::Right(Some("billing-1".into()))),
            (b"deny\n", Finding::Wrong),
            (b"deny", Finding::Wrong),
            (b"", Finding::Unknown),
            (b"\n", Finding::Unknown),
            (b"allowed\n", Finding::Unknown),
            (b"ALLOW\n", Finding::Unknown),
            (b"allow \n", Finding::Unknown),
            (b"allow a b\n", Finding::Unknown),
            (b"allow\ndeny\n", Finding::Unknown),
            (b"deny x\n", Finding::Unknown),
            (b"allow\n\n", Finding::Unknown),
            (b"allow \xff\n", Finding::Unknown),
        ];
        for (said, expected) in rows {
            assert_eq!(read(said), expected, "{}", said.escape_ascii());
        }
    }

    #[test]
    fn a_success_is_remembered_for_its_time_and_for_its_own_password() {
        let mut cache = Cache::new();
        let key = cache.key(b"user", b"password");
        assert_ne!(key, cache.key(b"userp", b"assword"));
        assert_ne!(key, Cache::new().key(b"user", b"password"), "the salt is the process' own");
        cache.put(key, Some("role".into()), 100, Duration::from_micros(50));
        assert_eq!(cache.get(&key, 149), Some(Some("role".into())));
        assert_eq!(cache.get(&key, 150), None);
        assert_eq!(cache.get(&cache.key(b"user", b"other"), 100), None);
    }

    #[test]
    fn the_memory_has_a_bound() {
        let mut cache = Cache::new();
        for n in 0..2 * CACHE_MAX as u64 {
            let key = cache.key(b"user", &n.to_be_bytes());
            cache.put(key, None, n, Duration::from_secs(1));
        }
        assert_eq!(cache.entries.len(), CACHE_MAX);
        let last = cache.key(b"user", &(2 * CACHE_MAX as u64 - 1).to_be_bytes());
        assert_eq!(cache.get(&last, 5000), Some(None), "the oldest gives way");
    }
}
