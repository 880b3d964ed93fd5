//! A plain, blocking client: what goes over the wire is what the test wrote, and every reply is shown as it came.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// No test waits longer for a reply; one that has to has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// One reply, as it came.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Status(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<Reply>),
    Set(Vec<Reply>),
    Push(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
    /// `,`, `#`, `(` with their text.
    Scalar(char, String),
    /// `=` with its text, `!` likewise.
    Verbatim(Vec<u8>),
}

impl Reply {
    /// The error's text, if it is one.
    pub fn error(&self) -> Option<&str> {
        match self {
            Self::Error(text) => Some(text),
            _ => None,
        }
    }

    /// Status, bulk, verbatim or error as text.
    pub fn text(&self) -> String {
        match self {
            Self::Status(text) | Self::Error(text) | Self::Scalar(_, text) => text.clone(),
            Self::Bulk(bytes) | Self::Verbatim(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("expected text, got {other:?}"),
        }
    }

    /// The integer it must be.
    pub fn integer(&self) -> i64 {
        match self {
            Self::Integer(value) => *value,
            other => panic!("expected an integer, got {other:?}"),
        }
    }

    /// The elements it must have.
    pub fn elements(&self) -> &[Reply] {
        match self {
            Self::Array(elements) | Self::Set(elements) | Self::Push(elements) => elements,
            other => panic!("expected an aggregate, got {other:?}"),
        }
    }

    /// The value behind `key` in the map it must be.
    pub fn field(&self, key: &str) -> &Reply {
        let Self::Map(pairs) = self else { panic!("expected a map, got {self:?}") };
        let found = pairs.iter().find(|(name, _)| name.text() == key);
        &found.unwrap_or_else(|| panic!("no {key} in {self:?}")).1
    }

    /// Panics unless it is `+OK`.
    pub fn expect_ok(&self) {
        assert_eq!(*self, Self::Status("OK".to_owned()));
    }
}

/// A client over any stream whose reads end (with an error) when nothing comes.
pub struct Wire<S> {
    stream: S,
    buffer: Vec<u8>,
}

impl Wire<UnixStream> {
    /// A client over a connected Unix socket.
    pub fn over_unix(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self::over(stream)
    }
}

impl<S: Read + Write> Wire<S> {
    /// A client over a stream whose timeouts are set.
    pub fn over(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// The stream beneath.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Sends one command as an array of bulk strings.
    pub fn send<W: AsRef<[u8]>>(&mut self, words: &[W]) {
        self.send_raw(&encode(words));
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        self.stream.flush().unwrap();
    }

    /// Sends one command and waits for one reply.
    pub fn call<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Reply {
        self.send(words);
        self.reply()
    }

    /// The next reply.
    ///
    /// # Panics
    /// If the connection closes, or nothing comes.
    pub fn reply(&mut self) -> Reply {
        self.try_reply().expect("a reply, but the connection was closed")
    }

    /// The next reply, or nothing if the connection was closed first.
    ///
    /// # Panics
    /// If nothing comes at all.
    pub fn try_reply(&mut self) -> Option<Reply> {
        loop {
            let mut cursor = Cursor { input: &self.buffer, at: 0 };
            if let Some(reply) = cursor.value() {
                let end = cursor.at;
                self.buffer.drain(..end);
                return Some(reply);
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// The bytes of the next reply.
    ///
    /// # Panics
    /// If the connection closes, or nothing comes.
    pub fn raw_reply(&mut self) -> Vec<u8> {
        loop {
            let mut cursor = Cursor { input: &self.buffer, at: 0 };
            if cursor.value().is_some() {
                let end = cursor.at;
                return self.buffer.drain(..end).collect();
            }
            assert!(self.fill(), "the connection was closed after {}", self.buffer.escape_ascii());
        }
    }

    /// Waits for the end of the connection, and returns what came before it besides replies already taken.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.buffer)
    }

    /// Reads until `wanted` bytes have come (fewer if the connection closes), and takes them.
    pub fn take(&mut self, wanted: usize) -> Vec<u8> {
        while self.buffer.len() < wanted && self.fill() {}
        let end = wanted.min(self.buffer.len());
        self.buffer.drain(..end).collect()
    }

    fn fill(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => false,
            Err(error) => panic!(
                "no reply within {PATIENCE:?} ({error}); read so far: {:?}",
                self.buffer.escape_ascii().to_string()
            ),
        }
    }
}

/// One command as an array of bulk strings.
pub fn encode<W: AsRef<[u8]>>(words: &[W]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

struct Cursor<'a> {
    input: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn line(&mut self) -> Option<String> {
        let rest = &self.input[self.at..];
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        self.at += end + 2;
        Some(String::from_utf8_lossy(&rest[..end]).into_owned())
    }

    fn bulk(&mut self, length: &str) -> Option<Vec<u8>> {
        let length: usize = length.parse().expect("a bulk length");
        let bytes = self.input.get(self.at..self.at + length)?.to_vec();
        let end = self.input.get(self.at + length..self.at + length + 2)?;
        assert_eq!(end, b"\r\n", "a bulk ends with CRLF");
        self.at += length + 2;
        Some(bytes)
    }

    fn values(&mut self, count: &str) -> Option<Vec<Reply>> {
        let count: usize = count.parse().expect("an aggregate's length");
        (0..count).map(|_| self.value()).collect()
    }

    fn value(&mut self) -> Option<Reply> {
        let line = self.line()?;
        let mut chars = line.chars();
        let sigil = chars.next().expect("a reply's type");
        let text = chars.as_str();
        Some(match sigil {
            '+' => Reply::Status(text.to_owned()),
            '-' => Reply::Error(text.to_owned()),
            ':' => Reply::Integer(text.parse().expect("an integer")),
            '$' | '*' if text == "-1" => Reply::Null,
            '_' => Reply::Null,
            '$' => Reply::Bulk(self.bulk(text)?),
            '=' | '!' => Reply::Verbatim(self.bulk(text)?),
            '*' => Reply::Array(self.values(text)?),
            '~' => Reply::Set(self.values(text)?),
            '>' => Reply::Push(self.values(text)?),
            '%' => {
                let count: usize = text.parse().expect("a map's length");
                Reply::Map((0..count).map(|_| Some((self.value()?, self.value()?))).collect::<Option<_>>()?)
            }
            ',' | '#' | '(' => Reply::Scalar(sigil, text.to_owned()),
            // Attributes belong to the reply behind them.
            '|' => {
                let count: usize = text.parse().expect("the number of attributes");
                for _ in 0..2 * count {
                    self.value()?;
                }
                self.value()?
            }
            other => panic!("unknown reply type {other:?} in {:?}", self.input.escape_ascii().to_string()),
        })
    }
}
