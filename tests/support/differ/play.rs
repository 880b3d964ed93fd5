//! Plays a case, direct and through the proxy, and compares.

use super::{
    generate::{Case, Kind, Op, Round},
    normalise,
};
use crate::support::{
    client::Client,
    process::Proxy,
    redis::{Redis, Release},
    wire::{Wire, encode},
};
use std::{
    collections::BTreeMap,
    io::Write,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

/// What both sides start from; a server that does not know a line is the same on both sides.
const FURNITURE: &[&str] = &[
    "SET s 10",
    "SET u abc",
    "RPUSH l a b c",
    "SADD t a b",
    "ZADD z 1 a 2 b",
    "HSET h f 1",
    "XADD x 1-1 f v",
    "XGROUP CREATE x g 0",
    "XREADGROUP GROUP g c COUNT 1 STREAMS x >",
    "PFADD p a",
    "GEOADD geo 13 38 a 15 37 b",
    "SCRIPT LOAD return(1)",
    "VADD v VALUES 2 1 2 a",
];

const SOURCE: &str =
    "#!lua name=lib\nredis.register_function{function_name='f', callback=function() return 1 end, flags={'no-writes'}}";

/// The server, the proxy before it, and a connection that looks on.
pub struct Table {
    pub redis: Redis,
    pub proxy: Proxy,
    watcher: Wire<UnixStream>,
    /// Connections that are there when no case is played.
    idle: i64,
    /// Where it is, for when it hangs.
    pub place: String,
}

/// Where a case differed.
#[derive(Debug)]
pub struct Difference {
    pub round: usize,
    pub what: String,
}

/// A connection of either kind.
enum End {
    Direct(Wire<UnixStream>),
    Proxied(Box<Client>),
}

impl End {
    fn send(&mut self, bytes: &[u8]) {
        // A server that has said goodbye does not read what follows.
        let _ = match self {
            Self::Direct(wire) => wire.stream().write_all(bytes),
            Self::Proxied(wire) => wire.stream().write_all(bytes).and_then(|()| wire.stream().flush()),
        };
    }

    fn frame(&mut self) -> Option<Vec<u8>> {
        match self {
            Self::Direct(wire) => wire.try_raw_reply(),
            Self::Proxied(wire) => wire.try_raw_reply(),
        }
    }
}

/// What one side said in one round.
struct Heard {
    frames: Vec<Vec<u8>>,
    closed: bool,
}

impl Table {
    pub fn new(redis: Redis, proxy: Proxy) -> Self {
        let mut watcher = redis.connect();
        // Keys that expire do so when they are asked for, not when a clock says so.
        let _ = watcher.call(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
        let mut table = Self { redis, proxy, watcher, idle: 0, place: String::new() };
        table.idle = table.connected();
        table
    }

    /// What stands in the place of `{…}` in a probe.
    pub fn told(&mut self) -> BTreeMap<&'static str, Vec<u8>> {
        self.furnish();
        let mut ask = |command: &[&str]| match self.watcher.call(command) {
            crate::support::wire::Reply::Bulk(bytes) => bytes,
            // This server does not have it: nor does it need it.
            _ => b"unknown".to_vec(),
        };
        BTreeMap::from([
            ("{dump}", ask(&["DUMP", "s"])),
            ("{library}", ask(&["FUNCTION", "DUMP"])),
            ("{sha}", ask(&["SCRIPT", "LOAD", "return(1)"])),
            ("{node}", vec![b'0'; 40]),
            ("{source}", SOURCE.as_bytes().to_vec()),
        ])
    }

    fn connected(&mut self) -> i64 {
        let info = self.watcher.call(&["INFO", "clients"]).text();
        let line = info.lines().find_map(|line| line.strip_prefix("connected_clients:")).expect("connected_clients");
        line.trim().parse().unwrap()
    }

    /// Until the server has noticed who left.
    fn await_connected(&mut self, wanted: i64) {
        let start = Instant::now();
        while self.connected() != wanted + self.idle {
            assert!(start.elapsed() < Duration::from_secs(20), "the server keeps connections that were closed");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn furnish(&mut self) {
        let mut bytes = Vec::new();
        for line in ["FLUSHALL", "SCRIPT FLUSH", "FUNCTION FLUSH", "CLIENT UNPAUSE"].iter().chain(FURNITURE) {
            bytes.extend(encode(&line.split(' ').collect::<Vec<_>>()));
        }
        bytes.extend(encode(&["FUNCTION", "LOAD", "REPLACE", SOURCE]));
        bytes.extend(encode(&["PING", "furnished"]));
        self.watcher.send_raw(&bytes);
        while self.watcher.reply().text_or_empty() != "furnished" {}
    }

    fn digest(&mut self) -> String {
        if !Release::of_server().since(5, 0) {
            // Its DEBUG DIGEST falls over a table that is being resized, or a key whose time has come: each look takes the
            // one a step further, KEYS takes the other away.
            let mut bytes = Vec::new();
            for db in (0..16).rev() {
                bytes.extend(encode(&["SELECT", &db.to_string()]));
                bytes.extend(encode(&["KEYS", "*"]));
                bytes.extend(encode(&["EXISTS", "none"]).repeat(128));
            }
            bytes.extend(encode(&["ECHO", "settled"]));
            self.watcher.send_raw(&bytes);
            while self.watcher.reply().text_or_empty() != "settled" {}
        }
        self.watcher.call(&["DEBUG", "DIGEST"]).text()
    }

    /// Plays it on both sides. `None` when they are the same.
    pub fn compare(&mut self, case: &Case) -> Option<Difference> {
        let (direct, digest) = self.side(case, false);
        let (proxied, other) = self.side(case, true);
        for (at, (round, (direct, proxied))) in case.rounds.iter().zip(direct.iter().zip(&proxied)).enumerate() {
            if let Some(what) = differs(round, direct, proxied) {
                return Some(Difference { round: at, what });
            }
        }
        (digest != other).then(|| Difference {
            round: case.rounds.len().saturating_sub(1),
            what: format!("the data that is left: DEBUG DIGEST {digest} direct, {other} proxied"),
        })
    }

    fn side(&mut self, case: &Case, proxied: bool) -> (Vec<Heard>, String) {
        self.furnish();
        let mut ends: Vec<Option<End>> = (0..case.clients).map(|_| None).collect();
        let mut heard = Vec::new();
        for (at, round) in case.rounds.iter().enumerate() {
            let end = ends[round.client].get_or_insert_with(|| {
                if proxied { End::Proxied(Box::new(self.proxy.client())) } else { End::Direct(self.redis.connect()) }
            });
            self.place = format!("{}, round {at}", if proxied { "proxied" } else { "direct" });
            let said = play(end, round, at, proxied, &mut self.place);
            if said.closed {
                ends[round.client] = None;
                let open = ends.iter().flatten().count();
                self.await_connected(i64::try_from(open).unwrap());
            }
            heard.push(said);
        }
        drop(ends);
        self.await_connected(0);
        let digest = self.digest();
        (heard, digest)
    }
}

/// The unknown command that takes the place of what the proxy refuses.
fn stand_in(at: usize) -> Vec<u8> {
    format!("refused-{at}").into_bytes()
}

/// Comes back in the place of a reply that is not the same twice.
fn marker(name: &str) -> Vec<u8> {
    format!("next is {name}").into_bytes()
}

fn bytes_of(op: &Op, at: usize, proxied: bool) -> Vec<u8> {
    match op.kind {
        Kind::Refused(_) if !proxied => encode(&[stand_in(at)]),
        _ => {
            let mut bytes = Vec::new();
            if op.kind == Kind::Same && normalise::of(&op.name).is_some() {
                // Twice: the first may be what CLIENT REPLY SKIP skips.
                bytes.extend(encode(&[b"ECHO".to_vec(), marker(&op.name)]));
                bytes.extend(encode(&[b"ECHO".to_vec(), marker(&op.name)]));
            }
            bytes.extend(encode(&op.words));
            bytes
        }
    }
}

fn play(end: &mut End, round: &Round, number: usize, proxied: bool, place: &mut String) -> Heard {
    let mut bytes: Vec<u8> = round.ops.iter().enumerate().flat_map(|(at, op)| bytes_of(op, at, proxied)).collect();
    let last = format!("end of round {number}").into_bytes();
    let quits = round.ops.last().is_some_and(|op| op.name == "quit");
    if !quits {
        bytes.extend(encode(&["DISCARD"]));
        if Release::of_server().since(3, 2) {
            bytes.extend(encode(&["CLIENT", "REPLY", "ON"]));
        }
    }
    match &round.broken {
        _ if quits => {}
        Some((_, broken)) if proxied => bytes.extend_from_slice(broken),
        Some(_) => bytes.extend(encode(&["QUIT"])),
        None => bytes.extend(encode(&[b"PING".to_vec(), last.clone()])),
    }
    let mut rest = &bytes[..];
    for piece in round.pieces.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        // Small pieces are for short ones: the question is the same.
        let piece = (*piece).max(bytes.len() / 250);
        let (now, later) = rest.split_at(piece.min(rest.len()));
        end.send(now);
        rest = later;
    }
    let mut frames = Vec::new();
    let ends_with = |frame: &[u8]| frame.ends_with(&[&last[..], b"\r\n"].concat());
    let ends = quits || round.broken.is_some();
    while let Some(frame) = end.frame() {
        let done = !ends && ends_with(&frame);
        let begin = place.find(", last heard").unwrap_or(place.len());
        place.truncate(begin);
        *place += &format!(", last heard reply {}: {}", frames.len(), frame[..frame.len().min(80)].escape_ascii());
        frames.push(frame);
        if done {
            return Heard { frames, closed: false };
        }
    }
    Heard { frames, closed: true }
}

/// Compares what was heard in one round.
fn differs(round: &Round, direct: &Heard, proxied: &Heard) -> Option<String> {
    if direct.closed != proxied.closed {
        return Some(format!("closed: direct {}, proxied {}", direct.closed, proxied.closed));
    }
    let mut direct_frames: Vec<_> = direct.frames.iter().map(|frame| expectation(round, frame)).collect();
    let mut proxied_frames = proxied.frames.clone();
    if let Some((class, _)) = &round.broken {
        let goodbye = direct_frames.pop_if(|frame| frame == b"+OK\r\n");
        let refusal = proxied_frames.pop_if(|frame| frame.starts_with(b"-ERR Protocol error: "));
        if goodbye.is_some() != refusal.is_some() {
            return Some(format!("{class}: the proxy's last words are {refusal:?}"));
        }
    }
    let keeps_replies = round.ops.iter().any(|op| op.name == "client|reply");
    normalise::pushes_first(&mut direct_frames, keeps_replies);
    normalise::pushes_first(&mut proxied_frames, keeps_replies);
    let mut normaliser = None;
    for (at, (direct, proxied)) in direct_frames.iter().zip(&proxied_frames).enumerate() {
        let (expected, got) = match normaliser {
            Some(left) if !direct.starts_with(b"-") => (normalise::left(direct, left), normalise::left(proxied, left)),
            _ => (normalise::hello_id(direct), normalise::hello_id(proxied)),
        };
        if expected != got {
            let same = expected.iter().zip(&got).take_while(|(one, other)| one == other).count();
            let from = same.saturating_sub(120);
            let shown = |bytes: &[u8]| bytes[from..bytes.len().min(same + 200)].escape_ascii().to_string();
            return Some(format!("reply {at}:\n  direct  {}\n  proxied {}", shown(&expected), shown(proxied)));
        }
        normaliser = round
            .ops
            .iter()
            .filter_map(|op| normalise::of(&op.name).map(|left| (left, marker(&op.name))))
            .find(|(_, marker)| direct.ends_with(&[&marker[..], b"\r\n"].concat()))
            .map(|(left, _)| left);
    }
    let (more, fewer) = (direct_frames.len(), proxied_frames.len());
    (more != fewer).then(|| {
        let shown = |frames: &[Vec<u8>]| {
            frames.concat().iter().rev().take(300).rev().copied().collect::<Vec<_>>().escape_ascii().to_string()
        };
        format!(
            "{more} replies direct, {fewer} proxied; the ends:\n  direct  {}\n  proxied {}",
            shown(&direct_frames),
            shown(&proxied_frames)
        )
    })
}

/// What the proxy is to say where direct an unknown command stood.
fn expectation(round: &Round, direct: &[u8]) -> Vec<u8> {
    if !direct.starts_with(b"-") {
        return direct.to_vec();
    }
    let text = String::from_utf8_lossy(direct);
    let stood = text
        .split_once("refused-")
        .and_then(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<usize>().ok());
    match stood.and_then(|at| round.ops.get(at)).map(|op| &op.kind) {
        Some(Kind::Refused(line)) => line.clone().into_bytes(),
        _ => direct.to_vec(),
    }
}
