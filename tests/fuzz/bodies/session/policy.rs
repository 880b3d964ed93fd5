//! Who the client is and what its role says beyond names: its own credentials, ACL rules, a rename map, pinned scripts.

use super::{DENIED, shell::Run};
use ravelin::{
    audit::encode::ConnectionFacts,
    moment::Moment,
    policy::{
        guards::Guards,
        identity::{AuthenticatedPeer, Identity, Match, Role},
        network::Admission,
        pattern::{Kind, Pattern},
        rules::{Policy, Spec},
        scripts::{Pins, ScriptDigest, Scripts},
    },
    secret::Secret,
    session::{
        End,
        inquiry::{Answer, Ask, Selected},
        machine::ClientAuth,
    },
};
use std::sync::{Arc, OnceLock};

/// What a client must not get to Redis, nor into a record or a reply; the first is right.
pub(super) const PASSWORDS: [&[u8]; 4] = [b"hunter2", b"wr0ng", b"b4nned", b"l0st"];
/// Usual names, and those that the server knows.
const RENAMED: [(&str, &str); 2] = [("CONFIG", "zq7config"), ("MGET", "zq7mget")];
/// What all secret names have in them.
const MARK: &[u8] = b"zq7";
const PINNED: &str = "return 1";
const RULES: &str = "+@all ~[^xrw]* %R~r* %W~w* &[^x]* &a &b &z";

/// What a client says besides, where these settings are in force: `Words` whose first number is 128 and more.
pub(super) const LINES: [&str; 36] = [
    "AUTH hunter2",
    "AUTH u hunter2",
    "AUTH strict hunter2",
    "AUTH u wr0ng",
    "AUTH wr0ng",
    "AUTH u b4nned",
    "AUTH u l0st",
    "AUTH hunter2 x",
    "HELLO 3 AUTH u hunter2",
    "HELLO 2 AUTH strict hunter2 SETNAME n",
    "HELLO 3 SETNAME n AUTH u wr0ng",
    "HELLO 3 AUTH u b4nned",
    "HELLO 3 AUTH u wr0ng AUTH u hunter2",
    "GET x1",
    "GET w1",
    "GET r1",
    "SET r1 v",
    "SET w1 v",
    "COPY r1 w1",
    "COPY w1 r1",
    "MSET a v x1 v",
    "MGET a r1",
    "MGET a x1",
    "mget a err",
    "CONFIG GET err",
    "config resetstat",
    "CONFIG zq7config",
    "zq7config GET dir",
    "ZQ7Config GET dir",
    "zq7mget a",
    "SUBSCRIBE x1",
    "PSUBSCRIBE c",
    "EVAL return~1 1 a",
    "EVAL return~1 1 x1",
    "EVAL return~2 0",
    "SCRIPT LOAD return~2",
];

#[derive(Clone, Copy)]
pub(super) struct Setting(u8);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Auth {
    /// As the mode says: refused or ignored.
    OfMode,
    Verify,
    Select,
    /// Verified, and the first thing a client does.
    AtOnce,
}

impl Setting {
    pub(super) const fn of(byte: u8) -> Self {
        Self(byte)
    }

    const fn auth(self) -> Auth {
        match self.0 & 3 {
            0 => Auth::OfMode,
            1 => Auth::Verify,
            2 => Auth::Select,
            _ => Auth::AtOnce,
        }
    }

    pub(super) fn client_auth(self, of_mode: ClientAuth) -> ClientAuth {
        match self.auth() {
            Auth::OfMode => of_mode,
            Auth::Verify | Auth::AtOnce => ClientAuth::Verify,
            Auth::Select => ClientAuth::Select,
        }
    }

    pub(super) fn logs_in_at_once(self) -> bool {
        self.auth() == Auth::AtOnce
    }

    /// Whether replies are as foretold from the start.
    pub(super) fn is_plain(self) -> bool {
        matches!(self.auth(), Auth::OfMode | Auth::AtOnce)
    }

    pub(super) const fn has_lines(self) -> bool {
        self.0 != 0
    }

    pub(super) const fn has_rules(self) -> bool {
        self.0 & 4 != 0
    }

    const fn minds_databases(self) -> bool {
        self.0 & 16 != 0
    }

    pub(super) const fn shows_values(self) -> bool {
        self.0 & 8 != 0
    }

    /// The client under a policy of this setting, stricter or not, with the role of its certificate or another.
    pub(super) fn peer(self, strict: bool, selected: bool) -> AuthenticatedPeer {
        static PEERS: OnceLock<Vec<AuthenticatedPeer>> = OnceLock::new();
        let peers = PEERS.get_or_init(|| (0..16).map(make).collect());
        let bits = [self.has_rules(), self.minds_databases(), strict, selected];
        peers[bits.iter().rev().fold(0, |at, bit| at * 2 + usize::from(*bit))].clone()
    }
}

fn make(bits: u8) -> AuthenticatedPeer {
    let [rules, databases, strict, selected] = [1, 2, 4, 8].map(|bit| bits & bit != 0);
    let mut guards = Guards::default();
    for (usual, word) in RENAMED.iter().filter(|_| rules) {
        guards.renames.add(usual, Secret::new(word.as_bytes().to_vec())).unwrap();
    }
    let pins = Pins::parse(&format!("{}\nfunction f", ScriptDigest::of(PINNED.as_bytes()))).unwrap();
    guards.scripts = rules.then_some(Scripts::Pinned(pins));
    let text = format!("{RULES} {}", if databases { "db=0,1,2" } else { "" });
    let deny: &[&str] = if strict { &["FLUSHALL", "KEYS", "GET"] } else { &DENIED };
    let spec = Spec { deny, rules: rules.then_some(&text), guards: Some(&guards), ..Spec::default() };
    let role = |name: &str, policy| {
        Arc::new(Role {
            name: name.to_owned(),
            matches: vec![Match { cn: Some(Pattern::new(name, Kind::Plain).unwrap()), ..Match::default() }],
            from: None,
            priority: 0,
            policy,
        })
    };
    let policy = Arc::new(Policy::build(&spec).unwrap());
    let roles = [role("app", Arc::clone(&policy)), role("inner", policy)];
    let admitted =
        Admission::new(&["127.0.0.0/8".parse().unwrap()], &[]).admit("127.0.0.1:4711".parse().unwrap()).unwrap();
    let identity = Identity { cn: Some("app".to_owned()), not_after: i64::MAX / 2, ..Identity::default() };
    let peer =
        AuthenticatedPeer::authenticate(admitted, Arc::new(identity), &roles, &Arc::from("cache"), Moment::default())
            .unwrap();
    if selected { peer.select(&roles, "inner").unwrap() } else { peer }
}

/// The usual name of what the server was told to do.
pub(super) fn usual(name: Vec<u8>) -> Vec<u8> {
    let known = RENAMED.iter().find(|(_, word)| name.eq_ignore_ascii_case(word.as_bytes()));
    known.map_or(name, |(usual, _)| usual.as_bytes().to_vec())
}

/// What of the client's bytes may be sent up under a secret name, at most.
pub(super) fn renamed_in(bytes: &[u8]) -> usize {
    let said = |usual: &str| {
        let is = |part: &&[u8]| {
            let part = part.strip_prefix(b"\r\n").and_then(|part| part.strip_suffix(b"\r\n"));
            part.is_some_and(|word| word.eq_ignore_ascii_case(usual.as_bytes()))
        };
        bytes.windows(usual.len() + 4).filter(is).count()
    };
    RENAMED.iter().map(|(usual, _)| said(usual)).sum()
}

/// One command has come up.
pub(super) fn went_up(run: &mut Upward, words: &[&[u8]]) {
    let name = words[0].to_ascii_uppercase();
    let shown = || words.iter().map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>();
    let verifies = run.setting.client_auth(ClientAuth::Refuse) == ClientAuth::Verify;
    if verifies && !run.granted && !run.locked {
        assert!(name == b"RESET", "{:?} went up before the client had authenticated", shown());
    }
    assert!(!(run.selected && name == b"RESET"), "RESET went up for a client that has selected its role");
    assert!(!(run.closed_get && name == b"GET"), "{:?} went up for a role that it is denied to", shown());
    if !run.setting.has_rules() {
        return;
    }
    if RENAMED.iter().any(|(_, word)| name.eq_ignore_ascii_case(word.as_bytes())) {
        run.renamed += 1;
        assert!(run.raw || run.renamed <= run.asked_for, "a client has said {:?}", shown());
    }
    assert!(!RENAMED.iter().any(|(usual, _)| name == usual.as_bytes()), "{:?} went up", shown());
    let read = |key: &&[u8]| !key.starts_with(b"x") && !key.starts_with(b"w");
    let write = |key: &&[u8]| !key.starts_with(b"x") && !key.starts_with(b"r");
    let allowed = match &usual(name.clone())[..] {
        b"GET" | b"MGET" | b"WATCH" => words[1..].iter().all(read),
        b"SET" => words.get(1).is_some_and(write),
        b"MSET" => words[1..].iter().step_by(2).all(write),
        b"COPY" => read(&words[1]) && write(&words[2]),
        b"SUBSCRIBE" | b"SSUBSCRIBE" => !words[1..].iter().any(|channel| channel.starts_with(b"x")),
        b"PSUBSCRIBE" => words[1..].iter().all(|channel| [&b"a"[..], b"b", b"z", b"[^x]*"].contains(channel)),
        b"EVAL" => words.get(1) == Some(&PINNED.as_bytes()) && words.get(3).is_none_or(|key| read(key) && write(key)),
        b"SCRIPT" if words.len() > 2 => words[2] == PINNED.as_bytes(),
        b"SELECT" if run.setting.minds_databases() => {
            words.len() != 2 || matches!(words[1], b"0" | b"1" | b"2") || !words[1].iter().any(u8::is_ascii_digit)
        }
        _ => true,
    };
    assert!(allowed, "{:?} went up", shown());
}

/// What [`went_up`] knows of a run.
pub(super) struct Upward {
    pub(super) setting: Setting,
    /// Redis has not been greeted yet.
    pub(super) locked: bool,
    pub(super) raw: bool,
    /// A right password was found.
    pub(super) granted: bool,
    pub(super) selected: bool,
    /// The role that was selected is denied GET, and no reload has changed that.
    pub(super) closed_get: bool,
    /// Commands that were sent under a secret name, and those that may have been.
    pub(super) renamed: usize,
    pub(super) asked_for: usize,
}

/// Nothing secret is in what the client, or whoever reads the records, is given.
pub(super) fn is_told(setting: Setting, bytes: &[u8], records: bool) {
    for password in PASSWORDS {
        assert!(super::redis::find(bytes, password).is_none(), "a password is told: {}", bytes.escape_ascii());
    }
    if !setting.has_rules() {
        // There are no secret names.
        return;
    }
    let low = bytes.to_ascii_lowercase();
    for at in (0..low.len()).filter(|at| low[*at..].starts_with(MARK)) {
        // Who has said it is told that nobody may, as of any word.
        let echo = !records && low[..at].ends_with(b"to run the '");
        assert!(echo, "a secret name is told: {}", bytes.escape_ascii());
    }
}

/// What is found out about a user and password.
pub(super) fn find_out(run: &Run, ask: &Ask) -> Answer {
    assert_eq!(ask.selects, run.upward.setting.auth() == Auth::Select);
    let strict = ask.user.expose() == b"strict";
    match PASSWORDS.iter().position(|password| *password == ask.password.expose()) {
        Some(0) if ask.selects => Answer::Selected(Box::new(Selected {
            peer: run.upward.setting.peer(strict, true),
            facts: ConnectionFacts::new("t-1", "cache", "127.0.0.1:4711".parse().unwrap(), "app", "inner", Some("app")),
            config: Arc::clone(&run.config),
        })),
        Some(0) => Answer::Granted,
        Some(1) => Answer::Denied,
        Some(2) => Answer::Banned(1),
        _ => Answer::Unavailable,
    }
}

impl Run {
    /// What the session has asked is answered, if it has.
    pub(super) fn answer(&mut self) {
        let Some(ask) = self.ask.take() else { return };
        let answer = find_out(self, &ask);
        self.upward.granted |= matches!(answer, Answer::Granted);
        if matches!(answer, Answer::Selected(_)) {
            if self.session.wants().up != End::Open {
                // The old connection is lost, and the session with it.
                return;
            }
            self.another_redis();
            self.upward.selected = true;
            self.upward.closed_get = ask.user.expose() == b"strict";
        }
        self.tell(b"", &mut |session, _, turn, up, down| {
            session.answer(answer.clone(), turn, up, down);
            0
        });
    }
}
