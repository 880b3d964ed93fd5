//! MONITOR, SYNC and PSYNC, and what a connection takes once they have made it a stream.
//!
//! * **Before**: REPLCONF tells Redis of the replica ([`options::replication_config`] has what goes up and what does not).
//! * **The command** goes up only when everything before it has been answered, for Redis refuses SYNC while replies are
//!   unsent, and behind its `begin` line; nothing behind it is judged until it is answered. An error leaves the connection
//!   as it was: a replica falls back from PSYNC to SYNC by it.
//! * **MONITOR**'s slot closes at `+OK`; until RESET the connection takes PING, QUIT and RESET.
//! * **SYNC** and **PSYNC** keep their slot open to the end of the connection, so their record says what the whole stream
//!   came to. Downward it passes as it is. Upward go acknowledgements (Redis' `replicationSendAck`) and single newlines
//!   (`replicationSendNewlineToMaster`), which have no replies and get neither slots nor records: one of them comes each
//!   second, they say nothing but how far the replica is, and the stream's record counts their bytes.

use super::{
    End, Turn,
    accept::{Flow, Source},
    error::CloseReason,
    gather::Gather,
    local::Local,
    machine::Session,
    options::{self, ReplicationConfig},
    state::{Core, Replies, Streaming, UNREAD_MAX},
};
use crate::{
    command::{self, CommandId, Effect, Resolved, catalog},
    lane::{Closes, Stream, Ticket, machine::Protocol},
    policy::{RuleId, Verdict, rules::Policy},
    resp::{Words, encode, request::Request},
};

/// Longest acknowledgement: `REPLCONF ACK` and `FACK` with two numbers of 20 digits take 91 bytes.
const ACKNOWLEDGEMENT_MAX: usize = 128;

impl Core {
    /// MONITOR, SYNC or PSYNC, which policy allows.
    pub(super) fn open_stream(
        &mut self,
        id: CommandId,
        words: &Words<'_>,
        source: Source,
        turn: &mut Turn<'_>,
        up: &mut Gather<'_>,
        down: &mut Gather<'_>,
    ) -> Flow {
        let entry = id.entry();
        let resolved = Resolved::Known(id);
        if self.tx.intended {
            return self.deny(RuleId::IN_TRANSACTION, Local::InTransaction, resolved, words, &source, turn);
        }
        if !entry.accepts_arity(words.declared()) {
            return self.deny(RuleId::NOT_CANONICAL, Local::Arity, resolved, words, &source, turn);
        }
        let stream = if entry.effect == Effect::Monitor { Some(Stream::Monitor) } else { options::replication(words) };
        let Some(stream) = stream else {
            return self.deny(RuleId::NOT_CANONICAL, Local::Syntax, resolved, words, &source, turn);
        };
        // What is answered here needs nobody's answer; were it left to the end of the turn, nobody would call again.
        self.release(UNREAD_MAX, turn, down);
        if !self.slots.is_empty() {
            self.wait_for_empty = true;
            return Flow::Wait;
        }
        let plain = !self.lane.subscribed() && self.lane.protocol() == Protocol::Resp2 && self.replies == Replies::Sent;
        if stream != Stream::Monitor && !plain {
            // Messages and invalidations would fall into the stream, and what is not sent would be missing from it. No
            // replica asks for either.
            return self.deny(RuleId::UNSUPPORTED, Local::NotPlain, resolved, words, &source, turn);
        }
        // It counts as blocking: when the client ends, nobody is left whom the answer would serve.
        self.forward(id, words, source, Ticket { closes: Closes::Stream(stream), own: None }, true, turn, up)
    }

    /// REPLCONF, which policy allows, outside of a stream.
    pub(super) fn replication_config(
        &mut self,
        id: CommandId,
        words: &Words<'_>,
        source: Source,
        turn: &mut Turn<'_>,
        up: &mut Gather<'_>,
    ) -> Flow {
        let resolved = Resolved::Known(id);
        if self.tx.intended {
            return self.deny(RuleId::IN_TRANSACTION, Local::InTransaction, resolved, words, &source, turn);
        }
        let source = match options::replication_config(words) {
            ReplicationConfig::Plain => source,
            ReplicationConfig::Without(kept) => {
                let len = match source {
                    Source::Input { len, .. } | Source::Encoded { len, .. } => len,
                    Source::Stream { .. } => {
                        return self.deny(RuleId::HELD_COMMAND, Local::TooLarge, resolved, words, &source, turn);
                    }
                };
                let mut bytes = Vec::new();
                encode::command(&mut bytes, &kept);
                Source::Encoded { bytes, len }
            }
            ReplicationConfig::Syntax => {
                return self.deny(RuleId::NOT_CANONICAL, Local::Syntax, resolved, words, &source, turn);
            }
            ReplicationConfig::Option => {
                return self.deny(RuleId::UNSUPPORTED, Local::ReplicationOption, resolved, words, &source, turn);
            }
        };
        self.forward(id, words, source, Ticket { closes: Closes::Reply, own: None }, false, turn, up)
    }

    /// A command whose `begin` line is written goes up.
    pub(super) fn expect_begun(&mut self, ticket: Ticket) {
        match ticket.closes {
            Closes::Stream(stream) => {
                self.lane.expect_stream(stream);
                self.barrier = true;
            }
            _ => self.lane.expect(ticket),
        }
    }

    /// Redis has granted SYNC or PSYNC: from here on acknowledgements are taken and nothing is waited for.
    pub(super) fn begin_replication(&mut self) {
        self.barrier = false;
        self.streaming = Streaming::Replica;
        self.put_in_force();
    }

    /// Whether a stream is open, or asked for, that this policy denies.
    pub(super) fn loses_stream(&self, policy: &Policy) -> bool {
        let denied = |id| matches!(policy.judge(id), Verdict::Deny(_));
        if self.lane.monitoring() {
            return catalog::iter().any(|(id, row)| row.effect == Effect::Monitor && denied(id));
        }
        self.slots
            .front()
            .and_then(|slot| slot.command())
            .is_some_and(|id| matches!(id.entry().effect, Effect::Monitor | Effect::Replication) && denied(id))
    }

    /// The client said on a replication stream what no replica says. No word of ours may fall into the stream.
    fn end_stream(&mut self, detail: &str) {
        self.finish(CloseReason::Protocol, detail, End::Flush);
    }

    /// More has gone up on the stream that the front slot began.
    fn count_sent(&mut self, bytes: usize) {
        if let Some(slot) = self.slots.back_mut() {
            slot.add_bytes(bytes);
        }
    }
}

impl Session {
    /// Takes acknowledgements and newlines from `input`, from `at` on. Returns the bytes consumed.
    ///
    /// The parser takes canonical encoding only, so what passes is what encoding the words anew would give. A newline
    /// that something follows is left out: the acknowledgement says more, and a Redis up to 3.2 takes the byte behind a
    /// newline to be part of it (`processInlineBuffer`).
    pub(super) fn take_acknowledgements(
        &mut self,
        input: &[u8],
        mut at: usize,
        turn: &mut Turn<'_>,
        up: &mut Gather<'_>,
    ) -> usize {
        loop {
            let rest = input.get(at..).unwrap_or_default();
            let newlines = rest.iter().take_while(|byte| **byte == b'\n').count();
            if newlines > 0 {
                at = at.saturating_add(newlines);
                if newlines == rest.len() {
                    up.push(b"\n");
                    self.core.count_sent(1);
                }
                continue;
            }
            match self.parser.next(rest) {
                Ok(Request::More) => {
                    self.core.starved = true;
                    if rest.len() > ACKNOWLEDGEMENT_MAX || self.parser.known_len() > ACKNOWLEDGEMENT_MAX as u64 {
                        self.core.end_stream("a replica sent what is longer than any acknowledgement");
                    }
                    return at;
                }
                Ok(Request::Command { len }) => {
                    let words = self.parser.words(rest);
                    let resolved = command::resolve(&words);
                    if len > ACKNOWLEDGEMENT_MAX || !options::is_acknowledgement(resolved, &words) {
                        let source = Source::Input { at, len };
                        self.core.deny(RuleId::IN_STREAM, Local::Nothing, resolved, &words, &source, turn);
                        self.core.end_stream("a replica sent a command that is no acknowledgement");
                        return input.len();
                    }
                    up.pass(at..at.saturating_add(len));
                    self.core.count_sent(len);
                    at = at.saturating_add(len);
                }
                Ok(Request::Blank { .. } | Request::Inline { .. }) => {
                    self.core.end_stream("a replica sent a line that is no acknowledgement");
                    return input.len();
                }
                Err(error) => {
                    self.core.end_stream(&format!("a replica sent no acknowledgement: {error}"));
                    return input.len();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
