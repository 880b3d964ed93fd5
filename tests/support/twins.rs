//! The same dialogue with Redis itself and through Ravelin must give the same bytes, whatever release of Redis it is:
//! the server is the oracle of its own generation.

#![allow(clippy::print_stderr, reason = "how far a dialogue came that then fell silent")]

use super::{
    process::{PASSWORD, Proxy},
    redis::Redis,
    setup::Setup,
    wire::{Wire, encode},
};
use std::{
    io::{Read, Write},
    net::Shutdown,
};

/// A policy that denies nothing, so that what differs is the session's doing.
pub const ALLOW_ALL: &str = "[policy]\ndeny = []";

/// One thing that happens in a dialogue.
#[derive(Clone)]
pub enum Step {
    /// The client sends these bytes.
    Say(Vec<u8>),
    /// Another client, directly connected, says this and is answered.
    Other(Vec<u8>),
    /// The direct client authenticates again; Ravelin has done so by itself (RESET).
    Again,
}

/// Words with blanks between them; `~` stands for a blank within a word.
pub fn words(line: &str) -> Vec<u8> {
    encode(&line.split(' ').map(|word| word.replace('~', " ")).collect::<Vec<_>>())
}

/// The client says a line of words.
pub fn say(line: &str) -> Step {
    Step::Say(words(line))
}

/// The client sends bytes as they are.
pub fn raw(bytes: impl AsRef<[u8]>) -> Step {
    Step::Say(bytes.as_ref().to_vec())
}

/// Another client says a line of words.
pub fn other(line: &str) -> Step {
    Step::Other(words(line))
}

/// A dialogue written down: a line a step, `<` before what another client says, `#` before a remark, `AGAIN` for
/// [`Step::Again`].
pub fn dialogue(text: &str) -> Vec<Step> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| match line.strip_prefix("< ") {
            Some(line) => other(line),
            None if line == "AGAIN" => Step::Again,
            None => say(line),
        })
        .collect()
}

/// A Redis, and a Ravelin before it that allows everything.
pub struct Twins {
    pub redis: Redis,
    pub proxy: Proxy,
}

impl Twins {
    /// With lines of `redis.conf` of one's own.
    pub fn with(lines: &[&str]) -> Self {
        let redis = Redis::with(lines, Some(PASSWORD.as_bytes()));
        let mut setup = Setup { more: ALLOW_ALL, ..Setup::before(&redis) };
        setup.services[0].upstream = ", set_name = false";
        let proxy = Proxy::with(&setup);
        Self { redis, proxy }
    }

    pub fn start() -> Self {
        Self::with(&["enable-debug-command yes"])
    }

    /// Whether the server has this command.
    pub fn knows(&self, command: &str) -> bool {
        let found = self.redis.connect().call(&["COMMAND", "INFO", command]);
        // A server before 2.8.13 has no COMMAND.
        found.error().is_none() && found.elements()[0] != super::wire::Reply::Null
    }

    fn empty(&self) {
        self.redis.connect().call(&["FLUSHALL"]).expect_ok();
    }

    fn other(&self, bytes: &[u8]) {
        let mut wire = self.redis.connect();
        wire.send_raw(bytes);
        wire.reply();
    }

    /// What Redis says to each step, as frames, with no client between.
    pub fn direct(&self, steps: &[Step]) -> Vec<Vec<Vec<u8>>> {
        let mut said: Vec<Vec<Vec<u8>>> = Vec::new();
        for until in 1..=steps.len() {
            self.empty();
            let mut wire = self.redis.connect();
            for (at, step) in steps[..until].iter().enumerate() {
                match step {
                    Step::Say(bytes) => offer(wire.stream(), bytes),
                    Step::Other(bytes) => self.other(bytes),
                    Step::Again => wire.call(&["AUTH", PASSWORD]).expect_ok(),
                }
                // Of the last step nobody knows yet how many frames there are: all that come before the end.
                for expected in said.get(at).into_iter().flatten() {
                    assert_eq!(masked(&wire.raw_reply()), *expected, "Redis itself says it differently a second time");
                }
            }
            // Redis answers nobody who has left: two answers to somebody else, and it has written what it had for us.
            let mut witness = self.redis.connect();
            witness.call(&["PING"]);
            witness.call(&["PING"]);
            // Fails if it is closed already (QUIT).
            let _ = wire.stream().shutdown(Shutdown::Write);
            said.push(frames(&wire.rest()));
        }
        said
    }

    /// Panics unless the client sees the same through Ravelin, one step at a time and (where nobody else takes part) all at once and in
    /// small pieces. Returns how many frames there were.
    pub fn same(&self, steps: &[Step]) -> usize {
        let expected = self.direct(steps);
        self.empty();
        let mut client = self.proxy.client();
        for (at, step) in steps.iter().enumerate() {
            eprintln!("{}", told(step));
            match step {
                Step::Say(bytes) => offer(client.stream(), bytes),
                Step::Other(bytes) => self.other(bytes),
                Step::Again => {}
            }
            let mut got = Vec::new();
            for frame in &expected[at] {
                got.push(masked(&client.raw_reply()));
                if got.last() != Some(frame) {
                    break;
                }
            }
            assert_eq!(shown(&got), shown(&expected[at]), "step {at}, {}", told(step));
        }
        end(&mut client);
        assert_eq!(client.rest().escape_ascii().to_string(), "", "surplus");
        let whole: Vec<Vec<u8>> = expected.concat();
        let sent: Option<Vec<Vec<u8>>> = steps
            .iter()
            .map(|step| match step {
                Step::Say(bytes) => Some(bytes.clone()),
                Step::Other(_) => None,
                Step::Again => Some(Vec::new()),
            })
            .collect();
        if let Some(sent) = sent.map(|sent| sent.concat()) {
            for size in [sent.len(), 5] {
                self.empty();
                let mut client = self.proxy.client();
                for piece in sent.chunks(size) {
                    offer(client.stream(), piece);
                }
                let got: Vec<Vec<u8>> = whole.iter().map(|_| masked(&client.raw_reply())).collect();
                assert_eq!(shown(&got), shown(&whole), "in pieces of {size}");
                end(&mut client);
                assert_eq!(client.rest().escape_ascii().to_string(), "", "surplus");
            }
        }
        whole.len()
    }
}

/// Sends, if the other end still takes anything: what follows QUIT may meet a closed door.
fn offer(stream: &mut impl Write, bytes: &[u8]) {
    let _ = stream.write_all(bytes).and_then(|()| stream.flush());
}

/// Ends the client's side.
pub fn end(client: &mut super::client::Client) {
    client.stream().conn.send_close_notify();
    // It may be closed already.
    let _ = client.stream().flush();
}

fn told(step: &Step) -> String {
    match step {
        Step::Say(bytes) | Step::Other(bytes) => bytes.escape_ascii().to_string(),
        Step::Again => "AUTH".to_owned(),
    }
}

fn shown(frames: &[Vec<u8>]) -> String {
    frames.iter().map(|frame| format!("{}\n", frame[..frame.len().min(400)].escape_ascii())).collect()
}

/// What differs between two connections to the same Redis: their ids.
fn masked(frame: &[u8]) -> Vec<u8> {
    const ID: &[u8] = b"$2\r\nid\r\n:";
    let Some(at) = frame.windows(ID.len()).position(|window| window == ID) else { return frame.to_vec() };
    let (head, rest) = frame.split_at(at + ID.len());
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    [head, b"#", &rest[digits..]].concat()
}

/// Bytes as frames, each masked.
fn frames(bytes: &[u8]) -> Vec<Vec<u8>> {
    struct Whole<'a>(&'a [u8]);
    impl Read for Whole<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(into)
        }
    }
    impl Write for Whole<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut wire = Wire::over(Whole(bytes));
    let (mut out, mut left) = (Vec::new(), bytes.len());
    while left > 0 {
        let frame = wire.raw_reply();
        left -= frame.len();
        out.push(masked(&frame));
    }
    out
}
