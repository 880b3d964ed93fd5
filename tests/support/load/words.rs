//! What clients say, as templates. A word in braces is replaced:
//!
//! | template | becomes |
//! |---|---|
//! | `{s} {i} {l} {h} {t} {z} {x} {g} {p}` | a key that usually holds a string, number, list, hash, set, sorted set, stream, places, counts |
//! | `{*}` | any key |
//! | `{v}` | a short value |
//! | `{c}` | a channel |
//!
//! Every key begins with [`KEY`], and no other word does: so the witness knows a command's keys without a parser.

use super::Dice;

/// What keys begin with.
pub const KEY: &str = "k:";

/// Allowed by the default policy; those that fail on old servers, or for want of the right type, are as good as others.
pub const ALLOWED: &[&str] = &[
    "APPEND {s} {v}",
    "BITCOUNT {s}",
    "BITFIELD {s} SET u8 0 255 GET i8 0",
    "BITFIELD_RO {s} GET u8 0",
    "BITOP AND {s} {s} {s}",
    "BITPOS {s} 1",
    "CLIENT GETNAME",
    "CLIENT ID",
    "CLIENT INFO",
    "CLIENT SETNAME me",
    "COMMAND COUNT",
    "COMMAND GETKEYS GET x",
    "COMMAND INFO get",
    "COPY {s} {s}",
    "COPY {s} {s} REPLACE",
    "DBSIZE",
    "DECR {i}",
    "DECRBY {i} 3",
    "DEL {*}",
    "DEL {*} {*} {*}",
    "ECHO hello",
    "EXISTS {*} {*}",
    "EXPIRE {*} 1000",
    "EXPIREAT {*} 4000000000",
    "EXPIRETIME {*}",
    "GEOADD {g} 13.361389 38.115556 a 15.087269 37.502669 b",
    "GEODIST {g} a b",
    "GEOHASH {g} a",
    "GEOPOS {g} a nowhere",
    "GEORADIUS {g} 15 37 200 km",
    "GEORADIUS {g} 15 37 200 km STORE {z}",
    "GEORADIUSBYMEMBER {g} a 200 km",
    "GEORADIUSBYMEMBER_RO {g} a 200 km",
    "GEORADIUS_RO {g} 15 37 200 km",
    "GEOSEARCH {g} FROMMEMBER a BYRADIUS 200 km",
    "GEOSEARCHSTORE {g} {g} FROMMEMBER a BYRADIUS 200 km",
    "GET {*}",
    "GET {s}",
    "GET {s}",
    "GETBIT {s} 7",
    "GETDEL {s}",
    "GETEX {s} EX 100",
    "GETRANGE {s} 0 10",
    "GETSET {s} {v}",
    "HDEL {h} f",
    "HEXISTS {h} f",
    "HGET {h} f",
    "HGETALL {h}",
    "HINCRBY {h} n 2",
    "HINCRBYFLOAT {h} n 0.5",
    "HKEYS {h}",
    "HLEN {h}",
    "HMGET {h} f g",
    "HMSET {h} f {v}",
    "HRANDFIELD {h} 2",
    "HSCAN {h} 0",
    "HSET {h} f {v} g {v}",
    "HSETNX {h} f {v}",
    "HSTRLEN {h} f",
    "HVALS {h}",
    "INCR {i}",
    "INCR {i}",
    "INCRBY {i} 5",
    "INCRBYFLOAT {s} 1.5",
    "INFO server",
    "LINDEX {l} 0",
    "LINSERT {l} BEFORE a b",
    "LLEN {l}",
    "LMOVE {l} {l} LEFT RIGHT",
    "LMPOP 2 {l} {l} LEFT COUNT 2",
    "LOLWUT VERSION 1",
    "LPOP {l}",
    "LPOS {l} a",
    "LPUSH {l} {v} {v}",
    "LPUSHX {l} {v}",
    "LRANGE {l} 0 5",
    "LREM {l} 1 a",
    "LSET {l} 0 {v}",
    "LTRIM {l} 0 20",
    "MGET {s} {*} {s}",
    "MSET {s} {v} {s} {v}",
    "MSETNX {s} {v} {s} {v}",
    "PERSIST {*}",
    "PEXPIRE {*} 100000",
    "PEXPIREAT {*} 4000000000000",
    "PEXPIRETIME {*}",
    "PFADD {p} a b",
    "PFCOUNT {p} {p}",
    "PFMERGE {p} {p}",
    "PING",
    "PING hello",
    "PSETEX {s} 100000 {v}",
    "PTTL {*}",
    "PUBLISH {c} {v}",
    "PUBLISH {c} {v}",
    "PUBSUB CHANNELS",
    "PUBSUB NUMPAT",
    "PUBSUB NUMSUB {c}",
    "RANDOMKEY",
    "RENAME {s} {s}",
    "RENAMENX {s} {s}",
    "RPOP {l} 2",
    "RPOPLPUSH {l} {l}",
    "RPUSH {l} {v} {v}",
    "RPUSHX {l} {v}",
    "SADD {t} a b {v}",
    "SCAN 0 COUNT 5",
    "SCARD {t}",
    "SDIFF {t} {t}",
    "SDIFFSTORE {t} {t} {t}",
    "SET {s} {v}",
    "SET {s} {v}",
    "SET {s} {v} EX 100",
    "SET {s} {v} NX GET",
    "SETBIT {s} 7 1",
    "SETEX {s} 100 {v}",
    "SETNX {s} {v}",
    "SETRANGE {s} 10 {v}",
    "SINTER {t} {t}",
    "SINTERCARD 2 {t} {t}",
    "SINTERSTORE {t} {t} {t}",
    "SISMEMBER {t} a",
    "SMEMBERS {t}",
    "SMISMEMBER {t} a b",
    "SMOVE {t} {t} a",
    "SPOP {t}",
    "SPUBLISH {c} {v}",
    "SRANDMEMBER {t} 2",
    "SREM {t} a",
    "SSCAN {t} 0",
    "STRLEN {s}",
    "SUBSTR {s} 0 3",
    "SUNION {t} {t}",
    "SUNIONSTORE {t} {t} {t}",
    "TIME",
    "TOUCH {*} {*}",
    "TTL {*}",
    "TYPE {*}",
    "UNLINK {*}",
    "UNWATCH",
    "WATCH {s} {*}",
    "XACK {x} group 1-1",
    "XADD {x} MAXLEN 20 * f {v}",
    "XADD {x} 1-1 f {v}",
    "XAUTOCLAIM {x} group me 0 0",
    "XCLAIM {x} group me 0 1-1",
    "XDEL {x} 1-1",
    "XGROUP CREATE {x} group $ MKSTREAM",
    "XGROUP CREATECONSUMER {x} group me",
    "XGROUP DELCONSUMER {x} group me",
    "XINFO GROUPS {x}",
    "XINFO STREAM {x}",
    "XLEN {x}",
    "XPENDING {x} group",
    "XRANGE {x} - + COUNT 3",
    "XREAD COUNT 1 STREAMS {x} {x} 0 0",
    "XREADGROUP GROUP group me COUNT 1 STREAMS {x} >",
    "XREVRANGE {x} + - COUNT 3",
    "XTRIM {x} MAXLEN 10",
    "ZADD {z} 1 a 2 b 3 {v}",
    "ZCARD {z}",
    "ZCOUNT {z} 0 2",
    "ZDIFF 2 {z} {z}",
    "ZDIFFSTORE {z} 2 {z} {z}",
    "ZINCRBY {z} 1.5 a",
    "ZINTER 2 {z} {z}",
    "ZINTERCARD 2 {z} {z}",
    "ZINTERSTORE {z} 2 {z} {z}",
    "ZLEXCOUNT {z} - +",
    "ZMPOP 1 {z} MIN",
    "ZMSCORE {z} a nobody",
    "ZPOPMAX {z}",
    "ZPOPMIN {z}",
    "ZRANDMEMBER {z}",
    "ZRANGE {z} 0 2 WITHSCORES",
    "ZRANGEBYLEX {z} - +",
    "ZRANGEBYSCORE {z} 0 2",
    "ZRANGESTORE {z} {z} 0 2",
    "ZRANK {z} a",
    "ZREM {z} a",
    "ZREMRANGEBYRANK {z} 0 0",
    "ZREMRANGEBYSCORE {z} 3 3",
    "ZREVRANGE {z} 0 2",
    "ZREVRANK {z} a",
    "ZSCAN {z} 0",
    "ZSCORE {z} a",
    "ZUNION 2 {z} {z}",
    "ZUNIONSTORE {z} 2 {z} {z}",
];

/// Refused by Redis before they run, in a transaction when they are queued.
pub const WRONG_ARITY: &[&str] = &["GET", "SET {s}", "LPUSH {l}", "HSET {h} f", "EXPIRE {s}", "INCR {i} 1", "MGET"];

/// They wait for an event, if only for a moment.
pub const BLOCKING: &[&str] = &[
    "BLMOVE {l} {l} LEFT RIGHT 0.01",
    "BLMPOP 0.01 2 {l} {l} LEFT",
    "BLPOP {l} 0.01",
    "BLPOP {l} {l} {*} 0.01",
    "BRPOP {l} 0.01",
    "BRPOPLPUSH {l} {l} 0.01",
    "BZMPOP 0.01 1 {z} MIN",
    "BZPOPMAX {z} 0.01",
    "BZPOPMIN {z} {z} 0.01",
    "WAIT 0 1",
    "XREAD BLOCK 5 STREAMS {x} $",
];

/// For services whose policy leaves scripts open. Each `EXISTS` within runs once.
pub const SCRIPTS: &[&str] = &[
    "EVAL return~1 0",
    "EVAL return~redis.call('EXISTS',KEYS[1]) 1 {s}",
    "EVAL return~{redis.call('EXISTS',KEYS[1]),redis.call('EXISTS',KEYS[2])} 2 {s} {l} {v}",
    "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0",
    "SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db",
    "SCRIPT LOAD return~1",
];

/// What no policy of these tests lets through, whatever the client says before or after it. A name that is one word
/// stands for all its subcommands.
pub const FORBIDDEN: &[&str] = &[
    "ACL",
    "BGREWRITEAOF",
    "BGSAVE",
    "CLIENT|KILL",
    "CLIENT|LIST",
    "CLIENT|NO-EVICT",
    "CLIENT|PAUSE",
    "CLIENT|REPLY",
    "CLIENT|UNBLOCK",
    "CLUSTER",
    "CONFIG",
    "DEBUG",
    "DUMP",
    "FAILOVER",
    "FLUSHALL",
    "FLUSHDB",
    "KEYS",
    "LATENCY",
    "LCS",
    "MEMORY",
    "MIGRATE",
    "MODULE",
    "MONITOR",
    "MOVE",
    "OBJECT",
    "PSYNC",
    "QUIT",
    "REPLCONF",
    "REPLICAOF",
    "RESTORE",
    "SAVE",
    "SHUTDOWN",
    "SLAVEOF",
    "SLOWLOG",
    "SORT",
    "SWAPDB",
    "SYNC",
];

/// Denied, as clients say them.
pub const DENIED: &[&str] = &[
    "ACL WHOAMI",
    "AUTH guess",
    "BGSAVE",
    "CLIENT KILL ID 1",
    "CLIENT LIST",
    "CLIENT PAUSE 1000",
    "CLUSTER INFO",
    "CONFIG GET requirepass",
    "CONFIG SET maxmemory 1",
    "config set maxmemory 1",
    "CONFIG NOSUCH",
    "DEBUG SLEEP 1",
    "DUMP {s}",
    "FLUSHALL",
    "FlushAll ASYNC",
    "FLUSHDB",
    "KEYS *",
    "MEMORY USAGE {s}",
    "MIGRATE 127.0.0.1 1 {s} 0 10",
    "MODULE LIST",
    "MONITOR",
    "MOVE {s} 1",
    "NOSUCH command {v}",
    "OBJECT ENCODING {s}",
    "PSYNC ? -1",
    "REPLICAOF NO ONE",
    "RESTORE {s} 0 {v}",
    "SHUTDOWN NOSAVE",
    "SLOWLOG RESET",
    "SORT {l}",
    "SWAPDB 0 1",
    "SYNC",
    "SELECT 01",
    "SELECT x",
];

/// A template's words.
pub fn fill(template: &str, dice: &mut Dice) -> Vec<Vec<u8>> {
    template.split(' ').map(|word| fill_word(word, dice)).collect()
}

fn fill_word(word: &str, dice: &mut Dice) -> Vec<u8> {
    let kind = match word.as_bytes() {
        [b'{', kind, b'}'] => *kind,
        _ => return word.replace('~', " ").into_bytes(),
    };
    match kind {
        b'v' => value(dice),
        b'c' => channel(dice).into_bytes(),
        b'*' => {
            let kind = dice.pick(b"silhtzxgp");
            key(kind, dice)
        }
        kind => key(kind, dice),
    }
}

fn key(kind: u8, dice: &mut Dice) -> Vec<u8> {
    let mut key = format!("{KEY}{}{}", char::from(kind), dice.roll(20)).into_bytes();
    match dice.roll(60) {
        // Any bytes, and more of them than a record shows.
        0 => key.extend_from_slice(b"\r\n\xff\x00*1\r\n$8\r\nFLUSHALL\r\n"),
        1 => key.extend_from_slice("ключ \"\\".as_bytes()),
        2 => key.resize(300, b'k'),
        _ => {}
    }
    key
}

fn value(dice: &mut Dice) -> Vec<u8> {
    match dice.roll(12) {
        0 => Vec::new(),
        1 => b"\r\n$3\r\nfoo\r\n\0\xff".to_vec(),
        2 => vec![b'v'; usize::try_from(dice.roll(3000)).unwrap()],
        _ => dice.pick(&["a", "b", "c", "17"]).as_bytes().to_vec(),
    }
}

/// One of few.
pub fn channel(dice: &mut Dice) -> String {
    format!("ch{}", dice.roll(4))
}
