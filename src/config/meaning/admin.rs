//! The admin endpoint.

use super::{Paths, listen, socket_address};
use crate::config::{
    decode::Item,
    error::{At, Report},
    raw::{RawAdmin, RawAdminSocket},
    settings::{Admin, Place, Service, UnixSocket},
};

pub(super) fn admin(item: &Item<RawAdmin>, services: &[Service], paths: &Paths, report: &mut Report) -> Admin {
    let raw = &item.value;
    if raw.address.is_none() && raw.socket.is_none() {
        let hint = "write address = \"127.0.0.1:9180\" or socket = { path = \"/run/ravelin/admin.sock\" }, or leave the table out";
        report.missing(&item.at, "address", hint);
    }
    let socket = raw.socket.as_ref().and_then(|item| socket(item, services, paths, report));
    let Some(address) = raw.address.as_ref() else { return Admin { address: None, socket } };
    let Some(found) = socket_address(address, report) else { return Admin { address: None, socket } };
    taken(&Place::Tcp(found), &address.at, services, report);
    if !found.ip().to_canonical().is_loopback() {
        report.warn(format!("admin.address: {found} can be reached from other hosts; its HTTP has no access control"));
    }
    Admin { address: Some(found), socket }
}

fn taken(place: &Place, at: &At, services: &[Service], report: &mut Report) {
    for service in services {
        for listener in service.listeners.iter().filter(|listener| listener.place.overlaps(place)) {
            report.error(at, format!("{place} is taken by service {} ({})", service.name, listener.place));
        }
    }
}

fn socket(item: &Item<RawAdminSocket>, services: &[Service], paths: &Paths, report: &mut Report) -> Option<UnixSocket> {
    let raw = &item.value;
    let hint = "write socket = { path = \"/run/ravelin/admin.sock\" }";
    let path = paths.required(raw.path.as_ref(), &item.at, "path", hint, report);
    if let Some(given) = &raw.path {
        listen::short_enough(&path, &given.at, report);
    }
    let why = "others than the owner and the group may not have it: whoever may write to it closes connections";
    let socket = listen::owned(path, raw.mode.as_ref(), raw.group.as_ref(), (0o660, why), report);
    taken(&Place::Unix(socket.clone()), &item.at, services, report);
    Some(socket)
}
