//! Tickets: the slots of a session as its lane knows them, and the counts of live subscriptions.

use super::stream::Stream;
use crate::command::PubSub;

/// One promised reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// What ends it.
    pub closes: Closes,
    /// Set for a command of the proxy's own; its reply never reaches the client.
    pub own: Option<Own>,
}

/// What ends a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closes {
    /// One reply of any class.
    Reply,
    /// One reply, whose direct elements' classes are wanted (EXEC).
    Elements,
    /// This many confirmations of a subscription, or one error in their place.
    Subscribed(PubSub, u32),
    /// This many confirmations of the end of a subscription, or one error (Valkey's `-NOSUB`).
    Unsubscribed(PubSub, u32),
    /// One confirmation per subscription of the kind that is live when the first one comes, at least one; or one error.
    UnsubscribedAll(PubSub),
    /// The beginning of a stream, or one error in its place.
    Stream(Stream),
}

/// A command of the proxy's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// PING before AUTH: Redis must refuse it, or it asks nobody for a password.
    Probe,
    /// AUTH.
    Auth,
    /// SELECT of the database that the connection begins in.
    Select,
    /// HELLO 3, before the second connection of a client that speaks RESP3.
    Hello,
    /// CLIENT SETNAME.
    SetName,
}

impl Own {
    /// The name in `upstream_command` records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Probe => "PING",
            Self::Auth => "AUTH",
            Self::Select => "SELECT",
            Self::Hello => "HELLO",
            Self::SetName => "CLIENT|SETNAME",
        }
    }
}

/// Live subscriptions by kind, as confirmed by Redis.
///
/// Redis' confirmations carry a running total (channels and patterns together, shard channels apart), so the count of
/// each kind follows from the differences: an unsubscribe without names is answered once per live subscription of
/// its kind, and this is how many that will be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscriptions {
    channels: u64,
    patterns: u64,
    shards: u64,
}

impl Subscriptions {
    /// Whether any subscription is live: in RESP2 the connection is then in subscriber mode.
    #[must_use]
    pub const fn any(&self) -> bool {
        self.channels > 0 || self.patterns > 0 || self.shards > 0
    }

    /// Live subscriptions of one kind.
    #[must_use]
    pub const fn of(&self, kind: PubSub) -> u64 {
        match kind {
            PubSub::Channel => self.channels,
            PubSub::Pattern => self.patterns,
            PubSub::Shard => self.shards,
        }
    }

    const fn total(&self, kind: PubSub) -> u64 {
        match kind {
            PubSub::Channel | PubSub::Pattern => self.channels.saturating_add(self.patterns),
            PubSub::Shard => self.shards,
        }
    }

    fn slot(&mut self, kind: PubSub) -> &mut u64 {
        match kind {
            PubSub::Channel => &mut self.channels,
            PubSub::Pattern => &mut self.patterns,
            PubSub::Shard => &mut self.shards,
        }
    }

    /// Takes a confirmation in: Redis says that `total` subscriptions are live now. False if that does not follow from
    /// what was live before.
    pub fn confirm(&mut self, kind: PubSub, subscribed: bool, total: u64) -> bool {
        let before = self.total(kind);
        if total == before {
            return true;
        }
        let one = self.slot(kind);
        if subscribed && total == before.saturating_add(1) {
            *one = one.saturating_add(1);
            true
        } else if !subscribed && total.saturating_add(1) == before && *one > 0 {
            *one = one.saturating_sub(1);
            true
        } else {
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Subscriptions;
    use crate::command::PubSub::{Channel, Pattern, Shard};

    #[test]
    fn kinds_are_told_apart_by_the_running_total() {
        let mut live = Subscriptions::default();
        for (kind, subscribed, total) in [
            (Channel, true, 1),
            (Pattern, true, 2),
            (Channel, true, 2), // a repeat: the total stays
            (Pattern, true, 3),
            (Shard, true, 1),
            (Channel, false, 2),
            (Channel, false, 2), // not subscribed any more
        ] {
            assert!(live.confirm(kind, subscribed, total), "{kind:?} {subscribed} {total}");
        }
        assert_eq!((live.of(Channel), live.of(Pattern), live.of(Shard)), (0, 2, 1));
    }

    #[test]
    fn a_total_that_does_not_follow_is_refused() {
        let mut live = Subscriptions::default();
        assert!(!live.confirm(Channel, true, 2));
        assert!(live.confirm(Pattern, true, 1));
        assert!(!live.confirm(Channel, false, 0), "no channel was subscribed that could have ended");
    }
}
