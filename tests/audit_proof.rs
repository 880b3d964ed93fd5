//! The proof, from outside: real streams through the real sink, changed at random, rotated, killed and taken up again, and
//! checked by `ravelin audit verify` and as an auditor would, with the documented commands.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should stop where it is"
)]

mod support;

use aws_lc_rs::{rand::SystemRandom, signature::Ed25519KeyPair};
use ravelin::{
    audit::{
        chain::{Checkpoint, FRONT},
        encode::ConnectionFacts,
        event::ConnectionEvent,
        keys::SignKey,
        outlet::Plan,
        record::Recorder,
        sink::{Sink, SinkHandle, SinkPort, Target, proof::Checkpoints},
        target::{Address, FileTarget, Fsync, Rotation, SocketTarget},
        verify::{Anchor, Finding, Kind, Place, Report, Verdict, Verifier, Wish},
    },
    moment::Moment,
};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};
use support::{
    process::{PATIENCE, Proxy, program},
    redis::Redis,
    setup::Setup,
    wire::encode,
};
use tempfile::TempDir;

const NOW: Moment = Moment { mono_us: 0, wall_us: 1_795_209_003_412_345 };

/// Marsaglia's xorshift64, so that a failure can be had again.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound.max(1)
    }
}

// ---- Streams through the sink.

struct Stream {
    dir: TempDir,
    sink: SinkHandle,
    ports: Vec<SinkPort>,
    pens: Vec<Recorder>,
    rotated: usize,
}

impl Stream {
    fn begin(dir: TempDir, wish: &Checkpoints) -> Self {
        let target = Target::File(dir.path().join("audit.jsonl").into());
        Self::into(dir, target, wish)
    }

    fn into(dir: TempDir, target: Target, wish: &Checkpoints) -> Self {
        let plan = Plan { name: "file".into(), ..Plan::default() };
        let (sink, ports) = Sink::open_as(&plan, target, Some(wish), 3).unwrap();
        let pens = (0..3).map(|w| Recorder::new(w, 1 << 20)).collect();
        Self { dir, sink, ports, pens, rotated: 0 }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("audit.jsonl")
    }

    /// Some lines of a pen in one block, and waits until they are written.
    fn lines(&mut self, w: usize, count: usize) {
        let facts = ConnectionFacts::new("c-1", "cache", "10.2.7.9:5".parse().unwrap(), "cn:api", "billing", None);
        for _ in 0..count {
            self.pens[w].connection(NOW, &facts, &ConnectionEvent::Alarm { reason: "test" });
        }
        let rendered = self.pens[w].outlet().rendered();
        self.ports[w].exchange(self.pens[w].outlet());
        until("the lines are written", || self.ports[w].written() == rendered);
    }

    fn rotate(&mut self) -> PathBuf {
        self.rotated += 1;
        let moved = self.dir.path().join(format!("audit.jsonl.{}", self.rotated));
        fs::rename(self.path(), &moved).unwrap();
        self.sink.reopen().unwrap();
        until("the new file begins", || fs::metadata(self.path()).is_ok_and(|file| file.len() > 0));
        moved
    }

    fn end(self) -> TempDir {
        self.sink.flush_and_close(PATIENCE).unwrap();
        self.dir
    }
}

fn until(what: &str, mut happened: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if happened() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("never: {what}");
}

fn signer() -> SignKey {
    SignKey::from_pkcs8(Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).unwrap().as_ref()).unwrap()
}

fn wish(key: Option<SignKey>) -> Checkpoints {
    Checkpoints { every: Duration::from_secs(3600), lines: Some(7), key }
}

/// Three pens over three files and a restart, each line of the files apart.
fn real_stream(key: Option<SignKey>, random: &mut Random) -> Vec<Vec<Vec<u8>>> {
    let mut stream = Stream::begin(tempfile::tempdir().unwrap(), &wish(key.clone()));
    let mut files = Vec::new();
    for round in 0..3 {
        for _ in 0..6 {
            stream.lines(random.below(3), 1 + random.below(4));
        }
        if round < 2 {
            files.push(stream.rotate());
        } else {
            files.push(stream.path());
            stream = Stream::begin(stream.end(), &wish(key.clone()));
            stream.lines(random.below(3), 5);
            stream.lines(random.below(3), 2);
        }
    }
    let _dir = stream.end();
    files
        .iter()
        .map(|path| fs::read(path).unwrap().split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect())
        .collect()
}

fn verify(files: &[Vec<Vec<u8>>], wish: Wish) -> Report {
    let mut verifier = Verifier::new(wish);
    for (at, file) in files.iter().enumerate() {
        verifier.begin_file(&at.to_string());
        file.iter().for_each(|line| verifier.feed(line));
    }
    verifier.finish()
}

/// A line's pen and number.
fn number(line: &[u8]) -> Option<(u64, u64)> {
    let line: Value = serde_json::from_slice(line).ok()?;
    Some((line["w"].as_u64()?, line["seq"].as_u64()?))
}

/// What was done, and what the first finding must be.
struct Damage {
    what: String,
    /// The first line that is not what it was.
    place: Option<Place>,
    /// What is wrong with which record, where its number says so.
    named: Option<(Kind, (u64, u64))>,
}

fn place(file: usize, line: usize) -> Option<Place> {
    Some(Place { file, line: line as u64 + 1 })
}

fn damage(files: &mut Vec<Vec<Vec<u8>>>, random: &mut Random) -> Damage {
    let file = random.below(files.len());
    let length = files[file].len();
    let line = random.below(length);
    let lines = &mut files[file];
    match random.below(9) {
        0 => {
            let at = random.below(lines[line].len());
            let old = lines[line][at];
            while lines[line][at] == old {
                lines[line][at] = u8::try_from(random.below(256)).unwrap();
            }
            Damage { what: format!("byte {at} of {file}:{} changed", line + 1), place: place(file, line), named: None }
        }
        1 => {
            let gone = lines.remove(line);
            let named = number(&gone).map(|number| (Kind::Missing, number));
            Damage { what: format!("{file}:{} dropped", line + 1), place: None, named }
        }
        2 => {
            let until = line + 1 + random.below(length - line);
            lines.drain(line..until);
            Damage { what: format!("{file}:{}-{until} dropped", line + 1), place: None, named: None }
        }
        3 => {
            let copy = lines[line].clone();
            let at = random.below(length + 1);
            // Behind itself, in the same file and life of the process, its number has been passed. Behind a checkpoint that
            // ends either, no line is looked at for its number.
            let holds = |line: &[u8], reason: &str| {
                memchr::memmem::find(line, format!("\"reason\":\"{reason}\"").as_bytes()).is_some()
            };
            let passed = at > line
                && !["stop", "reopen"].iter().any(|reason| holds(&lines[at - 1], reason))
                && !lines[line..at].iter().any(|line| holds(line, "resume"));
            let named = number(&copy).filter(|_| passed).map(|number| (Kind::Inserted, number));
            lines.insert(at, copy);
            let place = named.and_then(|_| place(file, at));
            Damage { what: format!("{file}:{} copied to {}", line + 1, at + 1), place, named }
        }
        4 => {
            let mut made = lines[line].clone();
            let from = random.below(made.len() / 2);
            made.drain(..from);
            made.push(b'\n');
            lines.insert(line, made);
            Damage {
                what: format!("something put in before {file}:{}", line + 1),
                place: place(file, line),
                named: None,
            }
        }
        5 if length > 1 => {
            let other = (line + 1 + random.below(length - 1)) % length;
            lines.swap(line, other);
            Damage {
                what: format!("{file}:{} and {} swapped", line + 1, other + 1),
                place: place(file, line.min(other)),
                named: None,
            }
        }
        6 => {
            lines.truncate(line);
            Damage { what: format!("{file} cut off before line {}", line + 1), place: None, named: None }
        }
        7 => {
            lines.truncate(line + 1);
            let keep = random.below(lines[line].len());
            lines[line].truncate(keep);
            Damage { what: format!("{file} cut off at byte {keep} of line {}", line + 1), place: None, named: None }
        }
        _ => {
            files.remove(file);
            Damage { what: format!("file {file} removed"), place: None, named: None }
        }
    }
}

/// Whether a finding is about this line: it is the one named, or between the checkpoints named.
fn concerns(finding: &Finding, place: Place) -> bool {
    finding.place == place || finding.from.is_some_and(|from| from <= place && place <= finding.place)
}

#[test]
fn whatever_is_done_to_a_stream_at_random_is_caught_and_placed() {
    const CASES: usize = 6000;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut by_number = 0;
    for signed in [false, true] {
        let key = signed.then(signer);
        let files = real_stream(key.clone(), &mut random);
        let head = files.last().and_then(|file| Checkpoint::parse(file.last()?)).unwrap();
        let wish = Wish {
            keys: key.iter().map(|key| key.public().clone()).collect(),
            anchors: vec![Anchor::Line(Box::new(head), "head".to_owned())],
            complete: true,
            from_start: true,
        };
        let whole = verify(&files, wish.clone());
        assert_eq!(whole.verdict(), Verdict::Proven, "{whole:#?}");
        assert!(whole.checkpoints >= 9 && whole.segments.len() == 1, "{whole:#?}");
        for case in 0..CASES / 2 {
            let mut changed = files.clone();
            let Damage { what, place, named } = damage(&mut changed, &mut random);
            if changed == files {
                continue;
            }
            let report = verify(&changed, wish.clone());
            assert_eq!(report.verdict(), Verdict::Broken, "case {case}: {what}");
            let first = &report.findings[0];
            if let Some(place) = place {
                assert!(concerns(first, place), "case {case}: {what}, but {first:?}");
            }
            // What is proven ends before the damage.
            let proven = report.segments.first().and_then(|segment| segment.proven.as_ref()).map(|(place, ..)| *place);
            assert!(proven.is_none_or(|proven| place.is_none_or(|place| proven < place)), "case {case}: {what}");
            if let Some((kind, number)) = named {
                assert_eq!((first.kind, first.seq), (kind, Some(number)), "case {case}: {what}: {first:?}");
                by_number += 1;
            }
        }
    }
    assert!(by_number > CASES / 10, "{by_number}");
}

/// Somebody who can write the file makes every digest anew behind a record taken out: a stranger's key, or none, shows.
#[test]
fn a_chain_made_anew_from_end_to_end_is_caught_by_the_key_and_by_a_head_alone() {
    let mut random = Random(7);
    let (mine, theirs) = (signer(), signer());
    let files = real_stream(Some(theirs), &mut random);
    assert_eq!(verify(&files, Wish::default()).verdict(), Verdict::Proven);
    let keyed = Wish { keys: vec![mine.public().clone()], ..Wish::default() };
    let report = verify(&files, keyed);
    assert_eq!((report.findings[0].kind, report.findings_total), (Kind::Signature, report.checkpoints));
    let known = Anchor::Digest("00".repeat(32));
    let report = verify(&files, Wish { anchors: vec![known], ..Wish::default() });
    assert_eq!(report.findings[0].kind, Kind::Head);
}

/// The files in a folder that belong to the stream, in the order of their names: those put aside before the last.
fn put_aside(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("audit.jsonl.2"));
    files.sort();
    files.push(dir.join("audit.jsonl"));
    files
}

fn read_lines(path: &Path) -> Vec<Vec<u8>> {
    fs::read(path).unwrap().split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

#[test]
fn files_that_are_put_aside_by_size_are_one_stream_whether_they_are_synchronised_or_not() {
    for fsync in [Fsync::Never, Fsync::Always] {
        let dir = tempfile::tempdir().unwrap();
        let rotation = Rotation { size: Some(4096), every: None, keep: None };
        let place = FileTarget { rotation, fsync, ..dir.path().join("audit.jsonl").into() };
        let mut stream = Stream::into(dir, Target::File(place), &wish(None));
        for turn in 0..40 {
            stream.lines(turn % 3, 1 + turn % 4);
        }
        let dir = stream.end();
        let files: Vec<_> = put_aside(dir.path()).iter().map(|path| read_lines(path)).collect();
        assert!(files.len() > 4, "{} files", files.len());
        let report = verify(&files, Wish { complete: true, from_start: true, ..Wish::default() });
        assert_eq!((report.verdict(), report.notes.len()), (Verdict::Proven, 0), "{report:#?}");
        for pair in files.windows(2) {
            let (last, first) = (pair[0].last().unwrap(), pair[1].first().unwrap());
            let (last, first) = (Checkpoint::parse(last).unwrap(), Checkpoint::parse(first).unwrap());
            assert_eq!((&*last.reason, &*first.reason), ("rotate", "open"));
            assert_eq!(first.bytes, last.line.len() as u64, "the range is the last line of the file before");
        }
    }
}

/// A pipe that nobody reads is given up in the middle of a line: what it has got and the file that follows are one stream.
#[test]
fn a_line_that_was_torn_by_a_change_of_files_is_covered_by_the_next_checkpoint() {
    use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let mut reader = File::from(open(&path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap());
    let mut stream = Stream::begin(dir, &wish(None));
    let facts = ConnectionFacts::new("c-1", "cache", "10.2.7.9:5".parse().unwrap(), "cn:api", "billing", None);
    while stream.pens[0].has_room() {
        stream.pens[0].connection(NOW, &facts, &ConnectionEvent::Alarm { reason: "test" });
    }
    stream.ports[0].exchange(stream.pens[0].outlet());
    let monitor = stream.sink.monitor();
    until("the pipe counts as unread", || monitor.failing().is_some());
    fs::remove_file(&path).unwrap();
    stream.sink.reopen().unwrap();
    let dir = stream.end();
    let mut old = Vec::new();
    match std::io::Read::read_to_end(&mut reader, &mut old) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
    }
    assert_ne!(old.last(), Some(&b'\n'), "it was torn");
    let files = [vec![old], read_lines(&dir.path().join("audit.jsonl"))];
    let report = verify(&files, Wish { complete: true, from_start: true, ..Wish::default() });
    assert_eq!(report.verdict(), Verdict::Proven, "{report:#?}");
    let mut shorter = files;
    shorter[0][0].pop();
    assert_eq!(verify(&shorter, Wish::default()).verdict(), Verdict::Broken, "the torn line is covered");
}

#[test]
fn a_receiver_gets_a_chain_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let address = dir.path().join("receiver");
    let receiver = std::os::unix::net::UnixListener::bind(&address).unwrap();
    let read = std::thread::spawn(move || {
        let mut all = Vec::new();
        std::io::Read::read_to_end(&mut receiver.accept().unwrap().0, &mut all).unwrap();
        all
    });
    let target = Target::Socket(SocketTarget { address: Address::Unix(address) });
    let mut stream = Stream::into(dir, target, &wish(None));
    for turn in 0..20 {
        stream.lines(turn % 3, 3);
    }
    let _dir = stream.end();
    let report = verify(&[vec![read.join().unwrap()]], Wish { complete: true, from_start: true, ..Wish::default() });
    assert_eq!((report.verdict(), report.lines - report.checkpoints), (Verdict::Proven, 60), "{report:#?}");
}

// ---- The program.

fn ravelin_verify(arguments: &[&str], dir: &Path) -> Output {
    let mut command = Command::new(program());
    command.args(["audit", "verify"]).args(arguments).current_dir(dir).output().unwrap()
}

/// What it says, and its exit code.
fn said(arguments: &[&str], dir: &Path) -> (String, i32) {
    let output = ravelin_verify(arguments, dir);
    assert!(output.stderr.is_empty(), "{output:?}");
    (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap())
}

/// A command of the documentation, run as it stands there.
fn documented(name: &str, variables: &[(&str, &str)], dir: &Path) -> String {
    let text = include_str!("../deploy/docs/audit.md");
    let (_, rest) = text.split_once(&format!("<!-- run: {name} -->\n```sh\n")).unwrap();
    let (script, _) = rest.split_once("\n```").unwrap();
    let mut command = Command::new("bash");
    command.args(["-eu", "-o", "pipefail", "-c", script]).envs(variables.iter().copied()).current_dir(dir);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A proxy whose provable stream is `proven.jsonl`, with a signing key made as documented.
fn proxy(redis: &Redis) -> (Proxy, TempDir) {
    let keys = tempfile::tempdir().unwrap();
    documented("key", &[], keys.path());
    let key = keys.path().join("audit.ed25519");
    let outputs = format!(
        ", {{ file = {{ path = \"proven.jsonl\" }}, checkpoint = {{ every = \"1s\", lines = 100, sign_key = \"{}\" }} }}",
        key.display()
    );
    let setup = Setup { to_stdout: true, outputs: outputs.leak(), ..Setup::before(redis) };
    (Proxy::with(&setup), keys)
}

/// So many commands, each answered.
fn talk(proxy: &Proxy, commands: usize) {
    let mut client = proxy.client();
    let some = encode(&["PING"]).repeat(50);
    for _ in 0..commands / 50 {
        std::io::Write::write_all(client.stream(), &some).unwrap();
        assert_eq!(client.take(350), b"+PONG\r\n".repeat(50));
    }
}

fn checkpoints(path: &Path) -> usize {
    let text = fs::read(path).unwrap_or_default();
    text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.starts_with(FRONT)).count()
}

#[test]
fn a_stream_rotated_under_load_is_proven_and_an_auditor_finds_the_same_with_sha256sum_and_openssl() {
    let redis = Redis::start();
    let (mut proxy, keys) = proxy(&redis);
    let dir = proxy.path("");
    talk(&proxy, 500);
    fs::rename(proxy.path("proven.jsonl"), proxy.path("proven.jsonl.1")).unwrap();
    talk(&proxy, 200);
    proxy.signal(Signal::USR1);
    proxy.await_that("the new file", |proxy| (checkpoints(&proxy.path("proven.jsonl")) > 0).then_some(()));
    talk(&proxy, 300);
    assert!(proxy.stop().success());
    let public = keys.path().join("audit.pub");
    let key = public.to_str().unwrap();

    // In any order, and with the head file beside it.
    let all = ["--key", key, "--complete", "--from-start", "proven.jsonl", "proven.jsonl.1"];
    let (text, code) = said(&all, &dir);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("proven   proven.jsonl.1:1 to proven.jsonl:"), "{text}");
    assert!(text.contains("from proven.jsonl.head, is here") && text.ends_with("PROVEN\n"), "{text}");
    let (json, _) = said(&[&all[..], &["--json"]].concat(), &dir);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["verdict"], &json["signed"]), (&"proven".into(), &json["signatures_verified"]));

    // The auditor has the files under other names, and the public key.
    let desk = tempfile::tempdir().unwrap();
    fs::copy(proxy.path("proven.jsonl.1"), desk.path().join("audit.jsonl.1")).unwrap();
    fs::copy(proxy.path("proven.jsonl"), desk.path().join("audit.jsonl")).unwrap();
    fs::copy(&public, desk.path().join("audit.pub")).unwrap();
    assert_eq!(documented("all", &[], desk.path()), "");
    let listed = documented("list", &[], desk.path());
    let places: Vec<&str> = listed.lines().collect();
    assert!(places.len() >= 3, "{listed}");
    for pair in places.windows(2) {
        let range = documented("range", &[("A", pair[0]), ("B", pair[1])], desk.path());
        let (made, told) = range.split_once("  -\n").unwrap();
        assert_eq!(format!(",\"sha256\":\"{made}\n"), told);
        let signature = documented("signature", &[("B", pair[1])], desk.path());
        assert!(signature.contains("Signature Verified Successfully"), "{signature}");
    }
    let text = fs::read_to_string(desk.path().join("audit.jsonl")).unwrap();
    let id = &documented("fingerprint", &[], desk.path())[..16];
    assert!(text.contains(&format!(",\"key\":\"{id}\"")), "{id}");

    // And one letter later.
    let file = desk.path().join("audit.jsonl.1");
    let changed = fs::read_to_string(&file).unwrap().replacen("\"verdict\":\"allow\"", "\"verdict\":\"alloW\"", 1);
    fs::write(&file, changed).unwrap();
    assert!(documented("all", &[], desk.path()).starts_with("wrong between line "), "the auditor sees it");
    let (text, code) = said(&["audit.jsonl", "audit.jsonl.1"], desk.path());
    assert!(code == 5 && text.contains("WRONG    audit.jsonl.1:") && text.ends_with("NOT PROVEN\n"), "{text}");
}

/// Another life of the proxy with the same configuration, until it is dropped.
struct Life(Child);

impl Life {
    fn begin(proxy: &Proxy) -> Self {
        let mut command = Command::new(program());
        command.args(["run", "--config"]).arg(proxy.path("ravelin.toml")).stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.stderr(File::create(proxy.path("log-2")).unwrap()).spawn().unwrap())
    }

    fn end(mut self) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_kill_under_load_loses_the_proof_of_what_had_no_checkpoint_and_says_so() {
    let redis = Redis::start();
    let (mut proxy, keys) = proxy(&redis);
    let dir = proxy.path("");
    let public = keys.path().join("audit.pub");
    let key = ["--key", public.to_str().unwrap(), "--from-start", "proven.jsonl"];
    talk(&proxy, 350);

    // While it lives, all up to the last checkpoint is proven.
    let (text, code) = said(&key, &dir);
    assert_eq!(code, 0, "{text}");
    let (text, code) = said(&[&key[..], &["--complete"]].concat(), &dir);
    assert!(code == 5 && text.contains("does not end with a `stop`"), "{text}");

    proxy.signal(Signal::KILL);
    assert!(!proxy.await_end().success());
    // Whatever the kernel had taken is there; make sure that something is without a checkpoint, and torn.
    let path = proxy.path("proven.jsonl");
    let mut text = fs::read(&path).unwrap();
    let last = memchr::memmem::rfind(&text, FRONT).unwrap();
    let before = text[..last].iter().rposition(|byte| *byte == b'{').unwrap();
    let line = text[..last][..before].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let torn = text[line..line + 60].to_vec();
    text.extend_from_slice(&torn);
    fs::write(&path, &text).unwrap();
    let (said_then, code) = said(&key, &dir);
    assert!(code == 0 && said_then.contains("torn or just being written"), "{said_then}");

    let life = Life::begin(&proxy);
    until("it has started again", || memchr::memmem::find(&fs::read(&path).unwrap(), b"\"resume\"").is_some());
    until("and serves", || fs::read_to_string(proxy.path("log-2")).unwrap().contains("admin endpoint on"));
    life.end();
    let (text, code) = said(&[&key[..], &["--complete"]].concat(), &dir);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("had no checkpoint when the process was ended, the last of them torn"), "{text}");

    // Between the lives the file is moved away: the head file carries the chain over.
    fs::rename(&path, proxy.path("proven.jsonl.1")).unwrap();
    let life = Life::begin(&proxy);
    until("it has started again", || checkpoints(&path) > 0);
    until("and serves", || fs::read_to_string(proxy.path("log-2")).unwrap().contains("admin endpoint on"));
    life.end();
    let (text, code) = said(&[&key[..], &["proven.jsonl.1", "--complete"]].concat(), &dir);
    assert_eq!(code, 0, "{text}");

    // Cut off at a checkpoint: the file says nothing, the head file does, and so does the next start.
    let whole = fs::read_to_string(&path).unwrap();
    let (first, _) = whole.split_once('\n').unwrap();
    fs::write(&path, format!("{first}\n")).unwrap();
    let (text, code) = said(&["proven.jsonl"], &dir);
    assert!(code == 5 && text.contains("its end was cut off"), "{text}");
    let life = Life::begin(&proxy);
    until("it has started again", || checkpoints(&path) > 1);
    until("and serves", || fs::read_to_string(proxy.path("log-2")).unwrap().contains("admin endpoint on"));
    life.end();
    let log = fs::read_to_string(proxy.path("log-2")).unwrap();
    assert!(log.contains("the file ends before the last checkpoint") && log.contains("ERROR"), "{log}");
    let (text, code) = said(&["proven.jsonl"], &dir);
    assert!(code == 5 && text.contains("what came between is missing"), "{text}");
}

#[test]
fn the_wrong_key_no_key_and_a_key_that_is_none_are_told_apart() {
    let redis = Redis::start();
    let (mut proxy, keys) = proxy(&redis);
    talk(&proxy, 100);
    assert!(proxy.stop().success());
    let other = tempfile::tempdir().unwrap();
    documented("key", &[], other.path());
    let dir = proxy.path("");
    let run = |key: &Path| ravelin_verify(&["--key", key.to_str().unwrap(), "proven.jsonl"], &dir);
    let wrong = run(&other.path().join("audit.pub"));
    let text = String::from_utf8(wrong.stdout).unwrap();
    assert!(wrong.status.code() == Some(5) && text.contains("signed by another key, "), "{text}");
    for none in [keys.path().join("audit.ed25519"), proxy.path("ca.crt"), proxy.path("nothing")] {
        let output = run(&none);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(3) && text.contains("openssl pkey -in KEY.pem -pubout"), "{text}");
    }
    let (text, code) = said(&["proven.jsonl"], &dir);
    assert!(code == 0 && text.contains("without --key their signatures are not looked at"), "{text}");
    let digest = "0".repeat(64);
    let (text, code) = said(&["--head", &digest, "proven.jsonl"], &dir);
    assert!(code == 5 && text.contains(&digest), "{text}");
    let (text, code) = said(&["--head", "proven.jsonl.head", "proven.jsonl"], &dir);
    assert_eq!(code, 0, "{text}");
}

#[test]
fn a_stream_without_a_chain_has_nothing_to_prove_it_by() {
    let redis = Redis::start();
    let mut proxy = Proxy::start(&redis);
    talk(&proxy, 50);
    assert!(proxy.stop().success());
    let dir = proxy.path("");
    let (text, code) = said(&["audit.jsonl"], &dir);
    assert_eq!(code, 5, "{text}");
    assert!(text.contains("nothing to prove them by") && text.contains("checkpoint = {"), "{text}");
    assert!(text.contains("have no holes"), "{text}");
    let lines: Vec<String> = proxy.audit_text().lines().map(str::to_owned).collect();
    let gone = lines.iter().position(|line| line.contains("\"PING\"")).unwrap() + 5;
    let (w, seq) = number(lines[gone].as_bytes()).unwrap();
    fs::write(proxy.path("holed.jsonl"), [&lines[..gone], &lines[gone + 1..]].concat().join("\n") + "\n").unwrap();
    let (text, code) = said(&["holed.jsonl"], &dir);
    assert!(
        code == 5 && text.contains(&format!("holed.jsonl:{}: number {seq} of pen {w} is missing", gone + 1)),
        "{text}"
    );
    let output = ravelin_verify(&["missing.jsonl"], &dir);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn standard_output_has_a_chain_for_each_start_and_the_metrics_say_where_it_is() {
    let redis = Redis::start();
    let setup = Setup { outputs: ", { stdout = {}, checkpoint = { every = \"1s\" } }", ..Setup::before(&redis) };
    let mut proxy = Proxy::with(&setup);
    talk(&proxy, 50);
    proxy.await_that("a checkpoint by time", |proxy| (checkpoints(&proxy.path("stdout")) > 1).then_some(()));
    let value = |page: &str, name: &str| {
        let line = page.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {page}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    // A moment after its line.
    let page = proxy.await_that("the metric of that checkpoint", |proxy| {
        let page = proxy.page("/metrics").1;
        (value(&page, "ravelin_audit_checkpoint{output=\"stdout\"}") >= 2.0).then_some(page)
    });
    assert!(value(&page, "ravelin_audit_checkpoint_seconds{output=\"stdout\"}") > 1.7e9);
    assert!(!page.contains("ravelin_audit_checkpoint{output=\"file\"}"), "an output without has none");
    assert!(proxy.stop().success());
    assert!(!proxy.path("stdout.head").exists());
    let dir = proxy.path("");
    let (text, code) = said(&["--complete", "--from-start", "stdout"], &dir);
    assert_eq!(code, 0, "{text}");
    // Two lives in one file, as a collector would have them.
    let once = fs::read(proxy.path("stdout")).unwrap();
    fs::write(proxy.path("twice"), once.repeat(2)).unwrap();
    let (text, _) = said(&["twice"], &dir);
    assert!(text.contains("the same chain") || text.contains("comes 1 again"), "a chain does not begin twice: {text}");
}
