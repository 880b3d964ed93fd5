//! What is known of each command: the catalog, where its keys are, which of its arguments are secrets.

pub mod access;
pub mod bits;
pub mod catalog;
pub mod databases;
mod facts;
pub mod keys;
pub mod secrets;
pub mod strict;
mod table;

use crate::resp::Words;

/// A row of the catalog. Commands and their subcommands each have one (`CONFIG` and `CONFIG|SET`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(pub(crate) u16);

impl CommandId {
    /// Position in the catalog, `0..catalog::len()`: tables beside the catalog are indexed by it.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The row.
    #[must_use]
    pub fn entry(self) -> &'static Entry {
        catalog::entry(self)
    }
}

/// One row of the catalog.
#[derive(Debug)]
pub struct Entry {
    /// The command's name in upper case.
    pub name: &'static str,
    /// The subcommand's name in upper case, for a row that is one.
    pub sub: Option<&'static str>,
    /// Name as Redis writes it in its messages: `get`, `config|set`.
    pub full_name: &'static str,
    /// Whether the second word names a subcommand with a row of its own.
    pub container: bool,
    /// Redis' arity: exact if positive, a minimum if negative; the name counts (and the subcommand's name).
    pub arity: i16,
    /// Redis' command flags.
    pub flags: Flags,
    /// Redis' ACL categories.
    pub categories: Categories,
    /// Where the keys are, as Redis specifies it.
    pub keys: &'static [keys::KeySpec],
    /// How the keys are really found: by the specifications, or by code where they do not say it all.
    pub layout: keys::Layout,
    /// What the command does to the connection.
    pub effect: Effect,
    /// Whether a `begin` line must have reached the audit sink before the command goes up: it blocks, streams,
    /// administers or destroys. For [`Effect::BlockingOption`] only where [`keys::blocks`] says so.
    pub begin: bool,
    /// Which arguments are secrets.
    pub secrets: secrets::Secrets,
    /// Which databases the command touches, as far as its name says it.
    pub reach: databases::Reach,
    /// What must hold for words that decide a database, the connection's state or the server's.
    pub rules: &'static [strict::Rule],
    /// Whether words of this command decide something, so that [`strict::fault`] has to be asked.
    pub deciding: bool,
    /// Of a command that is one request and one reply and nothing else, whose words decide and hide nothing: the index of
    /// the only one that can be a key, 0 where none can. As nearly all commands that are said often.
    pub simple: Option<usize>,
    /// For a command that Redis 7.0 does not know: the releases that brought it (`Redis 8.0.0, Valkey 9.0.0`).
    pub since: Option<&'static str>,
    /// Where the hand-written columns (effect, begin, secrets, layout) come from: Redis' function.
    pub source: &'static str,
}

impl Entry {
    /// Whether `argc` words, the name among them, are a number this command takes.
    #[must_use]
    pub fn accepts_arity(&self, argc: usize) -> bool {
        let argc = i64::try_from(argc).unwrap_or(i64::MAX);
        let arity = i64::from(self.arity);
        if arity >= 0 { argc == arity } else { argc >= -arity }
    }

    /// Whether it can change data: Redis' flag `write`, and scripts that are not read-only.
    #[must_use]
    pub fn may_write(&self) -> bool {
        self.flags.any(bits::flags::WRITE) || (self.effect == Effect::Script && !self.flags.any(bits::flags::READONLY))
    }

    /// Whether keys are watched once this has run, if it decides that: WATCH and UNWATCH.
    #[must_use]
    pub fn watches(&self) -> Option<bool> {
        match self.full_name {
            "watch" => Some(true),
            "unwatch" => Some(false),
            _ => None,
        }
    }

    /// Whether a connection that shows MONITOR's lines takes this command, of `argc` words. Redis refuses only what
    /// touches keys; of the rest these three make sense there, and none has a status that looks like a line.
    #[must_use]
    pub fn taken_while_monitoring(&self, argc: usize) -> bool {
        matches!(self.effect, Effect::Quit | Effect::Reset) || (self.name == "PING" && argc == 1)
    }
}

/// What a command does to the state of its connection, as far as session and lane must know. Closed: both match it
/// without a wildcard, so a new effect does not compile until every place has said what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// One reply; the connection is as before.
    Plain,
    /// One reply; changes state that takes part in no verdict and in no accounting (CLIENT SETNAME, CLIENT TRACKING,
    /// READONLY, ASKING, WATCH, UNWATCH …).
    State,
    /// One reply, which may be long in coming (BLPOP, WAIT, …).
    Blocking,
    /// As `Blocking` if the word BLOCK stands among the options (XREAD, XREADGROUP), else as `Plain`.
    BlockingOption,
    /// SELECT: the database, once confirmed.
    Select,
    /// MULTI.
    Multi,
    /// EXEC.
    Exec,
    /// DISCARD.
    Discard,
    /// AUTH.
    Auth,
    /// HELLO: the protocol, once confirmed; may carry AUTH and SETNAME.
    Hello,
    /// RESET.
    Reset,
    /// QUIT.
    Quit,
    /// CLIENT REPLY: kept by the proxy.
    ReplyMode,
    /// One confirmation per name.
    Subscribe(PubSub),
    /// One confirmation per name, or per live subscription without names.
    Unsubscribe(PubSub),
    /// MONITOR: the connection becomes a stream of lines, until RESET.
    Monitor,
    /// SYNC, PSYNC: the connection becomes a replication stream, for good.
    Replication,
    /// REPLCONF: one reply. (REPLCONF ACK, which has none, is taken on a replication stream only.)
    ReplicationConfig,
    /// SHUTDOWN: the close, or one error.
    Shutdown,
    /// EVAL and its kin: one reply, for commands nobody sees.
    Script,
    /// ACL WHOAMI, CAT, GETUSER and DRYRUN: answered by the proxy, from the role.
    OwnAccess(OwnAccess),
    /// ACL SETUSER, DELUSER, LOAD, SAVE: always denied, because users and rules are the configuration's.
    AccessControl,
    /// Turns the connection into something this proxy does not speak (SCRIPT DEBUG): always denied.
    Unsupported,
}

/// What a client may ask about its own rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OwnAccess {
    /// ACL WHOAMI.
    Name,
    /// ACL CAT.
    Categories,
    /// ACL GETUSER, of oneself.
    User,
    /// ACL DRYRUN, of oneself.
    DryRun,
}

/// The three kinds of subscription, each with a count of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PubSub {
    /// SUBSCRIBE.
    Channel,
    /// PSUBSCRIBE.
    Pattern,
    /// SSUBSCRIBE.
    Shard,
}

/// Redis' command flags as a bit set; the constants are in [`bits::flags`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub u32);

/// Redis' ACL categories as a bit set; the constants are in [`bits::categories`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Categories(pub u32);

/// What the first one or two words of a request name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// A row: of the subcommand, or of a container that stands alone (`CONFIG` with no second word).
    Known(CommandId),
    /// The name holds bytes outside `[A-Za-z0-9._:-]`, is empty, or is longer than 64 bytes.
    NotAName,
    /// A proper name that is not in the catalog.
    UnknownCommand,
    /// A known container with a second word that is not in the catalog, or is no proper name.
    UnknownSubcommand(CommandId),
    /// The deciding word has not arrived yet.
    More,
}

/// Finds the catalog's row for a request. Case-insensitive over ASCII, as Redis' `lookupCommand` is.
#[must_use]
pub fn resolve(words: &Words<'_>) -> Resolved {
    catalog::resolve(words)
}
