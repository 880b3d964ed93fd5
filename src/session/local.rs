//! Replies the proxy gives itself.

use crate::{command::CommandId, policy::Subject, resp::encode};

/// Appends an error line of the proxy's own.
pub(super) fn say(out: &mut Vec<u8>, text: &str) {
    encode::error(out, text.as_bytes());
}

/// A reply of the proxy's own: which one; its text is made when it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Local {
    /// Policy says no to the command: Redis' own `-NOPERM`.
    Denied,
    /// Policy says no to a key.
    DeniedKey,
    /// Policy says no to a channel.
    DeniedChannel,
    /// Policy says no to a database.
    DeniedDatabase,
    /// Users and rules are the configuration's: where to change them.
    Administered,
    /// ACL GETUSER and DRYRUN of somebody else.
    OfAnother,
    /// A reply that was made when the command was accepted: the slot's words are its bytes.
    Rendered,
    /// Not inside MULTI (Redis' `CMD_NO_MULTI`).
    InTransaction,
    /// Redis' arity error.
    Arity,
    /// A number that is none, or not in canonical form.
    NotAnInteger,
    /// A number that is none to the servers that have a bound on it.
    IntRange,
    /// A HELLO whose version is no number.
    HelloVersion,
    /// A word that is not among those the command knows.
    Syntax,
    /// A HELLO with an option that some reader could take for another one; the slot's words name it.
    HelloOption,
    /// The client's own AUTH, refused.
    AuthRefused,
    /// Nothing else is taken before the client has authenticated (Redis' own words).
    NoAuth,
    /// HELLO without AUTH before that, likewise.
    HelloNoAuth,
    /// A user and password that do not belong together (Redis' own words).
    WrongPass,
    /// AUTH that would give another role while something hangs on the connection.
    HoldsState,
    /// RESET after AUTH has given another role.
    ResetSelected,
    /// A user and password that nobody can look up now.
    AuthUnavailable,
    /// A limit in time that refuses.
    RateLimited,
    /// Too large to be held until it can be judged.
    TooLarge,
    /// Not while MONITOR's lines come.
    WhileMonitoring,
    /// An option of REPLCONF that is not let up.
    ReplicationOption,
    /// SYNC or PSYNC on a connection that something else may write into.
    NotPlain,
    /// `+OK`.
    Ok,
    /// No reply at all (CLIENT REPLY OFF and SKIP).
    Nothing,
    /// EXEC of a transaction that a denial spoilt.
    ExecAborted,
    /// EXEC that policy refused inside a transaction.
    ExecDenied,
    /// EXEC with arguments inside a transaction.
    ExecArity,
}

impl Local {
    /// Whether the reply is an error.
    pub(super) const fn is_error(self) -> bool {
        !matches!(self, Self::Ok | Self::Nothing | Self::Rendered)
    }

    /// What a denial is answered with.
    pub(super) const fn denied(subject: Subject) -> Self {
        match subject {
            Subject::Command => Self::Denied,
            Subject::Key => Self::DeniedKey,
            Subject::Channel => Self::DeniedChannel,
            Subject::Database => Self::DeniedDatabase,
        }
    }

    /// Appends the reply's bytes. `command` is the catalog's row; `name` the client's word where there is none.
    pub(super) fn encode(self, command: Option<CommandId>, name: &[u8], out: &mut Vec<u8>) {
        // Written in pieces: whoever is denied all the time must not have memory allocated for each.
        let mut name_between = |front: &str, back: &str| {
            out.push(b'-');
            out.extend_from_slice(front.as_bytes());
            match command {
                Some(id) => out.extend_from_slice(id.entry().full_name.as_bytes()),
                None => out.extend(name.iter().map(|byte| if byte.is_ascii_graphic() { *byte } else { b'?' })),
            }
            out.extend_from_slice(back.as_bytes());
            out.extend_from_slice(b"\r\n");
        };
        match self {
            Self::Denied => name_between("NOPERM this user has no permissions to run the '", "' command"),
            // The words of Redis 7.0, and for databases of Valkey 9.1, which alone knows rules about them.
            Self::DeniedKey => {
                say(out, "NOPERM this user has no permissions to access one of the keys used as arguments");
            }
            Self::DeniedChannel => {
                say(out, "NOPERM this user has no permissions to access one of the channels used as arguments");
            }
            Self::DeniedDatabase => say(out, "NOPERM No permissions to access database"),
            Self::Administered => name_between(
                "NOPERM users and their rules are those of the proxy's configuration: change it and reload it instead of '",
                "'",
            ),
            Self::OfAnother => say(out, "NOPERM only one's own user can be asked about here; ACL WHOAMI names it"),
            Self::Rendered => out.extend_from_slice(name),
            Self::InTransaction => say(out, "ERR Command not allowed inside a transaction"),
            Self::Arity => name_between("ERR wrong number of arguments for '", "' command"),
            Self::NotAnInteger => say(out, "ERR value is not an integer or out of range"),
            Self::IntRange => say(out, "ERR value is out of range, value must between -2147483648 and 2147483647"),
            Self::HelloVersion => say(out, "ERR Protocol version is not an integer or out of range"),
            Self::Syntax => say(out, "ERR syntax error"),
            Self::HelloOption => {
                let option = String::from_utf8_lossy(name.split(|byte| *byte == 0).next().unwrap_or_default());
                say(out, &format!("ERR Syntax error in HELLO option '{option}'"));
            }
            Self::AuthRefused => say(
                out,
                "NOPERM authentication is by client certificate here; take the password out of the client's configuration",
            ),
            Self::NoAuth => say(out, "NOAUTH Authentication required."),
            Self::HelloNoAuth => say(
                out,
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> \
                 <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
            ),
            Self::WrongPass => say(out, "WRONGPASS invalid username-password pair or user is disabled."),
            Self::HoldsState => say(
                out,
                "ERR AUTH selects another role here, which is not possible inside MULTI, while keys are watched, or while subscribed",
            ),
            Self::ResetSelected => {
                say(out, "ERR AUTH has selected a role, which RESET does not take back; open another connection");
            }
            Self::AuthUnavailable => say(out, "ERR authentication is not possible now, try again later"),
            Self::TooLarge => {
                name_between("NOPERM the '", "' command is too large to be judged before it is forwarded");
            }
            Self::RateLimited => say(out, "ERR rate limit reached, try again later"),
            Self::WhileMonitoring => say(out, "ERR only PING, QUIT and RESET are taken while monitoring"),
            Self::ReplicationOption => say(out, "ERR Unrecognized REPLCONF option"),
            Self::NotPlain => {
                say(out, "ERR replication begins only on a connection without HELLO 3, subscriptions and CLIENT REPLY");
            }
            Self::Ok => out.extend_from_slice(b"+OK\r\n"),
            Self::Nothing => {}
            Self::ExecAborted => {
                say(out, "EXECABORT Transaction discarded because of previous errors.");
            }
            Self::ExecArity => {
                say(out, "EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command")
            }
            Self::ExecDenied => say(
                out,
                "EXECABORT Transaction discarded because of: this user has no permissions to run the 'exec' command",
            ),
        }
    }
}
