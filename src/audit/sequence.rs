//! Numbers without holes, ready to stand in a line: each is its predecessor's text with one digit changed.

/// `{"v":1,"w":…,"seq":…`, and the number that ends it.
#[derive(Debug)]
pub(super) struct Sequence {
    text: Vec<u8>,
    /// Where the digits begin.
    digits: usize,
    number: u64,
}

impl Sequence {
    /// At 0, behind `head`.
    pub(super) fn new(head: &[u8]) -> Self {
        Self { text: [head, b"0"].concat(), digits: head.len(), number: 0 }
    }

    /// The next number. The last there is stays: half a million years at a million a second.
    #[inline]
    pub(super) fn next(&mut self) {
        let Some(number) = self.number.checked_add(1) else { return };
        self.number = number;
        for digit in self.text.get_mut(self.digits..).unwrap_or_default().iter_mut().rev() {
            if *digit < b'9' {
                *digit = digit.saturating_add(1);
                return;
            }
            *digit = b'0';
        }
        self.text.insert(self.digits, b'1');
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// All of it.
    #[inline]
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// What stands before the number.
    #[inline]
    pub(super) fn head(&self) -> &[u8] {
        self.text.get(..self.digits).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Sequence;

    #[test]
    fn the_text_is_the_number_through_every_carry() {
        let mut sequence = Sequence::new(b"n:");
        for expected in 1..=100_001_u64 {
            sequence.next();
            assert_eq!(sequence.text(), format!("n:{expected}").as_bytes());
        }
        assert_eq!((sequence.number(), sequence.head()), (100_001, &b"n:"[..]));
        let mut last = Sequence { text: format!("n:{}", u64::MAX).into(), digits: 2, number: u64::MAX };
        last.next();
        assert_eq!((last.number(), last.text()), (u64::MAX, format!("n:{}", u64::MAX).as_bytes()));
    }
}
