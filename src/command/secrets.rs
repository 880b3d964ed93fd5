//! Which words of a request are secrets and are never rendered.

/// placeholder
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// No word is.
    None,
    /// Every word after the name (and subcommand) is.
    All,
}
