//! What `/metrics` shows: the counters that each worker folds from its records, added up when somebody asks, and the
//! few states of the process.
//!
//! A worker pays nothing for this while nobody asks. A scrape rings [`WorkerStats`]; a small task on the worker
//! ([`WorkerStats::serve`]) answers with a copy of its counters, between two turns, and the scrape waits for all
//! answers or [`ANSWER_WITHIN`], whichever comes first. A worker that does not answer is shown as it was last.
//!
//! Every family and its labels stand in [`FAMILIES`]; the tests compare it with what is exposed.

use crate::{
    audit::{
        counters::{Counters, LATENCY_BOUNDS_US, Latency, Tally},
        record::Outcome,
        sink::SinkMonitor,
    },
    command::CommandId,
};
use prometheus::{
    IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    core::{Collector, Desc},
    proto,
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Notify, time::timeout};

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
    async fn ask(&self) {
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

/// What the collector exposes; the order is the order of [`collect`]'s parts. Names carry the prefix `ravelin_`.
///
/// Labels are bounded: `command` is a row of the catalog or `unknown`; `rule` and `service` come from the
/// configuration; `reason` and `outcome` are the words of the audit record; `worker` is a number.
pub const FAMILIES: [Family; 22] = [
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
    ("upstream_commands_total", COUNTER, &["outcome"], "Commands of the proxy's own to Redis."),
    ("audit_records_total", COUNTER, &[], "Audit lines rendered."),
    ("audit_begins_total", COUNTER, &[], "Audit lines written before their command went up."),
    ("audit_written_bytes_total", COUNTER, &[], "Bytes the audit sink has written."),
    ("audit_queue_bytes", GAUGE, &[], "Bytes handed to the audit sink and not yet written."),
    ("audit_failing", GAUGE, &[], "Whether the audit sink cannot write now."),
    ("start_time_seconds", GAUGE, &[], "When the process started, in seconds since the epoch."),
];

/// The registry, and the states the shell sets.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    workers: Vec<Arc<WorkerStats>>,
    upstream_up: IntGaugeVec,
    certificate_not_after: IntGaugeVec,
    reloads: IntCounterVec,
    draining: IntGauge,
}

impl Metrics {
    /// A registry over these workers and this sink. `started` is in seconds since the epoch.
    ///
    /// # Errors
    /// Two families have one name: a bug.
    pub fn new(
        version: &str,
        started: u64,
        workers: Vec<Arc<WorkerStats>>,
        sink: SinkMonitor,
    ) -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("ravelin".into()), None)?;
        let descriptions = FAMILIES.iter().map(|(name, _, labels, help)| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new((*name).to_owned(), (*help).to_owned(), labels, HashMap::new())
        });
        let descriptions = descriptions.collect::<prometheus::Result<_>>()?;
        registry.register(Box::new(Collected { descriptions, workers: workers.clone(), sink, started }))?;
        let upstream_up = IntGaugeVec::new(
            Opts::new("upstream_up", "Whether the service's Redis was reachable when last tried."),
            &["service"],
        )?;
        let certificate_not_after = IntGaugeVec::new(
            Opts::new("certificate_not_after_seconds", "When the certificate expires, in seconds since the epoch."),
            &["service", "certificate"],
        )?;
        let reloads = IntCounterVec::new(Opts::new("reloads_total", "Reloads asked for."), &["what", "result"])?;
        let draining = IntGauge::new("draining", "Whether the process drains.")?;
        let build = IntGaugeVec::new(Opts::new("build_info", "The program; always 1."), &["version"])?;
        build.with_label_values(&[version]).set(1);
        registry.register(Box::new(upstream_up.clone()))?;
        registry.register(Box::new(certificate_not_after.clone()))?;
        registry.register(Box::new(reloads.clone()))?;
        registry.register(Box::new(draining.clone()))?;
        registry.register(Box::new(build))?;
        Ok(Self { registry, workers, upstream_up, certificate_not_after, reloads, draining })
    }

    /// A service's Redis was or was not reachable.
    pub fn set_upstream_up(&self, service: &str, up: bool) {
        self.upstream_up.with_label_values(&[service]).set(up.into());
    }

    /// A service's certificate (`server`, `client_ca`) expires then.
    pub fn set_certificate_not_after(&self, service: &str, certificate: &'static str, seconds: i64) {
        self.certificate_not_after.with_label_values(&[service, certificate]).set(seconds);
    }

    /// A reload of `what` was asked for, and swapped in or not.
    pub fn count_reload(&self, what: &'static str, swapped: bool) {
        self.reloads.with_label_values(&[what, if swapped { "swapped" } else { "kept" }]).inc();
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

/// Adds the workers up when the registry asks.
struct Collected {
    descriptions: Vec<Desc>,
    workers: Vec<Arc<WorkerStats>>,
    sink: SinkMonitor,
    started: u64,
}

impl Collector for Collected {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let mut sum = Counters::default();
        for worker in &self.workers {
            sum.merge(&worker.counters.lock().unwrap_or_else(PoisonError::into_inner));
        }
        let connections = self.workers.iter().enumerate();
        let connections = connections.map(|(index, worker)| {
            gauge(&[("worker", &index.to_string())], worker.connections.load(Ordering::Relaxed))
        });
        let each = |read: fn(&crate::audit::counters::ServiceCounters) -> &Tally| {
            let metric = |service: &str, (reason, count)| counter(&[("service", service), ("reason", reason)], count);
            sum.services.iter().flat_map(move |of| read(of).iter().map(move |each| metric(&of.service, each))).collect()
        };
        let all = sum.all_commands();
        let parts: [Vec<proto::Metric>; FAMILIES.len()] = [
            connections.collect(),
            sum.services.iter().map(|of| counter(&[("service", &of.service)], of.opened)).collect(),
            each(|of| &of.closed),
            each(|of| &of.refused),
            each(|of| &of.handshake_failures),
            each(|of| &of.upstream_failures),
            each(|of| &of.alarms),
            pairs(&sum, "verdict", |of| [("ignore", of.client_auth_ignored), ("deny", of.client_auth_refused)]),
            pairs(&sum, "direction", |of| [("in", of.bytes_in), ("out", of.bytes_out)]),
            sum.accept_errors.iter().map(|(reason, count)| counter(&[("reason", reason)], count)).collect(),
            commands(&sum),
            command_times(&sum),
            vec![histogram(&sum.latency)],
            vec![counter(&[("direction", "in")], all.bytes_in), counter(&[("direction", "out")], all.bytes_out)],
            sum.denied.iter().map(|(rule, count)| counter(&[("rule", rule)], *count)).collect(),
            outcomes(&sum.upstream_commands).map(|(of, count)| counter(&[("outcome", of)], count)).collect(),
            vec![counter(&[], sum.records)],
            vec![counter(&[], sum.begins)],
            vec![counter(&[], self.sink.written_bytes())],
            vec![gauge(&[], self.sink.queue_bytes())],
            vec![gauge(&[], self.sink.failing().is_some().into())],
            vec![gauge(&[], self.started)],
        ];
        let families = FAMILIES.iter().zip(parts).filter(|(_, metrics)| !metrics.is_empty());
        families
            .map(|((name, kind, _, help), metrics)| {
                let mut family = proto::MetricFamily::default();
                family.set_name((*name).to_owned());
                family.set_help((*help).to_owned());
                family.set_field_type(*kind);
                family.set_metric(metrics);
                family
            })
            .collect()
    }
}

/// The rows of the catalog that were used, by name, and what is not in it.
fn rows(sum: &Counters) -> impl Iterator<Item = (&'static str, &crate::audit::counters::CommandCounters)> {
    let known = sum.commands.iter().zip(0..).filter(|(row, _)| row.outcomes.iter().any(|count| *count > 0));
    let known = known.map(|(row, index)| (CommandId(index).entry().full_name, row));
    known.chain(std::iter::once(("unknown", &sum.unknown)))
}

fn outcomes(counts: &[u64; Outcome::ALL.len()]) -> impl Iterator<Item = (&'static str, u64)> {
    Outcome::ALL.iter().zip(counts).filter(|(_, count)| **count > 0).map(|(outcome, count)| (outcome.word(), *count))
}

fn commands(sum: &Counters) -> Vec<proto::Metric> {
    let each = rows(sum).flat_map(|(name, row)| outcomes(&row.outcomes).map(move |outcome| (name, outcome)));
    each.map(|(name, (outcome, count))| counter(&[("command", name), ("outcome", outcome)], count)).collect()
}

fn command_times(sum: &Counters) -> Vec<proto::Metric> {
    let timed = rows(sum).filter(|(_, row)| row.us > 0);
    timed.map(|(name, row)| labelled(&[("command", name)], seconds(row.us))).collect()
}

fn pairs(
    sum: &Counters,
    label: &'static str,
    read: fn(&crate::audit::counters::ServiceCounters) -> [(&'static str, u64); 2],
) -> Vec<proto::Metric> {
    let each = sum.services.iter().flat_map(|of| read(of).map(|pair| (&*of.service, pair)));
    each.map(|(service, (word, count))| counter(&[("service", service), (label, word)], count)).collect()
}

/// Prometheus knows only floating point; from 2^53 on a counter loses its last digits.
#[expect(clippy::cast_precision_loss, reason = "the format has no integers")]
const fn float(value: u64) -> f64 {
    value as f64
}

fn seconds(us: u64) -> f64 {
    float(us) / 1e6
}

fn labels(labels: &[(&str, &str)]) -> Vec<proto::LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    labels.iter().map(pair).collect()
}

fn labelled(pairs: &[(&str, &str)], value: f64) -> proto::Metric {
    let mut counter = proto::Counter::default();
    counter.set_value(value);
    let mut metric = proto::Metric::from_label(labels(pairs));
    metric.set_counter(counter);
    metric
}

fn counter(pairs: &[(&str, &str)], value: u64) -> proto::Metric {
    labelled(pairs, float(value))
}

fn gauge(pairs: &[(&str, &str)], value: u64) -> proto::Metric {
    let mut gauge = proto::Gauge::default();
    gauge.set_value(float(value));
    let mut metric = proto::Metric::from_label(labels(pairs));
    metric.set_gauge(gauge);
    metric
}

fn histogram(latency: &Latency) -> proto::Metric {
    let mut below = 0;
    let buckets = LATENCY_BOUNDS_US.iter().zip(&latency.buckets).map(|(bound, count)| {
        below = count.saturating_add(below);
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(seconds(*bound));
        bucket.set_cumulative_count(below);
        bucket
    });
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(latency.count());
    histogram.set_sample_sum(seconds(latency.sum_us));
    let mut metric = proto::Metric::default();
    metric.set_histogram(histogram);
    metric
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::{
            encode::ConnectionFacts,
            event::{ConnectionEvent, ProcessEvent},
            record::{CommandRecord, Context, KeyList, Name, Recorder},
            sink::{Sink, Target},
        },
        moment::Moment,
        resp::reply::Class,
    };
    use std::cell::RefCell;

    /// A pen that has seen one of everything.
    fn pen() -> Recorder {
        let now = Moment::default();
        let mut pen = Recorder::new(0, 0);
        let src = "10.0.0.1:1".parse().unwrap();
        let facts = ConnectionFacts::new("c", "cache", src, "cn:api", "billing", None);
        let ran = CommandRecord {
            name: Name::Unknown(b"NOSUCH", None),
            db: 0,
            argc: 1,
            keys: KeyList::default(),
            context: Context::TopLevel,
            tx: None,
            rule: None,
            local: false,
            outcome: Outcome::Ran,
            class: Some(Class::Status),
            error: None,
            elements: None,
            bytes_in: 10,
            bytes_out: 5,
            us: Some(1_500_000),
        };
        pen.begin(now, &facts, &ran);
        pen.command(now, &facts, &ran);
        let denied = CommandRecord {
            rule: Some("preset:hardened/x"),
            outcome: Outcome::Denied,
            class: Some(Class::Error),
            us: None,
            ..ran
        };
        pen.command(now, &facts, &denied);
        pen.upstream_command(now, &facts, "AUTH", Outcome::Ran, None, 1);
        for event in [
            ConnectionEvent::Open,
            ConnectionEvent::UpstreamFailed { reason: "connect", detail: "" },
            ConnectionEvent::Authentication { accepted: false, method: "AUTH" },
            ConnectionEvent::Alarm { reason: "noauth" },
            ConnectionEvent::Close {
                reason: "quit",
                detail: "",
                commands: 2,
                denied: 1,
                bytes_in: 20,
                bytes_out: 9,
                us: 5,
            },
        ] {
            pen.connection(now, &facts, &event);
        }
        for event in [
            ProcessEvent::Refused { src, service: "cache", listener: "l", reason: "not-admitted" },
            ProcessEvent::HandshakeFailure {
                src,
                service: "cache",
                reason: "expired",
                detail: "",
                hint: None,
                unverified: &[],
            },
            ProcessEvent::AcceptError { listener: "l", reason: "fd-limit", detail: "" },
        ] {
            pen.process(now, &event);
        }
        pen
    }

    fn metrics(workers: Vec<Arc<WorkerStats>>) -> Metrics {
        let (sink, _) = Sink::open(Target::File("/dev/null".into()), 1).unwrap();
        Metrics::new("0.1.0", 1_795_209_003, workers, sink.monitor()).unwrap()
    }

    #[test]
    fn every_family_is_exposed_with_its_labels_and_the_workers_are_added_up() {
        let workers = vec![Arc::new(WorkerStats::default()), Arc::new(WorkerStats::default())];
        for worker in &workers {
            worker.publish(pen().counters().clone());
        }
        workers[1].connections().store(3, Ordering::Relaxed);
        let text = metrics(workers).render().unwrap();
        for line in [
            "ravelin_connections{worker=\"0\"} 0",
            "ravelin_connections{worker=\"1\"} 3",
            "ravelin_connections_opened_total{service=\"cache\"} 2",
            "ravelin_connections_closed_total{service=\"cache\",reason=\"quit\"} 2",
            "ravelin_refused_total{service=\"cache\",reason=\"not-admitted\"} 2",
            "ravelin_handshake_failures_total{service=\"cache\",reason=\"expired\"} 2",
            "ravelin_upstream_failures_total{service=\"cache\",reason=\"connect\"} 2",
            "ravelin_alarms_total{service=\"cache\",reason=\"noauth\"} 2",
            "ravelin_client_auth_total{service=\"cache\",verdict=\"deny\"} 2",
            "ravelin_client_auth_total{service=\"cache\",verdict=\"ignore\"} 0",
            "ravelin_client_bytes_total{service=\"cache\",direction=\"in\"} 40",
            "ravelin_client_bytes_total{service=\"cache\",direction=\"out\"} 18",
            "ravelin_accept_errors_total{reason=\"fd-limit\"} 2",
            "ravelin_commands_total{command=\"unknown\",outcome=\"ran\"} 2",
            "ravelin_commands_total{command=\"unknown\",outcome=\"denied\"} 2",
            "ravelin_command_time_seconds_total{command=\"unknown\"} 3",
            "ravelin_command_seconds_bucket{le=\"1\"} 0",
            "ravelin_command_seconds_bucket{le=\"2.5\"} 2",
            "ravelin_command_seconds_bucket{le=\"+Inf\"} 2",
            "ravelin_command_seconds_sum 3",
            "ravelin_command_seconds_count 2",
            "ravelin_command_bytes_total{direction=\"in\"} 40",
            "ravelin_command_bytes_total{direction=\"out\"} 20",
            "ravelin_denied_total{rule=\"preset:hardened/x\"} 2",
            "ravelin_upstream_commands_total{outcome=\"ran\"} 2",
            "ravelin_audit_records_total 24",
            "ravelin_audit_begins_total 2",
            "ravelin_audit_written_bytes_total 0",
            "ravelin_audit_queue_bytes 0",
            "ravelin_audit_failing 0",
            "ravelin_start_time_seconds 1795209003",
            "ravelin_build_info{version=\"0.1.0\"} 1",
            "ravelin_draining 0",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        }
        for (name, _, labels, help) in FAMILIES {
            assert!(text.contains(&format!("# HELP ravelin_{name} {help}\n")), "{name}");
            let sample = text.lines().find(|line| line.starts_with(&format!("ravelin_{name}")));
            for label in labels {
                assert!(sample.unwrap().contains(&format!("{label}=")), "{name} has the label {label}");
            }
        }
    }

    #[test]
    fn states_that_the_shell_sets_are_exposed() {
        let metrics = metrics(Vec::new());
        metrics.set_upstream_up("cache", true);
        metrics.set_certificate_not_after("cache", "server", 1_800_000_000);
        metrics.count_reload("config", false);
        metrics.set_draining();
        let text = metrics.render().unwrap();
        for line in [
            "ravelin_upstream_up{service=\"cache\"} 1",
            "ravelin_certificate_not_after_seconds{certificate=\"server\",service=\"cache\"} 1800000000",
            "ravelin_reloads_total{result=\"kept\",what=\"config\"} 1",
            "ravelin_draining 1",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        }
    }

    #[tokio::test]
    async fn a_scrape_gets_the_figures_of_the_moment_and_does_not_wait_for_who_is_gone() {
        let worker = Arc::new(WorkerStats::default());
        let gone = Arc::new(WorkerStats::default());
        let metrics = metrics(vec![Arc::clone(&worker), gone]);
        let pen = RefCell::new(Recorder::new(0, 0));
        let mut serve = Box::pin(worker.serve(|| pen.borrow().counters().clone()));
        tokio::select! {
            () = &mut serve => unreachable!(),
            () = async {
                for records in 0..3 {
                    assert!(metrics.refresh(Duration::from_secs(30)).await);
                    let text = metrics.render().unwrap();
                    assert!(text.contains(&format!("ravelin_audit_records_total {records}\n")), "{text}");
                    pen.borrow_mut().process(Moment::default(), &ProcessEvent::Stop { reason: "drained", us: 0 });
                }
            } => {}
        }
        drop(serve);
        assert!(metrics.refresh(Duration::from_secs(30)).await, "a worker that is gone is not waited for");
    }

    #[tokio::test]
    async fn a_worker_that_never_comes_to_its_turn_is_told() {
        let worker = Arc::new(WorkerStats::default());
        let metrics = metrics(vec![Arc::clone(&worker)]);
        let mut serve = Box::pin(worker.serve(Counters::default));
        // Polled once, so that it is there; then never again.
        assert!(
            std::future::poll_fn(|context| std::task::Poll::Ready(serve.as_mut().poll(context).is_pending())).await
        );
        assert!(!metrics.refresh(Duration::from_millis(20)).await);
    }
}
