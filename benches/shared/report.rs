//! What both benchmarks show: aligned tables, progress while they run, and how figures are summed up.

use std::io::{IsTerminal, Write, stderr, stdout};

/// Median, quartiles, least and greatest of a round of figures.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "each benchmark shows another part")]
pub struct Summary {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    /// A quarter of the figures is below, linearly between neighbours.
    pub lower: f64,
    /// A quarter of the figures is above.
    pub upper: f64,
}

impl Summary {
    /// Of figures in any order; zeros if there are none.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let quarter = |quarters: usize| quantile(&sorted, quarters, 4);
        Self { median: quarter(2), min: quarter(0), max: quarter(4), lower: quarter(1), upper: quarter(3) }
    }
}

/// The value below which `part` of `whole` of sorted figures lie, linearly between neighbours; 0 if there are none.
fn quantile(sorted: &[f64], part: usize, whole: usize) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let (at, rest) = (last * part / whole, last * part % whole);
    let next = sorted[(at + 1).min(last)];
    sorted[at] + (next - sorted[at]) * rest as f64 / whole as f64
}

/// A table whose first columns are text and whose others are figures.
pub struct Table {
    rows: Vec<Vec<String>>,
    texts: usize,
    remark: bool,
}

impl Table {
    pub fn new(heads: &[&str]) -> Self {
        Self { rows: vec![heads.iter().map(|head| (*head).to_owned()).collect()], texts: 1, remark: false }
    }

    /// The same, with text in the last column as well.
    pub fn with_remark(heads: &[&str]) -> Self {
        Self { remark: true, ..Self::new(heads) }
    }

    /// So many columns are text, not one.
    #[allow(dead_code, reason = "each benchmark shows another part")]
    pub fn texts(self, texts: usize) -> Self {
        Self { texts, ..self }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Prints it on standard output; the heading is bold on a terminal.
    pub fn print(&self) {
        for (at, line) in self.lines().iter().enumerate() {
            if at == 0 && colours(stdout().is_terminal()) {
                println!("\x1b[1m{line}\x1b[0m");
            } else {
                println!("{line}");
            }
        }
    }

    /// Its lines, columns aligned.
    pub fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let gap = " ".repeat(width - cell.chars().count());
                line.push_str(if column == 0 { "" } else { "  " });
                let text = column < self.texts || (self.remark && column + 1 == columns);
                line.push_str(&if text { format!("{cell}{gap}") } else { format!("{gap}{cell}") });
            }
            line.trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
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
