//! What would become of one command: judged by the session itself, without a connection.
//!
//! `ravelin explain` must say what the proxy does, not what another reading of the rules would. So a command is given to the
//! very function that judges a client's, and what it made of it is looked at.

use super::{
    MemoryBudget, Turn,
    gather::Gather,
    local::Local,
    slots::Kind,
    state::{Core, Phase},
};
use crate::{
    audit::{encode::ConnectionFacts, record::Recorder},
    command,
    moment::Moment,
    policy::{RuleId, identity::AuthenticatedPeer},
    resp::{
        encode,
        request::{Request, RequestParser},
    },
};
use std::sync::Arc;

pub use super::machine::SessionConfig;

/// Enough for any record.
const PEN: usize = 1 << 20;

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes up.
    Forwarded,
    /// The proxy answers it itself, with success.
    Answered,
    /// It is denied.
    Denied,
    /// It is no request: the client is told so and closed.
    NotARequest,
}

/// What becomes of a command, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// What becomes of it.
    pub fate: Fate,
    /// Name of the catalog's row, as Redis writes it (`config|set`), if it has one.
    pub command: Option<&'static str>,
    /// The rule that denied it, or that would were it not in shadow mode.
    pub rule: Option<RuleId>,
    /// What the client is told in Redis' place, without `-` or `+` and line end.
    pub reply: Option<String>,
}

/// Says what would become of `words`, said alone and outside of a transaction on a new connection of `peer` in database
/// `db`, in RESP2.
#[must_use]
pub fn judge(config: &Arc<SessionConfig>, peer: &AuthenticatedPeer, db: u32, words: &[&[u8]]) -> Ruling {
    let mut input = Vec::new();
    encode::command(&mut input, words);
    let mut parser = RequestParser::new(config.request);
    let request = parser.next(&input);
    let parsed = parser.words(&input);
    let resolved = command::resolve(&parsed);
    let known = match resolved {
        command::Resolved::Known(id) => Some(id.entry().full_name),
        _ => None,
    };
    let source = match request {
        Ok(Request::Command { len }) => super::accept::Source::Input { at: 0, len },
        Ok(Request::More | Request::Blank { .. } | Request::Inline { .. }) | Err(_) => {
            let text = request.err().map_or_else(|| "there is no word in it".to_owned(), |error| error.to_string());
            let reply = Some(format!("ERR Protocol error: {text}"));
            return Ruling { fate: Fate::NotARequest, command: known, rule: None, reply };
        }
    };
    let now = Moment::default();
    let facts = ConnectionFacts::new("explain", peer.service(), peer.src(), "", &peer.role().name, None);
    let (mut recorder, mut memory) = (Recorder::new(0, PEN), MemoryBudget::new(u64::MAX));
    let mut turn = Turn { now, recorder: &mut recorder, memory: &mut memory, down_pending: 0, up_pending: 0 };
    let mut core = Core::new(Arc::clone(config), peer.clone(), facts, now);
    core.phase = Phase::Open;
    core.db = db;
    // What is asked about is what policy says of somebody who has authenticated.
    core.authenticated = true;
    let (mut up, mut down) = (Gather::new(&input, Vec::new()), Gather::new(&[], Vec::new()));
    core.accept(resolved, &parsed, source, &mut turn, &mut up, &mut down);
    let Some(slot) = core.slots.back_mut().copied() else {
        // What ends the connection has no slot of its own.
        return Ruling { fate: Fate::Answered, command: known, rule: None, reply: None };
    };
    let denied = slot.denied_by().is_some();
    let mut reply = Vec::new();
    if let Kind::Local(local) = slot.kind {
        let words = core.slots.back_words();
        let name = if local == Local::Rendered { words } else { super::slots::name_of(words).0 };
        local.encode(slot.command(), name, &mut reply);
    }
    let reply = String::from_utf8_lossy(reply.get(1..).unwrap_or_default()).trim_end().to_owned();
    let ours = matches!(slot.kind, Kind::Local(_));
    Ruling {
        fate: match (denied, ours) {
            (true, _) => Fate::Denied,
            (false, true) => Fate::Answered,
            (false, false) => Fate::Forwarded,
        },
        command: known,
        rule: slot.denied_by().or(slot.shadowed_by()),
        reply: (ours && !reply.is_empty()).then_some(reply),
    }
}

#[cfg(test)]
mod tests {
    use super::super::script::{Setup, peer};
    use super::*;

    fn ruling(line: &str) -> (Fate, Option<String>, Option<String>) {
        let peer = peer(&["FLUSHALL", "CONFIG|SET"]);
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let ruling = judge(&Arc::new(Setup::default().config), &peer, 0, &words);
        let rule = ruling.rule.map(|rule| peer.policy().rule_name(rule).to_owned());
        (ruling.fate, rule, ruling.reply)
    }

    #[test]
    fn a_command_is_told_as_the_session_deals_with_it() {
        let deny = |rule: &str, reply: &str| (Fate::Denied, Some(rule.to_owned()), Some(reply.to_owned()));
        for line in
            ["GET a", "get a", "BLPOP a 0", "CONFIG GET x", "SELECT 1", "MULTI", "SUBSCRIBE a", "HELLO 3", "EXEC"]
        {
            assert_eq!(ruling(line), (Fate::Forwarded, None, None), "{line}");
        }
        assert_eq!(ruling("QUIT").0, Fate::Answered);
        assert_eq!(ruling("CLIENT REPLY ON"), (Fate::Answered, None, Some("OK".to_owned())));
        let noperm = |name| format!("NOPERM this user has no permissions to run the '{name}' command");
        assert_eq!(ruling("flushall"), deny("deny:FLUSHALL", &noperm("flushall")));
        assert_eq!(ruling("CONFIG SET dir /tmp"), deny("deny:CONFIG|SET", &noperm("config|set")));
        assert_eq!(ruling("NOSUCH x"), deny("builtin/unknown-command", &noperm("NOSUCH")));
        assert_eq!(ruling("ACL NOSUCH").1.as_deref(), Some("builtin/unknown-command"));
        assert_eq!(ruling("SELECT +1").1.as_deref(), Some("builtin/not-canonical"));
        assert_eq!(ruling("AUTH x").1.as_deref(), Some("builtin/authentication"));
        assert_eq!(ruling("FLUSH\0ALL").1.as_deref(), Some("builtin/not-a-name"));
    }

    #[test]
    fn what_is_over_a_limit_is_no_request() {
        let mut config = Setup::default().config;
        config.request.words_max = 3;
        let ruling = judge(&Arc::new(config), &peer(&[]), 0, &[b"DEL", b"a", b"b", b"c"]);
        assert_eq!(ruling.fate, Fate::NotARequest);
        assert!(ruling.reply.unwrap().starts_with("ERR Protocol error: "));
    }
}
