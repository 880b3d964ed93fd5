//! What a client says.

use super::{
    ID,
    policy::{LINES, Setting},
};
use arbitrary::Arbitrary;
use ravelin::resp::encode;

#[derive(Arbitrary, Clone, Debug)]
pub(super) enum Say {
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

/// What `Words` consist of.
pub(super) const WORDS: [&str; 64] = [
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
    pub(super) fn bytes(&self, tag: usize, setting: Setting) -> Vec<u8> {
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
            Self::Words(list) if setting.has_lines() && list.first().is_some_and(|first| *first >= 128) => {
                let line = LINES[usize::from(list[0] - 128) % LINES.len()];
                line.split(' ').map(|word| word.replace('~', " ").into_bytes()).collect()
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

    pub(super) const fn foretold(&self) -> bool {
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
