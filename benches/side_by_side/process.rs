//! Processes that a run starts: on which processor they run, what they cost, how they end.

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Which side of the measurement a process belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Proxy and Redis share the first processor.
    Server,
    /// Load generator and harness have the last one.
    Load,
}

/// Makes the calling thread, and all that it starts from now on, run on one processor of its side. With one processor
/// there is nothing to choose.
pub fn pin(side: Side) {
    // Asked once: later it would answer with the one processor this thread has been put on.
    static ALLOWED: std::sync::LazyLock<Vec<usize>> = std::sync::LazyLock::new(|| {
        let allowed = sched_getaffinity(None).expect("the processors this process may use");
        (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect()
    });
    let chosen = match side {
        Side::Server => ALLOWED.first(),
        Side::Load => ALLOWED.last(),
    };
    let mut set = CpuSet::new();
    set.set(*chosen.expect("a processor"));
    sched_setaffinity(None, &set).expect("pinning to a processor");
}

/// Lets this process and those it starts open as many files as the system allows.
pub fn raise_file_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("raising the limit of open files");
}

/// The most files a process may open.
pub fn file_limit() -> usize {
    getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// Where a program is; Debian keeps servers outside the PATH of ordinary users.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// A process of ours: asked to end, then made to, when dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program on its side's processor; what it prints goes to `log`.
    pub fn start<A: AsRef<OsStr>>(side: Side, program: &Path, arguments: &[A], log: PathBuf) -> Self {
        let file = File::create(&log).expect("a log file");
        pin(side);
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a log file"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be started: {error}", program.display()));
        pin(Side::Load);
        Self { child, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let from = text.len().saturating_sub(4096);
        String::from_utf8_lossy(&text[from..]).into_owned()
    }

    /// Panics if it has ended by itself.
    pub fn must_run(&mut self, name: &str) {
        if let Some(status) = self.child.try_wait().expect("its status") {
            panic!("{name} ended ({status}); its log:\n{}", self.log());
        }
    }

    /// Ends it by a signal and waits for it.
    pub fn end(&mut self, signal: Signal) {
        const PATIENCE: Duration = Duration::from_secs(10);
        let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) else { return };
        if matches!(self.child.try_wait(), Ok(Some(_))) || kill_process(pid, signal).is_err() {
            return;
        }
        let begin = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begin.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // nginx' master takes its worker along only if it is asked to end.
        self.end(Signal::TERM);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process and all that descend from it.
pub fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(parent) = all.get(at) {
        for task in tasks(*parent) {
            let children = text(&task.join("children"));
            all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        at += 1;
    }
    all
}

fn tasks(pid: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"));
    entries.map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}

/// Nanoseconds on a processor of all threads of a process and its descendants. A thread that is running is counted up
/// to the last tick of the scheduler: at most some milliseconds are missing.
pub fn cpu_ns(pid: u32) -> u64 {
    let of_task = |task: &PathBuf| -> Option<u64> { text(&task.join("schedstat")).split(' ').next()?.parse().ok() };
    family(pid).into_iter().flat_map(tasks).filter_map(|task| of_task(&task)).sum()
}

/// Memory in KiB of a process and its descendants.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Pages shared by several processes are divided among them.
    pub proportional: u64,
    /// Every page in memory counts.
    pub resident: u64,
}

pub fn memory(pid: u32) -> Memory {
    let field = |text: &str, name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    family(pid).into_iter().fold(Memory::default(), |sum, pid| Memory {
        proportional: sum.proportional + field(&text(Path::new(&format!("/proc/{pid}/smaps_rollup"))), "Pss:"),
        resident: sum.resident + field(&text(Path::new(&format!("/proc/{pid}/status"))), "VmRSS:"),
    })
}

/// Whether a process is traced already.
pub fn is_traced(pid: u32) -> bool {
    let status = text(Path::new(&format!("/proc/{pid}/status")));
    status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|tracer| tracer.trim() != "0"))
}

/// A file of /proc, empty if the process has ended meanwhile.
fn text(path: &Path) -> String {
    let mut text = String::new();
    let _ = File::open(path).and_then(|mut file| file.read_to_string(&mut text));
    text
}
