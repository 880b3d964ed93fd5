//! A client's own AUTH, where the shell looks it up: what is asked, and what was answered.
//!
//! The command stays at the front of the input, unconsumed, until the answer has come; then it is judged again and finds
//! the answer waiting. So nothing behind it is looked at before, and its reply has its place without a slot that waits.
//!
//! ```text
//!   None ──AUTH──► New ──take_ask──► Pending ──answer──► Answered ──AUTH again──► None
//! ```

use super::{
    Turn,
    accept::{Flow, Source},
    error::CloseReason,
    gather::Gather,
    local::Local,
    machine::ClientAuth,
    state::{Core, UNREAD_MAX},
};
use crate::{
    audit::event::AuthVerdict,
    audit::record::ConnectionEvent,
    command::{CommandId, Effect, Resolved},
    policy::RuleId,
    resp::Words,
    secret::Secret,
};

/// The user Redis means by an AUTH with one argument.
const DEFAULT_USER: &[u8] = b"default";

/// A user and a password that a client has given.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The user's name. It may be a password that somebody put in the wrong place.
    pub user: Secret,
    /// The password.
    pub password: Secret,
}

/// What the shell found out about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// They are right.
    Granted,
    /// They are not.
    Denied,
    /// They are not, or were not looked at, because whoever asks is banned: the connection ends.
    Banned,
    /// Nobody can say: the helper does not answer, or has failed.
    Unavailable,
}

/// Where an inquiry stands.
#[derive(Debug, Default)]
pub(super) enum Inquiry {
    #[default]
    None,
    New(Ask),
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
            Self::New(ask) => Some(ask),
            _ => None,
        }
    }

    pub(super) fn answer(&mut self, answer: Answer) {
        if matches!(self, Self::Pending) {
            *self = Self::Answered(answer);
        }
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
        if mode == ClientAuth::Refuse {
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
        if mode == ClientAuth::Ignore {
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
                let secret = |word: &[u8]| Secret::new(word.to_vec());
                self.inquiry = Inquiry::New(Ask { user: secret(user), password: secret(password) });
                return Err(Flow::Wait);
            }
            waiting => {
                self.inquiry = waiting;
                return Err(Flow::Wait);
            }
        };
        let (verdict, local) = match answer {
            Answer::Granted => {
                self.authenticated = true;
                self.record_auth(AuthVerdict::Allow, name, turn);
                return Ok(());
            }
            Answer::Denied | Answer::Banned => (AuthVerdict::Deny, Local::WrongPass),
            Answer::Unavailable => (AuthVerdict::Unavailable, Local::AuthUnavailable),
        };
        self.record_auth(verdict, name, turn);
        let flow = self.deny(RuleId::AUTHENTICATION, local, Resolved::Known(id), words, source, turn);
        if answer == Answer::Banned {
            self.wind_down(CloseReason::Banned);
        }
        Err(flow)
    }

    pub(super) fn record_auth(&self, verdict: AuthVerdict, method: &'static str, turn: &mut Turn<'_>) {
        turn.recorder.connection(turn.now, &self.facts, &ConnectionEvent::Authentication { verdict, method });
    }
}
