//! The whole proxy beside its peers: CPU time per command of proxy plus Redis, in one run. `benches/README.md` says how
//! to run it, how to read it, and what is noise.

#![allow(missing_docs, unreachable_pub, reason = "a benchmark is a program, not an interface")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its table and its progress are what it is for")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot go on ends and says why, and nobody feeds it but itself"
)]
#![allow(clippy::disallowed_methods, reason = "it measures time, so it reads the clock")]

mod idle;
mod load;
mod process;
#[path = "../shared/report.rs"]
mod report;
mod rig;
mod speed;
mod syscalls;
mod targets;

use clap::Parser;
use rig::Rig;
use std::time::Duration;

/// CPU time of proxy plus Redis per command, beside direct Redis, stunnel, nginx and HAProxy.
#[derive(Parser)]
#[command(name = "side_by_side", bin_name = "cargo bench --bench side_by_side --")]
pub struct Arguments {
    /// Rounds; every round measures every target once
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds per target and round
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Commands in flight per connection
    #[arg(long, value_delimiter = ',', default_value = "1,16")]
    pipeline: Vec<u32>,
    /// What the load generator sends: get, set
    #[arg(long, value_delimiter = ',', default_value = "get")]
    commands: Vec<String>,
    /// Bytes of a value
    #[arg(long, default_value_t = 64)]
    value: usize,
    /// Connections of the load generator
    #[arg(long, default_value_t = 50)]
    clients: u32,
    /// Only these: direct, redis-tls, stunnel, nginx, haproxy, ravelin
    #[arg(long, value_delimiter = ',')]
    targets: Vec<String>,
    /// Instead: memory per idle TLS connection, with this many (2000 if no number is given; a tenth for stunnel)
    #[arg(long, value_name = "CONNECTIONS", num_args = 0..=1, default_missing_value = "2000")]
    idle: Option<usize>,
    /// Instead: system calls per command, by strace
    #[arg(long)]
    syscalls: bool,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    fn window(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.clamp(0.2, 600.0))
    }
}

fn main() {
    let arguments = Arguments::parse();
    if !arguments.bench {
        // `cargo test --all-targets` comes by here.
        println!("`cargo bench --bench side_by_side` measures; nothing done");
        return;
    }
    process::raise_file_limit();
    let rig = Rig::start();
    let (targets, missing) = targets::start(&rig, &arguments.targets);
    for (name, why) in missing {
        println!("{name} is left out: {why}");
    }
    assert!(!targets.is_empty(), "no target is left to be measured");
    if let Some(connections) = arguments.idle {
        idle::table(&rig, &targets, connections);
    } else if arguments.syscalls {
        syscalls::table(&rig, &targets, &arguments);
    } else {
        speed::table(&rig, &targets, &arguments);
    }
}
