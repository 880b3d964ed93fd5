//! How a connection's sides end, and the deadlines for that.

use super::{Event, Pump, ROUNDS};
use crate::{
    net::{
        desk::Tools,
        side::{Downstream, Intake, Machine, Upward},
    },
    session::{End, error::CloseReason},
};
use std::task::{Context, Poll};

/// How long a closed client may take to see our end before the socket is dropped; dropping it with its bytes unread
/// would reset the connection and could destroy the last reply on its way.
const LINGER_US: u64 = 1_000_000;

impl<D: Downstream, U: Upward + 'static, M: Machine> Pump<D, U, M> {
    /// Brings each side to the end the machine wants for it.
    pub(super) fn close_sides(&mut self, cx: &mut Context<'_>, tools: &mut Tools) -> bool {
        let (had_down, had_up) = (self.down.is_some(), self.up.is_some());
        match self.wants.up {
            End::Open => {}
            End::Flush if self.outbox.borrow().pending() > 0 => self.outbox.borrow_mut().await_burst(),
            End::Flush | End::Abort => {
                self.up = None;
                self.outbox.borrow_mut().clear();
                self.up_rest = Vec::new();
                self.up_again = false;
            }
        }
        match self.wants.down {
            End::Open => {}
            End::Flush => self.close_down(cx, tools),
            End::Abort => self.down = None,
        }
        if self.down.is_none() {
            self.down_rest = Vec::new();
            self.down_again = false;
        }
        let flushing = (self.down.is_some() && self.wants.down == End::Flush)
            || (self.up.is_some() && self.wants.up == End::Flush);
        if !flushing {
            self.flush_until_us = None;
        } else if self.flush_until_us.is_none() {
            let now = *self.now.get_or_insert_with(|| tools.clock.now());
            self.flush_until_us = Some(now.mono_us.saturating_add(self.flush_timeout_us));
        }
        had_down != self.down.is_some() || had_up != self.up.is_some()
    }

    /// Flush, goodbye, and then the client's own end or [`LINGER_US`], whichever is first.
    fn close_down(&mut self, cx: &mut Context<'_>, tools: &mut Tools) {
        let Some(down) = &mut self.down else { return };
        if self.linger_until_us.is_none() {
            match down.poll_close(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) if !self.down_ended => {
                    let now = *self.now.get_or_insert_with(|| tools.clock.now());
                    self.linger_until_us = Some(now.mono_us.saturating_add(LINGER_US.min(self.flush_timeout_us)));
                }
                Poll::Ready(_) => {
                    self.down = None;
                    return;
                }
            }
        }
        // What still comes is not ours to read: the session is over. Rounds are bounded, so a client that never stops
        // sending is dropped by the deadline.
        for _ in 0..ROUNDS {
            tools.plain.clear();
            match down.poll_read(cx, &mut tools.cipher, &mut tools.plain) {
                Poll::Ready(Intake::Bytes(_)) => {}
                Poll::Ready(Intake::End | Intake::Failed) => {
                    self.down = None;
                    return;
                }
                Poll::Pending => return,
            }
        }
        cx.waker().wake_by_ref();
    }

    /// Sets the timer to the next deadline; true if one has passed already.
    pub(super) fn arm(&mut self, cx: &mut Context<'_>, tools: &mut Tools) -> bool {
        let lingering = self.linger_until_us.filter(|_| self.down.is_some());
        let deadlines = [self.wants.wake_at_us, self.flush_until_us, lingering];
        let Some(at) = deadlines.into_iter().flatten().min() else {
            self.timer = None;
            return false;
        };
        let (armed, sleep) =
            self.timer.get_or_insert_with(|| (at, Box::pin(tokio::time::sleep_until(tools.clock.instant(at)))));
        // A deadline that moved away is looked at again when the old one fires: an idle timeout moves with every
        // command, and the timer wheel is behind a lock.
        if at < *armed {
            *armed = at;
            sleep.as_mut().reset(tools.clock.instant(at));
        }
        loop {
            if sleep.as_mut().poll(cx).is_pending() {
                return false;
            }
            let now = tools.clock.now().mono_us;
            if now >= at {
                break;
            }
            *armed = at;
            sleep.as_mut().reset(tools.clock.instant(at));
        }
        self.timer = None;
        self.due = true;
        self.expire(cx, tools);
        true
    }

    /// A deadline of the pump's own: what could not be sent is given up.
    fn expire(&mut self, cx: &mut Context<'_>, tools: &mut Tools) {
        let now = tools.clock.now().mono_us;
        if self.linger_until_us.is_some_and(|at| at <= now) {
            self.down = None;
        }
        if self.flush_until_us.is_some_and(|at| at <= now) {
            let stuck = self.down.is_some() && self.wants.down == End::Flush;
            if !self.wants.done {
                let reason = if stuck { CloseReason::ClientGone } else { CloseReason::UpstreamClosed };
                self.tell(cx, tools, Event::Abort(reason));
            }
            self.flush_until_us = None;
            self.down = None;
            self.up = None;
            self.outbox.borrow_mut().clear();
        }
    }
}
