//! A server whose every touch is seen: each key read or written since the last look, in each database.
//!
//! From Redis 4 on the counter of the LFU policy tells, made exact (`lfu-log-factor 0` counts every access, decay is
//! off); before that what DUMP says of a key, which shows writes only.

use super::support::redis::{Redis, Release};
use super::support::wire::{Reply, Wire, encode};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::net::UnixStream;

/// Keys of database 0, and of database 1.
const KEYS: [&[&str]; 2] = [&["s", "u", "l", "t", "z", "h", "x", "p", "geo", "v", "d"], &["s", "other"]];

const FURNITURE: &[&str] = &[
    "FLUSHALL",
    "SELECT 1",
    "SET s one",
    "SET other one",
    "SELECT 0",
    // Not one of the small numbers of which all keys share one object, and with it the counter.
    "SET s 10010",
    "SET u abc",
    "SET d 50005",
    "RPUSH l 1 2 3",
    "SADD t 1 2",
    "ZADD z 1 a 2 b",
    "HSET h f 1",
    "XADD x 1-1 f v",
    "XGROUP CREATE x g 0",
    "XREADGROUP GROUP g c COUNT 1 STREAMS x >",
    "PFADD p a",
    "GEOADD geo 13 38 a 15 37 b",
    "VADD v VALUES 2 1 2 a",
    "SCRIPT LOAD return(1)",
    "CONFIG SET maxmemory 0",
    // So that a key that is made anew does not look like one that was never touched.
    "TOUCH s u l t z h x p geo v d",
    "TOUCH s u l t z h x p geo v d",
    "TOUCH s u l t z h x p geo v d",
];

pub(crate) const LIBRARY: &str =
    "#!lua name=lib\nredis.register_function{function_name='f', callback=function() return 1 end, flags={'no-writes'}}";

pub(crate) struct World {
    pub(crate) redis: Redis,
    pub(crate) watcher: Wire<UnixStream>,
    counts_accesses: bool,
    /// Commands of one look.
    own: i64,
    /// Further commands of its own since the last look.
    extra: i64,
}

/// A key where it is.
pub(crate) type Place = (i64, String);

/// What a look saw.
pub(crate) struct Sight {
    keys: BTreeMap<Place, String>,
    /// Commands the server has run.
    commands: i64,
    clients: String,
}

impl World {
    pub(crate) fn start() -> Self {
        let redis = Redis::with(&["enable-debug-command yes", "enable-module-command yes"], None);
        let mut watcher = redis.connect();
        for line in ["maxmemory-policy allkeys-lfu", "lfu-log-factor 0", "lfu-decay-time 0"] {
            // A Redis before 4 has none of it.
            let words: Vec<&str> = ["CONFIG", "SET"].into_iter().chain(line.split(' ')).collect();
            watcher.call(&words);
        }
        watcher.call(&["SET", "s", "1"]).expect_ok();
        let counts_accesses = watcher.call(&["OBJECT", "FREQ", "s"]).error().is_none();
        assert_eq!(counts_accesses, Release::of_server().since(4, 0));
        let mut world = Self { redis, watcher, counts_accesses, own: 0, extra: 0 };
        world.furnish();
        let first = world.look().commands;
        world.own = world.look().commands - first;
        world
    }

    /// Puts the data every case starts from in place.
    pub(crate) fn furnish(&mut self) {
        let mut bytes: Vec<u8> =
            FURNITURE.iter().flat_map(|line| encode(&line.split(' ').collect::<Vec<_>>())).collect();
        bytes.extend(encode(&["FUNCTION", "LOAD", "REPLACE", LIBRARY]));
        self.watcher.send_raw(&bytes);
        for line in FURNITURE {
            let reply = self.watcher.reply();
            let unknown = reply.error().is_some_and(|text| text.starts_with("ERR unknown command"));
            assert!(reply.error().is_none() || unknown, "{line}: {reply:?}");
        }
        self.watcher.reply();
    }

    pub(crate) fn look(&mut self) -> Sight {
        let how: &[&str] = if self.counts_accesses { &["OBJECT", "FREQ"] } else { &["DUMP"] };
        let mut bytes = encode(&["INFO", "stats"]);
        bytes.extend(encode(&["INFO", "keyspace"]));
        bytes.extend(encode(&["CLIENT", "LIST"]));
        for (db, keys) in (0..).zip(KEYS) {
            let db: i64 = db;
            bytes.extend(encode(&["SELECT", &db.to_string()]));
            bytes.extend(encode(&["KEYS", "*"]));
            for key in keys {
                bytes.extend(encode(&[how, &[key]].concat()));
            }
        }
        self.watcher.send_raw(&bytes);
        let stats = self.watcher.reply().text();
        let keyspace = self.watcher.reply().text();
        let clients = self.watcher.reply().text();
        let mut keys = BTreeMap::new();
        for (db, names) in (0..).zip(KEYS) {
            self.watcher.reply().expect_ok();
            for key in self.watcher.reply().elements() {
                keys.insert((db, key.text()), String::new());
            }
            for name in names {
                let seen = self.watcher.reply();
                if let Some(entry) = keys.get_mut(&(db, (*name).to_owned())) {
                    *entry = format!("{seen:?}");
                }
            }
        }
        for line in keyspace.lines().filter_map(|line| line.strip_prefix("db")) {
            let (db, count) = line.split_once(':').unwrap();
            let db: i64 = db.parse().unwrap();
            if db > 1 {
                // Nothing is there to begin with: whatever it is called, it has been written.
                keys.insert((db, "?".to_owned()), count.to_owned());
            }
        }
        let commands = stats.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        Sight { keys, commands: commands.unwrap().trim().parse().unwrap(), clients }
    }

    /// Waits for the end of what runs in the background: accesses are not counted until then.
    pub(crate) fn await_childless(&mut self) {
        for _ in 0..2000 {
            let persistence = self.watcher.call(&["INFO", "persistence"]).text();
            self.extra += 1;
            if ["rdb_bgsave_in_progress:0", "aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0"]
                .iter()
                .all(|line| persistence.contains(line))
            {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("a background job does not end");
    }

    /// Commands the server has run between two looks, besides those of the looking itself.
    pub(crate) fn ran(&mut self, before: &Sight, after: &Sight) -> i64 {
        after.commands - before.commands - self.own - std::mem::take(&mut self.extra)
    }
}

impl Sight {
    /// Keys that were read, written, made or removed since.
    pub(crate) fn touched(&self, after: &Self) -> BTreeSet<Place> {
        let all: BTreeSet<&Place> = self.keys.keys().chain(after.keys.keys()).collect();
        all.into_iter().filter(|place| self.keys.get(*place) != after.keys.get(*place)).cloned().collect()
    }

    /// The line of CLIENT LIST that holds `mark`.
    fn client(&self, mark: &str) -> Option<BTreeMap<&str, &str>> {
        let line = self.clients.lines().find(|line| line.split(' ').any(|field| field == mark))?;
        Some(line.split(' ').filter_map(|field| field.split_once('=')).collect())
    }

    /// The id of the connection that is called so.
    pub(crate) fn id_of(&self, name: &str) -> Option<String> {
        Some(self.client(&format!("name={name}"))?["id"].to_owned())
    }

    /// What belongs to the state of a connection, as far as this server shows it.
    pub(crate) fn state_of(&self, id: &str) -> BTreeMap<String, String> {
        let Some(fields) = self.client(&format!("id={id}")) else { return BTreeMap::new() };
        ["name", "db", "sub", "psub", "ssub", "flags", "user", "redir", "resp", "lib-name"]
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), (*fields.get(name)?).to_owned())))
            .collect()
    }
}

/// How a reply is compared with the one another connection got: errors by their text, the rest by being none.
pub(crate) fn outcome(reply: &Reply) -> Option<&str> {
    reply.error()
}
