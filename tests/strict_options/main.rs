//! NUL bytes, signs, leading zeros and blanks in every option and number of every command, and what the server really
//! did: either Ravelin denied the command and nothing ran, or every key the server touched is in the command's record,
//! in the database the record names, the connection is in the state the session takes it to be in, and the reply is the
//! one the server gives without Ravelin.
//!
//! Command lines are those of `support::probes`, and what `COMMAND DOCS` allows to be added to them. The server's own
//! account is [`world`]'s. Some thousands of cases are drawn for the gate; `RAVELIN_STRICT_CASES=all` (or a number) and
//! `RAVELIN_STRICT_SEED` choose others.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]
#![allow(clippy::print_stdout, reason = "the counts are part of the result")]
#![allow(clippy::disallowed_methods, reason = "the environment chooses how long it runs")]

mod grammar;
#[path = "../support/mod.rs"]
mod support;
mod world;

use grammar::{Argument, Class, Line, grammar, lay};
use ravelin::command::{Effect, Entry, catalog};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use support::{
    client::Client,
    probes::probes,
    process::Proxy,
    redis::{Redis, Release, SERVER},
    setup::Setup,
    wire::{Reply, Wire, encode},
};
use world::{LIBRARY, Place, Sight, World, outcome};

type Change = fn(&[u8]) -> Vec<u8>;

/// What is done to a word.
const MUTATIONS: &[(&str, Change)] = &[
    ("as it is", |word| word.to_vec()),
    ("other case", |word| {
        word.iter()
            .enumerate()
            .map(|(at, byte)| if at % 2 == 0 { byte.to_ascii_lowercase() } else { byte.to_ascii_uppercase() })
            .collect()
    }),
    ("NUL and more", |word| [word, b"\0x"].concat()),
    ("NUL", |word| [word, b"\0"].concat()),
    ("NUL before", |word| [b"\0", word].concat()),
    ("plus", |word| [b"+", word].concat()),
    ("zero", |word| match word {
        [b'-', digits @ ..] => [b"-0", digits].concat(),
        _ => [b"0", word].concat(),
    }),
    ("blank before", |word| [b" ", word].concat()),
    ("blank behind", |word| [word, b" "].concat()),
    ("tab before", |word| [b"\t", word].concat()),
    ("line end behind", |word| [word, b"\r\n"].concat()),
    ("hexadecimal", |word| [b"0x", word].concat()),
    ("exponent", |word| [word, b"e0"].concat()),
    ("fraction", |word| [word, b".0"].concat()),
    ("twice", |word| word.to_vec()),
];

/// Lines that replace a probe's (it would wait), or that no probe has. `{empty}` is the empty word.
const LINES: &[&str] = &[
    "blmove l d2 left left 1",
    "blmpop 1 1 l left count 1",
    "blpop l 1",
    "brpop l 1",
    "brpoplpush l d2 1",
    "bzmpop 1 1 z min count 1",
    "bzpopmax z 1",
    "bzpopmin z 1",
    "wait 0 1",
    "waitaof 0 0 1",
    "select 1",
    "select 0",
    "hello 2",
    "hello 3 setname somebody",
    "client reply on",
    "shutdown abort",
    "sort l by nosort get # limit 0 1 asc alpha store d",
    "sort l store d2",
    "sort l limit 0 2 desc store s",
    "georadius geo 15 37 200 km withcoord withdist withhash count 1 any asc",
    "georadius geo 15 37 200 km count 1 asc store d",
    "georadiusbymember geo a 200 km count 1 desc storedist d",
    "migrate 127.0.0.1 1 {empty} 0 100 copy replace auth p keys s u",
    "migrate 127.0.0.1 1 s 1 100 auth2 u p",
    "xread count 1 block 1 streams x 0",
    "xreadgroup group g c count 1 block 1 noack streams x 0",
    "copy s d db 1 replace",
    "copy s other db 1 replace",
    "swapdb 0 1",
    "move u 1",
    "move u 2",
    "client tracking on prefix a prefix b bcast noloop",
    "client tracking on redirect 1",
    "client tracking on optin",
    "client kill type pubsub skipme yes",
    "client kill id 999999999 skipme no",
    "set s v ex 100 get",
    "set d v xx keepttl get",
    "zunionstore d 2 z geo weights 1 2 aggregate max",
    "zinterstore d 2 z geo aggregate sum",
    "zdiffstore d 2 z geo",
    "zunion 2 z geo withscores",
    "zmpop 2 z geo min count 1",
    "lmpop 2 nosuch l left count 1",
    "sintercard 2 t t limit 1",
    "eval return(1) 2 s u x",
    "fcall f 1 s",
    "fcall_ro f 1 s",
    "zadd z nx ch 3 c",
    "zrangestore d z 0 -1 byscore limit 0 1",
    "restore d 0 {dump} replace absttl",
    "geosearchstore d geo fromlonlat 15 37 byradius 200 km asc count 1 any storedist",
    "bitfield s get u8 0 overflow wrap incrby u8 0 1",
    "memory usage s samples 5",
    "object freq s",
    "xadd x nomkstream maxlen ~ 10 limit 5 9-9 f v",
    "xautoclaim x g c 0 0 count 1 justid",
    "lpos l 1 rank 1 count 1 maxlen 0",
    "msetex 1 s v ex 100",
    "config set maxmemory 0 hz 10",
    "debug sleep 0",
];

/// Commands that touch keys which are no words of theirs.
const TOUCHES_MORE: &[(&str, &str)] = &[
    ("debug", "runs words nobody sees"),
    ("flushall", "empties every database"),
    ("flushdb", "empties a database"),
    ("function|restore", "no key; kept here because it may flush"),
    ("randomkey", "looks at the key it chose"),
    ("sort", "BY and GET make keys from patterns"),
    ("sort_ro", "likewise"),
    ("swapdb", "exchanges two databases whole"),
];

/// Commands whose reply names what differs between two servers or two connections.
const REPLIES_DIFFER: &[(&str, &str)] = &[
    ("bgrewriteaof", "depends on what runs in the background"),
    ("bgsave", "likewise"),
    ("save", "likewise"),
    ("migrate", "a socket to nowhere is refused now and cached later"),
];

struct Case {
    entry: &'static Entry,
    class: Class,
    mutation: usize,
    words: Vec<Vec<u8>>,
}

/// What was seen of a case; judged once its record is there.
struct Seen {
    case: Case,
    connection: usize,
    /// Which of its connection's commands it was.
    nth: usize,
    reply: Option<Reply>,
    touched: BTreeSet<Place>,
    ran: i64,
    before: BTreeMap<String, String>,
    after: BTreeMap<String, String>,
    /// What the other server said to the same, and whether it was asked.
    direct: Option<Option<Reply>>,
}

fn entry_of(words: &[Vec<u8>]) -> &'static Entry {
    let text = |at: usize| String::from_utf8_lossy(&words[at]).into_owned();
    let id = catalog::by_full_name(&text(0)).unwrap_or_else(|| panic!("{} is no command", text(0)));
    match words.get(1) {
        Some(_) if id.entry().container => {
            catalog::by_full_name(&format!("{}|{}", text(0), text(1))).unwrap_or_else(|| panic!("{words:?}")).entry()
        }
        _ => id.entry(),
    }
}

/// The `redis-server` of the path for as long as its grammar is asked for: an old server under test has none.
struct Reference {
    child: Child,
    _dir: tempfile::TempDir,
}

impl Drop for Reference {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn reference() -> (Reference, Wire<UnixStream>) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("redis.sock");
    let child = Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--unixsocket"])
        .arg(&socket)
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("redis-server cannot be started ({error}): install it"));
    let reference = Reference { child, _dir: dir };
    for _ in 0..1000 {
        if let Ok(stream) = UnixStream::connect(&socket) {
            return (reference, Wire::over_unix(stream));
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("redis-server does not listen");
}

/// What the reference knows of arguments, and what the server under test knows besides.
fn grammars(server: &Redis) -> BTreeMap<String, Vec<Argument>> {
    let names: Vec<&str> = catalog::iter().map(|(_, row)| row.full_name).collect();
    let mut all = BTreeMap::new();
    if std::env::var_os(SERVER).is_some() {
        let (_running, mut wire) = reference();
        all.extend(grammar(&mut wire, &names));
    }
    if Release::of_server().since(7, 0) {
        all.extend(grammar(&mut server.connect(), &names));
    }
    assert!(all.len() > 300, "{} commands have a grammar", all.len());
    all
}

/// Every case there is, in a fixed order.
fn cases(world: &mut World) -> Vec<Case> {
    let grammars = grammars(&world.redis);
    let replaced: BTreeSet<&str> = LINES
        .iter()
        .map(|line| line.split(' ').next().unwrap())
        .filter(|name| name.starts_with('b') || name.starts_with("wait"))
        .collect();
    let mut lines: Vec<Vec<&str>> = probes()
        .into_iter()
        .filter(|probe| !(replaced.contains(probe.words[0]) && probe.words[0] != "bitfield"))
        .map(|probe| probe.words)
        .collect();
    lines.extend(LINES.iter().map(|line| line.split(' ').collect()));
    let dump = match world.watcher.call(&["DUMP", "s"]) {
        Reply::Bulk(bytes) => bytes,
        other => panic!("{other:?}"),
    };
    let sha = world.watcher.call(&["SCRIPT", "LOAD", "return(1)"]).text();
    let library = match world.watcher.call(&["FUNCTION", "DUMP"]) {
        Reply::Bulk(bytes) => bytes,
        _ => b"none".to_vec(),
    };
    let mut laid: BTreeMap<Line, &'static Entry> = BTreeMap::new();
    let mut unfit = Vec::new();
    for line in lines {
        let words: Vec<Vec<u8>> = line
            .iter()
            .map(|word| match *word {
                "{dump}" => dump.clone(),
                "{library}" => library.clone(),
                "{sha}" => sha.clone().into_bytes(),
                "{node}" => vec![b'a'; 40],
                "{source}" => LIBRARY.as_bytes().to_vec(),
                "{empty}" => Vec::new(),
                plain => plain.as_bytes().to_vec(),
            })
            .collect();
        let entry = entry_of(&words);
        if matches!(entry.effect, Effect::Unsupported | Effect::AccessControl | Effect::OwnAccess(_)) {
            continue;
        }
        let names = if entry.sub.is_some() { 2 } else { 1 };
        let nothing = Vec::new();
        let found = lay(&words, names, grammars.get(entry.full_name).unwrap_or(&nothing));
        if !found.fits {
            unfit.push(line.join(" "));
        }
        for line in found.variants.into_iter().chain([found.line]) {
            laid.insert(line, entry);
        }
    }
    println!("{} command lines; the grammar does not take {} of them whole: {unfit:?}", laid.len(), unfit.len());
    let mut cases = Vec::new();
    let mut known = BTreeSet::new();
    for (line, entry) in laid {
        let plain: Vec<Vec<u8>> = line.iter().map(|(word, _)| word.clone()).collect();
        for (at, (word, class)) in line.iter().enumerate().filter(|(_, (_, class))| *class != Class::Text) {
            for (mutation, (name, change)) in MUTATIONS.iter().enumerate() {
                let mut words = plain.clone();
                words[at] = change(word);
                match (*name, class) {
                    ("twice", Class::Token) => words.extend_from_slice(&plain[at..(at + 2).min(plain.len())]),
                    ("twice", _) => continue,
                    ("hexadecimal" | "exponent" | "fraction", Class::Token | Class::Name) => continue,
                    ("other case", Class::Number) => continue,
                    // It is kept by the proxy: no reply at all is the right one.
                    _ if plain.len() > 2 && entry.full_name == "client|reply" && *name == "twice" => continue,
                    _ => {}
                }
                if known.insert(words.clone()) {
                    cases.push(Case { entry, class: *class, mutation, words });
                }
            }
        }
    }
    cases
}

/// A small generator: the cases of a run are told by its seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }
}

/// The client under test, and the connection Ravelin keeps for it.
struct Through {
    client: Client,
    id: String,
    /// Number of the connection, and of its next command.
    connection: usize,
    next: usize,
}

impl Through {
    fn open(proxy: &Proxy, world: &mut World, connection: usize) -> Self {
        let mut client = proxy.client();
        let local = client.stream().sock.local_addr().unwrap();
        let id = world.look().id_of(&format!("ravelin:app@{local}")).expect("the upstream connection has its name");
        // `client` has said PING already.
        Self { client, id, connection, next: 1 }
    }

    /// Sends `words` and a marker behind them: what came before the marker's answer.
    fn say(&mut self, words: &[Vec<u8>]) -> Option<Reply> {
        let marker = format!("marker {}", self.next);
        self.client.send_raw(&[encode(words), encode(&["ECHO", &marker])].concat());
        self.next += 2;
        until(&mut self.client, &marker, words)
    }
}

fn until<S: std::io::Read + std::io::Write>(wire: &mut Wire<S>, marker: &str, words: &[Vec<u8>]) -> Option<Reply> {
    let mut found = None;
    loop {
        match wire.try_reply() {
            None => panic!("closed by {}", shown(words)),
            Some(Reply::Bulk(bytes)) if bytes == marker.as_bytes() => return found,
            Some(Reply::Push(_)) => {}
            Some(reply) => assert!(found.replace(reply).is_none(), "more than one reply to {}", shown(words)),
        }
    }
}

fn shown(words: &[Vec<u8>]) -> String {
    words.iter().map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
}

#[test]
fn no_word_is_read_in_one_way_here_and_in_another_there() {
    let mut world = World::start();
    let mut twin = World::start();
    let setup = Setup { more: "[policy]\ndeny = []", ..Setup::before(&world.redis) };
    let proxy = Proxy::with(&setup);
    let mut cases = cases(&mut world);
    let total = cases.len();

    let seed = std::env::var("RAVELIN_STRICT_SEED").map_or(20_261_121, |seed| seed.parse().expect("a number"));
    let wanted = match std::env::var("RAVELIN_STRICT_CASES").as_deref() {
        Ok("all") => total,
        Ok(number) => number.parse().expect("`all` or a number"),
        Err(_) => 6000,
    };
    let mut dice = Dice(seed);
    for at in (1..cases.len()).rev() {
        cases.swap(at, dice.below(at + 1));
    }
    cases.truncate(wanted);
    // Connections are costly: what changes them comes last.
    cases.sort_by_key(|case| !matches!(case.entry.effect, Effect::Plain));
    println!("seed {seed}: {} of {total} cases", cases.len());

    let mut through = Through::open(&proxy, &mut world, 0);
    let mut direct = twin.redis.connect();
    let fresh_state = |world: &mut World, through: &Through| world.look().state_of(&through.id);
    let mut fresh = fresh_state(&mut world, &through);
    let mut seen = Vec::new();
    let mut before: Sight = world.look();
    for case in cases {
        let state_before = before.state_of(&through.id);
        let nth = through.next;
        let reply = through.say(&case.words);
        if ["bgsave", "bgrewriteaof"].contains(&case.entry.full_name) {
            world.await_childless();
        }
        let after = world.look();
        let state_after = after.state_of(&through.id);
        let touched = before.touched(&after);
        let ran = world.ran(&before, &after) - 1;
        let denied = ran == 0 && reply.as_ref().is_some_and(|reply| reply.error().is_some());
        // A command that nobody ran leaves the other server as it is too.
        let answer = (!denied).then(|| {
            direct.send_raw(&[encode(&case.words), encode(&["ECHO", "marker"])].concat());
            until(&mut direct, "marker", &case.words)
        });
        let changes = ran > 0 && (!touched.is_empty() || !matches!(case.entry.effect, Effect::Plain));
        let moved = state_after != fresh;
        seen.push(Seen {
            connection: through.connection,
            nth,
            reply,
            touched,
            ran,
            before: state_before,
            after: state_after,
            direct: answer,
            case,
        });
        before = after;
        if moved {
            let connection = through.connection + 1;
            drop(through);
            through = Through::open(&proxy, &mut world, connection);
            direct = twin.redis.connect();
            fresh = fresh_state(&mut world, &through);
        }
        if changes || moved {
            world.furnish();
            twin.furnish();
            before = world.look();
        }
    }
    let mut commands = vec![0; through.connection + 1];
    for seen in &seen {
        // The marker's record behind its own.
        commands[seen.connection] = seen.nth + 2;
    }
    judge(&seen, &records(&proxy, &commands), wanted >= 6000);
}

/// The command records of each connection, in the order the connections were opened, once there are so many of each.
fn records(proxy: &Proxy, commands: &[usize]) -> Vec<Vec<Value>> {
    proxy.await_that("all records", |proxy| {
        let audit = proxy.audit();
        let mut order: Vec<&Value> = audit.iter().filter(|record| record["event"] == "connection_open").collect();
        if order.len() < commands.len() {
            return None;
        }
        order.sort_by_key(|record| record["ts"].as_str().unwrap().to_owned());
        let place: BTreeMap<&str, usize> =
            order.iter().enumerate().map(|(at, record)| (record["conn"].as_str().unwrap(), at)).collect();
        let mut all = vec![Vec::new(); commands.len()];
        for record in audit.iter().filter(|record| record["event"] == "command") {
            all[place[record["conn"].as_str().unwrap()]].push(record.clone());
        }
        all.iter().zip(commands).all(|(there, wanted)| there.len() >= *wanted).then_some(all)
    })
}

#[derive(Default)]
struct Count {
    cases: usize,
    denied: usize,
    failed: usize,
    ran: usize,
    touching: usize,
}

fn judge(all: &[Seen], records: &[Vec<Value>], floors: bool) {
    let mut faults = Vec::new();
    let mut by_mutation: BTreeMap<(&str, Class), Count> = BTreeMap::new();
    let mut by_command: BTreeMap<&str, Count> = BTreeMap::new();
    for (index, seen) in all.iter().enumerate() {
        let record = &records[seen.connection][seen.nth];
        if let Err(fault) = check(seen, record, records[seen.connection].get(seen.nth + 1)) {
            let before = index.checked_sub(1).map(|before: usize| shown(&all[before].case.words)).unwrap_or_default();
            faults.push(format!("{}: {fault}\n    {record}\n    behind {before}", shown(&seen.case.words)));
        }
        for count in [
            by_mutation.entry((MUTATIONS[seen.case.mutation].0, seen.case.class)).or_default(),
            by_command.entry(seen.case.entry.full_name).or_default(),
        ] {
            count.cases += 1;
            count.denied += usize::from(record["verdict"] == "deny");
            count.failed += usize::from(record["verdict"] == "allow" && record["outcome"] == "error");
            count.ran += usize::from(record["outcome"] == "ran");
            count.touching += usize::from(!seen.touched.is_empty());
        }
    }
    println!("{:<34} {:>6} {:>6} {:>6} {:>6} {:>6}", "", "cases", "denied", "failed", "ran", "touch");
    let by_mutation = by_mutation.into_iter().map(|((name, class), count)| (format!("{name}, {class:?}"), count));
    let by_command_lines = by_command.iter().map(|(name, count)| ((*name).to_owned(), count));
    let mut total = Count::default();
    let print = |name: &str, count: &Count| {
        let Count { cases, denied, failed, ran, touching } = count;
        println!("{name:<34} {cases:>6} {denied:>6} {failed:>6} {ran:>6} {touching:>6}");
    };
    let by_mutation: Vec<(String, Count)> = by_mutation.collect();
    for (name, count) in &by_mutation {
        print(name, count);
        total.cases += count.cases;
        total.denied += count.denied;
        total.failed += count.failed;
        total.ran += count.ran;
        total.touching += count.touching;
    }
    print("all", &total);
    println!();
    for (name, count) in by_command_lines {
        print(&name, count);
    }
    println!("{} commands", by_command.len());
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), all.len(), faults.join("\n"));
    if floors {
        for (name, count) in &by_mutation {
            assert!(count.cases >= 30, "{name}: only {} cases", count.cases);
        }
        // A Redis before 4 does not show what it reads, and knows fewer commands.
        let touching = if Release::of_server().since(4, 0) { 1000 } else { 80 };
        assert!(total.denied >= 2000 && total.failed >= 1000 && total.ran >= 250 && total.touching >= touching);
        assert!(by_command.len() >= 350, "{} commands", by_command.len());
    }
}

/// Whether what was seen is what the record says.
fn check(seen: &Seen, record: &Value, marker: Option<&Value>) -> Result<(), String> {
    let name = seen.case.entry.full_name;
    let is = |list: &[(&str, &str)]| list.iter().any(|(listed, _)| *listed == name);
    let ensure = |holds: bool, fault: &str| {
        if holds {
            Ok(())
        } else {
            Err(format!(
                "{fault}; {:?}",
                (&seen.reply, &seen.direct, &seen.touched, seen.ran, &seen.before, &seen.after)
            ))
        }
    };
    let marker = marker.ok_or("no record of the marker")?;
    ensure(marker["cmd"] == "ECHO", "the marker's record is not where it should be")?;
    let db = |record: &Value| record["db"].as_i64().map(|db| db.to_string()).unwrap_or_default();
    let shown_db = |state: &BTreeMap<String, String>| state.get("db").cloned().unwrap_or_default();
    ensure(db(marker) == shown_db(&seen.after), "the session's database is not the connection's")?;
    ensure(db(record) == shown_db(&seen.before), "the record's database is not the one it ran in")?;

    if record["verdict"] == "deny" {
        ensure(seen.ran == 0, "denied, and something ran")?;
        ensure(seen.touched.is_empty(), "denied, and a key was touched")?;
        ensure(seen.before == seen.after, "denied, and the connection changed")?;
        ensure(seen.reply.as_ref().is_some_and(|reply| reply.error().is_some()), "denied without an error")?;
        // What is written as every server reads it is denied by nothing but policy, and policy denies nothing here.
        let plain = ["as it is", "other case"].contains(&MUTATIONS[seen.case.mutation].0)
            && record["rule"] != "builtin/authentication";
        let destinations =
            seen.case.words.iter().filter(|word| word.to_ascii_uppercase().starts_with(b"STORE")).count();
        return ensure(!plain || destinations > 1, "denied although nothing is wrong with it");
    }
    if record["verdict"] == "answer" {
        return ensure(seen.ran == 0 && seen.before == seen.after, "answered here, and something ran");
    }
    if name == "hello"
        && seen.reply.as_ref().is_some_and(|reply| reply.error().is_none())
        && let (Some(asked), Some(shown)) = (seen.case.words.get(1), seen.after.get("resp"))
    {
        ensure(asked == shown.as_bytes(), "the protocol is another one than the session's")?;
    }
    if !is(REPLIES_DIFFER)
        && let Some(direct) = &seen.direct
    {
        let (ours, theirs) = (seen.reply.as_ref().and_then(outcome), direct.as_ref().and_then(outcome));
        ensure(ours == theirs, "the reply is not the server's own")?;
    }
    if !is(TOUCHES_MORE) {
        let keys: Option<Vec<&str>> =
            record["keys"].as_array().map(|keys| keys.iter().map(|key| key.as_str().unwrap_or_default()).collect());
        for (db, key) in &seen.touched {
            let Some(keys) = &keys else { return ensure(false, "keys unknown, and one was touched") };
            // A database nobody had used is known by its number only.
            let elsewhere = ["copy", "move"].contains(&name)
                && seen.case.words.iter().any(|word| *word == db.to_string().into_bytes());
            ensure(*db == record["db"].as_i64().unwrap_or(-1) || elsewhere, "a key of another database was touched")?;
            ensure(
                keys.contains(&key.as_str()) || (key == "?" && elsewhere),
                "a key was touched that is not recorded",
            )?;
        }
    }
    let changes =
        !matches!(seen.case.entry.effect, Effect::Plain | Effect::Script | Effect::Blocking | Effect::BlockingOption);
    ensure(changes || seen.before == seen.after, "the connection changed by a command that changes nothing")
}
