//! Unix sockets to listen on: whose file it is, and who may connect to it.

use super::accounts;
use crate::config::{
    decode::{Item, NumberOrText},
    error::{At, Report},
    settings::UnixSocket,
};
use std::{
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

/// What the system takes as the name of a Unix socket (`sun_path` without its end).
const PATH_MAX: usize = 107;

/// Says so if the system takes no such path.
pub(super) fn short_enough(path: &Path, at: &At, report: &mut Report) {
    let length = path.as_os_str().as_bytes().len();
    if length > PATH_MAX {
        report.error(at, format!("a Unix socket's path has at most {PATH_MAX} bytes, and this one {length}"));
    }
}

/// A socket at this path, with the owner and mode that its keys say; `most` is the widest mode that it may have, and
/// why no wider one.
pub(super) fn owned(
    path: PathBuf,
    mode: Option<&Item<String>>,
    group: Option<&Item<NumberOrText>>,
    (most, why): (u32, &str),
    report: &mut Report,
) -> UnixSocket {
    let mode = mode.map_or(UnixSocket::MODE, |item| {
        let octal = item.value.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        let mode = u32::from_str_radix(&item.value, 8).ok().filter(|mode| octal && mode & !most == 0);
        mode.unwrap_or_else(|| {
            let widest = if most == 0o660 { "\"0600\" or \"0660\"" } else { "\"0600\", \"0660\" or \"0666\"" };
            report.error(&item.at, format!("expected {widest}, found {:?}", item.value)).hint(why);
            UnixSocket::MODE
        })
    });
    if let Some(group) = group.filter(|_| mode & 0o060 == 0) {
        report.warn(format!("{}: the mode {mode:04o} gives the group nothing; write mode = \"0660\"", group.at.key));
    }
    UnixSocket { path, mode, group: accounts::number(&accounts::GROUP, group, report) }
}
