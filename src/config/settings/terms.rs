//! What a role has of its own besides its policy, and where clients' own passwords are looked up.

use super::Password;
use crate::{lane::greeting::Credential, policy::credentials::Users, session::machine::ClientAuth};
use std::{num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

/// What a role has of its own in a service. What it leaves out is the service's.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The role.
    pub role: Arc<str>,
    /// How its connections authenticate to Redis; `None`: as the service says.
    pub credential: Option<Credential>,
    /// Where its password comes from.
    pub password: Option<Password>,
    /// What becomes of its clients' own AUTH.
    pub client_auth: ClientAuth,
    /// The database its connections begin in, if not 0.
    pub database: Option<NonZeroU32>,
    /// Bounds of its own.
    pub limits: RoleLimits,
}

/// Bounds of a role's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoleLimits {
    /// Most connections of the role to the service.
    pub max_connections: Option<NonZeroU32>,
    /// Most connections of one identity in the role to the service.
    pub max_connections_per_identity: Option<NonZeroU32>,
    /// Without a byte from the client.
    pub idle_timeout: Option<Duration>,
    /// From the greeting to the client's first byte.
    pub first_byte_timeout: Option<Duration>,
    /// From the first byte of a command to its last, or to 64 KiB more of it.
    pub half_command_timeout: Option<Duration>,
    /// The age at which a connection is closed.
    pub max_connection_age: Option<Duration>,
    /// Longest word of a command, in bytes.
    pub max_bulk: u64,
    /// Most words of a command.
    pub max_words: NonZeroU32,
    /// Most bytes of one command held until it can be judged.
    pub held_command: usize,
    /// Most bytes that unanswered commands and unread replies of one session may take.
    pub unanswered: usize,
}

impl From<&super::Limits> for RoleLimits {
    fn from(limits: &super::Limits) -> Self {
        Self {
            max_connections: None,
            max_connections_per_identity: limits.max_connections_per_identity,
            idle_timeout: limits.idle_timeout,
            first_byte_timeout: limits.first_byte_timeout,
            half_command_timeout: limits.half_command_timeout,
            max_connection_age: limits.max_connection_age,
            max_bulk: limits.max_bulk,
            max_words: limits.max_words,
            held_command: limits.held_command,
            unanswered: limits.unanswered,
        }
    }
}

/// Where a client's own user and password are looked up.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// In a file.
    Users {
        /// What it holds.
        users: Arc<Users>,
        /// Where it is.
        file: PathBuf,
    },
    /// By a program.
    Helper(Helper),
}

/// A program that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Helper {
    /// The program, an absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Time for an answer.
    pub timeout: Duration,
    /// Most at once.
    pub processes: usize,
    /// How long a success is remembered, if at all.
    pub cache: Option<Duration>,
}
