//! Audit files that are put aside: by size, by time, by hand; never a line lost or doubled, never a file overwritten.
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

use pen::{CAPACITY, end, eventually, is_without_holes, write_each, write_from_threads};
use ravelin::audit::{
    record::Recorder,
    sink::{Sink, Target},
    target::{FileTarget, Fsync, Rotation},
};
use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;

const SIZE: u64 = 4096;

fn at_size(keep: Option<u32>) -> Rotation {
    Rotation { size: Some(SIZE), every: None, keep }
}

fn place(path: &Path, rotation: Rotation) -> FileTarget {
    FileTarget { rotation, ..path.to_path_buf().into() }
}

/// The files that were put aside, oldest first, and the one that is written to.
fn files(path: &Path) -> Vec<PathBuf> {
    let name = format!("{}.", path.file_name().unwrap().to_str().unwrap());
    let entries = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        entries.filter(|entry| entry.file_name().unwrap().to_str().unwrap().starts_with(&name)).collect();
    found.sort();
    found.push(path.to_path_buf());
    found
}

/// The numbers of the lines of all these files.
fn sequence(files: &[PathBuf]) -> Vec<u64> {
    let numbers = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{} ends within a line", path.display());
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a whole line"));
        lines.map(|line| line["seq"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    files.iter().flat_map(numbers).collect()
}

#[test]
fn a_file_is_put_aside_before_it_would_grow_too_large() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("audit.jsonl");
    let (sink, ports) = Sink::open(Target::File(place(&path, at_size(None))), 1).unwrap();
    let mut pen = Recorder::new(0, CAPACITY);
    write_each(&mut pen, &ports[0], 200);
    end(&sink);
    let files = files(&path);
    let line = pen.outlet().rendered() / 200;
    for file in &files {
        let size = fs::metadata(file).unwrap().size();
        assert!(size <= SIZE, "{size} of {}", file.display());
        assert!(size + 2 * line > SIZE || *file == path, "{size} of {}", file.display());
        assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o600);
    }
    assert_eq!(files.len() as u64, 1 + 199 / (SIZE / line), "{files:?}");
    assert!(is_without_holes(&sequence(&files), 200));
    assert!(!dir.path().join(".audit.jsonl.next").exists());
    let name = files[0].file_name().unwrap().to_str().unwrap();
    let time: jiff::Timestamp = name.strip_prefix("audit.jsonl.").unwrap().parse().expect(name);
    assert!(time.as_second() > 1_700_000_000, "{name}");
    assert_eq!(name.len(), "audit.jsonl.20261121T140503.412345Z".len());
}

#[test]
fn so_many_files_are_kept_and_nothing_else_is_touched() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("audit.jsonl");
    let others =
        ["audit.jsonl.1.gz", "audit.jsonl.old", "audit.jsonl.20261121T140503Z.gz", "audit.jsonl.2026-11-21T14:05:03Z"];
    for other in others {
        fs::write(dir.path().join(other), "").unwrap();
    }
    // From a run long ago; the first to go.
    fs::write(dir.path().join("audit.jsonl.20200101T000000.000000Z"), "").unwrap();
    let (sink, ports) = Sink::open(Target::File(place(&path, at_size(Some(3)))), 1).unwrap();
    let mut pen = Recorder::new(0, CAPACITY);
    write_each(&mut pen, &ports[0], 200);
    end(&sink);
    let mut left = files(&path);
    for other in others {
        let at = left.iter().position(|file| file.ends_with(other)).expect(other);
        left.remove(at);
    }
    assert_eq!(left.len(), 4, "{left:?}");
    let kept = sequence(&left);
    assert!(kept[0] > 1);
    assert!(kept.iter().copied().eq(kept[0]..=200), "the newest are kept");
}

#[test]
fn a_file_is_put_aside_when_its_time_is_over_though_nothing_is_written() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("audit.jsonl");
    let every = Some(Duration::from_secs(1));
    let (sink, ports) = Sink::open(Target::File(place(&path, Rotation { every, ..Rotation::default() })), 1).unwrap();
    let mut pen = Recorder::new(0, CAPACITY);
    write_each(&mut pen, &ports[0], 1);
    // Between the two renamings there is none at its place.
    eventually("the file is put aside", || files(&path).len() > 1 && path.exists());
    let idle = files(&path);
    assert_eq!(fs::metadata(&path).unwrap().size(), 0);
    write_each(&mut pen, &ports[0], 1);
    end(&sink);
    let files = files(&path);
    assert_eq!(files[0], idle[0], "an empty file is not put aside");
    assert!(is_without_holes(&sequence(&files), 2));
}

#[test]
fn a_file_of_an_earlier_time_is_put_aside_at_the_start() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("audit.jsonl");
    fs::write(&path, "{\"seq\":1}\n").unwrap();
    let yesterday = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    fs::File::options().append(true).open(&path).unwrap().set_modified(yesterday).unwrap();
    let every = Some(Duration::from_secs(86_400));
    let (sink, ports) = Sink::open(Target::File(place(&path, Rotation { every, ..Rotation::default() })), 1).unwrap();
    let mut pen = Recorder::new(0, CAPACITY);
    write_each(&mut pen, &ports[0], 1);
    end(&sink);
    let files = files(&path);
    assert_eq!(files.len(), 2);
    assert_eq!(fs::read_to_string(&files[0]).unwrap(), "{\"seq\":1}\n");
}

#[test]
fn names_never_go_back_and_no_file_is_overwritten() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("audit.jsonl");
    // Somebody's clock was wrong.
    let future = dir.path().join("audit.jsonl.20990101T000000.000000Z");
    fs::write(&future, "").unwrap();
    let next = dir.path().join("audit.jsonl.20990101T000000.000002Z");
    fs::create_dir(&next).unwrap();
    let (sink, ports) = Sink::open(Target::File(place(&path, at_size(None))), 1).unwrap();
    let mut pen = Recorder::new(0, CAPACITY);
    write_each(&mut pen, &ports[0], 100);
    end(&sink);
    assert!(next.is_dir());
    assert_eq!(fs::metadata(&future).unwrap().size(), 0);
    let ours: Vec<_> = files(&path).into_iter().filter(|file| *file != future && *file != next).collect();
    assert!(ours.len() > 2 && ours[0] > next, "{ours:?}");
    assert!(is_without_holes(&sequence(&ours), 100));
}

#[test]
fn a_rotation_that_fails_keeps_the_old_file_and_loses_nothing() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("logs");
    fs::create_dir(&folder).unwrap();
    let path = folder.join("audit.jsonl");
    // A folder in the place of the new file; permissions would not keep root out.
    fs::create_dir(folder.join(".audit.jsonl.next")).unwrap();
    let (sink, ports) = Sink::open(Target::File(place(&path, at_size(None))), 1).unwrap();
    let monitor = sink.monitor();
    let mut pen = Recorder::new(0, CAPACITY);
    write_each(&mut pen, &ports[0], 100);
    assert_eq!(monitor.failing(), None, "commands do not wait for a rotation");
    end(&sink);
    assert_eq!(files(&path), std::slice::from_ref(&path));
    assert!(fs::metadata(&path).unwrap().size() > 2 * SIZE);
    assert!(is_without_holes(&sequence(&[path]), 100));
}

#[test]
fn a_file_that_somebody_moved_is_not_moved_again() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("audit.jsonl");
    let moved = dir.path().join("moved");
    let (sink, ports) = Sink::open(Target::File(place(&path, at_size(None))), 1).unwrap();
    let mut pen = Recorder::new(0, CAPACITY);
    write_each(&mut pen, &ports[0], 1);
    fs::rename(&path, &moved).unwrap();
    fs::write(&path, "").unwrap();
    let stranger = fs::metadata(&path).unwrap().ino();
    write_each(&mut pen, &ports[0], 30);
    end(&sink);
    let mut all = vec![moved];
    all.extend(files(&path));
    assert!(is_without_holes(&sequence(&all), 31));
    assert!(all[1..].iter().any(|file| fs::metadata(file).unwrap().ino() == stranger), "it was appended to");
}

#[test]
fn a_signal_opens_a_rotated_file_anew_all_the_same() {
    let dir = TempDir::new().unwrap();
    let (path, moved) = (dir.path().join("audit.jsonl"), dir.path().join("by-hand"));
    let (sink, ports) = Sink::open(Target::File(place(&path, at_size(None))), 1).unwrap();
    let mut pen = Recorder::new(0, CAPACITY);
    write_each(&mut pen, &ports[0], 50);
    let before = files(&path);
    fs::rename(&path, &moved).unwrap();
    sink.reopen().unwrap();
    eventually("the sink goes over", || path.exists());
    write_each(&mut pen, &ports[0], 50);
    end(&sink);
    let mut all = files(&path);
    // In the order in which they were written.
    all.insert(before.len() - 1, moved);
    assert!(is_without_holes(&sequence(&all), 100));
}

#[test]
fn lines_of_many_pens_are_in_exactly_one_file_each() {
    const LINES: u64 = 3000;
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("audit.jsonl");
    let rotation = Rotation { size: Some(64 * 1024), ..Rotation::default() };
    let (sink, ports) = Sink::open(Target::File(place(&path, rotation)), 4).unwrap();
    write_from_threads(ports, LINES);
    end(&sink);
    let files = files(&path);
    assert!(files.len() > 10, "{files:?}");
    let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    for w in 0..4 {
        let of_pen = format!("{{\"v\":1,\"w\":{w},\"seq\":");
        let lines = text.lines().filter_map(|line| line.strip_prefix(&of_pen));
        let numbers: Vec<u64> = lines.map(|rest| rest.split(',').next().unwrap().parse().unwrap()).collect();
        assert!(is_without_holes(&numbers, LINES), "worker {w}");
    }
}

#[test]
fn a_new_file_has_the_mode_that_was_asked_for_and_an_old_one_keeps_its_own() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("audit.jsonl");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let target = FileTarget { mode: 0o660, ..place(&path, at_size(None)) };
    let (sink, ports) = Sink::open(Target::File(target), 1).unwrap();
    let mut pen = Recorder::new(0, CAPACITY);
    write_each(&mut pen, &ports[0], 50);
    end(&sink);
    let modes: Vec<_> = files(&path).iter().map(|file| fs::metadata(file).unwrap().mode() & 0o777).collect();
    assert!(modes.len() > 2 && modes[0] == 0o644, "{modes:?}");
    assert!(modes[1..].iter().all(|mode| *mode == 0o660), "whatever the umask: {modes:?}");
}

#[test]
fn lines_count_only_when_they_are_on_the_disk_where_that_is_asked_for() {
    for fsync in [Fsync::Always, Fsync::Within(Duration::from_millis(10))] {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("audit.jsonl");
        let target = FileTarget { fsync, ..place(&path, at_size(None)) };
        let (sink, ports) = Sink::open(Target::File(target), 1).unwrap();
        let mut pen = Recorder::new(0, CAPACITY);
        write_each(&mut pen, &ports[0], 40);
        end(&sink);
        assert!(files(&path).len() > 1);
        assert!(is_without_holes(&sequence(&files(&path)), 40));
    }
}
