//! The configuration: the file as typed, what it means, and what is wrong with it.
//!
//! ```text
//! file ─► tree ─┐                                    ┌─► Settings
//!               ├─► raw tables (every key optional) ─┤      or
//! flags, env ───┘                                    └─► ConfigErrors: all of them, each with its place
//! ```
//!
//! `tree` knows TOML, `decode` knows kinds and unknown keys, `raw` holds the keys and their documentation, `meaning`
//! knows what values mean. Defaults are in [`settings`] and nowhere else. Order: flag, then environment, then file, then
//! default.

mod decode;
pub mod error;
mod excerpt;
mod meaning;
mod overrides;
mod password;
mod raw;
mod reference;
pub mod settings;
mod tree;
mod units;

use self::{
    decode::Decode as _,
    error::{At, ConfigErrors, Report},
    raw::RawConfig,
    settings::Settings,
};
pub use self::{
    excerpt::Excerpt,
    overrides::Override,
    reference::reference,
    units::{show_duration, show_size},
};
use std::path::PathBuf;

/// Where a configuration comes from; kept, so that a reload reads the same again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The TOML file.
    pub file: PathBuf,
    /// What flags and environment put over it.
    pub overrides: Vec<Override>,
    /// What is unwise about flags and environment themselves; joins [`Settings::warnings`].
    pub warnings: Vec<String>,
}

impl Source {
    /// A file and nothing over it.
    #[must_use]
    pub fn file(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), overrides: Vec::new(), warnings: Vec::new() }
    }

    /// Reads the file and the password files it names, at start and again at each reload. Blocking; no TLS file is
    /// touched.
    pub fn load(&self) -> Result<Settings, ConfigErrors> {
        let mut report = Report::new(&self.file, String::new());
        let bytes = match std::fs::read(&self.file) {
            Ok(bytes) => bytes,
            Err(error) => {
                report
                    .file_error(format!("the configuration file cannot be read: {error}"))
                    .hint("name it with `--config FILE`; `ravelin check --reference` lists what it may hold");
                return Err(report.into_errors());
            }
        };
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let line = error.as_bytes().iter().take(valid).filter(|&&byte| byte == b'\n').count();
                let line = line.saturating_add(1);
                report.file_error(format!("the configuration file is not UTF-8, line {line} on"));
                return Err(report.into_errors());
            }
        };
        self.interpret(text)
    }

    fn interpret(&self, text: String) -> Result<Settings, ConfigErrors> {
        let mut report = Report::new(&self.file, text);
        let Some(mut tree) = tree::parse(&mut report) else { return Err(report.into_errors()) };
        // Flags come last and win.
        let (flags, variables): (Vec<_>, Vec<_>) = self.overrides.iter().partition(|each| each.is_flag());
        for each in variables.into_iter().chain(flags) {
            each.apply(&mut tree, &mut report);
        }
        let top = At { origin: tree.origin, key: String::new() };
        let raw = RawConfig::decode(tree.value, &top, &mut report).unwrap_or_default();
        let settings = meaning::settings(raw, &top, &self.file, &mut report);
        let mut warnings = self.warnings.clone();
        warnings.extend(report.finish()?);
        Ok(Settings { warnings, ..settings })
    }
}

#[cfg(test)]
mod tests;
