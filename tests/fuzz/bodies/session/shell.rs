//! The session between its neighbours, driven as the pump drives it.

use super::{
    DENIED, ID,
    policy::{PASSWORDS, Setting, Upward, is_told, went_up},
    redis::{Redis, each_command, find},
};
use ravelin::{
    audit::{
        arguments::Values,
        encode::{ConnectionFacts, MAX_LINE},
        record::Recorder,
    },
    lane::greeting::{Credential, Greeting},
    moment::Moment,
    resp::{reply::ReplyLimits, request::RequestLimits},
    secret::Secret,
    session::{
        End, MemoryBudget, Turn,
        gather::Gather,
        inquiry::Ask,
        machine::{ClientAuth, Session, SessionConfig},
    },
};
use std::sync::Arc;

pub(super) const HELD: usize = 1024;

pub(super) struct Run {
    pub(super) session: Session,
    pub(super) recorder: Recorder,
    pub(super) memory: MemoryBudget,
    pub(super) now: Moment,
    /// What the client has written and the session has not been offered; what it was offered and left.
    pub(super) wire: Vec<u8>,
    pub(super) down_rest: Vec<u8>,
    pub(super) down_again: bool,
    pub(super) client_ended: Option<bool>,
    pub(super) end_told: bool,
    /// Towards Redis: not taken by the kernel yet; taken and not understood yet.
    pub(super) up: Vec<u8>,
    pub(super) seen: Vec<u8>,
    pub(super) redis: Redis,
    pub(super) said: Vec<u8>,
    /// What it said from the replication id on.
    pub(super) streamed: Vec<u8>,
    pub(super) up_rest: Vec<u8>,
    pub(super) up_again: bool,
    pub(super) redis_ended: bool,
    /// What the client was given, and how much of it its socket has not taken.
    pub(super) down: Vec<u8>,
    pub(super) unread: usize,
    pub(super) blocked: bool,
    /// What is known of what may go up.
    pub(super) upward: Upward,
    /// A user and password that are being looked up.
    pub(super) ask: Option<Ask>,
    pub(super) config: Arc<SessionConfig>,
    pub(super) records: u64,
    pub(super) lines: Vec<u8>,
}

pub(super) type Act<'a> =
    &'a mut dyn FnMut(&mut Session, &[u8], &mut Turn<'_>, &mut Gather<'_>, &mut Gather<'_>) -> usize;

impl Run {
    pub(super) fn tell(&mut self, input: &[u8], act: Act<'_>) -> usize {
        let (mut up, mut down) = (Gather::new(input, Vec::new()), Gather::new(input, Vec::new()));
        let mut turn = Turn {
            now: self.now,
            recorder: &mut self.recorder,
            memory: &mut self.memory,
            down_pending: self.unread,
            up_pending: 0,
        };
        let consumed = act(&mut self.session, input, &mut turn, &mut up, &mut down);
        assert!(consumed <= input.len());
        let (first, second) = up.slices();
        self.up.extend_from_slice(first);
        self.up.extend_from_slice(second);
        let before = self.down.len();
        let (first, second) = down.slices();
        self.down.extend_from_slice(first);
        self.down.extend_from_slice(second);
        if self.blocked {
            self.unread += self.down.len() - before;
        }
        let wants = self.session.wants();
        self.down_again |= !wants.read_down;
        self.up_again |= !wants.read_up;
        consumed
    }

    pub(super) fn downstream(&mut self) {
        let input = std::mem::take(&mut self.down_rest);
        let consumed = self.tell(&input, &mut Session::downstream);
        self.down_rest = input[consumed..].to_vec();
        self.down_again &= !self.down_rest.is_empty();
    }

    pub(super) fn upstream(&mut self) {
        let input = std::mem::take(&mut self.up_rest);
        let consumed = self.tell(&input, &mut Session::upstream);
        self.up_rest = input[consumed..].to_vec();
        self.up_again &= !self.up_rest.is_empty();
    }

    pub(super) fn resume(&mut self) {
        self.tell(b"", &mut |session, _, turn, up, down| {
            session.resume(turn, up, down);
            0
        });
    }

    /// What the pump does by itself after anything has happened.
    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            let wants = self.session.wants();
            if wants.done {
                return;
            }
            if wants.asks {
                self.ask = self.session.take_ask();
                assert!(self.ask.is_some() && !self.session.wants().asks, "it asks and has no question");
                continue;
            }
            let written = wants.written.is_some_and(|written| self.recorder.reached() >= written);
            let due = wants.wake_at_us.is_some_and(|at| at <= self.now.mono_us);
            if written || due || (wants.room && self.recorder.has_room()) || (wants.flushed && self.unread == 0) {
                self.resume();
            } else if wants.read_up
                && self.unread == 0
                && std::mem::take(&mut self.up_again)
                && !self.up_rest.is_empty()
            {
                self.upstream();
            } else if wants.read_down
                && self.up.is_empty()
                && std::mem::take(&mut self.down_again)
                && !self.down_rest.is_empty()
            {
                self.downstream();
            } else {
                return;
            }
        }
        panic!("the session does not come to rest: {:?}", self.session.wants());
    }

    pub(super) fn read(&mut self, most: usize) {
        let wants = self.session.wants();
        let held = !wants.read_down || !self.up.is_empty();
        if wants.down != End::Open || self.end_told {
            return;
        }
        if held {
            if let Some(clean) = self.client_ended
                && self.session.ends_with_client()
            {
                self.end(clean);
            }
        } else if self.wire.is_empty() {
            if let Some(clean) = self.client_ended {
                self.end(clean);
            }
        } else {
            let piece = self.wire.drain(..most.min(self.wire.len()));
            self.down_rest.extend(piece);
            self.downstream();
        }
    }

    pub(super) fn end(&mut self, clean: bool) {
        self.end_told = true;
        self.tell(b"", &mut |session, _, turn, up, down| {
            session.downstream_end(clean, turn, up, down);
            0
        });
    }

    pub(super) fn take(&mut self, most: usize) {
        if self.redis_ended {
            return;
        }
        self.seen.extend(self.up.drain(..most.min(self.up.len())));
        let (redis, said, streamed) = (&mut self.redis, &mut self.said, &mut self.streamed);
        let upward = &mut self.upward;
        let len = each_command(&self.seen, redis.streams || redis.mad, |words| {
            let secret = |word: &&[u8]| PASSWORDS.iter().any(|password| find(word, password).is_some());
            assert!(upward.raw || !words.iter().any(secret), "a client's password went up");
            upward.locked = redis.locked;
            went_up(upward, words);
            assert!(!DENIED.iter().any(|name| words[0].eq_ignore_ascii_case(name.as_bytes())), "{words:?} went up");
            assert!(words[0] != b"NOSUCH", "{words:?} went up");
            let answer = redis.answer(words);
            // Behind it the client has to say again who it is.
            upward.granted &= answer != b"+RESET\r\n";
            if redis.streams && streamed.is_empty() {
                streamed.extend_from_slice(&answer[find(&answer, ID.as_bytes()).unwrap()..]);
            }
            said.extend(answer);
        });
        self.seen.drain(..len);
    }

    /// The upstream is another connection, and nothing was said on it.
    pub(super) fn another_redis(&mut self) {
        let Redis { protected, refuses, mad, .. } = self.redis;
        self.redis = Redis { protected, locked: protected, refuses, mad, ..Redis::default() };
        for bytes in [&mut self.up, &mut self.seen, &mut self.said, &mut self.up_rest] {
            bytes.clear();
        }
        (self.up_again, self.redis_ended) = (false, false);
    }

    pub(super) fn hear(&mut self, most: usize) {
        let wants = self.session.wants();
        if wants.up != End::Open || !wants.read_up || self.unread > 0 {
            return;
        }
        if self.said.is_empty() {
            if std::mem::take(&mut self.redis_ended) {
                let unsent = self.up.len();
                self.tell(b"", &mut |session, _, turn, _, down| {
                    session.upstream_end(unsent, turn, down);
                    0
                });
            }
            return;
        }
        let piece = self.said.drain(..most.min(self.said.len()));
        self.up_rest.extend(piece);
        self.upstream();
    }

    pub(super) fn write(&mut self, most: u64) {
        let lines = self.recorder.outlet().take();
        if !self.upward.raw {
            is_told(self.upward.setting, &lines, true);
        }
        self.records +=
            lines.split(|byte| *byte == b'\n').filter(|line| find(line, b"\"event\":\"command\"").is_some()).count()
                as u64;
        self.lines = if lines.is_empty() { std::mem::take(&mut self.lines) } else { lines };
        let written = self.recorder.outlet().written().saturating_add(most);
        self.recorder.outlet().set_written(written);
    }
}

pub(super) fn start(setting: Setting, mode: u8, connects: bool) -> Run {
    let config = SessionConfig {
        request: RequestLimits { words_max: 64, bulk_max: 1 << 16, blanks_max: 16, inline: mode & 1 != 0 },
        reply: ReplyLimits { line_max: 1024, bulk_max: 1 << 16, elements_max: 1 << 16 },
        stream_from: 256,
        held_command_max: HELD,
        unanswered_max: if mode & 2 == 0 { 1 << 16 } else { 512 },
        login_timeout_us: 60_000_000,
        idle_timeout_us: if mode & 4 == 0 { 0 } else { 3_000_000 },
        client_auth: setting.client_auth(if mode & 8 != 0 { ClientAuth::Ignore } else { ClientAuth::Refuse }),
        show_keys: true,
        begin_writes: false,
        values: setting.shows_values().then(|| Arc::new(Values { roles: Vec::new(), commands: None, bytes_max: 64 })),
        greeting: Greeting {
            credential: (mode & 16 == 0).then(|| Credential {
                username: None,
                password: Secret::new(b"s3cret".to_vec()),
                others: Vec::new(),
            }),
            database: None,
            set_name: false,
        },
        first_byte_timeout_us: 0,
        half_command_timeout_us: 0,
        greeting_timeout_us: 10_000_000,
    };
    let room = if mode & 32 == 0 { 1 << 20 } else { MAX_LINE + 600 };
    let mut recorder = Recorder::new(0, room);
    let mut memory = MemoryBudget::new(if mode & 64 == 0 { 1 << 20 } else { 900 });
    let now = Moment { mono_us: 1_000_000, wall_us: 1_763_672_400_000_000 };
    let facts = ConnectionFacts::new("t-1", "cache", "127.0.0.1:4711".parse().unwrap(), "app", "app", None);
    let turn = Turn { now, recorder: &mut recorder, memory: &mut memory, down_pending: 0, up_pending: 0 };
    let config = Arc::new(config);
    let session = Session::new(Arc::clone(&config), setting.peer(false, false), facts, &turn);
    let mut run = Run {
        session,
        recorder,
        memory,
        now,
        wire: Vec::new(),
        down_rest: Vec::new(),
        down_again: false,
        client_ended: None,
        end_told: false,
        up: Vec::new(),
        seen: Vec::new(),
        redis: Redis::default(),
        said: Vec::new(),
        streamed: Vec::new(),
        up_rest: Vec::new(),
        up_again: false,
        redis_ended: false,
        down: Vec::new(),
        unread: 0,
        blocked: false,
        upward: Upward {
            setting,
            locked: false,
            raw: false,
            granted: false,
            selected: false,
            closed_get: false,
            renamed: 0,
            asked_for: 0,
        },
        ask: None,
        config,
        records: 0,
        lines: Vec::new(),
    };
    run.tell(b"", &mut |session, _, turn, up, down| {
        if connects {
            session.connected(turn, up, down);
        } else {
            session.connect_failed("timeout", "no answer", turn, down);
        }
        0
    });
    if mode & 16 == 0 {
        (run.redis.protected, run.redis.locked) = (true, true);
    }
    run
}
