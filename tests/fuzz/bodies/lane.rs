//! A lane against a model of the server: tickets never drift, whatever is subscribed, pushed, refused or cut in pieces.

use arbitrary::{Arbitrary, Unstructured};
use ravelin::{
    command::PubSub,
    lane::{Arrival, Closes, Lane, Stream, Ticket, machine::Protocol, tickets::Own},
    resp::reply::ReplyLimits,
};
use std::collections::{BTreeSet, VecDeque};

const LIMITS: ReplyLimits = ReplyLimits { line_max: 1024, bulk_max: 1 << 20, elements_max: 1 << 16 };

#[derive(Arbitrary, Clone, Debug)]
enum Op {
    /// A command goes up.
    Ask(Ask),
    /// The server answers its oldest command.
    Answer,
    /// The server says something unasked, if anything can be.
    Message(u8),
    Invalidate,
    /// A cluster node gives a shard channel away.
    LoseShard,
    /// MONITOR shows a command, with so long an argument.
    Line(u8),
    /// A master that prepares its payload shows that it is alive.
    Newline,
    /// A replication stream goes on.
    Flow(Vec<u8>),
    /// So many bytes reach the lane, and one more.
    Deliver(u8),
}

#[derive(Arbitrary, Clone, Debug)]
enum Ask {
    Plain(Shape),
    /// With a message between its elements, as Redis up to 7.0 sends it.
    Exec(Option<u8>, bool),
    Subscribe(Kind, [u8; 3], u8, bool),
    Unsubscribe(Kind, [u8; 3], u8, bool),
    UnsubscribeAll(Kind, bool),
    Hello(bool),
    Reset,
    /// A command of the proxy's own.
    Own(u8, Shape),
    Monitor(bool),
    Psync(u8),
    Sync(u8),
}

/// What a plain command is answered with.
#[derive(Arbitrary, Clone, Debug)]
enum Shape {
    Status,
    Bulk(u8),
    Null,
    /// LRANGE of a list that looks like a message.
    LikeMessage,
    /// The same for a confirmation.
    LikeConfirmation,
    Nested,
    /// With an attribute before it, in RESP3.
    Attributed,
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Channel,
    Pattern,
    Shard,
}

impl Kind {
    const fn kind(self) -> PubSub {
        match self {
            Self::Channel => PubSub::Channel,
            Self::Pattern => PubSub::Pattern,
            Self::Shard => PubSub::Shard,
        }
    }

    const fn letter(self) -> &'static str {
        match self {
            Self::Channel => "",
            Self::Pattern => "p",
            Self::Shard => "s",
        }
    }
}

/// What a frame of the server is to the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Reply,
    Confirmation {
        closes: bool,
    },
    Push,
    /// The end of a shard subscription that nobody asked for.
    Lost,
    /// The answer to HELLO: what the session does then.
    Hello(Option<Protocol>),
    Reset,
    Own(Own),
    /// The answer to MONITOR.
    Monitor,
    Line,
    /// Newlines before a replication stream, and what it consists of.
    Flow,
    /// The line that begins it.
    Granted,
}

const ID: &str = "8371445ee47bed6f2eac8a36c6c0b5b5a8b21ee4";

const fn own(which: u8) -> Own {
    match which % 3 {
        0 => Own::Probe,
        1 => Own::Auth,
        _ => Own::SetName,
    }
}

#[derive(Default)]
struct Server {
    asked: VecDeque<Ask>,
    live: [BTreeSet<u8>; 3],
    resp3: bool,
    monitored: bool,
    /// A replication stream has begun.
    streams: bool,
    /// What it has said, and where each frame ends.
    said: Vec<u8>,
    frames: VecDeque<(usize, Meaning)>,
}

impl Server {
    fn any(&self) -> bool {
        self.live.iter().any(|names| !names.is_empty())
    }

    fn frame(&mut self, bytes: &[u8], meaning: Meaning) {
        self.said.extend_from_slice(bytes);
        self.frames.push_back((self.said.len(), meaning));
    }

    /// Bytes between which no boundary can be seen.
    fn flow(&mut self, bytes: &[u8]) {
        if let Some((end, Meaning::Flow)) = self.frames.back_mut() {
            *end += bytes.len();
            self.said.extend_from_slice(bytes);
        } else {
            self.frame(bytes, Meaning::Flow);
        }
    }

    fn begins_stream(&self) -> bool {
        matches!(self.asked.front(), Some(Ask::Psync(_) | Ask::Sync(_)))
    }

    fn total(&self, kind: Kind) -> usize {
        if kind == Kind::Shard { self.live[2].len() } else { self.live[0].len() + self.live[1].len() }
    }

    fn sigil(&self) -> char {
        if self.resp3 { '>' } else { '*' }
    }

    fn confirmation(&self, kind: Kind, word: &str, name: Option<u8>) -> Vec<u8> {
        let word = format!("{}{word}", kind.letter());
        let name = name.map_or("$-1\r\n".to_owned(), |name| format!("$1\r\n{}\r\n", char::from(b'a' + name % 4)));
        format!("{}3\r\n${}\r\n{word}\r\n{name}:{}\r\n", self.sigil(), word.len(), self.total(kind)).into_bytes()
    }

    fn answer(&mut self) {
        let Some(ask) = self.asked.pop_front() else { return };
        // In RESP2 a subscriber may say little else.
        let restricted = !self.resp3 && self.any();
        match ask {
            Ask::Plain(_) | Ask::Exec(..) | Ask::Hello(_) | Ask::Own(..) | Ask::Monitor(_) if restricted => {
                let meaning = match ask {
                    Ask::Hello(_) => Meaning::Hello(None),
                    Ask::Own(which, _) => Meaning::Own(own(which)),
                    _ => Meaning::Reply,
                };
                self.frame(b"-ERR Can't execute in this context\r\n", meaning);
            }
            Ask::Plain(ref shape) | Ask::Own(_, ref shape) => {
                let bytes = match shape {
                    Shape::Attributed if self.resp3 => b"|1\r\n+ttl\r\n*1\r\n:9\r\n$1\r\nb\r\n".to_vec(),
                    Shape::Status | Shape::Attributed => b"+OK\r\n".to_vec(),
                    Shape::Bulk(len) => format!("${len}\r\n{}\r\n", "b".repeat((*len).into())).into_bytes(),
                    Shape::Null => b"$-1\r\n".to_vec(),
                    Shape::LikeMessage => b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n".to_vec(),
                    Shape::LikeConfirmation => b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n".to_vec(),
                    Shape::Nested => b"*2\r\n*1\r\n*1\r\n:1\r\n*0\r\n".to_vec(),
                };
                let meaning = if let Ask::Own(which, _) = ask { Meaning::Own(own(which)) } else { Meaning::Reply };
                self.frame(&bytes, meaning);
            }
            Ask::Exec(None, _) => self.frame(b"*-1\r\n", Meaning::Reply),
            Ask::Exec(Some(count), message) => {
                let elements =
                    "+OK\r\n*1\r\n:1\r\n".repeat(usize::from(count) / 2) + &":1\r\n".repeat(usize::from(count) % 2);
                let inside = message && count > 0 && self.resp3 && !self.live[0].is_empty();
                let message = if inside { ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n" } else { "" };
                self.frame(format!("*{count}\r\n{message}{elements}").as_bytes(), Meaning::Reply);
            }
            Ask::Subscribe(_, _, _, true) | Ask::Unsubscribe(_, _, _, true) | Ask::UnsubscribeAll(_, true) => {
                self.frame(b"-NOPERM no\r\n", Meaning::Reply);
            }
            Ask::Subscribe(kind, names, count, false) | Ask::Unsubscribe(kind, names, count, false) => {
                let subscribes = matches!(ask, Ask::Subscribe(..));
                let count = 1 + usize::from(count) % 3;
                for (n, name) in names.iter().take(count).enumerate() {
                    let live = &mut self.live[kind as usize];
                    if subscribes {
                        live.insert(name % 4)
                    } else {
                        live.remove(&(name % 4))
                    };
                    let word = if subscribes { "subscribe" } else { "unsubscribe" };
                    let bytes = self.confirmation(kind, word, Some(*name));
                    self.frame(&bytes, Meaning::Confirmation { closes: n + 1 == count });
                }
            }
            Ask::UnsubscribeAll(kind, false) => {
                let names: Vec<u8> = self.live[kind as usize].iter().copied().collect();
                if names.is_empty() {
                    let bytes = self.confirmation(kind, "unsubscribe", None);
                    self.frame(&bytes, Meaning::Confirmation { closes: true });
                }
                for (n, name) in names.iter().enumerate() {
                    self.live[kind as usize].remove(name);
                    let bytes = self.confirmation(kind, "unsubscribe", Some(*name));
                    self.frame(&bytes, Meaning::Confirmation { closes: n + 1 == names.len() });
                }
            }
            Ask::Hello(resp3) => {
                self.resp3 = resp3;
                let (bytes, protocol): (&[u8], _) = if resp3 {
                    (b"%1\r\n+proto\r\n:3\r\n", Protocol::Resp3)
                } else {
                    (b"*2\r\n+proto\r\n:2\r\n", Protocol::Resp2)
                };
                self.frame(bytes, Meaning::Hello(Some(protocol)));
            }
            Ask::Reset => {
                self.resp3 = false;
                self.monitored = false;
                self.live = Default::default();
                self.frame(b"+RESET\r\n", Meaning::Reset);
            }
            Ask::Monitor(true) => self.frame(b"-NOPERM no\r\n", Meaning::Reply),
            Ask::Monitor(false) => {
                self.monitored = true;
                self.frame(b"+OK\r\n", Meaning::Monitor);
            }
            Ask::Psync(how) | Ask::Sync(how) => {
                let line = match (how % 4, matches!(ask, Ask::Sync(_))) {
                    (0, _) => return self.frame(b"-NOMASTERLINK no\r\n", Meaning::Reply),
                    (1 | 3, true) => "$175\r\n".to_owned(),
                    (_, true) => format!("$EOF:{ID}\r\n"),
                    (1, false) => "+CONTINUE\r\n".to_owned(),
                    (2, false) => format!("+CONTINUE {ID}\r\n"),
                    (_, false) => format!("+FULLRESYNC {ID} 175\r\n"),
                };
                self.streams = true;
                self.frame(line.as_bytes(), Meaning::Granted);
            }
        }
    }

    fn unasked(&mut self, op: &Op) {
        match op {
            Op::Message(kind) => {
                let words: &[&str] = match kind % 3 {
                    0 if !self.live[0].is_empty() => &["message", "a", "b"],
                    1 if !self.live[1].is_empty() => &["pmessage", "a*", "a", "b"],
                    2 if !self.live[2].is_empty() => &["smessage", "a", "b"],
                    _ => return,
                };
                let mut bytes = format!("{}{}\r\n", self.sigil(), words.len());
                for word in words {
                    bytes += &format!("${}\r\n{word}\r\n", word.len());
                }
                self.frame(bytes.as_bytes(), Meaning::Push);
            }
            Op::Invalidate if self.resp3 => {
                self.frame(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n", Meaning::Push);
            }
            // Behind an unanswered SUNSUBSCRIBE it could not be told from a confirmation.
            Op::LoseShard if !self.asked.iter().any(unsubscribes_shards) => {
                if let Some(name) = self.live[2].pop_first() {
                    let bytes = self.confirmation(Kind::Shard, "unsubscribe", Some(name));
                    self.frame(&bytes, Meaning::Lost);
                }
            }
            Op::Line(len) if self.monitored => {
                let line = format!("+1763672400.000001 [0 127.0.0.1:1] \"get\" \"{}\"\r\n", "a".repeat((*len).into()));
                self.frame(line.as_bytes(), Meaning::Line);
            }
            Op::Newline if self.begins_stream() => self.flow(b"\n"),
            Op::Flow(bytes) if self.streams && !bytes.is_empty() => self.flow(bytes),
            _ => {}
        }
    }
}

const fn unsubscribes_shards(ask: &Ask) -> bool {
    matches!(ask, Ask::Unsubscribe(Kind::Shard, ..) | Ask::UnsubscribeAll(Kind::Shard, _))
}

struct Run {
    lane: Lane,
    server: Server,
    /// Bytes of what the server said that have come, and that the lane has passed.
    come: usize,
    at: usize,
    /// A HELLO or RESET is open: nothing is asked behind it.
    barrier: bool,
    owed: usize,
}

impl Run {
    fn ask(&mut self, ask: Ask) {
        // Two on their way to each other cannot be told apart; the connection then ends as `desync`.
        let lost = self.server.frames.iter().any(|(_, meaning)| *meaning == Meaning::Lost);
        if lost && unsubscribes_shards(&ask) {
            return;
        }
        // What the session sees to: nothing is asked behind a barrier, and RESET only when all is answered.
        if self.barrier || (matches!(ask, Ask::Reset) && self.owed > 0) {
            return;
        }
        // A stream is asked for when all is answered, a replica's by whom nothing else is sent; a monitor says little
        // else, a replica nothing.
        let stream = match ask {
            Ask::Monitor(_) => Some(Stream::Monitor),
            Ask::Psync(_) => Some(Stream::Psync),
            Ask::Sync(_) => Some(Stream::Sync),
            _ => None,
        };
        let plain = !self.lane.subscribed() && self.lane.protocol() == Protocol::Resp2;
        if stream.is_some_and(|stream| self.owed > 0 || (stream != Stream::Monitor && !plain))
            || (self.lane.monitoring() && !matches!(ask, Ask::Plain(Shape::Status) | Ask::Reset))
            || self.lane.replicating().is_some()
        {
            return;
        }
        self.barrier = stream.is_some() || matches!(ask, Ask::Hello(_) | Ask::Reset);
        let count = |count: u8| 1 + u32::from(count) % 3;
        let closes = match &ask {
            Ask::Plain(_) | Ask::Hello(_) | Ask::Reset | Ask::Own(..) => Closes::Reply,
            Ask::Monitor(_) | Ask::Psync(_) | Ask::Sync(_) => Closes::Stream(stream.unwrap_or(Stream::Monitor)),
            Ask::Exec(..) => Closes::Elements,
            Ask::Subscribe(kind, _, names, _) => Closes::Subscribed(kind.kind(), count(*names)),
            Ask::Unsubscribe(kind, _, names, _) => Closes::Unsubscribed(kind.kind(), count(*names)),
            Ask::UnsubscribeAll(kind, _) => Closes::UnsubscribedAll(kind.kind()),
        };
        match (stream, &ask) {
            (Some(stream), _) => self.lane.expect_stream(stream),
            (None, Ask::Own(which, _)) => self.lane.expect(Ticket { closes, own: Some(own(*which)) }),
            _ => self.lane.expect(Ticket { closes, own: None }),
        }
        self.owed += 1;
        self.server.asked.push_back(ask);
    }

    fn deliver(&mut self, more: usize) {
        self.come = self.come.saturating_add(more).min(self.server.said.len());
        loop {
            let rest = &self.server.said[self.at..self.come];
            let arrival = self.lane.next(rest).expect("all of it was asked for, or may come unasked");
            let Some((end, meaning)) = self.server.frames.front().copied() else {
                let nothing = match self.lane.replicating() {
                    Some(_) => Arrival::Stream { len: 0, begins: false },
                    None => Arrival::More,
                };
                return assert_eq!((arrival, rest.len()), (nothing, 0));
            };
            let left = end - self.at;
            let (len, ends) = match (arrival, meaning) {
                (Arrival::More, _) => {
                    assert!(rest.len() < left, "the lane waits for more than there will be");
                    return;
                }
                (Arrival::Stream { len: 0, begins: false }, Meaning::Flow) if rest.is_empty() => return,
                (
                    Arrival::Reply { len, last, .. },
                    Meaning::Reply | Meaning::Hello(_) | Meaning::Reset | Meaning::Monitor,
                ) => {
                    assert_eq!(last, len == left);
                    (len, last)
                }
                (Arrival::Confirmation { len, closes: closed }, Meaning::Confirmation { closes }) => {
                    assert_eq!(closed, closes && len == left);
                    (len, closed)
                }
                (Arrival::Own { len, own, last }, Meaning::Own(asked)) => {
                    assert_eq!((own, last), (asked, len == left));
                    (len, last)
                }
                (Arrival::Push { len }, Meaning::Push | Meaning::Lost)
                | (Arrival::Line { len }, Meaning::Line)
                | (Arrival::Stream { len, begins: false }, Meaning::Flow) => (len, false),
                (Arrival::Stream { len, begins: true }, Meaning::Granted) => {
                    assert_eq!(len, left, "the line that begins a stream is whole");
                    (len, true)
                }
                drift => panic!("{drift:?}"),
            };
            assert!((1..=left).contains(&len));
            self.at += len;
            if ends {
                self.owed -= 1;
            }
            if len == left {
                self.server.frames.pop_front();
                let streams = self.lane.replicating().is_some();
                assert_eq!(self.lane.at_boundary(), !streams);
                assert!(!streams || matches!(meaning, Meaning::Granted | Meaning::Flow));
                match meaning {
                    Meaning::Hello(protocol) => {
                        self.barrier = false;
                        protocol.into_iter().for_each(|protocol| self.lane.set_protocol(protocol));
                    }
                    Meaning::Reset => {
                        self.barrier = false;
                        self.lane.reset();
                    }
                    Meaning::Monitor => {
                        self.barrier = false;
                        assert!(self.lane.monitoring());
                    }
                    // What asked for a stream and was refused; nothing else is answered behind a barrier.
                    Meaning::Reply if self.owed == 0 => self.barrier = false,
                    _ => {}
                }
            }
            assert_eq!(self.lane.owed(), self.owed, "tickets drift");
        }
    }
}

pub fn run(data: &[u8]) {
    let [mode, data @ ..] = data else { return };
    let mut from = Unstructured::new(data);
    let mut run = Run { lane: Lane::new(LIMITS), server: Server::default(), come: 0, at: 0, barrier: false, owed: 0 };
    while !from.is_empty() {
        let Ok(op) = Op::arbitrary(&mut from) else { break };
        match op {
            Op::Ask(ask) => run.ask(ask),
            Op::Answer => run.server.answer(),
            Op::Deliver(more) => run.deliver(usize::from(more) + 1),
            unasked => run.server.unasked(&unasked),
        }
    }
    if mode & 1 == 1 {
        // A server gone mad, in the middle of anything: it is never given a ticket that was not asked for.
        let owed = run.lane.owed();
        let mut closed = 0;
        let mut rest = data;
        while !rest.is_empty()
            && let Ok(arrival) = run.lane.next(rest)
        {
            let len = match arrival {
                Arrival::More => return,
                Arrival::Reply { len, last, .. } | Arrival::Own { len, last, .. } => {
                    closed += usize::from(last);
                    len
                }
                Arrival::Confirmation { len, closes } => {
                    closed += usize::from(closes);
                    len
                }
                Arrival::Push { len } | Arrival::Line { len } => len,
                Arrival::Stream { len, begins } => {
                    closed += usize::from(begins);
                    len
                }
            };
            assert!(len > 0);
            assert_eq!(run.lane.owed() + closed, owed);
            rest = &rest[len..];
        }
        return;
    }
    while !run.server.asked.is_empty() {
        run.server.answer();
    }
    run.deliver(usize::MAX);
    assert_eq!((run.lane.owed(), run.lane.subscribed()), (0, run.server.any()));
}
