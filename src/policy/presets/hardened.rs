//! The default: a deny list.

use super::{Group, Preset};

/// What no application needs and every known attack on an open Redis begins with.
///
/// Not derived from `@dangerous`: that category leaves out EVAL, FCALL, SCRIPT, FUNCTION, DUMP and more. Left open on
/// purpose, though `@dangerous` or able to tell something: INFO (ioredis and BullMQ do not start without it), COMMAND
/// (client libraries and redis-cli ask it on connecting), SCAN and RANDOMKEY (the polite ways through the keys), PUBSUB
/// (the socket.io adapter counts by it), COPY (its `DB` reaches no further than SELECT does).
pub(super) const HARDENED: Preset = Preset {
    name: "hardened",
    about: "what no application needs and every known attack on an open Redis begins with; the default",
    deny: GROUPS,
    allow: None,
};

/// Its groups; `app` and `readonly` begin with them.
pub(super) const GROUPS: &[Group] = &[
    Group { name: "code-loading", why: "loads native code into the server", commands: &["MODULE"] },
    Group {
        name: "scripting",
        why: "runs any command this list names, and Lua's sandbox has been broken out of time and again",
        commands: &["EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO", "SCRIPT", "FUNCTION"],
    },
    Group {
        name: "configuration",
        why: "reads passwords, and writes files anywhere by way of dir and dbfilename",
        commands: &["CONFIG"],
    },
    Group {
        name: "replication",
        why: "makes the server a replica of a stranger, or streams the whole data set out",
        commands: &["REPLICAOF", "SLAVEOF", "SYNC", "PSYNC", "REPLCONF", "FAILOVER", "ROLE"],
    },
    Group {
        name: "access-control",
        why: "reads or changes who may do what; of ACL only what the proxy itself answers, of one's own role, is left",
        commands: &[
            "ACL|DELUSER",
            "ACL|GENPASS",
            "ACL|HELP",
            "ACL|LIST",
            "ACL|LOAD",
            "ACL|LOG",
            "ACL|SAVE",
            "ACL|SETUSER",
            "ACL|USERS",
        ],
    },
    Group {
        name: "destruction",
        why: "empties or exchanges whole databases, or takes keys out of this one",
        commands: &["FLUSHALL", "FLUSHDB", "SWAPDB", "MOVE", "TRIMSLOTS"],
    },
    Group {
        name: "server-control",
        why: "stops, stalls or rewrites the server, or reaches into its insides",
        commands: &[
            "SHUTDOWN",
            "SAVE",
            "BGSAVE",
            "BGREWRITEAOF",
            "LASTSAVE",
            "DEBUG",
            "PFDEBUG",
            "PFSELFTEST",
            "XIDMPRECORD",
            "CLUSTER",
            "CLIENT|IMPORT-SOURCE",
        ],
    },
    Group {
        name: "serialised-values",
        why: "moves values in and out in a binary form whose reader has had remote code execution bugs",
        commands: &["DUMP", "RESTORE", "RESTORE-ASKING", "MIGRATE"],
    },
    Group {
        name: "other-clients",
        why: "lists, watches, stalls or ends other clients' connections",
        commands: &[
            "MONITOR",
            "CLIENT|KILL",
            "CLIENT|LIST",
            "CLIENT|NO-EVICT",
            "CLIENT|PAUSE",
            "CLIENT|TRACKING",
            "CLIENT|UNBLOCK",
            "CLIENT|UNPAUSE",
        ],
    },
    Group {
        name: "reconnaissance",
        why: "tells what others do and store, or wipes the traces of it",
        commands: &["SLOWLOG", "COMMANDLOG", "LATENCY", "MEMORY", "OBJECT", "HOTKEYS"],
    },
    Group {
        name: "availability",
        why: "one call can hold the server for seconds: the whole key space, foreign keys by pattern, a square of bytes",
        commands: &["KEYS", "SORT", "SORT_RO", "LCS"],
    },
];
