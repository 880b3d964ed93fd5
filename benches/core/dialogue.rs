//! A session between a client and a Redis that are both byte strings.

use ravelin::{
    audit::{
        encode::ConnectionFacts,
        outlet::{Outlet, Plan},
        record::Recorder,
    },
    lane::greeting::{Credential, Greeting},
    moment::Moment,
    policy::{
        identity::{AuthenticatedPeer, Identity, Match, Role},
        network::Admission,
        pattern::{Kind, Pattern},
        rules::Policy,
    },
    resp::{reply::ReplyLimits, request::RequestLimits},
    secret::Secret,
    session::{
        MemoryBudget, Turn,
        gather::Gather,
        machine::{Session, SessionConfig},
    },
};
use std::hint::black_box;
use std::sync::Arc;

pub const REQUEST: RequestLimits =
    RequestLimits { words_max: 1 << 20, bulk_max: 512 << 20, blanks_max: 16, inline: false };
pub const REPLY: ReplyLimits = ReplyLimits { line_max: 64 << 10, bulk_max: 512 << 20, elements_max: 1 << 32 };

/// Rendered records are handed over in blocks of this size, as the sink takes them when it is busy.
const BLOCK: u64 = 64 << 10;

/// The hardened preset for a client called `billing-api`.
pub fn peer() -> AuthenticatedPeer {
    let admitted =
        Admission::new(&["10.0.0.0/8".parse().unwrap()], &[]).admit("10.2.7.9:51022".parse().unwrap()).unwrap();
    let identity = Identity { cn: Some("billing-api".to_owned()), not_after: i64::MAX / 2, ..Identity::default() };
    let role = Role {
        name: "billing".to_owned(),
        matches: vec![Match { cn: Some(Pattern::new("billing-*", Kind::Plain).unwrap()), ..Match::default() }],
        from: None,
        priority: 0,
        policy: Arc::new(Policy::compile(&["preset:hardened"]).unwrap()),
    };
    let service: Arc<str> = Arc::from("cache");
    AuthenticatedPeer::authenticate(admitted, Arc::new(identity), &[Arc::new(role)], &service, Moment::default())
        .unwrap()
}

pub fn facts() -> ConnectionFacts {
    let src = "10.2.7.9:51022".parse().unwrap();
    ConnectionFacts::new("9f3c-17", "cache", src, "spiffe://prod/ns/billing/sa/api", "billing", Some("billing"))
}

pub fn start() -> Moment {
    Moment { mono_us: 1_000_000, wall_us: 1_763_672_400_000_000 }
}

/// Takes a block from an output that has one, lets it be seen, and says that it is written.
pub fn hand_over(outlet: &mut Outlet, seen: impl FnOnce(&[u8])) {
    if outlet.backlog() >= BLOCK {
        let block = outlet.take();
        seen(&block);
        let rendered = outlet.rendered();
        outlet.set_written(rendered);
        outlet.recycle(black_box(block));
    }
}

/// One connection, open and authenticated.
pub struct Dialogue {
    session: Session,
    recorder: Recorder,
    memory: MemoryBudget,
    now: Moment,
    up: Vec<u8>,
    down: Vec<u8>,
}

/// What one call let out.
pub struct Step {
    pub up: Vec<u8>,
    pub down: Vec<u8>,
}

impl Dialogue {
    pub fn new(plans: &[Plan]) -> Self {
        let config = SessionConfig {
            request: REQUEST,
            reply: REPLY,
            stream_from: 64 << 10,
            held_command_max: 16 << 20,
            unanswered_max: 64 << 20,
            login_timeout_us: 60_000_000,
            idle_timeout_us: 0,
            client_auth: ravelin::session::machine::ClientAuth::Refuse,
            show_keys: true,
            begin_writes: false,
            values: None,
            first_byte_timeout_us: 0,
            half_command_timeout_us: 0,
            greeting_timeout_us: 5_000_000,
            greeting: Greeting {
                credential: Some(Credential {
                    username: None,
                    password: Secret::new(b"s3cret".to_vec()),
                    others: Vec::new(),
                }),
                database: None,
                set_name: false,
            },
        };
        let mut recorder = Recorder::with_outlets(0, 4 << 20, plans);
        let mut memory = MemoryBudget::new(256 << 20);
        let now = start();
        let turn = Turn { now, recorder: &mut recorder, memory: &mut memory, down_pending: 0, up_pending: 0 };
        let session = Session::new(Arc::new(config), peer(), facts(), &turn);
        let mut dialogue = Self { session, recorder, memory, now, up: Vec::new(), down: Vec::new() };
        dialogue.turn(b"", |session, _, turn, up, down| {
            session.connected(turn, up, down);
            0
        });
        let step = dialogue.redis_step(b"-NOAUTH Authentication required.\r\n+OK\r\n");
        assert!(step.down.is_empty() && dialogue.session.wants().read_down, "the greeting was not taken");
        dialogue
    }

    /// One turn: bytes from the client. Returns what was consumed of them.
    pub fn client(&mut self, input: &[u8]) -> usize {
        self.turn(input, Session::downstream)
    }

    /// One turn: bytes from Redis.
    pub fn redis(&mut self, input: &[u8]) -> usize {
        self.turn(input, Session::upstream)
    }

    /// As [`Dialogue::client`], with a copy of all that went out: for checking a case before it is measured.
    pub fn client_step(&mut self, input: &[u8]) -> Step {
        self.step(input, Session::downstream)
    }

    /// As [`Dialogue::redis`], likewise.
    pub fn redis_step(&mut self, input: &[u8]) -> Step {
        self.step(input, Session::upstream)
    }

    fn turn(
        &mut self,
        input: &[u8],
        act: impl FnOnce(&mut Session, &[u8], &mut Turn<'_>, &mut Gather<'_>, &mut Gather<'_>) -> usize,
    ) -> usize {
        self.now = self.now.plus_us(10);
        let mut turn = Turn {
            now: self.now,
            recorder: &mut self.recorder,
            memory: &mut self.memory,
            down_pending: 0,
            up_pending: 0,
        };
        let mut up = Gather::new(input, std::mem::take(&mut self.up));
        let mut down = Gather::new(input, std::mem::take(&mut self.down));
        let consumed = act(&mut self.session, input, &mut turn, &mut up, &mut down);
        black_box((up.slices(), down.slices(), self.session.wants()));
        self.up = up.into_spill();
        self.down = down.into_spill();
        self.recorder.outlets().for_each(|outlet| hand_over(outlet, |_| ()));
        consumed
    }

    fn step(
        &mut self,
        input: &[u8],
        act: impl FnOnce(&mut Session, &[u8], &mut Turn<'_>, &mut Gather<'_>, &mut Gather<'_>) -> usize,
    ) -> Step {
        let (mut went_up, mut went_down) = (Vec::new(), Vec::new());
        self.turn(input, |session, input, turn, up, down| {
            let consumed = act(session, input, turn, up, down);
            for ((first, second), out) in [(up.slices(), &mut went_up), (down.slices(), &mut went_down)] {
                out.extend_from_slice(first);
                out.extend_from_slice(second);
            }
            consumed
        });
        Step { up: went_up, down: went_down }
    }
}
