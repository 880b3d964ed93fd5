//! What a lane says to Redis before any client's command.

use super::tickets::{Closes, Own, Ticket};
use crate::{resp::encode, secret::Secret};
use std::num::NonZeroU32;

/// The credential and name of an upstream connection.
#[derive(Debug, Clone)]
pub struct Greeting {
    /// `AUTH` with these, or none (`auth = "none"`).
    pub credential: Option<Credential>,
    /// The database that is selected at once, if not the one in which every connection begins.
    pub database: Option<NonZeroU32>,
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
    /// What else may be tried where that is refused, each once: the one before it, the one behind it.
    pub others: Vec<Secret>,
}

impl Greeting {
    /// The same with another password in place: number 1 is the first of [`Credential::others`].
    #[must_use]
    pub fn trying(&self, number: usize) -> Option<Self> {
        let credential = self.credential.as_ref()?;
        let password = credential.others.get(number.checked_sub(1)?)?.clone();
        let credential = Credential { username: credential.username.clone(), password, others: Vec::new() };
        Some(Self { credential: Some(credential), ..self.clone() })
    }

    /// How many passwords may be tried.
    #[must_use]
    pub fn passwords(&self) -> usize {
        self.credential.as_ref().map_or(0, |credential| credential.others.len().saturating_add(1))
    }

    /// Encodes the greeting onto `out`, one ticket per command onto `tickets`.
    ///
    /// With a credential the first command is a PING that Redis must refuse (`-NOAUTH`, or `-NOPERM` where the default
    /// user is on but may do nothing): `AUTH default anything` succeeds on a Redis that asks nobody for a password,
    /// so AUTH's `+OK` alone does not tell a protected Redis from an open one. `probe` is false after RESET, when that
    /// is known.
    pub fn encode(&self, name: &str, probe: bool, out: &mut Vec<u8>, tickets: &mut Vec<Ticket>) {
        let mut own = |own| tickets.push(Ticket { closes: Closes::Reply, own: Some(own) });
        if let Some(credential) = &self.credential {
            if probe {
                encode::command(out, &[b"PING"]);
                own(Own::Probe);
            }
            match &credential.username {
                Some(user) => encode::command(out, &[b"AUTH", user.as_bytes(), credential.password.expose()]),
                None => encode::command(out, &[b"AUTH", credential.password.expose()]),
            }
            own(Own::Auth);
        }
        if let Some(db) = self.database {
            encode::command(out, &[b"SELECT", db.to_string().as_bytes()]);
            own(Own::Select);
        }
        if self.set_name {
            encode::command(out, &[b"CLIENT", b"SETNAME", &client_name(name)]);
            own(Own::SetName);
        }
    }

    /// Encodes what a look at Redis says: AUTH with the credential, if there is one, its name, and PING. It is told whether
    /// Redis is ready, and not whether it is open.
    pub fn encode_check(&self, name: &str, out: &mut Vec<u8>, tickets: &mut Vec<Ticket>) {
        let own = |own| Ticket { closes: Closes::Reply, own: Some(own) };
        let anywhere = Self { database: None, ..self.clone() };
        anywhere.encode(name, false, out, tickets);
        // Last: where a replica without its master refuses everything, AUTH was answered first.
        encode::command(out, &[b"PING"]);
        tickets.push(own(Own::Probe));
    }
}

/// A name that CLIENT SETNAME takes: printable ASCII without blanks (Redis' `clientSetNameOrReply`), at most 128 bytes.
fn client_name(name: &str) -> Vec<u8> {
    let mut out = b"ravelin:".to_vec();
    out.extend(name.bytes().take(120).map(|byte| if byte.is_ascii_graphic() { byte } else { b'_' }));
    out
}

#[cfg(test)]
mod tests {
    use super::{Credential, Greeting};
    use crate::{lane::tickets::Own, secret::Secret};

    fn greet(username: Option<&str>, probe: bool, set_name: bool) -> (String, Vec<Own>) {
        let password = Secret::new(b"p w\"\\".to_vec());
        let greeting = Greeting {
            credential: Some(Credential { username: username.map(str::to_owned), password, others: Vec::new() }),
            database: std::num::NonZeroU32::new(7).filter(|_| probe),
            set_name,
        };
        let (mut out, mut tickets) = (Vec::new(), Vec::new());
        greeting.encode("spiffe://prod/ü app", probe, &mut out, &mut tickets);
        (String::from_utf8(out).unwrap(), tickets.into_iter().filter_map(|ticket| ticket.own).collect())
    }

    #[test]
    fn password_bytes_go_up_exactly() {
        assert_eq!(greet(None, false, false).0, "*2\r\n$4\r\nAUTH\r\n$5\r\np w\"\\\r\n");
        assert_eq!(greet(Some("u"), false, false).0, "*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$5\r\np w\"\\\r\n");
    }

    #[test]
    fn probe_comes_before_auth_and_the_name_after_it() {
        let (bytes, own) = greet(None, true, true);
        assert_eq!(own, [Own::Probe, Own::Auth, Own::Select, Own::SetName]);
        assert!(bytes.contains("\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n7\r\n*3\r\n"), "{bytes}");
        assert!(bytes.ends_with("$7\r\nSETNAME\r\n$28\r\nravelin:spiffe://prod/___app\r\n"), "{bytes}");
    }
}
