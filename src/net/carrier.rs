//! The task that sends a worker's bursts, and sees whether the worker should be more patient ([`super::pace`]).
//!
//! While it is, a second task looks how late the worker wakes.

use super::{
    desk::Desk,
    pace::{self, Pace},
    scheduler::{self, Policy},
};
use std::{cell::RefCell, rc::Rc};

/// Sends what one scheduler round has put off: woken by the first connection that did, it runs behind all that were ready
/// with it.
pub(super) async fn carry(desk: Rc<Desk>) {
    let pace = Rc::new(RefCell::new(Pace::default()));
    // Whoever had the process begin under another policy than the usual one has had a reason.
    let mut ours = scheduler::is(Policy::Ordinary);
    loop {
        std::future::poll_fn(|cx| desk.poll_burst_wanted(cx)).await;
        let carried = desk.send_burst();
        if ours && let Some(policy) = pace.borrow_mut().carried(carried, || desk.now().mono_us) {
            ours = treat(policy);
            if ours {
                tokio::task::spawn_local(probe(Rc::clone(&desk), Rc::clone(&pace)));
            }
        }
    }
}

/// Looks how late the worker wakes, as long as it is patient: nobody else ends that.
async fn probe(desk: Rc<Desk>, pace: Rc<RefCell<Pace>>) {
    loop {
        tokio::time::sleep(pace::PROBE_EVERY).await;
        let set_us = desk.now().mono_us;
        tokio::time::sleep(pace::PROBE).await;
        let asked = pace.borrow_mut().woke(set_us, desk.now().mono_us);
        if let Some(policy) = asked {
            treat(policy);
            return;
        }
    }
}

/// Whether the scheduler does as it is asked.
fn treat(policy: Policy) -> bool {
    let done = scheduler::ask_for(policy);
    match &done {
        Ok(()) => tracing::debug!(?policy, "the kernel's scheduler was asked for another policy"),
        Err(error) => tracing::debug!(%error, "the scheduling policy of a worker stays what it is"),
    }
    done.is_ok()
}

#[cfg(test)]
mod tests {
    use super::{Policy, carry, scheduler};
    use crate::{
        audit::record::Recorder,
        net::{
            clock::Clock,
            control::Control,
            desk::{Desk, Tools},
            outbox::Outbox,
        },
    };
    use std::{cell::RefCell, rc::Rc, time::Duration};
    use tokio::{
        runtime::{Builder, LocalOptions},
        time::Instant,
    };

    /// Far more than the judgement takes, on the busiest machine.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Goes on until the calling thread is treated in this way.
    async fn until(policy: Policy, mut step: impl AsyncFnMut()) {
        let begin = Instant::now();
        while !scheduler::is(policy) {
            assert!(begin.elapsed() < PATIENCE, "it was not asked for {policy:?}");
            step().await;
        }
    }

    #[test]
    fn a_worker_with_many_small_bursts_is_made_patient_and_an_idle_one_is_not_left_so() {
        let worker = std::thread::spawn(|| {
            let desk = Desk::new(Tools::new(Recorder::new(0, 1 << 20), 0, Clock::start()));
            let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
            runtime.expect("a runtime").block_on(async {
                tokio::task::spawn_local(carry(Rc::clone(&desk)));
                let (outbox, control) = (Rc::new(RefCell::new(Outbox::default())), Rc::new(Control::default()));
                assert!(scheduler::is(Policy::Ordinary));
                until(Policy::Batch, async || {
                    desk.record(|tools| tools.burst.add(&outbox, &control));
                    tokio::task::yield_now().await;
                })
                .await;
                until(Policy::Ordinary, async || tokio::time::sleep(Duration::from_millis(1)).await).await;
            });
        });
        worker.join().expect("the worker's own assertions");
    }
}
