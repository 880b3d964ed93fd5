//! A program that is asked something: how long it may run, how much it may say, and what becomes of its children.
//!
//! * Its environment is empty but for `PATH`, its folder is `/`, its standard error is thrown away: no secret of the
//!   proxy's is passed on, and none of its own is written down.
//! * It is killed with all its children when it is left: when its time is over, and when nobody waits any more.

use rustix::process::{Pid, Signal, kill_process_group};
use std::{io, path::Path, process::Stdio};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
};
use zeroize::Zeroizing;

/// Where a script finds its tools.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs `program`, tells it `told` on standard input, and returns what it says, fewer than `said_max` bytes.
///
/// # Errors
/// It cannot be started, says too much (its end is not waited for then), or does not end with status 0.
pub async fn run(
    program: &Path,
    arguments: &[String],
    told: &[&[u8]],
    said_max: u64,
) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    let mut running = Running::new(command.spawn()?);
    if let Some(mut input) = running.child.stdin.take() {
        // One that has seen enough closes its end; what it says then counts.
        for part in told {
            if input.write_all(part).await.is_err() {
                break;
            }
        }
    }
    // As large as it may become, so that no copy of a secret is left behind by a growing buffer.
    let mut said = Zeroizing::new(Vec::with_capacity(usize::try_from(said_max).unwrap_or(0).saturating_add(1)));
    if let Some(output) = running.child.stdout.take() {
        output.take(said_max).read_to_end(&mut said).await?;
    }
    if u64::try_from(said.len()).is_ok_and(|said| said >= said_max) {
        return Err(io::Error::other(format!("it has printed more than {} bytes", said_max.saturating_sub(1))));
    }
    let status = running.child.wait().await?;
    if !status.success() {
        return Err(io::Error::other(format!("it ended with {status}")));
    }
    Ok(said)
}

/// A process that is killed with its children, however it is left.
struct Running {
    child: Child,
    group: Option<Pid>,
}

impl Running {
    fn new(child: Child) -> Self {
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { child, group }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its number is its own for as long as nobody has waited for it.
        if let Some(group) = self.group.filter(|_| self.child.id().is_some()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
