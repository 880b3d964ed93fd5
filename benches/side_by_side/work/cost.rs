//! CPU time, commands and time on the clock between two moments.

use crate::process::cpu_ns;
use crate::results::Metric;
use crate::rig::Rig;
use crate::targets::Target;
use std::time::Instant;

/// Clocks and counters at one moment.
pub struct Snapshot {
    pub at: Instant,
    commands: u64,
    redis_ns: u64,
    proxy_ns: u64,
}

/// What happened between two moments, or between several pairs of them.
#[derive(Default)]
pub struct Cost {
    /// Commands that Redis counted, the harness' own ones left out.
    pub commands: u64,
    redis_ns: u64,
    proxy_ns: u64,
    seconds: f64,
}

impl Snapshot {
    pub fn take(rig: &Rig, target: &Target) -> Self {
        Self {
            commands: rig.commands(),
            at: Instant::now(),
            redis_ns: cpu_ns(rig.redis.pid()),
            proxy_ns: target.proxy.as_ref().map_or(0, |proxy| cpu_ns(proxy.pid())),
        }
    }

    /// What happened since then.
    pub fn until_now(&self, rig: &Rig, target: &Target) -> Cost {
        let now = Self::take(rig, target);
        Cost {
            // The INFO of the first moment is counted at the second.
            commands: now.commands.saturating_sub(self.commands).saturating_sub(1),
            redis_ns: now.redis_ns.saturating_sub(self.redis_ns),
            proxy_ns: now.proxy_ns.saturating_sub(self.proxy_ns),
            seconds: now.at.duration_since(self.at).as_secs_f64(),
        }
    }
}

impl Cost {
    /// Together with what happened between two other moments.
    pub fn add(&mut self, other: &Self) {
        self.commands += other.commands;
        self.redis_ns += other.redis_ns;
        self.proxy_ns += other.proxy_ns;
        self.seconds += other.seconds;
    }

    /// Microseconds of CPU per command, and commands per second.
    pub fn per_command(&self) -> Vec<(Metric, f64)> {
        let each = |ns: u64| ns as f64 / self.commands.max(1) as f64 / 1000.0;
        vec![
            (Metric::Cpu, each(self.proxy_ns + self.redis_ns)),
            (Metric::CpuProxy, each(self.proxy_ns)),
            (Metric::CpuRedis, each(self.redis_ns)),
            (Metric::PerSecond, self.commands as f64 / self.seconds),
        ]
    }

    /// Milliseconds of CPU of proxy and Redis.
    pub fn cpu_ms(&self) -> f64 {
        (self.proxy_ns + self.redis_ns) as f64 / 1e6
    }
}
