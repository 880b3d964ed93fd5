//! A Redis, and what it makes of what a client says.

use super::{ID, policy::usual, say::Say};
use ravelin::resp::request::{Request, RequestLimits, RequestParser};
use std::collections::BTreeSet;

/// A Redis with as much sense as the dialogue needs. The client's own view of it runs beside, to foretell replies.
#[derive(Default)]
pub(super) struct Redis {
    pub(super) multi: Option<Vec<Vec<u8>>>,
    pub(super) resp3: bool,
    /// Channels, patterns, shard channels.
    pub(super) live: [BTreeSet<Vec<u8>>; 3],
    /// EXEC will be refused.
    pub(super) spoilt: bool,
    pub(super) whim: Option<u8>,
    /// It has said what nobody asked for: what it is told may be meant for another.
    pub(super) mad: bool,
    pub(super) monitored: bool,
    /// A replication stream has begun.
    pub(super) streams: bool,
    /// Asks for a password, and has not been given it on this connection.
    pub(super) protected: bool,
    pub(super) locked: bool,
    pub(super) refuses: Refuses,
}

/// How Redis takes the greeting.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Refuses {
    #[default]
    Nothing,
    Password,
    /// It asks nobody for one, so whoever is here is not the Redis that was meant.
    Nobody,
    /// It has its maxclients.
    Everybody,
}

impl Redis {
    pub(super) fn answer(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let name = usual(words[0].to_ascii_uppercase());
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
            if usual(words[0].to_vec()) != words[0] && whim & 64 != 0 {
                let called = words[0].escape_ascii().to_string();
                return format!("-NOPERM no '{called}|get'\r\n").into_bytes();
            }
            // RESET is refused or executed.
            let some = if name == b"RESET" { 6 } else { 9 };
            return answers[usize::from(whim) % some].to_vec();
        }
        if let Some(refusal) = Self::refusal(&name, words) {
            if name == b"EXEC" && self.multi.take().is_some() {
                self.spoilt = false;
                return b"-EXECABORT Transaction discarded because of: wrong number of arguments\r\n".to_vec();
            }
            self.spoilt |= self.multi.is_some();
            return refusal;
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
            (b"EXEC", multi) if std::mem::take(&mut self.spoilt) => {
                *multi = None;
                b"-EXECABORT Transaction discarded because of previous errors.\r\n".to_vec()
            }
            (b"EXEC", multi) => {
                let replies = multi.take().unwrap_or_default();
                [format!("*{}\r\n", replies.len()).into_bytes(), replies.concat()].concat()
            }
            (b"DISCARD", None) => b"-ERR DISCARD without MULTI\r\n".to_vec(),
            (b"DISCARD", multi) => {
                (*multi, self.spoilt) = (None, false);
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
            (_, None) if name.ends_with(b"SUBSCRIBE") => self.subscribe(&name, words),
            _ => Self::plain(&name, words),
        }
    }

    /// What is refused before it is executed or queued.
    fn refusal(name: &[u8], words: &[&[u8]]) -> Option<Vec<u8>> {
        let arity = match name {
            b"MULTI" | b"EXEC" | b"DISCARD" | b"RESET" | b"MONITOR" | b"SYNC" => words.len() == 1,
            b"SELECT" | b"GET" => words.len() == 2,
            b"SUBSCRIBE" | b"PSUBSCRIBE" | b"SSUBSCRIBE" | b"WATCH" | b"CLIENT" => words.len() > 1,
            _ => true,
        };
        if !arity {
            return Some(b"-ERR wrong number of arguments\r\n".to_vec());
        }
        match name {
            b"CLIENT" if words[1].eq_ignore_ascii_case(b"REPLY") => Some(b"-ERR syntax error\r\n".to_vec()),
            b"HELLO" if words.get(1).is_some_and(|version| !matches!(*version, b"2" | b"3")) => {
                Some(b"-NOPROTO unsupported protocol version\r\n".to_vec())
            }
            b"HELLO" => {
                let mut rest = words.get(2..).unwrap_or_default();
                loop {
                    rest = match rest {
                        [] => return None,
                        [option, _, more @ ..] if option.eq_ignore_ascii_case(b"SETNAME") => more,
                        _ => return Some(b"-ERR Syntax error in HELLO option\r\n".to_vec()),
                    };
                }
            }
            _ => None,
        }
    }

    pub(super) fn subscribe(&mut self, name: &[u8], words: &[&[u8]]) -> Vec<u8> {
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

    pub(super) fn confirm(&mut self, kind: usize, subscribes: bool, word: &str, channel: Option<Vec<u8>>) -> Vec<u8> {
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

    pub(super) fn plain(name: &[u8], words: &[&[u8]]) -> Vec<u8> {
        match name {
            // Redis speaks of a command by the name it was called by.
            b"CONFIG" | b"MGET" if words.last().is_some_and(|word| *word == b"err") => {
                let called = words[0].escape_ascii().to_string();
                format!("-ERR no '{called}|get', try {} HELP\r\n", called.to_ascii_uppercase()).into_bytes()
            }
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
pub(super) struct Foretold {
    pub(super) redis: Redis,
    pub(super) dirty: bool,
    pub(super) replies: Vec<u8>,
    pub(super) commands: u64,
}

impl Foretold {
    pub(super) fn say(&mut self, say: &Say, bytes: &[u8]) {
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
pub(super) fn each_command(bytes: &[u8], newlines: bool, mut take: impl FnMut(&[&[u8]])) -> usize {
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

pub(super) fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
