//! A file or standard output: opening, its end, its disk.

use super::rotate::Rotator;
use crate::audit::target::{FileTarget, Fsync};
use rustix::fs::{FileType, Mode, OFlags, fchmod, fstat};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd},
        unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The most that one call writes. Who waits for room is told after each: a queue that is full would otherwise become free all
/// at once, some milliseconds later. More gains nothing.
const WRITE_MAX: usize = 256 * 1024;

/// A file that is being written.
pub(super) struct LogFile {
    file: File,
    /// Bytes in it, where that can be told.
    size: u64,
    /// Neither pipe nor device: it has a size, a disk and a place of its own.
    regular: bool,
    /// Its path, and the mode of a new one.
    place: Option<(PathBuf, u32)>,
    fsync: Fsync,
    /// Since when something in it has not been synchronised, for [`Fsync::Within`].
    unsynced: Option<Instant>,
    /// The last synchronising failed, and the log has said so.
    sync_failing: bool,
    rotator: Option<Rotator>,
    /// A disk that is broken as long as it says so.
    #[cfg(test)]
    pub(super) broken: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl LogFile {
    /// Over an open file. Without a target it is standard output.
    pub(super) fn new(file: File, target: Option<&FileTarget>) -> Self {
        let mut log = Self {
            file,
            size: 0,
            regular: false,
            place: target.map(|target| (target.path.clone(), target.mode)),
            fsync: target.map_or(Fsync::Never, |target| target.fsync),
            unsynced: None,
            sync_failing: false,
            rotator: target.and_then(Rotator::new),
            #[cfg(test)]
            broken: std::sync::Arc::default(),
        };
        log.look();
        log
    }

    /// The same place, another file: one that was opened there, by somebody who did not know that this one was about to be
    /// put aside. If it was that one, what is at the place now is meant.
    pub(super) fn go_over(&mut self, file: File) {
        self.begin(match &self.place {
            Some((path, mode)) if !is_at(&file, path) => open(path, *mode).unwrap_or(file),
            _ => file,
        });
    }

    fn begin(&mut self, file: File) {
        self.file = file;
        self.unsynced = None;
        self.look();
    }

    /// What kind of file it is, how large, and of which period.
    fn look(&mut self) {
        let stat = fstat(&self.file).ok();
        let kind = stat.map(|stat| FileType::from_raw_mode(stat.st_mode));
        self.regular = kind == Some(FileType::RegularFile);
        self.size = stat.filter(|_| self.regular).and_then(|stat| u64::try_from(stat.st_size).ok()).unwrap_or(0);
        if let Some(rotator) = &mut self.rotator {
            let written = stat.and_then(|stat| u64::try_from(stat.st_mtime).ok()).filter(|_| self.size > 0);
            rotator.begin(written);
        }
    }

    /// Writes the first of these bytes, and tells how many.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.file.write(bytes.get(..WRITE_MAX).unwrap_or(bytes))?;
        self.size = self.size.saturating_add(taken as u64);
        if matches!(self.fsync, Fsync::Within(_)) && self.unsynced.is_none() {
            self.unsynced = Some(super::clock::now());
        }
        Ok(taken)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Whether this is a file that somebody left in the middle of a line.
    pub(super) fn ends_in_half_a_line(&self) -> bool {
        let Some(last) = self.size.checked_sub(1).filter(|_| self.regular) else { return false };
        let mut byte = [b'\n'];
        // It is open for writing only, and what is at its path may be another by now.
        let reader = File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        if let Err(error) = reader.and_then(|reader| reader.read_exact_at(&mut byte, last)) {
            tracing::warn!(%error, "the end of the audit file cannot be read: whether its last line is whole is not known");
        }
        byte != [b'\n']
    }

    /// Whether nothing counts as written before it is on the disk.
    pub(super) fn syncs_first(&self) -> bool {
        self.fsync == Fsync::Always
    }

    /// Writes it to its disk. Pipes and terminals have none; that is no loss.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        #[cfg(test)]
        if self.broken.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(io::Error::other("the disk is broken"));
        }
        match self.file.sync_data() {
            Err(error) if error.kind() != ErrorKind::InvalidInput => Err(error),
            _ => {
                self.unsynced = None;
                Ok(())
            }
        }
    }

    /// Cuts off what could not be synchronised: after a failed fsync(2) nobody knows what of it is on the disk, and a
    /// second one would say that all is well.
    pub(super) fn cut_back(&mut self, by: u64) -> io::Result<()> {
        let size = self.size.saturating_sub(by);
        if self.regular {
            self.file.set_len(size)?;
        }
        self.size = size;
        Ok(())
    }

    /// Synchronises what has waited long enough, or all; a failure is said once.
    pub(super) fn sync_due(&mut self, all: bool) {
        let due = match (self.fsync, self.unsynced) {
            (Fsync::Within(within), Some(since)) => {
                all || super::clock::now().saturating_duration_since(since) >= within
            }
            _ => false,
        };
        if !due {
            return;
        }
        match self.sync() {
            Ok(()) => self.sync_failing = false,
            Err(error) => {
                self.unsynced = Some(super::clock::now());
                if !std::mem::replace(&mut self.sync_failing, true) {
                    tracing::error!(%error, "the audit file cannot be synchronised; a crash of this host may lose its last lines");
                }
            }
        }
    }

    /// How long until something is due that nobody wakes us for.
    pub(super) fn due_in(&self) -> Option<Duration> {
        let sync = match (self.fsync, self.unsynced) {
            (Fsync::Within(within), Some(since)) => {
                Some(within.saturating_sub(super::clock::now().saturating_duration_since(since)))
            }
            _ => None,
        };
        let rotation = self.rotator.as_ref().filter(|_| self.rotates()).and_then(Rotator::due_in);
        sync.into_iter().chain(rotation).min()
    }

    fn rotates(&self) -> bool {
        self.regular && self.size > 0
    }

    /// How many of these runs go into this file; none if it is to be rotated before. Of a file that is empty or cannot be
    /// rotated, at least one.
    pub(super) fn takes(&self, runs: impl Iterator<Item = usize>) -> usize {
        let Some(rotator) = self.rotator.as_ref().filter(|rotator| self.regular && !rotator.is_waiting()) else {
            return runs.count();
        };
        if self.rotates() && rotator.is_due() {
            return 0;
        }
        let Some(max) = rotator.size() else { return runs.count() };
        let mut size = self.size;
        let mut taken = 0_usize;
        for length in runs {
            size = size.saturating_add(length as u64);
            if size > max && (taken > 0 || self.size > 0) {
                break;
            }
            taken = taken.saturating_add(1);
        }
        taken
    }

    /// Whether the time has come to rotate it, whoever writes.
    pub(super) fn is_due(&self) -> bool {
        self.rotates() && self.rotator.as_ref().is_some_and(|rotator| !rotator.is_waiting() && rotator.is_due())
    }

    /// A new file for the place of this one; nothing has changed yet. A failure is said once.
    pub(super) fn prepare(&mut self) -> Option<File> {
        self.rotator.as_mut()?.prepare()
    }

    /// Puts this file aside and the new one in its place.
    pub(super) fn rotate(&mut self, next: File) -> Option<PathBuf> {
        if self.fsync != Fsync::Never
            && let Err(error) = self.sync()
        {
            tracing::error!(%error, "an audit file that is put aside could not be synchronised");
        }
        let rotator = self.rotator.as_mut()?;
        let (file, aside) = rotator.swap(&self.file, next)?;
        if self.fsync != Fsync::Never {
            rotator.sync_folder();
        }
        rotator.discard();
        self.begin(file);
        Some(aside)
    }
}

/// Whether the file is the one at the path.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    let there = fs::metadata(path).ok().map(|there| (there.dev(), there.ino()));
    there.is_some() && there == file.metadata().ok().map(|ours| (ours.dev(), ours.ino()))
}

/// Opens a file to append to it, and makes it if it is not there. Pipes are opened without blocking, so that the thread
/// can say that nobody reads, and can be told to close.
pub(super) fn open(path: &Path, mode: u32) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let mut options = OpenOptions::new();
    options.append(true).custom_flags(flags).mode(mode);
    match options.open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        other => return other,
    }
    match options.clone().create_new(true).open(path) {
        Ok(file) => {
            // The umask may have taken some of it away.
            fchmod(&file, Mode::from_raw_mode(mode))?;
            Ok(file)
        }
        // Somebody else was faster; or it is a link to nowhere, which `create` follows.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => options.create(true).open(path),
        Err(error) => Err(error),
    }
}

/// Standard output.
pub(super) fn stdout() -> io::Result<File> {
    let stdout = io::stdout();
    let fd = stdout.as_fd();
    let kind = FileType::from_raw_mode(fstat(fd)?.st_mode);
    // A second opening has flags of its own: the terminal or pipe shared with others stays as it is. A regular file would
    // lose its position that way, and a socket cannot be opened; those are duplicated.
    if matches!(kind, FileType::Fifo | FileType::CharacterDevice)
        && let Ok(file) = open(Path::new("/proc/self/fd/1"), 0o600)
    {
        return Ok(file);
    }
    Ok(File::from(fd.try_clone_to_owned()?))
}

#[cfg(test)]
mod tests {
    use super::{LogFile, WRITE_MAX};

    #[test]
    fn much_is_written_in_parts_so_that_who_waits_for_room_is_told_in_between() {
        let mut log = LogFile::new(tempfile::tempfile().expect("a file"), None);
        let bytes = vec![b'x'; 2 * WRITE_MAX + 1];
        let mut rest = bytes.as_slice();
        let mut parts = Vec::new();
        while !rest.is_empty() {
            let taken = log.write(rest).expect("a disk with room");
            parts.push(taken);
            rest = rest.get(taken..).expect("no more than there was");
        }
        assert_eq!(parts, [WRITE_MAX, WRITE_MAX, 1]);
        assert_eq!(log.file.metadata().expect("its length").len(), bytes.len() as u64);
    }
}
