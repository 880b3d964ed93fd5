//! Ctrl-C and SIGTERM: everything that was started is stopped by its id, the folder is removed, and the harness ends
//! with the exit code a shell expects.

use crate::process::family;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// What is there to be cleared away.
struct Running {
    pids: Vec<u32>,
    folder: Option<PathBuf>,
}

static RUNNING: Mutex<Running> = Mutex::new(Running { pids: Vec::new(), folder: None });

fn running() -> MutexGuard<'static, Running> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a process. Under the lock: none is started after the others have been ended.
pub fn start(command: &mut Command) -> io::Result<Child> {
    let mut running = running();
    let child = command.spawn()?;
    running.pids.push(child.id());
    Ok(child)
}

pub fn ended(pid: u32) {
    running().pids.retain(|other| *other != pid);
}

pub fn uses(folder: &Path) {
    running().folder = Some(folder.to_owned());
}

/// Waits for either signal on a thread of its own.
pub fn watch() {
    thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let code = runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt()).expect("a handler of SIGINT");
            let mut terminate = signal(SignalKind::terminate()).expect("a handler of SIGTERM");
            tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
            }
        });
        clear();
        eprintln!("\nstopped; what was started has ended");
        std::process::exit(code);
    });
}

/// Asks all processes to end, then makes them. The lock is kept: nobody may start another one.
fn clear() {
    const PATIENCE: Duration = Duration::from_secs(3);
    let running = running();
    // Children that their parent does not take along are ended by their id as well.
    let pids: Vec<Pid> = running
        .pids
        .iter()
        .flat_map(|pid| family(*pid))
        .filter_map(|pid| i32::try_from(pid).ok().and_then(Pid::from_raw))
        .collect();
    for pid in &pids {
        let _ = kill_process(*pid, Signal::TERM);
        // A load generator whose turn it is not is stopped, and takes no notice.
        let _ = kill_process(*pid, Signal::CONT);
    }
    let begin = Instant::now();
    while pids.iter().any(|pid| is_alive(*pid)) && begin.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(10));
    }
    for pid in pids.iter().filter(|pid| is_alive(**pid)) {
        let _ = kill_process(*pid, Signal::KILL);
    }
    if let Some(folder) = &running.folder {
        let _ = fs::remove_dir_all(folder);
    }
}

/// Whether a process is there and not merely waiting for its parent to take note of its end.
fn is_alive(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat", pid = pid.as_raw_nonzero())).unwrap_or_default();
    let state = status.rsplit(") ").next().and_then(|rest| rest.chars().next());
    test_kill_process(pid).is_ok() && state.is_some_and(|state| state != 'Z')
}
