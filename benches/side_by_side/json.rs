//! Everything a run has measured, in a file for programs and for another run to be compared with.

use crate::arguments::Arguments;
use crate::results::Results;
use crate::rig::Rig;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Writes it.
///
/// # Errors
/// When the file cannot be written.
pub fn write(
    file: &Path,
    rig: &Rig,
    envoy: Option<&Path>,
    arguments: &Arguments,
    results: &Results,
) -> Result<(), String> {
    let first_line = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok()?;
        let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
        String::from_utf8_lossy(&text).lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
    };
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let model = read("/proc/cpuinfo");
    let model =
        model.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, model)| model));
    let all = json!({
        "what": "ravelin side_by_side",
        "machine": {
            "processor": model,
            "kernel": read("/proc/sys/kernel/osrelease").trim(),
            "load": read("/proc/loadavg").trim(),
        },
        "versions": {
            "ravelin": env!("CARGO_PKG_VERSION"),
            "redis": rig.version(),
            "stunnel": first_line("stunnel4", &["-version"]),
            "nginx": first_line("nginx", &["-v"]),
            "haproxy": first_line("haproxy", &["-v"]),
            "envoy": envoy.and_then(|envoy| first_line(envoy.to_str()?, &["--version"])),
        },
        "rounds": arguments.rounds(),
        "seconds": arguments.window().as_secs_f64(),
        "figures": results.json(),
    });
    let text = serde_json::to_string_pretty(&all).map_err(|error| error.to_string())?;
    fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

/// Reads an earlier run's.
///
/// # Errors
/// When there is no such file, or it is no JSON.
pub fn read(file: &Path) -> Result<Value, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))
}
