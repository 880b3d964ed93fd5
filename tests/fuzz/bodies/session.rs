//! A session between a client, a Redis, a sink and a clock that do what they like, driven as the pump drives it. Whatever
//! happens: one record for each command, replies in order, nothing but canonical allowed commands up, all memory given
//! back, and an end once everybody has ended.

use arbitrary::{Arbitrary, Unstructured};
use ravelin::{
    audit::{
        encode::{ConnectionFacts, MAX_LINE},
        record::Recorder,
    },
    lane::greeting::{Credential, Greeting},
    moment::Moment,
    policy::{
        identity::{AuthenticatedPeer, Identity, Match, Role},
        network::Admission,
        pattern::{Kind, Pattern},
        rules::Policy,
    },
    resp::{
        encode,
        reply::ReplyLimits,
        request::{Request, RequestLimits, RequestParser},
    },
    secret::Secret,
    session::{
        End, MemoryBudget, Turn,
        error::CloseReason,
        gather::Gather,
        machine::{Session, SessionConfig},
    },
};
use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

const DENIED: [&str; 2] = ["FLUSHALL", "KEYS"];
const HELD: usize = 1024;
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

#[derive(Arbitrary, Clone, Debug)]
enum Say {
    Get,
    Denied,
    Unknown,
    Multi,
    Exec,
    Discard,
    Blank,
    EmptyArray,
    /// Streamed if it is long enough.
    Set(u16),
    DeniedLarge(u16),
    /// With a begin line.
    Config,
    BadSelect,
    /// Those whose replies are not foretold.
    Mset(u16),
    Pop,
    Select(u8),
    Silence(u8),
    Hello(bool),
    Reset,
    Subscribe(u8),
    Unsubscribe(u8),
    UnsubscribeAll(u8),
    Quit,
    Ping,
    Monitor,
    Psync(u8),
    Sync,
    Replconf(u8),
    Ack(u16),
    Newline,
    /// A client that brings a password.
    Login(u8),
    /// Words that mean something to somebody, in any order.
    Words(Vec<u8>),
    /// A large value that is longer than was said.
    Overlong(u16),
}

const PASSWORD: &[u8] = b"hunter2";

/// What `Words` consist of.
const WORDS: [&str; 64] = [
    "HELLO",
    "3",
    "2",
    "9",
    "03",
    "x",
    "",
    "a\0b",
    "SETNAME",
    "n",
    "AUTH",
    "MULTI",
    "EXEC",
    "DISCARD",
    "WATCH",
    "RESET",
    "QUIT",
    "PING",
    "CLIENT",
    "REPLY",
    "ON",
    "OFF",
    "SKIP",
    "KILL",
    "TRACKING",
    "BCAST",
    "SUBSCRIBE",
    "PSUBSCRIBE",
    "SSUBSCRIBE",
    "UNSUBSCRIBE",
    "PUNSUBSCRIBE",
    "SUNSUBSCRIBE",
    "PUBLISH",
    "GET",
    "SET",
    "EX",
    "10",
    "+10",
    "-1",
    "1.5",
    "MSET",
    "XREAD",
    "BLOCK",
    "0",
    "STREAMS",
    "$",
    "BLPOP",
    "BLMPOP",
    "1",
    "LEFT",
    "SELECT",
    "CONFIG",
    "ACL",
    "EVAL",
    "SYNC",
    "PSYNC",
    "?",
    "MONITOR",
    "REPLCONF",
    "capa",
    "FUNCTION",
    "OBJECT",
    "SHUTDOWN",
    "99999999999999999999",
];

impl Say {
    fn bytes(&self, tag: usize) -> Vec<u8> {
        let tag = tag.to_string();
        let value = |len: &u16| vec![b'v'; usize::from(*len) % 4000];
        let name = |n: &u8| [b'a' + n % 3];
        let kind = |n: &u8| ["", "P", "S"][usize::from(n / 3) % 3];
        let words: Vec<Vec<u8>> = match self {
            Self::Blank => return b"\r\n".to_vec(),
            Self::Newline => return b"\n".to_vec(),
            Self::EmptyArray => return b"*-3\r\n".to_vec(),
            Self::Get => vec![b"GET".to_vec(), tag.into_bytes()],
            Self::Denied => vec![b"FlushAll".to_vec()],
            Self::Unknown => vec![b"NOSUCH".to_vec(), b"x".to_vec()],
            Self::Multi => vec![b"MULTI".to_vec()],
            Self::Exec => vec![b"EXEC".to_vec()],
            Self::Discard => vec![b"DISCARD".to_vec()],
            Self::Set(len) => vec![b"SET".to_vec(), tag.into_bytes(), value(len)],
            Self::DeniedLarge(len) => vec![b"KEYS".to_vec(), value(len)],
            Self::Config => vec![b"CONFIG".to_vec(), b"GET".to_vec(), tag.into_bytes()],
            Self::BadSelect => vec![b"SELECT".to_vec(), b"+1".to_vec()],
            Self::Mset(len) => vec![b"MSET".to_vec(), b"a".to_vec(), value(len), b"b".to_vec(), b"1".to_vec()],
            Self::Pop => vec![b"BLPOP".to_vec(), b"q".to_vec(), b"0".to_vec()],
            Self::Select(db) => vec![b"SELECT".to_vec(), (db % 16).to_string().into_bytes()],
            Self::Silence(kind) => {
                let word = ["ON", "OFF", "SKIP"][usize::from(*kind) % 3];
                vec![b"CLIENT".to_vec(), b"REPLY".to_vec(), word.into()]
            }
            Self::Hello(resp3) => vec![b"HELLO".to_vec(), if *resp3 { b"3".to_vec() } else { b"2".to_vec() }],
            Self::Reset => vec![b"RESET".to_vec()],
            Self::Subscribe(n) => vec![format!("{}SUBSCRIBE", kind(n)).into_bytes(), name(n).to_vec(), b"z".to_vec()],
            Self::Unsubscribe(n) => vec![format!("{}UNSUBSCRIBE", kind(n)).into_bytes(), name(n).to_vec()],
            Self::UnsubscribeAll(n) => vec![format!("{}UNSUBSCRIBE", kind(n)).into_bytes()],
            Self::Login(how) => {
                let line = match how % 6 {
                    0 => "AUTH hunter2",
                    1 => "AUTH u hunter2",
                    2 => "HELLO 3 AUTH u hunter2",
                    3 => "HELLO 2 SETNAME n AUTH u hunter2",
                    4 => "HELLO 9 AUTH u hunter2",
                    _ => "HELLO 3 AUTH hunter2",
                };
                line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
            }
            Self::Words(list) => list.iter().map(|n| WORDS[usize::from(*n) % 64].as_bytes().to_vec()).collect(),
            Self::Overlong(len) => {
                let len = usize::from(*len) % 4000;
                return [format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${len}\r\n").as_bytes(), &vec![b'v'; len + 3]].concat();
            }
            Self::Quit => vec![b"QUIT".to_vec()],
            Self::Ping => vec![b"PING".to_vec()],
            Self::Monitor => vec![b"MONITOR".to_vec()],
            Self::Psync(offset) => vec![b"PSYNC".to_vec(), ID.into(), offset.to_string().into_bytes()],
            Self::Sync => vec![b"SYNC".to_vec()],
            Self::Replconf(kind) => {
                let list: &[&str] = match kind % 3 {
                    0 => &["listening-port", "6380"],
                    1 => &["capa", "eof", "capa", "rdb-channel-repl"],
                    _ => &["rdb-only", "1"],
                };
                std::iter::once(&"REPLCONF").chain(list).map(|word| word.as_bytes().to_vec()).collect()
            }
            Self::Ack(offset) => vec![b"REPLCONF".to_vec(), b"ACK".to_vec(), offset.to_string().into_bytes()],
        };
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let mut out = Vec::new();
        encode::command(&mut out, &words);
        out
    }

    const fn foretold(&self) -> bool {
        !matches!(
            self,
            Self::Mset(_)
                | Self::Pop
                | Self::Select(_)
                | Self::Silence(_)
                | Self::Hello(_)
                | Self::Reset
                | Self::Subscribe(_)
                | Self::Unsubscribe(_)
                | Self::Quit
                | Self::Monitor
                | Self::Psync(_)
                | Self::Sync
                | Self::Replconf(_)
                | Self::Ack(_)
                | Self::Newline
                | Self::UnsubscribeAll(_)
                | Self::Login(_)
                | Self::Words(_)
                | Self::Overlong(_)
        )
    }
}

/// A Redis with as much sense as the dialogue needs. The client's own view of it runs beside, to foretell replies.
#[derive(Default)]
struct Redis {
    multi: Option<Vec<Vec<u8>>>,
    resp3: bool,
    /// Channels, patterns, shard channels.
    live: [BTreeSet<Vec<u8>>; 3],
    whim: Option<u8>,
    /// It has said what nobody asked for: what it is told may be meant for another.
    mad: bool,
    monitored: bool,
    /// A replication stream has begun.
    streams: bool,
    /// Asks for a password, and has not been given it on this connection.
    protected: bool,
    locked: bool,
    refuses: Refuses,
}

/// How Redis takes the greeting.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Refuses {
    #[default]
    Nothing,
    Password,
    /// It asks nobody for one, so whoever is here is not the Redis that was meant.
    Nobody,
    /// It has its maxclients.
    Everybody,
}

impl Redis {
    fn answer(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let name = words[0].to_ascii_uppercase();
        if self.locked {
            return match (&name[..], self.refuses) {
                (b"PING", Refuses::Nobody) => b"+PONG\r\n".to_vec(),
                (b"PING", _) => b"-NOAUTH Authentication required.\r\n".to_vec(),
                (b"AUTH", Refuses::Password) => b"-WRONGPASS invalid username-password pair\r\n".to_vec(),
                (b"AUTH", _) => {
                    self.locked = false;
                    b"+OK\r\n".to_vec()
                }
                _ if self.mad => Vec::new(),
                _ => panic!("{words:?} went up before AUTH was answered"),
            };
        }
        if let Some(whim) = self.whim.take().filter(|_| !self.streams) {
            let answers: [&[u8]; 9] = [
                b"-NOPERM no\r\n",
                b"-LOADING Redis is loading the dataset in memory\r\n",
                b"-NOAUTH Authentication required.\r\n",
                b"-EXECABORT Transaction discarded because of previous errors.\r\n",
                b"-ERR DISCARD without MULTI\r\n",
                b"-ERR no\r\n",
                b"*-1\r\n",
                b"+QUEUED\r\n",
                b"+OK\r\n",
            ];
            // RESET is refused or executed.
            let some = if name == b"RESET" { 6 } else { 9 };
            return answers[usize::from(whim) % some].to_vec();
        }
        match (&name[..], &mut self.multi) {
            (b"AUTH", _) => {
                assert!(self.mad, "AUTH without need");
                b"+OK\r\n".to_vec()
            }
            (b"RESET", _) => {
                let (protected, refuses, mad) = (self.protected, self.refuses, self.mad);
                *self = Self { protected, locked: protected, refuses, mad, ..Self::default() };
                b"+RESET\r\n".to_vec()
            }
            _ if self.streams && self.mad => Vec::new(),
            (b"REPLCONF", _) if self.streams => {
                assert!(words.len() % 2 == 1 && words[1].eq_ignore_ascii_case(b"ACK"), "{words:?} went up on a stream");
                Vec::new()
            }
            _ if self.streams => panic!("{words:?} went up on a stream"),
            (b"PSYNC", None) => match words[2].last() {
                Some(b'0'..=b'3') => b"\n-NOMASTERLINK Can't SYNC while not connected with my master\r\n".to_vec(),
                last => {
                    self.streams = true;
                    let (grant, rest) =
                        if last == Some(&b'9') { ("CONTINUE", "") } else { ("FULLRESYNC", " 1\r\n$7\r\nhello") };
                    format!("\n\n+{grant} {ID}{rest}\r\n").into_bytes()
                }
            },
            (b"SYNC", None) => {
                self.streams = true;
                format!("\n$EOF:{ID}\r\nhello{ID}").into_bytes()
            }
            (b"MONITOR", None) if self.resp3 || self.live.iter().all(BTreeSet::is_empty) => {
                self.monitored = true;
                b"+OK\r\n".to_vec()
            }
            (b"MONITOR", _) => b"-ERR Can't execute 'monitor'\r\n".to_vec(),
            (b"MULTI", Some(_)) => b"-ERR MULTI calls can not be nested\r\n".to_vec(),
            (b"MULTI", multi) => {
                *multi = Some(Vec::new());
                b"+OK\r\n".to_vec()
            }
            (b"EXEC", None) => b"-ERR EXEC without MULTI\r\n".to_vec(),
            (b"EXEC", multi) => {
                let replies = multi.take().unwrap_or_default();
                [format!("*{}\r\n", replies.len()).into_bytes(), replies.concat()].concat()
            }
            (b"DISCARD", None) => b"-ERR DISCARD without MULTI\r\n".to_vec(),
            (b"DISCARD", multi) => {
                *multi = None;
                b"+OK\r\n".to_vec()
            }
            (_, Some(queued)) => {
                let reply = Self::plain(&name, words);
                queued.push(reply);
                b"+QUEUED\r\n".to_vec()
            }
            (b"HELLO", None) => {
                if let Some(version) = words.get(1) {
                    self.resp3 = *version == b"3";
                }
                b"*0\r\n".to_vec()
            }
            (b"SUBSCRIBE" | b"PSUBSCRIBE" | b"SSUBSCRIBE", None) if words.len() == 1 => {
                b"-ERR wrong number of arguments\r\n".to_vec()
            }
            (_, None) if name.ends_with(b"SUBSCRIBE") => self.subscribe(&name, words),
            _ => Self::plain(&name, words),
        }
    }

    fn subscribe(&mut self, name: &[u8], words: &[&[u8]]) -> Vec<u8> {
        let kind = match name[0] {
            b'P' => 1,
            b'S' if name[1] == b'S' || &name[1..3] == b"UN" => 2,
            _ => 0,
        };
        let subscribes = !name.ends_with(b"UNSUBSCRIBE");
        let mut names: Vec<Option<Vec<u8>>> = words[1..].iter().map(|name| Some(name.to_vec())).collect();
        if names.is_empty() {
            names = self.live[kind].iter().cloned().map(Some).collect();
        }
        if names.is_empty() {
            names.push(None);
        }
        names
            .into_iter()
            .flat_map(|channel| self.confirm(kind, subscribes, &String::from_utf8_lossy(name), channel))
            .collect()
    }

    fn confirm(&mut self, kind: usize, subscribes: bool, word: &str, channel: Option<Vec<u8>>) -> Vec<u8> {
        let mut out = if self.resp3 { b">3\r\n".to_vec() } else { b"*3\r\n".to_vec() };
        out.extend(format!("${}\r\n{}\r\n", word.len(), word.to_ascii_lowercase()).into_bytes());
        match channel {
            None => out.extend_from_slice(b"$-1\r\n"),
            Some(channel) => {
                out.extend(format!("${}\r\n", channel.len()).into_bytes());
                out.extend_from_slice(&channel);
                out.extend_from_slice(b"\r\n");
                if subscribes {
                    self.live[kind].insert(channel);
                } else {
                    self.live[kind].remove(&channel);
                }
            }
        }
        let total = if kind == 2 { self.live[2].len() } else { self.live[0].len() + self.live[1].len() };
        out.extend(format!(":{total}\r\n").into_bytes());
        out
    }

    fn plain(name: &[u8], words: &[&[u8]]) -> Vec<u8> {
        match name {
            b"GET" => {
                let key = words.get(1).copied().unwrap_or_default();
                [format!("${}\r\n", key.len()).as_bytes(), key, b"\r\n"].concat()
            }
            b"CONFIG" => b"*2\r\n$1\r\na\r\n$0\r\n\r\n".to_vec(),
            b"BLPOP" => b"*-1\r\n".to_vec(),
            _ => b"+OK\r\n".to_vec(),
        }
    }
}

/// What the client must be told, in the order it asked.
#[derive(Default)]
struct Foretold {
    redis: Redis,
    dirty: bool,
    replies: Vec<u8>,
    commands: u64,
}

impl Foretold {
    fn say(&mut self, say: &Say, bytes: &[u8]) {
        let denial: &[u8] = match say {
            Say::Blank | Say::EmptyArray => return,
            Say::Denied => b"-NOPERM this user has no permissions to run the 'flushall' command\r\n",
            Say::DeniedLarge(_) => b"-NOPERM this user has no permissions to run the 'keys' command\r\n",
            Say::Unknown => b"-NOPERM this user has no permissions to run the 'NOSUCH' command\r\n",
            Say::BadSelect => b"-ERR value is not an integer or out of range\r\n",
            Say::Exec if self.dirty && self.redis.multi.take().is_some() => {
                b"-EXECABORT Transaction discarded because of previous errors.\r\n"
            }
            _ => b"",
        };
        self.commands += 1;
        if denial.is_empty() {
            each_command(bytes, false, |words| self.replies.extend(self.redis.answer(words)));
        } else {
            self.replies.extend_from_slice(denial);
        }
        // A denial spoils the transaction it stands in; EXEC, DISCARD and a fresh MULTI clear that.
        let denied = !denial.is_empty() && !matches!(say, Say::Exec);
        self.dirty = self.redis.multi.is_some() && (self.dirty || denied);
    }
}

/// Every whole command at the front of `bytes`; how many bytes they are.
fn each_command(bytes: &[u8], newlines: bool, mut take: impl FnMut(&[&[u8]])) -> usize {
    let mut parser =
        RequestParser::new(RequestLimits { words_max: 4096, bulk_max: 1 << 20, blanks_max: 0, inline: false });
    let mut at = 0;
    loop {
        // A replica shows that it is alive.
        while newlines && bytes[at..].starts_with(b"\n") {
            at += 1;
        }
        let Request::Command { len } = parser.next(&bytes[at..]).expect("only what is canonical goes up") else {
            return at;
        };
        let words: Vec<&[u8]> = parser.words(&bytes[at..]).iter().collect();
        take(&words);
        at += len;
    }
}

fn peer(strict: bool) -> AuthenticatedPeer {
    static PEERS: OnceLock<[AuthenticatedPeer; 2]> = OnceLock::new();
    let make = |deny: &[&str]| {
        let src = "127.0.0.1:4711".parse().unwrap();
        let admitted = Admission::new(&["127.0.0.0/8".parse().unwrap()], &[]).admit(src).unwrap();
        let identity = Identity { cn: Some("app".to_owned()), not_after: i64::MAX / 2, ..Identity::default() };
        let role = Role {
            name: "app".to_owned(),
            matches: vec![Match { cn: Some(Pattern::new("app", Kind::Plain).unwrap()), ..Match::default() }],
            priority: 0,
            policy: Arc::new(Policy::compile(deny).unwrap()),
        };
        let service: Arc<str> = Arc::from("cache");
        AuthenticatedPeer::authenticate(admitted, Arc::new(identity), &[Arc::new(role)], &service, Moment::default())
            .unwrap()
    };
    PEERS.get_or_init(|| [make(&DENIED), make(&["FLUSHALL", "KEYS", "GET"])])[usize::from(strict)].clone()
}

struct Run {
    session: Session,
    recorder: Recorder,
    memory: MemoryBudget,
    now: Moment,
    /// What the client has written and the session has not been offered; what it was offered and left.
    wire: Vec<u8>,
    down_rest: Vec<u8>,
    down_again: bool,
    client_ended: Option<bool>,
    end_told: bool,
    /// Towards Redis: not taken by the kernel yet; taken and not understood yet.
    up: Vec<u8>,
    seen: Vec<u8>,
    redis: Redis,
    said: Vec<u8>,
    /// What it said from the replication id on.
    streamed: Vec<u8>,
    up_rest: Vec<u8>,
    up_again: bool,
    redis_ended: bool,
    /// What the client was given, and how much of it its socket has not taken.
    down: Vec<u8>,
    unread: usize,
    blocked: bool,
    /// The client has written bytes of any kind.
    raw: bool,
    records: u64,
    lines: Vec<u8>,
}

type Act<'a> = &'a mut dyn FnMut(&mut Session, &[u8], &mut Turn<'_>, &mut Gather<'_>, &mut Gather<'_>) -> usize;

impl Run {
    fn tell(&mut self, input: &[u8], act: Act<'_>) -> usize {
        let (mut up, mut down) = (Gather::new(input, Vec::new()), Gather::new(input, Vec::new()));
        let mut turn =
            Turn { now: self.now, recorder: &mut self.recorder, memory: &mut self.memory, down_pending: self.unread };
        let consumed = act(&mut self.session, input, &mut turn, &mut up, &mut down);
        assert!(consumed <= input.len());
        let (first, second) = up.slices();
        self.up.extend_from_slice(first);
        self.up.extend_from_slice(second);
        let before = self.down.len();
        let (first, second) = down.slices();
        self.down.extend_from_slice(first);
        self.down.extend_from_slice(second);
        if self.blocked {
            self.unread += self.down.len() - before;
        }
        let wants = self.session.wants();
        self.down_again |= !wants.read_down;
        self.up_again |= !wants.read_up;
        consumed
    }

    fn downstream(&mut self) {
        let input = std::mem::take(&mut self.down_rest);
        let consumed = self.tell(&input, &mut Session::downstream);
        self.down_rest = input[consumed..].to_vec();
        self.down_again &= !self.down_rest.is_empty();
    }

    fn upstream(&mut self) {
        let input = std::mem::take(&mut self.up_rest);
        let consumed = self.tell(&input, &mut Session::upstream);
        self.up_rest = input[consumed..].to_vec();
        self.up_again &= !self.up_rest.is_empty();
    }

    fn resume(&mut self) {
        self.tell(b"", &mut |session, _, turn, up, down| {
            session.resume(turn, up, down);
            0
        });
    }

    /// What the pump does by itself after anything has happened.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let wants = self.session.wants();
            if wants.done {
                return;
            }
            let written = wants.written.is_some_and(|written| self.recorder.written() >= written);
            let due = wants.wake_at_us.is_some_and(|at| at <= self.now.mono_us);
            if written || due || (wants.room && self.recorder.has_room()) || (wants.flushed && self.unread == 0) {
                self.resume();
            } else if wants.read_up
                && self.unread == 0
                && std::mem::take(&mut self.up_again)
                && !self.up_rest.is_empty()
            {
                self.upstream();
            } else if wants.read_down
                && self.up.is_empty()
                && std::mem::take(&mut self.down_again)
                && !self.down_rest.is_empty()
            {
                self.downstream();
            } else {
                return;
            }
        }
        panic!("the session does not come to rest: {:?}", self.session.wants());
    }

    fn read(&mut self, most: usize) {
        let wants = self.session.wants();
        let held = !wants.read_down || !self.up.is_empty();
        if wants.down != End::Open || self.end_told {
            return;
        }
        if held {
            if let Some(clean) = self.client_ended
                && self.session.ends_with_client()
            {
                self.end(clean);
            }
        } else if self.wire.is_empty() {
            if let Some(clean) = self.client_ended {
                self.end(clean);
            }
        } else {
            let piece = self.wire.drain(..most.min(self.wire.len()));
            self.down_rest.extend(piece);
            self.downstream();
        }
    }

    fn end(&mut self, clean: bool) {
        self.end_told = true;
        self.tell(b"", &mut |session, _, turn, up, down| {
            session.downstream_end(clean, turn, up, down);
            0
        });
    }

    fn take(&mut self, most: usize) {
        if self.redis_ended {
            return;
        }
        self.seen.extend(self.up.drain(..most.min(self.up.len())));
        let no_password = !self.raw;
        let (redis, said, streamed) = (&mut self.redis, &mut self.said, &mut self.streamed);
        let len = each_command(&self.seen, redis.streams || redis.mad, |words| {
            assert!(!no_password || !words.contains(&PASSWORD), "a client's password went up");
            assert!(!DENIED.iter().any(|name| words[0].eq_ignore_ascii_case(name.as_bytes())), "{words:?} went up");
            assert!(words[0] != b"NOSUCH", "{words:?} went up");
            let answer = redis.answer(words);
            if redis.streams && streamed.is_empty() {
                streamed.extend_from_slice(&answer[find(&answer, ID.as_bytes()).unwrap()..]);
            }
            said.extend(answer);
        });
        self.seen.drain(..len);
    }

    fn hear(&mut self, most: usize) {
        let wants = self.session.wants();
        if wants.up != End::Open || !wants.read_up || self.unread > 0 {
            return;
        }
        if self.said.is_empty() {
            if std::mem::take(&mut self.redis_ended) {
                let unsent = self.up.len();
                self.tell(b"", &mut |session, _, turn, _, down| {
                    session.upstream_end(unsent, turn, down);
                    0
                });
            }
            return;
        }
        let piece = self.said.drain(..most.min(self.said.len()));
        self.up_rest.extend(piece);
        self.upstream();
    }

    fn write(&mut self, most: u64) {
        let lines = self.recorder.take();
        self.records +=
            lines.split(|byte| *byte == b'\n').filter(|line| find(line, b"\"event\":\"command\"").is_some()).count()
                as u64;
        self.lines = if lines.is_empty() { std::mem::take(&mut self.lines) } else { lines };
        let written = self.recorder.written().saturating_add(most);
        self.recorder.set_written(written);
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

fn start(mode: u8, connects: bool) -> Run {
    let config = SessionConfig {
        request: RequestLimits { words_max: 64, bulk_max: 1 << 16, blanks_max: 16, inline: mode & 1 != 0 },
        reply: ReplyLimits { line_max: 1024, bulk_max: 1 << 16, elements_max: 1 << 16 },
        stream_from: 256,
        held_command_max: HELD,
        unanswered_max: if mode & 2 == 0 { 1 << 16 } else { 512 },
        idle_timeout_us: if mode & 4 == 0 { 0 } else { 3_000_000 },
        ignore_client_auth: mode & 8 != 0,
        show_keys: true,
        greeting: Greeting {
            credential: (mode & 16 == 0)
                .then(|| Credential { username: None, password: Secret::new(b"s3cret".to_vec()) }),
            set_name: false,
        },
        greeting_timeout_us: 10_000_000,
    };
    let room = if mode & 32 == 0 { 1 << 20 } else { MAX_LINE + 600 };
    let mut recorder = Recorder::new(0, room);
    let mut memory = MemoryBudget::new(if mode & 64 == 0 { 1 << 20 } else { 900 });
    let now = Moment { mono_us: 1_000_000, wall_us: 1_763_672_400_000_000 };
    let facts = ConnectionFacts::new("t-1", "cache", "127.0.0.1:4711".parse().unwrap(), "app", "app", None);
    let turn = Turn { now, recorder: &mut recorder, memory: &mut memory, down_pending: 0 };
    let session = Session::new(Arc::new(config), peer(false), facts, &turn);
    let mut run = Run {
        session,
        recorder,
        memory,
        now,
        wire: Vec::new(),
        down_rest: Vec::new(),
        down_again: false,
        client_ended: None,
        end_told: false,
        up: Vec::new(),
        seen: Vec::new(),
        redis: Redis::default(),
        said: Vec::new(),
        streamed: Vec::new(),
        up_rest: Vec::new(),
        up_again: false,
        redis_ended: false,
        down: Vec::new(),
        unread: 0,
        blocked: false,
        raw: false,
        records: 0,
        lines: Vec::new(),
    };
    run.tell(b"", &mut |session, _, turn, up, down| {
        if connects {
            session.connected(turn, up, down);
        } else {
            session.connect_failed("timeout", "no answer", turn, down);
        }
        0
    });
    if mode & 16 == 0 {
        (run.redis.protected, run.redis.locked) = (true, true);
    }
    run
}

pub fn run(data: &[u8]) {
    let [mode, data @ ..] = data else { return };
    let mut data = data;
    let connects = mode & 128 == 0 || data.first().is_none_or(|how| how % 8 != 7);
    let mut run = start(*mode, connects);
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
    let mut tame = mode & 2 == 0 && mode & 4 == 0 && !refused && connects;
    let mut from = Unstructured::new(data);
    let mut tag = 0;
    while !from.is_empty() && !run.session.wants().done {
        let Ok(op) = Op::arbitrary(&mut from) else { break };
        match op {
            Op::Say(say) if run.client_ended.is_none() => {
                tag += 1;
                let bytes = say.bytes(tag);
                tame &= say.foretold();
                if tame {
                    foretold.say(&say, &bytes);
                }
                run.wire.extend(bytes);
            }
            Op::Raw(bytes) if run.client_ended.is_none() => {
                tame = false;
                run.raw = true;
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
                tame = false;
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
                run.session.renew(peer(strict));
                run.down_again |= !run.down_rest.is_empty();
            }
            Op::Whim(whim) => {
                tame = false;
                run.redis.whim = Some(whim);
            }
            Op::Babble(bytes) => {
                tame = false;
                run.redis.mad = true;
                run.said.extend(bytes);
            }
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
    let said = run.down.escape_ascii();
    assert!(!tame || run.down == foretold.replies, "{said} for {}", foretold.replies.escape_ascii());
    assert!(!tame || run.records == foretold.commands, "{} records", run.records);
}

/// Everybody does what is left to do, then the client ends: the session must come to its end, too.
fn finish(run: &mut Run) {
    for _ in 0..2000 {
        run.write(u64::MAX);
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
