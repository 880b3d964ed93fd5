//! The families that are added up from the workers when the registry asks.

use super::{FAMILIES, WorkerStats};
use crate::audit::event::AuthVerdict;
use crate::{
    audit::{
        counters::{CommandCounters, Counters, LATENCY_BOUNDS_US, Latency, OutletCounters, ServiceCounters, Tally},
        record::Outcome,
        sink::SinkMonitor,
        watch::Notice,
    },
    command::CommandId,
};
use prometheus::{
    core::{Collector, Desc},
    proto,
};
use std::sync::{Arc, PoisonError, atomic::Ordering};

/// Adds the workers up when the registry asks.
pub(super) struct Collected {
    pub(super) descriptions: Vec<Desc>,
    pub(super) workers: Vec<Arc<WorkerStats>>,
    pub(super) sinks: Vec<SinkMonitor>,
    pub(super) started: u64,
}

impl Collected {
    /// Of each output that has checkpoints, something of the last.
    fn checkpoints(&self, read: impl Fn((u64, u64)) -> u64) -> Vec<proto::Metric> {
        let each = self.sinks.iter().filter_map(|sink| Some((sink.name(), sink.checkpoint()?)));
        each.map(|(name, last)| gauge(&[("output", name)], read(last))).collect()
    }

    /// Per output, what the pens counted of it.
    fn taken(&self, sum: &Counters, read: fn(&OutletCounters) -> u64) -> Vec<proto::Metric> {
        let outlets = self.sinks.iter().zip(&sum.outlets);
        outlets.map(|(sink, of)| counter(&[("output", sink.name())], read(of))).collect()
    }
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
        let each = |read: fn(&ServiceCounters) -> &Tally| {
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
            pairs(&sum, "verdict", |of| {
                AuthVerdict::ALL
                    .map(|verdict| (verdict.word(), of.client_auth.get(verdict.index()).copied().unwrap_or(0)))
            }),
            pairs(&sum, "direction", |of| [("in", of.bytes_in), ("out", of.bytes_out)]),
            sum.accept_errors.iter().map(|(reason, count)| counter(&[("reason", reason)], count)).collect(),
            commands(&sum),
            command_times(&sum),
            vec![histogram(&sum.latency)],
            vec![counter(&[("direction", "in")], all.bytes_in), counter(&[("direction", "out")], all.bytes_out)],
            sum.denied.iter().map(|(rule, count)| counter(&[("rule", rule)], *count)).collect(),
            sum.shadowed.iter().map(|(rule, count)| counter(&[("rule", rule)], *count)).collect(),
            sum.delayed.iter().map(|(rule, count)| counter(&[("rule", rule)], *count)).collect(),
            outcomes(&sum.upstream_commands).map(|(of, count)| counter(&[("outcome", of)], count)).collect(),
            vec![counter(&[], sum.records)],
            vec![counter(&[], sum.begins)],
            Notice::ALL
                .map(|notice| (notice.word(), sum.notices.get(notice.index()).copied().unwrap_or(0)))
                .map(|(word, count)| counter(&[("notice", word)], count))
                .into(),
            vec![counter(&[], sum.unwatched)],
            self.taken(&sum, |of| of.lines),
            self.taken(&sum, |of| of.filtered),
            self.taken(&sum, |of| of.dropped),
            self.sinks.iter().map(|sink| counter(&[("output", sink.name())], sink.written_bytes())).collect(),
            self.sinks.iter().map(|sink| gauge(&[("output", sink.name())], sink.queue_bytes())).collect(),
            self.sinks.iter().map(|sink| gauge(&[("output", sink.name())], sink.failing().is_some().into())).collect(),
            self.checkpoints(|(n, _)| n),
            self.checkpoints(|(_, wall_us)| wall_us / 1_000_000),
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
fn rows(sum: &Counters) -> impl Iterator<Item = (&'static str, &CommandCounters)> {
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

fn pairs<const N: usize>(
    sum: &Counters,
    label: &'static str,
    read: fn(&ServiceCounters) -> [(&'static str, u64); N],
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
