//! A server that answers in its own time, and what each frame it says is to the lane.

use super::Op;
use arbitrary::Arbitrary;
use ravelin::{
    command::PubSub,
    lane::{machine::Protocol, tickets::Own},
};
use std::collections::{BTreeSet, VecDeque};

#[derive(Arbitrary, Clone, Debug)]
pub(super) enum Ask {
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
pub(super) enum Shape {
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
pub(super) enum Kind {
    Channel,
    Pattern,
    Shard,
}

impl Kind {
    pub(super) const fn kind(self) -> PubSub {
        match self {
            Self::Channel => PubSub::Channel,
            Self::Pattern => PubSub::Pattern,
            Self::Shard => PubSub::Shard,
        }
    }

    pub(super) const fn letter(self) -> &'static str {
        match self {
            Self::Channel => "",
            Self::Pattern => "p",
            Self::Shard => "s",
        }
    }
}

/// What a frame of the server is to the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
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

pub(super) const ID: &str = "8371445ee47bed6f2eac8a36c6c0b5b5a8b21ee4";

pub(super) const fn own(which: u8) -> Own {
    match which % 3 {
        0 => Own::Probe,
        1 => Own::Auth,
        _ => Own::SetName,
    }
}

#[derive(Default)]
pub(super) struct Server {
    pub(super) asked: VecDeque<Ask>,
    pub(super) live: [BTreeSet<u8>; 3],
    pub(super) resp3: bool,
    pub(super) monitored: bool,
    /// A replication stream has begun.
    pub(super) streams: bool,
    /// What it has said, and where each frame ends.
    pub(super) said: Vec<u8>,
    pub(super) frames: VecDeque<(usize, Meaning)>,
}

impl Server {
    pub(super) fn any(&self) -> bool {
        self.live.iter().any(|names| !names.is_empty())
    }

    pub(super) fn frame(&mut self, bytes: &[u8], meaning: Meaning) {
        self.said.extend_from_slice(bytes);
        self.frames.push_back((self.said.len(), meaning));
    }

    /// Bytes between which no boundary can be seen.
    pub(super) fn flow(&mut self, bytes: &[u8]) {
        if let Some((end, Meaning::Flow)) = self.frames.back_mut() {
            *end += bytes.len();
            self.said.extend_from_slice(bytes);
        } else {
            self.frame(bytes, Meaning::Flow);
        }
    }

    pub(super) fn begins_stream(&self) -> bool {
        matches!(self.asked.front(), Some(Ask::Psync(_) | Ask::Sync(_)))
    }

    pub(super) fn total(&self, kind: Kind) -> usize {
        if kind == Kind::Shard { self.live[2].len() } else { self.live[0].len() + self.live[1].len() }
    }

    pub(super) fn sigil(&self) -> char {
        if self.resp3 { '>' } else { '*' }
    }

    pub(super) fn confirmation(&self, kind: Kind, word: &str, name: Option<u8>) -> Vec<u8> {
        let word = format!("{}{word}", kind.letter());
        let name = name.map_or("$-1\r\n".to_owned(), |name| format!("$1\r\n{}\r\n", char::from(b'a' + name % 4)));
        format!("{}3\r\n${}\r\n{word}\r\n{name}:{}\r\n", self.sigil(), word.len(), self.total(kind)).into_bytes()
    }

    pub(super) fn answer(&mut self) {
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

    pub(super) fn unasked(&mut self, op: &Op) {
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

pub(super) const fn unsubscribes_shards(ask: &Ask) -> bool {
    matches!(ask, Ask::Unsubscribe(Kind::Shard, ..) | Ask::UnsubscribeAll(Kind::Shard, _))
}
