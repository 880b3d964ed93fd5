//! What no file of this machine does when it is asked to.

use super::{
    file::{self, LogFile},
    output::Output,
    port::SinkPort,
    queue::{Shared, lock},
    writer::Writer,
};
use crate::audit::{
    counters::Mark,
    outlet::Plan,
    target::{FileTarget, Fsync},
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
    let target = FileTarget { fsync, ..path.to_path_buf().into() };
    let log = LogFile::new(file::open(path, 0o600).unwrap(), Some(&target));
    let flag = Arc::clone(&log.broken);
    let shared = Arc::new(Shared::new(&Plan::default(), 1));
    let port = SinkPort { shared: Arc::clone(&shared), index: 0, spent: Mutex::default() };
    let writer = Writer::new(Arc::clone(&shared), Output::File(log));
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
