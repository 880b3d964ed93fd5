//! One worker: a thread, a single-threaded runtime, a desk, and the connections at it.
//!
//! Besides one task per connection a worker runs six of its own:
//!
//! * the *porter* seats arrivals, passes on phases, and looks for expired certificates;
//! * the *carrier* ([`super::carrier`]) sends what connections have for Redis when all that were ready have had their turn;
//! * the *flusher* hands the pen's block to the sink when all connections that were ready have had their turn;
//! * the *watcher* sleeps until a connection waits for the sink, and wakes it when the sink has written more;
//! * the *clerk* answers scrapes with a copy of the counters;
//! * the *registrar* answers what an operator asks about connections.

use super::{
    carrier,
    connection::{self, Arrival, Arriving},
    control::Order,
    desk::{Desk, Tools},
    roster::{self, Question},
    seats::Seats,
    service::House,
};
use crate::{
    audit::{event::ProcessEvent, sink::Ports},
    metrics::WorkerStats,
    session::error::CloseReason,
};
use std::{io, rc::Rc, sync::Arc, thread::JoinHandle, time::Duration};
use tokio::{
    runtime::LocalOptions,
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};

/// Sockets on their way to one worker; more wait in the kernel's queue.
const ARRIVALS_MAX: usize = 256;
/// How often certificates, and what they are judged by, are looked at for expiry.
const EXPIRY_EVERY: Duration = Duration::from_secs(1);
/// How often connections are looked at for their age.
const AGES_EVERY: Duration = Duration::from_secs(1);

/// What all threads are to do now. Never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serve. The number grows with every reload; live connections are then asked again what they rest on.
    Serve(u64),
    /// Accept nothing, answer what was promised, close.
    Drain,
    /// Close.
    Abort,
}

/// What a worker is made of.
#[derive(Debug)]
pub struct Plan {
    /// Its number, from 0.
    pub index: u16,
    /// What it shares with everybody.
    pub house: Arc<House>,
    /// Most bytes its pen may hold that are not written (`audit.queue`).
    pub pen_bytes: usize,
    /// Its share of `limits.memory`.
    pub memory_max: u64,
    /// Its way into the audit sink.
    pub ports: Ports,
    /// Its counters and its number of connections, for everybody to see.
    pub stats: Arc<WorkerStats>,
    /// What is asked about its connections.
    pub questions: mpsc::Receiver<Question>,
    /// What it is to do.
    pub phase: watch::Receiver<Phase>,
    /// Told when the thread ends, however it ends.
    pub ended: mpsc::Sender<&'static str>,
}

/// Says that a thread has ended, even if it panicked.
pub(super) struct Ending(pub(super) mpsc::Sender<&'static str>, pub(super) &'static str);

impl Drop for Ending {
    fn drop(&mut self) {
        // There is room for one word of each thread.
        let _ = self.0.try_send(self.1);
    }
}

/// A running worker, as the acceptor and the server know it.
#[derive(Debug)]
pub struct Worker {
    /// Where sockets go in. The worker ends when all senders are gone and all its connections too.
    pub arrivals: mpsc::Sender<Arrival>,
    /// How many connections it has.
    pub stats: Arc<WorkerStats>,
    /// Its thread; ends with how many connections it had to abort.
    pub thread: JoinHandle<io::Result<usize>>,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// When the system has no thread left.
    pub fn start(plan: Plan) -> io::Result<Self> {
        let (arrivals, theirs) = mpsc::channel(ARRIVALS_MAX);
        let name = format!("worker-{}", plan.index);
        let stats = Arc::clone(&plan.stats);
        let thread = std::thread::Builder::new().name(name).spawn(move || run(plan, theirs))?;
        Ok(Self { arrivals, stats, thread })
    }
}

fn run(plan: Plan, arrivals: mpsc::Receiver<Arrival>) -> io::Result<usize> {
    let _ending = Ending(plan.ended, "a worker");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let recorder = plan.house.pen(plan.index, plan.pen_bytes);
    let desk = Desk::new(Tools::new(recorder, plan.memory_max, plan.house.clock));
    let ports = Rc::new(plan.ports);
    let aborted = runtime.block_on(async {
        tokio::task::spawn_local(carrier::carry(Rc::clone(&desk)));
        tokio::task::spawn_local(flush(Rc::clone(&desk), Rc::clone(&ports)));
        tokio::task::spawn_local(watch_sinks(Rc::clone(&desk), Rc::clone(&ports)));
        tokio::task::spawn_local(answer_scrapes(Rc::clone(&desk), Arc::clone(&plan.stats)));
        let seats = Rc::new(Seats::default());
        let (house, questions) = (Arc::clone(&plan.house), plan.questions);
        tokio::task::spawn_local(roster::answer(house, Rc::clone(&desk), Rc::clone(&seats), questions));
        porter(plan.house, Rc::clone(&desk), seats, arrivals, plan.phase).await
    });
    // The last lines of the last connections.
    ports.exchange(&mut desk.tools().recorder);
    plan.stats.publish(desk.tools().recorder.counters());
    Ok(aborted)
}

async fn porter(
    house: Arc<House>,
    desk: Rc<Desk>,
    seats: Rc<Seats>,
    mut arrivals: mpsc::Receiver<Arrival>,
    mut phase: watch::Receiver<Phase>,
) -> usize {
    let mut expiry = tokio::time::interval(EXPIRY_EVERY);
    expiry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ages = tokio::time::interval(AGES_EVERY);
    ages.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut open, mut told) = (true, true);
    let mut aborted = 0_usize;
    let mut now = *phase.borrow_and_update();
    loop {
        tokio::select! {
            arrival = arrivals.recv(), if open => match arrival {
                Some(arrival) if matches!(now, Phase::Serve(_)) => seat(&house, &desk, &seats, arrival),
                Some(arrival) => turn_away(&house, &desk, &arrival),
                None => open = false,
            },
            changed = phase.changed(), if told => {
                // A server that is gone without a word has crashed; nobody else will come to end this thread.
                told = changed.is_ok();
                open &= told;
                now = if told { *phase.borrow_and_update() } else { Phase::Abort };
                match now {
                    Phase::Serve(_) => {
                        refit(&house, &desk);
                        seats.revalidate(&house, desk.now());
                    }
                    Phase::Drain => seats.order(Order::Drain(CloseReason::Drain)),
                    Phase::Abort => {
                        aborted = aborted.saturating_add(seats.len());
                        seats.name_who_stays();
                        seats.order(Order::Abort(CloseReason::DrainDeadline));
                    }
                }
            }
            _ = expiry.tick() => drop(seats.expire(&house, desk.now())),
            _ = ages.tick() => seats.retire(desk.now()),
            () = seats.empty(), if !open => return aborted,
        }
    }
}

/// Pen and budget as a reload has left them.
pub(super) fn refit(house: &House, desk: &Desk) {
    let common = house.common.load();
    desk.record(|tools| {
        tools.recorder.refit(&common.outlets, common.pen_bytes, common.watches);
        tools.memory.max = common.memory_max;
    });
    // Whoever waits for room may have some now.
    desk.advanced();
}

fn seat(house: &Arc<House>, desk: &Rc<Desk>, seats: &Rc<Seats>, arrival: Arrival) {
    let Arrival { socket, origin, permit, loaded, service, listener, at } = arrival;
    let arriving = Arriving { socket, origin, service, listener, at };
    let seat = seats.take(&arriving, permit, loaded);
    tokio::task::spawn_local(connection::serve(Arc::clone(house), Rc::clone(desk), seat, arriving));
}

/// For sockets that were accepted just before the drain began.
fn turn_away(house: &House, desk: &Desk, arrival: &Arrival) {
    let service = house.services.get(arrival.service).map_or("", |service| &service.name);
    let listener = arrival.socket.listener();
    let src = arrival.origin.src();
    let event = ProcessEvent::Refused { src, service, listener: &listener, reason: "drain", via: None, detail: "" };
    desk.record(|tools| tools.recorder.process(tools.clock.now(), &event));
}

/// Hands over what one scheduler round has written: woken by the first connection that wrote, it runs behind all that
/// were ready with it.
pub(super) async fn flush(desk: Rc<Desk>, ports: Rc<Ports>) {
    loop {
        std::future::poll_fn(|cx| desk.poll_flush_wanted(cx)).await;
        let advanced = ports.exchange(&mut desk.tools().recorder);
        if advanced {
            desk.advanced();
        }
    }
}

/// Follows the sinks while somebody waits for them.
pub(super) async fn watch_sinks(desk: Rc<Desk>, ports: Rc<Ports>) {
    loop {
        std::future::poll_fn(|cx| desk.poll_watch_wanted(cx)).await;
        let seen: Vec<u64> = desk.tools().recorder.written().collect();
        ports.notified(&seen).await;
        ports.tell(&mut desk.tools().recorder);
        desk.advanced();
    }
}

pub(super) async fn answer_scrapes(desk: Rc<Desk>, stats: Arc<WorkerStats>) {
    stats.serve(|| desk.tools().recorder.counters()).await;
}
