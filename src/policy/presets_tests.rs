//! Every row of the catalog is denied by `hardened`, or somebody decided that it is not: a row nobody decided on fails.

use super::*;
use crate::command::catalog;
use crate::policy::Verdict;
use crate::policy::rules::Policy;

/// What `hardened` leaves open, by reason. Containers alone are errors of arity and stand with their subcommands.
const ALLOWED: &[(&str, &str)] = &[
    (
        "one key or a few, by name: what a data store is for",
        "append bitcount bitfield bitfield_ro bitop bitpos copy decr decrby del exists expire expireat expiretime geoadd \
         geodist geohash geopos georadius georadius_ro georadiusbymember georadiusbymember_ro geosearch geosearchstore \
         get getbit getdel getex getrange getset hdel hexists hget hgetall hincrby hincrbyfloat hkeys hlen hmget hmset \
         hrandfield hscan hset hsetnx hstrlen hvals incr incrby incrbyfloat lindex linsert llen lmove lmpop lpop lpos \
         lpush lpushx lrange lrem lset ltrim mget mset msetnx persist pexpire pexpireat pexpiretime pfadd pfcount \
         pfmerge psetex pttl rename renamenx rpop rpoplpush rpush rpushx sadd scard sdiff sdiffstore set setbit setex \
         setnx setrange sinter sintercard sinterstore sismember smembers smismember smove spop srandmember srem sscan \
         strlen substr sunion sunionstore touch ttl type unlink zadd zcard zcount zdiff zdiffstore zincrby zinter \
         zintercard zinterstore zlexcount zmpop zmscore zpopmax zpopmin zrandmember zrange zrangebylex zrangebyscore \
         zrangestore zrank zrem zremrangebylex zremrangebyrank zremrangebyscore zrevrange zrevrangebylex \
         zrevrangebyscore zrevrank zscan zscore zunion zunionstore",
    ),
    (
        "the same, of releases after 7.0",
        "delex delifeq digest hexpire hexpireat hexpiretime hgetdel hgetex hpersist hpexpire hpexpireat hpexpiretime \
         hpttl hsetex httl msetex vadd vcard vdim vemb vgetattr vinfo vismember vlinks vrandmember vrange vrem vsetattr \
         vsim",
    ),
    (
        "streams and their groups, which queues are built of",
        "xack xadd xautoclaim xclaim xdel xgroup xgroup|create xgroup|createconsumer xgroup|delconsumer xgroup|destroy \
         xgroup|help xgroup|setid xinfo xinfo|consumers xinfo|groups xinfo|help xinfo|stream xlen xpending xrange xread \
         xreadgroup xrevrange xsetid xtrim xackdel xcfgset xdelex",
    ),
    (
        "blocking pops, which queues wait on; they hold their own connection only",
        "blmove blmpop blpop brpop brpoplpush bzmpop bzpopmax bzpopmin",
    ),
    ("holds its own connection only; its answer is how a writer learns of durability", "wait waitaof"),
    (
        "messages between applications; the socket.io adapter counts subscribers by PUBSUB",
        "publish spublish subscribe psubscribe ssubscribe unsubscribe punsubscribe sunsubscribe pubsub pubsub|channels \
         pubsub|help pubsub|numpat pubsub|numsub pubsub|shardchannels pubsub|shardnumsub",
    ),
    ("transactions", "multi exec discard watch unwatch"),
    ("the polite ways through the keys, and their number", "scan clusterscan randomkey dbsize"),
    ("ioredis and BullMQ read it before anything else", "info"),
    (
        "client libraries and redis-cli ask for it on connecting; it tells of Redis, not of this one's data",
        "command command|count command|docs command|getkeys command|getkeysandflags command|help command|info command|list",
    ),
    (
        "the client's own connection",
        "client client|caching client|capa client|getname client|getredir client|help client|id client|info \
         client|no-touch client|setinfo client|setname client|trackinginfo echo ping select readonly readwrite asking",
    ),
    ("kept or answered by the proxy, which owns what they change", "auth hello reset quit client|reply"),
    ("tells nothing of data or server", "time lolwut"),
];

#[test]
fn every_row_is_denied_by_hardened_or_consciously_allowed() {
    let policy = Policy::compile(&["preset:hardened"]).unwrap();
    let allowed: Vec<&str> = ALLOWED.iter().flat_map(|(_, names)| names.split_whitespace()).collect();
    for (id, row) in catalog::iter() {
        let times = allowed.iter().filter(|name| **name == row.full_name).count();
        match policy.judge(id) {
            Verdict::Allow => assert_eq!(times, 1, "{} is open, and nobody wrote down why", row.full_name),
            Verdict::Shadow(_) => panic!("{} is only tried out", row.full_name),
            Verdict::Deny(_) => assert_eq!(times, 0, "{} is denied, and listed as open", row.full_name),
        }
    }
    for name in allowed {
        assert!(catalog::by_full_name(name).is_some(), "{name} is no command");
    }
}

#[test]
fn hardened_names_the_reason_in_its_rules() {
    let policy = Policy::compile(&["PRESET:Hardened"]).unwrap();
    for (command, rule) in [
        ("config|get", "preset:hardened/configuration"),
        ("slaveof", "preset:hardened/replication"),
        ("eval", "preset:hardened/scripting"),
        ("script|debug", "preset:hardened/scripting"),
        ("module|load", "preset:hardened/code-loading"),
        ("flushall", "preset:hardened/destruction"),
        ("keys", "preset:hardened/availability"),
        ("debug", "preset:hardened/server-control"),
        ("acl|whoami", "preset:hardened/access-control"),
    ] {
        let Verdict::Deny(id) = policy.judge(catalog::by_full_name(command).unwrap()) else { panic!("{command}") };
        assert_eq!(policy.rule_name(id), rule, "{command}");
    }
}

/// The first command of each known attack on an open Redis, in the words of the families' write-ups.
#[test]
fn hardened_stops_the_first_step_of_every_known_attack() {
    let policy = Policy::compile(&["preset:hardened"]).unwrap();
    for (attack, first_step) in [
        ("rogue master", "slaveof"),
        ("rogue master, newer name", "replicaof"),
        ("HeadCrab", "module|load"),
        ("P2PInfect, RediShell", "eval"),
        ("SkidMap, RedisRaider, Migo", "config|set"),
        ("file write", "bgsave"),
        ("exfiltration", "psync"),
        ("exfiltration of a key space", "migrate"),
        ("crafted payloads", "restore"),
        ("crafted libraries", "function|restore"),
        ("password reading", "config|get"),
        ("reading of others' commands", "monitor"),
        ("reading of others' commands", "slowlog|get"),
    ] {
        assert_ne!(policy.judge(catalog::by_full_name(first_step).unwrap()), Verdict::Allow, "{attack}");
    }
}

#[test]
fn every_dangerous_command_left_open_is_left_open_by_name() {
    const OPEN: &[&str] = &["info"];
    let policy = Policy::compile(&["preset:hardened"]).unwrap();
    for (id, row) in catalog::iter().filter(|(_, row)| row.categories.names().any(|name| name == "dangerous")) {
        assert_eq!(policy.judge(id) == Verdict::Allow, OPEN.contains(&row.full_name), "{}", row.full_name);
    }
}

#[test]
fn presets_and_their_groups_have_reasons_and_names_of_their_own() {
    for preset in PRESETS {
        assert!(by_name(&preset.name.to_ascii_uppercase()).is_some());
        for (at, group) in preset.groups.iter().enumerate() {
            assert!(!group.why.is_empty() && !group.deny.is_empty(), "{}", group.name);
            assert!(preset.groups[..at].iter().all(|other| other.name != group.name), "{}", group.name);
        }
        assert!(Policy::compile(&[&format!("preset:{}", preset.name)]).is_ok());
    }
}
