//! JSON lines: what is constant in a connection's records, and the fields of a command.

use super::{
    arguments::{ArgumentList, HashKey},
    event::names,
    filter::{Verdict, verdict},
    json::{all_plain, bytes_value, escaped, number, number_field, text_field},
    outlet::{Arguments, OUTLETS_MAX, Plan, Shape},
    record::{CommandRecord, Context, KeyList, Name, Outcome, ScriptMark},
    watch::{Notices, Traces},
};
use crate::{
    command::{CommandId, Entry, catalog},
    resp::reply::Class,
};
use std::{cell::RefCell, net::SocketAddr, ops::Range, sync::LazyLock};

/// No line is as long as this, its newline included: 16 KiB. What could be longer is cut, and the line says so.
pub const MAX_LINE: usize = 16 * 1024;

/// Most bytes of a line that keys may take, rendered.
const KEYS_RENDERED_MAX: usize = 8 * 1024;
/// Most bytes of a line that the words of a command may take, rendered.
const ARGUMENTS_RENDERED_MAX: usize = 3 * 1024;
/// Most keys in a line.
const KEYS_MAX: u32 = 256;
/// Most bytes of one key that are shown. Six rendered bytes each at worst: at least one key fits in any line.
pub(super) const KEY_MAX: usize = 1024;
/// Most bytes of an unknown command's name that are shown.
const NAME_MAX: usize = 64;
/// Most bytes of a name from the configuration, rendered.
pub(super) const LABEL_MAX: usize = 128;
/// Most bytes of what a certificate proves, rendered (a SPIFFE id has at most 2048).
const IDENTITY_MAX: usize = 2048;
/// Most bytes of a sentence for people, rendered.
pub(super) const DETAIL_MAX: usize = 1024;
/// Most classes of EXEC's elements that are shown.
const ELEMENTS_MAX: usize = 128;

/// What is the same in every record of a connection, rendered once.
#[derive(Clone, Debug)]
pub struct ConnectionFacts {
    /// `,"conn":…,"upstream_user":…`: begins with a comma, ends with a value.
    fragment: Box<[u8]>,
    /// How much of it is `,"conn":…`: all that compact lines have of it.
    conn: usize,
    /// Where the identity stands in it.
    identity: Range<usize>,
    /// What the watch remembers of the connection.
    traces: RefCell<Traces>,
    /// What `connection_open` says besides: likewise, or empty.
    opening: Box<[u8]>,
    /// The counters' key.
    service: Box<str>,
    /// A bit for each output that takes this connection.
    outlets: u32,
}

/// What is known of a connection's TLS, for its `connection_open` record.
#[derive(Clone, Copy, Debug, Default)]
pub struct TlsFacts<'a> {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'a str,
    /// The cipher suite.
    pub cipher: &'a str,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
    /// The name that the client asked for (SNI), escaped and cut; empty without one.
    pub sni: &'a str,
    /// SHA-256 of the client's certificate, lower-case hexadecimal; empty without one.
    pub cert_sha256: &'a str,
    /// Its serial number, lower-case hexadecimal.
    pub cert_serial: &'a str,
    /// When it expires, in seconds since the epoch.
    pub cert_not_after: i64,
}

/// The process at the other end of a Unix socket, as it was when it connected; another may have the descriptor by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProcess {
    /// Its number; 0 for one that this process' namespace does not know.
    pub pid: u32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

impl ConnectionFacts {
    /// `conn` names the connection, unique in the process and its restarts; `src` is where it comes from; `identity`
    /// is the name its role was found by; `upstream_user` is the Redis user it acts as (`None`: the default user, by
    /// password or without).
    #[must_use]
    pub fn new(
        conn: &str,
        service: &str,
        src: SocketAddr,
        identity: &str,
        role: &str,
        upstream_user: Option<&str>,
    ) -> Self {
        let mut out = Vec::with_capacity(256);
        text_field(&mut out, "conn", conn, LABEL_MAX);
        let named = out.len();
        text_field(&mut out, "service", service, LABEL_MAX);
        text_field(&mut out, "src", &src.to_string(), LABEL_MAX);
        let before = out.len();
        text_field(&mut out, "identity", identity, IDENTITY_MAX);
        let identity = before..out.len();
        text_field(&mut out, "role", role, LABEL_MAX);
        match upstream_user {
            Some(user) => text_field(&mut out, "upstream_user", user, 2 * LABEL_MAX),
            None => out.extend_from_slice(b",\"upstream_user\":null"),
        }
        Self {
            fragment: out.into(),
            conn: named,
            identity,
            traces: RefCell::default(),
            opening: Box::default(),
            service: service.into(),
            outlets: u32::MAX,
        }
    }

    /// Adds what the `connection_open` record says of TLS.
    #[must_use]
    pub fn with_tls(mut self, tls: &TlsFacts<'_>) -> Self {
        let mut out = Vec::with_capacity(256);
        text_field(&mut out, "tls", tls.version, LABEL_MAX);
        text_field(&mut out, "cipher", tls.cipher, LABEL_MAX);
        out.extend_from_slice(if tls.resumed { b",\"resumed\":true" } else { b",\"resumed\":false" });
        if !tls.sni.is_empty() {
            text_field(&mut out, "sni", tls.sni, LABEL_MAX);
        }
        if !tls.cert_sha256.is_empty() {
            text_field(&mut out, "cert_sha256", tls.cert_sha256, LABEL_MAX);
            text_field(&mut out, "cert_serial", tls.cert_serial, LABEL_MAX);
            out.extend_from_slice(b",\"cert_not_after\":");
            number(&mut out, tls.cert_not_after);
        }
        self.opening = out.into();
        self
    }

    /// Adds to the `connection_open` record the proxy that the client came through and what that said of it, behind what
    /// is said of TLS.
    #[must_use]
    pub fn with_proxy(mut self, via: SocketAddr, words: &[String]) -> Self {
        let mut out = self.opening.into_vec();
        text_field(&mut out, "via", &via.to_string(), LABEL_MAX);
        if !words.is_empty() {
            names(&mut out, "proxy", words);
        }
        self.opening = out.into();
        self
    }

    /// Adds to the `connection_open` record the process that connected to a Unix socket.
    #[must_use]
    pub fn with_process(mut self, process: PeerProcess) -> Self {
        let mut out = self.opening.into_vec();
        for (key, value) in [("pid", process.pid), ("uid", process.uid), ("gid", process.gid)] {
            number_field(&mut out, key, u64::from(value));
        }
        self.opening = out.into();
        self
    }

    /// The same connection as `before`, of which other things are said now: what its records and the watch remember stays.
    #[must_use]
    pub fn in_place_of(self, before: &Self) -> Self {
        Self { traces: before.traces.clone(), opening: before.opening.clone(), ..self }
    }

    /// Which of these outputs take the connection, by its role and where it comes from; all of them until this is said.
    #[must_use]
    pub fn for_outlets(mut self, plans: &[Plan], role: &str, src: SocketAddr) -> Self {
        let taken = plans.iter().take(OUTLETS_MAX).map(|plan| plan.takes_connection(role, src.ip()));
        self.outlets = taken.enumerate().fold(0, |bits, (index, takes)| bits | u32::from(takes) << index);
        self
    }

    /// Whether the output with this bit takes the connection.
    pub(super) const fn is_for(&self, bit: u32) -> bool {
        self.outlets & bit != 0
    }

    /// What the client proved, as it stands in a line.
    pub(super) fn identity(&self) -> &[u8] {
        self.fragment.get(self.identity.clone()).unwrap_or_default()
    }

    pub(super) const fn traces(&self) -> &RefCell<Traces> {
        &self.traces
    }

    /// The service the connection belongs to.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service
    }

    pub(super) fn fragment_in(&self, shape: Shape) -> &[u8] {
        match shape {
            Shape::Full => &self.fragment,
            Shape::Compact => self.fragment.get(..self.conn).unwrap_or(&self.fragment),
        }
    }

    /// The connection's opening is told, and what only that says need not be kept.
    pub fn forget_opening(&mut self) {
        self.opening = Box::default();
    }

    pub(super) fn opening(&self) -> &[u8] {
        &self.opening
    }
}

/// Appends all of a command, `db` to `us`. What most commands have in common is one constant: an append costs more than
/// its bytes.
pub(super) fn command(out: &mut Vec<u8>, record: &CommandRecord<'_>, notices: Notices, plan: &Plan) {
    subject(out, record, plan);
    match usual(record, plan.shape) {
        Some(constant) => {
            out.extend_from_slice(constant);
            sizes(out, record);
        }
        None => {
            ruling(out, record, plan.shape);
            command_back(out, record, plan.shape);
        }
    }
    if !notices.is_empty() {
        notable(out, notices);
    }
}

/// Appends `notable`.
fn notable(out: &mut Vec<u8>, notices: Notices) {
    out.extend_from_slice(b",\"notable\":[");
    for (index, notice) in notices.iter().enumerate() {
        out.extend_from_slice(if index > 0 { b",\"".as_slice() } else { b"\"" });
        out.extend_from_slice(notice.word().as_bytes());
        out.push(b'"');
    }
    out.push(b']');
}

/// Context to `bytes_in` of a command that was allowed, stood outside a transaction and ran.
pub(super) fn usual(record: &CommandRecord<'_>, shape: Shape) -> Option<&'static [u8]> {
    let usual = record.outcome == Outcome::Ran
        && record.context == Context::TopLevel
        && !record.local
        && record.rule.is_none()
        && record.shadow.is_none()
        && record.tx.is_none()
        && record.error.is_none()
        && record.elements.is_none();
    record.class.filter(|_| usual).and_then(|class| usual_of(class, shape))
}

/// The same of a command that had a reply of this class.
#[inline]
pub(super) fn usual_of(class: Class, shape: Shape) -> Option<&'static [u8]> {
    macro_rules! constant {
        ($class:literal) => {
            match shape {
                Shape::Full => concat!(
                    r#","context":"top","verdict":"allow","outcome":"ran","reply":""#,
                    $class,
                    r#"","bytes_in":"#
                )
                .as_bytes(),
                Shape::Compact => concat!(r#","reply":""#, $class, r#"","bytes_in":"#).as_bytes(),
            }
        };
    }
    match class {
        Class::Status => Some(constant!("status")),
        Class::Integer => Some(constant!("integer")),
        Class::Bulk => Some(constant!("bulk")),
        Class::Null => Some(constant!("null")),
        Class::Array => Some(constant!("array")),
        Class::Error
        | Class::BulkError
        | Class::Map
        | Class::Set
        | Class::Push
        | Class::Double
        | Class::Boolean
        | Class::BigNumber
        | Class::Verbatim => None,
    }
}

/// Appends what is known of a command before it runs: `db` to `verdict` and `rule`.
pub(super) fn command_front(out: &mut Vec<u8>, record: &CommandRecord<'_>, plan: &Plan) {
    subject(out, record, plan);
    ruling(out, record, plan.shape);
}

/// Appends which command it is: `db` to `keys`.
fn subject(out: &mut Vec<u8>, record: &CommandRecord<'_>, plan: &Plan) {
    match (record.db, plan.shape) {
        (0, Shape::Full) => out.extend_from_slice(b",\"db\":0"),
        (0, Shape::Compact) => {}
        (db, _) => {
            out.extend_from_slice(b",\"db\":");
            number(out, db);
        }
    }
    name(out, record.name);
    number(out, record.argc);
    match (plan.arguments, plan.shape) {
        (Arguments::None, _) => {}
        (Arguments::Keys | Arguments::Hashed | Arguments::Values, Shape::Compact) if record.keys.is_none() => {}
        (Arguments::Keys | Arguments::Values, _) => keys(out, record.keys),
        (Arguments::Hashed, _) => hashes(out, record.keys, plan.hash_key.as_deref()),
    }
    if plan.arguments == Arguments::Values
        && let Some(list) = record.keys.arguments
    {
        arguments(out, list);
    }
    if let Some(ScriptMark { digest, bytes }) = record.keys.script {
        out.extend_from_slice(b",\"script_sha1\":\"");
        hexadecimal(out, digest);
        out.push(b'"');
        if let Some(bytes) = bytes {
            number_field(out, "script_bytes", u64::from(bytes));
        }
    }
}

/// Appends what policy said of it, and where it stood: `context` to `rule`. What is usual is left out of a compact line.
fn ruling(out: &mut Vec<u8>, record: &CommandRecord<'_>, shape: Shape) {
    match (record.context, shape) {
        (Context::TopLevel, Shape::Compact) => {}
        (Context::TopLevel, Shape::Full) => out.extend_from_slice(b",\"context\":\"top\""),
        (Context::Multi, _) => out.extend_from_slice(b",\"context\":\"multi\""),
    }
    if let Some(tx) = record.tx {
        number_field(out, "tx", u64::from(tx));
    }
    match (verdict(record), shape) {
        (Verdict::Allow, Shape::Compact) => {}
        (Verdict::Allow, Shape::Full) => out.extend_from_slice(b",\"verdict\":\"allow\""),
        (Verdict::Deny, _) => out.extend_from_slice(b",\"verdict\":\"deny\""),
        (Verdict::Answer, _) => out.extend_from_slice(b",\"verdict\":\"answer\""),
    }
    if let Some(rule) = record.rule {
        text_field(out, "rule", rule, 2 * LABEL_MAX);
    }
    if let Some(rule) = record.shadow {
        text_field(out, "shadow", rule, 2 * LABEL_MAX);
    }
}

/// Appends what became of a command: `outcome` to `us`.
fn command_back(out: &mut Vec<u8>, record: &CommandRecord<'_>, shape: Shape) {
    out.extend_from_slice(match record.outcome {
        Outcome::Denied => b",\"outcome\":\"denied\"".as_slice(),
        Outcome::Ran if shape == Shape::Compact => b"",
        Outcome::Ran => b",\"outcome\":\"ran\"",
        Outcome::Error => b",\"outcome\":\"error\"",
        Outcome::Queued => b",\"outcome\":\"queued\"",
        Outcome::Aborted => b",\"outcome\":\"aborted\"",
        Outcome::Nil => b",\"outcome\":\"nil\"",
        Outcome::Incomplete => b",\"outcome\":\"incomplete\"",
        Outcome::Unanswered => b",\"outcome\":\"unanswered\"",
    });
    reply(out, record.class, record.error);
    if let Some((classes, total)) = record.elements {
        out.extend_from_slice(b",\"elements\":[");
        for (index, class) in classes.iter().take(ELEMENTS_MAX).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.push(b'"');
            out.extend_from_slice(class_word(*class).as_bytes());
            out.push(b'"');
        }
        out.push(b']');
        number_field(out, "elements_total", total);
    }
    out.extend_from_slice(b",\"bytes_in\":");
    sizes(out, record);
}

/// Appends the number of `bytes_in`, and `bytes_out` and `us`.
fn sizes(out: &mut Vec<u8>, record: &CommandRecord<'_>) {
    number(out, record.bytes_in);
    out.extend_from_slice(b",\"bytes_out\":");
    number(out, record.bytes_out);
    match record.us {
        Some(us) => {
            out.extend_from_slice(b",\"us\":");
            number(out, us);
        }
        None => out.extend_from_slice(b",\"us\":null"),
    }
}

/// Appends `reply`: an error's code, else the reply's class, else null.
pub(super) fn reply(out: &mut Vec<u8>, class: Option<Class>, error: Option<&[u8]>) {
    let word = match (error.filter(|word| is_error_code(word)), class) {
        (Some(code), _) => code,
        (None, Some(class)) => class_word(class).as_bytes(),
        (None, None) if error.is_some() => b"error",
        (None, None) => {
            out.extend_from_slice(b",\"reply\":null");
            return;
        }
    };
    out.extend_from_slice(b",\"reply\":\"");
    out.extend_from_slice(word);
    out.push(b'"');
}

/// Whether the first word of an error has the shape of a code. A script can make errors of any text, its arguments
/// among it; only a code is shown, and in upper case it cannot be taken for a class.
fn is_error_code(word: &[u8]) -> bool {
    word.len() <= 32
        && word.first().is_some_and(u8::is_ascii_uppercase)
        && word.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_')
}

/// `cmd` and `sub` of every row of the catalog as they stand in a line, `argc` to come; rendered once.
static KNOWN: LazyLock<Box<[Box<[u8]>]>> = LazyLock::new(|| {
    let one = |(_, entry): (CommandId, &'static Entry)| {
        let mut out = Vec::new();
        known_name(&mut out, entry.name, entry.sub);
        out.extend_from_slice(ARGC);
        out.into()
    };
    catalog::iter().map(one).collect()
});
const ARGC: &[u8] = b",\"argc\":";

/// A command of the catalog, up to the number of its words.
#[inline]
pub(super) fn known(id: CommandId) -> &'static [u8] {
    KNOWN.get(id.index()).map_or(ARGC, |known| known)
}

/// Appends a command's name, up to the number of its words.
fn name(out: &mut Vec<u8>, name: Name<'_>) {
    match name {
        Name::Known(id) => out.extend_from_slice(known(id)),
        Name::Unknown(command, sub) => {
            unknown_name(out, "cmd", command);
            if let Some(sub) = sub {
                unknown_name(out, "sub", sub);
            }
            out.extend_from_slice(ARGC);
        }
    }
}

/// Names of the catalog hold nothing to escape.
fn known_name(out: &mut Vec<u8>, name: &'static str, sub: Option<&'static str>) {
    out.extend_from_slice(b",\"cmd\":\"");
    out.extend_from_slice(name.as_bytes());
    if let Some(sub) = sub {
        out.extend_from_slice(b"\",\"sub\":\"");
        out.extend_from_slice(sub.as_bytes());
    }
    out.push(b'"');
}

/// A name nobody knows is always a string, so that the field has one type: what is no UTF-8 is replaced in it, and
/// stands whole in `…_b64` beside it.
fn unknown_name(out: &mut Vec<u8>, field: &str, bytes: &[u8]) {
    let shown = bytes.get(..NAME_MAX).unwrap_or(bytes);
    out.extend_from_slice(b",\"");
    out.extend_from_slice(field.as_bytes());
    out.extend_from_slice(b"\":\"");
    let text = String::from_utf8_lossy(shown);
    escaped(out, &text, usize::MAX);
    out.push(b'"');
    if std::str::from_utf8(shown).is_err() {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(field.as_bytes());
        out.extend_from_slice(b"_b64\":\"");
        super::json::base64(out, shown);
        out.push(b'"');
    }
    if shown.len() < bytes.len() {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(field.as_bytes());
        out.extend_from_slice(b"_cut\":true");
    }
}

/// Appends `keys`, and `keys_cut` and `keys_total` when not all are there.
fn keys(out: &mut Vec<u8>, list: KeyList<'_>) {
    if list.undeterminable {
        out.extend_from_slice(b",\"keys\":null");
        return;
    }
    // One plain key, as most commands have.
    if list.total == 1
        && let Some((key, false)) = list.iter().next()
        && key.len() <= KEY_MAX
        && all_plain(key)
    {
        out.extend_from_slice(b",\"keys\":[\"");
        out.extend_from_slice(key);
        out.extend_from_slice(b"\"]");
        return;
    }
    if list.total == 0 && list.bytes.is_empty() {
        out.extend_from_slice(b",\"keys\":[]");
        return;
    }
    out.extend_from_slice(b",\"keys\":[");
    let start = out.len();
    let mut shown: u32 = 0;
    for (bytes, cut) in list.iter() {
        let before = out.len();
        if shown > 0 {
            out.push(b',');
        }
        let front = bytes.get(..KEY_MAX);
        bytes_value(out, front.unwrap_or(bytes), cut || bytes.len() > KEY_MAX);
        if out.len().saturating_sub(start) > KEYS_RENDERED_MAX {
            out.truncate(before);
            break;
        }
        shown = shown.saturating_add(1);
        if shown == KEYS_MAX {
            break;
        }
    }
    out.push(b']');
    if shown < list.total {
        out.extend_from_slice(b",\"keys_cut\":true");
        number_field(out, "keys_total", u64::from(list.total));
    }
}

/// Appends `keys_hmac`, and `keys_cut` and `keys_total` when not all are there.
fn hashes(out: &mut Vec<u8>, list: KeyList<'_>, key: Option<&HashKey>) {
    let Some(key) = key.filter(|_| !list.undeterminable) else {
        out.extend_from_slice(b",\"keys_hmac\":null");
        return;
    };
    out.extend_from_slice(b",\"keys_hmac\":[");
    let mut shown: u32 = 0;
    for (bytes, cut) in list.iter() {
        if shown > 0 {
            out.push(b',');
        }
        out.extend_from_slice(if cut { b"{\"hmac\":\"".as_slice() } else { b"\"" });
        hexadecimal(out, &key.hash(bytes));
        out.extend_from_slice(if cut { b"\",\"cut\":true}".as_slice() } else { b"\"" });
        shown = shown.saturating_add(1);
    }
    out.push(b']');
    if shown < list.total {
        out.extend_from_slice(b",\"keys_cut\":true");
        number_field(out, "keys_total", u64::from(list.total));
    }
}

/// Appends `args`, and `args_cut` when not all are there.
fn arguments(out: &mut Vec<u8>, list: ArgumentList<'_>) {
    out.extend_from_slice(b",\"args\":[");
    let start = out.len();
    let mut shown: u32 = 0;
    for word in list.iter() {
        let before = out.len();
        if shown > 0 {
            out.push(b',');
        }
        match word {
            Some((bytes, cut)) => bytes_value(out, bytes, cut),
            None => out.extend_from_slice(b"null"),
        }
        if out.len().saturating_sub(start) > ARGUMENTS_RENDERED_MAX {
            out.truncate(before);
            break;
        }
        shown = shown.saturating_add(1);
    }
    out.push(b']');
    if shown < list.total {
        out.extend_from_slice(b",\"args_cut\":true");
    }
}

fn hexadecimal(out: &mut Vec<u8>, bytes: &[u8]) {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).map_or(b'0', |digit| digit as u8);
    for byte in bytes {
        out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
}

/// The class of a reply, as records name it. Lower case, unlike the code of an error.
pub(super) const fn class_word(class: Class) -> &'static str {
    match class {
        Class::Status => "status",
        Class::Error | Class::BulkError => "error",
        Class::Integer => "integer",
        Class::Bulk => "bulk",
        Class::Null => "null",
        Class::Array => "array",
        Class::Map => "map",
        Class::Set => "set",
        Class::Push => "push",
        Class::Double => "double",
        Class::Boolean => "boolean",
        Class::BigNumber => "bignumber",
        Class::Verbatim => "verbatim",
    }
}

#[cfg(test)]
mod tests {
    use super::known_name;

    #[test]
    fn a_known_command_is_named_by_its_row() {
        for (name, sub, expected) in
            [("GET", None, r#","cmd":"GET""#), ("CONFIG", Some("SET"), r#","cmd":"CONFIG","sub":"SET""#)]
        {
            let mut out = Vec::new();
            known_name(&mut out, name, sub);
            assert_eq!(out, expected.as_bytes());
        }
    }
}
