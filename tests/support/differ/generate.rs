//! Random streams out of the whole catalog, and what is known of the state they leave a connection in.

use crate::support::probes::{Probe, probes};
use crate::support::redis::Release;
use ravelin::command::{Effect, catalog};
use std::collections::{BTreeMap, BTreeSet};

/// Denied by the proxy under test. What would end, stop or re-make the server, what another listens to, and some that
/// are harmless: a denial must look the same for all.
pub const DENIED: [&str; 28] = [
    "SHUTDOWN",
    "MONITOR",
    "SYNC",
    "PSYNC",
    "REPLCONF",
    "DEBUG",
    "FAILOVER",
    "REPLICAOF",
    "SLAVEOF",
    "SAVE",
    "BGSAVE",
    "BGREWRITEAOF",
    "CONFIG",
    "MIGRATE",
    "MODULE",
    "ACL",
    "FLUSHALL",
    "KEYS",
    "SWAPDB",
    "MEMORY",
    "LATENCY",
    "SLOWLOG",
    "COMMANDLOG",
    "HOTKEYS",
    "CLUSTER",
    "SCRIPT|KILL",
    "CLIENT|PAUSE",
    "CLIENT|KILL",
];

/// A source of numbers that a seed makes the same again.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    /// The next number (splitmix64).
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `limit`.
    pub fn roll(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, chance: usize) -> bool {
        self.roll(100) < chance
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len())]
    }
}

/// One command of a stream.
#[derive(Clone, Debug)]
pub struct Op {
    pub words: Vec<Vec<u8>>,
    /// The catalog's name, as far as the words have one.
    pub name: String,
    pub kind: Kind,
}

/// What is expected of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The same bytes as direct.
    Same,
    /// The proxy refuses it with this line; direct, an unknown command takes its place, which does the same to a
    /// transaction and to CLIENT REPLY.
    Refused(String),
}

impl Op {
    fn new(words: Vec<Vec<u8>>, kind: Kind) -> Self {
        let text = |at: usize| words.get(at).map(|word| String::from_utf8_lossy(word).to_lowercase());
        let first = text(0).unwrap_or_default();
        let full = text(1).map(|sub| format!("{first}|{sub}"));
        let name = full.filter(|full| catalog::by_full_name(full).is_some()).unwrap_or(first);
        Self { words, name, kind }
    }

    fn line(line: &str) -> Self {
        Self::new(line.split(' ').map(|word| word.as_bytes().to_vec()).collect(), Kind::Same)
    }

    fn refused(words: Vec<Vec<u8>>, text: &str) -> Self {
        Self::new(words, Kind::Refused(format!("-{text}\r\n")))
    }

    /// Whether it is about the connection's state and not about data.
    pub fn changes_state(&self) -> bool {
        match catalog::by_full_name(&self.name).map(|id| id.entry().effect) {
            None | Some(Effect::Plain | Effect::Blocking | Effect::BlockingOption | Effect::Script) => false,
            Some(_) => true,
        }
    }
}

/// What one connection sends before its replies are looked at.
#[derive(Clone, Debug)]
pub struct Round {
    pub client: usize,
    pub ops: Vec<Op>,
    /// Lengths of the pieces it is sent in, over and over.
    pub pieces: Vec<usize>,
    /// Bytes behind it that are no canonical request: the proxy must refuse them and close.
    pub broken: Option<(&'static str, Vec<u8>)>,
}

/// One case: connections and their rounds.
#[derive(Clone, Debug)]
pub struct Case {
    pub denials: bool,
    pub clients: usize,
    pub rounds: Vec<Round>,
}

/// What the generator knows of a connection, to stay within what both sides are said to do alike.
#[derive(Clone, Default)]
struct Model {
    resp3: bool,
    multi: bool,
    /// CLIENT REPLY OFF.
    off: bool,
    /// CLIENT REPLY SKIP came just before.
    skip: bool,
    channels: BTreeSet<String>,
    patterns: BTreeSet<String>,
    shards: BTreeSet<String>,
}

impl Model {
    fn subscribed(&self) -> bool {
        !(self.channels.is_empty() && self.patterns.is_empty() && self.shards.is_empty())
    }
}

/// What a server needs to be asked once.
pub struct Vocabulary {
    probes: Vec<Probe>,
    /// Stand for what only the server can tell.
    pub told: BTreeMap<&'static str, Vec<u8>>,
    next: usize,
}

/// Commands that would hold a connection for as long as nobody feeds it: in these shapes they do not.
const BLOCKING: &[&str] = &[
    "blpop l 0.01",
    "brpop l u 0.01",
    "blpop none l 0.01",
    "brpoplpush l d 0.01",
    "blmove l d left right 0.01",
    "blmpop 0.01 1 l left",
    "bzpopmin z 0.01",
    "bzpopmax z 0.01",
    "bzmpop 0.01 1 z min",
    "xread block 1 streams x 0",
    "wait 0 0",
    "waitaof 0 0 0",
    "blpop s 0.01",
    "blpop none notanumber",
    "blpop none -1",
    "xread block 1 streams x",
    "blmove l",
    "xreadgroup group g c count 1 block 1 streams x >",
];

/// The state of a connection, when it is in no transaction. Without CLIENT TRACKING BCAST: its invalidations come at the
/// end of a turn of Redis' loop, whatever that had read by then.
const STATE: &[&str] = &[
    "select 0",
    "select 1",
    "select 2",
    "select 15",
    "select 99",
    "select",
    "multi",
    "multi",
    "multi",
    "multi",
    "exec",
    "discard",
    "watch s",
    "watch l u z",
    "watch",
    "unwatch",
    "hello",
    "hello 2",
    "hello 3",
    "hello 3",
    "hello 9",
    "reset",
    "reset now",
    "client reply on",
    "client reply off",
    "client reply skip",
    "client reply skip",
    "client setname me",
    "client setname",
    "client tracking on",
    "client tracking off",
    "client caching yes",
    "client no-evict on",
    "client no-touch on",
    "client setinfo lib-name x",
    "readonly",
    "readwrite",
    "asking",
    "subscribe a",
    "subscribe a b a",
    "psubscribe a* b",
    "ssubscribe a",
    "unsubscribe",
    "unsubscribe a",
    "unsubscribe a b",
    "punsubscribe",
    "sunsubscribe",
    "subscribe",
    "publish a hello",
    "ping",
    "ping hello",
    "quit",
];

/// What RESP2 allows one who has subscribed, and some that it does not.
const SUBSCRIBED: &[&str] = &[
    "subscribe b",
    "subscribe c a",
    "psubscribe a*",
    "psubscribe [ab]",
    "unsubscribe",
    "unsubscribe a",
    "unsubscribe zzz",
    "punsubscribe",
    "punsubscribe a*",
    "ssubscribe a",
    "sunsubscribe",
    "sunsubscribe a",
    "ping",
    "ping hello",
    "get s",
    "publish a x",
    "multi",
    "select 1",
    "reset",
    "quit",
    "echo x",
];

/// Inside a transaction.
const QUEUED: &[&str] = &[
    "exec",
    "exec",
    "exec",
    "exec",
    "discard",
    "discard",
    "watch s",
    "unwatch",
    "multi",
    "reset",
    "select 1",
    "select 99",
    "client setname you",
    "client tracking on",
    "get",
    "readonly",
    "quit",
];

/// Values that are put in the place of a word. None holds a NUL or a number that can be read in two ways.
const VALUES: &[&[u8]] =
    &[b"", b"0", b"-1", b"1", b"7", b"nan", b"x", b"s", b"l", b"none", b"\xff\r\n$5", b"GET", b"3.5", b"inf"];

/// Denied, and of no shape that could be tried on a server that is to live on and to answer.
const UNPROBED: &[&str] = &[
    "monitor",
    "sync",
    "psync ? -1",
    "replconf listening-port 1",
    "shutdown nosave",
    "script debug no",
    "cluster syncslots x",
];

/// Requests that Redis takes by leniency, each of a class: what they would run must not run.
const BROKEN: &[(&str, &[u8])] = &[
    ("header without LF", b"*1\rX$8\rYFLUSHALL"),
    ("header with bare LF", b"*1\n$8\nFLUSHALL\n"),
    ("value without CRLF", b"*3\r\n$3\r\nSET\r\n$5\r\npwned\r\n$1\r\n1ZZ"),
    ("value that swallows", b"*1\r\n$4\r\nPING*3\r\n$3\r\nSET\r\n$5\r\npwned\r\n$1\r\n1\r\n"),
    ("inline", b"SET pwned 1\r\n"),
    ("quoted inline", b"\"\\x53ET\" pwned 1\r\n"),
    ("HTTP", b"POST / HTTP/1.1\r\nHost: x\r\n\r\nSET pwned 1\r\n"),
    ("array of another kind", b"~3\r\n$3\r\nSET\r\n$5\r\npwned\r\n$1\r\n1\r\n"),
    ("count with a sign", b"*+3\r\n$3\r\nSET\r\n$5\r\npwned\r\n$1\r\n1\r\n"),
    ("count with a zero", b"*03\r\n$3\r\nSET\r\n$5\r\npwned\r\n$1\r\n1\r\n"),
    ("count with a blank", b"* 3\r\n$3\r\nSET\r\n$5\r\npwned\r\n$1\r\n1\r\n"),
    ("length with a sign", b"*3\r\n$+3\r\nSET\r\n$5\r\npwned\r\n$1\r\n1\r\n"),
    ("length with a zero", b"*3\r\n$03\r\nSET\r\n$5\r\npwned\r\n$1\r\n1\r\n"),
    ("length below zero", b"*3\r\n$-1\r\nSET\r\n$5\r\npwned\r\n$1\r\n1\r\n"),
    ("NUL in a header", b"*3\0\r\n$3\r\nSET\r\n$5\r\npwned\r\n$1\r\n1\r\n"),
    ("no bulk", b"*3\r\n+SET\r\n$5\r\npwned\r\n$1\r\n1\r\n"),
    ("blank line of blanks", b" \r\n*1\r\n$16\r\n\r\nSET pwned 1\r\n\r\n\r\n"),
];

/// The names of the classes of [`BROKEN`].
pub fn broken_classes() -> impl Iterator<Item = &'static str> {
    BROKEN.iter().map(|(name, _)| *name)
}

const NOPERM_AUTH: &str =
    "NOPERM authentication is by client certificate here; take the password out of the client's configuration";

impl Vocabulary {
    pub fn new(told: BTreeMap<&'static str, Vec<u8>>) -> Self {
        let unprobed =
            UNPROBED.iter().map(|line| Probe { words: line.split(' ').collect(), refused: None, cluster: false });
        Self { probes: probes().into_iter().chain(unprobed).collect(), told, next: 0 }
    }

    /// The next command of the catalog, in its working shape.
    fn next_probe(&mut self, denials: bool) -> (Vec<Vec<u8>>, Effect) {
        loop {
            self.next = (self.next + 1) % self.probes.len();
            let probe = &self.probes[self.next];
            let words: Vec<Vec<u8>> = probe
                .words
                .iter()
                .map(|word| self.told.get(word).cloned().unwrap_or_else(|| word.as_bytes().to_vec()))
                .collect();
            let op = Op::new(words, Kind::Same);
            let effect = catalog::by_full_name(&op.name).map_or(Effect::Plain, |id| id.entry().effect);
            if denied_text(&op.name).is_some() && !denials {
                continue;
            }
            return (op.words, effect);
        }
    }

    /// A case of this seed.
    pub fn case(&mut self, seed: u64) -> Case {
        let mut dice = Dice::new(seed);
        let clients = 1 + dice.roll(3);
        let mut models = vec![Model::default(); clients];
        let count = 1 + dice.roll(6);
        // Of the catalog and of the classes of what is broken none is left to chance, and all of it follows from the seed.
        let nth = usize::try_from(seed % 1_000_000_007).unwrap();
        let denials = nth % 4 == 3;
        self.next = nth * 29 % self.probes.len();
        let broken_at = (nth % 5 == 0).then(|| dice.roll(count));
        let mut rounds = Vec::new();
        for at in 0..count {
            let client = dice.roll(clients);
            let length = match dice.roll(10) {
                0..6 => 1 + dice.roll(8),
                6..9 => 1 + dice.roll(40),
                _ => 1 + dice.roll(200),
            };
            let mut ops = Vec::new();
            for _ in 0..length {
                let op = self.op(&mut dice, &mut models[client], denials);
                let last = op.name == "quit";
                ops.push(op);
                if last {
                    models[client] = Model::default();
                    break;
                }
            }
            let broken = if broken_at == Some(at) && ops.iter().all(|op| op.name != "quit") {
                models[client] = Model::default();
                let (class, bytes) = BROKEN[nth / 5 % BROKEN.len()];
                Some((class, bytes.to_vec()))
            } else {
                // The end of every round, see `play`.
                models[client].multi = false;
                models[client].off = false;
                None
            };
            let pieces = match dice.roll(4) {
                0 => vec![usize::MAX],
                1 => vec![1],
                2 => vec![1 + dice.roll(50)],
                _ => (0..5).map(|_| 1 + dice.roll(300)).collect(),
            };
            rounds.push(Round { client, ops, pieces, broken });
        }
        Case { denials, clients, rounds }
    }

    fn op(&mut self, dice: &mut Dice, model: &mut Model, denials: bool) -> Op {
        if model.subscribed() && !model.resp3 {
            return follow(model, Op::line(dice.pick(SUBSCRIBED)));
        }
        if dice.percent(38) {
            let line = dice.pick(if model.multi { QUEUED } else { STATE });
            if denials && dice.percent(10) {
                return self.refused(dice, model);
            }
            // In RESP2 nobody would get out of that again but by RESET.
            if model.off && (!model.resp3 && line.contains("subscribe ") || model.subscribed() && line == "hello 2") {
                return Op::line("ping");
            }
            // Redis before 6.2 is silent about confirmations too; the proxy lets every confirmation through, as newer ones do.
            if (model.skip || model.off) && line.contains("subscribe") && !Release::of_server().since(6, 2) {
                return Op::line("ping");
            }
            // Redis 6.0 is silent about what was invalidated too; the proxy lets it through, as Redis from 6.2 on does.
            if line == "client tracking on" && !Release::of_server().since(6, 2) {
                return Op::line("ping");
            }
            if line.starts_with("client reply") && !may_be_silent(model) {
                return Op::line("ping");
            }
            // A Redis whose +OK nobody is to hear does not close (`CLIENT_CLOSE_AFTER_REPLY`); the proxy does.
            if (model.off || model.skip) && line == "quit" {
                return Op::line("ping");
            }
            return follow(model, Op::line(line));
        }
        // Redis up to 6.0 forgets that it was to skip the reply of a command that waits.
        let may_wait = !model.skip || Release::of_server().since(7, 0);
        if dice.percent(1) && !model.multi && may_wait {
            return Op::line(dice.pick(BLOCKING));
        }
        let (mut words, effect) = self.next_probe(denials);
        if matches!(effect, Effect::Blocking | Effect::BlockingOption) && !may_wait {
            return Op::line("ping");
        }
        if matches!(effect, Effect::Blocking | Effect::BlockingOption) && !model.multi {
            // In its own shape, but for the time it may wait.
            words = without_waiting(words);
        } else if dice.percent(35) {
            mutate(dice, &mut words);
            outlive(&mut words);
            take_at_once(&mut words);
        }
        if words[0].eq_ignore_ascii_case(b"spop") {
            // All of them: what is left must not be left to chance.
            words = vec![b"spop".to_vec(), words.get(1).cloned().unwrap_or_default(), b"100".to_vec()];
        }
        let op = judged(Op::new(words, Kind::Same), model);
        model.skip =
            op.name == "client|reply" && op.words.get(2).is_some_and(|word| word.eq_ignore_ascii_case(b"skip"));
        let too_old = match op.name.as_str() {
            "client|reply" => !may_be_silent(model),
            "client|tracking" => !Release::of_server().since(6, 2),
            _ => false,
        };
        if too_old {
            return Op::line("ping");
        }
        if model.multi && op.kind == Kind::Same && super::normalise::of(&op.name).is_some() {
            // Inside EXEC's array nothing is normalised.
            return Op::line("echo queued");
        }
        op
    }

    /// What the proxy answers itself with an error, besides what its policy denies.
    fn refused(&mut self, dice: &mut Dice, model: &Model) -> Op {
        let words = |line: &str| line.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
        let inside = "ERR Command not allowed inside a transaction";
        if model.multi {
            let line = dice.pick(&["subscribe a", "unsubscribe", "hello 3", "client reply off", "psubscribe a*"]);
            return Op::refused(words(line), inside);
        }
        if dice.percent(50) {
            return Op::refused(words(dice.pick(&["auth x", "auth default x", "hello 3 auth default x"])), NOPERM_AUTH);
        }
        let name = dice.pick(&["nosuchcommand", "flushall2", "json.set", "config|get"]);
        Op::refused(words(name), &format!("NOPERM this user has no permissions to run the '{name}' command"))
    }
}

/// The line with which the policy of the proxy under test denies a command.
pub fn denied_text(name: &str) -> Option<String> {
    let id = catalog::by_full_name(name)?;
    let upper = name.to_uppercase();
    let container = upper.split('|').next().unwrap();
    let unsupported = id.entry().effect == Effect::Unsupported;
    let denied = unsupported || DENIED.iter().any(|denied| *denied == upper || *denied == container);
    if id.entry().effect == Effect::AccessControl {
        return Some(format!(
            "NOPERM users and their rules are those of the proxy's configuration: change it and reload it instead of '{name}'"
        ));
    }
    denied.then(|| format!("NOPERM this user has no permissions to run the '{name}' command"))
}

/// Marks a command that the proxy will refuse.
fn judged(mut op: Op, _model: &Model) -> Op {
    let id = match super::normalise::resolved(&op.words) {
        Ok(id) => id,
        Err(said) => {
            op.kind = Kind::Refused(format!("-NOPERM this user has no permissions to run the '{said}' command\r\n"));
            return op;
        }
    };
    op.name = id.entry().full_name.to_owned();
    if let Some(text) = denied_text(&op.name) {
        op.kind = Kind::Refused(format!("-{text}\r\n"));
    } else if let Some(text) = super::normalise::strictly(id, &op.words) {
        op.kind = Kind::Refused(format!("-{text}\r\n"));
    }
    op
}

fn mutate(dice: &mut Dice, words: &mut Vec<Vec<u8>>) {
    // The name, and what may be a subcommand's, stay.
    let fixed = 1 + usize::from(super::normalise::is_container(&words[0]));
    match dice.roll(6) {
        0 if words.len() > fixed => drop(words.pop()),
        1 => words.push(dice.pick(VALUES).to_vec()),
        2 => words.push(vec![b'v'; 20_000]),
        3 if words.len() > fixed => {
            let at = fixed + dice.roll(words.len() - fixed);
            words.remove(at);
        }
        _ if words.len() > fixed => {
            let at = fixed + dice.roll(words.len() - fixed);
            words[at] = dice.pick(VALUES).to_vec();
        }
        _ => words[0] = words[0].to_ascii_uppercase(),
    }
}

/// What is given a life is given one that outlasts the case, or none: what a reply says must not hang on how fast it came.
fn outlive(words: &mut [Vec<u8>]) {
    const LIVES: [&str; 10] =
        ["expire", "pexpire", "setex", "psetex", "hexpire", "hpexpire", "ex", "px", "restore", "restore-asking"];
    if !words.iter().any(|word| LIVES.iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes()))) {
        return;
    }
    for word in words.iter_mut().skip(2).filter(|word| *word == b"1" || *word == b"7") {
        *word = b"1000000".to_vec();
    }
}

/// What must have been left alone for a time is taken at once: a reply must not hang on how fast it was asked for.
fn take_at_once(words: &mut [Vec<u8>]) {
    const IDLE_TIME: usize = 4;
    let name = words[0].to_ascii_lowercase();
    let claims = name == b"xclaim" || name == b"xautoclaim";
    let streams = claims || name == b"xpending" || name == b"xreadgroup";
    for at in 1..words.len() {
        let option = words[at - 1].eq_ignore_ascii_case(b"idle") || words[at - 1].eq_ignore_ascii_case(b"claim");
        if (claims && at == IDLE_TIME || streams && option) && (words[at] == b"1" || words[at] == b"7") {
            words[at] = b"0".to_vec();
        }
    }
}

/// What a state command does to the model.
fn follow(model: &mut Model, op: Op) -> Op {
    let op = judged(op, model);
    model.skip = op.words.get(2).is_some_and(|word| word == b"skip");
    if op.kind != Kind::Same {
        return op;
    }
    let argument = |at: usize| op.words.get(at).map(|word| String::from_utf8_lossy(word).into_owned());
    let release = Release::of_server();
    let names = || op.words.iter().skip(1).map(|word| String::from_utf8_lossy(word).into_owned());
    let limited = model.subscribed() && !model.resp3;
    match op.name.as_str() {
        "multi" if !limited => model.multi = true,
        "exec" | "discard" if !limited => model.multi = false,
        "client|reply" if !limited => match argument(2).as_deref() {
            Some("off") => model.off = true,
            Some("on") => model.off = false,
            _ => {}
        },
        "reset" if op.words.len() == 1 && release.since(6, 2) => *model = Model::default(),
        "hello" if release.since(6, 0) => match argument(1).as_deref() {
            Some("3") => model.resp3 = true,
            Some("2") => model.resp3 = false,
            _ => {}
        },
        "subscribe" => model.channels.extend(names()),
        "psubscribe" => model.patterns.extend(names()),
        "ssubscribe" if release.since(7, 0) => model.shards.extend(names()),
        "unsubscribe" if op.words.len() == 1 => model.channels.clear(),
        "punsubscribe" if op.words.len() == 1 => model.patterns.clear(),
        "sunsubscribe" if op.words.len() == 1 => model.shards.clear(),
        "unsubscribe" => model.channels.retain(|name| !names().any(|gone| gone == *name)),
        "punsubscribe" => model.patterns.retain(|name| !names().any(|gone| gone == *name)),
        "sunsubscribe" => model.shards.retain(|name| !names().any(|gone| gone == *name)),
        _ => {}
    }
    op
}

/// Whether CLIENT REPLY is the same on both sides: the proxy gives it to a Redis that has none, and lets messages through
/// about which Redis before 6.2 is silent.
fn may_be_silent(model: &Model) -> bool {
    Release::of_server().since(if model.subscribed() { 6 } else { 3 }, 2)
}

/// Whether both sides are said to do alike what this case says: shrinking may have taken out the EXEC before a SUBSCRIBE.
pub fn is_fair(case: &Case) -> bool {
    const NOT_INSIDE: [&str; 8] = [
        "client|reply",
        "hello",
        "subscribe",
        "psubscribe",
        "ssubscribe",
        "unsubscribe",
        "punsubscribe",
        "sunsubscribe",
    ];
    let mut models = vec![Model::default(); case.clients];
    for round in &case.rounds {
        let model = &mut models[round.client];
        for op in &round.ops {
            if op.kind == Kind::Same && model.multi && NOT_INSIDE.contains(&op.name.as_str()) {
                return false;
            }
            if (model.off || model.skip) && op.name == "quit" || op.name == "client|reply" && !may_be_silent(model) {
                return false;
            }
            let effect = catalog::by_full_name(&op.name).map(|id| id.entry().effect);
            if !model.multi && matches!(effect, Some(Effect::Blocking | Effect::BlockingOption)) && waits(&op.words) {
                return false;
            }
            if (model.skip || model.off) && op.name.contains("subscribe") && !Release::of_server().since(6, 2) {
                return false;
            }
            let leaves_resp3 = op.name == "hello" && op.words.get(1).is_some_and(|word| word == b"2");
            if model.off && (!model.resp3 && op.name.contains("subscribe") || model.subscribed() && leaves_resp3) {
                return false;
            }
            if let Kind::Refused(line) = &op.kind
                && line.contains("inside a transaction") != model.multi
                && NOT_INSIDE.contains(&op.name.as_str())
            {
                return false;
            }
            follow(model, op.clone());
        }
        model.multi = false;
        model.off = false;
        if round.broken.is_some() || round.ops.last().is_some_and(|op| op.name == "quit") {
            *model = Model::default();
        }
    }
    true
}

/// Whether a blocking command would wait for ever outside a transaction.
fn waits(words: &[Vec<u8>]) -> bool {
    without_waiting(words.to_vec()) != words
}

/// A blocking command that waits for a moment only.
fn without_waiting(mut words: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let name = String::from_utf8_lossy(&words[0]).to_lowercase();
    match name.as_str() {
        "blmpop" | "bzmpop" => words[1] = b"0.01".to_vec(),
        "wait" | "waitaof" => words = Op::line(&format!("{name} 0 0{}", if name == "wait" { "" } else { " 0" })).words,
        "xread" | "xreadgroup" => {}
        _ => *words.last_mut().unwrap() = b"0.01".to_vec(),
    }
    words
}
