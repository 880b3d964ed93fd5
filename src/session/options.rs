//! The words of the commands that change a connection's state, read strictly: a word is the word or it is not.

use crate::{
    lane::machine::Protocol,
    resp::{Words, number},
};

/// What a HELLO asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hello<'w> {
    /// As it stands it may go up: no AUTH in it.
    Plain(Option<Protocol>),
    /// It carries AUTH; without it, this is what remains.
    WithAuth {
        /// The protocol asked for.
        protocol: Protocol,
        /// SETNAME's argument.
        name: Option<&'w [u8]>,
    },
    /// A version that is no number.
    BadVersion,
    /// A version nobody speaks.
    NoProto,
    /// A word HELLO does not know, or one without its arguments, or one twice.
    Syntax,
}

/// Reads `HELLO [protover [AUTH user password] [SETNAME name]]` (Redis' `helloCommand`).
pub(super) fn hello<'w>(words: &Words<'w>) -> Hello<'w> {
    let Some(version) = words.get(1) else { return Hello::Plain(None) };
    let protocol = match number::canonical_u64(version) {
        Some(2) => Protocol::Resp2,
        Some(3) => Protocol::Resp3,
        Some(_) => return Hello::NoProto,
        None => return Hello::BadVersion,
    };
    let (mut auth, mut name) = (false, None);
    let mut index = 2;
    while let Some(option) = words.get(index) {
        if option.eq_ignore_ascii_case(b"auth") && !auth && words.get(index.saturating_add(2)).is_some() {
            auth = true;
            index = index.saturating_add(3);
        } else if option.eq_ignore_ascii_case(b"setname") && name.is_none() {
            let Some(value) = words.get(index.saturating_add(1)) else { return Hello::Syntax };
            name = Some(value);
            index = index.saturating_add(2);
        } else {
            return Hello::Syntax;
        }
    }
    if auth { Hello::WithAuth { protocol, name } } else { Hello::Plain(Some(protocol)) }
}

/// What a CLIENT REPLY asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyMode {
    /// Replies are sent.
    On,
    /// No replies are sent until ON.
    Off,
    /// The next request's reply is not sent.
    Skip,
}

/// Reads `CLIENT REPLY ON|OFF|SKIP` (Redis' `clientCommand`).
pub(super) fn reply_mode(words: &Words<'_>) -> Option<ReplyMode> {
    let word = words.get(2)?;
    if word.eq_ignore_ascii_case(b"on") {
        Some(ReplyMode::On)
    } else if word.eq_ignore_ascii_case(b"off") {
        Some(ReplyMode::Off)
    } else if word.eq_ignore_ascii_case(b"skip") {
        Some(ReplyMode::Skip)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Span;

    fn with<T>(line: &str, read: impl Fn(&Words<'_>) -> T) -> T {
        let (mut spans, mut at) = (Vec::new(), 0_u32);
        for word in line.split(' ') {
            let end = at + u32::try_from(word.len()).unwrap();
            spans.push(Span { start: at, end });
            at = end + 1;
        }
        let declared = u32::try_from(spans.len()).unwrap();
        read(&Words::new(line.as_bytes(), &spans, declared))
    }

    #[test]
    fn hello_is_read_as_redis_reads_it_or_refused() {
        let resp3 = Protocol::Resp3;
        assert!(with("HELLO", |w| hello(w) == Hello::Plain(None)));
        assert!(with("HELLO 2", |w| hello(w) == Hello::Plain(Some(Protocol::Resp2))));
        assert!(with("HELLO 3 SetName x", |w| hello(w) == Hello::Plain(Some(resp3))));
        assert!(with("HELLO 3 AUTH u p", |w| hello(w) == Hello::WithAuth { protocol: resp3, name: None }));
        assert!(
            with("HELLO 3 setname n auth u p", |w| hello(w) == Hello::WithAuth { protocol: resp3, name: Some(b"n") })
        );
        for bad in
            ["HELLO 3 AUTH u", "HELLO 3 SETNAME", "HELLO 3 AUTH\0x u p", "HELLO 3 SETNAME a SETNAME b", "HELLO 3 X"]
        {
            assert!(with(bad, |w| hello(w) == Hello::Syntax), "{bad}");
        }
        for bad in ["HELLO 03", "HELLO +3", "HELLO x", "HELLO 3\0", "HELLO -3"] {
            assert!(with(bad, |w| hello(w) == Hello::BadVersion), "{bad}");
        }
        assert!(with("HELLO 4", |w| hello(w) == Hello::NoProto));
    }
}
