//! Numbers without holes, ready to stand in a line: mostly its predecessor's text with one digit changed.

use super::json::number;

/// `{"v":1,"w":…,"seq":…`, and the number that ends it. Rendered when it is asked for: many a record is taken by no output.
#[derive(Debug)]
pub(super) struct Sequence {
    text: Vec<u8>,
    /// Where the digits begin.
    digits: usize,
    /// What they say.
    rendered: u64,
    number: u64,
}

impl Sequence {
    /// At 0, behind `head`.
    pub(super) fn new(head: &[u8]) -> Self {
        Self { text: [head, b"0"].concat(), digits: head.len(), rendered: 0, number: 0 }
    }

    /// The next number. The last there is stays: half a million years at a million a second.
    #[inline]
    pub(super) const fn next(&mut self) {
        self.number = self.number.saturating_add(1);
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// What stands before the number, and that with the number.
    #[inline]
    pub(super) fn texts(&mut self) -> (&[u8], &[u8]) {
        match self.number.saturating_sub(self.rendered) {
            0 => {}
            1 => self.turn_digits(),
            _ => {
                self.text.truncate(self.digits);
                number(&mut self.text, self.number);
            }
        }
        self.rendered = self.number;
        (self.text.get(..self.digits).unwrap_or_default(), &self.text)
    }

    /// Makes the digits those of the number that follows.
    #[inline]
    fn turn_digits(&mut self) {
        for digit in self.text.get_mut(self.digits..).unwrap_or_default().iter_mut().rev() {
            if *digit < b'9' {
                *digit = digit.saturating_add(1);
                return;
            }
            *digit = b'0';
        }
        self.text.insert(self.digits, b'1');
    }
}

#[cfg(test)]
mod tests {
    use super::Sequence;

    fn text(sequence: &mut Sequence) -> String {
        String::from_utf8_lossy(sequence.texts().1).into_owned()
    }

    #[test]
    fn the_text_is_the_number_through_every_carry() {
        let mut sequence = Sequence::new(b"n:");
        for expected in 1..=100_001_u64 {
            sequence.next();
            assert_eq!(text(&mut sequence), format!("n:{expected}"));
        }
        assert_eq!((sequence.number(), sequence.texts().0), (100_001, &b"n:"[..]));
    }

    #[test]
    fn the_text_is_the_number_whoever_looked_at_those_before() {
        for step in 1..=120_usize {
            let mut sequence = Sequence::new(b"n:");
            for expected in 1..=1_200_u64 {
                sequence.next();
                if expected.is_multiple_of(step as u64) {
                    assert_eq!(text(&mut sequence), format!("n:{expected}"), "every {step}");
                    assert_eq!(text(&mut sequence), format!("n:{expected}"), "again");
                }
            }
        }
    }

    #[test]
    fn the_last_number_stays() {
        let end = u64::MAX;
        let mut last = Sequence { number: end - 1, ..Sequence::new(b"n:") };
        for _ in 0..3 {
            last.next();
            assert_eq!((last.number(), text(&mut last)), (end, format!("n:{end}")));
        }
    }
}
