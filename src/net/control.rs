//! How others reach one connection: orders, what a reload brings, questions, and who is to be woken.
//!
//! Everything here belongs to one thread, as [`super::desk`] does.

use crate::session::{activity::Activity, error::CloseReason, renewal::Renewal};
use std::{
    cell::{Cell, RefCell},
    task::{Context, Poll, Waker},
};
use tokio::sync::oneshot;

/// What somebody else wants of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Answer what was promised, then close.
    Drain(CloseReason),
    /// The same, unless it is in the middle of something that only its client can end.
    Retire(CloseReason),
    /// Close now, with records.
    Abort(CloseReason),
}

/// The handle by which a worker reaches one of its connections.
#[derive(Debug, Default)]
pub struct Control {
    order: Cell<Option<Order>>,
    renewed: RefCell<Option<Box<Renewal>>>,
    waiting: Cell<bool>,
    /// Somebody is there who answers: the connection is at work.
    answers: Cell<bool>,
    /// Whom to tell what the connection is doing; looked at only if `asked`.
    asked: Cell<bool>,
    asker: RefCell<Option<oneshot::Sender<Activity>>>,
    waker: RefCell<Option<Waker>>,
}

impl Control {
    /// Asks what the connection is doing, and wakes it; `None` while it is not at work yet. Whoever asks at the same time
    /// is told in the place of whoever asked before.
    pub(super) fn ask(&self) -> Option<oneshot::Receiver<Activity>> {
        if !self.answers.get() {
            return None;
        }
        let (tell, told) = oneshot::channel();
        *self.asker.borrow_mut() = Some(tell);
        self.asked.set(true);
        self.wake();
        Some(told)
    }

    /// From here on questions are answered.
    pub(super) fn will_answer(&self) {
        self.answers.set(true);
    }

    /// Whom to tell what the connection is doing, once.
    #[inline]
    pub(super) fn take_asker(&self) -> Option<oneshot::Sender<Activity>> {
        if self.asked.replace(false) { self.asker.borrow_mut().take() } else { None }
    }

    /// Leaves an order and wakes the connection. An abort is never softened into a drain, and none into a retirement.
    pub fn order(&self, order: Order) {
        let gentle = matches!(order, Order::Retire(_));
        let stands = match self.order.get() {
            Some(Order::Abort(_)) => true,
            Some(_) => gentle,
            None => false,
        };
        if !stands {
            self.order.set(Some(order));
        }
        self.wake();
    }

    /// Leaves what a reload has changed for it, and wakes the connection.
    pub fn renew(&self, renewal: Renewal) {
        *self.renewed.borrow_mut() = Some(Box::new(renewal));
        self.wake();
    }

    pub(super) fn take_renewed(&self) -> Option<Box<Renewal>> {
        self.renewed.borrow_mut().take()
    }

    pub(super) fn take_order(&self) -> Option<Order> {
        self.order.take()
    }

    /// Ready with the order, once there is one: for the time before there is a session.
    pub(super) fn poll_order(&self, cx: &mut Context<'_>) -> Poll<Order> {
        self.attend(cx);
        self.order.get().map_or(Poll::Pending, Poll::Ready)
    }

    /// Remembers whom to wake.
    pub(super) fn attend(&self, cx: &mut Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// It waits for the sink from now on; false if it did already.
    pub(super) fn begins_to_wait(&self) -> bool {
        !self.waiting.replace(true)
    }

    /// The sink has made progress: it is woken, and waits no more.
    pub(super) fn waited(&self) {
        self.waiting.set(false);
        self.wake();
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}
