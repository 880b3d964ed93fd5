//! The admin endpoint.

use super::{Paths, accounts, service, socket_address};
use crate::config::{
    decode::Item,
    error::Report,
    raw::{RawAdmin, RawAdminSocket},
    settings::{Admin, AdminSocket, Service},
};
use std::os::unix::ffi::OsStrExt as _;

/// What the system takes as the name of a Unix socket (`sun_path` without its end).
const PATH_MAX: usize = 107;

pub(super) fn admin(item: &Item<RawAdmin>, services: &[Service], paths: &Paths, report: &mut Report) -> Admin {
    let raw = &item.value;
    if raw.address.is_none() && raw.socket.is_none() {
        let hint = "write address = \"127.0.0.1:9180\" or socket = { path = \"/run/ravelin/admin.sock\" }, or leave the table out";
        report.missing(&item.at, "address", hint);
    }
    let socket = raw.socket.as_ref().and_then(|item| socket(item, paths, report));
    let Some(address) = raw.address.as_ref() else { return Admin { address: None, socket } };
    let Some(found) = socket_address(address, report) else { return Admin { address: None, socket } };
    for service in services {
        for listener in service.listeners.iter().filter(|listener| service::overlap(listener.address, found)) {
            report.error(&address.at, format!("{found} is taken by service {} ({})", service.name, listener.address));
        }
    }
    if !found.ip().to_canonical().is_loopback() {
        report.warn(format!("admin.address: {found} can be reached from other hosts; its HTTP has no access control"));
    }
    Admin { address: Some(found), socket }
}

fn socket(item: &Item<RawAdminSocket>, paths: &Paths, report: &mut Report) -> Option<AdminSocket> {
    let raw = &item.value;
    let hint = "write socket = { path = \"/run/ravelin/admin.sock\" }";
    let path = paths.required(raw.path.as_ref(), &item.at, "path", hint, report);
    let length = path.as_os_str().as_bytes().len();
    if let Some(given) = raw.path.as_ref().filter(|_| length > PATH_MAX) {
        report.error(&given.at, format!("a Unix socket's path has at most {PATH_MAX} bytes, and this one {length}"));
    }
    let mode = raw.mode.as_ref().map_or(AdminSocket::MODE, |item| {
        let octal = item.value.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        let mode = u32::from_str_radix(&item.value, 8).ok().filter(|mode| octal && mode & !0o660 == 0);
        mode.unwrap_or_else(|| {
            let fault = report.error(&item.at, format!("expected \"0600\" or \"0660\", found {:?}", item.value));
            fault.hint(
                "others than the owner and the group may not have it: whoever may write to it closes connections",
            );
            AdminSocket::MODE
        })
    });
    if let Some(group) = raw.group.as_ref().filter(|_| mode & 0o060 == 0) {
        report.warn(format!("{}: the mode {mode:04o} gives the group nothing; write mode = \"0660\"", group.at.key));
    }
    Some(AdminSocket { path, mode, group: accounts::number(&accounts::GROUP, raw.group.as_ref(), report) })
}
