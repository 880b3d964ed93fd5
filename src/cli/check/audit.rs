//! What there is to say about the audit stream's outputs.

use crate::{
    audit::{
        outlet::{Arguments, OnFull, Shape},
        target::{Address, FileTarget, Fsync, Rotation, SocketTarget, SyslogTarget, Target},
    },
    config::{settings::AuditOutput, show_duration, show_size},
};
use rustix::fs::{Access, access};
use std::{fs, os::unix::fs::FileTypeExt as _, path::Path};

/// Looks at the place of an output: what keeps the process from starting, and what will make it wait.
pub(super) fn look(output: &AuditOutput, errors: &mut Vec<String>, warnings: &mut Vec<String>) {
    let name = &output.plan.name;
    match &output.target {
        Target::Stdout => {}
        Target::File(FileTarget { path, rotation, .. }) => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if !folder.is_dir() {
                errors.push(format!("audit.output {name}: there is no folder {}", folder.display()));
            } else if *rotation != Rotation::default() && access(folder, Access::WRITE_OK | Access::EXEC_OK).is_err() {
                errors.push(format!(
                    "audit.output {name}: files in {} cannot be put aside by this user: it may not write there",
                    folder.display()
                ));
            }
        }
        Target::Socket(SocketTarget { address }) | Target::Syslog(SyslogTarget { address, .. }) => {
            if let Address::Unix(path) = address
                && !fs::metadata(path).is_ok_and(|found| found.file_type().is_socket())
            {
                let then = match output.plan.on_full {
                    OnFull::Stall => "commands will wait until there is",
                    OnFull::Drop => "records will be dropped until there is",
                };
                warnings.push(format!("audit.output {name}: there is no socket {}; {then}", path.display()));
            }
        }
    }
}

/// An output in words.
pub(super) fn words(output: &AuditOutput) -> String {
    let plan = &output.plan;
    let mut words = vec![format!("to {}", output.target)];
    match &output.target {
        Target::Stdout | Target::Socket(_) => {}
        Target::File(file) => file_words(file, &mut words),
        Target::Syslog(syslog) => words.push(format!(
            "facility {}, messages of at most {}",
            syslog.facility,
            show_size(syslog.message_max.try_into().unwrap_or(u64::MAX))
        )),
    }
    words.push(
        match plan.arguments {
            Arguments::None => "without keys and values",
            Arguments::Hashed => "with hashed keys, without values",
            Arguments::Keys => "with keys, without values",
            Arguments::Values => "with keys and some values",
        }
        .to_owned(),
    );
    if plan.shape == Shape::Compact {
        words.push("compact".to_owned());
    }
    if plan.filter.is_some() {
        words.push("filtered".to_owned());
    }
    if plan.sample.is_some() {
        words.push("sampled".to_owned());
    }
    if plan.on_full == OnFull::Drop {
        words.push("dropping what there is no room for".to_owned());
    }
    words.join(", ")
}

fn file_words(file: &FileTarget, words: &mut Vec<String>) {
    let Rotation { size, every, keep } = file.rotation;
    let when: Vec<String> = size
        .map(|size| format!("at {}", show_size(size)))
        .into_iter()
        .chain(every.map(|every| format!("every {}", show_duration(every))))
        .collect();
    if !when.is_empty() {
        let kept = keep.map_or("all kept".to_owned(), |keep| format!("{keep} kept"));
        words.push(format!("rotated {}, {kept}", when.join(" and ")));
    }
    match file.fsync {
        Fsync::Never => {}
        Fsync::Within(time) => words.push(format!("on the disk within {}", show_duration(time))),
        Fsync::Always => words.push("on the disk before it counts".to_owned()),
    }
    if file.mode != 0o600 {
        words.push(format!("made with mode {:04o}", file.mode));
    }
}
