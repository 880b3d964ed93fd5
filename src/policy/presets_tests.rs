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
    (
        "answered by the proxy from the role: nothing of Redis' users is told",
        "acl acl|cat acl|dryrun acl|getuser acl|whoami",
    ),
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
        ("acl|list", "preset:hardened/access-control"),
    ] {
        let Verdict::Deny(denial) = policy.judge(catalog::by_full_name(command).unwrap()) else { panic!("{command}") };
        assert_eq!(policy.rule_name(denial.rule), rule, "{command}");
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
    // The two of ACL are answered by the proxy.
    const OPEN: &[&str] = &["acl|dryrun", "acl|getuser", "info"];
    let policy = Policy::compile(&["preset:hardened"]).unwrap();
    for (id, row) in catalog::iter().filter(|(_, row)| row.categories.names().any(|name| name == "dangerous")) {
        assert_eq!(policy.judge(id) == Verdict::Allow, OPEN.contains(&row.full_name), "{}", row.full_name);
    }
}

#[test]
fn presets_and_their_groups_have_reasons_and_names_of_their_own() {
    for (at, preset) in PRESETS.iter().enumerate() {
        assert!(by_name(&preset.name.to_ascii_uppercase()).is_some());
        assert!(PRESETS[..at].iter().all(|other| other.name != preset.name), "{}", preset.name);
        assert!(!preset.about.is_empty() && (!preset.deny.is_empty() || preset.allow.is_some()), "{}", preset.name);
        for groups in [preset.deny, preset.allow.unwrap_or_default()] {
            for (at, group) in groups.iter().enumerate() {
                assert!(!group.why.is_empty() && group.name != NOT_LISTED, "{}", group.name);
                assert!(groups[..at].iter().all(|other| other.name != group.name), "{}", group.name);
                for entry in group.commands {
                    let known = match entry.strip_prefix('@') {
                        Some(category) => crate::command::Categories::by_name(category).is_some(),
                        None => catalog::by_full_name(entry).is_some(),
                    };
                    assert!(known, "{}/{} names {entry}", preset.name, group.name);
                }
                let speaks = catalog::iter().any(|(_, row)| match preset.says(row) {
                    Said::Denied(said) | Said::Allowed(said) => said.name == group.name,
                    Said::NotListed | Said::Open => false,
                });
                assert!(speaks, "{}/{} never speaks", preset.name, group.name);
            }
        }
        assert!(Policy::compile(&[&format!("preset:{}", preset.name)]).is_ok());
    }
}

/// What a preset leaves open, by full name.
fn open(preset: &str) -> Vec<&'static str> {
    let policy = Policy::compile(&[&format!("preset:{preset}")]).unwrap();
    catalog::iter().filter(|(id, _)| policy.judge(*id) == Verdict::Allow).map(|(_, row)| row.full_name).collect()
}

#[test]
fn the_narrow_presets_leave_open_exactly_this() {
    const HANDSHAKE: [&str; 7] = ["auth", "client|setinfo", "client|setname", "hello", "ping", "quit", "reset"];
    let with_handshake = |more: &[&'static str]| {
        let mut all: Vec<&str> = HANDSHAKE.iter().chain(more).copied().collect();
        all.sort_unstable();
        all
    };
    assert_eq!(open("lockdown"), with_handshake(&[]));
    assert_eq!(open("replica"), ["auth", "ping", "psync", "quit", "replconf"]);
    assert_eq!(
        open("exporter"),
        with_handshake(&[
            "cluster|info",
            "commandlog|len",
            "info",
            "latency|histogram",
            "latency|latest",
            "slowlog|len"
        ])
    );
    assert_eq!(
        open("sentinel"),
        with_handshake(&[
            "client|kill",
            "config|rewrite",
            "exec",
            "info",
            "multi",
            "publish",
            "replicaof",
            "role",
            "script|kill",
            "slaveof",
            "subscribe"
        ])
    );
}

#[test]
fn app_and_readonly_open_nothing_that_hardened_denies() {
    let hardened = open("hardened");
    let (app, readonly) = (open("app"), open("readonly"));
    for command in app.iter().chain(&readonly) {
        assert!(hardened.contains(command), "{command}");
    }
    let without: Vec<_> = hardened.iter().filter(|command| !app.contains(command)).collect();
    let of_oneself = ["acl", "acl|cat", "acl|dryrun", "acl|getuser", "acl|whoami"];
    assert_eq!(without[..5], of_oneself.each_ref());
    assert_eq!(without[5..], [&"client", &"lolwut", &"randomkey"]);
}

#[test]
fn readonly_leaves_nothing_open_that_writes() {
    use crate::command::bits::categories::WRITE;
    for command in open("readonly") {
        let row = catalog::by_full_name(command).unwrap().entry();
        assert!(!row.categories.any(WRITE), "{command}");
        assert!(
            row.categories.any(crate::command::bits::categories::READ)
                || row.keys.is_empty()
                || row.name.starts_with('V')
                || row.name == "WATCH",
            "{command}"
        );
    }
}

#[test]
fn an_operator_cannot_take_the_server_over_but_by_config() {
    let open = open("admin");
    for command in
        ["module|load", "slaveof", "replicaof", "psync", "sync", "eval", "function|load", "debug", "migrate", "restore"]
    {
        assert!(!open.contains(&command), "{command}");
    }
    for command in ["config|get", "config|set", "slowlog|get", "client|kill", "flushall", "keys", "acl|whoami", "get"] {
        assert!(open.contains(&command), "{command}");
    }
}
