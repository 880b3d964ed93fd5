//! A lane against a model of the server: tickets never drift, whatever is subscribed, pushed, refused or cut in pieces.

use arbitrary::{Arbitrary, Unstructured};
use ravelin::{
    lane::{Arrival, Closes, Lane, Stream, Ticket, machine::Protocol},
    resp::reply::ReplyLimits,
};
use server::{Ask, Meaning, Server, Shape, own, unsubscribes_shards};

mod server;

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
