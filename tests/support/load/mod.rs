//! Seeded load: clients that say everything a client can say, in any order, and leave in every way.
//!
//! * [`words`]: the commands, as templates;
//! * [`speaker`]: one client's pipelines, and what must come back of them;
//! * [`crowd`]: many such clients at once, and who disturbs them.

pub mod crowd;
pub mod speaker;
pub mod words;

/// Numbers that look random, the same from the same seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Others, which follow from these and `number`.
    pub fn fork(&self, number: u64) -> Self {
        let mut forked = Self(self.0 ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
        forked.next();
        forked
    }

    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..sides`.
    pub const fn roll(&mut self, sides: u64) -> u64 {
        self.next() % sides
    }

    /// Whether one in `sides` came.
    pub const fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.roll(from.len() as u64)).unwrap()]
    }
}
