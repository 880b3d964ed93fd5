//! Who is connected and what they are doing, for an operator who asks.
//!
//! Nothing is kept for this while nobody asks. A question goes to every worker; there each connection is woken and tells
//! its own ([`crate::session::activity`]), between two turns, and what has come within [`TOLD_WITHIN`] is the answer.

use super::{control::Order, desk::Desk, seats::Seats, service::House};
use crate::session::{
    activity::Activity,
    error::{CloseReason, Operator},
};
use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};

/// How long the connections of a worker may take to tell; then those are shown without that have not.
const TOLD_WITHIN: Duration = Duration::from_millis(500);
/// How long a worker may take altogether; then its connections are missing.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// Questions that wait for a worker.
const QUESTIONS_MAX: usize = 16;

/// One connection.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name in records; none before its peer is authenticated.
    pub conn: Option<Box<str>>,
    /// The service it came for.
    pub service: Box<str>,
    /// Where it comes from.
    pub src: SocketAddr,
    /// The name that its certificate proves.
    pub identity: Option<Box<str>>,
    /// The role it has now.
    pub role: Option<Box<str>>,
    /// When it was accepted, in microseconds since the epoch.
    pub since_us: u64,
    /// For how long it has been open, in microseconds.
    pub age_us: u64,
    /// What it is doing; none before it is at work.
    pub activity: Option<Activity>,
}

/// How a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// At once; commands without a reply are recorded as such.
    Now,
    /// Once it has what it was promised.
    Gently,
}

/// What a worker is asked.
#[derive(Debug)]
pub enum Question {
    /// Who is connected?
    List(oneshot::Sender<Vec<Row>>),
    /// Close the connection of this name; was there one?
    Close {
        /// As records name it.
        name: Arc<str>,
        /// How.
        manner: Manner,
        /// For its record.
        operator: Operator,
        /// Whether it is one of this worker's.
        done: oneshot::Sender<bool>,
    },
}

/// The way to ask all workers.
#[derive(Clone, Debug)]
pub struct Roster(Arc<[mpsc::Sender<Question>]>);

impl Roster {
    /// For so many workers; and what each of them is to take its questions from.
    #[must_use]
    pub fn of(workers: usize) -> (Self, Vec<mpsc::Receiver<Question>>) {
        let (ask, asked): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(QUESTIONS_MAX)).unzip();
        (Self(ask.into()), asked)
    }

    /// Every connection, the one that was accepted first at the front; and how many workers did not answer.
    pub async fn list(&self) -> (Vec<Row>, usize) {
        let mut waiting = Vec::new();
        for worker in &*self.0 {
            let (tell, told) = oneshot::channel();
            waiting.push((worker.try_send(Question::List(tell)).is_ok(), told));
        }
        let until = Instant::now() + ANSWERED_WITHIN;
        let (mut rows, mut silent) = (Vec::new(), 0_usize);
        for (asked, told) in waiting {
            match timeout_at(until, told).await {
                Ok(Ok(some)) if asked => rows.extend(some),
                _ => silent = silent.saturating_add(1),
            }
        }
        rows.sort_by_key(|row| row.since_us);
        (rows, silent)
    }

    /// Closes one; whether there was one of that name.
    pub async fn close(&self, name: &str, manner: Manner, operator: Operator) -> bool {
        let name: Arc<str> = name.into();
        for worker in &*self.0 {
            let (done, told) = oneshot::channel();
            let question = Question::Close { name: Arc::clone(&name), manner, operator, done };
            if worker.try_send(question).is_ok() && matches!(timeout(ANSWERED_WITHIN, told).await, Ok(Ok(true))) {
                return true;
            }
        }
        false
    }
}

/// Answers until nobody can ask any more: a task of the worker.
pub(super) async fn answer(
    house: Arc<House>,
    desk: Rc<Desk>,
    seats: Rc<Seats>,
    mut questions: mpsc::Receiver<Question>,
) {
    while let Some(question) = questions.recv().await {
        match question {
            Question::List(tell) => {
                let until = Instant::now() + TOLD_WITHIN;
                let mut rows = Vec::new();
                for (row, told) in seats.roll(&house, desk.now()) {
                    let activity = match told {
                        Some(told) => timeout_at(until, told).await.ok().and_then(Result::ok),
                        None => None,
                    };
                    rows.push(Row { activity, ..row });
                }
                // Whoever asked may have left.
                let _ = tell.send(rows);
            }
            Question::Close { name, manner, operator, done } => {
                let reason = CloseReason::Operator(operator);
                let order = match manner {
                    Manner::Now => Order::Abort(reason),
                    Manner::Gently => Order::Drain(reason),
                };
                let _ = done.send(seats.order_one(&name, order));
            }
        }
    }
}
