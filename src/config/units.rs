//! Durations and sizes as people write them.

use std::time::Duration;

/// Units of time, in milliseconds.
const TIMES: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
/// Units of size, in bytes.
const SIZES: [(&str, u64); 5] = [("", 1), ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Why a text is no duration or size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnitError {
    #[error("is not a whole number with a unit")]
    Number,
    #[error("has no unit")]
    NoUnit,
    #[error("has a unit that is not known here")]
    Unit,
    #[error("has a unit of which nobody knows whether it counts in 1000 or 1024")]
    Ambiguous,
    #[error("is too large")]
    TooLarge,
}

/// `250ms`, `5s`, `2m`, `1h`, `7d`; `0s` and the like are zero.
pub(super) fn duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = split(text)?;
    if unit.is_empty() {
        return Err(UnitError::NoUnit);
    }
    let &(_, factor) = TIMES.iter().find(|(name, _)| *name == unit).ok_or(UnitError::Unit)?;
    number.checked_mul(factor).map(Duration::from_millis).ok_or(UnitError::TooLarge)
}

/// `16384`, `512B`, `64KiB`, `512MiB`, `1GiB`.
pub(super) fn size(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text)?;
    if matches!(unit.to_ascii_lowercase().as_str(), "k" | "kb" | "m" | "mb" | "g" | "gb") {
        return Err(UnitError::Ambiguous);
    }
    let &(_, factor) = SIZES.iter().find(|(name, _)| *name == unit).ok_or(UnitError::Unit)?;
    number.checked_mul(factor).ok_or(UnitError::TooLarge)
}

fn split(text: &str) -> Result<(u64, &str), UnitError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or(UnitError::Number)?;
    if number.is_empty() {
        return Err(UnitError::Number);
    }
    let number = number.parse().map_err(|_| UnitError::TooLarge)?;
    Ok((number, unit.strip_prefix(' ').unwrap_or(unit)))
}

/// A duration as [`duration`] reads it, in the largest unit that leaves no rest.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    show(ms, &TIMES, "0s")
}

/// A size as [`size`] reads it, in the largest unit that leaves no rest.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    show(bytes, SIZES.get(1..).unwrap_or_default(), "0B")
}

fn show(value: u64, units: &[(&str, u64)], zero: &str) -> String {
    let unit = units.iter().rev().find(|(_, factor)| value >= *factor && value.is_multiple_of(*factor));
    unit.map_or_else(|| zero.to_owned(), |(name, factor)| format!("{}{name}", value / factor))
}

#[cfg(test)]
mod tests {
    use super::{UnitError, duration, show_duration, show_size, size};
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn durations_need_a_unit() {
        let rows = [
            ("250ms", Ok(250)),
            ("5s", Ok(5000)),
            ("5 s", Ok(5000)),
            ("2m", Ok(120_000)),
            ("1h", Ok(3_600_000)),
            ("7d", Ok(604_800_000)),
            ("0s", Ok(0)),
            ("5", Err(UnitError::NoUnit)),
            ("", Err(UnitError::Number)),
            ("s", Err(UnitError::Number)),
            ("-5s", Err(UnitError::Number)),
            ("+5s", Err(UnitError::Number)),
            ("1.5s", Err(UnitError::Unit)),
            ("5S", Err(UnitError::Unit)),
            ("5 parsecs", Err(UnitError::Unit)),
            ("5s ", Err(UnitError::Unit)),
            ("99999999999999999999s", Err(UnitError::TooLarge)),
            ("18446744073709551615d", Err(UnitError::TooLarge)),
        ];
        for (text, expected) in rows {
            assert_eq!(duration(text), expected.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn sizes_count_in_1024_and_say_so() {
        let rows = [
            ("16384", Ok(16384)),
            ("512B", Ok(512)),
            ("64KiB", Ok(65536)),
            ("64 KiB", Ok(65536)),
            ("512MiB", Ok(536_870_912)),
            ("1GiB", Ok(1_073_741_824)),
            ("0", Ok(0)),
            ("64KB", Err(UnitError::Ambiguous)),
            ("64k", Err(UnitError::Ambiguous)),
            ("1g", Err(UnitError::Ambiguous)),
            ("64kib", Err(UnitError::Unit)),
            ("64 bytes", Err(UnitError::Unit)),
            ("", Err(UnitError::Number)),
            ("KiB", Err(UnitError::Number)),
            ("18446744073709551616", Err(UnitError::TooLarge)),
            ("18446744073709551615GiB", Err(UnitError::TooLarge)),
        ];
        for (text, expected) in rows {
            assert_eq!(size(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(ms in 0_u64..=u64::MAX / 2, bytes: u64) {
            prop_assert_eq!(duration(&show_duration(Duration::from_millis(ms))), Ok(Duration::from_millis(ms)));
            prop_assert_eq!(size(&show_size(bytes)), Ok(bytes));
        }
    }
}
