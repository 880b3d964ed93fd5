//! What ends by itself: certificates, CAs, revocation lists, OCSP responses. One list of them per listener feeds the metric,
//! the log (at the start, at each reload, and once a day while it is near or over) and `check`.

use serde::Serialize;
use std::collections::HashMap;

use super::describe::{DAY, date};

/// Microseconds between two reminders of the same thing.
const REMINDER_US: u64 = 24 * 3600 * 1_000_000;

/// What it is that ends, and what then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A certificate that is shown to clients.
    Server,
    /// A CA of clients; one that is over is left out.
    ClientCa,
    /// A revocation list; one that is over counts for nothing.
    CrlRefusing,
    /// The same, where its clients are let in nevertheless.
    CrlAccepting,
    /// A response to be stapled.
    Ocsp,
    /// The certificate that is shown to Redis, or to the other end of a tunnel.
    Own,
    /// A CA that may have issued theirs.
    FarCa,
    /// A revocation list about theirs; one that is over counts for nothing.
    FarCrlRefusing,
    /// The same, where that is no reason not to believe them.
    FarCrlAccepting,
}

/// One thing that ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct End {
    /// What it is.
    pub kind: Kind,
    /// Its word in the metric: `server`, `client_ca`, `crl`, `ocsp`, with `:NAME` behind it for a further certificate; and
    /// `upstream`, `upstream_ca`, `upstream_crl`.
    pub certificate: String,
    /// Whose it is.
    pub subject: String,
    /// When, in seconds since 1970.
    pub at: i64,
    /// From when on that is worth a word.
    pub warn_from: i64,
}

/// What there is to say of an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Say {
    /// It is near.
    Soon(String),
    /// It is over.
    Over(String),
}

impl End {
    /// What there is to say at this time.
    #[must_use]
    pub fn say(&self, now: i64) -> Option<Say> {
        let (who, when) = (&self.subject, date(self.at));
        let what = match self.kind {
            Kind::Server => format!("the certificate {who}"),
            Kind::ClientCa => format!("the client CA {who}"),
            Kind::CrlRefusing | Kind::CrlAccepting => format!("the revocation list of {who}"),
            Kind::Ocsp => format!("the OCSP response for {who}"),
            Kind::Own => format!("the client certificate {who} (upstream)"),
            Kind::FarCa => format!("the CA {who} (upstream)"),
            Kind::FarCrlRefusing | Kind::FarCrlAccepting => format!("the revocation list of {who} (upstream)"),
        };
        if self.at <= now {
            return Some(Say::Over(match self.kind {
                Kind::Server => format!("{what} expired on {when}; clients will refuse it"),
                Kind::ClientCa => format!("{what} expired on {when} and is no longer trusted"),
                Kind::CrlRefusing => {
                    format!("{what} was due to be renewed on {when}; every client of that CA is refused (crl_expired)")
                }
                Kind::CrlAccepting => format!(
                    "{what} was due to be renewed on {when} and still counts (crl_expired = \"accept\"): whoever was \
                     revoked since then is let in"
                ),
                Kind::Ocsp => format!("{what} ended on {when} and is no longer stapled"),
                Kind::Own => format!("{what} has expired, on {when}; the other end will refuse it"),
                Kind::FarCa => {
                    format!("{what} has expired, on {when}; from the next reload on it is no longer trusted")
                }
                Kind::FarCrlRefusing => format!(
                    "{what} was due to be renewed on {when}; no server of that CA is believed (upstream.tls.crl_expired)"
                ),
                Kind::FarCrlAccepting => format!(
                    "{what} was due to be renewed on {when} and still counts (crl_expired = \"accept\"): a server that was \
                     revoked since then is believed"
                ),
            }));
        }
        if self.warn_from > now {
            return None;
        }
        let days = self.at.saturating_sub(now).div_euclid(DAY);
        Some(Say::Soon(match self.kind {
            Kind::Server | Kind::ClientCa | Kind::Own | Kind::FarCa => format!("{what} expires in {days} days"),
            Kind::CrlRefusing | Kind::CrlAccepting | Kind::Ocsp | Kind::FarCrlRefusing | Kind::FarCrlAccepting => {
                format!("{what} counts until {when}; renew it before")
            }
        }))
    }

    /// Whether `check` fails when it is over. An expired CA beside another, and a list that was declared to count longer,
    /// are warnings.
    #[must_use]
    pub const fn fails(&self) -> bool {
        matches!(self.kind, Kind::Server | Kind::CrlRefusing | Kind::Ocsp | Kind::Own | Kind::FarCrlRefusing)
    }
}

/// When to say something of what ends at `at`, a warning having been asked for so long before. What was `made` to be renewed
/// every day or week (lists, responses) is not to be warned of all its life: its last quarter is soon enough.
pub(super) fn warn_from(made: Option<i64>, at: i64, before: i64) -> i64 {
    let quarter = made.map_or(before, |made| at.saturating_sub(made).max(0) / 4);
    at.saturating_sub(before.min(quarter))
}

/// Which ends were spoken of, and when.
#[derive(Debug, Default)]
pub struct Reminder(HashMap<(String, String, bool), u64>);

impl Reminder {
    /// What there is to say now of these services' ends: what is new, and what was said a day ago. `mono_us` is a clock
    /// that never goes back.
    pub fn due<'a>(
        &mut self,
        ends: impl Iterator<Item = (&'a str, &'a End)>,
        now: i64,
        mono_us: u64,
    ) -> Vec<(String, Say)> {
        let mut said = HashMap::new();
        let mut due = Vec::new();
        for (service, end) in ends {
            let Some(say) = end.say(now) else { continue };
            // Neither the days left nor a renewed copy of the same make it another.
            let key = (service.to_owned(), format!("{} {}", end.certificate, end.subject), matches!(say, Say::Over(_)));
            let last = self.0.get(&key).copied();
            if last.is_none_or(|last| mono_us.saturating_sub(last) >= REMINDER_US) {
                said.insert(key, mono_us);
                due.push((service.to_owned(), say));
            } else {
                said.insert(key, last.unwrap_or(mono_us));
            }
        }
        // What is in order again is new when it comes again.
        self.0 = said;
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;
    const HOUR_US: u64 = 3_600_000_000;

    fn end(kind: Kind, days: i64, before: i64) -> End {
        let at = NOW + days * DAY;
        End {
            kind,
            certificate: "server".to_owned(),
            subject: "CN=x".to_owned(),
            at,
            warn_from: warn_from(None, at, before * DAY),
        }
    }

    #[test]
    fn what_is_near_and_what_is_over_is_said_and_nothing_else() {
        assert_eq!(end(Kind::Server, 15, 14).say(NOW), None);
        assert_eq!(
            end(Kind::Server, 14, 14).say(NOW),
            Some(Say::Soon("the certificate CN=x expires in 14 days".into()))
        );
        for (kind, said) in [
            (Kind::Server, "clients will refuse it"),
            (Kind::ClientCa, "no longer trusted"),
            (Kind::CrlRefusing, "every client of that CA is refused"),
            (Kind::CrlAccepting, "is let in"),
            (Kind::Ocsp, "no longer stapled"),
        ] {
            let Some(Say::Over(text)) = end(kind, 0, 14).say(NOW) else { panic!("{kind:?}") };
            assert!(text.contains(said), "{text}");
        }
    }

    #[test]
    fn what_is_renewed_often_is_warned_of_in_its_last_quarter() {
        assert_eq!(warn_from(None, 100 * DAY, 14 * DAY), 86 * DAY);
        assert_eq!(warn_from(Some(92 * DAY), 100 * DAY, 14 * DAY), 98 * DAY);
        assert_eq!(warn_from(Some(0), 100 * DAY, 14 * DAY), 86 * DAY);
        assert_eq!(warn_from(Some(200 * DAY), 100 * DAY, 14 * DAY), 100 * DAY);
    }

    #[test]
    fn a_reminder_comes_once_a_day_and_at_once_when_something_is_new() {
        let mut reminder = Reminder::default();
        let (near, other) = (end(Kind::Server, 3, 14), end(Kind::Ocsp, 30, 14));
        let mut due = |ends: &[&End], now, hours: u64| {
            reminder.due(ends.iter().map(|end| ("cache", *end)), now, hours * HOUR_US).len()
        };
        assert_eq!(due(&[&near, &other], NOW, 0), 1);
        assert_eq!(due(&[&near, &other], NOW, 1), 0);
        assert_eq!(due(&[&near, &other], NOW + DAY, 24), 1);
        assert_eq!(due(&[&near], NOW + DAY, 47), 0);
        // It is over: that is something new, and a day later it is said again.
        assert_eq!(due(&[&near], NOW + 3 * DAY, 47), 1);
        assert_eq!(due(&[&near], NOW + 4 * DAY, 71), 1);
        // Renewed, and near again.
        assert_eq!(due(&[&other], NOW, 72), 0);
        assert_eq!(due(&[&near], NOW, 73), 1);
    }
}
