//! The words of the commands that change a connection's state, read strictly: a word is the word or it is not.

use crate::{
    command::{Effect, Resolved},
    lane::{Stream, machine::Protocol},
    resp::{Words, number},
};

/// What is to be made of a HELLO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hello<'w> {
    /// It may go up, if the client may authenticate as far as it wants to.
    Asks(Asks<'w>),
    /// A version that some reader could take for a number, or has a NUL in it.
    BadVersion,
    /// An option with a NUL in it, which Redis reads up to there.
    BadOption(&'w [u8]),
}

/// What a HELLO asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asks<'w> {
    /// The protocol, if every server that knows HELLO would switch to it.
    pub(super) protocol: Option<Protocol>,
    /// Every known server refuses it: a version nobody speaks, a word nobody knows, an option without its arguments.
    pub(super) refused: bool,
    /// User and password of the AUTH among its options; of several the last, as Redis takes it.
    pub(super) credential: Option<(&'w [u8], &'w [u8])>,
    /// What goes up in its place: never a password.
    pub(super) instead: Option<Vec<&'w [u8]>>,
}

/// Reads `HELLO [protover [AUTH user password] [SETNAME name]]` as Redis' `helloCommand` does: the version first, then the
/// options one by one, and nothing behind the first one that is wrong.
pub(super) fn hello<'w>(words: &Words<'w>) -> Hello<'w> {
    let mut asks = Asks { protocol: None, refused: false, credential: None, instead: None };
    let Some(version) = words.get(1) else { return Hello::Asks(asks) };
    match number::canonical_i64(version) {
        Some(2) => asks.protocol = Some(Protocol::Resp2),
        Some(3) => asks.protocol = Some(Protocol::Resp3),
        Some(_) => asks.refused = true,
        None if number::is_no_number(version) => asks.refused = true,
        None => return Hello::BadVersion,
    }
    // The words that may go up: all but AUTH with its arguments.
    let mut kept: Vec<&[u8]> = words.get(0).into_iter().chain([version]).collect();
    let mut index = 2_usize;
    while let Some(option) = words.get(index)
        && !asks.refused
    {
        let (first, second) = (words.get(index.saturating_add(1)), words.get(index.saturating_add(2)));
        if option.contains(&0) {
            return Hello::BadOption(option);
        }
        kept.push(option);
        index = index.saturating_add(1);
        if option.eq_ignore_ascii_case(b"auth")
            && let (Some(user), Some(password)) = (first, second)
        {
            asks.credential = Some((user, password));
            kept.pop();
            index = index.saturating_add(2);
        } else if option.eq_ignore_ascii_case(b"setname")
            && let Some(name) = first
        {
            kept.push(name);
            index = index.saturating_add(1);
        } else {
            asks.protocol = None;
            asks.refused = true;
            if option.eq_ignore_ascii_case(b"auth") {
                // What follows is meant for nobody else.
                index = words.declared();
                asks.instead = Some(Vec::new());
            }
        }
    }
    // Behind what is refused nothing is read; a password there would only be printed.
    while let Some(word) = words.get(index) {
        if word.split(|byte| *byte == 0).next().is_some_and(|word| word.eq_ignore_ascii_case(b"auth")) {
            asks.instead = Some(Vec::new());
            break;
        }
        kept.push(word);
        index = index.saturating_add(1);
    }
    asks.instead = (asks.credential.is_some() || asks.instead.is_some()).then_some(kept);
    Hello::Asks(asks)
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
    /// A word that no server takes for one of these.
    Nonsense,
}

/// Reads `CLIENT REPLY ON|OFF|SKIP` (Redis' `clientCommand`). `None` if the word has a NUL in it, at which Redis stops.
pub(super) fn reply_mode(words: &Words<'_>) -> Option<ReplyMode> {
    let word = words.get(2)?;
    if word.eq_ignore_ascii_case(b"on") {
        Some(ReplyMode::On)
    } else if word.eq_ignore_ascii_case(b"off") {
        Some(ReplyMode::Off)
    } else if word.eq_ignore_ascii_case(b"skip") {
        Some(ReplyMode::Skip)
    } else if word.contains(&0) {
        None
    } else {
        Some(ReplyMode::Nonsense)
    }
}

/// Reads `SYNC` and `PSYNC ID OFFSET` (Redis' `syncCommand`): the id is `?` or 40 hexadecimal digits, the offset -1 or a
/// number. A fourth word would be FAILOVER, by which a replica's master hands its office over: whoever may replicate may
/// not make a replica a master, so that is not read.
pub(super) fn replication(words: &Words<'_>) -> Option<Stream> {
    match (words.get(1), words.get(2), words.get(3)) {
        (None, ..) => Some(Stream::Sync),
        (Some(id), Some(offset), None) => {
            let known = id.len() == 40 && id.iter().all(u8::is_ascii_hexdigit);
            let counted = offset == b"-1" || number::canonical_u64(offset).is_some();
            ((known || id == b"?") && counted).then_some(Stream::Psync)
        }
        _ => None,
    }
}

/// What a REPLCONF before the stream asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReplicationConfig<'w> {
    /// As it stands it may go up.
    Plain,
    /// Without capabilities that are not let up, this is what remains.
    Without(Vec<&'w [u8]>),
    /// A value that is none, or an option without its value.
    Syntax,
    /// An option that is not let up.
    Option,
}

/// Reads `REPLCONF [option value] …` (`replconfCommand` of Redis 2.8 to 8 and Valkey 9).
///
/// What goes up is what describes the replica and chooses what the payload holds. A capability that is not known is
/// dropped, as a master drops one it does not know; so the two that stand for a second connection (`rdb-channel-repl`,
/// `dual-channel`), which no proxy of single connections can follow, are never agreed upon, and the replica is served on
/// this one. Not let up are the options of that second connection (`rdb-channel`, `rdb-channel-id`, `main-ch-client-id`,
/// `set-rdb-client-id`), those of a cluster, and ACK and GETACK, which have no replies and mean nothing before the stream.
pub(super) fn replication_config<'w>(words: &Words<'w>) -> ReplicationConfig<'w> {
    let mut kept: Vec<&[u8]> = words.get(0).into_iter().collect();
    let mut index = 1;
    while let Some(option) = words.get(index) {
        let Some(value) = words.get(index.saturating_add(1)) else { return ReplicationConfig::Syntax };
        index = index.saturating_add(2);
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        let good = if is(b"capa") {
            if !(value.eq_ignore_ascii_case(b"eof") || value.eq_ignore_ascii_case(b"psync2")) {
                continue;
            }
            true
        } else if is(b"listening-port") {
            number::canonical_u64(value).is_some_and(|port| port <= u64::from(u16::MAX))
        } else if is(b"ip-address") || is(b"version") {
            // Redis shows these in INFO and its log.
            value.len() <= REPLICA_WORD_MAX && value.iter().all(u8::is_ascii_graphic)
        } else if is(b"rdb-only") {
            matches!(value, b"0" | b"1")
        } else if is(b"rdb-filter-only") {
            value.is_empty() || value.eq_ignore_ascii_case(b"functions")
        } else {
            return ReplicationConfig::Option;
        };
        if !good {
            return ReplicationConfig::Syntax;
        }
        kept.extend([option, value]);
    }
    if kept.len() == words.declared() { ReplicationConfig::Plain } else { ReplicationConfig::Without(kept) }
}

/// Longest address or version of a replica, in bytes (Redis' `NET_HOST_STR_LEN`, without its NUL).
const REPLICA_WORD_MAX: usize = 255;

/// Whether this is `REPLCONF ACK offset [FACK offset]` (Redis' `replicationSendAck`).
pub(super) fn is_acknowledgement(command: Resolved, words: &Words<'_>) -> bool {
    let known = matches!(command, Resolved::Known(id) if id.entry().effect == Effect::ReplicationConfig);
    let pair = |index: usize, name: &[u8]| {
        words.get(index).is_some_and(|word| word.eq_ignore_ascii_case(name))
            && words.get(index.saturating_add(1)).and_then(number::canonical_u64).is_some()
    };
    known && pair(1, b"ack") && (words.declared() == 3 || (words.declared() == 5 && pair(3, b"fack")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Span;

    #[test]
    fn a_replica_is_described_and_no_second_connection_agreed_upon() {
        let plain = |line: &str| with(line, |w| replication_config(w) == ReplicationConfig::Plain);
        for line in [
            "REPLCONF",
            "REPLCONF listening-port 6380",
            "replconf IP-Address 10.0.0.7",
            "REPLCONF capa eof capa PSYNC2",
            "REPLCONF version 8.1.3",
            "REPLCONF rdb-only 1",
            "REPLCONF rdb-filter-only functions",
            "REPLCONF rdb-filter-only ",
            "REPLCONF listening-port 6380 capa eof",
        ] {
            assert!(plain(line), "{line}");
        }
        for (line, kept) in [
            ("REPLCONF capa eof capa psync2 capa rdb-channel-repl", "REPLCONF capa eof capa psync2"),
            ("REPLCONF capa dual-channel capa eof", "REPLCONF capa eof"),
            ("REPLCONF capa dual-channel", "REPLCONF"),
            ("REPLCONF capa eof\0x", "REPLCONF"),
        ] {
            let expected = ReplicationConfig::Without(kept.split(' ').map(str::as_bytes).collect());
            assert!(with(line, |w| replication_config(w) == expected), "{line}");
        }
        for line in [
            "REPLCONF capa",
            "REPLCONF listening-port 0x1",
            "REPLCONF listening-port 65536",
            "REPLCONF listening-port +1",
            "REPLCONF ip-address a\r\nb",
            "REPLCONF rdb-only 2",
            "REPLCONF rdb-filter-only data",
            "REPLCONF listening-port 1 capa",
        ] {
            assert!(with(line, |w| replication_config(w) == ReplicationConfig::Syntax), "{line:?}");
        }
        for option in [
            "ack",
            "ACK",
            "getack",
            "fack",
            "rdb-channel",
            "rdb-channel-id",
            "main-ch-client-id",
            "set-rdb-client-id",
            "set-cluster-node-id",
            "capa\0x",
            "uuid",
        ] {
            let line = format!("REPLCONF capa eof {option} 1");
            assert!(with(&line, |w| replication_config(w) == ReplicationConfig::Option), "{line}");
        }
    }

    #[test]
    fn a_request_for_a_stream_is_read_strictly() {
        let id = "8371445ee47bed6f2eac8a36c6c0b5b5a8b21ee4";
        assert_eq!(with("SYNC", replication), Some(Stream::Sync));
        for line in ["PSYNC ? -1".to_owned(), format!("PSYNC {id} 17"), format!("psync {id} -1")] {
            assert_eq!(with(&line, replication), Some(Stream::Psync), "{line}");
        }
        for line in [
            "PSYNC ? 01".to_owned(),
            "PSYNC ? -2".to_owned(),
            "PSYNC ?? 1".to_owned(),
            "PSYNC x 1".to_owned(),
            format!("PSYNC {id} 17 FAILOVER"),
            format!("PSYNC {id}"),
        ] {
            assert_eq!(with(&line, replication), None, "{line}");
        }
    }

    #[test]
    fn only_an_acknowledgement_is_one() {
        let is = |line: &str| with(line, |w| is_acknowledgement(crate::command::resolve(w), w));
        for line in ["REPLCONF ACK 0", "replconf ack 18446744073709551615", "REPLCONF ACK 5 FACK 3"] {
            assert!(is(line), "{line}");
        }
        for line in [
            "REPLCONF ACK",
            "REPLCONF ACK -1",
            "REPLCONF ACK 01",
            "REPLCONF ACK 1 FACK",
            "REPLCONF ACK 1 FACK x",
            "REPLCONF ACK 1 FACK 1 ACK 1",
            "REPLCONF FACK 1",
            "REPLCONF GETACK *",
            "REPLCONF ACK\0 1",
            "REPLCONFX ACK 1",
            "CONFIG ACK 1",
            "SET ACK 1",
        ] {
            assert!(!is(line), "{line:?}");
        }
    }

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

    fn asked(line: &str) -> Option<(Option<Protocol>, bool, bool, Option<String>)> {
        with(line, |words| match hello(words) {
            Hello::Asks(Asks { protocol, refused, credential, instead }) => {
                let authenticates = credential.is_some();
                let instead = instead.map(|list| String::from_utf8(list.join(&b' ')).unwrap());
                Some((protocol, refused, authenticates, instead))
            }
            Hello::BadVersion | Hello::BadOption(_) => None,
        })
    }

    #[test]
    fn hello_is_read_as_redis_reads_it() {
        let (resp2, resp3) = (Some(Protocol::Resp2), Some(Protocol::Resp3));
        for (line, protocol) in [
            ("HELLO", None),
            ("HELLO 2", resp2),
            ("HELLO 3 SetName x", resp3),
            ("HELLO 3 SETNAME AUTH", resp3),
            ("HELLO 3 SETNAME a SETNAME b", resp3),
        ] {
            assert_eq!(asked(line), Some((protocol, false, false, None)), "{line}");
        }
        for (line, instead) in [
            ("HELLO 3 AUTH u p", "HELLO 3"),
            ("hello 3 setname n auth u p", "hello 3 setname n"),
            ("HELLO 3 AUTH AUTH SETNAME SETNAME x", "HELLO 3 SETNAME x"),
            ("HELLO 3 AUTH u p auth u q", "HELLO 3"),
        ] {
            assert_eq!(asked(line), Some((resp3, false, true, Some(instead.to_owned()))), "{line}");
        }
    }

    #[test]
    fn what_every_server_refuses_goes_up_without_a_password() {
        for line in ["HELLO 4", "HELLO 0", "HELLO -3", "HELLO x", "HELLO 3 X", "HELLO 3 SETNAME", "HELLO 4 SETNAME a"] {
            assert_eq!(asked(line), Some((None, true, false, None)), "{line}");
        }
        for (line, authenticates, instead) in [
            ("HELLO 3 AUTH p", false, "HELLO 3 AUTH"),
            ("HELLO 4 AUTH u p", false, "HELLO 4"),
            ("HELLO 4 X auth\0y u p", false, "HELLO 4 X"),
            ("HELLO 3 X AUTH u p", false, "HELLO 3 X"),
            ("HELLO 3 AUTH u p X Y", true, "HELLO 3 X Y"),
            ("HELLO 3 AUTH u p AUTH q", true, "HELLO 3 AUTH"),
        ] {
            assert_eq!(asked(line), Some((None, true, authenticates, Some(instead.to_owned()))), "{line}");
        }
    }

    #[test]
    fn what_some_reader_could_take_for_something_else_is_answered_here() {
        for line in ["HELLO 03", "HELLO +3", "HELLO 3\0", "HELLO 3\0x", "HELLO ", "HELLO \t3", "HELLO x\0", "HELLO -03"]
        {
            assert!(with(line, |words| hello(words) == Hello::BadVersion), "{line:?}");
        }
        for (line, option) in [
            ("HELLO 3 AUTH\0x u p", &b"AUTH\0x"[..]),
            ("HELLO 3 SETNAME\0 a", b"SETNAME\0"),
            ("HELLO 3 SETNAME a \0", b"\0"),
            ("HELLO 2 AUTH a b X\0y", b"X\0y"),
        ] {
            assert!(with(line, |words| hello(words) == Hello::BadOption(option)), "{line:?}");
        }
        assert_eq!(with("CLIENT REPLY x", reply_mode), Some(ReplyMode::Nonsense));
        assert_eq!(with("CLIENT REPLY off\0x", reply_mode), None);
    }
}
