//! What the audit stream says reached Redis, held against what a tap saw and against what Redis itself counted.
//!
//! [`Ledger::connection`] goes through one connection's records and the bytes that a tap took down of it, read by the
//! crate `redis-protocol`; [`Ledger::close`] holds the sums against `INFO commandstats`.

use super::{load::words, redis::Release};
use redis_protocol::resp2::{decode::decode_range, types::RangeFrame};
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
};

/// One line of the audit stream, as far as it says something of a connection.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Line {
    pub event: String,
    pub conn: String,
    pub src: String,
    pub db: u64,
    pub cmd: String,
    pub sub: Option<String>,
    pub argc: usize,
    pub keys: Option<Vec<Value>>,
    pub keys_total: Option<usize>,
    pub context: String,
    pub verdict: String,
    pub outcome: String,
    pub elements: Option<Vec<String>>,
    pub elements_total: Option<usize>,
    pub bytes_in: usize,
    pub bytes_out: usize,
    pub reply: Option<String>,
    pub reason: Option<String>,
    pub detail: Option<String>,
}

impl Line {
    /// Whether it stands for bytes that went up, or may have.
    pub fn went_up(&self) -> bool {
        self.event == "upstream_command" || (self.event == "command" && self.verdict == "allow")
    }

    /// Whether Redis' answer is not known.
    fn is_open(&self) -> bool {
        matches!(self.outcome.as_str(), "unanswered" | "incomplete")
    }

    fn name(&self) -> String {
        self.sub.as_ref().map_or_else(|| self.cmd.clone(), |sub| format!("{}|{sub}", self.cmd))
    }
}

/// What can be told apart at a glance.
impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            event, conn, db, argc, keys, keys_total, context, verdict, outcome, bytes_in, bytes_out, reply, ..
        } = self;
        write!(f, "{event} {} of {conn} db={db} argc={argc} keys={keys:?} {keys_total:?} {context}", self.name())?;
        write!(f, " {verdict} {outcome} bytes_in={bytes_in} bytes_out={bytes_out}")?;
        if let Some(reply) = reply {
            write!(f, " {reply}")?;
        }
        for word in [&self.reason, &self.detail].into_iter().flatten() {
            write!(f, " {word:?}")?;
        }
        for word in [&self.elements].into_iter().flatten() {
            write!(f, " {word:?}")?;
        }
        Ok(())
    }
}

/// How often a command ran and failed by the records, and how often it may have.
#[derive(Clone, Copy, Debug, Default)]
struct Due {
    ran: u64,
    failed: u64,
    open: u64,
}

/// What Redis counted of a command; what servers before 6.2 do not count is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub calls: u64,
    pub rejected: Option<u64>,
    pub failed: Option<u64>,
}

/// The sums of one server's life.
#[derive(Default)]
pub struct Ledger {
    due: BTreeMap<String, Due>,
    /// How often each class of thing was seen.
    pub counts: BTreeMap<String, u64>,
}

impl Ledger {
    pub fn count(&mut self, what: &str, times: u64) {
        *self.counts.entry(what.to_owned()).or_default() += times;
    }

    fn due(&mut self, name: &str) -> &mut Due {
        self.due.entry(name.to_owned()).or_default()
    }

    /// Commands that did not come through the proxy.
    pub fn own(&mut self, name: &str, times: u64) {
        self.due(name).ran += times;
    }

    /// Commands whose answer never came.
    pub fn uncertain(&self) -> u64 {
        self.due.values().map(|due| due.open).sum()
    }

    /// Compares one connection's records with what was sent to Redis on its behalf.
    ///
    /// # Errors
    /// The first difference, in words.
    pub fn connection(&mut self, lines: &[Line], sent: &[u8]) -> Result<(), String> {
        let mut at = 0;
        let mut cut = false;
        let mut model = Model::default();
        for line in lines {
            match line.event.as_str() {
                "command" | "begin" | "upstream_command" => {}
                "alarm" => return Err(format!("an alarm: {line:?}")),
                "connection_close" => {
                    self.count(&format!("closed: {}", line.reason.as_deref().unwrap_or("?")), 1);
                    continue;
                }
                _ => continue,
            }
            let mut words = None;
            if line.event != "begin" && line.went_up() {
                match next(sent, at)? {
                    Some((found, _)) if line.outcome == "incomplete" => {
                        return Err(format!("all of it was sent: {} of {line:?}", show(&found)));
                    }
                    Some((found, end)) if !cut => {
                        compare(line, &found, end - at)?;
                        at = end;
                        words = Some(found);
                        self.count("sent and recorded", 1);
                        if found_streamed(line) {
                            self.count("streamed", 1);
                        }
                    }
                    Some((found, _)) => return Err(format!("{} was sent behind a cut", show(&found))),
                    None if line.is_open() => {
                        // What the kernel never took is the end of a connection's records, not of what was sent.
                        cut = true;
                        let rest = sent.len() - at;
                        if rest > line.bytes_in.max(64) && line.event == "command" {
                            return Err(format!("{rest} bytes are part of {line:?}"));
                        }
                        self.count(if rest > 0 { "sent in part" } else { "recorded as open and not sent" }, 1);
                        at = sent.len();
                    }
                    None => return Err(format!("not sent, but recorded: {line:?}")),
                }
            }
            model.see(line, words.as_deref(), self)?;
        }
        if let Some((found, _)) = next(sent, at)? {
            return Err(format!("sent, but not recorded: {}", show(&found)));
        }
        if at != sent.len() {
            return Err(format!("{} bytes were sent of nothing recorded", sent.len() - at));
        }
        Ok(())
    }

    /// Holds the sums against what Redis counted; `subcommands` tells whether it counts them by themselves. Returns all
    /// differences.
    pub fn close(&mut self, counted: &HashMap<String, Counted>, subcommands: bool) -> Vec<String> {
        let mut due: BTreeMap<String, Due> = BTreeMap::new();
        for (name, one) in &self.due {
            let name = name.to_ascii_lowercase();
            let name = if subcommands { name } else { name.split('|').next().unwrap().to_owned() };
            let name = rewritten(&name).to_owned();
            let sum = due.entry(name).or_default();
            sum.ran += one.ran;
            sum.failed += one.failed;
            sum.open += one.open;
        }
        let counted = merged(counted);
        for name in counted.keys() {
            due.entry(name.clone()).or_default();
        }
        let mut faults = Vec::new();
        for (name, due) in due {
            let Some(counted) = counted.get(&name) else {
                // A server that does not know it counts nothing.
                if due.ran > 0 {
                    faults.push(format!("{name}: {due:?} by the records, nothing by Redis"));
                }
                continue;
            };
            let calls = counted.calls;
            let within = |value: u64, least: u64| value >= least && value <= least + due.open;
            let right = match (counted.rejected, counted.failed) {
                (Some(rejected), Some(failed)) => {
                    within(calls.wrapping_sub(failed), due.ran)
                        && within(rejected + failed, due.failed)
                        && within(calls + rejected, due.ran + due.failed)
                }
                _ => calls >= due.ran && calls <= due.ran + due.failed + due.open,
            };
            self.count("commandstats: calls", calls);
            self.count("commandstats: calls that are not certain", due.open);
            self.count(
                if due.open == 0 { "commandstats: rows, exact" } else { "commandstats: rows, within bounds" },
                1,
            );
            if !right {
                faults.push(format!("{name}: {due:?} by the records; by Redis {counted:?}"));
            }
        }
        faults
    }
}

/// Under what name a command within a transaction is counted: Redis 3.2 counts it as the EXEC.
fn within(name: &str) -> &str {
    let release = Release::of_server();
    if release.since(3, 2) && !release.since(4, 0) { "EXEC" } else { name }
}

/// Redis before 3.0 counts some commands as what they are rewritten to for replicas, some of the time.
fn rewritten(name: &str) -> &str {
    if Release::of_server().since(3, 0) {
        return name;
    }
    match name {
        "evalsha" => "eval",
        "spop" => "srem",
        "hincrbyfloat" => "hset",
        "incrbyfloat" => "set",
        "blpop" => "lpop",
        "brpop" => "rpop",
        "brpoplpush" => "rpoplpush",
        "expire" | "pexpire" | "expireat" | "pexpireat" => "del",
        name => name,
    }
}

fn merged(counted: &HashMap<String, Counted>) -> HashMap<String, Counted> {
    let mut sums: HashMap<String, Counted> = HashMap::new();
    for (name, one) in counted {
        let sum = sums.entry(rewritten(name).to_owned()).or_default();
        sum.calls += one.calls;
        sum.rejected = one.rejected.map(|more| more + sum.rejected.unwrap_or(0));
        sum.failed = one.failed.map(|more| more + sum.failed.unwrap_or(0));
    }
    sums
}

/// Above this a command is streamed.
fn found_streamed(line: &Line) -> bool {
    line.bytes_in > 64 * 1024
}

/// A command's words, and where it ends.
type Sent<'a> = (Vec<&'a [u8]>, usize);

/// The next whole command behind `at`, read by somebody else's reader.
fn next(sent: &[u8], at: usize) -> Result<Option<Sent<'_>>, String> {
    let rest = &sent[at..];
    if rest.is_empty() {
        return Ok(None);
    }
    let near = || rest[..rest.len().min(200)].escape_ascii().to_string();
    match decode_range(rest) {
        Ok(None) => Ok(None),
        Ok(Some((RangeFrame::Array(frames), length))) => {
            let words = frames.iter().map(|frame| match frame {
                RangeFrame::BulkString((start, end)) => Ok(&rest[*start..*end]),
                other => Err(format!("{other:?} was sent within a command: {}", near())),
            });
            let words = words.collect::<Result<Vec<_>, _>>()?;
            // That reader forgives what Redis forgives; the proxy must never need it.
            if super::wire::encode(&words) != rest[..length] {
                return Err(format!("what was sent is not canonical: {}", near()));
            }
            Ok(Some((words, at + length)))
        }
        Ok(Some((other, _))) => Err(format!("{other:?} was sent: {}", near())),
        Err(error) => Err(format!("{error} in what was sent: {}", near())),
    }
}

fn show(words: &[&[u8]]) -> String {
    words.iter().take(6).map(|word| word[..word.len().min(60)].escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
}

/// Whether a record says of a command what was sent.
fn compare(line: &Line, words: &[&[u8]], length: usize) -> Result<(), String> {
    let fault = |what: &str| Err(format!("{what}: sent was {} ({length} bytes), the record is {line:?}", show(words)));
    let said = |at: usize| words.get(at).map(|word| String::from_utf8_lossy(word).to_ascii_uppercase());
    if said(0).as_ref() != Some(&line.cmd) || (line.sub.is_some() && said(1) != line.sub) {
        return fault("another command");
    }
    let name = line.name();
    // The proxy keeps CLIENT REPLY itself; to Redis goes only that of a subscriber, to be refused.
    let is_refused = name == "CLIENT|REPLY" && line.outcome != "ran";
    if !is_refused && words::FORBIDDEN.iter().any(|forbidden| *forbidden == name || *forbidden == line.cmd) {
        return fault("what must never be sent");
    }
    if line.event == "upstream_command" {
        return Ok(());
    }
    if line.cmd == "AUTH" {
        return fault("a password of a client's");
    }
    if line.argc != words.len() {
        return fault("argc");
    }
    if line.bytes_in != length {
        return fault("bytes_in");
    }
    let keys: Vec<&[u8]> = words[1..].iter().filter(|word| word.starts_with(words::KEY.as_bytes())).copied().collect();
    let Some(shown) = &line.keys else { return fault("keys") };
    let total = line.keys_total.unwrap_or(shown.len());
    if total != keys.len() || !shown.iter().zip(&keys).all(|(shown, key)| is_key(shown, key)) {
        return fault("keys");
    }
    Ok(())
}

/// Whether a record's `keys` element shows this key.
fn is_key(shown: &Value, key: &[u8]) -> bool {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let cut = shown["cut"] == true;
    let bytes = match (shown, &shown["text"], &shown["b64"]) {
        (Value::String(text), ..) | (_, Value::String(text), _) => text.clone().into_bytes(),
        (.., Value::String(text)) => STANDARD.decode(text).unwrap_or_default(),
        _ => return false,
    };
    if cut { bytes.len() < key.len() && bytes.len() > 200 && key.starts_with(&bytes) } else { bytes == key }
}

/// What follows from the commands and their outcomes about the connection: its database, its transaction, and so what
/// Redis must have counted.
#[derive(Default)]
struct Model {
    db: u64,
    in_multi: bool,
    /// Queued commands: the name, and the database a SELECT will select.
    queued: Vec<Queued>,
    /// Lines `begin` whose command has not ended: name and database.
    begun: VecDeque<(String, u64)>,
}

struct Queued {
    name: String,
    selects: Option<u64>,
    exists: u64,
}

impl Model {
    fn see(&mut self, line: &Line, words: Option<&[&[u8]]>, ledger: &mut Ledger) -> Result<(), String> {
        let name = line.name();
        if line.event == "begin" {
            ledger.count("begin lines", 1);
            self.begun.push_back((name, line.db));
            return Ok(());
        }
        if line.event == "upstream_command" {
            ledger.count("upstream_command", 1);
            match line.outcome.as_str() {
                "ran" => ledger.due(&name).ran += 1,
                "error" => ledger.due(&name).failed += 1,
                _ => ledger.due(&name).open += 1,
            }
            if line.cmd == "DISCARD" && !line.is_open() {
                ledger.count("EXEC sent as DISCARD", 1);
            }
            return Ok(());
        }
        ledger.count(&format!("outcome: {} ({})", line.outcome, line.verdict), 1);
        if line.db != self.db {
            return Err(format!("the database is {}, not that of {line:?}", self.db));
        }
        let inside = self.in_multi && !(line.verdict == "allow" && line.cmd == "MULTI");
        if !line.is_open() && line.verdict == "allow" && (line.context == "multi") != inside {
            return Err(format!(
                "the context of {line:?}; the transaction is {}open",
                if inside { "" } else { "not " }
            ));
        }
        if line.verdict != "allow" {
            // An EXEC or DISCARD that was denied has ended the transaction nonetheless.
            if line.cmd == "EXEC" && (line.outcome == "aborted" || line.outcome == "denied") {
                self.in_multi = false;
                self.queued.clear();
            }
            return Ok(());
        }
        if let Some(place) = self.begun.iter().position(|(begun, _)| *begun == name) {
            let (_, db) = self.begun.remove(place).unwrap();
            if db != line.db {
                return Err(format!("its line `begin` says database {db}: {line:?}"));
            }
        }
        let word = |at: usize| words.and_then(|words| words.get(at)).copied().unwrap_or_default();
        let number = |at: usize| std::str::from_utf8(word(at)).ok().and_then(|digits| digits.parse().ok());
        let exists =
            if line.cmd == "EVAL" { memchr::memmem::find_iter(word(1), b"'EXISTS'").count() as u64 } else { 0 };
        match line.outcome.as_str() {
            "queued" => {
                let selects = if line.cmd == "SELECT" { number(1) } else { None };
                self.queued.push(Queued { name, selects, exists });
                return Ok(());
            }
            // What was never whole cannot have run.
            "incomplete" => return Ok(()),
            "unanswered" => {
                ledger.due(&name).open += 1;
                if line.context == "multi" && within(&name) != name {
                    ledger.due(within(&name)).open += 1;
                }
                ledger.due("EXISTS").open += exists;
                if line.cmd == "EXEC" {
                    for queued in self.queued.drain(..) {
                        ledger.due(within(&queued.name)).open += 1;
                        ledger.due("EXISTS").open += queued.exists;
                    }
                }
                return Ok(());
            }
            "error" | "aborted" => ledger.due(&name).failed += 1,
            _ => {
                ledger.due(&name).ran += 1;
                ledger.due("EXISTS").ran += exists;
            }
        }
        match (line.cmd.as_str(), line.outcome.as_str()) {
            ("SELECT", "ran") => self.db = number(1).ok_or("a SELECT without a number")?,
            ("MULTI", "ran") => self.in_multi = true,
            ("RESET", "ran") => {
                self.in_multi = false;
                self.queued.clear();
                self.db = 0;
            }
            ("DISCARD", "ran") => {
                self.in_multi = false;
                self.queued.clear();
            }
            // Refused, for its arity on servers before 6.0: the transaction goes on.
            ("EXEC", "error") => {}
            ("EXEC", outcome) => {
                if outcome == "ran" {
                    self.run_queued(line, ledger)?;
                }
                if self.in_multi {
                    ledger.count(&format!("transactions: {outcome}"), 1);
                }
                self.in_multi = false;
                self.queued.clear();
            }
            _ => {}
        }
        Ok(())
    }

    /// EXEC ran: each queued command counts as what its element of the answer says.
    fn run_queued(&mut self, line: &Line, ledger: &mut Ledger) -> Result<(), String> {
        let classes = line.elements.as_deref().unwrap_or_default();
        if line.elements_total != Some(self.queued.len()) || classes.len() != self.queued.len().min(128) {
            return Err(format!("{} commands were queued before {line:?}", self.queued.len()));
        }
        for (index, queued) in self.queued.iter().enumerate() {
            let due = ledger.due(within(&queued.name));
            match classes.get(index).map(String::as_str) {
                Some("error") => due.failed += 1,
                Some(_) => {
                    due.ran += 1;
                    ledger.due("EXISTS").ran += queued.exists;
                    self.db = queued.selects.unwrap_or(self.db);
                }
                // Beyond the classes that a record holds.
                None => {
                    due.open += 1;
                    ledger.due("EXISTS").open += queued.exists;
                }
            }
        }
        ledger.count("commands within transactions that ran", self.queued.len() as u64);
        Ok(())
    }
}

/// The counters of `INFO commandstats`.
pub fn commandstats(text: &str) -> HashMap<String, Counted> {
    let field = |rest: &str, key: &str| -> Option<u64> {
        rest.split(',').find_map(|field| field.strip_prefix(key)).map(|digits| digits.parse().expect("a counter"))
    };
    text.lines()
        .filter_map(|line| line.strip_prefix("cmdstat_")?.trim_end().split_once(':'))
        .map(|(name, rest)| {
            let calls = field(rest, "calls=").expect("calls");
            let counted =
                Counted { calls, rejected: field(rest, "rejected_calls="), failed: field(rest, "failed_calls=") };
            (name.to_owned(), counted)
        })
        .collect()
}
