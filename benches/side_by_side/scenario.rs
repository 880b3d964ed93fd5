//! What can be measured, by name: `get64x16-c50` is GET of 64 bytes, 16 in flight, 50 clients.

use std::time::Duration;

/// The clients of a scenario that does not say how many.
pub const CLIENTS: u32 = 50;
/// The keys of a scenario that does not say how many: redis-benchmark's habit.
pub const KEYS: u32 = 1;
/// What redis-benchmark cannot pipeline further, and more clients than any limit here lets in.
const PIPELINE_MAX: u32 = 1000;
const CLIENTS_MAX: u32 = 15_000;
/// With more clients, the silence of those who wait for their turn would cost Redis and proxies something itself.
const IN_TURNS_MAX: u32 = 100;
/// What Redis is given in a moment.
const KEYS_MAX: u32 = 1_000_000;
/// One MiB; larger values are other questions.
const VALUE_MAX: usize = 1 << 20;

/// What clients send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    Set,
}

/// A load of redis-benchmark's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub verb: Verb,
    /// Bytes of a value.
    pub value: usize,
    /// Commands in flight of each client.
    pub pipeline: u32,
    pub clients: u32,
    /// Keys that commands are spread over, at random.
    pub keys: u32,
}

/// How a scenario is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// CPU per command under full load.
    Load(Shape),
    /// System calls per command, by strace.
    Syscalls(Shape),
    /// Latency at a fixed rate, from the moment a command was due.
    Rate { clients: u32, per_second: u32 },
    /// SETs of 17,000 bytes from clients that leave Nagle's algorithm on.
    Nagle,
    /// CPU of a connection: TCP, TLS, a PING, and gone.
    Handshakes { rsa: bool, resumed: bool },
    /// Memory of connections that are silent.
    Idle { connections: usize },
    /// Time from exec to the first answer over TLS, and memory after it.
    Start,
    /// Latency of a client with single commands while others pipeline.
    Fairness,
    /// So many clients connect at once.
    Storm { clients: u32 },
}

/// Whom a scenario compares when nobody says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Everybody, and Ravelin with audit off and in full.
    Peers,
    /// Without those that differ little from one of them: for more or fewer clients than usual.
    Few,
    /// Ravelin's ways of auditing.
    Audit,
    /// Ravelin with 1, 2 and 4 workers.
    Workers,
    /// Ravelin alone: how it grows with its connections.
    Growth,
}

/// A scenario of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    pub name: String,
    pub work: Work,
    pub field: Field,
}

/// Sets of scenarios with a name of their own, and what they are for.
pub const SETS: &[(&str, &str, &[&str])] = &[
    ("main", "the rows of the limits: 64 bytes and 16 KiB at 50 clients", &MAIN),
    (
        "keys",
        "the 64-byte rows over 100,000 keys instead of one, so that Redis takes its time",
        &["get64x1-k100000", "get64x16-k100000", "set64x1-k100000", "set64x16-k100000"],
    ),
    ("clients1", "one client", &["get64x1-c1", "set64x1-c1", "get64x16-c1", "get16kx1-c1"]),
    ("clients1000", "a thousand clients", &["get64x1-c1000", "set64x1-c1000", "get64x16-c1000", "get16kx1-c1000"]),
    ("audit", "what the audit stream costs, in each shape", &["audit-x1", "audit-x16"]),
    ("workers", "1, 2 and 4 workers", &["workers-x1", "workers-x16"]),
    ("scale", "cost per command from 50 to 5,000 connections", &["scale-50", "scale-1000", "scale-5000"]),
    ("latency", "p50, p99 and p99.9 at a fixed rate", &["rate-c1", "rate-c50"]),
    (
        "handshakes",
        "full and resumed, ECDSA and RSA",
        &["handshake-ecdsa", "resume-ecdsa", "handshake-rsa", "resume-rsa"],
    ),
    ("idle", "memory of 1,000 and 10,000 idle connections", &["idle-1000", "idle-10000"]),
    ("syscalls", "system calls per command, by strace", &["syscalls-x1", "syscalls-x16"]),
    ("others", "each by itself", &["nagle", "start", "fairness", "storm-1000"]),
];

const MAIN: [&str; 8] =
    ["get64x1", "get64x16", "set64x1", "set64x16", "get16kx1", "set16000x1", "get16kx16", "set16kx16"];

/// What `--quick` looks at.
pub const QUICK: &[&str] = &["get64x1", "get64x16"];

/// The scenarios of names and sets, each once, in the order in which they came first.
///
/// # Errors
/// Which word is neither, and what there is.
pub fn parse(words: &[String]) -> Result<Vec<Scenario>, String> {
    let mut all: Vec<Scenario> = Vec::new();
    for word in words {
        let names: Vec<&str> = match word.as_str() {
            "all" => SETS.iter().flat_map(|(_, _, names)| names.iter().copied()).collect(),
            word => {
                SETS.iter().find(|(set, _, _)| *set == word).map_or_else(|| vec![word], |(_, _, names)| names.to_vec())
            }
        };
        for name in names {
            let scenario = Scenario::of(name).ok_or_else(|| unknown(name))?;
            if !all.contains(&scenario) {
                all.push(scenario);
            }
        }
    }
    Ok(all)
}

fn unknown(name: &str) -> String {
    let sets: Vec<&str> = SETS.iter().map(|(set, _, _)| *set).collect();
    format!(
        "there is no scenario {name:?}. Sets: all, {}. Single ones: get64x1, set16kx16-c1000 (verb, bytes, x in flight, -c \
         clients, -k keys), audit-x16, workers-x1, scale-500, rate-c50, handshake-ecdsa, resume-rsa, idle-1000, syscalls-x1, nagle, \
         start, fairness, storm-1000",
        sets.join(", ")
    )
}

impl Scenario {
    /// A scenario by its name.
    pub fn of(name: &str) -> Option<Self> {
        let load = |pipeline, clients| Shape { verb: Verb::Get, value: 64, pipeline, clients, keys: KEYS };
        let number = |prefix: &str| name.strip_prefix(prefix)?.parse::<u32>().ok().filter(|number| *number > 0);
        let pipeline = |prefix: &str| number(prefix).filter(|pipeline| *pipeline <= PIPELINE_MAX);
        let clients = |prefix: &str| number(prefix).filter(|clients| *clients <= CLIENTS_MAX);
        let (work, field) = match name {
            "nagle" => (Work::Nagle, Field::Peers),
            "start" => (Work::Start, Field::Peers),
            "fairness" => (Work::Fairness, Field::Peers),
            "handshake-ecdsa" => (Work::Handshakes { rsa: false, resumed: false }, Field::Peers),
            "handshake-rsa" => (Work::Handshakes { rsa: true, resumed: false }, Field::Peers),
            "resume-ecdsa" => (Work::Handshakes { rsa: false, resumed: true }, Field::Peers),
            "resume-rsa" => (Work::Handshakes { rsa: true, resumed: true }, Field::Peers),
            _ => {
                if let Some(pipeline) = pipeline("audit-x") {
                    (Work::Load(load(pipeline, CLIENTS)), Field::Audit)
                } else if let Some(pipeline) = pipeline("workers-x") {
                    (Work::Load(load(pipeline, CLIENTS)), Field::Workers)
                } else if let Some(pipeline) = pipeline("syscalls-x") {
                    (Work::Syscalls(load(pipeline, CLIENTS)), Field::Peers)
                } else if let Some(clients) = clients("scale-") {
                    (Work::Load(load(1, clients)), Field::Growth)
                } else if let Some(clients) = clients("rate-c") {
                    // One client's commands follow each other; fifty are a moderate load of a core.
                    (Work::Rate { clients, per_second: if clients == 1 { 2000 } else { 10_000 } }, Field::Peers)
                } else if let Some(clients) = clients("storm-") {
                    (Work::Storm { clients }, Field::Peers)
                } else if let Some(connections) = clients("idle-") {
                    (Work::Idle { connections: usize::try_from(connections).ok()? }, Field::Peers)
                } else {
                    let shape = Shape::of(name)?;
                    (Work::Load(shape), if shape.clients == CLIENTS { Field::Peers } else { Field::Few })
                }
            }
        };
        Some(Self { name: name.to_owned(), work, field })
    }

    /// Rounds and window when nobody says otherwise. What is counted and not timed needs no second round.
    pub fn effort(&self, rounds: usize, window: Duration) -> (usize, Duration) {
        match self.work {
            Work::Idle { .. } => (1, window),
            Work::Syscalls(_) => (1, window.min(Duration::from_secs(1))),
            _ => (rounds, window),
        }
    }

    /// Whether all targets of a round are measured at the same time, in turns.
    pub fn is_in_turns(&self) -> bool {
        match self.work {
            Work::Load(shape) => shape.clients <= IN_TURNS_MAX,
            Work::Rate { .. } => true,
            _ => false,
        }
    }

    /// Whether it can be asked of a target: what is about TLS cannot be asked of plain text, and of what makes no
    /// difference but to the cost of a command nothing else is asked.
    pub fn takes(&self, target: &str) -> bool {
        if target == "stunnel-tcp" && !matches!(self.work, Work::Load(_)) {
            return false;
        }
        let tls = matches!(self.work, Work::Handshakes { .. } | Work::Idle { .. } | Work::Start | Work::Storm { .. });
        let proxy = matches!(self.work, Work::Start);
        !(tls && target == "direct" || proxy && target == "redis-tls")
    }

    /// About how long one measurement takes, connecting included.
    pub fn estimate(&self, target: &str, window: Duration) -> Duration {
        let handshake = Duration::from_micros(if target == "direct" { 100 } else { 2000 });
        let (fixed, connections, window) = match self.work {
            Work::Load(shape) => (450, shape.clients, window),
            Work::Syscalls(shape) => (700, shape.clients, window),
            Work::Rate { clients, .. } => (300, clients, window),
            Work::Nagle => (600, CLIENTS, window),
            Work::Handshakes { .. } => (200, 0, window),
            Work::Idle { connections } => (4500, u32::try_from(connections).unwrap_or(u32::MAX), Duration::ZERO),
            Work::Start => (1300, 0, Duration::ZERO),
            Work::Fairness => (300, 10, window),
            Work::Storm { clients } => (500, clients, Duration::ZERO),
        };
        Duration::from_millis(fixed) + handshake * connections + window
    }

    /// What it is, as a heading.
    pub fn title(&self) -> String {
        match self.work {
            Work::Load(shape) | Work::Syscalls(shape) => shape.title(),
            Work::Rate { clients, per_second } => format!("{per_second} GET/s, {}", plural(clients, "client")),
            Work::Nagle => "SET 17,000 B with Nagle on, 50 clients".to_owned(),
            Work::Handshakes { rsa, resumed } => {
                let kind = if rsa { "RSA-2048" } else { "ECDSA P-256" };
                format!("{kind}, {}", if resumed { "resumed" } else { "full" })
            }
            Work::Idle { connections } => format!("{connections} idle connections"),
            Work::Start => "start".to_owned(),
            Work::Fairness => "single GETs beside pipelining clients".to_owned(),
            Work::Storm { clients } => format!("{clients} clients connect at once"),
        }
    }
}

fn plural(number: u32, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

impl Shape {
    /// `get64x16`, `set16kx1-c1000`, `get64x16-c1000-k100000`.
    fn of(name: &str) -> Option<Self> {
        let (verb, rest) = match name.split_at_checked(3)? {
            ("get", rest) => (Verb::Get, rest),
            ("set", rest) => (Verb::Set, rest),
            _ => return None,
        };
        let (value, rest) = rest.split_once('x')?;
        let (rest, keys) = match rest.split_once("-k") {
            Some((rest, keys)) => (rest, keys.parse().ok()?),
            None => (rest, KEYS),
        };
        let (pipeline, clients) = match rest.split_once("-c") {
            Some((pipeline, clients)) => (pipeline, clients.parse().ok()?),
            None => (rest, CLIENTS),
        };
        let value = match value.strip_suffix('k') {
            Some(kib) => kib.parse::<usize>().ok()?.checked_mul(1024)?,
            None => value.parse().ok()?,
        };
        let shape = Self { verb, value, pipeline: pipeline.parse().ok()?, clients, keys };
        let fits = (1..=VALUE_MAX).contains(&value)
            && (1..=PIPELINE_MAX).contains(&shape.pipeline)
            && (1..=CLIENTS_MAX).contains(&clients)
            && (1..=KEYS_MAX).contains(&keys);
        fits.then_some(shape)
    }

    /// Its name, as [`Scenario::of`] reads it.
    pub fn name(&self) -> String {
        let clients = if self.clients == CLIENTS { String::new() } else { format!("-c{}", self.clients) };
        let keys = if self.keys == KEYS { String::new() } else { format!("-k{}", self.keys) };
        let value =
            if self.value.is_multiple_of(1024) { format!("{}k", self.value / 1024) } else { self.value.to_string() };
        format!("{}{value}x{}{clients}{keys}", if self.verb == Verb::Get { "get" } else { "set" }, self.pipeline)
    }

    fn title(&self) -> String {
        let verb = if self.verb == Verb::Get { "GET" } else { "SET" };
        let value = if self.value.is_multiple_of(1024) {
            format!("{} KiB", self.value / 1024)
        } else {
            format!("{} B", self.value)
        };
        let keys = if self.keys == KEYS { String::new() } else { format!(", {}", plural(self.keys, "key")) };
        format!("{verb} {value} ×{}, {}{keys}", self.pipeline, plural(self.clients, "client"))
    }
}
