//! The core is pure, and imports point one way: read off the `use` lines and the paths of the sources themselves.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Which rooms of the crate each room may name. `audit` stands for its pure half; its sink is shell.
const MAY_USE: &[(&str, &[&str])] = &[
    ("moment", &[]),
    ("secret", &[]),
    ("resp", &[]),
    ("command", &["resp"]),
    ("policy", &["command", "resp", "moment", "secret"]),
    ("audit", &["command", "policy", "resp", "moment"]),
    ("lane", &["command", "resp", "secret"]),
    ("session", &["audit", "command", "lane", "policy", "resp", "moment", "secret"]),
];

/// Files of the `audit` room that belong to the shell.
const SHELL_OF_AUDIT: &[&str] = &["sink.rs", "sink"];

/// What no pure file may name: sockets, tasks, files, clocks, the environment, TLS, the operational log.
const IMPURE: &[&str] = &[
    "tokio",
    "std::fs",
    "std::io",
    "std::env",
    "std::thread",
    "std::process",
    "std::time",
    "std::sync::Mutex",
    "std::sync::mpsc",
    "std::os",
    "Instant::now",
    "SystemTime",
    "TcpStream",
    "UnixStream",
    "TcpListener",
    "rustls",
    "rustix",
    "socket2",
    "tracing",
    "hyper::",
    "prometheus",
    "arc_swap",
    "println!",
    "eprintln!",
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found
}

fn room_of(file: &Path) -> (String, String) {
    let relative = file.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let mut parts = relative.components().map(|part| part.as_os_str().to_str().unwrap().to_owned());
    let room = parts.next().unwrap();
    let rest = parts.next().unwrap_or_default();
    (room.trim_end_matches(".rs").to_owned(), rest)
}

/// The file's code, without comments and without what only tests compile.
fn code(file: &Path) -> String {
    let name = file.file_name().unwrap().to_str().unwrap();
    if ["tests.rs", "script.rs", "properties.rs"].contains(&name) || name.ends_with("_tests.rs") {
        return String::new();
    }
    let text = fs::read_to_string(file).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn pure_files() -> Vec<(String, PathBuf)> {
    let all = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let pure: Vec<_> = all
        .into_iter()
        .map(|file| (room_of(&file), file))
        .filter(|((room, rest), _)| {
            MAY_USE.iter().any(|(name, _)| name == room)
                && !(room == "audit" && SHELL_OF_AUDIT.contains(&rest.as_str()))
        })
        .map(|((room, _), file)| (room, file))
        .collect();
    assert!(pure.len() > 25, "the pure rooms were not found: {pure:?}");
    pure
}

#[test]
fn the_core_names_no_socket_task_file_clock_or_tls() {
    let mut faults = Vec::new();
    for (_, file) in pure_files() {
        for (number, line) in code(&file).lines().enumerate() {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                faults.push(format!("{}: code line {}: {word}: {}", file.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(faults.is_empty(), "impure core:\n{}", faults.join("\n"));
}

/// The rooms that a file names: `crate::room` anywhere, and each room of a `use crate::{…}` group.
fn rooms_named(code: &str) -> Vec<String> {
    let mut named = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0_usize;
            let mut word = String::new();
            let mut taken = false;
            for letter in group.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        named.push(std::mem::take(&mut word).trim().to_owned());
                        taken = false;
                    }
                    ':' if depth == 0 => taken = true,
                    _ if depth == 0 && !taken => word.push(letter),
                    _ => {}
                }
            }
            named.push(word.trim().to_owned());
        } else {
            named.push(rest.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect());
        }
    }
    named.retain(|room| !room.is_empty());
    named
}

#[test]
fn imports_point_one_way() {
    let mut faults = Vec::new();
    for (room, file) in pure_files() {
        let allowed = MAY_USE.iter().find(|(name, _)| *name == room).unwrap().1;
        for named in rooms_named(&code(&file)) {
            if named != room && !allowed.contains(&named.as_str()) {
                faults.push(format!("{}: names crate::{named}", file.display()));
            }
        }
    }
    assert!(faults.is_empty(), "imports against the direction of the map:\n{}", faults.join("\n"));
}

#[test]
fn the_reader_of_use_lines_sees_groups_and_paths() {
    let code = "use crate::{audit::{encode::X, record::Y}, lane,\n policy::rules};\nlet a = crate::resp::Words::new();";
    assert_eq!(rooms_named(code), ["audit", "lane", "policy", "resp"]);
}
