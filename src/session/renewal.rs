//! What a reload changes for a connection that stays, and which password Redis is given.
//!
//! Bounds, timeouts and what records keep are the new ones at once. Another policy (its role has other rules, or its
//! certificate has another role now) judges from the first command on that finds no command of before unanswered: each is
//! judged, answered and recorded by one policy. Until then nothing more is accepted, so that nothing gets past either.
//!
//! | the connection | what becomes of it |
//! |---|---|
//! | at rest | the next command is judged anew |
//! | commands are unanswered | the next one waits for their replies |
//! | in MULTI | what was queued might be denied now: the transaction is spoilt, and EXEC answers `-EXECABORT` |
//! | a stream (MONITOR, PSYNC) that the new policy denies | it ends |
//! | in a database that is not its role's | it ends |

use super::{
    Turn,
    error::CloseReason,
    gather::Gather,
    machine::{ClientAuth, Session, SessionConfig},
    state::{Core, Phase, Streaming},
};
use crate::{
    audit::{encode::ConnectionFacts, record::ConnectionEvent},
    lane::Own,
    policy::identity::AuthenticatedPeer,
};
use std::sync::Arc;

/// A connection as a reload sees it now.
#[derive(Clone, Debug)]
pub struct Renewal {
    /// The same peer, with its role as it is now.
    pub peer: AuthenticatedPeer,
    /// What its records say from now on.
    pub facts: ConnectionFacts,
    /// What its sessions are told.
    pub config: Arc<SessionConfig>,
}

/// What is to come into force once nothing is owed.
#[derive(Debug)]
pub(super) struct Next {
    peer: AuthenticatedPeer,
    facts: ConnectionFacts,
}

/// Which of the passwords Redis is given.
#[derive(Debug, Default)]
pub(super) struct Passwords {
    /// Its number: 0, or one of the others.
    pub(super) current: usize,
    /// How many were refused in a row.
    tried: usize,
    /// One was refused; what stands behind its AUTH is refused with it, and then another one is tried.
    again: bool,
    /// The greeting asks for RESP3.
    pub(super) resp3: bool,
    /// Redis takes none of them.
    pub(super) refused: bool,
}

impl Passwords {
    pub(super) const fn accepted(&mut self) {
        self.tried = 0;
    }
}

impl Session {
    /// A reload left this peer its right to be here but may have changed what it may say: see [`self`](super::renewal).
    /// The shell calls [`Session::resume`] next, so that what follows from it happens at once.
    pub fn renew(&mut self, renewal: Renewal) {
        let Renewal { peer, facts, config } = renewal;
        self.parser.set_limits(config.request);
        let core = &mut self.core;
        core.reconfigure(config);
        let same_role = peer.role().name == core.peer.role().name;
        if same_role && peer.policy() == core.peer.policy() {
            // One that an earlier reload brought, and that still waits, is out of date as well.
            core.renewed = None;
            core.facts = facts.in_place_of(&core.facts);
            return;
        }
        if core.loses_stream(peer.policy()) {
            // It cannot be waited for. The shell calls again at once, for the deadline is due.
            core.wind_down(CloseReason::Revoked);
        }
        core.tx.deny();
        core.wait_for_empty = true;
        core.renewed = Some(Box::new(Next { peer, facts }));
        // The slot of a replication stream is open for as long as the connection; nothing is judged behind it.
        if core.slots.is_empty() || core.streaming == Streaming::Replica {
            core.put_in_force();
        }
    }

    /// The connection is old enough to go: it does, as in [`Session::drain`], unless it is in the middle of something that
    /// only its client can end. Then nothing happens, and the shell asks again later.
    pub fn retire(&mut self, reason: CloseReason, turn: &mut Turn<'_>, down: &mut Gather<'_>) {
        let core = &mut self.core;
        let busy = core.tx.intended
            || core.watching
            || core.waits_upstream()
            || core.streaming != Streaming::No
            || core.begun.is_some()
            || core.inquiry.waits()
            || core.leftover > 0;
        if !busy {
            core.wind_down(reason);
            core.settle(turn, down);
        }
    }

    /// Whether it ended because Redis takes none of the passwords, or does not ask for one.
    #[must_use]
    pub const fn was_refused(&self) -> bool {
        self.core.passwords.refused
    }
}

impl Core {
    /// Takes over what sessions of its role are told now.
    fn reconfigure(&mut self, config: Arc<SessionConfig>) {
        if config.client_auth != ClientAuth::Verify {
            // Nobody asks any more.
            self.authenticated = true;
        }
        self.passwords.current = 0;
        self.config = config;
        if self.partial.is_none() {
            // Without such a limit nobody has noted that a command has begun; the last of its bytes is known.
            self.note_partial(0, self.last_input_us);
        }
    }

    pub(super) fn put_in_force(&mut self) {
        self.wait_for_empty = false;
        let Some(next) = self.renewed.take() else { return };
        let Next { peer, facts } = *next;
        if peer.role().name != self.peer.role().name && self.phase == Phase::Open {
            self.was.get_or_insert_with(|| self.peer.role().name.as_str().into());
        }
        self.peer = peer;
        self.facts = facts.in_place_of(&self.facts);
        if self.peer.policy().databases().is_some_and(|databases| !databases.allow(self.db)) {
            // It stands in a database that is its role's no longer, and nobody but itself could lead it out.
            self.wind_down(CloseReason::Revoked);
        }
    }

    /// Records that the connection has another role.
    #[cold]
    pub(super) fn tell_role(&mut self, turn: &mut Turn<'_>) {
        if let Some(was) = self.was.take().filter(|_| self.phase != Phase::Done) {
            turn.recorder.connection(turn.now, &self.facts, &ConnectionEvent::RoleChanged { was: &was });
        }
    }

    /// Whether an answer to the greeting is one that leads to a greeting with another password.
    pub(super) fn tries_another_password(
        &mut self,
        own: Own,
        ok: bool,
        turn: &mut Turn<'_>,
        up: &mut Gather<'_>,
    ) -> bool {
        let count = self.config.greeting.passwords();
        if own == Own::Auth && !ok && !self.passwords.again {
            self.passwords.tried = self.passwords.tried.saturating_add(1);
            self.passwords.again = self.passwords.tried < count;
        }
        if !self.passwords.again {
            return false;
        }
        if self.lane.owed() == 0 {
            self.passwords.again = false;
            self.passwords.current = self.passwords.current.saturating_add(1).checked_rem(count).unwrap_or(0);
            self.greet_again(false, self.passwords.resp3, turn, up);
        }
        true
    }
}
