//! A session between a client, a Redis, a sink and a clock that do what they like, driven as the pump drives it. Whatever
//! happens: one record for each command, replies in order, nothing but canonical allowed commands up, all memory given
//! back, and an end once everybody has ended.

use arbitrary::{Arbitrary, Unstructured};
use policy::{Setting, is_told, renamed_in};
use ravelin::{
    audit::encode::ConnectionFacts,
    session::{error::CloseReason, renewal::Renewal},
};
use redis::{Foretold, Refuses, find};
use say::Say;
use shell::{Run, start};
use std::sync::Arc;

mod policy;
mod redis;
mod say;
mod shell;

const DENIED: [&str; 2] = ["FLUSHALL", "KEYS"];
const UNAVAILABLE: &[u8] = b"-ERR the Redis behind this proxy is unavailable\r\n";
const FULL: &[u8] = b"-ERR max number of clients reached\r\n";
/// A replication id: so a stream is found again in what the client was given.
const ID: &str = "8371445ee47bed6f2eac8a36c6c0b5b5a8b21ee4";

#[derive(Arbitrary, Clone, Debug)]
enum Op {
    /// The client writes a command.
    Say(Say),
    /// The client writes bytes, and from then on its replies are not foretold.
    Raw(Vec<u8>),
    /// So many of the client's bytes, and one more, reach the session.
    Read(u8),
    /// So many bytes are taken by the kernel towards Redis, and come there.
    Take(u8),
    /// So many bytes of Redis reach the session.
    Hear(u8),
    /// The client's socket takes so many.
    Unblock(u16),
    /// The client's socket is full from now on.
    Block,
    /// The sink writes so many bytes.
    Write(u16),
    /// So many milliseconds pass.
    Tick(u16),
    /// Redis says something unasked.
    Push,
    ClientEnds(bool),
    RedisEnds,
    Drain,
    Renew(bool),
    Abort,
    /// Redis answers the next command in another way.
    Whim(u8),
    /// Redis says what nobody asked for, and from then on is not believed.
    Babble(Vec<u8>),
    /// The shell finds nothing to do, and gives memory back.
    Rest,
}
pub fn run(data: &[u8]) {
    let [setting, mode, data @ ..] = data else { return };
    let setting = Setting::of(*setting);
    let mut data = data;
    let connects = mode & 128 == 0 || data.first().is_none_or(|how| how % 8 != 7);
    let mut run = start(setting, *mode, connects);
    if mode & 128 == 0 {
        // The greeting is not what is looked at here.
        run.take(usize::MAX);
        run.hear(usize::MAX);
    } else if let Some((how, rest)) = data.split_first() {
        data = rest;
        if mode & 16 == 0 {
            run.redis.refuses =
                [Refuses::Nothing, Refuses::Password, Refuses::Nobody, Refuses::Everybody][usize::from(how % 4)];
            if run.redis.refuses == Refuses::Everybody {
                run.said.extend_from_slice(FULL);
                run.redis_ended = true;
            }
        }
    }
    let refused = run.redis.refuses != Refuses::Nothing;
    let mut foretold = Foretold::default();
    // Whether the client must be told exactly what is foretold, up to wherever it ends.
    // Whether Redis says what it was asked for and nothing else, each thing where it belongs.
    let mut sane = !refused;
    let mut tame = mode & 2 == 0 && mode & 4 == 0 && !refused && connects && setting.is_plain();
    if setting.logs_in_at_once() {
        tame &= mode & 128 == 0;
        let login = Say::Login(1);
        run.wire.extend(login.bytes(0, setting));
        run.read(usize::MAX);
        run.settle();
        run.answer();
        run.settle();
        (foretold.replies, foretold.commands) = (b"+OK\r\n".to_vec(), 1);
    }
    let mut from = Unstructured::new(data);
    let mut tag = 0;
    while !from.is_empty() && !run.session.wants().done {
        let Ok(op) = Op::arbitrary(&mut from) else { break };
        match op {
            Op::Say(say) if run.client_ended.is_none() => {
                tag += 1;
                let bytes = say.bytes(tag, setting);
                run.upward.asked_for += renamed_in(&bytes);
                tame &= say.foretold();
                if tame {
                    foretold.say(&say, &bytes);
                }
                run.wire.extend(bytes);
            }
            Op::Raw(bytes) if run.client_ended.is_none() => {
                tame = false;
                run.upward.raw = true;
                run.wire.extend(bytes);
            }
            Op::Say(_) | Op::Raw(_) => {}
            Op::Read(most) => run.read(usize::from(most) + 1),
            Op::Take(most) => run.take(usize::from(most) * 8 + 1),
            Op::Hear(most) => run.hear(usize::from(most) + 1),
            Op::Unblock(most) => {
                run.unread = run.unread.saturating_sub(usize::from(most));
                run.blocked = run.unread > 0;
            }
            Op::Block => run.blocked = true,
            Op::Write(most) => run.write(u64::from(most)),
            Op::Tick(ms) => {
                // While Redis has not answered AUTH a session has not for ever.
                tame &= mode & 128 == 0;
                sane &= ms < 1000;
                run.now = run.now.plus_us(u64::from(ms) * 1000);
            }
            Op::Push => {
                // Only between two replies, as Redis does it.
                if run.redis.streams {
                    let more = b"*1\r\n$4\r\nPING\r\n\n-ERR +1\r";
                    run.streamed.extend_from_slice(more);
                    run.said.extend_from_slice(more);
                } else if run.redis.monitored {
                    run.said.extend_from_slice(b"+1763672400.000001 [0 127.0.0.1:1] \"get\" \"a\"\r\n");
                } else if run.redis.resp3 {
                    run.said.extend_from_slice(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n");
                } else if !run.redis.live[2].is_empty() {
                    // A cluster node gives a shard channel away, whatever is on its way up.
                    sane = false;
                    let channel = run.redis.live[2].first().cloned();
                    let lost = run.redis.confirm(2, false, "sunsubscribe", channel);
                    run.said.extend(lost);
                } else if !run.redis.live[0].is_empty() {
                    run.said.extend_from_slice(b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n");
                }
            }
            Op::ClientEnds(clean) => {
                // What is sent to a client that vanished is lost; what it asked for may not even be judged.
                tame &= clean;
                run.client_ended.get_or_insert(clean);
            }
            Op::RedisEnds => {
                (tame, sane) = (false, false);
                run.redis_ended = true;
            }
            Op::Drain => {
                tame = false;
                run.tell(b"", &mut |session, _, turn, up, down| {
                    session.drain(CloseReason::Drain, turn, up, down);
                    0
                });
            }
            Op::Renew(strict) => {
                tame = false;
                let peer = setting.peer(strict, run.upward.selected);
                let facts = ConnectionFacts::new("t-1", "cache", peer.src(), "app", &peer.role().name, None);
                run.session.renew(Renewal { peer, facts, config: Arc::clone(&run.config) });
                run.upward.closed_get = false;
                run.down_again |= !run.down_rest.is_empty();
            }
            Op::Whim(whim) => {
                (tame, sane) = (false, false);
                run.redis.whim = Some(whim);
            }
            Op::Babble(bytes) => {
                (tame, sane) = (false, false);
                run.redis.mad = true;
                run.said.extend(bytes);
            }
            // What is looked up is found out while nothing else happens.
            Op::Rest if run.ask.is_some() => run.answer(),
            Op::Rest if run.session.is_idle() => run.session.shrink(),
            Op::Rest => {}
            Op::Abort => {
                tame = false;
                run.tell(b"", &mut |session, _, turn, _, _| {
                    session.abort(CloseReason::Internal, turn);
                    0
                });
            }
        }
        run.settle();
        assert!(
            !tame || foretold.replies.starts_with(&run.down),
            "{} of {}",
            run.down.escape_ascii(),
            foretold.replies.escape_ascii()
        );
    }
    finish(&mut run);
    if !run.upward.raw && !run.redis.mad {
        is_told(setting, &run.down, false);
    }
    if let Some(at) = find(&run.down, ID.as_bytes())
        && run.redis.streams
        && !run.redis.mad
    {
        let given = &run.down[at..];
        assert!(run.streamed.starts_with(given), "{}", given.escape_ascii());
    }
    let full = run.redis.refuses == Refuses::Everybody && run.down == FULL;
    let refused = refused && !run.redis.mad;
    assert!(!refused || run.down.is_empty() || run.down == UNAVAILABLE || full, "{}", run.down.escape_ascii());
    let drifted = [&b"\"reason\":\"desync\""[..], b"\"reason\":\"upstream-auth\""];
    let last = String::from_utf8_lossy(&run.lines);
    assert!(!sane || !drifted.iter().any(|reason| find(&run.lines, reason).is_some()), "{last}");
    let said = run.down.escape_ascii();
    assert!(!tame || run.down == foretold.replies, "{said} for {}", foretold.replies.escape_ascii());
    assert!(!tame || run.records == foretold.commands, "{} records", run.records);
}

/// Everybody does what is left to do, then the client ends: the session must come to its end, too.
fn finish(run: &mut Run) {
    for round in 0..2000 {
        if round == 1000 && run.redis.mad {
            // It may never answer, and then nothing but its end ends the wait.
            run.redis_ended = true;
        }
        run.write(u64::MAX);
        run.settle();
        run.answer();
        run.settle();
        let wants = run.session.wants();
        if wants.done {
            break;
        }
        run.unread = 0;
        run.blocked = false;
        run.settle();
        if run.redis_ended {
            run.hear(usize::MAX);
            run.settle();
            continue;
        }
        run.take(usize::MAX);
        run.hear(usize::MAX);
        run.settle();
        run.client_ended.get_or_insert(true);
        run.read(usize::MAX);
        run.settle();
        // The deadlines of what nobody answers any more.
        if let Some(at) = run.session.wants().wake_at_us
            && run.wire.is_empty()
            && run.up.is_empty()
            && run.said.is_empty()
        {
            run.now = run.now.plus_us(at.saturating_sub(run.now.mono_us));
        }
    }
    assert!(run.session.wants().done, "stuck: {:?}", run.session.wants());
    run.write(u64::MAX);
    assert_eq!((run.memory.held, run.memory.owed), (0, 0), "memory is kept");
    let last = run.lines.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    assert!(find(last, b"\"event\":\"connection_close\"").is_some(), "{}", last.escape_ascii());
    let at = find(last, b"\"commands\":").unwrap() + 11;
    let count: u64 =
        last[at..].iter().take_while(|byte| byte.is_ascii_digit()).fold(0, |n, digit| n * 10 + u64::from(digit - b'0'));
    assert_eq!(run.records, count, "one record for each command");
}
