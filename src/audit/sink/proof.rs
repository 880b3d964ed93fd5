//! The chain of one output as its writer keeps it: begun or taken up at the start, fed what is written, and remembered
//! beside the file.
//!
//! What is found at the start decides how the chain begins:
//!
//! | the file | the head file `PATH.head` | the first checkpoint |
//! |---|---|---|
//! | ends behind a checkpoint | the same one, an earlier one of its chain, or none | `resume`: covers what stands behind it, and says how much |
//! | is empty, or not there | a checkpoint | `resume`: covers that checkpoint's line (the file was moved away meanwhile) |
//! | is empty, or not there | none | `start` |
//! | has no checkpoint | none | `start`; says how much stood there, and does not cover it |
//! | ends behind a checkpoint | a later one, or another chain's | `start`, naming the head, and an error in the log: lines were taken away, or the file is another one |
//! | has no checkpoint | a checkpoint | likewise |
//!
//! Outputs that cannot be read back (standard output, pipes, sockets) begin with `start` each time. The head file is written
//! behind each checkpoint, by renaming, with mode 0600; it is of use only while the file is, so that it cannot be written is
//! logged and stops nobody. Tests: below and `tests/audit_proof.rs`.

use super::{clock, queue::Run};
use crate::audit::{
    chain::{Chain, ChainId, Checkpoint, FRONT, Reason, Unproven},
    encode::MAX_LINE,
    keys::SignKey,
};
use aws_lc_rs::rand;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The last checkpoint of a file is looked for so far from its end. One is written before so much has gathered, unless it
/// all came in one block.
const SOUGHT_MAX: u64 = 1024 * 1024 * 1024;
/// So many bytes behind a checkpoint ask for the next one, whatever the time.
const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes read at once.
const PIECE: usize = 256 * 1024;

/// What an output is proven by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoints {
    /// How long a line waits for the next checkpoint, at most.
    pub every: Duration,
    /// So many lines ask for one before that.
    pub lines: Option<u64>,
    /// What signs them.
    pub key: Option<SignKey>,
}

/// The last checkpoint, for metrics.
#[derive(Debug, Default)]
pub struct Progress {
    n: AtomicU64,
    wall_us: AtomicU64,
}

impl Progress {
    /// Its number, and when it was written in microseconds since 1970; none before the first.
    #[must_use]
    pub fn last(&self) -> Option<(u64, u64)> {
        let n = self.n.load(Ordering::Acquire);
        (n > 0).then(|| (n, self.wall_us.load(Ordering::Relaxed)))
    }
}

/// The chain of an output.
#[derive(Clone, Debug)]
pub(super) struct Proof {
    wish: Checkpoints,
    chain: Chain,
    first: Option<Reason>,
    /// Of the line that was rendered and is not sealed: why, and when.
    rendered: Option<(Reason, u64)>,
    /// Why the last one was written.
    last: Option<Reason>,
    /// What was fed ends where the marks say.
    whole: bool,
    /// Bytes behind the last checkpoint.
    bytes: u64,
    /// When the next one is due; none while nothing stands behind the last.
    due: Option<Instant>,
    /// The last line, until it is in the head file.
    fresh: Vec<u8>,
    head_file: Option<PathBuf>,
    /// The head file could not be written the last time.
    headless: bool,
    progress: Arc<Progress>,
}

/// How a chain begins.
struct Beginning {
    chain: Chain,
    reason: Reason,
}

impl Proof {
    /// The chain of the output `name`, which goes to the file at `path` if it can be read back.
    ///
    /// # Errors
    /// The file, or its head file, is there and cannot be read, or the system gives no random number.
    pub(super) fn begin(name: &str, wish: &Checkpoints, path: Option<&Path>) -> io::Result<Self> {
        let path = path.filter(|path| fs::metadata(path).map_or(true, |known| known.is_file()));
        let Beginning { chain, reason } = match path {
            Some(path) => beginning(name, wish, path)?,
            None => Beginning {
                chain: Chain::new(name, new_id()?, wish.key.clone()),
                reason: Reason::Start { before: None, after: None },
            },
        };
        Ok(Self {
            wish: wish.clone(),
            chain,
            first: Some(reason),
            rendered: None,
            last: None,
            whole: true,
            bytes: 0,
            due: None,
            fresh: Vec::new(),
            head_file: path.map(head_file),
            headless: false,
            progress: Arc::default(),
        })
    }

    /// Where the last checkpoint can be looked up.
    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Why the first checkpoint is written; asked once.
    pub(super) fn first(&mut self) -> Option<Reason> {
        self.first.take()
    }

    /// Why the last checkpoint was written; none before the first.
    pub(super) const fn last(&self) -> Option<&Reason> {
        self.last.as_ref()
    }

    /// These bytes were written. The clock is read only for the first behind a checkpoint.
    pub(super) fn append(&mut self, written: &[u8]) {
        self.append_at(written, clock::now);
    }

    fn append_at(&mut self, written: &[u8], now: impl FnOnce() -> Instant) {
        if self.chain.number() == 0 || written.is_empty() {
            // What stood before it, such as the end of a torn line, a chain does not cover.
            return;
        }
        self.chain.append(written);
        self.whole = false;
        self.bytes = self.bytes.saturating_add(written.len() as u64);
        if self.due.is_none() {
            self.due = now().checked_add(self.wish.every);
        }
    }

    /// Everything has been written whole, and these blocks last: each says where its pen stands behind it.
    pub(super) fn settle(&mut self, runs: &[Run]) {
        for Run { port, mark, .. } in runs {
            // Ports are numbered as the pens are.
            if let Ok(w) = u16::try_from(*port) {
                self.chain.mark(w, *mark);
            }
        }
        self.whole = true;
        self.keep();
    }

    /// How long until the next checkpoint is due; none while there is nothing to cover.
    pub(super) fn due_in(&self) -> Option<Duration> {
        self.due_at(clock::now)
    }

    fn due_at(&self, now: impl FnOnce() -> Instant) -> Option<Duration> {
        let enough = self.wish.lines.is_some_and(|most| self.chain.uncovered() >= most) || self.bytes >= BYTES_MAX;
        if enough { Some(Duration::ZERO) } else { self.due.map(|due| due.saturating_duration_since(now())) }
    }

    /// The next checkpoint's line. What is written of it is not to be fed, unless it is given up: then that much is.
    pub(super) fn render(&mut self, wall_us: u64, reason: Reason) -> Vec<u8> {
        let line = self.chain.render(wall_us, &reason, self.whole);
        self.rendered = Some((reason, wall_us));
        line
    }

    /// The line was written whole.
    pub(super) fn seal(&mut self, line: &[u8]) {
        self.chain.seal(line);
        self.bytes = 0;
        self.due = None;
        if let Some((reason, wall_us)) = self.rendered.take() {
            self.last = Some(reason);
            self.progress.wall_us.store(wall_us, Ordering::Relaxed);
        }
        self.fresh = line.to_vec();
    }

    /// Tells what is sealed: it is in the file, and on its disk where that matters.
    fn keep(&mut self) {
        let line = std::mem::take(&mut self.fresh);
        if line.is_empty() {
            return;
        }
        self.progress.n.store(self.chain.number(), Ordering::Release);
        let Some(path) = &self.head_file else { return };
        let done = replace(path, &line);
        match (&done, self.headless) {
            (Err(error), false) => tracing::error!(
                file = %path.display(), %error,
                "the head of the audit chain cannot be kept; a file that is cut off at a checkpoint will not be noticed"
            ),
            (Ok(()), true) => tracing::info!(file = %path.display(), "the head of the audit chain is kept again"),
            _ => {}
        }
        self.headless = done.is_err();
    }
}

fn head_file(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".head");
    PathBuf::from(name)
}

/// Puts `content` in the place of a file, all of it or nothing.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?.write_all(content)?;
    fs::rename(&fresh, path)
}

fn new_id() -> io::Result<ChainId> {
    let mut id = [0; 8];
    rand::fill(&mut id).map_err(|_| io::Error::other("the system gives no random number"))?;
    Ok(ChainId(id))
}

fn beginning(name: &str, wish: &Checkpoints, path: &Path) -> io::Result<Beginning> {
    let head = read_head(&head_file(path))?;
    let file = match File::open(path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let found = match file {
        Some(file) => look(file)?,
        None => Found::default(),
    };
    let anew = |after: Option<(Checkpoint, &'static str)>| -> io::Result<Beginning> {
        if let Some((head, why)) = &after {
            tracing::error!(
                file = %path.display(), chain = head.chain, checkpoint = head.n,
                "{why}: a new audit chain begins, which names the old one; find out who changed the file"
            );
        }
        let after = after.map(|(head, why)| (Box::new(head), why));
        Ok(Beginning {
            chain: Chain::new(name, new_id()?, wish.key.clone()),
            reason: Reason::Start { before: Some(found.length.saturating_add(u64::from(found.torn))), after },
        })
    };
    match (&found.last, head) {
        (None, None) => anew(None),
        (None, Some(head)) if found.length == 0 => Ok(Beginning {
            chain: Chain::behind(name, &head, wish.key.clone()),
            reason: Reason::Resume(Unproven::default()),
        }),
        (None, Some(head)) => anew(Some((head, "the file has no checkpoint"))),
        (Some((last, _)), Some(head)) if head.chain != last.chain => {
            anew(Some((head, "the file ends with another chain")))
        }
        (Some((last, _)), Some(head)) if head.n > last.n => {
            anew(Some((head, "the file ends before the last checkpoint")))
        }
        (Some((last, _)), Some(head)) if head.n == last.n && head.line != last.line => {
            anew(Some((head, "the last checkpoint in the file is another one")))
        }
        (Some((last, at)), head) => {
            if head.is_none() {
                tracing::warn!(
                    file = %path.display(),
                    "the audit file's head file is not there: whether the end was cut off cannot be seen"
                );
            }
            take_up(name, wish, path, last, *at, &found)
        }
    }
}

/// Goes on behind a checkpoint in the file, and covers what stands behind it.
fn take_up(
    name: &str,
    wish: &Checkpoints,
    path: &Path,
    last: &Checkpoint,
    at: u64,
    found: &Found,
) -> io::Result<Beginning> {
    let mut chain = Chain::behind(name, last, wish.key.clone());
    let end = at.saturating_add(last.line.len() as u64);
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(end))?;
    let mut rest = file.take(found.length.saturating_sub(end));
    let mut piece = vec![0; PIECE];
    let mut bytes = 0_u64;
    loop {
        match rest.read(&mut piece)? {
            0 => break,
            length => {
                chain.append(piece.get(..length).unwrap_or_default());
                bytes = bytes.saturating_add(length as u64);
            }
        }
    }
    let lines = chain.uncovered().saturating_add(u64::from(found.torn));
    if bytes > 0 {
        tracing::warn!(
            file = %path.display(), bytes, lines,
            "the audit file goes on behind its last checkpoint: the process was killed; the new chain's first checkpoint says so"
        );
    }
    Ok(Beginning { chain, reason: Reason::Resume(Unproven { bytes, lines, torn: found.torn }) })
}

/// The checkpoint in a head file. One that cannot be read as one is as good as none, and said.
fn read_head(path: &Path) -> io::Result<Option<Checkpoint>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut line = Vec::new();
    file.take(MAX_LINE as u64).read_to_end(&mut line)?;
    let head = Checkpoint::parse(&line);
    if head.is_none() {
        tracing::error!(file = %path.display(), "the head file of the audit chain holds no checkpoint; it is passed over");
    }
    Ok(head)
}

/// What a file holds.
#[derive(Default)]
struct Found {
    length: u64,
    /// It does not end with a newline.
    torn: bool,
    /// Its last checkpoint, and where that begins.
    last: Option<(Checkpoint, u64)>,
}

/// Looks for the last checkpoint, from the end.
fn look(mut file: File) -> io::Result<Found> {
    let length = file.metadata()?.len();
    let mut found = Found { length, ..Found::default() };
    if length > 0 {
        let mut last = [0];
        file.seek(SeekFrom::Start(length.saturating_sub(1)))?;
        file.read_exact(&mut last)?;
        found.torn = last != *b"\n";
    }
    let lowest = length.saturating_sub(SOUGHT_MAX);
    // Pieces overlap, so that a beginning that lies across two of them is seen whole in one.
    let overlap = FRONT.len() as u64;
    let mut end = length;
    let mut piece = vec![0; PIECE];
    while end > lowest {
        let start = end.saturating_sub(PIECE as u64 - overlap).max(lowest);
        let wanted = usize::try_from(end.saturating_add(overlap).min(length).saturating_sub(start)).unwrap_or(PIECE);
        let Some(space) = piece.get_mut(..wanted) else { break };
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(space)?;
        let space = &*space;
        for at in memchr::memmem::rfind_iter(space, FRONT) {
            let begins = match at.checked_sub(1) {
                Some(before) => space.get(before) == Some(&b'\n'),
                None => start == 0 || byte_before(&mut file, start)? == b'\n',
            };
            let at = start.saturating_add(at as u64);
            if begins && let Some(checkpoint) = checkpoint_at(&mut file, at)? {
                found.last = Some((checkpoint, at));
                return Ok(found);
            }
        }
        end = start;
    }
    Ok(found)
}

fn byte_before(file: &mut File, at: u64) -> io::Result<u8> {
    let mut byte = [0];
    file.seek(SeekFrom::Start(at.saturating_sub(1)))?;
    file.read_exact(&mut byte)?;
    let [byte] = byte;
    Ok(byte)
}

fn checkpoint_at(file: &mut File, at: u64) -> io::Result<Option<Checkpoint>> {
    let mut line = Vec::new();
    file.seek(SeekFrom::Start(at))?;
    file.take(MAX_LINE as u64).read_to_end(&mut line)?;
    let end = memchr::memchr(b'\n', &line).map_or(line.len(), |newline| newline.saturating_add(1));
    Ok(line.get(..end).and_then(Checkpoint::parse))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::verify::{Verdict, Verifier, Wish};
    use tempfile::TempDir;

    fn wish() -> Checkpoints {
        Checkpoints { every: Duration::from_secs(10), lines: Some(100), key: None }
    }

    /// A process' life: what it finds, then lines of a pen, then an end, orderly or not.
    fn live(path: &Path, lines: &[u8], stop: bool) -> Reason {
        let mut proof = Proof::begin("file", &wish(), Some(path)).unwrap();
        let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        // What the writer does for every file that ends in half a line.
        if fs::read(path).unwrap().last().is_some_and(|last| *last != b'\n') {
            file.write_all(b"\n").unwrap();
            proof.append(b"\n");
        }
        let reason = proof.first().unwrap();
        checkpoint(&mut proof, &mut file, &reason);
        file.write_all(lines).unwrap();
        proof.append(lines);
        proof.settle(&[]);
        if stop {
            checkpoint(&mut proof, &mut file, &Reason::Stop);
        }
        reason
    }

    fn checkpoint(proof: &mut Proof, file: &mut File, reason: &Reason) {
        let line = proof.render(7, reason.clone());
        file.write_all(&line).unwrap();
        proof.seal(&line);
        proof.settle(&[]);
    }

    fn verdict(files: &[&Path]) -> Verdict {
        let mut verifier = Verifier::new(Wish::default());
        for path in files {
            verifier.begin_file(&path.display().to_string());
            verifier.feed(&fs::read(path).unwrap());
        }
        let report = verifier.finish();
        assert!(report.findings.iter().all(|_| report.verdict() == Verdict::Broken), "{report:#?}");
        report.verdict()
    }

    fn dir() -> (TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        (dir, path)
    }

    fn why(reason: &Reason) -> &'static str {
        match reason {
            Reason::Start { after: Some((_, why)), .. } => why,
            _ => panic!("{reason:?}"),
        }
    }

    #[test]
    fn a_chain_goes_on_over_orderly_and_disorderly_ends() {
        let (_dir, path) = dir();
        assert_eq!(live(&path, b"one\n", true), Reason::Start { before: Some(0), after: None });
        assert_eq!(live(&path, b"two\nthr", false), Reason::Resume(Unproven::default()));
        assert_eq!(live(&path, b"", true), Reason::Resume(Unproven { bytes: 7, lines: 2, torn: true }));
        assert_eq!(live(&path, b"four\n", true), Reason::Resume(Unproven::default()));
        assert_eq!(verdict(&[&path]), Verdict::Proven);
    }

    #[test]
    fn what_stood_in_the_file_before_the_chain_is_not_covered_and_said() {
        let (_dir, path) = dir();
        fs::write(&path, b"before").unwrap();
        assert_eq!(live(&path, b"one\n", true), Reason::Start { before: Some(7), after: None });
        assert_eq!(verdict(&[&path]), Verdict::Proven);
    }

    #[test]
    fn a_file_that_was_moved_away_is_followed_by_its_head() {
        let (dir, path) = dir();
        live(&path, b"one\n", true);
        let moved = dir.path().join("audit.jsonl.1");
        fs::rename(&path, &moved).unwrap();
        assert_eq!(live(&path, b"two\n", true), Reason::Resume(Unproven::default()));
        assert_eq!(verdict(&[&moved, &path]), Verdict::Proven);
    }

    #[test]
    fn a_file_and_a_head_that_disagree_begin_a_new_chain_that_names_the_head() {
        let (_dir, path) = dir();
        live(&path, b"one\n", true);
        let short = fs::read(&path).unwrap();
        live(&path, b"two\n", true);
        // Cut off at a checkpoint.
        fs::write(&path, &short).unwrap();
        assert_eq!(why(&live(&path, b"three\n", true)), "the file ends before the last checkpoint");
        assert_eq!(verdict(&[&path]), Verdict::Broken);
        // Written by somebody else.
        fs::write(&path, b"something\n").unwrap();
        assert_eq!(why(&live(&path, b"", true)), "the file has no checkpoint");
        let (_other, elsewhere) = self::dir();
        live(&elsewhere, b"one\n", true);
        fs::copy(&elsewhere, &path).unwrap();
        assert_eq!(why(&live(&path, b"", true)), "the file ends with another chain");
        // The same chain, gone on with twice.
        let copy = elsewhere.with_file_name("copy.jsonl");
        fs::copy(&elsewhere, &copy).unwrap();
        fs::copy(head_file(&elsewhere), head_file(&copy)).unwrap();
        live(&elsewhere, b"two\n", true);
        live(&copy, b"three\n", true);
        fs::copy(head_file(&copy), head_file(&elsewhere)).unwrap();
        assert_eq!(why(&live(&elsewhere, b"", true)), "the last checkpoint in the file is another one");
    }

    #[test]
    fn a_head_that_lags_behind_is_no_fault() {
        let (_dir, path) = dir();
        live(&path, b"one\n", true);
        let head = fs::read(head_file(&path)).unwrap();
        live(&path, b"two\n", true);
        fs::write(head_file(&path), head).unwrap();
        assert_eq!(live(&path, b"", true), Reason::Resume(Unproven::default()));
        assert_eq!(verdict(&[&path]), Verdict::Proven);
    }

    #[test]
    fn a_head_file_that_is_gone_or_no_head_does_not_stop_the_chain() {
        let (_dir, path) = dir();
        live(&path, b"one\n", true);
        for head in [None, Some(&b"rubbish"[..]), Some(b"")] {
            fs::remove_file(head_file(&path)).unwrap();
            if let Some(head) = head {
                fs::write(head_file(&path), head).unwrap();
            }
            assert_eq!(live(&path, b"more\n", true), Reason::Resume(Unproven::default()));
        }
        assert_eq!(verdict(&[&path]), Verdict::Proven);
    }

    #[test]
    fn the_head_file_is_the_last_checkpoint_and_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let (dir, path) = dir();
        live(&path, b"one\n", true);
        let text = fs::read(&path).unwrap();
        let last = text.split_inclusive(|byte| *byte == b'\n').next_back().unwrap();
        assert_eq!(fs::read(head_file(&path)).unwrap(), last);
        assert_eq!(fs::metadata(head_file(&path)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing else is left behind");
    }

    #[test]
    fn the_last_checkpoint_is_found_wherever_pieces_of_the_file_end() {
        let (_dir, path) = dir();
        live(&path, b"one\n", true);
        let text = fs::read(&path).unwrap();
        let last = memchr::memmem::rfind(&text, FRONT).unwrap();
        // Filled up behind it, so that the beginning of the last checkpoint lies at each place around the edge of a piece.
        for behind in (PIECE - text.len() - 40..PIECE + 40).step_by(7).chain([0, 1, 3 * PIECE + 5]) {
            fs::write(&path, [&text[..], &vec![b'x'; behind]].concat()).unwrap();
            let found = look(File::open(&path).unwrap()).unwrap();
            assert_eq!(found.last.map(|(_, at)| at), Some(last as u64), "{behind} bytes behind");
        }
        // One that was torn does not count, nor one inside of a line.
        let torn = [&text[..], b"x", &text[last..], &text[last..last + 60]].concat();
        fs::write(&path, &torn).unwrap();
        let found = look(File::open(&path).unwrap()).unwrap();
        assert_eq!(found.last.map(|(_, at)| at), Some(last as u64));
        assert!(found.torn);
    }

    #[test]
    fn a_checkpoint_is_due_by_time_by_lines_and_by_bytes() {
        let mut proof = Proof::begin("stdout", &wish(), None).unwrap();
        assert_eq!(proof.first(), Some(Reason::Start { before: None, after: None }));
        let begun = clock::now();
        let later = |seconds| begun + Duration::from_secs(seconds);
        let due = |proof: &Proof| proof.due_at(|| later(9));
        assert_eq!((due(&proof), proof.progress().last()), (None, None));
        let line = proof.render(16, Reason::Start { before: None, after: None });
        proof.seal(&line);
        proof.append_at(b"one\n", || later(5));
        proof.append_at(b"two\n", || later(9));
        assert_eq!(due(&proof), Some(Duration::from_secs(6)), "ten seconds from the first line");
        assert_eq!(proof.due_at(|| later(15)), Some(Duration::ZERO));
        proof.append_at(&b"x\n".repeat(98), || later(9));
        assert_eq!(due(&proof), Some(Duration::ZERO), "a hundred lines");
        let line = proof.render(17, Reason::Interval);
        proof.seal(&line);
        assert_eq!((due(&proof), proof.progress().last()), (None, None), "not told before the block is done");
        proof.settle(&[]);
        assert_eq!(proof.progress().last(), Some((2, 17)));
        for _ in 0..65 {
            proof.append_at(&vec![b'x'; 1 << 20], || later(1));
        }
        assert_eq!(due(&proof), Some(Duration::ZERO), "more than 64 MiB");
    }
}
