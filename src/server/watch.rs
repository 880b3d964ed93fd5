//! Whether the configuration or a file that it names has changed: asked by content, because a Kubernetes volume changes
//! behind a symbolic link, editors put new files in the place of old ones, and a copy keeps the time of its original.
//!
//! What has changed is put in force once it was found alike twice, so that what is only half written is rarely seen; one
//! that cannot be put in force is tried again at every look, for its cause may be elsewhere (a mode, the other half of a
//! pair). That is said once.

use crate::config::settings::Settings;
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::Instant;

/// Most bytes of a file, and entries of a folder, that are looked at. A configuration names nothing as large.
const BYTES_MAX: u64 = 256 * 1024 * 1024;
const ENTRIES_MAX: usize = 4096;

/// A digest of each file; none of one that cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Digests(BTreeMap<PathBuf, Option<[u8; 32]>>);

impl Digests {
    /// Of every file that these settings name.
    pub(super) fn of(settings: &Settings) -> Self {
        Self(settings.files().into_iter().map(|file| (file.path.clone(), digest(&file.path).ok())).collect())
    }

    /// The same, but for files that were different before: they have changed meanwhile, and that is to be noticed.
    pub(super) fn unless_changed_since(mut self, before: &Self) -> Self {
        for (path, digest) in &before.0 {
            if let Some(mine) = self.0.get_mut(path) {
                *mine = *digest;
            }
        }
        self
    }

    /// Whether this file is not as it was.
    pub(super) fn differs(&self, before: &Self, path: &Path) -> bool {
        matches!((self.0.get(path), before.0.get(path)), (Some(now), Some(then)) if now != then)
    }
}

fn digest(path: &Path) -> io::Result<[u8; 32]> {
    let mut all = Sha256::new();
    if fs::metadata(path)?.is_dir() {
        let mut names: Vec<PathBuf> =
            fs::read_dir(path)?.take(ENTRIES_MAX).filter_map(|entry| Some(entry.ok()?.path())).collect();
        names.sort();
        for each in names.iter().filter(|each| each.is_file()) {
            all.update(each.as_os_str().as_encoded_bytes());
            feed(each, &mut all)?;
        }
    } else {
        feed(path, &mut all)?;
    }
    Ok(all.finalize().into())
}

fn feed(path: &Path, all: &mut Sha256) -> io::Result<()> {
    // Asked before opening: opening a named pipe would wait for a writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut file = File::open(path)?.take(BYTES_MAX);
    let mut piece = zeroize::Zeroizing::new([0; 16 * 1024]);
    loop {
        match file.read(&mut piece[..])? {
            0 => return Ok(()),
            read => all.update(piece.get(..read).unwrap_or_default()),
        }
    }
}

/// What is to be done after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// Nothing is new.
    Same,
    /// Something is, and it may still be changing.
    Changing,
    /// Something is, and was the same at the last look.
    Changed,
    /// What could not be put in force is as it was then.
    Unmended,
}

/// The watch over the files.
#[derive(Debug)]
pub(super) struct Watch {
    next: Instant,
    seen: Option<Digests>,
    failed: Option<Digests>,
}

impl Watch {
    /// A watch that begins now.
    pub(super) fn new() -> Self {
        Self { next: Instant::now(), seen: None, failed: None }
    }

    /// When the next look is due.
    pub(super) fn due(&self, every: Option<Duration>) -> Option<Instant> {
        every.map(|_| self.next)
    }

    /// Looks: what is in force, and what there is now.
    pub(super) fn look(&mut self, every: Duration, in_force: &Digests, now: Digests) -> Sight {
        self.next = Instant::now() + every;
        self.judge(in_force, now)
    }

    fn judge(&mut self, in_force: &Digests, now: Digests) -> Sight {
        if self.failed.as_ref() == Some(&now) {
            return Sight::Unmended;
        }
        if self.failed.is_none() && *in_force == now {
            self.seen = None;
            return Sight::Same;
        }
        if self.seen.as_ref() == Some(&now) {
            return Sight::Changed;
        }
        self.seen = Some(now);
        Sight::Changing
    }

    /// A reload has put these files in force, or could not.
    pub(super) fn reloaded(&mut self, failed: Option<Digests>) {
        self.seen = None;
        self.failed = failed;
    }
}

#[cfg(test)]
mod tests {
    use super::{Digests, Sight, Watch, digest};
    use std::{fs, os::unix::fs::symlink, path::PathBuf};

    fn digests(byte: u8) -> Digests {
        Digests([(PathBuf::from("a"), Some([byte; 32])), (PathBuf::from("b"), None)].into())
    }

    #[tokio::test]
    async fn what_is_new_counts_once_it_was_seen_twice() {
        let mut watch = Watch::new();
        let looks = [(0, Sight::Same), (1, Sight::Changing), (2, Sight::Changing), (2, Sight::Changed)];
        for (byte, expected) in looks {
            assert_eq!(watch.judge(&digests(0), digests(byte)), expected, "{byte}");
        }
        watch.reloaded(None);
        assert_eq!(watch.judge(&digests(2), digests(2)), Sight::Same);
    }

    #[tokio::test]
    async fn what_has_failed_is_tried_again_and_what_was_before_too() {
        let mut watch = Watch::new();
        watch.reloaded(Some(digests(1)));
        assert_eq!(watch.judge(&digests(0), digests(1)), Sight::Unmended);
        assert_eq!(watch.judge(&digests(0), digests(1)), Sight::Unmended);
        assert_eq!(watch.judge(&digests(0), digests(0)), Sight::Changing, "the old one is back");
        assert_eq!(watch.judge(&digests(0), digests(0)), Sight::Changed, "which ends the failure");
    }

    #[test]
    fn a_link_that_is_swapped_a_folder_and_a_file_that_is_gone_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for version in ["v1", "v2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("key"), version).unwrap();
        }
        symlink("v1", at("..data")).unwrap();
        symlink("..data/key", at("key")).unwrap();
        let before = digest(&at("key")).unwrap();
        symlink("v2", at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();
        assert_ne!(digest(&at("key")).unwrap(), before);
        let folder = digest(&at("v1")).unwrap();
        fs::write(at("v1").join("more"), "").unwrap();
        assert_ne!(digest(&at("v1")).unwrap(), folder);
        assert!(digest(&at("none")).is_err());
    }
}
