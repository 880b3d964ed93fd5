//! What no file of this machine does when it is asked to.

use super::{
    file::{self, LogFile},
    output::Output,
    port::SinkPort,
    proof::{Checkpoints, Proof},
    queue::{GATHERED_BYTES, Shared, lock},
    writer::Writer,
};
use crate::audit::{
    counters::Mark,
    outlet::Plan,
    target::{FileTarget, Fsync},
    verify::{Report, Verdict, Verifier, Wish},
};
use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// A sink whose disk is broken while the flag is set.
struct Broken {
    shared: Arc<Shared>,
    port: SinkPort,
    flag: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

fn over(path: &Path, fsync: Fsync) -> Broken {
    with(path, fsync, None)
}

/// The same, with a checkpoint after every tenth line.
fn proven(path: &Path, fsync: Fsync) -> Broken {
    let wish = Checkpoints { every: Duration::from_secs(3600), lines: Some(10), key: None };
    with(path, fsync, Some(Proof::begin("file", &wish, Some(path)).unwrap()))
}

fn with(path: &Path, fsync: Fsync, proof: Option<Proof>) -> Broken {
    at_pace(path, fsync, proof, |_| {})
}

/// The same, with another time between two blocks.
fn at_pace(path: &Path, fsync: Fsync, proof: Option<Proof>, pace: impl FnOnce(&mut Duration)) -> Broken {
    let target = FileTarget { fsync, ..path.to_path_buf().into() };
    let log = LogFile::new(file::open(path, 0o600).unwrap(), Some(&target));
    let flag = Arc::clone(&log.broken);
    let shared = Arc::new(Shared::new(&Plan::default(), 1));
    let port = SinkPort { shared: Arc::clone(&shared), index: 0, spent: Mutex::default() };
    let mut writer = Writer::new(Arc::clone(&shared), Output::File(log), proof);
    pace(&mut writer.pace);
    Broken { shared, port, flag, thread: thread::spawn(move || writer.run()) }
}

impl Broken {
    fn failing(&self) -> Option<String> {
        lock(&self.shared.health).failing.clone()
    }

    fn close(self) {
        lock(&self.shared.queue).closing = true;
        self.shared.work.notify_one();
        self.thread.join().unwrap();
    }
}

fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    for _ in 0..30_000 {
        if happened() {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("never: {what}");
}

fn submit(port: &SinkPort, lines: &str) {
    port.submit(lines.as_bytes().to_vec(), Mark::default());
}

#[test]
fn what_cannot_be_synchronised_does_not_count_and_stands_once_when_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    fs::write(&path, "{\"before\":1}\n{\"to").unwrap();
    let sink = over(&path, Fsync::Always);
    submit(&sink.port, "{\"a\":1}\n");
    eventually("the first line counts", || sink.port.written() == 8);
    sink.flag.store(true, Ordering::SeqCst);
    submit(&sink.port, "{\"b\":1}\n{\"c\":1}\n");
    eventually("the sink fails", || sink.failing().is_some());
    assert_eq!(sink.failing().as_deref(), Some("fsync: the disk is broken"));
    assert_eq!(sink.port.written(), 8, "the kernel has it, and that is not enough");
    sink.flag.store(false, Ordering::SeqCst);
    eventually("all of it counts", || sink.port.written() == 24);
    assert_eq!(sink.failing(), None);
    sink.close();
    let expected = "{\"before\":1}\n{\"to\n{\"a\":1}\n{\"b\":1}\n{\"c\":1}\n";
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
}

#[test]
fn a_new_file_has_all_that_the_old_ones_disk_did_not_take() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("audit.jsonl"), dir.path().join("moved.jsonl"));
    let sink = over(&path, Fsync::Always);
    sink.flag.store(true, Ordering::SeqCst);
    submit(&sink.port, "{\"a\":1}\n{\"b\":1}\n");
    eventually("the sink fails", || sink.failing().is_some());
    fs::rename(&path, &moved).unwrap();
    lock(&sink.shared.queue).next = Some(file::open(&path, 0o600).unwrap());
    sink.shared.work.notify_one();
    eventually("the sink goes over", || lock(&sink.shared.queue).next.is_none());
    sink.flag.store(false, Ordering::SeqCst);
    eventually("they count", || sink.port.written() == 16);
    sink.close();
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"a\":1}\n{\"b\":1}\n");
}

/// SIGUSR1 opens the file on another thread, which cannot know that it is being put aside just then.
#[test]
fn a_file_that_was_put_aside_since_it_was_opened_anew_is_not_gone_back_to() {
    let dir = tempfile::tempdir().unwrap();
    let (path, aside) = (dir.path().join("audit.jsonl"), dir.path().join("aside.jsonl"));
    let sink = over(&path, Fsync::Never);
    let old = file::open(&path, 0o600).unwrap();
    fs::rename(&path, &aside).unwrap();
    fs::write(&path, "{\"new\":1}\n").unwrap();
    lock(&sink.shared.queue).next = Some(old);
    sink.shared.work.notify_one();
    eventually("the sink goes over", || lock(&sink.shared.queue).next.is_none());
    submit(&sink.port, "{\"a\":1}\n");
    sink.close();
    let text = [aside, path].map(|file| fs::read_to_string(file).unwrap()).concat();
    // The thread takes what was there before the change with it; the file is changed behind it.
    assert!(text.ends_with("{\"new\":1}\n{\"a\":1}\n"), "{text}");
}

#[test]
fn lines_wait_for_the_kernel_alone_where_the_disk_has_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let sink = over(&path, Fsync::Within(Duration::from_millis(10)));
    sink.flag.store(true, Ordering::SeqCst);
    for written in 1..=20 {
        submit(&sink.port, "{\"a\":1}\n");
        eventually("the line counts", || sink.port.written() == 8 * written);
    }
    assert_eq!(sink.failing(), None, "it is said in the log");
    sink.close();
}

fn verified(files: &[&Path]) -> Report {
    let mut verifier = Verifier::new(Wish { complete: true, from_start: true, ..Wish::default() });
    for path in files {
        verifier.begin_file(&path.display().to_string());
        verifier.feed(&fs::read(path).unwrap());
    }
    verifier.finish()
}

/// Lines of a pen as the verifier wants them.
fn numbered(numbers: std::ops::RangeInclusive<u64>) -> (String, Mark) {
    let lines = numbers
        .clone()
        .map(|seq| format!("{{\"v\":1,\"w\":0,\"seq\":{seq},\"ts\":\"\",\"event\":\"stop\"}}\n"))
        .collect();
    (lines, Mark { last_seq: *numbers.end(), ..Mark::default() })
}

#[test]
fn a_chain_goes_back_with_a_file_whose_disk_did_not_take_a_block() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let head = dir.path().join("audit.jsonl.head");
    let sink = proven(&path, Fsync::Always);
    eventually("the chain begins", || head.exists());
    let begun = fs::read(&head).unwrap();
    let (first, mark) = numbered(1..=12);
    sink.flag.store(true, Ordering::SeqCst);
    sink.port.submit(first.clone().into_bytes(), mark);
    eventually("the sink fails", || sink.failing().is_some());
    assert_eq!(fs::read(&head).unwrap(), begun, "no head is told that is not on the disk");
    sink.flag.store(false, Ordering::SeqCst);
    eventually("the lines count", || sink.port.written() == first.len() as u64);
    eventually("and are covered", || fs::read(&head).unwrap() != begun);
    // And with a checkpoint itself that the disk does not take, at the end.
    sink.flag.store(true, Ordering::SeqCst);
    lock(&sink.shared.queue).closing = true;
    sink.shared.work.notify_one();
    eventually("the sink fails", || sink.failing().is_some());
    sink.flag.store(false, Ordering::SeqCst);
    sink.close();
    let report = verified(&[&path]);
    assert_eq!((report.verdict(), report.lines - report.checkpoints), (Verdict::Proven, 12), "{report:#?}");
}

#[test]
fn a_chain_goes_over_to_a_new_file_with_what_the_old_ones_disk_did_not_take() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("audit.jsonl"), dir.path().join("moved.jsonl"));
    let sink = proven(&path, Fsync::Always);
    let (first, mark) = numbered(1..=5);
    sink.port.submit(first.clone().into_bytes(), mark);
    eventually("the first lines count", || sink.port.written() == first.len() as u64);
    sink.flag.store(true, Ordering::SeqCst);
    let (second, mark) = numbered(6..=30);
    sink.port.submit(second.clone().into_bytes(), mark);
    eventually("the sink fails", || sink.failing().is_some());
    fs::rename(&path, &moved).unwrap();
    lock(&sink.shared.queue).next = Some(file::open(&path, 0o600).unwrap());
    sink.shared.work.notify_one();
    eventually("the new file has the lines", || fs::metadata(&path).unwrap().len() > second.len() as u64);
    sink.flag.store(false, Ordering::SeqCst);
    eventually("they count", || sink.port.written() == (first.len() + second.len()) as u64);
    sink.close();
    let report = verified(&[&moved, &path]);
    assert_eq!((report.verdict(), report.lines - report.checkpoints), (Verdict::Proven, 30), "{report:#?}");
}

#[test]
fn lines_gather_behind_a_block_until_somebody_waits_for_one_or_the_end_comes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    let broken = at_pace(&path, Fsync::Never, None, |pace| *pace = Duration::from_secs(3600));
    submit(&broken.port, "one\n");
    eventually("a line that comes alone is written at once", || fs::read_to_string(&path).unwrap() == "one\n");
    submit(&broken.port, "two\n");
    submit(&broken.port, "three\n");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let waited = async { tokio::time::timeout(Duration::from_secs(60), broken.port.notified(4)).await };
    assert_eq!(runtime.block_on(waited), Ok(14), "the hour was cut short, and both left together");
    let many = format!("{}\n", "x".repeat(GATHERED_BYTES / 4));
    for _ in 0..4 {
        submit(&broken.port, &many);
    }
    let all = 14 + 4 * many.len();
    eventually("so much is written at any time", || fs::metadata(&path).unwrap().len() == all as u64);
    submit(&broken.port, "four\n");
    broken.close();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("one\ntwo\nthree\n{}four\n", many.repeat(4)));
}
