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
    use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};
    use tokio::{
        runtime::{Builder, LocalOptions},
        time::Instant,
    };

    /// Far more than the judgement takes, on the busiest machine.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// On a thread of its own, a worker's task that sends bursts, and what happens beside it. The step it is handed is one
    /// connection's burst.
    fn on_a_worker(before: fn(), beside: impl AsyncFn(&dyn Fn()) + Send + 'static) {
        let worker = std::thread::spawn(move || {
            before();
            let desk = Desk::new(Tools::new(Recorder::new(0, 1 << 20), 0, Clock::start()));
            let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
            runtime.expect("a runtime").block_on(async {
                tokio::task::spawn_local(carry(Rc::clone(&desk)));
                let (outbox, control) = (Rc::new(RefCell::new(Outbox::default())), Rc::new(Control::default()));
                beside(&|| desk.record(|tools| tools.burst.add(&outbox, &control))).await;
            });
        });
        worker.join().expect("the worker's own assertions");
    }

    /// Goes on until this is so.
    async fn until(what: &str, holds: impl Fn() -> bool, mut step: impl AsyncFnMut()) {
        let begin = Instant::now();
        while !holds() {
            assert!(begin.elapsed() < PATIENCE, "{what}: in vain");
            step().await;
        }
    }

    #[test]
    fn a_worker_with_many_small_bursts_is_made_patient_and_an_idle_one_is_not_left_so() {
        on_a_worker(
            || {},
            async |burst| {
                assert!(scheduler::is(Policy::Ordinary));
                let busy = async || {
                    burst();
                    tokio::task::yield_now().await;
                };
                until("patience", || scheduler::is(Policy::Batch), busy).await;
                let idle = async || tokio::time::sleep(Duration::from_millis(1)).await;
                until("the usual policy", || scheduler::is(Policy::Ordinary), idle).await;
            },
        );
    }

    #[test]
    fn a_worker_that_may_not_ask_says_so_once_and_goes_on_as_it_is() {
        on_a_worker(scheduler::forbid, async |burst| {
            let log = tempfile::NamedTempFile::new().expect("a file");
            let refusals = || {
                let text = std::fs::read_to_string(log.path()).expect("what the log says");
                text.matches("stays what it is").count()
            };
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(tracing::Level::DEBUG)
                .with_writer(Arc::new(log.reopen().expect("the same file")))
                .finish();
            let _guard = tracing::subscriber::set_default(subscriber);
            let busy = async || {
                burst();
                tokio::task::yield_now().await;
            };
            until("a refusal", || refusals() > 0, busy).await;
            let begin = Instant::now();
            // More than it takes to be asked for again, were it.
            until("some time", || begin.elapsed() > Duration::from_millis(200), busy).await;
            assert_eq!(refusals(), 1);
            assert!(scheduler::is(Policy::Ordinary));
        });
    }
}
