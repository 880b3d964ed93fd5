//! Files that are put aside: `audit.jsonl` becomes `audit.jsonl.20261121T140503.412345Z`, by the time at which it was.
//!
//! The new file is there, under a hidden name, before anything changes, so a disk without room or a folder that may not
//! be written leave all as it was. No file is ever overwritten: both renamings refuse to (`RENAME_NOREPLACE`). The time
//! in a name is never before that of the last one, whatever the clock says, so that names sort in the order of the
//! stream.

use super::clock;
use crate::audit::target::{FileTarget, Rotation};
use jiff::Timestamp;
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};
use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// After a failure the next attempt is made so much later.
const RETRY: Duration = Duration::from_secs(10);
/// Attempts to find a name that nobody has.
const NAMES_MAX: u64 = 1000;

/// The place of a file that is rotated.
pub(super) struct Rotator {
    path: PathBuf,
    mode: u32,
    rotation: Rotation,
    /// Which multiple of [`Rotation::every`] the file is of.
    period: u64,
    /// The time in the last name.
    last_us: u64,
    /// Not before then, after a failure; the log has said it.
    retry: Option<Instant>,
}

impl Rotator {
    /// For a file that is to be rotated.
    pub(super) fn new(target: &FileTarget) -> Option<Self> {
        let FileTarget { path, mode, rotation, .. } = target;
        if rotation.size.is_none() && rotation.every.is_none() {
            return None;
        }
        let mut new = Self { path: path.clone(), mode: *mode, rotation: *rotation, period: 0, last_us: 0, retry: None };
        new.last_us = new.stamped().ok().and_then(|found| found.last().map(|(us, _)| *us)).unwrap_or(0);
        Some(new)
    }

    /// A file begins, or goes on that was written to at this second last.
    pub(super) fn begin(&mut self, written: Option<u64>) {
        self.period = self.period_of(written.map_or_else(clock::wall_us, |second| second.saturating_mul(1_000_000)));
    }

    fn every_us(&self) -> Option<u64> {
        self.rotation.every.and_then(|every| u64::try_from(every.as_micros()).ok()).filter(|every| *every > 0)
    }

    fn period_of(&self, us: u64) -> u64 {
        self.every_us().and_then(|every| us.checked_div(every)).unwrap_or(0)
    }

    pub(super) fn size(&self) -> Option<u64> {
        self.rotation.size
    }

    /// Whether the file's time is over. A clock that is set back ends none.
    pub(super) fn is_due(&self) -> bool {
        self.rotation.every.is_some() && self.period_of(clock::wall_us()) > self.period
    }

    /// How long until it is.
    pub(super) fn due_in(&self) -> Option<Duration> {
        let end = self.period.saturating_add(1).saturating_mul(self.every_us()?);
        let left = Duration::from_micros(end.saturating_sub(clock::wall_us()));
        Some(self.retry.map_or(left, |retry| left.max(retry.saturating_duration_since(clock::now()))))
    }

    /// Whether the last attempt failed, and it is not time for another.
    pub(super) fn is_waiting(&self) -> bool {
        self.retry.is_some_and(|retry| clock::now() < retry)
    }

    fn hidden(&self) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(".next");
        self.path.with_file_name(name)
    }

    fn folder(&self) -> &Path {
        self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// Opens what is to be the new file.
    pub(super) fn prepare(&mut self) -> Option<File> {
        match super::file::open(&self.hidden(), self.mode) {
            Ok(file) => Some(file),
            Err(error) => self.failed(&error),
        }
    }

    fn failed<T>(&mut self, error: &io::Error) -> Option<T> {
        let first = self.retry.is_none();
        self.retry = clock::now().checked_add(RETRY);
        if first {
            tracing::error!(
                file = %self.path.display(), %error,
                "the audit file cannot be rotated; the old one goes on and is tried again every {} s", RETRY.as_secs()
            );
        }
        None
    }

    /// Puts `current` aside and `next` in its place, or leaves all as it was.
    pub(super) fn swap(&mut self, current: &File, next: File) -> Option<(File, PathBuf)> {
        match self.try_swap(current, next) {
            Ok(swapped) => {
                if self.retry.take().is_some() {
                    tracing::info!(file = %self.path.display(), "the audit file could be rotated again");
                }
                Some(swapped)
            }
            Err(error) => self.failed(&error),
        }
    }

    fn try_swap(&mut self, current: &File, next: File) -> io::Result<(File, PathBuf)> {
        // Somebody else may have moved it; then what is there now is not ours to move.
        let aside = if super::file::is_at(current, &self.path) { Some(self.put_aside()?) } else { None };
        let file = match rename_new(&self.hidden(), &self.path) {
            Ok(()) => next,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let _ = fs::remove_file(self.hidden());
                super::file::open(&self.path, self.mode)?
            }
            Err(error) => {
                if let Some(aside) = &aside {
                    rename_new(aside, &self.path)?;
                }
                return Err(error);
            }
        };
        Ok((file, aside.unwrap_or_else(|| self.path.clone())))
    }

    /// Gives the file at the path the name by which it is kept.
    fn put_aside(&mut self) -> io::Result<PathBuf> {
        let mut us = clock::wall_us().max(self.last_us.saturating_add(1));
        for _ in 0..NAMES_MAX {
            let aside = self.named(us);
            match rename_new(&self.path, &aside) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => us = us.saturating_add(1),
                other => {
                    self.last_us = us;
                    return other.map(|()| aside);
                }
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    fn named(&self, us: u64) -> PathBuf {
        let time = i64::try_from(us).ok().and_then(|us| Timestamp::from_microsecond(us).ok()).unwrap_or(Timestamp::MAX);
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(time.strftime(".%Y%m%dT%H%M%S.%6fZ").to_string());
        self.path.with_file_name(name)
    }

    /// The files that were put aside, by the time in their names, oldest first.
    fn stamped(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.folder())? {
            let path = entry?.path();
            let us = time_in(&path, &self.path).filter(|us| self.named(*us) == path);
            found.extend(us.map(|us| (us, path)));
        }
        found.sort();
        Ok(found)
    }

    /// Removes the oldest of them beyond [`Rotation::keep`].
    pub(super) fn discard(&self) {
        let Some(keep) = self.rotation.keep.and_then(|keep| usize::try_from(keep).ok()) else { return };
        let removed = self.stamped().and_then(|found| {
            let many = found.len().saturating_sub(keep);
            found.iter().take(many).try_for_each(|(_, path)| fs::remove_file(path))
        });
        if let Err(error) = removed {
            tracing::error!(file = %self.path.display(), %error, "old audit files cannot be removed");
        }
    }

    /// Names of files are on the disk only when their folder is.
    pub(super) fn sync_folder(&self) {
        if let Err(error) = File::open(self.folder()).and_then(|folder| folder.sync_all()) {
            tracing::error!(file = %self.path.display(), %error, "the folder of the audit file cannot be synchronised");
        }
    }
}

/// The time in the name of a file that was put aside from `of`, in microseconds since 1970.
fn time_in(path: &Path, of: &Path) -> Option<u64> {
    let name = path.file_name()?.as_bytes().strip_prefix(of.file_name()?.as_bytes())?.strip_prefix(b".")?;
    let time: Timestamp = std::str::from_utf8(name).ok()?.parse().ok()?;
    u64::try_from(time.as_microsecond()).ok()
}

/// Renames, unless there is something already.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A filesystem that cannot say it in one step (NFS, FUSE).
        Err(Errno::INVAL | Errno::NOSYS) => match fs::symlink_metadata(to) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => fs::rename(from, to),
        },
        other => Ok(other?),
    }
}
