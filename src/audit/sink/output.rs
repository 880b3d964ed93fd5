//! What the thread writes to.

use super::{file::LogFile, queue::Run, stream::Stream, syslog::Syslog};
use std::{fs::File, io, os::fd::BorrowedFd, time::Duration};

/// One of the kinds.
pub(super) enum Output {
    File(LogFile),
    Socket(Stream),
    Syslog(Syslog),
}

impl Output {
    /// Takes some of the front of `lines`; how many bytes.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(lines),
            Self::Socket(stream) => stream.write(lines),
            Self::Syslog(syslog) => syslog.write(lines),
        }
    }

    /// What becomes writable again after [`io::ErrorKind::WouldBlock`].
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::File(file) => Some(file.fd()),
            Self::Socket(stream) => stream.fd(),
            Self::Syslog(syslog) => syslog.fd(),
        }
    }

    /// Why it does not, if it takes too long.
    pub(super) fn unread(&self) -> &'static str {
        match self {
            Self::File(_) => "nobody reads the pipe",
            Self::Socket(_) | Self::Syslog(_) => "the receiver does not read",
        }
    }

    /// Whether, after an error, the line that was not finished is written from its beginning.
    pub(super) fn begins_anew(&self) -> bool {
        !matches!(self, Self::File(_))
    }

    /// Before a block: whether the receiver has gone meanwhile.
    pub(super) fn look(&mut self) {
        match self {
            Self::File(_) => {}
            Self::Socket(stream) => stream.look(),
            Self::Syslog(syslog) => syslog.look(),
        }
    }

    /// The file, for what only files have.
    pub(super) fn file(&mut self) -> Option<&mut LogFile> {
        match self {
            Self::File(file) => Some(file),
            Self::Socket(_) | Self::Syslog(_) => None,
        }
    }

    /// Another file in the place of this one.
    pub(super) fn go_over(&mut self, next: File) {
        if let Self::File(file) = self {
            file.go_over(next);
        }
    }

    /// How many of these runs go in before it is rotated; none if that is due.
    pub(super) fn takes(&self, runs: &[Run]) -> usize {
        match self {
            Self::File(file) => file.takes(runs.iter().map(|run| run.length)),
            Self::Socket(_) | Self::Syslog(_) => runs.len(),
        }
    }

    /// How long until something is due that nobody wakes the thread for.
    pub(super) fn due_in(&self) -> Option<Duration> {
        match self {
            Self::File(file) => file.due_in(),
            Self::Socket(_) | Self::Syslog(_) => None,
        }
    }
}
