//! Sums in bounded memory: the most frequent of any number of names, percentiles of any number of times, counts over
//! any length of time.

use std::collections::{BTreeMap, HashMap};

/// Longest name that is kept whole; of longer ones the front stands for all that begin so.
const NAME_MAX: usize = 1024;

/// The most frequent names of a stream, each with what else is added up of it (Misra and Gries, 1982; here a full table
/// loses its smaller half at once, which costs each name a constant on average).
///
/// A table of `capacity` names forgets names only once there were more. From then on a count may be too low by at most
/// [`Self::error`], which is at most `2 / capacity` of all that was counted; so whatever makes up more than that is there.
#[derive(Debug)]
pub(super) struct Frequent<T> {
    names: HashMap<Box<str>, (u64, T)>,
    capacity: usize,
    error: u64,
    total: u64,
}

impl<T: Default> Frequent<T> {
    /// A table of at most so many names.
    pub(super) fn new(capacity: usize) -> Self {
        Self { names: HashMap::new(), capacity: capacity.max(2), error: 0, total: 0 }
    }

    /// One more of a name, and what else is to be added up of it.
    pub(super) fn add(&mut self, name: &str, more: impl FnOnce(&mut T)) {
        self.total = self.total.saturating_add(1);
        let mut end = name.len().min(NAME_MAX);
        while !name.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        let name = name.get(..end).unwrap_or_default();
        if let Some((count, rest)) = self.names.get_mut(name) {
            *count = count.saturating_add(1);
            more(rest);
            return;
        }
        if self.names.len() >= self.capacity {
            self.halve();
        }
        let mut rest = T::default();
        more(&mut rest);
        self.names.insert(name.into(), (1, rest));
    }

    fn halve(&mut self) {
        let mut counts: Vec<u64> = self.names.values().map(|(count, _)| *count).collect();
        let middle = counts.len() / 2;
        let (_, median, _) = counts.select_nth_unstable(middle);
        let median = *median;
        self.error = self.error.saturating_add(median);
        self.names.retain(|_, (count, _)| {
            *count = count.saturating_sub(median);
            *count > 0
        });
    }

    /// By how much a count may be too low; 0 while no name was ever forgotten.
    pub(super) const fn error(&self) -> u64 {
        self.error
    }

    /// All that was counted.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// The `most` most frequent ones, by count and then by name.
    pub(super) fn top(&self, most: usize) -> Vec<(&str, u64, &T)> {
        let mut all: Vec<_> = self.names.iter().map(|(name, (count, rest))| (&**name, *count, rest)).collect();
        all.sort_unstable_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(other.0)));
        all.truncate(most);
        all
    }
}

/// Parts of each power of two: a value is known to 1/16 of itself, and less below 16.
const PARTS: u32 = 16;
/// Values from here on (2 to the 40th, 12 days in microseconds) count as this.
const TOP_BIT: u32 = 40;

/// How often values of each size came. At most 2.5 KiB.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    /// As long as the largest value needs.
    counts: Vec<u32>,
    total: u64,
    max: u64,
}

impl Histogram {
    pub(super) fn add(&mut self, value: u64) {
        let at = place(value);
        if self.counts.len() <= at {
            self.counts.resize(at.saturating_add(1), 0);
        }
        if let Some(count) = self.counts.get_mut(at) {
            *count = count.saturating_add(1);
        }
        self.total = self.total.saturating_add(1);
        self.max = self.max.max(value);
    }

    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// The largest value, exactly.
    pub(super) const fn max(&self) -> u64 {
        self.max
    }

    /// A value that so many of a thousand do not exceed, at most 1/16 too large.
    pub(super) fn per_mille(&self, of: u64) -> u64 {
        let wanted = self.total.saturating_mul(of).div_ceil(1000).max(1);
        let mut seen = 0_u64;
        for (at, count) in self.counts.iter().enumerate() {
            seen = seen.saturating_add(u64::from(*count));
            if seen >= wanted {
                return largest(at).min(self.max);
            }
        }
        self.max
    }
}

/// Where a value is counted.
fn place(value: u64) -> usize {
    let value = value.min((1 << TOP_BIT) - 1);
    if value < u64::from(PARTS) {
        return usize::try_from(value).unwrap_or(0);
    }
    let power = value.ilog2();
    let part = (value >> (power - PARTS.ilog2())) & u64::from(PARTS - 1);
    let base = (power - PARTS.ilog2() + 1) * PARTS;
    usize::try_from(u64::from(base) + part).unwrap_or(0)
}

/// The largest value that is counted there.
fn largest(place: usize) -> u64 {
    let place = u32::try_from(place).unwrap_or(u32::MAX);
    if place < PARTS {
        return u64::from(place);
    }
    let (power, part) = (place / PARTS + PARTS.ilog2() - 1, u64::from(place % PARTS));
    let step = 1_u64 << (power - PARTS.ilog2());
    (1_u64 << power).saturating_add(part.saturating_add(1).saturating_mul(step)).saturating_sub(1)
}

/// Widths of a column in seconds, each a multiple of the one before.
const WIDTHS: [i64; 12] = [1, 5, 15, 60, 300, 900, 3600, 21_600, 86_400, 604_800, 2_419_200, 31_449_600];
/// Most columns; when there are more, they become wider.
const COLUMNS_MAX: i64 = 240;

/// What was counted over time, in columns of one width that fits all of it.
#[derive(Debug)]
pub(super) struct Timeline<const N: usize> {
    columns: BTreeMap<i64, [u64; N]>,
    /// Index into [`WIDTHS`]; beyond it the columns are ten times as wide each time.
    level: usize,
}

impl<const N: usize> Default for Timeline<N> {
    fn default() -> Self {
        Self { columns: BTreeMap::new(), level: 0 }
    }
}

impl<const N: usize> Timeline<N> {
    /// Seconds of a column.
    pub(super) fn width(&self) -> i64 {
        let beyond = self.level.saturating_sub(WIDTHS.len() - 1);
        let power = u32::try_from(beyond).unwrap_or(u32::MAX);
        WIDTHS.get(self.level).copied().unwrap_or(31_449_600).saturating_mul(10_i64.saturating_pow(power))
    }

    /// The counters of the column that this second, since the epoch, is in.
    pub(super) fn at(&mut self, second: i64) -> &mut [u64; N] {
        let place = |width: i64| second.div_euclid(width);
        loop {
            let new = place(self.width());
            let first = self.columns.first_key_value().map_or(new, |(first, _)| (*first).min(new));
            let last = self.columns.last_key_value().map_or(new, |(last, _)| (*last).max(new));
            if last.saturating_sub(first) < COLUMNS_MAX {
                return self.columns.entry(new).or_insert([0; N]);
            }
            self.widen();
        }
    }

    fn widen(&mut self) {
        let before = self.width();
        self.level = self.level.saturating_add(1);
        let ratio = (self.width() / before).max(2);
        for (place, counts) in std::mem::take(&mut self.columns) {
            let into = self.columns.entry(place.div_euclid(ratio)).or_insert([0; N]);
            for (sum, more) in into.iter_mut().zip(counts) {
                *sum = sum.saturating_add(more);
            }
        }
    }

    /// The columns from the first to the last, with the second each begins at; those between without anything too.
    pub(super) fn columns(&self) -> Vec<(i64, [u64; N])> {
        let (Some((first, _)), Some((last, _))) = (self.columns.first_key_value(), self.columns.last_key_value())
        else {
            return Vec::new();
        };
        let at = |place: i64| self.columns.get(&place).copied().unwrap_or([0; N]);
        (*first..=*last).map(|place| (place.saturating_mul(self.width()), at(place))).collect()
    }
}

/// The largest of a stream, with what is known of each.
#[derive(Debug)]
pub(super) struct Largest<T> {
    most: usize,
    /// From the largest down.
    found: Vec<(u64, T)>,
}

impl<T> Largest<T> {
    pub(super) const fn new(most: usize) -> Self {
        Self { most, found: Vec::new() }
    }

    /// Takes the value if it is one of the largest; only then is it asked what is known of it.
    pub(super) fn offer(&mut self, value: u64, known: impl FnOnce() -> T) {
        let full = self.found.len() >= self.most;
        if full && self.found.last().is_none_or(|(least, _)| value <= *least) {
            return;
        }
        let at = self.found.partition_point(|(other, _)| *other >= value);
        self.found.insert(at, (value, known()));
        self.found.truncate(self.most);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(u64, T)> {
        self.found.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_counted_in_order_and_to_a_sixteenth() {
        let mut before = 0;
        for power in 2..TOP_BIT {
            for value in [1_u64 << power, (1 << power) + 1, (1 << power) * 3 / 2, (1 << power) * 2 - 1] {
                let at = place(value);
                assert!(at >= before, "{value}");
                before = at.max(before);
                let most = largest(at);
                assert!(most >= value && most - value <= value / 16, "{value} is counted up to {most}");
            }
        }
        assert_eq!(place(u64::MAX), before);
    }

    proptest! {
        #[test]
        fn percentiles_are_those_of_the_sorted_values(mut values in prop::collection::vec(0_u64..10_000_000, 1..300), of in 1_u64..=1000) {
            let mut histogram = Histogram::default();
            values.iter().for_each(|value| histogram.add(*value));
            values.sort_unstable();
            let exact = values[(values.len() * usize::try_from(of).unwrap()).div_ceil(1000).max(1) - 1];
            let found = histogram.per_mille(of);
            prop_assert!(found >= exact && found - exact <= exact / 16 + 1, "{} for {}", found, exact);
            prop_assert_eq!(histogram.max(), *values.last().unwrap());
        }

        #[test]
        fn a_count_is_never_too_high_and_too_low_by_no_more_than_is_said(names in prop::collection::vec(0_u32..60, 0..2000)) {
            let mut table: Frequent<u64> = Frequent::new(16);
            let mut exact = HashMap::new();
            for name in &names {
                table.add(&name.to_string(), |more| *more += 1);
                *exact.entry(name.to_string()).or_insert(0_u64) += 1;
            }
            prop_assert!(table.len() <= 16);
            prop_assert!(table.error() <= 2 * names.len() as u64 / 16, "{}", table.error());
            for (name, count) in exact {
                let found = table.top(99).into_iter().find(|(known, ..)| *known == name).map_or(0, |(_, count, _)| count);
                prop_assert!(found <= count && count - found <= table.error(), "{} of {}", found, count);
            }
        }

        #[test]
        fn nothing_is_lost_when_columns_become_wider(seconds in prop::collection::vec(-1_000_000_i64..10_000_000_000, 1..200)) {
            let mut line = Timeline::<1>::default();
            for second in &seconds {
                line.at(*second)[0] += 1;
            }
            let columns = line.columns();
            prop_assert!(columns.len() <= 240);
            prop_assert_eq!(columns.iter().map(|(_, [count])| count).sum::<u64>(), seconds.len() as u64);
            for second in &seconds {
                let [count] = *line.at(*second);
                prop_assert!(count > 0);
            }
        }
    }

    #[test]
    fn a_timeline_of_any_length_has_columns_of_a_width_people_know() {
        for (last, width) in
            [(10, 1), (1000, 5), (3599, 15), (10_000, 60), (86_399, 900), (860_000, 3600), (31_536_000, 604_800)]
        {
            let mut line = Timeline::<1>::default();
            line.at(0)[0] += 1;
            line.at(last)[0] += 1;
            assert_eq!(line.width(), width, "{last}");
        }
        let mut line = Timeline::<1>::default();
        for second in [i64::MIN, 0, i64::MAX] {
            line.at(second)[0] += 1;
        }
        assert!(line.columns().len() <= 240);
    }

    #[test]
    fn names_of_any_number_and_length_take_bounded_memory() {
        let mut table: Frequent<()> = Frequent::new(64);
        for number in 0..10_000 {
            table.add(&format!("{number}{}", "x".repeat(5000)), |()| ());
        }
        assert!(table.len() <= 64);
        assert!(table.top(99).iter().all(|(name, ..)| name.len() <= NAME_MAX));
        assert_eq!(table.total(), 10_000);
    }

    #[test]
    fn the_largest_are_kept_from_the_largest_down() {
        let mut largest = Largest::new(3);
        for value in [5, 1, 9, 7, 9, 2] {
            largest.offer(value, || value * 10);
        }
        assert_eq!(largest.iter().copied().collect::<Vec<_>>(), [(9, 90), (9, 90), (7, 70)]);
        let mut none = Largest::new(0);
        none.offer(1, || ());
        assert_eq!(none.iter().count(), 0);
    }
}
