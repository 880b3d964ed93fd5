//! The state machine of one client's connection.

use super::{Turn, Wants, error::CloseReason, gather::Gather};
use crate::{
    audit::encode::ConnectionFacts,
    lane::greeting::Greeting,
    policy::identity::AuthenticatedPeer,
    resp::{reply::ReplyLimits, request::RequestLimits},
};
use std::sync::Arc;

/// What is the same for every session of a service; immutable, swapped whole at a reload.
#[derive(Debug)]
pub struct SessionConfig {
    /// Bounds on a request.
    pub request: RequestLimits,
    /// Bounds on a reply.
    pub reply: ReplyLimits,
    /// Commands up to this many bytes are forwarded only whole (64 KiB).
    pub stream_from: u64,
    /// Most bytes of one command that are held until it can be judged (`limits.held_command`).
    pub held_command_max: usize,
    /// Most bytes that unanswered commands and unread local replies of one session may take (`limits.unanswered`).
    pub unanswered_max: usize,
    /// The session ends after this long without a byte from the client, in microseconds; 0 for never. Never applies
    /// while a command is blocking or a subscription or stream is live.
    pub idle_timeout_us: u64,
    /// A client's own AUTH and HELLO AUTH: accepted and ignored if true, refused if false.
    pub ignore_client_auth: bool,
    /// Whether records show keys.
    pub show_keys: bool,
    /// How the lane greets Redis: AUTH, the connection's name.
    pub greeting: Greeting,
}

/// One client's side of a connection, and the lane it owns.
#[derive(Debug)]
pub struct Session {}

impl Session {
    /// A session for a peer that is in; the upstream is not connected yet.
    #[must_use]
    pub fn new(config: Arc<SessionConfig>, peer: AuthenticatedPeer, facts: ConnectionFacts, turn: &Turn<'_>) -> Self {
        let _ = (config, peer, facts, turn);
        todo!()
    }

    /// The upstream is connected: the greeting goes up.
    pub fn connected(&mut self, turn: &mut Turn<'_>, up: &mut Gather<'_>, down: &mut Gather<'_>) {
        let _ = (turn, up, down);
        todo!()
    }

    /// The upstream cannot be had: the client is told at its first command's place, then closed.
    pub fn connect_failed(&mut self, detail: &str, turn: &mut Turn<'_>, down: &mut Gather<'_>) {
        let _ = (detail, turn, down);
        todo!()
    }

    /// Bytes from the client: `input` is what earlier calls left unconsumed followed by what is new. Returns how many
    /// bytes were consumed; the rest is kept by the shell and offered again, longer, later. `up` gathers from `input`.
    pub fn downstream(
        &mut self,
        input: &[u8],
        turn: &mut Turn<'_>,
        up: &mut Gather<'_>,
        down: &mut Gather<'_>,
    ) -> usize {
        let _ = (input, turn, up, down);
        todo!()
    }

    /// Bytes from Redis, likewise. `down` gathers from `input`.
    pub fn upstream(&mut self, input: &[u8], turn: &mut Turn<'_>, up: &mut Gather<'_>, down: &mut Gather<'_>) -> usize {
        let _ = (input, turn, up, down);
        todo!()
    }

    /// The client has ended its side (`clean`: by FIN or close_notify; otherwise its socket failed). Called once, as
    /// soon as the end is known; bytes received before the end are offered to `downstream` first.
    pub fn downstream_end(&mut self, clean: bool, turn: &mut Turn<'_>, up: &mut Gather<'_>, down: &mut Gather<'_>) {
        let _ = (clean, turn, up, down);
        todo!()
    }

    /// Redis has ended its side. `unsent` is how many of the bytes gathered for it the kernel never took.
    pub fn upstream_end(&mut self, unsent: usize, turn: &mut Turn<'_>, down: &mut Gather<'_>) {
        let _ = (unsent, turn, down);
        todo!()
    }

    /// Something waited for has come: room in the pen, a line written, a deadline.
    pub fn resume(&mut self, turn: &mut Turn<'_>, up: &mut Gather<'_>, down: &mut Gather<'_>) {
        let _ = (turn, up, down);
        todo!()
    }

    /// The process drains, or a reload ended this peer's right to be here: nothing more is accepted, what was promised
    /// is answered, then the session closes with `reason`.
    pub fn drain(&mut self, reason: CloseReason, turn: &mut Turn<'_>, up: &mut Gather<'_>, down: &mut Gather<'_>) {
        let _ = (reason, turn, up, down);
        todo!()
    }

    /// The end, now: every open slot is recorded `unanswered` and the session is done (panic of the task, drain
    /// deadline, flush deadline). May be called at any time; emits regardless of room.
    pub fn abort(&mut self, reason: CloseReason, turn: &mut Turn<'_>) {
        let _ = (reason, turn);
        todo!()
    }

    /// What the session waits for now.
    #[must_use]
    pub fn wants(&self) -> Wants {
        todo!()
    }

    /// Whether the session holds no partial command, no slot and no stream: the shell may release its buffers.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        todo!()
    }
}
