//! `ravelin audit verify`: files in the order of their chain, and what the verifier says of them.

mod told;

use crate::{
    audit::{
        chain::{Checkpoint, FRONT},
        encode::MAX_LINE,
        keys::PublicKey,
        verify::{Anchor, Verdict, Verifier, Wish},
    },
    cli::{complain, exit},
    tls::pem,
};
use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Bytes read at once.
const PIECE: usize = 256 * 1024;
/// A file's first checkpoint is its first line, unless its chain began later. It is looked for so far.
const SOUGHT_MAX: u64 = 64 * 1024 * 1024;

/// Arguments of `ravelin audit verify`.
#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    /// The files of one output, in any order: they are put in the order of their chain. `-` for standard input, alone or in
    /// the order given.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Demand that every checkpoint is signed, by the key whose public half is in this file (PEM). May be repeated, for a key
    /// that was changed.
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,

    /// Demand that this checkpoint is in the stream: its sha256, or a file with its line. Shows that the end was not cut off.
    /// What is found beside a FILE under its name with `.head` is demanded anyway. May be repeated.
    #[arg(long, value_name = "SHA256|FILE")]
    head: Vec<PathBuf>,

    /// Demand that the stream ends with the checkpoint of an orderly stop.
    #[arg(long)]
    complete: bool,

    /// Demand that the stream begins with its chain.
    #[arg(long)]
    from_start: bool,

    /// Print JSON for programs.
    #[arg(long)]
    json: bool,
}

/// What keeps it from saying anything: the exit code, and why.
type Fault = (u8, String);

/// Verifies: 0 if everything up to the last checkpoint is proven, 5 if not, 1 if a file cannot be read, 3 if a key or head
/// is none.
pub(super) fn main(args: &VerifyArgs) -> ExitCode {
    let done = verify(args).and_then(|(rendered, verdict)| {
        match io::stdout().lock().write_all(rendered.as_bytes()) {
            // `ravelin audit verify … | head -1`: the exit code still says it.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err((exit::FAILURE, format!("cannot print: {error}")))
            }
            _ => Ok(verdict),
        }
    });
    match done {
        Ok(Verdict::Proven) => ExitCode::SUCCESS,
        Ok(Verdict::Broken | Verdict::NothingToProveBy) => ExitCode::from(exit::UNPROVEN),
        Err((code, message)) => {
            complain(&format_args!("error: {message}"));
            ExitCode::from(code)
        }
    }
}

fn verify(args: &VerifyArgs) -> Result<(String, Verdict), Fault> {
    let keys = args.key.iter().map(|path| key(path)).collect::<Result<_, _>>()?;
    let mut anchors = args.head.iter().map(|text| anchor(text)).collect::<Result<Vec<_>, _>>()?;
    // Before the files are read: a live process goes on writing both, the file first.
    for file in &args.files {
        anchors.extend(beside(file)?);
    }
    let wish = Wish { keys, anchors, complete: args.complete, from_start: args.from_start };
    let mut verifier = Verifier::new(wish);
    for path in in_order(&args.files)? {
        let mut file = open(&path)?;
        verifier.begin_file(&path.to_string_lossy());
        let mut piece = vec![0; PIECE];
        loop {
            match file.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => verifier.feed(piece.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(&path, &error)),
            }
        }
    }
    let report = verifier.finish();
    let rendered = if args.json { told::json(&report) } else { told::text(&report) };
    Ok((rendered, report.verdict()))
}

fn unreadable(path: &Path, error: &io::Error) -> Fault {
    (exit::FAILURE, format!("{} cannot be read: {error}", path.display()))
}

fn open(path: &Path) -> Result<Box<dyn Read>, Fault> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    File::open(path).map(|file| Box::new(file) as Box<dyn Read>).map_err(|error| unreadable(path, &error))
}

fn key(path: &Path) -> Result<PublicKey, Fault> {
    let fault = |what: &dyn std::fmt::Display| {
        let hint = "make it with `openssl pkey -in KEY.pem -pubout -out PUB.pem`";
        (exit::CONFIG, format!("{}: {what}; {hint}", path.display()))
    };
    let pem = pem::read(path).map_err(|flaw| fault(&flaw))?;
    let der = pem::public_key(&pem).map_err(|flaw| fault(&flaw))?;
    PublicKey::from_spki(&der).map_err(|flaw| fault(&flaw))
}

/// A head by its digest, or the file that holds its line.
fn anchor(text: &Path) -> Result<Anchor, Fault> {
    if let Some(digest) = text.to_str()
        && digest.len() == 64
        && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        return Ok(Anchor::Digest(digest.to_ascii_lowercase()));
    }
    let line = small(text).map_err(|error| unreadable(text, &error))?;
    checkpoint_of(&line).map(|head| Anchor::Line(Box::new(head), text.display().to_string())).ok_or_else(|| {
        (exit::CONFIG, format!("{} holds no checkpoint line, and is no sha256 of 64 digits", text.display()))
    })
}

/// The head file that the writer keeps beside a file.
fn beside(file: &Path) -> Result<Option<Anchor>, Fault> {
    let mut name = file.as_os_str().to_owned();
    name.push(".head");
    let path = PathBuf::from(name);
    if file == Path::new("-") || !fs::metadata(&path).is_ok_and(|known| known.is_file()) {
        return Ok(None);
    }
    let line = small(&path).map_err(|error| unreadable(&path, &error))?;
    match checkpoint_of(&line) {
        Some(head) => Ok(Some(Anchor::Line(Box::new(head), path.display().to_string()))),
        None => {
            complain(&format_args!("warning: {} holds no checkpoint line and proves nothing", path.display()));
            Ok(None)
        }
    }
}

/// The front of a file, more than any line has.
fn small(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(2 * MAX_LINE as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The checkpoint in a file of one line, whose newline an editor may have lost.
fn checkpoint_of(text: &[u8]) -> Option<Checkpoint> {
    let line = text.strip_suffix(b"\n").unwrap_or(text);
    Checkpoint::parse(&[line, b"\n"].concat())
}

/// Where a file belongs: its chain, and its place in it.
struct Belongs {
    path: PathBuf,
    chain: Option<String>,
    n: u64,
    ts: String,
}

/// Files that can be looked at beforehand, in the order of their chains; others as they were given.
fn in_order(files: &[PathBuf]) -> Result<Vec<PathBuf>, Fault> {
    let known = |path: &PathBuf| fs::metadata(path).is_ok_and(|known| known.is_file());
    if files.len() < 2 || !files.iter().all(known) {
        return Ok(files.to_vec());
    }
    let mut belong = files.iter().map(|path| belongs(path)).collect::<Result<Vec<_>, _>>()?;
    // A chain's files stand together, at its earliest one's time.
    let mut begun: HashMap<String, String> = HashMap::new();
    for Belongs { chain, ts, .. } in &belong {
        if let Some(chain) = chain {
            let earliest = begun.entry(chain.clone()).or_insert_with(|| ts.clone());
            if ts < earliest {
                earliest.clone_from(ts);
            }
        }
    }
    belong.sort_by_cached_key(|of| {
        let began = of.chain.as_ref().and_then(|chain| begun.get(chain)).unwrap_or(&of.ts).clone();
        (began, of.chain.clone(), of.n, of.ts.clone())
    });
    Ok(belong.into_iter().map(|of| of.path).collect())
}

fn belongs(path: &Path) -> Result<Belongs, Fault> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let mut reader = BufReader::with_capacity(PIECE, file.take(SOUGHT_MAX));
    let mut belongs = Belongs { path: path.to_owned(), chain: None, n: 0, ts: String::new() };
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader).take(2 * MAX_LINE as u64).read_until(b'\n', &mut line);
        if read.map_err(|error| unreadable(path, &error))? == 0 {
            return Ok(belongs);
        }
        if belongs.ts.is_empty() {
            belongs.ts = time_of(&line).unwrap_or_default();
        }
        if line.starts_with(FRONT)
            && let Some(first) = Checkpoint::parse(&line)
        {
            return Ok(Belongs { chain: Some(first.chain), n: first.n, ts: first.ts, ..belongs });
        }
    }
}

/// The time of a record; sorting is all it is for.
fn time_of(line: &[u8]) -> Option<String> {
    let from = memchr::memmem::find(line, b",\"ts\":\"")?.checked_add(7)?;
    let text = line.get(from..from.checked_add(27)?)?;
    std::str::from_utf8(text).ok().map(str::to_owned)
}
