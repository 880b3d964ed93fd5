//! Whether Redis takes what the proxy authenticates with: asked for as long as it does not.
//!
//! A connection that Redis refuses tells so when it ends ([`Service::was_refused`]), and so does a look at Redis
//! ([`super::health`]); the main thread then asks by itself ([`ask`]) until a password is taken again.

use super::{
    clock::Clock,
    service::{Live, Service},
};
use crate::{
    lane::greeting::{Credential, Greeting},
    resp::encode,
};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use zeroize::Zeroizing;

/// Most bytes of an answer that are read.
const ANSWER_MAX: usize = 1024;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Redis takes it, or one of the others.
    Yes,
    /// It does not: what it said, in a word or two.
    No(String),
    /// Nobody can say: Redis cannot be reached, or does not answer.
    Unknown,
}

/// Asks for the service's own credential, or for a role's.
pub async fn ask(clock: &Clock, service: &Service, live: &Live, role: Option<&str>) -> Taken {
    let greeting = match role {
        None => Some(&live.upstream.greeting),
        Some(role) => live.terms.get(role).and_then(|terms| terms.sessions.first()).map(|config| &config.greeting),
    };
    let Some(Greeting { credential: Some(credential), .. }) = greeting else { return Taken::Yes };
    let mut last = Taken::Unknown;
    for password in std::iter::once(&credential.password).chain(&credential.others) {
        let one = Credential { password: password.clone(), others: Vec::new(), ..credential.clone() };
        let asked = tokio::time::timeout(live.upstream.connect_timeout, try_one(clock, service, live, &one));
        last = asked.await.unwrap_or(Taken::Unknown);
        if !matches!(last, Taken::No(_)) {
            break;
        }
    }
    last
}

async fn try_one(clock: &Clock, service: &Service, live: &Live, credential: &Credential) -> Taken {
    let Ok(mut upstream) = service.connect(clock, live, None).await else { return Taken::Unknown };
    let mut words = Zeroizing::new(Vec::with_capacity(credential.password.expose().len().saturating_add(256)));
    // As a session does: a Redis that asks nobody for a password says OK to any.
    encode::command(&mut words, &[b"PING"]);
    match &credential.username {
        Some(user) => encode::command(&mut words, &[b"AUTH", user.as_bytes(), credential.password.expose()]),
        None => encode::command(&mut words, &[b"AUTH", credential.password.expose()]),
    }
    if upstream.write_all(&words).await.is_err() || upstream.flush().await.is_err() {
        return Taken::Unknown;
    }
    let mut answer = Vec::new();
    while memchr::memchr_iter(b'\n', &answer).count() < 2 && answer.len() < ANSWER_MAX {
        let mut piece = [0; 256];
        match upstream.read(&mut piece).await {
            Ok(read @ 1..) => answer.extend_from_slice(piece.get(..read).unwrap_or_default()),
            _ => return Taken::Unknown,
        }
    }
    judge(&answer)
}

/// What the answers to PING and AUTH say.
fn judge(answer: &[u8]) -> Taken {
    let mut lines = answer.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    match (lines.next().unwrap_or_default(), lines.next().unwrap_or_default()) {
        (b"+PONG", _) => Taken::No("Redis asks nobody for a password".to_owned()),
        (ping, b"+OK") if ping.starts_with(b"-NOAUTH") || ping.starts_with(b"-NOPERM") => Taken::Yes,
        // The code alone: what follows it may be long, and is Redis' own.
        (_, [b'-', text @ ..]) => {
            let code = text.split(|byte| *byte == b' ').next().unwrap_or_default();
            Taken::No(String::from_utf8_lossy(code).chars().filter(|c| !c.is_control()).take(32).collect())
        }
        _ => Taken::Unknown,
    }
}

/// How long the main thread waits before it asks again.
pub const AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::{Taken, judge};

    #[test]
    fn only_a_refused_ping_and_an_accepted_auth_are_a_protected_redis() {
        let no = |code: &str| Taken::No(code.to_owned());
        for (answer, expected) in [
            (&b"-NOAUTH Authentication required.\r\n+OK\r\n"[..], Taken::Yes),
            (b"-NOPERM this user has no permissions\r\n+OK\r\n", Taken::Yes),
            (b"-NOAUTH x\r\n-WRONGPASS invalid username-password pair or user is disabled.\r\n", no("WRONGPASS")),
            (b"-NOAUTH x\r\n-ERR invalid password\r\n", no("ERR")),
            (b"+PONG\r\n+OK\r\n", no("Redis asks nobody for a password")),
            (b"-LOADING x\r\n+OK\r\n", Taken::Unknown),
            (b"HTTP/1.1 400\r\nx\r\n", Taken::Unknown),
            (b"\r\n\r\n", Taken::Unknown),
        ] {
            assert_eq!(judge(answer), expected, "{}", answer.escape_ascii());
        }
    }
}
