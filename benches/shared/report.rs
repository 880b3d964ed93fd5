//! What both benchmarks show: aligned tables, progress while they run, and how figures are summed up.

use std::io::{IsTerminal, Write, stderr, stdout};

/// Median, least and greatest of a round of figures.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Summary {
    /// Of figures in any order; zeros if there are none.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.as_slice() {
            [] => 0.0,
            all if all.len() % 2 == 1 => all[middle],
            all => f64::midpoint(all[middle - 1], all[middle]),
        };
        let end = |figure: Option<&f64>| figure.copied().unwrap_or(0.0);
        Self { median, min: end(sorted.first()), max: end(sorted.last()) }
    }
}

/// A table whose first column is text and whose others are figures.
pub struct Table {
    rows: Vec<Vec<String>>,
    remark: bool,
}

impl Table {
    pub fn new(heads: &[&str]) -> Self {
        Self { rows: vec![heads.iter().map(|head| (*head).to_owned()).collect()], remark: false }
    }

    /// The same, with text in the last column as well.
    pub fn with_remark(heads: &[&str]) -> Self {
        Self { remark: true, ..Self::new(heads) }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Prints it on standard output; the heading is bold on a terminal.
    pub fn print(&self) {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (at, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let gap = " ".repeat(width - cell.chars().count());
                line.push_str(if column == 0 { "" } else { "  " });
                let text = column == 0 || (self.remark && column + 1 == columns);
                line.push_str(&if text { format!("{cell}{gap}") } else { format!("{gap}{cell}") });
            }
            let line = line.trim_end();
            if at == 0 && colours(stdout().is_terminal()) {
                println!("\x1b[1m{line}\x1b[0m");
            } else {
                println!("{line}");
            }
        }
    }
}

/// Says on standard error what is being done: on a terminal one line that is overwritten.
pub struct Progress {
    terminal: bool,
}

impl Progress {
    pub fn new() -> Self {
        Self { terminal: stderr().is_terminal() }
    }

    pub fn say(&self, what: &str) {
        if self.terminal {
            eprint!("\r\x1b[2K{what}");
            let _ = stderr().flush();
        } else {
            eprintln!("{what}");
        }
    }

    /// Wipes the line, so that what is printed next begins at its start.
    pub fn done(&self) {
        if self.terminal {
            eprint!("\r\x1b[2K");
            let _ = stderr().flush();
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a benchmark has no configuration; NO_COLOR is the common convention")]
fn colours(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none()
}
