//! The outputs of the round with several: a receiver that is slower than the clients, and files that are put aside.

use crate::support::{ledger::Ledger, process::Proxy};
use std::{fs, io::Read as _, os::unix::net::UnixListener, path::PathBuf, thread, time::Duration};
use tempfile::TempDir;

/// Reads JSON lines, more slowly than clients speak.
pub(crate) struct Receiver {
    pub(crate) path: PathBuf,
    reader: thread::JoinHandle<String>,
    _dir: TempDir,
}

impl Receiver {
    pub(crate) fn listen() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("receiver.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let reader = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut text, mut space) = (Vec::new(), [0; 4096]);
            loop {
                match stream.read(&mut space).unwrap() {
                    0 => return String::from_utf8(text).unwrap(),
                    length => text.extend_from_slice(&space[..length]),
                }
                // It works a while on what it has got.
                if text.len() % 7 == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        });
        Self { path, reader, _dir: dir }
    }

    /// All it got, once the proxy has ended.
    pub(crate) fn finish(self) -> String {
        self.reader.join().unwrap()
    }
}

/// The files that were put aside and the last one, in their order.
pub(crate) fn put_together(proxy: &Proxy, ledger: &mut Ledger) -> String {
    let files = fs::read_dir(proxy.path("")).unwrap().map(|entry| entry.unwrap().path());
    let named = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("rotated.jsonl.2");
    let mut files: Vec<_> = files.filter(named).collect();
    files.sort();
    ledger.count("disturbance: files put aside", files.len() as u64);
    files.push(proxy.path("rotated.jsonl"));
    files.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// The lines of each pen in their order: between pens it is each output's own.
pub(crate) fn by_pen(text: &str) -> Vec<String> {
    let mut lines: Vec<(u64, String)> = text
        .lines()
        .map(|line| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            (record["w"].as_u64().unwrap(), line.to_owned())
        })
        .collect();
    lines.sort_by_key(|(pen, _)| *pen);
    lines.into_iter().map(|(_, line)| line).collect()
}
