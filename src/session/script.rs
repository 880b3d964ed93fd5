//! Scripted dialogues: bytes from the client, bytes that must go up, bytes from Redis, bytes that must come down, and
//! the records that must have been written. Time is virtual.

use super::{
    End, MemoryBudget, Turn, Wants,
    error::CloseReason,
    gather::Gather,
    inquiry::Answer,
    machine::{Session, SessionConfig},
    renewal::Renewal,
};
use crate::{
    audit::{encode::ConnectionFacts, outlet::Outlet, record::Recorder},
    lane::greeting::{Credential, Greeting},
    moment::Moment,
    policy::{
        guards::Guards,
        identity::{AuthenticatedPeer, Identity, Match, Role},
        network::Admission,
        pattern::Pattern,
        rules::{Policy, Spec},
    },
    resp::{reply::ReplyLimits, request::RequestLimits},
    secret::Secret,
};
use std::sync::Arc;

pub(crate) struct Setup {
    pub(super) deny: Vec<&'static str>,
    /// What looks at arguments besides.
    pub(super) guards: Guards,
    /// Limits in time.
    pub(super) rates: Vec<crate::policy::rates::Limit>,
    pub(crate) config: SessionConfig,
    /// Whether the greeting is answered before the script begins.
    pub(super) greeted: bool,
    pub(super) room: usize,
    pub(super) memory_max: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            deny: vec!["FLUSHALL", "CONFIG", "KEYS"],
            guards: Guards::default(),
            rates: Vec::new(),
            config: SessionConfig {
                request: RequestLimits { words_max: 1024 * 1024, bulk_max: 512 << 20, blanks_max: 16, inline: false },
                reply: ReplyLimits { line_max: 64 << 10, bulk_max: 512 << 20, elements_max: 1 << 32 },
                stream_from: 64 << 10,
                held_command_max: 1 << 20,
                unanswered_max: 1 << 20,
                login_timeout_us: 60_000_000,
                idle_timeout_us: 0,
                first_byte_timeout_us: 0,
                half_command_timeout_us: 0,
                client_auth: crate::session::machine::ClientAuth::Refuse,
                show_keys: true,
                begin_writes: false,
                values: None,
                greeting: Greeting {
                    credential: Some(Credential {
                        username: None,
                        password: Secret::new(b"s3cret".to_vec()),
                        others: Vec::new(),
                    }),
                    database: None,
                    set_name: false,
                },
                greeting_timeout_us: 10_000_000,
            },
            greeted: true,
            room: 64 << 20,
            memory_max: 8 << 20,
        }
    }
}

/// One connection whose two ends are the test.
pub(super) struct Script {
    pub(super) session: Session,
    pub(super) recorder: Recorder,
    pub(super) memory: MemoryBudget,
    pub(super) now: Moment,
    pub(super) up: Vec<u8>,
    pub(super) down: Vec<u8>,
    /// What the session left unconsumed of the client's and of Redis' bytes.
    from_client: Vec<u8>,
    from_redis: Vec<u8>,
    records: Vec<serde_json::Value>,
    lines: Vec<u8>,
    pub(super) down_pending: usize,
    pub(super) up_pending: usize,
    /// Whether the sink writes at once what was rendered.
    pub(super) sink_writes: bool,
}

pub(super) const GREETING_UP: &[u8] = b"*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nAUTH\r\n$6\r\ns3cret\r\n";

pub(crate) fn peer(deny: &[&str]) -> AuthenticatedPeer {
    peer_under(Policy::compile(deny).unwrap())
}

fn peer_under(policy: Policy) -> AuthenticatedPeer {
    let admitted =
        Admission::new(&["127.0.0.0/8".parse().unwrap()], &[]).admit("127.0.0.1:4711".parse().unwrap()).unwrap();
    let identity = Identity { cn: Some("app".to_owned()), not_after: i64::MAX / 2, ..Identity::default() };
    let role = Role {
        name: "app".to_owned(),
        matches: vec![Match {
            cn: Some(Pattern::new("app", crate::policy::pattern::Kind::Plain).unwrap()),
            ..Match::default()
        }],
        from: None,
        priority: 0,
        policy: Arc::new(policy),
    };
    let service: Arc<str> = Arc::from("cache");
    AuthenticatedPeer::authenticate(admitted, Arc::new(identity), &[Arc::new(role)], &service, Moment::default())
        .unwrap()
}

impl Script {
    pub(super) fn new() -> Self {
        Self::with(Setup::default())
    }

    pub(super) fn with(setup: Setup) -> Self {
        let mut recorder = Recorder::new(0, setup.room);
        let mut memory = MemoryBudget::new(setup.memory_max);
        let now = Moment { mono_us: 1_000_000, wall_us: 1_763_672_400_000_000 };
        let facts = ConnectionFacts::new("t-1", "cache", "127.0.0.1:4711".parse().unwrap(), "app", "app", None);
        let turn = Turn { now, recorder: &mut recorder, memory: &mut memory, down_pending: 0, up_pending: 0 };
        let spec = Spec { deny: &setup.deny, guards: Some(&setup.guards), rates: &setup.rates, ..Spec::default() };
        let peer = peer_under(Policy::build(&spec).unwrap());
        let session = Session::new(Arc::new(setup.config), peer, facts, &turn);
        let mut script = Self {
            session,
            recorder,
            memory,
            now,
            up: Vec::new(),
            down: Vec::new(),
            from_client: Vec::new(),
            from_redis: Vec::new(),
            records: Vec::new(),
            lines: Vec::new(),
            down_pending: 0,
            up_pending: 0,
            sink_writes: true,
        };
        script.call(&[], |session, _, turn, up, down| {
            session.connected(turn, up, down);
            0
        });
        if setup.greeted {
            script.up(GREETING_UP).redis(b"-NOAUTH Authentication required.\r\n+OK\r\n").down(b"");
        }
        script
    }

    fn call(
        &mut self,
        input: &[u8],
        act: impl FnOnce(&mut Session, &[u8], &mut Turn<'_>, &mut Gather<'_>, &mut Gather<'_>) -> usize,
    ) -> usize {
        let mut turn = Turn {
            now: self.now,
            recorder: &mut self.recorder,
            memory: &mut self.memory,
            down_pending: self.down_pending,
            up_pending: self.up_pending,
        };
        // Which of the two gathers from `input` depends on the call; a test may let both.
        let mut up = Gather::new(input, Vec::new());
        let mut down = Gather::new(input, Vec::new());
        let consumed = act(&mut self.session, input, &mut turn, &mut up, &mut down);
        for (gather, all) in [(&up, &mut self.up), (&down, &mut self.down)] {
            let (first, second) = gather.slices();
            all.extend_from_slice(first);
            all.extend_from_slice(second);
        }
        self.write_records();
        consumed
    }

    fn write_records(&mut self) {
        self.lines.extend(self.recorder.outlet().take());
        if self.sink_writes {
            write_all(self.recorder.outlet());
        }
    }

    /// What the shell does after every call: whatever has come that was waited for is told.
    fn turn_over(&mut self) {
        for _ in 0..1000 {
            let wants = self.session.wants();
            let written = wants.written.is_some_and(|target| self.recorder.reached() >= target);
            let flushed = wants.flushed && self.down_pending == 0;
            if written || flushed || (wants.room && self.recorder.has_room()) {
                self.call(&[], |session, _, turn, up, down| {
                    session.resume(turn, up, down);
                    0
                });
                continue;
            }
            let before = (self.from_client.len(), self.from_redis.len());
            if wants.read_up && !self.from_redis.is_empty() {
                let input = std::mem::take(&mut self.from_redis);
                let consumed = self.call(&input, Session::upstream);
                self.from_redis = input[consumed..].to_vec();
                self.offer_replies_again();
            }
            if self.session.wants().read_down && !self.from_client.is_empty() {
                let input = std::mem::take(&mut self.from_client);
                let consumed = self.call(&input, Session::downstream);
                self.from_client = input[consumed..].to_vec();
                self.offer_again();
            }
            if before == (self.from_client.len(), self.from_redis.len()) && wants == self.session.wants() {
                return;
            }
        }
        panic!("the session does not come to rest");
    }

    /// What the session left though it would read on is offered again only behind more bytes. So it must not be waiting
    /// for a second look: nobody may ever call.
    fn offer_again(&mut self) {
        if self.session.wants().read_down && !self.from_client.is_empty() {
            let input = self.from_client.clone();
            assert_eq!(self.call(&input, Session::downstream), 0, "of what was left there was more to take");
        }
    }

    /// The same of replies.
    fn offer_replies_again(&mut self) {
        if self.session.wants().read_up && !self.from_redis.is_empty() {
            let input = self.from_redis.clone();
            assert_eq!(self.call(&input, Session::upstream), 0, "of the replies left there was more to take");
        }
    }

    /// Bytes from the client.
    pub(super) fn client(&mut self, bytes: &[u8]) -> &mut Self {
        self.from_client.extend_from_slice(bytes);
        self.turn_over();
        self
    }

    /// One command from the client, in canonical encoding: words separated by blanks.
    pub(super) fn say(&mut self, line: &str) -> &mut Self {
        self.client(&command(line))
    }

    /// Bytes from Redis.
    pub(super) fn redis(&mut self, bytes: &[u8]) -> &mut Self {
        self.from_redis.extend_from_slice(bytes);
        self.turn_over();
        self
    }

    /// Exactly this has gone up since the last look.
    #[track_caller]
    pub(super) fn up(&mut self, expected: &[u8]) -> &mut Self {
        assert_eq!(String::from_utf8_lossy(&self.up), String::from_utf8_lossy(expected), "what went up");
        self.up.clear();
        self
    }

    /// Exactly these commands have gone up since the last look.
    #[track_caller]
    pub(super) fn sent(&mut self, lines: &[&str]) -> &mut Self {
        let expected: Vec<u8> = lines.iter().flat_map(|line| command(line)).collect();
        self.up(&expected)
    }

    /// Exactly this has come down since the last look.
    #[track_caller]
    pub(super) fn down(&mut self, expected: &[u8]) -> &mut Self {
        assert_eq!(String::from_utf8_lossy(&self.down), String::from_utf8_lossy(expected), "what came down");
        self.down.clear();
        self
    }

    /// Time passes; a deadline that has come is told.
    pub(super) fn wait_us(&mut self, us: u64) -> &mut Self {
        self.now = self.now.plus_us(us);
        if self.session.wants().wake_at_us.is_some_and(|at| self.now.mono_us >= at) {
            self.call(&[], |session, _, turn, up, down| {
                session.resume(turn, up, down);
                0
            });
        }
        self.turn_over();
        self
    }

    pub(super) fn client_end(&mut self, clean: bool) -> &mut Self {
        self.call(&[], |session, _, turn, up, down| {
            session.downstream_end(clean, turn, up, down);
            0
        });
        self.turn_over();
        self
    }

    pub(super) fn redis_end(&mut self, unsent: usize) -> &mut Self {
        self.call(&[], |session, _, turn, _, down| {
            session.upstream_end(unsent, turn, down);
            0
        });
        self.turn_over();
        self
    }

    pub(super) fn drain(&mut self) -> &mut Self {
        self.drain_for(CloseReason::Drain)
    }

    /// The peer's right to be here ends.
    pub(super) fn revoke(&mut self) -> &mut Self {
        self.drain_for(CloseReason::Revoked)
    }

    pub(super) fn drain_for(&mut self, reason: CloseReason) -> &mut Self {
        self.call(&[], |session, _, turn, up, down| {
            session.drain(reason, turn, up, down);
            0
        });
        self.turn_over();
        self
    }

    /// A reload leaves the peer in, under another policy.
    pub(super) fn renew(&mut self, deny: &[&str]) -> &mut Self {
        self.renew_as(peer(deny))
    }

    /// The same, as whoever it is from now on.
    pub(super) fn renew_as(&mut self, peer: AuthenticatedPeer) -> &mut Self {
        let (facts, config) = (self.session.core.facts.clone(), Arc::clone(&self.session.core.config));
        self.session.renew(Renewal { peer, facts, config });
        self.turn_over();
        self
    }

    /// The user and password that the shell is to look up; it asks once.
    #[track_caller]
    pub(super) fn asks(&mut self, user: &str, password: &str) -> &mut Self {
        assert!(self.wants().asks && !self.wants().read_down, "{:?}", self.wants());
        let ask = self.session.take_ask().expect("a question");
        assert_eq!((ask.user.expose(), ask.password.expose()), (user.as_bytes(), password.as_bytes()));
        assert!(!self.wants().asks && self.session.take_ask().is_none());
        self
    }

    /// What the shell has found out.
    pub(super) fn answer(&mut self, answer: Answer) -> &mut Self {
        self.call(&[], |session, _, turn, up, down| {
            session.answer(answer, turn, up, down);
            0
        });
        self.turn_over();
        self
    }

    pub(super) fn abort(&mut self) -> &mut Self {
        self.call(&[], |session, _, turn, _, _| {
            session.abort(CloseReason::Internal, turn);
            0
        });
        self
    }

    /// The sink writes again.
    pub(super) fn sink_recovers(&mut self) -> &mut Self {
        self.sink_writes = true;
        write_all(self.recorder.outlet());
        self.turn_over();
        self
    }

    pub(super) fn wants(&self) -> Wants {
        self.session.wants()
    }

    /// The connection is over, closed for this reason, with nothing left to record.
    #[track_caller]
    pub(super) fn closed(&mut self, reason: &str, down: End) -> &mut Self {
        let wants = self.wants();
        assert!(wants.done, "done: {wants:?}");
        assert_eq!((wants.down, wants.up), (down, End::Abort));
        let records = self.records();
        let last = records.last().unwrap();
        assert_eq!(
            (last["event"].as_str(), last["reason"].as_str()),
            (Some("connection_close"), Some(reason)),
            "{last}"
        );
        self
    }

    /// All records since the last look.
    #[track_caller]
    pub(super) fn records(&mut self) -> &[serde_json::Value] {
        self.parse_lines();
        &self.records
    }

    fn parse_lines(&mut self) {
        for line in std::mem::take(&mut self.lines).split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            self.records.push(serde_json::from_slice(line).expect("every line is JSON"));
        }
    }

    /// The command records since the last look, as `CMD outcome` or `CMD begin`, proxy's own with a `^` before them.
    #[track_caller]
    pub(super) fn recorded(&mut self, expected: &[&str]) -> &mut Self {
        self.parse_lines();
        let seen: Vec<String> = self.records.iter().filter_map(summary).collect();
        assert_eq!(seen, expected, "{:#?}", self.records);
        self.records.clear();
        self
    }

    /// Forgets the records so far.
    pub(super) fn forget(&mut self) -> &mut Self {
        self.parse_lines();
        self.records.clear();
        self
    }
}

fn summary(record: &serde_json::Value) -> Option<String> {
    let text = |key: &str| record[key].as_str().unwrap_or_default();
    let mut name = text("cmd").to_owned();
    if let Some(sub) = record["sub"].as_str() {
        name = format!("{name}|{sub}");
    }
    match text("event") {
        "command" => Some(format!("{name} {}", text("outcome"))),
        "begin" => Some(format!("{name} begin")),
        "upstream_command" => Some(format!("^{name} {}", text("outcome"))),
        _ => None,
    }
}

/// A command's canonical encoding; words separated by single blanks.
pub(super) fn command(line: &str) -> Vec<u8> {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let mut out = Vec::new();
    crate::resp::encode::command(&mut out, &words);
    out
}

/// The sink has written all there is.
fn write_all(outlet: &mut Outlet) {
    outlet.set_written(outlet.rendered());
}
