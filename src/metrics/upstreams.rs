//! How each service's Redis is: set from time to time, not at every change.

use crate::net::keeper::Keeper;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

/// The families; their labels are services of the configuration and the words of [`crate::net::upkeep::Seen`].
#[derive(Debug)]
pub(super) struct Upstreams {
    up: IntGaugeVec,
    used: IntGaugeVec,
    switches: IntCounterVec,
    looks: IntCounterVec,
    waiting: IntGaugeVec,
    connecting: IntGaugeVec,
}

impl Upstreams {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| {
            let family = IntGaugeVec::new(Opts::new(name, help), &["service"])?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let family = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        Ok(Self {
            up: gauge("upstream_up", "Whether the service's Redis was ready when last looked at.")?,
            used: gauge("upstream_used", "The address in use: 0 for `address`, 1 for the first of `alternatives`.")?,
            switches: counter("upstream_switches_total", "How often another address came into use.", &["service"])?,
            looks: counter("upstream_looks_total", "Looks at Redis, by what they found.", &["service", "found"])?,
            waiting: gauge("upstream_waiting", "Clients that wait for their turn to connect to Redis, or for Redis.")?,
            connecting: gauge("upstream_connecting", "Connections on their way that Redis has not answered yet.")?,
        })
    }

    pub(super) fn set(&self, service: &str, keeper: &Keeper) {
        let (waiting, connecting) = keeper.crowd();
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.up.with_label_values(&[service]).set(keeper.ready().is_ok().into());
        self.used.with_label_values(&[service]).set(i64::try_from(keeper.used()).unwrap_or(i64::MAX));
        self.waiting.with_label_values(&[service]).set(number(waiting));
        self.connecting.with_label_values(&[service]).set(number(connecting));
        raise(&self.switches, &[service], keeper.switches());
        for (seen, count) in keeper.seen() {
            raise(&self.looks, &[service, seen.word()], count);
        }
    }
}

/// Brings a counter up to `count`; a keeper that a reload made begins at nought, and then it stays where it is.
fn raise(family: &IntCounterVec, labels: &[&str], count: u64) {
    let counter = family.with_label_values(labels);
    counter.inc_by(count.saturating_sub(counter.get()));
}
