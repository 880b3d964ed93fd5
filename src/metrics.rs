//! What `/metrics` shows: the counters that each worker folds from its records, added up when somebody asks, and the
//! few states of the process.
//!
//! A worker pays nothing for this while nobody asks. A scrape rings [`WorkerStats`]; a small task on the worker
//! ([`WorkerStats::serve`]) answers with a copy of its counters, between two turns, and the scrape waits for all
//! answers or [`ANSWER_WITHIN`], whichever comes first. A worker that does not answer is shown as it was last.
//!
//! Every family and its labels stand in [`FAMILIES`]; the tests compare it with what is exposed.

mod collect;
mod upstreams;

use crate::{
    audit::{counters::Counters, sink::SinkMonitor},
    net::keeper::Keeper,
};
use collect::Collected;
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder, core::Desc, proto};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Notify, time::timeout};
use upstreams::Upstreams;

/// How long a scrape waits for the workers.
pub const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// One worker's figures, as the process sees them.
#[derive(Debug, Default)]
pub struct WorkerStats {
    counters: Mutex<Counters>,
    connections: AtomicU64,
    /// A worker is there to answer.
    attached: AtomicBool,
    /// Questions asked and questions answered; `answered <= asked`.
    asked: AtomicU64,
    answered: AtomicU64,
    question: Notify,
    answer: Notify,
}

impl WorkerStats {
    /// Publishes a copy of the counters: the last thing a worker does, and what [`WorkerStats::serve`] does.
    pub fn publish(&self, counters: Counters) {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner) = counters;
    }

    /// Connections this worker has, for the acceptor's choice too.
    #[must_use]
    pub const fn connections(&self) -> &AtomicU64 {
        &self.connections
    }

    /// Answers scrapes until it is dropped: a task of the worker. `snapshot` is called between two turns.
    pub async fn serve(&self, mut snapshot: impl FnMut() -> Counters) {
        /// Nobody is to wait for a worker that is gone.
        struct Attached<'a>(&'a WorkerStats);
        impl Drop for Attached<'_> {
            fn drop(&mut self) {
                self.0.attached.store(false, Ordering::SeqCst);
                self.0.answer.notify_waiters();
            }
        }
        self.attached.store(true, Ordering::SeqCst);
        let _attached = Attached(self);
        loop {
            self.question.notified().await;
            let asked = self.asked.load(Ordering::SeqCst);
            self.publish(snapshot());
            self.answered.fetch_max(asked, Ordering::SeqCst);
            self.answer.notify_waiters();
        }
    }

    /// Waits until the worker has published, if it is there.
    pub(crate) async fn ask(&self) {
        let mine = self.asked.fetch_add(1, Ordering::SeqCst).saturating_add(1);
        self.question.notify_one();
        loop {
            let mut answer = std::pin::pin!(self.answer.notified());
            answer.as_mut().enable();
            if self.answered.load(Ordering::SeqCst) >= mine || !self.attached.load(Ordering::SeqCst) {
                return;
            }
            answer.await;
        }
    }
}

/// One family: its name without the prefix, its kind, its labels and its help.
type Family = (&'static str, proto::MetricType, &'static [&'static str], &'static str);

use proto::MetricType::{COUNTER, GAUGE, HISTOGRAM};

/// What the collector exposes; in the order in which they are collected. Names carry the prefix `ravelin_`.
///
/// Labels are bounded: `command` is a row of the catalog or `unknown`; `rule` and `service` come from the
/// configuration; `reason` and `outcome` are the words of the audit record; `worker` is a number.
pub const FAMILIES: [Family; 31] = [
    ("connections", GAUGE, &["worker"], "Connections that are open now."),
    (
        "connections_opened_total",
        COUNTER,
        &["service"],
        "Connections whose peer was authenticated and whose upstream was ready.",
    ),
    (
        "connections_closed_total",
        COUNTER,
        &["service", "reason"],
        "Connections that ended, by the reason in their record.",
    ),
    ("refused_total", COUNTER, &["service", "reason"], "Connections refused before TLS."),
    (
        "handshake_failures_total",
        COUNTER,
        &["service", "reason"],
        "Handshakes that did not lead to a peer with a role.",
    ),
    ("upstream_failures_total", COUNTER, &["service", "reason"], "Upstream connections that could not be had."),
    ("alarms_total", COUNTER, &["service", "reason"], "Events somebody should look at."),
    ("client_auth_total", COUNTER, &["service", "verdict"], "Clients' own AUTH and HELLO AUTH."),
    (
        "client_bytes_total",
        COUNTER,
        &["service", "direction"],
        "Plaintext bytes of ended connections, in from clients and out to them.",
    ),
    ("accept_errors_total", COUNTER, &["reason"], "Failures to accept a connection."),
    ("commands_total", COUNTER, &["command", "outcome"], "Commands, by what became of them."),
    (
        "command_time_seconds_total",
        COUNTER,
        &["command"],
        "Time from acceptance to the end of the reply, summed over commands Redis answered.",
    ),
    (
        "command_seconds",
        HISTOGRAM,
        &[],
        "Time from acceptance to the end of the reply, of commands Redis answered; blocking ones included.",
    ),
    ("command_bytes_total", COUNTER, &["direction"], "Bytes of commands in and of their replies out."),
    ("denied_total", COUNTER, &["rule"], "Commands denied, by the rule that did it."),
    ("shadowed_total", COUNTER, &["rule"], "Commands let through that a rule in shadow mode would deny."),
    ("delayed_total", COUNTER, &["rule"], "Commands that had to wait for room under a limit in time."),
    ("upstream_commands_total", COUNTER, &["outcome"], "Commands of the proxy's own to Redis."),
    ("audit_records_total", COUNTER, &[], "Audit records made, whatever outputs took of them."),
    ("audit_begins_total", COUNTER, &[], "Audit lines written before their command went up."),
    ("notices_total", COUNTER, &["notice"], "What was worth a second look (audit.watch)."),
    ("unwatched_total", COUNTER, &[], "Commands not watched for first sights and bursts: too many identities."),
    ("audit_lines_total", COUNTER, &["output"], "Audit lines rendered for the output."),
    ("audit_filtered_total", COUNTER, &["output"], "Audit records that the output's filter or sample left out."),
    ("audit_dropped_total", COUNTER, &["output"], "Audit records dropped because the output was full."),
    ("audit_written_bytes_total", COUNTER, &["output"], "Bytes written to the output."),
    ("audit_queue_bytes", GAUGE, &["output"], "Bytes handed to the output and not yet written."),
    ("audit_failing", GAUGE, &["output"], "Whether the output cannot be written now."),
    (
        "audit_checkpoint",
        GAUGE,
        &["output"],
        "Number of the last checkpoint in the output's chain; 0 before the first.",
    ),
    ("audit_checkpoint_seconds", GAUGE, &["output"], "When it was written, in seconds since 1970."),
    ("start_time_seconds", GAUGE, &[], "When the process started, in seconds since the epoch."),
];

/// The registry, and the states the shell sets.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    workers: Vec<Arc<WorkerStats>>,
    upstream: Upstreams,
    certificate_not_after: IntGaugeVec,
    /// Which of its labels are there, by service.
    certificates: Mutex<BTreeMap<String, BTreeSet<String>>>,
    reloads: IntCounterVec,
    reload_last_success: IntGauge,
    reload_last_failed: IntGauge,
    credential_refused: IntGaugeVec,
    draining: IntGauge,
    bans: IntGaugeVec,
}

impl Metrics {
    /// A registry over these workers and these sinks. `started` is in seconds since the epoch.
    ///
    /// # Errors
    /// Two families have one name: a bug.
    pub fn new(
        version: &str,
        started: u64,
        workers: Vec<Arc<WorkerStats>>,
        sinks: Vec<SinkMonitor>,
    ) -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("ravelin".into()), None)?;
        let descriptions = FAMILIES.iter().map(|(name, _, labels, help)| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new((*name).to_owned(), (*help).to_owned(), labels, HashMap::new())
        });
        let descriptions = descriptions.collect::<prometheus::Result<_>>()?;
        registry.register(Box::new(Collected { descriptions, workers: workers.clone(), sinks, started }))?;
        let upstream = Upstreams::register(&registry)?;
        let certificate_not_after = IntGaugeVec::new(
            Opts::new(
                "certificate_not_after_seconds",
                "When the certificate expires, or the list or response was due, in seconds since the epoch: the first of them.",
            ),
            &["service", "certificate"],
        )?;
        let reloads = IntCounterVec::new(Opts::new("reloads_total", "Reloads asked for."), &["what", "result"])?;
        let reload_last_success = IntGauge::new(
            "reload_last_success_seconds",
            "When a configuration was last put in force, in seconds since the epoch; the start counts.",
        )?;
        let reload_last_failed =
            IntGauge::new("reload_last_failed", "Whether the last reload has kept the old configuration.")?;
        let credential_refused = IntGaugeVec::new(
            Opts::new(
                "upstream_credential_refused",
                "Whether Redis refuses the service's password, or that of a role with one of its own.",
            ),
            &["service", "role"],
        )?;
        let draining = IntGauge::new("draining", "Whether the process drains.")?;
        let bans = IntGaugeVec::new(
            Opts::new("bans", "Addresses (an IPv6 one for its /64) and certificates that are sent away now."),
            &["of"],
        )?;
        let build = IntGaugeVec::new(Opts::new("build_info", "The program; always 1."), &["version"])?;
        build.with_label_values(&[version]).set(1);
        registry.register(Box::new(certificate_not_after.clone()))?;
        registry.register(Box::new(reloads.clone()))?;
        registry.register(Box::new(reload_last_success.clone()))?;
        registry.register(Box::new(reload_last_failed.clone()))?;
        registry.register(Box::new(credential_refused.clone()))?;
        registry.register(Box::new(draining.clone()))?;
        registry.register(Box::new(bans.clone()))?;
        registry.register(Box::new(build))?;
        Ok(Self {
            registry,
            workers,
            upstream,
            certificate_not_after,
            certificates: Mutex::default(),
            reloads,
            reload_last_success,
            reload_last_failed,
            credential_refused,
            draining,
            bans,
        })
    }

    /// How a service's Redis is.
    pub fn set_upstream(&self, service: &str, keeper: &Keeper) {
        self.upstream.set(service, keeper);
    }

    /// A service's certificates (`server`, `client_ca`, `server:NAME`), lists (`crl`) and responses (`ocsp`, `ocsp:NAME`)
    /// expire then; of several with one word, the first. What was there before and is no more is not exposed any more.
    pub fn set_certificates<'a>(&self, service: &str, ends: impl Iterator<Item = (&'a str, i64)>) {
        let mut first: BTreeMap<&str, i64> = BTreeMap::new();
        for (certificate, at) in ends {
            first.entry(certificate).and_modify(|known| *known = at.min(*known)).or_insert(at);
        }
        for (certificate, at) in &first {
            self.certificate_not_after.with_label_values(&[service, certificate]).set(*at);
        }
        let words = first.into_keys().map(str::to_owned).collect::<BTreeSet<_>>();
        let mut known = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.insert(service.to_owned(), words.clone()).unwrap_or_default();
        for gone in before.difference(&words) {
            // An error says that it is not there, which is what is wanted.
            let _ = self.certificate_not_after.remove_label_values(&[service, gone]);
        }
    }

    /// A reload of `what` was asked for, and swapped in or not.
    pub fn count_reload(&self, what: &'static str, swapped: bool) {
        self.reloads.with_label_values(&[what, if swapped { "swapped" } else { "kept" }]).inc();
    }

    /// A configuration is in force since `now`, in seconds since the epoch; or was not put in force.
    pub fn reloaded(&self, swapped: bool, now: u64) {
        if swapped {
            self.reload_last_success.set(i64::try_from(now).unwrap_or(i64::MAX));
        }
        self.reload_last_failed.set((!swapped).into());
    }

    /// Redis refuses the password of a service, or of a role with one of its own (else `role` is empty).
    pub fn set_credential_refused(&self, service: &str, role: &str, refused: bool) {
        self.credential_refused.with_label_values(&[service, role]).set(refused.into());
    }

    /// So many addresses and certificates are banned now. At most [`crate::policy::bans::ENTRIES_MAX`] of both.
    pub fn set_bans(&self, addresses: u64, certificates: u64) {
        for (of, count) in [("address", addresses), ("certificate", certificates)] {
            self.bans.with_label_values(&[of]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// The process drains.
    pub fn set_draining(&self) {
        self.draining.set(1);
    }

    /// Asks every worker for its counters; tells whether all answered within `within`. A worker that is not there
    /// (not yet, or gone) is not waited for.
    pub async fn refresh(&self, within: Duration) -> bool {
        // All are asked at once, and the one deadline is for all of them.
        let mut asked: Vec<_> = self.workers.iter().map(|worker| Box::pin(worker.ask())).collect();
        let all = std::future::poll_fn(|context| {
            asked.retain_mut(|ask| ask.as_mut().poll(context).is_pending());
            if asked.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        });
        timeout(within, all).await.is_ok()
    }

    /// The exposition in Prometheus' text format.
    ///
    /// # Errors
    /// A family cannot be encoded: a bug.
    pub fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

#[cfg(test)]
mod tests;
