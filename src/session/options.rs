//! The words of the commands that change a connection's state, read strictly: a word is the word or it is not.

use crate::{
    command::{Effect, Resolved},
    lane::{Stream, machine::Protocol},
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
