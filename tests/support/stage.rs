//! One connection under test and one that watches it, on a Redis of their own.

use super::probes::Probe;
use super::redis::Redis;
use super::wire::{Reply, Wire, encode};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

const SOURCE: &str =
    "#!lua name=lib\nredis.register_function{function_name='f', callback=function() return 1 end, flags={'no-writes'}}";

/// A Redis, a connection under test, and one that watches.
pub struct Stage {
    pub redis: Redis,
    pub watcher: Wire<UnixStream>,
}

impl Stage {
    fn set(lines: &[&str]) -> Self {
        let redis = Redis::with(lines, None);
        let watcher = redis.connect();
        Self { redis, watcher }
    }

    pub fn standalone() -> Self {
        Self::set(&["enable-debug-command yes", "enable-module-command yes"])
    }

    /// The cluster bus has to listen; it gets a free port of the loopback interface.
    pub fn cluster() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self::set(&["cluster-enabled yes", "bind 127.0.0.1", &format!("cluster-port {port}")])
    }

    /// Puts the data every probe starts from in place.
    pub fn furnish(&mut self) {
        for line in [
            "FLUSHALL",
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
        ] {
            let reply = self.watcher.call(&line.split(' ').collect::<Vec<_>>());
            assert_eq!(reply.error(), None, "{line}");
        }
        assert_eq!(self.watcher.call(&["FUNCTION", "LOAD", "REPLACE", SOURCE]).error(), None);
        if self.knows("vadd") {
            assert_eq!(self.watcher.call(&["VADD", "v", "VALUES", "2", "1", "2", "a"]).error(), None);
        }
    }

    /// Whether this server has the command; what the catalog has from later releases, the reference does not.
    pub fn knows(&mut self, full_name: &str) -> bool {
        matches!(self.watcher.call(&["COMMAND", "INFO", full_name]).elements(), [Reply::Array(_)])
    }

    /// A probe's words, with what only the server knows put in.
    pub fn words(&mut self, probe: &Probe) -> Vec<Vec<u8>> {
        let mut ask = |command: &[&str]| match self.watcher.call(command) {
            Reply::Bulk(bytes) => bytes,
            other => panic!("{command:?}: {other:?}"),
        };
        let word = |word: &&str| match *word {
            "{dump}" => ask(&["DUMP", "s"]),
            "{library}" => ask(&["FUNCTION", "DUMP"]),
            "{sha}" => ask(&["SCRIPT", "LOAD", "return(1)"]),
            "{node}" => ask(&["CLUSTER", "MYID"]),
            "{source}" => SOURCE.as_bytes().to_vec(),
            plain => plain.as_bytes().to_vec(),
        };
        probe.words.iter().map(word).collect()
    }

    /// A connection and its id.
    pub fn actor(&self) -> Actor {
        let mut wire = self.redis.connect();
        let id = wire.call(&["CLIENT", "ID"]).integer().to_string();
        Actor { wire, id }
    }

    /// What the server shows of a connection.
    pub fn seen(&mut self, actor: &Actor) -> Seen {
        let line = self.watcher.call(&["CLIENT", "LIST", "ID", &actor.id]).text();
        let fields = line.trim_end().split(' ').filter_map(|field| field.split_once('='));
        Seen(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// Waits until the server shows the connection as blocked.
    pub fn await_blocked(&mut self, actor: &Actor, what: &str) {
        for _ in 0..1000 {
            if self.seen(actor).get("flags").contains('b') {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("{what} does not block");
    }
}

pub struct Actor {
    pub wire: Wire<UnixStream>,
    pub id: String,
}

impl Actor {
    /// Sends a command with a PING behind it; what came before the PING's answer.
    pub fn replies_to<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Vec<Reply> {
        let mut bytes = encode(words);
        bytes.extend(encode(&["PING", "the end"]));
        self.wire.send_raw(&bytes);
        self.replies_until_ping()
    }

    pub fn replies_until_ping(&mut self) -> Vec<Reply> {
        let end = Reply::Bulk(b"the end".to_vec());
        let subscribed_end = Reply::Array(vec![Reply::Bulk(b"pong".to_vec()), end.clone()]);
        let mut replies = Vec::new();
        loop {
            let reply = self.wire.reply();
            if reply == end || reply == subscribed_end {
                return replies;
            }
            replies.push(reply);
        }
    }
}

/// One line of CLIENT LIST.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen(BTreeMap<String, String>);

impl Seen {
    pub fn get(&self, name: &str) -> &str {
        // Valkey says 0 of a client that only watches; what tells is the flag.
        if name == "multi" && !self.0["flags"].contains('x') {
            return "-1";
        }
        self.0.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    /// Everything that belongs to the connection's state.
    pub fn state(&self) -> Vec<&str> {
        ["name", "db", "sub", "psub", "ssub", "multi", "flags", "user", "redir", "resp"]
            .map(|name| self.get(name))
            .into()
    }

    /// What verdicts and the accounting of replies rest on.
    pub fn accounting(&self) -> Vec<&str> {
        ["db", "sub", "psub", "ssub", "multi", "user", "resp"].map(|name| self.get(name)).into()
    }
}
