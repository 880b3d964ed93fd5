//! Presets that leave open what they do not name.

use super::{Group, Preset};

/// For an operator's own certificate: looks at everything, tunes, flushes and stops the server, and still cannot take it
/// over or carry it away.
///
/// Open on purpose: CONFIG (which parameters, the role's `config` says), SLOWLOG, LATENCY, MEMORY, CLIENT, MONITOR, SAVE,
/// SHUTDOWN, FLUSHALL, CLUSTER, KEYS, and of ACL, FUNCTION and SCRIPT what shows or stops.
pub(super) const ADMIN: Preset = Preset {
    name: "admin",
    about: "what even an operator does not do through a proxy: loading code, replication, dumps, and the server's users",
    deny: &[
        Group {
            name: "code-loading",
            why: "loads native code into the server, or takes it out; MODULE LIST is open",
            commands: &["MODULE|LOAD", "MODULE|LOADEX", "MODULE|UNLOAD"],
        },
        Group {
            name: "scripting",
            why: "runs any command this list names; what lists, kills and flushes scripts is open",
            commands: &[
                "EVAL",
                "EVALSHA",
                "EVAL_RO",
                "EVALSHA_RO",
                "FCALL",
                "FCALL_RO",
                "SCRIPT|LOAD",
                "SCRIPT|DEBUG",
                "FUNCTION|LOAD",
                "FUNCTION|RESTORE",
                "FUNCTION|DUMP",
            ],
        },
        Group {
            name: "replication",
            why: "makes the server a replica of a stranger, or streams the whole data set out; ROLE is open",
            commands: &["REPLICAOF", "SLAVEOF", "SYNC", "PSYNC", "REPLCONF", "FAILOVER"],
        },
        Group {
            name: "access-control",
            why: "changes the server's users or shows their password hashes; who may do what is decided by the proxy",
            commands: &["ACL|SETUSER", "ACL|DELUSER", "ACL|LOAD", "ACL|SAVE", "ACL|LIST", "ACL|GETUSER"],
        },
        Group {
            name: "serialised-values",
            why: "moves values in and out in a binary form whose reader has had remote code execution bugs",
            commands: &["DUMP", "RESTORE", "RESTORE-ASKING", "MIGRATE"],
        },
        Group {
            name: "insides",
            why: "crashes the server, stalls it, or changes it in ways nobody documents",
            commands: &["DEBUG", "PFDEBUG", "PFSELFTEST", "XIDMPRECORD"],
        },
    ],
    allow: None,
};

/// What managed services of the large clouds refuse: for one who comes from there and wants the same.
///
/// The union of what ElastiCache, OCI Cache and Aiven document; they differ among each other. Weaker than `hardened`:
/// scripts are open, and with them FLUSHALL and KEYS.
pub(super) const MANAGED_PARITY: Preset = Preset {
    name: "managed-parity",
    about: "what managed services refuse, no more: scripts, KEYS, FLUSHALL and MONITOR's kin of slow commands stay open",
    deny: &[
        Group {
            name: "persistence",
            why: "the service saves by itself",
            commands: &["SAVE", "BGSAVE", "BGREWRITEAOF", "LASTSAVE"],
        },
        Group {
            name: "server-control",
            why: "the service configures, stops and debugs by itself",
            commands: &["CONFIG", "DEBUG", "SHUTDOWN", "MODULE", "ACL"],
        },
        Group {
            name: "replication",
            why: "the service replicates and moves by itself",
            commands: &["REPLICAOF", "SLAVEOF", "SYNC", "PSYNC", "REPLCONF", "FAILOVER", "CLUSTER", "MIGRATE"],
        },
        Group { name: "other-clients", why: "shows every client's commands", commands: &["MONITOR"] },
    ],
    allow: None,
};
