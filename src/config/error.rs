//! What is wrong with a configuration: all of it at once, each with its place, its cause and what to do.

use super::{decode::join, excerpt::Excerpt};
use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// At these bytes of the file.
    File(Range<usize>),
    /// By `--set KEY=…` or another flag: the flag, without its value.
    Flag(Arc<str>),
    /// By an environment variable: its name.
    Variable(Arc<str>),
}

impl Origin {
    /// For sorting: the file first, by position.
    pub(super) const fn offset(&self) -> usize {
        match self {
            Self::File(span) => span.start,
            Self::Flag(_) | Self::Variable(_) => usize::MAX,
        }
    }
}

/// A key and where it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At {
    pub(super) origin: Origin,
    /// `service.0.upstream.address`: what `--set` takes.
    pub(super) key: String,
}

/// One fault of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    place: Place,
    offset: usize,
    key: String,
    cause: String,
    hint: Option<String>,
}

/// Where a fault is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// At a line of the file.
    Line {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
        /// The line, with whatever looks like a secret blotted out.
        excerpt: Excerpt,
    },
    /// The file as a whole: it cannot be read.
    File(PathBuf),
    /// A flag.
    Flag(String),
    /// An environment variable.
    Variable(String),
}

impl fmt::Display for Place {
    /// `ravelin.toml:12:5`, without the line itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line, column, .. } => write!(f, "{}:{line}:{column}", file.display()),
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Flag(flag) => write!(f, "{flag} on the command line"),
            Self::Variable(name) => write!(f, "{name} in the environment"),
        }
    }
}

impl ConfigError {
    /// Says what to do about it.
    pub(super) fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }

    /// Where it is.
    #[must_use]
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// The key it is about (`service.0.upstream.address`); empty for faults of the file as a whole.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What is wrong.
    #[must_use]
    pub fn cause(&self) -> &str {
        &self.cause
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("error: ")?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.cause)?;
        write!(f, "\n  --> {}", self.place)?;
        if let Place::Line { line, excerpt, .. } = &self.place {
            excerpt.write(f, *line)?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  = {hint}")?;
        }
        Ok(())
    }
}

/// Every fault of a configuration, in the order of the file; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// The faults.
    #[must_use]
    pub fn errors(&self) -> &[ConfigError] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.0 {
            write!(f, "{error}\n\n")?;
        }
        match self.0.len() {
            1 => f.write_str("1 error in the configuration"),
            count => write!(f, "{count} errors in the configuration"),
        }
    }
}

impl std::error::Error for ConfigErrors {}

/// Gathers what is wrong (and what is merely unwise) while a configuration is read.
#[derive(Debug)]
pub(super) struct Report {
    file: PathBuf,
    text: String,
    errors: Vec<ConfigError>,
    warnings: Vec<String>,
}

impl Report {
    pub(super) fn new(file: &Path, text: String) -> Self {
        Self { file: file.to_path_buf(), text, errors: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Where a key was given.
    pub(super) fn place(&self, at: &At) -> Place {
        match &at.origin {
            Origin::File(span) => {
                let (line, column, excerpt) = Excerpt::cut(&self.text, span);
                Place::Line { file: self.file.clone(), line, column, excerpt }
            }
            Origin::Flag(flag) => Place::Flag(flag.to_string()),
            Origin::Variable(name) => Place::Variable(name.to_string()),
        }
    }

    /// Notes a fault; a hint may be hung onto what is returned.
    pub(super) fn error(&mut self, at: &At, cause: impl Into<String>) -> &mut ConfigError {
        let place = self.place(at);
        self.push(place, at.origin.offset(), at.key.clone(), cause.into())
    }

    /// Notes that the file itself cannot be used.
    pub(super) fn file_error(&mut self, cause: impl Into<String>) -> &mut ConfigError {
        self.push(Place::File(self.file.clone()), 0, String::new(), cause.into())
    }

    fn push(&mut self, place: Place, offset: usize, key: String, cause: String) -> &mut ConfigError {
        let error = ConfigError { place, offset, key, cause, hint: None };
        self.errors.push(error);
        let last = self.errors.len().saturating_sub(1);
        #[expect(clippy::indexing_slicing, reason = "the element was pushed two lines above")]
        &mut self.errors[last]
    }

    pub(super) fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    /// Notes what is legal and unwise at a place of the file, and what to do about it; one line, as warnings are.
    pub(super) fn warn_at(&mut self, at: &At, warning: impl fmt::Display, hint: impl fmt::Display) {
        let place = match &at.origin {
            Origin::File(span) => {
                let (line, column, _) = Excerpt::cut(&self.text, span);
                format!("{}:{line}:{column}", self.file.display())
            }
            Origin::Flag(flag) => format!("{flag} on the command line"),
            Origin::Variable(name) => format!("{name} in the environment"),
        };
        self.warnings.push(format!("{place}: {}: {warning}; {hint}", at.key));
    }

    /// The warnings, or the errors if there is one.
    pub(super) fn finish(mut self) -> Result<Vec<String>, ConfigErrors> {
        if self.errors.is_empty() { Ok(std::mem::take(&mut self.warnings)) } else { Err(self.into_errors()) }
    }

    /// The errors, where there is known to be one.
    pub(super) fn into_errors(mut self) -> ConfigErrors {
        self.errors.sort_by_key(|error| error.offset);
        ConfigErrors(self.errors)
    }

    /// Notes that `table` lacks `key`, unless `key` is there and was found wanting already.
    pub(super) fn missing(&mut self, table: &At, key: &str, hint: &str) {
        let at = At { origin: table.origin.clone(), key: join(&table.key, key) };
        if !self.fails_below(&at) {
            self.error(&at, "is missing").hint(hint);
        }
    }

    /// Whether a fault was noted at this key or below it.
    pub(super) fn fails_below(&self, at: &At) -> bool {
        let below = |key: &str| key.strip_prefix(&at.key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        self.errors.iter().any(|error| below(&error.key))
    }
}
