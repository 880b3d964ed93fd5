//! A client's own AUTH, where the shell looks it up: what is asked, and what was answered.
//!
//! The command stays at the front of the input, unconsumed, until the answer has come; then it is judged again and finds
//! the answer waiting. So nothing behind it is looked at before, and its reply has its place without a slot that waits.
//!
//! ```text
//!   None ──AUTH──► New ──take_ask──► Pending ──answer──► Answered ──AUTH again──► None
//! ```

use super::{
    End, Turn,
    accept::{Flow, Source},
    error::CloseReason,
    gather::Gather,
    local::Local,
    machine::{ClientAuth, SessionConfig},
    renewal::Passwords,
    state::{Core, UNREAD_MAX},
};
use crate::{
    audit::{encode::ConnectionFacts, event::AuthVerdict, record::ConnectionEvent},
    command::{CommandId, Effect, Resolved},
    lane::{Lane, machine::Protocol},
    policy::{RuleId, identity::AuthenticatedPeer},
    resp::Words,
    secret::Secret,
};
use std::sync::Arc;

/// The user Redis means by an AUTH with one argument.
const DEFAULT_USER: &[u8] = b"default";

/// A user and a password that a client has given.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The user's name. It may be a password that somebody put in the wrong place.
    pub user: Secret,
    /// The password.
    pub password: Secret,
    /// Whether a right one is to give the client another role: then nothing is owed, and [`Answer::Selected`] may come.
    pub selects: bool,
}

/// What the shell found out about it.
#[derive(Clone, Debug)]
pub enum Answer {
    /// They are right.
    Granted,
    /// They are right, and the client has another role from now on, before another connection to Redis, which has just been
    /// made and on which nothing was said yet.
    Selected(Box<Selected>),
    /// They are not.
    Denied,
    /// They are not, or were not looked at, because whoever asks is banned: the connection ends. With it how many
    /// microseconds the ban lasts that begins now, and 0 if it had begun before.
    Banned(u64),
    /// Nobody can say: the helper does not answer, or has failed.
    Unavailable,
}

/// What a session becomes when its client has another role.
#[derive(Clone, Debug)]
pub struct Selected {
    /// The client with its new role.
    pub peer: AuthenticatedPeer,
    /// What its records say from now on.
    pub facts: ConnectionFacts,
    /// What its sessions are told.
    pub config: Arc<SessionConfig>,
}

/// Where an inquiry stands.
#[derive(Debug, Default)]
pub(super) enum Inquiry {
    #[default]
    None,
    New(Box<Ask>),
    Pending,
    Answered(Answer),
}

impl Inquiry {
    /// Whether the shell is to be asked, or has not answered yet.
    pub(super) const fn waits(&self) -> bool {
        matches!(self, Self::New(_) | Self::Pending)
    }

    pub(super) const fn is_new(&self) -> bool {
        matches!(self, Self::New(_))
    }

    pub(super) fn take(&mut self) -> Option<Ask> {
        if !self.is_new() {
            return None;
        }
        match std::mem::replace(self, Self::Pending) {
            Self::New(ask) => Some(*ask),
            _ => None,
        }
    }

    pub(super) fn answer(&mut self, answer: Answer) {
        if matches!(self, Self::Pending) {
            *self = Self::Answered(answer);
        }
    }

    /// Whether the command at the front of the input has its answer already, whatever its role and policy have become.
    pub(super) const fn is_answered(&self) -> bool {
        matches!(self, Self::Answered(_))
    }

    /// Whether nothing is asked, and no answer waits to be taken.
    pub(super) const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(super) const fn is_pending(&self) -> bool {
        matches!(self, Self::Pending)
    }
}

/// Whether a client that must authenticate first may say this before.
pub(super) const fn comes_before_authentication(effect: Effect) -> bool {
    matches!(effect, Effect::Auth | Effect::Hello | Effect::Quit | Effect::Reset)
}

impl Core {
    /// AUTH.
    pub(super) fn auth(
        &mut self,
        id: CommandId,
        words: &Words<'_>,
        source: &Source,
        turn: &mut Turn<'_>,
        down: &mut Gather<'_>,
    ) -> Flow {
        let resolved = Resolved::Known(id);
        let (name, argc) = (id.entry().name, words.declared());
        let mode = self.config.client_auth;
        if mode == ClientAuth::Refuse && !self.inquiry.is_answered() {
            self.record_auth(AuthVerdict::Deny, name, turn);
            return self.deny(RuleId::AUTHENTICATION, Local::AuthRefused, resolved, words, source, turn);
        }
        let wrong = if !id.entry().accepts_arity(argc) {
            Some(Local::Arity)
        } else if self.tx.intended {
            Some(Local::InTransaction)
        } else if argc > 3 {
            Some(Local::Syntax)
        } else if source.is_stream() {
            Some(Local::TooLarge)
        } else {
            None
        };
        if let Some(local) = wrong {
            self.record_auth(AuthVerdict::Deny, name, turn);
            return self.deny(RuleId::AUTHENTICATION, local, resolved, words, source, turn);
        }
        if mode == ClientAuth::Ignore && !self.inquiry.is_answered() {
            self.record_auth(AuthVerdict::Ignore, name, turn);
            return self.answer(id, Local::Ok, argc, source, turn);
        }
        let (user, password) = match (words.get(1), words.get(2)) {
            (Some(user), Some(password)) => (user, password),
            (Some(password), None) => (DEFAULT_USER, password),
            (None, _) => return self.deny(RuleId::AUTHENTICATION, Local::Arity, resolved, words, source, turn),
        };
        match self.look_up(id, (user, password), words, source, turn, down) {
            Ok(()) => self.answer(id, Local::Ok, argc, source, turn),
            Err(flow) => flow,
        }
    }

    /// Asks the shell about a credential, or takes what it has answered: `Ok` if it is right, otherwise what becomes of the
    /// command that carries it.
    pub(super) fn look_up(
        &mut self,
        id: CommandId,
        (user, password): (&[u8], &[u8]),
        words: &Words<'_>,
        source: &Source,
        turn: &mut Turn<'_>,
        down: &mut Gather<'_>,
    ) -> Result<(), Flow> {
        let name = id.entry().name;
        let answer = match std::mem::take(&mut self.inquiry) {
            Inquiry::Answered(answer) => answer,
            Inquiry::None => {
                // What is answered here needs nobody's answer; were it left to the end of the turn, nobody would call again.
                self.release(UNREAD_MAX, turn, down);
                if self.config.client_auth == ClientAuth::Select {
                    if !self.slots.is_empty() {
                        // Another role is another connection: what is owed on this one is answered first.
                        self.wait_for_empty = true;
                        return Err(Flow::Wait);
                    }
                    if self.watching || self.lane.subscribed() {
                        self.record_auth(AuthVerdict::Deny, name, turn);
                        let (rule, resolved) = (RuleId::AUTHENTICATION, Resolved::Known(id));
                        return Err(self.deny(rule, Local::HoldsState, resolved, words, source, turn));
                    }
                }
                let secret = |word: &[u8]| Secret::new(word.to_vec());
                let selects = self.config.client_auth == ClientAuth::Select;
                self.inquiry = Inquiry::New(Box::new(Ask { user: secret(user), password: secret(password), selects }));
                return Err(Flow::Wait);
            }
            waiting => {
                self.inquiry = waiting;
                return Err(Flow::Wait);
            }
        };
        let banned = if let Answer::Banned(us) = answer { Some(us) } else { None };
        let (verdict, local) = match answer {
            Answer::Granted | Answer::Selected(_) => {
                self.authenticated = true;
                self.record_auth(AuthVerdict::Allow, name, turn);
                return Ok(());
            }
            Answer::Denied | Answer::Banned(_) => (AuthVerdict::Deny, Local::WrongPass),
            Answer::Unavailable => (AuthVerdict::Unavailable, Local::AuthUnavailable),
        };
        self.record_auth(verdict, name, turn);
        let flow = self.deny(RuleId::AUTHENTICATION, local, Resolved::Known(id), words, source, turn);
        if let Some(us) = banned {
            if us > 0 {
                turn.recorder.connection(turn.now, &self.facts, &ConnectionEvent::Ban { us });
            }
            self.wind_down(CloseReason::Banned);
        }
        Err(flow)
    }

    /// The client has another role, and the upstream is another connection: it is greeted as the first one was, and spoken
    /// to in the protocol that the client speaks. Nothing is owed and nothing watched; what else was said about the old
    /// connection (its name, tracking) is gone with it.
    pub(super) fn become_selected(&mut self, selected: Selected, turn: &mut Turn<'_>, up: &mut Gather<'_>) {
        if !self.slots.is_empty() || !self.lane.at_boundary() {
            // A push of the old connection has begun and its rest will never come; what is owed would not either.
            self.finish(
                CloseReason::UpstreamClosed,
                "another role was selected in the middle of a message",
                End::Abort,
            );
            return;
        }
        let resp3 = self.lane.protocol() == Protocol::Resp3;
        self.peer = selected.peer;
        self.facts = selected.facts;
        self.config = selected.config;
        self.renewed = None;
        self.passwords = Passwords::default();
        self.lane = Lane::new(self.config.reply);
        self.db = 0;
        self.own_id = None;
        self.selects_open = 0;
        self.has_subscribed = false;
        self.barrier = true;
        self.regreeting = true;
        self.authenticated = true;
        self.greet_again(true, resp3, turn, up);
    }

    pub(super) fn record_auth(&self, verdict: AuthVerdict, method: &'static str, turn: &mut Turn<'_>) {
        turn.recorder.connection(turn.now, &self.facts, &ConnectionEvent::Authentication { verdict, method });
    }
}
