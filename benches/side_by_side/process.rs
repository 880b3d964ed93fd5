//! Processes that a run starts: on which processor they run, what they cost, how they end.

use crate::interrupt;
use nix::time::clock_getcpuclockid;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

/// Which side of the measurement a process belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Proxy and Redis share the first processor.
    Server,
    /// A proxy with several workers has all processors but the load generator's.
    Servers,
    /// Load generator and harness have the last one.
    Load,
}

/// The processors this process may use. Asked once: later it would be the one that this thread has been put on.
static ALLOWED: LazyLock<Vec<usize>> = LazyLock::new(|| {
    let allowed = sched_getaffinity(None).expect("the processors this process may use");
    (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect()
});

/// The processors of a side: the load has the last one, the servers the first one, or, spread over several workers, all
/// but the last. With one processor there is nothing to choose.
pub fn processors(side: Side) -> Vec<usize> {
    let (last, others) = ALLOWED.split_last().expect("a processor");
    match side {
        Side::Load => vec![*last],
        Side::Server => vec![*others.first().unwrap_or(last)],
        Side::Servers if others.is_empty() => vec![*last],
        Side::Servers => others.to_vec(),
    }
}

/// Makes the calling thread, and all that it starts from now on, run on the processors of its side.
pub fn pin(side: Side) {
    let mut set = CpuSet::new();
    processors(side).into_iter().for_each(|cpu| set.set(cpu));
    sched_setaffinity(None, &set).expect("pinning to a processor");
}

/// Lets this process and those it starts open as many files as ten thousand connections take, or as the system allows:
/// only root may raise the hard limit.
pub fn raise_file_limit() {
    const WANTED: u64 = 65_536;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let enough = maximum.is_none_or(|maximum| maximum >= WANTED);
    let wanted = Rlimit { current: Some(WANTED), maximum: if enough { maximum } else { Some(WANTED) } };
    if setrlimit(Resource::Nofile, wanted).is_err() {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("raising the limit of open files");
    }
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
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a log file"))
            .stderr(file)
            // A group of its own: Ctrl-C reaches the harness alone, which then ends them all in order.
            .process_group(0);
        let child = interrupt::start(&mut command)
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

    /// Sends it a signal; false if it cannot be sent.
    pub fn signal(&self, signal: Signal) -> bool {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
    }

    /// Ends it by a signal and waits for it.
    pub fn end(&mut self, signal: Signal) {
        const PATIENCE: Duration = Duration::from_secs(10);
        if matches!(self.child.try_wait(), Ok(Some(_))) || !self.signal(signal) {
            return;
        }
        // One that is stopped takes no notice.
        self.signal(Signal::CONT);
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
        interrupt::ended(self.child.id());
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

/// Nanoseconds on a processor of a process and its descendants: the kernel's clock of each process, which counts threads
/// that have ended, and those that run up to this moment.
pub fn cpu_ns(pid: u32) -> u64 {
    let clock = |pid: u32| -> Option<u64> {
        let clock = clock_getcpuclockid(nix::unistd::Pid::from_raw(i32::try_from(pid).ok()?)).ok()?;
        u64::try_from(Duration::from(clock.now().ok()?).as_nanos()).ok()
    };
    family(pid).into_iter().filter_map(clock).sum()
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
