//! Who may come in and what they may say.

pub mod acl;
pub mod arguments;
pub mod arrivals;
pub mod bans;
pub mod credentials;
pub mod databases;
pub mod guards;
pub mod identity;
pub mod network;
pub mod newcomers;
pub mod pattern;
pub mod presets;
pub mod rates;
pub mod rename;
pub mod rules;
pub mod scripts;
pub mod spiffe;
pub mod turnstile;

/// What policy says of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may go up.
    Allow,
    /// It may go up; this rule would deny it, and is in shadow mode.
    Shadow(RuleId),
    /// It may not.
    Deny(Denial),
}

/// Why a command may not go up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The rule that says so.
    pub rule: RuleId,
    /// What of the command it is about: the reply says so in Redis' words.
    pub subject: Subject,
}

impl Denial {
    /// A rule about the command itself.
    #[must_use]
    pub const fn command(rule: RuleId) -> Self {
        Self { rule, subject: Subject::Command }
    }
}

/// What of a command is denied. Where several could speak, the last of this order does (`ACLCheckAllUserCommandPerm`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The database that it would use, or names.
    Database,
    /// The command, or the subcommand.
    Command,
    /// A key that it names, or the way it would use it.
    Key,
    /// A channel that it names.
    Channel,
}

impl Verdict {
    /// Whether it may go up.
    #[must_use]
    pub const fn lets_through(self) -> bool {
        matches!(self, Self::Allow | Self::Shadow(_))
    }
}

/// The rule behind a denial; its name by [`rules::Policy::rule_name`]. The first few are built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleId(pub u16);

impl RuleId {
    /// `builtin/unknown-command`: the name is not in the catalog.
    pub const UNKNOWN_COMMAND: Self = Self(0);
    /// `builtin/not-a-name`: the name holds bytes no command name has.
    pub const NOT_A_NAME: Self = Self(1);
    /// `builtin/authentication`: the proxy owns authentication.
    pub const AUTHENTICATION: Self = Self(2);
    /// `builtin/in-transaction`: not inside MULTI.
    pub const IN_TRANSACTION: Self = Self(3);
    /// `builtin/unsupported`: the proxy does not speak what the connection would become.
    pub const UNSUPPORTED: Self = Self(4);
    /// `builtin/not-canonical`: a word that decides a key, a database or state can be read in more than one way
    /// ([`crate::command::strict`]), or the number of words is wrong for a command that changes state.
    pub const NOT_CANONICAL: Self = Self(5);
    /// `builtin/held-command`: too large to hold until it can be judged.
    pub const HELD_COMMAND: Self = Self(6);
    /// `builtin/in-stream`: the connection has become a stream (MONITOR, PSYNC), which does not take this command.
    pub const IN_STREAM: Self = Self(7);
    /// `builtin/access-control`: users and rules are the configuration's, and of others nothing is told.
    pub const ACCESS_CONTROL: Self = Self(8);
    /// `builtin/credential`: CONFIG GET would show a password, the proxy's own among them.
    pub const CREDENTIAL: Self = Self(9);
    /// `builtin/renamed`: the word that a command was renamed to on the server, or a HELP that would show it.
    pub const RENAMED: Self = Self(10);
    /// The highest number a rule may have.
    pub const MAX: u16 = (1 << 15) - 2;
    /// How many are built in; configured rules follow.
    pub const BUILTIN: u16 = 11;
}
