//! RFC 3339 time, rendered without a formatter.

use jiff::{Timestamp, tz::Offset};

/// `,"ts":"2026-11-20T21:10:03.412345Z","event":"`: 45 bytes, so that a line takes it in one copy.
pub(super) const LENGTH: usize = 45;
/// Where the digits begin in it.
const START: usize = 7;
/// The last second jiff knows, 9999-12-30T22:00:00Z.
const SECOND_MAX: u64 = 253_402_207_200;

/// A timestamp that remembers what it rendered last: the civil second is computed once a second, and a turn's records
/// share their instant.
#[derive(Clone, Debug)]
pub(super) struct Stamp {
    wall_us: u64,
    second: u64,
    text: [u8; LENGTH],
}

impl Stamp {
    /// Standing at the Unix epoch.
    pub(super) const fn new() -> Self {
        Self { wall_us: 0, second: 0, text: *b",\"ts\":\"1970-01-01T00:00:00.000000Z\",\"event\":\"" }
    }

    /// The instant `wall_us` microseconds after the Unix epoch, in UTC, as the fields of a line. Beyond the end of the year 9999 the second
    /// stands still: the format has no more.
    pub(super) fn render(&mut self, wall_us: u64) -> &[u8; LENGTH] {
        if wall_us != self.wall_us {
            self.wall_us = wall_us;
            let second = (wall_us / 1_000_000).min(SECOND_MAX);
            if second != self.second {
                self.second = second;
                self.turn_second();
            }
            if let Some(digits) = self.text.get_mut(START + 20..START + 26) {
                decimal(digits, wall_us % 1_000_000);
            }
        }
        &self.text
    }

    /// The instant alone, as [`Self::render`] has it: 27 bytes.
    pub(super) fn text(&mut self, wall_us: u64) -> &[u8] {
        self.render(wall_us).get(START..START + 27).unwrap_or_default()
    }

    fn turn_second(&mut self) {
        let second = i64::try_from(self.second).unwrap_or(i64::MAX);
        let civil = Offset::UTC.to_datetime(Timestamp::from_second(second).unwrap_or(Timestamp::MAX));
        let parts = [
            (START..START + 4, i32::from(civil.year())),
            (START + 5..START + 7, i32::from(civil.month())),
            (START + 8..START + 10, i32::from(civil.day())),
            (START + 11..START + 13, i32::from(civil.hour())),
            (START + 14..START + 16, i32::from(civil.minute())),
            (START + 17..START + 19, i32::from(civil.second())),
        ];
        for (place, value) in parts {
            if let Some(digits) = self.text.get_mut(place) {
                decimal(digits, u64::try_from(value).unwrap_or(0));
            }
        }
    }
}

/// Writes `value` in decimal over all of `digits`, with leading zeros.
fn decimal(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' | u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_rendered_before_a_step_of_the_clock_leaves_nothing_in_what_is_rendered_after_it() {
        let mut stamp = Stamp::new();
        let mut wall_us = 0_u64;
        for number in 0..20_000_u64 {
            wall_us = match number % 4 {
                // Within the second, back and forth over whole ones, anywhere.
                0 => wall_us ^ (number % 1000),
                1 => wall_us.wrapping_sub(3_000_000),
                2 => wall_us.wrapping_add(7_654_321),
                _ => wall_us.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (number % 64),
            };
            assert_eq!(stamp.render(wall_us), Stamp::new().render(wall_us), "at {wall_us}");
        }
    }

    #[test]
    fn one_stamp_renders_instants_across_seconds_days_and_leap_days() {
        let mut stamp = Stamp::new();
        for (wall_us, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (1, "1970-01-01T00:00:00.000001Z"),
            (999_999, "1970-01-01T00:00:00.999999Z"),
            (1_000_000, "1970-01-01T00:00:01.000000Z"),
            (1_795_208_399_999_999, "2026-11-20T20:59:59.999999Z"),
            (1_795_208_400_000_000, "2026-11-20T21:00:00.000000Z"),
            (1_709_164_799_500_000, "2024-02-28T23:59:59.500000Z"),
            (1_709_164_800_500_000, "2024-02-29T00:00:00.500000Z"),
            (1_735_689_599_000_000, "2024-12-31T23:59:59.000000Z"),
            (1_735_689_600_000_000, "2025-01-01T00:00:00.000000Z"),
            // The wall clock may be set back.
            (1_709_164_799_500_000, "2024-02-28T23:59:59.500000Z"),
            (u64::MAX, "9999-12-30T22:00:00.551615Z"),
        ] {
            let fields = format!(",\"ts\":\"{expected}\",\"event\":\"");
            assert_eq!(std::str::from_utf8(stamp.render(wall_us)).unwrap(), fields);
        }
    }
}
