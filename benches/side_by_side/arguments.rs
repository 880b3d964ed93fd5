//! The command line.

use crate::scenario::{self, QUICK, SETS, Scenario, Shape, Verb};
use clap::Parser;
use std::path::PathBuf;
use std::time::Duration;

/// What a command costs a user - CPU time of proxy plus Redis - with Ravelin and with what people put before Redis today.
///
/// Starts one private Redis and, one after the other in each round, everything that is installed in front of it: the same
/// certificates, cipher, threads and load. Servers have the first processor, the load generator the last one. Nothing but
/// this machine's loopback is used, and everything that was started is stopped at the end, on Ctrl-C too.
#[derive(Parser)]
#[command(name = "side_by_side", bin_name = "cargo bench --bench side_by_side --", after_long_help = examples())]
pub struct Arguments {
    /// What to measure: names or sets, separated by commas (see below); default main
    #[arg(long, short, value_delimiter = ',')]
    pub scenario: Vec<String>,
    /// Only these targets; default: what the scenario compares. Names: direct, redis-tls, stunnel, stunnel-tcp (reaches
    /// Redis through its port, all others through its Unix socket), nginx, haproxy, envoy, ravelin-off (audit off),
    /// ravelin (full), ravelin-compact, ravelin-chained, ravelin-compact-chained, ravelin-2-workers, ravelin-4-workers
    #[arg(long, short, value_delimiter = ',')]
    pub targets: Vec<String>,
    /// Rounds; every round measures every target, beginning with another one. For figures to be published at least 9
    #[arg(long, short)]
    pub rounds: Option<usize>,
    /// Seconds of each measurement, connecting not counted; of loads in slices of a tenth of a second, in turns
    #[arg(long)]
    pub seconds: Option<f64>,
    /// A look within two minutes: GET of 64 bytes, 3 rounds of half a second
    #[arg(long)]
    pub quick: bool,
    /// Print what would be measured and about how long it takes, and do nothing
    #[arg(long)]
    pub plan: bool,
    /// Write all figures of all rounds to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Set this run beside the JSON file of an earlier one
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
    /// Draw the main comparison into this file, as SVG
    #[arg(long, value_name = "FILE")]
    pub picture: Option<PathBuf>,
    /// Where envoy is; default: in PATH
    #[arg(long, value_name = "PROGRAM", env = "RAVELIN_BENCH_ENVOY")]
    pub envoy: Option<PathBuf>,
    /// Where audit streams are written; default: the run's temporary folder
    #[arg(long, value_name = "FOLDER")]
    pub audit_dir: Option<PathBuf>,
    /// Instead of --scenario: commands in flight of each client, with --commands, --value and --clients
    #[arg(long, value_delimiter = ',', conflicts_with = "scenario")]
    pub pipeline: Vec<u32>,
    /// Instead of --scenario: get, set
    #[arg(long, value_delimiter = ',', conflicts_with = "scenario")]
    pub commands: Vec<String>,
    /// Instead of --scenario: bytes of a value
    #[arg(long, conflicts_with = "scenario")]
    pub value: Option<usize>,
    /// Instead of --scenario: clients
    #[arg(long, conflicts_with = "scenario")]
    pub clients: Option<u32>,
    /// The same as --scenario idle-CONNECTIONS
    #[arg(long, value_name = "CONNECTIONS", num_args = 0..=1, default_missing_value = "1000", conflicts_with = "scenario")]
    pub idle: Option<u32>,
    /// The same as --scenario syscalls
    #[arg(long, conflicts_with = "scenario")]
    pub syscalls: bool,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    pub bench: bool,
}

impl Arguments {
    /// What is to be measured, in order.
    ///
    /// # Errors
    /// Which word is no scenario.
    pub fn scenarios(&self) -> Result<Vec<Scenario>, String> {
        scenario::parse(&self.words()?)
    }

    fn words(&self) -> Result<Vec<String>, String> {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        if !self.scenario.is_empty() {
            return Ok(self.scenario.clone());
        }
        if let Some(connections) = self.idle {
            return Ok(vec![format!("idle-{connections}")]);
        }
        if self.syscalls {
            return Ok(owned(&["syscalls"]));
        }
        let shaped = !self.pipeline.is_empty() || !self.commands.is_empty();
        if !shaped && self.value.is_none() && self.clients.is_none() {
            return Ok(owned(if self.quick { QUICK } else { &["main"] }));
        }
        let verb = |word: &String| match word.to_ascii_lowercase().as_str() {
            "get" => Ok(Verb::Get),
            "set" => Ok(Verb::Set),
            _ => Err(format!("--commands {word}: there are get and set")),
        };
        let verbs: Vec<Verb> = self.commands.iter().map(verb).collect::<Result<_, _>>()?;
        let verbs = if verbs.is_empty() { vec![Verb::Get] } else { verbs };
        let pipelines = if self.pipeline.is_empty() { &[1, 16][..] } else { &self.pipeline };
        let (value, clients) = (self.value.unwrap_or(64), self.clients.unwrap_or(scenario::CLIENTS));
        let named =
            |(verb, pipeline): (Verb, u32)| Shape { verb, value, pipeline, clients, keys: scenario::KEYS }.name();
        Ok(verbs
            .into_iter()
            .flat_map(|verb| pipelines.iter().map(move |pipeline| (verb, *pipeline)))
            .map(named)
            .collect())
    }

    pub fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 3 } else { 5 }).clamp(1, 1000)
    }

    pub fn window(&self) -> Duration {
        let usual = if self.quick { 0.5 } else { 1.0 };
        Duration::from_secs_f64(self.seconds.unwrap_or(usual).clamp(0.2, 600.0))
    }
}

fn examples() -> String {
    let width = SETS.iter().map(|(name, _, _)| name.len()).max().unwrap_or(0);
    let set = |(name, what, names): &(&str, &str, &[&str])| format!("  {name:width$}  {what}: {}\n", names.join(", "));
    let sets: String = SETS.iter().map(set).collect();
    format!(
        "Scenarios, by set (\"all\" for all of them):\n{sets}\n  A load can be any: get64x1, set16kx16-c1000 is SET of 16 KiB, 16 in \
         flight, 1,000 clients (50 if not said); -k100000 spreads it over so many keys (one if not said).\n\nExamples:\n  \
         cargo bench --bench side_by_side -- --quick\n  \
         cargo bench --bench side_by_side -- --scenario main --rounds 9 --picture benches/side_by_side.svg --json main.json\n  \
         cargo bench --bench side_by_side -- --scenario audit --targets ravelin-off,ravelin\n  \
         cargo bench --bench side_by_side -- --scenario handshake-ecdsa --targets nginx,ravelin --rounds 9\n  \
         cargo bench --bench side_by_side -- --scenario all --rounds 9 --plan\n\n\
         How to read the tables, and what is noise: benches/README.md"
    )
}
