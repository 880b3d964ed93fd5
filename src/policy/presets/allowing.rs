//! Presets that deny what they do not name.

use super::hardened;
use super::{Group, Preset};

/// What a client library says before its user says anything; the proxy answers or keeps most of it.
const HANDSHAKE: Group = Group {
    name: "handshake",
    why: "the first and last words of every client library; what they change is the proxy's (AUTH, HELLO, RESET, QUIT) or a name",
    commands: &["AUTH", "HELLO", "RESET", "QUIT", "PING", "CLIENT|SETNAME", "CLIENT|SETINFO"],
};

/// What clients of data may do to their own connection besides.
const CONNECTION: Group = Group {
    name: "connection",
    why: "the client's own connection and nobody else's; what libraries ask about the server's commands",
    commands: &[
        "ECHO",
        "SELECT",
        "READONLY",
        "READWRITE",
        "ASKING",
        "CLIENT|CACHING",
        "CLIENT|CAPA",
        "CLIENT|GETNAME",
        "CLIENT|GETREDIR",
        "CLIENT|HELP",
        "CLIENT|ID",
        "CLIENT|INFO",
        "CLIENT|NO-TOUCH",
        "CLIENT|REPLY",
        "CLIENT|TRACKINGINFO",
        "COMMAND",
    ],
};

const READINESS: Group = Group {
    name: "readiness",
    why: "ioredis and BullMQ read it before anything else; the server's clock",
    commands: &["INFO", "TIME"],
};

const TRANSACTIONS: Group = Group { name: "transactions", why: "several commands as one", commands: &["@transaction"] };

/// For applications: the data commands of every type, and nothing that is not about data.
pub(super) const APP: Preset = Preset {
    name: "app",
    about: "an application's commands and no others: data, queues, messages, transactions; what hardened denies stays denied",
    deny: hardened::GROUPS,
    allow: Some(&[
        HANDSHAKE,
        CONNECTION,
        READINESS,
        TRANSACTIONS,
        Group {
            name: "values",
            why: "one key or a few, by name, of every type",
            commands: &[
                "@string",
                "@list",
                "@hash",
                "@set",
                "@sortedset",
                "@stream",
                "@bitmap",
                "@hyperloglog",
                "@geo",
                "XGROUP",
                "XINFO",
            ],
        },
        Group {
            name: "vector-sets",
            why: "the same of the type that Redis 8 gave no category",
            commands: &[
                "VADD",
                "VCARD",
                "VDIM",
                "VEMB",
                "VGETATTR",
                "VINFO",
                "VISMEMBER",
                "VLINKS",
                "VRANDMEMBER",
                "VRANGE",
                "VREM",
                "VSETATTR",
                "VSIM",
            ],
        },
        Group {
            name: "keys",
            why: "names, ages and types of keys; SCAN is the polite way through them",
            commands: &[
                "CLUSTERSCAN",
                "COPY",
                "DBSIZE",
                "DEL",
                "EXISTS",
                "EXPIRE",
                "EXPIREAT",
                "EXPIRETIME",
                "PERSIST",
                "PEXPIRE",
                "PEXPIREAT",
                "PEXPIRETIME",
                "PTTL",
                "RENAME",
                "RENAMENX",
                "SCAN",
                "TOUCH",
                "TTL",
                "TYPE",
                "UNLINK",
            ],
        },
        Group { name: "messages", why: "messages between applications", commands: &["@pubsub", "PUBSUB"] },
        Group { name: "durability", why: "how a writer learns of it", commands: &["WAIT", "WAITAOF"] },
    ]),
};

/// For whoever reads data: reports, debugging, a replica's clients.
pub(super) const READONLY: Preset = Preset {
    name: "readonly",
    about: "reads values and keys, changes nothing, hears no messages; what hardened denies stays denied",
    deny: hardened::GROUPS,
    allow: Some(&[
        HANDSHAKE,
        CONNECTION,
        READINESS,
        TRANSACTIONS,
        Group { name: "values", why: "whatever Redis itself calls a read", commands: &["@read", "XINFO"] },
        Group {
            name: "vector-sets",
            why: "the reads of the type that Redis 8 gave no category",
            commands: &[
                "VCARD",
                "VDIM",
                "VEMB",
                "VGETATTR",
                "VINFO",
                "VISMEMBER",
                "VLINKS",
                "VRANDMEMBER",
                "VRANGE",
                "VSIM",
            ],
        },
    ]),
};

/// For `redis_exporter` with its default flags: the calls in its `exporter/*.go` as of 2026.
///
/// Its CONFIG GET * stays denied, because it shows the server's password; the exporter goes on without (it then assumes
/// 16 databases). Not here either: SLOWLOG GET (the last slow command with its values; the exporter goes on without), and
/// what flags ask for: CLIENT LIST (`-export-client-list`), and all that looks at keys (`-check-keys`, `-check-streams`,
/// `-count-keys`, `-script`).
pub(super) const EXPORTER: Preset = Preset {
    name: "exporter",
    about: "what redis_exporter needs with its default flags, and no more; it sees no key and no value",
    deny: &[],
    allow: Some(&[
        HANDSHAKE,
        Group { name: "info", why: "nearly all of its metrics", commands: &["INFO"] },
        Group {
            name: "latency",
            why: "latency_spike_*, and the histograms of 7.0 and later",
            commands: &["LATENCY|LATEST", "LATENCY|HISTOGRAM"],
        },
        Group {
            name: "slow-log",
            why: "the logs' lengths, without their entries",
            commands: &["SLOWLOG|LEN", "COMMANDLOG|LEN"],
        },
        Group { name: "cluster", why: "cluster_* metrics", commands: &["CLUSTER|INFO"] },
    ]),
};

/// For Redis Sentinel and Valkey's: the user that Redis' documentation gives it, and the newer name of SLAVEOF.
///
/// It may make the server a replica of anybody: keep such a certificate on the sentinels' hosts.
pub(super) const SENTINEL: Preset = Preset {
    name: "sentinel",
    about: "what a sentinel needs of the servers it watches: it may make them replicas, and sees no data",
    deny: &[],
    allow: Some(&[
        HANDSHAKE,
        Group { name: "watching", why: "how the server is, and who replicates it", commands: &["INFO", "ROLE"] },
        Group {
            name: "hello-channel",
            why: "how sentinels find each other: __sentinel__:hello",
            commands: &["SUBSCRIBE", "PUBLISH"],
        },
        Group {
            name: "failover",
            why: "what it sends, as one transaction, to a server that becomes a master or a replica",
            commands: &["MULTI", "SLAVEOF", "REPLICAOF", "CONFIG|REWRITE", "CLIENT|KILL", "EXEC"],
        },
        Group { name: "busy-server", why: "sent to a server that a script holds", commands: &["SCRIPT|KILL"] },
    ]),
};

/// For a replica that comes through the proxy: the whole data set, and nothing else.
pub(super) const REPLICA: Preset = Preset {
    name: "replica",
    about: "what a replica needs of its master: the whole data set as a stream, and no command on it",
    deny: &[],
    allow: Some(&[
        Group {
            name: "handshake",
            why: "the replica's first words, and the last",
            commands: &["AUTH", "PING", "QUIT"],
        },
        Group {
            name: "replication",
            why: "what it is and where it stands, then the stream",
            commands: &["REPLCONF", "PSYNC"],
        },
    ]),
};

/// For an incident, or a certificate that must not do anything yet: connections stay, and do nothing.
pub(super) const LOCKDOWN: Preset = Preset {
    name: "lockdown",
    about: "nothing but the handshake and PING: for an incident, or a certificate that is not to be used yet",
    deny: &[],
    allow: Some(&[HANDSHAKE]),
};
