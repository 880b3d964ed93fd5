//! One connection at work: four halves driven by one hand-written poll function.
//!
//! ```text
//!            read ──► Machine::downstream ──► outbox ──► write
//!   client                                                        Redis
//!            flush ◄── TLS ◄── Machine::upstream ◄───────── read
//! ```
//!
//! The machine decides; the pump does what [`Wants`] says and nothing else. Its own rules are these:
//!
//! * **Each half is driven until it is pending**, in rounds; after a short read the second poll only registers the waker
//!   (tokio has cleared the readiness), so a command costs two reads, one write, its share of one that is made for many, and no
//!   `EAGAIN`. After [`ROUNDS`] rounds the connection goes to the back of the queue.
//! * **A side is not read while the other side's bytes are unsent.** Memory per connection is bounded by one read plus
//!   what the machine holds, whatever a peer does.
//! * **Bytes are written straight from where they were read**; only what a socket does not take is copied, and
//!   **a few commands, which wait until the other connections that are ready have had their turn** and then leave together
//!   ([`super::burst`]).
//! * **The clock is read once per round, and only if the machine is called.**
//! * **A panic ends this connection and no other**: the machine is asked to record what is open, then all is dropped.

mod ends;

use super::{
    clock::micros,
    control::{Control, Order},
    desk::{Desk, PLAIN_BYTES, Tools},
    outbox::{Outbox, PutOff},
    side::{Downstream, Intake, Machine, Upward},
};
use crate::{
    moment::Moment,
    session::{
        End, Turn, Wants,
        activity::Activity,
        error::CloseReason,
        gather::Gather,
        inquiry::{Answer, Ask},
    },
};
use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{io::ReadBuf, time::Sleep};

/// Rounds in one poll before other connections get their turn.
const ROUNDS: usize = 16;
/// A read or a leftover of the client's larger than this may have left the machine with room it does not need at rest.
const HEAVY_BYTES: usize = 16 * 1024;
/// Unused room in a leftover buffer beyond which it is given back.
const REST_SLACK_BYTES: usize = 64 * 1024;

/// The pump of one connection; a future that is ready when the connection is over.
pub struct Pump<D, U, M> {
    machine: M,
    /// What the machine said last; asked again after every call.
    wants: Wants,
    desk: Rc<Desk>,
    control: Rc<Control>,
    flush_timeout_us: u64,

    /// The client's side, until it is closed.
    down: Option<D>,
    /// Plaintext the machine has not consumed.
    down_rest: Vec<u8>,
    /// `down_rest` holds bytes that were offered while reading was not wanted.
    down_again: bool,
    /// The client's end has been told to the machine.
    down_ended: bool,
    /// Writing to the client failed; its end is still to be told.
    down_broke: bool,
    /// The client has our goodbye; only its own is waited for, until then.
    linger_until_us: Option<u64>,

    /// Nothing more comes of this side in this poll, and its waker is registered: only the runtime knows of new bytes, and it
    /// does not run meanwhile.
    down_idle: bool,

    /// Redis' side, until it is closed.
    up: Option<U>,
    up_rest: Vec<u8>,
    up_again: bool,
    up_ended: bool,
    /// As `down_idle`.
    up_idle: bool,
    /// Shared with the burst that sends what is put off.
    outbox: Rc<RefCell<Outbox>>,

    /// Set when a side is first to be flushed and closed.
    flush_until_us: Option<u64>,
    timer: Option<(u64, Pin<Box<Sleep>>)>,
    /// The timer went off since the last round.
    due: bool,
    /// Commands wait in the outbox until other connections have had their turn.
    put_off: bool,
    /// This round's reading of the clock.
    now: Option<Moment>,
    /// Finds out what the machine asks, and what is being found out.
    gate: Option<Gate<U>>,
    inquiry: Option<Inquiry<U>>,
    answer: Option<Answer>,
    /// The machine was given much at once and has not been at rest since.
    heavy: bool,
}

/// What was found out about a user and password, with another connection to Redis where the answer needs one.
pub struct Found<U> {
    /// The answer.
    pub answer: Answer,
    /// The connection that takes the place of the old one.
    pub upstream: Option<U>,
}

/// What is being found out; it is dropped when the connection ends first.
pub type Inquiry<U> = Pin<Box<dyn Future<Output = Found<U>>>>;

/// Finds out about a user and password.
pub type Gate<U> = Box<dyn FnMut(Ask) -> Inquiry<U>>;

/// What a machine is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// Bytes of the client: `down_rest` if there is any, the scratch buffer otherwise.
    Down,
    /// Bytes of Redis: likewise, so many in the scratch buffer.
    Up(usize),
    DownEnd {
        clean: bool,
    },
    UpEnd,
    Resume,
    /// What was found out, in `answer`.
    Answer,
    Drain(CloseReason),
    Retire(CloseReason),
    Abort(CloseReason),
}

enum Step {
    Again,
    Wait,
    Over,
}

impl<D: Downstream, U: Upward + 'static, M: Machine> Pump<D, U, M> {
    /// A pump between the two sides; without `up` the upstream could not be had, and the machine knows.
    #[must_use]
    pub fn new(
        machine: M,
        down: D,
        up: Option<U>,
        desk: Rc<Desk>,
        control: Rc<Control>,
        flush_timeout: Duration,
    ) -> Self {
        control.will_answer();
        Self {
            wants: machine.wants(),
            machine,
            desk,
            control,
            flush_timeout_us: micros(flush_timeout),
            down: Some(down),
            down_rest: Vec::new(),
            down_again: false,
            down_ended: false,
            down_broke: false,
            linger_until_us: None,
            down_idle: false,
            up,
            up_rest: Vec::new(),
            up_again: false,
            up_ended: false,
            up_idle: false,
            outbox: Rc::default(),
            flush_until_us: None,
            timer: None,
            due: false,
            put_off: false,
            now: None,
            gate: None,
            inquiry: None,
            answer: None,
            heavy: false,
        }
    }

    /// Gives it somebody to ask about users and passwords.
    #[must_use]
    pub fn with_gate(mut self, gate: Gate<U>) -> Self {
        self.gate = Some(gate);
        self
    }

    /// What decides.
    pub const fn machine(&self) -> &M {
        &self.machine
    }

    /// Hands over what the machine wrote before the pump began: the greeting, or the word that Redis cannot be had.
    /// Both are short, so they are kept and leave with the first poll.
    pub fn preload(&mut self, up: &[u8], down: &[u8]) {
        self.outbox.borrow_mut().keep(up);
        if let Some(side) = &mut self.down {
            self.down_broke |= side.send(down, &[]).is_err();
        }
    }

    fn turns(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let desk = Rc::clone(&self.desk);
        let mut tools = desk.tools();
        self.control.attend(cx);
        (self.down_idle, self.up_idle) = (false, false);
        let mut step = Step::Again;
        for _ in 0..ROUNDS {
            step = self.round(cx, &mut tools);
            if !matches!(step, Step::Again) || std::mem::take(&mut self.put_off) {
                break;
            }
        }
        desk.settle(&mut tools);
        match step {
            Step::Over => Poll::Ready(()),
            Step::Wait => {
                if self.heavy && self.machine.rest() {
                    self.heavy = false;
                }
                if self.wants.written.is_some() || self.wants.room {
                    desk.wait(&self.control);
                }
                Poll::Pending
            }
            Step::Again => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn round(&mut self, cx: &mut Context<'_>, tools: &mut Tools) -> Step {
        self.now = None;
        let mut busy = false;
        if let Some(renewal) = self.control.take_renewed() {
            self.machine.renew(*renewal);
            self.tell(cx, tools, Event::Resume);
            busy = true;
        }
        if let Some(order) = self.control.take_order() {
            let event = match order {
                Order::Drain(reason) => Event::Drain(reason),
                Order::Retire(reason) => Event::Retire(reason),
                Order::Abort(reason) => Event::Abort(reason),
            };
            self.tell(cx, tools, event);
            busy = true;
        }
        if let Some(asker) = self.control.take_asker() {
            let unread = self.down.as_ref().map_or(0, Downstream::pending) as u64;
            // Whoever asked may have left.
            let _ = asker.send(Activity { unread, ..self.machine.activity(tools.clock.now()) });
        }
        busy |= self.inquire(cx, tools);
        self.flush(cx, tools);
        if self.has_come(tools) {
            self.tell(cx, tools, Event::Resume);
            busy = true;
        }
        // Replies first: they free slots and release barriers for the commands that are read next.
        busy |= self.read_up(cx, tools);
        busy |= self.read_down(cx, tools);
        if std::mem::take(&mut self.down_broke) {
            self.down = None;
            if !std::mem::replace(&mut self.down_ended, true) {
                self.tell(cx, tools, Event::DownEnd { clean: false });
            }
            busy = true;
        }
        busy |= self.close_sides(cx, tools);
        let down_as_wanted = self.down.is_none() || self.wants.down == End::Open;
        let up_as_wanted = self.up.is_none() || self.wants.up == End::Open;
        if self.wants.done && down_as_wanted && up_as_wanted {
            return Step::Over;
        }
        if busy || self.arm(cx, tools) { Step::Again } else { Step::Wait }
    }

    /// Finds out what the machine asks; whether it was told. Whoever leaves takes the question along.
    fn inquire(&mut self, cx: &mut Context<'_>, tools: &mut Tools) -> bool {
        if self.wants.asks
            && let Some(ask) = self.machine.take_ask()
        {
            self.wants = self.machine.wants();
            self.inquiry = Some(match &mut self.gate {
                Some(gate) => gate(ask),
                None => Box::pin(std::future::ready(Found { answer: Answer::Unavailable, upstream: None })),
            });
        }
        let Some(inquiry) = &mut self.inquiry else { return false };
        let Poll::Ready(Found { answer, upstream }) = inquiry.as_mut().poll(cx) else { return false };
        self.inquiry = None;
        if let Some(upstream) = upstream {
            if self.up.is_none() || self.up_ended || self.wants.up != End::Open {
                // The old one is lost, and the session with it.
                return false;
            }
            self.up = Some(upstream);
            self.up_idle = false;
            self.up_rest = Vec::new();
            self.up_again = false;
            // A burst that was to send what the old one was owed finds nobody.
            self.outbox = Rc::default();
        }
        self.answer = Some(answer);
        self.tell(cx, tools, Event::Answer);
        true
    }

    /// Whether something the machine waits for has come.
    fn has_come(&mut self, tools: &Tools) -> bool {
        let wants = self.wants;
        let due = std::mem::take(&mut self.due)
            && wants.wake_at_us.is_some_and(|at| at <= self.now.get_or_insert_with(|| tools.clock.now()).mono_us);
        due || wants.written.is_some_and(|written| tools.recorder.reached() >= written)
            || (wants.room && tools.recorder.has_room())
            || (wants.flushed && self.down.as_ref().is_none_or(|down| down.pending() == 0))
    }

    fn flush(&mut self, cx: &mut Context<'_>, tools: &mut Tools) {
        let mut outbox = self.outbox.borrow_mut();
        if outbox.blocked()
            && let Some(up) = &mut self.up
        {
            // Readiness is all that matters: a failure shows when Redis' side is read.
            let _ = outbox.poll_flush(cx, up, &mut tools.spares);
        }
        drop(outbox);
        if let Some(down) = &mut self.down
            && down.pending() > 0
            && let Poll::Ready(Err(_)) = down.poll_flush(cx)
        {
            self.down_broke = true;
        }
    }

    fn read_up(&mut self, cx: &mut Context<'_>, tools: &mut Tools) -> bool {
        let blocked = self.down.as_ref().is_some_and(|down| down.pending() > 0) || self.down_broke;
        if self.up_ended || self.wants.up != End::Open || !self.wants.read_up || blocked {
            return false;
        }
        let Some(up) = &mut self.up else { return false };
        if std::mem::take(&mut self.up_again) {
            self.tell(cx, tools, Event::Up(0));
            return true;
        }
        if self.up_idle {
            return false;
        }
        let mut into = ReadBuf::new(&mut tools.upstream);
        match Pin::new(up).poll_read(cx, &mut into) {
            Poll::Pending => {
                self.up_idle = true;
                return false;
            }
            Poll::Ready(Ok(())) if !into.filled().is_empty() => {
                let bytes = into.filled();
                let fresh = bytes.len();
                if !self.up_rest.is_empty() {
                    self.up_rest.extend_from_slice(bytes);
                }
                self.tell(cx, tools, Event::Up(fresh));
            }
            Poll::Ready(_) => {
                self.up_ended = true;
                self.tell(cx, tools, Event::UpEnd);
            }
        }
        true
    }

    fn read_down(&mut self, cx: &mut Context<'_>, tools: &mut Tools) -> bool {
        if self.wants.down != End::Open {
            return false;
        }
        let held = !self.wants.read_down || self.outbox.borrow().blocked();
        if !held && std::mem::take(&mut self.down_again) {
            self.tell(cx, tools, Event::Down);
            return true;
        }
        if self.down_ended || self.down_broke {
            return false;
        }
        let Some(down) = &mut self.down else { return false };
        if held {
            // That may make the runtime forget what it knew.
            self.down_idle = false;
            if self.machine.ends_with_client() && down.poll_hangup(cx).is_ready() {
                self.down_ended = true;
                self.tell(cx, tools, Event::DownEnd { clean: true });
                return true;
            }
            return false;
        }
        if self.down_idle {
            return false;
        }
        tools.plain.clear();
        let into = if self.down_rest.is_empty() {
            &mut tools.plain
        } else {
            grow_gently(&mut self.down_rest);
            &mut self.down_rest
        };
        let Poll::Ready(intake) = down.poll_read(cx, &mut tools.cipher, into) else {
            self.down_idle = true;
            return false;
        };
        match intake {
            Intake::Bytes(_) => {
                self.tell(cx, tools, Event::Down);
                if !self.down_rest.is_empty()
                    && self.wants.read_down
                    && let Some(down) = &self.down
                {
                    down.quick_ack();
                }
            }
            Intake::End => {
                self.down_ended = true;
                self.tell(cx, tools, Event::DownEnd { clean: true });
            }
            Intake::Failed => self.down_broke = true,
        }
        true
    }

    /// Calls the machine, sends what it gathered, keeps what it left.
    fn tell(&mut self, cx: &mut Context<'_>, tools: &mut Tools, event: Event) {
        let now = *self.now.get_or_insert_with(|| tools.clock.now());
        let rest = match event {
            Event::Down => std::mem::take(&mut self.down_rest),
            Event::Up(_) => std::mem::take(&mut self.up_rest),
            _ => Vec::new(),
        };
        let base: &[u8] = match event {
            Event::Down if rest.is_empty() => &tools.plain,
            Event::Up(fresh) if rest.is_empty() => tools.upstream.get(..fresh).unwrap_or_default(),
            _ => &rest,
        };
        self.heavy |= base.len() > HEAVY_BYTES;
        let mut up = Gather::new(base, std::mem::take(&mut tools.spill_up));
        let mut down = Gather::new(base, std::mem::take(&mut tools.spill_down));
        let mut turn = Turn {
            now,
            recorder: &mut tools.recorder,
            memory: &mut tools.memory,
            down_pending: self.down.as_ref().map_or(0, Downstream::pending),
            up_pending: self.outbox.borrow().pending(),
        };
        let machine = &mut self.machine;
        let consumed = match event {
            Event::Down => machine.downstream(base, &mut turn, &mut up, &mut down),
            Event::Up(_) => machine.upstream(base, &mut turn, &mut up, &mut down),
            Event::DownEnd { clean } => {
                machine.downstream_end(clean, &mut turn, &mut up, &mut down);
                0
            }
            Event::UpEnd => {
                // What is encrypted and did not fit the socket may have reached Redis in part.
                let in_doubt = self.up.as_ref().map_or(0, Upward::in_doubt);
                machine.upstream_end(self.outbox.borrow().unsent().saturating_sub(in_doubt), &mut turn, &mut down);
                0
            }
            Event::Resume => {
                machine.resume(&mut turn, &mut up, &mut down);
                0
            }
            Event::Answer => {
                if let Some(answer) = self.answer.take() {
                    machine.answer(answer, &mut turn, &mut up, &mut down);
                }
                0
            }
            Event::Drain(reason) => {
                machine.drain(reason, &mut turn, &mut up, &mut down);
                0
            }
            Event::Retire(reason) => {
                machine.retire(reason, &mut turn, &mut up, &mut down);
                0
            }
            Event::Abort(reason) => {
                machine.abort(reason, &mut turn);
                0
            }
        };
        self.wants = machine.wants();
        let (first, second) = up.slices();
        if !(first.is_empty() && second.is_empty())
            && let Some(side) = &mut self.up
        {
            let mut outbox = self.outbox.borrow_mut();
            let put_off = match event {
                Event::Down => outbox.put_off(first, second, side, &mut tools.spares),
                _ => PutOff::No,
            };
            match put_off {
                PutOff::No => outbox.send(cx, side, first, second),
                PutOff::ToBurst => tools.burst.add(&self.outbox, &self.control),
                PutOff::ToFlush => self.put_off = true,
                PutOff::Again => {}
            }
        }
        let (first, second) = down.slices();
        let silent = first.is_empty() && second.is_empty();
        if !(silent || self.down_broke)
            && let Some(side) = &mut self.down
        {
            // At once, not at the end of the round: records of many turns in a row would only grow the heap.
            let sent = side.send(first, second).is_ok() && !matches!(side.poll_flush(cx), Poll::Ready(Err(_)));
            self.down_broke = !sent;
        }
        let kept = match event {
            Event::Down | Event::Up(_) if rest.is_empty() => base.get(consumed..).unwrap_or_default().to_vec(),
            _ => Vec::new(),
        };
        tools.spill_up = up.into_spill();
        tools.spill_down = down.into_spill();
        let kept = if rest.is_empty() { kept } else { without(rest, consumed) };
        match event {
            Event::Down => self.down_rest = kept,
            Event::Up(_) => self.up_rest = kept,
            Event::Abort(_) => {
                self.down_rest = Vec::new();
                self.up_rest = Vec::new();
            }
            _ => {}
        }
        self.down_again |= !self.wants.read_down;
        self.down_again &= !self.down_rest.is_empty();
        self.up_again |= !self.wants.read_up;
        self.up_again &= !self.up_rest.is_empty();
    }

    /// After a panic: what is open is recorded if the machine still can, everything else is dropped with the pump.
    fn contain(&mut self) {
        tracing::error!("a connection panicked and is closed; this is a bug in ravelin, the others go on");
        let recorded = catch_unwind(AssertUnwindSafe(|| {
            self.desk.record(|tools| {
                let now = tools.clock.now();
                let mut turn = Turn {
                    now,
                    recorder: &mut tools.recorder,
                    memory: &mut tools.memory,
                    down_pending: 0,
                    up_pending: 0,
                };
                self.machine.abort(CloseReason::Internal, &mut turn);
            });
        }));
        if recorded.is_err() {
            tracing::error!("its open commands could not be recorded");
        }
    }
}

impl<D, U, M> Future for Pump<D, U, M>
where
    D: Downstream + Unpin,
    U: Upward + 'static,
    M: Machine + Unpin,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let pump = self.get_mut();
        catch_unwind(AssertUnwindSafe(|| pump.turns(cx))).unwrap_or_else(|_| {
            pump.contain();
            Poll::Ready(())
        })
    }
}

/// Makes room for one read. A vector that doubled would take twice what a held command is charged for, and three times
/// as much while it moves.
fn grow_gently(rest: &mut Vec<u8>) {
    if rest.capacity().saturating_sub(rest.len()) < PLAIN_BYTES {
        rest.reserve_exact(PLAIN_BYTES.max(rest.len() / 8));
    }
}

/// `rest` without its first `consumed` bytes, and without room it no longer needs.
fn without(mut rest: Vec<u8>, consumed: usize) -> Vec<u8> {
    rest.drain(..consumed.min(rest.len()));
    if rest.is_empty() {
        return Vec::new();
    }
    if rest.capacity().saturating_sub(rest.len()) > REST_SLACK_BYTES.max(rest.len()) {
        rest.shrink_to_fit();
    }
    rest
}

#[cfg(test)]
mod flow_tests;
#[cfg(test)]
mod tests;
