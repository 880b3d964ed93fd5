//! Whoever looks at Redis from beside: what it counts, and who kills clients there.

use crate::support::{
    ledger::{Counted, Ledger, commandstats},
    load::Dice,
    redis::Redis,
    wire::Wire,
};
use std::collections::{BTreeMap, HashMap};

/// What servers counted, one life after the other.
pub(crate) type Totals = HashMap<String, Counted>;

/// A direct connection to Redis, which counts what it says.
pub(crate) struct Watcher {
    wire: Wire<std::os::unix::net::UnixStream>,
    said: BTreeMap<&'static str, u64>,
    before: Totals,
}

impl Watcher {
    /// Reads what has been counted so far, so nobody else may speak yet.
    pub(crate) fn new(redis: &Redis) -> Self {
        let mut wire = redis.connect();
        let before = stats(&mut wire);
        // It is counted when it has been answered; the last one is never seen.
        Self { wire, said: BTreeMap::from([("INFO", 1)]), before }
    }

    /// Adds what has been counted since, and to the records what it said itself.
    pub(crate) fn close(&mut self, ledger: &mut Ledger, totals: &mut Totals) {
        for (name, after) in stats(&mut self.wire) {
            let before = self.before.get(&name).copied().unwrap_or_default();
            let sum = totals.entry(name).or_default();
            let add = |sum: Option<u64>, after: Option<u64>, before: Option<u64>| {
                after.map(|after| sum.unwrap_or(0) + after - before.unwrap_or(0))
            };
            sum.calls += after.calls - before.calls;
            sum.rejected = add(sum.rejected, after.rejected, before.rejected);
            sum.failed = add(sum.failed, after.failed, before.failed);
        }
        for (name, times) in &self.said {
            ledger.own(name, *times);
        }
    }

    /// Kills one of the proxy's connections, if there is one.
    pub(crate) fn kill(&mut self, dice: &mut Dice) -> u64 {
        *self.said.entry("CLIENT|LIST").or_default() += 1;
        let list = self.wire.call(&["CLIENT", "LIST"]).text();
        let ids: Vec<&str> = list
            .lines()
            .filter(|line| line.contains("name=ravelin:") || line.contains("name=me "))
            .filter_map(|line| line.strip_prefix("id=")?.split(' ').next())
            .collect();
        if ids.is_empty() {
            return 0;
        }
        let id = dice.pick(&ids);
        *self.said.entry("CLIENT|KILL").or_default() += 1;
        u64::from(self.wire.call(&["CLIENT", "KILL", "ID", id]).integer() == 1)
    }
}

fn stats(wire: &mut Wire<std::os::unix::net::UnixStream>) -> Totals {
    commandstats(&wire.call(&["INFO", "commandstats"]).text())
}
