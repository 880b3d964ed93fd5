//! A listening Unix socket as a file: whoever may write to it may connect, and nobody else.

use crate::config::settings::UnixSocket;
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

/// The file, removed when this is dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode, so that nobody else's is removed.
    id: (u64, u64),
}

impl SocketFile {
    /// Makes the socket and listens. A file that is there and that nobody answers at, left by a process that was killed, is
    /// replaced. Nobody can connect before the file has its owner and mode: until then it is not listened on.
    ///
    /// # Errors
    /// Somebody answers there, the file is no socket, or the system refuses; then nothing has changed.
    pub fn listen(settings: &UnixSocket, backlog: u32) -> io::Result<(Self, UnixListener)> {
        let path = &settings.path;
        clear_the_way(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let metadata = fs::symlink_metadata(path)?;
        let file = Self { path: path.clone(), id: (metadata.dev(), metadata.ino()) };
        // Not if it is right already: a sandbox may forbid the call altogether.
        if settings.group.is_some_and(|group| group != metadata.gid()) {
            chown(path, None, settings.group)?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(settings.mode))?;
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        socket.set_nonblocking(true)?;
        Ok((file, socket.into()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.id);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket's file cannot be removed");
        }
    }
}

/// Removes what a process left that is gone.
fn clear_the_way(path: &Path) -> io::Result<()> {
    let taken = |why: &str| Err(io::Error::new(io::ErrorKind::AddrInUse, why));
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        return taken("there is a file of another kind; name another path, or remove it");
    }
    match UnixStream::connect(path) {
        Ok(_) => taken("another process answers there; name another path, or end it"),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "the socket of a process that has ended is replaced");
            fs::remove_file(path)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(path: &Path, mode: u32) -> UnixSocket {
        UnixSocket { path: path.to_owned(), mode, group: Some(rustix::process::getegid().as_raw()) }
    }

    #[test]
    fn the_file_has_its_mode_from_the_start_and_is_gone_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("some.sock");
        for mode in [0o600, 0o660] {
            let (file, _listener) = SocketFile::listen(&settings(&path, mode), 16).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode);
            UnixStream::connect(&path).unwrap();
            drop(file);
            assert!(!path.exists());
        }
    }

    #[test]
    fn only_a_socket_that_nobody_answers_at_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("some.sock");
        // Left behind by a process that was killed.
        drop(UnixListener::bind(&path).unwrap());
        let (file, listener) = SocketFile::listen(&settings(&path, 0o600), 16).unwrap();
        let error = SocketFile::listen(&settings(&path, 0o600), 16).unwrap_err();
        assert!(error.to_string().contains("another process answers"), "{error}");
        assert!(path.exists());
        drop((file, listener));
        fs::write(&path, "precious").unwrap();
        let error = SocketFile::listen(&settings(&path, 0o600), 16).unwrap_err();
        assert!(error.to_string().contains("of another kind"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_file_that_somebody_else_has_put_there_meanwhile_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("some.sock");
        let (file, _listener) = SocketFile::listen(&settings(&path, 0o600), 16).unwrap();
        fs::rename(&path, dir.path().join("moved")).unwrap();
        fs::write(&path, "another's").unwrap();
        drop(file);
        assert!(path.exists());
    }
}
