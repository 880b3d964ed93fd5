//! The audit sink against real files and pipes: what is handed over is written once, in order, whatever the output does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test that cannot go on should stop where it is"
)]

#[path = "support/pen.rs"]
#[allow(dead_code, unreachable_pub, reason = "every test binary uses its own part of it")]
mod pen;

use pen::{CAPACITY, eventually, fill, is_without_holes, write_from_threads, write_line};
use ravelin::audit::{
    record::Recorder,
    sink::{Sink, Target},
};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

/// A pipe with a name, and the end that reads it. Its buffer holds less than a pen's capacity.
fn fifo(path: &Path) -> File {
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    File::from(rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap())
}

/// Reads what is in the pipe now.
fn drain(reader: &mut File, into: &mut Vec<u8>) {
    match reader.read_to_end(into) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
    }
}

/// The sequence numbers of worker `w`, in the order they stand. Every line must parse.
fn sequence(text: &[u8], w: u64) -> Vec<u64> {
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    let lines = lines.map(|line| serde_json::from_slice::<serde_json::Value>(line).expect("a whole line"));
    lines.filter(|line| line["w"] == w).map(|line| line["seq"].as_u64().unwrap()).collect()
}

#[test]
fn a_sink_nobody_reads_fills_the_pen_and_loses_nothing_when_reading_resumes() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("audit.pipe");
    let mut reader = fifo(&path);
    let (sink, ports) = Sink::open(Target::File(path.into()), 1).unwrap();
    let mut pen = Recorder::new(0, CAPACITY);
    let monitor = sink.monitor();

    eventually("the pipe counts as unread, and the pen has been told all that was written before", || {
        fill(&mut pen, &ports[0]);
        // What was written since the last line; a pen that is full would not ask again by itself.
        ports[0].exchange(pen.outlet());
        monitor.failing().is_some() && monitor.queue_bytes() == pen.outlet().backlog()
    });
    assert_eq!(monitor.failing().as_deref(), Some("nobody reads the pipe"));
    assert!(!pen.has_room());
    assert_eq!(monitor.queue_bytes(), pen.outlet().backlog());
    assert!(pen.outlet().written() < pen.outlet().rendered());

    let mut read = Vec::new();
    eventually("everything arrives", || {
        drain(&mut reader, &mut read);
        pen.outlet().set_written(ports[0].written());
        pen.outlet().written() == pen.outlet().rendered()
    });
    assert!(pen.has_room());
    assert_eq!(monitor.failing(), None);
    sink.flush_and_close(Duration::from_secs(30)).unwrap();
    drain(&mut reader, &mut read);
    assert_eq!(read.len() as u64, pen.outlet().rendered());
    assert!(is_without_holes(&sequence(&read, 0), pen.counters().records));
}

#[test]
fn lines_of_many_pens_stay_whole_and_in_order() {
    const LINES: u64 = 3000;
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("audit.jsonl");
    let (sink, ports) = Sink::open(Target::File(path.clone().into()), 6).unwrap();
    let rendered = write_from_threads(ports, LINES);
    sink.flush_and_close(Duration::from_secs(30)).unwrap();
    let text = fs::read(&path).unwrap();
    assert_eq!(text.len() as u64, rendered);
    for w in 0..6 {
        assert!(is_without_holes(&sequence(&text, w), LINES), "worker {w}");
    }
}

#[test]
fn a_full_disk_stalls_and_says_so_and_a_new_file_gets_every_line() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("audit.jsonl");
    symlink("/dev/full", &path).unwrap();
    let (sink, ports) = Sink::open(Target::File(path.clone().into()), 1).unwrap();
    let mut pen = Recorder::new(0, CAPACITY);
    fill(&mut pen, &ports[0]);
    let monitor = sink.monitor();
    eventually("the sink says that it fails", || monitor.failing().is_some());
    let reason = monitor.failing().unwrap();
    assert!(reason.contains("No space left on device"), "{reason}");
    assert_eq!((ports[0].written(), pen.has_room()), (0, false));
    assert_eq!(monitor.take_recovery(), None);

    fs::remove_file(&path).unwrap();
    sink.reopen().unwrap();
    sink.flush_and_close(Duration::from_secs(30)).unwrap();
    let text = fs::read(&path).unwrap();
    assert!(is_without_holes(&sequence(&text, 0), pen.counters().records));
    assert_eq!(ports[0].written(), pen.outlet().rendered());
    assert_eq!(monitor.take_recovery().unwrap().reason, reason);
}

#[test]
fn a_reader_that_left_stalls_the_sink_until_another_one_comes() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("audit.pipe");
    let reader = fifo(&path);
    let (sink, ports) = Sink::open(Target::File(path.clone().into()), 1).unwrap();
    let monitor = sink.monitor();
    drop(reader);
    let mut pen = Recorder::new(0, CAPACITY);
    write_line(&mut pen, &ports[0]);
    eventually("the sink says that it fails", || monitor.failing().is_some());
    assert!(monitor.failing().unwrap().contains("Broken pipe"));
    assert_eq!((ports[0].written(), monitor.queue_bytes()), (0, pen.outlet().rendered()));

    let mut reader = File::from(rustix::fs::open(&path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap());
    eventually("the sink recovers by itself", || ports[0].written() == pen.outlet().rendered());
    assert_eq!((monitor.failing(), monitor.queue_bytes()), (None, 0));
    sink.flush_and_close(Duration::from_secs(30)).unwrap();
    let mut read = Vec::new();
    drain(&mut reader, &mut read);
    assert_eq!(sequence(&read, 0), [1]);
}

#[test]
fn closing_a_sink_that_cannot_write_says_how_many_bytes_are_lost() {
    let (sink, ports) = Sink::open(Target::File("/dev/full".into()), 1).unwrap();
    let mut pen = Recorder::new(0, CAPACITY);
    write_line(&mut pen, &ports[0]);
    assert_eq!(sink.flush_and_close(Duration::from_millis(20)), Err(pen.outlet().rendered()));
}

#[test]
fn a_line_that_could_not_be_finished_is_whole_in_the_next_file() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("audit");
    let mut reader = fifo(&path);
    let (sink, ports) = Sink::open(Target::File(path.clone().into()), 1).unwrap();
    let mut pen = Recorder::new(0, CAPACITY);
    let monitor = sink.monitor();
    fill(&mut pen, &ports[0]);
    eventually("the pipe counts as unread", || monitor.failing().is_some());

    fs::remove_file(&path).unwrap();
    sink.reopen().unwrap();
    sink.flush_and_close(Duration::from_secs(30)).unwrap();
    let mut old = Vec::new();
    drain(&mut reader, &mut old);
    let whole = old.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let mut sequences = sequence(&old[..whole], 0);
    sequences.extend(sequence(&fs::read(&path).unwrap(), 0));
    assert!(is_without_holes(&sequences, pen.counters().records));
    assert_eq!(ports[0].written(), pen.outlet().rendered(), "the bytes of the torn line count once");
}

#[test]
fn after_a_rotation_new_lines_go_to_the_new_file() {
    let dir = TempDir::new().unwrap();
    let (path, moved) = (dir.path().join("audit.jsonl"), dir.path().join("audit.jsonl.1"));
    let (sink, ports) = Sink::open(Target::File(path.clone().into()), 1).unwrap();
    let mut pen = Recorder::new(0, CAPACITY);
    write_line(&mut pen, &ports[0]);
    eventually("the first line is written", || ports[0].written() == pen.outlet().rendered());
    fs::rename(&path, &moved).unwrap();
    write_line(&mut pen, &ports[0]);
    sink.reopen().unwrap();
    eventually("the sink goes over", || {
        write_line(&mut pen, &ports[0]);
        fs::metadata(&path).is_ok_and(|new| new.size() > 0)
    });
    sink.flush_and_close(Duration::from_secs(30)).unwrap();
    let mut sequences = sequence(&fs::read(&moved).unwrap(), 0);
    assert!(sequences.len() >= 2, "what was handed over before stays in the old file");
    sequences.extend(sequence(&fs::read(&path).unwrap(), 0));
    assert!(is_without_holes(&sequences, pen.counters().records));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_line_that_a_crash_cut_off_is_ended_before_the_next_one() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("audit.jsonl");
    for (before, expected) in [("", 0), ("{\"w\":9}\n", 1), ("{\"w\":9}\n{\"v\":1,\"w\":0,\"se", 2)] {
        fs::write(&path, before).unwrap();
        let (sink, ports) = Sink::open(Target::File(path.clone().into()), 1).unwrap();
        let mut pen = Recorder::new(0, CAPACITY);
        write_line(&mut pen, &ports[0]);
        write_line(&mut pen, &ports[0]);
        sink.flush_and_close(Duration::from_secs(30)).unwrap();
        assert_eq!(ports[0].written(), pen.outlet().rendered(), "the newline is nobody's");
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.split_inclusive('\n').collect();
        assert_eq!(lines.len(), expected + 2, "{text}");
        assert_eq!(lines[..expected].concat().trim_end(), before.trim_end());
        assert_eq!(sequence(lines[expected..].concat().as_bytes(), 0), [1, 2]);
    }
}

#[test]
fn a_reopening_that_fails_keeps_the_old_file() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("logs");
    fs::create_dir(&folder).unwrap();
    let (sink, ports) = Sink::open(Target::File(folder.join("audit.jsonl").into()), 1).unwrap();
    let moved = dir.path().join("moved");
    fs::rename(&folder, &moved).unwrap();
    assert_eq!(sink.reopen().unwrap_err().kind(), ErrorKind::NotFound);
    let mut pen = Recorder::new(0, CAPACITY);
    write_line(&mut pen, &ports[0]);
    sink.flush_and_close(Duration::from_secs(30)).unwrap();
    assert_eq!(sequence(&fs::read(moved.join("audit.jsonl")).unwrap(), 0), [1]);
}

#[test]
fn a_path_that_cannot_be_written_is_an_error_at_the_start() {
    let dir = TempDir::new().unwrap();
    let missing = dir.path().join("no/such/audit.jsonl");
    assert_eq!(Sink::open(Target::File(missing.into()), 1).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(Sink::open(Target::File(dir.path().into()), 1).unwrap_err().kind(), ErrorKind::IsADirectory);
    let unread = dir.path().join("pipe");
    drop(fifo(&unread));
    let error = Sink::open(Target::File(unread.into()), 1).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::NXIO.raw_os_error()), "a pipe that nobody reads");
}

#[tokio::test]
async fn tasks_wait_until_a_line_is_written_and_no_longer() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("audit.pipe");
    let mut reader = fifo(&path);
    let (sink, ports) = Sink::open(Target::File(path.into()), 2).unwrap();
    let port = &ports[0];
    let mut pen = Recorder::new(0, CAPACITY);
    fill(&mut pen, port);
    let target = pen.outlet().rendered();
    let until_written = async || {
        let mut written = 0;
        while written < target {
            written = port.notified(written).await;
        }
        written
    };
    let read = tokio::task::spawn_blocking(move || {
        let mut read = Vec::new();
        eventually("everything arrives", || {
            drain(&mut reader, &mut read);
            read.len() as u64 == target
        });
    });
    let both = async { tokio::join!(until_written(), until_written()) };
    let written = tokio::time::timeout(Duration::from_secs(30), both).await.expect("both are woken");
    assert_eq!(written, (target, target));
    assert_eq!(ports[1].written(), 0, "ports are counted apart");
    read.await.unwrap();
    sink.flush_and_close(Duration::from_secs(30)).unwrap();
}

/// Not a test by itself: what the test below runs as another process, whose standard output it holds.
#[test]
#[ignore = "run by `standard_output_is_written_whether_it_is_a_pipe_or_a_file_with_a_position`"]
fn child_that_writes_to_standard_output() {
    let (sink, ports) = Sink::open(Target::Stdout, 1).unwrap();
    let mut pen = Recorder::new(7, CAPACITY);
    for _ in 0..3 {
        write_line(&mut pen, &ports[0]);
    }
    sink.flush_and_close(Duration::from_secs(30)).unwrap();
}

#[test]
fn standard_output_is_written_whether_it_is_a_pipe_or_a_file_with_a_position() {
    let child = || {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "child_that_writes_to_standard_output", "--ignored", "--nocapture"]);
        child
    };
    // The test harness of the child writes lines of its own around ours.
    let records = |text: &[u8]| {
        let lines = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{\"v\":1"));
        sequence(&lines.flatten().copied().collect::<Vec<_>>(), 7)
    };
    let output = child().output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(records(&output.stdout), [1, 2, 3]);

    let dir = TempDir::new().unwrap();
    let path = dir.path().join("out");
    let mut file = File::create(&path).unwrap();
    file.write_all(b"before\n").unwrap();
    let status = child().stdout(Stdio::from(file)).status().unwrap();
    assert!(status.success());
    let text = fs::read(&path).unwrap();
    assert!(text.starts_with(b"before\n"), "what stood there stands there still");
    assert_eq!(records(&text), [1, 2, 3]);
}
