//! Redis' command flags, ACL categories and key-specification flags: each a bit set whose names are Redis' own.

use super::{Categories, Flags};

/// Declares the bits of one set: a constant per name for the tables, and the list of names in Redis' order.
macro_rules! bits {
    ($(#[$doc:meta])* $module:ident: $($constant:ident = $name:literal),+ $(,)?) => {
        $(#[$doc])*
        pub mod $module {
            #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "positions only, never seen outside")]
            #[repr(u32)]
            enum Position { $($constant),+ }
            $(
                #[doc = concat!("`", $name, "`")]
                pub const $constant: u32 = 1 << Position::$constant as u32;
            )+
            /// Every name with its bit.
            pub const NAMES: &[(&str, u32)] = &[$(($name, $constant)),+];
        }
    };
}

bits! {
    /// Command flags (`COMMAND INFO`, third element).
    flags:
    WRITE = "write", READONLY = "readonly", DENYOOM = "denyoom", ADMIN = "admin", PUBSUB = "pubsub",
    NOSCRIPT = "noscript", BLOCKING = "blocking", LOADING = "loading", STALE = "stale", SKIP_MONITOR = "skip_monitor",
    SKIP_SLOWLOG = "skip_slowlog", ASKING = "asking", FAST = "fast", NO_AUTH = "no_auth",
    MAY_REPLICATE = "may_replicate", NO_MANDATORY_KEYS = "no_mandatory_keys", NO_ASYNC_LOADING = "no_async_loading",
    NO_MULTI = "no_multi", MOVABLEKEYS = "movablekeys", ALLOW_BUSY = "allow_busy", MODULE = "module",
}

bits! {
    /// ACL categories, in the order of `ACL CAT`.
    categories:
    KEYSPACE = "keyspace", READ = "read", WRITE = "write", SET = "set", SORTEDSET = "sortedset", LIST = "list",
    HASH = "hash", STRING = "string", BITMAP = "bitmap", HYPERLOGLOG = "hyperloglog", GEO = "geo", STREAM = "stream",
    PUBSUB = "pubsub", ADMIN = "admin", FAST = "fast", SLOW = "slow", BLOCKING = "blocking", DANGEROUS = "dangerous",
    CONNECTION = "connection", TRANSACTION = "transaction", SCRIPTING = "scripting",
}

bits! {
    /// Flags of a key specification (`COMMAND INFO`, ninth element).
    key_flags:
    RO = "RO", RW = "RW", OW = "OW", RM = "RM", ACCESS = "access", UPDATE = "update", INSERT = "insert",
    DELETE = "delete", NOT_KEY = "not_key", INCOMPLETE = "incomplete", VARIABLE_FLAGS = "variable_flags",
}

impl Flags {
    /// Whether any of `bits` (constants of [`flags`]) is set.
    #[must_use]
    pub const fn any(self, bits: u32) -> bool {
        self.0 & bits != 0
    }

    /// The names of the flags that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        flags::NAMES.iter().filter(move |(_, bit)| self.any(*bit)).map(|(name, _)| *name)
    }
}

impl Categories {
    /// Whether any of `bits` (constants of [`categories`]) is set.
    #[must_use]
    pub const fn any(self, bits: u32) -> bool {
        self.0 & bits != 0
    }

    /// The category called `name` (without its `@`), in any case.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        categories::NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, bit)| Self(*bit))
    }

    /// The names of the categories that are set, without their `@`.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        categories::NAMES.iter().filter(move |(_, bit)| self.any(*bit)).map(|(name, _)| *name)
    }
}
