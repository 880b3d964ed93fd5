//! Passwords, read from files as bytes.

use crate::secret::Secret;
use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

/// Longest password file. Redis takes longer ones; nobody has one.
pub(super) const BYTES_MAX: usize = 64 * 1024;

/// Why a file is no password.
#[derive(Debug, thiserror::Error)]
pub(super) enum PasswordError {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is not a regular file")]
    NotAFile,
    #[error("it is empty")]
    Empty,
    #[error("it is longer than {0} bytes")]
    TooLong(usize),
    #[error("everybody on this host may read or change it (mode {0:04o})")]
    Open(u32),
}

/// Reads a password: every byte of the file, less one line end (`\n` or `\r\n`) at its end.
///
/// A file that others may read is refused; group-readable ones are not, because that is how pods and credential stores
/// hand them over.
pub(super) fn read(path: &Path) -> Result<Secret, PasswordError> {
    read_up_to(path, BYTES_MAX)
}

/// The same of a file of at most so many bytes.
pub(super) fn read_up_to(path: &Path, bytes_max: usize) -> Result<Secret, PasswordError> {
    // Asked before opening: opening a named pipe would wait for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(PasswordError::NotAFile);
    }
    let file = File::open(path)?;
    let mode = file.metadata()?.mode() & 0o777;
    if mode & 0o006 != 0 {
        return Err(PasswordError::Open(mode));
    }
    // As large as it may become, so that no copy of it is left behind by a growing buffer.
    let mut bytes = Vec::with_capacity(bytes_max.saturating_add(3));
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(3);
    let read = file.take(limit).read_to_end(&mut bytes);
    let line_end = if bytes.ends_with(b"\r\n") { 2 } else { usize::from(bytes.ends_with(b"\n")) };
    bytes.truncate(bytes.len().saturating_sub(line_end));
    // From here on it wipes itself, on every way out.
    let secret = Secret::new(bytes);
    read?;
    match secret.expose().len() {
        0 => Err(PasswordError::Empty),
        len if len > bytes_max => Err(PasswordError::TooLong(bytes_max)),
        _ => Ok(secret),
    }
}

#[cfg(test)]
mod tests {
    use super::{BYTES_MAX, PasswordError, read};
    use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

    fn file(bytes: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_password_is_every_byte_but_one_line_end() {
        let rows: [(&[u8], &[u8]); 9] = [
            (b"hunter2", b"hunter2"),
            (b"hunter2\n", b"hunter2"),
            (b"hunter2\r\n", b"hunter2"),
            (b"hunter2\n\n", b"hunter2\n"),
            (b" \"q\" \\ 's' \n", b" \"q\" \\ 's' "),
            (b"\n\n", b"\n"),
            (b"\xff\x00\r", b"\xff\x00\r"),
            (b"a\nb", b"a\nb"),
            (&[b'x'; 512], &[b'x'; 512]),
        ];
        for (content, expected) in rows {
            let (_dir, path) = file(content, 0o640);
            assert_eq!(read(&path).unwrap().expose(), expected, "{content:?}");
        }
    }

    #[test]
    fn a_file_that_is_no_password_is_refused() {
        for empty in [&b""[..], b"\n", b"\r\n"] {
            let (_dir, path) = file(empty, 0o600);
            assert!(matches!(read(&path), Err(PasswordError::Empty)), "{empty:?}");
        }
        let (_dir, path) = file(&vec![b'x'; BYTES_MAX + 1], 0o600);
        assert!(matches!(read(&path), Err(PasswordError::TooLong(BYTES_MAX))));
        let (_dir, path) = file(&[vec![b'x'; BYTES_MAX], b"\r\n".to_vec()].concat(), 0o600);
        assert_eq!(read(&path).unwrap().expose().len(), BYTES_MAX);
        let (dir, _) = file(b"x", 0o600);
        assert!(matches!(read(dir.path()), Err(PasswordError::NotAFile)));
        assert!(matches!(read(&dir.path().join("none")), Err(PasswordError::Io(_))));
    }

    #[test]
    fn a_file_open_to_everybody_is_refused_and_one_open_to_its_group_is_not() {
        for (mode, refused) in [(0o400, false), (0o440, false), (0o660, false), (0o644, true), (0o602, true)] {
            let (_dir, path) = file(b"hunter2", mode);
            assert_eq!(matches!(read(&path), Err(PasswordError::Open(found)) if found == mode), refused, "{mode:o}");
        }
    }
}
