//! No deadlock in any combination: every kind of client, every kind of Redis and every kind of command, with the real
//! session in the real pump over pipes of odd widths, records written late. Nothing here waits for a clock: a side that
//! is slow takes its turn less often, and a combination that comes to a halt is found by the limit of `run`.

use super::{
    Pump,
    tests::{Plain, run},
};
use crate::{
    audit::{encode::ConnectionFacts, encode::MAX_LINE, record::Recorder},
    lane::greeting::Greeting,
    net::{
        clock::Clock,
        control::Control,
        desk::{Desk, Tools},
    },
    resp::{
        encode,
        request::{Request, RequestLimits, RequestParser},
    },
    session::{
        Turn,
        gather::Gather,
        machine::Session,
        script::{self, peer},
    },
};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split},
    task::{spawn_local, yield_now},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    /// Writes everything before it reads a byte.
    WritesFirst,
    /// Writes everything and reads nothing until Redis has it all, then leaves.
    NeverReads,
    /// A byte at a time, in both directions, at once.
    Dribbles,
    /// Writes everything, ends its side, then reads.
    HalfCloses,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    Normal,
    ReadsSlowly,
    AnswersSlowly,
    /// Does nothing at all for a while, once the first bytes have come.
    StandsStill,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// Many small commands, denials among them, and some that wait for their begin line.
    Pipeline,
    HugeUp,
    HugeDown,
    /// Denied at its first words.
    DeniedHuge,
    /// Held because its last key decides, then denied.
    HeldTooLong,
}

const CLIENTS: [Client; 4] = [Client::WritesFirst, Client::NeverReads, Client::Dribbles, Client::HalfCloses];
const SERVERS: [Server; 4] = [Server::Normal, Server::ReadsSlowly, Server::AnswersSlowly, Server::StandsStill];
const HUGE: usize = 300_000;
const HELD: usize = 128 * 1024;

fn one(words: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::command(&mut out, words);
    out
}

impl Load {
    /// What the client writes, what it must read, what Redis must read, and how many commands that are.
    fn script(self) -> (Vec<u8>, Vec<u8>, Vec<u8>, usize) {
        let huge = vec![b'h'; HUGE];
        let noperm = b"-NOPERM this user has no permissions to run the 'flushall' command\r\n";
        let (mut requests, mut replies, mut up, mut count) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let mut add = |words: &[&[u8]], denied: Option<&[u8]>| {
            requests.extend(one(words));
            match denied {
                Some(text) => replies.extend_from_slice(text),
                None => {
                    up.extend(one(words));
                    replies.extend(answer(words));
                }
            }
            count += 1;
        };
        match self {
            Self::Pipeline => {
                for n in 0..300 {
                    let key = format!("key{n}");
                    add(&[b"GET", key.as_bytes()], None);
                    if n % 3 == 0 {
                        add(&[b"FLUSHALL"], Some(noperm));
                    }
                    if n % 50 == 0 {
                        add(&[b"CONFIG", b"GET", b"a"], None);
                    }
                }
            }
            Self::HugeUp => add(&[b"SET", b"big", &huge], None),
            Self::HugeDown => add(&[b"GET", b"big"], None),
            Self::DeniedHuge => add(&[b"FLUSHALL", &huge], Some(noperm)),
            Self::HeldTooLong => {
                let text = b"-NOPERM the 'mset' command is too large to be judged before it is forwarded\r\n";
                add(&[b"MSET", b"a", &huge, b"b", b"1"], Some(text));
            }
        }
        add(&[b"GET", b"the end"], None);
        (requests, replies, up, count)
    }
}

fn answer(words: &[&[u8]]) -> Vec<u8> {
    match words {
        [b"GET", b"big"] => [format!("${HUGE}\r\n").as_bytes(), &vec![b'd'; HUGE], b"\r\n"].concat(),
        [b"GET", key] => [format!("${}\r\n", key.len()).as_bytes(), key, b"\r\n"].concat(),
        [b"CONFIG", ..] => b"*0\r\n".to_vec(),
        _ => b"+OK\r\n".to_vec(),
    }
}

/// Lets the others have so many turns.
async fn pass(turns: usize) {
    for _ in 0..turns {
        yield_now().await;
    }
}

/// A Redis that keeps what it has to say, as Redis does, and goes on reading whatever becomes of it.
struct Redis {
    server: Server,
    /// Everything that came.
    seen: RefCell<Vec<u8>>,
    to_say: RefCell<VecDeque<u8>>,
}

impl Redis {
    async fn read(self: Rc<Self>, mut from: ReadHalf<DuplexStream>) {
        let limits = RequestLimits { words_max: 1024, bulk_max: 1 << 20, blanks_max: 0, inline: false };
        let mut parser = RequestParser::new(limits);
        let (mut chunk, mut rest) = (vec![0; 4096], Vec::new());
        let mut still = self.server == Server::StandsStill;
        loop {
            let room = if self.server == Server::ReadsSlowly { 512 } else { chunk.len() };
            let Ok(count @ 1..) = from.read(&mut chunk[..room]).await else { return };
            self.seen.borrow_mut().extend_from_slice(&chunk[..count]);
            rest.extend_from_slice(&chunk[..count]);
            if std::mem::take(&mut still) {
                pass(3000).await;
            }
            let mut at = 0;
            while let Request::Command { len } = parser.next(&rest[at..]).expect("only what is canonical comes up") {
                let words: Vec<&[u8]> = parser.words(&rest[at..]).iter().collect();
                self.to_say.borrow_mut().extend(answer(&words));
                at += len;
            }
            rest.drain(..at);
            pass(if self.server == Server::ReadsSlowly { 20 } else { 1 }).await;
        }
    }

    async fn say(self: Rc<Self>, mut to: WriteHalf<DuplexStream>) {
        loop {
            let slow = self.server == Server::AnswersSlowly;
            let room = if slow { 512 } else { 4096 };
            let piece: Vec<u8> = {
                let mut all = self.to_say.borrow_mut();
                let count = room.min(all.len());
                all.drain(..count).collect()
            };
            if to.write_all(&piece).await.is_err() {
                return;
            }
            pass(if slow { 20 } else { 1 }).await;
        }
    }
}

/// A pump, and the most bytes it ever kept between two polls.
struct Watched {
    pump: Pump<Plain, DuplexStream, Session>,
    most: Rc<Cell<usize>>,
}

impl Future for Watched {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let over = Pin::new(&mut self.pump).poll(cx);
        let pump = &self.pump;
        let unread = pump.down.as_ref().map_or(0, |down| down.out.len());
        let kept = pump.down_rest.capacity() + pump.up_rest.capacity() + pump.outbox.borrow().pending() + unread;
        self.most.set(self.most.get().max(kept));
        over
    }
}

/// The sink: writes what has been rendered, a while after.
async fn write_late(desk: Rc<Desk>) {
    loop {
        pass(7).await;
        desk.record(|tools| {
            let outlet = tools.recorder.outlet();
            let lines = outlet.take();
            outlet.recycle(lines);
            outlet.set_written(outlet.rendered());
        });
        desk.advanced();
    }
}

fn session(desk: &Desk) -> (Session, Vec<u8>) {
    let mut config = script::Setup::default().config;
    config.greeting = Greeting { credential: None, database: None, set_name: false };
    config.held_command_max = HELD;
    desk.record(|tools| {
        let now = tools.clock.now();
        let mut turn =
            Turn { now, recorder: &mut tools.recorder, memory: &mut tools.memory, down_pending: 0, up_pending: 0 };
        let facts = ConnectionFacts::new("t-1", "cache", "127.0.0.1:4711".parse().unwrap(), "app", "app", None);
        let mut session = Session::new(Arc::new(config), peer(&["FLUSHALL"]), facts, &turn);
        let (mut up, mut down) = (Gather::new(&[], Vec::new()), Gather::new(&[], Vec::new()));
        session.connected(&mut turn, &mut up, &mut down);
        (session, up.slices().0.to_vec())
    })
}

async fn write_in_pieces(to: &mut WriteHalf<DuplexStream>, bytes: &[u8], dribble: bool) {
    // The beginning byte by byte; a whole megabyte that way would only take long.
    let (slow, fast) = bytes.split_at(if dribble { bytes.len().min(600) } else { 0 });
    for byte in slow.chunks(1) {
        to.write_all(byte).await.unwrap();
        pass(3).await;
    }
    for piece in fast.chunks(if dribble { 997 } else { 65_536 }) {
        to.write_all(piece).await.unwrap();
    }
}

async fn read_in_pieces(from: &mut ReadHalf<DuplexStream>, wanted: usize, dribble: bool) -> Vec<u8> {
    let mut got = Vec::new();
    let mut chunk = vec![0; 4096];
    while got.len() < wanted {
        let room = if dribble && got.len() < 600 { 1 } else { chunk.len().min(wanted - got.len()) };
        let count = from.read(&mut chunk[..room]).await.unwrap();
        assert!(count > 0, "closed after {} of {wanted} bytes", got.len());
        got.extend_from_slice(&chunk[..count]);
    }
    got
}

/// One combination, from the first byte to the last record. Returns the most bytes the pump kept.
fn combine(client: Client, server: Server, load: Load, pipe: usize) -> usize {
    let (requests, replies, wanted_up, commands) = load.script();
    run(async {
        // Little more than one record fits: the sink takes part in everything.
        let desk = Desk::new(Tools::new(Recorder::new(0, MAX_LINE + 2000), 1 << 20, Clock::start()));
        let sink = spawn_local(write_late(Rc::clone(&desk)));
        let (session, greeting) = session(&desk);
        assert_eq!(greeting, b"");
        let (far, down) = duplex(pipe);
        let (up, redis_end) = duplex(pipe);
        let plain = Plain { io: down, out: Vec::new(), hung_up: Rc::default(), broken: false };
        let control = Rc::new(Control::default());
        let pump = Pump::new(session, plain, Some(up), Rc::clone(&desk), control, Duration::from_secs(60));
        let most = Rc::new(Cell::new(0));
        let over = spawn_local(Watched { pump, most: Rc::clone(&most) });
        let redis = Rc::new(Redis { server, seen: RefCell::default(), to_say: RefCell::default() });
        let (from, to) = split(redis_end);
        let reading = spawn_local(Rc::clone(&redis).read(from));
        let saying = spawn_local(Rc::clone(&redis).say(to));
        let (mut from, mut to) = split(far);
        let dribble = client == Client::Dribbles;
        match client {
            Client::WritesFirst | Client::HalfCloses => {
                write_in_pieces(&mut to, &requests, false).await;
                if client == Client::HalfCloses {
                    to.shutdown().await.unwrap();
                }
                assert!(read_in_pieces(&mut from, replies.len(), false).await == replies, "the replies changed");
            }
            Client::Dribbles => {
                let wanted = replies.len();
                let reader = spawn_local(async move { (read_in_pieces(&mut from, wanted, true).await, from) });
                write_in_pieces(&mut to, &requests, dribble).await;
                let (got, back) = reader.await.unwrap();
                assert!(got == replies, "the replies changed");
                from = back;
            }
            Client::NeverReads => {
                write_in_pieces(&mut to, &requests, false).await;
                while redis.seen.borrow().len() < wanted_up.len() {
                    yield_now().await;
                }
            }
        }
        assert!(*redis.seen.borrow() == wanted_up, "what went up is not what was allowed");
        if client != Client::HalfCloses {
            to.shutdown().await.unwrap();
        }
        if client == Client::NeverReads {
            drop((from, to));
        } else {
            assert_eq!(from.read(&mut [0; 1]).await.unwrap(), 0, "more than was owed");
        }
        over.await.unwrap();
        let tools = desk.tools();
        assert_eq!(
            tools.recorder.counters().all_commands().outcomes.iter().sum::<u64>(),
            commands as u64,
            "one record for each command"
        );
        assert_eq!((tools.memory.held, tools.memory.owed), (0, 0), "all is given back");
        drop(tools);
        for task in [sink, reading, saying] {
            task.abort();
        }
        most.get()
    })
}

fn all(load: Load, most: usize) {
    for client in CLIENTS {
        for server in SERVERS {
            for pipe in [61, 4096] {
                let kept = combine(client, server, load, pipe);
                assert!(kept <= most, "{client:?}, {server:?}, {load:?} over {pipe}: the pump kept {kept} bytes");
            }
        }
    }
}

/// One read of each side, and what of it waits for the other.
const TWO_READS: usize = 256 * 1024;

#[test]
fn a_pipeline_comes_through_every_combination_of_client_and_redis() {
    all(Load::Pipeline, TWO_READS);
}

#[test]
fn a_huge_command_comes_through_every_combination_of_client_and_redis() {
    all(Load::HugeUp, TWO_READS);
}

#[test]
fn a_huge_reply_comes_through_every_combination_of_client_and_redis() {
    all(Load::HugeDown, TWO_READS);
}

#[test]
fn a_denied_huge_command_comes_through_every_combination_of_client_and_redis() {
    all(Load::DeniedHuge, TWO_READS);
}

#[test]
fn a_command_held_too_long_comes_through_every_combination_of_client_and_redis() {
    all(Load::HeldTooLong, TWO_READS + 2 * HELD);
}
