//! What all connections of one worker share: the pen, the scratch buffers, and who waits for the sink.
//!
//! Everything here belongs to one thread. [`Tools`] are borrowed by one connection for the length of one poll, which is
//! why a connection at rest owns no buffer.

use crate::{
    audit::record::Recorder,
    moment::Moment,
    net::{burst::Burst, clock::Clock, control::Control, outbox::Spares},
    session::MemoryBudget,
    tls::pipe::{READ_BYTES, Scratch},
};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// Bytes of Redis' replies taken in one read: larger than a 16 KiB reply, or every such reply costs two reads.
const UPSTREAM_READ_BYTES: usize = 64 * 1024;
/// Plaintext of one read of ciphertext, and one record that rustls held back.
pub(super) const PLAIN_BYTES: usize = READ_BYTES + 17 * 1024;
/// A scratch buffer that one turn made larger than this is given back to the allocator.
const SCRATCH_KEPT_BYTES: usize = 1024 * 1024;

/// What a connection borrows for one poll.
#[derive(Debug)]
pub struct Tools {
    /// The worker's pen.
    pub recorder: Recorder,
    /// What sessions may hold of unjudged commands.
    pub memory: MemoryBudget,
    /// The clocks.
    pub clock: Clock,
    /// Ciphertext in.
    pub(super) cipher: Scratch,
    /// Plaintext in.
    pub(super) plain: Vec<u8>,
    /// Redis' bytes in.
    pub(super) upstream: Box<[u8]>,
    /// Room for bytes of a session's own, towards Redis and towards the client.
    pub(super) spill_up: Vec<u8>,
    pub(super) spill_down: Vec<u8>,
    /// Room for what goes up when other connections have had their turn.
    pub(super) spares: Spares,
    /// Whose commands wait for that.
    pub(super) burst: Burst,
}

impl Tools {
    /// The tools of one worker.
    #[must_use]
    pub fn new(recorder: Recorder, memory_max: u64, clock: Clock) -> Self {
        Self {
            recorder,
            memory: MemoryBudget::new(memory_max),
            clock,
            cipher: Scratch::new(),
            plain: Vec::with_capacity(PLAIN_BYTES),
            upstream: vec![0; UPSTREAM_READ_BYTES].into_boxed_slice(),
            spill_up: Vec::new(),
            spill_down: Vec::new(),
            spares: Spares::default(),
            burst: Burst::default(),
        }
    }

    fn send_burst(&mut self) {
        self.burst.send(&mut self.spares);
    }

    /// Gives back what an unusual turn made large.
    pub(super) fn trim(&mut self) {
        for buffer in [&mut self.spill_up, &mut self.spill_down] {
            if buffer.capacity() > SCRATCH_KEPT_BYTES {
                *buffer = Vec::new();
            }
        }
    }
}

/// A worker's desk.
#[derive(Debug)]
pub struct Desk {
    tools: RefCell<Tools>,
    /// The last line there was when a flush was last asked for.
    mark: Cell<u64>,
    flush: Bell,
    /// Rung when the first connection puts off what it has for Redis.
    burst: Bell,
    /// Rung when the first connection begins to wait for the sink.
    watch: Bell,
    waiting: RefCell<Vec<Rc<Control>>>,
}

impl Desk {
    /// A desk with these tools on it.
    #[must_use]
    pub fn new(tools: Tools) -> Rc<Self> {
        Rc::new(Self {
            tools: RefCell::new(tools),
            mark: Cell::new(0),
            flush: Bell::default(),
            burst: Bell::default(),
            watch: Bell::default(),
            waiting: RefCell::default(),
        })
    }

    /// The tools, for the time of one poll; never held over an await.
    pub fn tools(&self) -> std::cell::RefMut<'_, Tools> {
        self.tools.borrow_mut()
    }

    /// Both clocks, now.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.tools.borrow().clock.now()
    }

    /// Called with the tools after every turn: asks for a burst if the turn put something off, and for a flush if it wrote
    /// something. Both run behind all connections that are ready now, so that one call and one block carry the commands
    /// and the records of all of them. A burst that fills a call is sent at once.
    pub(super) fn settle(&self, tools: &mut Tools) {
        tools.trim();
        if tools.burst.is_full() {
            tools.send_burst();
        } else if tools.burst.is_due() {
            self.burst.ring();
        }
        let mark = tools.recorder.mark();
        if self.mark.replace(mark) != mark {
            self.flush.ring();
        }
    }

    /// Writes with the pen outside any session's turn.
    pub fn record<R>(&self, write: impl FnOnce(&mut Tools) -> R) -> R {
        let mut tools = self.tools();
        let result = write(&mut tools);
        self.settle(&mut tools);
        result
    }

    /// Ready when a connection has put off what it has for Redis.
    pub fn poll_burst_wanted(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.burst.poll(cx)
    }

    /// Sends what connections have put off. Returns how many had something since the last time.
    pub fn send_burst(&self) -> u64 {
        let mut tools = self.tools();
        tools.send_burst();
        tools.burst.take_carried()
    }

    /// Ready when something was rendered since the last time.
    pub fn poll_flush_wanted(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.flush.poll(cx)
    }

    /// Ready when a connection waits for the sink.
    pub fn poll_watch_wanted(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiting.borrow().is_empty() { self.watch.poll(cx) } else { Poll::Ready(()) }
    }

    /// The connection is polled again once the sink has made progress.
    pub(super) fn wait(&self, control: &Rc<Control>) {
        if control.begins_to_wait() {
            self.waiting.borrow_mut().push(Rc::clone(control));
            self.watch.ring();
        }
    }

    /// A sink has written more of this pen: whoever waits looks again.
    pub fn advanced(&self) {
        for control in self.waiting.take() {
            control.waited();
        }
    }
}

/// A flag with somebody listening, within one thread.
#[derive(Debug, Default)]
struct Bell {
    rung: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Bell {
    /// Wakes the listener; once, however often it is rung before he looks.
    fn ring(&self) {
        if !self.rung.replace(true)
            && let Some(waker) = self.waker.borrow().as_ref()
        {
            waker.wake_by_ref();
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        *self.waker.borrow_mut() = Some(cx.waker().clone());
        if self.rung.replace(false) { Poll::Ready(()) } else { Poll::Pending }
    }
}
