//! How the process ends.
//!
//! On SIGTERM or SIGINT, in this order:
//!
//! 1. `/readyz` answers 503, so that no new client is sent here, and the service manager is told `STOPPING=1`.
//! 2. The acceptor closes every listener: a connection attempt is refused from here on (or goes to whoever else listens
//!    on the same socket or port). Handshakes that are not finished are broken off.
//! 3. Who is owed nothing is closed. So is a client that only waits for an event (BLPOP, SUBSCRIBE): nothing was promised
//!    to it for any time.
//! 4. What was promised is answered, and a transaction that is open comes to its EXEC or DISCARD; nothing behind it is
//!    accepted. Then that connection closes too.
//! 5. The process waits until every connection is gone, or `limits.drain_timeout` has passed, or a second signal came.
//! 6. What is still open then is cut off: the log names it, its unanswered commands are recorded as such, and its
//!    `connection_close` says `drain-deadline`.
//! 7. `drain_end` and `stop` are recorded, and the audit sink writes what it was given.
//! 8. The exit code is 0 if every connection ended by itself and every line was written, else 1.
//!
//! `deploy/docs/drain.md` says the same to operators, and `tests/handover.rs` goes through it. SIGHUP during a drain does
//! nothing and says so in the log. Keep the deadline below what the supervisor allows (Kubernetes:
//! `terminationGracePeriodSeconds`, systemd: `TimeoutStopSec`), or step 7 is cut off.

use crate::net::worker::Phase;
use std::time::Duration;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout_at},
};

/// How long threads may take to close what is aborted; there is nothing to wait for but themselves.
const ABORT_WITHIN: Duration = Duration::from_secs(5);

/// Something an operator sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
    /// SIGUSR1.
    Reopen,
}

/// How a drain went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Every thread ended by itself before the deadline and before a second signal.
    pub in_time: bool,
    /// Every thread has ended at all.
    pub complete: bool,
}

/// Steps 2 to 6: `threads` yields one item for each of the `running` threads that ends.
pub async fn drain(
    phase: &watch::Sender<Phase>,
    threads: &mut mpsc::Receiver<&'static str>,
    mut running: usize,
    within: Duration,
    requests: &mut mpsc::Receiver<Request>,
) -> Drained {
    phase.send_replace(Phase::Drain);
    let deadline = Instant::now() + within;
    let in_time = loop {
        if running == 0 {
            break true;
        }
        tokio::select! {
            ended = timeout_at(deadline, threads.recv()) => match ended {
                Ok(Some(_)) => running = running.saturating_sub(1),
                Ok(None) => running = 0,
                Err(_) => {
                    tracing::warn!("the drain deadline has passed; what is open is closed now");
                    break false;
                }
            },
            Some(request) = requests.recv() => match request {
                Request::Stop => {
                    tracing::warn!("a second signal: what is open is closed now");
                    break false;
                }
                Request::Reload => tracing::warn!("SIGHUP during a drain is ignored: nothing new is accepted any more"),
                Request::Reopen => tracing::warn!("SIGUSR1 during a drain is ignored"),
            },
        }
    };
    if !in_time {
        phase.send_replace(Phase::Abort);
        let last = Instant::now() + ABORT_WITHIN;
        while running > 0 {
            match timeout_at(last, threads.recv()).await {
                Ok(Some(_)) => running = running.saturating_sub(1),
                Ok(None) => running = 0,
                Err(_) => break,
            }
        }
    }
    Drained { in_time, complete: running == 0 }
}

#[cfg(test)]
mod tests {
    use super::{Drained, Phase, Request, drain};
    use std::time::Duration;
    use tokio::sync::{mpsc, watch};

    struct Process {
        phase: watch::Sender<Phase>,
        ended: mpsc::Sender<&'static str>,
        threads: mpsc::Receiver<&'static str>,
        signal: mpsc::Sender<Request>,
        requests: mpsc::Receiver<Request>,
    }

    fn process() -> Process {
        let (ended, threads) = mpsc::channel(8);
        let (signal, requests) = mpsc::channel(8);
        Process { phase: watch::channel(Phase::Serve(0)).0, ended, threads, signal, requests }
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(test)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_drain_in_which_everybody_leaves_is_in_time() {
        run(async {
            let mut at = process();
            let ended = at.ended.clone();
            let mut seen = at.phase.subscribe();
            let leave = async move {
                seen.wait_for(|phase| *phase == Phase::Drain).await.unwrap();
                ended.send("a").await.unwrap();
                ended.send("b").await.unwrap();
            };
            let (drained, ()) = tokio::join!(drain(&at.phase, &mut at.threads, 2, LONG, &mut at.requests), leave);
            assert_eq!(drained, Drained { in_time: true, complete: true });
            assert_eq!(*at.phase.borrow(), Phase::Drain, "nobody was aborted");
        });
    }

    #[test]
    fn the_deadline_aborts_who_stays() {
        run(async {
            let mut at = process();
            let ended = at.ended.clone();
            let mut seen = at.phase.subscribe();
            let leave = async move {
                seen.wait_for(|phase| *phase == Phase::Abort).await.unwrap();
                ended.send("stayed").await.unwrap();
            };
            let within = Duration::from_millis(1);
            let (drained, ()) = tokio::join!(drain(&at.phase, &mut at.threads, 1, within, &mut at.requests), leave);
            assert_eq!(drained, Drained { in_time: false, complete: true });
        });
    }

    #[test]
    fn a_second_signal_aborts_at_once_and_a_reload_does_not() {
        run(async {
            let mut at = process();
            at.signal.send(Request::Reload).await.unwrap();
            at.signal.send(Request::Stop).await.unwrap();
            let ended = at.ended.clone();
            let mut seen = at.phase.subscribe();
            let leave = async move {
                seen.wait_for(|phase| *phase == Phase::Abort).await.unwrap();
                ended.send("stayed").await.unwrap();
            };
            let (drained, ()) = tokio::join!(drain(&at.phase, &mut at.threads, 1, LONG, &mut at.requests), leave);
            assert_eq!(drained, Drained { in_time: false, complete: true });
        });
    }
}
