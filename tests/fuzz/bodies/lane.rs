//! A lane against a model of the server: tickets never drift, whatever is subscribed, pushed, refused or cut in pieces.

use arbitrary::{Arbitrary, Unstructured};
use ravelin::{
    command::PubSub,
    lane::{Arrival, Closes, Lane, Ticket, machine::Protocol},
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
    /// So many bytes reach the lane, and one more.
    Deliver(u8),
}

#[derive(Arbitrary, Clone, Debug)]
enum Ask {
    Plain(Shape),
    Exec(Option<u8>),
    Subscribe(Kind, [u8; 3], u8, bool),
    Unsubscribe(Kind, [u8; 3], u8, bool),
    UnsubscribeAll(Kind, bool),
    Hello(bool),
    Reset,
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
}

#[derive(Default)]
struct Server {
    asked: VecDeque<Ask>,
    live: [BTreeSet<u8>; 3],
    resp3: bool,
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
            Ask::Plain(_) | Ask::Exec(_) | Ask::Hello(_) if restricted => {
                let meaning = if matches!(ask, Ask::Hello(_)) { Meaning::Hello(None) } else { Meaning::Reply };
                self.frame(b"-ERR Can't execute in this context\r\n", meaning);
            }
            Ask::Plain(shape) => {
                let bytes = match shape {
                    Shape::Status => b"+OK\r\n".to_vec(),
                    Shape::Bulk(len) => format!("${len}\r\n{}\r\n", "b".repeat(len.into())).into_bytes(),
                    Shape::Null => b"$-1\r\n".to_vec(),
                    Shape::LikeMessage => b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n".to_vec(),
                    Shape::LikeConfirmation => b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n".to_vec(),
                    Shape::Nested => b"*2\r\n*1\r\n*1\r\n:1\r\n*0\r\n".to_vec(),
                };
                self.frame(&bytes, Meaning::Reply);
            }
            Ask::Exec(None) => self.frame(b"*-1\r\n", Meaning::Reply),
            Ask::Exec(Some(count)) => {
                let elements =
                    "+OK\r\n*1\r\n:1\r\n".repeat(usize::from(count) / 2) + &":1\r\n".repeat(usize::from(count) % 2);
                self.frame(format!("*{count}\r\n{elements}").as_bytes(), Meaning::Reply);
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
                self.live = Default::default();
                self.frame(b"+RESET\r\n", Meaning::Reset);
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
        self.barrier = matches!(ask, Ask::Hello(_) | Ask::Reset);
        let count = |count: u8| 1 + u32::from(count) % 3;
        let closes = match &ask {
            Ask::Plain(_) | Ask::Hello(_) | Ask::Reset => Closes::Reply,
            Ask::Exec(_) => Closes::Elements,
            Ask::Subscribe(kind, _, names, _) => Closes::Subscribed(kind.kind(), count(*names)),
            Ask::Unsubscribe(kind, _, names, _) => Closes::Unsubscribed(kind.kind(), count(*names)),
            Ask::UnsubscribeAll(kind, _) => Closes::UnsubscribedAll(kind.kind()),
        };
        self.lane.expect(Ticket { closes, own: None });
        self.owed += 1;
        self.server.asked.push_back(ask);
    }

    fn deliver(&mut self, more: usize) {
        self.come = self.come.saturating_add(more).min(self.server.said.len());
        loop {
            let rest = &self.server.said[self.at..self.come];
            let arrival = self.lane.next(rest).expect("all of it was asked for, or may come unasked");
            let Some((end, meaning)) = self.server.frames.front().copied() else {
                return assert_eq!((arrival, rest.len()), (Arrival::More, 0));
            };
            let left = end - self.at;
            let (len, ends) = match (arrival, meaning) {
                (Arrival::More, _) => {
                    assert!(rest.len() < left, "the lane waits for more than there will be");
                    return;
                }
                (Arrival::Reply { len, last, .. }, Meaning::Reply | Meaning::Hello(_) | Meaning::Reset) => {
                    assert_eq!(last, len == left);
                    (len, last)
                }
                (Arrival::Confirmation { len, closes: closed }, Meaning::Confirmation { closes }) => {
                    assert_eq!(closed, closes && len == left);
                    (len, closed)
                }
                (Arrival::Push { len }, Meaning::Push | Meaning::Lost) => (len, false),
                drift => panic!("{drift:?}"),
            };
            assert!((1..=left).contains(&len));
            self.at += len;
            if ends {
                self.owed -= 1;
            }
            if len == left {
                self.server.frames.pop_front();
                assert!(self.lane.at_boundary());
                match meaning {
                    Meaning::Hello(protocol) => {
                        self.barrier = false;
                        protocol.into_iter().for_each(|protocol| self.lane.set_protocol(protocol));
                    }
                    Meaning::Reset => {
                        self.barrier = false;
                        self.lane.reset();
                    }
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
        while let Ok(arrival) = run.lane.next(rest) {
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
                Arrival::Push { len } | Arrival::Line { len } | Arrival::Stream { len, .. } => len,
            };
            assert!(len > 0 && closed <= owed);
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
