//! Looks at Redis: connects as a client's connection would, authenticates, and asks PING.
//!
//! `+PONG` says that it is well, and so does what only PING or only our user is refused (`-NOPERM`, `-MISCONF` while it
//! cannot save, `-BUSY` while a script runs): it is there and knows us. `-LOADING` and `-MASTERDOWN` say that it is not
//! ready, `-WRONGPASS` and its like that our password is not its password.
//!
//! One task for each service on the main thread, never on a worker's; all addresses that are due are looked at together.

use super::{
    keeper::{Keeper, blame},
    proxy_protocol,
    service::{Live, Service},
    upkeep::{Seen, Switch},
    upstream::{Upstream, Way},
};
use crate::{lane::greeting::Greeting, net::service::House, tls::refusal};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    task::JoinSet,
    time::Instant,
};

/// The longest sleep of the task: a reload's addresses are looked at after that at the latest.
const NAP: Duration = Duration::from_secs(1);
/// Most bytes of an answer that are read.
const ANSWER_MAX: usize = 4096;
/// What the connection is called in CLIENT LIST.
const NAME: &str = "health";

/// A switch, for the record.
#[derive(Debug)]
pub struct Switched {
    /// Index into [`House::services`].
    pub service: usize,
    /// The address before.
    pub from: String,
    /// The address now.
    pub to: String,
    /// What the last look at the first found.
    pub reason: &'static str,
}

/// Looks at the service's Redis whenever it is time, for ever.
pub async fn keep(house: Arc<House>, index: usize, tell: mpsc::Sender<Switched>) {
    let Some(service) = house.services.get(index) else { return };
    loop {
        let live = service.live.load_full();
        look(&house, service, &live).await;
        for switch in live.keeper.take_switches() {
            if tell.send(switched(index, &live.keeper, &switch)).await.is_err() {
                return;
            }
        }
        let due = house.clock.instant(live.keeper.next_due_us()).min(Instant::now() + NAP);
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            () = live.keeper.kicked() => {}
        }
    }
}

fn switched(service: usize, keeper: &Keeper, switch: &Switch) -> Switched {
    let name = |at: usize| keeper.addresses().get(at).map(ToString::to_string).unwrap_or_default();
    Switched { service, from: name(switch.from), to: name(switch.to), reason: switch.seen.word() }
}

/// Looks at all that is due now.
pub async fn look(house: &House, service: &Service, live: &Arc<Live>) {
    let clock = &house.clock;
    let begun = clock.now().mono_us;
    let due = live.keeper.due(begun);
    let mut looks = JoinSet::new();
    for at in due {
        let live = Arc::clone(live);
        looks.spawn(async move { (at, visit(&live, at).await) });
    }
    while let Some(done) = looks.join_next().await {
        // A look that panicked is one that got no answer; which it was is not known, and the next comes soon.
        let Ok((at, (seen, detail))) = done else {
            tracing::error!(service = %service.name, "a look at Redis panicked; this is a bug in ravelin");
            continue;
        };
        live.keeper.looked(at, seen, &detail, begun, clock.now().mono_us);
        // Only of the one that clients are connected to: of the others there is a record when one comes into use.
        if seen == Seen::Refused && live.upstream.credential().is_some() && live.keeper.used() == at {
            // The code alone: what follows it may be long, and is Redis' own.
            service.look_was_refused(detail.split(' ').next().unwrap_or_default());
            house.refusal.notify_one();
        }
    }
}

/// One look; what it found, in a word and in words.
async fn visit(live: &Live, at: usize) -> (Seen, String) {
    let (Some(address), Some(resolver)) = (live.keeper.addresses().get(at), live.keeper.resolver(at)) else {
        return (Seen::Well, String::new());
    };
    let tuning = live.keeper.tuning();
    let deadline = Instant::now() + tuning.timeout;
    // For nobody but ourselves.
    let local = proxy_protocol::local();
    let way = Way {
        address,
        policy: live.upstream.socket,
        options: live.sockets,
        tls: live.tls.as_deref(),
        resolver,
        preamble: if live.upstream.proxy_protocol { &local } else { b"" },
    };
    let mut link = match Upstream::connect(way, tuning.timeout).await {
        Ok(link) => link,
        Err(error) => {
            live.keeper.blame(at, error.word());
            return match blame(&error) {
                Some(seen) => (seen, error.to_string()),
                None => (Seen::Silent, format!("we could not look: {error}")),
            };
        }
    };
    if tuning.interval.is_none() {
        // Nobody wants Redis asked: that it is there has to do.
        return (Seen::Well, String::new());
    }
    match tokio::time::timeout_at(deadline, ask(&mut link, &live.upstream.greeting)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => match refusal::of_stream(&error) {
            Some(failure) => (Seen::Unreachable, failure.to_string()),
            None => {
                live.keeper.blame(at, "closed");
                (Seen::Silent, format!("it gave no answer: {error}"))
            }
        },
        Err(_) => {
            live.keeper.blame(at, "timeout");
            (Seen::Silent, format!("it gave no answer within {:?}", tuning.timeout))
        }
    }
}

/// Asks on a connection that was just opened; with the other passwords too, where one is refused, as a session does.
async fn ask(link: &mut Upstream, greeting: &Greeting) -> io::Result<(Seen, String)> {
    let count = greeting.passwords();
    let mut found = ask_with(link, greeting, count > 1).await?;
    for number in 1..count {
        let Some(other) = greeting.trying(number).filter(|_| found.0 == Seen::Refused) else { break };
        // It may have hung up, and that is not what is to be told.
        let Ok(next) = ask_with(link, &other, number.saturating_add(1) < count).await else { break };
        found = next;
    }
    Ok(found)
}

/// Authenticates and asks PING; the first of the answers that is not a good one, or the last. With `again` whoever is
/// refused reads the others too, for they are not to be taken for answers to what is asked next.
async fn ask_with(link: &mut Upstream, greeting: &Greeting, again: bool) -> io::Result<(Seen, String)> {
    let (mut words, mut tickets) = (Vec::new(), Vec::new());
    greeting.encode_check(NAME, &mut words, &mut tickets);
    // Wiped afterwards: it holds the password.
    let words = zeroize::Zeroizing::new(words);
    link.write_all(&words).await?;
    link.flush().await?;
    let (mut answer, mut piece) = (Vec::new(), [0_u8; 512]);
    let mut found = (Seen::Well, String::new());
    for _ in 0..tickets.len() {
        let line = loop {
            if let Some(end) = memchr::memmem::find(&answer, b"\r\n") {
                let line: Vec<u8> = answer.drain(..end.saturating_add(2)).collect();
                break line;
            }
            if answer.len() > ANSWER_MAX {
                return Ok((Seen::Strange, "it does not answer as Redis does".to_owned()));
            }
            match link.read(&mut piece).await {
                // It said why before it hung up.
                Ok(0) | Err(_) if found.0 != Seen::Well => return Ok(found),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => answer.extend_from_slice(piece.get(..read).unwrap_or_default()),
                Err(error) => return Err(error),
            }
        };
        let said = read(line.strip_suffix(b"\r\n").unwrap_or(&line));
        if found.0 == Seen::Well {
            found = said;
        }
        if !(found.0 == Seen::Well || again && found.0 == Seen::Refused) {
            break;
        }
    }
    Ok(found)
}

/// What one line of its answer says.
fn read(line: &[u8]) -> (Seen, String) {
    let Some(error) = line.strip_prefix(b"-") else {
        let known = matches!(line, b"+OK" | b"+PONG");
        let strange = (Seen::Strange, "it does not answer as Redis does".to_owned());
        return if known { (Seen::Well, String::new()) } else { strange };
    };
    let code = error.split(|byte| *byte == b' ').next().unwrap_or_default();
    // Redis' own words name no password; what is no Redis may say anything, and is cut and cleaned.
    let text: String = String::from_utf8_lossy(error).chars().filter(|c| !c.is_control()).take(120).collect();
    let seen = match code {
        // It knows us, and refuses this one thing, or is busy with what somebody asked for.
        b"NOPERM" | b"MISCONF" | b"BUSY" => Seen::Well,
        b"LOADING" => Seen::Loading,
        b"MASTERDOWN" => Seen::MasterDown,
        b"WRONGPASS" | b"NOAUTH" | b"DENIED" => Seen::Refused,
        // Before Redis 6, and where it asks for no password.
        b"ERR" if [&b"password"[..], b"AUTH"].iter().any(|word| memchr::memmem::find(error, word).is_some()) => {
            Seen::Refused
        }
        _ => Seen::Strange,
    };
    (seen, text)
}

#[cfg(test)]
mod tests {
    use super::{Seen, read};

    #[test]
    fn every_answer_is_read_for_what_redis_means_by_it() {
        let rows: &[(&str, Seen)] = &[
            ("+OK", Seen::Well),
            ("+PONG", Seen::Well),
            ("-NOPERM this user has no permissions to run the 'ping' command", Seen::Well),
            ("-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist", Seen::Well),
            ("-BUSY Redis is busy running a script.", Seen::Well),
            ("-LOADING Redis is loading the dataset in memory", Seen::Loading),
            ("-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", Seen::MasterDown),
            ("-WRONGPASS invalid username-password pair or user is disabled.", Seen::Refused),
            ("-NOAUTH Authentication required.", Seen::Refused),
            ("-DENIED Redis is running in protected mode", Seen::Refused),
            ("-ERR invalid password", Seen::Refused),
            ("-ERR Client sent AUTH, but no password is set", Seen::Refused),
            ("-ERR AUTH <password> called without any password configured", Seen::Refused),
            ("-ERR max number of clients reached", Seen::Strange),
            ("-ERR something else", Seen::Strange),
            ("$5", Seen::Strange),
            ("HTTP/1.1 400 Bad Request", Seen::Strange),
            ("", Seen::Strange),
        ];
        for (line, expected) in rows {
            assert_eq!(read(line.as_bytes()).0, *expected, "{line}");
        }
    }

    #[test]
    fn what_is_repeated_is_short_and_clean() {
        let (_, text) = read(format!("-ERR \x1b[31m{}", "x".repeat(5000)).as_bytes());
        assert!(text.len() <= 120 && !text.contains('\x1b'), "{text}");
    }
}
