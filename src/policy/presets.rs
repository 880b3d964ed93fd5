//! Deny lists with a name.
//!
//! A preset is divided into groups, so that a record's rule (`preset:hardened/code-loading`) says why a command was
//! denied. Entries are written as in the configuration and compiled by the same code.

/// A deny list with a name: `preset:NAME` in the configuration.
#[derive(Debug)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// What it is for, in one line.
    pub about: &'static str,
    /// What it denies, by reason. Where two groups name the same command, the earlier one speaks.
    pub groups: &'static [Group],
}

/// Part of a preset: commands denied for one reason.
#[derive(Debug)]
pub struct Group {
    /// Its name, the last part of the rule's.
    pub name: &'static str,
    /// Why these are denied, in one line.
    pub why: &'static str,
    /// Commands, `command|subcommand`s or `@categories`.
    pub deny: &'static [&'static str],
}

/// Every preset.
pub const PRESETS: &[Preset] = &[HARDENED];

/// The preset called `name`, in any case.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name.eq_ignore_ascii_case(name))
}

/// Why a rule that is a preset's (`preset:hardened/scripting`) denies what it denies.
#[must_use]
pub fn reason(rule: &str) -> Option<&'static str> {
    let (preset, group) = rule.strip_prefix("preset:")?.split_once('/')?;
    by_name(preset)?.groups.iter().find(|each| each.name == group).map(|group| group.why)
}

/// What no application needs and every known attack on an open Redis begins with.
///
/// Not derived from `@dangerous`: that category leaves out EVAL, FCALL, SCRIPT, FUNCTION, DUMP and more. Left open on
/// purpose, though `@dangerous` or able to tell something: INFO (ioredis and BullMQ do not start without it), COMMAND
/// (client libraries and redis-cli ask it on connecting), SCAN and RANDOMKEY (the polite ways through the keys), PUBSUB
/// (the socket.io adapter counts by it), COPY (its `DB` reaches no further than SELECT does).
const HARDENED: Preset = Preset {
    name: "hardened",
    about: "what no application needs and every known attack on an open Redis begins with; the default",
    groups: &[
        Group { name: "code-loading", why: "loads native code into the server", deny: &["MODULE"] },
        Group {
            name: "scripting",
            why: "runs any command this list names, and Lua's sandbox has been broken out of time and again",
            deny: &["EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO", "SCRIPT", "FUNCTION"],
        },
        Group {
            name: "configuration",
            why: "reads passwords, and writes files anywhere by way of dir and dbfilename",
            deny: &["CONFIG"],
        },
        Group {
            name: "replication",
            why: "makes the server a replica of a stranger, or streams the whole data set out",
            deny: &["REPLICAOF", "SLAVEOF", "SYNC", "PSYNC", "REPLCONF", "FAILOVER", "ROLE"],
        },
        Group {
            name: "access-control",
            why: "reads or changes who may do what; WHOAMI names the injected user",
            deny: &["ACL"],
        },
        Group {
            name: "destruction",
            why: "empties or exchanges whole databases, or takes keys out of this one",
            deny: &["FLUSHALL", "FLUSHDB", "SWAPDB", "MOVE", "TRIMSLOTS"],
        },
        Group {
            name: "server-control",
            why: "stops, stalls or rewrites the server, or reaches into its insides",
            deny: &[
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
            deny: &["DUMP", "RESTORE", "RESTORE-ASKING", "MIGRATE"],
        },
        Group {
            name: "other-clients",
            why: "lists, watches, stalls or ends other clients' connections",
            deny: &[
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
            deny: &["SLOWLOG", "COMMANDLOG", "LATENCY", "MEMORY", "OBJECT", "HOTKEYS"],
        },
        Group {
            name: "availability",
            why: "one call can hold the server for seconds: the whole key space, foreign keys by pattern, a square of bytes",
            deny: &["KEYS", "SORT", "SORT_RO", "LCS"],
        },
    ],
};

#[cfg(test)]
#[path = "presets_tests.rs"]
mod tests;
