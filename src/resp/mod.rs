//! The Redis serialization protocol: what a request is, and where a reply ends.
//!
//! * [`request`] reads what clients send: one strict form, words in place, nothing copied.
//! * [`reply`] finds where a reply of Redis ends and of what class it is, in constant memory.
//! * [`encode`] writes what the proxy says itself; [`number`] knows what a number is; [`error`] why bytes were refused.
//!
//! **Invariants.** Nothing here recurses, allocates by a number a peer declared, or looks at a byte twice because it came
//! in small pieces. Nothing here knows a command. Once bytes were refused, the parser or scanner stays refused.
//!
//! What breaks proxies in front of Redis most, on the way up, and what keeps it from breaking this one (the tests are
//! looked for by `tests/strict_framing.rs`, so that none is named here that is not there):
//!
//! | mistake | here | shown by |
//! |---|---|---|
//! | forwarding what was not understood | what goes up is the canonical encoding of an accepted command and nothing else | `what_is_accepted_is_exactly_its_canonical_encoding`, `random_bytes_never_go_up_unless_they_are_commands` |
//! | denying by exact bytes | names are resolved as Redis resolves them; a name that could be read otherwise is denied | `no_name_is_read_in_two_ways` |
//! | lenient numbers | [`number`], everywhere | `numbers_are_read_by_string2ll_rules`, `no_word_is_read_in_one_way_here_and_in_another_there` |
//! | a denial that overtakes earlier replies | it waits in its slot | `denial_waits_its_turn_in_a_pipeline` |
//! | shared upstream connections | one upstream connection for each client's | `any_commands_in_any_pieces_are_answered_in_order_and_recorded_once` |
//! | counting replies by requests | CLIENT REPLY is kept here, confirmations are counted by name | `client_reply_is_kept_here_and_everything_is_still_recorded`, `subscriptions_are_counted_by_their_confirmations` |
//! | letting pass what cannot be parsed | refused with Redis' own kind of error, then closed | `no_leniency_in_framing_reaches_redis`, `no_leniency_in_lines_reaches_redis` |
//! | a record of what was received | of what was forwarded, with its outcome | `pieces_read_as_the_whole`, `the_end_of_a_streamed_value_is_held_back_until_its_line_end_is_seen` |
//! | half a command passed on at the client's end | small commands go up whole; a streamed one is broken off, never finished | `a_stream_the_client_leaves_unfinished_is_recorded_incomplete` |

pub mod encode;
pub mod error;
mod inline;
pub mod number;
pub mod reply;
pub mod request;

pub use inline::INLINE_MAX;

/// Where one word lies in the bytes of its request, counted from the request's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte of the word.
    pub start: u32,
    /// One past its last byte.
    pub end: u32,
}

/// The words of one request, read in place.
///
/// While a request is still arriving, `declared` may be larger than the number of words that are already whole.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    input: &'a [u8],
    spans: &'a [Span],
    declared: u32,
}

impl<'a> Words<'a> {
    /// Words lying at `spans` in `input`, out of `declared` that the request's header promised.
    #[must_use]
    pub const fn new(input: &'a [u8], spans: &'a [Span], declared: u32) -> Self {
        Self { input, spans, declared }
    }

    /// The word at `index`, if it is already whole.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        let span = self.spans.get(index)?;
        self.input.get(span.start as usize..span.end as usize)
    }

    /// How many words are whole.
    #[must_use]
    pub const fn whole(&self) -> usize {
        self.spans.len()
    }

    /// How many words the request's header promised, the command's name among them (Redis' `argc`).
    #[must_use]
    pub const fn declared(&self) -> usize {
        self.declared as usize
    }

    /// The same request, seen as if its first word stood alone.
    #[must_use]
    pub fn first_only(&self) -> Self {
        Self { input: self.input, spans: self.spans.get(..1).unwrap_or_default(), declared: 1 }
    }

    /// The request that the words behind the first `count` are.
    #[must_use]
    pub fn behind(&self, count: usize) -> Self {
        let declared = self.declared.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        Self { input: self.input, spans: self.spans.get(count..).unwrap_or_default(), declared }
    }

    /// The whole words in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        (0..self.spans.len()).filter_map(|index| self.get(index))
    }
}
