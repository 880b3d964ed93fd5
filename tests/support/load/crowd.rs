//! Many clients at once, each saying what a [`Speaker`] says and leaving in one of many ways.

use super::{
    Dice,
    speaker::{Batch, Mark, Speaker, World, word},
};
use crate::support::wire::encode;
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use std::{
    collections::BTreeMap,
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

/// No answer takes longer; one that does is a fault.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is not well-formed, though Redis would take some of it.
const BROKEN: &[&[u8]] = &[
    b"*1\r\n$4\r\nPINGXX",
    b"*2\r\n$3\r\nGET\r\n$4\r\nk:s1ab*1\r\n$8\r\nFLUSHALL\r\n",
    b"*3\r\n$3\r\nSET\r\n$4\r\nk:s1\r\n$5\r\nvalue\n\r*1\r\n$4\r\nPING\r\n",
    b"*1\rX$4\r\nPING\r\n",
    b"*1\n$4\nPING\n",
    b"*01\r\n$4\r\nPING\r\n",
    b"*1\r\n$04\r\nPING\r\n",
    b"*1\r\n:4\r\n",
    b"*1\r\n$-1\r\n",
    b"FLUSHALL\r\n",
    b"POST / HTTP/1.1\r\n",
];

/// Where clients go, and what has happened to them.
pub struct Crowd {
    pub address: SocketAddr,
    pub tls: Arc<ClientConfig>,
    pub world: World,
    /// The other side may end connections of its own accord.
    pub unruly: bool,
    /// Clients leave only once all is answered.
    pub polite: bool,
    /// Clients stop where they are.
    pub stop: AtomicBool,
    /// What clients saw that they must not see, and from where.
    pub faults: Mutex<Vec<(String, String)>>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    next_mark: AtomicU64,
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// How a conversation ended.
enum End {
    /// The client left, in this way.
    Left(&'static str),
    /// The other side did.
    Closed,
    Fault(String),
}

impl Crowd {
    pub fn new(address: SocketAddr, tls: Arc<ClientConfig>, world: World, unruly: bool, polite: bool) -> Self {
        Self {
            address,
            tls,
            world,
            unruly,
            polite,
            stop: AtomicBool::new(false),
            faults: Mutex::default(),
            counts: Mutex::default(),
            next_mark: AtomicU64::new(0),
        }
    }

    /// How often each thing happened.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.lock().unwrap().clone()
    }

    fn count(&self, what: &'static str, times: u64) {
        *self.counts.lock().unwrap().entry(what).or_default() += times;
    }

    /// One client after another, until it is enough.
    pub fn clients(&self, mut dice: Dice) {
        while !self.stop.load(SeqCst) {
            let mut src = String::new();
            let end = match self.connect() {
                Ok(stream) => {
                    src = stream.sock.local_addr().map_or_else(|_| String::new(), |src| src.to_string());
                    self.converse(stream, &mut dice)
                }
                Err(error) if self.unruly => {
                    self.count("client: not let in", 1);
                    // A proxy that drains lets nobody in.
                    std::thread::sleep(Duration::from_millis(10));
                    drop(error);
                    continue;
                }
                Err(error) => End::Fault(format!("a client was not let in: {error}")),
            };
            match end {
                End::Left(way) => self.count(way, 1),
                End::Closed if self.unruly => self.count("client: closed by the other side", 1),
                End::Closed => self.fault(src, "the connection was closed".to_owned()),
                End::Fault(text) => self.fault(src, text),
            }
        }
    }

    fn fault(&self, src: String, text: String) {
        self.stop.store(true, SeqCst);
        self.faults.lock().unwrap().push((src, text));
    }

    fn connect(&self) -> io::Result<Stream> {
        let socket = TcpStream::connect(self.address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let tls = ClientConnection::new(Arc::clone(&self.tls), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(tls, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }

    fn converse(&self, mut stream: Stream, dice: &mut Dice) -> End {
        let first_mark = self.next_mark.fetch_add(1 << 20, SeqCst);
        let mut speaker = Speaker::new(dice.fork(dice.clone().next()), self.world, first_mark);
        dice.next();
        let rounds = dice.roll(12);
        for _ in 0..rounds {
            if self.stop.load(SeqCst) {
                break;
            }
            let things = match dice.roll(10) {
                0..=3 => 1 + dice.roll(5),
                4..=8 => 1 + dice.roll(30),
                _ => 100 + dice.roll(100),
            };
            let batch = speaker.closed_batch(things);
            self.count("client: batches", 1);
            self.count("client: marks", batch.marks.len() as u64);
            if let Err(end) = self.exchange(&mut stream, &batch, dice) {
                return end;
            }
        }
        self.leave(stream, speaker, dice)
    }

    /// Sends a batch, whole or in pieces, and reads until its last mark.
    fn exchange(&self, stream: &mut Stream, batch: &Batch, dice: &mut Dice) -> Result<(), End> {
        let piece = match dice.roll(20) {
            0 => 1 + usize::try_from(dice.roll(50)).unwrap(),
            1..=5 => 1 + usize::try_from(dice.roll(2000)).unwrap(),
            _ => batch.bytes.len(),
        };
        // Not forever in little pieces.
        let piece = piece.max(batch.bytes.len() / 100).max(1);
        for piece in batch.bytes.chunks(piece) {
            if let Err(error) = stream.write_all(piece).and_then(|()| stream.flush()) {
                return Err(ended(&error, "writing"));
            }
        }
        let expected: Vec<Mark> =
            batch.marks.iter().filter(|mark| !self.world.reloads || **mark != Mark::Aborted).cloned().collect();
        let mut seen = Marks::default();
        let mut chunk = vec![0; 32 * 1024];
        while seen.found.len() < expected.len() {
            match stream.read(&mut chunk) {
                Ok(0) => {
                    return Err(if expected.starts_with(&seen.found) {
                        End::Closed
                    } else {
                        differ(&seen.found, &expected, batch)
                    });
                }
                Ok(count) => {
                    seen.read(&chunk[..count], !self.world.reloads);
                    if !expected.starts_with(&seen.found) {
                        break;
                    }
                }
                Err(error) => return Err(ended(&error, &format!("waiting for a mark behind {:?}", seen.found.last()))),
            }
        }
        if seen.found == expected { Ok(()) } else { Err(differ(&seen.found, &expected, batch)) }
    }

    fn leave(&self, mut stream: Stream, mut speaker: Speaker, dice: &mut Dice) -> End {
        let rest = |stream: &mut Stream| {
            let mut chunk = [0; 16 * 1024];
            loop {
                match stream.read(&mut chunk) {
                    Ok(0) => return None,
                    Ok(_) => {}
                    Err(error) => match ended(&error, "waiting for the end") {
                        End::Closed => return None,
                        fault => return Some(fault),
                    },
                }
            }
        };
        // What is written now may find the other side gone; that is for the next to see.
        let way = if self.polite { dice.pick(&[0, 1, 3, 10, 11]) } else { dice.roll(13) };
        let way = match way {
            0 => {
                let _ = stream.write_all(&encode(&["QUIT"]));
                if let Some(fault) = rest(&mut stream) {
                    return fault;
                }
                "leaves: QUIT"
            }
            1 | 2 => {
                stream.conn.send_close_notify();
                let _ = stream.conn.complete_io(&mut stream.sock);
                let _ = stream.sock.shutdown(Shutdown::Write);
                if let Some(fault) = rest(&mut stream) {
                    return fault;
                }
                "leaves: close_notify"
            }
            3 => {
                let _ = stream.sock.shutdown(Shutdown::Write);
                if let Some(fault) = rest(&mut stream) {
                    return fault;
                }
                "leaves: FIN alone"
            }
            4 => "leaves: close",
            5 => {
                let _ = stream.write_all(&speaker.batch(20).bytes);
                abort(&stream);
                "leaves: RST with replies unread"
            }
            6 => {
                let batch = speaker.batch(8).bytes;
                let _ = stream.write_all(&batch[..batch.len() - 1 - usize::try_from(dice.roll(8)).unwrap()]);
                if dice.one_in(2) {
                    abort(&stream);
                }
                "leaves: in the middle of a command"
            }
            7 => {
                let _ = stream.write_all(b"*3\r\n$3\r\nSET\r\n$4\r\nk:s0\r\n$300000\r\n");
                let _ = stream.write_all(&vec![b'y'; usize::try_from(dice.roll(300_000)).unwrap()]);
                if dice.one_in(2) {
                    abort(&stream);
                } else {
                    stream.conn.send_close_notify();
                    let _ = stream.conn.complete_io(&mut stream.sock);
                }
                "leaves: in the middle of a streamed value"
            }
            8 => {
                let mut bytes = encode(&["BLPOP", "k:never", "0"]);
                bytes.extend(encode(&["GET", "k:s1"]));
                let _ = stream.write_all(&bytes);
                if dice.one_in(2) {
                    abort(&stream);
                }
                "leaves: while blocked"
            }
            9 => {
                let mut bytes = encode(&["MULTI"]);
                bytes.extend(encode(&["INCR", "k:i0"]));
                let _ = stream.write_all(&bytes);
                "leaves: in a transaction"
            }
            10 => {
                let mut bytes = speaker.batch(3).bytes;
                bytes.extend_from_slice(dice.pick(BROKEN));
                let _ = stream.write_all(&bytes);
                if let Some(fault) = rest(&mut stream) {
                    return fault;
                }
                "leaves: breaks the protocol"
            }
            11 => {
                let mut bytes = b"*3\r\n$3\r\nSET\r\n$4\r\nk:s0\r\n$100000\r\n".to_vec();
                bytes.resize(bytes.len() + 100_000, b'z');
                bytes.extend_from_slice(b"\rX*1\r\n$4\r\nPING\r\n");
                let _ = stream.write_all(&bytes);
                if let Some(fault) = rest(&mut stream) {
                    return fault;
                }
                "leaves: breaks a streamed value"
            }
            _ => {
                let _ = stream.write_all(&encode(&["SUBSCRIBE", "ch0", "ch1"]));
                "leaves: subscribed"
            }
        };
        End::Left(way)
    }
}

/// The first mark that came otherwise, and what had been said before it.
fn differ(found: &[Mark], expected: &[Mark], batch: &Batch) -> End {
    let at = found.iter().zip(expected).take_while(|(found, expected)| found == expected).count();
    let show = |marks: &[Mark]| format!("{:?}", &marks[at.min(marks.len())..marks.len().min(at + 3)]);
    let said = match expected.get(at) {
        Some(Mark::Word(number)) => {
            let word = word(*number);
            let at = batch.bytes.windows(word.len()).position(|window| window == word.as_bytes()).unwrap_or(0);
            batch.bytes[at.saturating_sub(600)..batch.bytes.len().min(at + 100)].escape_ascii().to_string()
        }
        _ => batch.bytes[batch.bytes.len().saturating_sub(700)..].escape_ascii().to_string(),
    };
    End::Fault(format!(
        "mark {at} of {} came as {} instead of {}, in answer to …{said}…",
        expected.len(),
        show(found),
        show(expected)
    ))
}

fn abort(stream: &Stream) {
    let _ = socket2::SockRef::from(&stream.sock).set_linger(Some(Duration::ZERO));
}

fn ended(error: &io::Error, doing: &str) -> End {
    match error.kind() {
        ErrorKind::ConnectionReset
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof
        | ErrorKind::ConnectionAborted => End::Closed,
        _ => End::Fault(format!("{doing}: {error}")),
    }
}

/// Finds marks in what comes, wherever it is cut.
#[derive(Default)]
struct Marks {
    found: Vec<Mark>,
    tail: Vec<u8>,
}

impl Marks {
    fn read(&mut self, bytes: &[u8], aborts: bool) {
        const ABORTED: &[u8] = b"-EXECABORT ";
        let length = word(0).len();
        self.tail.extend_from_slice(bytes);
        let mut at = 0;
        loop {
            let Some(step) = memchr::memchr2(b'z', b'-', &self.tail[at..]) else {
                at = self.tail.len();
                break;
            };
            at += step;
            let rest = &self.tail[at..];
            if rest.len() < length.max(ABORTED.len()) {
                break;
            }
            if rest.starts_with(b"zq") && rest[length - 1] == b'z' {
                let number = std::str::from_utf8(&rest[2..length - 1]).ok();
                if let Some(number) = number.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
                    self.found.push(Mark::Word(number));
                    at += length;
                    continue;
                }
            }
            if aborts && rest.starts_with(ABORTED) {
                self.found.push(Mark::Aborted);
            }
            at += 1;
        }
        // What may still become a mark stays.
        self.tail.drain(..at);
    }
}
