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
pub mod given;
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
    given::Given,
    raw::RawConfig,
    settings::Settings,
};
pub use self::{
    excerpt::Excerpt,
    overrides::Override,
    reference::reference,
    units::{show_duration, show_size},
};

/// A duration as the configuration writes it: `250ms`, `5s`, `2m`, `1h`, `7d`.
pub(crate) fn parse_duration(text: &str) -> Option<std::time::Duration> {
    units::duration(text).ok()
}

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
        self.interpret(self.text()?)
    }

    fn text(&self) -> Result<String, ConfigErrors> {
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
        match String::from_utf8(bytes) {
            Ok(text) => Ok(text),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let line = error.as_bytes().iter().take(valid).filter(|&&byte| byte == b'\n').count();
                let line = line.saturating_add(1);
                report.file_error(format!("the configuration file is not UTF-8, line {line} on"));
                Err(report.into_errors())
            }
        }
    }

    /// Where the admin socket is, and nothing else: no password is read, so that whoever may use the socket can find it.
    ///
    /// # Errors
    /// The file cannot be read, is no TOML, or its `[admin]` is wrong.
    pub fn admin_socket(&self) -> Result<Option<PathBuf>, ConfigErrors> {
        let mut report = Report::new(&self.file, self.text()?);
        let Some(raw) = self.raw(&mut report).map(|(raw, ..)| raw) else { return Err(report.into_errors()) };
        let path = meaning::admin_socket(raw, &self.file, &mut report);
        report.finish()?;
        Ok(path)
    }

    fn interpret(&self, text: String) -> Result<Settings, ConfigErrors> {
        let mut report = Report::new(&self.file, text);
        let Some((raw, top, given)) = self.raw(&mut report) else { return Err(report.into_errors()) };
        let settings = meaning::settings(raw, &top, &self.file, &mut report);
        let mut warnings = self.warnings.clone();
        warnings.extend(report.finish()?);
        Ok(Settings { warnings, given, ..settings })
    }

    /// The tables as typed, with everything put over them; and what was given, for people.
    fn raw(&self, report: &mut Report) -> Option<(RawConfig, At, Given)> {
        let mut tree = tree::parse(report)?;
        // Flags come last and win.
        let (flags, variables): (Vec<_>, Vec<_>) = self.overrides.iter().partition(|each| each.is_flag());
        for each in variables.into_iter().chain(flags) {
            each.apply(&mut tree, report);
        }
        let given = Given::of(&tree);
        let top = At { origin: tree.origin, key: String::new() };
        let raw = RawConfig::decode(tree.value, &top, report).unwrap_or_default();
        Some((raw, top, given))
    }
}

#[cfg(test)]
mod tests;
