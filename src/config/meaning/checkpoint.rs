//! What an output of the audit stream is proven by.

use super::{Paths, limits, secrets};
use crate::{
    audit::{keys::SignKey, sink::proof::Checkpoints},
    config::{
        decode::{Item, TextOr},
        error::Report,
        password,
        raw::RawCheckpoint,
    },
    tls::pem,
};
use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

/// Bounds of `every`.
const EVERY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
const EVERY_DEFAULT: Duration = Duration::from_secs(10);
/// Longest file of a signing key.
const KEY_FILE_MAX: usize = 64 * 1024;

pub(super) fn checkpoint(
    item: &Item<TextOr<RawCheckpoint>>,
    files: &mut Vec<(&'static str, PathBuf)>,
    paths: &Paths,
    report: &mut Report,
) -> Option<Checkpoints> {
    match &item.value {
        TextOr::Text(word) => {
            if word != "off" {
                let hint = "write checkpoint = { every = \"10s\", sign_key = \"/etc/ravelin/audit.ed25519\" }";
                report.error(&item.at, format!("expected \"off\" or a table, found {word:?}")).hint(hint);
            }
            None
        }
        TextOr::Table(raw) => Some(Checkpoints {
            every: limits::time(raw.every.as_ref(), EVERY, EVERY_DEFAULT, report),
            lines: limits::number(raw.lines.as_ref(), 100..=1_000_000_000, report),
            key: {
                let file = secrets::file_of(raw.sign_key.as_ref(), raw.sign_key_credential.as_ref(), paths, report);
                file.and_then(|(item, path)| sign_key(&item, path, files, report))
            },
        }),
    }
}

fn sign_key(
    item: &Item<String>,
    path: PathBuf,
    files: &mut Vec<(&'static str, PathBuf)>,
    report: &mut Report,
) -> Option<SignKey> {
    files.push(("audit.checkpoint.sign_key", path.clone()));
    let mut fault = |what: &dyn std::fmt::Display| {
        let hint = format!("make one with `openssl genpkey -algorithm ed25519 -out {}`", path.display());
        report.error(&item.at, format!("{}: {what}", path.display())).hint(hint);
        None
    };
    let pem = match password::read_up_to(&path, KEY_FILE_MAX) {
        Ok(pem) => pem,
        Err(error) => return fault(&error),
    };
    match pem::private_key(pem.expose()) {
        Ok(key) => SignKey::from_pkcs8(key.secret_der()).map_or_else(|error| fault(&error), Some),
        Err(flaw) => fault(&flaw),
    }
}
