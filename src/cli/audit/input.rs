//! Lines out of files, standard input and the live process.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Bytes of one read.
const READ_BYTES: usize = 256 * 1024;
/// No record is as long; what is, is passed over.
const LINE_MAX: usize = 1024 * 1024;

/// The lines of a stream of bytes. Holds at most [`LINE_MAX`] and one read.
#[derive(Debug)]
pub(super) struct Lines<R> {
    source: R,
    buffer: Vec<u8>,
    /// `start <= looked <= end <= buffer.len()`: the bytes not given yet, of which those before `looked` hold no newline.
    start: usize,
    looked: usize,
    end: usize,
    /// What comes up to the next newline is the rest of a line that was too long.
    skipping: bool,
    /// Bytes read.
    pub(super) read: u64,
    /// Lines passed over because they were too long.
    pub(super) too_long: u64,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, buffer: Vec::new(), start: 0, looked: 0, end: 0, skipping: false, read: 0, too_long: 0 }
    }

    /// Where the bytes come from.
    pub(super) const fn source(&mut self) -> &mut R {
        &mut self.source
    }

    /// The next whole line, without its newline; `None` where there is none now. May be asked again: more may have come.
    pub(super) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            let fresh = self.buffer.get(self.looked..self.end).unwrap_or_default();
            if let Some(found) = memchr::memchr(b'\n', fresh) {
                let (from, to) = (self.start, self.looked.saturating_add(found));
                self.start = to.saturating_add(1);
                self.looked = self.start;
                if std::mem::take(&mut self.skipping) {
                    continue;
                }
                return Ok(Some(self.buffer.get(from..to).unwrap_or_default()));
            }
            self.looked = self.end;
            if self.end.saturating_sub(self.start) > LINE_MAX {
                self.too_long = self.too_long.saturating_add(u64::from(!self.skipping));
                self.skipping = true;
            }
            if self.skipping {
                self.start = self.end;
            }
            if self.fill()? == 0 {
                return Ok(None);
            }
        }
    }

    /// Whether the next line is there without another read.
    pub(super) fn has_line(&self) -> bool {
        memchr::memchr(b'\n', self.buffer.get(self.looked..self.end).unwrap_or_default()).is_some()
    }

    /// What stands behind the last newline, once nothing more will come.
    pub(super) fn rest(&mut self) -> Option<&[u8]> {
        let (from, to) = (self.start, self.end);
        self.start = self.end;
        self.looked = self.end;
        let skipped = std::mem::take(&mut self.skipping);
        self.buffer.get(from..to).filter(|rest| !rest.is_empty() && !skipped)
    }

    fn fill(&mut self) -> io::Result<usize> {
        if self.start > 0 && (self.start == self.end || self.buffer.len().saturating_sub(self.end) < READ_BYTES) {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end = self.end.saturating_sub(self.start);
            self.looked = self.looked.saturating_sub(self.start);
            self.start = 0;
        }
        let wanted = self.end.saturating_add(READ_BYTES);
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        loop {
            match self.source.read(self.buffer.get_mut(self.end..).unwrap_or_default()) {
                Ok(read) => {
                    self.end = self.end.saturating_add(read);
                    self.read = self.read.saturating_add(read as u64);
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Forgets what was read and not given.
    fn restart(&mut self) {
        (self.start, self.looked, self.end, self.skipping) = (0, 0, 0, false);
    }
}

/// What there is to read of a file that may be replaced (rotation) or truncated while it is read.
#[derive(Debug)]
pub(super) struct Followed {
    path: PathBuf,
    lines: Lines<File>,
    id: (u64, u64),
    /// Bytes of this very file that were read.
    at: u64,
    counted: u64,
    /// The file at the path is another one: what is left of this one comes first.
    replaced: bool,
}

impl Followed {
    /// From `at` on, which is the beginning of a line.
    pub(super) fn open(path: &Path, at: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        file.seek(SeekFrom::Start(at))?;
        let id = (metadata.dev(), metadata.ino());
        Ok(Self { path: path.to_owned(), lines: Lines::new(file), id, at, counted: 0, replaced: false })
    }

    /// Lines passed over because they were too long.
    pub(super) const fn too_long(&self) -> u64 {
        self.lines.too_long
    }

    /// The next whole line, for as long as there is one.
    pub(super) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.lines.next()
    }

    /// What stands behind the last newline, once nothing more will come.
    pub(super) fn rest(&mut self) -> Option<&[u8]> {
        self.lines.rest()
    }

    /// Called where there is no line: looks whether the file was replaced or truncated, and goes on in the new one. A
    /// file that is missing just now is one that is being rotated. True if there may be more at once.
    pub(super) fn look_around(&mut self) -> io::Result<bool> {
        self.at = self.at.saturating_add(self.lines.read.saturating_sub(self.counted));
        self.counted = self.lines.read;
        if self.replaced {
            let Ok(file) = File::open(&self.path) else { return Ok(false) };
            let metadata = file.metadata()?;
            self.id = (metadata.dev(), metadata.ino());
            *self.lines.source() = file;
            self.lines.restart();
            (self.at, self.replaced) = (0, false);
            return Ok(true);
        }
        let Ok(metadata) = std::fs::metadata(&self.path) else { return Ok(false) };
        if (metadata.dev(), metadata.ino()) != self.id {
            // What was written before the rename and after our last look is still to be read.
            self.replaced = true;
            return Ok(true);
        }
        if metadata.len() < self.at {
            self.lines.source().seek(SeekFrom::Start(0))?;
            self.lines.restart();
            self.at = 0;
            return Ok(true);
        }
        Ok(false)
    }
}

/// Where the line begins that `at` lies in: `at` itself if a line begins there.
pub(super) fn line_start(file: &mut File, at: u64) -> io::Result<u64> {
    let Some(before) = at.checked_sub(1) else { return Ok(0) };
    file.seek(SeekFrom::Start(before))?;
    let mut lines = Lines::new(file);
    // The line that `before` lies in is left to whoever reads from further in front.
    match lines.next()? {
        Some(line) => Ok(before.saturating_add(line.len() as u64).saturating_add(1)),
        None => Ok(before.saturating_add(lines.read)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{fs, io::Write};

    /// Gives its bytes in pieces.
    struct Pieces<'p>(&'p [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let some = self.0.len().min(self.1).min(into.len());
            let (now, later) = self.0.split_at(some);
            into[..some].copy_from_slice(now);
            self.0 = later;
            Ok(some)
        }
    }

    fn all(lines: &mut Lines<impl Read>) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            found.push(line.to_vec());
        }
        found.extend(lines.rest().map(<[u8]>::to_vec));
        found
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_their_bytes_come(lines in prop::collection::vec("[a-z]{0,40}", 0..50), piece in 1_usize..99) {
            let text = lines.join("\n");
            let expected: Vec<_> = text.split_inclusive('\n').map(|line| line.trim_end_matches('\n').as_bytes().to_vec()).collect();
            prop_assert_eq!(all(&mut Lines::new(Pieces(text.as_bytes(), piece))), expected);
        }
    }

    #[test]
    fn a_line_without_end_takes_no_memory_and_does_not_hide_the_next() {
        let mut text = b"one\n".to_vec();
        text.resize(10 * LINE_MAX, b'x');
        text.extend_from_slice(b"\ntwo\n");
        let mut lines = Lines::new(Pieces(&text, 70_000));
        assert_eq!(all(&mut lines), [b"one".to_vec(), b"two".to_vec()]);
        assert_eq!(lines.too_long, 1);
        assert!(lines.buffer.capacity() < 4 * LINE_MAX, "{}", lines.buffer.capacity());
    }

    #[test]
    fn a_place_in_a_file_is_moved_to_where_a_line_begins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "ab\ncd\nef").unwrap();
        let mut file = File::open(&path).unwrap();
        for (at, expected) in [(0, 0), (1, 3), (2, 3), (3, 3), (4, 6), (6, 6), (7, 8), (8, 8)] {
            assert_eq!(line_start(&mut file, at).unwrap(), expected, "{at}");
        }
    }

    #[test]
    fn a_file_that_is_replaced_or_truncated_is_followed_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "a\nb\n").unwrap();
        let mut followed = Followed::open(&path, 0).unwrap();
        let mut take = || {
            let mut found = String::new();
            loop {
                while let Some(line) = followed.next().unwrap() {
                    found.push_str(std::str::from_utf8(line).unwrap());
                }
                if !followed.look_around().unwrap() {
                    return found;
                }
            }
        };
        assert_eq!(take(), "ab");
        let mut old = fs::OpenOptions::new().append(true).open(&path).unwrap();
        old.write_all(b"c\nd").unwrap();
        assert_eq!(take(), "c");
        fs::rename(&path, dir.path().join("x.1")).unwrap();
        old.write_all(b"d\n").unwrap();
        assert_eq!(take(), "dd", "the old file's last line, written after the rename");
        fs::write(&path, "e\n").unwrap();
        old.write_all(b"late\n").unwrap();
        assert_eq!(take(), "latee");
        fs::write(&path, "").unwrap();
        assert_eq!(take(), "");
        fs::write(&path, "f\n").unwrap();
        assert_eq!(take(), "f");
    }
}
