//! What may differ between direct and proxied, and why: a closed list, printed by every run. A reply is never skipped: it
//! is compared as what is left of it.

use ravelin::command::{CommandId, Resolved, catalog, resolve, strict};
use ravelin::resp::{Span, Words};

/// How much of a reply is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Its type, the first byte.
    Type,
    /// Everything but digits.
    NotDigits,
    /// Its length.
    Length,
    /// Every byte, in any order.
    AnyOrder,
}

/// Commands whose replies are not the same twice on one server: what is compared of them, and the reason.
pub const NORMALISERS: &[(&str, Left, &str)] = &[
    ("time", Left::NotDigits, "the time"),
    ("lastsave", Left::NotDigits, "a time"),
    ("info", Left::Type, "counters, memory, times"),
    ("client|id", Left::NotDigits, "every connection has another"),
    ("client|list", Left::Type, "ids, addresses, ages, buffers"),
    ("client|info", Left::Type, "likewise"),
    ("randomkey", Left::Type, "random"),
    ("spop", Left::AnyOrder, "a random order of all of them"),
    ("srandmember", Left::Type, "random"),
    ("hrandfield", Left::Type, "random"),
    ("zrandmember", Left::Type, "random"),
    ("vrandmember", Left::Type, "random"),
    ("vinfo", Left::Type, "levels of the graph are random"),
    ("vlinks", Left::Type, "likewise"),
    ("vsim", Left::Type, "likewise"),
    ("lolwut", Left::Type, "random"),
    ("scan", Left::Type, "a hash table being resized in the background"),
    ("command", Left::AnyOrder, "likewise"),
    ("command|info", Left::AnyOrder, "likewise"),
    ("command|docs", Left::AnyOrder, "likewise"),
    ("command|list", Left::AnyOrder, "likewise"),
    ("function|list", Left::AnyOrder, "likewise"),
    ("pubsub|channels", Left::AnyOrder, "likewise"),
    ("dump", Left::Length, "when a stream's entries were delivered"),
    ("ttl", Left::NotDigits, "time passes"),
    ("pttl", Left::NotDigits, "time passes"),
    ("expiretime", Left::NotDigits, "a time"),
    ("pexpiretime", Left::NotDigits, "a time"),
    ("httl", Left::NotDigits, "time passes"),
    ("hpttl", Left::NotDigits, "time passes"),
    ("hexpiretime", Left::NotDigits, "a time"),
    ("hpexpiretime", Left::NotDigits, "a time"),
    ("object|idletime", Left::NotDigits, "time passes"),
    ("xpending", Left::NotDigits, "idle times"),
    ("xinfo|consumers", Left::NotDigits, "idle times"),
    ("xinfo|stream", Left::NotDigits, "delivery times, and the layout of a radix tree"),
    ("function|stats", Left::Type, "what runs right now"),
    ("hello", Left::Type, "see `hello_id`: the connection's id; nothing else"),
];

/// The normaliser of a command, if it has one. HELLO's reply is told by its shape, see [`hello_id`].
pub fn of(name: &str) -> Option<Left> {
    NORMALISERS.iter().find(|(known, ..)| *known == name && *known != "hello").map(|(_, left, _)| *left)
}

/// What is left of a reply.
pub fn left(frame: &[u8], what: Left) -> Vec<u8> {
    match what {
        Left::Length => frame.len().to_string().into_bytes(),
        Left::AnyOrder => {
            let mut bytes = frame.to_vec();
            bytes.sort_unstable();
            bytes
        }
        Left::Type => frame.first().copied().into_iter().collect(),
        Left::NotDigits => {
            let mut rest: Vec<u8> = frame.iter().copied().filter(|byte| !byte.is_ascii_digit()).collect();
            // A number below zero says that there is none.
            rest.retain(|byte| *byte != b'-');
            rest
        }
    }
}

/// Puts pushes before the proxy's own answers that stand right before them, which are errors and CLIENT REPLY's. Redis
/// sends what a write invalidates behind the write's reply; the proxy's own answer to the next command need not wait for
/// it, as a push may come at any boundary. Pushes keep their order, and so do replies.
pub fn pushes_first(frames: &mut [Vec<u8>], keeps_replies: bool) {
    let is_own = |frame: &[u8]| frame.starts_with(b"-") || (keeps_replies && frame == b"+OK\r\n");
    for at in 1..frames.len() {
        let mut to = at;
        while to > 0 && frames[to].first() == Some(&b'>') && is_own(&frames[to - 1]) {
            frames.swap(to, to - 1);
            to -= 1;
        }
    }
}

/// A reply of HELLO with the connection's id taken out; any other reply as it is.
pub fn hello_id(frame: &[u8]) -> Vec<u8> {
    const ID: &[u8] = b"$2\r\nid\r\n:";
    let of_hello =
        matches!(frame.first(), Some(b'*' | b'%')) && frame.windows(11).any(|part| part == b"$5\r\nproto\r\n");
    let Some(at) = frame.windows(ID.len()).position(|part| part == ID).filter(|_| of_hello) else {
        return frame.to_vec();
    };
    let (head, tail) = frame.split_at(at + ID.len());
    let digits = tail.iter().take_while(|byte| byte.is_ascii_digit()).count();
    [head, b"0", &tail[digits..]].concat()
}

fn with_words<T>(words: &[Vec<u8>], then: impl FnOnce(&Words<'_>) -> T) -> T {
    let mut spans = Vec::new();
    let mut at = 0;
    for word in words {
        let end = at + u32::try_from(word.len()).unwrap();
        spans.push(Span { start: at, end });
        at = end;
    }
    let input = words.concat();
    then(&Words::new(&input, &spans, u32::try_from(words.len()).unwrap()))
}

/// The row of a command, or the name a denial shows.
pub fn resolved(words: &[Vec<u8>]) -> Result<CommandId, String> {
    match with_words(words, resolve) {
        Resolved::Known(id) => Ok(id),
        _ => Err(String::from_utf8_lossy(&words[0]).into_owned()),
    }
}

pub fn is_container(name: &[u8]) -> bool {
    catalog::by_full_name(&String::from_utf8_lossy(name)).is_some_and(|id| id.entry().container)
}

/// The error by which a word that can be read in two ways is refused.
pub fn strictly(id: CommandId, words: &[Vec<u8>]) -> Option<&'static str> {
    let entry = id.entry();
    let fault =
        with_words(words, |words| entry.deciding.then(|| strict::fault(entry, words, &mut Vec::new())).flatten())?;
    Some(match fault {
        strict::Fault::Number => "ERR value is not an integer or out of range",
        strict::Fault::Word => "ERR syntax error",
    })
}
