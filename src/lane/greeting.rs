//! What a lane says to Redis before any client's command.

use crate::secret::Secret;

/// The credential and name of an upstream connection.
#[derive(Debug, Clone)]
pub struct Greeting {
    /// `AUTH` with these, or none (`auth = "none"`).
    pub credential: Option<Credential>,
    /// Whether the connection is named (CLIENT SETNAME) after its client, so that CLIENT LIST shows whose it is.
    pub set_name: bool,
}

/// What AUTH is given.
#[derive(Debug, Clone)]
pub struct Credential {
    /// A user's name (Redis 6 and later), or none for the old one-argument form.
    pub username: Option<String>,
    /// The password.
    pub password: Secret,
}
