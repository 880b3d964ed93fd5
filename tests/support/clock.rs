//! A wall clock that steps, for one process: setting the system's takes privileges, and would be everybody's.
//!
//! A library that is loaded before the others (`clock.c`) answers `clock_gettime(CLOCK_REALTIME)` with what the system says
//! and as many seconds more as stand in a file. The monotonic clock is passed on as it is.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    process::Command,
};
use tempfile::TempDir;

/// The clock of whoever is started with its environment.
pub struct WallClock {
    file: File,
    dir: TempDir,
}

impl WallClock {
    /// One that goes right.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("off"), [0; 8]).unwrap();
        let file = File::options().write(true).open(dir.path().join("off")).unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/clock.c");
        let made = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(dir.path().join("clock.so"))
            .args([source, "-ldl"])
            .output()
            .expect("a C compiler, which the build needs too");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self { file, dir }
    }

    /// What its process must be started with.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let at = |name| self.dir.path().join(name).display().to_string();
        vec![("LD_PRELOAD", at("clock.so")), ("RAVELIN_TEST_CLOCK", at("off"))]
    }

    /// From now on it is so many seconds before (or behind) what it should be.
    pub fn is_off_by(&self, seconds: i64) {
        self.file.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    }
}
