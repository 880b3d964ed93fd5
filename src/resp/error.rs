//! Why bytes were refused.

use std::ascii::escape_default;

/// Why a request was refused; `Display` is the text after `-ERR Protocol error: `.
///
/// The texts are Redis' own wherever Redis has one, so that clients and people recognise them; none contains a control
/// byte, whatever the peer sent. The connection is closed after the text: nothing behind an error is ever read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The `N` of `*N` is no canonical number, or its line does not end in CRLF.
    #[error("invalid multibulk length")]
    MultibulkLength,
    /// More words than [`words_max`](super::request::RequestLimits::words_max), in Redis' wording for that.
    #[error("invalid multibulk length")]
    TooManyWords,
    /// A word does not begin with `$`.
    #[error("expected '$', got '{}'", escape_default(*.0))]
    ExpectedDollar(
        /// What it begins with.
        u8,
    ),
    /// The `L` of `$L` is no canonical number, or its line does not end in CRLF.
    #[error("invalid bulk length")]
    BulkLength,
    /// A word longer than [`bulk_max`](super::request::RequestLimits::bulk_max), in Redis' wording for that.
    #[error("invalid bulk length")]
    BulkTooLong,
    /// The two bytes after a word are not CRLF (Valkey's wording; Redis does not look).
    #[error("invalid CRLF in request")]
    Terminator,
    /// The first byte of a request is not one that may begin it.
    #[error("expected '*', got '{}'", escape_default(*.0))]
    ExpectedArray(
        /// The first byte.
        u8,
    ),
    /// A line of plain words holds a byte that is neither printable nor a space, or a quote or backslash.
    #[error("invalid character '{}' in inline request", escape_default(*.0))]
    InlineByte(
        /// That byte.
        u8,
    ),
    /// A line of plain words is longer than 64 KiB.
    #[error("too big inline request")]
    InlineTooLong,
    /// The line is one of an HTTP request: a browser was made to speak to us.
    #[error("HTTP is not spoken here")]
    CrossProtocol,
    /// More blank lines and empty arrays in a row than [`blanks_max`](super::request::RequestLimits::blanks_max).
    #[error("too many empty requests in a row")]
    TooManyBlanks,
    /// A request held in memory has grown beyond what a [`Span`](super::Span) can point at (4 GiB).
    #[error("too big request")]
    TooLong,
}

impl RequestError {
    /// A stable kebab-case word for records and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::MultibulkLength => "multibulk-length",
            Self::TooManyWords => "too-many-words",
            Self::ExpectedDollar(_) => "expected-dollar",
            Self::BulkLength => "bulk-length",
            Self::BulkTooLong => "bulk-too-long",
            Self::Terminator => "terminator",
            Self::ExpectedArray(_) => "expected-array",
            Self::InlineByte(_) => "inline-byte",
            Self::InlineTooLong => "inline-too-long",
            Self::CrossProtocol => "cross-protocol",
            Self::TooManyBlanks => "too-many-blanks",
            Self::TooLong => "too-long",
        }
    }
}

/// Why a reply cannot be framed: the pair is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// The first byte of a reply or element is no type of RESP2 or RESP3, or one this proxy does not take.
    #[error("unknown reply type")]
    UnknownType,
    /// A streamed string or aggregate (`$?`, `*?`, `;`, `.`): specified, sent by no Redis.
    #[error("streamed reply, which no known server sends")]
    Streamed,
    /// A length or count is no canonical number, or its line does not end in CRLF.
    #[error("invalid length in a reply")]
    Length,
    /// A payload longer than [`bulk_max`](super::reply::ReplyLimits::bulk_max).
    #[error("reply payload over the limit")]
    BulkTooLong,
    /// An aggregate of more elements than [`elements_max`](super::reply::ReplyLimits::elements_max), or nested ones
    /// that together promise more than 2^40.
    #[error("reply elements over the limit")]
    TooManyElements,
    /// A CR or LF that is not part of a CRLF in a line.
    #[error("bare CR or LF in a reply line")]
    Line,
    /// A line longer than [`line_max`](super::reply::ReplyLimits::line_max).
    #[error("reply line over the limit")]
    LineTooLong,
    /// An integer, boolean, null, double or big number that is none.
    #[error("malformed value in a reply")]
    Value,
    /// The two bytes after a payload are not CRLF.
    #[error("reply payload not followed by CRLF")]
    Terminator,
    /// Attributes before a reply that are too large to be held until its type is known (64 KiB).
    #[error("reply attributes over the limit")]
    AttributeTooLong,
}

impl ReplyError {
    /// A stable kebab-case word for records and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::UnknownType => "unknown-type",
            Self::Streamed => "streamed",
            Self::Length => "length",
            Self::BulkTooLong => "bulk-too-long",
            Self::TooManyElements => "too-many-elements",
            Self::Line => "line",
            Self::LineTooLong => "line-too-long",
            Self::Value => "value",
            Self::Terminator => "terminator",
            Self::AttributeTooLong => "attribute-too-long",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RequestError;

    #[test]
    fn no_text_carries_a_control_byte_whatever_the_peer_sent() {
        for byte in 0..=u8::MAX {
            for error in
                [RequestError::ExpectedDollar(byte), RequestError::ExpectedArray(byte), RequestError::InlineByte(byte)]
            {
                let text = error.to_string();
                assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{text:?}");
            }
        }
    }

    #[test]
    fn wordings_are_those_of_redis() {
        assert_eq!(RequestError::ExpectedDollar(b'F').to_string(), "expected '$', got 'F'");
        assert_eq!(RequestError::ExpectedDollar(b'\r').to_string(), r"expected '$', got '\r'");
        assert_eq!(RequestError::TooManyWords.to_string(), "invalid multibulk length");
        assert_eq!(RequestError::BulkTooLong.to_string(), "invalid bulk length");
    }
}
