//! Small plots out of characters.

use crate::cli::terminal::Screen;

const BLOCKS: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
const ASCII_BLOCKS: [&str; 9] = [" ", ".", ".", ":", ":", "+", "+", "#", "#"];
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// One character a value, as high as its part of the largest. What is more than nothing is seen.
pub(super) fn sparkline(values: &[u64], screen: Screen) -> String {
    let most = values.iter().copied().max().unwrap_or(0).max(1);
    let blocks = if screen.unicode { BLOCKS } else { ASCII_BLOCKS };
    let block = |value: &u64| {
        let height = u128::from(*value).saturating_mul(8).div_ceil(u128::from(most));
        usize::try_from(height).ok().and_then(|height| blocks.get(height)).copied().unwrap_or_default()
    };
    values.iter().map(block).collect()
}

/// A bar of at most `columns` characters, as long as `value`'s part of `most`.
pub(super) fn bar(value: u64, most: u64, columns: usize, screen: Screen) -> String {
    let parts = if screen.unicode { 8 } else { 1 };
    let all = (columns as u128).saturating_mul(parts);
    let length = u128::from(value).saturating_mul(all).checked_div(u128::from(most)).unwrap_or(0).min(all);
    let length = usize::try_from(length).unwrap_or(0);
    if screen.unicode {
        let part = EIGHTHS.get(length % 8).copied().unwrap_or_default();
        // What is more than nothing is seen.
        let part = if length == 0 && value > 0 { "▏" } else { part };
        format!("{}{part}", "█".repeat(length / 8))
    } else {
        "#".repeat(length.max(usize::from(value > 0)))
    }
}

/// So many columns out of more: each sums up as many as stand for it. Of fewer, the same.
pub(super) fn squeeze(values: &[u64], columns: usize) -> Vec<u64> {
    let each = values.len().div_ceil(columns.max(1)).max(1);
    values.chunks(each).map(|chunk| chunk.iter().fold(0, |sum: u64, value| sum.saturating_add(*value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UTF8: Screen = Screen { colour: false, unicode: true, width: None };
    const ASCII: Screen = Screen { colour: false, unicode: false, width: None };

    #[test]
    fn a_plot_shows_proportions_and_never_hides_what_is_there() {
        for (values, utf8, ascii) in [
            (&[0, 1, 4, 8][..], " ▁▄█", " .:#"),
            (&[0, 0], "  ", "  "),
            (&[], "", ""),
            (&[1, 1_000_000], "▁█", ".#"),
            (&[u64::MAX, u64::MAX / 2], "█▄", "#:"),
        ] {
            assert_eq!((sparkline(values, UTF8).as_str(), sparkline(values, ASCII).as_str()), (utf8, ascii));
        }
        for (value, most, utf8, ascii) in [
            (0, 10, "", ""),
            (10, 10, "████", "####"),
            (5, 10, "██", "##"),
            (1, 3, "█▎", "#"),
            (1, 1_000_000, "▏", "#"),
            (u64::MAX, 1, "████", "####"),
            (1, 0, "▏", "#"),
        ] {
            assert_eq!(
                (bar(value, most, 4, UTF8).as_str(), bar(value, most, 4, ASCII).as_str()),
                (utf8, ascii),
                "{value}/{most}"
            );
        }
        assert_eq!(squeeze(&[1, 2, 3, 4, 5], 2), [6, 9]);
        assert_eq!(squeeze(&[1, 2], 10), [1, 2]);
    }
}
