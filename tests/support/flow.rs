//! What the tests of flow and memory share: how much a proxy has grown, contents that are known by their hash, sockets
//! that are slow, and clients that end their side.

use super::{client::Client, process::PATIENCE};
use rustls::{
    StreamOwned,
    crypto::{aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256, hash},
};
use std::{
    fs,
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

pub const KIB: u64 = 1024;
pub const MIB: u64 = 1024 * 1024;

/// How much the resident memory of a process has grown at most since this was made.
pub struct Gauge {
    pid: u32,
    before: u64,
}

impl Gauge {
    /// From what is resident now; the process' peak is counted anew (`proc(5)`, `clear_refs`).
    pub fn start(pid: u32) -> Self {
        fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("the peak of one's own child can be reset");
        Self { pid, before: field(pid, "VmRSS") }
    }

    /// Bytes above the beginning, at the worst moment since.
    pub fn peak(&self) -> u64 {
        field(self.pid, "VmHWM").saturating_sub(self.before)
    }

    /// Bytes above the beginning, now.
    pub fn now(&self) -> u64 {
        field(self.pid, "VmRSS").saturating_sub(self.before)
    }

    /// The peak is within `bound`; both are printed, for the table in `deploy/docs/memory.md`.
    #[track_caller]
    #[allow(clippy::print_stderr, reason = "the figure belongs into the documentation")]
    pub fn within(&self, bound: u64) {
        let peak = self.peak();
        let name = thread::current().name().unwrap_or_default().to_owned();
        eprintln!("{name}: {} KiB of at most {} KiB", peak / KIB, bound / KIB);
        assert!(peak <= bound, "the proxy grew by {} KiB, more than {} KiB", peak / KIB, bound / KIB);
    }
}

/// A field of `/proc/PID/status`, in bytes.
fn field(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line =
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect("a field of the status");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * KIB
}

/// Bytes that look random and do not repeat within a mebibyte, to any length, without holding them.
pub struct Content {
    block: Vec<u8>,
    len: u64,
}

impl Content {
    pub fn of(len: u64) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        // Not a power of two: a piece that is lost, doubled or moved changes what follows.
        let block = (0..(1 << 17) - 1).flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        Self { block: block.collect(), len }
    }

    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Gives all of it to `take`, piece by piece.
    pub fn each(&self, mut take: impl FnMut(&[u8])) {
        let mut left = usize::try_from(self.len).unwrap();
        while left > 0 {
            let len = left.min(self.block.len());
            take(&self.block[..len]);
            left -= len;
        }
    }

    /// Its SHA-256.
    pub fn hash(&self) -> Vec<u8> {
        let mut hash = Hash::default();
        self.each(|piece| hash.update(piece));
        hash.finish()
    }
}

/// SHA-256, by the library that is linked anyway.
pub struct Hash(Box<dyn hash::Context>);

impl Default for Hash {
    fn default() -> Self {
        Self(TLS13_AES_128_GCM_SHA256.tls13().unwrap().common.hash_provider.start())
    }
}

impl Hash {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> Vec<u8> {
        self.0.finish().as_ref().to_vec()
    }
}

/// Hands bytes to the client's TLS and as many of them to its socket as that takes before its timeout; the rest leaves
/// with the next call. An error means that the socket takes no more for now, or never.
pub fn push(client: &mut Client, bytes: &[u8]) -> io::Result<()> {
    let stream = client.stream();
    stream.conn.set_buffer_limit(None);
    stream.conn.writer().write_all(bytes)?;
    while stream.conn.wants_write() {
        stream.conn.write_tls(&mut stream.sock)?;
    }
    Ok(())
}

/// Pushes `bytes` again and again until the socket takes no more; how often that was, the last time included.
pub fn push_until_held(client: &mut Client, bytes: &[u8], most: usize) -> usize {
    client.stream().sock.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let held = (1..=most).find(|_| push(client, bytes).is_err()).expect("nobody holds this client back");
    client.stream().sock.set_write_timeout(Some(PATIENCE)).unwrap();
    held
}

/// Says `close_notify` and FIN; replies are still read.
pub fn half_close(client: &mut Client) {
    let stream = client.stream();
    stream.conn.send_close_notify();
    while stream.conn.wants_write() {
        stream.conn.write_tls(&mut stream.sock).unwrap();
    }
    stream.sock.shutdown(Shutdown::Write).unwrap();
}

/// A reply of `wanted` bytes behind its first line, hashed and not kept; its first line must be `head`.
pub fn hash_of_bulk(stream: &mut StreamOwned<rustls::ClientConnection, std::net::TcpStream>, wanted: u64) -> Vec<u8> {
    let head = format!("${wanted}\r\n").into_bytes();
    let mut got = vec![0; head.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(got, head);
    let mut hash = Hash::default();
    let mut left = wanted;
    let mut space = vec![0; 1 << 18];
    while left > 0 {
        let room = usize::try_from(left.min(space.len() as u64)).unwrap();
        let count = stream.read(&mut space[..room]).unwrap();
        assert!(count > 0, "closed with {left} bytes still to come");
        hash.update(&space[..count]);
        left -= count as u64;
    }
    let mut end = [0; 2];
    stream.read_exact(&mut end).unwrap();
    assert_eq!(&end, b"\r\n");
    hash.finish()
}

/// How fast bytes go through a [`Weir`] in one direction.
#[derive(Clone, Copy)]
pub struct Pace {
    /// Bytes at a time.
    pub bytes: usize,
    /// Between one time and the next.
    pub every: Duration,
}

impl Pace {
    pub const FREE: Self = Self { bytes: 1 << 16, every: Duration::ZERO };
}

/// A socket before a Redis' own that passes bytes on slowly and holds back what it does not pass: to whoever connects
/// here, a Redis that is slow to read, or slow to answer.
pub struct Weir {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Weir {
    pub fn before(redis: &Path, up: Pace, down: Pace) -> Self {
        let dir = tempfile::Builder::new().prefix("weir-").tempdir().unwrap();
        let path = dir.path().join("weir.sock");
        let listener = UnixListener::bind(&path).unwrap();
        // Ravelin gives its password to no socket that others can open.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let redis = redis.to_path_buf();
        // Ends with the process; every stream of it ends with its connection.
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, UnixStream::connect(&redis)) else { return };
                let (theirs, ours) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || pour(client, server, up));
                thread::spawn(move || pour(ours, theirs, down));
            }
        });
        Self { path, _dir: dir }
    }

    /// Its address as the configuration writes it.
    pub fn address(&self) -> String {
        format!("unix:{}", self.path.display())
    }
}

fn pour(mut from: UnixStream, mut to: UnixStream, pace: Pace) {
    let mut space = vec![0; pace.bytes];
    let mut copy = || -> io::Result<bool> {
        let count = from.read(&mut space)?;
        to.write_all(&space[..count])?;
        Ok(count > 0)
    };
    while copy().unwrap_or(false) {
        if !pace.every.is_zero() {
            thread::sleep(pace.every);
        }
    }
    // The other direction may still have something to say.
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
